//! Why a record cannot be made, seen or removed.

/// Why a record cannot be made, seen or removed.
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
    /// The provider or the resolver cannot be asked, or does not answer as it should.
    #[error("{0}")]
    Failed(String),
    /// The resolver answers SERVFAIL.
    #[error("{0}")]
    ServFail(String),
    /// The resolver answers SERVFAIL, and an answer where it need not check DNSSEC (RFC 4035 §3.2.2).
    #[error("{0}")]
    Bogus(String),
    /// Name servers do not show the record.
    #[error("{0}")]
    Invisible(String),
    /// The provider has room for one value at a name, and more are wanted.
    #[error("{0}")]
    OneValue(String),
}
