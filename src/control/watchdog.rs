//! What the main thread does again and again: readings for the rates and the last hour, the line that systemd shows, and
//! the watchdog's ping for as long as every worker runs its tasks.

use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tracing::{error, info};

use crate::control::status;
use crate::edge::shared::state::Shared;
use crate::ops::meter::{self, Meter};
use crate::system::systemd;

/// Readings from one line for systemd to the next.
const READINGS_PER_LINE: u32 = 6;

/// When the next of them is due, and what they remember.
pub(crate) struct Watchdog {
    pub(crate) meter: Box<Meter>,
    readings: Interval,
    looks: Interval,
    taken: u32,
    stuck: Vec<usize>,
}

/// What is due.
pub(crate) enum Due {
    Reading,
    /// A look at the workers.
    Look,
}

impl Watchdog {
    /// `beat_interval`: how often workers give a sign of life.
    pub(crate) fn new(beat_interval: Duration) -> Self {
        Self {
            meter: Box::default(),
            readings: every(meter::INTERVAL),
            // Eight times in the watchdog's limit, as workers beat: a late one costs nothing.
            looks: every(beat_interval.max(Duration::from_millis(10))),
            taken: 0,
            stuck: Vec::new(),
        }
    }

    /// Waits for the next. Cancel safe.
    pub(crate) async fn due(&mut self) -> Due {
        tokio::select! {
            _ = self.looks.tick() => Due::Look,
            _ = self.readings.tick() => Due::Reading,
        }
    }

    /// Does it.
    pub(crate) fn run(&mut self, due: Due, shared: &Shared) {
        match due {
            Due::Reading => self.read(shared),
            Due::Look => self.look(shared),
        }
    }

    fn read(&mut self, shared: &Shared) {
        let sessions = shared.sessions.load(std::sync::atomic::Ordering::Relaxed);
        self.meter.take(status::reading(shared), sessions);
        self.taken += 1;
        if self.taken.is_multiple_of(READINGS_PER_LINE) && shared.drain.get().is_none() {
            systemd::status(&status::summary(shared, &self.meter));
        }
    }

    /// Pings while no worker is stuck: else systemd ends this process and starts another.
    fn look(&mut self, shared: &Shared) {
        let stuck = status::stuck_workers(shared);
        if stuck.is_empty() {
            systemd::ping();
        }
        if stuck != self.stuck {
            match stuck.is_empty() {
                true => info!("all workers run their tasks again"),
                false => {
                    error!(workers = ?stuck, "workers do not run their tasks; systemd's watchdog, if set, restarts this process")
                }
            }
            self.stuck = stuck;
        }
    }
}

/// Ticks from one `period` after now on; late ones are not made up for.
pub(crate) fn every(period: Duration) -> Interval {
    let mut interval = interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}
