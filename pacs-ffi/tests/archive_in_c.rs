//! An archive written in C, `examples/c/storage.c`, keeps every promise of an archive, and the engine keeps its own
//! on it.
//!
//! It is compiled here with the C compiler `cc`, and loaded. Where there is none the tests say so and pass, unless
//! `PACS_REQUIRE_PEERS` is set.
#![allow(unsafe_code, reason = "what is tested is called as C calls it")]

use std::ffi::{CStr, CString, c_char};
use std::io::{ErrorKind, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;
use std::ptr;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures::TryStreamExt as _;
use futures::executor::block_on;
use libloading::Library;
use pacs::archive::{
    PACS_ARCHIVE_REASON_LENGTH, archive_of, pacs_archive, pacs_engine_open_on, pacs_rebuild_index_on,
};
use pacs::context::{pacs_context_free, pacs_context_new};
use pacs::engine::{pacs_engine, pacs_engine_close, pacs_engine_verify, pacs_rebuilt};
use pacs::error::pacs_status::PACS_OK;
use pacs::instance::{
    pacs_form, pacs_instance_free, pacs_instance_open, pacs_lookup, pacs_reader_free, pacs_reader_read,
};
use pacs::store::pacs_store;
use pacs_core::testkit::archive::{ArchivePlace, begin, key, part10};
use pacs_core::testkit::engine::Place;
use pacs_core::{Archive, Entry, Index, Ledger, Sequence, Stored, archive_conformance, engine_conformance};
use pacs_store::{MemoryIndex, MemoryLedger};
use tempfile::TempDir;

type Open = unsafe extern "C" fn(*const c_char, *mut pacs_archive, *mut c_char) -> i32;

/// What `storage.c` is compiled to; none without a compiler.
fn library() -> Option<&'static Library> {
    static LIBRARY: OnceLock<Option<Library>> = OnceLock::new();
    LIBRARY.get_or_init(compile).as_ref()
}

#[allow(clippy::print_stderr, reason = "a test that is passed over says so")]
fn compile() -> Option<Library> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let object = directory.path().join("storage.so");
    let compiled = Command::new("cc")
        .args([
            "-std=c99",
            "-Wall",
            "-Wextra",
            "-pedantic",
            "-Werror",
            "-O1",
            "-g",
        ])
        .args(["-shared", "-fPIC", "-pthread", "-DARCHIVE_ALONE", "-I"])
        .arg(here.join("include"))
        .arg(here.join("../examples/c/storage.c"))
        .arg("-o")
        .arg(&object)
        .output();
    match compiled {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let required = std::env::var_os("PACS_REQUIRE_PEERS").is_some();
            assert!(!required, "there is no C compiler cc");
            eprintln!("skipped: there is no C compiler cc");
            None
        }
        compiled => {
            let compiled = compiled.expect("cc can be run");
            let errors = String::from_utf8_lossy(&compiled.stderr);
            assert!(compiled.status.success(), "storage.c doesn't compile:\n{errors}");
            // SAFETY: what is loaded runs nothing by itself.
            Some(unsafe { Library::new(object) }.expect("what cc made is loaded"))
        }
    }
}

/// The functions of the archive in `directory`, still to be taken over.
fn functions(library: &Library, directory: &Path) -> pacs_archive {
    let path = CString::new(directory.as_os_str().as_bytes()).expect("a path has no NUL");
    let mut functions = std::mem::MaybeUninit::<pacs_archive>::uninit();
    let mut reason = [0; PACS_ARCHIVE_REASON_LENGTH];
    // SAFETY: the function is of this type, and writes the functions where it answers PACS_OK.
    unsafe {
        let open = library.get::<Open>("directory_archive").expect("it is there");
        let opened = open(path.as_ptr(), functions.as_mut_ptr(), reason.as_mut_ptr());
        assert_eq!(opened, PACS_OK as i32, "{:?}", CStr::from_ptr(reason.as_ptr()));
        functions.assume_init()
    }
}

/// A directory that lives as long as the test, and the index of an engine on it.
struct Directory {
    library: &'static Library,
    directory: TempDir,
    index: Arc<MemoryIndex>,
    ledger: Arc<MemoryLedger>,
}

fn place() -> Option<Directory> {
    Some(Directory {
        library: library()?,
        directory: tempfile::tempdir().expect("a temporary directory can be made"),
        index: Arc::new(MemoryIndex::new()),
        ledger: Arc::new(MemoryLedger::new()),
    })
}

impl ArchivePlace for Directory {
    fn open(&self) -> Arc<dyn Archive> {
        let functions = functions(self.library, self.directory.path());
        // SAFETY: they keep to the rules of the header.
        unsafe { archive_of(&functions) }.expect("the archive is taken over")
    }

    fn damage(&self, bytes: &Bytes) -> bool {
        for entry in std::fs::read_dir(self.directory.path()).expect("can be listed") {
            let path = entry.expect("can be listed").path();
            let content = std::fs::read(&path).expect("can be read");
            if let Some(at) = content.windows(bytes.len()).position(|window| window == bytes) {
                let file = std::fs::OpenOptions::new()
                    .write(true)
                    .open(path)
                    .expect("can be opened");
                file.write_all_at(&[content[at] ^ 1], at as u64)
                    .expect("can be written");
                return true;
            }
        }
        panic!("the bytes are in no file");
    }
}

impl Place for Directory {
    fn archive(&self) -> Arc<dyn Archive> {
        ArchivePlace::open(self)
    }
    fn index(&self) -> Arc<dyn Index> {
        self.index.clone()
    }
    fn ledger(&self) -> Arc<dyn Ledger> {
        self.ledger.clone()
    }
}

/// The place of a test, which ends where there is none.
macro_rules! place {
    () => {
        match place() {
            Some(place) => place,
            None => return,
        }
    };
}

archive_conformance!(directory_archive, place!());
engine_conformance!(directory_memory, place!());

/// Keeps an instance.
fn keep(archive: &dyn Archive, n: u64) -> Stored {
    block_on(async {
        let writer = begin(archive, &part10(&key(n), 1000, n), 1000).await?;
        writer.commit(key(n)).await
    })
    .expect("is kept")
}

#[test]
fn what_a_crash_leaves_of_an_archive_in_c_is_no_harm() {
    let place = place!();
    let archive = ArchivePlace::open(&place);
    let kept: Vec<_> = (1..=3).map(|n| keep(&*archive, n)).collect();
    drop(archive);

    let directory = place.directory.path();
    let of_second = "0000000000000002";
    // A removal that came as far as its line, a line that was never written out, and half of one.
    let removal = format!("- {of_second} {:016} - - {}", 0, key(2).instance);
    let mut order = std::fs::OpenOptions::new()
        .append(true)
        .open(directory.join("order"))
        .expect("is there");
    for line in [
        format!("{removal:<255}\n").into_bytes(),
        vec![0; 256],
        vec![b'+'; 100],
    ] {
        order.write_all(&line).expect("is written");
    }
    // A file whose line is missing, and one that was on its way in.
    for name in ["0000000000000006", "incoming-1"] {
        std::fs::write(directory.join(name), "half").expect("is written");
    }

    let archive = ArchivePlace::open(&place);
    for name in [of_second, "0000000000000006", "incoming-1"] {
        assert!(!directory.join(name).exists(), "{name}");
    }
    let entries: Vec<_> = block_on(archive.scan(Sequence(0)).try_collect()).expect("is scanned");
    let expected = [
        Entry::Stored(key(1), kept[0].clone()),
        Entry::Stored(key(3), kept[2].clone()),
        Entry::Removed {
            instance: key(2).instance,
            locator: kept[1].locator.clone(),
            sequence: Sequence(4),
        },
    ];
    assert_eq!(entries, expected);
    let next = keep(&*archive, 4);
    assert_eq!(next.sequence, Sequence(6));
    block_on(archive.verify(&next.locator)).expect("is whole");
}

fn configuration(data: &Path) -> CString {
    CString::new(format!("data = '{}'", data.display())).expect("a path has no NUL")
}

/// Opens the store in a directory as a program in C does: its archive there too, its index in the data directory.
fn with_store(library: &Library, data: &Path, work: impl FnOnce(*mut pacs_engine)) {
    let functions = functions(library, &data.join("instances"));
    let (mut context, mut engine) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: what is given is what the header asks for.
    unsafe {
        assert_eq!(pacs_context_new(ptr::null(), &mut context), PACS_OK);
        let configuration = configuration(data);
        let (at, parts) = (configuration.as_ptr(), ptr::null());
        let opened = pacs_engine_open_on(context, at, &functions, parts, &mut engine);
        assert_eq!(opened, PACS_OK);
        work(engine);
        assert_eq!(pacs_engine_close(engine), PACS_OK);
        assert_eq!(pacs_context_free(context), PACS_OK);
    }
}

/// The stored bytes of an instance.
fn read(engine: *const pacs_engine, uid: &str) -> Vec<u8> {
    let uid = CString::new(uid).expect("a UID has no NUL");
    let form = pacs_form::PACS_FORM_STORED as i32;
    let (mut instance, mut reader) = (ptr::null_mut(), ptr::null_mut());
    let (mut bytes, mut length) = (vec![0; 1 << 20], 0);
    // SAFETY: what is given is what the header asks for.
    unsafe {
        assert_eq!(pacs_lookup(engine, uid.as_ptr(), &mut instance), PACS_OK);
        let opened = pacs_instance_open(instance, ptr::null(), form, &mut reader);
        assert_eq!(opened, PACS_OK);
        let room = bytes.as_mut_ptr().cast();
        assert_eq!(pacs_reader_read(reader, room, bytes.len(), &mut length), PACS_OK);
        assert_eq!(pacs_reader_free(reader), PACS_OK);
        assert_eq!(pacs_instance_free(instance), PACS_OK);
    }
    bytes.truncate(length);
    bytes
}

#[test]
fn a_store_on_an_archive_in_c_is_there_after_reopening_and_after_its_index_was_made_anew() {
    let Some(library) = library() else { return };
    let data = tempfile::tempdir().expect("a temporary directory can be made");
    let kept: Vec<_> = (1..=20).map(|n| (key(n), part10(&key(n), 100_000, n))).collect();
    let check = |engine: *mut pacs_engine| {
        for (key, bytes) in &kept {
            assert_eq!(read(engine, key.instance.as_str()), *bytes);
        }
        let (mut whole, mut damaged) = (0, 0);
        // SAFETY: what is given is what the header asks for.
        let verified = unsafe { pacs_engine_verify(engine, ptr::null(), &mut whole, &mut damaged) };
        assert_eq!((verified, whole, damaged), (PACS_OK, 20, 0));
    };
    with_store(library, data.path(), |engine| {
        let engine = engine as usize;
        // Commits at the same time.
        std::thread::scope(|threads| {
            for part in kept.chunks(5) {
                threads.spawn(move || {
                    for (_, bytes) in part {
                        let (engine, at) = (engine as *mut pacs_engine, bytes.as_ptr().cast());
                        // SAFETY: what is given is what the header asks for.
                        let stored =
                            unsafe { pacs_store(engine, ptr::null(), at, bytes.len(), ptr::null_mut()) };
                        assert_eq!(stored, PACS_OK);
                    }
                });
            }
        });
        check(engine as *mut pacs_engine);
    });
    with_store(library, data.path(), check);

    let functions = functions(library, &data.path().join("instances"));
    let configuration = configuration(data.path());
    let mut context = ptr::null_mut();
    // SAFETY: what is given is what the header asks for.
    let (status, rebuilt) = unsafe {
        let mut rebuilt: pacs_rebuilt = std::mem::zeroed();
        rebuilt.struct_size = size_of::<pacs_rebuilt>();
        assert_eq!(pacs_context_new(ptr::null(), &mut context), PACS_OK);
        let at = configuration.as_ptr();
        let status = pacs_rebuild_index_on(context, at, &functions, &mut rebuilt);
        assert_eq!(pacs_context_free(context), PACS_OK);
        (status, rebuilt)
    };
    assert_eq!((status, rebuilt.instances, rebuilt.unreadable), (PACS_OK, 20, 0));
    with_store(library, data.path(), check);
}
