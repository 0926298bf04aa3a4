//! Rows of several replicas, merged: of each key the newest.

use std::collections::BTreeMap;

use super::{Rank, Row};
use crate::{Direction, Key};

/// Of each key the row of the highest rank that was seen. Of pages of a range it has what all of them reach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Newest {
    rows: BTreeMap<Key, Row>,
    direction: Direction,
    /// The first place at which one of the pages ended: behind this key not all of them have said what they hold.
    reach: Option<Key>,
}

impl Newest {
    /// None yet, for pages in an order; for rows asked for by key any order does.
    pub fn of(direction: Direction) -> Newest {
        Newest { direction, ..Newest::default() }
    }

    /// Takes a row in, if it is the newest of its key, or its floor is higher; returns whether it is news.
    pub fn add(&mut self, row: Row) -> bool {
        let Some(known) = self.rows.get_mut(&row.key) else {
            self.rows.insert(row.key.clone(), row);
            return true;
        };
        let floor = known.floor.max(row.floor);
        let (is_newer, is_trimmed) = (row.rank().revision() > known.rank().revision(), floor > known.floor);
        if is_newer {
            *known = row;
        }
        known.floor = floor;
        is_newer || is_trimmed
    }

    /// Takes in what a replica found in a range.
    pub fn add_page(&mut self, rows: Vec<Row>, next: Option<Key>) {
        if let Some(next) = next {
            let is_nearer = self.reach.as_ref().is_none_or(|reach| self.is_behind(reach, &next));
            if is_nearer {
                self.reach = Some(next);
            }
        }
        for row in rows {
            self.add(row);
        }
        if let Some(reach) = self.reach.clone() {
            let direction = self.direction;
            self.rows.retain(|key, _| !is_behind(direction, key, &reach));
        }
    }

    /// The newest row of a key, which may be a tombstone.
    pub fn get(&self, key: &[u8]) -> Option<&Row> {
        self.rows.get(key)
    }

    /// The rank of the newest row of a key.
    pub fn rank(&self, key: &[u8]) -> Option<Rank> {
        self.get(key).map(Row::rank)
    }

    /// All rows, in the order of the pages.
    pub fn rows(&self) -> Box<dyn Iterator<Item = &Row> + '_> {
        match self.direction {
            Direction::Forward => Box::new(self.rows.values()),
            Direction::Backward => Box::new(self.rows.values().rev()),
        }
    }

    /// The key behind which a range goes on; `None` = all pages came to its end.
    pub fn next(&self) -> Option<&Key> {
        self.reach.as_ref()
    }

    fn is_behind(&self, key: &Key, place: &Key) -> bool {
        is_behind(self.direction, key, place)
    }
}

/// Whether a key comes after another in an order.
fn is_behind(direction: Direction, key: &Key, place: &Key) -> bool {
    match direction {
        Direction::Forward => key > place,
        Direction::Backward => key < place,
    }
}
