//! Open sessions as data, for the next process.

use std::os::fd::OwnedFd;

use zeroize::Zeroizing;

/// A session that no task of this process drives any more.
pub struct Frozen {
    /// What the next process needs to go on with it. It contains keys.
    pub record: Zeroizing<Vec<u8>>,
    /// Its sockets, 1 to 4: the client first.
    pub descriptors: Vec<OwnedFd>,
}
