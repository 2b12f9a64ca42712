//! The field lines of a head, as offsets into its bytes.

use std::borrow::Cow;
use std::ops::Range;

use crate::http::fault::CONNECTION_OPTIONS_MAX;
use crate::http::field::Known;
use crate::limits::{FIELDS_MAX, RESPONSE_FIELDS_MAX};

/// One field line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field<'b> {
    /// Name, unchanged: a token.
    pub name: &'b [u8],
    /// Value without surrounding white space.
    pub value: &'b [u8],
    /// The whole line with its CRLF, as offsets in the head.
    pub line: Range<usize>,
    /// What its name means.
    pub(crate) known: Known,
}

/// The field lines of a head, in order.
#[derive(Clone, Debug)]
pub struct Fields<'b> {
    pub(super) head: &'b [u8],
    lines: Cow<'b, [Line]>,
    /// The result of [`Fields::connection_options`], found once, because each option is compared with every field name.
    pub(super) options: heapless::Vec<Span, CONNECTION_OPTIONS_MAX>,
}

/// Room for the field lines of a request's head, 10 bytes each. The caller's, so that a head in it can be moved for little.
pub type RequestLines = heapless::Vec<Line, FIELDS_MAX>;

/// The same for a response.
pub type ResponseLines = heapless::Vec<Line, RESPONSE_FIELDS_MAX>;

/// Offset in a head, and bytes.
type Span = (u16, u16);

/// Offsets of one field line; it ends where the next begins.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    start: u16,
    name_bytes: u16,
    value: u16,
    value_bytes: u16,
    known: Known,
}

impl<'b> Fields<'b> {
    /// `lines`: of this head, which was scanned, so that it has at most
    /// [`HEAD_BYTES_CEILING`](crate::http::scan::HEAD_BYTES_CEILING) bytes.
    pub(super) fn new(head: &'b [u8], lines: Cow<'b, [Line]>) -> Self {
        Self { head, lines, options: heapless::Vec::new() }
    }

    /// All field lines in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Field<'b>> + '_ {
        (0..self.lines.len()).filter_map(|index| self.at(index))
    }

    /// Those whose name `is_wanted`.
    pub(super) fn wanted(&self, is_wanted: impl Fn(Known) -> bool) -> impl Iterator<Item = Field<'b>> {
        let wanted = move |(_, line): &(usize, &Line)| is_wanted(line.known);
        self.lines.iter().enumerate().filter(wanted).filter_map(|(index, _)| self.at(index))
    }

    /// Values of every line named `name`, in order; case-insensitive.
    pub fn values<'s>(&'s self, name: &'s str) -> impl DoubleEndedIterator<Item = &'b [u8]> + 's {
        let named = move |line: &&Line| self.name(line).eq_ignore_ascii_case(name.as_bytes());
        self.lines.iter().filter(named).map(|line| self.cut(line.value, line.value_bytes))
    }

    /// Values of every line whose name `is_wanted`, in order.
    pub(crate) fn known(&self, is_wanted: impl Fn(Known) -> bool) -> impl Iterator<Item = &'b [u8]> {
        let wanted = move |line: &&Line| is_wanted(line.known);
        self.lines.iter().filter(wanted).map(|line| self.cut(line.value, line.value_bytes))
    }

    /// Number of field lines.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there is no field line.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Connection options other than `close`, `keep-alive` and `upgrade`: names of fields that are removed here.
    pub(crate) fn connection_options(&self) -> impl Iterator<Item = &'b [u8]> + '_ {
        self.options.iter().map(|&(start, bytes)| self.cut(start, bytes))
    }

    /// The bytes that contain the fields.
    pub(crate) fn head(&self) -> &'b [u8] {
        self.head
    }

    /// Where the empty line at the end starts; in a response it may be a single LF.
    pub(crate) fn end(&self) -> usize {
        self.head.len() - usize::from(self.head.ends_with(b"\n")) - usize::from(self.head.ends_with(b"\r\n"))
    }

    #[inline]
    fn at(&self, index: usize) -> Option<Field<'b>> {
        let line = self.lines.get(index)?;
        let end = self.lines.get(index + 1).map_or(self.end(), |next| usize::from(next.start));
        let value = self.cut(line.value, line.value_bytes);
        Some(Field { name: self.name(line), value, line: usize::from(line.start)..end, known: line.known })
    }

    #[inline]
    fn name(&self, line: &Line) -> &'b [u8] {
        self.cut(line.start, line.name_bytes)
    }

    #[inline]
    fn cut(&self, start: u16, bytes: u16) -> &'b [u8] {
        let start = usize::from(start);
        self.head.get(start..start + usize::from(bytes)).unwrap_or_default()
    }
}

impl Line {
    /// Of a head with at most `N` fields.
    pub(super) fn all_in<'l, const N: usize>(
        head: &[u8],
        parsed: &[httparse::Header<'_>],
        lines: &'l mut heapless::Vec<Self, N>,
    ) -> Cow<'l, [Self]> {
        lines.clear();
        lines.extend(parsed.iter().take(N).map(|header| Self::new(head, header)));
        Cow::Borrowed(lines)
    }

    pub(super) fn all(head: &[u8], parsed: &[httparse::Header<'_>]) -> Cow<'static, [Self]> {
        parsed.iter().map(|header| Self::new(head, header)).collect()
    }

    fn new(head: &[u8], header: &httparse::Header<'_>) -> Self {
        let name = header.name.as_bytes();
        let value = trim(header.value);
        Self {
            start: narrow(offset_in(head, name)),
            name_bytes: narrow(name.len()),
            value: if value.is_empty() { 0 } else { narrow(offset_in(head, value)) },
            value_bytes: narrow(value.len()),
            known: Known::of(name),
        }
    }
}

/// Lossless: a scanned head is no longer than [`HEAD_BYTES_CEILING`](crate::http::scan::HEAD_BYTES_CEILING).
#[inline]
pub(super) fn narrow(offset: usize) -> u16 {
    u16::try_from(offset).unwrap_or(u16::MAX)
}

/// Members of a comma-separated list, empty ones left out (RFC 9110 §5.6.1).
pub(crate) fn list(value: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim).filter(|member| !member.is_empty())
}

/// Without surrounding spaces and tabs.
#[inline]
pub(crate) fn trim(value: &[u8]) -> &[u8] {
    let ows = |byte: &u8| matches!(byte, b' ' | b'\t');
    if let [first, .., last] | [first @ last] = value
        && !ows(first)
        && !ows(last)
    {
        return value; // the usual case
    }
    let start = value.iter().position(|byte| !ows(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !ows(byte)).map_or(start, |last| last + 1);
    value.get(start..end).unwrap_or_default()
}

/// Offset of `part` in `whole`, which it was sliced from.
#[inline]
pub(crate) fn offset_in(whole: &[u8], part: &[u8]) -> usize {
    part.as_ptr().addr().saturating_sub(whole.as_ptr().addr()).min(whole.len())
}
