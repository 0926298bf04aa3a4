//! Seeds: everything holds in each, what must happen sometimes does, and a seed is a run, to the byte.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

use kv::Protocol;
use sim::{Fault, Faults, Options, Stats, Workload};

/// Runs seeds that all must hold, under each workload in turn.
fn run(first: u64, count: u64, change: impl Fn(&mut Options)) -> Stats {
    let mut sum = Stats::default();
    for seed in first..first + count {
        let workload = Workload::ALL[seed as usize % Workload::ALL.len()];
        let mut options =
            Options { nodes: 3, protocol: Protocol::Raft, workload, steps: 250, ..Options::new(seed) };
        change(&mut options);
        let outcome = sim::run(&options);
        assert_eq!(outcome.violations, [] as [&str; 0], "{options:?}");
        sum.add(&outcome.stats);
    }
    sum
}

#[test]
fn raft_of_three_holds_under_every_fault() {
    let sum = run(1, 30, |_| {});
    assert!(sum.done > 30 * 200, "clients must get on: {sum:?}");
    for what in [
        "a backward page over shards ended before its range",
        "a checkpoint was completed",
        "a delete-range removed several keys",
        "a delete-range stopped at its limit",
        "a flush was refused by a full disk",
        "a leader was deposed with entries in flight",
        "a history was continued",
        "a leadership was handed over",
        "a log failed with its disk",
        "a log's segment was given away",
        "a message of another epoch was answered",
        "a node came back with another number of cores",
        "a node had several cores",
        "a node stopped in good order",
        "a put-all was done",
        "a range over shards was continued",
        "a range over shards was read at a version",
        "a read at a version was answered",
        "a read at a version was refused as trimmed",
        "a read found that a value had expired",
        "a repeated request was answered as before",
        "a replica was dropped",
        "a shard had other members",
        "a snapshot was installed",
        "a snapshot's stream broke",
        "a torn write was cut",
        "a trim forgot revisions",
        "a trim stopped at its limit",
        "a write was sent again after the last fault",
        "an entry that was not agreed on was overwritten",
        "damage of a log was noticed",
        "rows were counted over shards",
    ] {
        assert!(sum.sometimes.contains_key(what), "never seen: {what}; {:#?}", sum.sometimes);
    }
}

#[test]
fn many_clients_that_come_once_fill_the_memory_of_shards_and_are_served_again() {
    let sum = run(500, 5, |options| (options.workload, options.steps) = (Workload::Once, 500));
    assert!(sum.sometimes.contains_key("a shard had no room to remember a request"), "{:#?}", sum.sometimes);
}

#[test]
fn raft_of_five_holds_under_every_fault() {
    run(100, 8, |options| options.nodes = 5);
}

#[test]
fn single_holds_when_its_node_fails() {
    run(200, 10, |options| (options.protocol, options.nodes) = (Protocol::Single, 1));
}

#[test]
fn single_holds_while_its_shards_go_from_node_to_node() {
    let sum = run(232, 6, |options| (options.protocol, options.steps) = (Protocol::Single, 1000));
    assert!(sum.sometimes.contains_key("a shard was handed over"), "{:#?}", sum.sometimes);
}

#[test]
fn cluster_without_faults_does_what_it_is_asked() {
    let sum = run(300, 4, |options| options.faults = Faults::none());
    // A version that is no longer kept is refused, as it should be.
    let trimmed = sum.sometimes.get("a read at a version was refused as trimmed").copied().unwrap_or(0);
    assert!(sum.in_doubt + sum.failed - trimmed <= sum.done / 20, "{sum:?}");
}

#[test]
fn run_of_one_seed_is_the_same_twice() {
    let options = Options { nodes: 3, protocol: Protocol::Raft, steps: 200, trace: true, ..Options::new(11) };
    assert!(sim::run(&options) == sim::run(&options));
}

#[test]
fn run_of_one_seed_is_the_same_in_two_processes() {
    let child = || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "child_prints_a_run", "--nocapture"]).env("SIM_CHILD", "1");
        let printed = String::from_utf8(command.output().unwrap().stdout).unwrap();
        printed.lines().filter(|line| line.starts_with(MARK)).collect::<Vec<_>>().join("\n")
    };
    let (one, other) = (child(), child());
    assert!(one.lines().count() > 1000, "the run is traced");
    assert!(one == other);
}

const MARK: &str = "trace: ";

/// Prints a run when it is started as a child of the test above.
#[test]
fn child_prints_a_run() {
    if std::env::var_os("SIM_CHILD").is_some() {
        let options =
            Options { nodes: 3, protocol: Protocol::Raft, steps: 200, trace: true, ..Options::new(12) };
        let outcome = sim::run(&options);
        outcome.trace.iter().for_each(|line| println!("{MARK}{line}"));
        println!("{MARK}{:?}", outcome.stats);
    }
}

#[test]
fn faults_are_only_those_that_were_asked_for() {
    let sum = run(400, 4, |options| options.faults = Faults::of(&[Fault::Crash, Fault::Pause]));
    assert!(sum.faults.keys().all(|fault| ["crash", "pause"].contains(fault)), "{:?}", sum.faults);
}
