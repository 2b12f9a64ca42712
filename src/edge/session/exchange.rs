//! One request and its response: the head and body go upstream while the response comes back, each side stopping
//! the other where it does not take its bytes. Ends the upstream's request as soon as the client is gone.

mod input;
mod request;
mod response;
mod state;

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use tokio::time::Instant;

use crate::edge::net::pool::{Connection, OwnConnection};
use crate::edge::net::send_buffer::Pending;
use crate::edge::net::tls::TlsStream;
use crate::edge::session::alarm::Alarm;
use crate::edge::session::turns::{TURNS, poll_later};
use crate::edge::session::worker::Worker;
use crate::edge::shared::sticky::SidObserver;
use crate::engineio::OpenObserver;
use crate::http::answer::Problem;
use crate::http::body::{BodyReader, Framing};
use crate::http::head::HeadScanner;
use crate::ops::metrics::Reason;
use crate::ws::tracker::Extensions;

pub(crate) use input::Input;
use state::{Down, Exchange, Up, Upgraded};
pub(crate) use state::{End, ExchangeLimits, Request};

/// Runs one exchange on `connection` until its end.
pub(crate) async fn run(
    worker: &Worker,
    client: &mut TlsStream,
    input: &mut Input,
    alarm: &mut Alarm,
    request: &Request,
    connection: Connection,
    own: &mut Option<Box<OwnConnection>>,
) -> End {
    let Connection { io, upstream, reused, bound } = connection;
    let now = Instant::now();
    let up = Up {
        head_written: 0,
        body: BodyReader::new(request.framing),
        body_bytes: 0,
        pending: Pending::default(),
        ended: request.framing != Framing::Chunked,
        done: false,
        broken: false,
        moved: now,
        due: now + request.limits.pace.stall,
    };
    let mut exchange = Exchange {
        worker,
        client,
        input,
        alarm,
        request,
        io,
        reused,
        observer: request.choice.opens.then(|| {
            let packets = if request.offer.is_some() { OpenObserver::frames() } else { OpenObserver::body() };
            SidObserver::new(packets, &worker.shared.sids, &request.route, upstream.id)
        }),
        up,
        down: Down::Head { scanner: HeadScanner::response(), held: Vec::new(), interim: 0 },
        down_pending: Pending::default(),
        down_moved: now,
        backlog: None,
        asked: false,
        answered: false,
        keep_client: false,
        bound: bound || request.binds,
        interim_is_whole: true,
        keep_upstream: None,
        upgraded: false,
        behind: Vec::new(),
        extensions: Extensions::None,
    };
    let end = match exchange.complete().await {
        // An answer of ours would stand in the middle of another.
        End::Failed(problem, found) if exchange.answered || !exchange.down_pending.is_empty() => {
            return End::BrokenOff(problem, found);
        }
        end => end,
    };
    if exchange.upgraded {
        let up = exchange.input.rest().to_vec();
        exchange.input.clear();
        return End::Upgraded(Box::new(Upgraded {
            upstream: exchange.io,
            up,
            behind: exchange.behind,
            unsent: exchange.down_pending,
            extensions: exchange.extensions,
            observer: exchange.observer,
        }));
    }
    if let (End::Next | End::Close, Some(observer), 200) = (&end, &exchange.observer, request.status.get()) {
        observer.missed(Instant::now());
    }
    if let (End::Next | End::Close, Some(keep_alive), true) = (&end, exchange.keep_upstream, exchange.up.done)
    {
        let bound = exchange.bound;
        let connection = Connection { io: exchange.io, upstream, reused: true, bound };
        match bound {
            true if matches!(end, End::Next) && request.limits.pool_idle_max > 0 => {
                *own = Some(Box::new(OwnConnection::new(connection, keep_alive)));
            }
            true => {}
            false => worker.pool.put(connection, keep_alive, request.limits.pool_idle_max),
        }
    }
    end
}

impl Exchange<'_> {
    async fn complete(&mut self) -> End {
        poll_fn(|cx| {
            if let Poll::Ready(end) = self.poll(cx) {
                return Poll::Ready(end);
            }
            while let Some(due) = self.due() {
                ready!(self.alarm.poll(cx, due));
                if !self.client_moves() {
                    return Poll::Ready(self.timed_out());
                }
                cx.waker().wake_by_ref(); // there is room for more now
            }
            Poll::Pending
        })
        .await
    }

    /// Whether nothing is due any more because a slow client took some bytes after all.
    fn client_moves(&mut self) -> bool {
        if self.is_waited_for() {
            self.client.nudge();
            let (waiting_bytes, now) = (self.waiting_bytes(), Instant::now());
            self.backlog.iter_mut().for_each(|it| it.look(waiting_bytes, &self.request.limits.pace, now));
            // With all of it taken just now, what is waited for is the upstream.
            if waiting_bytes == 0 {
                self.down_moved = now;
            }
        }
        self.due().is_none_or(|due| due > Instant::now())
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let mut scratch = self.worker.scratch.borrow_mut();
        let mut out = self.worker.out.borrow_mut();
        // A half that waits has left its waker: the other's step does not move it on, but where the response has begun
        // or ended.
        let (mut up, mut down) = (true, true);
        for _ in 0..TURNS {
            if up {
                match self.poll_up(cx, &mut scratch, &mut out) {
                    Poll::Ready(Err(end)) => return Poll::Ready(end),
                    moved => up = moved.is_ready(),
                }
            }
            if down || matches!(self.down, Down::Done) {
                match self.poll_down(cx, &mut scratch, &mut out) {
                    Poll::Ready(Err(end)) => return Poll::Ready(end),
                    moved => down = moved.is_ready(),
                }
            }
            if !up && !down {
                return Poll::Pending;
            }
            up |= matches!(self.down, Down::Body { .. });
        }
        poll_later(cx)
    }

    /// When the side that is waited for has had its time.
    fn due(&self) -> Option<Instant> {
        let sent = self.up.done || self.up.broken;
        let up = (!sent).then_some(self.up.due);
        let down = match (&self.down, self.slow_at()) {
            (_, Some(due)) => Some(due),
            (Down::Head { .. }, _) => sent.then(|| self.up.moved + self.request.route.rules.response_timeout),
            (Down::Body { .. }, _) => {
                self.request.route.rules.idle_timeout.map(|timeout| self.down_moved + timeout)
            }
            (Down::Done, _) => sent.then(|| self.down_moved + self.request.limits.pace.stall),
        };
        up.into_iter().chain(down).min()
    }

    fn timed_out(&self) -> End {
        if self.slow_at().is_some_and(|due| due <= Instant::now()) {
            let shared = &self.worker.shared;
            shared.refuse(Reason::WriteStall, self.request.client, "the client does not read its response");
            return End::Broken;
        }
        let waits_for_client = self.up.head_written == self.request.plan.len() && self.up.pending.is_empty();
        match self.up.done || self.up.broken {
            false if waits_for_client && !self.waits_to_be_asked() => {
                let found = "the body stalled, or arrived slower than body_bytes_per_s_min";
                End::Failed(Problem::RequestTimeout, found.to_owned())
            }
            _ => End::Failed(Problem::UpstreamTimeout, "no response in time".to_owned()),
        }
    }
}
