//! Whether the ports of the edge are free or used by the edge; if not, which program uses them, and which command frees them.

use std::net::SocketAddr;
use std::time::Duration;

use super::problem::Problem;
use super::programs;
use crate::doctor::explain::Code;
use crate::doctor::holder::{self, EDGE, Holder, Keeper, Process, SYSTEMD};
use crate::doctor::{Finding, Kind, Section};

/// Limit for `systemctl`, `docker ps` and `podman ps`.
const PROGRAM_TIME: Duration = Duration::from_secs(10);
/// The names of sanedge's socket units begin with this.
const OUR_UNITS: &str = "sanedge-";
/// A container with this in its image is Nginx Proxy Manager.
const NPM: &str = "nginx-proxy-manager";

/// The state of one listener's port.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Port {
    Free,
    Ours,
    Taken(Box<Problem>),
}

/// Checks one listener.
pub(crate) fn of(address: SocketAddr) -> Port {
    let port = address.port();
    match holder::of(address) {
        Holder::Process(process) if process.name == EDGE => Port::Ours,
        Holder::Process(process) if process.name == SYSTEMD => match socket_unit(port) {
            Some(unit) if unit.starts_with(OUR_UNITS) => Port::Ours,
            unit => taken(port, "systemd", &unit.unwrap_or_else(|| "a socket unit".to_owned()), None),
        },
        Holder::Process(process) => of_process(port, &process),
        // Without its userland proxy, Docker publishes ports without a listening process.
        Holder::Nobody => {
            container("docker", port).map_or(Port::Free, |container| of_container(port, &container))
        }
        Holder::Hidden => taken(
            port,
            "another user's program",
            "",
            Some("sudo ss -ltnp   # shows the program; then stop it".to_owned()),
        ),
    }
}

fn of_process(port: u16, process: &Process) -> Port {
    if let Keeper::Container { engine, id } = &process.kept_by {
        let found = match id {
            Some(id) => containers(engine).into_iter().find(|container| container.id.starts_with(id)),
            None => container(engine, port),
        };
        if let Some(container) = found {
            return of_container(port, &container);
        }
    }
    taken(port, &process.name, "", Some(process.stop(port)))
}

fn of_container(port: u16, container: &Container) -> Port {
    let what = if container.image.contains(NPM) { "Nginx Proxy Manager, in " } else { "" };
    let stop = format!("sudo {} stop {}", container.engine, container.name);
    taken(port, &format!("{what}the container {}", container.name), &container.image, Some(stop))
}

fn taken(port: u16, who: &str, by: &str, stop: Option<String>) -> Port {
    let stop = stop.unwrap_or_else(|| format!("sudo systemctl disable --now {by}"));
    let finding =
        Finding::new(Code::PortOwner, format!("port {port} is taken by {who}, and the edge needs it"));
    let mut section = Section::new(Kind::Machine, "", Vec::new());
    section.found(finding.word("stop", stop).seen("it is", by));
    Port::Taken(Box::new(section.findings().next().map(Problem::from).unwrap_or_default()))
}

/// The socket unit for which systemd listens on a port.
fn socket_unit(port: u16) -> Option<String> {
    let said = programs::run("systemctl", &["list-sockets", "--no-legend", "--plain"], PROGRAM_TIME).ok()?;
    unit_in(&said.text(), port)
}

fn unit_in(table: &str, port: u16) -> Option<String> {
    let end = format!(":{port}");
    let one = |line: &str| {
        let mut words = line.split_whitespace();
        words.next().filter(|listen| listen.ends_with(&end) || *listen == port.to_string())?;
        words.next().map(str::to_owned)
    };
    table.lines().find_map(one)
}

// --- containers -------------------------------------------------------------------------------------------

#[derive(Debug, PartialEq, Eq)]
struct Container {
    engine: &'static str,
    id: String,
    name: String,
    image: String,
    ports: String,
}

/// The container that publishes a port.
fn container(engine: &'static str, port: u16) -> Option<Container> {
    containers(engine).into_iter().find(|container| container.publishes(port))
}

fn containers(engine: &'static str) -> Vec<Container> {
    let form = "{{.ID}}\t{{.Names}}\t{{.Image}}\t{{.Ports}}";
    let said = programs::run(engine, &["ps", "--format", form], PROGRAM_TIME).unwrap_or_default();
    if said.succeeded { containers_in(engine, &said.text()) } else { Vec::new() }
}

fn containers_in(engine: &'static str, table: &str) -> Vec<Container> {
    let one = |line: &str| {
        let mut fields = line.split('\t').map(str::to_owned);
        let (id, name, image) = (fields.next()?, fields.next()?, fields.next()?);
        // It becomes part of a command.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let is_name = !name.is_empty() && name.bytes().all(plain);
        is_name.then(|| Container { engine, id, name, image, ports: fields.next().unwrap_or_default() })
    };
    table.lines().filter_map(one).collect()
}

impl Container {
    /// `0.0.0.0:80-81->80-81/tcp, [::]:443->443/tcp`
    fn publishes(&self, port: u16) -> bool {
        self.ports.split(", ").any(|one| {
            let Some((published, inner)) = one.split_once("->") else { return false };
            let range = published.rsplit(':').next().unwrap_or_default();
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let within = |first: u16, last: u16| (first..=last).contains(&port);
            inner.ends_with("tcp")
                && first.parse().ok().zip(last.parse().ok()).is_some_and(|(a, b)| within(a, b))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_found_by_the_port_that_it_publishes() {
        let table = "4f0c8b1a2d3e\tnpm-app-1\tjc21/nginx-proxy-manager:latest\t0.0.0.0:80-81->80-81/tcp, [::]:443->443/tcp\n\
            aaaaaaaaaaaa\tgame\tnode:20\t127.0.0.1:3002->3002/tcp, 5353/udp, 0.0.0.0:53->53/udp\nshort\nx\t$(id)\ty\t443\n";
        let found = containers_in("docker", table);
        let by = |port: u16| found.iter().find(|one| one.publishes(port)).map(|one| one.name.as_str());
        assert_eq!(found.len(), 2);
        for port in [80, 81, 443] {
            assert_eq!(by(port), Some("npm-app-1"), "{port}");
        }
        assert_eq!(by(3002), Some("game"));
        for port in [53, 79, 82, 442, 5353] {
            assert_eq!(by(port), None, "{port}");
        }
        let Port::Taken(problem) = of_container(443, &found[0]) else { panic!("free") };
        assert_eq!(problem.code, "port-owner");
        assert!(problem.message.contains("Nginx Proxy Manager, in the container npm-app-1"), "{problem:?}");
        assert!(problem.fix.contains("sudo docker stop npm-app-1"), "{problem:?}");
        let Port::Taken(problem) = of_container(443, &found[1]) else { panic!("free") };
        assert!(!problem.message.contains("Proxy Manager"), "{problem:?}");
    }

    #[test]
    fn a_socket_unit_is_found_by_its_port() {
        let table = "/run/sanedge/admin.sock sanedge-admin.socket sanedge.service\n[::]:80 sanedge-http.socket sanedge.service\n\
            0.0.0.0:8443 cockpit.socket cockpit.service\n";
        assert_eq!(unit_in(table, 80).as_deref(), Some("sanedge-http.socket"));
        assert_eq!(unit_in(table, 8443).as_deref(), Some("cockpit.socket"));
        assert_eq!(unit_in(table, 443), None);
    }
}
