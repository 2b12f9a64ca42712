//! The memory equation: what a board's limits cost in the worst case.

use std::fmt;

use super::range::{KIB, MIB, Unit};
use super::table::Limits;

/// What defaults and the memory equation need to know about a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Processor cores.
    pub cores: u16,
    /// Memory of the whole board, in bytes.
    pub ram_bytes: u64,
    /// The part of it that the edge may use in the worst case, in bytes, including the kernel's socket buffers.
    pub budget_bytes: u64,
    /// TLS handshakes per second that leave a core most of its time.
    pub handshakes_per_s: u32,
}

impl Machine {
    /// [`Self::handshakes_per_s`]: a handshake with X25519MLKEM768 takes 1.8 million instructions on aarch64, and 6.1 million on ARMv6,
    /// which executes at most one in a cycle.
    pub fn handshakes_per_s(is_32_bit_arm: bool) -> u32 {
        if is_32_bit_arm { 50 } else { 100 }
    }
}

/// Memory of one row of the table of client addresses, of which there are [`Limits::address_rows`].
pub const ADDRESS_ROW_BYTES: u64 = 32;

/// Memory of one TLS handshake in addition to an open session's buffers: rustls joins handshake messages of up to 64
/// KiB, our flight with a chain of ten certificates is at most as long, and the key exchange takes some KiB.
pub const HANDSHAKE_BYTES: u64 = 144 * KIB;

/// User memory of an idle WebSocket session: measured at less than 2 KiB after an echo (`benches/idle_memory.rs`), assumed to be 12.
pub const IDLE_SESSION_BYTES: u64 = 12 * KIB;

/// Input that TLS can hold for a client: one incomplete record (18 KiB), and decrypted bytes that the reader had no room for (34 KiB, of
/// one read and of the incomplete record before it). No setting changes it.
pub const TLS_RECEIVE_BYTES: u64 = 52 * KIB;

/// The program before its first session: code, tables, bundle with up to 64 certificates and 512 KiB of response fields, runtime.
pub const PROCESS_BYTES: u64 = 8 * MIB;

/// So many certificates are in [`PROCESS_BYTES`].
pub(super) const CERTIFICATES_WITHIN: u64 = 64;

/// Memory of each further certificate: one with an RSA key and no intermediate was measured at 9 KiB; three intermediates make it 16, and
/// during a reload there are two bundles.
pub(super) const CERTIFICATE_BYTES: u64 = 32 * KIB;

/// The memory equation: the worst case in three terms, and the descriptors that it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Handshaking sessions × what a handshake can hold.
    pub handshake_bytes: u64,
    /// The process, workers' scratch buffers, and open sessions × the buffers of each.
    pub session_bytes: u64,
    /// The kernel's socket buffers: two sockets a session, both directions.
    pub kernel_bytes: u64,
    /// What the board gives.
    pub budget_bytes: u64,
    /// File descriptors: two a session, the idle upstream connections, and the process's own.
    pub descriptors: u64,
    sessions: u64,
    handshakes: u64,
    session_each: u64,
    socket_buffer_bytes: u64,
}

impl Memory {
    /// Solves the equation for `limits` on `machine` with `upstreams` different upstreams.
    pub fn of(limits: &Limits, machine: &Machine, upstreams: u64) -> Self {
        let (sessions, handshakes) = (u64::from(limits.sessions_max), u64::from(limits.handshakes_max));
        let session_each = session_user_bytes(limits);
        Self {
            handshake_bytes: handshakes * HANDSHAKE_BYTES,
            session_bytes: process_bytes(limits) + sessions * session_each,
            kernel_bytes: kernel_shared_bytes(limits, machine) + sessions * session_kernel_bytes(limits),
            budget_bytes: machine.budget_bytes,
            descriptors: 2 * sessions + limits.other_descriptors(upstreams),
            sessions,
            handshakes,
            session_each,
            socket_buffer_bytes: limits.socket_buffer_bytes.into(),
        }
    }

    /// With a bundle of so many certificates.
    #[must_use]
    pub fn with_certificates(self, certificates: u64) -> Self {
        let more = certificates.saturating_sub(CERTIFICATES_WITHIN) * CERTIFICATE_BYTES;
        Self { session_bytes: self.session_bytes + more, ..self }
    }

    /// The sum of the three terms, in bytes.
    pub fn total_bytes(&self) -> u64 {
        self.handshake_bytes + self.session_bytes + self.kernel_bytes
    }

    /// Whether the worst case fits the budget.
    pub fn holds(&self) -> bool {
        self.total_bytes() <= self.budget_bytes
    }
}

impl Memory {
    /// The result in one line.
    pub fn summary(&self) -> String {
        format!(
            "memory: at most {} of the {} that it may take",
            mib(self.total_bytes()),
            mib(self.budget_bytes)
        )
    }
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / MIB as f64)
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each = Unit::Bytes.show(self.session_each);
        let kernel = match self.socket_buffer_bytes {
            0 => "autotuned, at most the kernel's tcp_mem, 3/32 of the memory".to_owned(),
            set => format!(
                "{} sessions x 2 sockets x 2 directions x 2 x {}",
                self.sessions,
                Unit::Bytes.show(set)
            ),
        };
        let total = mib(self.total_bytes());
        let (relation, budget) = (if self.holds() { "within" } else { "MORE THAN" }, mib(self.budget_bytes));
        writeln!(
            f,
            "handshakes  {:>11}  {} x {}",
            mib(self.handshake_bytes),
            self.handshakes,
            Unit::Bytes.show(HANDSHAKE_BYTES)
        )?;
        writeln!(
            f,
            "sessions    {:>11}  {} x {each}, and the process",
            mib(self.session_bytes),
            self.sessions
        )?;
        writeln!(f, "kernel      {:>11}  {kernel}", mib(self.kernel_bytes))?;
        writeln!(f, "at worst    {total:>11}  {relation} the budget of {budget}")?;
        write!(f, "descriptors {:>11}", self.descriptors)
    }
}

/// A client that stops reading fills `tls_buffer_bytes`. For an upstream that stops reading, one read waits. Before
/// that, a client that stops inside a head fills a head buffer, and the upstream's response another one.
pub(super) fn session_user_bytes(limits: &Limits) -> u64 {
    let heads = u64::from(limits.head_bytes_max) + u64::from(limits.response_head_bytes_max);
    IDLE_SESSION_BYTES
        + TLS_RECEIVE_BYTES
        + u64::from(limits.tls_buffer_bytes)
        + heads.max(limits.read_bytes().into())
}

/// The kernel doubles the value for its own bookkeeping (socket(7)), and each session has two sockets with two
/// directions.
pub(super) fn session_kernel_bytes(limits: &Limits) -> u64 {
    2 * 2 * 2 * u64::from(limits.socket_buffer_bytes)
}

/// With autotuning one socket may take megabytes, but all TCP together no more than the last number of
/// `net.ipv4.tcp_mem`, which is set at boot to 3/32 of the memory.
pub(super) fn kernel_shared_bytes(limits: &Limits, machine: &Machine) -> u64 {
    if limits.socket_buffer_bytes == 0 { machine.ram_bytes / 32 * 3 } else { 0 }
}

/// The table of addresses; scratch in both directions, and half a MiB for each worker's TLS buffers and cipher objects, stack, runtime and
/// allocator.
pub(super) fn process_bytes(limits: &Limits) -> u64 {
    let addresses = limits.address_rows() * ADDRESS_ROW_BYTES;
    PROCESS_BYTES + addresses + u64::from(limits.workers) * (2 * u64::from(limits.read_bytes()) + MIB / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::range::GIB;

    const PI: Machine = Machine { cores: 4, ram_bytes: 4 * GIB, budget_bytes: GIB, handshakes_per_s: 100 };

    #[test]
    fn the_memory_equation_adds_up() {
        let mut limits = Limits::default_for(&PI);
        (limits.sessions_max, limits.handshakes_max, limits.workers) = (100, 10, 2);
        (limits.head_bytes_max, limits.tls_buffer_bytes, limits.scratch_bytes) = (16_384, 65_536, 65_536);
        limits.socket_buffer_bytes = 32_768;
        let memory = Memory::of(&limits, &PI, 3);
        assert_eq!(memory.handshake_bytes, 10 * 144 * KIB);
        let addresses = 1024 * 32;
        let each = (12 + 52 + 64 + 64) * KIB;
        assert_eq!(memory.session_bytes, 8 * MIB + addresses + 2 * (128 + 512) * KIB + 100 * each);
        assert_eq!(memory.kernel_bytes, 100 * 8 * 32 * KIB);
        assert_eq!(memory.descriptors, 64 + 16 + 200 + 3 * 2 * 64);
        assert_eq!(memory.total_bytes(), memory.handshake_bytes + memory.session_bytes + memory.kernel_bytes);
        limits.socket_buffer_bytes = 0;
        assert_eq!(Memory::of(&limits, &PI, 3).kernel_bytes, 4 * GIB / 32 * 3);
        // A read may wait in each session, whatever the scratch has room for.
        (limits.head_bytes_max, limits.scratch_bytes) = (4096, 1 << 20);
        assert_eq!(limits.read_bytes(), 65_536);
        let each = (12 + 52 + 64 + 64) * KIB;
        let memory = Memory::of(&limits, &PI, 3);
        assert_eq!(memory.session_bytes, 8 * MIB + addresses + 2 * (128 + 512) * KIB + 100 * each);
        // A head of a request and one of a response, where they are more than that read.
        (limits.head_bytes_max, limits.response_head_bytes_max) = (40 * 1024, 24 * 1024);
        assert_eq!(Memory::of(&limits, &PI, 3).session_bytes, memory.session_bytes);
        limits.response_head_bytes_max += 1;
        assert_eq!(Memory::of(&limits, &PI, 3).session_bytes, memory.session_bytes + 100);
        limits.head_bytes_max += 1;
        assert_eq!(Memory::of(&limits, &PI, 3).session_bytes, memory.session_bytes + 200);
    }

    #[test]
    fn certificates_cost_more_once_they_are_more_than_the_process_has_room_for() {
        let limits = Limits::default_for(&PI);
        let total = |certificates| Memory::of(&limits, &PI, 1).with_certificates(certificates).total_bytes();
        assert_eq!(total(64), total(0));
        assert_eq!(total(65), total(64) + 32 * KIB);
        assert_eq!(total(256), total(64) + 6 * MIB);
    }

    #[test]
    fn the_equation_holds_up_to_the_budget_and_not_beyond() {
        let limits = Limits::default_for(&PI);
        let total = Memory::of(&limits, &PI, 1).total_bytes();
        let exact = Memory::of(&limits, &Machine { budget_bytes: total, ..PI }, 1);
        let short = Memory::of(&limits, &Machine { budget_bytes: total - 1, ..PI }, 1);
        assert!(exact.holds() && exact.to_string().contains("within the budget"), "{exact}");
        assert!(!short.holds() && short.to_string().contains("MORE THAN the budget"), "{short}");
        for word in ["handshakes", "sessions", "kernel", "descriptors"] {
            assert!(exact.to_string().contains(word), "{exact}");
        }
    }
}
