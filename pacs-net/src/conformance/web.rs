//! DICOMweb: what the service tells of itself by Retrieve Capabilities, and its status codes.

use pacs_core::{Error, ErrorKind};

use super::markdown::{Document, code};
use crate::web::{WebOptions, transactions};

pub(super) fn write(out: &mut Document, number: usize, options: Option<&WebOptions>, ledger: bool) {
    out.heading(3, &format!("4.{number} DICOMweb (PS3.18)"));
    let Some(options) = options else {
        out.text("Nothing is offered over HTTP.");
        return;
    };
    out.text(&format!(
        "As origin server, below `{}`; `OPTIONS` there answers the same (Retrieve Capabilities, PS3.18 8.9). Text is in \
         UTF-8.",
        options.path
    ));
    let row = |transaction: &crate::web::Transaction| {
        let cell = |all: &[&str]| all.iter().map(code).collect::<Vec<_>>().join(", ");
        [
            transaction.name.to_owned(),
            code(format!("{} {}", transaction.method, transaction.path)),
            cell(transaction.parameters),
            cell(transaction.takes),
            cell(transaction.gives),
        ]
    };
    out.table(
        ["Transaction", "Resource", "Query parameters", "Takes", "Gives"],
        transactions(options.delete, ledger).iter().map(row),
    );
    let mut statuses: Vec<(u16, Vec<&str>)> = Vec::new();
    for kind in ErrorKind::ALL {
        let status = Error::new(kind, "conformance.status", "").http_status();
        match statuses.iter_mut().find(|(known, _)| *known == status) {
            Some((_, meanings)) => meanings.push(kind.meaning()),
            None => statuses.push((status, vec![kind.meaning()])),
        }
    }
    statuses.sort_unstable();
    out.text("Failures have a body of `application/problem+json` (RFC 9457):");
    let rows = statuses
        .into_iter()
        .map(|(status, meanings)| [code(status.to_string()), meanings.join("; ")]);
    out.table(["Status", "Meaning"], rows);
}
