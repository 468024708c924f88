//! Any text as a file of settings: routes, a mapping of HL7 messages, a profile of de-identification, what a server's
//! configuration has of peers, TLS, attributes and encryption. It says what it means, or the error says what is wrong.
//!
//! Run with `cargo fuzz run -s none settings -- -dict=dictionaries/settings.dict`.

#![no_main]

use std::sync::{Arc, LazyLock};

use dicom_core::VR;
use dicom_dictionary_std::tags;
use libfuzzer_sys::fuzz_target;
use pacs_core::archive::Timestamp;
use pacs_core::query::AttributeSet;
use pacs_core::route::{Checked, Occasion, Router, Rule, Rules, Trigger};
use pacs_core::{DataSet, Source, deid};
use pacs_net::deliver::Routes;
use pacs_net::hl7::{Mapping, Message};
use pacs_net::settings::{Peer, Tls};
use pacs_store::embedded::{Attribute, Encryption, Settings};
use serde::Deserialize;

/// What a configuration holds for the library.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Server {
    peer: Vec<Peer>,
    tls: Tls,
    attribute: Vec<Attribute>,
    encryption: Option<Encryption>,
}

static MESSAGE: LazyLock<Message> = LazyLock::new(|| {
    let lines = [
        "MSH|^~\\&|A|B|C|D|20240101101500||ORM^O01|1|P|2.5",
        "PID|1||1234^^^HOSP~99^^^X||Doe^Jane^^^Dr||19700101|F",
        "ORC|NW|P1|F1|||||20240101",
        "OBR|1|P1|F1|CT^Chest^L||||||||||||||ACC1",
    ];
    Message::from_text(&lines.join("\r")).expect("a message")
});

/// Asks each rule about an order for the patient.
fn route(rules: &[Rule]) {
    let rules = Rules::new(rules.to_vec()).expect("rules that were checked");
    let (source, attributes) = (Source::default(), AttributeSet::default());
    let header = || {
        let mut header = DataSet::new();
        header.put_text(tags::PATIENT_ID, VR::LO, "1234");
        header.put_text(tags::MODALITY, VR::CS, "CT\\SR");
        header.put_text(tags::STUDY_DESCRIPTION, VR::LO, "Chest");
        Ok(Arc::new(header))
    };
    for trigger in Trigger::ALL {
        let occasion = Occasion {
            trigger,
            record: None,
            source: &source,
            fetched: false,
            at: Timestamp(1_700_000_000_000),
            attributes: &attributes,
            header: &header,
        };
        let deliveries = rules.route(&occasion);
        let explained = rules.explain(&occasion);
        assert_eq!(deliveries.is_ok(), explained.is_ok());
        if let (Ok(deliveries), Ok(explained)) = (deliveries, explained) {
            let applies = |checked: &[Checked]| checked.iter().all(|checked| checked.holds);
            let any = explained.iter().any(|(_, checked)| applies(checked));
            assert!(any || deliveries.is_empty());
        }
    }
}

/// The secret of a profile, where nothing else in it is the same text.
fn secret(text: &str) -> Option<String> {
    let table: toml::Table = toml::from_str(text).ok()?;
    let secret = table.get("secret")?.as_str()?;
    let is_alone = secret.starts_with("s3cret") && text.matches(secret).count() == 1;
    is_alone.then(|| secret.to_owned())
}

fuzz_target!(|input: &[u8]| {
    let [what, text @ ..] = input else {
        return;
    };
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    match what % 4 {
        0 => {
            if let Ok(routes) = toml::from_str::<Routes>(text)
                && let Ok(routes) = routes.among(&[], &["own"])
            {
                route(routes.rules());
            }
        }
        1 => {
            if let Ok(mapping) = toml::from_str::<Mapping>(text) {
                let _ = mapping.patient.apply(&MESSAGE);
                let _ = mapping.order.apply(&MESSAGE);
            }
        }
        2 => {
            if let Ok(settings) = toml::from_str::<deid::Settings>(text) {
                let _ = settings.deidentifier();
                assert!(secret(text).is_none_or(|secret| !format!("{settings:?}").contains(&secret)));
            }
        }
        _ => {
            let Ok(server) = toml::from_str::<Server>(text) else {
                return;
            };
            assert!(
                server
                    .peer
                    .iter()
                    .all(|peer| peer.port > 0 && !peer.host.is_empty())
            );
            let _ = Peer::twice(&server.peer);
            let _ = server.tls.required();
            let settings = Settings {
                attributes: server.attribute,
                ..Settings::default()
            };
            let _ = settings.attribute_set();
            if let Some(encryption) = server.encryption {
                // The program of a command is not run by that.
                let _ = encryption.provider();
            }
        }
    }
});
