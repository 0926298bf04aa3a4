//! The version clock: what proposes versions, and what deadlines are measured by.
//!
//! It starts at the wall clock's time, or at the newest version on the node's disk if that is later, and then follows the
//! monotonic clock, so a wall clock that jumps does not move it. It is drawn towards the median of what the node's wall
//! clock and its peers' version clocks say, at most one part in a hundred: a node whose wall clock is an hour off cannot
//! pull the others, and is pulled itself.
//!
//! After a start it is unsettled. It settles at once, by a step, when it hears of a peer whose clock is settled: that is the
//! time the cluster lives by, and a node that starts an hour ahead or behind must not let anything expire early. When a
//! whole cluster starts there is no such peer; then it steps to the median of the first majority that it hears of, of two
//! middles the lower one: what expires late does less harm than what expires early.
//!
//! # Caveats
//!
//! With one node there is no median but its own wall clock. A deadline that counts from now and is asked of a node before
//! it has settled, within its first moments, is measured by its wall clock. A shard of one copy serves that early: when the wall
//! clock was ahead, its versions stay ahead of all clocks until the time has come up with them, and what is valid (a request's id)
//! for less than that is out of date there.

use std::collections::BTreeMap;

use kv::{NodeId, Version};
use replication::Instant;

/// The time, as the owner of a driver reads it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// CLOCK_BOOTTIME, in microseconds.
    pub instant: Instant,
    /// The wall clock, in microseconds since 1970.
    pub wall: u64,
}

/// Drawn by at most one microsecond in so many.
const SLEW: u64 = 100;
/// What a peer told of its clock counts for so long.
const TOLD_MICROS: u64 = 10_000_000;

/// The version clock of one node.
#[derive(Clone, Debug)]
pub struct VersionClock {
    majority: usize,
    /// It never steps below this.
    last: Version,
    micros: u64,
    read_at: Instant,
    offset_of_wall: i64,
    told: BTreeMap<NodeId, Told>,
    settled: bool,
}

#[derive(Clone, Copy, Debug)]
struct Told {
    offset: i64,
    at: Instant,
}

impl VersionClock {
    /// Of a node in a cluster of `nodes` nodes, on whose disk `last` is the newest version.
    pub fn new(nodes: usize, last: Version, now: Now) -> VersionClock {
        VersionClock {
            majority: nodes / 2 + 1,
            last,
            micros: now.wall.max(last.micros()),
            read_at: now.instant,
            offset_of_wall: 0,
            told: BTreeMap::new(),
            settled: nodes == 1,
        }
    }

    /// The cluster has so many nodes from now on.
    pub fn of_nodes(&mut self, nodes: usize) {
        self.majority = nodes / 2 + 1;
    }

    /// Moves on to now.
    pub fn advance(&mut self, now: Now) {
        assert!(now.instant >= self.read_at, "the monotonic clock does not go back");
        let (passed, before) = (now.instant.since(self.read_at), self.micros);
        self.read_at = now.instant;
        self.micros += passed;
        self.offset_of_wall = now.wall as i64 - self.micros as i64;
        let wanted = self.median(now.instant);
        let most = (passed / SLEW) as i64;
        self.micros = self.micros.saturating_add_signed(wanted.clamp(-most, most));
        assert!(self.micros >= before, "drawn by a hundredth, it still goes on");
    }

    /// A peer says what its version clock shows, and whether that is settled.
    pub fn hear(&mut self, from: NodeId, micros: u64, settled: bool) {
        let offset = micros as i64 - self.micros as i64;
        self.told.insert(from, Told { offset, at: self.read_at });
        if !self.settled && settled {
            self.settle(offset);
        } else if !self.settled && self.told.len() + 1 >= self.majority {
            let (low, _) = self.middles(self.read_at);
            self.settle(low);
        }
    }

    /// Whether it shows the time that the cluster lives by.
    pub fn is_settled(&self) -> bool {
        self.settled
    }

    fn settle(&mut self, step: i64) {
        assert!(!self.settled, "it steps once");
        self.settled = true;
        self.micros = self.micros.saturating_add_signed(step).max(self.last.micros());
        self.told.clear();
    }

    /// Microseconds since 1970.
    pub fn micros(&self) -> u64 {
        self.micros
    }

    /// The middle of what the wall clock and the peers say, relative to this clock; of two middles the one nearer to it.
    fn median(&self, now: Instant) -> i64 {
        let (low, high) = self.middles(now);
        if low.abs() <= high.abs() { low } else { high }
    }

    fn middles(&self, now: Instant) -> (i64, i64) {
        let fresh =
            self.told.values().filter(|told| now.since(told.at) <= TOLD_MICROS).map(|told| told.offset);
        let mut offsets: Vec<i64> = fresh.chain([self.offset_of_wall]).collect();
        offsets.sort_unstable();
        (offsets[(offsets.len() - 1) / 2], offsets[offsets.len() / 2])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000_000;

    fn at(instant: u64, wall: u64) -> Now {
        Now { instant: Instant(instant), wall }
    }

    fn clock(nodes: usize, wall: u64) -> VersionClock {
        VersionClock::new(nodes, Version::ZERO, at(0, wall))
    }

    #[test]
    fn clock_wall_jump_with_peers_changes_nothing() {
        let mut clock = clock(3, HOUR);
        clock.hear(NodeId(2), HOUR, true);
        for second in 1..=60 {
            clock.advance(at(second * 1_000_000, 2 * HOUR + second * 1_000_000));
            clock.hear(NodeId(2), HOUR + second * 1_000_000, true);
            clock.hear(NodeId(3), HOUR + second * 1_000_000, true);
        }
        assert_eq!(clock.micros(), HOUR + 60_000_000);
    }

    #[test]
    fn clock_started_wrong_steps_to_the_time_of_a_settled_peer() {
        for wall in [HOUR, 3 * HOUR] {
            let mut clock = clock(3, wall);
            clock.hear(NodeId(2), 2 * HOUR, true);
            assert_eq!((clock.micros(), clock.is_settled()), (2 * HOUR, true));
            clock.hear(NodeId(3), HOUR, true);
            assert_eq!(clock.micros(), 2 * HOUR, "it steps once");
        }
    }

    #[test]
    fn clock_with_unsettled_peers_steps_to_the_majority() {
        let mut clock = clock(5, 2 * HOUR);
        clock.hear(NodeId(2), HOUR, false);
        assert_eq!(clock.micros(), 2 * HOUR, "two of five are no majority");
        clock.hear(NodeId(3), HOUR, false);
        assert_eq!(clock.micros(), HOUR);
    }

    #[test]
    fn clock_of_two_that_start_together_the_lower_counts() {
        let (mut ahead, mut behind) = (clock(3, 2 * HOUR), clock(3, HOUR));
        ahead.hear(NodeId(2), HOUR, false);
        behind.hear(NodeId(2), 2 * HOUR, false);
        assert_eq!((ahead.micros(), behind.micros()), (HOUR, HOUR));
    }

    #[test]
    fn clock_never_starts_or_steps_below_the_newest_version() {
        let mut clock = VersionClock::new(3, Version::new(2 * HOUR, kv::ReplicaId(3)), at(0, HOUR));
        assert_eq!(clock.micros(), 2 * HOUR);
        clock.hear(NodeId(2), HOUR, true);
        assert_eq!(clock.micros(), 2 * HOUR);
    }

    #[test]
    fn clock_alone_follows_its_wall_slowly() {
        let mut clock = clock(1, HOUR);
        clock.advance(at(1_000_000, 2 * HOUR));
        assert_eq!(clock.micros(), HOUR + 1_010_000);
        clock.advance(at(2_000_000, 0));
        assert_eq!(clock.micros(), HOUR + 2_000_000);
    }
}
