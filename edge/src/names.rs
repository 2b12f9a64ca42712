//! Names of hosts and certificates, and origins (RFC 6454).

mod host;
mod origin;

pub use host::{DnsName, Host, LABEL_BYTES_MAX, NAME_BYTES_MAX, NameError, SanName};
pub use origin::{ORIGIN_BYTES_MAX, Origin, OriginError, Scheme};
