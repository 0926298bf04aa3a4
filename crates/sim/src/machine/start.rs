//! The start of a process, from what its machine has kept; and its end.

use std::collections::{BTreeMap, VecDeque};

use kv::{NodeId, ShardId};
use node::identity::Nodes;
use node::{Driver, Recovery};
use placement::map::Map;
use storage::{Applied, Table};
use wal::{Crash, Log, OpenError};

use super::cores::{Core, Cores};
use super::log_thread::LogThread;
use super::place::place;
use super::worker::Worker;
use super::{Process, TICK_MICROS};
use crate::clients::open::Gate;
use crate::events::Event;
use crate::faults::Fault;
use crate::watch::Seen;
use crate::world::World;

/// A process that could not start is started again after this.
const START_AGAIN_MICROS: u64 = 1_000_000;
/// At so many starts of 100 the power goes again as soon as something is written.
const POWER_AGAIN_PERCENT: u64 = 10;

/// Why a process did not start.
enum Refused {
    /// Not now.
    Disk(String),
    /// Not from this folder as it is.
    Damaged(String),
    /// It should have.
    Violation(String),
}

impl World {
    /// Starts a node that is down.
    pub fn start(&mut self, id: NodeId) {
        let machine = self.machine(id);
        if machine.process.is_some() || !machine.there {
            return;
        }
        match self.recover(id) {
            Ok(process) => self.started(id, process),
            Err(Refused::Disk(why)) => {
                self.note("a start failed with the disk");
                self.trace(|| format!("{id} cannot start: {why}"));
                self.events.after(START_AGAIN_MICROS, Event::Start { node: id });
            }
            Err(Refused::Damaged(why)) => {
                self.note("damage of a log was noticed");
                self.trace(|| format!("{id} cannot start: {why}"));
                self.mend(id);
            }
            Err(Refused::Violation(why)) => self.violation(format!("{id} cannot start: {why}")),
        }
    }

    fn recover(&mut self, id: NodeId) -> Result<Process, Refused> {
        self.lives += 1;
        let life = self.lives;
        let mut greeter = self.open_folder(id).map_err(|why| Refused::Disk(why.into()))?;
        let now = self.machine(id).clock.read(self.events.now());
        let (mut recovery, mut bad) = (Recovery::default(), Ok(()));
        let wal =
            wal::Config { log_id: greeter.identity().lineage.life.incarnation, ..self.settings.wal.clone() };
        self.see(Seen::Recovering { node: id });
        let (machine, watch) = (&mut self.machines[place(id)], &mut self.watch);
        let opened = Log::open(&mut machine.disk, wal, &mut |_, record| {
            watch.record(id, &record);
            bad = std::mem::replace(&mut bad, Ok(())).and_then(|()| recovery.replay(&record));
        });
        let flipped = machine.flipped.is_some();
        let (log, recovered) = opened.map_err(|error| match error {
            OpenError::Disk { .. } => Refused::Disk(error.to_string()),
            OpenError::Corrupt { .. } if flipped => Refused::Damaged(error.to_string()),
            error => Refused::Violation(error.to_string()),
        })?;
        bad.map_err(|error| Refused::Violation(error.to_string()))?;
        let map = recovery.map(Map::clone(&machine.first_map));
        greeter.set_nodes(Nodes::of(&map));
        let config = self.node_config(greeter.identity(), map);
        let machine = &mut self.machines[place(id)];
        let (engine, passed) = machine.table.open();
        let deal = config.deal;
        let table = |_| Table::open(engine.clone(), self.settings.table);
        let mut tables: Vec<Table> = (0..deal.cores()).map(table).collect();
        let mut applied: BTreeMap<ShardId, Applied> = BTreeMap::new();
        for (shard, (generation, layout)) in recovery.replicas(id, &config.map) {
            let loaded = tables[deal.core_of(shard)].load_as(shard, generation, layout);
            applied.insert(shard, loaded.map_err(|error| Refused::Violation(error.to_string()))?);
        }
        let drivers = Driver::all(config, recovery, &applied, now);
        let drivers = drivers.map_err(|error| Refused::Violation(error.to_string()))?;
        // Recovery may have met a failing sync already.
        (machine.flipped, machine.sync_fails) = (None, false);
        if recovered.cut.is_some() {
            self.note("a torn write was cut");
        }
        let (count, instant) = (recovered.records, now.instant);
        self.trace(|| format!("{id} starts: {count} records in its log, cut {:?}", recovered.cut));
        let now = self.events.now();
        self.see(Seen::Recovered { node: id, applied: &applied, now });
        let core = |(driver, table)| {
            Core::new(driver, table, Worker::new(self.settings.engine_thread, passed.clone()))
        };
        Ok(Process {
            life,
            greeter,
            cores: Cores::new(deal, drivers.into_iter().zip(tables).map(core).collect()),
            log: node::log::Owner::new(log, self.settings.log.clone(), deal.cores(), instant),
            log_thread: LogThread::default(),
            background: VecDeque::new(),
            gate: Gate::new(life),
            stop: None,
        })
    }

    fn started(&mut self, id: NodeId, process: Process) {
        let (life, cores) = (process.life, process.cores.cores.len());
        self.has_cores(id, cores);
        self.machine_mut(id).process = Some(process);
        self.stats.starts += 1;
        // What it writes first may be the last.
        if self.faults.has(Fault::Power) && !self.calm && self.random.percent(POWER_AGAIN_PERCENT) {
            self.machine_mut(id).power_goes = true;
        }
        (0..cores).for_each(|core| self.watch_statuses(id, core));
        self.turn_log(id);
        for core in 0..cores {
            self.wake(id, core);
            self.events.after(TICK_MICROS, Event::Tick { node: id, life, core });
        }
        self.tell_cluster(id);
        self.follow_nodes(id);
    }

    /// Notes how many cores a process has, and that of the one before.
    fn has_cores(&mut self, id: NodeId, cores: usize) {
        let machine = self.machine_mut(id);
        let before = machine.version_clocks.len();
        let latest = machine.version_clock();
        machine.version_clocks = vec![latest; cores];
        if cores > 1 {
            self.note("a node had several cores");
        }
        if cores != before && latest > 0 {
            self.note("a node came back with another number of cores");
        }
    }

    /// Ends a process without a good-bye.
    pub fn kill(&mut self, id: NodeId, crash: Crash, why: &str) {
        if self.machine(id).process.is_none() {
            return;
        }
        self.trace(|| format!("{id} ends ({crash:?}): {why}"));
        self.see(Seen::Ended { node: id });
        let mut random = self.random.fork();
        let kept = random.pick(&[0, 30, 50, 70, 100]);
        let now = self.events.now();
        let machine = self.machine_mut(id);
        machine.disk.crash(crash, &mut || random.percent(kept));
        if crash == Crash::Power {
            machine.clock.boot(now);
        }
        (machine.paused_until, machine.sync_fails) = (0, false);
        let process = machine.process.take().expect("it was just looked at");
        self.gate_broke(process.gate);
        self.links_ended(id, crash);
        self.bulk_ended(id);
    }
}
