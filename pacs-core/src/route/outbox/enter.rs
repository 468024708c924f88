//! What is decided is entered, and what was refused is entered again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;

use super::record::{self, LineState};
use super::{Decided, Outbox, Progress, Recorded, What};
use crate::archive::Timestamp;
use crate::error::Result;
use crate::ledger::{self, Step};
use crate::uid::Uid;

/// Lines as they were, and as they become.
type Lines = HashMap<(Arc<str>, Uid), (Option<Bytes>, LineState)>;

/// What one step of the ledger enters.
#[derive(Default)]
struct Entering {
    steps: Vec<Step>,
    lines: Lines,
    /// By how much more waits, and is refused, for a destination.
    counted: HashMap<Arc<str>, (i64, i64)>,
}

impl Entering {
    /// Has `recorded` wait in its line, in place of `old`.
    fn wait(&mut self, destination: &Arc<str>, what: &What, recorded: &Recorded, old: Option<Bytes>) {
        let key = record::delivery(destination, what);
        self.steps.push(Step::Expect(key.clone(), old));
        self.steps.push(Step::Put(key, recorded.value()));
        let waits = record::waiting(destination, &recorded.study, recorded.sequence, what);
        self.steps.push(Step::Put(waits, Bytes::new()));
        self.count(destination, 1, 0);
    }

    /// Takes away what waits or is done under a delivery that is replaced.
    fn replace(&mut self, destination: &Arc<str>, what: &What, known: &Recorded) {
        let key = match known.progress {
            Progress::Waiting => {
                self.count(destination, -1, 0);
                record::waiting(destination, &known.study, known.sequence, what)
            }
            Progress::Dead => {
                self.count(destination, 0, -1);
                record::dead(destination, what)
            }
            Progress::Done => record::done(known.at, destination, what),
        };
        self.steps.push(Step::Delete(key));
    }

    fn count(&mut self, destination: &Arc<str>, waiting: i64, dead: i64) {
        let counted = self.counted.entry(Arc::clone(destination)).or_default();
        counted.0 += waiting;
        counted.1 += dead;
    }
}

impl Outbox {
    /// Enters what was decided, with `further` steps, in one. What is recorded already of the same version, or of
    /// a later one, is passed over.
    pub(crate) async fn add(&self, decided: Vec<Decided>, further: Vec<Step>) -> Result<()> {
        loop {
            let mut entering = Entering {
                steps: further.clone(),
                ..Entering::default()
            };
            let mut seen = HashSet::new();
            for one in &decided {
                let destination = &one.delivery.destination;
                let key = record::delivery(destination, &one.what);
                if !seen.insert(key.clone()) {
                    continue;
                }
                let old = self.inner.ledger.get(&key).await?;
                if let Some(old) = &old {
                    let known = Recorded::read(old)?;
                    // A later version was decided about before this one.
                    if known.version == one.version || known.sequence > one.sequence {
                        continue;
                    }
                    entering.replace(destination, &one.what, &known);
                }
                let mut changes = String::new();
                if let Some(changed) = &one.delivery.changes {
                    let (hash, at, value) = record::changes_entry(changed);
                    entering.steps.push(Step::Put(at, value));
                    changes = hash;
                }
                let recorded = Recorded {
                    progress: Progress::Waiting,
                    study: one.study,
                    sequence: one.sequence,
                    version: one.version,
                    priority: one.delivery.priority,
                    attempts: 0,
                    at: Timestamp::now(),
                    changes,
                    why: String::new(),
                };
                entering.wait(destination, &one.what, &recorded, old);
                self.join_line(&mut entering.lines, destination, &recorded)
                    .await?;
            }
            if self.entered(entering).await? {
                return Ok(());
            }
        }
    }

    /// Applies it; false where something is not as it was.
    async fn entered(&self, entering: Entering) -> Result<bool> {
        let Entering {
            mut steps,
            lines,
            counted,
        } = entering;
        for ((destination, study), (old, new)) in &lines {
            record::put_line(&mut steps, destination, study, old.as_ref(), Some(new))?;
        }
        if steps.is_empty() {
            return Ok(true);
        }
        let applied = self.inner.ledger.apply(steps).await?;
        if applied {
            for (destination, (waiting, dead)) in &counted {
                self.state().count(destination, *waiting, *dead);
            }
            counted.keys().for_each(|destination| self.told(destination));
        }
        Ok(applied)
    }

    /// Puts a delivery into its line, which may move up with it.
    async fn join_line(&self, lines: &mut Lines, destination: &Arc<str>, one: &Recorded) -> Result<()> {
        let of = (Arc::clone(destination), one.study);
        if let Some((_, line)) = lines.get_mut(&of) {
            line.priority = line.priority.min(one.priority);
            return Ok(());
        }
        let old = self
            .inner
            .ledger
            .get(&record::line_of(destination, &one.study))
            .await?;
        let line = match &old {
            Some(old) => {
                let mut line = LineState::read(old)?;
                line.priority = line.priority.min(one.priority);
                line.added = line.added.wrapping_add(1);
                line
            }
            None => LineState {
                priority: one.priority,
                order: one.sequence,
                added: 0,
                failures: 0,
                not_before: Timestamp(0),
            },
        };
        lines.insert(of, (old, line));
        Ok(())
    }

    /// Tries again to deliver what was refused for good: everything of the destination, or one. Answers how many. What
    /// is refused once more meanwhile waits for the next call.
    ///
    /// # Errors
    /// What the ledger says.
    pub async fn send_again(&self, destination: &str, one: Option<What>) -> Result<u64> {
        const AT_ONCE: usize = 256;
        let name: Arc<str> = destination.into();
        let mut again = 0;
        match one {
            Some(what) => again = self.revive(&name, &[what]).await?,
            None => {
                let mut range = record::all_dead(destination).range();
                loop {
                    let page = self.inner.ledger.range(range.clone(), AT_ONCE).await?;
                    let Some((last, _)) = page.last() else { break };
                    range.start = ledger::after(last);
                    let dead: Result<Vec<What>> =
                        page.iter().map(|(key, _)| record::what_of_dead(key)).collect();
                    again += self.revive(&name, &dead?).await?;
                }
            }
        }
        self.told(destination);
        Ok(again)
    }

    /// Has those of them wait again that were refused; answers how many.
    async fn revive(&self, destination: &Arc<str>, dead: &[What]) -> Result<u64> {
        loop {
            let (mut entering, mut revived) = (Entering::default(), 0);
            for what in dead {
                let key = record::delivery(destination, what);
                let old = self.inner.ledger.get(&key).await?;
                let Some(known) = old.as_deref().map(Recorded::read).transpose()? else {
                    continue;
                };
                if known.progress != Progress::Dead {
                    continue;
                }
                entering.replace(destination, what, &known);
                let recorded = Recorded {
                    progress: Progress::Waiting,
                    attempts: 0,
                    at: Timestamp::now(),
                    ..known
                };
                entering.wait(destination, what, &recorded, old);
                self.join_line(&mut entering.lines, destination, &recorded)
                    .await?;
                revived += 1;
            }
            if self.entered(entering).await? {
                return Ok(revived);
            }
        }
    }
}
