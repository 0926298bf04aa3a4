//! Waits until replicas have arrived, with a bar for each that moves on a terminal.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use kv::admin::{Ask, Move, Phase};
use kv::cluster::Status;
use kv::{NodeId, Request, ShardId};
use tokio::time::{Instant, sleep};

use super::ask;
use super::moves;
use super::names::Names;
use crate::connect::Store;
use crate::exit::{Code, Error};
use crate::print::Output;

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Goal {
    /// Nothing moves.
    Still,
    /// This node has no replica any more.
    Empty(NodeId),
    /// This node is none of the cluster any more.
    Absent(NodeId),
}

/// How long to wait.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Between two looks at the cluster.
    pub every: Duration,
    /// Until replicas that do not come closer have stalled.
    pub stall: Duration,
}

impl Pace {
    /// A stall is longer than an election, and a node that is started anew.
    pub const USUAL: Pace = Pace { every: Duration::from_millis(500), stall: Duration::from_secs(60) };
}

/// More bars than these do not fit on a small terminal.
const BARS_MAX: usize = 16;

impl Goal {
    fn is_reached(&self, moves: &[Move], status: &Status) -> bool {
        let known = |id: &NodeId| status.nodes.iter().find(|node| node.id == *id);
        moves.is_empty()
            && match self {
                Goal::Still => true,
                Goal::Empty(id) => known(id).is_none_or(|node| node.replicas == 0),
                Goal::Absent(id) => known(id).is_none(),
            }
    }
}

/// What tells a move from others.
type Which = (ShardId, Option<NodeId>, Option<NodeId>);

fn which(moved: &Move) -> Which {
    (moved.shard, moved.from, moved.to)
}

/// What was seen, to notice that something comes closer.
#[derive(PartialEq, Eq)]
struct Seen {
    moves: Vec<(Which, Phase, u64)>,
    replicas: Vec<(NodeId, u32)>,
}

impl Seen {
    fn of(moves: &[Move], status: &Status) -> Seen {
        let moved = |moved: &Move| (which(moved), moved.phase, moved.bytes_done);
        Seen {
            moves: moves.iter().map(moved).collect(),
            replicas: status.nodes.iter().map(|node| (node.id, node.replicas)).collect(),
        }
    }
}

/// Waits for the goal. With `--json`, prints the moves whenever something has come closer. Unavailable when nothing does so for
/// too long.
pub async fn wait(goal: &Goal, pace: Pace, store: &dyn Store, out: &mut Output<'_>) -> Result<Code, Error> {
    let mut bars = Bars::new(out.json);
    let (mut seen, mut since) = (None, Instant::now());
    loop {
        let stalled = match look(store).await {
            Ok((moves, status)) => {
                let names = Names::of(&status);
                if goal.is_reached(&moves, &status) {
                    return Ok(Code::Done);
                }
                let now = Some(Seen::of(&moves, &status));
                if now != seen {
                    (seen, since) = (now, Instant::now());
                    print_progress(&moves, &names, &mut bars, out)?;
                }
                describe(&moves, &names)
            }
            Err(Error::Store(error)) if error.is_transient() => error.to_string(),
            Err(error) => return Err(error),
        };
        if since.elapsed() >= pace.stall {
            return Err(Error::Unavailable(format!(
                "nothing has come closer for {:?} ({stalled}): see cluster status; what is under way goes on by itself",
                pace.stall
            )));
        }
        sleep(pace.every).await;
    }
}

async fn look(store: &dyn Store) -> Result<(Vec<Move>, Status), Error> {
    Ok((ask::moves(Ask::Moves, store, Request::TIMEOUT).await?, store.status().await?))
}

fn print_progress(
    moves: &[Move],
    names: &Names<'_>,
    bars: &mut Bars,
    out: &mut Output<'_>,
) -> Result<(), Error> {
    if out.json {
        moves.iter().try_for_each(|moved| out.object(&moves::object(moved, names)))?;
        out.out.flush()?;
    }
    bars.show(moves, names);
    Ok(())
}

/// What is still under way, for a sentence.
fn describe(moves: &[Move], names: &Names<'_>) -> String {
    match moves {
        [] => "no move has begun".into(),
        [one] => format!("{}, {}", moves::words(one, names), one.phase.name()),
        [one, rest @ ..] => {
            format!("{}, {}, and {} more", moves::words(one, names), one.phase.name(), rest.len())
        }
    }
}

/// A bar for each move that has begun, and one for how many are done. Draws nothing where standard error is no terminal.
struct Bars {
    all: MultiProgress,
    /// How many moves are done of those that were ever seen.
    total: ProgressBar,
    seen: usize,
    each: BTreeMap<Which, ProgressBar>,
}

impl Bars {
    fn new(hidden: bool) -> Bars {
        let all = MultiProgress::new();
        if hidden {
            all.set_draw_target(indicatif::ProgressDrawTarget::hidden());
        }
        let total = all.add(ProgressBar::new(0).with_style(style("moved {wide_bar} {pos} of {len}")));
        Bars { all, total, seen: 0, each: BTreeMap::new() }
    }

    fn show(&mut self, moves: &[Move], names: &Names<'_>) {
        self.each.retain(|known, bar| {
            let stays = moves.iter().any(|moved| which(moved) == *known);
            if !stays {
                self.all.remove(bar);
            }
            stays
        });
        for moved in moves.iter().filter(|moved| moved.phase != Phase::Planned) {
            if !self.each.contains_key(&which(moved)) && self.each.len() < BARS_MAX {
                let bar = self.all.add(ProgressBar::new(0).with_style(style("{prefix:24} {wide_bar} {msg}")));
                self.each.insert(which(moved), bar.with_prefix(moves::words(moved, names)));
            }
            if let Some(bar) = self.each.get(&which(moved)) {
                let (done, total) = moves::filled(moved);
                bar.set_message(moves::progress(moved));
                bar.update(|state| {
                    state.set_len(total);
                    state.set_pos(done);
                });
            }
        }
        self.seen = self.seen.max(self.total.position() as usize + moves.len());
        self.total.set_length(self.seen as u64);
        self.total.set_position((self.seen - moves.len()) as u64);
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.each.values().for_each(ProgressBar::finish_and_clear);
        self.total.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template is a constant and well-formed")
}
