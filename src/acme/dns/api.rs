//! Providers with an HTTPS interface of their own: acme-dns, Cloudflare, deSEC and DuckDNS.

use std::path::{Path, PathBuf};

use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::credentials::{self, Checked, bad};
use super::error::DnsError;
use super::lookup::{self, Lookup, TTL_S};
use crate::acme::fetch::Client;
use crate::acme::state::TxtRecord;
use crate::bundle::acme::Provider;
use crate::bundle::file::word;
use crate::excerpt::{Excerpt, may_hold_key};
use crate::toml_file::{Keys, Wrong};

/// The shortest one that deSEC accepts.
const DESEC_TTL_S: u32 = 3600;
/// Replaces a value at an acme-dns server, which cannot remove one and accepts 43 characters only.
const ACME_DNS_NOTHING: &str = "___________________________________________";
/// Values that an acme-dns server stores for an account.
const ACME_DNS_VALUES: usize = 2;
/// Longest part of an answer that is shown, in words.
const SAID_WORDS_MAX: usize = 20;

struct AcmeDns {
    url: String,
    username: String,
    password: Zeroizing<String>,
    subdomain: String,
    /// The name whose TXT record the account changes; only `sanedge account dns-records` needs it.
    fulldomain: Option<String>,
    trust: Option<PathBuf>,
}

/// The name whose TXT record an account of acme-dns changes.
pub(super) fn acme_dns_name(file: &Path) -> Result<Option<String>, DnsError> {
    let (read, _) = credentials::read::<AcmeDns>(file)?;
    let Some(full) = read.fulldomain else { return Ok(None) };
    let name = lookup::name(&full).filter(|_| !may_hold_key(&full));
    let is_of = |name: &lookup::Name| lookup::text(name).starts_with(&format!("{}.", read.subdomain));
    let name =
        name.filter(is_of).ok_or_else(|| bad(file, "fulldomain", "`subdomain` and the server's domain"))?;
    Ok(Some(lookup::text(&name)))
}

impl Checked for AcmeDns {
    const EXAMPLE: &'static str = "url = \"https://auth.acme-dns.io\", and username, password and subdomain, as the registration there gave them";

    fn of(keys: &mut Keys<'_>) -> Result<Self, Wrong> {
        Ok(Self {
            url: keys.text("url")?.to_owned(),
            username: keys.text("username")?.to_owned(),
            password: Zeroizing::new(keys.text("password")?.to_owned()),
            subdomain: keys.text("subdomain")?.to_owned(),
            fulldomain: keys.text_if("fulldomain")?.map(str::to_owned),
            trust: keys.text_if("trust")?.map(PathBuf::from),
        })
    }
}

struct Token {
    token: Zeroizing<String>,
    /// Base URL of the interface, if it is not the provider's own: a proxy, or a server for tests.
    url: Option<String>,
    trust: Option<PathBuf>,
}

impl Checked for Token {
    const EXAMPLE: &'static str = "token = \"…\", as the provider's web site gave it";

    fn of(keys: &mut Keys<'_>) -> Result<Self, Wrong> {
        Ok(Self {
            token: Zeroizing::new(keys.text("token")?.to_owned()),
            url: keys.text_if("url")?.map(str::to_owned),
            trust: keys.text_if("trust")?.map(PathBuf::from),
        })
    }
}

/// One provider.
pub(super) struct Api {
    provider: Provider,
    client: Client,
    /// Without the last slash.
    url: String,
    /// The password for acme-dns, the token for the others.
    secret: Zeroizing<String>,
    /// For acme-dns: user name and subdomain.
    account: (String, String),
}

/// The answer to a call: its status and the JSON of its body.
struct Answer {
    status: u16,
    json: Value,
    text: String,
}

impl Api {
    /// Reads the credentials.
    pub(super) fn open(provider: Provider, file: &Path) -> Result<Self, DnsError> {
        let (url, secret, account, trust) = if provider == Provider::AcmeDns {
            let (read, _) = credentials::read::<AcmeDns>(file)?;
            (read.url, read.password, (read.username, read.subdomain), read.trust)
        } else {
            let (read, _) = credentials::read::<Token>(file)?;
            let usual = match provider {
                Provider::Cloudflare => "https://api.cloudflare.com/client/v4",
                Provider::Desec => "https://desec.io/api/v1",
                _ => "https://www.duckdns.org",
            };
            (read.url.unwrap_or_else(|| usual.to_owned()), read.token, <_>::default(), read.trust)
        };
        if !url.starts_with("https://") {
            return Err(bad(file, "url", "an https URL: the credentials go there"));
        }
        let fits_a_field = |text: &str| HeaderValue::from_str(text).is_ok() && !text.is_empty();
        if !fits_a_field(&secret) || !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
            let key = if provider == Provider::AcmeDns { "password" } else { "token" };
            return Err(bad(file, key, "letters, digits and signs without blanks"));
        }
        if provider == Provider::AcmeDns && !fits_a_field(&account.0) {
            return Err(bad(file, "username", "what the registration gave"));
        }
        let client = Client::new(trust.as_deref())
            .map_err(|error| DnsError::Credentials(format!("{}: `trust`: {error}", word(file))))?;
        Ok(Self { provider, client, url: url.trim_end_matches('/').to_owned(), secret, account })
    }

    /// Whether the provider stores only one value for a name. DuckDNS has one for a whole domain.
    pub(super) fn holds_one(&self) -> bool {
        self.provider == Provider::Duckdns
    }

    pub(super) async fn add(&self, lookup: &Lookup, record: &TxtRecord) -> Result<(), DnsError> {
        match self.provider {
            Provider::AcmeDns => self.acme_dns(&record.value).await,
            Provider::Cloudflare => self.add_at_cloudflare(lookup, record).await,
            Provider::Desec => {
                self.change_at_desec(record, |values| {
                    if !values.contains(&record.value) {
                        values.push(record.value.clone());
                    }
                })
                .await
            }
            _ => self.duckdns(record, false).await,
        }
    }

    pub(super) async fn remove(&self, lookup: &Lookup, record: &TxtRecord) -> Result<(), DnsError> {
        match self.provider {
            Provider::AcmeDns => {
                for _ in 0..ACME_DNS_VALUES {
                    self.acme_dns(ACME_DNS_NOTHING).await?;
                }
                Ok(())
            }
            Provider::Cloudflare => self.remove_at_cloudflare(lookup, record).await,
            Provider::Desec => {
                self.change_at_desec(record, |values| values.retain(|value| *value != record.value)).await
            }
            _ => self.duckdns(record, true).await,
        }
    }

    /// <https://github.com/joohoi/acme-dns#update-endpoint>
    async fn acme_dns(&self, value: &str) -> Result<(), DnsError> {
        let (user, subdomain) = &self.account;
        let request = Request::post(format!("{}/update", self.url))
            .header("X-Api-User", user)
            .header("X-Api-Key", self.secret.as_str());
        let answer = self.call(request, Some(json!({ "subdomain": subdomain, "txt": value }))).await?;
        if answer.is_success() { Ok(()) } else { Err(self.refused(&answer)) }
    }

    /// <https://developers.cloudflare.com/api/resources/dns/subresources/records/>
    async fn add_at_cloudflare(&self, lookup: &Lookup, record: &TxtRecord) -> Result<(), DnsError> {
        /// "An identical record already exists."
        const IDENTICAL: u64 = 81058;
        let records = self.cloudflare_records(lookup, record).await?;
        let content = format!("\"{}\"", record.value);
        let body = json!({ "type": "TXT", "name": record.name, "content": content, "ttl": TTL_S });
        let answer = self.call(self.bearer(Method::POST, &records), Some(body)).await?;
        let codes = answer.json.pointer("/errors").and_then(Value::as_array).into_iter().flatten();
        let is_there = codes.filter_map(|error| error.get("code")?.as_u64()).any(|code| code == IDENTICAL);
        if answer.is_success() || is_there { Ok(()) } else { Err(self.refused(&answer)) }
    }

    async fn remove_at_cloudflare(&self, lookup: &Lookup, record: &TxtRecord) -> Result<(), DnsError> {
        let records = self.cloudflare_records(lookup, record).await?;
        let listed = format!("{records}?type=TXT&name={}", record.name);
        let answer = self.call(self.bearer(Method::GET, &listed), None).await?;
        if !answer.is_success() {
            return Err(self.refused(&answer));
        }
        let found = answer.json.get("result").and_then(Value::as_array).into_iter().flatten();
        for one in found {
            let text = |key: &str| one.get(key).and_then(Value::as_str).unwrap_or_default();
            if text("content").trim_matches('"') == record.value && is_id(text("id")) {
                let one = format!("{records}/{}", text("id"));
                let answer = self.call(self.bearer(Method::DELETE, &one), None).await?;
                if !answer.is_success() && answer.status != 404 {
                    return Err(self.refused(&answer));
                }
            }
        }
        Ok(())
    }

    /// The URL of the records of the zone that the record is in.
    async fn cloudflare_records(&self, lookup: &Lookup, record: &TxtRecord) -> Result<String, DnsError> {
        let name = lookup::name(&record.name).ok_or_else(|| DnsError::Failed("no name".to_owned()))?;
        let zone = lookup::text(&lookup.zone_of(&name).await?);
        let listed = format!("{}/zones?name={zone}", self.url);
        let answer = self.call(self.bearer(Method::GET, &listed), None).await?;
        if !answer.is_success() {
            return Err(self.refused(&answer));
        }
        match answer.json.pointer("/result/0/id").and_then(Value::as_str).filter(|id| is_id(id)) {
            Some(id) => Ok(format!("{}/zones/{id}/dns_records", self.url)),
            None => Err(DnsError::NoZone(format!(
                "the token sees no zone {zone} at Cloudflare; it needs Zone / Zone / Read and Zone / DNS / Edit for it"
            ))),
        }
    }

    /// <https://desec.readthedocs.io/en/latest/dns/rrsets.html>: the values of a name are replaced together.
    async fn change_at_desec(
        &self,
        record: &TxtRecord,
        change: impl Fn(&mut Vec<String>),
    ) -> Result<(), DnsError> {
        let listed = format!("{}/domains/?owns_qname={}", self.url, record.name);
        let answer = self.call(self.bearer(Method::GET, &listed), None).await?;
        if !answer.is_success() {
            return Err(self.refused(&answer));
        }
        let zone = answer.json.pointer("/0/name").and_then(Value::as_str).filter(|zone| is_id(zone));
        let Some(zone) = zone else {
            let name = &record.name;
            return Err(DnsError::NoZone(format!("the account at deSEC has no domain that contains {name}")));
        };
        let sub = record.name.strip_suffix(zone).unwrap_or_default().trim_end_matches('.');
        let sets = format!("{}/domains/{zone}/rrsets/", self.url);
        let one = format!("{sets}{}/TXT/", if sub.is_empty() { "@" } else { sub });
        let answer = self.call(self.bearer(Method::GET, &one), None).await?;
        if !answer.is_success() && answer.status != 404 {
            return Err(self.refused(&answer));
        }
        let values = answer.json.get("records").and_then(Value::as_array).into_iter().flatten();
        let values = values.filter_map(|value| Some(value.as_str()?.trim_matches('"').to_owned()));
        let before: Vec<String> = values.collect();
        let mut after = before.clone();
        change(&mut after);
        if before == after {
            return Ok(());
        }
        let quoted: Vec<String> = after.iter().map(|value| format!("\"{value}\"")).collect();
        let set = json!([{ "subname": sub, "type": "TXT", "ttl": DESEC_TTL_S, "records": quoted }]);
        let answer = self.call(self.bearer(Method::PUT, &sets), Some(set)).await?;
        if answer.is_success() { Ok(()) } else { Err(self.refused(&answer)) }
    }

    /// <https://www.duckdns.org/spec.jsp>: the answer is `OK` or `KO`, whatever is wrong.
    async fn duckdns(&self, record: &TxtRecord, clear: bool) -> Result<(), DnsError> {
        let domain = record.name.strip_suffix(".duckdns.org").and_then(|name| name.rsplit('.').next());
        let Some(domain) = domain else {
            return Err(DnsError::NoZone(format!("{} is not a name under duckdns.org", record.name)));
        };
        let (value, clear) = if clear { ("", "&clear=true") } else { (record.value.as_str(), "") };
        let url = format!(
            "{}/update?domains={domain}&token={}&txt={value}{clear}",
            self.url,
            encoded(&self.secret)
        );
        let url = Zeroizing::new(url);
        let answer = self.call(Request::get(url.as_str()), None).await?;
        match answer.text.trim() {
            "OK" => Ok(()),
            "KO" => Err(DnsError::Refused(format!(
                "DuckDNS refuses the token, or {domain}.duckdns.org is not of this account"
            ))),
            _ => Err(self.refused(&answer)),
        }
    }

    fn bearer(&self, method: Method, url: &str) -> hyper::http::request::Builder {
        let scheme = if self.provider == Provider::Desec { "Token" } else { "Bearer" };
        Request::builder()
            .method(method)
            .uri(url)
            .header(AUTHORIZATION, format!("{scheme} {}", self.secret.as_str()))
    }

    async fn call(
        &self,
        request: hyper::http::request::Builder,
        body: Option<Value>,
    ) -> Result<Answer, DnsError> {
        let request = match &body {
            Some(body) => {
                request.header(CONTENT_TYPE, "application/json").body(body.to_string().into_bytes())
            }
            None => request.body(Vec::new()),
        };
        let request = request.map_err(|_| DnsError::Failed(format!("{}: no request", self.name())))?;
        let (status, body) =
            self.client.call(request).await.map_err(|trouble| DnsError::Failed(trouble.to_string()))?;
        let json = serde_json::from_slice(&body).unwrap_or_default();
        Ok(Answer { status, json, text: String::from_utf8_lossy(&body).into_owned() })
    }

    /// Credentials that are refused, a limit, or a fault of the provider. What it says is shown, less the secret.
    fn refused(&self, answer: &Answer) -> DnsError {
        let words: Vec<&str> = answer.text.split_whitespace().take(SAID_WORDS_MAX).collect();
        let said = words.join(" ").replace(self.secret.as_str(), "…");
        let found = format!("{} answered {}: {}", self.name(), answer.status, Excerpt::of(&said));
        match answer.status {
            400 | 401 | 403 => DnsError::Refused(found),
            404 => DnsError::NoZone(found),
            _ => DnsError::Failed(found),
        }
    }

    fn name(&self) -> String {
        match self.provider {
            Provider::Cloudflare => "Cloudflare".to_owned(),
            Provider::Desec => "deSEC".to_owned(),
            Provider::Duckdns => "DuckDNS".to_owned(),
            _ => format!("the acme-dns server {}", lookup::shown(&self.url)),
        }
    }
}

impl Answer {
    fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// What may become part of a path.
fn is_id(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !text.is_empty() && text.len() <= 253 && text.bytes().all(allowed)
}

/// For a query (RFC 3986 §3.4).
fn encoded(text: &str) -> String {
    let one = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(one).collect()
}
