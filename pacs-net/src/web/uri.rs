//! The URI Service (PS3.18 9): WADO-URI.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{Request, State};
use http::StatusCode;
use pacs_core::pixel::render::{RenderOptions, Viewport, VoiFunction, Window};
use pacs_core::{InstanceRecord, Uid, tags};

use super::http::accept::{Accept, Offer, Wanted};
use super::http::media_type::MediaType;
use super::http::problem::{Problem, WebResult};
use super::resource::Resource;
use super::retrieve::instances::Outgoing;
use super::retrieve::rendered::{self, Rendering, quality, single_offers, within_limits};
use super::{Asking, Web};

/// `GET /wado?requestType=WADO&...`
pub(super) async fn retrieve(State(web): State<Arc<Web>>, request: Request) -> WebResult {
    let asking = Asking::of(&web, &request)?;
    let parameters = Parameters::parse(&asking.query)?;
    if !parameters.text("requestType")?.eq_ignore_ascii_case("WADO") {
        return Err(Problem::bad_request("requestType is WADO (PS3.18 9.1.2.1)"));
    }
    let resource = Resource {
        study: parameters.uid("studyUID")?,
        series: Some(parameters.uid("seriesUID")?),
        instance: Some(parameters.uid("objectUID")?),
    };
    if parameters.get("anonymize").is_some() {
        // Never what identifies a patient in place of what does not.
        let what = "anonymize: instances are not de-identified here";
        return Err(Problem::new(StatusCode::NOT_IMPLEMENTED, what));
    }
    let record = resource.instance(&web.pacs, &asking.source).await?;
    let accept = Accept::of_parameter(&asking.headers, Some(&asking.query), "contentType")?;
    let mut offers: Vec<Offer> = single_offers().into();
    offers.push(Offer::of_any(MediaType::DICOM));
    let choice = accept.select(&offers)?;
    let media_type = choice.offer.media_type.clone();
    if media_type.is(&MediaType::DICOM) {
        let wanted = match parameters.get("transferSyntax") {
            Some("*") => Wanted::Any,
            Some(uid) => Wanted::One(uid.to_owned()),
            None => choice.transfer_syntax,
        };
        let outgoing = Outgoing {
            pacs: web.pacs.clone(),
            wanted: vec![wanted],
            base: asking.base.clone(),
        };
        if !outgoing.can(&record) {
            let what = "the instance can't be had in this transfer syntax";
            return Err(Problem::new(StatusCode::NOT_ACCEPTABLE, what));
        }
        return outgoing.single(record).await;
    }
    let mut rendering = parameters.rendering(&record)?;
    if let Some(state) = parameters.get("presentationUID") {
        let state = Resource {
            instance: Some(Uid::parse(state)?),
            series: parameters
                .get("presentationSeriesUID")
                .map(Uid::parse)
                .transpose()?,
            ..resource
        };
        let record = state.instance(&web.pacs, &asking.source).await?;
        let state = web.pacs.presentation_state(&record).await?;
        rendering.options.presentation_state = Some(Arc::new(state));
    }
    let wanted = match parameters.number("frameNumber")? {
        Some(number) => rendered::Wanted::These(vec![number]),
        None if media_type.is(&MediaType::GIF) => rendered::Wanted::All,
        None => rendered::Wanted::Representative,
    };
    rendered::one(&web.pacs, &record, wanted, &rendering, &media_type).await
}

/// Each of the parameters once.
struct Parameters(HashMap<String, String>);

impl Parameters {
    fn parse(query: &str) -> WebResult<Self> {
        let mut parameters = HashMap::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            if parameters.insert(name.into_owned(), value.into_owned()).is_some() {
                return Err(Problem::bad_request("a parameter is there twice"));
            }
        }
        Ok(Self(parameters))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.trim())
    }

    fn text(&self, name: &'static str) -> WebResult<&str> {
        self.get(name)
            .ok_or_else(|| Problem::bad_request(format!("{name} is missing (PS3.18 9.4.1)")))
    }

    fn uid(&self, name: &'static str) -> WebResult<Uid> {
        Ok(Uid::parse(self.text(name)?)?)
    }

    fn number<T: std::str::FromStr>(&self, name: &'static str) -> WebResult<Option<T>> {
        let number = |text: &str| {
            text.parse()
                .map_err(|_| Problem::bad_request(format!("{name} is a number")))
        };
        self.get(name).map(number).transpose()
    }

    /// Table 9.5.1-1.
    fn rendering(&self, record: &InstanceRecord) -> WebResult<Rendering> {
        let mut options = RenderOptions::default();
        if let Some(annotation) = self.get("annotation") {
            options.annotation = annotation.parse()?;
        }
        let window = (self.number("windowCenter")?, self.number("windowWidth")?);
        options.window = match window {
            (Some(center), Some(width)) => {
                let window = Window {
                    center,
                    width,
                    function: VoiFunction::Linear,
                };
                window.check()?;
                Some(window)
            }
            (None, None) => None,
            _ => return Err(Problem::bad_request("windowCenter and windowWidth go together")),
        };
        let (rows, columns) = (self.number::<u32>("rows")?, self.number::<u32>("columns")?);
        options.viewport = match (columns.or(rows), rows.or(columns)) {
            (Some(0), _) | (_, Some(0)) => {
                return Err(Problem::bad_request("rows and columns are above 0"));
            }
            (Some(columns), Some(rows)) => Some(within_limits(Viewport::new(columns, rows))?),
            _ => None,
        };
        if let Some(region) = self.get("region") {
            let [left, top, right, bottom] = region_of(region)?;
            let attributes = &record.attributes.instance;
            let side = |tag| f64::from(attributes.u16(tag).unwrap_or(1));
            let (rows, columns) = (side(tags::ROWS), side(tags::COLUMNS));
            let (width, height) = ((right - left) * columns, (bottom - top) * rows);
            // Without rows and columns the picture has the pixels of the region.
            let size = |side: f64| side.round().max(1.0) as u32;
            let viewport = options
                .viewport
                .unwrap_or(Viewport::new(size(width), size(height)));
            options.viewport = Some(Viewport {
                source_x: left * columns,
                source_y: top * rows,
                source_width: Some(width),
                source_height: Some(height),
                ..viewport
            });
        }
        Ok(Rendering {
            options,
            quality: self.get("imageQuality").map(quality).transpose()?,
            warning: None,
        })
    }
}

/// Left, top, right and bottom edge of a region, each from 0 to 1 (9.5.1.2.5).
fn region_of(text: &str) -> WebResult<[f64; 4]> {
    let edge = |text: &str| text.parse().ok().filter(|edge| (0.0..=1.0).contains(edge));
    let edges: Option<Vec<f64>> = text.split(',').map(edge).collect();
    match edges.as_deref() {
        Some(&[left, top, right, bottom]) if left < right && top < bottom => Ok([left, top, right, bottom]),
        _ => Err(Problem::bad_request(
            "region is xmin,ymin,xmax,ymax, each from 0 to 1",
        )),
    }
}
