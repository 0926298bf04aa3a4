//! Runs forms on a cluster of its own, one after the other; each while all is well, and while nodes are slow in turn.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::figures::{self, Figures};
use super::form::Form;
use super::load::Load;
use crate::cluster::Cluster;
use crate::{Error, Folder};

/// How long clients are at work before they are counted.
const WARM_UP: Duration = Duration::from_millis(500);
/// So many times what a node is slow by passes before they are counted: what is under way then began while it was slow.
const WARM_UP_SLOW: u32 = 3;
/// How often is said how far it is.
const SAY_EVERY: Duration = Duration::from_millis(200);

/// What is to be run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The program whose `serve` is a node.
    pub program: PathBuf,
    /// How many nodes; at most [`NODES_MAX`](crate::NODES_MAX).
    pub nodes: u16,
    /// How many clients; at least 1.
    pub clients: usize,
    /// How long each form is measured, and as long again with each node that is slow.
    pub time: Duration,
    /// How late each node answers while it is its turn to be slow; `None` = none ever is.
    pub slow: Option<Duration>,
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

/// What came of a form in one time.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    pub form: Form,
    /// Which node was slow, by its place.
    pub slow: Option<usize>,
    /// Which nodes lead a shard, by their places.
    pub leaders: BTreeSet<usize>,
    pub figures: Figures,
}

/// Measures each form; what came of it. `stop` ends it early and says why; `say` hears how far it is.
pub(super) async fn run(
    plan: &Plan,
    forms: &[Form],
    stop: impl Future<Output = String>,
    mut say: impl FnMut(Progress),
) -> Result<Vec<Measured>, Error> {
    let mut folder = Folder::passing()?;
    let local = tokio::task::LocalSet::new();
    let measured = local.run_until(async {
        tokio::select! {
            measured = run_all(plan, forms, &folder, &mut say) => measured,
            why = stop => Err(Error::Stopped(why)),
        }
    });
    let result = measured.await;
    folder.explain(result)
}

async fn run_all(
    plan: &Plan,
    forms: &[Form],
    folder: &Folder,
    say: &mut dyn FnMut(Progress),
) -> Result<Vec<Measured>, Error> {
    let times = forms.len() as u32 * (1 + plan.slow.map_or(0, |_| u32::from(plan.nodes)));
    let mut progress = Progress { form: None, done: Duration::ZERO, of: plan.time * times };
    say(progress);
    let cluster = Cluster::start(&plan.program, folder.path(), plan.nodes).await?;
    let mut measured = Vec::new();
    for form in forms {
        progress.form = Some(form.name);
        say(progress);
        measured.extend(run_one(plan, &cluster, form, &mut progress, say).await?);
    }
    Ok(measured)
}

/// One load, and several times of it.
async fn run_one(
    plan: &Plan,
    cluster: &Cluster,
    form: &Form,
    progress: &mut Progress,
    say: &mut dyn FnMut(Progress),
) -> Result<Vec<Measured>, Error> {
    cluster.create(form.keyspace, form.wish.clone()).await?;
    let load = Load::start(cluster, form, plan.clients).await?;
    let mut times = Vec::new();
    sleep(WARM_UP).await;
    times.push((None, pass(plan.time, &load, progress, say).await));
    if let Some(late) = plan.slow {
        for node in 0..cluster.nodes().len() {
            cluster.slow(node, late).await?;
            sleep(WARM_UP.max(late * WARM_UP_SLOW)).await;
            times.push((Some(node), pass(plan.time, &load, progress, say).await));
            cluster.restore(node).await?;
        }
    }
    let leaders = load.leaders();
    let seen = load.end().await;
    let measured = |(slow, (from, to)): (Option<usize>, (u64, u64))| Measured {
        form: form.clone(),
        slow,
        leaders: leaders.clone(),
        figures: figures::count(&seen, from, to),
    };
    Ok(times.into_iter().map(measured).collect())
}

/// Lets a time pass; when it was, as the clients have it.
async fn pass(
    time: Duration,
    load: &Load,
    progress: &mut Progress,
    say: &mut dyn FnMut(Progress),
) -> (u64, u64) {
    let (from, began) = (load.micros(), Instant::now());
    while began.elapsed() < time {
        sleep(SAY_EVERY.min(time.saturating_sub(began.elapsed()))).await;
        say(Progress { done: progress.done + began.elapsed().min(time), ..*progress });
    }
    progress.done += time;
    (from, load.micros())
}
