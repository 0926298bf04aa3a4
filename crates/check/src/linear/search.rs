//! The search for an order.
//!
//! Just-in-time linearization (Lowe, "Testing for linearizability", 2016) as a depth-first search through
//! [`Configuration`]s. At each return ([`Turn`]) the returning call must have happened; before it, any call under way may
//! be chosen to happen next. A configuration that is no better than one seen before leads nowhere new (Wing and Gong 1993,
//! with Lowe's memory).
//!
//! What keeps it small:
//! - A call is chosen no sooner than a return demands it.
//! - A pure call (a read) that agrees with the state happens at once: it costs nothing and never has to be put right.
//! - A blind call (a put) that nobody sees is not chosen at all: it fits before the next blind one.
//! - Of calls that ask the same, the one that returns first happens first.
//! - Of two configurations that differ only in their open calls, the one that used fewer can do all that the other can.
//! - An order that lets few open calls happen at one turn is looked for first: what they did was mostly seen one by one.
//! - Where only appends precede a read, a state that is no beginning of what it read is given up at once.

use std::collections::BTreeSet;

use super::Budget;
use super::bits::{Bits, WORD, WORDS};
use super::configuration::{Configuration, Key, Rest};
use super::hash::FastMap;
use super::schedule::{Kind, Schedule, Turn};
use super::states::States;
use crate::model::{Call, Model};

/// Configurations remembered at most: about a gigabyte.
const CONFIGURATIONS_MAX: usize = 8_000_000;
/// So many open calls may happen at one turn, in one attempt after the other. The last attempt decides.
const OPENS_PER_TURN: [u32; 3] = [1, 2, u32::MAX];

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
    /// No order gets past the return of this call.
    pub call: usize,
    /// Whether an order gets up to it.
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
    let schedule = Schedule::new(model, calls);
    let states = States::new(model, calls);
    let bound = schedule.slots.max(schedule.opens.len());
    if bound <= WORD {
        attempts::<M, [u64; WORD / 64]>(states, &schedule, unforeseen, budget)
    } else if bound <= WORDS {
        attempts::<M, [u64; WORDS / 64]>(states, &schedule, unforeseen, budget)
    } else {
        attempts::<M, Vec<u64>>(states, &schedule, unforeseen, budget)
    }
}

/// Searches with ever more open calls at one turn.
fn attempts<M: Model, B: Bits>(
    states: States<M>,
    schedule: &Schedule,
    unforeseen: Option<usize>,
    budget: &mut Budget,
) -> Found {
    let mut search = Search::<M, B>::new(states, schedule, unforeseen);
    for limit in OPENS_PER_TURN {
        search.restart(limit);
        let found = search.run(budget);
        let final_word = !matches!(found, Found::Nothing(_)) || !search.limited;
        if final_word {
            return found;
        }
    }
    unreachable!("the last attempt is not limited")
}

struct Search<'a, M: Model, B> {
    states: States<'a, M>,
    schedule: &'a Schedule,
    /// What was tried, and is not worse than something else that was.
    tried: FastMap<Key<B>, Vec<Rest<B>>>,
    configurations: usize,
    unforeseen: Option<u32>,
    /// So many open calls may happen at one turn.
    limit: u32,
    /// More would have been possible.
    limited: bool,
    /// The last turn that an order got to.
    deepest: usize,
    /// The last turn whose call made a state be given up early.
    foreseen: usize,
    stack: Vec<Frame<B>>,
}

/// A configuration, and how far its choices were tried.
struct Frame<B> {
    at: Configuration<B>,
    choice: usize,
    /// Of the states that the choice may leave, the one to try next.
    variant: usize,
}

/// One thing that may happen next.
#[derive(Clone, Copy)]
enum Choice {
    /// The turn's call happened unseen.
    Pass,
    /// A call that returns happens, in its slot.
    Call(u32, u32),
    /// An open call happens, by its number.
    Open(u32, u32),
}

impl<'a, M: Model, B: Bits> Search<'a, M, B> {
    fn new(states: States<'a, M>, schedule: &'a Schedule, unforeseen: Option<usize>) -> Self {
        Search {
            states,
            schedule,
            tried: FastMap::default(),
            configurations: 0,
            unforeseen: unforeseen.map(|call| call as u32),
            limit: u32::MAX,
            limited: false,
            deepest: 0,
            foreseen: 0,
            stack: Vec::new(),
        }
    }

    /// Forgets all that was tried, but for what calls make of states.
    fn restart(&mut self, limit: u32) {
        self.tried.clear();
        self.stack.clear();
        (self.configurations, self.deepest, self.foreseen) = (0, 0, 0);
        (self.limit, self.limited) = (limit, false);
    }

    fn run(&mut self, budget: &mut Budget) -> Found {
        for state in self.states.initial() {
            if self.settle(Configuration::first(state, self.schedule)) {
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
            if self.states.are_too_large() {
                return Some(Found::Undecided("the states of one key take too much memory".into()));
            }
            match self.next_configuration() {
                None => drop(self.stack.pop()),
                Some(next) => {
                    if self.settle(next) {
                        return Some(Found::Order);
                    }
                }
            }
        }
        None
    }

    /// The configuration after the next choice of the topmost one; `None` when it has no more.
    fn next_configuration(&mut self) -> Option<Configuration<B>> {
        let schedule = self.schedule;
        loop {
            let frame = self.stack.last_mut().expect("explore() looks first");
            let turn = &schedule.turns[frame.at.turn];
            let choice = choice(schedule, turn, frame.choice)?;
            if matches!(choice, Choice::Open(..)) && frame.at.used_now >= self.limit {
                self.limited = true;
                return None;
            }
            let next = if allowed(schedule, turn, &frame.at, choice, frame.choice) {
                step(&mut self.states, schedule, turn, &frame.at, choice, frame.variant)
            } else {
                None
            };
            match next {
                Some(next) => {
                    frame.variant += 1;
                    return Some(next);
                }
                None => (frame.choice, frame.variant) = (frame.choice + 1, 0),
            }
        }
    }

    /// Lets happen what costs nothing, goes past returns that are satisfied, and puts the configuration on the stack if it
    /// is new and leads somewhere. True = there is nothing left to return: an order is found.
    fn settle(&mut self, mut at: Configuration<B>) -> bool {
        let schedule = self.schedule;
        loop {
            let Some(turn) = schedule.turns.get(at.turn) else { return true };
            let read = self.read(&mut at);
            self.deepest = self.deepest.max(at.turn);
            if let Err(call) = read {
                self.foreseen = self.foreseen.max(schedule.turn_of(call));
                return false;
            }
            if !at.happened(turn.slot as usize) {
                break;
            }
            at.advance(turn);
        }
        if self.is_new(&at) {
            self.stack.push(Frame { at, choice: 0, variant: 0 });
        }
        false
    }

    /// Lets the pure calls happen that agree with the state. Fails with one that no state to come agrees with.
    fn read(&mut self, at: &mut Configuration<B>) -> Result<(), u32> {
        let schedule = self.schedule;
        let turn = &schedule.turns[at.turn];
        for (slot, call) in schedule.active(turn) {
            if schedule.kind(*call) != Kind::Pure || at.read.get(*slot as usize) {
                continue;
            }
            if self.states.step(at.state, *call, schedule.class(*call)).contains(at.state) {
                at.read.set(*slot as usize);
                at.idle = false;
            } else if schedule.only_growing(at.turn, *call) {
                self.may_lead(at.state, *call)?;
            }
        }
        schedule.ahead(at.turn).map_or(Ok(()), |call| self.may_lead(at.state, call))
    }

    fn may_lead(&mut self, state: u32, call: u32) -> Result<(), u32> {
        let may =
            self.unforeseen == Some(call) || self.states.may_lead(state, call, self.schedule.class(call));
        if may { Ok(()) } else { Err(call) }
    }

    /// Whether nothing that was tried is as good. Then it is remembered.
    fn is_new(&mut self, at: &Configuration<B>) -> bool {
        let rest = at.rest();
        let tried = self.tried.entry(at.key()).or_default();
        if tried.iter().any(|tried| tried.is_as_good_as(&rest)) {
            return false;
        }
        tried.retain(|tried| !rest.is_as_good_as(tried));
        tried.push(rest);
        self.configurations += 1;
        true
    }

    fn failure(&self) -> Failure {
        let stop = self.deepest.max(self.foreseen);
        let at_stop = self.tried.keys().filter(|(turn, ..)| *turn as usize == stop);
        let states: BTreeSet<u32> = at_stop.map(|(_, state, ..)| *state).collect();
        Failure {
            call: self.schedule.turns[stop].call as usize,
            exact: self.foreseen <= self.deepest,
            states: states.into_iter().map(|state| self.states.describe(state)).collect(),
        }
    }
}

/// The choice of this number: to pass, what is under way in the order of its returns, the open calls. `None` = no more.
fn choice(schedule: &Schedule, turn: &Turn, number: usize) -> Option<Choice> {
    let Some(number) = number.checked_sub(1) else { return Some(Choice::Pass) };
    let active = schedule.active(turn);
    if let Some((slot, call)) = active.get(number) {
        return Some(Choice::Call(*call, *slot));
    }
    let open = number - active.len();
    (open < turn.opens as usize).then(|| Choice::Open(schedule.opens[open].call, open as u32))
}

/// Whether a choice is worth a try.
fn allowed<B: Bits>(
    schedule: &Schedule,
    turn: &Turn,
    at: &Configuration<B>,
    choice: Choice,
    number: usize,
) -> bool {
    let (call, waits) = match choice {
        Choice::Pass => return at.covered.get(turn.slot as usize) && !at.committed,
        Choice::Call(call, slot) => (call, !at.happened(slot as usize)),
        Choice::Open(call, open) => {
            let twin = schedule.opens[open as usize].twin;
            (call, !at.used.get(open as usize) && twin.is_none_or(|twin| at.used.get(twin as usize)))
        }
    };
    if schedule.kind(call) != Kind::Blind {
        return waits;
    }
    // What the last blind call left would be wiped before anyone saw it: that order was tried without choosing it. And of
    // blind calls that ask the same, the one that returns first goes first: the other can wait longer.
    let sooner = &schedule.active(turn)[..schedule.active(turn).len().min(number.saturating_sub(1))];
    let same = |(slot, other): &(u32, u32)| {
        schedule.class(*other) == schedule.class(call) && !at.happened(*slot as usize)
    };
    waits && !at.idle && !sooner.iter().any(same)
}

/// The configuration after a choice, in one of the states that it may leave.
fn step<M: Model, B: Bits>(
    states: &mut States<M>,
    schedule: &Schedule,
    turn: &Turn,
    at: &Configuration<B>,
    choice: Choice,
    variant: usize,
) -> Option<Configuration<B>> {
    let call = match choice {
        Choice::Pass if variant > 0 => return None,
        Choice::Pass => {
            let mut next = at.clone();
            next.advance(turn);
            return Some(next);
        }
        Choice::Call(call, _) | Choice::Open(call, _) => call,
    };
    let left = states.step(at.state, call, schedule.class(call));
    let blind = schedule.kind(call) == Kind::Blind;
    let state = match choice {
        // An open call that changes nothing need not happen, but to hide what happens right before it.
        Choice::Open(..) if !(blind && covers(schedule, turn, at).next().is_some()) => {
            left.get_other(variant, at.state)?
        }
        _ => left.get(variant)?,
    };
    let mut next = Configuration { state, idle: blind, ..at.clone() };
    if at.covered.get(turn.slot as usize) {
        next.committed = true;
        next.covered.clear(turn.slot as usize);
    }
    if blind {
        cover(schedule, turn, &mut next);
    }
    match choice {
        Choice::Open(_, open) => {
            next.used.set(open as usize);
            next.used_now += 1;
        }
        Choice::Call(_, slot) => {
            next.covered.clear(slot as usize);
            let set = match schedule.kind(call) {
                Kind::Pure => &mut next.read,
                Kind::Blind => &mut next.shown,
                Kind::Other => &mut next.done,
            };
            set.set(slot as usize);
        }
        Choice::Pass => {}
    }
    Some(next)
}

/// A blind call happens: those under way may have happened right before.
fn cover<B: Bits>(schedule: &Schedule, turn: &Turn, at: &mut Configuration<B>) {
    for slot in Vec::from_iter(covers(schedule, turn, at)) {
        at.covered.set(slot);
    }
}

/// The slots of the blind calls that may happen right before another one, and have not yet.
fn covers<B: Bits>(schedule: &Schedule, turn: &Turn, at: &Configuration<B>) -> impl Iterator<Item = usize> {
    let blind = schedule.active(turn).iter().filter(|(_, call)| schedule.kind(*call) == Kind::Blind);
    let kept_to_show = |call: u32| at.committed && call == turn.call;
    let open = blind.filter(move |(slot, call)| {
        !at.shown.get(*slot as usize) && !at.covered.get(*slot as usize) && !kept_to_show(*call)
    });
    open.map(|(slot, _)| *slot as usize)
}
