//! One client connection: its TLS handshake, its requests one after the other, and the WebSocket that one of them
//! may become. Each phase is a future of its own, freed when the next begins; what waits in it is a machine.

mod access;
mod answer;
mod decide;
mod forward;
pub(crate) mod frozen;
mod handshake;
pub(crate) mod head;
pub(crate) mod last;
mod phase;
pub(crate) mod resume;

use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::spawn_local;
use tokio::time::Instant;

use crate::decision::Refusal;
use crate::edge::net::transport::Woken;
use crate::edge::session::driver::{Alarm, drive};
use crate::edge::session::exchange::{Input, Upgraded};
use crate::edge::session::machine::Step;
use crate::edge::session::proxy_header;
use crate::edge::session::relay::Relay;
use crate::edge::session::silent::first_byte;
use crate::edge::session::worker::{EVICTED, Permit, Worker, unless_evicted};
use crate::edge::shared::eviction::Evictable;
use crate::edge::shared::handover::Kind;
use crate::http::answer::Problem;
use crate::http::forward::Plan;
use crate::http::head::HeadScanner;
use crate::ops::metrics::Reason;
use handshake::handshake;
use head::{AwaitHead, HeadTimes, NoHead};
use last::Closing;
use phase::{Answer, Phase, Session};

/// From the end of its handshake a client may take this long for its first request although a drain begins: its new
/// connection was taken, and what it is sending must not be lost.
const NEWCOMER: Duration = Duration::from_secs(1);

/// What [`Session::serve`] gives: a session to its end, or to the WebSocket that it becomes.
pub(crate) type Serving = Pin<Box<dyn Future<Output = Option<Relay>>>>;

/// Where a session begins.
pub(crate) enum Start {
    /// With its first byte.
    Connection(TcpStream, IpAddr, Evictable),
    /// Where another process has left it.
    Resumed(Serving),
}

/// Runs a session to its end.
pub(crate) async fn run(worker: Rc<Worker>, start: Start, mut permit: Permit) {
    let serving = match start {
        Start::Resumed(serving) => Some(serving),
        Start::Connection(stream, peer, evictable) => {
            Box::pin(connected(&worker, stream, peer, &mut permit, evictable)).await
        }
    };
    let Some(serving) = serving else { return };
    poll_fn(|cx| {
        permit.wake_at_drain(cx.waker());
        Poll::Ready(())
    })
    .await;
    if let Some(relay) = serving.await {
        permit.sleep_on();
        // A task of its own: this one's memory, sized for a handshake and an exchange, is freed.
        spawn_local(relay.run(permit));
    }
}

/// A session after its handshake; `None`: there is none.
async fn connected(
    worker: &Rc<Worker>,
    mut stream: TcpStream,
    peer: IpAddr,
    permit: &mut Permit,
    evictable: Evictable,
) -> Option<Serving> {
    let handshaken = async {
        let time = worker.shared.active.load().bundle.limits.handshake_timeout_ms;
        let time = Duration::from_millis(time.into());
        let time = first_byte(permit, &stream, (Kind::Silent, peer), time).await?;
        let named = proxy_header::client(worker, &mut stream, peer, permit).await?;
        let (client, identity) =
            handshake(worker, stream, named.ip(), permit.is_limited(), &evictable, time).await?;
        Some((named, client, identity))
    };
    let handshaken = unless_evicted(worker, &evictable, peer, pin!(handshaken)).await;
    let (named, client, identity) = handshaken.flatten()?;
    worker.shared.eviction.handshake_done(&evictable);
    let session = Session {
        worker: Rc::clone(worker),
        client,
        input: Input::default(),
        alarm: Alarm::default(),
        identity,
        peer: named.ip(),
        peer_port: named.port(),
        newcomer_until: Some(Instant::now() + NEWCOMER),
        evictable,
        requests: 0,
        answered_in_drain: false,
        own: None,
    };
    Some(Box::pin(session.serve(Phase::Head)))
}

impl Session {
    /// Serves requests until the connection ends, or becomes a WebSocket.
    #[allow(clippy::manual_async_fn)] // that would keep `self` twice, and so each idle connection
    fn serve(mut self, mut phase: Phase) -> impl Future<Output = Option<Relay>> {
        async move {
            // Made in place for each request: too large to be moved.
            let mut plan = Plan::default();
            // By reference: a request moved out of its phase would have its place in this future twice.
            let upgraded = loop {
                phase = match &mut phase {
                    Phase::Head => self.await_request(&mut plan).await,
                    Phase::Answer(answer) => self.answer(answer).await,
                    Phase::Forward(forward) => self.forward(forward, &plan).await,
                    Phase::Close => self.close().await,
                    Phase::Over(upgraded) => break upgraded.take(),
                };
            };
            self.input.compact(&*self.worker);
            let Upgraded { upstream, switched, route, client, open } = *upgraded?;
            let streams = (self.client, upstream);
            Some(Relay::new(streams, switched, route, client, open, &self.worker))
        }
    }

    /// After a response: waits for the next request, or closes.
    fn responded(&mut self, keep: bool) -> Phase {
        self.answered_in_drain = self.worker.drain().is_some();
        if !keep {
            return Phase::Close;
        }
        self.input.compact(&*self.worker);
        self.evictable.request_done();
        Phase::Head
    }

    async fn await_request(&mut self, plan: &mut Plan) -> Phase {
        // A connection may rest for long: meanwhile it holds no bundle, and its next request asks the one of then.
        let head = self.read_head().await;
        if let Err(NoHead::HandsOver) = head {
            return self.hand_over(None).map_or(Phase::Close, |()| Phase::Over(None));
        }
        let shared = &self.worker.shared;
        // Whatever comes now may take its time.
        if !shared.eviction.request_begins(&self.evictable) {
            // No proper close, which would hold its place for longer.
            shared.refuse(Reason::Evicted, self.peer, EVICTED);
            return Phase::Over(None);
        }
        let refusal = match head {
            // An exchange may last for months: it holds its route, never the bundle with its keys.
            Ok(scanner) => {
                let active = shared.active.load_full();
                return self.decide(&active, &scanner, plan);
            }
            Err(NoHead::Over | NoHead::HandsOver) => return Phase::Close,
            Err(NoHead::Idle) => {
                shared.count(Reason::Idle);
                return Phase::Close;
            }
            Err(NoHead::Slow) => {
                let found = "the request head did not arrive within head_timeout";
                Refusal::new(Problem::RequestTimeout, found)
            }
            Err(NoHead::Bad(error)) => error.into(),
        };
        let changes = self.named_changes(&shared.active.load());
        Phase::Answer(Answer::closing(refusal, changes))
    }

    /// Reads until a head is complete; the scanner that found its end.
    async fn read_head(&mut self) -> Result<HeadScanner, NoHead> {
        let (limits, times) = {
            let active = self.worker.shared.active.load();
            let limits = &active.bundle.limits;
            let times = [limits.head_timeout_ms, limits.keepalive_timeout_ms];
            let [head, idle] = times.map(|time| Duration::from_millis(time.into()));
            (active.head_limits, HeadTimes { head, idle })
        };
        let Self { worker, client, input, alarm, evictable, newcomer_until, own, .. } = self;
        // An upstream's connection that is this client's alone cannot be handed over.
        let is_portable = own.is_none();
        let mut await_head = AwaitHead::new(Instant::now(), input, limits, times, *newcomer_until);
        drive(alarm, move |now, waker| {
            let step = await_head.step(now.get(), &mut Woken::by(waker, &mut *client), input, &**worker);
            let waits = matches!(step, Step::Wait(..));
            if waits && evictable.poll_evicted(&mut Context::from_waker(waker)).is_ready() {
                return Step::Over(Err(NoHead::Over));
            }
            if waits && worker.shared.hand_over.receiver().is_some() {
                if is_portable {
                    return Step::Over(Err(NoHead::HandsOver));
                }
                if input.all().is_empty() {
                    return Step::Over(Err(NoHead::Over));
                }
            }
            step
        })
        .await
    }

    async fn close(&mut self) -> Phase {
        let Self { worker, client, alarm, .. } = self;
        let mut closing = Closing::new(Instant::now());
        drive(alarm, |now, waker| {
            closing.step(now.get(), &mut Woken::by(waker, &mut *client), &mut worker.scratch.borrow_mut())
        })
        .await;
        if worker.drain().is_some() {
            let endings = &worker.shared.endings;
            if self.answered_in_drain { &endings.exchanges } else { &endings.idle }.increment();
        }
        Phase::Over(None)
    }
}
