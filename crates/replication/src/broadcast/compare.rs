//! What is missing and no link brings any more: two members compare what they have.
//!
//! Who lacks something looks at the sums of digests of the buckets of another one's table, then at the names of the rows in those that differ, and takes the
//! rows that are newer there (Demers et al., 1987). In the end it has all that the other had when it was asked first: its vector says so.
//!
//! ```text
//!   digests of all buckets ─▶ names in some that differ ─▶ rows that are newer there ─▶ and the ones these took the place of ─▶ next names
//! ```
//!
//! A row whose version this member had before, of whoever made it, is not taken again: where it is gone it was collected, or something newer is in its
//! place. So nothing that was deleted comes back, whatever the other one has. Of a row with a higher floor that is all that is taken.
//!
//! Earlier revisions are named by the rows that took their place, and are taken with them, as far as the other one keeps them.

use kv::merged::{BUCKETS, Found, Look, Named, Rank};
use kv::{Key, NodeId};

use super::message::Message;
use super::{Broadcast, PATIENCE_MICROS, Whose};
use crate::record::Vector;
use crate::{Instant, Output};

/// So many buckets are gone through at once.
const BUCKETS_AT_ONCE: usize = 16;
/// So many rows are brought at once.
const ROWS_AT_ONCE: usize = 512;

/// A comparison with one member.
#[derive(Debug)]
pub(super) struct Compare {
    peer: NodeId,
    /// Of the question that is open.
    number: u64,
    /// Then it is given up.
    until: Instant,
    /// What the other one had when it was asked first.
    had: Option<Vector>,
    own: Option<Found>,
    theirs: Option<Found>,
    at: Place,
    /// Buckets that differ, and are not gone through.
    buckets: Vec<u16>,
    /// The names of those at hand are known up to this key; `None` = all are.
    after: Option<Key>,
    /// Rows to bring, and those that were asked for last.
    take: Vec<Named>,
    asked: Vec<Named>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Digests,
    Names,
    Rows,
}

impl Broadcast {
    /// Whether a comparison is open.
    pub(super) fn is_comparing(&self) -> bool {
        self.compare.is_some()
    }

    /// When a comparison is given up.
    pub(super) fn compare_due(&self) -> Instant {
        self.compare.as_ref().map_or(Instant::MAX, |compare| compare.until)
    }

    /// Begins to compare with a member; one at a time.
    pub(super) fn begin_compare(&mut self, peer: NodeId, out: &mut Vec<Output>) {
        if self.is_comparing() || self.peers.get(&peer).is_none_or(|peer| !peer.is_near) {
            return;
        }
        let (had, own, theirs, buckets, after, take, asked) = Default::default();
        let (number, until, at) = (0, self.now, Place::Digests);
        self.compare =
            Some(Compare { peer, number, until, had, own, theirs, at, buckets, after, take, asked });
        self.ask(Look::Digests { first: 0, count: BUCKETS, width: 1 }, true, out);
    }

    /// Ends a comparison that takes too long, or with a member that is gone. What is missing is asked for again.
    pub(super) fn give_compare_up(&mut self) {
        let now = self.now;
        let is_near = |peer: &NodeId| self.peers.get(peer).is_some_and(|peer| peer.is_near);
        self.compare.take_if(|compare| compare.until <= now || !is_near(&compare.peer));
    }

    fn ask(&mut self, what: Look, here: bool, out: &mut Vec<Output>) {
        self.number += 1;
        let (number, until) = (self.number, self.now.plus(PATIENCE_MICROS));
        let Some(compare) = &mut self.compare else { return };
        (compare.number, compare.until, compare.own, compare.theirs) = (number, until, None, None);
        let peer = compare.peer;
        if here {
            self.look(Whose::Compare(number), what.clone(), out);
        }
        self.send(peer, &Message::Look { number, what }, out);
    }

    /// What the other one found.
    pub(super) fn found_there(
        &mut self,
        from: NodeId,
        number: u64,
        found: Found,
        have: Vector,
        out: &mut Vec<Output>,
    ) {
        if let Some(compare) =
            self.compare.as_mut().filter(|compare| (compare.peer, compare.number) == (from, number))
        {
            compare.theirs = Some(found);
            compare.had.get_or_insert(have);
            self.compare_goes_on(out);
        }
    }

    /// What was found here.
    pub(super) fn found_here(&mut self, number: u64, found: Found, out: &mut Vec<Output>) {
        if let Some(compare) = self.compare.as_mut().filter(|compare| compare.number == number) {
            compare.own = Some(found);
            self.compare_goes_on(out);
        }
    }

    fn compare_goes_on(&mut self, out: &mut Vec<Output>) {
        let Some(compare) = &mut self.compare else { return };
        match (compare.at, compare.own.take(), compare.theirs.take()) {
            (Place::Digests, Some(Found::Digests(own)), Some(Found::Digests(theirs))) => {
                let differs =
                    |bucket: &u16| own.get(usize::from(*bucket)) != theirs.get(usize::from(*bucket));
                compare.buckets = (0..BUCKETS).filter(differs).collect();
                compare.at = Place::Names;
                self.next_names(out);
            }
            (
                Place::Names,
                Some(Found::Names { names: own, next }),
                Some(Found::Names { names: theirs, next: their_next }),
            ) => {
                compare.after = next.into_iter().chain(their_next).min();
                let after = compare.after.clone();
                let is_within = |key: &Key| after.as_ref().is_none_or(|after| key <= after);
                let take = theirs.into_iter().filter(|named| is_within(&named.0) && self.wants(named, &own));
                let take = Vec::from_iter(take);
                if let Some(compare) = &mut self.compare {
                    compare.take = take;
                    if compare.after.is_none() {
                        let done = BUCKETS_AT_ONCE.min(compare.buckets.len());
                        compare.buckets.drain(..done);
                    }
                }
                self.bring(out);
            }
            (Place::Rows, _, Some(Found::Rows { rows, next })) => self.brought(rows, next, out),
            (_, own, theirs) => (compare.own, compare.theirs) = (own, theirs),
        }
    }

    /// Whether a row is to be brought that another one has, with the names that this one has.
    fn wants(&self, (key, rank): &Named, own: &[Named]) -> bool {
        let here = own.binary_search_by(|(other, _)| other.cmp(key)).ok().map(|place| own[place].1);
        let is_same = here.is_some_and(|here| here.version == rank.version);
        // Which may be with an earlier row of the key than the one that is here.
        let is_trimmed = here.is_some_and(|here| here.floor < rank.floor);
        is_trimmed || here < Some(*rank) && (is_same || !self.intake.had(rank.version))
    }

    /// Rows were brought; those that they took the place of are wanted too.
    fn brought(&mut self, rows: Vec<kv::merged::Row>, next: Option<Key>, out: &mut Vec<Output>) {
        let replaced = rows.iter().filter_map(|row| Some((row.key.clone(), row.replaced?)));
        let replaced = replaced.filter(|(_, version)| !self.intake.had(*version));
        let replaced = Vec::from_iter(replaced.map(|(key, version)| (key, Rank::of(version, false))));
        self.counts.repaired += rows.len() as u64;
        if !self.intake.merge_trims(rows) {
            // There is no room: what is missing is asked for again.
            self.compare = None;
            return;
        }
        let Some(compare) = &mut self.compare else { return };
        let asked = std::mem::take(&mut compare.asked);
        let rest = asked.into_iter().filter(|(key, _)| next.as_ref().is_some_and(|next| key >= next));
        compare.take.splice(..0, rest);
        compare.take.extend(replaced);
        compare.take.sort_unstable();
        self.bring(out);
    }

    /// Brings the next rows; else the next names are compared.
    fn bring(&mut self, out: &mut Vec<Output>) {
        let Some(compare) = &mut self.compare else { return };
        if compare.take.is_empty() {
            compare.at = Place::Names;
            return self.next_names(out);
        }
        compare.at = Place::Rows;
        compare.asked = Vec::from_iter(compare.take.drain(..compare.take.len().min(ROWS_AT_ONCE)));
        let look = Look::Rows(compare.asked.clone());
        self.ask(look, false, out);
    }

    fn next_names(&mut self, out: &mut Vec<Output>) {
        let Some(compare) = &self.compare else { return };
        let buckets = Vec::from_iter(compare.buckets.iter().take(BUCKETS_AT_ONCE).copied());
        if !buckets.is_empty() {
            let look = Look::Buckets { buckets, after: compare.after.clone() };
            return self.ask(look, true, out);
        }
        let had = self.compare.take().and_then(|compare| compare.had).unwrap_or_default();
        for (origin, upto) in had {
            self.reach(origin, upto);
        }
    }
}
