//! One call of a client from first attempt to last word, tried again as the native client does it.

use std::time::Duration;

use check::generate::Place;
use check::history;
use kv::{Class, Error, Key, Level, NodeId, Op, Outcome, Reply, Request, RequestId, Version};

use node::route::{Keyspaces, Plan, ShardMap};
use storage::ANSWER_BYTES_KEPT;

use super::client::{Call, Purpose};
use super::{Whose, wide};
use crate::events::Event;
use crate::machine::Machine;
use crate::watch::Told;
use crate::world::World;

/// An answer is waited for a little longer than the node was given.
const GRACE_MICROS: u64 = 200_000;
/// An attempt is given at least so long, if there is so much time.
const ATTEMPT_MICROS_MIN: u64 = 1_000_000;
/// What must be answered at the end may take so long: longer than a slow network takes with a request and its answer.
const LAST_TIMEOUT_MICROS: u64 = 10_000_000;
/// After so many writes in doubt, clients turn to another key.
const DOUBTS_MAX: u32 = 10;
/// The pause before the next attempt, at most.
const PAUSE_MICROS_MAX: u64 = 100_000;

/// Of answers in 100 that stop before their end, so many are followed by the next step.
const GO_ON_PERCENT: u64 = 85;
/// Of reads in 100, so many are asked of one who is cut off, and may not know what is over.
const CUT_OFF_PERCENT: u64 = 50;

/// What an attempt came to.
enum Came {
    Answer(Box<Result<Reply, Error>>),
    /// Nothing was sent.
    Unsent,
    /// It may have been run, and nothing came back.
    Lost,
}

impl World {
    /// A client asks.
    pub fn call(&mut self, client: usize, op: Op, level: Option<Level>, purpose: Purpose) {
        let now = self.events.now();
        let timeout = match purpose {
            Purpose::Last => LAST_TIMEOUT_MICROS,
            _ => self.settings.timeout.draw(&mut self.random),
        };
        let here = purpose == Purpose::Work && self.zoned.is_here(&op);
        let mut request =
            Request { level, here, timeout: Duration::from_micros(timeout), ..Request::new(op) };
        let node = self.whom_to_ask(client, purpose, request.op.class());
        if request.op.class() != Class::Read && self.clients[client].has_ids {
            let valid_until = self.valid_until(node, purpose, timeout);
            request.id = Some(self.clients[client].next_id(valid_until));
        }
        let in_history = purpose != Purpose::AtVersion;
        let ticket = in_history.then(|| self.recorder.invoke(client as u64, &request, now));
        self.trace(|| format!("client {client} asks {}", crate::trace::op(&request.op)));
        let clock = self.clocks().highest();
        let state = &mut self.clients[client];
        state.called += 1;
        let whose = Whose { client, call: state.called, attempt: 0 };
        let (asked_at, deadline) = (now, now + timeout);
        let call = Call {
            request,
            purpose,
            ticket,
            asked_at,
            deadline,
            attempt: 0,
            node,
            may_have_run: false,
            clock,
        };
        state.calls.insert(whose.call, call);
        self.attempt(whose);
    }

    /// By the clock of the node that is asked, which may be behind the others: then the id runs out early. At the end it must
    /// not.
    fn valid_until(&self, node: NodeId, purpose: Purpose, timeout: u64) -> Version {
        let machine = self.machine(node);
        let told = |machine: &Machine| machine.process.as_ref().map(|process| process.cores.clients_micros());
        let clock = match purpose {
            Purpose::Last => self.machines.iter().filter_map(told).max().unwrap_or_default(),
            _ => told(machine).unwrap_or_else(|| machine.clock.read(self.events.now()).wall),
        };
        Version::end_of(clock + timeout + self.settings.validity_micros)
    }

    fn whom_to_ask(&mut self, client: usize, purpose: Purpose, class: Class) -> NodeId {
        let ids: Vec<NodeId> = self.ids().collect();
        let now = self.events.now();
        let cut_off = self.cut_off.filter(|(_, until)| now < *until).map(|(node, _)| node);
        let state = &mut self.clients[client];
        if !ids.contains(&state.home) {
            state.home = state.random.pick(&ids);
        }
        if let Some(cut_off) = cut_off
            && class == Class::Read
            && purpose == Purpose::Work
            && ids.contains(&cut_off)
            && state.random.percent(CUT_OFF_PERCENT)
        {
            return cut_off;
        }
        if purpose == Purpose::Last || state.random.percent(30) {
            state.random.pick(&ids)
        } else {
            state.home
        }
    }

    fn attempt(&mut self, whose: Whose) {
        let now = self.events.now();
        let Some(call) = self.clients[whose.client].calls.get(&whose.call) else { return };
        let left = call.deadline.saturating_sub(now);
        let budget = (left / 2).max(ATTEMPT_MICROS_MIN.min(left)).max(1000);
        let (node, mut request) = (call.node, Box::new(call.request.clone()));
        request.timeout = Duration::from_micros(budget);
        request.again = call.may_have_run && request.op.class() != Class::Read;
        match self.machine(node).life() {
            Some(life) => {
                let delay = self.settings.client_network.draw(&mut self.random);
                self.events.after(delay, Event::Arrive { node, life, whose, request });
                self.events.after(budget + GRACE_MICROS, Event::Patience { whose });
            }
            None => self.came(whose, Came::Unsent),
        }
    }

    /// A client tries again.
    pub fn again(&mut self, whose: Whose) {
        if self.is_open(whose) {
            self.attempt(whose);
        }
    }

    /// An answer arrives, or the news that the connection broke.
    pub fn answer_arrived(&mut self, whose: Whose, left: u64, result: Option<Result<Reply, Error>>) {
        if !self.is_open(whose) {
            return;
        }
        if let Some(Ok(reply)) = &result {
            if self.clients[whose.client].calls[&whose.call].request.here {
                self.note(match reply.receipt.reached {
                    Level::Linearizable => "the node at hand alone answered what is newest",
                    _ => "the node at hand alone answered what may be old",
                });
            }
            let call = &self.clients[whose.client].calls[&whose.call];
            let (op, asked_at) = (&call.request.op, call.asked_at);
            let (id, level) = (call.request.id, call.request.level.unwrap_or_default());
            let (now, clock) = (self.events.now(), self.clocks().highest().max(call.clock));
            let told = Told { op, id, level, reply, asked_at, left, now, clock };
            let broken = self.watch.told(shards_of(&self.keyspaces, &call.request), &told);
            let (op, reply) = (op.clone(), reply.clone());
            broken.into_iter().for_each(|why| self.unless_forced(why));
            self.note_acknowledged(&op, &reply);
        }
        self.came(whose, result.map_or(Came::Lost, |result| Came::Answer(Box::new(result))));
    }

    /// A client waited long enough.
    pub fn patience_over(&mut self, whose: Whose) {
        if self.is_open(whose) {
            self.came(whose, Came::Lost);
        }
    }

    fn is_open(&self, whose: Whose) -> bool {
        let call = self.clients[whose.client].calls.get(&whose.call);
        call.is_some_and(|call| call.attempt == whose.attempt)
    }

    fn came(&mut self, whose: Whose, came: Came) {
        let now = self.events.now();
        let has_ids = self.clients[whose.client].has_ids;
        let Some(call) = self.clients[whose.client].calls.get_mut(&whose.call) else { return };
        let is_read = call.request.op.class() == Class::Read;
        let error = match came {
            Came::Answer(result) => match *result {
                Ok(reply) => {
                    let sent_before = call.may_have_run && !is_read;
                    let answer = if sent_before { reply.answer.after_doubt() } else { reply.answer };
                    return self.end_call(whose, Ok(Reply { answer, ..reply }));
                }
                Err(error) => error,
            },
            Came::Unsent => Error::Unavailable("not connected".into()),
            Came::Lost => Error::InDoubt("no answer".into()),
        };
        call.may_have_run |= error.outcome() == Outcome::InDoubt;
        if !error.is_transient() {
            // It says what the store found when it ran the request.
            return self.end_call(whose, Err(error));
        }
        let may_repeat = is_read || has_ids || !call.may_have_run;
        if now < call.deadline && may_repeat {
            return self.try_again(whose);
        }
        let result = match call.may_have_run && !is_read {
            true => Error::InDoubt("may have happened".into()),
            false => Error::Unavailable("not done".into()),
        };
        self.end_call(whose, Err(result));
    }

    fn try_again(&mut self, whose: Whose) {
        let ids: Vec<NodeId> = self.ids().collect();
        let pause = self.random.between(1000, PAUSE_MICROS_MAX);
        let Some(call) = self.clients[whose.client].calls.get_mut(&whose.call) else { return };
        call.attempt += 1;
        call.node = ids.iter().copied().find(|id| *id > call.node).unwrap_or(ids[0]);
        self.stats.retries += 1;
        self.events.after(pause, Event::Again { whose: Whose { attempt: whose.attempt + 1, ..whose } });
    }

    fn end_call(&mut self, whose: Whose, result: Result<Reply, Error>) {
        let now = self.events.now();
        let state = &mut self.clients[whose.client];
        let Some(mut call) = state.calls.remove(&whose.call) else { return };
        let id: Option<RequestId> = call.request.id;
        id.iter().for_each(|id| state.close(id));
        self.trace(|| {
            let (op, result) = (crate::trace::op(&call.request.op), crate::trace::result(&result));
            format!("client {} learns of {op}: {result}", whose.client)
        });
        self.stats.count(&result);
        if matches!(&result, Err(error) if error.outcome() == Outcome::InDoubt) {
            let is_valid = id.is_some_and(|id| self.is_valid(&id, &call));
            let is_kept = self.settings.padding.len() < ANSWER_BYTES_KEPT;
            self.stats.in_doubt_retried += u64::from(is_valid && is_kept && call.attempt > 0);
            self.count_doubts(&call.request.op);
        }
        self.check_failed(&call, &result);
        let clock = self.clock_of(&call, &result);
        if let Some(ticket) = call.ticket.take() {
            self.recorder.complete_at(ticket, &result, now, clock);
        }
        let wrong =
            self.watch.rows.refused(shards_of(&self.keyspaces, &call.request), &call.request.op, &result);
        wrong.into_iter().for_each(|why| self.unless_forced(why));
        match call.purpose {
            Purpose::Last => {
                if id.is_some() && call.attempt > 0 && result.is_ok() {
                    self.note("a write was sent again after the last fault");
                }
                self.last_call(whose.client, &call.request.op, &result);
            }
            Purpose::AtVersion => self.read_at_version(&call.request.op, &result),
            Purpose::Work => {}
        }
        if call.purpose != Purpose::Last {
            self.go_on(whose.client, &call, &result);
        }
    }

    /// Where writes have no order, what has failed is nowhere.
    fn check_failed(&mut self, call: &Call, result: &Result<Reply, Error>) {
        let has_failed = matches!(result, Err(error) if error.outcome() == Outcome::Failed);
        if let (true, true, Op::Put { key, value, .. }) = (has_failed, self.is_unordered(), &call.request.op)
        {
            let wrong = self.watch.merged.failed(key, value);
            wrong.into_iter().for_each(|why| self.violation(why));
        }
    }

    /// Whether the id of a call is valid by all clocks, and by the newest versions of its shards: where one copy is enough, a node
    /// serves before its clock has settled, and its shards stay ahead of the clocks by what it was ahead.
    fn is_valid(&self, id: &RequestId, call: &Call) -> bool {
        let shards = shards_of(&self.keyspaces, &call.request);
        let parts = Plan::new(shards, call.request.op.clone()).map_or(Vec::new(), |plan| plan.parts);
        let of_shards = parts.iter().map(|(shard, _)| self.watch.rows.newest(*shard).micros());
        of_shards.chain([self.clocks().highest()]).all(|newest| id.valid_until.micros() > newest)
    }

    /// What the store's clock showed when a call ran: a write's version is that time, a read counts the clock of its node too.
    fn clock_of(&self, call: &Call, result: &Result<Reply, Error>) -> history::Clock {
        let Ok(reply) = result else { return history::Clock::default() };
        let shards = shards_of(&self.keyspaces, &call.request);
        let parts = Plan::new(shards, call.request.op.clone()).map_or(0, |plan| plan.parts.len());
        let from = reply.receipt.version.micros();
        match call.request.op.class() {
            // The receipt of several shards is not of each.
            _ if parts != 1 => history::Clock::default(),
            // A version that was seen says nothing of when it was seen; and who reads is no earlier than its shard's newest.
            Class::Read if self.is_unordered() => {
                let newest = self.watch.merged.newest_version(reply.receipt.shard).micros();
                let to = newest.max(call.clock).max(self.clocks().highest());
                history::Clock { from: 0, to }
            }
            Class::Read => history::Clock { from, to: from.max(call.clock).max(self.clocks().highest()) },
            _ => history::Clock { from, to: from },
        }
    }

    /// What was answered may stop before its end: then the next step is asked for, mostly.
    fn go_on(&mut self, client: usize, call: &Call, result: &Result<Reply, Error>) {
        let step = result.as_ref().ok().and_then(|reply| wide::next_step(&call.request.op, &reply.answer));
        if let Ok(reply) = result {
            let several = shards_of(&self.keyspaces, &call.request).shards().len() > 1;
            wide::notes(&call.request.op, &reply.answer, several)
                .into_iter()
                .for_each(|what| self.note(what));
        }
        match step {
            Some(op) if self.stats.asked < self.steps && self.random.percent(GO_ON_PERCENT) => {
                self.stats.asked += 1;
                self.call(client, op, call.request.level, call.purpose);
            }
            _ => self.ask_again(client),
        }
    }

    fn count_doubts(&mut self, op: &Op) {
        if let Op::DeleteRange { from, to } = op {
            let keys = self.watch.rows.keys_between(from, to.as_ref());
            keys.iter().for_each(|key| self.count_doubt(key));
        }
        op.for_each_key(&mut |key| self.count_doubt(key));
    }

    /// Whether so many writes of a key are in doubt that clients have turned away from it.
    pub(super) fn is_spent(&self, place: &Place) -> bool {
        self.doubts.get(place).is_some_and(|doubts| *doubts >= DOUBTS_MAX)
    }

    /// Too many writes in doubt make a history too hard to judge.
    fn count_doubt(&mut self, key: &Key) {
        let Some(place) = Place::of(key) else { return };
        let doubts = self.doubts.entry(place).or_default();
        *doubts += 1;
        if *doubts == DOUBTS_MAX {
            self.clients.iter_mut().for_each(|client| client.generator.retire(&place));
        }
    }

    fn read_at_version(&mut self, op: &Op, result: &Result<Reply, Error>) {
        let broken = self.watch.versions.read(op, result);
        match result {
            Err(Error::Trimmed { .. }) => self.note("a read at a version was refused as trimmed"),
            Ok(_) => self.note("a read at a version was answered"),
            Err(_) => {}
        }
        broken.into_iter().for_each(|why| self.unless_forced(why));
    }
}

/// The shards of what a request asks.
fn shards_of<'a>(keyspaces: &'a Keyspaces, request: &Request) -> &'a ShardMap {
    keyspaces.shards(&request.keyspace).expect("a client asks a keyspace that there is")
}
