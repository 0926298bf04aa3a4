//! What can go wrong, by kind; and which kinds a run has.

mod disks;
mod heal;
mod nemesis;

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

pub(crate) use crate::events::Heal;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A process is killed; what it wrote stays readable, synced or not.
    Crash,
    /// The power goes: of what was not synced, some sectors are kept.
    Power,
    /// A process is asked to stop, hands over and starts again.
    Stop,
    /// A process gets no time for a while (SIGSTOP).
    Pause,
    /// Nodes are parted and their connections break.
    Partition,
    /// Nodes are parted and their connections wait.
    Hold,
    /// Messages are lost, doubled, late and out of order; answers to clients are lost.
    Messages,
    /// Streams of snapshots break.
    Bulk,
    /// Clocks run at different rates, and wall clocks jump.
    Clock,
    /// A disk is slow.
    Slow,
    /// A disk is full.
    Full,
    /// A disk fails.
    Eio,
    /// A bit on a disk flips.
    Flip,
    /// A node is started with an empty data folder in place of its own.
    Wipe,
    /// A node is started with an old copy of its data folder in place of it.
    Restore,
}

/// Kinds of faults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(BTreeSet<Fault>);

const ALL: [(Fault, &str); 15] = [
    (Fault::Crash, "crash"),
    (Fault::Power, "power"),
    (Fault::Stop, "stop"),
    (Fault::Pause, "pause"),
    (Fault::Partition, "partition"),
    (Fault::Hold, "hold"),
    (Fault::Messages, "messages"),
    (Fault::Bulk, "bulk"),
    (Fault::Clock, "clock"),
    (Fault::Slow, "slow"),
    (Fault::Full, "full"),
    (Fault::Eio, "eio"),
    (Fault::Flip, "flip"),
    (Fault::Wipe, "wipe"),
    (Fault::Restore, "restore"),
];

impl Fault {
    /// Its name in commands.
    pub fn name(self) -> &'static str {
        ALL.iter().find(|(fault, _)| *fault == self).map_or("", |(_, name)| name)
    }
}

impl Faults {
    /// Every kind.
    pub fn all() -> Faults {
        Faults(ALL.iter().map(|(fault, _)| *fault).collect())
    }

    /// No fault at all.
    pub fn none() -> Faults {
        Faults(BTreeSet::new())
    }

    /// These kinds.
    pub fn of(kinds: &[Fault]) -> Faults {
        Faults(kinds.iter().copied().collect())
    }

    /// Whether a kind is among them.
    pub fn has(&self, fault: Fault) -> bool {
        self.0.contains(&fault)
    }

    /// Whether nothing goes wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The kinds, in order.
    pub fn kinds(&self) -> impl Iterator<Item = Fault> + '_ {
        self.0.iter().copied()
    }

    /// The kinds that both have.
    pub(crate) fn only(&self, mut keep: impl FnMut(Fault) -> bool) -> Faults {
        Faults(self.kinds().filter(|fault| keep(*fault)).collect())
    }
}

impl FromStr for Faults {
    type Err = String;

    fn from_str(text: &str) -> Result<Faults, String> {
        let kind = |word: &str| {
            let found = ALL.iter().find(|(_, name)| *name == word).map(|(fault, _)| *fault);
            found.ok_or_else(|| {
                let names: Vec<&str> = ALL.iter().map(|(_, name)| *name).collect();
                format!("'{word}' is no kind of fault: use all, none, or some of {}", names.join(","))
            })
        };
        match text {
            "all" => Ok(Faults::all()),
            "none" | "" => Ok(Faults::none()),
            list => Ok(Faults(list.split(',').map(kind).collect::<Result<_, _>>()?)),
        }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            0 => f.write_str("none"),
            count if count == ALL.len() => f.write_str("all"),
            _ => f.write_str(&self.kinds().map(Fault::name).collect::<Vec<_>>().join(",")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_round_trip_as_text() {
        for text in ["all", "none", "crash", "crash,messages,wipe"] {
            assert_eq!(text.parse::<Faults>().unwrap().to_string(), text);
        }
        assert!("crash,coffee".parse::<Faults>().unwrap_err().contains("'coffee'"));
        assert_eq!(Faults::all().kinds().count(), ALL.len());
    }
}
