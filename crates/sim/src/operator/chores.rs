//! What there is to do, and how it goes on.

use kv::admin::{Answer, Ask};
use kv::cluster::{Liveness, NodeDuty};
use kv::keyspace::{History, Wish};
use kv::{Error, NodeId, Outcome, Protocol, ShardId};
use placement::map::{DEFAULT, Dropped, Holders, Node, NodeDuty as Duty, Phase, Shard};

use super::chore::{Chore, SERVING_MIN, What};
use crate::faults::Fault;
use crate::world::World;

/// What was not done is tried again after this.
const AGAIN_MICROS: u64 = 500_000;
/// Of 100 looks at what is to be done so many have keys without an order get one, or lose it, while they do neither.
const RECAST_PERCENT: u64 = 10;
/// When a shard without an order is to have one, in so many of 100 cases the member that weighs most is held away, if one weighs more than others.
const HEAVIEST_AWAY_PERCENT: u64 = 90;
/// The change is asked for when the directory knows that it is away, or after so long.
const SUSPECTED_MICROS: u64 = 10_000_000;
/// So long it is away, at least: a shard that does not wait for it has its order by then.
const AWAY_MICROS: u64 = 20_000_000;
/// A machine whose node has left is stopped within this.
const STOP_MICROS_MAX: u64 = 3_000_000;
/// The shards of clients' keys are so many, at most.
const SHARDS_MAX: u32 = 8;
/// So many machines there are, at most.
const MACHINES_MAX: usize = 6;

impl World {
    /// A machine was lost for good: its node is to be replaced.
    pub fn replace(&mut self, node: NodeId) {
        if let Some(row) = self.placed.nodes.get(&node) {
            self.operator.chores.push(Chore::replace(row.name.clone()));
        }
    }

    /// Of nodes that are lost: each has to be declared dead where all copies are needed.
    pub(super) fn draw_declared(&self) -> Option<Chore> {
        let needs_all = |row: &&Shard| row.protocol == Protocol::TwoPhase;
        let lost = self.placed.nodes.iter().filter(|(id, _)| !self.machine(**id).there);
        let of = |id: NodeId| self.placed.replicas_of(id).map(|(_, row)| row).find(needs_all);
        let mut wanted = lost.filter_map(|(id, node)| Some((of(*id)?.keyspace.clone(), node.name.clone())));
        let (keyspace, name) = wanted.next()?;
        let is_asked = |chore: &Chore| matches!(chore.what, What::Declare { .. });
        (!self.operator.chores.iter().any(is_asked)).then(|| Chore::new(What::Declare { keyspace, name }))
    }

    /// Goes on with something; `None` = it is done, or given up.
    pub(super) fn go_on_with(&mut self, mut chore: Chore) -> Option<Chore> {
        let now = self.events.now();
        let is_known =
            |away: NodeId| self.placed.nodes.get(&away).is_some_and(|row| row.state != Liveness::Alive);
        if now < chore.not_before && !chore.away.is_some_and(is_known) {
            return Some(chore);
        }
        if let What::Leaves(node) = chore.what {
            return self.stop_if_left(node).then_some(chore);
        }
        let Some(asked) = chore.asked else {
            chore.asked = chore.ask().and_then(|ask| self.ask_directory(ask, chore.away));
            return Some(chore);
        };
        match self.operator.answers.remove(&asked.client) {
            None if now < asked.until => Some(chore),
            None => self.put_off(chore),
            Some(Ok(Answer::Joined { lives, .. })) if self.was_told_before(&lives) => self.put_off(chore),
            Some(Ok(answer)) => self.is_done(chore.what, answer),
            Some(Err(error)) => self.is_refused(chore, &error),
        }
    }

    fn put_off(&mut self, mut chore: Chore) -> Option<Chore> {
        chore.asked = None;
        chore.not_before = self.events.now() + self.random.between(0, AGAIN_MICROS);
        Some(chore)
    }

    /// It was done; what follows from it, if something does.
    fn is_done(&mut self, what: What, answer: Answer) -> Option<Chore> {
        let next = match (what, answer) {
            (What::Become { node, duty, .. }, _) => {
                self.note(match duty {
                    NodeDuty::Leave => "a node was asked to leave",
                    NodeDuty::Drain => "a node was drained",
                    _ => "a node took replicas again",
                });
                (duty == NodeDuty::Leave).then_some(What::Leaves(node))
            }
            (What::Replace { name, lose }, _) => {
                self.note("a lost node was replaced");
                if lose {
                    self.note("an heir was given up");
                }
                Some(What::Join(self.newcomer(&name)))
            }
            (What::Declare { .. }, Answer::Ruled(_)) => {
                self.note("a node was declared dead");
                None
            }
            (What::Alter(_), _) => {
                self.note("the clients' keyspace was altered");
                None
            }
            (What::Recast(_), Answer::Done) => {
                self.note("the clients' keyspace went to another protocol");
                None
            }
            (What::Join(joiner), Answer::Joined { node, cluster, map, lives }) => {
                let lost = self.has_joined(&joiner, (node, cluster), &map, lives);
                lost.map(|name| What::Replace { name, lose: false })
            }
            (What::Look(Ask::Dump), Answer::Rows(rows)) => {
                if rows.is_empty() {
                    self.violation("the rows of the directory are none".into());
                }
                None
            }
            (What::Split(_), Answer::Done) | (What::Force(_), Answer::Ruled(_)) => None,
            (What::Abort(_) | What::Look(Ask::Moves), Answer::Done | Answer::Moves(_)) => None,
            (what, answer) => {
                self.violation(format!("answers of the directory fit what was asked: {what:?}: {answer:?}"));
                None
            }
        };
        next.map(Chore::new)
    }

    /// It was not done, or nobody knows: what may come about later is asked again.
    fn is_refused(&mut self, mut chore: Chore, error: &Error) -> Option<Chore> {
        if error.outcome() == Outcome::InDoubt {
            self.note("an ask of the directory was in doubt");
            return self.put_off(chore);
        }
        if let What::Replace { name, lose } = &mut chore.what
            && !*lose
        {
            *lose = self.is_heir(name);
        }
        match (&chore.what, error) {
            // It is not given up any more, or there is none; there are more shards already, or are about to be.
            (What::Abort(_) | What::Split(_) | What::Recast(_) | What::Declare { .. }, _) => None,
            // Somebody in sync is not known as dead yet.
            (What::Force(_), _) if self.waits_to_force() => self.put_off(chore),
            (What::Force(_), _) => None,
            (_, Error::Unavailable(_)) => self.put_off(chore),
            // It is not known as dead yet, or its copies are still wanted.
            (What::Replace { name, .. }, _) if self.placed.node_named(name).is_some() => self.put_off(chore),
            // Asked long ago of a node that stood still, and done when its machine was given up already: nobody is that node. Or what
            // was given up was a node that had the name before.
            (What::Join(joiner), _) if self.is_nobodys(&joiner.name) => {
                Some(Chore::replace(joiner.name.clone()))
            }
            (What::Join(_), _) => {
                self.violation(format!("a machine of a new name joins: {chore:?}: {error}"));
                None
            }
            _ => {
                self.note("the directory refused what it was asked");
                None
            }
        }
    }

    /// Whether a shard is being handed over to the node of a name, which has not opened it: no node is lost that has.
    fn is_heir(&self, name: &str) -> bool {
        let Some((id, _)) = self.placed.node_named(name) else { return false };
        self.placed.changes.iter().any(|(shard, change)| {
            let row = &self.placed.shards[shard];
            change.epoch > row.epoch
                && change.phase == Phase::Switch
                && change.to.iter().any(|member| member.node == id)
        })
    }

    /// Whether the node of a name has the folder of a machine that was given another id before, or of one that is not there any more.
    fn is_nobodys(&self, name: &str) -> bool {
        let named = self.placed.node_named(name);
        named.is_some_and(|(id, row)| {
            let others = |given: &NodeId| *given != id;
            !self.machine(id).there || self.operator.joined.get(&row.incarnation).is_some_and(others)
        })
    }

    /// Stops the machine of a node that has left; false = it has, or stays after all.
    fn stop_if_left(&mut self, node: NodeId) -> bool {
        match self.placed.nodes.get(&node).map(|row| row.duty) {
            Some(Duty::Leave) => !self.waits_for_the_gone(node),
            Some(_) => false,
            None => {
                if self.machine(node).there {
                    self.note("a node has left");
                    let after = self.random.between(0, STOP_MICROS_MAX);
                    self.events.after(after, crate::events::Event::Retire { node });
                }
                false
            }
        }
    }

    /// Whether a node stays a member until people say that another one is off: both had a keyspace that was dropped, and too many of
    /// those that had it are gone without having heard of that (`placement`: names of dropped keyspaces).
    fn waits_for_the_gone(&self, node: NodeId) -> bool {
        let is_gone = |node: &&NodeId| self.placed.nodes[*node].duty == Duty::Gone;
        let waits =
            |holders: &Holders| holders.nodes.iter().filter(is_gone).count() > usize::from(holders.harmless);
        let is_held = |dropped: &Dropped| {
            dropped.holders.iter().any(|holders| holders.nodes.contains(&node))
                && dropped.holders.iter().any(waits)
        };
        self.placed.replicas_of(node).next().is_none() && self.placed.dropped.values().any(is_held)
    }

    /// Something new to do, if it can be done now.
    pub(super) fn draw_chore(&mut self) -> Option<Chore> {
        let machines = self.ids().count();
        let what = match self.random.below(100) {
            0..25 if machines < MACHINES_MAX => {
                self.operator.named += 1;
                let name = format!("m{}", self.operator.named);
                What::Join(self.newcomer(&name))
            }
            25..50 => self.draw_duty(NodeDuty::Drain)?,
            50..70 => self.draw_duty(NodeDuty::Leave)?,
            70..77 => self.draw_duty(NodeDuty::Serve)?,
            77..80 => What::Recast(self.draw_protocol()?),
            80..84 => What::Alter(self.draw_history()),
            84..89 => self.draw_split()?,
            89..94 => {
                let shards: Vec<ShardId> = self.placed.changes.keys().copied().collect();
                What::Abort(*shards.first()?)
            }
            94..97 => What::Look(Ask::Moves),
            97..100 => What::Look(Ask::Dump),
            _ => return None,
        };
        Some(Chore::new(what))
    }

    /// One shard more, or twice as many.
    fn draw_split(&mut self) -> Option<What> {
        let has = self.placed.shards_of(DEFAULT).len() as u32;
        let shards = if self.random.percent(50) { has + 1 } else { 2 * has };
        (shards <= SHARDS_MAX).then_some(What::Split(shards))
    }

    /// Another protocol, when nothing is lost that it would need.
    fn draw_protocol(&mut self) -> Option<Wish> {
        // A zone may have fewer nodes than another protocol takes.
        if self.lacks_machines() || self.zoned.count().is_some() {
            return None;
        }
        let serving = self.placed.nodes.values().filter(|row| row.duty == Duty::Serve).count();
        // With one copy an old one, put back, cannot be told from the true one.
        let least = if self.faults.has(Fault::Restore) { Protocol::Raft } else { Protocol::Single };
        let protocol = self.random.pick(&[least, Protocol::Raft, Protocol::Primary, Protocol::TwoPhase]);
        let of_primary = if protocol == Protocol::Primary { self.draw_sync() } else { Wish::default() };
        let replicas = match protocol {
            Protocol::Single => 1,
            Protocol::Raft if least == Protocol::Single => self.random.pick(&[1, 2, 3]).min(serving as u16),
            _ => self.random.pick(&[2, 3, 3]).min(serving as u16),
        };
        Some(Wish { protocol: Some(protocol), replicas: Some(replicas), ..of_primary })
    }

    /// Another protocol for the keys of clients, now and then.
    pub(super) fn draw_recast(&mut self) -> Option<Chore> {
        let is_time = self.settings.recasts && !self.calm && !self.is_recasting();
        if !is_time || !self.random.percent(RECAST_PERCENT) {
            return None;
        }
        let away = if self.is_without_order() { self.hold_the_heaviest_away() } else { None };
        let mut to = self.random.pick(&[Protocol::Raft, Protocol::Primary, Protocol::TwoPhase]);
        if !self.is_without_order() {
            to = Protocol::Quorum;
        } else if away.is_some() {
            // Others would wait for it whatever it weighs.
            to = Protocol::Raft;
        }
        let recast = Chore::new(What::Recast(Wish { protocol: Some(to), ..Wish::default() }));
        let not_before =
            if away.is_some() { self.events.now() + SUSPECTED_MICROS } else { recast.not_before };
        Some(Chore { not_before, away, ..recast })
    }

    /// A shard without an order is about to get one: now and then the member that weighs most is away when that is asked for, and serves
    /// whoever asks it, if it weighs enough alone.
    fn hold_the_heaviest_away(&mut self) -> Option<NodeId> {
        let held = self.faults.has(Fault::Partition) && self.random.percent(HEAVIEST_AWAY_PERCENT);
        let rows = self.placed.shards.values().filter(|row| row.keyspace == DEFAULT);
        let members = rows.flat_map(|row| &row.members).filter(|member| member.weight > 1);
        let heaviest = members.max_by_key(|member| member.weight).map(|member| member.node);
        let heaviest = heaviest.filter(|_| held)?;
        self.note("the heaviest member was away when its shard was to have an order");
        self.cut_off(heaviest, None, AWAY_MICROS);
        // The others can decide that the shard goes on, which takes all of few.
        self.quiet_until = self.events.now() + AWAY_MICROS;
        Some(heaviest)
    }

    fn is_without_order(&self) -> bool {
        self.placed.keyspaces[DEFAULT].protocol == Protocol::Quorum
    }

    /// Whether a keyspace goes on under another protocol, or may be about to.
    pub fn is_recasting(&self) -> bool {
        let is_asked = |chore: &Chore| matches!(chore.what, What::Recast(_));
        self.operator.chores.iter().any(is_asked)
            || self.placed.keyspaces.keys().any(|keyspace| self.placed.is_recast(keyspace))
    }

    /// Another history.
    pub(super) fn draw_history(&mut self) -> Wish {
        let history = match self.random.below(10) {
            0..5 => History::Count(self.random.pick(&[1, 2, 3, 70])),
            5..7 => History::All,
            _ => History::Micros(self.random.between(100_000, 5_000_000)),
        };
        Wish { history: Some(history), ..Wish::default() }
    }

    /// Whether nodes are about to be sent away, or are on their way.
    pub fn sends_away(&self) -> bool {
        let sends =
            |chore: &Chore| matches!(chore.what, What::Become { duty, .. } if duty != NodeDuty::Serve);
        let goes = |(id, row): (&NodeId, &Node)| {
            row.duty != Duty::Serve && self.placed.replicas_of(*id).next().is_some()
        };
        self.operator.chores.iter().any(sends) || self.placed.nodes.iter().any(goes)
    }

    /// Whether a machine was lost and not replaced, or has not what it should have.
    pub(super) fn lacks_machines(&self) -> bool {
        let replaces = |chore: &Chore| matches!(chore.what, What::Replace { .. });
        let is_unsound = |id| self.machine(id).is_unsound();
        let gone = self.placed.nodes.values().any(|row| row.duty == Duty::Gone);
        gone || self.operator.chores.iter().any(replaces) || self.ids().any(is_unsound)
    }

    /// A node is to do something else than it does. None is sent away while another one is lost.
    fn draw_duty(&mut self, duty: NodeDuty) -> Option<What> {
        if duty != NodeDuty::Serve && self.lacks_machines() {
            return None;
        }
        let serves = |duty: Duty| duty == Duty::Serve;
        let nodes = self.placed.nodes.iter();
        let serving = nodes.clone().filter(|(_, row)| serves(row.duty)).count();
        let wanted = |row: &Duty| match duty {
            NodeDuty::Serve => matches!(row, Duty::Drain | Duty::Leave),
            _ => serves(*row) && serving > SERVING_MIN,
        };
        let nodes: Vec<NodeId> = nodes.filter(|(_, row)| wanted(&row.duty)).map(|(id, _)| *id).collect();
        if nodes.is_empty() {
            return None;
        }
        let node = self.random.pick(&nodes);
        let (name, fewer) = (self.placed.nodes[&node].name.clone(), self.random.percent(60));
        Some(What::Become { node, name, duty, fewer })
    }
}
