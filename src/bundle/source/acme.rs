//! Parses `[acme]`.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::parsed::{Acme, Lined, NamedFile};
use super::typed::{Reader, Value};
use super::values::{Bad, parse_host};
use crate::bundle::acme::{self, Binding, Ca, Challenge, Dns, KeyChoice, Provider};
use crate::bundle::keys::{ACME, ACME_CERTIFICATE, ACME_DNS, ACME_EAB, ACME_FALLBACK, Table};
use crate::excerpt::{Excerpt, may_hold_key, path_may_hold_key};
use crate::names::{Host, SanName};

/// The port of name servers.
const DNS_PORT: u16 = 53;
/// Longest name of a profile.
const PROFILE_BYTES_MAX: usize = 64;
/// Longest name of a key for external account binding.
const KID_BYTES_MAX: usize = 256;
/// Shortest key for HS256, of 256 bits (RFC 7518 §3.2), in base64url without padding is 43 characters.
const MAC_CHARS_MIN: usize = 40;
/// Longest mail address (RFC 5321 §4.5.3.1.3, less the brackets).
const CONTACT_BYTES_MAX: usize = 254;

impl Reader<'_> {
    pub(super) fn acme(&mut self, root: &DeTable<'_>) -> Option<Acme> {
        let value = root.get("acme")?;
        let line = self.line_of(value);
        let table = self.table(value, &ACME)?;
        self.unknown_keys(table, &ACME);
        if !table.contains_key("terms") {
            self.missing(
                line,
                "terms",
                &ACME,
                "terms = \"agreed\", once you have read the CA's terms of service",
            );
        }
        self.one(table, "terms", "\"agreed\"", |text| match text {
            "agreed" => Ok(()),
            _ => {
                Err(Bad::new("\"agreed\"", "Read the CA's terms of service, then write terms = \"agreed\"."))
            }
        });
        let key = self
            .one(table, "key", "\"p256\"", |text| named(&KeyChoice::ALL, text, "Remove it for its default."));
        let has_dns = table.contains_key("dns");
        let by_site = self.one(table, "group", "\"host\"", |text| {
            named(&[("host", false), ("site", true)], text, "Remove it for its default.")
        });
        let challenge = self.one(table, "challenge", "\"auto\"", |text| parse_challenge(text, has_dns));
        let (mut ca, trust) = self.ca(table, line, &ACME);
        ca.contact =
            self.one(table, "contact", "\"you@example.org\"", parse_contact).map(|lined| lined.value);
        ca.key = key.map_or(KeyChoice::P256, |lined| lined.value);
        let fallback = self.tables(table, &ACME_FALLBACK, "fallback", |reader, table, line| {
            reader.unknown_keys(table, &ACME_FALLBACK);
            if !table.contains_key("directory") {
                reader.missing(line, "directory", &ACME_FALLBACK, "directory = \"zerossl\"");
            }
            let (other, _) = reader.ca(table, line, &ACME_FALLBACK);
            Some(Ca { contact: ca.contact.clone(), key: ca.key, ..other })
        });
        let folder = |reader: &mut Self, key: &'static str, default: &'static str| {
            let written = table.get(key).and_then(|value| reader.public_path(value, key, default));
            written.unwrap_or_else(|| default.into())
        };
        let dns = table.get("dns").and_then(|value| self.acme_dns(value));
        Some(Acme {
            line,
            ca,
            fallback,
            trust,
            by_site: by_site.is_some_and(|lined| lined.value),
            challenge: challenge.map_or(Challenge::Auto, |lined| lined.value),
            state: folder(self, "state", acme::STATE),
            challenges: folder(self, "challenges", acme::CHALLENGES),
            certificates: self.tables(table, &ACME_CERTIFICATE, "certificate", |reader, table, line| {
                reader.acme_certificate(table, line, has_dns)
            }),
            dns,
        })
    }

    /// The keys of a CA in `[acme]` and in `[[acme.fallback]]`.
    fn ca(&mut self, table: &DeTable<'_>, line: u32, section: &Table) -> (Ca, Option<Lined<NamedFile>>) {
        let directory = self.one(table, "directory", "\"letsencrypt\"", parse_directory);
        let directory =
            directory.map_or_else(|| acme::directory("letsencrypt").unwrap_or_default(), |lined| lined.value);
        let eab = table.get("eab").and_then(|value| self.binding(value));
        if acme::wants_binding(&directory) && !table.contains_key("eab") {
            let example = "eab = { kid = \"…\", key_file = \"/etc/sanedge/eab.key\" }, with the values that the CA's web site shows";
            self.missing(line, "eab", section, example);
        }
        let profile = self.one(table, "profile", "\"auto\"", parse_profile);
        let value = table.get("trust");
        let trust = value.and_then(|file| self.file(file, "trust", "\"ca.pem\""));
        // The file of a fallback is not read here, but x.acme names it.
        let of_fallback = value.zip(trust.as_ref()).filter(|_| section.title == ACME_FALLBACK.title);
        if let Some((value, file)) = of_fallback {
            self.refuse_key(value, "trust", &file.value.path);
        }
        let ca = Ca {
            directory,
            trust: trust.as_ref().map(|file| file.value.path.clone()),
            contact: None,
            profile: profile.map_or_else(|| "auto".to_owned(), |lined| lined.value),
            key: KeyChoice::P256,
            eab,
        };
        (ca, trust)
    }

    fn binding(&mut self, value: &Value<'_>) -> Option<Binding> {
        let line = self.line_of(value);
        let table = self.table(value, &ACME_EAB)?;
        self.unknown_keys(table, &ACME_EAB);
        let kid = self.one(table, "kid", "\"…\"", parse_kid);
        let file = table.get("key_file");
        let file = file.and_then(|file| self.public_path(file, "key_file", "\"eab.key\""));
        for (key, example) in
            [("kid", "kid = \"…\", as the CA's web site shows it"), ("key_file", "key_file = \"eab.key\"")]
        {
            if !table.contains_key(key) {
                self.missing(line, key, &ACME_EAB, example);
            }
        }
        Some(Binding { kid: kid?.value, key_file: std::path::absolute(file?).ok()? })
    }

    /// A path in x.acme, which every user can read.
    fn public_path(&mut self, value: &Value<'_>, key: &'static str, example: &str) -> Option<PathBuf> {
        let path = self.file(value, key, example)?.value.path;
        self.refuse_key(value, key, &path);
        Some(path)
    }

    /// A key in place of the name of its file.
    fn refuse_key(&mut self, value: &Value<'_>, key: &'static str, path: &Path) {
        if path_may_hold_key(path) {
            let expected = "an existing path, or a name that cannot be a key";
            let remedy = "If this is a key, write it to a file and name that; otherwise create the path first, or write another name.";
            self.bad(value, key, Bad::new(expected, remedy));
        }
    }

    fn acme_dns(&mut self, value: &Value<'_>) -> Option<Dns> {
        let line = self.line_of(value);
        let table = self.table(value, &ACME_DNS)?;
        self.unknown_keys(table, &ACME_DNS);
        for (key, example) in [
            ("provider", "provider = \"rfc2136\""),
            ("credentials", "credentials = \"/etc/sanedge/dns.toml\""),
        ] {
            if !table.contains_key(key) {
                self.missing(line, key, &ACME_DNS, example);
            }
        }
        let provider = self.one(table, "provider", "\"rfc2136\"", parse_provider);
        let file = table.get("credentials");
        let file = file.and_then(|file| self.public_path(file, "credentials", "\"/etc/sanedge/dns.toml\""));
        let resolvers = self.several(table, "resolvers", "[\"9.9.9.9\"]", parse_resolver);
        Some(Dns {
            provider: provider?.value,
            credentials: std::path::absolute(file?).ok()?,
            resolvers: resolvers.unwrap_or_default().into_iter().map(|lined| lined.value).collect(),
        })
    }

    fn acme_certificate(
        &mut self,
        table: &DeTable<'_>,
        line: u32,
        has_dns: bool,
    ) -> Option<Lined<Vec<SanName>>> {
        self.unknown_keys(table, &ACME_CERTIFICATE);
        let names = self.several(table, "names", "[\"recre.store\"]", |text| parse_name(text, has_dns));
        if !table.get("names").is_some_and(has_items) {
            self.missing(line, "names", &ACME_CERTIFICATE, "names = [\"recre.store\", \"www.recre.store\"]");
        }
        let names: Vec<SanName> = names?.into_iter().map(|lined| lined.value).collect();
        (!names.is_empty()).then_some(Lined { value: names, line })
    }
}

fn has_items(value: &Value<'_>) -> bool {
    value.get_ref().as_array().is_none_or(|items| !items.is_empty())
}

fn parse_name(text: &str, has_dns: bool) -> Result<SanName, Bad> {
    if !text.starts_with("*.") {
        return parse_host(text).map(|host| match host {
            Host::Dns(name) => SanName::Exact(name),
            Host::Ip(address) => SanName::Ip(address),
        });
    }
    if !has_dns {
        let remedy = "Add [acme.dns] with `provider` and `credentials` (docs/dns-01.md), or list the hosts.";
        return Err(Bad::new("a host: a wildcard needs dns-01, and so [acme.dns]", remedy));
    }
    SanName::parse_dns(text).map_err(|error| {
        let remedy = "Write a wildcard such as \"*.recre.store\", in ASCII.";
        Bad::new("a host, or `*.` and a name of at least two labels", remedy).because(error)
    })
}

/// The value with this name.
fn named<T: Copy>(all: &[(&str, T)], text: &str, remedy: &str) -> Result<T, Bad> {
    let known = all.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
    known.ok_or_else(|| {
        let names: Vec<String> = all.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        Bad::new(format!("one of {}", names.join(", ")), remedy)
    })
}

fn parse_provider(text: &str) -> Result<Provider, Bad> {
    let remedy = "For another provider write \"exec\" and a program such as lego's hook (docs/dns-01.md).";
    named(&Provider::ALL, text, remedy)
}

fn parse_resolver(text: &str) -> Result<SocketAddr, Bad> {
    let bare = || text.parse().ok().map(|address: IpAddr| SocketAddr::new(address, DNS_PORT));
    let bad = || Bad::new("an address of a name server, with or without a port", "Write \"9.9.9.9\".");
    text.parse().ok().or_else(bare).ok_or_else(bad)
}

fn parse_challenge(text: &str, has_dns: bool) -> Result<Challenge, Bad> {
    match named(&Challenge::ALL, text, "Remove it for \"auto\".")? {
        Challenge::Dns01 if !has_dns => {
            let remedy = "Add [acme.dns] with `provider` and `credentials` (docs/dns-01.md).";
            Err(Bad::new("a challenge that can be answered: dns-01 needs [acme.dns]", remedy))
        }
        challenge => Ok(challenge),
    }
}

fn parse_directory(text: &str) -> Result<String, Bad> {
    let names: Vec<String> = acme::directory_names().iter().map(|name| format!("\"{name}\"")).collect();
    let expected = format!("{}, or an https URL", names.join(", "));
    acme::directory(text).filter(|url| !acme::url_may_hold_key(url)).ok_or_else(|| {
        match text.strip_prefix("http://") {
            Some(rest) => Bad::new(expected, format!("Write directory = \"https://{}\".", Excerpt::of(rest))),
            None => Bad::new(expected, "Write directory = \"letsencrypt\", or remove it for that default."),
        }
    })
}

fn parse_kid(text: &str) -> Result<String, Bad> {
    // x.acme contains it, which every user can read. The key itself, written here by mistake, is longer than the identifiers of CAs.
    let may_be_key = text.len() >= MAC_CHARS_MIN && may_hold_key(text);
    let good = (1..=KID_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    let good = good && !may_be_key;
    let expected = format!("1 to {KID_BYTES_MAX} visible ASCII characters that cannot be the key itself");
    good.then(|| text.to_owned()).ok_or_else(|| Bad::new(expected, "Copy it from the CA's web site."))
}

fn parse_profile(text: &str) -> Result<String, Bad> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let good = !text.is_empty()
        && text.len() <= PROFILE_BYTES_MAX
        && text.bytes().all(allowed)
        && !may_hold_key(text);
    let expected = format!("1 to {PROFILE_BYTES_MAX} letters, digits, `-`, `_` and `.`");
    good.then(|| text.to_owned()).ok_or_else(|| Bad::new(expected, "Remove it for the CA's default."))
}

fn parse_contact(text: &str) -> Result<String, Bad> {
    let strange = |byte: u8| !byte.is_ascii_graphic() || matches!(byte, b',' | b'?' | b':' | b'<' | b'>');
    let parts = text.split_once('@').filter(|(local, domain)| !local.is_empty() && domain.contains('.'));
    let good = text.len() <= CONTACT_BYTES_MAX
        && !text.bytes().any(strange)
        && parts.is_some_and(|(_, domain)| !domain.contains('@'))
        && !may_hold_key(text);
    good.then(|| text.to_owned()).ok_or_else(|| {
        Bad::new("one mail address", "Write contact = \"you@example.org\", without `mailto:`, or remove it.")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// x.acme has them, and everybody may read that.
    #[test]
    fn nothing_that_may_be_a_key_gets_into_the_file_for_renew() {
        let key = "MC4CAQAwBQYDK2VwBCIEIOB4yvQh9ZrTkWm3xN8sJ0LpFcUa5dGe7HtXi1RnSbK6";
        assert!(parse_contact("kim.hyeonjun+acme@recre.store").is_ok());
        assert!(parse_contact(&format!("{key}@recre.store")).is_err());
        assert!(parse_profile("tlsserver").is_ok() && parse_profile(&key[..60]).is_err());
        for good in [
            "https://ca.lan:14000/acme/home/directory",
            "https://ca.lan/550e8400-e29b-41d4-a716-446655440000",
        ] {
            assert!(parse_directory(good).is_ok(), "{good}");
        }
        for bad in [
            format!("https://ca.lan/{key}"),
            format!("https://{key}/dir"),
            format!("https://ca.lan/?k={key}"),
        ] {
            assert!(parse_directory(&bad).is_err(), "{bad}");
        }
    }
}
