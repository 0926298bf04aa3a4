//! The command line: one definition that the parser, the help, the shell and the completion scripts are made from.

use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::options::{Connect, Options};
use crate::{bench, classic, cluster, data, fault, keyspace, lab, serve, sim, up};

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

impl Cli {
    /// What was typed. Ends the process where that is no command line, with what is wrong.
    pub fn of_command_line() -> Cli {
        Cli::of(&Cli::command().get_matches()).unwrap_or_else(|error| error.exit())
    }

    fn of(matches: &clap::ArgMatches) -> Result<Cli, clap::Error> {
        let mut cli = Cli::from_arg_matches(matches)?;
        cli.connect.is_typed = matches.value_source("addresses") == Some(ValueSource::CommandLine);
        Ok(cli)
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a cluster on this machine, and a shell on it
    Up(up::Args),
    /// Run one node
    Serve(Box<serve::Args>),
    /// Type commands at a prompt, or read them from standard input
    #[command(after_help = "\
Examples:
  capstan shell                                   a prompt; help tells more
  capstan shell --connect 10.0.0.1:7401,10.0.0.2:7401
  printf 'put a 1\\nget a\\n' | capstan shell       a script")]
    Shell,
    #[command(flatten)]
    Data(data::Command),
    /// Ask how the cluster is, and change what its nodes do
    #[command(subcommand, after_help = cluster::EXAMPLES)]
    Cluster(cluster::Command),
    /// Make, change, describe and remove keyspaces
    #[command(subcommand, after_help = keyspace::EXAMPLES)]
    Keyspace(keyspace::Command),
    /// Have nodes of a lab fail on purpose
    #[command(subcommand, after_help = fault::EXAMPLES)]
    Fault(fault::Command),
    /// Run whole clusters from a seed, with everything going wrong
    Sim(sim::Args),
    /// See what each protocol does under faults; judge what was observed of a store
    #[command(subcommand)]
    Lab(lab::Command),
    /// Run the programs of systems that Capstan stands in for
    #[command(subcommand)]
    Classic(classic::Command),
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
    fn addresses_that_are_typed_are_told_from_the_usual_ones() {
        let is_typed = |words: &[&str]| {
            let matches = Cli::command().try_get_matches_from(words).expect("these are commands");
            Cli::of(&matches).expect("these are commands").connect.is_typed
        };
        assert!(!is_typed(&["capstan", "lab", "faults"]));
        assert!(is_typed(&["capstan", "lab", "faults", "--connect", "127.0.0.1:7401"]));
        assert!(is_typed(&["capstan", "--connect", "127.0.0.1:7401", "lab", "faults"]));
    }
}
