//! The shell: the commands of the command line, at a prompt or from standard input.
//!
//! A line is split as in [`crate::words`] and parsed by the same definition as the command line. Wrong usage gives a
//! hint; nothing but `quit` and the end of the input ends the shell, whatever bytes a line holds and whether or not its
//! answer can be printed. At a prompt Ctrl-C gives up a command that runs. Without a terminal it prints answers only, and
//! ends with the exit code of the last command that failed.

pub mod complete;
mod help;
pub mod line;
mod prompt;
mod session;

use std::io::{self, BufRead, BufWriter, IsTerminal};
use std::sync::Arc;

use crate::connect;
use crate::exit::{Code, Error};
use crate::lines::{self, Line, Lines};
use crate::options::Options;
use crate::print::Output;
use session::{Outcome, tell};

pub use prompt::{Prompt, run_prompt};
pub use session::Shell;

/// Runs `capstan shell`.
pub fn run(addresses: &[String], options: &Options) -> Result<Code, Error> {
    let runtime = connect::background_runtime();
    let shell = Arc::new(Shell::connect(addresses, options, runtime)?);
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
    let (mut lines, mut last) = (Lines::new(lines), Code::Done);
    loop {
        let line = lines.next().map_err(|error| Error::Usage(format!("reading commands: {error}")))?;
        let outcome = match line {
            None => Outcome::Quit,
            Some(Line::Whole(line)) => shell.execute(&line, out),
            Some(Line::TooLong) => {
                let number = lines.number();
                let error = Error::Usage(format!("line {number} of standard input: {}", lines::too_long()));
                Outcome::Ran(tell(Err(error), out))
            }
        };
        match outcome {
            Outcome::Quit => return Ok(last),
            Outcome::Ran(Code::Done) => {}
            Outcome::Ran(code) => last = code,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::fake::Fake;

    fn check(input: impl AsRef<[u8]>, expect_out: &str, expect_code: Code) {
        let runtime = connect::runtime();
        let store = Arc::new(Fake::default());
        let shell = Shell::new(store, &Options::default(), runtime.handle().clone());
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut output = Output { out: &mut out, err: &mut err, terminal: false, json: false };
        let code = run_script(&shell, &mut input.as_ref(), &mut output).expect("a buffer takes everything");
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
    fn script_lines_that_are_no_text_are_run_like_others() {
        check(b"put a \xe9\nfrob \xff\nput \xff 3\nget '\\xff'\n", "1\n2\n3\n", Code::Usage);
    }

    #[test]
    fn script_line_that_is_too_long_is_told_and_the_next_is_run() {
        let long = format!("put a {}\nput b 1\n", "x".repeat(lines::LINE_BYTES_MAX));
        check(long, "1\n", Code::Usage);
    }

    #[test]
    fn script_goes_on_when_nobody_reads_its_answers() {
        let runtime = connect::runtime();
        let store = Arc::new(Fake::default());
        let shell = Shell::new(store.clone(), &Options::default(), runtime.handle().clone());
        let mut out = crate::fake::Closed(io::ErrorKind::BrokenPipe);
        let mut err = Vec::new();
        let mut output = Output { out: &mut out, err: &mut err, terminal: false, json: false };
        let mut script = &b"put a 1\nget a\nput b 1\nget c\nput d 1\n"[..];
        let code = run_script(&shell, &mut script, &mut output).expect("only reading can fail");
        assert_eq!((code, String::from_utf8_lossy(&err).as_ref()), (Code::NotMet, "not found: c\n"));
        let keys: Vec<_> = store.rows().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["a", "b", "d"]);
    }

    #[test]
    fn script_ends_at_quit_and_its_other_names() {
        for quit in ["quit", "exit", "x", "q"] {
            check(format!("put a 1\n{quit}\nput a 2\n"), "1\n", Code::Done);
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
