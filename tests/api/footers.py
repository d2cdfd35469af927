"""Footers that are damaged under a running server: every record is found nevertheless, and it is told once."""

import base64
import json
import re
import subprocess
import unittest

from appliance import BINARY, FOREIGN, ApiTest, eventually
from wire import data_of

SEGMENT = 64 << 20
BLOCK = 4096
TRAILER = b"pgFt"
RECORDS = 420
# Of each a run, of which a segment then has more than a block holds: its footer has three.
SIZE = 500 << 10


def sealed(file):
    with open(file, "rb") as segment:
        segment.seek(-64, 2)
        return segment.read(4) == TRAILER


@unittest.skipIf(FOREIGN, "changes bytes under penstock")
class Footers(ApiTest):
    flags = ("--cores", "0", "--scrub-days", "0")
    disk = "512M"

    def metric(self, name):
        return int(re.search(rf'^penstock_{name}{{worker="0"}} (\d+)$', self.api.get("/metrics")[1], re.M)[1])

    def read_measured(self, name):
        """All records. No answer reads more than twice what it returns and 1 MiB: each goes on where the one before was."""
        records, iterator, read = [], self.api.iterator(name), self.metric("cold_read_bytes_total")
        while True:
            answer = self.api.call("GetRecords", ShardIterator=iterator)
            if not answer["Records"] and answer["MillisBehindLatest"] == 0:
                return records
            before, read = read, self.metric("cold_read_bytes_total")
            returned = sum(len(data_of(record)) for record in answer["Records"])
            self.assertLessEqual(read - before, 2 * returned + (1 << 20))
            records += answer["Records"]
            iterator = answer["NextShardIterator"]

    def read_alone(self, name, record):
        """Bytes that are read for one record, by somebody who has read nothing before."""
        before = self.metric("cold_read_bytes_total")
        iterator = self.api.iterator(name, kind="AT_SEQUENCE_NUMBER", StartingSequenceNumber=record["SequenceNumber"])
        answer = self.api.call("GetRecords", ShardIterator=iterator, Limit=1)
        self.assertEqual([found["SequenceNumber"] for found in answer["Records"]], [record["SequenceNumber"]])
        return self.metric("cold_read_bytes_total") - before

    def test_records_are_found_without_the_runs_of_a_footer(self):
        name = self.stream()
        for number in range(RECORDS):
            self.api.call("PutRecord", StreamName=name, PartitionKey="k", Data=b"%08d" % number + bytes(SIZE))
        segments = lambda: [file for file in sorted((self.server.data / "log-000").glob("segment-??????")) if sealed(file)]
        self.assertTrue(eventually(lambda: len(segments()) >= 2), "no two segments are sealed")
        wanted = list(range(RECORDS))
        numbers = lambda records: [int(data_of(record)[:8]) for record in records]
        self.assertEqual(numbers(self.api.read_all(name)), wanted)
        self.assertEqual(self.metric("footers_passed_over_total"), 0)

        file = segments()[0]
        with open(file, "r+b") as segment:
            segment.seek(SEGMENT - 3 * BLOCK)
            runs = segment.read(2 * BLOCK)
            self.assertTrue(any(runs[:36]) and any(runs[BLOCK : BLOCK + 36]), "runs stand in both blocks")
            segment.seek(SEGMENT - 3 * BLOCK)
            segment.write(bytes(byte ^ 8 for byte in runs))
        records = self.read_measured(name)
        self.assertEqual(numbers(records), wanted)
        walked = [self.read_alone(name, record) for record in records[::7]]
        self.assertGreater(max(walked), 4 << 20, "whoever comes anew goes through the segment")
        self.assertGreater(self.metric("footers_passed_over_total"), 1)
        told = [line for line in self.server.output().splitlines() if "DAMAGE" in line]
        self.assertEqual(len(told), 1, told)
        self.assertIn(f"log-000/{file.name}", told[0])
        self.assertIn("search the segment instead", told[0])
        self.assertEqual(self.metric("damaged_total"), 0, "nothing is lost")

        self.server.stop()
        ended = subprocess.run([BINARY, "export", self.server.data, "--stream", name], capture_output=True, text=True, timeout=300)
        self.assertEqual(ended.returncode, 0, ended.stderr)
        lines = [json.loads(line) for line in ended.stdout.splitlines()]
        self.assertEqual([int(base64.b64decode(line["data"])[:8]) for line in lines], wanted)
        self.assertEqual(ended.stderr.count("the segment is searched instead"), 1, ended.stderr)
