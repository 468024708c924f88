use dicom_dictionary_std::uids;
use http::{HeaderValue, StatusCode};

use super::*;

const EXPLICIT: &str = uids::EXPLICIT_VR_LITTLE_ENDIAN;

fn accept(header: &str, query: &str) -> Accept {
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT, HeaderValue::from_str(header).unwrap());
    Accept::of_request(&headers, Some(query)).unwrap()
}

/// The places of the accepted offers, best first.
fn ranked(header: &str, offers: &[Offer]) -> Vec<usize> {
    accept(header, "")
        .rank(offers)
        .iter()
        .map(|choice| choice.index)
        .collect()
}

fn metadata() -> Vec<Offer> {
    vec![
        Offer::new(MediaType::DICOM_JSON),
        Offer::new(MediaType::related(&MediaType::DICOM_XML)),
    ]
}

fn frames() -> Vec<Offer> {
    vec![
        Offer::of(MediaType::related(&MediaType::JPEG), uids::JPEG_BASELINE8_BIT),
        Offer::of(MediaType::related(&MediaType::OCTET_STREAM), EXPLICIT),
        Offer::of(MediaType::OCTET_STREAM, EXPLICIT),
    ]
}

#[test]
fn quality_decides_before_the_servers_preference() {
    let xml_first = r#"application/dicom+json;q=0.5, multipart/related;type="application/dicom+xml";q=0.8"#;
    assert_eq!(ranked(xml_first, &metadata()), [1, 0]);
    let equal = r#"multipart/related;type="application/dicom+xml", application/dicom+json"#;
    assert_eq!(ranked(equal, &metadata()), [0, 1]);
    assert_eq!(
        ranked("application/dicom+json; q=.4, */*; q=0.5", &metadata()),
        [1, 0]
    );
}

#[test]
fn the_most_precise_range_decides_over_an_offer() {
    assert_eq!(ranked("application/dicom+json;q=0, */*", &metadata()), [1]);
    assert_eq!(
        ranked("application/*;q=0.1, application/dicom+json;q=0.9", &metadata()),
        [0]
    );
    let offers = [Offer::new(MediaType::JPEG), Offer::new(MediaType::PNG)];
    assert_eq!(ranked("image/png, */*", &offers), [1, 0]);
    assert_eq!(ranked("image/*", &offers), [0, 1]);
}

#[test]
fn a_single_part_type_is_not_a_multipart_one() {
    assert_eq!(ranked("application/octet-stream", &frames()), [2]);
    assert_eq!(
        ranked("multipart/related; type=application/octet-stream", &frames()),
        [1]
    );
    assert_eq!(ranked("multipart/related", &frames()), [1, 0]);
}

#[test]
fn without_a_transfer_syntax_the_default_is_meant_but_pictures_are_given_as_kept() {
    let dicom = MediaType::related(&MediaType::DICOM);
    let offers = [
        Offer::of(dicom.clone(), uids::JPEG2000_LOSSLESS),
        Offer::of(dicom, EXPLICIT),
    ];
    let range = r#"multipart/related; type="application/dicom""#;
    assert_eq!(ranked(range, &offers), [1]);
    assert_eq!(ranked("*/*", &offers), [1]);
    assert_eq!(ranked(&format!("{range}; transfer-syntax=*"), &offers), [0, 1]);
    assert_eq!(
        ranked(
            &format!("{range}; transfer-syntax=1.2.840.10008.1.2.4.90"),
            &offers
        ),
        [0]
    );
    assert_eq!(
        ranked(
            &format!("{range}; transfer-syntax=1.2.840.10008.1.2.4.50"),
            &offers
        ),
        [0_usize; 0]
    );
    assert_eq!(ranked(r#"multipart/related; type="image/jpeg""#, &frames()), [0]);
    assert_eq!(ranked(r#"multipart/related; type="image/*""#, &frames()), [0]);
    // Of all there is, the default.
    assert_eq!(ranked("*/*", &frames()), [1, 2, 0]);
}

#[test]
fn an_offer_of_any_transfer_syntax_comes_with_each_that_is_asked_for() {
    let offers = [Offer::of_any(MediaType::related(&MediaType::DICOM))];
    let header = r#"multipart/related; type="application/dicom"; transfer-syntax=*; q=0.1,
        multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.4.80;q=0.5,
        multipart/related; type="application/dicom";q=0.3"#
        .replace('\n', "");
    let accept = accept(&header, "");
    let wanted = accept
        .rank(&offers)
        .into_iter()
        .map(|choice| choice.transfer_syntax);
    let expected = [
        Wanted::One(uids::JPEGLS_LOSSLESS.into()),
        Wanted::Default,
        Wanted::Any,
    ];
    assert_eq!(wanted.collect::<Vec<_>>(), expected);
}

#[test]
fn the_parameter_goes_over_the_header_and_the_header_serves_where_it_fails() {
    let offers = metadata();
    let xml = "accept=multipart/related;+type=%22application/dicom%2Bxml%22";
    assert_eq!(
        accept("application/dicom+json", xml)
            .select(&offers)
            .unwrap()
            .index,
        1
    );
    let json = "x=1&accept=application/dicom+json";
    assert_eq!(accept("image/png", json).select(&offers).unwrap().index, 0);
    assert_eq!(
        accept("*/*", "accept=image/png").select(&offers).unwrap().index,
        0
    );
    assert!(Accept::of_request(&HeaderMap::new(), Some("accept=what%3F")).is_err());
    assert!(Accept::of_request(&HeaderMap::new(), Some("accept=%FF")).is_err());
}

#[test]
fn without_accept_the_default_is_given_and_without_a_match_406() {
    let none = Accept::of_request(&HeaderMap::new(), None).unwrap();
    assert_eq!(none.select(&metadata()).unwrap().index, 0);
    let problem = accept("image/png", "").select(&metadata()).unwrap_err();
    assert_eq!(problem.status(), StatusCode::NOT_ACCEPTABLE);
    assert!(
        accept("nonsense, */*;q=7, a/b;q=x", "")
            .select(&metadata())
            .is_err()
    );
}

#[test]
fn who_reads_json_gets_the_dicom_json_model() {
    assert_eq!(ranked("application/json", &metadata()), [0]);
    let offers = [Offer::new(MediaType::DICOM_JSON), Offer::new(MediaType::JSON)];
    assert_eq!(ranked("application/json", &offers), [1, 0]);
}

#[test]
fn lists_are_bounded() {
    let many = vec!["a/b"; RANGES_MAX + 1].join(",");
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT, HeaderValue::from_str(&many).unwrap());
    assert!(Accept::of_request(&headers, None).is_err());
    let long = format!("accept={}", "a".repeat(ACCEPT_LENGTH_MAX_BYTES + 1));
    assert!(Accept::of_request(&HeaderMap::new(), Some(&long)).is_err());
}

#[test]
fn text_is_in_utf8_and_whoever_insists_on_another_is_refused() {
    for query in [
        "",
        "charset=utf-8",
        "charset=ISO-8859-1,UTF-8;q=0.1",
        "charset=%22ISO_IR%20192%22",
    ] {
        assert!(check_charset(Some(query)).is_ok(), "{query}");
    }
    assert!(check_charset(Some("charset=ISO-8859-1")).is_err());
    assert!(check_charset(Some("charset=UTF-8;q=0")).is_err());
    assert!(check_charset(None).is_ok());
}
