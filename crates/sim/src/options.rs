//! What a run is asked to be, and the mix that a seed draws.

use check::generate::Workload;
use kv::Protocol;

use crate::faults::Faults;
use crate::random::Random;

/// Of the seeds in 100 so many have shards of one copy.
const SINGLE_PERCENT: u64 = 8;
/// And so many that or those of a primary.
const NOT_RAFT_PERCENT: u64 = 28;

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Decides everything that happens.
    pub seed: u64,
    /// How many nodes found the cluster.
    pub nodes: u16,
    /// How the replicas of clients' keys agree.
    pub protocol: Protocol,
    /// What may go wrong.
    pub faults: Faults,
    /// Requests of clients until the faults end.
    pub steps: u64,
    /// What the clients ask.
    pub workload: Workload,
    /// Whether to keep what happened, line by line.
    pub trace: bool,
}

impl Options {
    /// The default mix: which workload, how many nodes and which protocol, the seed decides as well. Mostly three nodes under
    /// raft; every kind of fault may be.
    pub fn new(seed: u64) -> Options {
        let mut random = Random::new(seed.rotate_left(32));
        let workloads = [
            Workload::Kv,
            Workload::Kv,
            Workload::Register,
            Workload::Batch,
            Workload::Appends,
            Workload::Once,
        ];
        let nodes = random.pick(&[3, 3, 3, 3, 3, 2, 4, 5, 5]);
        let (protocol, nodes) = match random.below(100) {
            0..SINGLE_PERCENT => (Protocol::Single, random.pick(&[1, 2, 3, 3])),
            SINGLE_PERCENT..NOT_RAFT_PERCENT => (Protocol::Primary, nodes),
            _ => (Protocol::Raft, nodes),
        };
        Options {
            seed,
            nodes,
            protocol,
            faults: Faults::all(),
            steps: 1000,
            workload: random.pick(&workloads),
            trace: false,
        }
    }
}
