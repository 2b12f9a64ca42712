//! Our record layer beside rustls's: the same records to both, then plaintext, alerts and state are compared.
//!
//! Two connections with the same keys come from a handshake in which nothing is random: what the client said once is said to both.

#![allow(clippy::panic, clippy::expect_used, clippy::indexing_slicing)] // a fuzz entry has no other way to say no

use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    ActiveKeyExchange, CryptoProvider, GetRandomFailed, SecureRandom, SharedSecret, SupportedKxGroup,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::sign::{CertifiedKey, Signer, SigningKey, SingleCertAndKey};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, InvalidMessage, NamedGroup, ServerConfig,
    SignatureAlgorithm, SignatureScheme, SupportedProtocolVersion,
};

use crate::edge::net::handshake::Extracted;
use crate::edge::shared::traffic_secrets;
use crate::record::{
    Answer, Ciphers, Fault, MESSAGE_BYTES_MAX, Opened, PLAIN_BYTES_MAX, RECORD_EXTRA_BYTES, RecordLayer,
};

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;

/// Entry of the fuzz target: the first byte chooses version and suite, the rest is what a client does, step by step.
pub fn fuzz_records(data: &[u8]) {
    let Some((first, mut steps)) = data.split_first() else { return };
    let handshakes = handshakes();
    let handshake = &handshakes[usize::from(*first) % handshakes.len()];
    let mut both = Both::after(handshake);
    while let [step, rest @ ..] = steps {
        steps = both.step(*step, rest);
        if both.compare() {
            return;
        }
    }
}

/// The same connection twice, and its client.
struct Both {
    is_tls13: bool,
    /// The ClientHello of the handshake, a message.
    hello: Vec<u8>,
    ours: Ours,
    rustls: Rustls,
    client: Client,
}

/// The client: what it seals goes to both; what each server seals is opened apart, because each answers when it likes.
struct Client {
    layer: RecordLayer,
    reads_ours: RecordLayer,
    reads_rustls: RecordLayer,
    /// Sealed, and not given to the servers yet.
    wire: Vec<u8>,
    did: Did,
}

/// What the client has done so far that a server may refuse.
#[derive(Default)]
struct Did {
    /// Bytes of its own instead of records, or contents other than data, whole KeyUpdates and whole ClientHellos.
    is_wild: bool,
    has_sent_too_much: bool,
    /// The most at once without data between them.
    key_updates: Run,
    empty_records: Run,
}

#[derive(Default)]
struct Run {
    now: usize,
    longest: usize,
}

impl Run {
    fn one_more(&mut self) {
        self.now += 1;
        self.longest = self.longest.max(self.now);
    }
}

/// What a server has made of what it was given.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    plain: Vec<u8>,
    has_close_notify: bool,
}

struct Ours {
    layer: RecordLayer,
    ciphers: Ciphers,
    input: Vec<u8>,
    seen: Seen,
    fault: Option<Fault>,
    has_renegotiated: bool,
    has_answered: bool,
    sent: Vec<u8>,
}

struct Rustls {
    tls: UnbufferedServerConnection,
    input: Vec<u8>,
    seen: Seen,
    fault: Option<rustls::Error>,
    sent: Vec<u8>,
}

impl Both {
    fn after(handshake: &Recorded) -> Self {
        let _ = traffic_secrets::take();
        let tls = handshake.replay();
        let traffic = traffic_secrets::take().unwrap_or_default();
        let keys = Extracted::of(tls, traffic).expect("the recorded handshake");
        let client = || keys.client().expect("the recorded handshake");
        Self {
            is_tls13: handshake.version.version == rustls::ProtocolVersion::TLSv1_3,
            hello: handshake.flights[0][5..].to_vec(),
            ours: Ours {
                layer: keys.server().expect("the recorded handshake"),
                ciphers: Ciphers::default(),
                input: Vec::new(),
                seen: Seen::default(),
                fault: None,
                has_renegotiated: false,
                has_answered: false,
                sent: Vec::new(),
            },
            rustls: Rustls::new(handshake.replay()),
            client: Client {
                layer: client(),
                reads_ours: client(),
                reads_rustls: client(),
                wire: Vec::new(),
                did: Did::default(),
            },
        }
    }

    /// One step of the client or of the servers; what of `bytes` is left.
    fn step<'a>(&mut self, step: u8, bytes: &'a [u8]) -> &'a [u8] {
        let amount = usize::from(step >> 4);
        let (front, rest) = bytes.split_at(bytes.len().min(amount));
        let byte = |at: usize| front.get(at).copied().unwrap_or_default();
        self.client.did.is_wild |= matches!(step & 15, 2..=5 | 8..=10) || (step & 15 == 7 && byte(1) > 1);
        match step & 15 {
            0 => self.client.seal(APPLICATION_DATA, front),
            // Long: around the bound of a record.
            1 => self.client.seal(APPLICATION_DATA, &vec![byte(0); 16_384 - 8 + amount]),
            2 if self.is_tls13 => {
                // Content, its type, and zeros behind it; the last of them is where the type should be.
                let padding = vec![0; usize::from(byte(1)) << (byte(2) & 7)];
                self.client.seal(0, &[front, &[byte(0)], &padding].concat());
            }
            2 | 3 => self.client.seal(byte(0), front.get(1..).unwrap_or_default()),
            4 => self.client.seal(ALERT, front),
            5 => self.client.seal(HANDSHAKE, front),
            6 if self.is_tls13 => self.client.key_update(byte(0) & 1 == 1),
            7 if self.is_tls13 => self.client.key_update_in_pieces(byte(0), byte(1)),
            // In two pieces, or in one.
            6 | 7 => {
                let (first, rest) = self.hello.split_at(usize::from(byte(0)) % self.hello.len());
                [first, rest].into_iter().filter(|piece| !piece.is_empty()).for_each(|piece| {
                    self.client.seal(HANDSHAKE, piece);
                });
            }
            8 => {
                // A bit of what is on its way.
                let at = usize::from(u16::from_be_bytes([byte(0), byte(1)]));
                if let Some(at) = at.checked_rem(self.client.wire.len()) {
                    self.client.wire[at] ^= 1 << (byte(2) & 7);
                }
            }
            9 => self.client.wire.extend_from_slice(front),
            // A header: an empty record, a long one, a plain change_cipher_spec.
            10 => self.client.wire.extend_from_slice(&[byte(0), byte(1), 3, byte(2), byte(3)]),
            11 => (0..amount * 4).for_each(|_| self.client.seal(APPLICATION_DATA, &[])),
            12 if self.is_tls13 => (0..amount * 4).for_each(|_| self.client.key_update(byte(0) & 1 == 1)),
            12 => self.client.seal(APPLICATION_DATA, &[]),
            13 => self.write(&vec![byte(0); usize::from(byte(1)) << (byte(2) & 7)]),
            14 => self.give(usize::from(u16::from_be_bytes([byte(0), byte(1)]))),
            _ => self.give(usize::MAX),
        }
        rest
    }

    /// Gives both servers so many bytes of what is on its way.
    fn give(&mut self, most: usize) {
        let count = most.min(self.client.wire.len());
        let bytes: Vec<u8> = self.client.wire.drain(..count).collect();
        self.ours.take(&bytes);
        self.rustls.take(&bytes);
    }

    /// Both servers write the same, and the client reads it from both.
    fn write(&mut self, plain: &[u8]) {
        let is_over = self.ours.fault.is_some() || self.rustls.fault.is_some();
        if is_over || plain.is_empty() {
            return;
        }
        self.ours.write(plain);
        self.rustls.write(plain);
        let [ours, theirs] = [
            (&mut self.client.reads_ours, &mut self.ours.sent, "ours"),
            (&mut self.client.reads_rustls, &mut self.rustls.sent, "rustls"),
        ]
        .map(|(layer, sent, name)| {
            let (read, messages, fault) = read(layer, sent);
            assert_eq!(fault, None, "{name}: what was written is not read");
            assert_eq!(read.len(), plain.len(), "{name}");
            assert!(read == plain, "{name}: another plaintext");
            messages
        });
        assert_eq!(ours, theirs, "one answers what the other does not");
    }

    /// Panics if the servers differ in what they should not; whether one of them is over.
    fn compare(&mut self) -> bool {
        let (ours, theirs) = (&mut self.ours, &mut self.rustls);
        let renegotiates = ours.has_renegotiated || ours.fault == Some(Fault::Renegotiation);
        if renegotiates && self.client.did.is_wild && theirs.fault.is_some() {
            return true; // we do not read the body of a ClientHello that is refused anyway
        }
        match (ours.fault, &theirs.fault) {
            (None, None) => {
                assert_eq!(ours.seen, theirs.seen);
                ours.seen.has_close_notify
            }
            (Some(fault), theirs_fault) => {
                let (_, _, our_alert) = read(&mut self.client.reads_ours, &mut ours.sent);
                let our_alert = our_alert.and_then(alert);
                assert_eq!(
                    our_alert,
                    fault.alert().map(|alert| alert as u8),
                    "the alert is not what the fault says"
                );
                assert!(
                    theirs.seen.plain.starts_with(&ours.seen.plain),
                    "what came before {fault:?} is not what rustls read before {theirs_fault:?}"
                );
                assert!(self.client.did.explains(fault), "{fault:?}, and the client did nothing of the kind");
                if is_earlier(fault) {
                    return true; // rustls says so too, later or in another word
                }
                assert!(theirs_fault.is_some(), "{fault:?}, and rustls goes on");
                assert_eq!(ours.seen, theirs.seen, "{fault:?} beside {theirs_fault:?}");
                let (_, _, their_alert) = read(&mut self.client.reads_rustls, &mut theirs.sent);
                // rustls refuses these two by their length, before it looks whether they decrypt.
                let is_of_its_length = fault == Fault::Undecryptable
                    && matches!(
                        theirs_fault,
                        Some(rustls::Error::InvalidMessage(
                            InvalidMessage::InvalidEmptyPayload | InvalidMessage::MessageTooLarge
                        ))
                    );
                if let Some(their_alert) = their_alert.and_then(alert)
                    && !is_of_its_length
                {
                    assert_eq!(our_alert, Some(their_alert), "{fault:?} beside {theirs_fault:?}");
                }
                true
            }
            // rustls takes no record of this length, which RFC 5246 §6.2.3 allows.
            (None, Some(rustls::Error::InvalidMessage(InvalidMessage::MessageTooLarge)))
                if ours.input.starts_with(&longest_header(&ours.input)) =>
            {
                true
            }
            // We look at a header once all of it has come.
            (None, Some(rustls::Error::InvalidMessage(_))) if ours.input.len() < 5 => true,
            (None, Some(fault)) => panic!("rustls: {fault:?}, and ours goes on"),
        }
    }
}

/// That of a record of 2^14 + 2,048 bytes with the content type and the version at the front of `input`.
fn longest_header(input: &[u8]) -> [u8; 5] {
    match *input {
        [content, major, minor, ..] => [content, major, minor, 0x48, 0],
        _ => [0; 5],
    }
}

/// Whether ours refuses at the first byte that can tell, with the alert of the standard, what rustls refuses once all of it has come, with
/// another alert, or not at all: an outer content type other than application_data in TLS 1.3, handshake records without content, empty
/// records with KeyUpdates between them.
fn is_earlier(fault: Fault) -> bool {
    matches!(
        fault,
        Fault::ContentType(_)
            | Fault::TooLong
            | Fault::Version
            | Fault::EmptyHandshake
            | Fault::Interleaved
            | Fault::HandshakeMessage(_)
            | Fault::HandshakeLength
            | Fault::KeyUpdateInside
            | Fault::TooManyKeyUpdates
            | Fault::TooManyEmptyRecords
            | Fault::AlertLength
    )
}

fn alert(fault: Fault) -> Option<u8> {
    match fault {
        Fault::Alert(description) => Some(description),
        _ => None,
    }
}

impl Did {
    /// Whether a server that does nothing wrong could refuse this so. The wild ones are compared with what rustls says.
    fn explains(&self, fault: Fault) -> bool {
        self.is_wild
            || match fault {
                Fault::TooLong => self.has_sent_too_much,
                Fault::TooManyKeyUpdates => self.key_updates.longest > 32,
                Fault::TooManyEmptyRecords => self.empty_records.longest > 32,
                Fault::Renegotiation => true,
                _ => false,
            }
    }
}

/// Opens what a server has sent, and follows its KeyUpdates; also how many records were none of data.
fn read(layer: &mut RecordLayer, wire: &mut Vec<u8>) -> (Vec<u8>, usize, Option<Fault>) {
    let (mut plain, mut used, mut ciphers) = (Vec::new(), 0, Ciphers::default());
    let mut messages = 0;
    let fault = loop {
        let record = &mut wire[used..];
        match layer.open(&mut ciphers, record) {
            Ok((_, Opened::Partial)) => break None,
            Ok((count, opened)) => {
                used += count;
                match opened {
                    Opened::Data(place) => plain.extend_from_slice(&record[place]),
                    _ => messages += 1,
                }
            }
            Err(fault) => break Some(fault),
        }
    };
    wire.clear();
    (plain, messages, fault)
}

impl Client {
    fn seal(&mut self, content: u8, plain: &[u8]) {
        let did = &mut self.did;
        did.has_sent_too_much |= plain.len() > PLAIN_BYTES_MAX;
        match (content, plain) {
            (APPLICATION_DATA, []) => did.empty_records.one_more(),
            (APPLICATION_DATA, _) => (did.key_updates.now, did.empty_records.now) = (0, 0),
            _ => {}
        }
        let mut record = vec![0; plain.len() + RECORD_EXTRA_BYTES + 1];
        if let Ok(count) = self.layer.seal(content, plain, &mut record) {
            self.wire.extend_from_slice(&record[..count]);
        }
    }

    fn key_update(&mut self, is_requested: bool) {
        self.did.key_updates.one_more();
        let mut record = [0; MESSAGE_BYTES_MAX];
        let sealed = match is_requested {
            true => self.layer.rekey(&mut Ciphers::default(), &mut record),
            false => self.layer.answer(&mut Ciphers::default(), Answer::KeyUpdate, &mut record),
        };
        self.wire.extend_from_slice(&record[..sealed.expect("the keys of TLS 1.3 have others after them")]);
    }

    /// The first piece of so many bytes, the other with the rest.
    fn key_update_in_pieces(&mut self, first: u8, value: u8) {
        self.did.key_updates.one_more();
        let message = [24, 0, 0, 1, value];
        let (first, rest) = message.split_at(usize::from(first) % message.len());
        [first, rest]
            .into_iter()
            .filter(|piece| !piece.is_empty())
            .for_each(|piece| self.seal(HANDSHAKE, piece));
        self.layer.update_write().expect("the keys of TLS 1.3 have others after them");
    }
}

impl Ours {
    fn take(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        let mut used = 0;
        while self.fault.is_none() && !self.seen.has_close_notify {
            let record = &mut self.input[used..];
            match self.layer.open(&mut self.ciphers, record) {
                Ok((_, Opened::Partial)) => break,
                Ok((count, opened)) => {
                    used += count;
                    match opened {
                        Opened::Data(place) => self.seen.plain.extend_from_slice(&record[place]),
                        Opened::CloseNotify => self.seen.has_close_notify = true,
                        Opened::Answer(answer) => {
                            self.has_renegotiated |= answer == Answer::NoRenegotiation;
                            // One for all of them, as rustls, and as the edge does while it is unsent.
                            if !std::mem::replace(&mut self.has_answered, true) {
                                self.seal(|layer, ciphers, out| layer.answer(ciphers, answer, out));
                            }
                        }
                        Opened::Partial | Opened::Nothing => {}
                    }
                }
                Err(fault) => {
                    self.fault = Some(fault);
                    if let Some(alert) = fault.alert() {
                        self.seal(|layer, _, out| layer.alert(alert, out));
                    }
                }
            }
        }
        self.input.drain(..used);
    }

    fn seal(&mut self, seal: impl FnOnce(&mut RecordLayer, &mut Ciphers, &mut [u8]) -> Result<usize, Fault>) {
        let mut out = [0; MESSAGE_BYTES_MAX];
        let count = seal(&mut self.layer, &mut self.ciphers, &mut out).expect("room for a message");
        self.sent.extend_from_slice(&out[..count]);
    }

    fn write(&mut self, plain: &[u8]) {
        let mut out = vec![0; plain.len() + (plain.len() / 16_384 + 1) * (RECORD_EXTRA_BYTES + 1)];
        self.has_answered = false;
        let mut pieces = plain.chunks(16_384);
        let count = self
            .layer
            .seal_data(&mut self.ciphers, || pieces.next(), &mut out)
            .expect("room for the records");
        self.sent.extend_from_slice(&out[..count]);
    }
}

impl Rustls {
    fn new(tls: UnbufferedServerConnection) -> Self {
        Self { tls, input: Vec::new(), seen: Seen::default(), fault: None, sent: Vec::new() }
    }

    fn take(&mut self, bytes: &[u8]) {
        if self.fault.is_some() {
            return;
        }
        self.input.extend_from_slice(bytes);
        let mut used = 0;
        loop {
            let status = self.tls.process_tls_records(&mut self.input[used..]);
            let mut discard = status.discard;
            let mut is_idle = false;
            match status.state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.expect("rustls has opened it");
                        discard += record.discard;
                        self.seen.plain.extend_from_slice(record.payload);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, &mut self.sent),
                Ok(ConnectionState::TransmitTlsData(transmit)) => transmit.done(),
                Ok(ConnectionState::PeerClosed) => self.seen.has_close_notify = true,
                Ok(_) => is_idle = true,
                Err(error) => {
                    self.fault = Some(error);
                    self.take_alert();
                    return;
                }
            }
            used += discard;
            if is_idle {
                break;
            }
        }
        self.input.drain(..used);
    }

    /// Nothing else: it would read once more what it has refused.
    fn take_alert(&mut self) {
        while self.tls.wants_write() {
            match self.tls.process_tls_records(&mut []).state {
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, &mut self.sent),
                _ => break,
            }
        }
    }

    fn write(&mut self, plain: &[u8]) {
        let mut out = vec![0; plain.len() + 64 * (plain.len() / 16_384 + 3)];
        let ConnectionState::WriteTraffic(mut traffic) =
            self.tls.process_tls_records(&mut self.input).state.expect("rustls goes on")
        else {
            panic!("rustls does not write");
        };
        let count = traffic.encrypt(plain, &mut out).expect("room for the records");
        self.sent.extend_from_slice(&out[..count]);
    }
}

fn encode(mut data: EncodeTlsData<'_, ServerConnectionData>, sent: &mut Vec<u8>) {
    let mut record = Vec::new();
    if let Err(EncodeError::InsufficientSize(needed)) = data.encode(&mut record) {
        record.resize(needed.required_size, 0);
        let _ = data.encode(&mut record);
    }
    sent.extend_from_slice(&record);
}

/// What a client said in a handshake.
struct Recorded {
    version: &'static SupportedProtocolVersion,
    config: Arc<ServerConfig>,
    flights: Vec<Vec<u8>>,
}

impl Recorded {
    /// The server's end once it has heard all of it.
    fn replay(&self) -> UnbufferedServerConnection {
        let tls = UnbufferedServerConnection::new(Arc::clone(&self.config)).expect("the configuration");
        let mut server = Rustls::new(tls);
        self.flights.iter().for_each(|flight| server.take(flight));
        assert!(!server.tls.is_handshaking() && server.fault.is_none(), "{:?}", server.fault);
        server.tls
    }
}

/// One for each version and suite.
fn handshakes() -> &'static [Recorded] {
    static RECORDED: OnceLock<Vec<Recorded>> = OnceLock::new();
    RECORDED.get_or_init(|| {
        let provider = provider();
        let suites = provider.cipher_suites.iter();
        // Of those of TLS 1.2 the ones that go with the key.
        let ours = suites.filter(|suite| {
            matches!(u16::from(suite.suite()) >> 8, 0x13) || is_ecdsa(u16::from(suite.suite()))
        });
        ours.map(|suite| {
            let provider = Arc::new(CryptoProvider { cipher_suites: vec![*suite], ..provider.clone() });
            record(&provider, suite.version())
        })
        .collect()
    })
}

fn is_ecdsa(suite: u16) -> bool {
    matches!(suite, 0xc02b | 0xc02c | 0xcca9)
}

fn provider() -> CryptoProvider {
    CryptoProvider {
        kx_groups: vec![&Fixed],
        secure_random: &Fixed,
        ..rustls::crypto::ring::default_provider()
    }
}

/// Does a handshake, and keeps what the client said.
fn record(provider: &Arc<CryptoProvider>, version: &'static SupportedProtocolVersion) -> Recorded {
    let certificate = CertificateDer::from(vec![0x30, 0]);
    let key = CertifiedKey::new(vec![certificate], Arc::new(Fixed));
    let mut server = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[version])
        .expect("the suite goes with the version")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
    server.send_tls13_tickets = 0;
    server.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    server.enable_secret_extraction = true;
    server.key_log = Arc::new(traffic_secrets::Taken);
    let mut client = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[version])
        .expect("the suite goes with the version")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Fixed))
        .with_no_client_auth();
    client.resumption = rustls::client::Resumption::disabled();
    let name = ServerName::try_from("recre.store").expect("a name");
    let mut client = ClientConnection::new(Arc::new(client), name).expect("the configuration");

    let config = Arc::new(server);
    let tls = UnbufferedServerConnection::new(Arc::clone(&config)).expect("the configuration");
    let mut server = Rustls::new(tls);
    let mut flights = Vec::new();
    while client.is_handshaking() || server.tls.is_handshaking() {
        let mut flight = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut flight).expect("memory");
        }
        server.take(&flight);
        flights.push(flight);
        let mut sent = std::mem::take(&mut server.sent);
        let mut rest = sent.as_mut_slice() as &[u8];
        while !rest.is_empty() {
            client.read_tls(&mut rest).expect("memory");
            client.process_new_packets().expect("the server's flight");
        }
        assert!(flights.len() < 8 && server.fault.is_none(), "{:?}", server.fault);
    }
    Recorded { version, config, flights }
}

/// Nothing random, and nothing checked.
#[derive(Debug)]
struct Fixed;

impl SecureRandom for Fixed {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), GetRandomFailed> {
        buffer.fill(7);
        Ok(())
    }
}

impl SupportedKxGroup for Fixed {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, rustls::Error> {
        Ok(Box::new(Self))
    }
    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

impl ActiveKeyExchange for Fixed {
    fn complete(self: Box<Self>, _: &[u8]) -> Result<SharedSecret, rustls::Error> {
        Ok(SharedSecret::from(&[5; 32][..]))
    }
    fn pub_key(&self) -> &[u8] {
        &[9; 32]
    }
    fn group(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

impl SigningKey for Fixed {
    fn choose_scheme(&self, _: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        Some(Box::new(Self))
    }
    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for Fixed {
    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        Ok(vec![1; 64])
    }
    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP256_SHA256
    }
}

impl ServerCertVerifier for Fixed {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_suite_has_a_handshake() {
        assert_eq!(handshakes().len(), 6);
    }

    proptest! {
        #[test]
        fn ours_is_as_rustls(data in prop::collection::vec(any::<u8>(), 0..400)) {
            fuzz_records(&data);
        }
    }
}
