//! [`Accept`]: which representation a client gets (PS3.18 8.3.3, 8.7.5 to 8.7.8; RFC 9110 12).
//!
//! Two rules of the Standard are read as mildly as RFC 9110 does, because real clients rely on it:
//!
//! - A request without Accept gets the default, as if it said `*/*`; PS3.18 8.7.5 has 406 for it.
//! - DICOM and rendered media types may stand in one list; PS3.18 8.7.5 has 400 for it, but every browser's list for
//!   a picture is mixed. What counts is what the resource offers.
//!
//! Ranges that can't be read are passed over (PS3.18 8.7.7).

use std::borrow::Cow;
use std::cmp::Reverse;

use http::{HeaderMap, header};
use percent_encoding::percent_decode_str;

use super::media_type::MediaType;
use super::problem::Problem;

/// All Accept fields of a request together, or its accept parameter, in bytes. The longest lists of real viewers
/// have 2 KiB.
pub const ACCEPT_LENGTH_MAX_BYTES: usize = 16 * 1024;

/// The most media ranges that are read of a request, header and parameter each. Matching costs ranges times offers.
pub const RANGES_MAX: usize = 100;

/// A representation that a resource has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Its media type; of a multipart one with the type of its parts ([`MediaType::related`]).
    pub media_type: MediaType,
    /// Its transfer syntax.
    pub transfer_syntax: Offered,
}

/// The transfer syntax of an [`Offer`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offered {
    /// None: it means nothing for this media type.
    Nothing,
    /// This one.
    One(Cow<'static, str>),
    /// Any; whoever answers sees, instance by instance, what can be had.
    Any,
}

impl Offer {
    /// A representation without a transfer syntax.
    pub fn new(media_type: MediaType) -> Self {
        Self {
            media_type,
            transfer_syntax: Offered::Nothing,
        }
    }

    /// A representation in this transfer syntax.
    pub fn of(media_type: MediaType, transfer_syntax: impl Into<Cow<'static, str>>) -> Self {
        Self {
            media_type,
            transfer_syntax: Offered::One(transfer_syntax.into()),
        }
    }

    /// A representation in whatever transfer syntax the client accepts.
    pub fn of_any(media_type: MediaType) -> Self {
        Self {
            media_type,
            transfer_syntax: Offered::Any,
        }
    }
}

/// The transfer syntax that a client asks for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wanted {
    /// It names none: the media type's default ([`MediaType::default_transfer_syntax`]; PS3.18 8.7.3.5.2).
    Default,
    /// `*`: as it is kept, if the server likes.
    Any,
    /// This one.
    One(String),
}

/// An offer that the client accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice<'a> {
    /// The offer.
    pub offer: &'a Offer,
    /// Its place in the list of offers.
    pub index: usize,
    /// The transfer syntax asked for: what [`Offered::Any`] is to be answered with.
    pub transfer_syntax: Wanted,
}

/// What a client accepts.
#[derive(Clone, Debug)]
pub struct Accept {
    parameter: Vec<Weighted>,
    header: Vec<Weighted>,
}

#[derive(Clone, Debug)]
struct Weighted {
    range: MediaType,
    /// In thousandths (RFC 9110 12.4.2).
    quality: u16,
}

impl Accept {
    /// Reads the Accept fields and the `accept` parameter of `query`, the part of the target behind `?`.
    ///
    /// # Errors
    /// 400 when the parameter holds nothing that can be read (PS3.18 8.3), or one of them is beyond the limits of this
    /// module.
    pub fn of_request(headers: &HeaderMap, query: Option<&str>) -> Result<Self, Problem> {
        Self::of_parameter(headers, query, "accept")
    }

    /// As [`of_request`](Self::of_request), with another name of the parameter: the URI service's is `contentType`
    /// (PS3.18 9.1.2.2.1).
    ///
    /// # Errors
    /// As for [`of_request`](Self::of_request).
    pub fn of_parameter(headers: &HeaderMap, query: Option<&str>, name: &str) -> Result<Self, Problem> {
        let fields = headers.get_all(header::ACCEPT).iter();
        // A value that is no text can't be read, and is passed over.
        let fields: Vec<&str> = fields.filter_map(|value| value.to_str().ok()).collect();
        let mut header = list(&fields.join(","))?;
        if fields.iter().all(|field| field.trim().is_empty()) {
            header.push(Weighted {
                range: MediaType::constant("*", "*"),
                quality: 1000,
            });
        }
        let values = parameter_values(query, name)?;
        let parameter = list(&values.join(","))?;
        if parameter.is_empty() && values.iter().any(|value| !value.trim().is_empty()) {
            return Err(Problem::bad_request(format!("{name}: not a list of media types")));
        }
        Ok(Self { parameter, header })
    }

    /// The offers that the client accepts, best first; `offers` are in the server's order of preference, with the
    /// default first among equals.
    ///
    /// What the parameter accepts goes over what the header accepts (PS3.18 8.7.8.1). Within each, quality decides,
    /// then how precisely the client named it, then the server's preference. An offer of [`Offered::Any`] may come
    /// several times, once for each transfer syntax asked for.
    pub fn rank<'a>(&self, offers: &'a [Offer]) -> Vec<Choice<'a>> {
        let choices = rank(&self.parameter, offers);
        if choices.is_empty() {
            rank(&self.header, offers)
        } else {
            choices
        }
    }

    /// The best offer.
    ///
    /// # Errors
    /// 406 when none is accepted (PS3.18 8.7.8.1).
    pub fn select<'a>(&self, offers: &'a [Offer]) -> Result<Choice<'a>, Problem> {
        let best = self.rank(offers).into_iter().next();
        best.ok_or_else(|| Problem::not_acceptable(offers.iter().map(|offer| &offer.media_type)))
    }
}

/// How precisely a range names an offer: media type, then transfer syntax.
type Precision = (u8, u8);

fn rank<'a>(ranges: &[Weighted], offers: &'a [Offer]) -> Vec<Choice<'a>> {
    let mut ranked: Vec<(Reverse<u16>, Reverse<Precision>, Choice<'a>)> = Vec::new();
    for (index, offer) in offers.iter().enumerate() {
        let mut found: Vec<(Wanted, Precision, u16)> = Vec::new();
        for Weighted { range, quality } in ranges {
            let Some((wanted, precision)) = matching(range, offer) else {
                continue;
            };
            // The most precise range decides, also where its quality is 0 (RFC 9110 12.5.1).
            match found.iter_mut().find(|other| other.0 == wanted) {
                Some(other) if (other.1, other.2) < (precision, *quality) => {
                    (other.1, other.2) = (precision, *quality);
                }
                Some(_) => {}
                None => found.push((wanted, precision, *quality)),
            }
        }
        found.retain(|(.., quality)| *quality > 0);
        ranked.extend(found.into_iter().map(|(transfer_syntax, precision, quality)| {
            let choice = Choice {
                offer,
                index,
                transfer_syntax,
            };
            (Reverse(quality), Reverse(precision), choice)
        }));
    }
    // Stable: what is equal stays in the order of the offers.
    ranked.sort_by_key(|choice| (choice.0, choice.1));
    ranked.into_iter().map(|(.., choice)| choice).collect()
}

fn matching(range: &MediaType, offer: &Offer) -> Option<(Wanted, Precision)> {
    let named = match_types(range, &offer.media_type)?;
    let asked = range.transfer_syntax();
    let (wanted, syntax) = match (&offer.transfer_syntax, asked.as_deref()) {
        // The parameter says how bulk data within would be encoded (PS3.18 8.7.3.5); there it makes no difference.
        (Offered::Nothing, _) => (Wanted::Default, 1),
        (Offered::One(offered), Some("*")) => (Wanted::One(offered.to_string()), 1),
        (Offered::One(offered), Some(asked)) => {
            (asked == offered).then(|| (Wanted::One(asked.to_owned()), 2))?
        }
        (Offered::One(offered), None) => {
            let root = offer.media_type.root();
            let is_default = root.default_transfer_syntax() == Some(offered);
            // The default alone is meant (PS3.18 8.7.3.5.2). But whoever takes image/jpeg takes what is kept as JPEG
            // rather than nothing, and the response names its transfer syntax.
            let is_picture = matches!(root.main(), "image" | "video");
            if !is_default && !is_picture {
                return None;
            }
            let explicitly = u8::from(is_default || named >= NAMED);
            (Wanted::One(offered.to_string()), explicitly)
        }
        (Offered::Any, None) => (Wanted::Default, 1),
        (Offered::Any, Some("*")) => (Wanted::Any, 1),
        (Offered::Any, Some(asked)) => (Wanted::One(asked.to_owned()), 2),
    };
    Some((wanted, (named, syntax)))
}

/// The precision of a range that names the media type itself.
const NAMED: u8 = 3;

fn match_types(range: &MediaType, offered: &MediaType) -> Option<u8> {
    match (range.main(), range.sub()) {
        ("*", "*") => Some(0),
        (main, "*") => (main == offered.main()).then_some(1),
        _ if range.is(offered) && offered.is_multipart() => {
            match match_types(&range.root(), &offered.root())? {
                NAMED => Some(NAMED),
                _ => Some(2),
            }
        }
        _ if range.is(offered) => Some(NAMED),
        // Who reads JSON reads the DICOM JSON model.
        _ if range.is(&MediaType::JSON) && offered.is(&MediaType::DICOM_JSON) => Some(2),
        _ => None,
    }
}

/// The ranges of a list that can be read.
fn list(text: &str) -> Result<Vec<Weighted>, Problem> {
    if text.len() > ACCEPT_LENGTH_MAX_BYTES {
        return Err(Problem::bad_request(
            "the list of acceptable media types is too long",
        ));
    }
    let mut ranges = Vec::new();
    for item in split_list(text) {
        let Ok(range) = item.trim().parse::<MediaType>() else {
            continue;
        };
        let Some(quality) = range.parameter("q").map_or(Some(1000), quality) else {
            continue;
        };
        if ranges.len() == RANGES_MAX {
            return Err(Problem::bad_request("too many acceptable media types"));
        }
        ranges.push(Weighted { range, quality });
    }
    Ok(ranges)
}

/// Cuts at the commas that stand outside of quotes.
fn split_list(text: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |character| {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' => return !quoted,
            _ => {}
        }
        false
    })
}

/// A weight in thousandths (RFC 9110 12.4.2).
fn quality(text: &str) -> Option<u16> {
    let value: f32 = (text.len() <= 8).then(|| text.parse().ok())??;
    (0.0..=1.0)
        .contains(&value)
        .then_some((value * 1000.0).round() as u16)
}

/// The values of a parameter of the query. A `+` is a plus there (RFC 3986), as in `application/dicom+json`; only
/// behind a separator, where no name begins with one, it is the blank of an HTML form.
fn parameter_values(query: Option<&str>, name: &str) -> Result<Vec<String>, Problem> {
    let pairs = query.unwrap_or_default().split('&');
    let values = pairs.filter_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let decoded = values.map(|value| {
        let value = value.replace(";+", ";").replace(",+", ",");
        percent_decode_str(&value).decode_utf8().map(Cow::into_owned)
    });
    let decoded: Result<Vec<String>, _> = decoded.collect();
    decoded.map_err(|_| Problem::bad_request(format!("{name}: not UTF-8")))
}

/// Sees to the `charset` parameter: text is answered in UTF-8, which is all that JSON has (RFC 8259) and the only
/// one that PS3.18 8.8 requires. Accept-Charset is not looked at, as RFC 9110 12.5.2 recommends.
///
/// # Errors
/// 400 when the parameter is there and doesn't have UTF-8 (PS3.18 8.3.3.2).
pub fn check_charset(query: Option<&str>) -> Result<(), Problem> {
    let values = parameter_values(query, "charset")?;
    let mut items = values.iter().flat_map(|value| split_list(value)).peekable();
    let is_utf8 = |item: &str| {
        let (name, weight) = item
            .split_once(';')
            .map_or((item, ""), |(name, weight)| (name, weight));
        let name = name.trim().trim_matches('"');
        let refused = weight.trim().strip_prefix("q=").and_then(quality) == Some(0);
        ["UTF-8", "UTF8", "ISO_IR 192"]
            .iter()
            .any(|known| known.eq_ignore_ascii_case(name))
            && !refused
    };
    if items.peek().is_none() || items.any(is_utf8) {
        return Ok(());
    }
    Err(Problem::bad_request("charset: text is available in UTF-8 alone"))
}

#[cfg(test)]
mod tests;
