//! When each call of a partition may happen, worked out once before the search.
//!
//! The search goes from return to return: a [`Turn`] is the return of one call, by which that call must have happened.
//! Calls that return have a slot while they are under way; calls that never do ("open") have a number of their own.

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
    /// From which turn on only growing calls precede a pure call's return; by call.
    growing_from: Vec<usize>,
    /// The turn at which a call returns, by call.
    turn_of: Vec<usize>,
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

impl Schedule {
    pub fn new<M: Model>(model: &M, calls: &[Call], classes: &[u32], pure: &[bool]) -> Schedule {
        let mut order: Vec<(usize, u32)> =
            calls.iter().zip(0..).filter_map(|(call, index)| Some((call.returned?, index))).collect();
        order.sort_unstable();
        let mut turn_of = vec![NEVER; calls.len()];
        order.iter().enumerate().for_each(|(turn, (_, call))| turn_of[*call as usize] = turn);
        let mut schedule = Schedule {
            turns: Vec::with_capacity(order.len()),
            slots: 0,
            opens: opens(calls, classes),
            active: Vec::new(),
            growing_from: growing_from(model, calls, &order, pure, &turn_of),
            turn_of,
        };
        schedule.lay_out(calls, &order);
        schedule.look_ahead(calls, &order, pure);
        schedule
    }

    /// Slot and call of all that is under way at a turn, the call that returns among them.
    pub fn active(&self, turn: &Turn) -> &[(u32, u32)] {
        &self.active[turn.active.0 as usize..turn.active.1 as usize]
    }

    /// A pure call yet to be called that only growing calls precede from this turn on.
    pub fn ahead(&self, turn: usize) -> Option<u32> {
        self.turns[turn].ahead.filter(|call| self.only_growing(turn, *call))
    }

    /// Whether from this turn on only growing calls precede the return of a pure call.
    pub fn only_growing(&self, turn: usize, call: u32) -> bool {
        self.growing_from[call as usize] <= turn
    }

    /// The turn at which a call returns.
    pub fn turn_of(&self, call: u32) -> usize {
        self.turn_of[call as usize]
    }

    fn lay_out(&mut self, calls: &[Call], order: &[(usize, u32)]) {
        let mut waiting =
            (0..calls.len() as u32).filter(|index| calls[*index as usize].returned.is_some()).peekable();
        let mut under_way: Vec<(u32, u32)> = Vec::new();
        let mut free: Vec<u32> = Vec::new();
        for (returned, call) in order {
            while let Some(next) = waiting.next_if(|next| calls[*next as usize].called < *returned) {
                let slot = free.pop().unwrap_or(self.slots as u32);
                self.slots = self.slots.max(slot as usize + 1);
                under_way.push((slot, next));
            }
            let begin = self.active.len() as u32;
            self.active.extend(&under_way);
            let place = under_way.iter().position(|(_, other)| other == call);
            let (slot, _) = under_way.remove(place.expect("a call is called before it returns"));
            free.push(slot);
            let opens =
                self.opens.partition_point(|open| calls[open.call as usize].called < *returned) as u32;
            let active = (begin, self.active.len() as u32);
            self.turns.push(Turn { call: *call, slot, active, opens, ahead: None });
        }
    }

    fn look_ahead(&mut self, calls: &[Call], order: &[(usize, u32)], pure: &[bool]) {
        let mut later: Vec<u32> =
            (0..calls.len() as u32).filter(|call| pure[*call as usize] && returns(calls, *call)).collect();
        let mut first: Option<u32> = None;
        for (turn, (returned, _)) in order.iter().enumerate().rev() {
            while let Some(call) = later.pop_if(|call| calls[*call as usize].called > *returned) {
                let sooner = |first: &u32| calls[*first as usize].returned < calls[call as usize].returned;
                first = Some(first.filter(sooner).unwrap_or(call));
            }
            self.turns[turn].ahead = first;
        }
    }
}

fn returns(calls: &[Call], call: u32) -> bool {
    calls[call as usize].returned.is_some()
}

fn opens(calls: &[Call], classes: &[u32]) -> Vec<Open> {
    let mut last: FastMap<u32, u32> = FastMap::default();
    let open = (0..calls.len() as u32).filter(|call| !returns(calls, *call));
    open.zip(0..)
        .map(|(call, number)| Open { call, twin: last.insert(classes[call as usize], number) })
        .collect()
}

/// For each pure call, the turn after the last one that a call which does not grow could still precede it in.
fn growing_from<M: Model>(
    model: &M,
    calls: &[Call],
    order: &[(usize, u32)],
    pure: &[bool],
    turn_of: &[usize],
) -> Vec<usize> {
    let mut from = vec![NEVER; calls.len()];
    let mut next = 0;
    let mut bar = 0;
    for (returned, call) in order {
        while next < calls.len() && calls[next].called < *returned {
            if !pure[next] && !model.grows(&calls[next].op) {
                bar = bar.max(turn_of[next].saturating_add(1));
            }
            next += 1;
        }
        if pure[*call as usize] {
            from[*call as usize] = bar;
        }
    }
    from
}
