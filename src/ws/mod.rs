//! WebSocket (RFC 6455): is this upgrade legal. Knows no sockets and never looks at a payload.

pub mod handshake;
