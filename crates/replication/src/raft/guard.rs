//! When a replica may take part in an election.
//!
//! A leader reads under its lease because those who confirmed it keep still for one election timeout. A replica that was
//! restarted has forgotten whom it confirmed, so it keeps still after its start as well. And a replica that has lost entries
//! it had acknowledged keeps still until it has them again: its vote would count for a log it does not have.

use kv::{Index, Term};
use mutant::Mutant;

use super::addresses::is_alone;
use super::replica::Raft;
use crate::entries::LogEntry;
use crate::{Instant, View};

/// What a replica knows of its right to vote.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    timeout_micros: u64,
    quiet_until: Option<Instant>,
    whole_at: Index,
    least_term: Term,
}

impl Guard {
    /// Of a replica that starts now, whenever that is; it is whole once it has synced entries up to `whole_at`.
    pub(super) fn new(timeout_micros: u64, whole_at: Index) -> Guard {
        Guard { timeout_micros, quiet_until: None, whole_at, least_term: Term::ZERO }
    }

    /// It is now. The first time is the start.
    pub(super) fn tick(&mut self, now: Instant) {
        let micros = if mutant::is(Mutant::VotesAfterRestart) { 0 } else { self.timeout_micros };
        self.quiet_until.get_or_insert(now.plus(micros));
    }

    /// The leader was heard of.
    pub(super) fn heard(&mut self, now: Instant) {
        self.quiet_until = self.quiet_until.max(Some(now.plus(self.timeout_micros)));
    }

    /// A leader of this term knows of entries up to here that this replica may have acknowledged.
    pub(super) fn require(&mut self, whole_at: Index, term: Term) {
        self.whole_at = self.whole_at.max(whole_at);
        self.least_term = self.least_term.max(term);
    }

    /// Whether a message of this term is listened to (0 = it has none). Who lost entries may have forgotten whom it helped to
    /// elect: to a leader from before that, its word would make a second majority.
    pub(super) fn believes(&self, term: Term) -> bool {
        term == Term::ZERO || term >= self.least_term
    }

    /// It is whole with a log up to here.
    pub(super) fn whole_at(&self) -> Index {
        self.whole_at
    }

    /// Whether it has what it had acknowledged.
    pub(super) fn is_whole(&self, durable: Index) -> bool {
        durable >= self.whole_at
    }

    /// Whether it may vote or campaign now. `forced`: the leader itself asked for the election.
    pub(super) fn may_elect(&self, now: Instant, durable: Index, forced: bool) -> bool {
        self.is_whole(durable) && (forced || self.quiet_until.is_some_and(|until| now >= until))
    }
}

impl Raft {
    /// Whether it may vote or campaign now. `forced`: the leader itself asked for the election. Who is a majority alone has promised
    /// nothing to anybody.
    pub(super) fn may_elect(&self, forced: bool) -> bool {
        self.installing.is_none()
            && (self.is_alone() || self.guard.may_elect(self.now, self.core.durable(), forced))
    }

    /// Whether it is a majority by itself, and stays that by all that its log says: after a restart others may be members already, which
    /// it has not applied yet.
    pub(super) fn is_alone(&self) -> bool {
        let is_alone = |view: &View| is_alone(view, self.config.id);
        let mut behind = self.core.log().above(self.applied.index);
        let members = |entry: &LogEntry| entry.members().expect("what is in a log was checked when it came");
        is_alone(self.core.view()) && behind.all(|entry| members(entry).is_none_or(|view| is_alone(&view)))
    }
}

/// Counts ticks: at most one per look at the clock. Missed ones are skipped, never made up, so that a replica that was
/// paused does not find all its timeouts over at once.
#[derive(Clone, Debug)]
pub(super) struct Ticker {
    tick_micros: u64,
    last: Option<Instant>,
}

impl Ticker {
    /// One tick per so many microseconds.
    pub(super) fn new(tick_micros: u64) -> Ticker {
        Ticker { tick_micros, last: None }
    }

    /// When the next tick is over: at once, before the first look.
    pub(super) fn due(&self) -> Instant {
        self.last.map_or(Instant::default(), |last| last.plus(self.tick_micros))
    }

    /// Whether a tick is over. The first look only starts the count.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let last = *self.last.get_or_insert(now);
        assert!(now >= last, "the monotonic clock does not go back");
        let elapsed = now.since(last);
        if elapsed >= self.tick_micros {
            let on_time = elapsed < 2 * self.tick_micros || mutant::is(Mutant::MissedTicksMadeUp);
            self.last = Some(if on_time { last.plus(self.tick_micros) } else { now });
        }
        elapsed >= self.tick_micros
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guard_keeps_still_after_start_and_leader() {
        let mut guard = Guard::new(500, Index(0));
        assert!(!guard.may_elect(Instant(9999), Index(0), false), "it does not know the time yet");
        guard.tick(Instant(1000));
        guard.tick(Instant(1499));
        assert!(!guard.may_elect(Instant(1499), Index(0), false));
        assert!(guard.may_elect(Instant(1499), Index(0), true));
        assert!(guard.may_elect(Instant(1500), Index(0), false));
        guard.heard(Instant(1600));
        assert!(!guard.may_elect(Instant(2099), Index(0), false));
        assert!(guard.may_elect(Instant(2100), Index(0), false));
    }

    #[test]
    fn guard_not_whole_keeps_still_even_when_forced() {
        let mut guard = Guard::new(500, Index(3));
        guard.tick(Instant(0));
        guard.require(Index(7), Term(1));
        guard.require(Index(5), Term(1));
        assert!(!guard.may_elect(Instant(500), Index(6), true));
        assert!(guard.may_elect(Instant(500), Index(7), false));
    }

    #[test]
    fn guard_that_lost_entries_believes_no_earlier_term() {
        let mut guard = Guard::new(500, Index(0));
        assert!(guard.believes(Term(1)));
        guard.require(Index(7), Term(4));
        assert!(!guard.believes(Term(3)));
        assert!(guard.believes(Term(4)) && guard.believes(Term(0)));
        assert!(!guard.is_whole(Index(6)) && guard.is_whole(Index(7)));
    }

    #[test]
    fn ticker_missed_ticks_are_skipped() {
        let mut ticker = Ticker::new(50);
        let due: Vec<bool> = [0, 49, 50, 99, 100, 149, 160, 199, 1000, 1001, 1049, 1050]
            .map(|now| ticker.is_due(Instant(now)))
            .into();
        let expected = [false, false, true, false, true, false, true, false, true, false, false, true];
        assert_eq!(due, expected);
    }
}
