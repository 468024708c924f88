//! Storing, finding, reading.

use std::os::raw::c_int;

use pacs::data_set::{
    pacs_data_set_add_item, pacs_data_set_at, pacs_data_set_bytes, pacs_data_set_count, pacs_data_set_double,
    pacs_data_set_from_json, pacs_data_set_integer, pacs_data_set_item, pacs_data_set_json,
    pacs_data_set_remove, pacs_data_set_size, pacs_tag,
};
use pacs::engine::{
    pacs_engine_remove, pacs_engine_totals, pacs_engine_verify, pacs_rebuild_index, pacs_rebuilt,
    pacs_totals, pacs_verification,
};
use pacs::frame::{
    pacs_frames_decode, pacs_frames_free, pacs_frames_open, pacs_frames_read, pacs_instance_render,
    pacs_picture, pacs_pixels,
};
use pacs::instance::{
    pacs_instance_get_info, pacs_instance_header, pacs_instance_info, pacs_instance_read,
    pacs_instance_read_range, pacs_instances_free, pacs_instances_next, pacs_walk,
};
use pacs::store::{
    pacs_outcome, pacs_receipt_abort, pacs_receipt_commit, pacs_receipt_write, pacs_receive,
    pacs_store_data_set, pacs_store_file,
};

use super::*;

pub(crate) fn whole(context: &Context, reader: *mut pacs::instance::pacs_reader) -> Vec<u8> {
    let (mut bytes, mut length) = (vec![0u8; 1 << 20], 0);
    ok!(
        context.0,
        pacs_reader_read(reader, bytes.as_mut_ptr().cast(), bytes.len(), &mut length)
    );
    ok!(context.0, pacs_reader_free(reader));
    bytes.truncate(length);
    bytes
}

#[test]
fn an_instance_from_memory_from_a_file_and_in_pieces_is_found_and_reads_back() {
    let context = Context::new();
    let data = tempfile::tempdir().unwrap();
    for kind in ["memory", "segment", "folder"] {
        let place = data.path().join(kind);
        let configuration = format!("archive = '{kind}'\ndata = '{}'", place.display());
        let engine = context.engine_with(&configuration, ptr::null());
        assert_eq!(
            context.store(engine, &file(1, 1)).outcome,
            pacs_outcome::PACS_OUTCOME_NEW
        );
        let again = context.store(engine, &file(1, 1));
        assert_eq!(again.outcome, pacs_outcome::PACS_OUTCOME_ALREADY_KEPT);
        assert_eq!(text(&again.instance), "1.2.1.1.1");

        let path = data.path().join("file.dcm");
        std::fs::write(&path, file(2, 2)).unwrap();
        let path = c(path.to_str().unwrap());
        ok!(
            context.0,
            pacs_store_file(engine, ptr::null(), path.as_ptr(), ptr::null_mut())
        );
        let mut receipt = ptr::null_mut();
        ok!(context.0, pacs_receive(engine, ptr::null(), &mut receipt));
        for piece in file(3, 3).chunks(7) {
            ok!(
                context.0,
                pacs_receipt_write(receipt, piece.as_ptr().cast(), piece.len())
            );
        }
        let mut stored = sized!(pacs_stored);
        ok!(context.0, pacs_receipt_commit(receipt, &mut stored));
        assert_eq!(text(&stored.study), "1.2.3");

        let all = [(PATIENT_NAME, "müller*"), (STUDY_UID, "")];
        assert_eq!(
            context.found(engine, STUDY, &all, STUDY_UID),
            ["1.2.1", "1.2.2", "1.2.3"]
        );
        for number in 1..=3 {
            let read = context.read(engine, &format!("1.2.{number}.1.{number}"), 2);
            // The File Meta Information is written anew; the data set is what came.
            let came = file(number, number);
            let at = read.windows(4).position(|four| four == b"\x08\0\x05\0").unwrap();
            let from = came.windows(4).position(|four| four == b"\x08\0\x05\0").unwrap();
            assert_eq!(read[at..], came[from..]);
        }
        let mut totals = sized!(pacs_totals);
        ok!(context.0, pacs_engine_totals(engine, &mut totals));
        assert_eq!((totals.studies, totals.instances), (3, 3));
        context.close(engine);
    }
}

#[test]
fn what_was_stored_is_there_after_a_reopening_and_a_rebuild() {
    let context = Context::new();
    let data = tempfile::tempdir().unwrap();
    let configuration = format!("data = '{}'", data.path().display());
    let engine = context.engine_with(&configuration, ptr::null());
    context.store(engine, &file(1, 1));
    let mut rebuilt = sized!(pacs_rebuilt);
    let open = c(&configuration);
    let rebuild = pacs_rebuild_index;
    // Not while it is open.
    assert_eq!(
        status!(rebuild(context.0, open.as_ptr(), &mut rebuilt)),
        PACS_REFUSED
    );
    context.close(engine);
    ok!(context.0, rebuild(context.0, open.as_ptr(), &mut rebuilt));
    assert_eq!((rebuilt.instances, rebuilt.unreadable), (1, 0));
    assert_eq!((rebuilt.missing, rebuilt.compared), (0, 1));
    let engine = context.engine_with(&configuration, ptr::null());
    assert_eq!(
        context.found(engine, INSTANCE, &[(INSTANCE_UID, "")], INSTANCE_UID),
        ["1.2.1.1.1"]
    );
    context.close(engine);
}

#[test]
fn an_instance_that_is_given_up_or_refused_is_not_kept() {
    let context = Context::new();
    let engine = context.engine();
    let file = file(1, 1);
    let mut receipt = ptr::null_mut();
    ok!(context.0, pacs_receive(engine, ptr::null(), &mut receipt));
    ok!(context.0, pacs_receipt_write(receipt, file.as_ptr().cast(), 200));
    ok!(context.0, pacs_receipt_abort(receipt));

    ok!(context.0, pacs_receive(engine, ptr::null(), &mut receipt));
    let garbage = vec![7u8; 100_000];
    let status = status!(pacs_receipt_write(
        receipt,
        garbage.as_ptr().cast(),
        garbage.len()
    ));
    let status = match status {
        PACS_OK => status!(pacs_receipt_commit(receipt, ptr::null_mut())),
        refused => {
            let write = pacs_receipt_write;
            assert_eq!(status!(write(receipt, garbage.as_ptr().cast(), 1)), PACS_CLOSED);
            ok!(context.0, pacs_receipt_abort(receipt));
            refused
        }
    };
    assert_eq!(status, PACS_INVALID, "{}", last_error(context.0));
    assert!(
        context
            .found(engine, INSTANCE, &[(INSTANCE_UID, "")], INSTANCE_UID)
            .is_empty()
    );
    context.close(engine);
}

#[test]
fn everything_is_walked_over_and_what_is_removed_is_gone() {
    let context = Context::new();
    let engine = context.engine();
    for (study, instance) in [(1, 1), (1, 2), (2, 3)] {
        context.store(engine, &file(study, instance));
    }
    let walked = |level: i32, id: Option<&str>| {
        let id = id.map(c);
        let (mut instances, mut uids) = (ptr::null_mut(), Vec::new());
        let id = id.as_ref().map_or(ptr::null(), |id| id.as_ptr());
        ok!(context.0, pacs_walk(engine, level, id, &mut instances));
        loop {
            let mut instance = ptr::null_mut();
            match status!(pacs_instances_next(instances, &mut instance)) {
                PACS_END => break,
                status => assert_eq!(status, PACS_OK),
            }
            let mut info = sized!(pacs_instance_info);
            ok!(context.0, pacs_instance_get_info(instance, &mut info));
            uids.push(text(&info.instance));
            ok!(context.0, pacs_instance_free(instance));
        }
        ok!(context.0, pacs_instances_free(instances));
        uids.sort();
        uids
    };
    assert_eq!(walked(0, None).len(), 3);
    assert_eq!(walked(1, Some("P1")), ["1.2.1.1.1", "1.2.1.1.2"]);
    assert_eq!(walked(2, Some("1.2.2")), ["1.2.2.1.3"]);
    let mut removed = 0;
    ok!(
        context.0,
        pacs_engine_remove(engine, 2, c("1.2.1").as_ptr(), &mut removed)
    );
    assert_eq!(removed, 2);
    assert_eq!(walked(0, None), ["1.2.2.1.3"]);
    let mut instance = ptr::null_mut();
    let gone = status!(pacs_lookup(engine, c("1.2.1.1.1").as_ptr(), &mut instance));
    assert_eq!(gone, PACS_NOT_FOUND);
    context.close(engine);
}

#[test]
fn values_are_read_by_their_type_and_written_as_text() {
    let context = Context::new();
    let mut tag = 0;
    for name in ["PatientName", "00100010", "(0010,0010)"] {
        ok!(context.0, pacs_tag(c(name).as_ptr(), &mut tag));
        assert_eq!(tag, PATIENT_NAME);
    }
    assert_eq!(status!(pacs_tag(c("Nothing").as_ptr(), &mut tag)), PACS_NOT_FOUND);

    let set = context.keys(&[
        (PATIENT_NAME, "Müller^A\\Other"),
        (0x0028_0010, "512"),
        (0x0020_0013, "7"),
        (0x0028_0030, "0.5\\0.25"),
        (0x0010_0020, ""),
    ]);
    let (mut count, mut whole, mut float) = (0, 0, 0.0);
    ok!(context.0, pacs_data_set_count(set, PATIENT_NAME, &mut count));
    assert_eq!(count, 2);
    ok!(context.0, pacs_data_set_count(set, PATIENT_ID, &mut count));
    assert_eq!(count, 0);
    ok!(context.0, pacs_data_set_integer(set, 0x0028_0010, 0, &mut whole));
    assert_eq!(whole, 512);
    ok!(context.0, pacs_data_set_double(set, 0x0028_0030, 1, &mut float));
    assert_eq!(float, 0.25);
    let integer = status!(pacs_data_set_integer(set, 0x0028_0030, 1, &mut whole));
    assert_eq!(integer, PACS_INVALID);

    // What doesn't fit says how much it needs.
    let (mut buffer, mut length) = ([1 as c_char; 5], 0);
    let get = pacs_data_set_text;
    let small = status!(get(set, PATIENT_NAME, 0, buffer.as_mut_ptr(), 5, &mut length));
    assert_eq!((small, length, buffer), (PACS_BUFFER_TOO_SMALL, 9, [1; 5]));
    let nothing = status!(get(set, PATIENT_NAME, 2, ptr::null_mut(), 0, ptr::null_mut()));
    assert_eq!(nothing, PACS_NOT_FOUND);
    let mut rows = [0u8; 2];
    ok!(
        context.0,
        pacs_data_set_bytes(set, 0x0028_0010, rows.as_mut_ptr().cast(), 2, &mut length)
    );
    assert_eq!(u16::from_le_bytes(rows), 512);

    // A sequence holds copies, also of the set itself.
    ok!(context.0, pacs_data_set_add_item(set, 0x0040_0275, set));
    let mut item = ptr::null_mut();
    ok!(context.0, pacs_data_set_item(set, 0x0040_0275, 0, &mut item));
    assert_eq!(context.text(item, 0x0020_0013), "7");
    ok!(context.0, pacs_data_set_free(item));
    ok!(context.0, pacs_data_set_remove(set, 0x0040_0275));

    let (mut size, mut vr) = (0, [0 as c_char; 3]);
    ok!(context.0, pacs_data_set_size(set, &mut size));
    assert_eq!(size, 5);
    ok!(context.0, pacs_data_set_at(set, 0, &mut tag, vr.as_mut_ptr()));
    assert_eq!((tag, text(&vr)), (PATIENT_NAME, "PN".to_owned()));
    let at = status!(pacs_data_set_at(set, 5, &mut tag, ptr::null_mut()));
    assert_eq!(at, PACS_END);

    // And all of it by way of JSON.
    let mut json = vec![0 as c_char; 4096];
    ok!(
        context.0,
        pacs_data_set_json(set, json.as_mut_ptr(), json.len(), &mut length)
    );
    let mut read = ptr::null_mut();
    ok!(
        context.0,
        pacs_data_set_from_json(context.0, json.as_ptr(), &mut read)
    );
    assert_eq!(context.text(read, PATIENT_NAME), "Müller^A");
    for set in [set, read] {
        ok!(context.0, pacs_data_set_free(set));
    }
}

unsafe extern "C" fn gather(user: *mut c_void, bytes: *const c_void, length: usize) -> c_int {
    // SAFETY: it is what the test gave, and what the header promises.
    let (all, piece) = unsafe {
        (
            &mut *user.cast::<Vec<u8>>(),
            std::slice::from_raw_parts(bytes.cast::<u8>(), length),
        )
    };
    all.extend_from_slice(piece);
    0
}

unsafe extern "C" fn refuse(_: *mut c_void, _: *const c_void, _: usize) -> c_int {
    1
}

#[test]
fn an_instance_is_read_by_callback_and_by_range_and_its_header_as_a_data_set() {
    let context = Context::new();
    let engine = context.engine();
    context.store(engine, &file(1, 1));
    let stored = context.read(engine, "1.2.1.1.1", 2);
    let instance = context.lookup(engine, "1.2.1.1.1");
    let mut all: Vec<u8> = Vec::new();
    ok!(
        context.0,
        pacs_instance_read(instance, ptr::null(), 0, Some(gather), (&raw mut all).cast())
    );
    assert_eq!(all, stored);
    let read = pacs_instance_read;
    let cancelled = status!(read(instance, ptr::null(), 0, Some(refuse), ptr::null_mut()));
    assert_eq!(cancelled, PACS_CANCELLED);

    let (mut part, mut length) = ([0u8; 64], 0);
    let range = pacs_instance_read_range;
    ok!(
        context.0,
        range(
            instance,
            ptr::null(),
            128,
            part.as_mut_ptr().cast(),
            64,
            &mut length
        )
    );
    assert_eq!((length, &part[..4]), (64, &b"DICM"[..]));
    let end = stored.len() as u64;
    ok!(
        context.0,
        range(
            instance,
            ptr::null(),
            end - 5,
            part.as_mut_ptr().cast(),
            64,
            &mut length
        )
    );
    assert_eq!((length, &part[..5]), (5, &stored[stored.len() - 5..]));
    let behind = status!(range(
        instance,
        ptr::null(),
        end,
        part.as_mut_ptr().cast(),
        64,
        &mut length
    ));
    assert_eq!(behind, PACS_END);

    let mut header = ptr::null_mut();
    ok!(
        context.0,
        pacs_instance_header(instance, ptr::null(), &mut header)
    );
    assert_eq!(context.text(header, PATIENT_NAME), "Müller^Patient1");
    ok!(context.0, pacs_data_set_free(header));
    ok!(context.0, pacs_instance_free(instance));
    context.close(engine);
}

#[test]
fn a_frame_is_read_decoded_and_drawn() {
    let context = Context::new();
    let engine = context.engine();
    context.store(engine, &file(1, 1));
    let instance = context.lookup(engine, "1.2.1.1.1");
    let (mut frames, mut count, mut reader) = (ptr::null_mut(), 0, ptr::null_mut());
    ok!(
        context.0,
        pacs_frames_open(instance, ptr::null(), &mut frames, &mut count)
    );
    assert_eq!(count, 1);
    ok!(context.0, pacs_frames_read(frames, 1, &mut reader));
    let encoded = whole(&context, reader);
    let mut pixels = sized!(pacs_pixels);
    ok!(context.0, pacs_frames_decode(frames, 1, &mut pixels, &mut reader));
    assert_eq!((pixels.rows, pixels.columns, pixels.length), (4, 6, 48));
    assert_eq!(text(&pixels.photometric_interpretation), "MONOCHROME2");
    assert_eq!(whole(&context, reader), encoded);
    assert_eq!(encoded[..2], [1, 0]);
    assert_eq!(status!(pacs_frames_read(frames, 2, &mut reader)), PACS_NOT_FOUND);
    ok!(context.0, pacs_frames_free(frames));

    let mut picture = sized!(pacs_picture);
    let window = c("12,24,linear");
    picture.window = window.as_ptr();
    picture.width = 60;
    picture.height = 60;
    ok!(
        context.0,
        pacs_instance_render(instance, ptr::null(), &picture, &mut reader)
    );
    assert!(whole(&context, reader).starts_with(b"\x89PNG"));
    picture.format = 1;
    picture.quality = 101;
    let render = pacs_instance_render;
    assert_eq!(
        status!(render(instance, ptr::null(), &picture, &mut reader)),
        PACS_BAD_ARGUMENT
    );
    ok!(context.0, pacs_instance_free(instance));
    context.close(engine);
}

unsafe extern "C" fn stop_at_two(_: *mut c_void, done: u64) -> c_int {
    (done == 2).into()
}

#[test]
fn an_instance_that_was_made_in_memory_is_stored() {
    let context = Context::new();
    let engine = context.engine();
    let set = context.keys(&[
        (0x0008_0016, uids::ENCAPSULATED_PDF_STORAGE),
        (INSTANCE_UID, "1.2.3.4"),
        (STUDY_UID, "1.2.3"),
        (0x0020_000E, "1.2.3.1"),
        (PATIENT_NAME, "山田^太郎"),
    ]);
    ok!(
        context.0,
        pacs_store_data_set(engine, ptr::null(), set, ptr::null_mut())
    );
    assert_eq!(
        context.found(engine, STUDY, &[(PATIENT_NAME, "")], PATIENT_NAME),
        ["山田^太郎"]
    );
    // What a file said of itself is not of the instance; a delimiter never is.
    let store = pacs_store_data_set;
    for (tag, expected) in [
        (0x0002_0010, PACS_OK),
        (0xFFFE_E00D, PACS_INVALID),
        (0x0000_0002, PACS_INVALID),
    ] {
        let syntax = c("1.2");
        let vr = c("UI");
        ok!(
            context.0,
            pacs_data_set_put(set, tag, vr.as_ptr(), syntax.as_ptr())
        );
        assert_eq!(
            status!(store(engine, ptr::null(), set, ptr::null_mut())),
            expected
        );
        ok!(context.0, pacs_data_set_remove(set, tag));
    }
    let kept = context.read(engine, "1.2.3.4", 1);
    assert!(kept.starts_with(b"\x08\0"), "the data set begins with group 0008");
    ok!(context.0, pacs_data_set_remove(set, STUDY_UID));
    assert_eq!(
        status!(store(engine, ptr::null(), set, ptr::null_mut())),
        PACS_INVALID
    );
    ok!(context.0, pacs_data_set_free(set));
    context.close(engine);
}

#[test]
fn a_verification_counts_what_is_whole_and_can_be_cancelled() {
    let context = Context::new();
    let engine = context.engine();
    for instance in 1..=5 {
        context.store(engine, &file(1, instance));
    }
    let (mut whole, mut damaged) = (0, 9);
    let verify = pacs_engine_verify;
    ok!(context.0, verify(engine, ptr::null(), &mut whole, &mut damaged));
    assert_eq!((whole, damaged), (5, 0));
    let mut verification = sized!(pacs_verification);
    verification.progress = Some(stop_at_two);
    whole = 77;
    let cancelled = status!(verify(engine, &verification, &mut whole, &mut damaged));
    // In memory nothing has to be waited for, so that it may be done at once.
    assert!(matches!(cancelled, PACS_CANCELLED | PACS_OK), "{cancelled:?}");
    assert!(whole == 77 || cancelled == PACS_OK);
    context.close(engine);
}
