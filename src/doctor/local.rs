//! What can be seen only on the machine itself: who listens, the unit, limits, clock, heat. Reads and never changes.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use super::check::{Finding, Kind, Section};
use super::connection::Deadline;
use super::explain::{Code, Group};
use super::holder::{self, Holder};
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
        if let Holder::Process(process) = holder::of(*address) {
            let name = process.name;
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
        match holder::of(address) {
            Holder::Nobody => {
                section.unknown(Group::Board, format!("nothing listens at {address} on this machine"))
            }
            Holder::Hidden => section
                .unknown(Group::Board, format!("{address} is in use; only root can see by which program")),
            Holder::Process(process) if process.name == holder::EDGE => {
                section.passed(Group::Board, format!("sanedge listens at {address}"));
            }
            // A socket unit's, until the service takes it.
            Holder::Process(process) if process.name == holder::SYSTEMD => {
                section.unknown(
                    Group::Board,
                    format!(
                        "systemd listens on {address} for a service that does not run: systemctl status sanedge"
                    ),
                );
            }
            Holder::Process(process) => {
                let name = process.name.clone();
                let stop = process.stop(address.port());
                let message = format!("`{name}` has port {}, which the edge needs: stop it", address.port());
                section.found(
                    Finding::new(Code::PortOwner, message)
                        .seen("address", address.to_string())
                        .word("stop", stop),
                );
            }
        }
    }
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
