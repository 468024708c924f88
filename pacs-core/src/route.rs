//! The router decides where things go: [`Router`], [`Delivery`], and [`Rules`] as data.
//!
//! A router only decides. The engine asks it about every instance that is new or replaced, once it is
//! durable and in the index, and tells the [`Observer`](crate::hooks::Observer)s what was decided
//! ([`Event::Routed`](crate::hooks::Event::Routed)); whoever sends is one of them.

use std::sync::Arc;

use crate::dataset::DataSet;
use crate::hooks::Source;
use crate::index::InstanceRecord;
use crate::query::{Model, Query, QueryOptions};
use crate::uid::{AeTitle, Level};

/// One instance to one destination.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Delivery {
    /// To whom: an AE title that the sending side knows how to reach.
    pub destination: AeTitle,
}

/// Decides where an instance goes.
///
/// Asked on the engine's own thread, so it should answer at once.
pub trait Router: Send + Sync + 'static {
    /// The deliveries of an instance that `source` sent.
    ///
    /// - The same destination twice is delivered to once.
    /// - No delivery is an answer like any other.
    fn route(&self, record: &InstanceRecord, source: &Source) -> Vec<Delivery>;
}

impl<F: Fn(&InstanceRecord, &Source) -> Vec<Delivery> + Send + Sync + 'static> Router for F {
    fn route(&self, record: &InstanceRecord, source: &Source) -> Vec<Delivery> {
        self(record, source)
    }
}

/// One condition and where it leads.
#[derive(Clone, Debug)]
pub struct Rule {
    query: Query,
    calling_ae: Option<AeTitle>,
    destinations: Vec<AeTitle>,
}

impl Rule {
    /// Instances that match `keys`, as a query at the level of instances would find them (PS3.4
    /// C.2.2.2), go to `destinations`. No keys match every instance.
    pub fn new(keys: DataSet, destinations: Vec<AeTitle>) -> Self {
        let options = QueryOptions {
            relational: true,
            ..QueryOptions::default()
        };
        let query = Query::new(Model::PatientRoot, Level::Instance, keys, options);
        Self {
            query,
            calling_ae: None,
            destinations,
        }
    }

    /// Only those that this AE title sent.
    #[must_use]
    pub fn from_ae(mut self, calling_ae: AeTitle) -> Self {
        self.calling_ae = Some(calling_ae);
        self
    }

    fn applies(&self, record: &DataSet, source: &Source) -> bool {
        let from = self
            .calling_ae
            .is_none_or(|title| source.calling_ae == Some(title));
        from && self.query.matches(record)
    }
}

/// A router by rules: every rule that applies counts.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    rules: Arc<[Rule]>,
}

impl Rules {
    /// From the rules in any order.
    pub fn new(rules: Vec<Rule>) -> Self {
        Self { rules: rules.into() }
    }
}

impl Router for Rules {
    fn route(&self, record: &InstanceRecord, source: &Source) -> Vec<Delivery> {
        let known = record.attributes.together();
        let mut deliveries = Vec::new();
        for rule in self.rules.iter().filter(|rule| rule.applies(&known, source)) {
            for destination in &rule.destinations {
                let delivery = Delivery {
                    destination: *destination,
                };
                if !deliveries.contains(&delivery) {
                    deliveries.push(delivery);
                }
            }
        }
        deliveries
    }
}
