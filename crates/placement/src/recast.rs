//! A keyspace goes on under another protocol: its shards do, one by one, while clients write.
//!
//! # How
//!
//! [`Event::Alter`](crate::Event::Alter) names the protocol in the row of the keyspace, and that is all that is asked for. A shard whose
//! row says another one is *recast*: it ends, and goes on as one part with all its slots, under an id, an epoch and a protocol of its own.
//! That is what a shard does that is cut (module `split`), and goes the same way through the same phases.
//!
//! ```text
//!   keyspace/k single, 3 replicas      keyspace alter k --protocol single
//!   shard/3 raft on n1 n2 n3, epoch 1  its leader is on n2
//!   split/3 single, part 9             with change/3 to n2 alone, epoch 2: Copy, then Switch
//!   shard/9 single on n2, epoch 2      and no shard/3, split/3, change/3 any more
//! ```
//!
//! The part is on the nodes that the shard has; of `single` on that of its leader. Other nodes come and go afterwards, as the plan
//! always has it; before that only where the copies that writes wait for would be too few:
//!
//! | to | from `single` | from `raft`, `primary` | from `two-phase` |
//! |---|---|---|---|
//! | `single` | - | its leader's node goes on, or another that is heard of | its master's node goes on |
//! | `raft` | alone, then others come | at once | at once |
//! | `primary`, `two-phase` | by `raft`: once all copies are there | once all copies are there | at once |
//! | `quorum` | by `raft`: once all copies are there | once all copies are there | at once; with other copies than wanted, by `raft` |
//!
//! Where a protocol needs all copies, the shard's or the part's, all nodes must live for it to begin; where it needs a majority, that.
//!
//! From `quorum` the members go on that are heard of when it begins, if what they weigh leaves the others less than R and less than W: then
//! all that was acknowledged is at one of them, and once they are sealed nobody else acknowledges or answers anything. They are named by the
//! change, so all of them know whose rows they are to bring together ([`Map::go_on`]). `two-phase` needs all of them, for it makes no copies
//! later, and `single` is reached by `raft`. If one dies before they are sealed the change is given up and begun anew, with those that are left;
//! after that it is waited for.
//!
//! A shard under `quorum` that has lost a node, or is to leave one, goes the same way: to `raft` with those that are heard of, which makes the
//! copies that are missing on other nodes, and back.
//!
//! # Taken back
//!
//! Naming the protocol that shards have yet takes it back: what copies is given up, and what has gone over goes back the same way. A
//! third one waits until the second is done.

use kv::keyspace::{Settings, Votes};
use kv::view::Member;
use kv::{NodeId, Protocol, ShardId};
use mutant::Mutant;

use crate::map::{Change, Map, NodeDuty, Phase, Shard, Split, Why};
use crate::plan::takers;
use crate::refusal::Refusal;
use crate::revise::is_in_sync;

impl Map {
    /// Whether a keyspace has shards that are under another protocol yet.
    pub fn is_recast(&self, keyspace: &str) -> bool {
        let wanted = self.keyspaces.get(keyspace).map(|keyspace| keyspace.protocol);
        self.shards_of(keyspace).iter().any(|(_, shard)| Some(shard.protocol) != wanted)
    }

    /// The protocol under which the shard's keys go on once what is under way with it is done.
    pub fn protocol_after(&self, id: ShardId, shard: &Shard) -> Protocol {
        let split = self.splits.get(&id).filter(|_| self.changes.contains_key(&id));
        split.and_then(|split| split.protocol).unwrap_or(shard.protocol)
    }

    /// Whether a keyspace may go on as these settings say, and have so many shards.
    pub(crate) fn may_recast(
        &self,
        keyspace: &str,
        settings: &Settings,
        shards: Option<u32>,
    ) -> Result<(), Refusal> {
        let own = self.shards_of(keyspace);
        let is = self.keyspaces[keyspace].protocol;
        if [is, settings.protocol].contains(&Protocol::Broadcast) {
            return Err(Refusal::Invalid(format!(
                "keyspace '{keyspace}' cannot go from {is} to {}: create another keyspace with that protocol, and copy what is in this one",
                settings.protocol
            )));
        }
        if settings.protocol.is_merged() {
            may_lose_order(keyspace, settings)?;
        }
        if shards.is_some_and(|shards| shards as usize != own.len()) {
            return Err(Refusal::Invalid(format!(
                "keyspace '{keyspace}' gets another protocol and other shards one after the other: ask for --protocol first, and for \
                 --shards once that is done"
            )));
        }
        let is_cut =
            |(id, _): &(ShardId, &Shard)| self.splits.get(id).is_some_and(|split| split.protocol.is_none());
        if own.iter().any(is_cut) {
            return Err(Refusal::OneByOne(keyspace.into()));
        }
        let goes_back = own.iter().any(|(_, shard)| shard.protocol == settings.protocol);
        if self.is_recast(keyspace) && !goes_back {
            return Err(Refusal::Recast { keyspace: keyspace.into(), protocol: is });
        }
        let takes =
            |(id, node): &(&kv::NodeId, &crate::map::Node)| node.duty == NodeDuty::Serve && self.lives(**id);
        let nodes = self.nodes.iter().filter(takes).count();
        let copies = match (settings.protocol, settings.sync) {
            (Protocol::TwoPhase | Protocol::Quorum | Protocol::Broadcast, _) => settings.replicas,
            (_, sync) => sync.map_or(1, |sync| sync.min_copies()),
        };
        match nodes < usize::from(copies) {
            true => Err(Refusal::TooFewToGoOn { protocol: settings.protocol, copies, nodes }),
            false => Ok(()),
        }
    }

    /// Whether the nodes of a shard may be other ones now, for all that becomes of its protocol.
    pub(crate) fn may_be_arranged(&self, shard: &Shard) -> bool {
        let is_gone = |member: &Member| self.nodes[&member.node].duty == NodeDuty::Gone;
        let is_brought_up = matches!(shard.protocol, Protocol::Raft | Protocol::Primary);
        self.next_protocol(shard).is_none()
            || self.waits_for_copies(shard)
            || is_brought_up && shard.members.iter().any(is_gone)
    }

    /// Whether the copies of a shard are to be as its keyspace wants them before it goes on under another protocol.
    fn waits_for_copies(&self, shard: &Shard) -> bool {
        let wanted = self.next_protocol(shard);
        matches!(shard.protocol, Protocol::Raft | Protocol::Primary) && wanted.is_some_and(opens_whole)
    }

    /// Under which protocol a shard goes on next; `None` = it stays under its own.
    fn next_protocol(&self, shard: &Shard) -> Option<Protocol> {
        let keyspace = &self.keyspaces[&shard.keyspace];
        match (shard.protocol, keyspace.protocol) {
            (Protocol::Quorum, Protocol::Quorum) if self.lacks_copies(shard) => Some(Protocol::Raft),
            (is, wanted) if is == wanted => None,
            (Protocol::Single, wanted) if opens_whole(wanted) => Some(Protocol::Raft),
            // What its copies have together goes on at all that had it.
            (Protocol::Quorum, Protocol::Single) => Some(Protocol::Raft),
            // Copies that are missing are made under a protocol that makes copies.
            (Protocol::TwoPhase, Protocol::Quorum)
                if shard.members.len() != usize::from(keyspace.replicas) =>
            {
                Some(Protocol::Raft)
            }
            (_, wanted) => Some(wanted),
        }
    }

    /// Whether a shard has fewer copies on nodes that stay than there could be.
    fn lacks_copies(&self, shard: &Shard) -> bool {
        let stays = |id: NodeId| self.nodes[&id].duty == NodeDuty::Serve;
        let has = shard.members.iter().filter(|member| stays(member.node)).count();
        let takes = self.nodes.keys().filter(|id| stays(**id) && self.lives(**id)).count();
        has < takes.min(usize::from(self.keyspaces[&shard.keyspace].replicas))
    }

    /// Whether members of a keyspace are asked by what they weigh, or are to be: of shards that are under quorum, or go there.
    pub(crate) fn is_weighed(&self, keyspace: &str) -> bool {
        let is_so = |(id, shard): &(ShardId, &Shard)| {
            shard.protocol.is_merged() || self.protocol_after(*id, shard).is_merged()
        };
        self.shards_of(keyspace).iter().any(is_so)
    }

    /// The protocol under which a shard can go on now. `is_settled`: it is on the nodes on which it should be.
    pub(crate) fn can_be_recast(&self, id: ShardId, is_settled: bool) -> Option<Protocol> {
        let shard = &self.shards[&id];
        let to = self.next_protocol(shard)?;
        if self.changes.contains_key(&id) || self.waits_for_copies(shard) && !is_settled {
            return None;
        }
        if shard.has_astray() {
            return None;
        }
        if shard.protocol.is_merged() {
            return self.may_get_order(id, shard, to);
        }
        let serves = |member: &Member| self.nodes[&member.node].duty == NodeDuty::Serve;
        // Their copies stay where they are: as many as there are to be, on nodes that stay.
        let (has, wants) = (shard.members.len(), usize::from(self.keyspaces[&shard.keyspace].replicas));
        let is_whole = match to {
            Protocol::TwoPhase => has >= 2,
            Protocol::Quorum | Protocol::Broadcast => has == wants,
            Protocol::Single | Protocol::Raft | Protocol::Primary => return self.may_go_on(shard, to),
        };
        (is_whole && shard.members.iter().all(serves)).then(|| self.may_go_on(shard, to))?
    }

    /// The members whose rows together are all that was acknowledged of a shard, and that go on with it: all, but where writes have no order
    /// those that are heard of, if they weigh enough for nobody else to acknowledge or answer anything once they are sealed.
    pub(crate) fn go_on(&self, id: ShardId, shard: &Shard) -> Option<Vec<Member>> {
        if !shard.protocol.is_merged() {
            return Some(shard.members.clone());
        }
        let is_heard = |member: &&Member| takers::is_alive(self, member.node);
        let near: Vec<Member> = shard.members.iter().filter(is_heard).copied().collect();
        (self.weigh_enough_to_go_on(id, shard, &near) && !near.is_empty()).then_some(near)
    }

    /// Whether these members of a shard without an order weigh so much that the others acknowledge and answer nothing without them.
    pub(crate) fn weigh_enough_to_go_on(&self, id: ShardId, shard: &Shard, near: &[Member]) -> bool {
        let weight = |members: &[Member]| members.iter().map(|member| member.weight).sum::<u32>();
        let total = weight(&shard.members);
        let Votes { read, write } = self.votes_of(id, total);
        let others = total - weight(near);
        others < read && others < write || mutant::is(Mutant::SealedWeightTooSmall)
    }

    /// Whether a shard has ended whose rows a node has together with others: what they have is all there is of it.
    pub(crate) fn brings_together(&self, id: ShardId, node: NodeId) -> bool {
        let change = self.changes.get(&id).filter(|change| change.phase == Phase::Switch);
        let is_one_of = |change: &Change| change.to.iter().any(|member| member.node == node);
        self.shards[&id].protocol.is_merged() && change.is_some_and(is_one_of)
    }

    /// Whether what goes on with a shard without an order is enough for a protocol.
    fn may_get_order(&self, id: ShardId, shard: &Shard, to: Protocol) -> Option<Protocol> {
        let near = self.go_on(id, shard)?.len();
        let is_enough = match to {
            // No copy is made later.
            Protocol::TwoPhase => near >= 2 && near == shard.members.len(),
            Protocol::Primary => near >= usize::from(self.sync_of(id).least.max(2)),
            Protocol::Single | Protocol::Raft | Protocol::Quorum | Protocol::Broadcast => true,
        };
        is_enough.then_some(to)
    }

    /// A protocol, if those live that must for a shard to go on under it.
    fn may_go_on(&self, shard: &Shard, to: Protocol) -> Option<Protocol> {
        let needs_all = shard.protocol == Protocol::TwoPhase || opens_whole(to);
        let lives = match needs_all {
            true => shard.members.iter().all(|member| self.lives(member.node)),
            false => {
                self.has_majority(&shard.members) && (to == Protocol::Single || self.lives(shard.leader))
            }
        };
        let goes_on = to != Protocol::Single || self.goes_on_alone(shard).is_some();
        (lives && goes_on).then_some(to)
    }

    /// The member that is to have a shard alone: its leader, or another one where that was not heard of lately. Of those, one that has all.
    pub(crate) fn goes_on_alone(&self, shard: &Shard) -> Option<Member> {
        let has_all = |member: &&Member| shard.protocol != Protocol::Primary || is_in_sync(member);
        let can = |member: &&Member| takers::is_alive(self, member.node) && has_all(member);
        let leader = shard.member(shard.leader).filter(can);
        leader.or_else(|| shard.members.iter().find(can)).copied()
    }

    /// Whether a change to another protocol that copies leads to one that is not wanted any more.
    pub(crate) fn is_recast_in_vain(&self, id: ShardId, change: &Change) -> bool {
        let to = self.splits.get(&id).and_then(|split| split.protocol);
        let is_vain = to != self.next_protocol(&self.shards[&id]);
        change.why == Why::Protocol && change.phase == Phase::Copy && is_vain
    }

    /// Whether a change that copies makes parts that never open: all members would have to, and one is gone; or all are needed for what they
    /// have together, and one is dead.
    pub(crate) fn never_opens(&self, id: ShardId, change: &Change) -> bool {
        let shard = &self.shards[&id];
        let is_gone = |member: &Member| self.nodes[&member.node].duty == NodeDuty::Gone;
        let is_dead = |member: &Member| !self.lives(member.node);
        let copies = change.why.makes_parts() && change.phase == Phase::Copy;
        let lacks_one = opens_whole(self.protocol_after(id, shard)) && change.to.iter().any(is_gone);
        copies && (lacks_one || shard.protocol.is_merged() && change.to.iter().any(is_dead))
    }

    /// Begins to have a shard go on under another protocol.
    pub(crate) fn begin_recast(&mut self, id: ShardId, protocol: Protocol) {
        self.splits.insert(id, Split { count: 1, protocol: Some(protocol), parts: Vec::new() });
        self.begin_split(id);
    }
}

/// Whether all members of a part must have opened before it is a shard: nobody brings one up that begins with nothing, or each may be asked
/// to go on alone.
pub fn opens_whole(protocol: Protocol) -> bool {
    matches!(protocol, Protocol::Primary | Protocol::TwoPhase | Protocol::Quorum | Protocol::Broadcast)
}

/// Whether what a keyspace is to keep can be kept where writes have no order.
fn may_lose_order(keyspace: &str, settings: &Settings) -> Result<(), Refusal> {
    let is_set = [
        (
            settings.keep.ttl_micros.is_some(),
            "--ttl never",
            "give values their time as they are stored (put --ttl)",
        ),
        (settings.quota.bytes.is_some(), "--quota-bytes none", "copies would not agree on when it is full"),
        (settings.quota.keys.is_some(), "--quota-keys none", "copies would not agree on when it is full"),
    ];
    match is_set.into_iter().find(|(is_set, ..)| *is_set) {
        Some((_, name, why)) => Err(Refusal::Invalid(format!(
            "keyspace '{keyspace}' has a limit that cannot be kept under {}, where writes have no order: {why}. Take it away \
             with {name}, in the same command or before",
            settings.protocol
        ))),
        None => Ok(()),
    }
}
