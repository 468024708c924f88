//! Messages as XML: the schema of PS3.15 A.5.1, any text made fit for it, and a bound on the length.

use super::object::{Description, Group, Named, Object, SopClass};
use super::{
    ACCESSION_NUMBERS_MAX, AuditSource, Code, Message, PARTICIPANTS_MAX, Participant, SOP_CLASSES_MAX,
    TYPES_MAX,
};
use crate::dataset::base64;
use crate::limits::{
    AUDIT_DOCUMENT_LENGTH_MAX_BYTES, AUDIT_QUERY_LENGTH_MAX_BYTES, AUDIT_TEXT_LENGTH_MAX_BYTES,
};

const END: &str = "</AuditMessage>";

/// The message as documents, none longer than it may be.
pub(super) fn documents(message: &Message, source: &AuditSource) -> Vec<String> {
    let head = head(message, source);
    let room = AUDIT_DOCUMENT_LENGTH_MAX_BYTES - head.len() - END.len();
    plan(&message.groups, room)
        .into_iter()
        .map(|(objects, used)| {
            let mut out = head.clone();
            let mut spare = room - used;
            for object in objects {
                write_object(&mut out, object, &mut spare);
            }
            out.push_str(END);
            out
        })
        .collect()
}

/// Which objects stand in which document, and how long they are without SOP Instance UIDs.
fn plan(groups: &[Group], room: usize) -> Vec<(Vec<&Object>, usize)> {
    let mut documents: Vec<(Vec<&Object>, usize)> = vec![(Vec::new(), 0)];
    for group in groups {
        let repeated = group.repeated.as_ref();
        let repeated_length = repeated.map_or(0, length);
        let mut is_there = false;
        // A group without objects of its own is there by what is repeated.
        let objects = group.objects.iter().map(Some);
        let objects = objects.chain(group.objects.is_empty().then_some(None));
        for object in objects {
            let own = object.map_or(0, length);
            let needed = own + if is_there { 0 } else { repeated_length };
            let is_full = documents
                .last()
                .is_some_and(|(on, used)| !on.is_empty() && used + needed > room);
            if is_full {
                documents.push((Vec::new(), 0));
                is_there = false;
            }
            let Some((on, used)) = documents.last_mut() else {
                continue;
            };
            if !is_there {
                on.extend(repeated);
                *used += repeated_length;
                is_there = true;
            }
            on.extend(object);
            *used += own;
        }
    }
    documents
}

/// How long an object is without SOP Instance UIDs.
fn length(object: &Object) -> usize {
    let mut out = String::new();
    write_object(&mut out, object, &mut 0);
    out.len()
}

fn head(message: &Message, source: &AuditSource) -> String {
    let mut out =
        String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?><AuditMessage><EventIdentification");
    attribute(&mut out, "EventActionCode", message.action.code());
    attribute(&mut out, "EventDateTime", &message.time.rfc3339());
    attribute(
        &mut out,
        "EventOutcomeIndicator",
        message.outcome.indicator.code(),
    );
    out.push('>');
    coded(&mut out, "EventID", &message.event);
    for code in message.types.iter().take(TYPES_MAX) {
        coded(&mut out, "EventTypeCode", code);
    }
    if let Some(description) = &message.outcome.description {
        element(&mut out, "EventOutcomeDescription", description);
    }
    out.push_str("</EventIdentification>");
    for participant in message.participants.iter().take(PARTICIPANTS_MAX) {
        write_participant(&mut out, participant);
    }
    if message.participants.is_empty() {
        // The schema wants one: who reports is known always.
        write_participant(&mut out, &Participant::person(source.id.as_str()));
    }
    out.push_str("<AuditSourceIdentification");
    if let Some(site) = &source.site {
        attribute(&mut out, "AuditEnterpriseSiteID", site);
    }
    attribute(&mut out, "AuditSourceID", &source.id);
    // An application server process (PS3.15 A.5.1.2.1): what a PACS may say of itself (table A.5.2-1).
    out.push_str("><AuditSourceTypeCode csd-code=\"4\"/></AuditSourceIdentification>");
    out
}

fn write_participant(out: &mut String, participant: &Participant) {
    out.push_str("<ActiveParticipant");
    attribute(out, "UserID", &participant.user_id);
    if let Some(id) = &participant.alternative_id {
        attribute(out, "AlternativeUserID", id);
    }
    if let Some(name) = &participant.name {
        attribute(out, "UserName", name);
    }
    attribute(out, "UserIsRequestor", boolean(participant.is_requestor));
    if let Some(at) = &participant.access_point {
        attribute(out, "NetworkAccessPointID", &at.id());
        attribute(out, "NetworkAccessPointTypeCode", at.type_code());
    }
    if participant.roles.is_empty() && participant.media.is_none() {
        out.push_str("/>");
        return;
    }
    out.push('>');
    for role in &participant.roles {
        coded(out, "RoleIDCode", role);
    }
    if let Some(media) = &participant.media {
        out.push_str("<MediaIdentifier>");
        coded(out, "MediaType", media);
        out.push_str("</MediaIdentifier>");
    }
    out.push_str("</ActiveParticipant>");
}

/// Writes an object, with as many SOP Instance UIDs as there is `spare` room for.
fn write_object(out: &mut String, object: &Object, spare: &mut usize) {
    out.push_str("<ParticipantObjectIdentification");
    attribute(out, "ParticipantObjectID", &object.id);
    attribute(out, "ParticipantObjectTypeCode", object.type_code);
    if let Some(role) = object.role {
        attribute(out, "ParticipantObjectTypeCodeRole", role);
    }
    out.push('>');
    coded(out, "ParticipantObjectIDTypeCode", &object.id_type);
    let mut query_length = None;
    match &object.named {
        Named::Name(name) => element(out, "ParticipantObjectName", name),
        Named::Query(query) => {
            let shown = &query[..query.len().min(AUDIT_QUERY_LENGTH_MAX_BYTES)];
            out.push_str("<ParticipantObjectQuery>");
            binary(out, shown);
            out.push_str("</ParticipantObjectQuery>");
            query_length = (shown.len() < query.len()).then(|| query.len().to_string());
        }
    }
    let details = object
        .details
        .iter()
        .map(|(kind, value)| (*kind, value.as_slice()));
    let cut = query_length
        .as_ref()
        .map(|length| ("QueryLength", length.as_bytes()));
    for (kind, value) in details.chain(cut) {
        out.push_str("<ParticipantObjectDetail");
        attribute(out, "type", kind);
        out.push_str(" value=\"");
        binary(out, &value[..value.len().min(AUDIT_TEXT_LENGTH_MAX_BYTES)]);
        out.push_str("\"/>");
    }
    if !object.description.is_empty() {
        describe(out, &object.description, spare);
    }
    out.push_str("</ParticipantObjectIdentification>");
}

fn describe(out: &mut String, description: &Description, spare: &mut usize) {
    out.push_str("<ParticipantObjectDescription>");
    for uid in description.performed_steps.iter().take(ACCESSION_NUMBERS_MAX) {
        out.push_str("<MPPS");
        attribute(out, "UID", uid.as_str());
        out.push_str("/>");
    }
    for number in description.accession_numbers.iter().take(ACCESSION_NUMBERS_MAX) {
        out.push_str("<Accession");
        attribute(out, "Number", number);
        out.push_str("/>");
    }
    let (named, rest) = description
        .classes
        .split_at(description.classes.len().min(SOP_CLASSES_MAX));
    for class in named {
        write_class(out, class, spare);
    }
    if !rest.is_empty() {
        // Those of further classes are counted together: the schema doesn't want the UID.
        let rest = SopClass {
            uid: None,
            count: rest.iter().map(|class| class.count).sum(),
            instances: Vec::new(),
        };
        write_class(out, &rest, spare);
    }
    if let Some(encrypted) = description.encrypted {
        element(out, "Encrypted", boolean(encrypted));
    }
    if let Some(anonymized) = description.anonymized {
        element(out, "Anonymized", boolean(anonymized));
    }
    out.push_str("</ParticipantObjectDescription>");
}

fn write_class(out: &mut String, class: &SopClass, spare: &mut usize) {
    const END: &str = "></SOPClass>";
    out.push_str("<SOPClass");
    if let Some(uid) = &class.uid {
        attribute(out, "UID", uid.as_str());
    }
    attribute(out, "NumberOfInstances", &class.count.to_string());
    let mut instances = String::new();
    for uid in &class.instances {
        let before = instances.len();
        instances.push_str("<Instance");
        attribute(&mut instances, "UID", uid.as_str());
        instances.push_str("/>");
        if instances.len() + END.len() > *spare {
            instances.truncate(before);
            break;
        }
    }
    if instances.is_empty() {
        out.push_str("/>");
    } else {
        *spare -= instances.len() + END.len();
        out.push('>');
        out.push_str(&instances);
        out.push_str(&END[1..]);
    }
}

fn coded(out: &mut String, name: &str, code: &Code) {
    out.push('<');
    out.push_str(name);
    attribute(out, "csd-code", &code.value);
    attribute(out, "codeSystemName", &code.scheme);
    attribute(out, "originalText", &code.meaning);
    out.push_str("/>");
}

fn boolean(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

fn binary(out: &mut String, bytes: &[u8]) {
    let mut text = Vec::new();
    base64::encode(bytes, &mut text);
    // Its letters are ASCII.
    out.push_str(std::str::from_utf8(&text).unwrap_or_default());
}

fn attribute(out: &mut String, name: &str, value: &str) {
    out.push(' ');
    out.push_str(name);
    out.push_str("=\"");
    escape(out, value);
    out.push('"');
}

fn element(out: &mut String, name: &str, text: &str) {
    for piece in ["<", name, ">"] {
        out.push_str(piece);
    }
    escape(out, text);
    for piece in ["</", name, ">"] {
        out.push_str(piece);
    }
}

/// What stands where a text was cut.
const CUT: &str = "…";

/// Writes text as a value of an attribute or an element, cut to [`AUDIT_TEXT_LENGTH_MAX_BYTES`] as it is written.
///
/// A character that XML 1.0 doesn't have (2.2: most control characters, U+FFFE, U+FFFF) becomes U+FFFD. White space that
/// a parser would make a blank of (3.3.3) is written as a reference.
fn escape(out: &mut String, text: &str) {
    let begin = out.len();
    // Where it is cut if it turns out to be too long.
    let mut end = begin;
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\t' => out.push_str("&#9;"),
            '\n' => out.push_str("&#10;"),
            '\r' => out.push_str("&#13;"),
            '\u{0}'..='\u{1F}' | '\u{FFFE}' | '\u{FFFF}' => out.push('\u{FFFD}'),
            // Allowed, and discouraged; a terminal would obey them (XML 1.0 2.2).
            '\u{7F}'..='\u{9F}' => out.push('\u{FFFD}'),
            c => out.push(c),
        }
        let length = out.len() - begin;
        if length > AUDIT_TEXT_LENGTH_MAX_BYTES {
            out.truncate(end);
            out.push_str(CUT);
            return;
        }
        if length + CUT.len() <= AUDIT_TEXT_LENGTH_MAX_BYTES {
            end = out.len();
        }
    }
}
