//! The clients: each asks one thing after the other in a few lines at a time, under request ids or without, waits, tries
//! again elsewhere, and tells the history what it learned. They behave as the native client does.

mod call;
mod deadlines;
mod gate;
mod padding;
mod wide;

use std::collections::{BTreeMap, BTreeSet};

use check::generate::{Generator, Keys, Workload};
use kv::{NodeId, RequestId, Version};

use crate::events::Event;
pub(crate) use crate::events::Whose;
use crate::random::Random;
use crate::world::World;
pub(crate) use call::{Call, Purpose};
pub(crate) use gate::Gate;

/// One client.
pub(crate) struct Client {
    generator: Generator,
    random: Random,
    /// Its session; it opens another now and then.
    session: u64,
    sequence: u64,
    open: BTreeSet<u64>,
    /// Its writes carry ids, so that it may send them again when it does not know what became of them.
    has_ids: bool,
    /// It stands for many: each comes with a session of its own, asks once, and mostly never comes again.
    comes_once: bool,
    /// The node it asks first.
    home: NodeId,
    calls: BTreeMap<u64, Call>,
    called: u64,
}

/// Of a client's requests in 100, so many are reads at a version that was told, and so many of its reads of a weaker level.
const AT_VERSION_PERCENT: u64 = 8;
const WEAK_PERCENT: u64 = 15;
/// In so many of 1000 calls a client opens a new session, as after its restart.
const NEW_SESSION_PERMILLE: u64 = 10;
/// Where clients come once, so many of 1000 requests are all that their client ever asks.
const ONCE_PERMILLE: u64 = 900;

impl Client {
    /// Client `number` of a run.
    pub fn new(world: &mut World, number: u64) -> Client {
        let keys = Keys { count: world.settings.keys, skew: world.settings.skew };
        let mut random = world.random.fork();
        let comes_once = world.workload == Workload::Once;
        Client {
            generator: Generator::client(world.workload, keys, random.next(), number),
            session: random.next().max(1),
            sequence: 0,
            open: BTreeSet::new(),
            has_ids: random.percent(80) || comes_once,
            comes_once,
            home: NodeId(random.between(1, world.nodes)),
            random,
            calls: BTreeMap::new(),
            called: 0,
        }
    }

    /// Whether its writes may be sent again.
    pub fn has_ids(&self) -> bool {
        self.has_ids
    }

    /// How many calls are under way.
    pub fn open_calls(&self) -> usize {
        self.calls.len()
    }

    fn next_id(&mut self, valid_until: Version) -> RequestId {
        let is_new = match self.comes_once {
            true => self.random.permille(ONCE_PERMILLE),
            false => self.random.permille(NEW_SESSION_PERMILLE) && self.open.is_empty(),
        };
        if is_new {
            (self.session, self.sequence) = (self.random.next().max(1), 0);
            self.open.clear();
        }
        self.sequence += 1;
        self.open.insert(self.sequence);
        let answered_below = self.open.first().copied().expect("one was just opened");
        RequestId { client: self.session, sequence: self.sequence, valid_until, answered_below }
    }

    fn close(&mut self, id: &RequestId) {
        if id.client == self.session {
            self.open.remove(&id.sequence);
        }
    }
}

impl World {
    /// The clients begin.
    pub fn start_clients(&mut self) {
        for number in 0..self.settings.clients {
            let client = Client::new(self, number + 1);
            self.clients.push(client);
            for _ in 0..self.random.between(1, self.settings.lines) {
                let delay = self.random.between(0, 200_000);
                self.events.after(delay, Event::Ask { client: number as usize });
            }
        }
    }

    /// A line of a client is free: it asks the next thing.
    pub fn ask(&mut self, client: usize) {
        if self.stats.asked >= self.steps {
            return;
        }
        self.stats.asked += 1;
        let op = self.clients[client].generator.next_op();
        let op = self.widened(client, op);
        let op = padding::pad(self.with_deadlines(client, op), &self.settings.padding);
        let dice = self.clients[client].random.below(100);
        if dice < AT_VERSION_PERCENT
            && let Some((key, version)) = self.watch.versions.draw(&mut self.clients[client].random)
        {
            let op = self.clients[client].at_version(key, version);
            return self.call(client, op, None, Purpose::AtVersion);
        }
        let is_weak = op.class() == kv::Class::Read && (50..50 + WEAK_PERCENT).contains(&dice);
        let level = is_weak.then(|| match self.clients[client].random.below(3) {
            0 => kv::Level::Bounded(0),
            1 => kv::Level::Bounded(self.clients[client].random.between(1, 2000)),
            _ => kv::Level::Local,
        });
        self.call(client, op, level, Purpose::Work);
    }

    /// A call ended: its line asks again after a while.
    pub fn ask_again(&mut self, client: usize) {
        let delay = self.settings.think.draw(&mut self.random);
        self.events.after(delay, Event::Ask { client });
    }
}
