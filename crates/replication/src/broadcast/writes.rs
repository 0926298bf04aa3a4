//! Writes: what is there is looked at, rows are made above it, and the write is done when they are in the own log and table.
//!
//! ```text
//!   Propose ─▶ look at the own table ─▶ rows are made ─▶ Append ─▶ Durable: published ─▶ Applied: answered
//! ```
//!
//! What is made and not applied yet lies over what is looked up: of two writes of a key right after each other the second one takes the place of the
//! first. One look goes on at a time; what comes meanwhile shares the next one, and its entry and publication.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use kv::merged::{self, Found, Look, Newest, Row};
use kv::{Answer, Direction, Error, Key, Level, Op, Protocol, RequestId, Stamped, Version};

use super::{Broadcast, Whose};
use crate::issue::NotNow;
use crate::quorum::bonds::{Bond, Bonds, too_old};
use crate::quorum::stores::merges;
use crate::{ENTRY_BYTES_MAX, ENTRY_OPS_MAX, Gathered, Output, QUEUE_BYTES_MAX, QUEUE_OPS_MAX, Token};

/// The keys of one look, beyond those of its first write.
const KEYS_MAX: usize = 4096;

/// Writes on their way.
#[derive(Default)]
pub(super) struct Writes {
    waiting: VecDeque<Item>,
    bytes: usize,
    looking: Option<Looking>,
    /// Rows that are made and not published: with which op they are in, and up to where they reach.
    own: VecDeque<(Token, Vec<Row>)>,
    /// Writes whose rows are not applied.
    made: VecDeque<(Token, Vec<Made>)>,
    /// The newest of those rows.
    overlay: BTreeMap<Key, Row>,
    /// What is known of requests that may be sent again.
    pub(super) bonds: Bonds,
}

/// A write.
struct Item {
    tokens: Vec<Token>,
    id: Option<RequestId>,
    op: Op,
    bytes: usize,
}

/// Writes whose keys are looked at.
struct Looking {
    items: VecDeque<Item>,
    newest: Newest,
    last: Version,
    /// What is to be looked at yet; `None` = all is known, and versions are waited for.
    rest: Option<Look>,
    /// So often rows of others had come in when it began.
    merges: u64,
}

/// A write whose rows are made.
struct Made {
    tokens: Vec<Token>,
    id: Option<RequestId>,
    answer: Answer,
    version: Version,
}

impl Writes {
    /// The rows that were made up to an op: they are published now.
    pub(super) fn take_own(&mut self, until: Token) -> Vec<Row> {
        let mut rows = Vec::new();
        while let Some((_, own)) = self.own.pop_front_if(|(with, _)| *with <= until) {
            rows.extend(own);
        }
        rows
    }

    /// Whether rows are made of what is being looked up.
    pub(super) fn is_looking(&self) -> bool {
        self.looking.is_some()
    }

    fn is_known(&self, id: &RequestId) -> bool {
        self.bonds.remembers(id)
    }
}

impl Broadcast {
    /// Takes writes in.
    pub(super) fn propose(&mut self, ops: Vec<(Token, Bytes)>, out: &mut Vec<Output>) {
        for (token, op) in ops {
            if let Err(error) = self.take_write(token, &op, out) {
                out.push(Output::Refuse { token, error });
            }
        }
    }

    fn take_write(&mut self, token: Token, bytes: &Bytes, out: &mut Vec<Output>) -> Result<(), Error> {
        if !self.serves() {
            return Err(Error::WrongNode { try_next: None });
        }
        let Stamped { id, op } = Stamped::decode(bytes).map_err(|why| Error::Invalid(why.to_string()))?;
        if matches!(op, Op::Advance { .. }) {
            return self.advance(token, op);
        }
        let is_no_write = || merged::look(&op).is_none().then_some("this is no write of keys");
        if let Some(why) = merged::refusal(Protocol::Broadcast, &op).or_else(is_no_write) {
            return Err(Error::Invalid(why.into()));
        }
        let writes = &mut self.writes;
        if writes.waiting.len() >= QUEUE_OPS_MAX || writes.bytes + bytes.len() > QUEUE_BYTES_MAX {
            return Err(full());
        }
        match id.map(|id| writes.bonds.bind(&id, self.clock)).transpose()?.flatten() {
            None => {
                writes.bytes += bytes.len();
                writes.waiting.push_back(Item { tokens: vec![token], id, op, bytes: bytes.len() });
            }
            Some(Bond::Done { answer, version, .. }) => out.push(done(token, answer, version)),
            Some(Bond::Open) => self.join(token, &id.expect("what is bound has an id")),
            Some(Bond::Made { .. } | Bond::Over) => return Err(too_old()),
        }
        Ok(())
    }

    /// The table is told what it goes by: that is this member's alone.
    fn advance(&mut self, token: Token, op: Op) -> Result<(), Error> {
        if !self.intake.push(vec![op]) {
            return Err(full());
        }
        let (answer, version) = (Answer::Trimmed { count: 0, next: None }, self.clock);
        let made = Made { tokens: vec![token], id: None, answer, version };
        self.writes.made.push_back((self.intake.last, vec![made]));
        Ok(())
    }

    /// A request that is under way came again: who sent it again is answered too.
    fn join(&mut self, token: Token, id: &RequestId) {
        let is_it = |other: &Option<RequestId>| {
            other.is_some_and(|other| (other.client, other.sequence) == (id.client, id.sequence))
        };
        let Writes { waiting, looking, made, .. } = &mut self.writes;
        let items = waiting.iter_mut().chain(looking.iter_mut().flat_map(|looking| &mut looking.items));
        let items = items.filter(|item| is_it(&item.id)).map(|item| &mut item.tokens);
        let made = made.iter_mut().flat_map(|(_, made)| made).filter(|made| is_it(&made.id));
        if let Some(tokens) = items.chain(made.map(|made| &mut made.tokens)).next() {
            tokens.push(token);
        }
    }

    /// Nobody waits for a write any more: if it is not looked at yet, nothing happens of it.
    pub(super) fn forget_write(&mut self, token: Token) {
        let place = self.writes.waiting.iter().position(|item| item.tokens == [token]);
        if let Some(item) = place.and_then(|place| self.writes.waiting.remove(place)) {
            self.writes.bytes -= item.bytes;
            self.writes.bonds.refuse(item.id);
        }
    }

    /// Looks at the keys of what waits.
    pub(super) fn begin_writes(&mut self, out: &mut Vec<Output>) {
        if self.writes.looking.is_some() || self.writes.waiting.is_empty() {
            return;
        }
        // What is made and not applied is in no range that is looked at.
        let is_wide = self.writes.waiting.front().is_some_and(|item| is_wide(&item.op));
        if is_wide && !self.writes.overlay.is_empty() {
            return;
        }
        self.want_ceiling(Version::ZERO);
        let items = self.next_writes();
        self.look_for_writes(items, out);
    }

    fn look_for_writes(&mut self, items: VecDeque<Item>, out: &mut Vec<Output>) {
        let mut looks = Vec::from_iter(items.iter().filter_map(|item| merged::look(&item.op)));
        let look = match looks.pop() {
            Some(look) if looks.is_empty() && !matches!(look, Look::Keys(_)) => look,
            last => {
                let mut keys = Vec::from_iter(looks.into_iter().chain(last).flat_map(keys));
                keys.sort_unstable();
                keys.dedup();
                Look::Keys(keys)
            }
        };
        let (newest, last) = (Newest::of(Direction::Forward), Version::ZERO);
        self.writes.looking =
            Some(Looking { items, newest, last, rest: Some(look.clone()), merges: self.intake.merges });
        self.look(Whose::Write, look, out);
    }

    fn next_writes(&mut self) -> VecDeque<Item> {
        let (mut items, mut bytes, mut count) = (VecDeque::new(), 0, 0);
        while let Some(item) = self.writes.waiting.pop_front() {
            let keys = if is_wide(&item.op) {
                KEYS_MAX
            } else {
                merged::look(&item.op).map_or(0, |look| keys(look).len())
            };
            let is_full = items.len() >= ENTRY_OPS_MAX
                || bytes + item.bytes > ENTRY_BYTES_MAX
                || count + keys > KEYS_MAX;
            if is_full && !items.is_empty() {
                self.writes.waiting.push_front(item);
                break;
            }
            (bytes, count) = (bytes + item.bytes, count + keys);
            self.writes.bytes -= item.bytes;
            items.push_back(item);
        }
        items
    }

    /// What the table holds of the keys of writes.
    pub(super) fn looked_for_writes(&mut self, found: Found, last: Version, out: &mut Vec<Output>) {
        let Some(looking) = &mut self.writes.looking else { return };
        let Found::Rows { rows, next } = found else { return };
        looking.last = looking.last.max(last);
        looking.rest = match (looking.rest.take(), next) {
            (Some(Look::Keys(keys)), next) => {
                rows.into_iter().for_each(|row| _ = looking.newest.add(row));
                let behind =
                    |next: Key| Look::Keys(keys.into_iter().skip_while(|key| *key != next).collect());
                next.map(behind)
            }
            (_, next) => {
                looking.newest.add_page(rows, next);
                None
            }
        };
        if let Some(rest) = looking.rest.clone() {
            self.look(Whose::Write, rest, out);
        }
    }

    /// Makes the rows of writes whose keys are known.
    pub(super) fn make(&mut self, out: &mut Vec<Output>) {
        let Some(mut looking) = self.writes.looking.take_if(|looking| looking.rest.is_none()) else { return };
        // A trim makes rows again that were found: one that something newer has taken the place of may be gone for good meanwhile.
        let is_trim = |item: &Item| matches!(item.op, Op::Trim { .. } | Op::TrimRange { .. });
        if looking.merges != self.intake.merges && looking.items.iter().any(is_trim) {
            return self.look_for_writes(looking.items, out);
        }
        let seen = self.intake.newest.max(looking.last);
        self.intake.newest = seen;
        self.want_ceiling(seen);
        let (mut made, mut rows) = (Vec::new(), Vec::new());
        while let Some(item) = looking.items.pop_front() {
            let version = match self.issue.next(self.clock, seen) {
                Ok(version) => version,
                Err(NotNow::Unsynced) => {
                    looking.items.push_front(item);
                    break;
                }
                Err(NotNow::Ahead(micros)) => {
                    self.refuse(vec![(item.tokens, item.id)], &ahead(micros), out);
                    continue;
                }
            };
            item.op.for_each_key(&mut |key| {
                if let Some(row) = self.writes.overlay.get(key) {
                    looking.newest.add(row.clone());
                }
            });
            let before = &looking.newest;
            let answer = merged::answer(&item.op, version, before).expect("a write of keys is answered");
            let own = merged::make(&item.op, version, before);
            for row in &own {
                looking.newest.add(row.clone());
                self.writes.overlay.insert(row.key.clone(), row.clone());
            }
            rows.extend(own);
            made.push(Made { tokens: item.tokens, id: item.id, answer, version });
        }
        if !looking.items.is_empty() {
            self.writes.looking = Some(looking);
        }
        self.take_made(made, rows, out);
    }

    /// Rows are made: they go to the log, and are published from there.
    fn take_made(&mut self, made: Vec<Made>, rows: Vec<Row>, out: &mut Vec<Output>) {
        let Some(upto) = made.last().map(|made| made.version) else { return };
        if !rows.is_empty() && !self.intake.push(merges(rows.clone())) {
            rows.iter().for_each(|row| _ = self.writes.overlay.remove(&row.key));
            let made = made.into_iter().map(|made| (made.tokens, made.id)).collect();
            return self.refuse(made, &lost(), out);
        }
        if !rows.is_empty() {
            self.intake.stage(self.replica, upto);
            self.writes.own.push_back((self.intake.last, rows));
        }
        // What removes nothing has seen what is made before it, and is answered after that.
        self.writes.made.push_back((self.intake.last, made));
        self.written(out);
    }

    fn refuse(&mut self, writes: Vec<(Vec<Token>, Option<RequestId>)>, error: &Error, out: &mut Vec<Output>) {
        for (tokens, id) in writes {
            match error {
                Error::InDoubt(_) => self.writes.bonds.is_now(id.as_ref(), Bond::Over),
                _ => self.writes.bonds.refuse(id),
            }
            out.extend(tokens.into_iter().map(|token| Output::Refuse { token, error: error.clone() }));
        }
    }

    /// Answers what is in the table.
    pub(super) fn written(&mut self, out: &mut Vec<Output>) {
        let Writes { made, overlay, bonds, .. } = &mut self.writes;
        let mut applied = Version::ZERO;
        while let Some((_, made)) = made.pop_front_if(|(with, _)| *with <= self.intake.applied) {
            for Made { tokens, id, answer, version } in made {
                let bond = Bond::Done { answer: answer.clone(), version, copies: 1 };
                bonds.is_now(id.as_ref(), bond);
                out.extend(tokens.into_iter().map(|token| done(token, answer.clone(), version)));
                applied = version;
            }
        }
        if applied > Version::ZERO {
            overlay.retain(|_, row| row.version > applied);
        }
    }

    /// All that is not in the log is turned away; what is, nobody can tell of here.
    pub(super) fn turn_writes_away(&mut self, out: &mut Vec<Output>) {
        let Writes { waiting, looking, made, .. } = std::mem::take(&mut self.writes);
        let looking = looking.into_iter().flat_map(|looking| looking.items);
        let tokens = waiting.into_iter().chain(looking).flat_map(|item| item.tokens);
        let elsewhere = |token| Output::Refuse { token, error: Error::WrongNode { try_next: None } };
        out.extend(tokens.map(elsewhere));
        let tokens = made.into_iter().flat_map(|(_, made)| made).flat_map(|made| made.tokens);
        out.extend(tokens.map(|token| Output::Refuse { token, error: lost() }));
    }

    /// Whether a request was taken here, and what becomes of it can be told.
    pub(super) fn is_remembered(&self, id: &RequestId) -> bool {
        self.writes.is_known(id)
    }

    /// Has the log say up to where versions are issued, if that is needed.
    pub(super) fn want_ceiling(&mut self, seen: Version) {
        if let Some(ceiling) = self.issue.raise(self.clock, seen) {
            self.ceiling = Some(ceiling);
        }
    }
}

fn keys(look: Look) -> Vec<Key> {
    if let Look::Keys(keys) = look { keys } else { Vec::new() }
}

/// Whether it is a write of a range, which has a look of its own.
fn is_wide(op: &Op) -> bool {
    !matches!(merged::look(op), Some(Look::Keys(_)))
}

fn done(token: Token, answer: Answer, version: Version) -> Output {
    let outcome = Gathered::Written(answer);
    Output::Reply { token, outcome, version, reached: Level::Local, staleness_micros: 0, copies: 1 }
}

fn full() -> Error {
    Error::Unavailable(
        "cannot take the write: too many wait already; nothing happened, try again in a moment".into(),
    )
}

fn lost() -> Error {
    Error::InDoubt(
        "it is not known whether the write reached the log of this node: read to see what is there before you write again".into(),
    )
}

fn ahead(micros: u64) -> Error {
    Error::Unavailable(format!(
        "versions of this shard are {} s ahead of this node's clock: set the clocks of the nodes right; nothing happened",
        micros / 1_000_000
    ))
}
