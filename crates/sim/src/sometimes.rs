//! What must happen sometimes: in a thousand seeds of the default mix, each of these at least once. What never happens is not
//! tested.

/// All of them, in order.
pub const SOMETIMES: &[&str] = &[
    "a checkpoint failed",
    "a checkpoint was completed",
    "a disk was full",
    "a disk was full and has room again",
    "a flush was refused by a full disk",
    "a leader was deposed",
    "a leader was deposed with entries in flight",
    "a leadership was handed over",
    "a log failed with its disk",
    "a log's segment was given away",
    "a node stopped in good order",
    "a node was told that it lost entries",
    "a node with another folder was refused",
    "a read at a version was answered",
    "a read at a version was refused as trimmed",
    "a read was answered under a lease",
    "a read was proven by a round",
    "a repeated request was answered as before",
    "a snapshot was installed",
    "a snapshot was sent",
    "a snapshot's stream broke",
    "a snapshot's stream timed out",
    "a start failed with the disk",
    "a torn write was cut",
    "a wiped node was made whole",
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
