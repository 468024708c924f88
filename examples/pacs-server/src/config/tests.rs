use std::collections::BTreeMap;

use pacs_core::access::{self, Permission, Role, Values};
use pacs_core::query::AttributeSet;
use pacs_net::identity::IssuerSettings;
use pacs_net::settings::Protocol;
use pacs_store::embedded::AttributeLevel;

use super::*;

#[test]
fn what_print_config_shows_reads_back_as_the_same_settings() {
    assert_eq!(
        Config::parse(&Config::default().render()).unwrap(),
        Config::default()
    );
    let mut config = Config {
        file: None,
        data: PathBuf::from("/srv/a \"quoted\" \\ place"),
        ae_title: "OTHER PACS".parse().unwrap(),
        dicom_port: 0,
        http_port: 1,
        listen: "::1".parse().unwrap(),
        stop_grace_seconds: 5,
        duplicates: Duplicates::KeepFirst,
        any_sop_class: true,
        index_cache_mebibytes: 7,
        routes: Some(PathBuf::from("/srv/routes \"new\".toml")),
        stable_after_seconds: 9,
        objects: None,
        replica: None,
        scrub: None,
        backup: None,
        database: None,
        encryption: Some(Encryption {
            key_command: vec!["vault".to_owned(), "a \"quoted\" word".to_owned()],
            plain_too: true,
            ..Encryption::default()
        }),
        access: Some(AccessConfig {
            anyone: vec![Permission::Find],
            users: Some(PathBuf::from("/srv/users")),
            roles: vec![
                Role {
                    name: "reader".to_owned(),
                    allow: vec![Permission::Find, Permission::Retrieve],
                    only: [
                        ("Modality".to_owned(), Values::One("US".to_owned())),
                        (
                            "InstitutionName".to_owned(),
                            Values::Any(vec!["A \"quoted\"".to_owned(), "B".to_owned()]),
                        ),
                    ]
                    .into(),
                },
                Role {
                    name: "modality".to_owned(),
                    allow: Vec::new(),
                    only: BTreeMap::new(),
                },
            ],
            peers: vec![access::Peer {
                ae_title: Some("CT1".parse().unwrap()),
                addresses: vec!["10.1.0.0/16".parse().unwrap(), "::1".parse().unwrap()],
                certificate: Some("ct1.example".to_owned()),
                roles: vec!["modality".to_owned()],
            }],
            issuers: vec![IssuerSettings {
                url: "https://login.example/realms/hospital".to_owned(),
                audience: "pacs".to_owned(),
                roles_claim: "realm_access.roles".to_owned(),
                roles: [("Readers".to_owned(), vec!["reader".to_owned()])].into(),
                name_claim: "email".to_owned(),
            }],
        }),
        audit: Some(AuditConfig {
            directory: Some(PathBuf::from("/srv/audit \"log\"")),
            repository: Some("tls://audit.example:6514".parse().unwrap()),
            required: true,
            limit_mebibytes: Some(4096),
        }),
        hl7: Hl7Config { port: Some(2575) },
        limits: LimitsConfig {
            associations: 2,
            address_percent: 100,
            operations: 3,
            idle_seconds: 4,
            patience_seconds: 5,
            steps_kept_days: 6,
        },
        web: WebConfig {
            off: true,
            delete: true,
            origin: "https://pacs.example:8443".to_owned(),
            cors_origins: vec!["https://viewer.example".to_owned(), "*".to_owned()],
            ohif_directory: Some(PathBuf::from("/srv/ohif \"new\"")),
        },
        tls: Tls {
            certificate: Some(PathBuf::from("pacs.pem")),
            key: Some(PathBuf::from("pacs-key.pem")),
            authorities: Some(PathBuf::from("ca.pem")),
            client_certificates: Some(vec![Protocol::Http]),
            plain: vec![Protocol::Dicom, Protocol::Hl7],
        },
        attributes: vec![Attribute {
            level: AttributeLevel::Series,
            path: "0029xx10[ACME 1.1]:LO".to_owned(),
        }],
        log: LogConfig {
            format: LogFormat::Json,
            filter: "warn,pacs_net=debug".to_owned(),
        },
        peers: Vec::new(),
    };
    for (title, associations) in [("A", 1), ("B", 64)] {
        config.peers.push(Peer {
            ae_title: title.parse().unwrap(),
            host: "workstation.example".to_owned(),
            port: 104,
            associations,
            tls: associations > 1,
        });
    }
    assert_eq!(Config::parse(&config.render()).unwrap(), config);
}

#[test]
fn a_database_reads_back_and_holds_no_password_and_no_encryption() {
    let config = Config {
        database: Some(Database {
            password_file: Some(PathBuf::from("/etc/a \"quoted\" file")),
            schema: "other".to_owned(),
            connections: 3,
            authorities: Some(PathBuf::from("ca.pem")),
            ..Database::at("postgresql://pacs@db.example/pacs?sslmode=require")
        }),
        ..Config::default()
    };
    assert_eq!(Config::parse(&config.render()).unwrap(), config);
    for (text, why) in [
        (
            "[database]\nurl = \"postgresql://pacs:secret@db/pacs\"",
            "password-file",
        ),
        ("[database]\nurl = \"host=db password=secret\"", "password-file"),
        (
            "[database]\nurl = \"postgresql://db/pacs\"\n[encryption]\nkey-file = \"keys\"",
            "encryption and database",
        ),
    ] {
        let error = Config::parse(text).unwrap_err();
        assert!(error.contains(why) && !error.contains("secret"), "{error}");
    }
}

#[test]
fn an_object_store_reads_back_and_its_secrets_are_in_files() {
    let mut objects = ObjectLocation::at("s3://bucket/prefix");
    objects
        .options
        .insert("endpoint".to_owned(), "http://127.0.0.1:8333".to_owned());
    objects.option_files.insert(
        "secret_access_key".to_owned(),
        PathBuf::from("/etc/a \"quoted\" file"),
    );
    objects.authorities = Some(PathBuf::from("ca.pem"));
    let config = Config {
        objects: Some(objects),
        ..Config::default()
    };
    assert_eq!(Config::parse(&config.render()).unwrap(), config);
    let text = "[objects]\nurl = \"s3://bucket\"\noptions = { aws_secret_access_key = \"s3cret\" }";
    let error = Config::parse(text).unwrap_err();
    assert!(
        error.contains("option-files") && !error.contains("s3cret"),
        "{error}"
    );
}

#[test]
fn a_replica_how_it_is_read_through_and_a_backup_read_back() {
    let mut objects = ObjectLocation::at("s3://bucket/prefix");
    objects
        .option_files
        .insert("secret_access_key".to_owned(), PathBuf::from("/etc/file"));
    let at = [
        (Some(PathBuf::from("/mnt/a \"quoted\" place")), None),
        (None, Some(objects)),
    ];
    for (data, objects) in at {
        let backup = BackupConfig {
            directory: data.clone(),
            objects: objects.clone(),
            every_minutes: NonZeroU32::MIN,
        };
        let replica = Replica {
            data,
            objects,
            mode: pacs_store::ReplicateMode::Always,
        };
        let config = Config {
            replica: Some(replica),
            scrub: Some(ScrubConfig {
                mebibytes_per_second: NonZeroU32::MIN,
                pause_days: 0,
            }),
            backup: Some(backup),
            ..Config::default()
        };
        assert_eq!(Config::parse(&config.render()).unwrap(), config);
    }
    for (text, why) in [
        ("[replica]", "one of data and objects"),
        (
            "[replica]\ndata = \"a\"\n[replica.objects]\nurl = \"s3://b\"",
            "one of data and objects",
        ),
        ("[replica]\ndata = \"a\"\nmode = \"often\"", "while-present"),
        (
            "[replica.objects]\nurl = \"s3://b\"\noptions = { aws_secret_access_key = \"s3cret\" }",
            "option-files",
        ),
        ("[scrub]\nmebibytes-per-second = 0", "line 2"),
        ("[backup]", "one of directory and objects"),
        ("[backup]\ndirectory = \"a\"\nevery-minutes = 0", "line 3"),
        (
            "[backup.objects]\nurl = \"s3://b\"\noptions = { aws_secret_access_key = \"s3cret\" }",
            "option-files",
        ),
    ] {
        let error = Config::parse(text).unwrap_err();
        assert!(error.contains(why) && !error.contains("s3cret"), "{error}");
    }
}

#[test]
fn the_examples_are_valid_once_their_comment_signs_are_gone() {
    let rendered = Config::default().render();
    let examples = rendered.lines().filter_map(|line| {
        let line = line.strip_prefix("# ")?;
        let is_toml = line.starts_with("[[") || line.split(' ').nth(1) == Some("=");
        // Of a table whose header is no comment.
        let of_table = [
            "ohif-directory",
            "repository",
            "required",
            "port = 2575",
            "certificate",
            "client-certificates",
            "key",
            "authorities",
            "url",
            "password-file",
            "option",
            "data = \"/mnt",
            "directory = \"/mnt",
            "every-minutes",
            "mode",
            "mebibytes-per-second",
            "pause-days",
        ];
        let is_of_table = of_table.iter().any(|key| line.starts_with(key));
        (is_toml && !is_of_table).then(|| format!("{line}\n"))
    });
    let config = Config::parse(&examples.collect::<String>()).unwrap();
    assert_eq!((config.attributes.len(), config.peers.len()), (2, 1));
    assert_ne!(config.store().attribute_set().unwrap(), AttributeSet::default());
}

#[test]
fn an_error_names_the_line_and_the_reason() {
    let cases = [
        (
            "data = \"x\"\nae-title = \"A-TITLE-OF-OVER-16-LETTERS\"",
            "line 2",
            "16",
        ),
        ("\n\nlisten = \"nowhere\"", "line 3", "invalid IP address"),
        ("dicom-port = 65536", "line 1", "65536"),
        ("data = 5", "line 1", "expected"),
        ("dicom-prot = 104", "line 1", "unknown field `dicom-prot`"),
        (
            "[[peer]]\nae-title = \"A\"\nhost = \"h\"\nport = 0",
            "line 4",
            "1 to 65535",
        ),
        (
            "[[peer]]\nae-title = \"A\"\nhost = \"\"\nport = 1",
            "line 3",
            "host name",
        ),
        (
            "[[peer]]\nae-title = \"A\"\nhost = \"h\"\nport = 1\nassociations = 0",
            "line 5",
            "1 to 64",
        ),
        (
            "[[peer]]\nae-title = \"A\"\nport = 1",
            "line 1",
            "missing field `host`",
        ),
        ("[limits]\noperations = 0", "line 2", "at least 1"),
        ("[limits]\naddress-percent = 101", "line 2", "1 to 100"),
        ("[encryption]\nkey = \"x\"", "line 2", "unknown field `key`"),
        ("[audit]\nrepository = \"audit:514\"", "line 2", "tls://"),
        ("[web]\norigin = \"pacs.example\"", "line 2", "https://"),
        (
            "[web]\ncors-origins = [\"https://a.example/path\"]",
            "line 2",
            "https://",
        ),
        ("[log]\nfilter = \"pacs=loud\"", "line 2", "filter"),
        (
            "[[attribute]]\nlevel = \"study\"\npath = \"NoSuchKeyword\"",
            "line 3",
            "not an attribute",
        ),
        ("[log]\nformat = \"xml\"", "line 2", "unknown variant `xml`"),
    ];
    for (text, line, reason) in cases {
        let error = Config::parse(text).unwrap_err();
        assert!(
            error.contains(line) && error.contains(reason),
            "{text:?}: {error}"
        );
    }
}

#[test]
fn two_peers_of_one_ae_title_are_refused() {
    let peer = "[[peer]]\nae-title = \"A\"\nhost = \"h\"\nport = 1\n";
    assert!(
        Config::parse(&format!("{peer}{peer}"))
            .unwrap_err()
            .contains("ae-title \"A\"")
    );
}
