//! Request ids: each write gets one, from a session with room in its window.
//!
//! A session is a random number and a window of sequence numbers. The window begins at the oldest request that is not
//! answered and spans at most [`kv::SESSION_WINDOW`]: a shard never has to remember more of one client. One slow request
//! therefore fills its session after so many others; then another session takes over, and this one is used again when it
//! has room.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use kv::{RequestId, SESSION_WINDOW, Version};

use super::random;

/// The sessions of one client. Kept for its life: as many as its writes at one time need.
#[derive(Default)]
pub(super) struct Sessions {
    sessions: Mutex<Vec<Session>>,
}

/// A request id in use. Dropping it says that the request is answered, or given up and never sent again.
pub(super) struct Ticket {
    sessions: Arc<Sessions>,
    index: usize,
    pub(super) id: RequestId,
}

impl Sessions {
    /// A new id, for requests that may be run until `valid_until`.
    pub(super) fn open(self: &Arc<Sessions>, valid_until: Version) -> Ticket {
        let mut sessions = self.lock();
        let index = sessions.iter().position(Session::has_room).unwrap_or_else(|| {
            sessions.push(Session::new());
            sessions.len() - 1
        });
        let id = sessions[index].open(valid_until);
        Ticket { sessions: self.clone(), index, id }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Session>> {
        self.sessions.lock().expect("no holder of the lock panics")
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.sessions.lock()[self.index].answered(self.id.sequence);
    }
}

struct Session {
    client: u64,
    answered_below: u64,
    /// Whether the requests from `answered_below` on are answered. The first is not.
    answered: VecDeque<bool>,
}

impl Session {
    fn new() -> Session {
        // 0 is no session.
        Session { client: random().max(1), answered_below: 1, answered: VecDeque::new() }
    }

    fn has_room(&self) -> bool {
        (self.answered.len() as u64) < SESSION_WINDOW
    }

    fn open(&mut self, valid_until: Version) -> RequestId {
        let sequence = self.answered_below + self.answered.len() as u64;
        self.answered.push_back(false);
        RequestId { client: self.client, sequence, valid_until, answered_below: self.answered_below }
    }

    fn answered(&mut self, sequence: u64) {
        let place = sequence.checked_sub(self.answered_below).expect("a request is answered once");
        self.answered[place as usize] = true;
        while self.answered.front() == Some(&true) {
            self.answered.pop_front();
            self.answered_below += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_ids_rise_and_answered_below_follows_the_answers() {
        let sessions = Arc::new(Sessions::default());
        let open = || sessions.open(Version::MAX);
        let (first, second, third) = (open(), open(), open());
        assert_eq!([first.id.sequence, second.id.sequence, third.id.sequence], [1, 2, 3]);
        assert_ne!(first.id.client, 0);
        drop(second);
        assert_eq!(open().id.answered_below, 1);
        drop(first);
        assert_eq!(open().id.answered_below, 3);
    }

    #[test]
    fn session_with_a_slow_request_gives_way_to_another_after_its_window() {
        let sessions = Arc::new(Sessions::default());
        let slow = sessions.open(Version::MAX);
        for _ in 1..SESSION_WINDOW {
            assert_eq!(sessions.open(Version::MAX).id.client, slow.id.client);
        }
        let other = sessions.open(Version::MAX);
        assert_ne!(other.id.client, slow.id.client);
        assert_eq!(other.id.sequence, 1);
        let client = slow.id.client;
        drop(slow);
        let again = sessions.open(Version::MAX);
        let next = SESSION_WINDOW + 1;
        assert_eq!((again.id.client, again.id.sequence, again.id.answered_below), (client, next, next));
    }
}
