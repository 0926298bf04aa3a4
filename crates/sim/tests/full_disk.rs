//! What a node does whose disk is full: it refuses writes and says why, reads go on, nothing is lost, and it takes writes again
//! when there is room.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use kv::Protocol;
use sim::{Fault, Faults, Options, Outcome, Stats, Workload};

/// What a refused write is told.
const SENTENCE: &str = "the disk of the leading node is full, or it is out of file descriptors: its journal says what to free; \
                        reads go on";

/// One node, with nothing wrong but these faults.
fn run(seed: u64, faults: &[Fault]) -> Outcome {
    let outcome = sim::run(&Options {
        nodes: 1,
        protocol: Protocol::Single,
        faults: Faults::of(faults),
        workload: Workload::Kv,
        steps: 500,
        trace: true,
        ..Options::new(seed)
    });
    assert_eq!(outcome.violations, [] as [&str; 0], "seed {seed}");
    outcome
}

/// How the parts of requests fared that a node was asked while its disk counted as full, and after that.
#[derive(Debug, Default)]
struct Fates {
    writes_refused: u64,
    reads_answered: u64,
    written_later: u64,
}

/// Reads a run as its trace tells it.
fn fates(outcome: &Outcome) -> Fates {
    let mut fates = Fates::default();
    // Whether the disk counts as full, and has ever; parts that are open, by name: whether they read, and whether they came
    // while it was.
    let (mut full, mut ever) = (false, false);
    let mut open: BTreeMap<&str, (bool, bool)> = BTreeMap::new();
    for line in &outcome.trace {
        let said = line.trim_start().split_once(' ').unwrap().1;
        if said == "1 counts its disk as full" {
            (full, ever) = (true, true);
        } else if said == "1 has room on its disk again" {
            full = false;
        } else if let Some((name, op)) =
            said.strip_prefix("1 is asked part ").and_then(|rest| rest.split_once(": "))
        {
            let reads = ["Get", "History", "Range"].iter().any(|word| op.starts_with(word));
            open.insert(name, (reads, full));
        } else if let Some((name, result)) =
            said.strip_prefix("1 answers part ").and_then(|rest| rest.split_once(": "))
        {
            match open.remove(name).unwrap() {
                (false, true) => {
                    assert!(result.contains(SENTENCE), "a write on a full disk: {line}");
                    fates.writes_refused += 1;
                }
                (true, true) => {
                    assert!(!result.contains(SENTENCE), "a read on a full disk: {line}");
                    fates.reads_answered += 1;
                }
                (false, false) if ever && !result.contains(SENTENCE) => fates.written_later += 1,
                (_, false) => assert!(!result.contains("is full"), "a disk with room: {line}"),
            }
        }
    }
    assert!(!full, "the disk has room at the end");
    fates
}

/// No single seed is asked for a case: other changes would move it to another one. So many must be enough.
const SEEDS: std::ops::RangeInclusive<u64> = 1..=60;

#[test]
fn writes_are_refused_with_the_reason_and_reads_go_on_until_there_is_room() {
    let mut sum = Fates::default();
    let mut runs = 0;
    for seed in SEEDS {
        let outcome = run(seed, &[Fault::Full]);
        // Where others join, shards are on other disks.
        if outcome.trace.iter().any(|line| line.contains(" 2 starts: ")) {
            continue;
        }
        let fates = fates(&outcome);
        if fates.writes_refused > 0 && outcome.stats.sometimes.contains_key("a checkpoint failed") {
            assert!(fates.written_later > 0, "seed {seed}: {fates:?}");
            runs += 1;
        }
        sum.writes_refused += fates.writes_refused;
        sum.reads_answered += fates.reads_answered;
        if runs >= 3 && sum.writes_refused > 50 && sum.reads_answered > 50 {
            return;
        }
    }
    panic!("in {runs} runs only a checkpoint did not find room, and in all {sum:?}");
}

#[test]
fn nothing_that_was_acknowledged_is_lost_when_a_node_with_a_full_disk_is_killed() {
    let mut sum = Stats::default();
    for seed in SEEDS {
        let stats = run(seed, &[Fault::Full, Fault::Crash, Fault::Power]).stats;
        // Killed again and again, with checkpoints that failed before and after.
        if stats.starts > 3 && stats.sometimes.contains_key("a checkpoint failed") {
            sum.add(&stats);
        }
        if sum.sometimes.get("a checkpoint failed").is_some_and(|times| *times > 5) {
            return;
        }
    }
    panic!("checkpoints that fail are too rare: {sum:?}");
}
