//! Keys and values of any bytes: what is printed can be read back, and what is hinted can be pasted.

use std::collections::BTreeMap;
use std::process::Command as Process;

use clap::Parser;
use kv::{Key, Value};

use super::*;
use crate::options::Typed;

/// Bytes that some notation treats as special, and some that none does.
const SPECIAL: &[u8] = b"\\\t\n\r\0\x1b\x7f\"'`$!*#~-- =%{}()[]|&;<>?ab\xff\xc3\xa9\xe2\x80\xa8\xc2\x85";

/// Rows of random bytes, each kind of byte among them.
fn rows() -> BTreeMap<Key, Value> {
    let mut state = 7_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    let mut bytes = |least: usize| -> Bytes {
        let length = least + random() % 8;
        (0..length).map(|_| SPECIAL[random() % SPECIAL.len()]).collect()
    };
    let mut rows: BTreeMap<Key, Value> = (0..40).map(|_| (bytes(1), bytes(0))).collect();
    let all: Bytes = (0..=u8::MAX).collect();
    rows.insert(all.clone(), all);
    rows.insert(Key::from_static(b"-5"), Value::new());
    rows
}

fn store_of(rows: &BTreeMap<Key, Value>) -> Fake {
    let fake = Fake::default();
    for (key, value) in rows {
        let line =
            [b"put -- '".to_vec(), quoted(crate::escape::write(key).as_bytes()), b"' -".to_vec()].concat();
        let (_, _, result) = run_bytes(&fake, &line, value, false);
        assert!(matches!(result, Ok(Code::Done)), "{result:?}");
    }
    fake
}

fn quoted(text: &[u8]) -> Vec<u8> {
    String::from_utf8_lossy(text).replace('\'', r"'\''").into_bytes()
}

/// Runs a line; what it printed, and its result.
fn run_bytes(
    fake: &Fake,
    line: &[u8],
    input: &[u8],
    terminal: bool,
) -> (Vec<u8>, String, Result<Code, Error>) {
    let cli = parsed(line).unwrap_or_else(|error| panic!("{}: {error}", line.escape_ascii()));
    run_cli(fake, cli, input, terminal, Typed::Inside)
}

fn run_cli(
    fake: &Fake,
    cli: Cli,
    mut input: &[u8],
    terminal: bool,
    typed: Typed,
) -> (Vec<u8>, String, Result<Code, Error>) {
    let Command::Data(command) = cli.command else { panic!("this is no data command") };
    let options = Options { typed, ..cli.options };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut output = Output { out: &mut out, err: &mut err, terminal, json: options.json };
    let run = super::super::run(&command, fake, &options, Some(&mut input), &mut output);
    let result = connect::runtime().block_on(run);
    (out, String::from_utf8(err).expect("what is told is text"), result)
}

#[test]
fn rows_that_range_prints_are_read_back_by_putall() {
    let rows = rows();
    let store = store_of(&rows);
    for option in ["", " --json"] {
        let (printed, _, _) = run_bytes(&store, format!("range ''{option}").as_bytes(), b"", false);
        assert_eq!(printed.iter().filter(|byte| **byte == b'\n').count(), rows.len());
        assert!(std::str::from_utf8(&printed).is_ok());
        let other = Fake::default();
        let (_, err, result) = run_bytes(&other, format!("putall{option}").as_bytes(), &printed, false);
        assert!(matches!(result, Ok(Code::Done)), "{err}");
        assert_eq!(other.rows(), Vec::from_iter(rows.clone()));
    }
}

#[test]
fn rows_of_all_commands_have_one_format() {
    let key = r"'a\tb\\\xff'";
    let line = format!(r"put {key} 'x\	y'");
    check(&[&line, &format!("get {key}")], "x\\\ty\n", Code::Done);
    check(&[&line, "range ''"], "a\\tb\\\\\\xff\tx\\\\\\ty\n", Code::Done);
    check(&[&line, "range '' --keys-only"], "a\\tb\\\\\\xff\n", Code::Done);
    check(&[&line, &format!("getall {key}")], "a\\tb\\\\\\xff\tx\\\\\\ty\n", Code::Done);
    check(&[&line, &format!("history {key}")], "1\tx\\\\\\ty\n", Code::Done);
    check(&[&format!("putall {key} 1")], "a\\tb\\\\\\xff\t1\n", Code::Done);
    check_refused(&format!("get {key}"), "not found: a\\tb\\\\\\xff\n", Code::NotMet);
    check(&[&line, &format!("cas {key} --expect z y")], "", Code::NotMet);
    let txn = r#"txn --if '"a\\tb\\\\\\xff" present' --then 'del "a\\tb\\\\\\xff"'"#;
    check(&[&line, txn], "then\n1\n", Code::Done);
}

#[test]
fn keys_that_are_no_text_are_written_read_and_deleted() {
    let escaped = r"'\xff\x00'";
    check(&[&format!("put {escaped} 1"), &format!("get {escaped}")], "1\n", Code::Done);
    check(&[&format!("put {escaped} 1"), &format!("del {escaped}")], "1\n", Code::Done);
    check(&[&format!("put {escaped} 1"), r"range '\xff' --prefix --count"], "1\n", Code::Done);
    let fake = Fake::default();
    let (_, _, result) = run_bytes(&fake, b"put a\xff \xfe\\\\t", b"", false);
    assert!(matches!(result, Ok(Code::Done)));
    assert_eq!(fake.rows(), [(Key::from_static(b"a\xff"), Value::from_static(b"\xfe\\t"))]);
    check_refused(r"get 'a\q'", r"\q is no escape", Code::Usage);
    check_refused(r"putall 'a\q' 1", r"\q is no escape", Code::Usage);
    check_refused(r"txn --if 'a\\q = 1'", r"\q is no escape", Code::Usage);
}

/// The words that `sh` hands to the program for a line.
fn words_of_sh(line: &str) -> Vec<OsString> {
    let script = format!("capstan() {{ printf '%s\\0' capstan \"$@\"; }}; {line}");
    let output = Process::new("sh").args(["-c", &script]).output().expect("there is a shell");
    assert!(output.status.success(), "{line}");
    let words = output.stdout.split(|byte| *byte == 0).map(|word| OsString::from_vec(word.to_vec()));
    let mut words: Vec<OsString> = words.collect();
    words.pop();
    words
}

/// Runs a range and what it hints, until nothing is left.
fn pages(fake: &Fake, first: &str, typed: &Typed) -> Vec<Vec<u8>> {
    let mut cli = parsed(first.as_bytes()).expect(first);
    let mut pages = Vec::new();
    loop {
        let (out, err, result) = run_cli(fake, cli, b"", true, typed.clone());
        assert!(matches!(result, Ok(Code::Done)), "{err}");
        pages.push(out);
        let Some(hint) = err.strip_prefix("there is more: ") else { return pages };
        let hint = hint.trim_end_matches('\n');
        let parsed = match typed {
            Typed::Inside => parsed(hint.as_bytes()),
            Typed::Outside(_) => Cli::try_parse_from(words_of_sh(hint)),
        };
        cli = parsed.unwrap_or_else(|error| panic!("{hint}: {error}"));
    }
}

#[test]
fn hint_of_a_range_goes_on_exactly_there() {
    let rows = rows();
    let fake = store_of(&rows);
    let outside = Typed::Outside(Some("127.0.0.1:1,127.0.0.1:2".into()));
    for typed in [Typed::Inside, outside] {
        for range in
            ["''", r"'' --reverse", r"'\x00' '\xff' --keys-only", r"'\xff' --prefix", "- --at 30 --json"]
        {
            let (whole, _, _) = run_bytes(&fake, format!("range {range}").as_bytes(), b"", false);
            let pages = pages(&fake, &format!("range {range} --limit 7"), &typed);
            assert!(pages.iter().rev().skip(1).all(|page| page.iter().filter(|b| **b == b'\n').count() == 7));
            assert_eq!(pages.concat(), whole, "{range}");
        }
    }
}

#[test]
fn hint_repeats_the_options() {
    let fake = Fake::default();
    run_on(&fake, "putall a 1 b 2 c 3", b"");
    let cli =
        parsed(b"range a z --limit 1 --keyspace default --level local --timeout 2s").expect("it is a range");
    let (_, err, _) = run_cli(&fake, cli, b"", true, Typed::Outside(Some("h:1".into())));
    let expect = "there is more: capstan range a z --limit 1 --page a --keyspace default --level local \
                  --timeout 2000000us --connect h:1\n";
    assert_eq!(err, expect);
}

#[test]
fn delrange_that_fails_on_its_way_tells_how_to_go_on() {
    let fake = Fake::failing_after(5, kv::Error::Unavailable("no leader".into()));
    for key in ["a", "b", r"'c\n'", "d"] {
        run_on(&fake, &format!("put {key} 1"), b"");
    }
    let printed = run_on(&fake, "delrange a x", b"");
    let expect = "2 keys are removed; to go on: delrange 'c\\n' x\nerror: no leader\n";
    assert_eq!((printed.err.as_str(), printed.code), (expect, Code::Unavailable));
}
