"""The programs at a terminal."""

import lab
from lab import check, check_that, sentence
from pairs.servers import central_server, fill, pair_server


@sentence("At a terminal a pair-client answers each line before the next is typed; Ctrl-D ends it and not the server")
def pair_client():
    with pair_server() as pair, lab.Terminal("pair-client", pair.address) as client:
        for line, answer in (("I,1,one", "0"), ("I,1,uno", "-1"), ("C,2", ""), ("what", None), ("C,1", "one"), ("A,x:1", "0")):
            client.type(line.encode() + b"\n")
            if answer is not None:
                check(f"answer to {line}", client.line(), answer)
        client.end_of_input()
        check("exit code after Ctrl-D", client.ended(), 0)
        check("what it printed beside the answers", client.line(), "")
        check("stderr", client.process.stderr.read(), b"")
        check("the server after that", pair.calls.Consult(key=1).value, "one")


@sentence("At a terminal T answers, and ends the client and the server")
def both_end():
    with pair_server("--activate") as pair, central_server() as central:
        fill(pair, {4: "four"})
        pair.calls.Activate(host=central.address)
        with lab.Terminal("central-client", central.address) as client:
            client.type(b"C,3\nC,4\n")
            line = client.line()
            check_that("answer to the mapped key", line.endswith(f":{pair.port}:four"), line)
            client.type(b"T\n")
            check("answer to T", client.line(), "1")
            check("exit code of the client", client.ended(), 0)
        check("exit code of the server", central.ended(), 0)
        with lab.Terminal("pair-client", pair.address) as client:
            client.type(b"T\n")
            check("answer to T", client.line(), "0")
            check("exit code of the client", client.ended(), 0)
        check("exit code of the server", pair.ended(), 0)


@sentence("Ctrl-C ends a server at a terminal, whose port is free at once, and it has printed nothing")
def interrupt():
    for program in ("pair-server", "central-server"):
        port = lab.free_port()
        with lab.Terminal(program, str(port)) as server:
            client = (program.replace("server", "client"), f"127.0.0.1:{port}")
            lab.until(f"{program} answers", lambda client=client: lab.run(*client, feed=b"C,1\n").code == 0)
            server.interrupt()
            server.ended()
            lab.bind(port)
            check(f"what {program} printed", server.line(), "")
