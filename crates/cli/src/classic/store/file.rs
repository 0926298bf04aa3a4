//! The file of a store (YAML): where its nodes are.
//!
//! ```yaml
//! master: {ip: 127.0.0.1, port: 32770}
//! slaves:
//!   - {id: slave_1, ip: 127.0.0.1, port: 32771}     # the id is a text, a number or absent
//! ```

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use kv::keyspace::REPLICAS_MAX;
use serde::de::IgnoredAny;

use crate::exit::Error;
use crate::parse;

/// All names of slaves begin so, hence come after that of the master: the first node by name is the one that orders.
const SLAVE: &str = "slave";
const MASTER: &str = "master";
/// Which of the two `localhost` is depends on who asks.
const LOOPBACK: [&str; 2] = ["127.0.0.1", "[::1]"];
/// A larger file is none of a store: it names some nodes.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// A node of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name, which its data folder has too.
    pub name: String,
    /// Where clients connect, each HOST:PORT. `localhost` is answered at both its addresses, as far as this machine has them.
    pub listens: Vec<String>,
    /// Where others on this machine reach it: HOST:PORT.
    pub reached: String,
    /// Its port.
    pub port: u16,
}

/// Reads it: the master first.
pub fn read(path: &Path) -> Result<Vec<Node>, Error> {
    let shown = path.display();
    let failed = |why: &dyn std::fmt::Display| Error::Usage(format!("{shown}: {why}"));
    let size = std::fs::metadata(path).map_err(|error| failed(&error))?.len();
    if size > FILE_BYTES_MAX {
        return Err(failed(&format!(
            "it has {size} bytes, and a file that names nodes has at most {FILE_BYTES_MAX}"
        )));
    }
    decode(&std::fs::read(path).map_err(|error| failed(&error))?).map_err(|why| failed(&why))
}

/// The nodes in the content of the file, or what is wrong with it.
pub fn decode(bytes: &[u8]) -> Result<Vec<Node>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8 text")?;
    let file: File = serde_saphyr::from_str(text).map_err(|error| {
        format!("{}; a store is 'master: {{ip: IP, port: PORT}}' and a list 'slaves:' of such", brief(&error))
    })?;
    if file.nodes.is_some() {
        return Err(match file.master.is_some() || file.slaves.is_some() {
            true => "it has both 'master:' or 'slaves:', and 'nodes:': a store is of one kind; leave one of them out".into(),
            false => "it is of the decentralized kind ('nodes:'), whose protocol is not there yet: write 'master:' and 'slaves:'".to_owned(),
        });
    }
    let master = file.master.ok_or("'master:' is missing: write 'master: {ip: IP, port: PORT}'")?;
    let slaves =
        file.slaves.ok_or("'slaves:' is missing: list one or more below it, as '- {ip: IP, port: PORT}'")?;
    if slaves.is_empty() {
        return Err("'slaves:' is empty: list one or more below it, as '- {ip: IP, port: PORT}'".into());
    }
    if slaves.len() >= usize::from(REPLICAS_MAX) {
        return Err(format!("it lists {} slaves: a store has at most {}", slaves.len(), REPLICAS_MAX - 1));
    }
    let mut nodes = vec![node(MASTER.into(), MASTER, &master)?];
    for (index, slave) in slaves.iter().enumerate() {
        let what = format!("slave {}", index + 1);
        nodes.push(node(name(slave, index + 1).map_err(|why| format!("{what}: {why}"))?, &what, slave)?);
    }
    check_apart(&nodes)?;
    Ok(nodes)
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    master: Option<Entry>,
    slaves: Option<Vec<Entry>>,
    nodes: Option<IgnoredAny>,
    /// Of the other kind.
    #[serde(rename = "quorum_sizes")]
    _quorum_sizes: Option<IgnoredAny>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: Option<Id>,
    ip: Option<String>,
    port: Option<i64>,
}

#[derive(serde::Deserialize)]
#[serde(untagged, expecting = "an id is a text or a whole number")]
enum Id {
    Number(i64),
    Text(String),
}

/// What the reader of the file says, on one line.
fn brief(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    text.lines().next().unwrap_or_default().trim().to_owned()
}

fn name(slave: &Entry, place: usize) -> Result<String, String> {
    match &slave.id {
        None => Ok(format!("{SLAVE}_{place}")),
        Some(Id::Number(number @ 0..)) => Ok(format!("{SLAVE}_{number}")),
        Some(Id::Number(number)) => Err(format!("id {number}: a number is 0 or more")),
        Some(Id::Text(text)) => {
            let name = if text.starts_with(SLAVE) { text.clone() } else { format!("{SLAVE}_{text}") };
            parse::name(&name).map_err(|why| format!("id '{}': {why}", text.escape_debug()))
        }
    }
}

fn node(name: String, what: &str, entry: &Entry) -> Result<Node, String> {
    let ip = entry.ip.as_deref().ok_or_else(|| format!("{what}: 'ip' is missing"))?;
    let port = entry.port.ok_or_else(|| format!("{what}: 'port' is missing"))?;
    let port = u16::try_from(port).ok().filter(|port| *port > 0);
    let port = port.ok_or_else(|| {
        format!("{what}: port {}: a port is a number from 1 to 65535", entry.port.unwrap_or_default())
    })?;
    let is_host = |text: &str| {
        let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
        !text.is_empty() && text.len() <= 253 && text.chars().all(fine)
    };
    let reached = match ip.parse::<IpAddr>() {
        Ok(IpAddr::V6(ip)) if ip.is_unspecified() => "[::1]".to_owned(),
        Ok(IpAddr::V4(ip)) if ip.is_unspecified() => "127.0.0.1".to_owned(),
        Ok(IpAddr::V6(ip)) => format!("[{ip}]"),
        Ok(IpAddr::V4(ip)) => ip.to_string(),
        Err(_) if is_host(ip) && !ip.contains(':') => ip.to_owned(),
        Err(_) => return Err(format!("{what}: ip '{}' is none", ip.escape_debug())),
    };
    let is_every = ip.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified());
    let hosts = match &reached[..] {
        _ if is_every => vec!["*"],
        "127.0.0.1" | "[::1]" | "localhost" => LOOPBACK.to_vec(),
        host => vec![host],
    };
    let listens = hosts.iter().map(|host| format!("{host}:{port}")).collect();
    Ok(Node { name, listens, reached: format!("{reached}:{port}"), port })
}

/// That no two nodes have one name or one port.
fn check_apart(nodes: &[Node]) -> Result<(), String> {
    let (mut names, mut ports) = (BTreeSet::new(), BTreeSet::new());
    for Node { name, port, .. } in nodes {
        if !names.insert(name) {
            return Err(format!("two nodes are named {name}: give each slave an id of its own"));
        }
        // On several addresses of one machine they would not disturb each other; whoever writes that has most likely erred.
        if !ports.insert(port) {
            return Err(format!("two nodes have port {port}: give each a port of its own"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "
master:
  ip: 127.0.0.1
  port: 32770
slaves:
  - id: slave_1
    ip: localhost
    port: 32771
  - id: 2
    ip: '::1'
    port: 32772
  - ip: 0.0.0.0
    port: 32773
  - ip: store.example
    port: 32774
";

    #[test]
    fn nodes_of_a_file_are_the_master_and_its_slaves_in_order() {
        let nodes = decode(TWO.as_bytes()).unwrap();
        let shown: Vec<_> =
            nodes.iter().map(|node| (&node.name[..], node.listens.join(" "), &node.reached[..])).collect();
        assert_eq!(
            shown,
            [
                ("master", "127.0.0.1:32770 [::1]:32770".into(), "127.0.0.1:32770"),
                ("slave_1", "127.0.0.1:32771 [::1]:32771".into(), "localhost:32771"),
                ("slave_2", "127.0.0.1:32772 [::1]:32772".into(), "[::1]:32772"),
                ("slave_3", "*:32773".into(), "127.0.0.1:32773"),
                ("slave_4", "store.example:32774".into(), "store.example:32774"),
            ]
        );
        let flow = "master: {ip: 127.0.0.1, port: 1}\nslaves: [{ip: 127.0.0.1, port: 2}]";
        assert_eq!(decode(flow.as_bytes()).unwrap().len(), 2);
    }

    #[test]
    fn file_that_is_wrong_is_refused_with_what_is_wrong() {
        let slave = "slaves: [{ip: 127.0.0.1, port: 2}]";
        let master = "master: {ip: 127.0.0.1, port: 1}";
        for (text, why) in [
            (format!("{master}\n"), "'slaves:' is missing"),
            (format!("{slave}\n"), "'master:' is missing"),
            (format!("{master}\nslaves: []"), "'slaves:' is empty"),
            (format!("{master}\nslaves: [{{ip: 127.0.0.1}}]"), "slave 1: 'port' is missing"),
            (format!("{master}\nslaves: [{{port: 5}}]"), "slave 1: 'ip' is missing"),
            (format!("master: {{port: 1}}\n{slave}"), "master: 'ip' is missing"),
            (format!("master: {{ip: 127.0.0.1, port: -1}}\n{slave}"), "port -1: a port is a number from 1"),
            (format!("master: {{ip: 127.0.0.1, port: 0}}\n{slave}"), "port 0"),
            (format!("master: {{ip: 127.0.0.1, port: 65536}}\n{slave}"), "port 65536"),
            (format!("master: {{ip: 'a b', port: 1}}\n{slave}"), "ip 'a b' is none"),
            (format!("master: {{ip: 127.0.0.1, port: 2}}\n{slave}"), "two nodes have port 2"),
            (format!("{master}\nslaves: [{{id: -3, ip: 127.0.0.1, port: 2}}]"), "id -3"),
            (format!("{master}\nslaves: [{{id: a/b, ip: 127.0.0.1, port: 2}}]"), "id 'a/b': a name is"),
            (
                format!("{master}\nslaves: [{{id: a, ip: h, port: 2}}, {{id: slave_a, ip: h, port: 3}}]"),
                "two nodes are named slave_a",
            ),
            ("nodes: [{id: 0, ip: 127.0.0.1, port: 1}]".into(), "of the decentralized kind"),
            (format!("{master}\n{slave}\nnodes: []"), "a store is of one kind"),
            (format!("{master}\n{slave}\nmore: 1"), "more"),
            ("- 1\n- 2".into(), "a store is 'master:"),
            ("just words".into(), "a store is 'master:"),
            ("master: [".into(), "a store is 'master:"),
            (String::new(), "missing"),
            (format!("master: {{ip: 127.0.0.1, port: eighty}}\n{slave}"), "a store is 'master:"),
        ] {
            let found = decode(text.as_bytes()).expect_err(&text);
            assert!(found.contains(why), "{text}: {found}");
            assert_eq!(found.lines().count(), 1, "{found}");
        }
        assert_eq!(decode(b"\xff\xfe").unwrap_err(), "it is not UTF-8 text");
        let many: String = (2..20).map(|port| format!("  - {{ip: h, port: {port}}}\n")).collect();
        assert!(decode(format!("{master}\nslaves:\n{many}").as_bytes()).unwrap_err().contains("18 slaves"));
    }

    #[test]
    fn file_that_is_not_there_is_named() {
        let error = read(Path::new("/nowhere/store.yaml")).unwrap_err().to_string();
        assert!(error.starts_with("/nowhere/store.yaml: No such file"), "{error}");
    }
}
