//! The command line: one definition that the parser, the help, the shell and the completion scripts are made from.

use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use kv::{Level, Op, Request};

use crate::hint::Typed;
use crate::{bench, cluster, data, lab, parse, serve, sim, up};

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "capstan",
    version,
    max_term_width = 80,
    subcommand_required = true,
    arg_required_else_help = true
)]
#[command(about = "A distributed key-value store that tells what consistency you got", after_help = EXAMPLES)]
pub struct Cli {
    #[command(flatten)]
    pub connect: Connect,
    #[command(flatten)]
    pub options: Options,
    #[command(subcommand)]
    pub command: Command,
}

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
    #[arg(long, global = true, value_name = "NAME")]
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

    /// The request for an op.
    pub fn request(&self, op: Op) -> Request {
        let mut request = Request::new(op);
        request.level = self.level;
        request.timeout = self.timeout.unwrap_or(request.timeout);
        if let Some(keyspace) = &self.keyspace {
            request.keyspace.clone_from(keyspace);
        }
        request
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a cluster on this machine, and a shell on it
    Up(up::Args),
    /// Run one node
    Serve(serve::Args),
    /// Type commands at a prompt, or read them from standard input
    #[command(after_help = "\
Examples:
  capstan shell                                   a prompt; help tells more
  capstan shell --connect 10.0.0.1:7401,10.0.0.2:7401
  printf 'put a 1\\nget a\\n' | capstan shell       a script")]
    Shell,
    #[command(flatten)]
    Data(data::Command),
    /// Ask how the cluster is
    #[command(subcommand)]
    Cluster(cluster::Command),
    /// Run whole clusters from a seed, with everything going wrong
    Sim(sim::Args),
    /// Judge what was observed of a store
    #[command(subcommand)]
    Lab(lab::Command),
    /// Measure the store under load
    Bench(bench::Args),
    /// Print a completion script for a shell
    #[command(after_help = "\
Examples:
  source <(capstan completions bash)
  capstan completions zsh > ~/.zfunc/_capstan
  capstan completions fish > ~/.config/fish/completions/capstan.fish")]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

const EXAMPLES: &str = "\
Examples:
  capstan up                          three nodes on this machine, and a shell
  capstan put greeting hello          prints the version of the write
  capstan get greeting                prints hello
  capstan range user: --prefix        all keys that begin with user:
  capstan cluster status              who lives, who leads
  capstan help cas                    every command explains itself

Exit codes: 0 done, 1 not found or condition not met, 2 usage, invalid or too
large, 3 unavailable, 4 in doubt (it may have happened).
A KEY has the escapes that are printed: \\\\ \\t \\n \\r \\xHH; values have none.";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_examples() {
        fn check(command: &clap::Command) {
            let inner: Vec<_> = command.get_subcommands().filter(|c| c.get_name() != "help").collect();
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(
                after.contains("Examples:") || !inner.is_empty(),
                "{} has no examples",
                command.get_name()
            );
            inner.into_iter().for_each(check);
        }
        check(&Cli::command());
    }

    #[test]
    fn help_fits_80_columns() {
        fn check(mut command: clap::Command) {
            for line in command.render_long_help().to_string().lines() {
                assert!(line.chars().count() <= 80, "{}: {line}", command.get_name());
            }
            command.get_subcommands().cloned().for_each(check);
        }
        check(Cli::command());
    }

    #[test]
    fn global_options_work_before_and_after_the_command() {
        let before = Cli::parse_from(["capstan", "--json", "--connect", "a:1,b:2", "get", "k"]);
        let after = Cli::parse_from(["capstan", "get", "k", "--json", "--connect", "a:1,b:2"]);
        for cli in [before, after] {
            assert!(cli.options.json);
            assert_eq!(cli.connect.addresses, ["a:1", "b:2"]);
        }
    }

    #[test]
    fn options_of_a_line_win_over_those_of_the_shell() {
        let base = Options { keyspace: Some("a".into()), json: true, ..Options::default() };
        let line = Options { keyspace: Some("b".into()), ..Options::default() };
        let both = line.or(&base);
        assert_eq!((both.keyspace.as_deref(), both.json), (Some("b"), true));
    }
}
