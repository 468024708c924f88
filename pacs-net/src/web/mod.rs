//! DICOMweb (PS3.18) on an engine: [`router`] answers the Studies Service, [`wado_uri`] the URI Service.
//!
//! | room | what it does |
//! | --- | --- |
//! | [`http`] | what clause 8 says of every service: media types, negotiation, multipart, ranges, the server loop |
//! | `query` | Search, QIDO-RS (10.6) |
//! | `retrieve` | Retrieve, WADO-RS (10.4): instances, metadata, bulk data, frames, rendered |
//! | `store` | Store, STOW-RS (10.5) |
//! | `uri` | the URI Service, WADO-URI (9) |
//! | [`fhir`] | FHIR R4: ImagingStudy, read and searched |
//! | `ups` | the Worklist Service, UPS-RS (11), with event channels over WebSocket (8.10); where the engine has a ledger |
//! | `capabilities` | Retrieve Capabilities (8.9) |
//!
//! What a URL names is a `Resource`; every handler answers from [`Pacs`] alone.
//!
//! # In a program of one's own
//!
//! ```
//! use std::net::SocketAddr;
//!
//! use axum::{Router, routing::get};
//! use pacs_core::Pacs;
//! use pacs_net::web::{self, WebOptions};
//!
//! async fn serve(pacs: Pacs) -> std::io::Result<()> {
//!     let options = WebOptions::default(); // below /dicom-web
//!     let app = Router::new()
//!         .route("/", get(async || "a page of the program"))
//!         .merge(web::wado_uri(pacs.clone(), options.clone(), "/wado"))
//!         .merge(web::router(pacs, options))
//!         .into_make_service_with_connect_info::<SocketAddr>(); // so that hooks are told who asks
//!     let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
//!     axum::serve(listener, app).await
//! }
//! ```
//!
//! The program's own answers stay as they are. [`http::layers`] has CORS and compression, [`http::server`] a server
//! with limits against slow clients.
//!
//! # What is supported, and the test that shows it
//!
//! Below [`WebOptions::path`]; `S` is `/studies/{study}`, `E` is `S/series/{series}`, `I` is
//! `E/instances/{instance}`. Tests are in `tests/web/`, but where a module, or `tests/ups_web.rs`, is named.
//!
//! | resource | transaction | test |
//! | --- | --- | --- |
//! | `/studies` `/series` `/instances` `S/series` `S/instances` `E/instances` | Search | `each_level_is_searched_by_each_of_its_paths` |
//! | `/studies` `S` | Store | `what_is_stored_is_told_kept_and_handed_out_with_the_same_bytes` |
//! | `S` `E` `I` | Retrieve | `a_study_a_series_or_an_instance_comes_in_parts_each_with_the_bytes_that_were_stored` |
//! | `S/metadata` `E/metadata` `I/metadata` | Retrieve | `metadata_has_every_attribute_and_says_where_the_bulk_data_is` |
//! | `I/bulkdata/{element}` | Retrieve | `bulk_data_is_what_was_stored_and_may_be_had_by_ranges` |
//! | `S/bulkdata` `E/bulkdata` `I/bulkdata`, and `pixeldata` of each | Retrieve | `all_bulk_data_of_a_study_comes_in_parts` |
//! | `I/frames/{frames}` | Retrieve | `frames_come_uncompressed_or_as_they_are_kept_in_the_order_asked_for` |
//! | `S/rendered` `E/rendered` `I/rendered` `I/frames/{frames}/rendered` | Retrieve | `a_picture_is_jpeg_png_or_gif_as_the_client_accepts` |
//! | `S/thumbnail` `E/thumbnail` `I/thumbnail` `I/frames/{frame}/thumbnail` | Retrieve | `the_viewport_decides_the_size_and_thumbnails_are_small` |
//! | `S` `E` `I` | delete, by a switch (not of PS3.18) | `studies_series_and_instances_go_where_that_is_switched_on` |
//! | `/workitems` | Create Workitem, Search | `work_items_are_searched_as_studies_are` (ups_web) |
//! | `/workitems/{workitem}` and its `state` | Retrieve, Update, Change State | `a_work_item_is_created_retrieved_updated_and_brought_to_its_end` (ups_web) |
//! | `/workitems/{workitem}/cancelrequest` | Request Cancellation | `cancellation_is_asked_for` (ups_web) |
//! | `/workitems/{workitem}/subscribers/{aetitle}` and its `suspend` | Subscribe, Unsubscribe, Suspend | `a_filtered_subscription_and_its_suspension_over_http` (ups_web) |
//! | `/ws/subscribers/{aetitle}` | Open Notification Connection | `events_come_over_a_web_socket_each_once_also_those_from_before` (ups_web) |
//! | `/` | Retrieve Capabilities | `everything_that_is_described_is_there` (capabilities) |
//! | `/fhir/metadata` `/fhir/ImagingStudy` `/fhir/ImagingStudy/{id}` (at the root) | FHIR R4, no part of PS3.18 | `a_study_is_read_as_a_resource_that_r4_allows` |
//! | `/wado` | URI Service | `an_instance_comes_as_a_picture_or_as_itself` |
//!
//! | parameter or field | of | test |
//! | --- | --- | --- |
//! | `{attribute}`: keyword, tag, dotted path | Search | `attributes_match_by_keyword_tag_and_path_as_in_dimse` |
//! | `includefield`, also `all` | Search | `a_study_is_answered_with_what_the_standard_lists_and_with_what_is_asked_for` |
//! | `limit`, `offset` | Search | `a_part_of_the_answers_is_had_by_limit_and_offset_with_a_word_about_the_rest` |
//! | `fuzzymatching`, `emptyvaluematching`, `multiplevaluematching` | Search | `the_part_that_is_asked_for_and_the_ways_of_matching_are_parameters` (query) |
//! | `accept`, Accept with q, `*` | all | `answers_are_json_or_xml_as_the_client_accepts` |
//! | `charset` | all | `text_is_in_utf_8_and_other_character_sets_are_refused` |
//! | `transfer-syntax` of a media type | instances | `an_instance_leaves_in_explicit_little_endian_unless_another_transfer_syntax_is_taken` |
//! | `transfer-syntax` of a media type | frames | `frames_of_every_native_transfer_syntax_are_little_endian` |
//! | single part, `application/zip` | instances | `one_instance_may_come_by_itself_and_all_in_a_zip` |
//! | Range, If-Range | bulk data | `bulk_data_is_what_was_stored_and_may_be_had_by_ranges` |
//! | ETag, If-None-Match and the like | Retrieve | `what_a_client_has_already_is_not_sent_again` |
//! | `window` | rendered | `the_window_decides_what_is_black_and_what_is_white` |
//! | `viewport` | rendered, thumbnail | `the_viewport_decides_the_size_and_thumbnails_are_small` |
//! | `quality`, `annotation`, `iccprofile` (warned of) | rendered | `quality_and_annotation_change_the_picture_and_colour_management_is_warned_of` |
//! | JSON and XML metadata with bulk data | Store | `instances_come_as_metadata_with_their_bulk_data_beside_it` |
//! | status of each instance (annex I) | Store | `each_instance_that_can_not_be_stored_is_told_with_its_reason` |
//! | warnings (I.2.1) | Store | `what_is_kept_with_a_warning_is_told_so` |
//! | `contentType`, `transferSyntax` | URI Service | `an_instance_comes_as_a_picture_or_as_itself` |
//! | `rows`, `columns`, `region`, `windowCenter`, `windowWidth`, `frameNumber` | URI Service | `a_picture_is_drawn_as_its_parameters_say` |
//! | `presentationUID`, `presentationSeriesUID` | URI Service | `a_presentation_state_says_how_a_picture_is_drawn` |
//! | problem details | all | `what_is_not_kept_is_not_found` |
//! | 409 for what is kept damaged | Retrieve, URI Service | `what_is_kept_damaged_is_a_conflict_and_not_the_fault_of_who_asks` |
//!
//! Not supported: rendered MPR and 3D volumes (10.4.1.1.7, 10.4.1.1.8); video and text as rendered media types; ICC
//! profiles; `anonymize` of the URI Service (answered 501); bulk data within sequences, and several compressed frames in one part, in
//! a Store of metadata (such an instance fails); Non-Patient Instance and Storage Commitment Services. Parameters that are
//! neither of the Standard nor attributes are refused in a search, so that a mistyped one does not find everybody.

pub mod access;
mod capabilities;
pub(crate) mod commits;
pub mod fhir;
pub mod http;
mod query;
mod remove;
pub(crate) mod resource;
mod retrieve;
mod store;
mod ups;
mod uri;

use std::path::PathBuf;
use std::sync::Arc;

use ::http::request::Parts;
use ::http::uri::Authority;
use ::http::{Extensions, HeaderMap, Method, StatusCode, Uri, header};
use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Path, Request};
use axum::routing::{MethodRouter, delete, get, post};
use pacs_core::budget::Budget;
use pacs_core::{Pacs, Permission, Source};

pub(crate) use self::capabilities::{Transaction, transactions};

use self::access::{Guard, Needs};
use self::http::layers::{with_compression, with_cors, with_privacy, with_privacy_of_routes, with_problems};
use self::http::problem::{Problem, WebResult};
use self::http::server::Secured;
use crate::identity::Identities;

/// How requests are answered.
#[derive(Clone, Debug)]
pub struct WebOptions {
    /// The path under which the Studies Service is reached: `/dicom-web`. The slash before it may be left out, slashes
    /// behind it count for nothing. Empty, or a slash: at the root of the server, where what is nobody's is left to the
    /// program around. It is taken as it is, so it holds nothing that would have to be encoded.
    pub path: String,
    /// Scheme, host and port by which clients reach this server, where that is not what they say in their Host
    /// field: `https://pacs.example`. URLs in answers begin with it.
    pub origin: Option<String>,
    /// Studies, series and instances may be deleted.
    pub delete: bool,
    /// Where bulk data that comes beside metadata waits, in a file without a name, until it is put together: on a
    /// disk that has room for it.
    pub spool: PathBuf,
    /// Take instances of SOP classes that the dictionary of the Standard doesn't know.
    pub any_sop_class: bool,
    /// Origins whose pages may open event channels, beside the server's own: browsers let any page do so. `*` for all.
    pub origins: Vec<String>,
    /// Who believes users.
    pub identities: Option<Identities>,
}

impl Default for WebOptions {
    fn default() -> Self {
        Self {
            path: "/dicom-web".to_owned(),
            origin: None,
            delete: false,
            spool: std::env::temp_dir(),
            any_sop_class: false,
            origins: Vec::new(),
            identities: None,
        }
    }
}

/// What handlers answer from.
#[derive(Debug)]
struct Web {
    pacs: Pacs,
    options: WebOptions,
    /// Metadata that comes in at once, in bytes.
    descriptions: Budget,
    /// Event channels.
    channels: ups::Channels,
}

/// Metadata that is held of all requests together while its bulk data comes: of one of the largest, or of many.
const DESCRIPTIONS_LENGTH_MAX_BYTES: usize = 256 * 1024 * 1024;

impl Web {
    fn new(pacs: Pacs, mut options: WebOptions) -> Self {
        options.path = normalised(&options.path);
        Self {
            pacs,
            options,
            descriptions: Budget::new(DESCRIPTIONS_LENGTH_MAX_BYTES),
            channels: ups::Channels::default(),
        }
    }

    /// Who asks, as it was found when they were let in.
    fn source(&self, extensions: &Extensions) -> Source {
        access::source(extensions)
    }

    /// Who lets in, to what `needs` says.
    fn guard(&self, needs: impl Fn(&Method, &str) -> Needs + Send + Sync + 'static) -> Guard {
        let own = self.options.origin.iter();
        let origins = own.chain(&self.options.origins).cloned().collect();
        Guard::new(self.pacs.clone(), self.options.identities.clone(), needs).with_origins(origins)
    }

    /// The URL that those in an answer begin with.
    fn base(&self, headers: &HeaderMap, uri: &Uri, extensions: &Extensions) -> String {
        let origin = self.options.origin.clone().unwrap_or_else(|| {
            // HTTP/2 has the host in the target; else only what is a host and a port is taken.
            let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
            let host = host.and_then(|host| host.parse::<Authority>().ok());
            match uri.authority().cloned().or(host) {
                Some(host) if extensions.get::<Secured>().is_some() => format!("https://{host}"),
                Some(host) => format!("http://{host}"),
                None => String::new(),
            }
        });
        format!("{origin}{}", self.options.path)
    }
}

/// The parts of a request that a handler without a body needs.
struct Asking {
    method: Method,
    source: Source,
    base: String,
    headers: HeaderMap,
    query: String,
    accept: http::accept::Accept,
}

impl Asking {
    fn of(web: &Web, request: &Request) -> WebResult<Self> {
        let query = request.uri().query().unwrap_or_default();
        http::accept::check_charset(Some(query))?;
        Ok(Self {
            method: request.method().clone(),
            source: web.source(request.extensions()),
            base: web.base(request.headers(), request.uri(), request.extensions()),
            headers: request.headers().clone(),
            query: query.to_owned(),
            accept: http::accept::Accept::of_request(request.headers(), Some(query))?,
        })
    }
}

/// The variable segments of the path, in order.
struct Segments(Vec<String>);

impl<S: Send + Sync> FromRequestParts<S> for Segments {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<Vec<String>>::from_request_parts(parts, state).await;
        // All routes that ask for them have some, so that it is about their bytes.
        let Path(segments) = path.map_err(|_| Problem::bad_request("a segment of the path is not UTF-8"))?;
        Ok(Self(segments))
    }
}

/// Where the URI Service usually is: see [`wado_uri`].
pub const WADO_URI: &str = "/wado";

/// The Studies Service, where there is a ledger the Worklist Service, FHIR at [`fhir::FHIR`] and, under the path `wado`,
/// the URI Service, with what goes around them: compression, and leave for pages of `origins` to use them (`*` for
/// all).
///
/// # Errors
/// `Invalid` when an origin is none.
pub fn services(
    pacs: &Pacs,
    mut options: WebOptions,
    wado: &str,
    origins: &[String],
) -> pacs_core::Result<Router> {
    options.origins = origins.to_vec();
    // Given here, since what is given behind the layers is not within them: a preflight request ends there.
    let wado_uri = wado_uri(pacs.clone(), options.clone(), wado)
        .method_not_allowed_fallback(async || Problem::bare(StatusCode::METHOD_NOT_ALLOWED));
    let fhir = fhir::router(pacs.clone(), options.clone(), fhir::FHIR);
    let services = router(pacs.clone(), options).merge(wado_uri).merge(fhir);
    with_cors(with_compression(services), origins)
}

/// A path with a slash before it and none behind it; empty for the root.
fn normalised(path: &str) -> String {
    match path.trim_matches('/') {
        "" => String::new(),
        path => format!("/{path}"),
    }
}

/// The Studies Service (PS3.18 10) and, where the engine has a ledger, the Worklist Service (11), under
/// [`WebOptions::path`]; to be merged into a program's router, whose own answers
/// it does not touch.
///
/// # Panics
/// As axum does for a path that it takes for a pattern: with braces, or a segment that begins with `:` or `*`.
pub fn router(pacs: Pacs, options: WebOptions) -> Router {
    let web = Arc::new(Web::new(pacs, options));
    let path = web.options.path.clone();
    let described = Arc::clone(&web);
    let itself = || MethodRouter::new().options(capabilities::options);
    let mut router = Router::new()
        .route("/studies", get(query::studies).post(store::store))
        .route("/series", get(query::all_series))
        .route("/instances", get(query::all_instances))
        .route("/studies/{study}/series", get(query::series_of_study))
        .route("/studies/{study}/instances", get(query::instances_of_study))
        .route(
            "/studies/{study}/series/{series}/instances",
            get(query::instances_of_series),
        );
    for path in [STUDY, SERIES, INSTANCE] {
        let mut instances = get(retrieve::instances::retrieve);
        instances = match web.options.delete {
            true => instances.merge(delete(remove::remove)),
            false => instances.fallback(remove::switched_off),
        };
        if path == STUDY {
            instances = instances.merge(post(store::store_in_study));
        }
        router = router
            .route(path, instances)
            .route(&format!("{path}/metadata"), get(retrieve::metadata::retrieve))
            .route(&format!("{path}/bulkdata"), get(retrieve::bulk::all))
            .route(&format!("{path}/pixeldata"), get(retrieve::bulk::pixel_data))
            .route(&format!("{path}/rendered"), get(retrieve::rendered::retrieve))
            .route(&format!("{path}/thumbnail"), get(retrieve::rendered::thumbnail));
    }
    if web.pacs.ups().is_ok() {
        router = router.merge(ups::routes());
    }
    let router = router
        .route(
            &format!("{INSTANCE}/bulkdata/{{*element}}"),
            get(retrieve::bulk::one),
        )
        .route(
            &format!("{INSTANCE}/frames/{{frames}}"),
            get(retrieve::frames::retrieve),
        )
        .route(
            &format!("{INSTANCE}/frames/{{frames}}/rendered"),
            get(retrieve::rendered::frames),
        )
        .route(
            &format!("{INSTANCE}/frames/{{frames}}/thumbnail"),
            get(retrieve::rendered::thumbnail_of_frame),
        )
        // No limit but the disk: bodies are streamed.
        .layer(DefaultBodyLimit::disable());
    let guard = web.guard({
        let path = path.clone();
        move |method, template| access::of_studies(method, template.strip_prefix(&path).unwrap_or(template))
    });
    let router = guard.around(router);
    if path.is_empty() {
        // What is nowhere is told by the program around, which may have a page at the root too.
        let router = router
            .method_not_allowed_fallback(http::layers::method_not_allowed)
            .route("/", itself())
            .with_state(web);
        return with_privacy_of_routes(router);
    }
    // What is below the path and nobody's is a problem of this service, whatever else the server has.
    let router = with_privacy(with_problems(router.route("/", itself()).with_state(web)));
    // The service itself is asked for with and without a slash at its end.
    let with_slash = Router::new()
        .route(&format!("{path}/"), itself())
        .with_state(described);
    Router::new().nest(&path, router).merge(with_slash)
}

const STUDY: &str = "/studies/{study}";
const SERIES: &str = "/studies/{study}/series/{series}";
const INSTANCE: &str = "/studies/{study}/series/{series}/instances/{instance}";

/// The URI Service (PS3.18 9) at `path`, which may be written as [`WebOptions::path`]; its answers name no URL.
///
/// # Panics
/// As [`router`].
pub fn wado_uri(pacs: Pacs, options: WebOptions, path: &str) -> Router {
    let web = Arc::new(Web::new(pacs, options));
    let path = match normalised(path) {
        path if path.is_empty() => "/".to_owned(),
        path => path,
    };
    let guard = web.guard(|_, _| Needs::Part(Permission::Retrieve));
    let router = guard.around(Router::new().route(&path, get(uri::retrieve)));
    with_privacy_of_routes(router.with_state(web))
}
