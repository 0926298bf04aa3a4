//! The laboratory: workloads and faults on real processes, and what each protocol did.
//!
//! # The problem
//!
//! Whoever makes a keyspace chooses how its copies agree, and that decides what it does when a node is cut off or dies. Words do not
//! show that: who refuses, for how long, who serves what is stale, what is lost. So the same faults happen to each choice, real
//! processes and real clients, and a table says what came of it.
//!
//! # How
//!
//! ```text
//!   Cluster ── three processes `serve --lab`, or one that is there        (cluster)
//!      │  a keyspace for each Choice, one shard each                      (choice)
//!      ▼
//!   Workers ── clients that stay with their node, all recorded            (workers, pinned, places)
//!      │  calm ▸ cut ▸ healed ▸ killed ▸ back ▸ calm-again                (script)
//!      ▼
//!   Seen ───── counts by phase and side                                   (seen, tally)
//!   History ── was it linearizable?                                       (judge, by crate `check`)
//!      ▼
//!   Report ─── as text or as JSON                                         (report, table)
//! ```
//!
//! Protocols go through it one after the other on the same cluster, so that each has the machine to itself, and the node that is cut
//! off and killed is the one that leads it, where one does: the most that one node can do. Each node has two clients that put, append and
//! compare-and-put, one that gets what is linearizable, and one that gets at the levels `bounded` and `local`. They ask their node once and
//! do not repeat: what a user sees who has one node at hand.
//!
//! For example two-phase, while the master is cut off:
//!
//! ```text
//!                    writes                 reads
//! PROTOCOL    NODES   done fail doubt  wait  done fail  wait
//! two-phase   alone      1   12     4  4958   232    0    54    a write is on all copies or on none: so none is taken
//!             others     4    0     8  4972   443    6    54    each copy has everything: so each goes on to answer
//! ```
//!
//! What consistency costs while nothing fails, another run says: [`eval`].
//!
//! # What holds
//!
//! - A protocol has *kept its promise* when its history is linearizable, every write that was acknowledged is there at the end at every
//!   node, and no read missed more than its level or its receipt allows.
//! - Of one that may lose what it acknowledged (`primary-0`): when every acknowledged write is there at the end or in the ledger, and none in
//!   both. Its history is that of two sides for a while, and is not judged.
//! - What is counted is counted by clients: when they asked, when they knew, which version they were given.
//! - Whatever ends the run, the processes that it started end, and a folder of its own is removed, unless it shows what broke.
//!
//! # Caveats
//!
//! The table says what happened this time. Waits are of this machine and its load. A fault that never meets the moment in which it
//! hurts shows nothing: that is what `capstan sim` is for. A phase that is shorter than an election shows no service after it.

mod choice;
mod cluster;
pub mod eval;
mod judge;
mod listed;
mod pinned;
mod places;
mod ports;
mod report;
mod script;
mod seen;
mod table;
mod tally;
mod workers;

use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

pub use choice::{Choice, all};
pub use judge::{Figures, Refused, judge, keep};
pub use pinned::{Pinned, channel, said};
pub use places::{Limits, Place, Places};
pub use ports::{NODES_MAX, free_base};
pub use report::{PhaseReport, Report, SideReport, Verdict};
pub use table::{render, served};
pub use tally::Counts;

use cluster::Cluster;
use workers::Recorded;

/// What is to be run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The program whose `serve` is a node.
    pub program: PathBuf,
    /// What is compared.
    pub choices: Vec<Choice>,
    /// How many nodes; at least 3 and at most [`NODES_MAX`].
    pub nodes: u16,
    /// How long a phase is.
    pub phase: Duration,
    /// Where everything is kept; `None` = in a folder that is removed unless something broke.
    pub keep: Option<PathBuf>,
    /// Nodes of a cluster that is there, instead of one of its own.
    pub connect: Option<Vec<String>>,
}

/// Why nothing can be said of the protocols.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It cannot be as it was asked; the text says what could.
    #[error("{0}")]
    Invalid(String),
    /// Something that it needs is not there now.
    #[error("{0}")]
    Unavailable(String),
    /// It was to end early; the text says by what.
    #[error("stopped by {0} before all was through")]
    Stopped(String),
}

impl From<kv::Error> for Error {
    fn from(error: kv::Error) -> Error {
        match error {
            kv::Error::Invalid(why) => Error::Invalid(why),
            error => Error::Unavailable(error.to_string()),
        }
    }
}

impl Error {
    /// With what was heard last.
    fn after(self, last: Option<kv::Error>) -> Error {
        match (self, last) {
            (Error::Unavailable(why), Some(last)) => Error::Unavailable(format!("{why}; at last: {last}")),
            (error, _) => error,
        }
    }
}

/// Where a run keeps its files.
enum Folder {
    Kept(PathBuf),
    Passing(TempDir),
}

impl Folder {
    fn of(plan: &Plan) -> Result<Folder, Error> {
        let Some(folder) = &plan.keep else {
            return Folder::passing();
        };
        let cannot =
            |error| Error::Invalid(format!("making {}: {error}; name another folder", folder.display()));
        std::fs::create_dir_all(folder).map_err(cannot)?;
        let is_empty = std::fs::read_dir(folder).map_err(cannot)?.next().is_none();
        match is_empty {
            true => Ok(Folder::Kept(folder.clone())),
            false => Err(Error::Invalid(format!("{} is not empty: name another folder", folder.display()))),
        }
    }

    fn passing() -> Result<Folder, Error> {
        let made = tempfile::Builder::new().prefix("capstan-lab-").tempdir();
        let cannot = |error| Error::Unavailable(format!("making a folder for the nodes: {error}"));
        made.map(Folder::Passing).map_err(cannot)
    }

    fn path(&self) -> &Path {
        match self {
            Folder::Kept(path) => path,
            Folder::Passing(folder) => folder.path(),
        }
    }

    /// Stays when the run is over.
    fn stay(&mut self) {
        if let Folder::Passing(folder) = self {
            folder.disable_cleanup(true);
        }
    }

    /// A run whose nodes did not do: what they wrote says more, so it stays, and the error says where.
    fn explain<T>(&mut self, result: Result<T, Error>) -> Result<T, Error> {
        match result {
            Err(Error::Unavailable(why)) => {
                self.stay();
                let folder = self.path().display();
                Err(Error::Unavailable(format!("{why}; what the nodes wrote is kept in {folder}")))
            }
            result => result,
        }
    }
}

/// Runs each choice through all faults; what each did. `stop` ends it early and says why; `say` takes a line for whoever waits.
pub async fn run(
    plan: &Plan,
    stop: impl Future<Output = String>,
    mut say: impl FnMut(&str),
) -> Result<Vec<Report>, Error> {
    let mut folder = Folder::of(plan)?;
    let local = tokio::task::LocalSet::new();
    let running = local.run_until(run_on(plan, &mut folder, stop, &mut say));
    let result = running.await;
    if plan.connect.is_some() { result } else { folder.explain(result) }
}

async fn run_on(
    plan: &Plan,
    folder: &mut Folder,
    stop: impl Future<Output = String>,
    say: script::Say<'_>,
) -> Result<Vec<Report>, Error> {
    tokio::pin!(stop);
    let begin = async {
        match &plan.connect {
            Some(addresses) => Cluster::join(addresses).await,
            None => {
                say(&format!("starting {} nodes in {}", plan.nodes, folder.path().display()));
                Cluster::start(&plan.program, folder.path(), plan.nodes).await
            }
        }
    };
    let mut cluster = tokio::select! {
        cluster = begin => cluster?,
        why = &mut stop => return Err(Error::Stopped(why)),
    };
    let result = tokio::select! {
        result = run_all(plan, folder, &mut cluster, say) => result,
        why = &mut stop => Err(Error::Stopped(why)),
    };
    if result.is_err() && plan.connect.is_some() {
        // It is somebody's, who wants it whole.
        cluster.heal().await?;
    }
    result
}

async fn run_all(
    plan: &Plan,
    folder: &mut Folder,
    cluster: &mut Cluster,
    say: script::Say<'_>,
) -> Result<Vec<Report>, Error> {
    let nodes = cluster.nodes().len() as u16;
    for choice in &plan.choices {
        cluster.create(choice.name, choice.wish(nodes)).await?;
    }
    let mut reports = Vec::new();
    for choice in &plan.choices {
        let (phases, recorded) = script::run(cluster, choice, plan.phase, say).await?;
        say(&format!("{}: judging {} requests", choice.name, recorded.history.operations().len()));
        let (mut report, judged) = Report::of(choice, cluster.nodes(), &phases, &recorded);
        if !report.broken.is_empty() {
            folder.stay();
        }
        if !report.broken.is_empty() || plan.keep.is_some() {
            report.files = kept(folder.path(), choice, &recorded, &judged)?;
        }
        reports.push(report);
    }
    Ok(reports)
}

/// Keeps a history, and what shows that it does not hold; the files.
fn kept(
    folder: &Path,
    choice: &Choice,
    recorded: &Recorded,
    judged: &Result<Figures, Refused>,
) -> Result<Vec<String>, Error> {
    let kept = match judged {
        Err(refused) => refused.keep(&recorded.history, folder, choice.name),
        Ok(_) => keep(&recorded.history, folder, choice.name).map(|file| vec![file]),
    };
    let cannot = |error| Error::Unavailable(format!("keeping the history in {}: {error}", folder.display()));
    Ok(kept.map_err(cannot)?.iter().map(|file| file.display().to_string()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_once(program: &str, keep: &Path) -> Result<Vec<Report>, Error> {
        let plan = Plan {
            program: program.into(),
            choices: all(),
            nodes: 3,
            phase: Duration::ZERO,
            keep: Some(keep.into()),
            connect: None,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime is made").block_on(run(&plan, std::future::pending(), |_| {}))
    }

    #[test]
    fn node_that_ends_at_once_ends_the_run_with_its_last_words() {
        let folder = tempfile::tempdir().expect("a folder is made");
        let kept = folder.path().join("kept");
        let Err(Error::Unavailable(why)) = run_once("false", &kept) else { panic!("no node serves") };
        assert!(why.starts_with("n1 has ended by itself (exit status: 1): it wrote nothing; "), "{why}");
        assert!(why.ends_with(&format!("kept in {}", kept.display())), "{why}");
    }

    #[test]
    fn folder_that_holds_something_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder is made");
        std::fs::write(folder.path().join("notes"), "mine").expect("a file is written");
        let Err(Error::Invalid(why)) = run_once("false", folder.path()) else { panic!("it is not empty") };
        assert!(why.ends_with("is not empty: name another folder"), "{why}");
        assert_eq!(std::fs::read_dir(folder.path()).map(Iterator::count).ok(), Some(1));
    }
}
