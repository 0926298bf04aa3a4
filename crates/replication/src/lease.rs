//! A lease: for so long, one replica promises another not to do something.
//!
//! Who gives it and who holds it look at clocks of their own, and the word between them takes its time. So each counts from the end
//! that is safe for it: the holder from when it *asked*, the giver from when it *gave*, which is later. By clocks that run alike the
//! holder's ends first; by how much they may differ over a lease, the holder's is cut short.
//!
//! ```text
//!   holder    asks ●────────── holds it ──────────● ends
//!                   \        ▲
//!   giver            gives ●────────── keeps it ──────────────● over
//! ```
//!
//! The question carries when it was asked, by the holder's clock and under the number of its life, and the answer says it again: an
//! answer that comes late, or to an earlier life, gives no more than it should.

use std::collections::BTreeMap;

use bytes::{BufMut, BytesMut};
use kv::ReplicaId;
use kv::codec::{Malformed, Reader, put_uint};
use mutant::Mutant;

use crate::Instant;

/// A question for a lease: who answers says it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Of the holder: differs between its lives.
    pub(crate) life: u64,
    /// By the holder's clock.
    pub(crate) at: Instant,
}

impl Asked {
    /// Its bytes.
    pub(crate) fn encode(self, into: &mut BytesMut) {
        into.put_u64(self.life);
        put_uint(into, self.at.0);
    }

    /// From its bytes.
    pub(crate) fn decode(reader: &mut Reader) -> Result<Asked, Malformed> {
        Ok(Asked { life: reader.u64()?, at: Instant(reader.uint()?) })
    }
}

/// A lease that is held, or not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    length_micros: u64,
    /// When the question was asked that was answered last.
    from: Option<Instant>,
    /// When one was asked last, answered or not.
    asked: Option<Instant>,
}

impl Held {
    /// None yet. `drift_percent`: by how much two clocks may differ over a lease.
    pub(crate) fn new(lease_micros: u64, drift_percent: u64) -> Held {
        Held {
            length_micros: lease_micros * 100u64.saturating_sub(drift_percent) / 100,
            from: None,
            asked: None,
        }
    }

    /// The answer to a question is here. Whether it is one of this life.
    pub(crate) fn granted(&mut self, asked: Asked, life: u64, now: Instant) -> bool {
        let is_own = asked.life == life && asked.at <= now;
        if is_own {
            let from = if mutant::is(Mutant::LeaseCountedFromReceipt) { now } else { asked.at };
            self.from = self.from.max(Some(from));
        }
        is_own
    }

    /// Whether it is held now.
    pub(crate) fn is_valid(&self, now: Instant) -> bool {
        self.from.is_some_and(|from| now < from.plus(self.length_micros))
    }

    /// When the question was asked that was answered last.
    pub(crate) fn from(&self) -> Option<Instant> {
        self.from
    }

    /// It is asked for now.
    pub(crate) fn ask(&mut self, now: Instant) {
        self.asked = Some(now);
    }

    /// Whether it was asked for within so long.
    pub(crate) fn was_asked_within(&self, micros: u64, now: Instant) -> bool {
        self.asked.is_some_and(|asked| now.since(asked) < micros)
    }

    /// It is held no more.
    pub(crate) fn drop(&mut self) {
        (self.from, self.asked) = (None, None);
    }
}

/// The leases that were given, by whom they were given to.
#[derive(Debug)]
pub(crate) struct Given {
    lease_micros: u64,
    until: BTreeMap<ReplicaId, Instant>,
}

impl Given {
    /// None yet.
    pub(crate) fn new(lease_micros: u64) -> Given {
        Given { lease_micros, until: BTreeMap::new() }
    }

    /// One is given now.
    pub(crate) fn give(&mut self, to: ReplicaId, now: Instant) {
        let until = self.until.entry(to).or_default();
        *until = (*until).max(now.plus(self.lease_micros));
    }

    /// When what was given to a replica is over; long ago where it was given none.
    pub(crate) fn over_at(&self, of: ReplicaId) -> Instant {
        self.until.get(&of).copied().unwrap_or_default()
    }

    /// When all that was given to others than this one is over.
    pub(crate) fn others_over_at(&self, but: ReplicaId) -> Instant {
        let others = self.until.iter().filter(|(replica, _)| **replica != but);
        others.map(|(_, until)| *until).max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: u64 = 7;

    fn asked(at: u64) -> Asked {
        Asked { life: LIFE, at: Instant(at) }
    }

    #[test]
    fn lease_is_held_from_when_it_was_asked_for_less_the_drift() {
        let mut held = Held::new(1000, 10);
        assert!(!held.is_valid(Instant(0)));
        assert!(held.granted(asked(100), LIFE, Instant(700)));
        assert!(held.is_valid(Instant(999)) && !held.is_valid(Instant(1000)));
    }

    #[test]
    fn lease_given_is_over_later_than_it_is_held() {
        let mut given = Given::new(1000);
        given.give(ReplicaId(2), Instant(500));
        given.give(ReplicaId(2), Instant(400));
        assert_eq!((given.over_at(ReplicaId(2)), given.over_at(ReplicaId(3))), (Instant(1500), Instant(0)));
        assert_eq!(given.others_over_at(ReplicaId(2)), Instant(0));
        assert_eq!(given.others_over_at(ReplicaId(3)), Instant(1500));
    }

    #[test]
    fn lease_answered_late_or_to_an_earlier_life_gives_no_more() {
        let mut held = Held::new(1000, 0);
        held.granted(asked(500), LIFE, Instant(600));
        held.granted(asked(100), LIFE, Instant(601));
        assert!(held.is_valid(Instant(1499)), "an older answer does not shorten it");
        assert!(!held.granted(Asked { life: 8, at: Instant(1400) }, LIFE, Instant(1450)));
        assert!(!held.granted(asked(9999), LIFE, Instant(1450)), "from the future");
        assert!(!held.is_valid(Instant(1500)));
    }

    #[test]
    fn asked_round_trips() {
        let mut into = BytesMut::new();
        asked(1 << 50).encode(&mut into);
        assert_eq!(Asked::decode(&mut Reader::new(into.freeze())), Ok(asked(1 << 50)));
    }
}
