//! Bytes on their way that a stream has not taken yet.

use std::io;
use std::task::{Poll, ready};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes that a side has not taken yet. Owns memory only while there are any, and is small while there are none.
#[derive(Debug, Default)]
pub(crate) struct Pending(Option<Box<Waiting>>);

/// Never without bytes behind `taken`.
#[derive(Debug)]
struct Waiting {
    bytes: Vec<u8>,
    taken: usize,
}

impl Pending {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn len(&self) -> usize {
        self.rest().len()
    }

    #[inline]
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            Some(waiting) => waiting.bytes.extend_from_slice(bytes),
            None if bytes.is_empty() => {}
            None => self.0 = Some(Box::new(Waiting { bytes: bytes.to_vec(), taken: 0 })),
        }
    }

    /// Moves as much as fits to the front of `buffer`; how much.
    #[inline]
    pub(crate) fn take(&mut self, buffer: &mut [u8]) -> usize {
        let rest = self.rest();
        let count = rest.len().min(buffer.len());
        if let (Some(room), Some(front)) = (buffer.get_mut(..count), rest.get(..count)) {
            room.copy_from_slice(front);
        }
        self.step(count);
        count
    }

    /// Writes what there is; ready when nothing is left. `true`: something was written.
    pub(crate) fn poll_drain(
        &mut self,
        mut write: impl FnMut(&[u8]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<bool>> {
        let mut moved = false;
        while !self.is_empty() {
            let written = ready!(write(self.rest()))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.step(written);
            moved = true;
        }
        Poll::Ready(Ok(moved))
    }

    #[inline]
    fn rest(&self) -> &[u8] {
        self.0.as_ref().and_then(|waiting| waiting.bytes.get(waiting.taken..)).unwrap_or_default()
    }

    #[inline]
    fn step(&mut self, count: usize) {
        let Some(waiting) = &mut self.0 else { return };
        waiting.taken += count;
        if waiting.taken >= waiting.bytes.len() {
            self.0 = None;
        }
    }
}

impl Serialize for Pending {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.rest())
    }
}

impl<'de> Deserialize<'de> for Pending {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&[u8]>::deserialize(deserializer).map(Self::from)
    }
}

impl From<&[u8]> for Pending {
    fn from(bytes: &[u8]) -> Self {
        let mut pending = Self::default();
        pending.push(bytes);
        pending
    }
}

/// Writes `bytes` as far as the sink takes them at once and keeps the rest, behind what is pending already.
pub(crate) fn forward(
    pending: &mut Pending,
    bytes: &[u8],
    write: impl FnOnce(&[u8]) -> Poll<io::Result<usize>>,
) -> Poll<io::Result<()>> {
    let written = match pending.is_empty().then(|| write(bytes)) {
        Some(Poll::Ready(written)) => written?,
        Some(Poll::Pending) | None => 0,
    };
    pending.push(bytes.get(written..).unwrap_or_default());
    Poll::Ready(Ok(()))
}

/// The same, if the caller does not need to know whether it went at once.
///
/// # Errors
/// The stream's own.
pub(crate) fn put(
    pending: &mut Pending,
    bytes: &[u8],
    write: &mut impl FnMut(&[u8]) -> Poll<io::Result<usize>>,
) -> io::Result<()> {
    match forward(pending, bytes, write) {
        Poll::Ready(result) => result,
        Poll::Pending => Ok(()),
    }
}
