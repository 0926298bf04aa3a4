//! A client of a central server: it is told which pair server has a key, and asks that one.

use std::io;
use std::sync::Arc;

use super::line::{self, Line};
use super::run::{self, Step};
use super::servers::{self, Central, Pair};
use crate::connect;
use crate::exit::{Code, Error};
use crate::print::Output;

/// Pair servers to which connections are kept: more than most directories have, and few enough for a process' open files.
const KEPT_MAX: usize = 64;

/// Runs the lines of standard input at the central server at HOST:PORT and at those that it names.
pub fn run(address: &str, out: &mut Output<'_>) -> Result<Code, Error> {
    let runtime = connect::background_runtime();
    let central = runtime.block_on(async { servers::central(address) })?;
    let mut pairs = Pairs::new(servers::pair);
    let step = &mut |line: &[u8]| runtime.block_on(step(line, &*central, &mut pairs));
    run::run(&mut io::stdin().lock(), out, step)
}

/// Connects to a pair server, or says why its address is none.
type Connect = fn(&str) -> Result<Arc<dyn Pair>, kv::Error>;

/// The pair servers that were asked last, each with its connection.
struct Pairs {
    connect: Connect,
    /// The one that was asked last is the last.
    kept: Vec<(String, Arc<dyn Pair>)>,
}

impl Pairs {
    fn new(connect: Connect) -> Pairs {
        Pairs { connect, kept: Vec::new() }
    }

    /// The server at an address. When there are too many, the one goes that was not asked for longest.
    fn at(&mut self, address: &str) -> Result<Arc<dyn Pair>, kv::Error> {
        let known = self.kept.iter().position(|(kept, _)| kept == address);
        let entry = match known {
            Some(index) => self.kept.remove(index),
            None => (address.to_owned(), (self.connect)(address)?),
        };
        if self.kept.len() == KEPT_MAX {
            self.kept.remove(0);
        }
        let server = entry.1.clone();
        self.kept.push(entry);
        Ok(server)
    }
}

/// Does what a line asks for.
async fn step(line: &[u8], central: &dyn Central, pairs: &mut Pairs) -> Step {
    match line::central(line) {
        Line::Consult(key) => match central.map(key).await {
            Ok(address) if address.is_empty() => Step::Silent,
            Ok(address) => consult(key, &address, pairs).await,
            Err(error) => Step::unread(error),
        },
        Line::Terminate => match central.terminate().await {
            Ok(keys) => Step::Last(keys.to_string()),
            Err(error) => Step::failed(error),
        },
        Line::Wrong(why) => Step::Failed { code: Code::Usage, why },
        Line::Insert(..) | Line::Activate(_) | Line::Ignored => Step::Silent,
    }
}

/// Asks the server that a key is mapped to.
async fn consult(key: i32, address: &str, pairs: &mut Pairs) -> Step {
    let asked = match pairs.at(address) {
        Ok(server) => server.consult(key).await,
        Err(error) => Err(error),
    };
    match asked {
        Ok(text) => Step::Answered(format!("{address}:{text}")),
        Err(error) => Step::Failed {
            code: Code::Unavailable,
            why: format!("key {key} is mapped to {address}, which does not answer: {error}"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classic::fake::Fake;

    /// Servers whose addresses say how they are.
    fn connect_fake(address: &str) -> Result<Arc<dyn Pair>, kv::Error> {
        match address {
            "gone:1" => Ok(Arc::new(Fake::away("connection refused"))),
            "none" => Err(kv::Error::Invalid("it is no HOST:PORT".into())),
            address => Ok(Arc::new(Fake::of(&[(5, &format!("five at {address}")), (6, "")]))),
        }
    }

    fn check(central: &Fake, line: &str, expect: Step) {
        let mut pairs = Pairs::new(connect_fake);
        let found = connect::runtime().block_on(step(line.as_bytes(), central, &mut pairs));
        assert_eq!(found, expect, "{line}");
    }

    #[test]
    fn text_is_printed_behind_the_server_that_has_it() {
        let central = Fake::of(&[(5, "a:1"), (6, "a:1"), (7, "a:1")]);
        check(&central, "C,5", Step::Answered("a:1:five at a:1".into()));
        for key in [6, 7] {
            check(&central, &format!("C,{key}"), Step::Answered("a:1:".into()));
        }
    }

    #[test]
    fn key_that_is_not_mapped_prints_nothing() {
        check(&Fake::default(), "C,5", Step::Silent);
    }

    #[test]
    fn termination_says_how_many_keys_were_mapped() {
        check(&Fake::of(&[(5, "a:1"), (6, "b:1")]), "T", Step::Last("2".into()));
    }

    #[test]
    fn mapped_server_that_is_gone_fails_its_line_alone() {
        let central = Fake::of(&[(1, "gone:1"), (2, "none"), (5, "a:1")]);
        for (line, why) in [
            ("C,1", "key 1 is mapped to gone:1, which does not answer: connection refused"),
            ("C,2", "key 2 is mapped to none, which does not answer: it is no HOST:PORT"),
        ] {
            check(&central, line, Step::Failed { code: Code::Unavailable, why: why.into() });
        }
        check(&central, "C,5", Step::Answered("a:1:five at a:1".into()));
    }

    #[test]
    fn central_server_that_is_gone_ends_the_program() {
        let central = Fake::away("gone");
        for line in ["C,5", "T"] {
            check(&central, line, Step::Gone(kv::Error::Unavailable("gone".into())));
        }
        check(&central, "I,5,x", Step::Silent);
        check(&central, "A,h:1", Step::Silent);
        let central = Fake::failing(kv::Error::InDoubt("lost".into()));
        check(&central, "C,5", Step::Gone(kv::Error::Unavailable("lost".into())));
        check(&central, "T", Step::Gone(kv::Error::InDoubt("lost".into())));
    }

    #[test]
    fn connections_are_kept_to_the_servers_that_were_asked_last() {
        let mut pairs = Pairs::new(connect_fake);
        let mut at = |index: usize| pairs.at(&format!("s{index}:1")).unwrap();
        let first = at(0);
        let second = at(1);
        for index in 0..KEPT_MAX {
            at(index);
        }
        assert!(Arc::ptr_eq(&first, &at(0)) && Arc::ptr_eq(&second, &at(1)), "all of them fit");
        at(KEPT_MAX);
        assert!(Arc::ptr_eq(&first, &at(0)) && Arc::ptr_eq(&second, &at(1)), "they were asked since");
        assert_eq!(pairs.kept.len(), KEPT_MAX);
        assert!(!pairs.kept.iter().any(|(address, _)| address == "s2:1"), "it was not asked for longest");
    }
}
