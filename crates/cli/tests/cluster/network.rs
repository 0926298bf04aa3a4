//! Nodes on a network of their own, whose wires the test cuts, each direction apart.
//!
//! Every node is in a network namespace with one interface; all of them, and one of the test itself, are ports of one bridge,
//! in a namespace of its own, where no firewall of the machine looks. A direction is cut by giving the sender a wrong
//! hardware address of the receiver: packets leave, and nobody takes them. Nothing is told to either end, as on a broken
//! wire. Only the commands `ip` and `nsenter` are needed, and root.
//!
//! Everything is removed when the network is dropped. What a killed test left behind is removed by the next one.

use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::nodes::{Lab, Place, Random, text};

/// Where clients are, among the ends of wires. The others are nodes.
pub const CLIENTS: u16 = 0;
/// Of all namespaces that belong to these tests; the process id of the test comes next.
const PREFIX: &str = "capstan-lab-";
/// A hardware address that nobody has.
const NOBODY: &str = "02:00:00:00:00:ff";
/// A port on which nobody listens: a connection is refused at once if there is a way, and else not.
const DISCARD: u16 = 9;
/// How long a packet may take on a machine without a wire in between.
const PACKET: Duration = Duration::from_secs(1);

/// A network.
pub struct Network {
    /// In the names of everything that belongs to it.
    name: String,
    /// The test's own interface.
    interface: String,
    /// The third part of its addresses: 198.18.0.0/15 is for such things.
    subnet: u64,
    nodes: u16,
}

impl Network {
    /// For so many nodes, and the clients; or why there is none.
    pub fn new(nodes: u16, random: &mut Random) -> Result<Network, String> {
        remove_leftovers();
        let tag = random.below(1 << 32);
        let name = format!("{PREFIX}{}-{tag:08x}", std::process::id());
        // The names of interfaces have 15 bytes.
        let network = Network { name, interface: format!("cap{tag:08x}"), subnet: random.below(256), nodes };
        network.make().map_err(|why| format!("no network namespaces here: {why}"))?;
        network.probe()?;
        Ok(network)
    }

    /// Puts the nodes of a cluster on it.
    pub fn take(&self, lab: &mut Lab) {
        for node in lab.all() {
            let place = Place { host: Some(self.host(node)), enter: self.enter(node), ..Place::default() };
            lab.set_place(node, place);
        }
    }

    /// Puts the nodes of a cluster on it that listen for clients on every address they have.
    pub fn take_open(&self, lab: &mut Lab) {
        for node in lab.all() {
            let (host, listens) = (Some(self.host(node)), Some("0.0.0.0".into()));
            lab.set_place(node, Place { host, listens, enter: self.enter(node), ..Place::default() });
        }
    }

    /// From now on nothing that one end sends reaches the other.
    pub fn cut(&self, from: u16, to: u16) {
        self.point(from, to, NOBODY).unwrap();
    }

    /// All wires are whole.
    pub fn heal(&self) {
        for from in 0..=self.nodes {
            for to in (0..=self.nodes).filter(|to| *to != from) {
                self.point(from, to, &hardware(to)).unwrap();
            }
        }
    }

    fn host(&self, end: u16) -> String {
        format!("198.18.{}.{}", self.subnet, 10 + end)
    }

    fn namespace(&self, node: u16) -> String {
        format!("{}-n{node}", self.name)
    }

    /// The words in front of a command that is run there. Not `ip netns exec`: that copies all mounts of the machine, and a
    /// file system that another test unmounts meanwhile would stay alive.
    fn enter(&self, node: u16) -> Vec<String> {
        vec!["nsenter".to_owned(), format!("--net=/run/netns/{}", self.namespace(node))]
    }

    fn hub(&self) -> String {
        format!("{}-hub", self.name)
    }

    /// `ip` where an end is.
    fn at(&self, end: u16, words: &str) -> Result<(), String> {
        match end {
            CLIENTS => ip(words),
            node => ip(&format!("-n {} {words}", self.namespace(node))),
        }
    }

    fn interface(&self, end: u16) -> &str {
        if end == CLIENTS { &self.interface } else { "wire" }
    }

    /// Where one end believes another to be.
    fn point(&self, from: u16, to: u16, hardware: &str) -> Result<(), String> {
        let (host, interface) = (self.host(to), self.interface(from));
        self.at(from, &format!("neigh replace {host} lladdr {hardware} nud permanent dev {interface}"))
    }

    fn make(&self) -> Result<(), String> {
        let hub = self.hub();
        ip(&format!("netns add {hub}"))?;
        ip(&format!("-n {hub} link add bridge type bridge"))?;
        ip(&format!("-n {hub} link set bridge up"))?;
        for end in 0..=self.nodes {
            if end != CLIENTS {
                ip(&format!("netns add {}", self.namespace(end)))?;
                self.at(end, "link set lo up")?;
            }
            let (interface, hardware) = (self.interface(end), hardware(end));
            self.at(
                end,
                &format!("link add {interface} address {hardware} type veth peer name port{end} netns {hub}"),
            )?;
            ip(&format!("-n {hub} link set port{end} master bridge up"))?;
            self.at(end, &format!("address add {}/24 dev {interface}", self.host(end)))?;
            self.at(end, &format!("link set {interface} up"))?;
        }
        for from in 0..=self.nodes {
            for to in (0..=self.nodes).filter(|to| *to != from) {
                self.point(from, to, &hardware(to))?;
            }
        }
        Ok(())
    }

    /// Tries whether packets flow, and whether a cut stops them.
    fn probe(&self) -> Result<(), String> {
        let expect = |flows: bool, what: &str| match self.flows() {
            Ok(found) if found == flows => Ok(()),
            found => Err(format!("no network namespaces here that work: {what}: {found:?}")),
        };
        expect(true, "packets to a node and from node to node")?;
        self.cut(1, 2.min(self.nodes));
        self.cut(CLIENTS, 1);
        expect(false, "packets on cut wires")?;
        self.heal();
        expect(true, "packets after healing")
    }

    /// Whether there is a way from the clients to n1 and from n1 to n2; an error when one is and the other is not.
    fn flows(&self) -> Result<bool, String> {
        let address: SocketAddr = format!("{}:{DISCARD}", self.host(1)).parse().expect("it is an address");
        let refused = |error: std::io::Error| error.kind() == std::io::ErrorKind::ConnectionRefused;
        let to_node = TcpStream::connect_timeout(&address, PACKET).is_err_and(refused);
        let (host, seconds) = (self.host(2.min(self.nodes)), PACKET.as_secs());
        let program = format!(
            "import socket\ntry: socket.create_connection(('{host}', {DISCARD}), {seconds})\nexcept \
             ConnectionRefusedError: print('refused')\nexcept OSError: print('lost')"
        );
        let enter = self.enter(1);
        let words = enter.iter().map(String::as_str).chain(["python3", "-c", &program]);
        let output = run(&words.collect::<Vec<&str>>())?;
        match (to_node, text(&output.stdout).trim()) {
            (true, "refused") => Ok(true),
            (false, "lost") => Ok(false),
            (_, between) => {
                Err(format!("clients reach n1: {to_node}; n1 and n2: {between} {}", text(&output.stderr)))
            }
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// The hardware address of an end.
fn hardware(end: u16) -> String {
    format!("02:00:00:00:00:{:02x}", 1 + end)
}

fn ip(words: &str) -> Result<(), String> {
    let words: Vec<&str> = ["ip"].into_iter().chain(words.split(' ')).collect();
    let output = run(&words)?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("'{}': {}", words.join(" "), text(&output.stderr).trim())),
    }
}

fn run(words: &[&str]) -> Result<Output, String> {
    let output = Command::new(words[0]).args(&words[1..]).stdin(Stdio::null()).output();
    output.map_err(|error| format!("'{}': {error}", words[0]))
}

fn namespaces() -> Vec<String> {
    let output = run(&["ip", "netns", "list"]).map(|output| text(&output.stdout)).unwrap_or_default();
    output.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

/// Removes the namespaces of a network; the wires go with them.
fn remove(name: &str) {
    for namespace in namespaces().into_iter().filter(|namespace| namespace.starts_with(name)) {
        if let Err(why) = ip(&format!("netns del {namespace}")) {
            println!("a network namespace stays behind: {why}");
        }
    }
}

/// Removes the namespaces of tests that run no more.
fn remove_leftovers() {
    for namespace in namespaces() {
        let pid = namespace.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if pid.is_some_and(|pid| !std::path::Path::new("/proc").join(pid.to_string()).exists()) {
            remove(&namespace);
        }
    }
}
