//! What is promised of bytes that changed where they lie.

use super::*;

/// See its name.
pub fn verifying_finds_a_changed_byte_and_its_neighbours_whole(place: &dyn ArchivePlace) {
    let mut archive = place.open();
    let kept: Vec<_> = (0..)
        .zip(FILLINGS)
        .map(|(n, filling)| keep(&*archive, n, filling))
        .collect();
    let mut damaged = Vec::new();
    // Every other one, so that each has a whole neighbour; short ones are too much alike to be told apart.
    for at in [2, 4] {
        let (_, bytes, stored) = &kept[at];
        let middle = bytes.len() / 2;
        if !place.damage(&bytes.slice(middle..middle + 64)) {
            skip(
                "verifying finds a changed byte and its neighbours whole",
                "the place says that it can't change what is stored, or that the archive can't tell",
            );
            return;
        }
        damaged.push(stored.locator.clone());
    }
    for reopened in [false, true] {
        if reopened {
            if !durable(&*archive, "verifying finds a changed byte after reopening") {
                return;
            }
            drop(archive);
            archive = place.open();
        }
        for (_, bytes, stored) in &kept {
            let found = kind_of(block_on(archive.verify(&stored.locator)));
            let is_damaged = damaged.contains(&stored.locator);
            // What was damaged in the newest of a log may be set aside by an opening: it could be torn.
            let expected = match found {
                Some(ErrorKind::Corrupt) => is_damaged,
                Some(ErrorKind::NotFound) => is_damaged && reopened,
                Some(_) => false,
                None => !is_damaged,
            };
            assert!(
                expected,
                "{} bytes, damaged: {is_damaged}, reopened: {reopened}, verified: {found:?}",
                bytes.len()
            );
            if !is_damaged {
                assert_eq!(read_all(&*archive, stored), bytes);
            }
        }
    }
}

/// See its name.
pub fn mending_what_is_whole_changes_nothing_and_what_is_not_kept_is_not_found(place: &dyn ArchivePlace) {
    let archive = place.open();
    let kept: Vec<_> = (0..)
        .zip(FILLINGS)
        .map(|(n, filling)| keep(&*archive, n, filling))
        .collect();
    let before = scan(&*archive, Sequence(0));
    for (_, bytes, stored) in &kept {
        assert!(!block_on(archive.mend(&stored.locator)).expect("is whole"));
        assert_eq!(read_all(&*archive, stored), bytes);
    }
    assert_eq!(scan(&*archive, Sequence(0)), before);
    let (key, _, stored) = &kept[1];
    block_on(archive.remove(&key.instance, &stored.locator)).expect("is removed");
    let found = kind_of(block_on(archive.mend(&stored.locator)));
    assert_eq!(found, Some(ErrorKind::NotFound));
}
