//! What must happen sometimes: in a thousand seeds of the default mix, each of these at least once. What never happens is not
//! tested.

/// All of them, in order.
pub const SOMETIMES: &[&str] = &[
    "a checkpoint failed",
    "a checkpoint was completed",
    "a clock ran at another rate",
    "a disk was full",
    "a disk was full and has room again",
    "a flush was refused by a full disk",
    "a follower answered a linearizable read",
    "a leader was deposed",
    "a leader was deposed with entries in flight",
    "a leadership was handed over",
    "a log failed with its disk",
    "a log's segment was given away",
    "a message of another epoch was answered",
    "a node lost its power while it wrote",
    "a node stopped in good order",
    "a node was told that it lost entries",
    "a node with another folder was refused",
    "a partition cut one direction",
    "a partition healed one direction after the other",
    "a partition left a bridge",
    "a partition left a mute or deaf node",
    "a partition left a ring of majorities",
    "a partition left one node alone",
    "a partition left two halves",
    "a read at a version was answered",
    "a read at a version was refused as trimmed",
    "a read found that a value had expired",
    "a read was answered as stale as it allowed",
    "a read was answered under a lease",
    "a read was proven by a round",
    "a repeated request was answered as before",
    "a request that was out of date was not run",
    "a shard had no room to remember a request",
    "a snapshot was installed",
    "a snapshot was sent",
    "a snapshot's stream broke",
    "a snapshot's stream timed out",
    "a start failed with the disk",
    "a torn write was cut",
    "a wall clock jumped",
    "a wiped node was made whole",
    "an election was asked for under a lease",
    "an entry that was not agreed on was overwritten",
    "damage of a log was noticed",
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
