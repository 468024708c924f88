//! The service classes: one row each. What is offered of them is asked of the policy.

use dicom_dictionary_std::uids;
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
        fails: &ErrorKind::ALL,
        does: "Keeps the data set byte for byte in the transfer syntax it came in (level 2, full). The same \
               instance again is a success and no second copy. Success is answered when it is kept.",
    },
    ServiceClass {
        name: "Query",
        clause: "PS3.4 C.4.1",
        has: |uid| is_model(uid, CommandField::C_FIND),
        requests: &[CommandField::C_FIND],
        answers: &[
            (Status::PENDING, "A match"),
            (
                Status::PENDING_OPTIONAL_KEYS,
                "A match; a key is not supported for matching",
            ),
            (Status::SUCCESS, "No more matches"),
            (Status::CANCEL, "Ended by C-CANCEL"),
        ],
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
        fails: &ErrorKind::ALL,
        does: "Sends on the same association, on contexts for which the requestor has taken the SCP role.",
    },
    ServiceClass {
        name: "Modality Worklist",
        clause: "PS3.4 annex K",
        has: |uid| uid.as_str() == uids::MODALITY_WORKLIST_INFORMATION_MODEL_FIND,
        requests: &[CommandField::C_FIND],
        answers: &[
            (Status::PENDING, "A match"),
            (
                Status::PENDING_OPTIONAL_KEYS,
                "A match; a key is not supported for matching",
            ),
            (Status::SUCCESS, "No more matches"),
            (Status::CANCEL, "Ended by C-CANCEL"),
        ],
        fails: &ErrorKind::ALL,
        does: "Answers scheduled procedure steps.",
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
        fails: &ErrorKind::ALL,
        does: "Keeps performed procedure steps; one in a final state is not changed.",
    },
    ServiceClass {
        name: "Storage Commitment",
        clause: "PS3.4 annex J",
        has: |uid| uid.as_str() == uids::STORAGE_COMMITMENT_PUSH_MODEL,
        requests: &[CommandField::N_ACTION],
        answers: &[SUCCESS],
        fails: &ErrorKind::ALL,
        does: "Reports by N-EVENT-REPORT which instances are kept whole.",
    },
    ServiceClass {
        name: "Instance Availability Notification",
        clause: "PS3.4 annex R",
        has: |uid| uid.as_str() == uids::INSTANCE_AVAILABILITY_NOTIFICATION,
        requests: &[CommandField::N_CREATE],
        answers: &[SUCCESS],
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
        fails: &ErrorKind::ALL,
        does: "Keeps steps of work: pushed, searched, claimed, updated, completed and watched.",
    },
];

/// Of what no row has.
pub(super) const OTHERS: ServiceClass = ServiceClass {
    name: "Further services",
    clause: "PS3.4",
    has: |uid| SERVICE_CLASSES.iter().all(|class| !(class.has)(uid)),
    requests: &[],
    answers: &[],
    fails: &[],
    does: "Accepted by the policy of this server.",
};

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
            for (status, meaning) in self.answers {
                all.push((*field, *status, (*meaning).to_owned()));
            }
            if *field == CommandField::C_MOVE {
                let unknown = "The Move Destination is not configured".to_owned();
                all.push((*field, Status::MOVE_DESTINATION_UNKNOWN, unknown));
            }
            let mut failures: Vec<(Status, Vec<&str>)> = Vec::new();
            for kind in self.fails {
                let error = pacs_core::Error::new(*kind, "conformance.status", "");
                let status = Reply::from_error(*field, &error).status;
                if status.category() != Category::Failure {
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
