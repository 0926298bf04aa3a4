//! The shell: the commands of the command line, at a prompt or from standard input.
//!
//! A line is split as in [`crate::words`] and parsed by the same definition as the command line. Wrong usage gives a
//! hint; nothing but `quit` and the end of the input ends the shell. At a prompt Ctrl-C gives up a command that runs.
//! Without a terminal it prints answers only, and ends with the exit code of the last command that failed.

pub mod complete;
mod help;
pub mod line;
mod prompt;

use std::io::{self, BufRead, BufWriter, IsTerminal};
use std::sync::Arc;

use tokio::runtime::Handle;

use crate::args::Options;
use crate::connect::{self, Store};
use crate::exit::{Code, Error};
use crate::print::Output;
use crate::{cluster, data, words};
use line::{Command, Line};

pub use prompt::{Prompt, run_prompt};

/// Runs `capstan shell`.
pub fn run(addresses: &[String], options: &Options) -> Result<Code, Error> {
    let runtime = connect::background_runtime();
    let shell = Shell::new(addresses, options, runtime)?;
    if io::stdin().is_terminal() {
        return run_prompt(&shell, Prompt::default());
    }
    let stdout = io::stdout();
    let terminal = stdout.is_terminal();
    let mut out = BufWriter::new(stdout.lock());
    let mut out = Output { out: &mut out, err: &mut io::stderr(), terminal, json: options.json };
    run_script(&shell, &mut io::stdin().lock(), &mut out)
}

/// Runs lines to their end.
fn run_script(shell: &Shell, lines: &mut dyn BufRead, out: &mut Output<'_>) -> Result<Code, Error> {
    let mut last = Code::Done;
    for line in lines.lines() {
        let line = line.map_err(|error| Error::Usage(format!("reading commands: {error}")))?;
        match shell.execute(&line, out)? {
            Outcome::Quit => break,
            Outcome::Ran(Code::Done) => {}
            Outcome::Ran(code) => last = code,
        }
    }
    Ok(last)
}

/// What a line did.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// It ended like this.
    Ran(Code),
    /// It asked to leave.
    Quit,
}

/// Runs lines against one store.
pub struct Shell {
    store: Arc<dyn Store>,
    runtime: Handle,
    options: Options,
}

impl Shell {
    /// A shell on the store at these addresses. The runtime is driven by another thread.
    pub fn new(addresses: &[String], options: &Options, runtime: Handle) -> Result<Shell, Error> {
        let inside = runtime.enter();
        let store = connect::store(addresses, 1)?;
        drop(inside);
        Ok(Shell { store, runtime, options: options.clone() })
    }

    /// Runs a line. An error is one of the output: those of the command are printed.
    fn execute(&self, line: &str, out: &mut Output<'_>) -> Result<Outcome, Error> {
        out.json = self.options.json;
        let outcome = match self.parse(line, out) {
            Ok(None) => return Ok(Outcome::Ran(Code::Done)),
            Ok(Some(Line { command: Command::Quit, .. })) => return Ok(Outcome::Quit),
            Ok(Some(line)) => self.command(line, out),
            Err(error) => Err(error),
        };
        let code = match outcome {
            Ok(code) => code,
            Err(Error::Output(error)) => return Err(error.into()),
            Err(error) => {
                out.note(&format!("error: {error}"))?;
                error.code()
            }
        };
        out.out.flush()?;
        Ok(Outcome::Ran(code))
    }

    /// The command of a line; none in an empty one, or when all it wants is to be told about itself.
    fn parse(&self, line: &str, out: &mut Output<'_>) -> Result<Option<Line>, Error> {
        let words = words::split(line).map_err(Error::Usage)?;
        if words.is_empty() {
            return Ok(None);
        }
        match line::parse(words) {
            Ok(line) => Ok(Some(line)),
            Err(line::Refusal::Wrong(text)) => Err(Error::Usage(text)),
            Err(line::Refusal::Help(text)) => {
                out.line(&text)?;
                Ok(None)
            }
        }
    }

    fn command(&self, line: Line, out: &mut Output<'_>) -> Result<Code, Error> {
        let options = line.options.or(&self.options);
        out.json = options.json;
        let run = async {
            match &line.command {
                Command::Data(command) => data::run(command, &*self.store, &options, None, out).await,
                Command::Cluster(command) => cluster::run(command, &*self.store, out).await,
                Command::Status => cluster::run(&cluster::Command::Status, &*self.store, out).await,
                Command::Nodes => {
                    cluster::print_nodes(&self.store.status().await?, out)?;
                    Ok(Code::Done)
                }
                Command::Dump => data::dump(&*self.store, &options, out).await,
                Command::Help { command } => help::print(command.as_deref(), out),
                Command::Quit => Ok(Code::Done),
            }
        };
        self.runtime.block_on(async {
            tokio::select! {
                result = run => result,
                () = interrupted() => Err(Error::Store(kv::Error::InDoubt("given up with Ctrl-C".into()))),
            }
        })
    }
}

/// Waits for Ctrl-C at a prompt. A script dies from it, as every program does.
async fn interrupted() {
    if !io::stdin().is_terminal() || tokio::signal::ctrl_c().await.is_err() {
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Fake;

    fn check(input: &str, expect_out: &str, expect_code: Code) {
        let runtime = connect::runtime();
        let store = Arc::new(Fake::default());
        let shell = Shell { store, runtime: runtime.handle().clone(), options: Options::default() };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut output = Output { out: &mut out, err: &mut err, terminal: false, json: false };
        let code = run_script(&shell, &mut input.as_bytes(), &mut output).expect("a buffer takes everything");
        let err = String::from_utf8_lossy(&err).into_owned();
        assert_eq!((String::from_utf8_lossy(&out).as_ref(), code), (expect_out, expect_code), "{err}");
    }

    #[test]
    fn script_prints_answers_only() {
        check("put a 'x y'\n\n# a comment\nget a\n", "1\nx y\n", Code::Done);
    }

    #[test]
    fn script_goes_on_after_a_failure_and_ends_with_its_code() {
        check("get nothing\nput a 1\nget a\n", "1\n1\n", Code::NotMet);
        check("get nothing\nfrobnicate\nput a 1\n", "1\n", Code::Usage);
        check("get 'open\nput a 1\n", "1\n", Code::Usage);
    }

    #[test]
    fn script_ends_at_quit_and_its_other_names() {
        for quit in ["quit", "exit", "x", "q"] {
            check(&format!("put a 1\n{quit}\nput a 2\n"), "1\n", Code::Done);
        }
    }

    #[test]
    fn script_dump_prints_all_rows() {
        check("putall a 1 b 2\ndump\n", "a\t1\nb\t1\na\t1\nb\t2\n", Code::Done);
    }

    #[test]
    fn script_dash_is_refused_since_it_would_eat_the_commands() {
        check("put a -\nput a 1\n", "1\n", Code::Usage);
    }

    #[test]
    fn script_options_hold_for_their_line() {
        check(
            "put a 1\nget a --json\nget a\n",
            "1\n{\"found\":true,\"key\":\"a\",\"value\":\"1\",\"version\":\"1\"}\n1\n",
            Code::Done,
        );
    }
}
