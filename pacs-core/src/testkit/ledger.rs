//! The ledger's promises: each is a sentence of [`Ledger`], and each sentence a test.
//!
//! A backend runs them all by [`ledger_conformance!`](crate::ledger_conformance). Random tests print their
//! seed when they fail; `PACS_SEED` and `PACS_ROUNDS` in the environment repeat or extend them.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::executor::block_on;
use futures::future::join_all;
use futures::{FutureExt, TryStreamExt};

use super::random::{Random, rounds};
use crate::ledger::{Key, Ledger, LedgerExt, Step};
use crate::limits;

/// A place that holds a ledger. Opening it again, after what was opened is dropped, finds what was kept there; a
/// place in memory gives the same one again.
pub trait LedgerPlace {
    /// The ledger of this place.
    fn open(&self) -> Arc<dyn Ledger>;

    /// Whether there is such a place on this machine. Where there is none, nothing is tested; who says no says why.
    fn is_there(&self) -> bool {
        true
    }
}

impl<F: Fn() -> Arc<dyn Ledger>> LedgerPlace for F {
    fn open(&self) -> Arc<dyn Ledger> {
        self()
    }
}

/// Makes one `#[test]` of each promise, in a module `$name`; `$place` is an expression for a new, empty
/// [`LedgerPlace`].
#[macro_export]
macro_rules! ledger_conformance {
    ($name:ident, $place:expr) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;
            $crate::ledger_conformance!(@each $place,
                what_was_applied_is_seen_by_every_later_get_and_range,
                several_values_are_answered_in_the_order_of_their_keys,
                a_range_is_in_ascending_order_of_key_and_of_its_first_entries,
                an_empty_or_inverted_range_yields_nothing,
                nothing_is_applied_when_one_expectation_does_not_hold,
                expectations_are_of_the_moment_before_the_first_step,
                of_several_steps_with_one_key_the_last_counts,
                the_longest_key_and_value_are_kept,
                many_who_change_one_value_at_once_lose_no_change,
                below_a_key_lies_all_that_begins_with_it_however_much_it_is,
                applying_goes_on_when_the_future_is_dropped_after_its_first_poll,
                any_course_of_steps_leaves_what_the_model_says_also_after_reopening,
            );
        }
    };
    (@each $place:expr, $($sentence:ident),* $(,)?) => {
        $(#[test] fn $sentence() {
            let place = $place;
            if $crate::testkit::ledger::LedgerPlace::is_there(&place) {
                $crate::testkit::ledger::$sentence(&place);
            }
        })*
    };
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn put(key: &str, value: &str) -> Step {
    Step::Put(bytes(key), bytes(value))
}

fn apply(ledger: &dyn Ledger, steps: Vec<Step>) -> bool {
    block_on(ledger.apply(steps)).expect("apply succeeds")
}

fn get(ledger: &dyn Ledger, key: &str) -> Option<Bytes> {
    block_on(ledger.get(key.as_bytes())).expect("get succeeds")
}

fn keys(ledger: &dyn Ledger, from: &str, to: &str, limit: usize) -> Vec<Bytes> {
    let found = block_on(ledger.range(bytes(from)..bytes(to), limit)).expect("range succeeds");
    found.into_iter().map(|(key, _)| key).collect()
}

/// See the name.
pub fn what_was_applied_is_seen_by_every_later_get_and_range(place: &dyn LedgerPlace) {
    let ledger = place.open();
    assert_eq!(get(&*ledger, "a"), None);
    assert!(apply(&*ledger, vec![put("a", "1"), put("b", "")]));
    assert_eq!(get(&*ledger, "a"), Some(bytes("1")));
    assert_eq!(get(&*ledger, "b"), Some(bytes("")));
    assert_eq!(get(&*ledger, "ab"), None);
    assert!(apply(
        &*ledger,
        vec![Step::Delete(bytes("a")), Step::Delete(bytes("none"))]
    ));
    assert_eq!(get(&*ledger, "a"), None);
    let all = block_on(ledger.range(bytes("")..bytes("z"), 9)).expect("range succeeds");
    assert_eq!(all, vec![(bytes("b"), bytes(""))]);
}

/// See the name.
pub fn several_values_are_answered_in_the_order_of_their_keys(place: &dyn LedgerPlace) {
    let ledger = place.open();
    assert!(apply(&*ledger, vec![put("a", "1"), put("b", "2"), put("c", "")]));
    let keys = ["c", "none", "a", "a", "b"].map(bytes);
    let values = block_on(ledger.get_all(&keys)).expect("get_all succeeds");
    assert_eq!(
        values,
        [Some(""), None, Some("1"), Some("1"), Some("2")].map(|value| value.map(bytes))
    );
    assert!(
        block_on(ledger.get_all(&[]))
            .expect("get_all succeeds")
            .is_empty()
    );
}

/// See the name.
pub fn a_range_is_in_ascending_order_of_key_and_of_its_first_entries(place: &dyn LedgerPlace) {
    let ledger = place.open();
    let steps = ["c", "a", "aa", "b", "\u{0}", "ab"].map(|key| put(key, key));
    assert!(apply(&*ledger, steps.to_vec()));
    assert_eq!(keys(&*ledger, "a", "c", 9), ["a", "aa", "ab", "b"].map(bytes));
    assert_eq!(keys(&*ledger, "", "c", 2), ["\u{0}", "a"].map(bytes));
    assert_eq!(keys(&*ledger, "a\u{0}", "b", 9), ["aa", "ab"].map(bytes));
}

/// See the name.
pub fn an_empty_or_inverted_range_yields_nothing(place: &dyn LedgerPlace) {
    let ledger = place.open();
    assert!(apply(&*ledger, vec![put("a", "1"), put("b", "2")]));
    for (from, to) in [("a", "a"), ("b", "a"), ("c", "d")] {
        assert!(keys(&*ledger, from, to, 9).is_empty());
    }
    assert!(keys(&*ledger, "a", "z", 0).is_empty());
}

/// See the name.
pub fn nothing_is_applied_when_one_expectation_does_not_hold(place: &dyn LedgerPlace) {
    let ledger = place.open();
    assert!(apply(&*ledger, vec![put("a", "1")]));
    for wrong in [
        Step::Expect(bytes("a"), None),
        Step::Expect(bytes("a"), Some(bytes("2"))),
        Step::Expect(bytes("b"), Some(bytes(""))),
    ] {
        assert!(!apply(&*ledger, vec![put("a", "9"), wrong, put("c", "9")]));
    }
    assert_eq!(get(&*ledger, "a"), Some(bytes("1")));
    assert_eq!(get(&*ledger, "c"), None);
    let right = vec![
        Step::Expect(bytes("a"), Some(bytes("1"))),
        Step::Expect(bytes("b"), None),
        put("c", "3"),
    ];
    assert!(apply(&*ledger, right));
    assert_eq!(get(&*ledger, "c"), Some(bytes("3")));
}

/// See the name.
pub fn expectations_are_of_the_moment_before_the_first_step(place: &dyn LedgerPlace) {
    let ledger = place.open();
    assert!(apply(
        &*ledger,
        vec![put("a", "1"), Step::Expect(bytes("a"), None)]
    ));
    let swap = vec![
        Step::Delete(bytes("a")),
        Step::Expect(bytes("a"), Some(bytes("1"))),
    ];
    assert!(apply(&*ledger, swap));
    assert_eq!(get(&*ledger, "a"), None);
}

/// See the name.
pub fn of_several_steps_with_one_key_the_last_counts(place: &dyn LedgerPlace) {
    let ledger = place.open();
    assert!(apply(&*ledger, vec![put("a", "1"), put("a", "2")]));
    assert!(apply(&*ledger, vec![put("b", "1"), Step::Delete(bytes("b"))]));
    assert!(apply(&*ledger, vec![Step::Delete(bytes("a")), put("a", "3")]));
    assert_eq!((get(&*ledger, "a"), get(&*ledger, "b")), (Some(bytes("3")), None));
}

/// See the name.
pub fn the_longest_key_and_value_are_kept(place: &dyn LedgerPlace) {
    let ledger = place.open();
    let key = Bytes::from(vec![0xFF; limits::LEDGER_KEY_LENGTH_MAX_BYTES]);
    let value = Bytes::from(vec![7; limits::LEDGER_VALUE_LENGTH_MAX_BYTES]);
    assert!(apply(&*ledger, vec![Step::Put(key.clone(), value.clone())]));
    assert!(block_on(ledger.get(&key)).expect("get succeeds") == Some(value));
}

/// See the name.
pub fn many_who_change_one_value_at_once_lose_no_change(place: &dyn LedgerPlace) {
    const THREADS: u64 = 4;
    const TIMES: u64 = 8;
    let ledger = place.open();
    let count =
        |old: Option<&Bytes>| old.map_or(0, |old| u64::from_be_bytes(old[..].try_into().expect("8 bytes")));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let ledger = &ledger;
            scope.spawn(move || {
                for time in 0..TIMES {
                    let further = put(&format!("by {thread} {time}"), "");
                    let changed = ledger.update(bytes("count"), |old| {
                        let new = count(old) + 1;
                        let new = Bytes::copy_from_slice(&new.to_be_bytes());
                        Ok((Some(new), vec![further.clone()], ()))
                    });
                    block_on(changed).expect("update succeeds");
                }
            });
        }
    });
    assert_eq!(count(get(&*ledger, "count").as_ref()), THREADS * TIMES);
    assert_eq!(keys(&*ledger, "by ", "by~", 99).len() as u64, THREADS * TIMES);
}

/// See the name.
pub fn below_a_key_lies_all_that_begins_with_it_however_much_it_is(place: &dyn LedgerPlace) {
    let ledger = place.open();
    let key = |kind, number| Key::of(kind).number(number).bytes();
    let mut steps = vec![put("kine", "")];
    for number in 0..1000 {
        steps.push(Step::Put(key("kind", number), Bytes::new()));
        steps.push(Step::Put(key("kin", number), Bytes::new()));
    }
    assert!(apply(&*ledger, steps));
    let found: Vec<_> = block_on(ledger.below(&Key::of("kind")).try_collect()).expect("below succeeds");
    let expected: Vec<_> = (0..1000)
        .map(|number| (key("kind", number), Bytes::new()))
        .collect();
    assert!(found == expected);
}

/// See the name.
pub fn applying_goes_on_when_the_future_is_dropped_after_its_first_poll(place: &dyn LedgerPlace) {
    let ledger = place.open();
    let _ = ledger.apply(vec![put("a", "1")]).now_or_never();
    // Whoever comes later comes behind it.
    assert!(apply(&*ledger, vec![put("b", "1")]));
    assert_eq!(get(&*ledger, "a"), Some(bytes("1")));
}

/// See the name.
pub fn any_course_of_steps_leaves_what_the_model_says_also_after_reopening(place: &dyn LedgerPlace) {
    let mut model = BTreeMap::new();
    let mut ledger = place.open();
    rounds(10, |random| {
        for _ in 0..20 {
            if ledger.capability().durable && random.chance(10) {
                // Closed before it is opened again.
                ledger = Arc::new(Nothing);
                ledger = place.open();
            }
            // Several at once, so that they share a flush.
            let calls: Vec<_> = (0..1 + random.below(4))
                .map(|_| any_steps(random, &model))
                .collect();
            let applied = join_all(calls.iter().map(|steps| ledger.apply(steps.clone())));
            for (steps, applied) in calls.into_iter().zip(block_on(applied)) {
                assert_eq!(applied.expect("apply succeeds"), applies(&mut model, steps));
            }
            let all = block_on(ledger.range(Bytes::new()..bytes("z"), usize::MAX)).expect("range succeeds");
            assert!(
                all.into_iter()
                    .eq(model.iter().map(|(key, value)| (key.clone(), value.clone())))
            );
        }
    });
}

type Model = BTreeMap<Bytes, Bytes>;

fn any_steps(random: &mut Random, model: &Model) -> Vec<Step> {
    let mut steps = Vec::new();
    for _ in 0..random.below(5) {
        let key = bytes(&format!("{}", random.below(12)));
        steps.push(match random.below(5) {
            0 => Step::Delete(key),
            1 => Step::Expect(key, Some(bytes("wrong"))),
            2 => Step::Expect(key.clone(), model.get(&key).cloned()),
            _ => Step::Put(key, bytes(&format!("{}", random.below(1000)))),
        });
    }
    steps
}

/// What a ledger does, on the model.
fn applies(model: &mut Model, steps: Vec<Step>) -> bool {
    let holds = |step: &Step| match step {
        Step::Expect(key, value) => model.get(key) == value.as_ref(),
        _ => true,
    };
    let all = steps.iter().all(holds);
    for step in steps.into_iter().filter(|_| all) {
        match step {
            Step::Put(key, value) => drop(model.insert(key, value)),
            Step::Delete(key) => drop(model.remove(&key)),
            Step::Expect(..) => {}
        }
    }
    all
}

/// Stands where a ledger was, while it is closed.
struct Nothing;

impl Ledger for Nothing {
    fn capability(&self) -> crate::ledger::LedgerCapability {
        unreachable!("nobody asks")
    }
    fn get(&self, _: &[u8]) -> futures::future::BoxFuture<'_, crate::Result<Option<Bytes>>> {
        unreachable!("nobody asks")
    }
    fn range(
        &self,
        _: std::ops::Range<Bytes>,
        _: usize,
    ) -> futures::future::BoxFuture<'_, crate::Result<Vec<(Bytes, Bytes)>>> {
        unreachable!("nobody asks")
    }
    fn apply(&self, _: Vec<Step>) -> futures::future::BoxFuture<'_, crate::Result<bool>> {
        unreachable!("nobody asks")
    }
}
