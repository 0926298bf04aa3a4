//! What is made of a recorded history that is judged: the figures are printed; of one that is refused the files are kept.

use std::path::Path;

use check::history::History;
use lab::{Figures, Refused};

/// Where histories are kept that do not hold: in the target folder.
const KEPT: &str = env!("CARGO_TARGET_TMPDIR");

/// Judges a history that must be linearizable; panics otherwise.
pub fn holds(history: &History) -> Figures {
    match lab::judge(history) {
        Ok(figures) => {
            println!("{figures}");
            figures
        }
        Err(refused) => {
            let files = keep(&refused, history);
            panic!("{}\nkept: {files}", refused.why);
        }
    }
}

/// The files of a refused history, under a name that no other one has.
fn keep(refused: &Refused, history: &History) -> String {
    let folder = tempfile::Builder::new().prefix("history-").tempdir_in(Path::new(KEPT)).unwrap().keep();
    let files = refused.keep(history, &folder, "history").unwrap();
    files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ")
}
