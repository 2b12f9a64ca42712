//! Edits sanedge.toml for setup: comments and order stay, and new tables are added at the end.

use std::path::{Path, PathBuf};

use toml_edit::{DocumentMut, Item, Table, value};

use super::problem::{Code, Problem};
use crate::bundle::private::is_private_host;
use crate::bundle::source::{Site, Source, in_lf};
use crate::doctor::home_network::is_home;
use crate::names::Host;

/// What the file must contain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) host: Host,
    /// As in `upstream`.
    pub(crate) app: String,
    pub(crate) issuer: Issuer,
}

/// Where the certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Issuer {
    /// An existing certificate covers the host.
    Given,
    /// A CA, by ACME.
    Acme(Acme),
    /// The local CA.
    Local,
    /// Two PEM files.
    Files { chain: PathBuf, key: PathBuf },
}

/// Values for `[acme]`; `None`: the file's value, or the default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Acme {
    pub(crate) directory: Option<String>,
    pub(crate) trust: Option<PathBuf>,
    pub(crate) contact: Option<String>,
}

/// Let's Encrypt's CA for trials, as `directory` names it.
pub(crate) const STAGING: &str = "letsencrypt-staging";

/// A new file begins with this.
const HEAD: &str = "# Written by `sanedge setup`; it can be edited. /usr/share/doc/sanedge/docs/configuration.md describes all keys.

board = \"host\"                       # or the board it is for: rpi4, rpi-zero, ...

[listen]
https = [\"[::]:443\"]
http  = [\"[::]:80\"]                  # redirects to https, and answers the CA
";

/// The text of the file with what was missing. `before` is the existing text and what it parses to, if there is a file.
///
/// # Errors
/// If the host shares its site, setup cannot know which upstream and which CA the others need.
pub(crate) fn edited(
    before: Option<(&str, &Source)>,
    wish: &Wish,
    file: &str,
) -> Result<String, Box<Problem>> {
    let Some((text, source)) = before else {
        return Ok(format!(
            "{}{}{}",
            head(wish),
            issuer_table(wish),
            site_table(wish, local_key(None, wish))
        ));
    };
    let unusable = || {
        let message = format!("{file} is written in a way that setup cannot change");
        Problem::of(Code::FileUnusable, message, &[("file", file)])
    };
    in_lf(text, unusable(), |text| changed(text, source, wish, file, &unusable))
}

fn changed(
    text: &str,
    source: &Source,
    wish: &Wish,
    file: &str,
    unusable: &dyn Fn() -> Box<Problem>,
) -> Result<String, Box<Problem>> {
    let mut document: DocumentMut = text.parse().map_err(|_| unusable())?;
    let mut more = String::new();
    match &wish.issuer {
        Issuer::Given => {}
        Issuer::Acme(acme) if source.acme.is_some() => {
            let table = document.get_mut("acme").and_then(Item::as_table_like_mut).ok_or_else(unusable)?;
            for (key, text) in acme.keys() {
                set(table, key, &text);
            }
        }
        Issuer::Files { chain, key } if has_files(source, chain, key) => {}
        Issuer::Local if source.local.is_some() => {}
        Issuer::Acme(_) | Issuer::Files { .. } | Issuer::Local => more += &issuer_table(wish),
    }
    if source.listen.default_host.is_none()
        && let Some(default) = default_host(wish)
    {
        let table = document.entry("listen").or_insert_with(toml_edit::table);
        set(table.as_table_like_mut().ok_or_else(unusable)?, "default_host", &default);
    }
    let shared = || {
        let message = format!("{file} has `{}` in a site that setup does not change", wish.host);
        let words = [("host", &*wish.host.to_string()), ("upstream", &wish.app), ("file", file)];
        Problem::of(Code::SharedSite, message, &words)
    };
    let place = place(source, wish);
    let local = local_key(Some(source), wish);
    if let (Some((at, _)), Some(is_local)) = (site_of(source, &wish.host), local) {
        let alone = source.sites.get(at).is_some_and(|site| site.hosts.len() == 1);
        let site = site_at(&mut document, at).filter(|_| alone).ok_or_else(shared)?;
        site.insert("local", value(is_local));
    }
    match place {
        Place::Right => {}
        Place::Missing => more += &site_table(wish, local),
        Place::Shared => return Err(shared()),
        Place::Other(at) => {
            let site = site_at(&mut document, at).ok_or_else(unusable)?;
            change_upstream(site, &wish.app).ok_or_else(unusable)?;
        }
    }
    let text = document.to_string();
    let end = if text.is_empty() || text.ends_with('\n') || more.is_empty() { "" } else { "\n" };
    Ok(format!("{text}{end}{more}"))
}

impl Acme {
    fn keys(&self) -> Vec<(&'static str, String)> {
        let path = |path: &PathBuf| path.to_string_lossy().into_owned();
        let keys = [
            ("directory", self.directory.clone()),
            ("trust", self.trust.as_ref().map(path)),
            ("contact", self.contact.clone()),
        ];
        keys.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
    }
}

/// Where the file has the host.
enum Place {
    /// In a site with this app.
    Right,
    Missing,
    /// Alone in the site with this index, which has another app.
    Other(usize),
    /// In a site with other hosts, or with routes.
    Shared,
}

fn site_of<'s>(source: &'s Source, host: &Host) -> Option<(usize, &'s Site)> {
    let is_it = |site: &Site| site.hosts.iter().any(|one| one.value == *host);
    source.sites.iter().enumerate().find(|(_, site)| is_it(site))
}

fn site_at(document: &mut DocumentMut, at: usize) -> Option<&mut Table> {
    document.get_mut("site").and_then(Item::as_array_of_tables_mut)?.get_mut(at)
}

/// The value of `local` that the host's site needs; `None`: it needs no change.
fn local_key(source: Option<&Source>, wish: &Wish) -> Option<bool> {
    let wanted = match &wish.issuer {
        Issuer::Local => true,
        // Otherwise the local CA would issue for it.
        Issuer::Acme(_) if source.is_some_and(|source| source.local.is_some()) => false,
        _ => return None,
    };
    let site = source.and_then(|source| site_of(source, &wish.host));
    let is_local = site.map_or_else(|| is_private_host(&wish.host), |(_, site)| site.is_local(&wish.host));
    (is_local != wanted).then_some(wanted)
}

/// The `default_host` for clients of an address, which send no server name (RFC 6066 §3).
fn default_host(wish: &Wish) -> Option<String> {
    match (&wish.issuer, &wish.host) {
        (Issuer::Local, Host::Ip(address)) => Some(address.to_string()),
        _ => None,
    }
}

fn place(source: &Source, wish: &Wish) -> Place {
    let Some((at, site)) = site_of(source, &wish.host) else { return Place::Missing };
    let of_socketio = |route: &&crate::bundle::source::Route| "/socket.io/".starts_with(route.path.as_str());
    let route = site.routes.iter().filter(of_socketio).max_by_key(|route| route.path.len());
    let leads =
        route.is_some_and(|route| route.upstreams.iter().any(|one| one.value.to_string() == wish.app));
    match (leads, site.hosts.len(), site.routes.as_slice()) {
        (true, ..) => Place::Right,
        (false, 1, [only]) if only.line == site.line => Place::Other(at),
        _ => Place::Shared,
    }
}

fn has_files(source: &Source, chain: &Path, key: &Path) -> bool {
    let is_it = |of: &crate::bundle::source::CertificateFiles| {
        of.chain.value.path == chain && of.key.value.path == key
    };
    source.certificates.iter().any(is_it)
}

/// Replaces the upstream; a comment after the old value stays.
fn change_upstream(site: &mut Table, app: &str) -> Option<()> {
    let item = site.get_mut("upstream")?;
    let decor = item.as_value()?.decor().clone();
    let mut list = toml_edit::Array::new();
    list.push(app);
    let mut new = toml_edit::Value::Array(list);
    *new.decor_mut() = decor;
    *item = Item::Value(new);
    Some(())
}

fn set(table: &mut dyn toml_edit::TableLike, key: &str, text: &str) {
    match table.get_mut(key) {
        Some(item) if item.as_str() == Some(text) => {}
        Some(item) => {
            let decor = item.as_value().map(|value| value.decor().clone());
            let mut new = toml_edit::Value::from(text);
            if let Some(decor) = decor {
                *new.decor_mut() = decor;
            }
            *item = Item::Value(new);
        }
        None => {
            table.insert(key, value(text));
        }
    }
}

fn quoted(text: &str) -> String {
    toml_edit::Value::from(text).to_string()
}

/// The beginning of a new file.
fn head(wish: &Wish) -> String {
    let head = match wish.issuer {
        Issuer::Local => HEAD.replace(", and answers the CA", ""),
        _ => HEAD.to_owned(),
    };
    let line =
        |host: String| format!("default_host = {}   # clients of an address send no name\n", quoted(&host));
    head + &default_host(wish).map(line).unwrap_or_default()
}

/// `local` is the value of that key, if the site needs it.
fn site_table(wish: &Wish, local: Option<bool>) -> String {
    let local = local.map(|value| format!("local = {value}\n")).unwrap_or_default();
    let (host, app) = (quoted(&wish.host.to_string()), quoted(&wish.app));
    format!("\n[[site]]\nhosts = [{host}]\nupstream = [{app}]\n{local}")
}

fn issuer_table(wish: &Wish) -> String {
    match &wish.issuer {
        Issuer::Given => String::new(),
        Issuer::Local => "\n[local]                            # a local CA: clients have to trust it once (`sanedge local show`)\n".to_owned(),
        Issuer::Files { chain, key } => format!(
            "\n[[certificate]]\nchain = {}\nkey = {}\n",
            quoted(&chain.to_string_lossy()),
            quoted(&key.to_string_lossy())
        ),
        Issuer::Acme(acme) => {
            let keys = acme.keys();
            let lines = keys.iter().map(|(key, text)| format!("{key} = {}\n", quoted(text)));
            format!(
                "\n[acme]\nterms = \"agreed\"                   # with the CA's terms of service\n{}",
                lines.collect::<String>()
            )
        }
    }
}

/// Whether the file leaves a host to the local CA, which it names.
pub(crate) fn is_local(source: &Source, host: &Host) -> bool {
    let of_site =
        site_of(source, host).map_or_else(|| is_private_host(host), |(_, site)| site.is_local(host));
    source.local.is_some() && of_site
}

/// Whether a public CA may issue for this host.
pub(crate) fn is_public(host: &Host) -> bool {
    !is_home(host)
}

/// Whether a local CA is the first choice for this host.
pub(crate) fn is_of_network(host: &Host) -> bool {
    is_home(host) || is_private_host(host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::source::parse;

    fn wish(host: &str, app: &str, issuer: Issuer) -> Wish {
        Wish { host: Host::parse(host).unwrap(), app: app.to_owned(), issuer }
    }

    fn acme() -> Issuer {
        Issuer::Acme(Acme::default())
    }

    fn read(text: &str) -> Source {
        let (source, findings) = parse(Path::new("/etc/sanedge/sanedge.toml"), text);
        assert!(findings.is_empty(), "{findings:?}");
        source.unwrap()
    }

    fn edit(text: &str, wish: &Wish) -> Result<String, Box<Problem>> {
        edited(Some((text, &read(text))), wish, "sanedge.toml")
    }

    #[test]
    fn a_new_file_is_read_as_it_was_meant_and_needs_no_further_change() {
        let issuers = [
            acme(),
            Issuer::Acme(Acme {
                directory: Some("letsencrypt-staging".to_owned()),
                trust: Some("/etc/ssl/a \"b\".pem".into()),
                contact: Some("kim@recre.store".to_owned()),
            }),
            Issuer::Files { chain: "/a/fullchain.pem".into(), key: "/a/privkey.pem".into() },
        ];
        for issuer in issuers {
            let wish = wish("socket.recre.store", "127.0.0.1:3002", issuer);
            let text = edited(None, &wish, "sanedge.toml").unwrap();
            let source = read(&text);
            assert_eq!(source.sites.len(), 1);
            assert_eq!(source.sites[0].hosts[0].value, wish.host);
            assert_eq!(edit(&text, &wish).unwrap(), text);
        }
    }

    #[test]
    fn the_line_ends_of_a_file_stay() {
        let wish = wish("socket.recre.store", "127.0.0.1:3002", acme());
        let lf = edited(None, &wish, "sanedge.toml").unwrap();
        let crlf = format!("\u{feff}{}", lf.replace('\n', "\r\n"));
        assert_eq!(edit(&crlf, &wish).unwrap(), crlf);
        let other = Wish { app: "127.0.0.1:3003".to_owned(), ..wish };
        let changed = edit(&crlf, &other).unwrap();
        assert!(changed.contains("3003") && changed.matches('\n').count() == changed.matches("\r\n").count());
        assert!(edit(&lf.replacen('\n', "\r\n", 1), &other).is_err(), "line ends of both kinds");
    }

    #[test]
    fn comments_and_order_of_a_file_stay() {
        let before = "# mine\nboard = \"host\"\n[[site]]  # first\nhosts = [\"a.b\"]\nupstream = [ \"127.0.0.1:1\" ] # old\n\n\
            [listen] # after\nhttps = [\"[::]:443\"]\n[acme]\nterms = \"agreed\"\n# the end";
        let other = wish("socket.recre.store", "127.0.0.1:3002", acme());
        let added = "\n\n[[site]]\nhosts = [\"socket.recre.store\"]\nupstream = [\"127.0.0.1:3002\"]\n";
        assert_eq!(edit(before, &other).unwrap(), format!("{before}{added}"));
        let changed = edit(before, &wish("a.b", "127.0.0.1:2", acme())).unwrap();
        assert_eq!(changed, before.replace("[ \"127.0.0.1:1\" ]", "[\"127.0.0.1:2\"]"));
        assert_eq!(edit(before, &wish("a.b", "127.0.0.1:1", acme())).unwrap(), before);
        let staging = Acme { directory: Some("letsencrypt-staging".to_owned()), ..Acme::default() };
        let changed = edit(before, &wish("a.b", "127.0.0.1:1", Issuer::Acme(staging))).unwrap();
        assert_eq!(
            changed,
            before
                .replace("terms = \"agreed\"\n", "terms = \"agreed\"\ndirectory = \"letsencrypt-staging\"\n")
        );
    }

    #[test]
    fn a_site_of_several_names_or_paths_is_not_changed() {
        let listen = "board = \"host\"\n[listen]\nhttps = [\"[::]:443\"]\n[acme]\nterms = \"agreed\"\n";
        let shared = format!("{listen}[[site]]\nhosts = [\"a.b\", \"c.b\"]\nupstream = [\"127.0.0.1:1\"]\n");
        let routed = format!(
            "{listen}[[site]]\nhosts = [\"a.b\"]\n[[site.route]]\npath = \"/\"\nupstream = [\"127.0.0.1:1\"]\n\
             [[site.route]]\npath = \"/socket.io/\"\nupstream = [\"127.0.0.1:2\"]\n"
        );
        for text in [&shared, &routed] {
            let problem = edit(text, &wish("a.b", "127.0.0.1:3", acme())).unwrap_err();
            assert_eq!(problem.code, "setup-shared-site");
        }
        // Where it leads there already, nothing has to change.
        assert_eq!(&edit(&shared, &wish("c.b", "127.0.0.1:1", acme())).unwrap(), &shared);
        assert_eq!(&edit(&routed, &wish("a.b", "127.0.0.1:2", acme())).unwrap(), &routed);
    }

    #[test]
    fn the_ca_here_needs_its_table_and_what_hosts_of_others_need() {
        for (host, more) in [
            ("board.local", ""),
            ("192.168.1.5", ""),
            ("game.recre.store", "local = true\n"),
            ("192.0.2.5", "local = true\n"),
        ] {
            let wish = wish(host, "127.0.0.1:3002", Issuer::Local);
            let text = edited(None, &wish, "sanedge.toml").unwrap();
            let source = read(&text);
            assert!(is_local(&source, &wish.host) && source.acme.is_none(), "{text}");
            assert!(text.ends_with(&format!("upstream = [\"127.0.0.1:3002\"]\n{more}")), "{text}");
            let default = source.listen.default_host.map(|default| default.value);
            assert_eq!(default, Some(wish.host.clone()).filter(|host| matches!(host, Host::Ip(_))));
            assert_eq!(edit(&text, &wish).unwrap(), text);
        }
        let before = "board = \"host\"\n[acme]\nterms = \"agreed\"\n[[site]] # mine\nhosts = [\"a.b\"]\nupstream = [\"127.0.0.1:1\"]\n";
        let here = |host: &str| wish(host, "127.0.0.1:1", Issuer::Local);
        // Beside [acme]; a site that is there changes hands, and back again.
        let text = edit(before, &here("a.b")).unwrap();
        assert!(
            text.starts_with(before.trim_end())
                && text.contains("local = true")
                && text.contains("\n[local] "),
            "{text}"
        );
        assert!(is_local(&read(&text), &Host::parse("a.b").unwrap()));
        let back = edit(&text, &wish("a.b", "127.0.0.1:1", acme())).unwrap();
        assert!(!is_local(&read(&back), &Host::parse("a.b").unwrap()), "{back}");
        let of_acme = edit(&text, &wish("nas.lan", "127.0.0.1:2", acme())).unwrap();
        assert!(of_acme.ends_with("local = false\n"), "{of_acme}");
        // An address has to be the default, if there is none.
        let text = edit(before, &here("192.168.1.5")).unwrap();
        assert!(read(&text).listen.default_host.is_some() && !text.contains("local ="), "{text}");
        let defaulted = before.replace("[acme]", "[listen]\ndefault_host = \"a.b\"\n[acme]");
        assert!(!edit(&defaulted, &here("192.168.1.5")).unwrap().contains("default_host = \"192"));
        let shared = before.replace("\"a.b\"", "\"a.b\", \"c.b\"");
        assert_eq!(edit(&shared, &here("a.b")).unwrap_err().code, "setup-shared-site");
    }

    #[test]
    fn a_file_written_inline_is_left_alone() {
        let text = "board = \"host\"\nlisten = { https = [\"[::]:443\"] }\nacme = { terms = \"agreed\" }\n\
            site = [{ hosts = [\"a.b\"], upstream = [\"127.0.0.1:1\"] }]\n";
        assert_eq!(edit(text, &wish("a.b", "127.0.0.1:1", acme())).unwrap(), text);
        assert_eq!(edit(text, &wish("a.b", "127.0.0.1:2", acme())).unwrap_err().code, "setup-file");
    }
}
