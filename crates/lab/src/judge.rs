//! The judge of a recorded history: was it linearizable? What is refused is kept as a file beside a drawing of it.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use check::history::{History, Outcome, json_lines};
use check::linear::{self, Budget, Verdict};
use check::model::Kv;
use check::window::Window;

/// How much a history says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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

/// Why a history is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// For people.
    pub why: String,
    /// What proves that it is not linearizable; `None` = nobody knows.
    pub window: Option<Box<Window>>,
}

/// Judges a history of single keys, all of whose writes the model knows.
pub fn judge(history: &History) -> Result<Figures, Refused> {
    let began = Instant::now();
    let judgement = linear::check(&Kv::default(), history, &mut Budget::steps(Budget::STEPS));
    assert_eq!(judgement.unjudged, 0, "the model knows every op of the workloads");
    match judgement.verdict {
        Verdict::Holds => Ok(Figures { keys: judgement.parts, took: began.elapsed(), ..figures(history) }),
        Verdict::Violated(window) => {
            Err(Refused { why: format!("not linearizable: {window}"), window: Some(window) })
        }
        Verdict::Undecided(why) => Err(Refused { why: format!("undecided: {why}"), window: None }),
    }
}

impl Refused {
    /// Keeps the history, and the drawing of what proves a violation, in a folder under a name; which files these are.
    pub fn keep(&self, history: &History, folder: &Path, name: &str) -> io::Result<Vec<PathBuf>> {
        let mut files = vec![keep(history, folder, name)?];
        if let Some(window) = &self.window {
            let file = folder.join(format!("{name}.html"));
            std::fs::write(&file, check::html::render(window))?;
            files.push(file);
        }
        Ok(files)
    }
}

/// Keeps a history in a folder under a name; which file that is. `capstan lab check` reads it.
pub fn keep(history: &History, folder: &Path, name: &str) -> io::Result<PathBuf> {
    let path = folder.join(format!("{name}.jsonl"));
    let mut file = BufWriter::new(File::create(&path)?);
    json_lines::write(history, &mut file)?;
    file.flush()?;
    Ok(path)
}

/// How much a history says.
pub fn figures(history: &History) -> Figures {
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

#[cfg(test)]
mod tests {
    use kv::{Answer, Key, Op, Value};

    use super::*;

    fn answered(history: &mut History, op: Op, answer: Answer) {
        let id = history.invoke(1, op, None);
        history.complete(id, Outcome::Done(Some(answer)), None);
    }

    #[test]
    fn history_without_an_acknowledged_write_is_refused_and_kept() {
        let (key, value) = (Key::from_static(b"k"), Value::from_static(b"v"));
        let mut history = History::new();
        let put = Op::Put { key: key.clone(), value, deadline: None, previous: false };
        answered(&mut history, put, Answer::Put { previous: None });
        assert!(judge(&history).is_ok());
        answered(&mut history, Op::Get { key, at: None }, Answer::Row(None));
        let refused = judge(&history).unwrap_err();
        assert!(refused.window.is_some(), "{refused:?}");
        let folder = tempfile::tempdir().unwrap();
        let files = refused.keep(&history, folder.path(), "raft").unwrap();
        assert_eq!(files, ["raft.jsonl", "raft.html"].map(|name| folder.path().join(name)));
        let kept = std::fs::read(&files[0]).unwrap();
        assert_eq!(json_lines::read(&kept[..]).unwrap().operations().len(), 2);
        assert!(std::fs::metadata(&files[1]).unwrap().len() > 0);
    }
}
