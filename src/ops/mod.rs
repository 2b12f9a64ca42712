//! What operators see: logs, counters, readiness, the admin socket.
