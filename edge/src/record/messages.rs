//! What may still come besides data once the handshake is over: alerts, KeyUpdate, and in TLS 1.2 an attempt to renegotiate.

use serde::{Deserialize, Serialize};

use super::fault::Fault;
use super::keys::Version;

/// What the peer must be sent for a message of its own: see [`super::RecordLayer::answer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A KeyUpdate, and new keys for what is sealed from then on (RFC 8446 §4.6.3).
    KeyUpdate,
    /// The warning no_renegotiation (RFC 5246 §7.2.2).
    NoRenegotiation,
}

const WARNING: u8 = 1;
const FATAL: u8 = 2;
const CLOSE_NOTIFY: u8 = 0;
const USER_CANCELED: u8 = 90;
const NO_RENEGOTIATION: u8 = 100;
const CLIENT_HELLO: u8 = 1;
const KEY_UPDATE: u8 = 24;

pub(super) const CLOSE_NOTIFY_ALERT: [u8; 2] = [WARNING, CLOSE_NOTIFY];
pub(super) const NO_RENEGOTIATION_ALERT: [u8; 2] = [WARNING, NO_RENEGOTIATION];

/// A KeyUpdate message, which asks for one of the peer or not.
pub(super) fn key_update(is_requested: bool) -> [u8; 5] {
    [KEY_UPDATE, 0, 0, 1, is_requested.into()]
}

/// Warnings of a connection, as many as BoringSSL and rustls take.
const WARNINGS_MAX: u8 = 4;
/// KeyUpdates without data between them, as many as BoringSSL and rustls take.
const KEY_UPDATES_MAX: u8 = 32;
/// Empty records without data between them; BoringSSL and rustls take as many in a row.
const EMPTY_RECORDS_MAX: u8 = 32;

/// How often a peer may still send what costs work and carries no data.
#[derive(Serialize, Deserialize)]
pub(super) struct Allowance {
    warnings: u8,
    key_updates: u8,
    empty_records: u8,
    renegotiations: u8,
    /// A KeyUpdate of ours requests one, which does not count.
    pub(super) awaits_key_update: bool,
}

impl Default for Allowance {
    fn default() -> Self {
        Self {
            warnings: WARNINGS_MAX,
            key_updates: KEY_UPDATES_MAX,
            empty_records: EMPTY_RECORDS_MAX,
            renegotiations: 1,
            awaits_key_update: false,
        }
    }
}

fn less(left: &mut u8, fault: Fault) -> Result<(), Fault> {
    *left = left.checked_sub(1).ok_or(fault)?;
    Ok(())
}

impl Allowance {
    /// A record of application data of so many bytes has come.
    #[inline]
    pub(super) fn data(&mut self, bytes: usize) -> Result<(), Fault> {
        if bytes == 0 {
            return less(&mut self.empty_records, Fault::TooManyEmptyRecords);
        }
        self.empty_records = EMPTY_RECORDS_MAX;
        self.key_updates = KEY_UPDATES_MAX;
        Ok(())
    }

    /// Reads an alert: whether it is close_notify, which is all that is left of those that end nothing.
    ///
    /// # Errors
    /// A fatal alert, which has no answer; and what is no alert of this version.
    pub(super) fn alert(&mut self, version: Version, message: &[u8]) -> Result<bool, Fault> {
        match *message {
            [WARNING | FATAL, CLOSE_NOTIFY] => Ok(true),
            [WARNING, description] => {
                less(&mut self.warnings, Fault::TooManyWarnings)?;
                match version {
                    Version::Tls13 if description != USER_CANCELED => Err(Fault::Warning(description)),
                    _ => Ok(false),
                }
            }
            [FATAL, description] => Err(Fault::Alert(description)),
            [_, description] => Err(Fault::AlertLevel(description)),
            _ => Err(Fault::AlertLength),
        }
    }
}

/// A handshake message that comes in pieces; 8 bytes, since idle connections keep it. Only the progress is kept, not the body.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Message {
    head: [u8; 4],
    head_bytes: u8,
    /// Bytes of the body that have not come.
    body_bytes: u16,
}

impl Message {
    /// Whether the rest of a message must come next (RFC 8446 §5.1).
    #[inline]
    pub(super) fn is_partial(&self) -> bool {
        self.head_bytes > 0
    }

    /// Takes a record of handshake messages; what the last complete message in it requests.
    pub(super) fn take(
        &mut self,
        version: Version,
        allowance: &mut Allowance,
        mut bytes: &[u8],
    ) -> Result<Option<Request>, Fault> {
        if bytes.is_empty() {
            return Err(Fault::EmptyHandshake);
        }
        let mut request = None;
        while let [first, rest @ ..] = bytes {
            let at = usize::from(self.head_bytes);
            if let Some(byte) = self.head.get_mut(at) {
                *byte = *first;
                self.head_bytes += 1;
                bytes = rest;
                self.check_head(version)?;
                if usize::from(self.head_bytes) < self.head.len() || self.body_bytes > 0 {
                    continue;
                }
            } else if version == Version::Tls13 {
                if !rest.is_empty() {
                    return Err(Fault::KeyUpdateInside);
                }
                request = Some(Request::KeyUpdate(match first {
                    0 => None,
                    1 => Some(Answer::KeyUpdate),
                    _ => return Err(Fault::KeyUpdate),
                }));
                bytes = rest;
            } else {
                let here = bytes.len().min(self.body_bytes.into());
                bytes = bytes.get(here..).unwrap_or_default();
                self.body_bytes -= here as u16; // lossless: not more than there is
                if self.body_bytes > 0 {
                    continue;
                }
            }
            // A message is complete.
            *self = Self::default();
            match version {
                Version::Tls13 if std::mem::take(&mut allowance.awaits_key_update) => {}
                Version::Tls13 => less(&mut allowance.key_updates, Fault::TooManyKeyUpdates)?,
                Version::Tls12 => {
                    less(&mut allowance.renegotiations, Fault::Renegotiation)?;
                    request = Some(Request::Renegotiation);
                }
            }
        }
        Ok(request)
    }

    fn check_head(&mut self, version: Version) -> Result<(), Fault> {
        let wanted = match version {
            Version::Tls12 => CLIENT_HELLO,
            Version::Tls13 => KEY_UPDATE,
        };
        let [message, high, middle, low] = self.head;
        if message != wanted {
            return Err(Fault::HandshakeMessage(message));
        }
        if usize::from(self.head_bytes) == self.head.len() {
            self.body_bytes = u16::from_be_bytes([middle, low]);
            if high != 0 || (version == Version::Tls13 && self.body_bytes != 1) {
                return Err(Fault::HandshakeLength);
            }
        }
        Ok(())
    }
}

/// What a handshake message requests.
pub(super) enum Request {
    KeyUpdate(Option<Answer>),
    Renegotiation,
}
