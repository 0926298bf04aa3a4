//! Load: so many clients, one kind of work, and how long the answers took.
//!
//! Without `--rate` each client asks again as soon as it was answered (closed loop). With it, requests are due at fixed
//! times, whoever is busy, and an answer's latency counts from the time its request was due (open loop): a store that
//! stalls does not make its latencies look better by being asked less.
//!
//! Before they are measured the clients run for a while (`--warm-up`). Which keys a client takes depends on nothing but its
//! number and how many keys there are, so every run asks the same ones, and they lie evenly over shards, however many. With
//! `--target etcd` the same clients ask an etcd cluster, which is what `scripts/compare` does.
//!
//! `--interval` says every so often what the last seconds came to. Whether a store grows slower with what it has been through
//! shows in the CPU that its nodes take for a request: `bench churn` at a steady rate, and the first lines beside the last.
//!
//! # Caveats
//!
//! One thread makes the load, on the cores that the nodes may use as well: what it takes itself is printed beside what they
//! take ([`cpu`]).

mod cpu;
mod load;
mod pace;
mod report;
mod target;

use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use dialects::etcd;
use kv::{Key, Level, VALUE_BYTES_MAX};

use crate::connect;
use crate::exit::{Code, Error};
use crate::options::{Connect, Options};
use crate::parse;
use crate::print::Output;
use cpu::{Meter, Process};
use load::{Failures, Load, Tally, Work};
use report::Outcome;
use target::Target;

/// The options of `capstan bench`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  capstan bench put --clients 64 --seconds 10
  capstan bench get --level local --keys 100000
  capstan bench mixed --rate 5000 --value-bytes 1K --ttl 10s
  capstan bench echo --clients 64          what the network alone allows
  capstan bench churn --rate 3000 --seconds 300 --interval 30
                                           the same cost after five minutes?
  capstan bench put --json                 {ops_per_second, p50_us, p99_us,
                                           p999_us, max_us, errors, in_doubt,
                                           cpu_us_per_op: {client, nodes}}
churn writes over, stores what expires after --ttl [5s] and deletes, a third
each by turns of chance. --interval prints a line, in JSON an object, each time.
With --rate, latency counts from the time a request was due. CPU is of this
process and of the nodes on this machine, per request that was answered.
Exit codes: 0 all were answered, 3 some failed, 4 some are in doubt.")]
pub struct Args {
    /// What to ask
    #[arg(value_enum)]
    pub work: Work,
    /// How many ask at a time
    #[arg(long, value_name = "N", default_value_t = 16)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=CLIENTS_MAX))]
    pub clients: u32,
    /// How long it is measured
    #[arg(long, value_name = "S", default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=SECONDS_MAX))]
    pub seconds: u32,
    /// How long the clients ask before they are measured
    #[arg(long, value_name = "S", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=SECONDS_MAX))]
    pub warm_up: u32,
    /// Say what each S seconds came to, too
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u32).range(1..=SECONDS_MAX))]
    pub interval: Option<u32>,
    /// Requests per second of all clients together [default: as many as go]
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u32).range(1..=RATE_MAX))]
    pub rate: Option<u32>,
    /// Size of a value
    #[arg(long, value_name = "B", default_value = "128", value_parser = value_bytes)]
    pub value_bytes: usize,
    /// How long what a put stores is kept [default: for good; of churn: 5s]
    #[arg(long, value_name = "DURATION", value_parser = parse::duration)]
    pub ttl: Option<Duration>,
    /// How many keys
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=KEYS_MAX))]
    pub keys: u32,
    /// How many connections to each node they share [default: one for 64 clients]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=CLIENTS_MAX))]
    pub connections: Option<u32>,
    /// Whose wire the clients speak
    #[arg(long, value_enum, default_value_t = Wire::Capstan, hide = true)]
    pub target: Wire,
    /// Processes whose CPU is told in place of the nodes'
    #[arg(long = "process", value_name = "NAME=PID", value_parser = process, hide = true)]
    pub processes: Vec<Process>,
}

/// Whose wire the clients speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Wire {
    /// Capstan's own.
    Capstan,
    /// That of etcd's v3 API.
    Etcd,
}

/// More tasks than this measure the load generator.
const CLIENTS_MAX: i64 = 100_000;
/// A day.
const SECONDS_MAX: i64 = 86_400;
/// Far more than one thread can ask.
const RATE_MAX: i64 = 10_000_000;
/// They are all kept in memory.
const KEYS_MAX: i64 = 10_000_000;
/// Clients of one connection: enough to fill it.
const CLIENTS_PER_CONNECTION: u32 = 64;

/// What churn stores for a while is kept for so long, unless said otherwise: the first has expired soon after the start.
const CHURN_TTL: Duration = Duration::from_secs(5);

/// Runs `capstan bench`.
pub fn run(args: &Args, connect: &Connect, options: &Options, out: &mut Output<'_>) -> Result<Code, Error> {
    check(args, options)?;
    let outcome = connect::runtime().block_on(async {
        let target = target(args, connect, options).await?;
        measure(args, target, out).await
    })?;
    report::print(&outcome, out)
}

/// What cannot be asked.
fn check(args: &Args, options: &Options) -> Result<(), Error> {
    let refuse = |why: &str| Err(Error::Usage(why.into()));
    if args.ttl.is_some() && !matches!(args.work, Work::Put | Work::Mixed | Work::Churn) {
        return refuse("--ttl is for put, mixed and churn: the others store nothing that expires");
    }
    if args.interval.is_some_and(|interval| interval > args.seconds) {
        return refuse("--interval is longer than --seconds: there would be no line");
    }
    if args.target == Wire::Capstan {
        return Ok(());
    }
    let is_linearizable = options.level.is_none_or(|level| level == Level::Linearizable);
    match args.work {
        Work::Echo => refuse("echo asks a node of Capstan: leave --target etcd away"),
        Work::Churn => refuse("churn is for Capstan: leave --target etcd away"),
        _ if args.ttl.is_some() => refuse("--ttl is for Capstan: leave it or --target etcd away"),
        _ if !is_linearizable || options.keyspace.is_some() => {
            refuse("--level and --keyspace are for Capstan: leave them or --target etcd away")
        }
        _ => Ok(()),
    }
}

async fn target(args: &Args, connect: &Connect, options: &Options) -> Result<Target, Error> {
    let (addresses, connections) = (&connect.addresses, connections(args));
    Ok(match args.target {
        Wire::Capstan => {
            Target::Capstan { store: connect::store(addresses, connections)?, options: options.clone() }
        }
        Wire::Etcd => Target::Etcd {
            client: Arc::new(etcd::Client::connect(addresses, connections).await?),
            patience: options.timeout(),
        },
    })
}

fn load(args: &Args) -> Load {
    Load {
        work: args.work,
        clients: args.clients as usize,
        duration: Duration::from_secs(args.seconds.into()),
        rate: args.rate,
        keys: keys(args.keys),
        value: vec![b'v'; args.value_bytes].into(),
        ttl: args.ttl.or((args.work == Work::Churn).then_some(CHURN_TTL)),
    }
}

/// All keys, in order.
fn keys(count: u32) -> Vec<Key> {
    (0..count).map(|index| format!("bench:{index:08}").into()).collect()
}

fn connections(args: &Args) -> usize {
    args.connections.unwrap_or_else(|| args.clients.div_ceil(CLIENTS_PER_CONNECTION)).min(args.clients)
        as usize
}

async fn measure(args: &Args, target: Target, out: &mut Output<'_>) -> Result<Outcome, Error> {
    let (load, target) = (Arc::new(load(args)), Arc::new(target));
    target.echo().await?;
    let nodes = match &args.processes[..] {
        [] => target.processes().await?,
        given => given.to_vec(),
    };
    if matches!(load.work, Work::Get | Work::Mixed) {
        load::preload(&load, &target).await?;
    }
    let failures = match args.warm_up {
        0 => Failures::default(),
        seconds => load::warm_up(&load, &target, Duration::from_secs(seconds.into())).await,
    };
    let client = Process { name: "client".into(), pid: Some(std::process::id()) };
    let mut meter = Meter::start([client].into_iter().chain(nodes).collect());
    let tally = match args.interval {
        None => load::run(&load, &target, failures).await,
        Some(seconds) => run_in_intervals(&load, &target, failures, seconds, meter.clone(), out).await?,
    };
    let mut taken = meter.lap();
    match &tally.failures.worst {
        Some(error) if tally.done() == 0 => Err(error.clone().into()),
        _ => Ok(Outcome { work: args.work, tally, client: taken.remove(0).1, nodes: taken }),
    }
}

async fn run_in_intervals(
    load: &Arc<Load>,
    target: &Arc<Target>,
    failures: Failures,
    seconds: u32,
    mut meter: Meter,
    out: &mut Output<'_>,
) -> Result<Tally, Error> {
    report::print_interval_head(out)?;
    let mut elapsed = Duration::ZERO;
    let mut say = |tally: &Tally| {
        elapsed += tally.elapsed;
        report::print_interval(elapsed.as_secs_f64().round() as u64, tally, &meter.lap(), out)
    };
    let interval = Duration::from_secs(seconds.into());
    let tally = load::run_in_intervals(load, target, failures, interval, &mut say).await?;
    if !out.json {
        out.line("")?;
    }
    Ok(tally)
}

fn value_bytes(text: &str) -> Result<usize, String> {
    let bytes = parse::size(text)?;
    if bytes > VALUE_BYTES_MAX {
        Err(format!("a value has at most {VALUE_BYTES_MAX} bytes"))
    } else {
        Ok(bytes)
    }
}

fn process(text: &str) -> Result<Process, String> {
    let wrong = "a process is NAME=PID, as in n1=4711";
    let (name, pid) = text.split_once('=').ok_or(wrong)?;
    Ok(Process { name: parse::name(name)?, pid: Some(pid.parse().map_err(|_| wrong)?) })
}

#[cfg(test)]
mod tests;
