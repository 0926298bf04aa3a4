//! Those who watch: each follows some keys at one node after the other, now fast, now slowly, and checks all that it is given.
//!
//! What a node does for a watch is [`node::watch::Watched`], as in the server; what a client does, to go on elsewhere from where it
//! was, is modelled on the native client.

pub(crate) mod watcher;

use kv::watch::{Batch, Filter, Watching};
use kv::{Error, Key, NodeId, Request, SlotRange, Version};
use node::Input;
use node::route::{Keyspaces, ShardMap};
use node::watch::{Pulled, Watched};

use crate::events::Event;
use crate::world::World;
use watcher::Watcher;

/// All watches must have been given everything so long after the last write.
const CAUGHT_UP_MICROS: u64 = 90_000_000;
/// A watcher that finds no node, or whose watch has ended, looks again after this.
const AGAIN_MICROS: u64 = 200_000;
/// In so many of 1000 looks a watcher leaves its node, as when its connection breaks.
const LEAVES_PERMILLE: u64 = 10;
/// Batches that a slow watcher takes at a time.
const SLOW_BATCHES: usize = 1;

impl World {
    /// The watchers begin, one after the other.
    pub fn start_watchers(&mut self) {
        for number in 0..self.settings.watchers {
            let mut random = self.random.fork();
            let clients = self.clients.len();
            let key = self.clients[number as usize % clients].key();
            let filter = match random.below(4) {
                0 => Filter::Key(key),
                1 => Filter::Prefix(key.slice(..key.len().min(2))),
                _ => Filter::Prefix(Key::new()),
            };
            let delay = random.between(0, 3_000_000);
            self.watchers.push(Watcher::new(filter, random));
            self.events.after(delay, Event::Watch { watcher: number as usize });
        }
    }

    /// A watcher looks for what came, and asks for more.
    pub fn look_out(&mut self, number: usize) {
        let delay = match self.is_watching(number) {
            true => self.take_batches(number),
            false => {
                self.begin_to_watch(number);
                AGAIN_MICROS
            }
        };
        self.ask_next(number);
        self.events.after(delay, Event::Watch { watcher: number });
    }

    /// Whether a watcher has a watch at a process that lives.
    fn is_watching(&mut self, number: usize) -> bool {
        let Some(at) = self.watchers[number].at.as_ref() else { return false };
        let (node, life) = (at.node, at.life);
        let leaves = !self.calm && self.watchers[number].random.permille(LEAVES_PERMILLE);
        if self.lives(node, life) && !leaves {
            return true;
        }
        self.note("a watch went on at another node");
        self.watchers[number].at = None;
        false
    }

    fn begin_to_watch(&mut self, number: usize) {
        let node = self.any_node();
        let clock = self.machine(node).version_clock();
        let Some(process) = &self.machine(node).process else { return };
        if self.waits_for_its_cluster(node).is_some() || process.stop.is_some() {
            return;
        }
        let life = process.life;
        // In the end it is to come to the end, which may be hindered by what is not kept any more.
        let past = match self.watchers[number].random.percent(40) && !self.calm {
            true => self.watch.versions.draw(&mut self.watchers[number].random),
            false => None,
        };
        let (from, filter) = self.watchers[number].begins(past.map(|(_, version)| version));
        let watching = Watching { filter, from, ..Watching::prefix(Key::new()) };
        self.trace(|| format!("watcher {number} begins at {node}: {watching:?}"));
        match Watched::begin(watching, watched_shards(&self.keyspaces), clock) {
            Ok(watched) => self.watchers[number].watches(node, life, watched),
            // Its clock is behind those of others.
            Err(Error::Future { .. }) => {}
            Err(error) => self.unless_forced(format!("a watch can begin: {error}")),
        }
    }

    /// Pulls of a watcher go to its node.
    fn ask_next(&mut self, number: usize) {
        let watcher = &mut self.watchers[number];
        let Some(at) = &mut watcher.at else { return };
        let (node, serial) = (at.node, at.serial);
        let pulls = at.watched.pulls();
        let name = |name: u64| (number as u64) << 48 | serial << 32 | name;
        let inputs: Vec<Input> = pulls
            .into_iter()
            .map(|(pull_name, pull)| Input::Pull { client: name(pull_name), pull })
            .collect();
        self.give(node, inputs);
    }

    /// A node answers a pull.
    pub fn pulled(&mut self, node: NodeId, client: u64, answer: Pulled) {
        self.trace(|| format!("{node} answers pull {client:x}: {}", watcher::text(&answer)));
        let (number, serial, name) = (client >> 48, client >> 32 & 0xffff, client & 0xffff_ffff);
        let map = watched_shards(&self.keyspaces);
        let at = self.watchers.get_mut(number as usize).and_then(|watcher| watcher.at.as_mut());
        if let Some(at) = at.filter(|at| (at.node, at.serial) == (node, serial)) {
            // Who is behind for long, and not served by others, is told so without being sure.
            let is_sure = matches!(answer, Pulled::Trimmed { is_sure: true, .. });
            let before = at.watched.ended().is_some();
            at.watched.answered(name, answer, map);
            if let Some(Error::Trimmed { asked, .. }) = at.watched.ended().filter(|_| is_sure && !before) {
                let asked = *asked;
                self.check_trimmed(number as usize, node, asked);
            }
        }
    }

    /// Takes what there is, and checks it. When to look again.
    fn take_batches(&mut self, number: usize) -> u64 {
        let most = if self.watchers[number].is_slow && !self.calm { SLOW_BATCHES } else { usize::MAX };
        for _ in 0..most {
            let watcher = &mut self.watchers[number];
            let Some(next) = watcher.at.as_mut().and_then(|at| at.watched.take()) else { break };
            match next {
                Ok(batch) => self.batch_given(number, &batch),
                Err(error) => {
                    self.watch_ended(number, &error);
                    return AGAIN_MICROS;
                }
            }
        }
        self.watchers[number].pause(self.calm)
    }

    fn batch_given(&mut self, number: usize, batch: &Batch) {
        let Watcher { filter, reached, .. } = &self.watchers[number];
        let SlotRange { first, .. } = batch.reach.slots;
        // Who begins now is told where that is.
        let before = reached.of_slot(first).unwrap_or(batch.reach.through);
        let wrong = self.watch.changes.given(batch.shard, filter, before, batch.reach, &batch.changes);
        let went_back = batch.reach.through < before;
        let is_fresh = reached.of_slot(first).is_none();
        let filter = filter.clone();
        self.watchers[number].reached.note(batch.reach);
        let progress = self.watchers[number].progress(&filter);
        if let Some(why) = wrong {
            self.unless_forced(format!(
                "watches are given every change once: watcher {number} of {filter:?}: {why}"
            ));
        } else if went_back || is_fresh && !batch.changes.is_empty() {
            self.unless_forced(format!(
                "watches go on: watcher {number} was at {before}, and is given {batch:?}"
            ));
        } else if batch.progress > progress {
            self.unless_forced(format!(
                "the progress of watches is true: watcher {number} is told {:?}, and has {progress:?}",
                batch.progress
            ));
        }
        if !batch.changes.is_empty() {
            self.note("a watch was given changes");
        }
        if batch.changes.iter().any(|change| change.what == kv::watch::What::Expired) {
            self.note("a watch was told that a value had expired");
        }
    }

    fn watch_ended(&mut self, number: usize, error: &Error) {
        self.trace(|| format!("watcher {number} ends: {error}"));
        self.watchers[number].at.take().expect("a watch that ends was there");
        match error {
            Error::Unavailable(_) => self.note("a watch was sent to another node"),
            Error::Trimmed { asked, oldest } => {
                self.note("a watch was told that changes are not kept");
                if oldest <= asked {
                    self.unless_forced(format!(
                        "watcher {number} is to begin at {oldest} in place of {asked}"
                    ));
                }
                self.watchers[number].begins_anew();
            }
            error => self.unless_forced(format!("watches go on: watcher {number} is told {error}")),
        }
    }

    /// What a node keeps itself it gives: nothing that is told as trimmed is kept there by all shards.
    fn check_trimmed(&mut self, number: usize, node: NodeId, asked: Version) {
        let Some(process) = &self.machine(node).process else { return };
        let shards = watched_shards(&self.keyspaces).shards().iter().map(|(shard, _)| *shard);
        let keeps = |shard| process.cores.keeps_changes_from(shard, asked);
        if shards.into_iter().all(keeps) {
            self.unless_forced(format!(
                "only what is not kept is trimmed: watcher {number} is told so of {asked} by {node}"
            ));
        }
    }

    /// When nothing is written any more, all watches come to the end.
    pub fn end_watches(&mut self) {
        let began = self.events.now();
        let behind = |world: &World| (0..world.watchers.len()).find_map(|number| world.is_behind(number));
        while behind(self).is_some() && self.events.now() < began + CAUGHT_UP_MICROS && self.step() {}
        if let Some(why) = behind(self).filter(|_| self.violations.is_empty()) {
            self.unless_forced(format!("watches come to the end: {why}"));
        }
    }

    fn is_behind(&self, number: usize) -> Option<String> {
        let Watcher { filter, reached, .. } = &self.watchers[number];
        let all = filter.slots();
        watched_shards(&self.keyspaces).shards().iter().find_map(|(shard, own)| {
            let first = own.first.max(all.first);
            let last = self.watch.changes.last(*shard);
            let is_its = first <= own.last.min(all.last);
            let through = reached.of_slot(first);
            (is_its && through.is_none_or(|through| through < last))
                .then(|| format!("watcher {number} of shard {shard} is at {through:?}, and that at {last}"))
        })
    }
}
/// The shards of the keyspace that is watched.
fn watched_shards(keyspaces: &Keyspaces) -> &ShardMap {
    keyspaces.shards(Request::KEYSPACE).expect("the keyspace of clients stays")
}
