//! What a scan promises.

use super::*;

/// See its name.
pub fn a_scan_from_zero_yields_every_instance_that_is_kept(place: &dyn ArchivePlace) {
    let archive = place.open();
    let mut kept: Vec<_> = (0..300)
        .map(|n| keep(&*archive, n, if n % 50 == 0 { 1_200_000 } else { 200 }))
        .map(|(key, _, stored)| (key, stored))
        .collect();
    let mut found = instances(&*archive, Sequence(0));
    if archive.capability().ordered_scan {
        assert_eq!(found, kept);
    }
    found.sort_by_key(|(key, _)| *key);
    kept.sort_by_key(|(key, _)| *key);
    assert_eq!(keys_and_lengths(&found), keys_and_lengths(&kept));
}

/// See its name.
pub fn a_scan_yields_what_came_after_a_sequence_in_ascending_order(place: &dyn ArchivePlace) {
    let archive = place.open();
    if !ordered(
        &*archive,
        "a scan yields what came after a sequence in ascending order",
    ) {
        return;
    }
    let kept: Vec<_> = (0..60)
        .map(|n| keep(&*archive, n, FILLINGS[n as usize % 5]))
        .map(|(key, _, stored)| (key, stored))
        .collect();
    for skip in 0..=kept.len() {
        let after = match skip {
            0 => Sequence(0),
            skip => kept[skip - 1].1.sequence,
        };
        assert_eq!(instances(&*archive, after), kept[skip..]);
    }
    assert_eq!(scan(&*archive, Sequence(u64::MAX)), []);
}

/// See its name.
pub fn a_scan_yields_removals_after_a_sequence(place: &dyn ArchivePlace) {
    let archive = place.open();
    if !ordered(&*archive, "a scan yields removals after a sequence") {
        return;
    }
    let (one, _, first) = keep(&*archive, 1, 1_200_000);
    let (_, _, second) = keep(&*archive, 2, 100);
    let sequence = block_on(archive.remove(&one.instance, &first.locator)).expect("is removed");
    let removed = Entry::Removed {
        instance: one.instance,
        locator: first.locator,
        sequence,
    };
    let kept = Entry::Stored(key(2), second.clone());
    assert_eq!(scan(&*archive, Sequence(0)), [kept, removed.clone()]);
    assert_eq!(scan(&*archive, second.sequence), [removed]);
    assert_eq!(scan(&*archive, sequence), []);
}

/// See its name.
pub fn two_commits_of_one_instance_are_both_yielded(place: &dyn ArchivePlace) {
    let archive = place.open();
    let (first, second) = (part10(&key(1), 1000, 1), part10(&key(1), 2000, 2));
    let stored = [&first, &second].map(|bytes| {
        block_on(async { begin(&*archive, bytes, 16_000).await?.commit(key(1)).await }).expect("is kept")
    });
    assert_ne!(stored[0].locator, stored[1].locator);
    assert_eq!(read_all(&*archive, &stored[0]), first);
    assert_eq!(read_all(&*archive, &stored[1]), second);
    let found = instances(&*archive, Sequence(0));
    assert!(found.iter().all(|(found, _)| *found == key(1)));
    let lengths: Vec<_> = found.iter().map(|(_, stored)| stored.length).collect();
    assert_eq!(lengths.len(), 2);
    assert!(lengths.contains(&stored[0].length) && lengths.contains(&stored[1].length));
    // Removing one leaves the other.
    block_on(archive.remove(&key(1).instance, &stored[0].locator)).expect("is removed");
    assert_eq!(read_all(&*archive, &stored[1]), second);
    assert_eq!(instances(&*archive, Sequence(0)).len(), 1);
}

/// See its name.
pub fn a_scan_can_begin_after_any_sequence_whatever_was_hinted(place: &dyn ArchivePlace) {
    let archive = place.open();
    if !ordered(
        &*archive,
        "a scan can begin after any sequence, whatever was hinted",
    ) {
        return;
    }
    let mut kept = Vec::new();
    for n in 0..10 {
        let (key, _, stored) = keep(&*archive, n, FILLINGS[n as usize % 6]);
        kept.push((key, stored));
        let hint = kept[kept.len() / 2].1.sequence;
        block_on(archive.indexed(hint)).expect("takes the hint");
        for (skip, (_, stored)) in kept.iter().enumerate() {
            assert_eq!(instances(&*archive, stored.sequence), kept[skip + 1..]);
        }
        assert_eq!(instances(&*archive, Sequence(0)), kept);
    }
}
