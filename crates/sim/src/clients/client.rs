//! A client, and its calls that are under way.

use std::collections::{BTreeMap, BTreeSet};

use check::generate::{Generator, Keys, Workload};
use check::history::Ticket;
use kv::{NodeId, Request, RequestId, Value, Version};

use crate::random::Random;

/// One client.
pub(crate) struct Client {
    pub(super) generator: Generator,
    number: u64,
    /// How many values it has drawn.
    values: u64,
    pub(super) random: Random,
    /// Its session; it opens another now and then.
    pub(super) session: u64,
    pub(super) sequence: u64,
    pub(super) open: BTreeSet<u64>,
    /// Its writes carry ids, so that it may send them again when it does not know what became of them.
    pub(super) has_ids: bool,
    /// It stands for many: each comes with a session of its own, asks once, and mostly never comes again.
    pub(super) comes_once: bool,
    /// The node it asks first.
    pub(super) home: NodeId,
    pub(super) calls: BTreeMap<u64, Call>,
    pub(super) called: u64,
}

/// What a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The workload.
    Work,
    /// A read at a version that was told before.
    AtVersion,
    /// At the end of the run: it must be answered.
    Last,
}

/// A call under way.
pub(crate) struct Call {
    pub(super) request: Request,
    pub(super) purpose: Purpose,
    pub(super) ticket: Option<Ticket>,
    pub(super) asked_at: u64,
    pub(super) deadline: u64,
    pub(super) attempt: u32,
    pub(super) node: NodeId,
    pub(super) may_have_run: bool,
    /// The highest version clock when it was asked.
    pub(super) clock: u64,
}

/// In so many of 1000 calls a client opens a new session, as after its restart.
const NEW_SESSION_PERMILLE: u64 = 10;
/// Where clients come once, so many of 1000 requests are all that their client ever asks.
const ONCE_PERMILLE: u64 = 900;

impl Client {
    /// A key that it may ask for.
    pub fn key(&mut self) -> kv::Key {
        self.generator.key()
    }

    /// A value that no other write has.
    pub(super) fn unique_value(&mut self) -> Value {
        self.values += 1;
        format!("{}.{};", self.number, self.values).into()
    }

    /// Client `number` of a run.
    pub fn new(number: u64, workload: Workload, keys: Keys, nodes: u64, mut random: Random) -> Client {
        let comes_once = workload == Workload::Once;
        Client {
            generator: Generator::client(workload, keys, random.next(), number),
            number,
            values: 0,
            session: random.next().max(1),
            sequence: 0,
            open: BTreeSet::new(),
            has_ids: random.percent(80) || comes_once,
            comes_once,
            home: NodeId(random.between(1, nodes)),
            random,
            calls: BTreeMap::new(),
            called: 0,
        }
    }

    /// Whether its writes may be sent again.
    pub fn has_ids(&self) -> bool {
        self.has_ids
    }

    /// How many calls are under way.
    pub fn open_calls(&self) -> usize {
        self.calls.len()
    }

    pub(super) fn next_id(&mut self, valid_until: Version) -> RequestId {
        let is_new = match self.comes_once {
            true => self.random.permille(ONCE_PERMILLE),
            false => self.random.permille(NEW_SESSION_PERMILLE) && self.open.is_empty(),
        };
        if is_new {
            (self.session, self.sequence) = (self.random.next().max(1), 0);
            self.open.clear();
        }
        self.sequence += 1;
        self.open.insert(self.sequence);
        let answered_below = self.open.first().copied().expect("one was just opened");
        RequestId { client: self.session, sequence: self.sequence, valid_until, answered_below }
    }

    pub(super) fn close(&mut self, id: &RequestId) {
        if id.client == self.session {
            self.open.remove(&id.sequence);
        }
    }
}
