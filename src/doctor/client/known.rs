//! Words, fields and numbers by which a kind of server is recognised, and what they mean: one table, pure.
//!
//! Of two rows for one status, the more specific comes first.

use crate::doctor::ask::Answer;
use crate::doctor::explain::Code;

/// A kind of answer. All given parts must match.
struct Row {
    /// Empty: any.
    statuses: &'static [u16],
    /// A field, and a part of its value. Empty: any.
    field: (&'static str, &'static str),
    /// Parts of the body, one of which must match, without regard to case. Empty: any.
    body: &'static [&'static str],
    code: Code,
    /// One sentence, with `{path}` and `{host}`.
    says: &'static str,
}

const fn row(
    statuses: &'static [u16],
    field: (&'static str, &'static str),
    body: &'static [&'static str],
    code: Code,
    says: &'static str,
) -> Row {
    Row { statuses, field, body, code, says }
}

const NO_FIELD: (&str, &str) = ("", "");
const STATIC_HOSTING: &str = "static hosting answers at {path}, where no Socket.IO server can run: give the client the address of your server, or forward {path} to it (CloudFront: a behavior for this path)";
const API_GATEWAY: &str =
    "AWS API Gateway has no such path or refuses it: Socket.IO needs a load balancer (ALB) instead";

const ROWS: &[Row] = &[
    // --- the proxy sets Upgrade on every request
    row(
        &[400, 426],
        NO_FIELD,
        &[
            "Missing or invalid Sec-WebSocket-Key header",
            "missing Sec-WebSocket-Key header",
            "Invalid Sec-WebSocket-Key",
        ],
        Code::EioUpgradeAlways,
        "the proxy sets `Upgrade: websocket` on every request, so the app takes a poll for a WebSocket: set it only if the client does (nginx: $http_upgrade, and the map for Connection)",
    ),
    row(
        &[400],
        NO_FIELD,
        &["Unsupported upgrade request"],
        Code::EioUpgradeAlways,
        "the proxy sets `Upgrade` on every request, and the app refuses it: set it only if the client does (nginx: $http_upgrade, and the map for Connection)",
    ),
    // --- http where https is expected
    row(
        &[400, 497],
        NO_FIELD,
        &[
            "plain HTTP request was sent to HTTPS port",
            "sent an HTTP request to an HTTPS server",
            "speaking plain HTTP to an SSL-enabled server port",
            "combination of host and port requires TLS",
        ],
        Code::HttpTlsExpected,
        "",
    ),
    row(
        &[400, 403, 505],
        NO_FIELD,
        &["ALPN Protocol, expected `h2`", "HTTP/1.x request was sent to an HTTP/2 only endpoint"],
        Code::HttpH2Expected,
        "the app supports HTTP/2 only, and WebSockets need HTTP/1.1: enable it in the app (Node: allowHTTP1)",
    ),
    // --- the Host is refused
    row(
        &[],
        NO_FIELD,
        &["Blocked request. This host"],
        Code::HttpHostRefused,
        "Vite's dev server refuses the name `{host}`: add it to `server.allowedHosts` in vite.config.js (`preview.allowedHosts` for vite preview)",
    ),
    row(
        &[400, 403],
        NO_FIELD,
        &["Invalid Host/Origin header", "Invalid Host header"],
        Code::HttpHostRefused,
        "the app refuses the name `{host}` (its Host check): add it to the app's list (webpack-dev-server: `allowedHosts`; Starlette: TrustedHostMiddleware)",
    ),
    row(
        &[400],
        NO_FIELD,
        &["Invalid HTTP_HOST header", "DisallowedHost"],
        Code::HttpHostRefused,
        "Django refuses the name `{host}`: add it to ALLOWED_HOSTS",
    ),
    row(
        &[403],
        NO_FIELD,
        &["Blocked host:", "Blocked hosts:"],
        Code::HttpHostRefused,
        "Rails refuses the name `{host}`: add it to `config.hosts`",
    ),
    // --- tunnels and platforms
    row(
        &[],
        ("ngrok-error-code", "ERR_NGROK_3200"),
        &[],
        Code::TunnelError,
        "the ngrok tunnel of this name is offline (ERR_NGROK_3200): start the agent with this name",
    ),
    row(
        &[],
        ("ngrok-error-code", "ERR_NGROK_8012"),
        &[],
        Code::TunnelError,
        "ngrok's agent runs and cannot reach the app (ERR_NGROK_8012): start the app, or give the agent its port",
    ),
    row(
        &[],
        ("ngrok-error-code", "ERR_NGROK_3004"),
        &[],
        Code::TunnelError,
        "ngrok's agent gets no HTTP from the app (ERR_NGROK_3004): the app speaks https or another protocol on this port: `ngrok http https://localhost:PORT`",
    ),
    row(
        &[],
        ("ngrok-error-code", "ERR_NGROK_6024"),
        &[],
        Code::TunnelError,
        "ngrok's warning page for visitors is in front of the app (ERR_NGROK_6024): send the field `ngrok-skip-browser-warning: 1`, or use a paid plan",
    ),
    row(
        &[],
        ("ngrok-error-code", "ERR_NGROK_72"),
        &[],
        Code::TunnelError,
        "the ngrok account has used up its limit (ERR_NGROK_72x): wait, or change the plan",
    ),
    row(
        &[],
        ("ngrok-error-code", ""),
        &[],
        Code::TunnelError,
        "ngrok itself answers with an error: its code is in the evidence (https://ngrok.com/docs/errors)",
    ),
    row(
        &[404],
        NO_FIELD,
        &["Faithfully yours, frp"],
        Code::TunnelError,
        "frp's server has no running proxy for `{host}`: start frpc on the board, and compare its `customDomains` with this name",
    ),
    row(
        &[404, 502, 503],
        NO_FIELD,
        &["no tunnel here", "tunnel not found", "tunnel is not connected", "tunnel not connected"],
        Code::TunnelError,
        "the tunnel's server has no running tunnel for `{host}`: start its client on the board",
    ),
    row(
        &[],
        NO_FIELD,
        &["X-Tunnel-Skip-AntiPhishing-Page", "about to connect to a developer tunnel"],
        Code::TunnelError,
        "the tunnel's warning page for visitors is in front of the app: send the field `X-Tunnel-Skip-AntiPhishing-Page: true`",
    ),
    row(
        &[401, 403, 408, 502, 503, 504, 511],
        NO_FIELD,
        &["bypass-tunnel-reminder", "loca.lt", "localtunnel"],
        Code::TunnelError,
        "localtunnel itself answers: its reminder page is in front of the app (send the field `bypass-tunnel-reminder: 1`), or its client on the board has ended",
    ),
    row(
        &[530],
        NO_FIELD,
        &["1033"],
        Code::TunnelError,
        "Cloudflare finds no running tunnel for this name (530, error 1033): start `cloudflared` on the board",
    ),
    row(
        &[404, 502],
        ("x-railway-fallback", "true"),
        &[],
        Code::TunnelError,
        "Railway itself answers, because no app listens for this name: let the app listen on 0.0.0.0 and the port in the variable PORT",
    ),
    row(
        &[404, 502, 503],
        ("x-render-routing", ""),
        &[],
        Code::TunnelError,
        "Render itself answers: the service does not exist, is suspended, or does not listen on the port in the variable PORT yet",
    ),
    row(
        &[404, 410, 500, 502, 503, 504],
        ("x-vercel-error", ""),
        &[],
        Code::TunnelError,
        "Vercel itself answers with an error; its functions hold no WebSockets or sessions: run the Socket.IO server elsewhere",
    ),
    row(
        &[404],
        NO_FIELD,
        &["no-such-app"],
        Code::TunnelError,
        "Heroku has no app for `{host}`: check the app's name and its domains (`heroku domains`)",
    ),
    row(
        &[503],
        NO_FIELD,
        &["herokucdn.com/error-pages"],
        Code::TunnelError,
        "Heroku itself answers: the app crashed or does not listen on the port in the variable PORT: see `heroku logs`",
    ),
    row(
        &[503],
        ("server", "awselb"),
        &[],
        Code::HttpUnavailable,
        "the AWS load balancer has no healthy target (503): see the health check of its target group: Socket.IO answers 404 on `/` and 400 on `/socket.io/`",
    ),
    row(&[403], ("x-amzn-errortype", ""), &[], Code::TunnelError, API_GATEWAY),
    row(
        &[400, 403, 404],
        ("apigw-requestid", ""),
        &["{\"message\":\"Not Found\"}", "{\"message\":\"Forbidden\"}", "{\"message\":\"Bad Request\"}"],
        Code::TunnelError,
        API_GATEWAY,
    ),
    row(
        &[403],
        NO_FIELD,
        &["does not have permission to get URL"],
        Code::EioUnauthorized,
        "Google's platform requires a sign-in here: let Cloud Run (App Engine, IAP) accept requests without authentication",
    ),
    row(
        &[403],
        NO_FIELD,
        &["RBAC: access denied"],
        Code::EioRefused,
        "Istio refuses the request (RBAC: access denied): add {path} to the rules of the AuthorizationPolicy",
    ),
    row(
        &[502, 503],
        NO_FIELD,
        &["reset reason: protocol error", "OPENSSL_internal:WRONG_VERSION_NUMBER"],
        Code::HttpBadGateway,
        "Envoy reaches the app, and the two speak different protocols: https and http, or HTTP/2 and HTTP/1.1 (Istio: the name of the Service's port, `http-…` or `https-…`)",
    ),
    row(
        &[502, 503],
        NO_FIELD,
        &["OPENSSL_internal:CERTIFICATE_VERIFY_FAILED"],
        Code::HttpBadGateway,
        "Envoy reaches the app and does not accept its certificate: give Envoy the app's CA (Istio: the DestinationRule's `tls`), or use plain HTTP to the app",
    ),
    row(
        &[500, 502],
        NO_FIELD,
        &["DNS lookup failure for"],
        Code::HttpBadGateway,
        "Apache cannot resolve the app's address in its ProxyPass: often the slash at its end is missing: `ProxyPass / http://127.0.0.1:3002/`",
    ),
    row(
        &[404],
        ("server", "cloudflare"),
        &["\0"],
        Code::EioNotFound,
        "nothing answers at {path} (404 through Cloudflare, without a body, as `cloudflared` sends it without a rule): add an ingress rule for `{host}` to the tunnel, or check the app's Socket.IO path",
    ),
    row(
        &[200],
        NO_FIELD,
        &["/@vite/client"],
        Code::EioNotSocketio,
        "Vite's dev server answers with its page: give {path} an entry in `server.proxy` with `ws: true`, or connect to the app's own port",
    ),
    row(
        &[403],
        NO_FIELD,
        &["this web app is stopped", "The web app you have attempted to reach is currently stopped"],
        Code::TunnelError,
        "Azure App Service says that the app is stopped (or has used up its quota): start it",
    ),
    // --- only files
    row(&[403, 404, 405], ("server", "AmazonS3"), &[], Code::EioNotFound, STATIC_HOSTING),
    row(&[404, 405], ("server", "Netlify"), &[], Code::EioNotFound, STATIC_HOSTING),
    row(&[404, 405], ("server", "GitHub.com"), &[], Code::EioNotFound, STATIC_HOSTING),
    row(
        &[403, 404, 405],
        NO_FIELD,
        &["<Code>NoSuchKey</Code>", "<Code>AccessDenied</Code>", "There isn't a GitHub Pages site here"],
        Code::EioNotFound,
        STATIC_HOSTING,
    ),
    row(
        &[511],
        NO_FIELD,
        &[],
        Code::HttpCaptive,
        "this network requires a login (511): log in at its page, or use another network",
    ),
    // --- Cloudflare's numbers, of other CDNs as well
    row(
        &[520],
        NO_FIELD,
        &[],
        Code::CdnOrigin,
        "the CDN got an empty or broken answer from your server (520): check the logs of the proxy and the app at the time of this run",
    ),
    row(
        &[521],
        NO_FIELD,
        &[],
        Code::CdnOrigin,
        "your server refuses the CDN's connections (521): start its proxy, and allow the CDN's addresses in the firewall",
    ),
    row(
        &[522],
        NO_FIELD,
        &[],
        Code::CdnOrigin,
        "your server does not answer the CDN's connections (522): forward the port in the router, and compare the A record at the CDN with your public address",
    ),
    row(
        &[523],
        NO_FIELD,
        &[],
        Code::CdnOrigin,
        "the CDN cannot reach your server (523): the address in its A record is wrong",
    ),
    row(
        &[524],
        NO_FIELD,
        &[],
        Code::CdnOrigin,
        "your server accepted the request and did not answer for 100 s (524): the app hangs",
    ),
    row(
        &[525],
        NO_FIELD,
        &[],
        Code::CdnOrigin,
        "the TLS handshake between the CDN and your server fails (525): the server has no TLS on that port, or no certificate for this name",
    ),
    row(
        &[526],
        NO_FIELD,
        &[],
        Code::CdnOrigin,
        "the CDN does not accept your server's certificate (526, mode Full (strict)): install one that is valid, or a certificate of the CDN's origin CA",
    ),
    row(
        &[527],
        NO_FIELD,
        &[],
        Code::CdnOrigin,
        "the CDN lost its connection to your server (527): check the CDN's listener on the server",
    ),
    row(
        &[530],
        NO_FIELD,
        &["1016"],
        Code::CdnOrigin,
        "the CDN cannot resolve your server's name (530, error 1016): fix the record that it points to, or the tunnel",
    ),
    row(
        &[530],
        NO_FIELD,
        &[],
        Code::CdnOrigin,
        "the CDN cannot reach your server (530): the error number on its page, 1xxx, says why",
    ),
    row(
        &[403, 409, 429, 503],
        NO_FIELD,
        &[
            "error code: 1005",
            "error code: 1006",
            "error code: 1007",
            "error code: 1008",
            "error code: 1009",
            "error code: 1010",
            "error code: 1012",
            "error code: 1015",
            "error code: 1020",
            "error code: 1106",
        ],
        Code::HttpChallenge,
        "a rule of Cloudflare refuses this client (the number is in the evidence): see Security, Events, and exempt {path}",
    ),
    row(
        &[403, 409, 530],
        NO_FIELD,
        &["error code: 1000", "error code: 1001", "error code: 1002", "error code: 1004", "error code: 1014"],
        Code::CdnOrigin,
        "Cloudflare cannot use its DNS record of `{host}` (the number is in the evidence; 1000, 1002: the address is Cloudflare's own or private; 1001, 1014: the CNAME does not resolve, or belongs to another account): let the record point to your server",
    ),
    row(
        &[403],
        NO_FIELD,
        &["error code: 1003"],
        Code::CdnOrigin,
        "the request reaches Cloudflare by an address, and not by the name of a site (1003): connect to the name, and let each proxy forward it as Host",
    ),
    row(
        &[],
        NO_FIELD,
        &["error code: 1101", "error code: 1102"],
        Code::CdnOrigin,
        "a Worker of Cloudflare in front of the app fails (error 1101, 1102): see its log, or exempt {path} from its route",
    ),
    // --- filters of a network
    row(
        &[200, 403, 503],
        NO_FIELD,
        &[
            "FortiGuard",
            "Web Page Blocked",
            "zscaler",
            "Cisco Umbrella",
            "ERR_ACCESS_DENIED",
            "internet usage policy",
        ],
        Code::HttpChallenge,
        "a web filter answers, of this network or in front of the server: let it permit `{host}`, or try from another network",
    ),
    row(
        &[200, 403, 406],
        NO_FIELD,
        &["The requested URL was rejected", "Your support ID is", "generated by Mod_Security"],
        Code::HttpChallenge,
        "a web application firewall in front of the app refuses the request: exempt {path}",
    ),
    // --- bot checks
    row(
        &[],
        ("cf-mitigated", "challenge"),
        &[],
        Code::HttpChallenge,
        "Cloudflare requires a browser to solve a challenge: create a rule that skips it for {path}",
    ),
    row(
        &[403, 503],
        NO_FIELD,
        &[
            "Just a moment...",
            "/cdn-cgi/challenge-platform",
            "Attention Required! | Cloudflare",
            "DDoS protection by",
            "Checking your browser before",
            "Checking if the site connection is secure",
        ],
        Code::HttpChallenge,
        "a bot check in front of the app blocks Socket.IO clients: create a rule that skips it for {path}",
    ),
    row(
        &[202, 405],
        ("x-amzn-waf-action", ""),
        &[],
        Code::HttpChallenge,
        "AWS WAF requires a browser (a challenge or captcha), which no Socket.IO client passes: exempt {path}",
    ),
    row(
        &[],
        ("x-vercel-mitigated", "challenge"),
        &[],
        Code::HttpChallenge,
        "Vercel's firewall requires a browser, which no Socket.IO client passes: exempt {path}",
    ),
    // --- a login
    row(
        &[200, 401, 403],
        NO_FIELD,
        &[
            "type=\"password\"",
            "type='password'",
            "type=password",
            "Sign in with",
            "oauth2/start",
            "authelia",
            "authentik",
            "cloudflareaccess.com",
        ],
        Code::HttpLogin,
        "a login page answers at {path}, which a Socket.IO client cannot pass: exempt the path from it",
    ),
    row(
        &[200, 401, 403, 429, 503],
        NO_FIELD,
        &[
            "ddos-guard",
            "_Incapsula_Resource",
            "Sucuri WebSite Firewall",
            "captcha-delivery.com",
            "px-captcha",
            "not a bot!",
            "within.website",
            "crowdsec captcha",
            "crowdsec access forbidden",
            "Generated by BunkerWeb",
        ],
        Code::HttpChallenge,
        "a bot check in front of the app blocks Socket.IO clients: create a rule that skips it for {path}",
    ),
    row(
        &[401, 403, 429, 503],
        NO_FIELD,
        &["g-recaptcha", "h-captcha", "cf-turnstile"],
        Code::HttpChallenge,
        "a captcha in front of the app blocks Socket.IO clients: create a rule that skips it for {path}",
    ),
    // --- too long
    row(
        &[400, 431, 494],
        NO_FIELD,
        &[
            "Header Or Cookie Too Large",
            "field exceeds server limit",
            "Header Fields Too Large",
            "Cookie Too Large",
        ],
        Code::HttpTooLong,
        "fields or cookies of the request are too long for the server: send less, or raise its limit",
    ),
    row(
        &[414, 431],
        NO_FIELD,
        &[],
        Code::HttpTooLong,
        "the address or the fields of the request are too long for the server: send less, or raise its limit",
    ),
    // --- a proxy without a site for this host
    row(
        &[200],
        NO_FIELD,
        &[
            "Welcome to nginx!",
            "started the Nginx Proxy Manager",
            "Apache2 Debian Default Page",
            "Apache2 Ubuntu Default Page",
            "<h1>It works!</h1>",
            "IIS Windows Server",
            "Caddy works!",
            "Test Page for the HTTP Server",
            "Default Web Site Page",
            "Domain Default page",
            "Synology Web Station",
            "web station has been enabled",
            "<title>Web Server's Default Page</title>",
            "Welcome to CentOS",
            "Welcome to OpenResty",
        ],
        Code::HttpDefaultSite,
        "the default page of the proxy answers: it has no site for `{host}`, or this site does not forward {path} to the app",
    ),
    row(
        &[301, 302],
        ("location", "/cgi-sys/defaultwebpage.cgi"),
        &[],
        Code::HttpDefaultSite,
        "the default page of cPanel answers: it has no site for `{host}` at this address",
    ),
    row(
        &[200, 403],
        NO_FIELD,
        &[
            "\"/lander\"",
            "sedoparking",
            "parkingcrew",
            "parklogic",
            "bodis.com",
            "domain is parked",
            "domain is for sale",
            "domain may be for sale",
            "parked free",
        ],
        Code::HttpDefaultSite,
        "the registrar's page for unused domains answers: put the address of your server into the A record of `{host}`",
    ),
    row(
        &[400],
        NO_FIELD,
        &["Invalid Hostname", "request hostname is invalid"],
        Code::HttpDefaultSite,
        "IIS has no site for `{host}`, or an ASP.NET Core app does not allow it: add the name to the bindings of the site (ASP.NET Core: `AllowedHosts`)",
    ),
    row(
        &[404],
        NO_FIELD,
        &["404 Web Site not found", "Microsoft Azure Web App - Error 404"],
        Code::HttpDefaultSite,
        "Azure App Service has no app for `{host}`: add the name as a custom domain, or let the proxy send the app's own name as Host",
    ),
    row(
        &[404],
        NO_FIELD,
        &["no Route matched with those values"],
        Code::HttpDefaultSite,
        "Kong has no route for `{host}` and {path}: add one, with `strip_path: false`",
    ),
    row(
        &[404],
        ("server", "envoy"),
        &["\0"],
        Code::HttpDefaultSite,
        "Envoy itself answers 404: none of its routes has `{host}` with this path (Istio: VirtualService and Gateway; HTTPRoute)",
    ),
    // --- an old server
    row(
        &[200],
        NO_FIELD,
        &["Welcome to socket.io"],
        Code::EioOldServer,
        "the server is Socket.IO 0.9, to which no client of 1.x or later can connect: update it",
    ),
    row(
        &[503],
        NO_FIELD,
        &[
            "under maintenance",
            "maintenance mode",
            "scheduled maintenance",
            "down for maintenance",
            "Be right back",
        ],
        Code::HttpUnavailable,
        "a maintenance page answers (503): end the maintenance mode of the app or the proxy",
    ),
    row(
        &[500],
        ("server", "Apache"),
        &["internal error or"],
        Code::HttpError,
        "Apache itself fails (500), and its error log says why: often a module is missing (`a2enmod proxy_http proxy_wstunnel`)",
    ),
    row(
        &[200],
        ("server", "Caddy"),
        &["\0"],
        Code::HttpDefaultSite,
        "Caddy sends an empty answer, as it does if no rule matches: it has no site for `{host}`, or none of its rules covers {path}",
    ),
    row(
        &[404],
        NO_FIELD,
        &["404 page not found"],
        Code::EioNotFound,
        "nothing answers at {path} (404, in the words of Traefik and other Go programs): no router of Traefik has `{host}` and this path, or the app is a Go program without Socket.IO",
    ),
    row(
        &[404],
        NO_FIELD,
        &["default backend - 404"],
        Code::HttpDefaultSite,
        "the ingress's default backend answers: no Ingress has `{host}` with a path that covers {path}",
    ),
    // --- IIS
    row(
        &[502],
        NO_FIELD,
        &["502.3", "502 - Web server received an invalid response while acting as a gateway"],
        Code::HttpBadGateway,
        "IIS (ARR) cannot reach the app behind it (502.3): is the app running, and on that port?",
    ),
];

/// The row that an answer matches; its sentence still has `{path}` and `{host}`.
pub(super) fn read(answer: &Answer, tls: bool) -> Option<(Code, &'static str)> {
    let body = answer.body.to_ascii_lowercase();
    // Envoy also puts its name on the app's responses, and adds this field to those alone.
    let is_of_envoys_app = answer.field("x-envoy-upstream-service-time").is_some();
    let fits = |row: &&Row| {
        let (name, value) = row.field;
        (row.statuses.is_empty() || row.statuses.contains(&answer.status))
            && !(is_of_envoys_app && value == "envoy")
            && (name.is_empty()
                || answer.field(name).is_some_and(|there| holds(&there.to_ascii_lowercase(), value)))
            && (row.body.is_empty() || row.body.iter().any(|part| holds(&body, part)))
    };
    let found = ROWS.iter().find(fits)?;
    let says = match found.code {
        Code::HttpTlsExpected if tls => {
            "the proxy uses plain HTTP to the app, and the app expects https: write https:// in the proxy's upstream address, or disable TLS in the app"
        }
        Code::HttpTlsExpected => "this port expects TLS and gets plain HTTP: connect with https://",
        _ => found.says,
    };
    Some((found.code, says))
}

/// Whether `body`, in small letters, contains `part`; the part `\0` stands for an empty body.
fn holds(body: &str, part: &str) -> bool {
    if part == "\0" { body.is_empty() } else { body.contains(&part.to_ascii_lowercase()) }
}

/// Fields by which a server names an error of its own (`ngrok-error-code`, `x-squid-error`, …).
pub(super) fn error_fields(answer: &Answer) -> Vec<String> {
    let named = answer.fields.iter().filter(|(name, _)| {
        let name = name.as_str();
        name != "sanedge-error"
            && ["-error", "-error-code", "-errortype", "-fallback", "-mitigated", "-routing"]
                .iter()
                .any(|end| name.ends_with(end))
    });
    named.filter_map(|(name, value)| Some(format!("{name}: {}", value.to_str().ok()?))).take(3).collect()
}

/// Whether a URL is that of a login page.
pub(super) fn is_login(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    [
        "login",
        "signin",
        "sign-in",
        "sign_in",
        "oauth",
        "/sso",
        "/auth",
        "authelia",
        "authentik",
        "cloudflareaccess.com",
        "outpost.goauthentik",
        "accounts.google",
    ]
    .iter()
    .any(|word| path.contains(word))
}

/// Whether a 404 is a web server's own: nginx, Apache, IIS, lighttpd, Caddy.
pub(super) fn is_of_a_file_server(answer: &Answer) -> bool {
    let server = answer.field("server").unwrap_or_default();
    let empty_of_caddy =
        server == "Caddy" && answer.body.is_empty() && answer.field("x-powered-by").is_none();
    let lighttpd = server.starts_with("lighttpd") && answer.body.contains("<h1>404");
    let words = [
        "requested URL was not found on this server.",
        "404 - File or directory not found",
        "HTTP Error 404.0",
    ];
    answer.is_nginx_itself() || empty_of_caddy || lighttpd || words.iter().any(|w| answer.body.contains(w))
}

/// The framework whose own 404 this is.
pub(super) fn app_that_answers(answer: &Answer) -> Option<&'static str> {
    let server = answer.field("server").unwrap_or_default().to_ascii_lowercase();
    let by_server =
        ["aiohttp", "uvicorn", "werkzeug", "gunicorn", "daphne", "hypercorn", "kestrel", "tornado", "jetty"];
    if let Some(name) = by_server.into_iter().find(|name| server.contains(name)) {
        return Some(name);
    }
    if answer.field("x-powered-by") == Some("Next.js") {
        return Some("Next.js");
    }
    let body = answer.body.trim();
    let words = [
        ("{\"detail\":\"Not Found\"}", "FastAPI or Starlette"),
        ("If you entered the URL manually please check your spelling", "Flask"),
        ("The requested resource was not found on this server.", "Django"),
        ("\"statusCode\":404", "hapi or Nest"),
        ("404: Not Found", "aiohttp or Tornado"),
        ("\"status\":404,\"error\":\"Not Found\"", "Rails or Spring"),
    ];
    words.into_iter().find(|(words, _)| body.contains(words)).map(|(_, name)| name)
}

/// Whether an answer repeats the requested path, which shows that its sender received it.
pub(super) fn repeats(body: &str, path: &str) -> bool {
    path.len() > 1 && body.contains(path)
}

/// The path in an app's error: `Cannot GET /path` of Express and Nest, `Route GET:/path` of Fastify,
/// `"path":"/path"` of Spring, `No route matches [GET] "/path"` of Rails.
pub(super) fn path_asked(body: &str) -> Option<String> {
    let signs = ["Cannot GET ", "Route GET:", "\"path\":\"", "No route matches [GET] \""];
    let (_, rest) = signs.iter().find_map(|sign| body.split_once(sign))?;
    let path: String =
        rest.chars().take_while(|c| c.is_ascii_graphic() && !matches!(c, '<' | '?' | '"' | '&')).collect();
    path.starts_with('/').then_some(path)
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderMap, HeaderName};

    use super::*;

    fn answer(status: u16, field: (&str, &str), body: &str) -> Answer {
        let mut fields = HeaderMap::new();
        if !field.0.is_empty() {
            fields.insert(HeaderName::from_bytes(field.0.as_bytes()).unwrap(), field.1.parse().unwrap());
        }
        Answer { status, fields, body: body.to_owned(), is_cut: false, has_bare_lf: false }
    }

    fn code(status: u16, field: (&str, &str), body: &str) -> Option<Code> {
        read(&answer(status, field, body), true).map(|(code, _)| code)
    }

    #[test]
    fn each_row_is_reached() {
        for row in ROWS {
            let status = row.statuses.first().copied().unwrap_or(200);
            let body = row.body.first().map_or("", |part| if *part == "\0" { "" } else { part });
            let read = read(&answer(status, row.field, body), true);
            assert_eq!(read.map(|(code, _)| code), Some(row.code), "{status} {body}");
            assert!(
                row.code == Code::HttpTlsExpected || read.is_some_and(|(_, says)| says == row.says),
                "{}",
                row.says
            );
        }
    }

    #[test]
    fn numbers_and_words_of_ordinary_answers_mean_nothing_by_themselves() {
        for (status, body) in [
            (404, "Cannot GET /socket.io/"),
            (400, "{\"code\":1,\"message\":\"Session ID unknown\"}"),
            (502, "<center>nginx</center>"),
            (503, "no server is available to handle this request"),
            // Apache's, if the app is down.
            (
                503,
                "The server is temporarily unable to service your request due to maintenance downtime or capacity problems.",
            ),
            (403, "forbidden"),
            (200, ""),
            (200, "<!doctype html><div id=app></div>"),
            (401, "Unauthorized"),
        ] {
            assert_eq!(code(status, NO_FIELD, body), None, "{status} {body}");
        }
    }

    #[test]
    fn one_status_with_different_bodies_is_distinguished() {
        assert_eq!(code(530, NO_FIELD, "error code: 1033"), Some(Code::TunnelError));
        assert_eq!(code(530, NO_FIELD, "error code: 1016"), Some(Code::CdnOrigin));
        assert_eq!(code(503, NO_FIELD, "<title>Just a moment...</title>"), Some(Code::HttpChallenge));
        assert_eq!(code(503, ("server", "awselb/2.0"), ""), Some(Code::HttpUnavailable));
        assert_eq!(code(404, ("ngrok-error-code", "ERR_NGROK_3200"), ""), Some(Code::TunnelError));
        let says = |tls| {
            read(&answer(400, NO_FIELD, "Client sent an HTTP request to an HTTPS server."), tls).unwrap().1
        };
        assert!(says(true).contains("the app expects https") && says(false).contains("connect with https"));
    }

    #[test]
    fn an_app_that_repeats_the_path_shows_what_the_proxy_made_of_it() {
        assert_eq!(path_asked("<pre>Cannot GET /socket.io</pre>").as_deref(), Some("/socket.io"));
        assert_eq!(path_asked("Cannot GET /x/?EIO=4").as_deref(), Some("/x/"));
        assert_eq!(path_asked(r#"{"status":404,"path":"/x/socket.io/"}"#).as_deref(), Some("/x/socket.io/"));
        assert_eq!(path_asked("No route matches [GET] \"/s\"").as_deref(), Some("/s"));
        assert!(repeats("Cannot GET /socket.io/", "/socket.io/") && !repeats("Cannot GET /", "/"));
        assert!(!repeats("Cannot GET /socket.io", "/socket.io/"));
        assert_eq!(path_asked("Cannot POST /x"), None);
        assert_eq!(path_asked("Cannot GET the page"), None);
    }

    #[test]
    fn a_web_servers_own_404_is_told_from_an_apps() {
        let own = |field, body| is_of_a_file_server(&answer(404, field, body));
        assert!(own(NO_FIELD, "<hr><center>nginx/1.22.1</center>"));
        assert!(own(NO_FIELD, "<p>The requested URL was not found on this server.</p>"));
        assert!(own(("server", "Caddy"), "") && own(("server", "lighttpd/1.4.69"), "<h1>404 Not Found</h1>"));
        // Flask's, an empty one of an app, an app's behind Caddy.
        assert!(!own(NO_FIELD, "The requested URL was not found on the server. If you entered"));
        assert!(!own(NO_FIELD, "") && !own(("server", "Caddy"), "Cannot GET /"));
    }

    #[test]
    fn fields_that_name_an_error_are_evidence() {
        assert_eq!(
            error_fields(&answer(503, ("x-squid-error", "ERR_CONNECT_FAIL 111"), "")),
            ["x-squid-error: ERR_CONNECT_FAIL 111"]
        );
        assert!(error_fields(&answer(503, ("server", "nginx"), "")).is_empty());
        assert!(
            is_login("/users/sign_in")
                && is_login("https://x.cloudflareaccess.com/cdn-cgi/access/login")
                && !is_login("/socket.io/")
        );
    }
}
