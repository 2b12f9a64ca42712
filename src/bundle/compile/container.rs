//! Files that hold a certificate or a key in something that is not PEM: what it is, and how to get the PEM out of it.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Bytes of a file that are looked at to know it.
const BEGINNING_BYTES: usize = 64 * 1024;

/// What was recognised, and what to do; commands stand on lines of their own.
pub(super) struct Container {
    pub(super) found: &'static str,
    pub(super) remedy: String,
}

/// Recognises a file without a BEGIN line. `path` is the file as a word for a shell, `out` the one to name afterwards.
pub(super) fn of(content: &[u8], path: &str, out: &str, wants_key: bool) -> Option<Container> {
    let beginning = content.get(..BEGINNING_BYTES).unwrap_or(content);
    let begins = |magic: &[u8]| beginning.starts_with(magic);
    let container = |found, remedy: String| Some(Container { found, remedy });
    if begins(&[0xfe, 0xed, 0xfe, 0xed]) || begins(&[0xce, 0xce, 0xce, 0xce]) {
        let pkcs12 = format!("{out}.p12");
        let part = if wants_key { "-nocerts -noenc" } else { "-nokeys" };
        return container(
            "a Java keystore (JKS)",
            format!(
                "Convert it, and name the new file here:\n  (umask 077; keytool -importkeystore -srckeystore {path} -destkeystore {pkcs12} \
                 -deststoretype PKCS12)\n  (umask 077; openssl pkcs12 -in {pkcs12} {part} -out {out})"
            ),
        );
    }
    if begins(&[0x1f, 0x8b]) {
        return container(
            "a gzip archive",
            format!("Unpack it, and name the new file here:\n  (umask 077; gunzip -c {path} > {out})"),
        );
    }
    if begins(b"PK\x03\x04") {
        return container(
            "a zip archive",
            format!("Unpack it, and name the file in it here:\n  unzip {path}"),
        );
    }
    text(&String::from_utf8_lossy(beginning), path, out, wants_key)
}

fn text(text: &str, path: &str, out: &str, wants_key: bool) -> Option<Container> {
    let container = |found, remedy: String| Some(Container { found, remedy });
    let has = |words: &[&str]| words.iter().all(|word| text.contains(word));
    let start = text.trim_start();
    if start.starts_with('{') && has(&["\"Certificates\"", "\"domain\""]) {
        let field = if wants_key { "key" } else { "certificate" };
        return container(
            "the store of Traefik (acme.json), with certificates and keys of many hosts",
            format!(
                "Extract the entry of this host, and name the new file here; HOST is its name:\n  (umask 077; jq -r '.[].Certificates[] | \
                 select(.domain.main == \"HOST\") | .{field}' {path} | base64 -d > {out})"
            ),
        );
    }
    if has(&["tls.crt", "tls.key"]) {
        let field = if wants_key { "tls.key" } else { "tls.crt" };
        return container(
            "a Secret of Kubernetes",
            format!(
                "Extract the file, and name the new file here; SECRET is its name:\n  (umask 077; kubectl get secret SECRET -o \
                 jsonpath='{{.data.{}}}' | base64 -d > {out})",
                field.replace('.', "\\.")
            ),
        );
    }
    if start.starts_with("PuTTY-User-Key-File")
        || start.starts_with("ssh-")
        || start.starts_with("ecdsa-sha2-")
    {
        return container(
            "a key for SSH",
            "It is not for TLS: name the files that the CA or its ACME client wrote.".to_owned(),
        );
    }
    if start.starts_with('<') {
        return container(
            "a web page or XML, perhaps in place of a download",
            "Fetch the file again, and check what you get: a login or an error page is not a certificate."
                .to_owned(),
        );
    }
    encoded(text, path, out, wants_key)
}

/// Base64 once more than needed, or without its BEGIN line.
fn encoded(text: &str, path: &str, out: &str, wants_key: bool) -> Option<Container> {
    let bare: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let whole = bare.get(..bare.len() / 4 * 4).filter(|whole| !whole.is_empty())?;
    let decoded = zeroize::Zeroizing::new(STANDARD.decode(whole).ok()?);
    let again = |command: &str| {
        format!("Decode it, and name the new file here:\n  (umask 077; base64 -d {path} {command})")
    };
    let container = |found, command: String| Some(Container { found, remedy: again(&command) });
    match decoded.as_slice() {
        [b'-', b'-', ..] => container("PEM in base64 once more", format!("> {out}")),
        [0x30, ..] if is_pkcs12(&decoded) => {
            let part = if wants_key { "-nocerts -noenc" } else { "-nokeys" };
            container("PKCS #12 (.p12, .pfx) in base64", format!("| openssl pkcs12 {part} -out {out}"))
        }
        [0x30, ..] if wants_key => {
            container("base64 without its BEGIN line", format!("| openssl pkey -inform DER -out {out}"))
        }
        [0x30, ..] => {
            container("base64 without its BEGIN line", format!("| openssl x509 -inform DER -out {out}"))
        }
        _ => None,
    }
}

/// The content of the outer SEQUENCE.
pub(super) fn content_of(der: &[u8]) -> &[u8] {
    let content = match der.get(1) {
        Some(short) if *short < 0x80 => der.get(2..),
        Some(long) => der.get(2 + usize::from(long & 0x7f)..),
        None => None,
    };
    content.unwrap_or_default()
}

/// Version 3 in front (RFC 7292 §4).
pub(super) fn is_pkcs12(der: &[u8]) -> bool {
    content_of(der).starts_with(&[0x02, 0x01, 0x03])
}

/// Kubernetes mounts a Secret as a folder; certbot and others keep one for each name.
pub(super) fn in_folder(folder: &Path, wants_key: bool) -> Option<&'static str> {
    let usual: &[&str] = if wants_key {
        &["privkey.pem", "tls.key", "key.pem"]
    } else {
        &["fullchain.pem", "fullchain.cer", "tls.crt", "cert.pem"]
    };
    usual.iter().find(|name| folder.join(name).is_file()).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(content: &[u8]) -> Option<&'static str> {
        of(content, "in", "out.pem", false).map(|container| container.found)
    }

    #[test]
    fn each_container_is_recognised_and_ordinary_text_is_not() {
        let base64 = |bytes: &[u8]| STANDARD.encode(bytes).into_bytes();
        assert_eq!(found(&[0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2]), Some("a Java keystore (JKS)"));
        assert_eq!(found(&[0x1f, 0x8b, 8]), Some("a gzip archive"));
        assert_eq!(found(b"PK\x03\x04"), Some("a zip archive"));
        let acme = br#"{"le":{"Certificates":[{"domain":{"main":"a"}}]}}"#;
        assert!(found(acme).unwrap().contains("Traefik"));
        assert!(
            found(b"kind: Secret\ndata:\n  tls.crt: LS0t\n  tls.key: LS0t\n").unwrap().contains("Kubernetes")
        );
        assert_eq!(found(b"PuTTY-User-Key-File-3: ssh-ed25519"), Some("a key for SSH"));
        assert!(found(b"<!DOCTYPE html>").unwrap().contains("page"));
        assert_eq!(found(&base64(b"-----BEGIN CERTIFICATE-----")), Some("PEM in base64 once more"));
        assert_eq!(
            found(&base64(&[0x30, 0x82, 1, 0, 0x30, 0x82, 1, 0])),
            Some("base64 without its BEGIN line")
        );
        assert!(found(&base64(&[0x30, 0x82, 1, 0, 2, 1, 3, 0x30])).unwrap().contains("PKCS #12"));
        for text in ["", "a note about the certificate", "{}", "key: value\n", "AAAA"] {
            assert_eq!(found(text.as_bytes()), None, "{text}");
        }
    }
}
