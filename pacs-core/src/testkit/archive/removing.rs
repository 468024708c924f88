//! What removal promises.

use super::*;

/// See its name.
pub fn sequences_grow_with_every_commit_and_removal(place: &dyn ArchivePlace) {
    let archive = place.open();
    let mut last = Sequence(0);
    for n in 0..20 {
        let (key, _, stored) = keep(&*archive, n, if n % 3 == 0 { 1_200_000 } else { 100 });
        assert!(stored.sequence > last);
        last = stored.sequence;
        if n % 4 == 0 {
            let sequence = block_on(archive.remove(&key.instance, &stored.locator)).expect("is removed");
            assert!(sequence > last);
            last = sequence;
        }
    }
}

/// See its name.
pub fn a_removed_instance_is_not_found(place: &dyn ArchivePlace) {
    let archive = place.open();
    for (n, filling) in (1..).zip(FILLINGS) {
        let (key, bytes, stored) = keep(&*archive, n, filling);
        // A stream that was begun before ends with the removal, or yields what was written.
        let mut stream = archive.read(&stored.locator, 0..stored.length);
        let first = block_on(stream.next());
        block_on(archive.remove(&key.instance, &stored.locator)).expect("is removed");
        let rest = block_on(stream.try_collect::<Vec<_>>());
        if let (Some(Ok(first)), Ok(rest)) = (first, &rest) {
            assert_eq!([&[first], rest.as_slice()].concat().concat(), bytes);
        } else {
            assert_eq!(kind_of(rest), Some(ErrorKind::NotFound));
        }
        let found = kind_of(read(&*archive, &stored.locator, 0..stored.length));
        assert_eq!(found, Some(ErrorKind::NotFound));
        let found = kind_of(block_on(archive.verify(&stored.locator)));
        assert_eq!(found, Some(ErrorKind::NotFound));
    }
    assert_eq!(instances(&*archive, Sequence(0)), []);
}

/// See its name.
pub fn removing_what_is_not_there_succeeds(place: &dyn ArchivePlace) {
    let archive = place.open();
    let (key, _, stored) = keep(&*archive, 1, 5_000);
    for _ in 0..3 {
        block_on(archive.remove(&key.instance, &stored.locator)).expect("is removed");
    }
    let twice = [&key.instance; 2].map(|instance| archive.remove(instance, &stored.locator));
    assert!(block_on(join_all(twice)).iter().all(Result::is_ok));
}

/// See its name.
pub fn removing_one_instance_leaves_the_others(place: &dyn ArchivePlace) {
    let archive = place.open();
    let kept: Vec<_> = (0..12)
        .map(|n| keep(&*archive, n, FILLINGS[n as usize % 6]))
        .collect();
    for (key, _, stored) in kept.iter().step_by(2) {
        block_on(archive.remove(&key.instance, &stored.locator)).expect("is removed");
    }
    for (_, bytes, stored) in kept.iter().skip(1).step_by(2) {
        assert_eq!(read_all(&*archive, stored), bytes);
    }
    let left: Vec<_> = kept
        .iter()
        .skip(1)
        .step_by(2)
        .map(|(key, _, stored)| (*key, stored.clone()))
        .collect();
    let mut found = instances(&*archive, Sequence(0));
    found.sort_by_key(|(key, _)| *key);
    let mut left = left;
    left.sort_by_key(|(key, _)| *key);
    assert_eq!(keys_and_lengths(&found), keys_and_lengths(&left));
}
