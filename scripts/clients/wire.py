"""Speaks, from either side, a gRPC wire that is written down as a table: without a .proto, without generated code.

A table has one line for each method: its path, the fields of its request, those of its reply. What follows the closing
brace of a reply is a remark; `stream` before a brace means any number of such messages. A line without a path names a message, which a field
below it may have.

>>> wire = Wire('''
... /shop.Till/Sell | {string what=1; repeated int32 prices=2; optional int32 paid=3} | {int32 change=1}
... /shop.Till/Close | {} | {int32 sum=1} (0 = nothing sold)
... ''')
>>> sell = wire.services["shop.Till"]["Sell"]
>>> request = sell.request(what="tea", prices=[3, 4])
>>> request.SerializeToString()
b'\\n\\x03tea\\x12\\x02\\x03\\x04'
>>> request.HasField("paid")
False

A service answers by functions, from a request and its context to the fields of the reply. A client has the methods of the service, with the
fields of the request as arguments.

>>> from concurrent.futures import ThreadPoolExecutor
>>> server = grpc.server(ThreadPoolExecutor(1))
>>> server.add_generic_rpc_handlers([wire.handler("shop.Till", Close=lambda request, context: {"sum": 7})])
>>> port = server.add_insecure_port("127.0.0.1:0")
>>> server.start()
>>> with channel(f"127.0.0.1:{port}") as there:
...     till = wire.client("shop.Till", there)
...     till.Close().sum, till.Close.future().result().sum
(7, 7)
>>> server.stop(None).wait()
True

Of a stream of requests a call takes a list of their fields; of a stream of replies it gives each as it comes.

>>> wire = Wire('''
... Thing | {string what=1; optional int64 price=2}
... /shop.Till/SellAll | stream {Thing thing=1; string to=2} | stream {Thing thing=1}
... ''')
>>> sell_all = wire.services["shop.Till"]["SellAll"]
>>> sell_all.streams, sell_all.request(thing={"what": "tea", "price": 3}, to="me").thing.price
((True, True), 3)
"""

import re

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

FIELD = re.compile(r"(?:(repeated|optional) )?(\w+) (\w+)=(\d+)")
MESSAGE = re.compile(r"\{(.*)\}")
# The largest message that a node of Capstan takes or sends.
MESSAGE_BYTES_MAX = (9 << 20) + (64 << 10)
# A call that takes longer has failed.
CALL_SECONDS_MAX = 60


class Wire:
    """The services of a table: `services[service][method]` is a `Method`."""

    def __init__(self, table):
        self.services = {}
        pool = descriptor_pool.DescriptorPool()
        named = {}
        for line in filter(None, map(str.strip, table.splitlines())):
            path, *cells = map(str.strip, line.split("|"))
            if not path.startswith("/"):
                (named[path],) = cells
                continue
            _, service, method = path.split("/")
            package, _, prefix = service.rpartition(".")
            # One file for each method, so its messages need names that are unique in their package.
            file = descriptor_pb2.FileDescriptorProto(name=path, package=package, syntax="proto3")
            for side, cell in zip(("Request", "Reply"), cells, strict=True):
                name = prefix + method + side
                describe(file.message_type.add(name=name), cell, named, f"{package}.{name}" if package else name)
            types = pool.AddSerializedFile(file.SerializeToString()).message_types_by_name.values()
            streams = tuple(cell.startswith("stream ") for cell in cells)
            self.services.setdefault(service, {})[method] = Method(path, streams, *map(message_factory.GetMessageClass, types))

    def client(self, service, channel):
        return Client(self.services[service], channel)

    def handler(self, service, **answers):
        """Answers the methods of `service` that `answers` names: what gives the fields of its reply."""
        methods = self.services[service]
        return grpc.method_handlers_generic_handler(service, {name: methods[name].handler(answers[name]) for name in answers})


class Method:
    """A method: its path, which of its sides are streams, and the classes of its two messages."""

    def __init__(self, path, streams, request, reply):
        self.path = path
        self.streams = streams
        self.request = request
        self.reply = reply

    def handler(self, answer):
        return grpc.unary_unary_rpc_method_handler(
            lambda request, context: self.reply(**answer(request, context)),
            request_deserializer=self.request.FromString,
            response_serializer=self.reply.SerializeToString,
        )


class Client:
    """A service at the other end of a channel. Each of its methods is a `Call`."""

    def __init__(self, methods, channel):
        for name, method in methods.items():
            setattr(self, name, Call(method, channel))


class Call:
    """Calls a method with the fields of its request, or with a list of the fields of each: now, or as a future."""

    def __init__(self, method, channel):
        self.request = method.request
        kind = "_".join("stream" if is_stream else "unary" for is_stream in method.streams)
        self.call = getattr(channel, kind)(method.path, method.request.SerializeToString, method.reply.FromString)

    def __call__(self, all_fields=None, **fields):
        request = self.request(**fields) if all_fields is None else (self.request(**each) for each in all_fields)
        return self.call(request, timeout=CALL_SECONDS_MAX)

    def future(self, **fields):
        return self.call.future(self.request(**fields), timeout=CALL_SECONDS_MAX)


def describe(message, cell, named, full_name):
    """Writes the fields of a table's cell into a message's descriptor. Messages that have a name are a part of it."""
    kinds = descriptor_pb2.FieldDescriptorProto
    for label, kind, name, number in FIELD.findall(MESSAGE.search(cell).group(1)):
        field = message.field.add(name=name, number=int(number))
        if kind in named:
            field.type, field.type_name = kinds.TYPE_MESSAGE, f".{full_name}.{kind}"
            if kind not in [part.name for part in message.nested_type]:
                describe(message.nested_type.add(name=kind), named[kind], named, f"{full_name}.{kind}")
        else:
            field.type = kinds.Type.Value(f"TYPE_{kind.upper()}")
        field.label = kinds.LABEL_REPEATED if label == "repeated" else kinds.LABEL_OPTIONAL
        if label == "optional":
            # What tells "absent" from "empty" in proto3: a oneof with one member.
            field.proto3_optional = True
            field.oneof_index = len(message.oneof_decl)
            message.oneof_decl.add(name=f"_{name}")


def channel(address, **options):
    """A connection of its own to HOST:PORT, made when it is used. Close it."""
    options = {
        "grpc.max_receive_message_length": MESSAGE_BYTES_MAX,
        "grpc.max_send_message_length": -1,
        "grpc.use_local_subchannel_pool": 1,
        "grpc.enable_http_proxy": 0,
        **options,
    }
    return grpc.insecure_channel(address, options=list(options.items()))
