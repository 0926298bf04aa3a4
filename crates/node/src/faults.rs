//! What the faults of a node do to what it sends and gets: decisions only. Whoever owns its connections asks, and obeys.
//!
//! A node that is *slow* holds its responses back, and nothing else: whoever asks it waits, and it asks others and shows that it is
//! alive as ever. So it is not taken for dead, and what needs its word is late. A node that is *cut off* from another loses
//! all that goes between the two, in both directions: connections that stand are silent, as if the network were gone, and new ones
//! are not made.
//!
//! ```text
//!     partition n1/n2,n3:   n1 is told: cut off from n2, n3       n1   ✕   n2
//!                           n2 is told: cut off from n1             ✕      │
//!                           n3 is told: cut off from n1                    n3
//! ```
//!
//! What holds: a frame passes between two nodes only if neither is cut off from the other. So a cut holds as long as one of its
//! two sides remembers it, and a node that is started again, which remembers nothing, is still cut off by the others.
//!
//! # Caveats
//!
//! Greetings and the pieces of snapshots are no responses: a slow node connects, and takes a snapshot in, as fast as ever.

use std::collections::BTreeSet;

use kv::fault::Fault;
use kv::{Error, NodeId, fault};

use crate::identity::Nodes;

/// The faults of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    slow_micros: u64,
    cut: BTreeSet<NodeId>,
}

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// It leaves.
    Now,
    /// It leaves after so many microseconds, or as soon as responses are not held back any more.
    After(u64),
    /// It is lost.
    Never,
}

impl Faults {
    /// Puts a fault on this node, or takes it off. [`Fault::Kill`] leaves everything as it is. An error changes nothing.
    pub fn put(&mut self, fault: &Fault, me: NodeId, nodes: &Nodes) -> Result<(), Error> {
        fault.validate()?;
        match fault {
            Fault::Slow { micros } => self.slow_micros = *micros,
            Fault::Restore => self.slow_micros = 0,
            Fault::Cut { from } => {
                let cut = from.iter().map(|name| other(name, me, nodes));
                let cut = cut.collect::<Result<BTreeSet<_>, _>>()?;
                self.cut.extend(cut);
            }
            Fault::Heal => self.cut.clear(),
            Fault::Kill => {}
        }
        Ok(())
    }

    /// How long a response is held back, in microseconds; 0 = it leaves at once.
    pub fn slow_micros(&self) -> u64 {
        self.slow_micros
    }

    /// Whether all that goes between this node and another one is lost.
    pub fn cuts(&self, other: NodeId) -> bool {
        self.cut.contains(&other)
    }

    /// What becomes of a frame to another node.
    pub fn passage(&self, to: NodeId, is_response: bool) -> Passage {
        match self.slow_micros {
            _ if self.cuts(to) => Passage::Never,
            micros @ 1.. if is_response => Passage::After(micros),
            _ => Passage::Now,
        }
    }

    /// As people are told. A node that is no member any more is named by its id.
    pub fn told(&self, me: NodeId, nodes: &Nodes) -> fault::Faults {
        let name = |node: &NodeId| match nodes.members.get(node) {
            Some(member) => member.name.clone(),
            None => format!("node-{node}"),
        };
        let cut = self.cut.iter().map(name).collect();
        fault::Faults { node: name(&me), lab: true, slow_micros: self.slow_micros, cut }
    }
}

/// The node of a name that is not this one.
fn other(name: &str, me: NodeId, nodes: &Nodes) -> Result<NodeId, Error> {
    match nodes.members.iter().find(|(_, member)| member.name == name) {
        Some((node, _)) if *node == me => {
            Err(Error::Invalid(format!("{name} cannot be cut off from itself: name it on one side only")))
        }
        Some((node, _)) => Ok(*node),
        None => {
            let shown = name.escape_debug();
            Err(Error::Invalid(format!("no node is named '{shown}' here: 'cluster nodes' lists them")))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::identity::Member;

    const ME: NodeId = NodeId(1);
    const TWO: NodeId = NodeId(2);
    const THREE: NodeId = NodeId(3);

    fn nodes() -> Nodes {
        let member = |id: u64| {
            let member = Member { name: format!("n{id}"), address: String::new(), incarnation: id };
            (NodeId(id), member)
        };
        Nodes { revision: 1, members: (1..=3).map(member).collect::<BTreeMap<_, _>>(), next: NodeId(4) }
    }

    fn cut(from: &[&str]) -> Fault {
        Fault::Cut { from: from.iter().map(ToString::to_string).collect() }
    }

    fn with(faults: &[Fault]) -> Faults {
        let mut all = Faults::default();
        faults.iter().for_each(|fault| all.put(fault, ME, &nodes()).expect("it is sound"));
        all
    }

    #[test]
    fn slow_node_holds_responses_back_and_nothing_else() {
        let slow = with(&[Fault::Slow { micros: 7 }]);
        assert_eq!(slow.passage(TWO, true), Passage::After(7));
        assert_eq!(slow.passage(TWO, false), Passage::Now);
        assert_eq!(with(&[Fault::Slow { micros: 7 }, Fault::Restore]), Faults::default());
    }

    #[test]
    fn node_that_is_cut_off_loses_everything_to_those_alone() {
        let faults = with(&[Fault::Slow { micros: 7 }, cut(&["n2"])]);
        for is_response in [false, true] {
            assert_eq!(faults.passage(TWO, is_response), Passage::Never);
        }
        assert_eq!(faults.passage(THREE, false), Passage::Now);
        assert!(faults.cuts(TWO) && !faults.cuts(THREE));
    }

    #[test]
    fn cuts_add_up_until_they_are_healed() {
        let both = with(&[cut(&["n2"]), cut(&["n3"])]);
        assert!(both.cuts(TWO) && both.cuts(THREE));
        let slow = with(&[cut(&["n2"]), Fault::Slow { micros: 5 }, Fault::Heal]);
        assert!(!slow.cuts(TWO) && slow.slow_micros() == 5, "healing is of cuts alone");
    }

    #[test]
    fn fault_that_cannot_be_changes_nothing() {
        let before = with(&[cut(&["n3"])]);
        for (fault, why) in [
            (cut(&["n2", "n9"]), "no node is named 'n9'"),
            (cut(&["n2", "n1"]), "cannot be cut off from itself"),
            (Fault::Slow { micros: u64::MAX }, "an hour is the most"),
        ] {
            let mut faults = before.clone();
            let error = faults.put(&fault, ME, &nodes()).expect_err("it is refused").to_string();
            assert!(error.contains(why), "{error}");
            assert_eq!(faults, before);
        }
    }

    #[test]
    fn faults_are_told_by_the_names_of_nodes() {
        let mut faults = with(&[Fault::Slow { micros: 5 }, cut(&["n3", "n2"])]);
        faults.cut.insert(NodeId(9));
        let told = faults.told(ME, &nodes());
        assert_eq!((told.node.as_str(), told.lab, told.slow_micros), ("n1", true, 5));
        assert_eq!(told.cut, ["n2", "n3", "node-9"]);
    }
}
