use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> MediaType {
    text.parse().unwrap()
}

#[test]
fn names_are_read_without_regard_to_case_and_values_with_it() {
    let media_type = parse("Application/DICOM ;\tTransfer-Syntax=1.2.840.10008.1.2.1 ; Charset=\"UTF-8\"");
    assert!(media_type.is(&MediaType::DICOM));
    assert_eq!(
        media_type.transfer_syntax().as_deref(),
        Some("1.2.840.10008.1.2.1")
    );
    assert_eq!(media_type.parameter("charset"), Some("UTF-8"));
}

#[test]
fn a_quoted_value_may_hold_what_separates_others() {
    let media_type = parse(r#"multipart/related; boundary="a;b,\"c\\"; type="application/dicom""#);
    assert_eq!(media_type.boundary(), Some(r#"a;b,"c\"#));
    assert!(media_type.root().is(&MediaType::DICOM));
    assert_eq!(parse(&media_type.to_string()), media_type);
}

#[test]
fn the_type_of_parts_is_read_without_quotes_too_and_with_a_transfer_syntax_inside() {
    let media_type = parse("multipart/related;type=application/dicom;transfer-syntax=*");
    assert!(media_type.root().is(&MediaType::DICOM));
    assert_eq!(media_type.transfer_syntax().as_deref(), Some("*"));
    let inside = parse(r#"multipart/related; type="application/dicom;transfer-syntax=1.2""#);
    assert!(inside.root().is(&MediaType::DICOM));
    assert_eq!(inside.transfer_syntax().as_deref(), Some("1.2"));
}

#[test]
fn what_is_no_media_type_is_refused() {
    let long = format!("a/b; c={}", "d".repeat(MEDIA_TYPE_LENGTH_MAX_BYTES));
    let many = format!("a/b{}", "; c=d".repeat(PARAMETERS_MAX));
    parse(&many);
    let named: String = (0..=PARAMETERS_MAX)
        .map(|number| format!(";p{number}=d"))
        .collect();
    let too_many = format!("a/b{named}");
    for text in [
        "",
        "/",
        "a",
        "a/",
        "/b",
        "a b/c",
        "a/b; c",
        "a/b; =c",
        "a/b; c=\"d",
        "a/b; c=\"\n\"",
        "a/b; c=é",
        "a/b; c=d e",
        "a/b; é=d",
        "a/b/c",
        &long,
        &too_many,
    ] {
        assert!(text.parse::<MediaType>().is_err(), "{text}");
    }
}

#[test]
fn a_media_type_that_is_too_long_only_with_its_quotes_is_refused() {
    let head = "a/b;c=/";
    let fits = format!(
        "{head}{}",
        "d".repeat(MEDIA_TYPE_LENGTH_MAX_BYTES - head.len() - 3)
    );
    let read = fits.parse::<MediaType>().unwrap();
    assert_eq!(read.to_string().parse::<MediaType>().unwrap(), read);
    assert!(format!("{fits}d").parse::<MediaType>().is_err());
}

#[test]
fn a_related_type_takes_over_the_transfer_syntax_of_its_parts() {
    let root = MediaType::JP2.with_transfer_syntax(uids::JPEG2000);
    let whole = MediaType::related(&root);
    assert_eq!(
        whole.to_string(),
        "multipart/related; type=\"image/jp2\"; transfer-syntax=1.2.840.10008.1.2.4.91"
    );
    assert_eq!(whole.default_transfer_syntax(), Some(uids::JPEG2000_LOSSLESS));
}

#[test]
fn transfer_syntaxes_and_media_types_belong_together() {
    assert_eq!(
        MediaType::of_transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN),
        None
    );
    for (media_type, transfer_syntax) in ENCAPSULATED {
        assert_eq!(
            MediaType::of_transfer_syntax(transfer_syntax).as_ref(),
            Some(media_type)
        );
    }
    let default = MediaType::DICOM.default_transfer_syntax();
    assert_eq!(default, Some(uids::EXPLICIT_VR_LITTLE_ENDIAN));
    assert_eq!(MediaType::DICOM_JSON.default_transfer_syntax(), None);
}

proptest! {
    #[test]
    fn whatever_is_read_is_written_so_that_it_reads_the_same(text in "[a-z/;=\"\\\\ ,*+.\t\u{80}-\u{ff}]{0,40}") {
        if let Ok(media_type) = text.parse::<MediaType>() {
            prop_assert_eq!(media_type.to_string().parse::<MediaType>().unwrap(), media_type.clone());
            media_type.header_value();
        }
    }

    #[test]
    fn any_value_is_written_so_that_it_reads_the_same(value in "[^\\p{Cc}]{0,60}") {
        let media_type = MediaType::DICOM.with_parameter("charset", value.clone());
        let read = media_type.to_string().parse::<MediaType>().unwrap();
        prop_assert_eq!(read.parameter("charset"), Some(&*value));
    }
}
