"""The table, and the two servers of it."""

import contextlib
from concurrent.futures import ThreadPoolExecutor

import grpc

import lab
import wire

PAIRS = "keyvalue.KeyValueService"
CENTRAL = "central.CentralStorageService"
WIRE = wire.Wire("""
/keyvalue.KeyValueService/Insert | {int32 key=1; string value=2} | {int32 result=1}
/keyvalue.KeyValueService/Consult | {int32 key=1} | {string value=1}
/keyvalue.KeyValueService/Activate | {string host=1} | {int32 result=1}
/keyvalue.KeyValueService/Terminate | {} | {int32 result=1}
/central.CentralStorageService/Register | {string host=1; repeated int32 keys=2} | {int32 result=1}
/central.CentralStorageService/Map | {int32 key=1} | {string host=1} ("" = unmapped)
/central.CentralStorageService/Terminate | {} | {int32 result=1}
""")
KEY_MIN, KEY_MAX = -(2**31), 2**31 - 1
VALUE_BYTES_MAX = 8 << 20


def pair_server(*options):
    return lab.Server("pair-server", options, WIRE, PAIRS)


def central_server(*options):
    return lab.Server("central-server", options, WIRE, CENTRAL)


@contextlib.contextmanager
def foreign(service, **answers):
    """A server that is none of Capstan's, which answers the methods named so. Gives its HOST:PORT."""
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    server = grpc.server(ThreadPoolExecutor(4), options=options)
    server.add_generic_rpc_handlers([WIRE.handler(service, **answers)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def fill(server, pairs):
    """Inserts pairs that are not there yet, some hundred at once."""
    keys = list(pairs)
    for first in range(0, len(keys), 200):
        answers = [server.calls.Insert.future(key=key, value=pairs[key]) for key in keys[first : first + 200]]
        lab.check("answers to inserts of new keys", {answer.result().result for answer in answers}, {0})


def refused(what, call, *codes):
    """The status of a call that must fail: with one of the codes, if any are named, and with a text for a person."""
    try:
        answer = call()
    except grpc.RpcError as error:
        lab.check_that(f"{what}: status", not codes or error.code() in codes, (error.code(), error.details()))
        lab.check_that(f"{what}: there is a text", bool(error.details()), error.details())
        return error
    lab.fail(f"{what}: expected an error, got {lab.short(answer)}")


def registered_by(server, host):
    """Whether `host` is what a server registers as: the fully qualified name of this machine, and its port."""
    name, _, port = host.rpartition(":")
    return name in lab.own_names() and port == str(server.port)
