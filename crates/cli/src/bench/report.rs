//! What a run came to, as a table of 80 columns or as JSON.

use clap::ValueEnum;
use serde_json::{Map, Value, json};

use super::cpu::{Process, Taken};
use super::load::{Tally, Work};
use crate::exit::{Code, Error};
use crate::print::Output;

/// What a run came to.
pub struct Outcome {
    /// What was asked.
    pub work: Work,
    /// How it was answered.
    pub tally: Tally,
    /// What this process took.
    pub client: Taken,
    /// What the nodes took.
    pub nodes: Vec<(Process, Taken)>,
}

/// Prints the line of an interval that ended so many seconds after the start, with what each process took in it, this one
/// first. Whoever reads along has it at once.
pub fn print_interval(
    seconds: u64,
    tally: &Tally,
    taken: &[(Process, Taken)],
    out: &mut Output<'_>,
) -> Result<(), Error> {
    let at = |quantile| tally.latency_micros.value_at_quantile(quantile);
    let (client, nodes) = taken.split_first().expect("the client is the first process");
    if out.json {
        out.object(&json!({
            "seconds": seconds,
            "ops_per_second": tenths(tally.per_second()),
            "p50_us": at(0.5),
            "p99_us": at(0.99),
            "errors": tally.failures.count,
            "cpu_us_per_op": cpu_object(client.1, nodes, tally),
        }))?;
        return Ok(out.out.flush()?);
    }
    let cpu = |taken: &[(Process, Taken)]| {
        let all: Option<Vec<f64>> = taken.iter().map(|(_, taken)| micros_per_op(*taken, tally)).collect();
        let known = all.filter(|all| !all.is_empty());
        known.map_or_else(|| "-".into(), |all| format!("{:.1}", all.iter().sum::<f64>()))
    };
    let fields = [
        seconds.to_string(),
        format!("{:.0}", tally.per_second()),
        millis(at(0.5)),
        millis(at(0.99)),
        tally.failures.count.to_string(),
        cpu(&taken[..1]),
        cpu(nodes),
    ];
    out.line(&in_columns(&fields))?;
    Ok(out.out.flush()?)
}

/// The line above those of intervals; none in JSON.
pub fn print_interval_head(out: &mut Output<'_>) -> Result<(), Error> {
    match out.json {
        true => Ok(()),
        false => Ok(out.line(&in_columns(&INTERVAL_HEAD.map(String::from)))?),
    }
}

/// CPU of the nodes is that of all together.
const INTERVAL_HEAD: [&str; 7] =
    ["SECONDS", "OPS/S", "P50 MS", "P99 MS", "ERRORS", "CLIENT US/OP", "NODES US/OP"];

/// Lines that are printed one by one, so the widths are fixed: as wide as their heads, and as figures may be.
fn in_columns(fields: &[String; 7]) -> String {
    let widths = INTERVAL_HEAD.map(|head| head.len().max(8));
    let columns = fields.iter().zip(widths).map(|(field, width)| format!("{field:>width$}"));
    columns.collect::<Vec<_>>().join("  ")
}

/// Prints it; the exit code says whether all requests were answered.
pub fn print(outcome: &Outcome, out: &mut Output<'_>) -> Result<Code, Error> {
    let failures = &outcome.tally.failures;
    if let Some(error) = &failures.worst {
        let doubt = match failures.in_doubt {
            0 => "the first".into(),
            count => format!("{count} of them in doubt, the first of those"),
        };
        out.note(&format!("{} requests failed; {doubt}: {error}", failures.count))?;
    }
    if out.json {
        out.object(&object(outcome))?;
    } else {
        print_tables(outcome, out)?;
    }
    Ok(match (failures.count, failures.in_doubt) {
        (0, _) => Code::Done,
        (_, 0) => Code::Unavailable,
        _ => Code::InDoubt,
    })
}

fn object(Outcome { tally, client, nodes, .. }: &Outcome) -> Value {
    let at = |quantile| tally.latency_micros.value_at_quantile(quantile);
    json!({
        "ops_per_second": tenths(tally.per_second()),
        "p50_us": at(0.5),
        "p99_us": at(0.99),
        "p999_us": at(0.999),
        "max_us": tally.latency_micros.max(),
        "errors": tally.failures.count,
        "in_doubt": tally.failures.in_doubt,
        "cpu_us_per_op": cpu_object(*client, nodes, tally),
    })
}

fn cpu_object(client: Taken, nodes: &[(Process, Taken)], tally: &Tally) -> Value {
    let cpu = |taken: Taken| micros_per_op(taken, tally).map(tenths);
    let nodes: Map<String, Value> =
        nodes.iter().map(|(node, taken)| (node.name.clone(), cpu(*taken).into())).collect();
    json!({"client": cpu(client), "nodes": nodes})
}

fn print_tables(outcome: &Outcome, out: &mut Output<'_>) -> Result<(), Error> {
    let Outcome { work, tally, client, nodes } = outcome;
    let at = |quantile| millis(tally.latency_micros.value_at_quantile(quantile));
    let row = vec![
        work.to_possible_value().expect("no work is hidden").get_name().to_string(),
        format!("{:.0}", tally.per_second()),
        at(0.5),
        at(0.99),
        at(0.999),
        millis(tally.latency_micros.max()),
        tally.failures.count.to_string(),
    ];
    out.table(&["WORK", "OPS/S", "P50 MS", "P99 MS", "P99.9 MS", "MAX MS", "ERRORS"], &[row])?;
    let cpu = |taken: &Taken| match (taken, micros_per_op(*taken, tally)) {
        (_, Some(micros)) => format!("{micros:.1}"),
        (Taken::Elsewhere, None) => "on another machine".into(),
        (_, None) => "ended".into(),
    };
    let client = vec!["client".into(), cpu(client)];
    let nodes = nodes.iter().map(|(node, taken)| vec![node.name.clone(), cpu(taken)]);
    let rows: Vec<_> = [client].into_iter().chain(nodes).collect();
    out.line("")?;
    out.table(&["CPU", "US/OP"], &rows)?;
    Ok(())
}

/// What a process took for a request that was answered, where that is known.
fn micros_per_op(taken: Taken, tally: &Tally) -> Option<f64> {
    match taken {
        Taken::Time(time) if tally.done() > 0 => Some(time.as_secs_f64() * 1e6 / tally.done() as f64),
        _ => None,
    }
}

fn tenths(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

fn millis(micros: u64) -> String {
    format!("{:.3}", micros as f64 / 1000.0)
}
