//! Values that a setting may have.

use pacs_core::AeTitle;
use serde::{Deserialize, Deserializer, de};

use super::Peer;

pub(super) fn ae_title<'de, D: Deserializer<'de>>(deserializer: D) -> Result<AeTitle, D::Error> {
    let text = String::deserialize(deserializer)?;
    AeTitle::parse(&text).map_err(|error| de::Error::custom(error.context()))
}

pub(super) fn filter<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    crate::logging::filter(&text).map_err(de::Error::custom)?;
    Ok(text)
}

pub(super) fn not_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        Err(de::Error::custom("a host name or address must stand here"))
    } else {
        Ok(text)
    }
}

pub(super) fn port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    match u16::deserialize(deserializer)? {
        0 => Err(de::Error::custom("a port is 1 to 65535")),
        port => Ok(port),
    }
}

pub(super) fn at_least_one<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + PartialEq + Default,
{
    let number = T::deserialize(deserializer)?;
    if number == T::default() {
        Err(de::Error::custom("at least 1"))
    } else {
        Ok(number)
    }
}

pub(super) fn associations<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let number = usize::deserialize(deserializer)?;
    if (1..=Peer::ASSOCIATIONS_MAX).contains(&number) {
        Ok(number)
    } else {
        Err(de::Error::custom(format_args!(
            "1 to {} associations can be opened to a peer",
            Peer::ASSOCIATIONS_MAX
        )))
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
