//! From the words of the command line to what is looked at: URLs, bundles and sanedge.toml files to hosts.

use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper::Uri;
use rustls_pki_types::CertificateDer;

use super::check::{Finding, Kind, Section};
use super::explain::{Code, Group};
use super::managed::Managed;
use super::options::Options;
use crate::bundle::commands::{apply_command, reload_command};
use crate::bundle::compile::{self, shell_word};
use crate::bundle::file::ReadError;
use crate::bundle::finding::{self, Severity};
use crate::bundle::open::OpenError;
use crate::bundle::{Admin, Bundle, Redirect, Upstream, acme, pem, source, wire};
use crate::excerpt::Excerpt;
use crate::names::Host;
use crate::route;

/// Default path of Socket.IO.
pub(super) const DEFAULT_PATH: &str = "/socket.io/";
/// What is said to a name that is not ASCII.
const IDN: &str = "expected a host name in its ASCII form, as DNS and the certificate have it (`xn--...`; Python prints it: python3 -c 'print(input().encode(\"idna\").decode())')";
/// Where `--from-config` looks.
const CONFIGS: [&str; 2] = ["sanedge.toml", "/etc/sanedge/sanedge.toml"];

/// One host to look at.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) tls: bool,
    pub(super) host: Host,
    pub(super) port: u16,
    /// Engine.IO's path, with a slash at both ends.
    pub(super) path: String,
    /// The same at the app, where a route strips its prefix.
    pub(super) stripped_path: Option<String>,
    /// The user's own part of the query.
    pub(super) query: Vec<(String, String)>,
    /// The certificate that the bundle has for this host.
    pub(super) expected: Option<CertificateDer<'static>>,
    /// By the bundle, it waits for its first certificate.
    pub(super) pending: bool,
    pub(super) upstreams: Vec<Upstream>,
    /// Where the host redirects to by that file, in place of an app.
    pub(super) redirect: Option<Redirect>,
    /// The edge of this host should run on this machine, by the file that names it.
    pub(super) here: bool,
    /// The port that should lead to https.
    pub(super) http_port: Option<u16>,
    /// The file that says all this.
    pub(super) named: Named,
}

/// What remedies call the files of an edge of ours, and how it is told to open its bundle again.
#[derive(Clone, Debug)]
pub(super) struct Named {
    /// Where `expected` is from, in the middle of a sentence.
    pub(super) expected_in: String,
    /// The sanedge.toml, as a word for a shell.
    pub(super) config: String,
    /// Puts that file to use.
    pub(super) apply: String,
    /// Gets `expected` served.
    pub(super) load: String,
    /// What `sanedge renew` is given, as a word for a shell.
    pub(super) acme: String,
    /// What it does.
    pub(super) managed: Option<Arc<Managed>>,
}

impl Default for Named {
    fn default() -> Self {
        let config = Path::new("sanedge.toml");
        Self {
            expected_in: "the bundle".to_owned(),
            config: word(config),
            apply: apply_command(config),
            load: reload_command(None),
            acme: plan(config),
            managed: None,
        }
    }
}

impl Named {
    /// By a bundle.
    fn bundle(path: &Path, admin: Option<&Admin>) -> Self {
        Self {
            expected_in: format!("`{}`", Excerpt::of_path(path)),
            load: reload_command(admin),
            acme: plan(path),
            managed: Managed::beside(path).map(Arc::new),
            ..Self::default()
        }
    }

    /// By a sanedge.toml, which the edge serves only once it is a bundle.
    fn config(path: &Path) -> Self {
        Self {
            expected_in: format!("a bundle made of `{}` now", Excerpt::of_path(path)),
            config: word(path),
            apply: apply_command(path),
            load: apply_command(path),
            acme: plan(path),
            managed: Managed::beside(path).map(Arc::new),
        }
    }
}

/// What `sanedge renew` is given for the bundle or sanedge.toml at `path`.
fn plan(path: &Path) -> String {
    word(&acme::Plan::beside(path))
}

/// Everything that will be looked at.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) targets: Vec<Target>,
    /// About the files that named the targets.
    pub(super) files: Vec<Section>,
    /// Roots beside Mozilla's.
    pub(super) trust: Vec<CertificateDer<'static>>,
    /// Listeners of an edge that should run on this machine.
    pub(super) listens: Vec<SocketAddr>,
    /// Most sessions of that edge.
    pub(super) sessions_max: Option<u64>,
}

impl Target {
    /// `https://host`, with the port where it is not the usual one.
    pub(super) fn url(&self) -> String {
        let (scheme, usual) = if self.tls { ("https", 443) } else { ("http", 80) };
        if self.port == usual {
            format!("{scheme}://{}", self.host.uri_host())
        } else {
            format!("{scheme}://{}:{}", self.host.uri_host(), self.port)
        }
    }

    /// `Host` of requests.
    pub(super) fn authority(&self) -> String {
        self.url().split_once("://").map(|(_, rest)| rest.to_owned()).unwrap_or_default()
    }
}

impl Plan {
    /// Reads what the options name.
    ///
    /// # Errors
    /// A sentence about the usage: exit code 2.
    pub(super) fn of(options: &Options, now: i64) -> Result<Self, String> {
        let mut plan = Self::default();
        if let Some(path) = &options.ca {
            plan.trust = roots(path)?;
        }
        for name in &named(options)? {
            match name.split_once("://") {
                Some(_) => plan.targets.push(url(name, options)?),
                None => plan.file(Path::new(name), options, now)?,
            }
        }
        plan.trust_local();
        if plan.sees_nothing() && options.upstream.is_empty() {
            return Err(
                "this user may not read the bundle, and there is no sanedge.toml beside it: nothing can be checked. Run the same command with sudo, or give https://HOST"
                    .to_owned(),
            );
        }
        Ok(plan)
    }

    /// Trusts the local CA that a file names: what it issues is judged as on a device that has been told.
    fn trust_local(&mut self) {
        let managed =
            self.targets.iter().filter_map(|target| Some((target.named.managed.as_ref()?, &target.host)));
        let mut files: Vec<PathBuf> = managed
            .filter_map(|(managed, host)| Some(managed.local(host)?.folder.join(acme::local::ROOT)))
            .collect();
        files.dedup();
        self.trust.extend(files.iter().flat_map(|file| roots(file).unwrap_or_default()));
    }

    /// Nothing is left to look at, and nothing wrong was found either: that is not health.
    fn sees_nothing(&self) -> bool {
        let mut findings = self.files.iter().flat_map(Section::findings);
        self.targets.is_empty() && findings.all(|finding| finding.code == Code::BundleUnreadable)
    }

    fn file(&mut self, path: &Path, options: &Options, now: i64) -> Result<(), String> {
        let mut magic = [0; wire::MAGIC.len()];
        let begins = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic));
        let denied = matches!(&begins, Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied);
        if matches!(&begins, Err(error) if error.kind() == std::io::ErrorKind::NotFound) {
            return Err(no_file(&path.to_string_lossy()));
        }
        if path.is_dir() {
            let file = path.join("sanedge.toml");
            let shown = Excerpt::of_path(path);
            return Err(format!("`{shown}` is a folder: give a file in it, such as {}", word(&file)));
        }
        let is_bundle = magic == wire::MAGIC || denied || path.extension().is_some_and(|end| end == "bundle");
        let mut section =
            Section::new(Kind::File, Excerpt::of_path(path).to_string(), vec![("file", word(path))]);
        if is_bundle {
            self.bundle(path, options, &mut section);
        } else {
            self.config(path, options, now, &mut section);
        }
        self.files.push(section);
        Ok(())
    }

    fn bundle(&mut self, path: &Path, options: &Options, section: &mut Section) {
        match Bundle::open(path) {
            Ok(bundle) => {
                section.passed(
                    Group::Files,
                    format!("bundle for {}", hosts(bundle.hosts.len() + bundle.pending.len())),
                );
                let beside = path.with_extension("toml");
                if let (Some(source), _) = source::read(&beside) {
                    section.word("apply", apply_command(&beside));
                    stale(&beside, &source, section);
                }
                self.hosts_of(&bundle, Named::bundle(path, bundle.listen.admin.as_ref()), options);
            }
            Err(OpenError::File(ReadError::Denied { .. })) => {
                let message =
                    "this user may not read the bundle, which is right: hosts are taken from elsewhere";
                section.found(Finding::new(Code::BundleUnreadable, message));
                let beside = path.with_extension("toml");
                let before = self.targets.len();
                self.hosts_of_source(&beside, options);
                if self.targets.len() == before {
                    section.skipped(
                        Group::Files,
                        "no sanedge.toml of its name beside it: give https://HOST, or run the same command with sudo",
                    );
                }
            }
            Err(error) => section.found(Finding::new(Code::BundleRefused, error.to_string())),
        }
    }

    fn config(&mut self, path: &Path, options: &Options, now: i64, section: &mut Section) {
        let outcome = compile::compile(path, now);
        let (source, _) = source::read(path);
        if let Some(trust) = source.as_ref().and_then(|source| source.trust.as_ref()) {
            self.trust.extend(roots(&trust.value.path).unwrap_or_default());
        }
        let errors: Vec<_> = outcome.findings.iter().filter(|f| f.severity() == Severity::Error).collect();
        let closed = |f: &&finding::Finding| f.code == finding::Code::FileUnreadable;
        match errors.iter().find(|finding| !closed(finding)) {
            Some(first) => section.found(config_errors(first, &errors)),
            None if !errors.is_empty() => {
                let message = "this user may not read every file that sanedge.toml names; hosts are checked without them";
                section.found(Finding::new(Code::BundleUnreadable, message));
            }
            None => {
                section.passed(Group::Files, format!("sanedge.toml is right, {}", hosts(outcome.hosts.len())))
            }
        }
        for finding in &outcome.findings {
            if finding.code == finding::Code::KeyReadable {
                section
                    .found(Finding::new(Code::KeyReadable, &finding.message).seen("found", &finding.found));
            }
        }
        if let Some(source) = &source {
            section.word("apply", apply_command(path));
            stale(path, source, section);
        }
        match outcome.bundle.and_then(|bytes| Bundle::decode(bytes).ok()) {
            Some(bundle) => {
                self.hosts_of(&bundle, Named::config(path), options);
            }
            None => self.hosts_of_source(path, options),
        }
    }

    fn hosts_of(&mut self, bundle: &Bundle, named: Named, options: &Options) {
        let path = options.path.as_deref().unwrap_or(DEFAULT_PATH);
        self.listens.extend(bundle.listen.https.iter().chain(&bundle.listen.http));
        self.sessions_max = Some(u64::from(bundle.limits.sessions_max));
        let served = bundle.hosts.iter().map(|entry| (&entry.host, entry.site, Some(entry.certificate)));
        let pending = bundle.pending.iter().map(|entry| (&entry.host, entry.site, None));
        for (host, site, certificate) in served.chain(pending) {
            let site = bundle.sites.get(usize::from(site));
            let routed = site.and_then(|site| route::find(site, path.as_bytes()).ok().flatten());
            let upstreams = routed.map(|(_, route)| route.upstreams.clone()).unwrap_or_default();
            let stripped_path = routed.filter(|(_, route)| route.strip_prefix).and_then(|(_, route)| {
                let bytes = route::stripped(route, path.as_bytes()).ok()?;
                Some(format!("/{}", path.get(bytes..)?.trim_start_matches('/')))
            });
            let pending = certificate.is_none();
            let certificate = certificate.and_then(|at| bundle.certificates.get(usize::from(at)));
            let expected = certificate.and_then(|certificate| certificate.key.cert.first().cloned());
            let port = bundle.listen.public_https_port;
            let http = bundle.listen.http.first().map(SocketAddr::port);
            let plain = plain(host, port, http, options);
            self.targets.push(Target {
                expected,
                pending,
                upstreams,
                redirect: site.and_then(|site| site.redirect.clone()),
                stripped_path,
                here: true,
                named: named.clone(),
                ..plain
            });
        }
    }

    /// Without keys and certificates: hosts and upstreams only.
    fn hosts_of_source(&mut self, path: &Path, options: &Options) {
        let (Some(source), _) = source::read(path) else { return };
        let wanted = options.path.as_deref().unwrap_or(DEFAULT_PATH);
        let listens = source.listen.https.iter().chain(&source.listen.http);
        self.listens.extend(listens.map(|address| address.value));
        let http = source.listen.http.first().map(|address| address.value.port());
        let named = Named::config(path);
        for site in &source.sites {
            let covers = |route: &&source::Route| wanted.starts_with(route.path.as_str());
            let route = site.routes.iter().filter(covers).max_by_key(|route| route.path.len());
            let upstreams: Vec<Upstream> = route
                .map(|route| route.upstreams.iter().map(|u| u.value.clone()).collect())
                .unwrap_or_default();
            for host in &site.hosts {
                let plain = plain(&host.value, source.listen.public_https_port, http, options);
                let named = named.clone();
                let (upstreams, redirect) =
                    (upstreams.clone(), site.redirect.as_ref().map(|to| to.value.clone()));
                self.targets.push(Target { upstreams, redirect, here: true, named, ..plain });
            }
        }
    }
}

fn hosts(count: usize) -> String {
    format!("{count} host{}", if count == 1 { "" } else { "s" })
}

fn config_errors(first: &finding::Finding, errors: &[&finding::Finding]) -> Finding {
    let more = match errors.len() {
        1 => String::new(),
        count => format!(" (and {} more)", count - 1),
    };
    let file = first.place.file.as_ref().map(|file| Excerpt::of_path(file).to_string()).unwrap_or_default();
    let place = first.place.line.map_or(file.clone(), |line| format!("{file}:{line}"));
    let codes: Vec<&str> = errors.iter().map(|finding| finding.code.as_str()).collect();
    Finding::new(Code::ConfigErrors, format!("{}{more}", first.message))
        .seen("at", place)
        .seen("expected", &first.expected)
        .seen("found", &first.found)
        .seen("remedy", &first.remedy)
        .seen("codes", codes.join(", "))
}

fn stale(path: &Path, source: &source::Source, section: &mut Section) {
    let changed = |path: &Path| std::fs::metadata(path).and_then(|about| about.modified()).ok();
    let bundle = path.with_extension("bundle");
    let shown = Excerpt::of_derived(&bundle, path);
    let Some(written) = changed(&bundle) else {
        let text = format!(
            "there is no `{shown}` to compare its age with; name the bundle that is served to check it as well"
        );
        return section.skipped(Group::Files, text);
    };
    let files = source.certificates.iter().flat_map(|files| [&files.chain.value.path, &files.key.value.path]);
    let newer = |file: &&Path| changed(file).is_some_and(|changed| changed > written);
    let files = files.map(PathBuf::as_path);
    let newest =
        std::iter::once(path).chain(files).find(newer).map(|file| Excerpt::of_path(file).to_string());
    match newest {
        Some(file) => {
            let message = format!("`{file}` is newer than the bundle `{shown}`: write the bundle again");
            section.found(Finding::new(Code::BundleStale, message).word("file", word(path)));
        }
        None => section.passed(Group::Files, format!("the bundle `{shown}` is newer than its sources")),
    }
}

fn plain(host: &Host, port: u16, http_port: Option<u16>, options: &Options) -> Target {
    Target {
        tls: true,
        host: host.clone(),
        port,
        path: options.path.clone().unwrap_or_else(|| DEFAULT_PATH.to_owned()),
        stripped_path: None,
        query: options.query.clone(),
        expected: None,
        pending: false,
        here: false,
        upstreams: options.upstream.clone(),
        redirect: None,
        http_port: http_port.filter(|port| *port != 0),
        named: Named::default(),
    }
}

/// The targets, or the configuration where none is named.
fn named(options: &Options) -> Result<Vec<String>, String> {
    let mut names = options.targets.clone();
    if options.from_config || names.is_empty() {
        let found = CONFIGS.iter().find(|path| Path::new(path).is_file());
        match found {
            Some(path) => names.push((*path).to_owned()),
            None if names.is_empty() => {
                return Err("expected a URL, a bundle or a sanedge.toml to check:\n  sanedge doctor https://socket.recre.store".to_owned());
            }
            None => return Err(format!("there is neither {} nor {}", CONFIGS[0], CONFIGS[1])),
        }
    }
    Ok(names)
}

fn url(text: &str, options: &Options) -> Result<Target, String> {
    let wrong = |why: &str| format!("`{}`: {why}", Excerpt::of(text));
    let authority =
        text.split_once("://").map_or(text, |(_, rest)| rest.split(['/', '?', '#']).next().unwrap_or(rest));
    if !authority.is_ascii() {
        return Err(wrong(IDN));
    }
    let uri: Uri = text.parse().map_err(|_| {
        wrong("expected a URL such as https://socket.recre.store, without spaces and with each `[` of an IPv6 address closed")
    })?;
    let tls = match uri.scheme_str() {
        Some("https" | "wss") => true,
        Some("http" | "ws") => false,
        _ => return Err(wrong("expected https:// or wss:// in front")),
    };
    let authority = uri.authority().map(|a| a.as_str()).unwrap_or_default();
    if authority.contains('@') {
        return Err(wrong("expected no user and password in front of the host"));
    }
    let (host, port) = Host::parse_authority(authority).map_err(|error| wrong(&error.to_string()))?;
    let usual = if tls { 443 } else { 80 };
    let port = port.unwrap_or(usual);
    let pairs = pairs(uri.query().unwrap_or_default());
    let is_engineio =
        uri.path().trim_end_matches('/').ends_with("socket.io") || pairs.iter().any(|(key, _)| key == "EIO");
    let mut target = plain(&host, port, (tls && port == 443).then_some(80), options);
    target.tls = tls;
    match uri.path() {
        "/" | "" => {}
        path if is_engineio => {
            target.path = options.path.clone().unwrap_or_else(|| format!("{}/", path.trim_end_matches('/')));
        }
        path => {
            let path = Excerpt::of(path);
            return Err(wrong(&format!(
                "clients read `{path}` after the host as a namespace. Give `--namespace {path}` to connect to it, or `--path {path}` if it is the path of Socket.IO"
            )));
        }
    }
    // The protocol's own words are ours to choose.
    let own = pairs
        .into_iter()
        .filter(|(key, _)| !matches!(key.as_str(), "EIO" | "transport" | "sid" | "t" | "b64"));
    target.query = own.chain(std::mem::take(&mut target.query)).collect();
    Ok(target)
}

/// A word that is neither an URL nor a file: what was meant?
fn no_file(text: &str) -> String {
    let authority = match text.parse::<std::net::Ipv6Addr>() {
        Ok(address) => format!("[{address}]"),
        Err(_) => text.trim_end_matches('/').to_owned(),
    };
    let shown = Excerpt::of_path(Path::new(text));
    let other = "give a bundle, a sanedge.toml, or a URL such as https://socket.recre.store";
    match Host::parse_authority(&authority) {
        Ok((Host::Dns(name), _)) if !name.as_str().contains('.') && name.as_str() != "localhost" => {
            format!("there is no file `{shown}`: {other}")
        }
        Ok(_) => {
            format!("`{shown}` is not a file; if it is a host, type:\n  sanedge doctor https://{authority}")
        }
        Err(_) if !text.is_ascii() && !text.contains(['/', ' ']) => format!("`{shown}` is not a file; {IDN}"),
        Err(_) => format!("there is no file `{shown}`: {other}"),
    }
}

/// `a=b&c=d`, as it stands: still escaped.
fn pairs(query: &str) -> Vec<(String, String)> {
    let one = |pair: &str| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key.to_owned(), value.to_owned())
    };
    query.split('&').filter(|pair| !pair.is_empty()).map(one).collect()
}

fn roots(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let wrong = |why: String| {
        format!("`{}`: expected a PEM file with root certificates ({why})", Excerpt::of_path(path))
    };
    let bytes =
        source::read_bounded(path, compile::PEM_BYTES_MAX).map_err(|error| wrong(error.to_string()))?;
    let sections = pem::read(&bytes).map_err(|error| wrong(error.to_string()))?;
    let found: Vec<_> = sections
        .into_iter()
        .filter(|section| matches!(section.kind, pem::Kind::Certificate | pem::Kind::TrustedCertificate))
        .map(|mut section| CertificateDer::from(std::mem::take(&mut *section.der)))
        .collect();
    if found.is_empty() { Err(wrong("it has none".to_owned())) } else { Ok(found) }
}

fn word(path: &Path) -> String {
    shell_word(&Excerpt::of_path(path))
}
