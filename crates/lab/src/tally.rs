//! Counts what was seen: phase by phase, side by side, pure of clocks and sockets.
//!
//! A request counts in the phase in which its client knew what it came to. *Waits* are those of clients: the longest time within the
//! phase in which none of a node's clients was answered, at the node that had the longest. A read is *stale* when it shows an older
//! value of its key than one that was acknowledged before the read was asked; by how much is the time from the oldest such
//! acknowledgement that it misses.

use std::collections::BTreeMap;

use kv::{Key, Version};
use serde::Serialize;

use crate::seen::{Came, Kind, Seen};

/// What happens in a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Nothing.
    Calm,
    /// Nothing passes between this node and the others; clients reach all.
    Cut(usize),
    /// All nodes hear each other again.
    Healed(usize),
    /// The process of this node is killed.
    Killed(usize),
    /// It is started again.
    Back(usize),
    /// Nothing any more.
    CalmAgain,
}

/// A phase, and when it was. Times are in microseconds since the run began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phase {
    /// What happens in it.
    pub what: What,
    /// Its begin.
    pub from: u64,
    /// Its end.
    pub to: u64,
}

/// The nodes that a phase parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// All nodes hear each other.
    All,
    /// The one that is cut off.
    Alone,
    /// The one that is killed.
    Down,
    /// The others.
    Others,
}

/// What a side came to in a phase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    /// The side.
    pub side: Side,
    /// Its nodes.
    pub nodes: Vec<usize>,
    /// Puts, appends and compare-and-puts.
    pub writes: Counts,
    /// Linearizable gets.
    pub reads: Counts,
    /// Gets at the level `bounded`.
    pub bounded: Counts,
    /// Gets at the level `local`.
    pub local: Counts,
}

/// What requests of a kind came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Answered.
    pub done: u64,
    /// Refused, or not answered in time: they did not happen.
    pub failed: u64,
    /// Nobody knows.
    pub in_doubt: u64,
    /// The longest wait, in microseconds; `None` = nobody waited for an answer.
    pub wait_micros: Option<u64>,
    /// The wait at the end of the phase, in microseconds; `None` = nobody waited for an answer.
    pub waits_still_micros: Option<u64>,
    /// Reads that were stale.
    pub stale: u64,
    /// By how much at most, in microseconds.
    pub stale_by_micros: u64,
    /// Reads that were staler than their level or their receipt allows.
    pub untrue: u64,
}

/// Reads that may be stale, of two kinds together.
pub fn both(one: Counts, other: Counts) -> Counts {
    Counts {
        done: one.done + other.done,
        failed: one.failed + other.failed,
        in_doubt: one.in_doubt + other.in_doubt,
        wait_micros: one.wait_micros.max(other.wait_micros),
        waits_still_micros: one.waits_still_micros.max(other.waits_still_micros),
        stale: one.stale + other.stale,
        stale_by_micros: one.stale_by_micros.max(other.stale_by_micros),
        untrue: one.untrue + other.untrue,
    }
}

impl Side {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Side::All => "all",
            Side::Alone => "alone",
            Side::Down => "down",
            Side::Others => "others",
        }
    }
}

impl What {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            What::Calm => "calm",
            What::Cut(_) => "cut",
            What::Healed(_) => "healed",
            What::Killed(_) => "killed",
            What::Back(_) => "back",
            What::CalmAgain => "calm-again",
        }
    }

    /// The node that it is about.
    pub fn node(self) -> Option<usize> {
        match self {
            What::Calm | What::CalmAgain => None,
            What::Cut(node) | What::Healed(node) | What::Killed(node) | What::Back(node) => Some(node),
        }
    }

    /// The sides of so many nodes.
    fn sides(self, nodes: usize) -> Vec<(Side, Vec<usize>)> {
        let others = |node: usize| (0..nodes).filter(|other| *other != node).collect();
        match self {
            What::Cut(node) => vec![(Side::Alone, vec![node]), (Side::Others, others(node))],
            What::Killed(node) => vec![(Side::Down, vec![node]), (Side::Others, others(node))],
            What::Calm | What::Healed(_) | What::Back(_) | What::CalmAgain => {
                vec![(Side::All, (0..nodes).collect())]
            }
        }
    }
}

/// What each side of a phase came to, of so many nodes.
pub fn count(phase: &Phase, nodes: usize, seen: &[Seen], written: &Written) -> Vec<Tally> {
    let within: Vec<&Seen> =
        seen.iter().filter(|seen| (phase.from..phase.to).contains(&seen.returned)).collect();
    let tally = |(side, nodes): (Side, Vec<usize>)| {
        let of = |is: fn(Kind) -> bool| {
            let of_kind: Vec<&Seen> = within.iter().copied().filter(|seen| is(seen.kind)).collect();
            counts(phase, side, &nodes, &of_kind, written)
        };
        Tally {
            side,
            writes: of(|kind| kind == Kind::Write),
            reads: of(|kind| kind == Kind::Read),
            bounded: of(|kind| matches!(kind, Kind::Bounded(_))),
            local: of(|kind| kind == Kind::Local),
            nodes,
        }
    };
    phase.what.sides(nodes).into_iter().map(tally).collect()
}

fn counts(phase: &Phase, side: Side, nodes: &[usize], seen: &[&Seen], written: &Written) -> Counts {
    let mut counts = Counts::default();
    for node in nodes {
        let here = seen.iter().filter(|seen| seen.node == *node);
        let answers = here.clone().filter(|seen| seen.came.is_done()).map(|seen| seen.returned);
        // Clients of a node that is down ask nobody.
        if side != Side::Down {
            let (longest, last) = waits(phase, answers);
            counts.wait_micros = counts.wait_micros.max(Some(longest));
            counts.waits_still_micros = counts.waits_still_micros.max(Some(last));
        }
        here.for_each(|seen| counts.add(seen, written));
    }
    counts
}

/// The longest time without an answer, and that at the end. The answers are in the order of their times.
fn waits(phase: &Phase, answers: impl Iterator<Item = u64>) -> (u64, u64) {
    let (mut longest, mut last) = (0, phase.from);
    for answer in answers {
        longest = longest.max(answer.saturating_sub(last));
        last = last.max(answer);
    }
    let still = phase.to - last;
    (longest.max(still), still)
}

impl Counts {
    fn add(&mut self, seen: &Seen, written: &Written) {
        match seen.came {
            Came::Written(_) | Came::Unmet | Came::Read { .. } => self.done += 1,
            Came::Failed => self.failed += 1,
            Came::InDoubt => self.in_doubt += 1,
        }
        // Whether a linearizable one was, the judge of the history says.
        let bound = match seen.kind {
            Kind::Bounded(millis) => millis.saturating_mul(1000),
            Kind::Local => u64::MAX,
            Kind::Read | Kind::Write => return,
        };
        let Came::Read { version, staleness_micros } = seen.came else { return };
        if let Some(by) = written.missed(&seen.key, version, seen.called) {
            self.stale += 1;
            self.stale_by_micros = self.stale_by_micros.max(by);
            self.untrue += u64::from(by > bound.min(staleness_micros));
        }
    }
}

/// The writes that were acknowledged.
#[derive(Clone, Debug, Default)]
pub struct Written {
    /// Of each key, by rising version: the version, and when it or a later one was first acknowledged.
    keys: BTreeMap<Key, Vec<(Version, u64)>>,
    count: u64,
}

impl Written {
    /// Of what was seen.
    pub fn of(seen: &[Seen]) -> Written {
        let mut written = Written::default();
        for seen in seen {
            if let Came::Written(version) = seen.came {
                written.keys.entry(seen.key.clone()).or_default().push((version, seen.returned));
                written.count += 1;
            }
        }
        for acknowledged in written.keys.values_mut() {
            acknowledged.sort_unstable();
            let mut first = u64::MAX;
            for (_, at) in acknowledged.iter_mut().rev() {
                first = first.min(*at);
                *at = first;
            }
        }
        written
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = (Key, Version)> + '_ {
        self.keys.iter().flat_map(|(key, all)| all.iter().map(|(version, _)| (key.clone(), *version)))
    }

    /// How long before a time the first write of a key was acknowledged that is later than a version, in microseconds; `None` = no such
    /// write was acknowledged before that time.
    pub fn missed(&self, key: &Key, version: Version, called: u64) -> Option<u64> {
        let (_, at) = self.later(key, version).first()?;
        (*at < called).then(|| called - at)
    }

    /// How many writes of a key are later than the version that is left of it at the end: these are lost.
    pub fn lost(&self, key: &Key, version: Version) -> u64 {
        self.later(key, version).len() as u64
    }

    fn later(&self, key: &Key, version: Version) -> &[(Version, u64)] {
        let acknowledged = self.keys.get(key).map(Vec::as_slice).unwrap_or_default();
        &acknowledged[acknowledged.partition_point(|(written, _)| *written <= version)..]
    }
}

#[cfg(test)]
mod tests {
    use kv::ReplicaId;

    use super::*;

    fn version(micros: u64) -> Version {
        Version::new(micros, ReplicaId(0))
    }

    fn seen(node: usize, kind: Kind, called: u64, returned: u64, came: Came) -> Seen {
        Seen { node, kind, key: "k".into(), called, returned, came }
    }

    fn wrote(node: usize, returned: u64, at: u64) -> Seen {
        seen(node, Kind::Write, returned - 5, returned, Came::Written(version(at)))
    }

    fn read(kind: Kind, called: u64, at: u64, staleness_micros: u64) -> Seen {
        let came = Came::Read { version: version(at), staleness_micros };
        seen(2, kind, called, called + 5, came)
    }

    fn cut() -> Phase {
        Phase { what: What::Cut(1), from: 1000, to: 2000 }
    }

    #[test]
    fn requests_count_on_the_side_of_their_node_in_the_phase_of_their_outcome() {
        let all = [
            wrote(0, 999, 1),
            wrote(0, 1000, 2),
            seen(1, Kind::Write, 900, 1100, Came::InDoubt),
            seen(1, Kind::Write, 1100, 1200, Came::Failed),
            seen(2, Kind::Write, 1100, 1300, Came::Unmet),
            wrote(2, 1999, 3),
            wrote(2, 2000, 4),
        ];
        let written = Written::of(&all);
        assert_eq!(written.count(), 4);
        let sides = count(&cut(), 3, &all, &written);
        assert_eq!((sides[0].side, &sides[0].nodes[..]), (Side::Alone, &[1][..]));
        assert_eq!((sides[1].side, &sides[1].nodes[..]), (Side::Others, &[0, 2][..]));
        let came = |side: &Tally| (side.writes.done, side.writes.failed, side.writes.in_doubt);
        assert_eq!((came(&sides[0]), came(&sides[1])), ((0, 1, 1), (3, 0, 0)));
        let calm = Phase { what: What::Calm, ..cut() };
        let sides = count(&calm, 3, &all, &written);
        assert_eq!((sides.len(), came(&sides[0])), (1, (3, 1, 1)));
    }

    #[test]
    fn wait_is_of_the_node_that_waited_longest_and_ends_with_the_phase() {
        let all = [wrote(0, 1100, 1), wrote(2, 1700, 2), wrote(0, 1800, 3)];
        let others = count(&cut(), 3, &all, &Written::of(&all))[1].writes;
        assert_eq!(
            (others.wait_micros, others.waits_still_micros),
            (Some(700), Some(300)),
            "n1 and n3 each waited for 700"
        );
        let alone = count(&cut(), 3, &all, &Written::of(&all))[0].writes;
        assert_eq!((alone.wait_micros, alone.waits_still_micros), (Some(1000), Some(1000)));
    }

    #[test]
    fn clients_of_a_node_that_is_down_do_not_wait() {
        let killed = Phase { what: What::Killed(1), ..cut() };
        let all = [seen(1, Kind::Write, 900, 1001, Came::InDoubt)];
        let sides = count(&killed, 3, &all, &Written::of(&all));
        assert_eq!(
            (sides[0].side, sides[0].writes.in_doubt, sides[0].writes.wait_micros),
            (Side::Down, 1, None)
        );
    }

    #[test]
    fn read_is_stale_by_the_time_since_the_first_write_that_it_misses() {
        // Of two writes at the same time the later one may be acknowledged first.
        let writes = [wrote(0, 1000, 10), wrote(0, 1200, 20), wrote(1, 1100, 30)];
        let written = Written::of(&writes);
        let missed = |at: u64, called: u64| written.missed(&"k".into(), version(at), called);
        assert_eq!(missed(30, 1900), None, "it is the newest");
        assert_eq!(missed(20, 1900), Some(800));
        assert_eq!(missed(10, 1900), Some(800), "the one of 1200 is later and was acknowledged later");
        assert_eq!(missed(0, 1900), Some(900));
        assert_eq!(missed(20, 1100), None, "it was not acknowledged before the read was asked");
        assert_eq!(written.missed(&"other".into(), Version::ZERO, 1900), None);
        assert_eq!((written.lost(&"k".into(), version(10)), written.lost(&"k".into(), version(30))), (2, 0));
    }

    #[test]
    fn stale_read_is_untrue_beyond_its_level_or_its_receipt() {
        let all = [
            wrote(0, 1000, 10),
            read(Kind::Bounded(1), 1500, 0, 2000),
            read(Kind::Bounded(0), 1500, 0, 2000),
            read(Kind::Local, 1600, 0, 600),
            read(Kind::Local, 1601, 0, 600),
            read(Kind::Local, 1700, 10, 0),
            read(Kind::Read, 1800, 0, 0),
        ];
        let others = &count(&cut(), 3, &all, &Written::of(&all))[1];
        let came = |counts: Counts| (counts.done, counts.stale, counts.stale_by_micros, counts.untrue);
        assert_eq!(came(others.bounded), (2, 2, 500, 1), "the one that was to miss nothing");
        assert_eq!(came(others.local), (3, 2, 601, 1), "the one that missed more than it said");
        assert_eq!(came(others.reads), (1, 0, 0, 0), "the judge's");
        assert_eq!(came(both(others.bounded, others.local)), (5, 4, 601, 2));
    }
}
