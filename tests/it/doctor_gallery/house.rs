//! The house of the gallery: a network namespace with names, addresses and the servers that people really run.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rcgen::KeyPair;

use crate::support::certs::{Ca, Issued, leaf_params};
use crate::support::node::{Interop, Program};
use crate::support::program::script;

/// Names in the stub's DNS, and what it answers.
pub enum Record {
    Addresses(Vec<IpAddr>),
    /// SERVFAIL
    Failure,
    /// SERVFAIL, and an address where DNSSEC is not checked.
    Bogus(Vec<IpAddr>),
}

/// One exhibit: what doctor is asked, and what it must find first.
pub struct Exhibit {
    pub code: &'static str,
    pub arguments: Vec<String>,
    /// Without any network.
    pub offline: bool,
    /// A folder with programs (`bin`) and a `/sys` of another machine.
    pub machine: Option<PathBuf>,
    /// What must stand in the report as well.
    pub says: Vec<&'static str>,
    /// What must not.
    pub never: Vec<&'static str>,
    /// What a real client with the same options comes to.
    pub beside: Beside,
    /// The same of python-socketio's, where one is run.
    pub python: Beside,
    /// Between doctor and client, where one of them would be counted with the other.
    pub pause: Duration,
}

/// A real client beside the doctor.
#[derive(Clone, Copy)]
pub enum Beside {
    /// It succeeds where the doctor finds no failure, and only there.
    TheSame,
    /// The doctor's failure is of other clients, as said here.
    Succeeds(&'static str),
    /// It may do either, as said here.
    Unasked(&'static str),
}

pub struct House {
    pub folder: tempfile::TempDir,
    pub ca: Ca,
    pub exhibits: Vec<Exhibit>,
    dns: Vec<(String, Record)>,
    public_dns: Vec<(String, Record)>,
    addresses: u16,
    nginx: String,
    roots: String,
    running: Vec<Running>,
    waits_for: Vec<String>,
}

/// A child that does not outlive the gallery.
pub struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a location needs for Socket.IO.
pub const SOCKETIO: &str = "proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; \
    proxy_set_header Connection $connection_upgrade; proxy_set_header Host $host;";

/// Everything to an app on this port, as it should be.
pub fn to(port: u16) -> String {
    format!("location / {{ {SOCKETIO} proxy_pass http://127.0.0.1:{port}; }}")
}

/// Where the scripts have their packages.
pub fn interop_folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("interop")
}

/// Runs a command that must succeed.
pub fn run(words: &str) {
    let mut parts = words.split_whitespace();
    let output = Command::new(parts.next().unwrap()).args(parts).output().unwrap();
    assert!(output.status.success(), "{words}: {}", crate::support::edge::text(&output));
}

impl House {
    /// Moves in: loopback with many public addresses, a way out that leads nowhere, files of its own.
    pub fn new() -> Self {
        let ca = Ca::new("Gallery CA");
        let mut house = Self {
            folder: tempfile::tempdir().unwrap(),
            roots: ca.pem.clone(),
            ca,
            exhibits: Vec::new(),
            dns: Vec::new(),
            public_dns: Vec::new(),
            addresses: 0,
            nginx: String::new(),
            running: Vec::new(),
            waits_for: Vec::new(),
        };
        run("ip link set lo up");
        run("ip addr add 9.9.9.9/32 dev lo");
        run("ip route add local 23.0.0.0/16 dev lo");
        run("ip route add unreachable 23.9.0.0/16");
        run("ip link add v0 type veth peer name v1");
        run("ip addr add 192.168.77.1/24 dev v0");
        run("ip link set v0 up");
        run("ip link set v1 up");
        run("ip route add default dev v0");
        run("ip route add local 100.64.0.5/32 dev lo");
        run("ip -6 addr add 2620:99::5/128 dev lo nodad");
        house.cover("/etc/hosts", "127.0.0.1 localhost\n");
        house.cover("/etc/resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n");
        house.cover("/etc/nsswitch.conf", "hosts: files dns\n");
        house
    }

    /// Lays a file of ours over one of the machine's, in this namespace only.
    fn cover(&mut self, path: &str, content: &str) {
        let own = self.path(&path.replace('/', "_"));
        std::fs::write(&own, content).unwrap();
        if Path::new(path).exists() {
            let real = std::fs::canonicalize(path).unwrap();
            run(&format!("mount --bind {} {}", own.display(), real.display()));
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A new address, and a name for it.
    pub fn address(&mut self, host: &str) -> String {
        self.addresses += 1;
        let [third, fourth] = self.addresses.to_be_bytes();
        let address = Ipv4Addr::new(23, 0, third, fourth);
        self.record(host, vec![address.into()]);
        address.to_string()
    }

    pub fn address_of(&self, host: &str) -> String {
        let found = self.dns.iter().find(|(known, _)| known == host).unwrap();
        let Record::Addresses(addresses) = &found.1 else { panic!("{host} has no address") };
        addresses[0].to_string()
    }

    /// The last word about a name counts.
    pub fn record(&mut self, host: &str, addresses: Vec<IpAddr>) {
        self.dns.retain(|(known, _)| known != host);
        self.dns.push((host.to_owned(), Record::Addresses(addresses)));
    }

    pub fn broken_zone(&mut self, host: &str) {
        self.dns.push((host.to_owned(), Record::Failure));
    }

    /// A zone whose signatures do not verify.
    pub fn unsigned_zone(&mut self, host: &str) {
        for dns in [&mut self.dns, &mut self.public_dns] {
            dns.push((host.to_owned(), Record::Bogus(vec![Ipv4Addr::new(23, 0, 0, 1).into()])));
        }
    }

    /// A root that the doctor is told to trust.
    pub fn trust(&mut self, pem: &str) {
        self.roots += pem;
    }

    pub fn files(&self, name: &str, issued: &Issued) -> (PathBuf, PathBuf) {
        let (chain, key) = (self.path(&format!("{name}.pem")), self.path(&format!("{name}.key")));
        std::fs::write(&chain, &issued.chain_pem).unwrap();
        std::fs::write(&key, &issued.key_pem).unwrap();
        (chain, key)
    }

    /// An nginx for `host` with a good certificate; `inside` is the rest of its server block.
    pub fn nginx(&mut self, host: &str, inside: &str) -> String {
        let issued = self.ca.issue(&[host]);
        self.nginx_with(host, &issued, inside)
    }

    pub fn nginx_with(&mut self, host: &str, issued: &Issued, inside: &str) -> String {
        let address = self.address(host);
        let (chain, key) = self.files(host, issued);
        self.nginx_at(&address, &chain, &key, inside);
        self.redirect(&address, "https://$host$request_uri");
        address
    }

    pub fn nginx_at(&mut self, address: &str, chain: &Path, key: &Path, inside: &str) {
        let (chain, key) = (chain.display(), key.display());
        let _ = writeln!(
            self.nginx,
            "server {{ listen {address}:443 ssl; ssl_certificate {chain}; ssl_certificate_key {key}; {inside} }}"
        );
        self.waits_for.push(format!("{address}:443"));
    }

    pub fn redirect(&mut self, address: &str, to: &str) {
        self.plain(&format!("{address}:80"), &format!("return 301 {to};"));
    }

    /// Without TLS.
    pub fn plain(&mut self, address: &str, inside: &str) {
        let _ = writeln!(self.nginx, "server {{ listen {address}; {inside} }}");
    }

    /// A line of nginx's http block.
    pub fn nginx_line(&mut self, line: &str) {
        let _ = writeln!(self.nginx, "{line}");
    }

    /// What a test program does with each connection, on an address of its own; port 80 as it should be.
    pub fn raw(&mut self, host: &str, script: impl Fn(TcpStream) + Send + 'static) -> String {
        let address = self.address(host);
        let listener = TcpListener::bind((address.as_str(), 443)).unwrap();
        std::thread::spawn(move || listener.incoming().flatten().for_each(&script));
        self.redirect(&address, "https://$host$request_uri");
        address
    }

    pub fn exhibit(&mut self, code: &'static str, arguments: &[&str]) {
        let arguments = arguments.iter().map(|word| (*word).to_owned()).collect();
        self.exhibits.push(Exhibit {
            code,
            arguments,
            offline: false,
            machine: None,
            says: Vec::new(),
            never: Vec::new(),
            beside: Beside::TheSame,
            python: Beside::TheSame,
            pause: Duration::ZERO,
        });
    }

    /// How a real client fares with the last exhibit, where that is not as the doctor says.
    pub fn beside(&mut self, beside: Beside) {
        self.exhibits.last_mut().unwrap().beside = beside;
    }

    /// The same of python-socketio's.
    pub fn python(&mut self, beside: Beside) {
        self.exhibits.last_mut().unwrap().python = beside;
    }

    /// See [`Exhibit::pause`].
    pub fn pause(&mut self, time: Duration) {
        self.exhibits.last_mut().unwrap().pause = time;
    }

    /// What the last exhibit's report must not say.
    pub fn never_says(&mut self, texts: &[&'static str]) {
        self.exhibits.last_mut().unwrap().never.extend(texts);
    }

    /// A name that only the world's name server knows.
    pub fn public_record(&mut self, host: &str, address: &str) {
        self.public_dns.push((host.to_owned(), Record::Addresses(vec![address.parse().unwrap()])));
    }

    /// What the last exhibit's report must say as well.
    pub fn says(&mut self, texts: &[&'static str]) {
        self.exhibits.last_mut().unwrap().says.extend(texts);
    }

    /// Another machine for the last exhibit: what its systemd says and what stands in its `/sys`.
    pub fn machine(&mut self, machine: &Machine) {
        let folder = self.path(&format!("machine-{}", self.exhibits.len()));
        machine.write(&folder);
        self.exhibits.last_mut().unwrap().machine = Some(folder);
    }

    /// An nginx with one fault, looked at by its name.
    pub fn nginx_fault(&mut self, code: &'static str, inside: &str, more: &[&str]) {
        let host = format!("{code}.recre.store");
        self.nginx(&host, inside);
        let url = format!("https://{host}");
        self.exhibit(code, &[&[url.as_str()], more].concat());
    }

    pub fn certificate_fault(&mut self, code: &'static str, issued: &Issued) {
        let host = format!("{code}.recre.store");
        self.nginx_with(&host, issued, &to(4004));
        self.exhibit(code, &[&format!("https://{host}")]);
    }

    pub fn start(&mut self, command: &mut Command) -> u32 {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let pid = child.id();
        self.running.push(Running(child));
        pid
    }

    pub fn wait_for(&mut self, address: &str) {
        self.waits_for.push(address.to_owned());
    }

    /// Starts nginx, DNS and the apps, and waits until everything listens.
    pub fn open(&mut self, interop: &Interop, python: &Path, apps: &serde_json::Value) -> [Program; 2] {
        std::fs::write(self.path("roots.pem"), &self.roots).unwrap();
        let folder = self.folder.path().display().to_string();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {folder}/{kind};\n"))
            .concat();
        let configuration = format!(
            "user root;\nmaster_process off;\nworker_processes 1;\npid {folder}/nginx.pid;\nevents {{ worker_connections 8192; }}\n\
             http {{ access_log off;\nserver_names_hash_bucket_size 128;\n{temporary}\
             map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}\n{}\n}}\n",
            self.nginx
        );
        std::fs::write(self.path("nginx.conf"), configuration).unwrap();
        let nginx = self.path("nginx.conf");
        self.start(
            Command::new("nginx")
                .args(["-g", "daemon off; error_log stderr crit;", "-e", "stderr", "-c"])
                .arg(nginx),
        );
        serve_dns("127.0.0.1:53", std::mem::take(&mut self.dns));
        serve_dns("9.9.9.9:53", std::mem::take(&mut self.public_dns));
        for script in ["apps.mjs", "apps.py"] {
            let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gallery").join(script);
            std::fs::copy(ours, interop_folder().join(format!("gallery-{script}"))).unwrap();
        }
        let node = interop.start(Command::new("node").arg("gallery-apps.mjs").arg(apps.to_string()));
        let python = interop.start(Command::new(python).args(["-W", "ignore", "gallery-apps.py"]));
        node.wait("listening");
        python.wait("listening");
        for address in &self.waits_for {
            wait_until_open(address);
        }
        [node, python]
    }
}

/// A board as `systemctl`, `journalctl`, `timedatectl` and `/sys` show it; as it should be by default.
pub struct Machine {
    pub unit: &'static str,
    pub log: &'static str,
    pub synchronised: &'static str,
    pub controllers: &'static str,
    pub millidegrees: &'static str,
    pub throttled: &'static str,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            unit: "LoadState=loaded\nActiveState=active\nSubState=running\nLimitNOFILE=65536\nMemoryMax=268435456\nResult=success",
            log: "",
            synchronised: "yes",
            controllers: "cpuset cpu io memory pids",
            millidegrees: "48300",
            throttled: "0",
        }
    }
}

impl Machine {
    fn write(&self, folder: &Path) {
        let write = |path: &str, text: &str| {
            let path = folder.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, format!("{text}\n")).unwrap();
        };
        let program = |name: &str, says: &str| {
            script(&folder.join("bin").join(name), &format!("cat <<'END'\n{says}\nEND"));
        };
        std::fs::create_dir_all(folder.join("bin")).unwrap();
        program("systemctl", self.unit);
        program("journalctl", self.log);
        program("timedatectl", self.synchronised);
        write("sys/fs/cgroup/cgroup.controllers", self.controllers);
        write("sys/class/thermal/thermal_zone0/temp", self.millidegrees);
        write("sys/devices/platform/soc/soc:firmware/get_throttled", self.throttled);
    }
}

fn wait_until_open(address: &str) {
    let begin = Instant::now();
    while TcpStream::connect(address).is_err() {
        assert!(begin.elapsed() < Duration::from_secs(60), "nothing listens at {address} after 60 s");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A listener whose queue is full: what comes next is dropped, as by a firewall.
pub fn full(address: &str) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let address: std::net::SocketAddr = format!("{address}:443").parse().unwrap();
    socket.bind(&address.into()).unwrap();
    socket.listen(0).unwrap();
    for _ in 0..3 {
        let one = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let _ = one.connect_timeout(&address.into(), Duration::from_millis(300));
        std::mem::forget(one); // as long as the gallery
    }
    std::mem::forget(socket);
}

/// Reads a hello, so that closing is no reset.
pub fn hang_up(mut stream: TcpStream) {
    let _ = stream.read(&mut [0; 4096]);
}

pub fn banner(mut stream: TcpStream) {
    let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n");
    hang_up(stream);
}

pub fn silent(stream: TcpStream) {
    std::mem::forget(stream);
}

/// Breaks the handshake off, in the words of RFC 8446 §6: fatal, internal_error.
pub fn alert(mut stream: TcpStream) {
    let _ = stream.read(&mut [0; 4096]);
    let _ = stream.write_all(&[21, 3, 3, 0, 2, 2, 80]);
}

/// Ends TLS with a certificate that is none.
pub fn malformed(mut stream: TcpStream) {
    use rustls::sign::{CertifiedKey, SingleCertAndKey};
    let key = KeyPair::generate().unwrap();
    let key =
        rustls::crypto::ring::sign::any_supported_type(&key.serialize_der().try_into().unwrap()).unwrap();
    let certificate = CertifiedKey::new(vec![b"0\x03\x02\x01\x00".to_vec().into()], key);
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.unwrap().with_no_client_auth();
    let config = config.with_cert_resolver(std::sync::Arc::new(SingleCertAndKey::from(certificate)));
    let mut session = rustls::ServerConnection::new(std::sync::Arc::new(config)).unwrap();
    let _ = rustls::Stream::new(&mut session, &mut stream).read(&mut [0; 4096]);
}

/// A leaf with something odd about it.
pub fn odd(ca: &Ca, host: &str, change: impl FnOnce(&mut rcgen::CertificateParams)) -> Issued {
    let mut params = leaf_params(&[host]);
    change(&mut params);
    ca.issue_with(params, KeyPair::generate().unwrap())
}

// --- DNS --------------------------------------------------------------------------------------------------

/// RFC 1035 as far as one question goes.
fn serve_dns(address: &str, zone: Vec<(String, Record)>) {
    let socket = UdpSocket::bind(address).unwrap();
    std::thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, peer)) = socket.recv_from(&mut query) {
            let _ = socket.send_to(&reply(&query[..length], &zone), peer);
        }
    });
}

fn reply(query: &[u8], zone: &[(String, Record)]) -> Vec<u8> {
    let (name, end) = question(query);
    let kind = u16::from_be_bytes([query[end], query[end + 1]]);
    let record = zone.iter().find(|(known, _)| *known == name).map(|(_, record)| record);
    let (code, addresses): (u8, &[IpAddr]) = match record {
        None => (3, &[]),
        Some(Record::Failure) => (2, &[]),
        Some(Record::Bogus(_)) if query[3] & 0x10 == 0 => (2, &[]),
        Some(Record::Bogus(addresses)) => (0, addresses),
        Some(Record::Addresses(addresses)) => (0, addresses),
    };
    let wanted = |ip: &&IpAddr| (kind == 1 && ip.is_ipv4()) || (kind == 28 && ip.is_ipv6());
    let answers: Vec<&IpAddr> = addresses.iter().filter(wanted).collect();
    let mut reply = vec![
        query[0],
        query[1],
        0x81,
        0x80 | code,
        0,
        1,
        0,
        u8::try_from(answers.len()).unwrap(),
        0,
        0,
        0,
        0,
    ];
    reply.extend(&query[12..end + 4]);
    for ip in answers {
        let bytes = match ip {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        reply.extend([
            0xc0,
            12,
            query[end],
            query[end + 1],
            0,
            1,
            0,
            0,
            0,
            60,
            0,
            u8::try_from(bytes.len()).unwrap(),
        ]);
        reply.extend(bytes);
    }
    reply
}

fn question(query: &[u8]) -> (String, usize) {
    let (mut labels, mut at) = (Vec::new(), 12);
    while query[at] > 0 {
        let length = usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..=at + length]).to_ascii_lowercase());
        at += length + 1;
    }
    (labels.join("."), at + 1)
}
