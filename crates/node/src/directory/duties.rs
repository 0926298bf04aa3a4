//! What the leader does of its own accord: it compares what it sees with what the map says, and plans.
//!
//! | seen | follows |
//! |---|---|
//! | a node lives, or is silent, for a while | its state |
//! | a node has another folder, address or zone than its row | its row; another folder is refused |
//! | a node is dead for the grace | it is gone |
//! | those that are to come to a shard have caught up, or its heirs have copies | its members change over: its change cannot be given up any more |
//! | most members have copies for the parts of a shard that is cut, or goes on under another protocol | it is sealed: that cannot be given up any more |
//! | most members of each part have opened; all, where each may go on alone or nobody brings up who has nothing | they are shards, and the one that was cut is gone |
//! | who is to come was let go by a leader that had not heard of it, and its number is not taken again | its change is given up |
//! | a shard has the members it is to have, and most of them know it | its change is done, too where who was to come is gone for good |
//! | who was in sync in a shard whose writes wait for nobody is dead | who has most of the others orders ([`super::follow`]) |
//! | enough nodes have heard that a keyspace was dropped, and leases are over | its name is free |
//! | none of these | what [`placement::plan`] would begin, give up or deal out |
//!
//! All that follows at a moment is one transaction.

use std::collections::BTreeMap;

use kv::admin::Move;
use kv::cluster::Liveness;
use kv::view::{Duty, Member, Revision};
use kv::{Epoch, NodeId, Protocol, ShardId};
use mutant::Mutant;
use placement::map::{Change, Map, Node, NodeDuty, Phase};
use placement::needed;
use placement::{Event, Limits, opens_whole, plan};
use replication::Instant;

use super::health::Health;
use super::moves::{self, Preview};
use super::names::Names;
use super::seen::{Seen, digest};
use crate::seat::wanted_of;
use crate::wire::{Announced, Newcomers};

/// A new leader plans nothing, and takes nobody for dead, until announcements of all have had the time to come.
const SETTLING_MICROS: u64 = 3_000_000;

/// A change is not given up for what the leader of its shard may still say of the one before: it announces itself every second.
const HEARD_OF_MICROS: u64 = 3_000_000;

/// What a leader knows in its time.
#[derive(Debug)]
pub(super) struct Reign {
    /// The map that the rows are.
    pub map: Map,
    /// What was seen last.
    pub seen: Seen,
    /// When all nodes were asked for a word, and those that seemed to be there had the time to say it.
    pub sounded: Instant,
    /// Since when each change is under way, as far as this leader knows.
    pub begun: BTreeMap<ShardId, Instant>,
    grace_micros: u64,
    limits: Limits,
    since: Instant,
    health: Health,
    /// The revision for which nothing was left to be planned, and how the nodes were seen then.
    planned: (u64, Vec<Liveness>),
    /// What is to move beside what does, once somebody has asked: it follows from the map.
    to_come: Option<Preview>,
    /// What would move after an event, likewise.
    would_come: Option<(Event, Preview)>,
    /// When the last plan was made for who asked: at most one a turn.
    previewed: Option<Instant>,
    /// The names of dropped keyspaces.
    pub names: Names,
    /// What the map has refused, and in which revision it was last tried.
    refused: Vec<(Event, u64)>,
}

impl Reign {
    /// It begins, with the map that the rows are.
    pub fn new(map: Map, grace_micros: u64, limits: Limits, now: Instant) -> Reign {
        let mut reign = Reign {
            map: Map::default(),
            seen: Seen::default(),
            sounded: Instant::default(),
            begun: BTreeMap::new(),
            grace_micros,
            limits,
            since: now,
            health: Health::default(),
            planned: (0, Vec::new()),
            to_come: None,
            would_come: None,
            previewed: None,
            names: Names::default(),
            refused: Vec::new(),
        };
        reign.become_map(map, now);
        reign
    }

    /// The rows are this map now.
    pub fn become_map(&mut self, map: Map, now: Instant) {
        assert!(map.revision > self.map.revision, "the map goes on");
        let is_the_same = |shard: &ShardId| {
            let to = |map: &Map| map.changes.get(shard).map(|change| change.to.clone());
            to(&self.map) == to(&map)
        };
        self.begun.retain(|shard, _| is_the_same(shard));
        (self.map, self.to_come, self.would_come) = (map, None, None);
        for (shard, change) in &self.map.changes {
            self.begun.entry(*shard).or_insert_with(|| {
                tracing::info!(%shard, revision = self.map.revision, why = ?change.why, "the members of a shard change");
                now
            });
        }
        self.health.keep(|node| self.map.nodes.contains_key(&node));
    }

    /// What the node sees now.
    pub fn see(&mut self, seen: Seen, now: Instant) {
        for node in self.map.nodes.keys() {
            self.health.see(*node, seen.nodes.get(node).and_then(|seen| seen.state), now);
        }
        self.seen = seen;
        self.names.see(&self.map, &self.seen, now);
    }

    /// The replicas on their way, and those that will be when the limits let them; `None` = they are still being found.
    pub fn moves(&mut self, now: Instant) -> Option<Vec<Move>> {
        let mut preview = self.to_come.take().unwrap_or_else(|| Preview::of(&self.map));
        self.go_on(&mut preview, now);
        let to_come = preview.whole().map(<[Move]>::to_vec);
        self.to_come = Some(preview);
        let under_way = moves::under_way(&self.map, &self.begun, &self.seen, now);
        let mut moves = [under_way, to_come?].concat();
        moves.sort_by_key(|one| one.shard);
        Some(moves)
    }

    /// The replicas that would go after an event, which leads to a map; `None` = they are still being found.
    pub fn moves_after(&mut self, event: &Event, map: &Map, now: Instant) -> Option<Vec<Move>> {
        let known = self.would_come.take().filter(|(of, _)| of == event).map(|(_, preview)| preview);
        let mut preview = known.unwrap_or_else(|| Preview::of(map));
        self.go_on(&mut preview, now);
        let moves = preview.whole().map(<[Move]>::to_vec);
        self.would_come = moves.is_none().then(|| (event.clone(), preview));
        moves
    }

    fn go_on(&mut self, preview: &mut Preview, now: Instant) {
        if preview.whole().is_none() && self.previewed.is_none_or(|at| at < now) {
            self.previewed = Some(now);
            preview.go_on();
        }
    }

    /// The map, in which a node is dead already that is seen so and has not been for long, or was never heard of: who asks to replace
    /// it says so too.
    pub fn with_dead(&self, name: &str, now: Instant) -> Map {
        let dead = self.member_named(name).filter(|id| self.seems_dead(*id, now));
        let event = dead.map(|node| Event::Health { node, state: Liveness::Dead });
        let noted = event.and_then(|event| self.map.apply(&event).ok());
        noted.unwrap_or_else(|| self.map.clone())
    }

    fn member_named(&self, name: &str) -> Option<NodeId> {
        let is_it = |(_, node): &(&NodeId, &Node)| node.name == name && node.duty != NodeDuty::Gone;
        self.map.nodes.iter().find(is_it).map(|(id, _)| *id)
    }

    pub fn seems_dead(&self, node: NodeId, now: Instant) -> bool {
        let seen = self.seen.nodes.get(&node).and_then(|seen| seen.state);
        seen == Some(Liveness::Dead) || self.health.is_missing(node, now)
    }

    /// Whether a node has been seen as dead for so long.
    pub(super) fn is_dead_for(&self, node: NodeId, micros: u64, now: Instant) -> bool {
        self.health.dead_since(node).is_some_and(|since| now.since(since) >= micros)
    }

    /// The next map, if one is due.
    pub fn due(&mut self, now: Instant) -> Option<Map> {
        let mut next = self.map.clone();
        for event in self.events(now) {
            self.apply(&mut next, event);
        }
        self.follow(&mut next, now);
        let states = next.nodes.iter().map(|(id, node)| self.counts_as(*id, node.state)).collect();
        let of = (next.revision, states);
        if of != self.planned && self.may_plan(now) {
            match self.plan(&next) {
                Some(planned) => next = planned,
                None => self.planned = of,
            }
        }
        (next.revision > self.map.revision).then_some(next)
    }

    /// The plan counts on nobody who is not heard of at present, whatever is written: that takes its time.
    fn plan(&self, map: &Map) -> Option<Map> {
        let mut seen = map.clone();
        seen.nodes.iter_mut().for_each(|(id, node)| node.state = self.counts_as(*id, node.state));
        if mutant::is(Mutant::PlanForgetsWhatMoves) {
            seen.changes.clear();
        }
        let mut planned = plan(&seen, &self.limits).filter(|planned| planned.revision > map.revision)?;
        for (id, node) in &mut planned.nodes {
            node.state = map.nodes[id].state;
        }
        if mutant::is(Mutant::PlanForgetsWhatMoves) && !map.changes.is_empty() {
            planned.changes.extend(map.changes.clone());
            for (id, node) in &map.nodes {
                planned.nodes.entry(*id).or_insert_with(|| node.clone());
            }
            let rows = planned.shards.iter_mut().filter(|(shard, _)| map.changes.contains_key(shard));
            rows.for_each(|(shard, row)| row.next_replica = map.shards[shard].next_replica);
            let same = Map { revision: planned.revision, ..map.clone() };
            return (planned != same).then_some(planned);
        }
        Some(planned)
    }

    /// How a node is for the plan: as it is written or as it is seen, whichever is worse.
    fn counts_as(&self, node: NodeId, written: Liveness) -> Liveness {
        let seen = self.seen.nodes.get(&node).and_then(|seen| seen.state).unwrap_or(Liveness::Dead);
        match (written, seen) {
            (Liveness::Dead, _) | (_, Liveness::Dead) => Liveness::Dead,
            (Liveness::Suspect, _) | (_, Liveness::Suspect) => Liveness::Suspect,
            (Liveness::Alive, Liveness::Alive) => Liveness::Alive,
        }
    }

    /// Whether a node is not heard of, and not for so long yet that it is taken for dead.
    pub fn is_silent_lately(&self, name: &str, now: Instant) -> bool {
        let is_waited_for = |id: &NodeId| {
            self.map.nodes[id].state != Liveness::Dead && !self.is_heard(id) && !self.seems_dead(*id, now)
        };
        self.member_named(name).is_some_and(|id| is_waited_for(&id))
    }

    pub fn is_heard(&self, node: &NodeId) -> bool {
        self.seen.nodes.get(node).is_some_and(|seen| seen.state == Some(Liveness::Alive))
    }

    /// Whether most nodes are alive, and there was time to hear of them.
    pub(super) fn may_plan(&self, now: Instant) -> bool {
        let members = || self.map.nodes.iter().filter(|(_, node)| node.duty != NodeDuty::Gone);
        let alive = members().filter(|(node, _)| self.is_heard(node)).count();
        self.has_settled(now) && 2 * alive > members().count()
    }

    fn has_settled(&self, now: Instant) -> bool {
        now.since(self.since) >= SETTLING_MICROS
    }

    /// What has happened that the map does not say yet.
    fn events(&self, now: Instant) -> Vec<Event> {
        let mut events = Vec::new();
        for (id, node) in self.map.nodes.iter().filter(|(_, node)| node.duty != NodeDuty::Gone) {
            if let Some(says) = self.seen.nodes.get(id).and_then(|seen| seen.says.as_ref())
                && says.incarnation != 0
                && (says.incarnation, &says.peer, &says.address, &says.zone)
                    != (node.incarnation, &node.peer, &node.address, &node.zone)
            {
                let (peer, address, zone) = (says.peer.clone(), says.address.clone(), says.zone.clone());
                events.push(Event::Announced {
                    node: *id,
                    incarnation: says.incarnation,
                    peer,
                    address,
                    zone,
                });
            }
            let state = self.health.settled(*id, now).filter(|_| self.has_settled(now));
            if let Some(state) = state.filter(|state| *state != node.state) {
                events.push(Event::Health { node: *id, state });
            }
            let is_over = |since| now.since(since) >= self.grace_micros;
            if node.state == Liveness::Dead
                && self.health.dead_since(*id).is_some_and(is_over)
                && self.may_plan(now)
            {
                events.push(Event::Replace { name: node.name.clone(), lose: false });
            }
        }
        events.extend(self.names.freed(now));
        let changes = self.map.changes.iter();
        events.extend(changes.filter_map(|(shard, change)| self.progress(*shard, change, now)));
        events
    }

    /// What has become of a change.
    fn progress(&self, shard: ShardId, change: &Change, now: Instant) -> Option<Event> {
        if change.why.makes_parts() {
            return self.progress_of_split(shard, change);
        }
        // Its replicas ask for each step.
        if self.map.shards[&shard].protocol == Protocol::Primary {
            return None;
        }
        let (row, leader) = (&self.map.shards[&shard], self.seen.leader(shard)?);
        match change.phase {
            Phase::Copy if change.epoch > row.epoch => {
                let has_copy = |member: &Member| leader.heirs.contains(&member.node);
                let is_ready = leader.epoch == row.epoch && change.to.iter().all(has_copy);
                (is_ready && self.may_decide(&change.to))
                    .then_some(Event::Progress { shard, phase: Phase::Switch })
            }
            Phase::Copy => {
                let learning = (row.epoch, digest(&wanted_of(&self.map, shard, row)));
                let is_ready = (leader.epoch, leader.members) == learning && self.may_decide(&change.to);
                // An earlier change may have left out who was gone before the map called that done.
                let is_done =
                    leader.revision > row.revision && self.are_members(shard, row.epoch, &change.to);
                match leader.newcomers {
                    _ if is_done => Some(Event::Progress { shard, phase: Phase::Switch }),
                    Newcomers::Ready if is_ready => Some(Event::Progress { shard, phase: Phase::Switch }),
                    Newcomers::Gone if leader.epoch == row.epoch && self.has_heard_of(shard, now) => {
                        Some(Event::Abort { shard })
                    }
                    _ => None,
                }
            }
            Phase::Switch => {
                let revision = leader.revision;
                let is_new = (leader.epoch, revision) > (row.epoch, row.revision);
                let are = |members: &[Member]| is_new && self.are_members(shard, change.epoch, members);
                // Who was taken back while it learned never comes again under that number, so it is safe to go on without it.
                let fewer =
                    || are(&self.map.left_of(row, change)).then_some(Event::Fewer { shard, revision });
                are(&change.to).then_some(Event::Done { shard, revision }).or_else(fewer)
            }
        }
    }

    /// What has become of a shard that is cut, or goes on under another protocol: enough of its members, and who leads it, have copies for
    /// their parts; or enough members of each part have opened, and one of them leads.
    fn progress_of_split(&self, shard: ShardId, change: &Change) -> Option<Event> {
        let row = &self.map.shards[&shard];
        match change.phase {
            Phase::Copy => {
                let told = |node: NodeId| self.seen.shards.get(&shard)?.get(&node);
                let has_copy = |told: &Announced| told.epoch == row.epoch && !told.heirs.is_empty();
                let is_ready = |member: &&Member| told(member.node).is_some_and(has_copy);
                let (ready, all) = (change.to.iter().filter(is_ready).count(), change.to.len());
                let to = self.map.protocol_after(shard, row);
                let is_there = |member: &Member| self.is_there(member.node);
                if row.protocol.is_merged() {
                    // None of them can be done without from then on.
                    let is_ready = ready == all && change.to.iter().all(is_there);
                    return is_ready.then_some(Event::Progress { shard, phase: Phase::Switch });
                }
                let is_enough = ready >= needed(row.protocol, all).max(to_open(to, all));
                // Where one node goes on alone another may lead.
                let leads = |told: &Announced| has_copy(told) || all < row.members.len();
                let is_ready = is_enough && self.seen.leader(shard).is_some_and(leads);
                (is_ready && self.may_decide(&row.members) && self.may_decide(&change.to))
                    .then_some(Event::Progress { shard, phase: Phase::Switch })
            }
            Phase::Switch => {
                let mut parts = self.map.parts_of(shard).iter().map(|part| part.shard);
                let are_open = parts.all(|part| self.has_opened(part));
                are_open.then_some(Event::Done { shard, revision: Revision(1) })
            }
        }
    }

    /// Whether enough members of a part of a shard have opened, and one of them leads, if they elect it. Who is gone for good never will.
    fn has_opened(&self, part: ShardId) -> bool {
        let (Some(row), Some(told)) = (self.map.row_of_part(part), self.seen.shards.get(&part)) else {
            return false;
        };
        let there = (row.epoch, digest(&row.members));
        let are_there = |told: &Announced| (told.epoch, told.members) == there;
        let has_opened = |member: &&Member| told.get(&member.node).is_some_and(are_there);
        let is_gone = |member: &&Member| {
            self.map.nodes.get(&member.node).is_none_or(|node| node.duty == NodeDuty::Gone)
        };
        let opened = row.members.iter().filter(has_opened).count();
        let gone = row.members.iter().filter(is_gone).count();
        let needed = match to_open(row.protocol, row.members.len()) {
            all if all == row.members.len() => all - gone,
            most => most,
        };
        // Who orders may have to ask for that first, as a shard; and where nobody does any of them serves.
        let is_led = matches!(row.protocol, Protocol::Primary | Protocol::Quorum | Protocol::Broadcast)
            || self.seen.leader(part).is_some_and(are_there);
        opened >= needed && is_led
    }

    /// Whether a shard may have these members: of a part that is none yet, those that are to be in sync must have opened it, and the others
    /// of its shard must be open.
    pub fn may_revise(&self, shard: ShardId, asked: &[Member]) -> bool {
        let Some((from, ..)) = self.map.part(shard) else { return true };
        let (Some(row), Some(told)) = (self.map.row_of_part(shard), self.seen.shards.get(&shard)) else {
            return false;
        };
        let there = (row.epoch, digest(&row.members));
        let has_opened =
            |member: &Member| told.get(&member.node).is_some_and(|told| (told.epoch, told.members) == there);
        let mut others = self.map.parts_of(from).iter().filter(|part| part.shard != shard);
        asked.iter().filter(|member| member.duty != Duty::Learner).all(has_opened)
            && others.all(|part| self.has_opened(part.shard))
    }

    /// Whether a change has been under way for so long that the leader of its shard says what it knows of this one.
    fn has_heard_of(&self, shard: ShardId, now: Instant) -> bool {
        self.begun.get(&shard).is_some_and(|begun| now.since(*begun) >= HEARD_OF_MICROS)
    }

    /// Whether most of some members are heard of, and connected: a change to others could not end before they come back. Who was killed is
    /// heard of for a while yet, and its connection breaks at once.
    fn may_decide(&self, members: &[Member]) -> bool {
        2 * members.iter().filter(|member| self.is_there(member.node)).count() > members.len()
    }

    /// Whether a node is heard of, and connected.
    fn is_there(&self, node: NodeId) -> bool {
        self.is_heard(&node) && self.seen.nodes.get(&node).is_some_and(|seen| seen.is_connected)
    }

    /// Whether these are the members of a shard in an epoch, as its leader and most of them say; all, where all copies are needed.
    fn are_members(&self, shard: ShardId, epoch: Epoch, members: &[Member]) -> bool {
        let (told, there) = (&self.seen.shards[&shard], (epoch, digest(members)));
        let are_there = |told: &Announced| (told.epoch, told.members) == there;
        let agree = members.iter().filter(|member| told.get(&member.node).is_some_and(are_there)).count();
        let row = self.map.shards.get(&shard);
        let needed = row.map_or(members.len(), |row| needed(row.protocol, members.len()));
        self.seen.leader(shard).is_some_and(are_there) && agree >= needed
    }

    /// Applies an event, unless this very map has refused it already.
    fn apply(&mut self, next: &mut Map, event: Event) {
        let before = self.refused.iter().position(|(refused, _)| *refused == event);
        if before.is_some_and(|place| self.refused[place].1 == self.map.revision) {
            return;
        }
        match next.apply(&event) {
            Ok(applied) => *next = applied,
            Err(refusal) => match before {
                Some(place) => self.refused[place].1 = self.map.revision,
                None => {
                    tracing::warn!(%refusal, ?event, "what this node sees of the cluster does not fit the map");
                    self.refused.push((event, self.map.revision));
                }
            },
        }
    }
}

/// How many of so many members of a part must have opened for it to be a shard: who comes later begins with nothing. So all must where
/// each of them may be asked to go on alone, or nobody brings up who has nothing.
fn to_open(protocol: Protocol, members: usize) -> usize {
    if opens_whole(protocol) { members } else { needed(protocol, members) }
}
