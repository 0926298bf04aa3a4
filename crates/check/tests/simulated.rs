//! A store that keeps its promise always passes; one that breaks it never does. Drawn from seeds.

mod support;

use check::generate::Workload;
use check::history::{History, json_lines};
use check::linear::{self, Budget, Judgement, Verdict};
use check::model::{Atomicity, Batch, Kv};
use support::{Defect, Setup, simulate};

const SETUP: Setup = Setup { workload: Workload::Kv, keys: 3, clients: 5, ops: 120, in_doubt: 4, failing: 5 };

fn judge(history: &History, workload: Workload) -> Judgement {
    let mut budget = Budget::steps(2_000_000);
    match workload {
        Workload::Batch => linear::check(&Batch::default(), history, &mut budget),
        _ => linear::check(&Kv::default(), history, &mut budget),
    }
}

fn assert_holds(setup: Setup, seed: u64) {
    let history = simulate(setup, Defect::None, seed);
    let verdict = judge(&history, setup.workload).verdict;
    assert_eq!(verdict, Verdict::Holds, "seed {seed}, {setup:?}");
}

#[test]
fn history_of_a_right_store_holds() {
    for workload in [Workload::Register, Workload::Kv, Workload::Batch, Workload::Appends] {
        for seed in 0..40 {
            assert_holds(Setup { workload, ..SETUP }, seed);
        }
    }
}

#[test]
fn history_with_many_clients_holds() {
    for workload in [Workload::Register, Workload::Kv, Workload::Appends] {
        for seed in 0..5 {
            assert_holds(Setup { workload, keys: 20, clients: 70, ops: 700, ..SETUP }, seed);
        }
    }
}

#[test]
fn history_with_many_in_doubt_holds() {
    for workload in [Workload::Register, Workload::Appends] {
        for seed in 0..10 {
            assert_holds(Setup { workload, in_doubt: 30, failing: 0, ops: 200, ..SETUP }, seed);
        }
    }
}

#[test]
fn history_with_hundreds_of_open_ops_is_judged() {
    for (ops, seed) in [(400, 1), (400, 2), (1_500, 1)] {
        let setup =
            Setup { workload: Workload::Register, keys: 1, ops, in_doubt: 30, failing: 0, clients: 8 };
        assert_holds(setup, seed);
    }
}

#[test]
fn history_of_a_wrong_store_is_violated() {
    for defect in [Defect::LostAppend, Defect::DoubleAppend, Defect::StaleGet] {
        for seed in 0..40 {
            let setup = Setup { workload: Workload::Appends, ..SETUP };
            let history = simulate(setup, defect, seed);
            let verdict = judge(&history, setup.workload).verdict;
            let Verdict::Violated(window) = verdict else { panic!("seed {seed}, {defect:?}: {verdict:?}") };
            assert!(window.fails < window.operations.len(), "seed {seed}, {defect:?}");
        }
    }
}

#[test]
fn history_judged_twice_gives_the_same() {
    let setup = Setup { workload: Workload::Appends, ..SETUP };
    let judged = || judge(&simulate(setup, Defect::LostAppend, 3), setup.workload);
    assert_eq!(judged(), judged());
}

#[test]
fn history_written_and_read_is_judged_the_same() {
    for workload in [Workload::Register, Workload::Kv, Workload::Batch] {
        for seed in 0..10 {
            let history = simulate(Setup { workload, ..SETUP }, Defect::None, seed);
            let mut text = Vec::new();
            json_lines::write(&history, &mut text).expect("a vector takes all");
            let read = json_lines::read(text.as_slice()).expect("what was written is readable");
            assert_eq!(judge(&read, workload), judge(&history, workload), "seed {seed}");
            let mut again = Vec::new();
            json_lines::write(&read, &mut again).expect("a vector takes all");
            assert_eq!(String::from_utf8(again), String::from_utf8(text), "seed {seed}");
        }
    }
}

#[test]
fn history_of_single_keys_is_judged_alike_by_both_models() {
    for seed in 0..20 {
        for defect in [Defect::None, Defect::LostAppend] {
            let setup = Setup { workload: Workload::Appends, ops: 60, ..SETUP };
            let history = simulate(setup, defect, seed);
            let holds = |judgement: Judgement| judgement.verdict == Verdict::Holds;
            let kv = holds(judge(&history, Workload::Appends));
            assert_eq!(kv, holds(judge(&history, Workload::Batch)), "seed {seed}");
            assert_eq!(kv, defect == Defect::None, "seed {seed}");
        }
    }
}

#[test]
fn batch_judged_key_by_key_holds_too() {
    for seed in 0..10 {
        let history = simulate(Setup { workload: Workload::Batch, ..SETUP }, Defect::None, seed);
        for atomicity in [Atomicity::Shard(7), Atomicity::Key] {
            let model = Batch { atomicity, ..Batch::default() };
            let verdict = linear::check(&model, &history, &mut Budget::steps(2_000_000)).verdict;
            assert_eq!(verdict, Verdict::Holds, "seed {seed}, {atomicity:?}");
        }
    }
}
