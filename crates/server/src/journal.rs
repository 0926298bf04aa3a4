//! The journal: what the node tells its operators, on stderr and in a file a day in the data folder, if it has one.

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use tracing_appender::non_blocking::{NonBlocking, WorkerGuard};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use crate::Stderr;

/// Days of journal that are kept.
const FILES_MAX: usize = 14;

/// Starts it, with files in `folder`; CAPSTAN_JOURNAL (as `info`, `debug`, `node=trace`) says how much it tells, on
/// stderr where it goes there at all. Dropping the guard writes the rest.
pub(crate) fn start(folder: Option<&Path>, stderr: &Stderr) -> Result<Option<WorkerGuard>, String> {
    let filter = |usual| EnvFilter::try_from_env("CAPSTAN_JOURNAL").unwrap_or_else(|_| EnvFilter::new(usual));
    let (file, guard) = folder.map(files).transpose()?.unzip();
    let to_file =
        file.map(|file| fmt::layer().with_ansi(false).with_writer(file).with_filter(filter("info")));
    let colours = std::io::stderr().is_terminal();
    let usual = match stderr {
        Stderr::Nothing => None,
        Stderr::Journal => Some("info"),
        Stderr::Line(_) => Some("warn"),
    };
    let layer = || fmt::layer().with_ansi(colours).with_writer(std::io::stderr);
    let to_stderr = usual.map(|usual| layer().with_filter(filter(usual)));
    // In tests several nodes share a process: the first one's journal is everyone's.
    let started = tracing_subscriber::registry().with(to_file).with(to_stderr).try_init();
    Ok(guard.filter(|_| started.is_ok()))
}

/// A file a day in a folder, which is made when it is not there.
fn files(folder: &Path) -> Result<(NonBlocking, WorkerGuard), String> {
    let cannot = |error: &dyn Display| format!("cannot write the journal in {}: {error}", folder.display());
    std::fs::create_dir_all(folder).map_err(|error| cannot(&error))?;
    let daily = tracing_appender::rolling::Builder::new()
        .rotation(tracing_appender::rolling::Rotation::DAILY)
        .filename_prefix("journal")
        .filename_suffix("log")
        .max_log_files(FILES_MAX)
        .build(folder)
        .map_err(|error| cannot(&error))?;
    Ok(tracing_appender::non_blocking(daily))
}

/// Says on stderr that the node serves, where it is to say so.
pub(crate) fn ready(stderr: &Stderr) {
    if let Stderr::Line(line) = stderr {
        // Who closed it wants to know nothing.
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}

/// What happens again and again is told at most so often.
const SELDOM: Duration = Duration::from_secs(1);

/// Says when something that happens again and again is told.
#[derive(Debug, Default)]
pub(crate) struct Seldom {
    told: Option<Instant>,
    untold: u64,
}

impl Seldom {
    /// It happened. When it is to be told: how often it happened since it was told last.
    pub fn happened(&mut self) -> Option<u64> {
        self.untold += 1;
        if self.told.is_some_and(|told| told.elapsed() < SELDOM) {
            return None;
        }
        self.told = Some(Instant::now());
        Some(std::mem::take(&mut self.untold))
    }
}
