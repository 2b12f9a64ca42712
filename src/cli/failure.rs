//! Why a command failed: one form for every command, in text and in JSON.
//!
//! A JSON document then has `"ok": false`, a stable `code` and a `message`, besides its other fields. Refusals of the admin socket and the
//! edge's own responses to clients have `code` and `message` as well.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::terminal::{complain, print};
use crate::admin::client::AskError;
use crate::bundle::file::ReadError;
use crate::bundle::open::OpenError;
use crate::bundle::report;

/// A failure: a stable code for scripts, and a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: String,
    pub(crate) message: String,
    /// Further fields, in JSON only.
    more: Value,
}

impl Failure {
    pub(crate) fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into(), more: json!({}) }
    }

    /// The failure that the admin socket reported.
    pub(super) fn of_answer(body: &[u8]) -> Self {
        let document: Value = serde_json::from_slice(body).unwrap_or_default();
        let text = |name| document.get(name).and_then(Value::as_str).map(str::to_owned);
        let no_reason = || "the edge refused and gave no reason".to_owned();
        Self {
            code: text("code").unwrap_or_else(|| "edge-answer".to_owned()),
            message: text("message").unwrap_or_else(no_reason),
            more: if document.is_object() { document } else { json!({}) },
        }
    }

    /// Adds the failure to a document with other fields.
    pub(super) fn mark(&self, document: &mut Value) {
        if let Some(members) = document.as_object_mut() {
            members.insert("ok".to_owned(), false.into());
            members.insert("code".to_owned(), self.code.clone().into());
            members.insert("message".to_owned(), self.message.clone().into());
        }
    }

    /// A document with the failure only.
    pub(super) fn document(&self) -> String {
        let mut document = self.more.clone();
        self.mark(&mut document);
        format!("{document:#}\n")
    }

    /// Prints it: JSON on stdout, text on stderr.
    pub(super) fn tell(&self, json: bool) -> ExitCode {
        if json {
            print(&self.document());
        } else {
            complain(&format!("error {}\n", report::escaped(&self.message)));
        }
        ExitCode::FAILURE
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        let code = match error {
            OpenError::File(ReadError::Missing { .. }) => "bundle-missing",
            OpenError::File(ReadError::Denied { .. } | ReadError::Outside { .. } | ReadError::Io { .. }) => {
                "bundle-unreadable"
            }
            OpenError::File(_) | OpenError::Format { .. } => "bundle-refused",
        };
        Self::new(code, error.to_string())
    }
}

impl From<AskError> for Failure {
    fn from(error: AskError) -> Self {
        let code = match error {
            AskError::Connect { .. } => "edge-unreachable",
            AskError::Answer { .. } => "edge-answer",
        };
        Self::new(code, error.to_string())
    }
}
