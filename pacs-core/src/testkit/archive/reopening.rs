//! What is promised over a reopening.

use super::*;

/// See its name.
pub fn what_was_committed_is_there_after_reopening(place: &dyn ArchivePlace) {
    let mut archive = place.open();
    if !durable(&*archive, "what was committed is there after reopening") {
        return;
    }
    let mut kept = Vec::new();
    for round in 0..4_u64 {
        for (n, filling) in (0..).zip(FILLINGS) {
            let (key, bytes, stored) = keep(&*archive, round * 10 + n, filling);
            kept.push((key, bytes, stored));
        }
        if round == 2 {
            let hint = kept[kept.len() - 3].2.sequence;
            block_on(archive.indexed(hint)).expect("takes the hint");
        }
        drop(archive);
        archive = place.open();
        for (_, bytes, stored) in &kept {
            assert_eq!(read_all(&*archive, stored), bytes);
            block_on(archive.verify(&stored.locator)).expect("is whole");
        }
        let mut found = keys_and_lengths(&instances(&*archive, Sequence(0)));
        found.sort();
        let mut expected: Vec<_> = kept
            .iter()
            .map(|(key, _, stored)| (*key, stored.locator.clone(), stored.length))
            .collect();
        expected.sort();
        assert_eq!(found, expected);
    }
}

/// See its name.
pub fn what_was_removed_is_gone_after_reopening(place: &dyn ArchivePlace) {
    let archive = place.open();
    if !durable(&*archive, "what was removed is gone after reopening") {
        return;
    }
    let kept: Vec<_> = (0..6).map(|n| keep(&*archive, n, FILLINGS[n as usize])).collect();
    for (key, _, stored) in &kept[..3] {
        block_on(archive.remove(&key.instance, &stored.locator)).expect("is removed");
    }
    block_on(archive.indexed(kept[5].2.sequence)).expect("takes the hint");
    for (key, _, stored) in &kept[3..] {
        block_on(archive.remove(&key.instance, &stored.locator)).expect("is removed");
    }
    drop(archive);
    let archive = place.open();
    assert_eq!(instances(&*archive, Sequence(0)), []);
    for (_, _, stored) in &kept {
        let found = kind_of(read(&*archive, &stored.locator, 0..1));
        assert_eq!(found, Some(ErrorKind::NotFound));
    }
}

/// See its name.
pub fn sequences_go_on_after_reopening(place: &dyn ArchivePlace) {
    let mut archive = place.open();
    if !durable(&*archive, "sequences go on after reopening")
        || !ordered(&*archive, "sequences go on after reopening")
    {
        return;
    }
    let mut last = Sequence(0);
    for n in 0..6 {
        let (key, _, stored) = keep(&*archive, n, FILLINGS[n as usize % 6]);
        assert!(stored.sequence > last);
        last = stored.sequence;
        if n % 2 == 0 {
            last = block_on(archive.remove(&key.instance, &stored.locator)).expect("is removed");
        }
        if n % 3 == 0 {
            block_on(archive.indexed(last)).expect("takes the hint");
        }
        drop(archive);
        archive = place.open();
        assert_eq!(scan(&*archive, last), []);
    }
}

/// See its name.
pub fn what_was_not_committed_is_not_there_after_reopening(place: &dyn ArchivePlace) {
    let archive = place.open();
    if !durable(&*archive, "what was not committed is not there after reopening") {
        return;
    }
    let (_, bytes, stored) = keep(&*archive, 1, 5_000);
    let open: Vec<_> = FILLINGS
        .map(|filling| block_on(begin(&*archive, &part10(&key(2), filling, 2), 16_000)).expect("is written"))
        .into();
    drop(archive);
    drop(open);
    let archive = place.open();
    assert_eq!(keys_and_lengths(&instances(&*archive, Sequence(0))).len(), 1);
    assert_eq!(read_all(&*archive, &stored), bytes);
    let (_, bytes, stored) = keep(&*archive, 3, 1_200_000);
    assert_eq!(read_all(&*archive, &stored), bytes);
}

/// See its name.
pub fn the_last_sequence_is_not_before_any_that_was_given_also_after_reopening(place: &dyn ArchivePlace) {
    let mut archive = place.open();
    if archive.last_sequence().is_none() {
        return;
    }
    let last = |archive: &dyn Archive| archive.last_sequence().expect("it can tell");
    for round in 0..3 {
        let (key, _, stored) = keep(&*archive, round, FILLINGS[round as usize]);
        assert!(last(&*archive) >= stored.sequence);
        let mut given = stored.sequence;
        if round > 0 {
            given = block_on(archive.remove(&key.instance, &stored.locator)).expect("is removed");
            assert!(last(&*archive) >= given);
        }
        if archive.capability().durable {
            drop(archive);
            archive = place.open();
            assert!(last(&*archive) >= given);
        }
    }
}
