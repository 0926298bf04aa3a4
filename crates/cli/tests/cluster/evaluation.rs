//! `capstan lab eval shards`: what consistency costs, as the command says it, and that nothing stays behind.

use std::process::Command;

use serde_json::Value;

use crate::nodes::{CAPSTAN, text};

fn number(row: &Value, field: &str) -> u64 {
    row[field].as_u64().unwrap_or_else(|| panic!("{field} is a number: {row}"))
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn lab_eval_shards_says_who_reads_what_is_old_and_never_more_than_it_may_be() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(CAPSTAN);
    command.args(["lab", "eval", "shards", "--seconds", "1", "--json"]);
    let output = command.env("TMPDIR", folder.path()).current_dir(folder.path()).output().unwrap();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{out}\n{err}");
    println!("{out}");
    assert_eq!(err, "the plot is in eval-shards.svg\n", "no progress is shown where no terminal is");
    let rows: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
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
    let plot = std::fs::read_to_string(folder.path().join("eval-shards.svg")).unwrap();
    assert!(plot.starts_with("<svg ") && plot.contains("sync-2-bounded"), "{plot}");
    assert_eq!(folder.path().read_dir().unwrap().count(), 1, "the plot, and nothing of the nodes");
}
