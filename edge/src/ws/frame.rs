//! One frame's header (RFC 6455 §5.2), the rules for frames as errors, and the control frames that the edge sends.
//!
//! What a header means after other frames is decided by [`super::tracker`]. Payload is not read.

use std::fmt;
use std::fmt::Write as _;

/// Bytes of the longest header: two, a 64-bit length, a masking key.
pub const HEADER_BYTES_MAX: usize = 14;

/// Payload bytes of the longest control frame (RFC 6455 §5.5).
pub const CONTROL_BYTES_MAX: usize = 125;

/// Bytes of a Close's reason: a control frame's payload without the code.
pub const REASON_BYTES_MAX: usize = CONTROL_BYTES_MAX - 2;

/// Bytes of the longest control frame, header and masking key included.
pub const CONTROL_FRAME_BYTES_MAX: usize = 2 + 4 + CONTROL_BYTES_MAX;

/// A whole control frame of ours.
pub type ControlFrame = heapless::Vec<u8, CONTROL_FRAME_BYTES_MAX, u8>;

/// Payload of our Pings: long enough that an application's Pong does not match it by chance.
pub type PingPayload = [u8; 8];

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const RSV2_RSV3: u8 = 0x30;
const OPCODE: u8 = 0x0F;
const MASK: u8 = 0x80;
const LENGTH: u8 = 0x7F;
/// The length is in the next two bytes.
const LENGTH_16: u8 = 126;
/// The length is in the next eight bytes.
const LENGTH_64: u8 = 127;

/// What a frame is (RFC 6455 §11.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// More of the message that a text or binary frame began.
    Continuation = 0x0,
    /// The first frame of a text message.
    Text = 0x1,
    /// The first frame of a binary message.
    Binary = 0x2,
    /// The last frame of its direction.
    Close = 0x8,
    /// Requires a Pong with the same payload.
    Ping = 0x9,
    /// The reply to a Ping, or an unsolicited one.
    Pong = 0xA,
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The last frame of its message.
    pub fin: bool,
    /// RSV1: with permessage-deflate, the message is compressed (RFC 7692 §6).
    pub rsv1: bool,
    /// RSV2 (0x20) and RSV3 (0x10), as in the first byte. No registered extension uses them.
    pub rsv2_rsv3: u8,
    /// What the frame is.
    pub opcode: Opcode,
    /// The masking key, if the payload is masked.
    pub mask: Option<[u8; 4]>,
    /// Bytes of payload after the header; below 2^63.
    pub payload_bytes: u64,
    /// Bytes of the header itself, 2 to [`HEADER_BYTES_MAX`].
    pub header_bytes: usize,
}

/// What [`decode`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// A whole header.
    Header(Header),
    /// At least so many bytes are missing, 1 to 12; exactly so many if two bytes or more are there.
    Need(usize),
}

/// A broken rule of frames or of their sequence. `Display` is short enough for the reason of a Close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// RFC 6455 §5.2.
    #[error("opcode 0x{found:X} is reserved; expected 0 to 2 or 8 to A")]
    ReservedOpcode {
        /// The opcode.
        found: u8,
    },
    /// RFC 6455 §5.5.
    #[error("a {opcode:?} without FIN; control frames are not fragmented")]
    ControlFragmented {
        /// The control frame.
        opcode: Opcode,
    },
    /// RFC 6455 §5.5.
    #[error("a {opcode:?} with a {length_bits}-bit length; expected at most {CONTROL_BYTES_MAX} bytes")]
    ControlTooLong {
        /// The control frame.
        opcode: Opcode,
        /// Its form of length: 16 or 64.
        length_bits: u8,
    },
    /// RFC 6455 §5.2.
    #[error("length {found} in {length_bits} bits; expected the shortest form")]
    LengthNotMinimal {
        /// The length.
        found: u64,
        /// The form it was in: 16 or 64.
        length_bits: u8,
    },
    /// RFC 6455 §5.2.
    #[error("length 0x{found:x}; expected the most significant bit to be 0")]
    LengthTopBit {
        /// The length.
        found: u64,
    },
    /// RFC 6455 §5.1.
    #[error("a frame without a mask; expected masked frames from a client")]
    NotMasked,
    /// RFC 6455 §5.1.
    #[error("a masked frame; expected frames without a mask from a server")]
    Masked,
    /// RFC 6455 §5.2.
    #[error("reserved bits 0x{found:02x}; expected RSV2 and RSV3 to be 0")]
    ReservedBits {
        /// RSV2 (0x20) and RSV3 (0x10).
        found: u8,
    },
    /// RFC 6455 §5.2.
    #[error("RSV1 is set; expected 0, as permessage-deflate was not negotiated")]
    Rsv1NotNegotiated,
    /// RFC 7692 §6.1.
    #[error("RSV1 is set on a {opcode:?}; expected it on the first frame of a message only")]
    Rsv1Misplaced {
        /// The frame.
        opcode: Opcode,
    },
    /// RFC 6455 §5.4.
    #[error("a Continuation; expected a first frame, as no message is open")]
    NothingToContinue,
    /// RFC 6455 §5.4.
    #[error("a {opcode:?}; expected a Continuation, as a message is open")]
    MessageOpen {
        /// The frame.
        opcode: Opcode,
    },
    /// `frame_bytes_max`.
    #[error("a frame of {found} bytes; expected at most {max}")]
    FrameTooBig {
        /// Payload bytes of the frame.
        found: u64,
        /// The most allowed.
        max: u64,
    },
    /// `message_bytes_max`.
    #[error("a message of {found} bytes or more; expected at most {max}")]
    MessageTooBig {
        /// Payload bytes of its frames so far, this one included.
        found: u64,
        /// The most allowed.
        max: u64,
    },
    /// RFC 6455 §5.5.1.
    #[error("a Close of 1 byte; expected none, or a code of 2 bytes")]
    CloseCodeCut,
    /// RFC 6455 §7.4.
    #[error("close code {found}; expected 1000-1003, 1007-1014 or 3000-4999")]
    CloseCode {
        /// The code.
        found: u16,
    },
    /// RFC 6455 §5.5.1.
    #[error("the reason of a Close; expected UTF-8")]
    ReasonNotUtf8,
    /// RFC 6455 §8.1.
    #[error("a text message; expected UTF-8")]
    TextNotUtf8,
}

impl Violation {
    /// The code of the Close that answers it (RFC 6455 §7.4.1).
    pub fn close_code(&self) -> u16 {
        match self {
            Self::ReservedOpcode { .. }
            | Self::ControlFragmented { .. }
            | Self::ControlTooLong { .. }
            | Self::LengthNotMinimal { .. }
            | Self::LengthTopBit { .. }
            | Self::NotMasked
            | Self::Masked
            | Self::ReservedBits { .. }
            | Self::Rsv1NotNegotiated
            | Self::Rsv1Misplaced { .. }
            | Self::NothingToContinue
            | Self::MessageOpen { .. }
            | Self::CloseCodeCut
            | Self::CloseCode { .. } => 1002,
            Self::ReasonNotUtf8 | Self::TextNotUtf8 => 1007,
            Self::FrameTooBig { .. } | Self::MessageTooBig { .. } => 1009,
        }
    }
}

impl Opcode {
    fn new(bits: u8) -> Result<Self, Violation> {
        Ok(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xA => Self::Pong,
            found => return Err(Violation::ReservedOpcode { found }),
        })
    }

    /// Close, Ping or Pong (RFC 6455 §5.5).
    pub fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }
}

/// Reads the header at the start of `bytes`, and checks what one header shows by itself: the opcode, control frames,
/// the form of the length. Reserved bits, mask, order and size depend on the connection and are checked by the tracker.
///
/// # Errors
/// The first broken rule, as soon as the bytes show it; the same however many bytes follow.
#[inline]
pub fn decode(bytes: &[u8]) -> Result<Decoded, Violation> {
    let Some((&first, rest)) = bytes.split_first() else { return Ok(Decoded::Need(2)) };
    let (fin, opcode) = (first & FIN != 0, Opcode::new(first & OPCODE)?);
    if opcode.is_control() && !fin {
        return Err(Violation::ControlFragmented { opcode });
    }
    let Some((&second, rest)) = rest.split_first() else { return Ok(Decoded::Need(1)) };
    let length = LengthForm::new(second & LENGTH);
    if opcode.is_control() && length.bytes() > 0 {
        return Err(Violation::ControlTooLong { opcode, length_bits: length.bits() });
    }
    let masked = second & MASK != 0;
    let header_bytes = 2 + length.bytes() + if masked { 4 } else { 0 };
    let need = Ok(Decoded::Need(header_bytes.saturating_sub(bytes.len())));
    let Some((payload_bytes, rest)) = length.read(rest)? else { return need };
    let mask = rest.first_chunk().filter(|_| masked).copied();
    if masked && mask.is_none() {
        return need;
    }
    let (rsv1, rsv2_rsv3) = (first & RSV1 != 0, first & RSV2_RSV3);
    Ok(Decoded::Header(Header { fin, rsv1, rsv2_rsv3, opcode, mask, payload_bytes, header_bytes }))
}

/// The three forms of a payload length (RFC 6455 §5.2).
#[derive(Clone, Copy)]
enum LengthForm {
    Short(u8),
    Bits16,
    Bits64,
}

impl LengthForm {
    fn new(code: u8) -> Self {
        match code {
            LENGTH_16 => Self::Bits16,
            LENGTH_64 => Self::Bits64,
            code => Self::Short(code),
        }
    }

    /// Bytes behind the second one.
    fn bytes(self) -> usize {
        match self {
            Self::Short(_) => 0,
            Self::Bits16 => 2,
            Self::Bits64 => 8,
        }
    }

    fn bits(self) -> u8 {
        match self {
            Self::Short(_) => 7,
            Self::Bits16 => 16,
            Self::Bits64 => 64,
        }
    }

    /// The length and the bytes after it. `None`: more bytes are needed.
    fn read(self, bytes: &[u8]) -> Result<Option<(u64, &[u8])>, Violation> {
        let (length, shortest, rest) = match self {
            Self::Short(length) => return Ok(Some((length.into(), bytes))),
            Self::Bits16 => match bytes.split_first_chunk() {
                Some((length, rest)) => (u16::from_be_bytes(*length).into(), u64::from(LENGTH_16), rest),
                None => return Ok(None),
            },
            Self::Bits64 => match bytes.split_first_chunk() {
                Some((length, rest)) => (u64::from_be_bytes(*length), 1 << 16, rest),
                None => return Ok(None),
            },
        };
        match length {
            found if found < shortest => Err(Violation::LengthNotMinimal { found, length_bits: self.bits() }),
            found if found >> 63 != 0 => Err(Violation::LengthTopBit { found }),
            length => Ok(Some((length, rest))),
        }
    }
}

/// Whether a Close may carry `code` (RFC 6455 §7.4, and what IANA has registered since). 1004 to 1006 and 1015 are
/// never sent; 1016 to 2999 have no meaning yet.
pub fn is_close_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// A Close with `code` and as much of `reason` as fits, cut between characters. To an upstream it needs a `mask`, new
/// and unpredictable for each frame (RFC 6455 §5.3); to a client none is allowed.
pub fn close_frame(code: u16, reason: impl fmt::Display, mask: Option<[u8; 4]>) -> ControlFrame {
    debug_assert!(is_close_code(code), "{code} is not for sending");
    let mut text = Cut(heapless::String::new());
    // It fails only when it is full, and then holds what fits.
    let _ = write!(text, "{reason}");
    let [high, low] = code.to_be_bytes();
    let mut payload: heapless::Vec<u8, CONTROL_BYTES_MAX, u8> = heapless::Vec::new();
    payload.extend([high, low].into_iter().chain(text.0.bytes()));
    control_frame(Opcode::Close, &payload, mask)
}

/// A Ping; `mask` as for [`close_frame`].
pub fn ping_frame(payload: PingPayload, mask: Option<[u8; 4]>) -> ControlFrame {
    control_frame(Opcode::Ping, &payload, mask)
}

/// `payload` is at most [`CONTROL_BYTES_MAX`] long.
fn control_frame(opcode: Opcode, payload: &[u8], mask: Option<[u8; 4]>) -> ControlFrame {
    debug_assert!(payload.len() <= CONTROL_BYTES_MAX);
    let length = u8::try_from(payload.len()).unwrap_or(LENGTH) & LENGTH;
    let mut frame = ControlFrame::new();
    frame.extend([FIN | opcode as u8, length | if mask.is_some() { MASK } else { 0 }]);
    frame.extend(mask.into_iter().flatten());
    let key = mask.unwrap_or_default();
    frame.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// Accepts whole characters as long as they fit.
struct Cut(heapless::String<REASON_BYTES_MAX, u8>);

impl fmt::Write for Cut {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|character| self.0.push(character).map_err(|_| fmt::Error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Violation::*;

    const KEY: [u8; 4] = [1, 2, 3, 4];

    fn header(bytes: &[u8]) -> Header {
        match decode(bytes) {
            Ok(Decoded::Header(header)) => header,
            other => panic!("{bytes:x?}: {other:?}"),
        }
    }

    #[test]
    fn the_examples_of_the_rfc_are_read() {
        // §5.7
        let hello = Header {
            fin: true,
            rsv1: false,
            rsv2_rsv3: 0,
            opcode: Opcode::Text,
            mask: None,
            payload_bytes: 5,
            header_bytes: 2,
        };
        assert_eq!(header(&[0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]), hello);
        let key = Some([0x37, 0xfa, 0x21, 0x3d]);
        let masked = header(&[0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
        assert_eq!(masked, Header { mask: key, header_bytes: 6, ..hello });
        assert_eq!(header(&[0x01, 0x03]), Header { fin: false, payload_bytes: 3, ..hello });
        let more = Header { opcode: Opcode::Continuation, payload_bytes: 2, ..hello };
        assert_eq!(header(&[0x80, 0x02]), more);
        assert_eq!(header(&[0x89, 0x05]), Header { opcode: Opcode::Ping, ..hello });
        assert_eq!(header(&[0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d]), Header { opcode: Opcode::Pong, ..masked });
        let binary = Header { opcode: Opcode::Binary, payload_bytes: 256, header_bytes: 4, ..hello };
        assert_eq!(header(&[0x82, 0x7e, 0x01, 0x00]), binary);
        let large = Header { payload_bytes: 65_536, header_bytes: 10, ..binary };
        assert_eq!(header(&[0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0]), large);
    }

    #[test]
    fn every_prefix_says_how_much_it_needs() {
        let longest = [0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4];
        assert_eq!(longest.len(), HEADER_BYTES_MAX);
        for n in 2..longest.len() {
            assert_eq!(decode(&longest[..n]), Ok(Decoded::Need(longest.len() - n)));
        }
        assert_eq!(decode(&[]), Ok(Decoded::Need(2)));
        assert_eq!(decode(&[0x81]), Ok(Decoded::Need(1)));
        assert_eq!(decode(&[0x81, 0x80]), Ok(Decoded::Need(4)));
        assert_eq!(decode(&[0x81, 0x7e, 0x01]), Ok(Decoded::Need(1)));
        assert_eq!(header(&longest).mask, Some([1, 2, 3, 4]));
    }

    #[test]
    fn reserved_opcodes_are_refused_at_the_first_byte() {
        let mut seen = 0;
        for opcode in (0x3..=0x7).chain(0xB..=0xF) {
            assert_eq!(decode(&[0x80 | opcode]), Err(ReservedOpcode { found: opcode }));
            seen += 1;
        }
        assert_eq!(seen, 10);
    }

    #[test]
    fn control_frames_are_whole_and_short() {
        for (bits, opcode) in [(0x8, Opcode::Close), (0x9, Opcode::Ping), (0xA, Opcode::Pong)] {
            assert_eq!(header(&[0x80 | bits, 125]).payload_bytes, 125);
            assert_eq!(decode(&[0x80 | bits, 126]), Err(ControlTooLong { opcode, length_bits: 16 }));
            assert_eq!(decode(&[0x80 | bits, 0xff]), Err(ControlTooLong { opcode, length_bits: 64 }));
            assert_eq!(decode(&[bits]), Err(ControlFragmented { opcode }));
        }
    }

    #[test]
    fn a_length_has_its_shortest_form() {
        let with = |length: &[u8]| decode(&[&[0x82], length].concat());
        let read = |length: &[u8]| header(&[&[0x82], length].concat()).payload_bytes;
        assert_eq!(read(&[125]), 125);
        assert_eq!(with(&[126, 0, 125]), Err(LengthNotMinimal { found: 125, length_bits: 16 }));
        assert_eq!(read(&[126, 0, 126]), 126);
        assert_eq!(read(&[126, 0xff, 0xff]), 65_535);
        let below = [127, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
        assert_eq!(with(&below), Err(LengthNotMinimal { found: 65_535, length_bits: 64 }));
        assert_eq!(read(&[127, 0, 0, 0, 0, 0, 1, 0, 0]), 65_536);
        let top = [&[127, 0x7f][..], &[0xff; 7]].concat();
        assert_eq!(read(&top), u64::MAX >> 1);
        let above = [127, 0x80, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(with(&above), Err(LengthTopBit { found: 1 << 63 }));
        // A missing masking key does not delay the error.
        assert_eq!(with(&[0xfe, 0, 125]), Err(LengthNotMinimal { found: 125, length_bits: 16 }));
    }

    #[test]
    fn reserved_bits_are_reported() {
        assert!(header(&[0xC1, 0]).rsv1);
        assert_eq!(header(&[0xA1, 0]).rsv2_rsv3, 0x20);
        assert_eq!(header(&[0x91, 0]).rsv2_rsv3, 0x10);
    }

    #[test]
    fn a_close_carries_its_code_and_reason() {
        assert_eq!(close_frame(1001, "bye", None), [0x88, 5, 0x03, 0xE9, b'b', b'y', b'e']);
        assert_eq!(close_frame(1001, "", None), [0x88, 2, 0x03, 0xE9]);
        let masked = [0x88, 0x85, 1, 2, 3, 4, 0x03 ^ 1, 0xE9 ^ 2, b'b' ^ 3, b'y' ^ 4, b'e' ^ 1];
        assert_eq!(close_frame(1001, "bye", Some(KEY)), masked);
    }

    #[test]
    fn a_reason_too_long_is_cut_between_characters() {
        let bytes = |reason: &str| close_frame(1012, reason, Some(KEY)).len() - 2 - 4 - 2;
        assert_eq!(bytes(&"x".repeat(REASON_BYTES_MAX)), REASON_BYTES_MAX);
        assert_eq!(close_frame(1012, "x".repeat(123), Some(KEY)).len(), CONTROL_FRAME_BYTES_MAX);
        assert_eq!(bytes(&"x".repeat(REASON_BYTES_MAX + 1)), REASON_BYTES_MAX);
        assert_eq!(bytes(&"é".repeat(REASON_BYTES_MAX)), REASON_BYTES_MAX - 1);
    }

    #[test]
    fn a_ping_is_masked_to_a_server_only() {
        assert_eq!(ping_frame(*b"12345678", None), *b"\x89\x0812345678");
        assert_eq!(ping_frame([0; 8], Some(KEY)), [0x89, 0x88, 1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4]);
    }

    #[test]
    fn close_codes_are_those_that_may_be_sent() {
        let allowed: Vec<u16> = (0..=u16::MAX).filter(|&code| is_close_code(code)).collect();
        let expected: Vec<u16> = (1000..=1003).chain(1007..=1014).chain(3000..=4999).collect();
        assert_eq!(allowed, expected);
    }

    #[test]
    fn every_violation_fits_into_a_close_that_we_may_send() {
        let (opcode, found, max) = (Opcode::Continuation, u64::MAX, u64::MAX);
        let mut codes = Vec::new();
        for violation in [
            ReservedOpcode { found: 0xF },
            ControlFragmented { opcode },
            ControlTooLong { opcode, length_bits: 64 },
            LengthNotMinimal { found, length_bits: 64 },
            LengthTopBit { found },
            NotMasked,
            Masked,
            ReservedBits { found: 0x30 },
            Rsv1NotNegotiated,
            Rsv1Misplaced { opcode },
            NothingToContinue,
            MessageOpen { opcode },
            FrameTooBig { found, max },
            MessageTooBig { found, max },
            CloseCodeCut,
            CloseCode { found: u16::MAX },
            ReasonNotUtf8,
            TextNotUtf8,
        ] {
            let said = violation.to_string();
            assert!(said.len() <= REASON_BYTES_MAX && said.is_ascii(), "{said}");
            assert!(close_frame(violation.close_code(), violation, None).ends_with(said.as_bytes()));
            codes.push(violation.close_code());
        }
        assert_eq!(codes.len(), 18);
        assert_eq!(codes.iter().filter(|&&code| code == 1002).count(), 14);
        assert_eq!(codes.iter().filter(|&&code| code == 1009).count(), 2);
        assert_eq!(codes.iter().filter(|&&code| code == 1007).count(), 2);
        assert!(size_of::<Violation>() <= 24, "{}", size_of::<Violation>());
    }
}
