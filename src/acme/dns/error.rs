//! Why a record cannot be created, found or removed.

/// Why a record cannot be created, found or removed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DnsError {
    /// The file of credentials cannot be used.
    #[error("{0}")]
    Credentials(String),
    /// The provider refuses the credentials.
    #[error("{0}")]
    Refused(String),
    /// The provider has no zone for the name.
    #[error("{0}")]
    NoZone(String),
    /// The provider or the resolver cannot be reached, or its answer cannot be used.
    #[error("{0}")]
    Failed(String),
    /// The resolver answers SERVFAIL.
    #[error("{0}")]
    ServFail(String),
    /// The resolver answers SERVFAIL, but has an answer if DNSSEC is not checked (RFC 4035 §3.2.2).
    #[error("{0}")]
    Bogus(String),
    /// Name servers do not show the record.
    #[error("{0}")]
    Invisible(String),
    /// The provider stores one value for a name, and more are needed.
    #[error("{0}")]
    OneValue(String),
}
