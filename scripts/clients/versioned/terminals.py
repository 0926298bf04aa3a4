"""The client program."""

import json

from lab import check, check_that, run, sentence
from versioned.servers import Server


class Asked:
    """Runs the client, with the options of either language."""

    def __init__(self, server, names):
        self.port, (self.port_option, *self.names) = str(server.port), names

    def __call__(self, op, *options):
        words = [self.names[("--key", "--value", "--version").index(word)] if word.startswith("--") else word for word in options]
        ran = run("versioned-client", op, self.port_option, self.port, *words)
        check(f"{op}: exit code, {ran.err}", ran.code, 0)
        return [tuple(line.split("\t")) for line in ran.out.decode().splitlines()]


@sentence("The client does each operation and prints a line for each answer, with English and with Portuguese options")
def operations():
    for names in (("--port", "--key", "--value", "--version"), ("--porta", "--chave", "--valor", "--versao")):
        with Server() as server:
            ask = Asked(server, names)
            ((key, old, old_ver, first),) = ask("put", "--key", "k", "--value", "1")
            check("put", (key, old, old_ver), ("k", "", "0"))
            ((_, old, old_ver, second),) = ask("put", "--key", "k", "--value", "2")
            check("put again", (old, old_ver), ("1", first))
            check("get", ask("get", "--key", "k"), [("k", "2", second)])
            check("get at a version", ask("get", "--key", "k", "--version", first), [("k", "1", first)])
            check("get of nothing", ask("get", "--key", "none"), [("none", "", "0")])
            puts = ask("putall", "--key", "a", "b", "c", "--value", "x", "y", "z")
            check("putall", [(put[0], put[1]) for put in puts], [("a", ""), ("b", ""), ("c", "")])
            check("getrange", [row[:2] for row in ask("getrange", "--key", "a", "k")], [("a", "x"), ("b", "y"), ("c", "z"), ("k", "2")])
            check("getrange at a version", [row[1] for row in ask("getrange", "--key", "a", "k", "--version", first)], ["", "", "", "1"])
            found = ask("getall", "--key", "k", "none", "k", "--version", first, "0", "0")
            check("getall", found, [("k", "1", first), ("none", "", "0"), ("k", "2", second)])
            check("trim", ask("trim", "--key", "k"), [("k", "2", second)])
            check("get of what was trimmed", ask("get", "--key", "k", "--version", first), [("k", "", "0")])
            check("del", ask("del", "--key", "k"), [("k", "2", second)])
            check("delrange", [row[:2] for row in ask("delrange", "--key", "a", "b")], [("a", "x"), ("b", "y")])
            check("delall", [row[:2] for row in ask("delall", "--key", "none", "c")], [("none", ""), ("c", "z")])
            check("what is left", ask("getrange", "--key", "", "z"), [])


@sentence("With --json each answer is an object, with versions as texts")
def objects():
    with Server() as server:
        ran = run("versioned-client", "put", "--port", str(server.port), "--key", "k", "--value", "two\nlines", "--json")
        put = json.loads(ran.out)
        check("put", (put["key"], put["old_val"], put["old_ver"]), ("k", "", "0"))
        ran = run("versioned-client", "get", "--port", str(server.port), "--key", "k", "--json")
        check("get", json.loads(ran.out), {"key": "k", "val": "two\nlines", "ver": put["ver"]})


@sentence("A server that is away is exit code 3 with a text")
def away():
    with Server() as server:
        server.kill()
        for op in ("get", "getall"):
            ran = run("versioned-client", op, "--port", str(server.port), "--key", "k")
            check(f"{op}: exit code", (ran.code, ran.out), (3, b""))
            check_that(f"{op}: text", str(server.port) in ran.err, ran.err)
