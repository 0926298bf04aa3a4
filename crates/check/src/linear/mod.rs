//! Linearizability: is there an order of the ops that keeps real time and that the model allows?
//!
//! The history is cut into parts that the model judges apart (by key, mostly), and each part is searched for an order
//! (`search`). Parts that a small share of the budget decides come first, so that one hard key does not keep the others
//! from being judged. A part without an order is shrunk to what a person can read (`shrink`).
//!
//! After Herlihy and Wing, "Linearizability" (1990); Wing and Gong, "Testing and verifying concurrent objects" (1993);
//! Horn and Kroening, "Faster linearizability checking via P-compositionality" (2015); Lowe, "Testing for
//! linearizability" (2016).

mod bits;
mod configuration;
mod hash;
mod schedule;
mod search;
mod shrink;
mod states;

use crate::history::History;
use crate::model::{Call, Model, Partition};
use crate::window::Window;
use search::Found;

/// How the search is to end early.
pub struct Budget<'a> {
    steps_max: u64,
    steps: u64,
    expired: Option<&'a mut dyn FnMut() -> bool>,
}

/// Whether a history is linearizable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// An order was found for every part.
    Holds,
    /// There is no order; the window shows why.
    Violated(Box<Window>),
    /// Neither was shown; why.
    Undecided(String),
}

/// A verdict, and what it rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// Parts that were judged apart.
    pub parts: usize,
    /// Operations left out because the model has no meaning for them; all of them read only.
    pub unjudged: usize,
    /// Steps of the search.
    pub steps: u64,
}

/// Every part gets so many steps before any part gets more.
const FIRST_STEPS: u64 = 200_000;
/// The caller's clock is asked every so many steps.
const STEPS_PER_LOOK: u64 = 4096;

/// Judges a history.
pub fn check<M: Model>(model: &M, history: &History, budget: &mut Budget) -> Judgement {
    let mut calls: Vec<Call> = Vec::with_capacity(history.operations().len());
    let mut unjudged = 0;
    let mut unknown_write = None;
    for (index, operation) in history.operations().iter().enumerate() {
        match model.calls(index, operation) {
            Ok(more) => calls.extend(more),
            Err(refused) => {
                unjudged += 1;
                unknown_write = unknown_write.or(refused.writes.then_some(refused.why));
            }
        }
    }
    let mut parts = model.partition(calls);
    parts.iter_mut().for_each(Partition::round_clocks);
    let count = parts.len();
    let before = budget.steps;
    let verdict = match unknown_write {
        Some(why) => {
            Verdict::Undecided(format!("the history holds writes that the model cannot judge: {why}"))
        }
        None => judge(model, history, parts, budget),
    };
    Judgement { verdict, parts: count, unjudged, steps: budget.steps - before }
}

impl<'a> Budget<'a> {
    /// What a check may take when nothing else is said: about a minute.
    pub const STEPS: u64 = 30_000_000;

    /// At most so many steps.
    pub fn steps(steps_max: u64) -> Budget<'a> {
        Budget { steps_max, steps: 0, expired: None }
    }

    /// Ends also when the caller says so; it is asked every few thousand steps.
    pub fn until(self, expired: &'a mut dyn FnMut() -> bool) -> Budget<'a> {
        Budget { expired: Some(expired), ..self }
    }

    fn step(&mut self) -> Result<(), String> {
        self.steps += 1;
        if self.steps > self.steps_max {
            return Err("the budget of steps is used up: allow more, or check a shorter history".into());
        }
        if self.steps.is_multiple_of(STEPS_PER_LOOK) && self.expired.as_mut().is_some_and(|expired| expired())
        {
            return Err("the time is over: allow more, or check a shorter history".into());
        }
        Ok(())
    }

    /// Runs with at most so many steps of what is left.
    fn share<T>(&mut self, steps: u64, run: impl FnOnce(&mut Budget<'a>) -> T) -> T {
        let whole = self.steps_max;
        self.steps_max = whole.min(self.steps.saturating_add(steps));
        let result = run(self);
        self.steps_max = whole;
        result
    }
}

impl Default for Budget<'_> {
    fn default() -> Self {
        Budget::steps(Budget::STEPS)
    }
}

fn judge<M: Model>(model: &M, history: &History, parts: Vec<Partition>, budget: &mut Budget) -> Verdict {
    let mut hard: Vec<Partition> = Vec::new();
    for part in parts {
        match judge_part(model, history, &part, FIRST_STEPS, budget) {
            Verdict::Holds => {}
            Verdict::Undecided(_) => hard.push(part),
            violated => return violated,
        }
    }
    let mut verdict = Verdict::Holds;
    for part in hard {
        match judge_part(model, history, &part, u64::MAX, budget) {
            Verdict::Violated(window) => return Verdict::Violated(window),
            Verdict::Undecided(why) if verdict == Verdict::Holds => {
                verdict = Verdict::Undecided(format!("{} was not decided: {why}", part.name));
            }
            Verdict::Undecided(_) | Verdict::Holds => {}
        }
    }
    verdict
}

fn judge_part<M: Model>(
    model: &M,
    history: &History,
    part: &Partition,
    share: u64,
    budget: &mut Budget,
) -> Verdict {
    let before = budget.steps;
    match budget.share(share, |budget| search::search(model, &part.calls, None, budget)) {
        Found::Order => Verdict::Holds,
        Found::Undecided(why) => Verdict::Undecided(why),
        Found::Nothing(failure) => {
            let steps = budget.steps - before;
            let shrunk = shrink::shrink(model, &part.calls, &failure, steps, budget);
            Verdict::Violated(Box::new(Window::new(part.name.clone(), history, &shrunk)))
        }
    }
}

pub(crate) use shrink::Shrunk;

#[cfg(test)]
mod tests;
