use std::collections::BTreeSet;

use pacs_core::AeTitle;

use super::*;
use crate::scp::Destination;

fn options() -> ScpOptions {
    let mut options = ScpOptions::new(AeTitle::parse("ARCHIVE").unwrap());
    options.destinations.push(Destination {
        ae_title: AeTitle::parse("WORK|STATION").unwrap(),
        host: "workstation.example".to_owned(),
        port: 104,
        associations: 2,
        tls: None,
    });
    options
}

fn statement(change: impl FnOnce(&mut Statement<'_>)) -> String {
    let (options, attributes) = (options(), AttributeSet::default());
    let mut statement = Statement::new("Product", "1.0", &options, Limits::default(), &attributes);
    change(&mut statement);
    statement.to_markdown()
}

#[test]
fn every_abstract_syntax_of_the_policy_is_named_once_with_its_name() {
    let text = statement(|_| {});
    let policy = accept_policy(&options(), true);
    for uid in policy.contexts.keys().copied().chain(storage_classes()) {
        let rows: Vec<&str> = text
            .lines()
            .filter(|line| line.contains(&format!("| {} |", code(uid.as_str()))))
            .collect();
        assert_eq!(rows.len(), 1, "{uid}");
        assert!(
            rows[0].starts_with(&format!("| {} |", names::sop_class(&uid))),
            "{uid}"
        );
        assert!(!rows[0].contains("not in the dictionary"), "{uid}");
    }
}

#[test]
fn what_a_policy_accepts_and_no_row_knows_is_there_by_itself() {
    let unknown = Uid::constant("1.2.3.4.5");
    let worklist = Uid::constant(dicom_dictionary_std::uids::MODALITY_WORKLIST_INFORMATION_MODEL_FIND);
    let rule = || ContextRule::preferred(crate::scu::NATIVE);
    let policy = accept_policy(&options(), true)
        .with_context(unknown, rule())
        .with_context(worklist, rule());
    let offered = offered(&policy);
    let of = |uid: Uid| {
        let classes = offered
            .iter()
            .filter(|of| of.sop_classes.iter().any(|(other, _)| *other == uid));
        classes.map(|of| of.class.name).collect::<Vec<_>>()
    };
    assert_eq!(of(unknown), ["Further services"]);
    assert_eq!(of(worklist), ["Modality Worklist"]);
    let mut out = Document::default();
    services(&mut out, &offered);
    let text = out.finish();
    assert!(
        text.contains("`1.2.3.4.5`") && text.contains("Modality Worklist Information Model - FIND"),
        "{text}"
    );
}

/// The headings, each with what follows it up to the next of its level or above.
fn sections(text: &str) -> Vec<(usize, &str, String)> {
    let lines: Vec<&str> = text.lines().collect();
    let level = |line: &str| {
        line.starts_with('#')
            .then(|| line.bytes().take_while(|b| *b == b'#').count())
    };
    let headings = (0..lines.len()).filter_map(|at| Some((at, level(lines[at])?)));
    let section = |(at, of): (usize, usize)| {
        let below = lines[at + 1..]
            .iter()
            .take_while(|line| level(line).is_none_or(|level| level > of));
        (of, lines[at], below.copied().collect::<Vec<_>>().join("\n"))
    };
    headings.map(section).collect()
}

#[test]
fn no_heading_is_empty_or_there_twice_and_tables_are_whole() {
    let bare = statement(|_| {});
    let full = statement(|statement| {
        statement.security = vec!["TLS".to_owned()];
        statement.configuration = vec![("a|b".to_owned(), "c\nd".to_owned())];
        #[cfg(feature = "web")]
        {
            static OPTIONS: std::sync::OnceLock<WebOptions> = std::sync::OnceLock::new();
            statement.web = Some(OPTIONS.get_or_init(WebOptions::default));
        }
    });
    for text in [&bare, &full] {
        let mut known = BTreeSet::new();
        for (level, heading, below) in sections(text) {
            assert!(!below.trim().is_empty(), "{heading}");
            assert!(known.insert(heading), "{heading}");
            assert!(level <= 4, "{heading}");
        }
        let mut columns = None;
        for line in text.lines() {
            if !line.starts_with('|') {
                columns = None;
                continue;
            }
            let bars = line.replace("\\|", "").matches('|').count();
            assert_eq!(*columns.get_or_insert(bars), bars, "{line}");
        }
    }
    assert!(full.contains("WORK\\|STATION") && full.contains("| a\\|b | c d |"));
    #[cfg(feature = "web")]
    {
        assert!(bare.contains("Nothing is offered over HTTP"));
        for transaction in crate::web::transactions(false, true) {
            assert!(full.contains(&format!("`{} {}`", transaction.method, transaction.path)));
        }
        assert!(!full.contains("`DELETE /studies"));
    }
}

#[test]
fn statuses_and_character_sets_are_those_of_the_code() {
    let text = statement(|_| {});
    let row = |begin: &str| text.lines().any(|line| line.starts_with(begin));
    for (request, status) in [
        ("C-STORE-RQ", "0000"),
        ("C-STORE-RQ", "A700"),
        ("C-STORE-RQ", "A900"),
        ("C-STORE-RQ", "B007"),
        ("C-FIND-RQ", "FF01"),
        ("C-MOVE-RQ", "A801"),
        ("C-GET-RQ", "FE00"),
    ] {
        assert!(row(&format!("| {request} | `{status}` |")), "{request} {status}");
    }
    for term in [
        "ISO_IR 100",
        "ISO_IR 192",
        "ISO 2022 IR 87",
        "ISO 2022 IR 149",
        "GB18030",
        "GBK",
    ] {
        assert!(text.contains(&format!("- `{term}`\n")), "{term}");
    }
    assert!(!text.contains("`ISO_IR 87`"));
    assert!(row("| StudyInstanceUID | `(0020,000D)` | UI | unique |"));
    assert!(row("| ModalitiesInStudy | `(0008,0061)` | CS |"));
}
