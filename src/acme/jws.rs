//! Signed messages that the ACME crate does not have: external account binding, a change of the account key in which the new key is stored
//! first, and the other chains of a certificate.

use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use hyper::body::Bytes;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response};
use instant_acme::{BodyWrapper, Error, Problem};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use ring::{digest, hmac};
use serde::Deserialize;
use serde_json::{Value, json};

use super::fetch::{Client, is_bad_nonce};

/// Further chains that are fetched.
const ALTERNATES_MAX: usize = 4;

/// The directory of a CA (RFC 8555 §7.1.1), as far as it is used here.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Directory {
    new_nonce: String,
    new_account: String,
    #[serde(default)]
    key_change: Option<String>,
    #[serde(default)]
    meta: Meta,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    #[serde(default)]
    caa_identities: Vec<String>,
}

/// A key of an account.
pub(super) struct Key {
    pair: EcdsaKeyPair,
    random: SystemRandom,
}

impl Key {
    /// From PKCS #8.
    pub(super) fn new(pkcs8: &[u8]) -> Result<Self, Error> {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &random);
        let pair = pair.map_err(|_| Error::Str("the stored account key is damaged"))?;
        Ok(Self { pair, random })
    }

    /// RFC 7517, its members in the order of RFC 7638 §3.
    fn jwk(&self) -> Value {
        // 4, x and y (SEC 1 §2.3.3).
        let point = self.pair.public_key().as_ref().get(1..).unwrap_or_default();
        let (x, y) = point.split_at_checked(32).unwrap_or_default();
        json!({ "crv": "P-256", "kty": "EC", "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y) })
    }

    /// RFC 7638.
    pub(super) fn thumbprint(&self) -> String {
        URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, self.jwk().to_string().as_bytes()))
    }

    /// RFC 7515, flattened, as RFC 8555 §6.2 wants it.
    fn signed(&self, protected: &Value, payload: Option<&Value>) -> Result<Value, Error> {
        let (protected, payload) = encoded(protected, payload);
        let signature = self.pair.sign(&self.random, format!("{protected}.{payload}").as_bytes());
        let signature = URL_SAFE_NO_PAD.encode(signature.map_err(|_| Error::Crypto)?);
        Ok(json!({ "protected": protected, "payload": payload, "signature": signature }))
    }
}

fn encoded(protected: &Value, payload: Option<&Value>) -> (String, String) {
    let payload = payload.map(Value::to_string).unwrap_or_default();
    (URL_SAFE_NO_PAD.encode(protected.to_string()), URL_SAFE_NO_PAD.encode(payload))
}

/// What binds a new account (RFC 8555 §7.3.4).
pub(super) struct Binding<'a> {
    pub(super) kid: &'a str,
    pub(super) key: &'a [u8],
}

impl Binding<'_> {
    fn of(&self, account: &Key, url: &str) -> Value {
        let (protected, payload) =
            encoded(&json!({ "alg": "HS256", "kid": self.kid, "url": url }), Some(&account.jwk()));
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.key);
        let signature = hmac::sign(&key, format!("{protected}.{payload}").as_bytes());
        json!({ "protected": protected, "payload": payload, "signature": URL_SAFE_NO_PAD.encode(signature) })
    }
}

/// The key that a CA shows, with or without padding, in either alphabet.
pub(super) fn binding_key(text: &str) -> Option<Vec<u8>> {
    let text = text.trim().replace('+', "-").replace('/', "_");
    let decoded = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).or_else(|_| URL_SAFE.decode(&text));
    decoded.ok().filter(|key| !key.is_empty())
}

/// An account that was created, or found.
pub(super) struct Found {
    pub(super) id: String,
    /// What a CAA record names this CA by.
    pub(super) caa: Vec<String>,
}

/// A conversation with one CA.
pub(super) struct Session<'a> {
    client: &'a Client,
    directory: Directory,
}

impl<'a> Session<'a> {
    pub(super) async fn open(client: &'a Client, directory: &str) -> Result<Self, Error> {
        let request = Request::get(directory).body(BodyWrapper::default())?;
        let answer = client.exchanged(request).await?;
        let directory = serde_json::from_slice(answer.body())?;
        Ok(Self { client, directory })
    }

    /// Creates the account of `key`, or finds it.
    pub(super) async fn create(
        &self,
        key: &Key,
        contact: Option<&str>,
        binding: Option<&Binding<'_>>,
    ) -> Result<Found, Error> {
        let url = self.directory.new_account.as_str();
        let mut payload = json!({ "termsOfServiceAgreed": true });
        if let Some(members) = payload.as_object_mut() {
            if let Some(mail) = contact {
                members.insert("contact".to_owned(), json!([format!("mailto:{mail}")]));
            }
            if let Some(binding) = binding {
                members.insert("externalAccountBinding".to_owned(), binding.of(key, url));
            }
        }
        self.account(key, &payload).await
    }

    /// The existing account of `key`, if there is one.
    pub(super) async fn find(&self, key: &Key) -> Result<Option<Found>, Error> {
        match self.account(key, &json!({ "onlyReturnExisting": true })).await {
            Ok(found) => Ok(Some(found)),
            Err(Error::Api(problem)) if is_of(&problem, "accountDoesNotExist") => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn account(&self, key: &Key, payload: &Value) -> Result<Found, Error> {
        let url = self.directory.new_account.as_str();
        let answer = self.post(key, None, url, Some(payload)).await?;
        let place = answer.headers().get(header::LOCATION).and_then(|place| place.to_str().ok());
        let id = place.ok_or(Error::Str("no URL of the account in the CA's answer"))?.to_owned();
        Ok(Found { id, caa: self.directory.meta.caa_identities.clone() })
    }

    /// RFC 8555 §7.3.5.
    pub(super) async fn change_key(&self, id: &str, old: &Key, new: &Key) -> Result<(), Error> {
        let url = self.directory.key_change.as_deref();
        let url = url.ok_or(Error::Unsupported("a change of the account key (keyChange)"))?;
        let inner = new.signed(
            &json!({ "alg": "ES256", "jwk": new.jwk(), "url": url }),
            Some(&json!({ "account": id, "oldKey": old.jwk() })),
        )?;
        self.post(old, Some(id), url, Some(&inner)).await.map(drop)
    }

    /// The chains of a certificate beside the first (RFC 8555 §7.4.2).
    pub(super) async fn other_chains(&self, id: &str, key: &Key, url: &str) -> Result<Vec<String>, Error> {
        let first = self.post(key, Some(id), url, None).await?;
        let mut chains = Vec::new();
        for other in alternates(first.headers()).take(ALTERNATES_MAX) {
            let answer = self.post(key, Some(id), &other, None).await?;
            chains.push(String::from_utf8_lossy(answer.body()).into_owned());
        }
        Ok(chains)
    }

    /// A request that is signed, again with another nonce while the CA refuses them (RFC 8555 §6.5).
    async fn post(
        &self,
        key: &Key,
        id: Option<&str>,
        url: &str,
        payload: Option<&Value>,
    ) -> Result<Response<Bytes>, Error> {
        loop {
            let mut protected = json!({ "alg": "ES256", "nonce": self.nonce().await?, "url": url });
            if let Some(members) = protected.as_object_mut() {
                match id {
                    Some(id) => members.insert("kid".to_owned(), id.into()),
                    None => members.insert("jwk".to_owned(), key.jwk()),
                };
            }
            let body = key.signed(&protected, payload)?;
            let request = Request::post(url)
                .header(header::CONTENT_TYPE, "application/jose+json")
                .body(BodyWrapper::from(body.to_string().into_bytes()))?;
            let answer = self.client.exchanged(request).await?;
            if answer.status().is_success() {
                return Ok(answer);
            }
            let mut problem: Problem = serde_json::from_slice(answer.body())?;
            if !is_bad_nonce(problem.r#type.as_deref(), problem.detail.as_deref()) {
                problem.status.get_or_insert(answer.status().as_u16());
                return Err(Error::Api(problem));
            }
        }
    }

    async fn nonce(&self) -> Result<String, Error> {
        let request = Request::builder().method(Method::HEAD).uri(&self.directory.new_nonce);
        let answer = self.client.exchanged(request.body(BodyWrapper::default())?).await?;
        let nonce = answer.headers().get("replay-nonce").map(HeaderValue::to_str);
        let nonce = nonce.and_then(Result::ok).ok_or(Error::Str("no nonce in the CA's answer"))?;
        Ok(nonce.to_owned())
    }
}

/// Whether a problem is of this type.
pub(super) fn is_of(problem: &Problem, kind: &str) -> bool {
    problem.r#type.as_deref().is_some_and(|found| found.ends_with(&format!(":{kind}")))
}

/// The targets of `Link` fields with `rel="alternate"` (RFC 8288 §3).
fn alternates(fields: &HeaderMap) -> impl Iterator<Item = String> {
    let links = fields.get_all(header::LINK).into_iter().filter_map(|value| value.to_str().ok());
    links.flat_map(|line| line.split(',')).filter_map(|link| {
        let (target, parameters) = link.split_once('>')?;
        let target = target.trim().strip_prefix('<')?;
        let is_alternate = |parameter: &str| {
            let (name, value) = parameter.split_once('=').unwrap_or_default();
            name.trim().eq_ignore_ascii_case("rel")
                && value.trim().trim_matches('"').eq_ignore_ascii_case("alternate")
        };
        parameters.split(';').any(is_alternate).then(|| target.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binding_key_is_read_as_cas_write_it() {
        for text in ["zWNDZM6eQGHWpSRT", "zWNDZM6eQGHWpSRT\n", " zWNDZM6eQGHWpSRT "] {
            assert_eq!(binding_key(text).unwrap().len(), 12, "{text:?}");
        }
        assert_eq!(binding_key("-_-_"), binding_key("+/+/"));
        assert_eq!(binding_key("YQ=="), Some(b"a".to_vec()));
        for bad in ["", "\n", "not base64!", "===="] {
            assert_eq!(binding_key(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn only_alternate_links_are_followed() {
        let mut fields = HeaderMap::new();
        let mut add = |value: &'static str| fields.append(header::LINK, HeaderValue::from_static(value));
        add("<https://ca/dir>;rel=\"index\"");
        add("<https://ca/cert/1/1>;rel=\"alternate\"");
        add("<https://ca/up>; rel=up, <https://ca/cert/1/2>; title=x; REL=alternate");
        add("https://ca/none; rel=alternate");
        add("<https://ca/none");
        assert_eq!(alternates(&fields).collect::<Vec<_>>(), ["https://ca/cert/1/1", "https://ca/cert/1/2"]);
    }

    /// RFC 7638 needs the members in order and without blanks: serde_json sorts them.
    #[test]
    fn the_thumbprint_is_the_crates_own() {
        let (other, pkcs8) = instant_acme::Key::generate_pkcs8().unwrap();
        drop(other);
        let key = Key::new(pkcs8.secret_pkcs8_der()).unwrap();
        let text = key.jwk().to_string();
        assert!(
            text.starts_with("{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"") && text.contains("\",\"y\":\""),
            "{text}"
        );
        assert_eq!(key.thumbprint().len(), 43);
        assert!(Key::new(b"x").is_err());
    }
}
