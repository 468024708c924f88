//! The service classes: one row each. What is offered of them is asked of the policy.

use dicom_dictionary_std::uids;
use pacs_core::workflow::ups::{Refusal, Warning};
use pacs_core::{ErrorKind, Uid};

use crate::dimse::{Category, CommandField, Reply, Status};
use crate::scp::is_storage_class;

/// One service class. It is in the statement where the policy accepts a context of it.
pub(super) struct ServiceClass {
    pub(super) name: &'static str,
    pub(super) clause: &'static str,
    /// Whether a SOP class is of it.
    pub(super) has: fn(&Uid) -> bool,
    /// What is requested of an SCP.
    pub(super) requests: &'static [CommandField],
    /// What answers beside failures.
    answers: &'static [(Status, &'static str)],
    /// Statuses that the service class has of its own.
    own: fn() -> Vec<(Status, &'static str)>,
    /// The kinds of errors that a request may end with.
    fails: &'static [ErrorKind],
    /// What is done, in the words of the statement.
    pub(super) does: &'static str,
}

const SUCCESS: (Status, &str) = (Status::SUCCESS, "Done");

/// All that a name is known of. Another SOP class that is accepted comes under [`OTHERS`].
pub(super) const SERVICE_CLASSES: &[ServiceClass] = &[
    ServiceClass {
        name: "Verification",
        clause: "PS3.4 annex A",
        has: |uid| uid.as_str() == uids::VERIFICATION,
        requests: &[CommandField::C_ECHO],
        answers: &[SUCCESS],
        own: Vec::new,
        fails: &[ErrorKind::Internal],
        does: "Answers C-ECHO.",
    },
    ServiceClass {
        name: "Storage",
        clause: "PS3.4 annex B",
        has: is_storage_class,
        requests: &[CommandField::C_STORE],
        answers: &[
            (
                Status::SUCCESS,
                "The instance is on stable storage, and a query finds it",
            ),
            (
                Status(0xB000),
                "Stored, with attributes coerced: Offending Element names them",
            ),
            (
                Status(0xB006),
                "Another instance is kept under this SOP Instance UID, and stays",
            ),
            (
                Status(0xB007),
                "Stored as it came; the data set can't be followed to its end",
            ),
        ],
        own: Vec::new,
        fails: &ErrorKind::ALL,
        does: "Keeps the data set byte for byte in the transfer syntax it came in (level 2, full). The same \
               instance again is a success and no second copy. Success is answered when it is kept.",
    },
    ServiceClass {
        name: "Query",
        clause: "PS3.4 C.4.1",
        has: |uid| is_model(uid, CommandField::C_FIND),
        requests: &[CommandField::C_FIND],
        answers: FOUND,
        own: Vec::new,
        fails: &ErrorKind::ALL,
        does: "Matches by single value, list of UID, universal, wild card, range and sequence, also by several values \
               and by empty value (PS3.4 C.2.2.2). Person names are matched without regard to case and accents.",
    },
    ServiceClass {
        name: "Retrieve by C-MOVE",
        clause: "PS3.4 C.4.2",
        has: |uid| is_model(uid, CommandField::C_MOVE),
        requests: &[CommandField::C_MOVE],
        answers: RETRIEVED,
        own: Vec::new,
        fails: &ErrorKind::ALL,
        does: "Sends to a Move Destination that the configuration names, as Storage SCU over associations of its own, \
               in the transfer syntax that is kept or, where the receiver doesn't take that, uncompressed.",
    },
    ServiceClass {
        name: "Retrieve by C-GET",
        clause: "PS3.4 C.4.3",
        has: |uid| is_model(uid, CommandField::C_GET),
        requests: &[CommandField::C_GET],
        answers: RETRIEVED,
        own: Vec::new,
        fails: &ErrorKind::ALL,
        does: "Sends on the same association, on contexts for which the requestor has taken the SCP role.",
    },
    ServiceClass {
        name: "Modality Worklist",
        clause: "PS3.4 annex K",
        has: |uid| uid.as_str() == uids::MODALITY_WORKLIST_INFORMATION_MODEL_FIND,
        requests: &[CommandField::C_FIND],
        answers: FOUND,
        own: Vec::new,
        fails: &ErrorKind::ALL,
        does: "Answers the scheduled procedure steps that are kept, by every attribute of the modules of PS3.4 K.6.1.2.1. \
               Steps that are over are answered where their status is asked for.",
    },
    ServiceClass {
        name: "Modality Performed Procedure Step",
        clause: "PS3.4 annex F",
        has: |uid| {
            [
                uids::MODALITY_PERFORMED_PROCEDURE_STEP,
                uids::MODALITY_PERFORMED_PROCEDURE_STEP_RETRIEVE,
                uids::MODALITY_PERFORMED_PROCEDURE_STEP_NOTIFICATION,
            ]
            .contains(&uid.as_str())
        },
        requests: &[CommandField::N_CREATE, CommandField::N_SET, CommandField::N_GET],
        answers: &[SUCCESS],
        own: || {
            vec![
                (Status(0x0105), "An attribute may not be set any more"),
                (Status(0x0106), "An attribute can't have this value"),
                (Status(0x0110), "The step is in a final state (Error ID A710H)"),
                (Status(0x0117), "The SOP Instance UID is none"),
                (Status(0x0120), "A required attribute is missing"),
                (Status(0x0121), "A required attribute has no value"),
            ]
        },
        fails: &ErrorKind::ALL,
        does: "Keeps performed procedure steps; one in a final state is not changed. With the step goes the status of what \
               was scheduled.",
    },
    ServiceClass {
        name: "Storage Commitment",
        clause: "PS3.4 annex J",
        has: |uid| uid.as_str() == uids::STORAGE_COMMITMENT_PUSH_MODEL,
        requests: &[CommandField::N_ACTION],
        answers: &[SUCCESS],
        own: || {
            vec![
                (Status(0x0117), "The SOP Instance UID is none"),
                (Status(0x0123), "No such action type"),
            ]
        },
        fails: &ErrorKind::ALL,
        does: "Keeps the request, reads each instance against the checksum it was stored with, and reports by \
               N-EVENT-REPORT on the same association or on one of its own, until it is answered. What is not \
               committed: 0110 damaged or cut off, 0112 unknown, 0119 of another SOP class, 0122 of no class of \
               storage, 0131 the Transaction UID is in use.",
    },
    ServiceClass {
        name: "Instance Availability Notification",
        clause: "PS3.4 annex R",
        has: |uid| uid.as_str() == uids::INSTANCE_AVAILABILITY_NOTIFICATION,
        requests: &[CommandField::N_CREATE],
        answers: &[SUCCESS],
        own: Vec::new,
        fails: &ErrorKind::ALL,
        does: "Takes note of where instances are.",
    },
    ServiceClass {
        name: "Unified Procedure Step",
        clause: "PS3.4 annex CC",
        has: |uid| uid.starts_with("1.2.840.10008.5.1.4.34.6."),
        requests: &[
            CommandField::N_CREATE,
            CommandField::N_SET,
            CommandField::N_GET,
            CommandField::N_ACTION,
            CommandField::C_FIND,
        ],
        answers: &[SUCCESS],
        own: || {
            let refusals = Refusal::ALL.iter().map(|it| (Status(it.status()), it.text()));
            let warnings = Warning::ALL.iter().map(|it| (Status(it.status()), it.text()));
            refusals.chain(warnings).collect()
        },
        fails: &ErrorKind::ALL,
        does: "Keeps steps of work: pushed, searched, claimed, updated, completed and watched. Events wait for each \
               subscriber until they are delivered by N-EVENT-REPORT (SOP class UPS Event) on an association of \
               their own. What N-CREATE leaves out of attributes that may be empty is added without a value \
               (B300); a Worklist Label that has none is WORKLIST. Steps and events are kept for a time that is \
               configured after they are final, or wait.",
    },
];

/// Of what no row has.
pub(super) const OTHERS: ServiceClass = ServiceClass {
    name: "Further services",
    clause: "PS3.4",
    has: |uid| SERVICE_CLASSES.iter().all(|class| !(class.has)(uid)),
    requests: &[],
    answers: &[],
    own: Vec::new,
    fails: &[],
    does: "Accepted by the policy of this server.",
};

const FOUND: &[(Status, &str)] = &[
    (Status::PENDING, "A match"),
    (
        Status::PENDING_OPTIONAL_KEYS,
        "A match; a key is not supported for matching",
    ),
    (Status::SUCCESS, "No more matches"),
    (Status::CANCEL, "Ended by C-CANCEL"),
];

const RETRIEVED: &[(Status, &str)] = &[
    (Status::PENDING, "Sub-operations go on; the counts say how far"),
    (Status::SUCCESS, "All sub-operations done"),
    (
        Status::SUBOPERATIONS_WARNING,
        "Done, with sub-operations that failed or gave a warning",
    ),
    (Status::CANCEL, "Ended by C-CANCEL"),
    (Status(0xA702), "All sub-operations failed"),
];

fn is_model(uid: &Uid, field: CommandField) -> bool {
    use pacs_core::query::Model;
    let models = [Model::PatientRoot, Model::StudyRoot];
    models
        .into_iter()
        .any(|model| crate::scu::sop_class(model, field) == Some(*uid))
}

impl ServiceClass {
    /// Each status that answers a request of this service, with what it means: what is written above, then what each
    /// kind of error becomes.
    pub(super) fn statuses(&self) -> Vec<(CommandField, Status, String)> {
        let mut all = Vec::new();
        for field in self.requests {
            let own = (self.own)();
            // A query of steps is answered as any query.
            let answers = match (*field, own.is_empty()) {
                (CommandField::C_FIND, false) => FOUND,
                _ => self.answers,
            };
            for (status, meaning) in answers {
                all.push((*field, *status, (*meaning).to_owned()));
            }
            if *field != CommandField::C_FIND {
                let told = own
                    .iter()
                    .map(|(status, meaning)| (*field, *status, (*meaning).to_owned()));
                all.extend(told);
            }
            if *field == CommandField::C_MOVE {
                let unknown = "The Move Destination is not configured".to_owned();
                all.push((*field, Status::MOVE_DESTINATION_UNKNOWN, unknown));
            }
            let mut failures: Vec<(Status, Vec<&str>)> = Vec::new();
            for kind in self.fails {
                let error = pacs_core::Error::new(*kind, "conformance.status", "");
                let status = Reply::from_error(*field, &error).status;
                // What the service class has a status for itself has the sentence of that.
                if status.category() != Category::Failure || own.iter().any(|(known, _)| *known == status) {
                    continue;
                }
                match failures.iter_mut().find(|(known, _)| *known == status) {
                    Some((_, meanings)) => meanings.push(kind.meaning()),
                    None => failures.push((status, vec![kind.meaning()])),
                }
            }
            failures.sort_by_key(|(status, _)| status.0);
            let told = failures
                .into_iter()
                .map(|(status, meanings)| (*field, status, meanings.join("; ")));
            all.extend(told);
        }
        all
    }
}
