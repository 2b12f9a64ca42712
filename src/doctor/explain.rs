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
    /// It works, and somebody will be surprised.
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
    why: "Hosts, certificates and upstreams in the file do not fit together, so the bundle that is served is older than the file.";
    fix: "See each error with its remedy:\n  sanedge bundle {file}";
BundleRefused = "bundle-refused", Files, Fail;
    title: "the bundle cannot be served";
    see: "sanedge serve: the same sentence, and it does not start";
    why: "The file is damaged, of another version, or its owner and mode would show private keys to others.";
    fix: "Follow that message, or compile it again:\n  sanedge bundle sanedge.toml";
BundleUnreadable = "bundle-unreadable", Files, Warn;
    title: "this user may not read the bundle";
    see: "";
    why: "The bundle contains private keys and is correctly closed to other users. Only the checks that need it are left out.";
    fix: "Type the same with sudo to compare what is served with the bundle.";
BundleStale = "bundle-stale", Files, Warn;
    title: "a source file is newer than the bundle";
    see: "You renewed or edited, and clients still get the old certificate or route.";
    why: "The edge serves the bundle, not the files that it was made of.";
    fix: "Compile it again and load it:\n  sanedge bundle {file} && {reload}";
NameOffline = "name-offline", Name, Fail;
    title: "this machine is offline";
    see: "Every name fails: Temporary failure in name resolution, EAI_AGAIN, ERR_INTERNET_DISCONNECTED";
    why: "There is no route to any other network, so no name server can be asked. Nothing is known about the server.";
    fix: "Connect this machine to the network and try again. To test a server on this machine meanwhile:\n  sanedge doctor {url} --resolve {host}:127.0.0.1";
NameResolver = "name-resolver", Name, Fail;
    title: "the name server gives no answer";
    see: "Node: getaddrinfo EAI_AGAIN {host}\ncurl: (6) Could not resolve host: {host}\nChrome: ERR_NAME_NOT_RESOLVED";
    why: "The resolver that this machine asks is down, unreachable, or failed on this name (SERVFAIL). Whether the name exists is unknown.";
    fix: "Look which server is asked (/etc/resolv.conf), and ask another one:\n  nslookup {host} 9.9.9.9\nIf only this name fails, its zone is broken (DNSSEC, or its provider is down): look there.";
NameUnknown = "name-unknown", Name, Fail;
    title: "the name does not exist";
    see: "Node: getaddrinfo ENOTFOUND {host}\ncurl: (6) Could not resolve host: {host}\nChrome: ERR_NAME_NOT_RESOLVED, DNS_PROBE_FINISHED_NXDOMAIN\nFirefox: Server Not Found";
    why: "DNS has no address under this name: the record was never made, is spelled otherwise, or is not spread yet.";
    fix: "Make an A record for `{host}` that points to your public address at your DNS provider; a new record can take minutes, a name that was asked for before it existed an hour.\nTo test everything else before the record is there:\n  sanedge doctor {url} --resolve {host}:ADDRESS";
NameUnusable = "name-unusable", Name, Fail;
    title: "the name leads to an address that no server has";
    see: "Node: connect EHOSTUNREACH, ENETUNREACH or ECONNREFUSED";
    why: "0.0.0.0, a multicast or a documentation address in DNS: a placeholder, or a blocker (Pi-hole and the like answer 0.0.0.0 for what they block).";
    fix: "Put the address of the server into the record. If the record is right, an ad blocker on the way answers instead: allow the name there.";
NameLoopback = "name-loopback", Name, Warn;
    title: "the name leads to this machine itself";
    see: "It works on the board and nowhere else.";
    why: "A line in /etc/hosts, or an A record of 127.0.0.1: every other machine asks itself.";
    fix: "Take the line out of /etc/hosts, or change the record. What is checked below is what this machine sees.";
NamePrivate = "name-private", Name, Warn;
    title: "the name leads to a private address";
    see: "It works at home and not from the phone network.";
    why: "An address of a home network (RFC 1918) cannot be reached from the internet. Right if your router's own DNS answers so at home, wrong if it is the public record.";
    fix: "Ask a public name server; it should give your router's public address:\n  nslookup {host} 9.9.9.9";
NameCgnat = "name-cgnat", Name, Warn;
    title: "the name leads to a carrier's shared address";
    see: "It works nowhere but in your provider's network, or in your VPN.";
    why: "100.64.0.0/10 is shared by a provider among customers (CG-NAT, RFC 6598): it cannot be reached from outside. Tailscale uses the same range.";
    fix: "Ask your provider for a public address (many give one on request), use IPv6, or a tunnel.";
NameIpv6Dead = "name-ipv6-dead", Name, Warn;
    title: "the IPv6 address does not answer, the IPv4 address does";
    see: "Some clients connect at once, others only after seconds or never.";
    why: "An AAAA record is there, and nothing listens behind it, or the router filters IPv6. Clients that try IPv6 first wait for its time-out; older Node (before 20) never tries the other address.";
    fix: "Open the port for IPv6 in the router and let the proxy listen on `[::]:443`, or take the AAAA record away.";
NameAddressDead = "name-address-dead", Name, Warn;
    title: "one of the name's addresses does not answer";
    see: "Some clients connect at once, others only after seconds, or not at the first try.";
    why: "The name has several addresses and nothing listens at one of them: a record of a machine that is gone, or one of several servers is down. Clients that take it first wait for its time-out.";
    fix: "Take the address out of the name at your DNS provider, or start the server there:\n  nslookup {host} 9.9.9.9";
NameHidden = "name-hidden", Name, Fail;
    title: "a public name server knows the name, this network's does not";
    see: "Works on the phone network, not at home: Node: getaddrinfo ENOTFOUND {host}\nChrome: DNS_PROBE_FINISHED_NXDOMAIN";
    why: "Routers and ad blockers hide names that lead to a private address (protection against DNS rebinding), keep an old answer that the name does not exist, or block it.";
    fix: "Private address in DNS: allow the name in the router (FRITZ!Box: Home Network, Network, DNS rebind protection; OpenWrt and dnsmasq: rebind_domain_ok; Pi-hole, AdGuard Home: allow it), or let the router's DNS answer `{host}` itself.\nPublic address: wait an hour, or restart the router; see that no blocker lists the name.\n  nslookup {host}\n  nslookup {host} 9.9.9.9";
NameAddressesDiffer = "name-addresses-differ", Name, Fail;
    title: "the addresses of the name lead to different servers";
    see: "Some clients connect and others do not; the same client now and then: xhr poll error, ERR_CERT_COMMON_NAME_INVALID";
    why: "The name has several addresses (A and AAAA), and not all of them lead to the same server: a record of a machine that was there before, of the router itself, or of a hosting page.";
    fix: "Take the wrong record away at your DNS provider, or put the right address into it:\n  nslookup {host} 9.9.9.9\nTo look at one of them alone:\n  sanedge doctor {url} --resolve {host}:ADDRESS";
PortRefused = "port-refused", Port, Fail;
    title: "nothing listens on the port";
    see: "Node: connect ECONNREFUSED\ncurl: (7) Failed to connect to {host} port {port}: Connection refused\nChrome: ERR_CONNECTION_REFUSED";
    why: "The machine is there and says that the port is closed: the proxy is not running, listens on another port or address, or the router sends the port to a machine where nothing listens.";
    fix: "On the machine of the server, see whether it runs (sanedge, nginx, haproxy, caddy), and what listens:\n  systemctl status sanedge\n  journalctl -u sanedge -n 20\n  ss -ltnp 'sport = :{port}'\nIf it listens, look where the router sends port {port}.";
PortFiltered = "port-filtered", Port, Fail;
    title: "the port does not answer";
    see: "Node: connect ETIMEDOUT\ncurl: (28) Failed to connect to {host} port {port}: Connection timed out\nChrome: ERR_CONNECTION_TIMED_OUT";
    why: "Packets vanish: the router does not forward the port, a firewall drops them, the provider blocks it, the address is not (or no longer) yours, or the machine is off or too busy to accept.";
    fix: "In the router, forward TCP {port} to the board. On the board, let the port in:\n  sudo ufw allow {port}/tcp\nCompare the address with your public one; if it changed, update the record (dynamic DNS).";
PortUnreachable = "port-unreachable", Port, Fail;
    title: "there is no way to the address";
    see: "Node: connect EHOSTUNREACH or ENETUNREACH\ncurl: (7) No route to host\nChrome: ERR_ADDRESS_UNREACHABLE";
    why: "A router on the way, or this machine, says that the address cannot be reached: the board is off, has another address now, or this machine has no IPv6.";
    fix: "See that the board is on and which address it has (`ip address` there), and put that into the record or the port forwarding.";
PortHairpin = "port-hairpin", Port, Fail;
    title: "the server is on this network, and its public name does not lead to it from here";
    see: "From outside it may work; at home clients wait: ETIMEDOUT or ECONNREFUSED";
    why: "The proxy answers on this machine with the right certificate, yet not by the address in DNS. Either the router does not forward port {port}, or it forwards only what comes from outside (no NAT loopback, hairpin).";
    fix: "Open {url} on a phone off Wi-Fi. If it works there, only home lacks the way back: switch on NAT loopback in the router, or let its DNS answer `{host}` with the board's own address. If it fails there as well, forward TCP {port} to the board.";
PortPlainHttp = "port-plain-http", Port, Fail;
    title: "the port speaks plain HTTP, not TLS";
    see: "Node: SSL routines:ssl3_get_record:wrong version number, EPROTO\ncurl: (35) wrong version number\nChrome: ERR_SSL_PROTOCOL_ERROR\nPython: ssl.SSLError: [SSL: WRONG_VERSION_NUMBER]";
    why: "A web server without TLS answers on port {port}: the app itself where the proxy should be, a `listen` without `ssl` in nginx, or the router sends {port} to port 80 or to the app.";
    fix: "Send port {port} to the proxy and not to the app. In nginx:\n  listen 443 ssl;";
PortNotTls = "port-not-tls", Port, Fail;
    title: "the port speaks another protocol, not TLS";
    see: "Node: EPROTO, wrong version number\nChrome: ERR_SSL_PROTOCOL_ERROR";
    why: "Another kind of server answers on port {port}. SSH on 443 is a common one, as is the router's own remote administration.";
    fix: "Move the other server to another port, or the forwarding in the router to the proxy:\n  ss -ltnp 'sport = :{port}'";
PortSilent = "port-silent", Port, Fail;
    title: "the port accepts connections and says nothing";
    see: "Node: socket hang up after a long wait, or connect timeout\ncurl: (28) SSL connection timeout\nChrome: ERR_TIMED_OUT";
    why: "The connection opens and the TLS ClientHello gets no reply: a tunnel or port forwarding whose far end is gone, a process that hangs, or a server that waits for something else first.";
    fix: "On the board see which process has the port, look into its log, and restart it:\n  ss -ltnp 'sport = :{port}'\n  journalctl -u sanedge -n 20";
PortCloses = "port-closes", Port, Fail;
    title: "the port accepts connections and closes them without a word";
    see: "Node: Client network socket disconnected before secure TLS connection was established, ECONNRESET\ncurl: (35) OpenSSL SSL_connect: SSL_ERROR_SYSCALL, or unexpected eof\nChrome: ERR_CONNECTION_CLOSED, ERR_CONNECTION_RESET";
    why: "The far end hangs up before it says anything: a forwarding without a server behind (a port of a container whose app listens on 127.0.0.1 only, or on another port), a listener that wants the PROXY protocol first, an edge at its limit of sessions, or a filter that blocks the server name in the ClientHello.";
    fix: "A published port of a container: let the app listen on 0.0.0.0 there, and compare the port that is published with the one that it listens on.\n  docker ps\nElse look into the log of the proxy at this second. sanedge counts and logs the connections that it refuses (full, address-sessions, proxy-protocol):\n  systemctl status sanedge\n  journalctl -u sanedge -n 20\n  sanedge status\nnginx: take `proxy_protocol` out of `listen`; HAProxy: take `accept-proxy` out of `bind`, unless a load balancer stands in front.";
PortMtu = "port-mtu", Port, Fail;
    title: "large packets vanish on the way";
    see: "The connection opens and TLS hangs: Node: socket hang up after a long wait\ncurl: (28) SSL connection timeout\nChrome: ERR_TIMED_OUT; from another network it works";
    why: "Small packets pass and large ones do not, and the message that they are too large (ICMP) is dropped as well: a VPN, tunnel or PPPoE line with a smaller MTU.";
    fix: "Clamp the MSS on the router or tunnel that has the smaller MTU:\n  nft add rule inet filter forward tcp flags syn tcp option maxseg size set rt mtu\n  iptables -t mangle -A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu\nOr lower the MTU of the server's own interface (WireGuard, PPPoE: 1420, 1492), and let ICMP pass.";
PortProxyProtocol = "port-proxy-protocol", Port, Fail;
    title: "the port wants the PROXY protocol first";
    see: "Node: Client network socket disconnected before secure TLS connection was established, ECONNRESET\nChrome: ERR_CONNECTION_CLOSED, ERR_SSL_PROTOCOL_ERROR";
    why: "The listener expects a header that only a load balancer sends, and closes every other connection. With that header TLS answers.";
    fix: "nginx: take `proxy_protocol` out of `listen`; HAProxy: take `accept-proxy` out of `bind`; Traefik: `proxyProtocol` out of the entry point; sanedge: `proxy_protocol` out of the listener. Or let the load balancer in front send it.";
Port80Refused = "port-80-closed", Port, Warn;
    title: "nothing answers on port 80";
    see: "Typing the name without https:// gives an error; certbot --standalone or http-01 fails.";
    why: "Redirects to https and the proof for a certificate (ACME http-01) need a plain port: 80 for clients, here looked for at {http_port}.";
    fix: "Let the proxy listen there, and forward TCP 80 to it as well. sanedge.toml:\n  [listen]\n  http = [\"[::]:{http_port}\"]\nIf it should listen there already:\n  systemctl status sanedge\n  journalctl -u sanedge -n 20";
TlsVersion = "tls-version", Tls, Fail;
    title: "the server speaks only TLS versions that are switched off everywhere";
    see: "Node: ERR_SSL_UNSUPPORTED_PROTOCOL, tlsv1 alert protocol version\ncurl: (35) unsupported protocol\nChrome: ERR_SSL_VERSION_OR_CIPHER_MISMATCH\nFirefox: SSL_ERROR_UNSUPPORTED_VERSION";
    why: "It offers no TLS 1.2 or 1.3. Clients dropped TLS 1.0 and 1.1 in 2020.";
    fix: "nginx:\n  ssl_protocols TLSv1.2 TLSv1.3;\nAn old OpenSSL under an old server: update the system.";
TlsNoCommonSuite = "tls-no-common-suite", Tls, Fail;
    title: "server and clients have no cipher suite in common";
    see: "Node: EPROTO, ssl3_read_bytes:sslv3 alert handshake failure\ncurl: (35) sslv3 alert handshake failure\nChrome: ERR_SSL_VERSION_OR_CIPHER_MISMATCH\nFirefox: SSL_ERROR_NO_CYPHER_OVERLAP";
    why: "The server refuses every suite with forward secrecy (ECDHE with AES-GCM or ChaCha20): a hand-made list of ciphers, or a certificate whose kind of key fits none of them.";
    fix: "Take the list of ciphers out of the server's configuration; its default is right. nginx: remove `ssl_ciphers`; HAProxy: remove `ciphers`.";
TlsUnknownName = "tls-unknown-name", Tls, Fail;
    title: "the server does not serve this name";
    see: "Node: EPROTO, tlsv1 unrecognized name\ncurl: (35) tlsv1 unrecognized name\nChrome: ERR_SSL_UNRECOGNIZED_NAME_ALERT\nFirefox: SSL_ERROR_UNRECOGNIZED_NAME_ALERT";
    why: "The proxy has no certificate and no site for `{host}`, and says so with an alert in place of a wrong certificate.";
    fix: "Add the host to a [[site]] of sanedge.toml (its certificate must cover it), then:\n  sanedge bundle {file} && {reload}\nHAProxy with strict-sni: add a certificate with this name.";
EdgeCertificatePending = "edge-certificate-pending", Tls, Fail;
    title: "sanedge waits for the first certificate of this name";
    see: "Node: EPROTO, tlsv1 unrecognized name\nChrome: ERR_SSL_UNRECOGNIZED_NAME_ALERT\nSanedge-Error: certificate_pending, on port 80";
    why: "A site of sanedge.toml has this name, and `sanedge renew` has not obtained its certificate yet: it was not run, the CA could not ask on port 80, or it waits after a failure.";
    fix: "Obtain it on the board, or read why that fails:\n  sudo sanedge renew {acme}\nThen run it from a timer (docs/acme.md).";
TlsClientCertificate = "tls-client-certificate", Tls, Fail;
    title: "the server wants a certificate from the client";
    see: "Node: tlsv13 alert certificate required\nnginx: 400 No required SSL certificate was sent\nChrome: ERR_BAD_SSL_CLIENT_AUTH_CERT";
    why: "Mutual TLS is switched on; browsers and Socket.IO clients have no certificate of their own.";
    fix: "Switch it off for this host. nginx: `ssl_verify_client off;` HAProxy: take `verify required` out of `bind`. Cloudflare: authenticated origin pulls belong only where nothing but Cloudflare connects.";
TlsNoHttp1 = "tls-no-http1", Tls, Fail;
    title: "the server does not speak HTTP/1.1";
    see: "Node: tlsv1 alert no application protocol\nwebsocket error, while pages work in a browser";
    why: "It offers HTTP/2 only (ALPN). A WebSocket is opened with HTTP/1.1 by every common client.";
    fix: "Offer both. Node: http2.createSecureServer({ allowHTTP1: true }). HAProxy: `alpn h2,http/1.1`.";
TlsHandshake = "tls-handshake", Tls, Fail;
    title: "the TLS handshake fails";
    see: "Node: EPROTO\nChrome: ERR_SSL_PROTOCOL_ERROR";
    why: "The server broke off, or answered against the protocol.";
    fix: "Look into the log of the proxy at this second; the alert or error is given above.";
TlsLargeHello = "tls-large-hello", Tls, Fail;
    title: "the TLS hello of today's browsers does not get through";
    see: "Chrome: ERR_CONNECTION_RESET, ERR_TIMED_OUT\nFirefox: PR_END_OF_FILE_ERROR\nNode and curl of before 2025: no error";
    why: "Browsers' hello has 1.8 KB since 2024 (post-quantum key exchange) and comes in two packets. A firewall, a balancer or an old server that reads only the first drops it.";
    fix: "Update what stands in front of the server (a firewall that inspects TLS, a router with SNI rules, an old balancer). To test it in Chrome: chrome://flags, TLS post-quantum key agreement.";
TlsInspection = "tls-inspection", Tls, Fail;
    title: "a program on this network or machine reads TLS and puts a certificate of its own in";
    see: "Works at home and not at work or school, or not on this computer: Node: self-signed certificate in certificate chain (SELF_SIGNED_CERT_IN_CHAIN), unable to get local issuer certificate\nPython: certificate verify failed: self-signed certificate in certificate chain";
    why: "A firewall or an antivirus program replaces the certificate of every site. Browsers on managed machines trust it, Node, Python and phones do not. The server is not at fault.";
    fix: "Try another network, or switch the inspection of HTTPS off for `{host}` in the program. Where it must stay, install its root for the client as well (Node: NODE_EXTRA_CA_CERTS=root.pem).";
TlsProxyDefault = "tls-proxy-default", Tls, Fail;
    title: "the proxy sends its built-in certificate: it has none for this name";
    see: "Node: self-signed certificate (DEPTH_ZERO_SELF_SIGNED_CERT), unable to verify the first certificate\nChrome: ERR_CERT_AUTHORITY_INVALID";
    why: "The proxy runs and has no certificate for `{host}` yet: no router, Ingress or site has the name, or its ACME order failed.";
    fix: "Traefik: a router with Host(`{host}`) and `tls.certresolver`; see its log for `acme`. ingress-nginx: `spec.tls` with `{host}` and a secret that exists. Caddy: write the name without `tls internal`. nginx on Debian: in place of ssl-cert-snakeoil the certificate of the name. Plesk, cPanel: a certificate for the domain.";
TlsOriginCa = "tls-origin-ca", Tls, Fail;
    title: "a certificate for Cloudflare's eyes only is seen directly";
    see: "Node: unable to verify the first certificate, unable to get local issuer certificate\nChrome: ERR_CERT_AUTHORITY_INVALID";
    why: "A Cloudflare Origin certificate is trusted by Cloudflare and by no client. The name leads straight to the server: its record is not proxied (a grey cloud), or this network resolves it to the private address.";
    fix: "Switch the record to proxied (orange cloud), or install a certificate that clients trust (Let's Encrypt) on the server; both can be there at once.";
TlsOtherServer = "tls-other-server", Tls, Fail;
    title: "another server's certificate answers";
    see: "Node: Hostname/IP does not match certificate's altnames: Host: {host}. is not in the cert's altnames: {altnames}\nChrome: ERR_CERT_COMMON_NAME_INVALID, ERR_CERT_AUTHORITY_INVALID\nFirefox: SSL_ERROR_BAD_CERT_DOMAIN";
    why: "The certificate is for names that have nothing to do with `{host}`: the connection ends at another machine, such as the router's own page (from inside the home network: no NAT loopback), a NAS that has port {port}, or a hosting page that the record still leads to.";
    fix: "See which machine answers: open {url} on a phone off Wi-Fi. If it works there, only home lacks the way: switch on NAT loopback in the router, or let its DNS answer `{host}` with the board's own address. If not: forward TCP {port} to the board, move the router's or NAS's own page to another port, and compare the A record with your public address.";
TlsName = "tls-name", Tls, Fail;
    title: "the certificate does not cover the name";
    see: "Node: Hostname/IP does not match certificate's altnames: Host: {host}. is not in the cert's altnames: {altnames}\nsocket.io-client: websocket error, or xhr poll error\nChrome: ERR_CERT_COMMON_NAME_INVALID\nFirefox: SSL_ERROR_BAD_CERT_DOMAIN\ncurl: (60) SSL: no alternative certificate subject name matches target host name '{host}'\nPython: certificate verify failed: Hostname mismatch, certificate is not valid for '{host}'\nAndroid: Hostname {host} not verified";
    why: "Clients look for `{host}` among the certificate's subjectAltNames, and it is not there. The certificate was issued before the name was put in front of the server, or the server has no site for the name and sends its default certificate.";
    fix: "Issue the certificate again with all of its names, then let the server load it:\n  {issue}\nIf a certificate with this name exists already, give it to this host's site (Nginx Proxy Manager: edit the Proxy Host, tab SSL).";
TlsNoSan = "tls-no-san", Tls, Fail;
    title: "the certificate has no subjectAltName";
    see: "Chrome: ERR_CERT_COMMON_NAME_INVALID\nNode: Hostname/IP does not match certificate's altnames, though the CN is right\nGo: certificate relies on legacy Common Name field, use SANs instead";
    why: "The name stands only in the CN, which clients stopped reading in 2017 (RFC 9525).";
    fix: "Issue it again with the name in subjectAltName:\n  mkcert {host}\nor with openssl: -addext subjectAltName=DNS:{host}";
TlsExpired = "tls-expired", Tls, Fail;
    title: "the certificate has expired";
    see: "Node: certificate has expired (CERT_HAS_EXPIRED)\nChrome: ERR_CERT_DATE_INVALID\nFirefox: SEC_ERROR_EXPIRED_CERTIFICATE\ncurl: (60) SSL certificate problem: certificate has expired\nPython: certificate verify failed: certificate has expired\nAndroid: CertificateExpiredException, Chain validation failed";
    why: "It was not renewed, or it was renewed and the server still holds the old one in memory.";
    fix: "See whether there is a newer one on the disk, and renew if not:\n  certbot certificates\n  certbot renew\nThen have the server load it (nginx -s reload), or:\n  sanedge bundle {file} && {reload}";
TlsNotYetValid = "tls-not-yet-valid", Tls, Fail;
    title: "the certificate is not valid yet";
    see: "Node: certificate is not yet valid (CERT_NOT_YET_VALID)\nChrome: ERR_CERT_DATE_INVALID\ncurl: (60) SSL certificate problem: certificate is not yet valid";
    why: "Its begin lies in the future: the clock of the machine that issued it was ahead.";
    fix: "Set that machine's clock right and issue the certificate again.";
ClockWrong = "clock-wrong", Tls, Fail;
    title: "the clock of this machine is wrong";
    see: "Every site shows a certificate error on this machine only: CERT_NOT_YET_VALID, ERR_CERT_DATE_INVALID, NET::ERR_CERT_AUTHORITY_INVALID";
    why: "By this machine's clock the certificate is not valid; by the server's clock it is. A Raspberry Pi has no battery for its clock and starts in the past until it has reached a time server.";
    fix: "Set the clock, and see that it is kept:\n  timedatectl set-ntp true\n  timedatectl";
ClockSkew = "clock-skew", Tls, Warn;
    title: "the clocks of this machine and of the server differ";
    see: "Certificate errors that come and go around renewals; log lines that do not match.";
    why: "One of the two clocks is not synchronised.";
    fix: "On both machines:\n  timedatectl";
TlsIntermediateExpired = "tls-intermediate-expired", Tls, Fail;
    title: "a certificate between the server's and the root has expired";
    see: "Node: certificate has expired, though the host's own is new\nopenssl: verify error:num=10:certificate has expired at depth 1";
    why: "The server sends an old intermediate together with a new certificate.";
    fix: "Take the chain that came with the renewal: with certbot that is fullchain.pem, not an old chain.pem.";
TlsMissingIntermediate = "tls-missing-intermediate", Tls, Fail;
    title: "the intermediate certificate is missing";
    see: "Node: unable to verify the first certificate (UNABLE_TO_VERIFY_LEAF_SIGNATURE)\ncurl: (60) SSL certificate problem: unable to get local issuer certificate\nPython: certificate verify failed: unable to get local issuer certificate\nAndroid: Trust anchor for certification path not found\nChrome, Firefox: often no error at all: they fetch or remember it";
    why: "The server sends its own certificate alone. Browsers often fill the gap by themselves, Node, phones and programs do not.";
    fix: "Serve fullchain.pem in place of cert.pem. nginx:\n  ssl_certificate /etc/letsencrypt/live/{host}/fullchain.pem;\nsanedge.toml: chain = \".../fullchain.pem\"";
TlsSelfSigned = "tls-self-signed", Tls, Fail;
    title: "the certificate is self-signed";
    see: "Node: self-signed certificate (DEPTH_ZERO_SELF_SIGNED_CERT)\nChrome: ERR_CERT_AUTHORITY_INVALID\nFirefox: MOZILLA_PKIX_ERROR_SELF_SIGNED_CERT\ncurl: (60) SSL certificate problem: self-signed certificate\nAndroid: Trust anchor for certification path not found";
    why: "No client trusts a certificate that only vouches for itself; a browser refuses its WebSockets without even asking.";
    fix: "Get one that clients trust, free of charge where the name is public:\n  {issue}\nFor a name that exists only at home, use a CA of your own (mkcert {host}) and install its root on every client.";
TlsUnknownCa = "tls-unknown-ca", Tls, Fail;
    title: "clients do not know the authority that issued the certificate";
    see: "Node: self-signed certificate in certificate chain, or unable to get local issuer certificate\nChrome: ERR_CERT_AUTHORITY_INVALID\nFirefox: SEC_ERROR_UNKNOWN_ISSUER\ncurl: (60) SSL certificate problem: unable to get local issuer certificate\nAndroid: Trust anchor for certification path not found";
    why: "It comes from a private CA, or an intermediate is missing at the end of the chain.";
    fix: "If the CA is yours: install its root on every client (Node: NODE_EXTRA_CA_CERTS=ca.pem), and tell doctor so:\n  sanedge doctor {url} --ca ca.pem\nOtherwise get a certificate that clients trust:\n  {issue}";
TlsChainSignature = "tls-chain-signature", Tls, Fail;
    title: "the certificates that are sent do not belong together";
    see: "Node: certificate signature failure, or unable to verify the first certificate\nChrome: ERR_CERT_AUTHORITY_INVALID\ncurl: (60) SSL certificate problem: certificate signature failure";
    why: "An intermediate has the right name and another key: the CA has several, and the chain is of another year.";
    fix: "Take the chain that came with this certificate (with certbot: fullchain.pem of the same renewal).";
TlsWeakKey = "tls-weak-key", Tls, Fail;
    title: "the RSA key is too short";
    see: "Node: EE certificate key too weak (EE_KEY_TOO_SMALL)\nChrome: ERR_CERT_WEAK_KEY\ncurl: (60) EE certificate key too weak";
    why: "Fewer than 2048 bits can be broken; clients refuse it.";
    fix: "Issue it again with an ECDSA key:\n  certbot renew --key-type ecdsa --force-renewal";
TlsWeakSignature = "tls-weak-signature", Tls, Fail;
    title: "the certificate is signed with SHA-1 or MD5";
    see: "Chrome: ERR_CERT_WEAK_SIGNATURE_ALGORITHM\nNode: CA signature digest algorithm too weak (CA_MD_TOO_WEAK)\nFirefox: SEC_ERROR_CERT_SIGNATURE_ALGORITHM_DISABLED";
    why: "Such signatures can be forged; no client accepts them.";
    fix: "Issue it again; a CA of your own: -sha256.";
TlsNoServerAuth = "tls-no-server-auth", Tls, Fail;
    title: "the certificate is not for servers";
    see: "Node: unsupported certificate purpose (INVALID_PURPOSE)\nChrome: ERR_CERT_INVALID\ncurl: (60) unsupported certificate purpose\niOS: The certificate is not standards compliant";
    why: "It has an extendedKeyUsage, and serverAuth is not in it: it is a client's certificate, or the CA's template is wrong.";
    fix: "Issue it again with extendedKeyUsage = serverAuth.";
TlsKeyUsage = "tls-key-usage", Tls, Fail;
    title: "the certificate's key may not sign handshakes";
    see: "Chrome: ERR_SSL_KEY_USAGE_INCOMPATIBLE\nFirefox: SEC_ERROR_INADEQUATE_KEY_USAGE";
    why: "Its keyUsage lacks digitalSignature, which every suite of today needs.";
    fix: "Issue it again with keyUsage = digitalSignature.";
TlsCaCertificate = "tls-ca-certificate", Tls, Fail;
    title: "the server presents a CA's certificate as its own";
    see: "Firefox: MOZILLA_PKIX_ERROR_CA_CERT_USED_AS_END_ENTITY\nrustls clients: CaUsedAsEndEntity";
    why: "basicConstraints says CA:TRUE: `openssl req -x509` does so by default, or the CA's own certificate was installed.";
    fix: "Make it anew: openssl with -addext basicConstraints=critical,CA:FALSE, or\n  mkcert {host}";
TlsNameConstraints = "tls-name-constraints", Tls, Fail;
    title: "the CA may not issue for this name";
    see: "Node: permitted subtree violation\nChrome: ERR_CERT_NAME_CONSTRAINT_VIOLATION, ERR_CERT_INVALID";
    why: "A CA in the chain is limited to other domains (name constraints, RFC 5280 §4.2.1.10).";
    fix: "Issue the certificate by another CA, or with names that this one permits.";
TlsChainRefused = "tls-chain-refused", Tls, Fail;
    title: "clients refuse the chain";
    see: "Node: invalid CA certificate, or path length constraint exceeded\nChrome: ERR_CERT_INVALID, ERR_CERT_AUTHORITY_INVALID";
    why: "It does not pass the path check (RFC 5280 §6.1): a certificate that is no CA's signed another, or a CA stands below one that permits none.";
    fix: "Issue the certificate by a proper CA.";
TlsMalformed = "tls-malformed-certificate", Tls, Fail;
    title: "the certificate cannot be read";
    see: "Chrome: ERR_CERT_INVALID, ERR_SSL_SERVER_CERT_BAD_FORMAT";
    why: "It is no X.509 version 3 certificate, or a damaged one.";
    fix: "Issue it again.";
TlsEd25519 = "tls-ed25519", Tls, Fail;
    title: "the certificate has an Ed25519 key, which browsers refuse";
    see: "Chrome: ERR_SSL_VERSION_OR_CIPHER_MISMATCH\nFirefox: SSL_ERROR_NO_CYPHER_OVERLAP\nNode and curl: no error";
    why: "Node and OpenSSL take Ed25519, no browser does.";
    fix: "Issue it again with ECDSA P-256: certbot --key-type ecdsa, or\n  openssl ecparam -name prime256v1 -genkey -noout -out key.pem";
TlsNotTheBundle = "tls-not-the-bundle", Tls, Fail;
    title: "another certificate is served than the file has that was compared";
    see: "You renewed, and clients still see the old certificate.";
    why: "The certificate was renewed or the bundle written, and not taken into use, or another server answers on this port (an old nginx, the router, a machine that had the address before).";
    fix: "Have the running edge open it:\n  {load}\nIf that says that it is in use, something else answers: ss -ltnp 'sport = :{port}'";
TlsCrossSign = "tls-cross-sign-expired", Tls, Warn;
    title: "an expired certificate is sent along that clients of today do not need";
    see: "Old clients only (OpenSSL 1.0.2, Android before 7.1): certificate has expired";
    why: "The chain reaches a root that clients have without the expired certificate at its end (a cross-sign of an older root). OpenSSL of before 1.1.0 insists on it.";
    fix: "Renew, and serve the fullchain.pem that comes with it; with certbot `--preferred-chain` chooses the chain without it.";
TlsChainOrder = "tls-chain-order", Tls, Warn;
    title: "the certificates are sent in the wrong order";
    see: "Most clients sort them; some phones and devices: handshake failure, unknown CA";
    why: "The file was put together the wrong way round.";
    fix: "The host's own first, then each that signed the one before:\n  cat cert.pem chain.pem > fullchain.pem";
TlsChainExtra = "tls-chain-extra", Tls, Warn;
    title: "a certificate is sent that clients do not need";
    see: "No error; handshakes are larger than they must be.";
    why: "The root, a certificate twice, or one of another chain is in the file.";
    fix: "Take it out of the file.";
TlsExpiresSoon = "tls-expires-soon", Tls, Warn;
    title: "the certificate ends soon";
    see: "Nothing yet.";
    why: "Clients renew at two thirds of the lifetime, at half of it below ten days. That was long ago: a renewal has failed or was not loaded.";
    fix: "Find out why, then have the server load the new one:\n  certbot renew --dry-run";
TlsLifetime = "tls-lifetime", Tls, Warn;
    title: "Safari, iPhones and other clients refuse a certificate that is valid for so long";
    see: "Safari: This Connection Is Not Private\niOS: NSURLErrorDomain -1202\nChrome, of a public CA: ERR_CERT_VALIDITY_TOO_LONG\nNode, curl and Firefox: no error";
    why: "Apple's clients take at most 825 days, whatever the CA. Of a public CA Apple and Chrome take 398 days, 200 if it was issued from 2026-03-15 on, 100 from 2027-03-15, 47 from 2029-03-15.";
    fix: "Issue it again for less: mkcert does by itself, openssl with -days 825.";
TlsMustStaple = "tls-must-staple", Tls, Warn;
    title: "the certificate demands OCSP stapling, which the server does not do: Firefox and GnuTLS refuse it";
    see: "Firefox: MOZILLA_PKIX_ERROR_REQUIRED_TLS_FEATURE_MISSING\nGnuTLS, wget: The certificate requires the server to include an OCSP status in its response, but the OCSP status is missing\nChrome, Node and curl with OpenSSL: no error";
    why: "It was issued with must-staple (tlsfeature = status_request, RFC 7633). Public CAs have stopped OCSP, so no server can comply any more.";
    fix: "Issue it again without: leave certbot's --must-staple out and delete must_staple = True from /etc/letsencrypt/renewal/NAME.conf.\n  certbot renew --force-renewal";
TlsNoTimestamps = "tls-no-timestamps", Tls, Warn;
    title: "the certificate has no proof of Certificate Transparency: Chrome and Safari refuse it";
    see: "Chrome: ERR_CERTIFICATE_TRANSPARENCY_REQUIRED\nSafari: This Connection Is Not Private\nNode and curl: no error";
    why: "Chrome and Apple's clients want signed certificate timestamps (SCT, RFC 6962) from every public CA. They stand in the certificate; hardly any server sends them beside it.";
    fix: "Get a certificate of a CA that puts them in, as Let's Encrypt does. A CA that asks whether to log the certificate has to be told yes.";
TlsSerialNumber = "tls-serial-number", Tls, Warn;
    title: "the certificate's serial number is one that some clients refuse";
    see: "Go: x509: negative serial number\nGnuTLS with strict checks: Error in the certificate\nBrowsers, Node and curl: no error";
    why: "RFC 5280 §4.1.2.2 demands a positive number of at most 20 octets.";
    fix: "Issue it again; openssl makes a good number by itself without -set_serial.";
TlsNoPurpose = "tls-no-purpose", Tls, Warn;
    title: "iOS and macOS refuse a certificate that does not say that it is for servers";
    see: "iOS, macOS: The certificate is not standards compliant, errSSLBadCert, -9808\nNode, Python, curl, Chrome on other systems: no error";
    why: "It has no extendedKeyUsage. Apple's clients require one with serverAuth of every certificate since 2019, also of a CA of your own.";
    fix: "Issue it again with extendedKeyUsage = serverAuth:\n  {issue}";
TlsStrictClients = "tls-strict-clients", Tls, Warn;
    title: "Python 3.13 and other strict clients refuse the chain";
    see: "Python: CERTIFICATE_VERIFY_FAILED: Missing Authority Key Identifier; CA cert does not include key usage extension; Basic Constraints of CA cert not marked critical\nBrowsers, Node and curl: no error";
    why: "Python sets OpenSSL's X509_STRICT since 3.13, which holds every certificate of the chain, the root included, to RFC 5280 §4.2.1. A CA that was made with a few openssl commands often lacks an extension.";
    fix: "Make the CA anew with basicConstraints = critical,CA:TRUE, keyUsage = critical,keyCertSign,cRLSign and subjectKeyIdentifier = hash, and the certificate with authorityKeyIdentifier = keyid. See what is missing:\n  openssl verify -x509_strict -CAfile ca.pem -untrusted fullchain.pem fullchain.pem";
TlsChainUnverified = "tls-chain-unverified", Tls, Warn;
    title: "this program cannot check a signature in the chain, which some clients cannot either";
    see: "Programs in Rust: UnsupportedSignatureAlgorithm\nBrowsers, Node and curl: mostly no error";
    why: "The CA's key or hash is one that the library of this program (ring) does not know: P-521, ECDSA with SHA-512, RSA with more than 8192 bits, Ed448. Names, dates and key identifiers fit.";
    fix: "Check it with openssl; a CA with a P-256 key and SHA-256 suits all.\n  openssl verify -CAfile ca.pem -untrusted fullchain.pem fullchain.pem";
HttpSilent = "http-silent", Http, Fail;
    title: "the server takes the request and does not answer";
    see: "Node: xhr poll error after a long wait, ETIMEDOUT\nnginx: 504 later\nChrome: ERR_TIMED_OUT";
    why: "TLS works and the request vanishes: the app behind hangs (an endless loop, a database that does not answer), or the proxy waits for an upstream that drops packets.";
    fix: "Ask the app directly on the board:\n  curl -v http://127.0.0.1:PORT/\nIf that hangs as well, restart the app and look into its log; else look at the upstream address in the proxy's configuration.";
PageCsp = "page-csp", Http, Warn;
    title: "the page's Content-Security-Policy forbids it to connect to its own server";
    see: "Chrome: Refused to connect to 'wss://{host}/socket.io/' because it violates the following Content Security Policy directive: connect-src\nsocket.io-client in a page: xhr poll error; in Node it works";
    why: "Its connect-src, or default-src, names other servers only. Often the app builds it from the Host that the proxy sends, which is not the name in the browser.";
    fix: "Add 'self' to connect-src. Node with helmet:\n  contentSecurityPolicy: { directives: { connectSrc: [\"'self'\"] } }\nIf the app builds it from Host, let the proxy pass Host on: nginx\n  proxy_set_header Host $http_host;\nApache: ProxyPreserveHost On";
HttpClosed = "http-closed", Http, Fail;
    title: "the server closes the connection without an answer";
    see: "Node: socket hang up, ECONNRESET\ncurl: (52) Empty reply from server\nChrome: ERR_EMPTY_RESPONSE, ERR_CONNECTION_CLOSED";
    why: "The request reached something that hangs up: the app crashes on it, nothing listens behind a port that is published or forwarded (a container whose app listens on 127.0.0.1 only), or the proxy passes TLS on to a port that does not expect it.";
    fix: "Look into the log of the app at this second. A container: let the app listen on 0.0.0.0, not on 127.0.0.1 or localhost. HAProxy: `mode http` is missing, or the server wants TLS (`ssl` on its line).";
HttpMalformed = "http-malformed", Http, Fail;
    title: "the answer is not HTTP";
    see: "Node: Parse Error: Expected HTTP/\ncurl: (1) Received HTTP/0.9 when not allowed\nChrome: ERR_INVALID_HTTP_RESPONSE";
    why: "Behind TLS something else answers: an MQTT or SSH server, a TCP tunnel to the wrong port.";
    fix: "Look at the port that the proxy sends this name to.";
HttpTlsExpected = "http-tls-expected", Http, Fail;
    title: "plain HTTP is sent to a port that wants TLS";
    see: "400 The plain HTTP request was sent to HTTPS port\n400 Client sent an HTTP request to an HTTPS server";
    why: "The app ends TLS itself, and the proxy in front of it asks by plain HTTP (or this client does).";
    fix: "Either the app speaks plain HTTP behind the proxy, which is simplest, or the proxy asks by https. nginx:\n  proxy_pass https://127.0.0.1:3002;\nCaddy: reverse_proxy https://127.0.0.1:3002 with tls_insecure_skip_verify; HAProxy: `ssl verify none` on the server line. Apache: SSLProxyEngine on, and https:// in ProxyPass.";
HttpH2Expected = "http-h2-expected", Http, Fail;
    title: "the app speaks HTTP/2 only";
    see: "403 Unknown ALPN Protocol\n400 An HTTP/1.x request was sent to an HTTP/2 only endpoint\nnginx: 502 Bad Gateway";
    why: "A WebSocket is opened by HTTP/1.1, and the app takes none: an HTTP/2 server without a fallback, or a gRPC port.";
    fix: "Node: http.createServer, or http2.createSecureServer({ allowHTTP1: true }). Kestrel: Protocols Http1AndHttp2. Or send {path} to another port.";
HttpHostRefused = "http-host-refused", Http, Fail;
    title: "the app refuses the name in the request's Host";
    see: "Blocked request. This host is not allowed\nInvalid Host header\nsocket.io-client: xhr poll error, with status 403 or 400";
    why: "Dev servers and frameworks answer only to names that they were told (against DNS rebinding), and the proxy passes the public name on.";
    fix: "Add `{host}` there. Vite: server: { allowedHosts: [\"{host}\"] }; webpack-dev-server: allowedHosts; Django: ALLOWED_HOSTS; Rails: config.hosts. In production serve the built files, not the dev server.";
HttpLimited = "http-limited", Http, Fail;
    title: "a limit of the proxy refuses a client's requests (429, 503)";
    see: "socket.io-client: xhr poll error or xhr post error, with status 429 or 503; it works at the second or third try\nnginx: limiting requests, excess";
    why: "A client makes five requests at once for its first connection, and many clients may share an address. The limit allows fewer. This run makes no more at once than a client does.";
    fix: "Raise it for {path}, or leave the path out. nginx:\n  limit_req zone=... burst=20 nodelay;\nand no `limit_conn` below 10. Traefik: rateLimit burst; fail2ban and CrowdSec: an exception for {path}.";
HttpChallenge = "http-challenge", Http, Fail;
    title: "a check for bots stands in front of the app";
    see: "403 or 503 with Just a moment..., a captcha\nsocket.io-client: xhr poll error, with status 403 or 503; CORS error in the browser";
    why: "The CDN or filter wants to see a browser solve something before it lets requests pass. A page that was let through may connect; Node, Python, phones and pages of another origin are not.";
    fix: "Make an exception for {path}. Cloudflare: Security, WAF, custom rule `URI Path starts with {path}`: Skip; and switch Under Attack Mode and Bot Fight Mode off for this name.";
HttpLogin = "http-login", Http, Fail;
    title: "a login stands in front of the app";
    see: "socket.io-client: xhr poll error, or parse error; the network tab shows a login page\nChrome: CORS error on a redirect";
    why: "A single sign-on (Cloudflare Access, Authelia, Authentik, oauth2-proxy, an app's own login) sends clients without its cookie to a page. Socket.IO follows no login.";
    fix: "Let {path} pass without it and check who connects in the app, or send the login's cookie: --cookie shows whether that works. Cloudflare Access: a policy Bypass for {path}, or a service token.";
HttpCaptive = "http-captive", Http, Fail;
    title: "this network wants a login (511)";
    see: "511 Network Authentication Required";
    why: "A hotel's or train's network answers in place of the server until somebody has logged in.";
    fix: "Log in at the network's own page, or use another network. The server is not at fault.";
HttpTooLong = "http-too-long", Http, Fail;
    title: "cookies, fields or query are too long for the server";
    see: "400 Request Header Or Cookie Too Large\n414 URI Too Long\n431 Request Header Fields Too Large";
    why: "A proxy or the app has a limit for the first line and the fields of a request, and this client sends more: many cookies of the same domain, a large token in the query.";
    fix: "Send less (the token in `auth` in place of the query), or raise the limit. nginx:\n  large_client_header_buffers 4 32k;\nNode: --max-http-header-size=32768. sanedge.toml: head_bytes_max and target_bytes_max in [limits].";
HttpDefaultSite = "http-default-site", Http, Fail;
    title: "the proxy's default site answers";
    see: "Welcome to nginx!, Congratulations! You've successfully started the Nginx Proxy Manager, an empty page of Caddy\nsocket.io-client: xhr poll error, parse error";
    why: "The proxy runs and has no site for `{host}` (or another one answers first), so its default page comes.";
    fix: "Add a site for the name and send it to the app. nginx: `server_name {host};` in the right `server`, linked into sites-enabled, then nginx -s reload. Nginx Proxy Manager: a Proxy Host for `{host}`. Caddy: the name in front of the block.";
CdnOrigin = "cdn-origin", Http, Fail;
    title: "the CDN cannot get an answer from your server (520 to 530)";
    see: "Error 521 Web server is down, 522 Connection timed out, 525 SSL handshake failed\nsocket.io-client: xhr poll error, with the status 52x";
    why: "The name leads to the CDN, which is well; what is behind it is not. The number says how far the CDN got.";
    fix: "Look at the server past the CDN, by its own address:\n  sanedge doctor {url} --resolve {host}:ADDRESS-OF-YOUR-SERVER\n521, 522, 523: port forwarding, firewall, address in the record. 525, 526: TLS on the server: mode Full (strict) with a valid certificate or an origin certificate. 520, 524: the app.";
TunnelError = "tunnel-error", Http, Fail;
    title: "the tunnel or platform itself answers: the app is not connected to it";
    see: "ngrok: ERR_NGROK_3200, ERR_NGROK_8012\nCloudflare: 530, error 1033\nsocket.io-client: xhr poll error";
    why: "The public name belongs to a tunnel or a platform, and its own end answers: the agent on the board does not run, or runs and does not reach the app.";
    fix: "Start the agent (ngrok, cloudflared, lt) and look at its output; give it the port on which the app listens:\n  ss -ltnp\nOn a platform: listen on 0.0.0.0 and the port of the variable PORT, and see the log there.";
HttpRedirectLoop = "http-redirect-loop", Http, Fail;
    title: "the server redirects to itself";
    see: "Chrome: ERR_TOO_MANY_REDIRECTS\nsocket.io-client: xhr poll error, with status 301";
    why: "The app behind the proxy requires https, sees plain HTTP from the proxy, and redirects every client to the same URL. With Cloudflare: the mode Flexible.";
    fix: "Let the proxy tell that the client used https, and the app believe it. nginx:\n  proxy_set_header X-Forwarded-Proto $scheme;\nExpress: app.set('trust proxy', 'loopback'). Cloudflare: mode Full (strict).";
HttpMisdirected = "http-misdirected", Http, Fail;
    title: "the proxy says that this name is not served on this connection";
    see: "421 Misdirected Request";
    why: "The Host of the request and the TLS server name do not belong to one site.";
    fix: "Add the host to the site of the proxy. sanedge: to `hosts` of the [[site]] in sanedge.toml, then:\n  sanedge bundle {file} && {reload}";
HttpBadGateway = "http-bad-gateway", Http, Fail;
    title: "the proxy cannot reach the app behind it (502)";
    see: "nginx: 502 Bad Gateway; connect() failed (111: Connection refused) while connecting to upstream\nsanedge: upstream_unreachable\nsocket.io-client: xhr poll error, with status 502";
    why: "The app is not running, listens on another port, or only on ::1 or 127.0.0.1 while the proxy asks the other.";
    fix: "On the board, see whether it listens where the proxy looks:\n  ss -ltnp\n  journalctl -u YOUR-APP -n 50\nNode: server.listen(3002, '127.0.0.1') for an upstream of 127.0.0.1:3002.";
HttpUnavailable = "http-unavailable", Http, Fail;
    title: "the proxy has no server for the request (503)";
    see: "HAProxy: 503 Service Unavailable, No server is available to handle this request\nsocket.io-client: xhr poll error, with status 503";
    why: "Every server behind it counts as down (health check), or a limit of sessions is reached.";
    fix: "Start the app. HAProxy: take `check` off the server line to see whether only the health check is wrong; Socket.IO answers 404 on /, so check with\n  option httpchk GET /socket.io/?EIO=4&transport=polling";
HttpGatewayTimeout = "http-gateway-timeout", Http, Fail;
    title: "the app behind the proxy does not answer in time (504)";
    see: "nginx: 504 Gateway Time-out; upstream timed out (110: Connection timed out)\nsocket.io-client: xhr poll error, with status 504";
    why: "The proxy reaches the app's machine and gets no answer: the app hangs, or a firewall drops packets.";
    fix: "Ask the app directly on the board:\n  curl -v http://127.0.0.1:PORT/socket.io/?EIO=4\\&transport=polling";
HttpError = "http-error", Http, Fail;
    title: "the server answers with an error of its own";
    see: "500 Internal Server Error";
    why: "The app, or the proxy, failed on a plain request.";
    fix: "Read the log of the program that answered; the evidence names it.";
HttpNoRedirect = "http-no-redirect", Http, Warn;
    title: "port 80 does not lead to https";
    see: "Typing the name without https:// gives a page without TLS, or an error.";
    why: "Port {http_port} answers by itself: another server than the edge has it, or the edge has no site for this host there (sanedge: 404 unknown_host).";
    fix: "nginx:\n  return 301 https://$host$request_uri;\nsanedge.toml: http = [\"[::]:{http_port}\"] in [listen], the host in a [[site]], then:\n  sanedge bundle {file} && {reload}";
HttpRedirectElsewhere = "http-redirect-elsewhere", Http, Warn;
    title: "port 80 leads to another host";
    see: "The name without https:// ends on another site.";
    why: "A default site answers on port {http_port} in place of this one.";
    fix: "Give this host a site on port {http_port} as well.";
EioTransportUnknown = "eio-transport-unknown", Polling, Fail;
    title: "Transport unknown: the query does not reach the app";
    see: "{\"code\":0,\"message\":\"Transport unknown\"}\nsocket.io-client: xhr poll error, or websocket error, with status 400";
    why: "Engine.IO finds no known `transport=` in the request: a proxy on the way drops or rewrites the query string.";
    fix: "Look for a rewrite or a fixed path in the proxy. nginx: write `proxy_pass http://127.0.0.1:3002;` without a path behind the port (with variables in it: add `$is_args$args`); Apache: the flag [QSA]; HAProxy: no `set-path` that cuts the query.";
EioWebsocketOnly = "eio-websocket-only", Polling, Fail;
    title: "Transport unknown: the server takes WebSockets only, and clients begin by polling";
    see: "{\"code\":0,\"message\":\"Transport unknown\"}\nsocket.io-client: xhr poll error, with status 400";
    why: "The server was made with `transports: [\"websocket\"]`; a client without the same option starts with polling.";
    fix: "Client:\n  io(\"{origin}\", { transports: [\"websocket\"] })\nOr take `transports` out of the server's options. If your clients do this already, say so: --transport websocket";
EioPollingOnly = "eio-polling-only", Websocket, Fail;
    title: "Transport unknown: the server takes polling only";
    see: "{\"code\":0,\"message\":\"Transport unknown\"}\nWebSocket connection to 'wss://{host}{path}?EIO=4&transport=websocket' failed\nsocket.io-client: websocket error";
    why: "The server was made with `transports: [\"polling\"]`, and the client asks for a WebSocket.";
    fix: "Server: take `transports` out of its options, so that both are there. If your clients only poll, say so: --transport polling";
EioSidUnknown = "eio-sid-unknown", Polling, Fail;
    title: "Session ID unknown: the second request reached another process";
    see: "{\"code\":1,\"message\":\"Session ID unknown\"}\nPython server: Invalid session\nsocket.io-client: xhr poll error, with status 400; endless reconnecting";
    why: "Several processes or machines share the name, and each knows only its own sessions: requests of one client must always reach the same one. One process that restarts all the time looks alike.";
    fix: "One process: nothing to balance, remove the others (pm2: -i 1; gunicorn -w 1, uvicorn --workers 1). Several: make them sticky. nginx: `hash $remote_addr consistent;` or `ip_hash;` in `upstream`; HAProxy: `balance source`; Node's cluster: @socket.io/sticky. sanedge does so by itself.";
EioBadMethod = "eio-bad-method", Polling, Fail;
    title: "Bad handshake method: the proxy changes the method";
    see: "{\"code\":2,\"message\":\"Bad handshake method\"}";
    why: "A handshake is a GET, and something else arrived at the app.";
    fix: "nginx: remove `proxy_method`. Others: look for a rule that rewrites methods.";
EioBadRequest = "eio-bad-request", Polling, Fail;
    title: "Bad request: Engine.IO does not understand the handshake";
    see: "{\"code\":3,\"message\":\"Bad request\"}\nsocket.io-client: xhr poll error, with status 400";
    why: "The request was changed on its way: a rewritten query, or a polling request on a session that is a WebSocket already (TRANSPORT_MISMATCH).";
    fix: "Look for rewrites in the proxy; compare with what the app itself says on its own port.";
EioForbidden = "eio-forbidden", Polling, Fail;
    title: "the app refuses this client (Engine.IO code 4, allowRequest)";
    see: "{\"code\":4,\"message\":...}\nsocket.io-client: xhr poll error, with status 403";
    why: "The app's `allowRequest` said no: it misses an Origin, a cookie, a header or a query that real clients send, or sees http and another address behind the proxy.";
    fix: "Send what your client sends: --origin, --cookie, --header, --query. If a real client is refused as well, log `req.headers` in allowRequest and pass on what is missing: X-Forwarded-For, X-Forwarded-Proto, Host.";
EioProtocol = "eio-protocol", Polling, Fail;
    title: "Unsupported protocol version: an old client meets a new server";
    see: "{\"code\":5,\"message\":\"Unsupported protocol version\"}\nsocket.io-client 2.x: xhr poll error, with status 400";
    why: "A client of Socket.IO 1 or 2 (EIO=3) asks a server of Socket.IO 3 or 4 without `allowEIO3`.";
    fix: "Update the client to 4.x. Where that cannot be (old apps, microcontrollers), server:\n  new Server(http, { allowEIO3: true })";
EioOldServer = "eio-old-server", Polling, Fail;
    title: "a new client meets an old server";
    see: "socket.io-client 3 or 4: connects and reconnects for ever, parse error, or: It seems you are trying to reach a Socket.IO server in v2.x with a v3.x client";
    why: "The server is Socket.IO 2.x (Engine.IO 3), the client speaks EIO=4; the two frame packets differently.";
    fix: "Update the server: npm install socket.io@4. Or take the client of the same age: npm install socket.io-client@2";
EioV3Server = "eio-v3-server", Polling, Warn;
    title: "the server is a Socket.IO 2.x";
    see: "Clients of 3.x and 4.x do not connect.";
    why: "It speaks Engine.IO 3 and has had no updates since 2021.";
    fix: "Fine for clients of 2.x. Others: npm install socket.io@4 on the server.";
EioNotFound = "eio-not-found", Polling, Fail;
    title: "nothing answers at the path (404)";
    see: "Cannot GET {path}\nsocket.io-client: xhr poll error, with status 404";
    why: "The server behind the name has no Socket.IO at this path: the proxy sends the path to another app, the app listens with another `path`, or `new Server()` is not attached to the server that listens.";
    fix: "Send the path to the Socket.IO app. nginx:\n  location {path} { proxy_pass http://127.0.0.1:3002; }\nNode: `new Server(httpServer)` and httpServer.listen(), not app.listen(). Another path: --path /my/path/ here and { path: ... } in the client.";
EioWrongPath = "eio-wrong-path", Polling, Fail;
    title: "Socket.IO answers at another path";
    see: "socket.io-client: xhr poll error, with status 404";
    why: "Server or edge use another path than the client: a prefix was added or taken away on the way, or the server has a `path` of its own.";
    fix: "Tell the client where it is:\n  io(\"{origin}\", { path: \"{found_path}\" })\nOr take the prefix out of the proxy. nginx: `proxy_pass http://127.0.0.1:3002;` without anything behind the port keeps the path.";
EioNotSocketio = "eio-not-socketio", Polling, Fail;
    title: "something else answers in place of Socket.IO";
    see: "socket.io-client: xhr poll error, parse error; the network tab shows HTML, JSON or text at {path}";
    why: "What has the port is no Socket.IO: another app, a bare WebSocket server (`ws`, which a Socket.IO client cannot talk to), a static site, or a single-page app that answers every path with index.html. Or Socket.IO is attached at another path.";
    fix: "See which program has the port of the app, and whether it is yours:\n  ss -ltnp\nNode: `new Server(httpServer)` and httpServer.listen(), not app.listen(). Another path: --path /my/path/ here and { path: ... } in the client.\nIf the app is right and the proxy sends the path elsewhere, send the path to the Socket.IO app before the rule for everything else. nginx:\n  location {path} { proxy_pass http://127.0.0.1:3002; }\nVite and webpack: an entry in `proxy` with ws: true.";
EioRedirected = "eio-redirected", Polling, Fail;
    title: "the handshake is redirected";
    see: "socket.io-client: xhr poll error; Chrome: CORS error on a redirect; WebSocket: Unexpected response code: 301";
    why: "Browsers do not follow redirects of WebSockets, and lose headers on others. A missing slash at the end of the path, http in place of https, www or not, or a login page.";
    fix: "Connect to where it leads: `{location}`. If that is a login page, let the proxy pass {path} without it.";
EioPathRewritten = "eio-path-rewritten", Polling, Fail;
    title: "the proxy changes the path on its way to the app";
    see: "Cannot GET with another path than the client's\nsocket.io-client: xhr poll error, with status 404";
    why: "The app repeats the path that it was asked for, and that is not the client's: a path behind the port in the proxy's address, a missing slash at one of its two ends, or a prefix that is not taken off.";
    fix: "nginx: a path behind the port replaces what `location` matched, so both end with a slash or neither has one:\n  location {path} { proxy_pass http://127.0.0.1:3002; }\nor, to take /game off:\n  location /game/ { proxy_pass http://127.0.0.1:3002/; }\nApache: the same slashes at the end of both in ProxyPass. Caddy: handle_path takes the prefix off, handle keeps it. Traefik: StripPrefix.";
EioUnauthorized = "eio-unauthorized", Polling, Fail;
    title: "the proxy asks for a password (401)";
    see: "socket.io-client: xhr poll error, with status 401";
    why: "Basic authentication or a single sign-on stands in front, which a Socket.IO client cannot answer.";
    fix: "Leave {path} out of it, and check who connects in the app. nginx:\n  location {path} { auth_basic off; ... }";
EioRefused = "eio-refused-by-edge", Polling, Fail;
    title: "the proxy refuses the request (403)";
    see: "403 Forbidden\nsocket.io-client: xhr poll error, with status 403";
    why: "A rule of the proxy or of a filter in front of it (allow and deny, a country block, a bot check) refuses; the app never saw the request. Where the evidence names the app: a middleware in front of Socket.IO.";
    fix: "Look into the log of the proxy for the rule. nginx: `deny`; Cloudflare: Security, Events. In the app: what checks logins, tokens (CSRF) or origins before Socket.IO.";
EioOriginRefused = "eio-origin-refused", Polling, Fail;
    title: "the server refuses pages of this origin";
    see: "Python: 400 https://... is not an accepted origin\nsocket.io-client in a page: xhr poll error, with status 400 or 403; in Node it works";
    why: "Without the Origin the same request is accepted: the server, or a rule of the proxy, has a list of origins, and the page is not on it.";
    fix: "Add the page. Python: cors_allowed_origins=[\"{page}\"]; Node: cors: { origin: \"{page}\" } and what `allowRequest` checks; sanedge.toml: origins = [\"{page}\"].";
EioForwardedProto = "eio-forwarded-proto", Polling, Fail;
    title: "the app refuses pages of its own host: X-Forwarded-Proto is missing";
    see: "Python: https://... is not an accepted origin; browsers: 400 on every POST and WebSocket; Node and Python clients work";
    why: "python-engineio accepts pages of the host and scheme that it was asked by. Behind the proxy it is asked by http, and the page came by https.";
    fix: "nginx:\n  proxy_set_header Host $host;\n  proxy_set_header X-Forwarded-Proto $scheme;\nApache: RequestHeader set X-Forwarded-Proto https. Or name the page in the app: cors_allowed_origins=[\"{page}\"]";
EioForwardedHost = "eio-forwarded-host", Polling, Fail;
    title: "the app refuses pages of its own host: the proxy changes Host";
    see: "Python: http://... is not an accepted origin; browsers: 400 on every request; Node and Python clients work";
    why: "python-engineio accepts pages of the host that it was asked by. The proxy asks it by another host or without the port, so the site's own pages look foreign to it.";
    fix: "nginx ($host has no port, $http_host has it):\n  proxy_set_header Host $http_host;\n  proxy_set_header X-Forwarded-Proto $scheme;\nApache: ProxyPreserveHost on. Vite and webpack: changeOrigin: false. Or name the page in the app: cors_allowed_origins=[\"{page}\"]";
EioPartRefused = "eio-part-refused", Polling, Fail;
    title: "the server refuses a part of what the client sends";
    see: "socket.io-client: xhr poll error, with status 400, 401 or 403; without the cookie, query or field it connects";
    why: "The same request is accepted without {part}: a token that has expired, a rule of the proxy (a filter for SQL or scripts) that dislikes a value, or a check of the app.";
    fix: "Try with another value. Look into the log of who answered: the evidence names it.";
EioUpgradeAlways = "eio-upgrade-always", Polling, Fail;
    title: "the proxy sets Upgrade on every request";
    see: "400 Missing or invalid Sec-WebSocket-Key header\nsocket.io-client: xhr poll error, with status 400; with transports: [\"websocket\"] it connects";
    why: "`Upgrade: websocket` is written into the proxy's configuration as a fixed text, so that the app takes polls for WebSocket handshakes.";
    fix: "Pass on what the client sent. nginx:\n  map $http_upgrade $connection_upgrade { default upgrade; '' close; }\n  proxy_set_header Upgrade $http_upgrade;\n  proxy_set_header Connection $connection_upgrade;\nApache: a RewriteCond on %{HTTP:Upgrade} in front of RequestHeader; HAProxy: no `set-header Upgrade` without a condition.";
EioPollingLost = "eio-polling-lost", Polling, Fail;
    title: "the proxy passes WebSockets on, and polls not";
    see: "socket.io-client: xhr poll error, with status 404, 400 or 500; with transports: [\"websocket\"] it connects\nApache: No protocol handler was valid for the URL";
    why: "A WebSocket of the same path reaches Socket.IO, and the poll with which clients begin gets another answer: the rule of the proxy takes upgrades only (Apache: ProxyPass to a ws:// address).";
    fix: "Send the whole path to the app, not upgrades alone. Apache 2.4.47 and later, one line for both:\n  ProxyPass \"{path}\" \"http://127.0.0.1:3002{path}\" upgrade=websocket\nBefore: mod_rewrite with `RewriteCond %{HTTP:Upgrade} =websocket [NC]` to ws://, and ProxyPass to http://; not both at once. Caddy: no matcher on the header Upgrade. Or clients without polling: transports: [\"websocket\"]";
EioStatus = "eio-status", Polling, Fail;
    title: "the handshake gets an answer that is not Engine.IO's";
    see: "socket.io-client: xhr poll error";
    why: "Something between the client and the app answered.";
    fix: "The evidence names status and server: look into its log.";
EioGarbled = "eio-garbled", Polling, Fail;
    title: "the handshake's answer was changed on its way";
    see: "socket.io-client: parse error, transport error right after connecting";
    why: "The body has the fields of an open packet of Engine.IO and is none: a proxy that rewrites, minifies or injects.";
    fix: "Switch off whatever changes bodies for {path} (sub_filter, Rocket Loader, analytics injection).";
EdgeUnknownPath = "edge-unknown-path", Polling, Fail;
    title: "sanedge has no route for the path (404 unknown_path)";
    see: "Sanedge-Error: unknown_path\nsocket.io-client: xhr poll error, with status 404";
    why: "sanedge answers by itself: the host is served, and none of its routes covers {path}. The app never saw the request.";
    fix: "Give the site an `upstream` of its own, or a route:\n  [[site.route]]\n  path = \"{path}\"\n  upstream = [\"127.0.0.1:3002\"]\nThen:\n  sanedge bundle {file} && {reload}";
EdgeUnknownHost = "edge-unknown-host", Polling, Fail;
    title: "sanedge does not serve this host (404 unknown_host)";
    see: "Sanedge-Error: unknown_host";
    why: "The plain listener of sanedge answers by itself: it redirects the hosts of its bundle to https and knows no other.";
    fix: "Ask for a name of the bundle, and by https (`sanedge show` lists them). A new host goes into `hosts` of a [[site]]; then:\n  sanedge bundle {file} && {reload}";
EdgeAddressRefused = "edge-address-refused", Polling, Fail;
    title: "sanedge refuses this client's address (403 address_refused)";
    see: "Sanedge-Error: address_refused\nsocket.io-client: xhr poll error, with status 403";
    why: "The site has `allow`, and the address that sanedge sees is in none of its networks. The app never saw the request. Behind a proxy or tunnel every client has its address.";
    fix: "Add the client's network to `allow` of the site, or leave `allow` out; behind a proxy list that in `trusted_proxies`, so that the client is the one that it names. Then:\n  sanedge bundle {file} && {reload}";
EdgeUpstreamBroken = "edge-upstream-broken", Polling, Fail;
    title: "sanedge reaches the app and gets no proper answer (502 upstream_closed, upstream_malformed)";
    see: "Sanedge-Error: upstream_closed, or upstream_malformed\nsocket.io-client: xhr poll error, with status 502";
    why: "Something accepts the connection at the upstream's address and then hangs up, or answers what is no HTTP/1.1: the app crashes on the request, another program has the port, it wants TLS, or `send_proxy_protocol` sends it a header that it does not expect.";
    fix: "Ask it directly on the board, and look into its log at this second:\n  curl -v http://127.0.0.1:PORT{path}\n  journalctl -u YOUR-APP -n 50\nTake `send_proxy_protocol` out of the site unless the app expects it: plain Node does not.";
EdgeBusy = "edge-busy", Polling, Fail;
    title: "sanedge refuses one more WebSocket of this address (429 too_many_requests)";
    see: "Sanedge-Error: too_many_requests";
    why: "This address opens more WebSockets a second than `address_websockets_per_s_max`. (Other limits close the connection without an answer.)";
    fix: "See that it was reached, and raise it in [limits]:\n  sanedge status\n  journalctl -u sanedge -n 20\nWhere all clients come from one address (a tunnel, Docker), list that in `exempt` or `trusted_proxies`.";
EdgeRefused = "edge-refused", Polling, Fail;
    title: "sanedge refuses the request by itself, by another code of its own";
    see: "Sanedge-Error: the code that the evidence names";
    why: "sanedge refuses what breaks a rule or a limit, and the app never sees it. What this client sends is in order, so a proxy in front has changed it, a field or cookie is too long, or a limit is very low.";
    fix: "{remedy}\nThe log says more:\n  journalctl -u sanedge -n 20";
EioCached = "eio-cached", Polling, Fail;
    title: "a cache answers in place of the app";
    see: "Session ID unknown now and then; several people get one session";
    why: "Two handshakes gave one sid: the proxy keeps answers of {path}, and one client gets what was meant for another.";
    fix: "Never cache this path. nginx: `proxy_cache off;` there; a CDN: a rule that bypasses the cache for {path}.";
EioPostRefused = "eio-post-refused", Polling, Fail;
    title: "the proxy lets GET pass and refuses POST";
    see: "socket.io-client: connects and breaks off at the first message, xhr post error";
    why: "Polling sends with POST, and a rule allows only GET, or asks for a token (CSRF).";
    fix: "Allow POST on {path}. nginx: look for `limit_except`; a firewall for web apps: an exception for {path}.";
EioPostTooLarge = "eio-post-too-large", Polling, Fail;
    title: "the proxy refuses even a tiny POST as too large (413)";
    see: "socket.io-client: xhr post error, with status 413";
    why: "A limit on request bodies is far too small for Engine.IO, whose own is 1 MB.";
    fix: "nginx:\n  client_max_body_size 2m;";
EioPostLost = "eio-post-lost", Polling, Fail;
    title: "the POST of a polling client does not work";
    see: "socket.io-client: xhr post error";
    why: "The handshake worked, and the first thing that a client sends did not: a proxy that loses bodies, or an app that fails on them. A body parser in front of Socket.IO does so.";
    fix: "Node: attach Socket.IO to the http server, in front of body parsers. Look at the status in the evidence.";
EioPollRefused = "eio-poll-refused", Polling, Fail;
    title: "a waiting poll is refused or cut off";
    see: "socket.io-client: connects and breaks off at once, xhr poll error";
    why: "The handshake worked, and the GET with the session's id did not: a rule of the proxy about the query, a filter, or an app that fails on it.";
    fix: "The evidence names status and server: look into its log at this second.";
EioPollCut = "eio-poll-cut", Polling, Fail;
    title: "a waiting poll is cut before the server's next heartbeat";
    see: "socket.io-client on polling: disconnects with transport error, always after the same time; nginx: 504";
    why: "A poll waits up to pingInterval for an answer, 25 s by default. A proxy on the way waits less.";
    fix: "nginx, in the location of {path}:\n  proxy_read_timeout 1h;\nHAProxy: timeout server above pingInterval; AWS ALB: idle timeout above 30 s. Or a shorter pingInterval in the server.";
EioBodyLimit = "eio-body-limit", Polling, Warn;
    title: "the proxy takes smaller bodies than the server announces";
    see: "socket.io-client on polling: disconnects at a large message, xhr post error, with status 413";
    why: "Clients pack as much into a POST as the server's maxPayload says (1 MB by default), and a proxy in between refuses bodies of that length.";
    fix: "nginx:\n  client_max_body_size 2m;\nApache: LimitRequestBody; IIS: maxAllowedContentLength. Or a smaller maxHttpBufferSize in the server.";
EioCookieNeeded = "eio-cookie-needed", Polling, Warn;
    title: "sessions reach their process by a cookie only";
    see: "Browsers on the same host and python-socketio connect; Node, phones and pages of another origin: Session ID unknown, xhr poll error with status 400";
    why: "The balancer sticks by a cookie that it sets. socket.io-client keeps cookies in a page of the same origin, or with withCredentials. python-socketio keeps them, other programs mostly do not.";
    fix: "Client: io(\"{origin}\", { withCredentials: true }), with `cors: { origin: \"{page}\", credentials: true }` in the server. Programs: transports: [\"websocket\"]. Or stick by the client's address (nginx: ip_hash, HAProxy: balance source).\nTo see what they see:\n  sanedge doctor {url} --no-cookies";
EioPollHeld = "eio-poll-held", Polling, Fail;
    title: "a proxy holds the answers of polls back";
    see: "socket.io-client: connects after a long wait, or stays on polling; messages come in bursts, or only with the next heartbeat";
    why: "A poll waits at the server until the app has something to say. The app said it, and the answer did not arrive: something on the way collects answers before it passes them on (a CDN, an antivirus program, a compressing or caching proxy), or does not pass on what comes late.";
    fix: "Switch buffering, compression and caching off for {path}. nginx:\n  proxy_buffering off;\n  gzip off;\nIf there is no such proxy of yours, try from another network; clients can go round it with transports: [\"websocket\"].";
EioPingLong = "eio-ping-long", Polling, Warn;
    title: "the heartbeat is slower than most proxies' patience";
    see: "transport close, ping timeout after about a minute of silence";
    why: "nginx cuts after 60 s without a byte, Cloudflare after 100 s. With the default pingInterval of 25 s neither ever happens.";
    fix: "Server: pingInterval: 25000";
MixedContent = "mixed-content", Polling, Fail;
    title: "a page that came by https may not connect by http";
    see: "Chrome: Mixed Content: The page at '{page}' was loaded over HTTPS, but requested an insecure endpoint. This request has been blocked\nFirefox: Blocked loading mixed active content";
    why: "Browsers block plain http:// and ws:// from pages that came by https, before anything is sent.";
    fix: "Give the server TLS (sanedge, nginx, Caddy) and connect by https:\n  io(\"https://{host}\")";
CorsMissing = "cors-missing", Polling, Fail;
    title: "pages of this origin may not poll (CORS)";
    see: "Chrome: has been blocked by CORS policy: No 'Access-Control-Allow-Origin' header is present on the requested resource\nFirefox: CORS header 'Access-Control-Allow-Origin' missing\nsocket.io-client: xhr poll error";
    why: "The page is at `{page}`, the server at another origin, and its answer does not allow it. Since Socket.IO 3 nothing is allowed unless you say so.";
    fix: "Server:\n  new Server(http, { cors: { origin: \"{page}\", credentials: true } })";
CorsOther = "cors-other-origin", Polling, Fail;
    title: "the server allows another origin than this page's (CORS)";
    see: "Chrome: The 'Access-Control-Allow-Origin' header has a value '...' that is not equal to the supplied origin";
    why: "Scheme, host and port must be those of the page, character by character, without a slash at the end.";
    fix: "Server:\n  cors: { origin: [\"{page}\"], credentials: true }";
CorsStar = "cors-star-with-credentials", Polling, Fail;
    title: "`*` is not allowed together with credentials (CORS)";
    see: "Chrome: The value of the 'Access-Control-Allow-Origin' header in the response must not be the wildcard '*' when the request's credentials mode is 'include'";
    why: "The client has withCredentials: true (or sends cookies), and for that the server must name the origin.";
    fix: "Server:\n  cors: { origin: \"{page}\", credentials: true }\nOr client: withCredentials: false";
CorsPreflight = "cors-preflight", Polling, Fail;
    title: "the browser's question (OPTIONS) before the page's own fields is answered with no";
    see: "Chrome: Response to preflight request doesn't pass access control check: It does not have HTTP ok status.\nChrome: Request header field authorization is not allowed by Access-Control-Allow-Headers in preflight response.\nFirefox: CORS preflight response did not succeed";
    why: "The client has `extraHeaders`, so the browser sends OPTIONS first. The proxy refuses or answers it itself, or the app's `cors` has an `allowedHeaders` without these names.";
    fix: "Server: name them, or leave `allowedHeaders` out:\n  new Server(http, { cors: { origin: \"{page}\", allowedHeaders: [{fields}] } })\nEdge: let OPTIONS pass to the app. nginx: no `limit_except GET POST`, no `return` for OPTIONS. Or send a token with `auth` in place of a header.";
CorsTwice = "cors-twice", Polling, Fail;
    title: "the CORS field is there twice";
    see: "Chrome: The 'Access-Control-Allow-Origin' header contains multiple values, but only one is allowed";
    why: "The proxy adds it, and the app as well.";
    fix: "Take it out of the proxy. nginx: remove `add_header Access-Control-Allow-Origin`, or there: proxy_hide_header Access-Control-Allow-Origin;";
WsUpgradeLost = "ws-upgrade-lost", Websocket, Fail;
    title: "the proxy loses the WebSocket upgrade";
    see: "{\"code\":3,\"message\":\"Bad request\"}\nWebSocket connection to 'wss://{host}{path}' failed: Error during WebSocket handshake: Unexpected response code: 400\nsocket.io-client: websocket error; without `transports` it stays on polling for ever";
    why: "The app got the request without `Upgrade: websocket`: it is a hop-by-hop field, and a proxy passes it on only where it is told to.";
    fix: "nginx, in the location of {path}:\n  proxy_http_version 1.1;\n  proxy_set_header Upgrade $http_upgrade;\n  proxy_set_header Connection \"upgrade\";\nNginx Proxy Manager: switch on Websockets Support. Apache: mod_proxy_wstunnel.";
WsConnectionList = "ws-connection-list", Websocket, Fail;
    title: "Firefox gets no WebSocket, other clients do";
    see: "Firefox can't establish a connection to the server at wss://{host}{path}\nChrome, Node: no error";
    why: "Firefox sends `Connection: keep-alive, Upgrade`, a list (RFC 9110, 7.6.1). A rule of the proxy compares the whole value with `Upgrade`.";
    fix: "Let it look for the word. Apache:\n  RewriteCond %{HTTP:Connection} upgrade [NC]\nwithout ^ and $; or ProxyPass with upgrade=websocket in place of the rule. HAProxy: hdr(Connection) -m sub -i upgrade, or `-i upgrade` on hdr(), which splits lists.";
WsExtension = "ws-extension", Websocket, Fail;
    title: "compression breaks the WebSocket of browsers and Node";
    see: "Chrome: Invalid frame header, One or more reserved bits are on\nNode: Invalid WebSocket frame: RSV1 must be clear\nPython, Swift: no error";
    why: "Browsers and Node offer permessage-deflate. A proxy drops the server's answer to it, so that compressed messages come that nobody agreed on, or refuses the offer.";
    fix: "Let the proxy pass Sec-WebSocket-Extensions both ways, or neither way: drop it from the request as well. nginx: no `proxy_hide_header Sec-WebSocket-Extensions` and no `proxy_set_header Sec-WebSocket-Extensions` alone. Or switch compression off in the server: perMessageDeflate: false; uvicorn --ws-per-message-deflate false.";
WsNoLibrary = "ws-no-library", Websocket, Fail;
    title: "the Python server has no WebSocket";
    see: "socket.io-client: websocket error, status 400; without `transports` it stays on polling\nuvicorn: No supported WebSocket library detected\nFlask: WebSocket transport not available. Install simple-websocket";
    why: "python-engineio speaks WebSocket only with a library for its web server, and none is installed; some web servers (gunicorn with sync workers, WSGI on Apache) cannot at all.";
    fix: "Flask and threads:\n  pip install simple-websocket\nuvicorn:\n  pip install 'uvicorn[standard]'\ngunicorn, whose sync and gevent workers have no WebSocket of their own:\n  gunicorn -k gthread --threads 100 -w 1 app:app\n  gunicorn -k geventwebsocket.gunicorn.workers.GeventWebSocketWorker -w 1 app:app\nIf your clients only poll, say so: --transport polling";
WsOriginRefused = "ws-origin-refused", Websocket, Fail;
    title: "sanedge refuses WebSockets of this origin (403 origin_refused)";
    see: "Sanedge-Error: origin_refused\nWebSocket connection failed: Unexpected response code: 403";
    why: "Any page in the world can open a WebSocket with your visitors' cookies, so sanedge allows only the site's own origins and those that `origins` lists.";
    fix: "{advice}\nThen:\n  sanedge bundle {file} && {reload}";
WsForbidden = "ws-forbidden", Websocket, Fail;
    title: "polling works, and the WebSocket is refused (403)";
    see: "WebSocket connection failed: Unexpected response code: 403\nsocket.io-client: websocket error, or it stays on polling";
    why: "A rule of the proxy refuses upgrades, or the app checks the Origin of them.";
    fix: "Look into the log of the proxy for the rule; give the page's address with --origin to test as a browser.";
WsUpgradeRequired = "ws-upgrade-required", Websocket, Fail;
    title: "the server asks for an upgrade that was sent (426)";
    see: "426 Upgrade Required";
    why: "The proxy passed the request on without Upgrade, or with HTTP/1.0, to a server that takes nothing but WebSockets.";
    fix: "nginx:\n  proxy_http_version 1.1;\n  proxy_set_header Upgrade $http_upgrade;\n  proxy_set_header Connection \"upgrade\";";
WsStatus = "ws-status", Websocket, Fail;
    title: "the WebSocket handshake gets another answer than 101";
    see: "WebSocket connection failed: Unexpected response code\nsocket.io-client: websocket error";
    why: "Polling works and the upgrade does not reach the app: another rule of the proxy takes it, or no one behind can do it.";
    fix: "The evidence names status and server. Look for a rule that matches `Upgrade: websocket`. 500: a middleware that compresses or buffers answers, which upgrades must go past (Traefik: take `compress` off this router). 400 from Node: another WebSocket server on the same HTTP server (`ws` with another `path`) refuses what is not its own: give it `noServer: true`.";
WsNoAnswer = "ws-no-answer", Websocket, Fail;
    title: "polling works, and the WebSocket handshake gets no answer";
    see: "WebSocket connection failed: timeout\nsocket.io-client: timeout, or it stays on polling";
    why: "A proxy on the way takes the upgrade and does not pass it on: a dev server's proxy without `ws: true`, an old load balancer. Or a filter on this network holds it back: an antivirus program, a company's proxy.";
    fix: "Vite, webpack-dev-server, http-proxy-middleware: in the entry of `proxy` for {path}\n  ws: true\nExpress with http-proxy-middleware needs this as well:\n  server.on('upgrade', proxy.upgrade)\nElse try from another network, and look whether every proxy on the way knows WebSockets.";
WsAccept = "ws-accept", Websocket, Fail;
    title: "the 101 does not answer this handshake";
    see: "Chrome: Error during WebSocket handshake: Incorrect 'Sec-WebSocket-Accept' header value\nNode: Invalid Sec-WebSocket-Accept header";
    why: "The answer belongs to another request, or lacks what makes it a handshake: a cache or a proxy that makes up the handshake itself, drops Sec-WebSocket-Key, or drops the fields of the app's answer.";
    fix: "Let the proxy pass Sec-WebSocket-Key and the 101 through unchanged. Phusion Passenger in Apache carries no WebSocket: use Passenger in nginx or Standalone, or send {path} past it to the app's own port.";
WsTwoServers = "ws-two-servers", Websocket, Fail;
    title: "two programs answer the WebSocket handshake";
    see: "Chrome: Invalid frame header, One or more reserved bits are on\nNode: Invalid WebSocket frame: RSV2 and RSV3 must be clear, invalid opcode\nsocket.io-client: websocket error, transport close; it stays on polling";
    why: "A second answer in HTTP comes after the 101. Two WebSocket servers are attached to one HTTP server: Socket.IO twice, Socket.IO beside `ws` with another `path`, or a dev server's own (webpack, Vite). Each answers every upgrade, and one of them says 400.";
    fix: "Create Socket.IO once. Give `ws` no `server`, and pass it only what is its own:\n  const wss = new WebSocketServer({ noServer: true })\n  server.on('upgrade', (request, socket, head) => {\n    if (request.url.startsWith('/live')) wss.handleUpgrade(request, socket, head, ws => wss.emit('connection', ws, request))\n  })\nOr give each a port of its own. http-proxy-middleware: one proxy with `ws: true` for this path.";
WsCrash = "ws-crash", Websocket, Fail;
    title: "the server ends when it is asked for a WebSocket";
    see: "socket.io-client: transport close, xhr poll error, then ECONNREFUSED\nNode: server.handleUpgrade() was called more than once with the same socket";
    why: "The port was open, and after the WebSocket handshake nothing listens there: the app crashed on it. In Node this is often a second Socket.IO or WebSocket server on the same HTTP server.";
    fix: "Read the last lines of the app's log. If they say `handleUpgrade() was called more than once`, attach Socket.IO to the HTTP server once: `new Server(httpServer)` or `io.attach(httpServer)`, not both.";
WsSilent = "ws-silent", Websocket, Fail;
    title: "the WebSocket opens, and nothing comes through it";
    see: "socket.io-client: timeout after 20 s, though the network tab shows 101";
    why: "The handshake passes and frames do not: a proxy that buffers, or takes the 101 as the end of its work.";
    fix: "nginx: proxy_buffering off does not help here; look for a second proxy (a CDN, a tunnel) that does not support WebSockets, and switch it on there.";
WsCloses = "ws-closes", Websocket, Fail;
    title: "the WebSocket opens and is closed at once";
    see: "socket.io-client: transport close right after connect; endless reconnecting\nWebSocket is closed before the connection is established";
    why: "Something ends it right after the handshake: the app fails while opening the session, or a proxy breaks frames.";
    fix: "Look into the log of the app at this second; the evidence has the close code.";
WsProbe = "ws-probe", Websocket, Fail;
    title: "a polling client cannot change over to the WebSocket";
    see: "Clients stay on polling; probe error";
    why: "A WebSocket of its own works, one for a session that began by polling does not: the upgrade reaches another process than the polling did.";
    fix: "Make the processes sticky (see eio-sid-unknown), or let clients begin with it: transports: [\"websocket\"]";
WsCut = "ws-cut", Websocket, Fail;
    title: "the WebSocket is cut while it is held";
    see: "socket.io-client: transport close, always after the same time";
    why: "A proxy ends connections without traffic. 60 s is nginx (proxy_read_timeout), 100 s Cloudflare, 5 min many routers.";
    fix: "nginx, in the location of {path}:\n  proxy_read_timeout 1h;\nHAProxy: timeout tunnel 1h. Apache: ProxyTimeout 3600. Or let Engine.IO's heartbeat be quicker than the cut: pingInterval: 25000";
WsLifetime = "ws-lifetime", Websocket, Fail;
    title: "the WebSocket is cut though it is not silent";
    see: "socket.io-client: transport close, always after the same time";
    why: "The heartbeat went over it, so silence is not what ends it: a load balancer ends every connection at a certain age (Google's backend service timeout is 30 s), or the app, its process manager or the proxy restarts.";
    fix: "Google Cloud: raise the timeout of the backend service:\n  gcloud compute backend-services update NAME --global --timeout=86400\nAWS API Gateway, Heroku and Vercel have ages that cannot be raised: let clients reconnect. nginx ends old connections at a reload where worker_shutdown_timeout says so. Else compare the time with the app's log: does it restart?";
WsHeartbeat = "ws-heartbeat", Websocket, Fail;
    title: "the heartbeat does not come";
    see: "socket.io-client: ping timeout";
    why: "No ping came within the interval that the server promised: it hangs, or a proxy holds frames back.";
    fix: "Look whether the app's event loop is blocked (a long computation); then for a proxy that buffers.";
NsRefused = "ns-refused", Namespace, Fail;
    title: "the app refuses the namespace";
    see: "socket.io-client: connect_error with the app's own message";
    why: "A middleware of the app (`io.use`, `of(...).use`) said no to what this client sent.";
    fix: "Send what your client sends: --query, --cookie, --header. If a real client is refused as well, see what arrives: log `socket.handshake` in the middleware.";
NsUnknown = "ns-unknown", Namespace, Fail;
    title: "the app has no such namespace";
    see: "socket.io-client: connect_error: Invalid namespace";
    why: "The part of the client's URL behind the host is the namespace, and the server has no `io.of(\"{namespace}\")`. Often a path was meant.";
    fix: "Server: io.of(\"{namespace}\").on(\"connection\", ...). If you meant a path, client:\n  io(\"{origin}\", { path: \"{namespace}/socket.io/\" })";
NsSilent = "ns-silent", Namespace, Fail;
    title: "the app does not answer to the namespace";
    see: "socket.io-client: neither connect nor connect_error; timeout";
    why: "A middleware never calls next(), or waits for a database.";
    fix: "Look for an `io.use` that has a way without next().";
TimeUp = "time-up", Board, Fail;
    title: "the time was up before everything was checked";
    see: "";
    why: "The whole run is bounded, and something was slow.";
    fix: "Give it longer:\n  sanedge doctor {url} --timeout 60s";
AppProxyProtocol = "app-proxy-protocol", Board, Fail;
    title: "the app wants the PROXY protocol first";
    see: "Through the proxy: 502 Bad Gateway, or Empty reply from server";
    why: "The app's listener expects a header with the client's address before HTTP, and the proxy sends none.";
    fix: "Switch it off in the app, or on in the proxy. sanedge.toml, in the site: send_proxy_protocol = true. HAProxy: send-proxy on the server line. nginx (stream): proxy_protocol on;";
AppHttp2 = "app-http2", Board, Fail;
    title: "the app speaks HTTP/2 only";
    see: "Through the proxy: 502 Bad Gateway";
    why: "The app's port answers to HTTP/2 (h2c) and not to HTTP/1.1, by which proxies ask and WebSockets are opened.";
    fix: "Start the app's HTTP/1.1 server: Node: http.createServer in place of http2.createServer.";
AppDown = "app-down", Board, Fail;
    title: "the app itself does not accept connections";
    see: "Through the proxy: 502 Bad Gateway";
    why: "Nothing listens at the upstream address: the app is not running, crashed, or listens elsewhere.";
    fix: "Start it, and see where it listens:\n  ss -ltnp\n  journalctl -u YOUR-APP -n 50";
AppTls = "app-tls", Board, Fail;
    title: "the app speaks TLS where plain HTTP is spoken to it";
    see: "sanedge: upstream_tls, or upstream_closed\nnginx in front: 502 Bad Gateway; upstream prematurely closed connection\nGo: Client sent an HTTP request to an HTTPS server.";
    why: "TLS ends at the edge, which speaks plain HTTP to the app; the port that it was given is the app's TLS port.";
    fix: "See on which ports the app listens, and name its plain one as `upstream`:\n  sudo ss -tlnp\nWhere it has none, switch TLS off in the app (Node: `http.createServer` for `https.createServer`). nginx in front of it: `proxy_pass https://...`.";
PortOwner = "port-owner", Board, Fail;
    title: "another program has the port that sanedge needs";
    see: "sanedge serve: Address already in use";
    why: "An nginx, Apache or Caddy of the system was there first.";
    fix: "Stop it, and keep it from coming back:\n  sudo systemctl disable --now {owner}";
KeyReadable = "key-readable", Board, Warn;
    title: "every user of this machine can read a private key";
    see: "";
    why: "Its file mode allows others.";
    fix: "chmod 600 on the file.";
UnitFailed = "unit-failed", Board, Fail;
    title: "the service sanedge failed";
    see: "systemctl status sanedge: failed";
    why: "The last lines of its log say why.";
    fix: "Fix that, then:\n  sudo systemctl restart sanedge\nMore of the log:\n  journalctl -u sanedge -n 50";
FdLimit = "fd-limit", Board, Warn;
    title: "the service may open too few files for its sessions";
    see: "accept: Too many open files";
    why: "Each session takes two descriptors.";
    fix: "In the unit:\n  LimitNOFILE=65536\nWithout systemd, in the shell that starts it:\n  ulimit -n 65536";
MemoryMax = "memory-max-ignored", Board, Warn;
    title: "MemoryMax has no effect on this kernel";
    see: "";
    why: "Raspberry Pi kernels start without the memory cgroup.";
    fix: "Add to /boot/firmware/cmdline.txt, on its one line, and restart:\n  cgroup_enable=memory";
ClockUnsynchronised = "clock-unsynchronised", Board, Warn;
    title: "the clock of this machine is not synchronised";
    see: "Certificate errors after a power cut.";
    why: "No time server was reached.";
    fix: "sudo timedatectl set-ntp true";
PiThrottled = "pi-throttled", Board, Warn;
    title: "the board runs slower than it could";
    see: "";
    why: "Its power supply is too weak, or it is too hot.";
    fix: "Take the supply that belongs to the board, and give it air.";
PiHot = "pi-hot", Board, Warn;
    title: "the board is hot";
    see: "";
    why: "Above 80 °C the processor slows down.";
    fix: "Give it air, or a heat sink.";
}

/// What to do about a code of the edge's own, also one that a later edge has.
pub fn edge_remedy(code: &str) -> &'static str {
    let problem = PROBLEMS.iter().find(|problem| problem.code() == code);
    problem.and_then(|problem| problem.remedy()).unwrap_or("look into its log at this second")
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
