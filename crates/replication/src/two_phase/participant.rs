//! A participant: it prepares what the master sends, votes, and applies what is decided.

use kv::{Index, Position, Term};

use super::message::Message;
use super::{Part, TwoPhase, members};
use crate::Output;
use crate::entries::LogEntry;

/// What only a participant knows.
#[derive(Debug, Default)]
pub(super) struct Participant {
    /// Its log is the master's up to here, in the life that it knows.
    matched: Index,
    /// It was asked, and has not answered.
    owes: bool,
    /// What it said last: in which life, and up to where.
    voted: (Term, Index, Index),
}

impl TwoPhase {
    /// The master wants these entries prepared, which stand behind `before`; all up to `decided` are decided.
    pub(super) fn prepare(
        &mut self,
        life: Term,
        before: Position,
        decided: Index,
        entries: Vec<LogEntry>,
        out: &mut Vec<Output>,
    ) {
        if life < self.life || members::is_of_later_revision(life, self.life) {
            return;
        }
        let Part::Participant(participant) = &mut self.part else { return };
        if life > self.life {
            (self.life, participant.matched) = (life, Index::ZERO);
        }
        participant.owes = true;
        let (before, entries) = self.not_given(before, entries);
        if before.index < self.journal.given() {
            return self.match_to(before.index);
        }
        match self.journal.log().term(before.index) {
            Some(term) if term == before.term => self.take_entries(before.index, decided, entries, out),
            // It has voted for that entry, or it would not be decided.
            _ if before.index <= decided => self.lack(before.index, out),
            // A message before this one is lost or late: the master sends it again.
            _ => {}
        }
    }

    /// What of the entries is not given to the table yet, and what stands before that: what is decided is the same everywhere.
    fn not_given(&self, before: Position, mut entries: Vec<LogEntry>) -> (Position, Vec<LogEntry>) {
        let known = self.journal.given().since(before.index) as usize;
        let last = entries.drain(..known.min(entries.len())).last();
        (last.map_or(before, |last| last.at()), entries)
    }

    fn match_to(&mut self, index: Index) {
        if let Part::Participant(participant) = &mut self.part {
            participant.matched = participant.matched.max(index);
        }
    }

    fn take_entries(&mut self, before: Index, decided: Index, entries: Vec<LogEntry>, out: &mut Vec<Output>) {
        let end = before + entries.len() as u64;
        let is_new = |entry: &LogEntry| self.journal.log().term(entry.index) != Some(entry.term);
        let new = entries.iter().position(is_new).unwrap_or(entries.len());
        let new = Vec::from_iter(entries.into_iter().skip(new));
        if let Some(first) = new.first().map(|entry| entry.index) {
            if first <= self.decided {
                return self.lack(first, out);
            }
            self.cut(first);
        }
        self.match_to(end);
        let Part::Participant(participant) = &self.part else { return };
        self.decided = self.decided.max(decided.min(participant.matched));
        if new.is_empty() {
            return;
        }
        let mut records = Vec::from_iter(self.view_to_log());
        for entry in new {
            self.prepared.put(entry.index, self.now);
            records.push(self.journal.put(entry));
        }
        records.push(self.decision(self.decided));
        self.journal.append(records, out);
    }

    /// Says up to where it has synced what the master has, and what it knows decided, when that is news or when it was asked.
    pub(super) fn send_vote(&mut self, out: &mut Vec<Output>) {
        let (to, life, decided, durable) = (self.master(), self.life, self.decided, self.journal.durable());
        let (lacks, last) = (self.lacks.is_some(), self.journal.last());
        let Part::Participant(participant) = &mut self.part else { return };
        let synced = participant.matched.min(durable);
        let vote = (life, synced, decided.min(synced));
        let has_more = life == participant.voted.0 && synced > participant.voted.1;
        let is_settled = durable >= participant.matched;
        let answers = participant.owes && (is_settled || lacks);
        let is_news =
            vote != participant.voted && (is_settled || has_more) && participant.matched > Index::ZERO;
        if answers || is_news {
            (participant.owes, participant.voted) = (false, vote);
            let (synced, decided) = if lacks { (last, Index::ZERO) } else { (vote.1, vote.2) };
            out.push(Output::Send { to, body: Message::Vote { life, synced, decided, lacks }.encode() });
        }
    }
}
