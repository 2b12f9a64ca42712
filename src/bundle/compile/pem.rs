//! PEM files to DER: everything that can be wrong with a file before X.509 is parsed.

use std::path::{Path, PathBuf};

use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer,
};
use zeroize::Zeroizing;

use super::container;
use super::context::Context;
use crate::bundle::acme::stored;
use crate::bundle::file::{word, word_beside};
use crate::bundle::finding::{Code, Finding, listed};
use crate::bundle::pem::{self, Kind, PemError, Section};
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
pub(super) fn chain(context: &mut Context, file: &Lined<NamedFile>) -> Option<Vec<CertificateDer<'static>>> {
    certificates(context, file, CHAIN_CERTIFICATES_MAX)
}

/// The certificates of a `trust` file.
pub(super) fn trust(context: &mut Context, file: &Lined<NamedFile>) -> Option<Vec<CertificateDer<'static>>> {
    certificates(context, file, TRUST_CERTIFICATES_MAX)
}

fn certificates(
    context: &mut Context,
    file: &Lined<NamedFile>,
    count_max: usize,
) -> Option<Vec<CertificateDer<'static>>> {
    let sections = sections(context, file, Wanted::Certificates)?;
    let is_certificate =
        |section: &&mut Section| matches!(section.kind, Kind::Certificate | Kind::TrustedCertificate);
    let holds_key = sections.iter().any(|section| is_key(section.kind));
    let unread = sections.iter().any(|section| section.kind == Kind::Pkcs7);
    let mut sections = sections;
    let found: Vec<_> = sections
        .iter_mut()
        .filter(is_certificate)
        .map(|section| CertificateDer::from(std::mem::take(&mut *section.der)))
        .collect();
    if found.is_empty() || unread {
        let finding = match holds_key && !unread {
            true => key_as_certificate(file, count_max),
            false => no_certificate(file, &sections),
        };
        context.push(file.line, finding);
        return None;
    }
    if found.len() > count_max {
        context.push(file.line, too_many(file, found.len(), count_max));
        return None;
    }
    Some(found)
}

fn is_key(kind: Kind) -> bool {
    matches!(kind, Kind::Pkcs8Key | Kind::Pkcs1Key | Kind::Sec1Key | Kind::OtherKey)
}

/// The one private key of a key file.
pub(super) fn key(context: &mut Context, file: &Lined<NamedFile>) -> Option<PrivateKeyDer<'static>> {
    let mut sections = sections(context, file, Wanted::Key)?;
    if sections.iter().any(|section| section.encrypted) {
        context.push(file.line, encrypted(file));
        return None;
    }
    let holds_certificate = sections.iter().any(|section| section.kind == Kind::Certificate);
    let mut keys: Vec<_> = sections.iter_mut().filter_map(private_key).collect();
    if keys.len() > 1 {
        context.push(file.line, several_keys(file, keys.len()));
        return None;
    }
    if keys.is_empty() {
        let finding = if holds_certificate { certificate_as_key(file) } else { no_key(file, &sections) };
        context.push(file.line, finding);
    }
    keys.pop()
}

fn private_key(section: &mut Section) -> Option<PrivateKeyDer<'static>> {
    let make: fn(Vec<u8>) -> PrivateKeyDer<'static> = match section.kind {
        Kind::Pkcs8Key => |der| PrivatePkcs8KeyDer::from(der).into(),
        Kind::Pkcs1Key => |der| PrivatePkcs1KeyDer::from(der).into(),
        Kind::Sec1Key => |der| PrivateSec1KeyDer::from(der).into(),
        _ => return None,
    };
    Some(make(std::mem::take(&mut *section.der)))
}

fn read(context: &mut Context, file: &Lined<NamedFile>, wanted: Wanted) -> Option<Zeroizing<Vec<u8>>> {
    let found = match &file.value.state {
        Some(state) => match stored::read(state, &file.value.path) {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err(FileTrouble::Missing),
            Err(error) => Err(FileTrouble::Unreadable(std::io::Error::other(error))),
        },
        None => read_bounded(&file.value.path, PEM_BYTES_MAX).map(Zeroizing::new),
    };
    let bytes = match found {
        Ok(bytes) => bytes,
        Err(trouble) => {
            let finding = unusable_file(&file.value, &trouble, wanted, &context.hosts);
            context.push(file.line, finding);
            return None;
        }
    };
    if bytes.first() == Some(&0x30) {
        context.push(file.line, binary(&file.value, &bytes, wanted));
        return None;
    }
    Some(bytes)
}

fn sections(context: &mut Context, file: &Lined<NamedFile>, wanted: Wanted) -> Option<Vec<Section>> {
    let bytes = read(context, file, wanted)?;
    let read = pem::read(&bytes);
    if read.as_ref().map_or(true, Vec::is_empty)
        && let Some(finding) = in_another_container(&file.value, &bytes, wanted)
    {
        context.push(file.line, finding);
        return None;
    }
    read.map_err(|error| context.push(file.line, malformed(file, &error))).ok()
}

fn in_another_container(file: &NamedFile, bytes: &[u8], wanted: Wanted) -> Option<Finding> {
    let (path, out) = (word(&file.path), word_beside(&converted(&file.path), &file.path));
    let container = container::of(bytes, &path, &out, wanted == Wanted::Key)?;
    let (code, what) = match wanted {
        Wanted::Certificates => (Code::NoCertificateInFile, "no certificate"),
        Wanted::Key => (Code::NoKeyInFile, "no private key"),
    };
    let finding = Finding::new(code, format!("`{}` holds {what} in PEM", file.label))
        .expected("PEM: text that begins with -----BEGIN")
        .found(container.found)
        .remedy(container.remedy);
    Some(finding)
}

fn malformed(file: &Lined<NamedFile>, error: &PemError) -> Finding {
    Finding::new(Code::PemMalformed, format!("`{}` is broken PEM", file.value.label))
        .expected("-----BEGIN …-----, lines of base64, -----END …-----")
        .found(format!("in {error}"))
        .remedy("Copy the file again, as a file: a paste through a terminal or an editor may have cut it.")
}

/// What the BEGIN lines announce, whatever it is.
fn announced(sections: &[Section]) -> String {
    let mut labels: Vec<&str> = sections.iter().map(|section| section.label).collect();
    labels.dedup();
    labels.truncate(4);
    if labels.is_empty() { "no BEGIN line at all".to_owned() } else { listed(labels) }
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
            let inside =
                container::in_folder(&file.path, wanted == Wanted::Key).map(|name| file.path.join(name));
            let remedy = match inside {
                Some(inside) => format!("Name the PEM file itself: {}", word(&inside)),
                None => "Name the PEM file itself.".to_owned(),
            };
            (Code::FileNotRegular, "is not a file", remedy)
        }
        FileTrouble::Unreadable(_) => (
            Code::FileUnreadable,
            "cannot be read",
            format!(
                "Run the command as a user that may read the file, or check its owner and mode: ls -l {}",
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
            Wanted::Key => {
                "certbot creates it together with the certificate: see the error for `chain`.".to_owned()
            }
        };
    }
    let begin = if Path::new(&*file.label).is_absolute() {
        ""
    } else {
        "Relative paths begin at the folder of sanedge.toml. "
    };
    if is_there {
        format!("{begin}See what is there: ls {}", word(folder))
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
        "certbot creates this folder with the first certificate (another client: name its files here). While nothing listens \
         on port 80:\n  sudo certbot certonly --standalone --cert-name {name}{names}\n\
         While an edge or another server has port 80, by a folder that it serves (`acme_dir` here):\n  \
         sudo certbot certonly --webroot -w /var/lib/sanedge/acme --cert-name {name}{names}"
    )
}

/// DER begins with a SEQUENCE; what its first item is tells certificates, keys, PKCS #7 and PKCS #12 apart.
fn binary(file: &NamedFile, der: &[u8], wanted: Wanted) -> Finding {
    let content = container::content_of(der);
    let path = word(&file.path);
    let out = word_beside(&converted(&file.path), &file.path);
    let (code, found, command) = if container::is_pkcs12(der) {
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
        "`trust` names the certificate of your CA, never its key, which must not be on an edge; mkcert calls it rootCA.pem."
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

fn no_certificate(file: &Lined<NamedFile>, sections: &[Section]) -> Finding {
    let found = announced(sections);
    let path = word(&file.value.path);
    let out = word_beside(&converted(&file.value.path), &file.value.path);
    let remedy = if found.contains("REQUEST") {
        "This is a certificate request. Name the certificate that the CA issued for it.".to_owned()
    } else if sections.iter().any(|section| section.kind == Kind::Pkcs7) {
        format!("Convert it, and name the new file here:\n  openssl pkcs7 -in {path} -print_certs -out {out}")
    } else {
        "Name the file with the certificate and its intermediates; certbot calls it fullchain.pem.".to_owned()
    };
    Finding::new(Code::NoCertificateInFile, format!("`{}` holds no certificate", file.value.label))
        .expected("at least one -----BEGIN CERTIFICATE-----")
        .found(found)
        .remedy(remedy)
}

fn no_key(file: &Lined<NamedFile>, sections: &[Section]) -> Finding {
    let found = announced(sections);
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
        "Remove the passphrase, keep the new file private, and name it here:\n  (umask 077; openssl pkey -in {} -out {plain})",
        word(&file.value.path)
    );
    Finding::new(Code::EncryptedKey, format!("the key in `{}` has a passphrase", file.value.label))
        .expected("a key without a passphrase: it cannot be typed when the board starts")
        .found("an encrypted private key")
        .remedy(remedy)
}
