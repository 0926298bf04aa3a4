//! From a part without an order to the few calls that prove it.
//!
//! First the shortest beginning of the part that has no order: it ends with the return of the call that fails. Then calls
//! are left out as long as there is still no order, in halves, quarters and so on (Zeller's delta debugging); only calls
//! whose absence could never forbid an order: pure ones, and the groups that the model names. What is left is a proof.

use super::Budget;
use super::search::{Failure, Found, search};
use crate::model::{Call, Model};

/// The few calls that prove that there is no order.
pub(crate) struct Shrunk {
    /// The calls, in the order in which they were called.
    pub calls: Vec<Call>,
    /// Which of them fails.
    pub fails: usize,
    /// States that were possible just before that one returned, for people.
    pub states: Vec<String>,
}

/// A trial may take so many times the steps that showed the violation. One that takes more has lost a guide, and what it
/// tried to leave out is kept.
const TRIAL_FACTOR: u64 = 2;
/// But so many in any case.
const TRIAL_STEPS_MIN: u64 = 2_000;
/// Steps of all trials together, in steps of one: some seconds are well spent on something that a person can read.
const TRIALS: u64 = 20;
/// But no more than this.
const SHRINK_STEPS_MAX: u64 = 1_000_000;

/// Shrinks the calls of a part that has no order, as so many steps showed.
pub(super) fn shrink<M: Model>(
    model: &M,
    calls: &[Call],
    failure: &Failure,
    steps: u64,
    budget: &mut Budget,
) -> Shrunk {
    let end = calls[failure.call].returned.expect("the call that fails returned");
    let each = (steps * TRIAL_FACTOR).max(TRIAL_STEPS_MIN);
    let mut trials = Trials { model, budget, left: (each * TRIALS).min(SHRINK_STEPS_MAX), each };
    let end = if failure.exact { end } else { trials.shortest(calls, end) };
    let mut kept = beginning(model, calls, end);
    let states = trials.states(&kept, end);
    let groups = model.removable(&kept);
    kept = trials.leave_out(kept, groups, end);
    let singles = singles(model, &kept);
    kept = trials.leave_out(kept, singles, end);
    // Without the reads, what nobody sees may go in smaller groups.
    let groups = model.removable(&kept);
    kept = trials.leave_out(kept, groups, end);
    let fails = returning_at(&kept, end);
    Shrunk { calls: kept, fails, states }
}

struct Trials<'t, 'b, M> {
    model: &'t M,
    budget: &'t mut Budget<'b>,
    left: u64,
    each: u64,
}

impl<M: Model> Trials<'_, '_, M> {
    fn run(&mut self, calls: &[Call], unforeseen: Option<usize>) -> Found {
        let before = self.budget.steps;
        let steps = self.each.min(self.left);
        let found = self.budget.share(steps, |budget| search(self.model, calls, unforeseen, budget));
        self.left = self.left.saturating_sub(self.budget.steps - before);
        found
    }

    fn fails(&mut self, calls: &[Call]) -> bool {
        matches!(self.run(calls, None), Found::Nothing(_))
    }

    /// The states that are possible just before the call that returns at `end`; none when they are too many to find.
    fn states(&mut self, calls: &[Call], end: usize) -> Vec<String> {
        let fails = returning_at(calls, end);
        match self.run(calls, Some(fails)) {
            Found::Nothing(failure) if failure.call == fails => failure.states,
            _ => Vec::new(),
        }
    }

    /// The end of the shortest beginning without an order; the one up to `end` has none.
    fn shortest(&mut self, calls: &[Call], end: usize) -> usize {
        let mut ends: Vec<usize> =
            calls.iter().filter_map(|call| call.returned).filter(|at| *at <= end).collect();
        ends.sort_unstable();
        // Every longer beginning has no order either.
        let (mut holds, mut fails) = (0, ends.len() - 1);
        while holds < fails {
            let middle = (holds + fails) / 2;
            let calls = beginning(self.model, calls, ends[middle]);
            if self.fails(&calls) { fails = middle } else { holds = middle + 1 }
        }
        ends[fails]
    }

    /// Leaves out units of calls while there is still no order.
    fn leave_out(&mut self, calls: Vec<Call>, units: Vec<Vec<usize>>, end: usize) -> Vec<Call> {
        let mut kept = vec![true; calls.len()];
        let needed = |unit: &Vec<usize>| unit.iter().any(|index| calls[*index].returned == Some(end));
        let mut units: Vec<Vec<usize>> = units.into_iter().filter(|unit| !needed(unit)).collect();
        let mut size = units.len();
        while size > 0 {
            let mut stay = Vec::with_capacity(units.len());
            for chunk in units.chunks(size) {
                let mut fewer = kept.clone();
                chunk.iter().flatten().for_each(|index| fewer[*index] = false);
                if self.left > 0 && self.fails(&only(&calls, &fewer)) {
                    kept = fewer;
                } else {
                    stay.extend_from_slice(chunk);
                }
            }
            units = stay;
            size = if size == 1 { 0 } else { size.div_ceil(2).min(units.len()) };
        }
        only(&calls, &kept)
    }
}

/// The calls as they were when the event `end` had just been seen. What was under way then may have happened or not; if it
/// did, it answered what its client got to know later.
fn beginning<M: Model>(model: &M, calls: &[Call], end: usize) -> Vec<Call> {
    let called = calls.iter().filter(|call| call.called < end).cloned();
    let seen = called.map(|call| match call.returned {
        Some(returned) if returned > end => Call { returned: None, ..call },
        _ => call,
    });
    // An open call that changes nothing says nothing.
    seen.filter(|call| call.returned.is_some() || !model.is_pure(&call.op, call.answer.as_ref())).collect()
}

fn returning_at(calls: &[Call], end: usize) -> usize {
    calls.iter().position(|call| call.returned == Some(end)).expect("the call that fails is among them")
}

fn singles<M: Model>(model: &M, calls: &[Call]) -> Vec<Vec<usize>> {
    let pure = |(_, call): &(usize, &Call)| model.is_pure(&call.op, call.answer.as_ref());
    calls.iter().enumerate().filter(pure).map(|(index, _)| vec![index]).collect()
}

fn only(calls: &[Call], kept: &[bool]) -> Vec<Call> {
    calls.iter().zip(kept).filter(|(_, kept)| **kept).map(|(call, _)| call.clone()).collect()
}
