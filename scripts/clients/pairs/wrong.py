"""The programs, used wrongly."""

import os
import socket

import lab
from lab import check, check_that, run, sentence
from pairs.servers import central_server, pair_server


def usage(ran, arguments, *parts):
    what = " ".join(arguments)
    check(f"exit code of {what}: {ran.err}", ran.code, 2)
    check(f"stdout of {what}", ran.out, b"")
    for part in (*parts, ""):
        check_that(f"text of {what}", ran.err.strip() and part in ran.err and "panic" not in ran.err, ran.err)


@sentence("A port that is in use, no number, 0, or above 65535 is exit code 2 with a text, and nothing on stdout")
def ports():
    for program in ("pair-server", "central-server"):
        for port in ("port", "0", "70000", "-1", "", "1.5", "127.0.0.1:7000"):
            usage(run(program, port), (program, port))
        usage(run(program), (program,))
        for start in (pair_server, central_server):
            with start() as server:
                usage(run(program, str(server.port)), (program, "a port in use"), str(server.port))
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = str(other.getsockname()[1])
            usage(run(program, port), (program, "a port in use at one address"), port)


@sentence("A server's address that is none is exit code 2 with a text")
def addresses():
    for program in ("pair-client", "central-client"):
        for address in ("nonsense", "127.0.0.1", "127.0.0.1:", "127.0.0.1:port", "127.0.0.1:0", "127.0.0.1:70000", ":7000", ""):
            usage(run(program, address, feed=b"C,1\n"), (program, address))
        usage(run(program), (program,))


@sentence("Options that are none are exit code 2 with a text")
def options():
    port = str(lab.free_port())
    runs = [
        ("pair-server", port, "--check"),
        ("central-server", port, "--activate"),
        ("pair-server", port, "--data"),
        ("pair-server", port, "more"),
        ("pair-client", f"127.0.0.1:{port}", "more"),
        ("no-program", port),
    ]
    for arguments in runs:
        usage(run(*arguments), arguments)


@sentence("A data folder that another server uses, or that is no folder, is exit code 2 with a text")
def folders():
    with pair_server() as other:
        folder = str(other.own / "cwd" / "data")
        with pair_server("--data", folder):
            arguments = ("pair-server", str(lab.free_port()), "--data", folder)
            usage(run(*arguments), arguments)
        file = str(other.own / "cwd" / "file")
        os.close(os.open(file, os.O_CREAT))
        arguments = ("central-server", str(lab.free_port()), "--data", file)
        usage(run(*arguments), arguments)
