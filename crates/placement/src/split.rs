//! A shard becomes several: its range of slots is cut, and each part goes on as a shard of its own.
//!
//! # How a keyspace gets more shards
//!
//! [`Event::Alter`](crate::Event::Alter) says how many it is to have. Which shards are cut into how many follows at once, and is
//! written beside them (a row `split/SHARD`): each shard is to be one at least, and what is left goes, one after the other, to the
//! shard whose parts would have the most slots otherwise. So the parts are as equal as the cuts that are there already allow, and no
//! cut is ever moved.
//!
//! ```text
//!   3 shards of     5461        5461        5462 slots, 7 are asked for
//!   parts           2           2           3
//!   shards of       2730 2731   2730 2731   1820 1821 1821
//! ```
//!
//! The plan begins a few at a time, as it begins moves. What it begins is a change of the shard like any other, in a later epoch and
//! with the nodes that it has; the row says which shards come of it, with ids that are never given again:
//!
//! ```text
//!   split/3 count 3                        waits for its turn; until then members may move
//!   split/3 count 3, parts 9 10 11         with change/3 to the same nodes, epoch 2: Copy, then Switch
//!   shard/9 shard/10 shard/11              and no shard/3, split/3, change/3 any more
//! ```
//!
//! In phase `Switch` the parts are asked instead of the shard ([`Map::owners_of`]), though their rows come only when most members of each
//! have opened: the shard orders nothing more by then, and who leads a part serves from its first moment.
//!
//! # What holds
//!
//! - The parts have all slots of the shard, each once, in order ([`Map::check`]).
//! - A shard has one change at a time: it moves, or is cut.
//! - A shard that is cut stays so: there is no way back to fewer.

use std::collections::BTreeMap;

use kv::keyspace::SHARDS_TOTAL_MAX;
use kv::view::{Duty, Member, Revision};
use kv::{Epoch, NodeId, Protocol, ReplicaId, ShardId, Slot, SlotRange};

use crate::map::{Change, Map, Part, Phase, Shard, Split, Why};
use crate::refusal::Refusal;

impl Map {
    /// The part of a shard that is being cut, by the part's id: the shard, its row, its change and the part.
    pub fn part(&self, id: ShardId) -> Option<(ShardId, &Shard, &Change, &Part)> {
        let begun = self.splits.iter().filter(|(_, split)| !split.parts.is_empty());
        let (from, part) = begun
            .flat_map(|(from, split)| split.parts.iter().map(move |part| (*from, part)))
            .find(|(_, part)| part.shard == id)?;
        Some((from, self.shards.get(&from)?, self.changes.get(&from)?, part))
    }

    /// The parts that a shard is being cut into; none when it is not.
    pub fn parts_of(&self, shard: ShardId) -> &[Part] {
        self.splits.get(&shard).map_or(&[], |split| &split.parts)
    }

    /// The parts of a shard that are asked in its place: it orders nothing more, or is about to.
    pub fn owners_of(&self, shard: ShardId) -> Option<&[Part]> {
        let switches = self.changes.get(&shard).is_some_and(|change| change.phase == Phase::Switch);
        Some(self.parts_of(shard)).filter(|parts| switches && !parts.is_empty())
    }

    /// Whether requests are given to a shard: it has a row and its parts are not asked in its place, or it is such a part.
    pub fn is_asked(&self, shard: ShardId) -> bool {
        match self.shards.contains_key(&shard) {
            true => self.owners_of(shard).is_none(),
            false => self.part(shard).is_some_and(|(.., change, _)| change.phase == Phase::Switch),
        }
    }

    /// Where the requests for a shard's keys go: to itself, or to its parts where they are asked in its place.
    pub fn asked_for(&self, id: ShardId, shard: &Shard) -> Vec<(ShardId, SlotRange)> {
        match self.owners_of(id) {
            Some(parts) => parts.iter().map(|part| (part.shard, part.slots)).collect(),
            None => vec![(id, shard.slots)],
        }
    }

    /// The row that a part will have.
    pub fn row_of_part(&self, id: ShardId) -> Option<Shard> {
        let (from, shard, change, part) = self.part(id)?;
        Some(row_of(shard, change, part, self.protocol_after(from, shard)))
    }

    /// A keyspace is to have so many shards.
    pub(crate) fn split(&mut self, keyspace: &str, wants: usize) -> Result<(), Refusal> {
        let own: Vec<(ShardId, usize)> =
            self.shards_of(keyspace).iter().map(|(id, shard)| (*id, size(shard.slots))).collect();
        let has = own.len();
        let splits = || own.iter().filter_map(|(id, _)| self.splits.get(id));
        let will: usize = has + splits().map(|split| usize::from(split.count) - 1).sum::<usize>();
        if wants == will {
            return Ok(());
        }
        let merged = own.iter().map(|(id, _)| self.shards[id].protocol).find(|protocol| protocol.is_merged());
        if let Some(protocol) = merged {
            return Err(Refusal::Invalid(format!(
                "the shards of keyspace '{keyspace}' stay as they are under {protocol}: create another with --shards {wants}, and bring what is \
                 in it there"
            )));
        }
        if splits().next().is_some() {
            return Err(Refusal::Splitting { keyspace: keyspace.into(), shards: will });
        }
        if wants < has {
            return Err(Refusal::FewerShards { keyspace: keyspace.into(), shards: has });
        }
        if self.is_recast(keyspace) {
            return Err(Refusal::OneByOne(keyspace.into()));
        }
        let (are, more) = (self.shards.len(), wants - has);
        if are + more > SHARDS_TOTAL_MAX {
            return Err(Refusal::TooManyShards { are, more, most: SHARDS_TOTAL_MAX });
        }
        for (id, count) in counts(&own, wants) {
            self.splits.insert(id, Split { count, protocol: None, parts: Vec::new() });
        }
        Ok(())
    }

    /// Begins to cut a shard that is to be cut, or to have it go on under another protocol.
    pub(crate) fn begin_split(&mut self, id: ShardId) {
        let shard = &self.shards[&id];
        let is_alone = self.splits.get(&id).and_then(|split| split.protocol) == Some(Protocol::Single);
        let alone = self.goes_on_alone(shard).map_or(shard.leader, |member| member.node);
        let go_on = self.go_on(id, shard).unwrap_or_else(|| shard.members.clone());
        let split = self.splits.get_mut(&id).expect("a shard that begins to be cut is to be cut");
        let stays = |member: &&Member| !is_alone || member.node == alone;
        let numbered = go_on.iter().filter(stays).zip(1..);
        let mut to: Vec<Member> = numbered
            .map(|(member, number)| Member {
                replica: ReplicaId(number),
                duty: Duty::Voter,
                weight: 1,
                ..*member
            })
            .collect();
        if split.protocol.unwrap_or(shard.protocol).is_merged() {
            self.keyspaces[&shard.keyspace].weigh(&mut to);
        }
        let nodes: Vec<NodeId> = to.iter().map(|member| member.node).collect();
        let first = nodes.iter().position(|node| *node == shard.leader).unwrap_or(0);
        let (epoch, slots) = (Epoch(shard.epoch.0 + 1), shard.slots);
        let ranges = cut(slots, split.count);
        split.parts = ranges
            .into_iter()
            .enumerate()
            .map(|(place, slots)| Part {
                shard: ShardId(self.next_shard.0 + place as u32),
                slots,
                leader: nodes[(first + place) % nodes.len()],
            })
            .collect();
        self.next_shard.0 += u32::from(split.count);
        let why = if split.protocol.is_some() { Why::Protocol } else { Why::Split };
        self.changes.insert(id, Change { to, epoch, phase: Phase::Copy, why });
    }

    /// Gives up the change of a shard whose members have not begun to change over.
    pub(crate) fn abort(&mut self, id: ShardId) -> Result<(), Refusal> {
        let row = &self.shards[&id];
        match self.changes[&id].why {
            Why::Protocol => {
                let (keyspace, protocol) = (row.keyspace.clone(), row.protocol);
                return Err(Refusal::AbortRecast { shard: id, keyspace, protocol });
            }
            // What is not begun again at once is given up: a shard that was to be cut stays as it is.
            Why::Split => drop(self.splits.remove(&id)),
            _ => {}
        }
        self.changes.remove(&id);
        Ok(())
    }

    /// Forgets the parts of shards whose change was given up: those that are to be cut are cut later.
    pub(crate) fn give_up_parts(&mut self) {
        let (changes, splits) = (&self.changes, &mut self.splits);
        splits.retain(|id, split| split.protocol.is_none() || changes.contains_key(id));
        let idle = splits.iter_mut().filter(|(id, _)| !changes.contains_key(*id));
        idle.for_each(|(_, split)| split.parts.clear());
    }

    /// The parts have opened: they are shards from now on.
    pub(crate) fn finish_split(&mut self, id: ShardId) -> Result<(), Refusal> {
        let parts = self.splits.get(&id).map_or(Vec::new(), |split| split.parts.clone());
        let rows: Vec<_> =
            parts.iter().filter_map(|part| Some((part.shard, self.row_of_part(part.shard)?))).collect();
        if rows.is_empty() {
            return Err(Refusal::NoChange(id));
        }
        self.shards.remove(&id);
        self.changes.remove(&id);
        self.splits.remove(&id);
        self.shards.extend(rows);
        Ok(())
    }

    /// What must hold of what is cut, and is to be.
    pub(crate) fn check_splits(&self) -> Result<(), String> {
        let mut ids = BTreeMap::new();
        for (id, split) in &self.splits {
            let shard = self.shards.get(id).ok_or_else(|| format!("split of shard {id}, which is none"))?;
            let is_split = self.changes.get(id).is_some_and(|change| change.why.makes_parts());
            let is_recast = split.protocol.is_some_and(|protocol| protocol != shard.protocol);
            let is_sound = if is_recast { split.count == 1 && is_split } else { split.count > 1 };
            if !is_sound || usize::from(split.count) > size(shard.slots) {
                return Err(format!("shard {id} cannot be cut into {}", split.count));
            }
            if is_split == split.parts.is_empty() {
                return Err(format!("shard {id} is cut into parts, and its change says otherwise"));
            }
            let ranges: Vec<SlotRange> = split.parts.iter().map(|part| part.slots).collect();
            if is_split && ranges != cut(shard.slots, split.count) {
                return Err(format!("the parts of shard {id} do not have its slots"));
            }
            for part in &split.parts {
                let is_new = part.shard < self.next_shard && !self.shards.contains_key(&part.shard);
                if !is_new || ids.insert(part.shard, id).is_some() || shard.member(part.leader).is_none() {
                    return Err(format!("part {} of shard {id} is another's, or led by nobody", part.shard));
                }
                let row =
                    self.row_of_part(part.shard).ok_or_else(|| format!("part {} is none", part.shard))?;
                self.check_row(&row).map_err(|why| format!("part {} of shard {id}: {why}", part.shard))?;
            }
        }
        let is_known = |(id, change): (&ShardId, &Change)| {
            !change.why.makes_parts() || self.splits.get(id).is_some_and(|split| !split.parts.is_empty())
        };
        if self.changes.iter().all(is_known) { Ok(()) } else { Err("a split has no parts".into()) }
    }

    /// What must hold of the change of a shard that is cut, or goes on under another protocol.
    pub(crate) fn check_split_change(shard: &Shard, change: &Change) -> Result<(), String> {
        let is_there = |member: &Member| shard.member(member.node).is_some();
        let are_there = change.to.iter().all(is_there)
            && change.to.iter().zip(1..).all(|(member, number)| member.replica == ReplicaId(number));
        let may_be_fewer =
            change.why == Why::Protocol && (change.to.len() == 1 || shard.protocol.is_merged());
        let all = change.to.len() == shard.members.len() || may_be_fewer;
        match are_there && all && change.epoch == Epoch(shard.epoch.0 + 1) {
            true => Ok(()),
            false => Err("the parts of a shard have its nodes, and the next epoch".into()),
        }
    }
}

/// The row of a part, under a protocol.
fn row_of(shard: &Shard, change: &Change, part: &Part, protocol: Protocol) -> Shard {
    let orders = |member: &Member| {
        member.node == part.leader && matches!(protocol, Protocol::Primary | Protocol::TwoPhase)
    };
    let duty = |member: &Member| if orders(member) { Duty::Primary } else { Duty::Voter };
    Shard {
        keyspace: shard.keyspace.clone(),
        slots: part.slots,
        protocol,
        epoch: change.epoch,
        revision: Revision(1),
        members: change.to.iter().map(|member| Member { duty: duty(member), ..*member }).collect(),
        leader: part.leader,
        next_replica: ReplicaId(change.to.len() as u16 + 1),
    }
}

/// Into how many each shard is cut, of those that are: shards with their sizes, and how many there are to be.
fn counts(shards: &[(ShardId, usize)], wants: usize) -> BTreeMap<ShardId, u16> {
    let mut counts: Vec<usize> = vec![1; shards.len()];
    for _ in shards.len()..wants {
        // The larger part first, of equal ones the earlier: cross-multiplied, for sizes are whole numbers.
        let larger = |one: usize, other: usize| shards[one].1 * counts[other] > shards[other].1 * counts[one];
        let best = (0..shards.len()).reduce(|best, place| if larger(place, best) { place } else { best });
        counts[best.expect("a keyspace has a shard")] += 1;
    }
    let ids = shards.iter().map(|(id, _)| *id).zip(counts);
    ids.filter(|(_, count)| *count > 1).map(|(id, count)| (id, count as u16)).collect()
}

/// A range in so many parts, sizes equal within one.
fn cut(slots: SlotRange, count: u16) -> Vec<SlotRange> {
    let edge = |place: u16| {
        let offset = size(slots) * usize::from(place) / usize::from(count);
        slots.first.0 + offset as u16
    };
    (0..count).map(|place| SlotRange { first: Slot(edge(place)), last: Slot(edge(place + 1) - 1) }).collect()
}

/// How many slots are in a range.
fn size(slots: SlotRange) -> usize {
    usize::from(slots.last.0) + 1 - usize::from(slots.first.0)
}
