//! The files in the folder of the local CA (`[local]`).

/// What the CA is called where another certificate has the URL of its CA's directory.
pub const NAME: &str = "the local CA";
/// The common names of its root and of the issuer below begin so; a number follows.
pub const ROOT_NAME: &str = "sanedge local CA";
/// See [`ROOT_NAME`].
pub const ISSUER_NAME: &str = "sanedge local issuer";
/// The key that issues, its certificate, and the root above: for root alone.
pub const AUTHORITY: &str = "ca.key";
/// The root, which devices are to trust. PEM in a file of this name is what each system takes.
pub const ROOT: &str = "ca.crt";
/// The certificate of the hosts with its key: for root alone.
pub const CERTIFICATE: &str = "hosts.key";
/// The same without the key: `sanedge renew` sees in it when a renewal is due.
pub const PUBLIC: &str = "hosts.crt";
