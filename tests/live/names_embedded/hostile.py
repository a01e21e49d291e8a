"""Questions that nobody should ask: `hostile.py WHAT SERVER`. Prints what came of them."""

import random
import socket
import struct
import sys
import time

GOOD = "web.default.svc.cluster.local"
ADDRESS = bytes([10, 96, 1, 1])


def header(flags=0x0100, counts=(1, 0, 0, 0), id=0x1234):
    return struct.pack("!HHHHHH", id, flags, *counts)


def question(name, kind=1, cls=1):
    labels = [label.encode() for label in name.split(".") if label]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0" + struct.pack("!HH", kind, cls)


def udp(server, message, patience=2.0):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(patience)
        client.connect((server, 53))
        client.send(message)
        return client.recv(65535)


def exactly(client, count):
    data = b""
    while len(data) < count:
        more = client.recv(count - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def tcp(client, message):
    client.sendall(struct.pack("!H", len(message)) + message)
    return exactly(client, struct.unpack("!H", exactly(client, 2))[0])


def code(answer):
    assert answer[:2] == b"\x12\x34", answer
    return answer[3] & 15


def is_good(answer):
    return code(answer) == 0 and answer.endswith(ADDRESS)


def malformed(server):
    a, long = "a" * 63, "a" * 61
    cases = {
        "good": header() + question(GOOD),
        "none": header(counts=(0, 0, 0, 0)),
        "two": header(counts=(2, 0, 0, 0)) + question(GOOD) * 2,
        "chaos": header() + question("version.bind", 16, 3),
        "axfr": header() + question("cluster.local", 252),
        "ixfr": header() + question("cluster.local", 251),
        "update": header(flags=0x2900) + question(GOOD),
        "loop": header() + b"\xc0\x0c" + struct.pack("!HH", 1, 1),
        "loops": header() + b"\xc0\x0e\xc0\x0c" + struct.pack("!HH", 1, 1),
        "ahead": header() + b"\xc0\xff" + struct.pack("!HH", 1, 1),
        "255": header() + question(f"{a}.{a}.{a}.{long}"),
        "256": header() + question(f"{a}.{a}.{a}.{long}a"),
        "half": header() + question(GOOD)[:-3],
        "counts": header(counts=(1, 65535, 65535, 65535)) + question(GOOD),
        "huge": header() + question(GOOD) + bytes(60000),
    }
    for name, message in cases.items():
        print(name, code(udp(server, message)))
    for silent in [b"", b"\x12\x34", header(flags=0x8180) + question(GOOD)]:
        try:
            udp(server, silent, patience=0.3)
            print("an answer to what is no question")
        except TimeoutError:
            pass
    garbage = random.Random(53)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        for _ in range(5000):
            client.sendto(garbage.randbytes(garbage.randrange(1, 600)), (server, 53))
    # The last of the garbage may still be in its way.
    print("then", [is_good(udp(server, cases["good"], patience=10)) for _ in range(3)])


def connections(server):
    good = header() + question(GOOD)
    client = socket.create_connection((server, 53), 5)
    print("several", [is_good(tcp(client, good)) for _ in range(5)])
    client.sendall(struct.pack("!H", len(good)) + good[:5])
    client.sendall(good[5:] + struct.pack("!H", len(good)) + good)
    for _ in range(2):
        print("in pieces", is_good(exactly(client, struct.unpack("!H", exactly(client, 2))[0])))
    # Slow ones, more than the server keeps: some say nothing, some announce what they do not send.
    slow = []
    for nth in range(600):
        one = socket.create_connection((server, 53), 5)
        one.sendall([b"", b"\xff", b"\xff\xff\x12\x34"][nth % 3])
        slow.append(one)
        if nth % 100 == 0:
            print("meanwhile", is_good(tcp(socket.create_connection((server, 53), 5), good)))
    print("at last", is_good(tcp(socket.create_connection((server, 53), 5), good)), is_good(udp(server, good)))
    with socket.create_connection((server, 53), 5) as client:
        print("oversized", code(tcp(client, header(counts=(1, 0, 0, 1)) + question(GOOD) + b"\xff" * 65000)))
        print("and then", is_good(tcp(client, good)))
    began = time.monotonic()
    slow[-1].settimeout(20)
    try:
        ended = slow[-1].recv(1) == b""
    except ConnectionError:
        ended = True
    print("closed", ended and time.monotonic() - began < 15)


def flood(server):
    """Ten thousand random names a second, of the cluster and of the internet, for five seconds."""
    tails = [question("default.svc.cluster.local"), question("example.com")]
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.setblocking(False)
    began, sent = time.monotonic(), 0
    print("begins", flush=True)
    while (now := time.monotonic() - began) < 5:
        while sent < now * 10000:
            label = b"\x10%016x" % random.getrandbits(64)
            try:
                client.sendto(header(id=sent & 0xFFFF) + label + tails[sent % 2], (server, 53))
            except BlockingIOError:
                pass
            sent += 1
        try:
            while client.recv(4096):
                pass
        except BlockingIOError:
            pass
        time.sleep(0.0005)
    print("flooded", sent >= 40000)


def meanwhile(server):
    """Good names as a resolver asks for them, which tries again: how many are answered."""
    answered = 0
    for _ in range(100):
        for _ in range(3):
            try:
                answered += is_good(udp(server, header() + question(GOOD), patience=2))
                break
            except TimeoutError:
                pass
        time.sleep(0.03)
    print("answered", answered)


globals()[sys.argv[1]](sys.argv[2])
