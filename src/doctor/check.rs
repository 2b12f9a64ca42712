//! What a check gives back: a typed result with its evidence. Text and JSON are made of these values and nothing else.

use serde::Serialize;

use super::explain::{Code, Group, Level, fill};
pub use super::journal::Exchange;
use super::journal::Journal;

/// One finding: a code, one sentence about the case at hand, and what it was seen in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its kind; the level and the explanation hang on it.
    pub code: Code,
    /// One sentence: what is wrong, and where that is short, what to do.
    pub message: String,
    /// What was seen, each with a label of one or two words.
    pub evidence: Vec<(&'static str, String)>,
    /// Where two causes remain: the one question that separates them. `None`: the cause is certain.
    pub question: Option<String>,
    words: Vec<(&'static str, String)>,
}

/// What became of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should be, and what was seen.
    Passed(String),
    /// It cannot be known from here, and why.
    Unknown(String),
    /// It was not tried, and why.
    Skipped(String),
    /// Something is wrong.
    Found(Box<Finding>),
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The part of the way.
    pub group: Group,
    /// What became of it.
    pub outcome: Outcome,
}

/// What a section is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A file that named hosts.
    File,
    /// A host, as a client sees it.
    Host,
    /// The app behind it, past the edge.
    App,
    /// This machine.
    Machine,
}

/// Everything about one thing that was looked at: a host, the app behind it, this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Its kind.
    pub kind: Kind,
    /// Its name: an URL, an address, `this machine`.
    pub subject: String,
    /// In the order of the way.
    pub checks: Vec<Check>,
    /// Everything that was asked for it, in the order of time.
    pub exchanges: Vec<Exchange>,
    /// What the server speaks, where a session was opened.
    pub spoken: Option<Spoken>,
    words: Vec<(&'static str, String)>,
    /// Checks that the caller of the run has got.
    told: usize,
}

/// What a server spoke to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Spoken {
    /// Version of Engine.IO.
    pub engineio: u8,
    /// It announced how much a polling body may hold, as servers do since Socket.IO 4.
    pub announces_max_payload: bool,
    /// From the CONNECT packet over a WebSocket to its answer, where the client joined a namespace.
    pub joined_after: Option<std::time::Duration>,
}

impl Spoken {
    /// The versions of Socket.IO whose clients can connect.
    pub fn socketio(&self) -> &'static str {
        match (self.engineio, self.announces_max_payload) {
            (3, _) => "Socket.IO 2",
            (_, true) => "Socket.IO 4",
            (_, false) => "Socket.IO 3 or 4",
        }
    }
}

/// The whole report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// One for each thing that was looked at.
    pub sections: Vec<Section>,
}

impl Finding {
    /// A finding without evidence yet.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), evidence: Vec::new(), question: None, words: Vec::new() }
    }

    /// With something that was seen.
    #[must_use]
    pub fn seen(mut self, label: &'static str, text: impl Into<String>) -> Self {
        let text = text.into();
        if !text.is_empty() {
            self.evidence.push((label, text));
        }
        self
    }

    /// What was sent, where one of the exchanges is what the evidence is about.
    fn name_request(&mut self, exchanges: &[Exchange]) {
        let about = |one: &&Exchange| self.evidence.iter().any(|(_, text)| *text == one.came);
        if let Some(sent) = exchanges.iter().rev().find(about).map(|one| one.sent.clone()) {
            self.evidence.insert(0, ("sent", sent));
        }
    }

    /// Two causes remain, and this separates them.
    #[must_use]
    pub fn question(mut self, question: impl Into<String>) -> Self {
        self.question = Some(question.into());
        self
    }

    /// With a word for the braces of its explanation.
    #[must_use]
    pub fn word(mut self, word: &'static str, value: impl Into<String>) -> Self {
        self.words.push((word, value.into()));
        self
    }

    /// A text of its explanation, with the braces filled.
    pub fn told(&self, text: &str) -> String {
        // What the files of an edge are called where none was named.
        let default = |word: &str| {
            let usual = match word {
                "load" => "sudo sanedge reload",
                "apply" => "sudo sanedge apply",
                "file" => "sanedge.toml",
                "acme" => "sanedge.acme",
                "place" => crate::bundle::acme::CHALLENGES,
                "eab" => "/etc/sanedge/eab.key",
                "http_port" => "80",
                _ => return None,
            };
            Some(usual.to_owned())
        };
        let known =
            |word: &str| self.words.iter().find(|(known, _)| *known == word).map(|(_, value)| value.clone());
        fill(text, |word| known(word).or_else(|| default(word)))
    }
}

impl Check {
    fn mask(&mut self, journal: &Journal) {
        match &mut self.outcome {
            Outcome::Passed(text) | Outcome::Unknown(text) | Outcome::Skipped(text) => {
                *text = journal.masked(text)
            }
            Outcome::Found(finding) => {
                finding.message = journal.masked(&finding.message);
                let texts = finding.evidence.iter_mut().chain(&mut finding.words);
                texts.for_each(|(_, text)| *text = journal.masked(text));
            }
        }
    }
}

impl Section {
    /// An empty section; `words` fill the braces of all its explanations.
    pub fn new(kind: Kind, subject: impl Into<String>, words: Vec<(&'static str, String)>) -> Self {
        Self {
            kind,
            subject: subject.into(),
            checks: Vec::new(),
            exchanges: Vec::new(),
            spoken: None,
            words,
            told: 0,
        }
    }

    /// One more word for the braces of its explanations.
    pub fn word(&mut self, word: &'static str, value: impl Into<String>) {
        self.words.push((word, value.into()));
    }

    /// It is as it should be.
    pub fn passed(&mut self, group: Group, text: impl Into<String>) {
        self.checks.push(Check { group, outcome: Outcome::Passed(text.into()) });
    }

    /// It cannot be known from here.
    pub fn unknown(&mut self, group: Group, text: impl Into<String>) {
        self.checks.push(Check { group, outcome: Outcome::Unknown(text.into()) });
    }

    /// It was not tried.
    pub fn skipped(&mut self, group: Group, text: impl Into<String>) {
        self.checks.push(Check { group, outcome: Outcome::Skipped(text.into()) });
    }

    /// Something is wrong.
    pub fn found(&mut self, mut finding: Finding) {
        finding.words.extend(self.words.iter().cloned());
        self.checks.push(Check { group: finding.code.group(), outcome: Outcome::Found(Box::new(finding)) });
    }

    /// Gives the new checks to the caller of the run.
    pub(super) fn tell(&mut self, journal: &Journal, progress: Option<fn(&Check)>) {
        let new = self.checks.iter().skip(self.told).cloned();
        new.zip(progress.into_iter().cycle()).for_each(|(mut check, progress)| {
            check.mask(journal);
            progress(&check);
        });
        self.told = self.checks.len();
    }

    /// Puts the checks into the order of the way, takes over what was asked, and masks secrets in all of it.
    pub(super) fn finish(&mut self, journal: &Journal) {
        self.checks.sort_by_key(|check| check.group);
        self.checks.iter_mut().for_each(|check| check.mask(journal));
        self.exchanges = journal.exchanges();
        for check in &mut self.checks {
            if let Outcome::Found(finding) = &mut check.outcome {
                finding.name_request(&self.exchanges);
            }
        }
    }

    /// Its findings, in the order of the way.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.checks.iter().filter_map(|check| match &check.outcome {
            Outcome::Found(finding) => Some(&**finding),
            _ => None,
        })
    }

    /// Its first finding that some client fails on.
    pub fn first_failure(&self) -> Option<&Finding> {
        self.findings().find(|finding| finding.code.level() == Level::Fail)
    }
}

impl Report {
    /// Number of findings of a level.
    pub fn count(&self, level: Level) -> usize {
        self.sections
            .iter()
            .flat_map(Section::findings)
            .filter(|finding| finding.code.level() == level)
            .count()
    }

    /// The app or the path to it? Where both were looked at and one is at fault, a sentence that says which.
    pub fn verdict(&self) -> Option<&'static str> {
        let of = |kind: Kind| self.sections.iter().filter(move |section| section.kind == kind);
        let failures =
            |kind: Kind| -> Vec<&Finding> { of(kind).filter_map(Section::first_failure).collect() };
        if of(Kind::App).next().is_none() || of(Kind::Host).next().is_none() {
            return None;
        }
        let (path, app) = (failures(Kind::Host), failures(Kind::App));
        if path.iter().chain(&app).any(|finding| finding.code == Code::TimeUp) {
            return None;
        }
        // The app is asked for its namespace by the path only, so that it sees one client and not two.
        let begins = |group| path.iter().any(|finding| finding.code.group() < group);
        let says_app = path.iter().all(|finding| finding.code.group() == Group::Namespace);
        match (path.is_empty(), app.is_empty()) {
            (true, true) => None,
            (false, true) if says_app => {
                Some("the path is fine, the app is not: it refuses what the client sends")
            }
            (false, true) => {
                Some("the app is fine, the path to it is not: on its own port the app answers correctly")
            }
            (true, false) => {
                Some("the path is fine, the app is not: begin with the findings about the app itself")
            }
            (false, false) if begins(Group::Http) => {
                Some("neither the path nor the app is fine: the app fails on its own port as well")
            }
            (false, false) => Some(
                "the app is not fine, and the path only forwards that: begin with the findings about the app itself",
            ),
        }
    }
}
