//! FHIR R4: what is answered is held against the structure of the resources, and against fhir.resources of Python
//! where that is installed.
#![allow(clippy::print_stderr)]

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::*;

/// Members of a type that are used here: name, type, and whether there must be one (`1`), may be (`?`), or may be several
/// (`*`, `+`).
type Structure = &'static [(&'static str, &'static str, char)];

/// From the definitions of R4 (4.0.1).
fn structure(of: &str) -> Option<Structure> {
    Some(match of {
        "ImagingStudy" => &[
            ("resourceType", "code", '1'),
            ("id", "id", '?'),
            ("contained", "Endpoint", '*'),
            ("identifier", "Identifier", '*'),
            ("status", "code", '1'),
            ("modality", "Coding", '*'),
            ("subject", "Reference", '1'),
            ("started", "dateTime", '?'),
            ("basedOn", "Reference", '*'),
            ("referrer", "Reference", '?'),
            ("endpoint", "Reference", '*'),
            ("numberOfSeries", "unsignedInt", '?'),
            ("numberOfInstances", "unsignedInt", '?'),
            ("procedureCode", "CodeableConcept", '*'),
            ("description", "string", '?'),
            ("series", "Series", '*'),
        ],
        "Series" => &[
            ("uid", "id", '1'),
            ("number", "unsignedInt", '?'),
            ("modality", "Coding", '1'),
            ("description", "string", '?'),
            ("numberOfInstances", "unsignedInt", '?'),
            ("endpoint", "Reference", '*'),
            ("bodySite", "Coding", '?'),
            ("laterality", "Coding", '?'),
            ("started", "dateTime", '?'),
            ("instance", "Instance", '*'),
        ],
        "Instance" => &[
            ("uid", "id", '1'),
            ("sopClass", "Coding", '1'),
            ("number", "unsignedInt", '?'),
            ("title", "string", '?'),
        ],
        "Endpoint" => &[
            ("resourceType", "code", '1'),
            ("id", "id", '?'),
            ("status", "code", '1'),
            ("connectionType", "Coding", '1'),
            ("payloadType", "CodeableConcept", '+'),
            ("payloadMimeType", "code", '*'),
            ("address", "url", '1'),
        ],
        "Identifier" => &[
            ("use", "code", '?'),
            ("type", "CodeableConcept", '?'),
            ("system", "uri", '?'),
            ("value", "string", '?'),
            ("assigner", "Reference", '?'),
        ],
        "Reference" => &[
            ("reference", "string", '?'),
            ("type", "uri", '?'),
            ("identifier", "Identifier", '?'),
            ("display", "string", '?'),
        ],
        "Coding" => &[
            ("system", "uri", '?'),
            ("code", "code", '?'),
            ("display", "string", '?'),
        ],
        "CodeableConcept" => &[("coding", "Coding", '*'), ("text", "string", '?')],
        "Bundle" => &[
            ("resourceType", "code", '1'),
            ("type", "code", '1'),
            ("total", "unsignedInt", '?'),
            ("link", "Link", '*'),
            ("entry", "Entry", '*'),
        ],
        "Link" => &[("relation", "string", '1'), ("url", "uri", '1')],
        "Entry" => &[
            ("fullUrl", "uri", '?'),
            ("resource", "ImagingStudy", '?'),
            ("search", "Search", '?'),
        ],
        "Search" => &[("mode", "code", '?')],
        "OperationOutcome" => &[("resourceType", "code", '1'), ("issue", "Issue", '+')],
        "Issue" => &[
            ("severity", "code", '1'),
            ("code", "code", '1'),
            ("diagnostics", "string", '?'),
        ],
        "CapabilityStatement" => &[
            ("resourceType", "code", '1'),
            ("status", "code", '1'),
            ("date", "dateTime", '1'),
            ("kind", "code", '1'),
            ("software", "Software", '?'),
            ("implementation", "Implementation", '?'),
            ("fhirVersion", "code", '1'),
            ("format", "code", '+'),
            ("rest", "Rest", '*'),
        ],
        "Software" => &[("name", "string", '1')],
        "Implementation" => &[("description", "string", '1'), ("url", "url", '?')],
        "Rest" => &[("mode", "code", '1'), ("resource", "RestResource", '*')],
        "RestResource" => &[
            ("type", "code", '1'),
            ("profile", "uri", '?'),
            ("interaction", "Interaction", '*'),
            ("versioning", "code", '?'),
            ("searchParam", "SearchParam", '*'),
        ],
        "Interaction" => &[("code", "code", '1')],
        "SearchParam" => &[
            ("name", "string", '1'),
            ("definition", "uri", '?'),
            ("type", "code", '1'),
            ("documentation", "string", '?'),
        ],
        _ => return None,
    })
}

/// Holds a value against its type; answers what is wrong.
fn wrong(value: &Value, of: &str, at: &str) -> Vec<String> {
    let bad = |what: &str| vec![format!("{at}: {what}: {value}")];
    let Some(members) = structure(of) else {
        let text = value.as_str();
        let is_well = match of {
            "unsignedInt" => value.as_u64().is_some_and(|number| i32::try_from(number).is_ok()),
            "id" => text.is_some_and(|text| {
                (1..=64).contains(&text.len())
                    && text
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
            }),
            "code" => {
                text.is_some_and(|text| !text.is_empty() && text.trim() == text && !text.contains("  "))
            }
            "uri" | "url" => text.is_some_and(|text| !text.is_empty() && !text.contains(char::is_whitespace)),
            "string" => text.is_some_and(|text| !text.trim().is_empty()),
            "dateTime" => text.is_some_and(is_date_time),
            other => panic!("no such type: {other}"),
        };
        return if is_well { Vec::new() } else { bad(of) };
    };
    let Some(object) = value.as_object().filter(|object| !object.is_empty()) else {
        return bad("no object with members");
    };
    let mut found = Vec::new();
    for (name, value) in object {
        let at = format!("{at}.{name}");
        match members.iter().find(|(known, ..)| known == name) {
            None => found.push(format!("{at}: no such member of {of}")),
            Some((_, of, '*' | '+')) => match value.as_array().filter(|items| !items.is_empty()) {
                Some(items) => items.iter().for_each(|item| found.extend(wrong(item, of, &at))),
                None => found.push(format!("{at}: no array of items")),
            },
            Some((_, of, _)) => found.extend(wrong(value, of, &at)),
        }
    }
    let missing = members
        .iter()
        .filter(|(name, _, many)| matches!(many, '1' | '+') && !object.contains_key(*name));
    found.extend(missing.map(|(name, ..)| format!("{at}.{name} is missing")));
    if object.get("resourceType").is_some_and(|name| name != of) {
        found.push(format!("{at}: another resource than {of}"));
    }
    found
}

/// A day, or a moment with seconds and zone.
fn is_date_time(text: &str) -> bool {
    let shape: String = text
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    matches!(
        shape.as_str(),
        "0000-00-00" | "0000-00-00T00:00:00+00:00" | "0000-00-00T00:00:00-00:00"
    )
}

/// The resource that was answered, which is one as R4 has it.
fn resource(answer: &Answer, of: &str) -> Value {
    assert_eq!(answer.header(header::CONTENT_TYPE), "application/fhir+json");
    let resource = answer.json();
    let wrong = wrong(&resource, of, of);
    assert!(wrong.is_empty(), "{wrong:#?}");
    validated(&resource, of);
    resource
}

/// Holds a resource against fhir.resources (R4B, whose resources here are those of R4).
fn validated(resource: &Value, of: &str) {
    let venv = std::env::var_os("PACS_PEERS_VENV").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/peers-venv"),
        PathBuf::from,
    );
    let python = venv.join("bin/python");
    let is_there = Command::new(&python)
        .args(["-c", "import fhir.resources.R4B.imagingstudy"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !is_there {
        assert!(
            std::env::var_os("PACS_REQUIRE_PEERS").is_none_or(|value| value != "1"),
            "fhir.resources is required and not installed"
        );
        eprintln!("skipped: fhir.resources is not installed (.ci/peers)");
        return;
    }
    let program = "import sys, importlib; name = sys.argv[1]; \
        module = importlib.import_module('fhir.resources.R4B.' + name.lower()); \
        getattr(module, name).parse_raw(sys.stdin.read())";
    let mut child = Command::new(python)
        .args(["-W", "ignore", "-c", program, of])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(resource.to_string().as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{of}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Three studies: the first has two series, the second of which has two instances.
async fn served() -> Served {
    let images = [(1, 1, 1), (1, 2, 1), (1, 2, 2), (2, 1, 1), (3, 2, 1)];
    Served::keeping(images.map(|(study, series, instance)| Image::new(study, series, instance).file())).await
}

/// The IDs of the studies of a page.
fn found(bundle: &Value) -> Vec<String> {
    let entries = bundle["entry"].as_array().cloned().unwrap_or_default();
    let mut found: Vec<String> = entries
        .iter()
        .map(|entry| entry["resource"]["id"].as_str().unwrap().to_owned())
        .collect();
    found.sort();
    found
}

fn link<'a>(bundle: &'a Value, relation: &str) -> Option<&'a str> {
    let links = bundle["link"].as_array().unwrap();
    links.iter().find(|link| link["relation"] == relation)?["url"].as_str()
}

#[tokio::test]
async fn a_study_is_read_as_a_resource_that_r4_allows() {
    let served = served().await;
    let study = resource(&served.get("/fhir/ImagingStudy/1.2.1").await, "ImagingStudy");
    assert_eq!(study["id"], "1.2.1");
    assert_eq!(study["identifier"][0]["value"], "urn:oid:1.2.1");
    assert_eq!(study["identifier"][1]["value"], "A1");
    assert_eq!(study["status"], "available");
    assert_eq!(study["started"], "2024-01-01");
    assert_eq!(study["subject"]["identifier"]["value"], "P1");
    assert_eq!(study["subject"]["display"], "Patient1 Müller");
    assert_eq!(study["referrer"]["display"], "Doctor Ref");
    assert_eq!(study["description"], "Study 1");
    assert_eq!(study["basedOn"][0]["identifier"]["value"], "A1");
    assert_eq!(
        (&study["numberOfSeries"], &study["numberOfInstances"]),
        (&json!(2), &json!(3))
    );
    assert_eq!(study["contained"][0]["address"], "http://pacs.example/dicom-web");
    assert_eq!(study["contained"][0]["connectionType"]["code"], "dicom-wado-rs");
    assert_eq!(
        study["endpoint"][0]["reference"],
        format!("#{}", study["contained"][0]["id"].as_str().unwrap())
    );
    let series = study["series"].as_array().unwrap();
    let told: Vec<_> = series
        .iter()
        .map(|series| {
            (
                series["uid"].as_str().unwrap(),
                series["modality"]["code"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(told, [("1.2.1.1", "CT"), ("1.2.1.2", "MR")]);
    let instances = series[1]["instance"].as_array().unwrap();
    let mut uids: Vec<_> = instances
        .iter()
        .map(|instance| instance["uid"].as_str().unwrap())
        .collect();
    uids.sort_unstable();
    assert_eq!(uids, ["1.2.1.2.1", "1.2.1.2.2"]);
    assert_eq!(
        instances[0]["sopClass"]["code"],
        format!("urn:oid:{}", uids::CT_IMAGE_STORAGE)
    );
}

#[tokio::test]
async fn studies_are_searched_by_what_r4_has_for_them() {
    let served = served().await;
    for (query, expected) in [
        ("", "1.2.1 1.2.2 1.2.3"),
        ("_id=1.2.2", "1.2.2"),
        ("identifier=urn:dicom:uid|urn:oid:1.2.3", "1.2.3"),
        ("identifier=A2", "1.2.2"),
        ("identifier=A1,A2", "1.2.1 1.2.2"),
        ("basedon:identifier=A3", "1.2.3"),
        ("patient:identifier=P1", "1.2.1"),
        ("patient.identifier=|P2", "1.2.2"),
        ("patient.identifier=urn:oid:9.9|P2", ""),
        ("patient:identifier=P", ""),
        ("patient:identifier=*", ""),
        ("started=2024-01-02", "1.2.2"),
        ("started=ge2024-01-02", "1.2.2 1.2.3"),
        ("started=gt2024-01-01&started=lt2024-01-03", "1.2.2"),
        ("started=le2024-01-01", "1.2.1"),
        ("started=2023", ""),
        ("modality=MR", "1.2.1 1.2.3"),
        (
            "modality=http://dicom.nema.org/resources/ontology/DCM|CT&started=2024-01-02",
            "1.2.2",
        ),
        ("modality=US", ""),
        (
            "dicom-class=urn:oid:1.2.840.10008.5.1.4.1.1.2",
            "1.2.1 1.2.2 1.2.3",
        ),
        ("dicom-class=urn:oid:1.2.840.10008.5.1.4.1.1.4", ""),
        ("status=available", "1.2.1 1.2.2 1.2.3"),
        ("status=cancelled", ""),
    ] {
        let answer = served
            .get(&format!("/fhir/ImagingStudy?{}", query.replace('|', "%7C")))
            .await;
        assert_eq!(
            answer.status,
            StatusCode::OK,
            "{query}: {}",
            String::from_utf8_lossy(&answer.body)
        );
        let bundle = resource(&answer, "Bundle");
        assert_eq!(found(&bundle).join(" "), expected, "{query}");
        assert_eq!(bundle["total"], found(&bundle).len(), "{query}");
    }
    let form = Request::builder()
        .method(Method::POST)
        .uri("/fhir/ImagingStudy/_search?modality=CT")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Body::from("patient%3Aidentifier=P2"))
        .unwrap();
    assert_eq!(found(&resource(&served.ask(form).await, "Bundle")), ["1.2.2"]);
}

#[tokio::test]
async fn pages_lead_to_all_that_is_found() {
    let served = served().await;
    let mut all = Vec::new();
    let mut path = "/fhir/ImagingStudy?status=available&_count=2".to_owned();
    let mut pages = 0;
    loop {
        let bundle = resource(&served.get(&path).await, "Bundle");
        assert_eq!(bundle["total"], 3);
        all.extend(found(&bundle));
        pages += 1;
        let Some(next) = link(&bundle, "next") else {
            assert!(link(&bundle, "previous").is_some());
            break;
        };
        path = next.strip_prefix("http://pacs.example").unwrap().to_owned();
    }
    all.sort();
    assert_eq!(
        (pages, all),
        (
            2,
            vec!["1.2.1".to_owned(), "1.2.2".to_owned(), "1.2.3".to_owned()]
        )
    );
    let counted = resource(&served.get("/fhir/ImagingStudy?_count=0").await, "Bundle");
    assert_eq!((counted["total"].clone(), found(&counted).len()), (json!(3), 0));
}

#[tokio::test]
async fn what_is_offered_is_what_can_be_asked_for() {
    let served = served().await;
    let statement = resource(&served.get("/fhir/metadata").await, "CapabilityStatement");
    assert_eq!(statement["fhirVersion"], "4.0.1");
    assert_eq!(statement["implementation"]["url"], "http://pacs.example/fhir");
    for parameter in statement["rest"][0]["resource"][0]["searchParam"]
        .as_array()
        .unwrap()
    {
        let name = parameter["name"].as_str().unwrap();
        let name = match parameter["type"].as_str().unwrap() {
            "reference" => format!("{name}:identifier"),
            _ => name.to_owned(),
        };
        let value = if name == "started" {
            "2024"
        } else if name == "status" {
            "available"
        } else {
            "1.2"
        };
        let answer = served.get(&format!("/fhir/ImagingStudy?{name}={value}")).await;
        assert_eq!(answer.status, StatusCode::OK, "{name}");
    }
}

#[tokio::test]
async fn failures_are_told_as_outcomes() {
    let served = served().await;
    for (path, status, code) in [
        ("/fhir/ImagingStudy/1.2.9", StatusCode::NOT_FOUND, "not-found"),
        ("/fhir/ImagingStudy/none", StatusCode::NOT_FOUND, "not-found"),
        ("/fhir/Patient/1", StatusCode::NOT_FOUND, "not-found"),
        (
            "/fhir/ImagingStudy?PatientName=Secret",
            StatusCode::BAD_REQUEST,
            "invalid",
        ),
        (
            "/fhir/ImagingStudy?started=Secret",
            StatusCode::BAD_REQUEST,
            "invalid",
        ),
        (
            "/fhir/ImagingStudy?_format=xml",
            StatusCode::NOT_ACCEPTABLE,
            "not-supported",
        ),
    ] {
        let answer = served.get(path).await;
        assert_eq!(answer.status, status, "{path}");
        let outcome = resource(&answer, "OperationOutcome");
        assert_eq!(outcome["issue"][0]["code"], code, "{path}");
        assert!(!outcome.to_string().contains("Secret"));
    }
    let answer = served.get_as("/fhir/metadata", "application/fhir+xml").await;
    assert_eq!(answer.status, StatusCode::NOT_ACCEPTABLE);
    let created = Request::builder()
        .method(Method::POST)
        .uri("/fhir/ImagingStudy")
        .body(Body::empty())
        .unwrap();
    let answer = served.ask(created).await;
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
    resource(&answer, "OperationOutcome");
}
