//! Web origins (RFC 6454), and what clients that are not pages send in their place.

use std::fmt;

use super::host::{Host, NameError};
use crate::excerpt::Excerpt;

/// Longest origin in bytes: one whose host is the longest name, with scheme and port, fits well.
pub const ORIGIN_BYTES_MAX: usize = 300;

/// The value of an `Origin` field, as far as one can be listed. Two are equal where a browser would call them the same
/// origin.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "almost every origin has a host, which is parsed without allocating"
)]
pub enum Origin {
    /// Of `https`, `http`, `wss` or `ws`: normalised (RFC 6454 §4, §6.2).
    Web {
        /// Scheme.
        scheme: Scheme,
        /// Host.
        host: Host,
        /// Port, the scheme's default filled in.
        port: u16,
    },
    /// Any other, byte for byte but for the scheme's case and a slash at the end, which no origin has: `capacitor://localhost`,
    /// `file://`.
    Other(Box<str>),
}

/// A scheme whose origins have a host and a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Scheme {
    /// `https`
    Https,
    /// `http`
    Http,
    /// `wss`: no page has such an origin, some programs name it.
    Wss,
    /// `ws`: the same.
    Ws,
}

/// Why a text cannot be listed as an origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    /// No text.
    #[error("expected an origin, found an empty text")]
    Empty,
    /// Longer than [`ORIGIN_BYTES_MAX`].
    #[error("expected an origin of at most {ORIGIN_BYTES_MAX} bytes, found {found} bytes")]
    TooLong {
        /// Bytes found.
        found: usize,
    },
    /// A control character, or white space at an end, which no field value keeps (RFC 9110 §5.5).
    #[error("an origin has no control characters, and no white space at its ends")]
    Character,
    /// The origin of everything that has none, which any page can take on.
    #[error("`null` is not the origin of one page: any page can send it, from a sandboxed frame")]
    Null,
    /// A host alone, or no origin at all (RFC 6454 §6.2).
    #[error("{found:?} is not an origin: expected `scheme://host`, with a port if it is not the default")]
    NoScheme {
        /// The text.
        found: Excerpt,
    },
    /// `*` in a text: there are no patterns.
    #[error("{found:?} has a `*`: origins are compared whole, there are no patterns")]
    Pattern {
        /// The text.
        found: Excerpt,
    },
    /// Something behind the port, or in front of the host.
    #[error(
        "{found:?} is more than an origin: expected only scheme, host and port; remove `{extra}` and what follows"
    )]
    Tail {
        /// The text.
        found: Excerpt,
        /// The first character that is not allowed.
        extra: char,
    },
    /// The host or the port of a web origin is none.
    #[error(transparent)]
    Host(#[from] NameError),
}

impl Scheme {
    const ALL: [(Self, &'static str, u16); 4] = [
        (Self::Https, "https", 443),
        (Self::Http, "http", 80),
        (Self::Wss, "wss", 443),
        (Self::Ws, "ws", 80),
    ];

    fn of(text: &str) -> Option<Self> {
        let named = Self::ALL.iter().find(|(_, name, _)| name.eq_ignore_ascii_case(text));
        named.map(|(scheme, ..)| *scheme)
    }

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        self.row().1
    }

    /// The port that is meant where none is written.
    pub fn default_port(self) -> u16 {
        self.row().2
    }

    /// Whether pages have such origins.
    pub fn is_of_pages(self) -> bool {
        matches!(self, Self::Https | Self::Http)
    }

    fn row(self) -> (Self, &'static str, u16) {
        match self {
            Self::Https => Self::ALL[0],
            Self::Http => Self::ALL[1],
            Self::Wss => Self::ALL[2],
            Self::Ws => Self::ALL[3],
        }
    }
}

impl Origin {
    /// Whether a text may show all of it: a host is no secret, and of what is no host an excerpt hides nothing.
    pub fn is_showable(&self) -> bool {
        !matches!(self, Self::Other(text) if Excerpt::hides(text))
    }

    /// As a text may show it, whole or as an excerpt.
    pub fn shown(&self) -> String {
        if self.is_showable() { self.to_string() } else { Excerpt::of(&self.to_string()).to_string() }
    }

    /// The origin of the pages at `host` and `port`.
    pub fn https(host: Host, port: u16) -> Self {
        Self::Web { scheme: Scheme::Https, host, port }
    }

    /// Parses what an `Origin` field holds, or what `origins` lists.
    ///
    /// # Errors
    /// `null`, and what has no scheme or a `*`; a web origin whose host or port is none, or with more behind it (a path, even `/`).
    pub fn parse(text: &str) -> Result<Self, OriginError> {
        check_text(text)?;
        let (scheme, authority) = text.split_once("://").unwrap_or_default();
        match Scheme::of(scheme) {
            _ if text == "null" => Err(OriginError::Null),
            _ if !is_scheme(scheme) => Err(OriginError::NoScheme { found: Excerpt::of(text) }),
            _ if text.contains('*') => Err(OriginError::Pattern { found: Excerpt::of(text) }),
            Some(scheme) => Self::web(scheme, authority, text),
            None => Self::other(scheme, authority, text),
        }
    }

    /// Some programs send the slash of an address as well (`file:///`); none sends what could stand behind it.
    fn other(scheme: &str, authority: &str, text: &str) -> Result<Self, OriginError> {
        let bare = authority.strip_suffix('/').unwrap_or(authority);
        match bare.chars().find(|c| matches!(c, '/' | '?' | '#' | '@') || c.is_whitespace()) {
            Some(extra) => Err(OriginError::Tail { found: Excerpt::of(text), extra }),
            None => Ok(Self::Other(format!("{}://{bare}", scheme.to_ascii_lowercase()).into())),
        }
    }

    fn web(scheme: Scheme, authority: &str, text: &str) -> Result<Self, OriginError> {
        if let Some(extra) = authority.chars().find(|c| matches!(c, '/' | '?' | '#' | '@' | '\\')) {
            return Err(OriginError::Tail { found: Excerpt::of(text), extra });
        }
        let (host, port) = Host::parse_authority(authority)?;
        Ok(Self::Web { scheme, host, port: port.unwrap_or(scheme.default_port()) })
    }

    /// As a string of TOML; in single quotes, which neither the log nor JSON escapes, where it can be.
    pub fn toml(&self) -> String {
        let text = self.to_string();
        if text.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'\'') {
            return format!("'{text}'");
        }
        let mut quoted = String::from("\"");
        for character in text.chars() {
            match character {
                '"' | '\\' => quoted.extend(['\\', character]),
                ' '..='~' => quoted.push(character),
                _ => quoted += &format!("\\U{:08X}", u32::from(character)),
            }
        }
        quoted + "\""
    }
}

/// RFC 3986 §3.1.
fn is_scheme(text: &str) -> bool {
    let other = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    text.starts_with(|first: char| first.is_ascii_alphabetic()) && text.bytes().all(other)
}

/// `chrome-extension://abcdefghijklmnopabcdefghijklmnop` is as readable as any host.
fn names_a_host(text: &str) -> bool {
    let (scheme, authority) = text.split_once("://").unwrap_or_default();
    Host::parse_authority(authority).is_ok() && !Excerpt::hides(scheme)
}

fn check_text(text: &str) -> Result<(), OriginError> {
    match text {
        "" => Err(OriginError::Empty),
        _ if text.len() > ORIGIN_BYTES_MAX => Err(OriginError::TooLong { found: text.len() }),
        _ if text.contains(char::is_control) || text.trim() != text => Err(OriginError::Character),
        _ => Ok(()),
    }
}

impl fmt::Display for Origin {
    /// The ASCII serialisation (RFC 6454 §6.2): the scheme's default port is left out. What names no host is shown as an excerpt.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Web { scheme, host, port } => {
                write!(f, "{}://{}", scheme.as_str(), host.uri_host())?;
                if *port == scheme.default_port() { Ok(()) } else { write!(f, ":{port}") }
            }
            Self::Other(text) if names_a_host(text) || !Excerpt::hides(text) => f.write_str(text),
            Self::Other(text) => Excerpt::of(text).fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> Origin {
        Origin::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn a_web_origin_is_scheme_host_and_port_only() {
        let plain = Origin::https(Host::parse("recre.store").unwrap(), 443);
        for same in
            ["https://recre.store", "https://recre.store:443", "HTTPS://RECRE.store", "https://recre.store:"]
        {
            assert_eq!(origin(same), plain, "{same}");
        }
        assert_eq!(plain.to_string(), "https://recre.store");
        for other in [
            "http://recre.store",
            "https://recre.store:8443",
            "https://evilrecre.store",
            "http://recre.store:443",
            "wss://recre.store",
            "ws://recre.store",
            "app://recre.store",
        ] {
            assert_ne!(origin(other), plain, "{other}");
        }
        for shown in
            ["http://[::1]:3000", "http://recre.store", "https://192.0.2.1:8443", "ws://a", "wss://a:80"]
        {
            assert_eq!(origin(shown).to_string(), shown);
        }
        for (same, shown) in
            [("WSS://A:443", "wss://a"), ("Ws://a:80", "ws://a"), ("http://a.:80", "http://a")]
        {
            assert_eq!(origin(same).to_string(), shown);
        }
        for scheme in ["https", "http", "wss", "ws"] {
            for tail in ["recre.store/", "u@recre.store", "recre.store?x", "a#b", "a\\b"] {
                let text = format!("{scheme}://{tail}");
                assert!(matches!(Origin::parse(&text), Err(OriginError::Tail { .. })), "{text}");
            }
            for bad in ["", ":443", "a b", "a:99999", "a:0x"] {
                let text = format!("{scheme}://{bad}");
                assert!(matches!(Origin::parse(&text), Err(OriginError::Host(_))), "{text}");
            }
        }
    }

    #[test]
    fn any_other_origin_is_taken_byte_for_byte() {
        for text in [
            "file://",
            "capacitor://localhost",
            "ionic://localhost",
            "tauri://localhost",
            "app://.",
            "app://-",
            "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
            "moz-extension://0b1c2d3e-4f50-6172-8394-a5b6c7d8e9f0",
            "safari-web-extension://0B1C2D3E-4F50-6172-8394-A5B6C7D8E9F0",
            "vscode-file://vscode-app",
            "content://com.example.app",
            "qrc://",
            "app://it's-\"so\"-\\-é",
        ] {
            assert_eq!(origin(text), Origin::Other(text.into()));
            assert_eq!(origin(text).to_string(), text);
            let (scheme, authority) = text.split_once("://").unwrap();
            assert_eq!(
                origin(&format!("{}://{authority}", scheme.to_ascii_uppercase())),
                origin(text),
                "RFC 3986 §3.1"
            );
            assert_eq!(origin(&format!("{text}/")), origin(text), "no origin has a path");
            let upper = format!("{scheme}://{}", authority.to_ascii_uppercase());
            assert!(upper == text || origin(&upper) != origin(text), "{text}");
            for more in ["/a", "//", "?a", "#a", "@a", " a", "\u{a0}a"] {
                let text = format!("{text}{more}");
                assert!(matches!(Origin::parse(&text), Err(OriginError::Tail { .. })), "{text}");
            }
        }
    }

    #[test]
    fn what_is_not_an_origin_is_distinguished() {
        for host in [
            "recre.store",
            "localhost:5173",
            "192.168.0.10",
            "[::1]:80",
            "about:blank",
            "https:/recre.store",
            "*",
            "*.recre.store",
            "*://localhost",
            "://recre.store",
            "1app://recre.store",
            "MC4CAQAwBQYDK2VwBCIEIFWZVbG5Kp9gfSYgVH7a4Ns4yrCxkqcYW5V+CKQkZ1Zc",
        ] {
            assert!(matches!(Origin::parse(host), Err(OriginError::NoScheme { .. })), "{host}");
        }
        for pattern in ["https://*.recre.store", "capacitor://*", "ws://*"] {
            assert!(matches!(Origin::parse(pattern), Err(OriginError::Pattern { .. })), "{pattern}");
        }
        assert_eq!(Origin::parse("null"), Err(OriginError::Null));
        assert_eq!(Origin::parse(""), Err(OriginError::Empty));
        for odd in [" file://", "file://\t", "file://\n", "fi\u{7f}le://", "a\u{85}b", "\u{a0}x"] {
            assert_eq!(Origin::parse(odd), Err(OriginError::Character), "{odd:?}");
        }
    }

    #[test]
    fn an_origin_has_a_longest() {
        let of = |bytes: usize| format!("app://{}", "x".repeat(bytes - "app://".len()));
        assert!(Origin::parse(&of(ORIGIN_BYTES_MAX)).is_ok());
        let found = ORIGIN_BYTES_MAX + 1;
        assert_eq!(Origin::parse(&of(found)), Err(OriginError::TooLong { found }));
    }

    #[test]
    fn as_toml_it_reads_back() {
        for text in
            ["https://recre.store", "file://", "app://it's", "app://\"\\é\u{202e}", "app://a-\"quoted\"-word"]
        {
            let line = format!("origins = [{}]", origin(text).toml());
            assert!(line.is_ascii(), "{line}");
            let table: toml::Table = line.parse().unwrap();
            assert_eq!(table["origins"][0].as_str(), Some(text), "{line}");
        }
        assert_eq!(origin("https://recre.store").toml(), "'https://recre.store'");
    }

    proptest::proptest! {
        #[test]
        fn what_parses_parses_again_to_the_same(text in "(https?|wss?|app)://\\PC{0,40}") {
            if let Ok(origin) = Origin::parse(&text) {
                let shown = origin.to_string();
                let table: toml::Table = format!("x = {}", origin.toml()).parse().unwrap();
                proptest::prop_assert_eq!(table["x"].as_str(), Some(shown.as_str()));
                let whole = !matches!(&origin, Origin::Other(text) if **text != *shown);
                proptest::prop_assert!(!whole || Origin::parse(&shown) == Ok(origin));
            }
        }
    }
}
