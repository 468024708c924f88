//! Studies that are fetched from elsewhere: what comes of them is not new.
//!
//! A study is noted before it is asked for, with who brings it. While it is noted, an instance of it counts as fetched
//! when that sender brings it, or one that says that it was moved for whoever asked (Move Originator, PS3.7 9.1.1.1):
//! many an archive sends by another AE title than it is called by, and one that was told so is noted too. What anybody
//! else sends of the study is as new as ever, and with it the study. The note ends when the fetch has ended and the
//! study is stable, so that what comes to it years later is asked about as anything else.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::TryStreamExt;

use super::stable::unsettled;
use crate::archive::Timestamp;
use crate::engine::Pacs;
use crate::error::{Error, ErrorKind, Result};
use crate::hooks::Source;
use crate::ledger::{Key, Ledger, LedgerExt, Parts, Step};
use crate::uid::{AeTitle, Uid};

/// Senders of one study that are noted. An archive has a few nodes.
const SENDERS_MAX: usize = 32;

fn note(study: &Uid) -> Bytes {
    Key::of("fetched").text(study.as_str()).bytes()
}

/// The step that ends the note of a study.
pub(super) fn forgotten(study: &Uid) -> Step {
    Step::Delete(note(study))
}

/// What is noted of one study.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Note {
    /// Calling AE titles of who brings it; empty for who has none.
    senders: BTreeSet<String>,
    /// AE titles that asked for it.
    originators: BTreeSet<String>,
    /// Somebody else sends of it too.
    also_new: bool,
}

impl Note {
    fn value(&self) -> Bytes {
        let mut value = Key::of("1").number(u64::from(self.also_new));
        for titles in [&self.senders, &self.originators] {
            value = value.number(titles.len() as u64);
            for title in titles {
                value = value.text(title);
            }
        }
        value.bytes()
    }

    fn read(value: &[u8]) -> Result<Self> {
        let mut parts = Parts::of(value);
        parts.text()?;
        let mut read = Self {
            also_new: parts.number()? != 0,
            ..Self::default()
        };
        for titles in [&mut read.senders, &mut read.originators] {
            // Each takes some bytes of the value, which is bounded.
            for _ in 0..parts.number()? {
                titles.insert(parts.text()?.to_owned());
            }
        }
        Ok(read)
    }

    fn brings(&self, source: &Source) -> bool {
        let moved = source.move_originator;
        self.senders.contains(text(source.calling_ae.as_ref()))
            || moved.is_some_and(|title| self.originators.contains(title.as_str()))
    }
}

fn text(title: Option<&AeTitle>) -> &str {
    title.map_or("", AeTitle::as_str)
}

/// A study that is noted.
#[derive(Default)]
struct Noted {
    note: Note,
    /// The ledger has it otherwise.
    changed: bool,
    /// Who is fetching it now.
    fetching: usize,
    /// When the last of them ended.
    ended: Timestamp,
}

/// The studies that are noted. A few: each only until it is stable.
pub(in crate::engine) struct FetchedStudies {
    ledger: Option<Arc<dyn Ledger>>,
    noted: Mutex<HashMap<Uid, Noted>>,
}

impl FetchedStudies {
    /// Those that the ledger knows: nobody is fetching them yet.
    pub(in crate::engine) async fn open(ledger: Option<Arc<dyn Ledger>>) -> Result<Self> {
        let mut noted = HashMap::new();
        if let Some(ledger) = &ledger {
            let all = Key::of("fetched");
            let mut found = ledger.below(&all);
            while let Some((key, value)) = found.try_next().await? {
                let mut parts = Parts::of(&key);
                parts.text()?;
                let known = Noted {
                    note: Note::read(&value)?,
                    ended: Timestamp::now(),
                    ..Noted::default()
                };
                noted.insert(Uid::parse(parts.text()?)?, known);
            }
        }
        Ok(Self {
            ledger,
            noted: Mutex::new(noted),
        })
    }

    fn noted(&self) -> MutexGuard<'_, HashMap<Uid, Noted>> {
        // Nothing panics while it holds this lock.
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an instance of the study that came from there was fetched. Who else sends of the study, and by which
    /// names the fetched ones come, is noted.
    pub(super) fn note(&self, study: &Uid, source: &Source) -> bool {
        let mut all = self.noted();
        let Some(noted) = all.get_mut(study) else {
            return false;
        };
        let fetched = noted.note.brings(source);
        if !fetched {
            noted.changed |= !noted.note.also_new;
            noted.note.also_new = true;
        } else if noted.note.senders.len() < SENDERS_MAX {
            let sender = text(source.calling_ae.as_ref()).to_owned();
            noted.changed |= noted.note.senders.insert(sender);
        }
        fetched
    }

    /// Whether what came last from there to a study was fetched.
    pub(super) fn brings(&self, study: &Uid, source: &Source) -> bool {
        self.noted().get(study).is_some_and(|it| it.note.brings(source))
    }

    /// Whether nothing comes to a study but what is fetched.
    pub(super) fn alone(&self, study: &Uid) -> bool {
        self.noted().get(study).is_some_and(|it| !it.note.also_new)
    }

    pub(super) fn knows(&self, study: &Uid) -> bool {
        self.noted().contains_key(study)
    }

    /// Whether somebody is fetching it.
    pub(super) fn is_under_way(&self, study: &Uid) -> bool {
        self.noted().get(study).is_some_and(|it| it.fetching > 0)
    }

    /// Studies whose fetch ended at such a time.
    pub(super) fn ended(&self, when: impl Fn(Timestamp) -> bool) -> Vec<Uid> {
        let all = self.noted();
        let ended = all.iter().filter(|(_, it)| it.fetching == 0 && when(it.ended));
        ended.map(|(study, _)| *study).collect()
    }

    /// Has no note of it, unless somebody is fetching it again.
    pub(super) fn forget(&self, study: &Uid) {
        let mut all = self.noted();
        match all.get_mut(study) {
            Some(noted) if noted.fetching > 0 => noted.changed = true,
            _ => drop(all.remove(study)),
        }
    }

    /// What is to be written of those that changed.
    pub(super) fn changed(&self) -> Vec<(Uid, Step)> {
        let all = self.noted();
        let changed = all.iter().filter(|(_, it)| it.changed);
        let step = |(study, it): (&Uid, &Noted)| (*study, Step::Put(note(study), it.note.value()));
        changed.map(step).collect()
    }

    /// That was written.
    pub(super) fn kept(&self, written: &[(Uid, Step)]) {
        let mut all = self.noted();
        for (study, step) in written {
            if let (Some(noted), Step::Put(_, value)) = (all.get_mut(study), step) {
                noted.changed = noted.note.value() != value;
            }
        }
    }

    fn value(&self, study: &Uid) -> Option<Bytes> {
        self.noted().get(study).map(|it| it.note.value())
    }

    /// Notes a study, until the answer is dropped and it is stable.
    async fn begin(self: &Arc<Self>, study: &Uid, from: &Source) -> Result<Fetching> {
        // Something of it has come by itself just now.
        let arriving = match &self.ledger {
            Some(ledger) => ledger.get(&unsettled(&(*study, None))).await?.is_some(),
            None => false,
        };
        let fetching = {
            let mut all = self.noted();
            let known = all.contains_key(study);
            let noted = all.entry(*study).or_default();
            noted.fetching += 1;
            noted.note.also_new |= arriving && !known;
            let sender = text(from.calling_ae.as_ref()).to_owned();
            noted.note.senders.insert(sender);
            let asks = from.called_ae.map(|title| title.as_str().to_owned());
            noted.note.originators.extend(asks);
            Fetching {
                studies: Arc::clone(self),
                study: *study,
            }
        };
        if let Some(ledger) = &self.ledger {
            // The routing thread may note something of it meanwhile.
            let mut written = None;
            while let Some(value) = self.value(study)
                && written.as_ref() != Some(&value)
            {
                ledger.apply(vec![Step::Put(note(study), value.clone())]).await?;
                written = Some(value);
            }
        }
        Ok(fetching)
    }
}

/// A study that is being fetched: see [`Pacs::fetching`]. Dropped, the fetch has ended.
pub struct Fetching {
    studies: Arc<FetchedStudies>,
    study: Uid,
}

impl std::fmt::Debug for Fetching {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetching")
            .field("study", &self.study)
            .finish_non_exhaustive()
    }
}

impl Drop for Fetching {
    fn drop(&mut self) {
        if let Some(noted) = self.studies.noted().get_mut(&self.study) {
            noted.fetching = noted.fetching.saturating_sub(1);
            noted.ended = Timestamp::now();
        }
    }
}

impl Pacs {
    /// Says that `study` is about to be fetched from elsewhere: to be called before it is asked for, and kept until all
    /// of it has come. `from` is who brings it (calling AE title; none over HTTP), and who asked for it, where it is
    /// moved (called AE title).
    ///
    /// What that sender brings of the study counts as fetched, and so does what any other brings that says that it was
    /// moved for who asked (Move Originator AE Title): the router is asked about it only if it wants to be
    /// ([`Router::wants_fetched`](crate::route::Router::wants_fetched)), and told so
    /// ([`Occasion::fetched`](crate::route::Occasion::fetched)). Where somebody else sends of the study too, the study
    /// itself is as new as any. It is not stable before the fetch has ended. Durable where deliveries are kept:
    /// killed in between, what has come still counts as fetched.
    ///
    /// # Errors
    /// What the ledger says; `Unsupported` when the engine has no router, so that nobody is asked about anything.
    pub async fn fetching(&self, study: &Uid, from: &Source) -> Result<Fetching> {
        let studies = self.inner.fetched.as_ref().ok_or_else(|| {
            let why = "the engine has no router: nothing is fetched for its own sake";
            Error::new(ErrorKind::Unsupported, "engine.fetching", why)
        })?;
        studies.begin(study, from).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_as_it_was_written() {
        let titles = |titles: &[&str]| titles.iter().map(|title| (*title).to_owned()).collect();
        for note in [
            Note::default(),
            Note {
                senders: titles(&["", "OLD"]),
                originators: titles(&["PACS"]),
                also_new: true,
            },
        ] {
            assert_eq!(Note::read(&note.value()).expect("can be read"), note);
        }
    }
}
