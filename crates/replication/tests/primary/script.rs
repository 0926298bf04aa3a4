//! Golden scripts (`tests/primary/*.txt`): comments (`#`), commands (`>`) and what they bring about: what is acknowledged, answered,
//! refused and asked of the directory, then each replica whose state is another than before, as [`Primary::describe`] puts it.
//!
//! Everything that can happen at once does, unless it is held. `REGENERATE=1 cargo test -p replication` writes the outputs anew.
//!
//! [`Primary::describe`]: replication::primary::Primary::describe

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use kv::keyspace::{Awaited, SyncMode};
use kv::{Epoch, Level, NodeId};
use replication::primary::describe;
use replication::{Duty, Input, Output};

use super::world::World;

/// Time passes in steps of this, in microseconds.
const STEP_MICROS: u64 = 20_000;
/// Within so many rounds of messages nothing happens any more.
const ROUNDS_MAX: usize = 1000;

pub struct Script {
    world: World,
    /// Whose logs sync nothing for now.
    held: BTreeSet<u64>,
    /// The directory hears nothing for now.
    is_directory_away: bool,
    shown: BTreeMap<u64, String>,
    text: String,
}

impl Script {
    pub fn play(text: &str) -> String {
        let (held, shown, is_directory_away) = (BTreeSet::new(), BTreeMap::new(), false);
        let world = World::new(1, 1 << 20);
        let mut script = Script { world, held, is_directory_away, shown, text: String::new() };
        for line in text.lines().filter(|line| line.starts_with(['>', '#'])) {
            writeln!(script.text, "{line}").unwrap();
            if let Some(command) = line.strip_prefix("> ") {
                let words: Vec<&str> = command.split(' ').collect();
                script.world.outputs.clear();
                script.command(words[0], &words[1..]);
                script.settle();
                script.show(words[0] != "nodes");
            }
        }
        script.text
    }

    fn command(&mut self, command: &str, words: &[&str]) {
        let number =
            |place: usize| -> u64 { words[place].trim_start_matches('n').parse().expect("a number") };
        match command {
            // So many nodes, connected, in sync and with their first entry applied.
            "nodes" => self.begin(number(0), words.get(1).map_or(1 << 20, |_| number(1) as usize)),
            "put" => drop(self.world.propose(number(0))),
            "read" => drop(self.world.read(number(0), Level::Linearizable)),
            "read-bounded" => drop(self.world.read(number(0), Level::Bounded(number(1)))),
            "read-local" => drop(self.world.read(number(0), Level::Local)),
            // For whom a write waits: `all`, with how many copies at least, or a number of secondaries and an interval in milliseconds.
            "sync" if words[0] == "all" => {
                self.world.wait_for(SyncMode::All { min_copies: number(1) as u16 }.into())
            }
            // At most so many secondaries.
            "sync" if words[0] == "at-most" => self.world.wait_for(Awaited::at_most(number(1) as u16)),
            "sync" => {
                let (secondaries, interval_micros) = (number(0) as u16, number(1) * 1000);
                self.world.wait_for(SyncMode::Some { secondaries, interval_micros }.into());
            }
            // Milliseconds pass.
            "wait" => self.wait(number(0)),
            "hold" => drop(self.held.insert(number(0))),
            "release" => drop(self.held.remove(&number(0))),
            "cut" => self.world.cut(number(0), number(1)),
            // They hear each other, and have said no hello.
            "uncut" => drop(self.world.cuts.remove(&(number(0), number(1)))),
            "connect" => self.world.connect(number(0), number(1)),
            "crash" => self.crash(number(0)),
            "start" => self.start(number(0)),
            "flush" => self.world.flush(number(0)),
            "yield" => self.world.step(number(0), Input::Yield { to: NodeId(number(1)) }),
            "seal" => self.world.step(number(0), Input::Seal { next: Epoch(2), among: Vec::new() }),
            // The directory wants the shard on these nodes alone, as it says to the primary again and again.
            "want" => {
                let (primary, on) = (number(0), Vec::from_iter((1..words.len()).map(number)));
                let view = self.world.view().clone();
                let members = view.members.into_iter().filter(|member| on.contains(&member.node.0)).collect();
                self.world.step(primary, Input::Want { members });
            }
            // The operator has it order, whoever is in sync.
            "force" => self.world.force(number(0)),
            "directory-away" => self.is_directory_away = true,
            "directory-back" => self.is_directory_away = false,
            _ => panic!("no command {command}"),
        }
    }

    fn begin(&mut self, count: u64, cache_bytes: usize) {
        self.world = World::new(count, cache_bytes);
        let ids = self.world.ids();
        for a in &ids {
            ids.iter().filter(|b| *b > a).for_each(|b| self.world.connect(*a, *b));
        }
        self.wait(200);
    }

    fn crash(&mut self, id: u64) {
        self.world.crash(id);
        for other in self.world.ids() {
            self.world.step(other, Input::Disconnected { node: NodeId(id) });
        }
    }

    fn start(&mut self, id: u64) {
        self.world.start(id);
        let others = self.world.ids().into_iter().filter(|other| *other != id);
        for other in Vec::from_iter(others.filter(|other| !self.world.is_cut(id, *other))) {
            self.world.connect(id, other);
        }
    }

    fn wait(&mut self, millis: u64) {
        let end = self.world.now + millis * 1000;
        while self.world.now < end {
            self.world.now = end.min(self.world.now + STEP_MICROS);
            self.world.ids().into_iter().for_each(|id| self.world.tick(id));
            self.settle();
        }
    }

    /// Lets happen what can, until nothing does.
    fn settle(&mut self) {
        for round in 0.. {
            if round > ROUNDS_MAX {
                let last: Vec<_> = self
                    .world
                    .outputs
                    .iter()
                    .rev()
                    .take(12)
                    .map(|(id, output)| match output {
                        Output::Send { to, body } => format!("n{id} to n{to} {}", describe(body)),
                        output => format!("n{id} {output:?}"),
                    })
                    .collect();
                panic!("it never ends: {}", last.join("\n"));
            }
            let packets = std::mem::take(&mut self.world.net);
            let mut is_over = packets.is_empty();
            packets.into_iter().for_each(|packet| self.world.deliver(packet));
            for id in self.world.ids() {
                while !self.held.contains(&id) && !self.world.nodes[&id].appends.is_empty() {
                    self.world.sync(id);
                    is_over = false;
                }
                while !self.world.nodes[&id].applies.is_empty() {
                    self.world.apply(id);
                    is_over = false;
                }
                if self.world.is_astray(id) {
                    self.world.step(id, Input::Released);
                }
                is_over &= self.world.nodes[&id].fetches.is_empty();
                self.world.fetched(id);
            }
            if !self.is_directory_away {
                let asks = std::mem::take(&mut self.world.asks);
                is_over &= asks.is_empty();
                asks.into_iter().for_each(|ask| self.world.decide(ask));
                self.world.ids().into_iter().for_each(|id| self.world.tell(id));
            }
            if is_over {
                return;
            }
        }
    }

    fn show(&mut self, is_told: bool) {
        let outputs = std::mem::take(&mut self.world.outputs);
        let mut lines: Vec<String> = Vec::new();
        for line in outputs.iter().filter(|_| is_told).filter_map(|(id, output)| told(*id, output)) {
            if lines.last() != Some(&line) {
                lines.push(line);
            }
        }
        lines.iter().for_each(|line| writeln!(self.text, "  {line}").unwrap());
        for id in self.world.ids() {
            let state =
                self.world.replica(id).map_or_else(|| format!("n{id} down"), |replica| replica.describe());
            if self.shown.insert(id, state.clone()) != Some(state.clone()) {
                writeln!(self.text, "{state}").unwrap();
            }
        }
    }
}

fn told(id: u64, output: &Output) -> Option<String> {
    Some(match output {
        Output::Apply { at, tokens, .. } if !tokens.is_empty() => {
            format!("n{id} acknowledges {tokens:?} of entry {at}")
        }
        Output::Answer { token, reached, .. } => format!("n{id} answers {token} {reached}"),
        Output::Refuse { token, error } => format!("n{id} refuses {token}: {error}"),
        Output::Ask(change) => {
            let word = |member: &replication::Member| {
                let mark = match member.duty {
                    Duty::Primary => "*",
                    Duty::Learner => "?",
                    Duty::Astray => "!",
                    _ => "",
                };
                format!("{}{mark}", member.node)
            };
            let members: Vec<String> = change.members.iter().map(word).collect();
            format!("n{id} asks, of revision {}: {}", change.revision, members.join(" "))
        }
        Output::SendSnapshot { to, .. } => format!("n{id} sends a snapshot to n{to}"),
        Output::Sealed { at } => format!("n{id} is sealed at {at}"),
        Output::PeerLacks { node, acknowledged, last } => {
            format!("n{id} finds that n{node} lacks what is from {last} to {acknowledged}")
        }
        _ => return None,
    })
}
