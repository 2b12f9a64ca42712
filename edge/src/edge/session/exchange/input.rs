//! What was read from a client and not used yet.

use std::io;
use std::task::Poll;

use crate::edge::net::transport::Transport;
use crate::edge::session::buffers::SMALL_BUFFER_BYTES;
use crate::edge::session::machine::Surroundings;

/// Bytes read from the client and not used yet: the head of the request in hand, and what came behind it.
#[derive(Default)]
pub(crate) struct Input {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl From<&[u8]> for Input {
    fn from(bytes: &[u8]) -> Self {
        if bytes.is_empty() {
            return Self::default();
        }
        let mut buffer = vec![0; bytes.len().max(SMALL_BUFFER_BYTES)].into_boxed_slice();
        buffer.get_mut(..bytes.len()).unwrap_or_default().copy_from_slice(bytes);
        Self { buffer, start: 0, end: bytes.len() }
    }
}

impl Input {
    /// Everything, the head in hand included.
    #[inline]
    pub(crate) fn all(&self) -> &[u8] {
        self.buffer.get(..self.end).unwrap_or_default()
    }

    /// What came behind the part that is used.
    pub(crate) fn rest(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Marks the first `count` bytes of [`Self::rest`] as used.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
    }

    /// Forgets what is used; gives the buffer back if nothing is left.
    pub(crate) fn compact(&mut self, world: &impl Surroundings) {
        if self.start == self.end {
            world.buffers().give(std::mem::take(&mut self.buffer));
            (self.start, self.end) = (0, 0);
        } else {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.start = self.end;
    }

    /// Room for at least one more byte within `bytes_max`, if there is any.
    #[inline]
    fn grow(&mut self, world: &impl Surroundings, wanted: usize, bytes_max: usize) -> bool {
        if self.end + wanted <= self.buffer.len() {
            return true;
        }
        if self.end + wanted > bytes_max {
            return false;
        }
        let mut larger = world.buffers().take(self.end + wanted, bytes_max);
        if let Some(front) = larger.get_mut(..self.end) {
            front.copy_from_slice(self.buffer.get(..self.end).unwrap_or_default());
        }
        world.buffers().give(std::mem::replace(&mut self.buffer, larger));
        true
    }

    /// Reads more from the client; 0: it has ended. Pending, without a buffer where none was needed before, while
    /// nothing comes, and for good once `bytes_max` are held.
    pub(crate) fn fill(
        &mut self,
        client: &mut impl Transport,
        world: &impl Surroundings,
        bytes_max: usize,
    ) -> Poll<io::Result<usize>> {
        if !self.grow(world, 1, bytes_max) {
            return Poll::Pending;
        }
        let end = self.end;
        let read = client.try_read(self.buffer.get_mut(end..).unwrap_or_default());
        match read {
            Poll::Ready(Ok(count)) => {
                self.end += count;
                world.flows().0.add(0, count);
            }
            _ if self.end == 0 => world.buffers().give(std::mem::take(&mut self.buffer)),
            _ => {}
        }
        read
    }

    /// Keeps bytes that were read past a body; the caller never reads more than `bytes_max`.
    pub(super) fn push(&mut self, world: &impl Surroundings, bytes: &[u8], bytes_max: usize) {
        if bytes.is_empty() || !self.grow(world, bytes.len(), bytes_max) {
            return;
        }
        if let Some(room) = self.buffer.get_mut(self.end..self.end + bytes.len()) {
            room.copy_from_slice(bytes);
            self.end += bytes.len();
        }
    }
}
