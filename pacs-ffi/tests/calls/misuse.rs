//! What a caller may do wrong: each mistake is answered, and nothing is harmed.

use pacs::context::{pacs_context_options, pacs_poll};
use pacs::data_set::{pacs_data_set_add_item, pacs_data_set_count, pacs_data_set_json};
use pacs::engine::{pacs_engine_totals, pacs_totals};
use pacs::error::pacs_status_text;
use pacs::find::pacs_matches;
use pacs::instance::pacs_reader;
use pacs::store::{pacs_receipt, pacs_receipt_commit, pacs_receive, pacs_source};
use pacs::version::{PACS_ABI_VERSION, pacs_check_abi, pacs_version};

use super::*;

#[test]
fn a_handle_that_is_null_closed_invented_or_of_another_kind_is_told() {
    let context = Context::new();
    let engine = context.engine();
    let set = context.keys(&[]);
    let mut count = 77;
    let mut totals = sized!(pacs_totals);
    for wrong in [
        ptr::null(),
        set.cast::<pacs_engine>(),
        context.0.cast(),
        std::ptr::dangling(),
        (&raw const count).cast(),
        (engine as usize ^ 1 << 33) as *const pacs_engine,
        usize::MAX as *const pacs_engine,
    ] {
        assert_eq!(status!(pacs_engine_totals(wrong, &mut totals)), PACS_BAD_HANDLE);
        let other = wrong.cast::<pacs_reader>().cast_mut();
        assert_eq!(
            status!(pacs_reader_read(other, ptr::null_mut(), 0, &mut count)),
            PACS_BAD_HANDLE
        );
        if wrong != set.cast() {
            let other = wrong.cast();
            assert_eq!(
                status!(pacs_data_set_count(other, 0, &mut count)),
                PACS_BAD_HANDLE
            );
        }
    }
    assert_eq!(count, 77);
    context.close(engine);
    assert_eq!(status!(pacs_engine_totals(engine, &mut totals)), PACS_BAD_HANDLE);
    assert_eq!(status!(pacs_engine_close(engine)), PACS_BAD_HANDLE);
    ok!(context.0, pacs_data_set_free(set));
    assert_eq!(status!(pacs_data_set_free(set)), PACS_BAD_HANDLE);
    // The place is used again, and the old handle stays closed.
    let newer = context.keys(&[]);
    assert_eq!(status!(pacs_data_set_free(set)), PACS_BAD_HANDLE);
    ok!(context.0, pacs_data_set_free(newer));
}

#[test]
fn null_is_nothing_to_free() {
    ok!(ptr::null(), pacs_data_set_free(ptr::null_mut()));
    ok!(ptr::null(), pacs_matches_free(ptr::null_mut::<pacs_matches>()));
    ok!(ptr::null(), pacs_engine_close(ptr::null_mut()));
    ok!(ptr::null(), pacs_context_free(ptr::null_mut()));
    ok!(ptr::null(), pacs::server::pacs_server_stop(ptr::null_mut(), 0));
}

#[test]
fn arguments_that_break_the_rules_are_told_and_write_nothing() {
    let context = Context::new();
    let engine = context.engine();
    let set = context.keys(&[]);
    let not_utf8 = CString::new(vec![0xC3, 0x28]).unwrap();
    let long = c(&"1".repeat(65));
    let mut instance = ptr::dangling_mut();
    let before = instance;
    let lookup = pacs_lookup;
    for (text, expected) in [
        (ptr::null(), PACS_BAD_ARGUMENT),
        (not_utf8.as_ptr(), PACS_BAD_ARGUMENT),
        (long.as_ptr(), PACS_INVALID),
    ] {
        assert_eq!(status!(lookup(engine, text, &mut instance)), expected);
        assert_eq!(instance, before);
    }
    let uid = c("1.2.3");
    assert_eq!(
        status!(lookup(engine, uid.as_ptr(), ptr::null_mut())),
        PACS_BAD_ARGUMENT
    );
    let mut matches = ptr::null_mut();
    let find = pacs_find;
    for (level, flags) in [(0, 0), (5, 0), (-1, 0), (STUDY, 8)] {
        assert_eq!(
            status!(find(engine, ptr::null(), level, set, flags, &mut matches)),
            PACS_BAD_ARGUMENT
        );
    }
    assert_eq!(
        status!(find(engine, ptr::null(), STUDY, ptr::null(), 0, &mut matches)),
        PACS_BAD_HANDLE
    );
    let mut totals = sized!(pacs_totals);
    for size in [0, 1, size_of::<pacs_totals>() + 8, usize::MAX] {
        totals.struct_size = size;
        assert_eq!(
            status!(pacs_engine_totals(engine, &mut totals)),
            PACS_BAD_ARGUMENT,
            "{size}"
        );
    }
    // An older, shorter structure is filled as far as it goes.
    totals.struct_size = 2 * size_of::<usize>();
    totals.studies = 77;
    ok!(context.0, pacs_engine_totals(engine, &mut totals));
    assert_eq!((totals.patients, totals.studies), (0, 77));

    let mut source = sized!(pacs_source);
    let title = c("A TITLE THAT IS TOO LONG");
    source.calling_ae = title.as_ptr();
    let mut receipt = ptr::null_mut();
    assert_eq!(status!(pacs_receive(engine, &source, &mut receipt)), PACS_INVALID);
    let mut json = [0 as c_char; 1];
    let small = status!(pacs_data_set_json(set, json.as_mut_ptr(), 1, ptr::null_mut()));
    assert_eq!(small, PACS_BUFFER_TOO_SMALL);
    let null = status!(pacs_data_set_json(set, ptr::null_mut(), 10, ptr::null_mut()));
    assert_eq!(null, PACS_BAD_ARGUMENT);
    let huge = status!(pacs_store(
        engine,
        ptr::null(),
        uid.as_ptr().cast(),
        usize::MAX,
        ptr::null_mut()
    ));
    assert_eq!(huge, PACS_BAD_ARGUMENT);
    ok!(context.0, pacs_data_set_free(set));
    context.close(engine);
}

#[test]
fn a_configuration_that_is_wrong_is_told_with_its_line() {
    let context = Context::new();
    let mut engine = ptr::null_mut();
    for (configuration, told) in [
        ("data = 5", "line 1"),
        ("\narchive = 'tape'", "line 2"),
        ("dataa = 'x'", "unknown field"),
        ("[[attribute]]\nlevel = 'study'\npath = 'PatientName'", "PATIENT"),
    ] {
        let configuration = c(configuration);
        let open = pacs_engine_open;
        assert_eq!(
            status!(open(context.0, configuration.as_ptr(), ptr::null(), &mut engine)),
            PACS_INVALID
        );
        assert!(last_error(context.0).contains(told), "{}", last_error(context.0));
    }
    assert!(engine.is_null());
}

#[test]
fn what_was_got_from_an_engine_outlives_it_and_says_that_it_is_closed() {
    let context = Context::new();
    let engine = context.engine();
    context.store(engine, &file(1, 1));
    let instance = context.lookup(engine, "1.2.1.1.1");
    let mut receipt: *mut pacs_receipt = ptr::null_mut();
    ok!(context.0, pacs_receive(engine, ptr::null(), &mut receipt));
    let bytes = file(2, 2);
    ok!(
        context.0,
        pacs::store::pacs_receipt_write(receipt, bytes.as_ptr().cast(), bytes.len())
    );
    assert_eq!(status!(pacs_context_free(context.0)), PACS_REFUSED);
    assert!(last_error(context.0).contains("open: 3"));
    context.close(engine);
    assert_eq!(
        status!(pacs_receipt_commit(receipt, ptr::null_mut())),
        PACS_CLOSED
    );
    let mut reader = ptr::null_mut();
    ok!(
        context.0,
        pacs_instance_open(instance, ptr::null(), 0, &mut reader)
    );
    ok!(context.0, pacs_reader_free(reader));
    ok!(context.0, pacs_instance_free(instance));
}

#[test]
fn each_thread_and_each_context_has_its_own_last_error() {
    let (one, two) = (Context::new(), Context::new());
    let first = one.engine();
    let uid = c("1.2.3");
    let mut instance = ptr::null_mut();
    let lookup = pacs_lookup;
    assert_eq!(
        status!(lookup(first, uid.as_ptr(), &mut instance)),
        PACS_NOT_FOUND
    );
    assert!(last_error(one.0).contains("no such instance"));
    assert!(last_error(two.0).contains("no error"));
    let context = one.0 as usize;
    let there = std::thread::spawn(move || last_error(context as *const pacs_context));
    assert!(there.join().unwrap().contains("no error"));
    one.close(first);
}

#[test]
fn a_data_set_may_be_freed_while_another_thread_uses_it() {
    let context = Context::new();
    for _ in 0..200 {
        let set = context.keys(&[(PATIENT_ID, "1")]);
        let address = set as usize;
        let other = std::thread::spawn(move || {
            let set = address as *mut pacs_data_set;
            loop {
                match status!(pacs_data_set_add_item(set, 0x0040_0275, set)) {
                    PACS_OK => {}
                    status => return status,
                }
                if status!(pacs_data_set_free(set)) == PACS_BAD_HANDLE {
                    return PACS_BAD_HANDLE;
                }
            }
        });
        let freed = status!(pacs_data_set_free(set));
        assert!(matches!(freed, PACS_OK | PACS_BAD_HANDLE));
        assert_eq!(other.join().unwrap(), PACS_BAD_HANDLE);
    }
}

#[test]
fn a_data_set_is_not_nested_without_end() {
    let context = Context::new();
    let mut set = context.keys(&[]);
    let mut depth = 0;
    let refused = loop {
        let around = context.keys(&[]);
        let status = status!(pacs_data_set_add_item(around, 0x0040_0275, set));
        ok!(context.0, pacs_data_set_free(set));
        set = around;
        match status {
            PACS_OK => depth += 1,
            status => break status,
        }
    };
    assert_eq!(
        (refused, depth),
        (PACS_INVALID, pacs_core::limits::SEQUENCE_DEPTH_MAX)
    );
    ok!(context.0, pacs_data_set_free(set));
}

#[test]
fn receipts_that_are_left_open_leave_turns_for_others() {
    let context = Context::new();
    let engine = context.engine();
    let mut receipts = Vec::new();
    let refused = loop {
        let mut receipt = ptr::null_mut();
        match status!(pacs_receive(engine, ptr::null(), &mut receipt)) {
            PACS_OK => receipts.push(receipt),
            status => break status,
        }
        let begin = file(1, receipts.len() as u32);
        ok!(
            context.0,
            pacs::store::pacs_receipt_write(receipt, begin.as_ptr().cast(), 400)
        );
    };
    assert_eq!((refused, receipts.len()), (PACS_OUT_OF_RESOURCES, 64));
    context.store(engine, &file(2, 1));
    for receipt in receipts {
        ok!(context.0, pacs::store::pacs_receipt_abort(receipt));
    }
    let mut receipt = ptr::null_mut();
    ok!(context.0, pacs_receive(engine, ptr::null(), &mut receipt));
    ok!(context.0, pacs::store::pacs_receipt_abort(receipt));
    context.close(engine);
}

#[test]
fn a_pool_of_more_threads_than_any_machine_has_is_refused() {
    let mut options = sized!(pacs_context_options);
    options.threads = u32::MAX;
    let mut context = ptr::null_mut();
    assert_eq!(
        status!(pacs_context_new(&options, &mut context)),
        PACS_BAD_ARGUMENT
    );
}

#[test]
fn versions_and_statuses_have_their_texts() {
    assert_eq!(pacs_check_abi(PACS_ABI_VERSION), PACS_OK);
    assert_eq!(pacs_check_abi(PACS_ABI_VERSION + 1), PACS_UNSUPPORTED);
    assert_eq!(pacs_check_abi(0), PACS_UNSUPPORTED);
    // SAFETY: both are for ever valid.
    let (version, unknown) = unsafe {
        (
            std::ffi::CStr::from_ptr(pacs_version()),
            std::ffi::CStr::from_ptr(pacs_status_text(-5)),
        )
    };
    assert_eq!(version.to_str().unwrap(), env!("CARGO_PKG_VERSION"));
    assert_eq!(unknown.to_str().unwrap(), "internal failure");
}

#[test]
fn a_context_with_a_pool_is_not_polled() {
    let context = Context::new();
    assert_eq!(status!(pacs_poll(context.0, 0)), PACS_UNSUPPORTED);
    let mut options = sized!(pacs_context_options);
    options.log_level = 6;
    let mut other = ptr::null_mut();
    options.log = Some(ignore);
    assert_eq!(status!(pacs_context_new(&options, &mut other)), PACS_BAD_ARGUMENT);
}

unsafe extern "C" fn ignore(_: *mut c_void, _: u32, _: *const c_char, _: *const c_char) {}

#[test]
fn raw_pointers_are_followed_in_one_file_alone() {
    let sources = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
    for entry in std::fs::read_dir(sources).unwrap() {
        let path = entry.unwrap().path();
        let blocks = std::fs::read_to_string(&path)
            .unwrap()
            .matches("unsafe {")
            .count();
        let is_ffi = path.ends_with("ffi.rs");
        assert!(
            is_ffi || blocks == 0,
            "{} has {blocks} unsafe blocks",
            path.display()
        );
    }
}
