//! Who is let in, under simulation: the decisions are those that the server runs.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use kv::Protocol;
use sim::{Fault, Faults, Options, Outcome, Workload};

/// A run of three nodes in which these things go wrong, and no others.
fn run(seed: u64, faults: &[Fault]) -> Outcome {
    let outcome = sim::run(&Options {
        nodes: 3,
        protocol: Protocol::Raft,
        workload: Workload::Kv,
        steps: 250,
        faults: Faults::of(faults),
        trace: true,
        ..Options::new(seed)
    });
    assert_eq!(outcome.violations, [] as [&str; 0], "seed {seed}");
    outcome
}

/// The lines that tell of a node's folder, from the first one with these words: without the time.
fn story<'a>(trace: &'a [String], from: &str) -> Vec<&'a str> {
    let lines = trace.iter().map(|line| &line["0000.000000 ".len()..]);
    let mut lines = lines.skip_while(|line| !line.contains(from));
    let Some(first) = lines.next() else { return Vec::new() };
    let node = first.split(' ').next().unwrap();
    let tells = |line: &&str| {
        line.split(' ').next() == Some(node)
            && [" comes back", " starts", " ends", " has its own"]
                .iter()
                .any(|word| line[node.len()..].starts_with(word))
    };
    std::iter::once(first).chain(lines.filter(tells)).take(5).collect()
}

#[test]
fn node_whose_folder_was_wiped_unawares_is_refused_with_the_sentence_and_ends() {
    let (mut founders, mut others) = (0, 0);
    for seed in 1..=60 {
        if founders > 0 && others > 0 {
            break;
        }
        let outcome = run(seed, &[Fault::Wipe]);
        let story = story(&outcome.trace, "comes back with an empty folder");
        let [lost, begins, ends, back, restarts] = story[..] else { continue };
        let node = lost.split(' ').next().unwrap();
        assert_eq!(begins, format!("{node} starts: 0 records in its log, cut None"), "seed {seed}");
        let refused = format!("{node} ends (Process): node n{node} ");
        assert!(ends.starts_with(&refused), "seed {seed}: {ends}");
        let founds = ends[refused.len()..].starts_with("founds cluster");
        let is_another = "comes with another data folder than the one it was known under";
        assert!(founds || ends[refused.len()..].starts_with(is_another), "seed {seed}: {ends}");
        assert!(ends.contains(&format!("run 'capstan cluster replace n{node}'")), "seed {seed}: {ends}");
        assert_eq!(back, format!("{node} has its own folder back"), "seed {seed}");
        // It may be lost again before it starts.
        let goes_on = [format!("{node} starts: "), lost.to_owned()];
        assert!(goes_on.iter().any(|line| restarts.starts_with(line)), "seed {seed}: {restarts}");
        *(if founds { &mut founders } else { &mut others }) += 1;
    }
    assert!(founders > 0 && others > 0, "{founders} founders and {others} others were refused");
}

#[test]
fn node_whose_folder_was_restored_from_an_old_copy_is_refused_with_the_sentence_and_ends() {
    let (mut earlier, mut twice) = (0, 0);
    for seed in 1..=60 {
        if earlier > 0 && twice > 0 {
            break;
        }
        let outcome = run(seed, &[Fault::Restore]);
        let story = story(&outcome.trace, "comes back with its folder as of start");
        let [restored, begins, ends, back, restarts] = story[..] else { continue };
        let (node, start) = restored.split_once(" comes back with its folder as of start ").unwrap();
        let start: u64 = start.parse().unwrap();
        assert!(begins.starts_with(&format!("{node} starts: ")), "seed {seed}: {begins}");
        let refused = format!("{node} ends (Process): node ");
        assert!(ends.starts_with(&refused), "seed {seed}: {ends}");
        // Behind its name: one that joined has not that of its number.
        let (_, said) = ends[refused.len()..].split_once(' ').unwrap();
        let is_earlier = said.starts_with(&format!("comes with its data folder as of start {}", start + 1));
        let is_twice = said.starts_with(&format!("was met as of start {}", start + 1));
        assert!(is_earlier || is_twice, "seed {seed}: {ends}");
        assert!(ends.contains("Stop this one for good"), "seed {seed}: {ends}");
        assert_eq!(back, format!("{node} has its own folder back"), "seed {seed}");
        assert!(restarts.starts_with(&format!("{node} starts: ")), "seed {seed}: {restarts}");
        *(if is_earlier { &mut earlier } else { &mut twice }) += 1;
    }
    assert!(earlier > 0 && twice > 0, "{earlier} came as of an earlier start and {twice} as of the same one");
}

#[test]
fn cluster_whose_founder_starts_last_waits_for_it() {
    let mut waited = 0;
    for seed in 1..=10 {
        let outcome = sim::run(&Options {
            nodes: 3,
            protocol: Protocol::Raft,
            faults: Faults::none(),
            steps: 20,
            trace: true,
            ..Options::new(seed)
        });
        assert_eq!(outcome.violations, [] as [&str; 0], "seed {seed}");
        let place = |what: &str| outcome.trace.iter().position(|line| line.contains(what)).unwrap();
        assert!(place(" 1 starts:") < place(" connected"), "seed {seed}: nobody else knows the cluster");
        waited +=
            outcome.stats.sometimes.get("a node waited for the founder of its cluster").copied().unwrap_or(0);
    }
    assert!(waited > 0, "others were there before the founder");
}
