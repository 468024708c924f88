//! What reading and verifying promise.

use super::*;

/// See its name.
pub fn a_committed_instance_is_read_back_byte_for_byte(place: &dyn ArchivePlace) {
    let archive = place.open();
    // Chunks as senders make them: a byte, a fragment, a PDU, all at once.
    for (n, chunk) in (0..).zip([1, 100, 16_378, 131_072, usize::MAX >> 1]) {
        for (m, filling) in (0..).zip(FILLINGS) {
            if chunk == 1 && filling > 10_000 {
                continue;
            }
            let key = key(n * 10 + m);
            let bytes = part10(&key, filling, n);
            let stored = block_on(async { begin(&*archive, &bytes, chunk).await?.commit(key).await })
                .expect("is kept");
            assert_eq!(stored.length, bytes.len() as u64);
            assert_eq!(read_all(&*archive, &stored), bytes);
        }
    }
}

/// See its name.
pub fn the_pieces_of_a_range_joined_are_exactly_that_range(place: &dyn ArchivePlace) {
    let archive = place.open();
    for (n, filling) in (1..).zip([5_000, 1_200_000]) {
        let (_, bytes, stored) = keep(&*archive, n, filling);
        let length = bytes.len();
        let chunk = READ_CHUNK_BYTES.min(length - 1);
        for (start, end) in [
            (0, 1),
            (1, 2),
            (0, chunk),
            (chunk, length),
            (chunk - 1, chunk + 1),
            (length - 1, length),
            (0, length - 1),
            (1, length),
        ] {
            let part = read(&*archive, &stored.locator, start as u64..end as u64).expect("is read");
            assert_eq!(part, bytes[start..end]);
        }
    }
}

/// See its name.
pub fn what_is_read_unchecked_is_what_is_read(place: &dyn ArchivePlace) {
    let archive = place.open();
    for (n, filling) in (1..).zip([0, 5_000, 1_200_000]) {
        let (_, bytes, stored) = keep(&*archive, n, filling);
        let length = bytes.len();
        for (start, end) in [
            (0, length),
            (0, length / 2),
            (length / 3, length + 1),
            (length, length + 1),
            (1, 1),
        ] {
            let range = start as u64..end as u64;
            let pieces = archive.read_unchecked(&stored.locator, range.clone());
            let unchecked: Vec<Bytes> = block_on(pieces.try_collect()).expect("is read");
            let checked = read(&*archive, &stored.locator, range).expect("is read");
            assert_eq!(unchecked.concat(), checked);
        }
    }
}

/// See its name.
pub fn a_range_that_reaches_past_the_end_yields_what_there_is(place: &dyn ArchivePlace) {
    let archive = place.open();
    let (_, bytes, stored) = keep(&*archive, 1, 700_000);
    let part = read(&*archive, &stored.locator, 100..u64::MAX).expect("is read");
    assert_eq!(part, bytes[100..]);
    let part = read(&*archive, &stored.locator, stored.length..stored.length + 9).expect("is read");
    assert!(part.is_empty());
    let part = read(&*archive, &stored.locator, u64::MAX - 1..u64::MAX).expect("is read");
    assert!(part.is_empty());
}

/// See its name.
pub fn an_empty_range_yields_nothing(place: &dyn ArchivePlace) {
    let archive = place.open();
    let (_, _, stored) = keep(&*archive, 1, 5_000);
    for at in [0, 17, stored.length] {
        let items = block_on(archive.read(&stored.locator, at..at).collect::<Vec<_>>());
        assert!(items.is_empty());
    }
}

/// See its name.
pub fn pieces_are_of_bounded_size(place: &dyn ArchivePlace) {
    let archive = place.open();
    let (_, bytes, stored) = keep(&*archive, 1, 3_000_000);
    let pieces: Vec<Bytes> =
        block_on(archive.read(&stored.locator, 0..stored.length).try_collect()).expect("is read");
    assert!(
        pieces
            .iter()
            .all(|piece| !piece.is_empty() && piece.len() <= READ_CHUNK_BYTES)
    );
    assert_eq!(pieces.concat(), bytes);
}

/// See its name.
pub fn reading_what_is_not_kept_is_not_found_as_the_first_item(place: &dyn ArchivePlace) {
    let archive = place.open();
    let (key, _, stored) = keep(&*archive, 1, 5_000);
    block_on(archive.remove(&key.instance, &stored.locator)).expect("is removed");
    let items = block_on(
        archive
            .read(&stored.locator, 0..stored.length)
            .collect::<Vec<_>>(),
    );
    assert_eq!(items.len(), 1);
    assert_eq!(
        items.into_iter().map(kind_of).next(),
        Some(Some(ErrorKind::NotFound))
    );
}

/// See its name.
pub fn a_locator_of_somebody_else_is_not_found(place: &dyn ArchivePlace) {
    let archive = place.open();
    let (_, _, stored) = keep(&*archive, 1, 5_000);
    let mut strange = vec![Vec::new(), b"x".to_vec(), vec![0xFF; LOCATOR_LENGTH_MAX_BYTES]];
    for length in [8, 16, 24, 32] {
        strange.push(vec![0xFF; length]);
        strange.push(vec![0; length]);
    }
    for path in ["../../../../etc/passwd", "/etc/passwd", "..", "."] {
        strange.push(path.as_bytes().to_vec());
    }
    // One's own, too short or too long.
    strange.push(stored.locator.as_bytes()[1..].to_vec());
    strange.push([stored.locator.as_bytes(), b"/"].concat());
    for bytes in strange {
        let locator = Locator::new(&bytes);
        let found = kind_of(read(&*archive, &locator, 0..10));
        assert_eq!(found, Some(ErrorKind::NotFound), "{locator:?}");
        let found = kind_of(block_on(archive.verify(&locator)));
        assert_eq!(found, Some(ErrorKind::NotFound), "{locator:?}");
        block_on(archive.remove(&key(1).instance, &locator)).expect("removing it succeeds");
    }
    assert_eq!(kind_of(block_on(archive.verify(&stored.locator))), None);
}

/// See its name.
pub fn a_locator_is_short(place: &dyn ArchivePlace) {
    let archive = place.open();
    let longest = Uid::parse(&"1".repeat(64)).expect("64 digits");
    let key = InstanceKey {
        study: longest,
        series: longest,
        instance: longest,
    };
    let bytes = part10(&key, 100, 1);
    let stored = block_on(async { begin(&*archive, &bytes, 1000).await?.commit(key).await });
    let stored = stored.expect("is kept");
    assert!(stored.locator.as_bytes().len() <= LOCATOR_LENGTH_MAX_BYTES);
    assert_eq!(read_all(&*archive, &stored), bytes);
}

/// See its name.
pub fn dropping_a_stream_stops_reading(place: &dyn ArchivePlace) {
    let archive = place.open();
    let (_, bytes, stored) = keep(&*archive, 1, 3_000_000);
    for _ in 0..20 {
        let mut stream = archive.read(&stored.locator, 0..stored.length);
        let first = block_on(stream.next()).expect("a piece").expect("is read");
        assert!(bytes.starts_with(&first));
        let mut never_polled_to_its_end = archive.read(&stored.locator, 0..stored.length);
        let _ = poll_immediate(never_polled_to_its_end.next()).now_or_never();
    }
    assert_eq!(read_all(&*archive, &stored), bytes);
}

/// See its name.
pub fn a_whole_instance_verifies(place: &dyn ArchivePlace) {
    let archive = place.open();
    for (n, filling) in (1..).zip(FILLINGS) {
        let (_, _, stored) = keep(&*archive, n, filling);
        block_on(archive.verify(&stored.locator)).expect("is whole");
    }
}

/// See its name.
pub fn verifying_what_is_not_kept_is_not_found(place: &dyn ArchivePlace) {
    let archive = place.open();
    let (key, _, stored) = keep(&*archive, 1, 1_200_000);
    block_on(archive.remove(&key.instance, &stored.locator)).expect("is removed");
    let found = kind_of(block_on(archive.verify(&stored.locator)));
    assert_eq!(found, Some(ErrorKind::NotFound));
}
