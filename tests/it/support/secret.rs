//! A private key in every shape in which people paste one, and whether a text shows any of it.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// Longest part that no output may show, in characters of an encoding.
const WINDOW: usize = 16;

/// PKCS #8 of a P-256 key that is used nowhere else: the same one each time, so that a test fails each time or never.
const KEY: &str = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgQ6MELNbXyr9uA7af77gKbcdmqxuMq/X2J/aGpZFA/guhRANCAATnLV/lUpOIl4y5DW6OumNIwsndd2KftbTTelehpHUKek0Ua2DrzefCmWjhzq2Bs7cwml8285dYoXp2UVlhoqhi";

pub struct Secret {
    der: Vec<u8>,
    base64: String,
    /// In base64 of both alphabets, hexadecimal, letters and digits alone, and raw.
    forms: [Windows; 5],
}

impl Secret {
    /// Of the key that a PEM file holds.
    pub fn of_pem(pem: &str) -> Self {
        Self::of_base64(&pem.lines().filter(|line| !line.starts_with('-')).collect::<String>())
    }

    fn of_base64(base64: &str) -> Self {
        let der = STANDARD.decode(base64).unwrap();
        let hex: String = der.iter().map(|byte| format!("{byte:02x}")).collect();
        let forms = [
            Windows::of(base64.as_bytes(), WINDOW),
            Windows::of(URL_SAFE_NO_PAD.encode(&der).as_bytes(), WINDOW),
            Windows::of(hex.as_bytes(), WINDOW),
            Windows::of(&letters(base64.as_bytes()), WINDOW),
            Windows::of(&der, 8),
        ];
        Self { der, base64: base64.to_owned(), forms }
    }

    /// The same of a file that is one, and of no other.
    pub fn of_whole_pem(pem: &str) -> Option<Self> {
        let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let is_one = pem.starts_with("-----BEGIN PRIVATE KEY-----\nM") && STANDARD.decode(&base64).is_ok();
        is_one.then(|| Self::of_base64(&base64))
    }

    /// The same key each time.
    pub fn new() -> Self {
        Self::of_base64(KEY)
    }

    /// Another key each time.
    pub fn fresh() -> Self {
        Self::of_pem(&rcgen::KeyPair::generate().unwrap().serialize_pem())
    }

    pub fn der(&self) -> &[u8] {
        &self.der
    }

    pub fn hex(&self) -> String {
        self.der.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub fn base64(&self) -> &str {
        &self.base64
    }

    pub fn url_safe(&self) -> String {
        URL_SAFE_NO_PAD.encode(&self.der)
    }

    fn wrapped(&self, width: usize) -> Vec<&str> {
        self.base64.as_bytes().chunks(width).map(|line| std::str::from_utf8(line).unwrap()).collect()
    }

    /// Its PEM with `label`, lines of `width` and `end` between them.
    pub fn pem(&self, label: &str, width: usize, end: &str) -> String {
        let (begin, last) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
        let mut lines = vec![begin.as_str()];
        lines.extend(self.wrapped(width));
        lines.push(&last);
        lines.join(end)
    }

    /// Name and text of each shape.
    pub fn shapes(&self) -> Vec<(&'static str, String)> {
        let pairs: Vec<String> = self.der.iter().map(|byte| format!("{byte:02x}")).collect();
        let escaped: String = self.der.iter().map(|byte| format!("\\x{byte:02x}")).collect();
        vec![
            ("PEM", self.pem("PRIVATE KEY", 64, "\n") + "\n"),
            ("PEM with CRLF", self.pem("PRIVATE KEY", 64, "\r\n")),
            ("PEM with \\n", self.pem("PRIVATE KEY", 64, "\\n")),
            ("PEM with blanks", self.pem("PRIVATE KEY", 64, " ")),
            ("PEM in one line", self.pem("PRIVATE KEY", 64, "")),
            ("PEM in short lines", self.pem("EC PRIVATE KEY", 11, "\n")),
            ("an OpenSSH key", self.pem("OPENSSH PRIVATE KEY", 70, "\n")),
            ("an encrypted key", self.pem("ENCRYPTED PRIVATE KEY", 64, "\n")),
            (
                "PEM without BEGIN",
                self.pem("PRIVATE KEY", 64, "\n").replace("-----BEGIN PRIVATE KEY-----\n", ""),
            ),
            ("base64", self.base64.clone()),
            ("base64 with newlines", self.wrapped(64).join("\n")),
            ("base64 with \\n", self.wrapped(20).join("\\n")),
            ("base64 with blanks", self.wrapped(8).join(" ")),
            ("URL-safe base64", self.url_safe()),
            ("hex", self.hex()),
            ("hex with colons", pairs.join(":")),
            ("hex with blanks", pairs.join(" ").to_uppercase()),
            ("hex escapes", escaped),
            ("hex as in C", format!("0x{}", pairs.join(", 0x"))),
            ("numbers", self.der.iter().map(u8::to_string).collect::<Vec<_>>().join(", ")),
            ("base64 with \\\\n", self.wrapped(64).join("\\\\n")),
            ("base64 in a mail", format!("> {}", self.wrapped(64).join("\n> "))),
            ("base64 in pieces", format!("'{}'", self.wrapped(32).join("' + '"))),
            ("base64 in a URL", self.base64.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D")),
            ("a path", format!("/etc/letsencrypt/live/{}/privkey.pem", self.base64)),
            ("a file", format!("{}.pem", self.base64)),
            ("a URL", format!("https://{}/", self.base64)),
            ("a host with port", format!("{}:3000", self.url_safe())),
            ("a Unix socket", format!("unix:/run/{}", &self.base64[..90])),
            ("a route", format!("/api/{}", self.url_safe())),
            ("an origin", format!("app://{}", self.base64)),
            ("a duration", format!("30s {}", self.base64)),
            ("groups with dots", self.wrapped(12).join(".")),
            ("groups with stars", self.wrapped(9).join("*")),
            ("groups with tildes", self.wrapped(15).join("~")),
            ("groups with @", self.wrapped(5).join("@")),
            ("groups with dashes", self.wrapped(7).join("-")),
            ("groups with slashes", self.wrapped(4).join("/")),
            ("groups with words of another script", self.wrapped(14).join("한")),
            (
                "hex groups with dots",
                self.hex().as_bytes().chunks(8).map(String::from_utf8_lossy).collect::<Vec<_>>().join("."),
            ),
        ]
    }

    /// Name and content of each file that may hold a key: every shape, and what is no text.
    pub fn contents(&self) -> Vec<(&'static str, Vec<u8>)> {
        let wide = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
        let pem = self.pem("PRIVATE KEY", 64, "\n");
        let mut contents: Vec<(&str, Vec<u8>)> =
            self.shapes().into_iter().map(|(shape, text)| (shape, text.into_bytes())).collect();
        contents.extend([
            ("DER", self.der.clone()),
            ("DER behind a mark", [b"\xef\xbb\xbf", self.der()].concat()),
            ("PKCS #12", [&[0x30, 0x82, 4, 0, 2, 1, 3], self.der()].concat()),
            ("PKCS #7", [&[0x30, 0x82, 4, 0, 6, 9], self.der()].concat()),
            ("UTF-16", wide(&format!("\u{feff}{pem}"))),
            ("UTF-16 without a mark", wide(&pem)),
            ("a key as label", self.pem(&self.base64, 64, "\n").into_bytes()),
            ("a key as certificate", self.pem("CERTIFICATE", 64, "\n").into_bytes()),
            ("a key as trusted certificate", self.pem("TRUSTED CERTIFICATE", 64, "\n").into_bytes()),
            ("a field", format!("-----BEGIN PRIVATE KEY-----\nX: {}\n\n!\n", self.base64).into_bytes()),
            ("without its end", pem.replace("-----END PRIVATE KEY-----", "").into_bytes()),
            ("with another end", pem.replace("END PRIVATE KEY", "END CERTIFICATE").into_bytes()),
            ("a zero byte", pem.replace("\nM", "\n\0M").into_bytes()),
            ("damaged", pem.replace("\nM", "\n!M").into_bytes()),
            ("base64 with a mark", format!("\u{feff}{}", self.base64).into_bytes()),
        ]);
        contents
    }

    /// Says which part of the key a text shows, if it shows any: in base64, hexadecimal, as a list of numbers or raw; counted
    /// without separators.
    pub fn shown_in(&self, output: &[u8]) -> Option<String> {
        let text = String::from_utf8_lossy(output);
        let plain = text.replace("\\n", "").replace("\\r", "").replace("\\x", "");
        // What an excerpt writes for one that cannot be seen.
        let plain: String = plain
            .split("\\u{")
            .enumerate()
            .map(|(nth, part)| part.split_once('}').filter(|_| nth > 0).map_or(part, |(_, rest)| rest))
            .collect();
        let bare: Vec<u8> =
            plain.bytes().filter(|b| b.is_ascii_alphanumeric() || b"+/-_=".contains(b)).collect();
        let [base64, url_safe, hex, bare_letters, raw] = &self.forms;
        let listed = || {
            let numbers: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
            let lists = numbers.split(|b| !b.is_ascii_digit() && *b != b',').filter(|list| list.len() > 10);
            let read = |list: &[u8]| -> Vec<u8> {
                list.split(|b| *b == b',').filter_map(|n| std::str::from_utf8(n).ok()?.parse().ok()).collect()
            };
            lists
                .map(read)
                .find(|list| list.windows(6).any(|six| self.der.windows(6).any(|part| part == six)))
        };
        let found = base64
            .common(&bare)
            .or_else(|| url_safe.common(&bare))
            .or_else(|| hex.common(&bare.to_ascii_lowercase()))
            // Where characters of the alphabet itself stand between the parts.
            .or_else(|| bare_letters.common(&letters(&bare)))
            .or_else(listed)
            .or_else(|| raw.common(output));
        found.map(|part| String::from_utf8_lossy(&part).into_owned())
    }
}

fn letters(text: &[u8]) -> Vec<u8> {
    text.iter().copied().filter(u8::is_ascii_alphanumeric).collect()
}

/// The parts of a secret of one length, to look for in many texts.
struct Windows {
    secret: Vec<u8>,
    length: usize,
    /// Where each part of half that length begins.
    halves: HashMap<Vec<u8>, Vec<usize>>,
    /// Whether one begins with these two bytes.
    begins: Vec<bool>,
}

impl Windows {
    fn of(secret: &[u8], length: usize) -> Self {
        let mut halves: HashMap<Vec<u8>, Vec<usize>> = HashMap::new();
        let mut begins = vec![false; 1 << 16];
        for (at, part) in secret.windows(length / 2).enumerate() {
            halves.entry(part.to_vec()).or_default().push(at);
            begins[usize::from(u16::from_be_bytes([part[0], part[1]]))] = true;
        }
        Self { secret: secret.to_vec(), length, halves, begins }
    }

    /// A part of this length that stands in both. Half of one begins at a multiple of its own length in the text: only those are
    /// looked up.
    fn common(&self, text: &[u8]) -> Option<Vec<u8>> {
        let half = self.length / 2;
        let mut at = 0;
        while at + half <= text.len() {
            if self.begins[usize::from(u16::from_be_bytes([text[at], text[at + 1]]))]
                && let Some(found) = self.around(text, at)
            {
                return Some(found);
            }
            at += half;
        }
        None
    }

    fn around(&self, text: &[u8], at: usize) -> Option<Vec<u8>> {
        let secret = &self.secret;
        self.halves.get(&text[at..at + self.length / 2])?.iter().find_map(|there| {
            let same = |one: Option<&u8>, other: Option<&u8>| one.is_some() && one == other;
            let before =
                (1..=at.min(*there)).take_while(|back| text[at - back] == secret[there - back]).count();
            let behind = (0..).take_while(|on| same(text.get(at + on), secret.get(there + on))).count();
            (before + behind >= self.length).then(|| text[at - before..at + behind].to_vec())
        })
    }
}

/// As a basic string of TOML.
pub fn toml(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}
