//! Whether an upgrade is legal (RFC 6455 §4): the request, and the upstream's 101.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest;

use crate::http::answer::Problem;
use crate::http::body::Framing;
use crate::http::head::{Fields, Known, RequestHead, ResponseHead, Version, is_token, list, trim};
use crate::ws::tracker::Extensions;

/// Hashed together with the key for Sec-WebSocket-Accept (RFC 6455 §1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A valid upgrade request, which the upstream's 101 is checked against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    accept: [u8; 28],
    extensions: bool,
}

/// A broken rule of the handshake, in the request or in the upstream's 101.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpgradeError {
    /// RFC 6455 §4.2.1, 1.
    #[error("a WebSocket upgrade is a GET")]
    Method,
    /// RFC 9110 §7.8: the Upgrade of an HTTP/1.0 request is ignored, but a WebSocket needs it.
    #[error("a WebSocket upgrade needs HTTP/1.1")]
    Http10,
    /// One side would read the bytes after the head as frames, the other as a body.
    #[error("a WebSocket upgrade has no body")]
    Body,
    /// RFC 6455 §4.2.1, 3.
    #[error("Upgrade is `websocket`, but Connection does not contain `Upgrade`")]
    NoConnectionUpgrade,
    /// An upstream could choose the other protocol.
    #[error("Upgrade names another protocol besides `websocket`")]
    OtherProtocols,
    /// RFC 6455 §4.2.1, 6.
    #[error("expected one Sec-WebSocket-Version: 13")]
    Version,
    /// RFC 6455 §4.2.1, 5.
    #[error("expected one Sec-WebSocket-Key of 16 bytes in base64")]
    Key,
    /// RFC 6455 §4.3, §9.1, §11.3.
    #[error("Sec-WebSocket-Protocol or Sec-WebSocket-Extensions is malformed")]
    OfferMalformed,
    /// The response is not a 101.
    #[error("expected status 101, found {status}")]
    NotSwitching {
        /// The status.
        status: u16,
    },
    /// RFC 6455 §4.1, 2 and 3 of the server's response.
    #[error("the 101 lacks `Upgrade: websocket` or `Connection: Upgrade`")]
    ResponseUpgrade,
    /// RFC 9110 §7.8, §8.6; RFC 9112 §6.1.
    #[error("the 101 is HTTP/1.0, or has a Content-Length other than 0 or a Transfer-Encoding")]
    ResponseFraming,
    /// RFC 6455 §4.1, 4.
    #[error("Sec-WebSocket-Accept does not match the client's key")]
    Accept,
    /// RFC 6455 §4.1, 6.
    #[error("the 101 chooses a subprotocol that was not offered")]
    Subprotocol,
    /// RFC 6455 §4.1, 5.
    #[error("the 101 uses an extension that was not offered")]
    Extension,
}

impl UpgradeError {
    /// The response to a request with this error. (Of a 101 it is [`Problem::UpstreamMalformed`].)
    pub fn problem(&self) -> Problem {
        match self {
            Self::Version => Problem::WebSocketVersion,
            Self::NotSwitching { .. }
            | Self::ResponseUpgrade
            | Self::ResponseFraming
            | Self::Accept
            | Self::Subprotocol
            | Self::Extension => Problem::UpstreamMalformed,
            _ => Problem::BadUpgrade,
        }
    }
}

/// Reads an upgrade request (RFC 6455 §4.2.1). `None`: no upgrade, or one to another protocol than WebSocket, which RFC
/// 9110 §7.8 allows to ignore: the request is forwarded without its Upgrade. `extensions`: whether the client's
/// extensions are offered to the upstream.
///
/// # Errors
/// The first broken rule of a request for WebSocket.
pub fn request(head: &RequestHead<'_>, extensions: bool) -> Result<Option<Offer>, UpgradeError> {
    let protocols = || head.fields.known(|known| known == Known::Upgrade).flat_map(list);
    if !protocols().any(is_websocket) {
        return Ok(None);
    }
    match head {
        _ if protocols().count() > 1 => Err(UpgradeError::OtherProtocols),
        _ if head.version == Version::Http10 => Err(UpgradeError::Http10),
        _ if !head.asks_upgrade => Err(UpgradeError::NoConnectionUpgrade),
        _ if head.method != "GET" => Err(UpgradeError::Method),
        _ if !matches!(head.framing, Framing::None | Framing::Length(0)) => Err(UpgradeError::Body),
        _ if only(&head.fields, "sec-websocket-version") != Some(b"13") => Err(UpgradeError::Version),
        _ => {
            let key = only(&head.fields, "sec-websocket-key").filter(|key| is_key(key));
            check_offers(&head.fields)?;
            Ok(Some(Offer { accept: accept(key.ok_or(UpgradeError::Key)?), extensions }))
        }
    }
}

/// Checks a 101 (RFC 6455 §4.1): Upgrade, Connection, Sec-WebSocket-Accept, and that subprotocol and extensions are
/// among those that `request` offered.
///
/// # Errors
/// The first broken rule; the upstream's connection cannot be used any more.
pub fn response(
    offer: &Offer,
    request: &RequestHead<'_>,
    response: &ResponseHead<'_>,
) -> Result<(), UpgradeError> {
    let fields = &response.fields;
    if response.status != 101 {
        return Err(UpgradeError::NotSwitching { status: response.status });
    }
    if !response.asks_upgrade || !only(fields, "upgrade").is_some_and(is_websocket) {
        return Err(UpgradeError::ResponseUpgrade);
    }
    // RFC 9110 §8.6, RFC 9112 §6.1: bytes after it would be a body to one side and frames to the other. A length of 0, which
    // some servers send, announces none; it is not forwarded.
    let framed =
        response.length.is_some_and(|bytes| bytes > 0) || fields.values("transfer-encoding").next().is_some();
    if framed || response.version == Version::Http10 {
        return Err(UpgradeError::ResponseFraming);
    }
    if only(fields, "sec-websocket-accept") != Some(&offer.accept) {
        return Err(UpgradeError::Accept);
    }
    let offered = |protocol: &[u8]| {
        request.fields.values("sec-websocket-protocol").flat_map(list).any(|p| p == protocol)
    };
    match (fields.values("sec-websocket-protocol").count(), only(fields, "sec-websocket-protocol")) {
        (0, _) => {}
        (1, Some(protocol)) if offered(protocol) => {}
        _ => return Err(UpgradeError::Subprotocol),
    }
    if !offer.extensions && extensions(fields).next().is_some() {
        return Err(UpgradeError::Extension);
    }
    check_extensions(&request.fields, fields)
}

/// The extensions that a 101 accepted by [`response`] uses.
pub fn negotiated(response: &ResponseHead<'_>) -> Extensions {
    let mut found = Extensions::None;
    for extension in extensions(&response.fields) {
        if !extension_name(extension).eq_ignore_ascii_case(b"permessage-deflate") {
            return Extensions::Unknown;
        }
        found = Extensions::Deflate;
    }
    found
}

fn is_websocket(protocol: &[u8]) -> bool {
    protocol.eq_ignore_ascii_case(b"websocket")
}

/// The value of a field that is there exactly once.
fn only<'b>(fields: &Fields<'b>, name: &str) -> Option<&'b [u8]> {
    let mut values = fields.values(name);
    values.next().filter(|_| values.next().is_none())
}

/// 16 bytes in base64 (RFC 4648 §4). The last digit's unused bits are ignored: old clients set them, and the key is
/// never decoded.
fn is_key(key: &[u8]) -> bool {
    let digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.len() == 24 && key.ends_with(b"==") && key.iter().take(22).all(digit)
}

/// The `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key` (RFC 6455 §4.2.2, 5.4).
pub fn accept(key: &[u8]) -> [u8; 28] {
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key);
    context.update(GUID);
    let mut accept = [0; 28];
    let written = STANDARD.encode_slice(context.finish(), &mut accept);
    debug_assert_eq!(written, Ok(28), "20 bytes are 28 in base64");
    accept
}

/// Subprotocols are distinct tokens; extensions have names that are tokens (RFC 6455 §4.1, 10; §9.1).
fn check_offers(fields: &Fields<'_>) -> Result<(), UpgradeError> {
    let protocols = fields.values("sec-websocket-protocol").flat_map(list).all(is_token);
    let extensions = extensions(fields).all(|extension| is_token(extension_name(extension)));
    if protocols && extensions { Ok(()) } else { Err(UpgradeError::OfferMalformed) }
}

/// Each extension that the 101 uses was offered by name, and none twice. Its parameters are not validated.
fn check_extensions(offered: &Fields<'_>, used: &Fields<'_>) -> Result<(), UpgradeError> {
    for (index, extension) in extensions(used).enumerate() {
        let name = extension_name(extension);
        let same = |other: &[u8]| extension_name(other).eq_ignore_ascii_case(name);
        let repeated = extensions(used).take(index).any(same);
        if repeated || !is_token(name) || !extensions(offered).any(same) {
            return Err(UpgradeError::Extension);
        }
    }
    Ok(())
}

/// A comma inside a quoted parameter splits an extension in two and the second half has no token for a name: refused,
/// and no registered extension has such a parameter.
fn extensions<'s, 'b>(fields: &'s Fields<'b>) -> impl Iterator<Item = &'b [u8]> + 's {
    fields.values("sec-websocket-extensions").flat_map(list)
}

fn extension_name(extension: &[u8]) -> &[u8] {
    trim(extension.split(|&byte| byte == b';').next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::{HeadLimits, parse_request, parse_response};

    const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 4096, fields_max: 32, target_bytes_max: 1024 };
    /// The example of RFC 6455 §1.3.
    const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    const ACCEPT: &str = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
    const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\n";
    const VERSION: &str = "Sec-WebSocket-Version: 13\r\n";

    fn asked(line: &str, fields: &str) -> Result<Option<Offer>, UpgradeError> {
        let head = format!("{line}\r\nHost: a.test\r\n{fields}\r\n");
        request(&parse_request(head.as_bytes(), &LIMITS).unwrap(), true)
    }

    fn get(fields: &[&str]) -> Result<Option<Offer>, UpgradeError> {
        asked("GET / HTTP/1.1", &fields.concat())
    }

    #[test]
    fn the_example_of_the_rfc_is_accepted() {
        let offer = get(&[UPGRADE, KEY, VERSION]).unwrap().unwrap();
        assert_eq!(&offer.accept, b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let spelled = "upgrade: WebSocket\r\nconnection: keep-alive, UPGRADE\r\nSec-WebSocket-Protocol: a, b\r\n\
            Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, x-y; z=\"1\"\r\nContent-Length: 0\r\n";
        assert_eq!(get(&[spelled, KEY, VERSION]), Ok(Some(offer)));
    }

    #[test]
    fn other_upgrades_are_plain_requests() {
        assert_eq!(get(&[]), Ok(None));
        assert_eq!(
            get(&["Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: A\r\n"]),
            Ok(None)
        );
        assert_eq!(get(&["Connection: Upgrade\r\n", KEY, VERSION]), Ok(None));
        assert_eq!(get(&["Upgrade: websockets\r\nConnection: Upgrade\r\n", KEY, VERSION]), Ok(None));
    }

    #[test]
    fn a_broken_rule_of_the_request_is_named() {
        use UpgradeError::*;
        let bad_key = |key: &str| format!("Sec-WebSocket-Key: {key}\r\n");
        for (fields, expected) in [
            (vec!["Upgrade: websocket\r\n", KEY, VERSION], NoConnectionUpgrade),
            (vec!["Upgrade: websocket\r\nConnection: close\r\n", KEY, VERSION], NoConnectionUpgrade),
            (vec!["Upgrade: websocket, h2c\r\nConnection: Upgrade\r\n", KEY, VERSION], OtherProtocols),
            (vec!["Upgrade: websocket\r\n", UPGRADE, KEY, VERSION], OtherProtocols),
            (vec![UPGRADE, KEY], Version),
            (vec![UPGRADE, KEY, "Sec-WebSocket-Version: 8\r\n"], Version),
            (vec![UPGRADE, KEY, "Sec-WebSocket-Version: 13, 8\r\n"], Version),
            (vec![UPGRADE, KEY, VERSION, VERSION], Version),
            (vec![UPGRADE, VERSION], Key),
            (vec![UPGRADE, VERSION, KEY, KEY], Key),
            (vec![UPGRADE, VERSION, &bad_key("")], Key),
            (vec![UPGRADE, VERSION, &bad_key("dGhlIHNhbXBsZSBub25jZQ=")], Key),
            (vec![UPGRADE, VERSION, &bad_key("dGhlIHNhbXBsZSBub25jZQ===")], Key),
            (vec![UPGRADE, VERSION, &bad_key("dGhlIHNhbXBsZSBub25j====")], Key),
            (vec![UPGRADE, VERSION, &bad_key("dGhlIHNhbXBsZSBub25j!Q==")], Key),
            (vec![UPGRADE, VERSION, &bad_key("dGhlIHNhbXBsZSBub25jZQ==, x")], Key),
            (vec![UPGRADE, KEY, VERSION, "Content-Length: 1\r\n"], Body),
            (vec![UPGRADE, KEY, VERSION, "Transfer-Encoding: chunked\r\n"], Body),
            (vec![UPGRADE, KEY, VERSION, "Sec-WebSocket-Protocol: a b\r\n"], OfferMalformed),
            (vec![UPGRADE, KEY, VERSION, "Sec-WebSocket-Extensions: ;x\r\n"], OfferMalformed),
        ] {
            assert_eq!(get(&fields), Err(expected), "{fields:?}");
        }
        let fields = [UPGRADE, KEY, VERSION].concat();
        assert_eq!(asked("POST / HTTP/1.1", &fields), Err(Method));
        assert_eq!(asked("GET / HTTP/1.0", &fields), Err(Http10));
        assert_eq!(Version.problem().status(), 426);
        assert_eq!(Key.problem().status(), 400);
        assert_eq!(Accept.problem().status(), 502);
    }

    fn answered(offered: &str, status: &str, fields: &[&str]) -> Result<(), UpgradeError> {
        let head = format!("GET / HTTP/1.1\r\nHost: a.test\r\n{UPGRADE}{KEY}{VERSION}{offered}\r\n");
        let asked = parse_request(head.as_bytes(), &LIMITS).unwrap();
        let offer = request(&asked, true).unwrap().unwrap();
        let head = format!("HTTP/1.1 {status}\r\n{}\r\n", fields.concat());
        response(&offer, &asked, &parse_response(head.as_bytes(), false, &LIMITS).unwrap())
    }

    #[test]
    fn a_101_answers_this_very_request() {
        use UpgradeError::*;
        let ok = "101 Switching Protocols";
        assert_eq!(answered("", ok, &[UPGRADE, ACCEPT]), Ok(()));
        assert_eq!(answered("", ok, &["upgrade: WebSocket\r\nconnection: upgrade\r\n", ACCEPT]), Ok(()));
        assert_eq!(answered("", "200 OK", &[UPGRADE, ACCEPT]), Err(NotSwitching { status: 200 }));
        assert_eq!(answered("", ok, &["Upgrade: websocket\r\n", ACCEPT]), Err(ResponseUpgrade));
        assert_eq!(answered("", ok, &["Connection: Upgrade\r\n", ACCEPT]), Err(ResponseUpgrade));
        assert_eq!(
            answered("", ok, &["Connection: Upgrade\r\nUpgrade: websocket, x\r\n", ACCEPT]),
            Err(ResponseUpgrade)
        );
        assert_eq!(answered("", ok, &[UPGRADE]), Err(Accept));
        assert_eq!(answered("", ok, &[UPGRADE, ACCEPT, ACCEPT]), Err(Accept));
        assert_eq!(answered("", ok, &[UPGRADE, &ACCEPT.replace("s3p", "S3p")]), Err(Accept));
    }

    #[test]
    fn a_101_chooses_only_what_was_offered() {
        use UpgradeError::*;
        let chosen = |offered: &str, fields: &str| answered(offered, "101", &[UPGRADE, ACCEPT, fields]);
        let two = "Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: b\r\n";
        assert_eq!(chosen(two, "Sec-WebSocket-Protocol: b\r\n"), Ok(()));
        assert_eq!(chosen(two, ""), Ok(()));
        assert_eq!(chosen(two, "Sec-WebSocket-Protocol: B\r\n"), Err(Subprotocol), "they have case");
        assert_eq!(chosen(two, two), Err(Subprotocol));
        assert_eq!(chosen("", "Sec-WebSocket-Protocol: a\r\n"), Err(Subprotocol));
        let deflate = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
        let used = "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n";
        assert_eq!(chosen(deflate, used), Ok(()));
        assert_eq!(chosen("", used), Err(Extension));
        assert_eq!(chosen(deflate, "Sec-WebSocket-Extensions: x\r\n"), Err(Extension));
        assert_eq!(chosen(deflate, &[used, used].concat()), Err(Extension));
        assert_eq!(chosen(deflate, "Sec-WebSocket-Extensions: permessage-deflate, x\r\n"), Err(Extension));
    }

    #[test]
    fn an_extension_that_was_kept_back_may_not_be_used() {
        let head =
            |fields: &str| format!("GET / HTTP/1.1\r\nHost: a.test\r\n{UPGRADE}{KEY}{VERSION}{fields}\r\n");
        let head = head("Sec-WebSocket-Extensions: permessage-deflate\r\n");
        let asked = parse_request(head.as_bytes(), &LIMITS).unwrap();
        let answered = |extensions: bool, used: &str| {
            let offer = request(&asked, extensions).unwrap().unwrap();
            let head = format!("HTTP/1.1 101\r\n{UPGRADE}{ACCEPT}{used}\r\n");
            response(&offer, &asked, &parse_response(head.as_bytes(), false, &LIMITS).unwrap())
        };
        let used = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
        assert_eq!(answered(true, used), Ok(()));
        assert_eq!(answered(false, used), Err(UpgradeError::Extension));
        assert_eq!(answered(false, ""), Ok(()));
    }

    #[test]
    fn a_101_names_the_extensions_that_it_uses() {
        let uses = |fields: &str| {
            let head = format!("HTTP/1.1 101\r\n{UPGRADE}{ACCEPT}{fields}\r\n");
            negotiated(&parse_response(head.as_bytes(), false, &LIMITS).unwrap())
        };
        let with = |value: &str| uses(&format!("Sec-WebSocket-Extensions: {value}\r\n"));
        for value in ["permessage-deflate", "Permessage-Deflate ;client_max_window_bits=9"] {
            assert_eq!(with(value), Extensions::Deflate, "{value}");
        }
        for value in [
            "x; y=1, permessage-deflate",
            "permessage-deflate, x",
            "x; permessage-deflate",
            "permessage-deflate-2",
            "permessage-bzip2",
        ] {
            assert_eq!(with(value), Extensions::Unknown, "{value}");
        }
        assert_eq!((uses(""), with("")), (Extensions::None, Extensions::None));
        let two = "Sec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Extensions: x\r\n";
        assert_eq!(uses(two), Extensions::Unknown);
    }
}
