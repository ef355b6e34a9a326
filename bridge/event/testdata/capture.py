"""Capture golden frames from a real Salt master.

    <venv>/bin/python capture.py OUT

<venv> holds the Salt to capture from. A master and one minion are started in a
temporary folder, on a loopback address, and taken through a key's and some
jobs' life; what the master's event bus then says is written to
OUT/<version>/, one file an event, as Salt's Python encoded it (without the
length before each that 3006 sends), and stream.bin, the first bytes of the bus
as they came.
"""

import datetime
import os
import pathlib
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

import msgpack
import yaml

import salt.client
import salt.config
import salt.defaults
import salt.utils.event
import salt.version

ID = "web-1"
PATIENCE = 90  # seconds for one event; a busy machine starts a master in 20
STREAM = 4096  # bytes of stream.bin

TOP = """
base:
  '*':
    - {{ pillar.get('mode', 'good') }}
"""
GOOD = """
{% for i in range(60) %}
package-{{ i }}:
  test.configurable_test_state:
    - name: /etc/example/{{ i }}.conf
    - changes: {{ i % 3 == 0 }}
    - result: True
    - comment: File /etc/example/{{ i }}.conf is in the correct state
{% endfor %}
"""
BAD = """
works:
  test.succeed_with_changes: []
broken:
  test.fail_without_changes: []
after:
  test.nop:
    - require:
      - test: broken
"""
SLOW = """
slow:
  module.run:
    - test.sleep:
      - length: 15
"""


class Bus(threading.Thread):
    """Reads the event bus, and keeps each frame as it came."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(path))
        self.raw = b""
        self.frames = []  # (tag, data, frame)
        self.news = threading.Condition()
        self.start()

    def run(self):
        buf = b""
        while chunk := self.sock.recv(1 << 16):
            self.raw = (self.raw + chunk)[:STREAM]
            buf += chunk
            while True:
                size, skip = self.measure(buf)
                if size is None:
                    break
                self.keep(buf[skip:size])
                buf = buf[size:]

    @staticmethod
    def measure(buf):
        if buf[:1] == b"\0":
            size = 4 + struct.unpack(">I", buf[:4])[0] if len(buf) >= 4 else 4
            return (size, 4) if len(buf) >= size > 4 else (None, 0)
        unpacker = msgpack.Unpacker(raw=True)
        unpacker.feed(buf)
        try:
            unpacker.skip()
        except msgpack.OutOfData:
            return None, 0
        return unpacker.tell(), 0

    def keep(self, frame):
        body = msgpack.unpackb(frame, raw=True)[b"body"]
        tag, data = salt.utils.event.SaltEvent.unpack(body)
        with self.news:
            self.frames.append((tag, data, frame))
            self.news.notify_all()

    def wait(self, what, match):
        """The first event, old or new, that matches."""
        deadline = time.monotonic() + PATIENCE
        with self.news:
            while True:
                for tag, data, frame in self.frames:
                    if match(tag, data):
                        return frame
                if not self.news.wait(deadline - time.monotonic()):
                    seen = [tag for tag, _, _ in self.frames]
                    sys.exit(f"{what}: no such event; seen: {seen}")


class Lab:
    def __init__(self):
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="cap-", dir="/tmp"))
        self.bin = pathlib.Path(sys.executable).parent
        self.daemons = []
        address = f"127.{random.randint(1, 254)}.{random.randint(0, 255)}.1"
        publish, ret = free_port(address), free_port(address)
        quiet = {"enable_fqdns_grains": False, "enable_gpu_grains": False}
        self.write("master/master", {
            "id": "master", "user": "root", "interface": address,
            "publish_port": publish, "ret_port": ret,
            "root_dir": str(self.root / "master"), "worker_threads": 3,
            "file_roots": {"base": [str(self.root / "states")]}, **quiet,
        })
        self.write("minion/minion", {
            "id": ID, "user": "root", "master": address, "master_port": ret,
            "publish_port": publish, "root_dir": str(self.root / "minion"),
            "cache_jobs": True, "acceptance_wait_time": 1, "mine_enabled": False,
            "use_superseded": ["module.run"], **quiet,
        })
        for name, text in {"top": TOP, "good": GOOD, "bad": BAD, "slow": SLOW}.items():
            path = self.root / "states" / f"{name}.sls"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)

    def write(self, name, config):
        path = self.root / name
        path.parent.mkdir(parents=True)
        path.write_text(yaml.safe_dump(config))

    def daemon(self, kind):
        command = [sys.executable, self.bin / f"salt-{kind}", "-c", self.root / kind, "-l", "quiet"]
        self.daemons.append(subprocess.Popen(command, start_new_session=True))

    def key(self, *args):
        command = [sys.executable, self.bin / "salt-key", "-c", self.root / "master", "-y", *args]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def bus(self):
        path = self.root / "master/var/run/salt/master/master_event_pub.ipc"
        deadline = time.monotonic() + PATIENCE
        while not path.exists():
            if time.monotonic() > deadline:
                sys.exit("the master has no event bus")
            time.sleep(0.2)
        return Bus(path)

    def close(self):
        for daemon in self.daemons:
            os.killpg(daemon.pid, signal.SIGTERM)
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(daemon.pid, signal.SIGKILL)
        shutil.rmtree(self.root)


def free_port(address):
    with socket.socket() as sock:
        sock.bind((address, 0))
        return sock.getsockname()[1]


def odd():
    """What Salt's modules may put on the bus, beyond what JSON knows. (A tuple as
    a key passes 3006 and 3008, which cannot read it again; 3007 drops it.)"""
    return {
        1: "int key", None: "no key", b"k\xff": "binary key",
        "when": datetime.datetime(2024, 2, 29, 12, 30, 15, 123456),
        "constant": salt.defaults.NOT_SET,
        "binary": b"\x00\xff\xfe", "bytes": b"text", "text": "smør\n\n",
        "ints": [-1, -(2**63), 2**64 - 1, 2**64], "float": 0.1, "none": None,
        "nested": {"deep": [{"x": [[], {}, True, False]}]},
    }


def capture(lab):
    """Take a key and some jobs through their life, and return the bus and the
    frames by name."""
    lab.daemon("master")
    bus = lab.bus()
    frames = {}

    def see(name, match):
        print("waiting for", name, flush=True)
        frames[name] = bus.wait(name, match)

    def tagged(tag, **want):
        return lambda t, d: t == tag and all(d.get(k) == v for k, v in want.items())

    lab.daemon("minion")
    see("auth-pend", tagged("salt/auth", act="pend"))
    lab.key("-a", ID)
    see("key-accept", lambda t, d: t == "salt/key" and d["act"] in ("accept", "accepted"))
    see("auth-accept", tagged("salt/auth", act="accept"))
    see("start", tagged(f"salt/minion/{ID}/start"))
    see("minion-start", tagged("minion_start"))

    conf = str(lab.root / "master/master")
    client = salt.client.LocalClient(conf)

    def publish(*args, **kwargs):
        return client.run_job(ID, *args, listen=False, **kwargs)["jid"]

    def job(name, *args, **kwargs):
        jid = publish(*args, **kwargs)
        see(name, tagged(f"salt/job/{jid}/ret/{ID}"))
        return jid

    jid = job("ret-ping", "test.ping")
    see("job-new", tagged(f"salt/job/{jid}/new"))
    job("ret-highstate", "state.highstate")
    job("ret-highstate-failed", "state.highstate", kwarg={"pillar": {"mode": "bad"}})
    slow = publish("state.highstate", kwarg={"pillar": {"mode": "slow"}})
    time.sleep(4)  # it shall run, so that the next finds it busy
    job("ret-highstate-busy", "state.highstate")
    job("ret-find-job", "saltutil.find_job", arg=[slow])
    job("ret-find-job-none", "saltutil.find_job", arg=[jid])
    bus.wait("slow highstate", tagged(f"salt/job/{slow}/ret/{ID}"))
    job("ret-cached-job", "saltutil.find_cached_job", arg=[slow])
    job("ret-cached-job-none", "saltutil.find_cached_job", arg=["20200101000000000000"])
    job("ret-multi", ["test.ping", "test.retcode", "test.false"], arg=[[], [42], []])
    job("ret-mine", "mine.update")
    job("ret-missing-function", "no.such")
    job("ret-event-send", "event.send", arg=["my/beacon", {"load": {"1m": 0.5}}])
    see("custom", tagged("my/beacon"))

    opts = salt.config.master_config(conf)
    with salt.utils.event.get_event("master", opts=opts, listen=False) as fire:
        fire.fire_event(odd(), "odd/types")
    see("odd", tagged("odd/types"))

    lab.key("-d", ID)
    see("key-delete", tagged("salt/key", act="delete"))
    return bus, frames


def main():
    out = pathlib.Path(sys.argv[1]) / salt.version.__version__
    lab = Lab()
    try:
        bus, frames = capture(lab)
    finally:
        lab.close()
    out.mkdir(parents=True, exist_ok=True)
    for name, frame in frames.items():
        (out / f"{name}.bin").write_bytes(frame)
    (out / "stream.bin").write_bytes(bus.raw)
    print(f"{len(frames)} frames, {sum(map(len, frames.values()))} bytes in {out}")


if __name__ == "__main__":
    main()
