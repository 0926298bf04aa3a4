//! What members that weigh R hold of some keys, put together.

use std::collections::{BTreeMap, BTreeSet};

use kv::merged::{Found, Look, Named, Newest, Row};
use kv::{Direction, Key, NodeId, Value, Version};
use mutant::Mutant;

use super::rounds::Got;

/// The newest rows of some keys, or of a page of a range, and who holds them.
#[derive(Clone, Debug)]
pub(super) struct Gather {
    wanted: Look,
    pub(super) newest: Newest,
    /// What each of those heard showed, in the order of its keys. Who showed the newest row of a key holds it.
    shown: BTreeMap<NodeId, Vec<Named>>,
    /// The newest version that one of those heard ever held.
    pub(super) last: Version,
    /// Who was heard.
    pub(super) heard: BTreeSet<NodeId>,
    /// Values are left out.
    is_bare: bool,
    /// Of the rows that were found.
    pub(super) bytes: usize,
}

impl Gather {
    /// For this; keys in any order.
    pub(super) fn new(look: Look) -> Gather {
        let (wanted, direction) = match look {
            Look::Keys(mut keys) => {
                keys.sort_unstable();
                keys.dedup();
                (Look::Keys(keys), Direction::Forward)
            }
            Look::Range { direction, .. } => (look, direction),
            other => (other, Direction::Forward),
        };
        let (newest, last) = (Newest::of(direction), Version::ZERO);
        let (shown, heard, is_bare, bytes) = Default::default();
        Gather { wanted, newest, shown, last, heard, is_bare, bytes }
    }

    /// The same, for who needs to know of values only that they are there.
    pub(super) fn bare(look: Look) -> Gather {
        Gather { is_bare: true, ..Gather::new(look) }
    }

    /// Whether all is known of what one of those who ask looks for.
    pub(super) fn knows(&self, look: &Look) -> bool {
        match (look, &self.wanted) {
            (Look::Keys(keys), Look::Keys(wanted)) => {
                keys.iter().all(|key| wanted.binary_search(key).is_err())
            }
            _ => false,
        }
    }

    /// What is to be asked for.
    pub(super) fn look(&self) -> Look {
        self.wanted.clone()
    }

    /// Takes in what enough members hold. Whether that is all; if not, there is more to [look](Gather::look) for.
    pub(super) fn take(&mut self, got: BTreeMap<NodeId, Got>) -> bool {
        let mut pages = Vec::new();
        for (node, got) in got {
            let Got::Found(Found::Rows { rows, next }, last) = got else { continue };
            self.last = self.last.max(last);
            self.heard.insert(node);
            pages.push((node, rows, next));
        }
        match &mut self.wanted {
            // Of keys that were asked for by name `next` is the first that was not looked at.
            Look::Keys(keys) => {
                let reach = pages.iter().filter_map(|(.., next)| next.clone()).min();
                let is_within = |key: &Key| reach.as_ref().is_none_or(|reach| key < reach);
                keys.retain(|key| !is_within(key));
                let is_all = keys.is_empty();
                for (node, rows, _) in pages {
                    let rows = rows.into_iter().filter(|row| is_within(&row.key)).collect();
                    self.add(node, rows, None);
                }
                is_all
            }
            _ => {
                pages.into_iter().for_each(|(node, rows, next)| self.add(node, rows, next));
                true
            }
        }
    }

    fn add(&mut self, node: NodeId, mut rows: Vec<Row>, next: Option<Key>) {
        if self.is_bare {
            rows.iter_mut().for_each(|row| row.value = row.value.take().map(|_| Value::new()));
        }
        let shown = self.shown.entry(node).or_default();
        for row in &rows {
            self.bytes += row.bytes();
            self.last = self.last.max(row.version);
            shown.push((row.key.clone(), row.rank()));
        }
        // As a rule they are.
        if !shown.is_sorted() {
            shown.sort_unstable();
        }
        self.newest.add_page(rows, next);
    }

    /// The values whose time is over by `clock` are gone: that is a row as well, which nobody holds yet.
    pub(super) fn expire(&mut self, clock: Version) {
        let is_over = |row: &&Row| !row.is_live_at(clock);
        let expire = |row: &Row| expire(row, clock);
        let over = Vec::from_iter(self.newest.rows().filter(is_over).filter_map(expire));
        over.into_iter().for_each(|row| self.made(row));
    }

    /// The same for one key.
    pub(super) fn expire_key(&mut self, key: &Key, clock: Version) {
        let is_over = |row: &&Row| !row.is_live_at(clock);
        let over = self.newest.get(key).filter(is_over).and_then(|row| expire(row, clock));
        over.into_iter().for_each(|row| self.made(row));
    }

    /// A row is made above what was found: nobody holds it yet.
    pub(super) fn made(&mut self, row: Row) {
        self.newest.add(row);
    }

    /// Who holds the newest row of a key, each once.
    pub(super) fn holders(&self, row: &Row) -> impl Iterator<Item = NodeId> + Clone {
        let of = move |(key, rank): &Named| (key, *rank).cmp(&(&row.key, row.rank()));
        let holds = move |shown: &[Named]| shown.binary_search_by(of).is_ok();
        self.shown.iter().filter(move |(_, shown)| holds(shown)).map(|(node, _)| *node)
    }
}

/// The expiry of a value; it has the version of that, for a value that was put since is newer.
fn expire(row: &Row, clock: Version) -> Option<Row> {
    let expired = row.expire()?;
    Some(match mutant::is(Mutant::ExpiryAsNewerVersion) {
        true => Row::tombstone(row.key.clone(), clock, Some(row.version)),
        false => expired,
    })
}
