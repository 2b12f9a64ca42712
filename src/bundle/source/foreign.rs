//! Keys of nginx, Caddy, Traefik, HAProxy and Nginx Proxy Manager for what sanedge does not do, each with the reason and what to
//! do instead.

/// A feature of other servers.
pub(super) struct Feature {
    /// Keys for it, in lower case with `_`, separated by blanks.
    keys: &'static str,
    /// Why sanedge does not do it; the end of a sentence.
    pub(super) reason: &'static str,
    /// What to do; the beginning of a sentence.
    pub(super) instead: &'static str,
}

impl Feature {
    fn keys(&self) -> impl Iterator<Item = &'static str> {
        self.keys.split(' ')
    }
}

const FEATURES: &[Feature] = &[
    Feature {
        keys: "http2 http_2 http2_support http3 http_3 h2 h2c h3 quic alpn protocols grpc listen_quic",
        reason: "clients get HTTP/1.1, which Engine.IO upgrades; HTTP/2 gains nothing for a WebSocket and costs four times \
            the memory of an idle one",
        instead: "Browsers choose HTTP/1.1 by themselves",
    },
    Feature {
        keys: "root alias index try_files file_server static static_files autoindex browse templates document_root \
               public error_page error_pages handle_errors errorfile spa",
        reason: "it serves no files",
        instead: "Let the app serve them (`express.static`), or name a file server on this machine as the `upstream` of a \
                  [[site.route]]",
    },
    Feature {
        keys: "basic_auth basicauth auth_basic auth_basic_user_file auth auth_request forward_auth forwardauth \
               digest_auth digestauth users user_list userlist password passwords htpasswd access_list access_lists \
               access_list_id jwt oauth oauth2 oidc sso authelia satisfy http_auth",
        reason: "it asks for no passwords: the app knows its users",
        instead: "Ask in the app (the `auth` of its Socket.IO handshake), or allow only certain networks with \
                  allow = [\"192.168.0.0/16\"]",
    },
    Feature {
        keys: "php_fastcgi fastcgi fastcgi_pass fastcgi_param uwsgi_pass scgi_pass grpc_pass cgi php memcached_pass ajp \
               fcgi_app wsgi",
        reason: "it supports only HTTP/1.1 and WebSocket to the app",
        instead: "Put a server between them that supports both (nginx, Caddy, gunicorn) and name its port as `upstream`",
    },
    Feature {
        keys: "gzip gzip_types gzip_static gzip_vary brotli zstd deflate compress compression encode precompressed \
               compression_algo",
        reason: "bodies and messages are forwarded unchanged",
        instead: "Compress in the app: the `compression` middleware, `perMessageDeflate` and `httpCompression` of Socket.IO",
    },
    Feature {
        keys: "rewrite rewrites uri regex replace replace_path replacepath replacepathregex replace_path_regex \
               add_prefix addprefix map sub_filter subs_filter replace_response redirect_path proxy_redirect \
               http_request http_response",
        reason: "the request target reaches the app unchanged: a target that two programs read differently is how requests \
            are smuggled",
        instead: "Give the app the path that clients ask for (the `path` option of Socket.IO), or write strip_prefix = true in \
                  the [[site.route]] whose prefix it does not know",
    },
    Feature {
        keys: "return redirectregex redirect_regex redirectscheme redirect_scheme respond abort",
        reason: "it redirects whole hosts, not single paths",
        instead: "Let the app redirect. A host that redirects is a [[site]] of its own with redirect = \"https://recre.store\"; for http \
                  to https write http = [\"[::]:80\"] in [listen]",
    },
    Feature {
        keys: "force_ssl ssl_forced https_redirect redirect_https redirect_to_https http_to_https force_https auto_https \
               automatic_https https_only",
        reason: "it needs no switch for it: plain listeners only redirect to https and answer ACME challenges",
        instead: "Write http = [\"[::]:80\"] in [listen]",
    },
    Feature {
        keys: "proxy_set_header request_header request_headers header_up custom_request_headers customrequestheaders \
               advanced_config set_host_header preserve_host passhostheader pass_host_header forwardfor x_forwarded_for",
        reason: "it changes only the fields of requests that RFC 9110 assigns to a proxy; the app gets the client's Host, \
                 X-Forwarded-For, X-Forwarded-Proto and X-Forwarded-Port without a setting",
        instead: "Set and remove fields of responses in [site.headers]",
    },
    Feature {
        keys: "server_tokens",
        reason: "it adds no field of its own to the app's responses",
        instead: "To remove the app's, write Server = false in [site.headers]",
    },
    Feature {
        keys: "hsts_subdomains include_subdomains includesubdomains sts_include_subdomains stsincludesubdomains preload \
               sts_preload stspreload hsts_preload",
        reason: "`hsts` is about the site's own hosts, so that no other name of the domain loses its plain HTTP by it",
        instead: "Where all names of the domain have TLS, write the whole field in the place of `hsts`: \
                  Strict-Transport-Security = \"max-age=31536000; includeSubDomains\" in [site.headers]",
    },
    Feature {
        keys: "cors cors_origins access_control_allow_origin allow_origin accesscontrolalloworiginlist allowed_methods",
        reason: "it adds no CORS fields: only the app knows which page may read what",
        instead: "Set `cors` in the Socket.IO server; `origins` lists the pages that may open WebSockets",
    },
    Feature {
        keys: "rate_limit ratelimit rate_limits rate_limiting limit_req limit_req_zone limit_rate limit_conn \
               limit_conn_zone throttle burst requests_per_second requests_per_minute stick_table inflightreq \
               in_flight_req max_conn maxconn max_connections rate",
        reason: "it counts connections, handshakes and WebSockets, not requests, because polling makes many",
        instead: "Use address_sessions_max, address_handshakes_per_s_max and address_websockets_per_s_max in [limits]; all of \
                  them have defaults",
    },
    Feature {
        keys: "upstream_tls upstream_ssl tls_upstream upstream_scheme forward_scheme backend_protocol proxy_ssl \
               proxy_ssl_verify proxy_ssl_name proxy_ssl_server_name tls_insecure_skip_verify insecure_skip_verify \
               insecureskipverify tls_server_name tls_trust_pool serverstransport servers_transport ssl_verify \
               verify_upstream tls_skip_verify proxy_ssl_trusted_certificate upstream_ca upstream_https",
        reason: "it uses plain HTTP to the app, which runs on this machine or network",
        instead: "Name the app's plain port as `upstream` (`ss -tlnp` lists what listens), or disable TLS in the app",
    },
    Feature {
        keys: "client_auth clientauth mtls mutual_tls client_ca client_certificate ssl_client_certificate \
               ssl_verify_client ssl_verify_depth ssl_trusted_certificate ssl_crl trusted_ca ca_client client_certs",
        reason: "it asks clients for no certificate",
        instead: "Allow only certain networks with `allow`, or ask for a token in the app",
    },
    Feature {
        keys: "cache caching caching_enabled cache_assets proxy_cache proxy_cache_path proxy_cache_valid cache_control \
               expires etag open_file_cache souin ttl",
        reason: "it stores no responses: nothing is written to the card, and responses are never stale",
        instead: "Send Cache-Control from the app",
    },
    Feature {
        keys: "proxy_buffering proxy_buffers proxy_buffer_size proxy_request_buffering buffering buffer_requests \
               buffer_responses flush_interval responseforwarding",
        reason: "it needs no switch for it: bodies are streamed in both directions",
        instead: "`tls_buffer_bytes` in [limits] bounds the memory of a slow client",
    },
    Feature {
        keys: "lb_policy load_balancing load_balancer loadbalancer lb_method balance least_conn ip_hash hash weight \
               weights weighted sticky sticky_cookie sticky_sessions stickiness session_affinity cookie random \
               round_robin health_check healthcheck health_checks healthchecks health_uri health_interval option_httpchk \
               max_fails fail_timeout slow_start backup failover retries lb_try_duration proxy_next_upstream \
               circuit_breaker circuitbreaker mirror mirroring canary split_clients",
        reason: "it needs no setting for it: new Engine.IO sessions go to the upstreams in turn, each stays with the one \
            that assigned its `sid`, and an upstream that refuses connections is skipped",
        instead: "List the processes: upstream = [\"127.0.0.1:3000\", \"127.0.0.1:3001\"]",
    },
    Feature {
        keys: "websocket websockets web_socket websocket_support allow_websocket_upgrade proxy_http_version upgrade \
               upgrades ws wss proxy_upgrade enable_websockets",
        reason: "it needs no switch for it: WebSockets are forwarded",
        instead: "`origins` lists the pages that may open them",
    },
    Feature {
        keys: "letsencrypt lets_encrypt letsencrypt_email letsencrypt_agree email certresolver cert_resolver \
               certificatesresolvers certificates_resolvers acme_email acme_ca acme_challenge dns_challenge \
               dnschallenge http_challenge httpchallenge tlschallenge tls_challenge auto_tls autocert on_demand_tls \
               on_demand certbot issuer zerossl ca_server caserver local_certs",
        reason: "its own table has other keys",
        instead: "Write `[acme]` with `terms = \"agreed\"` (docs/acme.md), or let certbot, acme.sh or lego fetch certificates, with \
                  `acme_dir` in [listen] and sanedge-deploy as their deploy hook (docs/renewal.md)",
    },
    Feature {
        keys: "tls ssl tls_enabled ssl_enabled enable_tls enable_ssl use_tls use_ssl ssl_certificate ssl_certificate_key \
               tls_cert tls_key tls_certificate ssl_cert ssl_key ssl_crt cert_file key_file certfile keyfile cert_path key_path \
               pem_file tls_cert_file tls_key_file tls_internal internal_tls self_signed selfsigned",
        reason: "every site has TLS, and finds its certificate by the names in it",
        instead: "Write a table of its own at the end of the file, [[certificate]], with chain = \"fullchain.pem\" and \
                  key = \"privkey.pem\"; `tls = \"internal\"` is a CA of your own (mkcert), whose root `trust` names",
    },
    Feature {
        keys: "ocsp ocsp_stapling ocspstapling ssl_stapling ssl_stapling_verify ssl_stapling_file stapling must_staple",
        reason: "it staples no OCSP responses; Let's Encrypt no longer provides them, and browsers do not ask",
        instead: "Issue the certificate without must-staple",
    },
    Feature {
        keys: "tls_version tls_versions tls_min_version min_tls_version minversion min_version max_version ssl_protocols \
               ssl_min_ver ssl_ciphers ciphers cipher_suites ciphersuites ssl_conf_command curves curvepreferences \
               ssl_ecdh_curve ssl_dhparam dhparam ssl_prefer_server_ciphers ssl_session_cache ssl_session_tickets \
               ssl_session_timeout ssl_session_ticket_key ssl_early_data early_data tls_options tlsoptions \
               snistrict sni_strict",
        reason: "it has TLS 1.2 and 1.3 with rustls's cipher suites, all of them strong, an alert for unknown names, and \
            rotating ticket keys",
        instead: "`suite_order` and `post_quantum` are the only choices",
    },
    Feature {
        keys: "tcp udp stream streams layer4 mode tcp_routers mqtt ssh rtmp mail dns_server",
        reason: "it supports HTTP and WebSocket only",
        instead: "Leave other protocols to another program on their own ports",
    },
    Feature {
        keys: "log logs logging log_level loglevel log_file log_format error_log accesslog syslog custom_log log_path \
               rewrite_log debug",
        reason: "its log goes to stderr at one level, and the journal keeps it: a file would wear out the card",
        instead: "For one line per request, set access_log = true in a [[site]]; `sanedge serve --access-log` and \
            `--access-log-to` set its form and destination",
    },
    Feature {
        keys: "include includes import imports snippet snippets conf_d sites_enabled providers env vars set",
        reason: "there is one file without variables, so that the checked configuration is the written one",
        instead: "Write all sites into it; a script can assemble the file",
    },
    Feature {
        keys: "user daemon pid pid_file pidfile chroot master_process setuid setgid systemd nbproc",
        reason: "its user and its start are set by the unit",
        instead: "Change it with `systemctl edit sanedge`",
    },
    Feature {
        keys: "deny blacklist blocklist block banned ip_deny ipallowlist ipwhitelist ip_whitelist whitelist remote_ip",
        reason: "it has one list, of the networks that are allowed",
        instead: "List the allowed networks: allow = [\"192.168.0.0/16\"]; block single addresses in the firewall",
    },
    Feature {
        keys: "geoip geoip2 country geo waf modsecurity block_exploits block_common_exploits crowdsec fail2ban \
               bot_protection robots",
        reason: "it checks requests by the rules of HTTP only",
        instead: "Block addresses in the firewall (nftables, fail2ban on its access log)",
    },
    Feature {
        keys: "resolver dns_resolver nameserver nameservers",
        reason: "the system resolves the names of upstreams",
        instead: "Set it in /etc/resolv.conf, or write the address",
    },
    Feature {
        keys: "stats stub_status dashboard api prometheus metrics statistics pprof health healthz ping status",
        reason: "it needs no switch for it: status, page, metrics and health are on the admin socket",
        instead: "`admin` in [listen] sets its address; `sanedge status` uses it",
    },
    Feature {
        keys: "middleware middlewares plugin plugins lua njs js script scripts labels docker experimental load_module \
               modules apps wasm tracing opentelemetry",
        reason: "it runs no foreign code or modules",
        instead: "Do it in the app",
    },
];

/// The feature of `key`, which may have `-` for `_` and any case.
pub(super) fn find(key: &str) -> Option<&'static Feature> {
    let plain = key.to_ascii_lowercase().replace(['-', '.', ' '], "_");
    FEATURES.iter().find(|feature| feature.keys().any(|known| known == plain))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::keys::{TABLES, Table};

    #[test]
    fn no_key_of_ours_is_among_them_and_none_stands_twice() {
        let mut all: Vec<&str> = FEATURES.iter().flat_map(Feature::keys).collect();
        let count = all.len();
        assert!(count > 200, "the loop below must see the keys");
        for key in &all {
            assert!(key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{key}");
            // A key of sanedge in [acme.eab] only; elsewhere it is another program's word for `key`.
            let ours = |table: &&Table| {
                table.names().contains(key) && (table.title, *key) != ("[acme.eab]", "key_file")
            };
            assert!(!TABLES.iter().any(ours), "{key} is a key of ours");
        }
        all.sort_unstable();
        let twice: Vec<_> = all.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
        assert!(twice.is_empty(), "{twice:?}");
    }

    #[test]
    fn spelling_does_not_matter_and_meaning_does() {
        for key in ["http2", "HTTP2", "basic-auth", "php_fastcgi", "passHostHeader"] {
            assert!(find(key).is_some(), "{key}");
        }
        for key in ["https", "upstreams", "hots", ""] {
            assert!(find(key).is_none(), "{key}");
        }
    }

    #[test]
    fn sentences_fit_together() {
        for feature in FEATURES {
            let begins =
                |text: &str, upper: bool| text.starts_with(|c: char| c.is_uppercase() == upper || c == '`');
            assert!(
                begins(feature.reason, false) || feature.reason.starts_with("HTTP"),
                "{}",
                feature.reason
            );
            assert!(begins(feature.instead, true), "{}", feature.instead);
            assert!(!feature.reason.ends_with('.') && !feature.instead.ends_with('.'));
        }
    }
}
