//! Golden scripts: what the replicas of a two-phase shard do, step by step, as text.
//!
//! A script (`tests/two_phase/scripts/*.txt`) shows one behaviour, which its name states. It is comments (`#`), commands (`>`) and what
//! they bring about: what replicas write, send, apply, answer and refuse, then each replica whose state is another than before, as
//! [`replication::two_phase::TwoPhase::describe`] puts it. The commands stand in [`Script::command`].
//!
//! `REGENERATE=1 cargo test -p replication` writes the outputs anew; every changed line wants an explanation.

use std::collections::BTreeMap;
use std::fmt::Write;

use kv::{Epoch, Level, NodeId};
use replication::observe::describe as describe_record;
use replication::{Input, Output, two_phase};

use super::cluster::{Cluster, puts};

#[test]
fn golden_scripts_come_out_as_written() {
    super::scripted::come_out_as_written("two_phase/scripts", Script::play);
}

struct Script {
    cluster: Cluster,
    /// The replicas as they were shown last.
    shown: BTreeMap<u64, String>,
    text: String,
}

impl Script {
    fn play(text: &str) -> String {
        let mut script = Script { cluster: Cluster::new(3), shown: BTreeMap::new(), text: String::new() };
        for line in text.lines().filter(|line| line.starts_with(['>', '#'])) {
            writeln!(script.text, "{line}").unwrap();
            if let Some(command) = line.strip_prefix("> ") {
                let words: Vec<&str> = command.split(' ').collect();
                script.command(words[0], &words[1..]);
                let is_shown = words[0] != "shard";
                script.show(is_shown);
            }
        }
        script.text
    }

    fn command(&mut self, command: &str, words: &[&str]) {
        let number = |place: usize| -> u64 { words[place].parse().expect("a number") };
        match command {
            // So many nodes that know nothing yet.
            "nodes" => {
                self.cluster = Cluster::new(number(0));
                self.cluster.ids().into_iter().for_each(|id| self.cluster.start(id));
            }
            // The same, connected, and the first life has begun.
            "shard" => {
                self.command("nodes", words);
                self.command("connect", &[]);
                self.run();
                self.cluster.outputs.clear();
            }
            // So many milliseconds pass, and all look at the clock.
            "wait" => {
                self.cluster.now += number(0) * 1000;
                self.cluster.ids().into_iter().for_each(|id| self.cluster.tick(id));
            }
            // Everything arrives, is synced and applied until nothing happens any more.
            "run" => self.run(),
            "connect" if words.is_empty() => self.cluster.connect_all(),
            "connect" => self.cluster.connect(node(words[0]), node(words[1])),
            "disconnect" => self.cluster.disconnect(node(words[0]), node(words[1])),
            // What is on its way (from one node to another) arrives, is lost, or arrives twice.
            "deliver" | "drop" | "double" => {
                let chosen = |from, to| words.is_empty() || (from, to) == (node(words[0]), node(words[1]));
                let net = std::mem::take(&mut self.cluster.net);
                let (now, later): (Vec<_>, Vec<_>) =
                    net.into_iter().partition(|(from, to, _)| chosen(*from, *to));
                self.cluster.net = later;
                let times = ["drop", "deliver", "double"].iter().position(|other| *other == command).unwrap();
                (0..times).for_each(|_| now.iter().for_each(|packet| self.cluster.deliver(packet.clone())));
            }
            // A node is lost for good, and another one is the master if that one was. Nobody has heard of it yet.
            "declare" => {
                let (dead, next) = (node(words[0]), words.get(1).map_or(0, |word| node(word)));
                self.cluster.declare(dead, next);
                self.shown.remove(&dead);
            }
            _ => self.replica(command, node(words[0]), &words[1..]),
        }
    }

    fn replica(&mut self, command: &str, id: u64, words: &[&str]) {
        let cluster = &mut self.cluster;
        match command {
            "propose" => words.iter().for_each(|key| {
                cluster.propose(id, key);
            }),
            // A key, or '*' for all; and a level.
            "read" => {
                let level = words.get(1).map_or(Level::Linearizable, |level| level.parse().unwrap());
                cluster.read(id, words[0], level);
            }
            // The rows of all its reads are there.
            "fetched" => {
                while let Some(token) = cluster.nodes.get_mut(&id).unwrap().fetches.pop_front() {
                    cluster.step(id, Input::Fetched { token });
                }
            }
            // It hears of who the members are.
            "tell" => cluster.tell(id),
            "forget" => cluster.step(id, Input::Forget { token: words[0].parse().unwrap() }),
            "silent" => cluster.step(id, Input::Silent { node: NodeId(node(words[0])) }),
            // All appends are synced, or the first so many.
            "sync" => cluster.sync(id, words.first().map_or(usize::MAX, |count| count.parse().unwrap())),
            "apply" => {
                while !cluster.node(id).applies.is_empty() {
                    cluster.apply(id);
                }
            }
            "crash" => cluster.crash(id),
            // All of its log and of its table is lost.
            "wipe" => cluster.wipe(id),
            "start" => cluster.start(id),
            "start-dead" => cluster.start_dead(id),
            "flush" => {
                cluster.flush(id);
                let records: Vec<String> = cluster.node(id).log.iter().map(describe_record).collect();
                writeln!(self.text, "n{id} log: {}", records.join("; ")).unwrap();
            }
            "seal" => {
                cluster.step(id, Input::Seal { next: Epoch(words[0].parse().unwrap()), among: Vec::new() })
            }
            _ => panic!("there is no command '{command}'"),
        }
    }

    fn run(&mut self) {
        for _ in 0..1000 {
            let packets = std::mem::take(&mut self.cluster.net);
            let is_quiet = packets.is_empty();
            packets.into_iter().for_each(|packet| self.cluster.deliver(packet));
            for id in self.cluster.ids() {
                self.cluster.sync(id, usize::MAX);
                self.replica("apply", id, &[]);
                self.replica("fetched", id, &[]);
            }
            if is_quiet && self.cluster.net.is_empty() {
                return;
            }
        }
        panic!("it never ends:\n{}", self.text);
    }

    fn show(&mut self, is_shown: bool) {
        for (id, output) in std::mem::take(&mut self.cluster.outputs) {
            if let Some(line) = self.line(id, output).filter(|_| is_shown) {
                writeln!(self.text, "n{id} {line}").unwrap();
            }
        }
        for id in self.cluster.ids() {
            let state =
                self.cluster.replica(id).map_or(format!("n{id} is down"), two_phase::TwoPhase::describe);
            if self.shown.get(&id) != Some(&state) {
                if is_shown {
                    writeln!(self.text, "  {state}").unwrap();
                }
                self.shown.insert(id, state);
            }
        }
    }

    fn line(&self, id: u64, output: Output) -> Option<String> {
        Some(match output {
            Output::Append { ticket, records, .. } => {
                let records: Vec<String> = records.iter().map(describe_record).collect();
                format!("append {ticket}: {}", records.join("; "))
            }
            Output::Send { to, body } => format!("-> n{to} {}", two_phase::describe(&body)),
            Output::Apply { at, entry, tokens, copies } => {
                let keys: Vec<String> = puts(&entry).into_iter().map(|(key, _)| key).collect();
                format!("apply {at} {keys:?} tokens {tokens:?} copies {copies}")
            }
            Output::Fetch { tokens } => format!("fetch {tokens:?}"),
            Output::Answer { token, reached, staleness_micros, .. } => {
                let puts = self.cluster.node(id).table.puts.iter();
                let keys: Vec<&String> = puts.map(|(key, _)| key).collect();
                format!("answer {token} {reached}, {staleness_micros} us stale: {keys:?}")
            }
            Output::Refuse { token, error } => format!("refuse {token} {:?}: {error}", error.outcome()),
            Output::Sealed { at } => format!("sealed at {at}"),
            Output::Lacking { last } => format!("lacks entries up to {last}"),
            Output::PeerLacks { node, acknowledged, last } => {
                format!("knows that n{node} lacks entries up to {acknowledged}: it has {last}")
            }
            other => panic!("{other:?} is not two-phase's"),
        })
    }
}

/// A node, which is written as n1.
fn node(word: &str) -> u64 {
    word.strip_prefix('n').and_then(|id| id.parse().ok()).unwrap_or_else(|| panic!("'{word}' is no node"))
}
