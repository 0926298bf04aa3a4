//! The search for an order.
//!
//! Just-in-time linearization (Lowe, "Testing for linearizability", 2016) as a depth-first search: a configuration is the
//! state after the calls chosen so far, which of the calls under way were chosen, and which open calls were. At each
//! return ([`Turn`]) the returning call must be among the chosen ones; before it, any call under way may be chosen. A
//! configuration that was seen before leads nowhere new (Wing and Gong 1993, with Lowe's memory).
//!
//! What keeps it small:
//! - A pure call (a read) that agrees with the state is chosen at once: it costs nothing and never has to be put right.
//! - A call is chosen no sooner than a return demands it.
//! - Of two configurations that differ only in their open calls, the one that used fewer can do all that the other can.
//! - Where only appends precede a read, a state that is no beginning of what it read is given up at once.

use std::collections::BTreeSet;

use super::Budget;
use super::bits::Bits;
use super::hash::FastMap;
use super::schedule::Schedule;
use super::states::{States, classes};
use crate::model::{Call, Model};

/// Configurations remembered at most: about a gigabyte.
const CONFIGURATIONS_MAX: usize = 10_000_000;

/// What the search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// There is an order.
    Order,
    /// There is none.
    Nothing(Failure),
    /// The budget ended first; why.
    Undecided(String),
}

/// Where every order ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// No order gets past the return of this call. When `exact`, there is one that gets up to it.
    pub call: usize,
    /// Whether no earlier return stops every order.
    pub exact: bool,
    /// States that were possible just before that return, for people.
    pub states: Vec<String>,
}

/// Searches for an order of the calls of one partition. `unforeseen` is a call whose answer is not used to give up states
/// before its return: with the one that fails, the search gets to all states that are possible then.
pub(super) fn search<M: Model>(
    model: &M,
    calls: &[Call],
    unforeseen: Option<usize>,
    budget: &mut Budget,
) -> Found {
    let classes = classes(calls);
    let pure: Vec<bool> = calls.iter().map(|call| model.is_pure(&call.op, call.answer.as_ref())).collect();
    let schedule = Schedule::new(model, calls, &classes, &pure);
    if schedule.slots <= 64 && schedule.opens.len() <= 64 {
        Search::<M, u64>::new(model, calls, &classes, &pure, &schedule, unforeseen).run(budget)
    } else {
        Search::<M, Vec<u64>>::new(model, calls, &classes, &pure, &schedule, unforeseen).run(budget)
    }
}

struct Search<'a, M: Model, B> {
    states: States<'a, M>,
    classes: &'a [u32],
    pure: &'a [bool],
    schedule: &'a Schedule,
    /// What was tried: for each turn, state and set of chosen calls, the least sets of open calls that were used.
    tried: FastMap<(u32, u32, B), Vec<B>>,
    configurations: usize,
    unforeseen: Option<u32>,
    /// The last turn that an order got to.
    deepest: usize,
    /// The last turn whose call made a state be given up early.
    foreseen: usize,
    stack: Vec<Frame<B>>,
}

/// A configuration, and how far its choices were tried.
#[derive(Clone)]
struct Frame<B> {
    turn: usize,
    state: u32,
    chosen: B,
    used: B,
    choice: usize,
    /// Of the states that the choice may leave, the one to try next.
    variant: usize,
}

/// Where a configuration is once nothing is to choose any more.
enum Settled {
    /// All calls returned.
    End,
    /// It is new, and was put on the stack.
    Pushed,
    /// It leads nowhere, or nowhere new.
    Dead,
}

impl<'a, M: Model, B: Bits> Search<'a, M, B> {
    fn new(
        model: &'a M,
        calls: &'a [Call],
        classes: &'a [u32],
        pure: &'a [bool],
        schedule: &'a Schedule,
        unforeseen: Option<usize>,
    ) -> Self {
        Search {
            states: States::new(model, calls),
            classes,
            pure,
            schedule,
            tried: FastMap::default(),
            configurations: 0,
            unforeseen: unforeseen.map(|call| call as u32),
            deepest: 0,
            foreseen: 0,
            stack: Vec::new(),
        }
    }

    fn run(mut self, budget: &mut Budget) -> Found {
        for state in self.states.initial() {
            let (chosen, used) = (B::empty(self.schedule.slots), B::empty(self.schedule.opens.len()));
            let begin = Frame { turn: 0, state, chosen, used, choice: 0, variant: 0 };
            if let Settled::End = self.settle(begin) {
                return Found::Order;
            }
            if let Some(found) = self.explore(budget) {
                return found;
            }
        }
        Found::Nothing(self.failure())
    }

    /// Tries all that is on the stack. `None` = no order.
    fn explore(&mut self, budget: &mut Budget) -> Option<Found> {
        while !self.stack.is_empty() {
            if let Err(why) = budget.step() {
                return Some(Found::Undecided(why));
            }
            if self.configurations > CONFIGURATIONS_MAX {
                let why =
                    format!("more than {CONFIGURATIONS_MAX} configurations of one key are to be remembered");
                return Some(Found::Undecided(why));
            }
            match self.next_choice() {
                None => drop(self.stack.pop()),
                Some(next) => {
                    if let Settled::End = self.settle(next) {
                        return Some(Found::Order);
                    }
                }
            }
        }
        None
    }

    /// The configuration after the next choice of the topmost one; `None` when it has no more.
    fn next_choice(&mut self) -> Option<Frame<B>> {
        loop {
            let schedule = self.schedule;
            let frame = self.stack.last_mut().expect("explore() looks first");
            let turn = &schedule.turns[frame.turn];
            let active = schedule.active(turn);
            let choice = frame.choice;
            // The returning call first, then what else is under way, then the open calls.
            let (call, slot, open) = match choice {
                0 => (turn.call, Some(turn.slot as usize), None),
                _ if choice <= active.len() => {
                    let (slot, call) = active[choice - 1];
                    (call, Some(slot as usize), None)
                }
                _ => {
                    let open = choice - active.len() - 1;
                    if open >= turn.opens as usize {
                        return None;
                    }
                    (schedule.opens[open].call, None, Some(open))
                }
            };
            let twice = choice > 0 && call == turn.call;
            let taken = slot.is_some_and(|slot| frame.chosen.get(slot));
            let spent = open.is_some_and(|open| {
                frame.used.get(open)
                    || schedule.opens[open].twin.is_some_and(|twin| !frame.used.get(twin as usize))
            });
            let next = if twice || taken || spent {
                None
            } else {
                let next = self.states.step(frame.state, call, self.classes[call as usize]);
                // An open call that changes nothing need not happen.
                next.get(frame.variant).filter(|next| open.is_none() || *next != frame.state)
            };
            let Some(state) = next else {
                frame.choice += 1;
                frame.variant = 0;
                continue;
            };
            frame.variant += 1;
            let mut next = Frame { state, choice: 0, variant: 0, ..frame.clone() };
            slot.into_iter().for_each(|slot| next.chosen.set(slot));
            open.into_iter().for_each(|open| next.used.set(open));
            return Some(next);
        }
    }

    /// Chooses what costs nothing, goes past returns that are satisfied, and puts the rest on the stack if it is new.
    fn settle(&mut self, mut frame: Frame<B>) -> Settled {
        let schedule = self.schedule;
        loop {
            let Some(turn) = schedule.turns.get(frame.turn) else { return Settled::End };
            if let Err(call) = self.choose_pure(&mut frame) {
                self.deepest = self.deepest.max(frame.turn);
                self.foreseen = self.foreseen.max(schedule.turn_of(call));
                return Settled::Dead;
            }
            if !frame.chosen.get(turn.slot as usize) {
                break;
            }
            frame.chosen.clear(turn.slot as usize);
            frame.turn += 1;
        }
        self.deepest = self.deepest.max(frame.turn);
        if !self.remember(&frame) {
            return Settled::Dead;
        }
        self.stack.push(frame);
        Settled::Pushed
    }

    /// Chooses the pure calls that agree with the state. Fails with one that no state to come agrees with.
    fn choose_pure(&mut self, frame: &mut Frame<B>) -> Result<(), u32> {
        let schedule = self.schedule;
        for (slot, call) in schedule.active(&schedule.turns[frame.turn]) {
            if !self.pure[*call as usize] || frame.chosen.get(*slot as usize) {
                continue;
            }
            let class = self.classes[*call as usize];
            if self.states.step(frame.state, *call, class).contains(frame.state) {
                frame.chosen.set(*slot as usize);
            } else if schedule.only_growing(frame.turn, *call) {
                self.may_lead(frame.state, *call)?;
            }
        }
        schedule.ahead(frame.turn).map_or(Ok(()), |call| self.may_lead(frame.state, call))
    }

    fn may_lead(&mut self, state: u32, call: u32) -> Result<(), u32> {
        let may =
            self.unforeseen == Some(call) || self.states.may_lead(state, call, self.classes[call as usize]);
        if may { Ok(()) } else { Err(call) }
    }

    /// Whether nothing tried before can do all that this configuration can.
    fn remember(&mut self, frame: &Frame<B>) -> bool {
        let key = (frame.turn as u32, frame.state, frame.chosen.clone());
        let used = self.tried.entry(key).or_default();
        if used.iter().any(|less| less.is_subset(&frame.used)) {
            return false;
        }
        used.retain(|more| !frame.used.is_subset(more));
        used.push(frame.used.clone());
        self.configurations += 1;
        true
    }

    fn failure(&self) -> Failure {
        let stop = self.deepest.max(self.foreseen);
        let at_stop = self.tried.keys().filter(|(turn, ..)| *turn as usize == stop);
        let states: BTreeSet<u32> = at_stop.map(|(_, state, _)| *state).collect();
        Failure {
            call: self.schedule.turns[stop].call as usize,
            exact: self.foreseen <= self.deepest,
            states: states.into_iter().map(|state| self.states.describe(state)).collect(),
        }
    }
}
