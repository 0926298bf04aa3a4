//! What a protocol did, and whether it kept its promise.

use kv::Level;
use serde::Serialize;

use crate::Choice;
use crate::cluster::Node;
use crate::judge::{self, Figures, Refused};
use crate::listed::Balance;
use crate::tally::{self, Counts, Phase, Tally, Written};
use crate::workers::Recorded;

/// What one protocol did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The name of the configuration.
    pub protocol: String,
    /// What is acknowledged when.
    pub says: String,
    /// The phases, in their order.
    pub phases: Vec<PhaseReport>,
    /// Writes that were acknowledged.
    pub acknowledged: u64,
    /// Of these, so many are not there at the end.
    pub lost: u64,
    /// Reads that missed more than their level or their receipt allows.
    pub untrue: u64,
    /// Requests of the history, with the last reads of all keys.
    pub requests: u64,
    /// Whether the history is linearizable, or else what was lost is listed.
    pub verdict: Verdict,
    /// What is wrong, in a sentence each; of one that kept its promise nothing.
    pub broken: Vec<String>,
    /// Where the history is kept, and what shows that it is not linearizable.
    pub files: Vec<String>,
}

/// What came of a phase.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PhaseReport {
    /// Its name.
    pub phase: &'static str,
    /// The node that it is about.
    pub node: Option<String>,
    /// How long it was, in microseconds.
    pub micros: u64,
    /// Who heard whom, and what came of that.
    pub sides: Vec<SideReport>,
}

/// What a side came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SideReport {
    /// Its name.
    pub side: &'static str,
    /// Its nodes.
    pub nodes: Vec<String>,
    /// Puts, appends and compare-and-puts.
    pub writes: Counts,
    /// Linearizable gets.
    pub reads: Counts,
    /// Gets at the level `bounded`.
    pub bounded: Counts,
    /// Gets at the level `local`.
    pub local: Counts,
}

/// What the judge of the history says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It is linearizable.
    Linearizable,
    /// It is not.
    Violated,
    /// Nobody knows.
    Undecided,
    /// It need not be: each copy answers for itself, and all end with what was acknowledged.
    Converged,
    /// It need not be: of what was acknowledged all is there or in the ledger.
    Listed,
    /// It need not be, and that does not hold.
    Unlisted,
}

impl Verdict {
    /// Of what the judge found.
    pub fn of(judged: &Result<Figures, Refused>) -> Verdict {
        match judged {
            Ok(_) => Verdict::Linearizable,
            Err(Refused { window: Some(_), .. }) => Verdict::Violated,
            Err(Refused { window: None, .. }) => Verdict::Undecided,
        }
    }

    fn of_balance(balance: Balance) -> Verdict {
        if balance.unlisted + balance.doubled == 0 { Verdict::Listed } else { Verdict::Unlisted }
    }

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Linearizable => "linearizable",
            Verdict::Violated => "NOT linearizable",
            Verdict::Undecided => "undecided",
            Verdict::Converged => "converged",
            Verdict::Listed => "what it lost is listed",
            Verdict::Unlisted => "what it lost is NOT listed",
        }
    }
}

impl Report {
    /// Counts and judges what was seen. Files are kept by whoever asks.
    pub fn of(
        choice: &Choice,
        nodes: &[Node],
        phases: &[Phase],
        recorded: &Recorded,
    ) -> (Report, Result<Figures, Refused>) {
        let written = Written::of(&recorded.seen);
        let balance = recorded.listed.as_ref().map(|listed| listed.balance(&written));
        let lost = recorded.left.iter().map(|(key, version)| written.lost(key, *version)).sum();
        let lost = balance.map_or(lost, |balance| balance.lost);
        let tallies: Vec<Vec<Tally>> =
            phases.iter().map(|phase| tally::count(phase, nodes.len(), &recorded.seen, &written)).collect();
        let untrue =
            tallies.iter().flatten().map(|tally| tally::both(tally.bounded, tally.local).untrue).sum();
        let is_linearizable = choice.strongest() == Level::Linearizable;
        // Who has not heard that another one orders tells how old its side is; and where none does it is told by the clocks of two nodes.
        let untrue = if is_linearizable && balance.is_none() { untrue } else { 0 };
        let judged = match is_linearizable && balance.is_none() {
            true => judge::judge(&recorded.history),
            false => Ok(judge::figures(&recorded.history)),
        };
        let verdict = if is_linearizable { Verdict::of(&judged) } else { Verdict::Converged };
        let named = |node: usize| nodes[node].name.clone();
        let phase = |(phase, tallies): (&Phase, &Vec<Tally>)| PhaseReport {
            phase: phase.what.name(),
            node: phase.what.node().map(named),
            micros: phase.to - phase.from,
            sides: tallies.iter().map(|tally| SideReport::of(tally, nodes)).collect(),
        };
        let report = Report {
            protocol: choice.name.into(),
            says: choice.says.into(),
            phases: phases.iter().zip(&tallies).map(phase).collect(),
            acknowledged: written.count(),
            lost,
            untrue,
            requests: recorded.history.operations().len() as u64,
            verdict: balance.map_or(verdict, Verdict::of_balance),
            broken: balance.map_or_else(|| broken(lost, untrue, &judged), unlisted),
            files: Vec::new(),
        };
        (report, judged)
    }

    /// Whether it is proven that it did not do what it promises.
    pub fn is_broken(&self) -> bool {
        match self.verdict {
            Verdict::Listed => false,
            Verdict::Violated | Verdict::Unlisted => true,
            Verdict::Linearizable | Verdict::Converged | Verdict::Undecided => {
                self.lost > 0 || self.untrue > 0
            }
        }
    }

    /// The first phase of a name.
    pub fn phase(&self, name: &str) -> Option<&PhaseReport> {
        self.phases.iter().find(|phase| phase.phase == name)
    }
}

/// What is wrong with what is listed.
fn unlisted(balance: Balance) -> Vec<String> {
    let Balance { unlisted, doubled, .. } = balance;
    let lost =
        (unlisted > 0).then(|| format!("{unlisted} acknowledged writes are neither there nor in the ledger"));
    let doubled = (doubled > 0).then(|| format!("the ledger lists {doubled} writes that are there"));
    lost.into_iter().chain(doubled).collect()
}

fn broken(lost: u64, untrue: u64, judged: &Result<Figures, Refused>) -> Vec<String> {
    let lost = (lost > 0).then(|| format!("{lost} acknowledged writes are lost"));
    let untrue =
        (untrue > 0).then(|| format!("{untrue} reads missed more than their level or their receipt allows"));
    let judged = judged.as_ref().err().map(|refused| match &refused.window {
        Some(window) => format!("not linearizable: {}", window.reason()),
        None => refused.why.clone(),
    });
    lost.into_iter().chain(untrue).chain(judged).collect()
}

impl PhaseReport {
    /// A side of it.
    pub fn side(&self, name: &str) -> Option<&SideReport> {
        self.sides.iter().find(|side| side.side == name)
    }
}

impl SideReport {
    fn of(tally: &Tally, nodes: &[Node]) -> SideReport {
        SideReport {
            side: tally.side.name(),
            nodes: tally.nodes.iter().map(|node| nodes[*node].name.clone()).collect(),
            writes: tally.writes,
            reads: tally.reads,
            bounded: tally.bounded,
            local: tally.local,
        }
    }
}
