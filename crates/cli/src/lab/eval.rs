//! `capstan lab eval`: what consistency costs, measured on this machine.

use std::fs::{self, File};
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::lab::NODES_MAX;
use ::lab::eval::{self, NODES_MIN, Plan, Progress, Row};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};

use crate::connect;
use crate::exit::{Code, Error};
use crate::options::Connect;
use crate::print::Output;

/// A form has no more seconds: eleven of them are then two hours.
const SECONDS_MAX: u64 = 600;
/// More clients of one thread wait for each other.
const CLIENTS_MAX: i64 = 1024;

/// `capstan lab eval ...`
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Shards of one copy, and replica groups that wait for none, some, all
    Shards(Args),
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
pub struct Args {
    /// How long each of the eleven forms is measured
    #[arg(long, value_name = "S", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=SECONDS_MAX))]
    pub seconds: u64,
    /// How many put or get at a time
    #[arg(long, value_name = "N", default_value_t = 16)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=CLIENTS_MAX))]
    pub clients: u32,
    /// How many nodes: eight shards are on so many, too
    #[arg(long, value_name = "N", default_value_t = NODES_MIN)]
    #[arg(value_parser = clap::value_parser!(u16).range(i64::from(NODES_MIN)..=i64::from(NODES_MAX)))]
    pub nodes: u16,
    /// Where to draw it, as SVG
    #[arg(long, value_name = "FILE", default_value = "eval-shards.svg")]
    pub plot: PathBuf,
}

/// Runs it, prints the table and draws the plot.
pub fn run(command: &Command, connect: &Connect, out: &mut Output<'_>) -> Result<Code, Error> {
    let Command::Shards(args) = command;
    if connect.is_typed {
        return Err(Error::Usage(
            "the evaluation starts nodes of its own: leave --connect away, or measure your cluster with 'capstan bench'".into(),
        ));
    }
    can_be_written(&args.plot)?;
    let plan = plan(args)?;
    let rows = connect::runtime().block_on(measure(&plan))?;
    out.told(code(&rows), |out| {
        let printed = print(&rows, plan.clients, out);
        // The one may be written where the other cannot.
        draw(&rows, args, out).and(printed)
    })
}

async fn measure(plan: &Plan) -> Result<Vec<Row>, Error> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let stop = async {
        tokio::select! {
            _ = interrupt.recv() => "SIGINT".into(),
            _ = terminate.recv() => "SIGTERM".into(),
        }
    };
    let bar = bar();
    let result = eval::run(plan, stop, |progress| show(&bar, progress)).await;
    bar.finish_and_clear();
    result.map_err(Error::from)
}

fn plan(args: &Args) -> Result<Plan, Error> {
    let program = std::env::current_exe();
    let program = program.map_err(|error| Error::Unavailable(format!("finding this program: {error}")))?;
    let time = Duration::from_secs(args.seconds);
    Ok(Plan { program, nodes: args.nodes, clients: args.clients as usize, time })
}

/// It moves on a terminal only.
fn bar() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{wide_bar} {pos} of {len} s  {msg:15}");
    ProgressBar::no_length().with_style(style.expect("the template is a constant and well-formed"))
}

fn show(bar: &ProgressBar, progress: Progress) {
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

fn draw(rows: &[Row], args: &Args, out: &mut Output<'_>) -> Result<(), Error> {
    let file = args.plot.display();
    let said = match fs::write(&args.plot, eval::plot(rows, args.clients as usize)) {
        Ok(()) => format!("the plot is in {file}"),
        Err(error) => format!("error: drawing the plot in {file}: {error}; name another file with --plot"),
    };
    Ok(out.note(&said)?)
}

fn code(rows: &[Row]) -> Code {
    if rows.iter().any(|row| row.untrue > 0) {
        Code::NotMet
    } else if rows.iter().any(|row| row.failed > 0) {
        Code::Unavailable
    } else {
        Code::Done
    }
}

fn print(rows: &[Row], clients: usize, out: &mut Output<'_>) -> Result<(), Error> {
    if !out.json {
        write!(out.out, "{}", eval::render(rows, clients))?;
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
        Typed::try_parse_from([&["eval", "shards"], words].concat()).map(|typed| typed.command)
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
        for wrong in [
            &["--seconds", "0"][..],
            &["--seconds", "601"],
            &["--clients", "0"],
            &["--nodes", "3"],
            &["--nodes", "21"],
            &["--plot", &plot],
            &["--plot", &taken],
        ] {
            assert!(matches!(ran(wrong, false), Err(Error::Usage(_))), "{wrong:?}");
        }
        let Err(Error::Usage(why)) = ran(&[], true) else { panic!("it has nodes of its own") };
        assert!(why.contains("leave --connect away"), "{why}");
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
