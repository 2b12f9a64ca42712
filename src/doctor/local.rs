//! What can be seen only on the machine itself: who listens, the unit, limits, clock, heat. Reads and never changes.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use super::check::{Finding, Kind, Section};
use super::connection::Deadline;
use super::explain::{Code, Group};
use crate::excerpt::Excerpt;

/// For each program that is asked.
const PROGRAM_TIME: Duration = Duration::from_secs(2);
/// Lines of the unit's log that are shown.
const LOG_LINES: &str = "5";
/// From here a Pi slows down.
const HOT_MILLIDEGREES: i64 = 80_000;
/// Descriptors per session: the client's and the app's.
const DESCRIPTORS_PER_SESSION: u64 = 2;

/// Looks at this machine; `listens` is where the edge should listen, `apps` where the apps behind it should.
pub(super) async fn look(
    listens: &[SocketAddr],
    apps: &[SocketAddr],
    sessions_max: Option<u64>,
    deadline: Deadline,
) -> Section {
    let mut section = Section::new(Kind::Machine, "this machine", Vec::new());
    owners(listens, &mut section);
    // That nobody does has a finding of its own, from asking the app.
    for address in apps.iter().filter(|address| address.ip().is_loopback()) {
        if let Owner::Process(name) = owner(*address) {
            section.passed(Group::Board, format!("`{name}` listens at {address}, where the app should"));
        }
    }
    unit(sessions_max, deadline, &mut section).await;
    clock(deadline, &mut section).await;
    heat(&mut section);
    let available = fs::read_to_string("/proc/meminfo").ok().and_then(|text| memory_available(&text));
    if let Some(mebibytes) = available {
        section.passed(Group::Board, format!("{mebibytes} MiB of memory are available"));
    }
    section
}

/// `MemAvailable` of /proc/meminfo, in MiB.
fn memory_available(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? / 1024)
}

// --- who listens ------------------------------------------------------------------------------------------

fn owners(listens: &[SocketAddr], section: &mut Section) {
    let wanted: BTreeSet<SocketAddr> =
        listens.iter().copied().filter(|address| address.port() != 0).collect();
    for address in wanted {
        match owner(address) {
            Owner::Nobody => {
                section.unknown(Group::Board, format!("nothing listens at {address} on this machine"))
            }
            Owner::Hidden => section
                .unknown(Group::Board, format!("{address} is in use; only root can see by which program")),
            Owner::Process(name) if name == "sanedge" => {
                section.passed(Group::Board, format!("sanedge listens at {address}"));
            }
            // A socket unit's, until the service takes it.
            Owner::Process(name) if name == "systemd" => {
                section.unknown(
                    Group::Board,
                    format!(
                        "systemd listens on {address} for a service that does not run: systemctl status sanedge"
                    ),
                );
            }
            Owner::Process(name) => {
                let message = format!("`{name}` has port {}, which the edge needs: stop it", address.port());
                section.found(
                    Finding::new(Code::PortOwner, message)
                        .seen("address", address.to_string())
                        .word("owner", name),
                );
            }
        }
    }
}

enum Owner {
    Nobody,
    Hidden,
    Process(String),
}

/// Who holds the address; where several do, we before others.
fn owner(address: SocketAddr) -> Owner {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let read = |path: &&str| fs::read_to_string(path).ok();
    let inodes: BTreeSet<String> =
        tables.iter().filter_map(read).flat_map(|table| listening(&table, address)).collect();
    if inodes.is_empty() {
        return Owner::Nobody;
    }
    let Ok(processes) = fs::read_dir("/proc") else { return Owner::Hidden };
    let holds = |process: &PathBuf| {
        let Ok(files) = fs::read_dir(process.join("fd")) else { return false };
        let mut links = files.flatten().filter_map(|file| fs::read_link(file.path()).ok());
        links.any(|link| inodes.contains(&*link.to_string_lossy()))
    };
    let holders = processes.flatten().map(|entry| entry.path()).filter(holds);
    let name = |path: PathBuf| fs::read_to_string(path.join("comm")).ok().map(|name| name.trim().to_owned());
    let mut names: Vec<String> = holders.filter_map(name).collect();
    names.sort_by_key(|name| name != "sanedge");
    names.into_iter().next().map_or(Owner::Hidden, Owner::Process)
}

/// `socket:[inode]` of each socket of a /proc/net/tcp table that stands in the way of `address`.
fn listening(table: &str, address: SocketAddr) -> Vec<String> {
    let meets = |ip: IpAddr| ip == address.ip() || ip.is_unspecified() || address.ip().is_unspecified();
    let one = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (ip, port) = words.get(1)?.rsplit_once(':')?;
        let same_port = u16::from_str_radix(port, 16).ok()? == address.port();
        let listens = *words.get(3)? == "0A" && same_port && meets(kernel_address(ip)?);
        listens.then(|| words.get(9).map(|inode| format!("socket:[{inode}]")))?
    };
    table.lines().skip(1).filter_map(one).collect()
}

/// The kernel prints an address as 32-bit words in the machine's byte order.
fn kernel_address(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| Some(u32::from_str_radix(hex.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    if hex.len() == 8 {
        return Some(IpAddr::from(word(0)?));
    }
    let bytes: Vec<u8> = [word(0)?, word(8)?, word(16)?, word(24)?].concat();
    Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?).to_canonical())
}

// --- the unit ---------------------------------------------------------------------------------------------

async fn unit(sessions_max: Option<u64>, deadline: Deadline, section: &mut Section) {
    let properties = "LoadState,ActiveState,SubState,LimitNOFILE,MemoryMax,Result";
    let Some(shown) = run("systemctl", &["show", "sanedge", "-p", properties], deadline).await else {
        section.skipped(Group::Board, "no systemd on this machine: the state of the service is unknown");
        return;
    };
    let of = |name: &str| property(&shown, name).to_owned();
    if of("LoadState") != "loaded" {
        section.skipped(Group::Board, "there is no unit `sanedge` on this machine");
        return;
    }
    let state = format!("{} ({})", of("ActiveState"), of("SubState"));
    if of("ActiveState") == "failed" {
        let log =
            run("journalctl", &["-u", "sanedge", "-n", LOG_LINES, "--no-pager", "-o", "cat"], deadline).await;
        let finding = Finding::new(Code::UnitFailed, format!("the service sanedge failed: {}", of("Result")));
        let log = log.unwrap_or_default();
        let lines: Vec<String> = log.trim().lines().map(|line| Excerpt::of(line).into()).collect();
        section.found(finding.seen("log", lines.join("\n")));
    } else {
        section.passed(Group::Board, format!("the service sanedge is {state}"));
    }
    limits(&of("LimitNOFILE"), sessions_max, section);
    if !matches!(of("MemoryMax").as_str(), "" | "infinity") && !has_memory_cgroup() {
        section.found(Finding::new(
            Code::MemoryMax,
            "the unit's MemoryMax has no effect: this kernel runs without the memory cgroup",
        ));
    }
}

fn limits(files: &str, sessions_max: Option<u64>, section: &mut Section) {
    let (Ok(files), Some(sessions)) = (files.parse::<u64>(), sessions_max) else { return };
    let need = sessions * DESCRIPTORS_PER_SESSION;
    if files < need {
        let message = format!("the service may open {files} files, and {sessions} sessions need {need}");
        section.found(Finding::new(Code::FdLimit, message));
    }
}

fn property<'a>(shown: &'a str, name: &str) -> &'a str {
    shown.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default()
}

/// Version 2 names its controllers; of version 1 the memory cgroup is a mount of its own.
fn has_memory_cgroup() -> bool {
    let controllers = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    controllers.split_whitespace().any(|name| name == "memory") || Path::new("/sys/fs/cgroup/memory").is_dir()
}

// --- clock and heat ---------------------------------------------------------------------------------------

async fn clock(deadline: Deadline, section: &mut Section) {
    let shown = run("timedatectl", &["show", "-p", "NTPSynchronized", "--value"], deadline).await;
    match shown.as_deref().map(str::trim) {
        Some("yes") => section.passed(Group::Board, "the clock is synchronised"),
        Some("no") => {
            section.found(Finding::new(
                Code::ClockUnsynchronised,
                "the clock of this machine is not synchronised with a time server",
            ));
        }
        _ => section.skipped(Group::Board, "cannot find out whether the clock is synchronised"),
    }
}

fn heat(section: &mut Section) {
    let number = |path: &str, radix| {
        let text = fs::read_to_string(path).ok()?;
        i64::from_str_radix(text.trim().trim_start_matches("0x"), radix).ok()
    };
    if let Some(degrees) =
        number("/sys/class/thermal/thermal_zone0/temp", 10).filter(|degrees| *degrees >= HOT_MILLIDEGREES)
    {
        let message = format!("the processor has {} °C and slows down", degrees / 1000);
        section.found(Finding::new(Code::PiHot, message));
    }
    if let Some(bits) =
        number("/sys/devices/platform/soc/soc:firmware/get_throttled", 16).filter(|bits| *bits != 0)
    {
        let message = if bits & 1 == 1 {
            "the power supply is too weak right now"
        } else {
            "the processor is or was throttled (power or heat)"
        };
        section.found(Finding::new(Code::PiThrottled, message).seen("get_throttled", format!("{bits:#x}")));
    }
}

/// What a program says; `None` where it is not there, fails or takes too long.
async fn run(program: &str, arguments: &[&str], deadline: Deadline) -> Option<String> {
    let mut command = std::process::Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .env("LC_ALL", "C");
    let ended = tokio::task::spawn_blocking(move || command.output());
    let output = deadline.wait(PROGRAM_TIME, ended).await.ok()?.ok()?.ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sockets_that_listen_are_found_by_their_port() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
               0: 00000000:01BB 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0\n\
               1: 0100007F:01BB 0100007F:E2B4 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 20 4 30 10 -1\n\
               2: 0100007F:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1 0 100 0 0 10 0\n";
        let at = |address: &str| listening(table, address.parse().unwrap());
        assert_eq!(at("[::]:443"), ["socket:[4711]"]);
        assert_eq!(at("192.168.1.5:443"), ["socket:[4711]"]);
        assert_eq!(at("127.0.0.1:80"), ["socket:[4713]"]);
        assert!(at("127.0.0.2:80").is_empty());
        assert!(at("[::]:8443").is_empty());
        assert!(listening("x\nshort line\n", "[::]:443".parse().unwrap()).is_empty());
        assert_eq!(kernel_address("00000000000000000000000001000000"), Some("::1".parse().unwrap()));
    }

    #[test]
    fn the_memory_that_is_left_is_read_in_mebibytes() {
        let text = "MemTotal:        3884320 kB\nMemAvailable:    2097152 kB\n";
        assert_eq!(memory_available(text), Some(2048));
        assert_eq!(memory_available("MemFree: 1 kB\n"), None);
    }

    #[test]
    fn properties_are_read_by_their_whole_name() {
        let shown = "Result=success\nActiveState=active\nSubState=running\n";
        assert_eq!(property(shown, "ActiveState"), "active");
        assert_eq!(property(shown, "Active"), "");
    }
}
