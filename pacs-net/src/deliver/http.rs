//! What answers over HTTP mean for a delivery.

use http::StatusCode;

use super::Tried;
use crate::web::http::client::{NoAnswer, may_pass};

impl From<NoAnswer> for Tried {
    fn from(none: NoAnswer) -> Self {
        match none {
            NoAnswer::Away(why) => Self::Away(why),
            NoAnswer::Broken(why) | NoAnswer::Silent(why) => Self::Failed(why),
        }
    }
}

/// What an answer that is no success means.
pub(super) fn not_taken(status: StatusCode) -> Tried {
    let text = format!("HTTP status {status}");
    match may_pass(status) {
        true => Tried::Away(text),
        false => Tried::Failed(text),
    }
}
