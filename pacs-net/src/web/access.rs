//! Who is let in over HTTP: [`Guard`] stands before routes, finds out who asks, and asks the engine's access control.
//!
//! - `Authorization: Bearer` has a token (RFC 6750), `Authorization: Basic` a name and a password (RFC 7617); a client
//!   certificate is found with the connection. What is said and isn't believed is answered 401, also where nothing would
//!   be needed.
//! - Who may not is answered 401 where they haven't said who they are, and 403 otherwise.
//! - Each route of a router that a guard stands around is guarded: one that nobody thought of needs
//!   [`Permission::Administer`].

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, MatchedPath, Request};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use http::{Extensions, HeaderMap, HeaderValue, Method, StatusCode, header};
use pacs_core::access::{Door, Identity};
use pacs_core::dataset::base64;
use pacs_core::{Error, Pacs, Permission, Retry, Source};

use super::http::origin;
use super::http::problem::{Problem, WebResult};
use super::http::server::Secured;
use crate::audited;
use crate::identity::{Identities, not_believed};

/// What a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: it shows nothing that is kept.
    Nothing,
    /// Leave to do this, with all that is kept or with a part; which, its handler holds.
    Part(Permission),
    /// Leave to do this with all that is kept.
    All(Permission),
}

/// Says what a request needs, by its method and the template of its route.
type Table = dyn Fn(&Method, &str) -> Needs + Send + Sync;

/// Lets in who may.
#[derive(Clone)]
pub struct Guard(Arc<Inner>);

struct Inner {
    pacs: Pacs,
    identities: Option<Identities>,
    origins: Vec<String>,
    needs: Box<Table>,
    answer: fn(Problem) -> Response,
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guard")
    }
}

impl Guard {
    /// By what the engine's access control says; users are believed by `identities`. `needs` says what a request needs by
    /// its method and the template of its route, as it is written in the whole router.
    pub fn new(
        pacs: Pacs,
        identities: Option<Identities>,
        needs: impl Fn(&Method, &str) -> Needs + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Inner {
            pacs,
            identities,
            origins: Vec::new(),
            needs: Box::new(needs),
            answer: Problem::into_response,
        }))
    }

    /// Pages of these origins may do what needs a password too: a browser sends it along, whichever page asks.
    #[must_use]
    pub fn with_origins(mut self, origins: Vec<String>) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            inner.origins = origins;
        }
        self
    }

    /// Who isn't let in is answered so.
    #[must_use]
    pub fn answering(mut self, answer: fn(Problem) -> Response) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            inner.answer = answer;
        }
        self
    }

    /// Stands before each route that the router has now.
    pub fn around<S: Clone + Send + Sync + 'static>(&self, router: Router<S>) -> Router<S> {
        let guard = self.clone();
        router.route_layer(from_fn(move |request: Request, next: Next| {
            let guard = guard.clone();
            async move {
                match guard.0.let_in(request).await {
                    Ok(request) => next.run(request).await,
                    Err(problem) => (guard.0.answer)(problem),
                }
            }
        }))
    }
}

impl Inner {
    /// The request of somebody who may, with who it is.
    async fn let_in(&self, mut request: Request) -> WebResult<Request> {
        let mut source = source(request.extensions());
        let address = source.address.map(|address| address.ip());
        source.identity = self.identity(request.headers(), address).await?;
        if is_ambient(&request) && !origin::is_allowed(request.headers(), &self.origins) {
            let why = "pages of another origin may not do this by who looks at them";
            return Err(Problem::new(StatusCode::FORBIDDEN, why));
        }
        let template = request.extensions().get::<MatchedPath>();
        let template = template.map_or("", MatchedPath::as_str);
        let permitted = match (self.needs)(request.method(), template) {
            Needs::Nothing => Ok(()),
            Needs::Part(permission) => self.pacs.permit(&source, permission).map(|_| ()),
            Needs::All(permission) => self.pacs.permit_all(&source, permission),
        };
        permitted.map_err(|error| match (&self.identities, &source.identity) {
            (Some(_), None) => self.challenge(&error, None),
            _ => Problem::from(error),
        })?;
        request.extensions_mut().insert(source);
        Ok(request)
    }

    /// Who they say that they are, where they say it and it is believed.
    async fn identity(
        &self,
        headers: &HeaderMap,
        address: Option<IpAddr>,
    ) -> WebResult<Option<Arc<Identity>>> {
        let (Some(Identities(identities)), Some(said)) =
            (&self.identities, headers.get(header::AUTHORIZATION))
        else {
            return Ok(None);
        };
        let unreadable = || not_believed("what stands in Authorization can't be read");
        let said = said.to_str().map_err(|_| self.challenge(&unreadable(), None))?;
        let (scheme, credentials) = said.trim().split_once(' ').unwrap_or((said, ""));
        let credentials = credentials.trim();
        let believed = if scheme.eq_ignore_ascii_case("bearer") {
            identities.token(credentials, address).await
        } else if scheme.eq_ignore_ascii_case("basic") {
            match basic(credentials) {
                Some((name, password)) => identities.password(&name, &password, address).await,
                None => Err(unreadable()),
            }
        } else {
            Err(not_believed("nobody is believed by this scheme here"))
        };
        let is_token = scheme.eq_ignore_ascii_case("bearer");
        match believed {
            Ok(user) => {
                // Each request says it.
                let what = ("login", &user.name, address);
                if !self.pacs.audit().is_known(&what) {
                    audited::login(&self.pacs, &user.name, address, None).await?;
                    self.pacs.audit().note(&what);
                }
                Ok(Some(user))
            }
            Err(error) => {
                let name = (!is_token).then(|| basic(credentials)).flatten();
                let name = name.map_or_else(|| audited::A_TOKEN.to_owned(), |(name, _)| name);
                audited::login(&self.pacs, &name, address, Some(&error)).await?;
                Err(self.challenge(&error, is_token.then_some("invalid_token")))
            }
        }
    }

    /// 401, with what would be believed (RFC 9110 11.6.1, RFC 6750 3); 429 where it isn't looked at for now, and what it
    /// is otherwise where it can't be.
    fn challenge(&self, error: &Error, code: Option<&str>) -> Problem {
        if error.kind() != pacs_core::ErrorKind::Refused {
            return Problem::from(error);
        }
        if error.retry() == Retry::Later {
            return Problem::from(error)
                .with_status(StatusCode::TOO_MANY_REQUESTS)
                .with_retry_after(super::http::problem::RETRY_AFTER);
        }
        let has_passwords = self
            .identities
            .as_ref()
            .is_some_and(|known| known.0.has_passwords());
        let mut offered = r#"Bearer realm="PACS""#.to_owned();
        if let Some(code) = code {
            offered.push_str(&format!(r#", error="{code}""#));
        }
        if has_passwords {
            offered.push_str(r#", Basic realm="PACS", charset="UTF-8""#);
        }
        let problem = Problem::from(error).with_status(StatusCode::UNAUTHORIZED);
        match HeaderValue::from_str(&offered) {
            Ok(offered) => problem.with_header(header::WWW_AUTHENTICATE, offered),
            Err(_) => problem,
        }
    }
}

/// Who asks: as a guard found, or as the connection says where none stands before the route.
pub fn source(extensions: &Extensions) -> Source {
    if let Some(source) = extensions.get::<Source>() {
        return source.clone();
    }
    let address = extensions.get::<ConnectInfo<SocketAddr>>();
    let secured = extensions.get::<Secured>();
    Source {
        door: Some(Door::Web),
        address: address.map(|ConnectInfo(address)| *address),
        certificate: secured.and_then(|secured| secured.certificate.clone()),
        ..Source::default()
    }
}

/// Whether a browser would send this for any page, without asking and with what it knows of who looks at it: a password, a
/// certificate, an address. What else changes something it asks about first (CORS), but where a password goes along.
fn is_ambient(request: &Request) -> bool {
    if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        return false;
    }
    let headers = request.headers();
    match scheme(headers) {
        Some(scheme) if scheme.eq_ignore_ascii_case("basic") => true,
        // No browser adds it by itself.
        Some(_) => false,
        None => {
            let content_type = headers
                .get(header::CONTENT_TYPE)
                .and_then(|value| value.to_str().ok());
            let media_type = content_type.map(|text| text.split(';').next().unwrap_or_default().trim());
            // Fetch 2.2.2: CORS-safelisted request-header.
            *request.method() == Method::POST
                && media_type.is_none_or(|media_type| {
                    [
                        "application/x-www-form-urlencoded",
                        "multipart/form-data",
                        "text/plain",
                    ]
                    .iter()
                    .any(|simple| media_type.eq_ignore_ascii_case(simple))
                })
        }
    }
}

fn scheme(headers: &HeaderMap) -> Option<&str> {
    let said = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    said.split_ascii_whitespace().next()
}

/// The name and the password in base64 (RFC 7617 2).
fn basic(credentials: &str) -> Option<(String, Vec<u8>)> {
    let bytes = base64::decode(credentials)?;
    let at = bytes.iter().position(|byte| *byte == b':')?;
    let name = String::from_utf8(bytes[..at].to_vec()).ok()?;
    Some((name, bytes[at + 1..].to_vec()))
}

/// What the Studies and the Worklist Service need, by the template of a route below their path.
pub(super) fn of_studies(method: &Method, template: &str) -> Needs {
    use Permission as P;
    let is_read = matches!(*method, Method::GET | Method::HEAD);
    match template {
        // The capabilities.
        "" | "/" => Needs::Nothing,
        "/studies" | "/series" | "/instances" if is_read => Needs::Part(P::Find),
        "/studies/{study}/series"
        | "/studies/{study}/instances"
        | "/studies/{study}/series/{series}/instances"
            if is_read =>
        {
            Needs::Part(P::Find)
        }
        "/studies" | "/studies/{study}" if *method == Method::POST => Needs::Part(P::Store),
        template if template.starts_with("/studies/") => match *method {
            Method::GET | Method::HEAD => Needs::Part(P::Retrieve),
            Method::DELETE => Needs::Part(P::Delete),
            _ => Needs::All(P::Administer),
        },
        // What comes over it goes to nobody else.
        template if template.starts_with("/ws/") => Needs::All(P::Work),
        template if template.starts_with("/workitems") => match is_read {
            true => Needs::All(P::Find),
            false => Needs::All(P::Work),
        },
        _ => Needs::All(P::Administer),
    }
}
