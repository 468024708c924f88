//! Accept fields and parameters, media types, ranges and preconditions: nothing panics, and what is read is written so
//! that it reads the same.
//!
//! Run with `cargo fuzz run -s none accept`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pacs_net::web::http::accept::{Accept, Offer, check_charset};
use pacs_net::web::http::conditional::Validators;
use pacs_net::web::http::media_type::MediaType;
use pacs_net::web::http::range::ByteRange;

fuzz_target!(|bytes: &[u8]| {
    let (field, query) = bytes.split_at(bytes.len() / 2);
    let query = std::str::from_utf8(query).ok();
    let mut headers = http::HeaderMap::new();
    let Ok(value) = http::HeaderValue::from_bytes(field) else {
        return;
    };
    for name in [
        "accept",
        "range",
        "if-range",
        "if-match",
        "if-none-match",
        "if-modified-since",
    ] {
        headers.insert(name, value.clone());
    }
    if let Some(media_type) = value
        .to_str()
        .ok()
        .and_then(|text| text.parse::<MediaType>().ok())
    {
        let again = media_type.to_string().parse::<MediaType>();
        assert_eq!(again.expect("what we write we read"), media_type);
        let _ = (
            media_type.root(),
            media_type.transfer_syntax(),
            media_type.is_text(),
        );
    }
    let explicit = "1.2.840.10008.1.2.1";
    let offers = [
        Offer::new(MediaType::DICOM_JSON),
        Offer::of(MediaType::related(&MediaType::DICOM), explicit),
        Offer::of_any(MediaType::related(&MediaType::DICOM)),
        Offer::of(MediaType::JPEG, "1.2.840.10008.1.2.4.50"),
    ];
    if let Ok(accept) = Accept::of_request(&headers, query) {
        let ranked = accept.rank(&offers);
        assert_eq!(accept.select(&offers).ok(), ranked.first().cloned());
        assert!(ranked.iter().all(|choice| offers[choice.index] == *choice.offer));
    }
    let _ = check_charset(query);
    let validators = Validators::of_tag("a");
    let _ = validators.check(&http::Method::GET, &headers);
    if let Ok(ByteRange::Part(range)) = ByteRange::of_request(&http::Method::GET, &headers, 1000, &validators)
    {
        assert!(range.start < range.end && range.end <= 1000);
    }
});
