use futures::executor::block_on;
use futures::{TryStreamExt, stream};
use proptest::prelude::*;

use super::super::{Part, related};
use super::*;

/// Header fields and bytes of each part; the body comes in pieces of these lengths, over and over.
fn read(boundary: &str, body: &[u8], lengths: &[usize]) -> Result<Vec<(HeaderMap, Vec<u8>)>> {
    let mut pieces = Vec::new();
    let mut rest = body;
    for length in lengths.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, behind) = rest.split_at((*length).clamp(1, rest.len()));
        pieces.push(Ok(Bytes::copy_from_slice(piece)));
        rest = behind;
    }
    let mut reader = MultipartReader::with_boundary(boundary, stream::iter(pieces))?;
    block_on(async move {
        let mut parts = Vec::new();
        while let Some(mut part) = reader.next_part().await? {
            let headers = part.headers().clone();
            let mut bytes = Vec::new();
            while let Some(piece) = part.try_next().await? {
                assert!(!piece.is_empty());
                bytes.extend_from_slice(&piece);
            }
            assert!(part.try_next().await?.is_none());
            parts.push((headers, bytes));
        }
        assert!(reader.next_part().await?.is_none());
        Ok(parts)
    })
}

fn bodies(body: &str) -> Result<Vec<String>> {
    let whole = read("b", body.as_bytes(), &[usize::MAX]);
    let bytewise = read("b", body.as_bytes(), &[1]);
    assert_eq!(whole.as_ref().ok(), bytewise.as_ref().ok(), "{body:?}");
    let parts = whole?.into_iter();
    Ok(parts.map(|part| String::from_utf8(part.1).unwrap()).collect())
}

#[test]
fn preamble_padding_and_epilogue_are_passed_over() {
    let body = "before\r\n--b \t\r\nA: 1\r\n\r\none\r\n--b\r\n\r\ntwo\r\n--b--  \r\nbehind\r\n--b\r\n";
    assert_eq!(bodies(body).unwrap(), ["one", "two"]);
}

#[test]
fn lines_that_end_with_lf_alone_are_read() {
    assert_eq!(
        bodies("--b\nA: 1\n\none\r\n\n--b\n\ntwo\n--b--").unwrap(),
        ["one\r\n", "two"]
    );
}

#[test]
fn a_part_may_be_empty_with_or_without_a_line_of_its_own() {
    let body = "--b\r\nA: 1\r\n\r\n\r\n--b\r\nA: 1\r\n\r\n--b\r\n\r\n--b\r\n\r\n\r\n--b--";
    assert_eq!(bodies(body).unwrap(), [""; 4]);
    assert_eq!(bodies("--b--\r\n").unwrap(), [""; 0]);
}

#[test]
fn what_only_begins_like_a_boundary_is_data() {
    let data = "\r\n--\r\n--bc\r\n--b-\r\n--b \tx\r--b\r\r\n\n--\r\n-";
    assert_eq!(bodies(&format!("--b\r\n\r\n{data}\r\n--b--")).unwrap(), [data]);
    let begins = "--bx\r\n--";
    assert_eq!(
        bodies(&format!("--b\r\n\r\n{begins}\r\n--b--")).unwrap(),
        [begins]
    );
    let padded = format!("\r\n--b{}\r\n", " ".repeat(PADDING_LENGTH_MAX_BYTES + 1));
    assert_eq!(
        bodies(&format!("--b\r\n\r\n{padded}\r\n--b--")).unwrap(),
        [padded]
    );
}

#[test]
fn a_body_that_is_cut_off_is_an_error_wherever_it_is_cut() {
    let body = "pre\r\n--b\r\nA: 1\r\n\r\none\r\n--b\r\nB: 2\r\n\r\n\r\n--b--";
    assert_eq!(bodies(body).unwrap(), ["one", ""]);
    for end in 0..body.len() {
        assert!(bodies(&body[..end]).is_err(), "{end}");
    }
}

#[test]
fn header_fields_are_read_as_they_are_written() {
    let body = "--b\r\ncontent-TYPE: application/dicom;\r\n  transfer-syntax=1.2\r\nContent-ID:<x@y>\r\n\
                Content-Location: /bulk/1\r\nContent-Length: 999\r\nA:1\r\nA: 2\r\n\r\ndata\r\n--b--";
    let mut reader = MultipartReader::with_boundary("b", stream::iter([Ok(Bytes::from(body))])).unwrap();
    let part = block_on(reader.next_part()).unwrap().unwrap();
    let media_type = part.media_type().unwrap();
    assert_eq!(media_type, MediaType::DICOM.with_transfer_syntax("1.2"));
    assert_eq!((part.id(), part.location()), (Some("x@y"), Some("/bulk/1")));
    assert_eq!(part.headers().get_all("a").iter().count(), 2);
}

#[test]
fn bad_headers_are_refused() {
    let part = |header: &str| bodies(&format!("--b\r\n{header}\r\n\r\ndata\r\n--b--"));
    assert!(part("A: 1").is_ok());
    for header in ["no colon", " folded: 1", "A B: 1", ": 1", "A: \u{1}", "Ä: 1"] {
        let error = part(header).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{header}");
    }
    let field = |length: usize| format!("A: {}", "x".repeat(length));
    assert!(part(&field(PART_HEADERS_LENGTH_MAX_BYTES - 10)).is_ok());
    assert!(part(&field(PART_HEADERS_LENGTH_MAX_BYTES)).is_err());
    assert!(part(&vec!["A: 1"; PART_HEADERS_MAX].join("\r\n")).is_ok());
    assert!(part(&vec!["A: 1"; PART_HEADERS_MAX + 1].join("\r\n")).is_err());
    // Without an end, it isn't gathered for ever.
    let endless = stream::repeat_with(|| Ok(Bytes::from("--b\r\nA: x").slice(..8)));
    let mut reader = MultipartReader::with_boundary("b", endless.boxed()).unwrap();
    assert!(block_on(reader.next_part()).is_err());
    assert!(block_on(reader.next_part()).unwrap().is_none());
}

#[test]
fn what_is_outside_of_the_parts_is_bounded() {
    let endless = stream::repeat_with(|| Ok(Bytes::from_static(b"no boundary\r\n")));
    let mut reader = MultipartReader::with_boundary("b", endless.boxed()).unwrap();
    assert!(block_on(reader.next_part()).is_err());
    let begin = stream::iter([Ok(Bytes::from_static(b"--b--"))]);
    let endless = begin.chain(stream::repeat_with(|| Ok(Bytes::from_static(b"behind"))));
    let mut reader = MultipartReader::with_boundary("b", endless.boxed()).unwrap();
    assert!(block_on(reader.next_part()).is_err());
}

#[test]
fn a_boundary_must_be_one() {
    let none = || stream::empty::<Result<Bytes>>();
    for boundary in ["", "a\nb", "ä", &"b".repeat(71)] {
        assert!(
            MultipartReader::with_boundary(boundary, none()).is_err(),
            "{boundary}"
        );
    }
    assert!(MultipartReader::new(&MediaType::MULTIPART_RELATED, none()).is_err());
    let media_type = MediaType::MULTIPART_RELATED.with_parameter("boundary", "a=b c");
    assert!(MultipartReader::new(&media_type, none()).is_ok());
}

#[test]
fn an_error_of_the_body_reaches_whoever_reads_the_part() {
    let error = Error::new(ErrorKind::TimedOut, "http.body", "too slow");
    let pieces = stream::iter([Ok(Bytes::from_static(b"--b\r\n\r\nhalf")), Err(error)]);
    let mut reader = MultipartReader::with_boundary("b", pieces).unwrap();
    block_on(async {
        let mut part = reader.next_part().await.unwrap().unwrap();
        assert_eq!(part.try_next().await.unwrap().unwrap(), "half");
        assert_eq!(part.try_next().await.unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(part.try_next().await.unwrap().is_none());
        assert!(reader.next_part().await.unwrap().is_none());
    });
}

#[test]
fn pieces_are_handed_on_without_a_copy() {
    let data = Bytes::from(vec![7; 100_000]);
    let pieces = [
        Bytes::from_static(b"--b\r\n\r\n"),
        data.clone(),
        Bytes::from_static(b"\r\n--b--"),
    ];
    let mut reader = MultipartReader::with_boundary("b", stream::iter(pieces.map(Ok))).unwrap();
    block_on(async {
        let mut part = reader.next_part().await.unwrap().unwrap();
        let piece = part.try_next().await.unwrap().unwrap();
        assert_eq!((piece.as_ptr(), piece.len()), (data.as_ptr(), data.len()));
    });
}

/// Data that likes to look like a boundary.
fn data() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..40),
        1 => Just(b"\r\n".to_vec()),
        1 => Just(b"\n--".to_vec()),
        1 => Just(b"\r\n--boundar".to_vec()),
        1 => Just(b"\r\n--boundaryx".to_vec()),
        1 => Just(b"\r".to_vec()),
        1 => Just(b"--".to_vec()),
    ];
    prop::collection::vec(pieces, 0..8).prop_map(|pieces| pieces.concat())
}

/// Whether a line of it is the boundary, or may be one with what stands behind it.
fn has_boundary(part: &[u8]) -> bool {
    const LINE: &[u8] = b"\n--boundary";
    let lines = [b"\n", part].concat();
    let at = lines
        .windows(LINE.len())
        .enumerate()
        .filter(|(_, window)| *window == LINE);
    let behind = at.map(|(at, _)| lines.get(at + LINE.len()).copied());
    behind.into_iter().any(|next| next != Some(b'x'))
}

fn lengths() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![1..5_usize, 1..200_usize], 1..6)
}

proptest! {
    #[test]
    fn what_is_concatenated_reads_back_equal(
        parts in prop::collection::vec(data(), 0..6), lengths in lengths(), crlf in any::<bool>(),
    ) {
        let end = if crlf { "\r\n" } else { "\n" };
        // With LF alone, a CR before the boundary is taken for a part of the line's end.
        prop_assume!(crlf || parts.iter().all(|part| part.last() != Some(&b'\r')));
        // A part that goes on at once with what only begins like a boundary is its own affair; one that has a boundary is none.
        prop_assume!(!parts.iter().any(|part| has_boundary(part)));
        let mut body = Vec::new();
        for part in &parts {
            body.extend_from_slice(format!("--boundary{end}A: 1{end}{end}").as_bytes());
            body.extend_from_slice(part);
            body.extend_from_slice(end.as_bytes());
        }
        body.extend_from_slice(b"--boundary--");
        let read = read("boundary", &body, &lengths).unwrap();
        prop_assert_eq!(read.into_iter().map(|part| part.1).collect::<Vec<_>>(), parts);
    }

    #[test]
    fn what_we_write_reads_back_equal(parts in prop::collection::vec(data(), 0..6), lengths in lengths()) {
        let written = parts.clone().into_iter();
        let written = written.map(|data| Ok(Part::whole(&MediaType::OCTET_STREAM, data).with_location("/1")));
        let multipart = related(&MediaType::OCTET_STREAM, stream::iter(written));
        let boundary = multipart.media_type.boundary().unwrap().to_owned();
        let body: Vec<Bytes> = block_on(multipart.body.try_collect()).unwrap();
        let read = read(&boundary, &body.concat(), &lengths).unwrap();
        for (headers, _) in &read {
            prop_assert_eq!(&headers[header::CONTENT_TYPE], "application/octet-stream");
            prop_assert_eq!(&headers[header::CONTENT_LOCATION], "/1");
        }
        prop_assert_eq!(read.into_iter().map(|part| part.1).collect::<Vec<_>>(), parts);
    }

    #[test]
    fn how_a_body_is_cut_makes_no_difference(
        body in "(--b|\r\n|\n|-|b|A: 1|x| ){0,30}", lengths in lengths(),
    ) {
        let whole = read("b", body.as_bytes(), &[usize::MAX]);
        let cut = read("b", body.as_bytes(), &lengths);
        prop_assert_eq!(whole.ok(), cut.ok());
    }
}
