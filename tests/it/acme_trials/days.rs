//! Days of a host that always fails, in seconds: the hours of `sanedge-renew.timer`, restarts in a loop, and a user who insists.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use super::super::acme::Desk;
use super::super::support::edge::sanedge;
use super::super::support::pebble::{Act, Pebble, problem, request};
use super::clock::Clock;
use super::{needs, row};

const HOST: &str = "a.localhost";
const MINUTE_S: i64 = 60;
const HOUR_S: i64 = 60 * MINUTE_S;
const DAY_S: i64 = 24 * HOUR_S;
/// Of the timer.
const BOOT_S: i64 = MINUTE_S;
const JITTER_S: i64 = 10 * MINUTE_S;

/// When the program is started.
#[derive(Clone, Copy)]
enum Starts {
    /// As the timer does: a minute after the boot, then hourly with jitter.
    Timer,
    /// So many seconds after the one before.
    Every(i64),
}

struct Days {
    desk: Desk,
    clock: Arc<Clock>,
    /// When the CA has looked for a challenge: one entry a token.
    looks: Arc<Mutex<Vec<(String, i64)>>>,
    /// When an order was asked for.
    orders: Arc<Mutex<Vec<i64>>>,
}

/// Answers no challenge. Notes which the CA looks for.
fn deaf(clock: Arc<Clock>, looks: Arc<Mutex<Vec<(String, i64)>>>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let Some(request) = request(&mut stream) else { continue };
            let head = String::from_utf8_lossy(&request).into_owned();
            let token = head.split(' ').nth(1).and_then(|path| path.rsplit('/').next()).unwrap().to_owned();
            let mut looks = looks.lock().unwrap();
            // The CA looks from several places.
            if !looks.iter().any(|(known, _)| *known == token) {
                looks.push((token, clock.now()));
            }
            drop(looks);
            let _ =
                stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    port
}

impl Days {
    fn new(host: &str, faults: impl Fn(&str, usize) -> Act + Send + Sync + 'static) -> Self {
        let (clock, looks, orders) =
            (Arc::new(Clock::new()), Arc::default(), Arc::<Mutex<Vec<i64>>>::default());
        let port = deaf(clock.clone(), Arc::clone(&looks));
        // The program's own trial finds its challenge; the CA comes to another port.
        let desk = Desk::with(&[host], |folder: &Path, _| Pebble::start(folder, port));
        let (noted, at) = (orders.clone(), clock.clone());
        desk.front.faults(move |kind, before| {
            if kind == "order-plz" {
                noted.lock().unwrap().push(at.now());
            }
            faults(kind, before)
        });
        Self { desk, clock, looks, orders }
    }

    fn command(&self, options: &[&str]) -> Command {
        let mut command = sanedge();
        command.arg("renew").arg(self.desk.path("x.acme")).args(options);
        command
    }

    /// To its end; or until the CA does not answer, and then it is killed.
    fn once(&self, options: &[&str], is_killed: bool) {
        self.clock.run_until(self.command(options), || is_killed && self.desk.front.is_holding());
    }

    /// How often it was started in so many seconds.
    fn pass(&self, seconds: i64, starts: Starts, options: &[&str], is_killed: bool) -> usize {
        let boot = self.clock.now();
        let (mut runs, mut next) = (0, boot + BOOT_S);
        while next < boot + seconds {
            self.clock.advance_to(next);
            self.once(options, is_killed);
            runs += 1;
            next = match starts {
                Starts::Every(pause) => next + pause,
                // The service is not started twice: what comes due meanwhile is left out.
                Starts::Timer => {
                    let now = self.clock.now();
                    now - now % HOUR_S + HOUR_S + i64::try_from(runs).unwrap() * 397 % JITTER_S
                }
            };
        }
        runs
    }
}

/// The most of these moments within an hour.
fn most_in_an_hour(moments: &[i64]) -> usize {
    moments
        .iter()
        .map(|from| moments.iter().filter(|at| (*from..from + HOUR_S).contains(at)).count())
        .max()
        .unwrap_or(0)
}

/// In minutes, between one and the next.
fn gaps(moments: &[i64]) -> Vec<i64> {
    moments.windows(2).map(|pair| (pair[1] - pair[0] + MINUTE_S / 2) / MINUTE_S).collect()
}

#[test]
#[ignore = "tests/acme/run days"]
fn days_of_a_host_that_always_fails() {
    needs(&[("pebble", "-help"), ("cc", "--version")]);
    let page = "HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\nnone";
    let pass = |_: &str, _: usize| Act::Pass;
    let down = move |_: &str, _: usize| Act::Answer(page.to_owned());
    let limited = |kind: &str, _: usize| match kind {
        "order-plz" => problem(429, "rateLimited", "too many new orders", "Retry-After: 18000\r\n"),
        _ => Act::Pass,
    };
    let refused = |kind: &str, _: usize| match kind {
        "order-plz" => problem(400, "rejectedIdentifier", "on a blocklist", ""),
        _ => Act::Pass,
    };
    // The CA has done it, and the program is killed before it hears of that.
    let lost = |kind: &str, _: usize| if kind == "chalZ" { Act::Lose } else { Act::Pass };
    row(&format!(
        "{:<34} {:>5} {:>6} {:>11} {:>7}  minutes between orders",
        "for two days", "runs", "orders", "validations", "an hour"
    ));
    let tell = |title: &str, days: &Days, runs: usize| {
        let (orders, looks) = (days.orders.lock().unwrap().clone(), days.looks.lock().unwrap().clone());
        let looks: Vec<i64> = looks.iter().map(|(_, at)| *at).collect();
        let most = most_in_an_hour(&looks);
        let shown: Vec<String> = gaps(&orders).iter().take(12).map(ToString::to_string).collect();
        row(&format!(
            "{title:<34} {runs:>5} {:>6} {:>11} {most:>7}  {}",
            orders.len(),
            looks.len(),
            shown.join(" ")
        ));
        assert!(most <= 5, "{looks:?}");
        (orders, looks)
    };

    let days = Days::new(HOST, pass);
    let runs = days.pass(4 * DAY_S, Starts::Timer, &[], false);
    let (orders, looks) = tell("not validated (four days)", &days, runs);
    assert_eq!(orders.len(), looks.len());
    backs_off(&orders);

    let days = Days::new(HOST, refused);
    let runs = days.pass(4 * DAY_S, Starts::Timer, &[], false);
    let (orders, looks) = tell("refused (four days)", &days, runs);
    assert!(looks.is_empty());
    backs_off(&orders);

    let days = Days::new(HOST, down);
    let runs = days.pass(2 * DAY_S, Starts::Timer, &[], false);
    tell("the CA is down", &days, runs);
    let asked = days.desk.front.count("dir");
    // Four attempts on the first day, then one a day; each asks for the directory once.
    assert!((5..=6).contains(&asked), "{asked}");

    let days = Days::new(HOST, limited);
    let runs = days.pass(DAY_S, Starts::Timer, &[], false);
    let (orders, _) = tell("Retry-After: 5 hours (one day)", &days, runs);
    assert!(gaps(&orders).iter().all(|gap| *gap >= 300), "{orders:?}");

    let days = Days::new(HOST, limited);
    let runs = days.pass(5 * HOUR_S, Starts::Every(30 * MINUTE_S), &["--now"], false);
    let (orders, _) = tell("the same, --now (five hours)", &days, runs);
    assert_eq!((orders.len(), runs), (1, 10));

    let days = Days::new(HOST, pass);
    let runs = days.pass(6 * HOUR_S, Starts::Every(2 * MINUTE_S), &["--now"], false);
    let (_, looks) = tell("--now every 2 minutes (six hours)", &days, runs);
    assert!(looks.len() > 20, "a limit that is never reached proves nothing: {looks:?}");

    let days = Days::new(HOST, lost);
    let runs = days.pass(2 * DAY_S, Starts::Timer, &[], true);
    let (orders, _) = tell("killed in each validation", &days, runs);
    assert!(orders.len() <= 7, "{orders:?}");

    for options in [&[][..], &["--now"]] {
        let days = Days::new(HOST, lost);
        let runs = days.pass(4 * HOUR_S, Starts::Every(2 * MINUTE_S), options, true);
        let title = format!("killed so, every 2 minutes {} (4 h)", options.concat());
        let (orders, looks) = tell(&title, &days, runs);
        assert_eq!(orders.len(), looks.len());
    }

    let days = Days::new("nowhere.invalid", pass);
    let runs = days.pass(2 * DAY_S, Starts::Timer, &[], false);
    tell("no such name in DNS", &days, runs);
    assert_eq!(days.desk.front.total(), 0, "nothing is sent");
}

/// After 1, 10 and 100 minutes, then a day each; the timer adds an hour and its jitter to what is not waited for within a run.
fn backs_off(orders: &[i64]) {
    let gaps = gaps(orders);
    assert!(gaps.len() >= 5 && gaps[..2] == [1, 10], "{gaps:?}");
    let timer = (HOUR_S + JITTER_S) / MINUTE_S;
    assert!((100..=100 + timer).contains(&gaps[2]), "{gaps:?}");
    assert!(gaps[3..].iter().all(|gap| (1_440..=1_440 + timer).contains(gap)), "{gaps:?}");
}
