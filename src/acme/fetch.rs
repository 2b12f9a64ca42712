//! HTTPS requests to the CA: one per connection, with a bound on every wait and body. Also keeps parts of an answer that the ACME
//! crate drops.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::client::WebPkiServerVerifier;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::time::{timeout, timeout_at};
use tokio_rustls::TlsConnector;

use super::policy::RETRY_AFTER_S_MAX;
use crate::bundle::compile::moment;
use crate::excerpt::Excerpt;

/// Limit for DNS, TCP and TLS together.
const CONNECT_TIME: Duration = Duration::from_secs(20);
/// Limit for one request with its whole answer: a CA checks CAA and policy before it answers a finalize.
const ANSWER_TIME: Duration = Duration::from_secs(60);
/// Largest body: a directory, an order of 100 names, a chain.
const BODY_BYTES_MAX: usize = 256 * 1024;
/// Nonces that the CA may refuse in a row (RFC 8555 §6.5).
const BAD_NONCES_MAX: u32 = 5;
/// Largest file of a private CA's roots.
const TRUST_BYTES_MAX: u64 = 1024 * 1024;

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Trouble {
    #[error("{0} cannot be resolved")]
    Unresolved(String),
    #[error("no connection to {0}: {1}")]
    Unreachable(String, String),
    #[error("the TLS certificate of {0} is not accepted: {1}")]
    Untrusted(String, String),
    #[error("the TLS certificate of {0} is not valid at this time: the system clock says {1}")]
    Time(String, String),
    #[error("no complete answer from {0} within {1} s")]
    Late(String, u64),
    #[error("{0} closed the connection: {1}")]
    Broken(String, String),
    #[error("the answer of {0} has more than {BODY_BYTES_MAX} bytes")]
    TooLarge(String),
    #[error("{0} answered {1}, which is not an ACME response: {2}")]
    NotAcme(String, u16, String),
    #[error("the CA refused {BAD_NONCES_MAX} nonces in a row (badNonce)")]
    Nonces,
    #[error("`{0}` is not an https URL: a directory begins with https://")]
    Url(String),
    #[error("the CA answered with a problem: {0}")]
    Problem(serde_json::Value),
}

/// What the last answers said besides their bodies.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// The `Retry-After` of the last answer, in seconds since 1970.
    pub(super) retry_after: Option<i64>,
    /// `instance` of the last problem document: the URL that the user must open (RFC 8555 §7.3.3).
    pub(super) instance: Option<String>,
    pub(super) bad_nonces: u32,
}

/// A client for one CA.
#[derive(Clone)]
pub(super) struct Client {
    tls: Arc<ClientConfig>,
    roots: Arc<RootCertStore>,
    seen: Arc<Mutex<Seen>>,
}

impl Client {
    /// A client that trusts the public roots, or those in the file `trust`.
    pub(super) fn new(trust: Option<&Path>) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        match trust {
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Some(file) => {
                let bytes = super::state::read_public(file, TRUST_BYTES_MAX)?;
                let found: Vec<_> = CertificateDer::pem_slice_iter(&bytes).flatten().collect();
                roots.add_parsable_certificates(found);
                if roots.is_empty() {
                    return Err(format!(
                        "{} contains no certificate; expected the root certificate of the CA as PEM",
                        Excerpt::of_path(file)
                    ));
                }
            }
        }
        let roots = Arc::new(roots);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config = config
            .map_err(|error| error.to_string())?
            .with_root_certificates(Arc::clone(&roots))
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { tls: Arc::new(config), roots, seen: Arc::default() })
    }

    pub(super) fn seen(&self) -> Seen {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn exchange(self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Error> {
        Ok(BytesResponse::from(self.exchanged(request).await?.map(Full::new)))
    }

    /// One request. The answer to a signed one may be a problem document.
    pub(super) async fn exchanged(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Result<Response<Bytes>, Error> {
        self.ask(request).await.map_err(|trouble| match trouble {
            Trouble::Problem(problem) => serde_json::from_value(problem).map_or_else(Error::Json, Error::Api),
            trouble => Error::Other(Box::new(trouble)),
        })
    }

    /// Whether a chain, as PEM, leads from a certificate of `name` to a root of this client.
    pub(super) fn trusts(&self, chain: &str, name: &str) -> bool {
        use rustls::client::danger::ServerCertVerifier as _;
        let chain: Vec<_> = CertificateDer::pem_slice_iter(chain.as_bytes()).flatten().collect();
        let name =
            name.strip_prefix("*.").map_or_else(|| name.to_owned(), |parent| format!("wildcard.{parent}"));
        let (Some((end_entity, others)), Ok(name)) = (chain.split_first(), ServerName::try_from(name)) else {
            return false;
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::clone(&self.roots), provider).build();
        let now = rustls_pki_types::UnixTime::now();
        verifier
            .is_ok_and(|verifier| verifier.verify_server_cert(end_entity, others, &name, &[], now).is_ok())
    }

    async fn ask(&self, request: Request<BodyWrapper<Bytes>>) -> Result<Response<Bytes>, Trouble> {
        let (host, is_post) = (authority(request.uri())?.0, request.method() == hyper::Method::POST);
        let answer = self.send(request).await?;
        self.look_at(&host, is_post, &answer)?;
        Ok(answer)
    }

    /// A request to another server than the CA, such as a DNS provider. Returns status and body.
    pub(super) async fn call(&self, request: Request<Vec<u8>>) -> Result<(u16, Bytes), Trouble> {
        let answer = self.send(request.map(BodyWrapper::from)).await?;
        Ok((answer.status().as_u16(), answer.into_body()))
    }

    async fn send(&self, request: Request<BodyWrapper<Bytes>>) -> Result<Response<Bytes>, Trouble> {
        let (host, port) = authority(request.uri())?;
        let until = tokio::time::Instant::now() + ANSWER_TIME;
        let late = |_| Trouble::Late(host.clone(), ANSWER_TIME.as_secs());
        let stream = timeout(CONNECT_TIME, self.connect(&host, port))
            .await
            .map_err(|_| Trouble::Late(host.clone(), CONNECT_TIME.as_secs()))??;
        let broken = |error: hyper::Error| Trouble::Broken(host.clone(), error.to_string());
        let (mut sender, driver) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let driver = tokio::spawn(driver);
        let whole = async {
            let answer = sender.send_request(outgoing(request, &host, port).await?).await.map_err(broken)?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, BODY_BYTES_MAX).collect().await.map_err(|error| match error
                .downcast::<hyper::Error>(
            ) {
                Ok(error) => Trouble::Broken(host.clone(), error.to_string()),
                Err(_) => Trouble::TooLarge(host.clone()),
            })?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        let answer = timeout_at(until, whole).await.map_err(late);
        driver.abort();
        answer?
    }

    async fn connect(
        &self,
        host: &str,
        port: u16,
    ) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Trouble> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let addresses: Vec<_> = tokio::net::lookup_host((bare, port))
            .await
            .map_err(|_| Trouble::Unresolved(host.to_owned()))?
            .collect();
        let mut last = Trouble::Unresolved(host.to_owned());
        let name = ServerName::try_from(bare.to_owned()).map_err(|_| Trouble::Url(host.to_owned()))?;
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => return self.secured(stream, host, name).await,
                Err(error) => last = Trouble::Unreachable(host.to_owned(), error.to_string()),
            }
        }
        Err(last)
    }

    async fn secured(
        &self,
        stream: TcpStream,
        host: &str,
        name: ServerName<'static>,
    ) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Trouble> {
        let connected = TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream).await;
        connected.map_err(|error| {
            match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                Some(rustls::Error::InvalidCertificate(why)) if is_of_time(why) => {
                    Trouble::Time(host.to_owned(), moment(super::clock::clock()))
                }
                Some(rustls::Error::InvalidCertificate(why)) => {
                    Trouble::Untrusted(host.to_owned(), why.to_string())
                }
                _ => Trouble::Unreachable(host.to_owned(), error.to_string()),
            }
        })
    }

    /// Keeps what the crate drops, and refuses answers that are not ACME (a proxy's page), and one refused nonce too many.
    fn look_at(&self, host: &str, is_post: bool, answer: &Response<Bytes>) -> Result<(), Trouble> {
        let status = answer.status();
        let problem: Option<serde_json::Value> = match status.is_success() {
            true => None,
            false => serde_json::from_slice(answer.body()).ok().filter(serde_json::Value::is_object),
        };
        // The answer to an unsigned request may be any JSON of another server.
        let problem = problem
            .filter(|problem| is_post || problem.get("type").is_some_and(serde_json::Value::is_string));
        let mut seen = self.lock();
        seen.retry_after = retry_after(answer.headers(), SystemTime::now());
        if status.is_success() {
            // Fetching a nonce does not show that the CA accepts it.
            seen.bad_nonces = if is_post { 0 } else { seen.bad_nonces };
            return Ok(());
        }
        let Some(problem) = problem else {
            let text = String::from_utf8_lossy(answer.body());
            let words: Vec<&str> = text.split_whitespace().take(20).collect();
            return Err(Trouble::NotAcme(
                host.to_owned(),
                status.as_u16(),
                Excerpt::of(&words.join(" ")).into(),
            ));
        };
        let text = |name: &str| problem.get(name).and_then(serde_json::Value::as_str);
        seen.instance = text("instance").map(|url| Excerpt::of(url).into());
        if !is_bad_nonce(text("type"), text("detail")) {
            seen.bad_nonces = 0;
            // The crate parses a problem only in the answer to a signed request.
            return if is_post {
                Ok(())
            } else {
                Err(Trouble::Problem(with_status(problem, status.as_u16())))
            };
        }
        seen.bad_nonces += 1;
        if seen.bad_nonces >= BAD_NONCES_MAX { Err(Trouble::Nonces) } else { Ok(()) }
    }
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        Box::pin(self.clone().exchange(request))
    }
}

/// Whether a certificate would be accepted at another time.
fn is_of_time(why: &rustls::CertificateError) -> bool {
    use rustls::CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
    matches!(why, Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. })
}

fn authority(uri: &hyper::Uri) -> Result<(String, u16), Trouble> {
    let host = uri.host().filter(|_| uri.scheme_str() == Some("https"));
    match host {
        Some(host) => Ok((host.to_owned(), uri.port_u16().unwrap_or(443))),
        None => Err(Trouble::Url(Excerpt::of(&uri.to_string()).into())),
    }
}

fn with_status(mut problem: serde_json::Value, status: u16) -> serde_json::Value {
    if let Some(members) = problem.as_object_mut() {
        members.insert("status".to_owned(), status.into());
    }
    problem
}

/// Whether a nonce was refused (RFC 8555 §6.5); some CAs say so only in the words of their JWS library.
pub(super) fn is_bad_nonce(kind: Option<&str>, detail: Option<&str>) -> bool {
    let (kind, detail) = (kind.unwrap_or_default(), detail.unwrap_or_default().to_ascii_lowercase());
    kind.ends_with(":badNonce")
        || kind.ends_with(":malformed")
            && ["anti-replay nonce", "badnonce"].iter().any(|words| detail.contains(words))
}

/// Repeats a call whose nonce was refused: the crate tries three times, and [`BAD_NONCES_MAX`] limits the total.
macro_rules! with_nonce {
    ($call:expr) => {
        loop {
            match $call.await {
                Err(instant_acme::Error::Api(problem))
                    if $crate::acme::fetch::is_bad_nonce(
                        problem.r#type.as_deref(),
                        problem.detail.as_deref(),
                    ) => {}
                other => break other,
            }
        }
    };
}
pub(super) use with_nonce;

/// The crate's request in origin form, with our name and the fields that HTTP/1.1 wants.
async fn outgoing(
    request: Request<BodyWrapper<Bytes>>,
    host: &str,
    port: u16,
) -> Result<Request<Full<Bytes>>, Trouble> {
    let bad = || Trouble::Url(host.to_owned());
    let (mut head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| bad())?.to_bytes();
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
    head.uri = target.parse().map_err(|_| bad())?;
    let place = if port == 443 { host.to_owned() } else { format!("{host}:{port}") };
    head.headers.insert(header::HOST, HeaderValue::from_str(&place).map_err(|_| bad())?);
    head.headers.insert(
        header::USER_AGENT,
        HeaderValue::from_static(concat!("sanedge/", env!("CARGO_PKG_VERSION"), " instant-acme")),
    );
    head.headers.insert(header::ACCEPT_LANGUAGE, HeaderValue::from_static("en"));
    head.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    Ok(Request::from_parts(head, Full::new(body)))
}

/// Seconds since 1970 of a `Retry-After` (RFC 9110 §10.2.3).
fn retry_after(fields: &HeaderMap, now: SystemTime) -> Option<i64> {
    let text = fields.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let since = |time: SystemTime| {
        let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        i64::try_from(seconds).unwrap_or(i64::MAX)
    };
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let until = match is_number {
        // A number that is too large for us is a long wait, and no mistake.
        true => since(now).saturating_add(text.parse().unwrap_or(i64::MAX)),
        false => httpdate::parse_http_date(text).ok().map(since)?,
    };
    Some(until.min(since(now).saturating_add(RETRY_AFTER_S_MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(946_600_000);
        let of = |text: &str| {
            let mut fields = HeaderMap::new();
            fields.insert(header::RETRY_AFTER, HeaderValue::from_str(text).unwrap());
            retry_after(&fields, now)
        };
        assert_eq!(of("120"), Some(946_600_120));
        assert_eq!(of(" 0 "), Some(946_600_000));
        assert_eq!(of("Fri, 31 Dec 1999 23:59:59 GMT"), Some(946_684_799));
        let longest = 946_600_000 + RETRY_AFTER_S_MAX;
        let below = (RETRY_AFTER_S_MAX - 1).to_string();
        assert_eq!(of(&below), Some(longest - 1));
        for long in
            ["691201", "864000", "99999999999", "99999999999999999999", "Fri, 31 Dec 2049 23:59:59 GMT"]
        {
            assert_eq!(of(long), Some(longest), "{long}");
        }
        for bad in ["", "soon", "-1", "1.5", "+5"] {
            assert_eq!(of(bad), None, "{bad}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn a_refused_nonce_is_known_by_its_type_or_by_the_words_of_a_malformed_request() {
        for (kind, detail, wanted) in [
            ("urn:ietf:params:acme:error:badNonce", "", true),
            ("urn:acme:error:badNonce", "x", true),
            ("urn:ietf:params:acme:error:malformed", "JWS has an invalid anti-replay nonce: \"x\"", true),
            ("urn:ietf:params:acme:error:malformed", "JWS verification error", false),
            ("urn:ietf:params:acme:error:unauthorized", "JWS has an invalid anti-replay nonce", false),
        ] {
            assert_eq!(is_bad_nonce(Some(kind), Some(detail)), wanted, "{kind} {detail}");
        }
        assert!(!is_bad_nonce(None, None));
    }

    #[test]
    fn a_certificate_that_is_good_at_another_time_blames_the_clock() {
        use rustls::CertificateError::{Expired, NotValidYet, Revoked, UnknownIssuer};
        assert!(is_of_time(&Expired) && is_of_time(&NotValidYet));
        assert!(!is_of_time(&UnknownIssuer) && !is_of_time(&Revoked));
    }

    #[test]
    fn a_problem_is_read_also_in_the_answer_to_what_is_not_signed() {
        let client = Client::new(None).unwrap();
        let look = |status: u16, body: &'static str, is_post: bool| {
            let answer = Response::builder().status(status).header(header::RETRY_AFTER, "60");
            client.look_at("ca", is_post, &answer.body(Bytes::from_static(body.as_bytes())).unwrap())
        };
        let problem = r#"{"type":"urn:ietf:params:acme:error:rateLimited","detail":"busy"}"#;
        let Err(Trouble::Problem(found)) = look(429, problem, false) else { panic!("no problem") };
        assert_eq!((&found["detail"], &found["status"]), (&"busy".into(), &429.into()));
        assert!(client.seen().retry_after.is_some());
        assert_eq!(look(429, problem, true), Ok(()), "the crate reads it");
        assert!(matches!(look(429, r#"{"error":"busy"}"#, false), Err(Trouble::NotAcme(_, 429, _))));
        assert!(matches!(look(429, "<html>", true), Err(Trouble::NotAcme(_, 429, _))));
    }

    #[test]
    fn only_https_is_spoken() {
        for (url, wanted) in [
            ("https://ca.example/dir", Some(("ca.example".to_owned(), 443))),
            ("https://[::1]:14000/dir", Some(("[::1]".to_owned(), 14000))),
            ("http://ca.example/dir", None),
            ("/dir", None),
        ] {
            assert_eq!(authority(&url.parse().unwrap()).ok(), wanted, "{url}");
        }
    }
}
