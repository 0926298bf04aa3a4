//! Golden scripts: what the replicas of a raft group do, step by step, as text.
//!
//! A script (`tests/scripts/*.txt`) shows one behaviour, which its name states. It is comments (`#`), commands (`>`) and what
//! they bring about: what replicas write, send, apply, answer and refuse, then each replica whose state is another than
//! before, as [`raft::Raft::describe`] puts it. A line that comes several times in one step stands once, with how often. The
//! commands stand in [`Script::command`].
//!
//! `REGENERATE=1 cargo test -p replication` writes the outputs anew; every changed line wants an explanation.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod cluster;
mod scripted;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use cluster::{Cluster, Cuts, Packet, keys, member};
use kv::{Level, NodeId};
use replication::observe::describe as describe_record;
use replication::{Output, Replicate, Token, raft};

#[test]
fn golden_scripts_come_out_as_written() {
    scripted::come_out_as_written("scripts", Script::play);
}

/// How often a replica looks at its clock, in microseconds.
const TICK_MICROS: u64 = 50_000;
/// A node that leads at all does so within this time.
const LEAD_MICROS_MAX: u64 = 60_000_000;
/// Within so many rounds of messages nothing happens any more.
const ROUNDS_MAX: usize = 1000;
/// What a step brings about beyond so many lines is counted only.
const LINES_MAX: usize = 20;

/// A packet on its way: from, to, what.
type Sent = (u64, u64, Packet);

struct Script {
    cluster: Cluster,
    cuts: Cuts,
    /// Reads whose rows are not given of their own accord.
    slow: Vec<Token>,
    /// Nodes whose tables apply nothing for now.
    held: BTreeSet<u64>,
    /// Packets that take another, longer way.
    delayed: Vec<Sent>,
    /// How often each node looked at its clock.
    looks: BTreeMap<u64, usize>,
    /// The replicas as they were shown last.
    shown: BTreeMap<u64, String>,
    text: String,
}

impl Script {
    fn play(text: &str) -> String {
        let mut script = Script {
            cluster: Cluster::new(3, 1, 1 << 20),
            cuts: Cuts::default(),
            slow: Vec::new(),
            held: BTreeSet::new(),
            delayed: Vec::new(),
            looks: BTreeMap::new(),
            shown: BTreeMap::new(),
            text: String::new(),
        };
        for line in text.lines().filter(|line| line.is_empty() || line.starts_with(['>', '#'])) {
            writeln!(script.text, "{line}").unwrap();
            if let Some(command) = line.strip_prefix("> ") {
                let words: Vec<&str> = command.split(' ').collect();
                script.command(words[0], &words[1..]);
                let lines = script.settle(true);
                script.show(lines);
                script.show_states(words[0] != "nodes");
            }
        }
        script.text
    }

    fn command(&mut self, command: &str, words: &[&str]) {
        let number = |place: usize| -> u64 { words[place].parse().expect("a number") };
        match command {
            // New nodes, so many, that know nothing yet; each keeps so many bytes of applied entries.
            "nodes" => self.begin(words),
            // The same, and n1 leads, its first entry applied by all.
            "group" => {
                self.begin(words);
                self.lead(1);
                (0..2).for_each(|_| self.pass_tick(1));
                self.run();
            }
            // So many times 50 ms pass, and a node (or all) looks at the clock each time.
            "tick" if words[0] == "all" => (0..number(1)).for_each(|_| {
                self.cluster.now += TICK_MICROS;
                self.cluster.ids().into_iter().for_each(|id| self.cluster.tick(id));
            }),
            "tick" => (0..number(1)).for_each(|_| self.pass_tick(node(words[0]))),
            // So many times 50 ms pass: who wants to know the time looks at the clock, and everything arrives, is synced and applied.
            "idle" => {
                let lines = self.idle(number(0));
                self.show(lines);
            }
            // So many milliseconds pass, and nobody looks at the clock.
            "wait" => self.cluster.now += number(0) * 1000,
            // Everything arrives, is synced and applied until nothing happens any more; only what the users see is shown.
            "run" => {
                let lines = self.run();
                self.show(lines);
            }
            // The replicas whose state is not what was shown last are shown after each step; this shows all.
            "status" => self.shown.clear(),
            // Whether snapshots can be made.
            "snapshots" | "no-snapshots" => self.cluster.snapshots_fail = command == "no-snapshots",
            // A node gets a replica that is to learn, and knows the members that another one knows.
            "join" => {
                let (id, replica) = numbered(words[0]);
                self.cluster.join(id, replica, node(words[1]));
            }
            // A node drops its replica.
            "remove" => self.cluster.remove(node(words[0])),
            "deliver" | "drop" | "double" | "delay" | "arrive" | "cut" | "isolate" | "heal" | "connect"
            | "disconnect" | "silent" => self.network(command, words),
            _ => self.replica(command, node(words[0]), &words[1..]),
        }
    }

    /// What happens between nodes. Words choose one direction; without, it is all of them.
    fn network(&mut self, command: &str, words: &[&str]) {
        let chosen =
            |(from, to, _): &Sent| words.is_empty() || (*from, *to) == (node(words[0]), node(words[1]));
        match command {
            // What was delayed is on its way again, behind all else.
            "arrive" => self.cluster.net.append(&mut self.delayed),
            "cut" => self.cuts.cut(node(words[0]), node(words[1])),
            "isolate" => {
                let others = self.cluster.ids().into_iter().filter(|&other| other != node(words[0]));
                others.for_each(|other| self.cuts.cut(node(words[0]), other));
            }
            "heal" => self.cuts.0.clear(),
            // All are connected to all.
            "connect" if words.is_empty() => {
                let ids = self.cluster.ids();
                let pairs = ids.iter().flat_map(|&a| ids.iter().map(move |&b| (a, b)));
                pairs.filter(|(a, b)| a < b).for_each(|(a, b)| self.cluster.connect(a, b));
            }
            "connect" => self.cluster.connect(node(words[0]), node(words[1])),
            // A node finds that another says nothing any more.
            "silent" => self.cluster.silent(node(words[0]), node(words[1])),
            "disconnect" => self.cluster.disconnect(node(words[0]), node(words[1])),
            // What is on its way now arrives, is lost, arrives and comes again, or takes long.
            _ => {
                let net = std::mem::take(&mut self.cluster.net);
                let (now, later): (Vec<Sent>, Vec<Sent>) = net.into_iter().partition(chosen);
                self.cluster.net = later;
                match command {
                    "delay" => self.delayed.extend(now),
                    "double" => {
                        self.cluster.net.extend(now.iter().cloned());
                        self.pass(now, false);
                    }
                    _ => self.pass(now, command == "drop"),
                }
            }
        }
    }

    /// What happens at a node.
    fn replica(&mut self, command: &str, id: u64, words: &[&str]) {
        let number = |place: usize| -> u64 { words[place].parse().expect("a number") };
        let level = || words.first().map_or(Level::Linearizable, |level| level.parse().unwrap());
        match command {
            "propose" => words.iter().for_each(|key| {
                self.cluster.propose(id, key);
            }),
            // So many entries, one after the other, each as far as it gets.
            "many" => (0..number(0)).for_each(|key| {
                self.cluster.propose(id, &key.to_string());
                self.run();
            }),
            "read" => {
                self.cluster.read(id, level());
            }
            // A read whose rows take a while; the rows of all of them are there.
            "slow-read" => {
                let token = self.cluster.read(id, level());
                self.slow.push(token);
            }
            "fetched" => self.slow.clear(),
            "forget" => self.cluster.forget(id, number(0)),
            // All appends are synced, or the first so many.
            "sync" if words.is_empty() => self.cluster.sync_all(id),
            "sync" => self.cluster.sync(id, number(0) as usize),
            // The table applies nothing for now, or goes on.
            "hold" => drop(self.held.insert(id)),
            "apply" => drop(self.held.remove(&id)),
            // As `run` until the node leads, which alone looks at its clock.
            "lead" => {
                let lines = self.lead(id);
                self.show(lines);
            }
            "crash" => self.cluster.crash(id),
            // All of its log and of its table is lost.
            "wipe" => self.cluster.wipe(id),
            "start" => self.cluster.start(id),
            "flush" => {
                self.cluster.flush(id);
                let records: Vec<String> = self.cluster.node(id).log.iter().map(describe_record).collect();
                writeln!(self.text, "n{id} log: {}", records.join("; ")).unwrap();
            }
            // The directory wants these members, and says so to the node.
            "want" => {
                let members: Vec<_> = words.iter().map(|word| numbered(word)).collect();
                self.cluster
                    .want(id, &members.iter().map(|&(id, replica)| member(id, replica)).collect::<Vec<_>>());
            }
            // The shard is to go on in this epoch.
            "seal" => self.cluster.seal(id, number(0)),
            "transfer" => self.cluster.transfer(id, node(words[0])),
            _ => panic!("there is no command '{command}'"),
        }
    }

    fn pass(&mut self, packets: Vec<Sent>, lost: bool) {
        for packet in packets {
            if lost || self.cuts.is_cut(packet.0, packet.1) {
                self.cluster.lose(packet);
            } else {
                self.cluster.deliver(packet);
            }
        }
    }

    fn begin(&mut self, words: &[&str]) {
        let cache_bytes = words.get(1).map_or(1 << 20, |bytes| bytes.parse().expect("a number"));
        self.cluster = Cluster::new(words[0].parse().expect("a number"), 1, cache_bytes);
        self.cuts = Cuts::default();
    }

    fn pass_tick(&mut self, id: u64) {
        self.cluster.now += TICK_MICROS;
        self.cluster.tick(id);
    }

    fn lead(&mut self, id: u64) -> Vec<String> {
        let mut lines = Vec::new();
        let latest = self.cluster.now + LEAD_MICROS_MAX;
        while self.cluster.replica(id).unwrap().status().leader != Some(NodeId(id)) {
            assert!(self.cluster.now < latest, "n{id} does not come to lead:\n{}", self.text);
            self.pass_tick(id);
            lines.extend(self.run());
        }
        lines
    }

    fn idle(&mut self, ticks: u64) -> Vec<String> {
        let mut lines = Vec::new();
        for _ in 0..ticks {
            self.cluster.now += TICK_MICROS;
            for id in self.cluster.ids() {
                if self.cluster.replica(id).is_some_and(|replica| replica.due() <= self.cluster.local_now(id))
                {
                    self.cluster.tick(id);
                    *self.looks.entry(id).or_default() += 1;
                }
            }
            lines.extend(self.run());
        }
        let looks = std::mem::take(&mut self.looks);
        let looks = looks.into_iter().map(|(id, count)| format!("n{id} looked at the clock {count} times"));
        lines.into_iter().chain(looks).collect()
    }

    fn run(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        for _ in 0..ROUNDS_MAX {
            let packets = std::mem::take(&mut self.cluster.net);
            let is_quiet = packets.is_empty();
            self.pass(packets, false);
            self.cluster.ids().into_iter().for_each(|id| self.cluster.sync_all(id));
            lines.extend(self.settle(false));
            if is_quiet && self.cluster.net.is_empty() {
                return lines;
            }
        }
        panic!("it never ends:\n{}", self.text);
    }

    /// Applies and reads rows: what happened.
    fn settle(&mut self, all: bool) -> Vec<String> {
        for id in self.cluster.ids() {
            if !self.held.contains(&id) {
                self.cluster.apply_all(id);
            }
            let slow = &self.slow;
            let fetches = &mut self.cluster.nodes.get_mut(&id).unwrap().fetches;
            let (wait, now): (Vec<Token>, Vec<Token>) =
                fetches.drain(..).partition(|token| slow.contains(token));
            fetches.extend(wait);
            now.into_iter().for_each(|token| self.cluster.fetched(id, token));
        }
        let outputs = std::mem::take(&mut self.cluster.outputs);
        let told = outputs
            .into_iter()
            .filter_map(|(id, output)| self.line(id, output, all).map(|line| format!("n{id} {line}")));
        told.collect()
    }

    /// Writes lines, those that come again once.
    fn show(&mut self, lines: Vec<String>) {
        let mut counts: Vec<(String, usize)> = Vec::new();
        for line in lines {
            match counts.iter_mut().find(|(other, _)| *other == line) {
                Some((_, count)) => *count += 1,
                None => counts.push((line, 1)),
            }
        }
        let more = counts.len().saturating_sub(LINES_MAX);
        for (line, count) in counts.drain(..counts.len() - more) {
            let times = if count > 1 { format!(" ({count} times)") } else { String::new() };
            writeln!(self.text, "{line}{times}").unwrap();
        }
        if more > 0 {
            writeln!(self.text, "and {more} more").unwrap();
        }
    }

    /// Writes the state of each replica that has another than before; or only keeps it.
    fn show_states(&mut self, shown: bool) {
        for id in self.cluster.ids() {
            let state = self.cluster.replica(id).map_or(format!("n{id} is down"), raft::Raft::describe);
            if self.shown.get(&id) != Some(&state) {
                if shown {
                    writeln!(self.text, "  {state}").unwrap();
                }
                self.shown.insert(id, state);
            }
        }
    }

    fn line(&self, id: u64, output: Output, all: bool) -> Option<String> {
        Some(match output {
            Output::Append { ticket, records, install } if all || install => {
                let records: Vec<String> = records.iter().map(describe_record).collect();
                format!("append {ticket}: {}{}", records.join("; "), if install { ", install" } else { "" })
            }
            Output::Send { to, body } if all => format!("-> n{to} {}", raft::describe(&body)),
            Output::Apply { at, entry, tokens, copies } => {
                format!("apply {at} {:?} tokens {tokens:?} copies {copies}", keys(&entry))
            }
            Output::Fetch { tokens } if all => format!("fetch {tokens:?}"),
            Output::Answer { token, reached, staleness_micros, .. } => {
                let keys = &self.cluster.node(id).table.keys;
                format!("answer {token} {reached}, {staleness_micros} us stale: {keys:?}")
            }
            Output::Refuse { token, error } => format!("refuse {token} {:?}: {error}", error.outcome()),
            Output::MakeSnapshot { to } => format!("make snapshot for n{to}"),
            Output::SendSnapshot { to, header } => {
                format!("send snapshot to n{to}: {}", raft::describe(&header))
            }
            Output::DiscardSnapshot => "discard snapshot".into(),
            Output::Sealed { at } => format!("sealed at {at}"),
            Output::Ask(_) => panic!("raft asks the directory for nothing"),
            Output::Look { .. } | Output::Reply { .. } | Output::Publish { .. } => {
                panic!("raft orders what it is asked, and sends to each")
            }
            Output::Lacking { last } => format!("lacks entries up to {last}"),
            Output::Whole => "is whole again".into(),
            Output::PeerLacks { node, acknowledged, last } => {
                format!("knows that n{node} lacks entries up to {acknowledged}: it has {last}")
            }
            Output::Append { .. } | Output::Send { .. } | Output::Fetch { .. } => return None,
        })
    }
}

/// A node and the number of its replica: n3#7; without, it is the node's.
fn numbered(word: &str) -> (u64, u16) {
    match word.split_once('#') {
        Some((id, replica)) => (node(id), replica.parse().expect("a number")),
        None => (node(word), node(word) as u16),
    }
}

/// A node, which is written as n1.
fn node(word: &str) -> u64 {
    word.strip_prefix('n').and_then(|id| id.parse().ok()).unwrap_or_else(|| panic!("'{word}' is no node"))
}
