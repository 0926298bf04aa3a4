//! Ports for a cluster on this machine.

use std::net::TcpListener;
use std::ops::Range;

/// From the port of a node's clients to that of its peers, as with `capstan up`.
pub const PEER_OFFSET: u16 = 20;
/// So many nodes have room between a base port and the next.
pub const NODES_MAX: u16 = PEER_OFFSET;
/// Base ports lie below those that the kernel gives to outgoing connections, which would take them now and then.
const BASE_PORTS: Range<u64> = 10_000..32_000;
/// From a base port to the next.
const STRIDE: u64 = 50;
/// So many are tried.
const TRIES: usize = 1000;

/// A base port above which the ports of so many nodes are free, of those that are drawn; `None` = none was found. Another program may
/// take one before it is used: then a node does not start, and says why.
pub fn free_base(nodes: u16, mut draw: impl FnMut() -> u64) -> Option<u16> {
    assert!(nodes <= NODES_MAX, "the ports of {nodes} nodes would meet those of their peers");
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let mut bases = (0..TRIES).map(|_| {
        let width = BASE_PORTS.end - BASE_PORTS.start;
        (BASE_PORTS.start + draw() % (width / STRIDE) * STRIDE) as u16
    });
    bases.find(|base| (1..=nodes).all(|node| free(base + node) && free(base + PEER_OFFSET + node)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_whose_ports_are_taken_is_not_given() {
        let mut draws = 0..;
        let first = free_base(3, || draws.next().unwrap()).expect("some ports are free");
        let taken = TcpListener::bind(("127.0.0.1", first + PEER_OFFSET + 2)).unwrap();
        let place = (u64::from(first) - BASE_PORTS.start) / STRIDE;
        assert_eq!(free_base(3, || place), None);
        drop(taken);
        assert_eq!(free_base(3, || place), Some(first));
    }
}
