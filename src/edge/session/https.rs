//! One client connection: its TLS handshake, its requests one after the other, and the WebSocket that one of them
//! may become. Each phase is a future of its own, freed when the next begins.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::spawn_local;
use tokio::time::{Instant, timeout};
use tracing::info;

use crate::edge::net::linger::finish;
use crate::edge::net::pool::{Connection, OwnConnection, Want};
use crate::edge::net::tls::{Alert, Refused, TlsStream};
use crate::edge::net::upstream::Dial;
use crate::edge::session::alarm::Alarm;
use crate::edge::session::exchange::{self, End, ExchangeLimits, Input, Request};
use crate::edge::session::pace::Pace;
use crate::edge::session::proxy_header;
use crate::edge::session::relay::Relay;
use crate::edge::session::worker::{EVICTED, Permit, Worker, unless_evicted};
use crate::edge::shared::active_config::{ActiveConfig, Identity, RouteState};
use crate::edge::shared::eviction::Evictable;
use crate::engineio::Asks;
use crate::http::answer::{self, AnswerForm, Detail, Problem};
use crate::http::body::Framing;
use crate::http::bound_auth;
use crate::http::forward::{ForwardContext, client_address, request_plan};
use crate::http::head::{HeadError, HeadScanner, RequestHead, parse_scanned_request};
use crate::names::Host;
use crate::ops::access::Line;
use crate::ops::log::{Said, ShownTarget};
use crate::ops::metrics::Reason;
use crate::proxy_protocol::{WRITTEN_BYTES_MAX, header};
use crate::route;
use crate::ws::handshake;

/// After the last response bytes of the client are thrown away, so that a reset does not overtake the response on its way (RFC 9112
/// §9.6): how long the first may take, how long after each the next, and all together.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BETWEEN: Duration = Duration::from_secs(5);
const LINGER_MAX: Duration = Duration::from_secs(30);

/// From the end of its handshake a client may take this long for its first request although a drain begins: its new
/// connection was taken, and what it is sending must not be lost.
const NEWCOMER: Duration = Duration::from_secs(1);
/// What a client may know of a trouble with its upstream.
const UPSTREAM_CHECK: &str =
    "The log of the edge, and `sanedge status` on its machine, say which app this is about.";

/// Runs a session from its first byte to its last.
pub(crate) async fn run(
    worker: Rc<Worker>,
    mut stream: TcpStream,
    peer: IpAddr,
    mut permit: Permit,
    evictable: Evictable,
) {
    let handshaken = async {
        let named = proxy_header::client(&worker, &mut stream, peer, &mut permit).await?;
        let (client, identity) =
            handshake(&worker, stream, named.ip(), permit.is_limited(), &evictable).await?;
        Some((named, client, identity))
    };
    let handshaken = unless_evicted(&worker, &evictable, peer, Box::pin(handshaken)).await;
    let Some((named, client, identity)) = handshaken.flatten() else { return };
    worker.shared.eviction.handshake_done(&evictable);
    let session = Session {
        worker: Rc::clone(&worker),
        client,
        input: Input::default(),
        alarm: Alarm::default(),
        identity,
        peer: named.ip(),
        peer_port: named.port(),
        newcomer_until: Some(Instant::now() + NEWCOMER),
        evictable,
        requests: 0,
        own: None,
    };
    poll_fn(|cx| {
        permit.wake_at_drain(cx.waker());
        Poll::Ready(())
    })
    .await;
    if let Some((relay, route)) = Box::pin(session.serve()).await {
        permit.sleep_on();
        // A task of its own: this one's memory, sized for a handshake and an exchange, is freed.
        spawn_local(relay.run(permit, &route.rules));
    }
}

/// Why a hello is not answered.
enum Unanswered {
    Unknown(Option<String>),
    Full,
    Rate,
}

async fn handshake(
    worker: &Worker,
    stream: TcpStream,
    peer: IpAddr,
    is_limited: bool,
    evictable: &Evictable,
) -> Option<(TlsStream, Identity)> {
    let shared = &worker.shared;
    let (time, tls_buffer_bytes) = {
        let limits = &shared.active.load().bundle.limits;
        (Duration::from_millis(limits.handshake_timeout_ms.into()), limits.tls_buffer_bytes as usize)
    };
    let accept = TlsStream::accept(stream, tls_buffer_bytes, |name| {
        let active = shared.active.load();
        // Only now: a connection that says nothing must not take the place of one that does.
        let limits = &active.bundle.limits;
        // What is refused for other reasons must not have sent another away for its place.
        let unknown = || (Alert::UnrecognizedName, Unanswered::Unknown(name.map(str::to_owned)));
        let (config, identity) = active.identify(name).ok_or_else(unknown)?;
        if is_limited && !shared.may_handshake(limits.handshakes_per_s_max) {
            return Err((Alert::InternalError, Unanswered::Rate));
        }
        let place =
            shared.handshaking(limits.handshakes_max).ok_or((Alert::InternalError, Unanswered::Full))?;
        shared.eviction.handshake_begins(evictable);
        Ok((config, (identity, place)))
    });
    match timeout(time, accept).await {
        Ok(Ok((client, (identity, _place)))) => {
            shared.counters.handshakes_total.increment();
            return Some((client, identity));
        }
        Ok(Err(Refused::Name(Unanswered::Full))) => {
            shared.refuse(Reason::Full, peer, "handshakes_max reached")
        }
        Ok(Err(Refused::Name(Unanswered::Rate))) => {
            shared.refuse(Reason::HandshakeRate, peer, "handshakes_per_s_max reached");
        }
        Ok(Err(Refused::Name(Unanswered::Unknown(Some(name))))) => {
            shared.refuse(Reason::UnknownServerName, peer, &name);
        }
        Ok(Err(Refused::Name(Unanswered::Unknown(None)))) => {
            shared.refuse(
                Reason::NoServerName,
                peer,
                "ClientHello without a server name; set default_host to answer it",
            );
        }
        Ok(Err(Refused::PlainHttp(stream))) => {
            shared.refuse(
                Reason::Handshake,
                peer,
                "plain HTTP on the TLS port; the client must use https://",
            );
            let mut bytes = Vec::new();
            let form = AnswerForm { close: true, ..AnswerForm::default() };
            answer::write(Problem::PlainHttp, &Detail::default(), form, &mut bytes);
            let _ = timeout(time, finish(stream, &bytes)).await;
        }
        Ok(Err(Refused::Handshake(error))) if error.kind() == io::ErrorKind::UnexpectedEof => {
            shared.refuse(Reason::Handshake, peer, "the client closed during the handshake");
        }
        Ok(Err(Refused::Handshake(error))) => shared.refuse(Reason::Handshake, peer, &error.to_string()),
        Err(_) => shared.refuse(Reason::HandshakeTimeout, peer, "handshake_timeout reached"),
    }
    None
}

struct Session {
    worker: Rc<Worker>,
    client: TlsStream,
    input: Input,
    alarm: Alarm,
    identity: Identity,
    /// Of the TCP connection, or as a PROXY protocol header named it.
    peer: IpAddr,
    peer_port: u16,
    /// None once it has sent a request.
    newcomer_until: Option<Instant>,
    /// Until it is a WebSocket's.
    evictable: Evictable,
    /// Heads that were read.
    requests: u32,
    /// An upstream connection that is authenticated for this client, and waits for its next request.
    own: Option<Box<OwnConnection>>,
}

/// Why no request came.
enum NoHead {
    /// The client or the keep-alive time ended, it was evicted, or the edge drains: nothing to say.
    Over,
    Slow,
    Bad(HeadError),
}

/// What becomes of a request.
#[allow(clippy::large_enum_variant)] // boxing it would allocate for every exchange
enum Decision {
    Forward(Request, Option<Box<Access>>),
    Answer(Answer),
}

struct Answer {
    problem: Problem,
    found: String,
    check: Option<String>,
    /// What the log says in place of `check`, where that is not for everybody.
    check_inside: Option<String>,
    form: AnswerForm,
    access: Option<Box<Access>>,
}

impl Answer {
    fn closing(problem: Problem, found: String) -> Self {
        let form = AnswerForm { close: true, ..AnswerForm::default() };
        Self { problem, found, check: None, check_inside: None, form, access: None }
    }
}

impl Session {
    /// Serves requests until the connection ends, or becomes a WebSocket.
    #[allow(clippy::manual_async_fn)] // that would keep `self` twice, and so each idle connection
    fn serve(mut self) -> impl Future<Output = Option<(Relay, Arc<RouteState>)>> {
        async move {
            let mut answered_in_drain = false;
            loop {
                // A connection may rest for long: meanwhile it holds no bundle, and its next request asks the one of then.
                let head = self.read_head().await;
                // Whatever comes now may take its time.
                if !self.worker.shared.eviction.request_begins(&self.evictable) {
                    // No proper close, which would hold its place for longer.
                    self.worker.shared.refuse(Reason::Evicted, self.peer, EVICTED);
                    return None;
                }
                let active = self.worker.shared.active.load_full();
                let decision = match head {
                    Ok(scanner) => self.decide(&active, &scanner),
                    Err(NoHead::Over) => break,
                    Err(NoHead::Slow) => {
                        let found = "the request head did not arrive within head_timeout".to_owned();
                        Decision::Answer(Answer::closing(Problem::RequestTimeout, found))
                    }
                    Err(NoHead::Bad(error)) => {
                        Decision::Answer(Answer::closing(error.problem(), error.to_string()))
                    }
                };
                let dial = Dial {
                    time: Duration::from_millis(active.bundle.limits.connect_timeout_ms.into()),
                    socket_buffer_bytes: active.bundle.limits.socket_buffer_bytes as usize,
                };
                // An exchange may last for months: it holds its route, never the bundle with its keys.
                drop(active);
                // By reference: a request moved out of it would have its place in this future twice.
                let keep = match &decision {
                    Decision::Answer(answer) => {
                        if let Some(access) = &answer.access {
                            let status = answer.problem.status();
                            access.log(&self.worker, status, answer.problem.code(), Duration::ZERO);
                        }
                        self.answer(answer).await
                    }
                    Decision::Forward(request, access) => {
                        let started = access.as_ref().map(|_| Instant::now());
                        let end = self.forward(request, dial).await;
                        let status = match &end {
                            End::Failed(problem, _) => problem.status(),
                            _ => request.status.get(),
                        };
                        request.tally.responded(status);
                        if let (Some(access), Some(started)) = (access, started) {
                            access.log(&self.worker, status, outcome(&end), started.elapsed());
                        }
                        match end {
                            End::Upgraded(upgraded) => {
                                let route = Arc::clone(&request.route);
                                self.input.compact(&self.worker);
                                let tally = Arc::clone(&request.tally);
                                let relay = upgraded.relay(
                                    self.client,
                                    &route.rules,
                                    request.client,
                                    tally,
                                    &self.worker,
                                );
                                return Some((relay, route));
                            }
                            End::Next => true,
                            End::Failed(problem, found) => {
                                self.answer(&self.upstream_answer(request, problem, found)).await
                            }
                            End::Close | End::Again => false,
                            End::Broken => return None,
                            End::BrokenOff(problem, found) => {
                                self.note(&self.upstream_answer(request, problem, found));
                                return None;
                            }
                        }
                    }
                };
                answered_in_drain = self.worker.drain().is_some();
                if !keep {
                    break;
                }
                self.input.compact(&self.worker);
                self.evictable.request_done();
            }
            self.close().await;
            if self.worker.drain().is_some() {
                let endings = &self.worker.shared.endings;
                if answered_in_drain { &endings.exchanges } else { &endings.idle }.increment();
            }
            None
        }
    }

    /// Reads until a head is complete; the scanner that found its end.
    async fn read_head(&mut self) -> Result<HeadScanner, NoHead> {
        let (head_limits, head_time, idle_time) = {
            let active = self.worker.shared.active.load();
            let limits = &active.bundle.limits;
            let times = [limits.head_timeout_ms, limits.keepalive_timeout_ms];
            let [head_time, idle_time] = times.map(|time| Duration::from_millis(time.into()));
            (active.head_limits, head_time, idle_time)
        };
        let mut scanner = HeadScanner::request();
        let mut begun = !self.input.all().is_empty();
        let mut due = Instant::now() + if begun { head_time } else { idle_time };
        let worker = Rc::clone(&self.worker);
        poll_fn(|cx| {
            loop {
                let all = self.input.all();
                if scanner.scan(all, &head_limits).map_err(NoHead::Bad)?.is_some() {
                    return Poll::Ready(Ok(scanner));
                }
                if !begun && !all.is_empty() {
                    begun = true;
                    due = Instant::now() + head_time;
                }
                let head_bytes_max = head_limits.head_bytes_max;
                match self.input.poll_fill(cx, &mut self.client, &worker, head_bytes_max) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(NoHead::Over)),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Pending => break,
                }
            }
            if !begun && worker.drain().is_some() {
                let until = self.newcomer_until.filter(|until| *until > Instant::now());
                let Some(until) = until else { return Poll::Ready(Err(NoHead::Over)) };
                due = until;
            }
            if self.evictable.poll_evicted(cx).is_ready() {
                return Poll::Ready(Err(NoHead::Over));
            }
            ready!(self.alarm.poll(cx, due));
            if begun {
                return Poll::Ready(Err(NoHead::Slow));
            }
            worker.shared.count(Reason::Idle);
            Poll::Ready(Err(NoHead::Over))
        })
        .await
    }

    /// Decides where the request at the front of the input goes, by the bundle of this moment.
    fn decide(&mut self, active: &ActiveConfig, scanner: &HeadScanner) -> Decision {
        self.requests = self.requests.saturating_add(1);
        let all = self.input.all();
        let head_bytes = scanner.end().unwrap_or(all.len());
        let decision = match parse_scanned_request(all.get(..head_bytes).unwrap_or_default(), scanner) {
            Ok(head) => {
                let mut decision = self.decide_head(active, head_bytes, &head);
                if let Decision::Answer(answer) = &mut decision {
                    answer.access = self.refused_access(active, &head);
                }
                decision
            }
            Err(error) => Decision::Answer(Answer::closing(error.problem(), error.to_string())),
        };
        self.worker.shared.counters.exchanges_total.increment();
        if self.is_last_request(active) {
            self.worker.shared.count(Reason::Requests);
        }
        self.newcomer_until = None;
        self.input.consume(head_bytes);
        decision
    }

    /// The one with which `requests_max` is reached.
    fn is_last_request(&self, active: &ActiveConfig) -> bool {
        let most = active.bundle.limits.requests_max;
        most != 0 && self.requests >= most
    }

    fn decide_head(&self, active: &ActiveConfig, head_bytes: usize, head: &RequestHead<'_>) -> Decision {
        // What follows a body or an upgrade that we refuse may be anything but the next head.
        let ends_here = head.framing != Framing::None || head.fields.values("upgrade").next().is_some();
        let keep_alive = head.keep_alive && !self.is_last_request(active);
        let form = AnswerForm {
            html: answer::wants_html(head),
            close: ends_here || !keep_alive || self.worker.drain().is_some(),
            head_only: head.method == "HEAD",
        };
        let refuse = |problem, found: String, check| {
            Decision::Answer(Answer { problem, found, check, check_inside: None, form, access: None })
        };
        // RFC 9110 §7.4: what was asked for without TLS is not what is here.
        if head.target.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http:")) {
            return refuse(Problem::Misdirected, "an http: target on a TLS connection".to_owned(), None);
        }
        if route::check_host(&head.host, self.identity.name.as_deref(), &self.identity.covered).is_err() {
            return refuse(Problem::Misdirected, head.host.to_string(), None);
        }
        let (Some(site), Some(tally)) = (active.site(&head.host), active.tally(&head.host)) else {
            return refuse(Problem::Misdirected, head.host.to_string(), None);
        };
        let route = match route::find(site.0, head.path.as_bytes()) {
            Ok(found) => found.and_then(|(index, _)| site.1.get(index)),
            Err(error) => return refuse(Problem::AmbiguousPath, error.to_string(), None),
        };
        let Some(route) = route else {
            return refuse(Problem::UnknownPath, head.path.to_owned(), None);
        };
        let rules = &route.rules;
        let client = client_address(self.peer, head, &active.bundle.trusted_proxies);
        if !rules.allow.is_empty() && !rules.allow.iter().any(|network| network.contains(&client)) {
            return refuse(Problem::AddressRefused, client.to_string(), None);
        }
        if let (Framing::Length(length), Some(limit)) = (head.framing, rules.body_bytes_max)
            && length > limit
        {
            return refuse(Problem::BodyTooLarge, format!("{length} bytes: expected at most {limit}"), None);
        }
        let offer = match handshake::request(head, !rules.check_utf8) {
            Ok(offer) => offer,
            Err(error) => return refuse(error.problem(), error.to_string(), None),
        };
        if offer.is_some()
            && let Err(error) = active.check_origin(rules, rules.require_origin, head)
        {
            let (check, check_inside) = (Some(error.remedy), Some(error.remedy_inside));
            let (problem, found) = (Problem::OriginRefused, error.found);
            return Decision::Answer(Answer { problem, found, check, check_inside, form, access: None });
        }
        if offer.is_some() && !self.worker.shared.may_upgrade(active, client) {
            let found = "address_websockets_per_s_max reached".to_owned();
            return refuse(Problem::TooManyRequests, found, None);
        }
        if offer.is_none() {
            self.foresee(active, route, head);
        }
        let strip_bytes = match route::stripped(rules, head.path.as_bytes()) {
            Ok(bytes) => bytes,
            Err(error) => return refuse(Problem::AmbiguousPath, error.to_string(), None),
        };
        let context = ForwardContext {
            peer: self.peer,
            trusted_proxies: &active.bundle.trusted_proxies,
            public_https_port: active.bundle.listen.public_https_port,
            websocket: offer.is_some(),
            strip_bytes,
            extensions: !rules.check_utf8,
        };
        let plan = match request_plan(head, &context) {
            Ok(plan) => plan,
            Err(error) => return refuse(error.problem(), error.to_string(), None),
        };
        let request = Request {
            plan,
            head_bytes,
            framing: head.framing,
            version: head.version,
            is_head: head.method == "HEAD",
            repeatable: head.framing == Framing::None && matches!(head.method, "GET" | "HEAD" | "OPTIONS"),
            keep_alive,
            expects_continue: head.expects_continue,
            binds: bound_auth::carries(&head.fields),
            wants_html: form.html,
            client,
            host: head.host.clone(),
            status: Cell::new(0),
            offer,
            route: Arc::clone(route),
            choice: self.worker.shared.sids.choose(route, head, client, Instant::now()),
            tally: Arc::clone(tally),
            limits: ExchangeLimits {
                head: active.head_limits,
                response_head: active.response_head_limits,
                pace: Pace::of(&active.bundle.limits),
                pool_idle_max: match rules.send_proxy_protocol {
                    Some(_) => 0, // it was this client's alone
                    None => active.bundle.limits.pool_idle_max.into(),
                },
            },
        };
        let access = rules.access_log.then(|| Access::new(head, client));
        Decision::Forward(request, access)
    }

    /// For a request that gets no further: by its route, where it has none by any of its site's. Where no site has its
    /// host it is of the one that the connection was opened for.
    fn refused_access(&self, active: &ActiveConfig, head: &RequestHead<'_>) -> Option<Box<Access>> {
        let named = || active.site(self.identity.name.as_deref()?);
        let (site, routes) = active.site(&head.host).or_else(named)?;
        let route = route::find(site, head.path.as_bytes()).ok().flatten().and_then(|(at, _)| routes.get(at));
        let is_wanted = match route {
            Some(route) => route.rules.access_log,
            None => routes.iter().any(|route| route.rules.access_log),
        };
        let client = || client_address(self.peer, head, &active.bundle.trusted_proxies);
        is_wanted.then(|| Access::new(head, client()))
    }

    /// A page that opens a session by polling wants a WebSocket next. That its origin will be refused then is said here,
    /// once a minute for each route: polling alone works, and nobody would look for the reason.
    fn foresee(&self, active: &ActiveConfig, route: &RouteState, head: &RequestHead<'_>) {
        // Pages of the site's own origin name none where they poll: most requests end here.
        if head.fields.values("origin").next().is_none() || Asks::of(head) != Asks::Open {
            return;
        }
        let Err(error) = active.check_origin(&route.rules, false, head) else { return };
        if route.foreign_news.is_due(self.worker.shared.uptime()) {
            let (found, check) = (Said(&error.found), error.remedy_inside);
            info!(host = %head.host, peer = %self.peer, %found, check, "refused as a WebSocket");
        }
    }

    async fn forward(&mut self, request: &Request, dial: Dial) -> End {
        if let Some(connection) = self.own_connection(request) {
            let end = self.exchange(request, connection).await;
            if !matches!(end, End::Again) {
                return end;
            }
            return self.forward_anew(request, dial, true).await;
        }
        self.forward_anew(request, dial, false).await
    }

    /// The upstream connection that is this client's alone, where the request may go there and it is still open.
    fn own_connection(&mut self, request: &Request) -> Option<Connection> {
        // Where a PROXY protocol header belongs, it has none; and a session of Engine.IO stays where it is.
        let chosen = request.route.upstreams.get(request.choice.first);
        let chosen = chosen.filter(|_| request.route.rules.send_proxy_protocol.is_none())?;
        self.own.take_if(|own| own.is_to(chosen))?.usable()
    }

    async fn exchange(&mut self, request: &Request, connection: Connection) -> End {
        exchange::run(
            &self.worker,
            &mut self.client,
            &mut self.input,
            &mut self.alarm,
            request,
            connection,
            &mut self.own,
        )
        .await
    }

    async fn forward_anew(&mut self, request: &Request, dial: Dial, again: bool) -> End {
        let preface = self.preface(request);
        let mut want = match (&request.offer, request.repeatable) {
            // What a header says of a connection holds for all of it.
            _ if again || preface.is_some() => Want::New,
            (Some(_), _) => Want::New,
            (None, true) => Want::Repeatable,
            (None, false) => Want::Once,
        };
        loop {
            let connected = self
                .worker
                .pool
                .connect(&request.route.upstreams, request.choice.first, &request.host, want, dial)
                .await;
            let mut connection = match connected {
                Ok(connection) => connection,
                Err((upstream, error)) => {
                    return End::Failed(Problem::UpstreamUnreachable, format!("{upstream}: {error}"));
                }
            };
            if let Some(preface) = &preface
                && let Err(error) = connection.io.write_all(preface).await
            {
                return End::Failed(Problem::UpstreamClosed, error.to_string());
            }
            let end = self.exchange(request, connection).await;
            match end {
                End::Again if want != Want::New => want = Want::New,
                end => return end,
            }
        }
    }

    /// The PROXY protocol header that goes before the request, where its route wants one. It names who the request is
    /// from, by the header or the fields of proxies in front that are believed; such a client's port is not known.
    fn preface(&self, request: &Request) -> Option<heapless::Vec<u8, WRITTEN_BYTES_MAX>> {
        let version = request.route.rules.send_proxy_protocol?;
        let port = if request.client == self.peer { self.peer_port } else { 0 };
        Some(header(version, SocketAddr::new(request.client, port), self.client.local_addr().ok()?))
    }

    fn upstream_answer(&self, request: &Request, problem: Problem, found: String) -> Answer {
        let upstreams = request.route.upstreams.iter().map(|upstream| upstream.text.as_str());
        let upstreams = upstreams.collect::<Vec<_>>().join(", ");
        let check = match problem {
            Problem::UpstreamUnreachable => Some(format!("Is the app running and listening on {upstreams}?")),
            Problem::UpstreamHeadTooLarge => Some(
                "Raise response_head_bytes_max or response_fields_max in [limits] of sanedge.toml: the log of the edge says which is reached."
                    .to_owned(),
            ),
            Problem::UpstreamTls => Some(format!(
                "Name the app's plain port as upstream in the place of {upstreams} (`ss -tlnp`), or disable TLS in the app."
            )),
            problem if problem.is_upstream() => Some(format!("Look at the log of the app on {upstreams}.")),
            _ => None,
        };
        let form = AnswerForm { html: request.wants_html, close: true, head_only: request.is_head };
        // No stranger learns where an upstream is, and behind a tunnel or a container's NAT everybody looks local.
        let told = problem.is_upstream().then(|| UPSTREAM_CHECK.to_owned());
        Answer { problem, found, check: told, check_inside: check, form, access: None }
    }

    /// Sends an answer of our own. `true`: the connection can carry another request.
    async fn answer(&mut self, answer: &Answer) -> bool {
        self.note(answer);
        let mut bytes = Vec::new();
        // What was found may hold text of the client or the upstream: it is for the log. The client gets what to do.
        let detail = Detail { found: None, check: answer.check.as_deref() };
        answer::write(answer.problem, &detail, answer.form, &mut bytes);
        let stall = {
            let active = self.worker.shared.active.load();
            Duration::from_millis(active.bundle.limits.stall_timeout_ms.into())
        };
        let sent = timeout(stall, self.write_all(&bytes)).await;
        matches!(sent, Ok(Ok(()))) && !answer.form.close
    }

    fn note(&self, answer: &Answer) {
        let shared = &self.worker.shared;
        let reason = match answer.problem {
            Problem::Misdirected | Problem::UnknownHost => Reason::Misdirected,
            Problem::OriginRefused => Reason::Origin,
            Problem::AddressRefused => Reason::Network,
            Problem::UnknownPath => Reason::NoRoute,
            Problem::RequestTimeout => Reason::RequestTimeout,
            Problem::TooManyRequests => Reason::AddressWebSockets,
            Problem::HeadTooLarge | Problem::TargetTooLong => Reason::HeadTooLarge,
            Problem::BodyTooLarge => Reason::BodyTooLarge,
            // The outage has its own line, once.
            Problem::UpstreamUnreachable => return shared.counters.upstream_failures_total.increment(),
            problem if problem.is_upstream() => {
                shared.counters.upstream_failures_total.increment();
                Reason::Upstream
            }
            _ => Reason::BadRequest,
        };
        let found = format!("{}: {}", answer.problem.code(), answer.found);
        let check = answer.check_inside.as_deref().or(answer.check.as_deref());
        shared.refuse_with_check(reason, self.peer, &found, check);
    }

    async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut written = 0;
        self.worker.tally.sent.add(0, bytes.len());
        poll_fn(|cx| {
            while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
                match self.client.poll_write(cx, rest) {
                    Poll::Ready(Ok(count)) => written += count,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return Poll::Pending,
                }
            }
            self.client.poll_flush(cx)
        })
        .await
    }

    /// Ends the connection so that the peer gets all of it: close_notify and FIN, then its bytes are thrown away for
    /// a while.
    async fn close(&mut self) {
        let client = &mut self.client;
        let worker = &self.worker;
        let last = Instant::now() + LINGER_MAX;
        let (mut due, mut shut) = (Instant::now() + LINGER, false);
        poll_fn(|cx| {
            if self.alarm.poll(cx, due).is_ready() {
                return Poll::Ready(());
            }
            if !shut {
                match ready!(client.poll_shutdown(cx)) {
                    Ok(()) => shut = true,
                    Err(_) => return Poll::Ready(()),
                }
            }
            let mut scratch = worker.scratch.borrow_mut();
            while let Ok(1..) = ready!(client.poll_read(cx, &mut scratch)) {
                due = last.min(Instant::now() + LINGER_BETWEEN);
            }
            Poll::Ready(())
        })
        .await;
    }
}

/// How an exchange ended, in the access log.
fn outcome(end: &End) -> &'static str {
    match end {
        End::Upgraded(_) => "upgraded",
        End::Failed(problem, _) | End::BrokenOff(problem, _) => problem.code(),
        End::Broken => "broken-off",
        End::Next | End::Close | End::Again => "complete",
    }
}

/// One line of the access log. Boxed where it is kept: most have none.
struct Access {
    host: Host,
    client: IpAddr,
    method: String,
    target: String,
}

impl Access {
    fn new(head: &RequestHead<'_>, client: IpAddr) -> Box<Self> {
        let target = ShownTarget(head.target.as_bytes()).bytes();
        let target = String::from_utf8_lossy(&target).into_owned();
        Box::new(Self { host: head.host.clone(), client, method: head.method.to_owned(), target })
    }

    fn log(&self, worker: &Worker, status: u16, outcome: &str, time: Duration) {
        let Some(skipped) = worker.shared.access.admit(worker.shared.uptime()) else { return };
        worker.shared.access.write(&Line {
            host: &self.host,
            client: self.client,
            method: &self.method,
            target: &self.target,
            status,
            outcome,
            ms: time.as_millis() as u64,
            skipped,
        });
    }
}
