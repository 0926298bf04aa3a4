//! What must happen sometimes: in a thousand seeds of the default mix, each of these at least once. What never happens is not
//! tested.

/// All of them, in order.
pub const SOMETIMES: &[&str] = &[
    "a backward page over shards ended before its range",
    "a change of members was given up",
    "a checkpoint failed",
    "a checkpoint was completed",
    "a clock ran at another rate",
    "a decision could not be written down",
    "a delete-range removed several keys",
    "a delete-range stopped at its limit",
    "a disk was full",
    "a disk was full and has room again",
    "a flush was refused by a full disk",
    "a follower answered a linearizable read",
    "a history was continued",
    "a leader was deposed",
    "a leader was deposed with entries in flight",
    "a leadership was handed over",
    "a log failed with its disk",
    "a log's segment was given away",
    "a message of another epoch was answered",
    "a node came back with another number of cores",
    "a node had several cores",
    "a node lost its power while it wrote",
    "a node stopped in good order",
    "a node waited for the founder of its cluster",
    "a node with an old copy of its folder was refused",
    "a node with another folder was refused",
    "a page over shards ended before its range",
    "a partition cut one direction",
    "a partition healed one direction after the other",
    "a partition left a bridge",
    "a partition left a mute or deaf node",
    "a partition left a ring of majorities",
    "a partition left one node alone",
    "a partition left two halves",
    "a put-all was done",
    "a range over shards was continued",
    "a range over shards was read at a version",
    "a read at a version was answered",
    "a read at a version was refused as trimmed",
    "a read found that a value had expired",
    "a read was answered as stale as it allowed",
    "a read was answered under a lease",
    "a read was proven by a round",
    "a repeated request was answered as before",
    "a replica was dropped",
    "a request that was out of date was not run",
    "a shard had no room to remember a request",
    "a shard had other members",
    "a snapshot was installed",
    "a snapshot was sent",
    "a snapshot's stream broke",
    "a snapshot's stream timed out",
    "a start failed with the disk",
    "a torn write was cut",
    "a trim forgot revisions",
    "a trim stopped at its limit",
    "a wall clock jumped",
    "a write was sent again after the last fault",
    "an election was asked for under a lease",
    "an entry that was not agreed on was overwritten",
    "damage of a log was noticed",
    "rows were counted over shards",
    "rows were read twice: a lease or a version had run out",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_happen_is_listed_in_order_and_once() {
        assert!(SOMETIMES.is_sorted_by(|one, next| one < next));
    }
}
