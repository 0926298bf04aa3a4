//! What can be typed at the prompt: the data commands as on the command line, and some words of the shell's own.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

use crate::options::Options;
use crate::{cluster, data, fault, keyspace};

/// A line of the shell.
#[derive(Debug, Parser)]
#[command(name = "", no_binary_name = true, disable_help_subcommand = true, max_term_width = 80)]
pub struct Line {
    #[command(flatten)]
    pub options: Options,
    #[command(subcommand)]
    pub command: Command,
}

/// A command of the shell.
#[derive(Debug, Subcommand)]
pub enum Command {
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
    /// Ask this keyspace from now on
    #[command(after_help = "Examples:\n  use orders\n  use default")]
    Use {
        /// Its name
        keyspace: String,
    },
    /// Print nodes and shards
    #[command(after_help = "Examples:\n  status")]
    Status,
    /// Print the nodes
    #[command(after_help = "Examples:\n  nodes")]
    Nodes,
    /// Print all keys and their values
    #[command(after_help = "Examples:\n  dump")]
    Dump,
    /// Tell what can be typed
    #[command(after_help = "Examples:\n  help cas")]
    Help {
        /// Tell about this command
        command: Vec<String>,
    },
    /// Leave
    #[command(visible_aliases = ["exit", "x", "q"], after_help = "Examples:\n  quit")]
    Quit,
}

/// Why words are no line.
#[derive(Debug)]
pub enum Refusal {
    /// They make no sense; a hint what would.
    Wrong(String),
    /// They ask for help; here it is.
    Help(String),
}

/// The line of these words.
pub fn parse(words: Vec<OsString>) -> Result<Line, Refusal> {
    Line::try_parse_from(words).map_err(|error| {
        let text = shell_text(&error.render().to_string());
        match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                Refusal::Help(text)
            }
            _ => Refusal::Wrong(text.trim_start_matches("error: ").replace(
                "For more information, try '--help'.",
                "Type help for all commands, or help and the name of one.",
            )),
        }
    })
}

/// The definition, for help and completion.
pub fn definition() -> clap::Command {
    let mut definition = Line::command();
    definition.build();
    definition
}

/// Help texts are written for the command line; at the prompt the program's name is left out.
pub fn shell_text(text: &str) -> String {
    let text = text.replace("  capstan ", "  ").replace("Usage: capstan ", "Usage: ");
    text.replace("Usage:  ", "Usage: ").trim_end().into()
}
