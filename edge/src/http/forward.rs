//! The head sent upstream and the head sent to the client: hop-by-hop fields end here (RFC 9110 §7.6.1), forged
//! forwarding fields are removed and ours are set once.
//!
//! The upstream gets slices of the received head with a few inserted bytes between them: nothing is copied.

use std::fmt::Write as _;
use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use ipnet::IpNet;

use crate::http::body::Framing;
use crate::http::changes::FieldChanges;
use crate::http::field::Known;
use crate::http::head::{
    FIELDS_MAX, Field, Fields, HeadError, HeadFault, RequestHead, ResponseHead, Version, list, offset_in,
};

/// Pieces of a [`Plan`]: every second field may be dropped, our own bytes go to the request line, after X-Forwarded-For and
/// to the end, and values are joined at each of the forwarding fields that a trusted proxy may repeat.
pub const PLAN_PIECES_MAX: usize = FIELDS_MAX / 2 + 16 + JOINED.len();

/// Fields of a trusted proxy whose lines become one (RFC 9110 §5.3): each proxy may add a line of its own, and servers refuse
/// two or read the first (Home Assistant, Django).
const JOINED: [&str; 5] =
    ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "forwarded"];

/// Bytes of the lines that are joined to others of their name: 40 proxies with the longest addresses.
pub const PLAN_JOINED_BYTES_MAX: usize = 2048;

/// Bytes that a [`Plan`] inserts: three addresses of at most 39 bytes and some 250 fixed ones.
pub const PLAN_INSERTED_BYTES_MAX: usize = 448;

/// What the edge knows about a request in addition to its head.
#[derive(Clone, Copy, Debug)]
pub struct ForwardContext<'a> {
    /// The TCP peer, canonical (`::ffff:a.b.c.d` is the IPv4 address).
    pub peer: IpAddr,
    /// Trusted proxies.
    pub trusted_proxies: &'a [IpNet],
    /// The port that clients connect to.
    pub public_https_port: u16,
    /// Forwarded as a WebSocket upgrade; otherwise any Upgrade is removed.
    pub websocket: bool,
    /// Bytes at the start of the path that are not forwarded: a route's prefix. The rest begins with `/` or is empty.
    pub strip_bytes: usize,
    /// Sec-WebSocket-Extensions is forwarded. Without extensions, payloads are not compressed.
    pub extensions: bool,
}

/// The head to send upstream, as pieces of the client's head and inserted bytes. Owned and small; the pieces are valid
/// only with the head that it was planned for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    len: usize,
    pieces: heapless::Vec<Piece, PLAN_PIECES_MAX>,
    inserted: heapless::Vec<u8, PLAN_INSERTED_BYTES_MAX>,
    /// Values of lines that are joined to a later one: hardly ever any.
    joined: Vec<u8>,
}

/// Offsets, `start..end`. All sources are shorter than 2^16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    Head(u16, u16),
    Inserted(u16, u16),
    Joined(u16, u16),
}

/// How a response is sent to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseForm<'a> {
    /// Version of the client's request.
    pub client_version: Version,
    /// The client's connection stays open after this response.
    pub keep_alive: bool,
    /// How the body is delimited: as the upstream did, or `Chunked` for an until-close body, or `UntilClose` for an
    /// HTTP/1.0 client.
    pub framing_out: Framing,
    /// A checked 101: Connection and Upgrade are set anew.
    pub websocket: bool,
    /// What the site changes in the fields of a final response.
    pub changes: Option<&'a FieldChanges>,
}

/// The client of a request: the right-most X-Forwarded-For entry that is not a trusted proxy if the peer is one, else
/// the peer. An entry that is not an address ends the search at the proxy that wrote it.
pub fn client_address(peer: IpAddr, head: &RequestHead<'_>, trusted: &[IpNet]) -> IpAddr {
    if !is_trusted(peer, trusted) {
        return peer; // the usual case: the fields are not read
    }
    let mut client = peer;
    for entry in head.fields.values("x-forwarded-for").rev().flat_map(|value| list(value).rev()) {
        let Some(address) = address(entry) else { break };
        client = address;
        if !is_trusted(client, trusted) {
            break;
        }
    }
    client
}

fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|network| network.contains(&address))
}

/// An address as proxies write it: bare, in brackets, or with a port.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?;
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    bare.parse::<IpAddr>().ok().or_else(with_port).map(|address| address.to_canonical())
}

/// [`Plan::make`] in a plan of its own.
///
/// # Errors
/// The same.
pub fn request_plan(head: &RequestHead<'_>, context: &ForwardContext<'_>) -> Result<Plan, HeadError> {
    let mut plan = Plan::default();
    plan.make(head, context)?;
    Ok(plan)
}

impl Plan {
    /// Plans the head sent upstream, in place of what was planned before: always HTTP/1.1, the target in origin-form and
    /// otherwise unchanged, the fields in their order, ours at the end.
    ///
    /// # Errors
    /// If the plan exceeds its bounds, which no head within [`FIELDS_MAX`] fields does.
    pub fn make(&mut self, head: &RequestHead<'_>, context: &ForwardContext<'_>) -> Result<(), HeadError> {
        self.len = 0;
        self.pieces.clear();
        self.inserted.clear();
        self.joined.clear();
        self.request(head, context).map_err(|fault| HeadError { offset: 0, fault })
    }

    /// Bytes of the head sent upstream.
    #[allow(clippy::len_without_is_empty)] // a head is never empty
    pub fn len(&self) -> usize {
        self.len
    }

    /// The rest after `written` bytes, for a vectored write; at most `N` slices at once, so less than the whole if
    /// `out` is full. `head` is the head that the plan was made for. `out` is cleared first.
    pub fn slices<'a, const N: usize>(
        &'a self,
        head: &'a [u8],
        written: usize,
        out: &mut heapless::Vec<IoSlice<'a>, N>,
    ) {
        out.clear();
        let mut skip = written;
        for piece in &self.pieces {
            let bytes = self.bytes(head, *piece);
            let left = bytes.get(skip.min(bytes.len())..).unwrap_or_default();
            skip = skip.saturating_sub(bytes.len());
            if !left.is_empty() && out.push(IoSlice::new(left)).is_err() {
                return;
            }
        }
    }

    fn bytes<'a>(&'a self, head: &'a [u8], piece: Piece) -> &'a [u8] {
        let (source, start, end) = match piece {
            Piece::Head(start, end) => (head, start, end),
            Piece::Inserted(start, end) => (self.inserted.as_slice(), start, end),
            Piece::Joined(start, end) => (self.joined.as_slice(), start, end),
        };
        source.get(usize::from(start)..usize::from(end)).unwrap_or_default()
    }

    fn request(&mut self, head: &RequestHead<'_>, context: &ForwardContext<'_>) -> Result<(), HeadFault> {
        let trusted = is_trusted(context.peer, context.trusted_proxies);
        self.request_line(head, context)?;
        let last_chain = trusted.then(|| last_forwarded_for(&head.fields)).flatten();
        for mut field in head.fields.iter() {
            if trusted && field.known == Known::Forwarding && JOINED.iter().any(|name| is_named(&field, name))
            {
                if !is_last_said(&field, &head.fields) {
                    continue;
                }
                self.join(&mut field, &head.fields)?;
            }
            if last_chain.as_ref().is_some_and(|last| last.line.end == field.line.end) {
                // the chain continues: what the trusted proxy wrote, then the proxy itself
                self.keep(field.line.start..value_end(&head.fields, &field))?;
                self.insert(", ")?;
                self.insert_bytes(&address_text(context.peer))?;
                self.insert("\r\n")?;
            } else if passes_upstream(&field, head, trusted)
                && (context.extensions || field.known != Known::Extensions)
            {
                self.keep(field.line)?;
            }
        }
        self.own_fields(head, context, trusted, last_chain.is_some())?;
        self.insert("\r\n")
    }

    /// Puts the values of earlier lines of its name in front of a field's own. What is left of its line is then its value.
    fn join(&mut self, field: &mut Field<'_>, fields: &Fields<'_>) -> Result<(), HeadFault> {
        let start = self.joined.len();
        let earlier = fields.iter().take_while(|other| other.line.start < field.line.start);
        for other in earlier.filter(|other| is_same(field, other) && !other.value.is_empty()) {
            self.joined.extend_from_slice(other.value);
            self.joined.extend_from_slice(b", ");
        }
        let end = self.joined.len();
        if end > PLAN_JOINED_BYTES_MAX {
            return Err(HeadFault::PlanTooLong { limit: PLAN_JOINED_BYTES_MAX });
        }
        if end > start {
            let value = value_end(fields, field) - field.value.len();
            self.keep(field.line.start..value)?;
            field.line.start = value;
            self.len += end - start;
            let piece = Piece::Joined(start as u16, end as u16); // lossless: PLAN_JOINED_BYTES_MAX < 2^16
            self.pieces.push(piece).map_err(|_| HeadFault::PlanTooLong { limit: PLAN_PIECES_MAX })?;
        }
        Ok(())
    }

    /// Method, target and version, sliced from the received line where possible.
    fn request_line(
        &mut self,
        head: &RequestHead<'_>,
        context: &ForwardContext<'_>,
    ) -> Result<(), HeadFault> {
        let bytes = head.fields.head();
        let method = offset_in(bytes, head.method.as_bytes());
        let target = offset_in(bytes, head.target.as_bytes());
        let target_end = target + head.target.len();
        let line_end = target_end + " HTTP/1.1\r\n".len();
        let local = local_target(head);
        let stripped = local.get(context.strip_bytes..).unwrap_or_default();
        if stripped.len() == head.target.len() && head.version == Version::Http11 {
            return self.keep(method..line_end);
        }
        self.keep(method..target)?;
        // Of an absolute-form without a path, or of a prefix that is stripped, only the query may be left.
        if !stripped.starts_with('/') {
            self.insert("/")?;
        }
        self.keep(target_end - stripped.len()..target_end)?;
        self.insert(" HTTP/1.1\r\n")
    }

    fn own_fields(
        &mut self,
        head: &RequestHead<'_>,
        context: &ForwardContext<'_>,
        trusted: bool,
        chained: bool,
    ) -> Result<(), HeadFault> {
        let set = |name: &str| !(trusted && head.fields.values(name).next().is_some());
        if head.fields.known(|known| known == Known::Host).next().is_none() {
            self.insert("Host: ")?;
            self.authority(head)?;
        }
        let peer = address_text(context.peer);
        if !chained {
            self.insert("X-Forwarded-For: ")?;
            self.insert_bytes(&peer)?;
            self.insert("\r\n")?;
        }
        if set("x-forwarded-proto") {
            self.insert("X-Forwarded-Proto: https\r\n")?;
        }
        if set("x-forwarded-host") {
            self.insert("X-Forwarded-Host: ")?;
            self.authority(head)?;
        }
        if set("x-forwarded-port") {
            self.insert("X-Forwarded-Port: ")?;
            self.insert_bytes(decimal(context.public_https_port.into(), &mut [0; 20]))?;
            self.insert("\r\n")?;
        }
        let client = client_address(context.peer, head, context.trusted_proxies);
        let client = if client == context.peer { peer } else { address_text(client) };
        self.insert("X-Real-IP: ")?;
        self.insert_bytes(&client)?;
        self.insert("\r\n")?;
        if head.framing == Framing::Chunked {
            self.insert("Transfer-Encoding: chunked\r\n")?;
        }
        if context.websocket {
            self.insert("Connection: Upgrade\r\nUpgrade: websocket\r\n")?;
        }
        Ok(())
    }

    fn authority(&mut self, head: &RequestHead<'_>) -> Result<(), HeadFault> {
        let start = offset_in(head.fields.head(), head.authority.as_bytes());
        self.keep(start..start + head.authority.len())?;
        self.insert("\r\n")
    }

    /// Appends bytes of the client's head; neighbours become one piece.
    #[inline]
    fn keep(&mut self, range: Range<usize>) -> Result<(), HeadFault> {
        let too_long = HeadFault::PlanTooLong { limit: PLAN_PIECES_MAX };
        let (Ok(start), Ok(end)) = (u16::try_from(range.start), u16::try_from(range.end)) else {
            return Err(too_long);
        };
        self.len += range.len();
        match self.pieces.last_mut() {
            Some(Piece::Head(_, last)) if *last == start => *last = end,
            _ => self.pieces.push(Piece::Head(start, end)).map_err(|_| too_long)?,
        }
        Ok(())
    }

    /// Appends text of our own.
    fn insert(&mut self, text: &str) -> Result<(), HeadFault> {
        self.insert_bytes(text.as_bytes())
    }

    #[inline]
    fn insert_bytes(&mut self, bytes: &[u8]) -> Result<(), HeadFault> {
        let start = self.inserted.len();
        let too_long = HeadFault::PlanTooLong { limit: PLAN_INSERTED_BYTES_MAX };
        self.inserted.extend_from_slice(bytes).map_err(|_| too_long)?;
        let (start, end) = (start as u16, self.inserted.len() as u16); // lossless: PLAN_INSERTED_BYTES_MAX < 2^16
        self.len += usize::from(end - start);
        match self.pieces.last_mut() {
            Some(Piece::Inserted(_, last)) if *last == start => *last = end,
            _ => {
                let too_long = HeadFault::PlanTooLong { limit: PLAN_PIECES_MAX };
                self.pieces.push(Piece::Inserted(start, end)).map_err(|_| too_long)?;
            }
        }
        Ok(())
    }
}

/// What `Display` writes, faster for the common kind: each request has an address, and formatting it took a tenth of a
/// request's instructions.
fn address_text(address: IpAddr) -> heapless::Vec<u8, 45> {
    let mut text = heapless::Vec::new();
    let written = match address {
        IpAddr::V4(address) => address
            .octets()
            .iter()
            .enumerate()
            .try_for_each(|(at, &octet)| {
                let digits = [octet / 100, octet / 10 % 10, octet % 10].map(|digit| b'0' + digit);
                let zeros = digits.iter().take(2).take_while(|&&digit| digit == b'0').count();
                let dot: &[u8] = if at == 0 { b"" } else { b"." };
                text.extend_from_slice(dot)?;
                text.extend_from_slice(digits.get(zeros..).unwrap_or_default())
            })
            .is_ok(),
        IpAddr::V6(address) => write!(text, "{address}").is_ok(),
    };
    debug_assert!(written, "an address has at most 45 bytes");
    text
}

/// The end of the target that goes upstream: the whole of an origin-form, what follows the authority of an
/// absolute-form. Begins with `/`, or is empty if the path has to be inserted.
fn local_target<'b>(head: &RequestHead<'b>) -> &'b str {
    if head.target.starts_with('/') {
        return head.target;
    }
    let after_scheme = head.target.split_once("://").map_or("", |(_, rest)| rest);
    let local = after_scheme.find(['/', '?']).unwrap_or(after_scheme.len());
    after_scheme.get(local..).unwrap_or_default()
}

/// Path and query of a request, as they came.
pub fn origin_form<'b>(head: &RequestHead<'b>) -> &'b str {
    match local_target(head) {
        "" => "/",
        local => local,
    }
}

/// The X-Forwarded-For line that our peer is added to.
fn last_forwarded_for<'b>(fields: &Fields<'b>) -> Option<Field<'b>> {
    let is_chain = |field: &Field<'_>| field.name.eq_ignore_ascii_case(b"x-forwarded-for");
    fields.iter().rfind(|field| is_chain(field) && !field.value.is_empty())
}

fn is_named(field: &Field<'_>, name: &str) -> bool {
    field.name.eq_ignore_ascii_case(name.as_bytes())
}

fn is_same(field: &Field<'_>, other: &Field<'_>) -> bool {
    field.name.eq_ignore_ascii_case(other.name)
}

/// Whether a field is the last of its name that says something; where none does, the last.
fn is_last_said(field: &Field<'_>, fields: &Fields<'_>) -> bool {
    let mut others = fields.iter().filter(|other| is_same(field, other));
    let later = |other: &Field<'_>| other.line.start > field.line.start;
    match field.value.is_empty() {
        true => !others.any(|other| later(&other) || !other.value.is_empty()),
        false => !others.any(|other| later(&other) && !other.value.is_empty()),
    }
}

fn value_end(fields: &Fields<'_>, field: &Field<'_>) -> usize {
    offset_in(fields.head(), field.value) + field.value.len()
}

/// Whether a field of the request goes upstream as it came.
fn passes_upstream(field: &Field<'_>, head: &RequestHead<'_>, trusted: bool) -> bool {
    match field.known {
        _ if ends_here(field, &head.fields) => false,
        Known::RealIp => false,
        Known::Forwarding => {
            // `X_Forwarded_For` is nobody's honest spelling; an empty chain is no chain
            let chain = field.name.eq_ignore_ascii_case(b"x-forwarded-for");
            trusted && !field.name.contains(&b'_') && !(chain && field.value.is_empty())
        }
        Known::Expect => head.version != Version::Http10,
        _ => true,
    }
}

/// Whether a field ends at this hop: by its name, or because Connection names it.
#[inline]
fn ends_here(field: &Field<'_>, fields: &Fields<'_>) -> bool {
    field.known.is_hop_by_hop()
        || fields.connection_options().any(|option| option.eq_ignore_ascii_case(field.name))
}

/// Appends the head sent to the client to `out`. The version and the ends of lines are always ours (RFC 9112 §2.2, §2.3), and
/// there is one Content-Length at most; the reason and the order of fields are as they came.
pub fn response_head(head: &ResponseHead<'_>, form: &ResponseForm<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    push_status(head.status, out);
    out.push(b' ');
    out.extend_from_slice(head.reason);
    out.extend_from_slice(b"\r\n");
    let bytes = head.fields.head();
    let mut length = head.length;
    for field in head.fields.iter().filter(|field| passes_downstream(field, head)) {
        if form.changes.is_some_and(|changes| changes.replaces(field.name)) {
            continue;
        }
        match (field.known, length) {
            (Known::ContentLength, None) => continue, // said already
            (Known::ContentLength, Some(bytes)) => {
                out.extend_from_slice(field.name);
                out.extend_from_slice(b": ");
                out.extend_from_slice(decimal(bytes, &mut [0; 20]));
                out.extend_from_slice(b"\r\n");
                length = None;
            }
            _ => push_line(bytes.get(field.line).unwrap_or_default(), out),
        }
    }
    out.extend_from_slice(form.changes.map(FieldChanges::lines).unwrap_or_default());
    push_own_fields(head, form, out);
    out.extend_from_slice(b"\r\n");
}

/// What `Display` writes, for less.
fn decimal(mut number: u64, room: &mut [u8; 20]) -> &[u8] {
    let mut start = room.len();
    for digit in room.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        start -= 1;
        if number == 0 {
            break;
        }
    }
    room.get(start..).unwrap_or_default()
}

/// A line as it came, but with CRLF at its end.
fn push_line(line: &[u8], out: &mut Vec<u8>) {
    if line.ends_with(b"\r\n") {
        return out.extend_from_slice(line);
    }
    out.extend_from_slice(line.strip_suffix(b"\n").unwrap_or(line));
    out.extend_from_slice(b"\r\n");
}

fn passes_downstream(field: &Field<'_>, head: &ResponseHead<'_>) -> bool {
    if field.known == Known::ContentLength {
        // RFC 9110 §8.6 forbids it in 1xx and 204; a client that believed it would wait
        return !matches!(head.status, 100..=199 | 204);
    }
    let advice = field.known == Known::Upgrade && advises_upgrade(head);
    advice || !ends_here(field, &head.fields)
}

/// RFC 9110 §15.5.22: a 426 must say what to upgrade to.
fn advises_upgrade(head: &ResponseHead<'_>) -> bool {
    head.status == 426 && head.fields.known(|known| known == Known::Upgrade).next().is_some()
}

/// Transfer-Encoding, Connection and Upgrade of this hop.
fn push_own_fields(head: &ResponseHead<'_>, form: &ResponseForm<'_>, out: &mut Vec<u8>) {
    if form.framing_out == Framing::Chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    let interim = matches!(head.status, 100..=199);
    let connection: &[u8] = match (advises_upgrade(head), form.keep_alive) {
        _ if form.websocket => b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
        _ if interim => b"",
        (true, true) => b"Connection: Upgrade\r\n",
        (true, false) => b"Connection: Upgrade, close\r\n",
        (false, true) if form.client_version == Version::Http10 => b"Connection: keep-alive\r\n",
        (false, true) => b"",
        (false, false) => b"Connection: close\r\n",
    };
    out.extend_from_slice(connection);
}

/// Three digits; a status is 100 to 999.
pub(crate) fn push_status(status: u16, out: &mut Vec<u8>) {
    let digit = |number: u16| b'0' + (number % 10) as u8;
    out.extend_from_slice(&[digit(status / 100), digit(status / 10), digit(status)]);
}

#[cfg(test)]
mod tests;
