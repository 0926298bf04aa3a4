//! The commands on keyspaces: made, changed, told about, removed.

mod command;
mod describe;
mod ledger;
mod recast;
mod ruling;
#[cfg(test)]
mod tests;
pub mod weighed;

use std::io::{self, BufRead, IsTerminal};
use std::time::Duration;

use kv::admin::{Answer, Ask};
use kv::cluster::Status;
use kv::keyspace::{Described, Secondaries, Wish};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::cluster;
use crate::connect::Store;
use crate::exit::{Code, Error};
use crate::options::Options;
use crate::print::Output;
use describe::Subject;

pub use command::{Command, EXAMPLES};

/// How often it is looked whether a new keyspace is served.
const LOOK: Duration = Duration::from_millis(50);

/// Runs a command and prints its answer.
pub async fn run(
    command: &Command,
    store: &dyn Store,
    options: &Options,
    out: &mut Output<'_>,
) -> Result<Code, Error> {
    match command {
        Command::Create { name, settings, protocol } => {
            let ask = Ask::CreateKeyspace { name: name.clone(), wish: settings.wish(*protocol) };
            done(ask, store, options).await?;
            until_served(name, store, options).await?;
            warn_of_loss(name, &settings.wish(*protocol), out)?;
            tell(name, "created", &format!("keyspace {name} is there: use it with --keyspace {name}"), out)
        }
        Command::Alter { name, settings, protocol, no_wait, dry_run, decision } => {
            let (name, wish) = (name.clone(), settings.wish(*protocol));
            if decision.ruling().is_some() {
                if wish != Default::default() {
                    return Err(Error::Usage(
                        "have a node order first, and alter the keyspace then: one at a time".into(),
                    ));
                }
                return ruling::run(&name, decision, *dry_run, store, options, out).await;
            }
            if wish == Default::default() {
                return Err(Error::Usage(
                    "nothing is to be altered: name what, as in --replicas 5 (keyspace alter --help)".into(),
                ));
            }
            let ask = Ask::AlterKeyspace { name: name.clone(), wish: wish.clone(), dry_run: *dry_run };
            if *dry_run {
                return planned(&name, ask, &wish, store, options, out).await.map(|()| Code::Done);
            }
            done(ask, store, options).await?;
            warn_of_loss(&name, &wish, out)?;
            if let Some(protocol) = protocol.filter(|_| !no_wait) {
                recast::until_done(&name, store, options).await?;
                return tell(&name, "altered", &format!("keyspace {name} is under {protocol}"), out);
            }
            let text = format!("keyspace {name} is altered: what has to move is on its way (cluster moves)");
            tell(&name, "altered", &text, out)
        }
        Command::Describe { name } => describe(name, store, options, out).await,
        Command::Ledger { name, clear, yes } => {
            ledger::run(name, clear.then_some(*yes), store, options, out).await
        }
        Command::List => list(store, options, out).await,
        Command::Drop { name, yes } => {
            if !yes {
                confirm(name, &format!("Dropping {name} removes all its keys for good"))?;
            }
            done(Ask::DropKeyspace { name: name.clone() }, store, options).await?;
            tell(name, "dropped", &format!("keyspace {name} is no more"), out)
        }
    }
}

/// Prints what would get weaker, where the protocol changes, and what would move.
async fn planned(
    name: &str,
    ask: Ask,
    wish: &Wish,
    store: &dyn Store,
    options: &Options,
    out: &mut Output<'_>,
) -> Result<(), Error> {
    let moves = cluster::planned(ask, store, options).await?;
    if wish.protocol.is_some() {
        let keyspaces = all(store, options).await?;
        let keyspace = keyspaces.iter().find(|keyspace| keyspace.name == name);
        let from = keyspace.ok_or_else(|| kv::Error::NoKeyspace(name.into()))?.settings.clone();
        let to = from.clone().with(wish);
        recast::Differences::new(&from, &to).print(name, out)?;
    }
    warn_of_loss(name, wish, out)?;
    cluster::print_planned(&moves, store, out).await
}

/// Says what is lost when a primary is lost whose writes wait for nobody, or a replica that is enough for a write.
fn warn_of_loss(name: &str, wish: &Wish, out: &mut Output<'_>) -> Result<(), Error> {
    if let Some(warning) = weighed::warning(wish).filter(|_| !out.json) {
        return Ok(out.note(&warning)?);
    }
    if wish.sync != Some(Secondaries::Count(0)) || out.json {
        return Ok(());
    }
    let text = format!(
        "writes wait for the disk of the primary alone: when its node is lost another replica goes on after about 7 seconds with what it \
         has, and what only the lost one had is listed by keyspace ledger {name} when that is back"
    );
    Ok(out.note(&text)?)
}

async fn done(ask: Ask, store: &dyn Store, options: &Options) -> Result<(), Error> {
    match store.administer(ask, options.timeout()).await? {
        Answer::Done => Ok(()),
        other => Err(unexpected(&other)),
    }
}

/// The keyspaces that clients may ask, as the directory has them.
pub async fn all(store: &dyn Store, options: &Options) -> Result<Vec<Described>, Error> {
    match store.administer(Ask::Keyspaces, options.timeout()).await? {
        Answer::Keyspaces(keyspaces) => Ok(keyspaces),
        other => Err(unexpected(&other)),
    }
}

fn unexpected(answer: &Answer) -> Error {
    Error::Unavailable(format!(
        "the cluster answered {answer:?} to another question: are client and server of one version?"
    ))
}

/// Waits until the asked node sees a leader of every shard: then requests are served.
async fn until_served(name: &str, store: &dyn Store, options: &Options) -> Result<(), Error> {
    let until = Instant::now() + options.timeout();
    loop {
        let status = store.status().await?;
        let mut shards = of_keyspace(&status, name).peekable();
        if shards.peek().is_some() && shards.all(|shard| shard.leader.is_some()) {
            return Ok(());
        }
        if Instant::now() >= until {
            return Err(Error::Unavailable(format!(
                "keyspace {name} is created, and not all of its shards have a leader yet: see cluster status. If nodes were lost \
                 at that moment and do not come back, drop it (keyspace drop {name} --yes) and create it again: it goes to others"
            )));
        }
        sleep(LOOK).await;
    }
}

fn of_keyspace<'a>(status: &'a Status, name: &'a str) -> impl Iterator<Item = &'a kv::cluster::ShardStatus> {
    status.shards.iter().filter(move |shard| shard.keyspace == name)
}

/// The nodes of a keyspace's only shard, by name, and what their replicas weigh.
fn members_of(status: &Status, name: &str) -> Vec<(String, u32)> {
    let shards = Vec::from_iter(of_keyspace(status, name));
    let [shard] = &shards[..] else { return Vec::new() };
    let named = |id| status.nodes.iter().find(|node| node.id == id).map(|node| node.name.clone());
    let members = shard.members.iter();
    members.map(|member| (named(member.node).unwrap_or(member.node.to_string()), member.weight)).collect()
}

async fn describe(
    name: &str,
    store: &dyn Store,
    options: &Options,
    out: &mut Output<'_>,
) -> Result<Code, Error> {
    let keyspaces = all(store, options).await?;
    let Some(keyspace) = keyspaces.iter().find(|keyspace| keyspace.name == name) else {
        return Err(kv::Error::NoKeyspace(name.into()).into());
    };
    let status = store.status().await?;
    let members = of_keyspace(&status, name).map(|shard| shard.members.len() as u16);
    let subject = Subject {
        keyspace,
        replicas: members.filter(|count| *count > 0).min().unwrap_or(keyspace.settings.replicas),
        leaderless: of_keyspace(&status, name).filter(|shard| shard.leader.is_none()).count(),
        members: members_of(&status, name),
        terms: store.terms().await?,
    };
    describe::print(&subject, out)?;
    Ok(Code::Done)
}

async fn list(store: &dyn Store, options: &Options, out: &mut Output<'_>) -> Result<Code, Error> {
    let keyspaces = all(store, options).await?;
    if out.json {
        keyspaces.iter().try_for_each(|keyspace| out.object(&describe::object(keyspace, None)))?;
        return Ok(Code::Done);
    }
    let number = |number: Option<u64>| number.map_or_else(|| "-".into(), |number| number.to_string());
    let row = |keyspace: &Described| {
        let (settings, usage) = (&keyspace.settings, keyspace.usage);
        vec![
            keyspace.name.clone(),
            settings.protocol.name().into(),
            settings.replicas.to_string(),
            keyspace.shards.to_string(),
            number(usage.map(|usage| usage.keys)),
            number(usage.map(|usage| usage.bytes)),
            number(settings.quota.keys),
            number(settings.quota.bytes),
        ]
    };
    let rows: Vec<_> = keyspaces.iter().map(row).collect();
    let head = ["KEYSPACE", "PROTOCOL", "REPLICAS", "SHARDS", "KEYS", "BYTES", "MAX KEYS", "MAX BYTES"];
    out.table(&head, &rows)?;
    Ok(Code::Done)
}

/// Has whoever is at a terminal type the name again; elsewhere it must have been said.
fn confirm(name: &str, what: &str) -> Result<(), Error> {
    if !io::stdin().is_terminal() {
        return Err(Error::Usage(format!("{what}, and nobody is here to confirm it: say so with --yes")));
    }
    eprintln!("{what}. Type the name {name} to go on:");
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    match line.trim() == name {
        true => Ok(()),
        false => Err(Error::Usage(format!("that was not '{name}': nothing is done"))),
    }
}

fn tell(name: &str, what: &str, text: &str, out: &mut Output<'_>) -> Result<Code, Error> {
    match out.json {
        true => out.object(&json!({"keyspace": name, what: true}))?,
        false => out.note(text)?,
    }
    Ok(Code::Done)
}
