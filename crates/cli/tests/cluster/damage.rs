//! Damaged data: a log whose end is torn, a flipped bit in its middle, a folder that is gone. A node goes on with what is
//! sound, gets from the others what it lacks, or refuses and says what to do. It never serves what is wrong.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use kv::Request;
use wal::format::{BLOCK_BYTES, BatchHeader, SegmentHeader};

use crate::clients::put;
use crate::nodes::{Lab, PATIENCE, Random, is_full, run, size, until};

/// A batch of a log on disk.
#[derive(Clone, Debug)]
struct Batch {
    file: PathBuf,
    header: BatchHeader,
}

impl Batch {
    /// Where its records end; zeros follow.
    fn used_bytes(&self) -> u64 {
        wal::format::BATCH_HEADER_BYTES as u64 + u64::from(self.header.payload_bytes)
    }
}

/// The batches of a node's log, oldest first.
fn batches(folder: &Path) -> Vec<Batch> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder.join("log")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut found = Vec::new();
    for file in files {
        let bytes = fs::read(&file).unwrap();
        let Ok(segment) = SegmentHeader::decode(&bytes) else { continue };
        for offset in (BLOCK_BYTES..bytes.len()).step_by(BLOCK_BYTES) {
            if let Ok(header) = BatchHeader::decode(&bytes[offset..])
                && header.is_at(segment.log_id, segment.segment, offset as u64)
            {
                found.push(Batch { file: file.clone(), header });
            }
        }
    }
    found.sort_by_key(|batch| batch.header.sequence);
    found
}

/// What happens to a file from a byte on.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Flip,
    Zero,
    Cut,
}

const DAMAGES: [Damage; 3] = [Damage::Flip, Damage::Zero, Damage::Cut];

/// Damages a batch at one of its bytes; zeros and cuts go on to the end of the file.
fn damage(batch: &Batch, at: u64, how: Damage, random: &mut Random) {
    let file = File::options().read(true).write(true).open(&batch.file).unwrap();
    let offset = batch.header.offset + at;
    match how {
        Damage::Flip => {
            let mut byte = [0];
            file.read_exact_at(&mut byte, offset).unwrap();
            byte[0] ^= 1 << random.below(8);
            file.write_all_at(&byte, offset).unwrap();
        }
        Damage::Zero => {
            let rest = file.metadata().unwrap().len() - offset;
            file.write_all_at(&vec![0; rest as usize], offset).unwrap();
        }
        Damage::Cut => file.set_len(offset).unwrap(),
    }
}

fn key(index: u64) -> String {
    format!("key:{index}")
}

async fn put_keys(lab: &Lab, keys: std::ops::Range<u64>) {
    let client = lab.client();
    for index in keys {
        client.call(put(&key(index), format!("value {index}"))).await.unwrap();
    }
}

/// Asserts that a node tells all these values.
async fn check_keys(lab: &Lab, node: u16, keys: std::ops::Range<u64>) {
    let mut node = lab.pinned(node);
    for index in keys {
        let (found, _) = node.get(&key(index), Request::TIMEOUT).await.unwrap();
        assert_eq!(found.as_deref(), Some(format!("value {index}").as_bytes()), "{}", key(index));
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

/// Which bytes of the newest batch are damaged, and how: in the suite some, in full each.
fn places(newest: &Batch, random: &mut Random) -> Vec<(u64, Damage)> {
    let used = newest.used_bytes();
    if is_full() {
        let flips = (0..used).map(|at| (at, Damage::Flip));
        let others = (0..used).step_by(8).flat_map(|at| [(at, Damage::Zero), (at, Damage::Cut)]);
        return flips.chain(others).collect();
    }
    let mut places = vec![(0, Damage::Flip), (used - 1, Damage::Flip), (0, Damage::Zero), (0, Damage::Cut)];
    places.extend((0..16).map(|index| (random.below(used), DAMAGES[index % 3])));
    // In the padding.
    places.push((used + random.below(newest.header.batch_bytes() - used), Damage::Flip));
    places
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn newest_batch_damaged_opens_with_everything_before_it() {
    run(async |mut random| {
        const KEYS: u64 = 12;
        let mut lab = Lab::new(1, &["--shards", "1"], &mut random);
        lab.serve_all().await;
        put_keys(&lab, 0..KEYS).await;
        lab.kill(1).await;
        let (folder, saved) = (lab.folder(1), lab.home().join("saved"));
        fs::rename(&folder, &saved).unwrap();
        copy(&saved, &folder);
        let newest = batches(&folder).pop().unwrap();
        let places = places(&newest, &mut random);
        for &(at, how) in &places {
            println!("batch {} of {} bytes: {how:?} at {at}", newest.header.sequence, newest.used_bytes());
            fs::remove_dir_all(&folder).unwrap();
            copy(&saved, &folder);
            damage(&newest, at, how, &mut random);
            lab.serve_all().await;
            check_keys(&lab, 1, 0..KEYS - 1).await;
            put_keys(&lab, KEYS..KEYS + 2).await;
            lab.kill(1).await;
            lab.serve_all().await;
            check_keys(&lab, 1, 0..KEYS - 1).await;
            check_keys(&lab, 1, KEYS..KEYS + 2).await;
            lab.kill(1).await;
        }
        println!("opened after each of {} damages", places.len());
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn newest_batches_lost_on_one_of_three_come_back_from_the_others() {
    run(async |mut random| {
        let mut lab = Lab::new(3, &[], &mut random);
        lab.serve_all().await;
        let mut keys = 0;
        for _ in 0..size(4, 30) {
            put_keys(&lab, keys..keys + 100).await;
            keys += 100;
            let victim = 1 + random.below(3) as u16;
            lab.kill(victim).await;
            let batches = batches(&lab.folder(victim));
            let how = DAMAGES[random.below(3) as usize];
            let lost = match how {
                // In front of sound ones it would be no torn end.
                Damage::Flip => 1,
                _ => 1 + random.below(size(20, 60)).min(batches.len() as u64 - 2) as usize,
            };
            let first = &batches[batches.len() - lost];
            println!("n{victim} loses its last {lost} batches of {}: {how:?}", batches.len());
            damage(first, random.below(first.used_bytes()), how, &mut random);
            // Batches in later files would prove that this one was there: they are lost too.
            for later in batches[batches.len() - lost..].iter().filter(|later| later.file != first.file) {
                let _ = fs::remove_file(&later.file);
            }
            lab.serve(victim);
            lab.ready().await;
            check_keys(&lab, victim, 0..keys).await;
            // One of the others goes: now the damaged one is needed.
            let other = lab.all().find(|node| *node != victim).unwrap();
            lab.kill(other).await;
            let rest: Vec<u16> = lab.all().filter(|node| *node != other).collect();
            lab.ready_nodes(&rest).await;
            check_keys(&lab, victim, 0..keys).await;
            lab.serve(other);
            lab.ready().await;
        }
    });
}

/// Flips one bit of a batch in the middle of a node's log.
fn flip_in_the_middle(folder: &Path, random: &mut Random) {
    let batches = batches(folder);
    let batch = &batches[batches.len() / 3 + random.below(batches.len() as u64 / 3) as usize];
    println!("flips a bit of batch {} of {}", batch.header.sequence, batches.len());
    damage(batch, random.below(batch.used_bytes()), Damage::Flip, random);
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn bit_flipped_in_the_middle_of_the_only_log_is_refused() {
    run(async |mut random| {
        let mut lab = Lab::new(1, &["--shards", "1"], &mut random);
        lab.serve_all().await;
        put_keys(&lab, 0..50).await;
        lab.kill(1).await;
        flip_in_the_middle(&lab.folder(1), &mut random);
        lab.serve(1);
        assert_eq!(lab.end(1, PATIENCE).await.code(), Some(2));
        let told = lab.stderr(1);
        assert!(told.contains("is damaged at offset") && told.contains("error: "), "{told}");
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn bit_flipped_in_the_middle_of_a_log_is_refused_and_the_others_serve() {
    run(async |mut random| {
        let mut lab = Lab::new(3, &[], &mut random);
        lab.up().await;
        put_keys(&lab, 0..200).await;
        assert!(lab.stop_up().await.success());
        let victim = 1 + random.below(3) as u16;
        flip_in_the_middle(&lab.folder(victim), &mut random);

        // The others serve without it, and it is not started again and again.
        lab.spawn_up(&[]);
        let rest: Vec<u16> = lab.all().filter(|node| *node != victim).collect();
        lab.ready_nodes(&rest).await;
        for &node in &rest {
            check_keys(&lab, node, 0..200).await;
        }
        until("up tells that it gave up", PATIENCE, || {
            std::future::ready(lab.up_stderr().contains("it stays down"))
        })
        .await;
        let told = lab.up_stderr();
        let replace = format!("capstan cluster replace n{victim}");
        assert!(told.contains("is damaged at offset") && told.contains(&replace), "{told}");
        assert_eq!(told.matches("ended with exit code 2").count(), 1, "{told}");
        assert!(lab.pid(victim).is_none());
        put_keys(&lab, 200..300).await;
        for &node in &rest {
            check_keys(&lab, node, 0..300).await;
        }
    });
}

/// Checks that a node that got its folder back is a node like any other.
async fn comes_back_whole(lab: &mut Lab, node: u16, keys: u64) {
    check_keys(lab, node, 0..keys).await;
    assert!(lab.stop_up().await.success());
    lab.up().await;
    check_keys(lab, node, 0..keys).await;
    assert!(lab.stop_up().await.success());
    // With one other alone, and after that one's restart: it votes.
    let other = lab.all().find(|other| *other != node).unwrap();
    lab.serve(node);
    lab.serve(other);
    lab.ready_nodes(&[node, other]).await;
    check_keys(lab, node, 0..keys).await;
    lab.kill(other).await;
    lab.serve(other);
    lab.ready_nodes(&[node, other]).await;
    check_keys(lab, other, 0..keys).await;
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn wiped_folder_is_not_started_and_the_one_before_comes_back() {
    run(async |mut random| {
        let mut lab = Lab::new(3, &[], &mut random);
        lab.up().await;
        put_keys(&lab, 0..200).await;
        let victim = 1 + random.below(3) as u16;
        // Its files go while it runs, so that up finds nothing to start it on.
        fs::rename(lab.folder(victim), lab.home().join("moved-away")).unwrap();
        lab.signal(victim, rustix::process::Signal::KILL);
        until("up tells that it does not start it", PATIENCE, || {
            std::future::ready(lab.up_stderr().contains(&format!("n{victim} is not started")))
        })
        .await;
        let told = lab.up_stderr();
        let advice = format!("give it up by 'capstan cluster replace n{victim}'");
        assert!(told.contains("Put the folder back") && told.contains(&advice), "{told}");
        let rest: Vec<u16> = lab.all().filter(|node| *node != victim).collect();
        lab.ready_nodes(&rest).await;
        put_keys(&lab, 200..300).await;

        // Beside the others, by hand: the same as on another machine.
        fs::rename(lab.home().join("moved-away"), lab.folder(victim)).unwrap();
        lab.serve(victim);
        lab.ready().await;
        check_keys(&lab, victim, 0..300).await;
        assert!(lab.stop(victim).await.success());
        assert!(lab.stop_up().await.success());
        lab.up().await;
        comes_back_whole(&mut lab, victim, 300).await;
    });
}
