//! STOW-RS (PS3.18 10.5).

use pacs_core::DuplicatePolicy;

use super::*;

async fn post(served: &Served, path: &str, content_type: &str, body: impl Into<Body>) -> Answer {
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("/dicom-web{path}"))
        .header(header::HOST, "pacs.example")
        .header(header::CONTENT_TYPE, content_type)
        .body(body.into())
        .unwrap();
    served.ask(request).await
}

async fn store(served: &Served, path: &str, files: &[Bytes]) -> Answer {
    let parts: Vec<_> = files
        .iter()
        .map(|file| ("application/dicom", None, file.clone()))
        .collect();
    let (content_type, body) = multipart("application/dicom", &parts);
    post(served, path, &content_type, body).await
}

#[tokio::test]
async fn what_is_stored_is_told_kept_and_handed_out_with_the_same_bytes() {
    let images = [
        Image::new(1, 1, 1),
        Image {
            syntax: uids::RLE_LOSSLESS,
            ..Image::new(1, 1, 2)
        },
        Image {
            syntax: uids::IMPLICIT_VR_LITTLE_ENDIAN,
            ..Image::new(1, 2, 3)
        },
    ];
    let served = Served::empty().await;
    let files: Vec<_> = images.iter().map(Image::file).collect();
    let answer = store(&served, "/studies", &files).await;
    assert_eq!(answer.status, StatusCode::OK);
    let report = answer.json();
    assert_eq!(
        value(&report, tags::RETRIEVE_URL),
        "http://pacs.example/dicom-web/studies/1.2.1"
    );
    let stored = report["00081199"]["Value"].as_array().unwrap();
    assert_eq!(stored.len(), 3);
    for image in &images {
        let item = stored
            .iter()
            .find(|item| *value(item, tags::REFERENCED_SOP_INSTANCE_UID) == image.instance_uid())
            .unwrap();
        assert_eq!(
            value(item, tags::REFERENCED_SOP_CLASS_UID),
            uids::CT_IMAGE_STORAGE
        );
        let url = format!("http://pacs.example/dicom-web{}", image.path());
        assert_eq!(*value(item, tags::RETRIEVE_URL), url);
        let kept = served
            .get_as(&image.path(), "application/dicom; transfer-syntax=*")
            .await;
        assert!(kept.body.ends_with(&image.data_set()));
    }
    // The same again is a success too.
    assert_eq!(
        store(&served, "/studies/1.2.1", &files).await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn each_instance_that_can_not_be_stored_is_told_with_its_reason() {
    let served = Served::empty().await;
    let (good, of_another_study) = (Image::new(1, 1, 1), Image::new(2, 1, 2));
    let mut without_study = Image::new(1, 1, 3).header();
    without_study.remove(tags::STUDY_INSTANCE_UID);
    let without_study = encode(
        &without_study,
        uids::EXPLICIT_VR_LITTLE_ENDIAN,
        &CharacterSet::utf8(),
    )
    .unwrap();
    let files = [
        good.file(),
        of_another_study.file(),
        without_study.into(),
        Bytes::from_static(b"no DICOM file"),
    ];
    let answer = store(&served, "/studies/1.2.1", &files).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    let report = answer.json();
    assert_eq!(report["00081199"]["Value"].as_array().unwrap().len(), 1);
    let failed = report["00081198"]["Value"].as_array().unwrap();
    let reason = |instance: &str| {
        let item = failed
            .iter()
            .find(|item| *value(item, tags::REFERENCED_SOP_INSTANCE_UID) == instance);
        value(item.unwrap(), tags::FAILURE_REASON).as_u64().unwrap()
    };
    assert_eq!(reason("1.2.2.1.2"), 0xA900);
    assert_eq!(reason("1.2.1.1.3"), 0xC000);
    let others = report["0008119A"]["Value"].as_array().unwrap();
    assert_eq!(others.len(), 1);
    assert_eq!(*value(&others[0], tags::FAILURE_REASON), 0xC000);
    // Nothing of the study that was not asked for.
    assert_eq!(served.get("/studies/1.2.2").await.status, StatusCode::NOT_FOUND);
    let answer = store(&served, "/studies/1.2.1", &[of_another_study.file()]).await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
    let nonsense = store(&served, "/studies", &[Bytes::from_static(b"nonsense")]).await;
    assert_eq!(nonsense.status, StatusCode::CONFLICT);
}

#[tokio::test]
async fn what_is_kept_with_a_warning_is_told_so() {
    let engine = Options {
        duplicates: DuplicatePolicy::KeepFirst,
        ..Options::default()
    };
    let served = Served::with(WebOptions::default(), engine).await;
    let image = Image::new(1, 1, 1);
    assert_eq!(
        store(&served, "/studies", &[image.file()]).await.status,
        StatusCode::OK
    );
    let mut other = image.header();
    other.put_text(tags::STUDY_DESCRIPTION, VR::LO, "Another");
    let other = encode(&other, uids::EXPLICIT_VR_LITTLE_ENDIAN, &CharacterSet::utf8()).unwrap();
    let cut = Image::new(1, 1, 2).file();
    let answer = store(&served, "/studies", &[other.into(), cut.slice(..cut.len() - 8)]).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    let report = answer.json();
    let mut warnings: Vec<_> = report["00081199"]["Value"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| value(item, tags::WARNING_REASON).as_u64().unwrap())
        .collect();
    warnings.sort_unstable();
    assert_eq!(warnings, [0xB006, 0xB007]);
}

#[tokio::test]
async fn instances_come_as_metadata_with_their_bulk_data_beside_it() {
    let native = Image {
        frames: 2,
        ..Image::new(1, 1, 1)
    };
    let rle = Image {
        syntax: uids::RLE_LOSSLESS,
        ..Image::new(1, 1, 2)
    };
    // What a server says of them is taken by another.
    let source = Served::keeping([native.file(), rle.file()]).await;
    let served = Served::empty().await;
    let json = source.get("/studies/1.2.1/metadata").await.body;
    let uri = |image: &Image| format!("http://pacs.example/dicom-web{}/bulkdata/7FE00010", image.path());
    let (first, second) = (uri(&native), uri(&rle));
    let parts = [
        ("application/dicom+json", None, json),
        (
            "image/dicom-rle",
            Some(second.as_str()),
            super::rle(&rle.frame(1)).into(),
        ),
        (
            "application/octet-stream",
            Some(first.as_str()),
            native.pixels().into(),
        ),
    ];
    let (content_type, body) = multipart("application/dicom+json", &parts);
    let answer = post(&served, "/studies", &content_type, body).await;
    assert_eq!(
        answer.status,
        StatusCode::OK,
        "{}",
        String::from_utf8_lossy(&answer.body)
    );
    for image in [&native, &rle] {
        for number in 1..=image.frames {
            let path = format!("{}/frames/{number}", image.path());
            let answer = served.get_as(&path, "application/octet-stream").await;
            assert_eq!(answer.body, image.frame(number));
        }
        let item = &served.get(&format!("{}/metadata", image.path())).await.items()[0];
        assert_eq!(value(item, tags::PATIENT_NAME)["Alphabetic"], "Müller^Patient1");
        assert_eq!(value(item, tags::AVAILABLE_TRANSFER_SYNTAX_UID), image.syntax);
    }
    let accept = "multipart/related; type=\"application/dicom+xml\"";
    let xml = source
        .get_as(&format!("{}/metadata", native.path()), accept)
        .await
        .parts()
        .await;
    let parts = [
        ("application/dicom+xml", None, xml[0].body.clone()),
        (
            "application/octet-stream",
            Some(first.as_str()),
            native.pixels().into(),
        ),
    ];
    let (content_type, body) = multipart("application/dicom+xml", &parts);
    let served = Served::empty().await;
    let answer = post(&served, "/studies/1.2.1", &content_type, body).await;
    assert_eq!(
        answer.status,
        StatusCode::OK,
        "{}",
        String::from_utf8_lossy(&answer.body)
    );
    let answer = served
        .get_as(&format!("{}/frames/2", native.path()), "application/octet-stream")
        .await;
    assert_eq!(answer.body, native.frame(2));
}

#[tokio::test]
async fn a_body_of_another_kind_is_refused_and_a_broken_one_keeps_what_was_whole() {
    let served = Served::empty().await;
    let file = Image::new(1, 1, 1).file();
    for content_type in [
        "application/json",
        "multipart/form-data; boundary=a",
        "multipart/related; type=\"text/html\"; boundary=a",
        "nonsense",
    ] {
        post(&served, "/studies", content_type, file.clone())
            .await
            .problem(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    post(
        &served,
        "/studies",
        "multipart/related; type=\"application/dicom\"",
        file.clone(),
    )
    .await
    .problem(StatusCode::BAD_REQUEST);
    let (content_type, body) = multipart("application/dicom", &[]);
    post(&served, "/studies", &content_type, body)
        .await
        .problem(StatusCode::BAD_REQUEST);
    let single = post(&served, "/studies", "application/dicom", file).await;
    assert_eq!(single.status, StatusCode::OK);
    let parts = [2, 3].map(|number| ("application/dicom", None, Image::new(1, 1, number).file()));
    let (content_type, body) = multipart("application/dicom", &parts);
    let answer = post(
        &served,
        "/studies",
        &content_type,
        body[..body.len() - 100].to_vec(),
    )
    .await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    let report = answer.json();
    let stored = report["00081199"]["Value"].as_array().unwrap();
    assert_eq!(stored.len(), 1);
    assert_eq!(*value(&stored[0], tags::REFERENCED_SOP_INSTANCE_UID), "1.2.1.1.2");
    assert_eq!(
        served.get(&Image::new(1, 1, 3).path()).await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn the_report_is_xml_for_who_asks_for_it() {
    let served = Served::empty().await;
    let (content_type, body) = multipart(
        "application/dicom",
        &[("application/dicom", None, Image::new(1, 1, 1).file())],
    );
    let request = Request::builder()
        .method(Method::POST)
        .uri("/dicom-web/studies")
        .header(header::CONTENT_TYPE, content_type)
        .header(header::ACCEPT, "application/dicom+xml")
        .body(Body::from(body))
        .unwrap();
    let answer = served.ask(request).await;
    assert_eq!(
        (answer.status, answer.header(header::CONTENT_TYPE)),
        (StatusCode::OK, "application/dicom+xml")
    );
    assert!(
        String::from_utf8(answer.body.to_vec())
            .unwrap()
            .contains("1.2.1.1.1")
    );
}

#[tokio::test]
async fn a_data_set_that_is_put_together_names_its_character_set_once_and_keeps_its_vrs() {
    let image = Image::new(1, 1, 1);
    let mut set = image.header();
    // Text behind the bulk data, beyond ASCII.
    set.put_text(tags::REQUESTED_PROCEDURE_DESCRIPTION, VR::LO, "Schädel");
    put_binary(&mut set, tags::PIXEL_DATA, VR::OW, image.pixels());
    let source = Served::keeping([Bytes::from(
        encode(&set, uids::EXPLICIT_VR_LITTLE_ENDIAN, &CharacterSet::utf8()).unwrap(),
    )])
    .await;
    let mut items = source.get(&format!("{}/metadata", image.path())).await.items();
    let uri = |name: &str| format!("urn:bulk:{name}");
    items[0]["7FE00010"]["BulkDataURI"] = uri("pixels").into();
    // A value of a VR with a short length.
    items[0]["00280034"] = serde_json::json!({ "vr": "IS", "BulkDataURI": uri("ratio") });
    let json = serde_json::to_vec(&items).unwrap();
    let (pixels, ratio) = (uri("pixels"), uri("ratio"));
    let parts = [
        ("application/dicom+json", None, json.into()),
        (
            "application/octet-stream",
            Some(pixels.as_str()),
            image.pixels().into(),
        ),
        (
            "application/octet-stream",
            Some(ratio.as_str()),
            Bytes::from_static(b"1\\1 "),
        ),
    ];
    let (content_type, body) = multipart("application/dicom+json", &parts);
    let served = Served::empty().await;
    let answer = post(&served, "/studies", &content_type, body).await;
    assert_eq!(
        answer.status,
        StatusCode::OK,
        "{}",
        String::from_utf8_lossy(&answer.body)
    );
    let kept = served.get_as(&image.path(), "application/dicom").await.body;
    let named = kept.windows(10).filter(|window| window == b"ISO_IR 192");
    assert_eq!(named.count(), 1);
    let item = &served.get(&format!("{}/metadata", image.path())).await.items()[0];
    assert_eq!(value(item, tags::REQUESTED_PROCEDURE_DESCRIPTION), "Schädel");
    assert_eq!(
        item["00280034"],
        serde_json::json!({ "vr": "IS", "Value": [1, 1] })
    );
    assert_eq!(
        served
            .get(&format!("{}/bulkdata/7FE00010", image.path()))
            .await
            .body,
        image.pixels()
    );
}
