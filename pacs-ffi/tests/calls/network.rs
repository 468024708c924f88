//! Servers in the process, and calls to them.

use std::ffi::CStr;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Mutex;

use pacs::context::{pacs_context_options, pacs_poll};
use pacs::hooks::{pacs_arriving, pacs_associating};
use pacs::operation::{pacs_cancel_free, pacs_cancel_new, pacs_cancel_now, pacs_counts, pacs_operation};
use pacs::remote::{pacs_remote, pacs_remote_echo, pacs_remote_find, pacs_remote_get, pacs_remote_move};
use pacs::sending::{pacs_remote_send, pacs_remote_store_file};
use pacs::server::{pacs_dicom_start, pacs_server, pacs_server_port, pacs_server_stop, pacs_web_start};

use super::*;

/// A DICOM server on any port.
fn dicom(context: &Context, engine: *mut pacs_engine, more: &str) -> (*mut pacs_server, u16) {
    let (mut server, mut port) = (ptr::null_mut(), 0);
    let configuration = c(&format!("port = 0\n{more}"));
    ok!(
        context.0,
        pacs_dicom_start(engine, configuration.as_ptr(), &mut server)
    );
    ok!(context.0, pacs_server_port(server, &mut port));
    (server, port)
}

/// Where a server is, with the strings that this points to.
struct Peer {
    remote: pacs_remote,
    _strings: [CString; 3],
}

fn peer(port: u16) -> Peer {
    let strings = [c("127.0.0.1"), c("PACS"), c("CALLER")];
    let mut remote = sized!(pacs_remote);
    [remote.host, remote.called_ae, remote.calling_ae] = strings.each_ref().map(|text| text.as_ptr());
    remote.port = port;
    Peer {
        remote,
        _strings: strings,
    }
}

unsafe extern "C" fn gather(pointer: *mut c_void, found: *const pacs_data_set) -> i32 {
    // SAFETY: it is what the test gave.
    let all = unsafe { &mut *pointer.cast::<Vec<String>>() };
    let mut buffer = [0 as c_char; 65];
    let get = pacs_data_set_text;
    assert_eq!(
        status!(get(found, STUDY_UID, 0, buffer.as_mut_ptr(), 65, ptr::null_mut())),
        PACS_OK
    );
    all.push(text(&buffer));
    0
}

unsafe extern "C" fn enough(pointer: *mut c_void, _: *const pacs_data_set) -> i32 {
    // SAFETY: it is what the test gave.
    unsafe { *pointer.cast::<u32>() += 1 };
    1
}

unsafe extern "C" fn last(pointer: *mut c_void, counts: *const pacs_counts) -> i32 {
    // SAFETY: it is what the test gave, and what the header promises.
    unsafe { *pointer.cast::<u64>() = (*counts).completed };
    0
}

#[test]
fn what_one_engine_keeps_is_sent_found_fetched_and_moved() {
    let context = Context::new();
    let (ours, theirs) = (context.engine(), context.engine());
    for (study, instance) in [(1, 1), (1, 2), (2, 3)] {
        context.store(ours, &file(study, instance));
    }
    let (server, port) = dicom(&context, theirs, "");
    let Peer { remote, _strings } = peer(port);
    let mut dimse = 77;
    ok!(
        context.0,
        pacs_remote_echo(context.0, &remote, ptr::null(), &mut dimse)
    );
    assert_eq!(dimse, 0);

    let (mut counts, mut told) = (sized!(pacs_counts), 0u64);
    let mut operation = sized!(pacs_operation);
    operation.timeout_milliseconds = 60_000;
    operation.counting = Some(last);
    operation.user = (&raw mut told).cast();
    let study = c("1.2.1");
    ok!(
        context.0,
        pacs_remote_send(ours, &remote, &operation, STUDY, study.as_ptr(), &mut counts)
    );
    assert_eq!((counts.completed, counts.failed, told), (2, 0, 2));
    let data = tempfile::tempdir().unwrap();
    let path = data.path().join("a.dcm");
    std::fs::write(&path, file(2, 3)).unwrap();
    let path = c(path.to_str().unwrap());
    ok!(
        context.0,
        pacs_remote_store_file(context.0, &remote, ptr::null(), path.as_ptr(), &mut dimse)
    );
    let keys = context.keys(&[(STUDY_UID, ""), (PATIENT_NAME, "müller*")]);
    let mut found: Vec<String> = Vec::new();
    let all = (&raw mut found).cast();
    ok!(
        context.0,
        pacs_remote_find(context.0, &remote, ptr::null(), 0, STUDY, keys, Some(gather), all)
    );
    found.sort();
    assert_eq!(found, ["1.2.1", "1.2.2"]);

    // Back again, into a third one: by C-GET, and by C-MOVE to its own server.
    let third = context.engine();
    let one = context.keys(&[(STUDY_UID, "1.2.1")]);
    ok!(
        context.0,
        pacs_remote_get(third, &remote, ptr::null(), 0, STUDY, one, &mut counts)
    );
    assert_eq!((counts.completed, counts.failed, counts.dimse_status), (2, 0, 0));
    assert_eq!(
        context.read(third, "1.2.1.1.2", 1),
        context.read(ours, "1.2.1.1.2", 1)
    );
    let (to, to_port) = dicom(&context, third, "ae-title = 'THIRD'");
    ok!(context.0, pacs_server_stop(server, 1000));
    let known = format!("[[peer]]\nae-title = 'THIRD'\nhost = '127.0.0.1'\nport = {to_port}");
    let (server, port) = dicom(&context, theirs, &known);
    let Peer { remote, _strings } = peer(port);
    let (two, title) = (context.keys(&[(STUDY_UID, "1.2.2")]), c("THIRD"));
    ok!(
        context.0,
        pacs_remote_move(
            context.0,
            &remote,
            ptr::null(),
            0,
            STUDY,
            two,
            title.as_ptr(),
            &mut counts
        )
    );
    assert_eq!((counts.completed, counts.failed), (1, 0));
    let studies = context.found(third, STUDY, &[(STUDY_UID, "")], STUDY_UID);
    assert_eq!(studies, ["1.2.1", "1.2.2"]);
    let nobody = c("NOBODY");
    let unknown = status!(pacs_remote_move(
        context.0,
        &remote,
        ptr::null(),
        0,
        STUDY,
        two,
        nobody.as_ptr(),
        &mut counts
    ));
    assert_eq!((unknown, counts.dimse_status), (PACS_REFUSED, 0xA801));

    for set in [keys, one, two] {
        ok!(context.0, pacs_data_set_free(set));
    }
    for server in [server, to] {
        ok!(context.0, pacs_server_stop(server, 1000));
    }
    for engine in [ours, theirs, third] {
        context.close(engine);
    }
}

#[test]
fn a_query_is_cancelled_by_its_callback_or_by_a_token() {
    let context = Context::new();
    let engine = context.engine();
    for study in 1..=20 {
        context.store(engine, &file(study, study));
    }
    let (server, port) = dicom(&context, engine, "");
    let Peer { remote, _strings } = peer(port);
    let keys = context.keys(&[(STUDY_UID, "")]);
    let mut calls = 0u32;
    let find = pacs_remote_find;
    let user = (&raw mut calls).cast();
    let status = status!(find(
        context.0,
        &remote,
        ptr::null(),
        0,
        STUDY,
        keys,
        Some(enough),
        user
    ));
    assert_eq!((status, calls), (PACS_CANCELLED, 1));

    let mut cancel = ptr::null_mut();
    ok!(context.0, pacs_cancel_new(context.0, &mut cancel));
    ok!(context.0, pacs_cancel_now(cancel));
    let mut operation = sized!(pacs_operation);
    operation.cancel = cancel;
    let status = status!(pacs_remote_echo(context.0, &remote, &operation, ptr::null_mut()));
    assert_eq!(status, PACS_CANCELLED);
    ok!(context.0, pacs_cancel_free(cancel));
    let bad = status!(pacs_remote_echo(context.0, &remote, &operation, ptr::null_mut()));
    assert_eq!(bad, PACS_BAD_HANDLE);
    ok!(context.0, pacs_data_set_free(keys));
    ok!(context.0, pacs_server_stop(server, 1000));
    context.close(engine);
}

#[test]
fn a_peer_that_says_nothing_or_is_not_there_ends_a_call_in_time() {
    let context = Context::new();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let Peer { remote, _strings } = peer(silent.local_addr().unwrap().port());
    let mut operation = sized!(pacs_operation);
    operation.timeout_milliseconds = 200;
    let echo = pacs_remote_echo;
    let status = status!(echo(context.0, &remote, &operation, ptr::null_mut()));
    assert_eq!(status, PACS_TIMED_OUT, "{}", last_error(context.0));
    drop(silent);
    let status = status!(echo(context.0, &remote, ptr::null(), ptr::null_mut()));
    assert_eq!(status, PACS_IO, "{}", last_error(context.0));
}

unsafe extern "C" fn note_sender(
    pointer: *mut c_void,
    arriving: *const pacs_arriving,
    _: *mut c_char,
) -> i32 {
    // SAFETY: the header promises it.
    let source = unsafe { &*(*arriving).source };
    let [calling, called] = [source.calling_ae, source.called_ae].map(|title| {
        // SAFETY: as above.
        unsafe { CStr::from_ptr(title) }.to_str().unwrap().to_owned()
    });
    user::<Mutex<Vec<String>>>(pointer)
        .lock()
        .unwrap()
        .push(format!("{calling} to {called}"));
    PACS_OK as i32
}

#[test]
fn of_what_is_fetched_the_sender_is_whom_it_is_fetched_from() {
    let context = Context::new();
    let theirs = context.engine();
    context.store(theirs, &file(1, 1));
    let (server, port) = dicom(&context, theirs, "");
    let seen: Mutex<Vec<String>> = Mutex::default();
    let mut hooks = sized!(pacs_hooks);
    hooks.user = (&raw const seen).cast_mut().cast();
    hooks.before_store = Some(note_sender);
    let ours = context.engine_with("archive = 'memory'", &hooks);
    let Peer { remote, _strings } = peer(port);
    let study = context.keys(&[(STUDY_UID, "1.2.1")]);
    // A result that can't be written is told before anything is done.
    let mut counts = sized!(pacs_counts);
    counts.struct_size = 1;
    let get = pacs_remote_get;
    assert_eq!(
        status!(get(ours, &remote, ptr::null(), 0, STUDY, study, &mut counts)),
        PACS_BAD_ARGUMENT
    );
    assert!(seen.lock().unwrap().is_empty());
    ok!(
        context.0,
        get(ours, &remote, ptr::null(), 0, STUDY, study, ptr::null_mut())
    );
    assert_eq!(*seen.lock().unwrap(), ["PACS to CALLER"]);
    ok!(context.0, pacs_data_set_free(study));
    ok!(context.0, pacs_server_stop(server, 1000));
    context.close(theirs);
    context.close(ours);
}

/// What the hook of a server has to stop.
#[derive(Default)]
struct Stopping {
    server: Mutex<usize>,
    answers: Mutex<Vec<pacs_status>>,
}

unsafe extern "C" fn stop_from_within(pointer: *mut c_void, _: *const pacs_associating) -> i32 {
    let stopping = user::<Stopping>(pointer);
    let server = *stopping.server.lock().unwrap() as *mut pacs_server;
    let answer = status!(pacs_server_stop(server, 0));
    stopping.answers.lock().unwrap().push(answer);
    PACS_OK as i32
}

#[test]
fn a_server_is_not_stopped_from_its_own_hook_and_has_ended_when_it_is_stopped() {
    let context = Context::new();
    let stopping = Stopping::default();
    let mut hooks = sized!(pacs_hooks);
    hooks.user = (&raw const stopping).cast_mut().cast();
    hooks.associate = Some(stop_from_within);
    let data = tempfile::tempdir().unwrap();
    let configuration = format!("data = '{}'", data.path().display());
    let engine = context.engine_with(&configuration, &hooks);
    let (server, port) = dicom(&context, engine, "");
    *stopping.server.lock().unwrap() = server as usize;
    let Peer { remote, _strings } = peer(port);
    ok!(
        context.0,
        pacs_remote_echo(context.0, &remote, ptr::null(), ptr::null_mut())
    );
    assert_eq!(*stopping.answers.lock().unwrap(), [PACS_REFUSED]);
    // One that says nothing is broken off, and then nothing holds the store any more.
    let _idle = TcpStream::connect(("127.0.0.1", port)).unwrap();
    ok!(context.0, pacs_server_stop(server, 0));
    context.close(engine);
    let again = context.engine_with(&configuration, ptr::null());
    context.close(again);
}

unsafe extern "C" fn only_friends(_: *mut c_void, associating: *const pacs_associating) -> i32 {
    // SAFETY: the header promises it.
    let calling = unsafe { CStr::from_ptr((*(*associating).source).calling_ae) };
    match calling.to_str() {
        Ok("FRIEND") => PACS_OK as i32,
        _ => PACS_REFUSED as i32,
    }
}

#[test]
fn an_association_is_accepted_or_rejected_by_a_hook() {
    let context = Context::new();
    let mut hooks = sized!(pacs_hooks);
    hooks.associate = Some(only_friends);
    let engine = context.engine_with("archive = 'memory'", &hooks);
    let (server, port) = dicom(&context, engine, "");
    let mut peer = peer(port);
    let echo = pacs_remote_echo;
    let rejected = status!(echo(context.0, &peer.remote, ptr::null(), ptr::null_mut()));
    assert_eq!(rejected, PACS_REFUSED, "{}", last_error(context.0));
    let friend = c("FRIEND");
    peer.remote.calling_ae = friend.as_ptr();
    ok!(
        context.0,
        pacs_remote_echo(context.0, &peer.remote, ptr::null(), ptr::null_mut())
    );
    ok!(context.0, pacs_server_stop(server, 1000));
    context.close(engine);
}

fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn dicomweb_is_served_and_stopped() {
    let context = Context::new();
    let engine = context.engine();
    context.store(engine, &file(1, 1));
    let (mut server, mut port) = (ptr::null_mut(), 0);
    let configuration = c("port = 0");
    ok!(
        context.0,
        pacs_web_start(engine, configuration.as_ptr(), &mut server)
    );
    ok!(context.0, pacs_server_port(server, &mut port));
    assert!(get(port, "/dicom-web/studies").contains("1.2.1"));
    assert!(get(port, "/healthz").starts_with("HTTP/1.1 200"));
    assert!(get(port, "/nowhere").contains("application/problem+json"));
    // The port is taken.
    let (again, mut second) = (c(&format!("port = {port}")), ptr::null_mut());
    let start = pacs_web_start;
    assert_eq!(status!(start(engine, again.as_ptr(), &mut second)), PACS_IO);
    ok!(context.0, pacs_server_stop(server, 1000));
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    context.close(engine);
}

#[test]
fn a_polled_context_serves_while_it_is_polled() {
    let mut options = sized!(pacs_context_options);
    options.polled = 1;
    let mut raw = ptr::null_mut();
    ok!(ptr::null(), pacs_context_new(&options, &mut raw));
    let polled = Context(raw);
    let engine = polled.engine();
    let (server, port) = dicom(&polled, engine, "");
    let other = std::thread::spawn(move || {
        let context = Context::new();
        let Peer { remote, _strings } = peer(port);
        ok!(
            context.0,
            pacs_remote_echo(context.0, &remote, ptr::null(), ptr::null_mut())
        );
    });
    while !other.is_finished() {
        ok!(polled.0, pacs_poll(polled.0, 5));
    }
    other.join().unwrap();
    // Its own calls go on while they are waited for, and so does its server.
    let Peer { remote, _strings } = peer(port);
    ok!(
        polled.0,
        pacs_remote_echo(polled.0, &remote, ptr::null(), ptr::null_mut())
    );
    ok!(polled.0, pacs_server_stop(server, 1000));
    polled.close(engine);
}
