//! The folder of a local cluster: one owner at a time, and what its first start fixed.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::args::Args;
use super::member::Member;
use super::wait::Taking;
use crate::exit::Error;
use crate::parse::{Deleted, Engine, History};

/// What cannot change once data is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fixed {
    /// How many nodes.
    pub nodes: u16,
    /// Where rows are kept.
    pub engine: Engine,
    /// How many revisions of a key are kept.
    pub history: History,
    /// How long those of a deleted key are kept.
    pub deleted_history: Deleted,
    /// How many shards.
    pub shards: u32,
}

/// Whether the folder holds a cluster that was started before.
pub fn is_old(folder: &Path) -> bool {
    folder.join(FIXED).exists()
}

/// Makes the folder and takes it. It is free again when the file is dropped, however the process ends.
pub fn lock(folder: &Path) -> Result<Taking<File>, Error> {
    let at = |what: &str, error: &dyn std::fmt::Display| {
        Error::Usage(format!("{what} the data folder {}: {error}", folder.display()))
    };
    fs::create_dir_all(folder).map_err(|error| at("making", &error))?;
    let path = folder.join(LOCK);
    let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    let mut file = options.map_err(|error| at("opening", &error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut owner = String::new();
            // For the message only: an unreadable owner is one without a number.
            let _ = file.read_to_string(&mut owner);
            let owner = if owner.is_empty() { "another process".into() } else { format!("process {owner}") };
            let text = format!("{owner} runs it already; stop that one, or choose another --data");
            return Ok(Taking::Busy(at("taking", &text).to_string()));
        }
        Err(TryLockError::Error(error)) => return Err(at("locking", &error)),
    }
    let written =
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| write!(file, "{}", std::process::id()));
    written.map_err(|error| at("writing to", &error))?;
    Ok(Taking::Taken(file))
}

/// Checks that no node of an earlier start runs on in the folder.
pub fn check_free(folder: &Path, members: &[Member]) -> Result<Taking<()>, Error> {
    for member in members {
        let path = folder.join(&member.name).join(LOCK);
        let Ok(file) = File::open(&path) else { continue };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Ok(Taking::Busy(format!(
                    "{} of an earlier start runs in {}; stop it, or choose another --data",
                    member.name,
                    folder.display()
                )));
            }
            Err(TryLockError::Error(error)) => {
                return Err(Error::Usage(format!("locking {}: {error}", path.display())));
            }
        }
    }
    Ok(Taking::Taken(()))
}

/// What the first start fixed; before that, what the options say.
pub fn settle(args: &Args) -> Result<Fixed, Error> {
    match read(&args.data)? {
        Some(fixed) => check(args, &fixed).map(|()| fixed),
        None => {
            refuse_foreign(&args.data)?;
            let nodes = args.nodes.unwrap_or(NODES);
            Ok(Fixed {
                nodes,
                engine: args.engine.unwrap_or(Engine::Disk),
                history: args.history.unwrap_or(History::Count(server::Config::HISTORY)),
                deleted_history: args.deleted_history.unwrap_or(Deleted::USUAL),
                shards: args.shards.unwrap_or(server::Config::SHARDS),
            })
        }
    }
}

/// Fixes this for all starts to come.
pub fn fix(folder: &Path, fixed: &Fixed) -> Result<(), Error> {
    let written = Written {
        format: FORMAT,
        nodes: fixed.nodes,
        engine: fixed.engine.to_string(),
        history: fixed.history.to_string(),
        deleted_history: fixed.deleted_history.to_string(),
        shards: fixed.shards,
    };
    let text = serde_json::to_string_pretty(&written).expect("numbers and texts are JSON");
    let store = || {
        let mut file = File::create(folder.join(FIXED_NEW))?;
        writeln!(file, "{text}")?;
        file.sync_all()?;
        fs::rename(folder.join(FIXED_NEW), folder.join(FIXED))?;
        File::open(folder)?.sync_all()
    };
    store().map_err(|error| Error::Usage(format!("writing {FIXED} in {}: {error}", folder.display())))
}

const LOCK: &str = "lock";
const FIXED: &str = "cluster.json";
const FIXED_NEW: &str = "cluster.json.new";
/// The fewest that outlive the loss of one.
const NODES: u16 = 3;
/// Files of format 1 say no format.
const FORMAT: u32 = 2;

/// What says whether the rest can be read.
#[derive(Deserialize)]
struct Format {
    format: Option<u32>,
}

#[derive(Serialize, Deserialize)]
struct Written {
    format: u32,
    nodes: u16,
    engine: String,
    history: String,
    deleted_history: String,
    shards: u32,
}

fn read(folder: &Path) -> Result<Option<Fixed>, Error> {
    let path = folder.join(FIXED);
    let broken = |error: &dyn std::fmt::Display| {
        Error::Usage(format!("reading {}: {error}, or choose another --data", path.display()))
    };
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(broken(&error)),
    };
    parse(&bytes).map(Some).map_err(|error| broken(&error))
}

/// What the content of the file fixes. An error says what to do.
pub fn parse(bytes: &[u8]) -> Result<Fixed, String> {
    let broken = |error: String| format!("{error}; mend it");
    let Format { format } = serde_json::from_slice(bytes).map_err(|error| broken(error.to_string()))?;
    let format = format.unwrap_or(1);
    if format != FORMAT {
        return Err(format!(
            "the cluster has format {format}, and this version of capstan has format {FORMAT}: start it with the version that \
             made it; to take the data along, print it there with 'capstan range '' --json', and put it into a new cluster \
             with 'capstan putall --json'"
        ));
    }
    let written: Written = serde_json::from_slice(bytes).map_err(|error| broken(error.to_string()))?;
    fixed(&written).map_err(broken)
}

fn fixed(written: &Written) -> Result<Fixed, String> {
    Ok(Fixed {
        nodes: written.nodes,
        engine: clap::ValueEnum::from_str(&written.engine, false)?,
        history: written.history.parse()?,
        deleted_history: written.deleted_history.parse()?,
        shards: written.shards,
    })
}

/// A folder that holds other things is not taken for a new cluster's.
fn refuse_foreign(folder: &Path) -> Result<(), Error> {
    let failed = |error| Error::Usage(format!("reading {}: {error}", folder.display()));
    for entry in fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if name != LOCK && name != FIXED_NEW {
            return Err(Error::Usage(format!(
                "{} holds {} and no {FIXED}, so it is not the folder of a cluster; choose another --data",
                folder.display(),
                name.display(),
            )));
        }
    }
    Ok(())
}

fn check(args: &Args, fixed: &Fixed) -> Result<(), Error> {
    differs("--nodes", args.nodes, fixed.nodes, args)?;
    differs("--engine", args.engine, fixed.engine, args)?;
    differs("--history", args.history, fixed.history, args)?;
    differs("--deleted-history", args.deleted_history, fixed.deleted_history, args)?;
    differs("--shards", args.shards, fixed.shards, args)
}

fn differs<T: PartialEq + std::fmt::Display>(
    option: &str,
    asked: Option<T>,
    fixed: T,
    args: &Args,
) -> Result<(), Error> {
    match asked {
        Some(asked) if asked != fixed => Err(Error::Usage(format!(
            "the cluster in {} was made with {option} {fixed}, which cannot become {asked}; leave the option out, or \
             choose another --data",
            args.data.display()
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pace::Pace;

    fn args(folder: &Path) -> Args {
        Args {
            nodes: None,
            data: folder.into(),
            base_port: 7400,
            engine: None,
            history: None,
            deleted_history: None,
            shards: None,
            entry_cache: None,
            pace: Pace::default(),
            rejoin: None,
        }
    }

    #[test]
    fn folder_remembers_what_the_first_start_fixed() {
        let folder = tempfile::tempdir().unwrap();
        let first = Args { nodes: Some(5), history: Some(History::All), ..args(folder.path()) };
        let fixed = settle(&first).unwrap();
        let expect = Fixed {
            nodes: 5,
            engine: Engine::Disk,
            history: History::All,
            deleted_history: Deleted::USUAL,
            shards: 4,
        };
        assert_eq!(fixed, expect);
        fix(folder.path(), &fixed).unwrap();
        assert_eq!(settle(&args(folder.path())).unwrap(), expect);
        assert_eq!(settle(&first).unwrap(), expect);
    }

    #[test]
    fn folder_option_that_contradicts_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fix(folder.path(), &settle(&args(folder.path())).unwrap()).unwrap();
        let base = || args(folder.path());
        for other in [
            Args { nodes: Some(5), ..base() },
            Args { engine: Some(Engine::Memory), ..base() },
            Args { history: Some(History::Count(2)), ..base() },
            Args { shards: Some(1), ..base() },
        ] {
            let error = settle(&other).unwrap_err();
            assert!(error.to_string().contains("cannot become"), "{error}");
            assert_eq!(error.code(), crate::exit::Code::Usage);
        }
    }

    #[test]
    fn folder_is_taken_by_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let take = || match lock(folder.path()).unwrap() {
            Taking::Taken(file) => Ok(file),
            Taking::Busy(why) => Err(why),
        };
        let held = take().unwrap();
        let why = take().unwrap_err();
        assert!(why.contains(&format!("process {} runs it", std::process::id())), "{why}");
        drop(held);
        take().unwrap();
    }

    #[test]
    fn folder_of_a_node_that_runs_on_is_busy_until_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let members = crate::up::member::members(2, 7400);
        let is_free = || matches!(check_free(folder.path(), &members).unwrap(), Taking::Taken(()));
        assert!(is_free());
        fs::create_dir(folder.path().join("n2")).unwrap();
        let held = File::create(folder.path().join("n2").join(LOCK)).unwrap();
        held.lock().unwrap();
        assert!(!is_free());
        drop(held);
        assert!(is_free());
    }

    #[test]
    fn folder_of_something_else_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("thesis.txt"), "x").unwrap();
        let error = settle(&args(folder.path())).unwrap_err();
        assert!(error.to_string().contains("thesis.txt"), "{error}");
    }

    #[test]
    fn folder_of_another_format_is_refused_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let before = r#"{"nodes":3,"engine":"disk","history":"16","deleted_history":"5m","shards":4}"#;
        for (format, text) in [(1, before), (3, r#"{"format":3,"members":[]}"#)] {
            fs::write(folder.path().join(FIXED), text).unwrap();
            let error = settle(&args(folder.path())).unwrap_err();
            let why = error.to_string();
            assert!(why.contains(&format!("has format {format}")) && why.contains("putall --json"), "{why}");
            assert_eq!(error.code(), crate::exit::Code::Usage);
        }
    }

    #[test]
    fn folder_with_a_broken_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FIXED), "{").unwrap();
        assert!(settle(&args(folder.path())).unwrap_err().to_string().contains("mend it"));
    }
}
