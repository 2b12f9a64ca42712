//! TLS records once the handshake is over (RFC 8446 §5, RFC 5246 §6.2): they are opened and sealed in place with keys that are data, and
//! what may come besides application data is checked and answered here.
//!
//! rustls does the handshake, and is gone afterwards: its connection is 3 KiB for each session, of which 240 bytes are keys and counters.
//! The primitives are ring's.

mod ciphers;
mod fault;
mod keys;
mod messages;

use serde::{Deserialize, Serialize};

pub use ciphers::Ciphers;
pub use fault::{Alert, Fault};
pub use keys::{Aead, PLAIN_BYTES_MAX, RECORD_EXTRA_BYTES, Version};
use keys::{HEADER_BYTES, Keys, Protection};
pub use messages::Answer;
use messages::{Allowance, CLOSE_NOTIFY_ALERT, Message, NO_RENEGOTIATION_ALERT, Request, key_update};

/// Longest record on the wire: header, 2^14 bytes, and what TLS 1.2 allows on top (RFC 5246 §6.2.3).
pub const RECORD_BYTES_MAX: usize = HEADER_BYTES + body_bytes_max(Version::Tls12);
/// Room for any record that [`RecordLayer::answer`], [`RecordLayer::alert`], [`RecordLayer::close`] and [`RecordLayer::rekey`] seal.
pub const MESSAGE_BYTES_MAX: usize = 5 + 1 + RECORD_EXTRA_BYTES;
/// Most records of application data that are sealed between two looks at [`RecordLayer::is_worn`].
pub const WRITE_RECORDS_MAX: u64 = 256;

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;

const fn body_bytes_max(version: Version) -> usize {
    PLAIN_BYTES_MAX
        + match version {
            Version::Tls12 => 2048, // RFC 5246 §6.2.3
            Version::Tls13 => 256,  // RFC 8446 §5.2
        }
}

/// What the bytes at the front are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// Not yet a whole record.
    Partial,
    /// Application data, at this place of the bytes.
    Data(std::ops::Range<usize>),
    /// Nothing that concerns the caller.
    Nothing,
    /// The peer sends no more (RFC 8446 §6.1).
    CloseNotify,
    /// It is to be answered.
    Answer(Answer),
}

/// Secrets of one direction at the end of the handshake.
#[derive(Clone, Copy)]
pub struct Secrets<'a> {
    /// The application traffic secret of TLS 1.3; empty in TLS 1.2.
    pub traffic: &'a [u8],
    /// The write key of the direction.
    pub key: &'a [u8],
    /// 12 bytes; in TLS 1.2 with AES-GCM the salt and the first explicit nonce.
    pub iv: &'a [u8],
    /// The number of the next record.
    pub sequence: u64,
}

/// All that a connection keeps of TLS.
#[derive(Serialize, Deserialize)]
pub struct RecordLayer {
    protection: Protection,
    allowance: Allowance,
    message: Message,
    read: Keys,
    write: Keys,
}

impl RecordLayer {
    /// # Errors
    /// Secrets whose length is not that of the suite.
    pub fn new(version: Version, aead: Aead, read: Secrets<'_>, write: Secrets<'_>) -> Result<Self, Fault> {
        let protection = Protection { version, aead };
        let keys = |of: Secrets<'_>| Keys::new(protection, of.traffic, of.key, of.iv, of.sequence);
        Ok(Self {
            protection,
            allowance: Allowance::default(),
            message: Message::default(),
            read: keys(read)?,
            write: keys(write)?,
        })
    }

    /// Opens the record at the front of `bytes` in place; how long it is.
    ///
    /// # Errors
    /// What ends the connection; its alert is to be sent.
    #[inline]
    pub fn open(&mut self, ciphers: &mut Ciphers, bytes: &mut [u8]) -> Result<(usize, Opened), Fault> {
        let [content, major, _, high, low, ..] = *bytes else { return Ok((0, Opened::Partial)) };
        let version = self.protection.version;
        match content {
            APPLICATION_DATA => {}
            ALERT | HANDSHAKE if version == Version::Tls12 => {}
            // Also change_cipher_spec, which is ignored during a handshake of TLS 1.3 only (RFC 8446 §5).
            _ => return Err(Fault::ContentType(content)),
        }
        if major != 3 {
            return Err(Fault::Version);
        }
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > body_bytes_max(version) {
            return Err(Fault::TooLong);
        }
        let Some(record) = bytes.get_mut(..HEADER_BYTES + length) else { return Ok((0, Opened::Partial)) };
        let cipher = ciphers.of(&self.read, self.protection.aead)?;
        let (content, plain) = self.read.open(self.protection, cipher, record)?;
        let opened = if content == APPLICATION_DATA && !self.message.is_partial() {
            self.allowance.data(plain.len())?;
            Opened::Data(plain)
        } else {
            self.message(ciphers, content, record.get(plain).unwrap_or_default())?
        };
        Ok((HEADER_BYTES + length, opened))
    }

    #[cold]
    fn message(&mut self, ciphers: &mut Ciphers, content: u8, bytes: &[u8]) -> Result<Opened, Fault> {
        let version = self.protection.version;
        Ok(match content {
            HANDSHAKE => match self.message.take(version, &mut self.allowance, bytes)? {
                None => Opened::Nothing,
                Some(Request::Renegotiation) => Opened::Answer(Answer::NoRenegotiation),
                Some(Request::KeyUpdate(answer)) => {
                    ciphers.forget(&self.read);
                    self.read.update(self.protection)?;
                    answer.map_or(Opened::Nothing, Opened::Answer)
                }
            },
            ALERT | APPLICATION_DATA if self.message.is_partial() => return Err(Fault::Interleaved),
            ALERT if self.allowance.alert(version, bytes)? => Opened::CloseNotify,
            ALERT => Opened::Nothing,
            _ => return Err(Fault::ContentType(content)),
        })
    }

    /// Whether new keys are needed before the next [`WRITE_RECORDS_MAX`] records.
    #[inline]
    pub fn is_worn(&self) -> bool {
        self.write.sequence >= self.protection.aead.records_max().saturating_sub(WRITE_RECORDS_MAX + 16)
    }

    /// Seals a KeyUpdate that requests one of the peer as well, and takes new keys.
    ///
    /// # Errors
    /// [`Fault::Exhausted`] in TLS 1.2, which has no other keys: the connection ends.
    pub fn rekey(&mut self, ciphers: &mut Ciphers, out: &mut [u8]) -> Result<usize, Fault> {
        if self.protection.version == Version::Tls12 {
            return Err(Fault::Exhausted);
        }
        self.allowance.awaits_key_update = true;
        self.seal_key_update(ciphers, true, out)
    }

    /// Seals the answer to a message of the peer.
    ///
    /// # Errors
    /// [`Fault::NoRoom`].
    pub fn answer(&mut self, ciphers: &mut Ciphers, answer: Answer, out: &mut [u8]) -> Result<usize, Fault> {
        match answer {
            Answer::KeyUpdate => self.seal_key_update(ciphers, false, out),
            Answer::NoRenegotiation => self.seal(ALERT, &NO_RENEGOTIATION_ALERT, out),
        }
    }

    /// Seals a fatal alert. Nothing may be sealed after it.
    ///
    /// # Errors
    /// [`Fault::NoRoom`].
    pub fn alert(&mut self, alert: Alert, out: &mut [u8]) -> Result<usize, Fault> {
        self.seal(ALERT, &alert.message(), out)
    }

    /// Seals close_notify. Nothing may be sealed after it.
    ///
    /// # Errors
    /// [`Fault::NoRoom`].
    pub fn close(&mut self, out: &mut [u8]) -> Result<usize, Fault> {
        self.seal(ALERT, &CLOSE_NOTIFY_ALERT, out)
    }

    /// Seals application data: `next` gives the plaintext of each record until there is none. Returns the bytes
    /// put into `out`. At most [`WRITE_RECORDS_MAX`] records, after a look at [`Self::is_worn`].
    ///
    /// # Errors
    /// [`Fault::NoRoom`].
    #[inline]
    pub fn seal_data<'a>(
        &mut self,
        ciphers: &mut Ciphers,
        mut next: impl FnMut() -> Option<&'a [u8]>,
        out: &mut [u8],
    ) -> Result<usize, Fault> {
        let cipher = ciphers.of(&self.write, self.protection.aead)?;
        let mut end = 0;
        while let Some(plain) = next() {
            let room = out.get_mut(end..).unwrap_or_default();
            end += self.write.seal(self.protection, cipher, APPLICATION_DATA, plain, room)?;
        }
        Ok(end)
    }

    fn seal_key_update(
        &mut self,
        ciphers: &mut Ciphers,
        is_requested: bool,
        out: &mut [u8],
    ) -> Result<usize, Fault> {
        let count = self.seal(HANDSHAKE, &key_update(is_requested), out)?;
        ciphers.forget(&self.write);
        self.update_write()?;
        Ok(count)
    }

    pub(crate) fn update_write(&mut self) -> Result<(), Fault> {
        self.write.update(self.protection)
    }

    /// Drops the cipher objects of the connection.
    pub fn forget(&self, ciphers: &mut Ciphers) {
        ciphers.forget(&self.read);
        ciphers.forget(&self.write);
    }

    pub(crate) fn seal(&mut self, content: u8, plain: &[u8], out: &mut [u8]) -> Result<usize, Fault> {
        let cipher = self.write.cipher(self.protection.aead)?;
        self.write.seal(self.protection, &cipher, content, plain, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUITES: [Aead; 3] = [Aead::Aes128Gcm, Aead::Aes256Gcm, Aead::Chacha20Poly1305];
    const VERSIONS: [Version; 2] = [Version::Tls12, Version::Tls13];

    /// The server's end and the client's, both at this record of what the server writes.
    fn pair(version: Version, aead: Aead, sequence: u64) -> (RecordLayer, RecordLayer) {
        let secret_bytes = match (version, aead) {
            (Version::Tls12, _) => 0,
            (Version::Tls13, Aead::Aes256Gcm) => 48,
            (Version::Tls13, _) => 32,
        };
        let key_bytes = if aead == Aead::Aes128Gcm { 16 } else { 32 };
        let (traffic, key) = ([[1; 48], [2; 48]], [[3; 32], [4; 32]]);
        let of = |side: usize, sequence| Secrets {
            traffic: &traffic[side][..secret_bytes],
            key: &key[side][..key_bytes],
            iv: &[9; 12],
            sequence,
        };
        let (client, server) = (of(0, 0), of(1, sequence));
        let layer = |read, write| RecordLayer::new(version, aead, read, write).unwrap();
        (layer(client, server), layer(server, client))
    }

    fn suites() -> impl Iterator<Item = (Version, Aead)> {
        VERSIONS.into_iter().flat_map(|version| SUITES.into_iter().map(move |aead| (version, aead)))
    }

    fn sealed(layer: &mut RecordLayer, content: u8, plain: &[u8]) -> Vec<u8> {
        let mut out = vec![0; plain.len() + RECORD_EXTRA_BYTES];
        let count = layer.seal(content, plain, &mut out).unwrap();
        out.truncate(count);
        out
    }

    /// What the record at the front is, with the data where it is such.
    fn opened(layer: &mut RecordLayer, mut record: Vec<u8>) -> Result<(Opened, Vec<u8>), Fault> {
        let length = record.len();
        let (count, opened) = layer.open(&mut Ciphers::default(), &mut record)?;
        assert_eq!(count, length);
        let data = match &opened {
            Opened::Data(place) => record[place.clone()].to_vec(),
            _ => Vec::new(),
        };
        Ok((opened, data))
    }

    /// The same message until it is a fault; how often it was none.
    fn until_fault(
        version: Version,
        mut message: impl FnMut(&mut RecordLayer) -> Vec<u8>,
    ) -> (usize, Fault, Vec<Opened>) {
        let (mut server, mut client) = pair(version, Aead::Aes128Gcm, 0);
        let mut all = Vec::new();
        loop {
            match opened(&mut server, message(&mut client)) {
                Ok((what, _)) => all.push(what),
                Err(fault) => return (all.len(), fault, all),
            }
            assert!(all.len() < 100, "no fault");
        }
    }

    #[test]
    fn a_layer_that_was_written_down_goes_on_in_both_directions() {
        for (version, aead) in suites() {
            let (mut server, mut client) = pair(version, aead, 3);
            let hand_over = |layer: &RecordLayer| -> RecordLayer {
                postcard::from_bytes(&postcard::to_stdvec(layer).unwrap()).unwrap()
            };
            for round in 0..4 {
                server = hand_over(&server);
                let from_server = sealed(&mut server, APPLICATION_DATA, b"down");
                assert_eq!(
                    opened(&mut client, from_server).unwrap().1,
                    b"down",
                    "{version:?} {aead:?} {round}"
                );
                let from_client = sealed(&mut client, APPLICATION_DATA, b"up");
                let again = from_client.clone();
                assert_eq!(
                    opened(&mut server, from_client).unwrap().1,
                    b"up",
                    "{version:?} {aead:?} {round}"
                );
                server = hand_over(&server);
                assert_eq!(opened(&mut server, again), Err(Fault::Undecryptable), "each record once");
                if version == Version::Tls13 {
                    // New keys of both directions, asked for before a hand-over and answered behind it.
                    let mut ciphers = Ciphers::default();
                    let mut update = vec![0; MESSAGE_BYTES_MAX];
                    let count = server.rekey(&mut ciphers, &mut update).unwrap();
                    server = hand_over(&server);
                    let asked = opened(&mut client, update[..count].to_vec()).unwrap().0;
                    assert_eq!(asked, Opened::Answer(Answer::KeyUpdate));
                    let mut answer = vec![0; MESSAGE_BYTES_MAX];
                    let count = client.answer(&mut ciphers, Answer::KeyUpdate, &mut answer).unwrap();
                    assert_eq!(opened(&mut server, answer[..count].to_vec()).unwrap().0, Opened::Nothing);
                }
            }
        }
    }

    #[test]
    fn a_connection_keeps_keys_and_counters() {
        // An allocator rounds 240 up to no more than that.
        assert!(size_of::<RecordLayer>() <= 240, "{}", size_of::<RecordLayer>());
    }

    #[test]
    fn what_is_sealed_is_opened_up_to_the_longest_record() {
        for (version, aead) in suites() {
            let (mut server, mut client) = pair(version, aead, 0);
            for length in [0, 1, 15, 16, 17, 1_300, PLAIN_BYTES_MAX - 1, PLAIN_BYTES_MAX] {
                let plain = vec![b'x'; length];
                let record = sealed(&mut server, APPLICATION_DATA, &plain);
                assert!(record.len() <= length + RECORD_EXTRA_BYTES, "{version:?} {aead:?}");
                let (what, data) = opened(&mut client, record).unwrap();
                assert!(matches!(what, Opened::Data(_)) && data == plain, "{version:?} {aead:?} {length}");
            }
            let longer = sealed(&mut server, APPLICATION_DATA, &[b'x'; PLAIN_BYTES_MAX + 1]);
            assert_eq!(opened(&mut client, longer), Err(Fault::TooLong), "{version:?} {aead:?}");
        }
    }

    #[test]
    fn a_record_is_opened_once_all_of_it_is_there_and_only_once() {
        for (version, aead) in suites() {
            let (mut server, mut client) = pair(version, aead, 0);
            let mut record = sealed(&mut server, APPLICATION_DATA, b"hello");
            for end in 0..record.len() {
                let partial = client.open(&mut Ciphers::default(), &mut record[..end]);
                assert_eq!(partial, Ok((0, Opened::Partial)), "{version:?} {aead:?} {end}");
            }
            assert_eq!(opened(&mut client, record.clone()).unwrap().1, b"hello");
            assert_eq!(opened(&mut client, record), Err(Fault::Undecryptable), "{version:?} {aead:?}");
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_is_a_fault() {
        for (version, aead) in suites() {
            let (mut server, _) = pair(version, aead, 0);
            let record = sealed(&mut server, APPLICATION_DATA, b"hello");
            for bit in 0..record.len() * 8 {
                let mut changed = record.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                let (_, mut client) = pair(version, aead, 0);
                let found = client.open(&mut Ciphers::default(), &mut changed);
                let is_legacy_version = version == Version::Tls13 && (8..24).contains(&bit);
                match found {
                    // A longer record.
                    Ok((0, Opened::Partial)) => {
                        assert!((24..40).contains(&bit), "{version:?} {aead:?} {bit}")
                    }
                    // RFC 8446 §5.1: the version of a record is ignored, as far as it is one of TLS.
                    Ok(_) => assert!(is_legacy_version, "{version:?} {aead:?} {bit}"),
                    Err(fault) => assert!(fault.alert().is_some()),
                }
            }
        }
    }

    #[test]
    fn what_costs_us_something_is_bounded() {
        let key_update = |client: &mut RecordLayer| {
            let mut out = [0; MESSAGE_BYTES_MAX];
            let count = client.rekey(&mut Ciphers::default(), &mut out).unwrap();
            out[..count].to_vec()
        };
        let (count, fault, all) = until_fault(Version::Tls13, key_update);
        assert_eq!((count, fault), (32, Fault::TooManyKeyUpdates));
        assert!(all.iter().all(|what| *what == Opened::Answer(Answer::KeyUpdate)));
        for version in VERSIONS {
            let (count, fault, _) = until_fault(version, |client| sealed(client, APPLICATION_DATA, b""));
            assert_eq!((count, fault), (32, Fault::TooManyEmptyRecords), "{version:?}");
            // user_canceled is the one warning that TLS 1.3 has.
            let (count, fault, _) = until_fault(version, |client| sealed(client, ALERT, &[1, 90]));
            assert_eq!((count, fault), (4, Fault::TooManyWarnings), "{version:?}");
        }
        let hello = |client: &mut RecordLayer| sealed(client, HANDSHAKE, &[1, 0, 0, 2, 3, 3]);
        let (count, fault, all) = until_fault(Version::Tls12, hello);
        assert_eq!((count, fault), (1, Fault::Renegotiation));
        assert_eq!(all, [Opened::Answer(Answer::NoRenegotiation)]);
    }

    #[test]
    fn data_resets_the_bound_on_key_updates_and_empty_records_do_not() {
        let mut turn = 0;
        let (count, fault, _) = until_fault(Version::Tls13, |client| {
            turn += 1;
            if turn == 33 {
                return sealed(client, APPLICATION_DATA, b"x");
            }
            if turn % 2 == 0 {
                return sealed(client, APPLICATION_DATA, b"");
            }
            let mut out = [0; MESSAGE_BYTES_MAX];
            let count = client.answer(&mut Ciphers::default(), Answer::KeyUpdate, &mut out).unwrap();
            out[..count].to_vec()
        });
        // 16 KeyUpdates and as many empty records, the byte, and 32 more of each.
        assert_eq!((count, fault), (32 + 1 + 64, Fault::TooManyEmptyRecords));
    }

    #[test]
    fn messages_in_pieces_are_messages() {
        let (mut server, mut client) = pair(Version::Tls13, Aead::Chacha20Poly1305, 0);
        for byte in &key_update(true)[..4] {
            let piece = sealed(&mut client, HANDSHAKE, &[*byte]);
            assert_eq!(opened(&mut server, piece).unwrap().0, Opened::Nothing);
        }
        let last = sealed(&mut client, HANDSHAKE, &[1]);
        assert_eq!(opened(&mut server, last).unwrap().0, Opened::Answer(Answer::KeyUpdate));
        client.update_write().unwrap();
        let data = sealed(&mut client, APPLICATION_DATA, b"with the new keys");
        assert_eq!(opened(&mut server, data).unwrap().1, b"with the new keys");

        let piece = sealed(&mut client, HANDSHAKE, &[24]);
        opened(&mut server, piece).unwrap();
        let within = sealed(&mut client, APPLICATION_DATA, b"x");
        assert_eq!(opened(&mut server, within), Err(Fault::Interleaved));
    }

    #[test]
    fn a_long_client_hello_in_pieces_gets_no_renegotiation_once() {
        let (mut server, mut client) = pair(Version::Tls12, Aead::Aes256Gcm, 0);
        let hello = [&[1, 0, 0x50, 0][..], &[7; 0x5000]].concat();
        let mut found = Vec::new();
        for piece in hello.chunks(3_000) {
            let piece = sealed(&mut client, HANDSHAKE, piece);
            found.push(opened(&mut server, piece).unwrap().0);
        }
        assert_eq!(found.pop(), Some(Opened::Answer(Answer::NoRenegotiation)));
        assert!(found.iter().all(|what| *what == Opened::Nothing));
        let data = sealed(&mut client, APPLICATION_DATA, b"goes on");
        assert_eq!(opened(&mut server, data).unwrap().1, b"goes on");
    }

    #[test]
    fn what_may_not_come_after_the_handshake_is_named() {
        let cases: [(Version, u8, &[u8], Fault); 14] = [
            (Version::Tls13, HANDSHAKE, &[1], Fault::HandshakeMessage(1)),
            (Version::Tls13, HANDSHAKE, &[4, 0, 0, 0], Fault::HandshakeMessage(4)),
            (Version::Tls13, HANDSHAKE, &[], Fault::EmptyHandshake),
            (Version::Tls13, HANDSHAKE, &[24, 0, 0, 2], Fault::HandshakeLength),
            (Version::Tls13, HANDSHAKE, &[24, 0, 0, 1, 2], Fault::KeyUpdate),
            (Version::Tls13, HANDSHAKE, &[24, 0, 0, 1, 0, 24], Fault::KeyUpdateInside),
            (Version::Tls13, 20, &[1], Fault::ContentType(20)),
            (Version::Tls13, 24, &[1], Fault::ContentType(24)),
            (Version::Tls13, ALERT, &[1, 100], Fault::Warning(100)),
            (Version::Tls12, ALERT, &[3, 0], Fault::AlertLevel(0)),
            (Version::Tls12, ALERT, &[2], Fault::AlertLength),
            (Version::Tls12, ALERT, &[2, 40], Fault::Alert(40)),
            (Version::Tls12, HANDSHAKE, &[24, 0, 0, 1, 0], Fault::HandshakeMessage(24)),
            (Version::Tls12, HANDSHAKE, &[1, 1, 0, 0], Fault::HandshakeLength),
        ];
        for (version, content, plain, fault) in cases {
            let (mut server, mut client) = pair(version, Aead::Aes128Gcm, 0);
            let record = sealed(&mut client, content, plain);
            assert_eq!(opened(&mut server, record), Err(fault), "{version:?} {content} {plain:?}");
        }
        for version in VERSIONS {
            let (mut server, mut client) = pair(version, Aead::Aes128Gcm, 0);
            assert_eq!(opened(&mut server, vec![20, 3, 3, 0, 1, 1]), Err(Fault::ContentType(20)));
            let close = sealed(&mut client, ALERT, &CLOSE_NOTIFY_ALERT);
            assert_eq!(opened(&mut server, close).unwrap().0, Opened::CloseNotify);
        }
        // No content type behind the padding.
        let (mut server, mut client) = pair(Version::Tls13, Aead::Aes128Gcm, 0);
        let padding = sealed(&mut client, 0, &[0; 40]);
        assert_eq!(opened(&mut server, padding), Err(Fault::NoContentType));
    }

    #[test]
    fn keys_are_worn_before_a_write_could_pass_their_bound() {
        for aead in [Aead::Aes128Gcm, Aead::Aes256Gcm] {
            let bound = (1 << 24) - WRITE_RECORDS_MAX - 16;
            let (server, _) = pair(Version::Tls13, aead, bound - 1);
            assert!(!server.is_worn());
            let (mut server, mut client) = pair(Version::Tls13, aead, bound);
            assert!(server.is_worn());
            let mut out = [0; MESSAGE_BYTES_MAX];
            let count = server.rekey(&mut Ciphers::default(), &mut out).unwrap();
            assert!(!server.is_worn());
            let requested = opened(&mut client, out[..count].to_vec()).unwrap().0;
            assert_eq!(requested, Opened::Answer(Answer::KeyUpdate), "the client is to take new keys too");
            let record = sealed(&mut server, APPLICATION_DATA, b"with the new keys");
            assert_eq!(opened(&mut client, record).unwrap().1, b"with the new keys");
            // The answer to it is not one of the 32 that the client may send of itself.
            for _ in 0..33 {
                let count = client.answer(&mut Ciphers::default(), Answer::KeyUpdate, &mut out).unwrap();
                opened(&mut server, out[..count].to_vec()).unwrap();
            }
            let count = client.answer(&mut Ciphers::default(), Answer::KeyUpdate, &mut out).unwrap();
            assert_eq!(opened(&mut server, out[..count].to_vec()), Err(Fault::TooManyKeyUpdates));

            let (mut server, _) = pair(Version::Tls12, aead, bound);
            assert!(server.is_worn());
            assert_eq!(server.rekey(&mut Ciphers::default(), &mut out), Err(Fault::Exhausted));
            assert!(server.close(&mut out).is_ok(), "close_notify still has room");
        }
        let (server, _) = pair(Version::Tls12, Aead::Chacha20Poly1305, 1 << 60);
        assert!(!server.is_worn());
    }

    #[test]
    fn keys_that_share_a_place_among_ciphers_are_not_mixed_up() {
        // Of three suites, whose keys all begin with the same bytes.
        let mut ciphers = Ciphers::default();
        let mut pairs: Vec<_> = suites().map(|(version, aead)| pair(version, aead, 0)).collect();
        for turn in 0..3_u8 {
            for (server, client) in &mut pairs {
                for (from, to) in [(0, 1), (1, 0)] {
                    let ends = [&mut *server, &mut *client];
                    let mut out = [0; 64];
                    let mut plain = Some([turn; 5]);
                    let kept = [turn; 5];
                    let count = ends[from]
                        .seal_data(&mut ciphers, || plain.take().map(|_| &kept[..]), &mut out)
                        .unwrap();
                    let (_, opened) = ends[to].open(&mut ciphers, &mut out[..count]).unwrap();
                    let Opened::Data(place) = opened else { panic!("{opened:?}") };
                    assert_eq!(out[place], kept);
                    if turn == 1 {
                        ends[to].forget(&mut ciphers);
                    }
                }
            }
        }
    }

    #[test]
    fn parts_of_another_length_are_no_keys() {
        for (version, aead) in suites() {
            for (traffic, key, iv) in [(31, 32, 12), (32, 31, 12), (32, 32, 11), (48, 15, 12), (48, 32, 13)] {
                let of = Secrets {
                    traffic: &[1; 48][..traffic],
                    key: &[1; 32][..key],
                    iv: &[1; 13][..iv],
                    sequence: 0,
                };
                assert!(RecordLayer::new(version, aead, of, of).is_err(), "{version:?} {aead:?}");
            }
        }
    }
}
