//! Every key of `sanedge.toml`: its table, type, default, range and meaning.
//!
//! The reader of the file, docs/configuration.md and the man page take the keys from here. Keys of the limits module have theirs
//! from there.

use super::wire;
use crate::limits::{self, Preset, Range, Unit};

/// A table of the file.
#[derive(Debug)]
pub struct Table {
    /// As it is written in the file.
    pub title: &'static str,
    /// The same after a verb.
    pub place: &'static str,
    /// Its keys, tables in it included, but for those of `settings`.
    keys: &'static [Key],
    /// Its keys of the limits module, behind the others.
    settings: fn() -> Vec<(&'static Range, &'static Preset)>,
}

/// A key; what it holds is in [`Row`].
#[derive(Debug)]
struct Key {
    name: &'static str,
    holds: Holds,
}

#[derive(Debug)]
enum Holds {
    /// Another table, or a list of so many of them.
    Table { items_max: usize },
    /// Anything else, described here.
    Value {
        kind: &'static str,
        default: &'static str,
        range: &'static str,
        items_max: usize,
        means: &'static str,
    },
}

/// One key as a page shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The key.
    pub name: &'static str,
    /// Its type.
    pub kind: &'static str,
    /// The value if the key is missing; `required` if it must not be.
    pub default: String,
    /// Which values are allowed; empty if every value of the type is.
    pub range: String,
    /// What it does.
    pub means: &'static str,
    /// The reason for default and range; empty if they need none.
    pub why: &'static str,
}

const fn table(name: &'static str, items_max: usize) -> Key {
    Key { name, holds: Holds::Table { items_max } }
}

const fn one(
    name: &'static str,
    kind: &'static str,
    default: &'static str,
    range: &'static str,
    means: &'static str,
) -> Key {
    Key { name, holds: Holds::Value { kind, default, range, items_max: 1, means } }
}

const fn list(
    name: &'static str,
    kind: &'static str,
    default: &'static str,
    items_max: usize,
    means: &'static str,
) -> Key {
    Key { name, holds: Holds::Value { kind, default, range: "", items_max, means } }
}

const ADDRESSES: &str = "list of addresses with port";
const BOOLEAN: &str = "true or false";
const FILE: &str = "path";
const NETWORKS: &str = "list of networks";

/// The keys above the first header.
pub static TOP: Table = Table {
    title: "the top of the file",
    place: "at the top of the file",
    keys: &[
        one(
            "board",
            "name",
            "required",
            "`host`, or a profile of docs/boards.md",
            "The machine that serves the bundle; its profile sets the limits that `[limits]` does not. `host` is the machine that runs `sanedge bundle`.",
        ),
        table("listen", 1),
        table("certificate", wire::CERTIFICATES_MAX),
        table("site", wire::SITES_MAX),
        table("acme", 1),
        table("local", 1),
        table("limits", 1),
        list(
            "trusted_proxies",
            NETWORKS,
            "`[]`",
            wire::NETS_MAX,
            "Proxies whose `X-Forwarded-For` names the client; from other peers the field is removed.",
        ),
        list(
            "exempt",
            NETWORKS,
            "`[\"127.0.0.0/8\", \"::1/128\"]`",
            wire::NETS_MAX,
            "Client addresses without limits per address. Replaces the default; `[]` exempts none.",
        ),
        one(
            "trust",
            FILE,
            "none",
            "",
            "PEM file with the roots of a private CA, which certificate chains may lead to.",
        ),
        one("watch", BOOLEAN, "`false`", "", "Reload when the bundle file is replaced."),
        one(
            "suite_order",
            "text",
            "`\"auto\"`",
            "`\"auto\"`, `\"aes\"`, `\"chacha\"`",
            "The preferred cipher. `auto` takes the one that this processor is faster at; with `aes`, a client that prefers ChaCha20 still gets it.",
        ),
        one(
            "post_quantum",
            "text",
            "`\"auto\"`",
            "`\"auto\"`, `\"prefer\"`, `\"off\"`",
            "The key exchange X25519MLKEM768 (TLS 1.3), which also protects what is recorded today against later quantum computers. `auto` uses it with clients that send a key share for it, as browsers do. `prefer` also asks clients that support it and sent another share, which costs them a round trip. `off` saves processor time for each handshake.",
        ),
    ],
    settings: || limits::ranges(&limits::DRAIN),
};

/// `[listen]`.
pub static LISTEN: Table = Table {
    title: "[listen]",
    place: "in [listen]",
    keys: &[
        list(
            "https",
            ADDRESSES,
            "`[\"[::]:443\"]`",
            wire::LISTENERS_MAX,
            "TLS listeners; `[::]` includes IPv4.",
        ),
        list(
            "http",
            ADDRESSES,
            "`[]`",
            wire::LISTENERS_MAX,
            "Plain HTTP listeners, which redirect to https and answer ACME challenges.",
        ),
        one(
            "admin",
            "address",
            "`unix:/run/sanedge/admin.sock`",
            "`unix:PATH`, or a loopback address with port",
            "The admin socket; on TCP it is read-only. If the process may not create the default socket, the edge runs without one and logs a warning.",
        ),
        one(
            "default_host",
            "host",
            "none",
            "one of the bundle's hosts",
            "The host whose certificate answers a ClientHello without a server name; without it such a client gets an alert. Needed for hosts that are IP addresses.",
        ),
        one(
            "public_https_port",
            "port",
            "the port of `https` if all listeners have the same, else 443",
            "1 to 65535",
            "The port that clients connect to, if a router maps another one: for redirects and origins.",
        ),
        one("acme_dir", FILE, "none", "", "Folder with ACME http-01 tokens, served on the `http` listeners."),
        list(
            "proxy_protocol_from",
            NETWORKS,
            "`[]`",
            wire::NETS_MAX,
            "Proxies that must send a PROXY protocol header (version 1 or 2) at the start of each connection.",
        ),
    ],
    settings: Vec::new,
};

/// `[[certificate]]`.
pub static CERTIFICATE: Table = Table {
    title: "[[certificate]]",
    place: "in [[certificate]]",
    keys: &[
        one("chain", FILE, "required", "", "PEM file with the certificate and its intermediates."),
        one("key", FILE, "required", "", "PEM file with the private key."),
    ],
    settings: Vec::new,
};

/// `[acme]`.
pub static ACME: Table = Table {
    title: "[acme]",
    place: "in [acme]",
    settings: Vec::new,
    keys: &[
        one(
            "terms",
            "text",
            "required",
            "`\"agreed\"`",
            "States that you have read the CA's terms of service and agree to them.",
        ),
        one(
            "contact",
            "mail address",
            "none",
            "",
            "Mail address for notices of the CA. Let's Encrypt sends none.",
        ),
        one(
            "directory",
            "text",
            "`\"letsencrypt\"`",
            "`\"letsencrypt\"`, `\"letsencrypt-staging\"`, `\"zerossl\"`, `\"google\"`, or an https URL",
            "The CA. `letsencrypt-staging` is for trials: browsers refuse its certificates. ZeroSSL, Google and SSL.com need `eab`.",
        ),
        one(
            "trust",
            FILE,
            "none",
            "",
            "PEM file with the roots of a private CA: for the connection to its directory and, without `trust` at the top of the file, for the chains that it issues.",
        ),
        one(
            "profile",
            "text",
            "`\"auto\"`",
            "1 to 64 letters, digits, `-`, `_` and `.`",
            "The CA's certificate profile. `auto` is the CA's default, and `shortlived` for addresses. A profile that the CA does not offer is refused.",
        ),
        one(
            "challenge",
            "text",
            "`\"auto\"`",
            "`\"auto\"`, `\"http-01\"`, `\"tls-alpn-01\"`, `\"dns-01\"`",
            "How the CA validates a name: `http-01` on port 80, `tls-alpn-01` on port 443, `dns-01` by a TXT record, which wildcards need. `auto` is dns-01 with `[acme.dns]`; else http-01 if the edge answers on an `http` listener; else tls-alpn-01. dns-01 cannot validate IP addresses.",
        ),
        one(
            "group",
            "text",
            "`\"host\"`",
            "`\"host\"`, `\"site\"`",
            "One certificate for each host, so that no host can delay another, or one for all hosts of a site.",
        ),
        one("key", "text", "`\"p256\"`", "`\"p256\"`, `\"p384\"`", "The key type of the certificates."),
        one(
            "state",
            FILE,
            "`\"/var/lib/sanedge-acme\"`",
            "",
            "Folder of the account, its certificates and their keys. It belongs to the user that runs `sanedge renew`, with mode 0700; `renew` creates it.",
        ),
        one(
            "challenges",
            FILE,
            "`\"/run/sanedge-acme/challenges\"`",
            "",
            "Folder in which `sanedge renew` writes challenges, and from which the edge answers them.",
        ),
        table("eab", 1),
        table("fallback", FALLBACKS_MAX),
        table("certificate", wire::CERTIFICATES_MAX),
        table("dns", 1),
    ],
};

/// `[acme.eab]`.
pub static ACME_EAB: Table = Table {
    title: "[acme.eab]",
    place: "in `eab`",
    settings: Vec::new,
    keys: &[
        one(
            "kid",
            "text",
            "required",
            "1 to 256 visible ASCII characters",
            "Identifier of the key that the CA's web site shows (external account binding, RFC 8555 §7.3.4). Also `eab = { kid = \"…\", key_file = \"…\" }`.",
        ),
        one(
            "key_file",
            FILE,
            "required",
            "",
            "File with that key alone, in base64url. Give it to `root:sanedge-acme` with mode 0640. It is read when the account is created.",
        ),
    ],
};

/// `[[acme.fallback]]`.
pub static ACME_FALLBACK: Table = Table {
    title: "[[acme.fallback]]",
    place: "in [[acme.fallback]]",
    settings: Vec::new,
    keys: &[
        one(
            "directory",
            "text",
            "required",
            "as in [acme]",
            "Another CA, used if those before it cannot be reached or fail with an error of their own; never after a failed validation, a refused name or a rate limit.",
        ),
        one(
            "trust",
            FILE,
            "none",
            "",
            "As in [acme], for the connection to its directory. For the chains that it issues, put its roots into `trust` at the top of the file as well.",
        ),
        one("profile", "text", "`\"auto\"`", "as in [acme]", "As in [acme]."),
        table("eab", 1),
    ],
};

/// CAs beside the first: each is one more attempt within a run.
const FALLBACKS_MAX: usize = 3;

/// `[acme.dns]`.
pub static ACME_DNS: Table = Table {
    title: "[acme.dns]",
    place: "in [acme.dns]",
    settings: Vec::new,
    keys: &[
        one(
            "provider",
            "text",
            "required",
            "`\"rfc2136\"`, `\"acme-dns\"`, `\"cloudflare\"`, `\"desec\"`, `\"duckdns\"`, `\"exec\"`",
            "What creates the TXT records of dns-01 ([dns-01.md](dns-01.md)). `exec` runs a program of yours.",
        ),
        one(
            "credentials",
            FILE,
            "required",
            "",
            "TOML file with the keys of the provider. Only `sanedge renew` reads it; other users must not be able to read it.",
        ),
        list(
            "resolvers",
            "list of addresses",
            "the system's",
            RESOLVERS_MAX,
            "Name servers for every query about a record and its zone, instead of the system's resolver and the zone's own servers.",
        ),
    ],
};

/// Most name servers, which are queried one after the other.
const RESOLVERS_MAX: usize = 4;

/// `[[acme.certificate]]`.
pub static ACME_CERTIFICATE: Table = Table {
    title: "[[acme.certificate]]",
    place: "in [[acme.certificate]]",
    settings: Vec::new,
    keys: &[list(
        "names",
        "list of names",
        "required",
        ACME_NAMES_MAX,
        "The names of one certificate. Hosts that it covers get no certificate of their own. A wildcard such as `*.recre.store` needs `[acme.dns]`.",
    )],
};

/// Names of one certificate: Let's Encrypt's limit.
const ACME_NAMES_MAX: usize = 100;

/// `[local]`.
pub static LOCAL: Table = Table {
    title: "[local]",
    place: "in [local]",
    settings: || vec![(&LOCAL_LIFETIME, &Preset::Fixed(90 * DAY_MS))],
    keys: &[
        one(
            "folder",
            FILE,
            "`\"local\"`",
            "",
            "Folder of the CA, its certificate and their keys. It belongs to root, and the deployment makes it.",
        ),
        list(
            "permit",
            "list of domains and networks",
            "`[]`",
            LOCAL_PERMITS_MAX,
            "What the CA may issue for in addition to what the hosts of the file imply: a domain with all names below it, or a network. It is fixed when the CA is made; a later host outside all of these needs a new CA.",
        ),
    ],
};

/// Each is one more entry in both certificates of the CA.
const LOCAL_PERMITS_MAX: usize = 32;
const DAY_MS: u64 = 86_400_000;

/// `[local] lifetime`.
pub(super) static LOCAL_LIFETIME: Range = Range {
    key: "lifetime",
    unit: Unit::Milliseconds,
    min: 60_000,
    max: 397 * DAY_MS,
    zero: None,
    means: "For how long a certificate is valid. It is renewed after two thirds, or half if that is below ten days.",
    reason: "nothing revokes a stolen key before its end, and a board whose clock may be weeks behind needs a longer one",
};

macro_rules! rules {
    ($($own:expr),*) => {
        &[
            $($own,)*
            list("upstream", "list of upstreams", "required", wire::ROUTE_UPSTREAMS_MAX, "The app's addresses: `127.0.0.1:3002`, `localhost:3002` or `unix:/run/app.sock`. With several, an Engine.IO session stays with the upstream that opened it."),
            list("origins", "list of origins", "none", wire::ORIGINS_MAX, "More origins that may open a WebSocket, beside the site's own (see `origins_default`): `\"https://host\"`, `\"capacitor://localhost\"`. Those of a route add to those of its site. `*` allows all; `null` allows every page without an origin of its own, which any page can become."),
            one("origins_default", BOOLEAN, "`true`", "", "Whether the site's own origins may open a WebSocket: `https://` and its hosts, and their parent domain if the bundle serves it, at `public_https_port`; `wss://` and `ws://` of its hosts."),
            list("allow", NETWORKS, "`[]`: all", wire::ALLOW_MAX, "The client addresses that are allowed; others get 403."),
            one("allow_public_upstream", BOOLEAN, "`false`", "", "Accept an upstream with a public address. The connection to it is not encrypted."),
        ]
    };
}

/// `[[site]]`.
pub static SITE: Table = Table {
    title: "[[site]]",
    place: "in [[site]]",
    keys: rules!(
        list("hosts", "list of hosts", "required", wire::HOSTS_MAX, "The names or IP addresses of the site."),
        one(
            "acme",
            BOOLEAN,
            "`true`",
            "",
            "With [acme]: whether `sanedge renew` obtains certificates for the hosts of this site that no certificate in this file covers."
        ),
        one(
            "local",
            BOOLEAN,
            "`true` for names and addresses of private networks",
            "",
            "With [local]: whether the local CA issues for the hosts of this site that no certificate in this file covers."
        ),
        table("route", wire::ROUTES_MAX),
        table("headers", wire::SITE_HEADERS_MAX),
        one("path", FILE_PREFIX, "`\"/\"`", "", "The path prefix that the site's own upstream serves."),
        one(
            "redirect",
            "https URL",
            "none",
            "`https://HOST`, with a port and the beginning of a path if needed",
            "Redirects every request to this URL, followed by the path and query of the request (308, which keeps the method): for `www` and former names. Such a site has no `upstream`, no `route` and none of their keys. WebSocket clients do not follow redirects."
        )
    ),
    settings: || {
        let rules = limits::ranges(&limits::RULES).into_iter();
        rules.chain(limits::SITE).collect()
    },
};

/// `[site.headers]`, whose keys are names of fields.
pub static HEADERS: Table = Table {
    title: "[site.headers]",
    place: "in [site.headers]",
    keys: &[one(
        FIELD_NAME,
        "text, or false",
        "as the app sends it",
        "at most 32 fields of 8 KiB together; visible ASCII",
        "A field of the site's https responses, by its name: a text replaces what the app sends, `false` removes it, as in `X-Frame-Options = \"DENY\"` and `Server = false`. It applies to every final response of the app, the 101 of a WebSocket included; responses of the edge itself get the set fields that they do not have. Fields of framing, connection, WebSocket handshake, body (`Content-Type`) and `Sanedge-Error` cannot be changed.",
    )],
    settings: Vec::new,
};

/// Stands for the name of any field.
pub const FIELD_NAME: &str = "Field-Name";

/// `[[site.route]]`.
pub static ROUTE: Table = Table {
    title: "[[site.route]]",
    place: "in [[site.route]]",
    keys: rules!(
        one(
            "path",
            FILE_PREFIX,
            "required",
            "",
            "The path prefix, on a segment boundary; the longest match wins."
        ),
        one(
            "strip_prefix",
            BOOLEAN,
            "`false`",
            "",
            "The upstream gets the path without the route's `path`, beginning with one `/`; the query is unchanged. If an upstream could read the remaining path as another place (`//host`, `/..`), the client gets 400 `ambiguous_path`."
        )
    ),
    settings: || limits::ranges(&limits::RULES),
};

const FILE_PREFIX: &str = "path prefix";

/// `[limits]`.
pub static LIMITS: Table = Table {
    title: "[limits]",
    place: "in [limits]",
    keys: &[],
    settings: || limits::ranges(&limits::LIMITS),
};

/// All tables, in the order of the file.
pub static TABLES: [&Table; 13] = [
    &TOP,
    &LISTEN,
    &CERTIFICATE,
    &ACME,
    &ACME_EAB,
    &ACME_FALLBACK,
    &ACME_DNS,
    &ACME_CERTIFICATE,
    &LOCAL,
    &SITE,
    &HEADERS,
    &ROUTE,
    &LIMITS,
];

impl Table {
    /// The names of its keys, tables in it included.
    pub fn names(&self) -> Vec<&'static str> {
        let settings = (self.settings)().into_iter().map(|(range, _)| range.key);
        self.keys.iter().map(|key| key.name).chain(settings).collect()
    }

    /// Its keys as a page shows them, tables in it left out.
    pub fn rows(&self) -> Vec<Row> {
        let settings = (self.settings)().into_iter().map(|(range, preset)| setting_row(range, preset));
        self.keys.iter().filter_map(Key::row).chain(settings).collect()
    }

    /// The same without those that a route has from its site.
    pub fn own_rows(&self) -> Vec<Row> {
        let mut rows = self.rows();
        if self.title == ROUTE.title {
            let shared = SITE.rows();
            rows.retain(|row| !shared.contains(row));
        }
        rows
    }
}

impl Key {
    fn row(&self) -> Option<Row> {
        match self.holds {
            Holds::Table { .. } => None,
            Holds::Value { kind, default, range, items_max, means } => {
                let at_most = if items_max > 1 { format!("at most {items_max}") } else { range.to_owned() };
                Some(Row {
                    name: self.name,
                    kind,
                    default: default.to_owned(),
                    range: at_most,
                    means,
                    why: "",
                })
            }
        }
    }

    fn items_max(&self) -> usize {
        match self.holds {
            Holds::Table { items_max } | Holds::Value { items_max, .. } => items_max,
        }
    }
}

fn setting_row(range: &'static Range, preset: &Preset) -> Row {
    let default = match preset {
        Preset::Fixed(value) => format!("`{}`", range.unit.show(*value)),
        Preset::Board(rule) | Preset::Absent(rule) => (*rule).to_owned(),
    };
    let allowed = if range.unit == Unit::Switch { String::new() } else { range.to_string() };
    Row {
        name: range.key,
        kind: range.unit.name(),
        default,
        range: allowed,
        means: range.means,
        why: range.reason,
    }
}

/// How many entries a list may have; one if `name` is not a list.
pub fn items_max(name: &str) -> usize {
    let mut keys = TABLES.iter().flat_map(|table| table.keys);
    keys.find(|key| key.name == name).map_or(1, Key::items_max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_described_once_and_every_number_has_its_range() {
        for table in TABLES {
            let (names, rows) = (table.names(), table.rows());
            let tables = table.keys.iter().filter(|key| matches!(key.holds, Holds::Table { .. })).count();
            assert_eq!(
                names.len(),
                rows.len() + tables,
                "{}: a number that the limits do not know",
                table.title
            );
            let mut once = names.clone();
            once.sort_unstable();
            once.dedup();
            assert_eq!(once.len(), names.len(), "{}", table.title);
            for row in rows {
                assert!(row.means.ends_with('.') && !row.default.is_empty(), "{row:?}");
                assert!(!row.means.contains('|') && !row.why.ends_with('.'), "{row:?}");
            }
        }
        let everywhere: Vec<_> = TABLES.iter().flat_map(|table| table.names()).collect();
        for lost in
            [limits::ranges(&limits::LIMITS), limits::ranges(&limits::RULES), limits::ranges(&limits::DRAIN)]
        {
            assert!(lost.iter().all(|(range, _)| everywhere.contains(&range.key)));
        }
    }

    #[test]
    fn lists_have_the_room_that_the_bundle_has() {
        assert_eq!(items_max("https"), wire::LISTENERS_MAX);
        assert_eq!(items_max("site"), wire::SITES_MAX);
        assert_eq!(items_max("allow"), wire::ALLOW_MAX);
        assert_eq!((items_max("watch"), items_max("no_such_key")), (1, 1));
    }
}
