//! What is to be sent, and the presentation contexts that it needs.

use std::collections::BTreeMap;
use std::path::PathBuf;

use pacs_core::Uid;
use pacs_net::scu::FileToSend;
use walkdir::WalkDir;

/// Presentation contexts of one association (PS3.8 9.3.2: odd numbers up to 255).
const CONTEXTS_MAX: usize = 128;
/// Files whose contexts fit into one association.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) contexts: Vec<(Uid, Uid)>,
    pub(crate) files: Vec<FileToSend>,
}

/// All that is to be sent.
#[derive(Default)]
pub(crate) struct Plan {
    pub(crate) batches: Vec<Batch>,
    /// Files that can't be sent, by reason.
    pub(crate) refused: BTreeMap<String, Vec<PathBuf>>,
}

impl Plan {
    /// Looks at the beginning of each file at or below `paths`.
    pub(crate) fn make(paths: &[PathBuf]) -> Self {
        let mut plan = Self::default();
        for path in paths {
            for entry in WalkDir::new(path).sort_by_file_name() {
                match entry {
                    Ok(entry) if entry.file_type().is_file() => plan.add(entry.into_path()),
                    Ok(_) => {}
                    Err(error) => {
                        let reason = match error.io_error().map(std::io::Error::kind) {
                            Some(std::io::ErrorKind::NotFound) => "there is nothing at this path".to_owned(),
                            Some(kind) => format!("can't be read: {kind}"),
                            None => "can't be read".to_owned(),
                        };
                        plan.refuse(error.path().unwrap_or(path).to_owned(), reason);
                    }
                }
            }
        }
        plan
    }

    /// Bytes of all data sets.
    pub(crate) fn bytes(&self) -> u64 {
        self.batches
            .iter()
            .flat_map(|batch| &batch.files)
            .map(|file| file.length)
            .sum()
    }

    fn add(&mut self, path: PathBuf) {
        match FileToSend::open(&path) {
            Ok(file) => {
                let context = (file.sop_class, file.transfer_syntax);
                let fits = |batch: &&mut Batch| {
                    batch.contexts.contains(&context) || batch.contexts.len() < CONTEXTS_MAX
                };
                let batch = match self.batches.iter_mut().find(fits) {
                    Some(batch) => batch,
                    None => {
                        self.batches.push(Batch::default());
                        let last = self.batches.len() - 1;
                        &mut self.batches[last]
                    }
                };
                if !batch.contexts.contains(&context) {
                    batch.contexts.push(context);
                }
                batch.files.push(file);
            }
            Err(error) => {
                let tags: String = error.tags().iter().map(|tag| format!(" {tag}")).collect();
                self.refuse(path, format!("{}{tags}", error.context()));
            }
        }
    }

    fn refuse(&mut self, path: PathBuf, reason: String) {
        self.refused.entry(reason).or_default().push(path);
    }
}
