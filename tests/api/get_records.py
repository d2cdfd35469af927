import base64

from appliance import ApiTest
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
