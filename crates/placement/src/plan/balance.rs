//! Places things on nodes so that counts are as equal as can be, and as few as possible go where they were not.
//!
//! # What is best
//!
//! Things are of groups (shards of a keyspace). Each wants so many places, on different nodes. Of all ways to place them, wanted
//! is the one with, in this order of weight,
//!
//! 1. the least sum over groups and nodes of (things of the group on the node)²: equal within one where that can be;
//! 2. the least sum over nodes of (things on the node)²: the same over all groups;
//! 3. the fewest things on a node that they were not on.
//!
//! In no zone are there more of a thing than must be.
//!
//! # How it is found
//!
//! It is a flow of least cost with convex costs: things are sources, nodes are sinks, each further thing on a node costs more
//! than the one before. A flow is the best one exactly when no circle of steps costs less than nothing (Klein, "A Primal Method for
//! Minimal Cost Flows", 1967). So: begin with where things are, give those that lack places the emptiest nodes, then look
//! for such circles (Bellman and Ford's rounds) and go round them until there is none.
//!
//! Steps are drawn between few points, not thousands of things: `u → v` in a group costs what the cheapest thing of the group
//! costs that can go from node u to node v (1 when it was on u and not on v, -1 the other way round, else 0). From a node of a
//! group one may leave to the node itself (its group has one more there) and from there to the outside (the node has one more),
//! and come back elsewhere (one less).
//!
//! ```text
//!     n1: a b c d        n1 → n3 by d              1 move
//!     n2: e f g          n3 → n3's count           0 → 1: 1² - 0² = +1
//!     n3: -              outside → n1's count      4 → 3: 3² - 4² = -7      in all -6: go round
//!
//!     then n1: a b c   n2: e f g   n3: d
//!     n1 → n3 by c: 1 - 0 ... and so on, until 2 3 2 with two moves.
//! ```

/// Something to be placed.
#[derive(Clone, Debug)]
pub struct Thing {
    /// Its group, from 0.
    pub group: usize,
    /// How many places it wants; no more than `had` and `may` have together.
    pub wants: usize,
    /// The nodes that it is on and may stay on, each once.
    pub had: Vec<usize>,
    /// The nodes that it may leave and come to, each once. What it has elsewhere stays.
    pub may: Vec<usize>,
}

/// Nodes, and what is on them besides the things that are placed.
#[derive(Clone, Debug)]
pub struct Board {
    /// The zone of each node, from 0.
    pub zones: Vec<usize>,
    /// By group and node: what is there already and stays.
    pub base: Vec<Vec<i64>>,
    /// By node: what is there and of no group.
    pub rest: Vec<i64>,
}

/// The nodes of each thing, in order.
pub fn balance(board: &Board, things: &[Thing]) -> Vec<Vec<usize>> {
    let mut search = Search::new(board, things);
    search.begin();
    while let Some(circle) = search.circle() {
        search.go_round(circle);
    }
    (0..things.len()).map(|thing| search.on.nodes(thing)).collect()
}

/// A thing that can go from a node to another, and what that costs in moves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) thing: usize,
    pub(super) cost: i64,
}

/// For each thing and node a yes or no.
#[derive(Clone, Debug)]
pub(super) struct Marks {
    nodes: usize,
    marks: Vec<bool>,
}

impl Marks {
    fn of<'a>(nodes: usize, lists: impl Iterator<Item = &'a Vec<usize>>) -> Marks {
        let mut marks = Marks { nodes, marks: Vec::new() };
        for (thing, list) in lists.enumerate() {
            marks.marks.resize((thing + 1) * nodes, false);
            list.iter().for_each(|node| marks.set(thing, *node, true));
        }
        marks
    }

    fn get(&self, thing: usize, node: usize) -> bool {
        self.marks[thing * self.nodes + node]
    }

    fn set(&mut self, thing: usize, node: usize, mark: bool) {
        self.marks[thing * self.nodes + node] = mark;
    }

    /// The nodes that a thing has a yes for.
    pub(super) fn nodes(&self, thing: usize) -> Vec<usize> {
        (0..self.nodes).filter(|node| self.get(thing, *node)).collect()
    }
}

/// Where things are while the best placement is looked for.
pub(super) struct Search<'a> {
    pub(super) zones: &'a [usize],
    pub(super) things: &'a [Thing],
    /// Whether a thing was on a node, whether it may leave it and come to it, whether it is on it.
    was: Marks,
    may: Marks,
    pub(super) on: Marks,
    /// By thing: how many of it may be in one zone; by thing and zone: how many are.
    zone_max: Vec<usize>,
    in_zone: Vec<Vec<usize>>,
    /// By group and node: the things that are there, in order.
    there: Vec<Vec<Vec<usize>>>,
    /// By group and node, and by node: how many are there, with those that are not placed here.
    pub(super) of_group: Vec<Vec<i64>>,
    pub(super) of_all: Vec<i64>,
    /// By group, node and node: the first thing of those that can go from one to the other at the least cost.
    pub(super) steps: Vec<Vec<Vec<Option<Step>>>>,
    /// Likewise: how many things can go at each cost, so that who looks for the first of the cheapest knows when it is found.
    counts: Vec<Vec<Vec<[usize; 3]>>>,
    /// How often it was asked what a step costs: most of the work.
    #[cfg(test)]
    asked: std::cell::Cell<usize>,
}

/// The place of a cost among the three that there are, from -1 to 1.
fn place_of(cost: i64) -> usize {
    usize::try_from(cost + 1).expect("a step saves a move at most")
}

impl<'a> Search<'a> {
    pub(super) fn new(board: &'a Board, things: &'a [Thing]) -> Search<'a> {
        let nodes = board.zones.len();
        let zone_count = board.zones.iter().max().map_or(0, |last| last + 1);
        let of_groups = |node: usize| board.base.iter().map(|of_group| of_group[node]).sum::<i64>();
        let was = Marks::of(nodes, things.iter().map(|thing| &thing.had));
        let may = Marks::of(nodes, things.iter().map(|thing| &thing.may));
        let zone_max = |(id, thing): (usize, &Thing)| {
            let mut places = vec![0; zone_count];
            let can_be = (0..nodes).filter(|node| was.get(id, *node) || may.get(id, *node));
            can_be.for_each(|node| places[board.zones[node]] += 1);
            zone_max(&places, thing.wants)
        };
        Search {
            zones: &board.zones,
            things,
            zone_max: things.iter().enumerate().map(zone_max).collect(),
            on: Marks { nodes, marks: vec![false; things.len() * nodes] },
            was,
            may,
            in_zone: vec![vec![0; zone_count]; things.len()],
            there: vec![vec![Vec::new(); nodes]; board.base.len()],
            of_group: board.base.clone(),
            of_all: (0..nodes).map(|node| board.rest[node] + of_groups(node)).collect(),
            steps: vec![vec![vec![None; nodes]; nodes]; board.base.len()],
            counts: vec![vec![vec![[0; 3]; nodes]; nodes]; board.base.len()],
            #[cfg(test)]
            asked: std::cell::Cell::new(0),
        }
    }

    /// Things stay where they are as far as they may; who lacks a place gets the emptiest node.
    pub(super) fn begin(&mut self) {
        let things = self.things;
        for (id, thing) in things.iter().enumerate() {
            // What stays in any case first: it takes room in its zone.
            let (may, must): (Vec<usize>, Vec<usize>) =
                thing.had.iter().partition(|node| self.may.get(id, **node));
            must.into_iter().take(thing.wants).for_each(|node| self.put(id, node));
            for node in may {
                if self.has_room(id, node) && self.count(id) < thing.wants {
                    self.put(id, node);
                }
            }
        }
        for (id, thing) in things.iter().enumerate() {
            while self.count(id) < thing.wants {
                let free = thing
                    .may
                    .iter()
                    .copied()
                    .filter(|node| !self.on.get(id, *node) && self.has_room(id, *node));
                let of_group = &self.of_group[thing.group];
                let emptiest = free.min_by_key(|node| (of_group[*node], self.of_all[*node], *node));
                self.put(id, emptiest.expect("a thing wants no more places than there are"));
            }
        }
        for group in 0..self.steps.len() {
            (0..self.zones.len()).for_each(|node| self.look(group, node));
        }
    }

    fn count(&self, thing: usize) -> usize {
        self.in_zone[thing].iter().sum()
    }

    fn has_room(&self, thing: usize, node: usize) -> bool {
        self.in_zone[thing][self.zones[node]] < self.zone_max[thing]
    }

    fn put(&mut self, thing: usize, node: usize) {
        let group = self.things[thing].group;
        self.on.set(thing, node, true);
        self.in_zone[thing][self.zones[node]] += 1;
        self.of_group[group][node] += 1;
        self.of_all[node] += 1;
        let there = &mut self.there[group][node];
        there.insert(there.partition_point(|other| *other < thing), thing);
    }

    fn take(&mut self, thing: usize, node: usize) {
        let group = self.things[thing].group;
        self.on.set(thing, node, false);
        self.in_zone[thing][self.zones[node]] -= 1;
        self.of_group[group][node] -= 1;
        self.of_all[node] -= 1;
        let there = &mut self.there[group][node];
        there.remove(there.binary_search(&thing).expect("what is taken is there"));
    }

    /// What a thing costs that goes from a node to another; `None` = it cannot.
    fn step(&self, thing: usize, from: usize, to: usize) -> Option<i64> {
        #[cfg(test)]
        self.asked.set(self.asked.get() + 1);
        let leaves = self.on.get(thing, from) && self.may.get(thing, from);
        let comes = self.may.get(thing, to) && !self.on.get(thing, to);
        let fits = || self.zones[from] == self.zones[to] || self.has_room(thing, to);
        let cost = || i64::from(!self.was.get(thing, to)) - i64::from(!self.was.get(thing, from));
        (leaves && comes && fits()).then(cost)
    }

    /// Finds what can go from a node to each other one.
    fn look(&mut self, group: usize, from: usize) {
        let mut steps: Vec<Option<Step>> = vec![None; self.zones.len()];
        let mut counts = vec![[0; 3]; self.zones.len()];
        for &thing in &self.there[group][from] {
            for &to in &self.things[thing].may {
                let cost = self.step(thing, from, to);
                cost.into_iter().for_each(|cost| counts[to][place_of(cost)] += 1);
                offer(&mut steps[to], thing, cost);
            }
        }
        (self.steps[group][from], self.counts[group][from]) = (steps, counts);
    }

    /// A thing leaves a node for another: only its own steps, from where it is and was, are others.
    pub(super) fn go(&mut self, thing: usize, left: usize, to: usize) {
        self.count_steps(thing, |count| *count -= 1);
        self.take(thing, left);
        self.put(thing, to);
        self.count_steps(thing, |count| *count += 1);
        let (things, group) = (self.things, self.things[thing].group);
        for from in self.on.nodes(thing).into_iter().chain([left]) {
            for &to in &things[thing].may {
                let (cost, mut best) = (self.step(thing, from, to), self.steps[group][from][to]);
                if best.is_some_and(|step| step.thing == thing && Some(step.cost) != cost) {
                    best = self.cheapest(group, from, to);
                }
                offer(&mut best, thing, cost);
                self.steps[group][from][to] = best;
            }
        }
    }

    fn count_steps(&mut self, thing: usize, change: impl Fn(&mut usize)) {
        let (things, group) = (self.things, self.things[thing].group);
        for from in self.on.nodes(thing) {
            for &to in &things[thing].may {
                if let Some(cost) = self.step(thing, from, to) {
                    change(&mut self.counts[group][from][to][place_of(cost)]);
                }
            }
        }
    }

    /// The first thing of those that can go from a node to another at the least cost.
    fn cheapest(&self, group: usize, from: usize, to: usize) -> Option<Step> {
        let counts = &self.counts[group][from][to];
        let least = (-1..=1).find(|cost| counts[place_of(*cost)] > 0)?;
        let is_it = |thing: &&usize| self.step(**thing, from, to) == Some(least);
        let thing = self.there[group][from].iter().find(is_it);
        Some(Step { thing: *thing.expect("what was counted is there"), cost: least })
    }
}

/// Takes a thing's step, if it can be, in place of one that costs more, or as much by a later thing.
fn offer(step: &mut Option<Step>, thing: usize, cost: Option<i64>) {
    let Some(cost) = cost else { return };
    if step.is_none_or(|best| (cost, thing) < (best.cost, best.thing)) {
        *step = Some(Step { thing, cost });
    }
}

/// The fewest that may be in one zone, where each has so many places, so that all have a place.
fn zone_max(places: &[usize], wants: usize) -> usize {
    let room = |most: usize| places.iter().map(|places| most.min(*places)).sum::<usize>();
    (1..=wants).find(|most| room(*most) >= wants).unwrap_or(wants)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn search_looks_at_few_steps_for_each_thing_that_goes() {
        // Three of five nodes have each of many things, and a sixth comes.
        let (nodes, count, wants) = (6, 1024, 3);
        let had = |thing: usize| (0..wants).map(|place| (thing + place) % 5).collect::<Vec<usize>>();
        let thing = |id| Thing { group: 0, wants, had: had(id), may: (0..nodes).collect() };
        let things: Vec<Thing> = (0..count).map(thing).collect();
        let board = Board { zones: (0..nodes).collect(), base: vec![vec![0; nodes]], rest: vec![0; nodes] };
        let mut search = Search::new(&board, &things);
        search.begin();
        let (first, mut circles) = (search.asked.take(), 0);
        assert_eq!(first, count * wants * nodes, "each step of each thing is looked at once");
        while let Some(circle) = search.circle() {
            search.go_round(circle);
            circles += 1;
        }
        assert_eq!(search.of_all, [512; 6]);
        let looks = search.asked.get() / circles;
        assert!(looks <= 20 * wants * nodes, "{looks} looks a circle, of {circles}");
    }
}
