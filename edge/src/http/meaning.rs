//! What the fields of a head decide: the host, where the message ends, and whether its connection persists.

use crate::http::body::Framing;
use crate::http::fault::{CONNECTION_OPTIONS_MAX, HeadError, HeadFault, Version};
use crate::http::field::{Known, has_prefix, same_name};
use crate::http::lines::{Fields, list, narrow, offset_in, trim};
use crate::http::scan::is_token;

/// The fields that decide where a message ends and whether its connection persists.
#[derive(Default)]
pub(super) struct Meaning<'b> {
    pub(super) host: Option<&'b [u8]>,
    pub(super) length: Option<u64>,
    chunked: bool,
    close: bool,
    persist: bool,
    pub(super) upgrade: bool,
    pub(super) expects: bool,
    /// One length said several times.
    pub(super) repaired: bool,
    options: heapless::Vec<&'b [u8], CONNECTION_OPTIONS_MAX>,
}

impl<'b> Meaning<'b> {
    /// Whether a field decides something in a message of this kind.
    fn decides(known: Known, of_request: bool) -> bool {
        match known {
            Known::ContentLength | Known::TransferEncoding | Known::Connection => true,
            Known::Host | Known::Expect => of_request,
            _ => false,
        }
    }

    pub(super) fn read(
        fields: &mut Fields<'b>,
        version: Version,
        of_request: bool,
    ) -> Result<Self, HeadError> {
        let mut meaning = Self::default();
        for field in fields.wanted(|known| Self::decides(known, of_request)) {
            let taken = if field.name.contains(&b'_') {
                Err(HeadFault::UnderscoreInName)
            } else if of_request
                && field.known != Known::Connection
                && fields.head.get(field.line.clone()).is_some_and(|line| line.contains(&b'\t'))
            {
                Err(HeadFault::TabInFraming)
            } else {
                meaning.take(field.known, field.value, version, of_request)
            };
            taken.map_err(|fault| HeadError { offset: field.line.start, fault })?;
        }
        let span = |option: &&[u8]| (narrow(offset_in(fields.head, option)), narrow(option.len()));
        fields.options = meaning.options.iter().map(span).collect();
        Ok(meaning)
    }

    fn take(
        &mut self,
        known: Known,
        value: &'b [u8],
        version: Version,
        of_request: bool,
    ) -> Result<(), HeadFault> {
        match known {
            Known::Host if self.host.replace(value).is_some() => Err(HeadFault::HostRepeated),
            Known::ContentLength if of_request => self.take_length(value),
            // RFC 9110 §8.6 lets one length be said several times.
            Known::ContentLength => {
                value.split(|&byte| byte == b',').try_for_each(|one| self.take_equal_length(trim(one)))
            }
            Known::TransferEncoding => self.take_coding(value, version),
            Known::Connection => list(value).try_for_each(|option| self.take_option(option)),
            Known::Expect => self.take_expectations(value, version),
            _ => Ok(()),
        }
    }

    fn take_length(&mut self, value: &[u8]) -> Result<(), HeadFault> {
        let length = decimal(value).ok_or(HeadFault::LengthMalformed)?;
        match (self.chunked, self.length.replace(length)) {
            (true, _) => Err(HeadFault::LengthAndCoding),
            (_, Some(_)) => Err(HeadFault::LengthRepeated),
            _ => Ok(()),
        }
    }

    fn take_equal_length(&mut self, value: &[u8]) -> Result<(), HeadFault> {
        if self.length.is_none() {
            return self.take_length(value);
        }
        self.repaired = true;
        match decimal(value) {
            None => Err(HeadFault::LengthMalformed),
            length if length != self.length => Err(HeadFault::LengthRepeated),
            _ => Ok(()),
        }
    }

    fn take_coding(&mut self, value: &'b [u8], version: Version) -> Result<(), HeadFault> {
        let chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
        let name = |coding: &'b [u8]| trim(coding.split(|&byte| byte == b';').next().unwrap_or_default());
        if version == Version::Http10 {
            Err(HeadFault::CodingInHttp10)
        } else if self.length.is_some() {
            Err(HeadFault::LengthAndCoding)
        } else if std::mem::replace(&mut self.chunked, true) {
            Err(HeadFault::CodingMalformed)
        } else if chunked(value) {
            Ok(())
        } else if list(value)
            .any(|coding| !is_token(name(coding)) || chunked(name(coding)) && !chunked(coding))
        {
            Err(HeadFault::CodingMalformed) // chunked has no parameters (RFC 9112 §7.1)
        } else if list(value).filter(|coding| chunked(coding)).count() == 1
            && list(value).next_back().is_some_and(chunked)
        {
            // `gzip, chunked` is framed correctly, but gzip is not supported
            let alone = list(value).count() == 1;
            Err(if alone { HeadFault::CodingMalformed } else { HeadFault::CodingUnknown })
        } else if list(value).any(chunked) || list(value).next().is_none() {
            Err(HeadFault::CodingMalformed)
        } else {
            Err(HeadFault::CodingUnknown)
        }
    }

    fn take_option(&mut self, option: &'b [u8]) -> Result<(), HeadFault> {
        match option {
            _ if option.eq_ignore_ascii_case(b"close") => self.close = true,
            _ if option.eq_ignore_ascii_case(b"keep-alive") => self.persist = true,
            _ if option.eq_ignore_ascii_case(b"upgrade") => self.upgrade = true,
            _ if !is_token(option) => return Err(HeadFault::ConnectionMalformed),
            _ if is_end_to_end(option) => return Err(HeadFault::ConnectionNamesField),
            _ => return self.options.push(option).map_err(|_| HeadFault::ConnectionMalformed),
        }
        Ok(())
    }

    /// RFC 9110 §10.1.1: HTTP/1.0 does not know Expect.
    fn take_expectations(&mut self, value: &[u8], version: Version) -> Result<(), HeadFault> {
        self.expects = true;
        let mut members = list(value).map(|member| member.eq_ignore_ascii_case(b"100-continue"));
        let known = members.next().is_some_and(|first| first && members.all(|other| other));
        if known || version == Version::Http10 { Ok(()) } else { Err(HeadFault::ExpectationUnknown) }
    }

    /// RFC 9112 §6.3, 3 to 6; contradictions were refused already.
    pub(super) fn framing(&self) -> Option<Framing> {
        if self.chunked { Some(Framing::Chunked) } else { self.length.map(Framing::Length) }
    }

    /// RFC 9112 §9.3.
    pub(super) fn keep_alive(&self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.persist)
    }
}

/// Fields that Connection must not name, because the message changes without them (RFC 9110 §7.6.1: an option never
/// corresponds to a field that is intended for all recipients).
fn is_end_to_end(option: &[u8]) -> bool {
    const EXACT: [&str; 12] = [
        "content-type",
        "content-encoding",
        "content-range",
        "cookie",
        "set-cookie",
        "authorization",
        "origin",
        "cache-control",
        "range",
        "vary",
        "location",
        "access-control-allow-origin",
    ];
    match Known::of(option) {
        Known::Host | Known::ContentLength | Known::TransferEncoding | Known::Connection | Known::Expect => {
            true
        }
        Known::Forwarding | Known::RealIp => true,
        _ => EXACT.iter().any(|name| same_name(option, name)) || has_prefix(option, "sec-websocket-"),
    }
}

/// `1*DIGIT` below 2^63, the limit of other parsers; no sign, no space, no list, and no leading zero, which some read
/// as octal.
fn decimal(value: &[u8]) -> Option<u64> {
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| i64::from(byte - b'0'));
    let append = |number: i64, byte| number.checked_mul(10)?.checked_add(digit(byte)?);
    match value {
        [] | [b'0', _, ..] => None,
        _ => value.iter().try_fold(0, append)?.try_into().ok(),
    }
}
