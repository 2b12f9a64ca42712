//! What was found wrong, or worth saying, while compiling a bundle: data first, a sentence second.
//!
//! Knows nothing of how findings are made. Codes are stable: scripts may match on them.

use std::path::{Path, PathBuf};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// No bundle is written.
    Error,
    /// The bundle works, but not as the user may expect.
    Warning,
    /// A choice that was made.
    Note,
}

impl Severity {
    /// As in texts for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])+ $variant:ident = $text:literal, $severity:ident;)+) => {
        /// The kind of a finding, one row each: name, stable text, severity.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code { $($(#[$doc])+ $variant,)+ }

        impl Code {
            /// Every code there is.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The stable text, in kebab case.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// How bad it is.
            pub fn severity(self) -> Severity {
                match self { $(Self::$variant => Severity::$severity,)+ }
            }
        }
    };
}

codes! {
    // sanedge.toml
    /// sanedge.toml is missing, a folder, unreadable, empty, too large or not UTF-8.
    ConfigUnreadable = "config-unreadable", Error;
    /// Not TOML.
    TomlSyntax = "toml-syntax", Error;
    /// A key that does not exist, or not there.
    UnknownKey = "unknown-key", Error;
    /// A key that must be there is not.
    MissingKey = "missing-key", Error;
    /// A string where a list belongs, and so on.
    WrongType = "wrong-type", Error;
    /// A value that cannot be what its key wants.
    BadValue = "bad-value", Error;
    /// A host that is neither a DNS name nor an address.
    BadHost = "bad-host", Error;
    /// A number, size or duration outside its bounds.
    OutOfRange = "out-of-range", Error;
    /// More entries than the bundle format has room for.
    TooMany = "too-many", Error;
    /// No board profile has this name.
    UnknownBoard = "unknown-board", Error;

    // hosts, listeners, upstreams
    /// A host listed twice.
    DuplicateHost = "duplicate-host", Error;
    /// Two routes of one site have the same path.
    DuplicatePath = "duplicate-path", Error;
    /// A site with neither upstream nor routes, or a route without upstream.
    NoUpstream = "no-upstream", Error;
    /// A site with `redirect` and keys of an app.
    RedirectWithApp = "redirect-with-app", Error;
    /// Sites that redirect to themselves or in a circle.
    RedirectLoop = "redirect-loop", Error;
    /// A field of framing, connection or handshake, or one of the edge's own, in `[site.headers]`.
    FieldReserved = "field-reserved", Error;
    /// A field of `[site.headers]` that is set twice.
    DuplicateField = "duplicate-field", Error;
    /// `hsts` for hosts of which browsers ignore it.
    HstsAddress = "hsts-address", Warning;
    /// `hsts`, and clients connect to another port than 443.
    HstsPort = "hsts-port", Warning;
    /// `record_bytes_max` for clients with small buffers, which a handshake of the site does not fit.
    HandshakeRecord = "handshake-record", Warning;
    /// Two listeners want the same address.
    ListenConflict = "listen-conflict", Error;
    /// The admin listener may be reached from other machines.
    AdminNotLoopback = "admin-not-loopback", Error;
    /// `default_host` is not one of the hosts.
    DefaultHostUnknown = "default-host-unknown", Error;
    /// A host that is an address, and no `default_host`: clients send no SNI for an address (RFC 6066 §3).
    IpHostNeedsDefault = "ip-host-needs-default", Error;
    /// Everybody would be believed.
    TrustedEverybody = "trusted-everybody", Error;
    /// `acme_dir` without a plain listener: the CA could not fetch the tokens.
    AcmeWithoutHttp = "acme-without-http", Warning;
    /// `[acme]` without a plain listener: the CA could not see a challenge.
    AcmeWithoutListener = "acme-without-listener", Error;
    /// A host that no public CA issues for.
    AcmePrivateName = "acme-private-name", Error;
    /// `[local] folder` is where the packaged deployment may not write.
    LocalFolder = "local-folder", Warning;
    /// `acme_dir` is not on this machine.
    AcmeDirMissing = "acme-dir-missing", Note;
    /// The folder of the admin socket is not on this machine.
    AdminFolderMissing = "admin-folder-missing", Note;
    /// An upstream on the internet: the relayed bytes would cross it unencrypted.
    PublicUpstream = "public-upstream", Error;
    /// An upstream that is one of our own listeners, or the admin socket.
    UpstreamIsOurselves = "upstream-is-ourselves", Error;
    /// Sessions, handshakes and kernel buffers together need more memory than the board has for them.
    MemoryOverBudget = "memory-over-budget", Error;

    /// `public_https_port` is left out and follows a listener that is not on 443.
    PublicPortFollows = "public-port-follows", Note;

    /// An upstream's name that only multicast DNS knows (RFC 6762).
    MdnsUpstream = "mdns-upstream", Warning;

    /// An upstream is sent a PROXY protocol header, which it must expect.
    SendsProxyProtocol = "sends-proxy-protocol", Note;

    // files
    /// No such file.
    FileMissing = "file-missing", Error;
    /// A folder, a pipe or a device.
    FileNotRegular = "file-not-regular", Error;
    /// The file is there and cannot be read.
    FileUnreadable = "file-unreadable", Error;
    /// Nothing in it.
    FileEmpty = "file-empty", Error;
    /// More bytes than any chain or key has.
    FileTooLarge = "file-too-large", Error;
    /// DER where PEM is wanted.
    PemIsDer = "pem-is-der", Error;
    /// A PKCS #12 archive where PEM is wanted.
    PemIsPkcs12 = "pem-is-pkcs12", Error;
    /// Broken PEM: no END line, or not base64.
    PemMalformed = "pem-malformed", Error;
    /// No certificate in a file that should have one.
    NoCertificateInFile = "no-certificate-in-file", Error;
    /// A private key where a certificate belongs.
    KeyAsCertificate = "key-as-certificate", Error;
    /// A certificate where a private key belongs.
    CertificateAsKey = "certificate-as-key", Error;
    /// No private key in a file that should have one.
    NoKeyInFile = "no-key-in-file", Error;
    /// More than one private key: which one is meant cannot be known.
    SeveralKeys = "several-keys", Error;
    /// The key is protected by a passphrase.
    EncryptedKey = "encrypted-key", Error;
    /// More certificates than a chain can have.
    ChainTooLong = "chain-too-long", Error;
    /// A certificate that is not X.509.
    CertificateMalformed = "certificate-malformed", Error;

    // keys
    /// A key that serve cannot load.
    KeyUnsupported = "key-unsupported", Error;
    /// RSA outside 2048 to 4096 bits.
    RsaSize = "rsa-size", Error;
    /// The key is another certificate's.
    KeyMismatch = "key-mismatch", Error;
    /// Browsers refuse Ed25519.
    Ed25519 = "ed25519", Warning;
    /// RSA signatures are slow on this board.
    RsaSlow = "rsa-slow", Warning;

    /// Others may read the key's file.
    KeyReadable = "key-readable", Warning;

    // certificates and chains
    /// Past its end.
    Expired = "expired", Error;
    /// Before its start.
    NotYetValid = "not-yet-valid", Error;
    /// Its renewal is overdue, or its end is near: see [`super::lifetime`].
    ExpiresSoon = "expires-soon", Warning;
    /// No SAN: the CN does not count (RFC 9525 §6.3).
    NoSan = "no-san", Error;
    /// A SAN entry that no client accepts.
    UnusableSan = "unusable-san", Warning;
    /// A CA certificate where a server's belongs.
    CaAsEndEntity = "ca-as-end-entity", Error;
    /// The extended key usage lacks serverAuth.
    NoServerAuth = "no-server-auth", Error;
    /// The key usage lacks digitalSignature.
    NoDigitalSignature = "no-digital-signature", Error;
    /// The right certificates in the wrong order.
    ChainOrder = "chain-order", Error;
    /// A certificate that the chain does not need, and which is left out.
    ChainForeign = "chain-foreign", Warning;
    /// A name matches and the signature does not.
    ChainSignature = "chain-signature", Error;
    /// SHA-1 or MD5.
    WeakSignature = "weak-signature", Error;
    /// The certificate between this one and a root is not in the file.
    MissingIntermediate = "missing-intermediate", Error;
    /// A name that a CA above does not permit.
    NameConstraints = "name-constraints", Error;
    /// A signature that this program cannot check, in a chain that is fine otherwise.
    ChainUnverified = "chain-unverified", Warning;
    /// Refused by the path check for another reason.
    ChainRefused = "chain-refused", Error;
    /// Signed by itself: only clients told to trust it will.
    SelfSigned = "self-signed", Warning;
    /// No root that browsers know, nor one in `trust`.
    UnknownCa = "unknown-ca", Warning;
    /// `trust` is set, and the chain gets neither to it nor to a root that browsers know.
    NotInTrust = "not-in-trust", Error;
    /// Valid for longer than some clients take.
    LifetimeTooLong = "lifetime-too-long", Warning;
    /// It demands an OCSP response, which sanedge does not send (RFC 7633).
    MustStaple = "must-staple", Warning;
    /// Of a public CA, and without signed certificate timestamps (RFC 6962).
    NoTimestamps = "no-timestamps", Warning;
    /// Negative, zero, or longer than 20 octets.
    SerialNumber = "serial-number", Warning;
    /// What OpenSSL's X509_STRICT refuses, and with it Python 3.13.
    StrictClients = "strict-clients", Warning;
    /// The root is in the file, which clients have already; left out.
    RootIncluded = "root-included", Warning;

    // names
    /// No certificate covers this host.
    HostNotCovered = "host-not-covered", Error;
    /// A certificate that no host uses.
    UnusedCertificate = "unused-certificate", Warning;
    /// Several certificates cover this host, and which one it got.
    CertificateChosen = "certificate-chosen", Note;

    /// The source of a host's certificate fails, and the bundle in place has one that stays in use (`--carry-over`).
    CarriedOver = "carried-over", Warning;
    /// No certificate for this host, neither in a file nor in the bundle in place (`--carry-over`).
    HostLeftOut = "host-left-out", Warning;

    // the bundle itself
    /// The bundle is fine, and the file could not be written.
    NotWritten = "not-written", Error;
    /// The compiled bytes did not open again as what was compiled: a bug of ours.
    SelfCheck = "self-check", Error;
}

/// Where to look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The file to edit, mostly sanedge.toml.
    pub file: Option<PathBuf>,
    /// Its line, counted from 1.
    pub line: Option<u32>,
    /// The host it is about.
    pub host: Option<String>,
    /// The certificate it is about, by its file.
    pub certificate: Option<String>,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its kind; the severity hangs on it.
    pub code: Code,
    /// Where.
    pub place: Place,
    /// One sentence.
    pub message: String,
    /// What was expected.
    pub expected: String,
    /// What was found.
    pub found: String,
    /// What to do; commands stand on lines of their own, indented by two spaces.
    pub remedy: String,
}

impl Finding {
    /// A finding without a place yet.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        let (expected, found, remedy) = Default::default();
        Self { code, place: Place::default(), message: message.into(), expected, found, remedy }
    }

    /// In this file, at this line.
    #[must_use]
    pub fn at(mut self, file: &Path, line: u32) -> Self {
        self.place.file = Some(file.to_owned());
        self.place.line = (line > 0).then_some(line);
        self
    }

    /// About this host.
    #[must_use]
    pub fn host(mut self, host: impl ToString) -> Self {
        self.place.host = Some(host.to_string());
        self
    }

    /// About this certificate.
    #[must_use]
    pub fn certificate(mut self, label: &str) -> Self {
        self.place.certificate = Some(label.to_owned());
        self
    }

    /// What was expected.
    #[must_use]
    pub fn expected(mut self, text: impl Into<String>) -> Self {
        self.expected = text.into();
        self
    }

    /// What was found.
    #[must_use]
    pub fn found(mut self, text: impl Into<String>) -> Self {
        self.found = text.into();
        self
    }

    /// What to do.
    #[must_use]
    pub fn remedy(mut self, text: impl Into<String>) -> Self {
        self.remedy = text.into();
        self
    }

    /// How bad it is.
    pub fn severity(&self) -> Severity {
        self.code.severity()
    }
}

/// Longest word that is taken for a misspelt one: twice our longest key.
const GUESSED_BYTES_MAX: usize = 64;

/// The word of `known` that `word` was probably meant to be.
pub(crate) fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > GUESSED_BYTES_MAX {
        return None;
    }
    let word = word.to_ascii_lowercase().replace('-', "_");
    let sorted = |text: &str| {
        let mut parts: Vec<String> = text.split('_').map(str::to_owned).collect();
        parts.sort_unstable();
        parts
    };
    let parts = sorted(&word);
    known
        .into_iter()
        .map(|k| (if sorted(k) == parts { 1.0 } else { strsim::jaro_winkler(&word, k) }, k))
        .filter(|(alike, k)| *alike > 0.86 || strsim::damerau_levenshtein(&word, k) <= 2)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, k)| k)
}

/// `word`, `word` and `word`; `nothing` for none.
pub fn listed<T: ToString>(words: impl IntoIterator<Item = T>) -> String {
    let words: Vec<String> = words.into_iter().map(|w| format!("`{}`", w.to_string())).collect();
    match words.as_slice() {
        [] => "nothing".to_owned(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_kebab_case_and_stands_once() {
        let mut texts: Vec<&str> = Code::ALL.iter().map(|c| c.as_str()).collect();
        assert!(texts.len() > 50, "the loop below must see the codes");
        for text in &texts {
            assert!(
                text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
                "{text}"
            );
        }
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), Code::ALL.len());
    }

    #[test]
    fn a_near_word_is_offered_and_a_far_one_is_not() {
        assert_eq!(did_you_mean("upsteam", ["upstream", "hosts"]), Some("upstream"));
        assert_eq!(did_you_mean("max-sessions", ["head_bytes_max", "sessions_max"]), Some("sessions_max"));
        assert_eq!(did_you_mean("Hosts", ["hosts"]), Some("hosts"));
        assert_eq!(did_you_mean("banana", ["hosts", "upstream"]), None);
    }

    #[test]
    fn lists_read_like_english() {
        assert_eq!(listed::<&str>([]), "nothing");
        assert_eq!(listed(["a"]), "`a`");
        assert_eq!(listed(["a", "b", "c"]), "`a`, `b` and `c`");
    }
}
