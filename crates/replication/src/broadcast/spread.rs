//! What a member made reaches the others: publications, gaps, and vectors.
//!
//! Each member's rows are a chain: a publication says above which version, and up to which, it has all of them. Who gets a link that does not fit asks
//! for what is between, of the one who made it or of anybody who has it.
//!
//! ```text
//!   n1   0─7   7─9   9─12                    n2 has 1:7       gets 9─12: the rows count, and 7─9 is asked for
//!         │      ✗     │                     n2 ──── fetch of 1 above 7 ───▶ n1
//!         ▼            ▼                     n2 ◀─── 7─9, 9─12 ──────────── n1
//! ```
//!
//! Of a link that is lost, and has none behind it, the *vector* tells: what a member has of each, which it publishes once a second for as long as
//! somebody's differs from its own. With that it promises to make nothing below the newest version that it knows of, so that all vectors come to say the same;
//! then nobody says anything more.
//!
//! The links of the last time are kept in memory, those of others too. Who asks for older ones [compares](super::compare).

use std::collections::{BTreeMap, VecDeque};

use kv::merged::Row;
use kv::{NodeId, ReplicaId, Version};
use mutant::Mutant;

use super::intake::{covers, raise};
use super::message::{Link, Message};
use super::{Broadcast, VECTOR_MICROS};
use crate::issue::FUTURE_MICROS_MAX;
use crate::record::Vector;
use crate::{Instant, Output};

/// So many links of one member are kept for those who missed them.
const LINKS_MAX: usize = 1024;
/// So many bytes of their rows.
const LINK_BYTES_MAX: usize = 2 << 20;
/// So many bytes of rows answer one question for links.
const FETCH_BYTES_MAX: usize = 1 << 20;
/// So many links of one member that do not fit are remembered; of more the vectors tell.
const ISLANDS_MAX: usize = 64;

/// Another member.
#[derive(Debug, Default)]
pub(super) struct Peer {
    /// It is connected.
    pub(super) is_near: bool,
    /// What it said that it has.
    pub(super) have: Vector,
}

/// What is known of what members made.
#[derive(Debug, Default)]
pub(super) struct Spread {
    /// What this one made is published up to here.
    pub(super) published: Version,
    links: BTreeMap<ReplicaId, Links>,
    /// Links whose rows are here, and that do not fit yet: from, and up to.
    islands: BTreeMap<ReplicaId, Vec<(Version, Version)>>,
    /// Of whom something is asked for, and when it is asked for again if the answer does not come to its end.
    asked: BTreeMap<ReplicaId, Instant>,
    /// When the vector is published next, if there is a reason.
    speak_at: Option<Instant>,
}

/// Links of one member, one behind the other.
#[derive(Debug, Default)]
struct Links {
    links: VecDeque<Link>,
    bytes: usize,
}

impl Links {
    fn push(&mut self, link: Link) {
        match self.links.back_mut() {
            // Of one with rows nobody may have a part: what it has already was dropped since, maybe.
            Some(last) if last.upto == link.previous && last.rows.is_empty() && link.rows.is_empty() => {
                last.upto = link.upto;
            }
            _ => {
                self.bytes += link.bytes();
                self.links.push_back(link);
            }
        }
        while self.links.len() > LINKS_MAX || self.bytes > LINK_BYTES_MAX {
            let oldest = self.links.pop_front().expect("what has bytes is there");
            self.bytes -= oldest.bytes();
        }
    }

    /// The links that follow a version, none of them missing.
    fn behind(&self, after: Version) -> impl Iterator<Item = &Link> {
        let first = self.links.iter().skip_while(move |link| link.upto <= after);
        let (mut reached, mut bytes) = (after, 0);
        first.take_while(move |link| {
            let fits = link.previous <= reached && bytes <= FETCH_BYTES_MAX;
            (reached, bytes) = (link.upto, bytes + link.bytes());
            fits
        })
    }
}

impl Spread {
    /// Of a member that has published what it made up to a version.
    pub(super) fn new(published: Version) -> Spread {
        Spread { published, ..Spread::default() }
    }
}

impl Broadcast {
    /// Publishes what this member made and has durably.
    pub(super) fn publish(&mut self, out: &mut Vec<Output>) {
        let early = mutant::is(Mutant::PublishedBeforeDurable);
        let (vector, until) = match early {
            true => (&self.intake.logged, self.intake.taken),
            false => (&self.intake.have, self.intake.durable),
        };
        let (previous, origin) = (self.spread.published, self.replica);
        let upto = vector.get(&origin).copied().unwrap_or_default();
        if upto <= previous {
            return;
        }
        let rows = self.writes.take_own(until);
        self.spread.published = upto;
        let link = Link { previous, upto, rows };
        self.spread.links.entry(origin).or_default().push(link.clone());
        if !self.peers.is_empty() {
            out.push(Output::Publish { body: Message::Rows { origin, link }.encode() });
        }
    }

    /// Rows that a member made.
    pub(super) fn take_link(&mut self, origin: ReplicaId, mut link: Link) {
        let got = self.intake.got(origin);
        if origin == self.replica || link.upto <= got {
            return;
        }
        // A trim makes a row of an earlier version again.
        let is_trim = |row: &Row| row.floor > Version::ZERO;
        link.rows.retain(|row| link.previous >= got || row.version > got || is_trim(row));
        if !self.intake.merge_trims(link.rows.clone()) {
            // Without room it is as if the link had not come.
            return;
        }
        let (previous, upto) = (link.previous, link.upto);
        if previous <= got || mutant::is(Mutant::GapIgnored) {
            self.spread.links.entry(origin).or_default().push(link);
            self.reach(origin, upto);
        } else {
            let islands = self.spread.islands.entry(origin).or_default();
            if islands.len() < ISLANDS_MAX {
                islands.push((previous, upto));
            }
        }
    }

    /// With what was taken in so far, all is here that a member made up to a version; and what fits behind that.
    pub(super) fn reach(&mut self, origin: ReplicaId, upto: Version) {
        self.intake.stage(origin, upto);
        let islands = self.spread.islands.entry(origin).or_default();
        while let Some(place) = islands.iter().position(|(from, _)| *from <= self.intake.got(origin)) {
            let (_, upto) = islands.swap_remove(place);
            self.intake.stage(origin, upto);
        }
    }

    /// What a member has.
    pub(super) fn take_vector(&mut self, node: NodeId, have: &Vector, asks: bool, out: &mut Vec<Output>) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        for (origin, upto) in have {
            raise(&mut peer.have, *origin, *upto);
        }
        self.settle();
        if asks && !self.differs() {
            self.send(node, &Message::Vector { have: self.intake.have.clone(), asks: false }, out);
        }
    }

    /// Up to where all members have all that any of them made, and will make: counted from what they said last.
    fn settle(&mut self) {
        let of = |have: &Vector| {
            let each = self.view.members.iter().map(|member| have.get(&member.replica).copied());
            each.map(Option::unwrap_or_default).min().unwrap_or_default()
        };
        let others = self.peers.values().map(|peer| of(&peer.have)).min();
        let own = of(&self.intake.have);
        self.stable = own;
        self.settled = others.map_or(own, |others| others.min(own));
    }

    /// Whether somebody within reach has something else than this member, as far as is known here; or it has made no promise yet up to what
    /// it knows of.
    fn differs(&self) -> bool {
        let have = &self.intake.have;
        let is_other = |peer: &Peer| peer.is_near && peer.have != *have;
        self.owes() || self.peers.values().any(is_other)
    }

    fn owes(&self) -> bool {
        let newest = self.intake.have.values().max().copied().unwrap_or_default();
        !self.peers.is_empty() && self.intake.got(self.replica) < newest
    }

    /// When there is something to be said.
    pub(super) fn spread_due(&self) -> Instant {
        let asked = self.spread.asked.values().copied().min().filter(|_| !self.is_comparing());
        self.spread.speak_at.into_iter().chain(asked).min().unwrap_or(Instant::MAX)
    }

    /// Publishes what this member has, now and then, while others may have something else.
    pub(super) fn speak(&mut self, out: &mut Vec<Output>) {
        self.settle();
        if !self.differs() || mutant::is(Mutant::LastMessageMissed) {
            self.spread.speak_at = None;
            return;
        }
        let at = *self.spread.speak_at.get_or_insert(self.now.plus(VECTOR_MICROS));
        if at > self.now {
            return;
        }
        self.spread.speak_at = Some(self.now.plus(VECTOR_MICROS));
        self.promise();
        let body = Message::Vector { have: self.intake.have.clone(), asks: true }.encode();
        out.push(Output::Publish { body });
    }

    /// Nothing will be made here below the newest version that is known.
    fn promise(&mut self) {
        let newest = self.intake.have.values().max().copied().unwrap_or_default();
        let upto = Version::end_of(newest.micros().min(self.clock.micros() + FUTURE_MICROS_MAX));
        if self.owes() {
            self.issue.skip(upto);
            self.intake.stage(self.replica, upto);
        }
    }

    /// Asks for what is missing of each: once, however many links the answer is.
    pub(super) fn fetch_missing(&mut self, out: &mut Vec<Output>) {
        if self.is_comparing() {
            return;
        }
        let origins = Vec::from_iter(self.view.members.iter().map(|member| (member.replica, member.node)));
        for (origin, node) in origins.into_iter().filter(|(origin, _)| *origin != self.replica) {
            let after = self.intake.got(origin);
            let is_waited_for = self.spread.asked.get(&origin).is_some_and(|at| *at > self.now);
            if is_waited_for || mutant::is(Mutant::GapIgnored) {
                continue;
            }
            self.spread.asked.remove(&origin);
            if let Some(whom) = self.whom_to_ask(origin, node, after) {
                self.spread.asked.insert(origin, self.now.plus(VECTOR_MICROS));
                self.send(whom, &Message::Fetch { origin, after }, out);
            }
        }
    }

    /// An answer has come to its end.
    pub(super) fn sent(&mut self, origin: ReplicaId) {
        self.spread.asked.remove(&origin);
    }

    /// Who has more of what a member made: that member, or another one.
    fn whom_to_ask(&self, origin: ReplicaId, node: NodeId, after: Version) -> Option<NodeId> {
        let has_more = |peer: &Peer| peer.have.get(&origin).is_some_and(|upto| *upto > after);
        let is_torn = self.spread.islands.get(&origin).is_some_and(|islands| !islands.is_empty());
        let is_near = |peer: &&Peer| peer.is_near;
        if self.peers.get(&node).filter(is_near).is_some_and(|peer| is_torn || has_more(peer)) {
            return Some(node);
        }
        let others = self.peers.iter().filter(|(_, peer)| peer.is_near && has_more(peer));
        others.max_by_key(|(_, peer)| peer.have.get(&origin).copied()).map(|(node, _)| *node)
    }

    /// Answers who asks for what a member made.
    pub(super) fn answer_fetch(
        &mut self,
        node: NodeId,
        origin: ReplicaId,
        after: Version,
        out: &mut Vec<Output>,
    ) {
        if self.intake.have.get(&origin).is_none_or(|upto| *upto <= after) {
            return;
        }
        let links = self.spread.links.get(&origin);
        let links = Vec::from_iter(links.into_iter().flat_map(|links| links.behind(after)).cloned());
        if links.is_empty() {
            return self.send(node, &Message::Gone { origin }, out);
        }
        self.counts.hints_replayed += links.iter().map(|link| link.rows.len() as u64).sum::<u64>();
        for link in links {
            self.send(node, &Message::Rows { origin, link }, out);
        }
        self.send(node, &Message::Sent { origin }, out);
    }

    /// Whether this member has what the others had when it began, or has waited for them long enough.
    pub(super) fn look_whether_back(&mut self) {
        let Some(goals) = &self.returning else { return };
        let begun = self.begun.unwrap_or(self.now);
        let is_patient = self.now < begun.plus(super::PATIENCE_MICROS);
        let is_others = |origin| origin != self.replica;
        let is_done = |(node, peer): (&NodeId, &Peer)| match goals.get(node) {
            Some(goal) => covers(&self.intake.have, goal, is_others) || !is_patient && !peer.is_near,
            None => !is_patient,
        };
        if self.peers.iter().all(is_done) || mutant::is(Mutant::LateJoinerAnswersEarly) {
            self.returning = None;
        }
    }
}
