//! Pictures by WADO-RS (PS3.18 10.4.1.1.3).

use image::GenericImageView;

use super::*;

fn picture(answer: &Answer) -> image::DynamicImage {
    assert_eq!(
        answer.status,
        StatusCode::OK,
        "{}",
        String::from_utf8_lossy(&answer.body)
    );
    image::load_from_memory(&answer.body).expect("a picture")
}

#[tokio::test]
async fn a_picture_is_jpeg_png_or_gif_as_the_client_accepts() {
    let image = Image::new(1, 1, 1);
    let served = Served::keeping([image.file()]).await;
    for resource in [
        "/studies/1.2.1",
        "/studies/1.2.1/series/1.2.1.1",
        &image.path(),
        &format!("{}/frames/1", image.path()),
    ] {
        let path = format!("{resource}/rendered");
        for (accept, expected) in [
            ("", "image/jpeg"),
            ("image/png", "image/png"),
            ("image/gif, image/jpeg;q=0.1", "image/gif"),
            ("image/webp,image/*;q=0.8", "image/jpeg"),
        ] {
            let answer = served.get_as(&path, accept).await;
            assert_eq!(answer.header(header::CONTENT_TYPE), expected, "{path} {accept}");
            if expected == "image/gif" {
                let decoder = gif::DecodeOptions::new().read_info(&answer.body[..]).unwrap();
                assert_eq!((decoder.width(), decoder.height()), (6, 4));
            } else {
                assert_eq!(picture(&answer).dimensions(), (6, 4));
            }
        }
        served
            .get_as(&path, "image/webp")
            .await
            .problem(StatusCode::NOT_ACCEPTABLE);
    }
}

#[tokio::test]
async fn the_window_decides_what_is_black_and_what_is_white() {
    let image = Image::new(1, 1, 1);
    let served = Served::keeping([image.file()]).await;
    // Samples are 1000 to 1023: half of them are below the center, where all is black.
    let path = format!("{}/rendered?window=1012,1,linear", image.path());
    let pixels = picture(&served.get_as(&path, "image/png").await)
        .to_luma8()
        .into_raw();
    let expected: Vec<u8> = (0..24).map(|at| if at < 12 { 0 } else { 255 }).collect();
    assert_eq!(pixels, expected);
}

#[tokio::test]
async fn the_viewport_decides_the_size_and_thumbnails_are_small() {
    let image = Image {
        rows: 512,
        columns: 256,
        ..Image::new(1, 1, 1)
    };
    let served = Served::keeping([image.file()]).await;
    let path = image.path();
    let size = async |path: String| picture(&served.get_as(&path, "image/png").await).dimensions();
    assert_eq!(size(format!("{path}/rendered?viewport=100,100")).await, (50, 100));
    assert_eq!(
        size(format!("{path}/frames/1/rendered?viewport=64,64,0,0,128,128")).await,
        (64, 64)
    );
    for resource in [
        "/studies/1.2.1",
        "/studies/1.2.1/series/1.2.1.1",
        &path,
        &format!("{path}/frames/1"),
    ] {
        assert_eq!(
            size(format!("{resource}/thumbnail")).await,
            (64, 128),
            "{resource}"
        );
    }
    assert_eq!(size(format!("{path}/thumbnail?viewport=20,20")).await, (10, 20));
}

#[tokio::test]
async fn frames_are_pictures_in_parts_or_one_that_moves() {
    let image = Image {
        frames: 3,
        syntax: uids::RLE_LOSSLESS,
        ..Image::new(1, 1, 1)
    };
    let served = Served::keeping([image.file(), Image::new(1, 1, 2).file()]).await;
    let parts = async |path: &str| {
        let accept = "multipart/related; type=\"image/png\"";
        served.get_as(path, accept).await.parts().await
    };
    assert_eq!(
        parts(&format!("{}/frames/3,1/rendered", image.path()))
            .await
            .len(),
        2
    );
    assert_eq!(parts(&format!("{}/rendered", image.path())).await.len(), 3);
    assert_eq!(parts("/studies/1.2.1/rendered").await.len(), 4);
    for path in [
        format!("{}/rendered", image.path()),
        format!("{}/frames/1,2,3/rendered", image.path()),
    ] {
        let answer = served.get_as(&path, "image/gif").await;
        let decoder = gif::DecodeOptions::new().read_info(&answer.body[..]).unwrap();
        assert_eq!(decoder.into_iter().filter_map(Result::ok).count(), 3, "{path}");
    }
    let several = format!("{}/frames/1,2/rendered", image.path());
    served
        .get_as(&several, "image/jpeg")
        .await
        .problem(StatusCode::NOT_ACCEPTABLE);
}

#[tokio::test]
async fn what_can_not_be_drawn_is_refused_and_what_has_no_picture_is_not_found() {
    let mut report = Image::new(2, 1, 2).header();
    report.remove(tags::ROWS);
    let report = encode(&report, uids::EXPLICIT_VR_LITTLE_ENDIAN, &CharacterSet::utf8()).unwrap();
    let image = Image::new(1, 1, 1);
    let served = Served::keeping([image.file(), report.into()]).await;
    for query in [
        "viewport=0,0",
        "viewport=1000000,1000000",
        "window=a,b",
        "window=1,0,linear",
        "quality=0",
        "quality=101",
        "annotation=everything",
    ] {
        let answer = served.get(&format!("{}/rendered?{query}", image.path())).await;
        assert!(answer.status.is_client_error(), "{query}: {}", answer.status);
        assert_eq!(answer.header(header::CONTENT_TYPE), "application/problem+json");
    }
    for path in ["/studies/1.2.2/rendered", "/studies/1.2.2/thumbnail"] {
        served.get(path).await.problem(StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn quality_and_annotation_change_the_picture_and_colour_management_is_warned_of() {
    let image = Image {
        rows: 300,
        columns: 300,
        ..Image::new(1, 1, 1)
    };
    let served = Served::keeping([image.file()]).await;
    let path = format!("{}/rendered", image.path());
    let length = async |query: &str| served.get(&format!("{path}?{query}")).await.body.len();
    assert!(length("quality=10").await < length("quality=100").await);
    let plain = served.get_as(&path, "image/png").await;
    let annotated = served
        .get_as(&format!("{path}?annotation=patient,technique"), "image/png")
        .await;
    assert_ne!(picture(&plain).to_luma8(), picture(&annotated).to_luma8());
    let managed = served.get(&format!("{path}?iccprofile=srgb")).await;
    assert!(managed.header(header::WARNING).contains("ICC"));
}

#[tokio::test]
async fn a_number_of_frames_that_nobody_has_costs_its_request_alone() {
    let mut set = Image::new(1, 1, 1).header();
    set.put_text(tags::NUMBER_OF_FRAMES, VR::IS, "4294967295");
    put_binary(&mut set, tags::PIXEL_DATA, VR::OW, Image::new(1, 1, 1).pixels());
    let file = encode(&set, uids::EXPLICIT_VR_LITTLE_ENDIAN, &CharacterSet::utf8()).unwrap();
    let served = Served::keeping([Bytes::from(file)]).await;
    let path = Image::new(1, 1, 1).path();
    let _ = served.get_as(&format!("{path}/rendered"), "image/gif").await;
    let listed = ["1"; 5000].join(",");
    served
        .get(&format!("{path}/frames/{listed}"))
        .await
        .problem(StatusCode::BAD_REQUEST);
    assert_eq!(served.get("/studies").await.items().len(), 1);
}

#[tokio::test]
async fn what_is_kept_damaged_is_a_conflict_and_not_the_fault_of_who_asks() {
    // Cut off in the middle of the pixels; without rows; and compressed frames that are none.
    let cut = Image::new(1, 1, 1).file();
    let cut = cut.slice(..cut.len() - 20);
    let mut set = Image::new(1, 1, 2).header();
    set.remove(tags::ROWS);
    put_binary(&mut set, tags::PIXEL_DATA, VR::OW, Image::new(1, 1, 2).pixels());
    let without = encode(&set, uids::EXPLICIT_VR_LITTLE_ENDIAN, &CharacterSet::utf8()).unwrap();
    let compressed = Image {
        syntax: uids::RLE_LOSSLESS,
        ..Image::new(1, 1, 3)
    };
    let mut damaged = compressed.file().to_vec();
    // Where its segments begin (PS3.5 G.5).
    let header = damaged
        .windows(8)
        .rposition(|bytes| bytes == [2, 0, 0, 0, 64, 0, 0, 0]);
    let header = header.expect("an RLE frame");
    damaged[header + 4..header + 8].copy_from_slice(&[255; 4]);
    let served = Served::keeping([cut, without.into(), damaged.into()]).await;
    for number in 1..=3 {
        let path = Image::new(1, 1, number).path();
        for resource in ["rendered", "frames/1/rendered", "thumbnail", "frames/1"] {
            let answer = served.get(&format!("{path}/{resource}")).await;
            let problem = answer.problem(StatusCode::CONFLICT);
            assert!(problem["detail"].is_string(), "{number} {resource}");
        }
    }
    // What can't be asked is still the client's.
    let path = Image::new(1, 1, 1).path();
    let nothing = format!("{path}/rendered?viewport=10,10,100,100,5,5");
    served.get(&nothing).await.problem(StatusCode::BAD_REQUEST);
}
