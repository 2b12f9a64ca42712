//! WebSocket (RFC 6455): is this upgrade legal, is this sequence of frames legal, and are we between two of them.
//! Knows no sockets, never alters a payload, and looks into one only for the rules that are about it: Close codes and
//! reasons, and UTF-8 where a site asks for it.

pub mod frame;
mod fuzz;
pub mod handshake;
pub mod origin;
pub mod tracker;
