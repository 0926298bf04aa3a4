//! The members of a local cluster: names and addresses follow from their places.

/// From the port of clients to the port of peers.
pub const PEER_PORT_OFFSET: u16 = 20;

/// One node of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name: n1, n2 and so on.
    pub name: String,
    /// Where clients connect.
    pub address: String,
    /// Where the other nodes connect.
    pub peer_address: String,
}

/// The members of a cluster of so many nodes.
pub fn members(nodes: u16, base_port: u16) -> Vec<Member> {
    let address = |port: u16| format!("127.0.0.1:{port}");
    let member = |index: u16| Member {
        name: format!("n{index}"),
        address: address(base_port + index),
        peer_address: address(base_port + PEER_PORT_OFFSET + index),
    };
    (1..=nodes).map(member).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_have_ports_above_the_base() {
        let member = &members(3, 7400)[2];
        assert_eq!((member.name.as_str(), member.address.as_str()), ("n3", "127.0.0.1:7403"));
        assert_eq!(member.peer_address, "127.0.0.1:7423");
    }
}
