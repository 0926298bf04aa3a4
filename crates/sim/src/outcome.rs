//! What a run came to.

use std::collections::BTreeMap;

use check::history::History;
use check::window::Window;
use kv::{Error, Outcome as Fate, Reply};

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What did not hold; empty = all did.
    pub violations: Vec<String>,
    /// Counts.
    pub stats: Stats,
    /// What the clients asked and learned; empty after a panic.
    pub history: History,
    /// The part of the history that proves a violation, if that is what did not hold.
    pub window: Option<Window>,
    /// What happened, line by line, if that was asked for.
    pub trace: Vec<String>,
}

/// Counts of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Virtual time, in microseconds.
    pub micros: u64,
    /// Things that happened.
    pub events: u64,
    /// Turns of drivers.
    pub turns: u64,
    /// Frames sent between nodes, lost, and sent on their own ways.
    pub frames: u64,
    /// Of them, lost on a weak network.
    pub frames_lost: u64,
    /// Of them, doubled or late on a weak network.
    pub frames_strayed: u64,
    /// Starts of processes.
    pub starts: u64,
    /// Requests that clients asked before the faults ended.
    pub asked: u64,
    /// Attempts after first ones.
    pub retries: u64,
    /// Requests that were done.
    pub done: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Requests that are in doubt.
    pub in_doubt: u64,
    /// Of them, writes that were sent again to the end, under an id that was still valid then.
    pub in_doubt_retried: u64,
    /// Faults by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// What must happen sometimes, over all seeds, and how often it did.
    pub sometimes: BTreeMap<&'static str, u64>,
    /// From the end of all faults until the cluster was at rest, in microseconds.
    pub rest_micros: u64,
    /// The history was too hard to judge within the budget.
    pub undecided: u64,
}

impl Stats {
    pub(crate) fn count(&mut self, result: &Result<Reply, Error>) {
        let counter = match result {
            Ok(_) => &mut self.done,
            Err(error) if error.outcome() == Fate::InDoubt => &mut self.in_doubt,
            Err(_) => &mut self.failed,
        };
        *counter += 1;
    }

    /// Adds those of another run.
    pub fn add(&mut self, other: &Stats) {
        let Stats { micros, events, turns, frames, frames_lost, frames_strayed, starts, asked, .. } = other;
        let Stats { retries, done, failed, in_doubt, in_doubt_retried, undecided, rest_micros, .. } = other;
        for (sum, more) in [
            (&mut self.micros, micros),
            (&mut self.events, events),
            (&mut self.turns, turns),
            (&mut self.frames, frames),
            (&mut self.frames_lost, frames_lost),
            (&mut self.frames_strayed, frames_strayed),
            (&mut self.starts, starts),
            (&mut self.asked, asked),
            (&mut self.retries, retries),
            (&mut self.done, done),
            (&mut self.failed, failed),
            (&mut self.in_doubt, in_doubt),
            (&mut self.in_doubt_retried, in_doubt_retried),
            (&mut self.undecided, undecided),
        ] {
            *sum += more;
        }
        self.rest_micros = self.rest_micros.max(*rest_micros);
        for (all, more) in [(&mut self.faults, &other.faults), (&mut self.sometimes, &other.sometimes)] {
            more.iter().for_each(|(what, count)| *all.entry(what).or_default() += count);
        }
    }
}
