//! The judge of a recorded history. What does not hold, or cannot be decided, is kept as a file beside a drawing of it.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use check::history::{History, Outcome, json_lines};
use check::linear::{self, Budget, Verdict};
use check::model::Kv;

/// Where histories are kept that do not hold: in the target folder.
const KEPT: &str = env!("CARGO_TARGET_TMPDIR");

/// How much a history tells.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// Requests.
    pub asked: usize,
    /// Of these, so many were answered.
    pub answered: usize,
    /// So many failed.
    pub failed: usize,
    /// Of so many nobody knows.
    pub unknown: usize,
    /// Keys that were judged apart.
    pub keys: usize,
    /// How long judging took.
    pub took: Duration,
}

/// Why a history is refused, and where it is kept.
#[derive(Debug)]
pub struct Refused {
    /// Whether it is proven that it is not linearizable; else it is undecided.
    pub is_violated: bool,
    /// For people.
    pub why: String,
    /// The history and, of a violation, the drawing.
    pub files: Vec<PathBuf>,
}

/// Judges a history that must be linearizable; panics otherwise.
pub fn holds(history: &History) -> Figures {
    match judge(history) {
        Ok(figures) => {
            println!("{figures}");
            figures
        }
        Err(Refused { why, files, .. }) => {
            files.iter().for_each(|file| println!("KEPT: {}", file.display()));
            panic!("{why}\nkept: {files:?}");
        }
    }
}

/// Judges a history.
pub fn judge(history: &History) -> Result<Figures, Refused> {
    let began = Instant::now();
    let judgement = linear::check(&Kv::default(), history, &mut Budget::steps(Budget::STEPS));
    assert_eq!(judgement.unjudged, 0, "the model knows every op of the workloads");
    match judgement.verdict {
        Verdict::Holds => Ok(Figures { keys: judgement.parts, took: began.elapsed(), ..figures(history) }),
        Verdict::Violated(window) => {
            let files = vec![keep(history, ".jsonl"), keep_text(&check::html::render(&window), ".html")];
            Err(Refused { is_violated: true, why: format!("not linearizable: {window}"), files })
        }
        Verdict::Undecided(why) => {
            let files = vec![keep(history, ".jsonl")];
            Err(Refused { is_violated: false, why: format!("undecided: {why}"), files })
        }
    }
}

fn figures(history: &History) -> Figures {
    let count = |is: fn(&Outcome) -> bool| {
        history.operations().iter().filter(|operation| is(&operation.outcome)).count()
    };
    Figures {
        asked: history.operations().len(),
        answered: count(|outcome| matches!(outcome, Outcome::Done(_))),
        failed: count(|outcome| *outcome == Outcome::Failed),
        unknown: count(|outcome| *outcome == Outcome::Unknown),
        ..Figures::default()
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Figures { asked, answered, failed, unknown, keys, took } = self;
        write!(
            f,
            "linearizable: {asked} requests ({answered} answered, {failed} failed, {unknown} in doubt) on {keys} keys, \
             judged in {took:.1?}"
        )
    }
}

impl std::ops::AddAssign for Figures {
    fn add_assign(&mut self, other: Figures) {
        self.asked += other.asked;
        self.answered += other.answered;
        self.failed += other.failed;
        self.unknown += other.unknown;
        self.keys += other.keys;
        self.took += other.took;
    }
}

fn keep(history: &History, suffix: &str) -> PathBuf {
    let (file, path) = kept(suffix);
    let mut file = BufWriter::new(file);
    json_lines::write(history, &mut file).unwrap();
    file.flush().unwrap();
    path
}

fn keep_text(text: &str, suffix: &str) -> PathBuf {
    let (mut file, path) = kept(suffix);
    file.write_all(text.as_bytes()).unwrap();
    path
}

fn kept(suffix: &str) -> (File, PathBuf) {
    let mut builder = tempfile::Builder::new();
    let file = builder.prefix("history-").suffix(suffix).tempfile_in(Path::new(KEPT)).unwrap();
    file.keep().unwrap()
}

#[cfg(test)]
mod tests {
    use check::history::Outcome;
    use kv::{Answer, Key, Op, Value};

    use super::*;

    fn told(history: &mut History, op: Op, answer: Answer) {
        let id = history.invoke(1, op, None);
        history.complete(id, Outcome::Done(Some(answer)), None);
    }

    #[test]
    fn history_without_an_acknowledged_write_is_refused_and_kept() {
        let (key, value) = (Key::from_static(b"k"), Value::from_static(b"v"));
        let mut history = History::new();
        let put = Op::Put { key: key.clone(), value, deadline: None, previous: false };
        told(&mut history, put, Answer::Put { previous: None });
        assert!(judge(&history).is_ok());
        told(&mut history, Op::Get { key, at: None }, Answer::Row(None));
        let refused = judge(&history).unwrap_err();
        assert!(refused.is_violated, "{refused:?}");
        assert_eq!(refused.files.len(), 2, "the history and its drawing");
        let kept = std::fs::read(&refused.files[0]).unwrap();
        assert_eq!(json_lines::read(&kept[..]).unwrap().operations().len(), 2);
        for file in refused.files {
            assert!(std::fs::metadata(&file).unwrap().len() > 0);
            std::fs::remove_file(file).unwrap();
        }
    }
}
