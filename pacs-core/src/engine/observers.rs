//! Who is told what happened, by whichever thread of the engine.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use crate::hooks::{Event, Observer};

/// Tells observers one event after the other.
pub(super) struct Observers {
    observers: Vec<Arc<dyn Observer>>,
    one_at_a_time: Mutex<()>,
}

impl Observers {
    pub(super) fn new(observers: Vec<Arc<dyn Observer>>) -> Self {
        Self {
            observers,
            one_at_a_time: Mutex::default(),
        }
    }

    pub(super) fn tell(&self, event: &Event) {
        let _one_at_a_time = self.one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
        for observer in &self.observers {
            match catch_unwind(AssertUnwindSafe(|| observer.observe(event))) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "an observer failed"),
                Err(_) => tracing::error!("an observer panicked"),
            }
        }
    }
}
