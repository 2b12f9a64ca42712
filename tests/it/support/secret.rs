//! A private key in every shape in which people paste one, and whether a text shows any of it.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// Longest part that no output may show, in characters of an encoding.
const WINDOW: usize = 16;

pub struct Secret {
    der: Vec<u8>,
    base64: String,
}

impl Secret {
    /// Of the key that a PEM file holds.
    pub fn of_pem(pem: &str) -> Self {
        let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        Self { der: STANDARD.decode(&base64).unwrap(), base64 }
    }

    /// The same of a file that is one, and of no other.
    pub fn of_whole_pem(pem: &str) -> Option<Self> {
        let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let der =
            STANDARD.decode(&base64).ok().filter(|_| pem.starts_with("-----BEGIN PRIVATE KEY-----\nM"))?;
        Some(Self { der, base64 })
    }

    pub fn new() -> Self {
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

    /// Says which part of the key a text shows, if it shows any: in base64, hexadecimal, as a list of numbers or raw; counted
    /// without separators.
    pub fn shown_in(&self, output: &[u8]) -> Option<String> {
        let text = String::from_utf8_lossy(output);
        let plain = text.replace("\\n", "").replace("\\r", "").replace("\\x", "");
        let bare: Vec<u8> =
            plain.bytes().filter(|b| b.is_ascii_alphanumeric() || b"+/-_=".contains(b)).collect();
        // Where characters of the alphabet itself stand between the parts.
        let letters =
            |text: &[u8]| text.iter().copied().filter(u8::is_ascii_alphanumeric).collect::<Vec<u8>>();
        let numbers: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
        let lists = numbers.split(|b| !b.is_ascii_digit() && *b != b',').filter(|list| list.len() > 10);
        let listed: Vec<Vec<u8>> = lists
            .map(|list| {
                list.split(|b| *b == b',').filter_map(|n| std::str::from_utf8(n).ok()?.parse().ok()).collect()
            })
            .collect();
        let (base64, url_safe, hex) = (self.base64.as_bytes(), self.url_safe(), self.hex());
        let found = common(&bare, base64, WINDOW)
            .or_else(|| common(&bare, url_safe.as_bytes(), WINDOW))
            .or_else(|| common(&bare.to_ascii_lowercase(), hex.as_bytes(), WINDOW))
            .or_else(|| common(&letters(&bare), &letters(base64), WINDOW))
            .or_else(|| listed.iter().find_map(|list| common(list, &self.der, 6)))
            .or_else(|| common(output, &self.der, 8));
        found.map(|part| String::from_utf8_lossy(&part).into_owned())
    }
}

/// A part of this length that stands in both. Half of one begins at a multiple of its own length in the text: only those are looked up.
fn common(text: &[u8], secret: &[u8], length: usize) -> Option<Vec<u8>> {
    let half = length / 2;
    let mut parts: HashMap<&[u8], Vec<usize>> = HashMap::new();
    secret.windows(half).enumerate().for_each(|(at, part)| parts.entry(part).or_default().push(at));
    text.chunks_exact(half).enumerate().find_map(|(number, part)| {
        let at = number * half;
        parts.get(part)?.iter().find_map(|there| {
            let same = |one: Option<&u8>, other: Option<&u8>| one.is_some() && one == other;
            let before =
                (1..=at.min(*there)).take_while(|back| text[at - back] == secret[there - back]).count();
            let behind = (0..).take_while(|on| same(text.get(at + on), secret.get(there + on))).count();
            (before + behind >= length).then(|| text[at - before..at + behind].to_vec())
        })
    })
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
