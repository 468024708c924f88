//! What answers over HTTP mean for a delivery.

use http::StatusCode;

use super::Tried;
use crate::web::http::client::{NoAnswer, may_pass};

impl From<NoAnswer> for Tried {
    fn from(none: NoAnswer) -> Self {
        match none {
            NoAnswer::Away(why) => Self::Away(why),
            NoAnswer::Broken(why) | NoAnswer::Silent(why) => Self::Broken(why),
        }
    }
}

/// What an answer that is no success means.
pub(super) fn not_taken(status: StatusCode) -> Tried {
    let text = format!("HTTP status {status}");
    match status {
        _ if may_pass(status) => Tried::Away(text),
        // What many a server says of whatever goes wrong within it.
        StatusCode::INTERNAL_SERVER_ERROR => Tried::Broken(text),
        _ => Tried::Failed(text),
    }
}
