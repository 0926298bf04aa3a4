//! Completion at the prompt: commands first, then the options of the command.

use reedline::{Completer, CompletionResult, Span, Suggestion};

/// Completes from a definition of commands.
pub struct Words {
    definition: clap::Command,
    /// The names of the keyspaces that there are.
    keyspaces: Names,
}

/// Names that are asked for when they are wanted.
pub type Names = Box<dyn Fn() -> Vec<String> + Send>;

impl Words {
    /// Completes these commands, and names of keyspaces.
    pub fn new(definition: clap::Command, keyspaces: Names) -> Words {
        Words { definition, keyspaces }
    }

    /// What may stand for the last word of a line up to the cursor.
    fn candidates(&self, line: &str) -> Vec<(String, Option<String>)> {
        let mut before: Vec<&str> = line.split_whitespace().collect();
        let last = if line.ends_with(char::is_whitespace) { "" } else { before.pop().unwrap_or("") };
        // What help is asked about is typed like a command, but for its options.
        let is_help = before.first() == Some(&"help");
        let words = if is_help { &before[1..] } else { &before[..] };
        if wants_keyspace(&before) && !last.starts_with('-') {
            let names = (self.keyspaces)().into_iter().filter(|name| name.starts_with(last));
            return names.map(|name| (name, None)).collect();
        }
        let mut found = match innermost(&self.definition, words) {
            Some(command) if last.starts_with('-') && !is_help => options(command),
            Some(command) => commands(command),
            None => Vec::new(),
        };
        found.retain(|(name, _)| name.starts_with(last));
        found
    }
}

impl Completer for Words {
    fn complete(&mut self, line: &str, pos: usize) -> CompletionResult {
        let line = &line[..pos];
        let start = line.rfind(char::is_whitespace).map_or(0, |at| at + 1);
        let suggestions = self.candidates(line).into_iter().map(|(value, description)| Suggestion {
            value,
            description,
            span: Span::new(start, pos),
            append_whitespace: true,
            ..Suggestion::default()
        });
        CompletionResult::fresh(suggestions.collect::<Vec<_>>())
    }
}

/// Whether the name of a keyspace comes after these words.
fn wants_keyspace(before: &[&str]) -> bool {
    match before {
        [.., "--keyspace"] | ["use"] => true,
        ["keyspace", command] => ["alter", "describe", "drop"].contains(command),
        _ => false,
    }
}

/// The command that these words are of; what is behind its name are its arguments. `None` = there is no such command.
fn innermost<'a>(definition: &'a clap::Command, words: &[&str]) -> Option<&'a clap::Command> {
    let mut command = definition;
    for word in words {
        match command.find_subcommand(word) {
            Some(inner) => command = inner,
            None if command.has_subcommands() => return None,
            None => break,
        }
    }
    Some(command)
}

fn commands(command: &clap::Command) -> Vec<(String, Option<String>)> {
    let pair = |c: &clap::Command| (c.get_name().to_string(), c.get_about().map(ToString::to_string));
    command.get_subcommands().map(pair).collect()
}

fn options(command: &clap::Command) -> Vec<(String, Option<String>)> {
    let pair = |arg: &clap::Arg| {
        let name = arg.get_long()?;
        Some((format!("--{name}"), arg.get_help().map(ToString::to_string)))
    };
    command.get_arguments().filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::super::line::definition;
    use super::*;

    fn check(line: &str, expect: &[&str]) {
        let words = Words::new(definition(), Box::new(|| vec!["default".into(), "orders".into()]));
        let found: Vec<String> = words.candidates(line).into_iter().map(|(name, _)| name).collect();
        assert_eq!(found, expect, "{line}");
    }

    #[test]
    fn completion_of_the_first_word_is_a_command() {
        check("ge", &["get", "getall"]);
        check("pop", &["pop-left", "pop-right"]);
        check("frob", &[]);
    }

    #[test]
    fn completion_of_help_is_a_command() {
        check("help tr", &["trim"]);
        check("help cluster d", &["drain", "dump"]);
        check("help cluster drain --d", &[]);
    }

    #[test]
    fn completion_of_a_dash_is_an_option() {
        check("put k v --p", &["--previous"]);
        check("range a --ke", &["--keys-only", "--keyspace"]);
        check("get k --rec", &["--receipt"]);
    }

    #[test]
    fn completion_of_a_keyspace_is_a_name() {
        check("use ", &["default", "orders"]);
        check("keyspace drop o", &["orders"]);
        check("get k --keyspace d", &["default"]);
        check("keyspace create o", &[]);
    }

    #[test]
    fn completion_of_keys_and_values_is_left_alone() {
        check("get k", &[]);
        check("get ", &[]);
    }

    #[test]
    fn completion_of_cluster_is_its_commands() {
        check(
            "cluster ",
            &["status", "nodes", "query", "join", "drain", "leave", "replace", "moves", "dump"],
        );
        check("cluster drain n3 --d", &["--dry-run"]);
        check("cluster frob --d", &[]);
    }
}
