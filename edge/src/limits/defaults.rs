//! Defaults that depend on the board.

use super::memory::{
    ADDRESS_ROW_BYTES, HANDSHAKE_BYTES, Machine, kernel_shared_bytes, process_bytes, session_kernel_bytes,
    session_user_bytes,
};
use super::range::{GIB, KIB, MIB};
use super::table::Limits;

impl Limits {
    /// The defaults for a machine: fixed ones from [`LIMITS`](crate::limits::LIMITS), the others so that the worst case fits its budget.
    pub fn default_for(machine: &Machine) -> Self {
        let mut limits = Self::fixed();
        limits.workers = machine.cores.clamp(1, 64);
        limits.socket_buffer_bytes = narrow(socket_buffer_default(machine.ram_bytes));
        limits.tls_buffer_bytes = narrow(if machine.ram_bytes <= GIB { 32 * KIB } else { 64 * KIB });
        limits.sessions_max = sessions_default(&limits, machine);
        limits.follow(machine, |_| false);
        limits
    }

    /// Recomputes the limits that follow from `sessions_max` and `workers`, except those that `is_written` in the file.
    pub fn follow(&mut self, machine: &Machine, is_written: impl Fn(&str) -> bool) {
        let sessions_max = self.sessions_max;
        if !is_written("handshakes_max") {
            self.handshakes_max = handshakes_default(sessions_max);
        }
        if !is_written("address_sessions_max") {
            self.address_sessions_max = (sessions_max - sessions_max / 4).min(512);
        }
        if !is_written("handshakes_per_s_max") {
            self.handshakes_per_s_max = machine.handshakes_per_s * u32::from(self.workers);
        }
    }
}

/// What a WebSocket may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WebSocketBounds {
    /// Largest frame payload, in bytes.
    pub frame_bytes_max: u64,
    /// Largest message over its fragments, in bytes.
    pub message_bytes_max: u64,
}

impl WebSocketBounds {
    /// A 32nd of the memory, as a power of two between 8 and 256 MiB: an app may hold a few such messages at once.
    pub fn default_for(machine: &Machine) -> Self {
        let share = (machine.ram_bytes / 32).clamp(8 * MIB, 256 * MIB);
        let bytes = 1 << share.ilog2();
        Self { frame_bytes_max: bytes, message_bytes_max: bytes }
    }

    /// These bounds, with those that the file sets. A bound in the file is not reduced by the default of the other: a
    /// message may be one frame, and a frame is at most a message.
    #[must_use]
    pub fn written_over(self, frame: Option<u64>, message: Option<u64>) -> Self {
        let message_bytes_max = message.unwrap_or_else(|| self.message_bytes_max.max(frame.unwrap_or(0)));
        let frame_bytes_max = frame.or(message).unwrap_or(self.frame_bytes_max);
        Self { frame_bytes_max, message_bytes_max }
    }
}

fn socket_buffer_default(ram_bytes: u64) -> u64 {
    match ram_bytes {
        0..=536_870_912 => 16 * KIB,
        536_870_913..=1_073_741_824 => 32 * KIB,
        _ => 0,
    }
}

/// How many sessions the budget holds, each with a quarter of a handshake; in steps of 16.
fn sessions_default(limits: &Limits, machine: &Machine) -> u32 {
    let fixed = process_bytes(limits) + kernel_shared_bytes(limits, machine);
    let each = session_user_bytes(limits)
        + session_kernel_bytes(limits)
        + HANDSHAKE_BYTES / 4
        + 2 * ADDRESS_ROW_BYTES;
    let sessions = machine.budget_bytes.saturating_sub(fixed) / each / 16 * 16;
    narrow(sessions.clamp(16, 16_384))
}

/// A quarter of the sessions may be in their handshake at once.
fn handshakes_default(sessions_max: u32) -> u32 {
    (sessions_max / 4).clamp(16, 1024)
}

fn narrow(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::range::Preset::Fixed;
    use crate::limits::table::LIMITS;

    const PI: Machine = Machine { cores: 4, ram_bytes: 4 * GIB, budget_bytes: GIB, handshakes_per_s: 100 };

    #[test]
    fn fixed_defaults_are_the_tables_and_in_range() {
        let limits = Limits::default_for(&PI);
        let mut seen = 0;
        for limit in &LIMITS {
            if let Fixed(value) = limit.preset {
                assert_eq!(limit.value(&limits), Some(value), "{}", limit.range.key);
                seen += 1;
            }
        }
        assert!(seen >= 10);
        limits.check().unwrap();
    }

    #[test]
    fn what_follows_from_sessions_and_workers_follows_unless_it_is_written() {
        let mut limits = Limits::default_for(&PI);
        let of = |limits: &Limits| {
            (limits.handshakes_max, limits.address_sessions_max, limits.handshakes_per_s_max)
        };
        for (sessions_max, workers, wanted) in [
            (1, 1, (16, 1, 100)),
            (160, 2, (40, 120, 200)),
            (682, 4, (170, 512, 400)),
            (100_000, 64, (1024, 512, 6400)),
        ] {
            (limits.sessions_max, limits.workers) = (sessions_max, workers);
            limits.follow(&PI, |_| false);
            assert_eq!(of(&limits), wanted, "{sessions_max}");
            limits.check().unwrap();
        }
        (limits.sessions_max, limits.address_sessions_max) = (10, 7);
        limits.follow(&PI, |key| key == "address_sessions_max");
        assert_eq!(of(&limits), (16, 7, 6400));
        let slow = Machine { handshakes_per_s: 50, ..PI };
        limits.follow(&slow, |key| key == "address_sessions_max");
        assert_eq!(of(&limits), (16, 7, 3200));
        assert_eq!(limits.address_rows(), 1024);
        limits.sessions_max = 513;
        assert_eq!(limits.address_rows(), 1026);
    }

    #[test]
    fn what_a_websocket_may_carry_follows_from_memory_within_bounds() {
        let of = |ram_bytes| {
            let bounds = WebSocketBounds::default_for(&Machine { ram_bytes, ..PI });
            assert_eq!(bounds.frame_bytes_max, bounds.message_bytes_max);
            let (range, _) = crate::limits::bounded("message_bytes_max").unwrap();
            assert_eq!(range.check(bounds.message_bytes_max), Ok(bounds.message_bytes_max));
            bounds.message_bytes_max
        };
        let expected = [
            (0, 8 * MIB),
            (256 * MIB, 8 * MIB),
            (512 * MIB - 1, 8 * MIB),
            (512 * MIB, 16 * MIB),
            (4 * GIB, 128 * MIB),
            (8 * GIB, 256 * MIB),
            (u64::MAX, 256 * MIB),
        ];
        for (ram_bytes, bytes) in expected {
            assert_eq!(of(ram_bytes), bytes, "{ram_bytes}");
        }
    }

    #[test]
    fn a_written_websocket_bound_is_not_undone_by_the_default_of_the_other() {
        let board = WebSocketBounds { frame_bytes_max: 100, message_bytes_max: 100 };
        let over = |frame, message| {
            let bounds = board.written_over(frame, message);
            (bounds.frame_bytes_max, bounds.message_bytes_max)
        };
        assert_eq!(over(None, None), (100, 100));
        assert_eq!(over(Some(50), None), (50, 100));
        assert_eq!(over(Some(500), None), (500, 500));
        assert_eq!(over(None, Some(50)), (50, 50));
        assert_eq!(over(None, Some(500)), (500, 500));
        assert_eq!(over(Some(10), Some(500)), (10, 500));
    }
}
