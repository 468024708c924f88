//! The hook that decides where instances go.

use std::ffi::c_char;
use std::sync::Arc;

use pacs_core::AeTitle;
use pacs_core::route::{Delivery, Occasion, Router};

use crate::data_set::pacs_data_set;
use crate::ffi::{self, c_string, text_of};
use crate::guard::holding_engine;
use crate::hooks::{Hooks, KeyText, Lent, SourceText};
use crate::store::pacs_source;

/// Room for an AE title, with NUL.
pub const PACS_AE_TITLE_LENGTH: usize = 17;

/// The destinations that one instance may have.
pub const PACS_ROUTES_MAX: usize = 64;

/// An instance that was stored, and of which it is to be decided where it goes.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct pacs_routing {
    /// `sizeof(pacs_routing)`.
    pub struct_size: usize,
    /// Who sent it.
    pub source: *const pacs_source,
    /// Study Instance UID.
    pub study: *const c_char,
    /// Series Instance UID.
    pub series: *const c_char,
    /// SOP Instance UID.
    pub instance: *const c_char,
    /// SOP Class UID.
    pub sop_class: *const c_char,
    /// What is searched of it, of its series, its study and its patient.
    pub attributes: *const pacs_data_set,
}

/// The router that asks it.
pub(crate) struct Routing(pub(crate) Arc<Hooks>);

impl Router for Routing {
    fn route(&self, occasion: &Occasion<'_>) -> pacs_core::Result<Vec<Delivery>> {
        let hooks = &self.0;
        // It is asked about instances alone.
        let (Some(call), Some(record)) = (hooks.table.route, occasion.record) else {
            return Ok(Vec::new());
        };
        let attributes = match Lent::new(&hooks.context, record.attributes.together()) {
            Ok(attributes) => attributes,
            Err(error) => {
                tracing::error!(instance = %record.key.instance, %error, "nobody could be asked where it goes");
                return Ok(Vec::new());
            }
        };
        let (text, key, sop_class) = (
            SourceText::new(occasion.source),
            KeyText::new(record.key),
            c_string(record.sop_class.as_str()),
        );
        let (source, [study, series, instance]) = (text.raw(), key.raw());
        let routing = pacs_routing {
            struct_size: size_of::<pacs_routing>(),
            source: &source,
            study,
            series,
            instance,
            sop_class: sop_class.as_ptr(),
            attributes: attributes.0,
        };
        let mut destinations = [[0 as c_char; PACS_AE_TITLE_LENGTH]; PACS_ROUTES_MAX];
        let count =
            holding_engine(|| ffi::ask_routes(call, hooks.user.pointer(), &routing, &mut destinations));
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        if count > PACS_ROUTES_MAX {
            tracing::error!(instance = %record.key.instance, count, "the hook answered more destinations than there is room for");
        }
        let mut deliveries = Vec::new();
        for destination in destinations.iter().take(count) {
            match AeTitle::parse(&text_of(destination)) {
                Ok(destination) => deliveries.push(Delivery::to(destination.as_str())),
                Err(error) => {
                    tracing::error!(instance = %record.key.instance, %error, "the hook answered what is no AE title");
                }
            }
        }
        Ok(deliveries)
    }
}
