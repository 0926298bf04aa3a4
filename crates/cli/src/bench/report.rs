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
    let cpu = |taken: &Taken| micros_per_op(*taken, tally).map(tenths);
    let nodes: Map<String, Value> =
        nodes.iter().map(|(node, taken)| (node.name.clone(), cpu(taken).into())).collect();
    json!({
        "ops_per_second": tenths(tally.per_second()),
        "p50_us": at(0.5),
        "p99_us": at(0.99),
        "p999_us": at(0.999),
        "max_us": tally.latency_micros.max(),
        "errors": tally.failures.count,
        "in_doubt": tally.failures.in_doubt,
        "cpu_us_per_op": {"client": cpu(client), "nodes": nodes},
    })
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
