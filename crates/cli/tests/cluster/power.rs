//! Power that goes while clients write: what was acknowledged is there when it comes back.
//!
//! Each node has a file system of its own, which loses everything that was not synced.

use std::cell::Cell;
use std::fs;
use std::rc::Rc;
use std::time::{Duration, Instant};

use dialects::native::Client;
use lab::Figures;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::clients::put;
use crate::mounts::{self, Mount};
use crate::nodes::{Lab, PATIENCE, Place, Random, run, size, until};
use crate::strace::Strace;
use crate::workload::Recorded;

/// Room for the log of a node, its table and checkpoints.
const MEBIBYTES: u64 = 1024;
/// The largest values, so that writes fill more than a block, and tables and checkpoints come to be written.
const VALUE_BYTES_MAX: usize = 64 << 10;
/// After so many rounds the history is judged, and another one begins.
const ROUNDS_PER_HISTORY: u64 = 10;

/// The machines of a cluster.
struct Machines {
    mounts: Vec<Mount>,
    home: TempDir,
}

impl Machines {
    /// Tries whether power can be taken; else says why.
    fn new(nodes: u16) -> Result<Machines, String> {
        let home = mounts::home(MEBIBYTES * u64::from(nodes))?;
        let mount = |node| Mount::ext4(home.path(), &format!("machine-{node}"), MEBIBYTES);
        let mounts = (1..=nodes).map(mount).collect::<Result<Vec<Mount>, String>>();
        let mounts = mounts.map_err(|why| format!("no file systems to take power from: {why}"))?;
        probe(&mounts[0])?;
        Ok(Machines { mounts, home })
    }

    fn take(&self, lab: &mut Lab) {
        lab.set_data(self.home.path());
        for node in lab.all() {
            let folder = Some(self.mount(node).path.join("data"));
            lab.set_place(node, Place { folder, ..Place::default() });
        }
    }

    fn mount(&self, node: u16) -> &Mount {
        &self.mounts[usize::from(node) - 1]
    }

    /// The power of these nodes goes and comes back.
    async fn lose_power(&self, lab: &mut Lab, nodes: &[u16]) {
        let mounts: Vec<&Mount> = nodes.iter().map(|node| self.mount(*node)).collect();
        mounts::cut_power(&mounts).unwrap();
        lab.kill_all(nodes).await;
        mounts.iter().for_each(|mount| mount.mount_again());
    }
}

/// Tries whether what is not synced is lost, and what is synced is not.
fn probe(mount: &Mount) -> Result<(), String> {
    let (synced, unsynced) = (mount.path.join("synced"), mount.path.join("unsynced"));
    let write = || {
        fs::write(&synced, "synced")?;
        fs::File::open(&synced)?.sync_all()?;
        fs::File::open(&mount.path)?.sync_all()?;
        fs::write(&unsynced, "unsynced")
    };
    write().map_err(|error| format!("a new file system cannot be written to: {error}"))?;
    mounts::cut_power(&[mount]).map_err(|why| format!("power cannot be taken here: {why}"))?;
    mount.mount_again();
    match (fs::read_to_string(&synced).as_deref(), unsynced.exists()) {
        (Ok("synced"), false) => Ok(()),
        found => Err(format!("the shutdown of a file system does not act like a power loss here: {found:?}")),
    }
}

/// Writers of large values, so that power goes while tables are flushed and the log is cut, too. Nobody reads them.
struct Bulk {
    left: Rc<Cell<u64>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Bulk {
    /// Writers at once.
    const WRITERS: u64 = 4;
    /// Keys of each: all their kept revisions have room on the disks.
    const KEYS: u64 = 16;
    /// Writes between two losses of power, 32 MiB: after two or three of them the log is cut. On a slow machine more would
    /// be written than is flushed, until the disks are full.
    const WRITES: u64 = 512;
    const PAUSE: Duration = Duration::from_millis(4);

    fn start(lab: &Lab, random: &mut Random) -> Bulk {
        let left = Rc::new(Cell::new(0));
        let write = |writer| {
            let task = Bulk::write(lab.client(), writer, random.fork(), left.clone());
            tokio::task::spawn_local(task)
        };
        let tasks = (0..Bulk::WRITERS).map(write).collect();
        Bulk { left, tasks }
    }

    fn write_more(&self) {
        self.left.set(Bulk::WRITES);
    }

    async fn write(client: Client, writer: u64, mut random: Random, left: Rc<Cell<u64>>) {
        loop {
            if left.get() > 0 {
                left.set(left.get() - 1);
                let key = format!("bulk:{writer}:{}", random.below(Bulk::KEYS));
                // When it fails there is nobody to write to just now.
                let _ = client.call(put(&key, random.bytes(VALUE_BYTES_MAX))).await;
            }
            tokio::time::sleep(Bulk::PAUSE).await;
        }
    }
}

impl Drop for Bulk {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Asserts that no node has come back with less than it had acknowledged to the others. They would give it that again, and
/// hide it from the clients.
fn nothing_was_lost(lab: &Lab) {
    for node in lab.all() {
        assert!(!lab.stderr(node).contains(LOST), "n{node}: '{LOST}'");
    }
}

/// What a node tells of another one.
const LOST: &str = "a node has lost entries it had acknowledged";

/// How many segments of their logs the nodes have begun: more than a few tell that logs were cut.
fn segments(lab: &Lab) -> Vec<u64> {
    let newest = |node| {
        let files = fs::read_dir(lab.folder(node).join("log")).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        names.filter_map(|name| u64::from_str_radix(name.strip_suffix(".log")?, 16).ok()).max().unwrap_or(0)
    };
    lab.all().map(newest).collect()
}

/// Power goes so often, on one node or on all.
fn power_is_lost(engine: &str, rounds: u64, mut victims: impl FnMut(&mut Random) -> Vec<u16>) {
    run(async |mut random: Random| {
        let machines = match Machines::new(3) {
            Ok(machines) => machines,
            Err(why) => return println!("SKIPPED: {why}"),
        };
        let mut lab = Lab::new(3, &["--engine", engine], &mut random);
        machines.take(&mut lab);
        lab.serve_all().await;
        let bulk = Bulk::start(&lab, &mut random);
        let (mut total, began) = (Figures::default(), Instant::now());
        let mut done = 0;
        while done < rounds {
            let recorded = Recorded::start_with_values(&lab, VALUE_BYTES_MAX, &mut random);
            let end = rounds.min(done + ROUNDS_PER_HISTORY);
            for round in done..end {
                bulk.write_more();
                recorded.goes_on(100 + random.below(300)).await;
                let victims = victims(&mut random);
                println!("round {round}: power goes on {victims:?}");
                machines.lose_power(&mut lab, &victims).await;
                if victims.len() == 1 {
                    recorded.goes_on(50).await;
                }
                victims.iter().for_each(|victim| lab.serve(*victim));
                lab.ready().await;
            }
            recorded.goes_on(100).await;
            total += recorded.holds(&lab).await;
            done = end;
        }
        nothing_was_lost(&lab);
        let (took, segments) = (began.elapsed(), segments(&lab));
        println!("{rounds} rounds in {took:.0?} on {engine}, segments of the logs: {segments:?}; {total}");
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn history_is_linearizable_while_one_node_loses_power() {
    power_is_lost("disk", size(3, 60), |random| vec![1 + random.below(3) as u16]);
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn history_is_linearizable_while_all_lose_power_at_once_on_disk() {
    power_is_lost("disk", size(3, 80), |_| vec![1, 2, 3]);
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn history_is_linearizable_while_all_lose_power_at_once_in_memory() {
    power_is_lost("memory", size(2, 60), |_| vec![1, 2, 3]);
}

/// A node is started again whose disk lied. Its files may be such that it refuses them, and says what to do: false.
async fn comes_back(lab: &mut Lab, node: u16) -> bool {
    lab.serve(node);
    let all: Vec<u16> = lab.all().collect();
    let what = format!("n{node} comes back or ends");
    until(&what, PATIENCE, || async { lab.has_ended(node) || lab.sees_ready(node, &all).await }).await;
    if lab.has_ended(node) {
        lab.end(node, PATIENCE).await;
        let told = lab.stderr(node);
        let last = told.lines().rfind(|line| line.starts_with("error: ")).unwrap_or_default();
        println!("n{node} does not start: {last}");
        assert!(last.contains(&format!("capstan cluster replace n{node}")), "{told}");
        return false;
    }
    lab.ready().await;
    // Until then it does not vote: with one of the others it is no majority.
    lab.caught_up(node).await;
    true
}

/// A node whose disk lies comes back with less than it acknowledged. The others notice it and give it that again.
#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn history_is_linearizable_when_one_disk_of_three_lies_and_loses_power() {
    run(async |mut random: Random| {
        let machines = match Strace::probe().and_then(|()| Machines::new(3)) {
            Ok(machines) => machines,
            Err(why) => return println!("SKIPPED: {why}"),
        };
        let mut lab = Lab::new(3, &[], &mut random);
        machines.take(&mut lab);
        lab.serve_all().await;
        let recorded = Recorded::start_with_values(&lab, VALUE_BYTES_MAX, &mut random);
        for _ in 0..size(2, 20) {
            recorded.goes_on(100).await;
            // One that follows: who leads remembers what it acknowledged.
            let key = random.next().to_string();
            let leader = lab.leader(&key).await;
            let victim = 1 + (leader + random.below(2) as u16) % 3;
            let strace = Strace::attach(lab.pid(victim).unwrap(), "fdatasync,fsync", "retval=0").unwrap();
            for _ in 0..20 {
                lab.client().call(put(&key, "x")).await.unwrap();
            }
            recorded.goes_on(200).await;
            machines.lose_power(&mut lab, &[victim]).await;
            drop(strace);
            // What it had acknowledged is on another node, too. Those two must have agreed on it before its vote counts.
            let others: Vec<u16> = lab.all().filter(|node| *node != victim).collect();
            lab.ready_nodes(&others).await;
            recorded.goes_on(100).await;
            if !comes_back(&mut lab, victim).await {
                break;
            }
        }
        recorded.goes_on(100).await;
        recorded.holds(&lab).await;
        let says_so = |node| lab.stderr(node).contains(LOST) || lab.stderr(node).contains("cluster replace");
        assert!(lab.all().any(says_so), "it is noticed that a node has lost what it acknowledged");
    });
}

/// The test of the tests above: a machine that says it has synced, and has not.
#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn history_is_not_linearizable_when_a_disk_lies_and_loses_power() {
    run(async |mut random: Random| {
        let machines = match Strace::probe().and_then(|()| Machines::new(1)) {
            Ok(machines) => machines,
            Err(why) => return println!("SKIPPED: {why}"),
        };
        let mut lab = Lab::new(1, &[], &mut random);
        machines.take(&mut lab);
        lab.serve_all().await;
        let recorded = Recorded::start_with_values(&lab, VALUE_BYTES_MAX, &mut random);
        recorded.goes_on(50).await;
        let strace = Strace::attach(lab.pid(1).unwrap(), "fdatasync,fsync", "retval=0").unwrap();
        recorded.goes_on(100).await;
        machines.lose_power(&mut lab, &[1]).await;
        drop(strace);
        lab.serve_all().await;
        let refused = lab::judge(&recorded.end(&lab).await).unwrap_err();
        println!("as it must be: {}", refused.why);
        assert!(refused.window.is_some(), "lost writes are noticed: {}", refused.why);
    });
}
