//! What somebody who makes a keyspace can choose, as the lab compares it.

use kv::Protocol;
use kv::keyspace::Wish;

/// A named configuration of a keyspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Its name in commands, in the table, and of its keyspace.
    pub name: &'static str,
    /// How its replicas agree.
    pub protocol: Protocol,
    /// What is acknowledged when, in few words.
    pub says: &'static str,
}

/// All there are, in the order of the table. Another one is a line here, and what [`Choice::wish`] needs for it.
pub const ALL: [Choice; 3] = [
    Choice { name: "single", protocol: Protocol::Single, says: "one copy" },
    Choice { name: "raft", protocol: Protocol::Raft, says: "a majority of the copies" },
    Choice { name: "two-phase", protocol: Protocol::TwoPhase, says: "all copies, or none" },
];

impl Choice {
    /// The one of a name. The text says which there are.
    pub fn named(name: &str) -> Result<Choice, String> {
        let known = ALL.into_iter().find(|choice| choice.name == name);
        known.ok_or_else(|| {
            let names = ALL.map(|choice| choice.name).join(", ");
            format!("'{}' is no protocol of the lab: use some of {names}", name.escape_debug())
        })
    }

    /// The keyspace to create on so many nodes: one shard, which one node leads, with a copy on each node where it may have so many.
    pub fn wish(&self, nodes: u16) -> Wish {
        let replicas = nodes.min(*self.protocol.replicas().end());
        Wish { protocol: Some(self.protocol), replicas: Some(replicas), shards: Some(1), ..Wish::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choice_is_found_by_its_name_and_can_be_created() {
        for choice in ALL {
            assert_eq!(Choice::named(choice.name), Ok(choice));
            assert_eq!(kv::keyspace::check_name(choice.name), Ok(()), "it names its keyspace");
            for nodes in [3, 9] {
                assert_eq!(choice.wish(nodes).validate(), Ok(()), "{choice:?}");
            }
        }
        let refused = Choice::named("paxos").unwrap_err();
        assert_eq!(refused, "'paxos' is no protocol of the lab: use some of single, raft, two-phase");
    }
}
