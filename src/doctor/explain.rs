//! The one table of explanations: code → what you see, why, what to do. The report on the screen and `docs/errors.md`
//! are both made of it.
//!
//! In braces stand words of the case at hand (`{host}`), which the finding fills in and the page gives examples for.

pub mod page;

use serde::Serialize;

use crate::http::problem::PROBLEMS;

/// The part of the way that a check is about, in the order in which a client goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Group {
    /// The files on this machine that say what to check.
    Files,
    /// From a name to addresses.
    Name,
    /// From an address to a connection.
    Port,
    /// TLS and certificate.
    Tls,
    /// What `sanedge renew` does about the certificate.
    Renewal,
    /// Plain HTTP requests through the edge.
    Http,
    /// Engine.IO over polling.
    Polling,
    /// Engine.IO over a WebSocket.
    Websocket,
    /// The Socket.IO namespace.
    Namespace,
    /// What can be seen on this machine only: the app itself, processes, limits.
    Board,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Some client cannot connect, or will be cut: exit code 1.
    Fail,
    /// It works, but not as the user may expect.
    Warn,
}

impl Group {
    /// As it stands in front of a line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Name => "name",
            Self::Port => "port",
            Self::Tls => "tls",
            Self::Renewal => "renewal",
            Self::Http => "http",
            Self::Polling => "polling",
            Self::Websocket => "websocket",
            Self::Namespace => "namespace",
            Self::Board => "board",
        }
    }
}

/// What is said about a code wherever it comes up.
#[derive(Clone, Copy, Debug)]
pub struct Explanation {
    /// What it is, without a case at hand.
    pub title: &'static str,
    /// What the person has seen, one client or log a line as `who: what`.
    pub see: &'static str,
    /// The cause.
    pub why: &'static str,
    /// What to do, the most probable cause first; commands and settings are indented by two spaces.
    pub fix: &'static str,
}

macro_rules! table {
    ($($variant:ident = $text:literal, $group:ident, $level:ident;
        title: $title:literal; see: $see:literal; why: $why:literal; fix: $fix:literal;)+) => {
        /// The kind of a finding. Codes are stable: scripts may match on them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code { $(#[doc = $title] $variant,)+ }

        impl Code {
            /// Every code, in the order of the way.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The stable text, in kebab case.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// The part of the way that it is about.
            pub fn group(self) -> Group {
                match self { $(Self::$variant => Group::$group,)+ }
            }

            /// How bad it is.
            pub fn level(self) -> Level {
                match self { $(Self::$variant => Level::$level,)+ }
            }

            /// What is said about it.
            pub fn explanation(self) -> Explanation {
                match self {
                    $(Self::$variant => Explanation { title: $title, see: $see, why: $why, fix: $fix },)+
                }
            }
        }
    };
}

table! {
ConfigErrors = "config-errors", Files, Fail;
    title: "sanedge.toml has errors";
    see: "sanedge bundle: errors, and no bundle is written";
    why: "Hosts, certificates and upstreams in the file do not fit together, so the edge serves an older bundle than the file.";
    fix: "See each error with its remedy:\n  sanedge bundle {file}";
BundleRefused = "bundle-refused", Files, Fail;
    title: "the bundle cannot be served";
    see: "sanedge serve: the same sentence, and it does not start";
    why: "The file is damaged, of another version, or its owner and mode would show private keys to others.";
    fix: "Do what that message says, or compile the bundle again:\n  sanedge bundle sanedge.toml";
BundleUnreadable = "bundle-unreadable", Files, Warn;
    title: "this user may not read the bundle";
    see: "";
    why: "The bundle contains private keys, so other users may not read it, which is right. Only the checks that need it are skipped.";
    fix: "Run the same command with sudo to compare the served certificates with the bundle.";
BundleStale = "bundle-stale", Files, Warn;
    title: "a source file is newer than the bundle";
    see: "You renewed or edited, and clients still get the old certificate or route.";
    why: "The edge serves the bundle, not the files that it was made from.";
    fix: "Put it to use:\n  {apply}";
NameOffline = "name-offline", Name, Fail;
    title: "this machine is offline";
    see: "Every name fails: Temporary failure in name resolution, EAI_AGAIN, ERR_INTERNET_DISCONNECTED";
    why: "This machine has no route to another network, so it can reach no name server. Nothing is known about the server.";
    fix: "Connect this machine to the network and try again. To test a server on this machine meanwhile:\n  sanedge doctor {url} --resolve {host}:127.0.0.1";
NameResolver = "name-resolver", Name, Fail;
    title: "the name server gives no answer";
    see: "Node: getaddrinfo EAI_AGAIN {host}\ncurl: (6) Could not resolve host: {host}\nChrome: ERR_NAME_NOT_RESOLVED";
    why: "The resolver that this machine uses is down or unreachable, or fails for this name (SERVFAIL). Whether the name exists is unknown.";
    fix: "See which name server this machine uses (/etc/resolv.conf), and ask another one:\n  nslookup {host} 9.9.9.9\nIf only this name fails, its zone is broken (DNSSEC, or its provider is down): check there.";
NameDnssec = "name-dnssec", Name, Fail;
    title: "the name's DNSSEC signatures do not verify";
    see: "Node: getaddrinfo EAI_AGAIN {host}\ncurl: (6) Could not resolve host: {host}\nChrome: ERR_NAME_NOT_RESOLVED\nSome networks resolve the name, and others do not.";
    why: "The parent zone has a DS record, and the zone's answers are not signed with that key: DNSSEC was switched off, or the zone moved to another provider, and the DS record stayed. Resolvers that check signatures (1.1.1.1, 8.8.8.8, 9.9.9.9, most providers) answer SERVFAIL.";
    fix: "Look at https://dnsviz.net for the zone. Remove the DS record at the registrar, or enter the one that the DNS provider shows. The change takes as long as the DS record's TTL, often a day.\n  dig {host} A\n  dig {host} A +cd";
NameUnknown = "name-unknown", Name, Fail;
    title: "the name does not exist";
    see: "Node: getaddrinfo ENOTFOUND {host}\ncurl: (6) Could not resolve host: {host}\nChrome: ERR_NAME_NOT_RESOLVED, DNS_PROBE_FINISHED_NXDOMAIN\nFirefox: Server Not Found";
    why: "DNS has no address for this name: the record was never created, is misspelled, or is not visible yet.";
    fix: "Create an A record for `{host}` with your public address at your DNS provider. A new record can take minutes; a name that was looked up before it existed can take an hour.\nTo test everything else before the record exists:\n  sanedge doctor {url} --resolve {host}:ADDRESS";
NameUnusable = "name-unusable", Name, Fail;
    title: "the name resolves to an address that no server has";
    see: "Node: connect EHOSTUNREACH, ENETUNREACH or ECONNREFUSED";
    why: "0.0.0.0, a multicast or a documentation address in DNS: a placeholder, or an ad blocker (Pi-hole and others answer 0.0.0.0 for names that they block).";
    fix: "Put the address of the server into the record. If the record is right, an ad blocker answers instead: allow the name there.";
NameLoopback = "name-loopback", Name, Warn;
    title: "the name resolves to this machine itself";
    see: "It works on the board and nowhere else.";
    why: "The cause is a line in /etc/hosts, or an A record with 127.0.0.1: every other machine then connects to itself.";
    fix: "Remove the line from /etc/hosts, or change the record. The checks below show what this machine sees.";
NamePrivate = "name-private", Name, Warn;
    title: "the name resolves to a private address";
    see: "It works at home and not on mobile data.";
    why: "An address of a home network (RFC 1918) cannot be reached from the internet. This is right if your router's own DNS gives it at home, and wrong if the public record has it.";
    fix: "Ask a public name server; it should give your router's public address:\n  nslookup {host} 9.9.9.9";
NameCgnat = "name-cgnat", Name, Warn;
    title: "the name resolves to a carrier's shared address";
    see: "It works only in your provider's network, or in your VPN.";
    why: "100.64.0.0/10 is shared by a provider among customers (CG-NAT, RFC 6598): it cannot be reached from outside. Tailscale uses the same range.";
    fix: "Ask your provider for a public address (many give one on request), use IPv6, or a tunnel.";
NameIpv6Dead = "name-ipv6-dead", Name, Warn;
    title: "the IPv6 address does not answer, the IPv4 address does";
    see: "Some clients connect at once, others only after seconds or never.";
    why: "The name has an AAAA record, but nothing listens at that address, or the router filters IPv6. Clients that try IPv6 first wait until it times out; older Node (before 20) never tries the other address.";
    fix: "Open the port for IPv6 in the router and let the proxy listen on `[::]:443`, or remove the AAAA record.";
NameAddressDead = "name-address-dead", Name, Warn;
    title: "one of the name's addresses does not answer";
    see: "Some clients connect at once, others only after seconds, or not at the first try.";
    why: "The name has several addresses and nothing listens at one of them: the record of a machine that no longer exists, or one of several servers is down. Clients that try it first wait until it times out.";
    fix: "Remove the address from the name at your DNS provider, or start the server there:\n  nslookup {host} 9.9.9.9";
NameHidden = "name-hidden", Name, Fail;
    title: "a public name server knows the name, this network's does not";
    see: "It works on mobile data and not at home. Node: getaddrinfo ENOTFOUND {host}\nChrome: DNS_PROBE_FINISHED_NXDOMAIN";
    why: "Routers and ad blockers hide names that lead to a private address (protection against DNS rebinding), cache an old answer that the name does not exist, or block it.";
    fix: "Private address in DNS: allow the name in the router (FRITZ!Box: Home Network, Network, DNS rebind protection; OpenWrt and dnsmasq: rebind_domain_ok; Pi-hole, AdGuard Home: allow it), or let the router's DNS answer `{host}` itself.\nPublic address: wait an hour, or restart the router, and make sure that no ad blocker lists the name.\n  nslookup {host}\n  nslookup {host} 9.9.9.9";
NameAddressesDiffer = "name-addresses-differ", Name, Fail;
    title: "the addresses of the name belong to different servers";
    see: "Some clients connect and others do not, or the same client connects only sometimes: xhr poll error, ERR_CERT_COMMON_NAME_INVALID";
    why: "The name has several addresses (A and AAAA), and not all of them belong to the same server: one may be of an old machine, of the router itself, or of a hosting page.";
    fix: "Remove the wrong record at your DNS provider, or put the right address into it:\n  nslookup {host} 9.9.9.9\nTo check one of them alone:\n  sanedge doctor {url} --resolve {host}:ADDRESS";
PortRefused = "port-refused", Port, Fail;
    title: "nothing listens on the port";
    see: "Node: connect ECONNREFUSED\ncurl: (7) Failed to connect to {host} port {port}: Connection refused\nChrome: ERR_CONNECTION_REFUSED";
    why: "The machine answers that the port is closed: the proxy is not running, listens on another port or address, or the router sends the port to a machine where nothing listens.";
    fix: "On the server's machine, see whether the proxy runs (sanedge, nginx, haproxy, caddy), and what listens:\n  systemctl status sanedge\n  journalctl -u sanedge -n 20\n  ss -ltnp 'sport = :{port}'\nIf it listens, check where the router forwards port {port}.";
PortFiltered = "port-filtered", Port, Fail;
    title: "the port does not answer";
    see: "Node: connect ETIMEDOUT\ncurl: (28) Failed to connect to {host} port {port}: Connection timed out\nChrome: ERR_CONNECTION_TIMED_OUT";
    why: "Packets get no reply: the router does not forward the port, a firewall drops them, the provider blocks it, the address is not (or no longer) yours, or the machine is off or too busy to accept.";
    fix: "In the router, forward TCP {port} to the board. On the board, open the port:\n  sudo ufw allow {port}/tcp\nCompare the address with your public one; if it changed, update the record (dynamic DNS).";
PortUnreachable = "port-unreachable", Port, Fail;
    title: "the address is unreachable";
    see: "Node: connect EHOSTUNREACH or ENETUNREACH\ncurl: (7) No route to host\nChrome: ERR_ADDRESS_UNREACHABLE";
    why: "A router on the way, or this machine, says that the address cannot be reached: the board is off or has another address now, or this machine has no IPv6.";
    fix: "Check that the board is on and which address it has (`ip address` there), and put that address into the record or the port forwarding.";
PortHairpin = "port-hairpin", Port, Fail;
    title: "the server is on this network, and its public name does not reach it from here";
    see: "From outside it may work; at home clients wait: ETIMEDOUT or ECONNREFUSED";
    why: "The proxy answers on this machine with the right certificate, but not at the address in DNS. Either the router does not forward port {port}, or it forwards only connections from outside (no NAT loopback, also called hairpin NAT).";
    fix: "Open {url} on a phone off Wi-Fi. If it works there, only your home network lacks the way back: enable NAT loopback in the router, or let its DNS answer `{host}` with the board's own address. If it fails there as well, forward TCP {port} to the board.";
PortPlainHttp = "port-plain-http", Port, Fail;
    title: "the port speaks plain HTTP, not TLS";
    see: "Node: SSL routines:ssl3_get_record:wrong version number, EPROTO\ncurl: (35) wrong version number\nChrome: ERR_SSL_PROTOCOL_ERROR\nPython: ssl.SSLError: [SSL: WRONG_VERSION_NUMBER]";
    why: "A web server without TLS answers on port {port}: the app itself where the proxy should be, a `listen` without `ssl` in nginx, or the router sends {port} to port 80 or to the app.";
    fix: "Forward port {port} to the proxy, not to the app. In nginx:\n  listen 443 ssl;";
PortNotTls = "port-not-tls", Port, Fail;
    title: "the port speaks another protocol, not TLS";
    see: "Node: EPROTO, wrong version number\nChrome: ERR_SSL_PROTOCOL_ERROR";
    why: "Another kind of server answers on port {port}, often SSH or the router's own remote administration.";
    fix: "Move that server to another port, or forward the port to the proxy in the router:\n  ss -ltnp 'sport = :{port}'";
PortSilent = "port-silent", Port, Fail;
    title: "the port accepts connections and sends nothing";
    see: "Node: socket hang up after a long wait, or connect timeout\ncurl: (28) SSL connection timeout\nChrome: ERR_TIMED_OUT";
    why: "The connection opens and the TLS ClientHello gets no reply: a tunnel or port forwarding whose far end does not exist any more, a process that hangs, or a server that expects something else first.";
    fix: "On the board, see which process has the port, check its log, and restart it:\n  ss -ltnp 'sport = :{port}'\n  journalctl -u sanedge -n 20";
PortCloses = "port-closes", Port, Fail;
    title: "the port accepts connections and closes them without an answer";
    see: "Node: Client network socket disconnected before secure TLS connection was established, ECONNRESET\ncurl: (35) OpenSSL SSL_connect: SSL_ERROR_SYSCALL, or unexpected eof\nChrome: ERR_CONNECTION_CLOSED, ERR_CONNECTION_RESET";
    why: "Possible causes: a forwarded port without a server (a container whose app listens on 127.0.0.1 only, or on another port), a listener that expects the PROXY protocol, an edge at its limit of sessions, or a filter that blocks the server name in the ClientHello.";
    fix: "If it is a container's published port, let the app listen on 0.0.0.0 in the container, and compare the published port with the one that the app listens on.\n  docker ps\nOtherwise check the log of the proxy at the time of this run. sanedge counts and logs the connections that it refuses (full, address-sessions, proxy-protocol):\n  systemctl status sanedge\n  journalctl -u sanedge -n 20\n  sanedge status\nnginx: remove `proxy_protocol` from `listen`. HAProxy: remove `accept-proxy` from `bind`. Both are right only behind a load balancer.";
PortMtu = "port-mtu", Port, Fail;
    title: "large packets are lost on the way";
    see: "The connection opens and TLS hangs: Node: socket hang up after a long wait\ncurl: (28) SSL connection timeout\nChrome: ERR_TIMED_OUT; from another network it works";
    why: "Small packets arrive and large ones do not, and the ICMP message that they are too large is dropped as well. This happens on a VPN, tunnel or PPPoE line with a smaller MTU.";
    fix: "Clamp the MSS on the router or tunnel that has the smaller MTU:\n  nft add rule inet filter forward tcp flags syn tcp option maxseg size set rt mtu\n  iptables -t mangle -A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu\nOr lower the MTU of the server's own interface (WireGuard, PPPoE: 1420, 1492), and let ICMP pass.";
PortProxyProtocol = "port-proxy-protocol", Port, Fail;
    title: "the port expects the PROXY protocol";
    see: "Node: Client network socket disconnected before secure TLS connection was established, ECONNRESET\nChrome: ERR_CONNECTION_CLOSED, ERR_SSL_PROTOCOL_ERROR";
    why: "The listener expects a header that only a load balancer sends, and closes every other connection. With that header, TLS works.";
    fix: "nginx: remove `proxy_protocol` from `listen`. HAProxy: remove `accept-proxy` from `bind`. Traefik: remove `proxyProtocol` from the entry point. sanedge: remove the peer from `proxy_protocol_from`. Or let the load balancer in front send the header.";
Port80Refused = "port-80-closed", Port, Warn;
    title: "nothing answers on port 80";
    see: "Typing the name without https:// gives an error; certbot --standalone or http-01 fails.";
    why: "Redirects to https and the proof for a certificate (ACME http-01) need a plain port: 80 for clients; this run tried port {http_port}.";
    fix: "Let the proxy listen there, and forward TCP 80 to it as well. sanedge.toml:\n  [listen]\n  http = [\"[::]:{http_port}\"]\nIf it should listen there already:\n  systemctl status sanedge\n  journalctl -u sanedge -n 20";
TlsVersion = "tls-version", Tls, Fail;
    title: "the server supports only TLS versions that clients have disabled";
    see: "Node: ERR_SSL_UNSUPPORTED_PROTOCOL, tlsv1 alert protocol version\ncurl: (35) unsupported protocol\nChrome: ERR_SSL_VERSION_OR_CIPHER_MISMATCH\nFirefox: SSL_ERROR_UNSUPPORTED_VERSION";
    why: "It offers no TLS 1.2 or 1.3. Clients dropped TLS 1.0 and 1.1 in 2020.";
    fix: "nginx:\n  ssl_protocols TLSv1.2 TLSv1.3;\nIf the server's OpenSSL is too old for TLS 1.2, update the system.";
TlsNoCommonSuite = "tls-no-common-suite", Tls, Fail;
    title: "server and clients have no cipher suite in common";
    see: "Node: EPROTO, ssl3_read_bytes:sslv3 alert handshake failure\ncurl: (35) sslv3 alert handshake failure\nChrome: ERR_SSL_VERSION_OR_CIPHER_MISMATCH\nFirefox: SSL_ERROR_NO_CYPHER_OVERLAP";
    why: "The server refuses every suite with forward secrecy (ECDHE with AES-GCM or ChaCha20): it has a hand-made cipher list, or a certificate whose key type fits none of them.";
    fix: "Remove the cipher list from the server's configuration; the default is right. nginx: remove `ssl_ciphers`; HAProxy: remove `ciphers`.";
TlsUnknownName = "tls-unknown-name", Tls, Fail;
    title: "the server does not serve this name";
    see: "Node: EPROTO, tlsv1 unrecognized name\ncurl: (35) tlsv1 unrecognized name\nChrome: ERR_SSL_UNRECOGNIZED_NAME_ALERT\nFirefox: SSL_ERROR_UNRECOGNIZED_NAME_ALERT";
    why: "The proxy has no certificate and no site for `{host}`, and sends an alert instead of a wrong certificate.";
    fix: "Add the host to a [[site]] of sanedge.toml (its certificate must cover it), then:\n  {apply}\nHAProxy with strict-sni: add a certificate with this name.";
EdgeCertificatePending = "edge-certificate-pending", Tls, Fail;
    title: "sanedge waits for the first certificate of this name";
    see: "Node: EPROTO, tlsv1 unrecognized name\nChrome: ERR_SSL_UNRECOGNIZED_NAME_ALERT\nSanedge-Error: certificate_pending, on port 80";
    why: "A site of sanedge.toml has this name, and `sanedge renew` has not obtained its certificate yet: the command was not run, the CA could not connect to port 80, or the command waits after a failure.";
    fix: "Obtain it on the board, or read why that fails:\n  sudo sanedge renew {acme} --now\nThen enable the timer:\n  sudo systemctl enable --now sanedge-renew.timer sanedge-deploy.path";
TlsClientCertificate = "tls-client-certificate", Tls, Fail;
    title: "the server requires a client certificate";
    see: "Node: tlsv13 alert certificate required\nnginx: 400 No required SSL certificate was sent\nChrome: ERR_BAD_SSL_CLIENT_AUTH_CERT";
    why: "Mutual TLS is enabled; browsers and Socket.IO clients have no client certificate.";
    fix: "Disable it for this host. nginx: `ssl_verify_client off;` HAProxy: remove `verify required` from `bind`. Cloudflare: authenticated origin pulls belong only where nothing but Cloudflare connects.";
TlsNoHttp1 = "tls-no-http1", Tls, Fail;
    title: "the server does not support HTTP/1.1";
    see: "Node: tlsv1 alert no application protocol\nwebsocket error, while pages work in a browser";
    why: "It offers HTTP/2 only (ALPN). A WebSocket is opened with HTTP/1.1 by every common client.";
    fix: "Offer both. Node: http2.createSecureServer({ allowHTTP1: true }). HAProxy: `alpn h2,http/1.1`.";
TlsHandshake = "tls-handshake", Tls, Fail;
    title: "the TLS handshake fails";
    see: "Node: EPROTO\nChrome: ERR_SSL_PROTOCOL_ERROR";
    why: "The server aborted the handshake, or broke the protocol.";
    fix: "Check the log of the proxy at the time of this run; the alert or error is given above.";
TlsLargeHello = "tls-large-hello", Tls, Fail;
    title: "the ClientHello of current browsers gets no answer";
    see: "Chrome: ERR_CONNECTION_RESET, ERR_TIMED_OUT\nFirefox: PR_END_OF_FILE_ERROR\nNode and curl from before 2025: no error";
    why: "Since 2024 a browser's ClientHello has 1.8 KB (post-quantum key exchange) and arrives in two packets. A firewall, load balancer or old server that reads only the first packet drops it.";
    fix: "Update the device in front of the server (a firewall that inspects TLS, a router with SNI rules, an old load balancer). To test it in Chrome: chrome://flags, TLS post-quantum key agreement.";
TlsInspection = "tls-inspection", Tls, Fail;
    title: "a program on this network or machine intercepts TLS and replaces the certificate";
    see: "It works at home and not at work or school, or not on this computer. Node: self-signed certificate in certificate chain (SELF_SIGNED_CERT_IN_CHAIN), unable to get local issuer certificate\nPython: certificate verify failed: self-signed certificate in certificate chain";
    why: "A firewall or an antivirus program replaces the certificate of every site. Browsers on managed machines trust that certificate; Node, Python and phones do not. The server is not at fault.";
    fix: "Try another network, or disable HTTPS inspection for `{host}` in that program. If it must stay, install its root for the client as well (Node: NODE_EXTRA_CA_CERTS=root.pem).";
TlsProxyDefault = "tls-proxy-default", Tls, Fail;
    title: "the proxy sends its built-in certificate: it has none for this name";
    see: "Node: self-signed certificate (DEPTH_ZERO_SELF_SIGNED_CERT), unable to verify the first certificate\nChrome: ERR_CERT_AUTHORITY_INVALID";
    why: "The proxy runs and has no certificate for `{host}` yet: no router, Ingress or site has the name, or its ACME order failed.";
    fix: "Traefik: a router with Host(`{host}`) and `tls.certresolver`; see its log for `acme`. ingress-nginx: `spec.tls` with `{host}` and a secret that exists. Caddy: remove `tls internal` from the site. nginx on Debian: replace ssl-cert-snakeoil by a certificate for the name. Plesk, cPanel: a certificate for the domain.";
TlsOriginCa = "tls-origin-ca", Tls, Fail;
    title: "clients get a Cloudflare Origin certificate, which only Cloudflare trusts";
    see: "Node: unable to verify the first certificate, unable to get local issuer certificate\nChrome: ERR_CERT_AUTHORITY_INVALID";
    why: "A Cloudflare Origin certificate is for the connection from Cloudflare to your server. The name resolves to the server itself: its record is not proxied (grey cloud), or this network resolves it to the private address.";
    fix: "Switch the record to proxied (orange cloud), or install a certificate that clients trust (Let's Encrypt) on the server. You can do both.";
TlsOtherServer = "tls-other-server", Tls, Fail;
    title: "another server's certificate answers";
    see: "Node: Hostname/IP does not match certificate's altnames: Host: {host}. is not in the cert's altnames: {altnames}\nChrome: ERR_CERT_COMMON_NAME_INVALID, ERR_CERT_AUTHORITY_INVALID\nFirefox: SSL_ERROR_BAD_CERT_DOMAIN";
    why: "The certificate is for names that have nothing to do with `{host}`: the connection reaches another machine, such as the router's own page (from inside the home network: no NAT loopback), a NAS that has port {port}, or a hosting page that the record still points to.";
    fix: "See which machine answers: open {url} on a phone off Wi-Fi. If it works there, only your home network lacks the way: enable NAT loopback in the router, or let its DNS answer `{host}` with the board's own address. If not: forward TCP {port} to the board, move the router's or NAS's own page to another port, and compare the A record with your public address.";
TlsName = "tls-name", Tls, Fail;
    title: "the certificate does not cover the name";
    see: "Node: Hostname/IP does not match certificate's altnames: Host: {host}. is not in the cert's altnames: {altnames}\nsocket.io-client: websocket error, or xhr poll error\nChrome: ERR_CERT_COMMON_NAME_INVALID\nFirefox: SSL_ERROR_BAD_CERT_DOMAIN\ncurl: (60) SSL: no alternative certificate subject name matches target host name '{host}'\nPython: certificate verify failed: Hostname mismatch, certificate is not valid for '{host}'\nAndroid: Hostname {host} not verified";
    why: "Clients look for `{host}` in the certificate's subjectAltName and do not find it. The certificate was issued before the name was added, or the server has no site for the name and sends its default certificate.";
    fix: "Issue the certificate again with all of its names, then let the server load it:\n  {issue}\nIf a certificate with this name exists already, give it to this host's site (Nginx Proxy Manager: edit the Proxy Host, tab SSL).";
TlsNoSan = "tls-no-san", Tls, Fail;
    title: "the certificate has no subjectAltName";
    see: "Chrome: ERR_CERT_COMMON_NAME_INVALID\nNode: Hostname/IP does not match certificate's altnames, though the CN is right\nGo: certificate relies on legacy Common Name field, use SANs instead";
    why: "The name is only in the common name (CN), which clients have ignored since 2017 (RFC 9525).";
    fix: "Issue it again with the name in subjectAltName:\n  mkcert {host}\nor with openssl: -addext subjectAltName=DNS:{host}";
TlsExpired = "tls-expired", Tls, Fail;
    title: "the certificate has expired";
    see: "Node: certificate has expired (CERT_HAS_EXPIRED)\nChrome: ERR_CERT_DATE_INVALID\nFirefox: SEC_ERROR_EXPIRED_CERTIFICATE\ncurl: (60) SSL certificate problem: certificate has expired\nPython: certificate verify failed: certificate has expired\nAndroid: CertificateExpiredException, Chain validation failed";
    why: "It was not renewed, or the server has not loaded the renewed one.";
    fix: "If sanedge obtains it:\n  sudo sanedge renew --now\nWith certbot, see whether a newer one is on the disk, and renew if not:\n  sudo certbot certificates\n  sudo certbot renew\nThen have the server load it (nginx -s reload), or:\n  {apply}";
TlsNotYetValid = "tls-not-yet-valid", Tls, Fail;
    title: "the certificate is not valid yet";
    see: "Node: certificate is not yet valid (CERT_NOT_YET_VALID)\nChrome: ERR_CERT_DATE_INVALID\ncurl: (60) SSL certificate problem: certificate is not yet valid";
    why: "Its notBefore is in the future: the clock of the machine that issued it was ahead.";
    fix: "Set that machine's clock right and issue the certificate again.";
ClockWrong = "clock-wrong", Tls, Fail;
    title: "the clock of this machine is wrong";
    see: "Every site shows a certificate error on this machine only: CERT_NOT_YET_VALID, ERR_CERT_DATE_INVALID, NET::ERR_CERT_AUTHORITY_INVALID";
    why: "By this machine's clock the certificate is not valid; by the server's clock it is. Most Raspberry Pis have no battery for their clock: until they reach a time server, their clock is in the past.";
    fix: "Set the clock, and check that it stays synchronised:\n  timedatectl set-ntp true\n  timedatectl";
ClockSkew = "clock-skew", Tls, Warn;
    title: "the clocks of this machine and of the server differ";
    see: "Certificate errors that come and go around renewals; log lines that do not match.";
    why: "One of the two clocks is not synchronised.";
    fix: "On both machines:\n  timedatectl";
TlsIntermediateExpired = "tls-intermediate-expired", Tls, Fail;
    title: "an intermediate certificate has expired";
    see: "Node: certificate has expired, though the host's own is new\nopenssl: verify error:num=10:certificate has expired at depth 1";
    why: "The server sends an old intermediate together with a new certificate.";
    fix: "Use the chain from the last renewal: with certbot that is fullchain.pem, not an old chain.pem.";
TlsMissingIntermediate = "tls-missing-intermediate", Tls, Fail;
    title: "the intermediate certificate is missing";
    see: "Node: unable to verify the first certificate (UNABLE_TO_VERIFY_LEAF_SIGNATURE)\ncurl: (60) SSL certificate problem: unable to get local issuer certificate\nPython: certificate verify failed: unable to get local issuer certificate\nAndroid: Trust anchor for certification path not found\nChrome, Firefox: often no error, because they fetch or cache it";
    why: "The server sends only its own certificate. Browsers often find the intermediate by themselves; Node, phones and other programs do not.";
    fix: "Serve fullchain.pem instead of cert.pem. nginx:\n  ssl_certificate /etc/letsencrypt/live/{host}/fullchain.pem;\nsanedge.toml: chain = \".../fullchain.pem\"";
TlsSelfSigned = "tls-self-signed", Tls, Fail;
    title: "the certificate is self-signed";
    see: "Node: self-signed certificate (DEPTH_ZERO_SELF_SIGNED_CERT)\nChrome: ERR_CERT_AUTHORITY_INVALID\nFirefox: MOZILLA_PKIX_ERROR_SELF_SIGNED_CERT\ncurl: (60) SSL certificate problem: self-signed certificate\nAndroid: Trust anchor for certification path not found";
    why: "No client trusts a certificate that is signed only by itself. A browser refuses its WebSockets without showing a question.";
    fix: "Get one that clients trust. For a public name it is free of charge:\n  {issue}\nFor a name that exists only at home, use a CA of your own (mkcert {host}) and install its root on every client.";
TlsUnknownCa = "tls-unknown-ca", Tls, Fail;
    title: "clients do not know the authority that issued the certificate";
    see: "Node: self-signed certificate in certificate chain, or unable to get local issuer certificate\nChrome: ERR_CERT_AUTHORITY_INVALID\nFirefox: SEC_ERROR_UNKNOWN_ISSUER\ncurl: (60) SSL certificate problem: unable to get local issuer certificate\nAndroid: Trust anchor for certification path not found";
    why: "It comes from a private CA, or an intermediate is missing at the end of the chain.";
    fix: "If the CA is yours: install its root on every client (Node: NODE_EXTRA_CA_CERTS=ca.pem), and name it to the doctor:\n  sanedge doctor {url} --ca ca.pem\nOtherwise get a certificate that clients trust:\n  {issue}";
LocalUntrusted = "local-untrusted", Tls, Fail;
    title: "the client does not trust the local CA";
    see: "Node: unable to get issuer certificate, unable to get local issuer certificate\nChrome: ERR_CERT_AUTHORITY_INVALID\nFirefox: SEC_ERROR_UNKNOWN_ISSUER\ncurl: (60) SSL certificate problem: unable to get local issuer certificate\nAndroid: Trust anchor for certification path not found";
    why: "A local CA issued the certificate, as `[local]` in its sanedge.toml says. A device trusts this CA only after it was installed there once.";
    fix: "On the board, type this; it prints the CA's certificate and what to do on each system (docs/local.md):\n  sanedge local show\nTo check the rest before that, copy ca.crt here:\n  sanedge doctor --ca ca.crt https://{host}";
LocalReplaced = "local-replaced", Tls, Fail;
    title: "the client trusts an earlier local CA";
    see: "Node: unable to get issuer certificate, unable to get local issuer certificate\nChrome: ERR_CERT_AUTHORITY_INVALID\nFirefox: SEC_ERROR_UNKNOWN_ISSUER";
    why: "The local CA was replaced, and each device has to trust the new one. Or the edge still serves a certificate of the old one.";
    fix: "On the board, type these; the second prints what to do on each system (docs/local.md). Remove the old CA there:\n  sudo sanedge renew --now\n  sanedge local show";
LocalExpired = "local-expired", Tls, Fail;
    title: "the certificate of the local CA has expired";
    see: "Chrome: ERR_CERT_DATE_INVALID\nFirefox: SEC_ERROR_EXPIRED_CERTIFICATE\nNode: certificate has expired (CERT_HAS_EXPIRED)";
    why: "The timer of `sanedge renew` or the deployment does not run, or the deployment failed.";
    fix: "On the board:\n  sudo sanedge renew --now\n  sudo systemctl enable --now sanedge-renew.timer sanedge-deploy.path\nWhat has failed:\n  journalctl -u sanedge-renew -u sanedge-deploy";
LocalDue = "local-due", Tls, Warn;
    title: "the certificate of the local CA ends soon";
    see: "Nothing yet. Later: certificate has expired (CERT_HAS_EXPIRED)";
    why: "It is renewed after two thirds of its lifetime. The timer of `sanedge renew` or the deployment does not run, or the deployment failed.";
    fix: "On the board:\n  sudo sanedge renew --now\nWhat has failed:\n  journalctl -u sanedge-renew -u sanedge-deploy";
TlsChainSignature = "tls-chain-signature", Tls, Fail;
    title: "the certificates of the chain do not belong together";
    see: "Node: certificate signature failure, or unable to verify the first certificate\nChrome: ERR_CERT_AUTHORITY_INVALID\ncurl: (60) SSL certificate problem: certificate signature failure";
    why: "An intermediate has the right name but another key: the CA has several of this name, and the chain has an older or newer one.";
    fix: "Use the chain that came with this certificate (with certbot: fullchain.pem of the same renewal).";
TlsWeakKey = "tls-weak-key", Tls, Fail;
    title: "the RSA key is too short";
    see: "Node: EE certificate key too weak (EE_KEY_TOO_SMALL)\nChrome: ERR_CERT_WEAK_KEY\ncurl: (60) EE certificate key too weak";
    why: "RSA keys below 2048 bits can be broken, so clients refuse them.";
    fix: "Issue it again with an ECDSA key:\n  certbot renew --key-type ecdsa --force-renewal";
TlsWeakSignature = "tls-weak-signature", Tls, Fail;
    title: "the certificate is signed with SHA-1 or MD5";
    see: "Chrome: ERR_CERT_WEAK_SIGNATURE_ALGORITHM\nNode: CA signature digest algorithm too weak (CA_MD_TOO_WEAK)\nFirefox: SEC_ERROR_CERT_SIGNATURE_ALGORITHM_DISABLED";
    why: "Such signatures can be forged; no client accepts them.";
    fix: "Issue it again; with a CA of your own, use openssl's -sha256.";
TlsNoServerAuth = "tls-no-server-auth", Tls, Fail;
    title: "the certificate is not for servers";
    see: "Node: unsupported certificate purpose (INVALID_PURPOSE)\nChrome: ERR_CERT_INVALID\ncurl: (60) unsupported certificate purpose\niOS: The certificate is not standards compliant";
    why: "It has an extendedKeyUsage, and serverAuth is not in it: it is a client certificate, or the CA's template is wrong.";
    fix: "Issue it again with extendedKeyUsage = serverAuth.";
TlsKeyUsage = "tls-key-usage", Tls, Fail;
    title: "the certificate's key may not sign handshakes";
    see: "Chrome: ERR_SSL_KEY_USAGE_INCOMPATIBLE\nFirefox: SEC_ERROR_INADEQUATE_KEY_USAGE";
    why: "Its keyUsage lacks digitalSignature, which every current cipher suite needs.";
    fix: "Issue it again with keyUsage = digitalSignature.";
TlsCaCertificate = "tls-ca-certificate", Tls, Fail;
    title: "the server presents a CA's certificate as its own";
    see: "Firefox: MOZILLA_PKIX_ERROR_CA_CERT_USED_AS_END_ENTITY\nrustls clients: CaUsedAsEndEntity";
    why: "basicConstraints says CA:TRUE: `openssl req -x509` does so by default, or the CA's own certificate was installed.";
    fix: "Create a new one: openssl with -addext basicConstraints=critical,CA:FALSE, or\n  mkcert {host}";
TlsNameConstraints = "tls-name-constraints", Tls, Fail;
    title: "the CA may not issue for this name";
    see: "Node: permitted subtree violation\nChrome: ERR_CERT_NAME_CONSTRAINT_VIOLATION, ERR_CERT_INVALID";
    why: "A CA in the chain is limited to other domains (name constraints, RFC 5280 §4.2.1.10).";
    fix: "Have the certificate issued by another CA, or for names that this CA permits.";
TlsChainRefused = "tls-chain-refused", Tls, Fail;
    title: "clients refuse the chain";
    see: "Node: invalid CA certificate, or path length constraint exceeded\nChrome: ERR_CERT_INVALID, ERR_CERT_AUTHORITY_INVALID";
    why: "It fails path validation (RFC 5280 §6.1): a certificate that is not a CA's signed another, or a CA is below one that permits no further CA.";
    fix: "Have the certificate issued by a proper CA.";
TlsMalformed = "tls-malformed-certificate", Tls, Fail;
    title: "the certificate cannot be read";
    see: "Chrome: ERR_CERT_INVALID, ERR_SSL_SERVER_CERT_BAD_FORMAT";
    why: "It is not an X.509 version 3 certificate, or it is damaged.";
    fix: "Issue it again.";
TlsEd25519 = "tls-ed25519", Tls, Fail;
    title: "the certificate has an Ed25519 key, which browsers refuse";
    see: "Chrome: ERR_SSL_VERSION_OR_CIPHER_MISMATCH\nFirefox: SSL_ERROR_NO_CYPHER_OVERLAP\nNode and curl: no error";
    why: "Node and OpenSSL accept Ed25519; no browser does.";
    fix: "Issue it again with ECDSA P-256: certbot --key-type ecdsa, or\n  openssl ecparam -name prime256v1 -genkey -noout -out key.pem";
TlsNotTheBundle = "tls-not-the-bundle", Tls, Fail;
    title: "the server sends another certificate than the file has";
    see: "You renewed, and clients still see the old certificate.";
    why: "The certificate was renewed or the bundle written, but the edge has not loaded it; or another server answers on this port (an old nginx, the router, a machine that had the address before).";
    fix: "Let the running edge load it:\n  {load}\nIf the command says that the bundle is in use, another program answers: ss -ltnp 'sport = :{port}'";
TlsCrossSign = "tls-cross-sign-expired", Tls, Warn;
    title: "the chain has an expired certificate that current clients do not need";
    see: "Old clients only (OpenSSL 1.0.2, Android before 7.1): certificate has expired";
    why: "Without the expired certificate at its end (a cross-sign of an older root) the chain already reaches a root that clients have. Only OpenSSL before 1.1.0 checks it.";
    fix: "Renew, and serve the new fullchain.pem; certbot's `--preferred-chain` selects a chain without it.";
TlsChainOrder = "tls-chain-order", Tls, Warn;
    title: "the certificates of the chain are in the wrong order";
    see: "Most clients: no error. Some phones and devices: handshake failure, unknown CA";
    why: "The file has the certificates in the wrong order.";
    fix: "Put the host's own certificate first, and after each certificate the one that signed it:\n  cat cert.pem chain.pem > fullchain.pem";
TlsChainExtra = "tls-chain-extra", Tls, Warn;
    title: "the chain has a certificate that clients do not need";
    see: "No error; handshakes are larger than necessary.";
    why: "The file has the root, a certificate twice, or a certificate of another chain.";
    fix: "Remove it from the file.";
TlsExpiresSoon = "tls-expires-soon", Tls, Warn;
    title: "the certificate ends soon";
    see: "Nothing yet.";
    why: "A renewal is due at two thirds of the lifetime, or at half of it below ten days. That time has passed: the renewal failed, or the server has not loaded the new certificate.";
    fix: "Find out why the renewal failed, then let the server load the new certificate:\n  certbot renew --dry-run";
TlsLifetime = "tls-lifetime", Tls, Warn;
    title: "Safari, iPhones and other clients refuse a certificate with such a long lifetime";
    see: "Safari: This Connection Is Not Private\niOS: NSURLErrorDomain -1202\nChrome, of a public CA: ERR_CERT_VALIDITY_TOO_LONG\nNode, curl and Firefox: no error";
    why: "Apple's clients accept at most 825 days from any CA. From a public CA, Apple and Chrome accept 398 days; 200 if it was issued on 2026-03-15 or later, 100 from 2027-03-15, 47 from 2029-03-15.";
    fix: "Issue it again for a shorter time: mkcert does so by default, openssl with -days 825.";
TlsMustStaple = "tls-must-staple", Tls, Warn;
    title: "the certificate demands OCSP stapling, which the server does not do: Firefox and GnuTLS refuse it";
    see: "Firefox: MOZILLA_PKIX_ERROR_REQUIRED_TLS_FEATURE_MISSING\nGnuTLS, wget: The certificate requires the server to include an OCSP status in its response, but the OCSP status is missing\nChrome, Node and curl with OpenSSL: no error";
    why: "It was issued with must-staple (tlsfeature = status_request, RFC 7633). Public CAs have stopped OCSP, so no server can staple a response any more.";
    fix: "Issue it again without must-staple: leave out certbot's --must-staple and delete must_staple = True from /etc/letsencrypt/renewal/NAME.conf.\n  certbot renew --force-renewal";
TlsNoTimestamps = "tls-no-timestamps", Tls, Warn;
    title: "the certificate has no proof of Certificate Transparency: Chrome and Safari refuse it";
    see: "Chrome: ERR_CERTIFICATE_TRANSPARENCY_REQUIRED\nSafari: This Connection Is Not Private\nNode and curl: no error";
    why: "Chrome and Apple's clients require signed certificate timestamps (SCT, RFC 6962) in the certificates of public CAs.";
    fix: "Get a certificate from a CA that includes them, such as Let's Encrypt. If a CA asks whether to log the certificate, answer yes.";
TlsSerialNumber = "tls-serial-number", Tls, Warn;
    title: "the certificate's serial number is one that some clients refuse";
    see: "Go: x509: negative serial number\nGnuTLS with strict checks: Error in the certificate\nBrowsers, Node and curl: no error";
    why: "RFC 5280 §4.1.2.2 requires a positive number of at most 20 octets.";
    fix: "Issue it again; without -set_serial, openssl creates a valid number.";
TlsNoPurpose = "tls-no-purpose", Tls, Warn;
    title: "iOS and macOS refuse a certificate that does not say that it is for servers";
    see: "iOS, macOS: The certificate is not standards compliant, errSSLBadCert, -9808\nNode, Python, curl, Chrome on other systems: no error";
    why: "It has no extendedKeyUsage. Since 2019, Apple's clients require one with serverAuth in every certificate, also from a CA of your own.";
    fix: "Issue it again with extendedKeyUsage = serverAuth:\n  {issue}";
TlsStrictClients = "tls-strict-clients", Tls, Warn;
    title: "Python 3.13 and other strict clients refuse the chain";
    see: "Python: CERTIFICATE_VERIFY_FAILED: Missing Authority Key Identifier; CA cert does not include key usage extension; Basic Constraints of CA cert not marked critical\nBrowsers, Node and curl: no error";
    why: "Since 3.13, Python sets OpenSSL's X509_STRICT, which requires every certificate of the chain, including the root, to follow RFC 5280 §4.2.1. A CA that was made with a few openssl commands often lacks an extension.";
    fix: "Create the CA again with basicConstraints = critical,CA:TRUE, keyUsage = critical,keyCertSign,cRLSign and subjectKeyIdentifier = hash, and the certificate with authorityKeyIdentifier = keyid. See what is missing:\n  openssl verify -x509_strict -CAfile ca.pem -untrusted fullchain.pem fullchain.pem";
TlsChainUnverified = "tls-chain-unverified", Tls, Warn;
    title: "this program cannot check a signature in the chain, which some clients cannot either";
    see: "Programs in Rust: UnsupportedSignatureAlgorithm\nBrowsers, Node and curl: mostly no error";
    why: "The CA's key or hash is one that this program's library (ring) does not support: P-521, ECDSA with SHA-512, RSA with more than 8192 bits, Ed448. Names, dates and key identifiers fit.";
    fix: "Check it with openssl; a CA with a P-256 key and SHA-256 works for all clients.\n  openssl verify -CAfile ca.pem -untrusted fullchain.pem fullchain.pem";
AcmeStaging = "acme-staging", Renewal, Warn;
    title: "the certificate is for trials (STAGING)";
    see: "Chrome: ERR_CERT_AUTHORITY_INVALID; the issuer's name begins with (STAGING)\nNode: unable to get local issuer certificate";
    why: "`directory` in [acme] names the CA's staging directory, whose certificates no client trusts.";
    fix: "Remove `directory` from [acme] (or write `directory = \"letsencrypt\"`), then type `{apply}` and `sudo sanedge renew {acme} --now`.";
AcmeNotRunning = "acme-not-running", Renewal, Warn;
    title: "`sanedge renew` has not run for more than a day";
    see: "";
    why: "Nothing starts `sanedge renew` any more, so the certificate is not renewed: the timer is not enabled, or its service fails before it begins.";
    fix: "Enable the timer, and see what the last run said:\n  sudo systemctl enable --now sanedge-renew.timer sanedge-deploy.path\n  journalctl -u sanedge-renew -n 20\nIn a container: sanedge renew {acme} --every 1h";
AcmeDns = "acme-dns", Renewal, Warn;
    title: "the CA does not find the name in DNS";
    see: "sanedge renew: DNS problem: NXDOMAIN looking up A for {host}\nCA: no valid A records found for {host}; no valid AAAA records found for {host}";
    why: "The CA's resolver finds no usable answer for this name.";
    fix: "Check the A and AAAA records of the name at your DNS provider with `dig NAME A` and `dig NAME AAAA`, and that the provider's name servers answer.";
AcmeDnsServfail = "acme-dns-servfail", Renewal, Warn;
    title: "the name servers of the zone fail when the CA asks them";
    see: "CA: DNS problem: SERVFAIL looking up CAA for {host} - the domain's nameservers may be malfunctioning\nCA: DNS problem: query timed out looking up A for {host}";
    why: "A name server of the zone answers SERVFAIL or nothing, often only for some types of records: the CA asks for A, AAAA, TXT and CAA, and an old name server fails on CAA.";
    fix: "Ask each name server of the zone for each type (`dig NS ZONE`, then `dig @SERVER NAME A`, `AAAA`, `CAA`), and tell the DNS provider which one fails. If it cannot answer CAA, move the zone to another provider.";
AcmeDnssec = "acme-dnssec", Renewal, Warn;
    title: "the zone's DNSSEC signatures do not verify";
    see: "CA: DNS problem: looking up A for {host}: DNSSEC: DNSKEY Missing\nCA: DNS problem: SERVFAIL looking up A for {host}: DNSSEC: Bogus";
    why: "The parent zone has a DS record, and the zone's answers are not signed with that key: DNSSEC was switched off, or the zone moved to another provider, and the DS record stayed. Resolvers that validate, and so every CA, refuse all answers.";
    fix: "Look at https://dnsviz.net for the zone. Remove the DS record at the registrar, or enter the one that the DNS provider shows. The change takes as long as the TTL of the DS record, often a day.";
AcmeConnection = "acme-connection", Renewal, Warn;
    title: "the CA cannot connect to port 80";
    see: "CA: Fetching http://{host}/.well-known/acme-challenge/…: Timeout during connect (likely firewall problem)\nCA: Connection refused; Connection reset by peer";
    why: "The CA cannot connect to port 80 of the address that DNS gives for this name.";
    fix: "Forward port 80 (TCP) of the router to this board. Remove an AAAA record that is not this board's. Behind carrier-grade NAT (a WAN address in 100.64.0.0/10) no port can be forwarded: use dns-01 (docs/dns-01.md). Where the provider blocks port 80 alone, write `challenge = \"tls-alpn-01\"` in [acme], then type `sudo sanedge apply`.";
AcmeConnectionTls = "acme-connection-tls", Renewal, Warn;
    title: "the CA cannot connect to port 443";
    see: "CA: Timeout during connect (likely firewall problem), with tls-alpn-01\nCA: Connection refused";
    why: "The CA cannot connect to port 443 of the address that DNS gives for this name.";
    fix: "Forward port 443 (TCP) of the router to this board's `https` listener. Remove an AAAA record that is not this board's. Behind carrier-grade NAT (a WAN address in 100.64.0.0/10) no port can be forwarded: use dns-01 (docs/dns-01.md).";
AcmeWrongAnswer = "acme-wrong-answer", Renewal, Warn;
    title: "another server answers the CA on port 80";
    see: "CA: Invalid response from http://{host}/.well-known/acme-challenge/…: 404\nCA: The key authorization file from the server did not match this challenge";
    why: "Another server than this edge answers the challenge: a router's page, another program on port 80, a CDN, or a wrong A or AAAA record.";
    fix: "Compare the addresses of `dig NAME A` and `dig NAME AAAA` with this network's own, and forward port 80 to the edge.";
AcmeWrongAnswerTls = "acme-wrong-answer-tls", Renewal, Warn;
    title: "another server answers the CA on port 443";
    see: "CA: Cannot negotiate ALPN protocol \"acme-tls/1\" for tls-alpn-01 challenge\nCA: Incorrect validation certificate for tls-alpn-01 challenge";
    why: "Another server than this edge answers the TLS handshake on port 443: a CDN, a router's page, a proxy that ends TLS, or a wrong A or AAAA record.";
    fix: "Compare the addresses of `dig NAME A` and `dig NAME AAAA` with this network's own, and let port 443 reach the edge without another TLS server in between. Behind a CDN use `challenge = \"http-01\"`.";
AcmeSecondary = "acme-secondary", Renewal, Warn;
    title: "some of the CA's locations cannot connect to port 80";
    see: "CA: During secondary validation: Fetching http://{host}/.well-known/acme-challenge/…: Timeout during connect (likely firewall problem)";
    why: "The CA checks from several locations in the world, and some of them are refused: a geo-block or another filter is in between.";
    fix: "Allow port 80 from all countries, in the router and at the provider. The CA publishes no list of its addresses.";
AcmeSecondaryTls = "acme-secondary-tls", Renewal, Warn;
    title: "some of the CA's locations cannot connect to port 443";
    see: "CA: During secondary validation: Timeout during connect (likely firewall problem), with tls-alpn-01";
    why: "The CA checks from several locations in the world, and some of them are refused: a geo-block or another filter is in between.";
    fix: "Allow port 443 from all countries, in the router and at the provider. The CA publishes no list of its addresses.";
AcmeSecondaryDns = "acme-secondary-dns", Renewal, Warn;
    title: "the zone's name servers do not answer some of the CA's locations";
    see: "CA: During secondary validation: DNS problem: query timed out looking up TXT for _acme-challenge.{host}";
    why: "The CA queries the name servers of the zone from several locations in the world, and some get no answer or an old one: the name servers filter by country, limit the rate, or one of them is not up to date yet.";
    fix: "Ask each name server of the zone from outside (`dig NS ZONE`, then `dig @SERVER TXT _acme-challenge.NAME`), for example with https://dnschecker.org. Disable filters by country at the DNS provider. If a server is only late, the next run succeeds.";
AcmeTls = "acme-tls", Renewal, Warn;
    title: "the CA follows a redirect to https, and the TLS handshake fails";
    see: "CA: Fetching https://{host}/.well-known/acme-challenge/…: remote error: tls: handshake failure";
    why: "The CA followed a redirect to https and the TLS handshake failed.";
    fix: "Serve the challenge on port 80 without a redirect: forward port 80 to the edge.";
AcmeTlsAlpn = "acme-tls-alpn", Renewal, Warn;
    title: "the TLS handshake of the challenge fails";
    see: "CA: remote error: tls: no application protocol\nCA: remote error: tls: handshake failure, with tls-alpn-01";
    why: "The server on port 443 does not complete the TLS handshake of the challenge (ALPN acme-tls/1): it is not this edge, or a server in between does not forward the handshake.";
    fix: "Forward TCP port 443 to the edge unchanged. A proxy in between must pass TLS through (by server name). Otherwise use `challenge = \"http-01\"`.";
AcmeCaa = "acme-caa", Renewal, Warn;
    title: "a CAA record forbids this CA";
    see: "CA: CAA record for {host} prevents issuance";
    why: "A CAA record of the domain forbids this CA from issuing.";
    fix: "Add the CA to the CAA records of the domain (for Let's Encrypt: `0 issue \"letsencrypt.org\"`), or remove them.";
AcmeRejectedName = "acme-rejected-name", Renewal, Warn;
    title: "the CA does not issue for this name";
    see: "CA: The ACME server refuses to issue a certificate for this domain name, because it is forbidden by policy\nCA: Domain name does not end with a valid public suffix (TLD)";
    why: "The CA does not issue for this name: it is on a blocklist or not a public name.";
    fix: "Use another name, another CA (`[acme] directory`), or a certificate of your own (`[[site]] acme = false` and [[certificate]]).";
AcmeUnsupportedName = "acme-unsupported-name", Renewal, Warn;
    title: "the CA does not issue for names of this kind";
    see: "CA: unsupportedIdentifier\nCA: IP addresses are not supported";
    why: "The CA does not issue for names or addresses of this kind.";
    fix: "Use a DNS name, or a CA and a profile that issue for addresses (`[acme] profile = \"shortlived\"`).";
AcmeRateLimited = "acme-rate-limited", Renewal, Warn;
    title: "a rate limit of the CA is reached";
    see: "CA: too many certificates (5) already issued for this exact set of identifiers in the last 168h0m0s\nCA: too many failed authorizations (5) for \"{host}\" in the last 1h0m0s";
    why: "A rate limit of the CA is reached. Further requests before it ends can extend it.";
    fix: "Wait: the next run after that time tries again.";
AcmeUserAction = "acme-user-action", Renewal, Warn;
    title: "the CA requires an action from you";
    see: "CA: userActionRequired: Terms of service have changed";
    why: "The CA requires an action from you first, usually to agree to new terms of service.";
    fix: "Open the URL that the CA names, then type `sudo sanedge renew --now`.";
AcmeExternalAccount = "acme-external-account", Renewal, Warn;
    title: "the CA requires external account binding";
    see: "CA: externalAccountRequired";
    why: "This CA issues only for ACME accounts that are bound to an account on its web site.";
    fix: "Write eab = { kid = \"…\", key_file = \"…\" } into [acme], with the values that the CA's web site shows, then type `sudo sanedge apply`. Or use `directory = \"letsencrypt\"`.";
AcmeEabKey = "acme-eab-key", Renewal, Warn;
    title: "the key for external account binding cannot be read";
    see: "";
    why: "The key for external account binding cannot be read, and this CA requires it for a new account.";
    fix: "Write the key of the CA's web site into {eab}, alone, then type `chown root:sanedge-acme {eab}` and `chmod 0640 {eab}`.";
AcmeAccountGone = "acme-account-gone", Renewal, Warn;
    title: "the CA does not know the account";
    see: "CA: accountDoesNotExist: No account exists with the provided key";
    why: "The CA does not know the account of the state folder.";
    fix: "The next run creates an account.";
AcmeContact = "acme-contact", Renewal, Warn;
    title: "the CA does not accept the mail address";
    see: "CA: invalidContact: contact email has forbidden domain \"example.org\"";
    why: "The CA does not accept the mail address.";
    fix: "Correct `contact` in [acme] or remove it, then type `sudo sanedge apply`.";
AcmeProfile = "acme-profile", Renewal, Warn;
    title: "the CA does not issue with this profile";
    see: "CA: invalidProfile";
    why: "The CA does not issue with this profile.";
    fix: "Remove `profile` from [acme], then type `sudo sanedge apply`.";
AcmeBadKey = "acme-bad-key", Renewal, Warn;
    title: "the CA does not accept the key or the request";
    see: "CA: badCSR, badPublicKey";
    why: "The CA does not accept the key or the request that was made for the certificate.";
    fix: "Use `key = \"p256\"` in [acme], then type `sudo sanedge apply` and `sudo sanedge renew --now`.";
AcmeCaFault = "acme-ca-fault", Renewal, Warn;
    title: "the CA has a fault";
    see: "CA: serverInternal: Error creating new order\nCA: Service busy; retry later.";
    why: "The CA has a fault of its own or is overloaded.";
    fix: "You need to do nothing: the next run tries again. The CA's status page may say more.";
AcmeUnauthorized = "acme-unauthorized", Renewal, Warn;
    title: "the CA refuses the account";
    see: "CA: unauthorized: Account is not valid, has status \"deactivated\"";
    why: "The CA refuses this account.";
    fix: "If it was deactivated on purpose, move the folder `accounts` of the state folder away; the next run creates an account.";
AcmeRefused = "acme-refused", Renewal, Warn;
    title: "the CA refuses the request";
    see: "CA: malformed";
    why: "The CA refuses the request.";
    fix: "Read what it says. If it makes no sense for your names, report it as a bug of sanedge.";
AcmeCaUntrusted = "acme-ca-untrusted", Renewal, Warn;
    title: "the CA's own certificate is not trusted";
    see: "sanedge renew: invalid peer certificate: UnknownIssuer\ncurl: (60) SSL certificate problem: unable to get local issuer certificate";
    why: "Something between this board and the CA intercepts the connection, or a private CA's root is missing.";
    fix: "For a private CA, name its root with `trust` in [acme]. Otherwise look for a proxy or a captive portal, and check the clock.";
AcmeClock = "acme-clock", Renewal, Warn;
    title: "the clock of the board is wrong, or the CA's certificate has expired";
    see: "sanedge renew: the system clock says 1970-01-01\nEvery HTTPS request of the board fails: certificate is not yet valid";
    why: "The clock of this board is wrong, or the certificate of the CA's server has expired.";
    fix: "Compare `date -u` with another clock, and set this one (`timedatectl`). The next run tries again.";
AcmeCaUnreachable = "acme-ca-unreachable", Renewal, Warn;
    title: "the board cannot reach the CA";
    see: "sanedge renew: Connection timed out, Network is unreachable, Temporary failure in name resolution";
    why: "This board cannot reach the CA: no internet, no DNS, or a firewall.";
    fix: "Check with `curl -sS DIRECTORY` on this board. Nothing was counted against your limits.";
AcmeCaAnswer = "acme-ca-answer", Renewal, Warn;
    title: "another server answers instead of the CA";
    see: "";
    why: "Another server answers instead of the CA, or the CA has a fault.";
    fix: "Check `[acme] directory`, and whether a proxy or captive portal is in between. The next run tries again.";
AcmeBadNonce = "acme-bad-nonce", Renewal, Warn;
    title: "the CA refuses its own nonces";
    see: "CA: badNonce: JWS has an invalid anti-replay nonce";
    why: "The CA refuses its own nonces: several servers of it do not share them, or a proxy caches its answers.";
    fix: "You need to do nothing: the next run tries again. If a proxy is in between, disable its cache for the CA.";
AcmeSlow = "acme-slow", Renewal, Warn;
    title: "the CA takes long to issue";
    see: "CA: the order stays in the state processing";
    why: "The CA has validated the names and has not issued the certificate yet.";
    fix: "You need to do nothing: the next run continues with the same order and key.";
AcmeNoChallenge = "acme-no-challenge", Renewal, Warn;
    title: "the CA offers no challenge that can be answered";
    see: "";
    why: "The CA offers no challenge that can be answered here; a wildcard needs dns-01.";
    fix: "For a wildcard add [acme.dns] and remove `challenge` from [acme] (docs/dns-01.md), or list the hosts one by one.";
AcmeDnsCredentials = "acme-dns-credentials", Renewal, Warn;
    title: "the credentials for dns-01 cannot be used";
    see: "";
    why: "The file of credentials for dns-01 cannot be used. Nothing was sent to the CA.";
    fix: "Correct the file (docs/dns-01.md), then type `sudo sanedge renew --now`.";
AcmeDnsRefused = "acme-dns-refused", Renewal, Warn;
    title: "the DNS provider refuses the credentials";
    see: "Cloudflare: Authentication error (10000)\nbind9: NOTAUTH, BADKEY, BADSIG, REFUSED\nlego: unexpected response code 'REFUSED'";
    why: "The DNS provider refuses the credentials, or does not let them change this name.";
    fix: "Compare the file of credentials, and the rights of these credentials, with what the provider shows; then type `sudo sanedge renew --now`.";
AcmeDnsZone = "acme-dns-zone", Renewal, Warn;
    title: "the zone of the name is not found or not delegated";
    see: "lego: could not find the start of authority\nCA: DNS problem: NXDOMAIN looking up TXT for _acme-challenge.{host}";
    why: "The DNS provider does not have the zone of this name, or the name is not delegated.";
    fix: "Compare `dig NS ZONE` with the provider's name servers, and the zone with the one that the credentials are for.";
AcmeDnsFailed = "acme-dns-failed", Renewal, Warn;
    title: "the DNS provider or the program for dns-01 fails";
    see: "";
    why: "The DNS provider, the resolver or the program that creates the record cannot be reached, or fails.";
    fix: "Read what it says, and check the network and `cat /etc/resolv.conf`. The next run tries again.";
AcmeDnsInvisible = "acme-dns-invisible", Renewal, Warn;
    title: "a name server does not show the TXT record";
    see: "lego: propagation: time limit exceeded";
    why: "The record was created, but a name server of the zone does not show it.";
    fix: "Compare the answers of the zone's name servers (`dig NS ZONE`, then `dig @SERVER TXT NAME`). The next run tries again.";
AcmeDnsNotFound = "acme-dns-not-found", Renewal, Warn;
    title: "the CA does not find the TXT record";
    see: "CA: DNS problem: NXDOMAIN looking up TXT for _acme-challenge.{host}\nCA: Incorrect TXT record \"…\" found at _acme-challenge.{host}";
    why: "The CA's resolver does not find the TXT record that was created, or finds another.";
    fix: "Look from outside (`dig @9.9.9.9 TXT _acme-challenge.NAME`) whether the zone is delegated to the provider that holds the record, and whether DNSSEC is intact. Remove old records of that name.";
AcmeDnsOneValue = "acme-dns-one-value", Renewal, Warn;
    title: "the DNS provider stores one TXT value for a name";
    see: "";
    why: "The provider stores one TXT value for a name, and this certificate needs two.";
    fix: "Put the domain and its wildcard into two [[acme.certificate]] tables, then type `sudo sanedge apply`.";
AcmeState = "acme-state", Renewal, Warn;
    title: "the folder of certificates cannot be used";
    see: "";
    why: "The certificate could not be stored, so nothing is ordered.";
    fix: "Free space on the disk, or give the folder to the user that runs `sanedge renew`.";
AcmeDiskFull = "acme-disk-full", Renewal, Warn;
    title: "the disk is full";
    see: "No space left on device (ENOSPC)";
    why: "The certificate could not be stored.";
    fix: "Free space on the disk (`df -h`). The next run tries again.";
LocalNotPermitted = "local-not-permitted", Renewal, Warn;
    title: "the local CA may not issue for the host";
    see: "Node: EPROTO, tlsv1 unrecognized name\nChrome: ERR_SSL_UNRECOGNIZED_NAME_ALERT";
    why: "The local CA is limited to the domains and networks that it was made for, so that its key is of little use to a thief. This host is outside them.";
    fix: "If more hosts like this one will follow, name their domain or network in `permit` of [local] and type `sudo sanedge apply`. Then make another CA for all hosts of the file:\n  sudo sanedge local replace\nInstall its certificate on every device (docs/local.md).";
LocalEnded = "local-ended", Renewal, Warn;
    title: "the local CA expires within a year, or has expired";
    see: "certificate has expired; NET::ERR_CERT_DATE_INVALID";
    why: "The local CA is valid for ten years, and no certificate outlives the CA that issued it.";
    fix: "Make another CA:\n  sudo sanedge local replace\nThen install its certificate on every device (docs/local.md).";
LocalNotYetValid = "local-not-yet-valid", Renewal, Warn;
    title: "the local CA is not valid yet";
    see: "certificate is not yet valid (CERT_NOT_YET_VALID); NET::ERR_CERT_DATE_INVALID";
    why: "The CA was made while the clock of the board was ahead, or the clock is behind now. Clients refuse certificates of a CA that is not valid yet.";
    fix: "Compare `date -u` with another clock. If this one is wrong, set it (`timedatectl`). If it is right, make another CA:\n  sudo sanedge local replace\nThen install its certificate on every device (docs/local.md).";
LocalFiles = "local-files", Renewal, Warn;
    title: "a file of the local CA cannot be used";
    see: "No change at first. Later: certificate has expired; NET::ERR_CERT_DATE_INVALID";
    why: "A file in the folder of the CA is missing, damaged, or has the wrong owner or mode, or the deployment may not write there. Nothing is issued.";
    fix: "Type the command of the message. The folder as it should be:\n  sudo chown -R root:root /etc/sanedge/local\n  sudo chmod 711 /etc/sanedge/local\n  sudo chmod 600 /etc/sanedge/local/ca.key /etc/sanedge/local/hosts.key\nThen run `sudo sanedge renew --now`.";
AcmeRequest = "acme-request", Renewal, Warn;
    title: "the certificate request cannot be created";
    see: "";
    why: "A key or a signing request for these names could not be created.";
    fix: "Check the names in sanedge.toml.";
AcmeEdgeNotAnswering = "acme-edge-not-answering", Renewal, Warn;
    title: "the edge does not answer the challenge on port 80";
    see: "sanedge renew: no answer at 127.0.0.1:80: Connection refused\nsanedge renew: 127.0.0.1:80 answered the challenge with HTTP/1.1 404 Not Found";
    why: "The CA could not fetch the challenge. Nothing was sent to the CA.";
    fix: "Start the edge (`sanedge serve`) with `http = [\"[::]:80\"]` in [listen], and with the bundle that belongs to this file; it must be able to read {place}.";
AcmeEdgeNotAnsweringTls = "acme-edge-not-answering-tls", Renewal, Warn;
    title: "the edge does not answer the challenge on port 443";
    see: "sanedge renew: no answer at 127.0.0.1:443: Connection refused";
    why: "The CA would not get the challenge's certificate over TLS. Nothing was sent to the CA.";
    fix: "Start the edge (`sanedge serve`) with the bundle that belongs to this file, in which a [[site]] has the name; it must be able to read {place}.";
AcmePortClosed = "acme-port-closed", Renewal, Warn;
    title: "nothing listens on port 80, where the CA looks for the challenge";
    see: "sanedge renew: no answer at 127.0.0.1:80: Connection refused\nCA: Fetching http://{host}/.well-known/acme-challenge/…: Connection refused";
    why: "The edge does not run, or has no `http` listener on port 80 of the address that DNS gives.";
    fix: "Start the edge (`sudo systemctl start sanedge`) with `http = [\"[::]:80\"]` in [listen], and see what listens:\n  ss -ltnp 'sport = :80'";
AcmeAaaa = "acme-aaaa", Renewal, Warn;
    title: "the AAAA record has the address of another machine";
    see: "CA: 2001:db8::1: Invalid response from http://{host}/.well-known/acme-challenge/…: 404\nCA: 2001:db8::1: Fetching http://{host}/.well-known/acme-challenge/…: Timeout during connect";
    why: "A CA connects by IPv6 first. Routers do not translate IPv6: the record must have this board's own address, and not the router's, a machine's that is gone, or a hosting page's.";
    fix: "See the board's own global address, and put it into the AAAA record, or remove the record:\n  ip -6 address show scope global\nOpen port 80 for that address in the router's IPv6 firewall.";
AcmeCgnat = "acme-cgnat", Renewal, Warn;
    title: "the router has no public address (carrier-grade NAT)";
    see: "CA: Timeout during connect (likely firewall problem), though the router forwards the port\nThe router's page shows an address in 100.64.0.0/10, 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16 for the internet.";
    why: "The provider translates the address once more (CG-NAT, RFC 6598), or a second router is in front of this one. Port forwarding in this router alone does not open a port to the internet.";
    fix: "For the certificate use dns-01, which needs no port (docs/dns-01.md). For clients: ask your provider for a public address, use IPv6, or a tunnel. With a second router, forward the ports there as well, or set it to bridge mode.";
AcmeAddress = "acme-address", Renewal, Warn;
    title: "the address in DNS is not the router's";
    see: "CA: Timeout during connect (likely firewall problem)\nCA: Invalid response from http://{host}/.well-known/acme-challenge/…: 404";
    why: "The A record has another address than the router has at the provider: the address has changed since (dynamic DNS does not run), or the record was mistyped.";
    fix: "Put the router's address into the A record, and have the router or a program keep it there (dynamic DNS).";
AcmeDnsIntercepted = "acme-dns-intercepted", Renewal, Warn;
    title: "DNS is intercepted on the way";
    see: "dig answers for a server that does not exist: dig @192.0.2.53 {host}\nA record that was just made is not visible from the board, and is from elsewhere.";
    why: "The router or the provider redirects all DNS to a resolver of its own. It may answer from its cache, block names, or lack records, so what `sanedge renew` sees for dns-01 is not what the CA sees.";
    fix: "Switch off the redirection in the router (DNS interception, parental control, malware filter). Or use a resolver on another port or over TLS, and name it with `resolvers` in [acme.dns].";
AcmePortTaken = "acme-port-taken", Renewal, Warn;
    title: "another program has the port of the challenge";
    see: "sanedge renew: 127.0.0.1:80 answered the challenge with HTTP/1.1 404 Not Found\nsanedge serve: Address already in use (os error 98)";
    why: "Another program than the edge answers on port 80 of this machine, and the CA would get its answer: nothing was sent to the CA.";
    fix: "See which program has the port (`ss -ltnp 'sport = :80'`), stop it or move it to another port, then start the edge (`sanedge serve`) with `http = [\"[::]:80\"]` in [listen]. If it must keep the port, write `challenge = \"tls-alpn-01\"` in [acme], then type `sudo sanedge apply`.";
AcmeChallengeFolder = "acme-challenge-folder", Renewal, Warn;
    title: "the challenge folder cannot be written";
    see: "sanedge renew: no challenge can be written to {place}: Permission denied (os error 13)";
    why: "`sanedge renew` runs as a user that cannot write the folder from which the edge answers the CA, or its disk is full: nothing was sent to the CA.";
    fix: "Give the folder to the user that runs `sanedge renew`, and let the edge read it: `install -d -o sanedge-acme -g sanedge -m 0750 {place}`. The packaged folder is made by `systemd-tmpfiles --create sanedge.conf`. If you run both as your own user: `chown $USER {place}`.";
AcmeNoResolver = "acme-no-resolver", Renewal, Warn;
    title: "the board cannot query DNS";
    see: "sanedge renew: Temporary failure in name resolution";
    why: "This board cannot query DNS, so it is unknown whether the name has an address. Nothing was sent to the CA.";
    fix: "Check the network and the name servers of this board (`cat /etc/resolv.conf`, `getent hosts letsencrypt.org`). The next run looks again.";
AcmeWaitingForDns = "acme-waiting-for-dns", Renewal, Warn;
    title: "the name has no address yet";
    see: "sanedge renew: no address is known for {host}";
    why: "The name has no address yet: nothing was sent to the CA.";
    fix: "Add an A or AAAA record for it at your DNS provider; new records can take an hour. The next run looks again.";
HttpSilent = "http-silent", Http, Fail;
    title: "the server accepts the request and does not answer";
    see: "Node: xhr poll error after a long wait, ETIMEDOUT\nnginx: 504 later\nChrome: ERR_TIMED_OUT";
    why: "TLS works and the request gets no response: the app behind the proxy hangs (an endless loop, a database that does not answer), or the proxy waits for an upstream that drops packets.";
    fix: "Ask the app directly on the board:\n  curl -v http://127.0.0.1:PORT/\nIf that hangs as well, restart the app and check its log; otherwise check the upstream address in the proxy's configuration.";
PageCsp = "page-csp", Http, Warn;
    title: "the page's Content-Security-Policy forbids it to connect to its own server";
    see: "Chrome: Refused to connect to 'wss://{host}/socket.io/' because it violates the following Content Security Policy directive: connect-src\nsocket.io-client in a page: xhr poll error; in Node it works";
    why: "Its connect-src, or default-src, lists other servers only. Often the app builds it from the Host that the proxy sends, which is not the name in the browser.";
    fix: "Add 'self' to connect-src. Node with helmet:\n  contentSecurityPolicy: { directives: { connectSrc: [\"'self'\"] } }\nIf the app builds it from Host, let the proxy forward Host. nginx:\n  proxy_set_header Host $http_host;\nApache: ProxyPreserveHost On";
HttpClosed = "http-closed", Http, Fail;
    title: "the server closes the connection without an answer";
    see: "Node: socket hang up, ECONNRESET\ncurl: (52) Empty reply from server\nChrome: ERR_EMPTY_RESPONSE, ERR_CONNECTION_CLOSED";
    why: "Possible causes: the app crashes on the request, nothing listens behind a published or forwarded port (a container whose app listens on 127.0.0.1 only), or the proxy forwards TLS to a port that does not expect it.";
    fix: "Check the log of the app at the time of this run. In a container, let the app listen on 0.0.0.0, not on 127.0.0.1 or localhost. HAProxy: `mode http` is missing, or the server expects TLS (`ssl` on its line).";
HttpMalformed = "http-malformed", Http, Fail;
    title: "the answer is not HTTP, or malformed";
    see: "Node: Parse Error: Expected HTTP/, Parse Error: Invalid header token\ncurl: (1) Received HTTP/0.9 when not allowed\nChrome: ERR_INVALID_HTTP_RESPONSE, ERR_RESPONSE_HEADERS_MULTIPLE_CONTENT_LENGTH";
    why: "Another protocol answers: an MQTT or SSH server, or a TCP tunnel to the wrong port. Or it is HTTP with a malformed field: a blank in its name, a control character in its value, or two lengths. Node also refuses fields of 16 KiB and more in all, and lines that end with a bare LF.";
    fix: "Check the port that the proxy forwards this name to. See the fields:\n  curl -sv {url}{path} -o /dev/null";
HttpTlsExpected = "http-tls-expected", Http, Fail;
    title: "plain HTTP is sent to a port that expects TLS";
    see: "400 The plain HTTP request was sent to HTTPS port\n400 Client sent an HTTP request to an HTTPS server";
    why: "The app terminates TLS itself, and the proxy in front of it (or this client) uses plain HTTP.";
    fix: "Let the app use plain HTTP behind the proxy, which is simplest, or let the proxy use https. nginx:\n  proxy_pass https://127.0.0.1:3002;\nCaddy: reverse_proxy https://127.0.0.1:3002 with tls_insecure_skip_verify; HAProxy: `ssl verify none` on the server line. Apache: SSLProxyEngine on, and https:// in ProxyPass.";
HttpH2Expected = "http-h2-expected", Http, Fail;
    title: "the app supports HTTP/2 only";
    see: "403 Unknown ALPN Protocol\n400 An HTTP/1.x request was sent to an HTTP/2 only endpoint\nnginx: 502 Bad Gateway";
    why: "A WebSocket is opened with HTTP/1.1, which the app refuses: it is an HTTP/2 server without fallback, or a gRPC port.";
    fix: "Node: http.createServer, or http2.createSecureServer({ allowHTTP1: true }). Kestrel: Protocols Http1AndHttp2. Or forward {path} to another port.";
HttpHostRefused = "http-host-refused", Http, Fail;
    title: "the app refuses the name in the request's Host";
    see: "Blocked request. This host is not allowed\nInvalid Host header\nsocket.io-client: xhr poll error, with status 403 or 400";
    why: "Dev servers and frameworks answer only to names in their list (against DNS rebinding), and the proxy forwards the public name.";
    fix: "Add `{host}` there. Vite: server: { allowedHosts: [\"{host}\"] }; webpack-dev-server: allowedHosts; Django: ALLOWED_HOSTS; Rails: config.hosts. In production serve the built files, not the dev server.";
HttpLimited = "http-limited", Http, Fail;
    title: "a limit of the proxy refuses a client's requests (429, 503)";
    see: "socket.io-client: xhr poll error or xhr post error, with status 429 or 503; it works at the second or third attempt\nnginx: limiting requests, excess";
    why: "A client makes five requests at once for its first connection, and many clients may share an address. The limit allows fewer. This run sends no more at once than a client does.";
    fix: "Raise the limit for {path}, or exempt the path. nginx:\n  limit_req zone=... burst=20 nodelay;\nand no `limit_conn` below 10. Traefik: rateLimit burst; fail2ban and CrowdSec: an exception for {path}.";
HttpChallenge = "http-challenge", Http, Fail;
    title: "a bot check or filter is in front of the app";
    see: "403 or 503 with Just a moment..., a captcha; Request Rejected; Web Page Blocked\nsocket.io-client: xhr poll error, with status 403 or 503; CORS error in the browser";
    why: "The CDN or filter lets requests pass only after a browser has solved a challenge, or only with a browser's User-Agent. Node, Python and apps on phones do neither, and pages of another origin cannot solve a challenge. Or a web application firewall, or a network's web filter, refuses the request.";
    fix: "Make an exception for {path}. Cloudflare: Security, WAF, custom rule `URI Path starts with {path}`: Skip; and disable Under Attack Mode and Bot Fight Mode for this name. Where a network's filter blocks it, try from another network.";
HttpLogin = "http-login", Http, Fail;
    title: "a login is in front of the app";
    see: "socket.io-client: xhr poll error, or parse error; the network tab shows a login page\nChrome: CORS error on a redirect";
    why: "A single sign-on (Cloudflare Access, Authelia, Authentik, oauth2-proxy, an app's own login) redirects clients without its cookie to a login page, which a Socket.IO client cannot use.";
    fix: "Exempt {path} from it and authenticate clients in the app, or send the login's cookie: --cookie shows whether that works. Cloudflare Access: a policy Bypass for {path}, or a service token.";
HttpCaptive = "http-captive", Http, Fail;
    title: "this network requires a login (511)";
    see: "511 Network Authentication Required";
    why: "A network such as a hotel's or train's answers instead of the server until you log in.";
    fix: "Log in at the network's own page, or use another network. The server is not at fault.";
HttpTooLong = "http-too-long", Http, Fail;
    title: "cookies, fields or query are too long for the server";
    see: "400 Request Header Or Cookie Too Large\n414 URI Too Long\n431 Request Header Fields Too Large";
    why: "A proxy or the app has a limit for the request line and the fields, and this client sends more: many cookies of the same domain, or a large token in the query.";
    fix: "Send less (the token in `auth` instead of the query), or raise the limit. nginx:\n  large_client_header_buffers 4 32k;\nNode: --max-http-header-size=32768. sanedge.toml: head_bytes_max and target_bytes_max in [limits].";
HttpDefaultSite = "http-default-site", Http, Fail;
    title: "the proxy's default site answers";
    see: "Welcome to nginx!, Congratulations! You've successfully started the Nginx Proxy Manager, an empty page of Caddy\nsocket.io-client: xhr poll error, parse error";
    why: "The proxy runs and has no site for `{host}` (or another site matches first), so it sends its default page.";
    fix: "Add a site for the name and forward it to the app. nginx: `server_name {host};` in the right `server`, linked into sites-enabled, then nginx -s reload. Nginx Proxy Manager: a Proxy Host for `{host}`. Caddy: the name in front of the block.";
CdnOrigin = "cdn-origin", Http, Fail;
    title: "the CDN cannot get an answer from your server (520 to 530)";
    see: "Error 521 Web server is down, 522 Connection timed out, 525 SSL handshake failed\nsocket.io-client: xhr poll error, with the status 52x";
    why: "The name resolves to the CDN, which works; the server behind it does not. The number says how far the CDN got.";
    fix: "Check the server without the CDN, at its own address:\n  sanedge doctor {url} --resolve {host}:ADDRESS-OF-YOUR-SERVER\n521, 522, 523: port forwarding, firewall, address in the record. 525, 526: TLS on the server: mode Full (strict) with a valid certificate or an origin certificate. 520, 524: the app.";
TunnelError = "tunnel-error", Http, Fail;
    title: "the tunnel or platform itself answers, because the app is not connected to it";
    see: "ngrok: ERR_NGROK_3200, ERR_NGROK_8012\nCloudflare: 530, error 1033\nsocket.io-client: xhr poll error";
    why: "The public name belongs to a tunnel or a platform, which answers itself: its agent on the board does not run, or cannot reach the app.";
    fix: "Start the agent (ngrok, cloudflared, lt), check its output, and give it the port on which the app listens:\n  ss -ltnp\nOn a platform, let the app listen on 0.0.0.0 and the port in the variable PORT, and check its log there.";
HttpRedirectLoop = "http-redirect-loop", Http, Fail;
    title: "the server redirects to itself";
    see: "Chrome: ERR_TOO_MANY_REDIRECTS\nsocket.io-client: xhr poll error, with status 301";
    why: "The app behind the proxy requires https, sees plain HTTP from the proxy, and redirects every client to the same URL. With Cloudflare, the cause is the mode Flexible.";
    fix: "Let the proxy say that the client used https, and let the app trust the proxy. nginx:\n  proxy_set_header X-Forwarded-Proto $scheme;\nExpress: app.set('trust proxy', 'loopback'). Cloudflare: mode Full (strict).";
HttpMisdirected = "http-misdirected", Http, Fail;
    title: "the proxy says that this name is not served on this connection";
    see: "421 Misdirected Request";
    why: "The Host of the request and the TLS server name belong to different sites.";
    fix: "Add the host to the site of the proxy. sanedge: to `hosts` of the [[site]] in sanedge.toml, then:\n  {apply}";
HttpBadGateway = "http-bad-gateway", Http, Fail;
    title: "the proxy cannot reach the app behind it (502)";
    see: "nginx: 502 Bad Gateway; connect() failed (111: Connection refused) while connecting to upstream\nsanedge: upstream_unreachable\nsocket.io-client: xhr poll error, with status 502";
    why: "The app is not running, listens on another port, or listens only on ::1 or 127.0.0.1 while the proxy connects to the other.";
    fix: "On the board, see whether it listens at the address that the proxy uses:\n  ss -ltnp\n  journalctl -u YOUR-APP -n 50\nNode: server.listen(3002, '127.0.0.1') for an upstream of 127.0.0.1:3002.";
HttpUnavailable = "http-unavailable", Http, Fail;
    title: "the proxy has no server for the request (503)";
    see: "HAProxy: 503 Service Unavailable, No server is available to handle this request\nsocket.io-client: xhr poll error, with status 503";
    why: "The health check marks every server behind it as down, a session limit is reached, or the proxy has no site for this name.";
    fix: "Start the app. nginx-proxy: VIRTUAL_HOST={host} in the app's container, and both containers in one network. HAProxy: remove `check` from the server line to see whether only the health check is wrong. Socket.IO answers 404 on /, so check with\n  option httpchk GET /socket.io/?EIO=4&transport=polling";
HttpGatewayTimeout = "http-gateway-timeout", Http, Fail;
    title: "the app behind the proxy does not answer in time (504)";
    see: "nginx: 504 Gateway Time-out; upstream timed out (110: Connection timed out)\nsocket.io-client: xhr poll error, with status 504";
    why: "The proxy reaches the app's machine and gets no answer: the app hangs, or a firewall drops packets.";
    fix: "Ask the app directly on the board:\n  curl -v http://127.0.0.1:PORT/socket.io/?EIO=4\\&transport=polling";
HttpError = "http-error", Http, Fail;
    title: "the server answers with an error of its own";
    see: "500 Internal Server Error";
    why: "The app, or the proxy, fails on a plain request.";
    fix: "Check the log of the program that answered; the evidence names it.";
HttpRefusesAll = "http-refuses-all", Http, Fail;
    title: "every request is refused as bad (400)";
    see: "400 Bad Request in the browser as well\nsocket.io-client: xhr poll error, with status 400";
    why: "Neither the path nor Socket.IO is the cause: the app refuses, or cannot parse, every request that the proxy forwards. The proxy sends the PROXY protocol to an app that does not expect it, or the app does not trust the proxy.";
    fix: "Ask the app on its own port:\n  curl -v http://127.0.0.1:PORT/\nIf that works, disable the PROXY protocol (HAProxy: no `send-proxy`; nginx stream: proxy_protocol off; AWS: proxy protocol v2 of the target group), or add the proxy's address in the app (Home Assistant: trusted_proxies and use_x_forwarded_for).";
HttpNoRedirect = "http-no-redirect", Http, Warn;
    title: "port 80 does not redirect to https";
    see: "Typing the name without https:// gives a page without TLS, or an error.";
    why: "Port {http_port} answers without a redirect: another server has the port, or the edge has no site for this host (sanedge: 404 unknown_host).";
    fix: "nginx:\n  return 301 https://$host$request_uri;\nsanedge.toml: http = [\"[::]:{http_port}\"] in [listen], the host in a [[site]], then:\n  {apply}";
HttpRedirectElsewhere = "http-redirect-elsewhere", Http, Warn;
    title: "port 80 redirects to another host";
    see: "The name without https:// ends on another site.";
    why: "A default site answers on port {http_port} instead of this one.";
    fix: "Give this host a site on port {http_port} as well.";
EioTransportUnknown = "eio-transport-unknown", Polling, Fail;
    title: "Transport unknown: the query does not reach the app";
    see: "{\"code\":0,\"message\":\"Transport unknown\"}\nsocket.io-client: xhr poll error, or websocket error, with status 400";
    why: "Engine.IO finds no known `transport=` in the request, or no `EIO` or `sid`: a proxy drops or rewrites the query string, or a CDN forwards only some of its parts.";
    fix: "Look for a rewrite or a fixed path in the proxy. nginx: write `proxy_pass http://127.0.0.1:3002;` without a path after the port (if it has variables, add `$is_args$args`). Apache: use the flag [QSA]. HAProxy: remove any `set-path` that drops the query.";
EioWebsocketOnly = "eio-websocket-only", Polling, Fail;
    title: "Transport unknown: the server accepts WebSockets only, and clients begin by polling";
    see: "{\"code\":0,\"message\":\"Transport unknown\"}\nsocket.io-client: xhr poll error, with status 400";
    why: "The server was made with `transports: [\"websocket\"]`; a client without the same option starts with polling.";
    fix: "Client:\n  io(\"{origin}\", { transports: [\"websocket\"] })\nOr remove `transports` from the server's options. If your clients do this already, add: --transport websocket";
EioPollingOnly = "eio-polling-only", Websocket, Fail;
    title: "Transport unknown: the server accepts polling only";
    see: "{\"code\":0,\"message\":\"Transport unknown\"}\nWebSocket connection to 'wss://{host}{path}?EIO=4&transport=websocket' failed\nsocket.io-client: websocket error";
    why: "The server was made with `transports: [\"polling\"]`, and the client asks for a WebSocket.";
    fix: "Remove `transports` from the server's options, so that both work. If your clients only poll, add: --transport polling";
EioSidUnknown = "eio-sid-unknown", Polling, Fail;
    title: "Session ID unknown: the second request reached another process";
    see: "{\"code\":1,\"message\":\"Session ID unknown\"}\nPython server: Invalid session\nsocket.io-client: xhr poll error, with status 400; endless reconnecting";
    why: "Several processes or machines share the name, and each knows only its own sessions: all requests of a client must reach the same one. A single process that restarts again and again shows the same error.";
    fix: "If one process is enough, run only one (pm2: -i 1; gunicorn -w 1, uvicorn --workers 1). With several, make sessions sticky. nginx: `hash $remote_addr consistent;` or `ip_hash;` in `upstream`; HAProxy: `balance source`; Node's cluster: @socket.io/sticky. sanedge does so by itself.";
EioBadMethod = "eio-bad-method", Polling, Fail;
    title: "Bad handshake method: the proxy changes the method";
    see: "{\"code\":2,\"message\":\"Bad handshake method\"}";
    why: "A handshake is a GET, but another method arrived at the app.";
    fix: "nginx: remove `proxy_method`. Other proxies: look for a rule that rewrites methods.";
EioBadRequest = "eio-bad-request", Polling, Fail;
    title: "Bad request: Engine.IO does not understand the handshake";
    see: "{\"code\":3,\"message\":\"Bad request\"}\nsocket.io-client: xhr poll error, with status 400";
    why: "The request was changed on its way: a proxy rewrote the query, or a polling request was sent for a session that is a WebSocket already (TRANSPORT_MISMATCH).";
    fix: "Look for rewrites in the proxy, and compare with the app's answer on its own port.";
EioForbidden = "eio-forbidden", Polling, Fail;
    title: "the app refuses this client (Engine.IO code 4, allowRequest)";
    see: "{\"code\":4,\"message\":...}\nsocket.io-client: xhr poll error, with status 403";
    why: "The app's `allowRequest` refused: an Origin, cookie, header or query that real clients send is missing, or the app sees http and the proxy's address.";
    fix: "Send what your client sends: --origin, --cookie, --header, --query. If a real client is refused as well, log `req.headers` in allowRequest and let the proxy send what is missing: X-Forwarded-For, X-Forwarded-Proto, Host.";
EioProtocol = "eio-protocol", Polling, Fail;
    title: "Unsupported protocol version: the client is too old for the server";
    see: "{\"code\":5,\"message\":\"Unsupported protocol version\"}\nsocket.io-client 2.x: xhr poll error, with status 400";
    why: "A client of Socket.IO 1 or 2 (EIO=3) connects to a server of Socket.IO 3 or 4 without `allowEIO3`.";
    fix: "Update the client to 4.x. If that is impossible (old apps, microcontrollers), set in the server:\n  new Server(http, { allowEIO3: true })";
EioOldServer = "eio-old-server", Polling, Fail;
    title: "the client is too new for the server";
    see: "socket.io-client 3 or 4: connects and reconnects forever, parse error, or: It seems you are trying to reach a Socket.IO server in v2.x with a v3.x client";
    why: "The server is Socket.IO 2.x or older, or python-socketio 4 or older (Engine.IO 3 or older), and the client uses EIO=4; the two frame packets differently.";
    fix: "Update the server: npm install socket.io@4, or pip install -U python-socketio. Or use a client of the server's version: npm install socket.io-client@2 (for 1.x and 2.x), or socket.io-client@0.9";
EioV3Server = "eio-v3-server", Polling, Warn;
    title: "the server is Socket.IO 2.x";
    see: "Clients of 3.x and 4.x cannot connect.";
    why: "It uses Engine.IO 3 and has had no updates since 2021.";
    fix: "Clients of 2.x work. For others, run on the server: npm install socket.io@4";
EioNotFound = "eio-not-found", Polling, Fail;
    title: "nothing answers at the path (404)";
    see: "Cannot GET {path}\nsocket.io-client: xhr poll error, with status 404";
    why: "The server behind the name has no Socket.IO at this path: the proxy forwards the path to another app, the app uses another `path`, or `new Server()` is not attached to the server that listens.";
    fix: "Forward the path to the Socket.IO app. nginx:\n  location {path} { proxy_pass http://127.0.0.1:3002; }\nNode: `new Server(httpServer)` and httpServer.listen(), not app.listen(). If Socket.IO has another path, use --path /my/path/ here and { path: ... } in the client.";
EioWrongPath = "eio-wrong-path", Polling, Fail;
    title: "Socket.IO answers at another path";
    see: "socket.io-client: xhr poll error, with status 404";
    why: "The server or the proxy uses another path than the client: a proxy adds or removes a prefix, or the server has its own `path`.";
    fix: "Give the client the path:\n  io(\"{origin}\", { path: \"{found_path}\" })\nOr remove the prefix in the proxy. nginx: `proxy_pass http://127.0.0.1:3002;` without a path after the port keeps the path.";
EioNotSocketio = "eio-not-socketio", Polling, Fail;
    title: "another program answers instead of Socket.IO";
    see: "socket.io-client: xhr poll error, parse error; the network tab shows HTML, JSON or text at {path}";
    why: "The program on this port is not Socket.IO: another app, a plain WebSocket server (`ws`, which a Socket.IO client cannot talk to), a static site, or a single-page app that answers every path with index.html. Or Socket.IO is attached at another path.";
    fix: "See which program has the app's port, and whether it is yours:\n  ss -ltnp\nNode: `new Server(httpServer)` and httpServer.listen(), not app.listen(). If Socket.IO has another path, use --path /my/path/ here and { path: ... } in the client.\nIf the app is right and the proxy forwards the path elsewhere, add a rule for the path before the rule for everything else. nginx:\n  location {path} { proxy_pass http://127.0.0.1:3002; }\nVite and webpack: an entry in `proxy` with ws: true.";
EioRedirected = "eio-redirected", Polling, Fail;
    title: "the handshake is redirected";
    see: "socket.io-client: xhr poll error; Chrome: CORS error on a redirect; WebSocket: Unexpected response code: 301";
    why: "Browsers do not follow redirects of WebSockets. Common causes: a missing slash at the end of the path, http instead of https, a name with or without www (`redirect` in sanedge.toml, a redirection host of Nginx Proxy Manager), or a login page.";
    fix: "Connect to the target of the redirect: `{location}`. If that is a login page, exempt {path} from it in the proxy.";
EioPathRewritten = "eio-path-rewritten", Polling, Fail;
    title: "the proxy changes the path of the request";
    see: "Cannot GET, with another path than the client's\nsocket.io-client: xhr poll error, with status 404";
    why: "The app's answer repeats the path that it received, which is not the client's. Common causes: a path after the port in the proxy's upstream address, a missing slash at the end of one of the two paths, or a prefix that is not removed.";
    fix: "nginx: a path after the port replaces the part that `location` matched, so end both with a slash or neither:\n  location {path} { proxy_pass http://127.0.0.1:3002; }\nor, to remove /game:\n  location /game/ { proxy_pass http://127.0.0.1:3002/; }\nApache: the same slashes at the end of both in ProxyPass. Caddy: handle_path removes the prefix, handle keeps it. Traefik: StripPrefix.";
EioUnauthorized = "eio-unauthorized", Polling, Fail;
    title: "the proxy asks for a password or a sign-in (401)";
    see: "socket.io-client: xhr poll error, with status 401\nVS Code, Codespaces: the forwarded port works only in the browser that is signed in";
    why: "The proxy asks for Basic authentication or a single sign-on, or the port of a tunnel is private. A Socket.IO client cannot answer.";
    fix: "Exempt {path} from it, and authenticate clients in the app. nginx:\n  location {path} { auth_basic off; ... }\nVS Code and Codespaces: Ports, Port Visibility, Public.";
EioRefused = "eio-refused-by-edge", Polling, Fail;
    title: "the proxy refuses the request (403)";
    see: "403 Forbidden\nsocket.io-client: xhr poll error, with status 403";
    why: "A rule of the proxy or of a filter in front of it (allow and deny, a country block, a bot check) refuses; the app never saw the request. If the evidence names the app, a middleware in front of Socket.IO refuses.";
    fix: "Look for the rule in the log of the proxy. nginx: `deny`. Cloudflare: Security, Events. In the app, look for a middleware that checks logins, CSRF tokens or origins before Socket.IO.";
EioOriginRefused = "eio-origin-refused", Polling, Fail;
    title: "the server refuses pages of this origin";
    see: "Python: 400 https://... is not an accepted origin\nsocket.io-client in a page: xhr poll error, with status 400 or 403; in Node it works";
    why: "Without the Origin the same request is accepted: the server, or a rule of the proxy, has a list of origins without this page.";
    fix: "Add the page. Python: cors_allowed_origins=[\"{page}\"]; Node: cors: { origin: \"{page}\" } and what `allowRequest` checks (Socket.IO 2.x: `origins`); sanedge.toml: origins = [\"{page}\"].";
EioForwardedProto = "eio-forwarded-proto", Polling, Fail;
    title: "the app refuses pages of its own host: X-Forwarded-Proto is missing";
    see: "Python: https://... is not an accepted origin; browsers: 400 on every POST and WebSocket; Node and Python clients work";
    why: "python-engineio accepts pages of the host and scheme of the request. Behind the proxy the request has http, and the page has https.";
    fix: "nginx:\n  proxy_set_header Host $host;\n  proxy_set_header X-Forwarded-Proto $scheme;\nApache: RequestHeader set X-Forwarded-Proto https. Or name the page in the app: cors_allowed_origins=[\"{page}\"]";
EioForwardedHost = "eio-forwarded-host", Polling, Fail;
    title: "the app refuses pages of its own host: the proxy changes Host";
    see: "Python: http://... is not an accepted origin; browsers: 400 on every request; Node and Python clients work";
    why: "python-engineio accepts pages of the host of the request. The proxy sends another host, or omits the port, so the app refuses the site's own pages.";
    fix: "nginx ($host has no port, $http_host has it):\n  proxy_set_header Host $http_host;\n  proxy_set_header X-Forwarded-Proto $scheme;\nApache: ProxyPreserveHost on. Vite and webpack: changeOrigin: false. Or name the page in the app: cors_allowed_origins=[\"{page}\"]";
EioPartRefused = "eio-part-refused", Polling, Fail;
    title: "the server refuses a part of what the client sends";
    see: "socket.io-client: xhr poll error, with status 400, 401 or 403; without the cookie, query or field it connects";
    why: "The same request is accepted without {part}: a token has expired, a rule of the proxy (a filter for SQL or scripts) rejects a value, or the app checks it.";
    fix: "Try another value. Check the log of the server that answered: the evidence names it.";
EioUpgradeAlways = "eio-upgrade-always", Polling, Fail;
    title: "the proxy sets Upgrade on every request";
    see: "400 Missing or invalid Sec-WebSocket-Key header\nsocket.io-client: xhr poll error, with status 400; with transports: [\"websocket\"] it connects";
    why: "`Upgrade: websocket` is a fixed text in the proxy's configuration, so the app takes polls for WebSocket handshakes.";
    fix: "Forward what the client sent. nginx:\n  map $http_upgrade $connection_upgrade { default upgrade; '' close; }\n  proxy_set_header Upgrade $http_upgrade;\n  proxy_set_header Connection $connection_upgrade;\nApache: a RewriteCond on %{HTTP:Upgrade} in front of RequestHeader; HAProxy: remove any `set-header Upgrade` without a condition.";
EioPollingLost = "eio-polling-lost", Polling, Fail;
    title: "the proxy forwards WebSockets but not polls";
    see: "socket.io-client: xhr poll error, with status 404, 400 or 500; with transports: [\"websocket\"] it connects\nApache: No protocol handler was valid for the URL";
    why: "A WebSocket at the same path reaches Socket.IO, but the poll with which clients begin gets another answer: the proxy's rule matches upgrades only (Apache: ProxyPass to a ws:// address).";
    fix: "Forward the whole path to the app, not only upgrades. Apache 2.4.47 and later, one line for both:\n  ProxyPass \"{path}\" \"http://127.0.0.1:3002{path}\" upgrade=websocket\nBefore: mod_rewrite with `RewriteCond %{HTTP:Upgrade} =websocket [NC]` to ws://, and ProxyPass to http://; not both at once. Caddy: no matcher on the header Upgrade. Or let clients leave out polling: transports: [\"websocket\"]";
EioStatus = "eio-status", Polling, Fail;
    title: "the answer to the handshake is not from Engine.IO";
    see: "socket.io-client: xhr poll error";
    why: "Another program between the client and the app answered.";
    fix: "The evidence has the status and the server: check its log.";
EioGarbled = "eio-garbled", Polling, Fail;
    title: "the answer to the handshake was changed on its way";
    see: "socket.io-client: parse error, server error, xhr poll error, transport error right after connecting\nChrome: ERR_CONTENT_DECODING_FAILED";
    why: "The app sends an Engine.IO open packet with the status 200. On its way a program changes it: a proxy rewrites, minifies or compresses content, injects some, or changes the status.";
    fix: "Disable everything that changes bodies for {path} (sub_filter, Rocket Loader, analytics injection, compression that no client asked for).";
EdgeUnknownPath = "edge-unknown-path", Polling, Fail;
    title: "sanedge has no route for the path (404 unknown_path)";
    see: "Sanedge-Error: unknown_path\nsocket.io-client: xhr poll error, with status 404";
    why: "sanedge itself answers: it serves the host, but none of its routes covers {path}. The app never saw the request.";
    fix: "Give the site an `upstream` of its own, or a route:\n  [[site.route]]\n  path = \"{path}\"\n  upstream = [\"127.0.0.1:3002\"]\nThen:\n  {apply}";
EdgeUnknownHost = "edge-unknown-host", Polling, Fail;
    title: "sanedge does not serve this host (404 unknown_host)";
    see: "Sanedge-Error: unknown_host";
    why: "The plain listener of sanedge answers: it redirects the hosts of its bundle to https and serves no other.";
    fix: "Use a host of the file (`sanedge site list` shows them), with https. Add a new host to `hosts` of a [[site]]; then:\n  {apply}";
EdgeAddressRefused = "edge-address-refused", Polling, Fail;
    title: "sanedge refuses this client's address (403 address_refused)";
    see: "Sanedge-Error: address_refused\nsocket.io-client: xhr poll error, with status 403";
    why: "The site has `allow`, and the client's address is in none of its networks. The app never saw the request. Behind a proxy or tunnel, every client has the address of that proxy.";
    fix: "Add the client's network to `allow` of the site, or remove `allow`. Behind a proxy, list the proxy in `trusted_proxies`, so that sanedge takes the client's address from it. Then:\n  {apply}";
EdgeUpstreamBroken = "edge-upstream-broken", Polling, Fail;
    title: "sanedge reaches the app and gets no valid response (502 upstream_closed, upstream_malformed)";
    see: "Sanedge-Error: upstream_closed, or upstream_malformed\nsocket.io-client: xhr poll error, with status 502";
    why: "A program accepts the connection at the upstream's address, and then closes it or does not answer in HTTP/1.1: the app crashes on the request, another program has the port, the port expects TLS, or `send_proxy_protocol` sends a header that the app does not expect.";
    fix: "Ask it directly on the board, and check its log at the time of this run:\n  curl -v http://127.0.0.1:PORT{path}\n  journalctl -u YOUR-APP -n 50\nRemove `send_proxy_protocol` from the site unless the app expects it: plain Node does not.";
EdgeBusy = "edge-busy", Polling, Fail;
    title: "sanedge refuses another WebSocket from this address (429 too_many_requests)";
    see: "Sanedge-Error: too_many_requests";
    why: "This address opens more WebSockets a second than `address_websockets_per_s_max`. (Other limits close the connection without an answer.)";
    fix: "Check that the limit was reached, and raise it in [limits]:\n  sanedge status\n  journalctl -u sanedge -n 20\nIf all clients have one address (a tunnel, Docker), list it in `exempt` or `trusted_proxies`.";
EdgeRefused = "edge-refused", Polling, Fail;
    title: "sanedge itself refuses the request, with another code";
    see: "Sanedge-Error: the code that the evidence names";
    why: "sanedge refuses what breaks a rule or a limit, and the app never sees it. The doctor's request is valid, so a proxy in front changed it, a field or cookie is too long, or a limit is very low.";
    fix: "{remedy}\nThe log says more:\n  journalctl -u sanedge -n 20";
EioCached = "eio-cached", Polling, Fail;
    title: "a cache answers instead of the app";
    see: "Session ID unknown from time to time; several clients get one session";
    why: "Two handshakes got the same sid: the proxy caches responses of {path}, so one client gets another client's response.";
    fix: "Never cache this path. nginx: `proxy_cache off;` there; CDN: add a rule that bypasses the cache for {path}.";
EioPostRefused = "eio-post-refused", Polling, Fail;
    title: "GET works and POST is refused";
    see: "socket.io-client: connects and disconnects at the first message, xhr post error";
    why: "Polling clients send with POST, and a rule allows only GET, requires a CSRF token, or ends the connection.";
    fix: "Allow POST on {path}. nginx: look for `limit_except`; Web application firewall: add an exception for {path}.";
EioPostTooLarge = "eio-post-too-large", Polling, Fail;
    title: "the proxy refuses even a tiny POST as too large (413)";
    see: "socket.io-client: xhr post error, with status 413";
    why: "A limit on request bodies is far too low for Engine.IO, whose own limit is 1 MB.";
    fix: "nginx:\n  client_max_body_size 2m;";
EioPostLost = "eio-post-lost", Polling, Fail;
    title: "the POST of a polling client fails";
    see: "socket.io-client: xhr post error";
    why: "The handshake works, but the first POST does not: a proxy drops bodies, or the app fails on them, for example because of a body parser in front of Socket.IO.";
    fix: "Node: attach Socket.IO to the http server, in front of body parsers. The evidence has the status.";
EioPollRefused = "eio-poll-refused", Polling, Fail;
    title: "a waiting poll is refused or cut";
    see: "socket.io-client: connects and disconnects at once, xhr poll error";
    why: "The handshake works, but the GET with the session's id does not: a rule of the proxy about the query, a filter, or the app refuses it.";
    fix: "The evidence has the status and the server: check its log at the time of this run.";
EioPollCut = "eio-poll-cut", Polling, Fail;
    title: "a waiting poll is cut before the server's next heartbeat";
    see: "socket.io-client on polling: disconnects with transport error, always after the same time; nginx: 504";
    why: "A poll waits for an answer for up to pingInterval, 25 s by default. A proxy waits for a shorter time.";
    fix: "nginx, in the location of {path}:\n  proxy_read_timeout 1h;\nHAProxy: timeout server above pingInterval; AWS ALB: idle timeout above 30 s. Or set a shorter pingInterval in the server.";
EioBodyLimit = "eio-body-limit", Polling, Warn;
    title: "the proxy allows smaller bodies than the server announces";
    see: "socket.io-client on polling: disconnects at a large message, xhr post error, with status 413";
    why: "Clients send POSTs of up to the server's maxPayload (1 MB by default), and a proxy refuses bodies of that length.";
    fix: "nginx:\n  client_max_body_size 2m;\nApache: LimitRequestBody; IIS: maxAllowedContentLength. Or set a smaller maxHttpBufferSize in the server.";
EioCookieNeeded = "eio-cookie-needed", Polling, Warn;
    title: "sessions are sticky by a cookie only";
    see: "Browsers on the same host and python-socketio connect; Node, phones and pages of another origin: Session ID unknown, xhr poll error with status 400";
    why: "The load balancer recognises a session by a cookie that it sets. socket.io-client keeps cookies in a page of the same origin, or with withCredentials; python-socketio keeps them; most other programs do not.";
    fix: "Client: io(\"{origin}\", { withCredentials: true }), with `cors: { origin: \"{page}\", credentials: true }` in the server. Programs: transports: [\"websocket\"]. Or make sessions sticky by the client's address (nginx: ip_hash, HAProxy: balance source).\nTo connect as a client without cookies:\n  sanedge doctor {url} --no-cookies";
EioPollHeld = "eio-poll-held", Polling, Fail;
    title: "a proxy delays the answers to polls";
    see: "socket.io-client: connects after a long wait, or stays on polling; messages arrive in bursts, or only with the next heartbeat";
    why: "A poll waits at the server until the app sends a message. The app sent one and the response did not arrive: something on the way buffers responses (a CDN, an antivirus program, a compressing or caching proxy), or drops late ones.";
    fix: "Disable buffering, compression and caching for {path}. nginx:\n  proxy_buffering off;\n  gzip off;\nIf you have no such proxy, try from another network. Clients can avoid it with transports: [\"websocket\"].";
EioPingLong = "eio-ping-long", Polling, Warn;
    title: "the heartbeat interval is longer than the idle timeout of most proxies";
    see: "transport close, ping timeout after about a minute of silence";
    why: "nginx closes a connection after 60 s without a byte, Cloudflare after 100 s. The default pingInterval of 25 s prevents both.";
    fix: "Server: pingInterval: 25000";
MixedContent = "mixed-content", Polling, Fail;
    title: "a page that was loaded over https may not connect over http";
    see: "Chrome: Mixed Content: The page at '{page}' was loaded over HTTPS, but requested an insecure endpoint. This request has been blocked\nFirefox: Blocked loading mixed active content";
    why: "Browsers block plain http:// and ws:// from pages that were loaded over https, before anything is sent.";
    fix: "Give the server TLS (sanedge, nginx, Caddy) and connect over https:\n  io(\"https://{host}\")";
CorsMissing = "cors-missing", Polling, Fail;
    title: "pages of this origin may not poll (CORS)";
    see: "Chrome: has been blocked by CORS policy: No 'Access-Control-Allow-Origin' header is present on the requested resource\nFirefox: CORS header 'Access-Control-Allow-Origin' missing\nsocket.io-client: xhr poll error";
    why: "The page is at `{page}`, the server at another origin, and its response does not allow the page. Since Socket.IO 3 no other origin is allowed by default.";
    fix: "Server:\n  new Server(http, { cors: { origin: \"{page}\", credentials: true } })";
CorsOther = "cors-other-origin", Polling, Fail;
    title: "the server allows another origin than this page's (CORS)";
    see: "Chrome: The 'Access-Control-Allow-Origin' header has a value '...' that is not equal to the supplied origin";
    why: "Scheme, host and port must equal those of the page exactly, without a slash at the end.";
    fix: "Server:\n  cors: { origin: [\"{page}\"], credentials: true }";
CorsStar = "cors-star-with-credentials", Polling, Fail;
    title: "`*` is not allowed together with credentials (CORS)";
    see: "Chrome: The value of the 'Access-Control-Allow-Origin' header in the response must not be the wildcard '*' when the request's credentials mode is 'include'";
    why: "The client has withCredentials: true (or sends cookies); the server must then name the origin.";
    fix: "Server:\n  cors: { origin: \"{page}\", credentials: true }\nOr set in the client: withCredentials: false";
CorsPreflight = "cors-preflight", Polling, Fail;
    title: "the browser's preflight request (OPTIONS) for the page's own fields is refused";
    see: "Chrome: Response to preflight request doesn't pass access control check: It does not have HTTP ok status.\nChrome: Request header field authorization is not allowed by Access-Control-Allow-Headers in preflight response.\nFirefox: CORS preflight response did not succeed";
    why: "The client has `extraHeaders`, so the browser sends OPTIONS first. The proxy refuses or answers it itself, or the app's `cors` has an `allowedHeaders` without these names.";
    fix: "Name them in the server, or remove `allowedHeaders`:\n  new Server(http, { cors: { origin: \"{page}\", allowedHeaders: [{fields}] } })\nIn the proxy, forward OPTIONS to the app. nginx: no `limit_except GET POST`, no `return` for OPTIONS. Or send a token with `auth` instead of a header.";
CorsTwice = "cors-twice", Polling, Fail;
    title: "the CORS field has more than one value";
    see: "Chrome: The 'Access-Control-Allow-Origin' header contains multiple values, but only one is allowed";
    why: "The proxy adds it, and so does the app.";
    fix: "Remove it from the proxy. nginx: remove `add_header Access-Control-Allow-Origin`, or add: proxy_hide_header Access-Control-Allow-Origin;";
WsUpgradeLost = "ws-upgrade-lost", Websocket, Fail;
    title: "the proxy loses the WebSocket upgrade";
    see: "{\"code\":3,\"message\":\"Bad request\"}\nWebSocket connection to 'wss://{host}{path}' failed: Error during WebSocket handshake: Unexpected response code: 400\nsocket.io-client: websocket error; without `transports` it stays on polling forever";
    why: "The app got the request without `Upgrade: websocket`: it is a hop-by-hop field, which a proxy forwards only if it is configured to.";
    fix: "nginx, in the location of {path}:\n  proxy_http_version 1.1;\n  proxy_set_header Upgrade $http_upgrade;\n  proxy_set_header Connection \"upgrade\";\nNginx Proxy Manager: enable Websockets Support. Apache: mod_proxy_wstunnel. lighttpd: proxy.header = (\"upgrade\" => \"enable\"). Varnish: `return (pipe)` for upgrades in vcl_recv, and copy Upgrade and Connection in vcl_pipe. With several proxies in a row, configure each of them.";
WsConnectionList = "ws-connection-list", Websocket, Fail;
    title: "Firefox gets no WebSocket; other clients do";
    see: "Firefox can't establish a connection to the server at wss://{host}{path}\nChrome, Node: no error";
    why: "Firefox sends `Connection: keep-alive, Upgrade`, a list (RFC 9110, 7.6.1). A rule of the proxy compares the whole value with `Upgrade`.";
    fix: "Let the rule look for the word. Apache:\n  RewriteCond %{HTTP:Connection} upgrade [NC]\nwithout ^ and $; or ProxyPass with upgrade=websocket instead of the rule. HAProxy: hdr(Connection) -m sub -i upgrade, or `-i upgrade` on hdr(), which splits lists.";
WsExtension = "ws-extension", Websocket, Fail;
    title: "compression breaks the WebSocket of browsers and Node";
    see: "Chrome: Invalid frame header, One or more reserved bits are on\nNode: Invalid WebSocket frame: RSV1 must be clear\nPython, Swift: no error";
    why: "Browsers and Node offer permessage-deflate. A proxy drops the server's answer to it, so that compressed messages arrive without agreement, or refuses the offer.";
    fix: "Let the proxy forward Sec-WebSocket-Extensions in both directions, or in neither: then drop it from the request as well. nginx: no `proxy_hide_header Sec-WebSocket-Extensions` and no `proxy_set_header Sec-WebSocket-Extensions` alone. Or disable compression in the server: perMessageDeflate: false; uvicorn --ws-per-message-deflate false.";
WsNoLibrary = "ws-no-library", Websocket, Fail;
    title: "the Python server has no WebSocket support";
    see: "socket.io-client: websocket error, status 400; without `transports` it stays on polling\nuvicorn: No supported WebSocket library detected\nFlask: WebSocket transport not available. Install simple-websocket";
    why: "python-engineio supports WebSockets only with a library for its web server, and none is installed. Some web servers (gunicorn with sync workers, WSGI on Apache) cannot support them at all.";
    fix: "Flask and threads:\n  pip install simple-websocket\nuvicorn:\n  pip install 'uvicorn[standard]'\ngunicorn, whose sync and gevent workers do not support WebSockets:\n  gunicorn -k gthread --threads 100 -w 1 app:app\n  gunicorn -k geventwebsocket.gunicorn.workers.GeventWebSocketWorker -w 1 app:app\nIf your clients only poll, add: --transport polling";
WsOriginRefused = "ws-origin-refused", Websocket, Fail;
    title: "sanedge refuses WebSockets of this origin (403 origin_refused)";
    see: "Sanedge-Error: origin_refused\nWebSocket connection failed: Unexpected response code: 403";
    why: "Any page can open a WebSocket with your visitors' cookies, so sanedge allows only the site's own origins and those in `origins`.";
    fix: "{advice}\nThen:\n  {apply}";
WsForbidden = "ws-forbidden", Websocket, Fail;
    title: "polling works, but the WebSocket is refused (403)";
    see: "WebSocket connection failed: Unexpected response code: 403\nsocket.io-client: websocket error, or it stays on polling";
    why: "A rule of the proxy refuses upgrades, or the app checks their Origin.";
    fix: "Look for the rule in the log of the proxy. To test as a browser, give the page's address with --origin.";
WsUpgradeRequired = "ws-upgrade-required", Websocket, Fail;
    title: "the server asks for the upgrade that the client sent (426)";
    see: "426 Upgrade Required";
    why: "The proxy forwarded the request without Upgrade, or with HTTP/1.0, to a server that accepts only WebSockets.";
    fix: "nginx:\n  proxy_http_version 1.1;\n  proxy_set_header Upgrade $http_upgrade;\n  proxy_set_header Connection \"upgrade\";";
WsElsewhere = "ws-elsewhere", Websocket, Fail;
    title: "the proxy's rule for WebSockets forwards another request than its rule for polls";
    see: "WebSocket connection failed: Unexpected response code: 404 or 502\nsocket.io-client: websocket error; it stays on polling";
    why: "The same request without `Upgrade` reaches Engine.IO. With it, the proxy applies another rule, which forwards to another path, port or Host, or drops the query.";
    fix: "Apache 2.4.47 and later, one rule for both:\n  ProxyPass \"{path}\" \"http://127.0.0.1:3002{path}\" upgrade=websocket\nBefore: the RewriteRule to ws:// must forward the same path as ProxyPass; %{REQUEST_URI} still has the prefix. nginx: one location for both, without a second location for WebSockets and without `if ($http_upgrade)`. HAProxy: the backend of an ACL on Upgrade needs the same server. Gateways (Spring, Kong): the same Host for both.";
WsOff = "ws-off", Websocket, Fail;
    title: "the proxy or platform in front of the app does not support WebSockets";
    see: "WebSocket connection failed: Unexpected response code: 403, 501 or 503\nIIS: WebSocket request made to a site where WebSockets are disabled\nsocket.io-client: websocket error; it stays on polling";
    why: "The same request without `Upgrade` reaches Engine.IO. With it, a platform or proxy in front of the app refuses: WebSockets are disabled there, or it does not support them.";
    fix: "Azure App Service: Configuration, General settings, Web sockets: On. IIS 8 and later: install the feature WebSocket Protocol; with iisnode `<webSocket enabled=\"false\" />` in web.config. AWS: use an Application Load Balancer; a classic one with an HTTP listener does not support WebSockets. Cloudflare: Network, WebSockets: On. Envoy, Istio: upgrade_configs with `upgrade_type: websocket`. If that is not possible, use polling only: transports: [\"polling\"]";
WsStatus = "ws-status", Websocket, Fail;
    title: "the WebSocket handshake gets another status than 101";
    see: "WebSocket connection failed: Unexpected response code\nsocket.io-client: websocket error";
    why: "Polling works but the upgrade does not reach the app: another rule of the proxy matches it, or the server behind does not support WebSockets.";
    fix: "The evidence has the status and the server. Look for a rule that matches `Upgrade: websocket`. 500: exempt upgrades from a middleware that compresses or buffers responses (Traefik: remove `compress` from this router). 400 from Node: another WebSocket server on the same HTTP server (`ws` with another `path`) refuses this path: give it `noServer: true`.";
WsNoAnswer = "ws-no-answer", Websocket, Fail;
    title: "polling works, but the WebSocket handshake gets no answer";
    see: "WebSocket connection failed: timeout\nsocket.io-client: timeout, or it stays on polling";
    why: "A proxy accepts the upgrade and does not forward it: a dev server's proxy without `ws: true`, or an old load balancer. Or a filter on this network blocks it: an antivirus program, or a company's proxy.";
    fix: "Vite, webpack-dev-server, http-proxy-middleware: in the entry of `proxy` for {path}\n  ws: true\nExpress with http-proxy-middleware needs this as well:\n  server.on('upgrade', proxy.upgrade)\nOtherwise try from another network, and check that every proxy on the way supports WebSockets.";
WsAccept = "ws-accept", Websocket, Fail;
    title: "the 101 does not answer this handshake";
    see: "Chrome: Error during WebSocket handshake: Incorrect 'Sec-WebSocket-Accept' header value, 'Upgrade' header value is not 'WebSocket', Response must not include 'Sec-WebSocket-Protocol' header if not present in request\nNode: Invalid Sec-WebSocket-Accept header, Invalid Upgrade header, Server sent a subprotocol but none was requested";
    why: "The response belongs to another request, or its fields are not those of the handshake: a cache or proxy generates it, drops Sec-WebSocket-Key, or changes fields of the app's response.";
    fix: "Let the proxy forward Sec-WebSocket-Key and the 101 unchanged; it must not set Upgrade, Connection or Sec-WebSocket-Protocol in responses (nginx: `add_header`, Apache: `Header set`). Phusion Passenger in Apache does not support WebSockets: use Passenger in nginx or Standalone, or forward {path} to the app's own port.";
WsTwoServers = "ws-two-servers", Websocket, Fail;
    title: "two programs answer the WebSocket handshake";
    see: "Chrome: Invalid frame header, One or more reserved bits are on\nNode: Invalid WebSocket frame: RSV2 and RSV3 must be clear, invalid opcode\nsocket.io-client: websocket error, transport close; it stays on polling";
    why: "A second HTTP response follows the 101. Two WebSocket servers are attached to one HTTP server: Socket.IO twice, Socket.IO beside `ws` with another `path`, or a dev server's own (webpack, Vite). Each answers every upgrade, one of them with 400.";
    fix: "Create Socket.IO once. Give `ws` no `server`, and pass it only the upgrades of its own path:\n  const wss = new WebSocketServer({ noServer: true })\n  server.on('upgrade', (request, socket, head) => {\n    if (request.url.startsWith('/live')) wss.handleUpgrade(request, socket, head, ws => wss.emit('connection', ws, request))\n  })\nOr give each a port of its own. http-proxy-middleware: one proxy with `ws: true` for this path.";
WsCrash = "ws-crash", Websocket, Fail;
    title: "the server crashes when a client opens a WebSocket";
    see: "socket.io-client: transport close, xhr poll error, then ECONNREFUSED\nNode: server.handleUpgrade() was called more than once with the same socket";
    why: "The port was open, and nothing listens there after the WebSocket handshake: the app crashed on it. In Node this is often a second Socket.IO or WebSocket server on the same HTTP server.";
    fix: "Read the last lines of the app's log. If they say `handleUpgrade() was called more than once`, attach Socket.IO to the HTTP server once: `new Server(httpServer)` or `io.attach(httpServer)`, not both.";
WsSilent = "ws-silent", Websocket, Fail;
    title: "the WebSocket opens, but no frames arrive";
    see: "socket.io-client: timeout after 20 s, though the network tab shows 101";
    why: "The handshake arrives but frames do not: a proxy buffers, or stops forwarding after the 101.";
    fix: "Look for a second proxy (a CDN, a tunnel) that does not support WebSockets, and enable them there. nginx: proxy_buffering off does not help here.";
WsCloses = "ws-closes", Websocket, Fail;
    title: "the WebSocket opens and is closed at once";
    see: "socket.io-client: transport close right after connect; endless reconnecting\nWebSocket is closed before the connection is established";
    why: "The connection ends right after the handshake: the app fails while opening the session, or a proxy damages frames.";
    fix: "Check the log of the app at the time of this run; the evidence has the close code.";
WsEnds = "ws-ends", Websocket, Fail;
    title: "the WebSocket opens, and its connection is cut at once";
    see: "socket.io-client: websocket error, transport close; it stays on polling\nWebSocket is closed before the connection is established\nNext.js, Vite: hot reload works, but Socket.IO does not";
    why: "The connection ends after the 101 without a Close frame, which an app sends if it closes a session. A second `upgrade` listener of the same HTTP server closes sockets that are not its own, or the app crashes.";
    fix: "Next.js with a custom server: pass only its own path to its handler, or give Socket.IO a port of its own:\n  server.on('upgrade', (request, socket, head) => {\n    if (request.url.startsWith('/_next')) nextUpgrade(request, socket, head)\n  })\nOther listeners: `destroyUpgrade: false` of engine.io, `noServer: true` of ws. If the log of the app has an error at the time of this run, fix that.";
WsDamaged = "ws-damaged", Websocket, Fail;
    title: "frames of the WebSocket are damaged";
    see: "Chrome: One or more reserved bits are on, Invalid frame header\nNode: Invalid WebSocket frame: RSV2 and RSV3 must be clear\nsocket.io-client: websocket error, transport close; it stays on polling";
    why: "The bytes after the 101 are not WebSocket frames: a program on the way changes them. Antivirus programs that inspect web traffic do this, and proxies that compress or rewrite responses and ignore the 101.";
    fix: "Try from another machine or network. If it works there, exempt the host in the antivirus program or filter (ESET: Web and email, protocol filtering). If it fails everywhere, disable compression and rewriting for {path} in the proxy. `perMessageDeflate: false` in the server helps if a filter only fails on compressed frames.";
WsOneWay = "ws-one-way", Websocket, Fail;
    title: "what the client sends over a WebSocket does not arrive";
    see: "socket.io-client: it connects, and the app gets no events; probe error, then it stays on polling; ping timeout";
    why: "The open packet arrives, but neither the probe nor a Ping gets an answer: an antivirus program, a company's filter or a proxy that buffers requests does not forward the client's frames.";
    fix: "Try from another machine or network. If it works there, exempt the host in the antivirus program or filter. Otherwise look for a proxy that buffers requests, and for a second proxy that does not support WebSockets.";
WsProbe = "ws-probe", Websocket, Fail;
    title: "a polling client cannot upgrade to the WebSocket";
    see: "Clients stay on polling; probe error";
    why: "A new WebSocket works, but the upgrade of a polling session does not: it reaches another process than the polls.";
    fix: "Make sessions sticky (see eio-sid-unknown), or let clients begin with a WebSocket: transports: [\"websocket\"]";
WsCut = "ws-cut", Websocket, Fail;
    title: "the WebSocket is cut while it is idle";
    see: "socket.io-client: transport close, always after the same time";
    why: "A proxy closes idle connections: nginx after 60 s (proxy_read_timeout), Cloudflare after 100 s, many routers after 5 min.";
    fix: "nginx, in the location of {path}:\n  proxy_read_timeout 1h;\nHAProxy: timeout tunnel 1h. Apache: ProxyTimeout 3600. Or set Engine.IO's heartbeat below that time: pingInterval: 25000";
WsLifetime = "ws-lifetime", Websocket, Fail;
    title: "the WebSocket is cut although it is not idle";
    see: "socket.io-client: transport close, always after the same time";
    why: "Heartbeats arrived, so an idle timeout is not the cause: a load balancer closes every connection at a certain age (Google's backend service timeout is 30 s), or the app, its process manager or the proxy restarts.";
    fix: "Google Cloud: raise the timeout of the backend service:\n  gcloud compute backend-services update NAME --global --timeout=86400\nAWS API Gateway, Heroku and Vercel have limits that cannot be raised: let clients reconnect. nginx closes old connections after a reload if worker_shutdown_timeout is set. Otherwise compare the time with the app's log: does the app restart?";
WsHeartbeat = "ws-heartbeat", Websocket, Fail;
    title: "the heartbeat does not arrive";
    see: "socket.io-client: ping timeout";
    why: "No ping arrived within the interval that the server announced: the server hangs, or a proxy delays frames.";
    fix: "Check whether the app's event loop is blocked (a long computation), then look for a proxy that buffers.";
NsRefused = "ns-refused", Namespace, Fail;
    title: "the app refuses the namespace";
    see: "socket.io-client: connect_error with the app's own message; or connect, and then disconnect: io server disconnect";
    why: "A middleware of the app (`io.use`, `of(...).use`) refused what this client sent, or its `connection` handler disconnects the client.";
    fix: "Send what your client sends: --auth, --query, --cookie, --header. If a real client is refused as well, log `socket.handshake` in the middleware to see what arrives.";
NsUnknown = "ns-unknown", Namespace, Fail;
    title: "the app has no such namespace";
    see: "socket.io-client: connect_error: Invalid namespace";
    why: "The part of the client's URL after the host is the namespace, and the server has no `io.of(\"{namespace}\")`. Often a path was meant.";
    fix: "Server: io.of(\"{namespace}\").on(\"connection\", ...). If you meant a path, client:\n  io(\"{origin}\", { path: \"{namespace}/socket.io/\" })";
NsSilent = "ns-silent", Namespace, Fail;
    title: "the app does not answer for the namespace";
    see: "socket.io-client: neither connect nor connect_error; timeout";
    why: "A middleware never calls next(), or waits for a database.";
    fix: "Look for an `io.use` that can return without calling next().";
TimeUp = "time-up", Board, Fail;
    title: "the time limit was reached before everything was checked";
    see: "";
    why: "The run has a time limit, and something was slow.";
    fix: "Raise the limit:\n  sanedge doctor {url} --timeout 60s";
AppProxyProtocol = "app-proxy-protocol", Board, Fail;
    title: "the app expects the PROXY protocol";
    see: "Through the proxy: 502 Bad Gateway, or Empty reply from server";
    why: "The app's listener expects a header with the client's address before HTTP, and the proxy sends none.";
    fix: "Disable it in the app, or enable it in the proxy. sanedge.toml, in the site: send_proxy_protocol = 1 (or 2). HAProxy: send-proxy on the server line. nginx (stream): proxy_protocol on;";
AppHttp2 = "app-http2", Board, Fail;
    title: "the app supports HTTP/2 only";
    see: "Through the proxy: 502 Bad Gateway";
    why: "The app's port answers HTTP/2 (h2c) and not HTTP/1.1, which proxies use and WebSockets need.";
    fix: "Start an HTTP/1.1 server in the app. Node: http.createServer instead of http2.createServer.";
AppDown = "app-down", Board, Fail;
    title: "the app itself does not accept connections";
    see: "Through the proxy: 502 Bad Gateway";
    why: "Nothing listens at the upstream address: the app is not running, crashed, or listens elsewhere.";
    fix: "Start it, and see where it listens:\n  ss -ltnp\n  journalctl -u YOUR-APP -n 50";
AppTls = "app-tls", Board, Fail;
    title: "the app expects TLS, but the edge uses plain HTTP";
    see: "sanedge: upstream_tls, or upstream_closed\nnginx in front: 502 Bad Gateway; upstream prematurely closed connection\nGo: Client sent an HTTP request to an HTTPS server.";
    why: "The edge terminates TLS and uses plain HTTP to the app, but `upstream` names the app's TLS port.";
    fix: "See on which ports the app listens, and name its plain port as `upstream`:\n  sudo ss -tlnp\nIf it has none, disable TLS in the app (Node: `http.createServer` instead of `https.createServer`). nginx in front of it: `proxy_pass https://...`.";
PortOwner = "port-owner", Board, Fail;
    title: "another program has the port that sanedge needs";
    see: "sanedge serve: Address already in use";
    why: "Another program started first, for example the system's nginx, Apache or Caddy, or a container that publishes the port.";
    fix: "Stop it, and keep it from starting again:\n  {stop}";
KeyReadable = "key-readable", Board, Warn;
    title: "every user of this machine can read a private key";
    see: "";
    why: "The file mode allows other users to read it.";
    fix: "Set the mode of the file with chmod 600.";
UnitFailed = "unit-failed", Board, Fail;
    title: "the service sanedge failed";
    see: "systemctl status sanedge: failed";
    why: "The last lines of its log say why.";
    fix: "Fix that, then:\n  sudo systemctl restart sanedge\nMore of the log:\n  journalctl -u sanedge -n 50";
FdLimit = "fd-limit", Board, Warn;
    title: "the service's limit of open files is too low for its sessions";
    see: "accept: Too many open files";
    why: "Each session uses two descriptors.";
    fix: "In the unit:\n  LimitNOFILE=65536\nWithout systemd, in the shell that starts it:\n  ulimit -n 65536";
MemoryMax = "memory-max-ignored", Board, Warn;
    title: "MemoryMax has no effect on this kernel";
    see: "";
    why: "Raspberry Pi kernels start without the memory cgroup.";
    fix: "Add to the one line of /boot/firmware/cmdline.txt, and reboot:\n  cgroup_enable=memory";
ClockUnsynchronised = "clock-unsynchronised", Board, Warn;
    title: "the clock of this machine is not synchronised";
    see: "Certificate errors after a power cut.";
    why: "No time server could be reached.";
    fix: "sudo timedatectl set-ntp true";
PiThrottled = "pi-throttled", Board, Warn;
    title: "the processor is throttled";
    see: "";
    why: "Its power supply is too weak, or it is too hot.";
    fix: "Use the power supply that is made for the board, and improve its cooling.";
PiHot = "pi-hot", Board, Warn;
    title: "the board is hot";
    see: "";
    why: "The processor slows down above 80 °C.";
    fix: "Improve its cooling, for example with a heat sink.";
}

/// What to do about a code of the edge's own, also one that a later edge has.
pub fn edge_remedy(code: &str) -> &'static str {
    let problem = PROBLEMS.iter().find(|problem| problem.code() == code);
    problem.and_then(|problem| problem.remedy()).unwrap_or("check its log at the time of this run")
}

/// `text` with each `{word}` replaced by what `known` says; a word that it does not know stays.
pub fn fill(text: &str, known: impl Fn(&str) -> Option<String>) -> String {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('{') {
        filled.push_str(before);
        let word = behind.split_once('}').map(|(word, after)| (known(word), after));
        rest = match word {
            Some((Some(value), after)) => {
                filled.push_str(&value);
                after
            }
            _ => {
                filled.push('{');
                behind
            }
        };
    }
    filled.push_str(rest);
    filled
}

#[cfg(test)]
mod tests {
    use super::page::EXAMPLES;
    use super::*;

    #[test]
    fn every_code_is_kebab_case_and_stands_once() {
        let mut texts: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert!(texts.len() > 80);
        let plain =
            |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        assert!(texts.iter().all(|text| plain(text)));
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), Code::ALL.len());
    }

    #[test]
    fn codes_stand_in_the_order_of_the_way() {
        assert!(Code::ALL.is_sorted_by_key(|code| if *code == Code::TimeUp {
            Group::Board
        } else {
            order(*code)
        }));
    }

    /// `eio-polling-only` stands beside its sister.
    fn order(code: Code) -> Group {
        if code == Code::EioPollingOnly { Group::Polling } else { code.group() }
    }

    #[test]
    fn every_word_in_braces_has_an_example() {
        let mut seen = 0;
        for code in Code::ALL {
            let text = code.explanation();
            for part in [text.see, text.why, text.fix] {
                let is_word = |word: &str| {
                    !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
                };
                for word in
                    part.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(word, _)| word)
                {
                    seen += 1;
                    assert!(
                        !is_word(word) || EXAMPLES.iter().any(|(known, _)| *known == word),
                        "{word} of {code:?}"
                    );
                }
            }
        }
        assert!(seen > 20);
    }

    #[test]
    fn words_are_filled_and_others_stay() {
        let known = |word: &str| (word == "host").then(|| "a.test".to_owned());
        assert_eq!(fill("x {host} {\"code\":0} {y} {", known), "x a.test {\"code\":0} {y} {");
    }
}
