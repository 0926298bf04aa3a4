//! A keyspace goes on under another protocol: what that changes for those who use it, and how far it is.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use kv::Protocol;
use kv::keyspace::{Described, Settings, SyncMode, Votes, Weighed, duration};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::all;
use crate::connect::Store;
use crate::exit::Error;
use crate::options::Options;
use crate::print::Output;

/// How often it is looked how far it is.
const LOOK: Duration = Duration::from_millis(100);
/// While no shard goes over for so long, nobody waits on: something is missing, and it goes on by itself when that is back.
const PATIENCE: Duration = Duration::from_secs(60);

/// What differs between two settings of a keyspace, for whoever is about to go from one to the other.
pub struct Differences {
    from: Settings,
    to: Settings,
}

impl Differences {
    pub fn new(from: &Settings, to: &Settings) -> Differences {
        Differences { from: from.clone(), to: to.clone() }
    }

    /// Prints them: a table, or an object.
    pub fn print(&self, keyspace: &str, out: &mut Output<'_>) -> Result<(), Error> {
        if out.json {
            out.object(&self.object(keyspace))?;
            return Ok(());
        }
        let (weaker, stronger) = self.promises();
        let told = |all: Vec<String>| match all.is_empty() {
            true => "nothing".into(),
            false => all.join("; "),
        };
        let rows = [
            ("from", title(&self.from)),
            ("to", title(&self.to)),
            ("gets weaker", told(weaker)),
            ("gets stronger", told(stronger)),
            ("ops that stop", told(self.ops_stop())),
            ("must be up", self.must_be_up()),
            (
                "meanwhile",
                "each shard pauses once, for less than a second: what is asked then waits, and does not fail"
                    .into(),
            ),
            ("in doubt", told(self.in_doubt())),
        ];
        let rows = rows.map(|(what, text)| vec![what.to_owned(), text]);
        out.table(&["KEYSPACE", keyspace], &rows)?;
        Ok(())
    }

    fn object(&self, keyspace: &str) -> Value {
        let (weaker, stronger) = self.promises();
        json!({
            "keyspace": keyspace,
            "from": title(&self.from),
            "to": title(&self.to),
            "weaker": weaker,
            "stronger": stronger,
            "ops_stop": self.ops_stop(),
            "must_be_up": self.must_be_up(),
            "in_doubt": self.in_doubt(),
        })
    }

    /// What is promised less than before, and what more.
    fn promises(&self) -> (Vec<String>, Vec<String>) {
        let (mut weaker, mut stronger) = (Vec::new(), Vec::new());
        let (from, to) = (copies(&self.from), copies(&self.to));
        let text = format!("an acknowledged write is on {to} disks at least, not on {from}");
        if to != from {
            if to < from { &mut weaker } else { &mut stronger }.push(text);
        }
        let (from, to) = (spare(&self.from), spare(&self.to));
        let text = match to {
            0 => format!("any node that stops stops writes until it is back; before that took {}", from + 1),
            1 => format!("writes go on while one node is down, not {from}"),
            to => format!("writes go on while {to} nodes are down, not {from}"),
        };
        if to != from {
            if to < from { &mut weaker } else { &mut stronger }.push(text);
        }
        match (readers(&self.from), readers(&self.to)) {
            (from, to) if from == to => {}
            (from, to) => {
                let text = format!("linearizable reads are answered {}, not {}", to.1, from.1);
                if to.0 < from.0 { &mut weaker } else { &mut stronger }.push(text);
            }
        }
        match [&self.from, &self.to].map(loses) {
            [false, true] => weaker.push(
                "when the primary is lost another one follows after some seconds, without what only the lost one had: keyspace ledger \
                 lists that when it is back"
                    .into(),
            ),
            [true, false] => stronger.push("nothing acknowledged is lost by a node that stops".into()),
            _ => {}
        }
        let needs = |settings: &Settings| settings.protocol == Protocol::Primary;
        match (needs(&self.from), needs(&self.to)) {
            (false, true) => {
                weaker.push("when a member stops, writes wait for the directory to say who goes on".into());
            }
            (true, false) => stronger.push("writes never wait for the directory".into()),
            _ => {}
        }
        let (without, with) = match (self.from.protocol.is_merged(), self.to.protocol.is_merged()) {
            (false, true) => (&mut weaker, &mut stronger),
            (true, false) => (&mut stronger, &mut weaker),
            _ => return (weaker, stronger),
        };
        let has = if self.to.protocol.is_merged() { "no order" } else { "an order" };
        without.push(format!("writes have {has}, and {}", match has {
            "no order" => {
                "each key is a register of its own: older revisions are dropped at once, and taking the change back does not bring them back"
            }
            _ => "requests that are sent again happen once, whichever node they are sent to",
        }));
        with.push(match has {
            "no order" => "any copy takes a write, and none waits for a leader to be chosen".into(),
            _ => "a write waits for the one that orders, and while another is chosen".into(),
        });
        (weaker, stronger)
    }

    /// Where there is an order each protocol takes what the others take.
    fn ops_stop(&self) -> Vec<String> {
        if self.from.protocol.is_merged() || !self.to.protocol.is_merged() {
            return Vec::new();
        }
        let stop = [
            "updates (insert, append, pop, increment, compare)",
            "transactions",
            "expire",
            "answers with what was there before (--previous)",
            "reads at a version, history and trim",
            "watch",
        ];
        stop.map(String::from).to_vec()
    }

    /// What nobody can tell whether it happened.
    fn in_doubt(&self) -> Vec<String> {
        match (self.from.protocol.is_merged(), self.to.protocol.is_merged()) {
            (true, false) => {
                vec!["writes that were being stored when their shard ended: some are there, and none is run again".into()]
            }
            (false, true) => {
                vec!["writes whose answer was lost before their shard ended: none is run again".into()]
            }
            _ => Vec::new(),
        }
    }

    fn must_be_up(&self) -> String {
        let all = |protocol| matches!(protocol, Protocol::TwoPhase | Protocol::Quorum | Protocol::Broadcast);
        let (from, to) = (self.from.protocol, self.to.protocol);
        if let Some(weighed) = self.from.weighed.filter(|_| from.is_merged() && to != Protocol::TwoPhase) {
            let Votes { read, write } = weighed.votes;
            return format!(
                "nodes of a shard that leave the others less than {} to weigh, so that nothing is acknowledged or answered without them. \
                 One that stops once they are sealed is waited for",
                read.min(write)
            );
        }
        if all(from) || all(to) || to == Protocol::Primary {
            "all nodes of a shard, until it has gone over; one that is gone for good is replaced first".into()
        } else if to == Protocol::Single {
            "a majority of the nodes of a shard, and the one that goes on alone".into()
        } else {
            "a majority of the nodes of a shard".into()
        }
    }
}

/// A protocol with what is set of it.
fn title(settings: &Settings) -> String {
    let sync = match settings.sync {
        Some(SyncMode::All { min_copies }) => format!(", sync all, min-copies {min_copies}"),
        Some(SyncMode::Some { secondaries, interval_micros }) => {
            format!(", sync {secondaries}, interval {}", duration(interval_micros))
        }
        None => String::new(),
    };
    let replicas = match settings.replicas {
        1 => "1 replica".into(),
        replicas => format!("{replicas} replicas"),
    };
    let weighed =
        settings.weighed.map_or(String::new(), |Weighed { weights, votes: Votes { read, write } }| {
            format!(", weights {weights}, read {read}, write {write}")
        });
    format!("{}, {replicas}{sync}{weighed}", settings.protocol)
}

/// On how many disks an acknowledged write is at least.
fn copies(settings: &Settings) -> u16 {
    match settings.protocol {
        Protocol::Single | Protocol::Broadcast => 1,
        Protocol::Raft => settings.replicas / 2 + 1,
        Protocol::Quorum => settings.weighed.unwrap_or(Weighed::equal(settings.replicas)).copies(),
        Protocol::Primary => settings.sync.unwrap_or(SyncMode::USUAL).min_copies(),
        Protocol::TwoPhase => settings.replicas,
    }
}

/// How many nodes may be down, whichever, with writes going on.
fn spare(settings: &Settings) -> u16 {
    let left = settings.replicas.saturating_sub(copies(settings));
    match (settings.protocol, settings.sync) {
        (Protocol::Quorum, _) => settings.weighed.map_or(left, Weighed::spare),
        // Any of the others follows, with what it has.
        (Protocol::Primary, Some(SyncMode::Some { secondaries: 0, .. })) => left,
        // Those in sync are as few as that: one of them must be there to go on from.
        (Protocol::Primary, Some(SyncMode::Some { secondaries, .. })) => left.min(secondaries),
        _ => left,
    }
}

/// Whether who takes over may lack what was acknowledged.
pub fn loses(settings: &Settings) -> bool {
    settings.protocol == Protocol::Broadcast || settings.sync.is_some_and(|sync| sync.copies() == Some(1))
}

/// Where linearizable reads are answered: the more, the higher.
fn readers(settings: &Settings) -> (u8, &'static str) {
    match (settings.protocol, settings.sync) {
        (Protocol::Single, _) => (0, "by the one node that has it"),
        (Protocol::Raft, _) => (1, "by the leader, and by others with its word"),
        (Protocol::Primary, Some(SyncMode::Some { .. })) => (3, "by the primary and those in sync"),
        (Protocol::Primary, _) => (4, "by every replica in sync alone"),
        (Protocol::TwoPhase, _) => (5, "by every copy alone"),
        (Protocol::Quorum, _) => (2, "by any copy, with the word of others"),
        (Protocol::Broadcast, _) => (0, "by none: reads are local"),
    }
}

/// Waits until all shards of a keyspace are under its protocol and have their copies, and shows how far it is where somebody looks.
pub async fn until_done(name: &str, store: &dyn Store, options: &Options) -> Result<(), Error> {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{msg} [{bar:30}] {pos}/{len} shards, {elapsed}");
    bar.set_style(style.expect("the template is sound").progress_chars("=> "));
    let (mut left, mut since) = (u32::MAX, Instant::now());
    loop {
        let keyspaces = all(store, options).await;
        let keyspace = match keyspaces {
            Ok(all) => all.into_iter().find(|keyspace| keyspace.name == name),
            // It is in the hands of the directory, which goes on when it is back.
            Err(error) if since.elapsed() >= PATIENCE => return Err(error),
            Err(_) => {
                sleep(LOOK).await;
                continue;
            }
        };
        let Some(Described { under_another, changing, shards, settings, .. }) = keyspace else {
            return Err(kv::Error::NoKeyspace(name.into()).into());
        };
        // What copies at the end only makes it safer: nobody waits for that longer than for shards.
        if under_another == 0 && (changing == 0 || since.elapsed() >= PATIENCE) {
            bar.finish_and_clear();
            return Ok(());
        }
        if under_another != left {
            (left, since) = (under_another, Instant::now());
            bar.set_length(u64::from(shards));
            bar.set_message(format!("{name} goes to {}", settings.protocol));
            bar.set_position(u64::from(shards.saturating_sub(under_another)));
        }
        if since.elapsed() >= PATIENCE {
            bar.abandon();
            return Err(Error::Unavailable(format!(
                "{under_another} of {shards} shards of keyspace {name} are not under {} yet, and none has gone over for {} s: cluster \
                 status names the nodes that are missing. It goes on by itself when they are back; keyspace describe tells how far it is",
                settings.protocol,
                PATIENCE.as_secs()
            )));
        }
        sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use kv::keyspace::{Secondaries, Wish};

    use super::*;

    fn settings(protocol: Protocol, sync: Option<u16>) -> Settings {
        let sync = sync.map(Secondaries::Count);
        Settings::of(&Wish { protocol: Some(protocol), sync, ..Wish::default() })
    }

    #[test]
    fn what_gets_weaker_and_stronger_is_told_both_ways() {
        let raft = settings(Protocol::Raft, None);
        let all = [
            settings(Protocol::Single, None),
            settings(Protocol::Primary, None),
            settings(Protocol::Primary, Some(0)),
            settings(Protocol::Primary, Some(1)),
            settings(Protocol::TwoPhase, None),
            settings(Protocol::Quorum, None),
        ];
        let told = all.map(|other| {
            let there = Differences::new(&raft, &other).promises();
            let back = Differences::new(&other, &raft).promises();
            assert_eq!((there.0.len(), there.1.len()), (back.1.len(), back.0.len()), "{other:?}");
            there
        });
        let (single, two_phase) = (&told[0], &told[4]);
        assert!(single.0[0].contains("on 1 disks at least, not on 2") && single.1.is_empty(), "{single:?}");
        assert!(two_phase.0[0].contains("any node that stops stops writes"), "{two_phase:?}");
        assert!(two_phase.1[0].contains("on 3 disks at least, not on 2"), "{two_phase:?}");
        assert!(told[3].0[0].contains("wait for the directory"), "{:?}", told[3]);
        let quorum = &told[5];
        assert!(quorum.0[0].contains("older revisions are dropped"), "{quorum:?}");
        assert!(quorum.1[1].contains("any copy takes a write"), "{quorum:?}");
    }

    #[test]
    fn what_stops_without_an_order_and_what_is_in_doubt_is_told_both_ways() {
        let (raft, quorum) = (settings(Protocol::Raft, None), settings(Protocol::Quorum, None));
        let (there, back) = (Differences::new(&raft, &quorum), Differences::new(&quorum, &raft));
        assert!(there.ops_stop().contains(&"transactions".into()) && back.ops_stop().is_empty());
        assert!(
            there.in_doubt()[0].contains("answer was lost") && back.in_doubt()[0].contains("being stored")
        );
        assert!(there.must_be_up().starts_with("all nodes"), "{}", there.must_be_up());
        assert!(back.must_be_up().contains("less than 2 to weigh"), "{}", back.must_be_up());
        assert!(title(&quorum).ends_with("weights 1,1,1, read 2, write 2"), "{}", title(&quorum));
        assert!(Differences::new(&raft, &raft).in_doubt().is_empty());
    }
}
