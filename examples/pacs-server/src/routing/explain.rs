//! `route --explain`: which rules apply to a file, and why.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use futures::executor::block_on;
use futures::stream;
use pacs_core::dataset::{part10, scan};
use pacs_core::route::{Checked, Occasion, Rule, Trigger};
use pacs_core::{AeTitle, DataSet, Options, Pacs, Source, Timestamp};
use pacs_store::embedded::file_pieces;
use pacs_store::{MemoryArchive, MemoryIndex};

use super::Routing;
use crate::config::Config;

/// What is asked about.
pub(crate) struct Explained<'a> {
    pub(crate) file: &'a Path,
    pub(crate) on: Trigger,
    pub(crate) from_ae: Option<AeTitle>,
    pub(crate) fetched: bool,
}

/// Says of each rule which conditions hold, and where the file goes. The file is kept nowhere.
pub(crate) fn explain(config: &Config, asked: &Explained<'_>) -> Result<String, String> {
    let rules = Routing::read(config)?.rules();
    let attributes = config
        .store()
        .attribute_set()
        .map_err(|error| error.to_string())?;
    let options = Options {
        attributes: Arc::new(attributes),
        ..Options::default()
    };
    let source = Source {
        calling_ae: asked.from_ae,
        called_ae: Some(config.ae_title),
        ..Source::default()
    };
    let failed = |error: pacs_core::Error| format!("{}: {error}", asked.file.display());
    if asked.on == Trigger::OrderPlaced {
        let item = item(asked.file)?;
        let occasion = Occasion {
            trigger: asked.on,
            record: None,
            source: &source,
            fetched: false,
            at: Timestamp::now(),
            attributes: &options.attributes,
            header: &|| Ok(Arc::clone(&item)),
        };
        return rules.explain(&occasion).map(|asked| told(&asked)).map_err(failed);
    }
    block_on(async {
        let (archive, index) = (Arc::new(MemoryArchive::new()), Arc::new(MemoryIndex::new()));
        let pacs = Pacs::open(archive, index, options).await.map_err(failed)?;
        let pieces = file_pieces(asked.file).map_err(failed)?;
        let received = pacs
            .import(source.clone(), stream::iter(pieces))
            .await
            .map_err(failed)?;
        let metadata = pacs.metadata(&received.record).await.map_err(failed)?;
        let header = RefCell::new(Arc::new(metadata.header.clone()));
        let occasion = Occasion {
            trigger: asked.on,
            record: Some(&received.record),
            source: &source,
            fetched: asked.fetched,
            at: Timestamp::now(),
            attributes: pacs.attributes(),
            header: &|| Ok(Arc::clone(&header.borrow())),
        };
        rules.explain(&occasion).map(|asked| told(&asked)).map_err(failed)
    })
}

/// An item of the worklist, in a file as wlmscpfs of DCMTK has it.
fn item(file: &Path) -> Result<Arc<DataSet>, String> {
    let failed = |why: &dyn std::fmt::Display| format!("{}: {why}", file.display());
    let bytes = std::fs::read(file).map_err(|error| failed(&error))?;
    let meta = part10::read_meta(&bytes, true).map_err(|error| failed(&error))?;
    let meta = meta.ok_or_else(|| failed(&"it ends too early"))?;
    let begin = usize::try_from(meta.data_set_offset).unwrap_or(usize::MAX);
    let data_set = bytes.get(begin..).unwrap_or_default();
    let item = scan::parse(data_set, &meta.transfer_syntax).map_err(|error| failed(&error))?;
    Ok(Arc::new(item))
}

/// In words.
fn told(asked: &[(&Rule, Vec<Checked>)]) -> String {
    let mut out = String::new();
    for (rule, checked) in asked {
        let applies = checked.iter().all(|checked| checked.holds);
        let _ = writeln!(
            out,
            "{} {:?}",
            if applies { "applies" } else { "doesn't" },
            rule.name
        );
        for one in checked {
            let _ = writeln!(
                out,
                "    {:<5} {}",
                if one.holds { "yes" } else { "no" },
                one.condition
            );
        }
        if applies {
            for name in &rule.send_to {
                let _ = writeln!(out, "    -> sent to {name}, {}", rule.priority.as_str());
            }
            for name in &rule.tell {
                let _ = writeln!(out, "    -> told to {name}, {}", rule.priority.as_str());
            }
        }
    }
    if out.is_empty() {
        out.push_str("there are no rules: nothing goes anywhere by itself\n");
    }
    out
}
