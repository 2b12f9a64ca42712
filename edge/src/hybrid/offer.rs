//! What a ClientHello offers of X25519MLKEM768: rustls shows the groups of a hello before it chooses a configuration, but not the shares.

use std::borrow::Cow;

use crate::bundle::PostQuantum;

/// X25519MLKEM768 in the registry of groups.
const GROUP: [u8; 2] = [0x11, 0xec];
/// RFC 8446 §4.2.1.
const TLS13: [u8; 2] = [3, 4];
/// Record and message types (RFC 8446 §5.1 and §4).
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// Of a message: type and length.
const MESSAGE_HEADER_BYTES: usize = 4;

/// What a ClientHello says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// `supported_versions` has TLS 1.3.
    pub tls13: bool,
    /// `supported_groups` has the group.
    pub group: bool,
    /// `key_share` has a share for it.
    pub share: bool,
}

impl Offer {
    /// Reads `records` up to the end of the ClientHello at their beginning. What is not one offers nothing.
    pub fn of(records: &[u8]) -> Self {
        message(records).and_then(|message| Self::in_message(&message)).unwrap_or_default()
    }

    /// Whether such a connection gets the group. A share without its group is against RFC 8446 §4.2.8, and the group without TLS 1.3
    /// is of no use.
    pub fn is_taken(self, choice: PostQuantum) -> bool {
        let can = self.tls13 && self.group;
        match choice {
            PostQuantum::Auto => can && self.share,
            PostQuantum::Prefer => can,
            PostQuantum::Off => false,
        }
    }

    /// RFC 8446 §4.1.2.
    fn in_message(mut message: &[u8]) -> Option<Self> {
        let rest = &mut message;
        take(rest, MESSAGE_HEADER_BYTES + 2 + 32)?; // version and random
        vector::<1>(rest)?; // session identifier
        vector::<2>(rest)?; // suites
        vector::<1>(rest)?; // compression
        let mut extensions = vector::<2>(rest)?;
        let mut offer = Self::default();
        while !extensions.is_empty() {
            let kind = take(&mut extensions, 2)?;
            let mut body = vector::<2>(&mut extensions)?;
            match *kind {
                [0, 10] => offer.group = has(vector::<2>(&mut body)?, GROUP),
                [0, 43] => offer.tls13 = has(vector::<1>(&mut body)?, TLS13),
                [0, 51] => offer.share = has_share(vector::<2>(&mut body)?)?,
                _ => {}
            }
        }
        Some(offer)
    }
}

fn has_share(mut shares: &[u8]) -> Option<bool> {
    let mut found = false;
    while !shares.is_empty() {
        found |= take(&mut shares, 2)? == GROUP;
        vector::<2>(&mut shares)?;
    }
    Some(found)
}

fn has(list: &[u8], wanted: [u8; 2]) -> bool {
    list.chunks_exact(2).any(|item| item == wanted)
}

/// The ClientHello at the beginning of `records`, over as many of them as it takes.
fn message(records: &[u8]) -> Option<Cow<'_, [u8]>> {
    let mut rest = records;
    let mut message = Cow::Borrowed(fragment(&mut rest)?);
    loop {
        if let [CLIENT_HELLO, length @ ..] = &*message
            && let Some(length) = length.first_chunk()
            && message.len() >= MESSAGE_HEADER_BYTES + number::<3>(length)
        {
            return Some(message);
        }
        message.to_mut().extend_from_slice(fragment(&mut rest)?);
    }
}

/// Of a handshake message, in one record.
fn fragment<'a>(records: &mut &'a [u8]) -> Option<&'a [u8]> {
    (*take(records, 3)?.first()? == HANDSHAKE).then_some(())?;
    vector::<2>(records)
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}

/// Bytes behind their number, which has N bytes (RFC 8446 §3.4).
fn vector<'a, const N: usize>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = number::<N>(take(bytes, N)?.first_chunk()?);
    take(bytes, length)
}

fn number<const N: usize>(bytes: &[u8; N]) -> usize {
    bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes<const N: usize>(content: &[u8]) -> Vec<u8> {
        [&(content.len() as u64).to_be_bytes()[8 - N..], content].concat()
    }

    /// A hello with these extensions, in records of so many bytes of it.
    fn hello(extensions: &[(u8, Vec<u8>)], size: usize) -> Vec<u8> {
        let extensions: Vec<u8> =
            extensions.iter().flat_map(|(kind, body)| [vec![0, *kind], bytes::<2>(body)].concat()).collect();
        let body = [&[3, 3][..], &[7; 32], &[0], &bytes::<2>(&[0x13, 1]), &[1, 0], &bytes::<2>(&extensions)];
        let message = [vec![1], bytes::<3>(&body.concat())].concat();
        message.chunks(size).flat_map(|piece| [&[22, 3, 1][..], &bytes::<2>(piece)].concat()).collect()
    }

    fn versions(list: &[u8]) -> (u8, Vec<u8>) {
        (43, bytes::<1>(list))
    }

    fn groups(list: &[u8]) -> (u8, Vec<u8>) {
        (10, bytes::<2>(list))
    }

    fn shares(list: &[([u8; 2], usize)]) -> (u8, Vec<u8>) {
        let entry =
            |(group, length): &([u8; 2], usize)| [&group[..], &bytes::<2>(&vec![0; *length])].concat();
        (51, bytes::<2>(&list.iter().flat_map(entry).collect::<Vec<u8>>()))
    }

    fn whole() -> Vec<(u8, Vec<u8>)> {
        vec![versions(&[3, 4, 3, 3]), groups(&[0, 29, 0x11, 0xec]), shares(&[([0, 29], 32), (GROUP, 1216)])]
    }

    #[test]
    fn what_is_offered_is_found_in_records_of_any_size() {
        let all = Offer { tls13: true, group: true, share: true };
        for size in [1, 4, 5, 100, 16_384] {
            let records = hello(&whole(), size);
            assert_eq!(Offer::of(&records), all, "{size}");
            assert_eq!(Offer::of(&[&*records, b"more"].concat()), all, "{size}");
            assert_eq!(Offer::of(&records[..records.len() - 1]), Offer::default(), "{size}");
        }
        let one = |at: usize, other| {
            let mut extensions = whole();
            extensions[at] = other;
            Offer::of(&hello(&extensions, 16_384))
        };
        assert_eq!(one(0, versions(&[3, 3])), Offer { tls13: false, ..all });
        assert_eq!(one(1, groups(&[0, 29])), Offer { group: false, ..all });
        assert_eq!(one(2, shares(&[([0, 29], 32)])), Offer { share: false, ..all });
        assert_eq!(one(2, shares(&[])), Offer { share: false, ..all });
        // Across two numbers, and within another's share.
        assert_eq!(one(1, groups(&[0, 0x11, 0xec, 0])), Offer { group: false, ..all });
        let inside = (51, bytes::<2>(&[&[0, 29][..], &bytes::<2>(&[0x11, 0xec, 0, 0])].concat()));
        assert_eq!(one(2, inside), Offer { share: false, ..all });
    }

    #[test]
    fn what_is_no_hello_offers_nothing() {
        let records = hello(&whole(), 16_384);
        let with = |at: usize, byte| {
            let mut other = records.clone();
            other[at] = byte;
            Offer::of(&other)
        };
        assert_ne!(with(0, 22), Offer::default());
        assert_eq!((with(0, 23), with(5, 2)), (Offer::default(), Offer::default()));
        for other in [&b""[..], b"GET / HTTP/1.1", &[22, 3, 1, 0, 0], &[22, 3, 1, 0, 4, 1, 0, 0, 0]] {
            assert_eq!(Offer::of(other), Offer::default(), "{other:?}");
        }
        // A list that is longer than its extension.
        let longer = [(43, vec![4, 3, 4]), whole().remove(1)];
        assert_eq!(Offer::of(&hello(&longer, 16_384)), Offer::default());
    }

    #[test]
    fn each_choice_takes_what_it_says() {
        use PostQuantum::{Auto, Off, Prefer};
        let taken = |tls13, group, share| {
            let offer = Offer { tls13, group, share };
            [Auto, Prefer, Off].map(|choice| offer.is_taken(choice))
        };
        assert_eq!(taken(true, true, true), [true, true, false]);
        assert_eq!(taken(true, true, false), [false, true, false]);
        assert_eq!(taken(true, false, true), [false; 3]);
        assert_eq!(taken(false, true, true), [false; 3]);
    }
}
