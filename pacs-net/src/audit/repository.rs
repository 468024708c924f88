//! [`Repository`]: where messages of audit are sent.

use std::fmt;
use std::str::FromStr;

use pacs_core::{Error, ErrorKind};

/// How messages get there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// In datagrams (RFC 5426, PS3.15 A.7).
    Udp,
    /// Over TCP, each with its length before it (RFC 6587 3.4.1).
    Tcp,
    /// The same over TLS (RFC 5425, PS3.15 A.6).
    Tls,
}

impl Transport {
    fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }
}

/// An audit repository: `tls://audit.example:6514`, `tcp://192.0.2.1:601`, `udp://[2001:db8::1]:514`.
///
/// Without a port it is 514 for UDP (RFC 5426 3.3) and 6514 for TLS (RFC 5425 4.1); TCP has none of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    /// How messages get there.
    pub transport: Transport,
    /// Its name or address; one of IPv6 without the brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
}

impl FromStr for Repository {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        parse(text).ok_or_else(|| {
            let why =
                format!("{text:?} is not like tls://audit.example:6514, tcp://host:port or udp://host:514");
            Error::new(ErrorKind::Invalid, "audit.repository", why)
        })
    }
}

fn parse(text: &str) -> Option<Repository> {
    let (scheme, rest) = text.split_once("://")?;
    let (transport, usual) = match scheme {
        "udp" => (Transport::Udp, Some(514)),
        "tcp" => (Transport::Tcp, None),
        "tls" => (Transport::Tls, Some(6514)),
        _ => return None,
    };
    let (host, port) = match rest.strip_prefix('[') {
        Some(rest) => {
            let (host, behind) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            match behind {
                "" => (host, None),
                behind => (host, Some(behind.strip_prefix(':')?)),
            }
        }
        None => match rest.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (rest, None),
        },
    };
    let is_of_a_host = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
    if host.is_empty() || !host.chars().all(is_of_a_host) {
        return None;
    }
    let port = match port {
        Some(port) => port.parse().ok().filter(|port| *port > 0)?,
        None => usual?,
    };
    Some(Repository {
        transport,
        host: host.to_owned(),
        port,
    })
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            transport,
            host,
            port,
        } = self;
        match host.contains(':') {
            true => write!(f, "{}://[{host}]:{port}", transport.name()),
            false => write!(f, "{}://{host}:{port}", transport.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_shown_and_what_is_no_repository_is_refused() {
        let cases = [
            ("udp://audit", "udp://audit:514"),
            ("tls://audit.example", "tls://audit.example:6514"),
            ("tls://[2001:db8::1]", "tls://[2001:db8::1]:6514"),
            ("tcp://192.0.2.1:601", "tcp://192.0.2.1:601"),
            ("udp://[::1]:1514", "udp://[::1]:1514"),
        ];
        for (text, shown) in cases {
            let repository: Repository = text.parse().unwrap();
            assert_eq!(repository.to_string(), shown);
            assert_eq!(shown.parse::<Repository>().unwrap(), repository);
        }
        let bad = [
            "",
            "audit:514",
            "http://audit:1",
            "tcp://audit",
            "tls://",
            "tls://:6514",
            "tls://a:0",
            "tls://a:65536",
            "tls://a b:1",
            "tls://[a]:1",
            "tls://[::1]6514",
            "tls://a:1/path",
            "tls://a:",
        ];
        for text in bad {
            assert_eq!(
                text.parse::<Repository>().unwrap_err().kind(),
                ErrorKind::Invalid,
                "{text}"
            );
        }
    }
}
