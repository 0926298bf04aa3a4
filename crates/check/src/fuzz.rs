//! The readers of histories as plain functions over bytes, for the crate `fuzz`; what is read is judged with a small budget.

use crate::history::jepsen::{FailedCas, Nil};
use crate::history::json_lines;
use crate::linear::Budget;
use crate::model::{Atomicity, Initial};
use crate::{Format, Options, check_file, html};

/// Steps of a search: enough to get into all of it.
const STEPS_MAX: u64 = 2_000;

/// JSON lines: what is read, written and read again is the same.
pub fn json(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(history) = json_lines::read(bytes) {
        let mut written = Vec::new();
        json_lines::write(&history, &mut written).expect("a buffer takes everything");
        let again = json_lines::read(&written[..]).expect("what was written is read");
        assert_eq!(again, history);
    }
    judge(text, Some(Format::JsonLines));
}

/// EDN maps.
pub fn edn(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    judge(text, Some(Format::Edn));
}

/// Lines of a Jepsen log.
pub fn log(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    judge(text, Some(Format::JepsenLog));
}

/// A file of any format.
pub fn any(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    judge(text, None);
}

fn judge(text: &str, format: Option<Format>) {
    let lines = text.lines().count().max(1);
    let other = Options {
        model: None,
        initial: Some(Initial::Value("0".into())),
        nil: Some(Nil::Value),
        failed_cas: Some(FailedCas::Compared),
        empty_is_absent: Some(true),
        atomicity: Atomicity::default(),
    };
    for options in [Options::default(), other] {
        match check_file(text, format, &options, &mut Budget::steps(STEPS_MAX)) {
            Ok(report) => {
                let _ = (report.to_string(), report.window.as_ref().map(html::render));
            }
            Err(error) => assert!((1..=lines).contains(&error.line), "{error}: of {lines} lines"),
        }
    }
}
