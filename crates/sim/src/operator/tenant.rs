//! What is known of somebody who uses a keyspace.

use std::collections::{BTreeMap, BTreeSet};

use kv::admin::Ask;
use kv::{Error, Key, NodeId, Op, Protocol, Reply, Value};

use crate::events::Whose;

/// The keyspaces of tenants: few, so that names come again.
pub(super) const NAMES: [&str; 2] = ["tea", "rum"];
/// What the directory was asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub client: u64,
    /// An answer is not waited for any longer.
    pub until: u64,
}

/// Tenants are clients beyond all others.
pub(super) const FIRST: usize = usize::MAX - NAMES.len();

/// Whose answer comes to a tenant.
pub(crate) fn is_tenant(whose: Whose) -> bool {
    whose.client >= FIRST
}

/// Somebody who uses a keyspace.
#[derive(Debug, Default)]
pub(crate) struct Tenant {
    /// How often the keyspace was made.
    pub life: u64,
    pub stage: Stage,
    pub asked: Option<(Asked, Ask)>,
    pub call: Option<Call>,
    pub calls: u64,
    /// How its replicas agree, where that was wished.
    pub protocol: Option<Protocol>,
    /// Who led a shard of its former life and was cut off when that was dropped.
    pub unheard: Option<NodeId>,
    /// Values may have been stored that expire.
    pub may_expire: bool,
    /// What each key may hold.
    pub may_hold: BTreeMap<Key, BTreeSet<Option<Value>>>,
    /// What writes in doubt may make of it yet.
    pub doubts: BTreeMap<Key, BTreeSet<Option<Value>>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stage {
    /// There is none.
    #[default]
    Absent,
    /// It is used so often yet.
    Works(u64),
}

/// A request under way.
#[derive(Debug)]
pub(crate) struct Call {
    pub number: u64,
    pub op: Op,
    pub until: u64,
    pub result: Option<Option<Result<Reply, Error>>>,
}

impl Tenant {
    /// Whether something of it may come about yet.
    pub fn is_busy(&self) -> bool {
        self.asked.is_some() || self.call.is_some()
    }

    /// Whether its keyspace may come into being on nodes that live now.
    pub fn is_creating(&self) -> bool {
        matches!(&self.asked, Some((_, Ask::CreateKeyspace { .. })))
    }

    pub fn holds(&mut self, key: &Key, value: Option<Value>, is_sure: bool) {
        if is_sure {
            self.may_hold.insert(key.clone(), BTreeSet::from([value]));
        } else {
            self.doubts.entry(key.clone()).or_default().insert(value);
        }
    }

    /// Whether a key holds a value, unless that has expired.
    pub fn must_hold(&self, key: &Key) -> bool {
        let is_sure = self.may_hold.get(key).is_some_and(|all| !all.contains(&None));
        is_sure && !self.doubts.contains_key(key)
    }

    /// When what expires is gone, is judged by the rows of its shard.
    pub fn may_show(&self, key: &Key, shown: &Option<Value>) -> bool {
        if self.may_expire && shown.is_none() {
            return true;
        }
        let is_in =
            |all: &BTreeMap<Key, BTreeSet<Option<Value>>>| all.get(key).map(|all| all.contains(shown));
        is_in(&self.may_hold).unwrap_or(shown.is_none()) || is_in(&self.doubts).unwrap_or(false)
    }
}
