//! The faults, the same for every protocol: one phase after the other.

use std::time::Duration;

use tokio::time::sleep;

use crate::cluster::Cluster;
use crate::tally::{Phase, What};
use crate::workers::{Recorded, Workers};
use crate::{Choice, Error};

/// Takes a line for somebody who waits.
pub type Say<'a> = &'a mut dyn FnMut(&str);

/// A primary that is lost is followed after some seconds where writes wait for nobody: a shorter phase would not show it.
const FOLLOWED: Duration = Duration::from_secs(10);

/// Runs a keyspace through all phases, each so long, while clients write and read it; what happened when, and what they saw.
pub async fn run(
    cluster: &mut Cluster,
    choice: &Choice,
    time: Duration,
    say: Say<'_>,
) -> Result<(Vec<Phase>, Recorded), Error> {
    cluster.serves(choice.name).await?;
    let workers = Workers::start(cluster.nodes(), choice)?;
    let time = if choice.may_lose { time.max(FOLLOWED) } else { time };
    let mut script = Script { cluster, workers, choice, time, phases: Vec::new(), say };
    script.phase(What::Calm).await?;
    let leader = script.leader().await?;
    script.phase(What::Cut(leader)).await?;
    script.phase(What::Healed(leader)).await?;
    let leader = script.leader().await?;
    script.phase(What::Killed(leader)).await?;
    script.phase(What::Back(leader)).await?;
    script.phase(What::CalmAgain).await?;
    let Script { workers, phases, cluster, .. } = script;
    cluster.serves(choice.name).await?;
    Ok((phases, workers.end(choice.may_lose).await?))
}

struct Script<'a> {
    cluster: &'a mut Cluster,
    workers: Workers,
    choice: &'a Choice,
    time: Duration,
    phases: Vec<Phase>,
    say: Say<'a>,
}

impl Script<'_> {
    async fn leader(&self) -> Result<usize, Error> {
        self.cluster.leader(self.choice.name).await
    }

    /// Does what a phase begins with, and lets the clients work.
    async fn phase(&mut self, what: What) -> Result<(), Error> {
        let name = |node: usize| self.cluster.nodes()[node].name.as_str();
        let leads = if self.choice.is_led() { ", which leads it," } else { "" };
        let happens = match what {
            What::Calm | What::CalmAgain => "all is well".into(),
            What::Cut(node) => format!("{}{leads} is cut off from the others", name(node)),
            What::Healed(node) => format!("{} hears the others again", name(node)),
            What::Killed(node) => format!("{}{leads} is killed", name(node)),
            What::Back(node) => format!("{} is started again", name(node)),
        };
        (self.say)(&format!("{}: {happens}", self.choice.name));
        let from = self.workers.micros();
        match what {
            What::Calm | What::CalmAgain => {}
            What::Cut(node) => self.cluster.cut(node).await?,
            What::Healed(_) => self.cluster.heal().await?,
            What::Killed(node) => {
                self.workers.set_down(Some(node));
                self.cluster.kill(node).await?;
            }
            What::Back(node) => {
                self.cluster.restart(node)?;
                self.workers.set_down(None);
            }
        }
        sleep(self.time).await;
        self.phases.push(Phase { what, from, to: self.workers.micros() });
        Ok(())
    }
}
