//! Golden scripts: what happens to a map, and what is planned for it, as text.
//!
//! A script (`tests/scripts/*.txt`) shows one behaviour, which its name states. It is comments (`#`), commands (`>`) and what each
//! changes: the rows of the map that are others than before, as [`Script::rows`] puts them, or why it is refused. The commands
//! stand in [`Script::command`].
//!
//! `REGENERATE=1 cargo test -p placement` writes the outputs anew; every changed line wants an explanation.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod world;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use kv::admin::{Ruled, Ruling};
use kv::cluster::Liveness;
use kv::keyspace::{Weights, Wish};
use kv::view::{Member, Revision};
use kv::{ClusterId, NodeId, Protocol, ReplicaId, ShardId, SlotRange};
use placement::map::{
    Arrangement, Change, DIRECTORY, Dropped, Holders, Map, NodeDuty, Part, Phase, Shard, Why,
};
use placement::plan::lost;
use placement::{Event, Founder, Founding, Limits, plan};
use world::{add, counts, done, leads};

#[test]
fn golden_scripts_come_out_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut paths: Vec<PathBuf> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty());
    let regenerate = std::env::var_os("REGENERATE").is_some();
    for path in paths {
        let expected = std::fs::read_to_string(&path).unwrap();
        check_form(&path, &expected);
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

/// A script shows one behaviour, says first what that is, and has a sentence for a name.
fn check_form(path: &Path, text: &str) {
    let name = path.file_stem().unwrap().to_str().unwrap();
    assert!(name.split('_').count() >= 3, "{name} is no sentence");
    assert!(text.starts_with("# "), "{name} does not begin with what is to be seen");
    assert!(!text.contains("\n\n"), "{name} has a gap: is it two behaviours?");
}

struct Script {
    map: Map,
    limits: Limits,
    text: String,
}

impl Script {
    fn play(text: &str) -> String {
        let limits = Limits { changes: 100, per_node: 100 };
        let mut script = Script { map: Map::default(), limits, text: String::new() };
        for line in text.lines().filter(|line| line.is_empty() || line.starts_with(['>', '#'])) {
            writeln!(script.text, "{line}").unwrap();
            if let Some(command) = line.strip_prefix("> ") {
                let words: Vec<&str> = command.split(' ').collect();
                script.command(words[0], &words[1..]);
            }
        }
        script.text
    }

    fn command(&mut self, command: &str, words: &[&str]) {
        let number = |place: usize| -> usize { words[place].parse().expect("a number") };
        let shard = || ShardId(words[0].parse().expect("a shard"));
        match command {
            // A cluster of so many nodes, so many shards, so many replicas of each; nothing is shown.
            "found" => self.map = founding(number(0), number(1), number(2)),
            // A keyspace more: its name, its arrangement, its replicas, the nodes of each shard. Not shown.
            "keyspace" => self.keyspace(words),
            // The zones of the nodes, in order. Not shown.
            "zones" => {
                let zones = self.map.nodes.values_mut().zip(words);
                zones.for_each(|(node, zone)| node.zone = (*zone).into());
            }
            // So many changes at once, so many of one node.
            "limits" => self.limits = Limits { changes: number(0), per_node: number(1) },
            // What is to be done now.
            "plan" => match plan(&self.map, &self.limits) {
                Some(next) => self.show(next),
                None => writeln!(self.text, "nothing").unwrap(),
            },
            // Changes are planned and done, one after the other, until nothing is left; then what each node has.
            "settle" => {
                self.settle();
                self.show_counts();
            }
            "counts" => self.show_counts(),
            // All rows.
            "show" => {
                self.rows(&self.map).into_values().for_each(|row| writeln!(self.text, "{row}").unwrap())
            }
            "done" if self.map.changes.contains_key(&shard()) => self.show(done(&self.map, shard())),
            "lost" => {
                writeln!(self.text, "shards {:?}", lost(&self.map).iter().map(|id| id.0).collect::<Vec<_>>())
                    .unwrap()
            }
            "declare" => self.declare(words[0], words[1]),
            _ => {
                let next = self.map.apply(&self.event(command, words));
                match next {
                    Ok(next) if next == self.map => writeln!(self.text, "nothing").unwrap(),
                    Ok(next) => self.show(next),
                    Err(refusal) => writeln!(self.text, "refused: {refusal}").unwrap(),
                }
            }
        }
    }

    /// A node is dead for good, for a keyspace.
    fn declare(&mut self, keyspace: &str, node: &str) {
        match self.map.ruled(keyspace, &Ruling::DeclareDead { node: node.into() }) {
            Err(refusal) => writeln!(self.text, "refused: {refusal}").unwrap(),
            Ok((next, ruled)) => {
                self.show(next);
                for Ruled { shard, done, why } in ruled {
                    let done = if done { "done" } else { "not done" };
                    writeln!(self.text, "shard {shard} {done}: {why}").unwrap();
                }
            }
        }
    }

    fn event(&self, command: &str, words: &[&str]) -> Event {
        let name = || words[0].to_owned();
        let node = || self.map.node_named(words[0]).expect("a node").0;
        let flag = |flag: &str| words.contains(&flag);
        let shard = || ShardId(words[0].parse().expect("a shard"));
        let life = || words[1].parse().expect("an incarnation");
        let zone = || words.get(2).map_or(String::new(), |zone| (*zone).to_owned());
        let (peer, address) = (format!("{}:7421", words[0]), format!("{}:7401", words[0]));
        match command {
            // A name, an incarnation, and perhaps a zone.
            "join" => Event::Join { name: name(), incarnation: life(), peer, address, zone: zone() },
            "announced" => {
                Event::Announced { node: node(), incarnation: life(), peer, address, zone: zone() }
            }
            "drain" => Event::Drain { name: name(), fewer: flag("fewer") },
            "leave" => Event::Leave { name: name(), fewer: flag("fewer") },
            "serve" => Event::Serve { name: name() },
            "replace" => Event::Replace { name: name(), lose: flag("lose") },
            "alive" => Event::Health { node: node(), state: Liveness::Alive },
            "suspect" => Event::Health { node: node(), state: Liveness::Suspect },
            "dead" => Event::Health { node: node(), state: Liveness::Dead },
            "switch" => Event::Progress { shard: shard(), phase: Phase::Switch },
            // A keyspace, and how many shards it is to have.
            "split" => {
                let shards = Some(words[1].parse().expect("a number"));
                Event::Alter { name: name(), wish: Wish { shards, ..Wish::default() } }
            }
            // A keyspace under quorum, and what its replicas weigh.
            "weigh" => {
                let each =
                    Vec::from_iter(words[1].split(',').map(|weight| weight.parse().expect("a weight")));
                let weights = Some(Weights::new(&each).expect("weights"));
                let wish = Wish { protocol: Some(Protocol::Quorum), weights, ..Wish::default() };
                Event::Alter { name: name(), wish }
            }
            // A keyspace, the protocol that it is to have, and perhaps how many replicas.
            "protocol" => {
                let protocol = Some(words[1].parse().expect("a protocol"));
                let replicas = words.get(2).map(|word| word.parse().expect("a number"));
                Event::Alter { name: name(), wish: Wish { protocol, replicas, ..Wish::default() } }
            }
            "abort" => Event::Abort { shard: shard() },
            // A keyspace.
            "create" => Event::Create { name: name(), wish: Wish::default() },
            "drop" => Event::Drop { name: name() },
            "free" => Event::Free { name: name() },
            // The number of the cluster.
            "founded" => {
                Event::Founded { cluster: ClusterId::new(words[0].parse().expect("a number")).unwrap() }
            }
            // A report that is not newer than what is known.
            "done" | "late" => Event::Done { shard: shard(), revision: self.map.shards[&shard()].revision },
            "fewer" => {
                let revision = Revision(self.map.shards[&shard()].revision.0 + 1);
                Event::Fewer { shard: shard(), revision }
            }
            _ => panic!("there is no command '{command}'"),
        }
    }

    fn keyspace(&mut self, words: &[&str]) {
        let arrangement = match words[1] {
            "even" => Arrangement::Even,
            "contiguous" => Arrangement::Contiguous,
            _ => panic!("there is no arrangement '{}'", words[1]),
        };
        let nodes = |word: &&str| word.split(',').map(|node| node[1..].parse().expect("a node")).collect();
        let shards: Vec<Vec<u64>> = words[3..].iter().map(nodes).collect();
        add(&mut self.map, words[0], arrangement, words[2].parse().expect("a number"), &shards);
    }

    /// Plans and finishes changes, the first first, and writes what is begun, and which nodes are removed.
    fn settle(&mut self) {
        loop {
            while let Some(next) = plan(&self.map, &self.limits) {
                self.show_if(next, |row| row.starts_with("change") || row.starts_with("node"));
            }
            let Some(shard) = self.map.changes.keys().next().copied() else { return };
            self.show_if(done(&self.map, shard), |_| false);
        }
    }

    /// Writes what each node has, and what it leads, by keyspace.
    fn show_counts(&mut self) {
        for keyspace in self.map.keyspaces.keys().filter(|name| *name != DIRECTORY) {
            let leads = leads(&self.map, keyspace);
            let name = |id: &u64| self.map.nodes[&NodeId(*id)].name.clone();
            let counts = counts(&self.map, keyspace);
            let all: Vec<String> =
                counts.iter().map(|(id, count)| format!("{} {count}/{}", name(id), leads[id])).collect();
            writeln!(self.text, "{keyspace}, replicas/leads: {}", all.join(", ")).unwrap();
        }
    }

    fn show(&mut self, next: Map) {
        self.show_if(next, |_| true);
    }

    /// Takes the next map, and writes its rows that are others than before.
    fn show_if(&mut self, next: Map, shown: impl Fn(&str) -> bool) {
        assert_eq!(next.check(), Ok(()), "after:\n{}", self.text);
        let (before, after) = (self.rows(&self.map), self.rows(&next));
        for (key, row) in after.iter().filter(|(key, row)| before.get(*key) != Some(*row) && shown(row)) {
            assert!(!key.is_empty());
            writeln!(self.text, "{row}").unwrap();
        }
        for (key, _) in before.iter().filter(|(key, _)| !after.contains_key(*key) && shown(key)) {
            writeln!(self.text, "{key}: none any more").unwrap();
        }
        self.map = next;
    }

    /// The rows of a map by their keys.
    fn rows(&self, map: &Map) -> BTreeMap<String, String> {
        let mut rows = BTreeMap::new();
        if let Some(cluster) = map.cluster {
            rows.insert("cluster".into(), format!("cluster {cluster}"));
        }
        for (id, node) in &map.nodes {
            let zone = if node.zone.is_empty() { String::new() } else { format!(", zone {}", node.zone) };
            let (name, duty, state) = (&node.name, name_of(node.duty), node.state.name());
            let life = node.incarnation;
            rows.insert(
                format!("node {id}"),
                format!("node {id}: {name}, life {life}, {duty}, {state}{zone}"),
            );
        }
        for (id, shard) in &map.shards {
            let Shard { epoch, revision, .. } = shard;
            let (members, leader) = (members(map, &shard.members), &map.nodes[&shard.leader].name);
            let protocol = match shard.protocol {
                Protocol::Raft => String::new(),
                other => format!(", under {other}"),
            };
            let row = format!("shard {id}: {members} led by {leader}, epoch {epoch}.{revision}{protocol}");
            rows.insert(format!("shard {id}"), row);
        }
        for (id, change) in &map.changes {
            let Change { to, epoch, phase, why } = change;
            let name = |node: &NodeId| map.nodes[node].name.clone();
            let why = match why {
                Why::Balance => "for the balance".into(),
                Why::Leaves(node) => format!("as {} leaves", name(node)),
                Why::Lost(node) => format!("as {} is lost", name(node)),
                Why::Repair => "as it has too few".into(),
                Why::Split => "to be cut".into(),
                Why::Protocol => "to another protocol".into(),
            };
            let phase = if *phase == Phase::Copy { "copying" } else { "switching" };
            let row = format!("change {id}: to {} in epoch {epoch}, {phase}, {why}", members(map, to));
            rows.insert(format!("change {id}"), row);
        }
        for (id, split) in &map.splits {
            let part = |part: &Part| {
                let SlotRange { first, last } = part.slots;
                format!(", shard {} of {first} to {last} led by {}", part.shard, map.nodes[&part.leader].name)
            };
            let parts: String = split.parts.iter().map(part).collect();
            let into =
                split.protocol.map_or_else(|| split.count.to_string(), |protocol| protocol.to_string());
            rows.insert(format!("split {id}"), format!("split {id}: into {into}{parts}"));
        }
        for (name, dropped) in &map.dropped {
            rows.insert(format!("dropped {name}"), format!("dropped {name}: {}", holders(map, dropped)));
        }
        rows
    }
}

fn founding(nodes: usize, shards: usize, replicas: usize) -> Map {
    let founder = |number| Founder { name: format!("n{number}"), peer: format!("n{number}:7421") };
    Map::founding(&Founding {
        cluster: None,
        nodes: (1..=nodes).map(founder).collect(),
        shards: u32::try_from(shards).unwrap(),
        replicas: u16::try_from(replicas).unwrap(),
        protocol: Protocol::Raft,
    })
}

fn name_of(duty: NodeDuty) -> &'static str {
    match duty {
        NodeDuty::Serve => "serves",
        NodeDuty::Drain => "drains",
        NodeDuty::Leave => "leaves",
        NodeDuty::Gone => "is gone",
    }
}

/// Sets of nodes, each with how many of them must have heard.
fn holders(map: &Map, Dropped { revision, holders }: &Dropped) -> String {
    let set = |Holders { nodes, harmless }: &Holders| {
        let names: Vec<&str> = nodes.iter().map(|node| map.nodes[node].name.as_str()).collect();
        format!(", {} of {}", nodes.len() - usize::from(*harmless), names.join(" "))
    };
    let sets: String = holders.iter().map(set).collect();
    format!("by revision {revision}{sets}")
}

/// Names of nodes, each with its replica's number where that is not the node's own.
fn members(map: &Map, members: &[Member]) -> String {
    let one = |Member { node, replica: ReplicaId(replica), .. }: &Member| {
        let name = &map.nodes[node].name;
        if node.0 == u64::from(*replica) { name.clone() } else { format!("{name}#{replica}") }
    };
    members.iter().map(one).collect::<Vec<_>>().join(" ")
}
