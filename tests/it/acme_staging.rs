//! `sanedge renew` at a CA with a staging directory, Let's Encrypt, which two Pebbles stand in for; and names whose addresses are of
//! others. In a network of its own, with its own `/etc/hosts`.

use std::path::Path;
use std::process::Output;

use super::acme::without_pebble;
use super::support::edge::{sanedge, text};
use super::support::name_server::NameServer;
use super::support::namespace::{cover, enter, run};
use super::support::pebble::{
    Act, Front, LETS_ENCRYPT, Pebble, STAGING, problem, serve_challenges, serve_challenges_at,
};

const A: &str = "a.localhost";
/// Where both CAs look for challenges.
const SEEN_AT: u16 = 5002;

#[test]
fn after_a_failed_validation_the_names_are_proven_at_the_staging_directory_first() {
    const TEST: &str = "after_a_failed_validation_the_names_are_proven_at_the_staging_directory_first";
    if !without_pebble(TEST) {
        run(TEST, "acme_staging::inside");
    }
}

struct Desk<'a> {
    folder: &'a Path,
    real: Front,
    staging: Front,
}

impl Desk<'_> {
    fn bundled(&self, hosts: &[&str], http: u16) {
        let site = |host: &&str| format!("[[site]]\nhosts = [\"{host}\"]\nupstream = [\"127.0.0.1:1\"]\n");
        let toml = format!(
            "board = \"host\"\n[listen]\nhttps = [\"127.0.0.1:0\"]\nhttp = [\"127.0.0.1:{http}\"]\n\
             admin = \"unix:admin.sock\"\npublic_https_port = 443\n[acme]\nterms = \"agreed\"\ntrust = \"trust.pem\"\n\
             state = \"state\"\nchallenges = \"challenges\"\n{}",
            hosts.iter().map(site).collect::<String>()
        );
        std::fs::write(self.folder.join("x.toml"), toml).unwrap();
        let output = sanedge().arg("bundle").arg(self.folder.join("x.toml")).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
    }

    fn renew(&self, options: &[&str]) -> Output {
        sanedge().arg("renew").arg(self.folder.join("x.acme")).args(options).output().unwrap()
    }

    /// Runs with `--now`; the exit code, and how many orders and certificates were asked of the real and of the staging directory.
    fn asked(&self, options: &[&str]) -> (i32, [usize; 2], [usize; 2]) {
        for front in [&self.real, &self.staging] {
            front.faults(|_, _| Act::Pass);
        }
        self.asked_as_it_is(options)
    }

    fn asked_as_it_is(&self, options: &[&str]) -> (i32, [usize; 2], [usize; 2]) {
        let output = self.renew(&[options, &["--now"]].concat());
        let of = |front: &Front| [front.count("order-plz"), front.count("finalize-order")];
        println!("{}", text(&output));
        (output.status.code().unwrap(), of(&self.real), of(&self.staging))
    }
}

#[test]
#[ignore = "the other test runs it in a namespace of its own"]
fn inside() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| {
        std::fs::create_dir_all(folder.path().join(name)).unwrap();
        folder.path().join(name)
    };
    enter(&at("network"));
    let hosts = format!(
        "127.0.0.1 localhost\n127.0.0.1 {LETS_ENCRYPT}\n127.0.0.2 {STAGING}\n127.0.0.1 ours.test\n203.0.113.7 there.test\n\
         203.0.113.7 both.test\n127.0.0.1 both.test\n2001:db8::7 six.test\n127.0.0.1 six.test\n"
    );
    cover(&at("hosts"), "/etc/hosts", &hosts);
    let [real, staging] = ["real", "staging"].map(|name| Pebble::start(&at(name), SEEN_AT));
    std::fs::write(folder.path().join("trust.pem"), format!("{}{}", real.trust, staging.trust)).unwrap();
    let desk = Desk {
        folder: folder.path(),
        real: Front::at("127.0.0.1:443", &real),
        staging: Front::at("127.0.0.2:443", &staging),
    };
    let http = serve_challenges(&at("challenges"));
    desk.bundled(&[A], http);

    // A trial asks the staging directory alone, and for no certificate.
    assert_eq!(desk.asked(&["--dry-run"]), (1, [0, 0], [1, 0]), "nothing listens where the CA looks");
    // The first order goes to the CA, and fails; from then on the staging directory comes first, and the CA hears of nothing.
    assert_eq!(desk.asked(&[]), (1, [1, 0], [0, 0]));
    assert_eq!(desk.asked(&[]), (1, [0, 0], [1, 0]));
    // That the staging directory has a fault says nothing about the name.
    desk.real.faults(|_, _| Act::Pass);
    desk.staging.faults(|_, _| problem(503, "serverInternal", "maintenance", ""));
    let (code, of_real, _) = desk.asked_as_it_is(&[]);
    assert_eq!((code, of_real), (1, [1, 0]));
    // The port is open: proven at the staging directory without a certificate, then issued by the CA.
    serve_challenges_at(&format!("127.0.0.1:{SEEN_AT}"), &folder.path().join("challenges"));
    assert_eq!(desk.asked(&[]), (0, [1, 1], [1, 0]));
    // After a success the CA is asked at once.
    assert_eq!(desk.asked(&[]), (0, [1, 1], [0, 0]));
    let left = std::fs::read_dir(folder.path().join("challenges")).unwrap();
    let left: Vec<_> =
        left.map(|entry| entry.unwrap().file_name()).filter(|name| name != "status.json").collect();
    assert!(left.is_empty(), "{left:?}");

    // An address in DNS that this board does not have is a warning, and no reason to wait.
    desk.bundled(&["ours.test", "there.test", "both.test", "six.test"], http);
    let output = desk.renew(&[]);
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    for (host, address) in
        [("there.test", "203.0.113.7"), ("both.test", "203.0.113.7"), ("six.test", "2001:db8::7")]
    {
        let warning =
            format!("{host}: warning: the name resolves to {address}, which is not an address of this board");
        assert!(said.contains(&warning), "{warning}: {said}");
    }
    assert!(!said.contains("ours.test: warning"), "{said}");

    // A resolver that fails, and one that refuses signatures, say nothing of the CA: it is not asked.
    let dns = NameServer::at("127.0.0.1:53", &[]);
    desk.bundled(&["signed.test"], http);
    for (checked, code) in [(false, "acme-no-resolver"), (true, "acme-dnssec")] {
        dns.recover();
        dns.fail("signed.test", checked);
        let output = desk.renew(&["--now", "--json"]);
        let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(document["certificates"][0]["failure"]["code"], code, "{document:#}");
    }
    dns.recover();
    assert!(desk.renew(&["--now"]).status.success(), "it counts as no attempt");
}
