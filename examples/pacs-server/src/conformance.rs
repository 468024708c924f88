//! `conformance`: the DICOM Conformance Statement of the settings in force.

use pacs_net::conformance::Statement;
use pacs_net::settings::Protocol;
use pacs_net::tls::Connector;

use crate::config::Config;
use crate::maintain::say;
use crate::{serve, web};

/// Writes it on standard output. The data directory isn't touched.
pub(crate) fn write(config: &Config) -> Result<(), String> {
    let attributes = config
        .store()
        .attribute_set()
        .map_err(|error| error.to_string())?;
    let (scp, http) = (
        serve::options(config, &Connector::default()),
        web::options(config),
    );
    let mut statement = Statement::new(
        "pacs-server",
        env!("CARGO_PKG_VERSION"),
        &scp,
        serve::limits(config),
        &attributes,
    );
    statement.web = (!config.web.off).then_some(&http);
    statement.security = security(config);
    statement.configuration = configuration(config);
    say(&statement.to_markdown())
}

fn security(config: &Config) -> Vec<String> {
    let address = match config.listen.is_loopback() {
        true => "It listens for this machine alone.",
        false => "It listens on a network, which is to be a secure one (PS3.15).",
    };
    let delete = match config.web.delete {
        true => "Clients of DICOMweb may delete studies, series and instances.",
        false => "Nothing can be deleted over a network.",
    };
    let kept = match &config.encryption {
        Some(_) => "Instances are kept encrypted (AES-256-GCM), index and ledger too (AES-256-XTS).",
        None => "What is kept is not encrypted by it.",
    };
    let mut told = vec![address.to_owned(), kept.to_owned()];
    told.extend(on_the_wire(config));
    told.extend(audit_trail(config));
    told.extend(
        [
            access(config),
            delete,
            "Logs, errors and metrics hold no patient data.",
        ]
        .map(str::to_owned),
    );
    told
}

fn access(config: &Config) -> &'static str {
    match (&config.access, config.listen.is_loopback()) {
        (Some(_), _) => {
            "An association is accepted when it calls this server by its AE title, and its requestor may do anything by the roles \
             of its user or of itself. User identity negotiation (PS3.7 D.3.3.7) is supported with user name and passcode (type 2) \
             and JSON Web Token (type 5), with a response where one is asked for; an identity that is not believed has the \
             association rejected, others are passed over. What a requestor may not do is answered 0124 (not authorized)."
        }
        (None, true) => {
            "Users are not identified. An association is accepted when it calls this server by its AE title."
        }
        (None, false) => "No association is accepted: nothing is configured of who may do what.",
    }
}

/// What PS3.15 A.5 and A.6 ask a statement to say.
fn audit_trail(config: &Config) -> Vec<String> {
    let Some(audit) = &config.audit else {
        return vec!["Events are not recorded for audit.".to_owned()];
    };
    let mut told = vec![
        "Events are recorded by the Audit Trail Message Format Profile (PS3.15 A.5), without extensions of its schema: Application \
         Activity, Audit Log Used, Begin Transferring DICOM Instances, DICOM Instances Accessed, DICOM Instances Transferred, DICOM \
         Study Deleted, Order Record, Patient Record, Procedure Record, Query, Security Alert, User Authentication. Messages are \
         not received."
            .to_owned(),
        "The server is identified by its process ID (UserID), its AE title (AlternativeUserID) and `pacs-server` (UserName), and as \
         source of messages by its AE title."
            .to_owned(),
        match audit.required {
            true => "What can't be recorded is not served.",
            false => "What can't be recorded is served all the same.",
        }
        .to_owned(),
    ];
    told.extend(audit.repository.as_ref().map(|repository| {
        format!(
            "Messages of up to 32,768 bytes are sent over syslog (PS3.15 A.6 over TLS, A.7 over UDP) to {repository}, with MSGID \
             `DICOM+RFC3881`, a byte order mark and no STRUCTURED-DATA."
        )
    }));
    told
}

fn on_the_wire(config: &Config) -> Vec<String> {
    if config.tls.certificate.is_none() {
        return vec!["Associations, HTTP and HL7 are not encrypted.".to_owned()];
    }
    let named = |protocols: &[Protocol]| {
        let names: Vec<&str> = protocols.iter().map(|protocol| protocol.name()).collect();
        match names.is_empty() {
            true => "none".to_owned(),
            false => names.join(", "),
        }
    };
    let profile = "Associations, HTTP and HL7 are taken over TLS 1.3 or 1.2, by the BCP 195 RFC 8996, 9325 TLS Secure \
                   Transport Connection Profile (PS3.15 B.12).";
    vec![
        profile.to_owned(),
        format!(
            "Clients must show a certificate over: {}.",
            named(config.tls.required())
        ),
        format!(
            "Connections without TLS are taken over: {}.",
            named(&config.tls.plain)
        ),
    ]
}

/// What decides how a peer meets it.
fn configuration(config: &Config) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = [
        ("ae-title", config.ae_title.to_string()),
        ("listen", config.listen.to_string()),
        ("dicom-port", config.dicom_port.to_string()),
        ("http-port", config.http_port.to_string()),
        ("duplicates", config.duplicates.name().to_owned()),
        ("any-sop-class", config.any_sop_class.to_string()),
        ("limits.associations", config.limits.associations.to_string()),
        ("limits.operations", config.limits.operations.to_string()),
        ("limits.idle-seconds", config.limits.idle_seconds.to_string()),
        (
            "limits.patience-seconds",
            config.limits.patience_seconds.to_string(),
        ),
        (
            "limits.steps-kept-days",
            config.limits.steps_kept_days.to_string(),
        ),
        ("web.off", config.web.off.to_string()),
        ("web.delete", config.web.delete.to_string()),
        ("web.origin", config.web.origin.clone()),
        ("web.cors-origins", config.web.cors_origins.join(", ")),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    for attribute in &config.attributes {
        let value = format!("{}, level {}", attribute.path, attribute.level.name());
        all.push(("attribute".to_owned(), value));
    }
    for peer in &config.peers {
        let (title, host, port) = (peer.ae_title, &peer.host, peer.port);
        let tls = if peer.tls { ", over TLS" } else { "" };
        all.push(("peer".to_owned(), format!("{title} at {host}:{port}{tls}")));
    }
    all
}
