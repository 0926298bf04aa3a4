//! Commands as they are typed, and what they print.

mod any_bytes;
mod output;

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use bytes::Bytes;
use clap::Parser;

use crate::args::{Cli, Command};
use crate::connect;
use crate::exit::{Code, Error};
use crate::fake::Fake;
use crate::options::Options;
use crate::print::Output;

/// What a command left behind.
#[derive(Debug, PartialEq, Eq)]
struct Printed {
    out: String,
    err: String,
    code: Code,
}

fn run_on(fake: &Fake, line: &str, input: &[u8]) -> Printed {
    let cli = match parsed(line.as_bytes()) {
        Ok(cli) => cli,
        Err(error) => return Printed { out: String::new(), err: error.to_string(), code: Code::Usage },
    };
    let Command::Data(command) = cli.command else { panic!("{line} is no data command") };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let result = ask(fake, &command, &cli.options, input, &mut out, &mut err);
    let code = result.unwrap_or_else(|error| {
        err.extend(format!("error: {error}\n").bytes());
        error.code()
    });
    Printed { out: out.escape_ascii_text(), err: err.escape_ascii_text(), code }
}

fn parsed(line: &[u8]) -> Result<Cli, clap::Error> {
    let words = crate::words::split(line).expect("all quotes are closed");
    Cli::try_parse_from(std::iter::once("capstan".into()).chain(words))
}

fn ask(
    fake: &Fake,
    command: &super::Command,
    options: &Options,
    mut input: &[u8],
    out: &mut Vec<u8>,
    err: &mut Vec<u8>,
) -> Result<Code, Error> {
    let mut output = Output { out, err, terminal: false, json: options.json };
    connect::runtime().block_on(super::run(command, fake, options, Some(&mut input), &mut output))
}

trait Text {
    fn escape_ascii_text(&self) -> String;
}

impl Text for Vec<u8> {
    fn escape_ascii_text(&self) -> String {
        self.utf8_chunks()
            .map(|chunk| format!("{}{}", chunk.valid(), chunk.invalid().escape_ascii()))
            .collect()
    }
}

/// Runs the lines one after the other; the last one must print this.
fn check(lines: &[&str], out: &str, code: Code) {
    let fake = Fake::default();
    let (last, before) = lines.split_last().expect("there is a line");
    for line in before {
        let printed = run_on(&fake, line, b"");
        assert_eq!(printed.err, "", "{line}");
    }
    let printed = run_on(&fake, last, b"");
    assert_eq!((printed.out.as_str(), printed.code), (out, code), "{lines:?}: {}", printed.err);
}

/// Runs a line; it must be refused with a text that has this in it.
fn check_refused(line: &str, expect: &str, code: Code) {
    let printed = run_on(&Fake::default(), line, b"");
    assert!(printed.err.contains(expect), "{line}: {}", printed.err);
    assert_eq!((printed.out.as_str(), printed.code), ("", code), "{line}");
}

#[test]
fn get_prints_the_value() {
    check(&["put a 'x y'", "get a"], "x y\n", Code::Done);
    check(&["put a x", "put a y", "get a --at 1"], "x\n", Code::Done);
    check(&["put a x", "get a --raw"], "x", Code::Done);
    check(
        &["put a x", "--json get a"],
        "{\"found\":true,\"key\":\"a\",\"value\":\"x\",\"version\":\"1\"}\n",
        Code::Done,
    );
}

#[test]
fn get_missing_exits_1() {
    check(&["get a"], "", Code::NotMet);
    check(
        &["get a --json"],
        "{\"found\":false,\"key\":\"a\",\"value\":null,\"version\":null}\n",
        Code::NotMet,
    );
    check_refused("get a", "not found: a\n", Code::NotMet);
}

#[test]
fn put_prints_its_version() {
    check(&["put a x"], "1\n", Code::Done);
    check(&["put a x --json"], "{\"key\":\"a\",\"version\":\"1\"}\n", Code::Done);
    check(&["put n -5", "get n"], "-5\n", Code::Done);
    check(&["put a x", "put a y --previous"], "x\n", Code::Done);
    check(
        &["put a x", "put a y --previous --json"],
        "{\"key\":\"a\",\"version\":\"2\",\"previous\":{\"value\":\"x\",\"version\":\"1\"}}\n",
        Code::Done,
    );
}

#[test]
fn put_dash_reads_standard_input_byte_by_byte() {
    let fake = Fake::default();
    run_on(&fake, "put a -", b"\xff\n\0");
    assert_eq!(run_on(&fake, "get a --raw", b"").out, "\\xff\n\0");
    let json = run_on(&fake, "get a --json", b"").out;
    assert_eq!(json, "{\"found\":true,\"key\":\"a\",\"value_base64\":\"/woA\",\"version\":\"1\"}\n");
}

#[test]
fn put_too_large_value_is_refused() {
    let big = vec![b'x'; kv::VALUE_BYTES_MAX + 100];
    let printed = run_on(&Fake::default(), "put a -", &big);
    assert_eq!(printed.code, Code::Usage);
    assert!(printed.err.contains("too large"), "{}", printed.err);
}

#[test]
fn put_ttl_is_handed_over() {
    let fake = Fake::default();
    for line in ["put a x --ttl 10s", "insert b x --ttl 10s", "cas c --absent x --ttl 10s", "expire a 10s"] {
        assert_eq!(run_on(&fake, line, b"").code, Code::Done, "{line}");
        assert_eq!(fake.ttl.lock().unwrap().take(), Some(std::time::Duration::from_secs(10)), "{line}");
    }
    run_on(&fake, "expire a never", b"");
    assert_eq!(*fake.ttl.lock().unwrap(), None);
}

#[test]
fn insert_present_exits_1() {
    check(&["insert a x"], "1\n", Code::Done);
    check(&["put a x", "insert a y"], "", Code::NotMet);
    check(
        &["put a x", "insert a y --json"],
        "{\"key\":\"a\",\"version\":\"2\",\"met\":false,\"current\":{\"value\":\"x\",\"version\":\"1\"}}\n",
        Code::NotMet,
    );
}

#[test]
fn cas_stores_only_what_it_expected() {
    check(&["put a x", "cas a --expect x y", "get a"], "y\n", Code::Done);
    check(&["put a x", "cas a --expect-version 1 y"], "2\n", Code::Done);
    check(&["cas a --absent y"], "1\n", Code::Done);
    check(&["put a x", "cas a y --present"], "2\n", Code::Done);
    check(&["put a x", "cas a --expect z y"], "", Code::NotMet);
    check(&["cas a y --present"], "", Code::NotMet);
    check_refused("cas a y", "required", Code::Usage);
    check_refused("cas a y --absent --expect x", "cannot be used with", Code::Usage);
}

#[test]
fn append_and_pop_work_on_both_ends() {
    check(&["put a bc", "append a de"], "4\n", Code::Done);
    check(&["put a bc", "append-left a a", "get a"], "abc\n", Code::Done);
    check(&["put a abc", "pop-left a"], "a\n", Code::Done);
    check(&["put a abc", "pop-right a 2"], "bc\n", Code::Done);
    check(&["put a ''", "pop-right a"], "\n", Code::Done);
    check(&["pop-left a"], "", Code::NotMet);
    check(&["append a xy --json"], "{\"key\":\"a\",\"version\":\"1\",\"length\":2}\n", Code::Done);
    check(
        &["put a abc", "pop-left a --json"],
        "{\"key\":\"a\",\"version\":\"2\",\"found\":true,\"value\":\"a\"}\n",
        Code::Done,
    );
    check_refused("pop-left a 0", "ask for 1 or more", Code::Usage);
}

#[test]
fn increment_prints_the_sum() {
    check(&["increment a"], "1\n", Code::Done);
    check(&["increment a 5", "increment a -7"], "-2\n", Code::Done);
    check(&["increment a 5 --json"], "{\"key\":\"a\",\"version\":\"1\",\"number\":5}\n", Code::Done);
    check(&["put a x", "increment a"], "", Code::NotMet);
}

#[test]
fn del_tells_how_many() {
    check(&["put a x", "del a"], "1\n", Code::Done);
    check(&["put a x", "del a --previous"], "x\n", Code::Done);
    check(&["del a"], "0\n", Code::NotMet);
    check(&["put a x", "del a --json"], "{\"key\":\"a\",\"version\":\"2\",\"count\":1}\n", Code::Done);
}

#[test]
fn range_follows_pages_up_to_its_limit() {
    let five = "putall a 1 b 2 c 3 d 4 e 5";
    check(&[five, "range ''"], "a\t1\nb\t2\nc\t3\nd\t4\ne\t5\n", Code::Done);
    check(&[five, "range b d"], "b\t2\nc\t3\n", Code::Done);
    check(&[five, "range '' --limit 3"], "a\t1\nb\t2\nc\t3\n", Code::Done);
    check(&[five, "range '' --reverse --limit 3 --keys-only"], "e\nd\nc\n", Code::Done);
    check(&[five, "range '' --page c"], "d\t4\ne\t5\n", Code::Done);
    check(&[five, "range '' --count"], "5\n", Code::Done);
    check(&[five, "range x"], "", Code::Done);
    check(&["putall u:1 x u:2 y v:1 z", "range u: --prefix --keys-only"], "u:1\nu:2\n", Code::Done);
    check(&["putall a 1", "put a 2", "range '' --at 1"], "a\t1\n", Code::Done);
}

#[test]
fn range_as_json_is_an_object_a_row() {
    let two = "putall a 1 b 2";
    check(
        &[two, "range '' --json"],
        "{\"key\":\"a\",\"value\":\"1\",\"version\":\"1\"}\n{\"key\":\"b\",\"value\":\"2\",\"version\":\"1\"}\n",
        Code::Done,
    );
    check(&[two, "range b --json --keys-only"], "{\"key\":\"b\",\"version\":\"1\"}\n", Code::Done);
    check(&[two, "range '' --json --count"], "{\"count\":2}\n", Code::Done);
}

#[test]
fn delrange_goes_on_to_the_end() {
    let five = "putall a 1 b 2 c 3 d 4 e 5";
    check(&[five, "delrange a e"], "4\n", Code::Done);
    check(&[five, "delrange '' --all"], "5\n", Code::Done);
    check(&[five, "delrange x z"], "0\n", Code::Done);
    check(&[five, "delrange a b --json"], "{\"count\":1,\"version\":\"2\"}\n", Code::Done);
    check_refused("delrange a", "required", Code::Usage);
}

#[test]
fn getall_missing_key_exits_1() {
    check(&["putall a 1 b 2", "getall b a"], "b\t2\na\t1\n", Code::Done);
    check(&["put a 1", "getall a b"], "a\t1\n", Code::NotMet);
    check(
        &["put a 1", "getall b --json"],
        "{\"found\":false,\"key\":\"b\",\"value\":null,\"version\":null}\n",
        Code::NotMet,
    );
}

#[test]
fn putall_prints_a_version_per_key() {
    check(&["putall a 1 b 2"], "a\t1\nb\t1\n", Code::Done);
    check(&["putall a 1 --json"], "{\"key\":\"a\",\"version\":\"1\"}\n", Code::Done);
    check_refused("putall a 1 b", "the key 'b' has no value", Code::Usage);
}

#[test]
fn putall_without_arguments_reads_lines() {
    let fake = Fake::default();
    assert_eq!(run_on(&fake, "putall", b"a\t1\nb\tx\ty").out, "a\t1\nb\t1\n");
    assert_eq!(run_on(&fake, "get b", b"").out, "x\ty\n");
}

#[test]
fn history_is_newest_first() {
    check(&["put a x", "del a", "put a y", "history a"], "3\ty\n2\n1\tx\n", Code::Done);
    check(&["put a x", "put a y", "history a --limit 1"], "2\ty\n", Code::Done);
    check(&["history a"], "", Code::NotMet);
    check(
        &["put a x", "del a", "history a --json"],
        "{\"key\":\"a\",\"version\":\"2\",\"value\":null}\n{\"key\":\"a\",\"version\":\"1\",\"value\":\"x\"}\n",
        Code::Done,
    );
}

const FIVE: [&str; 5] = ["put a 1", "put a 2", "del a", "put a 4", "put a 5"];

/// Runs a line after five writes of a key; it must print and tell this.
fn check_after_five(line: &str, out: &str, err: &str) {
    let fake = Fake::default();
    for line in FIVE {
        run_on(&fake, line, b"");
    }
    let expect = Printed { out: out.into(), err: err.into(), code: Code::Done };
    assert_eq!(run_on(&fake, line, b""), expect, "{line}");
}

#[test]
fn history_follows_pages_up_to_its_limit() {
    check_after_five("history a", "5\t5\n4\t4\n3\n2\t2\n1\t1\n", "");
    check_after_five("history a --before 3", "2\t2\n1\t1\n", "");
    check_after_five("history a --limit 5", "5\t5\n4\t4\n3\n2\t2\n1\t1\n", "");
    let more = "there is more: history a --limit 3 --before 3\n";
    check_after_five("history a --limit 3", "5\t5\n4\t4\n3\n", more);
    check_after_five("history a --limit 3 --before 3", "2\t2\n1\t1\n", "");
    check_after_five("txn --then 'history a'", "then\n5\t5\n4\t4\n", "there is more: history a --before 4\n");
    check(&["put a x", "history a --before 1"], "", Code::NotMet);
}

#[test]
fn history_as_json_carries_where_to_go_on() {
    let object = |version: u32, rest: &str| {
        format!(r#"{{"key":"a","version":"{version}","value":"{version}"{rest}}}"#) + "\n"
    };
    check_after_five("history a --json --limit 1", &object(5, r#","next":"5""#), "");
    let two = object(5, "") + &object(4, r#","next":"4""#);
    check_after_five("history a --json --limit 2", &two, "");
    let last = object(2, "") + &object(1, "");
    check_after_five("history a --json --limit 2 --before 3", &last, "");
}

#[test]
fn history_that_goes_on_quotes_the_key() {
    let fake = Fake::default();
    for line in ["put 'it is' 1", "put 'it is' 2"] {
        run_on(&fake, line, b"");
    }
    let printed = run_on(&fake, "history 'it is' --limit 1", b"");
    assert_eq!(printed.err, "there is more: history 'it is' --limit 1 --before 2\n");
}

#[test]
fn trim_goes_on_to_the_end() {
    check_after_five("trim a", "4\n", "");
    check_after_five("trim a --below 4", "3\n", "");
    check_after_five("trim a --json", "{\"key\":\"a\",\"version\":\"7\",\"count\":4}\n", "");
    check_after_five("txn --then 'trim a'", "then\n2\n", "there is more: trim a\n");
    check(&["trim a"], "0\n", Code::Done);
}

#[test]
fn trim_of_many_keys_takes_deleted_ones_too() {
    let many = ["put a 1", "put a 2", "put a 3", "put a 4", "put b 1", "del b", "put c 1", "put c 2"];
    let after = |line| [&many[..], &[line]].concat();
    check(&after("trim a c"), "5\n", Code::Done);
    check(&after("trim '' --prefix"), "6\n", Code::Done);
    check(&after("trim --prefix b"), "2\n", Code::Done);
    check(&after("trim a c --below 2"), "1\n", Code::Done);
    check(&after("trim x z"), "0\n", Code::Done);
    check(&after("trim a c --json"), "{\"count\":5,\"version\":\"10\"}\n", Code::Done);
    check(&[&after("trim '' --prefix")[..], &["history b"]].concat(), "", Code::NotMet);
    check_refused("trim a c --prefix", "cannot be used with", Code::Usage);
    check_refused("txn --then 'trim a c'", "a transaction holds", Code::Usage);
}

#[test]
fn expire_tells_what_it_did() {
    check(&["put a x", "expire a 10s"], "2\n", Code::Done);
    check(&["expire a never"], "", Code::NotMet);
    check(
        &["put a x", "expire a never --json"],
        "{\"key\":\"a\",\"version\":\"2\",\"found\":true}\n",
        Code::Done,
    );
}

#[test]
fn txn_runs_one_branch() {
    let txn = "txn --if 'a = 1' --if 'b absent' --then 'put a 2' --then 'get a' --else 'get a'";
    check(&["put a 1", txn], "then\n2\n2\n", Code::Done);
    check(&["put a 7", txn], "else\n7\n", Code::NotMet);
    check(
        &["put a 1", &format!("{txn} --json")],
        concat!(
            r#"{"succeeded":true,"version":"2","answers":[{"key":"a","version":"2"},"#,
            r#"{"found":true,"key":"a","value":"2","version":"2"}]}"#,
            "\n"
        ),
        Code::Done,
    );
    check(&["txn --then 'put a 1'"], "then\n1\n", Code::Done);
}

#[test]
fn txn_that_makes_no_sense_is_refused() {
    check_refused("txn --if 'a == 1'", "is no condition", Code::Usage);
    check_refused("txn --then 'frob a'", "cannot be part of a transaction", Code::Usage);
    check_refused("txn --then 'range a'", "a transaction holds", Code::Usage);
    check_refused("txn --then 'put a 1 --ttl 3s'", "time to live", Code::Usage);
    check_refused("txn --then 'put a -'", "'-' reads standard input", Code::Usage);
}

#[test]
fn errors_of_the_store_have_their_exit_codes() {
    let cases = [
        (kv::Error::Unavailable("no leader".into()), Code::Unavailable, "error: no leader\n"),
        (kv::Error::InDoubt("timed out".into()), Code::InDoubt, "error: in doubt: timed out\n"),
        (kv::Error::Invalid("nonsense".into()), Code::Usage, "error: nonsense\n"),
    ];
    for (error, code, err) in cases {
        let fake = Fake::failing(error);
        for line in ["get a", "put a 1 --json", "range a"] {
            let expect = Printed { out: String::new(), err: err.into(), code };
            assert_eq!(run_on(&fake, line, b""), expect, "{line}");
        }
    }
}

#[test]
fn options_reach_the_request() {
    check_refused("get a --keyspace other", "there is no keyspace 'other'", Code::Usage);
    check_refused("get a --level sometimes", "is no level", Code::Usage);
    check_refused("get a --timeout 0s", "longer than nothing", Code::Usage);
    check_refused("get ''", "the key is empty", Code::Usage);
    let printed = run_on(&Fake::default(), "put a 1 --level local --receipt", b"");
    assert!(
        printed.err.starts_with("receipt: version 1, single, shard 1, epoch 1, asked local"),
        "{}",
        printed.err
    );
    assert_eq!(printed.out, "1\n");
}
