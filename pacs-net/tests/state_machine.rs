//! The state machine against a second transcription of PS3.8 tables 9-6 to 9-10.

use pacs_net::ul::state::{Action, EVENTS, Event, Machine, Role, STATES, State, TABLE};

/// PS3.8 table 9-10, one line for each event: which action in which state. What is not named is
/// illegal: it can't happen.
const EXPECTED: [&str; 19] = [
    "1:AE-1",
    "4:AE-2",
    "2:AA-1 3:AA-8 5:AE-3 6:AA-8 7:AA-8 8:AA-8 9:AA-8 10:AA-8 11:AA-8 12:AA-8 13:AA-6",
    "2:AA-1 3:AA-8 5:AE-4 6:AA-8 7:AA-8 8:AA-8 9:AA-8 10:AA-8 11:AA-8 12:AA-8 13:AA-6",
    "1:AE-5",
    "2:AE-6 3:AA-8 5:AA-8 6:AA-8 7:AA-8 8:AA-8 9:AA-8 10:AA-8 11:AA-8 12:AA-8 13:AA-7",
    "3:AE-7",
    "3:AE-8",
    "6:DT-1 8:AR-7",
    "2:AA-1 3:AA-8 5:AA-8 6:DT-2 7:AR-6 8:AA-8 9:AA-8 10:AA-8 11:AA-8 12:AA-8 13:AA-6",
    "6:AR-1",
    "2:AA-1 3:AA-8 5:AA-8 6:AR-2 7:AR-8 8:AA-8 9:AA-8 10:AA-8 11:AA-8 12:AA-8 13:AA-6",
    "2:AA-1 3:AA-8 5:AA-8 6:AA-8 7:AR-3 8:AA-8 9:AA-8 10:AR-10 11:AR-3 12:AA-8 13:AA-6",
    "8:AR-4 9:AR-9 12:AR-4",
    "3:AA-1 4:AA-2 5:AA-1 6:AA-1 7:AA-1 8:AA-1 9:AA-1 10:AA-1 11:AA-1 12:AA-1",
    "2:AA-2 3:AA-3 5:AA-3 6:AA-3 7:AA-3 8:AA-3 9:AA-3 10:AA-3 11:AA-3 12:AA-3 13:AA-2",
    "2:AA-5 3:AA-4 4:AA-4 5:AA-4 6:AA-4 7:AA-4 8:AA-4 9:AA-4 10:AA-4 11:AA-4 12:AA-4 13:AR-5",
    "2:AA-2 13:AA-2",
    "2:AA-1 3:AA-8 5:AA-8 6:AA-8 7:AA-8 8:AA-8 9:AA-8 10:AA-8 11:AA-8 12:AA-8 13:AA-7",
];

/// PS3.8 tables 9-6 to 9-9: the state each action leads to; 0 stays, 9 of AR-8 is 10 for an acceptor.
const NEXT: [(&str, u8); 28] = [
    ("AE-1", 4),
    ("AE-2", 5),
    ("AE-3", 6),
    ("AE-4", 1),
    ("AE-5", 2),
    ("AE-6", 3),
    ("AE-7", 6),
    ("AE-8", 13),
    ("DT-1", 6),
    ("DT-2", 6),
    ("AR-1", 7),
    ("AR-2", 8),
    ("AR-3", 1),
    ("AR-4", 13),
    ("AR-5", 1),
    ("AR-6", 7),
    ("AR-7", 8),
    ("AR-8", 9),
    ("AR-9", 11),
    ("AR-10", 12),
    ("AA-1", 13),
    ("AA-2", 1),
    ("AA-3", 1),
    ("AA-4", 1),
    ("AA-5", 1),
    ("AA-6", 13),
    ("AA-7", 13),
    ("AA-8", 13),
];

fn name(action: Action) -> String {
    let text = format!("{action:?}").to_uppercase();
    format!("{}-{}", &text[..2], &text[2..])
}

/// A machine in this state, by the shortest way there.
fn machine_in(state: State, role: Role) -> Option<Machine> {
    use Event::*;
    let requestor: &[Event] = &[AssociateRequest, TransportConfirm, AssociateAcPdu];
    let acceptor: &[Event] = &[TransportIndication, AssociateRqPdu, AssociateAccept];
    let collision: &[Event] = &[ReleaseRequest, ReleaseRqPdu];
    let way: Vec<Event> = match (state, role) {
        (State::Sta1, _) => vec![],
        (State::Sta2, Role::Acceptor) => acceptor[..1].to_vec(),
        (State::Sta3, Role::Acceptor) => acceptor[..2].to_vec(),
        (State::Sta4, Role::Requestor) => requestor[..1].to_vec(),
        (State::Sta5, Role::Requestor) => requestor[..2].to_vec(),
        (State::Sta2 | State::Sta3, _) | (State::Sta4 | State::Sta5, _) => return None,
        (state, role) => {
            let open = if role == Role::Requestor {
                requestor
            } else {
                acceptor
            };
            let rest: &[Event] = match (state, role) {
                (State::Sta6, _) => &[],
                (State::Sta7, _) => &[ReleaseRequest],
                (State::Sta8, _) => &[ReleaseRqPdu],
                (State::Sta9, Role::Requestor) | (State::Sta10, Role::Acceptor) => collision,
                (State::Sta11, Role::Requestor) => &[ReleaseRequest, ReleaseRqPdu, ReleaseResponse],
                (State::Sta12, Role::Acceptor) => &[ReleaseRequest, ReleaseRqPdu, ReleaseRpPdu],
                (State::Sta13, _) => &[AbortRequest],
                _ => return None,
            };
            [open, rest].concat()
        }
    };
    let mut machine = Machine::new(role);
    for event in way {
        machine.on(event).expect("the way there is legal");
    }
    assert_eq!(machine.state(), state);
    Some(machine)
}

#[test]
fn every_pair_of_state_and_event_does_what_the_standard_says() {
    let mut legal = 0;
    let mut illegal = 0;
    for (event, expected) in EVENTS.into_iter().zip(EXPECTED) {
        let expected: Vec<(u8, &str)> = expected
            .split(' ')
            .map(|pair| pair.split_once(':').unwrap())
            .map(|(state, action)| (state.parse().unwrap(), action))
            .collect();
        for state in STATES {
            let wanted = expected
                .iter()
                .find(|(number, _)| *number == state as u8)
                .map(|(_, action)| *action);
            let in_table = TABLE[event as usize - 1][state as usize - 1].map(name);
            assert_eq!(in_table.as_deref(), wanted, "{event:?} in {state:?}");
            for role in [Role::Requestor, Role::Acceptor] {
                let Some(mut machine) = machine_in(state, role) else {
                    continue;
                };
                let action = machine.on(event).map(name);
                assert_eq!(action.as_deref(), wanted, "{event:?} in {state:?} as {role:?}");
                let next = match wanted {
                    None => state as u8,
                    Some("AR-8") if role == Role::Acceptor => 10,
                    Some(action) => NEXT.iter().find(|(name, _)| *name == action).unwrap().1,
                };
                assert_eq!(machine.state() as u8, next, "{event:?} in {state:?} as {role:?}");
            }
            match wanted {
                Some(_) => legal += 1,
                None => illegal += 1,
            }
        }
    }
    assert_eq!((legal, illegal), (123, 124));
}

#[test]
fn a_peer_alone_can_cause_no_illegal_pair_once_it_can_speak() {
    // From Sta4 the connection isn't open, in Sta1 there is none.
    let by_peer = [
        Event::AssociateAcPdu,
        Event::AssociateRjPdu,
        Event::AssociateRqPdu,
        Event::DataPdu,
        Event::ReleaseRqPdu,
        Event::ReleaseRpPdu,
        Event::AbortPdu,
        Event::TransportClosed,
        Event::InvalidPdu,
    ];
    for state in STATES {
        if matches!(state, State::Sta1 | State::Sta4) {
            continue;
        }
        for event in by_peer {
            assert!(
                TABLE[event as usize - 1][state as usize - 1].is_some(),
                "{event:?} in {state:?}"
            );
        }
    }
}
