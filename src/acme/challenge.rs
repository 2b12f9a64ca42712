//! How a name can be validated; and http-01 (RFC 8555 §8.3): writes the token to a file that the edge serves, and checks that it does.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::alpn;
use super::unserved::Unserved;
use crate::bundle::acme::{Challenge, Plan, Wanted, here};
use crate::doctor::explain::Code;
use crate::doctor::managed::is_of_edge;
use crate::excerpt::Excerpt;
use crate::names::Host;

/// Longest token that the edge serves.
const TOKEN_BYTES_MAX: usize = 128;
/// Limit for one request to the edge on this machine, or to DNS.
const LOOK_TIME: Duration = Duration::from_secs(5);
/// Longest part of its answer that is read.
const ANSWER_BYTES_MAX: u64 = 8 * 1024;

/// How a name is validated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Http01,
    TlsAlpn01,
    Dns01,
}

/// Whether the names of `wanted` are validated by dns-01, which does not involve the edge. Addresses cannot be (RFC 8738 §7).
pub(super) fn is_by_dns(plan: &Plan, wanted: &Wanted) -> bool {
    let may = matches!(plan.challenge, Challenge::Auto | Challenge::Dns01) && plan.dns.is_some();
    may && !wanted.names.iter().any(|name| name.parse::<IpAddr>().is_ok())
}

/// How the names of `wanted` can be validated now: as the plan says, if the edge on this machine answers.
///
/// # Errors
/// What came instead.
pub(super) async fn method(plan: &Plan, wanted: &Wanted) -> Result<Method, Unserved> {
    let http = match plan.challenge {
        Challenge::TlsAlpn01 => None,
        Challenge::Http01 | Challenge::Auto | Challenge::Dns01 => {
            match is_served(plan, wanted.name()).await {
                Err(http)
                    if plan.challenge != Challenge::Http01 && http.code != Code::AcmeChallengeFolder =>
                {
                    Some(http)
                }
                served => return served.map(|()| Method::Http01),
            }
        }
    };
    let tls = alpn::would_be_served(plan, &wanted.names).await;
    tls.map(|()| Method::TlsAlpn01).map_err(|tls| match http {
        Some(http) => {
            let code = if plan.http.is_empty() { tls.code } else { http.code };
            Unserved::new(code, format!("http-01: {}; tls-alpn-01: {}", http.found, tls.found))
        }
        None => tls,
    })
}

/// A token that the edge serves until this is dropped.
#[derive(Debug)]
pub(super) struct Token(PathBuf);

impl Token {
    /// Writes `content` for `token` into `folder`.
    pub(super) fn serve(folder: &Path, token: &str, content: &str) -> io::Result<Self> {
        if !is_token(token) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the CA's token is not base64url (RFC 8555 §8.3)",
            ));
        }
        let path = folder.join(token);
        let _ = fs::remove_file(&path); // of a run that was killed
        // Readable by all: it is public, and the folder's mode decides which users can open it.
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&path)?;
        let token = Self(path);
        file.set_permissions(Permissions::from_mode(0o644))?; // whatever the umask
        file.write_all(content.as_bytes())?;
        Ok(token)
    }
}

/// Removes tokens of a run that was killed.
pub(super) fn remove(folder: &Path, tokens: &[String]) {
    tokens.iter().filter(|token| is_token(token)).for_each(|token| drop(fs::remove_file(folder.join(token))));
}

fn is_token(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    !text.is_empty() && text.len() <= TOKEN_BYTES_MAX && text.bytes().all(allowed)
}

impl Drop for Token {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Creates the folder if it is missing. If the package did not create it, the edge runs as this user.
pub(super) fn folder(path: &Path) -> Result<(), Unserved> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(Unserved::folder(path, &error)),
        _ => Ok(()),
    }
}

/// Requests a trial token from the edge on this machine, as the CA will request its own.
///
/// # Errors
/// What came instead.
async fn is_served(plan: &Plan, name: &str) -> Result<(), Unserved> {
    let word = "sanedge-check";
    let token = Token::serve(&plan.challenges, word, word)
        .map_err(|error| Unserved::folder(&plan.challenges, &error))?;
    let unserved = |found| Unserved::new(Code::AcmeEdgeNotAnswering, found);
    let mut found = unserved("sanedge.toml has no `http` listener".to_owned());
    for listener in &plan.http {
        let address = here(*listener);
        match timeout(LOOK_TIME, look(address, name, word, plan.http_expects_proxy)).await {
            Ok(Ok(answer)) if answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(word) => return Ok(()),
            Ok(Ok(answer)) => {
                let line = answer.lines().next().unwrap_or("nothing").to_owned();
                let text = format!("{address} answered the challenge with {}", Excerpt::of(&line));
                found = if is_of_edge(&answer) {
                    unserved(text)
                } else {
                    Unserved::new(Code::AcmePortTaken, text)
                };
            }
            Ok(Err(error)) => found = unserved(format!("no answer at {address}: {error}")),
            Err(_) => {
                found = unserved(format!("no answer at {address} within {} s", LOOK_TIME.as_secs()));
            }
        }
    }
    drop(token);
    Err(found)
}

async fn look(address: SocketAddr, name: &str, token: &str, expects_proxy: bool) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let proxy = if expects_proxy { "PROXY UNKNOWN\r\n" } else { "" };
    let request = format!(
        "{proxy}GET /.well-known/acme-challenge/{token} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Most addresses of a name that are used.
const ADDRESSES_MAX: usize = 16;

/// The addresses of a name; empty if it has none yet. Special names (RFC 6761 §6.3, §6.4) are not looked up.
///
/// # Errors
/// If no resolver answers.
pub(super) async fn addresses(name: &str) -> Result<Vec<IpAddr>, String> {
    let under =
        |suffix: &str| name == suffix || name.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.'));
    match Host::parse(name) {
        Ok(Host::Ip(ip)) => Ok(vec![ip]),
        _ if under("localhost") => Ok(vec![Ipv4Addr::LOCALHOST.into()]),
        _ if under("invalid") => Ok(Vec::new()),
        _ => match timeout(LOOK_TIME, tokio::net::lookup_host((name, 80))).await {
            Ok(Ok(found)) => {
                Ok(found.take(ADDRESSES_MAX).map(|address| address.ip().to_canonical()).collect())
            }
            Ok(Err(error)) if is_of_resolver(&error.to_string()) => Err(error.to_string()),
            Ok(Err(_)) => Ok(Vec::new()),
            Err(_) => Err(format!("no answer from DNS within {} s", LOOK_TIME.as_secs())),
        },
    }
}

/// A warning about addresses of a name that no interface of this board has. They may be correct: behind NAT the CA connects through the
/// router.
pub(super) fn not_ours(addresses: &[IpAddr]) -> Option<String> {
    let mut others: Vec<String> =
        addresses.iter().filter(|ip| !is_ours(**ip)).map(ToString::to_string).collect();
    others.sort_unstable();
    others.dedup();
    (!others.is_empty()).then(|| {
        format!(
            "warning: the name resolves to {}, which is not an address of this board. Behind a router or a CDN that is correct; otherwise correct the A or AAAA record",
            others.join(", ")
        )
    })
}

/// Whether an interface of this machine has the address: the kernel then uses it as the source address as well. No packet is sent.
fn is_ours(ip: IpAddr) -> bool {
    let any: IpAddr = if ip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let source = || -> io::Result<IpAddr> {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect((ip, 9))?;
        Ok(socket.local_addr()?.ip())
    };
    source().is_ok_and(|source| source == ip)
}

/// Whether an error of `getaddrinfo` says nothing about the name: `EAI_AGAIN` and `EAI_FAIL`, whose numbers the standard library drops,
/// in the words of glibc and of musl.
fn is_of_resolver(error: &str) -> bool {
    ["emporary failure", "Try again", "on-recoverable", "onrecoverable"]
        .iter()
        .any(|words| error.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_a_file_of_the_folder_and_goes_away() {
        let folder = tempfile::tempdir().unwrap();
        let longest = "t".repeat(TOKEN_BYTES_MAX);
        let token = Token::serve(folder.path(), &longest, "content").unwrap();
        assert_eq!(fs::read_to_string(folder.path().join(&longest)).unwrap(), "content");
        drop(token);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        for bad in ["", "..", "../x", "a/b", "a.b", "a b", &"t".repeat(TOKEN_BYTES_MAX + 1)] {
            assert!(Token::serve(folder.path(), bad, "x").is_err(), "{bad}");
        }
        fs::write(folder.path().join("left"), "of a run that was killed").unwrap();
        assert!(Token::serve(folder.path(), "left", "new").is_ok());
    }

    #[tokio::test]
    async fn special_names_are_not_looked_up() {
        for name in ["a.localhost", "localhost", "192.0.2.1"] {
            assert_eq!(addresses(name).await.map(|found| found.len()), Ok(1), "{name}");
        }
        for name in ["a.invalid", "invalid"] {
            assert_eq!(addresses(name).await, Ok(Vec::new()), "{name}");
        }
    }

    #[test]
    fn an_address_of_another_machine_is_a_warning_and_one_of_this_is_none() {
        let parsed = |list: &[&str]| list.iter().map(|ip| ip.parse().unwrap()).collect::<Vec<IpAddr>>();
        assert_eq!(not_ours(&parsed(&["127.0.0.1", "127.0.0.1"])), None);
        assert_eq!(not_ours(&[]), None);
        let said = not_ours(&parsed(&["192.0.2.7", "127.0.0.1", "2001:db8::7", "192.0.2.7"])).unwrap();
        assert!(said.contains("resolves to 192.0.2.7, 2001:db8::7, which"), "{said}");
    }

    #[test]
    fn a_dead_resolver_is_distinguished_from_a_name_without_address() {
        let said = |what: &str| is_of_resolver(&format!("failed to lookup address information: {what}"));
        assert!(said("Temporary failure in name resolution") && said("Try again"));
        assert!(said("Non-recoverable failure in name resolution"));
        assert!(!said("Name or service not known") && !said("No address associated with hostname"));
        assert!(!said("Name does not resolve"));
    }
}
