//! What consistency costs: the same load on shards of one copy, and on replica groups of which more and more members are waited for.
//!
//! # The problem
//!
//! A group of replicas can answer faster than it agrees. How much faster, and how often the answer is then an old one, depends on the
//! machine and on the load, so whoever chooses wants to see it measured on their own.
//!
//! # How
//!
//! ```text
//!   Cluster ── nodes of its own, processes on this machine
//!      │  a keyspace for each Form                                        (form)
//!      ▼
//!   Load ───── so many clients, each a put or a get at a time, half and half, of as many keys as the seed had   (load)
//!      │  a put and a get of one copy go to the node that leads the key's shard, any other get to the members in turn
//!      ▼
//!   Figures ── answers a second, reads that were wrong, by how much      (figures)
//!      ▼
//!   Row ────── a line of the table, an object in JSON, a bar of the plot  (report, plot)
//! ```
//!
//! First one shard of one copy, then 2, 4, 8, spread over the nodes. Then two shards of which each node has a copy, under `primary`: a
//! put waits for 0, 1, 2 secondaries, and gets are asked at the levels `local` and `bounded`; at last it waits for all, and gets are
//! linearizable at every member.
//!
//! For example, with three secondaries of which a put waits for one: n1 orders, n2 has each put before it is acknowledged, n3 and n4 get
//! what is written every 100 ms. A client puts k through n1 and is answered; the next get of k is asked at n3, which has the value of
//! 60 ms ago. That read is *wrong*: its answer is older than a put that was acknowledged before the read began. Its receipt says that it may
//! miss the last 130 ms, so it is not *untrue*.
//!
//! # What holds
//!
//! - One process asks everything and notes when it asked and when it knew. So no clock is compared with another.
//! - A linearizable read is never wrong. One at `bounded(ms)` misses no more than that and than its receipt says, one at `local` no more
//!   than its receipt says. A read that does is untrue, and the evaluation says so.
//!
//! # Caveats
//!
//! Clients and nodes share the machine, so more nodes are more work for the same cores: shards do not add up here as they do on machines of
//! their own. The clients take every key as often as every other, and the keys are few: wrong reads are more than with many keys.

mod figures;
mod form;
mod load;
mod plot;
mod report;

use std::path::PathBuf;
use std::time::{Duration, Instant};

pub use form::NODES_MIN;
pub use plot::plot;
pub use report::{Row, render};

use crate::cluster::Cluster;
use crate::{Error, Folder};
use form::Form;
use load::Load;

/// How long clients are at work before they are counted.
const WARM_UP: Duration = Duration::from_millis(500);
/// How often is said how far it is.
const SAY_EVERY: Duration = Duration::from_millis(200);

/// What is to be run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The program whose `serve` is a node.
    pub program: PathBuf,
    /// How many nodes; [`NODES_MIN`] to [`NODES_MAX`](crate::NODES_MAX).
    pub nodes: u16,
    /// How many clients; at least 1.
    pub clients: usize,
    /// How long each form is measured.
    pub time: Duration,
}

/// How far it is, for whoever waits.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// What is measured now; `None` = the nodes start.
    pub form: Option<&'static str>,
    /// For how long there was measured.
    pub done: Duration,
    /// How long that is in all.
    pub of: Duration,
}

/// Measures each form; what came of it. `stop` ends it early and says why; `say` hears how far it is.
///
/// # Errors
/// [`Error::Unavailable`] when the nodes do not start or do not serve; what they wrote is kept then.
pub async fn run(
    plan: &Plan,
    stop: impl Future<Output = String>,
    mut say: impl FnMut(Progress),
) -> Result<Vec<Row>, Error> {
    let mut folder = Folder::passing()?;
    let local = tokio::task::LocalSet::new();
    let measured = local.run_until(async {
        tokio::select! {
            rows = measure(plan, &folder, &mut say) => rows,
            why = stop => Err(Error::Stopped(why)),
        }
    });
    let result = measured.await;
    folder.explain(result)
}

async fn measure(plan: &Plan, folder: &Folder, say: &mut dyn FnMut(Progress)) -> Result<Vec<Row>, Error> {
    let forms = form::all(plan.nodes);
    let of = plan.time * forms.len() as u32;
    let mut progress = Progress { form: None, done: Duration::ZERO, of };
    say(progress);
    let cluster = Cluster::start(&plan.program, folder.path(), plan.nodes).await?;
    let mut rows = Vec::new();
    for form in &forms {
        progress.form = Some(form.name);
        say(progress);
        rows.push(
            measure_one(plan, &cluster, form, &mut |elapsed| {
                say(Progress { done: progress.done + elapsed, ..progress });
            })
            .await?,
        );
        progress.done += plan.time;
    }
    Ok(rows)
}

async fn measure_one(
    plan: &Plan,
    cluster: &Cluster,
    form: &Form,
    say: &mut dyn FnMut(Duration),
) -> Result<Row, Error> {
    cluster.create(form.keyspace, form.wish).await?;
    let load = Load::start(cluster, form, plan.clients).await?;
    tokio::time::sleep(WARM_UP).await;
    let (from, began) = (load.micros(), Instant::now());
    while began.elapsed() < plan.time {
        tokio::time::sleep(SAY_EVERY.min(plan.time - began.elapsed().min(plan.time))).await;
        say(began.elapsed().min(plan.time));
    }
    let to = load.micros();
    let leads = load.leads();
    let seen = load.end().await;
    Ok(Row::of(form, leads, &figures::count(&seen, from, to)))
}
