//! Reads at a replica: each waits for the last prepared entry that touches what it looks at, or needs not.

use std::collections::BTreeMap;

use kv::{Index, Level, NodeId, Scope};
use mutant::Mutant;

use super::members;
use super::message::Hello;
use super::prepared::Blocked;
use super::{Part, TwoPhase, elsewhere, has_lost};
use crate::single::too_many_reads;
use crate::waits::Waits;
use crate::{Instant, Output, READS_MAX, Token};

/// The reads that are open.
#[derive(Debug, Default)]
pub(super) struct Reads {
    open: BTreeMap<Token, Read>,
    /// By the entry that must be applied first.
    waits: Waits,
    /// Their rows may be read now.
    fetch: Vec<Token>,
    /// What they waited for was cut.
    unblocked: Vec<Token>,
}

#[derive(Clone, Debug)]
struct Read {
    scope: Scope,
    level: Level,
    /// What its rows may miss.
    misses: Misses,
}

/// What rows may miss of what was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Misses {
    Nothing,
    /// Entries that came at this moment, the first of them, or later; `None` = before the start of this replica.
    Since(Option<Instant>),
}

impl Misses {
    fn staleness_micros(self, now: Instant) -> u64 {
        match self {
            Misses::Nothing => 0,
            Misses::Since(since) => since.map_or(u64::MAX, |since| now.since(since)),
        }
    }

    /// Whether a read of this level may go without it.
    fn is_good_for(self, level: Level, now: Instant) -> bool {
        match (self, level) {
            (Misses::Nothing, _) | (_, Level::Local) => true,
            (_, Level::Linearizable) => false,
            (_, Level::Bounded(millis)) => self.staleness_micros(now) <= millis.saturating_mul(1000),
        }
    }
}

impl Reads {
    /// All entries up to here are applied.
    pub(super) fn applied(&mut self, applied: Index) {
        for token in self.waits.reached(applied) {
            if let Some(read) = self.open.get_mut(&token) {
                read.misses = Misses::Nothing;
                self.fetch.push(token);
            }
        }
    }

    /// Nobody waits for a read any more. Whether it was here.
    pub(super) fn forget(&mut self, token: Token) -> bool {
        if self.open.remove(&token).is_none() {
            return false;
        }
        self.waits.forget(token);
        self.fetch.retain(|other| *other != token);
        self.unblocked.retain(|other| *other != token);
        true
    }

    /// Forgets all: whose they were.
    fn drain(&mut self) -> impl Iterator<Item = Token> + use<> {
        (self.waits, self.fetch, self.unblocked) = Default::default();
        std::mem::take(&mut self.open).into_keys()
    }
}

impl TwoPhase {
    /// Another member of the shard is there: nothing was decided in this epoch by others since its own folder was here last.
    pub(super) fn meet(&mut self, node: NodeId) {
        self.has_met |= match self.is_master() {
            true => self.view.member(node).is_some(),
            false => node == self.master(),
        };
    }

    /// The same, with what it says first. Where it lives under a later revision this one may be a member no more: it reads nothing before it
    /// has heard of that.
    pub(super) fn meet_at(&mut self, node: NodeId, hello: &bytes::Bytes) {
        let hello = Hello::decode(hello);
        match hello.is_ok_and(|hello| members::is_of_later_revision(hello.life, self.life)) {
            true => self.has_met = false,
            false => self.meet(node),
        }
    }

    /// Whether a read of a level may be answered here. A replica that starts may be an old copy of its node's folder, or of an epoch that has
    /// ended long ago: then nobody of the shard lets it in, and it knows of nothing that was written since.
    pub(super) fn may_read(&self, level: Level) -> bool {
        self.has_met || level == Level::Local || mutant::is(Mutant::ParticipantReadsUnmet)
    }

    /// Takes a read in.
    pub(super) fn read(&mut self, token: Token, scope: Scope, level: Level, out: &mut Vec<Output>) {
        let error = match () {
            () if self.is_sealed() => return out.push(elsewhere(token)),
            () if !self.may_read(level) => return out.push(elsewhere(token)),
            () if self.lacks.is_some() => has_lost(),
            () if self.reads.open.len() >= READS_MAX => too_many_reads(),
            () => {
                let read = Read { scope, level, misses: Misses::Nothing };
                let before = self.reads.open.insert(token, read);
                assert!(before.is_none(), "a token names one open read: {token}");
                return self.place(token);
            }
        };
        out.push(Output::Refuse { token, error });
    }

    /// The rows of a read are here: they are answered, unless they have become too old meanwhile.
    pub(super) fn fetched(&mut self, token: Token, out: &mut Vec<Output>) {
        let Some(read) = self.reads.open.get(&token) else { return };
        let (reached, misses) = (read.level, read.misses);
        if !misses.is_good_for(reached, self.now) {
            return self.place(token);
        }
        self.reads.open.remove(&token);
        let staleness_micros = misses.staleness_micros(self.now);
        out.push(Output::Answer { token, reached, staleness_micros, copies: self.copies() });
    }

    /// Lets a read go, or has it wait.
    fn place(&mut self, token: Token) {
        let to = match &self.part {
            _ if mutant::is(Mutant::PreparedDoesNotBlockReads) => self.decided,
            Part::Master(master) => self.decided.max(master.kept),
            Part::Participant(_) => self.journal.last(),
        };
        let read = self.reads.open.get_mut(&token).expect("a read that is placed is open");
        let blocked = self.prepared.blocks(&read.scope, to, self.journal.log());
        let misses = blocked.map_or(Misses::Nothing, |Blocked { since, .. }| Misses::Since(since));
        match blocked {
            Some(Blocked { last, .. }) if !misses.is_good_for(read.level, self.now) => {
                self.reads.waits.wait(last, token);
            }
            _ => {
                read.misses = misses;
                self.reads.fetch.push(token);
            }
        }
    }

    /// Entries from this one on are cut: who waits for them waits no more for these.
    pub(super) fn cut(&mut self, from: Index) {
        let Reads { waits, unblocked, .. } = &mut self.reads;
        unblocked.extend(waits.from(from));
    }

    /// Hands out what may be read now; turns all away when the epoch has ended, or when nothing here is to be trusted.
    pub(super) fn let_reads_go(&mut self, out: &mut Vec<Output>) {
        if self.is_sealed() {
            return out.extend(self.reads.drain().map(elsewhere));
        }
        if self.lacks.is_some() {
            let refuse = |token| Output::Refuse { token, error: has_lost() };
            return out.extend(self.reads.drain().map(refuse));
        }
        for token in std::mem::take(&mut self.reads.unblocked) {
            self.place(token);
        }
        if !self.reads.fetch.is_empty() {
            out.push(Output::Fetch { tokens: std::mem::take(&mut self.reads.fetch) });
        }
    }
}
