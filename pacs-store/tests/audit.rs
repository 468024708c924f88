//! The log of audit: what is recorded stays, what is changed is found by its number, and what was only being written when the
//! process died is neither.
//!
//! `PACS_SEED` sets the first seed of what is drawn, `PACS_DAMAGE_RUNS` and `PACS_FAULT_RUNS` how often.
// What is drawn by is said.
#![allow(clippy::print_stderr)]

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::FutureExt as _;
use futures::executor::block_on;
use pacs_core::audit::{AuditQueue, AuditSource, AuditTrail, Message, Participant};
use pacs_core::testkit::random::Random;
use pacs_core::{ErrorKind, Timestamp};
use pacs_store::audit::{
    AuditHead, AuditLog, AuditLogOptions, Durability, Finding, HandIn, Known, Verified, read, verify,
    verify_on,
};
use pacs_store::medium::{Faults, FaultyMedium, Loss, Medium};

fn message(number: u64) -> Message {
    Message::network_entry(true, Participant::person(format!("node {number}"))).at(Timestamp(number))
}

fn source() -> AuditSource {
    AuditSource::new("PACS")
}

fn document(number: u64) -> String {
    message(number).documents(&source()).remove(0)
}

fn options(file_bytes: u64) -> AuditLogOptions {
    AuditLogOptions {
        file_bytes,
        ..AuditLogOptions::default()
    }
}

fn open(medium: &FaultyMedium, file_bytes: u64) -> AuditLog {
    AuditLog::open_on(Arc::new(medium.clone()), source(), options(file_bytes)).expect("opens")
}

fn checked(medium: &FaultyMedium) -> Verified {
    verify_on(medium, &Known::default()).expect("can be read")
}

/// Files with their bytes: what a disk holds.
type Files = Vec<(PathBuf, Vec<u8>)>;

fn files(medium: &FaultyMedium) -> Files {
    let mut files: Files = Vec::new();
    for entry in medium.list(Path::new("")).unwrap() {
        let path = PathBuf::from(entry.name);
        if entry.is_directory || path == Path::new("lock") {
            continue;
        }
        let file = medium.open(&path).unwrap();
        let mut bytes = vec![0; file.length().unwrap() as usize];
        let read = file.read_at(&mut bytes, 0).unwrap();
        assert_eq!(read, bytes.len());
        files.push((path, bytes));
    }
    files.sort();
    files
}

fn medium(files: &Files) -> FaultyMedium {
    let medium = FaultyMedium::new(1);
    for (path, bytes) in files {
        let file = medium.create(path).unwrap();
        let written = file.write_at(&[IoSlice::new(bytes)], 0).unwrap();
        assert_eq!(written, bytes.len());
        file.sync_data().unwrap();
    }
    medium.sync_directory(Path::new("")).unwrap();
    medium
}

/// What is on the disk of a log with records 1 to `count`.
fn written(count: u64, file_bytes: u64) -> Files {
    let medium = FaultyMedium::new(1);
    let log = open(&medium, file_bytes);
    for number in 1..=count {
        log.record(&message(number)).unwrap();
    }
    log.close();
    files(&medium)
}

fn is_log(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "audit")
}

/// Where each record of a file of the log begins, and where the last ends.
fn places(bytes: &[u8]) -> Vec<usize> {
    let mut places = vec![16];
    while let Some(&at) = places.last()
        && at < bytes.len()
    {
        let length = u32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap());
        places.push(at + 64 + length as usize + 32);
    }
    places
}

/// The numbers that findings name.
fn named(verified: &Verified) -> Vec<u64> {
    let numbers = |finding: &Finding| match finding {
        Finding::Changed { first, last } => (*first..=last.unwrap_or(*first)).collect(),
        Finding::Missing { first, last } => (*first..=*last).collect(),
        Finding::Cut { last, acknowledged } => (last + 1..=*acknowledged).collect(),
        Finding::OutOfPlace { sequence } | Finding::Unchained { sequence } => vec![*sequence],
        _ => Vec::new(),
    };
    verified.findings.iter().flat_map(numbers).collect()
}

fn variable(name: &str, otherwise: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(otherwise)
}

#[test]
fn what_is_recorded_is_read_back_in_its_order_also_after_it_was_opened_again() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("below").join("audit");
    let open = |durability| {
        let options = AuditLogOptions {
            durability,
            ..options(2000)
        };
        AuditLog::open(&place, source(), options).unwrap()
    };
    let mut number = 0;
    for durability in [Durability::Synced, Durability::Written, Durability::Synced] {
        let log = open(durability);
        assert_eq!(*log.recovered(), Default::default());
        assert_eq!(log.head().sequence(), number);
        for _ in 0..10 {
            number += 1;
            log.record(&message(number)).unwrap();
        }
        // All that waited, in the order of the calls.
        let submitted: Vec<_> = (0..10)
            .map(|_| {
                number += 1;
                log.submit(&message(number))
            })
            .collect();
        for submitted in submitted {
            block_on(submitted).unwrap();
        }
        let another = AuditLog::open(&place, source(), options(2000));
        assert_eq!(another.unwrap_err().kind(), ErrorKind::Refused);
    }
    let log = open(Durability::Synced);
    let mut after = 0;
    loop {
        let records = log.read(after, 7).unwrap();
        if records.is_empty() {
            break;
        }
        for record in records {
            assert_eq!(record.sequence, after + 1);
            after = record.sequence;
            assert_eq!(record.document, document(after));
        }
    }
    assert_eq!(after, number);
    let middle = log.read(30, 2).unwrap();
    assert_eq!([middle[0].sequence, middle[1].sequence], [31, 32]);
    let verified = verify(&place, &Known::default()).unwrap();
    assert_eq!((verified.records, verified.findings), (number, vec![]));
    assert_eq!(verified.head, log.head());
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&place).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn the_note_of_what_was_sent_outlives_the_process_and_names_nothing_that_is_not_recorded() {
    let medium = FaultyMedium::new(1);
    let log = open(&medium, 1 << 20);
    assert_eq!(log.sent(), 0);
    assert!(log.wait(0).now_or_never().is_none());
    let waiting = log.wait(0);
    log.record(&message(1)).unwrap();
    block_on(waiting);
    log.record(&message(2)).unwrap();
    assert!(log.wait(1).now_or_never().is_some());
    log.set_sent(2).unwrap();
    let waiting = log.wait(2);
    log.close();
    block_on(waiting);
    let closed = log.record(&message(3)).unwrap_err();
    assert_eq!(closed.kind(), ErrorKind::Closed);
    let medium = medium.crash(Loss::Process);
    let log = open(&medium, 1 << 20);
    assert_eq!(log.sent(), 2);
    drop(log);
    // A log that was begun anew beside an old note.
    let sent: Files = files(&medium)
        .into_iter()
        .filter(|(path, _)| path == Path::new("sent"))
        .collect();
    let log = open(&self::medium(&sent), 1 << 20);
    assert_eq!(log.sent(), 0);
}

#[test]
fn every_flip_of_a_bit_is_found_and_the_record_is_named() {
    let files = written(6, 1500);
    assert!(files.iter().filter(|(path, _)| is_log(path)).count() > 1);
    let medium = medium(&files);
    assert_eq!(
        (checked(&medium).findings, checked(&medium).torn_bytes),
        (vec![], 0)
    );
    let mut flips = 0;
    for (path, bytes) in files.iter().filter(|(path, _)| path != Path::new("sent")) {
        let first: u64 = path.file_stem().unwrap().to_str().unwrap().parse().unwrap_or(0);
        for at in 0..bytes.len() {
            for bit in 0..8 {
                medium.corrupt(path, at as u64, &[bytes[at] ^ 1 << bit]);
                let verified = checked(&medium);
                let what = format!("bit {bit} of byte {at} of {}", path.display());
                assert_eq!(verified.torn_bytes, 0, "{what}");
                // Of the head other copies are whole: nothing of the log is in doubt, and it is said all the same.
                assert_eq!(verified.findings.is_empty(), verified.is_head_torn, "{what}");
                if is_log(path) && at >= 16 {
                    let record = places(bytes).iter().filter(|place| **place <= at).count() as u64 - 1;
                    assert_eq!(
                        named(&verified),
                        [first + record],
                        "{what}: {:?}",
                        verified.findings
                    );
                }
                flips += 1;
            }
            medium.corrupt(path, at as u64, &bytes[at..=at]);
        }
    }
    eprintln!("{flips} flips are found");
}

#[test]
fn every_cut_is_found_wherever_it_is_and_so_are_files_that_are_gone() {
    let files = written(6, 1500);
    let mut cuts = 0;
    for (changed, (path, bytes)) in files.iter().enumerate() {
        if path == Path::new("sent") {
            continue;
        }
        for length in 0..bytes.len() {
            let mut files = files.clone();
            files[changed].1.truncate(length);
            let verified = checked(&medium(&files));
            let is_found = !verified.findings.is_empty() || verified.is_head_torn;
            assert!(
                is_found && verified.torn_bytes == 0,
                "{} cut to {length}",
                path.display()
            );
            cuts += 1;
        }
        let mut files = files.clone();
        files.remove(changed);
        assert!(
            !checked(&medium(&files)).findings.is_empty(),
            "{} is gone",
            path.display()
        );
    }
    // All of it but for the head, and with the head.
    let head: Files = files.iter().filter(|(path, _)| !is_log(path)).cloned().collect();
    assert_eq!(
        checked(&medium(&head)).findings,
        [Finding::Cut {
            last: 0,
            acknowledged: 6
        }]
    );
    let known = Known {
        head: Some(checked(&medium(&files)).head),
        after: None,
    };
    let verified = verify_on(&FaultyMedium::new(1), &known).unwrap();
    assert_eq!(
        verified.findings,
        [Finding::Cut {
            last: 0,
            acknowledged: 6
        }]
    );
    eprintln!("{cuts} cuts are found");
}

/// The bytes of records, without what a file begins with.
fn records(bytes: &[u8]) -> Vec<Vec<u8>> {
    let places = places(bytes);
    places
        .windows(2)
        .map(|place| bytes[place[0]..place[1]].to_vec())
        .collect()
}

fn with_records(files: &Files, records: &[Vec<u8>]) -> Files {
    let mut files = files.clone();
    let log = files.iter_mut().find(|(path, _)| is_log(path)).unwrap();
    log.1.truncate(16);
    log.1.extend(records.concat());
    files
}

#[test]
fn every_swap_removal_repetition_and_insertion_is_found_and_named() {
    let files = written(6, 1 << 20);
    let whole = records(&files.iter().find(|(path, _)| is_log(path)).unwrap().1);
    assert_eq!(whole.len(), 6);
    let found = |records: &[Vec<u8>]| checked(&medium(&with_records(&files, records)));
    assert_eq!(found(&whole).findings, []);
    for one in 0..6 {
        let mut removed = whole.clone();
        removed.remove(one);
        assert_eq!(named(&found(&removed)), [one as u64 + 1]);
        for other in 0..6 {
            let mut repeated = whole.clone();
            repeated.insert(other, whole[one].clone());
            assert!(
                named(&found(&repeated)).contains(&(one as u64 + 1)),
                "{one} before {other}"
            );
            if one != other {
                let mut swapped = whole.clone();
                swapped.swap(one, other);
                let verified = found(&swapped);
                assert!(
                    named(&verified).contains(&(one.min(other) as u64 + 1)),
                    "{one} with {other}: {:?}",
                    verified.findings
                );
                let mut replaced = whole.clone();
                replaced[one] = whole[other].clone();
                assert!(
                    named(&found(&replaced)).contains(&(one as u64 + 1)),
                    "{other} for {one}"
                );
            }
        }
        let mut inserted = whole.clone();
        inserted[one].extend_from_slice(b"no record");
        let findings = found(&inserted).findings;
        let before = one as u64 + 2;
        match one {
            // Nothing was acknowledged behind it.
            5 => assert_eq!(findings, []),
            _ => assert_eq!(findings, [Finding::Inserted { before }]),
        }
    }
}

#[test]
fn a_record_that_was_made_anew_with_its_hash_does_not_fit_the_next_one() {
    let first = written(1, 1 << 20);
    let went_on = |numbers: &[u64]| {
        let medium = medium(&first);
        let log = open(&medium, 1 << 20);
        for number in numbers {
            log.record(&message(*number)).unwrap();
        }
        log.close();
        let files = self::files(&medium);
        let log = records(&files.iter().find(|(path, _)| is_log(path)).unwrap().1);
        (files, log)
    };
    let (files, whole) = went_on(&[2, 3]);
    let (_, forged) = went_on(&[4711]);
    let with = |second: &Vec<u8>| {
        let records = [whole[0].clone(), second.clone(), whole[2].clone()];
        checked(&medium(&with_records(&files, &records))).findings
    };
    assert_eq!(with(&whole[1]), []);
    assert_eq!(with(&forged[1]), [Finding::Unchained { sequence: 3 }]);
}

#[test]
fn a_log_that_was_made_anew_as_a_whole_is_told_by_a_head_that_was_noted_down() {
    let real = medium(&written(5, 1 << 20));
    let head = checked(&real).head;
    let noted: AuditHead = head.to_string().parse().unwrap();
    let known = Known {
        head: Some(noted),
        after: None,
    };
    assert_eq!(verify_on(&real, &known).unwrap().findings, []);
    // More may have come since.
    let log = open(&real, 1 << 20);
    log.record(&message(6)).unwrap();
    log.close();
    assert_eq!(verify_on(&real, &known).unwrap().findings, []);

    let other = FaultyMedium::new(1);
    let log = open(&other, 1 << 20);
    for number in [1, 2, 33, 4, 5, 6] {
        log.record(&message(number)).unwrap();
    }
    log.close();
    assert_eq!(checked(&other).findings, []);
    assert_eq!(
        verify_on(&other, &known).unwrap().findings,
        [Finding::OtherHead { sequence: 5 }]
    );
    for bad in [
        "",
        "5",
        "5:",
        "x:00",
        &format!("{noted}0"),
        &format!("5:{}", "+1".repeat(32)),
    ] {
        assert_eq!(bad.parse::<AuditHead>().unwrap_err().kind(), ErrorKind::Invalid);
    }
}

#[test]
fn files_that_were_taken_away_on_purpose_are_missed_unless_it_is_said_where_the_log_begins() {
    let mut files = written(9, 1500);
    let at = files.iter().position(|(path, _)| is_log(path)).unwrap();
    let first = medium(&vec![files[at].clone()]);
    let taken = checked(&first);
    files.remove(at);
    let rest = medium(&files);
    let last = taken.head.sequence();
    assert_eq!(checked(&rest).findings, [Finding::Missing { first: 1, last }]);
    let known = |after| Known {
        head: None,
        after: Some(after),
    };
    assert_eq!(verify_on(&rest, &known(taken.head)).unwrap().findings, []);
    let other: AuditHead = format!("{last}:{}", "00".repeat(32)).parse().unwrap();
    assert_eq!(
        verify_on(&rest, &known(other)).unwrap().findings,
        [Finding::Unchained { sequence: last + 1 }]
    );
}

/// What is on the disk of a log with records 1 to `count`, of which so many were acknowledged.
fn acknowledged(acknowledged: u64, count: u64) -> Files {
    let medium = FaultyMedium::new(1);
    let log = open(&medium, 1 << 20);
    let mut head = Vec::new();
    for number in 1..=count {
        log.record(&message(number)).unwrap();
        if number == acknowledged {
            head = files(&medium);
            head.retain(|(path, _)| path == Path::new("head"));
        }
    }
    log.close();
    let mut files = files(&medium);
    files.retain(|(path, _)| path != Path::new("head"));
    files.extend(head);
    files
}

#[test]
fn a_record_that_was_never_acknowledged_may_be_torn_and_is_cut_off_and_said() {
    // As kill -9 leaves it: two are acknowledged, and of the third some is written.
    let files = acknowledged(2, 3);
    let log = files.iter().position(|(path, _)| is_log(path)).unwrap();
    let begin = places(&files[log].1)[2];
    for length in begin..files[log].1.len() {
        let mut torn = files.clone();
        torn[log].1.truncate(length);
        let medium = medium(&torn);
        let verified = checked(&medium);
        assert_eq!(
            (verified.findings, verified.torn_bytes),
            (vec![], (length - begin) as u64)
        );
        let log = open(&medium, 1 << 20);
        assert_eq!(log.recovered().torn_bytes, (length - begin) as u64);
        assert_eq!(log.recovered().findings, []);
        log.record(&message(3)).unwrap();
        log.close();
        let verified = checked(&medium);
        assert_eq!(
            (verified.records, verified.findings, verified.torn_bytes),
            (3, vec![], 0)
        );
    }
    // It was written whole, and only its acknowledgement is missing.
    let log = open(&medium(&files), 1 << 20);
    assert_eq!((log.recovered(), log.head().sequence()), (&Default::default(), 3));
}

#[test]
fn a_cut_into_what_was_acknowledged_is_not_taken_for_torn_and_stays_to_be_seen() {
    let files = written(3, 1 << 20);
    let at = files.iter().position(|(path, _)| is_log(path)).unwrap();
    for length in (0..files[at].1.len()).step_by(7) {
        let mut cut = files.clone();
        cut[at].1.truncate(length);
        let medium = medium(&cut);
        let log = open(&medium, 1 << 20);
        assert!(
            !log.recovered().findings.is_empty() && log.recovered().torn_bytes == 0,
            "cut to {length}"
        );
        log.record(&message(4)).unwrap();
        drop(log);
        // It goes on, what was left is untouched, and the gap is found ever after.
        let now = self::files(&medium);
        assert!(now.contains(&cut[at]));
        let verified = checked(&medium);
        assert_eq!(verified.head.sequence(), 4);
        assert!(
            named(&verified).contains(&3),
            "cut to {length}: {:?}",
            verified.findings
        );
        let log = open(&medium, 1 << 20);
        assert_eq!(*log.recovered(), Default::default());
    }
}

#[test]
fn damage_before_a_record_that_knows_of_it_is_not_taken_for_torn_even_without_the_head() {
    // The head is old, as after the loss of power: records behind it tell that those before them were durable.
    let files = acknowledged(2, 6);
    let at = files.iter().position(|(path, _)| is_log(path)).unwrap();
    let places = places(&files[at].1);
    for record in 3..6 {
        let mut damaged = files.clone();
        damaged[at].1[places[record - 1] + 70] ^= 1;
        let medium = medium(&damaged);
        assert_eq!(named(&checked(&medium)), [record as u64]);
        assert_eq!(open(&medium, 1 << 20).recovered().torn_bytes, 0);
    }
}

#[test]
fn whatever_is_done_to_a_larger_log_is_found() {
    let (runs, first) = (variable("PACS_DAMAGE_RUNS", 300), variable("PACS_SEED", 1));
    eprintln!("PACS_SEED={first} PACS_DAMAGE_RUNS={runs}");
    let whole = written(120, 12_000);
    for seed in first..first + runs {
        let mut random = Random::new(seed);
        let mut files = whole.clone();
        let logs: Vec<usize> = (0..files.len()).filter(|at| is_log(&files[*at].0)).collect();
        let file = *random.pick(&logs);
        let is_last = Some(&file) == logs.last();
        let bytes = &mut files[file].1;
        let length = bytes.len();
        let places = places(bytes);
        let a_place = |random: &mut Random, places: &[usize]| places[random.index(places.len() - 1)];
        let what = random.below(7);
        match what {
            0 => bytes[random.index(length)] ^= 1 << random.below(8),
            1 => bytes.truncate(random.index(length)),
            2 => {
                let begin = random.index(length);
                let end = begin + 1 + random.index(length - begin);
                bytes.drain(begin..end);
            }
            3 => {
                let begin = a_place(&mut random, &places);
                let end = *random.pick(&places[places.iter().position(|at| *at == begin).unwrap() + 1..]);
                bytes.drain(begin..end);
            }
            4 => {
                let piece: Vec<u8> = bytes[a_place(&mut random, &places)..].to_vec();
                let at = a_place(&mut random, &places);
                bytes.splice(at..at, piece);
            }
            5 => {
                // Never at the end, where something that was never acknowledged may stand.
                let at = random.index(length - 1);
                bytes.splice(at..at, [random.bits() as u8]);
            }
            _ if logs.len() > 1 => {
                let other = *random.pick(&logs);
                if other == file {
                    files.remove(file);
                } else {
                    let (one, two) = (files[file].1.clone(), files[other].1.clone());
                    (files[file].1, files[other].1) = (two, one);
                }
            }
            _ => {}
        }
        let verified = checked(&medium(&files));
        assert!(
            !verified.findings.is_empty(),
            "seed {seed}: {what} in the last {is_last}"
        );
    }
}

#[test]
fn what_was_acknowledged_before_a_death_is_there_and_no_death_is_taken_for_a_change() {
    let (runs, first) = (variable("PACS_FAULT_RUNS", 300), variable("PACS_SEED", 1));
    eprintln!("PACS_SEED={first} PACS_FAULT_RUNS={runs}");
    let (mut torn, mut kept) = (0, 0);
    for seed in first..first + runs {
        let mut random = Random::new(seed);
        let mut medium = FaultyMedium::new(seed);
        let (mut acknowledged, mut number) = (Vec::new(), 0);
        for _ in 0..3 {
            let options = AuditLogOptions {
                durability: *random.pick(&[Durability::Synced, Durability::Written]),
                ..options(*random.pick(&[1, 2_000, 1 << 20]))
            };
            let before = acknowledged.len();
            let opened = AuditLog::open_on(Arc::new(medium.clone()), source(), options);
            let log = opened.unwrap_or_else(|error| panic!("seed {seed}: {error:?}"));
            assert_eq!(log.recovered().findings, [], "seed {seed}");
            torn += u64::from(log.recovered().torn_bytes > 0);
            medium.set_faults(Faults {
                stop_after: Some(random.below(60)),
                short_write: *random.pick(&[0, 300]),
                ..Faults::default()
            });
            // Of each group many are written at once, so that several records may be torn together.
            while !medium.is_stopped() {
                let group: Vec<_> = (0..1 + random.below(8))
                    .map(|_| {
                        number += 1;
                        (number, log.submit(&message(number)))
                    })
                    .collect();
                for (number, submitted) in group {
                    if block_on(submitted).is_ok() {
                        acknowledged.push(number);
                    }
                }
            }
            let loss = *random.pick(&[Loss::Process, Loss::Machine]);
            medium = medium.crash(loss);
            drop(log);
            if (options.durability, loss) == (Durability::Written, Loss::Machine) {
                // Nobody was promised that these survive it.
                acknowledged.truncate(before);
            }
            let verified = checked(&medium);
            assert_eq!(verified.findings, [], "seed {seed}: {loss:?}");
        }
        let log = AuditLog::open_on(Arc::new(medium.clone()), source(), options(1 << 20)).unwrap();
        let documents: Vec<String> = log
            .read(0, usize::MAX)
            .unwrap()
            .into_iter()
            .map(|record| String::from_utf8(record.document.to_vec()).unwrap())
            .collect();
        let mut from = documents.iter();
        for number in &acknowledged {
            let wanted = document(*number);
            assert!(
                from.any(|found| *found == wanted),
                "seed {seed}: {number} is lost, or not in its order"
            );
        }
        kept += acknowledged.len();
    }
    eprintln!("{kept} acknowledged records are there; {torn} openings found a torn end");
    assert!(torn > 0 && kept > 0);
}

#[test]
fn a_disk_that_fails_for_a_while_loses_nothing_that_was_acknowledged_and_is_no_change() {
    let (runs, first) = (variable("PACS_FAULT_RUNS", 200), variable("PACS_SEED", 1));
    eprintln!("PACS_SEED={first} PACS_FAULT_RUNS={runs}");
    for seed in first..first + runs {
        let mut random = Random::new(seed);
        let medium = FaultyMedium::new(seed);
        let durability = *random.pick(&[Durability::Synced, Durability::Written]);
        let options = AuditLogOptions {
            durability,
            ..options(*random.pick(&[1, 2_000, 1 << 20]))
        };
        let log = AuditLog::open_on(Arc::new(medium.clone()), source(), options).unwrap();
        let mut rate = || *random.pick(&[0, 0, 100, 400]);
        medium.set_faults(Faults {
            write: rate(),
            sync: rate(),
            other: rate(),
            short_write: rate(),
            ..Faults::default()
        });
        let mut acknowledged: Vec<u64> = (1..60)
            .filter(|number| log.record(&message(*number)).is_ok())
            .collect();
        medium.set_faults(Faults::default());
        log.record(&message(60))
            .unwrap_or_else(|error| panic!("seed {seed}: {error:?}"));
        acknowledged.push(60);
        log.close();
        let kept: Vec<_> = log
            .read(0, usize::MAX)
            .unwrap()
            .into_iter()
            .map(|record| record.document)
            .collect();
        let wanted: Vec<_> = acknowledged.iter().map(|number| document(*number)).collect();
        assert_eq!(kept, wanted, "seed {seed}");
        let log = AuditLog::open_on(Arc::new(medium.crash(Loss::Process)), source(), options).unwrap();
        assert_eq!(*log.recovered(), Default::default(), "seed {seed}");
        let verified = checked(&medium.crash(Loss::Process));
        assert_eq!(verified.findings, [], "seed {seed}");
    }
}

#[test]
fn a_log_that_is_as_large_as_it_may_be_refuses_and_drops_nothing() {
    let medium = FaultyMedium::new(1);
    let options = AuditLogOptions {
        limit_bytes: Some(5000),
        ..options(2000)
    };
    let log = AuditLog::open_on(Arc::new(medium.clone()), source(), options).unwrap();
    let refused = (1..).find_map(|number| log.record(&message(number)).err().map(|error| (number, error)));
    let (number, error) = refused.unwrap();
    assert_eq!(error.kind(), ErrorKind::OutOfResources);
    log.close();
    let verified = checked(&medium);
    assert_eq!((verified.records, verified.findings), (number - 1, vec![]));
    let bytes: usize = files(&medium)
        .iter()
        .filter(|(path, _)| is_log(path))
        .map(|(_, bytes)| bytes.len())
        .sum();
    assert!(bytes <= 5000 && bytes > 4000, "{bytes}");
}

#[test]
fn the_documents_of_one_message_are_kept_together_or_not_at_all() {
    use pacs_core::audit::{Action, Patient, Study, Subject};
    let studies = (0..500).map(|number| Study::new(pacs_core::Uid::parse(&format!("1.2.{number}")).unwrap()));
    let subject = Subject::new(Patient::new("P", "N"), studies);
    let message = Message::instances_accessed(Action::Read, [Participant::person("u")], subject);
    let documents = message.documents(&source());
    assert!(documents.len() > 2);
    let medium = FaultyMedium::new(1);
    let log = open(&medium, 1 << 20);
    medium.set_faults(Faults {
        fail_after: Some(1),
        ..Faults::default()
    });
    log.record(&message).unwrap_err();
    assert_eq!(log.read(0, 10).unwrap(), []);
    log.record(&message).unwrap();
    let kept: Vec<_> = log
        .read(0, 10)
        .unwrap()
        .into_iter()
        .map(|record| record.document)
        .collect();
    assert_eq!(kept, documents);
}

#[test]
fn what_others_hand_in_is_taken_into_the_chain_in_its_order_and_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit");
    let log = AuditLog::open(&path, source(), options(64 << 20)).unwrap();
    assert_eq!(log.take_in().unwrap(), 0);
    let beside = HandIn::new(&path, source());
    log.record(&message(1)).unwrap();
    for number in 2..=4 {
        beside.record(&message(number)).unwrap();
    }
    assert_eq!(verify(&path, &Known::default()).unwrap().records, 1);
    assert_eq!(log.take_in().unwrap(), 3);
    assert_eq!(log.take_in().unwrap(), 0);
    // Left while nobody has the log open.
    log.close();
    drop(log);
    beside.record(&message(5)).unwrap();
    let log = AuditLog::open(&path, source(), options(64 << 20)).unwrap();
    assert_eq!(log.take_in().unwrap(), 1);
    let records = read(&path, 0, 10).unwrap();
    let documents: Vec<_> = records
        .iter()
        .map(|record| String::from_utf8_lossy(&record.document).into_owned())
        .collect();
    assert_eq!(documents, (1..=5).map(document).collect::<Vec<_>>());
    assert_eq!(verify(&path, &Known::default()).unwrap().findings_count, 0);
}
