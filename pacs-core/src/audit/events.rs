//! The messages of PS3.15 A.5.3, one constructor each.

use std::net::IpAddr;

use super::object::{Group, Named, Object};
use super::{AccessPoint, Action, Code, Media, Message, PARTICIPANTS_MAX, Participant, Patient, Subject};
use crate::uid::Uid;

/// Who sends instances or asks, and who receives them or answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Between {
    /// The process that sends, or asks.
    pub source: Participant,
    /// The process that receives, or answers.
    pub destination: Participant,
    /// Others who are known, above all one who is neither and wanted it: who asked for a C-MOVE.
    pub others: Vec<Participant>,
}

impl Between {
    /// Two, of whom one is the other's peer.
    pub fn new(source: Participant, destination: Participant) -> Self {
        Self {
            source,
            destination,
            others: Vec::new(),
        }
    }

    /// With one more.
    #[must_use]
    pub fn and(mut self, other: Participant) -> Self {
        self.others.push(other);
        self
    }

    fn participants(self) -> Vec<Participant> {
        let mut participants = vec![
            self.source.role(Code::SOURCE_ROLE),
            self.destination.role(Code::DESTINATION_ROLE),
        ];
        participants.extend(self.others);
        participants
    }
}

/// What is asked.
#[derive(Clone, PartialEq, Eq)]
pub enum Question {
    /// A query of a DICOM service: C-FIND, or a QIDO-RS request that was made one.
    Dicom {
        /// The SOP class that is queried: Study Root Query/Retrieve - FIND, Modality Worklist.
        sop_class: Uid,
        /// The query's data set, as it came.
        identifier: Vec<u8>,
        /// What the data set is encoded in.
        transfer_syntax: Uid,
    },
    /// A query of another protocol, as that writes it: path and parameters of an HTTP request.
    Uri {
        /// The URI of the resource that is searched, without the parameters.
        resource: String,
        /// The whole query.
        query: Vec<u8>,
    },
}

/// What it asks may name a patient.
impl std::fmt::Debug for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Question");
        if let Self::Dicom { sop_class, .. } = self {
            shown.field("sop_class", sop_class);
        }
        shown.finish_non_exhaustive()
    }
}

/// What a security alert is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AlertSubject {
    /// A file or another resource, by its URI.
    Uri(String),
    /// A node, by its name and domain or its address.
    Node(String),
}

impl AlertSubject {
    /// The node at this address; where there is none, this machine.
    pub fn of(address: Option<IpAddr>) -> Self {
        Self::Node(address.map_or_else(|| "localhost".to_owned(), |address| address.to_string()))
    }
}

/// The messages of PS3.15 A.5.3. Each says that the event succeeded, now; see [`with_outcome`](Message::with_outcome) and
/// [`at`](Message::at).
impl Message {
    /// An application begins its work (A.5.3.1); `launchers` are who started it, where that is known.
    pub fn application_started(
        application: Participant,
        launchers: impl IntoIterator<Item = Participant>,
    ) -> Self {
        Self::application_activity(Code::APPLICATION_START, application, launchers)
    }

    /// An application ends its work (A.5.3.1); `launchers` are who stopped it, where that is known.
    pub fn application_stopped(
        application: Participant,
        launchers: impl IntoIterator<Item = Participant>,
    ) -> Self {
        Self::application_activity(Code::APPLICATION_STOP, application, launchers)
    }

    fn application_activity(
        what: Code,
        application: Participant,
        launchers: impl IntoIterator<Item = Participant>,
    ) -> Self {
        let mut participants = vec![application.role(Code::APPLICATION)];
        participants.extend(
            launchers
                .into_iter()
                .map(|launcher| launcher.role(Code::APPLICATION_LAUNCHER)),
        );
        Self::new(Code::APPLICATION_ACTIVITY, Action::Execute, participants).with_type(what)
    }

    /// Somebody read the records of audit at `uri` (A.5.3.2). Where both are known, `readers` are the person and the process.
    pub fn audit_log_used(readers: impl IntoIterator<Item = Participant>, uri: impl Into<String>) -> Self {
        let name = Named::Name("Security Audit Log".to_owned());
        let mut log = Object::new(Code::URI, uri, "2", name);
        log.role = Some("13");
        Self::new(Code::AUDIT_LOG_USED, Action::Read, readers).about(log)
    }

    /// Instances of one patient begin to be sent within the security domain (A.5.3.3): intended, and not yet done.
    pub fn begin_transferring(between: Between, subject: Subject) -> Self {
        Self::new(Code::BEGIN_TRANSFERRING, Action::Execute, between.participants()).of(subject)
    }

    /// Data leaves the security domain (A.5.3.4). One participant is the requestor: where none of `users` and `receivers`
    /// says so, the first user is.
    pub fn data_export(
        users: impl IntoIterator<Item = Participant>,
        receivers: impl IntoIterator<Item = Participant>,
        media: Media,
        subjects: impl IntoIterator<Item = Subject>,
    ) -> Self {
        let users = users.into_iter().map(|user| user.role(Code::SOURCE_ROLE));
        let receivers = receivers
            .into_iter()
            .map(|receiver| receiver.role(Code::DESTINATION_ROLE));
        let mut participants: Vec<Participant> = users.chain(receivers).collect();
        // The medium is among those that are written.
        participants.truncate(PARTICIPANTS_MAX - 1);
        one_requestor(&mut participants);
        participants.push(media.0.role(Code::DESTINATION_MEDIA));
        subjects
            .into_iter()
            .fold(Self::new(Code::EXPORT, Action::Read, participants), Self::of)
    }

    /// Data comes into the security domain (A.5.3.5). One participant is the requestor: where none of `users` and `sources`
    /// says so, the first user is.
    pub fn data_import(
        users: impl IntoIterator<Item = Participant>,
        sources: impl IntoIterator<Item = Participant>,
        media: Media,
        subjects: impl IntoIterator<Item = Subject>,
    ) -> Self {
        let users = users.into_iter().map(|user| user.role(Code::DESTINATION_ROLE));
        let sources = sources.into_iter().map(|source| source.role(Code::SOURCE_ROLE));
        let mut participants: Vec<Participant> = users.chain(sources).collect();
        // The medium is among those that are written.
        participants.truncate(PARTICIPANTS_MAX - 1);
        one_requestor(&mut participants);
        participants.push(media.0.role(Code::SOURCE_MEDIA));
        subjects
            .into_iter()
            .fold(Self::new(Code::IMPORT, Action::Create, participants), Self::of)
    }

    /// Instances of one patient are created, viewed, used, changed or deleted (A.5.3.6). When all of a study are deleted, it is
    /// [`study_deleted`](Self::study_deleted).
    pub fn instances_accessed(
        action: Action,
        who: impl IntoIterator<Item = Participant>,
        subject: Subject,
    ) -> Self {
        Self::new(Code::INSTANCES_ACCESSED, action, who).of(subject)
    }

    /// Instances of one patient have been transferred (A.5.3.7). `action` is `Create` where the receiver had none of them,
    /// `Update` where it changes those it had, and `Read` where it had them so, or that isn't known.
    pub fn instances_transferred(action: Action, between: Between, subject: Subject) -> Self {
        Self::new(Code::INSTANCES_TRANSFERRED, action, between.participants()).of(subject)
    }

    /// Studies of one patient are deleted, each with all its instances (A.5.3.8).
    pub fn study_deleted(who: impl IntoIterator<Item = Participant>, subject: Subject) -> Self {
        Self::new(Code::STUDY_DELETED, Action::Delete, who).of(subject)
    }

    /// A node enters the network, or with `attaches` false leaves it (A.5.3.9).
    pub fn network_entry(attaches: bool, mut node: Participant) -> Self {
        node.is_requestor = false;
        let what = if attaches { Code::ATTACH } else { Code::DETACH };
        Self::new(Code::NETWORK_ENTRY, Action::Execute, [node]).with_type(what)
    }

    /// A query is asked (A.5.3.10); what is answered is no part of it.
    ///
    /// Of a query that is longer than [`AUDIT_QUERY_LENGTH_MAX_BYTES`](crate::limits::AUDIT_QUERY_LENGTH_MAX_BYTES) the
    /// beginning stands in the message, with a detail `QueryLength` that says how long it is.
    pub fn query(between: Between, question: Question) -> Self {
        let object = match question {
            Question::Dicom {
                sop_class,
                identifier,
                transfer_syntax,
            } => {
                let mut object = Object::new(
                    Code::SOP_CLASS_UID,
                    sop_class.as_str(),
                    "2",
                    Named::Query(identifier),
                );
                object.role = Some("3");
                object.detail("TransferSyntax", transfer_syntax.as_str().as_bytes().to_vec());
                object
            }
            Question::Uri { resource, query } => {
                let mut object = Object::new(Code::URI, resource, "2", Named::Query(query));
                object.role = Some("24");
                object
            }
        };
        Self::new(Code::QUERY, Action::Execute, between.participants()).about(object)
    }

    /// Something that those who watch over security should know (A.5.3.11), such as [`Code::NODE_AUTHENTICATION`].
    ///
    /// With success it informs; a minor or serious failure says that security was kept, a major one that it may not have been.
    /// `performers` are who did it. `description` must not hold patient data: it is not for those who may see such.
    pub fn security_alert(
        kind: Code,
        reporters: impl IntoIterator<Item = Participant>,
        performers: impl IntoIterator<Item = Participant>,
        subject: AlertSubject,
        description: &str,
    ) -> Self {
        let performers = performers.into_iter().map(|mut performer| {
            performer.is_requestor = false;
            performer
        });
        let participants: Vec<Participant> = reporters.into_iter().chain(performers).collect();
        let (id_type, id, role) = match subject {
            AlertSubject::Uri(uri) => (Code::URI, uri, Some("13")),
            AlertSubject::Node(node) => (Code::NODE_ID, node, None),
        };
        let mut object = Object::new(id_type, id, "2", Named::Name(String::new()));
        object.role = role;
        object.detail("Alert Description", description.as_bytes().to_vec());
        Self::new(Code::SECURITY_ALERT, Action::Execute, participants)
            .with_type(kind)
            .about(object)
    }

    /// Somebody logs in, or tries to (A.5.3.12), from `place`; `node` is what he or she logs in to.
    pub fn user_login(user: Participant, place: AccessPoint, node: Option<Participant>) -> Self {
        Self::user_authentication(Code::LOGIN, user, place, node)
    }

    /// Somebody logs out (A.5.3.12), from `place`; `node` is what he or she logs out of. Whoever wanted it is to say so: the user, or
    /// after a time without activity the node.
    pub fn user_logout(user: Participant, place: AccessPoint, node: Option<Participant>) -> Self {
        Self::user_authentication(Code::LOGOUT, user, place, node)
    }

    fn user_authentication(
        what: Code,
        user: Participant,
        place: AccessPoint,
        node: Option<Participant>,
    ) -> Self {
        let participants = [user.at(place)].into_iter().chain(node);
        Self::new(Code::USER_AUTHENTICATION, Action::Execute, participants).with_type(what)
    }

    /// An order is created, read, changed or deleted (A.5.3.13).
    pub fn order_record(
        action: Action,
        who: impl IntoIterator<Item = Participant>,
        patient: Patient,
    ) -> Self {
        Self::new(Code::ORDER_RECORD, action, who).of(Subject::new(patient, []))
    }

    /// What is known of a patient is created, read, changed or deleted, without regard to instances (A.5.3.14).
    pub fn patient_record(
        action: Action,
        who: impl IntoIterator<Item = Participant>,
        patient: Patient,
    ) -> Self {
        Self::new(Code::PATIENT_RECORD, action, who).of(Subject::new(patient, []))
    }

    /// A procedure, such as a performed procedure step, is created, read, changed or deleted (A.5.3.15).
    pub fn procedure_record(
        action: Action,
        who: impl IntoIterator<Item = Participant>,
        subject: Subject,
    ) -> Self {
        Self::new(Code::PROCEDURE_RECORD, action, who).of(subject)
    }

    fn of(mut self, subject: Subject) -> Self {
        self.groups.push(subject.group());
        self
    }

    fn about(mut self, object: Object) -> Self {
        self.groups.push(Group {
            repeated: Some(object),
            objects: Vec::new(),
        });
        self
    }
}

/// Of those who are said to have wanted it the first; where none is, the first of all (PS3.15 A.5.3.4.1, A.5.3.5).
fn one_requestor(participants: &mut [Participant]) {
    let said = participants
        .iter()
        .position(|participant| participant.is_requestor);
    let requestor = said.unwrap_or(0);
    for (at, participant) in participants.iter_mut().enumerate() {
        participant.is_requestor = at == requestor;
    }
}
