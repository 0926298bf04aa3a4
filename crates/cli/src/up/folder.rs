//! The folder of a local cluster: one owner at a time, and what is known of its nodes.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use super::args::Args;
use super::member::{Member, name};
use super::roster::{self, Roster};
use super::wait::Taking;
use crate::exit::Error;

/// Whether the folder holds a cluster that was started before.
pub fn is_old(folder: &Path) -> bool {
    folder.join(ROSTER).exists()
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

/// The cluster in the folder, as it is to be started; a new one as the options say.
pub fn settle(args: &Args) -> Result<Roster, Error> {
    let Some(mut roster) = read(&args.data)? else {
        refuse_foreign(&args.data)?;
        let roster = Roster::new(args);
        return check_replicas(args, &roster).map(|()| roster);
    };
    check(args, &roster)?;
    roster.nodes.retain(|number, entry| !entry.left || args.data.join(name(*number)).exists());
    roster.base_port = args.base_port;
    if let Some(nodes) = args.nodes {
        let cannot = |why| {
            Error::Usage(format!("the cluster in {} cannot have {nodes} nodes: {why}", args.data.display()))
        };
        roster.resize(nodes).map_err(cannot)?;
    }
    Ok(roster)
}

/// Writes down what is known of the nodes.
pub fn keep(folder: &Path, roster: &Roster) -> Result<(), Error> {
    let text = roster::encode(roster);
    let store = || {
        let mut file = File::create(folder.join(ROSTER_NEW))?;
        writeln!(file, "{text}")?;
        file.sync_all()?;
        fs::rename(folder.join(ROSTER_NEW), folder.join(ROSTER))?;
        File::open(folder)?.sync_all()
    };
    store().map_err(|error| Error::Usage(format!("writing {ROSTER} in {}: {error}", folder.display())))
}

/// Whether a node's folder is gone that was there.
pub fn is_lost(folder: &Path, member: &Member) -> bool {
    member.has_been && !folder.join(&member.name).join(IDENTITY).exists()
}

const LOCK: &str = "lock";
const ROSTER: &str = "cluster.json";
const ROSTER_NEW: &str = "cluster.json.new";
/// What the folder of every node has.
const IDENTITY: &str = "identity.json";

fn read(folder: &Path) -> Result<Option<Roster>, Error> {
    let path = folder.join(ROSTER);
    let broken = |error: &dyn std::fmt::Display| {
        Error::Usage(format!("reading {}: {error}, or choose another --data", path.display()))
    };
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(broken(&error)),
    };
    roster::parse(&bytes).map(Some).map_err(|error| broken(&error))
}

/// A folder that holds other things is not taken for a new cluster's.
fn refuse_foreign(folder: &Path) -> Result<(), Error> {
    let failed = |error| Error::Usage(format!("reading {}: {error}", folder.display()));
    for entry in fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if name != LOCK && name != ROSTER_NEW {
            return Err(Error::Usage(format!(
                "{} holds {} and no {ROSTER}, so it is not the folder of a cluster; choose another --data",
                folder.display(),
                name.display(),
            )));
        }
    }
    Ok(())
}

/// Each replica is on a node of its own; a cluster of one grows into what it wants.
fn check_replicas(args: &Args, roster: &Roster) -> Result<(), Error> {
    match args.replicas {
        Some(replicas) if roster.founders > 1 && replicas > roster.founders => Err(Error::Usage(format!(
            "--replicas {replicas}: each is on a node of its own, and there are {} nodes: take more --nodes, or fewer --replicas",
            roster.founders
        ))),
        _ => Ok(()),
    }
}

fn check(args: &Args, roster: &Roster) -> Result<(), Error> {
    let fixed = &roster.fixed;
    differs("--engine", args.engine, fixed.engine, args)?;
    differs("--history", args.history, fixed.history, args)?;
    differs("--deleted-history", args.deleted_history, fixed.deleted_history, args)?;
    differs("--shards", args.shards, fixed.shards, args)?;
    differs("--replicas", args.replicas, fixed.replicas, args)?;
    if roster.has_grown() && args.base_port != roster.base_port {
        return Err(Error::Usage(format!(
            "the cluster in {} has grown, and its nodes know each other at --base-port {}: start it with that one",
            args.data.display(),
            roster.base_port
        )));
    }
    Ok(())
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
    use super::super::member::{Came, Entry};
    use super::super::roster::Fixed;
    use super::*;
    use crate::pace::Pace;
    use crate::parse::{Deleted, Engine, History};

    fn args(folder: &Path) -> Args {
        Args {
            nodes: None,
            data: folder.into(),
            base_port: 7400,
            engine: None,
            history: None,
            deleted_history: None,
            shards: None,
            replicas: None,
            lab: false,
            entry_cache: None,
            pace: Pace::default(),
        }
    }

    #[test]
    fn folder_remembers_what_the_first_start_fixed() {
        let folder = tempfile::tempdir().unwrap();
        let first = Args { nodes: Some(5), history: Some(History::All), ..args(folder.path()) };
        let roster = settle(&first).unwrap();
        let expect = Fixed {
            engine: Engine::Disk,
            history: History::All,
            deleted_history: Deleted::USUAL,
            shards: 4,
            replicas: 3,
        };
        assert_eq!((&roster.fixed, roster.founders, roster.members().len()), (&expect, 5, 5));
        keep(folder.path(), &roster).unwrap();
        assert_eq!(settle(&args(folder.path())).unwrap(), roster);
        assert_eq!(settle(&first).unwrap(), roster);
    }

    #[test]
    fn folder_option_that_contradicts_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        keep(folder.path(), &settle(&args(folder.path())).unwrap()).unwrap();
        let base = || args(folder.path());
        for other in [
            Args { engine: Some(Engine::Memory), ..base() },
            Args { history: Some(History::Count(2)), ..base() },
            Args { shards: Some(1), ..base() },
            Args { replicas: Some(1), ..base() },
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
        let members = Roster::new(&args(folder.path())).members();
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
        for (format, text) in [(1, before), (4, r#"{"format":4,"members":[]}"#)] {
            fs::write(folder.path().join(ROSTER), text).unwrap();
            let error = settle(&args(folder.path())).unwrap_err();
            let why = error.to_string();
            assert!(why.contains(&format!("has format {format}")) && why.contains("putall --json"), "{why}");
            assert_eq!(error.code(), crate::exit::Code::Usage);
        }
    }

    #[test]
    fn folder_with_a_broken_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(ROSTER), "{").unwrap();
        assert!(settle(&args(folder.path())).unwrap_err().to_string().contains("mend it"));
    }

    #[test]
    fn replicas_for_which_there_are_no_nodes_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let of = |nodes, replicas| settle(&Args { nodes, replicas: Some(replicas), ..args(folder.path()) });
        assert!(of(None, 3).is_ok() && of(Some(5), 4).is_ok());
        assert!(of(Some(1), 3).is_ok(), "it may grow");
        for (nodes, replicas) in [(None, 5), (Some(5), 6), (Some(2), 3)] {
            let error = of(nodes, replicas).unwrap_err();
            assert!(error.to_string().contains("take more --nodes, or fewer --replicas"), "{error}");
            assert_eq!(error.code(), crate::exit::Code::Usage);
        }
    }

    #[test]
    fn two_nodes_found_a_cluster_of_two_replicas_unless_more_are_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let of = |nodes| settle(&Args { nodes, ..args(folder.path()) }).unwrap().fixed.replicas;
        assert_eq!([Some(1), Some(2), None, Some(5)].map(of), [3, 2, 3, 3]);
    }

    /// A folder with nodes of which n2 has left.
    fn of_three() -> (tempfile::TempDir, Roster) {
        let folder = tempfile::tempdir().unwrap();
        let mut roster = settle(&args(folder.path())).unwrap();
        roster.nodes.get_mut(&2).unwrap().left = true;
        fs::create_dir(folder.path().join("n2")).unwrap();
        keep(folder.path(), &roster).unwrap();
        (folder, roster)
    }

    #[test]
    fn name_of_a_node_that_has_left_is_free_when_its_folder_is_removed() {
        let (folder, roster) = of_three();
        let more = Args { nodes: Some(3), ..args(folder.path()) };
        let numbers =
            |roster: &Roster| roster.members().iter().map(|member| member.number).collect::<Vec<_>>();
        assert_eq!(numbers(&settle(&args(folder.path())).unwrap()), [1, 3]);
        let grown = settle(&more).unwrap();
        assert_eq!((numbers(&grown), grown.left().collect::<Vec<_>>()), (vec![1, 3, 4], vec![2]));
        fs::remove_dir(folder.path().join("n2")).unwrap();
        let grown = settle(&more).unwrap();
        assert_eq!((numbers(&grown), grown.nodes[&2]), (vec![1, 2, 3], Entry::new(Came::Joined)));
        assert_eq!(grown.fixed, roster.fixed);
        assert_eq!(grown.founders().len(), 3, "the others were started with this name too");
    }

    #[test]
    fn nodes_become_fewer_by_leaving() {
        let (folder, _) = of_three();
        let error = settle(&Args { nodes: Some(1), ..args(folder.path()) }).unwrap_err();
        let says = "it has 2, and nodes become fewer by leaving: start it without --nodes, then 'capstan cluster leave n3 --wait'";
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!(error.code(), crate::exit::Code::Usage);
    }

    #[test]
    fn ports_of_a_cluster_that_has_grown_stay() {
        let (folder, _) = of_three();
        let moved = Args { base_port: 8400, ..args(folder.path()) };
        assert_eq!(settle(&moved).unwrap().members()[0].address, "127.0.0.1:8401");
        keep(folder.path(), &settle(&Args { nodes: Some(3), ..args(folder.path()) }).unwrap()).unwrap();
        let error = settle(&moved).unwrap_err();
        assert!(error.to_string().contains("at --base-port 7400"), "{error}");
    }

    #[test]
    fn folder_of_a_node_is_lost_when_it_has_belonged_to_the_cluster() {
        let folder = tempfile::tempdir().unwrap();
        let entry = Entry { seen: 1, ..Entry::new(Came::Founded) };
        let (new, old) = (Member::new(1, Entry::new(Came::Founded), 1), Member::new(1, entry, 1));
        assert_eq!((is_lost(folder.path(), &new), is_lost(folder.path(), &old)), (false, true));
        fs::create_dir(folder.path().join("n1")).unwrap();
        fs::write(folder.path().join("n1/stderr.log"), "").unwrap();
        assert!(is_lost(folder.path(), &old));
        fs::write(folder.path().join("n1/identity.json"), "").unwrap();
        assert!(!is_lost(folder.path(), &old));
    }
}
