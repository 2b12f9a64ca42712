//! The messages in which open sessions pass from one process to the next. Bytes and time are arguments.
//!
//! A parcel is one message with descriptors beside its bytes (SCM_RIGHTS):
//!
//! ```text
//! head      magic [8]  version u16  CLOCK_BOOTTIME in ns u64  sessions u16  descriptors u16
//! table     for each session: descriptors u8  length of the record u32  digest [8]
//! records   one after the other
//! ```
//!
//! Numbers are little-endian. The descriptors follow the order of the sessions. `edge/session/relay/frozen.rs` defines what a record is.

use std::time::Duration;

use ring::digest::{Context, SHA256};
use zeroize::Zeroizing;

use crate::edge::shared::handover::Frozen;

/// How many descriptors the kernel takes with a message (SCM_MAX_FD of unix(7)).
pub const DESCRIPTORS_MAX: usize = 253;
/// A session has a client, an upstream, and room for two more. Other state has none.
pub const SESSION_DESCRIPTORS_MAX: usize = 4;
/// Bytes of a message. Below 212,960, what a socket takes by default (`net.core.wmem_default`, less 32).
pub const MESSAGE_BYTES_MAX: usize = 150_000;
/// A parcel gets another session only while it stays within so many bytes, so that the kernel needs no large contiguous allocation (17 pages
/// and 16 KiB).
pub const FULL_BYTES: usize = 80_000;
/// The bytes that [`Head::read`] wants.
pub const HEAD_BYTES: usize = 22;

const MAGIC: [u8; 8] = *b"sanedgeS";
const VERSION: u16 = 1;
const ROW_BYTES: usize = 13;
/// A restart takes seconds. After half a minute, clients have given up.
const AGE_MAX: Duration = Duration::from_secs(30);

/// Why a parcel is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Its bytes are not in the format above.
    #[error("the stored message is damaged")]
    Damaged,
    /// Another format.
    #[error("another version of sanedge stored the sessions in another format")]
    Version,
    /// Too old, or of another boot.
    #[error("the sessions were stored more than 30 s ago")]
    Old,
    /// The clock has gone back, which it does not.
    #[error("the sessions have a time in the future")]
    Future,
}

/// The beginning of a parcel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Number of sessions.
    pub sessions: usize,
    /// Number of descriptors of all sessions together.
    pub descriptors: usize,
}

/// A session in a parcel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Number of descriptors of this session.
    pub descriptors: usize,
    /// `None` if its digest does not match.
    pub record: Option<&'a [u8]>,
}

/// Groups sessions into parcels; apart, those that fit into none.
pub fn pack(sessions: Vec<Frozen>) -> (Vec<Vec<Frozen>>, Vec<Frozen>) {
    let (mut parcels, mut misfits) = (Vec::<Vec<Frozen>>::new(), Vec::new());
    let (mut bytes, mut descriptors) = (usize::MAX, 0);
    for session in sessions {
        let (more_bytes, more) = (ROW_BYTES + session.record.len(), session.descriptors.len());
        if more > SESSION_DESCRIPTORS_MAX || HEAD_BYTES + more_bytes > MESSAGE_BYTES_MAX {
            misfits.push(session);
            continue;
        }
        let fits = bytes.saturating_add(more_bytes) <= FULL_BYTES && descriptors + more <= DESCRIPTORS_MAX;
        match parcels.last_mut().filter(|_| fits) {
            Some(parcel) => {
                parcel.push(session);
                (bytes, descriptors) = (bytes + more_bytes, descriptors + more);
            }
            None => {
                parcels.push(vec![session]);
                (bytes, descriptors) = (HEAD_BYTES + more_bytes, more);
            }
        }
    }
    (parcels, misfits)
}

/// The message of one parcel: `sessions` with the number of descriptors and the record of each, within the bounds above.
pub fn write<'a>(
    now: Duration,
    sessions: impl ExactSizeIterator<Item = (usize, &'a [u8])> + Clone,
) -> Zeroizing<Vec<u8>> {
    let bytes: usize = sessions.clone().map(|(_, record)| ROW_BYTES + record.len()).sum();
    let descriptors: usize = sessions.clone().map(|(descriptors, _)| descriptors).sum();
    // Allocated once: a growing vector leaves copies in freed memory.
    let mut message = Zeroizing::new(Vec::with_capacity(HEAD_BYTES + bytes));
    message.extend_from_slice(&MAGIC);
    message.extend_from_slice(&VERSION.to_le_bytes());
    message.extend_from_slice(&(now.as_nanos() as u64).to_le_bytes());
    message.extend_from_slice(&(sessions.len() as u16).to_le_bytes());
    message.extend_from_slice(&(descriptors as u16).to_le_bytes());
    for (descriptors, record) in sessions.clone() {
        message.push(descriptors as u8);
        message.extend_from_slice(&(record.len() as u32).to_le_bytes());
        message.extend_from_slice(&digest(descriptors as u8, record));
    }
    for (_, record) in sessions {
        message.extend_from_slice(record);
    }
    message
}

impl Head {
    /// Reads it, and checks everything that can be known before a session is touched.
    ///
    /// # Errors
    /// Why the parcel is not to be used at `now` (CLOCK_BOOTTIME).
    pub fn read(message: &[u8], now: Duration) -> Result<Self, Fault> {
        let mut rest = message;
        if take(&mut rest)? != MAGIC {
            return Err(Fault::Damaged);
        }
        if u16::from_le_bytes(take(&mut rest)?) != VERSION {
            return Err(Fault::Version);
        }
        let stored = Duration::from_nanos(u64::from_le_bytes(take(&mut rest)?));
        match now.checked_sub(stored) {
            None => return Err(Fault::Future),
            Some(age) if age > AGE_MAX => return Err(Fault::Old),
            Some(_) => {}
        }
        let sessions = usize::from(u16::from_le_bytes(take(&mut rest)?));
        let descriptors = usize::from(u16::from_le_bytes(take(&mut rest)?));
        if descriptors <= DESCRIPTORS_MAX { Ok(Self { sessions, descriptors }) } else { Err(Fault::Damaged) }
    }
}

/// The sessions of a parcel. A damaged record ends its own session only; where a session begins and which descriptors it has must be
/// beyond doubt.
///
/// # Errors
/// Why the parcel is not to be used.
pub fn read(message: &[u8], now: Duration) -> Result<Vec<Entry<'_>>, Fault> {
    let head = Head::read(message, now)?;
    let mut rows = message.get(HEAD_BYTES..).unwrap_or_default();
    let mut records = rows.get(head.sessions * ROW_BYTES..).ok_or(Fault::Damaged)?;
    let mut descriptors_left = head.descriptors;
    let mut entries = Vec::with_capacity(head.sessions);
    for _ in 0..head.sessions {
        let [descriptors] = take(&mut rows)?;
        let length = u32::from_le_bytes(take(&mut rows)?);
        let expected: [u8; 8] = take(&mut rows)?;
        let length = usize::try_from(length).map_err(|_| Fault::Damaged)?;
        let (record, rest) = records.split_at_checked(length).ok_or(Fault::Damaged)?;
        records = rest;
        let count = usize::from(descriptors);
        if count > SESSION_DESCRIPTORS_MAX {
            return Err(Fault::Damaged);
        }
        descriptors_left = descriptors_left.checked_sub(count).ok_or(Fault::Damaged)?;
        let record = Some(record).filter(|record| digest(descriptors, record) == expected);
        entries.push(Entry { descriptors: count, record });
    }
    if records.is_empty() && descriptors_left == 0 { Ok(entries) } else { Err(Fault::Damaged) }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Fault> {
    let (taken, after) = rest.split_first_chunk().ok_or(Fault::Damaged)?;
    *rest = after;
    Ok(*taken)
}

fn digest(descriptors: u8, record: &[u8]) -> [u8; 8] {
    let mut context = Context::new(&SHA256);
    context.update(&[descriptors]);
    context.update(record);
    context.finish().as_ref().first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORED: Duration = Duration::from_secs(1_000);

    fn message() -> Zeroizing<Vec<u8>> {
        let sessions: [(usize, &[u8]); 4] = [(2, b"one"), (1, b""), (4, b"three"), (0, b"four")];
        write(STORED, sessions.into_iter())
    }

    fn session(record_bytes: usize, descriptors: usize) -> Frozen {
        let open = || std::fs::File::open("/dev/null").unwrap().into();
        Frozen {
            record: Zeroizing::new(vec![0; record_bytes]),
            descriptors: (0..descriptors).map(|_| open()).collect(),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let message = message();
        let entries = read(&message, STORED).unwrap();
        let found: Vec<_> = entries.iter().map(|entry| (entry.descriptors, entry.record.unwrap())).collect();
        assert_eq!(found, [(2, b"one".as_slice()), (1, b""), (4, b"three"), (0, b"four")]);
        assert_eq!(Head::read(&message[..HEAD_BYTES], STORED), Ok(Head { sessions: 4, descriptors: 7 }));
        assert_eq!(message.len(), message.capacity(), "it grew, and left copies of records behind");
    }

    #[test]
    fn every_prefix_is_damaged() {
        let message = message();
        for end in 0..message.len() {
            assert_eq!(read(&message[..end], STORED), Err(Fault::Damaged), "{end}");
        }
    }

    #[test]
    fn half_a_minute_is_the_limit() {
        let message = message();
        let read_after = |age: Duration| Head::read(&message, STORED + age).err();
        assert_eq!(read_after(AGE_MAX), None);
        assert_eq!(read_after(AGE_MAX + Duration::from_nanos(1)), Some(Fault::Old));
        assert_eq!(Head::read(&message, STORED - Duration::from_nanos(1)), Err(Fault::Future));
    }

    #[test]
    fn parcels_are_filled_up_to_their_bounds() {
        let packed = |sessions: Vec<Frozen>| {
            let (parcels, misfits) = pack(sessions);
            (parcels.iter().map(Vec::len).collect::<Vec<_>>(), misfits.len())
        };
        let many = |count, bytes, descriptors| (0..count).map(|_| session(bytes, descriptors)).collect();
        assert_eq!(packed(vec![]), (vec![], 0));
        assert_eq!(packed(many(127, 10, 2)), (vec![126, 1], 0));
        assert_eq!(packed(many(254, 10, 1)), (vec![253, 1], 0));
        assert_eq!(packed(many(3, 10, SESSION_DESCRIPTORS_MAX)), (vec![3], 0));
        assert_eq!(packed(vec![session(10, 0), session(10, 5), session(10, 1)]), (vec![2], 1));
        let half = (FULL_BYTES - HEAD_BYTES) / 2 - ROW_BYTES;
        assert_eq!(packed(many(2, half, 1)), (vec![2], 0));
        assert_eq!(packed(many(2, half + 1, 1)), (vec![1, 1], 0));
        let most = MESSAGE_BYTES_MAX - HEAD_BYTES - ROW_BYTES;
        assert_eq!(packed(vec![session(most, 1), session(0, 1), session(most + 1, 1)]), (vec![1, 1], 1));
    }
}
