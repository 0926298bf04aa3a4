//! The reads of a replica, from the question to the answer.
//!
//! ```text
//!            ┌─ lease ──────────────────────────────┐
//!   read ────┼─ waits for a round ─▶ confirmed ─────┼─▶ waits for its index to be applied ─▶ Fetch ─▶ Fetched ─▶ Answer
//!            └─ local: no proof ────────────────────┘                                  ▲            │ proof does
//!                                                                                      └── again ───┘ not hold
//! ```
//!
//! A round of ReadIndex that began at `t` and was confirmed with index `i` proves: what was acknowledged before `t` is in the
//! entries up to `i`. That stays true, whoever leads later. It proves a read that was asked before the round began
//! linearizable, and any other one as old as the round. One round is on its way at a time; reads that arrive meanwhile share
//! the next one. The raft crate drops rounds without a word, so they are kept here and issued again under the same name; the
//! leader numbers each issue, lest a late confirmation of one counts for the next.
//!
//! A lease proves a read linearizable while it is held. It is looked at again after the rows were read: the process may have
//! been stopped in between.

use std::collections::{BTreeMap, BTreeSet};

use kv::{Error, Index, Level};
use mutant::Mutant;

use super::lease::Lease;
use crate::single::too_many_reads;
use crate::{Instant, READS_MAX, Token};

/// What matters to reads of what the replica is now.
#[derive(Clone, Copy)]
pub(super) struct Moment<'a> {
    pub(super) now: Instant,
    /// Of a leader that has committed an entry of its term.
    pub(super) lease: Option<&'a Lease>,
    pub(super) commit: Index,
    pub(super) applied: Index,
}

impl Moment<'_> {
    fn is_leased(&self) -> bool {
        self.lease.is_some_and(|lease| lease.is_valid(self.now))
    }
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
    /// By the number of the first round that will do.
    waiting: BTreeSet<(u64, Token)>,
    /// By the index that must be applied first.
    indexed: BTreeSet<(Index, Token)>,
    /// Their rows may be read now.
    fetch: Vec<Token>,
    round: Option<Round>,
    /// Number of the last round. Starts at 1.
    rounds: u64,
    /// The last round that was confirmed, and the last one whose index is applied as well.
    confirmed: Option<Confirmed>,
    settled: Option<Confirmed>,
    /// A read came since the last round began: the next one may begin in the background.
    wanted: bool,
}

#[derive(Clone, Copy)]
struct Read {
    level: Level,
    /// The first round that begins after it was asked.
    after: u64,
    place: Place,
}

#[derive(Clone, Copy)]
enum Place {
    Waiting(u64),
    Indexed(Index, Proof),
    Fetching(Proof),
}

#[derive(Clone, Copy)]
enum Proof {
    Lease,
    Round(Confirmed),
    /// Whether anything is known: the time of what is.
    Local(Option<Instant>),
}

#[derive(Clone, Copy)]
struct Round {
    number: u64,
    began: Instant,
    issued: Instant,
}

#[derive(Clone, Copy)]
struct Confirmed {
    number: u64,
    began: Instant,
    index: Index,
}

impl Reads {
    /// Takes a read in.
    pub(super) fn read(&mut self, token: Token, level: Level, moment: Moment) -> Result<(), Error> {
        if self.open.len() >= READS_MAX {
            return Err(too_many_reads());
        }
        self.wanted = true;
        let read = Read { level, after: self.rounds + 1, place: Place::Waiting(0) };
        let before = self.open.insert(token, read);
        assert!(before.is_none(), "a token names one open read: {token}");
        self.place(token, read, moment);
        Ok(())
    }

    /// The rows of a read are here.
    pub(super) fn fetched(&mut self, token: Token, moment: Moment) -> Verdict {
        let Some(read) = self.open.get(&token).copied() else { return Verdict::Unknown };
        let Place::Fetching(proof) = read.place else { return Verdict::Unknown };
        match self.judge(read, proof, moment) {
            Some((reached, staleness_micros)) => {
                self.open.remove(&token);
                Verdict::Answer { reached, staleness_micros }
            }
            None => {
                self.wait(token, read);
                Verdict::Again
            }
        }
    }

    /// Nobody waits for a read any more. Whether it was here.
    pub(super) fn forget(&mut self, token: Token) -> bool {
        let Some(read) = self.open.remove(&token) else { return false };
        match read.place {
            Place::Waiting(round) => self.waiting.remove(&(round, token)),
            Place::Indexed(index, _) => self.indexed.remove(&(index, token)),
            Place::Fetching(_) => true,
        }
    }

    /// Forgets all that are open, and the round on its way: whose they were.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Token> + use<> {
        (self.round, self.wanted) = (None, false);
        self.waiting.clear();
        self.indexed.clear();
        self.fetch.clear();
        std::mem::take(&mut self.open).into_keys()
    }

    /// Whether no read is open and no round on its way.
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty() && self.round.is_none()
    }

    /// The reads whose rows may be read now.
    pub(super) fn take_fetch(&mut self) -> Vec<Token> {
        std::mem::take(&mut self.fetch)
    }

    /// Begins a round when reads wait for one, or when a new proof is wanted that the last one's age of `renew_micros` makes
    /// due: its number.
    pub(super) fn begin_round(&mut self, now: Instant, renew_micros: u64) -> Option<u64> {
        let is_due = |confirmed: Confirmed| now.since(confirmed.began) >= renew_micros;
        let renew = self.wanted && self.confirmed.is_none_or(is_due);
        if self.round.is_some() || (self.waiting.is_empty() && !renew) {
            return None;
        }
        assert!(
            self.waiting.last().is_none_or(|(after, _)| *after <= self.rounds + 1),
            "a read waits for the next round at most"
        );
        self.wanted = false;
        self.rounds += 1;
        self.round = Some(Round { number: self.rounds, began: now, issued: now });
        Some(self.rounds)
    }

    /// The round to issue again, when it was not confirmed for so long.
    pub(super) fn lost_round(&mut self, now: Instant, patience_micros: u64) -> Option<u64> {
        let round = self.round.as_mut().filter(|round| now.since(round.issued) >= patience_micros)?;
        round.issued = now;
        Some(round.number)
    }

    /// A round is confirmed: when it began, if it is the one on its way.
    pub(super) fn confirm_round(&mut self, number: u64, index: Index, applied: Index) -> Option<Instant> {
        assert!(number <= self.rounds, "round {number} is confirmed, and {} was the last one", self.rounds);
        let began = self.round.take_if(|round| round.number == number)?.began;
        assert!(
            self.confirmed.is_none_or(|before| before.number < number && before.began <= began),
            "rounds are confirmed in order"
        );
        let confirmed = Confirmed { number, began, index };
        self.confirmed = Some(confirmed);
        let later = self.waiting.split_off(&(number + 1, 0));
        for (_, token) in std::mem::replace(&mut self.waiting, later) {
            self.index(token, index, Proof::Round(confirmed), applied);
        }
        self.settle(applied);
        Some(began)
    }

    /// The term or the role changed: what is on its way is lost, and so is the lease.
    pub(super) fn interrupt(&mut self) {
        self.round = None;
        let leased = |(_, token): &&(Index, Token)| {
            matches!(self.open.get(token), Some(Read { place: Place::Indexed(_, Proof::Lease), .. }))
        };
        let leased: Vec<(Index, Token)> = self.indexed.iter().filter(leased).copied().collect();
        for (index, token) in leased {
            self.indexed.remove(&(index, token));
            let read = self.open[&token];
            self.wait(token, read);
        }
    }

    /// All entries up to here are applied.
    pub(super) fn applied(&mut self, applied: Index) {
        let later = self.indexed.split_off(&(applied.next(), 0));
        for (_, token) in std::mem::replace(&mut self.indexed, later) {
            let read = self.open.get_mut(&token).expect("an indexed read is open");
            let Place::Indexed(_, proof) = read.place else { unreachable!("the set holds indexed reads") };
            read.place = Place::Fetching(proof);
            self.fetch.push(token);
        }
        self.settle(applied);
    }

    fn place(&mut self, token: Token, read: Read, moment: Moment) {
        let fresh = |confirmed: &Confirmed, millis: u64| is_within(moment.now.since(confirmed.began), millis);
        match read.level {
            Level::Local => self.index(token, Index::ZERO, Proof::Local(self.known(moment)), moment.applied),
            _ if moment.is_leased() => self.index(token, moment.commit, Proof::Lease, moment.applied),
            Level::Bounded(millis) => match self.confirmed.filter(|confirmed| fresh(confirmed, millis)) {
                Some(round) => self.index(token, round.index, Proof::Round(round), moment.applied),
                None => self.wait(token, read),
            },
            Level::Linearizable => self.wait(token, read),
        }
    }

    fn wait(&mut self, token: Token, read: Read) {
        self.waiting.insert((read.after, token));
        self.open.insert(token, Read { place: Place::Waiting(read.after), ..read });
    }

    fn index(&mut self, token: Token, index: Index, proof: Proof, applied: Index) {
        let read = self.open.get_mut(&token).expect("a read that is placed is open");
        if index <= applied {
            read.place = Place::Fetching(proof);
            self.fetch.push(token);
        } else {
            read.place = Place::Indexed(index, proof);
            self.indexed.insert((index, token));
        }
    }

    /// What the rows of a read keep; `None` = less than was asked for.
    fn judge(&self, read: Read, proof: Proof, moment: Moment) -> Option<(Level, u64)> {
        match proof {
            Proof::Lease if mutant::is(Mutant::LeaseNotRechecked) => Some((Level::Linearizable, 0)),
            Proof::Lease => moment.is_leased().then_some((Level::Linearizable, 0)),
            Proof::Round(round) if round.number >= read.after => Some((Level::Linearizable, 0)),
            Proof::Round(round) => {
                let staleness = moment.now.since(round.began);
                let Level::Bounded(millis) = read.level else { return None };
                is_within(staleness, millis).then_some((read.level, staleness))
            }
            Proof::Local(since) => {
                Some((Level::Local, since.map_or(u64::MAX, |since| moment.now.since(since))))
            }
        }
    }

    /// Since when the applied entries may miss something.
    fn known(&self, moment: Moment) -> Option<Instant> {
        if moment.is_leased() && moment.commit <= moment.applied {
            return Some(moment.now);
        }
        self.settled.map(|round| round.began)
    }

    fn settle(&mut self, applied: Index) {
        if let Some(confirmed) = self.confirmed.filter(|confirmed| confirmed.index <= applied) {
            self.settled = Some(confirmed);
        }
    }
}

/// Whether what is so old is young enough for a bound.
fn is_within(staleness_micros: u64, millis: u64) -> bool {
    staleness_micros <= millis.saturating_mul(1000) || mutant::is(Mutant::BoundIgnored)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RENEW: u64 = 200;

    fn moment(now: u64, applied: u64) -> Moment<'static> {
        Moment { now: Instant(now), lease: None, commit: Index(10), applied: Index(applied) }
    }

    fn lease(began: u64) -> Lease {
        let mut lease = Lease::new(100, 10, 0);
        lease.confirm(Instant(began));
        lease
    }

    fn answer(reached: Level, staleness_micros: u64) -> Verdict {
        Verdict::Answer { reached, staleness_micros }
    }

    /// A table in which round 1 began at 1000 and is confirmed with index 10.
    fn confirmed() -> Reads {
        let mut reads = Reads::default();
        reads.read(1, Level::Linearizable, moment(1000, 10)).unwrap();
        assert_eq!(reads.begin_round(Instant(1000), RENEW), Some(1));
        assert_eq!(reads.confirm_round(1, Index(10), Index(10)), Some(Instant(1000)));
        assert_eq!(reads.take_fetch(), [1]);
        assert_eq!(reads.fetched(1, moment(1001, 10)), answer(Level::Linearizable, 0));
        reads
    }

    #[test]
    fn read_without_lease_waits_for_a_round_and_its_index() {
        let mut reads = Reads::default();
        reads.read(1, Level::Linearizable, moment(0, 5)).unwrap();
        assert_eq!(reads.begin_round(Instant(0), RENEW), Some(1));
        assert_eq!(reads.begin_round(Instant(1), RENEW), None, "one at a time");
        reads.confirm_round(1, Index(7), Index(5));
        assert_eq!(reads.take_fetch(), [0; 0]);
        reads.applied(Index(6));
        assert_eq!(reads.take_fetch(), [0; 0]);
        reads.applied(Index(7));
        assert_eq!(reads.take_fetch(), [1]);
        assert_eq!(reads.fetched(1, moment(9, 7)), answer(Level::Linearizable, 0));
        assert_eq!(reads.fetched(1, moment(9, 7)), Verdict::Unknown);
    }

    #[test]
    fn read_asked_during_a_round_waits_for_the_next() {
        let mut reads = Reads::default();
        reads.read(1, Level::Linearizable, moment(0, 10)).unwrap();
        reads.begin_round(Instant(0), RENEW);
        reads.read(2, Level::Linearizable, moment(0, 10)).unwrap();
        reads.confirm_round(1, Index(10), Index(10));
        assert_eq!(reads.take_fetch(), [1]);
        assert_eq!(reads.begin_round(Instant(0), RENEW), Some(2));
        reads.confirm_round(2, Index(10), Index(10));
        assert_eq!(reads.take_fetch(), [2]);
    }

    #[test]
    fn read_under_a_lease_needs_what_is_committed_applied() {
        let lease = lease(0);
        let leased = |now, applied| Moment { lease: Some(&lease), ..moment(now, applied) };
        let mut reads = Reads::default();
        reads.read(1, Level::Linearizable, leased(1, 9)).unwrap();
        assert_eq!(reads.take_fetch(), [0; 0]);
        reads.applied(Index(10));
        assert_eq!(reads.take_fetch(), [1]);
        assert_eq!(reads.fetched(1, leased(899, 10)), answer(Level::Linearizable, 0));
    }

    #[test]
    fn read_whose_lease_ran_out_meanwhile_takes_a_round() {
        let lease = lease(0);
        let leased = |now| Moment { lease: Some(&lease), ..moment(now, 10) };
        let mut reads = Reads::default();
        reads.read(1, Level::Linearizable, leased(1)).unwrap();
        assert_eq!(reads.take_fetch(), [1]);
        assert_eq!(reads.fetched(1, leased(900)), Verdict::Again);
        let number = reads.begin_round(Instant(900), RENEW).unwrap();
        reads.confirm_round(number, Index(10), Index(10));
        assert_eq!(reads.take_fetch(), [1]);
        assert_eq!(reads.fetched(1, leased(2000)), answer(Level::Linearizable, 0));
    }

    #[test]
    fn read_interrupted_takes_a_new_round() {
        let lease = lease(0);
        let mut reads = Reads::default();
        reads.read(1, Level::Linearizable, Moment { lease: Some(&lease), ..moment(1, 9) }).unwrap();
        reads.read(2, Level::Linearizable, moment(1, 9)).unwrap();
        let lost = reads.begin_round(Instant(1), RENEW).unwrap();
        reads.interrupt();
        assert_eq!(reads.confirm_round(lost, Index(10), Index(10)), None);
        let number = reads.begin_round(Instant(2), RENEW).unwrap();
        reads.confirm_round(number, Index(10), Index(10));
        assert_eq!(reads.take_fetch(), [1, 2]);
    }

    #[test]
    fn read_lost_round_is_issued_again_under_its_name() {
        let mut reads = Reads::default();
        reads.read(1, Level::Linearizable, moment(0, 10)).unwrap();
        reads.begin_round(Instant(0), RENEW);
        assert_eq!(reads.lost_round(Instant(99), 100), None);
        assert_eq!(reads.lost_round(Instant(100), 100), Some(1));
        assert_eq!(reads.lost_round(Instant(150), 100), None);
        assert_eq!(reads.confirm_round(1, Index(10), Index(10)), Some(Instant(0)));
    }

    #[test]
    fn read_bounded_reuses_a_round_that_is_fresh_enough() {
        let mut reads = confirmed();
        reads.read(2, Level::Bounded(1), moment(1900, 10)).unwrap();
        assert_eq!(reads.take_fetch(), [2]);
        assert_eq!(reads.fetched(2, moment(2000, 10)), answer(Level::Bounded(1), 1000));
        reads.read(3, Level::Bounded(1), moment(1900, 10)).unwrap();
        reads.take_fetch();
        assert_eq!(
            reads.fetched(3, moment(2001, 10)),
            Verdict::Again,
            "it grew too old while the rows were read"
        );
        let number = reads.begin_round(Instant(2001), RENEW).unwrap();
        reads.confirm_round(number, Index(11), Index(11));
        assert_eq!(reads.take_fetch(), [3]);
        assert_eq!(reads.fetched(3, moment(9999, 11)), answer(Level::Linearizable, 0));
    }

    #[test]
    fn read_bounded_beyond_the_last_round_begins_one() {
        let mut reads = confirmed();
        reads.read(2, Level::Bounded(1), moment(2001, 10)).unwrap();
        assert_eq!(reads.take_fetch(), [0; 0]);
        assert_eq!(reads.begin_round(Instant(2001), RENEW), Some(2));
    }

    #[test]
    fn read_local_tells_how_old_the_last_proof_is() {
        let mut reads = Reads::default();
        reads.read(1, Level::Local, moment(0, 3)).unwrap();
        assert_eq!(reads.take_fetch(), [1]);
        assert_eq!(reads.fetched(1, moment(5, 3)), answer(Level::Local, u64::MAX));
        let mut reads = confirmed();
        reads.read(2, Level::Local, moment(1500, 10)).unwrap();
        assert_eq!(reads.fetched(2, moment(1600, 10)), answer(Level::Local, 600));
    }

    #[test]
    fn round_is_renewed_in_the_background_only_while_reads_come() {
        let mut reads = confirmed();
        assert_eq!(reads.begin_round(Instant(1000 + RENEW), RENEW), None, "nobody reads");
        reads.read(2, Level::Local, moment(1100, 10)).unwrap();
        assert_eq!(reads.begin_round(Instant(1000 + RENEW - 1), RENEW), None, "young enough");
        assert_eq!(reads.begin_round(Instant(1000 + RENEW), RENEW), Some(2));
    }

    #[test]
    fn read_forgotten_leaves_nothing() {
        let mut reads = Reads::default();
        reads.read(1, Level::Linearizable, moment(0, 5)).unwrap();
        reads.read(2, Level::Linearizable, moment(0, 5)).unwrap();
        reads.begin_round(Instant(0), RENEW);
        assert!(reads.forget(1));
        reads.confirm_round(1, Index(9), Index(5));
        assert!(reads.forget(2) && !reads.forget(2));
        reads.applied(Index(9));
        assert_eq!(reads.take_fetch(), [0; 0]);
        assert!(reads.open.is_empty() && reads.waiting.is_empty() && reads.indexed.is_empty());
    }

    #[test]
    fn read_beyond_the_limit_is_refused() {
        let mut reads = Reads::default();
        (0..READS_MAX as u64).for_each(|token| reads.read(token, Level::Linearizable, moment(0, 5)).unwrap());
        let refused = reads.read(9999, Level::Local, moment(0, 5)).unwrap_err();
        assert_eq!(refused.outcome(), kv::Outcome::Failed);
    }
}
