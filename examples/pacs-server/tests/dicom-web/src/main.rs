//! `dicom-web-peer BASE_URL FILE...` stores the files with STOW-RS, finds each with QIDO-RS at every level, and
//! retrieves it with WADO-RS: instance, series, study, metadata and frames. Ends with an error at the first answer
//! that isn't what it must be.

use std::error::Error;
use std::path::PathBuf;

use bytes::Bytes;
use dicom_core::Tag;
use dicom_dictionary_std::tags;
use dicom_object::{FileDicomObject, InMemDicomObject, open_file};
use dicom_web::DicomWebClient;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

type Outcome<T> = Result<T, Box<dyn Error>>;
type File = FileDicomObject<InMemDicomObject>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let mut arguments = std::env::args_os().skip(1);
    let base = arguments.next().and_then(|url| url.into_string().ok());
    let client = DicomWebClient::with_single_url(&base.ok_or("the base URL is missing")?);
    let paths: Vec<PathBuf> = arguments.map(PathBuf::from).collect();
    if paths.is_empty() {
        return Err("the files are missing".into());
    }
    store(&client, &paths).await?;
    for path in &paths {
        let file = open_file(path)?;
        search(&client, &file).await?;
        retrieve(&client, &file).await?;
        println!("{}: stored, found and retrieved", path.display());
    }
    Ok(())
}

/// In one request as streams of bytes, and each again as the object that the crate writes anew.
async fn store(client: &DicomWebClient, paths: &[PathBuf]) -> Outcome<()> {
    let contents: Vec<Bytes> = paths
        .iter()
        .map(|path| std::fs::read(path).map(Bytes::from))
        .collect::<Result<_, _>>()?;
    let bodies = contents.into_iter().map(|content| stream::iter(pieces(content)));
    let answer = client
        .store_instances()
        .with_data_streams(stream::iter(bodies))
        .run()
        .await?;
    let kept = answer
        .element(tags::REFERENCED_SOP_SEQUENCE)?
        .items()
        .map_or(0, <[_]>::len);
    must(kept == paths.len(), "every instance is kept")?;
    let failed = answer.element_opt(tags::FAILED_SOP_SEQUENCE)?;
    let failed = failed.and_then(|sequence| sequence.items()).map_or(0, <[_]>::len);
    must(failed == 0, "none failed")
}

fn pieces(content: Bytes) -> Vec<Result<Bytes, std::io::Error>> {
    content
        .chunks(64 * 1024)
        .map(|piece| Ok(content.slice_ref(piece)))
        .collect()
}

async fn search(client: &DicomWebClient, file: &File) -> Outcome<()> {
    let [study, series, instance] = uids(file)?;
    let found = client
        .query_studies()
        .with_filter(tags::STUDY_INSTANCE_UID.into(), study.clone())
        .with_includefields(vec![tags::STUDY_DESCRIPTION])
        .with_limit(10)
        .run()
        .await?;
    must(
        found.len() == 1 && text(&found[0], tags::STUDY_INSTANCE_UID)? == study,
        "its study is found",
    )?;
    let found = client.query_series_in_study(&study).run().await?;
    must(
        has(&found, tags::SERIES_INSTANCE_UID, &series),
        "its series is found",
    )?;
    let found = client.query_instances_in_series(&study, &series).run().await?;
    must(
        has(&found, tags::SOP_INSTANCE_UID, &instance),
        "it is found in its series",
    )?;
    let found = client
        .query_instances()
        .with_filter(tags::SOP_INSTANCE_UID.into(), instance.clone())
        .run()
        .await?;
    must(
        found.len() == 1 && has(&found, tags::SOP_INSTANCE_UID, &instance),
        "it is found among all",
    )?;
    Ok(())
}

async fn retrieve(client: &DicomWebClient, file: &File) -> Outcome<()> {
    let [study, series, instance] = uids(file)?;
    let one = client.retrieve_instance(&study, &series, &instance).run().await?;
    must(
        text(&one, tags::SOP_INSTANCE_UID)? == instance,
        "the instance comes",
    )?;
    let of_series: Vec<File> = client
        .retrieve_series(&study, &series)
        .run()
        .await?
        .try_collect()
        .await?;
    must(
        of_series
            .iter()
            .any(|one| text(one, tags::SOP_INSTANCE_UID).is_ok_and(|uid| uid == instance)),
        "in its series",
    )?;
    let mut of_study = Box::pin(client.retrieve_study(&study).run().await?);
    let mut count = 0;
    while let Some(one) = of_study.next().await {
        let one = one?;
        must(
            text(&one, tags::STUDY_INSTANCE_UID)? == study,
            "what comes is of the study",
        )?;
        count += 1;
    }
    must(count >= of_series.len(), "the study has its series' instances")?;
    for metadata in [
        client.retrieve_study_metadata(&study),
        client.retrieve_series_metadata(&study, &series),
        client.retrieve_instance_metadata(&study, &series, &instance),
    ] {
        let metadata = metadata.run().await?;
        must(
            has(&metadata, tags::SOP_INSTANCE_UID, &instance),
            "its metadata comes",
        )?;
    }
    if file.element_opt(tags::PIXEL_DATA)?.is_some() {
        let frames = client
            .retrieve_frames(&study, &series, &instance, &[1])
            .run()
            .await?;
        must(
            frames.len() == 1 && !frames[0].data.is_empty(),
            "its first frame comes",
        )?;
    }
    Ok(())
}

fn uids(file: &InMemDicomObject) -> Outcome<[String; 3]> {
    Ok([
        text(file, tags::STUDY_INSTANCE_UID)?,
        text(file, tags::SERIES_INSTANCE_UID)?,
        text(file, tags::SOP_INSTANCE_UID)?,
    ])
}

fn text(set: &InMemDicomObject, tag: Tag) -> Outcome<String> {
    Ok(set
        .element(tag)?
        .to_str()?
        .trim_end_matches([' ', '\0'])
        .to_owned())
}

fn has(found: &[InMemDicomObject], tag: Tag, value: &str) -> bool {
    found
        .iter()
        .any(|one| text(one, tag).is_ok_and(|text| text == value))
}

fn must(holds: bool, what: &str) -> Outcome<()> {
    if holds {
        Ok(())
    } else {
        Err(format!("not so: {what}").into())
    }
}
