//! `capstan lab eval`: what consistency costs, and slow nodes, as the command says it, and that nothing stays behind.

use std::process::Command;

use serde_json::Value;

use crate::nodes::{CAPSTAN, text};

fn number(row: &Value, field: &str) -> u64 {
    row[field].as_u64().unwrap_or_else(|| panic!("{field} is a number: {row}"))
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn lab_eval_shards_says_who_reads_what_is_old_and_never_more_than_it_may_be() {
    let (rows, plot) = evaluated("shards", &[]);
    assert_eq!(rows.len(), 11);
    for row in &rows {
        assert!(number(row, "puts") > 0 && number(row, "gets") > 0, "{row}");
        assert_eq!((number(row, "failed"), number(row, "untrue")), (0, 0), "{row}");
        if row["level"] == "linearizable" {
            assert_eq!((number(row, "wrong_reads"), number(row, "bound_micros")), (0, 0), "{row}");
        }
        assert!(number(row, "wrong_by_micros") <= number(row, "bound_micros"), "{row}");
    }
    let named = |name: &str| rows.iter().find(|row| row["form"] == name).expect("it is measured");
    assert!(number(named("sync-0-local"), "wrong_reads") > 0, "three of four gets may be old");
    assert_eq!(number(named("8-shards"), "leaders"), 4, "they are spread over all nodes");
    assert!(plot.starts_with("<svg ") && plot.contains("sync-2-bounded"), "{plot}");
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn lab_eval_store_says_whom_a_slow_node_keeps_waiting_in_both_forms() {
    let (rows, plot) = evaluated("store", &["--slow", "200ms"]);
    let slow = |row: &Value| row["slow"].as_str().unwrap_or("nobody").to_owned();
    let each: Vec<(String, String)> =
        rows.iter().map(|row| (row["form"].as_str().expect("it has a name").to_owned(), slow(row))).collect();
    let all = ["nobody", "n1", "n2", "n3"];
    let expected =
        ["centralized", "decentralized"].map(|form| all.map(|who| (form.to_owned(), who.to_owned())));
    assert_eq!(each, expected.concat());
    for row in &rows {
        assert!(number(row, "puts") > 0 && number(row, "gets") > 0, "{row}");
        assert_eq!((number(row, "failed"), number(row, "untrue")), (0, 0), "{row}");
        let put = number(row, "put_p50_micros");
        match (row["form"].as_str(), row["slow_is"].as_str()) {
            (_, None) => assert!(put < 200_000, "{row}"),
            (Some("centralized"), Some(_)) => assert!(put >= 200_000, "a put waits for all: {row}"),
            (_, Some("weighs 2")) => assert!(put >= 200_000, "without it a put is not on 3 of 4: {row}"),
            // One of three clients is with the node that is slow itself.
            (_, Some(_)) => assert!(put < 200_000, "the others do without it: {row}"),
        }
    }
    assert!(plot.starts_with("<svg ") && plot.contains("decentralized, slow: n2, weighs 2"), "{plot}");
}

/// What an evaluation says, a row each, and its plot. Nothing else is left.
fn evaluated(of: &str, options: &[&str]) -> (Vec<Value>, String) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(CAPSTAN);
    command.args(["lab", "eval", of, "--seconds", "1", "--json"]).args(options);
    let output = command.env("TMPDIR", folder.path()).current_dir(folder.path()).output().unwrap();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{out}\n{err}");
    println!("{out}");
    assert_eq!(err, format!("the plot is in eval-{of}.svg\n"), "no progress is shown where no terminal is");
    let rows = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let plot = std::fs::read_to_string(folder.path().join(format!("eval-{of}.svg"))).unwrap();
    assert_eq!(folder.path().read_dir().unwrap().count(), 1, "the plot, and nothing of the nodes");
    (rows, plot)
}
