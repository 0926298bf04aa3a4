//! A disk that runs full: writes are refused, reads go on, and all is well again when there is space.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use dialects::native::Client;
use kv::{Error, Request};

use crate::clients::{get, put, value};
use crate::mounts::{self, Mount};
use crate::nodes::{Lab, PATIENCE, Random, run, size, text, until};
use crate::workload::Recorded;

/// Values that were acknowledged.
type Stored = BTreeMap<String, Vec<u8>>;

/// How long a write waits.
const TIMEOUT: Duration = Duration::from_secs(1);
const VALUE_BYTES: usize = 64 << 10;

async fn store(client: &Client, stored: &mut Stored, random: &mut Random) -> Result<(), Error> {
    let (key, content) = (format!("row:{:06}", stored.len()), random.bytes(VALUE_BYTES));
    client.call(Request { timeout: TIMEOUT, ..put(&key, content.clone()) }).await?;
    stored.insert(key, content);
    Ok(())
}

/// Writes until it is refused because the disk is full.
async fn fill(client: &Client, stored: &mut Stored, random: &mut Random) {
    let (mut doubtful, end) = (0, Instant::now() + 2 * PATIENCE);
    loop {
        assert!(Instant::now() < end, "the disk is not full after {} rows", stored.len());
        match store(client, stored, random).await {
            Ok(()) => {}
            Err(Error::InDoubt(why)) => {
                doubtful += 1;
                println!("in doubt: {why}");
                assert!(doubtful <= 3, "only writes on their way are in doubt");
                // Its key may be taken: the next one must not be the same.
                stored.insert(format!("row:{:06}:doubtful", stored.len()), Vec::new());
            }
            Err(error) => {
                println!("{} rows, then: {error}", stored.len());
                assert!(error.to_string().contains("full"), "{error}");
                return;
            }
        }
    }
}

/// Checks values that were acknowledged: all, or one in so many.
async fn check(client: &Client, stored: &Stored, step: usize) {
    for (key, content) in stored.iter().step_by(step).filter(|(_, content)| !content.is_empty()) {
        let found = value(client.call(get(key)).await.unwrap());
        assert_eq!(found.as_deref(), Some(&content[..]), "{key}");
    }
}

/// Checks that a full disk is told as such, and that nothing ends because of it.
async fn is_refused(lab: &Lab, stored: &Stored) {
    let client = lab.client();
    let pids: Vec<_> = lab.all().map(|node| lab.pid(node)).collect();
    assert!(pids.iter().all(Option::is_some), "all nodes run");
    for round in 0..size(5, 50) {
        let request = Request { timeout: TIMEOUT, ..put(&format!("refused:{round}"), "x") };
        match client.call(request).await {
            Err(Error::Unavailable(_)) => {}
            other => panic!("a write on a full disk: {other:?}"),
        }
        check(&client, stored, 17).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for node in lab.all() {
        let output = lab.capstan(&[node], &["put", "refused", "x", "--timeout", "1s"]);
        assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains("full"), "{}", text(&output.stderr));
    }
    assert_eq!(pids, lab.all().map(|node| lab.pid(node)).collect::<Vec<_>>(), "no node ended");
}

/// Waits until writes are taken again.
async fn recovers(lab: &Lab) {
    let (client, began) = (lab.client(), Instant::now());
    until("writes are taken again", PATIENCE, || async {
        client.call(Request { timeout: TIMEOUT, ..put("again", "x") }).await.is_ok()
    })
    .await;
    println!("recovered within {:?}", began.elapsed());
}

fn disk_full(nodes: u16, mebibytes: u64, engine: &str) {
    let made = mounts::home(mebibytes)
        .and_then(|home| Mount::new(home.path(), "disk", mebibytes).map(|mount| (home, mount)));
    let (_home, mount) = match made {
        Ok(made) => made,
        Err(why) => return println!("SKIPPED: {why}"),
    };
    run(async |mut random: Random| {
        let mut lab = Lab::new(nodes, &["--engine", engine], &mut random);
        lab.set_data(&mount.path.join("data"));
        let ballast = mount.path.join("ballast");
        put_ballast(&ballast, mebibytes / 3);
        lab.up().await;
        let (client, mut stored) = (lab.client(), Stored::new());
        let recorded = Recorded::start(&lab, &mut random);
        fill(&client, &mut stored, &mut random).await;
        is_refused(&lab, &stored).await;
        fs::remove_file(&ballast).unwrap();
        recovers(&lab).await;
        check(&client, &stored, 1).await;

        // Full once more, and then a node is killed: it must come back, at the latest when there is space.
        put_ballast(&ballast, mebibytes);
        fill(&client, &mut stored, &mut random).await;
        let victim = 1 + random.below(nodes.into()) as u16;
        lab.kill(victim).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        fs::remove_file(&ballast).unwrap();
        lab.ready().await;
        recovers(&lab).await;
        check(&client, &stored, 1).await;
        recorded.holds(&lab).await;
        assert!(lab.stop_up().await.success());
        lab.up().await;
        check(&client, &stored, 1).await;
    });
}

/// Takes space, as much as there is.
fn put_ballast(file: &Path, mebibytes: u64) {
    use std::io::Write;
    let mut file = fs::File::create(file).unwrap();
    let block = vec![1; 1 << 20];
    for _ in 0..mebibytes {
        if file.write_all(&block).is_err() {
            return;
        }
    }
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn disk_of_one_node_full_refuses_writes_and_recovers() {
    disk_full(1, 200, "disk");
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn disk_of_one_node_in_memory_full_refuses_writes_and_recovers() {
    disk_full(1, 200, "memory");
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn disk_of_three_nodes_full_refuses_writes_and_recovers() {
    disk_full(3, 500, "disk");
}
