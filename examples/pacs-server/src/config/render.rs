//! What `--print-config` shows.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use pacs_net::settings::{Peer, Protocol};
use pacs_store::embedded::{Attribute, AttributeLevel, ObjectLocation};

use super::{AccessConfig, BackupConfig, Config, LogFormat, ScrubConfig};

impl Config {
    /// All settings with their meaning, as TOML that [`parse`](Self::parse) reads back.
    pub(crate) fn render(&self) -> String {
        let mut out = Rendering::default();
        out.text("Settings of pacs-server. A file like this one is read with --config; flags go over it.");
        out.gap();
        out.setting(
            "data",
            quoted(&self.data.to_string_lossy()),
            "Directory that instances and index are kept in.",
        );
        out.setting(
            "ae-title",
            quoted(self.ae_title.as_str()),
            "Application entity title of this server.",
        );
        out.setting(
            "dicom-port",
            self.dicom_port,
            "TCP port for DICOM associations; 0 lets the system choose one.",
        );
        out.setting(
            "http-port",
            self.http_port,
            "TCP port for DICOMweb and the pages; 0 lets the system choose one.",
        );
        out.setting(
            "listen",
            quoted(&self.listen.to_string()),
            "Address to listen on: 127.0.0.1 serves this machine alone, 0.0.0.0 every network.",
        );
        out.setting(
            "stop-grace-seconds",
            self.stop_grace_seconds,
            "On SIGTERM or SIGINT running associations may go on this long before they are aborted.",
        );
        out.setting(
            "duplicates",
            quoted(self.duplicates.name()),
            "An instance with other bytes under a UID that is kept: \"replace\" (the old version stays in the\n\
             # archive), \"keep-first\" or \"refuse\". The same bytes again are always a success, and what is cut\n\
             # off never takes the place of a longer one.",
        );
        out.setting(
            "any-sop-class",
            self.any_sop_class,
            "Take instances of every SOP class, not only the storage classes of the Standard's dictionary.",
        );
        out.setting(
            "index-cache-mebibytes",
            self.index_cache_mebibytes,
            "Memory for pages of the index.",
        );
        let routes = self.routes.as_deref().unwrap_or(Path::new("routes.toml"));
        let line = format!("routes = {}", quoted(&routes.to_string_lossy()));
        out.text("File that says where things go by themselves; read again when it changes.");
        match self.routes {
            Some(_) => out.line(format_args!("{line}")),
            None => out.text(&line),
        }
        out.setting(
            "stable-after-seconds",
            self.stable_after_seconds,
            "A series or a study is stable when nothing came to it for so long.",
        );
        self.render_objects(&mut out);
        self.render_replica(&mut out);
        self.render_scrub(&mut out);
        self.render_backup(&mut out);
        self.render_database(&mut out);
        self.render_encryption(&mut out);
        self.render_access(&mut out);
        self.render_audit(&mut out);
        out.table(
            "[limits]",
            "What is beyond these is refused or waits; every number is at least 1.",
        );
        out.setting(
            "associations",
            self.limits.associations,
            "Associations at once; a further one is rejected for now (local limit exceeded).",
        );
        out.setting(
            "address-percent",
            self.limits.address_percent,
            "What one address may have of the connections that a port takes at once (DICOM: associations; HTTP: 2000;\n\
             # HL7: 64), in percent; a further one is refused. 100 where all come from one address, as behind a proxy.",
        );
        out.setting(
            "operations",
            self.limits.operations,
            "Operations that an association may have in flight, where the peer negotiates a window.",
        );
        out.setting(
            "idle-seconds",
            self.limits.idle_seconds,
            "How long an association may be silent.",
        );
        out.setting(
            "patience-seconds",
            self.limits.patience_seconds,
            "How long an instance waits for its turn before its sender is answered A700 (out of resources).",
        );
        out.setting(
            "steps-kept-days",
            self.limits.steps_kept_days,
            "How long unified procedure steps are kept after their end, and events of them that nobody takes.",
        );
        out.table(
            "[hl7]",
            "Orders and patients from other systems, as HL7 v2 messages over MLLP.",
        );
        out.text("TCP port; without one no message is taken.");
        match self.hl7.port {
            Some(port) => out.line(format_args!("port = {port}")),
            None => out.text("port = 2575"),
        }
        self.render_web(&mut out);
        self.render_tls(&mut out);
        out.table(
            "[log]",
            "How the server logs, on standard error. No line holds patient data.",
        );
        let format = match self.log.format {
            LogFormat::Human => "human",
            LogFormat::Json => "json",
        };
        out.setting(
            "format",
            quoted(format),
            "\"human\", or \"json\" for one object a line.",
        );
        out.setting(
            "filter",
            quoted(&self.log.filter),
            "error, warn, info, debug or trace; also by module: \"info,pacs_net=debug\".",
        );
        const ATTRIBUTES: &str = "An attribute that is searched and returned besides those of the Standard's query models: a keyword, a\n\
             # tag, a path through sequences, or a private attribute. What is stored already is indexed again in the\n\
             # background. One table each; level is patient, study, series or instance.";
        let examples = [
            (AttributeLevel::Series, "ProtocolName"),
            (AttributeLevel::Instance, "0029xx10[ACME 1.1]:LO"),
        ];
        out.tables(ATTRIBUTES, &self.attributes, Rendering::attribute, || {
            let example = |(level, path): (_, &str)| Attribute {
                level,
                path: path.to_owned(),
            };
            examples.map(example).to_vec()
        });
        const PEERS: &str =
            "A peer that instances may be sent to: the Move Destination of a C-MOVE. One table each.";
        out.tables(PEERS, &self.peers, Rendering::peer, || {
            vec![Peer {
                ae_title: "WORKSTATION".parse().expect("WORKSTATION is an AE title"),
                host: "192.0.2.10".to_owned(),
                port: 104,
                associations: Peer::default_associations(),
                tls: false,
            }]
        });
        out.0
    }
}

impl Config {
    fn render_objects(&self, out: &mut Rendering) {
        const MEANING: &str = "Object store that instances are kept in, where they are not to be in the data directory: s3://, az:// or gs://.\n\
             # What else it needs to know are options; those that are secrets come from the environment or from option-files.";
        let Some(objects) = &self.objects else {
            return out.example(MEANING, &[" [objects]", "url = \"s3://bucket/prefix\"", "options = { endpoint = \"https://store.example\", region = \"us-east-1\", access_key_id = \"pacs\" }", "option-files = { secret_access_key = \"/etc/pacs/store-secret\" }"]);
        };
        out.table("[objects]", MEANING);
        out.location(objects);
    }

    fn render_replica(&self, out: &mut Rendering) {
        const MEANING: &str = "A second copy of each instance, in a directory on another disk (data) or in an object store ([replica.objects], as\n\
             # [objects]). What one copy has damaged or lost is read from the other, and made anew by `verify --repair` and [scrub].";
        const MODE: &str = "When an instance counts as kept: \"later\" (with the first copy, the second follows), \"while-present\" (with both\n\
             # while the replica takes them, else the second follows) or \"always\" (refused while the replica doesn't take them).";
        let Some(replica) = &self.replica else {
            return out.example(
                MEANING,
                &[
                    " [replica]",
                    "data = \"/mnt/replica\"",
                    "mode = \"while-present\"",
                ],
            );
        };
        out.table("[replica]", MEANING);
        if let Some(data) = &replica.data {
            out.line(format_args!("data = {}", quoted(&data.to_string_lossy())));
        }
        out.setting("mode", quoted(replica.mode_name()), MODE);
        if let Some(objects) = &replica.objects {
            out.table(
                "[replica.objects]",
                "The object store that the second copies are in.",
            );
            out.location(objects);
        }
    }

    fn render_scrub(&self, out: &mut Rendering) {
        const MEANING: &str = "Reads through what is kept, over and over, so that damage is found before the other copy has some too. What is found\n\
             # is logged and shown at /metrics; with a [replica] it is repaired.";
        const PAUSE: &str =
            "How long after the end of a pass the next one begins. A pass that a stop broke off goes on.";
        let (scrub, is_set) = match &self.scrub {
            Some(scrub) => (scrub.clone(), true),
            None => (ScrubConfig::default(), false),
        };
        if !is_set {
            let rate = format!("mebibytes-per-second = {}", scrub.mebibytes_per_second);
            let pause = format!("pause-days = {}", scrub.pause_days);
            return out.example(MEANING, &[" [scrub]", &rate, &pause]);
        }
        out.table("[scrub]", MEANING);
        out.setting(
            "mebibytes-per-second",
            scrub.mebibytes_per_second,
            "Instances that are read in a second, in MiB; each of two copies counts once.",
        );
        out.setting("pause-days", scrub.pause_days, PAUSE);
    }

    fn render_backup(&self, out: &mut Rendering) {
        const MEANING: &str = "A backup of what is kept and of the ledger, users and the key of links, in a directory on another disk or in an object\n\
             # store ([backup.objects], as [objects]): each increment is a moment that `restore` can go back to.";
        const EVERY: &str = "How long after one increment the next one is made, while the server runs.";
        let Some(backup) = &self.backup else {
            let every = format!("every-minutes = {}", BackupConfig::default().every_minutes);
            return out.example(MEANING, &[" [backup]", "directory = \"/mnt/backup\"", &every]);
        };
        out.table("[backup]", MEANING);
        if let Some(directory) = &backup.directory {
            out.line(format_args!(
                "directory = {}",
                quoted(&directory.to_string_lossy())
            ));
        }
        out.setting("every-minutes", backup.every_minutes, EVERY);
        if let Some(objects) = &backup.objects {
            out.table("[backup.objects]", "The object store that the backup is in.");
            out.location(objects);
        }
    }

    fn render_database(&self, out: &mut Rendering) {
        const MEANING: &str = "PostgreSQL that index and ledger are kept in, where they are not to be files of the data directory.\n\
             # password-file holds the password alone: the URL holds none. Such a store is not encrypted by this program.";
        let Some(database) = &self.database else {
            return out.example(
                MEANING,
                &[
                    " [database]",
                    "url = \"postgresql://pacs@db.example:5432/pacs?sslmode=require\"",
                    "password-file = \"/etc/pacs/database-password\"",
                ],
            );
        };
        out.table("[database]", MEANING);
        out.line(format_args!("url = {}", quoted(&database.url)));
        if let Some(path) = &database.password_file {
            out.line(format_args!(
                "password-file = {}",
                quoted(&path.to_string_lossy())
            ));
        }
        out.setting(
            "schema",
            quoted(&database.schema),
            "Schema of the tables, made where it is missing; each data directory has one of its own.",
        );
        out.setting(
            "connections",
            database.connections,
            "Connections at once for queries; some more are there for what must not wait behind them.",
        );
        if let Some(path) = &database.authorities {
            out.text(
                "Authorities, in PEM, that its certificate must come from; else those that the system knows.",
            );
            out.line(format_args!("authorities = {}", quoted(&path.to_string_lossy())));
        }
    }

    fn render_encryption(&self, out: &mut Rendering) {
        const MEANING: &str = "Encryption of what is kept: one of key-file, key-variable and key-command says where the keys are.\n\
             # `pacs-server keys new FILE` makes one. Index and ledger are encrypted too.";
        let Some(encryption) = &self.encryption else {
            return out.example(MEANING, &[" [encryption]", "key-file = \"/etc/pacs/keys\""]);
        };
        out.table("[encryption]", MEANING);
        if let Some(path) = &encryption.key_file {
            out.line(format_args!("key-file = {}", quoted(&path.to_string_lossy())));
        }
        if let Some(name) = &encryption.key_variable {
            out.line(format_args!("key-variable = {}", quoted(name)));
        }
        if !encryption.key_command.is_empty() {
            let words = encryption.key_command.iter().map(|word| quoted(word)).collect();
            out.line(format_args!("key-command = {}", toml::Value::Array(words)));
        }
        out.setting(
            "plain-too",
            encryption.plain_too,
            "Read also instances that were kept before encryption was switched on, and encrypt an index and a ledger of that time.",
        );
    }

    fn render_audit(&self, out: &mut Rendering) {
        const MEANING: &str = "The audit trail (PS3.15 A.5): who did what with whose data. Without this table nothing is recorded.";
        let Some(audit) = &self.audit else {
            return out.example(
                MEANING,
                &[
                    " [audit]",
                    "repository = \"tls://audit.example:6514\"",
                    "required = true",
                ],
            );
        };
        out.table("[audit]", MEANING);
        let path = |path: &Path| quoted(&path.to_string_lossy());
        out.text("Directory of the log; without it, `audit` below the data directory.");
        match &audit.directory {
            Some(directory) => out.line(format_args!("directory = {}", path(directory))),
            None => out.text("directory = \"/srv/audit\""),
        }
        out.text(
            "Where messages are sent over syslog: tls://, tcp:// or udp://, host and port. What waits is in the log.",
        );
        match &audit.repository {
            Some(repository) => {
                out.line(format_args!("repository = {}", quoted(&repository.to_string())));
            }
            None => out.text("repository = \"tls://audit.example:6514\""),
        }
        out.setting(
            "required",
            audit.required,
            "Nothing is served that could not be recorded, and each record is on stable storage before. Without it, what can't\n\
             # be recorded is logged, and records of the last second may be lost when the machine dies.",
        );
        out.text("How large the log may become; then records are refused, and none is dropped. Without it, as large as the disk.");
        match audit.limit_mebibytes {
            Some(limit) => out.line(format_args!("limit-mebibytes = {limit}")),
            None => out.text("limit-mebibytes = 10240"),
        }
    }

    fn render_web(&self, out: &mut Rendering) {
        out.table(
            "[web]",
            "DICOMweb below /dicom-web, WADO-URI at /wado, and pages for people.",
        );
        out.setting("off", self.web.off, "Offer nothing over HTTP.");
        out.setting(
            "delete",
            self.web.delete,
            "Let clients delete studies, series and instances, by DELETE on their URLs.",
        );
        out.setting(
            "origin",
            quoted(&self.web.origin),
            "How clients reach this server, where that is not what their Host field says: behind a proxy,\n\
             # \"https://pacs.example\". URLs in answers begin with it.",
        );
        let origins = self
            .web
            .cors_origins
            .iter()
            .map(|origin| quoted(origin))
            .collect();
        out.setting(
            "cors-origins",
            toml::Value::Array(origins),
            "Pages of these origins may use DICOMweb from a browser: [\"https://viewer.example\"], or [\"*\"] for all.",
        );
        const OHIF: &str = "Where OHIF's files are; without it they are looked for where\n\
             # `npm ci --prefix examples/viewer` puts them.";
        match &self.web.ohif_directory {
            Some(directory) => out.setting("ohif-directory", quoted(&directory.to_string_lossy()), OHIF),
            None => {
                out.text(OHIF);
                out.text("ohif-directory = \"/srv/ohif\"");
            }
        }
    }
}

impl Config {
    fn render_access(&self, out: &mut Rendering) {
        const MEANING: &str = "Who may do what. Without this table everybody on this machine may everything, and nobody beyond it anything.\n\
             # Permissions: store, find, retrieve, delete, amend, work, route, administer. `pacs-server users` adds users,\n\
             # `pacs-server share` makes a link to a study that is good for some days.";
        let Some(access) = &self.access else {
            out.gap();
            out.text(MEANING);
            let mut example = Rendering::default();
            AccessConfig::example().render(&mut example);
            for line in example.0.lines() {
                // Set in, unlike the examples of settings of their own: it is one of a whole.
                out.text(&format!(" {line}"));
            }
            return;
        };
        out.gap();
        out.text(MEANING);
        access.render(out);
    }

    fn render_tls(&self, out: &mut Rendering) {
        out.table(
            "[tls]",
            "What connections are made secure with (PS3.15 B.12): PEM files, which are read again when they change.\n\
             # `pacs-server certs` makes such files for a test.",
        );
        let mut file = |key: &str, file: &Option<PathBuf>, example: &str, meaning: &str| match file {
            Some(file) => out.setting(key, quoted(&file.to_string_lossy()), meaning),
            None => {
                out.text(meaning);
                out.text(&format!("{key} = \"{example}\""));
            }
        };
        let tls = &self.tls;
        file(
            "certificate",
            &tls.certificate,
            "pacs.pem",
            "Our certificate, and behind it those that lead from it to an authority. With one, DICOM, HTTP and HL7 are\n\
             # taken over TLS.",
        );
        file("key", &tls.key, "pacs-key.pem", "Its private key.");
        file(
            "authorities",
            &tls.authorities,
            "ca.pem",
            "The authorities that the other side's certificate must come from. Without them, servers that are called\n\
             # are believed when the operating system knows their authority.",
        );
        let named = |protocols: &[Protocol]| {
            toml::Value::Array(protocols.iter().map(|protocol| quoted(protocol.name())).collect())
        };
        let required = format!("client-certificates = {}", named(tls.required()));
        out.text("Over which of \"dicom\", \"http\" and \"hl7\" clients must show a certificate.");
        match tls.client_certificates {
            Some(_) => out.line(format_args!("{required}")),
            None => out.text(&required),
        }
        out.setting(
            "plain",
            named(&tls.plain),
            "Over which of them connections without TLS are taken too, on the same port: whoever comes so shows nothing.",
        );
    }
}

#[derive(Default)]
pub(super) struct Rendering(String);

impl Rendering {
    /// A table that isn't set, as it could be.
    fn example(&mut self, meaning: &str, lines: &[&str]) {
        self.gap();
        self.text(meaning);
        for line in lines {
            self.text(line);
        }
    }

    /// Where an object store is.
    fn location(&mut self, objects: &ObjectLocation) {
        let inline = |pairs: Vec<String>| format!("{{ {} }}", pairs.join(", "));
        let options = objects.options.iter();
        let options = options.map(|(name, value)| format!("{} = {}", quoted(name), quoted(value)));
        let files = objects.option_files.iter();
        let files =
            files.map(|(name, file)| format!("{} = {}", quoted(name), quoted(&file.to_string_lossy())));
        self.line(format_args!("url = {}", quoted(&objects.url)));
        self.line(format_args!("options = {}", inline(options.collect())));
        self.line(format_args!("option-files = {}", inline(files.collect())));
        if let Some(path) = &objects.authorities {
            self.text("Authorities, in PEM, that its certificate may also come from.");
            self.line(format_args!("authorities = {}", quoted(&path.to_string_lossy())));
        }
    }

    fn gap(&mut self) {
        self.0.push('\n');
    }

    pub(super) fn text(&mut self, text: &str) {
        self.line(format_args!("# {text}"));
    }

    pub(super) fn setting(&mut self, key: &str, value: impl std::fmt::Display, meaning: &str) {
        self.text(meaning);
        self.line(format_args!("{key} = {value}"));
    }

    fn table(&mut self, header: &str, meaning: &str) {
        self.gap();
        self.text(meaning);
        self.line(format_args!("{header}"));
    }

    /// The tables of one name; where there is none, `examples` as comments.
    fn tables<T: Clone>(
        &mut self,
        meaning: &str,
        tables: &[T],
        render: impl Fn(&mut Self, &T),
        examples: impl Fn() -> Vec<T>,
    ) {
        self.gap();
        self.text(meaning);
        for table in tables {
            render(self, table);
        }
        if tables.is_empty() {
            let mut lines = Self::default();
            for example in examples() {
                render(&mut lines, &example);
            }
            for line in lines.0.lines() {
                self.text(line);
            }
        }
    }

    fn attribute(&mut self, attribute: &Attribute) {
        self.line(format_args!("[[attribute]]"));
        self.line(format_args!("level = {}", quoted(attribute.level.name())));
        self.line(format_args!("path = {}", quoted(&attribute.path)));
    }

    fn peer(&mut self, peer: &Peer) {
        self.line(format_args!("[[peer]]"));
        self.line(format_args!("ae-title = {}", quoted(peer.ae_title.as_str())));
        self.line(format_args!("host = {}", quoted(&peer.host)));
        self.line(format_args!("port = {}", peer.port));
        self.line(format_args!(
            "associations = {} # opened to it at once, 1 to {}",
            peer.associations,
            Peer::ASSOCIATIONS_MAX
        ));
        self.line(format_args!("tls = {}", peer.tls));
    }

    pub(super) fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a String can't fail.
        let _ = writeln!(self.0, "{line}");
    }
}

/// `text` as a TOML string.
pub(super) fn quoted(text: &str) -> toml::Value {
    toml::Value::String(text.to_owned())
}
