//! Files in every format: small histories with both verdicts, and what is said of broken ones.

use check::file::ModelName;
use check::history::jepsen::{FailedCas, Nil};
use check::history::json_lines;
use check::linear::Budget;
use check::model::Initial;
use check::{Format, Options, Report, Verdict, check_file};

fn report_with(text: &str, options: &Options) -> Report {
    check_file(text, None, options, &mut Budget::default()).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn report(text: &str) -> Report {
    report_with(text, &Options::default())
}

fn verdict(text: &str) -> Verdict {
    report(text).verdict
}

fn assert_unreadable(text: &str, line: usize, why: &str) {
    let error = check_file(text, None, &Options::default(), &mut Budget::default()).expect_err(text);
    assert_eq!(error.line, line, "{error}: {text}");
    assert!(error.why.contains(why), "'{error}' should say '{why}'");
}

const PUT: &str = "{\"process\":1,\"type\":\"invoke\",\"f\":\"put\",\"key\":\"a\",\"value\":\"1\",\"time\":10}\n\
                   {\"process\":1,\"type\":\"ok\",\"f\":\"put\",\"time\":12}\n";

fn after_put(answer: &str) -> String {
    format!(
        "{PUT}{{\"process\":2,\"type\":\"invoke\",\"f\":\"get\",\"key\":\"a\"}}\n{{\"process\":2,\"type\":\"ok\",{answer}}}\n"
    )
}

#[test]
fn json_lines_get_after_put_must_see_it() {
    assert_eq!(verdict(&after_put("\"value\":\"1\"")), Verdict::Holds);
    assert_eq!(verdict(&after_put("\"value\":\"\\u0031\"")), Verdict::Holds);
    assert_eq!(verdict(&after_put("\"value\":1")), Verdict::Violated, "a number is no text");
    assert_eq!(verdict(&after_put("\"value\":\"2\"")), Verdict::Violated);
    assert_eq!(verdict(&after_put("\"value\":null")), Verdict::Violated);
    assert_eq!(verdict(&after_put("\"value_base64\":\"/w==\"")), Verdict::Violated);
    assert_eq!(verdict(&after_put("\"f\":\"get\"")), Verdict::Holds, "an answer left out is not judged");
}

#[test]
fn json_lines_clock_decides_what_had_expired() {
    let put = PUT.replace("\"value\":\"1\"", "\"value\":\"1\",\"deadline\":7");
    let at = |clock: &str| after_put(&format!("\"value\":null,\"clock\":{clock}")).replace(PUT, &put);
    assert_eq!(verdict(&at("[7,7]")), Verdict::Holds);
    assert_eq!(verdict(&at("[6,6]")), Verdict::Violated, "it was not due");
    let history = json_lines::read(at("[6,8]").as_bytes()).expect("it is a history");
    let mut written = Vec::new();
    json_lines::write(&history, &mut written).expect("a vector takes all");
    assert_eq!(json_lines::read(written.as_slice()), Ok(history));
    for clock in ["[8,7]", "[7]", "7", "[-1,7]"] {
        assert_unreadable(&at(clock), 4, "'clock' is");
    }
}

#[test]
fn json_lines_report_tells_what_was_read() {
    let report = report(&after_put("\"value\":null"));
    assert_eq!((report.format, report.model), (Format::JsonLines, ModelName::Register));
    assert_eq!((report.operations, report.ok, report.failed, report.unknown), (2, 2, 0, 0));
    let window = report.window.as_ref().expect("a violation has a window");
    assert_eq!(window.operations[0].called_micros, Some(10));
    assert!(window.to_string().contains("put \"a\" = \"1\" -> ok"), "{window}");
    let json = serde_json::to_value(&report).expect("a report is JSON");
    assert_eq!(report.verdict.exit_code(), 1);
    assert!(
        report.to_string().starts_with("not linearizable: 2 operations (2 ok, 0 failed, 0 unknown)"),
        "{report}"
    );
    assert_eq!(json["verdict"], "violated");
    assert_eq!(json["format"], "json-lines");
    assert_eq!(json["window"]["fails"], 1);
}

#[test]
fn json_lines_unknown_may_have_happened_and_failed_did_not() {
    let history = |kind: &str, read: &str| {
        format!(
            "{{\"process\":1,\"type\":\"invoke\",\"f\":\"put\",\"key\":\"a\",\"value\":\"1\"}}\n\
             {{\"process\":1,\"type\":\"{kind}\"}}\n\
             {{\"process\":2,\"type\":\"invoke\",\"f\":\"get\",\"key\":\"a\"}}\n\
             {{\"process\":2,\"type\":\"ok\",\"value\":{read}}}\n"
        )
    };
    assert_eq!(verdict(&history("info", "\"1\"")), Verdict::Holds);
    assert_eq!(verdict(&history("info", "null")), Verdict::Holds);
    assert_eq!(verdict(&history("fail", "\"1\"")), Verdict::Violated);
    assert_eq!(verdict(&history("fail", "null")), Verdict::Holds);
}

#[test]
fn json_lines_broken_names_the_line() {
    assert_unreadable("", 1, "empty");
    assert_unreadable(&format!("{PUT}{{"), 3, "JSON");
    assert_unreadable("{\"type\":\"invoke\"}", 1, "process");
    assert_unreadable("\n{\"process\":-1,\"type\":\"invoke\"}", 2, "whole number");
    assert_unreadable("{\"process\":1,\"type\":\"begin\"}", 1, "begin");
    assert_unreadable("{\"process\":1,\"type\":\"invoke\",\"f\":\"frob\"}", 1, "frob");
    assert_unreadable("{\"process\":1,\"type\":\"invoke\",\"f\":\"put\",\"key\":\"a\"}", 1, "value");
    assert_unreadable("{\"process\":1,\"type\":\"ok\"}", 1, "asked nothing");
    let get = "{\"process\":1,\"type\":\"invoke\",\"f\":\"get\"}\n";
    assert_unreadable(&get.repeat(2), 2, "asks again");
    assert_unreadable(&format!("{get}{{\"process\":1,\"type\":\"ok\",\"f\":\"put\"}}"), 2, "'put'");
}

const LOG: &str = "INFO  jepsen.os.debian - :n1 setting up debian
INFO  jepsen.util - 0\t:invoke\t:write\t1
INFO  jepsen.util - :nemesis\t:info\t:start\tnil
INFO  jepsen.util - 1\t:invoke\t:read\tnil
INFO  jepsen.util - 1   :ok     :read   nil
INFO  jepsen.util - 0\t:ok\t:write\t1
INFO  jepsen.util - 2\t:invoke\t:cas\t[1 2]
INFO  jepsen.util - 2\t:info\t:cas\t:timed-out
INFO  jepsen.util - 3\t:invoke\t:read\tnil
INFO  jepsen.util - 3\t:fail\t:read\t:timed-out
";

fn log(read: &str) -> String {
    format!("{LOG}x 1\t:invoke\t:read\tnil\nx 1\t:ok\t:read\t{read}\n")
}

#[test]
fn log_with_noise_and_timeouts_is_judged() {
    assert_eq!(verdict(&log("1")), Verdict::Holds);
    assert_eq!(verdict(&log("2")), Verdict::Holds, "the cas that timed out may have happened");
    assert_eq!(verdict(&log("3")), Verdict::Violated);
    assert_eq!(verdict(&log("nil")), Verdict::Violated, "nil is a value in logs");
    let wildcard = Options { nil: Some(Nil::Wildcard), ..Options::default() };
    assert_eq!(report_with(&log("nil"), &wildcard).verdict, Verdict::Holds);
    let report = report(&log("1"));
    assert_eq!((report.format, report.skipped_lines), (Format::JepsenLog, 2));
    assert_eq!((report.operations, report.ok, report.failed, report.unknown), (5, 3, 1, 1));
}

#[test]
fn log_that_repeats_events_in_its_analysis_is_read_once() {
    let echo =
        format!("{}\nNot linearizable. Prefix:\n1\t:invoke\t:read\tnil\n1\t:invoke\t:read\t7\n", log("1"));
    assert_eq!(verdict(&echo), Verdict::Holds);
}

#[test]
fn log_cas_that_failed_found_another_value() {
    let history = "0 :invoke :write 1\n0 :ok :write 1\n0 :invoke :cas [1 2]\n0 :fail :cas [1 2]\n";
    assert_eq!(verdict(history), Verdict::Violated);
    let dropped = Options { failed_cas: Some(FailedCas::Dropped), ..Options::default() };
    assert_eq!(report_with(history, &dropped).verdict, Verdict::Holds);
}

#[test]
fn log_broken_names_the_line() {
    assert_unreadable(&LOG.replace(":cas\t[1 2]", ":cas\t[1"), 7, "cannot be read");
    assert_unreadable(&LOG.replace("1\t:invoke\t:read", "1\t:invok\t:read"), 4, ":invok");
    assert_unreadable(&LOG.replace("1\t:invoke\t:read\tnil", "nothing"), 5, "asked nothing");
    assert_unreadable("all is well\n", 1, "no history known");
}

#[test]
fn edn_in_a_vector_or_line_by_line_is_judged() {
    let ops = |read: &str| {
        format!(
            "{{:type :invoke, :f :write, :value 1, :process 0, :time 2000, :index 0}}\n\
             {{:process 0 :type :ok :f :write :value 1}} ; a comment\n\
             {{:process :nemesis, :type :info, :f :kill, :value nil}}\n\
             #jepsen.history.Op{{:process 7, :type :invoke, :f :read, :value nil, :error [:x \"y\"]}}\n\
             {{:process 7, :type :ok, :f :read, :value {read}}}\n"
        )
    };
    for (open, close) in [("", ""), ("[", "]"), ("(", ")"), ("; note\n[\n", "\n]")] {
        assert_eq!(verdict(&format!("{open}{}{close}", ops("1"))), Verdict::Holds, "{open}");
        assert_eq!(verdict(&format!("{open}{}{close}", ops("2"))), Verdict::Violated, "{open}");
        assert_eq!(
            verdict(&format!("{open}{}{close}", ops("nil"))),
            Verdict::Holds,
            "nil tells nothing in EDN"
        );
    }
    let value = Options { nil: Some(Nil::Value), ..Options::default() };
    assert_eq!(report_with(&ops("nil"), &value).verdict, Verdict::Violated);
}

#[test]
fn edn_initial_value_is_an_option() {
    let history =
        "{:process 0, :type :invoke, :f :read, :value nil}\n{:process 0, :type :ok, :f :read, :value 0}\n";
    assert_eq!(verdict(history), Verdict::Violated);
    for initial in [Initial::Value("0".into()), Initial::Unknown] {
        let options = Options { initial: Some(initial), ..Options::default() };
        assert_eq!(report_with(history, &options).verdict, Verdict::Holds);
    }
}

#[test]
fn edn_independent_keys_are_judged_apart() {
    let history = |tag: &str, read: &str| {
        format!(
            "{{:process 0, :type :invoke, :f :write, :value {tag}[5 1]}}\n\
             {{:process 1, :type :invoke, :f :cas, :value {tag}[6 [1 2]]}}\n\
             {{:process 0, :type :ok, :f :write, :value {tag}[5 1]}}\n\
             {{:process 1, :type :fail, :f :cas, :value {tag}[6 [1 2]]}}\n\
             {{:process 0, :type :invoke, :f :read, :value {tag}[5 nil]}}\n\
             {{:process 0, :type :ok, :f :read, :value {tag}[5 {read}]}}\n"
        )
    };
    for tag in ["", "#jepsen.independent/tuple ", "#jepsen.independent.Tuple"] {
        let report = report(&history(tag, "1"));
        assert_eq!((report.verdict, report.parts), (Verdict::Holds, 1), "{tag}: the failed cas says nothing");
        assert_eq!(verdict(&history(tag, "2")), Verdict::Violated, "{tag}");
    }
}

#[test]
fn edn_register_of_pairs_is_told_from_independent_keys() {
    let history = "{:process 0, :type :invoke, :f :cas, :value [1 2]}\n{:process 0, :type :ok, :f :cas, :value [1 2]}\n";
    assert_eq!(verdict(history), Verdict::Violated, "nothing is not 1");
    let options = Options { initial: Some(Initial::Value("1".into())), ..Options::default() };
    assert_eq!(report_with(history, &options).verdict, Verdict::Holds);
}

#[test]
fn edn_with_keys_appends_and_empty_gets_is_judged() {
    let history = |first: &str, last: &str| {
        format!(
            "{{:process 0, :type :invoke, :f :get, :key \"0\", :value nil}}\n\
             {{:process 0, :type :ok, :f :get, :key \"0\", :value {first}}}\n\
             {{:process 0, :type :invoke, :f :append, :key \"0\", :value \"x 0 0 y\"}}\n\
             {{:process 1, :type :invoke, :f :append, :key \"0\", :value \"x 1 0 y\"}}\n\
             {{:process 0, :type :ok, :f :append, :key \"0\", :value \"x 0 0 y\"}}\n\
             {{:process 1, :type :ok, :f :append, :key \"0\", :value \"x 1 0 y\"}}\n\
             {{:process 0, :type :invoke, :f :get, :key \"0\", :value nil}}\n\
             {{:process 0, :type :ok, :f :get, :key \"0\", :value {last}}}\n"
        )
    };
    assert_eq!(verdict(&history("\"\"", "\"x 0 0 yx 1 0 y\"")), Verdict::Holds);
    assert_eq!(verdict(&history("\"\"", "\"x 1 0 yx 0 0 y\"")), Verdict::Holds);
    assert_eq!(verdict(&history("\"\"", "\"x 0 0 y\"")), Verdict::Violated);
    assert_eq!(verdict(&history("\"x\"", "\"x 0 0 yx 1 0 y\"")), Verdict::Violated);
}

#[test]
fn edn_mutex_is_held_by_one() {
    let acquire = |process: u64| {
        format!(
            "{{:process {process}, :type :invoke, :f :acquire}}\n{{:process {process}, :type :ok, :f :acquire}}\n"
        )
    };
    let release = "{:process 0, :type :invoke, :f :release}\n{:process 0, :type :ok, :f :release}\n";
    assert_eq!(verdict(&[acquire(0), release.into(), acquire(1)].concat()), Verdict::Holds);
    assert_eq!(verdict(&[acquire(0), acquire(1)].concat()), Verdict::Violated);
    assert_eq!(verdict(release), Verdict::Violated);
}

#[test]
fn edn_transactions_are_atomic() {
    let history = |read: &str| {
        format!(
            "{{:process 0, :type :invoke, :f :txn, :value [[:w :x 1] [:append :y 1]]}}\n\
             {{:process 0, :type :ok, :f :txn, :value [[:w :x 1] [:append :y 1]]}}\n\
             {{:process 0, :type :invoke, :f :txn, :value [[:append :y 2]]}}\n\
             {{:process 0, :type :ok, :f :txn, :value [[:append :y 2]]}}\n\
             {{:process 1, :type :invoke, :f :txn, :value [[:r :x nil] [:r :y nil]]}}\n\
             {{:process 1, :type :ok, :f :txn, :value {read}}}\n"
        )
    };
    assert_eq!(verdict(&history("[[:r :x 1] [:r :y [1 2]]]")), Verdict::Holds);
    assert_eq!(verdict(&history("[[:r :x nil] [:r :y [1 2]]]")), Verdict::Holds, "nil tells nothing");
    assert_eq!(verdict(&history("[[:r :x 1] [:r :y [1]]]")), Verdict::Violated);
    assert_eq!(verdict(&history("[[:r :x 1] [:r :y [2 1]]]")), Verdict::Violated);
}

#[test]
fn edn_of_nemeses_only_holds() {
    assert_eq!(verdict("[{:process :nemesis, :type :info, :f :kill, :value nil}]"), Verdict::Holds);
}

#[test]
fn edn_broken_names_the_line() {
    let good = "{:process 0, :type :invoke, :f :read, :value nil}\n";
    assert_unreadable("[]", 1, "no event");
    assert_unreadable(&format!("[{good}{good}]"), 2, "asks again");
    assert_unreadable(&format!("[{good}"), 1, "ends before");
    assert_unreadable(&format!("{good}{{:process 0, :type :ok, :f :write, :value 1}}"), 2, ":write");
    assert_unreadable(&format!("{good}{{:process 1, :f :read}}"), 2, ":type");
    assert_unreadable(&format!("{good}{{:process 1, :type :done, :f :read}}"), 2, ":done");
    assert_unreadable(&format!("{good}{{:process 1, :type :invoke, :f :enqueue}}"), 2, ":enqueue");
    assert_unreadable(
        &format!("{good}{{:process 1, :type :invoke, :f :cas, :value 3}}"),
        2,
        "[expected new]",
    );
    assert_unreadable(&format!("{good}17"), 1, "no op map");
}

#[test]
fn format_given_is_not_guessed() {
    let text = "{:process 0, :type :invoke, :f :read, :value nil}\n";
    let judge = |format| check_file(text, Some(format), &Options::default(), &mut Budget::default());
    assert!(judge(Format::Edn).is_ok());
    assert_eq!(judge(Format::JsonLines).expect_err("no JSON").line, 1);
    for format in [Format::JsonLines, Format::Edn, Format::JepsenLog] {
        assert_eq!(format.name().parse(), Ok(format));
    }
}

#[test]
fn garbage_is_refused_not_judged() {
    let mut rng = check::generate::Rng::new(11);
    let pieces = [
        "{",
        "}",
        "[",
        "]",
        ":ok",
        ":invoke ",
        "\"",
        "#",
        "1",
        " ",
        "\n",
        "\\",
        ":process 1 ",
        "é",
        "\0",
        ";",
    ];
    for _ in 0..2_000 {
        let text: String = (0..20).map(|_| pieces[rng.below(pieces.len() as u64) as usize]).collect();
        for format in [None, Some(Format::JsonLines), Some(Format::Edn), Some(Format::JepsenLog)] {
            let result = check_file(&text, format, &Options::default(), &mut Budget::default());
            assert!(
                result.is_err()
                    || text.contains(":process")
                    || text.contains(":ok")
                    || text.contains(":invoke"),
                "{text}"
            );
        }
    }
}

const EDN: &str = "{:process 0, :type :invoke, :f :write, :value 1}
{:process 0, :type :ok, :f :write, :value 1}
{:process 1, :type :invoke, :f :read, :value nil}
{:process 1, :type :ok, :f :read, :value 1}
";

#[test]
fn file_in_the_ways_of_its_writer_is_the_same_history() {
    let metadata = EDN.replace("{:process", "^{:from 3} {:process");
    let pattern = EDN.replace(", :value", ", :near #\"\\d+\\\"[\", :value");
    let named =
        EDN.replace(":type :", ":type \"").replace(", :f :", "\", :f \"").replace(", :value", "\", :value");
    for text in [EDN, &metadata, &pattern, &named, &log("1"), PUT] {
        assert_eq!(verdict(text), Verdict::Holds, "{text}");
        assert_eq!(verdict(&format!("\u{feff}{}", text.replace('\n', "\r\n"))), Verdict::Holds, "{text}");
        assert_eq!(
            verdict(&format!("\n\n{}", text.trim_end().replace('\n', "\n\n"))),
            Verdict::Holds,
            "{text}"
        );
    }
}

#[test]
fn values_without_order_are_equal_in_any_order() {
    let history = |written, read| {
        EDN.replace(":write, :value 1", &format!(":write, :value {written}"))
            .replace(":read, :value 1", &format!(":read, :value {read}"))
    };
    assert_eq!(verdict(&history("#{1 2}", "#{2 1}")), Verdict::Holds);
    assert_eq!(verdict(&history("{:a 1, :b 2}", "{:b 2 :a 1}")), Verdict::Holds);
    assert_eq!(verdict(&history("#{1 2}", "#{1 3}")), Verdict::Violated);
    assert_eq!(verdict(&history("[1 2]", "[2 1]")), Verdict::Violated);
}

#[test]
fn client_under_another_name_is_refused_not_overlooked() {
    for name in [":c1", "-1", "\"1\"", "nil", "18446744073709551616"] {
        assert_unreadable(&EDN.replace(":process 1", &format!(":process {name}")), 3, "no whole number");
    }
}

#[test]
fn nemesis_among_json_lines_is_skipped() {
    let nemesis = "{\"process\":\"nemesis\",\"type\":\"info\",\"f\":\"start\",\"value\":[\"n1\"]}\n";
    assert_eq!(report(&format!("{nemesis}{PUT}{nemesis}")).operations, report(PUT).operations);
    assert_unreadable(&format!("{PUT}{}", nemesis.replace("info", "ok")), 3, "nemesis");
}

#[test]
fn shards_told_in_json_lines_are_judged_apart_also_after_writing() {
    let put_all = r#""process":1,"f":"put-all","rows":[{"key":"a","value":"1"},{"key":"b","value":"1"}]"#;
    let range = r#""process":2,"f":"range""#;
    let events = format!(
        "{{{put_all},\"type\":\"invoke\"}}\n{{{range},\"type\":\"invoke\"}}\n\
         {{{range},\"type\":\"ok\",\"rows\":[{{\"key\":\"b\",\"value\":\"1\"}}]}}\n{{\"process\":1,\"type\":\"ok\"}}\n"
    );
    assert_eq!(verdict(&events), Verdict::Violated, "half of it is seen");
    let told =
        |shards| format!("{{\"process\":\"keyspace\",\"type\":\"info\",\"shards\":{shards}}}\n{events}");
    assert_eq!(verdict(&told("2")), Verdict::Holds, "they are in two shards");
    let mut written = Vec::new();
    let history = json_lines::read(told("2").as_bytes()).expect("it is one");
    json_lines::write(&history, &mut written).expect("a vector takes all");
    assert_eq!(verdict(&String::from_utf8(written).expect("it is text")), Verdict::Holds);
    assert_unreadable(&told("0"), 1, "'shards' is 0");
}

#[test]
fn json_of_many_lines_is_told_what_it_is() {
    assert_unreadable("[{\"process\":0},\n{\"process\":1}]", 1, "array");
    assert_unreadable("\n[\n  {\n \"process\":0}\n]", 2, "array");
    assert_unreadable("{\n  \"process\": 0\n}", 1, "JSON object");
}

#[test]
fn log_says_why_an_op_failed_in_any_words() {
    let failed = "2 :info :cas [1 2]\tindeterminate: refused (connection: {\n";
    let history = |asked| format!("0 :invoke :write {asked}\n2 :invoke :cas [1 2]\n{failed}");
    assert_eq!(verdict(&history("1")), Verdict::Holds);
    assert_unreadable(&history("key 1"), 1, "there is more: '1'");
}

#[test]
fn write_with_another_outcome_is_refused_not_guessed() {
    let versioned = |told| {
        format!(
            "{{:process 0, :type :invoke, :f :write, :value [:k [nil 3]]}}\n{{:process 0, :type :ok, :f :write, :value {told}}}"
        )
    };
    assert_unreadable(&versioned("[:k [1 3]]"), 2, "[1 3]");
    for same in ["[:k [nil 3]]", "#jepsen.independent/tuple [:k (nil 3)]", "nil", ":ok"] {
        assert_eq!(verdict(&versioned(same)), Verdict::Holds, "{same}");
    }
    let transaction = |told| {
        let asked = "{:process 0, :type :invoke, :f :txn, :value [[:w 1 2] [:r 2 nil]]}";
        format!("{asked}\n{{:process 0, :type :ok, :f :txn, :value {told}}}")
    };
    for another in ["[[:w 1 3] [:r 2 nil]]", "[[:w 1 2] [:r 3 nil]]", "[[:w 1 2]]", "[]"] {
        assert_unreadable(&transaction(another), 2, another);
    }
    for same in ["[[:w 1 2] [:r 2 nil]]", "([:w 1 2] (:r 2 nil))", "nil"] {
        assert_eq!(verdict(&transaction(same)), Verdict::Holds, "{same}");
    }
}
