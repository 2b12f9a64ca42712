//! Certificates with something peculiar about them, and a folder with a sanedge.toml that is good until it is changed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, GeneralSubtree, IsCa, Issuer,
    KeyPair, NameConstraints, SanType,
};

use super::certs::{Ca, Issued, ca_params, leaf_params};

/// 2027-02-01T00:00:00Z: when the tests look at certificates.
pub const NOW: i64 = 1_801_440_000;

const SOURCE: &str = r#"board = "rpi4"
trust = "ca.pem"

[listen]
https = ["[::]:443"]

[[certificate]]
chain = "cert.pem"
key = "key.pem"

[[site]]
hosts = ["recre.store"]
upstream = ["127.0.0.1:3000"]
"#;

/// A folder with sanedge.toml, ca.pem, cert.pem and key.pem, in which nothing is wrong.
pub struct Folder {
    pub dir: tempfile::TempDir,
    pub ca: Ca,
    pub source: String,
    pub now: i64,
}

impl Folder {
    pub fn good() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = Self { dir, ca: Ca::new("Home CA"), source: SOURCE.to_owned(), now: NOW };
        folder.write("ca.pem", &folder.ca.pem);
        folder.issue(&["recre.store"]);
        folder
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        // As private as a key should be, whatever the umask is.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Replaces cert.pem and key.pem.
    pub fn install(&self, issued: &Issued) {
        self.write("cert.pem", &issued.chain_pem);
        self.write("key.pem", &issued.key_pem);
    }

    pub fn issue(&self, names: &[&str]) {
        self.install(&self.ca.issue(names));
    }

    /// Replaces cert.pem and key.pem by a certificate like this.
    pub fn issue_with(&self, change: impl FnOnce(&mut CertificateParams)) {
        let mut params = leaf_params(&["recre.store"]);
        change(&mut params);
        self.install(&self.ca.issue_with(params, KeyPair::generate().unwrap()));
    }

    /// cert.pem and key.pem from `tests/data`, whose CAs are not ours.
    pub fn fixture(&mut self, chain: &str, key: &str) {
        self.source = self.source.replace("trust = \"ca.pem\"\n", "");
        self.write("cert.pem", data(chain));
        self.write("key.pem", data(key));
    }

    /// Puts `to` in the place of `from` in sanedge.toml.
    pub fn change(&mut self, from: &str, to: &str) -> &mut Self {
        assert!(self.source.contains(from), "{from:?} is not in\n{}", self.source);
        self.source = self.source.replacen(from, to, 1);
        self
    }

    pub fn append(&mut self, text: &str) -> &mut Self {
        self.source.push_str(text);
        self
    }

    /// Adds `[[certificate]]` with these files.
    pub fn certificate(&mut self, name: &str, issued: &Issued) -> &mut Self {
        self.write(&format!("{name}.pem"), &issued.chain_pem);
        self.write(&format!("{name}.key"), &issued.key_pem);
        self.append(&format!("\n[[certificate]]\nchain = \"{name}.pem\"\nkey = \"{name}.key\"\n"))
    }

    /// Writes sanedge.toml and says where it is.
    pub fn sanedge_toml(&self) -> PathBuf {
        self.write("sanedge.toml", &self.source);
        self.path("sanedge.toml")
    }
}

pub fn data(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
    fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// What stands between BEGIN and END.
pub fn der(pem: impl AsRef<[u8]>) -> Vec<u8> {
    use rustls_pki_types::pem::{PemObject, SectionKind};
    let sections = <(SectionKind, Vec<u8>)>::pem_slice_iter(pem.as_ref());
    sections.map(Result::unwrap).next().unwrap().1
}

impl Ca {
    /// A CA signed by this one.
    pub fn subordinate(&self, name: &str) -> Self {
        self.subordinate_with(ca_params(name))
    }

    pub fn subordinate_with(&self, mut params: CertificateParams) -> Self {
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().unwrap();
        let pem = params.signed_by(&key, &self.issuer).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    pub fn root_with(params: CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }
}

impl Issued {
    /// With more certificates behind.
    pub fn and(mut self, pem: &str) -> Self {
        self.chain_pem.push_str(pem);
        self
    }
}

pub fn self_signed(params: CertificateParams) -> Issued {
    let key = KeyPair::generate().unwrap();
    Issued { chain_pem: params.self_signed(&key).unwrap().pem(), key_pem: key.serialize_pem() }
}

/// CA parameters that permit no CA below.
pub fn ca_without_cas_below(name: &str) -> CertificateParams {
    let mut params = ca_params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params
}

/// CA parameters that permit names at and below `domain` only.
pub fn ca_for(name: &str, domain: &str) -> CertificateParams {
    let permitted_subtrees = vec![GeneralSubtree::DnsName(domain.to_owned())];
    let mut params = ca_params(name);
    params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
    params
}

/// authorityInfoAccess with caIssuers, as public CAs put it into what they issue (RFC 5280 §4.2.2.1).
pub fn ca_issuers(url: &str) -> CustomExtension {
    let tagged = |tag: u8, content: &[u8]| [&[tag, u8::try_from(content.len()).unwrap()], content].concat();
    let method = tagged(0x06, &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x02]);
    let description = tagged(0x30, &[method, tagged(0x86, url.as_bytes())].concat());
    CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], tagged(0x30, &description))
}

/// A dNSName as it is, however odd.
pub fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

pub fn no_subject(mut params: CertificateParams) -> CertificateParams {
    params.distinguished_name = DistinguishedName::new();
    params
}
