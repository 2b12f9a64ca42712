//! Board profiles: one TOML per board under `boards/`, compiled into the binary, each giving default limits.
//!
//! Depends on `limits`, `toml_file` and `excerpt` only. A profile says what a board *is*; [`Limits::default_for`] derives the limits.

use std::fs;
use std::io;

use crate::excerpt::Excerpt;
use crate::limits::{self, LimitError, Limits, Machine, Rules, Value, WebSocketBounds};
use crate::toml_file::{self, Keys, Wrong};

/// The name for the machine that compiles the bundle.
pub const HOST: &str = "host";
/// Step to which the memory of [`HOST`] is rounded down.
const RAM_STEP_BYTES: u64 = 64 * 1024 * 1024;

/// A board.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Board {
    /// The name that `sanedge.toml` gives it.
    pub name: String,
    /// Description.
    pub description: String,
    /// Target triple of the binary for it.
    pub target: String,
    /// The value for rustc's `-C target-cpu`; `None` if its model of the core has instructions that the silicon lacks.
    pub target_cpu: Option<String>,
    /// Whether an RSA signature costs tens of milliseconds: 32-bit ARM has no wide multiplication.
    pub rsa_is_slow: bool,
    machine: Machine,
    limits: Limits,
    websocket: WebSocketBounds,
    /// Whether its processor has AES instructions that ring can use. What serving prefers is decided at run time.
    pub aes_instructions: bool,
}

/// Why there is no such board.
#[derive(Debug, thiserror::Error)]
pub enum BoardError {
    /// No profile has this name.
    #[error(
        "there is no board `{name}`{}; expected `{HOST}` or one of {}",
        did_you_mean(.suggestion), names().collect::<Vec<_>>().join(", ")
    )]
    Unknown {
        /// The name found.
        name: Excerpt,
        /// The nearest one.
        suggestion: Option<&'static str>,
    },
    /// A profile that cannot be read: a mistake in `boards/`, which a test finds.
    #[error("cannot read the profile of board `{name}`: {error}")]
    Profile {
        /// Its name.
        name: &'static str,
        /// What is wrong.
        error: String,
    },
    /// The memory of the compiling machine is not available.
    #[error("cannot determine the memory of this machine ({error}): name a board instead of `{HOST}`")]
    Memory {
        /// What `/proc/meminfo` gave.
        error: io::Error,
    },
}

// `PROFILES`: name and text of each file of `boards/`, listed by build.rs.
include!(concat!(env!("OUT_DIR"), "/boards.rs"));

/// A profile as it is written.
struct Profile {
    description: String,
    target: String,
    target_cpu: Option<String>,
    ram: String,
    cores: u16,
    aes_instructions: bool,
    budget: String,
    limits: ProfileLimits,
}

/// The limits that a profile sets, written as in `sanedge.toml`; all others follow from its memory.
struct ProfileLimits {
    sessions_max: i64,
    workers: i64,
    head_bytes_max: String,
    frame_bytes_max: String,
    message_bytes_max: String,
}

impl Profile {
    fn read(keys: &mut Keys<'_>) -> Result<Self, Wrong> {
        let mut limits = keys.table("limits")?;
        let profile = Self {
            description: keys.text("description")?.to_owned(),
            target: keys.text("target")?.to_owned(),
            target_cpu: keys.text_if("target_cpu")?.map(str::to_owned),
            ram: keys.text("ram")?.to_owned(),
            cores: keys.integer("cores")?.try_into().map_err(|_| Wrong(0))?,
            aes_instructions: keys.flag("aes_instructions")?,
            budget: keys.text("budget")?.to_owned(),
            limits: ProfileLimits {
                sessions_max: limits.integer("sessions_max")?,
                workers: limits.integer("workers")?,
                head_bytes_max: limits.text("head_bytes_max")?.to_owned(),
                frame_bytes_max: limits.text("frame_bytes_max")?.to_owned(),
                message_bytes_max: limits.text("message_bytes_max")?.to_owned(),
            },
        };
        limits.end()?;
        Ok(profile)
    }
}

impl Board {
    /// The board `name`; [`HOST`] looks at this machine.
    ///
    /// # Errors
    /// If there is none; the error names the nearest and all others.
    pub fn find(name: &str) -> Result<Self, BoardError> {
        if name == HOST {
            return Self::host().map_err(|error| BoardError::Memory { error });
        }
        let profile = PROFILES.iter().find(|(known, _)| *known == name);
        let &(name, text) = profile.ok_or_else(|| unknown(name))?;
        parse(name, text).map_err(|error| BoardError::Profile { name, error })
    }

    /// Cores, memory, and the edge's share of it.
    pub fn machine(&self) -> Machine {
        self.machine
    }

    /// The limits that apply if `sanedge.toml` sets none.
    pub fn default_limits(&self) -> Limits {
        self.limits.clone()
    }

    /// The limits of WebSocket frames and messages that apply if a site sets none.
    pub fn websocket_bounds(&self) -> WebSocketBounds {
        self.websocket
    }

    /// This machine: all its cores, and a quarter of its memory.
    fn host() -> io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        let ram_bytes = rounded(memory(&fs::read_to_string("/proc/meminfo")?)?);
        let cores = u16::try_from(cores).unwrap_or(u16::MAX);
        let handshakes_per_s = Machine::handshakes_per_s(cfg!(target_arch = "arm"));
        let machine = Machine { cores, ram_bytes, budget_bytes: ram_bytes / 4, handshakes_per_s };
        Ok(Self {
            name: HOST.to_owned(),
            description: "the machine that compiled the bundle".to_owned(),
            target: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
            target_cpu: None,
            rsa_is_slow: cfg!(target_arch = "arm"),
            machine,
            limits: Limits::default_for(&machine),
            websocket: WebSocketBounds::default_for(&machine),
            aes_instructions: aes_instructions(),
        })
    }
}

/// The names of all profiles.
pub fn names() -> impl Iterator<Item = &'static str> {
    PROFILES.iter().map(|(name, _)| *name)
}

fn parse(name: &str, text: &str) -> Result<Board, String> {
    let profile = toml_file::read(text, Profile::read).map_err(|wrong| {
        let line = toml_file::line(text, wrong);
        let found = text.lines().nth(line - 1).unwrap_or_default();
        format!("line {line} is not as expected, or a key is missing: {}", Excerpt::of(found))
    })?;
    board(name, profile).map_err(|error| error.to_string())
}

fn board(name: &str, profile: Profile) -> Result<Board, LimitError> {
    let is_32_bit_arm = profile.target.starts_with("arm");
    let machine = Machine {
        cores: profile.cores,
        ram_bytes: limits::parse_size(&profile.ram)?,
        budget_bytes: limits::parse_size(&profile.budget)?,
        handshakes_per_s: Machine::handshakes_per_s(is_32_bit_arm),
    };
    let (limits, websocket) = settled(&profile.limits, &machine)?;
    Ok(Board {
        name: name.to_owned(),
        description: profile.description,
        rsa_is_slow: is_32_bit_arm,
        target: profile.target,
        target_cpu: profile.target_cpu,
        machine,
        limits,
        websocket,
        aes_instructions: profile.aes_instructions,
    })
}

/// The profile's own limits over those that follow from the machine.
fn settled(written: &ProfileLimits, machine: &Machine) -> Result<(Limits, WebSocketBounds), LimitError> {
    let mut limits = Limits::default_for(machine);
    limits.set("workers", Value::Integer(written.workers))?;
    limits.set("head_bytes_max", Value::Text(&written.head_bytes_max))?;
    limits.set("sessions_max", Value::Integer(written.sessions_max))?;
    limits.follow(machine, |_| false);
    limits.check()?;
    let mut rules = Rules::default();
    rules.set("frame_bytes_max", Value::Text(&written.frame_bytes_max))?;
    rules.set("message_bytes_max", Value::Text(&written.message_bytes_max))?;
    let websocket =
        WebSocketBounds::default_for(machine).written_over(rules.frame_bytes_max, rules.message_bytes_max);
    Ok((limits, websocket))
}

/// Down to a step that updates of a kernel, which change `MemTotal` a little, rarely cross: a bundle that is compiled again is
/// then the same.
fn rounded(ram_bytes: u64) -> u64 {
    let steps = ram_bytes / RAM_STEP_BYTES;
    if steps == 0 { ram_bytes } else { steps * RAM_STEP_BYTES }
}

/// `MemTotal` of `/proc/meminfo` (proc(5)), which is in KiB whatever it says.
fn memory(meminfo: &str) -> io::Result<u64> {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kibibytes = total.and_then(|rest| rest.split_whitespace().next()).and_then(|n| n.parse::<u64>().ok());
    let missing = || io::Error::new(io::ErrorKind::InvalidData, "/proc/meminfo has no MemTotal");
    kibibytes.and_then(|kibibytes| kibibytes.checked_mul(1024)).ok_or_else(missing)
}

#[cfg(target_arch = "x86_64")]
fn aes_instructions() -> bool {
    std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq")
}

#[cfg(target_arch = "aarch64")]
fn aes_instructions() -> bool {
    std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull")
}

/// ring has no AES instructions on other processors.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn aes_instructions() -> bool {
    false
}

fn unknown(name: &str) -> BoardError {
    let likeness = |known: &&'static str| strsim::jaro_winkler(known, &name.to_ascii_lowercase());
    let nearest = names().chain([HOST]).max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    let suggestion = nearest.filter(|near| likeness(near) > 0.7);
    BoardError::Unknown { name: Excerpt::of(name), suggestion }
}

fn did_you_mean(suggestion: &Option<&'static str>) -> String {
    suggestion.map(|near| format!(": did you mean `{near}`?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Memory;

    #[test]
    fn a_little_more_or_less_memory_is_the_same_machine() {
        let mib = 1024 * 1024;
        for (found, expected) in [(63, 63), (64, 64), (127, 64), (128, 128), (3884, 3840), (3890, 3840)] {
            assert_eq!(rounded(found * mib + 12_345) / mib, expected, "{found}");
        }
    }

    #[test]
    fn every_profile_can_be_read_and_fits_its_budget_at_worst() {
        let mut seen = 0;
        for name in names() {
            let board = Board::find(name).unwrap();
            let machine = &board.machine;
            assert!(machine.cores > 0 && !board.description.is_empty(), "{name}");
            assert!(
                [
                    "aarch64-unknown-linux-musl",
                    "armv7-unknown-linux-musleabihf",
                    "arm-unknown-linux-musleabihf"
                ]
                .contains(&board.target.as_str()),
                "{name}"
            );
            assert!(machine.budget_bytes * 2 <= machine.ram_bytes, "{name}: half the memory is the app's");
            let limits = board.default_limits();
            limits.check().unwrap();
            let memory = Memory::of(&limits, machine, 4);
            assert!(memory.holds(), "{name}:\n{memory}");
            assert!(limits.sessions_max >= 128, "{name}: {} sessions", limits.sessions_max);
            assert_eq!(limits.workers, machine.cores, "{name}");
            let each = if board.target.starts_with("aarch64") { 100 } else { 50 };
            assert_eq!(limits.handshakes_per_s_max, each * u32::from(limits.workers), "{name}");
            let followed = Limits::default_for(machine);
            let least = followed.sessions_max / 8 * 5;
            let expected = least..=followed.sessions_max;
            assert!(
                expected.contains(&limits.sessions_max),
                "{name}: {} not in {expected:?}",
                limits.sessions_max
            );
            let websocket = board.websocket_bounds();
            assert_eq!(websocket, WebSocketBounds::default_for(machine), "{name}: as docs/boards.md says");
            // Proves that the assertion above can fail.
            let twice = Limits { sessions_max: limits.sessions_max * 2, ..limits };
            assert!(!Memory::of(&twice, machine, 4).holds(), "{name}: a budget that nothing fills");
            seen += 1;
        }
        assert_eq!(seen, PROFILES.len());
    }

    #[test]
    fn every_file_in_boards_is_compiled_in() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("boards");
        let mut files: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let mut known: Vec<_> = names().map(|name| format!("{name}.toml")).collect();
        files.sort();
        known.sort();
        assert_eq!(files, known);
    }

    #[test]
    fn the_designs_example_fits_a_raspberry_pi_4() {
        let board = Board::find("rpi4").unwrap();
        let mut limits = board.default_limits();
        assert_eq!(limits.workers, 4);
        limits.set("sessions_max", limits::Value::Integer(4096)).unwrap();
        let memory = Memory::of(&limits, &board.machine, 4);
        assert!(memory.holds(), "{memory}");
    }

    #[test]
    fn the_host_tells_its_own_cores_and_memory() {
        let host = Board::find(HOST).unwrap();
        assert!(host.machine.cores >= 1 && host.machine.ram_bytes > 64 << 20);
        assert_eq!(memory("MemFree: 1 kB\nMemTotal:     524288 kB\n").unwrap(), 512 << 20);
        for bad in ["", "MemTotal:", "MemTotal: x kB", "MemTotal: 18446744073709551615 kB"] {
            assert!(memory(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_unknown_board_names_the_nearest() {
        for (typed, meant) in
            [("rpi-4", "rpi4"), ("RPI5", "rpi5"), ("hosts", "host"), ("rpizero", "rpi-zero")]
        {
            let text = Board::find(typed).unwrap_err().to_string();
            assert!(text.contains(&format!("did you mean `{meant}`?")) && text.contains("rock64"), "{text}");
        }
        let text = Board::find("zzz").unwrap_err().to_string();
        assert!(!text.contains("did you mean") && text.contains("`host`"), "{text}");
    }

    #[test]
    fn a_profile_with_a_mistake_is_refused() {
        let (_, good) = PROFILES.iter().find(|(name, _)| *name == "rpi-zero").unwrap();
        assert!(parse("x", good).is_ok());
        assert!(parse("x", &format!("{good}\nspeed = 1")).unwrap_err().contains("speed"));
        assert!(parse("x", &good.replace("MiB", "MB")).unwrap_err().contains("KiB"));
        for (line, worse) in [
            ("workers = 1", "workers = 65"),
            ("sessions_max = 384", "sessions_max = 0"),
            ("head_bytes_max = \"16KiB\"", "head_bytes_max = \"4KiB\""), // below target_bytes_max
            ("frame_bytes_max = \"16MiB\"", "frame_bytes_max = \"124\""),
            ("message_bytes_max = \"16MiB\"", "message_bytes_max = \"2GiB\""),
        ] {
            assert!(good.contains(line), "{line}");
            let error = parse("x", &good.replace(line, worse)).unwrap_err();
            assert!(
                error.contains(worse.split(' ').next().unwrap()) || error.contains("target_bytes_max"),
                "{error}"
            );
        }
    }
}
