//! What leaves of an instance that is de-identified.

use futures::TryStreamExt;

use super::Pacs;
use crate::dataset::recode::{Recoder, Target, is_native, recode};
use crate::dataset::{coercion, syntax};
use crate::deid::{Deidentified, Deidentifier, Head};
use crate::error::{Error, ErrorKind, Result};
use crate::index::InstanceRecord;
use crate::uid::Uid;

impl Pacs {
    /// An instance as it leaves ([`outgoing_data_set`](Self::outgoing_data_set)), de-identified. It has other UIDs
    /// unless the profile retains them. What stands before the pixel data is held, pixel data passes by.
    ///
    /// What can be known to fail fails before the first byte: what the profile refuses, and a header that can't be
    /// read. Compressed frames that are blanked are decoded, as [`transcode`](Self::transcode) does it.
    ///
    /// # Errors
    /// `Refused` when the profile refuses the instance, `Mismatch` when it can't be followed to its end,
    /// `OutOfResources` when its header is longer than
    /// [`limits::DEIDENTIFIED_HEADER_LENGTH_MAX_BYTES`](crate::limits::DEIDENTIFIED_HEADER_LENGTH_MAX_BYTES),
    /// `Unsupported` when its pixels can't be decoded or blanked; what the archive says.
    pub async fn deidentified(&self, record: &InstanceRecord, by: &Deidentifier) -> Result<Deidentified> {
        self.deidentify(record, by).await.map_err(Error::about_kept)
    }

    async fn deidentify(&self, record: &InstanceRecord, by: &Deidentifier) -> Result<Deidentified> {
        let from = &record.transfer_syntax;
        let native = is_native(from);
        let (mut transfer_syntax, stored) = if native {
            // Also one in the same transfer syntax: so what a sender wrote leniently is read strictly here.
            let target = Target::of(from).unwrap_or(Target::ExplicitLittleEndian);
            let overrides = record.coerced.as_ref().map(coercion::overrides);
            let recoder = Recoder::new(from, target, overrides.unwrap_or_default())?;
            (target.uid(), recode(recoder, self.read_data_set(record)))
        } else if syntax::is_deflated(from) {
            let why = "this deflated transfer syntax can't be de-identified";
            return Err(Error::new(ErrorKind::Unsupported, "deid.read", why));
        } else {
            (*from, self.outgoing_data_set(record))
        };
        let mut head = Head::read(&transfer_syntax, stored).await?;
        let blank = by.admit(&head)?;
        if !native && !blank.is_empty() {
            (transfer_syntax, head) = self.decoded_head(record).await?;
        }
        let (patient, data_set) = head.deidentify(by, &blank)?;
        Ok(Deidentified {
            key: by.key(&record.key)?,
            patient,
            sop_class: record.sop_class,
            transfer_syntax,
            data_set: Box::pin(data_set.map_err(Error::about_kept)),
        })
    }

    /// The head of an instance whose pixel data is decoded.
    #[cfg(feature = "pixel")]
    async fn decoded_head(&self, record: &InstanceRecord) -> Result<(Uid, Head)> {
        let target = Target::ExplicitLittleEndian;
        let decoded = self.transcode(record, self.read_data_set(record), target).await?;
        Ok((target.uid(), Head::read(&target.uid(), decoded).await?))
    }

    #[cfg(not(feature = "pixel"))]
    #[allow(clippy::unused_async, reason = "the other one waits")]
    async fn decoded_head(&self, _: &InstanceRecord) -> Result<(Uid, Head)> {
        let why = "compressed pixels can't be blanked: no decoder is built in";
        Err(Error::new(ErrorKind::Unsupported, "deid.blank", why))
    }
}
