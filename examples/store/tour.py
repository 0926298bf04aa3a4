"""What a store does while one of its nodes answers late: run by tour.sh against a store that serves.

    python tour.py MASTER SLAVE SLAVE        HOST:PORT of each

The client is made from the table of the wire, as any other would be. Each call is shown with what it answers and how long that took.
"""

import sys
import time
from concurrent.futures import ThreadPoolExecutor

import wire

WIRE = wire.Wire("""
/distributedstore.KeyValueStore/put | {string key=1; string value=2} | {bool success=1}
/distributedstore.KeyValueStore/get | {string key=1} | {string value=1; bool found=2}
/distributedstore.KeyValueStore/slowDown | {int32 seconds=1} | {bool success=1}
/distributedstore.KeyValueStore/restore | {} | {bool success=1}
""")


def show(what, call):
    """Calls, prints what came of it, and returns that and how long it took."""
    begin = time.monotonic()
    answer = call()
    seconds = time.monotonic() - begin
    fields = ", ".join(f"{field.name}={getattr(answer, field.name)!r}" for field in answer.DESCRIPTOR.fields)
    print(f"{what:<44} {fields:<34} {seconds:5.2f} s")
    return answer, seconds


def expect(holds, text):
    if not holds:
        sys.exit(f"\nNOT AS EXPECTED: {text}")


def main(addresses):
    master, first, second = (WIRE.client("distributedstore.KeyValueStore", wire.channel(address)) for address in addresses)

    print("A put at the master is on every node when it is answered:")
    expect(show("put('city', 'Lisboa') at the master", lambda: master.put(key="city", value="Lisboa"))[0].success, "it is stored")
    for name, node in (("slave 1", first), ("slave 2", second)):
        expect(show(f"get('city') at {name}", lambda: node.get(key="city"))[0].value == "Lisboa", "it is there")
    show("get('') at the master, which is a key too", lambda: master.get(key=""))

    print("\nSlave 1 answers 2 s late from now on, to clients and to the other nodes:")
    expect(show("slowDown(2) at slave 1", lambda: first.slowDown(seconds=2))[0].success, "it is slow")
    expect(show("get('city') at slave 1", lambda: first.get(key="city"))[1] >= 2, "it answers late")
    expect(show("get('city') at slave 2", lambda: second.get(key="city"))[1] < 2, "the others answer at once")
    expect(show("put('city', 'Porto') at the master", lambda: master.put(key="city", value="Porto"))[0].success, "it is stored")

    print("\nTen clients put one key, five times each, while it is slow:")
    begin = time.monotonic()
    with ThreadPoolExecutor(10) as clients:
        puts = [clients.submit(master.put, key="city", value=str(number)) for number in range(50)]
        stored = sum(put.result().success for put in puts)
    print(f"{stored} of 50 stored in {time.monotonic() - begin:.2f} s")
    expect(stored == 50, "all are stored")

    print("\nAnd at once again:")
    expect(show("restore() at slave 1", lambda: first.restore())[0].success, "it is restored")
    expect(show("get('city') at slave 1", lambda: first.get(key="city"))[1] < 2, "it answers at once")


if __name__ == "__main__":
    main(sys.argv[1:])
