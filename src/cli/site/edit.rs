//! Adds a host to the text of sanedge.toml, or removes one. Comments, order and format of everything else stay.
//!
//! Pure. The caller parses the result again before it uses it.

use std::path::Path;

use toml_edit::{Array, ArrayOfTables, Document, DocumentMut, Item, Table, TableLike, Value};

use crate::bundle::source::{CertificateFiles, Source, in_lf};
use crate::names::Host;

/// A host to be served.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Wanted {
    pub(in crate::cli) host: Host,
    /// As in `upstream`.
    pub(in crate::cli) app: String,
    /// Only for this path.
    pub(in crate::cli) path: Option<String>,
    /// In place of an app.
    pub(in crate::cli) redirect: Option<String>,
}

/// Why the text is not changed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(in crate::cli) enum Unchanged {
    #[error(
        "`{host}` is served already, by {apps} (line {line}). Change `upstream` there, or type `sudo sanedge site remove {host}` first"
    )]
    Exists { host: String, apps: String, line: u32 },
    #[error(
        "`{host}` redirects to {to} (line {line}). Change `redirect` there, or type `sudo sanedge site remove {host}` first"
    )]
    Redirects { host: String, to: String, line: u32 },
    #[error(
        "`{host}` shares its [[site]] with {others} (line {line}): a route there would apply to all of them. Add a [[site.route]] by hand"
    )]
    Shared { host: String, others: String, line: u32 },
    #[error("`{host}` is not one of the hosts of the file; `sanedge site list` shows them")]
    Missing { host: String },
    #[error("`{host}` has no route for this path; `sanedge site list` shows them")]
    NoRoute { host: String },
    #[error(
        "[[site]] is written in a way that this command does not change: edit the file by hand, then type `sudo sanedge apply`"
    )]
    Form,
    #[error("some lines end with CR LF and others with LF: save the file with one kind of line ends")]
    LineEnds,
}

/// The text with the host. The same text if the host already has that app.
pub(in crate::cli) fn add(text: &str, source: &Source, wanted: &Wanted) -> Result<String, Unchanged> {
    let found = source.sites.iter().position(|site| site.hosts.iter().any(|host| host.value == wanted.host));
    let Some(at) = found else {
        return edited(text, |document| {
            sites(document)?.push(site(wanted));
            Ok(())
        });
    };
    let site = source.sites.get(at).ok_or(Unchanged::Form)?;
    let path = wanted.path.as_deref().unwrap_or("/");
    let host = wanted.host.to_string();
    let line = site.line;
    if let Some(to) = site.redirect.as_ref().map(|to| to.value.to_string()) {
        return match wanted.redirect.as_deref().map(|url| url.trim_end_matches('/')) {
            Some(url) if url == to => Ok(text.to_owned()),
            _ => Err(Unchanged::Redirects { host, to, line }),
        };
    }
    if let Some(route) = site.routes.iter().find(|route| route.path == path) {
        let apps: Vec<String> = route.upstreams.iter().map(|one| one.value.to_string()).collect();
        return if wanted.redirect.is_none() && apps == [wanted.app.clone()] {
            Ok(text.to_owned())
        } else {
            Err(Unchanged::Exists { host, apps: apps.join(", "), line })
        };
    }
    if wanted.redirect.is_some() {
        let paths: Vec<&str> = site.routes.iter().map(|route| route.path.as_str()).collect();
        return Err(Unchanged::Exists { host, apps: format!("the routes {}", paths.join(", ")), line });
    }
    if site.hosts.len() > 1 {
        return Err(shared(site, &wanted.host));
    }
    edited(text, |document| {
        let site = sites(document)?.get_mut(at).ok_or(Unchanged::Form)?;
        match &wanted.path {
            None => {
                site.insert("upstream", list(&wanted.app));
            }
            Some(path) => routes(site)?.push(route(path, &wanted.app)),
        }
        Ok(())
    })
}

/// The text with another app for a route of the host. Its other upstreams, if it has any, are replaced as well.
pub(in crate::cli) fn set_upstream(
    text: &str,
    source: &Source,
    host: &Host,
    path: &str,
    app: &str,
) -> Result<String, Unchanged> {
    let missing = || Unchanged::Missing { host: host.to_string() };
    let place =
        source.sites.iter().enumerate().find(|(_, site)| site.hosts.iter().any(|one| one.value == *host));
    let (at, site_before) = place.ok_or_else(missing)?;
    let line = site_before.line;
    if let Some(to) = site_before.redirect.as_ref().map(|to| to.value.to_string()) {
        return Err(Unchanged::Redirects { host: host.to_string(), to, line });
    }
    let route_before = site_before.routes.iter().find(|route| route.path == path);
    let route_before = route_before.ok_or_else(|| Unchanged::NoRoute { host: host.to_string() })?;
    if site_before.hosts.len() > 1 {
        return Err(shared(site_before, host));
    }
    // A site's own upstream is in its table; each [[site.route]] has a line of its own.
    let is_own = route_before.line == line;
    edited(text, |document| {
        let site = sites(document)?.get_mut(at).ok_or(Unchanged::Form)?;
        let table = if is_own {
            site
        } else {
            let named = |route: &&mut Table| route.get("path").and_then(Item::as_str) == Some(path);
            routes(site)?.iter_mut().find(named).ok_or(Unchanged::Form)?
        };
        let item = table.get_mut("upstream").ok_or(Unchanged::Form)?;
        let decor = item.as_value().ok_or(Unchanged::Form)?.decor().clone();
        *item = list(app);
        if let Some(value) = item.as_value_mut() {
            *value.decor_mut() = decor;
        }
        Ok(())
    })
}

/// The same text, if the host is there.
pub(in crate::cli) fn known(text: &str, source: &Source, host: &Host) -> Result<String, Unchanged> {
    let is_there = source.sites.iter().flat_map(|site| &site.hosts).any(|one| one.value == *host);
    is_there.then(|| text.to_owned()).ok_or_else(|| Unchanged::Missing { host: host.to_string() })
}

/// The text with a certificate of two PEM files.
pub(in crate::cli) fn add_files(
    text: &str,
    source: &Source,
    chain: &Path,
    key: &Path,
) -> Result<String, Unchanged> {
    let is_it = |of: &CertificateFiles| of.chain.value.path == chain && of.key.value.path == key;
    if source.certificates.iter().any(is_it) {
        return Ok(text.to_owned());
    }
    let [chain, key] = [chain, key].map(|path| path.to_str().map(|path| Value::from(path).to_string()));
    let (Some(chain), Some(key)) = (chain, key) else { return Err(Unchanged::Form) };
    with_end(text, &format!("\n[[certificate]]\nchain = {chain}\nkey = {key}\n"))
}

/// The text with which `sanedge renew` obtains a certificate for the host; `has_other`: a certificate of files covers it.
pub(in crate::cli) fn add_acme(
    text: &str,
    source: &Source,
    host: &Host,
    has_other: bool,
) -> Result<String, Unchanged> {
    let mut more = String::new();
    if source.acme.is_none() {
        more += "\n[acme]\nterms = \"agreed\"                   # with the CA's terms of service\n";
    }
    let names = source.acme.iter().flat_map(|acme| &acme.certificates).flat_map(|names| &names.value);
    let is_named = names.into_iter().any(|name| name.covers(host));
    let site = source.sites.iter().find(|site| site.hosts.iter().any(|one| one.value == *host));
    if !is_named && (has_other || site.is_some_and(|site| !site.acme)) {
        more += &format!("\n[[acme.certificate]]\nnames = [{}]\n", Value::from(host.to_string()));
    }
    with_end(text, &more)
}

/// New tables at the end of the text.
fn with_end(text: &str, more: &str) -> Result<String, Unchanged> {
    in_lf(text, Unchanged::LineEnds, |text| {
        let end = if text.is_empty() || text.ends_with('\n') || more.is_empty() { "" } else { "\n" };
        Ok(format!("{text}{end}{more}"))
    })
}

/// A route for one host of several would apply to all of them.
fn shared(site: &crate::bundle::source::Site, host: &Host) -> Unchanged {
    let others =
        site.hosts.iter().filter(|other| other.value != *host).map(|other| format!("`{}`", other.value));
    Unchanged::Shared {
        host: host.to_string(),
        others: others.collect::<Vec<_>>().join(", "),
        line: site.line,
    }
}

/// The text without the host. A [[site]] without another host is removed as well.
pub(in crate::cli) fn remove(text: &str, source: &Source, host: &Host) -> Result<String, Unchanged> {
    let place = source.sites.iter().enumerate().find_map(|(at, site)| {
        Some((at, site.hosts.iter().position(|one| one.value == *host)?, site.hosts.len()))
    });
    let Some((site, at, count)) = place else { return Err(Unchanged::Missing { host: host.to_string() }) };
    if count > 1 {
        return in_lf(text, Unchanged::LineEnds, |text| without_item(text, site, at));
    }
    edited(text, |document| {
        let gone = sites(document)?.get(site).cloned().ok_or(Unchanged::Form)?;
        sites(document)?.remove(site);
        if sites(document)?.is_empty() {
            document.remove("site");
        }
        keep_comments(document, &gone);
        Ok(())
    })
}

/// Changes the document; a byte order mark and the kind of line ends stay.
fn edited(
    text: &str,
    change: impl FnOnce(&mut DocumentMut) -> Result<(), Unchanged>,
) -> Result<String, Unchanged> {
    in_lf(text, Unchanged::LineEnds, |text| {
        let mut document: DocumentMut = text.parse().map_err(|_| Unchanged::Form)?;
        change(&mut document)?;
        Ok(document.to_string())
    })
}

/// `[[site]]`, which may be missing; `site = [{ … }]` is another form.
fn sites(document: &mut DocumentMut) -> Result<&mut ArrayOfTables, Unchanged> {
    let item = document.entry("site").or_insert(Item::ArrayOfTables(ArrayOfTables::new()));
    item.as_array_of_tables_mut().ok_or(Unchanged::Form)
}

fn routes(site: &mut Table) -> Result<&mut ArrayOfTables, Unchanged> {
    let item = site.entry("route").or_insert(Item::ArrayOfTables(ArrayOfTables::new()));
    item.as_array_of_tables_mut().ok_or(Unchanged::Form)
}

fn site(wanted: &Wanted) -> Table {
    let mut site = Table::new();
    site.decor_mut().set_prefix("\n");
    site.insert("hosts", list(&wanted.host.to_string()));
    match (&wanted.redirect, &wanted.path) {
        (Some(url), _) => {
            site.insert("redirect", toml_edit::value(url));
        }
        (None, None) => {
            site.insert("upstream", list(&wanted.app));
        }
        (None, Some(path)) => {
            let mut routes = ArrayOfTables::new();
            routes.push(route(path, &wanted.app));
            site.insert("route", Item::ArrayOfTables(routes));
        }
    }
    site
}

fn route(path: &str, app: &str) -> Table {
    let mut route = Table::new();
    route.insert("path", toml_edit::value(path));
    route.insert("upstream", list(app));
    route
}

fn list(text: &str) -> Item {
    let mut list = Array::new();
    list.push(text);
    toml_edit::value(list)
}

/// Comments above a removed table, up to the last empty line, belong to something else: moves them to the next table, or to the end.
fn keep_comments(document: &mut DocumentMut, gone: &Table) {
    let prefix = gone.decor().prefix().and_then(|prefix| prefix.as_str()).unwrap_or_default();
    let kept = prefix.rfind("\n\n").map_or("", |end| prefix.get(..end + 1).unwrap_or_default()).to_owned();
    if kept.trim().is_empty() {
        return;
    }
    let position = gone.position().unwrap_or_default();
    if let Some(next) = first_after(document.as_table_mut(), position) {
        let after = next.decor().prefix().and_then(|prefix| prefix.as_str()).unwrap_or_default();
        let joined = format!("{kept}{after}");
        next.decor_mut().set_prefix(joined);
    } else {
        let after = document.trailing().as_str().unwrap_or_default();
        let joined = format!("{kept}{after}");
        document.set_trailing(joined);
    }
}

/// The table with the next header after a position.
fn first_after(table: &mut Table, position: isize) -> Option<&mut Table> {
    let mut all = Vec::new();
    collect(table, &mut all);
    all.into_iter()
        .filter(|table| table.position().is_some_and(|at| at > position))
        .min_by_key(|table| table.position())
}

fn collect<'t>(table: &'t mut Table, all: &mut Vec<&'t mut Table>) {
    for (_, item) in table.iter_mut() {
        match item {
            Item::Table(table) => match table.is_implicit() {
                // `[a.b]` without `[a]`: it has no header of its own.
                true => collect(table, all),
                false => all.push(table),
            },
            Item::ArrayOfTables(tables) => all.extend(tables.iter_mut()),
            _ => {}
        }
    }
}

/// Removes one item of a list of hosts: its line if the line has no other, else the item with a comma.
fn without_item(text: &str, site: usize, at: usize) -> Result<String, Unchanged> {
    let document = Document::parse(text).map_err(|_| Unchanged::Form)?;
    let sites = document.as_table().get("site");
    let hosts = match sites {
        Some(Item::ArrayOfTables(sites)) => sites.get(site).and_then(|site| site.get("hosts")),
        Some(Item::Value(Value::Array(sites))) => {
            sites.get(site).and_then(Value::as_inline_table).and_then(|site| TableLike::get(site, "hosts"))
        }
        _ => None,
    };
    let span =
        hosts.and_then(Item::as_array).and_then(|hosts| hosts.get(at)?.span()).ok_or(Unchanged::Form)?;
    let (before, behind) = text.get(..span.start).zip(text.get(span.end..)).ok_or(Unchanged::Form)?;
    let blank = |text: &str| text.trim_matches([' ', '\t']).is_empty();
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let rest = behind.trim_start_matches([' ', '\t']);
    let has_comma = rest.starts_with(',');
    let rest = rest.strip_prefix(',').unwrap_or(rest).trim_start_matches([' ', '\t']);
    let is_end = rest.starts_with('\n') || rest.starts_with('#');
    if blank(before.get(line_start..).unwrap_or_default()) && is_end {
        let next = rest.find('\n').and_then(|end| rest.get(end + 1..)).unwrap_or_default();
        return Ok(format!("{}{next}", before.get(..line_start).unwrap_or_default()));
    }
    if has_comma {
        return Ok(format!("{before}{rest}"));
    }
    let cut = before.trim_end_matches([' ', '\t', '\n']);
    let shorter = cut.strip_suffix(',').ok_or(Unchanged::Form)?;
    Ok(format!("{shorter}{behind}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::source::parse;

    const HEAD: &str = "board = \"host\"\n[listen]\nhttps = [\"[::]:443\"]\n[acme]\nterms = \"agreed\"\n";

    fn read(text: &str) -> Source {
        let (source, findings) = parse(Path::new("/etc/sanedge/sanedge.toml"), text);
        assert!(findings.is_empty(), "{findings:?}: {text}");
        source.unwrap()
    }

    fn host(text: &str) -> Host {
        Host::parse(text).unwrap()
    }

    fn wanted(name: &str, app: &str, path: Option<&str>) -> Wanted {
        Wanted { host: host(name), app: app.to_owned(), path: path.map(str::to_owned), redirect: None }
    }

    fn added(text: &str, wanted: &Wanted) -> String {
        let after = add(text, &read(text), wanted).unwrap();
        // All lines are still there, in their order.
        let mut lines = after.lines();
        assert!(text.lines().all(|line| lines.any(|other| other == line)), "{text}\n---\n{after}");
        after
    }

    fn removed(text: &str, name: &str) -> Result<String, Unchanged> {
        remove(text, &read(text), &host(name))
    }

    fn hosts(text: &str) -> Vec<String> {
        read(text).sites.iter().flat_map(|site| &site.hosts).map(|host| host.value.to_string()).collect()
    }

    /// Shapes that people write.
    fn files() -> Vec<String> {
        let one = "\n# the game\n[[site]] # first\nhosts = [ 'a.b' ]   # old\nupstream = [\"127.0.0.1:1\"]\n";
        let routed = "[[site]]\nhosts = [\"r.b\"]\n\n  [[site.route]]\n  path = \"/x/\"\n  upstream = [\"127.0.0.1:7\"]\n";
        vec![
            format!("{HEAD}{one}"),
            format!("{HEAD}{one}# the end"),
            format!("{HEAD}{one}\n{routed}\n# limits of the board\n[limits]\nsessions_max = 77 # few\n"),
            format!(
                "board = \"host\"\n{one}{routed}[listen]\nhttps = [\"[::]:443\"]\n\n\n[acme]\nterms = \"agreed\""
            ),
            format!("{HEAD}{one}").replace('\n', "\r\n"),
            format!("\u{feff}{HEAD}{one}\n# trailing\n\n\n"),
        ]
    }

    #[test]
    fn a_host_comes_and_goes_and_nothing_else_changes() {
        for text in files() {
            for wish in [
                wanted("game.b", "127.0.0.1:3005", None),
                wanted("game.b", "unix:/run/x.sock", Some("/socket.io/")),
            ] {
                let with = added(&text, &wish);
                assert_eq!(hosts(&with).len(), hosts(&text).len() + 1);
                assert_eq!(add(&with, &read(&with), &wish).unwrap(), with, "it is there already");
                let without = removed(&with, "game.b").unwrap();
                let end = if text.contains("\r\n") { "\r\n" } else { "\n" };
                let whole = if text.ends_with('\n') || text.ends_with("end") {
                    text.clone()
                } else {
                    format!("{text}{end}")
                };
                assert_eq!(without, whole);
            }
        }
    }

    #[test]
    fn the_new_site_stands_behind_the_last_one() {
        let text = files().remove(2);
        let with = added(&text, &wanted("game.b", "127.0.0.1:3005", None));
        let site = "\n[[site]]\nhosts = [\"game.b\"]\nupstream = [\"127.0.0.1:3005\"]\n";
        assert_eq!(with, text.replace("\n# limits of", &format!("{site}\n# limits of")));
    }

    #[test]
    fn a_host_of_several_goes_alone() {
        for (before, name, after) in [
            ("[\"a.b\", \"c.b\"]", "a.b", "[\"c.b\"]"),
            ("[\"a.b\", \"c.b\"]", "c.b", "[\"a.b\"]"),
            ("[ \"a.b\" , \"c.b\" , ]", "c.b", "[ \"a.b\" , ]"),
            ("['a.b','c.b','d.b']", "c.b", "['a.b','d.b']"),
            ("[\n  \"a.b\", # main\n  \"c.b\", # game\n]", "c.b", "[\n  \"a.b\", # main\n]"),
            ("[\n  \"a.b\", # main\n  \"c.b\"  # game\n]", "c.b", "[\n  \"a.b\", # main\n]"),
            ("[\n  \"a.b\", # main\n  \"c.b\", # game\n]", "a.b", "[\n  \"c.b\", # game\n]"),
            ("[\"a.b\",\n \"c.b\"]", "c.b", "[\"a.b\"]"),
        ] {
            let text =
                |list: &str| format!("{HEAD}[[site]]\nhosts = {list} # all\nupstream = [\"127.0.0.1:1\"]\n");
            assert_eq!(removed(&text(before), name), Ok(text(after)), "{before}");
            hosts(&text(after));
        }
        let inline =
            |list: &str| format!("site = [{{ hosts = {list}, upstream = [\"127.0.0.1:1\"] }}]\n{HEAD}");
        assert_eq!(removed(&inline("[\"a.b\", \"c.b\"]"), "a.b"), Ok(inline("[\"c.b\"]")));
    }

    #[test]
    fn comments_of_something_else_stay_where_a_site_goes() {
        let site = "[[site]]\nhosts = [\"c.b\"]\nupstream = [\"127.0.0.1:2\"]\n";
        let first = "[[site]]\nhosts = [\"a.b\"]\nupstream = [\"127.0.0.1:1\"]\n";
        let text =
            format!("{HEAD}{first}\n# == games ==\n\n# chess\n{site}\n# go\n{}", site.replace("c.b", "d.b"));
        let after = removed(&text, "c.b").unwrap();
        assert_eq!(after, format!("{HEAD}{first}\n# == games ==\n\n# go\n{}", site.replace("c.b", "d.b")));
        let last = removed(&after, "d.b").unwrap();
        assert_eq!(last, format!("{HEAD}{first}\n# == games ==\n"));
    }

    #[test]
    fn what_somebody_has_to_decide_is_left_alone() {
        let text = format!("{HEAD}[[site]]\nhosts = [\"a.b\", \"c.b\"]\nupstream = [\"127.0.0.1:1\"]\n");
        let source = read(&text);
        let other = add(&text, &source, &wanted("a.b", "127.0.0.1:2", None));
        assert!(matches!(other, Err(Unchanged::Exists { line: 6, .. })), "{other:?}");
        let path = add(&text, &source, &wanted("a.b", "127.0.0.1:2", Some("/x/")));
        assert!(matches!(path, Err(Unchanged::Shared { .. })), "{path:?}");
        assert_eq!(add(&text, &source, &wanted("a.b", "127.0.0.1:1", None)), Ok(text.clone()));
        assert_eq!(removed(&text, "x.b"), Err(Unchanged::Missing { host: "x.b".to_owned() }));
        let inline = format!("site = [{{ hosts = [\"a.b\"], upstream = [\"127.0.0.1:1\"] }}]\n{HEAD}");
        assert_eq!(add(&inline, &read(&inline), &wanted("x.b", "127.0.0.1:1", None)), Err(Unchanged::Form));
        assert_eq!(removed(&inline, "a.b"), Err(Unchanged::Form));
        let mixed = text.replacen('\n', "\r\n", 2);
        assert_eq!(add(&mixed, &read(&mixed), &wanted("x.b", "127.0.0.1:1", None)), Err(Unchanged::LineEnds));
    }

    #[test]
    fn a_path_of_a_host_alone_is_added_to_its_site() {
        let text = format!(
            "{HEAD}[[site]]\nhosts = [\"a.b\"]\nupstream = [\"127.0.0.1:1\"]\n\n[limits]\nsessions_max = 77\n"
        );
        let with = added(&text, &wanted("a.b", "127.0.0.1:2", Some("/socket.io/")));
        let routes = &read(&with).sites[0].routes;
        let paths: Vec<_> =
            routes.iter().map(|route| (route.path.as_str(), route.upstreams[0].value.to_string())).collect();
        assert_eq!(paths, [("/", "127.0.0.1:1".to_owned()), ("/socket.io/", "127.0.0.1:2".to_owned())]);
    }

    #[test]
    fn an_upstream_is_replaced_where_it_stands_and_nothing_else() {
        let text = format!(
            "{HEAD}[[site]]\nhosts = [\"a.b\"] # one\nupstream = [ \"127.0.0.1:1\", \"127.0.0.1:2\" ] # app\n\n[[site.route]]\n\
             path = \"/x/\"\nupstream = [\"127.0.0.1:3\"]\n\n[[site]]\nhosts = [\"c.b\", \"d.b\"]\nupstream = [\"127.0.0.1:4\"]\n\n\
             [[site]]\nhosts = [\"e.b\"]\nredirect = \"https://a.b\"\n"
        );
        let set = |host: &str, path: &str| {
            set_upstream(&text, &read(&text), &Host::parse(host).unwrap(), path, "[::1]:9")
        };
        let own = text.replace("[ \"127.0.0.1:1\", \"127.0.0.1:2\" ] # app", "[\"[::1]:9\"] # app");
        assert_eq!(set("a.b", "/"), Ok(own));
        assert_eq!(set("a.b", "/x/"), Ok(text.replace("[\"127.0.0.1:3\"]", "[\"[::1]:9\"]")));
        assert_eq!(set("a.b", "/y/"), Err(Unchanged::NoRoute { host: "a.b".to_owned() }));
        assert_eq!(set("x.b", "/"), Err(Unchanged::Missing { host: "x.b".to_owned() }));
        assert!(matches!(set("c.b", "/"), Err(Unchanged::Shared { .. })));
        assert!(matches!(set("e.b", "/"), Err(Unchanged::Redirects { .. })));
    }

    #[test]
    fn certificates_are_added_at_the_end_and_once() {
        let files = "[[certificate]]\nchain = \"c.pem\"\nkey = \"c.key\"\n";
        let head = HEAD.replace("[acme]\nterms = \"agreed\"\n", files);
        let text = format!("{head}[[site]]\nhosts = [\"a.b\"]\nupstream = [\"127.0.0.1:1\"]\n# the end");
        let host = Host::parse("a.b").unwrap();
        let (chain, key) = (Path::new("/a/\"x\".pem"), Path::new("/a/x.key"));
        let files = add_files(&text, &read(&text), chain, key).unwrap();
        let last = read(&files).certificates.pop().unwrap();
        assert_eq!((last.chain.value.path.as_path(), last.key.value.path.as_path()), (chain, key));
        assert!(files.starts_with(&text));
        assert_eq!(add_files(&files, &read(&files), chain, key), Ok(files));
        // With a certificate of files, a CA obtains one only if it is asked to.
        for (has_other, named) in [(false, 0), (true, 1)] {
            let acme = add_acme(&text, &read(&text), &host, has_other).unwrap();
            let found = read(&acme).acme.unwrap();
            assert_eq!(found.certificates.len(), named, "{acme}");
            assert!(acme.starts_with(&text) && acme.contains("terms = \"agreed\""));
            assert_eq!(add_acme(&acme, &read(&acme), &host, has_other), Ok(acme));
        }
        assert_eq!(known(&text, &read(&text), &host), Ok(text.clone()));
        let other = Host::parse("x.b").unwrap();
        assert!(matches!(known(&text, &read(&text), &other), Err(Unchanged::Missing { .. })));
    }
}
