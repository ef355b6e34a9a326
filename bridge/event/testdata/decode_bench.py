"""Time Salt's own decoding of a stream of events.

    go test ./bridge/event -run TestStream -args -stream FILE
    <venv>/bin/python decode_bench.py FILE [SECONDS]

<venv> holds the Salt to measure. Prints nanoseconds an event, over as many
passes as fit in SECONDS (3), the fastest one: unpack the frame, as the
subscriber of the bus does, then tag and data, as SaltEvent.get_event does.
"""

import struct
import sys
import time

import salt.utils.event
import salt.utils.msgpack
import salt.version


def frames(path):
    with open(path, "rb") as file:
        raw = file.read()
    pos = 0
    while pos < len(raw):
        size = struct.unpack_from(">I", raw, pos)[0]
        yield raw[pos + 4 : pos + 4 + size]
        pos += 4 + size


def decode(stream):
    for frame in stream:
        body = salt.utils.msgpack.unpackb(frame, raw=True)[b"body"]
        salt.utils.event.SaltEvent.unpack(body)


def main():
    stream = list(frames(sys.argv[1]))
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 3
    best, end = float("inf"), time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.perf_counter_ns()
        decode(stream)
        best = min(best, time.perf_counter_ns() - began)
    print(f"salt {salt.version.__version__}: {best / len(stream):.0f} ns/event")


if __name__ == "__main__":
    main()
