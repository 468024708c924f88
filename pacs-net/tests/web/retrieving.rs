//! Instances by WADO-RS (PS3.18 10.4.1.1.1).

use std::io::{Cursor, Read};

use super::*;

#[tokio::test]
async fn a_study_a_series_or_an_instance_comes_in_parts_each_with_the_bytes_that_were_stored() {
    let images = [Image::new(1, 1, 1), Image::new(1, 1, 2), Image::new(1, 2, 3)];
    let served = Served::keeping(images.iter().map(Image::file)).await;
    let cases = [
        ("/studies/1.2.1".to_owned(), 3),
        ("/studies/1.2.1/series/1.2.1.1".to_owned(), 2),
        (images[0].path(), 1),
    ];
    for (path, count) in cases {
        let answer = served.get(&path).await;
        assert_eq!(answer.status, StatusCode::OK);
        let parts = answer.parts().await;
        assert_eq!(parts.len(), count, "{path}");
        for part in parts {
            assert!(part.media_type.is(&MediaType::DICOM));
            assert_eq!(
                part.media_type.transfer_syntax().as_deref(),
                Some(uids::EXPLICIT_VR_LITTLE_ENDIAN)
            );
            let location = part.location.unwrap();
            let image = images
                .iter()
                .find(|image| location.ends_with(&image.path()))
                .unwrap();
            assert!(part.body.ends_with(&image.data_set()), "{path}");
            assert_eq!(&part.body[128..132], b"DICM");
        }
    }
}

#[tokio::test]
async fn one_instance_may_come_by_itself_and_all_in_a_zip() {
    let images = [Image::new(1, 1, 1), Image::new(1, 2, 2)];
    let served = Served::keeping(images.iter().map(Image::file)).await;
    let single = served.get_as(&images[0].path(), "application/dicom").await;
    assert!(single.body.ends_with(&images[0].data_set()));
    assert_eq!(
        single.header(header::CONTENT_LENGTH),
        single.body.len().to_string()
    );
    // Several instances are none.
    let several = served.get_as("/studies/1.2.1", "application/dicom").await;
    several.problem(StatusCode::NOT_ACCEPTABLE);
    let zip = served.get_as("/studies/1.2.1", "application/zip").await;
    let mut zip = zip::ZipArchive::new(Cursor::new(zip.body.to_vec())).unwrap();
    for image in &images {
        let name = format!("{}/{}.dcm", image.series_uid(), image.instance_uid());
        let mut file = Vec::new();
        zip.by_name(&name).unwrap().read_to_end(&mut file).unwrap();
        assert!(file.ends_with(&image.data_set()));
    }
}

#[tokio::test]
async fn no_uid_leads_out_of_a_zip() {
    let image = Image::new(1, 1, 1);
    let mut file = image.file().to_vec();
    // What some peer may send as Series Instance UID (0020,000E), as long as the one that was there.
    let tag = [0x20, 0x00, 0x0E, 0x00];
    let at = file.windows(4).position(|four| four == tag).unwrap();
    let length = usize::from(u16::from_le_bytes([file[at + 6], file[at + 7]]));
    let value = &mut file[at + 8..at + 8 + length];
    value.fill(0);
    value[..2].copy_from_slice(b"..");
    let served = Served::keeping([file.into()]).await;
    let zip = served.get_as("/studies/1.2.1", "application/zip").await;
    let zip = zip::ZipArchive::new(Cursor::new(zip.body.to_vec())).unwrap();
    let names: Vec<_> = zip.file_names().map(Result::unwrap).collect();
    assert_eq!(names, [format!("_../{}.dcm", image.instance_uid())]);
}

#[tokio::test]
async fn an_instance_leaves_in_explicit_little_endian_unless_another_transfer_syntax_is_taken() {
    let implicit = Image {
        syntax: uids::IMPLICIT_VR_LITTLE_ENDIAN,
        ..Image::new(1, 1, 1)
    };
    let rle = Image {
        syntax: uids::RLE_LOSSLESS,
        frames: 3,
        ..Image::new(1, 1, 2)
    };
    let served = Served::keeping([implicit.file(), rle.file()]).await;
    let accept = |syntax: &str| format!("application/dicom; transfer-syntax={syntax}");
    for image in [&implicit, &rle] {
        let explicit = Image {
            syntax: uids::EXPLICIT_VR_LITTLE_ENDIAN,
            ..*image
        };
        for accepted in [
            "application/dicom".to_owned(),
            accept(uids::EXPLICIT_VR_LITTLE_ENDIAN),
        ] {
            let answer = served.get_as(&image.path(), &accepted).await;
            assert!(
                answer
                    .header(header::CONTENT_TYPE)
                    .contains(uids::EXPLICIT_VR_LITTLE_ENDIAN)
            );
            assert!(answer.body.ends_with(&explicit.pixels()), "{accepted}");
        }
        for accepted in [accept("*"), accept(image.syntax)] {
            let answer = served.get_as(&image.path(), &accepted).await;
            assert!(answer.body.ends_with(&image.data_set()), "{accepted}");
        }
        served
            .get_as(&image.path(), &accept(uids::JPEG2000_LOSSLESS))
            .await
            .problem(StatusCode::NOT_ACCEPTABLE);
    }
    // Of two instances one can be had: a part of what is asked for.
    let accept = format!(
        "multipart/related; type=\"application/dicom\"; transfer-syntax={}",
        uids::RLE_LOSSLESS
    );
    let answer = served.get_as("/studies/1.2.1", &accept).await;
    assert_eq!(answer.status, StatusCode::PARTIAL_CONTENT);
    assert_eq!(answer.parts().await.len(), 1);
}

#[tokio::test]
async fn what_a_client_has_already_is_not_sent_again() {
    let image = Image::new(1, 1, 1);
    let served = Served::keeping([image.file()]).await;
    let paths = [
        "/studies/1.2.1".to_owned(),
        image.path(),
        format!("{}/metadata", image.path()),
        format!("{}/frames/1", image.path()),
    ];
    let mut known = Vec::new();
    for path in &paths {
        let tag = served.get(path).await.header(header::ETAG).to_owned();
        known.push(tag.clone());
        let request = get(path)
            .header(header::IF_NONE_MATCH, &tag)
            .body(Body::empty())
            .unwrap();
        let again = served.ask(request).await;
        assert_eq!(
            (again.status, again.body.len()),
            (StatusCode::NOT_MODIFIED, 0),
            "{path}"
        );
    }
    // Another version has another tag.
    let mut other = image.header();
    other.put_text(dicom_dictionary_std::tags::STUDY_DESCRIPTION, VR::LO, "Another");
    served
        .keep(
            encode(&other, uids::EXPLICIT_VR_LITTLE_ENDIAN, &CharacterSet::utf8())
                .unwrap()
                .into(),
        )
        .await;
    for (path, known) in paths[..3].iter().zip(known) {
        assert_ne!(served.get(path).await.header(header::ETAG), known, "{path}");
    }
    // And so has another representation.
    let single = served.get_as(&paths[1], "application/dicom").await;
    assert_ne!(
        single.header(header::ETAG),
        served.get(&paths[1]).await.header(header::ETAG)
    );
}

#[tokio::test]
async fn what_is_not_kept_is_not_found() {
    let served = Served::keeping([Image::new(1, 1, 1).file()]).await;
    for path in [
        "/studies/1.2.9",
        "/studies/1.2.1/series/1.2.9",
        "/studies/1.2.9/series/1.2.1.1/instances/1.2.1.1.1",
        "/studies/1.2.9/metadata",
        "/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.1/bulkdata/00420011",
        "/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.1/frames/2",
        "/studies/1.2.9/thumbnail",
    ] {
        served.get(path).await.problem(StatusCode::NOT_FOUND);
    }
    for path in [
        "/studies/a",
        "/studies/1.2.1/series/a",
        "/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.1/frames/x",
    ] {
        served.get(path).await.problem(StatusCode::BAD_REQUEST);
    }
}
