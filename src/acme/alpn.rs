//! tls-alpn-01 (RFC 8737): writes the digests to a file that the edge answers from, and checks that it does.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ring::rand::SecureRandom as _;
use rustix::fs::FlockOperation;
use tokio::time::{Instant, sleep};

use super::confirm::{self, Wish};
use super::unserved::Unserved;
use crate::bundle::acme::{Plan, here};
use crate::bundle::alpn::{FILE, PROTOCOL, Proof, encode, extension, server_name};
use crate::bundle::file::word;
use crate::doctor::explain::Code;
use crate::names::Host;

/// Longest wait for the edge, which checks for the file every second.
const SERVED_TIME: Duration = Duration::from_secs(10);
/// Pause between two handshakes with the edge.
const LOOK_PAUSE: Duration = Duration::from_millis(200);

/// The proofs that the edge answers with until this is dropped. One process at a time uses the folder.
#[derive(Debug)]
pub(super) struct Proofs {
    folder: PathBuf,
    proofs: Vec<Proof>,
    _lock: File,
}

impl Proofs {
    /// Starts without proofs, and removes the file that a killed run left.
    pub(super) fn open(folder: &Path) -> Result<Self, Unserved> {
        let failed = |error: io::Error| Unserved::folder(folder, &error);
        let lock = File::open(folder).map_err(failed)?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(unserved(format!("another `sanedge renew` is using {}", word(folder))));
            }
            locked => locked.map_err(|error| failed(error.into()))?,
        }
        clear(folder);
        Ok(Self { folder: folder.to_owned(), proofs: Vec::new(), _lock: lock })
    }

    /// Adds the proof of `name`, replacing an older one.
    pub(super) fn add(&mut self, name: &str, digest: [u8; 32]) -> Result<(), Unserved> {
        let host = Host::parse(name).map_err(|error| unserved(error.to_string()))?;
        self.proofs.retain(|proof| proof.host != host);
        self.proofs.push(Proof { host, digest });
        self.write().map_err(|error| Unserved::folder(&self.folder, &error))
    }

    /// Writes the file atomically: the edge reads the old file or the new one.
    fn write(&self) -> io::Result<()> {
        let (path, temporary) = (self.folder.join(FILE), temporary(&self.folder));
        let _ = fs::remove_file(&temporary); // of a run that was killed
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&temporary)?;
        // Readable by all regardless of the umask: it is public, and the folder's mode decides which users can open it.
        file.set_permissions(Permissions::from_mode(0o644))?;
        file.write_all(encode(&self.proofs).as_bytes())?;
        fs::rename(&temporary, path)
    }

    /// Waits until the edge on this machine answers for each name as the CA will see it.
    ///
    /// # Errors
    /// What came instead.
    pub(super) async fn are_served(&self, plan: &Plan) -> Result<(), Unserved> {
        let listener = plan.https.iter().find(|listener| listener.port() != 0);
        let without = || unserved("sanedge.toml has no `https` listener with a fixed port".to_owned());
        let listener = *listener.ok_or_else(without)?;
        let until = Instant::now() + SERVED_TIME;
        for proof in &self.proofs {
            while let Err(error) = look(listener, proof, plan.http_expects_proxy).await {
                // If no edge listens, waiting does not help.
                if Instant::now() >= until || error.kind() == io::ErrorKind::ConnectionRefused {
                    let (edge, host) = (here(listener), &proof.host);
                    let found = format!("{edge} does not answer the challenge for {host}: {error}");
                    return Err(unserved(found));
                }
                sleep(LOOK_PAUSE).await;
            }
        }
        Ok(())
    }
}

impl Drop for Proofs {
    fn drop(&mut self) {
        clear(&self.folder);
    }
}

fn clear(folder: &Path) {
    let _ = fs::remove_file(folder.join(FILE));
    let _ = fs::remove_file(temporary(folder));
}

fn temporary(folder: &Path) -> PathBuf {
    folder.join(FILE).with_extension("new")
}

fn unserved(found: String) -> Unserved {
    Unserved::new(Code::AcmeEdgeNotAnsweringTls, found)
}

/// A handshake that offers what the CA offers. It blocks, so it runs on another thread.
async fn look(listener: SocketAddr, proof: &Proof, expects_proxy: bool) -> io::Result<()> {
    let proof = proof.clone();
    let handshake = move || {
        let expected = extension(&proof.digest);
        let wish = Wish {
            server_name: &server_name(&proof.host),
            protocol: Some(PROTOCOL),
            accepts: Box::new(move |der| der.windows(expected.len()).any(|window| window == expected)),
        };
        confirm::handshake(listener, wish, expects_proxy)
    };
    tokio::task::spawn_blocking(handshake).await.map_err(io::Error::other)?
}

/// Checks with random digests, which no CA uses, whether the edge would answer for `names`.
///
/// # Errors
/// What was found instead.
pub(super) async fn would_be_served(plan: &Plan, names: &[String]) -> Result<(), Unserved> {
    let mut proofs = Proofs::open(&plan.challenges)?;
    let mut digest = [0; 32];
    ring::rand::SystemRandom::new()
        .fill(&mut digest)
        .map_err(|_| unserved("no random numbers".to_owned()))?;
    names.iter().try_for_each(|name| proofs.add(name, digest))?;
    proofs.are_served(plan).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::alpn::decode;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn proofs_are_one_file_of_the_folder_that_goes_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        fs::write(&path, "of a run that was killed").unwrap();
        let mut proofs = Proofs::open(folder.path()).unwrap();
        assert!(!path.exists());
        assert!(Proofs::open(folder.path()).unwrap_err().found.contains("another"), "one at a time");
        fs::write(temporary(folder.path()), "of a run that was killed").unwrap();
        proofs.add("a.test", [1; 32]).unwrap();
        proofs.add("192.0.2.1", [2; 32]).unwrap();
        proofs.add("a.test", [3; 32]).unwrap();
        let read = decode(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(read, proofs.proofs);
        assert_eq!(read.iter().map(|proof| proof.digest[0]).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o644);
        assert!(proofs.add("no name", [0; 32]).is_err());
        drop(proofs);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(Proofs::open(folder.path()).is_ok());
        let missing = Proofs::open(&folder.path().join("none")).unwrap_err();
        assert!(missing.code == Code::AcmeChallengeFolder && missing.found.contains("none"), "{missing:?}");
    }
}
