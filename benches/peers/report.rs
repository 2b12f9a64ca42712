//! Samples to medians, ratios with their intervals, tables and a plot.

use std::collections::HashMap;
use std::fmt::Write;
use std::process::Command;

use crate::proxy::{Kind, PEERS};
use crate::support;

const RESAMPLES: usize = 2000;

/// One row of the table; less is better in all of them.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub enum Row {
    Echo,
    EchoUser,
    Calls,
    Waits,
    Bulk,
    Connect,
    Get,
    Pss,
    P99,
    Growth,
    GrowthAll,
}

/// What is to be reached.
enum Goal {
    /// Ours ÷ best peer at most.
    Ratio(f64),
    /// Ours at most.
    Value(f64),
    None,
}

const ROWS: [Row; 11] = [
    Row::Echo,
    Row::EchoUser,
    Row::Calls,
    Row::Waits,
    Row::Bulk,
    Row::Connect,
    Row::Get,
    Row::Pss,
    Row::P99,
    Row::Growth,
    Row::GrowthAll,
];

impl Row {
    fn title(self) -> &'static str {
        match self {
            Self::Echo => "CPU per echoed 64 B message, 50 sessions (µs)",
            Self::EchoUser => "of it in user space (µs)",
            Self::Calls => "system calls per echoed message",
            Self::Waits => "of them epoll_wait",
            Self::Bulk => "CPU per GB relayed, 1 MiB frames (s)",
            Self::Connect => "CPU per new WSS connection, full TLS 1.3 (µs)",
            Self::Get => "CPU per keep-alive GET, 64 B body (µs)",
            Self::Pss => "PSS per idle WSS session, 500 to 5,000 (KiB)",
            Self::P99 => "p99 round trip, 50 sessions (µs)",
            Self::Growth => "growth: CPU per message, 50 of 5,000 speak ÷ 50 of 50",
            Self::GrowthAll => "growth where all 5,000 speak in turn",
        }
    }

    fn goal(self) -> Goal {
        match self {
            Self::Echo => Goal::Ratio(0.82),
            Self::EchoUser => Goal::Ratio(0.45),
            Self::Calls => Goal::Value(4.3),
            Self::Bulk | Self::Connect => Goal::Ratio(0.55),
            Self::Get => Goal::Ratio(0.75),
            Self::Pss => Goal::Ratio(0.28),
            Self::P99 => Goal::Ratio(1.0),
            Self::Growth => Goal::Value(1.2),
            Self::Waits | Self::GrowthAll => Goal::None,
        }
    }

    /// The median; but the mean of what comes from ticks, which are few in one round.
    fn center(self, samples: impl Iterator<Item = f64>) -> f64 {
        let mut samples: Vec<f64> = samples.collect();
        samples.sort_by(f64::total_cmp);
        let middle = samples.len() / 2;
        match self {
            Self::EchoUser => samples.iter().sum::<f64>() / samples.len() as f64,
            _ if samples.len() % 2 == 1 => samples[middle],
            _ => f64::midpoint(samples[middle - 1], samples[middle]),
        }
    }
}

/// A ratio and its 95 % interval.
#[derive(Clone, Copy)]
struct Ratio {
    value: f64,
    low: f64,
    high: f64,
}

impl std::fmt::Display for Ratio {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2} ({:.2}–{:.2})", self.value, self.low, self.high)
    }
}

/// All samples: one a round for each row and contender, in the order of the rounds.
#[derive(Default)]
pub struct Table {
    samples: HashMap<Row, Vec<(Kind, Vec<f64>)>>,
}

impl Table {
    pub fn add(&mut self, row: Row, kind: Kind, sample: f64) {
        let kinds = self.samples.entry(row).or_default();
        match kinds.iter_mut().find(|(its, _)| *its == kind) {
            Some((_, samples)) => samples.push(sample),
            None => kinds.push((kind, vec![sample])),
        }
    }

    fn samples(&self, row: Row, kind: Kind) -> Option<&[f64]> {
        let (_, samples) = self.samples.get(&row)?.iter().find(|(its, _)| *its == kind)?;
        Some(samples)
    }

    fn center(&self, row: Row, kind: Kind) -> Option<f64> {
        Some(row.center(self.samples(row, kind)?.iter().copied()))
    }

    fn peers(&self, row: Row) -> impl Iterator<Item = (Kind, f64)> {
        let kinds = (0..PEERS.len()).map(Kind::Peer);
        kinds.filter_map(move |kind| Some((kind, self.center(row, kind)?)))
    }

    fn best_peer(&self, row: Row) -> Option<(Kind, f64)> {
        self.peers(row).min_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// Ours ÷ `other`; the interval by bootstrap over the rounds, both of the same round together.
    fn ratio(&self, row: Row, other: Kind) -> Option<Ratio> {
        let (ours, others) = (self.samples(row, Kind::Ours)?, self.samples(row, other)?);
        let count = ours.len().min(others.len());
        let of = |rounds: &[usize]| {
            let center = |samples: &[f64]| row.center(rounds.iter().map(|round| samples[*round]));
            center(ours) / center(others)
        };
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
        let mut drawn: Vec<f64> =
            (0..RESAMPLES).map(|_| of(&(0..count).map(|_| dice.below(count)).collect::<Vec<_>>())).collect();
        drawn.sort_by(f64::total_cmp);
        let all: Vec<usize> = (0..count).collect();
        Some(Ratio {
            value: of(&all),
            low: drawn[RESAMPLES / 40],
            high: drawn[RESAMPLES - 1 - RESAMPLES / 40],
        })
    }

    /// One line for each row: ours, the best peer, their ratio, the goal and whether it is met at the interval's
    /// unfavourable end, and ours ÷ floor.
    fn summary(&self) -> Vec<[String; 6]> {
        let mut lines = vec![
            ["", "sanedge", "best peer", "ours ÷ best (95 %)", "goal", "ours ÷ floor"].map(str::to_owned),
        ];
        for row in ROWS {
            let Some(ours) = self.center(row, Kind::Ours) else { continue };
            let best = self.best_peer(row);
            let ratio = best.and_then(|(kind, _)| self.ratio(row, kind));
            let met = |is_met: bool| if is_met { "met" } else { "missed" };
            let worst = self.samples(row, Kind::Ours).into_iter().flatten().copied().fold(0.0, f64::max);
            let goal = match row.goal() {
                Goal::Ratio(most) => {
                    ratio.map(|ratio| format!("≤ {most:.2} {}", met(ratio.high <= most))).unwrap_or_default()
                }
                Goal::Value(most) => format!("ours ≤ {most:.1} {}", met(worst <= most)),
                Goal::None => String::new(),
            };
            lines.push([
                row.title().to_owned(),
                number(ours),
                best.map(|(kind, center)| format!("{} {}", number(center), name(kind))).unwrap_or_default(),
                ratio.map(|ratio| ratio.to_string()).unwrap_or_default(),
                goal,
                self.ratio(row, Kind::Floor).map(|ratio| ratio.to_string()).unwrap_or_default(),
            ]);
        }
        lines
    }

    /// Everyone's number in every row.
    fn all(&self) -> Vec<Vec<String>> {
        let kinds: Vec<Kind> =
            [Kind::Ours, Kind::Floor].into_iter().chain((0..PEERS.len()).map(Kind::Peer)).collect();
        let kinds: Vec<Kind> =
            kinds.into_iter().filter(|kind| self.samples(Row::Echo, *kind).is_some()).collect();
        let titles = kinds.iter().map(|kind| name(*kind));
        let mut lines = vec![std::iter::once(String::new()).chain(titles).collect::<Vec<_>>()];
        for row in ROWS {
            let numbers = kinds.iter().map(|kind| self.center(row, *kind).map(number).unwrap_or_default());
            lines.push(std::iter::once(row.title().to_owned()).chain(numbers).collect());
        }
        lines
    }

    /// For a terminal.
    pub fn text(&self, about: &[String]) -> String {
        let summary: Vec<Vec<String>> = self.summary().into_iter().map(Vec::from).collect();
        format!("{}\n\n{}\n{}", about.join("\n"), aligned(&summary), aligned(&self.all()))
    }

    /// For a README.
    pub fn markdown(&self, about: &[String]) -> String {
        let summary: Vec<Vec<String>> = self.summary().into_iter().map(Vec::from).collect();
        let about: String = about.iter().map(|line| format!("- {line}\n")).collect();
        format!("{about}\n{}\nEveryone's numbers:\n\n{}", piped(&summary), piped(&self.all()))
    }

    /// A bar for each row that has a ratio as its goal: ours, where the best peer is 1.
    pub fn svg(&self) -> String {
        let (left, width, step) = (340.0, 380.0, 34.0);
        let ratios: Vec<(Row, Ratio, f64)> = ROWS
            .into_iter()
            .filter_map(|row| {
                let Goal::Ratio(most) = row.goal() else { return None };
                Some((row, self.ratio(row, self.best_peer(row)?.0)?, most))
            })
            .collect();
        let most = ratios.iter().map(|(_, ratio, _)| ratio.high).fold(1.1, f64::max);
        let x = |ratio: f64| left + width * ratio / most;
        let height = 50.0 + step * ratios.len() as f64;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"800\" height=\"{height}\" font-family=\"sans-serif\" \
             font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
             <text x=\"{left}\" y=\"16\">sanedge ÷ best peer of the same run (less is better)</text>\n\
             <line x1=\"{0}\" y1=\"24\" x2=\"{0}\" y2=\"{1}\" stroke=\"#888\"/>\n",
            x(1.0),
            height - 16.0,
        );
        for (at, (row, ratio, goal)) in ratios.iter().enumerate() {
            let y = 30.0 + step * at as f64;
            let (text_x, text_y, middle, top, bottom) = (left - 8.0, y + 15.0, y + 11.0, y - 4.0, y + 26.0);
            let (title, value, end) = (row.title(), ratio.value, x(ratio.value) - left);
            let (low, high, goal) = (x(ratio.low), x(ratio.high), x(*goal));
            let value_x = high.max(goal) + 6.0;
            let _ = write!(
                svg,
                "<text x=\"{text_x}\" y=\"{text_y}\" text-anchor=\"end\">{title}</text>\n\
                 <rect x=\"{left}\" y=\"{y}\" width=\"{end:.1}\" height=\"22\" fill=\"#2a7\"/>\n\
                 <line x1=\"{low:.1}\" y1=\"{middle}\" x2=\"{high:.1}\" y2=\"{middle}\" stroke=\"black\" \
                 stroke-width=\"2\"/>\n\
                 <line x1=\"{goal:.1}\" y1=\"{top}\" x2=\"{goal:.1}\" y2=\"{bottom}\" stroke=\"#c00\" \
                 stroke-dasharray=\"3 2\"/>\n\
                 <text x=\"{value_x:.1}\" y=\"{text_y}\">{value:.2}</text>\n"
            );
        }
        let _ = write!(
            svg,
            "<text x=\"{left}\" y=\"{}\" fill=\"#555\">black: 95 % interval; red: goal; grey: best peer</text>\n</svg>\n",
            height - 3.0
        );
        svg
    }
}

/// xorshift64: the same resamples for the same samples.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}

fn name(kind: Kind) -> String {
    match kind {
        Kind::Ours => "sanedge".to_owned(),
        Kind::Floor => "floor".to_owned(),
        Kind::Peer(index) => format!("{}-{}", PEERS[index].name, PEERS[index].tuning),
    }
}

fn number(value: f64) -> String {
    match value {
        ..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

fn aligned(lines: &[Vec<String>]) -> String {
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for line in lines {
        let cells = line.iter().enumerate().map(|(column, cell)| format!("{cell:<0$}", width(column)));
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

fn piped(lines: &[Vec<String>]) -> String {
    let mut text = String::new();
    for (at, line) in lines.iter().enumerate() {
        let _ = writeln!(text, "| {} |", line.join(" | "));
        if at == 0 {
            let _ = writeln!(text, "|{}", "---|".repeat(line.len()));
        }
    }
    text
}

/// Date, kernel, processor.
pub fn machine() -> String {
    let said = |program: &str, argument: &str| {
        let output =
            Command::new(program).arg(argument).output().map(|output| output.stdout).unwrap_or_default();
        String::from_utf8_lossy(&output).trim().to_owned()
    };
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!(
        "{}; Linux {}, {} cores, {}; load average {} before",
        said("date", "-uI"),
        said("uname", "-r"),
        std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        model.map_or("unknown processor", |(_, model)| model),
        load.split(' ').next().unwrap_or_default(),
    )
}

/// Which build of ours was measured.
pub fn ours() -> String {
    let mut command = support::edge::sanedge();
    let program = command.get_program().to_owned();
    let is_static = std::fs::read(&program).is_ok_and(|bytes| !contains(&bytes, b"ld-linux"));
    let version = command.arg("--version").output().map(|output| output.stdout).unwrap_or_default();
    format!(
        "{}, {}",
        String::from_utf8_lossy(&version).trim(),
        if is_static { "a static build (SANEDGE_PROGRAM)" } else { "the host's release build" }
    )
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}
