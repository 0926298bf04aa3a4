//! States by number, and what each call makes of them, worked out once.

use std::rc::Rc;

use super::hash::FastMap;
use crate::model::{Call, Model};

/// Numbers states, and remembers what calls make of them.
pub(super) struct States<'a, M: Model> {
    model: &'a M,
    calls: &'a [Call],
    numbers: FastMap<Rc<M::State>, u32>,
    states: Vec<Rc<M::State>>,
    steps: FastMap<u64, Next>,
    leads: FastMap<u64, bool>,
    bytes: usize,
}

/// Bytes of all states at most: they are kept until the end.
const BYTES_MAX: usize = 1 << 30;

/// The states that a call may leave.
#[derive(Clone)]
pub(super) enum Next {
    None,
    One(u32),
    Many(Rc<[u32]>),
}

impl Next {
    pub fn get(&self, at: usize) -> Option<u32> {
        match self {
            Next::None => None,
            Next::One(state) => (at == 0).then_some(*state),
            Next::Many(states) => states.get(at).copied(),
        }
    }

    /// As [`Next::get`], of those that are not `state`.
    pub fn get_other(&self, at: usize, state: u32) -> Option<u32> {
        match self {
            Next::None => None,
            Next::One(next) => (at == 0 && *next != state).then_some(*next),
            Next::Many(states) => states.iter().copied().filter(|next| *next != state).nth(at),
        }
    }

    pub fn contains(&self, state: u32) -> bool {
        match self {
            Next::None => false,
            Next::One(next) => *next == state,
            Next::Many(states) => states.contains(&state),
        }
    }
}

impl<'a, M: Model> States<'a, M> {
    pub fn new(model: &'a M, calls: &'a [Call]) -> States<'a, M> {
        let (numbers, states) = (FastMap::default(), Vec::new());
        States {
            model,
            calls,
            numbers,
            states,
            steps: FastMap::default(),
            leads: FastMap::default(),
            bytes: 0,
        }
    }

    /// The numbers of the states in which the partition may begin.
    pub fn initial(&mut self) -> Vec<u32> {
        let initial = self.model.initial(self.calls);
        initial.into_iter().map(|state| self.number(state)).collect()
    }

    /// What a call of this class makes of a state.
    pub fn step(&mut self, state: u32, call: u32, class: u32) -> Next {
        let key = u64::from(state) << 32 | u64::from(class);
        if let Some(next) = self.steps.get(&key) {
            return next.clone();
        }
        let left = self.model.step(&self.states[state as usize], &self.calls[call as usize]);
        let mut numbers: Vec<u32> = left.into_iter().map(|state| self.number(state)).collect();
        let next = match numbers.len() {
            0 => Next::None,
            1 => Next::One(numbers.remove(0)),
            _ => Next::Many(numbers.into()),
        };
        self.steps.insert(key, next.clone());
        next
    }

    /// Whether calls that grow may lead from the state to one where this call answers as it did.
    pub fn may_lead(&mut self, state: u32, call: u32, class: u32) -> bool {
        let key = u64::from(state) << 32 | u64::from(class);
        let (model, calls, states) = (self.model, self.calls, &self.states);
        *self.leads.entry(key).or_insert_with(|| {
            let Call { op, answer, .. } = &calls[call as usize];
            model.may_lead(&states[state as usize], op, answer.as_ref())
        })
    }

    /// Whether the states take more memory than is good.
    pub fn are_too_large(&self) -> bool {
        self.bytes > BYTES_MAX
    }

    /// The state, for people.
    pub fn describe(&self, state: u32) -> String {
        self.model.describe(&self.states[state as usize])
    }

    fn number(&mut self, state: M::State) -> u32 {
        if let Some(number) = self.numbers.get(&state) {
            return *number;
        }
        let number = u32::try_from(self.states.len()).expect("the budget ends before four billion states");
        self.bytes += self.model.bytes(&state);
        let state = Rc::new(state);
        self.states.push(Rc::clone(&state));
        self.numbers.insert(state, number);
        number
    }
}
