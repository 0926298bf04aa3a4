//! EDN, the notation of Clojure: as much of it as histories use, read from text.
//!
//! Tags are kept with their value, symbols are kept as they are, `#_` discards a form, metadata is skipped. Each map knows the
//! line where it begins, so that errors can name it.
//!
//! Equal values are written alike, others are not. Integers are equal at any size, with `+` or `N` or without (`5`, `+5`, `5N`);
//! an integer is no float (`5.0`, `5e0`: 64 bits, as Clojure has them) and neither is a decimal (`5M`, `5.0M`: exact). Strings,
//! keywords, symbols and characters are of kinds of their own; vectors and lists are of one. Numbers in other notations
//! (`1/2`, `0x10`) are equal as they are written.

use super::{Unreadable, value};

/// Forms may be nested so deep: deeper ones would exhaust the stack, and no history needs them.
const DEPTH_MAX: usize = 64;

/// One form.
#[derive(Clone, Debug, PartialEq)]
pub enum Form {
    /// `nil`
    Nil,
    /// `true` and `false`
    Bool(bool),
    /// A number, in the one way to write it.
    Number(String),
    /// A symbol, or a number in a notation that is not known here.
    Symbol(String),
    /// `\\c` and the like.
    Character(char),
    /// A string, without its quotes and escapes.
    Text(String),
    /// A keyword, without its colon.
    Keyword(String),
    /// A vector or list.
    List(Vec<Form>),
    /// A set.
    Set(Vec<Form>),
    /// A map: keys and values, and the line where it begins.
    Map(Vec<(Form, Form)>, usize),
    /// A tagged form.
    Tagged(String, Box<Form>),
}

/// All forms of a text.
pub fn read(text: &str) -> Result<Vec<Form>, Unreadable> {
    let mut reader = Reader { text, at: 0, line: 1 };
    reader.forms().map_err(|why| Unreadable { line: reader.line.min(text.lines().count().max(1)), why })
}

/// The first forms of one line of a longer text, so many at most, and what follows them. It may be no forms.
pub fn read_line(text: &str, line: usize, forms_max: usize) -> Result<(Vec<Form>, &str), String> {
    let mut reader = Reader { text, at: 0, line };
    let mut forms = Vec::with_capacity(forms_max);
    while forms.len() < forms_max {
        match (reader.form(0)?, reader.peek()) {
            (Some(form), _) => forms.push(form),
            (None, None) => break,
            (None, Some(stray)) => return Err(format!("'{stray}' closes nothing")),
        }
    }
    Ok((forms, text[reader.at..].trim()))
}

impl Form {
    /// The form of a word: of what has no brackets, quotes and blanks.
    pub fn of_word(word: &str) -> Result<Form, String> {
        Ok(match word {
            "nil" => Form::Nil,
            "true" => Form::Bool(true),
            "false" => Form::Bool(false),
            _ => match word.strip_prefix(':') {
                Some("") => return Err("':' without a name".into()),
                Some(name) => Form::Keyword(name.into()),
                None => number(word).map_or_else(|| Form::Symbol(word.into()), Form::Number),
            },
        })
    }

    /// The value of a keyword key of a map.
    pub fn get(&self, key: &str) -> Option<&Form> {
        let Form::Map(entries, _) = self.untagged() else { return None };
        entries
            .iter()
            .find(|(known, _)| matches!(known, Form::Keyword(name) if name == key))
            .map(|(_, value)| value)
    }

    /// The form without its tags.
    pub fn untagged(&self) -> &Form {
        match self {
            Form::Tagged(_, inner) => inner.untagged(),
            form => form,
        }
    }

    /// The items of a vector or list.
    pub fn list(&self) -> Option<&[Form]> {
        match self.untagged() {
            Form::List(items) => Some(items),
            _ => None,
        }
    }
}

/// The form as EDN, in the one way to write it: equal ones are written alike, sets and maps too, which have no order.
impl std::fmt::Display for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let spaced = |forms: &[Form]| forms.iter().map(Form::to_string).collect::<Vec<_>>().join(" ");
        match self {
            Form::Nil => f.write_str("nil"),
            Form::Bool(flag) => write!(f, "{flag}"),
            Form::Number(text) | Form::Symbol(text) => f.write_str(text),
            Form::Character(c) if c.is_ascii_alphanumeric() => write!(f, "\\{c}"),
            Form::Character(c) => write!(f, "\\u{:04x}", u32::from(*c)),
            Form::Text(text) => write!(f, "\"{}\"", quoted(text)),
            Form::Keyword(name) => write!(f, ":{name}"),
            Form::List(items) => write!(f, "[{}]", spaced(items)),
            Form::Set(items) => write!(f, "#{{{}}}", sorted(items.iter().map(Form::to_string)).join(" ")),
            Form::Map(entries, _) => {
                let entries = entries.iter().map(|(key, value)| format!("{key} {value}"));
                write!(f, "{{{}}}", sorted(entries).join(", "))
            }
            Form::Tagged(tag, inner) => write!(f, "#{tag} {inner}"),
        }
    }
}

fn quoted(text: &str) -> String {
    let escape = |c| match c {
        '"' => "\\\"".to_string(),
        '\\' => "\\\\".to_string(),
        c if c.is_control() => format!("\\u{:04x}", u32::from(c)),
        c => c.to_string(),
    };
    text.chars().map(escape).collect()
}

/// A number, in the one way to write it. A float has a point, an exponent or `##`; a decimal ends with `M`.
fn number(word: &str) -> Option<String> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
    let integer = word.strip_suffix('N').unwrap_or(word);
    let unsigned = integer.strip_prefix(['+', '-']).unwrap_or(integer);
    if digits(unsigned) {
        // With a zero before it, it is octal to some and nothing to others.
        let is_plain = unsigned == "0" || !unsigned.starts_with('0');
        let integer = if unsigned == "0" { unsigned } else { integer.trim_start_matches('+') };
        return is_plain.then(|| integer.to_owned());
    }
    if let Some(decimal) = word.strip_suffix('M') {
        return value::decimal(decimal).map(|decimal| format!("{decimal}M"));
    }
    value::decimal(word)?;
    let float: f64 = word.parse().ok()?;
    // Its zero has two signs, which are equal.
    Some(if float.is_finite() { format!("{:?}", float + 0.0) } else { word.to_owned() })
}

fn sorted(texts: impl Iterator<Item = String>) -> Vec<String> {
    let mut texts: Vec<String> = texts.collect();
    texts.sort_unstable();
    texts
}

/// Characters that have names.
const CHARACTERS: &[(&str, char)] = &[
    ("newline", '\n'),
    ("space", ' '),
    ("tab", '\t'),
    ("return", '\r'),
    ("backspace", '\u{8}'),
    ("formfeed", '\u{c}'),
];

struct Reader<'a> {
    text: &'a str,
    at: usize,
    line: usize,
}

impl Reader<'_> {
    fn forms(&mut self) -> Result<Vec<Form>, String> {
        let mut forms = Vec::new();
        while let Some(form) = self.form(0)? {
            forms.push(form);
        }
        match self.peek() {
            None => Ok(forms),
            Some(stray) => Err(format!("'{stray}' closes nothing")),
        }
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        self.line += usize::from(next == '\n');
        Some(next)
    }

    fn skip_blank(&mut self) {
        while let Some(next) = self.peek() {
            match next {
                ';' => {
                    while self.peek().is_some_and(|c| c != '\n') {
                        self.next();
                    }
                }
                c if c.is_whitespace() || c == ',' => drop(self.next()),
                _ => return,
            }
        }
    }

    /// The next form; `None` at the end of the text or before a closing bracket.
    fn form(&mut self, depth: usize) -> Result<Option<Form>, String> {
        if depth > DEPTH_MAX {
            return Err(format!("forms are nested deeper than {DEPTH_MAX}"));
        }
        self.skip_blank();
        let Some(first) = self.peek() else { return Ok(None) };
        let form = match first {
            ')' | ']' | '}' => return Ok(None),
            '(' => Form::List(self.sequence(')', depth)?),
            '[' => Form::List(self.sequence(']', depth)?),
            '{' => self.map(depth)?,
            '"' => Form::Text(self.string()?),
            '#' => return self.dispatch(depth),
            '^' => {
                self.next();
                self.must_form(depth, "metadata")?;
                return self.form(depth + 1);
            }
            '\\' => self.character()?,
            _ => self.word()?,
        };
        Ok(Some(form))
    }

    fn must_form(&mut self, depth: usize, of: &str) -> Result<Form, String> {
        self.form(depth + 1)?.ok_or_else(|| format!("{of} lacks what should follow it"))
    }

    fn sequence(&mut self, close: char, depth: usize) -> Result<Vec<Form>, String> {
        let opened = self.line;
        self.next();
        let mut items = Vec::new();
        while let Some(item) = self.form(depth + 1)? {
            items.push(item);
        }
        match self.next() {
            Some(found) if found == close => Ok(items),
            Some(found) => Err(format!("'{found}' where '{close}' should close what line {opened} opened")),
            None => Err(format!("the text ends before '{close}' closes what line {opened} opened")),
        }
    }

    fn map(&mut self, depth: usize) -> Result<Form, String> {
        let line = self.line;
        let mut items = self.sequence('}', depth)?.into_iter();
        let mut entries = Vec::with_capacity(items.len() / 2);
        while let Some(key) = items.next() {
            let value = items.next().ok_or_else(|| format!("the key {key} of a map has no value"))?;
            entries.push((key, value));
        }
        Ok(Form::Map(entries, line))
    }

    fn string(&mut self) -> Result<String, String> {
        let opened = self.line;
        self.next();
        let mut text = String::new();
        loop {
            match self.next().ok_or_else(|| format!("the string that begins in line {opened} has no end"))? {
                '"' => return Ok(text),
                '\\' => text.push(self.escape()?),
                plain => text.push(plain),
            }
        }
    }

    /// The pattern of a regular expression: as it is written, since its backslashes are its own.
    fn pattern(&mut self) -> Result<String, String> {
        let opened = self.line;
        self.next();
        let mut text = String::new();
        loop {
            match self.next().ok_or_else(|| format!("the pattern that begins in line {opened} has no end"))? {
                '"' => return Ok(text),
                '\\' => text.extend(['\\'].into_iter().chain(self.next())),
                plain => text.push(plain),
            }
        }
    }

    fn escape(&mut self) -> Result<char, String> {
        match self.next() {
            Some('n') => Ok('\n'),
            Some('t') => Ok('\t'),
            Some('r') => Ok('\r'),
            Some('b') => Ok('\u{8}'),
            Some('f') => Ok('\u{c}'),
            Some('u') => {
                let digits: String = (0..4).map_while(|_| self.next()).collect();
                let code = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
                code.ok_or_else(|| format!("'\\u{digits}' is no character"))
            }
            Some(same @ ('"' | '\\')) => Ok(same),
            other => Err(format!("'\\{}' is no escape", other.map(String::from).unwrap_or_default())),
        }
    }

    fn dispatch(&mut self, depth: usize) -> Result<Option<Form>, String> {
        self.next();
        match self.peek() {
            Some('{') => Ok(Some(Form::Set(self.sequence('}', depth)?))),
            Some('"') => Ok(Some(Form::Text(self.pattern()?))),
            Some('_') => {
                self.next();
                self.must_form(depth, "#_")?;
                self.form(depth + 1)
            }
            Some('#') => {
                // ##Inf and the like.
                self.next();
                Ok(Some(Form::Number(format!("##{}", self.token()))))
            }
            Some(_) => {
                let tag = self.token();
                if tag.is_empty() {
                    return Err("'#' without a tag".into());
                }
                let inner = self.must_form(depth, &format!("the tag #{tag}"))?;
                Ok(Some(Form::Tagged(tag, Box::new(inner))))
            }
            None => Err("the text ends after '#'".into()),
        }
    }

    fn character(&mut self) -> Result<Form, String> {
        self.next();
        let mut name: String = self.next().into_iter().collect();
        name.push_str(&self.token());
        let hex = |digits: &str| u32::from_str_radix(digits, 16).ok().and_then(char::from_u32);
        let mut chars = name.chars();
        let character = match (chars.next(), chars.as_str()) {
            (Some(c), "") => Some(c),
            (Some('u'), digits) if digits.len() == 4 => hex(digits),
            _ => CHARACTERS.iter().find(|(known, _)| *known == name).map(|(_, c)| *c),
        };
        character.map(Form::Character).ok_or_else(|| format!("'\\{name}' is no character"))
    }

    fn word(&mut self) -> Result<Form, String> {
        match self.token() {
            word if word.is_empty() => Err(format!("'{}' begins no form", self.peek().unwrap_or(' '))),
            word => Form::of_word(&word),
        }
    }

    fn token(&mut self) -> String {
        let rest = &self.text[self.at..];
        let ends = |c: char| c.is_whitespace() || ",;\"()[]{}".contains(c);
        let token = &rest[..rest.find(ends).unwrap_or(rest.len())];
        self.at += token.len();
        token.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Form {
        let mut forms = read(text).expect("readable");
        assert_eq!(forms.len(), 1, "{text}");
        forms.remove(0)
    }

    #[test]
    fn form_of_each_kind_is_read() {
        let map = one("{:a 1, :b [nil true \"x\\n\\u0041\"] ; note\n :c #{-2.5} #_gone :d (sym \\z)}");
        assert_eq!(map.get("a"), Some(&Form::Number("1".into())));
        assert_eq!(
            map.get("b"),
            Some(&Form::List(vec![Form::Nil, Form::Bool(true), Form::Text("x\nA".into())]))
        );
        assert_eq!(map.get("c"), Some(&Form::Set(vec![Form::Number("-2.5".into())])));
        assert_eq!(map.get("d").map(Form::to_string), Some("[sym \\z]".into()));
        assert_eq!(one(r#"#"a\d\"b""#), Form::Text(r#"a\d\"b"#.into()));
    }

    #[test]
    fn form_with_unknown_tag_keeps_its_value() {
        let map = one("#jepsen.history.Op{:value #some/tag [1 2]}");
        assert_eq!(map.get("value").and_then(Form::list).map(<[Form]>::len), Some(2));
    }

    #[test]
    fn forms_that_are_equal_are_written_alike_and_no_others() {
        let kinds: &[&[&str]] = &[
            &["5", "+5", "5N", "+5N"],
            &["5.0", "5e0", "50E-1", "5."],
            &["5M", "5.0M", "+5e0M"],
            &["-5", "-5N"],
            &["0", "-0", "+0", "0N"],
            &["0.0", "-0.0"],
            &["18446744073709551616", "+18446744073709551616"],
            &["18446744073709551617"],
            &["1e70", "1.0e70"],
            &["0.1", "0.10000000000000001"],
            &["##Inf"],
            &["Inf"],
            &["010"],
            &["1/2"],
            &["\"5\"", "\"\\u0035\""],
            &["\\5", "\\u0035"],
            &["\"\\n\"", "\"\n\""],
            &["\\newline", "\\u000a"],
            &["\\n"],
            &["n"],
            &[":n"],
            &["\":n\""],
            &["nil"],
            &["\"nil\""],
            &["[1 2]", "(1, 2)"],
            &["[\"1 2\"]"],
            &["[\"1\" \"2\"]"],
            &["[1 \"2\"]"],
            &["#inst \"a\""],
            &["\"a\""],
        ];
        for (index, kind) in kinds.iter().enumerate() {
            for other in &kinds[index..] {
                let alike =
                    kind.iter().all(|a| other.iter().all(|b| one(a).to_string() == one(b).to_string()));
                let unlike =
                    kind.iter().all(|a| other.iter().all(|b| one(a).to_string() != one(b).to_string()));
                assert!(if kind == other { alike } else { unlike }, "{kind:?} {other:?}");
            }
        }
    }

    #[test]
    fn sets_and_maps_that_are_equal_are_written_alike() {
        for (one_way, other_way) in
            [("#{1 2 #{:b :a}}", "#{#{:a :b} 2 1}"), ("{:a 1, :b {2 3 4 5}}", "{:b {4 5 2 3} :a 1}")]
        {
            assert_eq!(one(one_way).to_string(), one(other_way).to_string());
        }
    }

    #[test]
    fn text_broken_names_the_line() {
        let inside =
            [("\n{:a 1", 2), ("{:a\n1]", 2), ("\n\n}", 3), ("{:a}", 1), ("#", 1), ("[:]", 1), ("\\foo", 1)];
        let at_the_end = [("[\"x", 1), ("[\"x\n", 1), ("[\n", 1)];
        for (text, line) in inside.into_iter().chain(at_the_end) {
            assert_eq!(read(text).expect_err(text).line, line, "{text}");
        }
        assert!(read(&"[".repeat(100_000)).is_err());
    }
}
