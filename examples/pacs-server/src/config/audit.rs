//! The table `[audit]`.

use std::path::PathBuf;

use pacs_net::audit::Repository;
use serde::{Deserialize, Deserializer, de};

use super::Config;

/// Who did what with whose data: where it is recorded. Without the table nothing is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct AuditConfig {
    /// Where the log is, where not below the data directory.
    pub(crate) directory: Option<PathBuf>,
    /// Where messages are sent.
    #[serde(deserialize_with = "repository")]
    pub(crate) repository: Option<Repository>,
    /// What can't be recorded doesn't happen.
    pub(crate) required: bool,
    /// How large the log may become.
    pub(crate) limit_mebibytes: Option<u32>,
}

fn repository<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Repository>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let repository = text
        .parse()
        .map_err(|error: pacs_core::Error| de::Error::custom(error.context()))?;
    Ok(Some(repository))
}

impl Config {
    /// Where the log of audit is, also where nothing is recorded now.
    pub(crate) fn audit_directory(&self) -> PathBuf {
        let named = self.audit.as_ref().and_then(|audit| audit.directory.clone());
        named.unwrap_or_else(|| self.data.join("audit"))
    }
}
