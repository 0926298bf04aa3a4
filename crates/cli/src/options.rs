//! The options that every command has: where the store is, how it is asked, how answers are printed.

use std::time::Duration;

use clap::Args;
use kv::{Level, Op, Request};

use crate::parse;

/// Where the store is.
#[derive(Args, Clone, Debug)]
pub struct Connect {
    /// Nodes to connect to; one is enough, more survive the loss of one
    #[arg(
        long = "connect",
        global = true,
        env = "CAPSTAN_CONNECT",
        hide_env_values = true,
        default_value = ADDRESS
    )]
    #[arg(value_name = "HOST:PORT,..", value_delimiter = ',', value_parser = parse::address)]
    #[arg(help_heading = "Global options")]
    pub addresses: Vec<String>,
    /// They were typed, and are not from the environment or the usual ones.
    #[arg(skip)]
    pub is_typed: bool,
}

/// The first node of a cluster on this machine.
const ADDRESS: &str = "127.0.0.1:7401";

impl Connect {
    /// What a hint must say of it: nothing where that is what everybody has.
    pub fn typed(&self) -> Typed {
        Typed::Outside(Some(self.addresses.join(",")).filter(|addresses| addresses != ADDRESS))
    }
}

/// How requests are asked and answers printed; before or after the command.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Global options")]
pub struct Options {
    /// The keyspace [default: default]
    #[arg(long, global = true, value_name = "NAME", env = "CAPSTAN_KEYSPACE", hide_env_values = true)]
    pub keyspace: Option<String>,
    /// How fresh a read must be: linearizable, bounded(MS) or local
    #[arg(long, global = true, value_name = "LEVEL")]
    pub level: Option<Level>,
    /// How long to wait for an answer [default: 5s]
    #[arg(long, global = true, value_name = "DURATION", value_parser = parse::timeout)]
    pub timeout: Option<Duration>,
    /// Print one JSON object per result and line
    #[arg(long, global = true)]
    pub json: bool,
    /// Tell on standard error what consistency was reached
    #[arg(long, global = true)]
    pub receipt: bool,
    /// Where this was typed.
    #[arg(skip)]
    pub typed: Typed,
}

impl Options {
    /// These, and where they say nothing, those.
    pub fn or(self, base: &Options) -> Options {
        Options {
            keyspace: self.keyspace.or_else(|| base.keyspace.clone()),
            level: self.level.or(base.level),
            timeout: self.timeout.or(base.timeout),
            json: self.json || base.json,
            receipt: self.receipt || base.receipt,
            typed: self.typed,
        }
    }

    /// The keyspace.
    pub fn keyspace(&self) -> &str {
        self.keyspace.as_deref().unwrap_or(Request::KEYSPACE)
    }

    /// How long to wait for an answer.
    pub fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(Request::TIMEOUT)
    }

    /// The request for an op.
    pub fn request(&self, op: Op) -> Request {
        let mut request = Request::new(op);
        request.level = self.level;
        request.timeout = self.timeout();
        request.keyspace = self.keyspace().into();
        request
    }
}

/// Where commands are typed, hence where hints are pasted.
#[derive(Clone, Debug, Default)]
pub enum Typed {
    /// In the shell of this program, which knows its store.
    #[default]
    Inside,
    /// As arguments of this program, the addresses of its store among them where they are not the usual ones.
    Outside(Option<String>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_a_line_win_over_those_of_the_shell() {
        let base = Options { keyspace: Some("a".into()), json: true, ..Options::default() };
        let line = Options { keyspace: Some("b".into()), ..Options::default() };
        let both = line.or(&base);
        assert_eq!((both.keyspace.as_deref(), both.json), (Some("b"), true));
    }
}
