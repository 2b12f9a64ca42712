//! PEM files to DER: everything that can be wrong with a file before anybody looks at X.509.

use std::path::{Path, PathBuf};

use rustls_pki_types::pem::{PemObject, SectionKind};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use super::desk::Desk;
use crate::bundle::file::{word, word_beside};
use crate::bundle::finding::{Code, Finding, listed};
use crate::bundle::source::{FileTrouble, Lined, NamedFile, read_bounded};
use crate::excerpt::Excerpt;
use crate::names::Host;

/// Largest PEM file in bytes. A chain of ten 4096-bit certificates has under 30 KiB.
pub const PEM_BYTES_MAX: u64 = 1024 * 1024;
/// Most certificates in one chain file, the end-entity included.
pub const CHAIN_CERTIFICATES_MAX: usize = crate::bundle::wire::CHAIN_MAX;
/// Most certificates in a `trust` file: a whole system store (about 150) fits.
pub const TRUST_CERTIFICATES_MAX: usize = 512;

/// What a file is read for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Certificates,
    Key,
}

/// The certificates of a chain file, in the order of the file; `None` after a finding.
pub(super) fn chain(desk: &mut Desk, file: &Lined<NamedFile>) -> Option<Vec<CertificateDer<'static>>> {
    certificates(desk, file, CHAIN_CERTIFICATES_MAX)
}

/// The certificates of a `trust` file.
pub(super) fn trust(desk: &mut Desk, file: &Lined<NamedFile>) -> Option<Vec<CertificateDer<'static>>> {
    certificates(desk, file, TRUST_CERTIFICATES_MAX)
}

fn certificates(
    desk: &mut Desk,
    file: &Lined<NamedFile>,
    count_max: usize,
) -> Option<Vec<CertificateDer<'static>>> {
    let pem = read(desk, file, Wanted::Certificates)?;
    let sections = sections(desk, file, &pem)?;
    let is_key = |kind: &SectionKind| key_kind(*kind);
    let holds_key = sections.iter().any(|(kind, _)| is_key(kind));
    let found: Vec<_> = sections
        .into_iter()
        .filter(|(kind, _)| *kind == SectionKind::Certificate)
        .map(|(_, der)| CertificateDer::from(der))
        .collect();
    if found.is_empty() {
        desk.push(
            file.line,
            if holds_key { key_as_certificate(file, count_max) } else { no_certificate(file, &pem) },
        );
        return None;
    }
    if found.len() > count_max {
        desk.push(file.line, too_many(file, found.len(), count_max));
        return None;
    }
    Some(found)
}

/// The one private key of a key file.
pub(super) fn key(desk: &mut Desk, file: &Lined<NamedFile>) -> Option<PrivateKeyDer<'static>> {
    let pem = read(desk, file, Wanted::Key)?;
    if is_encrypted(&pem) {
        desk.push(file.line, encrypted(file));
        return None;
    }
    let sections = sections(desk, file, &pem)?;
    let holds_certificate = sections.iter().any(|(kind, _)| *kind == SectionKind::Certificate);
    let mut keys: Vec<_> =
        sections.into_iter().filter_map(|(kind, der)| PrivateKeyDer::from_pem(kind, der)).collect();
    if keys.len() > 1 {
        desk.push(file.line, several_keys(file, keys.len()));
        return None;
    }
    if keys.is_empty() {
        desk.push(file.line, if holds_certificate { certificate_as_key(file) } else { no_key(file, &pem) });
    }
    keys.pop()
}

fn read(desk: &mut Desk, file: &Lined<NamedFile>, wanted: Wanted) -> Option<Zeroizing<Vec<u8>>> {
    let bytes = match read_bounded(&file.value.path, PEM_BYTES_MAX) {
        Ok(bytes) => Zeroizing::new(bytes),
        Err(trouble) => {
            let finding = unusable_file(&file.value, &trouble, wanted, &desk.hosts);
            desk.push(file.line, finding);
            return None;
        }
    };
    if bytes.first() == Some(&0x30) {
        desk.push(file.line, binary(&file.value, &bytes, wanted));
        return None;
    }
    // A byte order mark would hide the first BEGIN line.
    Some(match bytes.strip_prefix(b"\xef\xbb\xbf") {
        Some(rest) => Zeroizing::new(rest.to_vec()),
        None => bytes,
    })
}

type Section = (SectionKind, Vec<u8>);

fn sections(desk: &mut Desk, file: &Lined<NamedFile>, pem: &[u8]) -> Option<Vec<Section>> {
    let found: Result<Vec<Section>, _> = Section::pem_slice_iter(pem).collect();
    let error = match found {
        Ok(sections) => return Some(sections),
        Err(error) => error,
    };
    let finding = Finding::new(Code::PemMalformed, format!("`{}` is broken PEM", file.value.label))
        .expected("-----BEGIN …-----, lines of base64, -----END …-----")
        .found(broken(&error))
        .remedy("Copy the file again, as a file: a paste through a terminal or an editor may have cut it.");
    desk.push(file.line, finding);
    None
}

fn broken(error: &rustls_pki_types::pem::Error) -> String {
    use rustls_pki_types::pem::Error;
    match error {
        Error::MissingSectionEnd { end_marker } => {
            format!("a {} section without its END line", String::from_utf8_lossy(end_marker))
        }
        Error::IllegalSectionStart { line } => format!("the line `{}`", String::from_utf8_lossy(line)),
        // The decoder's words may quote key material: say no more than what kind of trouble it is.
        Error::Base64Decode(_) => "a section that is not base64".to_owned(),
        _ => "a section that cannot be read".to_owned(),
    }
}

fn key_kind(kind: SectionKind) -> bool {
    matches!(kind, SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey)
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

fn is_encrypted(pem: &[u8]) -> bool {
    contains(pem, b"-----BEGIN ENCRYPTED PRIVATE KEY-----") || contains(pem, b"Proc-Type: 4,ENCRYPTED")
}

/// What the BEGIN lines announce, whatever it is.
fn labels(pem: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(pem);
    let label =
        |line: &str| line.trim().strip_prefix("-----BEGIN ")?.strip_suffix("-----").map(str::to_owned);
    let mut found: Vec<String> = text.split(['\n', '\r']).filter_map(label).collect();
    found.dedup();
    found.truncate(4);
    found
}

fn announced(pem: &[u8]) -> String {
    if pem.starts_with(b"\xff\xfe") || pem.starts_with(b"\xfe\xff") {
        return "UTF-16 text: save it as plain ASCII".to_owned();
    }
    match labels(pem).as_slice() {
        [] => "no BEGIN line at all".to_owned(),
        some => listed(some),
    }
}

/// Where to convert a file to; never itself.
fn converted(path: &Path) -> PathBuf {
    fresh(path, &["pem", "converted.pem"])
}

/// `path` with the first of these extensions, or a numbered one, under which nothing lies yet: a command that is
/// copied must not cost a file.
pub(super) fn fresh(path: &Path, extensions: &[&str]) -> PathBuf {
    let free = |path: &PathBuf| std::fs::symlink_metadata(path).is_err();
    let last = extensions.last().copied().unwrap_or("pem");
    let plain = extensions.iter().map(|extension| path.with_extension(extension));
    let numbered = (2..100).map(|n| path.with_extension(format!("{n}.{last}")));
    plain.chain(numbered).find(free).unwrap_or_else(|| path.with_extension(last))
}

// --- findings ---------------------------------------------------------------------------------------------

fn unusable_file(file: &NamedFile, trouble: &FileTrouble, wanted: Wanted, hosts: &[Host]) -> Finding {
    let (code, message, remedy) = match trouble {
        FileTrouble::Missing => (Code::FileMissing, "is not there", missing_advice(file, wanted, hosts)),
        FileTrouble::NotRegular(_) => {
            (Code::FileNotRegular, "is not a file", "Name the PEM file itself.".to_owned())
        }
        FileTrouble::Unreadable(_) => (
            Code::FileUnreadable,
            "cannot be read",
            format!(
                "Run as a user who may read it, or look at its owner and mode: ls -l {}",
                word(&file.path)
            ),
        ),
        FileTrouble::Empty => {
            (Code::FileEmpty, "is empty", "Copy it again; a full disk leaves empty files.".to_owned())
        }
        FileTrouble::TooLarge(_) => (
            Code::FileTooLarge,
            "is too large for what it should hold",
            "Name the PEM file of this one certificate or key.".to_owned(),
        ),
    };
    let what = if wanted == Wanted::Key { "a private key" } else { "certificates" };
    Finding::new(code, format!("`{}` {message}", file.label))
        .expected(format!("a PEM file with {what}, at most {} KiB", PEM_BYTES_MAX / 1024))
        .found(format!("{}: {trouble}", Excerpt::of_path(&file.path)))
        .remedy(remedy)
}

fn missing_advice(file: &NamedFile, wanted: Wanted, hosts: &[Host]) -> String {
    if file.label.starts_with('~') {
        return "`~` means your home folder to a shell only: write the path in full, as `echo ~` prints it."
            .to_owned();
    }
    let folder = file.path.parent().unwrap_or(Path::new("/"));
    let is_there = folder.is_dir();
    let certbot = file.path.strip_prefix("/etc/letsencrypt/live").ok().filter(|_| !is_there);
    if let Some(name) = certbot.and_then(|rest| rest.iter().next()) {
        return match wanted {
            Wanted::Certificates => first_certificate(&name.to_string_lossy(), hosts),
            Wanted::Key => "certbot makes it together with the certificate, see there.".to_owned(),
        };
    }
    let begin = if Path::new(&*file.label).is_absolute() {
        ""
    } else {
        "Relative paths begin at the folder of sanedge.toml. "
    };
    if is_there {
        format!("{begin}Look what is there: ls {}", word(folder))
    } else {
        format!("{begin}There is no folder {}.", word(folder))
    }
}

/// What makes the folder that certbot calls `name`.
fn first_certificate(name: &str, hosts: &[Host]) -> String {
    let names: String = hosts
        .iter()
        .filter(|host| matches!(host, Host::Dns(_)))
        .map(|host| format!(" -d {}", crate::bundle::shell::shell_word(&host.to_string())))
        .collect();
    let shown = Host::parse(name).map_or_else(|_| Excerpt::of(name).into(), |host| host.to_string());
    let name = crate::bundle::shell::shell_word(&shown);
    format!(
        "certbot makes this folder with the first certificate (another client: name its files here). While nothing listens \
         on port 80:\n  sudo certbot certonly --standalone --cert-name {name}{names}\n\
         While an edge or another server has port 80, by a folder that it serves (`acme_dir` here):\n  \
         sudo certbot certonly --webroot -w /var/lib/sanedge/acme --cert-name {name}{names}"
    )
}

/// DER begins with a SEQUENCE; what its first item is tells certificates, keys, PKCS #7 and PKCS #12 apart.
fn binary(file: &NamedFile, der: &[u8], wanted: Wanted) -> Finding {
    let content = match der.get(1) {
        Some(short) if *short < 0x80 => der.get(2..),
        Some(long) => der.get(2 + usize::from(long & 0x7f)..),
        None => None,
    };
    let content = content.unwrap_or_default();
    let path = word(&file.path);
    let out = word_beside(&converted(&file.path), &file.path);
    let (code, found, command) = if content.starts_with(&[0x02, 0x01, 0x03]) {
        let option = if wanted == Wanted::Key { "-nocerts -noenc" } else { "-nokeys" };
        let command = format!("openssl pkcs12 -in {path} {option} -out {out}");
        (Code::PemIsPkcs12, "PKCS #12 (.p12, .pfx)", format!("(umask 077; {command})"))
    } else if content.starts_with(&[0x06, 0x09]) {
        (
            Code::PemIsDer,
            "PKCS #7 in DER (.p7b)",
            format!("openssl pkcs7 -inform DER -in {path} -print_certs -out {out}"),
        )
    } else if content.starts_with(&[0x02]) {
        (
            Code::PemIsDer,
            "a private key in DER",
            format!("(umask 077; openssl pkey -inform DER -in {path} -out {out})"),
        )
    } else {
        (Code::PemIsDer, "a certificate in DER", format!("openssl x509 -inform DER -in {path} -out {out}"))
    };
    Finding::new(code, format!("`{}` is binary, not PEM", file.label))
        .expected("PEM: text that begins with -----BEGIN")
        .found(found)
        .remedy(format!("Convert it, and name the new file here:\n  {command}"))
}

fn too_many(file: &Lined<NamedFile>, found: usize, max: usize) -> Finding {
    Finding::new(Code::ChainTooLong, format!("`{}` holds too many certificates", file.value.label))
        .expected(format!("at most {max} certificates"))
        .found(format!("{found} certificates"))
        .remedy(if max == CHAIN_CERTIFICATES_MAX {
            "Name a file with one chain: the host's own certificate and its intermediates, without any roots."
        } else {
            "Name a file with the roots of your own CA only; those that browsers know are known here as well."
        })
}

fn key_as_certificate(file: &Lined<NamedFile>, count_max: usize) -> Finding {
    let remedy = if count_max == TRUST_CERTIFICATES_MAX {
        "`trust` wants the certificate of your CA, never its key, which belongs on no edge; mkcert calls it rootCA.pem."
    } else {
        "Are `chain` and `key` swapped? With certbot, chain is fullchain.pem and key is privkey.pem."
    };
    Finding::new(
        Code::KeyAsCertificate,
        format!("`{}` is a private key, not a certificate", file.value.label),
    )
    .expected("certificates (-----BEGIN CERTIFICATE-----)")
    .found("a private key")
    .remedy(remedy)
}

fn certificate_as_key(file: &Lined<NamedFile>) -> Finding {
    Finding::new(
        Code::CertificateAsKey,
        format!("`{}` is a certificate, not a private key", file.value.label),
    )
    .expected("a private key (-----BEGIN PRIVATE KEY-----)")
    .found("a certificate")
    .remedy("Are `chain` and `key` swapped? With certbot, chain is fullchain.pem and key is privkey.pem.")
}

fn no_certificate(file: &Lined<NamedFile>, pem: &[u8]) -> Finding {
    let found = announced(pem);
    let path = word(&file.value.path);
    let out = word_beside(&converted(&file.value.path), &file.value.path);
    let remedy = if found.contains("REQUEST") {
        "This is the request for a certificate. Name the certificate that the CA made of it.".to_owned()
    } else if found.contains("PKCS7") {
        format!("Convert it, and name the new file here:\n  openssl pkcs7 -in {path} -print_certs -out {out}")
    } else if found.contains("TRUSTED") || found.contains("X509 CERT") {
        format!("Convert it, and name the new file here:\n  openssl x509 -in {path} -out {out}")
    } else {
        "Name the file with the certificate and its intermediates; certbot calls it fullchain.pem.".to_owned()
    };
    Finding::new(Code::NoCertificateInFile, format!("`{}` holds no certificate", file.value.label))
        .expected("at least one -----BEGIN CERTIFICATE-----")
        .found(found)
        .remedy(remedy)
}

fn no_key(file: &Lined<NamedFile>, pem: &[u8]) -> Finding {
    let found = announced(pem);
    let remedy = if found.contains("OPENSSH") {
        "This is a key for SSH. Name the private key that the certificate was issued for."
    } else if found.contains("PUBLIC") {
        "This is a public key. Name the private key that the certificate was issued for."
    } else {
        "Name the private key that the certificate was issued for; certbot calls it privkey.pem."
    };
    Finding::new(Code::NoKeyInFile, format!("`{}` holds no private key", file.value.label))
        .expected("one -----BEGIN PRIVATE KEY----- (or EC, or RSA)")
        .found(found)
        .remedy(remedy)
}

fn several_keys(file: &Lined<NamedFile>, count: usize) -> Finding {
    Finding::new(Code::SeveralKeys, format!("`{}` holds {count} private keys", file.value.label))
        .expected("one private key")
        .found(format!("{count} private keys"))
        .remedy("Put each key in a file of its own and name the one of this certificate.")
}

fn encrypted(file: &Lined<NamedFile>) -> Finding {
    let plain = word_beside(&fresh(&file.value.path, &["plain.pem"]), &file.value.path);
    let remedy = format!(
        "Take the passphrase off, keep the new file private, and name it here:\n  (umask 077; openssl pkey -in {} -out {plain})",
        word(&file.value.path)
    );
    Finding::new(Code::EncryptedKey, format!("the key in `{}` has a passphrase", file.value.label))
        .expected("a key without a passphrase: nobody is there to type it when the board starts")
        .found("an encrypted private key")
        .remedy(remedy)
}
