//! Golden scripts: what the replicas of a raft group do, step by step, as text.
//!
//! A script (`tests/scripts/*.txt`) is comments (`#`), commands (`>`) and what they bring about. `REGENERATE=1 cargo test -p
//! replication` writes the outputs anew; every changed line wants an explanation. The commands stand in [`Script::command`].

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod cluster;

use std::fmt::Write;
use std::path::{Path, PathBuf};

use cluster::{Cluster, Cuts, Packet, keys};
use kv::{Level, NodeId, Scope};
use replication::observe::describe as describe_record;
use replication::{Input, Output, Replicate, Token, raft};

#[test]
fn golden_scripts_come_out_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut paths: Vec<PathBuf> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty());
    let regenerate = std::env::var_os("REGENERATE").is_some();
    for path in paths {
        let expected = std::fs::read_to_string(&path).unwrap();
        let found = Script::play(&expected);
        if regenerate {
            std::fs::write(&path, found).unwrap();
        } else if let Some((number, (found, expected))) =
            found.lines().zip(expected.lines()).enumerate().find(|(_, (found, expected))| found != expected)
        {
            panic!("{}:{}\nexpected: {expected}\n   found: {found}", path.display(), number + 1);
        } else {
            assert_eq!(found.len(), expected.len(), "{} has lines too many or too few", path.display());
        }
    }
}

struct Script {
    cluster: Cluster,
    cuts: Cuts,
    /// Reads whose rows are not given of their own accord.
    slow: Vec<Token>,
    text: String,
}

impl Script {
    fn play(text: &str) -> String {
        let mut script = Script {
            cluster: Cluster::new(3, 1, 1 << 20),
            cuts: Cuts::default(),
            slow: Vec::new(),
            text: String::new(),
        };
        for line in text.lines().filter(|line| line.is_empty() || line.starts_with(['>', '#'])) {
            writeln!(script.text, "{line}").unwrap();
            if let Some(command) = line.strip_prefix("> ") {
                let words: Vec<&str> = command.split(' ').collect();
                script.command(words[0], &words[1..]);
                script.finish(words[0] != "run" && words[0] != "lead");
            }
        }
        script.text
    }

    fn command(&mut self, command: &str, words: &[&str]) {
        let node = |place: usize| -> u64 { words[place][1..].parse().expect("a node is written as n1") };
        let number = |place: usize| -> u64 { words[place].parse().expect("a number") };
        let level = || words.get(1).map_or(Level::Linearizable, |level| level.parse().unwrap());
        match command {
            // A new group of so many nodes; each keeps so many bytes of applied entries.
            "nodes" => {
                let cache_bytes = words.get(1).map_or(1 << 20, |_| number(1) as usize);
                self.cluster = Cluster::new(number(0) as u64, 1, cache_bytes);
                self.cuts = Cuts::default();
            }
            // So many times 50 ms pass, and a node (or all) looks at the clock each time.
            "tick" => (0..number(1)).for_each(|_| {
                self.cluster.now += 50_000;
                let ids = if words[0] == "all" { self.cluster.ids() } else { vec![node(0)] };
                ids.into_iter().for_each(|id| self.cluster.tick(id));
            }),
            // So many milliseconds pass, and nobody looks at the clock.
            "wait" => self.cluster.now += number(0) * 1000,
            "propose" => {
                words[1..].iter().for_each(|key| drop(self.cluster.propose(node(0), key).to_string()))
            }
            "read" | "slow-read" => {
                let token = self.cluster.token();
                if command == "slow-read" {
                    self.slow.push(token);
                }
                self.cluster.step(node(0), Input::Read { token, scope: Scope::Shard, level: level() });
            }
            // The rows of the slow reads are there.
            "fetched" => self.slow.clear(),
            // What is on its way now arrives (from one node to another only), or is lost.
            "deliver" | "drop" => {
                let chosen = |from: u64, to: u64| words.is_empty() || (from, to) == (node(0), node(1));
                let (now, later) = std::mem::take(&mut self.cluster.net)
                    .into_iter()
                    .partition(|(from, to, _)| chosen(*from, *to));
                self.cluster.net = later;
                self.pass(now, command == "drop");
            }
            "sync" => self.cluster.sync_all(node(0)),
            // Everything arrives, is synced and applied until nothing happens any more; only what the users see is shown.
            "run" => self.run(),
            // The same until a node leads, which alone looks at its clock.
            "lead" => {
                let leads = |script: &Script| {
                    script.cluster.replica(node(0)).unwrap().status().leader == Some(NodeId(node(0)))
                };
                while !leads(self) {
                    self.cluster.now += 50_000;
                    self.cluster.tick(node(0));
                    self.run();
                }
                self.run();
            }
            "cut" => self.cuts.cut(node(0), node(1)),
            "isolate" => self
                .cluster
                .ids()
                .into_iter()
                .filter(|&other| other != node(0))
                .for_each(|other| self.cuts.cut(node(0), other)),
            "heal" => self.cuts.0.clear(),
            "connect" => self.cluster.connect(node(0), node(1)),
            "disconnect" => self.cluster.step(node(0), Input::Disconnected { node: NodeId(node(1)) }),
            "crash" => self.cluster.crash(node(0)),
            "wipe" => self.cluster.wipe(node(0), words.get(1) == Some(&"known")),
            "start" => self.cluster.start(node(0)),
            "flush" => {
                self.cluster.flush(node(0));
                let records: Vec<String> =
                    self.cluster.node(node(0)).log.iter().map(describe_record).collect();
                writeln!(self.text, "{} log: {}", words[0], records.join("; ")).unwrap();
            }
            "transfer" => self.cluster.step(node(0), Input::Yield { to: NodeId(node(1)) }),
            "status" => self.status(),
            _ => panic!("there is no command '{command}'"),
        }
    }

    fn pass(&mut self, packets: Vec<(u64, u64, Packet)>, lost: bool) {
        for packet in packets {
            if lost || self.cuts.is_cut(packet.0, packet.1) {
                self.cluster.lose(packet);
            } else {
                self.cluster.deliver(packet);
            }
        }
    }

    fn run(&mut self) {
        loop {
            let packets = std::mem::take(&mut self.cluster.net);
            let is_quiet = packets.is_empty();
            self.pass(packets, false);
            self.cluster.ids().into_iter().for_each(|id| self.cluster.sync_all(id));
            self.finish(false);
            if is_quiet && self.cluster.net.is_empty() {
                return;
            }
        }
    }

    /// Applies, reads rows, and tells what happened.
    fn finish(&mut self, all: bool) {
        for id in self.cluster.ids() {
            self.cluster.apply_all(id);
            let slow = &self.slow;
            let fetches = &mut self.cluster.nodes.get_mut(&id).unwrap().fetches;
            let (wait, now): (Vec<Token>, Vec<Token>) =
                fetches.drain(..).partition(|token| slow.contains(token));
            fetches.extend(wait);
            now.into_iter().for_each(|token| self.cluster.step(id, Input::Fetched { token }));
        }
        for (id, output) in std::mem::take(&mut self.cluster.outputs) {
            if let Some(line) = self.line(id, output, all) {
                writeln!(self.text, "n{id} {line}").unwrap();
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
            Output::Answer { token, reached, staleness_micros } => {
                let keys = &self.cluster.node(id).table.keys;
                format!("answer {token} {reached}, {staleness_micros} us stale: {keys:?}")
            }
            Output::Refuse { token, error } => format!("refuse {token} {:?}: {error}", error.outcome()),
            Output::MakeSnapshot { to } => format!("make snapshot for n{to}"),
            Output::SendSnapshot { to, header } => {
                format!("send snapshot to n{to}: {}", raft::describe(&header))
            }
            Output::DiscardSnapshot => "discard snapshot".into(),
            Output::Lacking { last } => format!("lacks entries up to {last}"),
            Output::Whole => "is whole again".into(),
            Output::Append { .. } | Output::Send { .. } | Output::Fetch { .. } => return None,
        })
    }

    fn status(&mut self) {
        for id in self.cluster.ids() {
            let Some(replica) = self.cluster.replica(id) else { continue };
            let it = replica.status();
            let leader = it.leader.map_or("nobody".into(), |leader| format!("n{leader}"));
            let (role, term) = (it.role.name(), it.term);
            let numbers = format!(
                "last {} durable {} commit {} applied {}",
                it.last, it.durable, it.commit, it.applied
            );
            writeln!(self.text, "n{id}: {role} term {term} leader {leader} {numbers}").unwrap();
        }
    }
}
