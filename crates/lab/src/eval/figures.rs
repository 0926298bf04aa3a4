//! Counts what clients saw in a time, pure of clocks and sockets.

use kv::Version;

use crate::seen::{Came, Kind, Seen};
use crate::tally::Written;

/// What the requests came to whose clients knew it within a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// How long that time is, in microseconds.
    pub micros: u64,
    /// Puts that were acknowledged.
    pub puts: u64,
    /// Gets that were answered.
    pub gets: u64,
    /// Requests that failed, or of which nobody knows.
    pub failed: u64,
    /// Half of the puts took no longer, in microseconds; 0 = there was none.
    pub put_p50_micros: u64,
    /// The same of gets.
    pub get_p50_micros: u64,
    /// 99 of 100 puts took no longer, in microseconds; 0 = there was none.
    pub put_p99_micros: u64,
    /// The same of gets.
    pub get_p99_micros: u64,
    /// Gets whose answer was older than a put that was acknowledged before the get began.
    pub wrong: u64,
    /// By how much at most, in microseconds.
    pub wrong_by_micros: u64,
    /// By how much a get of these might be old at most, in microseconds: the highest that level and receipt allow. 0 = by nothing.
    pub bound_micros: u64,
    /// Gets that were older than level and receipt allow.
    pub untrue: u64,
}

/// Counts what was known from a time until another. What was seen before tells what was acknowledged.
pub fn count(seen: &[Seen], from: u64, to: u64) -> Figures {
    let written = Written::of(seen);
    let mut figures = Figures { micros: to - from, ..Figures::default() };
    let (mut puts, mut gets) = (Vec::new(), Vec::new());
    for seen in seen.iter().filter(|seen| (from..to).contains(&seen.returned)) {
        let took = seen.returned - seen.called;
        match seen.came {
            Came::Written(_) => puts.push(took),
            Came::Read { version, staleness_micros } => {
                gets.push(took);
                figures.read(seen, version, staleness_micros, &written);
            }
            Came::Failed | Came::InDoubt | Came::Unmet => figures.failed += 1,
        }
    }
    (figures.puts, figures.gets) = (puts.len() as u64, gets.len() as u64);
    (figures.put_p50_micros, figures.put_p99_micros) = (percentile(&mut puts, 50), percentile(&mut puts, 99));
    (figures.get_p50_micros, figures.get_p99_micros) = (percentile(&mut gets, 50), percentile(&mut gets, 99));
    figures
}

impl Figures {
    /// So many of these requests in a second.
    pub fn per_second(&self, requests: u64) -> u64 {
        requests * 1_000_000 / self.micros.max(1)
    }

    fn read(&mut self, seen: &Seen, version: Version, staleness_micros: u64, written: &Written) {
        let level = match seen.kind {
            Kind::Bounded(millis) => millis.saturating_mul(1000),
            Kind::Local => u64::MAX,
            Kind::Read | Kind::Write => 0,
        };
        let bound = level.min(staleness_micros);
        self.bound_micros = self.bound_micros.max(bound);
        if let Some(by) = written.missed(&seen.key, version, seen.called) {
            self.wrong += 1;
            self.wrong_by_micros = self.wrong_by_micros.max(by);
            self.untrue += u64::from(by > bound);
        }
    }
}

/// So many of a hundred took no longer; 0 = there was none.
fn percentile(times: &mut [u64], percent: usize) -> u64 {
    if times.is_empty() {
        return 0;
    }
    let rank = (times.len() * percent).div_ceil(100).max(1);
    *times.select_nth_unstable(rank - 1).1
}

#[cfg(test)]
mod tests {
    use kv::ReplicaId;

    use super::*;

    fn seen(kind: Kind, called: u64, returned: u64, came: Came) -> Seen {
        Seen { node: 0, kind, key: "k".into(), called, returned, came }
    }

    fn put(called: u64, returned: u64, version: u64) -> Seen {
        seen(Kind::Write, called, returned, Came::Written(Version::new(version, ReplicaId(0))))
    }

    fn get(kind: Kind, called: u64, version: u64, staleness_micros: u64) -> Seen {
        let version = Version::new(version, ReplicaId(0));
        seen(kind, called, called + 10, Came::Read { version, staleness_micros })
    }

    #[test]
    fn what_came_before_is_not_counted_and_is_known() {
        let all = [
            put(0, 100, 1),
            put(1900, 2000, 2),
            get(Kind::Local, 1000, 1, 50),
            get(Kind::Local, 1200, 0, 2000),
            seen(Kind::Write, 1300, 1400, Came::InDoubt),
            seen(Kind::Local, 1300, 1400, Came::Failed),
        ];
        let figures = count(&all, 1000, 2000);
        assert_eq!((figures.puts, figures.gets, figures.failed), (0, 2, 2));
        assert_eq!((figures.wrong, figures.wrong_by_micros, figures.untrue), (1, 1100, 0));
        assert_eq!(figures.bound_micros, 2000);
        assert_eq!(figures.per_second(figures.puts + figures.gets), 2000);
    }

    #[test]
    fn answer_is_no_older_than_level_and_receipt_allow() {
        let wrong = |kind, called, told| {
            let figures = count(&[put(0, 100, 1), get(kind, called, 0, told)], 0, 10_000);
            (figures.wrong, figures.untrue, figures.bound_micros)
        };
        assert_eq!(wrong(Kind::Read, 100, 0), (0, 0, 0), "it was not acknowledged before");
        assert_eq!(wrong(Kind::Read, 101, 0), (1, 1, 0), "a linearizable read may miss nothing");
        assert_eq!(wrong(Kind::Local, 600, 500), (1, 0, 500));
        assert_eq!(wrong(Kind::Local, 601, 500), (1, 1, 500), "one microsecond more than it says");
        assert_eq!(wrong(Kind::Bounded(1), 1100, 5000), (1, 0, 1000));
        assert_eq!(wrong(Kind::Bounded(1), 1101, 5000), (1, 1, 1000), "more than it was asked for");
    }

    #[test]
    fn write_of_which_nobody_knows_is_missed_by_nobody() {
        let doubt = seen(Kind::Write, 0, 100, Came::InDoubt);
        let figures = count(&[doubt, get(Kind::Read, 500, 0, 0)], 0, 1000);
        assert_eq!((figures.gets, figures.wrong), (1, 0));
    }

    #[test]
    fn percentile_is_a_time_that_so_many_took_no_longer_than() {
        let all: Vec<Seen> = (1..=200).rev().map(|took| put(100, 100 + took, took)).collect();
        let figures = count(&all, 0, 1000);
        assert_eq!((figures.put_p50_micros, figures.put_p99_micros), (100, 198));
        let one = count(&[put(0, 7, 1)], 0, 1000);
        assert_eq!((one.put_p50_micros, one.put_p99_micros, one.get_p99_micros), (7, 7, 0));
    }
}
