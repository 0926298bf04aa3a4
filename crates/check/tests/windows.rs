//! What a person gets to see of a violation.

use check::history::{History, Outcome};
use check::html;
use check::linear::{self, Budget, Verdict};
use check::model::Kv;
use check::window::Window;
use kv::{Answer, Op, Row, Version};

fn put(value: &'static str) -> Op {
    Op::Put { key: "k<1>".into(), value: value.into(), deadline: None, previous: false }
}

fn found(value: &'static str) -> Outcome {
    let row = Row {
        key: "k<1>".into(),
        value: value.into(),
        version: Version::ZERO,
        created: Version::ZERO,
        changes: 1,
        deadline: None,
    };
    Outcome::Done(Some(Answer::Row(Some(row))))
}

/// "a" is overwritten by "b", and read again.
fn stale_read(noise: usize) -> Window {
    let done = || Outcome::Done(Some(Answer::Put { previous: None }));
    let get = || Op::Get { key: "k<1>".into(), at: None };
    let mut history = History::new();
    for (process, value) in [(0, "a"), (1, "b")] {
        let id = history.invoke(process, put(value), Some(10));
        history.complete(id, done(), Some(20));
    }
    for _ in 0..noise {
        let write = history.invoke(2, put("c"), None);
        history.complete(write, done(), None);
        let write = history.invoke(2, put("b"), None);
        history.complete(write, done(), None);
        let read = history.invoke(3, get(), None);
        history.complete(read, found("b"), None);
    }
    let open = history.invoke(4, put("d"), None);
    let stale = history.invoke(5, get(), Some(30));
    history.complete(stale, found("a"), Some(40));
    history.complete(open, Outcome::Unknown, None);
    let after = history.invoke(6, get(), None);
    history.complete(after, found("z"), None);
    let verdict = linear::check(&Kv::default(), &history, &mut Budget::default()).verdict;
    let Verdict::Violated(window) = verdict else { panic!("{verdict:?}") };
    *window
}

#[test]
fn window_text_names_the_ops_the_failing_one_and_the_possible_states() {
    let text = stale_read(0).to_string();
    let expected = r#""k<1>": these operations have no order that one copy of the data would allow
    events  process  operation
       0-1        0  put "k<1>" = "a" -> ok
       2-3        1  put "k<1>" = "b" -> ok
       5-6        5  get "k<1>" -> "a"  <- fails
get "k<1>" of process 5 cannot have answered "a". Possible just before it returned: "b", or "d"."#;
    assert_eq!(text, expected);
}

#[test]
fn window_leaves_out_what_the_proof_does_not_need() {
    let window = stale_read(200);
    let ops: Vec<&str> = window.operations.iter().map(|shown| shown.op.as_str()).collect();
    assert_eq!(ops.len(), 3, "{window}");
    assert_eq!((ops[window.fails], window.left_out), ("get \"k<1>\"", 0));
}

#[test]
fn page_is_whole_safe_and_marks_the_failing_bar() {
    let page = html::render(&stale_read(0));
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"));
    assert_eq!(page.matches("class=\"fails\"").count(), 1);
    assert_eq!(page.matches("<g>").count(), 3);
    assert!(!page.contains("k<1>"), "texts are escaped");
    assert!(page.contains("k&lt;1&gt;"));
    for outside in ["http", "<script", "src=", "@import"] {
        assert!(!page.contains(outside), "the page stands alone: {outside}");
    }
    for process in ["process 0", "process 1", "process 5"] {
        assert!(page.contains(process), "{process}");
    }
    assert!(page.contains("at 30 us"));
}
