//! What is offered: CapabilityStatement (FHIR R4 2.34).

use serde_json::{Value, json};

use super::search::PARAMETERS;

/// Says what of it is new: a client that knows a statement by its date reads another one anew.
const DATE: &str = "2025-01-01";

pub(super) fn statement(base: &str) -> Value {
    let parameters: Vec<Value> = PARAMETERS
        .iter()
        .map(|parameter| {
            let mut it = json!({
                "name": parameter.name,
                "type": parameter.kind,
                "documentation": parameter.documentation,
            });
            if let Some(definition) = parameter.definition {
                it["definition"] = json!(format!("http://hl7.org/fhir/SearchParameter/{definition}"));
            }
            it
        })
        .collect();
    json!({
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": DATE,
        "kind": "instance",
        "software": { "name": crate::IMPLEMENTATION_VERSION },
        "implementation": { "description": "ImagingStudy of a PACS, made from its index", "url": base },
        "fhirVersion": "4.0.1",
        "format": ["application/fhir+json", "json"],
        "rest": [{
            "mode": "server",
            "resource": [{
                "type": "ImagingStudy",
                "profile": "http://hl7.org/fhir/StructureDefinition/ImagingStudy",
                "interaction": [{ "code": "read" }, { "code": "search-type" }],
                "versioning": "no-version",
                "searchParam": parameters,
            }],
        }],
    })
}
