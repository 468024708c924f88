//! Where an embedder takes part: one [`Decider`], one [`Coercer`] or none, many [`Observer`]s.
//!
//! A decider says yes or no, and its error is the answer that the peer gets; so is a coercer's. An observer is told what
//! happened; its error is logged and changes nothing.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use crate::access::{Certificate, Door, Identity};
use crate::dataset::DataSet;
use crate::engine::StoreOutcome;
use crate::error::Result;
use crate::index::InstanceRecord;
use crate::query::Query;
use crate::route::Delivery;
use crate::uid::{AeTitle, InstanceKey};

/// Who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// Calling AE title, where the request came over DICOM.
    pub calling_ae: Option<AeTitle>,
    /// Called AE title, where the request came over DICOM.
    pub called_ae: Option<AeTitle>,
    /// Network address, where there is one.
    pub address: Option<SocketAddr>,
    /// Who asked the sender for this by a C-MOVE, where it says so: Move Originator Application Entity Title
    /// (0000,1030; PS3.7 9.1.1.1). Not known after a restart.
    pub move_originator: Option<AeTitle>,
    /// By which way the request came in; `None` for what the program around the engine does itself, which needs no leave
    /// ([`access`](crate::access)).
    pub door: Option<Door>,
    /// Whom the other side has shown itself to be, by a certificate that was verified.
    pub certificate: Option<Arc<Certificate>>,
    /// The user that was proven.
    pub identity: Option<Arc<Identity>>,
}

impl Source {
    /// What limits count as one address: see [`site`].
    pub fn site(&self) -> Option<IpAddr> {
        self.address.map(|address| site(address.ip()))
    }
}

/// What limits count as one address: one of IPv4, in whatever form it is written, or the 64 bits of IPv6 that one site
/// has for itself.
pub fn site(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
        address => address,
    }
}

/// An instance whose bytes have arrived and that is about to be committed.
pub struct Arriving<'a> {
    /// Study, series and instance.
    pub key: InstanceKey,
    /// What stands before its pixel data.
    pub header: &'a DataSet,
    /// Who sends it.
    pub source: &'a Source,
}

impl fmt::Debug for Arriving<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arriving")
            .field("key", &self.key)
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

/// Decides what is admitted. There is one; its error is the answer.
///
/// The methods are called on the thread of the request and should answer quickly.
pub trait Decider: Send + Sync + 'static {
    /// Whether an instance may be kept.
    ///
    /// # Errors
    /// What the sender is answered; `Refused` for "not allowed".
    fn before_store(&self, arriving: &Arriving<'_>) -> Result<()> {
        let _ = arriving;
        Ok(())
    }

    /// Whether a query may be asked; it may be narrowed by adding keys.
    ///
    /// # Errors
    /// What the requester is answered.
    fn before_find(&self, source: &Source, query: &mut Query) -> Result<()> {
        let _ = (source, query);
        Ok(())
    }

    /// Whether an instance may be handed out. One that may not counts as a failed sub-operation.
    ///
    /// # Errors
    /// Why not.
    fn before_retrieve(&self, source: &Source, record: &InstanceRecord) -> Result<()> {
        let _ = (source, record);
        Ok(())
    }
}

/// Admits everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct AdmitAll;

impl Decider for AdmitAll {}

/// Coerces attributes of what arrives. There is one or none; its error is the answer.
///
/// Where there is one, the beginning of every instance is held in memory until it has been asked; so it is
/// no part of the [`Decider`], which every engine has.
pub trait Coercer: Send + Sync + 'static {
    /// What is put in place of attributes as they came (PS3.4 B.4.1.3): elements of the top level in normal
    /// form, with or without a value. Those that have their value already count for nothing.
    ///
    /// The stored bytes stay as they came. Queries find the values given here, and the instance leaves with
    /// them and with the values it came with in Original Attributes Sequence (0400,0561).
    ///
    /// It is asked once for each instance, when what stands before the pixel data has come, and before
    /// [`Decider::before_store`]. An instance that is kept already keeps what it was given first, or what it was amended to.
    ///
    /// Not to be coerced are what says which instance it is (SOP Class, SOP Instance, Study and Series
    /// Instance UID), Specific Character Set, Original and Modified Attributes Sequence, what describes the pixels (group 0028, Icon Image Sequence),
    /// pixel data and what comes behind it, and private elements.
    ///
    /// # Errors
    /// What the sender is answered. So is `Invalid` when an element is one of those above, has a VR that is
    /// not its own, can't be said in the Specific Character Set of the instance (one in plain ASCII leaves in
    /// UTF-8 then), or when all is longer than what a File Meta Information holds; `Unsupported` when the transfer syntax is a deflated one,
    /// or what stands in the way of knowing the original value is too long.
    fn coerce(&self, arriving: &Arriving<'_>) -> Result<DataSet>;
}

impl<F: Fn(&Arriving<'_>) -> Result<DataSet> + Send + Sync + 'static> Coercer for F {
    fn coerce(&self, arriving: &Arriving<'_>) -> Result<DataSet> {
        self(arriving)
    }
}

/// Something that happened and is durable.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// An instance was received.
    Received {
        /// What is kept now under its SOP Instance UID.
        record: Arc<InstanceRecord>,
        /// Who sent it.
        source: Source,
        /// Whether it is new, the same as before, or different from before.
        outcome: StoreOutcome,
    },
    /// The router decided where an instance that was received goes.
    Routed {
        /// What is kept.
        record: Arc<InstanceRecord>,
        /// Where it goes; never empty.
        deliveries: Vec<Delivery>,
    },
    /// Attributes of an instance were corrected: it leaves with other values than before.
    Amended {
        /// What is kept now under its SOP Instance UID.
        record: Arc<InstanceRecord>,
        /// Who corrected it.
        source: Source,
    },
    /// An instance was removed.
    Removed {
        /// Which.
        key: InstanceKey,
    },
}

/// Is told what happened. There may be many; their errors are logged.
///
/// Called on threads of the engine, one event after the other, those of the index in its order: an
/// observer that takes long slows every commit, so it should hand over and return.
pub trait Observer: Send + Sync + 'static {
    /// Takes note of `event`.
    ///
    /// # Errors
    /// What is logged.
    fn observe(&self, event: &Event) -> Result<()>;
}

impl<F: Fn(&Event) -> Result<()> + Send + Sync + 'static> Observer for F {
    fn observe(&self, event: &Event) -> Result<()> {
        self(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_of_ipv6_is_one_address_and_one_of_ipv4_is_the_same_in_either_form() {
        let site = |text: &str| site(text.parse().unwrap());
        assert_eq!(site("2001:db8:1:2::3"), site("2001:db8:1:2:ffff::"));
        assert_ne!(site("2001:db8:1:2::3"), site("2001:db8:1:3::3"));
        assert_eq!(site("::ffff:192.0.2.1"), site("192.0.2.1"));
    }
}
