//! The reads of a member, from the question to the answer.
//!
//! ```text
//!            ┌─ waits for a lease ──┐
//!   read ────┼─ a lease is held ────┼─▶ waits until its index is applied ─▶ Fetch ─▶ Fetched ─▶ Answer
//!            └─ local: no proof ────┘                              ▲                    │ the lease
//!                                                                  └────── again ───────┘ is over
//! ```

use std::collections::{BTreeMap, BTreeSet};

use kv::{Error, Index, Level};
use mutant::Mutant;

use crate::single::too_many_reads;
use crate::{Instant, READS_MAX, Token};

/// What matters to reads of what the replica is now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) now: Instant,
    /// It may read under a lease now: what was acknowledged is in the entries up to `index`.
    pub(super) is_leased: bool,
    pub(super) index: Index,
    pub(super) applied: Index,
    /// Nothing is missing here of what was acknowledged before that; `None` = nobody knows.
    pub(super) fresh: Option<Instant>,
}

/// What became of a read whose rows are here.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its proof holds.
    Answer { reached: Level, staleness_micros: u64 },
    /// It waits again.
    Again,
    /// There is no such read.
    Unknown,
}

/// The table of reads.
#[derive(Default)]
pub(super) struct Reads {
    open: BTreeMap<Token, Read>,
    /// They wait for a lease, since then.
    waiting: BTreeSet<(Instant, Token)>,
    /// By the index that must be applied first.
    indexed: BTreeSet<(Index, Token)>,
    fetch: Vec<Token>,
}

#[derive(Clone, Copy)]
struct Read {
    level: Level,
    place: Place,
}

#[derive(Clone, Copy)]
enum Place {
    Waiting(Instant),
    Indexed(Index),
    Fetching(Proof),
}

#[derive(Clone, Copy)]
enum Proof {
    Lease,
    /// What is applied misses nothing of what was acknowledged before that.
    Fresh(Option<Instant>),
}

impl Reads {
    /// Takes a read in.
    pub(super) fn read(&mut self, token: Token, level: Level, moment: Moment) -> Result<(), Error> {
        if self.open.len() >= READS_MAX {
            return Err(too_many_reads());
        }
        let before = self.open.insert(token, Read { level, place: Place::Waiting(moment.now) });
        assert!(before.is_none(), "a token names one open read: {token}");
        let age = moment.fresh.map_or(u64::MAX, |fresh| moment.now.since(fresh));
        let is_fresh = matches!(level, Level::Bounded(millis) if age <= millis.saturating_mul(1000));
        if level == Level::Local || is_fresh {
            self.fetch(token, Proof::Fresh(moment.fresh));
        } else {
            self.waiting.insert((moment.now, token));
            self.place(moment);
        }
        Ok(())
    }

    /// Those that wait for a lease go on when there is one.
    pub(super) fn place(&mut self, moment: Moment) {
        if !moment.is_leased {
            return;
        }
        for (_, token) in std::mem::take(&mut self.waiting) {
            if moment.index <= moment.applied {
                self.fetch(token, Proof::Lease);
            } else {
                self.indexed.insert((moment.index, token));
                self.put(token, Place::Indexed(moment.index));
            }
        }
    }

    /// Another one orders, or in another term: what those wait for may be replaced, and they wait for a lease anew.
    pub(super) fn interrupt(&mut self, now: Instant) {
        for (_, token) in std::mem::take(&mut self.indexed) {
            self.waiting.insert((now, token));
            self.put(token, Place::Waiting(now));
        }
    }

    /// All entries up to here are applied.
    pub(super) fn applied(&mut self, applied: Index) {
        let later = self.indexed.split_off(&(applied.next(), 0));
        for (_, token) in std::mem::replace(&mut self.indexed, later) {
            self.fetch(token, Proof::Lease);
        }
    }

    /// The rows of a read are here.
    pub(super) fn fetched(&mut self, token: Token, moment: Moment) -> Verdict {
        let Some(Read { level, place: Place::Fetching(proof) }) = self.open.get(&token).copied() else {
            return Verdict::Unknown;
        };
        let staleness_micros = match proof {
            Proof::Lease if moment.is_leased || mutant::is(Mutant::LeaseNotRechecked) => 0,
            Proof::Lease => u64::MAX,
            Proof::Fresh(fresh) => fresh.map_or(u64::MAX, |fresh| moment.now.since(fresh)),
        };
        let reached = match (proof, level) {
            (Proof::Lease, _) if staleness_micros == 0 => Level::Linearizable,
            (Proof::Fresh(_), Level::Local) => Level::Local,
            (Proof::Fresh(_), Level::Bounded(millis)) if staleness_micros <= millis.saturating_mul(1000) => {
                level
            }
            _ => {
                self.waiting.insert((moment.now, token));
                self.put(token, Place::Waiting(moment.now));
                return Verdict::Again;
            }
        };
        self.open.remove(&token);
        Verdict::Answer { reached, staleness_micros }
    }

    /// Nobody waits for a read any more. Whether it was here.
    pub(super) fn forget(&mut self, token: Token) -> bool {
        let Some(read) = self.open.remove(&token) else { return false };
        match read.place {
            Place::Waiting(since) => self.waiting.remove(&(since, token)),
            Place::Indexed(index) => self.indexed.remove(&(index, token)),
            Place::Fetching(_) => true,
        }
    }

    /// Forgets those that have waited for a lease since then or longer: whose they were.
    pub(super) fn give_up(&mut self, since: Instant) -> Vec<Token> {
        let later = self.waiting.split_off(&(since, Token::MAX));
        let over = std::mem::replace(&mut self.waiting, later);
        self.open.retain(|token, _| !over.iter().any(|(_, gone)| gone == token));
        over.into_iter().map(|(_, token)| token).collect()
    }

    /// Forgets all that are open: whose they were.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Token> + use<> {
        self.waiting.clear();
        self.indexed.clear();
        self.fetch.clear();
        std::mem::take(&mut self.open).into_keys()
    }

    /// Since when the first one waits for a lease.
    pub(super) fn waits_since(&self) -> Option<Instant> {
        self.waiting.first().map(|(since, _)| *since)
    }

    /// Whether no read is open.
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The reads whose rows may be read now.
    pub(super) fn take_fetch(&mut self) -> Vec<Token> {
        std::mem::take(&mut self.fetch)
    }

    fn put(&mut self, token: Token, place: Place) {
        self.open.get_mut(&token).expect("a read that is placed is open").place = place;
    }

    fn fetch(&mut self, token: Token, proof: Proof) {
        self.put(token, Place::Fetching(proof));
        self.fetch.push(token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(now: u64, is_leased: bool, applied: u64) -> Moment {
        let (now, fresh) = (Instant(now), Some(Instant(500)));
        Moment { now, is_leased, index: Index(10), applied: Index(applied), fresh }
    }

    fn answer(reached: Level, staleness_micros: u64) -> Verdict {
        Verdict::Answer { reached, staleness_micros }
    }

    #[test]
    fn read_waits_for_a_lease_then_for_its_index_and_looks_at_the_lease_again() {
        let mut reads = Reads::default();
        reads.read(1, Level::Linearizable, moment(1000, false, 9)).unwrap();
        reads.place(moment(1001, true, 9));
        assert_eq!(reads.take_fetch(), [0; 0]);
        reads.applied(Index(10));
        assert_eq!(reads.take_fetch(), [1]);
        assert_eq!(reads.fetched(1, moment(1002, false, 10)), Verdict::Again);
        reads.place(moment(1003, true, 10));
        assert_eq!(reads.take_fetch(), [1]);
        assert_eq!(reads.fetched(1, moment(1004, true, 10)), answer(Level::Linearizable, 0));
        assert!(reads.is_empty());
    }

    #[test]
    fn read_whose_index_may_be_replaced_waits_for_another() {
        let mut reads = Reads::default();
        reads.read(1, Level::Linearizable, moment(1000, true, 9)).unwrap();
        reads.interrupt(Instant(1001));
        reads.applied(Index(10));
        assert_eq!(reads.take_fetch(), [0; 0]);
        reads.place(Moment { index: Index(8), ..moment(1002, true, 9) });
        assert_eq!(reads.take_fetch(), [1]);
    }

    #[test]
    fn read_that_may_be_old_says_how_old_it_may_be() {
        let mut reads = Reads::default();
        reads.read(1, Level::Local, moment(1000, false, 9)).unwrap();
        reads.read(2, Level::Bounded(1), moment(1400, false, 9)).unwrap();
        reads.read(3, Level::Bounded(1), moment(1501, false, 9)).unwrap();
        assert_eq!(reads.take_fetch(), [1, 2]);
        assert_eq!(reads.fetched(1, moment(1100, false, 9)), answer(Level::Local, 600));
        assert_eq!(reads.fetched(2, moment(1501, false, 9)), Verdict::Again, "it grew too old");
        assert_eq!(reads.give_up(Instant(1501)), [2, 3]);
        assert!(reads.is_empty());
    }
}
