"""The program, given files and folders that are none."""

import pathlib
import socket
import tempfile

import lab
from lab import check, check_that, run, sentence
from store.servers import Store, Votes

MASTER = "master: {ip: 127.0.0.1, port: %d}\n"
SLAVE = "slaves: [{id: a, ip: 127.0.0.1, port: %d}]\n"


def refused(text, *parts, data=None):
    """Runs the program with a file of this text: it ends with exit code 2 and says why, and nothing is left running."""
    with tempfile.TemporaryDirectory(prefix="capstan-lab-") as folder:
        file = pathlib.Path(folder) / "store.yaml"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        ran = run("store", str(file), "--data", str(data or pathlib.Path(folder) / "data"))
    what = f"the file {lab.short(text)}"
    check(f"{what}: exit code, {ran.err}", ran.code, 2)
    check(f"{what}: stdout", ran.out, b"")
    for part in parts:
        check_that(f"{what}: text", part in ran.err and "panic" not in ran.err, ran.err)


@sentence("A file with a missing field, a duplicate port, a negative number, both kinds, or that is no YAML is exit code 2 with a text")
def files():
    one, two = lab.free_port(), lab.free_port()
    master, slave = MASTER % one, SLAVE % two
    refused(master, "'slaves:' is missing")
    refused(slave, "'master:' is missing")
    refused(master + "slaves: []", "'slaves:' is empty")
    refused(master + "slaves: [{id: a, ip: 127.0.0.1}]", "'port' is missing")
    refused(master + f"slaves: [{{id: a, port: {two}}}]", "'ip' is missing")
    refused(f"master: {{ip: 127.0.0.1}}\n{slave}", "master: 'port' is missing")
    refused(master + SLAVE % one, f"port {one}")
    refused(MASTER % -5 + slave, "port -5")
    refused(MASTER % 70_000 + slave, "port 70000")
    refused(master + f"slaves: [{{id: -1, ip: 127.0.0.1, port: {two}}}]", "id -1")
    refused(master + slave + "nodes: []", "of one kind")
    refused(master + slave + "quorum_sizes: {read: 1}", "for a list 'nodes:'")
    refused("{ not YAML")
    refused("text")
    refused("")
    refused(b"\xff\xfe\x00", "UTF-8")
    refused(MASTER.replace("127.0.0.1", "192.0.2.1") % one + slave, "192.0.2.1")
    ran = run("store", "/nowhere/store.yaml")
    check("exit code of a file that is not there", ran.code, 2)
    check_that("its text", "/nowhere/store.yaml" in ran.err, ran.err)


@sentence("A list of nodes whose votes cannot be, or that says something else wrong, is exit code 2 with a text that says what would do")
def votes():
    ports = [lab.free_port() for _ in range(3)]
    nodes = "nodes: [" + ", ".join(f"{{ip: 127.0.0.1, port: {port}%s}}" for port in ports) + "]\n"
    said, three = nodes % ("", ", weight: %s", ""), nodes % ("", "", "")
    refused("nodes: []", "'nodes:' is empty")
    refused(said % 0, "node 2", "weighs 1 to 100")
    refused(said % -1, "node 2", "weight -1")
    refused(said % "heavy", "line 1")
    refused(three + "quorum_sizes: {read: 2, write: 2}", "a read of 2 may miss a write of 2", "{read: 2, write: 3}' would do")
    refused(three + "quorum_sizes: {read: 5, write: 5}", "weigh 4", "would do")
    refused(three + "quorum_sizes: {read: 0, write: 4}", "would do")
    refused(three + "quorum_sizes: {red: 2}", "red")
    refused(f"nodes: [{{id: 0, ip: 127.0.0.1, port: {ports[0]}}}, {{id: 0, ip: 127.0.0.1, port: {ports[1]}}}]", "node_0")


@sentence("A port that is in use is exit code 2 with a text, and no node is left")
def ports():
    free = lab.free_port()
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        refused(MASTER % free + SLAVE % port, str(port), "in use")
        refused(MASTER % port + SLAVE % free, str(port), "in use")
    lab.bind(free)


@sentence("A folder that is another store's, in use, or something else's is exit code 2 with a text")
def folders():
    one, two = lab.free_port(), lab.free_port()
    with Store(slaves=1) as store:
        refused(MASTER % one + SLAVE % two, "runs it already", data=store.folder / "data")
        check("exit code", store.stop(), 0)
        refused(MASTER % one + SLAVE % two, "holds a store of master, slave_1", data=store.folder / "data")
        (store.folder / "other").mkdir()
        (store.folder / "other" / "letter").write_text("dear")
        refused(MASTER % one + SLAVE % two, "holds letter", data=store.folder / "other")
    with Votes() as store:
        check("exit code", store.stop(), 0)
        text = store.file.read_text()
        refused(text + "quorum_sizes: {read: 3, write: 3}", "weights 1,2,1", "read 2, write 3", data=store.folder / "data")
        refused(MASTER % one + SLAVE % two, "holds a store of node_0", data=store.folder / "data")
