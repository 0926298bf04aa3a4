//! The file of a store (YAML): where its nodes are, and how they agree.
//!
//! ```yaml
//! master: {ip: 127.0.0.1, port: 32770}              # of a centralized one: puts at the master, gets anywhere
//! slaves:
//!   - {id: slave_1, ip: 127.0.0.1, port: 32771}     # the id is a text, a number or absent
//! ```
//!
//! ```yaml
//! nodes:                                            # of a decentralized one: puts and gets anywhere
//!   - {id: 0, ip: 127.0.0.1, port: 32770}           # weight: as in weight: 2; three nodes weigh 1, 2, 1 where nothing is said, others 1 each
//!   - {id: 1, ip: 127.0.0.1, port: 32771}
//!   - {id: 2, ip: 127.0.0.1, port: 32772}
//! quorum_sizes: {read: 2, write: 3}                 # so where nodes weigh 1, 2, 1 and nothing is said, else a majority
//! ```

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use kv::keyspace::{REPLICAS_MAX, Votes, Weighed, Weights};

use crate::exit::Error;
use crate::parse;

/// All names of slaves begin so, hence come after that of the master: the first node by name is the one that orders.
const SLAVE: &str = "slave";
const MASTER: &str = "master";
/// All names of nodes begin so where nobody is the master.
const NODE: &str = "node";
/// What three nodes weigh where the file does not say it, and what reads and writes need then.
const THREE: [u32; 3] = [1, 2, 1];
const VOTES_OF_THREE: Votes = Votes { read: 2, write: 3 };
/// Which of the two `localhost` is depends on who asks.
const LOOPBACK: [&str; 2] = ["127.0.0.1", "[::1]"];
/// A larger file is none of a store: it names some nodes.
const FILE_BYTES_MAX: u64 = 64 << 10;
/// What a file can be.
const KINDS: &str = "a store is 'master: {ip: IP, port: PORT}' and a list 'slaves:' of such, or a list 'nodes:' of such, and where wished \
                     'quorum_sizes: {read: R, write: W}' beside it";

/// A store as its file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// Its nodes in the order of the file, the master first if there is one.
    pub nodes: Vec<Node>,
    /// What they weigh, in the order of their names, and what reads and writes need of it; `None` = there is a master.
    pub weighed: Option<Weighed>,
}

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

/// Reads it.
pub fn read(path: &Path) -> Result<Store, Error> {
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

/// The store in the content of the file, or what is wrong with it.
pub fn decode(bytes: &[u8]) -> Result<Store, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8 text")?;
    let file: File = serde_saphyr::from_str(text).map_err(|error| format!("{}; {KINDS}", brief(&error)))?;
    let store = match &file.nodes {
        Some(_) if file.master.is_some() || file.slaves.is_some() => {
            return Err("it has both 'master:' or 'slaves:', and 'nodes:': a store is of one kind; leave one of them out".into());
        }
        Some(nodes) => decentralized(nodes, file.quorum_sizes.as_ref())?,
        None if file.master.is_none() && file.slaves.is_none() => {
            return Err(format!("it names no node: {KINDS}"));
        }
        None => centralized(&file)?,
    };
    check_apart(&store.nodes)?;
    Ok(store)
}

/// A master and its slaves.
fn centralized(file: &File) -> Result<Store, String> {
    let master = file.master.as_ref().ok_or("'master:' is missing: write 'master: {ip: IP, port: PORT}'")?;
    let slaves = file
        .slaves
        .as_ref()
        .ok_or("'slaves:' is missing: list one or more below it, as '- {ip: IP, port: PORT}'")?;
    if slaves.is_empty() {
        return Err("'slaves:' is empty: list one or more below it, as '- {ip: IP, port: PORT}'".into());
    }
    if slaves.len() >= usize::from(REPLICAS_MAX) {
        return Err(format!("it lists {} slaves: a store has at most {}", slaves.len(), REPLICAS_MAX - 1));
    }
    if file.quorum_sizes.is_some() || slaves.iter().chain([master]).any(|entry| entry.weight.is_some()) {
        return Err("'quorum_sizes:' and 'weight' are for a list 'nodes:': a put at a master waits for all slaves; leave them out".into());
    }
    let mut nodes = vec![node(MASTER.into(), MASTER, master)?];
    for (index, slave) in slaves.iter().enumerate() {
        let what = format!("slave {}", index + 1);
        nodes.push(node(name(SLAVE, slave, index + 1, &what)?, &what, slave)?);
    }
    Ok(Store { nodes, weighed: None })
}

/// Nodes of which none is the master.
fn decentralized(entries: &[Entry], sizes: Option<&Sizes>) -> Result<Store, String> {
    if entries.is_empty() {
        return Err("'nodes:' is empty: list one or more below it, as '- {ip: IP, port: PORT}'".into());
    }
    if entries.len() > usize::from(REPLICAS_MAX) {
        return Err(format!("it lists {} nodes: a store has at most {REPLICAS_MAX}", entries.len()));
    }
    let (mut nodes, mut weights) = (Vec::new(), Vec::new());
    for (index, entry) in entries.iter().enumerate() {
        let what = format!("node {}", index + 1);
        nodes.push(node(name(NODE, entry, index + 1, &what)?, &what, entry)?);
        let usual = if entries.len() == THREE.len() { THREE[index] } else { 1 };
        weights.push(match entry.weight {
            None => usual,
            Some(weight) => {
                let weight =
                    u32::try_from(weight).map_err(|_| format!("{what}: weight {weight}: it is 1 or more"))?;
                Weights::new(&[weight]).map_err(|why| format!("{what}: {why}"))?;
                weight
            }
        });
    }
    let votes = votes(&weights, sizes)?;
    // Ids are given in the order of the names, and who weighs what goes by them.
    let mut by_name: Vec<(&String, u32)> = nodes.iter().map(|node| &node.name).zip(weights).collect();
    by_name.sort();
    let weights = Weights::new(&by_name.iter().map(|(_, weight)| *weight).collect::<Vec<u32>>())?;
    Ok(Store { nodes, weighed: Some(Weighed { weights, votes }) })
}

/// What reads and writes need.
fn votes(weights: &[u32], sizes: Option<&Sizes>) -> Result<Votes, String> {
    let total: u32 = weights.iter().sum();
    let usual = if *weights == THREE { VOTES_OF_THREE } else { Votes::majority(total) };
    let Some(sizes) = sizes else { return Ok(usual) };
    let size = |name: &str, size: Option<i64>, usual: u32| match size.map(u32::try_from) {
        None => Ok(usual),
        Some(Ok(size)) => Ok(size),
        Some(Err(_)) => {
            Err(format!("quorum_sizes: {name}: a size is 1 to {total}, what all nodes weigh together"))
        }
    };
    let votes = Votes {
        read: size("read", sizes.read, usual.read)?,
        write: size("write", sizes.write, usual.write)?,
    };
    let would =
        |Votes { read, write }: Votes| format!("'quorum_sizes: {{read: {read}, write: {write}}}' would do");
    votes.check(weights).map_err(|why| format!("quorum_sizes: {why}; {}", would(usual)))?;
    Ok(votes)
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    master: Option<Entry>,
    slaves: Option<Vec<Entry>>,
    nodes: Option<Vec<Entry>>,
    quorum_sizes: Option<Sizes>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: Option<Id>,
    ip: Option<String>,
    port: Option<i64>,
    weight: Option<i64>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Sizes {
    read: Option<i64>,
    write: Option<i64>,
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
    text.lines().next().unwrap_or_default().trim().replace("invalid i64", "no whole number")
}

/// The name of a node: its id, behind the word with which all of its kind begin.
fn name(kind: &str, entry: &Entry, place: usize, what: &str) -> Result<String, String> {
    match &entry.id {
        None => Ok(format!("{kind}_{place}")),
        Some(Id::Number(number @ 0..)) => Ok(format!("{kind}_{number}")),
        Some(Id::Number(number)) => Err(format!("{what}: id {number}: a number is 0 or more")),
        Some(Id::Text(text)) => {
            let name = if text.starts_with(kind) { text.clone() } else { format!("{kind}_{text}") };
            parse::name(&name).map_err(|why| format!("{what}: id '{}': {why}", text.escape_debug()))
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
            return Err(format!("two nodes are named {name}: give each an id of its own"));
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
        let Store { nodes, weighed } = decode(TWO.as_bytes()).expect("the file is sound");
        assert_eq!(weighed, None);
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
        assert_eq!(decode(flow.as_bytes()).expect("the file is sound").nodes.len(), 2);
    }

    /// A list of nodes, each with an id and what else is said of it, and what comes after the list.
    fn nodes(each: &[&str], more: &str) -> String {
        let line = |(index, said): (usize, &&str)| format!("  - {{ip: h, port: {}{said}}}\n", index + 1);
        format!("nodes:\n{}{more}\n", each.iter().enumerate().map(line).collect::<String>())
    }

    /// The names of a list of nodes, what they weigh in the order of these, and what reads and writes need.
    fn weighed(each: &[&str], more: &str) -> (Vec<String>, String, (u32, u32)) {
        let Store { nodes, weighed } = decode(nodes(each, more).as_bytes()).expect("the file is sound");
        let Weighed { weights, votes } = weighed.expect("nobody is the master");
        let names = nodes.into_iter().map(|node| node.name).collect();
        (names, weights.to_string(), (votes.read, votes.write))
    }

    #[test]
    fn nodes_without_a_master_weigh_what_the_file_says_or_three_1_2_1_and_others_1() {
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<String>>();
        let ids = [", id: 0", ", id: 1", ", id: two"];
        let three = names(&["node_0", "node_1", "node_two"]);
        assert_eq!(weighed(&ids, ""), (three, "1,2,1".into(), (2, 3)));
        let unnamed = names(&["node_1", "node_2"]);
        assert_eq!(weighed(&["", ""], ""), (unnamed.clone(), "1,1".into(), (2, 2)));
        assert_eq!(weighed(&["", ""], "quorum_sizes: {read: 1, write: 2}").2, (1, 2));
        assert_eq!(weighed(&["", ", weight: 3"], ""), (unnamed, "1,3".into(), (3, 3)));
        assert_eq!(
            weighed(&["", "", ", weight: 5"], "").1,
            "1,2,5",
            "each that says nothing weighs what is usual at its place"
        );
        assert_eq!(weighed(&["", "", ""], "quorum_sizes: {read: 1, write: 4}").2, (1, 4));
        assert_eq!(
            weighed(&["", "", ""], "quorum_sizes: {write: 4}").2,
            (2, 4),
            "what is not said is as usual"
        );
    }

    #[test]
    fn weight_goes_with_its_node_whatever_the_order_of_the_names() {
        let (names, weights, _) =
            weighed(&[", id: 10, weight: 7", ", id: 9, weight: 5", ", id: 2, weight: 3"], "");
        assert_eq!((names.join(" "), weights.as_str()), ("node_10 node_9 node_2".into(), "7,3,5"));
    }

    #[test]
    fn file_without_a_master_that_is_wrong_is_refused_with_what_would_do() {
        for (text, why) in [
            (nodes(&[], ""), "of such, or a list 'nodes:'"),
            ("nodes: []".into(), "'nodes:' is empty"),
            (nodes(&["", ", weight: 0"], ""), "node 2: a replica weighs 1 to 100, not 0"),
            (nodes(&["", ", weight: -1"], ""), "node 2: weight -1"),
            (nodes(&[", weight: 101"], ""), "node 1: a replica weighs 1 to 100, not 101"),
            (nodes(&["", ", weight: heavy"], ""), "no whole number at line 3"),
            (nodes(&[", wieght: 2"], ""), "wieght"),
            (nodes(&[", id: [1]"], ""), "an id is a text or a whole number"),
            (
                nodes(&["", "", ""], "quorum_sizes: {read: 2, write: 2}"),
                "'quorum_sizes: {read: 2, write: 3}' would do",
            ),
            (nodes(&["", "", ""], "quorum_sizes: {read: 1}"), "a read of 1 may miss a write of 3"),
            (nodes(&["", ""], "quorum_sizes: {read: 0, write: 2}"), "each need members that weigh 1 or more"),
            (nodes(&["", ""], "quorum_sizes: {read: 1, write: 3}"), "all members together weigh 2"),
            (nodes(&["", ""], "quorum_sizes: {read: -1}"), "quorum_sizes: read: a size is 1 to 2"),
            (nodes(&["", ""], "quorum_sizes: {reads: 1}"), "reads"),
            (nodes(&["", ""], "quorum_sizes: 2"), "line 4"),
            (nodes(&[", id: a", ", id: node_a"], ""), "two nodes are named node_a"),
            ("nodes: [{ip: h, port: 1}, {ip: h, port: 1}]".into(), "two nodes have port 1"),
            (nodes(&[""; 16], ""), "it lists 16 nodes: a store has at most 15"),
            ("quorum_sizes: {read: 1}".into(), "it names no node"),
        ] {
            let found = decode(text.as_bytes()).expect_err(&text);
            assert!(found.contains(why), "{text}: {found}");
            assert_eq!(found.lines().count(), 1, "{found}");
        }
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
            (format!("{master}\n{slave}\nquorum_sizes: {{read: 1}}"), "are for a list 'nodes:'"),
            (format!("{master}\nslaves: [{{ip: h, port: 2, weight: 2}}]"), "are for a list 'nodes:'"),
            (format!("{master}\n{slave}\nnodes: []"), "a store is of one kind"),
            (format!("{master}\n{slave}\nmore: 1"), "more"),
            ("- 1\n- 2".into(), "a store is 'master:"),
            ("just words".into(), "a store is 'master:"),
            ("master: [".into(), "a store is 'master:"),
            (String::new(), "it names no node"),
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
