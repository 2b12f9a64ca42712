//! The questions of `sanedge setup` on a terminal. Each shows its default; after a wrong answer it says why, and asks again.

use std::io::{self, BufRead, Read as _, Write};

use crate::bundle::report::escaped;

/// Wrong answers to one question before setup gives up.
const TRIES_MAX: usize = 5;
/// Longest answer: a host has at most 253 characters.
const ANSWER_BYTES_MAX: u64 = 4 * 1024;

/// Input and output of a terminal, or of a test.
pub(super) struct Dialogue<R, W> {
    pub(super) input: R,
    pub(super) output: W,
}

/// The terminal of this process.
pub(super) type Terminal = Dialogue<io::StdinLock<'static>, io::StdoutLock<'static>>;

/// Whether changes may be written.
pub(super) enum Confirmation {
    /// `--yes`.
    Given,
    /// A terminal on which to ask.
    Asked(Terminal),
    /// There is no terminal.
    Impossible,
}

impl Terminal {
    pub(super) fn here() -> Self {
        Self { input: io::stdin().lock(), output: io::stdout().lock() }
    }
}

impl<R: BufRead, W: Write> Dialogue<R, W> {
    /// The answer, parsed; an empty one means the default. `None`: there is no answer.
    pub(super) fn ask<T>(
        &mut self,
        question: &str,
        default: Option<&str>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> io::Result<Option<T>> {
        let shown = default.map(|default| format!(" [{}]", escaped(default))).unwrap_or_default();
        for _ in 0..TRIES_MAX {
            write!(self.output, "{question}{shown}: ")?;
            self.output.flush()?;
            let Some(answer) = self.line()? else { return Ok(None) };
            let answer = if answer.is_empty() { default.unwrap_or_default() } else { &answer };
            match parse(answer) {
                Ok(value) => return Ok(Some(value)),
                Err(why) => writeln!(self.output, "  {}", escaped(&why))?,
            }
        }
        Ok(None)
    }

    /// Whether the answer is yes; an empty one means `default`.
    pub(super) fn confirm(&mut self, question: &str, default: bool) -> io::Result<bool> {
        let shown = if default { "yes" } else { "no" };
        let parse = |answer: &str| match answer.to_ascii_lowercase().as_str() {
            "y" | "yes" => Ok(true),
            "n" | "no" => Ok(false),
            _ => Err("expected yes or no".to_owned()),
        };
        Ok(self.ask(question, Some(shown), parse)?.unwrap_or(false))
    }

    /// One line without its line end; `None` at the end of the input.
    fn line(&mut self) -> io::Result<Option<String>> {
        let mut bytes = Vec::new();
        (&mut self.input).take(ANSWER_BYTES_MAX).read_until(b'\n', &mut bytes)?;
        if bytes.is_empty() {
            writeln!(self.output)?;
            return Ok(None);
        }
        Ok(Some(String::from_utf8_lossy(&bytes).trim().to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Result<u16, String> {
        text.parse().map_err(|_| "expected a port".to_owned())
    }

    fn asked(input: &str, default: Option<&str>) -> (Option<u16>, String) {
        let mut output = Vec::new();
        let mut dialogue = Dialogue { input: input.as_bytes(), output: &mut output };
        let answer = dialogue.ask("Port of the app", default, number).unwrap();
        (answer, String::from_utf8(output).unwrap())
    }

    #[test]
    fn a_wrong_answer_is_explained_and_asked_again() {
        assert_eq!(asked("\n", Some("3000")), (Some(3000), "Port of the app [3000]: ".to_owned()));
        assert_eq!(asked(" 3002 \r\n", Some("3000")).0, Some(3002));
        let (answer, said) = asked("x\x1b[2J\n\n3002\n", None);
        assert_eq!(answer, Some(3002));
        assert_eq!(
            said,
            "Port of the app:   expected a port\nPort of the app:   expected a port\nPort of the app: "
        );
        assert_eq!(asked("", Some("3000")).0, None);
        assert_eq!(asked(&"x\n".repeat(TRIES_MAX - 1), None).0, None);
        assert_eq!(asked(&format!("{}3002\n", "x\n".repeat(TRIES_MAX - 1)), None).0, Some(3002));
        assert_eq!(asked(&format!("{}3002\n", "x\n".repeat(TRIES_MAX)), None).0, None);
        assert_eq!(asked("3002", None).0, Some(3002));
    }

    #[test]
    fn yes_and_no_are_asked_for_until_one_is_said() {
        let confirm = |input: &str, default| {
            Dialogue { input: input.as_bytes(), output: io::sink() }.confirm("Write it?", default).unwrap()
        };
        for (input, default, answer) in [
            ("\n", true, true),
            ("\n", false, false),
            ("YES\n", false, true),
            ("n\n", true, false),
            ("what\ny\n", false, true),
            ("", true, false),
        ] {
            assert_eq!(confirm(input, default), answer, "{input:?}");
        }
    }
}
