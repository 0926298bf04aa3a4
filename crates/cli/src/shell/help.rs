//! Help at the prompt: every command by an example.

use super::line::{definition, shell_text};
use crate::exit::{Code, Error};
use crate::print::Output;

/// Prints what can be typed, or all about one command.
pub fn print(command: &[String], out: &mut Output<'_>) -> Result<Code, Error> {
    let definition = definition();
    if command.is_empty() {
        out.table(&["EXAMPLE", "WHAT IT DOES"], &rows(&definition))?;
        out.line("")?;
        out.line(FOOT)?;
        return Ok(Code::Done);
    }
    let mut found = &definition;
    for name in command {
        let unknown = || Error::Usage(format!("there is no command '{name}': help without a name lists all"));
        found = found.find_subcommand(name).ok_or_else(unknown)?;
    }
    let text = found.clone().render_help().to_string();
    out.line(&shell_text(&text))?;
    Ok(Code::Done)
}

const FOOT: &str = "\
help COMMAND tells more. Quote what has blanks: put k 'two words'. Keys may have
\\\\ \\t \\n \\r \\xHH in quotes, values are as they are. Options hold for one line:
get k --json, get k --level local. Up and Ctrl-R find old lines, Tab completes,
Ctrl-C gives up a command.";

/// Longer examples would leave no room for the words beside them.
const EXAMPLE_COLUMNS: usize = 34;

fn rows(definition: &clap::Command) -> Vec<Vec<String>> {
    let row = |command: &clap::Command| {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        vec![example(command), about]
    };
    definition.get_subcommands().map(row).collect()
}

/// The first short example of a command, without the words that explain it.
fn example(command: &clap::Command) -> String {
    let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let examples = after.lines().skip(1).take_while(|line| line.starts_with("  ")).map(|line| {
        let line = line.trim().trim_start_matches("capstan ");
        line.split_once("  ").map_or(line, |(example, _)| example).to_string()
    });
    let mut short = examples
        .filter(|example| example.len() <= EXAMPLE_COLUMNS && example.starts_with(command.get_name()));
    short.next().unwrap_or_else(|| command.get_name().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(command: Option<&str>) -> Result<String, Error> {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let command: Vec<String> =
            command.iter().flat_map(|names| names.split(' ')).map(Into::into).collect();
        print(&command, &mut Output { out: &mut out, err: &mut err, terminal: false, json: false })?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn help_shows_every_command_within_80_columns() {
        let text = printed(None).unwrap();
        for command in definition().get_subcommands() {
            assert!(text.contains(&format!("{} ", command.get_name())), "{}\n{text}", command.get_name());
        }
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }

    #[test]
    fn help_of_a_command_leaves_the_program_out() {
        let text = printed(Some("get")).unwrap();
        assert!(text.contains("\n  get greeting\n"), "{text}");
        assert!(!text.contains("capstan"), "{text}");
    }

    #[test]
    fn help_of_a_command_within_another_is_its_own() {
        let text = printed(Some("cluster drain")).unwrap();
        assert!(text.contains("\n  cluster drain n3 --dry-run "), "{text}");
        assert!(printed(Some("cluster")).unwrap().contains("\n  replace "));
        assert!(printed(Some("cluster frobnicate")).is_err());
    }

    #[test]
    fn help_of_an_unknown_command_is_refused() {
        assert!(printed(Some("frobnicate")).is_err());
    }
}
