//! Commands that tell how to go on, written so that they can be pasted where the first one was typed.
//!
//! A word is quoted by rules that the shells of Unix and the one of [`crate::shell`] share. Keys have the escapes of
//! [`crate::escape`], hence no byte gets lost on the way.

use std::fmt::Display;
use std::time::Duration;

use crate::escape;
use crate::options::{Options, Typed};

/// A command that grows word by word.
pub struct Hint(String);

impl Hint {
    /// A command of this name.
    pub fn new(name: &str, options: &Options) -> Hint {
        match options.typed {
            Typed::Inside => Hint(name.into()),
            Typed::Outside(_) => Hint(format!("capstan {name}")),
        }
    }

    /// With this key.
    pub fn key(self, key: &[u8]) -> Hint {
        self.word(&key_word(key))
    }

    /// With this flag, if it is set.
    pub fn flag(self, name: &str, set: bool) -> Hint {
        if set { self.word(name) } else { self }
    }

    /// With this option, if there is a value for it.
    pub fn option(self, name: &str, value: Option<impl Display>) -> Hint {
        match value {
            Some(value) => self.word(name).word(&value.to_string()),
            None => self,
        }
    }

    /// With the options that every command has.
    pub fn options(self, options: &Options) -> String {
        let addresses = match &options.typed {
            Typed::Inside => None,
            Typed::Outside(addresses) => addresses.as_ref(),
        };
        let Hint(text) = self
            .option("--keyspace", options.keyspace.as_ref())
            .option("--level", options.level)
            .option("--timeout", options.timeout.map(duration))
            .flag("--json", options.json)
            .flag("--receipt", options.receipt)
            .option("--connect", addresses);
        text
    }

    fn word(self, word: &str) -> Hint {
        Hint(format!("{} {}", self.0, quoted(word)))
    }
}

/// A key as a word that is no option.
fn key_word(key: &[u8]) -> String {
    let text = escape::write(key);
    text.strip_prefix('-').map_or_else(|| text.to_string(), |rest| format!("\\x2d{rest}"))
}

/// A word, in quotes where a shell would read it differently.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_./:,+-".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.into();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

fn duration(duration: Duration) -> String {
    format!("{}us", duration.as_micros())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{parse, words};

    fn options() -> Options {
        Options {
            keyspace: Some("a b".into()),
            level: Some(kv::Level::Bounded(5)),
            timeout: Some(Duration::from_millis(1500)),
            json: true,
            typed: Typed::Outside(Some("h:1,h:2".into())),
            ..Options::default()
        }
    }

    #[test]
    fn hint_has_every_option_that_was_given() {
        let text =
            Hint::new("range", &options()).key(b"").flag("--reverse", false).option("--limit", Some(3));
        let expect = "capstan range '' --limit 3 --keyspace 'a b' --level 'bounded(5)' --timeout 1500000us \
                      --json --connect h:1,h:2";
        assert_eq!(text.options(&options()), expect);
        assert_eq!(Hint::new("range", &Options::default()).options(&Options::default()), "range");
    }

    #[test]
    fn key_in_a_hint_is_one_word_that_gives_its_bytes_back() {
        let all: Vec<u8> = (0..=u8::MAX).collect();
        let keys = [&b"a"[..], b"-5", b"--", b"it's", b"a b\\", b"'", b"#x", b"~", "ключ".as_bytes(), &all];
        for key in keys {
            let hint = Hint::new("get", &Options::default()).key(key).options(&Options::default());
            let words = words::split(hint.as_bytes()).expect("its quotes are closed");
            let [_, word] = &words[..] else { panic!("{hint} is no command and one word") };
            assert!(!word.to_string_lossy().starts_with('-'));
            assert_eq!(parse::key_of(word.clone()).as_deref(), Ok(key), "{hint}");
        }
    }
}
