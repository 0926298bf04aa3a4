//! `capstan lab faults`: each protocol under the same faults, on real processes.

use std::path::PathBuf;
use std::time::Duration;

use ::lab::{Choice, NODES_MAX, Plan, Report, Verdict};
use tokio::signal::unix::{SignalKind, signal};

use crate::connect;
use crate::exit::{Code, Error};
use crate::options::Connect;
use crate::print::Output;

/// A phase has no more seconds: an hour of all phases and protocols is a long time to wait for a table.
const SECONDS_MAX: u64 = 120;

/// The options of `capstan lab faults`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  capstan lab faults                            all: half a minute each
  capstan lab faults --protocols raft,two-phase --seconds 10
  capstan lab faults --json                     an object per protocol
  capstan lab faults --keep ./lab               histories, journals, data
  capstan lab faults --connect 127.0.0.1:7401   on your own 'up --lab'

Unless --connect is given it starts nodes of its own, on free ports of this
machine and in a folder that it removes again; if something broke, it stays.
Each protocol has a keyspace, and clients at each node that write and read it,
while: all is well; the node that leads it is cut off; heard again; killed;
started again; all is well again. Then their history is judged, and every
acknowledged write is looked for. With --connect, 'up' starts the killed node
again at once, and the keyspaces stay.

Exit codes: 0 each protocol kept its promise, 1 one did not: its history is
kept, 2 wrong use, 3 it cannot be run, or a history is undecided.")]
pub struct Args {
    /// Which of them, as in single,raft [default: all]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = Choice::named)]
    pub protocols: Vec<Choice>,
    /// How many nodes
    #[arg(long, value_name = "N", default_value_t = 3)]
    #[arg(value_parser = clap::value_parser!(u16).range(3..=i64::from(NODES_MAX)))]
    pub nodes: u16,
    /// How long each of the six phases is
    #[arg(long, value_name = "S", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=SECONDS_MAX))]
    pub seconds: u64,
    /// Keep histories, journals and data in this folder, which must be empty or not there
    #[arg(long, value_name = "FOLDER")]
    pub keep: Option<PathBuf>,
}

/// Runs it and prints the table.
pub fn run(args: &Args, connect: &Connect, out: &mut Output<'_>) -> Result<Code, Error> {
    let plan = plan(args, connect)?;
    let runtime = connect::runtime();
    let reports = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let stop = async {
            tokio::select! {
                _ = interrupt.recv() => "SIGINT".into(),
                _ = terminate.recv() => "SIGTERM".into(),
            }
        };
        let say = |text: &str| {
            // When nobody reads, nobody is told.
            let _ = out.note(text);
        };
        ::lab::run(&plan, stop, say).await.map_err(Error::from)
    })?;
    out.told(code(&reports), |out| print(&reports, out))
}

fn plan(args: &Args, connect: &Connect) -> Result<Plan, Error> {
    let program = std::env::current_exe();
    let program = program.map_err(|error| Error::Unavailable(format!("finding this program: {error}")))?;
    for (index, choice) in args.protocols.iter().enumerate() {
        if args.protocols[..index].contains(choice) {
            return Err(Error::Usage(format!("--protocols names {} twice", choice.name)));
        }
    }
    let mut choices = ::lab::all();
    choices.retain(|choice| args.protocols.is_empty() || args.protocols.contains(choice));
    Ok(Plan {
        program,
        choices,
        nodes: args.nodes,
        phase: Duration::from_secs(args.seconds),
        keep: args.keep.clone(),
        connect: connect.is_typed.then(|| connect.addresses.clone()),
    })
}

fn code(reports: &[Report]) -> Code {
    if reports.iter().any(Report::is_broken) {
        Code::NotMet
    } else if reports.iter().any(|report| report.verdict == Verdict::Undecided) {
        Code::Unavailable
    } else {
        Code::Done
    }
}

fn print(reports: &[Report], out: &mut Output<'_>) -> Result<(), Error> {
    if !out.json {
        write!(out.out, "{}", ::lab::render(reports))?;
        return Ok(());
    }
    for report in reports {
        out.object(&serde_json::to_value(report).expect("a report has text keys only"))?;
    }
    Ok(())
}

impl From<::lab::Error> for Error {
    fn from(error: ::lab::Error) -> Error {
        match error {
            ::lab::Error::Invalid(why) => Error::Usage(why),
            error => Error::Unavailable(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::options;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        args: Args,
    }

    fn planned(words: &[&str], is_typed: bool) -> Result<Plan, Error> {
        let typed = Typed::try_parse_from([&["faults"], words].concat());
        let args = typed.map_err(|error| Error::Usage(error.to_string()))?.args;
        plan(&args, &options::Connect { addresses: vec!["a:1".into()], is_typed })
    }

    #[test]
    fn protocols_are_compared_in_one_order_whatever_was_typed() {
        let names = |words: &[&str]| -> Vec<&str> {
            planned(words, false).expect("it is sound").choices.iter().map(|choice| choice.name).collect()
        };
        assert_eq!(names(&["--protocols", "two-phase,single"]), ["single", "two-phase"]);
        assert_eq!(names(&[]).len(), ::lab::all().len());
        for wrong in
            [&["--protocols", "raft,raft"][..], &["--protocols", "x"], &["--nodes", "2"], &["--seconds", "0"]]
        {
            assert!(matches!(planned(wrong, false), Err(Error::Usage(_))), "{wrong:?}");
        }
    }

    #[test]
    fn cluster_that_is_there_is_taken_only_where_it_was_typed() {
        assert_eq!(planned(&[], false).expect("it is sound").connect, None);
        assert_eq!(planned(&[], true).expect("it is sound").connect, Some(vec!["a:1".into()]));
    }
}
