//! A client of one pair server: a line in, a line out.

use std::io;

use super::line::{self, Line};
use super::run::{self, Step};
use super::servers::{self, Pair};
use crate::connect;
use crate::exit::{Code, Error};
use crate::print::Output;

/// Runs the lines of standard input at the server at HOST:PORT.
pub fn run(address: &str, out: &mut Output<'_>) -> Result<Code, Error> {
    let runtime = connect::background_runtime();
    let server = runtime.block_on(async { servers::pair(address) })?;
    run::run(&mut io::stdin().lock(), out, &mut |line| runtime.block_on(step(line, &*server)))
}

/// Does what a line asks for.
async fn step(line: &[u8], server: &dyn Pair) -> Step {
    match line::pair(line) {
        Line::Insert(key, text) => match server.insert(key, text.into()).await {
            Ok(is_new) => Step::Answered(if is_new { "0" } else { "-1" }.into()),
            Err(error) => Step::failed(error),
        },
        Line::Consult(key) => server.consult(key).await.map_or_else(Step::unread, Step::Answered),
        Line::Activate(host) => match server.activate(host.into()).await {
            Ok(count) => Step::Answered(count.to_string()),
            // It may be the central server that is away. If it is the client's own, the next line says so.
            Err(error) => Step::skipped(&error),
        },
        Line::Terminate => match server.terminate().await {
            Ok(result) => Step::Last(result.to_string()),
            Err(error) => Step::failed(error),
        },
        Line::Ignored => Step::Silent,
        Line::Wrong(why) => Step::Failed { code: Code::Usage, why },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classic::fake::Fake;

    fn check(server: &Fake, line: &str, expect: Step) {
        assert_eq!(connect::runtime().block_on(step(line.as_bytes(), server)), expect, "{line}");
    }

    fn answers(server: &Fake, line: &str, expect: &str) {
        check(server, line, Step::Answered(expect.into()));
    }

    #[test]
    fn first_text_of_a_key_is_kept() {
        let server = Fake::default();
        answers(&server, "I,1,one, and more", "0");
        answers(&server, "I,1,other", "-1");
        answers(&server, "C,1", "one, and more");
        answers(&server, "I,2,", "0");
        answers(&server, "I,2,x", "-1");
    }

    #[test]
    fn key_without_a_text_is_an_empty_line() {
        answers(&Fake::default(), "C,-2147483648", "");
    }

    #[test]
    fn activation_says_how_many_keys_were_registered() {
        let server = Fake::default();
        answers(&server, "I,1,a", "0");
        answers(&server, "A,h:1", "1");
    }

    #[test]
    fn termination_is_the_last_line() {
        check(&Fake::default(), "T", Step::Last("0".into()));
    }

    #[test]
    fn line_that_is_no_command_asks_nothing() {
        let server = Fake::away("gone");
        check(&server, "X,1", Step::Silent);
        check(&server, "C,one", Step::Silent);
        assert!(matches!(
            connect::runtime().block_on(step(b"C,2147483648", &server)),
            Step::Failed { code: Code::Usage, .. }
        ));
    }

    #[test]
    fn server_that_is_gone_ends_all_but_an_activation() {
        let server = Fake::away("gone");
        for line in ["I,1,a", "C,1", "T"] {
            check(&server, line, Step::Gone(kv::Error::Unavailable("gone".into())));
        }
        check(&server, "A,h:1", Step::Failed { code: Code::Unavailable, why: "gone".into() });
    }

    #[test]
    fn only_what_changes_something_can_be_in_doubt() {
        let doubt = || kv::Error::InDoubt("lost".into());
        let server = Fake::failing(doubt());
        for line in ["I,1,a", "T"] {
            check(&server, line, Step::Gone(doubt()));
        }
        check(&server, "C,1", Step::Gone(kv::Error::Unavailable("lost".into())));
        check(&server, "A,h:1", Step::Failed { code: Code::InDoubt, why: "lost".into() });
    }
}
