//! The nodes of a local cluster, and what its first start fixed: `cluster.json` in its folder.
//!
//! Nodes are numbered: n1 and so on. The first ones found the cluster, later ones join it. What is written here decides how a
//! node is started, and not who belongs to the cluster: that is in the cluster's own directory, and this file follows what
//! the nodes say of it. A node that was seen in the map of the cluster, and is in no later one, has left.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::args::Args;
use super::member::{Came, Entry, Member, NODES_MAX, name};
use crate::parse::{Deleted, Engine, History};

/// What cannot change once data is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fixed {
    /// Where rows are kept.
    pub engine: Engine,
    /// How many revisions of a key are kept.
    pub history: History,
    /// How long those of a deleted key are kept.
    pub deleted_history: Deleted,
    /// How many shards.
    pub shards: u32,
    /// On how many nodes each of them is, where there are so many.
    pub replicas: u16,
}

/// The nodes, and what is fixed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roster {
    /// What the first start fixed.
    pub fixed: Fixed,
    /// How many nodes founded the cluster: those with the lowest numbers.
    pub founders: u16,
    /// The port from which those of the nodes were counted at the last start.
    pub base_port: u16,
    /// The nodes by number. One that has left stays until its folder is removed.
    pub nodes: BTreeMap<u16, Entry>,
}

impl Roster {
    /// Of a cluster that is to be founded, as the options say.
    pub fn new(args: &Args) -> Roster {
        let founders = args.nodes.unwrap_or(NODES);
        // One node alone is the beginning of a larger cluster.
        let usual =
            if founders > 1 { founders.min(server::Config::REPLICAS) } else { server::Config::REPLICAS };
        Roster {
            fixed: Fixed {
                engine: args.engine.unwrap_or(Engine::Disk),
                history: args.history.unwrap_or(History::Count(server::Config::HISTORY)),
                deleted_history: args.deleted_history.unwrap_or(Deleted::USUAL),
                shards: args.shards.unwrap_or(server::Config::SHARDS),
                replicas: args.replicas.unwrap_or(usual),
            },
            founders,
            base_port: args.base_port,
            nodes: (1..=founders).map(|number| (number, Entry::new(Came::Founded))).collect(),
        }
    }

    /// The nodes that have not left.
    pub fn members(&self) -> Vec<Member> {
        let present = self.nodes.iter().filter(|(_, entry)| !entry.left);
        present.map(|(number, entry)| Member::new(*number, *entry, self.base_port)).collect()
    }

    /// The nodes that founded the cluster, wherever they are now.
    pub fn founders(&self) -> Vec<Member> {
        let founder = |number| Member::new(number, Entry::new(Came::Founded), self.base_port);
        (1..=self.founders).map(founder).collect()
    }

    /// The nodes that have left.
    pub fn left(&self) -> impl Iterator<Item = u16> {
        self.nodes.iter().filter(|(_, entry)| entry.left).map(|(number, _)| *number)
    }

    /// Whether some node joined later than others.
    pub fn has_grown(&self) -> bool {
        self.nodes.values().any(|entry| entry.came == Came::Joined && !entry.left)
    }

    /// Has so many nodes, or says why it cannot. New ones get the lowest numbers that nobody has.
    pub fn resize(&mut self, nodes: u16) -> Result<(), String> {
        let present: Vec<u16> = self.members().iter().map(|member| member.number).collect();
        let count = present.len();
        if usize::from(nodes) < count {
            let leave: Vec<String> = present[usize::from(nodes)..]
                .iter()
                .map(|number| format!("'capstan cluster leave {} --wait'", name(*number)))
                .collect();
            return Err(format!(
                "it has {count}, and nodes become fewer by leaving: start it without --nodes, then {}",
                leave.join(" and ")
            ));
        }
        for _ in count..usize::from(nodes) {
            let free = (1..=NODES_MAX).find(|number| !self.nodes.contains_key(number));
            let Some(number) = free else {
                return Err(format!(
                    "there are {NODES_MAX} names, and {} of them belong to nodes that have left: remove their folders",
                    self.left().count()
                ));
            };
            self.nodes.insert(number, Entry::new(Came::Joined));
        }
        Ok(())
    }

    /// Takes note of a map of this revision: of the nodes of these numbers, each with whether it was heard of. Returns those that
    /// are seen for the first time, and those that are in the map no more.
    pub fn follow(&mut self, revision: u64, listed: &BTreeMap<u16, bool>) -> Followed {
        let mut followed = Followed::default();
        for (number, entry) in self.nodes.iter_mut().filter(|(_, entry)| !entry.left) {
            match listed.get(number) {
                Some(true) if entry.seen == 0 => {
                    entry.seen = revision;
                    followed.came.push(*number);
                }
                None if (1..revision).contains(&entry.seen) => {
                    entry.left = true;
                    followed.left.push(*number);
                }
                _ => {}
            }
        }
        followed
    }
}

/// What a map has changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Followed {
    /// Nodes that are seen for the first time.
    pub came: Vec<u16>,
    /// Nodes that have left.
    pub left: Vec<u16>,
}

/// The fewest that outlive the loss of one.
const NODES: u16 = 3;
/// Files of format 1 say no format.
const FORMAT: u32 = 3;
/// No node joined, and each had every shard.
const FORMAT_BEFORE: u32 = 2;

/// What says whether the rest can be read.
#[derive(Deserialize)]
struct Format {
    format: Option<u32>,
}

#[derive(Serialize, Deserialize)]
struct Written {
    format: u32,
    engine: String,
    history: String,
    deleted_history: String,
    shards: u32,
    replicas: u16,
    founders: u16,
    base_port: u16,
    nodes: Vec<WrittenNode>,
}

#[derive(Serialize, Deserialize)]
struct WrittenNode {
    number: u16,
    came: Came,
    seen: u64,
    left: bool,
}

/// A file of the format before.
#[derive(Deserialize)]
struct WrittenBefore {
    nodes: u16,
    engine: String,
    history: String,
    deleted_history: String,
    shards: u32,
}

/// The content of the file.
pub fn encode(roster: &Roster) -> String {
    let Roster { fixed, founders, base_port, nodes } = roster;
    let node =
        |(&number, &Entry { came, seen, left }): (&u16, &Entry)| WrittenNode { number, came, seen, left };
    let written = Written {
        format: FORMAT,
        engine: fixed.engine.to_string(),
        history: fixed.history.to_string(),
        deleted_history: fixed.deleted_history.to_string(),
        shards: fixed.shards,
        replicas: fixed.replicas,
        founders: *founders,
        base_port: *base_port,
        nodes: nodes.iter().map(node).collect(),
    };
    serde_json::to_string_pretty(&written).expect("numbers and texts are JSON")
}

/// What the content of the file says. An error says what to do.
pub fn parse(bytes: &[u8]) -> Result<Roster, String> {
    let broken = |error: String| format!("{error}; mend it");
    let Format { format } = serde_json::from_slice(bytes).map_err(|error| broken(error.to_string()))?;
    let format = format.unwrap_or(1);
    let written: Written = match format {
        FORMAT => serde_json::from_slice(bytes).map_err(|error| broken(error.to_string()))?,
        FORMAT_BEFORE => {
            let before = serde_json::from_slice(bytes).map_err(|error| broken(error.to_string()))?;
            of_before(before)
        }
        _ => {
            return Err(format!(
                "the cluster has format {format}, and this version of capstan has format {FORMAT}: start it with the version that \
             made it; to take the data along, print it there with 'capstan range '' --json', and put it into a new cluster \
             with 'capstan putall --json'"
            ));
        }
    };
    roster(&written).map_err(broken)
}

/// What a file of the format before says: its nodes may never have been started.
fn of_before(before: WrittenBefore) -> Written {
    let WrittenBefore { nodes, engine, history, deleted_history, shards } = before;
    let node = |number| WrittenNode { number, came: Came::Founded, seen: 0, left: false };
    Written {
        format: FORMAT,
        engine,
        history,
        deleted_history,
        shards,
        replicas: nodes,
        founders: nodes,
        base_port: 0,
        nodes: (1..=nodes).map(node).collect(),
    }
}

fn roster(written: &Written) -> Result<Roster, String> {
    let node = |&WrittenNode { number, came, seen, left }: &WrittenNode| (number, Entry { came, seen, left });
    let nodes: BTreeMap<u16, Entry> = written.nodes.iter().map(node).collect();
    let numbers = 1..=NODES_MAX;
    if nodes.len() < written.nodes.len() || !nodes.keys().all(|number| numbers.contains(number)) {
        return Err(format!("its nodes have different numbers from 1 to {NODES_MAX}"));
    }
    if !numbers.contains(&written.founders) {
        return Err(format!("1 to {NODES_MAX} nodes found a cluster"));
    }
    Ok(Roster {
        fixed: Fixed {
            engine: clap::ValueEnum::from_str(&written.engine, false)?,
            history: written.history.parse()?,
            deleted_history: written.deleted_history.parse()?,
            shards: written.shards,
            replicas: written.replicas,
        },
        founders: written.founders,
        base_port: written.base_port,
        nodes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of n1 and n2, which founded it and were seen in the first map, and n3, which is to join.
    fn roster() -> Roster {
        let founder = Entry { seen: 1, ..Entry::new(Came::Founded) };
        Roster {
            fixed: Fixed {
                engine: Engine::Disk,
                history: History::All,
                deleted_history: Deleted::USUAL,
                shards: 4,
                replicas: 3,
            },
            founders: 2,
            base_port: 7400,
            nodes: BTreeMap::from([(1, founder), (2, founder), (3, Entry::new(Came::Joined))]),
        }
    }

    fn listed(numbers: &[u16]) -> BTreeMap<u16, bool> {
        numbers.iter().map(|number| (*number, true)).collect()
    }

    #[test]
    fn roster_that_is_written_is_read_again() {
        let mut roster = roster();
        roster.nodes.get_mut(&1).unwrap().left = true;
        assert_eq!(parse(encode(&roster).as_bytes()), Ok(roster));
    }

    #[test]
    fn roster_of_the_format_before_is_of_founders_with_every_shard() {
        let text =
            r#"{"format":2,"nodes":5,"engine":"disk","history":"16","deleted_history":"5m","shards":4}"#;
        let read = parse(text.as_bytes()).unwrap();
        assert_eq!((read.founders, read.nodes.len(), read.fixed.replicas, read.fixed.shards), (5, 5, 5, 4));
        assert!(!read.has_grown() && read.nodes.values().all(|entry| entry.seen == 0));
        assert!(parse(text.replace(":5,", ":50,").as_bytes()).unwrap_err().ends_with("; mend it"));
    }

    #[test]
    fn roster_that_cannot_be_is_refused() {
        let text = encode(&roster());
        for (sound, broken) in [
            ("\"number\": 3", "\"number\": 2"),
            ("\"number\": 3", "\"number\": 0"),
            ("\"number\": 3", "\"number\": 21"),
            ("\"founders\": 2", "\"founders\": 0"),
            ("\"disk\"", "\"disc\""),
        ] {
            assert!(text.contains(sound), "{text}");
            let why = parse(text.replace(sound, broken).as_bytes()).unwrap_err();
            assert!(why.ends_with("; mend it"), "{why}");
        }
    }

    #[test]
    fn node_that_joins_is_seen_once_its_process_is() {
        let mut roster = roster();
        let only_listed = BTreeMap::from([(1, true), (2, true), (3, false)]);
        assert_eq!(roster.follow(5, &only_listed), Followed::default());
        assert_eq!(roster.follow(6, &listed(&[1, 2, 3])), Followed { came: vec![3], left: vec![] });
        assert_eq!(roster.nodes[&3].seen, 6);
        assert_eq!(roster.follow(7, &listed(&[1, 2, 3])), Followed::default());
    }

    #[test]
    fn node_has_left_when_a_later_map_lacks_it() {
        let mut roster = roster();
        roster.nodes.get_mut(&2).unwrap().seen = 4;
        // An old map, of a node that is behind.
        assert_eq!(roster.follow(4, &listed(&[1])), Followed::default());
        assert_eq!(roster.follow(5, &listed(&[1])), Followed { came: vec![], left: vec![2] });
        assert_eq!(roster.left().collect::<Vec<_>>(), [2]);
        let present: Vec<u16> = roster.members().iter().map(|member| member.number).collect();
        assert_eq!(present, [1, 3], "one that has not joined yet has not left either");
        // It comes back as another node only.
        assert_eq!(roster.follow(6, &listed(&[1, 2])), Followed::default());
    }

    #[test]
    fn resize_adds_nodes_while_there_are_numbers() {
        let mut roster = roster();
        roster.nodes.get_mut(&2).unwrap().left = true;
        assert_eq!(roster.resize(NODES_MAX - 1), Ok(()));
        assert_eq!(roster.nodes.len(), usize::from(NODES_MAX));
        let why = roster.resize(NODES_MAX).unwrap_err();
        assert!(why.contains("1 of them belong to nodes that have left: remove their folders"), "{why}");
    }
}
