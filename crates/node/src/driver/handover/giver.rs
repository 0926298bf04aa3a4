//! Those who hand a shard over: they send copies and what came after, and are sealed when the map says so.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use kv::{Epoch, NodeId, Position, ShardId};
use placement::map::{Change, Phase};
use replication::Input;
use storage::ShardSnapshot;

use super::super::Work;
use super::super::core::Core;
use super::super::split::CutHere;
use super::heir::CopyHeader;
use crate::job::Job;
use crate::node::Node;
use crate::wire::Frame;

/// Bytes of entries that are kept of a shard for the heirs that have a copy: a longer tail is a new copy.
const TAIL_BYTES_MAX: usize = 32 << 20;
/// One answer to an heir holds at most so many bytes, unless a single entry is larger.
const PAGE_BYTES_MAX: usize = 1 << 20;

/// What a replica keeps for those to whom its shard is handed over.
#[derive(Debug)]
pub(in crate::driver) struct Giving {
    tail: Tail,
    /// The nodes to which a copy is on its way.
    copies: BTreeSet<NodeId>,
    /// The nodes that have a copy, and ask what comes after it.
    pub following: BTreeSet<NodeId>,
    /// The nodes that wait for what comes after a copy, and what that has applied.
    asked: BTreeMap<NodeId, Position>,
}

/// The last entries that were given to the table.
#[derive(Debug)]
struct Tail {
    /// The entry before the first.
    base: Position,
    entries: VecDeque<(Position, Bytes)>,
    bytes: usize,
}

impl Tail {
    fn new(base: Position) -> Tail {
        Tail { base, entries: VecDeque::new(), bytes: 0 }
    }

    fn last(&self) -> Position {
        self.entries.back().map_or(self.base, |(at, _)| *at)
    }

    fn push(&mut self, at: Position, entry: Bytes) {
        assert_eq!(at.index, self.last().index.next(), "entries are given to the table in order");
        self.bytes += size(&entry);
        self.entries.push_back((at, entry));
        while self.bytes > TAIL_BYTES_MAX {
            let (at, entry) = self.entries.pop_front().expect("what has bytes has entries");
            self.bytes -= size(&entry);
            self.base = at;
        }
    }

    /// A page of what came after an entry; `None` = that is not known any more.
    fn page(&self, above: Position) -> Option<Vec<(Position, Bytes)>> {
        let skip = above.index.0.checked_sub(self.base.index.0)? as usize;
        let known = match skip {
            0 => self.base,
            _ => self.entries.get(skip - 1)?.0,
        };
        let mut bytes = 0;
        let fits = |(_, entry): &&(Position, Bytes)| {
            let is_first = bytes == 0;
            bytes += size(entry);
            is_first || bytes <= PAGE_BYTES_MAX
        };
        (known == above).then(|| self.entries.iter().skip(skip).take_while(fits).cloned().collect())
    }
}

/// What an entry counts, so that many small ones are bounded too.
fn size(entry: &Bytes) -> usize {
    entry.len() + 64
}

impl Giving {
    fn new(base: Position) -> Giving {
        let (copies, following, asked) = Default::default();
        Giving { tail: Tail::new(base), copies, following, asked }
    }

    /// The nodes that have a copy, or to which one is on its way.
    pub fn heirs(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.copies.union(&self.following).copied()
    }

    /// An entry is given to the table.
    pub fn push(&mut self, at: Position, entry: Bytes) {
        self.tail.push(at, entry);
    }
}

impl Core {
    /// Seals the replicas whose shards change over to heirs, and forgets what was kept for heirs that are none any more.
    pub fn seal_replicas(&mut self, node: &Node) {
        let mut sealed = Vec::new();
        for (&shard, replica) in &mut self.replicas {
            let Some(change) = handed_over(node, shard, replica.view().epoch) else {
                replica.giving = None;
                replica.cut = CutHere::default();
                continue;
            };
            if change.phase == Phase::Switch && replica.sealed.is_none() {
                let among = change.to.iter().map(|member| member.node).collect();
                sealed.push((shard, Input::Seal { next: change.epoch, among }));
            }
        }
        for (shard, seal) in sealed {
            self.give(shard, seal);
        }
    }

    /// A replica orders nothing more.
    pub fn sealed(&mut self, shard: ShardId, at: Position) {
        let replica = self.replicas.get_mut(&shard).expect("a replica that has outputs is there");
        assert!(replica.sealed.is_none_or(|before| before == at), "a seal stands where it stands");
        if replica.sealed.replace(at).is_none() {
            let epoch = replica.view().epoch;
            tracing::info!(%shard, %epoch, %at, "a shard is sealed: its heirs go on with it");
        }
        replica.given = Some(at);
        self.give_end(shard);
    }

    /// Another node inherits a shard, and has nothing of it yet.
    pub fn take_want_copy(&mut self, node: &Node, to: NodeId, shard: ShardId, epoch: Epoch) {
        if !gives(node, shard, epoch, to) {
            return;
        }
        let Some(replica) = self.replicas.get_mut(&shard).filter(|replica| replica.view().epoch == epoch)
        else {
            return;
        };
        let Some(given) = replica.given else { return };
        let giving = replica.giving.get_or_insert_with(|| Giving::new(given));
        giving.following.remove(&to);
        giving.asked.remove(&to);
        if giving.copies.insert(to) {
            self.work.push(Work::Run(Job::Snapshot { shard, to }));
        }
    }

    /// A snapshot was taken: if it is a copy for an heir, it goes there.
    pub fn copy_made(
        &mut self,
        shard: ShardId,
        to: NodeId,
        snapshot: Box<ShardSnapshot>,
    ) -> Option<Box<ShardSnapshot>> {
        let replica = self.replicas.get_mut(&shard);
        let is_copy = replica
            .as_ref()
            .is_some_and(|replica| replica.giving.as_ref().is_some_and(|giving| giving.copies.contains(&to)));
        let Some(replica) = replica.filter(|_| is_copy) else { return Some(snapshot) };
        let at = Position::new(snapshot.applied.index, snapshot.applied.term);
        let header = CopyHeader { epoch: replica.view().epoch, at }.encode();
        self.work.push(Work::SendSnapshot { shard, to, header, snapshot });
        None
    }

    /// A snapshot has arrived at a node, or not. Whether it was a copy for an heir.
    pub fn copy_sent(&mut self, shard: ShardId, to: NodeId) -> bool {
        let giving = self.replicas.get_mut(&shard).and_then(|replica| replica.giving.as_mut());
        giving.is_some_and(|giving| giving.copies.remove(&to))
    }

    /// An heir that has a copy wants what came after it: it is said at the end of a turn in which there is something.
    pub fn take_want_tail(
        &mut self,
        node: &Node,
        to: NodeId,
        shard: ShardId,
        (epoch, above): (Epoch, Position),
    ) {
        if !gives(node, shard, epoch, to) {
            return;
        }
        let Some(replica) = self.replicas.get_mut(&shard).filter(|replica| replica.view().epoch == epoch)
        else {
            return;
        };
        if replica.giving.is_none() && replica.given == Some(above) {
            replica.giving = Some(Giving::new(above));
        }
        let Some(giving) = &mut replica.giving else {
            let frame = Frame::Tail { shard, epoch, above, entries: None, sealed: None };
            return self.send(to, &frame);
        };
        giving.following.insert(to);
        giving.asked.insert(to, above);
        self.tails_asked.insert(shard);
    }

    /// Answers the heirs for which there is something.
    pub fn answer_tails(&mut self) {
        let mut frames = Vec::new();
        let mut answered = Vec::new();
        for &shard in &self.tails_asked {
            let replica = self.replicas.get_mut(&shard);
            let Some((giving, sealed, epoch)) = replica.and_then(|replica| {
                let epoch = replica.view().epoch;
                Some((replica.giving.as_mut()?, replica.sealed, epoch))
            }) else {
                answered.push(shard);
                continue;
            };
            let Giving { tail, asked, following, .. } = giving;
            asked.retain(|&to, &mut above| {
                let entries = tail.page(above);
                let is_news = sealed.is_some() || entries.as_ref().is_none_or(|entries| !entries.is_empty());
                if is_news {
                    if entries.is_none() {
                        following.remove(&to);
                    }
                    frames.push((to, Frame::Tail { shard, epoch, above, entries, sealed }));
                }
                !is_news
            });
            if asked.is_empty() {
                answered.push(shard);
            }
        }
        for shard in answered {
            self.tails_asked.remove(&shard);
        }
        for (to, frame) in frames {
            self.send(to, &frame);
        }
    }
}

/// The change by which a shard is handed over from an epoch, if the map says so.
pub(super) fn handed_over(node: &Node, shard: ShardId, epoch: Epoch) -> Option<&Change> {
    let map = &node.config.map;
    let row = map.shards.get(&shard).filter(|row| row.epoch == epoch)?;
    map.changes.get(&shard).filter(|change| change.epoch > row.epoch)
}

/// Whether a shard is handed over from an epoch to a node.
fn gives(node: &Node, shard: ShardId, epoch: Epoch, to: NodeId) -> bool {
    let change = handed_over(node, shard, epoch);
    change.is_some_and(|change| change.to.iter().any(|member| member.node == to))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(index: u64) -> Position {
        Position::new(index, 1)
    }

    fn tail(sizes: &[usize]) -> Tail {
        let mut tail = Tail::new(at(7));
        let entry = |(place, &size): (usize, &usize)| (at(8 + place as u64), Bytes::from(vec![0; size]));
        sizes.iter().enumerate().map(entry).for_each(|(at, entry)| tail.push(at, entry));
        tail
    }

    fn page(tail: &Tail, above: Position) -> Option<Vec<u64>> {
        tail.page(above).map(|entries| entries.iter().map(|(at, _)| at.index.0).collect())
    }

    #[test]
    fn tail_is_told_page_by_page_to_who_has_what_is_before_it() {
        let tail = tail(&[0, 10, PAGE_BYTES_MAX, 2 * PAGE_BYTES_MAX, 1]);
        let pages: Vec<_> = (7..=12).map(|index| page(&tail, at(index)).unwrap()).collect();
        assert_eq!(pages, [vec![8, 9], vec![9], vec![10], vec![11], vec![12], vec![]]);
    }

    #[test]
    fn tail_is_not_told_to_who_has_something_else() {
        let tail = tail(&[1, 1]);
        let other_term = Position::new(8, 2);
        for above in [at(6), at(10), other_term, Position::new(u64::MAX, 1)] {
            assert_eq!(page(&tail, above), None, "{above}");
        }
    }

    #[test]
    fn tail_too_long_begins_later() {
        let tail = tail(&[TAIL_BYTES_MAX, 1, 1]);
        assert_eq!([at(7), at(8)].map(|at| page(&tail, at)), [None, Some(vec![9, 10])]);
        assert_eq!(tail.bytes, 2 * (1 + 64));
    }
}
