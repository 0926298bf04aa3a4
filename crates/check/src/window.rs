//! The part of a history that proves a violation, for people: as text, as JSON, or drawn by [`crate::html`].

mod say;

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use crate::history::History;
use crate::linear::Shrunk;

/// A few operations for which there is no order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Window {
    /// The key, or the keys, that the operations are about.
    pub part: String,
    /// The operations, in the order in which they were called.
    pub operations: Vec<Shown>,
    /// Which of them fails: its answer fits no order, by the time it returned.
    pub fails: usize,
    /// States that were possible just before it returned, whatever is shown here; empty when there were too many to find.
    pub states: Vec<String>,
    /// So many more states were possible.
    pub more_states: usize,
    /// So many earlier operations belong to the proof and are not shown.
    pub left_out: usize,
}

/// One operation of a window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// Who asked.
    pub process: u64,
    /// What was asked.
    pub op: String,
    /// What was answered.
    pub answer: String,
    /// The event of its call.
    pub called: usize,
    /// The event of its return; `None` = it had none when the failing one returned.
    pub returned: Option<usize>,
    /// Microseconds of its call.
    pub called_micros: Option<u64>,
    /// Microseconds of its return.
    pub returned_micros: Option<u64>,
}

/// More operations than this are no help to a reader: the earlier ones are left out.
const SHOWN_MAX: usize = 40;
/// When some must be left out, so many of those before the failing one are shown.
const EARLIER_MAX: usize = 8;
/// More states than this are counted, not kept.
const STATES_MAX: usize = 20;
/// More states than this are no help in a sentence.
const STATES_TOLD_MAX: usize = 4;

impl Window {
    pub(crate) fn new(part: String, history: &History, shrunk: &Shrunk) -> Window {
        let shown = shown(shrunk);
        let fails =
            shown.iter().position(|index| *index == shrunk.fails).expect("the call that fails is shown");
        let operations: Vec<Shown> = shown.iter().map(|index| show(history, shrunk, *index)).collect();
        let mut states = shrunk.states.clone();
        states.sort();
        states.dedup();
        let more_states = states.len().saturating_sub(STATES_MAX);
        states.truncate(STATES_MAX);
        let states = states.iter().map(|state| say::cut(state)).collect();
        Window {
            part,
            left_out: shrunk.calls.len() - operations.len(),
            operations,
            fails,
            states,
            more_states,
        }
    }

    /// What is wrong, in a sentence or two.
    pub fn reason(&self) -> String {
        let failing = &self.operations[self.fails];
        let mut reason =
            format!("{} of process {} cannot have answered {}.", failing.op, failing.process, failing.answer);
        if !self.states.is_empty() {
            let told = self.states.len().min(STATES_TOLD_MAX);
            reason += &format!(" Possible just before it returned: {}", self.states[..told].join(", or "));
            let more = self.states.len() - told + self.more_states;
            if more > 0 {
                reason += &format!(", or one of {more} more");
            }
            reason.push('.');
        }
        reason
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: these operations have no order that one copy of the data would allow", self.part)?;
        writeln!(f, "    events  process  operation")?;
        if self.left_out > 0 {
            writeln!(f, "  and {} earlier operations", self.left_out)?;
        }
        for (index, shown) in self.operations.iter().enumerate() {
            let end = shown.returned.map_or("..".into(), |returned| returned.to_string());
            let events = format!("{}-{end}", shown.called);
            let mark = if index == self.fails { "  <- fails" } else { "" };
            writeln!(f, "{events:>10}  {:>7}  {} -> {}{mark}", shown.process, shown.op, shown.answer)?;
        }
        write!(f, "{}", self.reason())
    }
}

/// The calls to show: the failing one, what was under way with it, and the latest before.
fn shown(shrunk: &Shrunk) -> Vec<usize> {
    let failing = &shrunk.calls[shrunk.fails];
    let mut order: Vec<usize> = (0..shrunk.calls.len()).collect();
    order.sort_by_key(|index| {
        let call = &shrunk.calls[*index];
        let before = call.returned.filter(|returned| *returned < failing.called);
        // Open calls last called come first among those under way.
        (*index != shrunk.fails, before.map_or(0, |returned| usize::MAX - returned), usize::MAX - call.called)
    });
    let under_way =
        shrunk.calls.iter().filter(|call| call.returned.is_none_or(|at| at >= failing.called)).count();
    let count = if order.len() > SHOWN_MAX { SHOWN_MAX.min(under_way + EARLIER_MAX) } else { order.len() };
    order.into_iter().take(count).collect::<BTreeSet<usize>>().into_iter().collect()
}

fn show(history: &History, shrunk: &Shrunk, index: usize) -> Shown {
    let call = &shrunk.calls[index];
    let operation = &history.operations()[call.operation];
    let returned = operation.returned.filter(|moment| Some(moment.index) == call.returned);
    let answer = match (&call.answer, call.returned) {
        (Some(answer), _) => say::answer(answer),
        (None, Some(_)) => "done".into(),
        (None, None) => "unknown".into(),
    };
    Shown {
        process: operation.process,
        op: say::op(&call.op),
        answer,
        called: call.called,
        returned: call.returned,
        called_micros: operation.called.micros,
        returned_micros: returned.and_then(|moment| moment.micros),
    }
}
