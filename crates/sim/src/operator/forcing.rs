//! Runs in which an election is forced, by the operator or by the directory: which ones, and how far that is.

use std::collections::{BTreeMap, BTreeSet};

use check::generate::Workload;
use kv::{Key, NodeId, Protocol, ReplicaId, ShardId, Version};

use crate::faults::{Fault, Faults};
use crate::options::Options;
use crate::settings::Settings;
use crate::zoned::Zoned;

/// Of so many runs under `primary` one has the operator do it, and another one the directory, where writes wait for nobody. In all others
/// no write of a keyspace waits for nobody.
const RUNS: u64 = 8;
/// A cluster has somebody beside those that go down who decides.
const NODES_MIN: u16 = 3;

/// What becomes of such a run.
pub(crate) struct Forcing {
    /// Nobody is asked: the directory does it, so often at most.
    pub(super) by_itself: Option<u64>,
    /// The keyspace is laid out by zones, some of which wait for nobody.
    pub(super) is_zoned: bool,
    pub(super) stage: Stage,
    /// Who is down, and stays so.
    pub(super) held: BTreeSet<NodeId>,
    /// Of each shard that was forced, whose versions may be lost.
    pub(super) astray: BTreeMap<ShardId, BTreeSet<ReplicaId>>,
    /// The writes that clients know of.
    pub(super) acknowledged: Vec<(ShardId, Key, Version)>,
}

#[derive(Clone, Copy)]
pub(super) enum Stage {
    Weakens,
    Waits(u64),
    Thins {
        shard: ShardId,
        heir: NodeId,
        until: u64,
    },
    /// Before, so many replicas had gone astray.
    Sinks {
        until: u64,
        astray: usize,
    },
    Over,
}

impl Forcing {
    /// Of a run, if it is one.
    pub fn of(
        options: &Options,
        settings: &mut Settings,
        faults: &mut Faults,
        zoned: &Zoned,
    ) -> Option<Forcing> {
        let keeps_keys = !matches!(options.workload, Workload::Once);
        if options.protocol != Protocol::Primary || options.nodes < NODES_MIN || !keeps_keys {
            return None;
        }
        let is_zoned = zoned.count().is_some();
        let by_itself = match (options.seed ^ options.seed >> 7) % RUNS {
            _ if is_zoned => zoned.waits_for_nobody().then_some(1)?,
            0 => 0,
            1 => 1 + options.seed / RUNS % 3,
            _ => return None,
        };
        // What a key was is to be told to the end.
        settings.table.history = storage::History::All;
        settings.table.deleted_micros = u64::MAX;
        (settings.operates, settings.mortal_percent) = (false, 0);
        settings.grace_micros = node::GRACE_MICROS;
        let bears = |fault| {
            use Fault::{Bulk, Crash, Hold, Partition, Pause, Slow};
            matches!(fault, Bulk | Crash | Hold | Partition | Pause | Slow)
        };
        *faults = faults.only(bears);
        let by_itself = (by_itself > 0).then_some(by_itself);
        let (held, astray, acknowledged) = Default::default();
        Some(Forcing { by_itself, is_zoned, stage: Stage::Weakens, held, astray, acknowledged })
    }

    /// So many replicas have gone astray.
    pub(super) fn astray(&self) -> usize {
        self.astray.values().map(BTreeSet::len).sum()
    }
}
