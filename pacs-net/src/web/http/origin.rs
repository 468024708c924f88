//! Whose page asks (RFC 6454 7): a browser lets any page send requests that need no permission (Fetch 3.2), and open event
//! channels.

use http::{HeaderMap, header};

/// Whether the page that asks is of this server (the origin is that of the Host field), or of one of `origins`; `*` is any.
/// Who is no browser sends no origin, and may.
pub fn is_allowed(headers: &HeaderMap, origins: &[String]) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return true;
    };
    let Ok(origin) = origin.to_str() else {
        return false;
    };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    let is_own = authority.is_some() && authority == host;
    is_own || origins.iter().any(|one| one == "*" || one == origin)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn pages_of_this_server_and_of_allowed_origins_may_ask_and_others_not() {
        let allowed = |origin: &'static str, origins: &[&str]| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static("pacs.example:8080"));
            if !origin.is_empty() {
                headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
            }
            let origins: Vec<String> = origins.iter().map(|origin| (*origin).to_owned()).collect();
            is_allowed(&headers, &origins)
        };
        assert!(allowed("", &[]));
        assert!(allowed("http://pacs.example:8080", &[]));
        assert!(!allowed("http://pacs.example", &[]));
        assert!(!allowed("https://evil.example", &["https://viewer.example"]));
        assert!(!allowed("null", &[]));
        assert!(allowed("https://viewer.example", &["https://viewer.example"]));
        assert!(allowed("https://any.example", &["*"]));
    }
}
