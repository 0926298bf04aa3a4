//! The ports of a store: those of its file must be free, and its nodes need some to hear each other.

use std::hash::{BuildHasher, RandomState};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};

use super::file::Node;
use crate::exit::Error;
use crate::up::wait::Taking;

/// Below those that the kernel gives to outgoing connections, which would take them now and then.
const PORTS: std::ops::Range<u16> = 10_000..32_000;

/// Checks that nobody else listens where the nodes will.
pub fn check(nodes: &[Node]) -> Result<Taking<()>, Error> {
    for node in nodes {
        let Node { name, reached, .. } = node;
        let wrong = |why: &dyn std::fmt::Display| format!("{name} cannot listen on {reached}: {why}");
        let mut places: Vec<SocketAddr> =
            reached.to_socket_addrs().map_err(|error| Error::Usage(wrong(&error)))?.collect();
        places.extend(here(node).iter().filter_map(|address| address.parse::<SocketAddr>().ok()));
        let (mut bound, mut failed) = (false, None);
        for place in places {
            match TcpListener::bind(place) {
                Ok(_) => bound = true,
                Err(error) if error.kind() == ErrorKind::AddrInUse => {
                    let why = "the port is in use: stop the program that has it, or write another port into the file";
                    return Ok(Taking::Busy(wrong(&why)));
                }
                Err(error) => failed = Some(error),
            }
        }
        if let (false, Some(error)) = (bound, failed) {
            let why =
                format!("{error}: all nodes of the file run on this machine, so each ip is one of its own");
            return Err(Error::Usage(wrong(&why)));
        }
    }
    Ok(Taking::Taken(()))
}

/// Where a node listens: at those of its addresses that this machine has.
pub fn here(node: &Node) -> Vec<String> {
    let is_here = |address: &&String| match address.parse::<SocketAddr>() {
        Ok(place) if node.listens.len() > 1 => TcpListener::bind(SocketAddr::new(place.ip(), 0)).is_ok(),
        // The only one is missed with a reason.
        _ => true,
    };
    node.listens.iter().filter(is_here).cloned().collect()
}

/// A free port for each node to be heard of by the others, none of them one of the file.
pub fn for_peers(nodes: &[Node]) -> Result<Vec<u16>, Error> {
    let first = RandomState::new().hash_one(()) % u64::from(PORTS.end - PORTS.start);
    let all = (PORTS.start + first as u16..PORTS.end).chain(PORTS.start..PORTS.start + first as u16);
    let is_free = |port: &u16| {
        let place = SocketAddr::from(([127, 0, 0, 1], *port));
        !nodes.iter().any(|node| node.port == *port) && TcpListener::bind(place).is_ok()
    };
    let ports: Vec<u16> = all.filter(is_free).take(nodes.len()).collect();
    match ports.len() == nodes.len() {
        true => Ok(ports),
        false => {
            Err(Error::Unavailable("this machine has no free ports for the nodes to hear each other".into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(address: &str, port: u16) -> Node {
        let address = format!("{address}:{port}");
        Node { name: "master".into(), reached: address.clone(), listens: vec![address], port }
    }

    #[test]
    fn port_in_use_is_named_and_what_is_no_address_here_is_refused() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let busy = check(&[node("127.0.0.1", port)]).unwrap();
        let is_named = |why: &str| why.contains(&format!("127.0.0.1:{port}")) && why.contains("in use");
        assert!(matches!(&busy, Taking::Busy(why) if is_named(why)), "{busy:?}");
        drop(taken);
        assert!(matches!(check(&[node("127.0.0.1", port)]).unwrap(), Taking::Taken(())));
        // Of the block for documentation (RFC 5737), which nobody has.
        let elsewhere = check(&[node("192.0.2.1", port)]).unwrap_err().to_string();
        assert!(elsewhere.contains("run on this machine"), "{elsewhere}");
    }

    #[test]
    fn addresses_that_this_machine_lacks_are_left_out_where_there_are_others() {
        let elsewhere = "192.0.2.1:7".to_owned();
        let both = Node { listens: vec!["127.0.0.1:7".into(), elsewhere.clone()], ..node("127.0.0.1", 7) };
        assert_eq!(here(&both), ["127.0.0.1:7"]);
        assert_eq!(here(&Node { listens: vec![elsewhere.clone()], ..both }), [elsewhere]);
    }

    #[test]
    fn ports_for_peers_are_others_than_those_of_the_file() {
        let nodes: Vec<Node> = (0..3).map(|index| node("127.0.0.1", PORTS.start + index)).collect();
        let ports = for_peers(&nodes).unwrap();
        assert_eq!(ports.len(), 3);
        assert!(ports.iter().all(|port| !nodes.iter().any(|node| node.port == *port)), "{ports:?}");
    }
}
