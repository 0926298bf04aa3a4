//! The members of a local cluster: names and addresses follow from their numbers.

use serde::{Deserialize, Serialize};

/// From the port of clients to the port of peers.
const PEER_PORT_OFFSET: u16 = 20;
/// As many as there are ports between those for clients and those for peers.
pub const NODES_MAX: u16 = PEER_PORT_OFFSET;

/// One node of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// From 1.
    pub number: u16,
    /// Its name: n1, n2 and so on.
    pub name: String,
    /// Where clients connect.
    pub address: String,
    /// Where the other nodes connect.
    pub peer_address: String,
    /// How it comes to the cluster.
    pub came: Came,
    /// It has belonged to the cluster: what its folder held cannot be made up.
    pub has_been: bool,
}

/// What is kept of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// How it came to the cluster.
    pub came: Came,
    /// A revision of the map that has it; 0 = it was not seen in any yet.
    pub seen: u64,
    /// It is none of the cluster any more.
    pub left: bool,
}

/// How a node comes to a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Came {
    /// It founds it, with others.
    Founded,
    /// It joins the cluster that is there.
    Joined,
}

impl Entry {
    /// Of a node that is to come.
    pub fn new(came: Came) -> Entry {
        Entry { came, seen: 0, left: false }
    }
}

impl Member {
    /// The node of a number.
    pub fn new(number: u16, entry: Entry, base_port: u16) -> Member {
        let address = |port: u16| format!("127.0.0.1:{port}");
        Member {
            number,
            name: name(number),
            address: address(base_port + number),
            peer_address: address(base_port + PEER_PORT_OFFSET + number),
            came: entry.came,
            has_been: entry.seen > 0,
        }
    }
}

/// The name of the node of a number.
pub fn name(number: u16) -> String {
    format!("n{number}")
}

/// The number of the node of a name, if it is one of these.
pub fn number(name: &str) -> Option<u16> {
    name.strip_prefix('n')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn member_has_ports_above_the_base() {
        let member = Member::new(3, Entry::new(Came::Founded), 7400);
        assert_eq!((member.name.as_str(), member.address.as_str()), ("n3", "127.0.0.1:7403"));
        assert_eq!(member.peer_address, "127.0.0.1:7423");
        assert_eq!((number(&member.name), number("node")), (Some(3), None));
    }
}
