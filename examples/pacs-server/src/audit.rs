//! The audit trail of the server: recording while it serves, `audit verify` and `audit show`.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt as _;
use pacs_core::audit::{
    AccessPoint, AlertSubject, Audit, AuditQueue, AuditSource, Code, Message, Outcome, OutcomeIndicator,
    Participant, Subject, Subjects, file_uri,
};
use pacs_core::{Error, ErrorKind, Pacs, Scope};
use pacs_net::audit::{Origin, Sender, SenderOptions};
use pacs_store::audit::{AuditHead, Durability, HandIn, Known, read, verify};
use pacs_store::{AuditLog, AuditLogOptions};
use tokio::sync::oneshot;
use tokio::time::MissedTickBehavior;

use crate::config::{AuditConfig, Config};
use crate::maintain::say;

/// How often it is looked whether a command has handed in a message.
const TAKE_IN_EVERY: Duration = Duration::from_secs(1);

/// How often and how soon it is tried again to open the log, while another process has it.
const OPEN_TRIES: u32 = 20;
const OPEN_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// The name that logs know the process by.
const NAME: &str = "pacs-server";

/// A trail that is open, or none where none is configured.
pub(crate) struct Trail {
    /// What those get who have events to tell.
    pub(crate) audit: Audit,
    log: Option<Arc<AuditLog>>,
}

impl Config {
    /// Opens the audit trail of these settings. What is found wrong with it is said, and recorded in it.
    pub(crate) fn audit(&self) -> Result<Trail, String> {
        let Some(settings) = &self.audit else {
            return Ok(Trail {
                audit: Audit::none(),
                log: None,
            });
        };
        // A command may have it open, for a moment.
        let mut tries = 0..OPEN_TRIES;
        let opened = loop {
            match open(self, settings) {
                Err(error) if error.kind() == ErrorKind::Refused && tries.next().is_some() => {
                    std::thread::sleep(OPEN_AGAIN_AFTER);
                }
                opened => break opened,
            }
        };
        opened.map_err(|error| error.to_string())
    }
}

/// Opens the log, records what is found wrong with it, and takes in what was handed in.
fn open(config: &Config, settings: &AuditConfig) -> Result<Trail, Error> {
    let options = AuditLogOptions {
        durability: match settings.required {
            true => Durability::Synced,
            false => Durability::Written,
        },
        limit_bytes: settings.limit_mebibytes.map(|limit| u64::from(limit) << 20),
        ..AuditLogOptions::default()
    };
    let log = AuditLog::open(config.audit_directory(), source(config), options)?;
    let log = Arc::new(log);
    let audit = Audit::new(Arc::clone(&log) as _, us(config), settings.required);
    let findings = &log.recovered().findings;
    if !findings.is_empty() {
        audit.record(|us| {
            let names: Vec<String> = findings.iter().map(ToString::to_string).collect();
            let subject = AlertSubject::Uri(file_uri(&config.audit_directory()));
            let text = format!("the log of audit is not what was written: {}", names.join("; "));
            let outcome = Outcome::failure(OutcomeIndicator::MajorFailure, text.as_str());
            Message::security_alert(Code::AUDIT_RECORDING_STOPPED, [us], [], subject, &text)
                .with_outcome(outcome)
        })?;
    }
    if let Err(error) = log.take_in() {
        tracing::error!(%error, "what was handed in for audit waits");
    }
    Ok(Trail {
        audit,
        log: Some(log),
    })
}

fn source(config: &Config) -> AuditSource {
    AuditSource::new(config.ae_title.as_str())
}

/// For commands that need no other file of the server, which may be running: that has the log then, and takes in what they
/// record.
fn beside(config: &Config, settings: &AuditConfig) -> Result<Audit, Error> {
    match open(config, settings) {
        Ok(trail) => Ok(trail.audit),
        Err(error) if error.kind() == ErrorKind::Refused => {
            let trail = HandIn::new(config.audit_directory(), source(config));
            Ok(Audit::new(Arc::new(trail), us(config), settings.required))
        }
        Err(error) => Err(error),
    }
}

/// Does something that changes who may come in, and records it before it is done, and that it failed where it does. This is
/// for those who watch over security (PS3.15 A.5.3.11): `description` holds no patient data.
pub(crate) fn alerted<T>(
    config: &Config,
    kind: &Code,
    of: &Path,
    description: &str,
    change: impl FnOnce() -> Result<T, String>,
) -> Result<T, String> {
    let failed = |error: Error| error.to_string();
    let audit = match &config.audit {
        Some(settings) => beside(config, settings).map_err(failed)?,
        None => Audit::none(),
    };
    let record = |outcome| {
        audit.record(|us| {
            let subject = AlertSubject::Uri(file_uri(of));
            Message::security_alert(kind.clone(), [us], [launcher()], subject, description)
                .with_outcome(outcome)
        })
    };
    record(Outcome::SUCCESS).map_err(failed)?;
    change().inspect_err(|error| {
        // The error is the answer already.
        let _ = record(Outcome::failure(OutcomeIndicator::MinorFailure, error.as_str()));
    })
}

impl Trail {
    /// Serves, and records that it began and ended, while what is recorded is sent to the repository.
    pub(crate) async fn during(
        self,
        config: &Config,
        serving: impl Future<Output = Result<(), String>>,
    ) -> Result<(), String> {
        let failed = |error: pacs_core::Error| error.to_string();
        let Some(log) = &self.log else {
            return serving.await;
        };
        tracing::info!(head = %log.head(), "events are recorded for audit");
        self.audit
            .submit(|us| Message::application_started(us, [launcher()]))
            .await
            .map_err(failed)?;
        let taking_in = tokio::spawn(take_in_soon(Arc::clone(log)));
        let (stop, stopped) = oneshot::channel::<()>();
        let sending = sender(config, log)?.map(|sender| {
            tokio::spawn(sender.run(async move {
                // Its end without a word means the same.
                let _ = stopped.await;
            }))
        });
        let served = serving.await;
        taking_in.abort();
        take_in(log).await;
        let outcome = match &served {
            Ok(()) => Outcome::SUCCESS,
            Err(error) => Outcome::failure(OutcomeIndicator::SeriousFailure, error.as_str()),
        };
        let ended = self
            .audit
            .submit(|us| Message::application_stopped(us, []).with_outcome(outcome))
            .await;
        drop(stop);
        if let Some(sending) = sending
            && sending.await.is_err()
        {
            tracing::error!("the sender of the audit trail panicked");
        }
        log.close();
        tracing::info!(head = %log.head(), "the log of audit is closed");
        served.and(ended.map_err(failed))
    }
}

async fn take_in_soon(log: Arc<AuditLog>) {
    let mut soon = tokio::time::interval(TAKE_IN_EVERY);
    soon.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        soon.tick().await;
        take_in(&log).await;
    }
}

/// Takes in what commands have handed in.
async fn take_in(log: &Arc<AuditLog>) {
    let log = Arc::clone(log);
    match tokio::task::spawn_blocking(move || log.take_in()).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::error!(%error, "what was handed in for audit waits"),
        Err(_) => tracing::error!("what was handed in for audit waits after a panic"),
    }
}

fn sender(config: &Config, log: &Arc<AuditLog>) -> Result<Option<Sender>, String> {
    let repository = config.audit.as_ref().and_then(|audit| audit.repository.clone());
    let Some(repository) = repository else {
        return Ok(None);
    };
    let (_, connector) = config.secure()?;
    Ok(Some(Sender::new(
        Arc::clone(log) as Arc<dyn AuditQueue>,
        repository,
        connector,
        Origin::new(&hostname(), NAME, std::process::id()),
        SenderOptions::default(),
    )))
}

/// This process, as the system's logs know it (PS3.15 A.5.2.1).
fn us(config: &Config) -> Participant {
    Participant::process(std::process::id().to_string(), [config.ae_title])
        .named(NAME)
        .at(AccessPoint::Host(hostname()))
}

/// Who started this process, as far as the environment tells.
pub(crate) fn launcher() -> Participant {
    let name = ["LOGNAME", "USER"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok());
    let number = || std::fs::metadata("/proc/self").map_or(0, |process| process.uid());
    let name = name.unwrap_or_else(|| format!("uid {}", number()));
    Participant::person(format!("{name}@{}", hostname())).requesting()
}

/// Whose data is kept of this.
pub(crate) async fn subjects(pacs: &Pacs, scope: Scope) -> Result<Vec<Subject>, Error> {
    let mut subjects = Subjects::default();
    let mut records = pacs.instances(scope);
    while let Some(record) = records.try_next().await? {
        subjects.add(&record);
    }
    Ok(subjects.take())
}

fn hostname() -> String {
    let name = ["/proc/sys/kernel/hostname", "/etc/hostname"]
        .into_iter()
        .find_map(|file| std::fs::read_to_string(file).ok());
    let name = name.map(|name| name.trim().to_owned());
    name.filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".to_owned())
}

/// `audit verify`: whether every record is what was written. Answers whether nothing was found.
pub(crate) fn verify_log(config: &Config, known: &Known) -> Result<bool, String> {
    let verified = verify(config.audit_directory(), known).map_err(|error| error.to_string())?;
    let mut text = format!(
        "{:>10} records whole\n{:>10} findings\n",
        verified.records, verified.findings_count
    );
    for finding in &verified.findings {
        text.push_str(&format!("\n{finding}"));
    }
    let unnamed = verified.findings_count - verified.findings.len() as u64;
    if unnamed > 0 {
        text.push_str(&format!("\nand {unnamed} more"));
    }
    if !verified.findings.is_empty() {
        text.push('\n');
    }
    if verified.torn_bytes > 0 {
        text.push_str(&format!(
            "\n{} bytes at the end belong to no record yet: they are being written, or the server died while they were.\n",
            verified.torn_bytes
        ));
    }
    if verified.is_head_torn {
        text.push_str("\nNot every copy of the head can be read; another copy says where the log ends.\n");
    }
    text.push_str(&format!(
        "\nhead {}\nNoted down elsewhere and given with --head, it tells later whether all up to here is still the same.\n",
        verified.head
    ));
    say(&text)?;
    Ok(verified.findings.is_empty())
}

/// `audit show`: prints messages. That they were read is recorded before.
pub(crate) fn show(config: &Config, after: u64, count: usize) -> Result<bool, String> {
    let directory = config.audit_directory();
    if !directory.is_dir() {
        return Err(format!("there is no log of audit in {}", directory.display()));
    }
    let settings = AuditConfig {
        required: true,
        ..config.audit.clone().unwrap_or_default()
    };
    beside(config, &settings)
        .and_then(|audit| audit.record(|us| Message::audit_log_used([launcher(), us], file_uri(&directory))))
        .map_err(|error| format!("reading the log is recorded in it, and can't be now: {error}"))?;
    for record in read(&directory, after, count).map_err(|error| error.to_string())? {
        let document = String::from_utf8_lossy(&record.document);
        say(&format!(
            "{} {}\n{document}\n\n",
            record.sequence,
            record.time.rfc3339()
        ))?;
    }
    Ok(true)
}

/// A head, as the command line takes it.
pub(crate) fn head(text: &str) -> Result<AuditHead, String> {
    text.parse()
        .map_err(|error: pacs_core::Error| error.context().to_owned())
}
