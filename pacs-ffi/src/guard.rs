//! The way of every call: the handle is looked up, no panic crosses, a failure is remembered.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

use tokio::runtime::{Handle, RuntimeFlavor};

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

/// What runs on this thread while it is in a callback.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inside {
    Nothing,
    /// A callback for which an engine's own thread waits.
    Engine,
    /// A hook that decides about a request.
    Hook,
}

thread_local! {
    static INSIDE: Cell<Inside> = const { Cell::new(Inside::Nothing) };
}

fn inside_of<T>(what: Inside, callback: impl FnOnce() -> T) -> T {
    struct Restore(Inside);
    impl Drop for Restore {
        fn drop(&mut self) {
            INSIDE.set(self.0);
        }
    }
    let before = INSIDE.get();
    // The thread of an engine stays that, whatever is called from there.
    let _restore = Restore(before);
    if before != Inside::Engine {
        INSIDE.set(what);
    }
    callback()
}

/// Runs a callback for which an engine's own thread waits: what needs such a thread is refused meanwhile.
pub(crate) fn holding_engine<T>(callback: impl FnOnce() -> T) -> T {
    inside_of(Inside::Engine, callback)
}

/// Runs a hook that decides about a request, which holds its place among those that an engine serves at once.
pub(crate) fn in_hook<T>(hook: impl FnOnce() -> T) -> T {
    inside_of(Inside::Hook, hook)
}

/// That a call which changes an engine would not wait for itself.
///
/// # Errors
/// `PACS_REFUSED` in a callback for which an engine waits, and in a hook, whose request has its turn: with many of
/// them no turn would be left.
pub(crate) fn may_change() -> Result<(), Failure> {
    if INSIDE.get() != Inside::Nothing {
        let text = "not from this callback: the engine waits for it; hand over to a thread of your own";
        return Err(Failure::new(pacs_status::PACS_REFUSED, text));
    }
    Ok(())
}

/// Takes what one call at a time may use.
///
/// # Errors
/// `PACS_REFUSED` while another call uses it: of another thread, or the one that this callback is called from.
pub(crate) fn alone<T>(mutex: &Mutex<T>) -> Result<MutexGuard<'_, T>, Failure> {
    match mutex.try_lock() {
        Ok(guard) => Ok(guard),
        Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => Err(Failure::new(
            pacs_status::PACS_REFUSED,
            "another call uses it: it takes one at a time",
        )),
    }
}

/// Runs a callback of the caller, which may take its time: where this is a thread of our pool, another one takes
/// its other work over.
pub(crate) fn call_out<T>(callback: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(callback),
        _ => callback(),
    }
}
