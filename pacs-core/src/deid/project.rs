//! [`Project`]: what is another in each project, and the same in all of one.

use std::fmt;

use dicom_dictionary_std::tags;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::dataset::DataSet;
use crate::error::{Error, ErrorKind, Result};
use crate::patient::PatientId;
use crate::uid::Uid;

/// The shortest secret: 128 bits, if nothing of it can be guessed.
const SECRET_LENGTH_MIN_BYTES: usize = 16;

/// Dates go back by up to so many days.
const DAYS_BACK_MAX: u64 = 3650;

/// A project: its instances have pseudonyms that agree with each other, and with those of no other project.
///
/// A pseudonym is an HMAC-SHA-256 of what it stands for, under a key made of the project's name and a secret. So
/// the same comes out wherever and whenever it is made, no list is kept, and who doesn't have the secret can neither
/// find what a pseudonym stands for nor make one. Who has it can try out every Patient ID: keep it as safe as the
/// patients' names.
#[derive(Clone)]
pub struct Project {
    key: [u8; 32],
}

impl Project {
    /// The project of this name, with a secret.
    ///
    /// # Errors
    /// `Invalid` when the secret is shorter than 16 bytes.
    pub fn new(name: &str, secret: &[u8]) -> Result<Self> {
        if secret.len() < SECRET_LENGTH_MIN_BYTES {
            let why = format!("the secret of a project has at least {SECRET_LENGTH_MIN_BYTES} bytes");
            return Err(Error::new(ErrorKind::Invalid, "deid.project", why));
        }
        let key = hmac(secret, &[b"project", name.as_bytes()]);
        Ok(Self { key })
    }

    /// What stands for a UID: `2.25.` and a UUID of the project's own (PS3.5 B.2). UIDs that the Standard has given
    /// (1.2.840.10008) stand for themselves.
    pub fn uid(&self, uid: &str) -> String {
        let uid = uid.trim_matches(['\0', ' ']);
        match is_well_known(uid) {
            true => uid.to_owned(),
            false => {
                // Version 8, variant 10: a UUID made in one's own way (RFC 9562 5.8).
                let number = self.number("uid", uid) & !(0xF << 76) & !(0x3 << 62);
                Uid::of_uuid(number | 0x8 << 76 | 0x2 << 62).to_string()
            }
        }
    }

    /// What stands for a patient, as Patient ID and as Patient's Name: 16 letters and digits.
    pub(super) fn patient(&self, whose: &Whose) -> String {
        format!("{:016X}", self.number("patient", &whose.0) as u64)
    }

    /// By how many days the dates of a patient go back: 1 to 3650.
    pub(super) fn days_back(&self, whose: &Whose) -> i64 {
        // Below 3651, so it fits.
        (1 + self.number("days", &whose.0) as u64 % DAYS_BACK_MAX) as i64
    }

    fn number(&self, what: &str, of: &str) -> u128 {
        let hash = hmac(&self.key, &[what.as_bytes(), of.as_bytes()]);
        let (chunk, _) = hash.split_at(16);
        chunk
            .iter()
            .fold(0, |number, byte| number << 8 | u128::from(*byte))
    }
}

/// It is a secret.
impl fmt::Debug for Project {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Project").finish_non_exhaustive()
    }
}

/// Who a patient is, to a project: the Patient ID with its issuer. Of one who has none it is the name with the birth
/// date, and without a name the study: so strangers are not taken for one.
pub(super) struct Whose(String);

impl Whose {
    pub(super) fn of(header: &DataSet) -> Self {
        let text = |tag| header.string(tag).map(str::trim).unwrap_or_default();
        let id = PatientId::of(header);
        Self(if !id.id().is_empty() {
            format!("id\\{}\\{}", id.id(), id.issuer().unwrap_or_default())
        } else if !text(tags::PATIENT_NAME).is_empty() {
            let (name, birth) = (text(tags::PATIENT_NAME), text(tags::PATIENT_BIRTH_DATE));
            format!("name\\{name}\\{birth}")
        } else {
            format!("study\\{}", text(tags::STUDY_INSTANCE_UID))
        })
    }
}

/// Whether the Standard has given it: below its root, few and short arcs. Some senders make UIDs of instances of one of
/// these, by appending numbers.
pub(super) fn is_well_known(uid: &str) -> bool {
    let arcs = uid.strip_prefix("1.2.840.10008.");
    arcs.is_some_and(|arcs| arcs.split('.').count() <= 8 && arcs.split('.').all(|arc| arc.len() <= 4))
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    // HMAC takes a key of any length (RFC 2104 2).
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    for part in parts {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use dicom_core::VR;

    use super::*;

    const SECRET: &[u8] = b"0123456789abcdef";

    #[test]
    fn a_uid_has_the_same_pseudonym_in_a_project_and_another_in_others() {
        let one = Project::new("one", SECRET).unwrap();
        let uid = one.uid("1.2.3");
        assert!(Uid::parse(&uid).is_ok() && uid.starts_with("2.25."));
        assert_eq!(one.uid("1.2.3 "), uid);
        assert_ne!(one.uid("1.2.4"), uid);
        assert_ne!(Project::new("two", SECRET).unwrap().uid("1.2.3"), uid);
        let other = Project::new("one", b"fedcba9876543210").unwrap();
        assert_ne!(other.uid("1.2.3"), uid);
        for known in ["1.2.840.10008.1.2", "1.2.840.10008.5.1.4.1.1.501.2.1"] {
            assert_eq!(one.uid(known), known);
        }
        for made in [
            "1.2.840.10008.5.1.4.1.1.2.20240301.5",
            "1.2.840.10008.5.1.4.1.1.2.1.2.3.4",
        ] {
            assert_ne!(one.uid(made), made);
        }
    }

    #[test]
    fn a_patient_is_who_has_the_id_of_the_issuer() {
        let whose = |id: &str, issuer: &str, name: &str| {
            let mut set = DataSet::new();
            set.put_text(tags::PATIENT_ID, VR::LO, id);
            set.put_text(tags::ISSUER_OF_PATIENT_ID, VR::LO, issuer);
            set.put_text(tags::PATIENT_NAME, VR::PN, name);
            Whose::of(&set)
        };
        let project = Project::new("one", SECRET).unwrap();
        let patient = |id: &str, issuer: &str, name: &str| project.patient(&whose(id, issuer, name));
        assert_eq!(patient("1", "A", "X"), patient("1 ", "A", "Y"));
        assert_ne!(patient("1", "A", "X"), patient("1", "B", "X"));
        assert_ne!(patient("", "", "X"), patient("", "", "Y"));
        assert_eq!(patient("1", "A", "X").len(), 16);
        let days = project.days_back(&whose("1", "A", "X"));
        assert!((1..=3650).contains(&days));
    }

    #[test]
    fn a_short_secret_is_refused_and_none_is_shown() {
        assert_eq!(
            Project::new("one", b"short").unwrap_err().kind(),
            ErrorKind::Invalid
        );
        let project = Project::new("one", SECRET).unwrap();
        assert_eq!(format!("{project:?}"), "Project { .. }");
    }
}
