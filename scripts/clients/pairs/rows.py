"""Each row of the table, by grpcio."""

from google.protobuf import descriptor_pb2, descriptor_pool
from grpc import RpcError, StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

import lab
import wire
from lab import check, check_that, fail, sentence
from pairs.servers import CENTRAL, KEY_MAX, KEY_MIN, PAIRS, WIRE, central_server, fill, foreign, pair_server, refused, registered_by

TEXTS = ["text", "", "a,b,,c", "two\nlines\r\n", "\0", "ü 漢字 🐇", " blanks ", "x" * 70_000]


@sentence("Insert answers 0, or -1 and the value stays; Consult answers the value, or an empty text; any key, any text")
def insert_and_consult():
    with pair_server() as pair:
        keys = [0, 1, -1, 300, -300, KEY_MIN, KEY_MIN + 1, KEY_MAX - 1, KEY_MAX]
        for index, key in enumerate(keys):
            text = TEXTS[index % len(TEXTS)]
            check(f"Consult of {key}, which is none", pair.calls.Consult(key=key).value, "")
            check(f"Insert of {key}", pair.calls.Insert(key=key, value=text).result, 0)
            check(f"Consult of {key}", pair.calls.Consult(key=key).value, text)
        for index, key in enumerate(keys):
            check(f"Insert of {key} again", pair.calls.Insert(key=key, value="other").result, -1)
            check(f"Consult of {key} at the end", pair.calls.Consult(key=key).value, TEXTS[index % len(TEXTS)])


@sentence("Servers listen on all interfaces: 127.0.0.1, another address of the same one, and [::1]")
def interfaces():
    hosts = ["127.0.0.1", "127.0.0.2"] + (["[::1]"] if lab.has_ipv6() else [])
    if len(hosts) == 2:
        print("pairs: this machine has no ::1, so nothing is asked there")
    with pair_server() as pair, central_server() as central:
        for number, host in enumerate(hosts):
            for server, service in ((pair, PAIRS), (central, CENTRAL)):
                with wire.channel(f"{host}:{server.port}") as channel:
                    calls = WIRE.client(service, channel)
                    if server is pair:
                        check(f"Insert through {host}", calls.Insert(key=number, value=host).result, 0)
                        check(f"Consult through {host}", calls.Consult(key=number).value, host)
                    else:
                        check(f"Register through {host}", calls.Register(host=f"{host}:5", keys=[number]).result, 1)
                        check(f"Map through {host}", calls.Map(key=number).host, f"{host}:5")


@sentence("Without --activate, Activate answers 0 and says nothing to anyone")
def activate_refused():
    heard = []
    with foreign(CENTRAL, Register=lambda request, _: heard.append(request) or {"result": 1}) as central, pair_server() as pair:
        fill(pair, {1: "one"})
        for host in (central, "", "nobody"):
            check(f"Activate of {host!r}", pair.calls.Activate(host=host).result, 0)
        check("what the central server heard", heard, [])


@sentence("With --activate, each key is registered once, in numeric order, as the server's own name and port")
def activate_told():
    heard = []

    def register(request, _):
        heard.append((request.host, list(request.keys)))
        return {"result": len(request.keys)}

    with foreign(CENTRAL, Register=register) as central, pair_server("--activate") as pair:
        check("Activate of a server without keys", pair.calls.Activate(host=central).result, 0)
        heard.clear()
        keys = [KEY_MAX, 0, -1, 1, KEY_MIN, 255, 256, -256, -257]
        fill(pair, {key: "" for key in keys})
        check("Activate", pair.calls.Activate(host=central).result, len(keys))
        check("keys registered", [key for _, keys in heard for key in keys], sorted(keys))
        for host, _ in heard:
            check_that("the server registers as fully-qualified-hostname:port", registered_by(pair, host), host)
        check("Activate again", pair.calls.Activate(host=central).result, len(keys))


@sentence("Activate answers how many keys the central server took, whatever that is")
def activate_counts():
    def register(request, _):
        return {"result": len(request.keys) - 1}

    with foreign(CENTRAL, Register=register) as central, pair_server("--activate") as pair:
        fill(pair, dict.fromkeys(range(5), "x"))
        check("Activate where one key is not taken", pair.calls.Activate(host=central).result, 4)


@sentence("Register overwrites a key's owner, whatever its value; Map answers the last one, an empty text for none")
def register_and_map():
    with pair_server("--activate") as one, pair_server("--activate") as two, central_server() as central:
        fill(one, {-5: "five", 6: "six"})
        fill(two, {6: "another six", 7: "seven"})
        check("Activate of the first", one.calls.Activate(host=central.address).result, 2)
        check("Activate of the second", two.calls.Activate(host=central.address).result, 2)
        for key, owner in ((-5, one), (6, two), (7, two)):
            host = central.calls.Map(key=key).host
            check_that(f"Map of {key} is the last that registered it", registered_by(owner, host), host)
        check("Map of a key that nobody registered", central.calls.Map(key=5).host, "")
        check("Activate of the first again", one.calls.Activate(host=central.address).result, 2)
        check_that("Map of 6 then", registered_by(one, central.calls.Map(key=6).host), central.calls.Map(key=6).host)


@sentence("Register takes any keys of any host from anyone, also as older writers of protobuf send them")
def register_foreign():
    with central_server() as central:
        calls = central.calls
        check("Register of no key", calls.Register(host="a:1", keys=[]).result, 0)
        keys = [0, -1, KEY_MIN, KEY_MAX]
        for host in ("a:1", "nobody.invalid:65535", "[2001:db8::1]:7", "192.0.2.1:80"):
            check(f"Register as {host}", calls.Register(host=host, keys=keys).result, len(keys))
            check(f"owners after {host}", {calls.Map(key=key).host for key in keys}, {host})
        # Field 1 = "b:2"; field 2 = 7, then field 2 = 8, each with a tag of its own instead of packed.
        unpacked = b"\x0a\x03b:2\x10\x07\x10\x08"
        register = WIRE.services[CENTRAL]["Register"]
        answer = central.channel.unary_unary(register.path, None, register.reply.FromString)(unpacked)
        check("Register with keys that are not packed", answer.result, 2)
        check("owner of the last of them", calls.Map(key=8).host, "b:2")


@sentence("Terminate answers 0 or the number of keys in the directory; then the process ends and its port is free at once")
def terminate():
    with pair_server() as pair, central_server() as central, central_server() as empty:
        fill(pair, {1: "one", 2: "two"})
        central.calls.Register(host="a:1", keys=[1, 2, 3])
        central.calls.Register(host="b:2", keys=[3, 4])
        for server, wanted in ((pair, 0), (central, 4), (empty, 0)):
            name = server.arguments[0]
            check(f"Terminate of the {name}", server.calls.Terminate().result, wanted)
            check(f"exit code of the {name}", server.ended(), 0)
            lab.bind(server.port)
            server.start()
        check("Consult after the restart", pair.calls.Consult(key=1).value, "")


@sentence("A central server that is not there at Activate is UNAVAILABLE, and nothing is lost")
def activate_nobody():
    with pair_server("--activate") as pair, central_server() as central:
        fill(pair, {1: "one", 2: "two"})
        nobody = f"127.0.0.1:{lab.free_port()}"
        error = refused("Activate", lambda: pair.calls.Activate(host=nobody), StatusCode.UNAVAILABLE)
        check_that("the text names the address", nobody in error.details(), error.details())
        for host in ("", "nobody", "127.0.0.1:", "127.0.0.1:port"):
            refused(f"Activate of {host!r}", lambda host=host: pair.calls.Activate(host=host))
        # A pair server is no central server: it has no Register.
        refused("Activate at a pair server", lambda: pair.calls.Activate(host=pair.address))
        check("Consult after that", pair.calls.Consult(key=1).value, "one")
        check("Activate where somebody is", pair.calls.Activate(host=central.address).result, 2)


@sentence("Health and reflection answer, and reflection describes the rows as the table does")
def health_and_reflection():
    for start, service in ((pair_server, PAIRS), (central_server, CENTRAL)):
        with start() as server:
            health = health_pb2_grpc.HealthStub(server.channel)
            for name in ("", service):
                answer = health.Check(health_pb2.HealthCheckRequest(service=name))
                check(f"health of {name!r}", answer.status, health_pb2.HealthCheckResponse.SERVING)
            database = ProtoReflectionDescriptorDatabase(server.channel)
            check_that(f"reflection lists {service}", service in database.get_services(), database.get_services())
            described = descriptor_pool.DescriptorPool(database).FindServiceByName(service)
            for name, method in WIRE.services[service].items():
                found = described.methods_by_name[name]
                check(f"request of {name}", fields(found.input_type), fields(method.request.DESCRIPTOR))
                check(f"reply of {name}", fields(found.output_type), fields(method.reply.DESCRIPTOR))


def fields(message):
    """What of a message is on the wire, by name."""
    proto = descriptor_pb2.DescriptorProto()
    message.CopyToProto(proto)
    return sorted((field.name, field.number, field.type, field.label) for field in proto.field)


@sentence("What is no request gets an error, and the others are served")
def no_request():
    with pair_server() as pair, central_server() as central:
        for server, service, method in ((pair, PAIRS, "Insert"), (central, CENTRAL, "Register")):
            # A text of 100 bytes of which one is there, a text that is not UTF-8, no protobuf at all.
            for body in (b"\x12\x64x", b"\x12\x01\xff\x0a\x01\xff", b"\xff\xff\xff"):
                call = server.channel.unary_unary(f"/{service}/{method}", None, None)
                refused(f"{method} with {body}", lambda call=call, body=body: call(body))
            other = server.channel.unary_unary(f"/{service}/Other", None, None)
            try:
                fail(f"a method that is none is answered: {other(b'')}")
            except RpcError as error:
                check("status of a method that is none", error.code(), StatusCode.UNIMPLEMENTED)
        check("Insert after that", pair.calls.Insert(key=0, value="zero").result, 0)
        check("Register after that", central.calls.Register(host="a:1", keys=[0]).result, 1)


@sentence("--check moves a key only where the old and the new owner answer the same value, and counts what it took")
def check_compares():
    with pair_server("--activate") as one, pair_server("--activate") as two, central_server("--check") as central:
        fill(one, {1: "same", 2: "differs", 3: "only the first", 5: ""})
        fill(two, {1: "same", 2: "is another", 4: "only the second", 5: ""})
        check("Activate of the first", one.calls.Activate(host=central.address).result, 4)
        check("Activate of the second", two.calls.Activate(host=central.address).result, 3)
        for key, owner in ((1, two), (2, one), (3, one), (4, two), (5, two)):
            host = central.calls.Map(key=key).host
            check_that(f"owner of {key}", registered_by(owner, host), host)
        check("Activate of the first again: its own, and those that are the same", one.calls.Activate(host=central.address).result, 4)
        check("values that were kept", (one.calls.Consult(key=2).value, two.calls.Consult(key=2).value), ("differs", "is another"))
        check("Terminate", central.calls.Terminate().result, 5)


@sentence("--check asks foreign owners too, and keeps the old one when either cannot be asked")
def check_foreign():
    def answer(request, context):
        if request.key == 3:
            context.abort(StatusCode.UNAVAILABLE, "this owner cannot say")
        return {"value": f"value of {request.key}"}

    with foreign(PAIRS, Consult=answer) as old, foreign(PAIRS, Consult=answer) as new, central_server("--check") as central:
        calls = central.calls
        nobody = f"127.0.0.1:{lab.free_port()}"
        check("Register of new keys asks nobody", calls.Register(host=nobody, keys=[9]).result, 1)
        check("Register of the old owner", calls.Register(host=old, keys=[1, 2, 3]).result, 3)
        check("Register of the new owner", calls.Register(host=new, keys=[1, 2]).result, 2)
        check("Register of a key whose owner cannot say", calls.Register(host=new, keys=[3]).result, 0)
        check("Register of an owner that is not there", calls.Register(host=nobody, keys=[1, 2, 3]).result, 0)
        check("Register of a key whose owner is gone", calls.Register(host=old, keys=[9]).result, 0)
        check("Register of an owner's own key", calls.Register(host=nobody, keys=[9]).result, 1)
        owners = {key: calls.Map(key=key).host for key in (1, 2, 3, 9)}
        check("owners", owners, {1: new, 2: new, 3: old, 9: nobody})
