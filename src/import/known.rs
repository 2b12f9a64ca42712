//! What becomes of nginx's directives, request fields and NPM's own included files, each group with its reason.
//!
//! A reason is a text of ours: no argument of a directive can get into a report.

/// What becomes of a directive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// sanedge.toml says it.
    Translated,
    /// The same; what to check.
    Check(&'static str),
    /// Not needed, and why.
    Fine(&'static str),
    /// Left out, and what that changes. Nobody gets access by it.
    Lost(&'static str),
    /// Without it the host could be open to more clients: the host is written as comments.
    Closed(&'static str),
}

use crate::excerpt::Excerpt;
use Fate::{Closed, Fine, Lost};

const TLS: Fate = Fine("sanedge has its own TLS settings");
const BUFFERS: Fate = Fine("sanedge streams requests and responses, with limits of its own");
const PROCESS: Fate = Fine("it concerns nginx's own process or logs; `access_log = true` logs requests");
const NAMES: Fate = Fine("sanedge resolves names when it connects");
const REDIRECTS: Fate = Fine("port 80 redirects to https");
const CACHE: Fate = Lost("sanedge does not cache or compress: the app can");
const BODIES: Fate = Lost("sanedge changes no body, cookie or Location of responses: let the app do it");
const ERRORS: Fate = Lost("sanedge has no error pages: clients get those of the app, or a short text");
const RATES: Fate =
    Lost("`[limits]` has limits for each client address, but none for paths or bytes per second");
const FILES: Fate = Lost("sanedge serves no files: let a web server or the app do it");
const PASSWORD: Fate =
    Closed("sanedge does not ask for passwords: let the app do it, or leave this host with NPM");
const ASKS: Fate = Closed("sanedge does not ask another server for permission: let the app do it");
const CLIENTS: Fate = Closed("sanedge does not ask clients for certificates");
const FILTER: Fate =
    Closed("it refuses or changes requests by rules that sanedge does not have: let the app do it");
pub(super) const UNKNOWN: Fate = Closed("sanedge does not know this directive: check what it protects");

/// Those that are judged by what they say.
const TRANSLATED: [&str; 15] = [
    "server",
    "listen",
    "server_name",
    "location",
    "proxy_pass",
    "allow",
    "deny",
    "proxy_set_header",
    "proxy_read_timeout",
    "client_max_body_size",
    "ssl_certificate",
    "ssl_certificate_key",
    "upstream",
    "http",
    "include",
];

/// Names, separated by blanks; one that ends in `*` is the beginning of one. An exact name counts before a beginning.
const DIRECTIVES: &[(&str, Fate)] = &[
    (
        "ssl ssl_protocols ssl_ciphers ssl_prefer_server_ciphers ssl_session_* ssl_dhparam ssl_ecdh_curve ssl_stapling* \
         ssl_trusted_certificate ssl_buffer_size ssl_early_data ssl_conf_command ssl_reject_handshake http2* http3* quic_*",
        TLS,
    ),
    (
        "proxy_http_version proxy_buffering proxy_request_buffering proxy_buffer_size proxy_buffers proxy_busy_buffers_size \
         proxy_max_temp_file_size proxy_temp_* proxy_socket_keepalive proxy_connect_timeout proxy_send_timeout proxy_next_upstream* \
         proxy_headers_hash_* proxy_ignore_client_abort proxy_pass_header proxy_ssl_* proxy_send_lowat proxy_force_ranges tcp_nodelay \
         tcp_nopush sendfile* keepalive_* client_body_* client_header_* large_client_header_buffers send_timeout send_lowat output_buffers \
         postpone_output reset_timedout_connection lingering_* chunked_transfer_encoding types_hash_* server_names_hash_* variables_hash_* \
         map_hash_* underscores_in_headers ignore_invalid_headers max_ranges aio directio",
        BUFFERS,
    ),
    (
        "access_log error_log log_not_found log_format log_subrequest open_log_file_cache rewrite_log server_tokens worker_* pid user events \
         load_module daemon master_process pcre_jit env lock_file thread_pool timer_resolution uninitialized_variable_warn lua_package_* \
         lua_shared_dict lua_ssl_* lua_code_cache perl_modules",
        PROCESS,
    ),
    ("resolver resolver_timeout", NAMES),
    (
        "default_type types charset* etag if_modified_since override_charset source_charset msie_*",
        Fine("the app sets the content type"),
    ),
    (
        "absolute_redirect port_in_redirect server_name_in_redirect",
        Fine("sanedge's redirects name https and the host"),
    ),
    ("satisfy", Fine("without a password, `allow` alone decides")),
    ("set", Fine("its value is used where another directive names it")),
    ("proxy_cache_bypass proxy_no_cache proxy_cache_convert_head", Fine("sanedge caches nothing")),
    (
        "set_real_ip_from real_ip_header real_ip_recursive",
        Lost("if a proxy forwards to this machine, list it in `trusted_proxies`"),
    ),
    (
        "gzip* gunzip* brotli* zstd* proxy_cache* proxy_store* proxy_ignore_headers expires slice open_file_cache* fastcgi_cache*",
        CACHE,
    ),
    (
        "sub_filter* addition_* add_before_body add_after_body add_trailer image_filter* ssi* xslt_* proxy_cookie_* proxy_redirect",
        BODIES,
    ),
    (
        "add_header more_set_headers more_clear_headers proxy_hide_header security_headers* http2_push* header_filter_*",
        Lost(
            "the field is not set or removed: write it in [site.headers] (X-Frame-Options = \"DENY\", Server = false)",
        ),
    ),
    ("error_page proxy_intercept_errors recursive_error_pages", ERRORS),
    ("limit_req* limit_conn* limit_rate*", RATES),
    ("root index autoindex* open_file*", FILES),
    ("mirror mirror_request_body", Lost("sanedge copies no requests to a second app")),
    (
        "map geo split_clients charset_map auth_request_set auth_delay",
        Lost("it only sets variables for other directives"),
    ),
    ("stream mail", Lost("sanedge serves HTTP and WebSockets only: leave this with NPM")),
    ("auth_basic* auth_ldap* auth_pam* auth_jwt* auth_digest*", PASSWORD),
    ("auth_request", ASKS),
    ("ssl_verify_client ssl_client_certificate ssl_crl ssl_verify_depth ssl_ocsp", CLIENTS),
    ("internal", Closed("clients cannot request this path: only nginx itself can")),
    (
        "if limit_except rewrite valid_referers secure_link* modsecurity* access_by_lua* rewrite_by_lua* js_*",
        FILTER,
    ),
    ("return", Closed("it keeps these requests from the app")),
    (
        "try_files alias fastcgi_pass uwsgi_pass scgi_pass grpc_pass memcached_pass stub_status empty_gif content_by_lua* dav_methods",
        Closed("sanedge can only pass requests to an app by HTTP"),
    ),
];

/// What became of one directive, or of a file that was not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// Which file, of those that were read.
    pub(crate) file: u16,
    /// 0: the whole file.
    pub(crate) line: u32,
    pub(crate) name: String,
    pub(crate) fate: Fate,
}

impl Row {
    /// The directive's name, which may be anything where a file is no configuration at all.
    pub(crate) fn shown(&self) -> String {
        let is_known = directive(&self.name) != UNKNOWN || TRANSLATED.contains(&self.name.as_str());
        if is_known { self.name.clone() } else { Excerpt::of(&self.name).to_string() }
    }

    pub(super) fn is_closed(&self) -> bool {
        matches!(self.fate, Fate::Closed(_))
    }

    pub(super) fn check(&self) -> Option<&'static str> {
        match self.fate {
            Fate::Check(what) => Some(what),
            _ => None,
        }
    }
}

/// What becomes of `name` wherever it stands.
pub(crate) fn directive(name: &str) -> Fate {
    let rows =
        || DIRECTIVES.iter().flat_map(|(names, fate)| names.split_whitespace().map(move |one| (one, *fate)));
    let exact = rows().find(|(one, _)| *one == name);
    let begins = |one: &str| one.strip_suffix('*').is_some_and(|begin| name.starts_with(begin));
    exact.or_else(|| rows().find(|(one, _)| begins(one))).map_or(UNKNOWN, |(_, fate)| fate)
}

/// Whether a location with this directive has its answers from elsewhere than `proxy_pass`.
pub(super) fn is_handler(name: &str) -> bool {
    name == "return" || matches!(directive(name), fate if fate == directive("try_files"))
}

/// Every name of the table, for tests and docs.
#[cfg(test)]
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    DIRECTIVES.iter().flat_map(|(names, _)| names.split_whitespace())
}

const CUSTOM: Fate = Lost(
    "NPM includes this file if it exists: give the folder that contains `data`, so that sanedge can look",
);

/// Files of NPM's image and of other packages, by the end of their path: what is in them is known.
const INCLUDES: &[(&str, Fate)] = &[
    // It passes requests to `$forward_scheme://$server:$port`.
    ("conf.d/include/proxy.conf", Fate::Translated),
    ("conf.d/include/letsencrypt-acme-challenge.conf", Fine("sanedge answers the CA itself")),
    ("conf.d/include/acme-challenge.conf", Fine("sanedge answers the CA itself")),
    ("conf.d/include/ssl-ciphers.conf", TLS),
    ("conf.d/include/ssl-cache.conf", TLS),
    ("conf.d/include/ssl-cache-stream.conf", TLS),
    ("conf.d/include/tls-ciphers.conf", TLS),
    ("conf.d/include/force-ssl.conf", REDIRECTS),
    ("conf.d/include/force-tls.conf", REDIRECTS),
    ("conf.d/include/resolvers.conf", NAMES),
    ("conf.d/include/log.conf", PROCESS),
    ("conf.d/include/log-proxy.conf", PROCESS),
    ("conf.d/include/log-stream.conf", PROCESS),
    ("conf.d/include/http3.conf", TLS),
    (
        "conf.d/include/ip_ranges.conf",
        Lost("if Cloudflare or another proxy forwards to this machine, list it in `trusted_proxies`"),
    ),
    ("conf.d/include/assets.conf", CACHE),
    ("conf.d/include/assets-common.conf", CACHE),
    ("conf.d/include/brotli.conf", CACHE),
    (
        "conf.d/include/block-exploits.conf",
        Lost("sanedge does not look for attacks in query strings: such requests reach the app"),
    ),
    ("data/nginx/custom/server_proxy[.]conf", CUSTOM),
    ("data/nginx/custom/server_redirect[.]conf", CUSTOM),
    ("data/nginx/custom/server_dead[.]conf", CUSTOM),
    ("mime.types", Fine("the app sets the content type")),
    ("fastcgi_params", Fine("it only sets parameters for FastCGI")),
    ("fastcgi.conf", Fine("it only sets parameters for FastCGI")),
    ("snippets/fastcgi-php.conf", Closed("sanedge can only pass requests to an app by HTTP")),
    ("uwsgi_params", Fine("it only sets parameters for uWSGI")),
    ("proxy_params", Fine("sanedge sets the same request fields")),
    ("letsencrypt/options-ssl-nginx.conf", TLS),
    ("modules-enabled/*.conf", PROCESS),
];

/// What becomes of an `include` of a file that is not there, by its path.
pub(crate) fn include(path: &str) -> Option<Fate> {
    let is = |end: &str| path.strip_suffix(end).is_some_and(|front| front.is_empty() || front.ends_with('/'));
    INCLUDES.iter().find(|(end, _)| is(end)).map(|(_, fate)| *fate)
}

/// `proxy_set_header`, by field and value.
pub(super) fn request_field(field: &str, value: &str) -> Fate {
    let field = field.to_ascii_lowercase();
    let field = field.as_str();
    match field {
        "host" if matches!(value, "$host" | "$http_host" | "$host:$server_port" | "$server_name") => {
            Fine("sanedge passes the Host field on")
        }
        "host" => Closed("the app would get the client's Host field, and may choose another site by it"),
        "upgrade" | "connection" => Fate::Translated,
        "x-real-ip" | "x-forwarded-for" | "x-forwarded-proto" | "x-forwarded-host" | "x-forwarded-port" => {
            Fine("sanedge sets this request field itself")
        }
        _ if field.starts_with("x-forwarded") || field == "forwarded" => {
            Lost("the app gets X-Forwarded-For, -Proto, -Host and -Port and X-Real-IP instead")
        }
        "authorization" | "accept-encoding" | "range" | "if-range" | "te" | "early-data"
        | "x-nginx-proxy" | "x-scheme" | "user-agent" | "referer" | "origin" | "cache-control"
        | "content-length" | "proxy" | "http_proxy" => {
            Lost("the app gets this request field as the client sends it, or not at all")
        }
        _ if field.starts_with("sec-websocket-") => {
            Lost("the app gets this request field as the client sends it")
        }
        _ if value == "$http_".to_owned() + &field.replace('-', "_") => {
            Fine("sanedge passes this request field on")
        }
        _ => Closed("a client could send this request field itself, and the app may trust it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_in_the_table_once_and_each_reason_is_a_text() {
        let mut all: Vec<_> = names().collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
        for (_, fate) in DIRECTIVES.iter().chain(INCLUDES) {
            let (Fine(reason) | Lost(reason) | Closed(reason)) = fate else { continue };
            assert!(!reason.is_empty() && !reason.ends_with('.'), "{reason}");
        }
    }

    #[test]
    fn what_is_not_known_may_protect_something() {
        assert_eq!(directive("waf_rules"), UNKNOWN);
        assert_eq!(directive("gzip_types"), CACHE);
        assert_eq!(directive("auth_request_set"), directive("map"), "an exact name before a beginning");
        assert_eq!(directive("access_by_lua_file"), FILTER);
        assert_eq!(include("/etc/nginx/conf.d/include/force-ssl.conf"), Some(REDIRECTS));
        assert_eq!(include("myconf.d/include/force-ssl.conf"), None);
        assert!(matches!(request_field("Remote-User", ""), Closed(_)));
        assert!(matches!(request_field("X-Token", "$http_x_token"), Fine(_)));
        assert!(matches!(request_field("X-Token", "$http_x_other"), Closed(_)));
    }
}
