import base64
import re
import unittest

from appliance import FOREIGN, ApiTest
from wire import data_of

MEBIBYTE = 1 << 20


class GetRecords(ApiTest):
    def test_shape(self):
        name = self.stream()
        self.api.put(name, "k", b"x")
        answer = self.api.call("GetRecords", ShardIterator=self.api.iterator(name))
        self.assertEqual(set(answer), {"Records", "NextShardIterator", "MillisBehindLatest"})
        self.assertEqual(set(answer["Records"][0]), {"SequenceNumber", "ApproximateArrivalTimestamp", "Data", "PartitionKey"})
        self.assertEqual(answer["MillisBehindLatest"], 0)

    def test_each_record_once_and_in_order(self):
        name = self.stream()
        for call in range(6):
            records = [{"PartitionKey": "k", "Data": f"{call * 500 + n}".encode()} for n in range(500)]
            self.api.call("PutRecords", StreamName=name, Records=records)
        for limit in (1000, 7):
            iterator, got, turns = self.api.iterator(name), [], 0
            while len(got) < 3000 and turns < 1000:
                answer = self.api.call("GetRecords", ShardIterator=iterator, Limit=limit)
                self.assertLessEqual(len(answer["Records"]), limit)
                got += answer["Records"]
                iterator, turns = answer["NextShardIterator"], turns + 1
            self.assertEqual(sorted(int(data_of(r)) for r in got), list(range(3000)))
            numbers = [int(r["SequenceNumber"]) for r in got]
            self.assertEqual(numbers, sorted(set(numbers)))

    def test_an_answer_has_at_most_ten_mebibytes(self):
        name = self.stream()
        for n in range(14):
            self.api.put(name, "k", bytes([n]) * (MEBIBYTE - 1))
        answer = self.api.call("GetRecords", ShardIterator=self.api.iterator(name))
        count = len(answer["Records"])
        self.assertTrue(0 < count <= 10, count)
        rest = self.api.drain(answer["NextShardIterator"])[0]
        self.assertEqual([data_of(r)[0] for r in answer["Records"] + rest], list(range(14)))

    def test_an_iterator_may_be_used_twice(self):
        name = self.stream()
        self.api.put(name, "k", b"x")
        iterator = self.api.iterator(name)
        first, second = (self.api.call("GetRecords", ShardIterator=iterator) for _ in range(2))
        self.assertEqual(first["Records"], second["Records"])

    def test_the_next_iterator_always_differs(self):
        iterator = self.api.iterator(self.stream())
        seen = {iterator}
        for _ in range(10):
            answer = self.api.call("GetRecords", ShardIterator=iterator)
            self.assertEqual((answer["Records"], answer["MillisBehindLatest"]), ([], 0))
            iterator = answer["NextShardIterator"]
            self.assertLessEqual(len(iterator), 512)
            seen.add(iterator)
        self.assertEqual(len(seen), 11)

    def test_quotes_around_an_iterator_are_forgiven(self):
        name = self.stream()
        self.api.put(name, "k", b"x")
        answer = self.api.call("GetRecords", ShardIterator=f'"{self.api.iterator(name)}"')
        self.assertEqual(len(answer["Records"]), 1)

    def test_forged_iterators(self):
        good = self.api.iterator(self.stream())
        half = len(good) // 2
        other = "A" if good[half] != "A" else "B"
        strange = base64.b64encode(bytes(120)).decode()
        for forged in ("x", good[:-4], good + "AAAA", good[:half] + other + good[half + 1 :], strange, "é", '""', '"'):
            with self.subTest(forged=forged[:20]):
                self.refuses("InvalidArgumentException", "Invalid ShardIterator.", "GetRecords", ShardIterator=forged)
        self.assertEqual(self.api.call("GetRecords", ShardIterator=good)["Records"], [])

    def test_constraints_are_named(self):
        iterator = self.api.iterator(self.stream())
        self.invalid(
            "Value '10001' at 'limit' failed to satisfy constraint: Member must have value less than or equal to 10000",
            "GetRecords", ShardIterator=iterator, Limit=10001,
        )  # fmt: skip
        self.invalid(
            "Value '0' at 'limit' failed to satisfy constraint: Member must have value greater than or equal to 1",
            "GetRecords", ShardIterator=iterator, Limit=0,
        )  # fmt: skip
        self.invalid("Value null at 'shardIterator' failed to satisfy constraint: Member must not be null", "GetRecords")
        long = "i" * 513
        self.invalid(
            f"Value '{long}' at 'shardIterator' failed to satisfy constraint: Member must have length less than or equal to 512",
            "GetRecords", ShardIterator=long,
        )  # fmt: skip

    def test_lag_is_told_while_records_remain(self):
        name = self.stream()
        for n in range(3):
            self.api.put(name, "k", str(n).encode())
        answer = self.api.call("GetRecords", ShardIterator=self.api.iterator(name), Limit=1)
        self.assertGreaterEqual(answer["MillisBehindLatest"], 0)
        self.assertEqual(len(self.api.drain(answer["NextShardIterator"])[0]), 2)


@unittest.skipIf(FOREIGN, "reads the metrics of penstock")
class CatchingUp(ApiTest):
    flags = ("--cores", "0")
    calls = 140
    size = 50 << 10

    def metric(self, name):
        return int(re.search(rf'^penstock_{name}{{worker="0"}} (\d+)$', self.api.get("/metrics")[1], re.M)[1])

    def test_what_is_far_behind_is_read_once(self):
        """More than a segment, so that most of it has a footer."""
        name = self.stream()
        for call in range(self.calls):
            records = [{"PartitionKey": "k", "Data": b"%08d" % (call * 10 + n) + bytes(self.size)} for n in range(10)]
            self.api.call("PutRecords", StreamName=name, Records=records)
        self.server.stop()
        self.server.start()
        self.api = self.server.client()
        names = ("cold_read_bytes_total", "cold_reads_total", "cold_reads_ahead_total", "readers_resumed_total")
        for limit in (100, 35):
            before = [self.metric(metric) for metric in names]
            iterator, got, asked = self.api.iterator(name), [], 0
            while len(got) < self.calls * 10:
                answer = self.api.call("GetRecords", ShardIterator=iterator, Limit=limit)
                got += [int(data_of(record)[:8]) for record in answer["Records"]]
                iterator, asked = answer["NextShardIterator"], asked + 1
                self.assertLess(asked, 200)
            self.assertEqual(got, list(range(self.calls * 10)))
            read, reads, ahead, resumed = (self.metric(metric) - was for metric, was in zip(names, before))
            returned = self.calls * 10 * self.size
            self.assertLess(read, returned * 1.15, "hardly a byte is read twice")
            self.assertLess(reads, returned / (400 << 10), "reads are large")
            self.assertGreater(ahead, reads / 2, f"{ahead} of {reads} reads were ahead")
            self.assertGreaterEqual(resumed, asked - 2, f"{resumed} of {asked} calls went on where one had ended")
        self.assertLess(self.metric("cold_read_bytes_unused_total"), returned / 20, "hardly a byte is read in vain")
        self.assertEqual(self.metric("footers_passed_over_total"), 0)
