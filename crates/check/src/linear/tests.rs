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
        let next = model.step(state, call);
        if next.iter().any(|next| extends(model, calls, next, done)) {
            return true;
        }
        done[index] = false;
    }
    false
}

/// What the random histories hold.
#[derive(Clone, Copy)]
enum Mix {
    /// Gets and appends of unique texts.
    Appends,
    /// Gets, puts and compares.
    Register,
    /// All ops of one key.
    All,
    /// Gets, puts, deletes and inserts.
    Absent,
}

fn mix(seed: u64) -> Mix {
    [Mix::Appends, Mix::Register, Mix::All, Mix::Absent][(seed % 4) as usize]
}

fn random_op(rng: &mut Rng, mix: Mix, number: usize) -> Op {
    let key = kv::Key::from_static(b"k");
    let value = |rng: &mut Rng| kv::Value::from(["a", "b", "c"][rng.below(3) as usize]);
    let side = if rng.percent(50) { Side::Left } else { Side::Right };
    let dice = match mix {
        Mix::Appends if rng.percent(40) => 0,
        Mix::Appends => {
            let function = Function::Append { side: Side::Right, value: format!("{number};").into() };
            return Op::Update { key, function };
        }
        Mix::Register => rng.below(8),
        Mix::All => rng.below(10),
        Mix::Absent if rng.percent(30) => {
            let function = Function::Insert { value: value(rng), deadline: None };
            return Op::Update { key, function };
        }
        Mix::Absent if rng.percent(40) => return Op::Delete { key, previous: false },
        Mix::Absent => rng.below(6),
    };
    let function = match dice {
        0..4 => return Op::Get { key, at: None },
        4..6 => {
            return Op::Put {
                key,
                value: value(rng),
                deadline: None,
                previous: matches!(mix, Mix::All) && rng.percent(20),
            };
        }
        6 if matches!(mix, Mix::All) => Function::Append { side, value: value(rng) },
        6 | 7 => {
            Function::CompareAndPut { expect: Expect::Value(value(rng)), value: value(rng), deadline: None }
        }
        8 if rng.percent(50) => Function::Insert { value: value(rng), deadline: None },
        8 => return Op::Delete { key, previous: false },
        _ => Function::Pop { side, count: 1 },
    };
    Op::Update { key, function }
}

/// A few ops of four processes on one store, some answers spoiled.
fn random_history(rng: &mut Rng, mix: Mix) -> History {
    let mut history = History::new();
    let mut store = store::Store::default();
    let mut stale = store.clone();
    let mut under_way: [Option<(OperationId, Op, Option<Answer>)>; 4] = [None, None, None, None];
    let count = 2 + rng.below(7) as usize;
    while history.operations().len() < count || under_way.iter().any(Option::is_some) {
        let process = rng.below(4) as usize;
        match under_way[process].take() {
            None if history.operations().len() < count => {
                let op = random_op(rng, mix, history.operations().len());
                under_way[process] = Some((history.invoke(process as u64, op.clone(), None), op, None));
            }
            None => {}
            Some((id, op, None)) => {
                let answer = if rng.percent(25) { stale.apply(&op) } else { store.apply(&op) };
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

fn calls_of(model: &Kv, history: &History) -> Vec<Call> {
    let calls = history.operations().iter().enumerate();
    calls.flat_map(|(index, operation)| model.calls(index, operation).expect("single keys")).collect()
}

#[test]
fn search_agrees_with_trying_everything() {
    let (mut held, mut failed) = (0, 0);
    for seed in 0..8_000 {
        let mut rng = Rng::new(seed);
        let model = Kv { empty_is_absent: seed % 5 == 0, ..Kv::default() };
        let history = random_history(&mut rng, mix(seed));
        let calls = calls_of(&model, &history);
        let expected = possible(&model, &calls);
        let found = search::search(&model, &calls, None, &mut Budget::default());
        assert_eq!(found == Found::Order, expected, "seed {seed}: {calls:#?}");
        if expected { held += 1 } else { failed += 1 }
    }
    assert!(held > 1_000 && failed > 1_000, "both verdicts must come up often: {held} held, {failed} failed");
}

#[test]
fn delete_in_doubt_that_finds_nothing_hides_a_put_that_nobody_saw() {
    let key = || kv::Key::from_static(b"k");
    let update = |value: &str| Op::Update {
        key: key(),
        function: Function::Insert { value: kv::Value::from(value.to_owned()), deadline: None },
    };
    let mut history = History::new();
    let put = Op::Put { key: key(), value: "a".into(), deadline: None, previous: false };
    let put = history.invoke(1, put, None);
    history.invoke(2, Op::Delete { key: key(), previous: false }, None);
    let insert = history.invoke(3, update("b"), None);
    history.complete(insert, Outcome::Done(Some(Answer::Condition { met: true, current: None })), None);
    history.complete(put, Outcome::Done(Some(Answer::Put { previous: None })), None);
    let get = history.invoke(3, Op::Get { key: key(), at: None }, None);
    let row = crate::history::row(&key(), "b".into());
    history.complete(get, Outcome::Done(Some(Answer::Row(Some(row)))), None);
    assert_eq!(check(&Kv::default(), &history, &mut Budget::default()).verdict, Verdict::Holds);
}

#[test]
fn window_is_a_proof_and_ends_with_the_failing_call() {
    for seed in 0..3_000 {
        let mut rng = Rng::new(seed);
        let history = random_history(&mut rng, mix(seed));
        let model = Kv::default();
        let calls = calls_of(&model, &history);
        let mut budget = Budget::default();
        let Found::Nothing(failure) = search::search(&model, &calls, None, &mut budget) else { continue };
        let shrunk = shrink::shrink(&model, &calls, &failure, 100, &mut budget);
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
    let append = |value: u64| Function::Append { side: Side::Left, value: value.to_string().into() };
    let ids: Vec<OperationId> = (0..7)
        .map(|process| {
            history.invoke(process, Op::Update { key: "k".into(), function: append(process) }, None)
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
