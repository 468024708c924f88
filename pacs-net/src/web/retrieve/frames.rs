//! Frames (PS3.18 10.4.1.1.6): each is read, and where need be decoded, by itself.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::IntoResponse;
use bytes::Bytes;
use dicom_dictionary_std::uids;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use http::header;
use pacs_core::engine::FrameReader;
use pacs_core::pixel::{Target, can_transcode};
use pacs_core::{Result, Uid};

use super::super::http::accept::{Offer, Wanted};
use super::super::http::body;
use super::super::http::media_type::MediaType;
use super::super::http::multipart::{Part, related};
use super::super::http::problem::{Problem, WebResult};
use super::super::resource::Resource;
use super::super::{Asking, Segments, Web};
use super::instances::ways;
use super::listing::Listing;

/// Frames that one request may list.
const LISTED_MAX: usize = 4096;

/// `GET .../frames/{frames}`
pub(crate) async fn retrieve(
    State(web): State<Arc<Web>>,
    Segments(path): Segments,
    request: Request,
) -> WebResult {
    let asking = Asking::of(&web, &request)?;
    let [uids @ .., frames] = path.as_slice() else {
        return Err(Problem::not_found("no frames are named"));
    };
    let resource = Resource::parse(uids)?;
    let numbers = numbers(frames)?;
    let record = resource.instance(&web.pacs, &asking.source).await?;
    let forms = Forms::of(&record.transfer_syntax);
    let offers = forms.offers(numbers.len() == 1);
    let (media_type, form) = forms.select(&asking, &offers)?;
    let listing = Listing::of_one(&record);
    let validators = listing.validators(&media_type, (frames, form.transfer_syntax()));
    if let Err(response) = validators.check(&asking.method, &asking.headers) {
        return Ok(response);
    }
    let reader = Arc::new(web.pacs.frame_reader(&record).await?);
    if let Some(beyond) = numbers.iter().find(|number| **number > reader.count()) {
        return Err(Problem::not_found(format!(
            "frame {beyond} is asked for of {}",
            reader.count()
        )));
    }
    let mut response = if media_type.is_multipart() {
        let base = format!("{}{}", asking.base, resource.path());
        frames_in_parts(reader, numbers, form, &media_type.root(), &base).await?
    } else {
        // One frame: its failure is the answer's.
        let number = numbers.first().copied().unwrap_or(1);
        single(&reader, number, &form, &media_type).await?
    };
    validators.put(response.headers_mut());
    Ok(response)
}

async fn single(reader: &FrameReader, number: u32, form: &Form, media_type: &MediaType) -> WebResult {
    let content_type = media_type.clone().with_transfer_syntax(form.transfer_syntax());
    let frame = body::begun(form.read(reader, number).await?).await?;
    let body = body::from_stream(frame);
    Ok(([(header::CONTENT_TYPE, content_type.header_value())], body).into_response())
}

/// One part for each frame. The failure of the first one is the answer's.
pub(super) async fn frames_in_parts(
    reader: Arc<FrameReader>,
    numbers: impl IntoIterator<Item = u32, IntoIter: Send + 'static>,
    form: Form,
    root: &MediaType,
    base: &str,
) -> WebResult {
    let root = root.clone().with_transfer_syntax(form.transfer_syntax());
    let mut parts = parts(reader, numbers, form, root.clone(), base.to_owned());
    let first: Vec<_> = parts.try_next().await?.into_iter().map(Ok).collect();
    Ok(related(&root, stream::iter(first).chain(parts)).into_response())
}

/// The parts of these frames.
pub(super) fn parts(
    reader: Arc<FrameReader>,
    numbers: impl IntoIterator<Item = u32, IntoIter: Send + 'static>,
    form: Form,
    media_type: MediaType,
    base: String,
) -> BoxStream<'static, Result<Part>> {
    // One after the other: what is decoded ahead for a slow client would keep others waiting.
    let frames = stream::iter(numbers).then(move |number| {
        let (reader, form, media_type) = (Arc::clone(&reader), form.clone(), media_type.clone());
        let location = format!("{base}/frames/{number}");
        async move {
            let frame = body::begun(form.read(&reader, number).await?).await?;
            Ok(Part::new(&media_type, frame).with_location(&location))
        }
    });
    frames.boxed()
}

/// The numbers in a list with commas.
pub(super) fn numbers(list: &str) -> WebResult<Vec<u32>> {
    let number = |text: &str| text.trim().parse().ok().filter(|number| *number > 0);
    if list.len() > LISTED_MAX && list.split(',').count() > LISTED_MAX {
        return Err(Problem::bad_request(format!(
            "more than {LISTED_MAX} frames are asked for at once"
        )));
    }
    let numbers: Option<Vec<u32>> = list.split(',').map(number).collect();
    numbers.ok_or_else(|| Problem::bad_request("frames are numbers from 1 on with commas between them"))
}

/// How a frame leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As it is kept, in this transfer syntax.
    AsKept(Uid),
    /// As native pixels.
    Decoded,
}

impl Form {
    pub(super) fn transfer_syntax(&self) -> &str {
        match self {
            Form::AsKept(uid) => uid,
            Form::Decoded => uids::EXPLICIT_VR_LITTLE_ENDIAN,
        }
    }

    pub(super) async fn read(
        &self,
        reader: &FrameReader,
        number: u32,
    ) -> Result<BoxStream<'static, Result<Bytes>>> {
        match self {
            Form::AsKept(_) => reader.encoded(number).await,
            Form::Decoded => {
                let frame = reader.decoded(number).await?;
                Ok(stream::iter([Ok(frame.pixels)]).boxed())
            }
        }
    }
}

/// The forms in which the frames of an instance can be had.
#[derive(Debug)]
pub(super) struct Forms {
    kept: Uid,
    /// The media type of what is kept; none of what is not encapsulated.
    picture: Option<MediaType>,
    can_be_decoded: bool,
}

impl Forms {
    pub(super) fn of(kept: &Uid) -> Self {
        Self {
            kept: *kept,
            picture: MediaType::of_transfer_syntax(kept),
            can_be_decoded: can_transcode(kept, &[Target::ExplicitLittleEndian.uid()]).is_some(),
        }
    }

    /// Uncompressed is the default (table 8.7.3-4).
    pub(super) fn offers(&self, single: bool) -> Vec<Offer> {
        let octets = MediaType::OCTET_STREAM;
        let mut offers = vec![Offer::of_any(MediaType::related(&octets))];
        let picture = |media_type: MediaType| Offer::of(media_type, self.kept.to_string());
        offers.extend(
            self.picture
                .as_ref()
                .map(|media_type| picture(MediaType::related(media_type))),
        );
        if single {
            offers.push(Offer::of_any(octets));
            offers.extend(self.picture.clone().map(picture));
        }
        offers
    }

    /// The best that the client accepts and that can be had.
    pub(super) fn select(&self, asking: &Asking, offers: &[Offer]) -> WebResult<(MediaType, Form)> {
        for (media_type, wanted) in ways(asking, offers)? {
            if let Some(form) = wanted.iter().find_map(|wanted| self.form(wanted)) {
                return Ok((media_type, form));
            }
        }
        Err(Problem::not_acceptable(
            offers.iter().map(|offer| &offer.media_type),
        ))
    }

    /// Uncompressed where that can be had.
    pub(super) fn best(&self) -> Form {
        if self.can_be_decoded {
            Form::Decoded
        } else {
            Form::AsKept(self.kept)
        }
    }

    fn form(&self, wanted: &Wanted) -> Option<Form> {
        // Native frames leave in one way, whatever order their bytes are kept in.
        let is_native = pacs_core::dataset::recode::is_native(&self.kept);
        let decoded = self.can_be_decoded.then_some(Form::Decoded);
        let kept = if is_native {
            decoded.clone()
        } else {
            Some(Form::AsKept(self.kept))
        };
        match wanted {
            Wanted::Any => kept,
            Wanted::Default => decoded,
            Wanted::One(uid) if *uid == self.kept.as_str() => kept,
            Wanted::One(uid) if uid == uids::EXPLICIT_VR_LITTLE_ENDIAN => decoded,
            Wanted::One(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_named_by_numbers_from_1_on() {
        assert_eq!(numbers("1,20,3").unwrap(), [1, 20, 3]);
        for list in ["", "0", "1,", "-1", "a", "1.5", "99999999999"] {
            assert!(numbers(list).is_err(), "{list}");
        }
    }

    #[test]
    fn pixels_leave_uncompressed_unless_the_client_takes_what_is_kept() {
        let forms = Forms::of(&Uid::constant(uids::JPEG2000_LOSSLESS));
        let kept = Some(Form::AsKept(forms.kept));
        assert_eq!(forms.form(&Wanted::Any), kept);
        assert_eq!(forms.form(&Wanted::One(uids::JPEG2000_LOSSLESS.to_owned())), kept);
        assert_eq!(forms.form(&Wanted::Default), Some(Form::Decoded));
        assert_eq!(forms.form(&Wanted::One(uids::RLE_LOSSLESS.to_owned())), None);
        let forms = Forms::of(&Uid::constant("1.2.840.10008.1.2.2"));
        assert_eq!(forms.form(&Wanted::Any), Some(Form::Decoded));
        let forms = Forms::of(&Uid::constant(uids::MPEG4HP41));
        assert_eq!(forms.form(&Wanted::Default), None);
        assert_eq!(forms.form(&Wanted::Any), Some(Form::AsKept(forms.kept)));
    }
}
