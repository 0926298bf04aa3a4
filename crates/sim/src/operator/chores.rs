//! What there is to do, and how it goes on.

use kv::admin::{Answer, Ask};
use kv::cluster::NodeDuty;
use kv::{Error, NodeId, Outcome, ShardId};
use node::identity::Joiner;
use placement::map::NodeDuty as Duty;

use super::joins::joining;
use crate::world::World;

/// What was not done is tried again after this.
const AGAIN_MICROS: u64 = 500_000;
/// A machine whose node has left is stopped within this.
const STOP_MICROS_MAX: u64 = 3_000_000;
/// A cluster is not made smaller than this, and not larger.
pub(crate) const SERVING_MIN: usize = 2;
const MACHINES_MAX: usize = 6;

/// Something to do.
#[derive(Debug)]
pub(crate) struct Chore {
    what: What,
    asked: Option<Asked>,
    not_before: u64,
}

/// What the directory was asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub client: u64,
    /// An answer is not waited for any longer.
    pub until: u64,
}

/// What is to be done.
#[derive(Debug)]
pub(super) enum What {
    /// A node is to do something else.
    Become { node: NodeId, name: String, duty: NodeDuty, fewer: bool },
    /// A node is leaving: its machine is stopped when it has left.
    Leaves(NodeId),
    /// A lost node is replaced.
    Replace { name: String },
    /// A machine joins.
    Join(Joiner),
    /// A change is given up.
    Abort(ShardId),
    /// Something is looked at.
    Look(Ask),
}

impl Chore {
    fn new(what: What) -> Chore {
        Chore { what, asked: None, not_before: 0 }
    }

    fn ask(&self) -> Option<Ask> {
        Some(match &self.what {
            What::Become { name, duty, fewer, .. } => {
                Ask::Node { name: name.clone(), duty: *duty, fewer: *fewer, dry_run: false }
            }
            What::Leaves(_) => return None,
            What::Replace { name } => Ask::Replace { name: name.clone(), lose: false, dry_run: false },
            What::Join(joiner) => Ask::Join(joining(joiner)),
            What::Abort(shard) => Ask::Abort { shard: *shard },
            What::Look(ask) => ask.clone(),
        })
    }
}

impl World {
    /// A machine was lost for good: its node is to be replaced.
    pub fn replace(&mut self, node: NodeId) {
        if let Some(row) = self.placed.nodes.get(&node) {
            let chore = Chore::new(What::Replace { name: row.name.clone() });
            self.operator.chores.push(chore);
        }
    }

    /// Goes on with something; `None` = it is done, or given up.
    pub(super) fn go_on_with(&mut self, mut chore: Chore) -> Option<Chore> {
        let now = self.events.now();
        if now < chore.not_before {
            return Some(chore);
        }
        if let What::Leaves(node) = chore.what {
            return self.stop_if_left(node).then_some(chore);
        }
        let Some(asked) = chore.asked else {
            chore.asked = chore.ask().and_then(|ask| self.ask_directory(ask));
            return Some(chore);
        };
        match self.operator.answers.remove(&asked.client) {
            None if now < asked.until => Some(chore),
            None => self.put_off(chore),
            Some(Ok(answer)) => self.is_done(chore.what, answer),
            Some(Err(error)) => self.is_refused(chore, &error),
        }
    }

    fn put_off(&mut self, mut chore: Chore) -> Option<Chore> {
        chore.asked = None;
        chore.not_before = self.events.now() + self.random.between(0, AGAIN_MICROS);
        Some(chore)
    }

    /// It was done; what follows from it, if something does.
    fn is_done(&mut self, what: What, answer: Answer) -> Option<Chore> {
        let next = match (what, answer) {
            (What::Become { node, duty, .. }, _) => {
                self.note(match duty {
                    NodeDuty::Leave => "a node was asked to leave",
                    NodeDuty::Drain => "a node was drained",
                    _ => "a node took replicas again",
                });
                (duty == NodeDuty::Leave).then_some(What::Leaves(node))
            }
            (What::Replace { name }, _) => {
                self.note("a lost node was replaced");
                Some(What::Join(self.newcomer(&name)))
            }
            (What::Join(joiner), Answer::Joined { node, cluster, map }) => {
                self.has_joined(&joiner, node, cluster, &map).map(|name| What::Replace { name })
            }
            (What::Look(Ask::Dump), Answer::Rows(rows)) => {
                if rows.is_empty() {
                    self.violation("the rows of the directory are none".into());
                }
                None
            }
            (What::Abort(_) | What::Look(Ask::Moves), Answer::Done | Answer::Moves(_)) => None,
            (what, answer) => {
                self.violation(format!("answers of the directory fit what was asked: {what:?}: {answer:?}"));
                None
            }
        };
        next.map(Chore::new)
    }

    /// It was not done, or nobody knows: what may come about later is asked again.
    fn is_refused(&mut self, chore: Chore, error: &Error) -> Option<Chore> {
        if error.outcome() == Outcome::InDoubt {
            self.note("an ask of the directory was in doubt");
            return self.put_off(chore);
        }
        match (&chore.what, error) {
            (_, Error::Unavailable(_)) => self.put_off(chore),
            // It is not known as dead yet, or its copies are still wanted.
            (What::Replace { name }, _) if self.placed.node_named(name).is_some() => self.put_off(chore),
            (What::Join(_), _) => {
                self.violation(format!("a machine of a new name joins: {chore:?}: {error}"));
                None
            }
            _ => {
                self.note("the directory refused what it was asked");
                None
            }
        }
    }

    /// Stops the machine of a node that has left; false = it has, or stays after all.
    fn stop_if_left(&mut self, node: NodeId) -> bool {
        match self.placed.nodes.get(&node).map(|row| row.duty) {
            Some(Duty::Leave) => true,
            Some(_) => false,
            None => {
                if self.machine(node).there {
                    self.note("a node has left");
                    let after = self.random.between(0, STOP_MICROS_MAX);
                    self.events.after(after, crate::events::Event::Retire { node });
                }
                false
            }
        }
    }

    /// Something new to do, if it can be done now.
    pub(super) fn draw_chore(&mut self) -> Option<Chore> {
        let machines = self.ids().count();
        let what = match self.random.below(100) {
            0..25 if machines < MACHINES_MAX => {
                self.operator.named += 1;
                let name = format!("m{}", self.operator.named);
                What::Join(self.newcomer(&name))
            }
            25..50 => self.draw_duty(NodeDuty::Drain)?,
            50..70 => self.draw_duty(NodeDuty::Leave)?,
            70..85 => self.draw_duty(NodeDuty::Serve)?,
            85..93 => {
                let shards: Vec<ShardId> = self.placed.changes.keys().copied().collect();
                What::Abort(*shards.first()?)
            }
            93..96 => What::Look(Ask::Moves),
            96..100 => What::Look(Ask::Dump),
            _ => return None,
        };
        Some(Chore::new(what))
    }

    /// Whether nodes are about to be sent away.
    pub fn sends_away(&self) -> bool {
        let sends =
            |chore: &Chore| matches!(chore.what, What::Become { duty, .. } if duty != NodeDuty::Serve);
        self.operator.chores.iter().any(sends)
    }

    /// Whether a machine was lost and not replaced, or has not what it should have.
    fn lacks_machines(&self) -> bool {
        let replaces = |chore: &Chore| matches!(chore.what, What::Replace { .. });
        let is_unsound = |id| self.machine(id).is_unsound();
        let gone = self.placed.nodes.values().any(|row| row.duty == Duty::Gone);
        gone || self.operator.chores.iter().any(replaces) || self.ids().any(is_unsound)
    }

    /// A node is to do something else than it does. None is sent away while another one is lost.
    fn draw_duty(&mut self, duty: NodeDuty) -> Option<What> {
        if duty != NodeDuty::Serve && self.lacks_machines() {
            return None;
        }
        let serves = |duty: Duty| duty == Duty::Serve;
        let nodes = self.placed.nodes.iter();
        let serving = nodes.clone().filter(|(_, row)| serves(row.duty)).count();
        let wanted = |row: &Duty| match duty {
            NodeDuty::Serve => matches!(row, Duty::Drain | Duty::Leave),
            _ => serves(*row) && serving > SERVING_MIN,
        };
        let nodes: Vec<NodeId> = nodes.filter(|(_, row)| wanted(&row.duty)).map(|(id, _)| *id).collect();
        if nodes.is_empty() {
            return None;
        }
        let node = self.random.pick(&nodes);
        let (name, fewer) = (self.placed.nodes[&node].name.clone(), self.random.percent(60));
        Some(What::Become { node, name, duty, fewer })
    }
}
