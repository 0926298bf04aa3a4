//! The shapes of partitions.

use std::fmt;

use kv::NodeId;

use super::Way;
use crate::random::Random;

/// How the nodes are parted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One node sees nobody.
    Alone,
    /// Two groups that do not see each other.
    Halves,
    /// One direction between two nodes.
    OneWay,
    /// One node is not heard by anybody, or hears nobody.
    Mute,
    /// Two groups, and one node that sees both.
    Bridge,
    /// Each node is heard by its neighbours only: everyone has a majority, no two the same one.
    Ring,
}

impl Shape {
    /// That it happened.
    pub fn told(self) -> &'static str {
        match self {
            Shape::Alone => "a partition left one node alone",
            Shape::Halves => "a partition left two halves",
            Shape::OneWay => "a partition cut one direction",
            Shape::Mute => "a partition left a mute or deaf node",
            Shape::Bridge => "a partition left a bridge",
            Shape::Ring => "a partition left a ring of majorities",
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Shape::Alone => "one node alone",
            Shape::Halves => "two halves",
            Shape::OneWay => "one direction",
            Shape::Mute => "a mute or deaf node",
            Shape::Bridge => "a bridge",
            Shape::Ring => "a ring of majorities",
        })
    }
}

const SHAPES: [Shape; 6] =
    [Shape::Alone, Shape::Halves, Shape::OneWay, Shape::Mute, Shape::Bridge, Shape::Ring];

/// A shape among these nodes, two or more, and the directions it cuts.
pub(crate) fn draw(random: &mut Random, mut order: Vec<NodeId>) -> (Shape, Vec<Way>) {
    let shape = random.pick(&SHAPES);
    random.shuffle(&mut order);
    let ways = match shape {
        Shape::Alone => between(&order[..1], &order[1..]),
        Shape::Halves => between(&order[..order.len() / 2], &order[order.len() / 2..]),
        Shape::OneWay => vec![(order[0], order[1])],
        Shape::Mute => {
            let deaf = random.percent(50);
            order[1..].iter().map(|&other| if deaf { (other, order[0]) } else { (order[0], other) }).collect()
        }
        Shape::Bridge => {
            let rest = &order[1..];
            between(&rest[..rest.len() / 2], &rest[rest.len() / 2..])
        }
        Shape::Ring => ring(&order),
    };
    (shape, ways)
}

/// Both directions between two groups.
fn between(one: &[NodeId], other: &[NodeId]) -> Vec<Way> {
    let both = |&a: &NodeId| other.iter().flat_map(move |&b| [(a, b), (b, a)]);
    one.iter().flat_map(both).collect()
}

/// Each node hears from so many before it in the circle that they are a majority with itself.
fn ring(order: &[NodeId]) -> Vec<Way> {
    let (count, reach) = (order.len(), order.len() / 2);
    let mut ways = Vec::new();
    for (place, &to) in order.iter().enumerate() {
        for back in reach + 1..count {
            ways.push((order[(place + count - back) % count], to));
        }
    }
    ways
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ring_leaves_everyone_a_majority() {
        for count in [3, 5] {
            let order: Vec<NodeId> = (1..=count).map(NodeId).collect();
            let ways = ring(&order);
            for node in &order {
                let deaf_to = ways.iter().filter(|(_, to)| to == node).count();
                assert_eq!(count as usize - deaf_to, count as usize / 2 + 1);
            }
        }
    }

    #[test]
    fn shapes_of_two_and_more_nodes_cut_something_or_nothing_twice() {
        for seed in 0..200 {
            let (shape, mut ways) = draw(&mut Random::new(seed), (1..=2 + seed % 4).map(NodeId).collect());
            let count = ways.len();
            ways.sort();
            ways.dedup();
            assert_eq!(ways.len(), count, "{shape}");
            assert!(ways.iter().all(|(from, to)| from != to), "{shape}");
        }
    }
}
