//! What threads asked of an engine, what they were answered, and what may be there afterwards.

use pacs_core::StoreOutcome;

/// Study, series and number: which instance.
pub(crate) type Name = (u32, u32, u32);

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Wish {
    /// To have this variant kept.
    Store(u32),
    Remove,
    /// To have what is kept amended.
    Amend,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Answer {
    Kept(StoreOutcome),
    Removed(bool),
    Amended,
    /// Refused by the policy: nothing has changed.
    Nothing,
    /// A failure, or nobody waited: it may have happened or not, but not by half.
    Unsure,
}

/// Something a thread asked for. Times are ticks of the history.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deed {
    name: Name,
    pub(crate) wish: Wish,
    began: u64,
    ended: u64,
    answer: Answer,
}

impl Deed {
    /// May have put its variant into the archive.
    fn may_store(&self) -> Option<u32> {
        match (self.wish, self.answer) {
            (Wish::Store(variant), Answer::Unsure) => Some(variant),
            (Wish::Store(variant), Answer::Kept(outcome)) if outcome != StoreOutcome::FirstKept => {
                Some(variant)
            }
            _ => None,
        }
    }

    /// Was told that its variant is kept.
    pub(crate) fn has_stored(&self) -> Option<u32> {
        self.may_store().filter(|_| self.answer != Answer::Unsure)
    }

    fn may_remove(&self) -> bool {
        self.wish == Wish::Remove && self.answer != Answer::Removed(false)
    }

    fn may_amend(&self) -> bool {
        self.wish == Wish::Amend && self.answer != Answer::Nothing
    }

    fn may_make_current(&self) -> bool {
        self.may_store().is_some() && self.answer != Answer::Kept(StoreOutcome::AlreadyKept)
    }
}

/// What was asked for in one life, by all threads.
#[derive(Default)]
pub(crate) struct History {
    ticks: u64,
    deeds: Vec<Deed>,
}

impl History {
    pub(crate) fn begin(&mut self, name: Name, wish: Wish) -> usize {
        self.ticks += 1;
        self.deeds.push(Deed {
            name,
            wish,
            began: self.ticks,
            ended: u64::MAX,
            answer: Answer::Unsure,
        });
        self.deeds.len() - 1
    }

    pub(crate) fn end(&mut self, at: usize, answer: Answer) {
        self.ticks += 1;
        self.deeds[at].answer = answer;
        if answer != Answer::Unsure {
            self.deeds[at].ended = self.ticks;
        }
    }

    pub(crate) fn of(&self, name: Name) -> impl Iterator<Item = &Deed> {
        self.deeds.iter().filter(move |deed| deed.name == name)
    }
}

/// Holds whether the current version of an instance is amended against what was promised: `known` is whether it was at
/// the opening before.
pub(crate) fn judge_amended(name: Name, known: bool, history: &History, found: bool) {
    let changes = |deed: &&Deed| deed.may_make_current() || deed.may_remove() || deed.may_amend();
    let changes: Vec<&Deed> = history.of(name).filter(changes).collect();
    let promised = match changes.iter().max_by_key(|deed| deed.ended) {
        None => known,
        Some(last) => {
            let others = changes.iter().filter(|deed| deed.began != last.began);
            let is_surely_last =
                last.answer == Answer::Amended && others.into_iter().all(|deed| deed.ended < last.began);
            if !is_surely_last {
                return;
            }
            true
        }
    };
    assert_eq!(
        found, promised,
        "{name:?}: whether it is amended, after {changes:#?}"
    );
}

/// Holds what was found of an instance, the current variant first, against what was promised: `known`
/// is what the opening before found.
pub(crate) fn judge(name: Name, known: &[u32], history: &History, found: &[u32]) {
    let deeds: Vec<&Deed> = history.of(name).collect();
    let told = || format!("{name:?} was {known:?}, is {found:?} after {deeds:#?}");
    // A variant and when it was surely kept.
    let known_stored = known.iter().map(|&variant| (variant, 0));
    let stored = deeds
        .iter()
        .filter_map(|deed| Some((deed.has_stored()?, deed.began)));
    let all_stored = known_stored.chain(stored);
    for (variant, since) in all_stored.clone() {
        let removed = deeds.iter().any(|deed| deed.may_remove() && deed.ended > since);
        assert!(
            removed || found.contains(&variant),
            "{variant} was acknowledged and is lost: {}",
            told()
        );
    }
    for variant in found {
        let last_sent = known.iter().filter(|known| *known == variant).map(|_| 0);
        let sent = deeds.iter().filter(|deed| deed.may_store() == Some(*variant));
        let last_sent = last_sent.chain(sent.map(|deed| deed.ended)).max();
        let last_sent = last_sent.unwrap_or_else(|| panic!("{variant} was never sent: {}", told()));
        let removed = deeds
            .iter()
            .find(|deed| deed.answer == Answer::Removed(true) && deed.began > last_sent);
        assert!(removed.is_none(), "{variant} was removed and is back: {}", told());
    }
    // Which one is current, where no two were under way at once.
    let changes: Vec<&&Deed> = deeds
        .iter()
        .filter(|deed| deed.may_make_current() || deed.may_remove())
        .collect();
    let current = match changes.iter().max_by_key(|deed| deed.ended) {
        None => known.first(),
        Some(last) => match last.wish {
            Wish::Store(ref variant)
                if last.answer != Answer::Unsure
                    && changes
                        .iter()
                        .all(|deed| deed.began == last.began || deed.ended < last.began) =>
            {
                Some(variant)
            }
            _ => return,
        },
    };
    assert_eq!(found.first(), current, "the current variant: {}", told());
}
