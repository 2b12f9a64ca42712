//! The output of `sanedge setup`: one or more lines for each step, and the result at the end; with `--json`, one document.

use std::io;

use serde_json::{Value, json};

use crate::bundle::report::escaped;
use crate::cli::failure::Failure;
use crate::cli::terminal::{complain, print};
use crate::setup::problem::Problem;

/// Why setup ends early.
pub(super) enum Stop {
    /// Exit code 2.
    Usage(String),
    /// A step failed: exit code 1.
    Step(&'static str, Box<Problem>),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Usage(format!("the terminal cannot be read or written: {error}"))
    }
}

/// Columns of a step's name.
const NAME_CHARS: usize = 12;
/// Columns of a label of a problem.
const LABEL_CHARS: usize = 14;

/// The output so far.
pub(super) struct Told {
    is_json: bool,
    steps: Vec<Value>,
}

impl Told {
    pub(super) fn new(is_json: bool) -> Self {
        Self { is_json, steps: Vec::new() }
    }

    /// Prints what a step has found or done.
    pub(super) fn step(&mut self, name: &'static str, text: &str) {
        self.steps.push(json!({ "step": name, "text": text }));
        self.say(&format!("{name:<NAME_CHARS$}{}\n", escaped(text)));
    }

    /// Prints a further line about the last step.
    pub(super) fn note(&mut self, text: &str) {
        if let Some(notes) = self.steps.last_mut().and_then(Value::as_object_mut) {
            let notes = notes.entry("notes").or_insert_with(|| json!([]));
            if let Some(notes) = notes.as_array_mut() {
                notes.push(text.into());
            }
        }
        self.say(&format!("{:NAME_CHARS$}{}\n", "", escaped(text)));
    }

    /// Prints text, unless the output is JSON.
    pub(super) fn say(&self, text: &str) {
        if !self.is_json {
            print(text);
        }
    }

    /// Ends the output after success; `more` has further fields of the document.
    pub(super) fn done(self, more: &Value) -> bool {
        let mut document = json!({ "ok": true, "steps": self.steps });
        if let (Some(document), Some(more)) = (document.as_object_mut(), more.as_object()) {
            document.extend(more.clone());
        }
        !self.is_json || print(&format!("{document:#}\n"))
    }

    /// Ends the output after a failed step.
    pub(super) fn failed(self, step: &str, problem: &Problem) {
        if !self.is_json {
            return complain(&shown(step, problem));
        }
        let mut document = json!({
            "steps": self.steps, "step": step, "evidence": problem.evidence, "you_see": problem.see, "why": problem.why,
            "do": problem.fix,
        });
        Failure::new(&problem.code, problem.message.clone()).mark(&mut document);
        print(&format!("{document:#}\n"));
    }
}

fn shown(step: &str, problem: &Problem) -> String {
    let message = escaped(&problem.message);
    let mut text = format!("{step:<NAME_CHARS$}FAIL {message} [{}]\n", escaped(&problem.code));
    for (label, seen) in problem.evidence.iter().filter(|(label, _)| label != "sent") {
        field(&mut text, label, seen);
    }
    field(&mut text, "clients see", &problem.see);
    field(&mut text, "why", &problem.why);
    field(&mut text, "do", &problem.fix);
    text
}

/// Appends a labelled text; its further lines are indented below.
fn field(out: &mut String, label: &str, text: &str) {
    for (at, line) in text.lines().enumerate() {
        let label = if at == 0 { escaped(&format!("{label} ")) } else { String::new() };
        *out += &format!("   {label:<LABEL_CHARS$}{}\n", escaped(line));
    }
}
