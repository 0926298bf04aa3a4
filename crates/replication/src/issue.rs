//! Versions that a replica issues on its own: each once, in rising order, over restarts too.
//!
//! Whoever issues versions and forgets which ones gives one twice, and then two rows have one name. To write each down before it is used
//! would cost a sync a write. So the log has a *ceiling*: nothing above it was ever issued. It is raised ahead of need, a second at a time, and
//! what is issued stays below what is synced. A replica that starts again goes on above the ceiling, whatever it had issued.
//!
//! ```text
//!   issued ───▶ ≤ synced ceiling ≤ logged ceiling          after a restart: issued = logged ceiling
//! ```

use std::collections::VecDeque;

use kv::{ReplicaId, Version};
use mutant::Mutant;

use crate::Ticket;

/// So far ahead of what is needed the ceiling is raised: one sync of the log a second, for whoever writes without a pause.
const AHEAD_MICROS: u64 = 1_000_000;
/// When less than this is left, it is raised again.
const LEFT_MICROS_MIN: u64 = 500_000;
/// Who has seen versions so far ahead of its clock issues none: one of the clocks is wrong, and would draw all others with it.
pub(crate) const FUTURE_MICROS_MAX: u64 = 10_000_000;

/// What a replica has issued, in microseconds.
#[derive(Debug)]
pub(crate) struct Issue {
    replica: ReplicaId,
    issued: u64,
    synced: u64,
    logged: u64,
    /// Ceilings that are on their way to the disk.
    unsynced: VecDeque<(Ticket, u64)>,
}

/// Why no version is issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotNow {
    /// The ceiling is on its way to the disk.
    Unsynced,
    /// What was seen is too far ahead of the clock, by so many microseconds.
    Ahead(u64),
}

impl Issue {
    /// Of a replica whose log has this ceiling.
    pub(crate) fn new(replica: ReplicaId, ceiling: Version) -> Issue {
        let issued = if mutant::is(Mutant::VersionsIssuedAgain) { 0 } else { ceiling.micros() };
        Issue { replica, issued, synced: issued, logged: issued, unsynced: VecDeque::new() }
    }

    /// A version of now, above what was issued before and above `seen`.
    pub(crate) fn next(&mut self, clock: Version, seen: Version) -> Result<Version, NotNow> {
        let ahead = seen.micros().saturating_sub(clock.micros());
        if ahead > FUTURE_MICROS_MAX {
            return Err(NotNow::Ahead(ahead));
        }
        let micros = clock.micros().max(seen.micros() + 1).max(self.issued + 1);
        if micros > self.synced {
            return Err(NotNow::Unsynced);
        }
        self.issued = micros;
        Ok(Version::new(micros, self.replica))
    }

    /// None up to this one is issued any more.
    pub(crate) fn skip(&mut self, to: Version) {
        self.issued = self.issued.max(to.micros());
    }

    /// The ceiling to write to the log now, if one is needed for versions above `seen`.
    pub(crate) fn raise(&mut self, clock: Version, seen: Version) -> Option<Version> {
        let seen = seen.micros().min(clock.micros() + FUTURE_MICROS_MAX);
        let needed = clock.micros().max(seen).max(self.issued);
        if needed + LEFT_MICROS_MIN <= self.logged {
            return None;
        }
        self.logged = needed + AHEAD_MICROS;
        Some(self.ceiling())
    }

    /// The ceiling that was given out last is in this append.
    pub(crate) fn appended(&mut self, ticket: Ticket) {
        self.unsynced.push_back((ticket, self.logged));
    }

    /// All appends up to this ticket are synced.
    pub(crate) fn is_synced(&mut self, ticket: Ticket) {
        while let Some((_, ceiling)) = self.unsynced.pop_front_if(|(own, _)| *own <= ticket) {
            self.synced = ceiling;
        }
    }

    /// The ceiling that the log has, synced or not.
    pub(crate) fn ceiling(&self) -> Version {
        Version::new(self.logged, self.replica)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: ReplicaId = ReplicaId(3);

    fn at(micros: u64) -> Version {
        Version::new(micros, ReplicaId(1))
    }

    fn synced(issue: &mut Issue, clock: Version, ticket: u64) {
        issue.raise(clock, Version::ZERO).expect("a ceiling is needed");
        issue.appended(Ticket(ticket));
        issue.is_synced(Ticket(ticket));
    }

    #[test]
    fn version_waits_for_its_ceiling_and_rises() {
        let mut issue = Issue::new(ME, Version::ZERO);
        assert_eq!(issue.next(at(7), Version::ZERO), Err(NotNow::Unsynced));
        issue.raise(at(7), Version::ZERO);
        issue.appended(Ticket(1));
        assert_eq!(issue.next(at(7), Version::ZERO), Err(NotNow::Unsynced));
        issue.is_synced(Ticket(1));
        assert_eq!(issue.next(at(7), Version::ZERO), Ok(Version::new(7, ME)));
        assert_eq!(issue.next(at(7), Version::ZERO), Ok(Version::new(8, ME)));
        assert_eq!(issue.next(at(7), at(100)), Ok(Version::new(101, ME)));
        assert_eq!(issue.raise(at(7), Version::ZERO), None);
    }

    #[test]
    fn version_after_a_restart_is_above_all_that_were_issued() {
        let mut issue = Issue::new(ME, Version::ZERO);
        synced(&mut issue, at(7), 1);
        let issued = issue.next(at(500_000), Version::ZERO).unwrap();
        let mut again = Issue::new(ME, issue.ceiling());
        synced(&mut again, at(1), 1);
        assert!(again.next(at(1), Version::ZERO).unwrap() > issued);
    }

    #[test]
    fn version_far_ahead_of_the_clock_is_not_followed() {
        let mut issue = Issue::new(ME, Version::ZERO);
        synced(&mut issue, at(7), 1);
        let seen = at(7 + FUTURE_MICROS_MAX + 1);
        assert_eq!(issue.next(at(7), seen), Err(NotNow::Ahead(FUTURE_MICROS_MAX + 1)));
    }
}
