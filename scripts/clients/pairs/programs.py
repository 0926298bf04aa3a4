"""The two clients, fed by pipes and by files."""

import random
import secrets
import subprocess

import lab
from lab import check, check_that, run, sentence
from pairs.servers import CENTRAL, KEY_MAX, KEY_MIN, PAIRS, VALUE_BYTES_MAX, central_server, fill, foreign, pair_server, registered_by

# Lines that are none of the page's commands, as are bytes that are no text.
UNKNOWN = b"| |X|i,1,x|c,1|t|T | T|TT|T,1|I|I,5|C|C,|C,one|C,1.5|I,,x|I,one,x|I,1e3,x|I,0x10,x|A|C;1|# C,1|\xff\xfe|\0\0".split(b"|")
# Commands of a pair-client, each with what it prints.
COMMANDS = [
    ("I,1,one", "0"),
    ("I,1,uno", "-1"),
    ("C,1", "one"),
    ("C,2", ""),
    ("I,-3,a, b,,c ", "0"),
    ("C,-3", "a, b,,c "),
    ("I,2,", "0"),
    ("C,2", ""),
    ("I,2,two", "-1"),
    ("A,127.0.0.1:1", "0"),
    ("C,+1", "one"),
    ("C, -3 ", "a, b,,c "),
    (f"I,{KEY_MIN},ü 漢 \0", "0"),
    (f"C,{KEY_MIN}", "ü 漢 \0"),
    (f"I,{KEY_MAX},  blanks", "0"),
]


def done(what, ran, out, code=0, lines=()):
    """A program ended so: printed `out`, and on stderr one line for each of `lines`, with that in it."""
    check(f"{what}: stdout", ran.out, out)
    said = ran.err.splitlines()
    check_that(f"{what}: {len(lines)} lines on stderr", len(said) == len(lines), ran.err)
    for line, part in zip(said, lines, strict=True):
        check_that(f"{what}: its line on stderr has {part!r}", part in line, line)
    check(f"{what}: exit code", ran.code, code)


@sentence("A pair-client prints one line for each command: from a pipe, from a file, with LF, CRLF, no newline at the end")
def pair_commands():
    lines = [line for line, _ in COMMANDS]
    out = "".join(f"{answer}\n" for _, answer in COMMANDS).encode()
    for end in ("\n", "\r\n"):
        for last in (end, ""):
            for as_file in (False, True):
                with pair_server() as pair:
                    feed = (end.join(lines) + last).encode()
                    ran = run("pair-client", pair.address, feed=feed, as_file=as_file)
                    done(f"ends {end!r}, the last {last!r}, {'file' if as_file else 'pipe'}", ran, out)
                    check("Consult of the last", pair.calls.Consult(key=KEY_MAX).value, "  blanks")


@sentence("A central-client prints host:port:value of the last that registered a key, and nothing at all for none")
def central_commands():
    with pair_server("--activate") as one, pair_server("--activate") as two, central_server() as central:
        fill(one, {1: "one", 2: "two"})
        fill(two, {2: "another two", -3: "a,b:c"})
        for pair, count in ((one, 2), (two, 2)):
            ran = run("pair-client", pair.address, feed=f"A,{central.address}\n".encode())
            done("A", ran, f"{count}\n".encode())
        ran = run("central-client", central.address, feed=b"C,1\r\nC,404\nX\nI,9,x\nC,2\nC, -3\nC,+1")
        lines = ran.out.decode().split("\n")
        check("lines", [line.split(":", 2)[2:] for line in lines], [["one"], ["another two"], ["a,b:c"], ["one"], []])
        for line, pair in zip(lines[:-1], (one, two, two, one), strict=True):
            check_that(f"owner in {line!r}", registered_by(pair, ":".join(line.split(":")[:2])), line)
        check("exit code and stderr", (ran.code, ran.err), (0, ""))
        ran = run("central-client", central.address, feed=b"C,404\nC,405\n", as_file=True)
        done("unmapped keys only", ran, b"")


@sentence("A central-client asks owners and a central server that are none of Capstan's; a pair-client activates them")
def foreign_servers():
    with foreign(PAIRS, Consult=lambda request, _: {"value": f"value {request.key}"}, Activate=lambda *_: {"result": 70}) as pair:
        with foreign(CENTRAL, Map=lambda request, _: {"host": pair if request.key else ""}) as central:
            ran = run("central-client", central, feed=b"C,5\nC,0\nC,-5\n")
            done("central-client", ran, f"{pair}:value 5\n{pair}:value -5\n".encode())
        done("pair-client", run("pair-client", pair, feed=b"A,x:1\nC,7\n"), b"70\nvalue 7\n")


@sentence("An answer is there before the next command is read; the end of the input ends the client, not the server")
def answer_before_next():
    with pair_server() as pair, lab.Talk("pair-client", pair.address) as client:
        for line, answer in ((b"I,1,one\n", "0"), (b"C,2\n", ""), (b"?\nC,1\n", "one")):
            client.type(line)
            check(f"answer to {line}", client.line(), answer)
        client.end_of_input()
        check("exit code", client.ended(), 0)
        done("the next client", run("pair-client", pair.address, feed=b"C,1\n"), b"one\n")


@sentence("A client finds its server by an address of IPv4, one of IPv6, and by name")
def ways_to_a_server():
    hosts = ["127.0.0.1", "localhost", "127.0.0.2"] + (["[::1]"] if lab.has_ipv6() else [])
    with pair_server("--activate") as pair, central_server() as central:
        for key, host in enumerate(hosts):
            feed = f"I,{key},{host}\nA,{host}:{central.port}\nC,{key}\n".encode()
            done(f"pair-client at {host}", run("pair-client", f"{host}:{pair.port}", feed=feed), f"0\n{key + 1}\n{host}\n".encode())
            ran = run("central-client", f"{host}:{central.port}", feed=f"C,{key}\n".encode())
            check_that(f"central-client at {host}", ran.out.endswith(f":{pair.port}:{host}\n".encode()) and not ran.code, ran)


@sentence("An empty input, or one of unknown lines, does nothing: not even the server need be there")
def nothing_to_do():
    address = f"127.0.0.1:{lab.free_port()}"
    feeds = {"empty": b"", "a newline": b"\n", "unknown lines": b"\n".join(UNKNOWN), "with CR": b"\r\n".join(UNKNOWN)}
    for program in ("pair-client", "central-client"):
        for name, feed in feeds.items():
            for as_file in (False, True):
                done(f"{program}, {name}", run(program, address, feed=feed, as_file=as_file), b"")


@sentence("Unknown lines and bytes that are no text are ignored, and the lines between them are done")
def binary():
    seed = secrets.randbits(32)
    drawn = random.Random(seed)
    lines, out = [], b""
    for number in range(60):
        noise = drawn.randbytes(drawn.randrange(300)).replace(b"\n", b"?")
        is_command = noise[:2] in (b"I,", b"C,", b"A,", b"T", b"T\r")
        lines += [b"?" + noise if is_command else noise, drawn.choice(UNKNOWN), b"I,%d,value %d" % (number, number)]
        out += b"0\n"
    feed = b"\n".join([*lines, b"x" * (20 << 20), b"C,59"])
    with pair_server() as pair, central_server() as central:
        ran = run("pair-client", pair.address, feed=feed, as_file=True)
        done(f"seed {seed}", ran, out + b"value 59\n")
        done("central-client", run("central-client", central.address, feed=b"\xff\nI,1,x\n\0\nC,1\n"), b"")


@sentence("T ends the client and the server, what follows it is not done, and the port is free at once")
def terminate():
    with pair_server("--activate") as pair, central_server() as central:
        feed = f"I,1,one\nI,2,two\nA,{central.address}\nT\nI,3,three\n".encode()
        done("pair-client", run("pair-client", pair.address, feed=feed), b"0\n0\n2\n0\n")
        check("exit code of the pair server", pair.ended(), 0)
        lab.bind(pair.port)
        done("central-client", run("central-client", central.address, feed=b"T\r\nC,1\n", as_file=True), b"2\n")
        check("exit code of the central server", central.ended(), 0)
        lab.bind(central.port)


@sentence("T ends a server that others are connected to, and their next command is one that finds no server")
def terminate_under_others():
    with pair_server() as pair, lab.Talk("pair-client", pair.address) as other:
        other.type(b"I,1,one\n")
        check("answer to the other", other.line(), "0")
        done("T", run("pair-client", pair.address, feed=b"T\n"), b"0\n")
        check("exit code of the server", pair.ended(), 0)
        other.type(b"C,1\nC,1\n")
        check("what the other prints", other.line(), "")
        check("exit code of the other", other.ended(), 3)
        said = other.process.stderr.read().decode().splitlines()
        check_that("one line on stderr, which names line 2", len(said) == 1 and "line 2" in said[0], said)


@sentence("A mapped server that is gone is one line on stderr; the next command is answered, and the exit code is 3")
def mapped_gone():
    with pair_server("--activate") as gone, pair_server("--activate") as pair, central_server() as central:
        fill(gone, {1: "one"})
        fill(pair, {2: "two"})
        for server in (gone, pair):
            server.calls.Activate(host=central.address)
        gone.kill()
        with lab.Talk("central-client", central.address) as client:
            for _ in range(2):
                client.type(b"C,1\nC,2\n")
                line = client.line()
                check_that("the answer to the next command", line.endswith(f":{pair.port}:two"), line)
            client.end_of_input()
            check("exit code", client.ended(), 3)
            said = client.process.stderr.read().decode().splitlines()
            check_that("a line on stderr for each", len(said) == 2 and all(f":{gone.port}" in line for line in said), said)
        # Who registers the key then is asked instead.
        fill(pair, {1: "uno"})
        pair.calls.Activate(host=central.address)
        ran = run("central-client", central.address, feed=b"C,1\n")
        check_that("the new owner's answer", ran.out.endswith(f":{pair.port}:uno\n".encode()), ran)


@sentence("Without its own server a client says from which line on nothing was done, and ends with 3")
def server_not_there():
    address = f"127.0.0.1:{lab.free_port()}"
    runs = [
        ("pair-client", "I,1,x\nC,1"),
        ("pair-client", "A,x:1"),
        ("pair-client", "T"),
        ("central-client", "C,1\nC,2"),
        ("central-client", "T"),
    ]
    for program, lines in runs:
        ran = run(program, address, feed=f"?\n\n{lines}\n".encode())
        done(program, ran, b"", 3, ["line 3"])
        check_that(f"{program} names the address", address in ran.err, ran.err)


@sentence("A central server that is not there at A is one line on stderr, exit code 3, and the next command is answered")
def central_not_there():
    nobody = f"127.0.0.1:{lab.free_port()}"
    with pair_server("--activate") as pair:
        ran = run("pair-client", pair.address, feed=f"I,1,one\nA,{nobody}\nC,1\n".encode())
        done("A", ran, b"0\none\n", 3, [nobody])


@sentence("A key beyond 32 bits, a text that is not UTF-8, a text above 8 MiB: a line that says which, exit code 2, go on")
def lines_that_are_wrong():
    wrong = {
        "too large a key": b"I,2147483648,x",
        "too small a key": b"C,-2147483649",
        "a huge key": b"C,99999999999999999999999999",
        "no UTF-8": b"I,7,\xff\xfe",
        "too large a text": b"I,7," + b"x" * (VALUE_BYTES_MAX + 1),
        "a much larger text": b"I,7," + b"x" * (3 * VALUE_BYTES_MAX),
    }
    with pair_server() as pair, central_server() as central:
        for name, line in wrong.items():
            ran = run("pair-client", pair.address, feed=b"C,7\n" + line + b"\nC,7\n")
            done(name, ran, b"\n\n", 2, ["line 2"])
        ran = run("central-client", central.address, feed=b"C,1\nC,4294967296\nC,1\n")
        done("central-client", ran, b"", 2, ["line 2"])
        largest = b"I,8," + b"x" * VALUE_BYTES_MAX + b"\nC,8"
        ran = run("pair-client", pair.address, feed=largest)
        check_that("a text of 8 MiB", ran == (0, b"0\n" + b"x" * VALUE_BYTES_MAX + b"\n", ""), ran)


@sentence("A client whose reader has gone ends without a word of panic")
def reader_gone():
    with pair_server() as pair:
        fill(pair, {1: "x" * 1000})
        command = [lab.CAPSTAN, "classic", "pair-client", pair.address]
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        with subprocess.Popen(command, **pipes) as client:
            client.stdout.close()
            client.stdout = None
            try:
                _, said = client.communicate(b"C,1\n" * 500, lab.PATIENCE_SECONDS)
            finally:
                client.kill()
        check_that("stderr", b"panic" not in said, said)
