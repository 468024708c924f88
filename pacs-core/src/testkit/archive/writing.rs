//! What writing, committing and aborting promise.

use super::*;

/// See its name.
pub fn nothing_of_an_instance_is_seen_before_its_commit(place: &dyn ArchivePlace) {
    let archive = place.open();
    for (n, filling) in (1..).zip(FILLINGS) {
        let bytes = part10(&key(n), filling, n);
        let writer = block_on(begin(&*archive, &bytes, 10_000)).expect("is written");
        assert!(
            !instances(&*archive, Sequence(0))
                .iter()
                .any(|(found, _)| *found == key(n))
        );
        let stored = block_on(writer.commit(key(n))).expect("is kept");
        assert_eq!(read_all(&*archive, &stored), bytes);
    }
}

/// See its name.
pub fn an_instance_of_no_bytes_is_kept_like_any_other(place: &dyn ArchivePlace) {
    let archive = place.open();
    let writer = block_on(archive.begin()).expect("begins");
    let stored = block_on(writer.commit(key(1))).expect("is kept");
    assert_eq!(stored.length, 0);
    assert!(read_all(&*archive, &stored).is_empty());
    assert_eq!(kind_of(block_on(archive.verify(&stored.locator))), None);
}

/// See its name.
pub fn an_aborted_instance_leaves_nothing(place: &dyn ArchivePlace) {
    let archive = place.open();
    for filling in FILLINGS {
        let bytes = part10(&key(1), filling, 1);
        let writer = block_on(begin(&*archive, &bytes, 16_000)).expect("is written");
        block_on(writer.abort()).expect("aborts");
    }
    assert_eq!(scan(&*archive, Sequence(0)), []);
    let (_, bytes, stored) = keep(&*archive, 2, 400_000);
    assert_eq!(read_all(&*archive, &stored), bytes);
    let found = instances(&*archive, Sequence(0));
    assert_eq!(
        keys_and_lengths(&found),
        [(key(2), stored.locator, stored.length)]
    );
}

/// See its name.
pub fn a_writer_dropped_without_commit_leaves_nothing(place: &dyn ArchivePlace) {
    let archive = place.open();
    for filling in FILLINGS {
        let bytes = part10(&key(1), filling, 1);
        drop(block_on(begin(&*archive, &bytes, 16_000)).expect("is written"));
    }
    assert_eq!(scan(&*archive, Sequence(0)), []);
    let (_, bytes, stored) = keep(&*archive, 2, 400_000);
    assert_eq!(read_all(&*archive, &stored), bytes);
}

/// See its name.
pub fn a_commit_that_was_never_polled_leaves_nothing(place: &dyn ArchivePlace) {
    let archive = place.open();
    for filling in FILLINGS {
        let bytes = part10(&key(1), filling, 1);
        let writer = block_on(begin(&*archive, &bytes, 16_000)).expect("is written");
        drop(writer.commit(key(1)));
    }
    assert_eq!(scan(&*archive, Sequence(0)), []);
}

/// See its name.
pub fn a_commit_goes_on_when_its_future_is_dropped_after_its_first_poll(place: &dyn ArchivePlace) {
    let archive = place.open();
    for (n, filling) in (1..).zip(FILLINGS) {
        let bytes = part10(&key(n), filling, n);
        let writer = block_on(begin(&*archive, &bytes, 16_000)).expect("is written");
        let mut commit = writer.commit(key(n));
        let _ = commit.as_mut().poll(&mut Context::from_waker(&noop_waker()));
        drop(commit);
        // Nobody tells when it is done; it must be soon.
        let find = |_| {
            std::thread::yield_now();
            let found = instances(&*archive, Sequence(0));
            found.into_iter().find(|(found, _)| *found == key(n))
        };
        let (_, stored) = (0..100_000).find_map(find).expect("the dropped commit went on");
        assert_eq!(read_all(&*archive, &stored), bytes);
    }
}

/// See its name.
pub fn commits_at_the_same_time_are_all_kept(place: &dyn ArchivePlace) {
    let archive = place.open();
    let expected: Vec<_> = (0..40)
        .map(|n| (key(n), part10(&key(n), FILLINGS[n as usize % 5], n)))
        .collect();
    let stored = block_on(async {
        let mut commits = Vec::new();
        for (key, bytes) in &expected {
            commits.push(begin(&*archive, bytes, 50_000).await?.commit(*key));
        }
        join_all(commits).await.into_iter().collect::<Result<Vec<_>>>()
    })
    .expect("all are kept");
    for ((_, bytes), stored) in expected.iter().zip(&stored) {
        assert_eq!(read_all(&*archive, stored), bytes);
    }
    let mut sequences: Vec<_> = stored.iter().map(|stored| stored.sequence).collect();
    sequences.sort();
    sequences.dedup();
    assert_eq!(sequences.len(), expected.len());
    assert_eq!(instances(&*archive, Sequence(0)).len(), expected.len());
}

/// See its name.
pub fn many_writers_and_readers_at_once_see_whole_instances(place: &dyn ArchivePlace) {
    let archive = place.open();
    std::thread::scope(|threads| {
        for thread in 0..6_u64 {
            let archive = &*archive;
            threads.spawn(move || {
                for i in 0..12 {
                    let n = thread * 100 + i;
                    let (key, bytes, stored) = keep(archive, n, FILLINGS[(thread + i) as usize % 6]);
                    assert_eq!(read_all(archive, &stored), bytes);
                    if i % 3 == 0 {
                        block_on(archive.remove(&key.instance, &stored.locator)).expect("is removed");
                    }
                    if i % 5 == 0 {
                        for (_, stored) in instances(archive, Sequence(0)) {
                            let found = kind_of(block_on(archive.verify(&stored.locator)));
                            // Another thread may have removed it meanwhile.
                            assert!(matches!(found, None | Some(ErrorKind::NotFound)));
                        }
                    }
                }
            });
        }
    });
    assert_eq!(instances(&*archive, Sequence(0)).len(), 6 * 8);
}

/// See its name.
pub fn a_writer_outlives_its_archive_without_harm(place: &dyn ArchivePlace) {
    let archive = place.open();
    let (_, _, stored) = keep(&*archive, 1, 3_000_000);
    let mut stream = archive.read(&stored.locator, 0..stored.length);
    let _ = block_on(stream.next());
    let mut small = block_on(begin(&*archive, &part10(&key(2), 100, 2), 100)).expect("is written");
    let large = block_on(begin(&*archive, &part10(&key(3), 3_000_000, 3), 16_000)).expect("is written");
    drop(archive);
    // Each ends, one way or the other.
    let _ = block_on(stream.collect::<Vec<_>>());
    let _ = block_on(small.write(Bytes::from_static(&[0; 100])));
    let _ = block_on(small.commit(key(2)));
    let _ = block_on(large.abort());
}
