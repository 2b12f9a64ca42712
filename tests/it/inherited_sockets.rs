//! Listening sockets that a service manager hands over by name: they are the listeners, and [listen] must say the same.

use std::fmt::Display;
use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::HOST;
use crate::support::activation::Sockets;
use crate::support::edge::{Desk, Edge, EdgeBuilder, PATIENCE, sanedge, text};
use crate::support::node::{has, skip};
use crate::support::raw::Raw;
use crate::support::upstream::{OK, Upstream};
use rustix::fs::OFlags;
use rustix::process::Signal;
use socket2::{Domain, SockRef, Socket, Type};

/// As the builder writes it.
const ANY: &str = "127.0.0.1:0";

fn site(upstream: &Upstream) -> EdgeBuilder {
    Edge::certified_for(&[HOST]).site(&[HOST], upstream)
}

fn free() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

fn address(listener: &TcpListener) -> SocketAddr {
    listener.local_addr().unwrap()
}

fn clone(listener: &TcpListener) -> TcpListener {
    listener.try_clone().unwrap()
}

/// Writes another address for https into sanedge.toml.
fn https_on(desk: &Desk, before: impl Display, address: impl Display) {
    let toml = std::fs::read_to_string(desk.toml()).unwrap();
    let line = |address: &dyn Display| format!("https = [\"{address}\"]");
    assert!(toml.contains(&line(&before)), "{toml}");
    std::fs::write(desk.toml(), toml.replace(&line(&before), &line(&address))).unwrap();
}

async fn assert_serves(edge: &Edge) {
    let mut client = Raw::open(edge, HOST).await;
    client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
    assert_eq!(client.response().await.status, 200);
}

fn status(admin: &Path) -> (bool, String) {
    let output = sanedge().args(["status", "--admin"]).arg(admin).output().unwrap();
    (output.status.success(), text(&output))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sockets_are_the_listeners_through_reloads_and_restarts() {
    let upstream = Upstream::answering(OK).await;
    let desk = site(&upstream).with_http().write();
    let (https, http) = (free(), free());
    https_on(&desk, ANY, address(&https));
    let admin = desk.path("admin.sock");
    let sockets = Sockets::new()
        .with("admin", UnixListener::bind(&admin).unwrap())
        .with("https", clone(&https))
        .with("http", clone(&http));
    let edge = desk.serve_on(&sockets);
    assert_eq!((edge.https, edge.http), (address(&https), Some(address(&http))));
    assert_serves(&edge).await;
    assert!(status(&admin).0);

    // A reload keeps them; one that wants others needs a restart.
    edge.reload();
    assert_serves(&edge).await;
    let other = SocketAddr::from(([127, 0, 0, 2], 443));
    https_on(edge.desk(), address(&https), other);
    edge.desk().bundled();
    let output = sanedge().args(["reload", "--admin"]).arg(&admin).output().unwrap();
    assert!(!output.status.success() && text(&output).contains("needs a restart"), "{}", text(&output));
    assert_serves(&edge).await;
    https_on(edge.desk(), other, address(&https));
    edge.desk().bundled();

    // So does a restart: the same addresses, the same file.
    edge.signal(Signal::USR1);
    let edge = edge.succeeded_on(&sockets);
    assert_eq!((edge.https, edge.http), (address(&https), Some(address(&http))));
    assert_serves(&edge).await;
    let (answered, said) = status(&admin);
    assert!(answered, "{said}");

    let mut edge = edge;
    edge.signal(Signal::TERM);
    edge.wait_until_ended();
    assert!(std::fs::symlink_metadata(&admin).unwrap().file_type().is_socket(), "its file is not the edge's");
    TcpStream::connect(address(&https)).expect("still listening, for whoever comes next");
    UnixStream::connect(&admin).expect("still listening, for whoever comes next");
}

#[tokio::test(flavor = "multi_thread")]
async fn they_get_the_options_of_sockets_of_our_own() {
    let upstream = Upstream::answering(OK).await;
    let https = free();
    {
        let fresh = SockRef::from(&https);
        assert!(!fresh.tcp_nodelay().unwrap() && !fresh.keepalive().unwrap());
    }
    let desk = site(&upstream).limits("socket_buffer_bytes = \"64KiB\"\nsessions_max = 64").write();
    let edge = desk.serve_on(&Sockets::new().with("https", clone(&https)));
    assert_serves(&edge).await;
    let socket = SockRef::from(&https);
    assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
    assert!(socket.tcp_user_timeout().unwrap().is_some());
    // Linux doubles what is asked for (socket(7), SO_SNDBUF).
    assert_eq!(socket.send_buffer_size().unwrap(), 2 * 64 * 1024);
    assert_eq!(socket.recv_buffer_size().unwrap(), 2 * 64 * 1024);
    assert!(rustix::fs::fcntl_getfl(&https).unwrap().contains(OFlags::NONBLOCK));
    edge.stop();
}

#[test]
fn what_disagrees_with_the_bundle_is_refused() {
    let desk = Edge::certified_for(&[HOST]).site(&[HOST], "127.0.0.1:9").write();
    let with_http = Edge::certified_for(&[HOST]).site(&[HOST], "127.0.0.1:9").with_http().write();
    let (one, other) = (free(), free());
    https_on(&desk, ANY, address(&one));
    let admin = |name: &str| UnixListener::bind(desk.path(name)).unwrap();
    let bound = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    bound.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let port = address(&other).port().to_string();
    let https = || Sockets::new().with("https", clone(&one));
    let null = || File::open("/dev/null").unwrap();

    // What must be said, in pieces.
    let cases = [
        (
            &desk,
            Sockets::new().with("https", clone(&other)),
            format!("`https` in [listen] is 127.|{port}|ListenStream="),
        ),
        (&desk, https().with("https", clone(&other)), format!("`https` in [listen]|{port}|equal")),
        (
            &desk,
            Sockets::new().with("http", clone(&one)),
            "are none|enable --now sanedge-https.socket".to_owned(),
        ),
        (
            &desk,
            https().with("http", clone(&other)),
            format!("[listen] is none|{port}|disable --now sanedge-http."),
        ),
        (
            &with_http,
            Sockets::new().with("https", free()),
            "are none|enable --now sanedge-http.socket".to_owned(),
        ),
        (
            &desk,
            https().with("foo", free()),
            "named `foo`|`https`, `http` or `admin`|FileDescriptorName=".to_owned(),
        ),
        (&desk, https().with("", free()), "named ``|FileDescriptorName=".to_owned()),
        (
            &desk,
            Sockets::new().with("https", admin("third.sock")),
            "`https` (descriptor 3)|a listening TCP".to_owned(),
        ),
        (
            &desk,
            Sockets::new().with("https", bound),
            "`https` (descriptor 3)|one that is not listening".to_owned(),
        ),
        (&desk, https().with("admin", null()), "`admin` (descriptor 4)|is not a socket|Accept=no".to_owned()),
        (
            &desk,
            Sockets::new().with("admin", admin("other.sock")),
            "`admin` in [listen] is unix:|other.sock".to_owned(),
        ),
        (
            &desk,
            Sockets::new().with("admin", free()),
            "`admin` in [listen] is unix:|are 127.0.0.1:".to_owned(),
        ),
        (&desk, https().counted(2), "LISTEN_FDS|through its units".to_owned()),
        (&desk, https().named("https:http"), "LISTEN_FDNAMES|through its units".to_owned()),
    ];
    let mut refused = 0;
    for (desk, sockets, wanted) in cases {
        let said = desk.refused_on(&sockets).replace("\\x3d", "=");
        let missing: Vec<_> = wanted.split('|').filter(|piece| !said.contains(piece)).collect();
        assert!(said.contains("cannot serve") && missing.is_empty(), "no {missing:?} in\n{said}");
        assert!(!said.contains("panic"), "{said}");
        refused += 1;
    }
    assert_eq!(refused, 14);
}

#[test]
fn two_admin_sockets_are_one_too_many() {
    let desk = Edge::certified_for(&[HOST]).site(&[HOST], "127.0.0.1:9").write();
    let admin = |name| UnixListener::bind(desk.path(name)).unwrap();
    let said = desk.refused_on(&Sockets::new().with("admin", admin("a.sock")).with("admin", admin("b.sock")));
    assert!(said.contains("a second one"), "{said}");
}

/// `ListenStream=443` with and without `BindIPv6Only=both`.
#[tokio::test(flavor = "multi_thread")]
async fn all_addresses_means_ipv4_as_well() {
    let Ok(only_v6) = Socket::new(Domain::IPV6, Type::STREAM, None) else {
        return skip("all_addresses_means_ipv4_as_well", "this kernel has no IPv6");
    };
    let any = SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 0));
    let both = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
    for (socket, only) in [(&only_v6, true), (&both, false)] {
        socket.set_only_v6(only).unwrap();
        socket.bind(&any.into()).unwrap();
        socket.listen(16).unwrap();
    }
    let upstream = Upstream::answering(OK).await;
    let desk = site(&upstream).write();
    https_on(&desk, ANY, "[::]:0");
    let said = desk.refused_on(&Sockets::new().with("https", only_v6));
    assert!(said.contains("for IPv6 only") && said.contains("BindIPv6Only"), "{said}");
    let edge = desk.serve_on(&Sockets::new().with("https", both));
    TcpStream::connect(("127.0.0.1", edge.https.port())).unwrap();
    edge.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_for_another_process_are_not_ours() {
    let upstream = Upstream::answering(OK).await;
    let held = free();
    let desk = site(&upstream).write();
    let edge = desk.serve_on(&Sockets::new().with("https", clone(&held)).for_another_process());
    assert_ne!(edge.https, address(&held), "[listen] has port 0, and the edge binds it");
    assert_serves(&edge).await;
    edge.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_socket_alone_leaves_the_listeners_to_the_edge() {
    let upstream = Upstream::answering(OK).await;
    let desk = site(&upstream).with_http().write();
    let admin = desk.path("admin.sock");
    let edge = desk.serve_on(&Sockets::new().with("admin", UnixListener::bind(&admin).unwrap()));
    assert_serves(&edge).await;
    assert!(edge.http.is_some() && status(&admin).0);
    edge.stop();
}

/// A child that must not outlive its test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Systemd's own tool, instead of the test, in the place of the service manager.
#[tokio::test(flavor = "multi_thread")]
async fn systemds_own_tool_hands_them_over() {
    let test = "systemds_own_tool_hands_them_over";
    if !has("systemd-socket-activate", "--version") {
        return skip(test, "it needs systemd-socket-activate (Debian: systemd)");
    }
    let upstream = Upstream::answering(OK).await;
    let desk = site(&upstream).write();
    // It takes no port 0; of twenty one is free.
    let first = 20_000 + u16::try_from(std::process::id() % 10_000).unwrap();
    let mut before = SocketAddr::from(([127, 0, 0, 1], 0));
    for port in (first..).step_by(101).take(20) {
        let https = SocketAddr::from(([127, 0, 0, 1], port));
        https_on(&desk, before, https);
        before = https;
        desk.bundled();
        let Some(_child) = activated(&desk, https) else { continue };
        TcpStream::connect(https).unwrap();
        let (answered, said) = status(&desk.path("admin.sock"));
        assert!(answered, "{said}\n{}", read(&desk.path("log")));
        let said = read(&desk.path("log"));
        assert_eq!(said.matches("inherited=true").count(), 2, "{said}");
        return;
    }
    panic!("no free port:\n{}", read(&desk.path("log")));
}

/// It starts the edge, as itself, when somebody comes. Ends by itself where the port is taken: none then.
fn activated(desk: &Desk, https: SocketAddr) -> Option<Killed> {
    let (program, log) = (sanedge(), desk.path("log"));
    let mut command = Command::new("systemd-socket-activate");
    command.arg(format!("--listen={https}")).arg("--listen").arg(desk.path("admin.sock"));
    command.arg("--fdname=https:admin");
    command.arg(program.get_program()).args(program.get_args()).arg("serve").arg(desk.bundle_file());
    command.stdin(Stdio::null()).stderr(File::create(&log).unwrap());
    let mut child = Killed(command.spawn().unwrap());
    let end = Instant::now() + PATIENCE;
    while !read(&log).contains("msg=ready") {
        if child.0.try_wait().unwrap().is_some() {
            let said = read(&log);
            assert!(said.contains("Address already in use"), "{said}");
            return None;
        }
        assert!(Instant::now() < end, "not ready:\n{}", read(&log));
        let _ = UnixStream::connect(desk.path("admin.sock"));
        std::thread::sleep(Duration::from_millis(20));
    }
    Some(child)
}

fn read(log: &Path) -> String {
    std::fs::read_to_string(log).unwrap_or_default()
}
