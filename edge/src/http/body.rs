//! Where a message body ends (RFC 9112 §6), and the chunked coding (§7.1) in both directions.
//!
//! Chunks are read and re-framed, never passed through: chunk extensions end here, and only [`TRAILERS_PASSED`] of the
//! trailer section are forwarded. Blanks after a chunk size are refused in a request and skipped in a response.

use std::ops::Range;

use crate::http::field::same_name;
use crate::http::scan::{is_text_byte, is_token_byte};

/// Trailer fields that pass (RFC 9110 §6.5.1: a field may be in the trailer section only if its definition says so).
/// Digests of a streamed body are known only after it (RFC 9530 §2, §3), and so are its timings (Server Timing §2).
/// Everything else is dropped: a trailer that a recipient merges into the head must not frame or authorise.
pub const TRAILERS_PASSED: [&str; 3] = ["content-digest", "repr-digest", "server-timing"];

/// Bytes of passed trailer lines that are held until the body ends; a line that does not fit is dropped. A SHA-512
/// Content-Digest has 118.
pub const TRAILERS_KEPT_BYTES_MAX: usize = 192;

/// Bytes of a trailer section, dropped lines included.
pub const TRAILER_BYTES_MAX: u16 = 4096;

/// Lines of a trailer section.
pub const TRAILER_FIELDS_MAX: u16 = 32;

/// Bytes of chunk extensions in one body. White space before them, which RFC 9112 §7.1.1 calls bad, is refused.
/// Extensions are not used in practice, and each costs the receiver more than the sender.
pub const EXTENSION_BYTES_MAX: u16 = 1024;

/// Digits of a chunk size, as many as 2^64 needs; leading zeros count.
pub const CHUNK_SIZE_DIGITS_MAX: u8 = 16;

/// A chunk is below 4 PiB: far above any real one, and below the overflow of other parsers.
const CHUNK_SIZE_BITS_MAX: u32 = 52;

/// The end of a chunked body without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

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

/// Reads one body, however its bytes are cut.
#[derive(Clone, Debug)]
pub struct BodyReader {
    part: Part,
    /// Remaining data bytes of a body or chunk; the chunk's size while it is read.
    left: u64,
    size_digits: u8,
    extension_bytes: u16,
    trailer_bytes: u16,
    trailer_fields: u16,
    /// Where in `kept` the current trailer line began.
    line_start: u8,
    of_response: bool,
    repaired: bool,
    kept: heapless::Vec<u8, TRAILERS_KEPT_BYTES_MAX, u8>,
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Data of a Content-Length body.
    Data,
    UntilClose,
    Size,
    /// Blanks after the size.
    SizeBlank,
    /// After `;`: a name begins.
    Extension,
    ExtensionName,
    /// After `=`.
    ExtensionValue,
    ExtensionToken,
    ExtensionQuoted,
    /// After a closing quote.
    ExtensionEnd,
    SizeLf,
    ChunkData,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue {
        passes: bool,
    },
    TrailerLf,
    LastLf,
    Done,
}

/// What one call of [`BodyReader::step`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Consumed bytes of the input.
    pub consumed: usize,
    /// Body data, as a range of the input within the consumed bytes; often empty.
    pub data: Range<usize>,
    /// The body is complete; what follows belongs to the next message.
    pub done: bool,
}

/// A broken rule of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// RFC 9112 §8.
    #[error("the connection ended inside the body")]
    Truncated,
    /// RFC 9112 §7.1.
    #[error(
        "expected a chunk size of 1 to {CHUNK_SIZE_DIGITS_MAX} hexadecimal digits, below 2^52, found byte 0x{byte:02x}"
    )]
    ChunkSize {
        /// The byte that is not a digit, or one too many.
        byte: u8,
    },
    /// RFC 9112 §7.1.
    #[error("expected CR LF, found byte 0x{byte:02x}")]
    LineEnd {
        /// The other byte.
        byte: u8,
    },
    /// RFC 9112 §7.1.1.
    #[error("byte 0x{byte:02x} may not be in a chunk extension")]
    ExtensionByte {
        /// The byte.
        byte: u8,
    },
    /// More than [`EXTENSION_BYTES_MAX`].
    #[error("more than {EXTENSION_BYTES_MAX} bytes of chunk extensions and of blanks behind chunk sizes")]
    ExtensionsTooLong,
    /// RFC 9112 §7.1.2.
    #[error("byte 0x{byte:02x} may not stand here in a trailer field")]
    TrailerByte {
        /// The byte.
        byte: u8,
    },
    /// RFC 9110 §6.5.1.
    #[error("a trailer field named Content-Length or Transfer-Encoding")]
    TrailerFrames,
    /// More than [`TRAILER_BYTES_MAX`] or [`TRAILER_FIELDS_MAX`].
    #[error("more than {TRAILER_BYTES_MAX} bytes or {TRAILER_FIELDS_MAX} fields of trailers")]
    TrailersTooLong,
}

impl BodyReader {
    /// A reader at the first byte of a response's body. White space between a chunk's size and its line end, or the `;` of
    /// its extensions, has one reading (RFC 9112 §7.1.1), and old servers pad sizes with it.
    pub fn of_response(framing: Framing) -> Self {
        Self { of_response: true, ..Self::new(framing) }
    }

    /// A reader at the first byte of a body.
    pub fn new(framing: Framing) -> Self {
        let (part, left) = match framing {
            Framing::None | Framing::Length(0) => (Part::Done, 0),
            Framing::Length(bytes) => (Part::Data, bytes),
            Framing::Chunked => (Part::Size, 0),
            Framing::UntilClose => (Part::UntilClose, 0),
        };
        Self {
            part,
            left,
            size_digits: 0,
            extension_bytes: 0,
            trailer_bytes: 0,
            trailer_fields: 0,
            line_start: 0,
            of_response: false,
            repaired: false,
            kept: heapless::Vec::new(),
        }
    }

    /// Consumes bytes of `input` up to the end of the first run of data. Call again with the rest until nothing is
    /// consumed or `done`; every byte of the body is consumed in the end, so nothing needs to be kept.
    ///
    /// # Errors
    /// The first broken rule of the chunked coding; the message cannot be read further.
    pub fn step(&mut self, input: &[u8]) -> Result<Step, BodyError> {
        let mut at = 0;
        while let Some(&byte) = input.get(at) {
            match self.part {
                Part::Done => break,
                Part::Data | Part::ChunkData | Part::UntilClose => {
                    let data = at..at + self.take_data(input.len() - at);
                    return Ok(Step { consumed: data.end, data, done: self.is_done() });
                }
                _ => self.part = self.turn(byte)?,
            }
            at += 1;
        }
        Ok(Step { consumed: at, data: at..at, done: self.is_done() })
    }

    /// The sender closed its side, which ends an until-close body.
    ///
    /// # Errors
    /// [`BodyError::Truncated`] if the body was not complete.
    pub fn end(&mut self) -> Result<(), BodyError> {
        match self.part {
            Part::Done | Part::UntilClose => self.part = Part::Done,
            _ => return Err(BodyError::Truncated),
        }
        Ok(())
    }

    /// The body is complete.
    pub fn is_done(&self) -> bool {
        self.part == Part::Done
    }

    /// Something was read over: the sender is no good for another message on this connection.
    pub fn repaired(&self) -> bool {
        self.repaired
    }

    /// Only the end of the connection ends this body.
    pub fn needs_eof(&self) -> bool {
        self.part == Part::UntilClose
    }

    /// Trailer lines to forward, each with its CRLF; complete once the body is done, usually empty.
    pub fn trailers(&self) -> &[u8] {
        if self.is_done() { &self.kept } else { &[] }
    }

    /// The end of this body if it is sent chunked: last chunk, trailers, empty line.
    pub fn last_chunk(&self) -> [&[u8]; 3] {
        [b"0\r\n", self.trailers(), b"\r\n"]
    }

    /// How many of `available` bytes are data of this run.
    fn take_data(&mut self, available: usize) -> usize {
        if self.part == Part::UntilClose {
            return available;
        }
        let taken = usize::try_from(self.left).unwrap_or(usize::MAX).min(available);
        self.left -= taken as u64;
        if self.left == 0 {
            self.part = if self.part == Part::Data { Part::Done } else { Part::DataCr };
        }
        taken
    }

    /// The part after `byte`, which is not data.
    fn turn(&mut self, byte: u8) -> Result<Part, BodyError> {
        match (self.part, byte) {
            (Part::Size, b'\r') if self.size_digits > 0 => Ok(Part::SizeLf),
            (Part::Size, b';') if self.size_digits > 0 => self.extend(Part::Extension),
            (Part::Size, b' ' | b'\t') if self.size_digits > 0 && self.of_response => {
                self.repaired = true;
                self.extend(Part::SizeBlank)
            }
            (Part::SizeBlank, b'\r') => Ok(Part::SizeLf),
            (Part::SizeBlank, b';') => self.extend(Part::Extension),
            (Part::SizeBlank, b' ' | b'\t') => self.extend(Part::SizeBlank),
            (Part::SizeBlank, _) => Err(BodyError::ChunkSize { byte }),
            (Part::Size, _) => self.take_digit(byte),
            (Part::SizeLf, b'\n') if self.left == 0 => Ok(Part::TrailerStart),
            (Part::SizeLf, b'\n') => Ok(Part::ChunkData),
            (Part::DataCr, b'\r') => Ok(Part::DataLf),
            (Part::DataLf, b'\n') => {
                self.size_digits = 0;
                Ok(Part::Size)
            }
            (Part::LastLf, b'\n') => Ok(Part::Done),
            (Part::SizeLf | Part::DataCr | Part::DataLf | Part::LastLf, _) => {
                Err(BodyError::LineEnd { byte })
            }
            (
                Part::Extension
                | Part::ExtensionName
                | Part::ExtensionValue
                | Part::ExtensionToken
                | Part::ExtensionQuoted
                | Part::ExtensionEnd,
                _,
            ) => self.turn_extension(byte),
            _ => self.turn_trailer(byte),
        }
    }

    /// `;name`, `;name=token` or `;name="text"` and nothing around it: parsers differ about the rest (RFC 9112 §7.1.1
    /// also has bad white space and escaped quotes), which can hide a chunk from one of them.
    fn turn_extension(&mut self, byte: u8) -> Result<Part, BodyError> {
        let next = match (self.part, byte) {
            (Part::Extension | Part::ExtensionName, _) if is_token_byte(byte) => Part::ExtensionName,
            (Part::ExtensionName, b'=') => Part::ExtensionValue,
            (Part::ExtensionValue, b'"') => Part::ExtensionQuoted,
            (Part::ExtensionValue | Part::ExtensionToken, _) if is_token_byte(byte) => Part::ExtensionToken,
            (Part::ExtensionQuoted, b'"') => Part::ExtensionEnd,
            (Part::ExtensionQuoted, _) if is_text_byte(byte) && byte != b'\\' => Part::ExtensionQuoted,
            (Part::ExtensionName | Part::ExtensionToken | Part::ExtensionEnd, b';') => Part::Extension,
            (Part::ExtensionName | Part::ExtensionToken | Part::ExtensionEnd, b'\r') => {
                return Ok(Part::SizeLf);
            }
            _ => return Err(BodyError::ExtensionByte { byte }),
        };
        self.extend(next)
    }

    fn take_digit(&mut self, byte: u8) -> Result<Part, BodyError> {
        let digit = char::from(byte).to_digit(16).ok_or(BodyError::ChunkSize { byte })?;
        if self.size_digits == CHUNK_SIZE_DIGITS_MAX
            || self.left >> CHUNK_SIZE_BITS_MAX.saturating_sub(4) != 0
        {
            return Err(BodyError::ChunkSize { byte });
        }
        self.size_digits += 1;
        self.left = self.left << 4 | u64::from(digit);
        Ok(Part::Size)
    }

    fn extend(&mut self, next: Part) -> Result<Part, BodyError> {
        self.extension_bytes = self.extension_bytes.saturating_add(1);
        if self.extension_bytes > EXTENSION_BYTES_MAX { Err(BodyError::ExtensionsTooLong) } else { Ok(next) }
    }

    /// Reads the trailer section (RFC 9112 §7.1.2) and keeps the current line in `kept` as long as it may pass.
    fn turn_trailer(&mut self, byte: u8) -> Result<Part, BodyError> {
        self.trailer_bytes = self.trailer_bytes.saturating_add(1);
        if self.trailer_bytes > TRAILER_BYTES_MAX {
            return Err(BodyError::TrailersTooLong);
        }
        match (self.part, byte) {
            (Part::TrailerStart, b'\r') => return Ok(Part::LastLf),
            (Part::TrailerStart, _) if is_token_byte(byte) => self.begin_trailer()?,
            (Part::TrailerName, b':') => {
                let passes = self.line_may_pass()? && self.keep(byte);
                return Ok(Part::TrailerValue { passes });
            }
            (Part::TrailerName, _) if is_token_byte(byte) => {}
            (Part::TrailerValue { .. }, b'\r') => return Ok(self.end_trailer()),
            (Part::TrailerValue { passes }, _) if is_text_byte(byte) => {
                return Ok(Part::TrailerValue { passes: passes && self.keep(byte) });
            }
            (Part::TrailerLf, b'\n') => return Ok(Part::TrailerStart),
            (Part::TrailerLf, _) => return Err(BodyError::LineEnd { byte }),
            _ => return Err(BodyError::TrailerByte { byte }),
        }
        self.keep(byte);
        Ok(Part::TrailerName)
    }

    fn begin_trailer(&mut self) -> Result<(), BodyError> {
        self.trailer_fields = self.trailer_fields.saturating_add(1);
        self.line_start = self.kept.len() as u8; // lossless: TRAILERS_KEPT_BYTES_MAX < 256
        if self.trailer_fields > TRAILER_FIELDS_MAX { Err(BodyError::TrailersTooLong) } else { Ok(()) }
    }

    /// A name that was cut is longer than any that passes.
    fn line_may_pass(&mut self) -> Result<bool, BodyError> {
        let name = self.kept.get(usize::from(self.line_start)..).unwrap_or_default();
        let is = |known: &str| same_name(name, known);
        if is("content-length") || is("transfer-encoding") {
            return Err(BodyError::TrailerFrames);
        }
        let passes = TRAILERS_PASSED.iter().any(|passed| name.eq_ignore_ascii_case(passed.as_bytes()));
        if !passes {
            self.kept.truncate(usize::from(self.line_start));
        }
        Ok(passes)
    }

    /// Adds a byte to the current line, or drops the line if it does not fit.
    fn keep(&mut self, byte: u8) -> bool {
        let fits = self.kept.push(byte).is_ok();
        if !fits {
            self.kept.truncate(usize::from(self.line_start));
        }
        fits
    }

    fn end_trailer(&mut self) -> Part {
        if self.part == (Part::TrailerValue { passes: true }) {
            let _ = self.keep(b'\r') && self.keep(b'\n');
        }
        Part::TrailerLf
    }
}

/// Writes the line before `len` bytes of chunk data; the data and a CRLF follow. `len` is never 0, which would be the
/// last chunk.
pub fn chunk_head(len: usize, out: &mut [u8; 20]) -> &[u8] {
    debug_assert!(len > 0, "an empty chunk is the last one");
    let digits = (usize::BITS - len.leading_zeros()).div_ceil(4).max(1);
    let nibbles = (0..digits).rev().map(|place| (len >> (4 * place)) & 0xf);
    let hex = nibbles.filter_map(|nibble| b"0123456789abcdef".get(nibble).copied());
    let mut written = 0;
    for (slot, byte) in out.iter_mut().zip(hex.chain(*b"\r\n")) {
        *slot = byte;
        written += 1;
    }
    out.get(..written).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::messages::{Whole, assert_reframes, fuzz_http_body, read_in_pieces};
    use proptest::prelude::*;

    fn read(framing: Framing, input: &[u8]) -> Result<Whole, BodyError> {
        let whole = read_in_pieces(framing, input, input.len().max(1));
        assert_eq!(whole, read_in_pieces(framing, input, 1), "{input:?} byte by byte");
        whole
    }

    fn chunked(input: &str) -> Result<Whole, BodyError> {
        read(Framing::Chunked, input.as_bytes())
    }

    #[test]
    fn a_length_ends_after_its_bytes() {
        let whole = read(Framing::Length(5), b"helloGET /").unwrap();
        assert_eq!((whole.data.as_slice(), whole.consumed, whole.done), (b"hello".as_slice(), 5, true));
        let part = read(Framing::Length(5), b"hell").unwrap();
        assert_eq!((part.data.as_slice(), part.done), (b"hell".as_slice(), false));
        for framing in [Framing::None, Framing::Length(0)] {
            assert!(BodyReader::new(framing).is_done());
            let step = BodyReader::new(framing).step(b"GET /").unwrap();
            assert_eq!(step, Step { consumed: 0, data: 0..0, done: true });
        }
    }

    #[test]
    fn only_an_until_close_body_may_end_with_the_connection() {
        let mut until_close = BodyReader::new(Framing::UntilClose);
        assert_eq!(until_close.step(b"abc").unwrap(), Step { consumed: 3, data: 0..3, done: false });
        assert!(until_close.needs_eof());
        assert_eq!(until_close.end(), Ok(()));
        assert!(until_close.is_done() && !until_close.needs_eof());
        assert_eq!(BodyReader::new(Framing::None).end(), Ok(()));
        assert_eq!(BodyReader::new(Framing::Length(1)).end(), Err(BodyError::Truncated));
        let mut cut = BodyReader::new(Framing::Chunked);
        cut.step(b"0\r\n").unwrap();
        assert_eq!(cut.end(), Err(BodyError::Truncated), "the empty line is missing");
    }

    #[test]
    fn chunks_are_taken_out_of_their_frame() {
        let whole = chunked(
            "5\r\nhello\r\n0001\r\n \r\nA;x=\"y z\";q\r\n0123456789\r\n6;e=t\r\nworld!\r\n000\r\n\r\nGET",
        )
        .unwrap();
        assert_eq!(whole.data, b"hello 0123456789world!");
        assert!(whole.done);
        assert_eq!(whole.trailers, b"");
    }

    #[test]
    fn every_prefix_of_a_chunked_body_is_partial() {
        let body = b"5;a=b\r\nhello\r\n0\r\nServer-Timing: a\r\nX: y\r\n\r\n";
        for n in 0..body.len() {
            assert!(!read(Framing::Chunked, &body[..n]).unwrap().done, "cut at {n}");
        }
        assert!(read(Framing::Chunked, body).unwrap().done);
    }

    #[test]
    fn blanks_behind_a_chunks_size_are_read_over_in_a_response_alone() {
        let read = |body: &str, mut reader: BodyReader| {
            let step = reader.step(body.as_bytes())?;
            Ok::<_, BodyError>((body[step.data].to_owned(), reader.repaired()))
        };
        for (body, repaired) in [
            ("2\r\nok", false),
            ("2 \r\nok", true),
            ("2\t \t\r\nok", true),
            ("0002      \r\nok", true),
            ("2 ;a=b\r\nok", true),
        ] {
            let lenient = read(body, BodyReader::of_response(Framing::Chunked));
            assert_eq!(lenient, Ok(("ok".to_owned(), repaired)), "{body:?}");
            assert_eq!(read(body, BodyReader::new(Framing::Chunked)).is_err(), repaired, "{body:?}");
        }
        let mut last = BodyReader::of_response(Framing::Chunked);
        assert!(last.step(b"0  \r\n\r\n").unwrap().done && last.repaired());
        for body in
            [" 2\r\n", "2 2\r\n", "2 \n", "2 \rx", "2 ; a\r\n", "2;a \r\n", " \r\n", "2 x\r\n", "2\u{b}\r\n"]
        {
            assert!(read(body, BodyReader::of_response(Framing::Chunked)).is_err(), "{body:?}");
        }
        let blanks = |count: usize| format!("2{}\r\nok", " ".repeat(count));
        let most = usize::from(EXTENSION_BYTES_MAX);
        assert!(read(&blanks(most), BodyReader::of_response(Framing::Chunked)).is_ok());
        let more = read(&blanks(most + 1), BodyReader::of_response(Framing::Chunked));
        assert_eq!(more, Err(BodyError::ExtensionsTooLong));
    }

    #[test]
    fn a_chunk_that_can_be_read_in_two_ways_is_refused() {
        use BodyError::*;
        for (body, expected) in [
            ("5\nhello\r\n", ChunkSize { byte: b'\n' }),
            ("5\rhello\r\n", LineEnd { byte: b'h' }),
            ("5\r\nhello\n0\r\n", LineEnd { byte: b'\n' }),
            ("5\r\nhello\r0\r\n", LineEnd { byte: b'0' }),
            ("5\r\nhello0\r\n", LineEnd { byte: b'0' }),
            ("5\r\nhello!\r\n", LineEnd { byte: b'!' }),
            ("-5\r\nhello\r\n", ChunkSize { byte: b'-' }),
            ("+5\r\nhello\r\n", ChunkSize { byte: b'+' }),
            ("0x5\r\nhello\r\n", ChunkSize { byte: b'x' }),
            (" 5\r\nhello\r\n", ChunkSize { byte: b' ' }),
            ("\r\n", ChunkSize { byte: b'\r' }),
            (";x\r\n", ChunkSize { byte: b';' }),
            ("5_0\r\n", ChunkSize { byte: b'_' }),
            ("g\r\n", ChunkSize { byte: b'g' }),
            ("5 \r\nhello\r\n", ChunkSize { byte: b' ' }),
            ("5 5\r\nhello\r\n", ChunkSize { byte: b' ' }),
            ("5 ;a\r\nhello\r\n", ChunkSize { byte: b' ' }),
            ("5; a\r\nhello\r\n", ExtensionByte { byte: b' ' }),
            ("5;\r\nhello\r\n", ExtensionByte { byte: b'\r' }),
            ("5;a=\r\nhello\r\n", ExtensionByte { byte: b'\r' }),
            ("5;a=\"b\r\nhello\r\n", ExtensionByte { byte: b'\r' }),
            ("5;a=\"b\\\"\"\r\nhello\r\n", ExtensionByte { byte: b'\\' }),
            ("5;a=\"b\"c\r\nhello\r\n", ExtensionByte { byte: b'c' }),
            ("5;a\nhello\r\n", ExtensionByte { byte: b'\n' }),
            ("5;a\0\r\nhello\r\n", ExtensionByte { byte: 0 }),
            ("5;a\rb\r\nhello\r\n", LineEnd { byte: b'b' }),
            ("0\r\n\n", TrailerByte { byte: b'\n' }),
            ("0\r\n\rX", LineEnd { byte: b'X' }),
            ("0\r\n a: b\r\n\r\n", TrailerByte { byte: b' ' }),
            ("0\r\na: b\r\n c\r\n\r\n", TrailerByte { byte: b' ' }),
            ("0\r\na : b\r\n\r\n", TrailerByte { byte: b' ' }),
            ("0\r\ncontent-length: 5\r\n\r\n", TrailerFrames),
            ("0\r\nTransfer_Encoding: x\r\n\r\n", TrailerFrames),
            ("0\r\n: b\r\n\r\n", TrailerByte { byte: b':' }),
            ("0\r\na\r\n\r\n", TrailerByte { byte: b'\r' }),
            ("0\r\na: b\n\r\n", TrailerByte { byte: b'\n' }),
            ("0\r\na: \0\r\n\r\n", TrailerByte { byte: 0 }),
            ("0\r\na: b\rc\r\n\r\n", LineEnd { byte: b'c' }),
        ] {
            assert_eq!(chunked(body), Err(expected), "{body:?}");
        }
    }

    #[test]
    fn a_chunk_size_is_52_bits_wide() {
        let mut largest = BodyReader::new(Framing::Chunked);
        largest.step(b"FFFFFFFFFFFFF\r\n").unwrap();
        assert_eq!(largest.left, (1 << 52) - 1);
        assert_eq!(chunked("10000000000000\r\n"), Err(BodyError::ChunkSize { byte: b'0' }));
        assert_eq!(chunked("00000000000000001\r\n"), Err(BodyError::ChunkSize { byte: b'1' }));
        assert_eq!(chunked("10000000000000000\r\n"), Err(BodyError::ChunkSize { byte: b'0' }));
        assert_eq!(chunked("0000000000000001\r\na\r\n0\r\n\r\n").unwrap().data, b"a");
    }

    #[test]
    fn extensions_are_bounded_over_the_whole_body() {
        let half = |n: usize| format!("1;{}\r\na\r\n", "x".repeat(n - 1));
        let most = usize::from(EXTENSION_BYTES_MAX);
        assert!(chunked(&(half(most / 2) + &half(most - most / 2))).is_ok());
        assert_eq!(
            chunked(&(half(most / 2) + &half(most - most / 2 + 1))),
            Err(BodyError::ExtensionsTooLong)
        );
    }

    #[test]
    fn trailers_are_bounded() {
        let bytes = |n: usize| format!("0\r\nX: {}\r\n\r\n", "y".repeat(n - "X: \r\n\r".len()));
        assert!(chunked(&bytes(usize::from(TRAILER_BYTES_MAX))).unwrap().done);
        assert_eq!(chunked(&bytes(usize::from(TRAILER_BYTES_MAX) + 1)), Err(BodyError::TrailersTooLong));
        let lines = |n: u16| format!("0\r\n{}\r\n", "X: y\r\n".repeat(usize::from(n)));
        assert!(chunked(&lines(TRAILER_FIELDS_MAX)).unwrap().done);
        assert_eq!(chunked(&lines(TRAILER_FIELDS_MAX + 1)), Err(BodyError::TrailersTooLong));
    }

    #[test]
    fn only_listed_trailers_pass() {
        let body = "0\r\nContent-Length2: 5\r\nContent-Digest: sha-256=:x:\r\nContent-Digest2: no\r\nHost: evil\r\n\
            SERVER-TIMING:a;dur=1\r\nContent_Digest: no\r\nRepr-Diges: no\r\n\r\n";
        let whole = chunked(body).unwrap();
        assert_eq!(
            String::from_utf8(whole.trailers).unwrap(),
            "Content-Digest: sha-256=:x:\r\nSERVER-TIMING:a;dur=1\r\n"
        );
        let mut reader = BodyReader::new(Framing::Chunked);
        reader.step(b"0\r\nServer-Timing: a\r\n").unwrap();
        assert_eq!(reader.trailers(), b"", "not before the section is complete");
        reader.step(b"\r\n").unwrap();
        assert_eq!(reader.last_chunk().concat(), b"0\r\nServer-Timing: a\r\n\r\n");
    }

    #[test]
    fn a_trailer_that_does_not_fit_is_dropped_whole() {
        let line = |n: usize| format!("Server-Timing: {}\r\n", "x".repeat(n - "Server-Timing: \r\n".len()));
        let kept =
            |lines: &[String]| chunked(&format!("0\r\n{}\r\n", lines.concat())).unwrap().trailers.len();
        assert_eq!(kept(&[line(TRAILERS_KEPT_BYTES_MAX)]), TRAILERS_KEPT_BYTES_MAX);
        for n in TRAILERS_KEPT_BYTES_MAX + 1..TRAILERS_KEPT_BYTES_MAX + 4 {
            assert_eq!(kept(&[line(n), line(100)]), 100, "and what fits after it passes");
        }
        assert_eq!(kept(&[line(150), line(150), line(40)]), 190);
        let long_name = format!("{}: y\r\n", "X".repeat(300));
        assert_eq!(kept(&[line(100), long_name, line(50)]), 150);
    }

    #[test]
    fn a_chunk_head_is_hexadecimal() {
        for len in [1, 9, 10, 15, 16, 255, 256, 4096, usize::MAX >> 1, usize::MAX] {
            let expected = format!("{len:x}\r\n");
            assert_eq!(chunk_head(len, &mut [0; 20]), expected.as_bytes());
        }
    }

    #[test]
    fn a_body_reader_is_small() {
        // two of them live in a session's future
        assert!(size_of::<BodyReader>() <= 224, "{}", size_of::<BodyReader>());
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_body(
            chunks in prop::collection::vec((prop::collection::vec(any::<u8>(), 1..40), "(;[a-z]{1,4}(=[a-z0-9.!+-]{1,4}|=\"[ -!#-\\[]{0,8}\")?)?"), 0..6),
            piece_bytes in 1..20_usize,
        ) {
            let mut sent = Vec::new();
            let mut data = Vec::new();
            for (chunk, extension) in &chunks {
                sent.extend_from_slice(format!("{:X}{extension}\r\n", chunk.len()).as_bytes());
                sent.extend_from_slice(chunk);
                sent.extend_from_slice(b"\r\n");
                data.extend_from_slice(chunk);
            }
            sent.extend_from_slice(LAST_CHUNK);
            let consumed = sent.len();
            sent.extend_from_slice(b"GET / HTTP/1.1\r\n");
            let whole = read_in_pieces(Framing::Chunked, &sent, piece_bytes).unwrap();
            prop_assert_eq!(&whole, &Whole { data, trailers: Vec::new(), consumed, done: true });
            assert_reframes(&whole);
        }

        #[test]
        fn the_fuzz_entry_holds(data in prop::collection::vec(any::<u8>(), 0..200)) {
            fuzz_http_body(&data);
        }
    }
}
