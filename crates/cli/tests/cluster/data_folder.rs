//! What a data folder says of itself, parts of it that are gone, and who may look into it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use wal::format::SegmentHeader;

use crate::clients::put;
use crate::nodes::{Lab, PATIENCE, Random, run, text, until};

/// What a log lost, and how.
fn empty(folder: &Path) {
    fs::remove_dir_all(folder).unwrap();
    fs::create_dir(folder).unwrap();
}

/// Starts a node that must refuse, and say this.
pub async fn is_refused(lab: &mut Lab, node: u16, says: &[&str]) {
    lab.serve(node);
    let code = lab.end(node, PATIENCE).await.code();
    let told = lab.stderr(node);
    let last = told.lines().next_back().unwrap_or_default();
    assert_eq!(code, Some(2), "{told}");
    assert!(last.starts_with("error: ") && says.iter().all(|word| last.contains(word)), "{says:?}: {last}");
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn only_log_that_is_emptied_or_gone_is_refused() {
    run(async |mut random: Random| {
        for engine in ["disk", "memory"] {
            let mut lab = Lab::new(1, &["--engine", engine], &mut random);
            lab.serve_all().await;
            assert!(lab.capstan(&[1], &["put", "a", "1"]).status.success());
            assert!(lab.stop(1).await.success());
            let (log, saved) = (lab.folder(1).join("log"), lab.home().join("saved"));
            fs::rename(&log, &saved).unwrap();
            let says = ["the log in", "is lost", "restore the whole data folder"];
            is_refused(&mut lab, 1, &says).await;
            fs::create_dir(&log).unwrap();
            is_refused(&mut lab, 1, &says).await;
            fs::remove_dir(&log).unwrap();
            fs::rename(&saved, &log).unwrap();
            lab.serve_all().await;
            assert_eq!(text(&lab.capstan(&[1], &["get", "a"]).stdout), "1\n");
        }
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn only_engine_that_is_emptied_behind_a_shortened_log_is_refused() {
    run(async |mut random: Random| {
        for engine in ["disk", "memory"] {
            let mut lab = Lab::new(1, &["--engine", engine, "--shards", "1"], &mut random);
            lab.serve_all().await;
            let client = lab.client();
            // More than the log keeps before a checkpoint.
            for index in 0..24 {
                let value = random.bytes(kv::VALUE_BYTES_MAX);
                client.call(put(&format!("key:{index}"), value)).await.unwrap();
            }
            assert!(lab.stop(1).await.success());
            empty(&lab.folder(1).join("engine"));
            is_refused(&mut lab, 1, &["has lost entries", "restore its node's data folder"]).await;
        }
    });
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn log_of_one_of_three_that_is_emptied_is_refused_with_what_to_do() {
    run(async |mut random: Random| {
        let mut lab = Lab::new(3, &[], &mut random);
        lab.serve_all().await;
        assert!(lab.capstan(&[1], &["put", "a", "1"]).status.success());
        let victim = 1 + random.below(3) as u16;
        lab.kill(victim).await;
        empty(&lab.folder(victim).join("log"));
        let replace = format!("capstan cluster replace n{victim}");
        is_refused(&mut lab, victim, &["the log in", "is lost", &replace, "serve --join"]).await;
        let rest: Vec<u16> = lab.all().filter(|node| *node != victim).collect();
        lab.ready_nodes(&rest).await;
        assert_eq!(text(&lab.capstan(&rest, &["get", "a"]).stdout), "1\n");
    });
}

/// Everything below a folder, and the folder, with its mode.
fn modes(path: &Path) -> Vec<(PathBuf, u32)> {
    let metadata = fs::symlink_metadata(path).unwrap();
    let mut found = vec![(path.to_path_buf(), metadata.permissions().mode() & 0o777)];
    if metadata.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            found.extend(modes(&entry.unwrap().path()));
        }
    }
    found
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn data_is_for_its_user_alone() {
    run(async |mut random: Random| {
        for engine in ["disk", "memory"] {
            let mut lab = Lab::new(3, &["--engine", engine], &mut random);
            lab.up().await;
            assert!(lab.capstan(&[1], &["put", "a", "1"]).status.success());
            assert!(lab.stop_up().await.success());
            let found = modes(lab.data());
            assert!(found.len() > 20, "{found:?}");
            for (path, mode) in found {
                let closed = if path.is_dir() { 0o700 } else { 0o600 };
                assert_eq!(mode, closed, "{}: {mode:o}", path.display());
            }
            // One that was made with a looser mode is closed, and that is told.
            fs::set_permissions(lab.folder(1), Permissions::from_mode(0o755)).unwrap();
            lab.serve_all().await;
            assert_eq!(modes(&lab.folder(1))[0].1, 0o700);
            assert!(lab.journal(1).contains("its mode was 755 and is 700"), "{}", lab.journal(1));
        }
    });
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn has_met_all(lab: &Lab, node: u16) -> bool {
    let peers = fs::read(lab.folder(node).join("peers.json")).unwrap_or_default();
    let peers: Value = serde_json::from_slice(&peers).unwrap_or_default();
    peers["nodes"].as_array().is_some_and(|nodes| nodes.len() == 2)
}

/// Checks all that a node's folder says of itself and of the others.
fn check_folder(lab: &Lab, node: u16, engine: &str) {
    let identity = |node| json(&lab.folder(node).join("identity.json"));
    let own = identity(node);
    let nodes = json!([{ "id": 1, "name": "n1" }, { "id": 2, "name": "n2" }, { "id": 3, "name": "n3" }]);
    assert_eq!((&own["format"], &own["id"], &own["founders"]), (&json!(5), &json!(node), &nodes));
    assert_eq!((&own["starts"], &own["copy"]), (&json!(1), &Value::Null));
    assert_eq!((&own["earlier"], &own["zone"]), (&json!([]), &json!("")));
    assert_eq!((&own["begun"], &own["engine"]), (&json!(true), &json!(engine)));
    assert!(own["cluster"].is_string() && own["cluster"] == identity(1)["cluster"], "{own}");
    let met = |node: u16| {
        let identity = identity(node);
        let life = |key: &str| identity[key].clone();
        json!({ "id": node, "incarnation": life("incarnation"), "starts": life("starts"), "process": life("process") })
    };
    let others: Vec<Value> = lab.all().filter(|other| *other != node).map(met).collect();
    assert_eq!(json(&lab.folder(node).join("peers.json")), json!({ "format": 2, "nodes": others }));
    assert_eq!(fs::read_to_string(lab.folder(node).join("engine/format")).unwrap(), "3\n");

    let segments = fs::read_dir(lab.folder(node).join("log")).unwrap().map(|entry| entry.unwrap().path());
    let first = segments.min().expect("a log has a segment");
    let header = SegmentHeader::decode(&fs::read(first).unwrap()).unwrap();
    assert_eq!(own["incarnation"], format!("{:016x}", header.log_id), "the log is of this folder");
}

/// `identity.json` of a node of the build before, which counted no starts.
const FORMAT_3: &str = include_str!("../../../server/src/transport/identities/format-3.json");

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn folder_says_ids_cluster_and_formats_and_one_of_the_build_before_is_refused() {
    run(async |mut random: Random| {
        for engine in ["disk", "memory"] {
            let mut lab = Lab::new(3, &["--engine", engine], &mut random);
            lab.serve_all().await;
            assert!(lab.capstan(&[1], &["put", "a", "1"]).status.success());
            until("all have met", PATIENCE, || {
                std::future::ready(lab.all().all(|node| has_met_all(&lab, node)))
            })
            .await;
            for node in lab.all() {
                assert!(lab.stop(node).await.success());
            }
            lab.all().for_each(|node| check_folder(&lab, node, engine));

            let victim = 1 + random.below(3) as u16;
            let file = lab.folder(victim).join("identity.json");
            let own = fs::read(&file).unwrap();
            fs::write(&file, FORMAT_3).unwrap();
            let says = ["has format 3", "start it with the version that made it", "putall --json"];
            is_refused(&mut lab, victim, &says).await;
            fs::write(&file, own).unwrap();
            let format = lab.folder(victim).join("engine/format");
            fs::write(&format, "9\n").unwrap();
            is_refused(&mut lab, victim, &["has format 9", "start it with the version that made it"]).await;
            fs::write(&format, "1\n").unwrap();
            lab.serve_all().await;
            assert_eq!(text(&lab.capstan(&[victim], &["get", "a"]).stdout), "1\n");
        }
    });
}
