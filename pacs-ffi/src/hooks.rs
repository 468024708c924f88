//! Hooks: where C code takes part in what the engine does.

use std::ffi::{c_char, c_void};
use std::fmt;
use std::ptr;
use std::sync::Arc;

use futures::future::BoxFuture;
use pacs_core::hooks::{Arriving, Event};
use pacs_core::{
    Coercer, DataSet, Decider, Error, InstanceKey, InstanceRecord, Level, Observer, Options, Query, Result,
    Source,
};
use pacs_net::transport::{Admission, Admitted, Peer};
use pacs_net::ul::pdu::{AssociateRq, Rejection};

use crate::context::Context;
use crate::data_set::{Set, pacs_data_set};
use crate::engine::pacs_level;
use crate::error::{Failure, pacs_status};
use crate::ffi::{self, Sized_, User, c_string};
use crate::guard::{call_out, holding_engine, in_hook};
use crate::handle;
use crate::routing::{PACS_AE_TITLE_LENGTH, Routing, pacs_routing};
use crate::store::{pacs_outcome, pacs_source};

/// Room for the reason that a hook gives, with NUL: what fits an Error Comment (0000,0902).
pub const PACS_REASON_LENGTH: usize = 65;

/// An instance whose bytes have arrived and that is about to be kept.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct pacs_arriving {
    /// `sizeof(pacs_arriving)`.
    pub struct_size: usize,
    /// Who sends it.
    pub source: *const pacs_source,
    /// Study Instance UID.
    pub study: *const c_char,
    /// Series Instance UID.
    pub series: *const c_char,
    /// SOP Instance UID.
    pub instance: *const c_char,
    /// What stands before its pixel data.
    pub header: *const pacs_data_set,
    /// Empty: what is put here takes the place of what came (PS3.4 B.4.1.3). The stored bytes stay; queries find the
    /// values given here, and the instance leaves with them and with the values it came with in Original Attributes
    /// Sequence.
    pub changes: *mut pacs_data_set,
}

/// A query that is about to be asked.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct pacs_asking {
    /// `sizeof(pacs_asking)`.
    pub struct_size: usize,
    /// Who asks.
    pub source: *const pacs_source,
    /// What is asked for: a `pacs_level`.
    pub level: i32,
    /// Its keys.
    pub keys: *const pacs_data_set,
    /// Empty: keys that are put here must match too, so that who asks sees only a part.
    pub restriction: *mut pacs_data_set,
}

/// An instance that is about to be handed out.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct pacs_retrieving {
    /// `sizeof(pacs_retrieving)`.
    pub struct_size: usize,
    /// Who gets it.
    pub source: *const pacs_source,
    /// Study Instance UID.
    pub study: *const c_char,
    /// Series Instance UID.
    pub series: *const c_char,
    /// SOP Instance UID.
    pub instance: *const c_char,
    /// SOP Class UID.
    pub sop_class: *const c_char,
}

/// An association that a peer asks for.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct pacs_associating {
    /// `sizeof(pacs_associating)`.
    pub struct_size: usize,
    /// Who asks.
    pub source: *const pacs_source,
    /// Type of the user identity (PS3.7 D.3.3.7): 1 user name, 2 user name and passcode, 3 Kerberos, 4 SAML, 5 JSON web
    /// token; 0 for none.
    pub identity_type: u32,
    /// User name, ticket, assertion or token; no NUL behind it.
    pub identity: *const c_void,
    /// Its length in bytes.
    pub identity_length: usize,
    /// The passcode, with type 2; no NUL behind it.
    pub passcode: *const c_void,
    /// Its length in bytes.
    pub passcode_length: usize,
}

/// What happened: a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum pacs_event_kind {
    /// An instance was stored, or was there already.
    PACS_EVENT_STORED = 1,
    /// An instance was removed.
    PACS_EVENT_REMOVED = 2,
    /// Attributes of an instance were corrected: it leaves with other values than before.
    PACS_EVENT_AMENDED = 3,
    /// The hook `route` decided that an instance that was stored goes to a destination.
    PACS_EVENT_ROUTED = 4,
}

/// Something that happened and is durable.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct pacs_event {
    /// `sizeof(pacs_event)`.
    pub struct_size: usize,
    /// What happened.
    pub kind: pacs_event_kind,
    /// Who sent or amended the instance; null where nobody did, and where it is routed. Of a file that is stored without
    /// a source its Source Application Entity Title (0002,0016) is the calling AE title.
    pub source: *const pacs_source,
    /// Study Instance UID.
    pub study: *const c_char,
    /// Series Instance UID.
    pub series: *const c_char,
    /// SOP Instance UID.
    pub instance: *const c_char,
    /// Of an instance that was stored: what it was to the engine.
    pub outcome: pacs_outcome,
    /// Zero.
    pub reserved: u32,
    /// Where a routed instance goes; null where nothing is routed.
    pub destination: *const c_char,
}

/// Functions of the caller that take part in what an engine does, on whatever thread that happens: they may be called
/// by several threads at once. Each may be null. What they are given is valid during the call.
///
/// Those that decide answer `PACS_OK`, or why not: it is what the peer is answered, with the text that they put into
/// `reason` (room for `PACS_REASON_LENGTH` bytes; it must hold no patient data). They should answer quickly. Calls that
/// change an engine or stop a server are answered with `PACS_REFUSED` in them, others may be made.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct pacs_hooks {
    /// `sizeof(pacs_hooks)`.
    pub struct_size: usize,
    /// Given to every hook.
    pub user: *mut c_void,
    /// Called with `user` when no hook is called any more, once, also when the engine could not be opened, but not when
    /// the context was none or `struct_size` wrong. May be null.
    pub destroy: Option<unsafe extern "C" fn(user: *mut c_void)>,
    /// Whether an association is accepted by a server of this engine. `PACS_OUT_OF_RESOURCES` rejects it for now, every
    /// other failure for good.
    pub associate:
        Option<unsafe extern "C" fn(user: *mut c_void, associating: *const pacs_associating) -> i32>,
    /// Whether an instance is kept, and with which changes. Where there is one, the beginning of each instance is held
    /// in memory until it has answered.
    pub before_store: Option<
        unsafe extern "C" fn(user: *mut c_void, arriving: *const pacs_arriving, reason: *mut c_char) -> i32,
    >,
    /// Whether a query is asked, and of which part of what is kept.
    pub before_find: Option<
        unsafe extern "C" fn(user: *mut c_void, asking: *const pacs_asking, reason: *mut c_char) -> i32,
    >,
    /// Whether an instance is handed out.
    pub before_retrieve: Option<
        unsafe extern "C" fn(
            user: *mut c_void,
            retrieving: *const pacs_retrieving,
            reason: *mut c_char,
        ) -> i32,
    >,
    /// Told what happened, one event after the other. The engine waits for it, so it should hand over and return.
    pub happened: Option<unsafe extern "C" fn(user: *mut c_void, event: *const pacs_event)>,
    /// Where an instance goes that was stored and is new, or other than before: writes AE titles into `destinations`, a row
    /// each, and answers how many; there is room for `PACS_ROUTES_MAX`. It only decides: `happened` is told of each
    /// destination once, and whoever sends acts on that. It is not asked when an instance is amended. The engine waits for it, so it should answer at once.
    pub route: Option<
        unsafe extern "C" fn(
            user: *mut c_void,
            routing: *const pacs_routing,
            destinations: *mut [c_char; PACS_AE_TITLE_LENGTH],
        ) -> u32,
    >,
}

// SAFETY: it begins with its size, and all zero is valid: no function at all.
unsafe impl Sized_ for pacs_hooks {
    const FIRST_SIZE: usize = 64;
}

/// The hooks of one engine.
pub(crate) struct Hooks {
    pub(crate) context: Arc<Context>,
    pub(crate) table: pacs_hooks,
    pub(crate) user: User,
}

// SAFETY: the header asks that hooks may be called from any thread with `user`; the rest of the table is code.
unsafe impl Send for Hooks {}
// SAFETY: as above, also by several at once.
unsafe impl Sync for Hooks {}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks").finish_non_exhaustive()
    }
}

/// Reads the hooks; null is none.
pub(crate) fn hooks(
    context: &Arc<Context>,
    hooks: *const pacs_hooks,
) -> std::result::Result<Option<Arc<Hooks>>, Failure> {
    Ok(ffi::optional_sized(hooks)?.map(|table| {
        Arc::new(Hooks {
            context: Arc::clone(context),
            user: User::new(table.user, table.destroy),
            table,
        })
    }))
}

impl Hooks {
    /// Has an engine ask them.
    pub(crate) fn put_into(self: &Arc<Self>, options: &mut Options) {
        options.decider = Arc::new(Deciding(Arc::clone(self)));
        if self.table.before_store.is_some() {
            options.coercer = Some(Arc::new(Coercing(Arc::clone(self))));
        }
        if self.table.route.is_some() {
            options.router = Some(Arc::new(Routing(Arc::clone(self))));
            // Who wrote the hook delivers.
            options.keep_deliveries = false;
        }
        if self.table.happened.is_some() {
            options.observers.push(Arc::new(Observing(Arc::clone(self))));
        }
    }

    /// Who decides about associations, if one does.
    pub(crate) fn admission(self: &Arc<Self>) -> Option<Arc<dyn Admission>> {
        self.table
            .associate
            .is_some()
            .then(|| Arc::new(Admitting(Arc::clone(self))) as _)
    }
}

/// A source as C has it, with the text that it points to.
pub(crate) struct SourceText {
    calling: Option<std::ffi::CString>,
    called: Option<std::ffi::CString>,
    address: Option<std::ffi::CString>,
    user: Option<std::ffi::CString>,
    roles: Option<std::ffi::CString>,
}

impl SourceText {
    pub(crate) fn new(source: &Source) -> Self {
        let title = |title: &Option<pacs_core::AeTitle>| title.map(|title| c_string(title.as_str()));
        Self {
            calling: title(&source.calling_ae),
            called: title(&source.called_ae),
            address: source.address.map(|address| c_string(&address.to_string())),
            user: source.identity.as_ref().map(|user| c_string(&user.name)),
            roles: source
                .identity
                .as_ref()
                .map(|user| c_string(&user.roles.join(","))),
        }
    }

    pub(crate) fn raw(&self) -> pacs_source {
        let pointer =
            |text: &Option<std::ffi::CString>| text.as_ref().map_or(ptr::null(), |text| text.as_ptr());
        pacs_source {
            struct_size: size_of::<pacs_source>(),
            calling_ae: pointer(&self.calling),
            called_ae: pointer(&self.called),
            address: pointer(&self.address),
            user: pointer(&self.user),
            roles: pointer(&self.roles),
        }
    }
}

/// The UIDs of an instance as C has them.
pub(crate) struct KeyText([std::ffi::CString; 3]);

impl KeyText {
    pub(crate) fn new(key: InstanceKey) -> Self {
        Self([key.study, key.series, key.instance].map(|uid| c_string(uid.as_str())))
    }

    pub(crate) fn raw(&self) -> [*const c_char; 3] {
        self.0.each_ref().map(|text| text.as_ptr())
    }
}

/// A handle that is valid during a call.
pub(crate) struct Lent(pub(crate) *mut pacs_data_set);

impl Lent {
    pub(crate) fn new(context: &Arc<Context>, set: DataSet) -> Result<Self> {
        handle::insert(Set::new(context, set)).map(Self).map_err(failed)
    }

    /// What is in it now.
    fn copy(&self) -> Result<DataSet> {
        let set = handle::get::<Set>(self.0).map_err(failed)?;
        Ok(set.copy())
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // A callback that freed it was wrong, and has done no harm.
        let _ = handle::take::<Set>(self.0);
    }
}

fn failed(failure: Failure) -> Error {
    Error::new(failure.status.kind(), "hook.call", failure.text())
}

/// What a hook decided, with the reason that it gave.
fn decided(operation: &'static str, call: impl FnOnce(*mut c_char) -> i32) -> Result<()> {
    let mut reason = [0 as c_char; PACS_REASON_LENGTH];
    let number = call_out(|| in_hook(|| call(reason.as_mut_ptr())));
    match pacs_status::of_number(number) {
        Some(pacs_status::PACS_OK) => Ok(()),
        status => {
            let status = status.unwrap_or(pacs_status::PACS_INTERNAL);
            let text = match ffi::text_of(&reason) {
                text if text.is_empty() => "a hook of the program answered no".to_owned(),
                text => text,
            };
            Err(Error::new(status.kind(), operation, text))
        }
    }
}

struct Deciding(Arc<Hooks>);

impl Decider for Deciding {
    fn before_find(&self, source: &Source, query: &mut Query) -> Result<()> {
        let hooks = &self.0;
        let Some(call) = hooks.table.before_find else {
            return Ok(());
        };
        let text = SourceText::new(source);
        let (source, keys) = (text.raw(), Lent::new(&hooks.context, query.keys().clone())?);
        let restriction = Lent::new(&hooks.context, DataSet::new())?;
        let asking = pacs_asking {
            struct_size: size_of::<pacs_asking>(),
            source: &source,
            level: level(query.level()) as i32,
            keys: keys.0,
            restriction: restriction.0,
        };
        decided("hook.find", |reason| {
            ffi::ask(call, hooks.user.pointer(), &asking, reason)
        })?;
        let restriction = restriction.copy()?;
        if !restriction.is_empty() {
            query.restrict(&restriction);
        }
        Ok(())
    }

    fn before_retrieve(&self, source: &Source, record: &InstanceRecord) -> Result<()> {
        let hooks = &self.0;
        let Some(call) = hooks.table.before_retrieve else {
            return Ok(());
        };
        let (text, key) = (SourceText::new(source), KeyText::new(record.key));
        let (source, [study, series, instance]) = (text.raw(), key.raw());
        let sop_class = c_string(record.sop_class.as_str());
        let retrieving = pacs_retrieving {
            struct_size: size_of::<pacs_retrieving>(),
            source: &source,
            study,
            series,
            instance,
            sop_class: sop_class.as_ptr(),
        };
        decided("hook.retrieve", |reason| {
            ffi::ask(call, hooks.user.pointer(), &retrieving, reason)
        })
    }
}

fn level(level: Level) -> pacs_level {
    match level {
        Level::Patient => pacs_level::PACS_LEVEL_PATIENT,
        Level::Study => pacs_level::PACS_LEVEL_STUDY,
        Level::Series => pacs_level::PACS_LEVEL_SERIES,
        Level::Instance => pacs_level::PACS_LEVEL_INSTANCE,
    }
}

struct Coercing(Arc<Hooks>);

impl Coercer for Coercing {
    fn coerce(&self, arriving: &Arriving<'_>) -> Result<DataSet> {
        let hooks = &self.0;
        let Some(call) = hooks.table.before_store else {
            return Ok(DataSet::new());
        };
        let (text, key) = (SourceText::new(arriving.source), KeyText::new(arriving.key));
        let (source, [study, series, instance]) = (text.raw(), key.raw());
        let header = Lent::new(&hooks.context, arriving.header.clone())?;
        let changes = Lent::new(&hooks.context, DataSet::new())?;
        let arriving = pacs_arriving {
            struct_size: size_of::<pacs_arriving>(),
            source: &source,
            study,
            series,
            instance,
            header: header.0,
            changes: changes.0,
        };
        decided("hook.store", |reason| {
            ffi::ask(call, hooks.user.pointer(), &arriving, reason)
        })?;
        changes.copy()
    }
}

struct Observing(Arc<Hooks>);

impl Observer for Observing {
    fn observe(&self, event: &Event) -> Result<()> {
        let none = pacs_outcome::PACS_OUTCOME_NEW;
        let (kind, key, source, outcome) = match event {
            Event::Received {
                record,
                source,
                outcome,
            } => (
                pacs_event_kind::PACS_EVENT_STORED,
                record.key,
                Some(source),
                (*outcome).into(),
            ),
            Event::Amended { record, source } => (
                pacs_event_kind::PACS_EVENT_AMENDED,
                record.key,
                Some(source),
                none,
            ),
            Event::Removed { key } => (pacs_event_kind::PACS_EVENT_REMOVED, *key, None, none),
            Event::Routed { record, deliveries } => {
                for delivery in deliveries {
                    let to = c_string(&delivery.destination);
                    let routed = pacs_event_kind::PACS_EVENT_ROUTED;
                    self.0.tell(routed, record.key, None, none, to.as_ptr());
                }
                return Ok(());
            }
            _ => return Ok(()),
        };
        self.0.tell(kind, key, source, outcome, ptr::null());
        Ok(())
    }
}

impl Hooks {
    fn tell(
        &self,
        kind: pacs_event_kind,
        key: InstanceKey,
        source: Option<&Source>,
        outcome: pacs_outcome,
        destination: *const c_char,
    ) {
        let Some(call) = self.table.happened else {
            return;
        };
        let (text, key) = (source.map(SourceText::new), KeyText::new(key));
        let (source, [study, series, instance]) = (text.as_ref().map(SourceText::raw), key.raw());
        let event = pacs_event {
            struct_size: size_of::<pacs_event>(),
            kind,
            source: source.as_ref().map_or(ptr::null(), ptr::from_ref),
            study,
            series,
            instance,
            outcome,
            reserved: 0,
            destination,
        };
        holding_engine(|| ffi::tell_event(call, self.user.pointer(), &event));
    }
}

/// Null where there is nothing.
fn pointer(bytes: &[u8]) -> *const c_void {
    match bytes.is_empty() {
        true => ptr::null(),
        false => bytes.as_ptr().cast(),
    }
}

struct Admitting(Arc<Hooks>);

impl Admission for Admitting {
    fn admit<'a>(
        &'a self,
        request: &'a AssociateRq,
        peer: &'a Peer,
    ) -> BoxFuture<'a, std::result::Result<Admitted, Rejection>> {
        Box::pin(async move {
            let hooks = &self.0;
            let Some(call) = hooks.table.associate else {
                return Ok(Admitted::default());
            };
            let title = |text: &str| pacs_core::AeTitle::parse(text).ok();
            let text = SourceText::new(&Source {
                calling_ae: title(&request.calling_ae_title),
                called_ae: title(&request.called_ae_title),
                address: peer.address,
                ..Source::default()
            });
            let source = text.raw();
            let identity = request.user.identity.as_ref();
            let (primary, secondary) = identity.map_or((&[][..], &[][..]), |identity| {
                (&identity.primary[..], &identity.secondary[..])
            });
            let associating = pacs_associating {
                struct_size: size_of::<pacs_associating>(),
                source: &source,
                identity_type: identity.map_or(0, |identity| identity.kind.into()),
                identity: pointer(primary),
                identity_length: primary.len(),
                passcode: pointer(secondary),
                passcode_length: secondary.len(),
            };
            let answer =
                call_out(|| in_hook(|| ffi::ask_association(call, hooks.user.pointer(), &associating)));
            match pacs_status::of_number(answer) {
                Some(pacs_status::PACS_OK) => Ok(Admitted::default()),
                Some(pacs_status::PACS_OUT_OF_RESOURCES) => Err(Rejection::TEMPORARY_CONGESTION),
                _ => Err(Rejection::NO_REASON),
            }
        })
    }
}
