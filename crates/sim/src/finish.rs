//! The end of a run: all faults are over; the cluster must come to rest, serve, and be whole. Then the history is judged.

use check::appends::{self, Append};
use check::generate::Workload;
use check::history::Outcome;
use check::linear::{self, Budget, Judgement, Verdict};
use check::model::{Atomicity, Batch, Kv};
use kv::{Answer, Class, Error, Function, Key, Op, Reply, Value};

use crate::clients::Purpose;
use crate::world::World;

/// The cluster must be at rest so long after all faults ended: elections, retries of connections (0.4 s), streams that
/// time out (30 s), calls of clients (10 s), and then some.
const REST_MICROS: u64 = 60_000_000;
/// The last reads must be done so long after that.
const READS_MICROS: u64 = 60_000_000;
/// Whether the cluster is at rest is looked at so often.
const LOOK_MICROS: u64 = 100_000;
/// Steps of the judge: a few seconds at most.
const JUDGE_STEPS: u64 = 3_000_000;

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
            why = self.unrest();
            if why.is_none() {
                self.stats.rest_micros = self.events.now() - began;
                return;
            }
        }
        if let Some(why) = why.filter(|_| self.violations.is_empty()) {
            let seconds = REST_MICROS / 1_000_000;
            self.violation(format!("no rest {seconds} s after the last fault: {why}"));
        }
    }

    /// Why the cluster is not at rest.
    fn unrest(&self) -> Option<String> {
        let calls: usize = self.clients.iter().map(|client| client.open_calls()).sum();
        if calls > 0 {
            return Some(format!("{calls} calls of clients are open"));
        }
        for machine in &self.machines {
            let id = machine.id;
            let Some(process) = &machine.process else { return Some(format!("{id} is down")) };
            if machine.rejoining {
                return Some(format!("{id} is not whole"));
            }
            if process.gate.open() > 0 {
                return Some(format!("{id} has {} open parts", process.gate.open()));
            }
        }
        self.shards().into_iter().find_map(|shard| {
            let statuses = self.machines.iter().filter_map(|machine| machine.process.as_ref());
            let statuses = statuses.filter_map(|process| process.driver.replica_status(shard));
            let statuses: Vec<_> = statuses.collect();
            let leader = statuses.first().and_then(|status| status.leader);
            let last = statuses.first().map_or(0, |status| status.last);
            let agrees = |status: &replication::Status| {
                status.leader == leader && (status.last, status.commit, status.applied) == (last, last, last)
            };
            let rests = leader.is_some() && statuses.iter().all(agrees) && self.leaders(shard).len() == 1;
            (!rests).then(|| format!("shard {shard}: {statuses:?}"))
        })
    }

    /// Reads every key that was named, through any nodes: each must be answered.
    pub fn read_all(&mut self) {
        let mut keys: Vec<Key> = Vec::new();
        for operation in self.recorder.history().operations() {
            operation.op.for_each_key(&mut |key| keys.push(key.clone()));
        }
        keys.sort();
        keys.dedup();
        let began = self.events.now();
        for (place, key) in keys.into_iter().enumerate() {
            let client = place % self.clients.len();
            self.call(client, Op::Get { key, at: None }, None, Purpose::Last);
        }
        let open = |world: &World| world.clients.iter().any(|client| client.open_calls() > 0);
        while open(self) && self.events.now() < began + READS_MICROS && self.step() {}
        if open(self) && self.violations.is_empty() {
            self.violation("the last reads were not answered".into());
        }
    }

    pub fn last_read(&mut self, client: usize, op: &Op, result: &Result<Reply, Error>) {
        assert_eq!(op.class(), Class::Read, "the last calls read");
        match (op, result) {
            (Op::Get { key, .. }, Ok(Reply { answer: Answer::Row(row), .. })) => {
                let value = row.as_ref().map_or_else(Value::new, |row| row.value.clone());
                self.last_values.insert(key.clone(), value);
            }
            (_, Ok(_)) => {}
            (_, Err(error)) => self
                .violation(format!("client {client} could not read after the last fault: {op:?}: {error}")),
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
            let value = std::str::from_utf8(value).expect("workloads append text");
            faults.extend(appends::check(&appends, value).iter().map(|fault| format!("{key:?}: {fault}")));
        }
        faults
            .into_iter()
            .for_each(|fault| self.violation(format!("no acknowledged write is lost: {fault}")));
    }

    /// Judges the history.
    pub fn judge(&mut self) {
        if self.workload == Workload::Appends {
            self.judge_appends();
        }
        let history = self.recorder.history();
        let mut budget = Budget::steps(JUDGE_STEPS);
        let Judgement { verdict, .. } = match self.workload {
            Workload::Batch => {
                let model = Batch { atomicity: Atomicity::Shard(self.settings.shards), ..Batch::default() };
                linear::check(&model, history, &mut budget)
            }
            _ => linear::check(&Kv::default(), history, &mut budget),
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
