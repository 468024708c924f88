//! Times as messages write them (HL7 v2.5 2.A.77).

use dicom_core::chrono::{DateTime, Utc};

/// Now, in UTC and saying so.
pub(super) fn now() -> String {
    let millis = i64::try_from(pacs_core::Timestamp::now().0).unwrap_or_default();
    let now: DateTime<Utc> = DateTime::from_timestamp_millis(millis).unwrap_or_default();
    now.format("%Y%m%d%H%M%S+0000").to_string()
}
