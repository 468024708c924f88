//! What an operator sees of the subcommands: what they say, and what they leave alone.

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use bytes::Bytes;
use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};
use pacs_core::dataset::charset::CharacterSet;
use pacs_core::dataset::{encode, part10};
use pacs_core::{DataSet, Uid};

use common::{count, directory, run, run_all};

/// Writes a Part 10 file with an instance of one study; the patient's ID makes its bytes another's.
fn write_instance(path: &Path, number: u32, patient_id: &str) {
    let class = Uid::constant(uids::CT_IMAGE_STORAGE);
    let instance = Uid::parse(&format!("2.25.99.1.1.{number}")).expect("digits and dots");
    let mut set = DataSet::new();
    set.put_uid(tags::SOP_CLASS_UID, &class);
    set.put_uid(tags::SOP_INSTANCE_UID, &instance);
    set.put_text(tags::PATIENT_ID, VR::LO, patient_id);
    set.put_text(tags::STUDY_INSTANCE_UID, VR::UI, "2.25.99.1");
    set.put_text(tags::SERIES_INSTANCE_UID, VR::UI, "2.25.99.1.1");
    // The last element: what is cut off is cut off here.
    set.put_text(tags::IMAGE_COMMENTS, VR::LT, "a comment");
    let explicit = Uid::constant(uids::EXPLICIT_VR_LITTLE_ENDIAN);
    let meta = part10::Meta::new(class, instance, explicit);
    let data_set: Bytes = encode::encode(&set, &explicit, &CharacterSet::default())
        .expect("it can be written")
        .into();
    let file = [part10::write_meta(&meta), data_set].concat();
    fs::write(path, file).expect("is written");
}

/// A store with three instances, one of which replaced an earlier version.
fn filled(data: &Path) {
    let files = directory();
    for number in 1..=3 {
        write_instance(&files.path().join(number.to_string()), number, "A");
    }
    let again = directory();
    write_instance(&again.path().join("1"), 1, "B");
    for files in [files, again] {
        let files = files.path().to_str().expect("a temporary path is plain");
        assert_eq!(run(data, &["import", files]).0, 0);
    }
}

#[test]
fn a_mistyped_data_directory_is_named_and_nothing_is_made_there() {
    let directory = directory();
    fs::create_dir(directory.path().join("empty")).expect("can be made");
    for (name, made) in [("missing", false), ("empty", true)] {
        let data = directory.path().join(name);
        for command in ["stats", "verify", "rebuild-index"] {
            let (code, _, said) = run_all(&data, &[command]);
            let expected = format!("there is no store at {}", data.display());
            assert_eq!(code, 1, "{command}: {said}");
            assert!(said.contains(&expected), "{command}: {said}");
            assert_eq!(data.exists(), made, "{command}");
            if made {
                assert_eq!(fs::read_dir(&data).expect("is there").count(), 0, "{command}");
            }
        }
    }
}

#[test]
fn stats_and_verify_say_what_they_count() {
    let directory = directory();
    let data = directory.path().join("data");
    filled(&data);
    let (_, stats) = run(&data, &["stats"]);
    assert_eq!(count(&stats, "instances"), 3, "{stats}");
    assert!(stats.contains("earlier versions"), "{stats}");
    let (code, verified) = run(&data, &["verify"]);
    let counts = ["instances whole", "earlier versions whole", "damaged"].map(|what| count(&verified, what));
    assert_eq!((code, counts), (0, [3, 1, 0]), "{verified}");
}

#[test]
fn a_file_that_is_cut_off_is_left_out_where_a_longer_one_is_kept() {
    let directory = directory();
    let data = directory.path().join("data");
    let files = directory.path().join("files");
    fs::create_dir(&files).expect("can be made");
    write_instance(&files.join("1"), 1, "A");
    let files_text = files.to_str().expect("a temporary path is plain");
    assert_eq!(run(&data, &["import", files_text]).0, 0);
    let whole = fs::read(files.join("1")).expect("is there");
    fs::write(files.join("1"), &whole[..whole.len() - 4]).expect("is written");
    let (code, said) = run(&data, &["import", files_text]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(count(&said, "left out: another version is kept"), 1, "{said}");
    assert!(!said.contains("can't be followed"), "{said}");
}

#[test]
fn a_damaged_index_is_answered_with_the_command_that_makes_it_anew_and_that_command_does() {
    let directory = directory();
    let data = directory.path().join("data");
    filled(&data);
    let index = data.join("index.redb");
    let whole = fs::read(&index).expect("is there");
    let (_, stats) = run(&data, &["stats"]);
    let configuration = directory.path().join("a pacs.toml");
    fs::write(&configuration, "ae-title = \"OTHER\"\n").expect("is written");
    let configured = [
        "--config",
        configuration.to_str().expect("a temporary path is plain"),
    ];
    let mut overwritten = whole.clone();
    for (at, byte) in overwritten.iter_mut().enumerate().skip(4096).take(16 * 4096) {
        *byte = at as u8 ^ 0x5A;
    }
    let damages: [(&str, Vec<u8>); 4] = [
        ("cut off", whole[..whole.len() / 2].to_vec()),
        ("of a few bytes", whole[..100].to_vec()),
        (
            "something else",
            b"not an index at all, but long enough to be read as one".to_vec(),
        ),
        ("overwritten inside", overwritten),
    ];
    for (what, bytes) in damages {
        fs::write(&index, bytes).expect("is written");
        for command in ["serve", "stats"] {
            let (code, _, said) = run_all(&data, &[&configured[..], &[command]].concat());
            let remedy = format!(
                "pacs-server --config '{}' --data {} rebuild-index",
                configuration.display(),
                data.display()
            );
            assert_eq!(code, 1, "{what}: {said}");
            assert!(said.contains(&remedy), "{what}: {said}");
        }
        let (code, rebuilt) = run(&data, &["rebuild-index"]);
        assert_eq!(
            (code, count(&rebuilt, "instances indexed")),
            (0, 3),
            "{what}: {rebuilt}"
        );
        assert_eq!(run(&data, &["stats"]), (0, stats.clone()), "{what}");
    }
}

/// Shortens the only segment with something in it to less than its first instance.
fn shorten(archive: &Path) {
    let segments = fs::read_dir(archive.join("segments")).expect("is listed");
    let paths = segments.map(|entry| entry.expect("is listed").path());
    let segment = paths
        .max_by_key(|path| fs::metadata(path).expect("is there").len())
        .expect("a segment");
    let file = fs::OpenOptions::new().write(true).open(segment);
    file.and_then(|file| file.set_len(400)).expect("is shortened");
}

#[test]
fn what_one_copy_has_lost_is_kept_anew_by_verify_and_by_a_server_that_runs() {
    let directory = directory();
    let path = |name: &str| directory.path().join(name);
    let text = |name: &str| path(name).to_str().expect("is plain").to_owned();
    let (data, configuration) = (path("data"), text("pacs.toml"));
    let settings = format!(
        "[replica]\ndata = {:?}\n[scrub]\nmebibytes-per-second = 1000\n",
        text("replica")
    );
    fs::write(&configuration, settings).expect("is written");
    filled(&data);
    let verified = |options: &[&str]| {
        let arguments = [&["--config", &configuration, "verify"], options].concat();
        let (code, verified) = run(&data, &arguments);
        let whats = ["instances whole", "earlier versions whole", "damaged"];
        (code, whats.map(|what| count(&verified, what)))
    };
    assert_eq!(verified(&[]), (0, [3, 1, 0]));
    shorten(&data.join("archive"));
    assert_eq!(verified(&[]), (3, [0, 0, 4]));
    assert_eq!(verified(&["--repair"]), (0, [3, 1, 0]));
    assert_eq!(verified(&[]), (0, [3, 1, 0]));

    shorten(&path("replica").join("archive"));
    assert_eq!(verified(&[]).0, 3);
    let mut server = Command::new(env!("CARGO_BIN_EXE_pacs-server"))
        .args([
            "--dicom-port",
            "0",
            "--http-port",
            "0",
            "--config",
            &configuration,
            "--data",
        ])
        .arg(&data)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("pacs-server starts");
    let log = BufReader::new(server.stderr.take().expect("is piped"));
    let mut lines = log.lines().map(|line| line.expect("is read"));
    let ended = lines.find(|line| line.contains("a pass through what is kept ended"));
    server.kill().and_then(|()| server.wait()).expect("is ended");
    assert!(ended.is_some_and(|line| line.contains("repaired=3")));
    assert_eq!(verified(&[]), (0, [3, 1, 0]));
}

#[test]
fn a_shortened_segment_is_told_and_what_it_lacks_is_counted_when_the_index_is_made_anew() {
    let directory = directory();
    let data = directory.path().join("data");
    filled(&data);
    // All four lie in the only segment that is not empty; the first one is behind where it ends now.
    let segments = fs::read_dir(data.join("archive/segments")).expect("is listed");
    let paths = segments.map(|entry| entry.expect("is listed").path());
    let segment = paths
        .max_by_key(|path| fs::metadata(path).expect("is there").len())
        .expect("a segment");
    fs::OpenOptions::new()
        .write(true)
        .open(&segment)
        .and_then(|file| file.set_len(400))
        .expect("is shortened");
    for _ in 0..2 {
        let (_, _, said) = run_all(&data, &["stats"]);
        assert!(said.contains("shorter than it was"), "{said}");
        assert_eq!(fs::metadata(&segment).expect("is there").len(), 400);
    }
    let (code, verified) = run(&data, &["verify"]);
    assert_eq!((code, count(&verified, "damaged")), (3, 4), "{verified}");
    let (code, rebuilt) = run(&data, &["rebuild-index"]);
    let counts = ["instances indexed", "can't be read", "missing"].map(|what| count(&rebuilt, what));
    assert_eq!((code, counts), (3, [0, 0, 3]), "{rebuilt}");
    assert!(rebuilt.contains("\n2.25.99.1.1.2\n"), "{rebuilt}");
    assert!(data.join("index.redb.old").exists());
    assert_eq!(run(&data, &["rebuild-index"]).0, 0);
}

#[test]
fn what_is_kept_is_amended_and_patients_are_merged() {
    let directory = directory();
    let data = directory.path().join("data");
    filled(&data);
    let counts = |printed: &str| {
        [
            "instances amended",
            "had these values already",
            "can't be amended",
        ]
        .map(|what| count(printed, what))
    };
    let amend = |of: &[&str]| {
        let (code, printed) = run(&data, &[&["amend"], of].concat());
        assert_eq!(code, 0, "{printed}");
        counts(&printed)
    };
    let study = ["--study", "2.25.99.1"];
    let wanted = ["PatientName=Corrected^Name", "PatientID=4711", "ImageComments="];
    assert_eq!(amend(&[&study[..], &wanted].concat()), [3, 0, 0]);
    assert_eq!(amend(&[&study[..], &wanted].concat()), [0, 3, 0]);
    assert_eq!(
        amend(&["--instance", "2.25.99.1.1.2", "ImageComments=new"]),
        [1, 0, 0]
    );
    let files = common::directory();
    write_instance(&files.path().join("4"), 4, "PRIOR");
    // Of the same study, but it says another patient; it is known as the study's.
    assert_eq!(
        run(&data, &["import", files.path().to_str().expect("is plain")]).0,
        0
    );
    for (refused, code) in [
        (vec!["amend", "--study", "2.25.404", "PatientSex=O"], 1),
        (vec!["amend", "--study", "2.25.99.1", "StudyInstanceUID=1.2"], 1),
        (vec!["amend", "--instance", "2.25.99.1.1.2", "PatientSex=O"], 1),
        (vec!["amend", "--study", "2.25.99.1", "NoSuchThing=1"], 2),
        (vec!["amend", "--study", "2.25.99.1", "PatientSex"], 2),
        (vec!["amend", "--study", "2.25.99.1"], 2),
        (vec!["amend", "PatientSex=O"], 2),
        (
            vec![
                "amend",
                "--study",
                "2.25.99.1",
                "--patient",
                "4711",
                "PatientSex=O",
            ],
            2,
        ),
        (vec!["merge", "4711", "4711"], 1),
        (vec!["merge", "4711", "NOBODY"], 1),
    ] {
        let (found, _, said) = run_all(&data, &refused);
        assert_eq!(found, code, "{refused:?}: {said}");
    }
    let (code, printed) = run(&data, &["verify"]);
    assert_eq!(code, 0, "{printed}");
}

#[test]
fn errors_are_said_without_the_names_of_operations() {
    let directory = directory();
    let data = directory.path().join("data");
    filled(&data);
    fs::write(data.join("index.redb"), vec![1; 5000]).expect("is written");
    let (_, _, damaged) = run_all(&data, &["stats"]);
    let (_, _, taken) = run_all(
        &directory.path().join("other"),
        &["--listen", "192.0.2.1", "serve"],
    );
    for said in [damaged, taken] {
        let said = said.lines().filter(|line| line.starts_with("pacs-server:"));
        let said: String = said.collect();
        assert!(!said.is_empty());
        for word in said.split_whitespace() {
            let name = word.trim_end_matches(':');
            let parts: Vec<&str> = name.split('.').collect();
            let internal = parts.len() == 2
                && parts
                    .iter()
                    .all(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase()));
            assert!(!internal, "{word} in {said}");
        }
    }
}

#[test]
fn a_store_is_encrypted_with_keys_that_are_made_and_does_not_open_without_them() {
    let directory = directory();
    let data = directory.path().join("data");
    let keys = directory.path().join("keys");
    let configuration = directory.path().join("pacs.toml");
    let text = |path: &Path| path.to_str().expect("a temporary path is plain").to_owned();
    fs::write(
        &configuration,
        format!("[encryption]\nkey-file = {:?}\n", text(&keys)),
    )
    .expect("is written");
    let run_with = |words: &[&str]| {
        let configuration = text(&configuration);
        let all: Vec<&str> = ["--config", &configuration]
            .into_iter()
            .chain(words.iter().copied())
            .collect();
        run_all(&data, &all)
    };
    let files = directory.path().join("files");
    fs::create_dir(&files).expect("can be made");
    let import = |number: u32| {
        write_instance(&files.join(number.to_string()), number, "SECRET-PATIENT-ID");
        run_with(&["import", &text(&files)])
    };
    let (code, _, said) = import(1);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("the key file"), "{said}");

    for (number, id) in [(1, "key-1"), (2, "key-2")] {
        let (code, made, _) = run_with(&["keys", "new", &text(&keys)]);
        assert_eq!(code, 0);
        assert!(made.contains(id), "{made}");
        let (code, _, said) = import(number);
        assert_eq!(code, 0, "{said}");
    }
    let (code, verified, _) = run_with(&["verify"]);
    assert_eq!((code, count(&verified, "instances whole")), (0, 2), "{verified}");
    let secret = "SECRET-PATIENT-ID".as_bytes();
    let segments = fs::read_dir(data.join("archive/segments")).expect("is listed");
    let paths = segments.map(|entry| entry.expect("is listed").path());
    for path in paths.chain([data.join("index.redb"), data.join("ledger.redb")]) {
        let stored = fs::read(path).expect("is read");
        assert!(!stored.windows(secret.len()).any(|window| window == secret));
    }

    // Without the settings, and without the older key.
    let (code, _, said) = run_all(&data, &["stats"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("is encrypted"), "{said}");
    let both = fs::read_to_string(&keys).expect("is read");
    let newer = both.lines().next().expect("a line");
    fs::write(&keys, format!("{newer}\n")).expect("is written");
    let (code, _, said) = run_with(&["stats"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("the key key-1 is missing"), "{said}");
    assert!(!said.contains(&newer[newer.len() - 64..]), "no key is shown");
}
