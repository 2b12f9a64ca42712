//! The buffers for request heads that a worker keeps for its sessions, so that an idle connection owns none.

use std::cell::RefCell;

/// Most heads fit a buffer of this size.
pub(crate) const SMALL_BUFFER_BYTES: usize = 2 * 1024;
/// Buffers of each size that are kept for the next use.
const SPARE_BUFFERS_MAX: usize = 64;

/// Buffers of two sizes that are free now.
#[derive(Default)]
pub(crate) struct Buffers {
    small: RefCell<Vec<Box<[u8]>>>,
    large: RefCell<Vec<Box<[u8]>>>,
}

impl Buffers {
    /// A buffer of at least `bytes`; `large_bytes` is the size of the large ones.
    pub(crate) fn take(&self, bytes: usize, large_bytes: usize) -> Box<[u8]> {
        let (spare, size) = match bytes <= SMALL_BUFFER_BYTES {
            true => (&self.small, SMALL_BUFFER_BYTES),
            false => (&self.large, large_bytes.max(bytes)),
        };
        let kept = spare.borrow_mut().pop().filter(|buffer| buffer.len() >= bytes);
        kept.unwrap_or_else(|| vec![0; size].into_boxed_slice())
    }

    pub(crate) fn give(&self, buffer: Box<[u8]>) {
        let spare = if buffer.len() <= SMALL_BUFFER_BYTES { &self.small } else { &self.large };
        let mut spare = spare.borrow_mut();
        if !buffer.is_empty() && spare.len() < SPARE_BUFFERS_MAX {
            spare.push(buffer);
        }
    }
}
