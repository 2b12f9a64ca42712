//! Which requests are sent a second time, and which upstream connection a request gets.
//!
//! An idle connection may be closed by the upstream at any moment. A request that meets that end, before a byte of its response, goes
//! out once more on a new connection if it may be repeated (RFC 9112 §9.3.1). A request that may not be repeated gets no
//! connection that has been idle for long. There is no third try.

use std::time::Duration;

use crate::http::body::Framing;

/// A request that may not be repeated takes a connection idle for less than this, or a new one.
const IDLE_FRESH: Duration = Duration::from_secs(1);

/// Which connection a request gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// Any idle one.
    Idle,
    /// One that was in use just now, or a new one.
    Fresh,
    /// Never from the pool.
    New,
}

/// Whether a request can be sent again: a safe method (RFC 9110 §9.2.1) without a body, of which nothing would be kept.
pub(crate) fn is_repeatable(method: &str, framing: Framing) -> bool {
    framing == Framing::None && matches!(method, "GET" | "HEAD" | "OPTIONS")
}

/// Whether the end of its connection sends a request out again: the connection was `reused`, so that its end may be an old decision
/// of the upstream, and the response has not begun.
pub(crate) fn is_due(reused: bool, repeatable: bool, response_begun: bool) -> bool {
    reused && repeatable && !response_begun
}

impl Want {
    /// For the first try. `of_its_own`: an upgrade, or a connection that begins with a PROXY protocol header, which holds for all of
    /// it.
    pub(crate) fn first(repeatable: bool, of_its_own: bool) -> Self {
        match (of_its_own, repeatable) {
            (true, _) => Self::New,
            (false, true) => Self::Idle,
            (false, false) => Self::Fresh,
        }
    }

    /// For the second try; `None`: this was it.
    pub(crate) fn second(self) -> Option<Self> {
        (self != Self::New).then_some(Self::New)
    }

    /// Whether a connection that has been idle for `time` will do.
    pub(super) fn takes(self, time: Duration) -> bool {
        match self {
            Self::Idle => true,
            Self::Fresh => time < IDLE_FRESH,
            Self::New => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn safe_methods_without_a_body_are_repeated() {
        for (method, framing, repeatable) in [
            ("GET", Framing::None, true),
            ("HEAD", Framing::None, true),
            ("OPTIONS", Framing::None, true),
            ("GET", Framing::Length(1), false),
            ("OPTIONS", Framing::Chunked, false),
            ("POST", Framing::None, false),
            ("PUT", Framing::None, false),
            ("DELETE", Framing::None, false),
            ("get", Framing::None, false),
        ] {
            assert_eq!(is_repeatable(method, framing), repeatable, "{method} {framing:?}");
        }
        assert!(is_due(true, true, false));
        for (reused, repeatable, begun) in [(false, true, false), (true, false, false), (true, true, true)] {
            assert!(!is_due(reused, repeatable, begun), "{reused} {repeatable} {begun}");
        }
    }

    #[test]
    fn a_request_that_is_sent_once_takes_no_connection_that_may_just_be_ending() {
        let (long, just_below) = (Duration::from_secs(3), IDLE_FRESH - Duration::from_nanos(1));
        for (repeatable, of_its_own, fresh, at_bound, old) in [
            (true, false, true, true, true),
            (false, false, true, false, false),
            (true, true, false, false, false),
            (false, true, false, false, false),
        ] {
            let want = Want::first(repeatable, of_its_own);
            let takes = (want.takes(just_below), want.takes(IDLE_FRESH), want.takes(long));
            assert_eq!(takes, (fresh, at_bound, old), "{want:?}");
            // The second try is on a new connection, and the last.
            assert_eq!(want.second().and_then(Want::second), None);
            assert!(want.second().is_none_or(|second| !second.takes(Duration::ZERO)));
        }
    }
}
