//! The way to an object store, as settings say it.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::client::{Certificate, ClientOptions};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{BackoffConfig, ObjectStore, RetryConfig};
use pacs_core::{Error, ErrorKind, Result};

use crate::embedded::ObjectLocation;

const OPERATION: &str = "archive.open";
/// For how long a connection may take to come about, a request of some MiB altogether, and a store may be silent.
const CONNECT: Duration = Duration::from_secs(5);
const REQUEST: Duration = Duration::from_secs(120);
const SILENCE: Duration = Duration::from_secs(30);

fn invalid(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, OPERATION, why.into())
}

/// Sets each option, by the names that the builder has.
macro_rules! with_options {
    ($builder:expr, $key:ty, $options:expr) => {{
        let mut builder = $builder;
        for (name, value) in $options {
            let key: $key = name
                .parse()
                .map_err(|_| invalid(format!("a store of this kind has no option {name}")))?;
            builder = builder.with_config(key, value);
        }
        builder
    }};
}

impl ObjectLocation {
    /// The store, and where in it the archive is; `patience` is for how long it asks again by itself.
    pub(super) fn connect(&self, patience: Duration) -> Result<(Arc<dyn ObjectStore>, Path)> {
        let (scheme, rest) = self
            .url
            .split_once("://")
            .ok_or_else(|| invalid("objects: the URL begins with s3://, az://, gs:// or file://"))?;
        if rest.contains(['?', '#', '@']) {
            return Err(invalid(
                "objects: a URL has a bucket and a prefix, and nothing else",
            ));
        }
        let options = self.all_options()?;
        let retry = RetryConfig {
            backoff: BackoffConfig {
                max_backoff: Duration::from_secs(2),
                ..BackoffConfig::default()
            },
            max_retries: 100,
            retry_timeout: patience,
        };
        if scheme == "file" {
            if !options.is_empty() || self.authorities.is_some() {
                return Err(invalid("objects: a directory has no options"));
            }
            fs::create_dir_all(rest).map_err(|error| Error::io(OPERATION, rest.to_owned(), error))?;
            let store = LocalFileSystem::new_with_prefix(rest).map_err(unusable)?;
            return Ok((Arc::new(store.with_fsync(true)), Path::default()));
        }
        let client = self.client_options(&options)?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(invalid("objects: the URL names no bucket"));
        }
        let prefix = Path::parse(prefix).map_err(|error| invalid(format!("objects: the prefix: {error}")))?;
        let store: Arc<dyn ObjectStore> = match scheme {
            "s3" => {
                let builder = AmazonS3Builder::from_env().with_client_options(client);
                let builder = with_options!(builder, AmazonS3ConfigKey, options);
                let builder = builder.with_bucket_name(bucket).with_retry(retry);
                Arc::new(builder.build().map_err(unusable)?)
            }
            "az" => {
                let builder = MicrosoftAzureBuilder::from_env().with_client_options(client);
                let builder = with_options!(builder, AzureConfigKey, options);
                let builder = builder.with_container_name(bucket).with_retry(retry);
                Arc::new(builder.build().map_err(unusable)?)
            }
            "gs" => {
                let builder = GoogleCloudStorageBuilder::from_env().with_client_options(client);
                let builder = with_options!(builder, GoogleConfigKey, options);
                let builder = builder.with_bucket_name(bucket).with_retry(retry);
                Arc::new(builder.build().map_err(unusable)?)
            }
            _ => {
                return Err(invalid(
                    "objects: the URL begins with s3://, az://, gs:// or file://",
                ));
            }
        };
        Ok((store, prefix))
    }

    fn all_options(&self) -> Result<BTreeMap<String, String>> {
        let mut options = self.options.clone();
        for (name, file) in &self.option_files {
            let value = fs::read_to_string(file).map_err(|error| {
                let what = format!("{} can't be read", file.display());
                Error::io(OPERATION, what, error)
            })?;
            options.insert(name.clone(), value.trim_end_matches(['\r', '\n']).to_owned());
        }
        Ok(options)
    }

    fn client_options(&self, options: &BTreeMap<String, String>) -> Result<ClientOptions> {
        let mut client = ClientOptions::new()
            .with_connect_timeout(CONNECT)
            .with_timeout(REQUEST)
            .with_read_timeout(SILENCE);
        // The options of a builder reach the client only where it has none of its own.
        for (name, value) in options {
            if let Ok(key) = name.parse() {
                client = client.with_config(key, value);
            }
        }
        if let Some(file) = &self.authorities {
            let pem = fs::read(file).map_err(|error| {
                let what = format!("{} can't be read", file.display());
                Error::io(OPERATION, what, error)
            })?;
            let certificates = Certificate::from_pem_bundle(&pem).map_err(unusable)?;
            client = certificates
                .into_iter()
                .fold(client, ClientOptions::with_root_certificate);
        }
        Ok(client)
    }
}

fn unusable(error: object_store::Error) -> Error {
    let why = "the object store can't be used as it is set up";
    Error::new(ErrorKind::Invalid, OPERATION, why).with_source(error)
}
