//! Parses PEM leniently (RFC 7468): text to sections of DER, or the line of an error.
//!
//! Pure. Lenient if there is only one reading (RFC 7468 §3): markers that share a line, with too few dashes or text around them, byte
//! order marks, indentation, quotes, any line ends, `\n` as two characters, blanks in their place or nothing, UTF-16. Everything else
//! is an error, so that no part of a file is dropped: there are never fewer sections than `BEGIN` markers. An error names a line and
//! never its content.

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

/// What a section contains, by its label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// X.509.
    Certificate,
    /// X.509 followed by OpenSSL's own data, which is left out.
    TrustedCertificate,
    /// PKCS #8.
    Pkcs8Key,
    /// PKCS #1.
    Pkcs1Key,
    /// SEC 1.
    Sec1Key,
    /// Another private key, or one with a passphrase.
    OtherKey,
    /// PKCS #7 or CMS.
    Pkcs7,
    /// Nothing that a chain or key file needs.
    Other,
}

/// Labels, and what they mean. A label that begins with another comes before it.
const LABELS: [(&str, Kind); 25] = [
    ("CERTIFICATE REQUEST", Kind::Other),
    ("NEW CERTIFICATE REQUEST", Kind::Other),
    ("CERTIFICATE", Kind::Certificate),
    ("X509 CERTIFICATE", Kind::Certificate),
    ("TRUSTED CERTIFICATE", Kind::TrustedCertificate),
    ("ATTRIBUTE CERTIFICATE", Kind::Other),
    ("PRIVATE KEY", Kind::Pkcs8Key),
    ("RSA PRIVATE KEY", Kind::Pkcs1Key),
    ("EC PRIVATE KEY", Kind::Sec1Key),
    ("ENCRYPTED PRIVATE KEY", Kind::OtherKey),
    ("DSA PRIVATE KEY", Kind::OtherKey),
    ("ANY PRIVATE KEY", Kind::OtherKey),
    ("OPENSSH PRIVATE KEY", Kind::OtherKey),
    ("PKCS #7 SIGNED DATA", Kind::Pkcs7),
    ("PKCS7", Kind::Pkcs7),
    ("CMS", Kind::Pkcs7),
    ("PUBLIC KEY", Kind::Other),
    ("RSA PUBLIC KEY", Kind::Other),
    ("EC PUBLIC KEY", Kind::Other),
    ("DH PARAMETERS", Kind::Other),
    ("X9.42 DH PARAMETERS", Kind::Other),
    ("EC PARAMETERS", Kind::Other),
    ("DSA PARAMETERS", Kind::Other),
    ("X509 CRL", Kind::Other),
    ("SSL SESSION PARAMETERS", Kind::Other),
];

/// Least dashes before BEGIN or END that make it a marker, whatever follows: RFC 7468 has five.
const MARKER_DASHES: usize = 3;

/// One section.
#[derive(Clone, PartialEq, Eq)]
pub struct Section {
    /// Its label, as it is usually written.
    pub label: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// It has a passphrase, and no content here.
    pub encrypted: bool,
    /// The content.
    pub der: Zeroizing<Vec<u8>>,
}

/// An error in PEM.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {broken}")]
pub struct PemError {
    /// The line in the file, counted from 1.
    pub line: usize,
    /// What is wrong there.
    pub broken: Broken,
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A section without its END: the next one, or the end of the file, follows.
    #[error("a {0} section without its END line")]
    NoEnd(&'static str),
    /// An END without its BEGIN.
    #[error("an END line without its BEGIN line")]
    NoBegin,
    /// Another section's END.
    #[error("the END line of a {found} section, where that of {expected} belongs")]
    OtherEnd {
        /// The label of BEGIN.
        expected: &'static str,
        /// The label of END.
        found: &'static str,
    },
    /// No label of the table.
    #[error("a BEGIN or END line of an unknown kind, or misspelt")]
    UnknownLabel,
    /// `BEGIN CERTIFICATE` alone.
    #[error("a BEGIN or END line without its dashes")]
    NoDashes,
    /// Something else between the markers.
    #[error("a {0} section that is not base64")]
    NotBase64(&'static str),
    /// Nothing between the markers.
    #[error("an empty {0} section")]
    Empty(&'static str),
    /// Some other kind of file, or one that was damaged.
    #[error("a zero byte, which no PEM file has")]
    ZeroByte,
}

/// Reads every section of a file.
///
/// # Errors
/// The first line that cannot be understood.
pub fn read(bytes: &[u8]) -> Result<Vec<Section>, PemError> {
    let text = plain(bytes);
    let error = |at: usize, broken| PemError { line: line(&text, at), broken };
    if let Some(at) = text.iter().position(|byte| *byte == 0) {
        return Err(error(at, Broken::ZeroByte));
    }
    let mut sections = Vec::new();
    let mut open: Option<(Marker, (&'static str, Kind))> = None;
    for marker in markers(&text) {
        let label = marker.label.ok_or_else(|| error(marker.at, Broken::UnknownLabel))?;
        if !marker.has_dashes {
            return Err(error(marker.at, Broken::NoDashes));
        }
        match (open.take(), marker.begins) {
            (None, true) => open = Some((marker, label)),
            (None, false) => return Err(error(marker.at, Broken::NoBegin)),
            (Some((begin, (name, _))), true) => return Err(error(begin.at, Broken::NoEnd(name))),
            (Some((begin, (name, kind))), false) if name == label.0 => {
                let body = text.get(begin.end..marker.at).unwrap_or_default();
                sections.push(section(name, kind, body).map_err(|broken| error(begin.at, broken))?);
            }
            (Some((_, (expected, _))), false) => {
                return Err(error(marker.at, Broken::OtherEnd { expected, found: label.0 }));
            }
        }
    }
    match open {
        Some((begin, (name, _))) => Err(error(begin.at, Broken::NoEnd(name))),
        None => Ok(sections),
    }
}

/// The text in ASCII: decodes UTF-16, and replaces marks, dashes and blanks of other kinds by plain ones.
fn plain(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    // A text with ASCII parts is not UTF-16.
    let wide = if bytes.windows(5).any(|word| word == b"BEGIN") { &[] } else { bytes };
    let units = |from: fn([u8; 2]) -> u16| bytes.as_chunks::<2>().0.iter().map(move |two| from(*two));
    let decoded = |from| char::decode_utf16(units(from)).map(replaced).collect::<String>();
    let text = Zeroizing::new(match wide {
        [0xff, 0xfe, ..] => decoded(u16::from_le_bytes),
        [0xfe, 0xff, ..] => decoded(u16::from_be_bytes),
        [first, 0, ..] if *first != 0 => decoded(u16::from_le_bytes),
        [0, second, ..] if *second != 0 => decoded(u16::from_be_bytes),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    });
    let ascii = |c: char| match c {
        '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{ff0d}' => '-',
        '\u{a0}'
        | '\u{2000}'..='\u{200f}'
        | '\u{2028}'
        | '\u{2029}'
        | '\u{202f}'
        | '\u{2060}'
        | '\u{3000}'
        | '\u{feff}' => ' ',
        '\u{2018}'..='\u{201f}' => '"',
        c if c.is_ascii() => c,
        _ => '\u{1a}', // in no encoding, and in no label
    };
    Zeroizing::new(text.chars().map(|c| ascii(c) as u8).collect())
}

fn replaced(unit: Result<char, std::char::DecodeUtf16Error>) -> char {
    unit.unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// The line of the byte at `at`; CR, LF and CRLF end one.
fn line(text: &[u8], at: usize) -> usize {
    let before = text.get(..at).unwrap_or(text);
    let next = before.iter().skip(1).chain([&0]);
    1 + before
        .iter()
        .zip(next)
        .filter(|(byte, next)| **byte == b'\n' || (**byte == b'\r' && **next != b'\n'))
        .count()
}

/// A BEGIN or END, from its first dash to its last.
struct Marker {
    begins: bool,
    at: usize,
    end: usize,
    label: Option<(&'static str, Kind)>,
    has_dashes: bool,
}

/// In the order of the text: each BEGIN or END after dashes, or before a known label.
fn markers(text: &[u8]) -> Vec<Marker> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        match marker(text, at, rest) {
            Some(marker) => {
                at = marker.end.max(at + 1);
                found.push(marker);
            }
            None => at += 1,
        }
    }
    found
}

fn marker(text: &[u8], at: usize, rest: &[u8]) -> Option<Marker> {
    let begins = starts(rest, b"BEGIN");
    let word = if begins { 5 } else { 3 };
    if !begins && !starts(rest, b"END") {
        return None;
    }
    let before = text.get(..at).unwrap_or_default();
    let blanks = before.iter().rev().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let dashes = before.iter().rev().skip(blanks).take_while(|byte| **byte == b'-').count();
    let in_front = before.iter().rev().nth(if dashes < 2 { dashes } else { 0 });
    let is_word = blanks > 0 || !in_front.is_some_and(u8::is_ascii_alphanumeric); // not "back-END"
    let behind = rest.get(word..).unwrap_or_default();
    let label = LABELS.iter().find_map(|row| Some((row, length(behind, row.0)?)));
    let (label, length) = label.map_or((None, 0), |((name, kind), length)| (Some((*name, *kind)), length));
    let is_upper = !rest.get(..word + length).unwrap_or_default().iter().any(u8::is_ascii_lowercase);
    let is_marker = dashes >= MARKER_DASHES || (label.is_some() && is_word && is_upper);
    let end = at + word + length;
    let tail = text.get(end..).unwrap_or_default();
    let gap = tail.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let closing = tail.iter().skip(gap).take_while(|byte| **byte == b'-').count();
    is_marker.then_some(Marker {
        begins,
        at: at - blanks - dashes,
        end: if closing > 0 { end + gap + closing } else { end },
        label,
        has_dashes: dashes > 0,
    })
}

fn starts(text: &[u8], word: &[u8]) -> bool {
    text.get(..word.len()).is_some_and(|beginning| beginning.eq_ignore_ascii_case(word))
}

/// How many bytes of `text` are blanks and `label`, whose words may have any blanks in between.
fn length(text: &[u8], label: &str) -> Option<usize> {
    let mut rest = text;
    for word in label.split(' ') {
        let trimmed = rest.trim_ascii_start();
        rest = trimmed
            .get(word.len()..)
            .filter(|_| trimmed.len() < rest.len() && starts(trimmed, word.as_bytes()))?;
    }
    Some(text.len() - rest.len())
}

fn section(label: &'static str, kind: Kind, body: &[u8]) -> Result<Section, Broken> {
    let encrypted = label == "ENCRYPTED PRIVATE KEY"
        || (body.contains(&b':') && body.windows(9).any(|word| word == b"ENCRYPTED")); // RFC 1421 §4.6.1.1
    if encrypted {
        return Ok(Section { label, kind: Kind::OtherKey, encrypted, der: Zeroizing::default() });
    }
    let base64 = base64(headless(body));
    if base64.is_empty() {
        return Err(Broken::Empty(label));
    }
    let padding = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let engine = GeneralPurpose::new(&base64::alphabet::STANDARD, padding);
    let mut der = Zeroizing::new(engine.decode(&*base64).map_err(|_| Broken::NotBase64(label))?);
    if der.is_empty() {
        return Err(Broken::Empty(label));
    }
    if kind == Kind::TrustedCertificate {
        let length = der_length(&der).unwrap_or(der.len());
        der.truncate(length);
    }
    Ok(Section { label, kind, encrypted, der })
}

/// Without the header fields at the beginning (RFC 1421 §4.6).
fn headless(body: &[u8]) -> &[u8] {
    let mut rest = body.trim_ascii_start();
    while let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
        let (first, behind) = rest.split_at(end);
        if !first.contains(&b':') {
            break;
        }
        rest = behind.trim_ascii_start();
    }
    rest
}

/// What is left without blanks, line ends in any form, quotes, commas and the `>` of quoted mail.
fn base64(body: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut base64 = Zeroizing::new(Vec::with_capacity(body.len()));
    let mut bytes = body.iter().copied().peekable();
    let mut begins_line = true;
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => {
                let _ = bytes.next_if(|next| matches!(next, b'n' | b'r' | b't'));
            }
            b'\n' | b'\r' => begins_line = true,
            b'>' if begins_line => {}
            b' ' | b'\t' | 0x0b | 0x0c | b'"' | b'\'' | b',' => {}
            other => {
                begins_line = false;
                base64.push(other);
            }
        }
    }
    base64
}

/// Bytes of the first element (X.690 §8.1.3).
fn der_length(der: &[u8]) -> Option<usize> {
    let first = usize::from(*der.get(1)?);
    if first < 0x80 {
        return Some(2 + first);
    }
    let count = first & 0x7f;
    let digits = der.get(2..2 + count)?;
    let length = digits
        .iter()
        .try_fold(0usize, |sum, digit| sum.checked_mul(256)?.checked_add(usize::from(*digit)))?;
    length.checked_add(2 + count).filter(|length| *length <= der.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fuzz::commands::fuzz_pem;

    const ONE: &str = "-----BEGIN CERTIFICATE-----\nMIIBAAECAwQF\nBgcICQ==\n-----END CERTIFICATE-----\n";
    const TWO: &str = "-----BEGIN CERTIFICATE-----\nMIICCgsMDQ4P\n-----END CERTIFICATE-----\n";
    const KEY: &str = "-----BEGIN PRIVATE KEY-----\nMIIDEBESExQV\n-----END PRIVATE KEY-----\n";

    fn wide(text: &str, mark: bool, unit: fn(u16) -> [u8; 2]) -> Vec<u8> {
        let mark = if mark { "\u{feff}" } else { "" };
        format!("{mark}{text}").encode_utf16().flat_map(unit).collect()
    }

    fn ders(bytes: &[u8]) -> Vec<Vec<u8>> {
        let sections =
            read(bytes).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(bytes)));
        sections.iter().map(|section| section.der.to_vec()).collect()
    }

    #[test]
    fn files_as_people_make_them_hold_what_they_held() {
        let good = format!("{ONE}{TWO}");
        let wanted = ders(good.as_bytes());
        assert_eq!(wanted.len(), 2);
        let lines = |between: &str| good.trim_end().replace('\n', between);
        let indented: String = good.lines().map(|line| format!("    {line}\n")).collect();
        let quoted: String = good.lines().map(|line| format!("> {line}\n")).collect();
        let list: String = good.lines().map(|line| format!("  \"{line}\\n\",\n")).collect();
        for (what, bytes) in [
            ("as it should be", good.clone().into_bytes()),
            ("joined markers", good.replace("-----\n-----", "----------").into_bytes()),
            ("joined markers, a blank between", good.replace("-----\n-----", "----- -----").into_bytes()),
            ("a mark in front", format!("\u{feff}{good}").into_bytes()),
            ("a mark in the middle", format!("{ONE}\u{feff}{TWO}").into_bytes()),
            ("CRLF", lines("\r\n").into_bytes()),
            ("CR", lines("\r").into_bytes()),
            ("\\n as two characters", lines("\\n").into_bytes()),
            ("\\r\\n as four", lines("\\r\\n").into_bytes()),
            ("blanks", lines(" ").into_bytes()),
            ("tabs", lines("\t").into_bytes()),
            ("nothing between", lines("").into_bytes()),
            ("indented", indented.into_bytes()),
            ("quoted mail", quoted.into_bytes()),
            ("a list of strings", list.into_bytes()),
            ("a JSON string", format!("{{\"chain\": \"{}\"}}", lines("\\n")).into_bytes()),
            ("UTF-16 little-endian", wide(&good, true, u16::to_le_bytes)),
            ("UTF-16 big-endian", wide(&good, true, u16::to_be_bytes)),
            ("UTF-16 little-endian without a mark", wide(&good, false, u16::to_le_bytes)),
            ("UTF-16 big-endian without a mark", wide(&good, false, u16::to_be_bytes)),
            (
                "bag attributes",
                format!("Bag Attributes\n    friendlyName: back-end\nsubject=CN = a\n{ONE}key\n{TWO}")
                    .into_bytes(),
            ),
            (
                "prose",
                format!("# front-end certificate, to the end\n# begin certificate\n{good}").into_bytes(),
            ),
            (
                "text behind the markers",
                good.replace("CATE-----\n", "CATE----- # x\n")
                    .replacen("BEGIN CERTIFICATE----- # x", "BEGIN CERTIFICATE-----", 2)
                    .into_bytes(),
            ),
            ("a dash too few", good.replace("-----", "----").into_bytes()),
            ("a dash too many", good.replace("-----", "------").into_bytes()),
            ("typographic dashes", good.replace("-----", "——").into_bytes()),
            ("no dashes at the end", good.replace("CATE-----", "CATE").into_bytes()),
            (
                "lower case",
                good.replace("BEGIN CERTIFICATE", "begin certificate")
                    .replace("END CERTIFICATE", "end certificate")
                    .into_bytes(),
            ),
            ("blanks around the labels", good.replace("BEGIN ", " BEGIN  ").into_bytes()),
            ("blanks at the ends of lines", lines("  \n").into_bytes()),
            ("no-break spaces", lines("\u{a0}\n").into_bytes()),
            ("an empty line in the middle", lines("\n\n").into_bytes()),
            ("no padding", good.replace('=', "").into_bytes()),
            ("X509 CERTIFICATE", good.replace("CERTIFICATE", "X509 CERTIFICATE").into_bytes()),
        ] {
            assert_eq!(ders(&bytes), wanted, "{what}: {}", String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_its_line() {
        let bad = |text: &str| read(text.as_bytes()).err().map(|error| (error.line, error.broken));
        let all = format!("{ONE}{TWO}");
        assert_eq!(bad(&all), None);
        assert_eq!(
            bad(&all.replacen("-----END CERTIFICATE-----\n", "", 1)),
            Some((1, Broken::NoEnd("CERTIFICATE")))
        );
        assert_eq!(
            bad(&format!("{ONE}-----BEGIN CERTIFICATE-----\nMIIC")),
            Some((5, Broken::NoEnd("CERTIFICATE")))
        );
        assert_eq!(bad(&all.replacen("-----BEGIN CERTIFICATE-----\n", "", 1)), Some((3, Broken::NoBegin)));
        let crossed = Broken::OtherEnd { expected: "CERTIFICATE", found: "PRIVATE KEY" };
        assert_eq!(bad(&ONE.replace("END CERTIFICATE", "END PRIVATE KEY")), Some((4, crossed)));
        assert_eq!(bad(&format!("{ONE}-----BEGIN CERTFICATE-----\n")), Some((5, Broken::UnknownLabel)));
        assert_eq!(bad(&format!("{ONE}\r\n-----BEGIN-----\r\n")), Some((6, Broken::UnknownLabel)));
        assert_eq!(bad(&format!("{ONE}-----BEGINCERTIFICATE-----\n")), Some((5, Broken::UnknownLabel)));
        assert_eq!(
            bad(&format!("{ONE}BEGIN CERTIFICATE\nMIIC\nEND CERTIFICATE\n")),
            Some((5, Broken::NoDashes))
        );
        let not_base64 = Some((1, Broken::NotBase64("CERTIFICATE")));
        assert_eq!(bad(&ONE.replace("MIIB", "MI!B")), not_base64);
        assert_eq!(bad(&ONE.replace("MIIB", "<br>MIIB")), not_base64);
        assert_eq!(bad(&ONE.replace("MIIB", "MI_B")), not_base64);
        assert_eq!(bad(&ONE.replace("MIIB", "MÌIB")), not_base64);
        assert_eq!(bad(&ONE.replace("MIIBAAECAwQF", "MIIB==")), not_base64);
        assert_eq!(
            bad(&ONE.replace("MIIBAAECAwQF\nBgcICQ==\n", "")),
            Some((1, Broken::Empty("CERTIFICATE")))
        );
        assert_eq!(bad(&format!("{ONE}-----BE\0GIN CERTIFICATE-----\n")), Some((5, Broken::ZeroByte)));
        let mixed = [wide(ONE, true, u16::to_le_bytes), TWO.as_bytes().to_vec()].concat();
        assert_eq!(read(&mixed).err().map(|error| error.broken), Some(Broken::ZeroByte));
        let mixed = [TWO.as_bytes().to_vec(), wide(ONE, true, u16::to_le_bytes)].concat();
        assert_eq!(read(&mixed).err().map(|error| (error.line, error.broken)), Some((4, Broken::ZeroByte)));
        assert_eq!(bad("hello"), None);
    }

    #[test]
    fn sections_are_distinguished() {
        let kinds = |text: &str| -> Vec<(Kind, bool)> {
            read(text.as_bytes()).unwrap().iter().map(|section| (section.kind, section.encrypted)).collect()
        };
        assert_eq!(kinds(&format!("{KEY}{ONE}")), [(Kind::Pkcs8Key, false), (Kind::Certificate, false)]);
        let of = |label: &str| KEY.replace("PRIVATE KEY", label);
        assert_eq!(kinds(&of("RSA PRIVATE KEY")), [(Kind::Pkcs1Key, false)]);
        assert_eq!(kinds(&of("EC PRIVATE KEY")), [(Kind::Sec1Key, false)]);
        assert_eq!(kinds(&of("ENCRYPTED PRIVATE KEY")), [(Kind::OtherKey, true)]);
        assert_eq!(kinds(&of("OPENSSH PRIVATE KEY")), [(Kind::OtherKey, false)]);
        assert_eq!(kinds(&of("CERTIFICATE REQUEST")), [(Kind::Other, false)]);
        assert_eq!(kinds(&of("PKCS7")), [(Kind::Pkcs7, false)]);
        let fields = "KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nMII";
        assert_eq!(kinds(&of("RSA PRIVATE KEY").replace("KEY-----\nMII", fields)), [(Kind::OtherKey, true)]);
        let fields = "KEY-----\nComment: mine\n\nMII";
        assert_eq!(kinds(&KEY.replace("KEY-----\nMII", fields)), [(Kind::Pkcs8Key, false)]);
    }

    #[test]
    fn what_openssl_adds_to_a_trusted_certificate_is_left_out() {
        let text = |base64: &str| {
            format!("-----BEGIN TRUSTED CERTIFICATE-----\n{base64}\n-----END TRUSTED CERTIFICATE-----")
        };
        assert_eq!(ders(text("MAMCAQUwAA==").as_bytes()), [[0x30, 3, 2, 1, 5]]);
        assert_eq!(ders(text("MAMCAQU=").as_bytes()), [[0x30, 3, 2, 1, 5]]);
        assert_eq!(ders(text("MIIBAAEC").as_bytes()), [[0x30, 0x82, 1, 0, 1, 2]], "shorter than it says");
    }

    #[test]
    fn every_label_is_found_as_it_is_written() {
        for (label, kind) in LABELS {
            let text = KEY.replace("PRIVATE KEY", label);
            let sections = read(text.as_bytes()).unwrap();
            assert_eq!(
                (sections.len(), sections[0].label, sections[0].kind == kind || sections[0].encrypted),
                (1, label, true)
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2048))]

        #[test]
        fn no_section_is_lost(pieces in prop::collection::vec(prop::sample::select(vec![
            "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----", "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----",
            "-----BEGIN", "BEGIN CERTIFICATE", "-----END", "END", "-----", "-", "—", " ", "\t", "\n", "\r\n", "\r", "\\n", "\"", "MIIBAAEC",
            "Bg==", "=", "\u{feff}", "\0", "é", "Proc-Type: 4,ENCRYPTED", ":", "CERTIFICATE", "-----BEGIN TRUSTED CERTIFICATE-----", "B", "front-",
        ]), 0..24)) {
            fuzz_pem(pieces.concat().as_bytes());
        }
    }
}
