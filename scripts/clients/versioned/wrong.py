"""The programs, given what is none."""

import pathlib
import socket
import tempfile

import lab
from lab import check, check_that, run, sentence


def refused(parts, *arguments):
    """The program ends with exit code 2 and says why."""
    ran = run(*arguments)
    what = " ".join(arguments)
    check(f"{what}: exit code, {ran.err}", (ran.code, ran.out), (2, b""))
    for part in parts:
        check_that(f"{what}: text", part in ran.err and "panic" not in ran.err, ran.err)


@sentence("What the client cannot ask is exit code 2 with a text that says what would do, and nothing is asked")
def client():
    ask = "versioned-client"
    refused(["--key"], ask, "get")
    refused(["getrange", "delall"], ask, "take", "--key", "k")
    refused(["get takes one key"], ask, "get", "--key", "a", "b")
    refused(["the first and the last"], ask, "delrange", "--key", "a")
    refused(["a value for each key"], ask, "putall", "--key", "a", "b", "--value", "1")
    refused(["use put or putall"], ask, "del", "--key", "a", "--value", "1")
    refused(["use get, getrange or getall"], ask, "trim", "--key", "a", "--version", "1")
    refused(["--version"], ask, "get", "--key", "a", "--version", "soon")
    refused(["--port"], ask, "get", "--key", "a", "--port", "70000")


@sentence("A server with a port in use, a folder that is none, a list that cannot be, or a broker that is none, is exit code 2 with a text")
def server():
    serve, port = "versioned-server", str(lab.free_port())
    refused(["--port"], serve, "--port", "0")
    with socket.create_server(("0.0.0.0", 0)) as other:
        taken = str(other.getsockname()[1])
        refused([taken], serve, "--port", taken)
    with tempfile.TemporaryDirectory(prefix="capstan-lab-") as folder:
        letter = pathlib.Path(folder) / "letter"
        letter.write_text("dear")
        refused([str(letter)], serve, "--port", port, "--data", str(letter))
        refused(["--data"], serve, "--port", port, "--peers", f"localhost:{port}")
        refused(["none has the port of this server"], serve, "--port", port, "--data", folder, "--peers", "localhost:1,localhost:2")
        refused(["HOST:PORT"], serve, "--port", port, "--data", folder, "--peers", "here")
    refused(["mqtt://"], serve, "--port", port, "--broker", "127.0.0.1:1883")
    refused(["add --peers"], serve, "--port", port, "--broker", "mqtt://127.0.0.1:1883")
