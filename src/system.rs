//! What the edge asks of the system around it: inherited sockets, its sandbox, systemd's notifications and descriptor store, and figures of the kernel.

pub mod descriptor_store;
pub mod parcels;
pub mod process;
pub mod sandbox;
pub mod sockets;
pub mod started;
pub mod systemd;
