//! The association PDUs as bytes (PS3.8 9.3, PS3.7 annex D.3.3).
//!
//! Reading is lenient where the Standard says "shall not be tested" and where real peers differ (items
//! of unknown type, a rejected context without transfer syntax, padded UIDs), and strict in lengths:
//! every item lies within the one around it.

use bytes::{BufMut, Bytes, BytesMut};

use super::PRESENTATION_CONTEXTS_MAX;
use super::pdu::{
    Abort, AssociateAc, AssociateRq, ContextAnswer, ContextResult, EchoedFields, Pdu, ProposedContext,
    Rejection, pdu_type,
};
use super::user::{
    AsynchronousWindow, CommonExtendedNegotiation, ExtendedNegotiation, RoleSelection, UserIdentity,
    UserInformation, item,
};

/// Why bytes are not a PDU: what to abort with, and a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What the peer is told.
    pub abort: Abort,
    /// What is wrong.
    pub reason: &'static str,
}

impl Violation {
    pub(crate) const fn invalid(reason: &'static str) -> Self {
        Self {
            abort: Abort::INVALID_PARAMETER,
            reason,
        }
    }
}

const APPLICATION_CONTEXT_ITEM: u8 = 0x10;
const PROPOSED_CONTEXT_ITEM: u8 = 0x20;
const CONTEXT_ANSWER_ITEM: u8 = 0x21;
const ABSTRACT_SYNTAX_ITEM: u8 = 0x30;
const TRANSFER_SYNTAX_ITEM: u8 = 0x40;
const USER_INFORMATION_ITEM: u8 = 0x50;

/// A cursor over bytes that never reads past them.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Violation> {
        let (head, tail) = self
            .0
            .split_at_checked(length)
            .ok_or(Violation::invalid("an item reaches past the one around it"))?;
        self.0 = tail;
        Ok(head)
    }

    fn u8(&mut self) -> Result<u8, Violation> {
        Ok(self.take(1)?[0])
    }

    fn u16(&mut self) -> Result<u16, Violation> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn u32(&mut self) -> Result<u32, Violation> {
        let bytes = self.take(4)?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// A length of two bytes, then that many bytes.
    fn counted(&mut self) -> Result<&'a [u8], Violation> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }

    fn counted_text(&mut self) -> Result<String, Violation> {
        self.counted().map(text)
    }

    /// The next item: its type and its content.
    fn item(&mut self) -> Result<Option<(u8, Reader<'a>)>, Violation> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let kind = self.u8()?;
        self.u8()?;
        Ok(Some((kind, Reader(self.counted()?))))
    }
}

/// Text of ISO 646 without padding; what is not of it becomes "?", which stands in no UID.
fn text(bytes: &[u8]) -> String {
    // There may be thousands: those that are right are copied at once.
    if bytes.is_ascii()
        && let Ok(text) = std::str::from_utf8(bytes)
    {
        return text.trim_matches([' ', '\0']).to_owned();
    }
    let text: String = bytes
        .iter()
        .map(|byte| if byte.is_ascii() { char::from(*byte) } else { '?' })
        .collect();
    text.trim_matches([' ', '\0']).to_owned()
}

/// Reads the variable field of a PDU of `pdu_type`, which must not be P-DATA-TF.
///
/// # Errors
/// A violation, for which the association is to be aborted.
pub fn read_pdu(pdu_type: u8, body: &[u8]) -> Result<Pdu, Violation> {
    let mut reader = Reader(body);
    match pdu_type {
        pdu_type::ASSOCIATE_RQ => read_rq(reader).map(|rq| Pdu::AssociateRq(Box::new(rq))),
        pdu_type::ASSOCIATE_AC => read_ac(reader).map(|ac| Pdu::AssociateAc(Box::new(ac))),
        pdu_type::ASSOCIATE_RJ => {
            reader.u8()?;
            Ok(Pdu::AssociateRj(Rejection {
                result: reader.u8()?,
                source: reader.u8()?,
                reason: reader.u8()?,
            }))
        }
        pdu_type::RELEASE_RQ => reader.u32().map(|_| Pdu::ReleaseRq),
        pdu_type::RELEASE_RP => reader.u32().map(|_| Pdu::ReleaseRp),
        pdu_type::ABORT => {
            reader.u16()?;
            Ok(Pdu::Abort(Abort {
                source: reader.u8()?,
                reason: reader.u8()?,
            }))
        }
        _ => Err(Violation {
            abort: Abort::UNRECOGNIZED_PDU,
            reason: "a PDU of unknown type",
        }),
    }
}

/// The fields that both A-ASSOCIATE PDUs begin with (PS3.8 9.3.2, bytes 7 to 74).
struct Fixed {
    protocol_version: u16,
    echoed: EchoedFields,
}

fn read_fixed(reader: &mut Reader<'_>) -> Result<Fixed, Violation> {
    let protocol_version = reader.u16()?;
    reader.u16()?;
    let mut echoed = [0; 64];
    echoed.copy_from_slice(reader.take(64)?);
    Ok(Fixed {
        protocol_version,
        echoed,
    })
}

fn read_rq(mut reader: Reader<'_>) -> Result<AssociateRq, Violation> {
    let fixed = read_fixed(&mut reader)?;
    let mut rq = AssociateRq {
        protocol_version: fixed.protocol_version,
        called_ae_title: text(&fixed.echoed[..16]),
        calling_ae_title: text(&fixed.echoed[16..32]),
        echoed: Some(fixed.echoed),
        application_context: String::new(),
        contexts: Vec::new(),
        user: UserInformation::default(),
    };
    while let Some((kind, content)) = reader.item()? {
        match kind {
            APPLICATION_CONTEXT_ITEM => rq.application_context = text(content.0),
            PROPOSED_CONTEXT_ITEM => {
                if rq.contexts.len() == PRESENTATION_CONTEXTS_MAX {
                    return Err(Violation::invalid("more than 128 presentation contexts"));
                }
                rq.contexts.push(read_proposed(content)?);
            }
            USER_INFORMATION_ITEM => rq.user = read_user(content)?,
            _ => {}
        }
    }
    Ok(rq)
}

fn read_proposed(mut reader: Reader<'_>) -> Result<ProposedContext, Violation> {
    let id = reader.u8()?;
    reader.take(3)?;
    let mut context = ProposedContext {
        id,
        abstract_syntax: String::new(),
        transfer_syntaxes: Vec::new(),
    };
    while let Some((kind, content)) = reader.item()? {
        match kind {
            ABSTRACT_SYNTAX_ITEM => context.abstract_syntax = text(content.0),
            TRANSFER_SYNTAX_ITEM => context.transfer_syntaxes.push(text(content.0)),
            _ => {}
        }
    }
    Ok(context)
}

fn read_ac(mut reader: Reader<'_>) -> Result<AssociateAc, Violation> {
    let fixed = read_fixed(&mut reader)?;
    let mut ac = AssociateAc {
        protocol_version: fixed.protocol_version,
        echoed: fixed.echoed,
        application_context: String::new(),
        contexts: Vec::new(),
        user: UserInformation::default(),
    };
    while let Some((kind, mut content)) = reader.item()? {
        match kind {
            APPLICATION_CONTEXT_ITEM => ac.application_context = text(content.0),
            CONTEXT_ANSWER_ITEM => {
                if ac.contexts.len() == PRESENTATION_CONTEXTS_MAX {
                    return Err(Violation::invalid("more than 128 presentation contexts"));
                }
                let id = content.u8()?;
                content.u8()?;
                let result = ContextResult::from_code(content.u8()?);
                content.u8()?;
                let mut answer = ContextAnswer {
                    id,
                    result,
                    transfer_syntax: String::new(),
                };
                // When the context is not accepted, the sub-item isn't significant (PS3.8 9.3.3.2).
                if result == ContextResult::Acceptance {
                    while let Some((kind, content)) = content.item()? {
                        if kind == TRANSFER_SYNTAX_ITEM {
                            answer.transfer_syntax = text(content.0);
                        }
                    }
                }
                ac.contexts.push(answer);
            }
            USER_INFORMATION_ITEM => ac.user = read_user(content)?,
            _ => {}
        }
    }
    Ok(ac)
}

fn read_user(mut reader: Reader<'_>) -> Result<UserInformation, Violation> {
    let mut user = UserInformation::default();
    while let Some((kind, mut content)) = reader.item()? {
        match kind {
            item::MAXIMUM_LENGTH => user.maximum_length = content.u32()?,
            item::IMPLEMENTATION_CLASS_UID => user.implementation_class_uid = text(content.0),
            item::IMPLEMENTATION_VERSION => user.implementation_version = text(content.0),
            item::ASYNCHRONOUS_WINDOW => {
                user.asynchronous = Some(AsynchronousWindow {
                    invoked: content.u16()?,
                    performed: content.u16()?,
                });
            }
            item::ROLE_SELECTION => user.roles.push(RoleSelection {
                sop_class: content.counted_text()?,
                scu: content.u8()? != 0,
                scp: content.u8()? != 0,
            }),
            item::EXTENDED => user.extended.push(ExtendedNegotiation {
                sop_class: content.counted_text()?,
                information: Bytes::copy_from_slice(content.0),
            }),
            item::COMMON_EXTENDED => {
                let mut common = CommonExtendedNegotiation {
                    sop_class: content.counted_text()?,
                    service_class: content.counted_text()?,
                    related: Vec::new(),
                };
                let mut related = Reader(content.counted()?);
                while !related.0.is_empty() {
                    common.related.push(related.counted_text()?);
                }
                user.common_extended.push(common);
            }
            item::USER_IDENTITY => {
                user.identity = Some(UserIdentity {
                    kind: content.u8()?,
                    response_requested: content.u8()? != 0,
                    primary: Bytes::copy_from_slice(content.counted()?),
                    secondary: Bytes::copy_from_slice(content.counted()?),
                });
            }
            item::USER_IDENTITY_RESPONSE => {
                user.identity_response = Some(Bytes::copy_from_slice(content.counted()?));
            }
            _ => {}
        }
    }
    Ok(user)
}

/// Writes a whole PDU.
///
/// # Errors
/// A violation when a text or item is longer than its length field can say.
pub fn write_pdu(pdu: &Pdu) -> Result<Bytes, Violation> {
    let mut out = BytesMut::new();
    match pdu {
        Pdu::AssociateRq(rq) => pdu_of(&mut out, pdu_type::ASSOCIATE_RQ, |out| {
            let titles = title_fields(&rq.called_ae_title, &rq.calling_ae_title);
            write_fixed(out, rq.protocol_version, &titles);
            text_item(out, APPLICATION_CONTEXT_ITEM, &rq.application_context)?;
            for context in &rq.contexts {
                item_of(out, PROPOSED_CONTEXT_ITEM, |out| {
                    out.put_slice(&[context.id, 0, 0, 0]);
                    text_item(out, ABSTRACT_SYNTAX_ITEM, &context.abstract_syntax)?;
                    context
                        .transfer_syntaxes
                        .iter()
                        .try_for_each(|syntax| text_item(out, TRANSFER_SYNTAX_ITEM, syntax))
                })?;
            }
            write_user(out, &rq.user)
        })?,
        Pdu::AssociateAc(ac) => pdu_of(&mut out, pdu_type::ASSOCIATE_AC, |out| {
            write_fixed(out, ac.protocol_version, &ac.echoed);
            text_item(out, APPLICATION_CONTEXT_ITEM, &ac.application_context)?;
            for context in &ac.contexts {
                item_of(out, CONTEXT_ANSWER_ITEM, |out| {
                    out.put_slice(&[context.id, 0, context.result.code(), 0]);
                    text_item(out, TRANSFER_SYNTAX_ITEM, &context.transfer_syntax)
                })?;
            }
            write_user(out, &ac.user)
        })?,
        Pdu::AssociateRj(rejection) => out.put_slice(&[
            pdu_type::ASSOCIATE_RJ,
            0,
            0,
            0,
            0,
            4,
            0,
            rejection.result,
            rejection.source,
            rejection.reason,
        ]),
        Pdu::ReleaseRq => out.put_slice(&[pdu_type::RELEASE_RQ, 0, 0, 0, 0, 4, 0, 0, 0, 0]),
        Pdu::ReleaseRp => out.put_slice(&[pdu_type::RELEASE_RP, 0, 0, 0, 0, 4, 0, 0, 0, 0]),
        Pdu::Abort(abort) => out.put_slice(&abort_bytes(*abort)),
    }
    Ok(out.freeze())
}

/// A whole A-ABORT PDU.
pub fn abort_bytes(abort: Abort) -> [u8; 10] {
    [pdu_type::ABORT, 0, 0, 0, 0, 4, 0, 0, abort.source, abort.reason]
}

type Written = Result<(), Violation>;

fn pdu_of(out: &mut BytesMut, kind: u8, body: impl FnOnce(&mut BytesMut) -> Written) -> Written {
    out.put_slice(&[kind, 0, 0, 0, 0, 0]);
    body(out)?;
    let length = u32::try_from(out.len() - 6).map_err(|_| Violation::invalid("a PDU above 4 GiB"))?;
    out[2..6].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

/// Two bytes of length, put in after `body` has written what they count.
fn counted_of(out: &mut BytesMut, body: impl FnOnce(&mut BytesMut) -> Written) -> Written {
    let at = out.len();
    out.put_u16(0);
    body(out)?;
    let length = u16::try_from(out.len() - at - 2)
        .map_err(|_| Violation::invalid("an item longer than its length field can say"))?;
    out[at..at + 2].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

fn item_of(out: &mut BytesMut, kind: u8, body: impl FnOnce(&mut BytesMut) -> Written) -> Written {
    out.put_slice(&[kind, 0]);
    counted_of(out, body)
}

fn bytes_of(out: &mut BytesMut, bytes: &[u8]) -> Written {
    counted_of(out, |out| {
        out.put_slice(bytes);
        Ok(())
    })
}

fn text_item(out: &mut BytesMut, kind: u8, text: &str) -> Written {
    out.put_slice(&[kind, 0]);
    bytes_of(out, text.as_bytes())
}

/// The fields of a request with these AE titles.
pub(super) fn title_fields(called: &str, calling: &str) -> EchoedFields {
    let mut fields = [0; 64];
    for (field, title) in fields.chunks_exact_mut(16).zip([called, calling]) {
        let padded = title.bytes().chain(std::iter::repeat(b' '));
        field.iter_mut().zip(padded).for_each(|(to, from)| *to = from);
    }
    fields
}

fn write_fixed(out: &mut BytesMut, version: u16, echoed: &EchoedFields) {
    out.put_u16(version);
    out.put_u16(0);
    out.put_slice(echoed);
}

fn write_user(out: &mut BytesMut, user: &UserInformation) -> Written {
    item_of(out, USER_INFORMATION_ITEM, |out| {
        item_of(out, item::MAXIMUM_LENGTH, |out| {
            out.put_u32(user.maximum_length);
            Ok(())
        })?;
        text_item(
            out,
            item::IMPLEMENTATION_CLASS_UID,
            &user.implementation_class_uid,
        )?;
        if let Some(window) = user.asynchronous {
            item_of(out, item::ASYNCHRONOUS_WINDOW, |out| {
                out.put_u16(window.invoked);
                out.put_u16(window.performed);
                Ok(())
            })?;
        }
        for role in &user.roles {
            item_of(out, item::ROLE_SELECTION, |out| {
                bytes_of(out, role.sop_class.as_bytes())?;
                out.put_slice(&[role.scu.into(), role.scp.into()]);
                Ok(())
            })?;
        }
        if !user.implementation_version.is_empty() {
            text_item(out, item::IMPLEMENTATION_VERSION, &user.implementation_version)?;
        }
        for extended in &user.extended {
            item_of(out, item::EXTENDED, |out| {
                bytes_of(out, extended.sop_class.as_bytes())?;
                out.put_slice(&extended.information);
                Ok(())
            })?;
        }
        for common in &user.common_extended {
            item_of(out, item::COMMON_EXTENDED, |out| {
                bytes_of(out, common.sop_class.as_bytes())?;
                bytes_of(out, common.service_class.as_bytes())?;
                counted_of(out, |out| {
                    common
                        .related
                        .iter()
                        .try_for_each(|uid| bytes_of(out, uid.as_bytes()))
                })
            })?;
        }
        if let Some(identity) = &user.identity {
            item_of(out, item::USER_IDENTITY, |out| {
                out.put_slice(&[identity.kind, identity.response_requested.into()]);
                bytes_of(out, &identity.primary)?;
                bytes_of(out, &identity.secondary)
            })?;
        }
        if let Some(response) = &user.identity_response {
            item_of(out, item::USER_IDENTITY_RESPONSE, |out| bytes_of(out, response))?;
        }
        Ok(())
    })
}
