//! QIDO-RS (PS3.18 10.6).

use super::*;

async fn world() -> Served {
    let images = [(1, 1, 1), (1, 1, 2), (1, 2, 3), (2, 1, 4), (3, 2, 5)];
    let files = images.map(|(study, series, instance)| Image::new(study, series, instance).file());
    Served::keeping(files).await
}

async fn found(served: &Served, path: &str, tag: Tag) -> Vec<String> {
    let answer = served.get(path).await;
    if answer.status == StatusCode::NO_CONTENT {
        return Vec::new();
    }
    let values = answer
        .items()
        .iter()
        .map(|item| value(item, tag).as_str().unwrap().to_owned())
        .collect::<Vec<_>>();
    let mut values = values;
    values.sort();
    values
}

#[tokio::test]
async fn each_level_is_searched_by_each_of_its_paths() {
    let served = world().await;
    let cases = [
        ("/studies", tags::STUDY_INSTANCE_UID, 3),
        ("/series", tags::SERIES_INSTANCE_UID, 4),
        ("/instances", tags::SOP_INSTANCE_UID, 5),
        ("/studies/1.2.1/series", tags::SERIES_INSTANCE_UID, 2),
        ("/studies/1.2.1/instances", tags::SOP_INSTANCE_UID, 3),
        (
            "/studies/1.2.1/series/1.2.1.1/instances",
            tags::SOP_INSTANCE_UID,
            2,
        ),
        ("/studies/1.2.9/series", tags::SERIES_INSTANCE_UID, 0),
        // The series is of another study.
        (
            "/studies/1.2.2/series/1.2.1.1/instances",
            tags::SOP_INSTANCE_UID,
            0,
        ),
    ];
    for (path, tag, count) in cases {
        assert_eq!(found(&served, path, tag).await.len(), count, "{path}");
    }
}

#[tokio::test]
async fn attributes_match_by_keyword_tag_and_path_as_in_dimse() {
    let served = world().await;
    let cases = [
        ("PatientName=müller*2", vec!["1.2.2"]),
        ("00100010=MULLER*", vec!["1.2.1", "1.2.2", "1.2.3"]),
        ("PatientID=P1", vec!["1.2.1"]),
        ("StudyDate=20240102-", vec!["1.2.2", "1.2.3"]),
        ("StudyDate=20240101-20240102&PatientID=P2", vec!["1.2.2"]),
        ("StudyInstanceUID=1.2.1,1.2.3", vec!["1.2.1", "1.2.3"]),
        ("StudyInstanceUID=1.2.1%5C1.2.3", vec!["1.2.1", "1.2.3"]),
        ("ModalitiesInStudy=MR", vec!["1.2.1", "1.2.3"]),
        ("AccessionNumber=nothing", vec![]),
        ("AccessionNumber=%22%22", vec![]),
        ("PatientID=", vec!["1.2.1", "1.2.2", "1.2.3"]),
        (
            "fuzzymatching=true&PatientName=muller",
            vec!["1.2.1", "1.2.2", "1.2.3"],
        ),
    ];
    for (query, expected) in cases {
        let path = format!("/studies?{query}");
        assert_eq!(
            found(&served, &path, tags::STUDY_INSTANCE_UID).await,
            expected,
            "{query}"
        );
    }
    let path = "/series?RequestAttributesSequence.ScheduledProcedureStepID=S2";
    let series = found(&served, path, tags::SERIES_INSTANCE_UID).await;
    assert_eq!(series, ["1.2.1.2", "1.2.3.2"]);
    let instances = found(
        &served,
        "/instances?Rows=4&InstanceNumber=3",
        tags::SOP_INSTANCE_UID,
    )
    .await;
    assert_eq!(instances, ["1.2.1.2.3"]);
}

#[tokio::test]
async fn a_study_is_answered_with_what_the_standard_lists_and_with_what_is_asked_for() {
    let served = world().await;
    let item = &served.get("/studies?PatientID=P1").await.items()[0];
    assert_eq!(value(item, tags::PATIENT_NAME)["Alphabetic"], "Müller^Patient1");
    assert_eq!(item["00080061"]["Value"], serde_json::json!(["CT", "MR"]));
    assert_eq!(value(item, tags::NUMBER_OF_STUDY_RELATED_SERIES), 2);
    assert_eq!(value(item, tags::NUMBER_OF_STUDY_RELATED_INSTANCES), 3);
    assert_eq!(
        value(item, tags::RETRIEVE_URL),
        "http://pacs.example/dicom-web/studies/1.2.1"
    );
    assert_eq!(value(item, tags::INSTANCE_AVAILABILITY), "ONLINE");
    assert_eq!(value(item, tags::SPECIFIC_CHARACTER_SET), "ISO_IR 192");
    // Without a value, and always there.
    assert_eq!(item["00200010"], serde_json::json!({ "vr": "SH" }));
    assert!(item.get("00081030").is_none() && item.get("0020000E").is_none());
    for query in [
        "includefield=StudyDescription",
        "includefield=00081030,PatientSize",
        "includefield=all",
    ] {
        let item = &served
            .get(&format!("/studies?PatientID=P1&{query}"))
            .await
            .items()[0];
        assert_eq!(value(item, tags::STUDY_DESCRIPTION), "Study 1", "{query}");
        assert!(item.get("0020000E").is_none(), "{query}: of a level below");
    }
}

#[tokio::test]
async fn a_series_and_an_instance_come_with_the_levels_above_that_are_not_named() {
    let served = world().await;
    let free = &served.get("/series?SeriesInstanceUID=1.2.1.2").await.items()[0];
    assert_eq!(value(free, tags::PATIENT_ID), "P1");
    assert_eq!(value(free, tags::MODALITY), "MR");
    let within = &served
        .get("/studies/1.2.1/series?SeriesInstanceUID=1.2.1.2")
        .await
        .items()[0];
    assert!(within.get("00100020").is_none());
    assert_eq!(value(within, tags::SERIES_DESCRIPTION), "Series 2");
    assert_eq!(
        value(within, tags::RETRIEVE_URL),
        "http://pacs.example/dicom-web/studies/1.2.1/series/1.2.1.2"
    );
    let instance = &served
        .get("/studies/1.2.1/instances?InstanceNumber=3")
        .await
        .items()[0];
    assert_eq!(value(instance, tags::ROWS), 4);
    assert_eq!(value(instance, tags::MODALITY), "MR");
    assert!(instance.get("00100020").is_none());
}

#[tokio::test]
async fn a_part_of_the_answers_is_had_by_limit_and_offset_with_a_word_about_the_rest() {
    let served = world().await;
    let first = served.get("/instances?limit=2").await;
    assert_eq!(first.items().len(), 2);
    assert_eq!(
        first.header(header::WARNING),
        "299 http://pacs.example/dicom-web \"There are 3 additional results that can be requested\""
    );
    let last = served.get("/instances?limit=2&offset=4").await;
    assert_eq!((last.items().len(), last.header(header::WARNING)), (1, ""));
    assert_eq!(
        served.get("/instances?offset=5").await.status,
        StatusCode::NO_CONTENT
    );
    assert_eq!(
        served.get("/instances?limit=0").await.status,
        StatusCode::NO_CONTENT
    );
    // The pages together are all, each once.
    let mut paged = Vec::new();
    for offset in 0..5 {
        paged.extend(
            found(
                &served,
                &format!("/instances?limit=1&offset={offset}"),
                tags::SOP_INSTANCE_UID,
            )
            .await,
        );
    }
    paged.sort();
    assert_eq!(paged, found(&served, "/instances", tags::SOP_INSTANCE_UID).await);
}

#[tokio::test]
async fn answers_are_json_or_xml_as_the_client_accepts() {
    let served = world().await;
    let json = served.get_as("/studies", "application/json").await;
    assert_eq!(json.header(header::CONTENT_TYPE), "application/json");
    let json = served.get_as("/studies", "*/*").await;
    assert_eq!(json.header(header::CONTENT_TYPE), "application/dicom+json");
    let xml = served
        .get_as("/studies", "multipart/related; type=\"application/dicom+xml\"")
        .await;
    let parts = xml.parts().await;
    assert_eq!(parts.len(), 3);
    let text = String::from_utf8(parts[0].body.to_vec()).unwrap();
    assert!(
        text.contains("NativeDicomModel") && text.contains("keyword=\"PatientName\""),
        "{text}"
    );
    let xml = served
        .get("/studies?accept=multipart/related;type=%22application/dicom%2Bxml%22")
        .await;
    assert_eq!(xml.parts().await.len(), 3);
    served
        .get_as("/studies", "text/html")
        .await
        .problem(StatusCode::NOT_ACCEPTABLE);
}

#[tokio::test]
async fn what_can_not_be_asked_is_answered_400_and_what_is_not_matched_is_warned_of() {
    let served = world().await;
    for query in [
        "NoSuchAttribute=1",
        "limit=x",
        "fuzzymatching=perhaps",
        "Rows=many",
    ] {
        served
            .get(&format!("/studies?{query}"))
            .await
            .problem(StatusCode::BAD_REQUEST);
    }
    served
        .get("/studies/not-a-uid/series")
        .await
        .problem(StatusCode::BAD_REQUEST);
    let answer = served.get("/studies?SliceLocation=1").await;
    assert_eq!(answer.items().len(), 3);
    assert!(answer.header(header::WARNING).contains("not supported"));
}

#[tokio::test]
async fn modalities_in_study_always_has_a_value() {
    let mut image = Image::new(1, 1, 1).header();
    image.remove(tags::MODALITY);
    let bytes = encode(&image, uids::EXPLICIT_VR_LITTLE_ENDIAN, &CharacterSet::utf8()).unwrap();
    let served = Served::keeping([Bytes::from(bytes)]).await;
    let item = &served.get("/studies").await.items()[0];
    assert_eq!(item["00080061"]["Value"], serde_json::json!(["OT"]));
}

#[tokio::test]
async fn text_is_in_utf_8_and_other_character_sets_are_refused() {
    let served = world().await;
    assert_eq!(served.get("/studies?charset=utf-8").await.items().len(), 3);
    served
        .get("/studies?charset=iso-8859-1")
        .await
        .problem(StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn what_is_answered_is_kept_by_nobody_else_and_differs_by_accept() {
    let served = world().await;
    for path in [
        "/studies",
        "/studies/1.2.1",
        "/studies/1.2.1/metadata",
        "/studies/1.2.1/thumbnail",
    ] {
        let answer = served.get(path).await;
        assert!(
            answer.header(header::CACHE_CONTROL).starts_with("private, no-"),
            "{path}"
        );
        assert_eq!(answer.header(header::VARY).to_lowercase(), "accept", "{path}");
        assert_eq!(answer.header(header::X_CONTENT_TYPE_OPTIONS), "nosniff", "{path}");
    }
}

#[tokio::test]
async fn who_refuses_what_is_not_encoded_gets_it_all_the_same() {
    let served = world().await;
    let router = web::http::layers::with_compression(served.router.clone());
    for encodings in ["identity;q=0", "gzip;q=0, *;q=0", "br, identity; q=0"] {
        let request = get("/studies/1.2.1").header(header::ACCEPT_ENCODING, encodings);
        let answer = router
            .clone()
            .oneshot(request.body(Body::empty()).unwrap())
            .await
            .unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{encodings}");
    }
}
