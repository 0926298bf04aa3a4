//! Rows from lines that are wrong, and answers that nobody takes.

use std::io::ErrorKind;

use super::*;
use crate::fake::Closed;

/// Runs `putall` on lines; it must store these keys, tell this, and end with this.
fn check_lines(line: &str, input: &[u8], keys: &[&str], tells: &[&str], code: Code) {
    let fake = Fake::default();
    let printed = run_on(&fake, line, input);
    let stored: Vec<_> = fake.rows().into_iter().map(|(key, _)| key).collect();
    assert_eq!((stored, printed.code), (keys.iter().map(|key| Bytes::from(key.to_string())).collect(), code));
    for tells in tells {
        assert!(printed.err.contains(tells), "{} lacks {tells}", printed.err);
    }
}

#[test]
fn putall_line_that_is_wrong_is_named_and_what_is_stored_is_told() {
    let told = "1 rows are stored, of the lines before line 2\n";
    for (wrong, why) in [
        (&b"d"[..], "it is not KEY<TAB>VALUE"),
        (b"", "it is not KEY<TAB>VALUE"),
        (b"d\tx\\qy", "\\q is no escape"),
        (b"d\\\tx", "is no escape"),
        (b"\tx", "the key is empty"),
        (b"{\"key\":\"d\",\"value\":\"1\"}", "read with --json"),
    ] {
        let input = [b"c\t1\n", wrong, b"\ne\t1\n"].concat();
        check_lines("putall", &input, &["c"], &["error: line 2 of standard input: ", why, told], Code::Usage);
    }
    check_lines("putall", b"c\t1\nd\t2\xff\n", &["c", "d"], &[], Code::Done);
}

#[test]
fn putall_json_line_that_is_wrong_is_named() {
    let good = "{\"key\":\"c\",\"value\":\"1\",\"version\":\"5\"}\n";
    for (wrong, why) in [
        ("c\t1", "it is no JSON object with key and value"),
        ("{\"key\":\"d\"}", "it has no value"),
        ("{\"key\":\"d\",\"value\":null}", "it has no value"),
        ("{\"value\":\"d\"}", "it has no key"),
        ("{\"key\":\"d\",\"value\":1}", "expected a string"),
        ("{\"key\":\"d\",\"value_base64\":\"!\"}", "its value_base64 is none"),
        ("{\"key\":\"d\",\"key_base64\":\"ZA==\",\"value\":\"\"}", "it has both key and key_base64"),
    ] {
        let input = format!("{good}{wrong}\n{good}");
        let tells = ["line 2 of standard input: ", why, "1 rows are stored"];
        check_lines("putall --json", input.as_bytes(), &["c"], &tells, Code::Usage);
    }
}

#[test]
fn putall_line_that_is_too_long_is_named() {
    let long = vec![b'x'; crate::lines::LINE_BYTES_MAX + 1];
    let input = [b"a\t1\n", &long[..]].concat();
    check_lines("putall", &input, &["a"], &["line 2 of standard input: it is longer than"], Code::Usage);
    let value = [b"a\t".to_vec(), vec![b'x'; kv::VALUE_BYTES_MAX + 1]].concat();
    check_lines("putall", &value, &[], &["line 1 of standard input: the value is too large"], Code::Usage);
}

#[test]
fn putall_that_fails_on_its_way_tells_what_is_stored() {
    let fake = Fake::failing_after(1, kv::Error::InDoubt("timed out".into()));
    let lines: String = (0..1500).map(|number| format!("{number:04}\t1\n")).collect();
    let printed = run_on(&fake, "putall", lines.as_bytes());
    let expect = "1000 rows are stored, of the lines before line 1001\nerror: in doubt: timed out\n";
    assert_eq!((printed.err.as_str(), printed.code, fake.rows().len()), (expect, Code::InDoubt, 1000));
}

/// Runs a line whose output cannot be written; how it ends, and what it tells.
fn run_closed(fake: &Fake, line: &str, input: &[u8], kind: ErrorKind) -> (Result<Code, Error>, String) {
    let cli = parsed(line.as_bytes()).expect(line);
    let Command::Data(command) = cli.command else { panic!("{line} is no data command") };
    let (mut out, mut err, mut input) = (Closed(kind), Vec::new(), input);
    let mut output = Output { out: &mut out, err: &mut err, terminal: false, json: cli.options.json };
    let run = super::super::run(&command, fake, &cli.options, Some(&mut input), &mut output);
    let result = connect::runtime().block_on(run);
    (output.end(result), String::from_utf8(err).expect("what is told is text"))
}

#[test]
fn answers_that_cannot_be_written_change_no_exit_code_of_a_write() {
    for kind in [ErrorKind::StorageFull, ErrorKind::BrokenPipe] {
        let fake = Fake::default();
        for (line, code) in [
            ("put a 1", Code::Done),
            ("insert a 2", Code::NotMet),
            ("increment n --receipt", Code::Done),
            ("del a --json", Code::Done),
            ("delrange a b", Code::Done),
            ("cas a --absent 1", Code::Done),
            ("txn --if 'a = 2' --then 'del a' --else 'put b 1'", Code::NotMet),
            ("getall a missing", Code::NotMet),
        ] {
            let (result, _) = run_closed(&fake, line, b"", kind);
            if !matches!(result, Ok(code) if code == Code::NotMet) {
                let error = result.expect_err(line);
                assert!(error.to_string().contains("the exit code tells how it went"), "{line}: {error}");
                assert_eq!(error.code(), code, "{line}");
            }
        }
        let keys: Vec<_> = fake.rows().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["a", "b", "n"]);
    }
}

#[test]
fn answers_of_putall_that_cannot_be_written_stop_no_row() {
    let lines: String = (0..2500).map(|number| format!("{number:04}\t1\n")).collect();
    for kind in [ErrorKind::StorageFull, ErrorKind::BrokenPipe] {
        let fake = Fake::default();
        let (result, err) = run_closed(&fake, "putall", lines.as_bytes(), kind);
        let error = result.expect_err("its output is closed");
        assert_eq!((error.code(), fake.rows().len(), err.as_str()), (Code::Done, 2500, ""));
    }
}

#[test]
fn data_that_cannot_be_written_is_an_error_unless_nobody_wants_it() {
    let fake = Fake::default();
    run_on(&fake, "put a 1", b"");
    for (kind, code) in [(ErrorKind::StorageFull, Code::Unavailable), (ErrorKind::BrokenPipe, Code::Done)] {
        for line in ["get a", "get a --raw", "range ''", "range '' --count --json", "history a"] {
            let (result, _) = run_closed(&fake, line, b"", kind);
            let error = result.expect_err(line);
            assert_eq!(
                (error.code(), error.is_broken_pipe()),
                (code, kind == ErrorKind::BrokenPipe),
                "{line}"
            );
        }
    }
}
