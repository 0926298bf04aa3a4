//! The leader: it reads the rows, holds the map that they are, and writes the next one.
//!
//! ```text
//!            leads              all rows are here
//!   Away ─────────▶ Reads ───────────────────────────▶ Decides ──┐ one transaction at a time: held? then it is the map
//!    ▲                │ ▲     no rows: founds          │ │ ▲─────┘
//!    │                │ └─────────────────────────────┘ │
//!    │                │        not held, in doubt, refused
//!    └────────────────┴── leads no more ─────────────────┘
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use kv::admin::{Answer, Ask};
use kv::{ClusterId, Error, Key, Op, Range, Reply, Value, Version};
use mutant::Mutant;
use placement::map::Map;
use placement::{Event, Limits};
use replication::Instant;

use super::asks::{self, Decision};
use super::duties::Reign;
use super::lately::Lately;
use super::seen::Seen;
use super::{Asker, Output, Standing};

/// So many asks may wait for the leader; more are refused.
const ASKS_MAX: usize = 64;
/// What failed is tried again after this.
const RETRY_MICROS: u64 = 100_000;
/// It is looked so often whether something is to be done: a small part of what a node takes to be suspect.
const LOOK_MICROS: u64 = 100_000;
/// A word is waited for as long as a far node needs there and back.
const WORD_MICROS: u64 = 500_000;

/// What a leader before has asked of the shard comes about within this, or never: no longer than a request may take.
const LATE_MICROS: u64 = 6_000_000;

/// The answers that are ready.
pub(super) type Told = Vec<(Asker, Result<Answer, Error>)>;

/// The directory's leader, on a node that may be it.
#[derive(Debug)]
pub(super) struct Leader {
    grace_micros: u64,
    limits: Limits,
    now: Instant,
    /// The newest map that this node knows.
    known: Arc<Map>,
    cluster: Option<ClusterId>,
    role: Role,
    /// What is asked and not decided yet, the oldest first.
    asks: VecDeque<(Asker, Ask)>,
    lately: Lately,
    /// A keyspace is to be created: since then it waits for a word of those that seem to be there.
    sounding: Option<Instant>,
    /// Of the last request.
    number: u64,
}

#[derive(Debug)]
enum Role {
    /// Another node leads, or none.
    Away,
    /// It leads, and reads the rows, not before this.
    Begins(Instant),
    /// It reads the rows.
    Reads(Reading),
    /// There are no rows: it writes this map.
    Founds(Box<Map>),
    /// It has the map that the rows are.
    Decides(Box<Decides>),
    /// The rows cannot be used: why.
    Stuck(String),
}

/// The rows that were read so far.
#[derive(Debug, Default)]
struct Reading {
    rows: BTreeMap<Key, Value>,
    /// The version that the first page is of; so are the others.
    at: Option<Version>,
    /// The revision that this node knew when it began: what is written is not older.
    known: u64,
}

#[derive(Debug)]
struct Decides {
    reign: Reign,
    look_at: Instant,
    /// When it is looked once whether a leader before has still written something since the rows were read.
    confirm_at: Option<Instant>,
    /// The transaction that is under way.
    writes: Option<Writes>,
}

#[derive(Debug)]
struct Writes {
    next: Map,
    /// Who waits for it, what was asked, and the answer if it holds.
    answers: Option<(Asker, Ask, Result<Answer, Error>)>,
}

impl Leader {
    /// It does not lead yet.
    pub fn new(grace_micros: u64, limits: Limits) -> Leader {
        Leader {
            grace_micros,
            limits,
            now: Instant::default(),
            known: Arc::default(),
            cluster: None,
            role: Role::Away,
            asks: VecDeque::new(),
            lately: Lately::default(),
            sounding: None,
            number: 0,
        }
    }

    /// The map that it decides with.
    #[cfg(test)]
    pub fn map(&self) -> Option<&Map> {
        if let Role::Decides(decides) = &self.role { Some(&decides.reign.map) } else { None }
    }

    /// Whether it wants to be shown what the node sees.
    pub fn looks(&self) -> bool {
        let is_due = |decides: &Decides| self.sounding.is_some() || decides.look_at <= self.now;
        matches!(&self.role, Role::Decides(decides) if decides.writes.is_none() && is_due(decides))
    }

    pub fn tick(&mut self, standing: &Standing, told: &mut Told, out: &mut Vec<Output>) {
        self.now = standing.now;
        self.known.clone_from(&standing.map);
        self.cluster = standing.cluster;
        match (&self.role, standing.leads) {
            (Role::Away, true) => {
                tracing::info!("this node leads the directory");
                self.role = Role::Begins(self.now);
            }
            (Role::Away, false) | (_, true) => {}
            (_, false) => self.step_down(told),
        }
        // A node that does not know which cluster this is has nothing to decide.
        if self.cluster.is_some() && matches!(self.role, Role::Begins(at) if at <= self.now) {
            self.role = Role::Reads(Reading { known: self.known.revision, ..Reading::default() });
            self.request(Op::Range(Range::default()), out);
        }
        self.decide(told, out);
    }

    /// Somebody asks.
    pub fn ask(&mut self, asker: Asker, ask: Ask, told: &mut Told, out: &mut Vec<Output>) {
        if let Some(answer) = self.lately.answer(self.now, asker) {
            return told.push((asker, Ok(answer.clone())));
        }
        let refused = match &self.role {
            Role::Away => Error::WrongNode { try_next: None },
            Role::Stuck(why) => Error::Unavailable(why.clone()),
            _ if self.has(asker) => return,
            _ if self.asks.len() < ASKS_MAX => {
                if matches!(ask, Ask::CreateKeyspace { .. }) {
                    self.sound(out);
                }
                self.asks.push_back((asker, ask));
                return self.decide(told, out);
            }
            _ => Error::Unavailable("the directory is asked too much at once: ask again in a moment".into()),
        };
        told.push((asker, Err(refused)));
    }

    /// A keyspace is not to begin on a node that was lost meanwhile: the silence of one tells when it is asked for a word.
    fn sound(&mut self, out: &mut Vec<Output>) {
        if self.sounding.is_none() {
            self.sounding = Some(self.now);
            out.push(Output::Sound);
        }
    }

    /// What the node sees.
    pub fn see(&mut self, seen: Seen, told: &mut Told, out: &mut Vec<Output>) {
        let Role::Decides(decides) = &mut self.role else { return };
        decides.look_at = self.now.plus(LOOK_MICROS);
        decides.reign.see(seen, self.now);
        let is_over = |since: Instant| self.now.since(since) >= WORD_MICROS;
        if let Some(since) =
            self.sounding.take_if(|since| is_over(*since) || decides.reign.have_spoken(*since))
        {
            decides.reign.sounded = since;
        }
        if decides.writes.is_none()
            && let Some(next) = decides.reign.due(self.now)
        {
            self.write(next, None, out);
        } else if decides.writes.is_none() && decides.confirm_at.take_if(|at| *at <= self.now).is_some() {
            let map = decides.reign.map.clone();
            self.write(map, None, out);
        }
        self.decide(told, out);
    }

    /// The answer to a request.
    pub fn answered(
        &mut self,
        number: u64,
        result: Result<Reply, Error>,
        told: &mut Told,
        out: &mut Vec<Output>,
    ) {
        if number != self.number {
            return;
        }
        match std::mem::replace(&mut self.role, Role::Begins(self.now)) {
            Role::Reads(reading) => self.take_page(reading, result, out),
            Role::Founds(map) => match result.map(|reply| reply.answer) {
                Ok(kv::Answer::Transaction { succeeded: true, .. }) => self.begin_to_decide(*map, out),
                Ok(_) => {}
                Err(_) => self.role = Role::Begins(self.now.plus(RETRY_MICROS)),
            },
            Role::Decides(decides) => self.take_outcome(decides, result, told, out),
            other => self.role = other,
        }
        self.decide(told, out);
    }

    /// Another one leads from now on, or none. Whose ask may be done by then is told so; the others ask elsewhere.
    fn step_down(&mut self, told: &mut Told) {
        tracing::info!("this node leads the directory no more");
        let role = std::mem::replace(&mut self.role, Role::Away);
        if let Role::Decides(decides) = role
            && let Some(Writes { answers: Some((asker, ..)), .. }) = decides.writes
        {
            let why = "the node that leads the directory lost this role before it was written";
            told.push((asker, Err(Error::InDoubt(why.into()))));
        }
        let elsewhere = |(asker, _)| (asker, Err(Error::WrongNode { try_next: None }));
        told.extend(self.asks.drain(..).map(elsewhere));
    }

    /// Whether somebody's ask is here already: it is sent again when the answer takes its time.
    fn has(&self, asker: Asker) -> bool {
        let writes = match &self.role {
            Role::Decides(decides) => decides.writes.as_ref().and_then(|writes| writes.answers.as_ref()),
            _ => None,
        };
        let asked = self.asks.iter().map(|(asker, _)| asker);
        asked.chain(writes.map(|(asker, ..)| asker)).any(|other| *other == asker)
    }

    fn request(&mut self, op: Op, out: &mut Vec<Output>) {
        self.number += 1;
        out.push(Output::Request { number: self.number, op });
    }

    fn take_page(&mut self, mut reading: Reading, result: Result<Reply, Error>, out: &mut Vec<Output>) {
        let Ok(Reply { answer: kv::Answer::Page(page), receipt }) = result else {
            // What was overwritten since the first page may be trimmed: then there is a newer map to be read.
            self.role = Role::Begins(self.now.plus(RETRY_MICROS));
            return;
        };
        reading.rows.extend(page.rows.into_iter().map(|row| (row.key, row.value)));
        if page.next.is_some() {
            reading.at = reading.at.or(Some(receipt.version));
            let (page, at) = (page.next, reading.at);
            self.role = Role::Reads(reading);
            return self.request(Op::Range(Range { page, at, ..Range::default() }), out);
        }
        let Reading { rows, known, .. } = reading;
        if rows.is_empty() && known <= 1 {
            return self.found(out);
        }
        match Map::from_rows(&rows) {
            Err(why) => self.be_stuck(why.to_string()),
            Ok(map) if map.revision < known => {
                self.be_stuck(format!(
                    "its rows are of revision {}, and this node has seen {known}",
                    map.revision
                ));
            }
            Ok(map) => self.begin_to_decide(map, out),
        }
    }

    /// There are no rows: writes the map that the first nodes have computed, as soon as the cluster's id is known.
    fn found(&mut self, out: &mut Vec<Output>) {
        self.role = Role::Begins(self.now.plus(RETRY_MICROS));
        let founded = self.cluster.and_then(|cluster| self.known.apply(&Event::Founded { cluster }).ok());
        if let Some(map) = founded {
            self.request(Map::transaction(&Map::default(), &map), out);
            self.role = Role::Founds(Box::new(map));
        }
    }

    fn be_stuck(&mut self, why: String) {
        tracing::error!(
            why,
            "the directory's rows cannot be used: nothing is decided until another node leads it"
        );
        self.role = Role::Stuck(format!(
            "the directory cannot decide: {why}; were data folders put back from old copies, or is another version running?"
        ));
    }

    fn begin_to_decide(&mut self, map: Map, out: &mut Vec<Output>) {
        out.push(Output::Map(Arc::new(map.clone())));
        let reign = Reign::new(map, self.grace_micros, self.limits, self.now);
        let confirm_at = Some(self.now.plus(LATE_MICROS));
        self.role = Role::Decides(Box::new(Decides { reign, look_at: self.now, confirm_at, writes: None }));
    }

    /// Makes the next map of the present one by a transaction. Where they are the same it only has shown that this is the present one:
    /// a write is remembered for a while, and who is asked in vain again and again would have no room to decide anything.
    fn write(
        &mut self,
        next: Map,
        answers: Option<(Asker, Ask, Result<Answer, Error>)>,
        out: &mut Vec<Output>,
    ) {
        let Role::Decides(decides) = &mut self.role else {
            unreachable!("only who has the map writes the next")
        };
        assert!(decides.writes.is_none(), "one transaction is under way at a time");
        let map = &decides.reign.map;
        let mut op =
            if next.revision > map.revision { Map::transaction(map, &next) } else { Map::question() };
        if mutant::is(Mutant::MapWrittenBlindly)
            && let Op::Transaction { conditions, .. } = &mut op
        {
            conditions.clear();
        }
        decides.writes = Some(Writes { next, answers });
        self.request(op, out);
    }

    fn take_outcome(
        &mut self,
        mut decides: Box<Decides>,
        result: Result<Reply, Error>,
        told: &mut Told,
        out: &mut Vec<Output>,
    ) {
        let Writes { next, answers } = decides.writes.take().expect("what is answered was under way");
        let holds = result.map(|reply| match reply.answer {
            kv::Answer::Transaction { succeeded, .. } => succeeded,
            kv::Answer::Row(row) => next.is_shown_by(row.as_ref()),
            _ => false,
        });
        match holds {
            Ok(true) => {
                if let Some((asker, ask, answer)) = answers {
                    if let Some(answer) = answer.as_ref().ok().filter(|_| ask.changes()) {
                        self.lately.done(self.now, asker, answer.clone());
                    }
                    told.push((asker, answer));
                }
                if next.revision > decides.reign.map.revision {
                    out.push(Output::Map(Arc::new(next.clone())));
                    decides.reign.become_map(next, self.now);
                    decides.look_at = self.now;
                }
                self.role = Role::Decides(decides);
            }
            // Another one has written: what was asked is decided anew, by the rows as they are.
            Ok(false) => {
                if let Some((asker, ask, _)) = answers {
                    self.asks.push_front((asker, ask));
                }
            }
            Err(error) => {
                tracing::info!(%error, "a change of the map was not written, as far as this node knows: it reads the map again");
                self.role = Role::Begins(self.now.plus(RETRY_MICROS));
                told.extend(answers.map(|(asker, ..)| (asker, Err(error))));
            }
        }
    }

    /// Decides what was asked first, if nothing is under way.
    fn decide(&mut self, told: &mut Told, out: &mut Vec<Output>) {
        if let Role::Stuck(why) = &self.role {
            let refused = |(asker, _)| (asker, Err(Error::Unavailable(why.clone())));
            return told.extend(self.asks.drain(..).map(refused));
        }
        let Role::Decides(decides) = &mut self.role else { return };
        if decides.writes.is_some() || self.sounding.is_some() {
            return;
        }
        let Some((asker, ask)) = self.asks.pop_front() else { return };
        let decided = asks::decide(&mut decides.reign, &ask, self.now);
        let Some(Decision { next, answer }) = decided else { return self.asks.push_front((asker, ask)) };
        let next = next.unwrap_or_else(|| decides.reign.map.clone());
        self.write(next, Some((asker, ask, answer)), out);
    }
}
