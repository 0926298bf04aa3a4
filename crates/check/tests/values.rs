//! Which values of a file are the same: what its format means by them decides, not how they are written.

use check::linear::Budget;
use check::model::Initial;
use check::{Options, Verdict, check_file};

fn verdict_with(text: &str, options: &Options) -> Verdict {
    let report = check_file(text, None, options, &mut Budget::default());
    report.unwrap_or_else(|error| panic!("{error}: {text}")).verdict
}

fn verdict(text: &str) -> Verdict {
    verdict_with(text, &Options::default())
}

/// A value is written and read back as another one: each group is of values that are equal, and no two groups are.
fn check_values(kinds: &[&[&str]], history: impl Fn(&str, &str) -> String) {
    for (index, kind) in kinds.iter().enumerate() {
        for (other, value) in
            kinds.iter().enumerate().flat_map(|(at, kind)| kind.iter().map(move |v| (at, v)))
        {
            let history = history(kind[0], value);
            let expect = if index == other { Verdict::Holds } else { Verdict::Violated };
            assert_eq!(verdict(&history), expect, "{history}");
        }
    }
}

#[test]
fn edn_and_log_values_are_equal_as_their_format_means_them() {
    let kinds: &[&[&str]] = &[
        &["5", "+5", "5N"],
        &["5.0", "5e0"],
        &["5M", "5.00M"],
        &["\"5\"", "\"\\u0035\""],
        &["18446744073709551616", "18446744073709551616N"],
        &["18446744073709551617"],
        &[":a"],
        &["\":a\""],
        &["a"],
        &["\"a\""],
        &["\\a", "\\u0061"],
        &["[5 :a]", "(+5 :a)"],
        &["[5 \":a\"]"],
        &["[\"5\" :a]"],
        &["[\"5 :a\"]"],
        &["\"5,:a,\""],
        &["#{5 {:a \"b\"}}", "#{{:a \"b\"} 5N}"],
        &["#{5 {:a b}}"],
        &["true"],
        &["\"true\""],
    ];
    check_values(kinds, |written, read| {
        let op = |kind: &str, f: &str, value: &str| {
            format!("{{:process 0, :type :{kind}, :f :{f}, :value {value}}}\n")
        };
        let write = [op("invoke", "write", written), op("ok", "write", written)].concat();
        [write, op("invoke", "read", "nil"), op("ok", "read", read)].concat()
    });
    check_values(kinds, |written, read| {
        format!(
            "0 :invoke :write {written}\n0 :ok :write {written}\n0 :invoke :read nil\n0 :ok :read {read}\n"
        )
    });
    check_values(kinds, |written, read| {
        let op =
            |kind: &str, value: &str| format!("{{:process 0, :type :{kind}, :f :txn, :value [[{value}]]}}\n");
        let write = format!(":w :k {written}");
        [
            op("invoke", &write),
            op("ok", &write),
            op("invoke", ":r :k nil"),
            op("ok", &format!(":r :k {read}")),
        ]
        .concat()
    });
}

fn put_and_get(written: &str, read: &str, more: &str) -> String {
    let event = |kind, rest: &str| format!("{{\"process\":1,\"type\":\"{kind}\"{rest}}}\n");
    [
        event("invoke", &format!(",\"f\":\"put\",\"key\":\"a\",\"value\":{written}")),
        event("ok", ""),
        event("invoke", ",\"f\":\"get\",\"key\":\"a\""),
        event("ok", &format!(",\"value\":{read}")),
        more.into(),
    ]
    .concat()
}

#[test]
fn json_lines_values_are_equal_as_json_means_them() {
    let kinds: &[&[&str]] = &[
        &["1", "1.0", "1e0", "10E-1"],
        &["\"1\"", "\"\\u0031\""],
        &["\"1.0\""],
        &["0", "-0"],
        &["18446744073709551616"],
        &["18446744073709551617"],
        &["0.1"],
        &["0.10000000000000001"],
        &["\"A\"", "\"\\u0041\""],
    ];
    check_values(kinds, |written, read| put_and_get(written, read, ""));
}

#[test]
fn json_lines_numbers_are_texts_beside_functions_of_texts() {
    let increment = "{\"process\":1,\"type\":\"invoke\",\"f\":\"increment\",\"key\":\"a\",\"by\":2}\n\
                     {\"process\":1,\"type\":\"ok\",\"number\":7}\n";
    let get = |read: &str| {
        let event = "{\"process\":1,\"type\":\"invoke\",\"f\":\"get\",\"key\":\"a\"}\n";
        format!("{increment}{event}{{\"process\":1,\"type\":\"ok\",\"value\":{read}}}\n")
    };
    for (written, read) in [("5", "7"), ("\"5\"", "\"7\""), ("5", "\"7\""), ("\"5\"", "7")] {
        assert_eq!(verdict(&put_and_get("5", written, &get(read))), Verdict::Holds, "{written} {read}");
    }
    assert_eq!(verdict(&put_and_get("5", "6", &get("7"))), Verdict::Violated);
}

#[test]
fn initial_value_is_written_as_in_the_file() {
    let read = |value: &str| format!("0 :invoke :read nil\n0 :ok :read {value}\n");
    let begins = |initial: &'static str| Options {
        initial: Some(Initial::Value(initial.into())),
        ..Options::default()
    };
    for (initial, value) in
        [("0", "0"), ("0", "\"0\""), ("+0", "0"), (":a", ":a"), ("a b", "\"a b\""), ("\"a\"", "\"a\"")]
    {
        assert_eq!(verdict_with(&read(value), &begins(initial)), Verdict::Holds, "{initial} {value}");
    }
    for (initial, value) in [("0", "0.0"), ("\"0\"", "0"), (":a", "\"a\"")] {
        assert_eq!(verdict_with(&read(value), &begins(initial)), Verdict::Violated, "{initial} {value}");
    }
    let json = |value: &str| {
        put_and_get(value, value, "").lines().skip(2).map(|line| format!("{line}\n")).collect::<String>()
    };
    for value in ["0", "0.0", "\"0\""] {
        assert_eq!(verdict_with(&json(value), &begins("0")), Verdict::Holds, "{value}");
    }
}
