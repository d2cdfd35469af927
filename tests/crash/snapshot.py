"""Snapshots of a server under load, with the server killed meanwhile, and what is restored from them."""

import collections
import hashlib
import http.client
import json
import os
import pathlib
import random
import shutil
import subprocess
import time
import types
import unittest

from appliance import BINARY, FOREIGN, Appliance, eventually, new_directory
from kill import SEED
from producer import active, audit, join, produce

MEBIBYTE = 1 << 20
STREAMS = ["snap-a", "snap-b"]


def run(*arguments):
    """(exit code, what it said) of a command of the program."""
    done = subprocess.run([BINARY, *map(str, arguments)], capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout + done.stderr


def digests(directory):
    """SHA-256 of each file."""
    files = [path for path in pathlib.Path(directory).rglob("*") if path.is_file()]
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@unittest.skipIf(FOREIGN, "takes snapshots of penstock")
class Snapshot(unittest.TestCase):
    flags = ("--cores", "0", "--when-full", "trim")

    def setUp(self):
        print(f"{self._testMethodName}: PENSTOCK_CRASH_SEED={SEED}", flush=True)
        self.random = random.Random(f"{SEED}/{self._testMethodName}")
        self.scratch = new_directory()
        self.addCleanup(shutil.rmtree, self.scratch, True)
        # Each snapshot ends a segment: where many are taken, the log needs room for them.
        disk = "2G" if "killed" in self._testMethodName else "512M"
        self.server = Appliance(*self.flags, disk=disk).start()
        self.addCleanup(self.server.remove)
        self.producers = []
        client = self.client(self.server)
        for stream in STREAMS:
            client.call("CreateStream", StreamName=stream, ShardCount=2)
        for stream in STREAMS:
            active(self, client, stream)

    def client(self, server):
        client = server.client()
        self.addCleanup(client.close)
        return client

    def acked(self):
        """Everything that has been acked so far."""
        return [list(producer.acked) for producer in self.producers]

    def audit(self, server, before):
        """Whatever was acked `before` is there; what is there beside it was sent."""
        known = []
        for producer, acked in zip(self.producers, before, strict=True):
            later = [(stream, data) for stream, _, data, _, _ in producer.acked[len(acked) :]]
            known.append(types.SimpleNamespace(acked=acked, unanswered=[*later, *producer.unanswered]))
        self.assertGreater(sum(len(producer.acked) for producer in known), 0, "nothing was acked before")
        audit(self, self.client(server), STREAMS, known, [])
        for stream in STREAMS:
            for producer in known:
                highest = {}
                for its_stream, key, _, _, number in producer.acked:
                    if its_stream == stream:
                        highest[key] = max(number, highest.get(key, 0))
                for key, number in highest.items():
                    answer = self.client(server).put(stream, key, b"after")
                    self.assertGreater(int(answer["SequenceNumber"]), number, "a number is given out again")

    def restored(self, snapshot, name):
        data = self.scratch / name
        code, said = run("restore", snapshot, data)
        self.assertEqual(code, 0, said)
        return self.started(data)

    def started(self, data):
        server = Appliance("--cores", "0", disk="2G", data=data).start()
        self.addCleanup(server.remove)
        for word in ("DAMAGE", "cut off", "not usable", "missing"):
            self.assertNotIn(word, server.output())
        return server

    def recycled(self):
        text = self.client(self.server).get("/metrics")[1]
        lines = [line for line in text.splitlines() if line.startswith("penstock_segments_recycled_total{")]
        return sum(int(line.split()[-1]) for line in lines)

    def turn_over(self):
        """Every segment of the log is used anew, twice."""
        client, number, begin = self.client(self.server), 0, self.recycled()
        while self.recycled() < begin + 20:
            records = [{"PartitionKey": "turn", "Data": b"%08d" % (number * 8 + n) + bytes(MEBIBYTE - 64)} for n in range(8)]
            client.call("PutRecords", StreamName="turn", Records=records)
            number += 1
            self.assertLess(number, 600, "the log does not turn over")

    def test_of_a_server_that_goes_on(self):
        running = produce(self.server, STREAMS, f"{SEED}/snapshot", 0)
        self.producers += running
        self.assertTrue(eventually(lambda: sum(map(len, self.acked())) > 300))
        first, second = self.scratch / "first", self.scratch / "second"
        before_first = self.acked()
        code, said = run("snapshot", first, "--data", self.server.data)
        self.assertEqual(code, 0, said)
        self.assertTrue(eventually(lambda: sum(map(len, self.acked())) > sum(map(len, before_first)) + 100))
        before_second = self.acked()
        code, said = run("snapshot", second, "--data", self.server.data)
        self.assertEqual(code, 0, said)
        join(self, running)
        taken = digests(first) | {f"2/{name}": digest for name, digest in digests(second).items()}
        client = self.client(self.server)
        client.call("CreateStream", StreamName="turn", ShardCount=1)
        active(self, client, "turn")
        self.turn_over()
        self.server.kill()
        self.server.start()
        self.turn_over()
        after = digests(first) | {f"2/{name}": digest for name, digest in digests(second).items()}
        self.assertEqual(after, taken, "a server that goes on changes what it was")
        self.server.stop()
        for snapshot, before in ((first, before_first), (second, before_second)):
            server = self.restored(snapshot, f"{snapshot.name}-data")
            self.audit(server, before)
            server.stop()
        self.assertEqual(digests(first), {k: v for k, v in taken.items() if not k.startswith("2/")}, "a restore changes the snapshot")
        # A server may also run on a snapshot as it is, which then is none any more.
        server = self.started(first)
        self.audit(server, before_first)
        server.kill()
        self.assertEqual({k: v for k, v in digests(second).items()}, {k[2:]: v for k, v in taken.items() if k.startswith("2/")})
        code, said = run("restore", first, self.scratch / "third")
        self.assertEqual(code, 1, said)
        self.assertIn("a server has run on it", said)
        self.assertFalse((self.scratch / "third").exists())

    def test_an_export_is_what_consumers_read(self):
        running = produce(self.server, STREAMS, f"{SEED}/export", 0)
        self.producers += running
        self.assertTrue(eventually(lambda: sum(map(len, self.acked())) > 200))
        join(self, running)
        client, stream = self.client(self.server), STREAMS[0]
        expected = {shard["ShardId"]: client.read_all(stream, shard["ShardId"]) for shard in client.shards(stream)}
        code, said = run("export", self.server.data, "--stream", stream)
        self.assertEqual(code, 1, said)
        self.assertIn("in use by process", said)
        snapshot = self.scratch / "snapshot"
        self.assertEqual(run("snapshot", snapshot, "--data", self.server.data)[0], 0)
        before = digests(snapshot)
        self.exported(snapshot, stream, expected)
        self.server.kill()
        self.exported(self.server.data, stream, expected)
        self.assertEqual(digests(snapshot), before, "an export changes the snapshot")
        # It goes on where an earlier one ended.
        shard, records = max(expected.items(), key=lambda item: len(item[1]))
        middle = len(records) // 2
        output = self.scratch / "rest.jsonl"
        behind = ("--shard", shard, "--after", records[middle]["SequenceNumber"], "--output", output)
        code, said = run("export", snapshot, "--stream", stream, *behind)
        self.assertEqual(code, 0, said)
        numbers = [json.loads(line)["sequenceNumber"] for line in output.read_text().splitlines()]
        self.assertEqual(numbers, [record["SequenceNumber"] for record in records[middle + 1 :]])
        for wrong, told in (
            (("--stream", "nowhere"), "has no stream"),
            (("--stream", stream, "--shard", "shardId-000000000009"), "has no shard"),
            (("--stream", stream, "--shard", shard, "--after", "17"), "no sequence number"),
            (("--stream", stream, "--output", output), "exists"),
        ):
            code, said = run("export", snapshot, *wrong)
            self.assertEqual(code, 1, said)
            self.assertIn(told, said)

    def exported(self, directory, stream, expected):
        output = self.scratch / f"{directory.name}.jsonl"
        code, said = run("export", directory, "--stream", stream, "--output", output)
        self.assertEqual(code, 0, said)
        found = collections.defaultdict(list)
        for line in output.read_text().splitlines():
            record = json.loads(line)
            found[record.pop("shardId")].append(record)
        names = {"SequenceNumber": "sequenceNumber", "PartitionKey": "partitionKey", "Data": "data"}
        names["ApproximateArrivalTimestamp"] = "approximateArrivalTimestamp"
        for shard, records in expected.items():
            self.assertEqual(found.pop(shard, []), [{names[name]: value for name, value in record.items()} for record in records])
        self.assertEqual(found, {})

    def test_with_the_server_killed_meanwhile(self):
        whole = 0
        for cycle in range(6):
            running = produce(self.server, STREAMS, f"{SEED}/killed", cycle)
            self.producers += running
            time.sleep(self.random.uniform(0.1, 0.3))
            snapshot, before = self.scratch / f"cycle-{cycle}", self.acked()
            command = [BINARY, "snapshot", snapshot, "--data", self.server.data]
            taking = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            time.sleep(self.random.uniform(0, 0.04))
            self.server.kill()
            said, _ = taking.communicate(timeout=60)
            join(self, running)
            self.assertEqual(taking.returncode == 0, (snapshot / "manifest").exists(), said)
            self.server.start()
            self.assertNotIn("DAMAGE", self.server.output())
            if taking.returncode == 0:
                whole += 1
                server = self.restored(snapshot, f"data-{cycle}")
                self.audit(server, before)
                server.remove()
        audit(self, self.client(self.server), STREAMS, self.producers, [])
        before = self.acked()
        code, said = run("snapshot", self.scratch / "last", "--data", self.server.data)
        self.assertEqual(code, 0, said)
        self.audit(self.restored(self.scratch / "last", "last-data"), before)
        print(f"{whole} of 6 snapshots were whole when the server was killed")

    def test_only_who_reads_the_data_may_ask(self):
        for headers in ({}, {"Authorization": "Penstock " + "0" * 32}, {"Authorization": "AWS4-HMAC-SHA256 x"}):
            connection = http.client.HTTPConnection(self.server.host, self.server.port, timeout=20)
            connection.request("POST", "/admin/snapshot", b"", headers)
            self.assertEqual(connection.getresponse().status, 403)
            connection.close()
        self.assertFalse((self.server.data / "capture").exists())
        self.assertEqual(os.stat(self.server.data / "admin").st_mode & 0o777, 0o600)

    def test_two_at_once(self):
        commands = [[BINARY, "snapshot", self.scratch / str(n), "--data", self.server.data] for n in range(3)]
        running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for command in commands]
        said = [process.communicate(timeout=60)[0] for process in running]
        for n, process in enumerate(running):
            self.assertEqual(process.returncode == 0, (self.scratch / str(n) / "manifest").exists(), said[n])
            self.assertTrue(process.returncode == 0 or "another" in said[n], said[n])
        self.assertTrue(any(process.returncode == 0 for process in running), said)
