//! The cores of a process: each with a driver, a table and an inbox of its own, and turns when the simulator lets it have one.

use std::collections::BTreeMap;

use kv::view::View;
use kv::{Epoch, ShardId, Version};
use node::cores::Deal;
use node::{Driver, Executor, Input};
use storage::Table;

use super::worker::Worker;

/// A core of a process.
pub(crate) struct Core {
    pub driver: Driver,
    pub executor: Executor,
    pub worker: Worker,
    pub inbox: Vec<Input>,
    /// A turn is planned.
    pub turn_due: bool,
    /// The reads that were let go before, to see which are let go again.
    pub fetched: BTreeMap<u64, u32>,
}

/// All cores of a process.
pub(crate) struct Cores {
    pub deal: Deal,
    pub cores: Vec<Core>,
    /// The appends of all cores, in the log's order: how many there were, and the place of each that is not known to be synced, by
    /// core and ticket.
    appended: u64,
    places: BTreeMap<(usize, u64), u64>,
}

impl Core {
    /// One whose driver has had no turn.
    pub fn new(driver: Driver, table: Table, worker: Worker) -> Core {
        let executor = Executor::new(table);
        Core { driver, executor, worker, inbox: Vec::new(), turn_due: false, fetched: BTreeMap::new() }
    }
}

impl Cores {
    /// Whether the changes of a shard from this version on are kept for watches.
    pub fn keeps_changes_from(&self, shard: ShardId, version: Version) -> bool {
        self.cores[self.deal.core_of(shard)].driver.keeps_changes_from(shard, version)
    }

    /// These, with the shards dealt out to them.
    pub fn new(deal: Deal, cores: Vec<Core>) -> Cores {
        assert_eq!(deal.cores(), cores.len(), "each core is there");
        Cores { deal, cores, appended: 0, places: BTreeMap::new() }
    }

    /// The core of a shard.
    pub fn of(&self, shard: ShardId) -> &Core {
        &self.cores[self.deal.core_of(shard)]
    }

    /// How a replica is.
    pub fn replica_status(&self, shard: ShardId) -> Option<replication::Status> {
        self.of(shard).driver.replica_status(shard)
    }

    /// Who belongs to a shard, as far as its replica here knows.
    pub fn view(&self, shard: ShardId) -> Option<&View> {
        self.of(shard).driver.view(shard)
    }

    /// The revision of the map that each core knows.
    pub fn maps(&self) -> impl Iterator<Item = u64> + '_ {
        self.cores.iter().map(|core| core.driver.map().revision)
    }

    /// The epoch that a replica serves.
    pub fn epoch(&self, shard: ShardId) -> Option<Epoch> {
        self.view(shard).map(|view| view.epoch)
    }

    /// The table of a shard that has a replica here.
    pub fn table(&self, shard: ShardId) -> Option<&Table> {
        Some(self.of(shard).executor.table()).filter(|table| table.is_loaded(shard))
    }

    /// How many shards are led here.
    pub fn leads(&self) -> usize {
        self.cores.iter().map(|core| core.driver.leads()).sum()
    }

    /// The time that clients count from, in microseconds since 1970.
    pub fn clients_micros(&self) -> u64 {
        self.cores.iter().map(|core| core.driver.clients_micros()).max().unwrap_or_default()
    }

    /// What the version clock of each core shows, in microseconds since 1970.
    pub fn clocks(&self) -> Vec<u64> {
        self.cores.iter().map(|core| core.driver.clock_micros()).collect()
    }

    /// An append of a core goes to the log; its place among those of all cores, from 1.
    pub fn append(&mut self, core: usize, ticket: u64) -> u64 {
        self.appended += 1;
        self.places.insert((core, ticket), self.appended);
        self.appended
    }

    /// All appends of a core up to this ticket are synced, and so is what lies before the last of them; its place.
    pub fn synced(&mut self, core: usize, ticket: u64) -> u64 {
        let place = self.places.get(&(core, ticket)).copied().expect("what is synced was appended");
        self.places.retain(|(of, number), _| *of != core || *number > ticket);
        place
    }
}
