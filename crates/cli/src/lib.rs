//! The program `capstan`: every command of the house. The binary is [`main`] and an allocator.
//!
//! It parses ([`args`], [`options`]), asks ([`connect`]), prints ([`print`], [`answer`]) and supervises ([`up`]); it
//! decides nothing about data. Data goes to standard output and all else to standard error; the exit code ([`exit`])
//! tells scripts how it went. [`args`] knows the commands; what they share ([`options`]) knows none of them.
//!
//! # Caveats
//!
//! A command that reports `in doubt` may have happened, even after it returned: read before you repeat a write that is
//! no plain put.

mod answer;
mod args;
mod bench;
mod classic;
mod cluster;
mod connect;
mod data;
mod escape;
mod exit;
#[cfg(test)]
mod fake;
mod fault;
#[doc(hidden)]
pub mod fuzz;
mod hint;
mod keyspace;
mod lab;
mod lines;
mod options;
mod pace;
mod parse;
mod print;
mod serve;
mod shell;
mod sim;
mod up;
mod words;

use std::io::{self, BufWriter, IsTerminal, Read, Write};
use std::process::ExitCode;

use clap::CommandFactory;

use args::{Cli, Command};
use exit::{Code, Error};
use options::Connect;
use print::Output;

/// Runs the command of the command line.
pub fn main() -> ExitCode {
    let cli = Cli::of_command_line();
    match run(cli) {
        Ok(code) => code.into(),
        Err(error) => {
            if !error.is_broken_pipe() {
                // Nobody is left to tell when this fails too.
                let _ = writeln!(io::stderr(), "error: {error}");
            }
            error.code().into()
        }
    }
}

fn run(cli: Cli) -> Result<Code, Error> {
    let Cli { connect, mut options, command } = cli;
    match command {
        Command::Up(args) => up::run(&args, &options),
        Command::Serve(args) => serve::run(*args),
        Command::Shell => shell::run(&connect.addresses, &options),
        Command::Bench(args) => with_output(options.json, |out| bench::run(&args, &connect, &options, out)),
        Command::Sim(args) => with_output(options.json, |out| sim::run(&args, out)),
        Command::Lab(command) => with_output(options.json, |out| lab::run(&command, &connect, out)),
        Command::Classic(command) => with_output(options.json, |out| classic::run(command, out)),
        Command::Completions { shell } => completions(shell),
        Command::Data(command) => {
            let mut stdin = io::stdin().lock();
            let input = may_read(&command).then_some(&mut stdin as &mut dyn Read);
            options.typed = connect.typed();
            ask(&connect, options.json, async |store, out| {
                data::run(&command, store, &options, input, out).await
            })
        }
        Command::Keyspace(command) => ask(&connect, options.json, async |store, out| {
            keyspace::run(&command, store, &options, out).await
        }),
        Command::Fault(command) => {
            ask(&connect, options.json, async |store, out| fault::run(&command, store, &options, out).await)
        }
        Command::Cluster(command) => {
            ask(&connect, options.json, async |store, out| cluster::run(&command, store, &options, out).await)
        }
    }
}

/// Runs one command that asks the store.
fn ask(
    connect: &Connect,
    json: bool,
    command: impl AsyncFnOnce(&dyn connect::Store, &mut Output<'_>) -> Result<Code, Error>,
) -> Result<Code, Error> {
    let runtime = connect::runtime();
    with_output(json, |out| {
        runtime.block_on(async { command(&*connect::store(&connect.addresses, 1)?, out).await })
    })
}

fn with_output(
    json: bool,
    print: impl FnOnce(&mut Output<'_>) -> Result<Code, Error>,
) -> Result<Code, Error> {
    let stdout = io::stdout();
    let terminal = stdout.is_terminal();
    let mut out = BufWriter::new(stdout.lock());
    let mut out = Output { out: &mut out, err: &mut io::stderr(), terminal, json };
    let result = print(&mut out);
    out.end(result)
}

/// Rows are not read from a terminal by accident: a `putall` without any would seem to hang.
fn may_read(command: &data::Command) -> bool {
    !matches!(command, data::Command::PutAll { .. }) || !io::stdin().is_terminal()
}

fn completions(shell: clap_complete::Shell) -> Result<Code, Error> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "capstan", &mut script);
    io::stdout().write_all(&script)?;
    Ok(Code::Done)
}
