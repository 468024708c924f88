//! `migrate` from dcmqrscp, from Orthanc and from another server of ours, over DICOM and over DICOMweb: killed three times,
//! it ends complete. `PACS_MIGRATE_STUDIES` says with how
//! many studies.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, stream};
use pacs_core::dataset::charset::CharacterSet;
use pacs_core::dataset::encode;
use pacs_core::{AeTitle, DataSet, Uid};
use pacs_net::scu::{Outgoing, Pieces, Remote, Sending, Supply};

use common::old::{Old, TITLE, TITLES, title};
use common::{Server, count, directory, free_port, run, run_all, start, succeed, tell};

const SERIES: u32 = 2;
/// In each.
const INSTANCES: u32 = 2;

fn studies() -> u32 {
    match std::env::var("PACS_MIGRATE_STUDIES") {
        Ok(text) => text.parse().expect("PACS_MIGRATE_STUDIES is a number"),
        Err(_) => 60,
    }
}

const ROOT: &str = "1.2.826.0.1.3680043.10.1.78";

fn uid_of(study: u32, series: u32, number: u32) -> Uid {
    Uid::parse(&format!("{ROOT}.{study}.{series}.{number}")).expect("is a UID")
}

/// An instance of a study: every tenth has no date, and the others lie densely in a few days.
fn instance(study: u32, series: u32, number: u32) -> (Uid, Bytes) {
    let mut set = DataSet::new();
    let uid = uid_of(study, series, number);
    let class = [uids::CT_IMAGE_STORAGE, uids::MR_IMAGE_STORAGE][series as usize % 2];
    set.put_text(tags::SOP_CLASS_UID, VR::UI, class);
    set.put_uid(tags::SOP_INSTANCE_UID, &uid);
    let (date, time) = match study % 10 {
        0 => (String::new(), String::new()),
        // A day that is fuller than a slice.
        1..5 => (
            "20200229".to_owned(),
            format!("{:02}{:02}00", study / 60 % 24, study % 60),
        ),
        _ => (
            format!("2019{:02}{:02}", study % 12 + 1, study % 28 + 1),
            "101112".to_owned(),
        ),
    };
    set.put_text(tags::STUDY_DATE, VR::DA, date);
    set.put_text(tags::STUDY_TIME, VR::TM, time);
    set.put_text(tags::MODALITY, VR::CS, ["CT", "MR"][series as usize % 2]);
    set.put_text(tags::PATIENT_NAME, VR::PN, format!("Migrated^{study}"));
    set.put_text(tags::PATIENT_ID, VR::LO, format!("M{study}"));
    set.put_text(tags::STUDY_INSTANCE_UID, VR::UI, format!("{ROOT}.{study}"));
    set.put_text(
        tags::SERIES_INSTANCE_UID,
        VR::UI,
        format!("{ROOT}.{study}.{series}"),
    );
    set.put_text(tags::STUDY_ID, VR::SH, study.to_string());
    set.put_text(tags::SERIES_NUMBER, VR::IS, series.to_string());
    set.put_text(tags::INSTANCE_NUMBER, VR::IS, number.to_string());
    set.put_text(
        tags::IMAGE_COMMENTS,
        VR::LT,
        "tiny ".repeat(50 + study as usize % 20),
    );
    let bytes = encode::encode(&set, uids::EXPLICIT_VR_LITTLE_ENDIAN, &CharacterSet::utf8());
    (Uid::constant(class), bytes.expect("can be written").into())
}

struct Made;

impl Supply<(u32, u32, u32)> for Made {
    fn outgoing(&self, (study, series, number): &(u32, u32, u32)) -> Outgoing {
        let (sop_class, _) = instance(*study, *series, *number);
        Outgoing {
            sop_class,
            sop_instance: uid_of(*study, *series, *number),
            transfer_syntax: Uid::constant(uids::EXPLICIT_VR_LITTLE_ENDIAN),
        }
    }

    fn open<'a>(
        &'a self,
        (study, series, number): &'a (u32, u32, u32),
    ) -> BoxFuture<'a, pacs_core::Result<Pieces>> {
        let (_, bytes) = instance(*study, *series, *number);
        async move { Ok(stream::iter([Ok(bytes)]).boxed()) }.boxed()
    }
}

/// Stores studies at a server of this title.
fn send(port: u16, called: &str, studies: Range<u32>) {
    let title = |text| AeTitle::parse(text).expect("it is one");
    let remote = Remote::new("127.0.0.1", port, title(called), title("FILLER"));
    let explicit = Uid::constant(uids::EXPLICIT_VR_LITTLE_ENDIAN);
    let classes = [uids::CT_IMAGE_STORAGE, uids::MR_IMAGE_STORAGE].map(Uid::constant);
    let kinds: BTreeSet<_> = classes.into_iter().map(|class| (class, explicit)).collect();
    let all = studies.flat_map(|study| {
        (0..SERIES).flat_map(move |series| (0..INSTANCES).map(move |number| (study, series, number)))
    });
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let sending = Sending {
            associations: 1,
            ..Sending::to(remote)
        };
        let mut sent = sending.send(&kinds, Arc::new(Made), stream::iter(all));
        while let Some((_, sent)) = sent.next().await {
            let (status, _) = sent.expect("the source takes it");
            assert!(status.is_done(), "{status}");
        }
    });
}

/// A PACS that is left.
struct Source {
    port: u16,
    data: PathBuf,
    /// Where its DICOMweb service is, if it is to be taken over by that.
    web: Option<String>,
    is_dcmqrscp: bool,
    process: Process,
}

enum Process {
    Peer { _process: Old },
    Ours(Server),
}

impl Source {
    fn of(old: Old) -> Self {
        Self {
            port: old.port,
            data: old.data.clone(),
            web: old.web.clone(),
            is_dcmqrscp: false,
            process: Process::Peer { _process: old },
        }
    }

    /// DCMTK's, which knows PACS at `destination`.
    fn dcmqrscp(room: &Path, destination: u16) -> Option<Self> {
        let old = Old::dcmqrscp(room, free_port(), destination)?;
        Some(Self {
            is_dcmqrscp: true,
            ..Self::of(old)
        })
    }

    fn orthanc(room: &Path, destination: u16) -> Option<Self> {
        Old::orthanc(room, free_port(), destination).map(Self::of)
    }

    /// With its DICOMweb.
    fn orthanc_web(room: &Path) -> Option<Self> {
        Old::orthanc_web(room, free_port(), free_port()).map(Self::of)
    }

    /// Another one of ours.
    fn ours(room: &Path) -> Self {
        let data = room.join("source");
        let server = Server::start(&data, &["--ae-title", TITLE]);
        Self {
            port: server.port,
            web: Some(server.dicomweb()),
            data,
            is_dcmqrscp: false,
            process: Process::Ours(server),
        }
    }

    fn fill(&self, studies: u32) {
        for (title, studies) in self.parts(studies) {
            send(self.port, &title, studies);
        }
    }

    /// Its studies, by the titles that keep them.
    fn parts(&self, studies: u32) -> Vec<(String, Range<u32>)> {
        const MOST: u32 = 400;
        if !self.is_dcmqrscp || studies <= MOST {
            return vec![(TITLE.to_owned(), 0..studies)];
        }
        let each = studies.div_ceil(TITLES);
        let parts = (0..TITLES).map(|number| {
            let begin = number * each;
            (title(number), begin..(begin + each).min(studies))
        });
        parts.collect()
    }

    /// As a service manager does it.
    fn stop(self) {
        if let Process::Ours(server) = self.process {
            assert!(server.stop().success());
        }
    }

    fn named(&self) -> String {
        self.named_by(TITLE)
    }

    fn named_by(&self, title: &str) -> String {
        let peer = || format!("{title}@127.0.0.1:{}", self.port);
        self.web.clone().unwrap_or_else(peer)
    }
}

/// Lines of the journal so far.
fn journal(data: &Path) -> usize {
    let entries = fs::read_dir(data.join("migrations"));
    let paths = entries
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()));
    let texts = paths.filter_map(|path| fs::read_to_string(path).ok());
    texts.map(|text| text.lines().count()).sum()
}

fn migrate(source: &Source, room: &Path, further: &[&str]) {
    source.fill(studies());
    for (title, studies) in source.parts(studies()) {
        migrate_part(&source.named_by(&title), studies, room, further);
    }
}

/// Of studies of which all before are taken over.
fn migrate_part(named: &str, part: Range<u32>, room: &Path, further: &[&str]) {
    let (data, studies, all) = (room.join("data"), part.end - part.start, part.end);
    let before = journal(&data);
    let mut arguments = vec!["migrate", named, "--slice", "5"];
    arguments.extend(further);
    for part in 1..=3 {
        let mut child = start(&data, &arguments);
        let enough = before + (studies * part / 4) as usize;
        while journal(&data) < enough {
            let ended = child.try_wait().expect("can be asked for its end");
            assert!(ended.is_none(), "it ended before it could be killed: {ended:?}");
            std::thread::yield_now();
        }
        child.kill().expect("a running process can be killed");
        child.wait().expect("its end can be waited for");
    }
    let (code, said) = run(&data, &arguments);
    tell(&said);
    assert_eq!(code, 0, "{said}");
    let instances = u64::from(studies * SERIES * INSTANCES);
    assert_eq!(count(&said, "studies complete"), u64::from(studies), "{said}");
    assert_eq!(count(&said, "instances"), instances, "{said}");
    assert!(
        count(&said, "studies done by earlier calls") >= u64::from(studies * 3 / 4),
        "{said}"
    );
    let (code, said) = run(&data, &["verify"]);
    assert_eq!(code, 0, "{said}");
    let (_, said) = run(&data, &["stats"]);
    assert_eq!(count(&said, "studies"), u64::from(all), "{said}");
    let instances = u64::from(all * SERIES * INSTANCES);
    assert_eq!(count(&said, "instances"), instances, "{said}");
    // Once more, to the last byte: nothing is fetched.
    arguments.push("--verify");
    let (code, said) = run(&data, &arguments);
    assert_eq!(code, 0, "{said}");
    assert_eq!(count(&said, "studies complete"), u64::from(studies), "{said}");
    assert_eq!(count(&said, "instances fetched by this call"), 0, "{said}");
}

#[test]
fn a_migration_from_dcmqrscp_by_c_get_is_killed_three_times_and_ends_complete() {
    let room = directory();
    if let Some(source) = Source::dcmqrscp(room.path(), free_port()) {
        migrate(&source, room.path(), &[]);
    }
}

#[test]
fn a_migration_from_orthanc_by_c_get_is_killed_three_times_and_ends_complete() {
    let room = directory();
    if let Some(source) = Source::orthanc(room.path(), free_port()) {
        migrate(&source, room.path(), &[]);
    }
}

#[test]
fn a_migration_from_orthanc_by_c_move_is_killed_three_times_and_ends_complete() {
    let (room, port) = (directory(), free_port());
    if let Some(source) = Source::orthanc(room.path(), port) {
        migrate(
            &source,
            room.path(),
            &["--move", "--dicom-port", &port.to_string()],
        );
    }
}

#[test]
fn a_migration_from_orthanc_by_dicomweb_is_killed_three_times_and_ends_complete() {
    let room = directory();
    if let Some(source) = Source::orthanc_web(room.path()) {
        migrate(&source, room.path(), &[]);
    }
}

#[test]
fn a_migration_from_another_one_of_ours_by_dicomweb_is_killed_three_times_and_ends_complete() {
    let room = directory();
    migrate(&Source::ours(room.path()), room.path(), &[]);
}

/// Spoils the file that an instance of a stopped server of ours lies in.
fn spoil(data: &Path, lost: &Uid) {
    let mut spoiled = 0;
    for entry in walkdir::WalkDir::new(data.join("archive")) {
        let path = entry.expect("can be listed").into_path();
        if !path.is_file() {
            continue;
        }
        let mut bytes = fs::read(&path).expect("can be read");
        let uid = bytes.windows(lost.len()).position(|it| it == lost.as_bytes());
        if let Some(uid) = uid {
            let magic = bytes[..uid].windows(4).rposition(|it| it == b"DICM");
            let magic = magic.expect("a Part 10 stream begins before its UID");
            bytes[magic..magic + 4].copy_from_slice(b"MICD");
            fs::write(path, bytes).expect("can be written");
            spoiled += 1;
        }
    }
    assert_eq!(spoiled, 1, "the instance lies there");
}

#[test]
fn what_a_dicomweb_service_lists_and_can_not_give_is_told_and_the_rest_is_taken_over() {
    let room = directory();
    let source = Source::ours(room.path());
    source.fill(6);
    source.stop();
    spoil(&room.path().join("source"), &uid_of(3, 1, 0));
    let source = Source::ours(room.path());
    let data = room.path().join("data");
    let (code, said) = run(&data, &["migrate", &source.named()]);
    tell(&said);
    assert_eq!(code, 3, "{said}");
    assert_eq!(count(&said, "studies complete"), 5, "{said}");
    assert_eq!(
        (count(&said, "studies failed"), count(&said, "instances missing")),
        (1, 1),
        "{said}"
    );
    let (_, said) = run(&data, &["stats"]);
    assert_eq!(
        count(&said, "instances"),
        u64::from(6 * SERIES * INSTANCES - 1),
        "{said}"
    );
}

#[test]
fn a_selection_from_a_dicomweb_service_takes_over_no_more() {
    let room = directory();
    let source = Source::ours(room.path());
    source.fill(20);
    let taken = |name: &str, arguments: &[&str]| {
        let (code, said) = run(
            &room.path().join(name),
            &[&["migrate", &source.named()], arguments].concat(),
        );
        assert_eq!(code, 0, "{said}");
        count(&said, "studies complete")
    };
    assert_eq!(taken("day", &["--from", "2020-02-29", "--to", "20200229"]), 8);
    assert_eq!(taken("none", &["--modality", "US"]), 0);
    assert_eq!(taken("some", &["--modality", "MR"]), 20);
    assert_eq!(taken("all", &["--slice", "2"]), 20);
}

#[test]
fn a_source_that_lists_few_at_once_gives_all_studies_with_a_date_and_it_is_told_that_others_may_be() {
    let room = directory();
    let Some(old) = Old::orthanc_that_lists(4, room.path(), free_port()) else {
        return;
    };
    let source = Source::of(old);
    source.fill(20);
    let (code, said) = run(
        &room.path().join("data"),
        &["migrate", &source.named(), "--slice", "4"],
    );
    assert_eq!(code, 3, "{said}");
    // Two have no date.
    assert!(count(&said, "studies complete") >= 18, "{said}");
    assert!(said.contains("not listed: without a date"), "{said}");
    assert!(!said.contains("stopped before its end"), "{said}");
}

#[test]
fn what_is_taken_over_is_not_new_to_a_server_that_has_rules() {
    let room = directory();
    let source = Source::ours(room.path());
    source.fill(3);
    let (routes, out) = (room.path().join("routes.toml"), room.path().join("out"));
    let rules = format!(
        "[[destination]]\nname = \"OUT\"\nfolder = {out:?}\n\n\
         [[route]]\nname = \"all\"\nsend-to = [\"OUT\"]\n\n\
         [[route]]\nname = \"stable\"\non = \"study-stable\"\nsend-to = [\"OUT\"]\n"
    );
    fs::write(&routes, rules).expect("can be written");
    let data = room.path().join("data");
    let routes = routes.to_str().expect("the path is text");
    let serving = || Server::start(&data, &["--routes", routes]);
    assert!(serving().stop().success());
    let (code, said) = run(&data, &["--routes", routes, "migrate", &source.named()]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(count(&said, "studies complete"), 3);
    let server = serving();
    // What comes by itself is asked about behind all that was there.
    send(server.port, "PACS", 5..6);
    let recorded = |study| {
        let mut curl = Command::new("curl");
        curl.arg("-sS")
            .arg(format!("{}outbox/OUT/of/{}", server.http, uid_of(study, 0, 0)));
        succeed(curl)
    };
    while !recorded(5).contains("delivered") {}
    for study in 0..3 {
        assert_eq!(recorded(study), "[]");
    }
    assert_eq!(fs::read_dir(out).map(Iterator::count).unwrap_or_default(), 1);
}

#[test]
fn a_url_that_can_not_be_taken_over_from_says_why() {
    let room = directory();
    let nobody = format!("http://127.0.0.1:{}/dicom-web", free_port());
    for (arguments, why) in [
        (&["migrate", "ftp://a.example/dicom-web"][..], "https://"),
        (
            &["migrate", "--move", "http://a.example/dicom-web"],
            "--move is for peers",
        ),
        (&["migrate", "http://me:secret@a.example/"], "no password is sent"),
        (&["migrate", &nobody], "127.0.0.1"),
    ] {
        let (code, _, said) = run_all(&room.path().join("data"), arguments);
        assert_eq!(code, 1, "{said}");
        assert!(said.contains(why) && !said.contains("secret"), "{said}");
    }
}

#[test]
fn what_the_source_lists_and_can_not_give_is_told_and_the_rest_is_taken_over() {
    let room = directory();
    let Some(source) = Source::dcmqrscp(room.path(), free_port()) else {
        return;
    };
    source.fill(6);
    let files = fs::read_dir(&source.data).expect("can be listed");
    let files = files.map(|entry| entry.expect("can be read").path());
    let lost = files
        .into_iter()
        .find(|path| path.extension().is_none_or(|it| it != "dat"));
    fs::remove_file(lost.expect("an instance lies there")).expect("can be removed");
    let data = room.path().join("data");
    let (code, said) = run(&data, &["migrate", &source.named()]);
    tell(&said);
    assert_eq!(code, 3, "{said}");
    assert_eq!(count(&said, "studies complete"), 5, "{said}");
    assert_eq!(
        (count(&said, "studies failed"), count(&said, "instances missing")),
        (1, 1),
        "{said}"
    );
    let (_, said) = run(&data, &["stats"]);
    assert_eq!(
        count(&said, "instances"),
        u64::from(6 * SERIES * INSTANCES - 1),
        "{said}"
    );
}

#[test]
fn a_selection_by_date_or_modality_takes_over_no_more() {
    let room = directory();
    let Some(source) = Source::dcmqrscp(room.path(), free_port()) else {
        return;
    };
    source.fill(20);
    let taken = |name: &str, arguments: &[&str]| {
        let (code, said) = run(
            &room.path().join(name),
            &[&["migrate", &source.named()], arguments].concat(),
        );
        assert_eq!(code, 0, "{said}");
        count(&said, "studies complete")
    };
    assert_eq!(taken("day", &["--from", "2020-02-29", "--to", "20200229"]), 8);
    assert_eq!(taken("before", &["--to", "20191231"]), 10);
    assert_eq!(taken("none", &["--modality", "US"]), 0);
    assert_eq!(taken("some", &["--modality", "MR"]), 20);
    assert_eq!(taken("all", &["--slice", "2"]), 20);
    let (code, said) = run(&room.path().join("wrong"), &["migrate", "NOBODY"]);
    assert_eq!(code, 1, "{said}");
}
