//! What is accepted at association.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use dicom_core::dictionary::UidDictionary;
use dicom_dictionary_std::{StandardSopClassDictionary, uids};
use futures::future::BoxFuture;
use pacs_core::access::{Door, Identity};
use pacs_core::query::Model;
use pacs_core::{AeTitle, Error, ErrorKind, Pacs, Retry, Source, Uid};

use super::{ScpOptions, ups};
use crate::audited;
use crate::dimse::CommandField;
use crate::identity::Identify;
use crate::scu::{self, NATIVE};
use crate::transport::{Admission, Admitted, Peer};
use crate::ul::negotiate::{AcceptPolicy, ContextRule};
use crate::ul::pdu::{AssociateRq, Rejection};

/// What a query negotiates beyond the base (PS3.4 C.5.1.1): relational queries, combined date-time
/// matching, fuzzy matching of person names; not timezone adjustment and not the conversion of
/// enhanced multi-frame images; empty value and multiple value matching.
const FIND_OFFERED: [u8; 7] = [1, 1, 1, 0, 0, 1, 1];

/// What a retrieval negotiates beyond the base (PS3.4 C.5.2.1, C.5.3.1): relational retrieval.
const RETRIEVE_OFFERED: [u8; 1] = [1];

/// What is kept in the ledger.
const WITH_LEDGER: [&str; 3] = [
    uids::MODALITY_WORKLIST_INFORMATION_MODEL_FIND,
    uids::MODALITY_PERFORMED_PROCEDURE_STEP,
    uids::MODALITY_PERFORMED_PROCEDURE_STEP_RETRIEVE,
];

/// Called storage, and not of the Storage service class: DICOMDIR, and the Non-Patient Object Storage
/// service class (PS3.4 annex GG), whose instances belong to no study.
const NOT_STORAGE: [&str; 10] = [
    "MediaStorageDirectoryStorage",
    "HangingProtocolStorage",
    "ColorPaletteStorage",
    "GenericImplantTemplateStorage",
    "ImplantAssemblyTemplateStorage",
    "ImplantTemplateGroupStorage",
    "CTDefinedProcedureProtocolStorage",
    "XADefinedProcedureProtocolStorage",
    "ProtocolApprovalStorage",
    "InventoryStorage",
];

/// Whether the dictionary of the Standard has this as a SOP class of the Storage service class (PS3.4
/// B.5), retired ones included.
pub fn is_storage_class(sop_class: &Uid) -> bool {
    StandardSopClassDictionary.by_uid(sop_class).is_some_and(|entry| {
        entry.alias.contains("Storage")
            && !entry.alias.starts_with("StorageCommitment")
            && !NOT_STORAGE.contains(&entry.alias)
    })
}

/// The SOP classes of the Storage service class that the dictionary of the Standard has: those for which
/// [`is_storage_class`] says so, in ascending order.
///
/// The dictionary can be asked and not listed, so it is asked for each UID that the Standard may give one: some hundred
/// thousand, which takes a moment. For who describes a server, not for who answers requests.
pub fn storage_classes() -> Vec<Uid> {
    let mut known = BTreeSet::new();
    let mut ask = |arcs: std::fmt::Arguments<'_>| {
        let uid = Uid::parse(&format!("{STANDARD_ROOT}{arcs}"))
            .ok()
            .filter(is_storage_class);
        uid.is_some_and(|uid| {
            known.insert(uid);
            true
        })
    };
    // Of printing, and of what is no image, the last two arcs.
    for last in 1..=64 {
        ask(format_args!("5.1.1.{last}"));
    }
    for (class, last) in (2..=64).flat_map(|class| (1..=32).map(move |last| (class, last))) {
        ask(format_args!("5.1.4.{class}.{last}"));
    }
    for a in 1..=1000 {
        let mut is_used = ask(format_args!("5.1.4.1.1.{a}"));
        for b in 1..=128 {
            is_used |= ask(format_args!("5.1.4.1.1.{a}.{b}"));
        }
        // Where nothing is above, only the first ones have something below.
        for b in 1..=if is_used { 128 } else { 4 } {
            for c in 1..=16 {
                if ask(format_args!("5.1.4.1.1.{a}.{b}.{c}")) || is_used && b < 4 {
                    for d in 1..=16 {
                        ask(format_args!("5.1.4.1.1.{a}.{b}.{c}.{d}"));
                    }
                }
            }
        }
    }
    known.into_iter().collect()
}

/// The root of the Standard's own UIDs (PS3.5 9), and where under it the storage SOP classes are.
const STANDARD_ROOT: &str = "1.2.840.10008.";
const STANDARD_STORAGE_ROOT: &str = "1.2.840.10008.5.1.4.1.1.";

/// Whether instances of this SOP class are taken in: of the Storage service class, and with
/// `any_sop_class` those that the dictionary of the Standard doesn't know, private or newer than it.
/// What the Standard has for another service we don't serve.
pub(crate) fn is_stored(sop_class: &Uid, any_sop_class: bool) -> bool {
    is_storage_class(sop_class) || (any_sop_class && is_unknown(sop_class))
}

fn is_unknown(sop_class: &Uid) -> bool {
    let standard = sop_class.starts_with(STANDARD_ROOT) && !sop_class.starts_with(STANDARD_STORAGE_ROOT);
    !standard && StandardSopClassDictionary.by_uid(sop_class).is_none()
}

/// Verification, Query/Retrieve and Instance Availability Notification, and what needs a ledger where there is one;
/// Storage is added for each peer at its association, since the dictionary can be asked and not listed.
pub fn accept_policy(options: &ScpOptions, has_ledger: bool) -> AcceptPolicy {
    // Verification also takes the retired big endian, which old devices propose alone.
    let big_endian = Uid::constant("1.2.840.10008.1.2.2");
    let native = || NATIVE.into_iter().chain([big_endian]);
    let mut policy = AcceptPolicy::new().with_context(
        Uid::constant(uids::VERIFICATION),
        ContextRule::preferred(native()),
    );
    policy.ae_titles = vec![options.ae_title];
    policy.operations_max = options.operations_max;
    policy.suboperations_max = options.operations_max;
    for model in [Model::PatientRoot, Model::StudyRoot] {
        for operation in [CommandField::C_FIND, CommandField::C_MOVE, CommandField::C_GET] {
            let Some(sop_class) = scu::sop_class(model, operation) else {
                continue;
            };
            policy = policy.with_context(sop_class, ContextRule::preferred(native()));
            let offered = if operation == CommandField::C_FIND {
                &FIND_OFFERED[..]
            } else {
                &RETRIEVE_OFFERED
            };
            policy.extended.insert(sop_class, offered.to_vec());
        }
    }
    policy = policy.with_context(scu::availability::SOP_CLASS, ContextRule::preferred(NATIVE));
    if has_ledger || options.commitments.is_some() {
        policy = policy.with_context(scu::commitment::SOP_CLASS, scu::commitment::context_rule());
    }
    if has_ledger {
        for sop_class in WITH_LEDGER {
            policy = policy.with_context(Uid::constant(sop_class), ContextRule::preferred(native()));
        }
        let worklist = Uid::constant(uids::MODALITY_WORKLIST_INFORMATION_MODEL_FIND);
        policy
            .extended
            .insert(worklist, super::worklist::OFFERED.to_vec());
        policy = ups::offered(policy, &FIND_OFFERED);
    }
    policy
}

/// Data sets pass through untouched, so whatever the sender proposes first is right. A requestor that
/// is SCP on the context receives by C-GET.
pub(crate) fn storage_rule() -> ContextRule {
    ContextRule::as_proposed().with_requestor_scp()
}

/// For a requestor that asks to receive: which instances will come is not known yet, and of a context's
/// transfer syntaxes a native one is what most of them can be sent in.
fn retrieval_rule() -> ContextRule {
    ContextRule::preferred_or_proposed(NATIVE).with_requestor_scp()
}

/// Adds a rule for each SOP class that a peer proposes and that we store.
pub(super) struct StorageAdmission {
    pub(super) any_sop_class: bool,
    pub(super) policy: Arc<AcceptPolicy>,
    /// Asked first.
    pub(super) further: Option<Arc<dyn Admission>>,
    /// Who is asked who may what.
    pub(super) pacs: Pacs,
    /// Who believes users; nobody, and a user identity counts for nothing.
    pub(super) identities: Option<Arc<dyn Identify>>,
}

impl StorageAdmission {
    /// The user that a requestor proves to be, where it does.
    async fn user(&self, request: &AssociateRq, peer: &Peer) -> Result<Option<Arc<Identity>>, Rejection> {
        let (Some(identities), Some(said)) = (&self.identities, &request.user.identity) else {
            return Ok(None);
        };
        let address = peer.address.map(|address| address.ip());
        let text = |bytes| {
            std::str::from_utf8(bytes).map_err(|_| {
                let why = "the user identity is not UTF-8";
                Error::new(ErrorKind::Invalid, "identity.read", why)
            })
        };
        let proven = match (said.kind, text(&said.primary)) {
            (USER_NAME_AND_PASSCODE | JSON_WEB_TOKEN, Err(error)) => Err(error),
            (USER_NAME_AND_PASSCODE, Ok(name)) => identities.password(name, &said.secondary, address).await,
            (JSON_WEB_TOKEN, Ok(token)) => identities.token(token, address).await,
            // A name alone proves nothing, and the others nobody here can look into: it is as if nothing had been said.
            _ => return Ok(None),
        };
        let name = match (&proven, said.kind) {
            (Ok(user), _) => user.name.clone(),
            (Err(_), USER_NAME_AND_PASSCODE) => String::from_utf8_lossy(&said.primary).into_owned(),
            (Err(_), _) => audited::A_TOKEN.to_owned(),
        };
        if let Err(error) = &proven {
            tracing::warn!(?address, %error, "a user identity was not believed");
        }
        let recorded = audited::login(&self.pacs, &name, address, proven.as_ref().err()).await;
        // Where it can't be recorded that must be, it may be later.
        recorded.map_err(|_| Rejection::TEMPORARY_CONGESTION)?;
        proven
            .map(Some)
            .map_err(|error| match (error.kind(), error.retry()) {
                (ErrorKind::Refused | ErrorKind::Invalid, Retry::Never) => Rejection::NOT_BELIEVED,
                _ => Rejection::TEMPORARY_CONGESTION,
            })
    }

    /// Whether it may do anything at all.
    fn may_anything(&self, request: &AssociateRq, peer: &Peer, user: Option<&Arc<Identity>>) -> bool {
        let source = Source {
            identity: user.cloned(),
            ..source(request, peer)
        };
        self.pacs.permit_any(&source)
    }
}

/// Who asks for an association, before he or she has proven to be a user.
fn source(request: &AssociateRq, peer: &Peer) -> Source {
    Source {
        door: Some(Door::Dicom),
        calling_ae: AeTitle::parse(&request.calling_ae_title).ok(),
        called_ae: AeTitle::parse(&request.called_ae_title).ok(),
        address: peer.address,
        certificate: peer.certificate.clone(),
        ..Source::default()
    }
}

/// User Identity Type (PS3.7 table D.3-14).
const USER_NAME_AND_PASSCODE: u8 = 2;
/// The same.
const JSON_WEB_TOKEN: u8 = 5;

impl Admission for StorageAdmission {
    fn admit<'a>(
        &'a self,
        request: &'a AssociateRq,
        peer: &'a Peer,
    ) -> BoxFuture<'a, Result<Admitted, Rejection>> {
        let proposed = request
            .contexts
            .iter()
            .filter_map(|context| Uid::parse(&context.abstract_syntax).ok());
        let storage: HashMap<Uid, ContextRule> = proposed
            .filter(|sop_class| is_stored(sop_class, self.any_sop_class))
            .map(|sop_class| {
                let mut roles = request.user.roles.iter();
                let receives = roles.any(|role| role.scp && role.sop_class == sop_class.as_str());
                (
                    sop_class,
                    if receives {
                        retrieval_rule()
                    } else {
                        storage_rule()
                    },
                )
            })
            .collect();
        Box::pin(async move {
            let user = self.user(request, peer).await?;
            if !self.may_anything(request, peer, user.as_ref()) {
                return Err(Rejection::CALLING_AE_NOT_RECOGNIZED);
            }
            let mut admitted = match &self.further {
                Some(further) => further.admit(request, peer).await?,
                None => Admitted::default(),
            };
            if user.is_some() && admitted.identity_response.is_none() {
                admitted.identity_response = Some(Bytes::new());
            }
            admitted.identity = admitted.identity.or(user);
            // A policy that it gives for this peer says all that is accepted.
            if admitted.policy.is_none() && !storage.is_empty() {
                let mut policy = (*self.policy).clone();
                policy.contexts.extend(storage);
                admitted.policy = Some(Arc::new(policy));
            }
            Ok(admitted)
        })
    }

    fn rejected(&self, request: &AssociateRq, peer: &Peer, rejection: Rejection) {
        if let Some(further) = &self.further {
            further.rejected(request, peer, rejection);
        }
        let (calling, called) = (&*request.calling_ae_title, &*request.called_ae_title);
        let certificate = peer.certificate.as_ref().map(|certificate| &*certificate.subject);
        tracing::warn!(address = ?peer.address, calling, called, certificate, %rejection, "an association was rejected");
        // A user who isn't believed is told of already, and who comes too much is let in later.
        if !rejection.is_transient() && rejection != Rejection::NOT_BELIEVED {
            let kind = (rejection.result, rejection.source, rejection.reason);
            let why = rejection.to_string();
            audited::turned_away(self.pacs.audit(), &source(request, peer), kind, &why);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storage_classes_are_told_from_others_by_the_dictionary() {
        for storage in [
            uids::CT_IMAGE_STORAGE,
            uids::BASIC_TEXT_SR_STORAGE,
            uids::DIGITAL_X_RAY_IMAGE_STORAGE_FOR_PRESENTATION,
        ] {
            assert!(is_storage_class(&Uid::constant(storage)), "{storage}");
        }
        for other in [
            uids::VERIFICATION,
            uids::STORAGE_COMMITMENT_PUSH_MODEL,
            uids::MEDIA_STORAGE_DIRECTORY_STORAGE,
            uids::HANGING_PROTOCOL_STORAGE,
            "1.2.3",
        ] {
            assert!(!is_storage_class(&Uid::constant(other)), "{other}");
        }
    }

    #[test]
    fn the_listed_storage_classes_are_those_that_are_stored_at_every_depth_of_the_tree() {
        let all = storage_classes();
        assert!(all.iter().all(is_storage_class) && all.is_sorted());
        for storage in [
            uids::CT_IMAGE_STORAGE,
            uids::DIGITAL_X_RAY_IMAGE_STORAGE_FOR_PROCESSING,
            uids::BREAST_TOMOSYNTHESIS_IMAGE_STORAGE,
            uids::COMPREHENSIVE3_DSR_STORAGE,
            uids::RT_BEAMS_DELIVERY_INSTRUCTION_STORAGE,
            uids::RT_BRACHY_APPLICATION_SETUP_DELIVERY_INSTRUCTION_STORAGE,
            uids::WIDE_FIELD_OPHTHALMIC_PHOTOGRAPHY3_D_COORDINATES_IMAGE_STORAGE,
        ] {
            assert!(all.contains(&Uid::constant(storage)), "{storage}");
        }
    }

    #[test]
    fn any_sop_class_means_unknown_ones_and_none_of_another_service() {
        for unknown in ["1.2.3", "1.2.840.10008.5.1.4.1.1.9999"] {
            assert!(is_stored(&Uid::constant(unknown), true), "{unknown}");
            assert!(!is_stored(&Uid::constant(unknown), false), "{unknown}");
        }
        for other in [
            uids::VERIFICATION,
            uids::STORAGE_COMMITMENT_PUSH_MODEL,
            uids::MODALITY_WORKLIST_INFORMATION_MODEL_FIND,
            uids::MODALITY_PERFORMED_PROCEDURE_STEP,
            uids::BASIC_GRAYSCALE_PRINT_MANAGEMENT_META,
            uids::HANGING_PROTOCOL_STORAGE,
            uids::MEDIA_STORAGE_DIRECTORY_STORAGE,
            uids::EXPLICIT_VR_LITTLE_ENDIAN,
        ] {
            assert!(!is_stored(&Uid::constant(other), true), "{other}");
        }
    }
}
