//! Memory that is read into again and again.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Buffers of one length. Fresh memory costs a page fault for every 4 KiB and is cleared twice, by the
/// system and by us; together about as much as reading from the page cache.
#[derive(Debug)]
pub(crate) struct Buffers {
    length: usize,
    /// How many are kept.
    spare_max: usize,
    spare: Mutex<Vec<Box<[u8]>>>,
}

impl Buffers {
    pub(crate) fn new(length: usize, spare_max: usize) -> Arc<Self> {
        Arc::new(Self {
            length,
            spare_max,
            spare: Mutex::default(),
        })
    }

    /// Bytes that `fill` puts into a buffer of `length`; whatever stood in it before. Short ones have
    /// memory of their own, as they may be kept for long.
    pub(crate) fn filled<E>(
        self: &Arc<Self>,
        length: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<Bytes, E> {
        if length > self.length || length < self.length / 2 {
            let mut bytes = vec![0; length];
            fill(&mut bytes)?;
            return Ok(bytes.into());
        }
        let mut buffer = self.take();
        fill(&mut buffer.bytes[..length])?;
        Ok(buffer.freeze(length))
    }

    /// A buffer to be filled bit by bit; whatever stands in it.
    pub(crate) fn take(self: &Arc<Self>) -> Buffer {
        let spare = self.spare().pop();
        Buffer {
            bytes: spare.unwrap_or_else(|| vec![0; self.length].into_boxed_slice()),
            home: Arc::clone(self),
        }
    }

    fn spare(&self) -> std::sync::MutexGuard<'_, Vec<Box<[u8]>>> {
        // Nothing panics while it holds this lock.
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Memory that goes back to be used again.
pub(crate) struct Buffer {
    bytes: Box<[u8]>,
    home: Arc<Buffers>,
}

impl Buffer {
    /// All of it.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// The first `length` bytes of it.
    pub(crate) fn freeze(self, length: usize) -> Bytes {
        Bytes::from_owner(self).slice(..length)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut spare = self.home.spare();
        if spare.len() < self.home.spare_max {
            spare.push(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(buffers: &Arc<Buffers>, length: usize, value: u8) -> Bytes {
        let fill = |bytes: &mut [u8]| {
            bytes.fill(value);
            Ok::<_, ()>(())
        };
        buffers.filled(length, fill).expect("it is filled")
    }

    #[test]
    fn a_buffer_is_used_again_only_when_nobody_holds_its_bytes() {
        let buffers = Buffers::new(64, 1);
        let first = of(&buffers, 64, 1);
        let part = first.slice(60..);
        drop(first);
        let second = of(&buffers, 40, 2);
        assert_eq!(part, [1; 4].as_slice());
        assert_eq!(second, [2; 40].as_slice());
        let place = part.as_ptr().wrapping_sub(60);
        drop(part);
        assert_eq!(of(&buffers, 64, 3).as_ptr(), place);
    }

    #[test]
    fn no_more_buffers_are_kept_than_was_said() {
        let buffers = Buffers::new(64, 2);
        let many: Vec<Bytes> = (0..5).map(|value| of(&buffers, 64, value)).collect();
        drop(many);
        assert_eq!(buffers.spare().len(), 2);
    }
}
