//! What an acceptor answers to a proposal: [`AcceptPolicy`], a pure function from an
//! [`AssociateRq`] to an [`AssociateAc`] or a [`Rejection`].

use std::collections::HashMap;

use pacs_core::{AeTitle, Uid};

use super::codec::title_fields;
use super::pdu::{AssociateAc, AssociateRq, ContextAnswer, ContextResult, Rejection};
use super::user::{AsynchronousWindow, ExtendedNegotiation, RoleSelection, UserInformation};
use super::{DICOM_APPLICATION_CONTEXT, PEER_MAXIMUM_LENGTH_MIN_BYTES};

/// Which transfer syntax is chosen of those proposed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransferSyntaxes {
    /// The first of these that the peer proposes.
    Preferred(Vec<Uid>),
    /// The first of these that the peer proposes, else the first that it proposes.
    PreferredOrProposed(Vec<Uid>),
    /// The first that the peer proposes, whatever it is: for data that passes through untouched.
    AsProposed,
}

/// How presentation contexts of one abstract syntax are answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextRule {
    /// The transfer syntax.
    pub transfer_syntaxes: TransferSyntaxes,
    /// The requestor may be SCU: we are SCP. True for nearly every service.
    pub requestor_scu: bool,
    /// The requestor may be SCP, by role selection: we are SCU (C-GET, storage commitment).
    pub requestor_scp: bool,
}

impl ContextRule {
    /// We are SCP alone, with the first of these transfer syntaxes that the peer proposes.
    pub fn preferred(transfer_syntaxes: impl IntoIterator<Item = Uid>) -> Self {
        Self {
            transfer_syntaxes: TransferSyntaxes::Preferred(transfer_syntaxes.into_iter().collect()),
            requestor_scu: true,
            requestor_scp: false,
        }
    }

    /// We are SCP alone, with the transfer syntax that the peer proposes first.
    pub fn as_proposed() -> Self {
        Self {
            transfer_syntaxes: TransferSyntaxes::AsProposed,
            requestor_scu: true,
            requestor_scp: false,
        }
    }

    /// We are SCP alone, with the first of these transfer syntaxes that the peer proposes, else with the
    /// one that it proposes first.
    pub fn preferred_or_proposed(transfer_syntaxes: impl IntoIterator<Item = Uid>) -> Self {
        Self {
            transfer_syntaxes: TransferSyntaxes::PreferredOrProposed(transfer_syntaxes.into_iter().collect()),
            requestor_scu: true,
            requestor_scp: false,
        }
    }

    /// The requestor may be SCP too.
    #[must_use]
    pub fn with_requestor_scp(mut self) -> Self {
        self.requestor_scp = true;
        self
    }

    fn choose<'a>(&self, proposed: &'a [String]) -> Option<&'a str> {
        let preferred = |ours: &[Uid]| {
            ours.iter()
                .find_map(|our| proposed.iter().find(|theirs| theirs.as_str() == our.as_str()))
        };
        let first = || proposed.iter().find(|theirs| Uid::parse(theirs).is_ok());
        match &self.transfer_syntaxes {
            TransferSyntaxes::Preferred(ours) => preferred(ours),
            TransferSyntaxes::PreferredOrProposed(ours) => preferred(ours).or_else(first),
            TransferSyntaxes::AsProposed => first(),
        }
        .map(String::as_str)
    }
}

/// What we accept.
#[derive(Clone, Debug)]
pub struct AcceptPolicy {
    /// The AE titles we answer to; empty: to any.
    pub ae_titles: Vec<AeTitle>,
    /// The AE titles that may call; empty: any.
    pub callers: Vec<AeTitle>,
    /// A rule for each abstract syntax we serve.
    pub contexts: HashMap<Uid, ContextRule>,
    /// The rule for every other abstract syntax; `None` refuses them.
    pub other_contexts: Option<ContextRule>,
    /// Maximum length of the P-DATA-TF PDUs we receive, in bytes; 0 offers "without limit".
    pub maximum_length_bytes: u32,
    /// Cap on the operations a peer may have outstanding here; at least 1 is granted.
    pub operations_max: u16,
    /// Cap on the operations we have outstanding at a peer; at least 1.
    pub suboperations_max: u16,
    /// Answers to SOP class extended negotiation: for the query/retrieve classes listed, the bytes of
    /// what we support (PS3.4 C.5.1), which are combined with what the peer asks by a bitwise AND.
    pub extended: HashMap<Uid, Vec<u8>>,
    /// Our implementation class UID.
    pub implementation_class_uid: Uid,
    /// Our implementation version name, up to 16 characters.
    pub implementation_version: String,
}

impl AcceptPolicy {
    /// Accepts nothing yet: any AE titles, no contexts, one operation at a time.
    pub fn new() -> Self {
        Self {
            ae_titles: Vec::new(),
            callers: Vec::new(),
            contexts: HashMap::new(),
            other_contexts: None,
            maximum_length_bytes: 128 * 1024,
            operations_max: 1,
            suboperations_max: 1,
            extended: HashMap::new(),
            implementation_class_uid: crate::IMPLEMENTATION_CLASS_UID,
            implementation_version: crate::IMPLEMENTATION_VERSION.to_owned(),
        }
    }

    /// Adds or replaces the rule for one abstract syntax.
    #[must_use]
    pub fn with_context(mut self, abstract_syntax: Uid, rule: ContextRule) -> Self {
        self.contexts.insert(abstract_syntax, rule);
        self
    }

    /// Holds what decides about the association as a whole against the policy.
    ///
    /// # Errors
    /// The rejection with the result, source and reason of PS3.8 table 9-21.
    pub fn screen(&self, rq: &AssociateRq) -> Result<(), Rejection> {
        // Only bit 0 is tested (PS3.8 9.3.2).
        if rq.protocol_version & 1 == 0 {
            return Err(Rejection::PROTOCOL_VERSION_NOT_SUPPORTED);
        }
        if rq.application_context != DICOM_APPLICATION_CONTEXT {
            return Err(Rejection::APPLICATION_CONTEXT_NOT_SUPPORTED);
        }
        let known =
            |list: &[AeTitle], title: &str| list.is_empty() || list.iter().any(|t| t.as_str() == title);
        if AeTitle::parse(&rq.called_ae_title).is_err() || !known(&self.ae_titles, &rq.called_ae_title) {
            return Err(Rejection::CALLED_AE_NOT_RECOGNIZED);
        }
        if AeTitle::parse(&rq.calling_ae_title).is_err() || !known(&self.callers, &rq.calling_ae_title) {
            return Err(Rejection::CALLING_AE_NOT_RECOGNIZED);
        }
        // No message fits a PDU of that length.
        if (1..PEER_MAXIMUM_LENGTH_MIN_BYTES).contains(&rq.user.maximum_length) {
            return Err(Rejection::NO_REASON);
        }
        Ok(())
    }

    /// The answer to each proposed context, the roles, the window and the rest of the user information.
    ///
    /// Every proposed context is answered, in its order. A context whose ID is even or was used before
    /// is refused with "no reason".
    pub fn answer(&self, rq: &AssociateRq) -> AssociateAc {
        let mut seen = [false; 256];
        let contexts = rq
            .contexts
            .iter()
            .map(|context| {
                let first = !std::mem::replace(&mut seen[usize::from(context.id)], true);
                let usable = first && context.id % 2 == 1;
                let (result, transfer_syntax) = if usable {
                    self.answer_context(&context.abstract_syntax, &context.transfer_syntaxes)
                } else {
                    (ContextResult::NoReason, "")
                };
                // The field isn't significant when the context is refused, yet it must be there.
                let filler = context.transfer_syntaxes.first().map_or("", String::as_str);
                ContextAnswer {
                    id: context.id,
                    result,
                    transfer_syntax: if transfer_syntax.is_empty() {
                        filler
                    } else {
                        transfer_syntax
                    }
                    .to_owned(),
                }
            })
            .collect();
        AssociateAc {
            protocol_version: 1,
            echoed: rq
                .echoed
                .unwrap_or_else(|| title_fields(&rq.called_ae_title, &rq.calling_ae_title)),
            application_context: DICOM_APPLICATION_CONTEXT.to_owned(),
            contexts,
            user: UserInformation {
                maximum_length: self.maximum_length_bytes,
                implementation_class_uid: self.implementation_class_uid.to_string(),
                implementation_version: self.implementation_version.clone(),
                // No answer where nothing was asked (PS3.7 D.3.3.3.2).
                asynchronous: rq.user.asynchronous.map(|asked| AsynchronousWindow {
                    invoked: capped(asked.invoked, self.operations_max),
                    performed: capped(asked.performed, self.suboperations_max),
                }),
                roles: self.answer_roles(rq),
                extended: self.answer_extended(rq),
                ..UserInformation::default()
            },
        }
    }

    fn rule(&self, abstract_syntax: &str) -> Option<&ContextRule> {
        let uid = Uid::parse(abstract_syntax).ok()?;
        self.contexts.get(&uid).or(self.other_contexts.as_ref())
    }

    fn answer_context<'a>(&self, abstract_syntax: &str, proposed: &'a [String]) -> (ContextResult, &'a str) {
        let Some(rule) = self.rule(abstract_syntax) else {
            return (ContextResult::AbstractSyntaxNotSupported, "");
        };
        match rule.choose(proposed) {
            Some(chosen) => (ContextResult::Acceptance, chosen),
            None => (ContextResult::TransferSyntaxesNotSupported, ""),
        }
    }

    /// Roles are granted where asked and allowed; a SOP class without a rule gets no answer, which
    /// means the default roles (PS3.7 D.3.3.4).
    fn answer_roles(&self, rq: &AssociateRq) -> Vec<RoleSelection> {
        let asked = rq.user.roles.iter();
        asked
            .filter_map(|role| {
                let rule = self.rule(&role.sop_class)?;
                Some(RoleSelection {
                    sop_class: role.sop_class.clone(),
                    scu: role.scu && rule.requestor_scu,
                    scp: role.scp && rule.requestor_scp,
                })
            })
            .collect()
    }

    fn answer_extended(&self, rq: &AssociateRq) -> Vec<ExtendedNegotiation> {
        let asked = rq.user.extended.iter();
        asked
            .filter_map(|item| {
                let ours = self.extended.get(item.sop_class.as_str())?;
                let both = item.information.iter().zip(ours).map(|(a, b)| a & b);
                Some(ExtendedNegotiation {
                    sop_class: item.sop_class.clone(),
                    information: both.collect(),
                })
            })
            .collect()
    }
}

impl Default for AcceptPolicy {
    fn default() -> Self {
        Self::new()
    }
}

/// The smaller of what is asked (0: without limit) and our cap, at least 1.
fn capped(asked: u16, cap: u16) -> u16 {
    let cap = cap.max(1);
    if asked == 0 { cap } else { asked.min(cap) }
}
