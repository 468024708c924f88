//! Metadata and bulk data by WADO-RS (PS3.18 10.4.1.1.2, 10.4.1.1.5).

use super::*;

/// An encapsulated document of some length, and its file.
fn document(length: usize) -> (Vec<u8>, Bytes) {
    let mut set = Image::new(1, 1, 1).header();
    let document: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
    set.put_text(
        tags::MIME_TYPE_OF_ENCAPSULATED_DOCUMENT,
        VR::LO,
        "application/pdf",
    );
    put_binary(&mut set, tags::ENCAPSULATED_DOCUMENT, VR::OB, document.clone());
    let bytes = encode(&set, uids::EXPLICIT_VR_LITTLE_ENDIAN, &CharacterSet::utf8()).unwrap();
    (document, bytes.into())
}

#[tokio::test]
async fn metadata_has_every_attribute_and_says_where_the_bulk_data_is() {
    let images = [Image::new(1, 1, 1), Image::new(1, 1, 2), Image::new(1, 2, 3)];
    let served = Served::keeping(images.iter().map(Image::file)).await;
    let cases = [
        ("/studies/1.2.1/metadata".to_owned(), 3),
        ("/studies/1.2.1/series/1.2.1.1/metadata".to_owned(), 2),
        (format!("{}/metadata", images[2].path()), 1),
    ];
    // Once as it is made, and once as the index has it.
    for (path, count) in cases.iter().chain(&cases) {
        let items = served.get(path).await.items();
        assert_eq!(items.len(), *count, "{path}");
        for item in &items {
            let instance = value(item, tags::SOP_INSTANCE_UID).as_str().unwrap();
            let image = images
                .iter()
                .find(|image| image.instance_uid() == instance)
                .unwrap();
            assert_eq!(value(item, tags::ROWS), 4);
            assert_eq!(
                value(item, tags::AVAILABLE_TRANSFER_SYNTAX_UID),
                uids::EXPLICIT_VR_LITTLE_ENDIAN
            );
            let step = &value(item, tags::REQUEST_ATTRIBUTES_SEQUENCE);
            assert_eq!(value(step, tags::REQUESTED_PROCEDURE_ID), "R1");
            assert_eq!(
                item["7FE00010"]["BulkDataURI"],
                format!("http://pacs.example/dicom-web{}/bulkdata/7FE00010", image.path())
            );
        }
    }
}

#[tokio::test]
async fn metadata_comes_as_xml_too() {
    let served = Served::keeping([Image::new(1, 1, 1).file(), Image::new(1, 1, 2).file()]).await;
    let accept = "multipart/related; type=\"application/dicom+xml\"";
    let parts = served
        .get_as("/studies/1.2.1/metadata", accept)
        .await
        .parts()
        .await;
    assert_eq!(parts.len(), 2);
    let text = String::from_utf8(parts[0].body.to_vec()).unwrap();
    assert!(
        text.contains("<BulkData uri=\"http://pacs.example/dicom-web/studies/1.2.1/"),
        "{text}"
    );
}

#[tokio::test]
async fn bulk_data_is_what_was_stored_and_may_be_had_by_ranges() {
    let (document, file) = document(100_000);
    let served = Served::keeping([file]).await;
    let path = Image::new(1, 1, 1).path();
    let item = &served.get(&format!("{path}/metadata")).await.items()[0];
    let uri = item["00420011"]["BulkDataURI"].as_str().unwrap();
    let path = uri.strip_prefix("http://pacs.example/dicom-web").unwrap();
    let whole = served.get(path).await;
    assert_eq!(whole.body, document);
    assert_eq!(whole.header(header::ACCEPT_RANGES), "bytes");
    let pdf = served.get_as(path, "application/pdf").await;
    assert_eq!(pdf.header(header::CONTENT_TYPE), "application/pdf");
    assert_eq!(pdf.body, whole.body);
    for (range, expected) in [
        ("bytes=10-19", 10..20),
        ("bytes=-5", 99_995..100_000),
        ("bytes=99990-", 99_990..100_000),
    ] {
        let request = get(path)
            .header(header::RANGE, range)
            .body(Body::empty())
            .unwrap();
        let part = served.ask(request).await;
        assert_eq!(part.status, StatusCode::PARTIAL_CONTENT);
        let content = format!("bytes {}-{}/100000", expected.start, expected.end - 1);
        assert_eq!(part.header(header::CONTENT_RANGE), content);
        assert_eq!(part.body, document[expected]);
    }
    let request = get(path)
        .header(header::RANGE, "bytes=100000-")
        .body(Body::empty())
        .unwrap();
    served
        .ask(request)
        .await
        .problem(StatusCode::RANGE_NOT_SATISFIABLE);
    let parts = served
        .get_as(path, "multipart/related; type=\"application/octet-stream\"")
        .await
        .parts()
        .await;
    assert_eq!(parts[0].body, document);
    assert!(
        parts[0]
            .location
            .as_deref()
            .unwrap()
            .ends_with("/bulkdata/00420011")
    );
}

#[tokio::test]
async fn all_bulk_data_of_a_study_comes_in_parts() {
    let (document, file) = document(5000);
    let native = Image::new(1, 1, 2);
    let rle = Image {
        syntax: uids::RLE_LOSSLESS,
        frames: 2,
        ..Image::new(1, 2, 3)
    };
    let served = Served::keeping([file, native.file(), rle.file()]).await;
    let bodies = |parts: Vec<Part>| {
        parts
            .into_iter()
            .map(|part| part.body.to_vec())
            .collect::<Vec<_>>()
    };
    let expected = [document, native.pixels(), rle.frame(1), rle.frame(2)];
    let mut found = bodies(served.get("/studies/1.2.1/bulkdata").await.parts().await);
    found.sort_by_key(|body| expected.iter().position(|known| known == body));
    assert_eq!(found, expected);
    let pixels = bodies(served.get("/studies/1.2.1/pixeldata").await.parts().await);
    assert_eq!(pixels.len(), 3);
    assert!(pixels.iter().all(|body| expected[1..].contains(body)));
}

#[tokio::test]
async fn pixel_data_as_bulk_data_is_all_frames() {
    let native = Image {
        frames: 2,
        ..Image::new(1, 1, 1)
    };
    let rle = Image {
        syntax: uids::RLE_LOSSLESS,
        frames: 2,
        ..Image::new(1, 1, 2)
    };
    let served = Served::keeping([native.file(), rle.file()]).await;
    for image in [&native, &rle] {
        let path = format!("{}/bulkdata/7FE00010", image.path());
        assert_eq!(served.get(&path).await.body, image.pixels());
        let parts = served
            .get_as(&path, "multipart/related; type=\"application/octet-stream\"")
            .await
            .parts()
            .await;
        assert_eq!(parts[0].body, image.pixels());
    }
    let path = format!("{}/bulkdata/7FE00010", rle.path());
    let parts = served
        .get_as(&path, "multipart/related; type=\"image/dicom-rle\"")
        .await
        .parts()
        .await;
    let frames: Vec<_> = parts.iter().map(|part| part.body.to_vec()).collect();
    assert_eq!(frames, [super::rle(&rle.frame(1)), super::rle(&rle.frame(2))]);
}
