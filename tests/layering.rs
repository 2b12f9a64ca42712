//! The direction of imports: an ordered list of all files of `src/` and `edge/src/`, in which a file imports files below it only
//! (docs/architecture.md, "Layers"); and words that some of them may not use.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Every file of `src/` and `edge/src/`, from the program down to what imports nothing. A new file gets a line here: the lowest place where all
/// that it imports stands below it. Code under `#[cfg(test)]` is free; files of tests stand above all others.
const ORDER: &[&str] = &[
    // Tests of one file.
    "edge/session/exchange/tests.rs",
    "edge/session/relay/tests.rs",
    "http/forward/tests.rs",
    "http/head/tests.rs",
    "ws/tracker/tests.rs",
    // The program, and what fuzz targets call.
    "fuzz.rs",
    "fuzz/commands.rs",
    "fuzz/session.rs",
    "fuzz/frozen.rs",
    "fuzz/records.rs",
    "fuzz/messages.rs",
    "fuzz/parsers.rs",
    "fuzz/simulated_edge.rs",
    "fuzz/link.rs",
    "fuzz/sloppy.rs",
    "fuzz/ws.rs",
    "lib.rs",
    "main.rs",
    // Sides: arguments to commands,
    "cli.rs",
    "cli/setup.rs",
    "cli/setup/steps.rs",
    "cli/setup/write.rs",
    "cli/setup/dialogue.rs",
    "cli/setup/options.rs",
    "cli/setup/told.rs",
    "cli/setup/qr.rs",
    "cli/console.rs",
    "cli/console/doctor.rs",
    "cli/console/perform.rs",
    "cli/console/certificates.rs",
    "cli/account.rs",
    "cli/local.rs",
    "cli/renew.rs",
    "cli/site.rs",
    "cli/site/edit.rs",
    "cli/apply/tell.rs",
    "cli/apply.rs",
    "cli/apply/settle.rs",
    "cli/apply/commit.rs",
    "cli/apply/preflight.rs",
    "cli/apply/signals.rs",
    "cli/apply/journal.rs",
    "cli/apply/lock.rs",
    "cli/apply/edge.rs",
    "cli/import.rs",
    "cli/output.rs",
    "cli/running.rs",
    "cli/failure.rs",
    "cli/difference.rs",
    "cli/sources.rs",
    "cli/terminal.rs",
    "cli/verbs.rs",
    // ... a page in a browser,
    "console.rs",
    "console/serve.rs",
    "console/page.rs",
    "console/gate.rs",
    "console/link.rs",
    // ... a host set up step by step,
    "setup.rs",
    "setup/child.rs",
    "setup/look.rs",
    "setup/ports.rs",
    "setup/units.rs",
    "setup/edit.rs",
    "setup/problem.rs",
    "setup/again.rs",
    "setup/account.rs",
    "setup/programs.rs",
    // ... the configuration of another program,
    "import.rs",
    "import/write.rs",
    "import/server.rs",
    "import/location.rs",
    "import/values.rs",
    "import/files.rs",
    "import/syntax.rs",
    "import/known.rs",
    // ... certificates from a CA,
    "acme.rs",
    "acme/manage.rs",
    "acme/local.rs",
    "acme/stop.rs",
    "acme/order.rs",
    "acme/account.rs",
    "acme/jws.rs",
    "acme/problem.rs",
    "acme/dns.rs",
    "acme/dns/api.rs",
    "acme/dns/exec.rs",
    "acme/dns/update.rs",
    "acme/dns/credentials.rs",
    "acme/fetch.rs",
    "acme/challenge.rs",
    "acme/alpn.rs",
    "acme/unserved.rs",
    "acme/confirm.rs",
    "acme/tell.rs",
    "acme/state.rs",
    "acme/certificate.rs",
    "acme/progress.rs",
    // ... a CA at home,
    "local.rs",
    "local/authority.rs",
    "local/certificate.rs",
    // ... a client's view from outside.
    "doctor.rs",
    "doctor/local.rs",
    "doctor/holder.rs",
    "doctor/client/answers.rs",
    "doctor/client/cors.rs",
    "doctor/client/extras.rs",
    "doctor/client/handshake.rs",
    "doctor/client/hold.rs",
    "doctor/client/no_websocket.rs",
    "doctor/client/paths.rs",
    "doctor/client/polling.rs",
    "doctor/client/refusal.rs",
    "doctor/client/upgrade.rs",
    "doctor/client/websocket.rs",
    "doctor/explain/page.rs",
    "doctor/paste.rs",
    "doctor/render.rs",
    "doctor/stages/app.rs",
    "doctor/stages/page.rs",
    "doctor/stages/renewal.rs",
    "doctor/stages/reach.rs",
    "doctor/stages/port.rs",
    "doctor/stages/name.rs",
    "doctor/stages/tls.rs",
    "doctor/certificate.rs",
    "doctor/stages.rs",
    "doctor/router.rs",
    "doctor/dns.rs",
    "doctor/client.rs",
    "doctor/client/cookies.rs",
    "doctor/client/known.rs",
    "doctor/client/origin.rs",
    "doctor/csp.rs",
    "doctor/packets.rs",
    "doctor/ask.rs",
    "doctor/socket.rs",
    "doctor/head_lines.rs",
    "doctor/connection.rs",
    "doctor/foreign_certificate.rs",
    "doctor/home_network.rs",
    "doctor/target.rs",
    "doctor/managed.rs",
    "doctor/options.rs",
    "doctor/tls.rs",
    "doctor/hybrid.rs",
    "doctor/check.rs",
    "doctor/explain.rs",
    "doctor/journal.rs",
    // What both of these ask: name servers, and whether the clock can be right.
    "acme/dns/lookup.rs",
    "acme/dns/error.rs",
    "acme/clock.rs",
    "acme/policy.rs",
    // The main thread,
    "control.rs",
    "control/startup.rs",
    "control/main_thread.rs",
    "control/watchdog.rs",
    "control/preflight.rs",
    "control/descriptors.rs",
    "control/serve_error.rs",
    "control/status.rs",
    "control/hand_over.rs",
    "control/health.rs",
    "control/expiry.rs",
    "control/challenges.rs",
    "control/sources.rs",
    "control/paths.rs",
    // ... the admin socket,
    "admin/client.rs",
    "admin/server.rs",
    "admin/endpoints.rs",
    "admin/page.rs",
    "admin/health.rs",
    "admin/problems.rs",
    "admin/text.rs",
    "admin/exposition.rs",
    "system/sockets.rs",
    "admin.rs",
    // ... and the system around it.
    "system.rs",
    "system/started.rs",
    "system/sandbox.rs",
    "system/descriptor_store.rs",
    "system/parcels.rs",
    "system/process.rs",
    "system/systemd.rs",
    // Sessions: the loops that accept,
    "edge.rs",
    "edge/accept/accept_loop.rs",
    "edge/accept/listeners.rs",
    // ... sessions,
    "edge/session/https/resume.rs",
    "edge/session/https.rs",
    "edge/session/https/decide.rs",
    "edge/session/https/forward.rs",
    "edge/session/https/frozen.rs",
    "edge/session/https/answer.rs",
    "edge/session/https/phase.rs",
    "edge/session/https/access.rs",
    "edge/session/https/handshake.rs",
    "edge/session/https/head.rs",
    "edge/session/https/last.rs",
    "edge/session/port80.rs",
    "edge/session/proxy_header.rs",
    "edge/session/relay/frozen.rs",
    "edge/session/relay.rs",
    "edge/session/exchange.rs",
    "edge/session/exchange/request.rs",
    "edge/session/exchange/response.rs",
    "edge/session/exchange/machine.rs",
    "edge/session/exchange/state.rs",
    "edge/session/exchange/input.rs",
    "edge/session/relay/machine.rs",
    "edge/session/relay/lane.rs",
    "edge/session/relay/timers.rs",
    "edge/session/silent.rs",
    "edge/session/frozen.rs",
    "edge/session/worker.rs",
    "edge/session/driver.rs",
    "edge/session/machine.rs",
    "edge/session/buffers.rs",
    "edge/session/pace.rs",
    // ... byte streams,
    "edge/net/linger.rs",
    "edge/net/pool.rs",
    "edge/net/retry.rs",
    "edge/net/transport.rs",
    "edge/net/tls.rs",
    "edge/net/handshake.rs",
    "edge/net/hello.rs",
    "edge/net/records.rs",
    "edge/net/send_buffer.rs",
    "edge/net/upstream.rs",
    "edge/net/socket.rs",
    // ... state across workers.
    "edge/shared/state.rs",
    "edge/shared/addresses.rs",
    "edge/shared/balance.rs",
    "edge/shared/eviction.rs",
    "edge/shared/sticky.rs",
    "edge/shared/active_config.rs",
    "edge/shared/handover.rs",
    "edge/shared/challenges.rs",
    "edge/shared/tickets.rs",
    "edge/shared/tickets/key_folder.rs",
    "edge/shared/tickets/keys.rs",
    "edge/shared/tls_config.rs",
    "edge/shared/traffic_secrets.rs",
    "edge/shared/upstreams.rs",
    // A side: counters, systemd, the admin socket.
    "ops.rs",
    "ops/access.rs",
    "ops/log.rs",
    "ops/log/form.rs",
    "ops/metrics.rs",
    "ops/meter.rs",
    // The core.
    "engineio.rs",
    "decision.rs",
    "route.rs",
    "record.rs",
    "record/messages.rs",
    "record/ciphers.rs",
    "record/keys.rs",
    "record/fault.rs",
    "hybrid.rs",
    "hybrid/offer.rs",
    "ws.rs",
    "ws/handshake.rs",
    "ws/origin.rs",
    "ws/tracker.rs",
    "ws/frame.rs",
    "bundle/freshness.rs",
    "bundle/compare.rs",
    "bundle/open.rs",
    "bundle/report.rs",
    "bundle/compile.rs",
    "bundle/compile/encode.rs",
    "bundle/compile/carry.rs",
    "bundle/compile/managed.rs",
    "bundle/compile/sites.rs",
    "bundle/compile/cover.rs",
    "bundle/compile/network.rs",
    "bundle/compile/presented.rs",
    "bundle/compile/chain.rs",
    "bundle/compile/clients.rs",
    "bundle/compile/issuer.rs",
    "bundle/compile/anchors.rs",
    "bundle/compile/key.rs",
    "bundle/compile/key_form.rs",
    "bundle/compile/path.rs",
    "bundle/compile/purpose.rs",
    "bundle/compile/pem.rs",
    "bundle/compile/container.rs",
    "bundle/compile/settle.rs",
    "bundle/compile/verdict.rs",
    "bundle/compile/facts.rs",
    "bundle/compile/context.rs",
    "bundle/compile/profile.rs",
    "bundle/compile/der.rs",
    "bundle/source.rs",
    "bundle/commands.rs",
    "bundle/file.rs",
    "bundle/shell.rs",
    "bundle/source/bounded.rs",
    "bundle/source/line_ends.rs",
    "bundle/source/acme.rs",
    "bundle/source/local.rs",
    "bundle/source/reader.rs",
    "bundle/source/fields.rs",
    "bundle/source/typed.rs",
    "bundle/source/advice.rs",
    "bundle/finding.rs",
    "bundle/keys.rs",
    "bundle/source/foreign.rs",
    "bundle/source/values.rs",
    "bundle/source/parsed.rs",
    "bundle/private.rs",
    "bundle/websockets.rs",
    "bundle/table.rs",
    "bundle/wire.rs",
    "bundle/wire/assemble.rs",
    "bundle/wire/value.rs",
    "bundle/wire/layout.rs",
    "bundle/wire/error.rs",
    "bundle/wire/payload.rs",
    "bundle/acme/told.rs",
    "bundle/acme.rs",
    "bundle/alpn.rs",
    "bundle/acme/stored.rs",
    "bundle/acme/local.rs",
    "bundle.rs",
    "bundle/lifetime.rs",
    "bundle/redirect.rs",
    // ... that knows no bundle.
    "http.rs",
    "http/answer.rs",
    "http/problem.rs",
    "http/bound_auth.rs",
    "http/forward.rs",
    "http/changes.rs",
    "http/head.rs",
    "http/meaning.rs",
    "http/lines.rs",
    "http/target.rs",
    "http/body.rs",
    "http/field.rs",
    "http/scan.rs",
    "http/fault.rs",
    "board.rs",
    "toml_file.rs",
    "limits.rs",
    "limits/defaults.rs",
    "limits/memory.rs",
    "limits/table.rs",
    "limits/rules.rs",
    "limits/row.rs",
    "limits/range.rs",
    "names.rs",
    "names/origin.rs",
    "names/host.rs",
    "bundle/pem.rs",
    "excerpt.rs",
    "excerpt/scatter.rs",
    "excerpt/scatter/groups.rs",
    "proxy_protocol.rs",
    "reason.rs",
];

/// Neither sockets, nor tasks, nor a clock: bytes and time come in as arguments.
const NO_IO: &[&str] = &[
    "tokio",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "UnixListener",
    "spawn",
    "Instant::now",
    "SystemTime",
    "elapsed",
];
const NO_SOCKETS: &[&str] = &[
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "UnixListener",
    "TcpSocket",
    "UnixSocket",
    "spawn",
    "spawn_local",
];
/// No clock, no streams, no task: whoever steps it has them.
const MACHINE: &[&str] = &[
    "Instant::now",
    "SystemTime",
    "elapsed",
    "TlsStream",
    "UpstreamStream",
    "TcpStream",
    "UnixStream",
    "Context",
    "Waker",
    "poll_fn",
    "spawn",
    "spawn_local",
    "sleep",
    "Worker",
    "Shared",
];
const NO_CLOCK: &[&str] = &["Instant::now", "SystemTime", "elapsed"];

/// Who may not use which words: the beginning of paths, but for the files named behind; and where that is promised.
const PROMISES: &[(&[&str], &[&str], &[&str])] = &[
    // lib.rs: the core.
    (
        &[
            "reason.rs",
            "route.rs",
            "record",
            "hybrid",
            "decision.rs",
            "engineio.rs",
            "bundle",
            "ws",
            "http",
            "proxy_protocol.rs",
            "names",
            "limits",
            "excerpt.rs",
            "excerpt",
            "board.rs",
            "toml_file.rs",
        ],
        &[],
        NO_IO,
    ),
    // fuzz/simulated_edge.rs: it steps the machines of `edge` in virtual time, which begins in fuzz/link.rs.
    (&["fuzz"], &["fuzz/simulated_edge.rs", "fuzz/link.rs"], NO_IO),
    (&["fuzz/simulated_edge.rs"], &[], MACHINE),
    // `ops` only counts and writes; of `admin` and `system` three files have sockets and tasks.
    (&["ops"], &[], NO_SOCKETS),
    (&["admin", "system"], &["admin/server.rs", "admin/client.rs", "system/sockets.rs"], NO_SOCKETS),
    // edge.rs: state across workers does nothing by itself, and but for the file of `Shared` gets its time.
    (&["edge/shared"], &[], NO_SOCKETS),
    (&["edge/shared"], &["edge/shared/state.rs"], NO_CLOCK),
    (&["edge/session/pace.rs", "edge/net/records.rs", "edge/net/send_buffer.rs"], &[], NO_CLOCK),
    // machine.rs: whatever waits in a session is a machine, stepped with the time and its ends as arguments.
    (
        &[
            "edge/session/relay",
            "edge/session/exchange",
            "edge/session/https/head.rs",
            "edge/session/https/last.rs",
            "edge/session/machine.rs",
            "edge/session/buffers.rs",
        ],
        &["edge/session/relay.rs", "edge/session/relay/frozen.rs", "edge/session/exchange.rs"],
        MACHINE,
    ),
    // driver.rs: it alone waits for a machine.
    (
        &["edge/session/https", "edge/session/relay", "edge/session/exchange"],
        &["edge/session/https.rs"],
        &["poll_fn", "sleep"],
    ),
];

/// What a file names of this crate: module paths from the crate's root, as far as they are written.
fn named(text: &str, own: &[String]) -> BTreeSet<Vec<String>> {
    let tokens = program(text);
    let mut children = BTreeSet::new();
    walk(&tokens, own, |scope, path, is_module| {
        if is_module {
            children.insert(scope.iter().chain(path).cloned().collect::<Vec<_>>());
        }
    });
    let mut named = BTreeSet::new();
    walk(&tokens, own, |scope, path, is_module| {
        if !is_module {
            named.extend(absolute(path, scope, &children));
        }
    });
    named
}

/// Calls `found` with each path of two names or more, and each module that is declared, and in which module it stands.
fn walk(tokens: &[String], own: &[String], mut found: impl FnMut(&[String], &[String], bool)) {
    let mut scope = own.to_vec();
    let mut opened = Vec::new(); // the depths of the braces of inline modules
    let (mut at, mut depth) = (0, 0);
    while let Some(token) = tokens.get(at) {
        let next = tokens.get(at + 1).map_or("", String::as_str);
        match token.as_str() {
            "{" => depth += 1,
            "}" => {
                depth -= 1;
                if opened.pop_if(|opened| *opened == depth).is_some() {
                    scope.pop();
                }
            }
            "mod" if is_name(next) => {
                found(&scope, &tokens[at + 1..at + 2], true);
                if tokens.get(at + 2).is_some_and(|brace| brace == "{") {
                    scope.push(next.to_owned());
                    opened.push(depth);
                }
                at += 1;
            }
            // `use<'a>` is a bound.
            "use" if next != "<" => {
                let end = (at..tokens.len()).find(|end| tokens[*end] == ";").unwrap_or(tokens.len());
                let mut paths = Vec::new();
                tree(&tokens[at + 1..end], &mut 0, Vec::new(), &mut paths);
                paths.iter().for_each(|path| found(&scope, path, false));
                at = end;
            }
            name if is_name(name) && !continues(&tokens[..at]) => {
                let mut path = vec![name.to_owned()];
                while tokens.get(at + 1).is_some_and(|next| next == "::")
                    && tokens.get(at + 2).is_some_and(|next| is_name(next))
                {
                    path.push(tokens[at + 2].clone());
                    at += 2;
                }
                if path.len() > 1 {
                    found(&scope, &path, false);
                }
            }
            _ => {}
        }
        at += 1;
    }
}

/// Whether what follows is no path of its own: the rest of one, or the module of `pub(in …)`.
fn continues(before: &[String]) -> bool {
    before.last().is_some_and(|last| last == "::") || before.ends_with(&["(", "in"].map(str::to_owned))
}

/// The tokens but for what is compiled for tests only.
fn program(text: &str) -> Vec<String> {
    let mut tokens = tokens(text);
    let test = ["#", "[", "cfg", "(", "test", ")", "]"];
    while let Some(begin) = tokens.windows(test.len()).position(|window| window == test) {
        let end = (begin + test.len()..tokens.len()).find(|at| matches!(tokens[*at].as_str(), ";" | "{"));
        let end = match end {
            Some(at) if tokens[at] == "{" => end_of_block(&tokens, at),
            Some(at) => at + 1,
            None => tokens.len(),
        };
        tokens.drain(begin..end);
    }
    tokens
}

/// Behind the brace that closes the one at `open`.
fn end_of_block(tokens: &[String], open: usize) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.as_str() {
            "{" => depth += 1,
            "}" if depth == 1 => return at + 1,
            "}" => depth -= 1,
            _ => {}
        }
    }
    tokens.len()
}

/// The paths of a `use` tree, each from its beginning.
fn tree(tokens: &[String], at: &mut usize, before: Vec<String>, paths: &mut Vec<Vec<String>>) {
    let mut path = before;
    while let Some(token) = tokens.get(*at) {
        *at += 1;
        match token.as_str() {
            "{" => {
                while tokens.get(*at).is_some_and(|token| token != "}") {
                    tree(tokens, at, path.clone(), paths);
                    if tokens.get(*at).is_some_and(|token| token == ",") {
                        *at += 1;
                    }
                }
                *at += 1;
                return;
            }
            "," | "}" => {
                *at -= 1;
                break;
            }
            "as" => *at += 1,
            "::" | "*" => {}
            name => path.push(name.to_owned()),
        }
    }
    paths.push(path);
}

/// `path`, as it is written in module `scope`, from the crate's root; `None` if it leads elsewhere.
fn absolute(path: &[String], scope: &[String], children: &BTreeSet<Vec<String>>) -> Option<Vec<String>> {
    let child = || scope.iter().cloned().chain([path[0].clone()]).collect::<Vec<_>>();
    match path.first()?.as_str() {
        "crate" | "sanedge" => Some(path[1..].to_vec()),
        "self" | "super" => {
            let up = path.iter().filter(|part| *part == "super").count();
            let rest = path.iter().filter(|part| !matches!(part.as_str(), "self" | "super"));
            Some(scope[..scope.len().checked_sub(up)?].iter().chain(rest).cloned().collect())
        }
        _ if children.contains(&child()) => Some(scope.iter().chain(path).cloned().collect()),
        _ => None,
    }
}

fn is_name(token: &str) -> bool {
    token.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
}

/// Names, `::`, and single characters; comments and literals are left out.
fn tokens(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let get = |at: usize| chars.get(at).copied().unwrap_or('\0');
    let is_word = |char: char| char.is_alphanumeric() || char == '_';
    let (mut tokens, mut at) = (Vec::new(), 0);
    while at < chars.len() {
        let start = at;
        match (get(at), get(at + 1)) {
            ('/', '/') => at = (at..chars.len()).find(|at| chars[*at] == '\n').unwrap_or(chars.len()),
            ('/', '*') => {
                at = (at + 2..chars.len())
                    .find(|at| get(at - 2) == '*' && get(at - 1) == '/')
                    .unwrap_or(chars.len())
            }
            ('"', _) => at = end_of_string(&chars, at),
            ('\'', '\\') => {
                at = (at + 3..chars.len()).find(|at| chars[*at] == '\'').map_or(chars.len(), |at| at + 1)
            }
            ('\'', _) if get(at + 2) == '\'' => at += 3,
            ('r', '"' | '#') if (at + 1..).find(|at| get(*at) != '#').is_some_and(|at| get(at) == '"') => {
                let hashes = (at + 1..).take_while(|at| get(*at) == '#').count();
                let is_end = |at: &usize| get(*at) == '"' && (1..=hashes).all(|more| get(at + more) == '#');
                at = (at + hashes + 2..chars.len()).find(is_end).map_or(chars.len(), |at| at + 1 + hashes);
            }
            (':', ':') => {
                tokens.push("::".to_owned());
                at += 2;
            }
            (char, _) if is_word(char) => {
                while is_word(get(at)) {
                    at += 1;
                }
                if matches!((&chars[start..at], get(at)), (['b' | 'c'], '"' | '\'') | (['b', 'r'], '"' | '#'))
                {
                    continue; // what follows is the literal
                }
                tokens.push(chars[start..at].iter().collect());
            }
            (char, _) => {
                if !char.is_whitespace() {
                    tokens.push(char.to_string());
                }
                at += 1;
            }
        }
    }
    tokens
}

fn end_of_string(chars: &[char], start: usize) -> usize {
    let mut at = start + 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// The module that a file is.
fn module(file: &str) -> Vec<String> {
    match file {
        "lib.rs" | "main.rs" => Vec::new(),
        _ => file.trim_end_matches(".rs").split('/').map(str::to_owned).collect(),
    }
}

/// Whom each of `files` imports.
fn imports(files: &BTreeMap<String, String>) -> BTreeSet<(&str, &str)> {
    let modules: BTreeMap<Vec<String>, &str> =
        files.keys().filter(|file| *file != "main.rs").map(|file| (module(file), file.as_str())).collect();
    let mut imports = BTreeSet::new();
    for (file, text) in files {
        for path in named(text, &module(file)) {
            let to = (0..=path.len()).rev().find_map(|length| modules.get(&path[..length])).unwrap();
            if to != file {
                imports.insert((file.as_str(), *to));
            }
        }
    }
    imports
}

/// Where `files` break `order`, in sentences.
fn out_of_order(files: &BTreeMap<String, String>, order: &[&str]) -> Vec<String> {
    let place = |file: &str| order.iter().position(|at| *at == file);
    let missing = files.keys().filter(|file| place(file).is_none());
    let gone = order.iter().filter(|file| !files.contains_key(**file));
    let twice = order.iter().enumerate().filter(|(at, file)| place(file) != Some(*at));
    let missing =
        missing.map(|file| format!("src/{file} is missing in the ordered list of tests/layering.rs"));
    let gone = gone.map(|file| format!("tests/layering.rs lists src/{file}, which does not exist"));
    let twice = twice.map(|(_, file)| format!("tests/layering.rs lists src/{file} twice"));
    let known = imports(files).into_iter().filter(|(from, to)| place(from).is_some() && place(to).is_some());
    let upward = known.filter(|(from, to)| place(from) >= place(to));
    let upward = upward.map(|(from, to)| format!("src/{from} imports src/{to}, which stands above it"));
    missing.chain(gone).chain(twice).chain(upward).collect()
}

/// Where `files` use a word that they may not, in sentences.
fn broken_promises(
    files: &BTreeMap<String, String>,
    promises: &[(&[&str], &[&str], &[&str])],
) -> Vec<String> {
    let mut broken = Vec::new();
    for (places, but, words) in promises {
        for (file, text) in files {
            let is_meant = |place: &str| {
                file == place || file.strip_prefix(place).is_some_and(|rest| rest.starts_with(['/', '.']))
            };
            if !places.iter().any(|place| is_meant(place))
                || but.contains(&file.as_str())
                || file.ends_with("/tests.rs")
            {
                continue;
            }
            let program = program(text);
            for word in *words {
                let word_tokens = tokens(word);
                if program.windows(word_tokens.len()).any(|window| window == word_tokens) {
                    broken.push(format!("src/{file} uses `{word}`"));
                }
            }
        }
    }
    broken
}

fn source() -> BTreeMap<String, String> {
    fn read(folder: &Path, under: &str, files: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("{under}{}", path.file_name().unwrap().to_str().unwrap());
            if path.is_dir() {
                read(&path, &format!("{name}/"), files);
            } else if name.ends_with(".rs") {
                files.entry(name).or_default().push_str(&fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut files = BTreeMap::new();
    // Both packages as one crate: `sanedge` exports the modules of `sanedge-edge` under their names.
    for folder in ["src", "edge/src"] {
        read(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), "", &mut files);
    }
    assert!(files.len() > 50, "the test looks at next to nothing");
    files
}

#[test]
fn files_import_files_below_them_only() {
    let wrong = out_of_order(&source(), ORDER);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Which files name `word` in their program; one in quotes is looked for in literals.
fn files_with(files: &BTreeMap<String, String>, word: &str) -> Vec<String> {
    let names = |text: &str| match word.starts_with('"') {
        true => text.split("#[cfg(test)]").next().is_some_and(|program| program.contains(word)),
        false => program(text).iter().any(|token| token == word),
    };
    files.iter().filter(|(_, text)| names(text)).map(|(file, _)| file.clone()).collect()
}

/// What one change touches: the change as docs/architecture.md lists it, the file that describes such a thing, names of some that
/// are there, and how many files of both packages may name one of them.
const PLACES: &[(&str, &str, &[&str], usize)] = &[
    (
        "a limit",
        "edge/src/limits/table.rs",
        &["requests_max", "keepalive_timeout_ms", "connect_timeout_ms", "body_bytes_per_s_min"],
        2,
    ),
    ("a key of a site or route", "edge/src/limits/rules.rs", &["require_origin", "response_timeout"], 2),
    ("the retry policy", "edge/src/edge/net/retry.rs", &["IDLE_FRESH", "Fresh"], 1),
    ("an admin endpoint", "src/admin/endpoints.rs", &["\"/history\"", "\"/readyz\"", "\"/status\""], 1),
    (
        "the text of a 502, or of another response of the edge",
        "edge/src/http/problem.rs",
        &[
            "\"The server behind this edge expects TLS, and",
            "\"Is the app running",
            "\"the app does not answer in time",
        ],
        1,
    ),
    ("a refusal reason", "edge/src/reason.rs", &["HandshakeRate", "ProxyProtocol", "UnknownServerName"], 2),
    ("a board", "boards/", &["\"rock64", "\"odroid-n2", "\"beaglebone-black"], 0),
];

#[test]
fn a_change_touches_no_more_files_than_the_docs_say() {
    let files = source();
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/architecture.md");
    let page = fs::read_to_string(page).unwrap();
    for (change, home, names, max) in PLACES {
        let row = page.lines().find(|line| line.starts_with(&format!("| {change} |")));
        let row = row.unwrap_or_else(|| panic!("docs/architecture.md has no row `{change}`"));
        assert!(row.contains(home), "{row}");
        for name in *names {
            let places = files_with(&files, name);
            let is_home =
                |place: &String| home.trim_start_matches("edge/").strip_prefix("src/") == Some(place);
            assert!(*max == 0 || places.iter().any(is_home), "{change}: `{name}` is not in {home}");
            assert!(places.len() <= *max, "{change}: `{name}` is in {places:?}; the promise is {max}");
        }
    }
}

#[test]
fn what_only_fuzzing_calls_is_in_one_folder() {
    let files = source();
    let defines =
        |text: &str| program(text).windows(2).any(|two| two[0] == "fn" && two[1].starts_with("fuzz_"));
    let all: Vec<_> = files.iter().filter(|(_, text)| defines(text)).map(|(file, _)| file.as_str()).collect();
    assert!(all.len() >= 4 && all.iter().all(|file| file.starts_with("fuzz/")), "{all:?}");
}

#[test]
fn a_name_is_found_in_the_program_and_a_text_in_its_literals() {
    let files = tree_of(&[
        ("a.rs", "// word\nlet word = 1;"),
        ("b.rs", "/* word */ let words = \"word\";"),
        ("c.rs", "#[cfg(test)]\nmod tests { const WORD: &str = \"word\"; fn f() { word() } }"),
    ]);
    assert_eq!(files_with(&files, "word"), ["a.rs"]);
    assert_eq!(files_with(&files, "\"word\""), ["b.rs"]);
}

#[test]
fn sockets_tasks_and_the_clock_are_where_the_docs_say() {
    let files = source();
    for (places, but, _) in PROMISES {
        for place in places.iter().chain(*but) {
            assert!(files.keys().any(|file| file.starts_with(place)), "no file begins with src/{place}");
        }
    }
    let broken = broken_promises(&files, PROMISES);
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

// --- that the test can fail ---------------------------------------------------------------------------------

fn tree_of(files: &[(&str, &str)]) -> BTreeMap<String, String> {
    files.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned())).collect()
}

/// Every way to name `b.rs` in `a.rs`.
const WAYS: [&str; 14] = [
    "use crate::b::Thing;",
    "use crate::b;",
    "use crate::{b::{self, Thing}, c::Other};",
    "use crate::{c::{Other, More}, b};",
    "pub(crate) use crate::b::{Thing as Other, *};",
    "use super::b::Thing;",
    "use super::{c, b::Thing};",
    "fn f() -> crate::b::Thing { todo!() }",
    "fn f() { let x = super::b::thing::<u8>(); }",
    "fn f<'a>(x: &'a str, c: char) { if c == '\\'' || c == '\"' || x == \"\\\"\" { crate::b::go() } }",
    "fn f() { let _ = (r#\"\" // \"#, b'{', b\"//\"); crate::b::go() }",
    "mod inner { use super::super::b::Thing; }",
    "mod inner { fn f() { crate::b::go() } }",
    "impl Drop for T { fn f() -> impl Sized + use<> {} } use crate::b::Thing;",
];
/// What only looks like it.
const NOT_WAYS: [&str; 9] = [
    "pub(in crate::b) fn f() {}",
    "// use crate::b::Thing;",
    "/* use crate::b::Thing; */ /// [`crate::b::Thing`]",
    "const TEXT: &str = \"use crate::b::Thing;\";",
    "const TEXT: &str = r#\"\"crate::b::Thing\"#;",
    "use other::b::Thing;",
    "use std::{b::Thing, c};",
    "#[cfg(test)] mod tests { use crate::b::Thing; }",
    "#[cfg(test)] use crate::b::Thing;",
];

#[test]
fn an_import_of_what_stands_above_is_found_however_it_is_written() {
    for way in WAYS {
        let files = tree_of(&[("lib.rs", "mod a; mod b; mod c;"), ("a.rs", way), ("b.rs", ""), ("c.rs", "")]);
        assert!(imports(&files).contains(&("a.rs", "b.rs")), "{way}");
        assert_eq!(out_of_order(&files, &["lib.rs", "a.rs", "b.rs", "c.rs"]), [""; 0], "{way}");
        let wrong = out_of_order(&files, &["lib.rs", "b.rs", "a.rs", "c.rs"]);
        assert_eq!(wrong, ["src/a.rs imports src/b.rs, which stands above it"], "{way}");
    }
    for way in NOT_WAYS {
        let files = tree_of(&[("lib.rs", "mod a; mod b; mod c;"), ("a.rs", way), ("b.rs", ""), ("c.rs", "")]);
        assert!(!imports(&files).contains(&("a.rs", "b.rs")), "{way}");
    }
}

#[test]
fn parents_children_and_inline_folders_are_files_like_others() {
    let files = tree_of(&[
        ("lib.rs", "mod a;"),
        (
            "a.rs",
            "mod wing { mod inner; pub mod other; } mod child; pub use wing::other::go; fn f() { child::run() }",
        ),
        ("a/child.rs", "use super::Thing;"),
        ("a/wing/inner.rs", "use super::other;"),
        ("a/wing/other.rs", ""),
    ]);
    let found: Vec<_> = imports(&files).into_iter().collect();
    let wanted = [
        ("a.rs", "a/child.rs"),
        ("a.rs", "a/wing/other.rs"),
        ("a/child.rs", "a.rs"),
        ("a/wing/inner.rs", "a/wing/other.rs"),
    ];
    assert_eq!(found, wanted);
    let order = ["lib.rs", "a.rs", "a/child.rs", "a/wing/inner.rs", "a/wing/other.rs"];
    assert_eq!(
        out_of_order(&files, &order),
        ["src/a/child.rs imports src/a.rs, which stands above it"],
        "a circle has no order"
    );
}

#[test]
fn a_file_that_is_missing_gone_or_listed_twice_is_reported() {
    let files = tree_of(&[("lib.rs", ""), ("a.rs", "use crate::new::Thing;"), ("new.rs", "")]);
    assert_eq!(
        out_of_order(&files, &["lib.rs", "a.rs", "a.rs", "old.rs"]),
        [
            "src/new.rs is missing in the ordered list of tests/layering.rs",
            "tests/layering.rs lists src/old.rs, which does not exist",
            "tests/layering.rs lists src/a.rs twice",
        ]
    );
}

#[test]
fn a_word_that_is_not_allowed_is_found_in_the_program_alone() {
    let promises: &[(&[&str], &[&str], &[&str])] =
        &[(&["core", "one.rs"], &["core/but.rs"], &["Instant::now", "spawn"])];
    let broken = |file: &str, text: &str| broken_promises(&tree_of(&[(file, text)]), promises);
    for (file, text) in [
        ("core.rs", "fn f() { let now = std::time::Instant::now(); }"),
        ("core/a.rs", "fn f() { Instant :: now() }"),
        ("one.rs", "use std::thread::spawn;"),
    ] {
        assert_eq!(broken(file, text).len(), 1, "{file}: {text}");
    }
    for (file, text) in [
        ("core/a.rs", "// Instant::now, spawn"),
        ("core/a.rs", "fn f(now: Instant) -> &'static str { \"spawn\" }"),
        ("core/a.rs", "fn respawn() { now() }"),
        ("core/a.rs", "#[cfg(test)] mod tests { fn f() { Instant::now() } } fn g() {}"),
        ("core/but.rs", "fn f() { spawn() }"),
        ("core/a/tests.rs", "fn f() { spawn() }"),
        ("corey.rs", "fn f() { spawn() }"),
    ] {
        assert_eq!(broken(file, text), [""; 0], "{file}: {text}");
    }
}
