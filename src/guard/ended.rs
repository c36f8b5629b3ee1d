//! How a request ended, and which of it is bad.

use crate::headers::Headers;

/// Bits of Envoy's response flags.
const NO_HEALTHY_UPSTREAM: u64 = 1 << 1;
const UPSTREAM_TIMEOUT: u64 = 1 << 2;
const LOCAL_RESET: u64 = 1 << 3;
const UPSTREAM_REMOTE_RESET: u64 = 1 << 4;
const UPSTREAM_CONNECTION_FAILURE: u64 = 1 << 5;
const UPSTREAM_CONNECTION_TERMINATION: u64 = 1 << 6;
const UPSTREAM_OVERFLOW: u64 = 1 << 7;
const NO_ROUTE: u64 = 1 << 8;
const FAULT_INJECTED: u64 = 1 << 10;
const RATE_LIMITED: u64 = 1 << 11;
const UNAUTHORIZED: u64 = 1 << 12;
const NO_CLUSTER: u64 = 1 << 24;
const DOWNSTREAM_CONNECTION_TERMINATION: u64 = 1 << 14;
const STREAM_IDLE_TIMEOUT: u64 = 1 << 16;
const DOWNSTREAM_PROTOCOL_ERROR: u64 = 1 << 18;
const UPSTREAM_MAX_DURATION: u64 = 1 << 19;
const DURATION_TIMEOUT: u64 = 1 << 22;
const UPSTREAM_PROTOCOL_ERROR: u64 = 1 << 23;
const DOWNSTREAM_REMOTE_RESET: u64 = 1 << 28;

/// The upstream broke off.
const RESETS: u64 = LOCAL_RESET
    | UPSTREAM_REMOTE_RESET
    | UPSTREAM_CONNECTION_FAILURE
    | UPSTREAM_CONNECTION_TERMINATION
    | UPSTREAM_PROTOCOL_ERROR;
/// The upstream took too long.
const TIMEOUTS: u64 = UPSTREAM_TIMEOUT | STREAM_IDLE_TIMEOUT | UPSTREAM_MAX_DURATION | DURATION_TIMEOUT;
/// Envoy answered, without asking the upstream.
const UNASKED: u64 = NO_HEALTHY_UPSTREAM
    | UPSTREAM_OVERFLOW
    | NO_ROUTE
    | FAULT_INJECTED
    | RATE_LIMITED
    | UNAUTHORIZED
    | NO_CLUSTER;
/// The client broke off.
const CLIENT_LEFT: u64 =
    DOWNSTREAM_CONNECTION_TERMINATION | DOWNSTREAM_PROTOCOL_ERROR | DOWNSTREAM_REMOTE_RESET;

/// What kind of request it is, as far as that changes what is bad.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Nature {
    /// It asks for another protocol, or a tunnel: it lasts as long as both sides like.
    pub is_upgrade: bool,
    /// Its outcome is a status of gRPC's.
    pub is_grpc: bool,
}

impl Nature {
    /// Of a request with these headers.
    #[must_use]
    pub fn of(headers: &Headers<'_>) -> Nature {
        let mut nature = Nature::default();
        for (name, value) in headers.iter() {
            match name {
                b"upgrade" => nature.is_upgrade = true,
                b":method" if value == b"CONNECT" => nature.is_upgrade = true,
                // What else begins so, as `application/grpc-web`, has its status in the body.
                b"content-type" => {
                    let rest = value.strip_prefix(b"application/grpc");
                    nature.is_grpc |= rest.is_some_and(|rest| matches!(rest, [] | [b'+' | b';', ..]));
                }
                _ => {}
            }
        }
        nature
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// The response's status, where there was a response.
    pub status: Option<u16>,
    /// Envoy's response flags.
    pub flags: u64,
    /// The status of gRPC's, of requests that have one.
    pub grpc_status: Option<u8>,
    /// How long the response headers took, in microseconds, where they came.
    pub headers_us: Option<u64>,
    /// How long it took until it ended, in microseconds, where no headers came.
    pub total_us: u64,
    /// Whether it asked for another protocol.
    pub is_upgrade: bool,
}

/// Which outcomes are errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failures {
    /// Ranges of statuses, ends included.
    pub statuses: Box<[(u16, u16)]>,
    /// Whether it is one that the upstream broke off.
    pub resets: bool,
    /// Whether it is one that the upstream took too long.
    pub timeouts: bool,
    /// Statuses of gRPC's, one bit each.
    pub grpc_statuses: u32,
}

impl Ended {
    /// Whether it is an error; nothing for upgrades, and where the client left before there was any outcome.
    #[must_use]
    pub fn is_error(&self, failures: &Failures) -> Option<bool> {
        if self.is_upgrade {
            return None;
        }
        let status = self.status.is_some_and(|status| {
            failures.statuses.iter().any(|(first, last)| (*first..=*last).contains(&status))
        });
        // Of a call that the client cancels the host makes one up.
        let grpc_status = self.grpc_status.filter(|_| !self.has_client_left());
        let grpc_status = grpc_status.is_some_and(|status| {
            1_u32.checked_shl(status.into()).is_some_and(|bit| failures.grpc_statuses & bit != 0)
        });
        let is_reset = failures.resets && self.flags & RESETS != 0;
        let is_timeout = failures.timeouts && self.flags & TIMEOUTS != 0;
        if status || grpc_status || is_reset || is_timeout {
            return Some(true);
        }
        self.status.is_some().then_some(false)
    }

    /// Whether the response took longer than so many microseconds; nothing where it cannot be said, because one of the
    /// sides broke off before that.
    #[must_use]
    pub fn is_slower(&self, than_us: u64) -> Option<bool> {
        if self.is_upgrade {
            return None;
        }
        // A request that timed out counts as slow however short the time was.
        if self.flags & UPSTREAM_TIMEOUT != 0 {
            return Some(true);
        }
        match self.latency_us() {
            Some(us) => Some(us > than_us),
            None if self.flags & UNASKED != 0 => None,
            None => (self.total_us > than_us).then_some(true),
        }
    }

    /// How long the response headers took, in microseconds, where that says how fast the upstream is: what Envoy answers
    /// itself does not.
    #[must_use]
    pub fn latency_us(&self) -> Option<u64> {
        // So it answers for a connection that was refused or broken off. Had the response begun, its status would stand.
        let stands_for_reset = self.flags & RESETS != 0 && matches!(self.status, Some(502 | 503));
        let is_own = self.flags & (UNASKED | UPSTREAM_TIMEOUT) != 0 || stands_for_reset;
        self.headers_us.filter(|_| !self.is_upgrade && !is_own)
    }

    fn has_client_left(&self) -> bool {
        self.flags & CLIENT_LEFT != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failures() -> Failures {
        Failures { statuses: [(500, 599)].into(), resets: true, timeouts: true, grpc_statuses: 1 << 14 }
    }

    #[test]
    fn errors_are_the_upstreams() {
        let ended = |status, flags, grpc_status| Ended { status, flags, grpc_status, ..Ended::default() };
        for (case, expected) in [
            (ended(Some(200), 0, None), Some(false)),
            (ended(Some(404), 0, None), Some(false)),
            (ended(Some(500), 0, None), Some(true)),
            (ended(Some(599), 0, None), Some(true)),
            (ended(Some(200), UPSTREAM_PROTOCOL_ERROR, None), Some(true)),
            (ended(Some(200), UPSTREAM_CONNECTION_TERMINATION, None), Some(true)),
            (ended(Some(504), UPSTREAM_TIMEOUT, None), Some(true)),
            (ended(None, STREAM_IDLE_TIMEOUT, None), Some(true)),
            (ended(Some(200), 0, Some(0)), Some(false)),
            (ended(Some(200), 0, Some(14)), Some(true)),
            (ended(Some(200), 0, Some(255)), Some(false)),
            (ended(Some(200), DOWNSTREAM_CONNECTION_TERMINATION, None), Some(false)),
            (ended(None, DOWNSTREAM_CONNECTION_TERMINATION, None), None),
            (ended(None, DOWNSTREAM_REMOTE_RESET, None), None),
            (ended(Some(200), DOWNSTREAM_REMOTE_RESET, Some(14)), Some(false)),
            (ended(None, 0, None), None),
            (Ended { is_upgrade: true, ..ended(Some(101), UPSTREAM_CONNECTION_TERMINATION, None) }, None),
        ] {
            assert_eq!(case.is_error(&failures()), expected, "{case:?}");
        }
        let lenient =
            Failures { statuses: [(503, 503)].into(), resets: false, timeouts: false, ..failures() };
        assert_eq!(ended(Some(500), UPSTREAM_CONNECTION_TERMINATION, None).is_error(&lenient), Some(false));
    }

    #[test]
    fn a_client_that_leaves_early_says_nothing_and_one_that_leaves_late_says_slow() {
        let left =
            |total_us| Ended { flags: DOWNSTREAM_CONNECTION_TERMINATION, total_us, ..Ended::default() };
        let answered = |us| Ended { headers_us: Some(us), total_us: 9_000, ..Ended::default() };
        for (case, expected) in [
            (answered(1_000), Some(false)),
            (answered(1_001), Some(true)),
            (Ended { is_upgrade: true, ..answered(1_001) }, None),
            (left(1_000), None),
            (left(1_001), Some(true)),
            (Ended { flags: UPSTREAM_TIMEOUT, total_us: 500, ..Ended::default() }, Some(true)),
            (
                Ended {
                    status: Some(503),
                    flags: UPSTREAM_CONNECTION_FAILURE,
                    total_us: 500,
                    ..answered(400)
                },
                None,
            ),
            (Ended { status: Some(503), flags: UPSTREAM_OVERFLOW, ..answered(100) }, None),
            (Ended { status: Some(200), flags: UPSTREAM_PROTOCOL_ERROR, ..answered(400) }, Some(false)),
            (Ended { flags: UPSTREAM_REMOTE_RESET, total_us: 5_000, ..Ended::default() }, Some(true)),
            (Ended { flags: DOWNSTREAM_REMOTE_RESET, ..answered(400) }, Some(false)),
        ] {
            assert_eq!(case.is_slower(1_000), expected, "{case:?}");
        }
    }

    #[test]
    fn the_nature_of_a_request_stands_in_its_headers() {
        let of = |pairs: &[(&'static [u8], &'static [u8])]| Nature::of(&Headers::new(pairs.to_vec()));
        assert!(of(&[(b":method", b"CONNECT")]).is_upgrade);
        assert!(of(&[(b"upgrade", b"websocket")]).is_upgrade);
        for grpc in [&b"application/grpc"[..], b"application/grpc+proto", b"application/grpc;charset=utf-8"] {
            assert!(of(&[(b"content-type", grpc)]).is_grpc);
        }
        assert!(!of(&[(b"content-type", b"application/grpc-web")]).is_grpc);
        assert_eq!(of(&[(b":method", b"GET"), (b"content-type", b"text/plain")]), Nature::default());
    }
}
