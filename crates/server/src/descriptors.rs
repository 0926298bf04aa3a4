//! File descriptors: how many the process may have, and who gets them.
//!
//! The log, the table's files, the journal and the other nodes come first: their part is set aside, and what is left is for
//! connections of clients. So however many clients come, a log segment can be opened.

use placement::map::Map;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::Failure;

/// Connections of clients at a time, if there are descriptors for them: each holds some buffers.
const CLIENTS_MAX: usize = 10_000;
/// With room for fewer clients than this a node is not worth starting.
const CLIENTS_MIN: usize = 16;
/// Standard streams, lock, listeners, segments of the log, journal, files being written, and some to spare.
const OWN: usize = 64;
/// What the runtime of a core holds.
const PER_CORE: usize = 8;
/// To and from each other node: the ordered connections, those they replace, and snapshots under way.
const PER_NODE: usize = 8;
/// For so many other nodes in any case, if nodes can connect: more may join than there are at the start.
const OTHERS_MIN: usize = 8;
/// Connections to the port of the nodes that have not said who they are.
pub(crate) const STRANGERS_MAX: usize = 32;
/// Table files that are kept open, at least and at most: one for 64 MiB of rows or so.
const TABLE_FILES: std::ops::RangeInclusive<usize> = 32..=256;

/// Who gets how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptors {
    /// All there are.
    pub limit: usize,
    /// Table files that are kept open; as many again may be open while they are read or merged.
    pub table_files: usize,
    /// Connections from other nodes.
    pub nodes: usize,
    /// Connections of clients.
    pub clients: usize,
}

impl Descriptors {
    /// Raises the limit of the process as far as it may, and shares out what there is, for a node with so many cores. Others
    /// `connect` to it, or it is alone.
    pub fn claim(map: &Map, cores: usize, connect: bool) -> Result<Descriptors, Failure> {
        // Nodes may join.
        let others = if connect { map.nodes.len().saturating_sub(1).max(OTHERS_MIN) } else { 0 };
        share(raise(), cores, others, map.shards.len()).map_err(Failure::Refused)
    }
}

/// Sets the soft limit of open files to the hard one.
fn raise() -> usize {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        // Without it there are fewer.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
    let count = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(count).unwrap_or(usize::MAX)
}

fn share(limit: usize, cores: usize, others: usize, shards: usize) -> Result<Descriptors, String> {
    let table_files = (limit / 8).clamp(*TABLE_FILES.start(), *TABLE_FILES.end());
    // Snapshots of all shards may come in or go out at a time, if there is room for so many.
    let snapshots = (others * shards).min(limit / 8);
    let nodes = if others == 0 { 0 } else { STRANGERS_MAX + others * PER_NODE + snapshots };
    // Incoming ones, and as many to the other nodes.
    let reserved = OWN + cores * PER_CORE + 2 * table_files + 2 * nodes;
    match limit.checked_sub(reserved) {
        Some(left) if left >= CLIENTS_MIN => {
            Ok(Descriptors { limit, table_files, nodes, clients: left.min(CLIENTS_MAX) })
        }
        _ => Err(format!(
            "this process may have {limit} files open, and a node needs {} for its log, its table, the other nodes and \
             some clients: raise the hard limit of open files, as with 'ulimit -n 4096' before it starts or \
             LimitNOFILE=65536 in its systemd unit",
            reserved + CLIENTS_MIN
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_what_is_left() {
        let shared = |limit, others| share(limit, 2, others, 4);
        assert_eq!(shared(1_048_576, 2).unwrap().clients, CLIENTS_MAX);
        assert_eq!(shared(1024, 0).unwrap().clients, 1024 - 64 - 16 - 2 * 128);
        let three = shared(1024, 2).unwrap();
        assert_eq!(three.nodes, 32 + 2 * 8 + 2 * 4);
        assert_eq!(three.clients, 1024 - 64 - 16 - 2 * 128 - 2 * 56);
        assert!(shared(usize::MAX, 1022).is_ok());
    }

    #[test]
    fn limit_too_low_is_refused_with_what_to_do() {
        for limit in 0..2048 {
            match share(limit, 2, 2, 4) {
                Ok(shared) => assert!(shared.clients >= CLIENTS_MIN && shared.clients < limit),
                Err(why) => assert!(limit < 300 && why.contains("LimitNOFILE"), "{limit}: {why}"),
            }
        }
    }
}
