//! Rendered and thumbnail resources (PS3.18 10.4.1.1.3, 10.4.1.1.4).

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use dicom_dictionary_std::tags;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use http::{HeaderValue, header};
use pacs_core::limits::PICTURE_PIXELS_MAX;
use pacs_core::pixel::render::{PictureFormat, RenderOptions, Viewport};
use pacs_core::{Error, ErrorKind, InstanceRecord, Pacs, Result, Source};

use super::super::http::accept::Offer;
use super::super::http::media_type::MediaType;
use super::super::http::multipart::{Part, related};
use super::super::http::problem::{Problem, WebResult};
use super::super::resource::{Resource, not_found};
use super::super::{Asking, Segments, Web};
use super::frames::numbers;
use super::instances::ways;
use super::listing::Listing;
use crate::audited;

/// The longer side of a thumbnail where no viewport is asked for, in pixels.
const THUMBNAIL_SIDE_PIXELS: u32 = 128;

/// Frames of one animation. Cine loops have some hundred.
const ANIMATED_MAX: u32 = 10_000;

/// The quality of a JPEG where none is asked for (PS3.18 8.3.5.1.2).
const QUALITY: u8 = 90;

/// How a picture is asked for (PS3.18 8.3.5).
#[derive(Clone, Debug, Default)]
pub(crate) struct Rendering {
    pub(crate) options: RenderOptions,
    pub(crate) quality: Option<u8>,
    /// What was asked for and is not done.
    pub(crate) warning: Option<&'static str>,
}

impl Rendering {
    fn parse(query: &str) -> WebResult<Self> {
        let mut rendering = Self::default();
        let options = &mut rendering.options;
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "annotation" => options.annotation = value.parse()?,
                "quality" => rendering.quality = Some(quality(&value)?),
                "viewport" => options.viewport = Some(within_limits(value.parse()?)?),
                "window" => options.window = Some(value.parse()?),
                "iccprofile" if value != "no" => {
                    rendering.warning = Some("colours are not managed: no ICC profile is in the picture");
                }
                // Others are nobody's here, or were seen to already (PS3.18 8.3).
                _ => {}
            }
        }
        Ok(rendering)
    }

    fn format(&self, media_type: &MediaType, frame_time: Duration) -> PictureFormat {
        if media_type.is(&MediaType::PNG) {
            PictureFormat::Png
        } else if media_type.is(&MediaType::GIF) {
            PictureFormat::Gif { frame_time }
        } else {
            PictureFormat::Jpeg {
                quality: self.quality.unwrap_or(QUALITY),
            }
        }
    }
}

/// A viewport that a picture can be made for.
pub(crate) fn within_limits(viewport: Viewport) -> WebResult<Viewport> {
    let pixels = u64::from(viewport.width) * u64::from(viewport.height);
    if pixels > PICTURE_PIXELS_MAX {
        let what = format!("a picture of more than {PICTURE_PIXELS_MAX} pixels is not made");
        return Err(Problem::bad_request(what));
    }
    Ok(viewport)
}

/// From 1 to 100 (PS3.18 8.3.5.1.2).
pub(crate) fn quality(text: &str) -> WebResult<u8> {
    let quality = text.parse().ok().filter(|quality| matches!(quality, 1..=100));
    quality.ok_or_else(|| Problem::bad_request("quality is a number from 1 to 100"))
}

/// The media types of one picture, the default first (table 8.7.4-1).
pub(crate) fn single_offers() -> [Offer; 3] {
    [MediaType::JPEG, MediaType::PNG, MediaType::GIF].map(Offer::new)
}

fn offers() -> Vec<Offer> {
    let pictures = [MediaType::JPEG, MediaType::PNG, MediaType::GIF];
    let parts = pictures
        .iter()
        .map(|picture| Offer::new(MediaType::related(picture)));
    single_offers().into_iter().chain(parts).collect()
}

/// `GET .../rendered` of a study, a series or an instance.
///
/// One picture shows the representative frame, as a GIF all frames of the instance; in parts there is every
/// picture, as GIFs one for each instance.
pub(crate) async fn retrieve(
    State(web): State<Arc<Web>>,
    Segments(uids): Segments,
    request: Request,
) -> WebResult {
    let asking = Asking::of(&web, &request)?;
    let resource = Resource::parse(&uids)?;
    let rendering = Rendering::parse(&asking.query)?;
    let offers = offers();
    let (media_type, _) = ways(&asking, &offers)?.swap_remove(0);
    let listing = Listing::of(&web.pacs, &asking.source, &resource, |_| true).await?;
    let validators = listing.validators(&media_type, &asking.query);
    if let Err(response) = validators.check(&asking.method, &asking.headers) {
        return Ok(response);
    }
    let picture = media_type.root();
    let is_animated = picture.is(&MediaType::GIF);
    let mut response = if media_type.is_multipart() {
        let instances = resource.instances(&web.pacs, &asking.source);
        all(&web.pacs, &asking.base, instances, &rendering, &picture).await?
    } else {
        let record = representative(&web.pacs, &asking.source, &resource).await?;
        let wanted = if is_animated {
            Wanted::All
        } else {
            Wanted::Representative
        };
        one(&web.pacs, &record, wanted, &rendering, &picture).await?
    };
    validators.put(response.headers_mut());
    warn(&mut response, &asking.base, &rendering);
    Ok(response)
}

/// `GET .../frames/{frames}/rendered`
pub(crate) async fn frames(
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
    let rendering = Rendering::parse(&asking.query)?;
    let record = resource.instance(&web.pacs, &asking.source).await?;
    let mut offers = offers();
    if numbers.len() > 1 {
        // Several frames are one picture as a GIF alone.
        offers.retain(|offer| offer.media_type.is_multipart() || offer.media_type.is(&MediaType::GIF));
    }
    let (media_type, _) = ways(&asking, &offers)?.swap_remove(0);
    let validators = Listing::of_one(&record).validators(&media_type, (frames, &asking.query));
    if let Err(response) = validators.check(&asking.method, &asking.headers) {
        return Ok(response);
    }
    let picture = media_type.root();
    let mut response = if media_type.is_multipart() {
        let base = format!("{}{}", asking.base, resource.path());
        let parts = parts(
            web.pacs.clone(),
            base,
            record,
            numbers,
            rendering.clone(),
            picture.into_owned(),
        );
        // The first tells whether there is anything to be had.
        in_parts(&media_type.root(), parts).await?
    } else {
        one(&web.pacs, &record, Wanted::These(numbers), &rendering, &picture).await?
    };
    validators.put(response.headers_mut());
    warn(&mut response, &asking.base, &rendering);
    Ok(response)
}

/// `GET .../thumbnail` of a study, a series or an instance.
pub(crate) async fn thumbnail(
    State(web): State<Arc<Web>>,
    Segments(uids): Segments,
    request: Request,
) -> WebResult {
    let asking = Asking::of(&web, &request)?;
    let resource = Resource::parse(&uids)?;
    let record = representative(&web.pacs, &asking.source, &resource).await?;
    small(&web, &asking, &record, Wanted::Representative).await
}

/// `GET .../frames/{frames}/thumbnail`
pub(crate) async fn thumbnail_of_frame(
    State(web): State<Arc<Web>>,
    Segments(path): Segments,
    request: Request,
) -> WebResult {
    let asking = Asking::of(&web, &request)?;
    let [uids @ .., frames] = path.as_slice() else {
        return Err(Problem::not_found("no frames are named"));
    };
    let record = Resource::parse(uids)?.instance(&web.pacs, &asking.source).await?;
    let numbers = numbers(frames)?;
    small(
        &web,
        &asking,
        &record,
        Wanted::These(numbers.into_iter().take(1).collect()),
    )
    .await
}

async fn small(web: &Web, asking: &Asking, record: &InstanceRecord, wanted: Wanted) -> WebResult {
    let mut rendering = Rendering::parse(&asking.query)?;
    let (media_type, _) = ways(asking, &single_offers())?.swap_remove(0);
    let validators = Listing::of_one(record).validators(&media_type, (&asking.query, "thumbnail", &wanted));
    if let Err(response) = validators.check(&asking.method, &asking.headers) {
        return Ok(response);
    }
    let side = THUMBNAIL_SIDE_PIXELS;
    rendering
        .options
        .viewport
        .get_or_insert(Viewport::new(side, side));
    let mut response = one(&web.pacs, record, wanted, &rendering, &media_type).await?;
    validators.put(response.headers_mut());
    Ok(response)
}

fn warn(response: &mut Response, base: &str, rendering: &Rendering) {
    let text = rendering.warning.map(|text| format!("299 {base} \"{text}\""));
    if let Some(value) = text.and_then(|text| HeaderValue::from_str(&text).ok()) {
        response.headers_mut().append(header::WARNING, value);
    }
}

/// Which frames.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Wanted {
    /// The one that stands for all: Representative Frame Number (0028,6010), or the first.
    Representative,
    All,
    These(Vec<u32>),
}

/// One picture as the whole answer.
pub(crate) async fn one(
    pacs: &Pacs,
    record: &InstanceRecord,
    wanted: Wanted,
    rendering: &Rendering,
    picture: &MediaType,
) -> WebResult {
    let bytes = drawn(pacs, record, wanted, rendering, picture).await?;
    let content_type = [(header::CONTENT_TYPE, picture.header_value())];
    Ok((content_type, bytes).into_response())
}

async fn drawn(
    pacs: &Pacs,
    record: &InstanceRecord,
    wanted: Wanted,
    rendering: &Rendering,
    picture: &MediaType,
) -> Result<Vec<u8>> {
    let renderer = pacs.renderer(record).await?;
    let numbers = match wanted {
        Wanted::Representative => vec![renderer.representative_frame()],
        Wanted::All if renderer.count() > ANIMATED_MAX => {
            let what = format!("an animation of more than {ANIMATED_MAX} frames is not made");
            return Err(Error::new(ErrorKind::Unsupported, "web.render", what));
        }
        Wanted::All => (1..=renderer.count()).collect(),
        Wanted::These(numbers) => numbers,
    };
    let format = rendering.format(picture, renderer.frame_time());
    renderer.encoded(&numbers, &rendering.options, format).await
}

/// A part for each of these frames.
fn parts(
    pacs: Pacs,
    base: String,
    record: InstanceRecord,
    numbers: impl IntoIterator<Item = u32, IntoIter: Send + 'static>,
    rendering: Rendering,
    picture: MediaType,
) -> BoxStream<'static, Result<Part>> {
    let drawn = stream::iter(numbers).then(move |number| {
        let (pacs, record, rendering, picture) =
            (pacs.clone(), record.clone(), rendering.clone(), picture.clone());
        let location = format!("{base}/frames/{number}/rendered");
        async move {
            let bytes = drawn(&pacs, &record, Wanted::These(vec![number]), &rendering, &picture).await?;
            Ok(Part::whole(&picture, bytes).with_location(&location))
        }
    });
    drawn.boxed()
}

/// Every picture of these instances; those without pictures are passed over.
async fn all(
    pacs: &Pacs,
    base: &str,
    instances: BoxStream<'static, Result<InstanceRecord>>,
    rendering: &Rendering,
    picture: &MediaType,
) -> WebResult {
    let (pacs, base, rendering) = (pacs.clone(), base.to_owned(), rendering.clone());
    let root = picture.clone();
    let is_animated = picture.is(&MediaType::GIF);
    let picture = picture.clone();
    let all = instances
        .try_filter(|record| std::future::ready(is_picture(record)))
        .and_then(move |record| {
            let (pacs, rendering, picture) = (pacs.clone(), rendering.clone(), picture.clone());
            let base = format!("{base}{}", Resource::of(&record).path());
            async move {
                if is_animated {
                    let bytes = drawn(&pacs, &record, Wanted::All, &rendering, &picture).await?;
                    let part = Part::whole(&picture, bytes).with_location(&format!("{base}/rendered"));
                    return Ok(stream::iter([Ok(part)]).boxed());
                }
                let count = pacs.renderer(&record).await?.count();
                Ok(parts(pacs, base, record, 1..=count, rendering, picture))
            }
        })
        .try_flatten();
    in_parts(&root, all.boxed()).await
}

/// The parts as an answer, once the first is there.
async fn in_parts(root: &MediaType, mut parts: BoxStream<'static, Result<Part>>) -> WebResult {
    let first = parts.try_next().await?.ok_or_else(no_picture)?;
    Ok(related(root, stream::iter([Ok(first)]).chain(parts)).into_response())
}

/// Whether an instance has a picture, by what is known of it.
fn is_picture(record: &InstanceRecord) -> bool {
    record
        .attributes
        .instance
        .u16(tags::ROWS)
        .is_some_and(|rows| rows > 0)
}

/// The instance that stands for a resource: the middle one with a picture, of the series with the lowest number.
async fn representative(pacs: &Pacs, source: &Source, resource: &Resource) -> WebResult<InstanceRecord> {
    if resource.instance.is_some() {
        return Ok(resource.instance(pacs, source).await?);
    }
    let number = |text: Option<&str>| {
        text.and_then(|text| text.trim().parse::<i64>().ok())
            .unwrap_or(i64::MAX)
    };
    let mut known = false;
    let mut best = None;
    let mut of_best: Vec<(i64, pacs_core::Uid)> = Vec::new();
    let mut instances = resource.instances(pacs, source);
    while let Some(record) = instances.try_next().await? {
        known = true;
        if !is_picture(&record) {
            continue;
        }
        let series = (
            number(record.attributes.series.string(tags::SERIES_NUMBER)),
            record.key.series,
        );
        if best.is_none_or(|best| series < best) {
            best = Some(series);
            of_best.clear();
        }
        if best == Some(series) {
            let order = number(record.attributes.instance.string(tags::INSTANCE_NUMBER));
            of_best.push((order, record.key.instance));
        }
    }
    of_best.sort_unstable();
    let middle = of_best.get(of_best.len() / 2).map(|(_, instance)| *instance);
    match middle {
        Some(instance) => {
            let record = pacs.lookup(&instance).await?.ok_or_else(not_found)?;
            audited::shown(pacs, source, &record).await?;
            Ok(record)
        }
        None if known => Err(no_picture()),
        None => Err(not_found().into()),
    }
}

fn no_picture() -> Problem {
    Problem::not_found("there is no picture in it")
}
