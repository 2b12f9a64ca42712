//! WebSocket (RFC 6455): whether an upgrade and a sequence of frames are legal, and whether a stream is between two
//! frames. No sockets; payload is never altered, and read only for rules about payload: Close codes and reasons, and
//! UTF-8 if a site asks for it.

pub mod frame;
pub mod handshake;
pub mod origin;
pub mod tracker;
