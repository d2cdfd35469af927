from appliance import ApiTest
from wire import data_of

SPACE = 1 << 128
SHARD_0, SHARD_1 = "0", str(SPACE - 1)


class PutRecords(ApiTest):
    def entries(self, count, **members):
        return [{"PartitionKey": f"key-{n}", "Data": f"data-{n}".encode(), **members} for n in range(count)]

    def stored(self, name):
        return [record for shard in self.api.shards(name) for record in self.api.read_all(name, shard["ShardId"])]

    def test_answers_stand_in_the_order_of_the_request(self):
        name = self.stream(shards=5)
        answer = self.api.call("PutRecords", StreamName=name, Records=self.entries(500))
        self.assertEqual(set(answer), {"FailedRecordCount", "Records"})
        self.assertEqual((answer["FailedRecordCount"], len(answer["Records"])), (0, 500))
        stored = {}
        for shard in self.api.shards(name):
            for record in self.api.read_all(name, shard["ShardId"]):
                stored[shard["ShardId"], record["SequenceNumber"]] = record
        self.assertEqual(len(stored), 500)
        for n, place in enumerate(answer["Records"]):
            self.assertEqual(set(place), {"ShardId", "SequenceNumber"})
            record = stored[place["ShardId"], place["SequenceNumber"]]
            self.assertEqual((record["PartitionKey"], data_of(record)), (f"key-{n}", f"data-{n}".encode()))

    def test_explicit_hash_keys_are_per_record(self):
        name = self.stream(shards=2)
        records = [{"PartitionKey": "k", "Data": b"", "ExplicitHashKey": key} for key in (SHARD_1, SHARD_0, SHARD_1)]
        answer = self.api.call("PutRecords", StreamName=name, Records=records)
        self.assertEqual([place["ShardId"][-1] for place in answer["Records"]], ["1", "0", "1"])

    def test_one_record_and_an_empty_one(self):
        name = self.stream()
        self.api.call("PutRecords", StreamName=name, Records=[{"PartitionKey": "k", "Data": b""}])
        (record,) = self.stored(name)
        self.assertEqual((record["PartitionKey"], record["Data"]), ("k", ""))

    def test_a_mebibyte_in_each_record(self):
        name = self.stream(shards=3)
        data = b"m" * ((1 << 20) - 10)
        answer = self.api.call("PutRecords", StreamName=name, Records=[{"PartitionKey": str(n), "Data": data} for n in range(9)])
        self.assertEqual(answer["FailedRecordCount"], 0)
        self.assertTrue(all(data_of(record) == data for record in self.stored(name)))

    def test_more_than_ten_mebibytes_are_refused_whole(self):
        name = self.stream()
        records = [{"PartitionKey": "k", "Data": b"m" * ((1 << 20) - 10)} for _ in range(11)]
        error = self.refused("PutRecords", StreamName=name, Records=records)
        self.assertEqual(error.type, "InvalidArgumentException")
        self.assertRegex(error.text, r"^Records size exceeds \d+ MB limit$")
        self.assertEqual(self.stored(name), [])

    def test_numbers_of_records(self):
        name = self.stream()
        error = self.refused("PutRecords", StreamName=name, Records=self.entries(501))
        self.assertEqual(error.type, "ValidationException")
        self.assertRegex(error.text, r"at 'records' failed to satisfy constraint: Member must have length less than or equal to 500$")
        error = self.refused("PutRecords", StreamName=name, Records=[])
        self.assertRegex(error.text, r"at 'records' failed to satisfy constraint: Member must have length greater than or equal to 1$")
        self.invalid("Value null at 'records' failed to satisfy constraint: Member must not be null", "PutRecords", StreamName=name)
        self.assertEqual(self.stored(name), [])

    def test_one_bad_record_refuses_all_and_stores_none(self):
        name = self.stream(shards=2)
        for bad, type, text in [
            ({"PartitionKey": "k", "Data": "AAA"}, "SerializationException", None),
            ({"PartitionKey": "k", "Data": "AA=="[:3] + "$"}, "SerializationException", None),
            ({"PartitionKey": 7, "Data": "AA=="}, "SerializationException", None),
            (
                {"PartitionKey": "k" * 257, "Data": "AA=="},
                "ValidationException",
                f"1 validation error detected: Value '{'k' * 257}' at 'records.500.member.partitionKey' failed to satisfy "
                "constraint: Member must have length less than or equal to 256",
            ),
            (
                {"PartitionKey": "k"},
                "ValidationException",
                "1 validation error detected: Value null at 'records.500.member.data' failed to satisfy constraint: "
                "Member must not be null",
            ),
            (
                {"PartitionKey": "k", "Data": "AA==", "ExplicitHashKey": str(SPACE)},
                "InvalidArgumentException",
                f"Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. Specified value was {SPACE}",
            ),
        ]:
            with self.subTest(bad=str(bad)[:60]):
                error = self.refused("PutRecords", StreamName=name, Records=[*self.entries(499), bad])
                self.assertEqual(error.type, type, error)
                if text:
                    self.assertEqual(error.text, text)
        self.assertEqual(self.stored(name), [])

    def test_several_constraints_are_told_together(self):
        records = [{"PartitionKey": "", "Data": "AA=="}, {"Data": "AA=="}]
        error = self.refused("PutRecords", StreamName="x", Records=records)
        self.assertTrue(error.text.startswith("2 validation errors detected: "), error.text)
        for path in ("'records.1.member.partitionKey'", "'records.2.member.partitionKey'"):
            self.assertIn(path, error.text)

    def test_records_before_the_stream_name(self):
        name = self.stream()
        body = '{"Records":[{"Data":"AQ==","PartitionKey":"a"},{"PartitionKey":"b","Data":"Ag=="}],"StreamName":"%s"}' % name
        self.assertEqual(self.api.send("PutRecords", body.encode())[0], 200)
        self.assertEqual([(r["PartitionKey"], r["Data"]) for r in self.stored(name)], [("a", "AQ=="), ("b", "Ag==")])

    def test_an_unknown_stream(self):
        self.assertEqual(self.refused("PutRecords", StreamName="nobody", Records=self.entries(1)).type, "ResourceNotFoundException")

    def test_order_of_one_key_over_many_calls(self):
        name = self.stream(shards=4)
        sent = []
        for call in range(30):
            records = [{"PartitionKey": f"{call}-{n}", "Data": f"{call} {n}".encode()} for n in range(20)]
            answer = self.api.call("PutRecords", StreamName=name, Records=records)
            sent += [(place["ShardId"], int(place["SequenceNumber"]), call) for place in answer["Records"]]
        for shard in {place[0] for place in sent}:
            calls = [call for _, _, call in sorted(place for place in sent if place[0] == shard)]
            self.assertEqual(calls, sorted(calls), "numbers of a later call are higher")
