//! Lines of the log, to those contexts that want them.

use std::ffi::{CString, c_char, c_void};
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use tracing::field::{Field, Visit};
use tracing::span;
use tracing::{Event, Level, Metadata, Subscriber};

use crate::error::Failure;
use crate::ffi::User;
use crate::guard::contained;

/// Takes a line of the log: its level (1 errors to 5 everything), the part of the library it comes from, and its
/// text with what belongs to it as `name=value`. UTF-8, valid during the call. It holds no patient data.
///
/// Called from any thread, also by several at once, and must not block or call the library. The engines of all
/// contexts of a process write one log: each context that wants lines gets all.
pub type pacs_log =
    Option<unsafe extern "C" fn(user: *mut c_void, level: u32, target: *const c_char, text: *const c_char)>;

/// One that takes lines.
#[derive(Debug)]
pub(crate) struct Log {
    call: unsafe extern "C" fn(*mut c_void, u32, *const c_char, *const c_char),
    level: u32,
    user: User,
}

static LOGS: Mutex<Vec<Weak<Log>>> = Mutex::new(Vec::new());
static STARTED: OnceLock<()> = OnceLock::new();

fn logs() -> Vec<Arc<Log>> {
    let logs = LOGS.lock().unwrap_or_else(PoisonError::into_inner);
    logs.iter().filter_map(Weak::upgrade).collect()
}

/// Adds one that takes lines, as long as what is answered lives.
pub(crate) fn register(call: pacs_log, level: u32, user: User) -> Result<Option<Arc<Log>>, Failure> {
    let level = match level {
        0 => 3,
        1..=5 => level,
        _ => return Err(Failure::argument("log_level is 0 to 5")),
    };
    let Some(call) = call else { return Ok(None) };
    let log = Arc::new(Log { call, level, user });
    let mut logs = LOGS.lock().unwrap_or_else(PoisonError::into_inner);
    logs.retain(|log| log.strong_count() > 0);
    logs.push(Arc::downgrade(&log));
    drop(logs);
    // A Rust program that holds this library as a crate may have a log of its own already: then that is it.
    STARTED.get_or_init(|| _ = tracing::subscriber::set_global_default(Lines));
    tracing::callsite::rebuild_interest_cache();
    Ok(Some(log))
}

fn number(level: Level) -> u32 {
    match level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        Level::TRACE => 5,
    }
}

/// Hands lines over.
struct Lines;

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // What other libraries have to say is theirs.
        let ours = metadata.target().starts_with("pacs");
        ours && logs().iter().any(|log| number(*metadata.level()) <= log.level)
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let level = number(*event.metadata().level());
        let mut line = Line::default();
        event.record(&mut line);
        let target = text(event.metadata().target().to_owned());
        let text = text(line.message + &line.fields);
        for log in logs().iter().filter(|log| level <= log.level) {
            let _ = contained(|| {
                log.hand_over(level, &target, &text);
                Ok(())
            });
        }
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

fn text(text: String) -> CString {
    CString::new(text.replace('\0', " ")).unwrap_or_default()
}

/// A line in the making.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a String does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

impl Log {
    fn hand_over(&self, level: u32, target: &CString, text: &CString) {
        crate::ffi::hand_over_line(self.call, self.user.pointer(), level, target, text);
    }
}
