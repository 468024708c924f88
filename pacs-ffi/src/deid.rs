//! De-identification (PS3.15 annex E): by which profile, and what leaves of an instance.

use std::ffi::c_char;
use std::sync::Arc;

use pacs_core::deid::{Deidentifier as CoreDeidentifier, Settings};
use pacs_core::engine::block_on;

use crate::context::{Context, pacs_context};
use crate::error::{Failure, pacs_status};
use crate::ffi::{self, fill};
use crate::guard::{call, call_shared, close};
use crate::handle::{self, Object};
use crate::instance::{Instance, Reader, pacs_instance, pacs_reader};
use crate::store::{PACS_UID_LENGTH, pacs_source};

/// De-identifies instances by a profile, within a project. May be used from any thread, and from many at once, with
/// instances of each engine of its context.
pub struct pacs_deidentifier {
    _opaque: [u8; 0],
}

/// The object behind it.
struct Deidentifier {
    context: Arc<Context>,
    by: CoreDeidentifier,
}

impl Object for Deidentifier {
    type Raw = pacs_deidentifier;
    const KIND: u8 = 12;
    const NAME: &'static str = "deidentifier";

    fn context(this: &Arc<Self>) -> Arc<Context> {
        Arc::clone(&this.context)
    }
}

/// What the settings say. No line of them is shown: the secret may stand in it.
fn settings(text: &str) -> Result<Settings, Failure> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let before = error
            .span()
            .and_then(|span| text.get(..span.start))
            .unwrap_or_default();
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        Failure::new(
            pacs_status::PACS_INVALID,
            format!("the settings, line {line}: {}", error.message()),
        )
    })
}

/// Makes what de-identifies. To be freed with `pacs_deidentifier_free`.
///
/// `settings` is TOML:
///
/// ```toml
/// project = "a study"               # the same patient has another pseudonym in another project
/// secret = "at least 16 bytes"      # who has it can try out which patient a pseudonym stands for
///
/// [profile]                         # the options of PS3.15 E.3; all of it may be left out
/// dates = "remove"                  # or "shift", by as many days for all of a patient; or "keep"
/// burned-in = "refuse"              # an image that may have names in its pixels; or "keep"
/// retain-patient-characteristics = false
/// clean-descriptors = false
/// ```
///
/// Does not block. Errors: `PACS_INVALID` for the settings, with the line; the secret is not shown.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_deidentifier_new(
    context: *mut pacs_context,
    settings: *const c_char,
    deidentifier: *mut *mut pacs_deidentifier,
) -> pacs_status {
    call_shared(context, |context: &Arc<Context>| {
        let out = ffi::out(deidentifier)?;
        let by = self::settings(ffi::text(settings)?)?.deidentifier()?;
        out.set(handle::insert(Deidentifier {
            context: Arc::clone(context),
            by,
        })?);
        Ok(())
    })
}

/// Frees what de-identifies; null is nothing to do. Readers that it was used for go on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_deidentifier_free(deidentifier: *mut pacs_deidentifier) -> pacs_status {
    close::<Deidentifier>(deidentifier)
}

/// Room for a pseudonym and NUL.
pub const PACS_PSEUDONYM_LENGTH: usize = 65;

/// What an instance is once it is de-identified.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct pacs_deidentified {
    /// `sizeof(pacs_deidentified)`, set by the caller.
    pub struct_size: usize,
    /// Study Instance UID.
    pub study: [c_char; PACS_UID_LENGTH],
    /// Series Instance UID.
    pub series: [c_char; PACS_UID_LENGTH],
    /// SOP Instance UID.
    pub instance: [c_char; PACS_UID_LENGTH],
    /// SOP Class UID.
    pub sop_class: [c_char; PACS_UID_LENGTH],
    /// Transfer Syntax UID: that which is stored, or Explicit VR Little Endian.
    pub transfer_syntax: [c_char; PACS_UID_LENGTH],
    /// The patient's pseudonym, which is the Patient ID and the Patient's Name; empty where there is no Patient ID.
    pub patient: [c_char; PACS_PSEUDONYM_LENGTH],
}

/// Opens an instance for reading, de-identified. The stored bytes stay as they are. `form` is `PACS_FORM_FILE` or
/// `PACS_FORM_DATA_SET`. `source`, which may be null, is who asks. `deidentified`, which may be null, becomes what comes
/// out. The reader is to be freed with `pacs_reader_free`.
///
/// Blocks: what stands before the pixel data is read now. What can be known to fail fails now and not in the reader. Errors:
/// `PACS_REFUSED` when the profile refuses the instance, as one that may have names in its pixels; `PACS_MISMATCH` when
/// its attributes can't be followed to their end; `PACS_OUT_OF_RESOURCES` when they are too long; `PACS_UNSUPPORTED`
/// when its pixels can't be decoded or blanked; what a hook or the archive says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_instance_deidentify(
    instance: *const pacs_instance,
    source: *const pacs_source,
    deidentifier: *const pacs_deidentifier,
    form: i32,
    deidentified: *mut pacs_deidentified,
    reader: *mut *mut pacs_reader,
) -> pacs_status {
    call(instance, |instance: &Instance| {
        let out = ffi::out(reader)?;
        let what = ffi::optional_out_sized(deidentified)?;
        let by = handle::get::<Deidentifier>(deidentifier)?;
        if !matches!(form, 0 | 1) {
            let why = "a form is PACS_FORM_FILE or PACS_FORM_DATA_SET: what is stored is not de-identified";
            return Err(Failure::argument(why));
        }
        let Instance { pacs, record, .. } = instance;
        crate::instance::admit(instance, source)?;
        let done = block_on(pacs.deidentified(record, &by.by))?;
        let described = pacs_deidentified {
            struct_size: size_of::<pacs_deidentified>(),
            study: fill(done.key.study.as_str()),
            series: fill(done.key.series.as_str()),
            instance: fill(done.key.instance.as_str()),
            sop_class: fill(done.sop_class.as_str()),
            transfer_syntax: fill(done.transfer_syntax.as_str()),
            patient: fill(&done.patient),
        };
        let pieces = match form {
            0 => done.into_file(),
            _ => done.data_set,
        };
        out.set(handle::insert(Reader::new(&instance.context, pieces))?);
        if let Some(what) = what {
            what.set(described);
        }
        Ok(())
    })
}
