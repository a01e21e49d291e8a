"""Asks as often as it can, with a new connection each time, and says what went wrong.

    python3 load.py SECONDS HOST:PORT [HOST:PORT ...]
"""

import collections
import socket
import sys
import time


BEGAN = time.monotonic()


def ask(host, port):
    began = time.monotonic() - BEGAN
    stage = "connecting"
    try:
        with socket.create_connection((host, port), timeout=3) as connection:
            stage = f"talking from {connection.getsockname()[1]}"
            talk(connection)
    except OSError as error:
        raise OSError(f"{error}, {stage} at {began:.3f} s")


def talk(connection):
    connection.sendall(b"GET /hostname HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    answer = b""
    while part := connection.recv(4096):
        answer += part
    if not answer.startswith(b"HTTP/1.1 200"):
        raise OSError(f"an answer of {len(answer)} bytes")


def main(seconds, *targets):
    targets = [(host, int(port)) for host, port in (target.split(":") for target in targets)]
    end = time.monotonic() + float(seconds)
    good, bad = 0, collections.Counter()
    while time.monotonic() < end:
        for target in targets:
            try:
                ask(*target)
                good += 1
            except OSError as error:
                bad[f"{target[0]}:{target[1]}: {error}"] += 1
    print(f"{good} good, {sum(bad.values())} bad {dict(bad)}")


main(*sys.argv[1:])
