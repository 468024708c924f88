//! WADO-URI (PS3.18 9).

use image::GenericImageView;

use super::*;

fn wado(image: &Image, more: &str) -> String {
    format!(
        "/wado?requestType=WADO&studyUID={}&seriesUID={}&objectUID={}{more}",
        image.study_uid(),
        image.series_uid(),
        image.instance_uid()
    )
}

#[tokio::test]
async fn an_instance_comes_as_a_picture_or_as_itself() {
    let image = Image {
        syntax: uids::RLE_LOSSLESS,
        ..Image::new(1, 1, 1)
    };
    let served = Served::keeping([image.file()]).await;
    let answer = served.get(&wado(&image, "")).await;
    assert_eq!(answer.header(header::CONTENT_TYPE), "image/jpeg");
    let answer = served.get(&wado(&image, "&contentType=image/png")).await;
    assert_eq!(answer.header(header::CONTENT_TYPE), "image/png");
    let answer = served.get(&wado(&image, "&contentType=application/dicom")).await;
    assert!(answer.body.ends_with(&image.frame(1)));
    for syntax in ["*", uids::RLE_LOSSLESS] {
        let query = format!("&contentType=application%2Fdicom&transferSyntax={syntax}");
        let answer = served.get(&wado(&image, &query)).await;
        assert!(answer.body.ends_with(&image.data_set()), "{syntax}");
    }
    let query = format!("&contentType=application/dicom&transferSyntax={}", uids::JPEG2000);
    served
        .get(&wado(&image, &query))
        .await
        .problem(StatusCode::NOT_ACCEPTABLE);
}

#[tokio::test]
async fn a_picture_is_drawn_as_its_parameters_say() {
    let image = Image {
        rows: 40,
        columns: 60,
        frames: 2,
        ..Image::new(1, 1, 1)
    };
    let served = Served::keeping([image.file()]).await;
    let picture = async |query: &str| {
        let answer = served
            .get(&wado(&image, &format!("&contentType=image/png{query}")))
            .await;
        assert_eq!(
            answer.status,
            StatusCode::OK,
            "{}",
            String::from_utf8_lossy(&answer.body)
        );
        image::load_from_memory(&answer.body).unwrap()
    };
    assert_eq!(picture("").await.dimensions(), (60, 40));
    assert_eq!(picture("&rows=20&columns=30").await.dimensions(), (30, 20));
    assert_eq!(picture("&region=0,0,0.5,0.5").await.dimensions(), (30, 20));
    let window = "&windowCenter=1500&windowWidth=1000";
    assert_ne!(picture(window).await.to_luma8(), picture("").await.to_luma8());
    assert_ne!(
        picture(&format!("{window}&frameNumber=1")).await.to_luma8(),
        picture(&format!("{window}&frameNumber=2")).await.to_luma8()
    );
    served
        .get(&wado(&image, "&frameNumber=3"))
        .await
        .problem(StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_is_missing_wrong_or_not_done_here_is_told() {
    let image = Image::new(1, 1, 1);
    let served = Served::keeping([image.file()]).await;
    for path in [
        "/wado".to_owned(),
        "/wado?requestType=WADO&studyUID=1.2.1".to_owned(),
        wado(&image, "").replace("requestType=WADO", "requestType=OTHER"),
        wado(&image, "&windowCenter=1"),
        wado(&image, "&rows=x"),
        wado(&image, "&region=1,1,0,0"),
        wado(&image, "&imageQuality=0"),
        wado(&image, "&studyUID=1.2.1"),
    ] {
        let answer = served.get(&path).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
    }
    served
        .get(&wado(&Image::new(1, 1, 2), ""))
        .await
        .problem(StatusCode::NOT_FOUND);
    served
        .get(&wado(&image, "&anonymize=yes"))
        .await
        .problem(StatusCode::NOT_IMPLEMENTED);
    served
        .get_as(&wado(&image, "&contentType=text/html"), "text/html")
        .await
        .problem(StatusCode::NOT_ACCEPTABLE);
}

#[tokio::test]
async fn a_presentation_state_says_how_a_picture_is_drawn() {
    let image = Image::new(1, 1, 1);
    let mut reference = DataSet::new();
    reference.put_text(tags::REFERENCED_SOP_CLASS_UID, VR::UI, uids::CT_IMAGE_STORAGE);
    reference.put_text(tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, image.instance_uid());
    let mut series = DataSet::new();
    series.put_text(tags::SERIES_INSTANCE_UID, VR::UI, image.series_uid());
    series.put_items(tags::REFERENCED_IMAGE_SEQUENCE, vec![reference]);
    let mut window = DataSet::new();
    window.put_text(tags::WINDOW_CENTER, VR::DS, "1012");
    window.put_text(tags::WINDOW_WIDTH, VR::DS, "1");
    let mut state = DataSet::new();
    let class = uids::GRAYSCALE_SOFTCOPY_PRESENTATION_STATE_STORAGE;
    state.put_text(tags::SOP_CLASS_UID, VR::UI, class);
    state.put_text(tags::SOP_INSTANCE_UID, VR::UI, "1.2.1.9.1");
    state.put_text(tags::STUDY_INSTANCE_UID, VR::UI, image.study_uid());
    state.put_text(tags::SERIES_INSTANCE_UID, VR::UI, "1.2.1.9");
    state.put_items(tags::REFERENCED_SERIES_SEQUENCE, vec![series]);
    state.put_items(tags::SOFTCOPY_VOILUT_SEQUENCE, vec![window]);
    state.put_text(tags::PRESENTATION_LUT_SHAPE, VR::CS, "INVERSE");
    let state = encode(&state, uids::EXPLICIT_VR_LITTLE_ENDIAN, &CharacterSet::utf8()).unwrap();
    let served = Served::keeping([image.file(), state.into()]).await;
    let more = "&contentType=image/png&presentationSeriesUID=1.2.1.9&presentationUID=1.2.1.9.1";
    let answer = served.get(&wado(&image, more)).await;
    assert_eq!(
        answer.status,
        StatusCode::OK,
        "{}",
        String::from_utf8_lossy(&answer.body)
    );
    let pixels = image::load_from_memory(&answer.body)
        .unwrap()
        .to_luma8()
        .into_raw();
    let expected: Vec<u8> = (0..24).map(|at| if at < 12 { 255 } else { 0 }).collect();
    assert_eq!(pixels, expected);
    let missing = more.replace("presentationUID=1.2.1.9.1", "presentationUID=1.2.1.9.2");
    served
        .get(&wado(&image, &missing))
        .await
        .problem(StatusCode::NOT_FOUND);
}
