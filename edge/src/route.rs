//! SNI, Host and path to a route.
//!
//! A path is routed and forwarded unchanged. A server may resolve `..` or `%2f` where the edge does not, read a host
//! from `//host/path`, or ignore case; a path whose route would change by that is refused.

use crate::bundle::{Route, Site};
use crate::names::{Host, SanName};

/// The path leads to one route as written and to another once normalised, and an upstream could read either; or servers
/// differ on whether it is a path at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the path leads to different routes before and after its dot segments, `//`, `%2f` and `\\` are resolved, equals that of \
        a route with `allow` except for its case, goes above `/`, or contains `%00` or a `%` without two hexadecimal digits"
)]
pub struct Ambiguous;

/// The request names a host other than that of its TLS connection: 421 (RFC 9110 §15.5.20).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the Host field differs from the server name of this TLS connection")]
pub struct Misdirected;

/// The route of `path` in `site` with its index: the longest prefix that ends on a segment boundary. `/a/` is the
/// route of `/a/b`, `/a/` and `/a`, not of `/ab`.
///
/// # Errors
/// [`Ambiguous`] if the path and another reading of it have different routes, or if it has no normalised form.
pub fn find<'b>(site: &'b Site, path: &[u8]) -> Result<Option<(usize, &'b Route)>, Ambiguous> {
    let literal = longest(site, path);
    let index = |found: Option<(usize, &Route)>| found.map(|(index, _)| index);
    let reads_alike = |reading: &[u8]| {
        index(longest(site, reading)) == index(literal) && !enters_in_another_case(site, reading, literal)
    };
    let alike = match is_plain(path) {
        true => !enters_in_another_case(site, path, literal),
        false => readings(path)?.iter().all(|reading| reads_alike(reading)),
    };
    if alike { Ok(literal) } else { Err(Ambiguous) }
}

/// How many bytes of `path`, which is this route's, its upstream does not get: those of the prefix where the route strips it.
/// What is left begins with `/`, or is empty and means `/`.
///
/// # Errors
/// [`Ambiguous`] where a server could read what is left as another place than it says: `/game//host` would become
/// `//host`, and `/game/../x` climb above the root.
pub fn stripped(route: &Route, path: &[u8]) -> Result<usize, Ambiguous> {
    if !route.strip_prefix {
        return Ok(0);
    }
    let length = route.path.trim_end_matches('/').len();
    let rest = path.get(length..).unwrap_or_default();
    if rest.is_empty() {
        return Ok(length);
    }
    readings(rest)?;
    let once = decode(rest);
    let twice = decode(&once);
    let all = [rest, &once, &twice];
    if all.iter().any(|reading| begins_with_two_slashes(reading)) { Err(Ambiguous) } else { Ok(length) }
}

/// Whether the path does, as it is or once its dot segments are removed (RFC 3986 §5.2.4) and path parameters cut, with `\` for
/// `/`: a reference to another host then (§4.2).
fn begins_with_two_slashes(path: &[u8]) -> bool {
    if matches!(path.get(1), Some(b'/' | b'\\')) {
        return true;
    }
    let mut segments: Vec<&[u8]> = Vec::new();
    for segment in path.split(|byte| matches!(byte, b'/' | b'\\')).skip(1) {
        match segment.split(|&byte| byte == b';').next().unwrap_or_default() {
            b"." => {}
            b".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    segments.len() > 1 && segments.first().is_some_and(|first| first.is_empty())
}

/// How servers read a path that is not plain.
fn readings(path: &[u8]) -> Result<Vec<Vec<u8>>, Ambiguous> {
    if path.split(|&byte| byte == b'%').skip(1).any(|escape| hex_pair(escape).is_none_or(|byte| byte == 0)) {
        return Err(Ambiguous);
    }
    let mut readings = Vec::new();
    for path in [Some(path), behind_authority(path)].into_iter().flatten() {
        // The first pass decodes what every server decodes; the second, what a server that decodes twice does.
        let once = normalise(path).ok_or(Ambiguous)?;
        let twice = normalise(&once).ok_or(Ambiguous)?;
        readings.extend([once, twice]);
    }
    Ok(readings)
}

/// The path of `//host/path` for a server that reads the target as a reference (RFC 3986 §4.2), as Node's `new
/// URL(request.url, base)` does, with `\` for `/` and any number of them in front.
fn behind_authority(path: &[u8]) -> Option<&[u8]> {
    let slash = |byte: &u8| matches!(byte, b'/' | b'\\');
    let authority = path.iter().position(|byte| !slash(byte)).unwrap_or(path.len());
    if authority < 2 {
        return None;
    }
    let behind = path.get(authority..).unwrap_or_default();
    Some(behind.iter().position(slash).and_then(|end| behind.get(end..)).unwrap_or_default())
}

/// Whether a server that ignores case, such as Express, would route `path` to a route with `allow`.
fn enters_in_another_case(site: &Site, path: &[u8], found: Option<(usize, &Route)>) -> bool {
    let mut others =
        site.routes.iter().enumerate().filter(|(index, _)| found.is_none_or(|found| found.0 != *index));
    let depth = |route: &Route| route.path.trim_end_matches('/').len();
    others.any(|(_, other)| {
        let is_deeper = found.is_none_or(|(_, found)| depth(other) > depth(found));
        !other.allow.is_empty()
            && is_deeper
            && covers(other.path.as_bytes(), path, <[u8]>::eq_ignore_ascii_case)
    })
}

/// Host equals SNI; without SNI it is covered by the certificate that was sent.
///
/// # Errors
/// [`Misdirected`] otherwise.
pub fn check_host(host: &Host, sni: Option<&Host>, sent: &[SanName]) -> Result<(), Misdirected> {
    let fits = match sni {
        Some(sni) => sni == host,
        None => sent.iter().any(|name| name.covers(host)),
    };
    if fits { Ok(()) } else { Err(Misdirected) }
}

/// Routes are sorted, longest path first; this checks all of them and does not rely on it.
fn longest<'b>(site: &'b Site, path: &[u8]) -> Option<(usize, &'b Route)> {
    let is_prefix = |(_, route): &(usize, &Route)| covers(route.path.as_bytes(), path, PartialEq::eq);
    let matching = site.routes.iter().enumerate().filter(is_prefix);
    matching.max_by_key(|(_, route)| route.path.trim_end_matches('/').len())
}

/// Whether `prefix` covers `path` on a segment boundary, as `same` compares them.
fn covers(prefix: &[u8], path: &[u8], same: impl Fn(&[u8], &[u8]) -> bool) -> bool {
    let prefix = prefix.strip_suffix(b"/").unwrap_or(prefix);
    let (front, rest) = path.split_at_checked(prefix.len()).unwrap_or((path, &[]));
    same(front, prefix) && matches!(rest.first(), None | Some(b'/'))
}

/// Nothing in the path that a server could resolve: no `%`, no `\`, no `//`, no segment that begins with a dot. The
/// usual path, decided without allocating.
fn is_plain(path: &[u8]) -> bool {
    let pairs = path.iter().zip(path.iter().skip(1));
    !path.iter().any(|byte| matches!(byte, b'%' | b'\\' | b';'))
        && !pairs.into_iter().any(|pair| matches!(pair, (b'/', b'/' | b'.')))
}

/// The path as a permissive server reads it: `%XX` decoded, `\` as `/`, path parameters (`;x`) cut, empty and dot
/// segments resolved. `None`: the path climbs above the root.
fn normalise(path: &[u8]) -> Option<Vec<u8>> {
    let decoded = decode(path);
    let mut segments: Vec<&[u8]> = Vec::new();
    let slash = |byte: &u8| matches!(byte, b'/' | b'\\');
    let mut last_is_empty = false;
    for segment in decoded.split(slash) {
        let segment = segment.split(|&byte| byte == b';').next().unwrap_or_default();
        last_is_empty = matches!(segment, b"" | b"." | b"..");
        match segment {
            b"" | b"." => {}
            b".." => drop(segments.pop()?),
            _ => segments.push(segment),
        }
    }
    let mut normal = Vec::with_capacity(decoded.len() + 1);
    for segment in segments {
        normal.push(b'/');
        normal.extend_from_slice(segment);
    }
    if last_is_empty || normal.is_empty() {
        normal.push(b'/');
    }
    Some(normal)
}

fn decode(path: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, after)) = rest.split_first() {
        let escape = if byte == b'%' { hex_pair(after) } else { None };
        decoded.push(escape.unwrap_or(byte));
        rest = if escape.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    decoded
}

fn hex_pair(digits: &[u8]) -> Option<u8> {
    let digit = |at: usize| char::from(*digits.get(at)?).to_digit(16);
    u8::try_from(digit(0)? << 4 | digit(1)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::Origins;

    fn route(path: &str) -> Route {
        Route {
            path: path.to_owned(),
            strip_prefix: false,
            upstreams: Vec::new(),
            origins: Origins::default(),
            allow: Vec::new(),
            rules: crate::limits::Rules::default(),
        }
    }

    fn site(paths: &[&str]) -> Site {
        Site { routes: paths.iter().map(|path| route(path)).collect(), ..Site::default() }
    }

    fn found(site: &Site, path: &str) -> Result<Option<String>, Ambiguous> {
        find(site, path.as_bytes()).map(|found| {
            found.map(|(index, route)| {
                assert_eq!(site.routes[index].path, route.path);
                route.path.clone()
            })
        })
    }

    #[test]
    fn the_longest_prefix_on_a_segment_boundary_wins() {
        let site = site(&["/socket.io/admin/", "/socket.io/", "/exact", "/"]);
        for (path, expected) in [
            ("/", "/"),
            ("/x", "/"),
            ("/socket.io", "/socket.io/"),
            ("/socket.io/", "/socket.io/"),
            ("/socket.io/x/y", "/socket.io/"),
            ("/socket.iox", "/"),
            ("/Socket.io/", "/"),
            ("/socket.io/admin", "/socket.io/admin/"),
            ("/socket.io/administer", "/socket.io/"),
            ("/exact", "/exact"),
            ("/exact/x", "/exact"),
            ("/exactly", "/"),
        ] {
            assert_eq!(found(&site, path), Ok(Some(expected.to_owned())), "{path}");
        }
    }

    #[test]
    fn without_a_root_route_other_paths_have_none() {
        let site = site(&["/socket.io/"]);
        assert_eq!(found(&site, "/"), Ok(None));
        assert_eq!(found(&site, "/socket.iox"), Ok(None));
        assert_eq!(found(&site, "/x%2fy"), Ok(None));
        assert_eq!(found(&site, "/socket.io"), Ok(Some("/socket.io/".to_owned())));
    }

    #[test]
    fn the_order_of_routes_does_not_decide() {
        let site = site(&["/", "/a", "/a/b/"]);
        assert_eq!(found(&site, "/a/b/c"), Ok(Some("/a/b/".to_owned())));
        assert_eq!(found(&site, "/a/c"), Ok(Some("/a".to_owned())));
    }

    #[test]
    fn a_path_with_two_routes_is_ambiguous() {
        let site = site(&["/admin/", "/public/", "/"]);
        for path in [
            "/public/../admin/x",
            "/public/%2e%2e/admin/x",
            "/public/.%2E/admin/x",
            "/public%2f..%2fadmin/x",
            "/public/..\\admin",
            "/public/..%5cadmin",
            "/public/%252e%252e/admin",
            "/public/..;/admin",
            "/public/..;a=b/admin",
            "//admin/x",
            "/./admin/x",
            "/%61dmin/x",
            "/x/../admin",
            "/\\admin",
            "/admin;x/y",
            "/public/..",
            "/admin/../",
        ] {
            assert_eq!(found(&site, path), Err(Ambiguous), "{path}");
        }
    }

    #[test]
    fn a_path_behind_a_host_is_ambiguous_where_it_has_another_route() {
        let site = site(&["/admin/", "/"]);
        for path in [
            "//x/admin/y",
            "/\\x/admin/y",
            "//user@x/admin",
            "///x//admin/y",
            "//x\\%61dmin",
            "//x/%2561dmin",
        ] {
            assert_eq!(found(&site, path), Err(Ambiguous), "{path}");
        }
        for path in ["//x/y", "//", "//x", "/x//admin", "///"] {
            assert_eq!(found(&site, path), Ok(Some("/".to_owned())), "{path}");
        }
        assert_eq!(found(&site, "//x/../y"), Err(Ambiguous), "climbs above the host's root");
    }

    #[test]
    fn case_opens_no_route_that_not_everybody_may_enter() {
        let mut site = site(&["/admin/", "/", "/Open/", "/admin/open/"]);
        site.routes[0].allow = vec!["192.0.2.0/24".parse().unwrap()];
        for path in ["/ADMIN/x", "/Admin", "/%41dmin/x", "//x/aDmin", "/x/../Admin", "/Admin/open/"] {
            assert_eq!(found(&site, path), Err(Ambiguous), "{path}");
        }
        for (path, expected) in [
            ("/admin/X", "/admin/"),
            ("/admin/open/X", "/admin/open/"),
            ("/open/", "/"),
            ("/Administer", "/"),
            ("/Open/admin", "/Open/"),
        ] {
            assert_eq!(found(&site, path), Ok(Some(expected.to_owned())), "{path}");
        }
    }

    #[test]
    fn odd_paths_with_one_route_pass() {
        let site = site(&["/admin/", "/"]);
        for (path, expected) in [
            ("/admin/x%2fy", "/admin/"),
            ("/admin/a/../b", "/admin/"),
            ("/admin//b", "/admin/"),
            ("/admin/%e2%82%ac;v=1", "/admin/"),
            ("/a%20b/.well-known/x", "/"),
            ("/a/..", "/"),
            ("/100%25", "/"),
            ("/%25zz/%254", "/"),
        ] {
            assert_eq!(found(&site, path), Ok(Some(expected.to_owned())), "{path}");
        }
    }

    #[test]
    fn a_path_that_some_servers_refuse_is_refused() {
        let site = site(&["/"]);
        for path in [
            "/..",
            "/../x",
            "/a/../../x",
            "/%2e%2e/x",
            "/%252e%252e/x",
            "/..\\x",
            "/..;/x",
            "/%",
            "/%4",
            "/%zz",
            "/a%zz/b",
            "/%00",
            "/a%00b",
        ] {
            assert_eq!(found(&site, path), Err(Ambiguous), "{path}");
        }
    }

    fn rest(prefix: &str, path: &str) -> Result<String, Ambiguous> {
        let route = Route { strip_prefix: true, ..route(prefix) };
        let rest = stripped(&route, path.as_bytes()).map(|length| path[length..].to_owned())?;
        Ok(if rest.is_empty() { "/".to_owned() } else { rest })
    }

    #[test]
    fn a_stripped_path_begins_with_one_slash() {
        for (prefix, path, expected) in [
            ("/game/", "/game/", "/"),
            ("/game/", "/game", "/"),
            ("/game", "/game", "/"),
            ("/game", "/game/x/y", "/x/y"),
            ("/game/", "/game/x//y", "/x//y"),
            ("/game/", "/game/a%2fb/", "/a%2fb/"),
            ("/game/", "/game/a/../b", "/a/../b"),
            ("/game/", "/game/game/", "/game/"),
            ("/", "/x", "/x"),
        ] {
            assert_eq!(rest(prefix, path), Ok(expected.to_owned()), "{path}");
        }
        assert_eq!(stripped(&route("/game/"), b"/game//evil"), Ok(0), "without strip_prefix nothing is cut");
    }

    proptest::proptest! {
        /// However a path is put together: what goes upstream begins with one slash for every reader, and stays below the root.
        #[test]
        fn no_path_gets_past_the_strip(pieces in proptest::collection::vec(
            proptest::sample::select(vec!["/", "//", ".", "..", "%2e", "%2F", "%5c", "%252f", "\\", ";", ";a=b", "a", "game", "%00", "%", "é"]),
            0..12,
        )) {
            let path = format!("/game/{}", pieces.concat());
            let route = Route { strip_prefix: true, ..route("/game/") };
            let Ok(length) = stripped(&route, path.as_bytes()) else { return Ok(()) };
            let rest = &path.as_bytes()[length..];
            proptest::prop_assert!(rest.first() == Some(&b'/'), "{}", path);
            proptest::prop_assert!(normalise(rest).is_some(), "{}", path);
            let once = decode(rest);
            for reading in [rest, &once, &decode(&once)] {
                let second = reading.get(1);
                proptest::prop_assert!(!matches!(second, Some(b'/' | b'\\')), "{}", path);
            }
        }
    }

    #[test]
    fn a_rest_that_leads_elsewhere_is_refused() {
        for path in [
            "/game//evil",
            "/game//",
            "/game/\\evil",
            "/game\\/evil",
            "/game/%2fevil",
            "/game/%2F.;",
            "/game/%5cevil",
            "/game/%252fevil",
            "/game/.//evil",
            "/game/%2e//evil",
            "/game/a/..//evil",
            "/game/;x//evil",
            "/game/.;x//evil",
            "/game/..",
            "/game/../admin",
            "/game/%2e%2e/admin",
            "/game/a/../../admin",
            "/game/%00",
            "/game/%zz",
        ] {
            assert_eq!(rest("/game/", path), Err(Ambiguous), "{path}");
        }
    }

    #[test]
    fn host_is_what_the_connection_was_opened_for() {
        let host = |text: &str| Host::parse(text).unwrap();
        let sent = [SanName::parse_dns("a.test").unwrap(), SanName::parse_dns("*.b.test").unwrap()];
        assert_eq!(check_host(&host("a.test"), Some(&host("A.test.")), &sent), Ok(()));
        assert_eq!(check_host(&host("x.b.test"), Some(&host("a.test")), &sent), Err(Misdirected));
        assert_eq!(check_host(&host("x.b.test"), None, &sent), Ok(()));
        assert_eq!(check_host(&host("b.test"), None, &sent), Err(Misdirected));
        assert_eq!(check_host(&host("127.0.0.1"), None, &sent), Err(Misdirected));
    }
}
