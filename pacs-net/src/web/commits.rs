//! [`Commits`]: instances are committed while those behind them come in.

use pacs_core::{Announced, Error, ErrorKind, Receipt, Received, Result};
use tokio::task::{JoinError, JoinSet};

/// Commits that are waited for while the next instances come in: they share flushes of the medium.
const COMMITS_MAX: usize = 32;

/// Which instance came to its end, where that is known, and how.
pub(crate) type Committed = (Option<Announced>, Result<Received>);

/// Commits under way.
#[derive(Default)]
pub(crate) struct Commits(JoinSet<(Announced, Result<Received>)>);

impl Commits {
    /// Begins one. Before it [`full`](Self::full) has answered none.
    pub(crate) fn begin(&mut self, receipt: Receipt) {
        let announced = receipt.announced().clone();
        self.0.spawn(async move { (announced, receipt.commit().await) });
    }

    /// As [`next`](Self::next), while there are as many as may be.
    pub(crate) async fn full(&mut self) -> Option<Committed> {
        match self.0.len() < COMMITS_MAX {
            true => None,
            false => self.next().await,
        }
    }

    /// The next one that ends; none where none is under way.
    pub(crate) async fn next(&mut self) -> Option<Committed> {
        self.0.join_next().await.map(committed)
    }
}

fn committed(ended: Result<(Announced, Result<Received>), JoinError>) -> Committed {
    match ended {
        Ok((announced, ended)) => (Some(announced), ended),
        Err(_) => {
            let error = Error::new(ErrorKind::Internal, "web.store", "a commit panicked");
            (None, Err(error))
        }
    }
}
