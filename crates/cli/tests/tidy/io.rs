//! Crates that do no I/O say so to clippy, with a reason for each ban; then it finds who breaks the rule.

use std::fs;

use super::{none, root};

/// Crates that know no clock, thread or socket.
const NO_CLOCK: &[&str] = &["kv", "check", "placement", "replication", "storage", "node", "sim"];
const CLOCKS: &[&str] = &[
    "std::time::Instant::now",
    "std::time::SystemTime::now",
    "std::thread::spawn",
    "std::thread::sleep",
    "std::net::TcpStream",
    "std::net::TcpListener",
    "std::net::UdpSocket",
];
/// Crates that know no file either.
const NO_FILE: &[&str] = &["kv", "check", "placement", "replication", "node", "sim"];
const FILES: &[&str] = &["std::fs::File", "std::fs::OpenOptions"];
/// Crates that do the same in every run, so that nothing in them may have a random order.
const DETERMINISTIC: &[&str] = &["kv", "placement", "replication", "storage", "node", "sim"];
const ORDERS: &[&str] = &["std::collections::HashMap", "std::collections::HashSet"];

#[test]
fn crates_without_io_ban_it() {
    let mut wrong = Vec::new();
    for (crates, bans) in [(NO_CLOCK, CLOCKS), (NO_FILE, FILES), (DETERMINISTIC, ORDERS)] {
        for name in crates {
            let file = root().join("crates").join(name).join("clippy.toml");
            let content = fs::read_to_string(&file).unwrap_or_default();
            let missing = bans.iter().filter(|ban| !bans_with_reason(&content, ban));
            wrong.extend(missing.map(|ban| format!("crates/{name}/clippy.toml does not ban {ban}")));
        }
    }
    none("bans with a reason", &wrong);
}

fn bans_with_reason(content: &str, path: &str) -> bool {
    let start = format!("{{ path = \"{path}\", reason = \"");
    content.lines().filter_map(|line| line.trim().strip_prefix(&start)).any(|reason| !reason.starts_with('"'))
}

#[test]
fn ban_without_a_reason_is_none() {
    assert!(bans_with_reason(r#"    { path = "a::b", reason = "why" },"#, "a::b"));
    assert!(!bans_with_reason(r#"    { path = "a::b", reason = "" },"#, "a::b"));
    assert!(!bans_with_reason(r#"    # { path = "a::b", reason = "why" },"#, "a::b"));
}
