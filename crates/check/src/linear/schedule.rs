//! When each call of a partition may happen, worked out once before the search.
//!
//! The search goes from return to return: a [`Turn`] is the return of one call, by which that call must have happened.
//! Calls that return have a slot while they are under way; calls that never do ("open") have a number of their own.

use bytes::{BufMut, Bytes, BytesMut};

use super::hash::FastMap;
use crate::model::{Call, Model};

/// No turn is so far: a call that no turn ends.
const NEVER: usize = usize::MAX;

/// The turns of a partition, and what is under way at each.
pub(super) struct Schedule {
    pub turns: Vec<Turn>,
    /// At most so many calls are under way at once, open ones aside.
    pub slots: usize,
    /// The open calls, in the order in which they were called.
    pub opens: Vec<Open>,
    /// Slot and call of all that is under way, turn after turn.
    active: Vec<(u32, u32)>,
    calls: Vec<Traits>,
}

/// The return of a call.
pub(super) struct Turn {
    pub call: u32,
    pub slot: u32,
    active: (u32, u32),
    /// So many of the open calls were called before this return.
    pub opens: u32,
    /// The first to return of the pure calls that are yet to be called.
    ahead: Option<u32>,
}

/// A call that never returned.
pub(super) struct Open {
    pub call: u32,
    /// The open call before it that asks the same: which of the two happened makes no difference, so it goes first.
    pub twin: Option<u32>,
}

/// What a call does to any state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It leaves it as it was.
    Pure,
    /// It leaves the same whatever it finds, and answers whatever it answered.
    Blind,
    /// Something else.
    Other,
}

/// What the search asks of a call.
struct Traits {
    kind: Kind,
    /// Calls that ask and answer the same are of one class; blind ones if they ask the same.
    class: u32,
    /// The turn at which it returns.
    turn: usize,
    /// Of a pure call: from which turn on only growing calls precede its return.
    growing_from: usize,
}

impl Schedule {
    pub fn new<M: Model>(model: &M, calls: &[Call]) -> Schedule {
        let mut order: Vec<(usize, u32)> =
            calls.iter().zip(0..).filter_map(|(call, index)| Some((call.returned?, index))).collect();
        order.sort_unstable();
        let traits = traits(model, calls, &order);
        let mut schedule = Schedule {
            turns: Vec::with_capacity(order.len()),
            slots: 0,
            opens: opens(calls, &traits),
            active: Vec::new(),
            calls: traits,
        };
        schedule.lay_out(calls, &order);
        schedule.look_ahead(calls, &order);
        schedule
    }

    /// Slot and call of all that is under way at a turn, in the order of their returns: the turn's call is the first.
    pub fn active(&self, turn: &Turn) -> &[(u32, u32)] {
        &self.active[turn.active.0 as usize..turn.active.1 as usize]
    }

    pub fn kind(&self, call: u32) -> Kind {
        self.calls[call as usize].kind
    }

    pub fn class(&self, call: u32) -> u32 {
        self.calls[call as usize].class
    }

    /// The turn at which a call returns.
    pub fn turn_of(&self, call: u32) -> usize {
        self.calls[call as usize].turn
    }

    /// A pure call yet to be called that only growing calls precede from this turn on.
    pub fn ahead(&self, turn: usize) -> Option<u32> {
        self.turns[turn].ahead.filter(|call| self.only_growing(turn, *call))
    }

    /// Whether from this turn on only growing calls precede the return of a pure call.
    pub fn only_growing(&self, turn: usize, call: u32) -> bool {
        self.calls[call as usize].growing_from <= turn
    }

    fn lay_out(&mut self, calls: &[Call], order: &[(usize, u32)]) {
        let mut waiting = (0..calls.len() as u32).filter(|call| returns(calls, *call)).peekable();
        let mut under_way: Vec<(u32, u32)> = Vec::new();
        let mut free: Vec<u32> = Vec::new();
        for (returned, call) in order {
            while let Some(next) = waiting.next_if(|next| calls[*next as usize].called < *returned) {
                let slot = free.pop().unwrap_or(self.slots as u32);
                self.slots = self.slots.max(slot as usize + 1);
                let at = under_way.partition_point(|(_, other)| self.turn_of(*other) < self.turn_of(next));
                under_way.insert(at, (slot, next));
            }
            let begin = self.active.len() as u32;
            self.active.extend(&under_way);
            let (slot, first) = under_way.remove(0);
            assert_eq!(first, *call, "a call is called before it returns");
            free.push(slot);
            let opens =
                self.opens.partition_point(|open| calls[open.call as usize].called < *returned) as u32;
            let active = (begin, self.active.len() as u32);
            self.turns.push(Turn { call: *call, slot, active, opens, ahead: None });
        }
    }

    fn look_ahead(&mut self, calls: &[Call], order: &[(usize, u32)]) {
        let pure = |call: &u32| self.kind(*call) == Kind::Pure && returns(calls, *call);
        let mut later: Vec<u32> = (0..calls.len() as u32).filter(pure).collect();
        let mut first: Option<u32> = None;
        for (turn, (returned, _)) in order.iter().enumerate().rev() {
            while let Some(call) = later.pop_if(|call| calls[*call as usize].called > *returned) {
                first = Some(first.filter(|first| self.turn_of(*first) < self.turn_of(call)).unwrap_or(call));
            }
            self.turns[turn].ahead = first;
        }
    }
}

fn returns(calls: &[Call], call: u32) -> bool {
    calls[call as usize].returned.is_some()
}

fn opens(calls: &[Call], traits: &[Traits]) -> Vec<Open> {
    let mut last: FastMap<u32, u32> = FastMap::default();
    let open = (0..calls.len() as u32).filter(|call| !returns(calls, *call));
    open.zip(0..)
        .map(|(call, number)| Open { call, twin: last.insert(traits[call as usize].class, number) })
        .collect()
}

fn traits<M: Model>(model: &M, calls: &[Call], order: &[(usize, u32)]) -> Vec<Traits> {
    let mut classes: FastMap<Bytes, u32> = FastMap::default();
    let trait_of = |call: &Call| {
        let kind = kind(model, call);
        let fresh = classes.len() as u32;
        let class = *classes.entry(class_bytes(call, kind)).or_insert(fresh);
        Traits { kind, class, turn: NEVER, growing_from: NEVER }
    };
    let mut traits: Vec<Traits> = calls.iter().map(trait_of).collect();
    order.iter().enumerate().for_each(|(turn, (_, call))| traits[*call as usize].turn = turn);
    set_growing_from(model, calls, order, &mut traits);
    traits
}

fn kind<M: Model>(model: &M, call: &Call) -> Kind {
    if model.is_pure(&call.op, call.answer.as_ref()) {
        Kind::Pure
    } else if model.is_blind(&call.op, call.answer.as_ref()) {
        Kind::Blind
    } else {
        Kind::Other
    }
}

fn class_bytes(call: &Call, kind: Kind) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u64(call.clock.from);
    bytes.put_u64(call.clock.to);
    kv::codec::encode_op(&mut bytes, &call.op);
    if let (Some(answer), Kind::Pure | Kind::Other) = (&call.answer, kind) {
        kv::codec::encode_answer(&mut bytes, answer);
    }
    bytes.freeze()
}

/// For each pure call, the turn after the last one that a call which does not grow could still precede it in.
fn set_growing_from<M: Model>(model: &M, calls: &[Call], order: &[(usize, u32)], traits: &mut [Traits]) {
    let mut next = 0;
    let mut from = 0;
    for (returned, call) in order {
        while next < calls.len() && calls[next].called < *returned {
            if traits[next].kind != Kind::Pure && !model.grows(&calls[next].op) {
                from = from.max(traits[next].turn.saturating_add(1));
            }
            next += 1;
        }
        traits[*call as usize].growing_from =
            if traits[*call as usize].kind == Kind::Pure { from } else { NEVER };
    }
}
