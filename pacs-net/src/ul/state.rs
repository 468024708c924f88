//! The state machine of the upper layer (PS3.8 9.2), its table as data.

use super::pdu::Pdu;

/// The states (PS3.8 tables 9-1 to 9-5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// Idle.
    Sta1 = 1,
    /// Transport connection open, awaiting A-ASSOCIATE-RQ.
    Sta2,
    /// Awaiting the local A-ASSOCIATE response.
    Sta3,
    /// Awaiting the transport connection to open.
    Sta4,
    /// Awaiting A-ASSOCIATE-AC or -RJ.
    Sta5,
    /// Association established, ready for data.
    Sta6,
    /// Awaiting A-RELEASE-RP.
    Sta7,
    /// Awaiting the local A-RELEASE response.
    Sta8,
    /// Release collision, requestor: awaiting the local A-RELEASE response.
    Sta9,
    /// Release collision, acceptor: awaiting A-RELEASE-RP.
    Sta10,
    /// Release collision, requestor: awaiting A-RELEASE-RP.
    Sta11,
    /// Release collision, acceptor: awaiting the local A-RELEASE response.
    Sta12,
    /// Awaiting the transport connection to close.
    Sta13,
}

/// All states in order.
pub const STATES: [State; 13] = {
    use State::*;
    [
        Sta1, Sta2, Sta3, Sta4, Sta5, Sta6, Sta7, Sta8, Sta9, Sta10, Sta11, Sta12, Sta13,
    ]
};

/// The events (PS3.8 table 9-10, first column), in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Event {
    /// Evt1: local A-ASSOCIATE request.
    AssociateRequest = 1,
    /// Evt2: the transport connection is open.
    TransportConfirm,
    /// Evt3: A-ASSOCIATE-AC PDU.
    AssociateAcPdu,
    /// Evt4: A-ASSOCIATE-RJ PDU.
    AssociateRjPdu,
    /// Evt5: a transport connection came in.
    TransportIndication,
    /// Evt6: A-ASSOCIATE-RQ PDU.
    AssociateRqPdu,
    /// Evt7: local A-ASSOCIATE response, accept.
    AssociateAccept,
    /// Evt8: local A-ASSOCIATE response, reject.
    AssociateReject,
    /// Evt9: local P-DATA request.
    DataRequest,
    /// Evt10: P-DATA-TF PDU.
    DataPdu,
    /// Evt11: local A-RELEASE request.
    ReleaseRequest,
    /// Evt12: A-RELEASE-RQ PDU.
    ReleaseRqPdu,
    /// Evt13: A-RELEASE-RP PDU.
    ReleaseRpPdu,
    /// Evt14: local A-RELEASE response.
    ReleaseResponse,
    /// Evt15: local A-ABORT request.
    AbortRequest,
    /// Evt16: A-ABORT PDU.
    AbortPdu,
    /// Evt17: the transport connection closed.
    TransportClosed,
    /// Evt18: the ARTIM timer expired.
    ArtimExpired,
    /// Evt19: an unrecognized or invalid PDU.
    InvalidPdu,
}

/// All events in order.
pub const EVENTS: [Event; 19] = {
    use Event::*;
    [
        AssociateRequest,
        TransportConfirm,
        AssociateAcPdu,
        AssociateRjPdu,
        TransportIndication,
        AssociateRqPdu,
        AssociateAccept,
        AssociateReject,
        DataRequest,
        DataPdu,
        ReleaseRequest,
        ReleaseRqPdu,
        ReleaseRpPdu,
        ReleaseResponse,
        AbortRequest,
        AbortPdu,
        TransportClosed,
        ArtimExpired,
        InvalidPdu,
    ]
};

impl From<&Pdu> for Event {
    fn from(pdu: &Pdu) -> Self {
        match pdu {
            Pdu::AssociateRq(_) => Event::AssociateRqPdu,
            Pdu::AssociateAc(_) => Event::AssociateAcPdu,
            Pdu::AssociateRj(_) => Event::AssociateRjPdu,
            Pdu::ReleaseRq => Event::ReleaseRqPdu,
            Pdu::ReleaseRp => Event::ReleaseRpPdu,
            Pdu::Abort(_) => Event::AbortPdu,
        }
    }
}

/// The actions (PS3.8 tables 9-6 to 9-9). What each does stands with it; the state it leads to is
/// [`Action::next`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Open the transport connection.
    Ae1,
    /// Send A-ASSOCIATE-RQ.
    Ae2,
    /// Confirm the association to the user.
    Ae3,
    /// Confirm the rejection to the user, close the connection.
    Ae4,
    /// Start ARTIM.
    Ae5,
    /// Stop ARTIM; indicate the request to the user, or reject it and start ARTIM.
    Ae6,
    /// Send A-ASSOCIATE-AC.
    Ae7,
    /// Send A-ASSOCIATE-RJ, start ARTIM.
    Ae8,
    /// Send P-DATA-TF.
    Dt1,
    /// Indicate P-DATA to the user.
    Dt2,
    /// Send A-RELEASE-RQ.
    Ar1,
    /// Indicate A-RELEASE to the user.
    Ar2,
    /// Confirm the release to the user, close the connection.
    Ar3,
    /// Send A-RELEASE-RP, start ARTIM.
    Ar4,
    /// Stop ARTIM.
    Ar5,
    /// Indicate P-DATA to the user.
    Ar6,
    /// Send P-DATA-TF.
    Ar7,
    /// Indicate A-RELEASE to the user: a collision.
    Ar8,
    /// Send A-RELEASE-RP.
    Ar9,
    /// Confirm the release to the user.
    Ar10,
    /// Send A-ABORT (user, or provider for an unexpected PDU in Sta2), start ARTIM.
    Aa1,
    /// Stop ARTIM, close the connection.
    Aa2,
    /// Indicate the abort to the user, close the connection.
    Aa3,
    /// Indicate a provider abort to the user.
    Aa4,
    /// Stop ARTIM.
    Aa5,
    /// Ignore the PDU.
    Aa6,
    /// Send A-ABORT.
    Aa7,
    /// Send A-ABORT as provider, indicate the abort to the user, start ARTIM.
    Aa8,
}

/// Which side of the association we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Association requestor.
    Requestor,
    /// Association acceptor.
    Acceptor,
}

impl Action {
    /// The state it leads to. AE-6 leads to Sta3 here; where the provider itself rejects, AE-8 follows
    /// and leads on to Sta13, which is the other branch of the Standard's table.
    pub fn next(self, from: State, role: Role) -> State {
        use Action::*;
        use State::*;
        match self {
            Ae1 => Sta4,
            Ae2 => Sta5,
            Ae3 | Ae7 | Dt1 | Dt2 => Sta6,
            Ae4 | Ar3 | Ar5 | Aa2 | Aa3 | Aa4 | Aa5 => Sta1,
            Ae5 => Sta2,
            Ae6 => Sta3,
            Ae8 | Ar4 | Aa1 | Aa6 | Aa7 | Aa8 => Sta13,
            Ar1 => Sta7,
            Ar2 => Sta8,
            Ar6 | Ar7 => from,
            Ar8 if role == Role::Requestor => Sta9,
            Ar8 => Sta10,
            Ar9 => Sta11,
            Ar10 => Sta12,
        }
    }
}

/// PS3.8 table 9-10: a row for each event, a column for each state. `None` can't happen by a peer's
/// doing: it is a call of ours at the wrong time.
#[rustfmt::skip]
pub const TABLE: [[Option<Action>; 13]; 19] = {
    use Action::*;
    const N: Option<Action> = None;
    const fn s(action: Action) -> Option<Action> { Some(action) }
    [
        // Sta1    Sta2     Sta3     Sta4     Sta5     Sta6     Sta7     Sta8     Sta9     Sta10    Sta11    Sta12    Sta13
        [s(Ae1),   N,       N,       N,       N,       N,       N,       N,       N,       N,       N,       N,       N],
        [N,        N,       N,       s(Ae2),  N,       N,       N,       N,       N,       N,       N,       N,       N],
        [N,        s(Aa1),  s(Aa8),  N,       s(Ae3),  s(Aa8),  s(Aa8),  s(Aa8),  s(Aa8),  s(Aa8),  s(Aa8),  s(Aa8),  s(Aa6)],
        [N,        s(Aa1),  s(Aa8),  N,       s(Ae4),  s(Aa8),  s(Aa8),  s(Aa8),  s(Aa8),  s(Aa8),  s(Aa8),  s(Aa8),  s(Aa6)],
        [s(Ae5),   N,       N,       N,       N,       N,       N,       N,       N,       N,       N,       N,       N],
        [N,        s(Ae6),  s(Aa8),  N,       s(Aa8),  s(Aa8),  s(Aa8),  s(Aa8),  s(Aa8),  s(Aa8),  s(Aa8),  s(Aa8),  s(Aa7)],
        [N,        N,       s(Ae7),  N,       N,       N,       N,       N,       N,       N,       N,       N,       N],
        [N,        N,       s(Ae8),  N,       N,       N,       N,       N,       N,       N,       N,       N,       N],
        [N,        N,       N,       N,       N,       s(Dt1),  N,       s(Ar7),  N,       N,       N,       N,       N],
        [N,        s(Aa1),  s(Aa8),  N,       s(Aa8),  s(Dt2),  s(Ar6),  s(Aa8),  s(Aa8),  s(Aa8),  s(Aa8),  s(Aa8),  s(Aa6)],
        [N,        N,       N,       N,       N,       s(Ar1),  N,       N,       N,       N,       N,       N,       N],
        [N,        s(Aa1),  s(Aa8),  N,       s(Aa8),  s(Ar2),  s(Ar8),  s(Aa8),  s(Aa8),  s(Aa8),  s(Aa8),  s(Aa8),  s(Aa6)],
        [N,        s(Aa1),  s(Aa8),  N,       s(Aa8),  s(Aa8),  s(Ar3),  s(Aa8),  s(Aa8),  s(Ar10), s(Ar3),  s(Aa8),  s(Aa6)],
        [N,        N,       N,       N,       N,       N,       N,       s(Ar4),  s(Ar9),  N,       N,       s(Ar4),  N],
        [N,        N,       s(Aa1),  s(Aa2),  s(Aa1),  s(Aa1),  s(Aa1),  s(Aa1),  s(Aa1),  s(Aa1),  s(Aa1),  s(Aa1),  N],
        [N,        s(Aa2),  s(Aa3),  N,       s(Aa3),  s(Aa3),  s(Aa3),  s(Aa3),  s(Aa3),  s(Aa3),  s(Aa3),  s(Aa3),  s(Aa2)],
        [N,        s(Aa5),  s(Aa4),  s(Aa4),  s(Aa4),  s(Aa4),  s(Aa4),  s(Aa4),  s(Aa4),  s(Aa4),  s(Aa4),  s(Aa4),  s(Ar5)],
        [N,        s(Aa2),  N,       N,       N,       N,       N,       N,       N,       N,       N,       N,       s(Aa2)],
        [N,        s(Aa1),  s(Aa8),  N,       s(Aa8),  s(Aa8),  s(Aa8),  s(Aa8),  s(Aa8),  s(Aa8),  s(Aa8),  s(Aa8),  s(Aa7)],
    ]
};

/// One side of one association.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    state: State,
    role: Role,
}

impl Machine {
    /// Idle, in this role.
    pub fn new(role: Role) -> Self {
        Self {
            state: State::Sta1,
            role,
        }
    }

    /// Where it is.
    pub fn state(&self) -> State {
        self.state
    }

    /// Which side it is.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Takes an event: goes to the next state and says what to do. `None`, without a change of state,
    /// when the event can't happen in this state.
    pub fn on(&mut self, event: Event) -> Option<Action> {
        let action = TABLE[event as usize - 1][self.state as usize - 1]?;
        self.state = action.next(self.state, self.role);
        Some(action)
    }
}
