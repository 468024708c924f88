//! Giving back the room of what was removed: its pack is written again without it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use object_store::PutPayload;
use pacs_core::{ErrorKind, Result};

use super::bucket::corrupt;
use super::pack::{Body, Item, Pack};
use super::{Shared, lock};

/// Whoever removes a study removes its instances one behind the other: the packs are written again when no more came for
/// this long.
const PAUSE: Duration = Duration::from_secs(1);
/// And after so many pauses, whatever comes.
const WAITS_MAX: usize = 60;
/// After a failure.
const LONG_PAUSE: Duration = Duration::from_secs(30);

/// Works as long as the archive is open and nobody takes it away.
pub(super) async fn work(shared: Arc<Shared>) {
    while !shared.is_ended() {
        let mut pause = PAUSE;
        let mut before = None;
        // As long as more comes, but not for ever.
        for _ in 0..WAITS_MAX {
            let count = lock(&shared.removals).count;
            if count > 0 && before == Some(count) {
                break;
            }
            before = (count > 0).then_some(count);
            match before {
                Some(_) => tokio::time::sleep(PAUSE).await,
                None => shared.to_rewrite.notified().await,
            }
        }
        if let Err(error) = shared.rewrite_all().await {
            tracing::warn!(%error, "the room of what was removed can't be given back now");
            pause = LONG_PAUSE;
        }
        tokio::time::sleep(pause).await;
    }
}

/// No pack is longer: it is held in memory while it is written again.
const PACK_LENGTH_MAX: u64 = 1 << 30;

impl Shared {
    /// Takes what was removed out of its packs. One that fails does not hold up the others; the first error is answered.
    pub(super) async fn rewrite_all(&self) -> Result<()> {
        let numbers: Vec<u64> = lock(&self.removals).packs.keys().copied().collect();
        let mut done = Ok(());
        for number in numbers {
            let rewritten = self.rewrite(number).await;
            done = done.and(rewritten);
        }
        done
    }

    async fn rewrite(&self, number: u64) -> Result<()> {
        // One at a time, or one would bring back what the other has taken out.
        let _turn = self.rewriting.lock().await;
        let items = match lock(&self.removals).packs.get(&number) {
            Some(pack) => pack.items.clone(),
            None => return Ok(()),
        };
        self.check_taking("archive.compact")?;
        match self.bucket.directory(number, None).await {
            Ok((pack, length)) => self.take_out(number, pack, length, &items).await?,
            // Gone as a whole.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let mut removals = lock(&self.removals);
        removals.count -= items.len();
        if let Some(pack) = removals.packs.get_mut(&number) {
            // What was removed meanwhile comes next.
            pack.items.retain(|item| !items.contains(item));
            if pack.items.is_empty() {
                removals.packs.remove(&number);
            }
        }
        Ok(())
    }

    async fn take_out(&self, number: u64, pack: Pack, length: u64, items: &BTreeSet<u32>) -> Result<()> {
        let path = self.bucket.pack(number);
        let mut kept = pack.clone();
        for item in items {
            let Some(held) = kept.items.get_mut(*item as usize) else {
                continue;
            };
            if let Item::Instance {
                body: Body::Own(name),
                ..
            } = held
            {
                // Before the pack forgets its name.
                self.bucket.delete(&self.bucket.stream(*name)).await?;
            }
            if matches!(held, Item::Instance { .. }) {
                *held = Item::Gone;
            }
        }
        if kept == pack {
            return Ok(());
        }
        let (whole, meta) = self.bucket.get_all(&path, PACK_LENGTH_MAX).await?;
        if whole.len() as u64 != length {
            return Err(corrupt("a pack changed while it was written again"));
        }
        let mut payload = Vec::new();
        let mut at = 0;
        for (before, after) in pack.items.iter().zip(&kept.items) {
            let end = at + before.body_length() as usize;
            if after.body_length() > 0 {
                let body = (end <= whole.len()).then(|| whole.slice(at..end));
                payload.push(body.ok_or_else(|| corrupt("a pack is shorter than it says"))?);
            }
            at = end;
        }
        payload.push(kept.encode());
        // Its number stays taken, also where nothing is left in it. What another program wrote meanwhile is not written over.
        let payload = PutPayload::from_iter(payload);
        self.bucket.replace(&path, &meta, payload).await
    }
}
