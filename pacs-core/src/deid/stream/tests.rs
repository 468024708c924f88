use futures::executor::block_on;

use super::*;
use crate::dataset::scan;
use crate::deid::{Profile, Project};

const EXPLICIT: Uid = Uid::constant("1.2.840.10008.1.2.1");
const JPEG: Uid = Uid::constant("1.2.840.10008.1.2.4.50");

fn by() -> Deidentifier {
    let project = Project::new("trial", b"0123456789abcdef").unwrap();
    Deidentifier::new(Profile::default(), project)
}

fn header() -> Vec<u8> {
    let mut set = DataSet::new();
    set.put_text(tags::PATIENT_NAME, VR::PN, "Doe^Jane");
    set.put_text(tags::PATIENT_ID, VR::LO, "4711");
    for (tag, number) in [
        (tags::SAMPLES_PER_PIXEL, 1),
        (tags::ROWS, 2),
        (tags::COLUMNS, 2),
        (tags::BITS_ALLOCATED, 8),
    ] {
        set.put_u16(tag, number);
    }
    encode::encode(&set, &EXPLICIT, &CharacterSet::utf8()).unwrap()
}

fn made(syntax: &Uid, blank: &[Rectangle], bytes: &[u8], cut: usize) -> Result<Vec<u8>> {
    let pieces: Vec<_> = bytes
        .chunks(cut)
        .map(|piece| Ok(Bytes::copy_from_slice(piece)))
        .collect();
    block_on(async {
        // As an archive's: it may not be asked again once it has ended.
        let next = |mut left: std::vec::IntoIter<_>| async { left.next().map(|piece| (piece, left)) };
        let source = stream::unfold(pieces.into_iter(), next).boxed();
        let head = Head::read(syntax, source).await?;
        let (_, pieces) = head.deidentify(&by(), blank)?;
        Ok(pieces.try_collect::<Vec<_>>().await?.concat())
    })
}

/// Pixel Data of four bytes.
const NATIVE: &[u8] = b"\xE0\x7F\x10\x00OB\0\0\x04\0\0\0\x01\x02\x03\x04";
/// Pixel Data of an empty offset table and one fragment.
const FRAGMENTS: &[u8] = b"\xE0\x7F\x10\x00OB\0\0\xFF\xFF\xFF\xFF\
    \xFE\xFF\x00\xE0\0\0\0\0\xFE\xFF\x00\xE0\x02\0\0\0\xAB\xCD";
const DELIMITER: &[u8] = b"\xFE\xFF\xDD\xE0\0\0\0\0";
/// Data Set Trailing Padding that says a name.
const PADDING: &[u8] = b"\xFC\xFF\xFC\xFFOB\0\0\x04\0\0\0Jane";

#[test]
fn pixel_data_passes_and_what_stands_behind_it_does_not_however_it_is_cut() {
    let fragments = [FRAGMENTS, DELIMITER].concat();
    for (syntax, pixels) in [(EXPLICIT, NATIVE), (JPEG, &fragments)] {
        let whole = [&header(), pixels, PADDING].concat();
        let at_once = made(&syntax, &[], &whole, usize::MAX).unwrap();
        assert!(at_once.ends_with(pixels));
        for name in [&b"Doe"[..], b"Jane", b"4711"] {
            assert!(!at_once.windows(name.len()).any(|window| window == name));
        }
        for cut in 1..20 {
            assert_eq!(made(&syntax, &[], &whole, cut).unwrap(), at_once, "{cut}");
        }
        let before = &at_once[..at_once.len() - pixels.len()];
        assert!(scan::parse(before, &EXPLICIT).unwrap().contains(tags::PATIENT_ID));
    }
}

#[test]
fn what_has_no_pixel_data_ends_where_its_header_does() {
    for syntax in [EXPLICIT, JPEG] {
        for cut in [1, 7, usize::MAX] {
            let made = made(&syntax, &[], &header(), cut).unwrap();
            assert!(scan::parse(&made, &EXPLICIT).unwrap().contains(tags::PATIENT_ID));
        }
    }
}

#[test]
fn a_rectangle_is_blanked_in_what_passes() {
    let blank = [Rectangle {
        x: 1,
        y: 0,
        width: 1,
        height: 2,
    }];
    for cut in [1, 3, 1000] {
        let made = made(&EXPLICIT, &blank, &[&header(), NATIVE].concat(), cut).unwrap();
        assert!(made.ends_with(&[1, 0, 3, 0]), "{cut}");
    }
}

#[test]
fn a_delimiter_that_is_missing_is_added_and_what_is_cut_off_is_an_error() {
    let made = |pixels: &[u8]| made(&JPEG, &[], &[&header(), pixels].concat(), 7);
    assert!(made(FRAGMENTS).unwrap().ends_with(DELIMITER));
    let cut = &FRAGMENTS[..FRAGMENTS.len() - 1];
    assert_eq!(made(cut).unwrap_err().kind(), ErrorKind::Invalid);
    let garbage = [FRAGMENTS, DELIMITER, b"\x10\0\x10\0PN\x08\0Doe^"].concat();
    assert!(!made(&garbage).is_ok_and(|made| made.windows(3).any(|window| window == b"Doe")));
}

#[test]
fn pixels_leave_before_all_of_them_have_come() {
    let mut pixels = NATIVE.to_vec();
    pixels[8..12].copy_from_slice(&0x1000_0000u32.to_le_bytes());
    // A source that never ends.
    let pieces = stream::iter([Ok(Bytes::from([header(), pixels].concat()))]);
    let pieces = pieces.chain(stream::repeat_with(|| Ok(Bytes::from_static(&[7; 1024]))));
    let passed = block_on(async {
        let head = Head::read(&EXPLICIT, pieces.boxed()).await?;
        let (_, pieces) = head.deidentify(&by(), &[])?;
        pieces
            .take(100)
            .try_fold(0, |sum, piece| async move { Ok(sum + piece.len()) })
            .await
    });
    assert!(passed.unwrap() > 90 * 1024);
}

#[test]
fn pixels_that_nobody_looked_at_do_not_leave() {
    // What belongs behind them stands in front.
    let late = [&header(), PADDING, NATIVE].concat();
    let error = made(&EXPLICIT, &[], &late, usize::MAX).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let rectangle = |y| Rectangle {
        x: 0,
        y,
        width: 2,
        height: 1,
    };
    // Nothing would be blanked, and the instance would say that it was.
    let native = [&header(), NATIVE].concat();
    let error = made(&EXPLICIT, &[rectangle(2)], &native, usize::MAX).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    let float = b"\xE0\x7F\x08\x00OF\0\0\x04\0\0\0\x01\x02\x03\x04";
    let error = made(&EXPLICIT, &[rectangle(0)], &[&header()[..], float].concat(), 7).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn images_that_may_say_whose_they_are_in_their_pixels_are_refused() {
    let admitted = |change: &dyn Fn(&mut DataSet)| {
        let mut set = scan::parse(&header(), &EXPLICIT).unwrap();
        change(&mut set);
        let bytes = encode::encode(&set, &EXPLICIT, &CharacterSet::utf8()).unwrap();
        let bytes = Bytes::from([&bytes, NATIVE].concat());
        block_on(async {
            let source = stream::iter([Ok(bytes)]).boxed();
            let head = Head::read(&EXPLICIT, source).await.unwrap();
            by().admit(&head).map(drop).map_err(|error| error.kind())
        })
    };
    assert_eq!(admitted(&|_| ()), Ok(()));
    let text = |tag, vr, text: &'static str| admitted(&move |set| set.put_text(tag, vr, text));
    for (tag, vr, value) in [
        (tags::BURNED_IN_ANNOTATION, VR::CS, "yes"),
        (tags::MODALITY, VR::CS, "US"),
        (tags::CONVERSION_TYPE, VR::CS, "WSD"),
        (tags::IMAGE_TYPE, VR::CS, "DERIVED\\SECONDARY\\SCREEN SAVE"),
        (tags::PIXEL_DATA_PROVIDER_URL, VR::UR, "http://h/1"),
    ] {
        assert_eq!(text(tag, vr, value), Err(ErrorKind::Refused), "{tag}");
    }
    let overlay = |set: &mut DataSet| set.put_u16(Tag(0x6000, 0x0102), 12);
    assert_eq!(admitted(&overlay), Err(ErrorKind::Refused));
    let told = |set: &mut DataSet| {
        set.put_text(tags::MODALITY, VR::CS, "US");
        set.put_text(tags::BURNED_IN_ANNOTATION, VR::CS, "NO");
    };
    assert_eq!(admitted(&told), Ok(()));
}
