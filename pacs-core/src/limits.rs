//! Every limit, named, with its unit and reason. What a peer sends is held against these before
//! memory is taken.

use std::time::Duration;

/// Sequences in sequences. Real data sets stay below 10; deeper input is an attack on the stack.
pub const SEQUENCE_DEPTH_MAX: usize = 64;

/// One value that is held in memory while a data set is scanned. Identifying attributes are short; a
/// longer value stays in the archive and is left out of the scan's header.
pub const HEADER_VALUE_LENGTH_MAX_BYTES: usize = 64 * 1024;

/// All values that are held in memory of one data set. A header of a large enhanced object stays
/// below; beyond it further values are left out.
pub const HEADER_LENGTH_MAX_BYTES: usize = 1024 * 1024;

/// All that is held of a data set that is parsed whole: an identifier, a command set. Real ones are a
/// few KiB; a modality worklist answer with many items stays below.
pub const PARSED_LENGTH_MAX_BYTES: usize = 16 * 1024 * 1024;

/// What a scan inflates of a deflated data set. Bounds a deflate bomb; attributes that are searched
/// stand long before.
pub const INFLATED_LENGTH_MAX_BYTES: u64 = 256 * 1024 * 1024;

/// The tags of elements left out of a header which are named; the rest is counted.
pub const LEFT_OUT_NAMED_MAX: usize = 64;

/// What stands before the pixel data of an instance that is de-identified: it is held while names are looked for in
/// all of it. Waveforms and surfaces, which stand there too, are some 10 MiB.
pub const DEIDENTIFIED_HEADER_LENGTH_MAX_BYTES: usize = 64 * 1024 * 1024;

/// A File Meta Information group. Real ones are below 1 KiB; private information may add to it.
pub const FILE_META_LENGTH_MAX_BYTES: usize = 64 * 1024;

/// What of a data set is held back before its first byte goes to the archive, until it is decided what of
/// it is coerced: attributes that identify an instance stand well before, and most instances come to their
/// pixel data sooner.
pub const HELD_LENGTH_MAX_BYTES: usize = 256 * 1024;

/// The same of a data set that is coerced, where its Original Attributes Sequence is not yet known: behind
/// the content of a large structured report.
pub const COERCED_HELD_LENGTH_MAX_BYTES: usize = 4 * 1024 * 1024;

/// Entries of a frame table. 16 bytes each in memory.
pub const FRAME_TABLE_ENTRIES_MAX: usize = 1 << 20;

/// Frame tables that are made, with what they are made of: of all instances on their way in, and of kept ones
/// whose frames are asked for and not known. Where no room is left an instance on its way in goes without: its
/// frames are then found by reading it.
pub const FRAME_TABLES_LENGTH_MAX_BYTES: usize = 128 * 1024 * 1024;

/// An archive's own encoding of a place, so that index records stay small.
pub const LOCATOR_LENGTH_MAX_BYTES: usize = 255;

/// One piece that an archive yields when read. Large enough that a system call costs little beside
/// the copy, small enough that a hundred readers fit the memory budget.
pub const READ_CHUNK_BYTES: usize = 256 * 1024;

/// One value that an index keeps. The longest text people search (Patient Comments, LT, 10,240
/// characters) fits; a longer value stays in the archive only.
pub const INDEXED_VALUE_LENGTH_MAX_BYTES: usize = 16 * 1024;

/// Items of one sequence that an index keeps, so that a record stays small.
pub const INDEXED_ITEMS_MAX: usize = 100;

/// Instances on their way in at once. With what a writer may buffer this bounds the memory of
/// receiving; whoever comes then waits and feels it as backpressure.
pub const RECEIPTS_MAX: usize = 128;

/// How long it is at first, and at most, until it is tried again to bring the index up to the archive where nobody asks for
/// anything meanwhile. Each failure doubles it.
pub const HEALING_PAUSES: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(30)];

/// Requests that are refused, while the index can't be brought up to the archive, before it is tried
/// again. Fewer after the first failures; bounds what attempts cost while the medium stays dead.
pub const REFUSALS_PER_HEALING_MAX: u32 = 64;

/// What a sender must deliver while others wait for it to end, in bytes a second; half of what an old
/// line of 64 kbit/s carries. Below it, whoever holds a turn would keep it from all others for hours.
pub const RECEIPT_RATE_MIN_BYTES_PER_SECOND: u64 = 4 * 1024;

/// Over how long a sender's rate is taken, in seconds: longer than a network hiccup, shorter than the
/// patience of those who wait.
pub const RECEIPT_RATE_WINDOW_SECONDS: u64 = 10;

/// One frame of pixel data when it is decoded, and the same when it is compressed: both are held at
/// once. Large digital radiographs are about 50 MiB.
pub const FRAME_LENGTH_MAX_BYTES: usize = 256 * 1024 * 1024;

/// All that is decoded at once, compressed and decoded and with what decoders take beside: room for over a
/// hundred usual slices. A larger frame is decoded alone; who finds no room waits. As much again is for decoded
/// frames that were handed out, and for streams that are transcoded: see `pixel::DecodingRoom`.
pub const DECODING_LENGTH_MAX_BYTES: usize = 512 * 1024 * 1024;

/// What stands before the compressed pixel data of an instance that is transcoded: it is held until
/// its labels are known. The functional groups of 20,000 frames are about 10 MiB.
pub const TRANSCODED_HEADER_LENGTH_MAX_BYTES: usize = 32 * 1024 * 1024;

/// All that is held of the metadata of an instance, as it is in memory. The functional groups of 20,000 frames
/// take about 60 MiB there.
pub const METADATA_LENGTH_MAX_BYTES: usize = 128 * 1024 * 1024;

/// All large metadata that somebody has at once, as it is in memory. Where no room is left more is refused for now.
pub const METADATA_HELD_LENGTH_MAX_BYTES: usize = 2 * METADATA_LENGTH_MAX_BYTES;

/// Instances of which metadata is made by reading them at once. Bounds the memory of that; who comes then waits.
pub const METADATA_READINGS_MAX: usize = 8;

/// Metadata records on their way to the index. Where there is no room one is not kept, and made again when it is
/// asked for.
pub const METADATA_UNWRITTEN_LENGTH_MAX_BYTES: usize = 32 * 1024 * 1024;

/// Series of which something was received and whose metadata is still to be made ahead.
pub const RECENT_SERIES_MAX: usize = 4096;

/// A value of OB, OD, OF, OL, OV, OW or UN that stands in metadata. A longer one is bulk data.
pub const INLINE_BINARY_LENGTH_MAX_BYTES: u64 = 1024;

/// Any other value that stands in metadata, where its VR lets it be bulk data.
pub const INLINE_VALUE_LENGTH_MAX_BYTES: u64 = 64 * 1024;

/// A value of any VR that stands in metadata. No value that conforms is longer and may not be bulk data.
pub const INLINE_LENGTH_MAX_BYTES: u64 = 1024 * 1024;

/// What is read at once as JSON or XML: the metadata of several thousand instances.
pub const DESCRIPTION_LENGTH_MAX_BYTES: usize = 64 * 1024 * 1024;

/// One value of a matching key. Longer than any that people search for; bounds what a wild card costs on
/// each of many records.
pub const KEY_TEXT_LENGTH_MAX_BYTES: usize = 1024;

/// Values of one matching key that is not a list of UIDs. Each may be compared with every record.
pub const KEY_VALUES_MAX: usize = 256;

/// Pixels of a rendered picture, which is all in memory with up to 3 bytes each. The largest radiographs and
/// mammograms are below 30 million.
pub const PICTURE_PIXELS_MAX: u64 = 32 * 1024 * 1024;

/// Pixels of all pictures of an animation, which are in memory at once: 256 of 512 by 512 pixels.
pub const ANIMATION_PIXELS_MAX: u64 = 64 * 1024 * 1024;

/// Points of all graphics of one presentation state. What people draw has some hundred.
pub const GRAPHIC_POINTS_MAX: usize = 64 * 1024;

/// Pixels that graphics and text may draw into one picture, over each other: bounds what a presentation state
/// full of lines costs.
pub const DRAWN_PIXELS_MAX: u64 = 256 * 1024 * 1024;

/// Vertices of a polygonal shutter, which are looked at for each row of an image. Collimators have fewer than 10.
pub const SHUTTER_VERTICES_MAX: usize = 1024;

/// Lookup tables, overlays and the like that are held to draw one instance. An overlay of a large radiograph is
/// about 2 MiB, and each frame may have one.
pub const RENDERED_VALUES_LENGTH_MAX_BYTES: u64 = 64 * 1024 * 1024;

/// Instances that one JSON document describes. Each takes some 50 bytes even where nothing is said of it.
pub const DESCRIBED_INSTANCES_MAX: usize = 100_000;

/// A key of the ledger. Four UIDs or names and a number stay below.
pub const LEDGER_KEY_LENGTH_MAX_BYTES: usize = 1024;

/// A value of the ledger. The largest are HL7 messages with a document inside.
pub const LEDGER_VALUE_LENGTH_MAX_BYTES: usize = 16 * 1024 * 1024;

/// The name of a destination: an AE title, or what a configuration calls it.
pub const DESTINATION_NAME_LENGTH_MAX_BYTES: usize = 64;

/// Deliveries that are entered into the outbox in one step. Bounds what a study of very many instances holds in
/// memory when it is sent as a whole.
pub const DELIVERIES_AT_ONCE_MAX: usize = 1000;

/// What is kept of what a receiver said to a delivery.
pub const DELIVERY_TEXT_LENGTH_MAX_BYTES: usize = 512;

/// Subscribers of one procedure step, and global ones. Each is told of each change.
pub const UPS_SUBSCRIBERS_MAX: usize = 1000;

/// An audit message as XML. Every receiver takes syslog messages of 32,768 bytes (PS3.15 A.6), and their header has to fit too.
pub const AUDIT_DOCUMENT_LENGTH_MAX_BYTES: usize = 32_000;

/// One text within an audit message, as it is written. The longest that DICOM has, a person's name in three component groups,
/// fits where it isn't made of the widest letters alone.
pub const AUDIT_TEXT_LENGTH_MAX_BYTES: usize = 512;

/// What of a query stands in its audit message. Identifiers are some hundred bytes; lists of UIDs make them longer.
pub const AUDIT_QUERY_LENGTH_MAX_BYTES: usize = 6 * 1024;

/// Damaged instances that a verification names. Those of a lost disk may be all there are, and are counted only.
pub const DAMAGED_NAMED_MAX: usize = 100_000;
