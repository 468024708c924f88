//! Orders that are placed: the router is asked about them before their placer is answered.

use std::sync::Arc;

use bytes::Bytes;
use futures::channel::oneshot;

use super::ask::Decisions;
use super::{State, block_on};
use crate::archive::{Sequence, Timestamp};
use crate::dataset::{DataSet, compact};
use crate::engine::Pacs;
use crate::engine::committer::Request;
use crate::error::{Error, ErrorKind, Result};
use crate::hooks::Source;
use crate::ledger::{Key, Parts, Step};
use crate::route::{Decided, Delivery, Occasion, Trigger, What};
use crate::uid::Uid;
use crate::workflow::Worklist;
use crate::workflow::worklist::status;

/// What is to be done of a study.
pub(in crate::engine) struct Ordered {
    pub(in crate::engine) study: Uid,
    /// Items of the worklist.
    items: Vec<DataSet>,
    source: Source,
    reply: oneshot::Sender<Result<()>>,
}

fn noted(study: &Uid) -> Bytes {
    Key::of("ordered").text(study.as_str()).bytes()
}

impl State {
    /// Asks about an order, and answers its placer.
    pub(super) fn ordered(&mut self, order: Ordered) {
        let mut entered = Err(Error::new(
            ErrorKind::Internal,
            "engine.order",
            "the order failed",
        ));
        self.noted(|state| {
            entered = state.enter_order(&order);
            Ok(())
        });
        // Who placed it may have gone.
        let _ = order.reply.send(entered);
    }

    fn enter_order(&mut self, order: &Ordered) -> Result<()> {
        let Some((_, ledger)) = &self.forwarder.outbox else {
            return Ok(());
        };
        let mut content = Vec::new();
        for item in &order.items {
            content.extend_from_slice(&compact::to_bytes(item));
        }
        let version = twox_hash::XxHash3_64::oneshot(&content);
        if let Some(value) = block_on(ledger.get(&noted(&order.study)))? {
            let mut parts = Parts::of(&value);
            parts.text()?;
            if parts.number()? == version {
                return Ok(());
            }
        }
        let at = Timestamp::now();
        let mut deliveries: Vec<Delivery> = Vec::new();
        for item in &order.items {
            let item = Arc::new(item.clone());
            let found = self.forwarder.ask(&Occasion {
                trigger: Trigger::OrderPlaced,
                record: None,
                source: &order.source,
                fetched: false,
                at,
                attributes: &self.forwarder.attributes,
                header: &|| Ok(Arc::clone(&item)),
            })?;
            for delivery in found {
                match deliveries
                    .iter_mut()
                    .find(|known| known.destination == delivery.destination)
                {
                    Some(known) => known.priority = known.priority.min(delivery.priority),
                    None if delivery.tells => deliveries.push(delivery),
                    None => {
                        tracing::error!(destination = %delivery.destination, "of an order there is nothing to send");
                    }
                }
            }
        }
        if deliveries.is_empty() {
            return Ok(());
        }
        let decided = deliveries.into_iter().map(|delivery| Decided {
            delivery,
            what: What::Occasion(Trigger::OrderPlaced, order.study, at),
            study: order.study,
            sequence: Sequence(0),
            version,
        });
        let decisions = Decisions {
            decided: decided.collect(),
            ..Decisions::default()
        };
        let value = Key::of("1").number(version).number(at.0).bytes();
        self.enter(decisions, vec![Step::Put(noted(&order.study), value)])
    }
}

impl Pacs {
    /// Has the router asked about the orders of a study ([`Trigger::OrderPlaced`]): about each item of the worklist
    /// with this Study Instance UID that is not over. `source` is who placed them. When it returns, what was decided is
    /// durable.
    ///
    /// - Asked again, nothing is entered again, unless the items have changed.
    /// - Where no item is left that is to be done, where no router wants to know of orders, and where deliveries are not
    ///   kept, nothing happens.
    ///
    /// # Errors
    /// What router and ledger say when it may work another time; `OutOfResources` when too much is asked about now.
    pub async fn order_placed(&self, study: &Uid, source: &Source) -> Result<()> {
        if !self.inner.wants_orders() {
            return Ok(());
        }
        let mut items = Worklist::new(Arc::clone(self.ledger()?)).of_study(study).await?;
        items.retain(|item| !status::is_over(status::of(item)));
        if items.is_empty() {
            return Ok(());
        }
        let (reply, answer) = oneshot::channel();
        let order = Ordered {
            study: *study,
            items,
            source: source.clone(),
            reply,
        };
        self.inner.send(Request::Ordered(order)).await?;
        answer.await.map_err(|_| {
            let why = "too much is asked about where it goes: the order is to be placed again";
            Error::new(ErrorKind::OutOfResources, "engine.order", why)
        })?
    }
}
