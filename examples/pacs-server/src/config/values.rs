//! Values that a setting may have.

use serde::{Deserialize, Deserializer, de};

pub(super) fn filter<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    crate::logging::filter(&text).map_err(de::Error::custom)?;
    Ok(text)
}

pub(super) fn percent<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
    match u8::deserialize(deserializer)? {
        percent @ 1..=100 => Ok(percent),
        _ => Err(de::Error::custom("1 to 100 percent")),
    }
}

/// Scheme, host and port, or nothing.
pub(super) fn origin<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() || is_origin(&text) {
        Ok(text)
    } else {
        Err(not_an_origin(&text))
    }
}

pub(super) fn origins<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let origins = Vec::<String>::deserialize(deserializer)?;
    match origins.iter().find(|text| *text != "*" && !is_origin(text)) {
        Some(text) => Err(not_an_origin(text)),
        None => Ok(origins),
    }
}

/// Whether it is an origin as RFC 6454 writes it.
fn is_origin(text: &str) -> bool {
    let host = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
    host.is_some_and(|host| !host.is_empty() && host.chars().all(allowed))
}

fn not_an_origin<E: de::Error>(text: &str) -> E {
    E::custom(format_args!(
        "{text:?} is not like https://pacs.example or http://host:8080"
    ))
}
