//! Keys with more revisions than one answer holds, at the command line: told page by page, trimmed step by step.

use std::collections::BTreeSet;

use kv::{Function, Op, Request};
use serde_json::Value;

use crate::nodes::{Lab, Random, run, text};

/// More than a page of a history holds, and more than a step of a trim takes.
const REVISIONS: usize = 10_500;
/// Writers at a time.
const WRITERS: usize = 64;

/// Increments a key so often.
async fn increment(lab: &Lab, key: &'static str, times: usize) {
    let writer = |number| {
        let (client, times) = (lab.client(), times / WRITERS + usize::from(number < times % WRITERS));
        tokio::task::spawn_local(async move {
            let op = Op::Update { key: key.into(), function: Function::Increment { by: 1 } };
            for _ in 0..times {
                client.call(Request::new(op.clone())).await.unwrap();
            }
        })
    };
    for writer in (0..WRITERS).map(writer).collect::<Vec<_>>() {
        writer.await.unwrap();
    }
}

/// Runs a command that must be done; what it prints, and what it tells.
fn done(lab: &Lab, arguments: &[&str]) -> (String, String) {
    let output = lab.capstan(&[1], arguments);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {err}");
    (out, err)
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn history_of_many_revisions_is_told_whole_and_trimmed_whole() {
    run(async |mut random: Random| {
        let mut lab = Lab::new(1, &["--history", "all"], &mut random);
        lab.up().await;
        increment(&lab, "count", REVISIONS).await;
        let (whole, err) = done(&lab, &["history", "count"]);
        let values: Vec<usize> =
            whole.lines().map(|line| line.split_once('\t').unwrap().1.parse().unwrap()).collect();
        assert!(values.into_iter().eq((1..=REVISIONS).rev()), "each revision once, newest first");
        assert_eq!(err, "");
        // Up to a limit, and on with the command that it tells.
        let (first, err) = done(&lab, &["history", "count", "--limit", "10200"]);
        let command = err.strip_prefix("there is more: capstan ").unwrap().trim_end();
        let (rest, err) = done(&lab, &command.split(' ').collect::<Vec<_>>());
        assert_eq!((first + &rest, err.as_str()), (whole, ""));
        let (json, _) = done(&lab, &["history", "count", "--json", "--limit", "10001"]);
        let next: BTreeSet<usize> = json
            .lines()
            .enumerate()
            .filter(|(_, line)| serde_json::from_str::<Value>(line).unwrap().get("next").is_some())
            .map(|(index, _)| index)
            .collect();
        assert_eq!((json.lines().count(), next), (10_001, BTreeSet::from([10_000])));
        assert_eq!(done(&lab, &["trim", "count"]).0, format!("{}\n", REVISIONS - 1));
        assert_eq!(done(&lab, &["history", "count"]).0.lines().count(), 1);
        trim_of_what_is_deleted(&lab).await;
    });
}

async fn trim_of_what_is_deleted(lab: &Lab) {
    increment(lab, "gone", REVISIONS).await;
    let version = done(lab, &["get", "gone", "--json"]).0;
    let version = serde_json::from_str::<Value>(&version).unwrap()["version"].as_str().unwrap().to_owned();
    // On all shards, and in no range any more.
    let rows: Vec<String> = (0..40).flat_map(|number| [format!("gone:{number}"), "x".into()]).collect();
    done(lab, &[&["putall"][..], &rows.iter().map(String::as_str).collect::<Vec<_>>()].concat());
    assert_eq!(done(lab, &["delrange", "gone", "--prefix"]).0, "41\n");
    assert_eq!(done(lab, &["trim", "gone", "--prefix"]).0, format!("{}\n", REVISIONS + 1 + 2 * 40));
    for key in ["gone", "gone:7"] {
        assert_eq!(lab.capstan(&[1], &["history", key]).status.code(), Some(1), "nothing is left of {key}");
    }
    let old = lab.capstan(&[1], &["get", "gone", "--at", &version]);
    assert_eq!(old.status.code(), Some(2), "what it was is not known any more, and is not told as absent");
    assert!(text(&old.stderr).contains("is trimmed"), "{}", text(&old.stderr));
    assert_eq!(done(lab, &["trim", "", "--prefix"]).0, "0\n");
}
