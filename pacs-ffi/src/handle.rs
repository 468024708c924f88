//! Handles: what C holds in place of our objects.
//!
//! A handle looks like a pointer and is none: it is a place in a table, with what stands there and how often the
//! place was used before. So a handle that was closed, that is of another kind or that was never one is told,
//! instead of followed. The table is the one thing that all contexts of the process share.

use std::any::Any;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::context::Context;
use crate::error::{Failure, pacs_status};

#[cfg(not(target_pointer_width = "64"))]
compile_error!("a handle takes 64 bits");

/// What a handle stands for.
pub(crate) trait Object: Any + Send + Sync {
    /// The opaque type that the header has for it.
    type Raw;
    /// Another number for each kind.
    const KIND: u8;
    /// What it is called in an error's text.
    const NAME: &'static str;

    /// Whose it is: where its errors are kept.
    fn context(this: &Arc<Self>) -> Arc<Context>;
}

/// Each with a lock of its own, so that threads rarely meet.
const SHARDS: usize = 16;

#[derive(Default)]
struct Shard {
    places: Vec<Place>,
    free: Vec<u32>,
}

struct Place {
    /// How often this place was used before, and so which of its handles is valid.
    generation: u32,
    object: Option<(u8, Arc<dyn Any + Send + Sync>)>,
}

static TABLE: [Mutex<Shard>; SHARDS] = [const {
    Mutex::new(Shard {
        places: Vec::new(),
        free: Vec::new(),
    })
}; SHARDS];

/// Where the next handle goes.
static NEXT: AtomicUsize = AtomicUsize::new(0);

fn shard(at: usize) -> MutexGuard<'static, Shard> {
    // Nothing panics while it holds this lock.
    TABLE[at % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bits of a handle, from the lowest: 4 that no pointer to an object has so, 4 for the shard, 24 for the place, 24
/// for the generation, 8 for the kind.
const MARK: u64 = 0b1011;
const PLACES_MAX: usize = 1 << 24;
const GENERATION_MASK: u32 = (1 << 24) - 1;

#[derive(Clone, Copy, PartialEq, Eq)]
struct Parts {
    kind: u8,
    generation: u32,
    place: u32,
    shard: usize,
}

impl Parts {
    const fn join(self) -> u64 {
        (self.kind as u64) << 56
            | (self.generation as u64) << 32
            | (self.place as u64) << 8
            | (self.shard as u64) << 4
            | MARK
    }

    const fn split(raw: u64) -> Option<Self> {
        if raw & 0xF != MARK {
            return None;
        }
        Some(Self {
            kind: (raw >> 56) as u8,
            generation: (raw >> 32) as u32 & GENERATION_MASK,
            place: (raw >> 8) as u32 & (PLACES_MAX as u32 - 1),
            shard: (raw >> 4) as usize & (SHARDS - 1),
        })
    }
}

// A handle is split as it was joined, at both ends of what its parts can be, and zeros are none. Here, since a program of
// tests for this alone would be built as long as the library.
const _: () = {
    let ends = [
        Parts {
            kind: 1,
            generation: 0,
            place: 0,
            shard: 0,
        },
        Parts {
            kind: u8::MAX,
            generation: GENERATION_MASK,
            place: PLACES_MAX as u32 - 1,
            shard: SHARDS - 1,
        },
    ];
    let mut at = 0;
    while at < ends.len() {
        let parts = ends[at];
        let is_same = match Parts::split(parts.join()) {
            Some(split) => {
                split.kind == parts.kind
                    && split.generation == parts.generation
                    && split.place == parts.place
                    && split.shard == parts.shard
            }
            None => false,
        };
        assert!(is_same);
        at += 1;
    }
    assert!(Parts::split(0).is_none());
};

/// Makes a handle, which keeps the object alive until it is taken.
pub(crate) fn insert<T: Object>(object: T) -> Result<*mut T::Raw, Failure> {
    let object = Arc::new(object);
    let context = T::context(&object);
    let at = NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS;
    let mut shard = shard(at);
    let place = match shard.free.pop() {
        Some(place) => place,
        None if shard.places.len() >= PLACES_MAX => {
            return Err(Failure::new(
                pacs_status::PACS_OUT_OF_RESOURCES,
                "too many handles are open",
            ));
        }
        None => {
            shard.places.push(Place {
                // Not the same in each run: what was never a handle here is not taken for one.
                generation: RandomState::new().hash_one(at) as u32 & GENERATION_MASK,
                object: None,
            });
            shard.places.len() as u32 - 1
        }
    };
    let entry = &mut shard.places[place as usize];
    entry.object = Some((T::KIND, object));
    let parts = Parts {
        kind: T::KIND,
        generation: entry.generation,
        place,
        shard: at,
    };
    drop(shard);
    if T::KIND != Context::KIND {
        context.handle_opened();
    }
    Ok(parts.join() as usize as *mut T::Raw)
}

/// The object behind a handle.
pub(crate) fn get<T: Object>(raw: *const T::Raw) -> Result<Arc<T>, Failure> {
    let parts = Parts::split(raw as usize as u64).ok_or_else(bad::<T>)?;
    let shard = shard(parts.shard);
    let place = shard.places.get(parts.place as usize).ok_or_else(bad::<T>)?;
    match &place.object {
        Some((kind, object))
            if *kind == T::KIND && parts.kind == T::KIND && place.generation == parts.generation =>
        {
            Arc::clone(object).downcast().map_err(|_| bad::<T>())
        }
        _ => Err(bad::<T>()),
    }
}

/// Ends a handle; answers what was behind it.
pub(crate) fn take<T: Object>(raw: *const T::Raw) -> Result<Arc<T>, Failure> {
    let object = get::<T>(raw)?;
    let parts = Parts::split(raw as usize as u64).ok_or_else(bad::<T>)?;
    let mut shard = shard(parts.shard);
    // Of two that end it at once, one comes too late.
    let place = match shard.places.get_mut(parts.place as usize) {
        Some(place) if place.generation == parts.generation && place.object.is_some() => place,
        _ => return Err(bad::<T>()),
    };
    let held = place.object.take();
    place.generation = (place.generation + 1) & GENERATION_MASK;
    shard.free.push(parts.place);
    drop(shard);
    // Outside the lock: what is dropped may be large.
    drop(held);
    if T::KIND != Context::KIND {
        T::context(&object).handle_closed();
    }
    Ok(object)
}

fn bad<T: Object>() -> Failure {
    Failure::new(
        pacs_status::PACS_BAD_HANDLE,
        format!("not an open handle of a {}", T::NAME),
    )
}
