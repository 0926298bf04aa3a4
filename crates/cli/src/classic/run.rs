//! Runs the lines of an input one after the other, prints a line for each that has an answer, and says what was not done.
//!
//! An answer is written out before the next line is read: who types sees it, and a program behind a pipe may answer to it. What
//! is wrong with one line is said with its number, and the next line is run. Where nothing more can be done the program ends at
//! once, and says from which line on nothing was done.

use std::io::{self, BufRead};

use crate::answer::worse;
use crate::exit::{self, Code, Error};
use crate::lines::{self, Line, Lines};
use crate::print::Output;

/// What a line came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing to say.
    Silent,
    /// This is the answer.
    Answered(String),
    /// This is the answer, and the server has ended.
    Last(String),
    /// It was not done, or it may not have been, as the code says; the next line may be.
    Failed {
        /// What that means for the exit code.
        code: Code,
        /// Why.
        why: String,
    },
    /// The server cannot be asked, so that no other line can be done either.
    Gone(kv::Error),
}

impl Step {
    /// What an error of the client's own server comes to.
    pub fn failed(error: kv::Error) -> Step {
        match error {
            kv::Error::Unavailable(_) | kv::Error::WrongNode { .. } | kv::Error::InDoubt(_) => {
                Step::Gone(error)
            }
            error => Step::skipped(&error),
        }
    }

    /// What an error of a read at the client's own server comes to. A read changes nothing that could be in doubt.
    pub fn unread(error: kv::Error) -> Step {
        match error {
            kv::Error::InDoubt(why) => Step::Gone(kv::Error::Unavailable(why)),
            error => Step::failed(error),
        }
    }

    /// What an error comes to that says nothing about the next line.
    pub fn skipped(error: &kv::Error) -> Step {
        Step::Failed { code: exit::code_of(error), why: error.to_string() }
    }
}

/// Runs all lines; `step` does what one line asks for. Ends with the worst code of a line.
pub fn run(
    input: &mut dyn BufRead,
    out: &mut Output<'_>,
    step: &mut dyn FnMut(&[u8]) -> Step,
) -> Result<Code, Error> {
    let (mut lines, mut worst) = (Lines::new(input), Code::Done);
    loop {
        let read = lines.next();
        let number = lines.number();
        let step = match read {
            Ok(Some(Line::Whole(line))) => step(&line),
            Ok(Some(Line::TooLong)) => Step::Failed { code: Code::Usage, why: lines::too_long() },
            Ok(None) => return Ok(worst),
            Err(error) => {
                let next = number + 1;
                return Err(Error::Usage(format!("reading line {next} of standard input: {error}")));
            }
        };
        match step {
            Step::Silent => {}
            Step::Answered(answer) => print(&answer, out).map_err(|error| Error::Untold {
                code: worse(worst, Code::Unavailable),
                error: io::Error::new(
                    error.kind(),
                    format!("{error}; nothing behind line {number} was done"),
                ),
            })?,
            Step::Last(answer) => {
                print(&answer, out).map_err(|error| Error::Untold { code: worst, error })?;
                return Ok(worst);
            }
            Step::Failed { code, why } => {
                worst = worse(worst, code);
                out.note(&format!("error: line {number}: {why}"))?;
            }
            Step::Gone(error) => {
                out.note(&format!("error: {}: {error}", undone(number, &error)))?;
                return Ok(worse(worst, exit::code_of(&error)));
            }
        }
    }
}

fn print(answer: &str, out: &mut Output<'_>) -> io::Result<()> {
    out.value(answer.as_bytes())?;
    out.out.flush()
}

/// Which lines were not done when the server was gone at this one.
fn undone(number: u64, error: &kv::Error) -> String {
    match error.outcome() {
        kv::Outcome::Failed => format!("nothing was done from line {number} on"),
        kv::Outcome::InDoubt => {
            format!("line {number} is in doubt, and nothing was done from line {} on", number + 1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a line of the tests asks for is what it comes to.
    fn step(line: &[u8]) -> Step {
        let text = || String::from_utf8_lossy(line).into_owned();
        match line {
            b"" => Step::Silent,
            b"wrong" => Step::Failed { code: Code::Usage, why: text() },
            b"away" => Step::skipped(&kv::Error::Unavailable(text())),
            b"gone" => Step::failed(kv::Error::Unavailable(text())),
            b"doubt" => Step::failed(kv::Error::InDoubt(text())),
            b"large" => Step::failed(kv::Error::TooLarge { what: text(), size: 2, limit: 1 }),
            b"end" => Step::Last(text()),
            _ => Step::Answered(text()),
        }
    }

    fn check(input: &[u8], expect_out: &str, expect_err: &str, expect: Code) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut output = Output { out: &mut out, err: &mut err, terminal: false, json: false };
        let code = run(&mut &input[..], &mut output, &mut step).expect("a buffer takes everything");
        let text = |bytes| String::from_utf8(bytes).unwrap();
        assert_eq!((text(out), text(err), code), (expect_out.into(), expect_err.into(), expect));
    }

    #[test]
    fn answers_are_printed_line_by_line() {
        check(b"", "", "", Code::Done);
        check(b"a\n\nb", "a\nb\n", "", Code::Done);
    }

    #[test]
    fn line_that_is_wrong_is_said_with_its_number_and_the_next_is_run() {
        check(b"a\n\nwrong\nb\n", "a\nb\n", "error: line 3: wrong\n", Code::Usage);
        check(
            b"large\nb\n",
            "b\n",
            "error: line 1: large is too large: 2, and the limit is 1\n",
            Code::Usage,
        );
    }

    #[test]
    fn worst_line_gives_the_exit_code() {
        check(b"away\nwrong\n", "", "error: line 1: away\nerror: line 2: wrong\n", Code::Unavailable);
        check(
            b"wrong\naway\nend\n",
            "end\n",
            "error: line 1: wrong\nerror: line 2: away\n",
            Code::Unavailable,
        );
    }

    #[test]
    fn server_that_is_gone_ends_the_program() {
        check(b"a\ngone\nb\n", "a\n", "error: nothing was done from line 2 on: gone\n", Code::Unavailable);
        check(
            b"wrong\ndoubt\nb\n",
            "",
            "error: line 1: wrong\nerror: line 2 is in doubt, and nothing was done from line 3 on: doubt\n",
            Code::InDoubt,
        );
    }

    #[test]
    fn nothing_is_read_behind_the_last_line() {
        let mut input = &b"a\nend\nb\n"[..];
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut output = Output { out: &mut out, err: &mut err, terminal: false, json: false };
        assert_eq!(run(&mut input, &mut output, &mut step).unwrap(), Code::Done);
        assert_eq!((out.as_slice(), input), (&b"a\nend\n"[..], &b"b\n"[..]));
    }

    #[test]
    fn line_without_an_end_is_skipped() {
        let mut input = vec![b'x'; lines::LINE_BYTES_MAX + 5];
        input.extend(b"\nb\n");
        let expect = format!("error: line 1: {}\n", lines::too_long());
        check(&input, "b\n", &expect, Code::Usage);
    }

    #[test]
    fn answer_is_written_out_before_the_next_line_is_read() {
        /// Gives the next line when what is printed so far is written out.
        struct Typist<'a>(std::vec::IntoIter<&'a str>, &'a std::cell::RefCell<Vec<u8>>);
        impl io::Read for Typist<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let Some(line) = self.0.next() else { return Ok(0) };
                let printed = self.1.borrow();
                assert!(printed.is_empty() || printed.ends_with(b"\n"), "{}", printed.escape_ascii());
                assert_eq!(printed.iter().filter(|byte| **byte == b'\n').count(), 2 - self.0.len());
                buffer[..line.len()].copy_from_slice(line.as_bytes());
                Ok(line.len())
            }
        }
        struct Screen<'a>(&'a std::cell::RefCell<Vec<u8>>);
        impl io::Write for Screen<'_> {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.borrow_mut().write(bytes)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let printed = std::cell::RefCell::default();
        let mut input = io::BufReader::new(Typist(vec!["a\n", "b\n", "c\n"].into_iter(), &printed));
        let (mut out, mut err) = (io::BufWriter::new(Screen(&printed)), Vec::new());
        let mut output = Output { out: &mut out, err: &mut err, terminal: true, json: false };
        run(&mut input, &mut output, &mut step).unwrap();
        assert_eq!(printed.borrow().as_slice(), b"a\nb\nc\n");
    }

    #[test]
    fn output_that_cannot_be_written_ends_the_program() {
        struct Full;
        impl io::Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let end = |mut input: &[u8]| {
            let mut output = Output { out: &mut Full, err: &mut Vec::new(), terminal: false, json: false };
            run(&mut input, &mut output, &mut step).unwrap_err()
        };
        let error = end(b"\na\nb\n");
        assert!(error.to_string().contains("nothing behind line 2 was done"), "{error}");
        assert_eq!(error.code(), Code::Unavailable);
        assert_eq!(end(b"end\n").code(), Code::Done);
    }
}
