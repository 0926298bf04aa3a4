//! What a run is asked to be, and the mix that a seed draws.

use check::generate::Workload;
use kv::Protocol;

use crate::faults::Faults;
use crate::random::Random;

/// Of the seeds in 100 so many have shards of one copy.
const SINGLE_PERCENT: u64 = 8;
/// Of 100 others so many are kept by `two-phase`.
const TWO_PHASE_PERCENT: u64 = 12;
/// Of 100 that are left so many are those of a `primary`.
const PRIMARY_PERCENT: u64 = 20;
/// Of 100 that are left then so many have no order: chosen apart, so that the others stay as they are.
const QUORUM_PERCENT: u64 = 20;

/// Of 100 that are left then so many answer each for itself: chosen apart as well.
const BROADCAST_PERCENT: u64 = 8;

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
        let (protocol, nodes) = match random.percent(SINGLE_PERCENT) {
            true => (Protocol::Single, random.pick(&[1, 2, 3, 3])),
            false if random.percent(TWO_PHASE_PERCENT) => (Protocol::TwoPhase, nodes),
            false if random.percent(PRIMARY_PERCENT) => (Protocol::Primary, nodes),
            false => (Protocol::Raft, nodes),
        };
        let is_unordered = Random::new(seed.rotate_left(7) ^ 0x71_756f).percent(QUORUM_PERCENT);
        let protocol = match protocol {
            Protocol::Raft if is_unordered && nodes > 2 => Protocol::Quorum,
            protocol => protocol,
        };
        let is_broadcast = Random::new(seed.rotate_left(11) ^ 0x6263).percent(BROADCAST_PERCENT);
        let protocol = match protocol {
            Protocol::Raft if is_broadcast => Protocol::Broadcast,
            protocol => protocol,
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
