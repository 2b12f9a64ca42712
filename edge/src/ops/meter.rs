//! Rates, and the last hour of them in a fixed ring. Pure: readings come in with their time.

use std::time::Duration;

use heapless::HistoryBuf;
use serde::Serialize;

/// Time between two readings.
pub const INTERVAL: Duration = Duration::from_secs(5);
/// Readings that are kept: an hour of them, 12 bytes each, 8,640 in all.
pub const POINTS: usize = 720;
/// Shortest time that a rate is told of: over less it would jump about.
const RATE_TIME_MIN: Duration = Duration::from_secs(2);

/// What the counters said at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reading {
    /// Since the start.
    pub at: Duration,
    /// Processor time so far.
    pub cpu: Duration,
    /// What has passed so far.
    pub traffic: Traffic,
}

/// What has passed between clients and apps: WebSocket messages, and bytes of all kinds less what TLS adds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// WebSocket messages from clients.
    pub received_messages: u64,
    /// WebSocket messages to clients.
    pub sent_messages: u64,
    /// Bytes from clients.
    pub received_bytes: u64,
    /// Bytes to clients.
    pub sent_bytes: u64,
}

/// How much of it there is a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Rates {
    /// Seconds that these rates are averages of.
    pub over_s: f64,
    /// WebSocket messages a second in both directions.
    pub messages_per_s: f64,
    /// Bytes a second from clients.
    pub received_bytes_per_s: f64,
    /// Bytes a second to clients.
    pub sent_bytes_per_s: f64,
    /// Processor time, 100 being one core that does nothing else.
    pub cpu_percent: f64,
}

/// The last hour, oldest first: three lists of the same length.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct History {
    /// Seconds between two entries.
    pub interval_s: u64,
    /// Most entries that are kept.
    pub points_max: usize,
    /// Open sessions.
    pub sessions: Vec<u32>,
    /// WebSocket messages a second, both directions.
    pub messages_per_s: Vec<f64>,
    /// Processor time, 100 being one core.
    pub cpu_percent: Vec<f64>,
}

#[derive(Clone, Copy, Debug)]
struct Point {
    sessions: u32,
    messages_per_s: f32,
    cpu_percent: f32,
}

/// Remembers the last two readings, and an hour of what they came to.
#[derive(Debug, Default)]
pub struct Meter {
    last: Reading,
    before: Reading,
    hour: HistoryBuf<Point, POINTS>,
}

impl Meter {
    /// Takes the reading of an [`INTERVAL`]'s end.
    pub fn take(&mut self, reading: Reading, sessions: u32) {
        let rates = since(&self.last, &reading);
        self.hour.write(Point {
            sessions,
            messages_per_s: rates.messages_per_s as f32,
            cpu_percent: rates.cpu_percent as f32,
        });
        self.before = std::mem::replace(&mut self.last, reading);
    }

    /// The rates of the moment: since the last reading, or the one before where that is too fresh.
    pub fn rates(&self, now: &Reading) -> Rates {
        let fresh = now.at.saturating_sub(self.last.at) < RATE_TIME_MIN;
        since(if fresh { &self.before } else { &self.last }, now)
    }

    /// The last hour.
    pub fn history(&self) -> History {
        let points = || self.hour.oldest_ordered();
        History {
            interval_s: INTERVAL.as_secs(),
            points_max: POINTS,
            sessions: points().map(|point| point.sessions).collect(),
            messages_per_s: points().map(|point| rounded(point.messages_per_s.into())).collect(),
            cpu_percent: points().map(|point| rounded(point.cpu_percent.into())).collect(),
        }
    }
}

fn since(before: &Reading, now: &Reading) -> Rates {
    let over_s = now.at.saturating_sub(before.at).as_secs_f64();
    let each = |before: u64, now: u64| match over_s > 0.0 {
        true => rounded(now.saturating_sub(before) as f64 / over_s),
        false => 0.0,
    };
    let messages = |traffic: &Traffic| traffic.received_messages + traffic.sent_messages;
    let cpu_micros = |reading: &Reading| reading.cpu.as_micros() as u64;
    Rates {
        over_s: rounded(over_s),
        messages_per_s: each(messages(&before.traffic), messages(&now.traffic)),
        received_bytes_per_s: each(before.traffic.received_bytes, now.traffic.received_bytes),
        sent_bytes_per_s: each(before.traffic.sent_bytes, now.traffic.sent_bytes),
        cpu_percent: rounded(each(cpu_micros(before), cpu_micros(now)) / 10_000.0),
    }
}

/// To two decimals: more would pretend.
fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(at_s: u64, messages: u64) -> Reading {
        let traffic = Traffic {
            received_messages: messages,
            sent_messages: messages * 2,
            received_bytes: messages * 100,
            sent_bytes: messages * 300,
        };
        Reading { at: Duration::from_secs(at_s), cpu: Duration::from_millis(messages * 10), traffic }
    }

    #[test]
    fn rates_are_of_the_time_that_has_passed() {
        let mut meter = Meter::default();
        assert_eq!(meter.rates(&Reading::default()), Rates::default(), "nothing is divided by no time");
        meter.take(reading(5, 50), 7);
        meter.take(reading(10, 60), 8);
        let rates = meter.rates(&reading(14, 100));
        assert_eq!((rates.over_s, rates.messages_per_s), (4.0, 30.0));
        assert_eq!((rates.received_bytes_per_s, rates.sent_bytes_per_s), (1000.0, 3000.0));
        assert_eq!(rates.cpu_percent, 10.0);
        // Just below the shortest time it is told since the reading before, and just at it since the last.
        let mut fresh = reading(12, 60);
        assert_eq!(meter.rates(&fresh).over_s, 2.0);
        fresh.at -= Duration::from_millis(1);
        assert_eq!(meter.rates(&fresh).over_s, 7.0);
        // A clock or counter that went back is no reason to panic.
        assert_eq!(meter.rates(&Reading::default()).messages_per_s, 0.0);
    }

    #[test]
    fn an_hour_is_kept_and_no_more() {
        let mut meter = Meter::default();
        for at in 1..=POINTS as u64 {
            meter.take(reading(at * 5, at * 5), at as u32);
        }
        let full = meter.history();
        assert_eq!((full.sessions.len(), full.sessions[0]), (POINTS, 1));
        assert_eq!(full.interval_s * full.points_max as u64, 3600);
        meter.take(reading(POINTS as u64 * 5 + 5, 0), 9);
        let turned = meter.history();
        assert_eq!((turned.sessions.len(), turned.sessions[0]), (POINTS, 2));
        assert_eq!((turned.sessions[POINTS - 1], turned.messages_per_s[0]), (9, 3.0));
    }

    #[test]
    fn the_ring_takes_what_its_documentation_says() {
        assert_eq!(size_of::<Point>() * POINTS, 8_640);
        assert!(size_of::<Meter>() < 9_000);
    }
}
