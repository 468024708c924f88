//! The states of a step and what each request does in each (PS3.4 CC.1.1), as a table.

use super::refusal::{Refusal, Warning};

/// Procedure Step State (0074,1000).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Waits for somebody.
    Scheduled,
    /// Somebody has claimed it.
    InProgress,
    /// Done.
    Completed,
    /// Permanently stopped.
    Canceled,
}

impl State {
    /// All four.
    pub const ALL: [State; 4] = [
        State::Scheduled,
        State::InProgress,
        State::Completed,
        State::Canceled,
    ];

    /// As the Standard spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Scheduled => "SCHEDULED",
            State::InProgress => "IN PROGRESS",
            State::Completed => "COMPLETED",
            State::Canceled => "CANCELED",
        }
    }

    /// Reads a value of Procedure Step State.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text.trim())
    }

    /// Whether nothing changes any more.
    pub fn is_final(self) -> bool {
        matches!(self, State::Completed | State::Canceled)
    }
}

/// What is asked of a step: the rows of table CC.1.1-2 but for the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// N-ACTION to change the state to this one.
    ChangeTo(State),
    /// N-ACTION to request cancellation.
    Cancel,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Change the state to this one; a final one only where its requirements are met.
    Go(State),
    /// SCHEDULED: to IN PROGRESS and on to CANCELED.
    CancelAtOnce,
    /// Tell whoever performs it that somebody wants it canceled.
    Tell,
    /// Nothing changes.
    Warn(Warning),
    /// Nothing changes.
    Refuse(Refusal),
}

use Refusal as R;
use State as S;
use Verdict::{CancelAtOnce, Go, Refuse, Tell, Warn};

/// A request, whether the Transaction UID is the right one (no matter where `None`), and what becomes of it when the
/// step is SCHEDULED, IN PROGRESS, COMPLETED, CANCELED. Where there is no step it is always [`Refusal::NoSuchStep`].
type Row = (Request, Option<bool>, [Verdict; 4]);

/// Table CC.1.1-2.
pub(super) const TABLE: [Row; 8] = [
    (
        Request::ChangeTo(S::InProgress),
        Some(true),
        [
            Go(S::InProgress),
            Refuse(R::InProgress),
            Refuse(R::Final),
            Refuse(R::Final),
        ],
    ),
    (
        Request::ChangeTo(S::InProgress),
        Some(false),
        [Refuse(R::TransactionUid); 4],
    ),
    (
        Request::ChangeTo(S::Scheduled),
        None,
        [Refuse(R::OnlyCreatedScheduled); 4],
    ),
    (
        Request::ChangeTo(S::Completed),
        Some(true),
        [
            Refuse(R::NotInProgress),
            Go(S::Completed),
            Warn(Warning::AlreadyCompleted),
            Refuse(R::Final),
        ],
    ),
    (
        Request::ChangeTo(S::Completed),
        Some(false),
        [Refuse(R::TransactionUid); 4],
    ),
    (
        Request::Cancel,
        None,
        [
            CancelAtOnce,
            Tell,
            Refuse(R::Completed),
            Warn(Warning::AlreadyCanceled),
        ],
    ),
    (
        Request::ChangeTo(S::Canceled),
        Some(true),
        [
            Refuse(R::NotInProgress),
            Go(S::Canceled),
            Refuse(R::Final),
            Warn(Warning::AlreadyCanceled),
        ],
    ),
    (
        Request::ChangeTo(S::Canceled),
        Some(false),
        [Refuse(R::TransactionUid); 4],
    ),
];

/// What becomes of a request for a step in `state`.
pub(super) fn verdict(request: Request, is_right_transaction: bool, state: State) -> Verdict {
    TABLE
        .iter()
        .find(|(of, transaction, _)| {
            *of == request && transaction.is_none_or(|right| right == is_right_transaction)
        })
        // The table has a row for each request with each answer about the Transaction UID.
        .map_or(Refuse(R::NotAppropriate), |(_, _, verdicts)| {
            verdicts[state as usize]
        })
}
