//! What ends a connection, and the alert for it.

use std::fmt;

/// Fatal alerts (RFC 8446 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alert {
    /// RFC 8446 §6.2, as all without another source.
    UnexpectedMessage = 10,
    /// The record does not decrypt.
    BadRecordMac = 20,
    /// The record is too long.
    RecordOverflow = 22,
    /// No common parameters.
    HandshakeFailure = 40,
    /// A value that its field does not allow.
    IllegalParameter = 47,
    /// A message of the wrong length.
    DecodeError = 50,
    /// Nothing is wrong with what the peer sent.
    InternalError = 80,
    /// RFC 7507 §3.
    InappropriateFallback = 86,
    /// RFC 6066 §3.
    UnrecognizedName = 112,
    /// RFC 7301 §3.2.
    NoApplicationProtocol = 120,
}

impl Alert {
    /// In a record of its own, before there are keys.
    pub(crate) fn plaintext_record(self) -> [u8; 7] {
        let [level, description] = self.message();
        [21, 3, 3, 0, 2, level, description]
    }

    pub(super) fn message(self) -> [u8; 2] {
        [2, self as u8]
    }
}

/// Why a record ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// bad_record_mac.
    #[error("a record that does not decrypt")]
    Undecryptable,
    /// record_overflow.
    #[error("a record of more than 16,384 bytes of plaintext, or longer than such a record can be")]
    TooLong,
    /// RFC 8446 §5.4.
    #[error("a record without a content type")]
    NoContentType,
    /// With its type.
    #[error("a record of type {0}, which may not come here")]
    ContentType(u8),
    /// The first byte of its version is not 3.
    #[error("a record that is not of TLS: expected version 3.x")]
    Version,
    /// RFC 8446 §5.1.
    #[error("another record within a handshake message")]
    Interleaved,
    /// RFC 8446 §5.1.
    #[error("a handshake record without content")]
    EmptyHandshake,
    /// With its type.
    #[error("a handshake message of type {0} after the handshake")]
    HandshakeMessage(u8),
    /// Of a message that may come.
    #[error("a handshake message after the handshake with a length that it cannot have")]
    HandshakeLength,
    /// RFC 8446 §4.6.3.
    #[error("a KeyUpdate with an unknown value: expected 0 or 1")]
    KeyUpdate,
    /// RFC 8446 §5.1.
    #[error("a KeyUpdate that does not end its record")]
    KeyUpdateInside,
    /// The limit of BoringSSL and rustls.
    #[error("more than 32 KeyUpdates without data between them")]
    TooManyKeyUpdates,
    /// The limit of BoringSSL and rustls for empty records in a row.
    #[error("more than 32 empty records without data between them")]
    TooManyEmptyRecords,
    /// The limit of BoringSSL and rustls.
    #[error("more than 4 alerts that are warnings")]
    TooManyWarnings,
    /// After the first, which is answered with no_renegotiation.
    #[error("a second attempt to renegotiate")]
    Renegotiation,
    /// A fatal one, with its description.
    #[error("the client sent the fatal alert {}", AlertName(*.0))]
    Alert(u8),
    /// TLS 1.3 has none, with its description.
    #[error("the client sent the alert {} as a warning, which TLS 1.3 does not have", AlertName(*.0))]
    Warning(u8),
    /// With its description.
    #[error("the client sent the alert {} with an unknown level", AlertName(*.0))]
    AlertLevel(u8),
    /// It is not 2 bytes long.
    #[error("an alert of a wrong length: expected 2 bytes")]
    AlertLength,
    /// All records that a key may seal are sealed, and TLS 1.2 has no other.
    #[error("the keys of the connection have sealed as many records as they may")]
    Exhausted,
    /// Keys that do not go with the suite.
    #[error("keys of a wrong length")]
    Keys,
    /// The caller's buffer is too small.
    #[error("no room for a record")]
    NoRoom,
}

impl Fault {
    /// The alert to send; none if the peer has ended the connection with one itself.
    pub fn alert(self) -> Option<Alert> {
        Some(match self {
            Self::Alert(_) => return None,
            Self::Undecryptable => Alert::BadRecordMac,
            Self::TooLong => Alert::RecordOverflow,
            Self::Version | Self::HandshakeLength | Self::AlertLength | Self::Warning(_) => {
                Alert::DecodeError
            }
            Self::KeyUpdate | Self::AlertLevel(_) => Alert::IllegalParameter,
            Self::Exhausted | Self::Keys | Self::NoRoom => Alert::InternalError,
            Self::NoContentType
            | Self::ContentType(_)
            | Self::Interleaved
            | Self::EmptyHandshake
            | Self::HandshakeMessage(_)
            | Self::KeyUpdateInside
            | Self::TooManyKeyUpdates
            | Self::TooManyEmptyRecords
            | Self::TooManyWarnings
            | Self::Renegotiation => Alert::UnexpectedMessage,
        })
    }
}

/// The number of an alert, and the name that RFC 8446 §6 or RFC 5246 §7.2 gives to those that clients send.
struct AlertName(u8);

impl fmt::Display for AlertName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            10 => "unexpected_message",
            20 => "bad_record_mac",
            22 => "record_overflow",
            40 => "handshake_failure",
            42 => "bad_certificate",
            43 => "unsupported_certificate",
            44 => "certificate_revoked",
            45 => "certificate_expired",
            46 => "certificate_unknown",
            47 => "illegal_parameter",
            48 => "unknown_ca",
            49 => "access_denied",
            50 => "decode_error",
            51 => "decrypt_error",
            70 => "protocol_version",
            80 => "internal_error",
            90 => "user_canceled",
            100 => "no_renegotiation",
            _ => return write!(f, "{}", self.0),
        };
        write!(f, "{} ({name})", self.0)
    }
}
