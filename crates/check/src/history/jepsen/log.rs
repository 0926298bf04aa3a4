//! Events in the lines of a text log.

use super::{Event, Kind, cut, is_client};
use crate::history::edn::{self, Form};

/// Type, function and value. What follows them is text for people: why an op failed.
const FORMS: usize = 3;

/// The event of a line; `None` when it holds none.
pub(super) fn event(text: &str, line: usize) -> Result<Option<Event>, String> {
    let Some((process, rest)) = find(text) else { return Ok(None) };
    let process = Form::of_word(process)?;
    let (forms, after) =
        edn::read_line(rest, line, FORMS).map_err(|why| format!("the event cannot be read: {why}"))?;
    let mut forms = forms.into_iter();
    let kind = match forms.next() {
        Some(Form::Keyword(name)) => Kind::named(&name)?,
        other => return Err(format!("a type such as :invoke is missing; found {other:?}")),
    };
    let f = match forms.next() {
        Some(Form::Keyword(name)) => name,
        Some(other) => {
            return Err(format!("'{}' is no function: it is a keyword such as :read", cut(&other)));
        }
        None => return Err("the function, such as :read, is missing".into()),
    };
    let value = forms.next().unwrap_or(Form::Nil);
    if kind == Kind::Invoke && !after.is_empty() {
        return Err(format!("after the value {} of the op there is more: '{after}'", cut(&value)));
    }
    Ok(Some(Event { line, process, kind, f, key: None, value, micros: None }))
}

/// Whether a line holds an event with something before it.
pub(super) fn is_prefixed(line: &str) -> bool {
    find(line).is_some_and(|(process, _)| line.split_whitespace().next() != Some(process))
}

/// A process number and what follows it, when that is a keyword and more keywords: `3 :ok :read 4`.
fn find(line: &str) -> Option<(&str, &str)> {
    let mut words = words(line).peekable();
    while let Some((_, word)) = words.next() {
        let (at, next) = words.peek()?;
        let known = [":invoke", ":ok", ":fail", ":info"].contains(next);
        let rest = &line[*at..];
        let function = || rest[next.len()..].trim_start().starts_with(':');
        if Form::of_word(word).is_ok_and(|process| is_client(&process))
            && next.starts_with(':')
            && (known || function())
        {
            return Some((word, rest));
        }
    }
    None
}

/// The words of a line and where they begin.
fn words(line: &str) -> impl Iterator<Item = (usize, &str)> {
    line.split_whitespace().map(|word| (word.as_ptr() as usize - line.as_ptr() as usize, word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_with_tabs_or_spaces_is_read() {
        for line in [
            "INFO  jepsen.util - 3\t:invoke\t:cas\t[1 2]",
            "x y 12:00 3   :invoke :cas    [1 2]",
            "3 :invoke :cas [1 2]",
        ] {
            let event = event(line, 1).expect(line).expect(line);
            assert_eq!(event.process.to_string(), "3");
            assert!(event.kind == Kind::Invoke && event.f == "cas");
            assert_eq!(event.value.to_string(), "[1 2]");
        }
    }

    #[test]
    fn line_without_event_is_skipped() {
        for line in [
            "",
            "INFO jepsen.os.debian - :n3 setting up debian",
            "INFO - :nemesis :info :start nil",
            "took 3 ms: ok",
        ] {
            assert!(event(line, 1).expect(line).is_none(), "{line}");
        }
    }

    #[test]
    fn line_with_broken_event_is_refused() {
        for line in [
            "1 :invok :read nil",
            "1 :invoke",
            "1 :invoke read",
            "1 :invoke :cas [1",
            "1 :invoke :put key value",
            "1 :ok :r ]",
        ] {
            assert!(event(line, 1).is_err(), "{line}");
        }
    }

    #[test]
    fn line_with_an_error_after_its_value_is_read() {
        for error in [":timed-out", "[:not-found \"x\"]", "indeterminate: refused (connection: ", "\"#{} ] :"]
        {
            let line = format!("3 :info :cas [1 2]\t{error}");
            assert_eq!(event(&line, 1).expect(&line).expect(&line).value.to_string(), "[1 2]");
        }
    }
}
