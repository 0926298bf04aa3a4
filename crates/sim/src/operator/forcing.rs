//! Runs in which the operator forces an election: which ones, and how far that is.

use std::collections::{BTreeMap, BTreeSet};

use check::generate::Workload;
use kv::{Key, NodeId, Protocol, ReplicaId, ShardId, Version};

use crate::faults::{Fault, Faults};
use crate::options::Options;
use crate::settings::Settings;

/// Of so many runs under `primary` one is such a run.
const RUNS: u64 = 8;
/// A cluster has somebody beside those that go down who decides.
const NODES_MIN: u16 = 3;

/// What becomes of such a run.
pub(crate) struct Forcing {
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
    Thins { shard: ShardId, heir: NodeId, until: u64 },
    Sinks { until: u64 },
    Over,
}

impl Forcing {
    /// Of a run, if it is one.
    pub fn of(options: &Options, settings: &mut Settings, faults: &mut Faults) -> Option<Forcing> {
        let is_drawn = (options.seed ^ options.seed >> 7).is_multiple_of(RUNS);
        let keeps_keys = !matches!(options.workload, Workload::Once);
        if options.protocol != Protocol::Primary || options.nodes < NODES_MIN || !keeps_keys || !is_drawn {
            return None;
        }
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
        let (held, astray, acknowledged) = Default::default();
        Some(Forcing { stage: Stage::Weakens, held, astray, acknowledged })
    }
}
