//! Frames by WADO-RS (PS3.18 10.4.1.1.6).

use super::*;

fn rle_image() -> Image {
    Image {
        syntax: uids::RLE_LOSSLESS,
        frames: 3,
        ..Image::new(1, 1, 1)
    }
}

#[tokio::test]
async fn frames_come_uncompressed_or_as_they_are_kept_in_the_order_asked_for() {
    let image = rle_image();
    let served = Served::keeping([image.file()]).await;
    let path = format!("{}/frames/3,1", image.path());
    let uncompressed = [
        "",
        "multipart/related; type=\"application/octet-stream\"",
        "multipart/related; type=application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1",
    ];
    for accept in uncompressed {
        let parts = served.get_as(&path, accept).await.parts().await;
        let frames: Vec<_> = parts.iter().map(|part| part.body.to_vec()).collect();
        assert_eq!(frames, [image.frame(3), image.frame(1)], "{accept}");
        let location = format!("http://pacs.example/dicom-web{}/frames/3", image.path());
        assert_eq!(parts[0].location.as_deref(), Some(&*location));
    }
    let as_kept = [
        "multipart/related; type=\"image/dicom-rle\"",
        "multipart/related; type=\"application/octet-stream\"; transfer-syntax=*",
        "multipart/related; type=\"image/dicom-rle\"; transfer-syntax=1.2.840.10008.1.2.5",
    ];
    for accept in as_kept {
        let parts = served.get_as(&path, accept).await.parts().await;
        let frames: Vec<_> = parts.iter().map(|part| part.body.to_vec()).collect();
        assert_eq!(frames, [rle(&image.frame(3)), rle(&image.frame(1))], "{accept}");
        let syntax = parts[0]
            .media_type
            .transfer_syntax()
            .map(|syntax| syntax.into_owned());
        assert_eq!(syntax.as_deref(), Some(uids::RLE_LOSSLESS));
    }
    let refused = "multipart/related; type=\"image/jp2\"";
    served
        .get_as(&path, refused)
        .await
        .problem(StatusCode::NOT_ACCEPTABLE);
}

#[tokio::test]
async fn one_frame_may_come_by_itself() {
    let image = rle_image();
    let served = Served::keeping([image.file()]).await;
    let path = format!("{}/frames/2", image.path());
    let answer = served.get_as(&path, "application/octet-stream").await;
    assert_eq!(answer.body, image.frame(2));
    let answer = served.get_as(&path, "image/dicom-rle").await;
    assert_eq!(answer.body, rle(&image.frame(2)));
    let several = format!("{}/frames/1,2", image.path());
    let answer = served.get_as(&several, "application/octet-stream").await;
    answer.problem(StatusCode::NOT_ACCEPTABLE);
}

#[tokio::test]
async fn frames_of_every_native_transfer_syntax_are_little_endian() {
    for syntax in [
        uids::IMPLICIT_VR_LITTLE_ENDIAN,
        uids::EXPLICIT_VR_LITTLE_ENDIAN,
        "1.2.840.10008.1.2.2",
        uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    ] {
        let image = Image {
            syntax,
            frames: 2,
            ..Image::new(1, 1, 1)
        };
        let served = Served::keeping([image.file()]).await;
        for accept in [
            "",
            "multipart/related; type=\"application/octet-stream\"; transfer-syntax=*",
        ] {
            let parts = served
                .get_as(&format!("{}/frames/2", image.path()), accept)
                .await
                .parts()
                .await;
            assert_eq!(parts[0].body, image.frame(2), "{syntax} {accept}");
        }
    }
}
