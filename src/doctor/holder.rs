//! Which program listens on a port of this machine, from /proc. Only root sees the programs of other users.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// The name of our own process.
pub(crate) const EDGE: &str = "sanedge";
/// The process that holds the sockets of all socket units.
pub(crate) const SYSTEMD: &str = "systemd";
/// Programs that hold a published port for a container. Their own unit is that of the container engine.
const OF_CONTAINERS: [(&str, &str); 4] =
    [("docker-proxy", "docker"), ("conmon", "podman"), ("rootlessport", "podman"), ("pasta", "podman")];
/// Digits by which container engines show and take an identifier.
const ID_CHARS: usize = 12;

/// What listens on an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    /// Nothing listens there.
    Nobody,
    /// A program that this user cannot see.
    Hidden,
    /// A program.
    Process(Process),
}

/// A program that listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) name: String,
    /// What starts it again, if that is known.
    pub(crate) kept_by: Keeper,
}

/// What starts a program again if it is merely killed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Keeper {
    /// A service of systemd.
    Unit(String),
    /// A container: the engine's command, and the identifier where it is known.
    Container { engine: &'static str, id: Option<String> },
    /// Unknown.
    Nothing,
}

impl Process {
    /// The command that frees the port, also after the next boot.
    pub(crate) fn stop(&self, port: u16) -> String {
        match &self.kept_by {
            Keeper::Unit(unit) => format!("sudo systemctl disable --now {unit}"),
            Keeper::Container { engine, id: Some(id) } => format!("sudo {engine} stop {id}"),
            Keeper::Container { engine, id: None } => {
                format!("sudo {engine} ps | grep ':{port}->'   # then: sudo {engine} stop NAME")
            }
            Keeper::Nothing => format!("sudo kill {}", self.pid),
        }
    }
}

/// What listens on the address; if several programs do, the edge comes first.
pub(crate) fn of(address: SocketAddr) -> Holder {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let read = |path: &&str| fs::read_to_string(path).ok();
    let inodes: BTreeSet<String> =
        tables.iter().filter_map(read).flat_map(|table| listening(&table, address)).collect();
    if inodes.is_empty() {
        return Holder::Nobody;
    }
    let Ok(processes) = fs::read_dir("/proc") else { return Holder::Hidden };
    let holds = |process: &PathBuf| {
        let Ok(files) = fs::read_dir(process.join("fd")) else { return false };
        let mut links = files.flatten().filter_map(|file| fs::read_link(file.path()).ok());
        links.any(|link| inodes.contains(&*link.to_string_lossy()))
    };
    let holders = processes.flatten().map(|entry| entry.path()).filter(holds);
    let mut found: Vec<Process> = holders.filter_map(process).collect();
    found.sort_by_key(|process| (process.name != EDGE, process.pid));
    found.into_iter().next().map_or(Holder::Hidden, Holder::Process)
}

fn process(folder: PathBuf) -> Option<Process> {
    let pid = folder.file_name()?.to_str()?.parse().ok()?;
    let name = fs::read_to_string(folder.join("comm")).ok()?.trim().to_owned();
    let cgroups = fs::read_to_string(folder.join("cgroup")).unwrap_or_default();
    let kept_by = keeper(&name, &cgroups);
    Some(Process { pid, name, kept_by })
}

/// Finds it by the program's name and /proc/PID/cgroup: `0::/system.slice/nginx.service`, or `…/docker-IDENTIFIER.scope`.
fn keeper(name: &str, cgroups: &str) -> Keeper {
    if let Some((_, engine)) = OF_CONTAINERS.iter().find(|(program, _)| *program == name) {
        return Keeper::Container { engine, id: None };
    }
    let parts =
        || cgroups.lines().filter_map(|line| line.rsplit(':').next()).flat_map(|path| path.split('/'));
    for part in parts() {
        for (engine, before) in [("docker", "docker-"), ("podman", "libpod-"), ("docker", "")] {
            let id = part.strip_suffix(".scope").unwrap_or(part).strip_prefix(before).unwrap_or_default();
            if id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Keeper::Container { engine, id: id.get(..ID_CHARS).map(str::to_owned) };
            }
        }
    }
    let is_unit = |part: &&str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@:\\".contains(&byte);
        part.ends_with(".service") && !part.starts_with("user@") && part.bytes().all(plain)
    };
    // Services of a user's own systemd are below `user@1000.service`, and that manager is another.
    let is_users = parts().any(|part| part.starts_with("user@"));
    parts().find(is_unit).filter(|_| !is_users).map_or(Keeper::Nothing, |unit| Keeper::Unit(unit.to_owned()))
}

/// `socket:[inode]` of each socket in a /proc/net/tcp table that listens on `address` or on all addresses.
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
    fn the_command_stops_what_would_start_the_program_again() {
        let id = "4f0c8b1a2d3e".repeat(6)[..64].to_owned();
        let stop = |name: &str, cgroups: &str| {
            Process { pid: 42, name: name.to_owned(), kept_by: keeper(name, cgroups) }.stop(443)
        };
        let docker = format!("0::/system.slice/docker-{id}.scope\n");
        for (name, cgroups, command) in [
            ("nginx", "0::/system.slice/nginx.service\n", "sudo systemctl disable --now nginx.service"),
            (
                "apache2",
                "1:name=systemd:/system.slice/apache2.service\n0::/\n",
                "sudo systemctl disable --now apache2.service",
            ),
            (
                "lighttpd",
                "0::/system.slice/lighttpd.service",
                "sudo systemctl disable --now lighttpd.service",
            ),
            (
                "pihole-FTL",
                "0::/system.slice/pihole-FTL.service",
                "sudo systemctl disable --now pihole-FTL.service",
            ),
            ("nginx", docker.as_str(), "sudo docker stop 4f0c8b1a2d3e"),
            ("nginx", &docker.replace("docker-", "libpod-"), "sudo podman stop 4f0c8b1a2d3e"),
            ("nginx", &format!("5:cpu:/docker/{id}\n"), "sudo docker stop 4f0c8b1a2d3e"),
            ("node", "0::/user.slice/user-1000.slice/session-3.scope", "sudo kill 42"),
            (
                "node",
                "0::/user.slice/user-1000.slice/user@1000.service/app.slice/game.service",
                "sudo kill 42",
            ),
            ("node", "0::/system.slice/$(reboot).service", "sudo kill 42"),
            ("node", "", "sudo kill 42"),
        ] {
            assert_eq!(stop(name, cgroups), command, "{name} in {cgroups}");
        }
        // The unit of a published port's helper is that of the engine.
        let published = stop("docker-proxy", "0::/system.slice/docker.service");
        assert!(published.starts_with("sudo docker ps | grep ':443->'"), "{published}");
    }
}
