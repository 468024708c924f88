//! The real server against DCMTK and pynetdicom. A peer that isn't installed is skipped with a word about
//! it; with `PACS_REQUIRE_PEERS` set it is a failure.

mod common;

use std::fs;
use std::path::Path;

use serde_json::Value;

use common::{
    Peer, dcmtk, directory, free_port, peer, pydicom_files, python, rows, script, start_with_destination,
    succeed, tell,
};

#[test]
fn dcmtk_stores_finds_gets_and_moves() {
    let (Some(files), Some(mut echoscu)) = (pydicom_files(), peer("echoscu")) else {
        return;
    };
    let directory = directory();
    let (destination, received) = (free_port(), directory.path().join("received"));
    fs::create_dir(&received).expect("can be made");
    let server = start_with_destination(&directory, destination);
    let port = server.port.to_string();
    let here = ["127.0.0.1", &port];

    echoscu.args(["-aec", "PACS"]).args(here);
    succeed(echoscu);

    let mut storescu = dcmtk("storescu");
    storescu
        .args(["-aec", "PACS"])
        .args(here)
        .args([files.join("CT_small.dcm"), files.join("rtplan.dcm")]);
    succeed(storescu);
    let mut dcmsend = dcmtk("dcmsend");
    dcmsend
        .args(["-aec", "PACS"])
        .args(here)
        .arg(files.join("MR_small_jp2klossless.dcm"))
        .arg(files.join("MR_small.dcm"));
    succeed(dcmsend);

    let mut findscu = dcmtk("findscu");
    findscu.args([
        "-S",
        "-aec",
        "PACS",
        "-k",
        "QueryRetrieveLevel=STUDY",
        "-k",
        "PatientName=compressed*ct1",
    ]);
    findscu
        .args([
            "-k",
            "StudyInstanceUID",
            "-k",
            "ModalitiesInStudy",
            "-k",
            "NumberOfStudyRelatedInstances",
        ])
        .args(here);
    let found = succeed(findscu);
    let study = "1.3.6.1.4.1.5962.1.2.1.20040119072730.12322";
    for expected in [study, "CompressedSamples^CT1", "[CT]", "[1 ]"] {
        assert!(found.contains(expected), "{expected} is not in\n{found}");
    }

    let get = directory.path().join("get");
    fs::create_dir(&get).expect("can be made");
    let mut getscu = dcmtk("getscu");
    getscu.args(["-S", "+B", "-aec", "PACS", "-k", "QueryRetrieveLevel=STUDY", "-k"]);
    getscu
        .arg(format!("StudyInstanceUID={study}"))
        .arg("-od")
        .arg(&get)
        .args(here);
    succeed(getscu);

    let mut storescp = dcmtk("storescp");
    storescp
        .args(["-aet", "DESTINATION", "+xa", "+B", "-od"])
        .arg(&received)
        .arg(destination.to_string());
    let mut storescp = Peer(storescp.spawn().expect("storescp starts"));
    // storescp doesn't say when it listens; echoscu does.
    storescp.until(|| echo(destination));
    let mut movescu = dcmtk("movescu");
    movescu.args([
        "-v",
        "-S",
        "-aec",
        "PACS",
        "-aem",
        "DESTINATION",
        "-k",
        "QueryRetrieveLevel=STUDY",
        "-k",
    ]);
    movescu.arg(format!("StudyInstanceUID={study}")).args(here);
    let moved = succeed(movescu);
    assert!(moved.contains("Final Move Response (Success)"), "{moved}");

    // storescu encodes anew what it sends, so the file is no measure: both ways must give the same bytes.
    let came = [get, received].map(|directory| {
        let mut files = fs::read_dir(&directory)
            .expect("can be listed")
            .map(|entry| entry.expect("can be read").path());
        data_set(&files.next().expect("an instance came"))
    });
    assert!(came[0] == came[1], "C-GET and C-MOVE give different data sets");
    assert!(
        came[0].len() > 32 * 1024,
        "128 rows and columns of 16 bits are inside"
    );
    assert!(server.stop().success());
}

fn echo(port: u16) -> bool {
    let mut echoscu = dcmtk("echoscu");
    echoscu.args(["-q", "127.0.0.1", &port.to_string()]);
    echoscu.status().expect("echoscu starts").success()
}

/// The data set of a Part 10 file: what comes after its meta information.
fn data_set(path: &Path) -> Vec<u8> {
    let bytes = fs::read(path).expect("can be read");
    let meta = pacs_core::dataset::part10::read_meta(&bytes, true)
        .expect("is a DICOM file")
        .expect("is whole");
    bytes[meta.data_set_offset as usize..].to_vec()
}

#[test]
fn names_are_found_by_their_real_characters_whatever_set_they_are_written_in() {
    let Some(mut python) = python() else { return };
    let directory = directory();
    let server = start_with_destination(&directory, free_port());
    python.arg(script("charsets.py")).arg(server.port.to_string());
    let rows = rows(&succeed(python));
    for row in &rows {
        tell(&row.to_string());
    }
    let stored: Vec<&Value> = rows.iter().filter(|row| row["stored"] == true).collect();
    let wrong: Vec<&&Value> = stored
        .iter()
        .filter(|row| row["found"] != true || row["name"] != true)
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(stored.len() >= 12, "{} files were stored", stored.len());
}
