//! The pending tls-alpn-01 challenges (RFC 8737), which `sanedge renew` passes to the edge in one small file of the challenge folder, with a
//! line for each name.

use std::net::IpAddr;

use crate::names::Host;

/// The only protocol in a ClientHello that asks for the proof (RFC 8737 §6.2).
pub const PROTOCOL: &[u8] = b"acme-tls/1";
/// The file in the challenge folder. It cannot be confused with an http-01 token, which contains no dot.
pub const FILE: &str = "tls-alpn-01.list";
/// Most names in the file: those of one certificate, because one order is validated at a time.
pub const PROOFS_MAX: usize = 100;
/// Largest file: for each name at most 253 bytes, a blank, 64 hexadecimal digits and the end of its line.
pub const BYTES_MAX: usize = PROOFS_MAX * (253 + 1 + 2 * DIGEST_BYTES + 1);
const DIGEST_BYTES: usize = 32;

/// The proof of a name: the SHA-256 of the challenge's key authorization (RFC 8737 §3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The name or address.
    pub host: Host,
    /// The digest.
    pub digest: [u8; DIGEST_BYTES],
}

/// The file.
pub fn encode(proofs: &[Proof]) -> String {
    let mut text = String::new();
    for proof in proofs {
        text += &format!("{} ", proof.host);
        text.extend(proof.digest.iter().map(|byte| format!("{byte:02x}")));
        text.push('\n');
    }
    text
}

/// Parses the file; `None` unless it is exactly what [`encode`] writes, without a repeated name.
pub fn decode(bytes: &[u8]) -> Option<Vec<Proof>> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| text.is_empty() || text.ends_with('\n'))?;
    let mut proofs: Vec<Proof> = Vec::new();
    for line in text.split_terminator('\n') {
        let proof = read(line)?;
        if proofs.len() == PROOFS_MAX || proofs.iter().any(|other| other.host == proof.host) {
            return None;
        }
        proofs.push(proof);
    }
    Some(proofs)
}

fn read(line: &str) -> Option<Proof> {
    let (name, hex) = line.split_once(' ')?;
    let host = Host::parse(name).ok().filter(|host| host.to_string() == name)?;
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut digest = [0; DIGEST_BYTES];
    let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
    if pairs.len() != DIGEST_BYTES || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in digest.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(Proof { host, digest })
}

/// The server name in the CA's ClientHello: for an address, its reverse name (RFC 8738 §6).
pub fn server_name(host: &Host) -> String {
    let ip = match host {
        Host::Ip(ip) => *ip,
        Host::Dns(_) => return host.to_string(),
    };
    match ip {
        IpAddr::V4(ip) => {
            ip.octets().iter().rev().map(|byte| format!("{byte}.")).collect::<String>() + "in-addr.arpa"
        }
        IpAddr::V6(ip) => {
            let nibbles = |byte: &u8| format!("{:x}.{:x}.", byte & 15, byte >> 4);
            ip.octets().iter().rev().map(nibbles).collect::<String>() + "ip6.arpa"
        }
    }
}

/// The certificate extension that holds `digest`, marked critical, in DER (RFC 8737 §3).
pub fn extension(digest: &[u8; DIGEST_BYTES]) -> Vec<u8> {
    const HEAD: [u8; 19] = [
        0x30, 0x31, 0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x01, 0x1f, 0x01, 0x01, 0xff, 0x04, 0x22,
        0x04, 0x20,
    ];
    [HEAD.as_slice(), digest].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proof(name: &str, byte: u8) -> Proof {
        Proof { host: Host::parse(name).unwrap(), digest: [byte; 32] }
    }

    #[test]
    fn what_is_written_is_read() {
        let proofs = [proof("recre.store", 0xa0), proof("192.0.2.1", 1), proof("2001:db8::1", 0xff)];
        let text = encode(&proofs);
        assert!(text.starts_with("recre.store a0a0a0") && text.ends_with("ffff\n"), "{text}");
        assert_eq!(decode(text.as_bytes()).unwrap(), proofs);
        assert_eq!(decode(b""), Some(Vec::new()));
    }

    #[test]
    fn nothing_else_is_read() {
        let good = encode(&[proof("a.test", 0xab)]);
        for bad in [
            good.trim_end().to_owned(),
            good.replace(' ', "  "),
            good.replace("ab", "AB"),
            good.replace("a.test", "A.test"),
            good.replace("a.test", "a.test."),
            good.replace("a.test", "*.test"),
            good.replace("a.test", ""),
            good.replacen("ab", "a", 1),
            good.replacen("ab", "abab", 1),
            good.replacen("ab", "ag", 1),
            good.replace('\n', "\r\n"),
            format!("{good}{good}"),
            format!("{good}\n"),
            format!("\n{good}"),
        ] {
            assert_eq!(decode(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(decode(b"\xff a\n"), None);
    }

    #[test]
    fn as_many_names_as_a_certificate_has_and_no_more() {
        let longest = |n: usize| format!("{n:03}{}", format!(".{}", "x".repeat(49)).repeat(5));
        let all: Vec<Proof> = (0..=PROOFS_MAX).map(|n| proof(&longest(n), 7)).collect();
        assert_eq!(longest(0).len(), 253);
        let (most, more) = (encode(&all[..PROOFS_MAX]), encode(&all));
        assert_eq!(most.len(), BYTES_MAX);
        assert_eq!(decode(most.as_bytes()).unwrap().len(), PROOFS_MAX);
        assert_eq!(decode(more.as_bytes()), None);
    }

    /// The examples of RFC 8738 §6 and RFC 3596 §2.5.
    #[test]
    fn an_address_is_asked_for_by_its_reverse_name() {
        for (host, name) in [
            ("recre.store", "recre.store"),
            ("192.0.2.1", "1.2.0.192.in-addr.arpa"),
            (
                "4321:0:1:2:3:4:567:89ab",
                "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.0.0.0.0.1.2.3.4.ip6.arpa",
            ),
        ] {
            assert_eq!(server_name(&Host::parse(host).unwrap()), name);
        }
    }
}
