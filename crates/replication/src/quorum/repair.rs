//! Repair: what one member has and another lacks is brought to it, both ways.
//!
//! Hints go with their node, and a round may end with its coordinator in the middle. So members compare what they have, two at a time (Demers
//! et al., "Epidemic algorithms for replicated database maintenance", 1987): sums of digests of their buckets, then the names of the rows in
//! those that differ, then they bring the rows that are newer.
//!
//! ```text
//!   digests of all buckets ─▶ names in some that differ ─▶ rows that are newer there ─▶ stored here
//!     ▲ all are equal: done                             └▶ rows that are newer here  ─▶ stored there ─▶ next names
//! ```
//!
//! A member is compared with when it comes or goes, when hints for it were given up, and when repair has brought something here: others may
//! lack that too. It goes on every [`INTERVAL_MICROS`] until nothing differs. What it brings is limited to [`BYTES_PER_SECOND`].

use kv::merged::{BUCKETS, Found, Look, Named, Row};
use kv::{Key, NodeId};

use super::Quorum;
use super::rounds::{Ask, Got, Next, Round, Task};
use crate::{Instant, Output};

/// So often two members that differ are compared.
pub const INTERVAL_MICROS: u64 = 2_000_000;
/// So many bytes of rows repair brings in a second, beside what clients write.
pub const BYTES_PER_SECOND: u64 = 16 << 20;
/// So many buckets are gone through at once.
const BUCKETS_AT_ONCE: usize = 16;
/// So many rows are brought at once.
const ROWS_AT_ONCE: usize = 512;

/// A comparison with one member.
#[derive(Debug)]
pub(super) struct Repair {
    peer: NodeId,
    /// Both are sealed: nothing is brought there, for that one comes for it.
    is_last: bool,
    /// Buckets that differ, and are not gone through.
    buckets: Vec<u16>,
    /// The names of those at hand are known up to this key; `None` = all are.
    after: Option<Key>,
    /// Rows to bring here, and there.
    take: Vec<Named>,
    give: Vec<Named>,
    /// The rows that were asked for last.
    asked: Vec<Named>,
    /// It has brought something.
    brought: u64,
    at: Place,
}

/// What a comparison is about at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Digests,
    Names,
    /// Rows of the other one are looked at, and stored here; or the other way round.
    Taking,
    Taken,
    Giving,
    Given,
}

impl Quorum {
    /// When a member is compared with next.
    pub(super) fn repair_due(&self) -> Instant {
        let is_open = !self.rounds.with(is_repair).is_empty();
        let of = self.peers.values().filter(|peer| peer.is_to_be_compared() && !is_open);
        of.map(|peer| peer.compare_at).min().unwrap_or(Instant::MAX)
    }

    /// Begins to compare with a member, if one is due; one at a time.
    pub(super) fn begin_repair(&mut self, out: &mut Vec<Output>) {
        let now = self.now;
        if !self.rounds.with(is_repair).is_empty() {
            return;
        }
        let is_due = |peer: &&mut super::Peer| peer.is_to_be_compared() && peer.compare_at <= now;
        let Some((&peer, known)) = self.peers.iter_mut().find(|(_, peer)| is_due(peer)) else { return };
        (known.differs, known.compare_at) = (false, now.plus(INTERVAL_MICROS));
        self.compare(peer, false, out);
    }

    /// Begins to compare with a member.
    pub(super) fn compare(&mut self, peer: NodeId, is_last: bool, out: &mut Vec<Output>) {
        let (buckets, take, give, asked) = Default::default();
        let (at, after, brought) = (Place::Digests, None, 0);
        let repair = Repair { peer, is_last, buckets, after, take, give, asked, brought, at };
        let look = Look::Digests { first: 0, count: BUCKETS, width: 1 };
        self.open(Task::Repair(Box::new(repair)), Ask::Look(look), [peer, self.config.id].into(), out);
    }

    /// Where a comparison stands.
    pub(super) fn repair_goes_on(&mut self, round: &mut Round, is_over: bool) -> Next {
        let is_resting = matches!(round.ask, Ask::Rest(until) if self.now < until);
        let Task::Repair(repair) = &mut round.task else { unreachable!("it is a repair") };
        let peer = repair.peer;
        let is_near = self.peers.get(&peer).is_some_and(|peer| peer.is_near());
        if !is_near || is_over && !matches!(round.ask, Ask::Rest(_)) {
            self.differs(peer);
            return Next::End;
        }
        if is_resting || !matches!(round.ask, Ask::Rest(_)) && round.got.len() < round.of.len() {
            return Next::Wait;
        }
        let own = round.got.remove(&self.config.id);
        let theirs = round.got.remove(&peer);
        if repair.is_last {
            self.heard_last(&own, &theirs);
        }
        match (repair.at, own, theirs) {
            (
                Place::Digests,
                Some(Got::Found(Found::Digests(own), _)),
                Some(Got::Found(Found::Digests(theirs), _)),
            ) => {
                repair.buckets = differing(&own, &theirs);
                self.next_names(round)
            }
            (Place::Names, Some(Got::Found(own, _)), Some(Got::Found(theirs, _))) => {
                repair.compare(own, theirs);
                self.bring(round)
            }
            (Place::Taking, _, Some(Got::Found(Found::Rows { rows, next }, _))) => {
                let rest = repair.rest(next);
                repair.take.splice(..0, rest);
                repair.at = Place::Taken;
                self.store_for_repair(round, rows, self.config.id)
            }
            (Place::Giving, Some(Got::Found(Found::Rows { rows, next }, _)), _) => {
                let rest = repair.rest(next);
                repair.give.splice(..0, rest);
                repair.at = Place::Given;
                self.store_for_repair(round, rows, peer)
            }
            _ => self.bring(round),
        }
    }

    /// Rows are stored where they were lacking. Those that are there no more are newer by now.
    fn store_for_repair(&mut self, round: &mut Round, rows: Vec<Row>, to: NodeId) -> Next {
        let Task::Repair(repair) = &mut round.task else { unreachable!("it is a repair") };
        if rows.is_empty() {
            return self.bring(round);
        }
        repair.brought += rows.len() as u64;
        if repair.is_last {
            self.inherits(&rows);
        }
        self.counts.repaired += rows.len() as u64;
        if to == self.config.id {
            // Others may lack it too.
            let other = repair.peer;
            self.peers
                .iter_mut()
                .filter(|(node, _)| **node != other)
                .for_each(|(_, peer)| peer.differs = true);
        }
        Next::Ask(Ask::Store(rows), [to].into())
    }

    /// Brings the next rows that are known to be lacking; else the next names are compared.
    fn bring(&mut self, round: &mut Round) -> Next {
        let bytes: usize = round.rows().iter().map(Row::bytes).sum();
        let Task::Repair(repair) = &mut round.task else { unreachable!("it is a repair") };
        // While members are sealed, clients wait.
        if bytes > 0 && !repair.is_last {
            let until = self.now.plus(bytes as u64 * 1_000_000 / BYTES_PER_SECOND);
            return Next::Ask(Ask::Rest(until), Default::default());
        }
        let take = |names: &mut Vec<Named>| Vec::from_iter(names.drain(..names.len().min(ROWS_AT_ONCE)));
        if !repair.take.is_empty() {
            repair.at = Place::Taking;
            repair.asked = take(&mut repair.take);
            return Next::Ask(Ask::Look(Look::Rows(repair.asked.clone())), [repair.peer].into());
        }
        if !repair.give.is_empty() {
            repair.at = Place::Giving;
            repair.asked = take(&mut repair.give);
            return Next::Ask(Ask::Look(Look::Rows(repair.asked.clone())), [self.config.id].into());
        }
        self.next_names(round)
    }

    fn next_names(&mut self, round: &mut Round) -> Next {
        let Task::Repair(repair) = &mut round.task else { unreachable!("it is a repair") };
        if repair.after.is_none() {
            // Those at hand are gone through.
            let done =
                if repair.at == Place::Digests { 0 } else { BUCKETS_AT_ONCE.min(repair.buckets.len()) };
            repair.buckets.drain(..done);
        }
        repair.at = Place::Names;
        let buckets = Vec::from_iter(repair.buckets.iter().take(BUCKETS_AT_ONCE).copied());
        if buckets.is_empty() {
            let (peer, is_last) = (repair.peer, repair.is_last);
            if repair.brought > 0 {
                self.differs(peer);
            }
            if is_last {
                self.has_inherited(peer);
            }
            return Next::End;
        }
        let look = Look::Buckets { buckets, after: repair.after.clone() };
        Next::Ask(Ask::Look(look), [repair.peer, self.config.id].into())
    }

    /// A member may have other rows: it is compared with again.
    pub(super) fn differs(&mut self, node: NodeId) {
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.differs = true;
        }
    }
}

impl Repair {
    /// With whom.
    pub(super) fn peer(&self) -> NodeId {
        self.peer
    }

    /// Whether both are sealed.
    pub(super) fn is_last(&self) -> bool {
        self.is_last
    }

    /// What was asked for and is not in an answer that ended early, at this key.
    fn rest(&mut self, next: Option<Key>) -> Vec<Named> {
        let asked = std::mem::take(&mut self.asked);
        asked.into_iter().filter(|(key, _)| next.as_ref().is_some_and(|next| key >= next)).collect()
    }

    /// What differs between two pages of names, up to where both reach.
    fn compare(&mut self, own: Found, theirs: Found) {
        let (Found::Names { names: own, next }, Found::Names { names: theirs, next: their_next }) =
            (own, theirs)
        else {
            return;
        };
        self.after = next.into_iter().chain(their_next).min();
        let is_within = |(key, _): &&Named| self.after.as_ref().is_none_or(|after| key <= after);
        let rank = |names: &[Named], key: &Key| {
            names.binary_search_by(|(other, _)| other.cmp(key)).ok().map(|place| names[place].1)
        };
        let newer = |here: &[Named], there: &[Named]| {
            let is_newer = |(key, here): &&Named| rank(there, key) < Some(*here);
            Vec::from_iter(here.iter().filter(is_within).filter(is_newer).cloned())
        };
        self.take = newer(&theirs, &own);
        self.give = if self.is_last { Vec::new() } else { newer(&own, &theirs) };
    }
}

fn is_repair(round: &Round) -> bool {
    matches!(round.task, Task::Repair(_))
}

/// The buckets whose digests differ.
fn differing(own: &[u64], theirs: &[u64]) -> Vec<u16> {
    let differs = |bucket: &u16| own.get(usize::from(*bucket)) != theirs.get(usize::from(*bucket));
    (0..BUCKETS).filter(differs).collect()
}
