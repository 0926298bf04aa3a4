//! How long the planner takes: a cluster in which a node joins, and then another one is drained. Run it with `--release`.
//!
//! `cargo run --release -p placement --example plan [SHARDS] [NODES] [REPLICAS]`. A plan is made in a turn of the directory's
//! leader, and clients wait meanwhile.

// A benchmark is there to read the clock.
#![allow(clippy::disallowed_methods)]

use std::time::{Duration, Instant};

use kv::Protocol;
use kv::cluster::Liveness;
use placement::map::Map;
use placement::{Event, Founder, Founding, Limits, plan};

fn main() {
    let mut arguments = std::env::args().skip(1).filter_map(|argument| argument.parse().ok());
    let mut next = |usual| arguments.next().unwrap_or(usual);
    let (shards, nodes, replicas) = (next(1024), next(5), next(3));
    let founder = |id| Founder { name: format!("n{id}"), peer: format!("10.0.0.{id}:1") };
    let nodes = (1..=nodes).map(founder).collect();
    let replicas = u16::try_from(replicas).expect("a shard has some replicas");
    let map = Map::founding(&Founding { cluster: None, nodes, shards, replicas, protocol: Protocol::Raft });
    let map = until_nothing("founded", alive(map));
    let [name, peer, address] = ["new", "h:1", "h:2"].map(String::from);
    let join = Event::Join { name, incarnation: 99, peer, address, zone: String::new() };
    let map = until_nothing("join", alive(map.apply(&join).expect("it joins")));
    let drain = Event::Drain { name: "n1".into(), fewer: true };
    until_nothing("drain", map.apply(&drain).expect("it is drained"));
}

fn alive(mut map: Map) -> Map {
    map.nodes.values_mut().for_each(|node| node.state = Liveness::Alive);
    map
}

/// Plans and has all of it done, until nothing is left to be planned.
fn until_nothing(what: &str, mut map: Map) -> Map {
    let (mut plans, mut total, mut longest) = (0, Duration::ZERO, Duration::ZERO);
    loop {
        let began = Instant::now();
        let next = plan(&map, &Limits::default());
        let took = began.elapsed();
        (plans, total, longest) = (plans + 1, total + took, longest.max(took));
        let Some(next) = next else { break };
        map = next.completed();
    }
    println!("{what:<8} {plans} plans, {:?} each, {longest:?} at most", total / plans);
    map
}
