//! Hooks: what C decides, changes and is told.

use std::ffi::CStr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use pacs::data_set::pacs_data_set_put;
use pacs::engine::pacs_engine_remove;
use pacs::hooks::{
    PACS_REASON_LENGTH, pacs_arriving, pacs_asking, pacs_event, pacs_event_kind, pacs_retrieving,
};

use pacs::routing::{PACS_AE_TITLE_LENGTH, PACS_ROUTES_MAX, pacs_routing};

use super::*;

/// What the hooks of a test share.
#[derive(Default)]
struct Seen {
    engine: Mutex<usize>,
    events: Mutex<Vec<String>>,
    destroyed: AtomicU32,
}

pub(crate) fn string(pointer: *const c_char) -> String {
    // SAFETY: the header promises a string.
    unsafe { CStr::from_ptr(pointer) }.to_str().unwrap().to_owned()
}

unsafe extern "C" fn destroy(pointer: *mut c_void) {
    user::<Seen>(pointer).destroyed.fetch_add(1, Ordering::Relaxed);
}

fn hooks(seen: &Seen) -> pacs_hooks {
    let mut hooks = sized!(pacs_hooks);
    hooks.user = ptr::from_ref(seen).cast_mut().cast();
    hooks.destroy = Some(destroy);
    hooks
}

fn say(reason: *mut c_char, text: &str) {
    assert!(text.len() < PACS_REASON_LENGTH);
    // SAFETY: there is room for PACS_REASON_LENGTH bytes.
    unsafe { reason.copy_from_nonoverlapping(c(text).as_ptr(), text.len() + 1) }
}

unsafe extern "C" fn change_or_refuse(
    pointer: *mut c_void,
    arriving: *const pacs_arriving,
    reason: *mut c_char,
) -> i32 {
    // SAFETY: the header promises it.
    let arriving = unsafe { &*arriving };
    // It has a turn among those on their way in, and may not ask for another one.
    let (engine, bytes) = (*user::<Seen>(pointer).engine.lock().unwrap(), file(5, 5));
    let store = pacs_store;
    let nested = status!(store(
        engine as *mut pacs_engine,
        ptr::null(),
        bytes.as_ptr().cast(),
        bytes.len(),
        ptr::null_mut()
    ));
    assert_eq!(nested, PACS_REFUSED);
    if string(arriving.study) == "1.2.9" {
        say(reason, "studies of this kind are not kept");
        return PACS_REFUSED as i32;
    }
    let (id, put) = (c("CHANGED"), pacs_data_set_put);
    status!(put(arriving.changes, PATIENT_ID, ptr::null(), id.as_ptr())) as i32
}

#[test]
fn an_instance_is_changed_or_refused_before_it_is_stored() {
    let (context, seen) = (Context::new(), Seen::default());
    let mut hooks = hooks(&seen);
    hooks.before_store = Some(change_or_refuse);
    let engine = context.engine_with("archive = 'memory'", &hooks);
    *seen.engine.lock().unwrap() = engine as usize;
    context.store(engine, &file(1, 1));
    assert_eq!(
        context.found(engine, STUDY, &[(PATIENT_ID, "CHANGED")], PATIENT_ID),
        ["CHANGED"]
    );
    // It leaves with the change, and is stored without it.
    let contains = |bytes: Vec<u8>, text: &[u8]| bytes.windows(text.len()).any(|part| part == text);
    assert!(contains(context.read(engine, "1.2.1.1.1", 0), b"CHANGED"));
    let refused = file(9, 1);
    let store = pacs_store;
    let status = status!(store(
        engine,
        ptr::null(),
        refused.as_ptr().cast(),
        refused.len(),
        ptr::null_mut()
    ));
    assert_eq!(status, PACS_REFUSED);
    assert!(last_error(context.0).contains("studies of this kind are not kept"));
    assert_eq!(
        context.found(engine, STUDY, &[(STUDY_UID, "")], STUDY_UID),
        ["1.2.1"]
    );
    context.close(engine);
    assert_eq!(seen.destroyed.load(Ordering::Relaxed), 1);
}

unsafe extern "C" fn only_one(_: *mut c_void, asking: *const pacs_asking, _: *mut c_char) -> i32 {
    // SAFETY: the header promises it.
    let asking = unsafe { &*asking };
    assert_eq!(asking.level, STUDY);
    let (id, put) = (c("P1"), pacs_data_set_put);
    status!(put(asking.restriction, PATIENT_ID, ptr::null(), id.as_ptr())) as i32
}

unsafe extern "C" fn never(_: *mut c_void, retrieving: *const pacs_retrieving, _: *mut c_char) -> i32 {
    // SAFETY: the header promises it.
    assert_eq!(string(unsafe { (*retrieving).instance }), "1.2.1.1.1");
    // No status at all.
    4711
}

#[test]
fn a_query_is_narrowed_and_a_retrieval_refused() {
    let (context, seen) = (Context::new(), Seen::default());
    let mut hooks = hooks(&seen);
    hooks.before_find = Some(only_one);
    hooks.before_retrieve = Some(never);
    let engine = context.engine_with("archive = 'memory'", &hooks);
    for study in 1..=3 {
        context.store(engine, &file(study, study));
    }
    assert_eq!(
        context.found(engine, STUDY, &[(STUDY_UID, "")], STUDY_UID),
        ["1.2.1"]
    );
    let instance = context.lookup(engine, "1.2.1.1.1");
    let (mut reader, open) = (ptr::null_mut(), pacs_instance_open);
    let refused = status!(open(instance, ptr::null(), 0, &mut reader));
    // What is no status counts as a failure of the program.
    assert_eq!(refused, PACS_INTERNAL, "{}", last_error(context.0));
    ok!(context.0, pacs_instance_free(instance));
    context.close(engine);
}

unsafe extern "C" fn note(pointer: *mut c_void, event: *const pacs_event) {
    let seen = user::<Seen>(pointer);
    // SAFETY: the header promises it.
    let event = unsafe { &*event };
    let engine = *seen.engine.lock().unwrap() as *mut pacs_engine;
    let (mut instance, uid) = (ptr::null_mut(), c(&string(event.instance)));
    // To ask is allowed, to change is not: the engine waits for this callback.
    let known = status!(pacs_lookup(engine, uid.as_ptr(), &mut instance));
    status!(pacs_instance_free(instance));
    let bytes = file(5, 5);
    let store = pacs_store;
    let refused = status!(store(
        engine,
        ptr::null(),
        bytes.as_ptr().cast(),
        bytes.len(),
        ptr::null_mut()
    ));
    assert_eq!(refused, PACS_REFUSED);
    assert_eq!(status!(pacs_engine_close(engine)), PACS_REFUSED);
    let what = match event.kind {
        pacs_event_kind::PACS_EVENT_STORED => "stored",
        pacs_event_kind::PACS_EVENT_REMOVED => "removed",
        pacs_event_kind::PACS_EVENT_AMENDED => "amended",
        pacs_event_kind::PACS_EVENT_ROUTED => "routed",
    };
    let note = format!("{what} {} {known:?}", string(event.instance));
    seen.events.lock().unwrap().push(note);
}

#[test]
fn what_happened_is_told_and_a_change_from_there_is_refused() {
    let (context, seen) = (Context::new(), Seen::default());
    let mut hooks = hooks(&seen);
    hooks.happened = Some(note);
    let engine = context.engine_with("archive = 'memory'", &hooks);
    *seen.engine.lock().unwrap() = engine as usize;
    context.store(engine, &file(1, 1));
    let uid = c("1.2.1.1.1");
    ok!(
        context.0,
        pacs_engine_remove(engine, INSTANCE, uid.as_ptr(), ptr::null_mut())
    );
    context.close(engine);
    let events = seen.events.lock().unwrap();
    assert_eq!(
        *events,
        ["stored 1.2.1.1.1 PACS_OK", "removed 1.2.1.1.1 PACS_NOT_FOUND"]
    );
}

#[test]
fn hooks_are_destroyed_once_also_when_the_engine_can_not_be_opened() {
    let (context, seen) = (Context::new(), Seen::default());
    let mut parts = sized!(pacs_parts);
    let hooks = hooks(&seen);
    parts.hooks = &hooks;
    let (mut engine, wrong) = (ptr::null_mut(), c("archive = 'tape'"));
    let open = pacs_engine_open;
    let refused = status!(open(context.0, wrong.as_ptr(), &parts, &mut engine));
    assert_eq!(refused, PACS_INVALID);
    assert_eq!(seen.destroyed.load(Ordering::Relaxed), 1);
}

unsafe extern "C" fn route_by_sender(
    pointer: *mut c_void,
    routing: *const pacs_routing,
    rows: *mut [c_char; PACS_AE_TITLE_LENGTH],
) -> u32 {
    // SAFETY: the header promises it.
    let (routing, rows) = unsafe { (&*routing, std::slice::from_raw_parts_mut(rows, PACS_ROUTES_MAX)) };
    // It may ask, and may not change.
    let engine = *user::<Seen>(pointer).engine.lock().unwrap() as *mut pacs_engine;
    let remove = pacs_engine_remove;
    assert_eq!(
        status!(remove(engine, INSTANCE, routing.instance, ptr::null_mut())),
        PACS_REFUSED
    );
    let mut buffer = [0 as c_char; 64];
    let text = pacs_data_set_text;
    let length = buffer.len();
    let status = status!(text(
        routing.attributes,
        PATIENT_ID,
        0,
        buffer.as_mut_ptr(),
        length,
        ptr::null_mut()
    ));
    assert_eq!(status, PACS_OK);
    let titles: &[&str] = match super::text(&buffer).as_str() {
        "P1" => &["READER", "BACKUP", "READER"],
        "P2" => &["", "NO\\TITLE", "BACKUP"],
        // More than there is room for.
        "P3" => return u32::MAX,
        _ => &[],
    };
    for (row, title) in rows.iter_mut().zip(titles) {
        for (to, from) in row.iter_mut().zip(title.bytes().chain([0])) {
            *to = from as c_char;
        }
    }
    titles.len() as u32
}

unsafe extern "C" fn routed(pointer: *mut c_void, event: *const pacs_event) {
    // SAFETY: the header promises it.
    let event = unsafe { &*event };
    assert_eq!(
        event.kind == pacs_event_kind::PACS_EVENT_ROUTED,
        !event.destination.is_null()
    );
    if !event.destination.is_null() {
        let what = format!("{} to {}", string(event.instance), string(event.destination));
        user::<Seen>(pointer).events.lock().unwrap().push(what);
    }
}

#[test]
fn what_is_stored_goes_where_the_hook_says_and_each_destination_is_told_once() {
    let (context, seen) = (Context::new(), Seen::default());
    let mut hooks = hooks(&seen);
    hooks.route = Some(route_by_sender);
    hooks.happened = Some(routed);
    let engine = context.engine_with("archive = 'memory'", &hooks);
    *seen.engine.lock().unwrap() = engine as usize;
    for study in [1, 1, 2, 3, 4] {
        context.store(engine, &file(study, 1));
    }
    context.close(engine);
    let expected = [
        "1.2.1.1.1 to READER",
        "1.2.1.1.1 to BACKUP",
        "1.2.2.1.1 to BACKUP",
    ];
    assert_eq!(*seen.events.lock().unwrap(), expected);
}
