//! Where a message body ends (RFC 9112 §6), and the chunked coding (§7.1) in both directions.
//!
//! Chunks are read and re-framed, never passed: chunk extensions end here, and of the trailer section only
//! [`TRAILERS_PASSED`].

use std::ops::Range;

/// How a body is delimited (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// No body.
    None,
    /// Content-Length.
    Length(u64),
    /// Transfer-Encoding: chunked.
    Chunked,
    /// Until the sender closes; responses only.
    UntilClose,
}

/// Reads one body, wherever its bytes are cut.
#[derive(Clone, Debug)]
pub struct BodyReader {
    framing: Framing,
}

/// What one call of [`BodyReader::step`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Bytes of the input that are done with.
    pub consumed: usize,
    /// Body data, as a range of the input within the consumed bytes; often empty.
    pub data: Range<usize>,
    /// The body is complete; what follows belongs to the next message.
    pub done: bool,
}

/// A broken rule of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The sender closed inside the body.
    #[error("the connection ended inside the body")]
    Truncated,
}

/// The end of a chunked body without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

impl BodyReader {
    /// A reader at the first byte of a body.
    pub fn new(framing: Framing) -> Self {
        Self { framing }
    }

    /// Takes from `input` at most one run of data. Call again with what is left until nothing is consumed or `done`;
    /// every byte is taken in the end, so nothing needs to be kept for the next call.
    ///
    /// # Errors
    /// The first broken rule of the chunked coding; the message cannot be read on.
    pub fn step(&mut self, input: &[u8]) -> Result<Step, BodyError> {
        let _ = input;
        todo!()
    }

    /// The sender closed its side: the end of an until-close body.
    ///
    /// # Errors
    /// [`BodyError::Truncated`] where the body was not complete.
    pub fn end(&mut self) -> Result<(), BodyError> {
        todo!()
    }

    /// Nothing more belongs to this body.
    pub fn is_done(&self) -> bool {
        todo!()
    }

    /// Only the end of the connection ends this body.
    pub fn needs_eof(&self) -> bool {
        self.framing == Framing::UntilClose
    }

    /// Trailer lines to pass on, each with its CRLF; complete once the body is done, mostly empty.
    pub fn trailers(&self) -> &[u8] {
        todo!()
    }

    /// What ends this body where it goes out chunked: last chunk, trailers, empty line.
    pub fn last_chunk(&self) -> [&[u8]; 3] {
        [b"0\r\n", self.trailers(), b"\r\n"]
    }
}

/// Writes the line before `len` bytes of chunk data; the data and a CRLF follow it. `len` is never 0: that would be
/// the last chunk.
pub fn chunk_head(len: usize, out: &mut [u8; 20]) -> &[u8] {
    let _ = (len, out);
    todo!()
}
