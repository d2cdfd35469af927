"""Runs the server under test: `penstock serve` on a port of its own, with data of its own.

PENSTOCK names the binary (default: the dev profile's). PENSTOCK_ENDPOINT, for writing tests, names a server of the same API that runs
already: tests that need to stop it are then skipped.
"""

import os
import pathlib
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.parse

import wire

TOP = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", TOP / "target"))
BINARY = pathlib.Path(os.environ.get("PENSTOCK", TARGET / "debug" / "penstock"))
FOREIGN = os.environ.get("PENSTOCK_ENDPOINT")
BANNER = re.compile(r"AWS_ENDPOINT_URL_KINESIS=(https?)://([\d.]+):(\d+)")
NATIVE = re.compile(r"^  native    [\d.]+:(\d+)$", re.MULTILINE)
# Files of tests that run beside each other have a range each: a server that is down for a moment loses its port to nobody.
PORTS = range(*map(int, os.environ.get("PENSTOCK_TEST_PORTS", "20000-30000").split("-")))
START_SECONDS_MAX = 60


def new_directory():
    """Beside the build, because a temporary file system may be memory, which no ack may rest on."""
    (TARGET / "tmp").mkdir(parents=True, exist_ok=True)
    return pathlib.Path(tempfile.mkdtemp(prefix="penstock-", dir=TARGET / "tmp"))


def free_port():
    """A port below those that the kernel gives to clients: while the server is down, nobody else takes it by chance."""
    for port in random.sample(PORTS, min(100, len(PORTS))):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise RuntimeError(f"no port is free between {PORTS.start} and {PORTS.stop}")


class Appliance:
    """A server process. Its data outlives it, and goes with `remove`."""

    def __init__(self, *flags, disk="1G", data=None, further=()):
        """`further`: data directories beside `data`, which is the home. No `--disk` where `disk` is None."""
        self.data = data or new_directory()
        self.further = list(further)
        # Port 0: whatever is free.
        self.native_at = "127.0.0.1:0"
        self.flags = [*flags, *(["--disk", disk] if disk else [])]
        self.process = None
        self.said = []

    def start(self):
        """Returns when the banner has named the endpoint; the next start takes the same port again."""
        if FOREIGN:
            parts = urllib.parse.urlparse(FOREIGN)
            self.scheme, self.host, self.port = parts.scheme, *parts.netloc.split(":")
            return self
        port = getattr(self, "port", None) or free_port()
        command = [BINARY, "serve", *self.named(), "--listen", f"127.0.0.1:{port}", "--native", self.native_at, *self.flags]
        self.said = []
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, errors="replace"
        )
        ready = threading.Event()
        self.reader = threading.Thread(target=self._read, args=(self.process.stdout, ready), daemon=True)
        self.reader.start()
        ready.wait(START_SECONDS_MAX)
        match = BANNER.search(self.output())
        if not match:
            self.process.kill()
            raise RuntimeError(f"{BINARY} did not start (code {self.process.wait()}); it said:\n{self.output()}")
        self.scheme, self.host, self.port = match[1], match[2], int(match[3])
        native = NATIVE.search(self.output())
        self.native = int(native[1]) if native else None
        return self

    def endpoint(self):
        return f"{self.scheme}://{self.host}:{self.port}"

    def named(self):
        """The flags that name the data directories."""
        return [flag for path in [self.data, *self.further] for flag in ("--data", path)]

    def inspect(self, *arguments):
        """What `penstock inspect` says."""
        ended = subprocess.run([BINARY, "inspect", *arguments, *self.named()], capture_output=True, text=True, timeout=60)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def refused(self):
        """What a start says that must not come to serve."""
        try:
            self.start()
        except RuntimeError as error:
            self.process.wait(60)
            return str(error)
        raise AssertionError("the server has started")

    def _read(self, pipe, ready):
        for line in pipe:
            self.said.append(line)
            if BANNER.search(line):
                ready.set()
        ready.set()

    def output(self):
        """What the server has said since its start."""
        return "".join(self.said)

    def says(self, text, seconds=20):
        """Waits until the server's output contains `text`."""
        return eventually(lambda: text in self.output(), seconds)

    def client(self, **options):
        return wire.Client(self.host, self.port, **options)

    def running(self):
        return FOREIGN is not None or self.process.poll() is None

    def kill(self):
        """SIGKILL: nothing is flushed, nothing said."""
        return self._end(signal.SIGKILL)

    def stop(self):
        """SIGTERM; returns the exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, number):
        if self.process is None:
            return None
        self.process.send_signal(number)
        try:
            code = self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        self.reader.join(10)
        return code

    def remove(self):
        if self.process is not None and self.process.poll() is None:
            self.kill()
        for path in [self.data, *self.further]:
            shutil.rmtree(path, ignore_errors=True)


def eventually(true, seconds=20):
    """Polls until `true()` holds; False when it has not within `seconds`, which is a bound on a failure and not a measurement."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


class Starts:
    """For tests that start servers of their own."""

    def ready(self, server):
        """A client of the server, which is started."""
        server.start()
        api = server.client()
        self.addCleanup(lambda: api.close())
        return api


class Crowded:
    """Of a test with more sockets than usual, and threads that go on beside it; `errors` has what ended one of them."""

    def setUp(self):
        super().setUp()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        self.stop, self.errors, self.threads = threading.Event(), [], []
        self.addCleanup(self.end)

    def end(self):
        self.stop.set()
        for thread in self.threads:
            thread.join(60)

    def beside(self, step, *arguments):
        """Does `step` over and over until the test ends."""

        def run():
            try:
                while not self.stop.is_set():
                    step(*arguments)
            except Exception as error:
                self.errors.append((step.__name__, error))

        self.threads.append(threading.Thread(target=run, daemon=True))
        self.threads[-1].start()


class ApiTest(unittest.TestCase):
    """A test against the server that all tests of a run share; a class with `flags` or `own` has one to itself."""

    own = False
    flags = ()
    disk = "1G"
    shared = None
    count = 0

    @classmethod
    def setUpClass(cls):
        if cls.own or cls.flags:
            if FOREIGN:
                raise unittest.SkipTest("needs a server of its own")
            cls.server = Appliance(*cls.flags, disk=cls.disk).start()
            cls.addClassCleanup(cls.server.remove)
            return
        if ApiTest.shared is None:
            ApiTest.shared = Appliance().start()
        cls.server = ApiTest.shared

    def setUp(self):
        self.assertTrue(self.server.running(), f"the server has ended:\n{self.server.output()[-2000:]}")
        self.api = self.server.client()
        self.addCleanup(lambda: self.api.close())

    def name(self):
        """A stream name of its own."""
        ApiTest.count += 1
        return f"{self.id().split('.', 1)[-1]}-{ApiTest.count}"[-128:]

    def stream(self, shards=1, **members):
        """A new stream, ACTIVE, deleted when the test ends."""
        name = members.pop("StreamName", None) or self.name()
        self.api.call("CreateStream", StreamName=name, ShardCount=shards, **members)
        self.addCleanup(self.delete, name)
        self.wait_active(name)
        return name

    def wait_active(self, name):
        self.assertTrue(eventually(lambda: self.description(name)["StreamStatus"] == "ACTIVE"), f"{name} does not become ACTIVE")

    def description(self, name):
        return self.api.call("DescribeStream", StreamName=name)["StreamDescription"]

    def delete(self, name):
        if not self.server.running():
            return
        client = self.server.client()
        try:
            client.call("DeleteStream", StreamName=name)
        except wire.Refused as refused:
            if refused.type not in ("ResourceNotFoundException", "ResourceInUseException"):
                raise
        finally:
            client.close()

    def account(self, name):
        return self.description(name)["StreamARN"].split(":")[4]

    def refused(self, operation, **members):
        """The error that a call is answered with."""
        with self.assertRaises(wire.Refused) as caught:
            self.api.call(operation, **members)
        return caught.exception

    def refuses(self, type, text, operation, **members):
        """The call fails with this type and exactly this text, a list meaning any of its texts."""
        error = self.refused(operation, **members)
        self.assertEqual((error.status, error.type), (400, type), error)
        self.assertIn(error.text, text if isinstance(text, list) else [text])

    def invalid(self, constraint, operation, **members):
        """The call fails with one validation error."""
        text = f"1 validation error detected: {constraint}"
        self.refuses("ValidationException", text, operation, **members)
