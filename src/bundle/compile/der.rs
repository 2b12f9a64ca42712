//! The few pieces of DER that are parsed below the level of X.509.

use x509_parser::oid_registry::asn1_rs::{Any, FromDer};
use x509_parser::oid_registry::asn1_rs::{Class, Tag};

/// Most elements of a SEQUENCE that are read; none of those needed here has more than ten.
const ELEMENTS_MAX: usize = 16;

/// One element with its header, and its content.
pub(super) struct Element<'a> {
    pub(super) raw: &'a [u8],
    pub(super) content: &'a [u8],
    class: Class,
    tag: Tag,
}

impl Element<'_> {
    pub(super) fn is(&self, tag: Tag) -> bool {
        self.class == Class::Universal && self.tag == tag
    }

    /// `[number]` (X.690 §8.1.2.2).
    pub(super) fn is_context(&self, number: u32) -> bool {
        self.class == Class::ContextSpecific && self.tag.0 == number
    }
}

/// The elements that follow each other in `der`, as far as they can be read.
pub(super) fn elements(der: &[u8]) -> Vec<Element<'_>> {
    let (mut rest, mut found) = (der, Vec::new());
    while let (false, true, Ok((behind, any))) =
        (rest.is_empty(), found.len() < ELEMENTS_MAX, Any::from_der(rest))
    {
        let raw = rest.get(..rest.len() - behind.len()).unwrap_or_default();
        found.push(Element { raw, content: any.data, class: any.header.class(), tag: any.header.tag() });
        rest = behind;
    }
    found
}

/// The elements inside the one SEQUENCE that `der` is.
pub(super) fn sequence(der: &[u8]) -> Vec<Element<'_>> {
    match elements(der).as_slice() {
        [one, ..] if one.is(Tag::Sequence) => elements(one.content),
        _ => Vec::new(),
    }
}
