//! May a page, or a program that names an Origin, open WebSockets here (RFC 6455 §10.2)? Where not: what to add to
//! `sanedge.toml`.
//!
//! `*` and `null` can be listed, and nothing here tells anybody to: with them, any page in the world may.

use crate::bundle::Origins;
use crate::excerpt::Excerpt;
use crate::http::head::RequestHead;
use crate::names::{ORIGIN_BYTES_MAX, Origin, OriginError, Scheme};

/// Bytes of the whole line that takes the place of one which is there; a longer one is not written out.
const LINE_BYTES_MAX: usize = 600;

/// An Origin that may not open WebSockets here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{found}; {remedy}")]
pub struct OriginRefused {
    /// What the request said.
    pub found: String,
    /// What to do, for anybody: it names nothing that is listed.
    pub remedy: String,
    /// The same for who runs the edge, with what is listed already.
    pub remedy_inside: String,
}

/// Checks the Origin of an upgrade. None, or an empty one, is a program and not a browser, and passes unless `require`.
/// `is_own`: the origin is one of the site's own.
///
/// # Errors
/// The origin is not allowed, or there are two.
pub fn check(
    allowed: &Origins,
    is_own: impl Fn(&Origin) -> bool,
    require: bool,
    head: &RequestHead<'_>,
) -> Result<(), OriginRefused> {
    let mut values = head.fields.values("origin");
    let value = match (values.next().filter(|value| !value.is_empty()), values.next()) {
        (None, None) if !require => return Ok(()),
        (None, None) => {
            let remedy = "require_origin is set, and only browsers send one";
            return Err(OriginRefused::new("no Origin field", remedy.to_owned()));
        }
        (Some(value), None) => value,
        _ => return Err(OriginRefused::new("two Origin fields", "send one".to_owned())),
    };
    let origin = std::str::from_utf8(value).map_err(|_| OriginError::Character).and_then(Origin::parse);
    let is_allowed = match &origin {
        Ok(origin) => allowed.list.contains(origin) || (allowed.own && is_own(origin)),
        Err(error) => *error == OriginError::Null && allowed.null,
    };
    if allowed.any || is_allowed {
        return Ok(());
    }
    Err(match origin {
        Ok(origin) => OriginRefused::of(&origin, allowed),
        Err(error) => OriginRefused::unlisted(value, &error),
    })
}

/// The line of `sanedge.toml` that lists these.
pub fn line<'o>(origins: impl IntoIterator<Item = &'o Origin>) -> String {
    let listed: Vec<_> = origins.into_iter().map(Origin::toml).collect();
    format!("origins = [{}]", listed.join(", "))
}

impl OriginRefused {
    fn new(found: &str, remedy: String) -> Self {
        Self { found: found.to_owned(), remedy_inside: remedy.clone(), remedy }
    }

    /// The site's list is what to add to: what a route lists is beside it.
    fn of(origin: &Origin, allowed: &Origins) -> Self {
        let add = |what: &str| {
            let forged = match origin {
                Origin::Web { scheme: Scheme::Http, .. } => {
                    "; anyone on a visitor's network can forge http pages"
                }
                _ => "",
            };
            format!("to allow it add \"{origin}\" to this site's origins in sanedge.toml: {what}{forged}")
        };
        let listed = allowed.of_site();
        let whole = line(listed.iter().chain([origin]));
        let into_list = add(&format!("{}, at the beginning of the existing list", origin.toml()));
        let (remedy, remedy_inside) = match listed.is_empty() {
            true => (add(&format!("{whole} below [[site]]")), None),
            false if whole.len() <= LINE_BYTES_MAX => {
                (into_list, Some(add(&format!("{whole} instead of the existing line"))))
            }
            false => (into_list, None),
        };
        let remedy_inside = remedy_inside.unwrap_or_else(|| remedy.clone());
        Self { found: format!("origin `{origin}` is not allowed"), remedy, remedy_inside }
    }

    /// Of what is no origin, or of everything that has none.
    fn unlisted(value: &[u8], error: &OriginError) -> Self {
        let beginning = value.get(..ORIGIN_BYTES_MAX).unwrap_or(value);
        let shown = Excerpt::of(&beginning.escape_ascii().to_string());
        let remedy = match error {
            OriginError::Null => {
                "browsers send it for pages without an origin, which any page can create: serve the page over https and list \
                    that origin"
                    .to_owned()
            }
            OriginError::TooLong { .. } | OriginError::Character => {
                format!("such an origin cannot be listed ({error}): make the client send none")
            }
            _ => "expected scheme://host[:port] and nothing else: make the client send that, or none".to_owned(),
        };
        Self::new(&format!("origin `{shown}` is not allowed"), remedy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::{HeadLimits, parse_request};
    use crate::names::Host;

    const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 4096, fields_max: 32, target_bytes_max: 1024 };

    fn from(allowed: &Origins, require: bool, fields: &str) -> Result<(), OriginRefused> {
        let head = format!("GET / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n");
        let own = Origin::https(Host::parse("a.test").unwrap(), 443);
        check(allowed, |origin| *origin == own, require, &parse_request(head.as_bytes(), &LIMITS).unwrap())
    }

    fn listing(texts: &[&str], of_site: u16) -> Origins {
        let list = texts.iter().map(|text| Origin::parse(text).unwrap()).collect();
        Origins { list, of_site, ..Origins::default() }
    }

    #[test]
    fn what_is_listed_may_and_its_twin_may_not() {
        let all = [
            "https://recre.store",
            "http://dev.test:8080",
            "wss://recre.store",
            "file://",
            "capacitor://localhost",
            "app://.",
            "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
        ];
        let allowed = listing(&all, 3);
        for listed in all.into_iter().chain(["https://RECRE.store:443", "WSS://recre.store:443"]) {
            assert_eq!(from(&allowed, true, &format!("Origin: {listed}\r\n")), Ok(()), "{listed}");
        }
        for refused in [
            "http://recre.store",
            "ws://recre.store",
            "https://recre.store:444",
            "https://www.recre.store",
            "https://evilrecre.store",
            "https://recre.store.evil.test",
            "https://recre.store/",
            "https://recre.store, https://recre.store",
            "ftp://recre.store",
            "file://a",
            "capacitor://localhost:80",
            "capacitor://LOCALHOST",
            "chrome-extension://bbcdefghijklmnopabcdefghijklmnop",
            "null",
            "*",
            "\u{ff}",
        ] {
            assert!(from(&allowed, false, &format!("Origin: {refused}\r\n")).is_err(), "{refused}");
        }
    }

    #[test]
    fn own_any_null_and_none_have_their_own_switches() {
        let none = Origins::default();
        let own = Origins { own: true, ..Origins::default() };
        let any = Origins { any: true, ..Origins::default() };
        let null = Origins { null: true, ..Origins::default() };
        for absent in ["", "Origin:\r\n", "Origin: \t \r\n"] {
            assert_eq!(from(&none, false, absent), Ok(()));
            assert!(from(&none, true, absent).unwrap_err().remedy.contains("require_origin"));
            assert!(from(&any, true, absent).is_err());
        }
        assert_eq!(from(&own, true, "Origin: https://a.test\r\n"), Ok(()));
        assert!(from(&none, true, "Origin: https://a.test\r\n").is_err());
        assert!(from(&own, true, "Origin: https://b.test\r\n").is_err());
        for whatever in ["https://x.test", "file://", "null", "\u{ff}", "x y"] {
            assert_eq!(from(&any, true, &format!("Origin: {whatever}\r\n")), Ok(()));
        }
        assert_eq!(from(&null, true, "Origin: null\r\n"), Ok(()));
        for other in ["https://x.test", "Null", "null ,null", "file://"] {
            assert!(from(&null, true, &format!("Origin: {other}\r\n")).is_err(), "{other}");
        }
        for second in ["Origin: https://a.test\r\n", "Origin:\r\n"] {
            for two in
                [format!("Origin: https://a.test\r\n{second}"), format!("{second}Origin: https://a.test\r\n")]
            {
                let refused = from(&Origins { any: true, ..own.clone() }, false, &two).unwrap_err();
                assert_eq!(refused.found, "two Origin fields");
            }
        }
    }

    /// What stands in `text` between `origins = ` and the end of the list.
    fn pasted(text: &str) -> toml::Table {
        let from = text.find("origins = [").unwrap();
        let line = text[from..].split_inclusive(']').next().unwrap();
        line.parse().unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    #[test]
    fn a_refusal_carries_the_line_to_paste() {
        for text in
            ["https://app.test:8443", "file://", "capacitor://localhost", "app://it's", "app://a-word"]
        {
            let refused = from(&Origins::default(), false, &format!("Origin: {text}\r\n")).unwrap_err();
            assert_eq!(refused.remedy, refused.remedy_inside);
            assert!(refused.remedy.contains(&format!("add \"{text}\" to this site's origins")), "{refused}");
            assert_eq!(pasted(&refused.remedy)["origins"].as_array().unwrap()[..], [text.into()]);

            let allowed = listing(&["https://one.test", "https://two.test"], 1);
            let refused = from(&allowed, false, &format!("Origin: {text}\r\n")).unwrap_err();
            assert_eq!(
                pasted(&refused.remedy_inside)["origins"].as_array().unwrap()[..],
                ["https://one.test".into(), text.into()]
            );
            assert!(!refused.remedy.contains("one.test"), "tells nobody what is listed: {refused}");
        }
        let refused = from(&Origins::default(), false, "Origin: http://a.test\r\n").unwrap_err();
        assert!(refused.remedy.contains("can forge"), "{refused}");
        let long = vec!["https://one.test"; 40];
        let refused = from(&listing(&long, 40), false, "Origin: https://app.test\r\n").unwrap_err();
        assert_eq!(refused.remedy, refused.remedy_inside, "too long a line is not written out");
    }

    #[test]
    fn nothing_suggests_to_list_null_or_everything() {
        let long = format!("app://{}", "x".repeat(ORIGIN_BYTES_MAX));
        for origin in
            ["null", "*", "https://*.test", "recre.store", "https://a.test/", "\u{ff}\"x\tinjected", &long]
        {
            let refused = from(&Origins::default(), false, &format!("Origin: {origin}\r\n")).unwrap_err();
            for text in [&refused.remedy, &refused.remedy_inside] {
                assert!(
                    !text.contains("\"*\"") && !text.contains("null") && !text.contains("origins ="),
                    "{text}"
                );
            }
            assert!(
                refused.found.is_ascii() && !refused.found.contains('\t') && refused.found.len() < 500,
                "{refused}"
            );
        }
        let of = |bytes: usize| format!("Origin: app://{}\r\n", "x".repeat(bytes - "app://".len()));
        assert!(
            from(&Origins::default(), false, &of(ORIGIN_BYTES_MAX)).unwrap_err().remedy.contains("origins =")
        );
        assert!(
            !from(&Origins::default(), false, &of(ORIGIN_BYTES_MAX + 1))
                .unwrap_err()
                .remedy
                .contains("origins =")
        );
    }
}
