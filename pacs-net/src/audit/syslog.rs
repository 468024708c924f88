//! A message of audit as a syslog message (RFC 5424), and before it its length.

use pacs_core::audit::Recorded;

/// Who sends: what stands in the header of each message (RFC 5424 6.2). What isn't printable ASCII becomes `_`, and what is too long
/// is cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    hostname: String,
    application: String,
    process: String,
}

impl Origin {
    /// A process of an application on a host.
    pub fn new(hostname: &str, application: &str, process_id: u32) -> Self {
        Self {
            hostname: field(hostname, 255),
            application: field(application, 48),
            process: process_id.to_string(),
        }
    }
}

/// A field of a header; one without a value is `-`.
fn field(text: &str, length_max: usize) -> String {
    let printable = |c: char| if c.is_ascii_graphic() { c } else { '_' };
    let text: String = text.chars().map(printable).take(length_max).collect();
    if text.is_empty() { "-".to_owned() } else { text }
}

/// Facility 10 (security), severity 5 (PS3.15 A.6).
const PRIORITY: u8 = 10 * 8 + 5;

/// Says that a message is of PS3.15 A.5 (PS3.15 A.6, A.7).
const MESSAGE_ID: &str = "DICOM+RFC3881";

/// Says that what follows is UTF-8 (RFC 5424 6.4).
const BYTE_ORDER_MARK: &str = "\u{FEFF}";

/// The whole message. Its time is that of the record, whenever it is sent (RFC 5424 6.2.3).
pub(super) fn message(origin: &Origin, recorded: &Recorded) -> Vec<u8> {
    let Origin {
        hostname,
        application,
        process,
    } = origin;
    let time = recorded.time.rfc3339();
    let header =
        format!("<{PRIORITY}>1 {time} {hostname} {application} {process} {MESSAGE_ID} - {BYTE_ORDER_MARK}");
    let mut message = Vec::with_capacity(header.len() + recorded.document.len());
    message.extend_from_slice(header.as_bytes());
    message.extend_from_slice(&recorded.document);
    message
}

/// A message with its length before it (RFC 5425 4.3, RFC 6587 3.4.1).
pub(super) fn counted(message: &[u8]) -> Vec<u8> {
    let mut counted = format!("{} ", message.len()).into_bytes();
    counted.extend_from_slice(message);
    counted
}

#[cfg(test)]
mod tests {
    use pacs_core::Timestamp;
    use pacs_core::limits::AUDIT_DOCUMENT_LENGTH_MAX_BYTES;

    use super::*;

    fn recorded(document: &str) -> Recorded {
        Recorded {
            sequence: 1,
            time: Timestamp(1_767_323_045_678),
            document: document.to_owned().into(),
        }
    }

    #[test]
    fn a_message_has_the_header_that_the_standard_asks_for() {
        let message = message(&Origin::new("pacs.example", "pacs-server", 42), &recorded("<é/>"));
        let expected =
            "<85>1 2026-01-02T03:04:05.678Z pacs.example pacs-server 42 DICOM+RFC3881 - \u{FEFF}<é/>";
        assert_eq!(String::from_utf8(message.clone()).unwrap(), expected);
        assert!(counted(&message).starts_with(format!("{} <85>1 ", expected.len()).as_bytes()));
    }

    #[test]
    fn no_name_makes_a_header_of_another_form_or_a_message_too_long() {
        let origin = Origin::new("a b\nÄ", "", 1);
        let odd = message(&origin, &recorded(""));
        assert!(
            String::from_utf8(odd)
                .unwrap()
                .contains("Z a_b__ - 1 DICOM+RFC3881 - ")
        );
        let origin = Origin::new(&"h".repeat(999), &"a".repeat(999), u32::MAX);
        let longest = message(&origin, &recorded(&"x".repeat(AUDIT_DOCUMENT_LENGTH_MAX_BYTES)));
        assert!(longest.len() <= 32_768, "{}", longest.len());
    }
}
