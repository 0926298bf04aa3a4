//! What somebody who makes a keyspace can choose, as the lab compares it.

use kv::keyspace::{History, Secondaries, Settings, Wish};
use kv::{Level, Protocol};

/// A named configuration of a keyspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Its name in commands, in the table, and of its keyspace.
    pub name: &'static str,
    /// What has a write when it is acknowledged, in few words.
    pub says: &'static str,
    settings: Wish,
    /// What it acknowledged may be lost, and is listed then.
    pub may_lose: bool,
}

/// All there are, in the order of the table.
pub fn all() -> Vec<Choice> {
    let of = |protocol| Wish { protocol: Some(protocol), ..Wish::default() };
    let secondaries = |count| Wish { sync: Some(Secondaries::Count(count)), ..of(Protocol::Primary) };
    // What is there at the end is compared with what was acknowledged, write by write.
    let first = Wish { history: Some(History::All), ..secondaries(0) };
    let choice = |name, says, settings| Choice { name, says, settings, may_lose: false };
    vec![
        choice("single", "one copy", of(Protocol::Single)),
        choice("raft", "a majority of the copies", of(Protocol::Raft)),
        choice("primary-all", "all copies in sync", of(Protocol::Primary)),
        choice("primary-1", "two copies", secondaries(1)),
        Choice { may_lose: true, ..choice("primary-0", "one copy, the others a moment later", first) },
        choice("two-phase", "all copies, or none", of(Protocol::TwoPhase)),
        choice("quorum", "a majority of the copies", of(Protocol::Quorum)),
        choice("broadcast", "one copy, the others a moment later", of(Protocol::Broadcast)),
    ]
}

impl Choice {
    /// The one of a name. The text says which there are.
    pub fn named(name: &str) -> Result<Choice, String> {
        let known = all().into_iter().find(|choice| choice.name == name);
        known.ok_or_else(|| {
            let names: Vec<&str> = all().iter().map(|choice| choice.name).collect();
            format!("'{}' is no protocol of the lab: use some of {}", name.escape_debug(), names.join(", "))
        })
    }

    /// Whether a node leads it, which orders its writes. Where none does, writes cannot depend on what is there.
    pub fn is_led(&self) -> bool {
        !self.settings.protocol.is_some_and(Protocol::is_merged)
    }

    /// The level of its reads that show what was acknowledged before.
    pub fn strongest(&self) -> Level {
        if self.settings.protocol == Some(Protocol::Broadcast) { Level::Local } else { Level::Linearizable }
    }

    /// The keyspace to create on so many nodes: one shard, with a copy on each node where it may have so many.
    pub fn wish(&self, nodes: u16) -> Wish {
        let replicas = Settings::of(&self.settings).protocol.replicas();
        Wish { replicas: Some(nodes.min(*replicas.end())), shards: Some(1), ..self.settings.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choice_is_found_by_its_name_and_can_be_created() {
        for choice in all() {
            assert_eq!(Choice::named(choice.name), Ok(choice.clone()));
            assert_eq!(kv::keyspace::check_name(choice.name), Ok(()), "it names its keyspace");
            for nodes in [3, 1023] {
                assert_eq!(choice.wish(nodes).validate(), Ok(()), "{choice:?}");
            }
        }
        let refused = Choice::named("paxos").unwrap_err();
        assert!(
            refused.starts_with("'paxos' is no protocol of the lab: use some of single, raft, "),
            "{refused}"
        );
    }
}
