//! The master: it orders, counts votes, decides and gives up.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use kv::{Epoch, Error, Index, NodeId, Term};
use mutant::Mutant;

use super::message::{Hello, Message};
use super::{PATIENCE_MICROS, Part, RESEND_MICROS, TwoPhase, elsewhere, has_lost, members};
use crate::batch::Batch;
use crate::entries::{LogEntry, OPS};
use crate::{ENTRY_BYTES_MAX, Instant, Output, Ticket, Token};

/// What only the master knows.
pub(super) struct Master {
    batch: Batch,
    /// Whose the ops of the entries are that are not given out.
    tokens: BTreeMap<Index, Vec<Token>>,
    peers: BTreeMap<NodeId, Peer>,
    /// The log says that all entries up to here are decided; it may not be synced yet.
    logged: Index,
    /// Entries up to here are of masters of earlier revisions: any of them may be decided, and none is given up.
    pub(super) kept: Index,
    /// Decisions that are not synced.
    deciding: VecDeque<(Ticket, Index)>,
    /// A life begins with this append: until it is synced nothing is said in it.
    opening: Option<Ticket>,
    /// Whose writes are given up when the life has begun.
    given_up: Vec<Token>,
    /// It is to end the epoch.
    pub(super) seal_wanted: Option<Epoch>,
}

/// A participant as the master knows it.
#[derive(Clone, Copy, Debug)]
struct Peer {
    is_connected: bool,
    stand: Stand,
    /// Entries up to here were sent since it was connected, or since they were sent again.
    sent: Index,
    /// It was told that entries up to here are decided.
    told: Index,
    /// It knows that entries up to here are decided.
    knows: Index,
    /// It is to answer, whether there is news for it or not.
    asked: bool,
    /// When it was last sent something, or last got further.
    moved: Instant,
    /// It lacks what it had voted for.
    lacks: bool,
}

/// Whether a participant takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stand {
    /// It does not: writes are refused.
    Away,
    /// It is expected to, from this moment on: writes wait.
    Coming(Instant),
    /// It has voted in this life, up to this entry; and since when it has not got further though there is something.
    Here(Index, Option<Instant>),
}

impl Peer {
    fn new(now: Instant, is_connected: bool, decided: Index) -> Peer {
        let (sent, stand) = (decided, Stand::Coming(now));
        let (told, knows) = (Index::ZERO, Index::ZERO);
        Peer { is_connected, stand, sent, told, knows, asked: true, moved: now, lacks: false }
    }

    /// Since when it is waited for.
    fn waited_for_since(&self) -> Option<Instant> {
        match self.stand {
            Stand::Away => None,
            Stand::Coming(since) => Some(since),
            Stand::Here(_, behind) => behind,
        }
    }

    /// Whether it is to hear or to say something.
    fn is_open(&self, decided: Index, last: Index) -> bool {
        let is_level = matches!(self.stand, Stand::Here(synced, _) if synced == last);
        self.is_connected && !self.lacks && !(is_level && self.knows >= decided)
    }
}

impl Master {
    /// Of a log that says that entries up to `decided` are decided, and those up to `kept` may be, with these participants.
    pub(super) fn new(others: impl Iterator<Item = NodeId>, decided: Index, kept: Index) -> Master {
        Master {
            batch: Batch::default(),
            tokens: BTreeMap::new(),
            peers: others.map(|node| (node, Peer::new(Instant::default(), false, decided))).collect(),
            logged: decided,
            kept,
            deciding: VecDeque::new(),
            opening: None,
            given_up: Vec::new(),
            seal_wanted: None,
        }
    }

    /// Only these are participants from now on.
    pub(super) fn keep(&mut self, others: &[NodeId]) {
        self.peers.retain(|node, _| others.contains(node));
    }

    /// It has been a participant until now, and does not know who is connected: all are expected to be.
    pub(super) fn greet_all(&mut self, now: Instant) {
        let decided = self.logged;
        self.peers.values_mut().for_each(|peer| *peer = Peer::new(now, true, decided));
    }

    /// Up to where nothing is given up: it is decided, or may be.
    pub(super) fn firm(&self) -> Index {
        self.logged.max(self.kept)
    }

    /// The log says that all entries up to here are decided.
    pub(super) fn logged(&self) -> Index {
        self.logged
    }

    /// Whose the ops of an entry are that is given out.
    pub(super) fn tokens_of(&mut self, index: Index) -> Vec<Token> {
        self.tokens.remove(&index).unwrap_or_default()
    }

    /// When it wants to know the time next.
    pub(super) fn due(&self, decided: Index, last: Index) -> Instant {
        let of = |peer: &Peer| {
            let patience = peer.waited_for_since().map(|since| since.plus(PATIENCE_MICROS));
            let resend = peer.is_open(decided, last).then(|| peer.moved.plus(RESEND_MICROS));
            patience.into_iter().chain(resend).min()
        };
        self.peers.values().filter_map(of).min().unwrap_or(Instant::MAX)
    }

    /// What a participant stands at, for people: its vote, or a sign.
    pub(super) fn progress(&self) -> impl Iterator<Item = String> + '_ {
        self.peers.iter().map(|(node, peer)| match peer.stand {
            _ if peer.lacks => format!("{node}:lacks"),
            Stand::Away => format!("{node}:away"),
            Stand::Coming(_) => format!("{node}:?"),
            Stand::Here(synced, _) => format!("{node}:{synced}"),
        })
    }

    fn is_complete(&self) -> bool {
        self.peers.values().all(|peer| matches!(peer.stand, Stand::Here(..)))
    }

    /// Who is away.
    fn missing(&self) -> Option<NodeId> {
        self.peers.iter().find(|(_, peer)| peer.stand == Stand::Away).map(|(node, _)| *node)
    }

    /// Up to where all participants have voted.
    fn voted(&self) -> Index {
        let of = |peer: &Peer| match peer.stand {
            Stand::Here(synced, _) => synced,
            Stand::Away | Stand::Coming(_) => Index::ZERO,
        };
        self.peers.values().map(of).min().unwrap_or(Index::MAX)
    }
}

impl TwoPhase {
    /// The first thing that a master does: it begins a life. What an earlier one had prepared and not decided is given up.
    pub(super) fn begin(&mut self, out: &mut Vec<Output>) {
        let now = self.now;
        let Part::Master(master) = &mut self.part else { return };
        master.peers.values_mut().for_each(|peer| *peer = Peer::new(now, false, master.logged));
        self.begin_life(out);
    }

    /// Begins a life: its first entry stands in the place of the first that is not decided, nor may be.
    pub(super) fn begin_life(&mut self, out: &mut Vec<Output>) {
        let Part::Master(master) = &mut self.part else { return };
        self.life = self.life.next();
        let index = master.firm().next();
        let entry = LogEntry { index, term: self.life, kind: OPS, data: Bytes::new() };
        master.given_up.extend(master.tokens.split_off(&index).into_values().flatten());
        for peer in master.peers.values_mut() {
            (peer.sent, peer.asked) = (master.logged, true);
            if matches!(peer.stand, Stand::Here(..)) {
                peer.stand = Stand::Coming(self.now);
            }
        }
        let decided = master.logged;
        let mut records = Vec::from_iter(self.view_to_log());
        records.push(self.decision(decided));
        records.push(self.journal.put(entry));
        self.prepared.put(index, self.now);
        let ticket = self.journal.append(records, out);
        let Part::Master(master) = &mut self.part else { return };
        master.opening = Some(ticket);
    }

    /// Gives up what is not decided, if there is anything that somebody waits for; and what waits for its entry.
    fn give_up(&mut self, out: &mut Vec<Output>) {
        let Part::Master(master) = &mut self.part else { return };
        let why = refusal(master.missing());
        let refuse = |token| Output::Refuse { token, error: why.clone() };
        out.extend(master.batch.drain().map(refuse));
        let holds_ops = |entry: &LogEntry| entry.kind == OPS && !entry.data.is_empty();
        if self.journal.log().above(master.firm()).any(holds_ops) {
            self.begin_life(out);
        }
    }

    /// A participant is not there any more, or says nothing though the connection to it stands.
    pub(super) fn away(&mut self, node: NodeId, is_connected: bool, out: &mut Vec<Output>) {
        let Part::Master(master) = &mut self.part else { return };
        let Some(peer) = master.peers.get_mut(&node) else { return };
        (peer.stand, peer.asked) = (Stand::Away, true);
        peer.is_connected &= is_connected;
        self.give_up(out);
    }

    /// A participant is there (again): it is sent what is not decided, and takes part when it votes for that.
    pub(super) fn connected(&mut self, node: NodeId, hello: &Bytes, out: &mut Vec<Output>) {
        let Ok(Hello { life, decided }) = Hello::decode(hello) else { return };
        let (now, own_life) = (self.now, self.life);
        let Part::Master(master) = &mut self.part else { return };
        let Some(peer) = master.peers.get_mut(&node) else { return };
        *peer = Peer::new(now, true, master.logged);
        if members::is_of_later_revision(life, own_life) {
            return;
        }
        if life > own_life || decided > master.firm() {
            self.lack(decided, out);
        }
    }

    /// Orders ops, or says why not.
    pub(super) fn propose(&mut self, ops: Vec<(Token, Bytes)>, out: &mut Vec<Output>) {
        let (is_sealed, lacks) = (self.is_sealed(), self.lacks.is_some());
        let Part::Master(master) = &mut self.part else {
            return out.extend(ops.into_iter().map(|(token, _)| elsewhere(token)));
        };
        for (token, op) in ops {
            let missing = master.missing().map(|node| refusal(Some(node)));
            let taken = match missing.or_else(|| lacks.then(has_lost)) {
                _ if is_sealed || master.seal_wanted.is_some() => Err(Error::WrongNode { try_next: None }),
                Some(why) => Err(why),
                None => master.batch.push(token, op),
            };
            if let Err(error) = taken {
                out.push(Output::Refuse { token, error });
            }
        }
    }

    /// Nobody waits for a write any more. Whether it had no entry yet: then nothing happens of it.
    pub(super) fn forget_write(&mut self, token: Token) -> bool {
        match &mut self.part {
            Part::Master(master) => master.batch.forget(token),
            Part::Participant(_) => false,
        }
    }

    /// A participant has voted.
    pub(super) fn take_vote(
        &mut self,
        from: NodeId,
        (life, synced, decided): (Term, Index, Index),
        lacks: bool,
        out: &mut Vec<Output>,
    ) {
        let (now, last, own) = (self.now, self.journal.last(), self.life);
        let Part::Master(master) = &mut self.part else { return };
        let Some(peer) = master.peers.get_mut(&from).filter(|peer| peer.is_connected) else { return };
        if members::is_of_later_revision(life, own) {
            return;
        }
        if life > own {
            return self.lack(decided, out);
        }
        if master.opening.is_some() || (life < own && !mutant::is(Mutant::VoteOfAnotherLifeCounted)) {
            return;
        }
        if lacks {
            let was_known = std::mem::replace(&mut peer.lacks, true);
            if !was_known {
                out.push(Output::PeerLacks { node: from, acknowledged: master.logged, last: synced });
            }
            return self.away(from, true, out);
        }
        let before = match peer.stand {
            Stand::Here(before, _) => before,
            Stand::Away | Stand::Coming(_) => Index::ZERO,
        };
        let synced = if mutant::is(Mutant::VoteOfAnotherLifeCounted) { synced.min(last) } else { synced };
        peer.knows = peer.knows.max(decided);
        if synced > before && synced <= last {
            peer.moved = now;
            peer.stand = Stand::Here(synced, (synced < last).then_some(now));
        }
    }

    /// Looks who has let it wait for too long, and who is to be sent something again.
    pub(super) fn look_at_the_clock(&mut self, out: &mut Vec<Output>) {
        let (now, decided, last) = (self.now, self.decided, self.journal.last());
        let Part::Master(master) = &mut self.part else { return };
        let mut gives_up = false;
        for peer in master.peers.values_mut() {
            if peer.waited_for_since().is_some_and(|since| now.since(since) >= PATIENCE_MICROS) {
                (peer.stand, gives_up) = (Stand::Away, true);
            }
            if peer.is_open(decided, last) && now.since(peer.moved) >= RESEND_MICROS {
                let has = if let Stand::Here(synced, _) = peer.stand { synced } else { Index::ZERO };
                (peer.sent, peer.asked, peer.moved) = (has.max(master.logged), true, now);
            }
        }
        if gives_up {
            self.give_up(out);
        }
    }

    /// All appends up to this ticket are synced.
    pub(super) fn take_synced(&mut self, ticket: Ticket, out: &mut Vec<Output>) {
        if let Some(end) = &mut self.end {
            end.synced(ticket);
        }
        let Part::Master(master) = &mut self.part else { return };
        while let Some((_, decided)) = master.deciding.pop_front_if(|(own, _)| *own <= ticket) {
            self.decided = self.decided.max(decided);
        }
        if master.opening.take_if(|own| *own <= ticket).is_some() {
            let why = refusal(master.missing());
            let refuse = |token| Output::Refuse { token, error: why.clone() };
            out.extend(std::mem::take(&mut master.given_up).into_iter().map(refuse));
        }
    }

    /// Decides what can be decided, and appends what waits.
    pub(super) fn advance(&mut self, out: &mut Vec<Output>) {
        loop {
            let Part::Master(master) = &mut self.part else { return };
            if master.opening.is_some() || !self.journal.may_append() || self.lacks.is_some() {
                return;
            }
            let mut decided = master.voted().min(self.journal.durable());
            if mutant::is(Mutant::SealDecidedWithoutAVote) && self.journal.log().is_sealed() {
                decided = self.journal.durable();
            }
            let decides = decided > master.logged;
            let entry = if self.journal.has_room() { self.next_entry(out) } else { None };
            if !decides && entry.is_none() {
                return;
            }
            let mut records = Vec::from_iter(decides.then(|| self.decision(decided)));
            if let Some((kind, data, tokens)) = entry {
                records.push(self.put_own(kind, data, tokens));
            }
            let ticket = self.journal.append(records, out);
            if decides {
                self.note_decision(ticket, decided);
            }
        }
    }

    fn note_decision(&mut self, ticket: Ticket, decided: Index) {
        let Part::Master(master) = &mut self.part else { return };
        master.logged = decided;
        master.deciding.push_back((ticket, decided));
        if mutant::is(Mutant::DecisionBeforeDurable) {
            self.decided = decided;
        }
    }

    /// What the next entry is: its kind, its data and whose its ops are.
    fn next_entry(&mut self, out: &mut Vec<Output>) -> Option<(u8, Bytes, Vec<Token>)> {
        let is_sealed = self.is_sealed();
        let Part::Master(master) = &mut self.part else { return None };
        if is_sealed || !master.is_complete() {
            return None;
        }
        if let Some(next) = master.seal_wanted {
            out.extend(master.batch.drain().map(elsewhere));
            return Some(super::seal::entry(next));
        }
        master.batch.next(self.clock).map(|(data, tokens)| (OPS, data, tokens))
    }

    /// Puts an entry of its own into the log: its record.
    fn put_own(&mut self, kind: u8, data: Bytes, tokens: Vec<Token>) -> Bytes {
        let index = self.journal.last().next();
        let now = self.now;
        self.prepared.put(index, now);
        let record = self.journal.put(LogEntry { index, term: self.life, kind, data });
        if let Part::Master(master) = &mut self.part {
            master.tokens.insert(index, tokens);
            for peer in master.peers.values_mut() {
                if let Stand::Here(_, behind) = &mut peer.stand {
                    behind.get_or_insert(now);
                }
            }
        }
        record
    }

    /// Sends what is new to those who are connected.
    pub(super) fn send_prepares(&mut self, out: &mut Vec<Output>) {
        let (life, decided, now) = (self.life, self.decided, self.now);
        let (log, last) = (self.journal.log(), self.journal.last());
        let Part::Master(master) = &mut self.part else { return };
        if master.opening.is_some() || self.lacks.is_some() {
            return;
        }
        let connected = master.peers.iter_mut().filter(|(_, peer)| peer.is_connected && !peer.lacks);
        for (&to, peer) in connected {
            while peer.sent < last || peer.asked || peer.told < decided {
                let term =
                    log.term(peer.sent).expect("what is not decided and the entry before it are in memory");
                let before = kv::Position { index: peer.sent, term };
                let entries = page(log.above(peer.sent));
                peer.sent = peer.sent + entries.len() as u64;
                (peer.told, peer.asked, peer.moved) = (peer.told.max(decided), false, now);
                let body = Message::Prepare { life, before, decided, entries }.encode();
                out.push(Output::Send { to, body });
            }
        }
    }
}

/// As many of the entries as one message holds.
fn page<'a>(entries: impl Iterator<Item = &'a LogEntry>) -> Vec<LogEntry> {
    let mut bytes = 0;
    let fits = |entry: &&LogEntry| {
        let is_first = bytes == 0;
        bytes += entry.data.len() + 1;
        is_first || bytes <= ENTRY_BYTES_MAX
    };
    entries.take_while(fits).cloned().collect()
}

/// Why a write is refused, or given up: nothing of it happened, or ever will.
fn refusal(missing: Option<NodeId>) -> Error {
    let who = missing.map_or_else(|| "one of its nodes".into(), |node| format!("node {node}"));
    Error::Unavailable(format!(
        "{who} has a copy of this shard and does not answer, and a two-phase keyspace takes a write on all copies or on none: \
         nothing of it happened; start that node, find what cuts it off, or declare it dead if it is lost for good"
    ))
}
