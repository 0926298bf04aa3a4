//! The clients: each asks one thing after the other in a few lines at a time, under request ids or without, waits, tries
//! again elsewhere, and tells the history what it learned. They behave as the native client does.

mod call;
pub(crate) mod client;
mod deadlines;
mod gate;
pub(crate) mod open;
mod padding;
mod unordered;
mod wide;

use check::generate::Keys;
use placement::map::DEFAULT;

use crate::events::Event;
pub(crate) use crate::events::Whose;
use crate::world::World;
use client::Client;

pub(crate) use client::Purpose;

/// Of a client's requests in 100, so many are reads at a version that was told, and so many of its reads of a weaker level.
const AT_VERSION_PERCENT: u64 = 8;
const WEAK_PERCENT: u64 = 15;
impl World {
    /// The clients begin.
    pub fn start_clients(&mut self) {
        for number in 0..self.settings.clients {
            let keys = Keys { count: self.settings.keys, skew: self.settings.skew };
            let random = self.random.fork();
            self.clients.push(Client::new(number + 1, self.workload, keys, self.founders, random));
            for _ in 0..self.random.between(1, self.settings.lines) {
                let delay = self.random.between(0, 200_000);
                self.events.after(delay, Event::Ask { client: number as usize });
            }
        }
    }

    /// Whether the keys of clients are kept without an order, or were, or will be.
    pub fn is_unordered(&self) -> bool {
        self.settings.unordered
    }

    /// A line of a client is free: it asks the next thing.
    pub fn ask(&mut self, client: usize) {
        if self.stats.asked >= self.steps {
            return;
        }
        self.stats.asked += 1;
        let op = self.clients[client].generator.next_op();
        let op = self.widened(client, op);
        let mut op = self.with_deadlines(client, op);
        let has_order = !self.is_unordered();
        if !has_order {
            op = unordered::offered(op, &mut || self.clients[client].unique_value());
            op = self.aimed_at_tombstones(client, op);
        }
        let op = padding::pad(op, &self.settings.padding);
        let dice = self.clients[client].random.below(100);
        if has_order
            && dice < AT_VERSION_PERCENT
            && let Some((key, version)) = self.watch.versions.draw(&mut self.clients[client].random)
        {
            let op = self.clients[client].at_version(key, version);
            return self.call(client, op, None, Purpose::AtVersion);
        }
        let is_weak = op.class() == kv::Class::Read && (50..50 + WEAK_PERCENT).contains(&dice);
        // Where copies answer for themselves there is one level.
        let is_weak = is_weak && self.placed.keyspaces[DEFAULT].protocol != kv::Protocol::Broadcast;
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
