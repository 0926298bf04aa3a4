//! Circles of steps that cost less than nothing: each makes a placement better, and without any it is the best.
//!
//! A circle goes over points: each node in each group, each node, and the outside. See the drawing in `balance`.

use super::balance::Search;

/// Of groups' counts, of nodes' counts, of moves: compared in this order.
type Cost = [i64; 3];

const NOTHING: Cost = [0; 3];

fn sum(one: Cost, other: Cost) -> Cost {
    [one[0] + other[0], one[1] + other[1], one[2] + other[2]]
}

/// What one more costs where there are so many: (n + 1)² - n².
fn one_more(count: i64) -> i64 {
    2 * count + 1
}

/// Circles of steps that cost less than nothing.
impl Search<'_> {
    /// The points: each node in each group, then each node, then the outside.
    fn points(&self) -> usize {
        (self.of_group.len() + 1) * self.zones.len() + 1
    }

    /// Calls `visit` with each step: from, to, cost. In the order in which a circle has them, so that one round finds most.
    fn for_each_step(&self, visit: &mut impl FnMut(usize, usize, Cost)) {
        let nodes = self.zones.len();
        let (first_node, outside) = (self.of_group.len() * nodes, self.points() - 1);
        for (node, &count) in self.of_all.iter().enumerate() {
            visit(outside, first_node + node, [0, -one_more(count - 1), 0]);
        }
        let of_groups = || self.of_group.iter().flatten().copied().enumerate();
        for (here, count) in of_groups().filter(|(_, count)| *count > 0) {
            visit(first_node + here % nodes, here, [-one_more(count - 1), 0, 0]);
        }
        for (here, steps) in self.steps.iter().flatten().enumerate() {
            let first = here - here % nodes;
            for (to, step) in steps.iter().enumerate() {
                if let Some(step) = step {
                    visit(here, first + to, [0, 0, step.cost]);
                }
            }
        }
        for (here, count) in of_groups() {
            visit(here, first_node + here % nodes, [one_more(count), 0, 0]);
        }
        for (node, &count) in self.of_all.iter().enumerate() {
            visit(first_node + node, outside, [0, one_more(count), 0]);
        }
    }

    /// Some circle that costs less than nothing: its points, in order.
    pub(super) fn circle(&self) -> Option<Vec<usize>> {
        let points = self.points();
        let (mut least, mut before) = (vec![NOTHING; points], vec![usize::MAX; points]);
        loop {
            let mut is_less = false;
            self.for_each_step(&mut |from, to, cost| {
                let cost = sum(least[from], cost);
                if cost < least[to] {
                    (least[to], before[to]) = (cost, from);
                    is_less = true;
                }
            });
            if !is_less {
                return None;
            }
            if let Some(circle) = circle_of(&before) {
                return Some(circle);
            }
        }
    }

    /// Goes round a circle: each step within a group moves a thing; all others are counts, which follow.
    pub(super) fn go_round(&mut self, circle: Vec<usize>) {
        if let Some(part) = self.part(&circle) {
            return self.go_round(part);
        }
        let moves: Vec<(usize, usize, usize)> =
            steps_of(&circle).filter_map(|(from, to)| self.moved(from, to)).collect();
        for (thing, from, to) in moves {
            self.go(thing, from, to);
        }
    }

    /// The thing that a step moves, from which node and to which.
    fn moved(&self, from: usize, to: usize) -> Option<(usize, usize, usize)> {
        let nodes = self.zones.len();
        let is_move = from.max(to) < self.of_group.len() * nodes;
        let step =
            || self.steps[from / nodes][from % nodes][to % nodes].expect("a circle has steps that are there");
        is_move.then(|| (step().thing, from % nodes, to % nodes))
    }

    /// Where a circle takes one thing into one zone twice, there may be room for one only. Then it is two circles in truth,
    /// a → b … e → f … and e → b …, a → f …, which cost as much together: the one of them that costs less than nothing.
    fn part(&self, circle: &[usize]) -> Option<Vec<usize>> {
        let mut entries: Vec<(usize, usize, usize)> = Vec::new();
        for (place, (from, to)) in steps_of(circle).enumerate() {
            let Some((thing, from, to)) = self.moved(from, to) else { continue };
            let zone = self.zones[to];
            if self.zones[from] == zone {
                continue;
            }
            let same = |(_, other, into): &&(usize, usize, usize)| (*other, *into) == (thing, zone);
            if let Some((first, _, _)) = entries.iter().find(same) {
                let inner = circle[first + 1..=place].to_vec();
                let outer = [&circle[place + 1..], &circle[..=*first]].concat();
                let cost = |circle: &[usize]| {
                    steps_of(circle).map(|(from, to)| self.cost(from, to)).fold(NOTHING, sum)
                };
                return Some(if cost(&inner) < NOTHING { inner } else { outer });
            }
            entries.push((place, thing, zone));
        }
        None
    }

    /// What a step costs.
    fn cost(&self, from: usize, to: usize) -> Cost {
        let nodes = self.zones.len();
        let (first_node, outside) = (self.of_group.len() * nodes, self.points() - 1);
        let of_group = |point: usize| self.of_group[point / nodes][point % nodes];
        match (from < first_node, to < first_node) {
            (true, true) => {
                let step = self.steps[from / nodes][from % nodes][to % nodes];
                [0, 0, step.expect("a circle has steps that are there").cost]
            }
            (true, false) => [one_more(of_group(from)), 0, 0],
            (false, true) => [-one_more(of_group(to) - 1), 0, 0],
            (false, false) if to == outside => [0, one_more(self.of_all[from - first_node]), 0],
            (false, false) => [0, -one_more(self.of_all[to - first_node] - 1), 0],
        }
    }
}

/// The steps of a circle, each from a point to the next.
fn steps_of(circle: &[usize]) -> impl Iterator<Item = (usize, usize)> + '_ {
    circle.iter().copied().zip(circle.iter().copied().cycle().skip(1))
}

/// A circle among the points, if there is one, where each names the one before it.
fn circle_of(before: &[usize]) -> Option<Vec<usize>> {
    // Each point is passed once: marked with where the walk began that passed it.
    let mut marks = vec![usize::MAX; before.len()];
    for start in 0..before.len() {
        let mut point = start;
        while point != usize::MAX && marks[point] == usize::MAX {
            marks[point] = start;
            point = before[point];
        }
        if point != usize::MAX && marks[point] == start && before[point] != usize::MAX {
            let mut circle = vec![point];
            let mut next = before[point];
            while next != point {
                circle.push(next);
                next = before[next];
            }
            circle.reverse();
            return Some(circle);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::balance::{Board, Thing};
    use super::*;

    #[test]
    fn circle_that_takes_a_thing_into_one_zone_twice_is_parted() {
        // Thing 0 is on nodes 0 and 2, and may have one place in the zone of nodes 1 and 3. It comes from 1 and 2. Things 1 and
        // 2 are on nodes 1 and 3, and come from elsewhere.
        let thing = |wants, had: &[usize], may: &[usize]| Thing {
            group: 0,
            wants,
            had: had.to_vec(),
            may: may.to_vec(),
        };
        let things = [thing(2, &[1, 2], &[0, 1, 2, 3]), thing(1, &[2], &[1, 2]), thing(1, &[0], &[0, 3])];
        let board = Board { zones: vec![0, 1, 2, 1], base: vec![vec![0; 4]], rest: vec![0; 4] };
        let mut search = Search::new(&board, &things);
        search.begin();
        for (thing, from, to) in [(0, 1, 0), (1, 2, 1), (2, 0, 3)] {
            search.go(thing, from, to);
        }
        search.go_round(vec![0, 1, 2, 3]);
        let places: Vec<Vec<usize>> = (0..3).map(|thing| search.on.nodes(thing)).collect();
        assert!(places[0].iter().filter(|node| [1, 3].contains(*node)).count() <= 1, "{places:?}");
        assert_eq!(places, [vec![0, 1], vec![2], vec![3]], "the first part alone, which saves a move");
    }
}
