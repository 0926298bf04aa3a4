//! A leader's lease: until when nobody else can have been elected.
//!
//! A round of ReadIndex that began at `t` and was confirmed by a majority proves that each of them heard of this leader
//! after `t`. None of them votes or campaigns within an election timeout of that ([`super::guard`]), and every election
//! needs one of them. A follower counts in ticks, of which the first may be over at once: hence one tick less. Clocks may
//! run at different rates: hence the drift.

use mutant::Mutant;

use crate::Instant;

/// The lease of the present term.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    length_micros: u64,
    until: Option<Instant>,
    /// The leadership was offered to another: no more leases in this term.
    given_away: bool,
}

impl Lease {
    /// None yet. The timing is the group's; `drift_percent`: by how much two clocks may differ over a lease.
    pub(super) fn new(tick_micros: u64, election_ticks: usize, drift_percent: u64) -> Lease {
        let longest = (election_ticks as u64).saturating_sub(1) * tick_micros;
        let length_micros = longest * 100u64.saturating_sub(drift_percent) / 100;
        assert!(
            length_micros < election_ticks as u64 * tick_micros,
            "a lease ends before those who gave it may elect another"
        );
        Lease { length_micros, until: None, given_away: false }
    }

    /// How long a lease lasts from the start of its round.
    pub(super) fn length_micros(&self) -> u64 {
        self.length_micros
    }

    /// A round that began then was confirmed.
    pub(super) fn confirm(&mut self, began: Instant) {
        if !self.given_away {
            self.until = self.until.max(Some(began.plus(self.length_micros)));
        }
    }

    /// Whether it is held now.
    pub(super) fn is_valid(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until || mutant::is(Mutant::LeaseNeverEnds))
    }

    /// The target of a transfer was told to campaign: the others vote for it in spite of their guards.
    pub(super) fn give_away(&mut self) {
        self.until = None;
        self.given_away = true;
    }

    /// The members changed: a majority of now need not meet one of before.
    pub(super) fn revoke(&mut self) {
        self.until = None;
    }

    /// The group sleeps: others may elect a leader without a word to this one.
    pub(super) fn sleep(&mut self) {
        self.until = mutant::is(Mutant::SleepingLeaderKeepsLease).then_some(Instant::MAX);
    }

    /// Another term began.
    pub(super) fn reset(&mut self) {
        self.until = None;
        self.given_away = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: u64 = 50_000;

    #[test]
    fn lease_ends_one_tick_and_the_drift_before_an_election() {
        let mut lease = Lease::new(TICK, 10, 10);
        assert!(!lease.is_valid(Instant(0)));
        lease.confirm(Instant(1_000_000));
        assert!(lease.is_valid(Instant(1_000_000 + 9 * TICK * 9 / 10 - 1)));
        assert!(!lease.is_valid(Instant(1_000_000 + 9 * TICK * 9 / 10)));
    }

    #[test]
    fn lease_older_round_does_not_shorten_it() {
        let mut lease = Lease::new(TICK, 10, 0);
        lease.confirm(Instant(500_000));
        lease.confirm(Instant(0));
        assert!(lease.is_valid(Instant(500_000 + 9 * TICK - 1)));
    }

    #[test]
    fn lease_given_away_stays_away_for_the_term() {
        let mut lease = Lease::new(TICK, 10, 0);
        lease.confirm(Instant(0));
        lease.give_away();
        lease.confirm(Instant(1));
        assert!(!lease.is_valid(Instant(2)));
        lease.reset();
        lease.confirm(Instant(3));
        assert!(lease.is_valid(Instant(4)));
    }

    #[test]
    fn lease_does_not_outlive_falling_asleep() {
        let mut lease = Lease::new(TICK, 10, 0);
        lease.confirm(Instant(0));
        lease.sleep();
        assert!(!lease.is_valid(Instant(1)));
        lease.confirm(Instant(1));
        assert!(lease.is_valid(Instant(2)));
    }

    #[test]
    fn lease_revoked_comes_back_with_the_next_round() {
        let mut lease = Lease::new(TICK, 10, 0);
        lease.confirm(Instant(0));
        lease.revoke();
        assert!(!lease.is_valid(Instant(1)));
        lease.confirm(Instant(1));
        assert!(lease.is_valid(Instant(2)));
    }
}
