//! How long the TLS records of application data are: never longer than a site's `record_bytes_max`, and short where a transfer begins.
//!
//! A client opens a record once all of it has come. At the start of a connection, and after a pause (RFC 5681 §4.1), TCP sends about
//! ten segments per round trip, so that a record of 16 KiB takes two of them before the client sees its first byte.

/// Plaintext of a record that fits one segment: of a packet of 1,420 bytes (WireGuard; Ethernet has 1,500), 40 are IPv6, 32 TCP with
/// timestamps and at most 29 the record's header and tag, which leaves 1,319.
const SHORT_BYTES: usize = 1_300;
/// What goes in short records first. TCP sends about 14,000 bytes in its first round trip (RFC 6928 §2) and 28,000 in its second;
/// from then on each brings a whole record.
const SHORT_TOTAL_BYTES: u16 = 32 * 1024;
/// A pause after which records are short again: longer than any usual retransmission timeout, after which TCP starts slowly again.
const PAUSE_MS: u32 = 1_000;

/// How long the records of one connection are; 8 bytes, since idle connections keep them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Records {
    bytes_max: u16,
    /// Plaintext that still goes in short records.
    short_left: u16,
    /// When the last write of several records began.
    begun_ms: u32,
}

impl Records {
    /// Of a connection that begins, with at most `bytes_max` bytes of plaintext in each.
    pub(super) fn new(bytes_max: u16) -> Self {
        Self { bytes_max, short_left: SHORT_TOTAL_BYTES, begun_ms: 0 }
    }

    /// Before a write of so many bytes. `now_ms` may wrap around; it is asked only for a write of several records, so that a small
    /// message does not read a clock.
    #[inline]
    pub(super) fn begin(&mut self, bytes: usize, now_ms: impl FnOnce() -> u32) {
        if bytes > self.short() {
            let now_ms = now_ms();
            if now_ms.wrapping_sub(self.begun_ms) >= PAUSE_MS {
                self.short_left = SHORT_TOTAL_BYTES;
            }
            self.begun_ms = now_ms;
        }
    }

    /// Plaintext bytes of the next record, if `rest` bytes of the write are left.
    #[inline]
    pub(super) fn next(&mut self, rest: usize) -> usize {
        let short = self.short();
        if rest <= short {
            return rest;
        }
        if self.short_left == 0 {
            return rest.min(self.bytes_max.into());
        }
        self.short_left = self.short_left.saturating_sub(short as u16); // lossless: at most SHORT_BYTES
        short
    }

    fn short(self) -> usize {
        SHORT_BYTES.min(self.bytes_max.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lengths of the records of a write at this time.
    fn write(records: &mut Records, mut bytes: usize, now_ms: u32) -> Vec<usize> {
        records.begin(bytes, || now_ms);
        let mut lengths = Vec::new();
        while bytes > 0 {
            lengths.push(records.next(bytes));
            bytes -= lengths.last().unwrap();
        }
        lengths
    }

    #[test]
    fn the_first_32_kib_are_short_and_again_after_a_pause_of_one_second() {
        let mut records = Records::new(16_384);
        let first = write(&mut records, 100_000, 5);
        let (short, long) = first.split_at(26);
        assert!(short.iter().all(|length| *length == SHORT_BYTES), "{first:?}");
        assert_eq!(long, [16_384, 16_384, 16_384, 16_384, 100_000 - 26 * SHORT_BYTES - 4 * 16_384]);
        assert_eq!(write(&mut records, 20_000, 1_004), [16_384, 3_616], "999 ms later");
        assert_eq!(write(&mut records, 20_000, 2_003), [16_384, 3_616], "999 ms after that one");
        assert_eq!(write(&mut records, 2_000, 3_003), [1_300, 700], "1 s later");
        // The rest of the 32 KiB, which 700 bytes of the last write would not have needed.
        let again = write(&mut records, 50_000, 3_003);
        assert_eq!(again.iter().filter(|length| **length == SHORT_BYTES).count(), 25, "{again:?}");
    }

    #[test]
    fn a_clock_that_wraps_around_is_a_clock() {
        let mut records = Records::new(16_384);
        write(&mut records, 50_000, u32::MAX - 500);
        assert_eq!(write(&mut records, 20_000, 498), [16_384, 3_616], "999 ms later");
        assert_eq!(write(&mut records, 2_000, 1_498), [1_300, 700], "1 s later");
    }

    #[test]
    fn what_fits_one_segment_reads_no_clock() {
        let mut records = Records::new(16_384);
        for bytes in [0, 1, SHORT_BYTES] {
            records.begin(bytes, || panic!("{bytes}"));
            assert_eq!(records.next(bytes), bytes);
        }
        let mut asked = false;
        records.begin(SHORT_BYTES + 1, || {
            asked = true;
            0
        });
        assert!(asked);
    }

    #[test]
    fn no_record_is_longer_than_the_bound() {
        for bytes_max in [512, 513, 1_299, 1_300, 1_301, 4_096, 16_384] {
            let mut records = Records::new(bytes_max);
            let lengths = write(&mut records, 200_000, 0);
            assert_eq!(lengths.iter().max(), Some(&bytes_max.into()));
            assert_eq!(lengths.iter().sum::<usize>(), 200_000);
        }
    }
}
