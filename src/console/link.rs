//! What the two processes of `sanedge console` say to each other: one JSON document a line, each line of limited length.
//!
//! The server's process asks ([`Ask`]), root's process answers with any number of [`Said::Line`] and one last [`Said`]. An [`Edit`] has
//! names, ports and choices; neither the text of a file nor a path of one.

use std::io::{self, BufRead, Read as _};

use serde::{Deserialize, Serialize};

/// Longest question, with its line end: an edit with each text at its limit, all of it escaped.
pub(crate) const ASK_BYTES_MAX: u64 = 8 * 1024;
/// Longest answer: the page, with the lines of the file that are shown, all hosts, and their findings.
pub(crate) const SAID_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Longest text of an edit: a redirect's URL; a host has at most 253 bytes.
pub(crate) const TEXT_BYTES_MAX: usize = 512;

/// The first line of root's process.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Start {
    /// What the link of the terminal contains.
    pub(crate) token: String,
    /// How long it is valid.
    pub(crate) token_ms: u64,
}

/// The first line of the server's process.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Hello {
    /// What its sandbox holds, in words.
    pub(crate) sandbox: String,
    /// Files and ports are restricted as well.
    pub(crate) is_whole: bool,
}

/// What the server's process asks for.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Ask {
    /// The link was used.
    Entered,
    /// The link can no longer be used, and nobody has used it.
    Void,
    /// The page with status, file and forms.
    Page {
        /// The token that the page sends with each change.
        csrf: String,
    },
    /// What the edit would change, and what is wrong with it.
    Check(Edit),
    /// Make the edit, or put the file to use as it is.
    Apply {
        /// None: the file as it is.
        edit: Option<Edit>,
        /// The digest of the file that the page showed.
        seen: String,
        /// Restart the edge if necessary, even if that closes WebSockets.
        restart: bool,
    },
    /// What a client of this host notices.
    Doctor {
        /// A host of the file.
        host: String,
        /// Not by DNS, but at the edge on this machine.
        is_here: bool,
    },
    /// The user has ended the console.
    End,
}

/// A change of sanedge.toml.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Edit {
    /// As `sanedge site add`.
    AddHost {
        /// The host.
        host: String,
        /// Where it leads.
        leads: Leads,
        /// Only this path leads to the app.
        path: Option<String>,
        /// Its certificate; none: as the file has it.
        certificate: Option<Choice>,
    },
    /// As `sanedge site remove`.
    RemoveHost {
        /// The host.
        host: String,
    },
    /// Another app for a route.
    SetUpstream {
        /// The host.
        host: String,
        /// The path of its route.
        path: String,
        /// The app.
        app: App,
    },
    /// Another certificate for a host.
    SetCertificate {
        /// The host.
        host: String,
        /// Where it comes from.
        certificate: Choice,
    },
}

/// Where a certificate comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Choice {
    /// From the CA of `[acme]`. If the file has no such table, it gets one if the user has agreed to the CA's terms.
    Acme {
        /// The user has agreed.
        agreed: bool,
    },
    /// The pair of files at this place of the page's list.
    Files(usize),
}

/// Where a host leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Leads {
    /// To an app.
    App(App),
    /// To another URL.
    Redirect(String),
}

/// Where an app listens. A Unix socket is a path, which the page cannot name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct App {
    /// An address or a name; none: this machine.
    pub(crate) address: Option<String>,
    /// The port, which is not 0.
    pub(crate) port: u16,
}

/// What root's process answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Said {
    /// A step, while it runs.
    Line(String),
    /// To [`Ask::Page`]: HTML.
    Page(String),
    /// To [`Ask::Check`]: [`Checked`] as JSON, which the server's process passes on unread.
    Checked(String),
    /// To everything else.
    Done {
        /// It was done.
        is_good: bool,
        /// How it ended.
        text: String,
    },
}

/// What the page shows.
#[derive(Debug, Default)]
pub(crate) struct View {
    /// SHA-256 of the file, in hex.
    pub(crate) digest: String,
    /// Its lines, each as an excerpt.
    pub(crate) lines: Vec<String>,
    /// It has more lines.
    pub(crate) is_cut: bool,
    /// One sentence about the running edge.
    pub(crate) edge: String,
    /// What is wrong.
    pub(crate) problems: Vec<Problem>,
    /// The hosts of the file.
    pub(crate) hosts: Vec<HostView>,
    /// Pairs of files that can be chosen.
    pub(crate) certificates: Vec<Files>,
    /// The file has `[acme]`.
    pub(crate) has_acme: bool,
    /// What the file changes that is not in use yet.
    pub(crate) unapplied: Vec<String>,
    /// Why that needs a new process of the edge.
    pub(crate) restart: Vec<String>,
    /// WebSockets that a restart closes.
    pub(crate) websockets: u64,
}

/// A certificate and its key in files.
#[derive(Debug)]
pub(crate) struct Files {
    /// Its place in the list of root's process.
    pub(crate) place: usize,
    /// The chain's file.
    pub(crate) file: String,
    /// The names of the certificate.
    pub(crate) names: String,
}

/// A host of the file.
#[derive(Debug)]
pub(crate) struct HostView {
    /// The host.
    pub(crate) host: String,
    /// Paths of its routes, and their apps.
    pub(crate) routes: Vec<(String, String)>,
    /// Where it redirects to.
    pub(crate) redirect: Option<String>,
    /// Its certificate, in words.
    pub(crate) certificate: String,
}

/// Something that is wrong.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Problem {
    /// The field of the form that it is about; empty: the whole of it.
    pub(crate) field: String,
    /// `error` or `warning`.
    pub(crate) severity: String,
    /// One sentence.
    pub(crate) message: String,
    /// What was found, and what to do.
    pub(crate) remedy: String,
}

/// What an edit would change.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Checked {
    /// It can be applied.
    pub(crate) is_good: bool,
    /// What is wrong with it.
    pub(crate) problems: Vec<Problem>,
    /// The changed lines of the file.
    pub(crate) edit: Vec<String>,
    /// What changes for clients.
    pub(crate) changes: Vec<String>,
    /// Why a new process of the edge is necessary.
    pub(crate) restart: Vec<String>,
    /// WebSockets that a restart closes.
    pub(crate) websockets: u64,
}

impl Said {
    /// The last one of an answer.
    pub(crate) fn is_last(&self) -> bool {
        !matches!(self, Self::Line(_))
    }
}

impl App {
    /// As `upstream` of sanedge.toml has it.
    ///
    /// # Errors
    /// What was expected.
    pub(crate) fn upstream(&self) -> Result<String, String> {
        if self.port == 0 {
            return Err("expected a port from 1 to 65535".to_owned());
        }
        match self.address.as_deref() {
            None => Ok(format!("127.0.0.1:{}", self.port)),
            Some(address) if address.contains(['/', ' ']) || address.starts_with("unix:") => {
                Err("expected an address or a name, without scheme and path".to_owned())
            }
            Some(address) => Ok(format!("{address}:{}", self.port)),
        }
    }
}

/// One line as bytes.
///
/// # Errors
/// It cannot be written as JSON, which no type here permits.
pub(crate) fn line(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

/// The next line of at most `bytes_max`; `None` at the end.
///
/// # Errors
/// The stream fails, or the line is longer or not a message.
pub(crate) fn next<T: for<'de> Deserialize<'de>>(
    from: &mut impl BufRead,
    bytes_max: u64,
) -> io::Result<Option<T>> {
    let mut line = Vec::new();
    from.take(bytes_max).read_until(b'\n', &mut line)?;
    match line.last() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(serde_json::from_slice(&line)?)),
        Some(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "a message without its end")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_up_to_its_limit_and_nothing_else_is_a_message() {
        let edit = Edit::RemoveHost { host: "a.b".to_owned() };
        let sent = line(&Ask::Check(edit.clone())).unwrap();
        let length = u64::try_from(sent.len()).unwrap();
        let found: Option<Ask> = next(&mut sent.as_slice(), length).unwrap();
        assert_eq!(found, Some(Ask::Check(edit)));
        assert!(next::<Ask>(&mut sent.as_slice(), length - 1).is_err());
        assert!(next::<Ask>(&mut &sent[..sent.len() - 1], length).is_err());
        assert_eq!(next::<Ask>(&mut [].as_slice(), length).unwrap(), None);
        for other in [
            "{}\n",
            "\"format-disk\"\n",
            "{\"check\":{\"remove-host\":{\"host\":\"a.b\",\"file\":\"/etc/passwd\"}}}\n",
            "{\"check\":{\"write\":{\"text\":\"a\"}}}\n",
            "{\"apply\":{\"edit\":null,\"seen\":\"\",\"restart\":1}}\n",
        ] {
            assert!(next::<Ask>(&mut other.as_bytes(), ASK_BYTES_MAX).is_err(), "{other}");
        }
    }

    #[test]
    fn an_app_is_an_address_and_never_a_path() {
        let app = |address: Option<&str>, port| App { address: address.map(str::to_owned), port }.upstream();
        assert_eq!(app(None, 3002).unwrap(), "127.0.0.1:3002");
        assert_eq!(app(Some("[::1]"), 1).unwrap(), "[::1]:1");
        for (address, port) in [(None, 0), (Some("unix:/run/a"), 1), (Some("http://a"), 1), (Some("a b"), 1)]
        {
            assert!(app(address, port).is_err(), "{address:?}");
        }
    }
}
