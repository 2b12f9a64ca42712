//! The result of a run of `sanedge renew`, as text and as JSON.

use serde_json::{Value, json};

use super::policy::{Told, Why};
use crate::bundle::acme::Wanted;
use crate::bundle::compile::moment;
use crate::bundle::lifetime::Lifetime;
use crate::bundle::report::escaped;
use crate::excerpt::kept_text;

/// The result for one certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing to do.
    Fine,
    /// A new certificate is stored.
    Issued,
    /// In a dry run: it would have been issued.
    Possible,
    /// It is due, and the deployment has been asked for it.
    Requested,
    /// It is due, but must wait.
    Waiting,
    /// It could not be obtained.
    Failed,
}

impl Outcome {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Issued => "issued",
            Self::Possible => "possible",
            Self::Requested => "requested",
            Self::Waiting => "waiting",
            Self::Failed => "failed",
        }
    }
}

/// One certificate.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its names; the first one identifies it.
    pub names: Vec<String>,
    /// The result.
    pub outcome: Outcome,
    /// Lifetime of the stored certificate.
    pub lifetime: Option<Lifetime>,
    /// When it is renewed or attempted next.
    pub next: Option<i64>,
    /// The reason for that time.
    pub why: Option<&'static str>,
    /// The failure.
    pub told: Option<Told>,
    /// Another attempt within the run may help.
    pub(super) retries: bool,
}

/// A whole run.
#[derive(Clone, Debug)]
pub struct Run {
    /// In the order of `x.acme`.
    pub rows: Vec<Row>,
    /// The certificates are for trials.
    pub staging: bool,
    /// At least one certificate was stored.
    pub stored: bool,
}

impl Row {
    pub(super) fn new(wanted: &Wanted, lifetime: Option<Lifetime>) -> Self {
        let (names, outcome) = (wanted.names.clone(), Outcome::Fine);
        Self { names, outcome, lifetime, next: None, why: None, told: None, retries: false }
    }

    pub(super) fn fine(self, next: i64, why: &'static str) -> Self {
        Self { next: Some(next), why: Some(why), ..self }
    }

    pub(super) fn issued(
        self,
        lifetime: Option<Lifetime>,
        next: Option<(i64, &'static str)>,
        trial: bool,
    ) -> Self {
        let outcome = if trial { Outcome::Possible } else { Outcome::Issued };
        let (next, why) = next.unzip();
        Self { outcome, lifetime: lifetime.or(self.lifetime), next, why, ..self }
    }

    pub(super) fn waiting(self, until: i64, why: Why, last: Option<&Told>) -> Self {
        let retries = why == Why::Backoff;
        let (next, why) = (Some(until), Some(why.sentence()));
        Self { outcome: Outcome::Waiting, next, why, told: last.map(remembered), retries, ..self }
    }

    pub(super) fn requested(self, why: &'static str) -> Self {
        Self { outcome: Outcome::Requested, why: Some(why), ..self }
    }

    /// The row of a certificate that may be possible later, at an unknown time.
    pub(super) fn not_now(self, told: &Told) -> Self {
        let told = Some(told.clone());
        Self { outcome: Outcome::Waiting, next: None, why: Some("the disk is full"), told, ..self }
    }

    pub(super) fn failed(self, told: &Told, next: Option<i64>, retries: bool) -> Self {
        let next = next.filter(|_| retries);
        Self { outcome: Outcome::Failed, next, why: None, told: Some(told.clone()), retries, ..self }
    }
}

/// The last failure from a record, without what may be a key: the file may have been edited.
pub(super) fn remembered(told: &Told) -> Told {
    let Told { code, found, means, remedy, at } = told;
    let (code, found) = (kept_text(code), kept_text(found));
    Told { code, found, means: kept_text(means), remedy: kept_text(remedy), at: *at }
}

impl Run {
    fn count(&self, outcome: Outcome) -> usize {
        self.rows.iter().filter(|row| row.outcome == outcome).count()
    }

    /// 0: all is well; 1: all failed; 3: some failed; 75: none failed now, and some have to wait.
    pub fn exit_code(&self) -> u8 {
        match (self.count(Outcome::Failed), self.count(Outcome::Waiting)) {
            (0, 0) => 0,
            (0, _) => 75,
            (failed, waiting) if failed + waiting == self.rows.len() => 1,
            _ => 3,
        }
    }

    /// As text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if self.staging {
            text += "STAGING: these certificates are for trials; browsers refuse them\n";
        }
        for row in &self.rows {
            text += &row.text();
        }
        text
    }

    /// As JSON.
    pub fn json(&self) -> Value {
        let rows: Vec<Value> = self.rows.iter().map(Row::json).collect();
        json!({ "staging": self.staging, "stored": self.stored, "certificates": rows })
    }

    /// The first failure, or else the first wait: for the error of the whole run.
    pub fn failure(&self) -> Option<(String, String)> {
        let failed = self.rows.iter().find(|row| row.outcome == Outcome::Failed);
        let row = failed.or_else(|| self.rows.iter().find(|row| row.outcome == Outcome::Waiting))?;
        let told = row.told.as_ref();
        let code = told.map_or("acme-waiting", |told| told.code.as_str()).to_owned();
        let found =
            told.map(|told| told.found.clone()).or_else(|| row.why.map(str::to_owned)).unwrap_or_default();
        let names = row.names.join(", ");
        Some((
            code,
            if found.starts_with(&format!("{names}: ")) { found } else { format!("{names}: {found}") },
        ))
    }
}

impl Row {
    /// Lines about the failure, which are printed before a wait.
    pub(super) fn reasons(&self) -> Vec<String> {
        let told = self.told.as_ref().filter(|_| !matches!(self.outcome, Outcome::Fine | Outcome::Issued));
        let lines = |told: &Told| {
            [("found", &told.found), ("means", &told.means), ("do", &told.remedy)]
                .map(|(label, said)| format!("{label}: {said}"))
        };
        told.map(lines).into_iter().flatten().collect()
    }

    fn text(&self) -> String {
        let mut text = format!("{}: {}", self.names.join(", "), self.outcome.word());
        if let Some(lifetime) = self.lifetime {
            text += &format!(", valid until {}", moment(lifetime.not_after));
        }
        if let Some(next) = self.next {
            let what = if matches!(self.outcome, Outcome::Fine | Outcome::Issued) {
                "next renewal"
            } else {
                "next try"
            };
            text += &format!(", {what} {}", moment(next));
        }
        if let Some(why) = self.why.filter(|_| matches!(self.outcome, Outcome::Waiting | Outcome::Requested))
        {
            text += &format!(" ({why})");
        }
        let mut text = escaped(&text) + "\n";
        if let Some(told) = self.told.as_ref().filter(|_| self.outcome != Outcome::Fine) {
            for (label, said) in [("found", &told.found), ("means", &told.means), ("do", &told.remedy)] {
                text += &format!("  {label:<5} {}\n", escaped(said));
            }
        }
        text
    }

    fn json(&self) -> Value {
        json!({
            "names": self.names,
            "outcome": self.outcome.word(),
            "not_after": self.lifetime.map(|lifetime| lifetime.not_after),
            "next": self.next,
            "why": self.why,
            "failure": self.told,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(found: &str) -> Told {
        let text = || "x".to_owned();
        Told { code: text(), found: found.to_owned(), means: text(), remedy: text(), at: 1 }
    }

    /// A record is a file, which may hold anything.
    #[test]
    fn what_is_remembered_shows_no_key_and_paths_that_exist() {
        let key = "MC4CAQAwBQYDK2VwBCIEIOB4yvQh9ZrTkWm3xN8sJ0LpFcUa5dGe7HtXi1RnSbK6";
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().display();
        let row = Row::new(&Wanted { names: vec!["a.b".to_owned()] }, None);
        let row =
            row.waiting(1, Why::Backoff, Some(&told(&format!("no token can be written to {place}: {key}"))));
        let found = row.told.unwrap().found;
        assert!(found.contains(&place.to_string()) && !found.contains(&key[..16]), "{found}");
    }

    #[test]
    fn a_full_disk_waits_and_a_trial_names_no_next_try() {
        let row = || Row::new(&Wanted { names: vec!["a.b".to_owned()] }, None);
        let run = |row| Run { rows: vec![row], staging: false, stored: false };
        let full = run(row().not_now(&told("no room")));
        assert_eq!(full.exit_code(), 75);
        assert!(full.text().contains("waiting (the disk is full)"), "{}", full.text());
        let text = run(row().failed(&told("x"), None, true)).text();
        assert!(!text.contains("next try") && !text.contains("1970"), "{text}");
        assert!(
            run(row().failed(&told("x"), Some(1_800_000_000), true)).text().contains("next try 2027-01-15")
        );
    }

    #[test]
    fn the_message_has_each_name_once() {
        for found in ["a.b: no", "no"] {
            let row =
                Row::new(&Wanted { names: vec!["a.b".to_owned()] }, None).failed(&told(found), None, true);
            let run = Run { rows: vec![row], staging: false, stored: false };
            assert_eq!(run.failure().unwrap().1, "a.b: no");
        }
    }

    #[test]
    fn the_exit_code_tells_all_some_none_and_later() {
        let wanted = Wanted { names: vec!["a.b".to_owned()] };
        let row = |outcome| Row { outcome, ..Row::new(&wanted, None) };
        use Outcome::{Failed, Fine, Issued, Possible, Requested, Waiting};
        for (outcomes, code) in [
            (&[Fine, Issued, Possible, Requested][..], 0),
            (&[], 0),
            (&[Failed, Fine], 3),
            (&[Failed, Issued], 3),
            (&[Failed, Waiting], 1),
            (&[Failed], 1),
            (&[Waiting, Fine], 75),
            (&[Waiting], 75),
        ] {
            let rows = outcomes.iter().map(|outcome| row(*outcome)).collect();
            assert_eq!(Run { rows, staging: false, stored: false }.exit_code(), code, "{outcomes:?}");
        }
    }
}
