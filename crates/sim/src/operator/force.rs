//! A replica orders that was not in sync, in runs of their own: all that are in sync in a shard are down, and come back later. The operator
//! asks for it, or writes wait for nobody and the directory does it by itself, then perhaps again.
//!
//! ```text
//!   weakens     fewer are in sync: a write waits for none, or for one, or for all of few
//!   thins       somebody falls behind and out of sync, if nobody is yet
//!   sinks       all in sync go down, and stay; who is behind is asked for as the primary, again and again
//!   over        it came about, or took too long: all may come back
//! ```
//!
//! From then on there is no one history of the shard any more, so the watch looks away, and the end is judged otherwise: what was
//! acknowledged is in the state or in the ledger; all copies are the same; and what is read is what is there.

use std::collections::BTreeMap;

use kv::keyspace::{Secondaries, Wish};
use kv::ledger::Line;
use kv::view::Duty;
use kv::{Answer, Key, NodeId, Op, Range, Reply, ShardId, Value, Version};
use placement::map::{DEFAULT, Map};
use storage::{Clock, Read, Table};
use wal::Crash;

use super::chore::{Chore, What};
use super::forcing::{Forcing, Stage};
use crate::events::Event;
use crate::world::World;

/// It begins within this: when all have met who founded the cluster.
const BEGINS_MICROS: (u64, u64) = (4_000_000, 9_000_000);
/// Of so many nodes two may be down, and the others decide.
const MANY_NODES: u64 = 5;
/// Somebody is out of sync within this, or it is given up.
const THINS_MICROS: u64 = 8_000_000;
/// It has come about within this, or is given up: who is down counts as dead by then.
const SINKS_MICROS: u64 = 30_000_000;
/// Who was down comes back within this.
const BACK_MICROS_MAX: u64 = 2_000_000;

impl World {
    /// Whether a shard was forced: what is the shard's history is not one any more.
    pub fn is_forced(&self) -> bool {
        self.forcing.as_ref().is_some_and(|forcing| !forcing.astray.is_empty())
    }

    /// Whether a machine is to stay down.
    pub fn is_held(&self, node: NodeId) -> bool {
        !self.calm && self.forcing.as_ref().is_some_and(|forcing| forcing.held.contains(&node))
    }

    /// Something that holds where a shard has one history did not: the run ends, unless it has not.
    pub fn unless_forced(&mut self, why: String) {
        if !self.is_forced() && !self.settings.recasts {
            self.violation(why);
        }
    }

    /// Goes on with it.
    pub(super) fn force(&mut self) {
        let now = self.events.now();
        let Some(stage) = self.forcing.as_ref().map(|forcing| forcing.stage) else { return };
        let next = match stage {
            _ if self.calm => Stage::Over,
            Stage::Weakens => {
                if self.forcing.as_ref().is_some_and(|forcing| !forcing.is_zoned) {
                    let wish = self.draw_weak();
                    self.operator.chores.push(Chore::new(What::Alter(wish)));
                }
                let (least, most) = BEGINS_MICROS;
                Stage::Waits(now + self.random.between(least, most))
            }
            Stage::Waits(at) if at <= now => self.thin(now),
            Stage::Thins { shard, heir, .. } if self.duty_of(shard, heir) == Some(Duty::Learner) => {
                self.sink(shard, heir, now)
            }
            Stage::Thins { until, .. } | Stage::Sinks { until, .. } if until <= now => Stage::Over,
            Stage::Sinks { astray, .. } if self.astray() > astray => Stage::Over,
            stage => stage,
        };
        if matches!(next, Stage::Over) {
            self.let_go();
        }
        let is_again = matches!(next, Stage::Over) && !matches!(stage, Stage::Over) && !self.calm;
        let (least, most) = BEGINS_MICROS;
        let again = now + self.random.between(least, most);
        if let Some(forcing) = &mut self.forcing {
            let more = forcing.by_itself.as_mut().filter(|left| is_again && **left > 1);
            forcing.stage = match more {
                Some(left) => {
                    *left -= 1;
                    Stage::Waits(again)
                }
                None => next,
            };
        }
    }

    fn astray(&self) -> usize {
        self.forcing.as_ref().map_or(0, Forcing::astray)
    }

    /// Whether nobody is asked, and the directory does it.
    fn is_by_itself(&self) -> bool {
        self.forcing.as_ref().is_some_and(|forcing| forcing.by_itself.is_some())
    }

    fn draw_weak(&mut self) -> Wish {
        // Where there are few nodes none would be left to decide.
        let few = [Secondaries::Count(0)];
        let some = [Secondaries::Count(0), Secondaries::Count(1), Secondaries::All];
        let is_few = self.founders < MANY_NODES || self.is_by_itself();
        let sync = self.random.pick(if is_few { &few[..] } else { &some });
        let of_all = sync == Secondaries::All;
        let interval_micros = (!of_all).then(|| self.random.pick(&[20_000, 500_000, 3_000_000]));
        Wish { sync: Some(sync), min_copies: of_all.then_some(1), interval_micros, ..Wish::default() }
    }

    fn duty_of(&self, shard: ShardId, node: NodeId) -> Option<Duty> {
        self.placed.shards.get(&shard)?.member(node).map(|member| member.duty)
    }

    /// Picks a shard, and who is to order it; that one falls behind first, if nobody has.
    fn thin(&mut self, now: u64) -> Stage {
        let shards: Vec<ShardId> = self.placed.shards_of(DEFAULT).into_iter().map(|(id, _)| id).collect();
        let shard = self.random.pick(&shards);
        let of = |duties: &[Duty]| -> Vec<NodeId> {
            let members = self.placed.shards[&shard].members.iter();
            members.filter(|member| duties.contains(&member.duty)).map(|member| member.node).collect()
        };
        let (learners, secondaries) = (of(&[Duty::Learner]), of(&[Duty::Voter]));
        let candidates = if learners.is_empty() { secondaries } else { learners };
        if candidates.is_empty() {
            return Stage::Over;
        }
        let heir = self.random.pick(&candidates);
        if self.duty_of(shard, heir) == Some(Duty::Learner) {
            return self.sink(shard, heir, now);
        }
        self.hold(heir);
        Stage::Thins { shard, heir, until: now + THINS_MICROS }
    }

    /// All in sync go down, and the operator asks for another one.
    fn sink(&mut self, shard: ShardId, heir: NodeId, now: u64) -> Stage {
        self.let_go();
        let members = self.placed.shards[&shard].members.iter();
        let in_sync = members.filter(|member| matches!(member.duty, Duty::Primary | Duty::Voter));
        let in_sync = Vec::from_iter(in_sync.map(|member| member.node));
        if 2 * in_sync.len() >= self.founders as usize {
            return Stage::Over;
        }
        in_sync.into_iter().for_each(|node| self.hold(node));
        if let Some(row) = self.placed.nodes.get(&heir).filter(|_| !self.is_by_itself()) {
            self.operator.chores.push(Chore::new(What::Force(row.name.clone())));
        }
        Stage::Sinks { until: now + SINKS_MICROS, astray: self.astray() }
    }

    fn hold(&mut self, node: NodeId) {
        let crash = if self.random.percent(50) { Crash::Process } else { Crash::Power };
        self.kill(node, crash, "it stays down");
        if let Some(forcing) = &mut self.forcing {
            forcing.held.insert(node);
        }
    }

    fn let_go(&mut self) {
        let held = self.forcing.as_mut().map(|forcing| std::mem::take(&mut forcing.held));
        for node in held.unwrap_or_default() {
            let after = self.random.between(10_000, BACK_MICROS_MAX);
            self.events.after(after, Event::Start { node });
        }
    }

    /// Whether the operator still waits for it.
    pub(super) fn waits_to_force(&self) -> bool {
        self.forcing.as_ref().is_some_and(|forcing| matches!(forcing.stage, Stage::Sinks { .. }))
    }

    /// A map is written: perhaps one that says it.
    pub(super) fn note_forced(&mut self, map: &Map) {
        let Some(forcing) = &mut self.forcing else { return };
        let was = forcing.astray.is_empty();
        for (id, shard) in map.shards_of(DEFAULT) {
            let astray = shard.members.iter().filter(|member| member.duty == Duty::Astray);
            let astray = Vec::from_iter(astray.map(|member| member.replica));
            if !astray.is_empty() {
                forcing.astray.entry(id).or_default().extend(astray);
            }
        }
        if was && self.is_forced() {
            self.watch.look_away();
            self.note("an election was forced");
            if self.is_by_itself() {
                self.note("a primary was followed by one that was not in sync");
            }
        }
    }

    /// A client knows that it wrote.
    pub fn note_acknowledged(&mut self, op: &Op, reply: &Reply) {
        let Some(forcing) = &mut self.forcing else { return };
        let key = match op {
            Op::Put { key, .. } => key,
            Op::Update { key, .. } if !reply.answer.is_unmet() => key,
            _ => return,
        };
        if !matches!(reply.answer, Answer::Popped(_)) {
            forcing.acknowledged.push((reply.receipt.shard, key.clone(), reply.receipt.version));
        }
    }

    /// Judges the end of a run in which a shard was forced.
    pub fn judge_forced(&mut self) {
        let wrong: Vec<String> = self.shards().into_iter().flat_map(|shard| self.wrong_of(shard)).collect();
        wrong.into_iter().for_each(|why| self.violation(why));
    }

    fn wrong_of(&self, shard: ShardId) -> Vec<String> {
        let process = |node: &NodeId| self.machine(*node).process.as_ref();
        let table = |node: &NodeId| process(node).and_then(|process| process.cores.table(shard));
        let leaders = self.leaders(shard);
        let Some(table_of_leader) = leaders.first().and_then(table) else { return Vec::new() };
        let (digest, last) = (|table: &Table| table.digest(shard).ok(), table_of_leader.applied(shard).index);
        let members = self.placed.shards[&shard].members.iter().map(|member| member.node);
        let others = Vec::from_iter(members.filter_map(|node| Some((node, table(&node)?))));
        let mut wrong: Vec<String> = others
            .into_iter()
            .filter(|(_, other)| other.applied(shard).index == last)
            .filter(|(_, other)| digest(other) != digest(table_of_leader))
            .map(|(node, _)| format!("copies are the same: shard {shard} is another at {node}"))
            .collect();
        wrong.extend(self.wrong_values(shard, table_of_leader));
        wrong.extend(self.lost_of(shard, table_of_leader));
        wrong
    }

    /// What was read at the end is what is there.
    fn wrong_values(&self, shard: ShardId, table: &Table) -> Vec<String> {
        let shards = self.keyspaces.shards(kv::Request::KEYSPACE);
        let is_of_it = |key: &Key| shards.as_ref().is_ok_and(|shards| shards.shard_of(key) == shard);
        let found = |key: &Key| match read(table, shard, &Op::Get { key: key.clone(), at: None }) {
            Some(Answer::Row(Some(row))) => row.value,
            _ => Value::new(),
        };
        let own = self.last_values.iter().filter(|(key, _)| is_of_it(key));
        let wrong = own.filter(|(key, value)| found(key) != **value);
        wrong.map(|(key, _)| format!("what is read is there: {key:?} is read as it is not")).collect()
    }

    /// What was acknowledged by those that are astray, and is neither in the state nor in the ledger.
    fn lost_of(&self, shard: ShardId, table: &Table) -> Vec<String> {
        let Some(forcing) = &self.forcing else { return Vec::new() };
        let Some(astray) = forcing.astray.get(&shard) else { return Vec::new() };
        let ledger = ledger(table, shard);
        let is_lost = |(of, key, version): &&(ShardId, Key, Version)| {
            let op = Op::History { key: key.clone(), limit: 0, before: None };
            let kept = match read(table, shard, &op) {
                Some(Answer::History { revisions, .. }) => revisions,
                _ => Vec::new(),
            };
            let stays = kept.iter().any(|revision| revision.version == *version);
            // Where no older one is kept it may have been forgotten, or trimmed.
            let is_forgotten = kept.last().is_none_or(|oldest| oldest.version > *version);
            let is_listed = ledger.get(key).is_some_and(|newest| newest >= version);
            *of == shard && astray.contains(&version.replica()) && !stays && !is_listed && !is_forgotten
        };
        let lost = forcing.acknowledged.iter().filter(is_lost);
        lost.map(|(_, key, version)| {
            format!("what was acknowledged is in the state or in the ledger: {key:?} of version {version} is in neither")
        })
        .collect()
    }
}

fn read(table: &Table, shard: ShardId, op: &Op) -> Option<Answer> {
    match table.read(shard, op, Clock::Shard) {
        Ok(Read::Done { result: Ok(answer), .. }) => Some(answer),
        _ => None,
    }
}

/// The newest version that the ledger lists of each key.
fn ledger(table: &Table, shard: ShardId) -> BTreeMap<Key, Version> {
    let mut newest = BTreeMap::new();
    let Some(Answer::Page(page)) = read(table, shard, &Op::Range(Range { ledger: true, ..Range::default() }))
    else {
        return newest;
    };
    for line in page.rows.iter().filter_map(|row| Line::decode(&row.value).ok()) {
        if let Line::Lost { lost, .. } = line {
            let known: &mut Version = newest.entry(lost.key).or_default();
            *known = lost.version.max(*known);
        }
    }
    newest
}
