//! The fault gallery: each code of `sanedge doctor` with a server that has this fault and no other, made of real nginx,
//! HAProxy, Caddy, Node with Socket.IO 2.x and 4.x, and our own edge; and four set-ups with nothing wrong.
//!
//!     cargo test --test it doctor_gallery:: -- --nocapture
//!
//! prints the table. Everything happens in a network namespace with its own DNS; nothing leaves this machine.

mod clients;
mod exhibits;
mod gateways;
mod house;
mod kinds;
mod reports;
mod upgrades;
use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Mutex;

use crate::support::browser::chromium;
use crate::support::doctor_schema as schema;
use crate::support::edge::{sanedge, text};
use crate::support::node::{Interop, has, skip};
use clients::{Clients, Outcome};
use house::{Beside, Exhibit, House};
use sanedge::doctor::explain::{Code, Level};
use serde_json::Value;

/// At the same time: they mostly wait.
const VISITORS: usize = 6;
/// Distinct codes that the gallery must show as the first failure.
const FAILURES_MIN: usize = 40;

/// By `doctor.rs` and `admin.rs`: they are about who runs doctor, how long, and what `sanedge renew` has not done yet.
const PROVED_ELSEWHERE: [&str; 4] =
    ["bundle-unreadable", "edge-certificate-pending", "time-up", "tls-no-timestamps"];

#[test]
fn each_fault_is_found_first_and_nothing_is_found_where_nothing_is_wrong() {
    const TEST: &str = "each_fault_is_found_first_and_nothing_is_found_where_nothing_is_wrong";
    let Some(interop) = Interop::ready(TEST) else { return };
    if interop.python(TEST).is_none() {
        return;
    }
    for (program, argument) in [
        ("nginx", "-v"),
        ("haproxy", "-v"),
        ("caddy", "version"),
        ("apache2", "-v"),
        ("openssl", "version"),
        ("ip", "-V"),
    ] {
        if !has(program, argument) {
            return skip(TEST, &format!("it needs {program}"));
        }
    }
    if chromium().is_none() {
        return skip(TEST, "it needs Chromium");
    }
    let own = rustix::process::geteuid().is_root();
    let user = if own { vec![] } else { vec!["--map-root-user"] };
    // Whatever is started inside ends with it.
    let namespaces = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let possible = Command::new("unshare").args(&user).args(namespaces).arg("true").output();
    if !possible.is_ok_and(|output| output.status.success()) {
        return skip(TEST, "it needs network namespaces (root, or unprivileged user namespaces)");
    }
    let mut command = Command::new("unshare");
    command.args(user).args(namespaces).arg(std::env::current_exe().unwrap());
    command
        .args(["--ignored", "--exact", "doctor_gallery::inside_the_namespace", "--nocapture"])
        .env("SANEDGE_GALLERY", "1");
    let output = command.output().unwrap();
    println!("{}", text(&output));
    assert!(output.status.success(), "the gallery found something else than it should, see above");
}

#[test]
#[ignore = "the other test runs it in a namespace of its own"]
fn inside_the_namespace() {
    assert!(
        std::env::var_os("SANEDGE_GALLERY").is_some(),
        "run without --ignored: this one must not touch the machine's own network"
    );
    let interop = Interop::ready("inside_the_namespace").unwrap();
    let python = interop.python("inside_the_namespace").unwrap();
    let mut house = House::new();
    let (apps, edges) = exhibits::hang(&mut house);
    let _apps = house.open(&interop, &python, &apps);
    let only = std::env::var("SANEDGE_GALLERY_ONLY").ok();
    let exhibits: Vec<&Exhibit> = house
        .exhibits
        .iter()
        .filter(|exhibit| only.as_deref().is_none_or(|only| exhibit.code.contains(only)))
        .collect();
    let roots = house.path("roots.pem");
    let chromium = chromium().unwrap();
    let clients = Clients::start(&house::interop_folder(), &roots, &python, &chromium);
    // Those with a pause first: at the end everything else would wait for them.
    let mut order: Vec<usize> = (0..exhibits.len()).collect();
    order.sort_by_key(|at| std::cmp::Reverse(exhibits[*at].pause));
    let queue = Mutex::new(order.into_iter());
    let verdicts = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..VISITORS {
            scope.spawn(|| {
                loop {
                    let Some(at) = queue.lock().unwrap().next() else { break };
                    let verdict = visit(exhibits[at], &roots, &clients, at as u64);
                    verdicts.lock().unwrap().push((at, verdict));
                }
            });
        }
    });
    let mut verdicts = verdicts.into_inner().unwrap();
    verdicts.sort_by_key(|(at, _)| *at);
    // Beside five others and everything else that this machine does, a client may run out of time.
    for (at, verdict) in &mut verdicts {
        let exhibit = exhibits[*at];
        if let Some(wrong) = judge(exhibit, verdict).wrong {
            println!("visited again, alone: {wrong}");
            *verdict = visit(exhibit, &roots, &clients, (exhibits.len() + *at) as u64);
        }
    }
    drop(edges);
    let mut failures = BTreeSet::new();
    let mut wrong = Vec::new();
    println!("| fault | doctor | client | first sentence |\n|---|---|---|---|");
    for (at, verdict) in &verdicts {
        let exhibit = exhibits[*at];
        let Judgement { found, word, client, wrong: is_wrong } = judge(exhibit, verdict);
        println!("| {} | {word}: {found} | {client} | {} |", exhibit.code, verdict.sentence);
        if word != "WRONG" && level(exhibit) == Some(Level::Fail) {
            failures.insert(exhibit.code);
        }
        wrong.extend(is_wrong);
    }
    let hanging: BTreeSet<&str> = exhibits.iter().map(|exhibit| exhibit.code).collect();
    let missing: Vec<&str> = Code::ALL
        .iter()
        .map(|code| code.as_str())
        .filter(|code| !hanging.contains(code) && !PROVED_ELSEWHERE.contains(code))
        // By `doctor_renewal.rs`, which has the files of a managed host, and `doctor_reach.rs`.
        .filter(|code| !code.starts_with("acme-"))
        // `renew` says these, not the doctor: `local.rs`, and the tests of `src/local`.
        .filter(|code| !code.starts_with("local-"))
        .collect();
    assert!(only.is_some() || missing.is_empty(), "codes without an exhibit: {missing:?}");
    println!("{} exhibits, {} distinct failures, {} wrong", verdicts.len(), failures.len(), wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n---\n"));
    assert!(only.is_some() || failures.len() >= FAILURES_MIN, "only {} distinct failures", failures.len());
}

/// The level of what an exhibit shows; `None` if nothing is wrong with it.
fn level(exhibit: &Exhibit) -> Option<Level> {
    Code::ALL.iter().find(|code| code.as_str() == exhibit.code).map(|code| code.level())
}

struct Judgement {
    found: String,
    word: &'static str,
    client: String,
    /// Everything about it.
    wrong: Option<String>,
}

fn judge(exhibit: &Exhibit, verdict: &Verdict) -> Judgement {
    let level = level(exhibit);
    let found = if level == Some(Level::Fail) { &verdict.first_failure } else { &verdict.first };
    let right = found.as_deref() == level.map(|_| exhibit.code)
        && (level == Some(Level::Fail) || verdict.first_failure.is_none());
    let word = match (right, verdict.silent.is_empty()) {
        (true, true) => "right",
        (true, false) => "weak",
        (false, _) => "WRONG",
    };
    let client = verdict.beside();
    let is_wrong = word != "right" || client.is_err() || verdict.requests > REQUESTS_MAX;
    let wrong = is_wrong.then(|| {
        format!(
            "{} {:?}, not said: {:?}, client: {client:?}, {} requests\n{}",
            exhibit.code, exhibit.arguments, verdict.silent, verdict.requests, verdict.whole
        )
    });
    let client = client.unwrap_or_else(|why| format!("WRONG: {why}"));
    Judgement { found: found.as_deref().unwrap_or("nothing").to_owned(), word, client, wrong }
}

/// Requests of a run, at one host: three times those of a client's first connection (five), and those for `/` and port 80,
/// which a browser makes before.
const REQUESTS_MAX: usize = 17;

/// What doctor said.
struct Verdict {
    first: Option<String>,
    first_failure: Option<String>,
    sentence: String,
    whole: String,
    /// What it should have said and did not, or the reverse.
    silent: Vec<&'static str>,
    /// At the host that was asked most.
    requests: usize,
    clients: Vec<Outcome>,
}

impl Verdict {
    /// Healthy goes with success, a failure with a failure.
    fn beside(&self) -> Result<String, String> {
        let mut all = Vec::new();
        for client in &self.clients {
            let said =
                format!("{} {}: {}", client.who, if client.ok { "connects" } else { "fails" }, client.why);
            let (fits, expected) = match client.expected {
                Beside::TheSame => (client.ok == self.first_failure.is_none(), "the same as the doctor"),
                Beside::Succeeds(why) => (client.ok, why),
                Beside::Unasked(why) => (true, why),
            };
            if !fits {
                return Err(format!("{said}; expected: {expected}"));
            }
            all.push(said);
        }
        Ok(all.join("; "))
    }
}

fn visit(exhibit: &Exhibit, roots: &std::path::Path, clients: &Clients, id: u64) -> Verdict {
    let doctor = sanedge();
    let mut command = if exhibit.offline {
        let mut command = Command::new("unshare");
        command.arg("--net").arg(doctor.get_program());
        command.args(doctor.get_args());
        command
    } else if let Some(machine) = &exhibit.machine {
        let mut command = Command::new("unshare");
        let inside = "mount --bind \"$0/sys\" /sys && PATH=\"$0/bin:$PATH\" exec \"$@\"";
        command.args(["--mount", "sh", "-c", inside]).arg(machine);
        command.arg(doctor.get_program()).args(doctor.get_args());
        command
    } else {
        doctor
    };
    let output = command
        .args(["doctor", "--json", "--timeout", "40s", "--ca"])
        .arg(roots)
        .args(&exhibit.arguments)
        .output()
        .unwrap();
    let whole = text(&output);
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{:?}: no JSON\n{whole}", exhibit.arguments));
    schema::holds(&report);
    if std::env::var_os("SANEDGE_GALLERY_SCREENS").is_some() {
        let screen = sanedge().args(["doctor", "--ca"]).arg(roots).args(&exhibit.arguments).output().unwrap();
        println!("=== {}\n{}", exhibit.code, text(&screen));
    }
    let checks: Vec<&Value> = report["sections"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|section| section["checks"].as_array().unwrap())
        .collect();
    let findings: Vec<&&Value> = checks.iter().filter(|check| check["code"].is_string()).collect();
    let failure = findings.iter().find(|check| check["outcome"] == "fail");
    let code = |check: &&&Value| check["code"].as_str().unwrap().to_owned();
    let healthy = failure.is_none();
    let requests = report["sections"].as_array().unwrap().iter();
    let requests =
        requests.map(|section| section["exchanges"].as_array().map_or(0, Vec::len)).max().unwrap_or(0);
    std::thread::sleep(exhibit.pause);
    let clients = clients.visit(id, exhibit);
    assert_eq!(output.status.code(), Some(i32::from(!healthy)), "the exit code of {:?}", exhibit.arguments);
    Verdict {
        first: findings.first().map(code),
        first_failure: failure.map(code),
        sentence: failure
            .or(findings.first())
            .map_or(String::new(), |check| check["text"].as_str().unwrap().to_owned()),
        silent: {
            let missing = exhibit.says.iter().copied().filter(|text| !whole.contains(text));
            missing.chain(exhibit.never.iter().copied().filter(|text| whole.contains(text))).collect()
        },
        whole,
        requests,
        clients,
    }
}
