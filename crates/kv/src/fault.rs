//! Faults that a user puts on a node on purpose: what they are, and what of them is in force.
//!
//! A fault is of one node and of its memory: a node that is started again has none. So whoever cuts a cluster in two tells each
//! node from whom it is cut off, and that one asks nobody else. Nodes take faults where their user has allowed that (a lab), and
//! refuse them elsewhere.

use crate::Error;

/// The longest delay, in microseconds: an hour. Nobody waits so long for an answer, and what is held back is kept in memory.
pub const SLOW_MICROS_MAX: u64 = 3600 * 1_000_000;
/// The longest name of a node, in bytes.
const NAME_BYTES_MAX: usize = 255;
/// A node is cut off from at most so many others at once: a cluster has no more nodes.
pub const CUT_MAX: usize = 1023;

/// What is to go wrong at a node, or right again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its responses leave late, to clients and to other nodes: answers, votes, acknowledgements. Its requests, its decisions and
    /// its signs of life leave as ever.
    Slow {
        /// So late, in microseconds; 1 to [`SLOW_MICROS_MAX`].
        micros: u64,
    },
    /// Its responses leave at once again, those too that were held back.
    Restore,
    /// Whatever it sends to these nodes is lost, and whatever they send to it. Those that it was cut off from before stay so.
    Cut {
        /// Their names.
        from: Vec<String>,
    },
    /// It is cut off from nobody any more.
    Heal,
    /// Its process ends at once, as by SIGKILL.
    Kill,
}

/// The faults of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Its name.
    pub node: String,
    /// Whether it takes faults.
    pub lab: bool,
    /// How late its responses leave, in microseconds; 0 = at once.
    pub slow_micros: u64,
    /// The names of the nodes that it is cut off from, in order.
    pub cut: Vec<String>,
}

impl Faults {
    /// Whether anything is wrong with it on purpose.
    pub fn is_any(&self) -> bool {
        self.slow_micros > 0 || !self.cut.is_empty()
    }
}

impl Fault {
    /// Checks it against the limits, and that its names can be names.
    pub fn validate(&self) -> Result<(), Error> {
        match self {
            Fault::Slow { micros: 1..=SLOW_MICROS_MAX } | Fault::Restore | Fault::Heal | Fault::Kill => {
                Ok(())
            }
            Fault::Slow { micros: 0 } => {
                Err(Error::Invalid("a node that is slow by nothing is not slow: restore it".into()))
            }
            Fault::Slow { micros } => Err(Error::Invalid(format!(
                "responses cannot be held back for {} seconds: an hour is the most, 3600",
                micros / 1_000_000
            ))),
            Fault::Cut { from } if from.is_empty() => {
                Err(Error::Invalid("a node is cut off from others: name at least one".into()))
            }
            Fault::Cut { from } if from.len() > CUT_MAX => Err(Error::TooLarge {
                what: "the list of nodes to be cut off from".into(),
                size: from.len() as u64,
                limit: CUT_MAX as u64,
            }),
            Fault::Cut { from } => match from.iter().all(|name| (1..=NAME_BYTES_MAX).contains(&name.len())) {
                true => Ok(()),
                false => {
                    Err(Error::Invalid("a node's name is no longer than 255 bytes, and not empty".into()))
                }
            },
        }
    }
}

const _: () = assert!(NAME_BYTES_MAX * CUT_MAX < 1 << 20, "the names fit a message");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_that_can_be_meant_is_sound() {
        let cut = |from: &[&str]| Fault::Cut { from: from.iter().map(ToString::to_string).collect() };
        for fault in [
            Fault::Slow { micros: 1 },
            Fault::Slow { micros: SLOW_MICROS_MAX },
            Fault::Restore,
            cut(&["n1"]),
            cut(&["n1", "n2"]),
            Fault::Heal,
            Fault::Kill,
        ] {
            assert_eq!(fault.validate(), Ok(()), "{fault:?}");
        }
        for fault in [
            Fault::Slow { micros: 0 },
            Fault::Slow { micros: SLOW_MICROS_MAX + 1 },
            cut(&[]),
            cut(&["n1", ""]),
            cut(&[&"n".repeat(NAME_BYTES_MAX + 1)]),
        ] {
            assert!(matches!(fault.validate(), Err(Error::Invalid(_))), "{fault:?}");
        }
        let many = Fault::Cut { from: vec!["n".into(); CUT_MAX + 1] };
        assert!(matches!(many.validate(), Err(Error::TooLarge { .. })));
    }

    #[test]
    fn faults_are_any_when_one_is_in_force() {
        let none = Faults { node: "n1".into(), lab: true, ..Faults::default() };
        assert!(!none.is_any());
        assert!(Faults { slow_micros: 1, ..none.clone() }.is_any());
        assert!(Faults { cut: vec!["n2".into()], ..none }.is_any());
    }
}
