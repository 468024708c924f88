//! A PACS in 20 lines: keeps a file, finds it, gives it back.
//!
//! Run with
//!
//! ```text
//! cargo run -p minimal -- some.dcm
//! ```
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "it is what this program is for")]

use std::sync::Arc;

use futures::executor::block_on;
use futures::{TryStreamExt, stream};
use pacs_core::query::{Model, Query, QueryOptions};
use pacs_core::{DataSet, Level, Options, Pacs, Source, VR, tags};
use pacs_store::{RedbIndex, SegmentArchive};

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
    const README: &str = include_str!("../../../README.md");

    /// The code of the README in this language that has `mark` in it.
    fn shown(language: &str, mark: &str) -> &'static str {
        README
            .split("```")
            .skip(1)
            .step_by(2)
            .filter_map(|code| code.strip_prefix(language))
            .find(|code| code.contains(mark))
            .expect("the README shows it")
            .trim()
    }

    #[test]
    fn the_readme_shows_the_whole_of_this_program() {
        let program = include_str!("main.rs");
        let (_, program) = program.split_once("\n\n").expect("the uses follow a blank line");
        let (program, _) = program.split_once("#[cfg(test)]").expect("the tests come last");
        assert_eq!(shown("rust\n", "fn main"), program.trim());
    }

    #[test]
    fn the_readme_shows_the_dependencies_of_this_program() {
        let names = |toml: &str| {
            let (_, table) = toml.split_once("[dependencies]\n").expect("the table is there");
            let lines = table.lines().take_while(|line| !line.starts_with('['));
            let mut names: Vec<String> = lines
                .filter_map(|line| line.split(['.', ' ']).next())
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect();
            names.sort();
            names
        };
        let shown = names(shown("toml\n", "[dependencies]"));
        assert_eq!(shown, names(include_str!("../Cargo.toml")));
        assert!(!shown.is_empty());
    }
}
