//! Associations: how they are negotiated, and their limits.

use pacs_core::limits as l;

use super::markdown::{Document, code};
use super::{Statement, names};
use crate::ul::negotiate::{AcceptPolicy, TransferSyntaxes};

/// The fields of SOP class extended negotiation for C-FIND (PS3.4 C.5.1.1); those for C-MOVE and C-GET (C.5.2.1,
/// C.5.3.1) are the first one and another.
const FIND_FIELDS: [&str; 7] = [
    "relational queries",
    "combined date-time matching",
    "fuzzy matching of person names",
    "timezone query adjustment",
    "enhanced multi-frame image conversion",
    "empty value matching",
    "multiple value matching",
];
const RETRIEVE_FIELDS: [&str; 2] = ["relational retrieval", "enhanced multi-frame image conversion"];

/// Which transfer syntax of those proposed is accepted.
pub(super) fn accepted(rule: &TransferSyntaxes) -> String {
    let names = |ours: &[pacs_core::Uid]| {
        let names: Vec<String> = ours.iter().map(names::transfer_syntax).collect();
        names.join(", ")
    };
    match rule {
        TransferSyntaxes::Preferred(ours) => format!("the first of: {}", names(ours)),
        TransferSyntaxes::PreferredOrProposed(ours) => {
            format!("the first of: {}; else the first proposed", names(ours))
        }
        TransferSyntaxes::AsProposed => "the first proposed, whatever it is".to_owned(),
    }
}

impl Statement<'_> {
    pub(super) fn network(&self, out: &mut Document, policy: &AcceptPolicy) {
        out.heading(2, "5 Network details");
        out.heading(3, "5.1 Association policies");
        let titles = |titles: &[pacs_core::AeTitle], none: &str| match titles {
            [] => none.to_owned(),
            titles => titles.iter().map(code).collect::<Vec<_>>().join(", "),
        };
        let seconds = |time: std::time::Duration| format!("{} s", time.as_secs());
        let times = &self.scp.timeouts;
        out.table(
            ["Policy", "Value"],
            [
                ("Called AE title", titles(&policy.ae_titles, "any")),
                ("Calling AE titles", titles(&policy.callers, "any")),
                ("Application context", code(crate::ul::DICOM_APPLICATION_CONTEXT)),
                ("Implementation Class UID", code(policy.implementation_class_uid)),
                (
                    "Implementation Version Name",
                    code(&policy.implementation_version),
                ),
                ("Associations at once", self.limits.associations_max.to_string()),
                (
                    "Longest P-DATA-TF PDU received",
                    bytes(policy.maximum_length_bytes as usize),
                ),
                (
                    "Operations performed at once on an association",
                    policy.operations_max.to_string(),
                ),
                (
                    "Operations invoked at once on an association",
                    policy.suboperations_max.to_string(),
                ),
                ("SOP classes that the dictionary doesn't know", {
                    let taken = self.scp.any_sop_class;
                    if taken { "stored as they come" } else { "refused" }.to_owned()
                }),
                ("ARTIM timer", seconds(times.artim)),
                ("Wait for an association to be answered", seconds(times.associate)),
                ("Wait for a release to be answered", seconds(times.release)),
                ("An association may be silent for", seconds(times.idle)),
                ("A message may rest half received for", seconds(times.receive)),
                ("A message may rest half sent for", seconds(times.send)),
                ("An instance waits for its turn for", seconds(self.scp.patience)),
            ]
            .map(|(what, value)| [what.to_owned(), value]),
        );
        out.text(
            "An association beyond the limit is rejected for now (local limit exceeded), another called AE title for good. \
             The asynchronous operations window is granted up to these numbers where it is asked for. User identity is not \
             negotiated.",
        );
        out.heading(3, "5.2 Presentation contexts");
        out.text(
            "Every presentation context is answered by itself; section 4 has the SOP classes. Several contexts for one SOP \
             class are accepted side by side, so a sender proposes one for each transfer syntax that it has. A requestor \
             that takes the SCP role for a storage SOP class (C-GET) is given Explicit VR Little Endian, else Implicit VR \
             Little Endian, where it proposes one.",
        );
        self.extended(out, policy);
        out.heading(3, "5.4 Associations that are initiated");
        let mut initiated = vec![[
            "C-MOVE",
            "the Move Destination",
            "the SOP classes of what is sent, each in the transfer syntax that is kept and uncompressed",
        ]];
        if self.ledger {
            initiated.extend([
                [
                    "A report of storage commitment, where the association of its request is gone or it was not taken there",
                    "the requester, by its AE title in the table below",
                    "Storage Commitment Push Model, as SCP",
                ],
                [
                    "An event of a unified procedure step",
                    "each subscriber, by its AE title in the table below",
                    "UPS Event, as SCP",
                ],
                [
                    "A delivery of the router, where rules name one by DICOM",
                    "the destination of the rule",
                    "the SOP classes of what is sent",
                ],
            ]);
        }
        let initiated = initiated.into_iter().map(|row| row.map(str::to_owned));
        out.table(["For", "To", "SOP classes"], initiated);
        let rows = self.scp.destinations.iter().map(|to| {
            [
                code(to.ae_title),
                format!("{}:{}", to.host, to.port),
                to.associations.to_string(),
            ]
        });
        out.table(["AE title", "Address", "Associations for one C-MOVE"], rows);
        let decoded = names::decoded();
        if decoded.is_empty() {
            out.text("What is kept compressed is sent compressed.");
        } else {
            out.text("These are decoded for a receiver that does not take them:");
            out.list(decoded);
        }
    }

    fn extended(&self, out: &mut Document, policy: &AcceptPolicy) {
        out.heading(3, "5.3 SOP class extended negotiation");
        out.text("What a requestor asks for is granted where it is listed here.");
        let mut offered: Vec<_> = policy.extended.iter().collect();
        offered.sort_unstable();
        let rows = offered.into_iter().map(|(uid, information)| {
            let name = names::sop_class(uid);
            let retrieves = ["- MOVE", "- GET"].iter().any(|end| name.ends_with(end));
            // Also unified procedure steps are found by C-FIND.
            let fields: &[&str] = if retrieves { &RETRIEVE_FIELDS } else { &FIND_FIELDS };
            let granted = information.iter().zip(0..).filter(|(value, _)| **value != 0);
            let granted = granted.map(|(_, at)| {
                fields
                    .get(at)
                    .map_or_else(|| format!("field {}", at + 1), |name| (*name).to_owned())
            });
            [name, granted.collect::<Vec<_>>().join(", ")]
        });
        out.table(["SOP class", "Granted"], rows);
    }
}

/// What a peer may run into.
pub(super) fn limits() -> impl Iterator<Item = (&'static str, String)> {
    [
        ("Sequences within sequences", l::SEQUENCE_DEPTH_MAX.to_string()),
        (
            "An identifier or attribute list",
            bytes(crate::dimse::GATHERED_DATA_SET_LENGTH_MAX_BYTES),
        ),
        ("A command set", bytes(crate::dimse::COMMAND_SET_LENGTH_MAX_BYTES)),
        ("One value of a matching key", bytes(l::KEY_TEXT_LENGTH_MAX_BYTES)),
        (
            "Values of a matching key that is no list of UIDs",
            l::KEY_VALUES_MAX.to_string(),
        ),
        (
            "A value that is searched and returned",
            bytes(l::INDEXED_VALUE_LENGTH_MAX_BYTES),
        ),
        (
            "Items of a sequence that are searched and returned",
            l::INDEXED_ITEMS_MAX.to_string(),
        ),
        ("Instances on their way in at once", l::RECEIPTS_MAX.to_string()),
        ("A frame that is decoded", bytes(l::FRAME_LENGTH_MAX_BYTES)),
        ("Metadata of an instance", bytes(l::METADATA_LENGTH_MAX_BYTES)),
        ("Pixels of a rendered picture", l::PICTURE_PIXELS_MAX.to_string()),
    ]
    .into_iter()
}

fn bytes(count: usize) -> String {
    const UNITS: [(usize, &str); 2] = [(1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS
        .into_iter()
        .find(|(unit, _)| count >= *unit && count.is_multiple_of(*unit))
    {
        Some((unit, name)) => format!("{} {name}", count / unit),
        None if count == 0 => "without limit".to_owned(),
        None => format!("{count} bytes"),
    }
}
