//! `capstan lab eval`: what consistency costs, measured on this machine.

use std::fs::{self, File};
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::lab::NODES_MAX;
use ::lab::eval::{self, NODES_MIN, Plan, Progress, STORE_NODES, store};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use crate::connect;
use crate::exit::{Code, Error};
use crate::options::Connect;
use crate::parse;
use crate::print::Output;

/// A form has no more seconds: eleven of them are then two hours.
const SECONDS_MAX: u64 = 600;
/// More clients of one thread wait for each other.
const CLIENTS_MAX: i64 = 1024;
/// A node that is slower keeps requests waiting for longer than they are waited for.
const SLOW_MAX: Duration = Duration::from_secs(2);

/// `capstan lab eval ...`
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Shards of one copy, and replica groups that wait for none, some, all
    Shards(ShardsArgs),
    /// A store with a master and one without, each node slow in turn
    Store(StoreArgs),
}

/// The options of `capstan lab eval shards`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  capstan lab eval shards                    a table, and eval-shards.svg
  capstan lab eval shards --seconds 10 --plot costs.svg
  capstan lab eval shards --json             an object per form

It starts nodes of its own, on free ports of this machine and in a folder that
it removes again, and measures eleven forms of a keyspace, one after the other:
1, 2, 4 and 8 shards of one copy; groups of four copies under primary, where a
put waits for 0, 1 or 2 secondaries and gets are local or bounded; and where
it waits for all and gets are linearizable. A wrong read is one whose answer is
older than a put that was acknowledged before the read began.

Exit codes: 0 no answer was older than its level and its receipt allow, 1 one
was, 2 wrong use, 3 it cannot be run, or requests failed.")]
pub struct ShardsArgs {
    /// How long each of the eleven forms is measured
    #[arg(long, value_name = "S", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=SECONDS_MAX))]
    pub seconds: u64,
    #[command(flatten)]
    pub clients: Clients,
    /// How many nodes: eight shards are on so many, too
    #[arg(long, value_name = "N", default_value_t = NODES_MIN)]
    #[arg(value_parser = clap::value_parser!(u16).range(i64::from(NODES_MIN)..=i64::from(NODES_MAX)))]
    pub nodes: u16,
    /// Where to draw it, as SVG
    #[arg(long, value_name = "FILE", default_value = "eval-shards.svg")]
    pub plot: PathBuf,
}

/// The options of `capstan lab eval store`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  capstan lab eval store                     a table, and eval-store.svg
  capstan lab eval store --seconds 10 --slow 1s --plot slow.svg
  capstan lab eval store --json              an object per form and slow node

It starts three nodes of its own, on free ports of this machine and in a folder
that it removes again, and puts the same load on the two forms of the store:
centralized (protocol two-phase: puts at the master, on all copies or nowhere)
and decentralized (protocol quorum, weights 1, 2, 1: a put needs 3 of them, a
get 2, at any node). Each is measured while nobody is slow, and then with each
node slow in turn: what it answers leaves late, to clients and to other nodes.

Exit codes: 0 no get was older than a put before it, 1 one was, 2 wrong use,
3 it cannot be run. Requests that failed are counted in the table.")]
pub struct StoreArgs {
    /// How long each form is measured, with nobody slow and with each node
    #[arg(long, value_name = "S", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=SECONDS_MAX))]
    pub seconds: u64,
    #[command(flatten)]
    pub clients: Clients,
    /// How late a slow node answers, at most 2s
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = slowness)]
    pub slow: Duration,
    /// Where to draw it, as SVG
    #[arg(long, value_name = "FILE", default_value = "eval-store.svg")]
    pub plot: PathBuf,
}

/// Who asks.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Clients {
    /// How many put or get at a time
    #[arg(long = "clients", value_name = "N", default_value_t = 16)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=CLIENTS_MAX))]
    pub count: u32,
}

/// Runs it, prints the table and draws the plot.
pub fn run(command: &Command, connect: &Connect, out: &mut Output<'_>) -> Result<Code, Error> {
    if connect.is_typed {
        return Err(Error::Usage(
            "the evaluation starts nodes of its own: leave --connect away, or measure your cluster with 'capstan bench'".into(),
        ));
    }
    match command {
        Command::Shards(args) => shards(args, out),
        Command::Store(args) => of_store(args, out),
    }
}

fn shards(args: &ShardsArgs, out: &mut Output<'_>) -> Result<Code, Error> {
    can_be_written(&args.plot)?;
    let plan = plan(args.nodes, args.clients, args.seconds, None)?;
    let rows = measure(async |stop, say| eval::shards(&plan, stop, say).await)?;
    let code = if rows.iter().any(|row| row.untrue > 0) {
        Code::NotMet
    } else if rows.iter().any(|row| row.failed > 0) {
        Code::Unavailable
    } else {
        Code::Done
    };
    let (table, svg) = (eval::render(&rows, plan.clients), eval::plot(&rows, plan.clients));
    show(&rows, (code, table), (svg, &args.plot), out)
}

fn of_store(args: &StoreArgs, out: &mut Output<'_>) -> Result<Code, Error> {
    can_be_written(&args.plot)?;
    let plan = plan(STORE_NODES, args.clients, args.seconds, Some(args.slow))?;
    let rows = measure(async |stop, say| store::run(&plan, stop, say).await)?;
    let code = if rows.iter().any(|row| row.untrue > 0) { Code::NotMet } else { Code::Done };
    let (table, svg) = (store::render(&rows, plan.clients), store::plot(&rows, plan.clients));
    show(&rows, (code, table), (svg, &args.plot), out)
}

/// Takes measures until a signal comes, and shows how far it is.
fn measure<T>(
    run: impl AsyncFnOnce(&mut dyn Stop, &mut dyn FnMut(Progress)) -> Result<T, ::lab::Error>,
) -> Result<T, Error> {
    connect::runtime().block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut stop = Box::pin(async {
            tokio::select! {
                _ = interrupt.recv() => "SIGINT".into(),
                _ = terminate.recv() => "SIGTERM".into(),
            }
        });
        let bar = bar();
        let result = run(&mut stop, &mut |progress| advance(&bar, progress)).await;
        bar.finish_and_clear();
        result.map_err(Error::from)
    })
}

/// What ends it early, and says why.
trait Stop: Future<Output = String> + Unpin {}
impl<T: Future<Output = String> + Unpin> Stop for T {}

fn plan(nodes: u16, clients: Clients, seconds: u64, slow: Option<Duration>) -> Result<Plan, Error> {
    let program = std::env::current_exe();
    let program = program.map_err(|error| Error::Unavailable(format!("finding this program: {error}")))?;
    Ok(Plan { program, nodes, clients: clients.count as usize, time: Duration::from_secs(seconds), slow })
}

/// How late a node may be.
fn slowness(text: &str) -> Result<Duration, String> {
    let slow = parse::duration(text)?;
    match (Duration::from_millis(1)..=SLOW_MAX).contains(&slow) {
        true => Ok(slow),
        false => Err("a node is slow by 1ms to 2s: requests are not waited for much longer".into()),
    }
}

/// It moves on a terminal only.
fn bar() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{wide_bar} {pos} of {len} s  {msg:15}");
    ProgressBar::no_length().with_style(style.expect("the template is a constant and well-formed"))
}

fn advance(bar: &ProgressBar, progress: Progress) {
    bar.set_length(progress.of.as_secs());
    bar.set_position(progress.done.as_secs());
    bar.set_message(progress.form.unwrap_or("nodes start"));
}

/// Whether a plot can be written, before anybody waits for it. What is there stays as it is.
fn can_be_written(file: &Path) -> Result<(), Error> {
    let was_there = file.exists();
    let cannot = |error| {
        Error::Usage(format!(
            "the plot cannot be in {}: {error}; name another file with --plot",
            file.display()
        ))
    };
    File::options().append(true).create(true).open(file).map_err(cannot)?;
    if was_there { Ok(()) } else { fs::remove_file(file).map_err(cannot) }
}

/// Prints the table, or an object a row, and draws the plot.
fn show(
    rows: &[impl Serialize],
    (code, table): (Code, String),
    (svg, file): (String, &Path),
    out: &mut Output<'_>,
) -> Result<Code, Error> {
    out.told(code, |out| {
        let printed = print(rows, &table, out);
        // The one may be written where the other cannot.
        draw(&svg, file, out).and(printed)
    })
}

fn draw(svg: &str, file: &Path, out: &mut Output<'_>) -> Result<(), Error> {
    let shown = file.display();
    let said = match fs::write(file, svg) {
        Ok(()) => format!("the plot is in {shown}"),
        Err(error) => format!("error: drawing the plot in {shown}: {error}; name another file with --plot"),
    };
    Ok(out.note(&said)?)
}

fn print(rows: &[impl Serialize], table: &str, out: &mut Output<'_>) -> Result<(), Error> {
    if !out.json {
        write!(out.out, "{table}")?;
        return Ok(());
    }
    for row in rows {
        out.object(&serde_json::to_value(row).expect("a row has text keys only"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Typed {
        #[command(subcommand)]
        command: Command,
    }

    fn typed(words: &[&str]) -> Result<Command, clap::Error> {
        Typed::try_parse_from([&["eval"], words].concat()).map(|typed| typed.command)
    }

    fn ran(words: &[&str], is_typed: bool) -> Result<Code, Error> {
        let command = typed(words).map_err(|error| Error::Usage(error.to_string()))?;
        let connect = Connect { addresses: vec!["a:1".into()], is_typed };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        run(&command, &connect, &mut Output { out: &mut out, err: &mut err, terminal: false, json: false })
    }

    #[test]
    fn what_cannot_be_measured_is_refused_before_any_node_starts() {
        let folder = tempfile::tempdir().expect("a folder");
        let plot = folder.path().join("no/such/plot.svg").display().to_string();
        let taken = folder.path().display().to_string();
        for of in ["shards", "store"] {
            for wrong in [
                ["--seconds", "0"],
                ["--seconds", "601"],
                ["--clients", "0"],
                ["--plot", &plot],
                ["--plot", &taken],
            ] {
                let words = [&[of][..], &wrong].concat();
                assert!(matches!(ran(&words, false), Err(Error::Usage(_))), "{words:?}");
            }
            let Err(Error::Usage(why)) = ran(&[of], true) else { panic!("it has nodes of its own") };
            assert!(why.contains("leave --connect away"), "{why}");
        }
        for wrong in [
            ["shards", "--nodes", "3"],
            ["shards", "--nodes", "21"],
            ["store", "--nodes", "3"],
            ["store", "--slow", "0s"],
            ["store", "--slow", "2001ms"],
            ["store", "--slow", "late"],
        ] {
            assert!(matches!(ran(&wrong, false), Err(Error::Usage(_))), "{wrong:?}");
        }
    }

    #[test]
    fn file_of_the_plot_stays_as_it_is_until_there_is_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let (new, old) = (folder.path().join("new.svg"), folder.path().join("old.svg"));
        fs::write(&old, "<svg/>").expect("a file");
        assert!(can_be_written(&new).is_ok() && can_be_written(&old).is_ok());
        assert!(!new.exists());
        assert_eq!(fs::read_to_string(&old).ok().as_deref(), Some("<svg/>"));
    }
}
