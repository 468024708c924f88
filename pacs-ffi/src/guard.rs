//! The way of every call: the handle is looked up, no panic crosses, a failure is remembered.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::error::{Failure, pacs_status, remember};
use crate::handle::{self, Object};

/// Runs a call on the object behind `raw`.
pub(crate) fn call<T: Object>(
    raw: *const T::Raw,
    work: impl FnOnce(&T) -> Result<(), Failure>,
) -> pacs_status {
    call_shared(raw, |object: &Arc<T>| work(object))
}

/// The same, for who keeps the object.
pub(crate) fn call_shared<T: Object>(
    raw: *const T::Raw,
    work: impl FnOnce(&Arc<T>) -> Result<(), Failure>,
) -> pacs_status {
    let found = contained(|| handle::get::<T>(raw));
    run(found, work, true)
}

/// The same, without remembering a failure.
pub(crate) fn quietly<T: Object>(
    raw: *const T::Raw,
    work: impl FnOnce(&T) -> Result<(), Failure>,
) -> pacs_status {
    let found = contained(|| handle::get::<T>(raw));
    run(found, |object: &Arc<T>| work(object), false)
}

/// Runs a call that ends the handle, whatever comes of it.
pub(crate) fn call_last<T: Object>(
    raw: *const T::Raw,
    work: impl FnOnce(&T) -> Result<(), Failure>,
) -> pacs_status {
    let found = contained(|| handle::take::<T>(raw));
    run(found, |object: &Arc<T>| work(object), true)
}

/// Ends a handle; null is none, and nothing to do.
pub(crate) fn close<T: Object>(raw: *const T::Raw) -> pacs_status {
    if raw.is_null() {
        return pacs_status::PACS_OK;
    }
    call_last(raw, |_: &T| Ok(()))
}

fn run<T: Object>(
    found: Result<Arc<T>, Failure>,
    work: impl FnOnce(&Arc<T>) -> Result<(), Failure>,
    remembered: bool,
) -> pacs_status {
    let object = match found {
        Ok(object) => object,
        Err(failure) => return failure.status,
    };
    let context = T::context(&object);
    // Whatever the last owner of an object drops may panic too.
    let done = contained(move || {
        let done = work(&object);
        drop(object);
        done
    });
    match done {
        Ok(()) => pacs_status::PACS_OK,
        Err(failure) => {
            let status = failure.status;
            if remembered && status != pacs_status::PACS_END {
                remember(&context, failure);
            }
            status
        }
    }
}

/// Runs `work`; a panic of it is a failure.
pub(crate) fn contained<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        // What was thrown may throw when it is dropped.
        std::mem::forget(panic);
        Err(Failure::new(pacs_status::PACS_INTERNAL, "a panic was contained"))
    })
}

thread_local! {
    /// This thread runs a callback for which the engine's own thread waits.
    static HOLDS_ENGINE: Cell<bool> = const { Cell::new(false) };
}

/// Runs a callback for which the engine's own thread waits: what needs that thread is refused meanwhile.
pub(crate) fn holding_engine<T>(callback: impl FnOnce() -> T) -> T {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            HOLDS_ENGINE.set(self.0);
        }
    }
    let _restore = Restore(HOLDS_ENGINE.replace(true));
    callback()
}

/// That a call which changes the engine would not wait for itself.
///
/// # Errors
/// `PACS_REFUSED` in a callback for which the engine's own thread waits.
pub(crate) fn may_change() -> Result<(), Failure> {
    if HOLDS_ENGINE.get() {
        let text = "not from this callback: the engine waits for it; hand over to a thread of your own";
        return Err(Failure::new(pacs_status::PACS_REFUSED, text));
    }
    Ok(())
}
