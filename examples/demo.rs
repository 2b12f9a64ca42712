//! The edge between a real Socket.IO server and a page, all on this machine: `cargo run --release --example demo`.
//!
//! Makes a throwaway CA and a certificate for `localhost`, writes a `sanedge.toml`, and runs the real `sanedge bundle`
//! and `sanedge serve` (this program again, as the command line). Ends with Ctrl-C and leaves nothing behind.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::error::Error;
use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{ExitCode, Stdio};

use axum::response::Html;
use axum::routing::get;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use socketioxide::SocketIo;
use socketioxide::extract::{AckSender, Data, SocketRef};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

const PAGE: &str = include_str!("demo/page.html");
const USAGE: &str = "usage: demo [--port PORT]   (8443 unless told; 0 takes a free one)";

type Fallible<T> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["bundle", ..] => return sanedge::cli::run(),
        ["serve", ..] => return serve_while_the_demo_lives(),
        [] => demo(8443),
        ["--port", port] => port.parse().map_err(|_| USAGE.into()).and_then(demo),
        _ => Err(USAGE.into()),
    };
    outcome.map_or_else(complain, |()| ExitCode::SUCCESS)
}

fn complain(error: Box<dyn Error>) -> ExitCode {
    eprintln!("demo: {error}");
    ExitCode::FAILURE
}

/// `sanedge serve`, which ends when the demo does, however that ended: its end of our stdin closes.
fn serve_while_the_demo_lives() -> ExitCode {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(1);
    });
    sanedge::cli::run()
}

fn demo(port: u16) -> Fallible<()> {
    let port = free_port(port)?;
    let folder = tempfile::Builder::new().prefix("sanedge-demo-").tempdir()?;
    tokio::runtime::Runtime::new()?.block_on(async {
        let upstream = serve_socketio().await?;
        write_desk(folder.path(), port, upstream)?;
        bundle(folder.path()).await?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut edge = serve(folder.path()).await?;
        let _open_while_we_live = edge.stdin.take();
        tell(folder.path(), port);
        tokio::select! {
            _ = interrupt.recv() => {}
            status = edge.wait() => return Err(format!("the edge ended by itself: {}", status?).into()),
        }
        drain(edge).await
    })
}

/// The port where it is free; the edge binds it again, right after.
fn free_port(port: u16) -> Fallible<u16> {
    let taken = |error| format!("port {port} of 127.0.0.1: {error}. Choose another: demo --port 9443");
    Ok(TcpListener::bind(("127.0.0.1", port)).map_err(taken)?.local_addr()?.port())
}

/// Behind the edge: a Socket.IO server, and the page.
async fn serve_socketio() -> Fallible<SocketAddr> {
    let (layer, io) = SocketIo::new_layer();
    io.ns("/", |socket: SocketRef| async move {
        socket.on("time", |Data::<Value>(sent), ack: AckSender| async move {
            let _ = ack.send(&sent);
        });
        socket.on("say", |Data::<Value>(said), io: SocketIo| async move {
            let _ = io.emit("said", &said).await;
        });
    });
    let app = axum::Router::new().route("/", get(|| async { Html(PAGE) })).layer(layer);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(address)
}

/// As long as a certificate of Let's Encrypt.
const CERTIFICATE_LIFETIME: time::Duration = time::Duration::days(90);

/// What a person has on the desk: a certificate with its key, and `sanedge.toml`.
fn write_desk(folder: &Path, port: u16, upstream: SocketAddr) -> Fallible<()> {
    let (ca_key, key) = (KeyPair::generate()?, KeyPair::generate()?);
    let now = time::OffsetDateTime::now_utc();
    let (not_before, not_after) = (now - time::Duration::HOUR, now + CERTIFICATE_LIFETIME);
    let mut ca = CertificateParams::new(Vec::new())?;
    (ca.not_before, ca.not_after) = (not_before, not_after);
    ca.distinguished_name.push(DnType::CommonName, "sanedge demo CA (throw away)");
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    std::fs::write(folder.join("ca.pem"), ca.self_signed(&ca_key)?.pem())?;

    let mut end_entity = CertificateParams::new(vec!["localhost".to_owned()])?;
    (end_entity.not_before, end_entity.not_after) = (not_before, not_after);
    end_entity.distinguished_name = rcgen::DistinguishedName::new();
    end_entity.distinguished_name.push(DnType::CommonName, "localhost");
    end_entity.use_authority_key_identifier_extension = true;
    end_entity.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    end_entity.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = end_entity.signed_by(&key, &Issuer::new(ca, ca_key))?;
    std::fs::write(folder.join("fullchain.pem"), certificate.pem())?;
    let mut options = std::fs::OpenOptions::new();
    let mut file = std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600)
        .write(true)
        .create_new(true)
        .open(folder.join("privkey.pem"))?;
    std::io::Write::write_all(&mut file, key.serialize_pem().as_bytes())?;
    Ok(std::fs::write(folder.join("sanedge.toml"), sanedge_toml(folder, port, upstream))?)
}

fn sanedge_toml(folder: &Path, port: u16, upstream: SocketAddr) -> String {
    let admin = folder.join("admin.sock");
    format!(
        r#"board = "host"
trust = "ca.pem"
drain_timeout = "3s"
drain_spread = "0s"

[listen]
https = ["127.0.0.1:{port}"]
admin = "unix:{}"
public_https_port = {port}

[[certificate]]
chain = "fullchain.pem"
key = "privkey.pem"

[[site]]
hosts = ["localhost"]
upstream = ["{upstream}"]
"#,
        admin.display()
    )
}

async fn bundle(folder: &Path) -> Fallible<()> {
    let (toml, bundle) = (folder.join("sanedge.toml"), folder.join("sanedge.bundle"));
    let status = ourselves()?.arg("bundle").arg(toml).arg("-o").arg(bundle).status().await?;
    if status.success() { Ok(()) } else { Err(format!("sanedge bundle: {status}").into()) }
}

/// Starts the edge, passes its log on, and returns when it is ready.
async fn serve(folder: &Path) -> Fallible<Child> {
    let mut command = ourselves()?;
    command.arg("serve").arg(folder.join("sanedge.bundle")).stdin(Stdio::piped()).stderr(Stdio::piped());
    // Ctrl-C is for the demo, which then lets the edge drain.
    command.process_group(0);
    let mut edge = command.spawn()?;
    let mut log = BufReader::new(edge.stderr.take().ok_or("no stderr")?).lines();
    loop {
        let line = log.next_line().await?.ok_or("the edge ended before it was ready")?;
        eprintln!("{line}");
        if line.contains("msg=ready") || line.contains("msg=\"ready\"") {
            break;
        }
    }
    tokio::spawn(async move {
        while let Ok(Some(line)) = log.next_line().await {
            eprintln!("{line}");
        }
    });
    Ok(edge)
}

fn ourselves() -> Fallible<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.kill_on_drop(true);
    Ok(command)
}

fn tell(folder: &Path, port: u16) {
    let ca = folder.join("ca.pem");
    println!();
    println!("  open     https://localhost:{port}/");
    println!("  trust    {}   (this run only)", ca.display());
    println!("  or       curl --cacert {} https://localhost:{port}/", ca.display());
    println!("  stop     Ctrl-C");
}

async fn drain(mut edge: Child) -> Fallible<()> {
    if let Some(pid) = edge.id().and_then(|id| Pid::from_raw(id.try_into().ok()?)) {
        kill_process(pid, Signal::TERM)?;
    }
    let status = edge.wait().await?;
    if status.success() { Ok(()) } else { Err(format!("sanedge serve: {status}").into()) }
}
