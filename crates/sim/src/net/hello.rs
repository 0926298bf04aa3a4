//! How a connection begins: with the bytes of a hello and of its answer, as the nodes decide them.

use bytes::Bytes;
use kv::NodeId;
use node::Input;
use node::identity::{Hello, Met, Purpose, Refusal, Welcome};
use wal::Crash;

use super::links::State;
use crate::events::{Attempt, Event};
use crate::world::World;

/// How long an attempt to connect may take, and the pauses after failed ones, as in the server's transport.
const CONNECT_MICROS: u64 = 1_000_000;
const PAUSES_MICROS: [u64; 5] = [20_000, 50_000, 100_000, 200_000, 400_000];
/// The answers to so many hellos in 100 take up to so long. So one direction may stand long before the other.
const SLOW_HELLO: (u64, u64) = (25, 500_000);
/// Where who was met is written down before: up to all the time that the caller waits.
const NOTED_HELLO: (u64, u64) = (80, CONNECT_MICROS - 50_000);

/// The pause before the first attempt after a connection broke.
pub(super) const FIRST_PAUSE_MICROS: u64 = PAUSES_MICROS[0];

impl World {
    /// A process calls another.
    pub fn connect(&mut self, from: NodeId, to: NodeId, life: u64) {
        let passes = !self.is_cut(from, to) && !self.is_paused(to) && !self.is_paused(from);
        let latency: u64 = (0..2).map(|_| self.settings.network.draw(&mut self.random)).sum();
        let Some(process) = &self.machine(from).process else { return };
        if !self.network.links.contains_key(&(from, to)) {
            return;
        }
        let hello = process.greeter.hello(to, Purpose::Ordered).encode();
        self.network.numbers += 1;
        let attempt = Attempt { from, to, life, number: self.network.numbers };
        let (after, event) = match (passes, self.machine(to).process.is_some()) {
            (true, true) => (latency, Event::Hello { attempt, hello }),
            (true, false) => (latency, Event::NotConnected { attempt }),
            (false, _) => (CONNECT_MICROS, Event::NotConnected { attempt }),
        };
        self.events.after(after, event);
    }

    /// A hello arrives, and is answered.
    pub fn hello(&mut self, attempt: Attempt, hello: Bytes) {
        let Attempt { from, to, .. } = attempt;
        let called = self.machine(to).life().filter(|_| !self.is_cut(from, to) && !self.is_paused(to));
        let known = self.machine(to).folder.met(from);
        let answer = called.and_then(|called| Some((called, self.answer_hello(to, hello)?)));
        let Some((called, welcome)) = answer else { return self.not_connected(attempt) };
        let mut latency = self.settings.network.draw(&mut self.random);
        let writes = self.machine(to).folder.met(from) != known;
        let (slow_percent, slow_micros) = if writes { NOTED_HELLO } else { SLOW_HELLO };
        if self.random.percent(slow_percent) {
            latency += self.random.between(0, slow_micros);
        }
        self.events.after(latency, Event::Welcome { attempt, called, welcome });
    }

    /// The answer arrives: frames may flow, or the caller tries again, or it ends.
    pub fn welcome(&mut self, attempt: Attempt, called: u64, welcome: Bytes) {
        let Attempt { from, to, number, .. } = attempt;
        if self.machine(to).life() != Some(called) || self.is_cut(from, to) {
            return self.not_connected(attempt);
        }
        match self.take_welcome(from, to, welcome) {
            Some(Met::Ours) => {}
            Some(Met::Left(why) | Met::Hopeless(why)) => return self.refused(from, &why),
            Some(Met::NotNow(_)) | None => return self.not_connected(attempt),
        }
        let Some(link) = self.network.links.get_mut(&(from, to)) else { return };
        (link.state, link.number, link.failures) = (State::Up(called), number, 0);
        self.trace(|| format!("{from} -> {to} connected"));
        self.give(from, [Input::PeerUp { node: to }]);
    }

    /// An attempt failed: the next one follows.
    pub fn not_connected(&mut self, Attempt { from, to, life, .. }: Attempt) {
        let Some(link) = self.network.links.get_mut(&(from, to)) else { return };
        let pause = PAUSES_MICROS[link.failures.min(PAUSES_MICROS.len() - 1)];
        link.failures += 1;
        self.events.after(pause, Event::Connect { from, to, life });
    }

    /// Whether a connection for a snapshot can be made: its hello and the answer take no time of their own.
    pub(super) fn connects_for_bulk(&mut self, from: NodeId, to: NodeId) -> bool {
        let Some(process) = &self.machine(from).process else { return false };
        let hello = process.greeter.hello(to, Purpose::Bulk).encode();
        let Some(welcome) = self.answer_hello(to, hello) else { return false };
        match self.take_welcome(from, to, welcome) {
            Some(Met::Ours) => true,
            Some(Met::Left(why) | Met::Hopeless(why)) => {
                self.refused(from, &why);
                false
            }
            Some(Met::NotNow(_)) | None => false,
        }
    }

    /// What a node answers; `None` = it could not write down what it has to before, and closed the connection.
    fn answer_hello(&mut self, at: NodeId, hello: Bytes) -> Option<Bytes> {
        let hello = Hello::decode(hello).expect("what a node says decodes");
        let welcome = self.decide(at, |greeter| greeter.answer(&hello)).ok()?;
        match &welcome {
            Welcome::Yes { .. } => {}
            Welcome::Later(why)
            | Welcome::Unknown { why, .. }
            | Welcome::Stranger(why)
            | Welcome::Gone(why) => {
                self.trace(|| format!("{at} does not let {} in: {why}", hello.from));
            }
            Welcome::No(Refusal { why, .. }) | Welcome::Copy(Refusal { why, .. }) => {
                self.trace(|| format!("{at} does not let {} in: {why}", hello.from));
            }
        }
        if matches!(welcome, Welcome::Later(_)) {
            self.note("a node waited for the founder of its cluster");
        }
        Some(welcome.encode())
    }

    /// What a node makes of the answer; `None` = it could not write down what it has to before.
    fn take_welcome(&mut self, at: NodeId, by: NodeId, welcome: Bytes) -> Option<Met> {
        let welcome = Welcome::decode(welcome).expect("what a node says decodes");
        let met = self.decide(at, |greeter| greeter.meet(by, &welcome)).ok()?;
        match &met {
            Met::Ours => self.check_clusters(at, by),
            Met::NotNow(why) => self.trace(|| format!("{at} cannot connect to {by}: {why}")),
            Met::Left(_) | Met::Hopeless(_) => {}
        }
        Some(met)
    }

    /// Frames flow where both ends have written the same cluster.
    fn check_clusters(&mut self, one: NodeId, other: NodeId) {
        let written = |id: NodeId| self.machine(id).folder.identity().and_then(|identity| identity.cluster);
        let (ours, theirs) = (written(one), written(other));
        if ours.is_none() || ours != theirs {
            self.violation(format!(
                "frames flow where both ends have written the same cluster: between {one}, whose folder says {ours:?}, and \
                 {other}, whose folder says {theirs:?}"
            ));
        }
    }

    /// A node learned that it must not go on, and ends.
    fn refused(&mut self, id: NodeId, why: &str) {
        if self.machine(id).own.is_none() {
            if self.is_member(id) {
                self.violation(format!(
                    "only former members and who lost its folder are refused: {id}: {why}"
                ));
            }
            self.note("a former member was refused");
            self.kill(id, Crash::Process, why);
            return self.be_away(id);
        }
        let is_copy = self.machine(id).folder.identity().is_some_and(|identity| identity.copy.is_some());
        self.note(match is_copy {
            true => "a node with an old copy of its folder was refused",
            false => "a node with another folder was refused",
        });
        self.kill(id, Crash::Process, why);
        self.give_back(id);
    }
}
