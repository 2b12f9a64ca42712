//! What the edge asks of the system around it: inherited sockets, its sandbox, systemd's notifications, and figures of the kernel.

pub mod process;
pub mod sandbox;
pub mod sockets;
pub mod started;
pub mod systemd;
