//! The network between nodes: from each node to each other one ordered connection, as the server's transport keeps it.
//!
//! While a connection stands, its frames arrive in order. A cut direction either holds them back until it is healed, or
//! breaks the connection: what was on its way is lost, and the sending side notices a little later. On a weak network the
//! frames of protocols go their own ways besides: lost, doubled, late.

pub(crate) mod bulk;
pub(crate) mod hello;
pub(crate) mod links;
pub(crate) mod shapes;
mod streams;

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use kv::{Epoch, NodeId};
use node::Input;
use node::wire::Frame;
use wal::Crash;

pub(crate) use crate::events::Way;
use crate::events::{DataFolder, Event};
use crate::world::World;
use links::{Link, State};

pub(crate) use links::Weak;

/// The sending side notices a broken connection within this.
const NOTICE_MICROS: u64 = 300_000;
/// So many frames are held back for a connection; more are dropped, as from a full queue.
const HELD_MAX: usize = 10_000;

/// Of so many in 1000 frames that are doubled or late another copy comes out of another epoch.
const FOREIGN_PERMILLE: u64 = 500;

impl World {
    /// A process keeps connections to those that are members as far as it knows, and has nobody else on one.
    pub fn follow_nodes(&mut self, id: NodeId) {
        let Some(process) = &self.machine(id).process else { return };
        let (life, nodes) = (process.life, process.greeter.nodes());
        let members: BTreeSet<NodeId> = nodes.others(id).map(|(other, _)| other).collect();
        let links = &self.network.links;
        let called: BTreeSet<NodeId> =
            links.range((id, NodeId(0))..=(id, NodeId::MAX)).map(|((_, to), _)| *to).collect();
        let is_stranger = |(from, to): &Way| *to == id && !members.contains(from);
        let strangers = Vec::from_iter(links.keys().copied().filter(is_stranger));
        for to in called.difference(&members) {
            self.hang_up((id, *to), Crash::Process);
        }
        for &to in members.difference(&called) {
            let link =
                Link { life, number: 0, state: State::Down, failures: 0, last_at: 0, held: VecDeque::new() };
            self.network.links.insert((id, to), link);
            self.events.after(0, Event::Connect { from: id, to, life });
        }
        for way in strangers {
            let notice = self.random.between(100, NOTICE_MICROS);
            self.break_link(way, notice);
        }
    }

    /// The caller has a connection no more. Where its process ended in peace, or goes on, what is on its way arrives.
    fn hang_up(&mut self, way: Way, crash: Crash) {
        if let Some(Link { state: State::Up(life), number, .. }) = self.network.links.remove(&way)
            && crash == Crash::Process
        {
            self.network.lingering.insert(number, (way.1, life));
        }
    }

    /// A process ended: its connections are gone, those to it break.
    pub fn links_ended(&mut self, id: NodeId, crash: Crash) {
        let ways = Vec::from_iter(self.network.links.keys().copied());
        ways.iter().filter(|(from, _)| *from == id).for_each(|way| self.hang_up(*way, crash));
        for way in ways.into_iter().filter(|(_, to)| *to == id) {
            // The system of a killed process closes its connections; without power nobody does.
            let notice = match crash {
                Crash::Process if !self.is_cut(way.0, id) => self.settings.network.draw(&mut self.random),
                _ => self.random.between(100, NOTICE_MICROS),
            };
            self.break_link(way, notice);
        }
    }

    /// Breaks a connection: what is on its way is lost, and its sender notices `notice` later.
    fn break_link(&mut self, way: Way, notice: u64) {
        let Some(link) = self.network.links.get_mut(&way) else { return };
        if let State::Up(_) = link.state {
            (link.state, link.held) = (State::Dead, VecDeque::new());
            let (life, number) = (link.life, link.number);
            self.events.after(notice, Event::Broken { from: way.0, to: way.1, life, number });
        }
    }

    pub fn link_broken(&mut self, from: NodeId, to: NodeId, number: u64) {
        let Some(link) = self.network.links.get_mut(&(from, to)).filter(|link| link.number == number) else {
            return;
        };
        link.state = State::Down;
        let life = link.life;
        self.trace(|| format!("{from} -> {to} broke"));
        self.give(from, [Input::PeerDown { node: to }]);
        self.events.after(hello::FIRST_PAUSE_MICROS, Event::Connect { from, to, life });
    }

    /// Sends a frame, or drops it when there is no connection.
    pub fn send(&mut self, from: NodeId, to: NodeId, bytes: Bytes) {
        self.stats.frames += 1;
        self.watch_frame(from, to, &bytes);
        if let Some(weak) = self.network.weak
            && node::observe::message(&bytes).is_some()
            && self.strays(from, to, &bytes, weak)
        {
            return;
        }
        let is_cut = self.network.cuts.contains(&(from, to));
        let Some(link) = self.network.links.get_mut(&(from, to)) else { return };
        match link.state {
            State::Up(_) if is_cut && link.held.len() < HELD_MAX => link.held.push_back(bytes),
            State::Up(_) if !is_cut => self.pass(from, to, bytes),
            _ => {}
        }
    }

    /// A broker gives what a node publishes to all others, as far as it and they are connected to it.
    pub fn publish(&mut self, from: NodeId, bytes: Bytes) {
        let others: Vec<NodeId> =
            self.network.links.keys().filter(|(node, _)| *node == from).map(|(_, to)| *to).collect();
        others.into_iter().for_each(|to| self.send(from, to, bytes.clone()));
    }

    fn pass(&mut self, from: NodeId, to: NodeId, bytes: Bytes) {
        let arrives = self.events.now() + self.settings.network.draw(&mut self.random);
        let link = self.network.links.get_mut(&(from, to)).expect("the connection was just looked at");
        link.last_at = link.last_at.max(arrives);
        self.events.at(link.last_at, Event::Frame { from, to, number: link.number, bytes });
    }

    /// What a weak network does to a frame; false = nothing.
    fn strays(&mut self, from: NodeId, to: NodeId, bytes: &Bytes, weak: Weak) -> bool {
        let is_up = |link: &Link| matches!(link.state, State::Up(_));
        if !self.network.links.get(&(from, to)).is_some_and(is_up) {
            return false;
        }
        let (lost, late) = (self.random.permille(weak.lost), self.random.permille(weak.late));
        if lost {
            self.stats.frames_lost += 1;
            return true;
        }
        if late || self.random.permille(weak.doubled) {
            let folders = self.folders((from, to));
            let delay = self.random.between(0, weak.late_micros);
            self.stats.frames_strayed += 1;
            self.events.after(delay, Event::Stray { from, to, folders, bytes: bytes.clone() });
            if self.random.permille(FOREIGN_PERMILLE) {
                let bytes = self.of_another_epoch(bytes);
                self.events.after(delay, Event::Stray { from, to, folders, bytes });
            }
        }
        late
    }

    /// The message as if its node had missed a change that gave the shard another past: that of another shard, under an epoch before
    /// all that it has had. Of an epoch that is yet to come nobody says anything: who did would be believed.
    fn of_another_epoch(&mut self, bytes: &Bytes) -> Bytes {
        let Ok(Frame::Protocol { revision, body, .. }) = Frame::decode(bytes) else {
            unreachable!("only the messages of protocols go their own ways")
        };
        let shard = self.random.pick(&self.shards());
        Frame::Protocol { shard, epoch: Epoch(0), revision, body }.encode()
    }

    pub fn frame(&mut self, from: NodeId, to: NodeId, number: u64, bytes: Bytes) {
        let life = self.machine(to).life();
        let link = self.network.links.get(&(from, to)).filter(|link| link.number == number);
        let stands = link.is_some_and(|link| Some(link.state) == life.map(State::Up));
        let lingers = || {
            self.network.lingering.get(&number).is_some_and(|end| Some(*end) == life.map(|life| (to, life)))
        };
        if stands || lingers() {
            self.give(to, [Input::Frame { from, bytes }]);
        }
    }

    /// A frame that went its own way. One from or for another data folder is nobody's: who comes with an old copy of its own hears
    /// nothing before it was let in with that.
    pub fn stray(&mut self, from: NodeId, to: NodeId, folders: [DataFolder; 2], bytes: Bytes) {
        if !self.network.cuts.contains(&(from, to)) && self.folders((from, to)) == folders {
            self.give(to, [Input::Frame { from, bytes }]);
        }
    }

    /// The data folders of both ends.
    fn folders(&self, (from, to): Way) -> [DataFolder; 2] {
        [from, to].map(|id| self.machine(id).data_folder())
    }

    /// Whether a connection from one node to the other could not be made.
    pub fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.network.cuts.contains(&(from, to)) || self.network.cuts.contains(&(to, from))
    }

    /// Cuts directions; `breaks` = their connections break, else they are held.
    pub fn cut(&mut self, ways: &[Way], breaks: bool) {
        for &(from, to) in ways {
            self.network.cuts.insert((from, to));
            if breaks {
                for way in [(from, to), (to, from)] {
                    let notice = self.random.between(100, NOTICE_MICROS);
                    self.break_link(way, notice);
                }
            }
        }
    }

    /// Heals directions: what was held arrives.
    pub fn uncut(&mut self, ways: &[Way]) {
        for &(from, to) in ways {
            self.network.cuts.remove(&(from, to));
            let Some(link) = self.network.links.get_mut(&(from, to)) else { continue };
            for bytes in std::mem::take(&mut link.held) {
                self.pass(from, to, bytes);
            }
        }
    }
}
