//! What an object of the archive holds: a *pack*.
//!
//! ```text
//! the Part 10 streams of its instances, one behind the other
//! the directory: an item for each of them, for each instance that has an object of its own, for each removal
//! the trailer, 48 bytes: magic, version, number of items, length of the directory, length of the object when it was
//!     first written, who wrote it, checksum of all of these and of the directory
//! ```
//!
//! Packs are numbered, and an item's place in its pack and the pack's number are its sequence. Numbers are little-endian.
//! What was removed loses its bytes when the pack is written again; its item says so, and the others keep their places.

use bytes::{Buf, BufMut, Bytes};
use pacs_core::{InstanceKey, Locator, Sequence, Stored, Timestamp, Uid};
use twox_hash::XxHash3_64;

const MAGIC: &[u8; 8] = b"PACSPACK";
const VERSION: u32 = 1;
pub(super) const TRAILER_LENGTH: usize = 48;
/// Of the trailer, what the checksum covers.
const COVERED: usize = TRAILER_LENGTH - 8;
/// A directory that says it is longer is none of ours.
pub(super) const DIRECTORY_LENGTH_MAX: u64 = 8 << 20;

/// Bits of a sequence that say which item of a pack it is.
const ITEM_BITS: u32 = 20;
/// Items that a pack has at most.
pub(super) const ITEMS_MAX: usize = 10_000;
/// There is no greater number of a pack: sequences end there.
pub(super) const NUMBER_MAX: u64 = (1 << (64 - ITEM_BITS)) - 1;

/// Where an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Position {
    /// The number of its pack.
    pub(super) pack: u64,
    /// Which of the pack's items.
    pub(super) item: u32,
}

impl Position {
    pub(super) fn sequence(self) -> Sequence {
        Sequence(self.pack << ITEM_BITS | u64::from(self.item))
    }

    /// The number of the pack that has it.
    pub(super) fn pack_of(sequence: Sequence) -> u64 {
        sequence.0 >> ITEM_BITS
    }

    /// The last that there can be in a pack.
    pub(super) fn last_of(pack: u64) -> Sequence {
        Sequence(pack << ITEM_BITS | ((1 << ITEM_BITS) - 1))
    }
}

/// The name of an object that holds one instance: its bytes alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct StreamName {
    /// The number of the last pack when it was begun.
    pub(super) begun: u64,
    pub(super) random: u128,
}

/// Where the bytes of an instance are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// In the pack; behind this many bytes when the pack was first written.
    Inside(u64),
    /// In an object of their own.
    Own(StreamName),
}

/// An item of a pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    Instance {
        key: InstanceKey,
        received: Timestamp,
        body: Body,
        length: u64,
        checksum: u64,
    },
    /// An instance that was removed.
    Gone,
    /// That an instance was removed.
    Removal { instance: Uid, locator: Locator },
}

/// A pack without its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pack {
    /// Who wrote it: a number that each opening of an archive draws.
    pub(super) writer: u64,
    /// The length of the object when it was first written, which places in it tell. Rewritten it is shorter.
    pub(super) first_length: u64,
    pub(super) items: Vec<Item>,
}

impl Pack {
    /// A pack that begins with `body_bytes` of bodies.
    pub(super) fn new(writer: u64, items: Vec<Item>, body_bytes: u64) -> Self {
        let mut pack = Self {
            writer,
            first_length: 0,
            items,
        };
        pack.first_length = body_bytes + pack.encode().len() as u64;
        pack
    }

    /// Directory and trailer.
    pub(super) fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        for item in &self.items {
            match item {
                Item::Instance {
                    key,
                    received,
                    body,
                    length,
                    checksum,
                } => {
                    match body {
                        Body::Inside(offset) => {
                            out.put_u8(0);
                            out.put_u64_le(*offset);
                        }
                        Body::Own(name) => {
                            out.put_u8(1);
                            out.put_u64_le(name.begun);
                            out.put_u128_le(name.random);
                        }
                    }
                    out.put_u64_le(received.0);
                    out.put_u64_le(*length);
                    out.put_u64_le(*checksum);
                    for uid in [&key.study, &key.series, &key.instance] {
                        put_short(&mut out, uid.as_str().as_bytes());
                    }
                }
                Item::Gone => out.put_u8(2),
                Item::Removal { instance, locator } => {
                    out.put_u8(3);
                    put_short(&mut out, instance.as_str().as_bytes());
                    put_short(&mut out, locator.as_bytes());
                }
            }
        }
        let directory_length = out.len() as u64;
        out.put_slice(MAGIC);
        out.put_u32_le(VERSION);
        out.put_u32_le(self.items.len() as u32);
        out.put_u64_le(directory_length);
        out.put_u64_le(self.first_length);
        out.put_u64_le(self.writer);
        let checksum = XxHash3_64::oneshot(&out);
        out.put_u64_le(checksum);
        out.into()
    }

    /// How long the directory is, by the last bytes of an object; none when it is no pack.
    pub(super) fn directory_length(end: &[u8]) -> Option<u64> {
        let mut trailer = end.get(end.len().checked_sub(TRAILER_LENGTH)?..)?;
        if trailer.get(..8)? != MAGIC {
            return None;
        }
        trailer.advance(8);
        let (version, _count) = (trailer.get_u32_le(), trailer.get_u32_le());
        let length = trailer.get_u64_le();
        (version == VERSION && length <= DIRECTORY_LENGTH_MAX).then_some(length)
    }

    /// What an object's last bytes say, which hold directory and trailer; none when they are damaged.
    pub(super) fn decode(end: &[u8]) -> Option<Self> {
        let directory_length = usize::try_from(Self::directory_length(end)?).ok()?;
        let begin = end.len().checked_sub(TRAILER_LENGTH + directory_length)?;
        let (covered, mut checksum) = end[begin..].split_at(directory_length + COVERED);
        if XxHash3_64::oneshot(covered) != checksum.get_u64_le() {
            return None;
        }
        let (mut directory, mut trailer) = covered.split_at(directory_length);
        trailer.advance(12);
        let count = trailer.get_u32_le();
        trailer.advance(8);
        let (first_length, writer) = (trailer.get_u64_le(), trailer.get_u64_le());
        if count as usize > ITEMS_MAX {
            return None;
        }
        let mut items: Vec<Item> = Vec::new();
        let mut bodies: u64 = 0;
        for _ in 0..count {
            let item = get_item(&mut directory)?;
            bodies = bodies
                .checked_add(item.body_length())
                .filter(|bodies| *bodies <= first_length)?;
            items.push(item);
        }
        directory.is_empty().then_some(Self {
            writer,
            first_length,
            items,
        })
    }

    /// Where the bytes of an instance in the pack begin, as it is now.
    pub(super) fn offset_of(&self, item: u32) -> u64 {
        let before = self.items.iter().take(item as usize);
        before.map(Item::body_length).sum()
    }

    /// What is kept at this position, if anything.
    pub(super) fn stored(&self, position: Position) -> Option<(InstanceKey, Stored)> {
        let Item::Instance {
            key,
            received,
            body,
            length,
            checksum,
        } = self.items.get(position.item as usize)?
        else {
            return None;
        };
        let place = Place {
            position,
            body: match body {
                Body::Inside(offset) => PlaceBody::Inside {
                    offset: *offset,
                    object_length: self.first_length,
                },
                Body::Own(name) => PlaceBody::Own(*name),
            },
            length: *length,
            checksum: *checksum,
        };
        let stored = Stored {
            locator: place.to_locator(),
            length: *length,
            sequence: position.sequence(),
            received: *received,
        };
        Some((*key, stored))
    }
}

impl Item {
    /// How much of the pack's own bytes are its.
    pub(super) fn body_length(&self) -> u64 {
        match self {
            Self::Instance {
                body: Body::Inside(_),
                length,
                ..
            } => *length,
            _ => 0,
        }
    }
}

fn put_short(out: &mut Vec<u8>, bytes: &[u8]) {
    // UIDs and locators are at most 255 bytes long.
    out.put_u8(bytes.len() as u8);
    out.put_slice(bytes);
}

fn get_short<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::from(from.try_get_u8().ok()?);
    from.split_off(..length)
}

fn get_uid(from: &mut &[u8]) -> Option<Uid> {
    Uid::parse(std::str::from_utf8(get_short(from)?).ok()?).ok()
}

fn get_item(from: &mut &[u8]) -> Option<Item> {
    let body = match from.try_get_u8().ok()? {
        0 => Body::Inside(from.try_get_u64_le().ok()?),
        1 => Body::Own(StreamName {
            begun: from.try_get_u64_le().ok()?,
            random: from.try_get_u128_le().ok()?,
        }),
        2 => return Some(Item::Gone),
        3 => {
            return Some(Item::Removal {
                instance: get_uid(from)?,
                locator: Locator::new(get_short(from)?),
            });
        }
        _ => return None,
    };
    Some(Item::Instance {
        body,
        received: Timestamp(from.try_get_u64_le().ok()?),
        length: from.try_get_u64_le().ok()?,
        checksum: from.try_get_u64_le().ok()?,
        key: InstanceKey {
            study: get_uid(from)?,
            series: get_uid(from)?,
            instance: get_uid(from)?,
        },
    })
}

/// What a locator of the archive says: enough to read an instance with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) position: Position,
    pub(super) body: PlaceBody,
    pub(super) length: u64,
    pub(super) checksum: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PlaceBody {
    /// As long as the object has this length, the bytes are there.
    Inside {
        offset: u64,
        object_length: u64,
    },
    Own(StreamName),
}

const INSIDE: u8 = 1;
const OWN: u8 = 2;

impl Place {
    pub(super) fn to_locator(self) -> Locator {
        let mut out = Vec::with_capacity(64);
        out.put_u8(match self.body {
            PlaceBody::Inside { .. } => INSIDE,
            PlaceBody::Own(_) => OWN,
        });
        out.put_u64_le(self.position.pack);
        out.put_u32_le(self.position.item);
        out.put_u64_le(self.length);
        out.put_u64_le(self.checksum);
        match self.body {
            PlaceBody::Inside {
                offset,
                object_length,
            } => {
                out.put_u64_le(offset);
                out.put_u64_le(object_length);
            }
            PlaceBody::Own(name) => {
                out.put_u64_le(name.begun);
                out.put_u128_le(name.random);
            }
        }
        Locator::new(&out)
    }

    /// None when it is no locator of an archive of this kind.
    pub(super) fn from_locator(locator: &Locator) -> Option<Self> {
        let from = &mut locator.as_bytes();
        let kind = from.try_get_u8().ok()?;
        let position = Position {
            pack: from.try_get_u64_le().ok()?,
            item: from.try_get_u32_le().ok()?,
        };
        let (length, checksum) = (from.try_get_u64_le().ok()?, from.try_get_u64_le().ok()?);
        let body = match kind {
            INSIDE => PlaceBody::Inside {
                offset: from.try_get_u64_le().ok()?,
                object_length: from.try_get_u64_le().ok()?,
            },
            OWN => PlaceBody::Own(StreamName {
                begun: from.try_get_u64_le().ok()?,
                random: from.try_get_u128_le().ok()?,
            }),
            _ => return None,
        };
        let fits = match body {
            PlaceBody::Inside {
                offset,
                object_length,
            } => offset.checked_add(length).is_some_and(|end| end <= object_length),
            PlaceBody::Own(name) => name.begun <= NUMBER_MAX,
        };
        let is_one = from.is_empty() && fits && (1..=NUMBER_MAX).contains(&position.pack);
        is_one.then_some(Self {
            position,
            body,
            length,
            checksum,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(n: u64) -> InstanceKey {
        let uid = |n: u64| Uid::parse(&format!("1.2.{n}")).unwrap();
        InstanceKey {
            study: uid(n / 4),
            series: uid(n / 2),
            instance: uid(n),
        }
    }

    fn item() -> impl Strategy<Value = Item> {
        let body = prop_oneof![
            any::<u64>().prop_map(Body::Inside),
            (0..NUMBER_MAX, any::<u128>())
                .prop_map(|(begun, random)| Body::Own(StreamName { begun, random })),
        ];
        let instance = (any::<u64>(), any::<u64>(), body, 0..1_u64 << 40, any::<u64>());
        prop_oneof![
            instance.prop_map(|(n, received, body, length, checksum)| Item::Instance {
                key: key(n),
                received: Timestamp(received),
                body,
                length,
                checksum,
            }),
            Just(Item::Gone),
            (any::<u64>(), prop::collection::vec(any::<u8>(), 0..=255)).prop_map(|(n, locator)| {
                Item::Removal {
                    instance: key(n).instance,
                    locator: Locator::new(&locator),
                }
            }),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_a_changed_byte_is_noticed(
            writer: u64, items in prop::collection::vec(item(), 0..20), at: prop::sample::Index, bit in 0..8_u32,
        ) {
            let body_bytes = items.iter().map(Item::body_length).sum();
            let pack = Pack::new(writer, items, body_bytes);
            let mut bytes = pack.encode().to_vec();
            prop_assert_eq!(pack.first_length, body_bytes + bytes.len() as u64);
            prop_assert_eq!(Pack::decode(&bytes), Some(pack.clone()));
            prop_assert_eq!(Pack::decode(&[b"before", &bytes[..]].concat()), Some(pack));
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(Pack::decode(&bytes), None);
            prop_assert_eq!(Pack::decode(&bytes[1..]), None);
        }

        #[test]
        fn any_bytes_are_a_pack_or_none(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(Pack::decode(&bytes), None);
            let _ = Place::from_locator(&Locator::new(&bytes));
        }

        #[test]
        fn what_a_pack_says_of_an_instance_is_in_its_locator(items in prop::collection::vec(item(), 1..20), pack in 1..=NUMBER_MAX) {
            let body_bytes = items.iter().map(|item| match item {
                Item::Instance { body: Body::Inside(offset), length, .. } => offset.saturating_add(*length),
                _ => 0,
            }).max().unwrap_or(0);
            prop_assume!(body_bytes < 1 << 62);
            let body_bytes = body_bytes + items.iter().map(Item::body_length).sum::<u64>();
            let written = Pack::new(1, items, body_bytes);
            for item in 0..written.items.len() as u32 {
                let position = Position { pack, item };
                let Some((_, stored)) = written.stored(position) else { continue };
                let place = Place::from_locator(&stored.locator).expect("it is ours");
                prop_assert_eq!(place.position, position);
                prop_assert_eq!(place.length, stored.length);
                prop_assert_eq!(place.to_locator(), stored.locator);
                prop_assert_eq!(Position::pack_of(stored.sequence), pack);
            }
        }
    }
}
