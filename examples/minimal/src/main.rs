//! A PACS in 20 lines: keeps a file, finds it, gives it back.
//!
//! Run with
//!
//! ```text
//! cargo run -p minimal -- some.dcm
//! ```

use std::sync::Arc;

use dicom_core::VR;
use dicom_dictionary_std::tags;
use futures::executor::block_on;
use futures::{TryStreamExt, stream};
use pacs_core::query::{Model, Query, QueryOptions};
use pacs_core::{DataSet, Level, Options, Pacs, Source};
use pacs_store::{RedbIndex, SegmentArchive};

#[allow(clippy::print_stdout, reason = "it is what this program is for")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::fs::read(std::env::args().nth(1).ok_or("which file?")?)?;
    block_on(async {
        std::fs::create_dir_all("pacs-data")?;
        let archive = Arc::new(SegmentArchive::open("pacs-data/archive", Default::default())?);
        let index = Arc::new(RedbIndex::open("pacs-data/index.redb", Default::default())?);
        let pacs = Pacs::open(archive, index, Options::default()).await?;

        // When this returns, the instance is on stable storage, and found.
        let received = pacs
            .import(Source::default(), stream::iter([Ok(file.into())]))
            .await?;

        let mut keys = DataSet::new();
        keys.put_text(tags::PATIENT_NAME, VR::PN, "*");
        keys.put_text(tags::NUMBER_OF_STUDY_RELATED_INSTANCES, VR::IS, "");
        let query = Query::new(Model::StudyRoot, Level::Study, keys, QueryOptions::default());
        let studies: Vec<DataSet> = pacs.find(&Source::default(), query)?.try_collect().await?;

        let bytes: Vec<_> = pacs.read(&received.record).try_collect().await?;
        println!(
            "{:?}; {} studies; {} bytes read back",
            received.outcome,
            studies.len(),
            bytes.concat().len()
        );
        Ok(pacs.close()?)
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_readme_shows_the_lines_of_this_program() {
        let squeezed = |text: &str| text.split_whitespace().collect::<String>();
        let readme = include_str!("../../../README.md");
        let shown = readme
            .split("```rust")
            .nth(1)
            .and_then(|rest| rest.split("```").next());
        let shown = squeezed(shown.expect("the README shows some Rust"));
        assert!(
            squeezed(include_str!("main.rs")).contains(&shown),
            "the README shows other lines"
        );
    }
}
