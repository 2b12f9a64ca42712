//! The header that a proxy sends before a connection to name the client: PROXY protocol, versions 1 and 2
//! (`proxy-protocol.txt` of HAProxy, 2020/03/05). Section numbers below are of that document.
//!
//! Parsing is as strict as for heads, and never reads beyond the header: the bytes after it belong to TLS or HTTP.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Longest header of version 1 with its CRLF (§2.1: 107 characters).
pub const V1_BYTES_MAX: usize = 107;

/// Longest header of version 2 that is read. The addresses take up to 216 bytes; the rest is for TLVs, of which real
/// proxies send a few dozen bytes.
pub const V2_BYTES_MAX: usize = 1024;

/// Longest header that [`header`] writes.
pub const WRITTEN_BYTES_MAX: usize = V1_BYTES_MAX;

/// Bytes of the shortest header, `PROXY UNKNOWN` and CRLF; one of version 2 has one more.
const SHORTEST: usize = 15;
const V1: &[u8] = b"PROXY ";
/// §2.2.
const V2: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const V2_FIXED_BYTES: usize = 16;
/// §2.2.3.
const TLV_CRC32C: u8 = 3;

/// What the first bytes of a connection hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// At least so many more bytes belong to the header; reading that many does not read beyond it.
    Wants(usize),
    /// A complete header. The client that it names, with a canonical address; `None` if the proxy speaks for itself
    /// (LOCAL) or for a client without an IP address (UNKNOWN, UNSPEC, UNIX): the peer is then the client.
    Complete {
        /// Length of the header.
        bytes: usize,
        /// The client.
        client: Option<SocketAddr>,
    },
}

/// A broken rule of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// Neither signature.
    #[error("expected a PROXY protocol header, version 1 or 2; found other bytes")]
    NoHeader,
    /// §2.1.
    #[error("a version 1 header without CRLF in {V1_BYTES_MAX} bytes")]
    LineTooLong,
    /// §2.1.
    #[error("expected `PROXY TCP4|TCP6 source destination port port` or `PROXY UNKNOWN`, one space each")]
    LineMalformed,
    /// §2.2.
    #[error("expected version 2 and the command LOCAL or PROXY, found byte 0x{0:02x}")]
    Command(u8),
    /// §2.2: families over TCP. Datagrams are not.
    #[error("expected TCP over IPv4 or IPv6, a Unix stream or UNSPEC, found family 0x{0:02x}")]
    Family(u8),
    /// §2.2.
    #[error("a version 2 header of {bytes} bytes; expected at most {V2_BYTES_MAX}")]
    TooLong {
        /// Its declared length.
        bytes: usize,
    },
    /// §2.2.
    #[error("the addresses or a TLV exceed the length in the version 2 header")]
    TooShort,
    /// §2.2.3.
    #[error("the checksum of the version 2 header is wrong")]
    Checksum,
}

/// Parses `bytes`, the first of a connection.
///
/// # Errors
/// The first broken rule, as soon as the bytes show it.
pub fn parse(bytes: &[u8]) -> Result<Progress, ProxyError> {
    let agrees = |with: &[u8]| bytes.iter().zip(with).all(|(found, expected)| found == expected);
    match bytes {
        [] => Ok(Progress::Wants(SHORTEST)),
        _ if agrees(&V2) => parse_v2(bytes),
        _ if agrees(V1) => parse_v1(bytes),
        _ => Err(ProxyError::NoHeader),
    }
}

fn parse_v1(bytes: &[u8]) -> Result<Progress, ProxyError> {
    if let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n").filter(|end| end + 2 <= V1_BYTES_MAX)
    {
        let line = bytes.get(..end).and_then(|line| std::str::from_utf8(line).ok());
        let client = line_client(line.ok_or(ProxyError::LineMalformed)?).ok_or(ProxyError::LineMalformed)?;
        return Ok(Progress::Complete { bytes: end + 2, client });
    }
    let line_end = if bytes.ends_with(b"\r") { 1 } else { 2 };
    let wants = SHORTEST.saturating_sub(bytes.len()).max(line_end);
    if bytes.len() + wants > V1_BYTES_MAX { Err(ProxyError::LineTooLong) } else { Ok(Progress::Wants(wants)) }
}

/// The client of a line without its CRLF; outer `None`: malformed.
fn line_client(line: &str) -> Option<Option<SocketAddr>> {
    let mut words = line.split(' ').skip(1);
    let is_v4 = match words.next()? {
        "UNKNOWN" => return Some(None), // §2.1: whatever follows is ignored
        "TCP4" => true,
        "TCP6" => false,
        _ => return None,
    };
    let mut address = || words.next()?.parse::<IpAddr>().ok().filter(|address| address.is_ipv4() == is_v4);
    let (client, _server) = (address()?, address()?);
    let mut port = || words.next().filter(|digits| is_decimal(digits))?.parse::<u16>().ok();
    let (client_port, _server_port) = (port()?, port()?);
    words.next().is_none().then_some(Some(SocketAddr::new(client.to_canonical(), client_port)))
}

/// Digits only, without leading zeros.
fn is_decimal(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'))
}

fn parse_v2(bytes: &[u8]) -> Result<Progress, ProxyError> {
    let Some([command, family, high, low]) = bytes.get(V2.len()..V2_FIXED_BYTES) else {
        return Ok(Progress::Wants(V2_FIXED_BYTES - bytes.len()));
    };
    let is_local = match command {
        0x20 => true,
        0x21 => false,
        other => return Err(ProxyError::Command(*other)),
    };
    let length = V2_FIXED_BYTES + usize::from(u16::from_be_bytes([*high, *low]));
    if length > V2_BYTES_MAX {
        return Err(ProxyError::TooLong { bytes: length });
    }
    let Some(header) = bytes.get(..length) else { return Ok(Progress::Wants(length - bytes.len())) };
    // §2.2: for LOCAL, the family and everything after it are discarded.
    let client = if is_local { None } else { named_client(*family, header)? };
    Ok(Progress::Complete { bytes: length, client })
}

fn named_client(family: u8, header: &[u8]) -> Result<Option<SocketAddr>, ProxyError> {
    let behind = header.get(V2_FIXED_BYTES..).unwrap_or_default();
    let address_bytes = match family {
        0x00 => 0,
        0x11 => 12,
        0x21 => 36,
        0x31 => 216,
        other => return Err(ProxyError::Family(other)),
    };
    let (addresses, tlvs) = behind.split_at_checked(address_bytes).ok_or(ProxyError::TooShort)?;
    check_tlvs(header, tlvs)?;
    Ok(match addresses {
        [a, b, c, d, _, _, _, _, high, low, ..] if family == 0x11 => {
            Some(SocketAddr::new(Ipv4Addr::new(*a, *b, *c, *d).into(), u16::from_be_bytes([*high, *low])))
        }
        _ if family == 0x21 => {
            let port = addresses.get(32..34).and_then(|port| port.try_into().ok()).unwrap_or_default();
            let source = addresses.first_chunk::<16>().copied().unwrap_or_default();
            Some(SocketAddr::new(Ipv6Addr::from(source).to_canonical(), u16::from_be_bytes(port)))
        }
        _ => None,
    })
}

/// Each TLV ends within the header, and its checksum, if any, is correct (§2.2.3).
fn check_tlvs(header: &[u8], tlvs: &[u8]) -> Result<(), ProxyError> {
    let mut rest = tlvs;
    while let Some((kind, after)) = rest.split_first() {
        let ([high, low], after) = after.split_first_chunk().ok_or(ProxyError::TooShort)?;
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (value, next) = after.split_at_checked(length).ok_or(ProxyError::TooShort)?;
        if *kind == TLV_CRC32C {
            let sum = value.try_into().map(u32::from_be_bytes).map_err(|_| ProxyError::Checksum)?;
            let at = header.len() - after.len();
            if sum != crc32c(header, at..at + length) {
                return Err(ProxyError::Checksum);
            }
        }
        rest = next;
    }
    Ok(())
}

/// CRC-32C (RFC 3720 Appendix B.4) of `bytes`, with zeros for the bytes of `blank`. Bit by bit, because headers are few
/// and short.
fn crc32c(bytes: &[u8], blank: std::ops::Range<usize>) -> u32 {
    let turn = |crc: u32| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
    let byte = |crc: u32, (at, byte): (usize, &u8)| {
        let byte = if blank.contains(&at) { 0 } else { *byte };
        (0..8).fold(crc ^ u32::from(byte), |crc, _| turn(crc))
    };
    !bytes.iter().enumerate().fold(!0, byte)
}

/// The header of `version` (1 or 2) for a connection from `client` to `server`. Addresses of two families are both
/// written as IPv6.
pub fn header(version: u8, client: SocketAddr, server: SocketAddr) -> heapless::Vec<u8, WRITTEN_BYTES_MAX> {
    let (client_ip, server_ip) = match (client.ip().to_canonical(), server.ip().to_canonical()) {
        same @ ((IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_))) => same,
        (client, server) => (mapped(client).into(), mapped(server).into()),
    };
    let mut out = heapless::Vec::new();
    if version == 1 {
        let family = if client_ip.is_ipv4() { "TCP4" } else { "TCP6" };
        let (from, to) = (client.port(), server.port());
        let written = write!(out, "PROXY {family} {client_ip} {server_ip} {from} {to}\r\n");
        debug_assert!(written.is_ok(), "§2.1 counts 107 bytes at most");
        return out;
    }
    let mut push = |bytes: &[u8]| {
        let pushed = out.extend_from_slice(bytes);
        debug_assert!(pushed.is_ok(), "52 bytes at most");
    };
    push(&V2);
    match (client_ip, server_ip) {
        (IpAddr::V4(client), IpAddr::V4(server)) => {
            push(&[0x21, 0x11, 0, 12]);
            push(&client.octets());
            push(&server.octets());
        }
        (client, server) => {
            push(&[0x21, 0x21, 0, 36]);
            push(&mapped(client).octets());
            push(&mapped(server).octets());
        }
    }
    push(&client.port().to_be_bytes());
    push(&server.port().to_be_bytes());
    out
}

fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::parsers::fuzz_proxy_protocol;
    use proptest::prelude::*;

    fn client(bytes: &[u8]) -> Result<Option<SocketAddr>, ProxyError> {
        match parse(bytes)? {
            Progress::Complete { bytes: length, client } => {
                assert_eq!(length, bytes.len());
                Ok(client)
            }
            Progress::Wants(count) => panic!("wants {count} more than {bytes:?}"),
        }
    }

    fn v2(command: u8, family: u8, addresses: &[u8], tlvs: &[u8]) -> Vec<u8> {
        let length = u16::try_from(addresses.len() + tlvs.len()).unwrap().to_be_bytes();
        [&V2, &[command, family][..], &length, addresses, tlvs].concat()
    }

    const V4_ADDRESSES: [u8; 12] = [192, 0, 2, 7, 198, 51, 100, 1, 0x12, 0x34, 1, 0xbb];

    #[test]
    fn lines_name_their_client() {
        for (line, expected) in [
            ("PROXY TCP4 192.0.2.7 198.51.100.1 4660 443", Some("192.0.2.7:4660")),
            ("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535", Some("255.255.255.255:65535")),
            ("PROXY TCP4 192.0.2.7 198.51.100.1 0 0", Some("192.0.2.7:0")),
            ("PROXY TCP6 2001:db8::7 2001:db8::1 1 2", Some("[2001:db8::7]:1")),
            ("PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2", Some("192.0.2.7:1")),
            ("PROXY UNKNOWN", None),
            ("PROXY UNKNOWN ffff:f...f:ffff ffff 65535 65535", None),
        ] {
            let found = client(format!("{line}\r\n").as_bytes());
            assert_eq!(found, Ok(expected.map(|text| text.parse().unwrap())), "{line}");
        }
    }

    #[test]
    fn lines_that_could_be_read_in_two_ways_are_refused() {
        for line in [
            "PROXY  TCP4 192.0.2.7 198.51.100.1 1 2",
            "PROXY TCP4  192.0.2.7 198.51.100.1 1 2",
            "PROXY TCP4 192.0.2.7 198.51.100.1 1 2 ",
            "PROXY TCP4 192.0.2.7 198.51.100.1 1 2 3",
            "PROXY TCP4 192.0.2.7 198.51.100.1 1",
            "PROXY TCP4 192.0.2.7 198.51.100.1 +1 2",
            "PROXY TCP4 192.0.2.7 198.51.100.1 01 2",
            "PROXY TCP4 192.0.2.7 198.51.100.1 65536 2",
            "PROXY TCP4 192.0.2.7 198.51.100.1  2",
            "PROXY TCP4 192.0.2.007 198.51.100.1 1 2",
            "PROXY TCP4 192.0.2 198.51.100.1 1 2",
            "PROXY TCP4 2001:db8::7 2001:db8::1 1 2",
            "PROXY TCP6 192.0.2.7 198.51.100.1 1 2",
            "PROXY TCP6 fe80::1%eth0 2001:db8::1 1 2",
            "PROXY tcp4 192.0.2.7 198.51.100.1 1 2",
            "PROXY UDP4 192.0.2.7 198.51.100.1 1 2",
            "PROXY TCP4\t192.0.2.7 198.51.100.1 1 2",
            "PROXY TCP4 192.0.2.7 198.51.100.1 1 2\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 1 \u{661}",
            "PROXY UNKNOWNS 1",
            "PROXY         ",
        ] {
            let found = client(format!("{line}\r\n").as_bytes());
            assert_eq!(found, Err(ProxyError::LineMalformed), "{line:?}");
        }
        assert_eq!(client(b"PROXY TCP4 \xff.0.2.7 198.51.100.1 1 2\r\n"), Err(ProxyError::LineMalformed));
    }

    #[test]
    fn a_line_has_its_bound() {
        let unknown = |bytes: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(bytes - 16));
        assert_eq!(client(unknown(107).as_bytes()), Ok(None));
        assert_eq!(parse(unknown(108).as_bytes()), Err(ProxyError::LineTooLong));
        let open = "PROXY UNKNOWN ".to_owned() + &"x".repeat(200);
        assert_eq!(parse(&open.as_bytes()[..105]), Ok(Progress::Wants(2)));
        assert_eq!(parse(&open.as_bytes()[..106]), Err(ProxyError::LineTooLong));
        assert_eq!(parse(format!("{}\r", &open[..105]).as_bytes()), Ok(Progress::Wants(1)));
    }

    #[test]
    fn binary_headers_name_their_client() {
        let v6: Vec<u8> = [
            &"2001:db8::7".parse::<Ipv6Addr>().unwrap().octets()[..],
            &"2001:db8::1".parse::<Ipv6Addr>().unwrap().octets(),
            &[0x12, 0x34, 1, 0xbb],
        ]
        .concat();
        let mapped = [&"::ffff:192.0.2.7".parse::<Ipv6Addr>().unwrap().octets()[..], &v6[16..]].concat();
        let alpn = [1, 0, 2, b'h', b'2'];
        for (bytes, expected) in [
            (v2(0x21, 0x11, &V4_ADDRESSES, b""), Some("192.0.2.7:4660")),
            (v2(0x21, 0x11, &V4_ADDRESSES, &alpn), Some("192.0.2.7:4660")),
            (v2(0x21, 0x11, &V4_ADDRESSES, &[4, 0, 0, 0xea, 0, 1, 9]), Some("192.0.2.7:4660")),
            (v2(0x21, 0x21, &v6, b""), Some("[2001:db8::7]:4660")),
            (v2(0x21, 0x21, &mapped, b""), Some("192.0.2.7:4660")),
            (v2(0x21, 0x31, &[b'/'; 216], b""), None),
            (v2(0x21, 0x00, b"", b""), None),
            (v2(0x21, 0x00, b"", &alpn), None),
            (v2(0x20, 0x00, b"", b""), None),
            (v2(0x20, 0x11, &V4_ADDRESSES, b""), None),
            (v2(0x20, 0xff, b"whatever", b""), None),
        ] {
            assert_eq!(client(&bytes), Ok(expected.map(|text| text.parse().unwrap())), "{bytes:?}");
        }
    }

    #[test]
    fn a_broken_binary_header_is_named() {
        for (bytes, expected) in [
            (v2(0x11, 0x11, &V4_ADDRESSES, b""), ProxyError::Command(0x11)),
            (v2(0x22, 0x11, &V4_ADDRESSES, b""), ProxyError::Command(0x22)),
            (v2(0x21, 0x12, &V4_ADDRESSES, b""), ProxyError::Family(0x12)),
            (v2(0x21, 0x10, &V4_ADDRESSES, b""), ProxyError::Family(0x10)),
            (v2(0x21, 0x41, &V4_ADDRESSES, b""), ProxyError::Family(0x41)),
            (v2(0x21, 0x11, &V4_ADDRESSES[..11], b""), ProxyError::TooShort),
            (v2(0x21, 0x21, &V4_ADDRESSES, b""), ProxyError::TooShort),
            (v2(0x21, 0x31, &[0; 215], b""), ProxyError::TooShort),
            (v2(0x21, 0x11, &V4_ADDRESSES, &[1]), ProxyError::TooShort),
            (v2(0x21, 0x11, &V4_ADDRESSES, &[1, 0, 3, 1, 2]), ProxyError::TooShort),
            (v2(0x21, 0x11, &V4_ADDRESSES, &[3, 0, 4, 1, 2, 3, 4]), ProxyError::Checksum),
            (v2(0x21, 0x11, &V4_ADDRESSES, &[3, 0, 2, 1, 2]), ProxyError::Checksum),
            (v2(0x21, 0x00, &[0; 1009], b""), ProxyError::TooLong { bytes: 1025 }),
        ] {
            assert_eq!(client(&bytes), Err(expected), "{bytes:?}");
        }
        let padded = [&[4, 0x03, 0xed][..], &[0; 1005]].concat();
        assert_eq!(client(&v2(0x21, 0x00, b"", &padded)), Ok(None), "1024 bytes");
    }

    #[test]
    fn a_right_checksum_passes() {
        assert_eq!(crc32c(b"123456789", 0..0), 0xe306_9283, "the check value of CRC-32C");
        let mut header = v2(0x21, 0x11, &V4_ADDRESSES, &[3, 0, 4, 0, 0, 0, 0]);
        let at = header.len() - 4;
        let sum = crc32c(&header, 0..0).to_be_bytes();
        header[at..].copy_from_slice(&sum);
        assert_eq!(client(&header), Ok(Some("192.0.2.7:4660".parse().unwrap())));
    }

    #[test]
    fn other_beginnings_are_no_header() {
        for bytes in [
            &b"G"[..],
            b"GET / HTTP/1.1\r\n",
            b"\x16\x03\x01",
            b"PROXZ",
            b"proxy ",
            b"\r\n\r\n\0\r\nQUIT\r",
            b"\r\nP",
        ] {
            assert_eq!(parse(bytes), Err(ProxyError::NoHeader), "{bytes:?}");
        }
        assert_eq!(parse(b""), Ok(Progress::Wants(15)));
        assert_eq!(parse(b"P"), Ok(Progress::Wants(14)));
    }

    #[test]
    fn what_is_written_is_golden() {
        let (v4, v6) = ("192.0.2.7:4660".parse().unwrap(), "[2001:db8::1]:443".parse().unwrap());
        let server = "198.51.100.1:443".parse().unwrap();
        assert_eq!(header(1, v4, server), b"PROXY TCP4 192.0.2.7 198.51.100.1 4660 443\r\n");
        assert_eq!(header(1, v4, v6), b"PROXY TCP6 ::ffff:192.0.2.7 2001:db8::1 4660 443\r\n");
        assert_eq!(header(2, v4, server).to_vec(), v2(0x21, 0x11, &V4_ADDRESSES, b""));
        let both = header(2, v6, v4);
        assert_eq!((both.len(), both[13]), (52, 0x21));
        assert_eq!(client(&both), Ok(Some(v6)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            fuzz_proxy_protocol(&bytes);
        }

        #[test]
        fn headers_of_any_content_are_read_or_refused(
            command in prop_oneof![Just(0x20), Just(0x21), any::<u8>()],
            family in prop_oneof![Just(0x11), Just(0x21), Just(0x31), any::<u8>()],
            content in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            fuzz_proxy_protocol(&v2(command, family, &content, b"GET /"));
        }

        #[test]
        fn what_is_written_is_read(client: SocketAddr, server: SocketAddr, version in 1_u8..=2) {
            let client = SocketAddr::new(client.ip().to_canonical(), client.port());
            let written = header(version, client, server);
            let bytes = written.len();
            prop_assert_eq!(parse(&written), Ok(Progress::Complete { bytes, client: Some(client) }));
        }
    }
}
