//! From images in an engine to results, read back and held against the Standard by `dciodvfy`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream;
use pacs_core::dataset::charset::CharacterSet;
use pacs_core::dataset::encode::encode;
use pacs_core::dataset::scan;
use pacs_core::{Options, Pacs, Source};
use pacs_store::{MemoryArchive, MemoryIndex};

use super::*;
use crate::analysis::{self, Outcome};
use crate::phantom::{self, Instance};

async fn engine(files: impl IntoIterator<Item = Vec<u8>>) -> Pacs {
    let (archive, index) = (Arc::new(MemoryArchive::new()), Arc::new(MemoryIndex::new()));
    let pacs = Pacs::open(archive, index, Options::default()).await.unwrap();
    for file in files {
        let file = stream::iter([Ok(Bytes::from(file))]);
        pacs.import(Source::default(), file).await.unwrap();
    }
    pacs
}

async fn assessed(pacs: &Pacs, series: &Uid) -> Result<Assessed, &'static str> {
    match analysis::assess(pacs, series).await.unwrap() {
        Outcome::Assessed(one) => Ok(*one),
        Outcome::Skipped(why) => Err(why),
    }
}

async fn phantom_assessed(instances: &[Instance]) -> Assessed {
    let class = dicom_dictionary_std::uids::CT_IMAGE_STORAGE;
    let pacs = engine(instances.iter().map(|instance| phantom::file(class, instance))).await;
    let series = Uid::parse(&format!("{}.1", phantom::study_uid(7))).unwrap();
    assessed(&pacs, &series).await.unwrap()
}

fn of(assessed: Assessed) -> Vec<Made> {
    // 2026-01-02 22:45:00 UTC.
    let now = DateTime::from_timestamp(1_767_393_900, 0).unwrap();
    results(&phantom::study_uid(7), &[assessed], now).unwrap()
}

/// As it comes out of a file.
fn read_back(made: &Made) -> DataSet {
    let syntax = dicom_dictionary_std::uids::EXPLICIT_VR_LITTLE_ENDIAN;
    let bytes = encode(&made.data_set, syntax, &CharacterSet::utf8()).unwrap();
    scan::parse(&bytes, syntax).unwrap()
}

/// All content items below one, each with the meaning of its name.
fn items(set: &DataSet) -> Vec<(String, DataSet)> {
    let mut all = Vec::new();
    for item in set.items(tags::CONTENT_SEQUENCE) {
        let name = item.items(tags::CONCEPT_NAME_CODE_SEQUENCE).first();
        let name = name
            .and_then(|name| name.string(tags::CODE_MEANING))
            .unwrap_or_default();
        all.push((name.to_owned(), item.clone()));
        all.extend(items(item));
    }
    all
}

fn measured(report: &DataSet, name: &str, unit: &str) -> f64 {
    let items = items(report);
    let (_, item) = items
        .iter()
        .find(|(of, _)| of == name)
        .expect("the report has it");
    assert_eq!(item.string(tags::VALUE_TYPE), Some("NUM"));
    let value = &item.items(tags::MEASURED_VALUE_SEQUENCE)[0];
    let units = &value.items(tags::MEASUREMENT_UNITS_CODE_SEQUENCE)[0];
    assert_eq!(units.string(tags::CODE_VALUE), Some(unit));
    assert_eq!(units.string(tags::CODING_SCHEME_DESIGNATOR), Some("UCUM"));
    value.string(tags::NUMERIC_VALUE).unwrap().parse().unwrap()
}

fn finding(report: &DataSet) -> Vec<String> {
    let of = |item: &DataSet| {
        item.items(tags::CONCEPT_CODE_SEQUENCE)[0]
            .string(tags::CODE_VALUE)
            .unwrap()
            .to_owned()
    };
    let findings = items(report).into_iter().filter(|(name, _)| name == "Finding");
    findings.map(|(_, item)| of(&item)).collect()
}

#[tokio::test]
async fn a_phantom_that_bleeds_gives_a_report_with_its_volume_and_place_and_a_picture() {
    let made = of(phantom_assessed(&phantom::explicit(&phantom::slices(7, true))).await);
    let [report, picture] = &made[..] else {
        panic!("{} results", made.len());
    };
    let report = read_back(report);
    let (volume, expected) = (measured(&report, "Volume", "ml"), phantom::volume_ml());
    assert!(
        (volume - expected).abs() < 0.07 * expected,
        "{volume} of {expected} ml"
    );
    let mean = measured(&report, "Attenuation Coefficient", "[hnsf'U]");
    assert!((mean - 70.0).abs() < 2.0, "{mean}");
    assert_eq!(finding(&report), ["1386000", "1386000"]);
    assert_eq!(report.string(tags::COMPLETION_FLAG), Some("PARTIAL"));
    assert_eq!(report.string(tags::VERIFICATION_FLAG), Some("UNVERIFIED"));

    // Of the same study, patient and order, in a series of its own.
    for set in [&report, &read_back(picture)] {
        assert_eq!(set.uid(tags::STUDY_INSTANCE_UID).unwrap(), phantom::study_uid(7));
        assert_eq!(set.string(tags::PATIENT_NAME), Some("Müller^Jörg"));
        assert_eq!(set.string(tags::ACCESSION_NUMBER), Some("A 7"));
        // In the study's own time zone.
        assert_eq!(set.string(tags::CONTENT_DATE), Some("20260103"));
        assert_eq!(set.string(tags::CONTENT_TIME), Some("001500"));
        assert!(
            !set.string(tags::SERIES_INSTANCE_UID)
                .unwrap()
                .starts_with(&*phantom::study_uid(7))
        );
    }
    let request = &report.items(tags::REFERENCED_REQUEST_SEQUENCE)[0];
    assert_eq!(request.string(tags::REQUESTED_PROCEDURE_ID), Some("R7"));
    assert_eq!(request.string(tags::ACCESSION_NUMBER), Some("A 7"));

    // All slices are evidence, and what regions refer to is among them.
    let evidence = &report.items(tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE)[0];
    let series = &evidence.items(tags::REFERENCED_SERIES_SEQUENCE)[0];
    let of_series = series.items(tags::REFERENCED_SOP_SEQUENCE).iter();
    let evident: Vec<Uid> = of_series
        .map(|item| item.uid(tags::REFERENCED_SOP_INSTANCE_UID).unwrap())
        .collect();
    assert_eq!(evident.len(), phantom::SLICES);
    let items = items(&report);
    let regions: Vec<&DataSet> = items
        .iter()
        .filter(|(name, _)| name == "Image Region")
        .map(|(_, item)| item)
        .collect();
    // The ball reaches 5 slices to each side of its middle, where it is only a point.
    assert!((9..=11).contains(&regions.len()), "{}", regions.len());
    let mut area = 0.0;
    for region in regions {
        let image = &region.items(tags::CONTENT_SEQUENCE)[0].items(tags::REFERENCED_SOP_SEQUENCE)[0];
        assert!(evident.contains(&image.uid(tags::REFERENCED_SOP_INSTANCE_UID).unwrap()));
        let numbers: Vec<f64> = crate::series::numbers(region, tags::GRAPHIC_DATA);
        let corners: Vec<[f64; 2]> = numbers.as_chunks().0.to_vec();
        assert_eq!(corners.first(), corners.last());
        let pairs = corners.windows(2);
        area += pairs.map(|p| p[0][0] * p[1][1] - p[1][0] * p[0][1]).sum::<f64>() / 2.0;
    }
    // What the outlines enclose is what is measured.
    let enclosed = area * phantom::SPACING * phantom::SPACING * phantom::THICKNESS / 1000.0;
    assert!((enclosed - volume).abs() < 0.01, "{enclosed} and {volume} ml");

    // A scan doesn't hold pixel data.
    let pixels = picture.data_set.get(tags::PIXEL_DATA).unwrap().bytes();
    let picture = read_back(picture);
    let (rows, columns) = (
        picture.u16(tags::ROWS).unwrap(),
        picture.u16(tags::COLUMNS).unwrap(),
    );
    assert_eq!(pixels.len(), usize::from(rows) * usize::from(columns) * 3);
    let at =
        |x: usize, y: usize| <[u8; 3]>::try_from(&pixels[(y * usize::from(columns) + x) * 3..][..3]).unwrap();
    let scale = usize::from(columns) / phantom::SIDE;
    let [x, y, _] = phantom::MIDDLE.map(|n| n as usize * scale);
    assert!(
        at(x, y)[0] > 190 && at(x, y)[0] == at(x, y)[1],
        "blood is light gray"
    );
    let red = |x: usize| at(x, y)[0] == 255 && at(x, y)[1] < 100;
    let edges: Vec<usize> = (0..usize::from(columns)).filter(|x| red(*x)).collect();
    // Ten pixels to each side of the middle.
    assert!(edges.len() >= 2, "{edges:?}");
    assert!(edges[0].abs_diff(x - 10 * scale) <= 2 * scale, "{edges:?}");
    assert!(
        edges[edges.len() - 1].abs_diff(x + 10 * scale) <= 2 * scale,
        "{edges:?}"
    );
}

#[tokio::test]
async fn a_quiet_phantom_gives_a_report_that_says_so_and_no_picture() {
    let made = of(phantom_assessed(&phantom::explicit(&phantom::slices(7, false))).await);
    assert_eq!(made.len(), 1);
    let report = read_back(&made[0]);
    assert_eq!(finding(&report), ["373572006"]);
    assert!(items(&report).iter().all(|(name, _)| name != "Measurement Group"));
}

#[tokio::test]
async fn a_compressed_transfer_syntax_gives_the_same_results_and_names_follow_the_images() {
    let slices = phantom::slices(7, true);
    let plain = of(phantom_assessed(&phantom::explicit(&slices)).await);
    let compressed = of(phantom_assessed(&phantom::run_length_encoded(&slices)).await);
    let fewer = of(phantom_assessed(&phantom::explicit(&phantom::slices(7, true)[..1])).await);
    for (a, b) in plain.iter().zip(&compressed) {
        assert!(a.instance == b.instance && a.data_set == b.data_set);
    }
    assert_ne!(plain[0].instance, plain[1].instance);
    assert_ne!(plain[0].instance, fewer[0].instance);
    for uid in plain.iter().map(|made| made.instance) {
        let number: u128 = uid.strip_prefix("2.25.").unwrap().parse().unwrap();
        assert_eq!(
            (number >> 76 & 0xF, number >> 62 & 3),
            (8, 2),
            "a UUID of version 8"
        );
    }
}

/// A program or file that may be missing: then it is said, and is a failure where peers are required.
#[allow(clippy::print_stdout, reason = "the test's output is where it belongs")]
fn or_skipped<T>(found: Option<T>, what: &str) -> Option<T> {
    if found.is_none() {
        assert!(
            std::env::var_os("PACS_REQUIRE_PEERS").is_none(),
            "{what} is missing"
        );
        println!("skipped: {what} is not installed; .ci/peers installs it");
    }
    found
}

fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|directory| directory.join(name))
        .find(|path| path.is_file());
    or_skipped(found, name)
}

/// What `dciodvfy` says of an instance is an error.
fn errors(dciodvfy: &Path, directory: &Path, made: &Made) -> Vec<String> {
    let path = directory.join("result.dcm");
    let syntax = Uid::constant(dicom_dictionary_std::uids::EXPLICIT_VR_LITTLE_ENDIAN);
    let bytes = encode(&made.data_set, &syntax, &CharacterSet::utf8()).unwrap();
    std::fs::write(
        &path,
        phantom::file(&made.class, &(made.instance, syntax, bytes.into())),
    )
    .unwrap();
    let output = Command::new(dciodvfy).arg("-new").arg(&path).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!said.is_empty(), "it always names the IOD");
    let lines = said.lines().filter(|line| line.starts_with("Error"));
    lines.map(str::to_owned).collect()
}

#[tokio::test]
async fn dciodvfy_finds_no_error_in_what_is_answered() {
    let Some(dciodvfy) = program("dciodvfy") else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    for bleeds in [true, false] {
        for made in of(phantom_assessed(&phantom::explicit(&phantom::slices(7, bleeds))).await) {
            let none: [&str; 0] = [];
            assert_eq!(errors(&dciodvfy, directory.path(), &made), none, "{}", made.class);
        }
    }
}

/// Where pydicom keeps its test files.
fn pydicom_files() -> Option<PathBuf> {
    let venv = std::env::var_os("PACS_PEERS_VENV").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/peers-venv"),
        PathBuf::from,
    );
    let script =
        "import pathlib, pydicom; print(pathlib.Path(pydicom.__file__).parent / 'data' / 'test_files')";
    let output = Command::new(venv.join("bin/python"))
        .args(["-c", script])
        .output();
    let told = output.ok().filter(|output| output.status.success());
    let told = told.map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    or_skipped(told, "pydicom")
}

#[tokio::test]
#[allow(clippy::print_stdout, reason = "it says what became of each file")]
async fn real_ct_images_of_pydicom_bring_no_finding() {
    let Some(files) = pydicom_files() else { return };
    let mut searched = 0;
    let mut paths: Vec<PathBuf> = std::fs::read_dir(files)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    for path in paths
        .iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "dcm"))
    {
        let (archive, index) = (Arc::new(MemoryArchive::new()), Arc::new(MemoryIndex::new()));
        let pacs = Pacs::open(archive, index, Options::default()).await.unwrap();
        let mut bytes = std::fs::read(path).unwrap();
        // Of the few there are, one is with contrast medium. Here it is searched all the same.
        let contrast = b"ISOVUE300/100 ";
        if let Some(at) = bytes
            .windows(contrast.len())
            .position(|window| window == contrast)
        {
            bytes[at..][..contrast.len()].fill(b' ');
        }
        let bytes = Bytes::from(bytes);
        let Ok(received) = pacs.import(Source::default(), stream::iter([Ok(bytes)])).await else {
            continue;
        };
        if received.record.sop_class.as_str() != dicom_dictionary_std::uids::CT_IMAGE_STORAGE {
            continue;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        match assessed(&pacs, &received.record.key.series).await {
            Ok(one) => {
                println!("{name}: searched");
                assert_eq!(one.found.count, 0, "{name}");
                searched += 1;
            }
            Err(why) => println!("{name}: not searched: {why}"),
        }
    }
    assert!(searched > 0, "one of them can be searched");
}
