//! Functions and files have an end in sight.

use std::collections::BTreeMap;

use super::{none, rust, sources};

/// Lines of a function, from its `fn` to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;
/// Functions that have more, with the most each may have. May only shrink.
const LONG: &[(&str, usize)] = &[("command_that_is_wrong_is_told_so", 75)];
/// Lines of a file.
const FILE_LINES_MAX: usize = 500;

#[test]
fn functions_and_files_are_short() {
    let mut long: BTreeMap<&str, usize> = LONG.iter().copied().collect();
    let mut wrong = Vec::new();
    for source in sources() {
        let lines = source.text.lines().count();
        if lines > FILE_LINES_MAX {
            wrong.push(format!("{} has {lines} lines, of at most {FILE_LINES_MAX}", source.path));
        }
        for (name, lines) in rust::functions(&source.text) {
            let most = long.remove(name.as_str()).unwrap_or(FUNCTION_LINES_MAX);
            if lines > most {
                wrong.push(format!("{}: {name} has {lines} lines, of at most {most}", source.path));
            } else if most > FUNCTION_LINES_MAX && lines < most {
                wrong.push(format!("{}: {name} has {lines} lines now: say so in LONG", source.path));
            }
        }
    }
    wrong.extend(long.keys().map(|name| format!("{name} is gone: take it out of LONG")));
    none("too long, or shorter than told", &wrong);
}
