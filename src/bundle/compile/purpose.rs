//! Checks that the end-entity is a server certificate with names, and says how to get one if it is not.

use super::context::{Context, Subject};
use super::facts::{Facts, ServerAuth};
use crate::bundle::file::word_beside;
use crate::bundle::finding::{Code, Finding};
use crate::bundle::shell::shell_word;
use crate::names::Host;

/// Checks that the certificate is an end-entity's, and for servers. True if it must be issued again with a command that fixes everything else
/// as well: then nothing else is reported.
pub(super) fn purpose(context: &mut Context, subject: &Subject<'_>, facts: &Facts) -> bool {
    let label = subject.label;
    let made_by_hand = facts.self_signed;
    if facts.is_ca {
        let finding = Finding::new(
            Code::CaAsEndEntity,
            format!("`{label}` is a CA's certificate, not a server's"),
        )
        .expected("basicConstraints CA:FALSE")
        .found(format!("CA:TRUE on {}", facts.subject))
        .remedy(format!(
            "If this is your CA, name the certificate that it issued for the server. If it is not a CA, its flag is a \
                mistake. {}",
            anew(context, subject, facts, "with openssl: -addext basicConstraints=critical,CA:FALSE")
        ));
        context.push(subject.line, finding.certificate(label));
        return true;
    }
    sans(context, subject, facts);
    if !facts.has_san && made_by_hand {
        return true;
    }
    let unfit = match facts.server_auth {
        ServerAuth::NoExtension => Some("no extendedKeyUsage, which Apple's clients refuse"),
        ServerAuth::OtherUsesOnly => Some("an extendedKeyUsage without serverAuth"),
        ServerAuth::Yes => facts
            .profile
            .ns_other
            .then_some("an nsCertType without `server`, which clients with OpenSSL refuse"),
    };
    if let Some(found) = unfit {
        let finding = Finding::new(Code::NoServerAuth, format!("`{label}` is not for TLS servers"))
            .expected("extendedKeyUsage with serverAuth")
            .found(found)
            .remedy(match facts.server_auth {
                ServerAuth::Yes => {
                    "Issue it again without nsCertType, which nothing needs any more.".to_owned()
                }
                _ => anew(context, subject, facts, "with openssl: -addext extendedKeyUsage=serverAuth"),
            });
        context.push(subject.line, finding.certificate(label));
        if made_by_hand {
            return true;
        }
    }
    if !facts.digital_signature {
        let finding =
            Finding::new(Code::NoDigitalSignature, format!("the key of `{label}` may not sign handshakes"))
                .expected("keyUsage with digitalSignature: every cipher suite here signs (RFC 8446 §4.4.2.2)")
                .found("a keyUsage without it")
                .remedy(anew(
                    context,
                    subject,
                    facts,
                    "with openssl: -addext keyUsage=critical,digitalSignature",
                ));
        context.push(subject.line, finding.certificate(label));
        return made_by_hand;
    }
    false
}

fn sans(context: &mut Context, subject: &Subject<'_>, facts: &Facts) {
    let label = subject.label;
    for (text, why) in &facts.odd_names {
        let finding = Finding::new(Code::UnusableSan, format!("`{label}` has a name that no client accepts"))
            .expected("a full DNS name, or `*.` before one with at least two labels (RFC 9525 §6.3)")
            .found(format!("{text:?}: {why}"))
            .remedy("If it was meant to cover a host, issue the certificate again with the host's full name. Otherwise it \
                does no harm.");
        context.push(subject.line, finding.certificate(label));
    }
    if facts.has_san {
        return;
    }
    let found = match &facts.common_name {
        Some(cn) => format!("only the common name `{cn}`, which clients ignore (RFC 9525 §2)"),
        None => "no name at all".to_owned(),
    };
    let finding = Finding::new(Code::NoSan, format!("`{label}` has no subjectAltName"))
        .expected("a subjectAltName with every host")
        .found(found)
        .remedy(anew(
            context,
            subject,
            facts,
            &format!("with openssl: -addext {}", alternative_names(context)),
        ));
    context.push(subject.line, finding.certificate(label));
}

/// `subjectAltName=…` with every host of sanedge.toml, as openssl takes it and quoted for a shell.
fn alternative_names(context: &Context) -> String {
    let name = |host: &Host| match host {
        Host::Ip(ip) => format!("IP:{ip}"),
        Host::Dns(name) => format!("DNS:{}", name.as_str()),
    };
    let names: Vec<String> = context.hosts.iter().map(name).collect();
    let names = if names.is_empty() { "DNS:recre.store".to_owned() } else { names.join(",") };
    shell_word(&format!("subjectAltName={names}"))
}

/// How to get a correct certificate: one command for a self-made one, `option` for others.
fn anew(context: &Context, subject: &Subject<'_>, facts: &Facts, option: &str) -> String {
    if !facts.self_signed {
        return format!("Issue it again with every host in its subjectAltName; {option}");
    }
    let beside = |path, extension| word_beside(&super::pem::fresh(path, &[extension]), path);
    let chain = beside(&subject.files.chain.value.path, "new.pem");
    let key = beside(&subject.files.key.value.path, "new.key");
    format!(
        "Create a new one with everything that a server's certificate needs, and name the new files here:\n  \
         openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 365 -subj /CN=sanedge \
         -addext {} -addext basicConstraints=critical,CA:FALSE -addext keyUsage=critical,digitalSignature \
         -addext extendedKeyUsage=serverAuth -keyout {key} -out {chain}",
        alternative_names(context)
    )
}
