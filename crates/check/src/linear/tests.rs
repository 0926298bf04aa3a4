//! The search against a search that tries everything, and the windows it leaves.

use kv::{Answer, Expect, Function, Op, Side};

use super::*;
use crate::generate::Rng;
use crate::history::{OperationId, Outcome};
use crate::model::Kv;

#[path = "../../tests/support/store.rs"]
mod store;

/// Whether there is an order, by trying all.
fn possible(model: &Kv, calls: &[Call]) -> bool {
    let states = model.initial(calls);
    states.iter().any(|state| extends(model, calls, state, &mut vec![false; calls.len()]))
}

fn extends(model: &Kv, calls: &[Call], state: &<Kv as Model>::State, done: &mut Vec<bool>) -> bool {
    if calls.iter().zip(&*done).all(|(call, done)| *done || call.returned.is_none()) {
        return true;
    }
    let bar =
        calls.iter().zip(&*done).filter(|(_, done)| !**done).filter_map(|(call, _)| call.returned).min();
    for index in 0..calls.len() {
        let call = &calls[index];
        if done[index] || bar.is_some_and(|bar| call.called > bar) {
            continue;
        }
        done[index] = true;
        let next = model.step(state, &call.op, call.answer.as_ref());
        if next.iter().any(|next| extends(model, calls, next, done)) {
            return true;
        }
        done[index] = false;
    }
    false
}

fn random_op(rng: &mut Rng) -> Op {
    let key = kv::Key::from_static(b"k");
    let value = |rng: &mut Rng| kv::Value::from(["a", "b", "c"][rng.below(3) as usize]);
    let side = if rng.percent(50) { Side::Left } else { Side::Right };
    let function = match rng.below(10) {
        0..4 => return Op::Get { key, at: None },
        4..6 => return Op::Put { key, value: value(rng), deadline: None, previous: rng.percent(20) },
        6 => Function::Append { side, value: value(rng) },
        7 => Function::CompareAndPut { expect: Expect::Value(value(rng)), value: value(rng), deadline: None },
        8 if rng.percent(50) => Function::Insert { value: value(rng), deadline: None },
        8 => return Op::Delete { key, previous: false },
        _ => Function::Pop { side, count: 1 },
    };
    Op::Update { key, function }
}

/// A few ops of three processes on one store, some answers spoiled. With `appends`, gets and appends only.
fn random_history(rng: &mut Rng, appends: bool) -> History {
    let mut history = History::new();
    let mut store = store::Store::default();
    let mut stale = store.clone();
    let mut under_way: [Option<(OperationId, Op, Option<Answer>)>; 3] = [None, None, None];
    let count = 2 + rng.below(6) as usize;
    while history.operations().len() < count || under_way.iter().any(Option::is_some) {
        let process = rng.below(3) as usize;
        match under_way[process].take() {
            None if history.operations().len() < count => {
                let op =
                    if appends { random_append(rng, history.operations().len()) } else { random_op(rng) };
                under_way[process] = Some((history.invoke(process as u64, op.clone(), None), op, None));
            }
            None => {}
            Some((id, op, None)) => {
                let answer = if rng.percent(15) { stale.apply(&op) } else { store.apply(&op) };
                if rng.percent(40) {
                    stale = store.clone();
                }
                under_way[process] = Some((id, op, answer.ok()));
            }
            Some((id, _, answer)) => {
                let outcome = match rng.below(12) {
                    0 => Outcome::Failed,
                    1 | 2 => Outcome::Unknown,
                    _ => Outcome::Done(answer),
                };
                history.complete(id, outcome, None);
            }
        }
    }
    history
}

fn random_append(rng: &mut Rng, number: usize) -> Op {
    let key = kv::Key::from_static(b"k");
    if rng.percent(40) {
        return Op::Get { key, at: None };
    }
    Op::Update { key, function: Function::Append { side: Side::Right, value: format!("{number};").into() } }
}

fn calls_of(model: &Kv, history: &History) -> Vec<Call> {
    let calls = history.operations().iter().enumerate();
    calls.flat_map(|(index, operation)| model.calls(index, operation).expect("single keys")).collect()
}

#[test]
fn search_agrees_with_trying_everything() {
    let (mut held, mut failed) = (0, 0);
    for seed in 0..6_000 {
        let mut rng = Rng::new(seed);
        let model = Kv { empty_is_absent: seed % 5 == 0, ..Kv::default() };
        let history = random_history(&mut rng, seed % 3 == 0);
        let calls = calls_of(&model, &history);
        let expected = possible(&model, &calls);
        let found = search::search(&model, &calls, None, &mut Budget::default());
        assert_eq!(found == Found::Order, expected, "seed {seed}: {calls:#?}");
        if expected { held += 1 } else { failed += 1 }
    }
    assert!(held > 1_000 && failed > 1_000, "both verdicts must come up often: {held} held, {failed} failed");
}

#[test]
fn window_is_a_proof_and_ends_with_the_failing_call() {
    for seed in 0..3_000 {
        let mut rng = Rng::new(seed);
        let history = random_history(&mut rng, seed % 3 == 0);
        let model = Kv::default();
        let calls = calls_of(&model, &history);
        let mut budget = Budget::default();
        let Found::Nothing(failure) = search::search(&model, &calls, None, &mut budget) else { continue };
        let shrunk = shrink::shrink(&model, &calls, &failure, &mut budget);
        assert!(!possible(&model, &shrunk.calls), "seed {seed}: {:#?}", shrunk.calls);
        let end = shrunk.calls[shrunk.fails].returned.expect("it returned");
        let earlier: Vec<Call> = calls
            .iter()
            .filter(|call| call.called < end)
            .map(|call| match call.returned {
                Some(returned) if returned >= end => Call { returned: None, ..call.clone() },
                _ => call.clone(),
            })
            .collect();
        assert!(possible(&model, &earlier), "seed {seed}: a shorter beginning fails too");
    }
}

#[test]
fn budget_used_up_is_undecided() {
    let mut history = History::new();
    let ids: Vec<OperationId> = (0..8)
        .map(|process| {
            let op = Op::Put {
                key: "k".into(),
                value: process.to_string().into(),
                deadline: None,
                previous: false,
            };
            history.invoke(process, op, None)
        })
        .collect();
    ids.into_iter().for_each(|id| history.complete(id, Outcome::Done(None), None));
    let get = history.invoke(9, Op::Get { key: "k".into(), at: None }, None);
    let never = Answer::Row(Some(crate::history::row(&"k".into(), "x".into())));
    history.complete(get, Outcome::Done(Some(never)), None);
    let judge = |budget: &mut Budget| check(&Kv::default(), &history, budget).verdict;
    assert!(matches!(judge(&mut Budget::steps(20)), Verdict::Undecided(_)));
    let mut asked = 0;
    let mut expired = || {
        asked += 1;
        true
    };
    assert!(matches!(judge(&mut Budget::default().until(&mut expired)), Verdict::Undecided(_)));
    assert_eq!(asked, 2, "once in the first round, once in the second");
    assert!(matches!(judge(&mut Budget::default()), Verdict::Violated(_)));
}
