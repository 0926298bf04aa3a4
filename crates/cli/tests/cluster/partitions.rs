//! Nodes that do not hear each other, in one direction or both: whoever is alone serves nothing stale, and when all hear each
//! other again, all go on.

use std::time::Duration;

use crate::network::{CLIENTS, Network};
use crate::nodes::{Lab, Random, run, size};
use crate::workload::Recorded;

/// Who does not hear whom.
#[derive(Clone, Copy, Debug)]
enum Shape {
    /// This node and the others.
    Alone(u16),
    /// This node and the others, and the clients.
    Gone(u16),
    /// All nodes.
    Apart,
    /// This node hears nobody; all hear it.
    Deaf(u16),
    /// This node hears all; nobody hears it.
    Mute(u16),
    /// These two; the third hears both.
    Between(u16, u16),
    /// The second does not hear the first.
    OneWay(u16, u16),
}

impl Shape {
    /// One around this node.
    fn around(node: u16, other: u16, random: &mut Random) -> Shape {
        match random.below(7) {
            0 => Shape::Alone(node),
            1 => Shape::Gone(node),
            2 => Shape::Apart,
            3 => Shape::Deaf(node),
            4 => Shape::Mute(node),
            5 => Shape::Between(node, other),
            _ => Shape::OneWay(node, other),
        }
    }

    /// Whether what one end sends no longer reaches the other.
    fn cuts(self, from: u16, to: u16) -> bool {
        let are_nodes = from != CLIENTS && to != CLIENTS;
        match self {
            Shape::Alone(node) => are_nodes && (from == node || to == node),
            Shape::Gone(node) => from == node || to == node,
            Shape::Apart => are_nodes,
            Shape::Deaf(node) => are_nodes && to == node,
            Shape::Mute(node) => are_nodes && from == node,
            Shape::Between(one, other) => [(one, other), (other, one)].contains(&(from, to)),
            Shape::OneWay(one, other) => (from, to) == (one, other),
        }
    }

    /// Two nodes hear each other and the clients, and nobody else hears them or is heard.
    fn leaves_majority(self) -> bool {
        matches!(self, Shape::Alone(_) | Shape::Gone(_))
    }
}

fn cut(network: &Network, lab: &Lab, shape: Shape) {
    let ends = || [CLIENTS].into_iter().chain(lab.all());
    for from in ends() {
        for to in ends().filter(|to| from != *to && shape.cuts(from, *to)) {
            network.cut(from, to);
        }
    }
}

/// Cuts and heals; `shape` draws what is cut.
fn partitions(rounds: u64, mut shape: impl FnMut(u16, u16, &mut Random) -> Shape) {
    run(async |mut random| {
        let network = match Network::new(3, &mut random) {
            Ok(network) => network,
            Err(why) => return println!("SKIPPED: {why}"),
        };
        let mut lab = Lab::new(3, &[], &mut random);
        network.take(&mut lab);
        lab.serve_all().await;
        let recorded = Recorded::start(&lab, &mut random);
        for _ in 0..rounds {
            recorded.goes_on(150).await;
            // Mostly a node that leads something.
            let node = match random.below(4) {
                0 => 1 + random.below(3) as u16,
                _ => lab.leader(&random.next().to_string()).await,
            };
            let other = 1 + (node + random.below(2) as u16) % 3;
            let shape = shape(node, other, &mut random);
            let time = Duration::from_millis(500 + random.below(size(2000, 8000)));
            println!("{shape:?} for {time:?}");
            cut(&network, &lab, shape);
            tokio::time::sleep(time).await;
            if shape.leaves_majority() {
                recorded.goes_on(50).await;
            }
            network.heal();
            // Now and then the next cut comes while they find each other again.
            if random.below(3) > 0 {
                lab.ready().await;
            }
        }
        lab.ready().await;
        recorded.goes_on(150).await;
        recorded.holds(&lab).await;
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn history_is_linearizable_while_nodes_are_cut_off() {
    partitions(size(3, 30), |node, _, random| match random.below(2) {
        0 => Shape::Alone(node),
        _ => Shape::Gone(node),
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn history_is_linearizable_while_wires_are_cut_one_way() {
    partitions(size(4, 40), |node, other, random| match random.below(3) {
        0 => Shape::Deaf(node),
        1 => Shape::Mute(node),
        _ => Shape::OneWay(node, other),
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn history_is_linearizable_under_partitions_of_every_shape() {
    partitions(size(3, 100), Shape::around);
}
