//! Who is let in over HTTP, on every route that the router has.

#[path = "../../tests/common/oidc.rs"]
mod oidc;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use pacs_core::dataset::base64;
use pacs_core::dataset::charset::CharacterSet;
use pacs_core::dataset::encode::encode;
use pacs_core::{DataSet, Options, Source, Uid, VR, tags, uids};
use pacs_net::identity::{Share, Shares, User, Users};
use pacs_net::tls::{Connector, Credentials};
use pacs_store::{MemoryArchive, MemoryIndex, MemoryLedger};
use tower::ServiceExt as _;

use super::*;
use oidc::Provider;

const CONFIGURATION: &str = r#"
    [access]

    [[access.role]]
    name = "all"
    allow = ["store", "find", "retrieve", "delete", "amend", "work", "route", "administer"]

    [[access.role]]
    name = "reader"
    allow = ["find", "retrieve", "work"]

    [[access.role]]
    name = "cardiology"
    allow = ["find", "retrieve", "delete"]
    only = { ReferringPhysicianName = "Heart^*" }

    [[access.role]]
    name = "images"
    allow = ["find"]
    only = { SOPClassUID = "1.2.840.10008.5.1.4.1.1.2" }
"#;

/// One permission each, under its own name.
fn configuration(provider: Option<&Provider>, data: &std::path::Path) -> Config {
    let mut text = format!(
        "data = {:?}\n[web]\ndelete = true\n{CONFIGURATION}",
        data.to_string_lossy()
    );
    for permission in Permission::ALL {
        let name = permission.name();
        text.push_str(&format!(
            "[[access.role]]\nname = \"may-{name}\"\nallow = [\"{name}\"]\n"
        ));
    }
    if let Some(provider) = provider {
        text.push_str(&format!(
            "[[access.issuer]]\nurl = {:?}\naudience = {:?}\n\
             roles = {{ radiologist = [\"reader\"], cardiologist = [\"cardiology\"], operator = [\"all\"] }}\n",
            provider.said.issuer, provider.said.audience
        ));
    }
    Config::parse(&text).unwrap()
}

/// Two studies: 1.2 is of the cardiologists, 1.3 isn't.
async fn filled(config: &Config) -> Pacs {
    let options = Options {
        access: config.control().unwrap(),
        ledger: Some(Arc::new(MemoryLedger::new())),
        ..Options::default()
    };
    let (archive, index) = (Arc::new(MemoryArchive::new()), Arc::new(MemoryIndex::new()));
    let pacs = Pacs::open(archive, index, options).await.unwrap();
    for (study, referring) in [("1.2", "Heart^Anna"), ("1.3", "Bone^Bert")] {
        let mut set = DataSet::new();
        set.put_text(tags::SOP_CLASS_UID, VR::UI, uids::CT_IMAGE_STORAGE);
        set.put_text(tags::SOP_INSTANCE_UID, VR::UI, format!("{study}.1.1"));
        set.put_text(tags::STUDY_INSTANCE_UID, VR::UI, study);
        set.put_text(tags::SERIES_INSTANCE_UID, VR::UI, format!("{study}.1"));
        set.put_text(tags::REFERRING_PHYSICIAN_NAME, VR::PN, referring);
        set.put_text(tags::PATIENT_ID, VR::LO, format!("P{study}"));
        let bytes = encode(&set, uids::EXPLICIT_VR_LITTLE_ENDIAN, &CharacterSet::utf8()).unwrap();
        let pieces = futures::stream::iter([Ok(bytes.into())]);
        pacs.import(Source::default(), pieces).await.unwrap();
    }
    pacs
}

fn served(config: &Config, pacs: &Pacs) -> Router {
    let connector = Connector::new(&Credentials::default()).unwrap();
    let served = Served {
        pacs: pacs.clone(),
        metrics: Metrics::new(),
        health: Health::new(pacs.clone()),
        dicom: ([127, 0, 0, 1], 104).into(),
        rates: Rates::new(),
        deliveries: watch::channel(None).1,
        identities: config.identities(&connector).unwrap(),
    };
    router(config, served).unwrap()
}

/// The templates of all routes, each with the methods that it has, as the router itself lists them.
fn routes_of(router: &Router) -> BTreeMap<String, BTreeSet<Method>> {
    let text = format!("{router:?}");
    let (routes, node) = text.split_once("node: Node").expect("the router lists its paths");
    let id = |text: &str| text.find(')').map(|end| text[..end].to_owned());
    let mut methods = BTreeMap::new();
    for part in routes.split("RouteId(").skip(1) {
        let of_route = [
            ("get", Method::GET),
            ("post", Method::POST),
            ("put", Method::PUT),
            ("delete", Method::DELETE),
            ("patch", Method::PATCH),
        ];
        let has = of_route
            .into_iter()
            .filter(|(name, _)| !part.contains(&format!("{name}: None")));
        methods.insert(id(part), has.map(|(_, method)| method).collect());
    }
    let mut found = BTreeMap::new();
    for part in node.split("RouteId(").skip(1) {
        let path = part.split('"').nth(1).unwrap_or_default();
        // What is nowhere has a route too.
        if let Some(methods) = methods.get(&id(part))
            && !path.is_empty()
            && !path.contains("__private__axum_fallback")
        {
            found.insert(path.to_owned(), BTreeSet::clone(methods));
        }
    }
    found
}

/// What each method of each route needs; `-` is nothing.
const NEEDED: &str = "
    / GET -
    /app-config.js GET -
    /dicom-web GET -
    /dicom-web/instances GET find
    /dicom-web/series GET find
    /dicom-web/studies GET find
    /dicom-web/studies POST store
    /dicom-web/studies/{study} GET retrieve
    /dicom-web/studies/{study} POST store
    /dicom-web/studies/{study} DELETE delete
    /dicom-web/studies/{study}/bulkdata GET retrieve
    /dicom-web/studies/{study}/instances GET find
    /dicom-web/studies/{study}/metadata GET retrieve
    /dicom-web/studies/{study}/pixeldata GET retrieve
    /dicom-web/studies/{study}/rendered GET retrieve
    /dicom-web/studies/{study}/series GET find
    /dicom-web/studies/{study}/series/{series} GET retrieve
    /dicom-web/studies/{study}/series/{series} DELETE delete
    /dicom-web/studies/{study}/series/{series}/bulkdata GET retrieve
    /dicom-web/studies/{study}/series/{series}/instances GET find
    /dicom-web/studies/{study}/series/{series}/instances/{instance} GET retrieve
    /dicom-web/studies/{study}/series/{series}/instances/{instance} DELETE delete
    /dicom-web/studies/{study}/series/{series}/instances/{instance}/bulkdata GET retrieve
    /dicom-web/studies/{study}/series/{series}/instances/{instance}/bulkdata/{*element} GET retrieve
    /dicom-web/studies/{study}/series/{series}/instances/{instance}/frames/{frames} GET retrieve
    /dicom-web/studies/{study}/series/{series}/instances/{instance}/frames/{frames}/rendered GET retrieve
    /dicom-web/studies/{study}/series/{series}/instances/{instance}/frames/{frames}/thumbnail GET retrieve
    /dicom-web/studies/{study}/series/{series}/instances/{instance}/metadata GET retrieve
    /dicom-web/studies/{study}/series/{series}/instances/{instance}/pixeldata GET retrieve
    /dicom-web/studies/{study}/series/{series}/instances/{instance}/rendered GET retrieve
    /dicom-web/studies/{study}/series/{series}/instances/{instance}/thumbnail GET retrieve
    /dicom-web/studies/{study}/series/{series}/metadata GET retrieve
    /dicom-web/studies/{study}/series/{series}/pixeldata GET retrieve
    /dicom-web/studies/{study}/series/{series}/rendered GET retrieve
    /dicom-web/studies/{study}/series/{series}/thumbnail GET retrieve
    /dicom-web/studies/{study}/thumbnail GET retrieve
    /dicom-web/workitems GET find
    /dicom-web/workitems POST work
    /dicom-web/workitems/{workitem} GET find
    /dicom-web/workitems/{workitem} POST work
    /dicom-web/workitems/{workitem}/cancelrequest POST work
    /dicom-web/workitems/{workitem}/cancelrequest/{aetitle} POST work
    /dicom-web/workitems/{workitem}/state PUT work
    /dicom-web/workitems/{workitem}/state/{aetitle} PUT work
    /dicom-web/workitems/{workitem}/subscribers/{aetitle} POST work
    /dicom-web/workitems/{workitem}/subscribers/{aetitle} DELETE work
    /dicom-web/workitems/{workitem}/subscribers/{aetitle}/suspend POST work
    /dicom-web/ws/subscribers/{aetitle} GET work
    /fhir/ImagingStudy GET find
    /fhir/ImagingStudy/_search GET find
    /fhir/ImagingStudy/_search POST find
    /fhir/ImagingStudy/{id} GET find
    /fhir/metadata GET -
    /healthz GET -
    /metrics GET administer
    /outbox GET route
    /outbox/{name} GET route
    /outbox/{name} DELETE route
    /outbox/{name}/discard POST route
    /outbox/{name}/hold POST route
    /outbox/{name}/of/{uid} GET route
    /outbox/{name}/release POST route
    /outbox/{name}/send-again POST route
    /quick GET -
    /readyz GET -
    /status GET find
    /study-status GET find
    /wado GET retrieve
";

/// The routes as the table has them, and the files of the pages.
fn needed() -> Vec<(String, Method, Option<Permission>)> {
    let mut all: Vec<(String, Method, Option<Permission>)> = NEEDED
        .lines()
        .filter_map(|line| {
            let [template, method, name] = line.split_whitespace().collect::<Vec<_>>()[..] else {
                return None;
            };
            let permission = Permission::ALL
                .into_iter()
                .find(|permission| permission.name() == name);
            assert!(permission.is_some() || name == "-", "{line}");
            Some((template.to_owned(), method.parse().unwrap(), permission))
        })
        .collect();
    let pages = page::paths().flat_map(|path| [path.to_owned(), format!("/quick{path}")]);
    for path in pages.filter(|path| path != "/") {
        all.push((path, Method::GET, None));
    }
    all
}

/// A path of a route, in one of the two studies.
fn path(template: &str, study: &str) -> String {
    let path = template
        .replace("{study}", study)
        .replace("{series}", &format!("{study}.1"))
        .replace("{instance}", &format!("{study}.1.1"))
        .replace("{frames}", "1")
        .replace("{*element}", "00100010")
        .replace("{workitem}", "1.2.9")
        .replace("{aetitle}", "ANY")
        .replace("{name}", "anywhere")
        .replace("{uid}", study)
        .replace("{id}", study);
    match template {
        "/wado" => format!(
            "/wado?requestType=WADO&studyUID={study}&seriesUID={study}.1&objectUID={study}.1.1&contentType=application/dicom"
        ),
        "/study-status" => format!("/study-status?study={study}"),
        _ => path,
    }
}

async fn asked(
    router: &Router,
    method: &Method,
    path: &str,
    authorization: Option<&str>,
) -> (StatusCode, HeaderMap, String) {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(authorization) = authorization {
        request = request.header(header::AUTHORIZATION, authorization);
    }
    let answer = router
        .clone()
        .oneshot(request.body(Body::empty()).unwrap())
        .await
        .unwrap();
    let (parts, body) = answer.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap_or_default();
    (
        parts.status,
        parts.headers,
        String::from_utf8_lossy(&body).into_owned(),
    )
}

fn basic(name: &str, password: &str) -> String {
    let mut text = b"Basic ".to_vec();
    base64::encode(format!("{name}:{password}").as_bytes(), &mut text);
    String::from_utf8(text).unwrap()
}

fn add_users(config: &Config) {
    let user = |permission: Permission| {
        let roles = vec![format!("may-{}", permission.name())];
        User::new(permission.name(), roles, b"secret").unwrap()
    };
    Users::write(&config.users(), &Permission::ALL.map(user)).unwrap();
}

#[tokio::test]
async fn every_route_lets_in_who_has_its_permission_and_nobody_else() {
    let directory = tempfile::tempdir().unwrap();
    let config = configuration(None, directory.path());
    add_users(&config);
    let pacs = filled(&config).await;
    let router = served(&config, &pacs);
    let table = needed();
    // Nobody forgets what a new route needs.
    let mut listed = BTreeMap::<String, BTreeSet<Method>>::new();
    for (template, method, _) in &table {
        listed.entry(template.clone()).or_default().insert(method.clone());
    }
    let mut routes = routes_of(&router);
    routes.retain(|_, methods| !methods.is_empty());
    // OHIF may be installed here or not, and the capabilities have a path of their own.
    for path in page::paths().chain(["/app-config.js"]) {
        routes.remove(path);
        listed.remove(path);
    }
    routes.remove("/fhir");
    assert_eq!(routes, listed);
    for (template, method, permission) in &table {
        if !routes.contains_key(template) {
            continue;
        }
        let path = path(template, "1.2");
        let (status, headers, _) = asked(&router, method, &path, None).await;
        match permission {
            None => assert!(
                !matches!(status.as_u16(), 401 | 403),
                "{method} {template}: {status}"
            ),
            Some(_) => {
                assert_eq!(status, StatusCode::UNAUTHORIZED, "{method} {template}");
                let challenge = headers[header::WWW_AUTHENTICATE].to_str().unwrap();
                assert!(
                    challenge.contains("Bearer") && challenge.contains("Basic"),
                    "{challenge}"
                );
            }
        }
        for who in Permission::ALL {
            let (status, _, body) = asked(&router, method, &path, Some(&basic(who.name(), "secret"))).await;
            let is_allowed = permission.is_none_or(|needed| needed == who);
            let is_refused = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
            assert_eq!(
                !is_refused, is_allowed,
                "{method} {template} with {who:?}: {status} {body}"
            );
        }
    }
}

#[tokio::test]
async fn every_route_believes_the_tokens_of_its_provider_and_no_others() {
    let Some(mut provider) = Provider::start() else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let config = configuration(Some(&provider), directory.path());
    let pacs = filled(&config).await;
    let router = served(&config, &pacs);
    let shares = Shares::open(&config.shares()).unwrap();
    let shared = shares.token(&Share {
        name: "practice".to_owned(),
        studies: vec![Uid::constant("1.2")],
        until: SystemTime::now() + Duration::from_secs(60),
    });
    let bearer = |token: &str| format!("Bearer {token}");
    let of = |name: &str| bearer(&provider.said.tokens[name]);
    for (template, method, permission) in needed() {
        let Some(permission) = permission else { continue };
        let all = of("olga");
        // What would be gone for the others.
        if method != Method::DELETE {
            let (status, _, body) = asked(&router, &method, &path(&template, "1.2"), Some(&all)).await;
            assert!(
                !matches!(status.as_u16(), 401 | 403),
                "{method} {template}: {status} {body}"
            );
        }
        for (what, token) in &provider.said.bad {
            let (status, headers, body) =
                asked(&router, &method, &path(&template, "1.2"), Some(&bearer(token))).await;
            assert_eq!(
                status,
                StatusCode::UNAUTHORIZED,
                "{method} {template}, {what}: {body}"
            );
            assert!(
                headers[header::WWW_AUTHENTICATE]
                    .to_str()
                    .unwrap()
                    .contains("invalid_token")
            );
        }
        // A visitor has no role here.
        let (status, ..) = asked(&router, &method, &path(&template, "1.2"), Some(&of("nobody"))).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{method} {template}");
        // Theirs is one study, and the other isn't there.
        for theirs in [of("carla"), bearer(shared.as_ref().unwrap())] {
            let (status, _, body) = asked(&router, &method, &path(&template, "1.3"), Some(&theirs)).await;
            assert!(
                !body.contains("1.3.1") && !body.contains("Bone"),
                "{method} {template}"
            );
            let names_it =
                template.contains("{study}") || ["/wado", "/fhir/ImagingStudy/{id}"].contains(&&*template);
            let searches = permission == Permission::Find && !template.contains("{id}");
            if names_it && !searches {
                assert!(
                    matches!(status.as_u16(), 403 | 404),
                    "{method} {template}: {status}"
                );
            }
        }
    }
    for token in ["carla", "anna", "olga"] {
        let (_, _, body) = asked(&router, &Method::GET, "/dicom-web/studies", Some(&of(token))).await;
        assert_eq!(
            (body.contains("1.2"), body.contains("1.3")),
            (true, token != "carla"),
            "{body}"
        );
    }
    let (_, _, body) = asked(
        &router,
        &Method::GET,
        "/study-status?study=1.2,1.3",
        Some(&of("carla")),
    )
    .await;
    assert!(!body.contains("1.3"), "{body}");
    // All is still there.
    for study in ["1.2", "1.3"] {
        let path = format!("/dicom-web/studies/{study}/metadata");
        assert_eq!(
            asked(&router, &Method::GET, &path, Some(&of("olga"))).await.0,
            StatusCode::OK
        );
    }
    let delete = |study: &'static str| path("/dicom-web/studies/{study}", study);
    for (study, expected) in [("1.3", StatusCode::NOT_FOUND), ("1.2", StatusCode::NO_CONTENT)] {
        let answered = asked(&router, &Method::DELETE, &delete(study), Some(&of("carla"))).await;
        assert_eq!(answered.0, expected, "{}", answered.2);
    }
    // The provider has another key from now on. Who asked it too often for keys that are nowhere may not ask now.
    let router = served(&config, &pacs);
    let before = of("olga");
    let first = asked(&router, &Method::GET, "/dicom-web/studies", Some(&before)).await;
    assert_eq!(first.0, StatusCode::OK, "{}", first.2);
    provider.change_key();
    let after = bearer(&provider.said.tokens["olga"]);
    for (token, expected) in [(after, StatusCode::OK), (before, StatusCode::UNAUTHORIZED)] {
        let answered = asked(&router, &Method::GET, "/dicom-web/studies", Some(&token)).await;
        assert_eq!(answered.0, expected, "{}", answered.2);
    }
}

#[tokio::test]
async fn a_page_of_another_origin_changes_nothing_with_the_password_of_who_looks_at_it() {
    let directory = tempfile::tempdir().unwrap();
    let config = configuration(None, directory.path());
    add_users(&config);
    let pacs = filled(&config).await;
    let router = served(&config, &pacs);
    for (origin, is_refused) in [("https://evil.example", true), ("http://pacs.example", false)] {
        let request = Request::delete("/dicom-web/studies/1.2")
            .header(header::HOST, "pacs.example")
            .header(header::ORIGIN, origin)
            .header(header::AUTHORIZATION, basic("delete", "secret"))
            .body(Body::empty())
            .unwrap();
        let status = router.clone().oneshot(request).await.unwrap().status();
        assert_eq!(status == StatusCode::FORBIDDEN, is_refused, "{origin}: {status}");
    }
}

#[tokio::test]
async fn who_may_find_a_part_of_a_study_is_told_no_modality_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let config = configuration(None, directory.path());
    let user = |name: &str, role: &str| User::new(name, vec![role.to_owned()], b"secret").unwrap();
    Users::write(&config.users(), &[user("all", "reader"), user("part", "images")]).unwrap();
    let pacs = filled(&config).await;
    let router = served(&config, &pacs);
    for (name, is_told) in [("all", true), ("part", false)] {
        let authorization = basic(name, "secret");
        let (status, _, body) =
            asked(&router, &Method::GET, "/dicom-web/studies", Some(&authorization)).await;
        assert_eq!(status, StatusCode::OK, "{name}");
        assert!(
            body.contains("1.2") && body.contains("00080061"),
            "{name}: {body}"
        );
        assert_eq!(body.contains("\"OT\""), is_told, "{name}: {body}");
    }
}
