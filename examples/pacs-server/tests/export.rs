//! `export` writes what matches as files, and de-identified where that is wanted.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};
use pacs_core::dataset::charset::CharacterSet;
use pacs_core::dataset::part10::{Meta, read_meta, write_meta};
use pacs_core::dataset::scan::Scanner;
use pacs_core::dataset::{Element, Value as ElementValue, encode};
use pacs_core::{DataSet, Uid};
use serde_json::Value;

use common::{Server, directory, run, run_all, succeed};

/// For what takes moments.
const LONG: Duration = Duration::from_secs(120);

const NAME: &str = "Yamada^Tarou";

/// An instance of a patient with eight pixels; `class` and `burned_in` say whether it may name somebody in them.
fn file(patient: &str, study: u32, class: &str, burned_in: &str) -> Vec<u8> {
    let mut set = DataSet::new();
    let instance = format!("1.2.826.0.1.3680043.10.2.{study}.1.1");
    for (tag, vr, text) in [
        (tags::SOP_CLASS_UID, VR::UI, class),
        (tags::SOP_INSTANCE_UID, VR::UI, &instance),
        (tags::STUDY_DATE, VR::DA, "20240301"),
        (tags::MODALITY, VR::CS, "US"),
        (tags::STUDY_DESCRIPTION, VR::LO, "Follow-up of Yamada"),
        (tags::PATIENT_NAME, VR::PN, NAME),
        (tags::PATIENT_ID, VR::LO, patient),
        (
            tags::STUDY_INSTANCE_UID,
            VR::UI,
            &format!("1.2.826.0.1.3680043.10.2.{study}"),
        ),
        (
            tags::SERIES_INSTANCE_UID,
            VR::UI,
            &format!("1.2.826.0.1.3680043.10.2.{study}.1"),
        ),
        (tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2"),
        (tags::BURNED_IN_ANNOTATION, VR::CS, burned_in),
    ] {
        set.put_text(tag, vr, text);
    }
    for (tag, number) in [
        (tags::SAMPLES_PER_PIXEL, 1),
        (tags::ROWS, 2),
        (tags::COLUMNS, 4),
        (tags::BITS_ALLOCATED, 8),
        (tags::BITS_STORED, 8),
        (tags::HIGH_BIT, 7),
        (tags::PIXEL_REPRESENTATION, 0),
    ] {
        set.put_u16(tag, number);
    }
    set.put(Element {
        tag: tags::PIXEL_DATA,
        vr: VR::OB,
        value: ElementValue::Bytes(vec![7; 8].into()),
    });
    let syntax = Uid::constant(uids::EXPLICIT_VR_LITTLE_ENDIAN);
    let uid = |text: &str| Uid::parse(text).expect("is a UID");
    let meta = write_meta(&Meta::new(uid(class), uid(&instance), syntax));
    let data_set = encode::encode(&set, &syntax, &CharacterSet::utf8()).expect("can be written");
    [&meta[..], &data_set].concat()
}

/// A data directory with three studies of two patients, one of them an ultrasound.
fn filled(data: &Path) {
    let files = data.with_file_name("incoming");
    fs::create_dir_all(&files).unwrap();
    for (number, bytes) in [
        file("4711-A", 1, uids::CT_IMAGE_STORAGE, "NO"),
        file("4711-A", 2, uids::ULTRASOUND_IMAGE_STORAGE, "YES"),
        file("0815-B", 3, uids::CT_IMAGE_STORAGE, "NO"),
    ]
    .into_iter()
    .enumerate()
    {
        fs::write(files.join(format!("{number}.dcm")), bytes).unwrap();
    }
    let (code, _, said) = run_all(data, &["import", files.to_str().unwrap()]);
    assert_eq!(code, 0, "{said}");
}

fn written(below: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![below.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => files.push(path),
            }
        }
    }
    files.sort();
    files
}

fn header(file: &[u8]) -> DataSet {
    let meta = read_meta(file, true).unwrap().unwrap();
    let mut scanner = Scanner::new(&meta.transfer_syntax);
    scanner.push(&file[meta.data_set_offset as usize..]).unwrap();
    scanner.finish().unwrap().header
}

/// The command that writes all patients to `out`, by a profile.
fn deidentifying<'a>(profile: &'a Path, out: &'a Path) -> [&'a str; 6] {
    let [profile, out] = [profile, out].map(|path| path.to_str().unwrap());
    ["export", out, "-k", "PatientID=*", "--deidentify", profile]
}

#[test]
fn what_matches_is_written_as_it_is_kept() {
    let room = directory();
    let data = room.path().join("data");
    filled(&data);
    let out = room.path().join("out");
    let (code, _) = run(
        &data,
        &["export", out.to_str().unwrap(), "-k", "PatientID=4711-A"],
    );
    assert_eq!(code, 0);
    let files = written(&out);
    assert_eq!(files.len(), 2);
    let study = "1.2.826.0.1.3680043.10.2.1";
    let first = out.join("4711-A").join(study).join(format!("{study}.1"));
    assert_eq!(files[0], first.join(format!("{study}.1.1.dcm")));
    let kept = header(&fs::read(&files[0]).unwrap());
    assert_eq!(kept.string(tags::PATIENT_NAME), Some(NAME));
}

#[test]
fn a_profile_de_identifies_and_blanks_and_names_what_it_refuses() {
    let room = directory();
    let data = room.path().join("data");
    filled(&data);
    let profile = room.path().join("profile.toml");
    let project = "project = \"trial\"\nsecret = \"0123456789abcdef\"\n[profile]\ndates = \"shift\"\n";
    fs::write(&profile, project).unwrap();
    let export = |out: &Path| {
        let arguments = deidentifying(&profile, out);
        run(&data, &arguments)
    };
    let out = room.path().join("out");
    let (code, said) = export(&out);
    // The ultrasound has annotations burned in, and no region is known.
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("burned in") && !said.contains("Yamada") && !said.contains("4711"));
    let files = written(&out);
    assert_eq!(files.len(), 2);

    let region =
        "[[profile.regions]]\nmodality = \"US\"\nblank = [{ x = 0, y = 0, width = 4, height = 1 }]\n";
    fs::write(&profile, format!("{project}{region}")).unwrap();
    let again = room.path().join("again");
    assert_eq!(export(&again).0, 0);
    let files = written(&again);
    assert_eq!(files.len(), 3);
    let mut patients = std::collections::BTreeMap::<String, u32>::new();
    for path in files {
        let bytes = fs::read(&path).unwrap();
        for identifying in [
            "Yamada",
            "Tarou",
            "4711",
            "0815",
            "20240301",
            "1.2.826.0.1.3680043.10.2.",
        ] {
            let found = bytes
                .windows(identifying.len())
                .any(|window| window == identifying.as_bytes());
            assert!(!found && !path.to_str().unwrap().contains(identifying));
        }
        let made = header(&bytes);
        *patients
            .entry(made.string(tags::PATIENT_ID).unwrap().to_owned())
            .or_default() += 1;
        let instance = made.string(tags::SOP_INSTANCE_UID).unwrap();
        assert_eq!(path.file_stem().unwrap().to_str(), Some(instance));
        assert!(path.starts_with(again.join(made.string(tags::PATIENT_ID).unwrap())));
        // Each is of modality US here, so each is blanked.
        assert!(bytes.ends_with(&[0, 0, 0, 0, 7, 7, 7, 7]));
        assert_eq!(made.string(tags::BURNED_IN_ANNOTATION), Some("NO"));
    }
    assert_eq!(patients.into_values().collect::<Vec<_>>().iter().sum::<u32>(), 3);
}

#[test]
fn a_profile_that_can_not_be_read_is_refused_without_its_secret() {
    let room = directory();
    let data = room.path().join("data");
    filled(&data);
    let profile = room.path().join("profile.toml");
    let out = room.path().join("out");
    for (text, told) in [
        ("project = \"trial\"\nsecret = \"short\"\n", "16 bytes"),
        ("project = \"trial\"\nsecret = 271828182845\n", "line 2"),
        (
            "project = \"trial\"\nsecret = \"0123456789abcdef\"\n[profile]\nretain = true\n",
            "retain",
        ),
    ] {
        fs::write(&profile, text).unwrap();
        let arguments = deidentifying(&profile, &out);
        let (code, _, said) = run_all(&data, &arguments);
        assert_eq!(code, 1);
        assert!(
            said.contains(told) && !said.contains("271828") && !said.contains("0123456"),
            "{said}"
        );
        assert!(written(&out).is_empty());
    }
}

/// Waits until a delivery has ended, and answers how. Each question is a request to the server.
fn ended(server: &Server, destination: &str, instance: &str) -> String {
    let begun = Instant::now();
    loop {
        let mut command = Command::new("curl");
        command.args([
            "-sS",
            &format!("{}outbox/{destination}/of/{instance}", server.http),
        ]);
        let found: Value = serde_json::from_str(&succeed(command)).unwrap_or_default();
        match found[0]["progress"].as_str() {
            Some(progress) if progress != "waiting" => return progress.to_owned(),
            _ => assert!(
                begun.elapsed() < LONG,
                "the delivery to {destination} did not end"
            ),
        }
    }
}

#[test]
fn what_routes_send_is_de_identified_by_each_kind_of_destination_and_the_same() {
    let room = directory();
    let receivers = ["stow", "peer"].map(|name| {
        let data = room.path().join(name);
        let server = Server::start(&data, &["--ae-title", "RECEIVER"]);
        (data, server)
    });
    let data = room.path().join("data");
    let out = room.path().join("folder");
    let write = |name: &str, text: &str| {
        let path = room.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let configuration = write(
        "configuration.toml",
        &format!(
            "[[peer]]\nae-title = \"RECEIVER\"\nhost = \"127.0.0.1\"\nport = {}\n",
            receivers[1].1.port
        ),
    );
    let deidentify = "[destination.deidentify]\nproject = \"trial\"\nsecret = \"0123456789abcdef\"\n[destination.deidentify.profile]\ndates = \"shift\"\n";
    let mut routes = String::new();
    for (name, kind) in [
        (
            "STOW",
            format!("stow = \"{}/studies\"", receivers[0].1.dicomweb()),
        ),
        ("PEER", "peer = \"RECEIVER\"".to_owned()),
        ("FOLDER", format!("folder = \"{}\"", out.display())),
    ] {
        routes.push_str(&format!(
            "[[destination]]\nname = \"{name}\"\n{kind}\n{deidentify}"
        ));
    }
    routes.push_str("[[route]]\nname = \"all\"\nsend-to = [\"STOW\", \"PEER\", \"FOLDER\"]\n");
    let routes = write("routes.toml", &routes);
    let start = || Server::start(&data, &["--config", &configuration, "--routes", &routes]);
    // Where a server has run before, what is imported is new to the rules.
    start().stop();
    filled(&data);
    let server = start();
    for destination in ["STOW", "PEER", "FOLDER"] {
        for (study, progress) in [(1, "delivered"), (2, "refused"), (3, "delivered")] {
            let instance = format!("1.2.826.0.1.3680043.10.2.{study}.1.1");
            assert_eq!(
                ended(&server, destination, &instance),
                progress,
                "{destination} {study}"
            );
        }
    }
    server.stop();

    let names = |below: &Path| -> Vec<String> {
        let files = written(below);
        let mut names: Vec<_> = files
            .iter()
            .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    };
    let delivered = names(&out);
    assert_eq!(delivered.len(), 2);
    let mut folders = vec![out];
    for (data, server) in receivers {
        server.stop();
        let exported = data.join("out");
        let arguments = ["export", exported.to_str().unwrap(), "-k", "PatientID=*"];
        assert_eq!(run(&data, &arguments).0, 0);
        assert_eq!(names(&exported), delivered);
        folders.push(exported);
    }
    for path in folders.iter().flat_map(|folder| written(folder)) {
        let bytes = fs::read(&path).unwrap();
        for identifying in ["Yamada", "4711", "0815", "20240301", "1.2.826.0.1.3680043.10.2."] {
            let found = bytes
                .windows(identifying.len())
                .any(|window| window == identifying.as_bytes());
            assert!(!found, "{}", path.display());
        }
        assert_eq!(header(&bytes).string(tags::PATIENT_IDENTITY_REMOVED), Some("YES"));
    }
}
