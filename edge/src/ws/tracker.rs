//! Whether a sequence of frames is legal, and whether the stream is between two frames (RFC 6455 §5): one [`Tracker`]
//! per direction of a relay.
//!
//! It reads headers and skips payload in one addition, whatever its length. It reads payload only for rules about
//! payload: the code and reason of a Close, text if the site asks for UTF-8, a Pong that may reply to our Ping. It says
//! how many bytes may pass; it never changes them.
//!
//! Bytes that a rule depends on pass only once the rule is checked: the tracker keeps an unfinished header (with the
//! code of a Close, or the payload of a Pong that may be ours) and passes it first when it is complete. The receiver is
//! therefore between frames whenever [`Tracker::at_boundary`] says so, and nothing of an illegal frame has passed,
//! unless its rule is about payload that arrived in pieces.

use std::num::NonZeroU64;
use std::ops::Deref;

use serde::{Deserialize, Serialize};

use super::frame::{
    CONTROL_BYTES_MAX, Decoded, HEADER_BYTES_MAX, Header, Opcode, PingPayload, Violation, decode,
    is_close_code,
};

#[cfg(test)]
mod tests;

/// Most bytes that a tracker keeps: a header, or a masked Pong of ours, without its last byte.
pub const HELD_BYTES_MAX: usize = HEADER_BYTES_MAX - 1;

/// The unfinished start of a frame; dereferences to its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    bytes: [u8; HELD_BYTES_MAX],
    count: u8,
}

/// Not the state of a tracker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsound;

/// RFC 6455 §5.2.
const PAYLOAD_BYTES_MAX: u64 = i64::MAX as u64;

/// What a Close without a code counts as (RFC 6455 §7.1.5).
const NO_STATUS: u16 = 1005;
/// Bytes of masked text that are checked at once; a multiple of the key's length.
const UNMASKED_BYTES: usize = 256;

/// The sender of the frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    /// The client's, which are masked.
    FromClient,
    /// The server's, which are not.
    FromUpstream,
}

/// The rules of a direction in addition to RFC 6455.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Payload bytes of a data frame; `u64::MAX` for no bound. (Control frames have their own, 125.)
    pub frame_bytes_max: u64,
    /// Payload bytes of a message, the sum of its frames, as on the wire (compressed, if it is); `u64::MAX` for no
    /// bound.
    pub message_bytes_max: u64,
    /// Text must be UTF-8. Compressed messages (RSV1) are not checked.
    pub check_utf8: bool,
    /// The negotiated extensions.
    pub extensions: Extensions,
}

/// The extensions that use the reserved bits (RFC 6455 §5.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Extensions {
    /// None: the bits are 0.
    #[default]
    None,
    /// Only permessage-deflate: the first frame of a message may have RSV1 (RFC 7692 §6).
    Deflate,
    /// Another extension, perhaps with it: the three bits are not validated.
    Unknown,
}

/// What to do with the bytes given to [`Tracker::track`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Tracked {
    /// Passes first: earlier bytes that the tracker kept. Nearly always empty.
    pub released: Held,
    /// How many of the bytes pass after them.
    pub pass: usize,
    /// What to do after that.
    pub then: Then,
    /// Messages whose last frame begins in what passes.
    pub messages: usize,
}

/// What to do when the bytes that [`Tracked`] names have passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Continue. The tracker keeps the bytes after `pass`, at most [`HELD_BYTES_MAX`].
    More,
    /// Only from [`Tracker::track_to_boundary`]: a frame of ours may be inserted here. Bytes after `pass` were not
    /// read.
    Boundary,
    /// The next so many bytes are (the rest of) a Pong to our Pings: skip them and track the bytes after them.
    OurPong(usize),
    /// A Close has passed, or an earlier call reported a violation: nothing more passes.
    Closed,
    /// The frame after `pass` breaks a rule; nothing more passes. If [`Tracker::at_boundary`], the receiver has only
    /// whole frames and can be sent a Close; otherwise it has the beginning of this one.
    Broken(Violation),
}

/// The frames of one direction, however their bytes are cut.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tracker {
    phase: Phase,
    direction: Direction,
    /// The fields of [`Rules`], separately: an idle relay has two of these, and the struct would add padding.
    #[serde(skip)]
    frame_bytes_max: u64,
    #[serde(skip)]
    message_bytes_max: u64,
    #[serde(skip)]
    check_utf8: bool,
    extensions: Extensions,
    message: Message,
    /// Payload bytes of the open message, or of the last one.
    message_bytes: u64,
    /// Of the open text message; from a Close on, of its reason.
    utf8: Utf8,
    /// Payload of our Pings, as a number other than 0.
    ping: Option<NonZeroU64>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Phase {
    /// The receiver is between frames.
    Between(Held),
    Payload(Payload),
    Closed {
        code: u16,
    },
    Broken {
        at_boundary: bool,
    },
}

/// The rest of a frame.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Payload {
    left: u64,
    /// Rotated so that its first byte applies to the next byte; zeros without a mask.
    key: [u8; 4],
    kind: Kind,
}

/// What is checked in a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Kind {
    Skipped,
    Text { fin: bool },
    Reason { code: u16 },
}

/// The position in a fragmented message (RFC 6455 §5.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Message {
    None,
    Open { examined: bool },
}

/// What the start of a frame is.
enum Judged {
    /// Not enough bytes.
    Unfinished,
    /// A frame whose first `head_bytes` are legal: its header and whatever else is checked before it passes.
    Frame(Header, usize),
    /// The whole Pong, so many bytes.
    OurPong(usize),
}

impl Tracker {
    /// At the first byte after the 101.
    pub fn new(direction: Direction, rules: Rules) -> Self {
        Self {
            phase: Phase::Between(Held::default()),
            direction,
            frame_bytes_max: rules.frame_bytes_max,
            message_bytes_max: rules.message_bytes_max,
            check_utf8: rules.check_utf8,
            extensions: rules.extensions,
            message: Message::None,
            message_bytes: 0,
            utf8: Utf8::default(),
            ping: None,
        }
    }

    /// Goes on with a tracker that was read from a record: bounds are not in it, they are those of today.
    ///
    /// # Errors
    /// It is of another direction, or no tracker of ours could have become this.
    pub fn resume(self, direction: Direction, rules: &Rules) -> Result<Self, Unsound> {
        let is_sound = match self.phase {
            Phase::Between(held) => usize::from(held.count) <= HELD_BYTES_MAX,
            Phase::Payload(payload) => payload.left <= PAYLOAD_BYTES_MAX,
            Phase::Closed { .. } | Phase::Broken { .. } => true,
        };
        if !is_sound || self.direction != direction || self.message_bytes > PAYLOAD_BYTES_MAX {
            return Err(Unsound);
        }
        let Rules { frame_bytes_max, message_bytes_max, check_utf8, extensions: _ } = *rules;
        Ok(Self { frame_bytes_max, message_bytes_max, check_utf8, ..self })
    }

    /// Checks the next bytes of this direction. After [`Then::OurPong`], call again for the rest of them.
    pub fn track(&mut self, bytes: &[u8]) -> Tracked {
        self.run(bytes, false)
    }

    /// The same up to the end of the current frame: [`Then::Boundary`] there, at once if already between frames.
    pub fn track_to_boundary(&mut self, bytes: &[u8]) -> Tracked {
        self.run(bytes, true)
    }

    /// The receiver has only whole frames and no Close: a control frame of ours may follow. [Held](Self::held) bytes
    /// have not passed and do not count.
    pub fn at_boundary(&self) -> bool {
        matches!(self.phase, Phase::Between(_) | Phase::Broken { at_boundary: true })
    }

    /// A Close has passed: this side sends nothing more (RFC 6455 §5.5.1).
    pub fn closed(&self) -> bool {
        self.close_code().is_some()
    }

    /// The code of the Close that has passed; 1005 if it had none (RFC 6455 §7.1.5).
    pub fn close_code(&self) -> Option<u16> {
        match self.phase {
            Phase::Closed { code } => Some(code),
            _ => None,
        }
    }

    /// The unfinished start of a frame, which has not passed.
    pub fn held(&self) -> &[u8] {
        match &self.phase {
            Phase::Between(held) => held,
            _ => &[],
        }
    }

    /// Pings of ours, all with this payload, were sent to this direction's sender: a matching Pong does not pass,
    /// however late or often it arrives (RFC 6455 §5.5.3 allows a peer to reply to the last of several only). A payload
    /// of zeros matches nothing.
    pub fn expect_pongs(&mut self, payload: PingPayload) {
        self.ping = NonZeroU64::new(u64::from_ne_bytes(payload));
    }

    /// The payload of our Pings, once one was sent.
    pub fn ping_payload(&self) -> Option<PingPayload> {
        self.ping.map(|ping| ping.get().to_ne_bytes())
    }

    fn run(&mut self, bytes: &[u8], to_boundary: bool) -> Tracked {
        let mut tracked = Tracked { released: Held::default(), pass: 0, then: Then::More, messages: 0 };
        // Where the current frame begins, if no part of it passed in an earlier call.
        let mut began = None;
        loop {
            let rest = bytes.get(tracked.pass..).unwrap_or_default();
            let found = match &mut self.phase {
                &mut Phase::Payload(payload) => {
                    self.phase = Phase::Between(Held::default());
                    self.pass_payload(payload, rest, &mut tracked)
                }
                Phase::Between(_) if to_boundary => Ok(Some(Then::Boundary)),
                Phase::Between(_) if rest.is_empty() => Ok(Some(Then::More)),
                Phase::Between(held) => {
                    began = Some(tracked.pass);
                    let held = held.take();
                    self.begin(held, rest, &mut tracked)
                }
                Phase::Closed { .. } | Phase::Broken { .. } => Ok(Some(Then::Closed)),
            };
            match found {
                Ok(None) => {}
                Ok(Some(then)) => return Tracked { then, ..tracked },
                Err(violation) => return self.broken(tracked, began, violation),
            }
        }
    }

    /// Passes the part of `rest` that belongs to a payload. `None`: all of it.
    #[inline]
    fn pass_payload(
        &mut self,
        mut payload: Payload,
        rest: &[u8],
        tracked: &mut Tracked,
    ) -> Result<Option<Then>, Violation> {
        let (passing, complete) = payload.take(rest);
        if payload.kind != Kind::Skipped {
            self.utf8.examine(&payload, passing, complete)?;
        }
        tracked.pass += passing.len();
        if !complete {
            payload.step(passing.len());
            self.phase = Phase::Payload(payload);
            return Ok(Some(Then::More));
        }
        if let Kind::Reason { code } = payload.kind {
            self.phase = Phase::Closed { code };
        }
        Ok(None)
    }

    /// A frame begins with `held` and continues with `rest`.
    fn begin(&mut self, held: Held, rest: &[u8], tracked: &mut Tracked) -> Result<Option<Then>, Violation> {
        let joined = if held.is_empty() { None } else { Some(held.joined(rest)) };
        let start = joined.as_ref().map_or(rest, |(bytes, count)| bytes.get(..*count).unwrap_or_default());
        match self.judge(start)? {
            Judged::Frame(header, head_bytes) => {
                let passing = head_bytes.saturating_sub(held.len());
                tracked.pass += passing;
                if !held.is_empty() {
                    tracked.released = held;
                }
                // Most frames end in these bytes: their payload never becomes a phase.
                tracked.messages += usize::from(header.fin && !header.opcode.is_control());
                let payload = self.enter(&header, start.get(..head_bytes).unwrap_or_default());
                self.pass_payload(payload, rest.get(passing..).unwrap_or_default(), tracked)
            }
            Judged::OurPong(frame_bytes) => Ok(Some(Then::OurPong(frame_bytes.saturating_sub(held.len())))),
            Judged::Unfinished => {
                self.phase = Phase::Between(held.with(rest));
                Ok(Some(Then::More))
            }
        }
    }

    /// No more of the frame passes, not even what this call released of it.
    fn broken(&mut self, tracked: Tracked, began: Option<usize>, violation: Violation) -> Tracked {
        self.phase = Phase::Broken { at_boundary: began.is_some() };
        let pass = began.unwrap_or_default();
        // If nothing precedes it in these bytes, the released bytes are this frame's beginning.
        let released = if pass == 0 { Held::default() } else { tracked.released };
        Tracked { released, pass, then: Then::Broken(violation), messages: tracked.messages }
    }

    /// Checks the frame at the start of `start`; [`HEADER_BYTES_MAX`] bytes are always enough.
    fn judge(&self, start: &[u8]) -> Result<Judged, Violation> {
        let Decoded::Header(header) = decode(start)? else { return Ok(Judged::Unfinished) };
        self.check_mask(&header)?;
        self.check_reserved_bits(&header)?;
        self.check_order(&header)?;
        self.check_size(&header)?;
        let payload = start.get(header.header_bytes..).unwrap_or_default();
        match header.opcode {
            Opcode::Close => judge_close(&header, payload),
            Opcode::Pong => Ok(self.judge_pong(&header, payload)),
            _ => Ok(Judged::Frame(header, header.header_bytes)),
        }
    }

    /// RFC 6455 §5.1.
    fn check_mask(&self, header: &Header) -> Result<(), Violation> {
        match (self.direction, header.mask) {
            (Direction::FromClient, None) => Err(Violation::NotMasked),
            (Direction::FromUpstream, Some(_)) => Err(Violation::Masked),
            _ => Ok(()),
        }
    }

    /// RFC 6455 §5.2, RFC 7692 §6.1.
    fn check_reserved_bits(&self, header: &Header) -> Result<(), Violation> {
        let opcode = header.opcode;
        let first = matches!(opcode, Opcode::Text | Opcode::Binary);
        match (header.rsv1, self.extensions) {
            (false, _) if header.rsv2_rsv3 == 0 => Ok(()),
            (_, Extensions::Unknown) => Ok(()),
            _ if header.rsv2_rsv3 != 0 => Err(Violation::ReservedBits { found: header.rsv2_rsv3 }),
            (_, Extensions::None) => Err(Violation::Rsv1NotNegotiated),
            _ if !first => Err(Violation::Rsv1Misplaced { opcode }),
            _ => Ok(()),
        }
    }

    /// RFC 6455 §5.4: control frames may come between fragments.
    fn check_order(&self, header: &Header) -> Result<(), Violation> {
        let opcode = header.opcode;
        match (opcode, self.message) {
            (Opcode::Continuation, Message::None) => Err(Violation::NothingToContinue),
            (Opcode::Text | Opcode::Binary, Message::Open { .. }) => Err(Violation::MessageOpen { opcode }),
            _ => Ok(()),
        }
    }

    fn check_size(&self, header: &Header) -> Result<(), Violation> {
        if header.opcode.is_control() {
            return Ok(());
        }
        let (found, max) = (header.payload_bytes, self.frame_bytes_max);
        if found > max {
            return Err(Violation::FrameTooBig { found, max });
        }
        let (found, max) = (self.message_bytes_with(header), self.message_bytes_max);
        if found > max { Err(Violation::MessageTooBig { found, max }) } else { Ok(()) }
    }

    fn message_bytes_with(&self, header: &Header) -> u64 {
        let before = if header.opcode == Opcode::Continuation { self.message_bytes } else { 0 };
        before.saturating_add(header.payload_bytes)
    }

    /// Whether this Pong replies to our Pings; needs the whole of it.
    fn judge_pong(&self, header: &Header, payload: &[u8]) -> Judged {
        let Some(ping) = self.ping_payload() else {
            return Judged::Frame(*header, header.header_bytes);
        };
        if header.payload_bytes != ping.len() as u64 {
            return Judged::Frame(*header, header.header_bytes);
        }
        let Some(payload) = payload.get(..ping.len()) else { return Judged::Unfinished };
        let key = header.mask.unwrap_or_default();
        let ours = payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).eq(ping);
        let frame_bytes = header.header_bytes + ping.len();
        if ours { Judged::OurPong(frame_bytes) } else { Judged::Frame(*header, frame_bytes) }
    }

    /// The frame's first bytes, `head`, pass; returns the rest of it.
    fn enter(&mut self, header: &Header, head: &[u8]) -> Payload {
        let begun = head.get(header.header_bytes..).unwrap_or_default();
        let kind = match header.opcode {
            Opcode::Close => {
                self.utf8 = Utf8::default();
                Kind::Reason { code: close_code(header, begun).unwrap_or(NO_STATUS) }
            }
            Opcode::Ping | Opcode::Pong => Kind::Skipped,
            Opcode::Continuation | Opcode::Text | Opcode::Binary => self.enter_data(header),
        };
        let mut payload = Payload { left: header.payload_bytes, key: header.mask.unwrap_or_default(), kind };
        payload.step(begun.len());
        payload
    }

    fn enter_data(&mut self, header: &Header) -> Kind {
        let examined = match (header.opcode, self.message) {
            (Opcode::Text, _) => self.check_utf8 && !header.rsv1,
            (Opcode::Continuation, Message::Open { examined }) => examined,
            _ => false,
        };
        self.message_bytes = self.message_bytes_with(header);
        self.message = if header.fin { Message::None } else { Message::Open { examined } };
        if examined { Kind::Text { fin: header.fin } } else { Kind::Skipped }
    }
}

/// A Close has no payload, or begins with a code (RFC 6455 §5.5.1).
fn judge_close(header: &Header, payload: &[u8]) -> Result<Judged, Violation> {
    debug_assert!(header.payload_bytes <= CONTROL_BYTES_MAX as u64);
    match header.payload_bytes {
        0 => return Ok(Judged::Frame(*header, header.header_bytes)),
        1 => return Err(Violation::CloseCodeCut),
        _ => {}
    }
    match close_code(header, payload) {
        None => Ok(Judged::Unfinished),
        Some(code) if is_close_code(code) => Ok(Judged::Frame(*header, header.header_bytes + 2)),
        Some(found) => Err(Violation::CloseCode { found }),
    }
}

/// The code that the payload of a Close begins with.
fn close_code(header: &Header, payload: &[u8]) -> Option<u16> {
    let &[high, low] = payload.first_chunk()?;
    let [key_high, key_low, ..] = header.mask.unwrap_or_default();
    Some(u16::from_be_bytes([high ^ key_high, low ^ key_low]))
}

impl Held {
    /// Nearly always empty; this avoids moving 14 bytes, half of a small frame's cost.
    #[inline]
    fn take(&mut self) -> Self {
        if self.count == 0 { Self::default() } else { std::mem::take(self) }
    }

    /// With more bytes appended; there is room for every unfinished frame.
    fn with(self, more: &[u8]) -> Self {
        debug_assert!(self.len() + more.len() <= HELD_BYTES_MAX, "with so many bytes a frame can be decided");
        let (mut held, before) = (self, usize::from(self.count));
        let to = held.bytes.iter_mut().skip(before).zip(more);
        held.count += to.map(|(to, byte)| *to = *byte).map(|()| 1).sum::<u8>();
        held
    }

    /// With enough bytes appended to check it.
    fn joined(&self, more: &[u8]) -> ([u8; HEADER_BYTES_MAX], usize) {
        let mut joined = [0; HEADER_BYTES_MAX];
        let to = joined.iter_mut().zip(self.iter().chain(more));
        let count = to.map(|(to, byte)| *to = *byte).count();
        (joined, count)
    }
}

impl Deref for Held {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.count)).unwrap_or_default()
    }
}

impl Payload {
    /// The part of `bytes` that belongs to this frame, and whether it ends the frame.
    fn take<'b>(&self, bytes: &'b [u8]) -> (&'b [u8], bool) {
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        match bytes.get(..left) {
            Some(rest) => (rest, true),
            None => (bytes, false),
        }
    }

    fn step(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes as u64);
        self.key.rotate_left(bytes % 4);
    }
}

/// Whether bytes that arrive in pieces are UTF-8 (RFC 3629).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Utf8 {
    /// The beginning of an unfinished character.
    unfinished: heapless::Vec<u8, 3, u8>,
}

impl Utf8 {
    /// Checks the next bytes of a payload of this kind; `complete`: they are its last ones.
    #[inline(never)] // keeps the way of all other frames short
    fn examine(&mut self, payload: &Payload, bytes: &[u8], complete: bool) -> Result<(), Violation> {
        let (last, violation) = match payload.kind {
            Kind::Skipped => return Ok(()),
            Kind::Text { fin } => (complete && fin, Violation::TextNotUtf8),
            Kind::Reason { .. } => (complete, Violation::ReasonNotUtf8),
        };
        let so_far = self.feed_masked(payload.key, bytes);
        if so_far && (self.unfinished.is_empty() || !last) { Ok(()) } else { Err(violation) }
    }

    fn feed_masked(&mut self, key: [u8; 4], bytes: &[u8]) -> bool {
        if key == [0; 4] {
            return self.feed(bytes);
        }
        let mut unmasked = [0; UNMASKED_BYTES];
        bytes.chunks(UNMASKED_BYTES).all(|chunk| {
            let to = unmasked.chunks_mut(4).zip(chunk.chunks(4));
            to.for_each(|(to, from)| unmask(to, from, key));
            self.feed(unmasked.get(..chunk.len()).unwrap_or_default())
        })
    }

    /// `false` as soon as the bytes cannot be the beginning of UTF-8.
    fn feed(&mut self, mut bytes: &[u8]) -> bool {
        while let (false, Some((&first, rest))) = (self.unfinished.is_empty(), bytes.split_first()) {
            if !self.finish(first) {
                return false;
            }
            bytes = rest;
        }
        match std::str::from_utf8(bytes) {
            Ok(_) => true,
            Err(error) => {
                let rest = bytes.get(error.valid_up_to()..).unwrap_or_default();
                error.error_len().is_none() && self.unfinished.extend_from_slice(rest).is_ok()
            }
        }
    }

    /// Adds a byte to the unfinished character.
    fn finish(&mut self, byte: u8) -> bool {
        let mut character: heapless::Vec<u8, 4, u8> = heapless::Vec::new();
        character.extend(self.unfinished.iter().copied().chain([byte]));
        match std::str::from_utf8(&character) {
            Ok(_) => {
                self.unfinished.clear();
                true
            }
            Err(error) => error.error_len().is_none() && self.unfinished.push(byte).is_ok(),
        }
    }
}

/// Up to four bytes; four at once if possible, for speed.
fn unmask(to: &mut [u8], from: &[u8], key: [u8; 4]) {
    if let (Some(to), Some(from)) = (to.first_chunk_mut(), from.first_chunk()) {
        *to = (u32::from_ne_bytes(*from) ^ u32::from_ne_bytes(key)).to_ne_bytes();
        return;
    }
    to.iter_mut().zip(from).zip(key).for_each(|((to, from), key)| *to = from ^ key);
}
