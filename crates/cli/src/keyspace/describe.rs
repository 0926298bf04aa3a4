//! A keyspace in words, for somebody who has to choose.

use kv::Protocol;
use kv::cluster::Terms;
use kv::keyspace::{Described, History, Keep, Settings, SyncMode, Weighed, duration};
use serde_json::{Value, json};

use super::weighed;
use crate::exit::Error;
use crate::print::Output;

/// A keyspace, and what of it the cluster says.
pub struct Subject<'a> {
    pub keyspace: &'a Described,
    /// Replicas that its shards have: as many as it should, or as there are nodes for.
    pub replicas: u16,
    /// Shards that nobody leads at present.
    pub leaderless: usize,
    /// The nodes of its shard, by name, and what their replicas weigh, in their order; empty where it has several.
    pub members: Vec<(String, u32)>,
    /// What holds where the keyspace says nothing.
    pub terms: Terms,
}

/// Prints a keyspace.
pub fn print(subject: &Subject<'_>, out: &mut Output<'_>) -> Result<(), Error> {
    if out.json {
        out.object(&object(subject.keyspace, Some(&subject.terms)))?;
        return Ok(());
    }
    let name = subject.keyspace.name.as_str();
    let rows: Vec<Vec<String>> =
        sentences(subject).into_iter().map(|(what, text)| vec![what.to_owned(), text]).collect();
    out.table(&["KEYSPACE", name], &rows)?;
    Ok(())
}

/// A keyspace as an object. What it does not say itself is as the cluster was founded.
pub fn object(keyspace: &Described, terms: Option<&Terms>) -> Value {
    let Settings { protocol, replicas, sync, weighed, bus, keep, quota } = keyspace.settings.clone();
    let (history, deleted) = match protocol {
        Protocol::Quorum => (Some(History::Count(1)), None),
        Protocol::Broadcast => (keep.history.or_else(|| terms.map(of_terms)), None),
        _ => (
            keep.history.or_else(|| terms.map(of_terms)),
            keep.deleted_micros.or_else(|| terms.map(|terms| terms.deleted_micros)),
        ),
    };
    json!({
        "keyspace": keyspace.name,
        "protocol": protocol.name(),
        "replicas": replicas,
        "shards": keyspace.shards,
        "changing": keyspace.changing,
        "under_another": keyspace.under_another,
        "history": history.map(|history| history.to_string()),
        "deleted_history": deleted.map(time),
        "ttl_micros": keep.ttl_micros,
        "quota_bytes": quota.bytes,
        "quota_keys": quota.keys,
        "sync": sync.map(|sync| match sync {
            SyncMode::All { .. } => json!("all"),
            SyncMode::Some { secondaries, .. } => json!(secondaries),
        }),
        "min_copies": sync.map(SyncMode::min_copies),
        "interval_micros": match sync {
            Some(SyncMode::Some { interval_micros, .. }) => Some(interval_micros),
            _ => None,
        },
        "weights": weighed.map(|weighed| weighed.weights.each()),
        "read": weighed.map(|weighed| weighed.votes.read),
        "write": weighed.map(|weighed| weighed.votes.write),
        "bus": (protocol == Protocol::Broadcast).then(|| bus.to_string()),
        "bytes": keyspace.usage.map(|usage| usage.bytes),
        "keys": keyspace.usage.map(|usage| usage.keys),
    })
}

fn of_terms(terms: &Terms) -> History {
    terms.history.map_or(History::All, History::Count)
}

fn time(micros: u64) -> String {
    if micros == u64::MAX { "all".into() } else { duration(micros) }
}

fn sentences(subject: &Subject<'_>) -> Vec<(&'static str, String)> {
    let Subject { keyspace, replicas, leaderless, terms, .. } = subject;
    let Settings { protocol, replicas: wanted, keep, quota, .. } = keyspace.settings;
    let mut told = promises(subject);
    let fewer = if *replicas < wanted {
        format!(" (of {wanted} that it should have: there are not enough nodes)")
    } else {
        String::new()
    };
    if let Some(broker) = keyspace.settings.bus.broker() {
        told.push((
            "bus",
            format!("{broker}: it passes writes on; while it is away, copies go on by themselves and meet when it is back"),
        ));
    }
    told.push(("replicas", format!("{replicas} of each shard, on different nodes{fewer}")));
    let mut shards = match keyspace.shards {
        1 if protocol.is_merged() => "1: any of its replicas serves its keys".into(),
        count if protocol.is_merged() => {
            format!("{count}: each key is in one, and any of its replicas serves it")
        }
        1 => "1: its keys are ordered together, and led by one node".into(),
        count => format!("{count}: each key is in one, and each shard is led on its own"),
    };
    if keyspace.under_another > 0 {
        shards += &format!(
            "; {} under another protocol yet, on the way to this one (cluster moves)",
            keyspace.under_another
        );
    } else if keyspace.changing > 0 {
        shards += &format!("; {} on the move (cluster moves)", keyspace.changing);
    }
    if *leaderless > 0 {
        shards += &format!(
            "; {leaderless} without a leader at present: cluster status names the nodes that are missing. If they do not come back, \
             what those shards hold is lost with them; drop the keyspace and create it again"
        );
    }
    told.push(("shards", shards));
    told.extend(kept(keep, terms, protocol));
    let ttl = keep.ttl_micros.map_or("for ever".into(), |ttl| format!("for {}", duration(ttl)));
    told.push(("values last", format!("{ttl}, unless they are stored with a time of their own")));
    let holds = keyspace.usage.map_or("not known at present".into(), |usage| {
        format!("{} keys, {} bytes of keys and newest values", usage.keys, usage.bytes)
    });
    told.push(("holds", holds));
    let limit = |limit: Option<u64>, what: &str| limit.map(|limit| format!("{limit} {what}"));
    let limits: Vec<String> =
        [limit(quota.keys, "keys"), limit(quota.bytes, "bytes")].into_iter().flatten().collect();
    told.push((
        "quota",
        match limits.is_empty() {
            true => "none".into(),
            false => format!(
                "{}; when it is reached, what adds is refused and all else taken. It may be passed by what comes in within a second",
                limits.join(", ")
            ),
        },
    ));
    told
}

/// What its protocol promises, and what becomes of that when nodes fail.
fn promises(subject: &Subject<'_>) -> Vec<(&'static str, String)> {
    let Settings { protocol, sync, weighed: votes, .. } = subject.keyspace.settings;
    let replicas = subject.replicas;
    let reads = "linearizable: a read sees every write that was acknowledged before it was asked";
    match protocol {
        Protocol::Single => vec![
            ("protocol", "single: one copy, on one node".into()),
            ("promises", reads.into()),
            ("acknowledged", "when it is on the disk of that node".into()),
            ("its node stops", "nothing is served until it is back; nothing is lost".into()),
            ("its disk is lost", "all of it is lost".into()),
        ],
        Protocol::Primary => of_primary(sync.unwrap_or(SyncMode::USUAL), replicas, reads),
        Protocol::TwoPhase => vec![
            ("protocol", "two-phase: a master orders, and a write is on all copies or on none".into()),
            ("promises", format!("{reads}, at every copy, and without asking another")),
            ("acknowledged", format!("when it is on the disks of all {replicas} replicas, and decided")),
            (
                "a node stops",
                "no writes until it is back: they are refused at once, and nothing of them is stored; when it is the master, they wait \
                 for it as long as they may. The others serve reads; not of keys that were being written when the master stopped, until \
                 that is back, and a node that is started meanwhile serves none before"
                    .into(),
            ),
            (
                "disks are lost",
                "each copy has all that is acknowledged. The copies stay where they are: with one of them lost for good the others \
                 serve reads only, until its node is declared dead (keyspace alter NAME --declare-dead NODE)"
                    .into(),
            ),
        ],
        Protocol::Quorum => {
            weighed::promises(votes.unwrap_or(Weighed::equal(replicas)), &subject.members)
        }
        Protocol::Broadcast => of_broadcast(),
        Protocol::Raft => {
            let majority = replicas / 2 + 1;
            let spare = replicas - majority;
            let stops = match spare {
                0 => "any node that stops stops it until that is back; nothing is lost".into(),
                1 => "one node may stop: it goes on after about a second".into(),
                spare => format!("{spare} nodes may stop: it goes on after about a second"),
            };
            let more = format!(
                "with fewer than {majority} of {replicas} no writes, and reads with --level local only; nothing is lost"
            );
            let disks = match majority {
                1 => "what one disk holds is all there is: with it all is lost".into(),
                majority => format!(
                    "what is acknowledged is on {majority} of {replicas}: it is lost only with {majority} disks for good"
                ),
            };
            let mut told = vec![
                ("protocol", "raft: consensus of a majority".into()),
                ("promises", reads.into()),
                ("acknowledged", format!("when it is on the disks of {majority} of {replicas} replicas")),
                ("nodes stop", stops),
            ];
            told.extend((replicas > 1).then_some(("more stop", more)));
            told.push(("disks are lost", disks));
            told
        }
    }
}

/// Each takes requests by itself.
fn of_broadcast() -> Vec<(&'static str, String)> {
    vec![
            ("protocol", "broadcast: any copy takes a request by itself, and passes writes on".into()),
            (
                "promises",
                "copies that have heard the same are the same; of two writes of a key the later version wins. A client that stays with one                  node sees its own writes. Reads are --level local, and say how much the copy may be behind"
                    .into(),
            ),
            ("acknowledged", "when it is on the disk of the node that took it, and before the others have it".into()),
            ("nodes stop", "those that are left take reads and writes, even one alone".into()),
            (
                "a disk is lost",
                "what its node took in last and had not passed on is lost with it: usually the last moments".into(),
            ),
    ]
}

/// One orders: for whom a write waits is the keyspace's choice.
fn of_primary(sync: SyncMode, replicas: u16, reads: &str) -> Vec<(&'static str, String)> {
    let (promises, acknowledged) = match sync {
        SyncMode::All { min_copies } => (
            format!("{reads}, at every replica in sync, and without asking another"),
            format!(
                "when it is on the disks of all replicas in sync: of {replicas} all that are well, and {min_copies} at least"
            ),
        ),
        SyncMode::Some { secondaries, interval_micros } => (
            format!(
                "{reads}, at the primary and those in sync. The other replicas get what is written every {}, answer --level bounded and \
                 local, and say how old that may be",
                duration(interval_micros)
            ),
            match secondaries {
                0 => "when it is on the disk of the primary, which is in sync alone".into(),
                some => format!(
                    "when it is on the disks of the primary and {some} of the others: those are in sync"
                ),
            },
        ),
    };
    let mut told = vec![
        ("protocol", "primary: one orders, and all that are in sync have what it ordered".into()),
        ("promises", promises),
        ("acknowledged", acknowledged),
    ];
    if sync.copies() == Some(1) {
        told.extend([
            (
                "primary stops",
                "no writes, and reads that may be old, until it is back or about 7 seconds are over: then the directory has the one order \
                 that has most of the others, as long as most nodes are up"
                    .into(),
            ),
            (
                "what is lost",
                "what only the primary had: up to what one interval brings, or all that the others lack. When it is back it has it listed \
                 (keyspace ledger NAME). Who is only cut off acknowledges until it hears of the next one: that is lost, and listed, too"
                    .into(),
            ),
            ("its disk is lost", "the same, and nobody can list it".into()),
        ]);
        return told;
    }
    let fewer = match sync.min_copies() {
        1 => "the last one takes writes alone: they are lost with its disk".to_owned(),
        copies => format!(
            "with fewer than {copies} in sync reads, and no writes (keyspace alter --min-copies, --sync)"
        ),
    };
    told.extend([
        (
            "a node stops",
            "writes wait until the directory has taken it out of those in sync, or named another primary: about a second. While \
             the directory has no majority they wait for it; the others serve reads"
                .into(),
        ),
        ("more stop", format!("it goes on while one that is in sync is up; {fewer}. With none in sync up nothing is served, and nothing lost")),
        ("disks are lost", "each replica in sync has all that is acknowledged: it is lost only with the disks of all of them".into()),
    ]);
    told
}

/// What can be read of the past.
fn kept(keep: Keep, terms: &Terms, protocol: Protocol) -> Vec<(&'static str, String)> {
    if protocol == Protocol::Quorum {
        return vec![(
            "history",
            "none: the newest value of a key is all that is read, and nothing is watched".into(),
        )];
    }
    if protocol == Protocol::Broadcast {
        return vec![
            ("history", history(keep.history.unwrap_or_else(|| of_terms(terms)))),
            ("deleted keys", "their revisions go once all replicas know of it; nothing is watched".into()),
        ];
    }
    let deleted = keep.deleted_micros.unwrap_or(terms.deleted_micros);
    let deleted = if deleted == u64::MAX { "for ever".into() } else { format!("for {}", duration(deleted)) };
    vec![
        ("history", history(keep.history.unwrap_or_else(|| of_terms(terms)))),
        ("deleted keys", format!("their revisions are kept {deleted}")),
    ]
}

fn history(history: History) -> String {
    match history {
        History::Count(1) => "the newest value of a key only: no reads of the past".into(),
        History::Count(count) => format!("the newest {count} revisions of a key"),
        History::All => "all revisions of a key, until they are trimmed".into(),
        History::Micros(micros) => {
            format!(
                "what a key held in the last {}; older revisions go with later writes of it",
                duration(micros)
            )
        }
    }
}
