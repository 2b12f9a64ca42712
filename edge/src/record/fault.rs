//! What ends a connection, and the alert that says so.

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
    #[error("a record longer than 2^14 bytes")]
    TooLong,
    /// RFC 8446 §5.4.
    #[error("a record without a content type")]
    NoContentType,
    /// With its type.
    #[error("a record of the unexpected type {0}")]
    ContentType(u8),
    /// The first byte of its version is not 3.
    #[error("a record of no version of TLS")]
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
    #[error("a handshake message of a wrong length")]
    HandshakeLength,
    /// RFC 8446 §4.6.3.
    #[error("a KeyUpdate that neither requests one nor does not")]
    KeyUpdate,
    /// RFC 8446 §5.1.
    #[error("a KeyUpdate that does not end its record")]
    KeyUpdateInside,
    /// More than 32.
    #[error("too many KeyUpdates without data between them")]
    TooManyKeyUpdates,
    /// More than 32.
    #[error("too many empty records without data between them")]
    TooManyEmptyRecords,
    /// More than 4.
    #[error("too many warnings")]
    TooManyWarnings,
    /// After the first, which is answered with no_renegotiation.
    #[error("a second attempt to renegotiate")]
    Renegotiation,
    /// A fatal one, with its description.
    #[error("the client sent the fatal alert {0}")]
    Alert(u8),
    /// TLS 1.3 has none, with its description.
    #[error("the client sent the alert {0} as a warning, which TLS 1.3 does not have")]
    Warning(u8),
    /// With its description.
    #[error("the client sent the alert {0} with an unknown level")]
    AlertLevel(u8),
    /// It is not 2 bytes long.
    #[error("an alert of a wrong length")]
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
    /// What the peer is told; none where it has said itself that it is over.
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
