//! The end of a run: all faults are over; the cluster must come to rest, forget what has run out, serve, and be whole. Then
//! the history is judged.

use std::collections::{BTreeMap, BTreeSet};

use check::appends::{self, Append};
use check::generate::Workload;
use check::history::Outcome;
use check::linear::{self, Budget, Judgement, Verdict};
use check::model::{Atomicity, Batch, Kv};
use kv::{
    Answer, Error, Function, Index, Key, Op, Page, Protocol, Range, Reply, Request, SLOTS, ShardId, Value,
};
use placement::map::{DEFAULT, Phase};

use crate::clients::Purpose;
use crate::net::Weak;
use crate::world::World;

/// The cluster must be at rest so long after all faults ended: elections, retries of connections (0.4 s), streams that
/// time out (30 s), calls of clients (10 s), and then some.
const REST_MICROS: u64 = 60_000_000;
/// The last writes, and then the last reads, must be done so long after that.
const LAST_CALLS_MICROS: u64 = 60_000_000;
/// Answers to the last writes are lost for so long: all that are given at the first attempt.
const LOST_ANSWERS_MICROS: u64 = 3_000_000;
/// What has run out is gone so long after, by the lowest clock: an advance is ordered, and taken to be no busier than once a
/// second.
const GONE_MICROS: u64 = 3_000_000;
/// So long after the last fault everything has been started and is connected.
const STARTED_MICROS: u64 = 5_000_000;
/// A lease, an election or two, and the flush of a shard that is handed over.
const OWNERLESS_MICROS_MAX: u64 = 4_000_000;
/// Rows of a page of the last scan.
const SCAN_ROWS: u32 = 7;
/// Whether the cluster is at rest is looked at so often.
const LOOK_MICROS: u64 = 100_000;
/// Steps of the judge: some seconds at most. Of 4000 seeds two need more.
const JUDGE_STEPS: u64 = 10_000_000;

impl World {
    /// Runs to the end of the faults.
    pub fn run_steps(&mut self) {
        let busy = |world: &World| world.stats.asked < world.steps;
        while busy(self) && self.step() {}
    }

    /// Everything must come to rest.
    pub fn rest(&mut self) {
        self.end_faults();
        let (began, mut look) = (self.events.now(), self.events.now());
        let mut why = None;
        while self.violations.is_empty() && self.events.now() < began + REST_MICROS {
            look += LOOK_MICROS;
            while self.events.now() < look && self.step() {}
            self.look_at_owners(began);
            why = self.unrest();
            if why.is_none() {
                self.check_maps();
                self.stats.rest_micros = self.events.now() - began;
                let mut wrong: Vec<String> = self.ids().flat_map(|id| self.audit_copies(id)).collect();
                wrong.extend(self.not_converged());
                wrong.into_iter().for_each(|why| self.violation(why));
                return;
            }
        }
        if let Some(why) = why.filter(|_| self.violations.is_empty()) {
            let seconds = REST_MICROS / 1_000_000;
            self.violation(format!("no rest {seconds} s after the last fault: {why}"));
        }
    }

    /// No shard is without somebody who leads it for long, when there was time to start and to connect. A leader that has had to
    /// go is followed by another one, after its lease; a sealed shard is opened by its heir, after a flush.
    fn look_at_owners(&mut self, began: u64) {
        let now = self.events.now();
        if now < began + STARTED_MICROS {
            return;
        }
        for shard in self.shards() {
            // A lost heir is waited for until it is given up.
            let change = self.placed.changes.get(&shard);
            let is_there = |member: &kv::view::Member| self.machine(member.node).there;
            let waits = change.is_some_and(|change| !change.to.iter().all(is_there));
            // Its parts own its keys, and are looked at themselves.
            let is_cut = self.placed.splits.contains_key(&shard)
                && change.is_some_and(|change| change.phase == Phase::Switch);
            let is_led = waits || is_cut || !self.leaders(shard).is_empty();
            let since = *self.ownerless.entry(shard).or_insert(now);
            if is_led {
                self.ownerless.remove(&shard);
            } else if now > since + OWNERLESS_MICROS_MAX {
                self.violation(format!(
                    "no shard is without an owner for long: nobody leads {shard} since {since}"
                ));
            }
        }
    }

    /// Why the cluster is not at rest.
    fn unrest(&self) -> Option<String> {
        let calls: usize = self.clients.iter().map(|client| client.open_calls()).sum();
        if calls > 0 {
            return Some(format!("{calls} calls of clients are open"));
        }
        for machine in self.machines.iter().filter(|machine| machine.there) {
            let id = machine.id;
            let Some(process) = &machine.process else { return Some(format!("{id} is down")) };
            if machine.own.is_some() {
                return Some(format!("{id} has another folder than its own"));
            }
            if process.gate.open() > 0 {
                return Some(format!("{id} has {} open parts", process.gate.open()));
            }
            if process.log.is_full() {
                return Some(format!("{id} counts its disk as full"));
            }
        }
        self.unrest_of_maps().or_else(|| self.unrest_of_shards())
    }

    fn unrest_of_shards(&self) -> Option<String> {
        self.shards().into_iter().find_map(|shard| {
            if self.placed.shards[&shard].protocol.is_merged() {
                return self.unrest_without_order(shard);
            }
            let statuses = self.machines.iter().filter_map(|machine| machine.process.as_ref());
            let statuses = statuses.filter_map(|process| process.cores.replica_status(shard));
            let statuses: Vec<_> = statuses.collect();
            let leader = statuses.first().and_then(|status| status.leader);
            let last = statuses.first().map_or(Index::ZERO, |status| status.last);
            let agrees = |status: &replication::Status| {
                status.leader == leader && (status.last, status.commit, status.applied) == (last, last, last)
            };
            let are_all = statuses.len() == self.placed.shards[&shard].members.len();
            let rests =
                are_all && leader.is_some() && statuses.iter().all(agrees) && self.leaders(shard).len() == 1;
            let unrest = (!rests).then(|| format!("shard {shard}: {statuses:?}"));
            unrest.or_else(|| self.left_over(shard))
        })
    }

    /// What a shard holds although it has run out: values whose deadline has passed, and, of clients that came once,
    /// their requests.
    fn left_over(&self, shard: ShardId) -> Option<String> {
        let clock = self.clocks().lowest();
        // The others do as their leader has them.
        let leader = self.machine(*self.leaders(shard).first()?);
        let table = leader.process.as_ref()?.cores.table(shard)?;
        if let Some(due) = table.due(shard).filter(|due| due + GONE_MICROS < clock) {
            return Some(format!("shard {shard} holds what was due at {due}, and it is {clock}"));
        }
        // What nodes ask of themselves, of the directory's shard and for tenants, or whose clients give no ids, is valid for longer.
        let is_once = self.workload == Workload::Once
            && !self.is_unordered()
            && self.placed.shards[&shard].keyspace == Request::KEYSPACE;
        let sessions = if is_once { table.sessions(shard) } else { 0 };
        (sessions > 0).then(|| {
            format!("shard {shard} remembers {sessions} sessions, and all are out of date at {clock}")
        })
    }

    /// Nobody gets the first answer to its writes: sent again under its id, each must be answered definitely. This is the bound
    /// on writes in doubt: none, once the faults are over and while the id is valid. Where there were no faults, it holds for
    /// the whole run, unless shards had no room to remember requests, or nodes joined: an answer to one that is not connected to yet
    /// is lost. Those that may be too large to be kept do not count.
    ///
    /// Where writes have no order only the node that took one knows what became of it: any other one leaves it in doubt.
    pub fn write_again(&mut self) {
        if self.is_unordered() {
            return;
        }
        let doubts = self.stats.in_doubt_retried;
        let have_joined = self.placed.next_node.0 > self.founders + 1;
        let is_calm = self.faults.is_empty() && self.forcing.is_none();
        if is_calm && !have_joined && self.workload != Workload::Once && doubts > 0 {
            self.violation(format!(
                "{doubts} writes that were sent again are in doubt, and there was no fault"
            ));
        }
        self.network.weak = Some(Weak::without_answers());
        let began = self.events.now();
        let clients = 0..self.clients.len();
        let with_ids: Vec<usize> = clients.filter(|client| self.clients[*client].has_ids()).collect();
        for client in with_ids {
            for key in ["again".into(), format!("again{client}")] {
                let op = Op::Update { key: key.into(), function: Function::Increment { by: 1 } };
                self.call(client, op, None, Purpose::Last);
            }
        }
        while self.events.now() < began + LOST_ANSWERS_MICROS && self.step() {}
        self.network.weak = None;
        self.await_last_calls("writes that were sent again");
    }

    /// Where clients come once, the memory of shards may have been full: now each can be written again.
    pub fn write_each(&mut self) {
        // What one copy takes then the others would not have when all keys are read.
        let answers_each = self.placed.keyspaces[DEFAULT].protocol == Protocol::Broadcast;
        if self.workload == Workload::Once && !answers_each {
            let mut of_shards = BTreeMap::new();
            for key in self.named_keys() {
                let shards = self.keyspaces.shards(Request::KEYSPACE).expect("the clients' keyspace stays");
                of_shards.entry(shards.shard_of(&key)).or_insert(key);
            }
            let put = |key| Op::Put { key, value: "again".into(), deadline: None, previous: false };
            self.last_calls("writes", of_shards.into_values().map(put).collect());
        }
    }

    /// Reads every key that was named, through any nodes: each must be answered.
    pub fn read_all(&mut self) {
        let keys = self.named_keys();
        self.last_calls("reads", keys.into_iter().map(|key| Op::Get { key, at: None }).collect());
    }

    /// Reads all keys, page by page: each is there once, and none is missing that has no deadline.
    pub fn scan_all(&mut self) {
        let rows = self.placed.shards_of(Request::KEYSPACE);
        let shards: Vec<ShardId> = rows.into_iter().map(|(shard, _)| shard).collect();
        let mut there: BTreeSet<Key> =
            shards.iter().flat_map(|shard| self.watch.rows.present(*shard).into_keys()).collect();
        there.extend(shards.iter().flat_map(|shard| self.watch.merged.present(*shard)));
        let (mut page, mut last) = (None, None);
        loop {
            self.last_calls("pages", vec![Op::Range(Range { page, limit: SCAN_ROWS, ..Range::default() })]);
            let Page { rows, next, .. } = std::mem::take(&mut self.last_page);
            for key in rows.into_iter().map(|row| row.key) {
                if last.as_ref().is_some_and(|last| *last >= key) {
                    self.unless_forced(format!(
                        "no key is doubled: the scan comes to {key:?} after {last:?}"
                    ));
                }
                there.remove(&key);
                last = Some(key);
            }
            if next.is_none() || !self.violations.is_empty() {
                break;
            }
            page = next;
        }
        if let Some(key) = there.first().filter(|_| self.violations.is_empty()) {
            self.unless_forced(format!("no key is lost: the scan did not come to {key:?}"));
        }
    }

    fn named_keys(&self) -> BTreeSet<Key> {
        let mut keys = BTreeSet::new();
        for operation in self.recorder.history().operations() {
            operation.op.for_each_key(&mut |key| {
                keys.insert(key.clone());
            });
        }
        keys
    }

    fn last_calls(&mut self, what: &str, ops: Vec<Op>) {
        for (place, op) in ops.into_iter().enumerate() {
            let client = place % self.clients.len();
            self.call(client, op, None, Purpose::Last);
        }
        self.await_last_calls(what);
    }

    fn await_last_calls(&mut self, what: &str) {
        let began = self.events.now();
        let open = |world: &World| world.clients.iter().any(|client| client.open_calls() > 0);
        while open(self) && self.events.now() < began + LAST_CALLS_MICROS && self.step() {}
        if open(self) && self.violations.is_empty() {
            self.violation(format!("the last {what} were not answered"));
        }
    }

    pub fn last_call(&mut self, client: usize, op: &Op, result: &Result<Reply, Error>) {
        match (op, result) {
            (Op::Get { key, .. }, Ok(Reply { answer: Answer::Row(row), .. })) => {
                let value = row.as_ref().map_or_else(Value::new, |row| row.value.clone());
                self.last_values.insert(key.clone(), value);
            }
            (Op::Range(_), Ok(Reply { answer: Answer::Page(page), .. })) => self.last_page = page.clone(),
            (_, Ok(_)) => {}
            (_, Err(error)) => self
                .violation(format!("client {client} was not served after the last fault: {op:?}: {error}")),
        }
    }

    /// What was appended must be there once, if it was acknowledged; no search is needed to tell.
    fn judge_appends(&mut self) {
        let mut faults = Vec::new();
        for (key, value) in &self.last_values {
            let operations = self.recorder.history().operations().iter();
            let appends = operations.filter_map(|operation| match &operation.op {
                Op::Update { key: other, function: Function::Append { value: text, .. } } if other == key => {
                    let acknowledged = matches!(operation.outcome, Outcome::Done(_));
                    let text = std::str::from_utf8(text).expect("workloads append text");
                    Some(Append { writer: operation.process, text, acknowledged })
                }
                _ => None,
            });
            let appends: Vec<Append<'_>> = appends.collect();
            if appends.is_empty() {
                continue;
            }
            let value = std::str::from_utf8(value).expect("workloads append text");
            faults.extend(appends::check(&appends, value).iter().map(|fault| format!("{key:?}: {fault}")));
        }
        faults
            .into_iter()
            .for_each(|fault| self.violation(format!("no acknowledged write is lost: {fault}")));
    }

    /// Judges the history.
    pub fn judge(&mut self) {
        if self.is_forced() {
            return self.judge_forced();
        }
        if self.workload == Workload::Appends {
            self.judge_appends();
        }
        let history = self.recorder.history();
        let mut budget = Budget::steps(JUDGE_STEPS);
        let Judgement { verdict, .. } = match self.workload {
            // Copies answer for themselves: that they end alike is seen where they rest.
            _ if self.placed.keyspaces[DEFAULT].protocol == Protocol::Broadcast => return,
            _ if self.is_unordered() => {
                let model = Kv { divides: true, deletes_blindly: true, ..Kv::default() };
                linear::check(&model, history, &mut budget)
            }
            Workload::Batch => {
                // Where shards were split, what was one shard's at first may be several's: keys of a slot always are one's.
                let is_split = self.placed.shards_of(Request::KEYSPACE).len() > self.settings.shards as usize;
                let shards = if is_split { u32::from(SLOTS) } else { self.settings.shards };
                let model = Batch { atomicity: Atomicity::Shard(shards), ..Batch::default() };
                linear::check(&model, history, &mut budget)
            }
            _ => linear::check(&Kv { divides: true, ..Kv::default() }, history, &mut budget),
        };
        match verdict {
            Verdict::Holds => {}
            Verdict::Undecided(_) => self.stats.undecided += 1,
            Verdict::Violated(window) => {
                self.violation(format!("linearizability: {window}"));
                self.window = Some(*window);
            }
        }
    }
}
