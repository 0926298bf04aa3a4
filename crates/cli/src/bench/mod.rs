//! Load: so many clients, one kind of work, and how long the answers took.
//!
//! Without `--rate` each client asks again as soon as it was answered (closed loop). With it, requests are due at fixed
//! times, whoever is busy, and an answer's latency counts from the time its request was due (open loop): a store that
//! stalls does not make its latencies look better by being asked less.
//!
//! # Caveats
//!
//! One thread makes the load, on the cores that the nodes may use as well.

mod load;
mod pace;

use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use kv::VALUE_BYTES_MAX;
use serde_json::json;

use crate::connect::{self, Store};
use crate::exit::{Code, Error};
use crate::options::{Connect, Options};
use crate::parse;
use crate::print::Output;
use load::{Load, Tally, Work};

/// The options of `capstan bench`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  capstan bench put --clients 64 --seconds 10
  capstan bench get --level local --keys 100000
  capstan bench mixed --rate 5000 --value-bytes 1K
  capstan bench echo --clients 64          what the network alone allows
  capstan bench put --json                 {ops_per_second, p50_us, p99_us,
                                           p999_us, max_us, errors}
With --rate, latency counts from the time a request was due.")]
pub struct Args {
    /// What to ask
    #[arg(value_enum)]
    pub work: Work,
    /// How many ask at a time
    #[arg(long, value_name = "N", default_value_t = 16)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=CLIENTS_MAX))]
    pub clients: u32,
    /// How long
    #[arg(long, value_name = "S", default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=SECONDS_MAX))]
    pub seconds: u32,
    /// Requests per second of all clients together [default: as many as go]
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u32).range(1..=RATE_MAX))]
    pub rate: Option<u32>,
    /// Size of a value
    #[arg(long, value_name = "B", default_value = "128", value_parser = value_bytes)]
    pub value_bytes: usize,
    /// How many keys
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=KEYS_MAX))]
    pub keys: u32,
    /// How many connections to each node they share [default: one for 64 clients]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=CLIENTS_MAX))]
    pub connections: Option<u32>,
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

/// Runs `capstan bench`.
pub fn run(args: &Args, connect: &Connect, options: &Options, out: &mut Output<'_>) -> Result<Code, Error> {
    let load = Arc::new(load(args, options));
    let tally = connect::runtime().block_on(async {
        let store = connect::store(&connect.addresses, connections(args))?;
        measure(load.clone(), store).await
    })?;
    print(args, &tally, out)
}

fn load(args: &Args, options: &Options) -> Load {
    Load {
        work: args.work,
        clients: args.clients as usize,
        duration: Duration::from_secs(args.seconds.into()),
        rate: args.rate,
        options: options.clone(),
        keys: (0..args.keys).map(|index| format!("bench:{index:08}").into()).collect(),
        value: vec![b'v'; args.value_bytes].into(),
    }
}

fn connections(args: &Args) -> usize {
    args.connections.unwrap_or_else(|| args.clients.div_ceil(CLIENTS_PER_CONNECTION)).min(args.clients)
        as usize
}

async fn measure(load: Arc<Load>, store: Arc<dyn Store>) -> Result<Tally, Error> {
    store.health_check().await?;
    if matches!(load.work, Work::Get | Work::Mixed) {
        load::preload(&load, &*store).await?;
    }
    let tally = load::run(load, store).await;
    match &tally.first_error {
        Some(error) if tally.done() == 0 => Err(error.clone().into()),
        _ => Ok(tally),
    }
}

fn print(args: &Args, tally: &Tally, out: &mut Output<'_>) -> Result<Code, Error> {
    let at = |quantile| tally.latency_micros.value_at_quantile(quantile);
    let (p50, p99, p999, max) = (at(0.5), at(0.99), at(0.999), tally.latency_micros.max());
    let per_second = (tally.per_second() * 10.0).round() / 10.0;
    if let Some(error) = &tally.first_error {
        out.note(&format!("{} requests failed; the first: {error}", tally.errors))?;
    }
    if out.json {
        let errors = tally.errors;
        out.object(&json!({
            "ops_per_second": per_second, "p50_us": p50, "p99_us": p99, "p999_us": p999, "max_us": max, "errors": errors,
        }))?;
        return Ok(Code::Done);
    }
    let row = vec![
        args.work.to_possible_value().expect("no work is hidden").get_name().to_string(),
        format!("{per_second:.0}"),
        millis(p50),
        millis(p99),
        millis(p999),
        millis(max),
        tally.errors.to_string(),
    ];
    out.table(&["WORK", "OPS/S", "P50 MS", "P99 MS", "P99.9 MS", "MAX MS", "ERRORS"], &[row])?;
    Ok(Code::Done)
}

fn millis(micros: u64) -> String {
    format!("{:.3}", micros as f64 / 1000.0)
}

fn value_bytes(text: &str) -> Result<usize, String> {
    let bytes = parse::size(text)?;
    if bytes > VALUE_BYTES_MAX {
        Err(format!("a value has at most {VALUE_BYTES_MAX} bytes"))
    } else {
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::fake::Fake;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    /// What a run of one second on a store of one map printed.
    fn printed(words: &[&str], fake: Fake, json: bool) -> Result<(String, String), Error> {
        let base = ["bench", "--seconds", "1", "--clients", "2", "--keys", "50"];
        let args = Line::try_parse_from(base.iter().chain(words)).expect("the words are fine").args;
        let load = Arc::new(load(&args, &Options::default()));
        let tally = connect::runtime().block_on(measure(load, Arc::new(fake)))?;
        let (mut out, mut err) = (Vec::new(), Vec::new());
        print(&args, &tally, &mut Output { out: &mut out, err: &mut err, terminal: false, json })?;
        Ok((String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap()))
    }

    #[test]
    fn bench_at_a_rate_asks_as_often_as_told() {
        let (out, err) = printed(&["mixed", "--rate", "100"], Fake::default(), true).unwrap();
        let object: serde_json::Value = serde_json::from_str(&out).unwrap();
        let fields: Vec<&String> = object.as_object().unwrap().keys().collect();
        assert_eq!(fields, ["ops_per_second", "p50_us", "p99_us", "p999_us", "max_us", "errors"]);
        assert_eq!((object["errors"].as_u64(), err.as_str()), (Some(0), ""));
        // At most the 100 that were due; a slow machine takes longer for them.
        let per_second = object["ops_per_second"].as_f64().unwrap();
        assert!(per_second > 0.0 && per_second <= 102.0, "{per_second}");
    }

    #[test]
    fn bench_prints_a_table_of_80_columns() {
        let (out, _) = printed(&["echo", "--rate", "100"], Fake::default(), false).unwrap();
        assert!(out.starts_with("WORK  OPS/S"), "{out}");
        assert!(out.lines().count() == 2 && out.lines().all(|line| line.len() <= 80), "{out}");
    }

    #[test]
    fn bench_of_a_store_that_is_away_fails() {
        let fake = Fake::failing(kv::Error::Unavailable("away".into()));
        assert_eq!(printed(&["put"], fake, true).unwrap_err().code(), Code::Unavailable);
    }

    #[test]
    fn connections_are_shared_by_64_clients() {
        let args = |words: &[&str]| Line::try_parse_from(["bench", "put"].iter().chain(words)).unwrap().args;
        assert_eq!(connections(&args(&["--clients", "64"])), 1);
        assert_eq!(connections(&args(&["--clients", "65"])), 2);
        assert_eq!(connections(&args(&["--clients", "2", "--connections", "8"])), 2);
    }
}
