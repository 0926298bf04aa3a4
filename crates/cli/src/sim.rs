//! Deterministic simulation: whole clusters in this process, each from a seed, with everything going wrong.
//!
//! What is printed to standard output depends on nothing but the options: two runs print the same bytes. How fast it was
//! goes to standard error.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Instant;

use ::sim::{Fault, Faults, Outcome, SOMETIMES, Stats, Workload};
use kv::Protocol;
use serde_json::json;

use crate::exit::{Code, Error};
use crate::print::Output;

/// The options of `capstan sim`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  capstan sim                              one seed, every kind of fault
  capstan sim --seeds 1000                 a thousand seeds
  capstan sim --seed 42 --trace | less     what happens in that one
  capstan sim --seed 42 --history 42.jsonl what its clients saw
  capstan sim --seeds 100 --nodes 5 --workload batch
  capstan sim --seeds 100 --faults crash,partition,wipe
  capstan sim --seeds 100 --protocol single --faults power
  capstan sim --seeds 5000 --until-bad     the first seed that does not hold

The default mix: each seed picks its workload, protocol (mostly raft) and number
of nodes (mostly three) where no option does, and which kinds of faults happen
how often; settings from the size of a log's segment to the speed of the network
come from the seed in any case, and whether nodes join, leave and are drained.
A node whose machine is lost is replaced by another one.

Kinds of faults: crash power stop pause partition hold messages bulk clock slow
full eio flip wipe. Exit code 1: something did not hold; the seed and the
command that shows it again are printed. 3: what was seen holds, but the history
could not be written, or the output was closed before all seeds were run.")]
pub struct Args {
    /// The first seed
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// How many seeds
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub seeds: u64,
    /// How many nodes begin [default: the seed's, mostly 3]
    #[arg(long, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=NODES_MAX))]
    pub nodes: Option<u16>,
    /// How the replicas of keys agree: raft, primary (all in sync), two-phase (all copies) or single (one copy) [default: the seed's]
    #[arg(long, value_name = "P")]
    pub protocol: Option<Protocol>,
    /// What goes wrong: all, none or kinds
    #[arg(long, value_name = "LIST", default_value = "all")]
    pub faults: Faults,
    /// Requests of clients until the faults end
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub steps: u64,
    /// What the clients ask: register, kv, batch, appends or once [default: the seed's]
    #[arg(long, value_name = "W")]
    pub workload: Option<Workload>,
    /// Stop at the first seed that does not hold
    #[arg(long)]
    pub until_bad: bool,
    /// Print what happens: messages, faults, requests
    #[arg(long)]
    pub trace: bool,
    /// Write what the clients saw, for `lab check` (JSON lines; one seed)
    #[arg(long, value_name = "FILE")]
    pub history: Option<PathBuf>,
    /// Switch a defect on (of the test build: see scripts/mutants)
    #[cfg(feature = "mutants")]
    #[arg(long, value_name = "NAME")]
    pub mutant: Option<mutant::Mutant>,
    /// List the defects that --mutant switches on, and do nothing else
    #[cfg(feature = "mutants")]
    #[arg(long)]
    pub mutants: bool,
}

/// More nodes than this are no usual raft group.
const NODES_MAX: i64 = 9;

/// Fewer nodes than this keep no copies for each other.
const NODES_MIN: u16 = 2;

/// Runs `capstan sim`.
pub fn run(args: &Args, out: &mut Output<'_>) -> Result<Code, Error> {
    #[cfg(feature = "mutants")]
    if args.mutants {
        let rows = mutant::Mutant::all().map(|mutant| vec![mutant.to_string(), mutant.what().to_owned()]);
        out.table(&["MUTANT", "DEFECT"], &Vec::from_iter(rows))?;
        return Ok(Code::Done);
    }
    #[cfg(feature = "mutants")]
    mutant::choose(args.mutant);
    let mut history = history_file(args)?;
    let began = Instant::now();
    let (mut sum, mut run, mut bad, mut printed) = (Stats::default(), 0, 0, Ok(()));
    each_seed(args, &mut |seed, outcome| {
        run += 1;
        bad += u64::from(!outcome.violations.is_empty());
        sum.add(&outcome.stats);
        printed = tell(args, seed, &outcome, out);
        draw(seed, &outcome, out);
        if let Some(history) = &mut history {
            history.write(&outcome, out);
        }
        printed.is_ok() && (bad == 0 || !args.until_bad)
    });
    let code = if bad > 0 {
        Code::NotMet
    } else if run < args.seeds || history.is_some_and(|history| history.is_lost) {
        Code::Unavailable
    } else {
        Code::Done
    };
    out.told(code, |out| {
        if let Err(error) = printed {
            out.note(&format!("ended after {run} of {} seeds, {bad} of them with violations", args.seeds))?;
            return Err(error.into());
        }
        if args.seeds > 1 {
            tell_all(&sum, run, bad, out)?;
        }
        let seconds = began.elapsed().as_secs_f64();
        let simulated = sum.micros as f64 / 1e6;
        let (times, events) = (simulated / seconds, sum.events as f64 / seconds);
        let speed = format!("{times:.0} simulated seconds and {events:.0} events per second");
        Ok(out.note(&format!("{seconds:.1} s: {speed}"))?)
    })
}

/// Where the history of the one seed goes.
struct HistoryFile {
    path: PathBuf,
    file: BufWriter<File>,
    /// It could not be written.
    is_lost: bool,
}

impl HistoryFile {
    fn write(&mut self, outcome: &Outcome, out: &mut Output<'_>) {
        let HistoryFile { path, file, is_lost } = self;
        let written = check::history::json_lines::write(&outcome.history, file).and_then(|()| file.flush());
        if let Err(error) = written {
            *is_lost = true;
            // Fails only for the data before it, which is told by itself.
            let _ = out.note(&format!("error: writing the history to {}: {error}", path.display()));
        }
    }
}

/// Opened before the run, so that a wrong path is told at once.
fn history_file(args: &Args) -> Result<Option<HistoryFile>, Error> {
    let Some(path) = &args.history else { return Ok(None) };
    if args.seeds > 1 {
        return Err(Error::Usage("--history FILE is for one seed: leave out --seeds".into()));
    }
    let file = File::create(path)
        .map_err(|error| Error::Usage(format!("writing the history to {}: {error}", path.display())))?;
    Ok(Some(HistoryFile { path: path.clone(), file: BufWriter::new(file), is_lost: false }))
}

/// What no option says, the seed does.
fn options(args: &Args, seed: u64) -> ::sim::Options {
    let mix = ::sim::Options::new(seed);
    let protocol = args.protocol.unwrap_or(mix.protocol);
    let nodes = args.nodes.unwrap_or(match protocol {
        Protocol::Single => mix.nodes,
        // The seed has one only for the other protocol.
        Protocol::Raft | Protocol::Primary | Protocol::TwoPhase | Protocol::Quorum | Protocol::Broadcast => {
            mix.nodes.max(NODES_MIN)
        }
    });
    ::sim::Options {
        nodes,
        protocol,
        faults: args.faults.clone(),
        steps: args.steps,
        workload: args.workload.unwrap_or(mix.workload),
        trace: args.trace,
        ..mix
    }
}

/// Runs all seeds, as many at a time as there are cores, and gives their outcomes in order, for as long as they are wanted.
fn each_seed(args: &Args, take: &mut dyn FnMut(u64, Outcome) -> bool) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let next = AtomicU64::new(0);
    let done: Mutex<BTreeMap<u64, Outcome>> = Mutex::default();
    let more = Condvar::new();
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= args.seeds {
                return;
            }
            let outcome = ::sim::run(&options(args, args.seed.wrapping_add(index)));
            done.lock().expect("no holder of the outcomes panics").insert(index, outcome);
            more.notify_one();
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..cores.min(args.seeds) {
            scope.spawn(work);
        }
        for index in 0..args.seeds {
            let mut outcomes = done.lock().expect("no holder of the outcomes panics");
            let outcome = loop {
                match outcomes.remove(&index) {
                    Some(outcome) => break outcome,
                    None => outcomes = more.wait(outcomes).expect("no holder of the outcomes panics"),
                }
            };
            drop(outcomes);
            if !take(args.seed.wrapping_add(index), outcome) {
                // No further seed is begun.
                next.store(args.seeds, Ordering::Relaxed);
                return;
            }
        }
    });
}

/// Prints what became of a seed, to the end: when nobody takes it, no more is begun.
fn tell(args: &Args, seed: u64, outcome: &Outcome, out: &mut Output<'_>) -> std::io::Result<()> {
    outcome.trace.iter().try_for_each(|line| out.line(line))?;
    tell_outcome(args, seed, outcome, out)?;
    out.out.flush()
}

fn tell_outcome(args: &Args, seed: u64, outcome: &Outcome, out: &mut Output<'_>) -> std::io::Result<()> {
    let Stats { micros, asked, done, failed, in_doubt, undecided, .. } = outcome.stats;
    let again = again(args, seed);
    let ::sim::Options { workload, nodes, .. } = options(args, seed);
    let workload = workload.name();
    if out.json {
        return out.object(&json!({
            "seed": seed, "violations": outcome.violations, "again": again, "micros": micros, "asked": asked,
            "done": done, "failed": failed, "in_doubt": in_doubt, "undecided": undecided > 0, "faults": outcome.stats.faults,
            "sometimes": outcome.stats.sometimes,
        }));
    }
    if outcome.violations.is_empty() {
        let seconds = micros as f64 / 1e6;
        // The invariants held; whether the history is linearizable was not found out.
        let word = if undecided > 0 { "undecided" } else { "ok" };
        return out.line(&format!(
            "seed {seed}  {word}  {workload} on {nodes}, {seconds:.1} s, {done} done, {failed} failed, {in_doubt} in doubt"
        ));
    }
    for violation in &outcome.violations {
        out.line(&format!("seed {seed}  VIOLATION  {violation}"))?;
    }
    out.line(&format!("again: {again}"))
}

/// Draws what proves a violation of the history, for people.
fn draw(seed: u64, outcome: &Outcome, out: &mut Output<'_>) {
    let Some(window) = &outcome.window else { return };
    let file = format!("capstan-sim-{seed}.html");
    let told = match std::fs::write(&file, check::html::render(window)) {
        Ok(()) => format!("a picture of it is in {file}"),
        Err(error) => format!("error: drawing it in {file}: {error}"),
    };
    // Fails only for the data before it, which is told by itself.
    let _ = out.note(&told);
}

/// The command that shows a seed again.
fn again(args: &Args, seed: u64) -> String {
    let ::sim::Options { nodes, protocol, faults, steps, workload, .. } = options(args, seed);
    let workload = workload.name();
    let shape = format!(
        "--nodes {nodes} --protocol {protocol} --faults {faults} --steps {steps} --workload {workload}"
    );
    #[cfg(feature = "mutants")]
    let shape = args.mutant.map_or(shape.clone(), |mutant| format!("{shape} --mutant {mutant}"));
    format!("capstan sim --seed {seed} {shape} --trace")
}

fn tell_all(sum: &Stats, seeds: u64, bad: u64, out: &mut Output<'_>) -> std::io::Result<()> {
    let Stats { micros, turns, frames, starts, asked, done, failed, in_doubt, undecided, .. } = sum;
    let seen = |what: &str| sum.sometimes.get(what).copied().unwrap_or(0);
    if out.json {
        return out.object(&json!({
            "seeds": seeds, "bad": bad, "micros": micros, "turns": turns, "frames": frames, "starts": starts,
            "asked": asked, "done": done, "failed": failed, "in_doubt": in_doubt, "undecided": undecided,
            "faults": sum.faults, "sometimes": SOMETIMES.iter().map(|what| (*what, seen(what))).collect::<BTreeMap<_, _>>(),
        }));
    }
    let mut rows = Vec::new();
    let mut row = |what: &str, count: String| rows.push(vec![count, what.to_owned()]);
    row("simulated seconds", (micros / 1_000_000).to_string());
    row("requests done", done.to_string());
    row("requests failed", failed.to_string());
    row("requests in doubt", in_doubt.to_string());
    row("frames between nodes", frames.to_string());
    row("starts of nodes", starts.to_string());
    row("histories too hard to judge", undecided.to_string());
    for fault in Faults::all().kinds().map(Fault::name) {
        row(&format!("fault {fault}"), sum.faults.get(fault).copied().unwrap_or(0).to_string());
    }
    SOMETIMES.iter().for_each(|what| row(what, seen(what).to_string()));
    let unseen = SOMETIMES.iter().filter(|what| seen(what) == 0).count();
    out.line("")?;
    out.table(&["COUNT", "WHAT"], &rows)?;
    out.line("")?;
    if unseen > 0 {
        out.line(&format!("{unseen} things that must happen sometimes were never seen"))?;
    }
    out.line(&format!("{seeds} seeds, {bad} of them with violations"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn printed(words: &[&str], json: bool) -> (Code, String) {
        let args = Line::try_parse_from(["sim"].iter().chain(words)).unwrap().args;
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = run(&args, &mut Output { out: &mut out, err: &mut err, terminal: false, json }).unwrap();
        (code, String::from_utf8(out).unwrap())
    }

    #[test]
    fn sim_prints_a_line_a_seed_and_a_summary_and_the_same_twice() {
        let words = ["--seed", "7", "--seeds", "3", "--steps", "40"];
        let (code, out) = printed(&words, false);
        assert_eq!(code, Code::Done, "{out}");
        assert_eq!(out.lines().filter(|line| line.starts_with("seed ")).count(), 3, "{out}");
        assert!(out.ends_with("3 seeds, 0 of them with violations\n"), "{out}");
        assert!(out.lines().all(|line| line.chars().count() <= 80), "{out}");
        assert_eq!(printed(&words, false).1, out);
    }

    #[test]
    fn sim_of_single_is_on_as_many_nodes_as_it_is_told() {
        let (_, out) = printed(&["--protocol", "single", "--nodes", "2", "--steps", "10"], false);
        assert!(out.contains(" on 2, "), "{out}");
        assert!(Line::try_parse_from(["sim", "--seeds", "0"]).is_err());
    }

    #[test]
    fn sim_result_stands_when_its_output_is_closed_and_ends_early() {
        for (seeds, code) in [("1", Code::Done), ("3", Code::Unavailable)] {
            let words = ["sim", "--steps", "10", "--trace", "--seeds", seeds];
            let args = Line::try_parse_from(words).unwrap().args;
            let (mut out, mut err) = (crate::fake::Closed(std::io::ErrorKind::BrokenPipe), Vec::new());
            let result =
                run(&args, &mut Output { out: &mut out, err: &mut err, terminal: false, json: false });
            assert_eq!(result.unwrap_err().code(), code);
            let err = String::from_utf8(err).unwrap();
            assert_eq!(err, format!("ended after 1 of {seeds} seeds, 0 of them with violations\n"));
        }
    }

    #[test]
    fn sim_history_that_cannot_be_written_is_told_after_the_run() {
        let args = Line::try_parse_from(["sim", "--steps", "10", "--history", "/dev/full"]).unwrap().args;
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = run(&args, &mut Output { out: &mut out, err: &mut err, terminal: false, json: false });
        assert_eq!(code.unwrap(), Code::Unavailable);
        assert!(String::from_utf8(out).unwrap().starts_with("seed 1  ok"));
        let err = String::from_utf8(err).unwrap();
        assert!(err.starts_with("error: writing the history to /dev/full: "), "{err}");
    }

    #[test]
    fn sim_trace_tells_messages_and_requests() {
        let (_, out) = printed(&["--nodes", "3", "--steps", "10", "--faults", "none", "--trace"], false);
        for part in ["1 -> 2", "connected", "client 0 asks", "client 0 learns"] {
            assert!(out.contains(part), "no '{part}' in the trace");
        }
    }

    #[test]
    fn sim_tells_the_command_that_shows_a_seed_again() {
        let args =
            Line::try_parse_from(["sim", "--faults", "crash,wipe", "--nodes", "5", "--workload", "kv"])
                .unwrap()
                .args;
        let again = again(&args, 9);
        let expected = "capstan sim --seed 9 --nodes 5 --protocol raft --faults crash,wipe --steps 1000 --workload kv --trace";
        assert_eq!(again, expected);
        assert!(Line::try_parse_from(["sim", "--faults", "coffee"]).is_err());
    }
}
