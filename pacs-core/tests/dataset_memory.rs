//! Whatever lengths a data set claims, a scan takes little memory: measured at the allocator.

// Counting what is allocated needs an allocator of our own, which is an unsafe trait.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use pacs_core::dataset::scan::{Scan, Scanner, parse};
use pacs_core::uid::Uid;
use pacs_core::{Result, limits};

struct Counting;

thread_local! {
    static NOW: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

fn add(bytes: usize) {
    // A thread that ends has no counters any more; nobody asks for them then.
    let _ = NOW.try_with(|now| {
        now.set(now.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(now.get())));
    });
}

fn take(bytes: usize) {
    let _ = NOW.try_with(|now| now.set(now.get().saturating_sub(bytes)));
}

// SAFETY: every call is handed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: what the caller promises is what the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: what the caller promises is what the system's allocator asks for.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        add(size);
        take(layout.size());
        // SAFETY: what the caller promises is what the system's allocator asks for.
        unsafe { System.realloc(pointer, layout, size) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        take(layout.size());
        // SAFETY: what the caller promises is what the system's allocator asks for.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What `work` gives, and the most bytes that were allocated by this thread while it ran.
fn peak_of<T>(work: impl FnOnce() -> T) -> (T, usize) {
    // The dictionary is made at its first use, and stays.
    let _ = parse(b"\x10\x00\x20\x00\0\0\0\0", IMPLICIT);
    let before = NOW.get();
    PEAK.set(before);
    let value = work();
    (value, PEAK.get() - before)
}

/// Scans `head`, then `body` `times` times.
fn scan(syntax: &str, head: &[u8], body: &[u8], times: usize) -> (Result<Scan>, usize) {
    peak_of(|| {
        let mut scanner = Scanner::new(&Uid::parse(syntax)?);
        scanner.push(head)?;
        for _ in 0..times {
            scanner.push(body)?;
        }
        scanner.finish()
    })
}

const IMPLICIT: &str = "1.2.840.10008.1.2";
const EXPLICIT: &str = "1.2.840.10008.1.2.1";
const DEFLATED: &str = "1.2.840.10008.1.2.1.99";
const HEADER_MAX: usize = 3 * limits::HEADER_LENGTH_MAX_BYTES;

#[test]
fn a_length_alone_takes_no_memory() {
    for head in [
        &b"\x10\x00\x40\x40UT\0\0\xfe\xff\xff\xff"[..],
        b"\x10\x00\x20\x00LO\xfe\xff",
        b"\x08\x00\x40\x11SQ\0\0\xfe\xff\xff\xff",
        b"\xe0\x7f\x01\x00OV\0\0\x00\x00\x80\x00",
        b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\x00\x00\x40\x00",
        b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xfe\xff\xff\xff",
    ] {
        let (_, peak) = scan(EXPLICIT, head, b"", 1);
        assert!(peak < 4096, "{peak} bytes for {head:?}");
        let (parsed, peak) = peak_of(|| parse(head, EXPLICIT));
        assert!(parsed.is_err() && peak < 4096, "{peak} bytes for {head:?}");
    }
}

#[test]
fn ten_gigabytes_of_pixels_take_no_memory() {
    let chunk = vec![0; 1 << 20];
    // 4 GB of native pixels; three fragments of 3.5 GB.
    let head = b"\xe0\x7f\x10\x00OW\0\0\x00\x00\x00\xf0";
    let (found, peak) = scan(EXPLICIT, head, &chunk, 0xF00);
    assert!(found.unwrap().complete && peak < 4096, "{peak}");
    let mut scanner = Scanner::new(&Uid::constant("1.2.840.10008.1.2.4.90"));
    let (_, peak) = peak_of(|| {
        scanner
            .push(b"\x28\x00\x08\x00IS\x02\x003 \xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff")
            .unwrap();
        scanner.push(b"\xfe\xff\x00\xe0\0\0\0\0").unwrap();
        for _ in 0..3 {
            scanner.push(b"\xfe\xff\x00\xe0\x00\x00\x00\xe0").unwrap();
            for _ in 0..0xE00 {
                scanner.push(&chunk).unwrap();
            }
        }
        scanner.push(b"\xfe\xff\xdd\xe0\0\0\0\0").unwrap();
    });
    let found = scanner.finish().unwrap();
    assert!(found.complete && peak < 4096, "{peak}");
    assert_eq!(found.frames.unwrap().frames[2].length, 0xE000_0000);
}

#[test]
fn many_small_elements_and_items_take_bounded_memory() {
    for (head, body) in [
        // Elements without value; a sequence of empty items; of items with one element.
        (&b""[..], &b"\x11\x00\x01\x10\0\0\0\0"[..]),
        (b"\x08\x00\x40\x11\xff\xff\xff\xff", b"\xfe\xff\x00\xe0\0\0\0\0"),
        (
            b"\x08\x00\x40\x11\xff\xff\xff\xff",
            b"\xfe\xff\x00\xe0\x08\0\0\0\x10\x00\x20\x00\0\0\0\0",
        ),
        // Items of undefined length with a sequence in each.
        (
            b"\x08\x00\x40\x11\xff\xff\xff\xff",
            b"\xfe\xff\x00\xe0\xff\xff\xff\xff\x08\x00\x40\x11\0\0\0\0\xfe\xff\x0d\xe0\0\0\0\0",
        ),
        // Values of 60,000 bytes.
        (
            b"",
            &[&b"\x11\x00\x01\x10\x60\xea\0\0"[..], &[b'a'; 60_000]].concat(),
        ),
        // Text that grows threefold when it is decoded.
        (
            b"\x08\x00\x05\x00\x0a\0\0\0ISO_IR 192",
            &[&b"\x10\x00\x20\x00\x40\x00\0\0"[..], &[0xFF; 64]].concat(),
        ),
    ] {
        let (found, peak) = scan(IMPLICIT, head, body, 8 * 1024 * 1024 / body.len());
        assert!(found.unwrap().left_out_count > 0);
        assert!(peak < HEADER_MAX, "{peak} bytes for {:?}", &body[..8]);
    }
}

#[test]
fn many_fragments_take_what_a_frame_table_needs() {
    let head = b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\0\0\0\0";
    let body = b"\xfe\xff\x00\xe0\0\0\0\0";
    let (found, peak) = scan(
        "1.2.840.10008.1.2.5",
        head,
        body,
        2 * limits::FRAME_TABLE_ENTRIES_MAX,
    );
    assert!(found.unwrap().frames.is_none());
    // 16 bytes each, and as much again while the list grows.
    assert!(peak < 3 * 16 * limits::FRAME_TABLE_ENTRIES_MAX, "{peak}");
}

#[test]
fn a_deflate_bomb_stops_at_the_limit() {
    let mut stream = flate2::Compress::new(flate2::Compression::best(), false);
    let zeros = vec![0; 1 << 20];
    let mut bomb = Vec::with_capacity(4 << 20);
    let pixels = b"\xe0\x7f\x10\x00OW\0\0\xfe\xff\xff\xff";
    stream
        .compress_vec(pixels, &mut bomb, flate2::FlushCompress::None)
        .unwrap();
    for _ in 0..limits::INFLATED_LENGTH_MAX_BYTES / (1 << 20) + 2 {
        stream
            .compress_vec(&zeros, &mut bomb, flate2::FlushCompress::None)
            .unwrap();
    }
    stream
        .compress_vec(b"", &mut bomb, flate2::FlushCompress::Finish)
        .unwrap();
    let (found, peak) = scan(DEFLATED, &bomb, b"", 0);
    let found = found.unwrap();
    assert!(!found.complete && peak < 256 * 1024, "{peak}");
    assert_eq!(
        found.problems.len(),
        2,
        "at the limit, and inside an element there: {:?}",
        found.problems
    );
    // An identifier can't grow in memory either.
    let (parsed, peak) = peak_of(|| parse(&bomb, DEFLATED));
    assert!(parsed.is_err() && peak < 256 * 1024, "{peak}");
}

#[test]
fn a_data_set_held_whole_has_a_limit() {
    let body = b"\x11\x00\x01\x10\0\0\0\0".repeat(2 * limits::PARSED_LENGTH_MAX_BYTES / 64);
    let (parsed, peak) = peak_of(|| parse(&body, IMPLICIT));
    assert_eq!(parsed.unwrap_err().kind(), pacs_core::ErrorKind::OutOfResources);
    assert!(peak < 3 * limits::PARSED_LENGTH_MAX_BYTES, "{peak}");
}
