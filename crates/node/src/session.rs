//! The node's own sessions: ids for the requests that came without one.
//!
//! A request without an id gets one here, so that it can be sent again after a lost connection or a change of leaders
//! and still happens once. A session holds at most [`SESSION_WINDOW`] open requests; when all are full another is opened.

use std::collections::{BTreeSet, VecDeque};

use kv::{RequestId, SESSION_WINDOW, Version};

/// How long after its request's own time limit an id stays valid: what clocks may differ by, and then some.
const VALIDITY_MICROS: u64 = 120_000_000;

/// The sessions of one node for one shard.
#[derive(Debug)]
pub struct Sessions {
    seed: u64,
    opened: u64,
    sessions: VecDeque<Session>,
}

#[derive(Debug)]
struct Session {
    client: u64,
    next: u64,
    open: BTreeSet<u64>,
}

impl Session {
    fn answered_below(&self) -> u64 {
        self.open.first().copied().unwrap_or(self.next)
    }
}

impl Sessions {
    /// `seed` differs between nodes, shards and starts.
    pub fn new(seed: u64) -> Sessions {
        Sessions { seed, opened: 0, sessions: VecDeque::new() }
    }

    /// An id for a request that is given up at most `timeout_micros` after `now` (in microseconds since 1970, of the shard's newest
    /// version or the version clock, whichever is later).
    pub fn next(&mut self, now: u64, timeout_micros: u64) -> RequestId {
        let full = |session: &Session| session.next - session.answered_below() + 1 >= SESSION_WINDOW;
        if self.sessions.front().is_none_or(full) {
            match self.sessions.iter().position(|session| !full(session)) {
                Some(index) => self.sessions.swap(0, index),
                None => self.open(),
            }
        }
        let session = self.sessions.front_mut().expect("a session with room was put first");
        let sequence = session.next;
        session.next += 1;
        let is_new = session.open.insert(sequence);
        assert!(
            is_new && sequence - session.answered_below() < SESSION_WINDOW,
            "an id is new, in the window"
        );
        RequestId {
            client: session.client,
            sequence,
            valid_until: Version::end_of(now + timeout_micros + VALIDITY_MICROS),
            answered_below: session.answered_below(),
        }
    }

    /// Nobody waits for this request any more, and it will not be sent again.
    pub fn close(&mut self, id: &RequestId) {
        if let Some(session) = self.sessions.iter_mut().find(|session| session.client == id.client) {
            assert!(id.sequence < session.next, "only an id that was given is closed");
            session.open.remove(&id.sequence);
        }
    }

    fn open(&mut self) {
        self.opened += 1;
        let client = mix(self.seed.wrapping_add(self.opened)).max(1);
        self.sessions.push_front(Session { client, next: 1, open: BTreeSet::new() });
    }
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood, 2014): neighbours become strangers.
pub fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_window_full_opens_another() {
        let mut sessions = Sessions::new(1);
        let first = sessions.next(0, 0);
        let ids: Vec<RequestId> = (0..SESSION_WINDOW).map(|_| sessions.next(0, 0)).collect();
        assert!(
            ids.iter().all(|id| id.client != first.client || id.sequence - first.sequence < SESSION_WINDOW)
        );
        assert!(ids.iter().any(|id| id.client != first.client));
    }

    #[test]
    fn session_answered_below_rises_with_answers() {
        let mut sessions = Sessions::new(1);
        let (one, two) = (sessions.next(0, 0), sessions.next(0, 0));
        assert_eq!((one.answered_below, two.answered_below), (1, 1));
        sessions.close(&one);
        assert_eq!(sessions.next(0, 0).answered_below, 2);
    }
}
