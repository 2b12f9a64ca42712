//! Authentication that belongs to a connection and not to a request: NTLM and Negotiate.
//!
//! Against RFC 9110 §11 a server takes every later request on such a connection for the same user's (RFC 4559 §6). A proxy must
//! not let anybody else use it. Pure: fields in, yes or no out.

use crate::http::field::Known;
use crate::http::head::{Fields, list};

const SCHEMES: [&[u8]; 2] = [b"NTLM", b"Negotiate"];

/// Whether a request brings such credentials.
pub fn carries(fields: &Fields<'_>) -> bool {
    let is_theirs = |known| matches!(known, Known::Credentials | Known::ProxyCredentials);
    fields.known(is_theirs).any(is_bound)
}

/// Whether a response asks for them. Several challenges may stand in one value (RFC 9110 §11.6.1); a comma within a quoted
/// string begins one for us, which at worst keeps a connection out of the pool.
pub fn challenges(fields: &Fields<'_>) -> bool {
    let is_theirs = |known| matches!(known, Known::Challenge | Known::ProxyChallenge);
    fields.known(is_theirs).flat_map(list).any(is_bound)
}

/// Whether a challenge or credentials begin with one of the schemes, in any case (RFC 9110 §11.1).
fn is_bound(value: &[u8]) -> bool {
    let scheme =
        value.split(|byte| matches!(byte, b' ' | b'\t')).find(|word| !word.is_empty()).unwrap_or_default();
    SCHEMES.iter().any(|known| scheme.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::{HeadLimits, parse_request, parse_response};

    const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 4096, fields_max: 32, target_bytes_max: 1024 };

    #[test]
    fn the_schemes_that_bind_and_those_that_do_not() {
        for (field, expected) in [
            ("Authorization: NTLM TlRMTVNTUAAB", true),
            ("authorization: ntlm x", true),
            ("Authorization: Negotiate YII", true),
            ("Proxy-Authorization: NEGOTIATE YII", true),
            ("Proxy_Authorization: NTLM x", true), // so CGI reads it
            ("Authorization: Basic TlRMTQ==", false),
            ("Authorization: Bearer NTLM", false),
            ("Authorization: NTLMv2 x", false),
            ("Authorization:", false),
            ("X-Authorization: NTLM x", false),
        ] {
            let head = format!("GET / HTTP/1.1\r\nHost: a.test\r\n{field}\r\n\r\n");
            let head = parse_request(head.as_bytes(), &LIMITS).unwrap();
            assert_eq!(carries(&head.fields), expected, "{field}");
        }
        for (field, expected) in [
            ("WWW-Authenticate: NTLM", true),
            ("WWW-Authenticate: negotiate", true),
            ("WWW-Authenticate: Basic realm=\"x\", Negotiate", true),
            ("WWW-Authenticate: Basic realm=\"x\"\r\nWWW-Authenticate: NTLM", true),
            ("Proxy-Authenticate: NTLM TlRMTVNTUAAC", true),
            ("WWW-Authenticate: Basic realm=\"NTLM\"", false),
            ("WWW-Authenticate: Bearer", false),
            ("X-Authenticate: NTLM", false),
        ] {
            let head = format!("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n{field}\r\n\r\n");
            let head = parse_response(head.as_bytes(), false, &LIMITS).unwrap();
            assert_eq!(challenges(&head.fields), expected, "{field}");
        }
    }
}
