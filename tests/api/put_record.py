import hashlib
import json
import time

from appliance import ApiTest
from wire import data_of

SPACE = 1 << 128


def digits(number):
    """The 47 hexadecimal digits of a sequence number: version 2 of the published layout."""
    return f"{int(number):047x}"


class PutRecord(ApiTest):
    def test_answers_with_the_place_and_nothing_else(self):
        name = self.stream()
        answer = self.api.put(name, "key", b"data")
        self.assertEqual(set(answer), {"ShardId", "SequenceNumber"})
        self.assertEqual(answer["ShardId"], "shardId-000000000000")
        (record,) = self.api.read_all(name)
        self.assertEqual(record["SequenceNumber"], answer["SequenceNumber"])
        self.assertEqual((record["PartitionKey"], data_of(record)), ("key", b"data"))

    def test_bytes_come_back_as_they_were(self):
        name = self.stream()
        sent = [bytes([n]) * n for n in range(70)] + [bytes(range(256)) * 40, b"\n\0\r\"\\/"]
        numbers = [int(self.api.put(name, "k", data)["SequenceNumber"]) for data in sent]
        self.assertEqual(numbers, sorted(set(numbers)))
        self.assertEqual([data_of(record) for record in self.api.read_all(name)], sent)

    def test_sequence_numbers_have_the_published_layout(self):
        name = self.stream(shards=2)
        record = self.api.call("PutRecord", StreamName=name, Data="AA==", PartitionKey="k", ExplicitHashKey=str(SPACE - 1))
        number, shard = digits(record["SequenceNumber"]), self.api.shards(name)[1]
        self.assertEqual(len(record["SequenceNumber"]), 56)
        self.assertEqual((number[0], number[10], number[27:29], number[46]), ("2", "1", "00", "2"))
        self.assertEqual((int(number[38:46], 16), record["ShardId"]), (1, "shardId-000000000001"))
        start = shard["SequenceNumberRange"]["StartingSequenceNumber"]
        self.assertEqual(digits(start)[1:10], number[1:10], "the shard's creation second is the same in all its numbers")
        self.assertLess(int(start), int(record["SequenceNumber"]))

    def test_the_md5_of_the_key_chooses_the_shard(self):
        name = self.stream(shards=7)
        shards = self.api.shards(name)
        for key in ["", *map(str, range(40)), "å", "日本語", "k" * 55, "k" * 56, "k" * 64, "k" * 200][1:]:
            value = int.from_bytes(hashlib.md5(key.encode()).digest(), "big")
            answer = self.api.put(name, key, b"x")
            shard = next(s for s in shards if value <= int(s["HashKeyRange"]["EndingHashKey"]))
            self.assertEqual(answer["ShardId"], shard["ShardId"], key)

    def test_an_explicit_hash_key_beats_the_md5(self):
        name = self.stream(shards=2)
        half = SPACE // 2
        for value, shard in [(0, 0), (half - 1, 0), (half, 1), (SPACE - 1, 1)]:
            self.assertEqual(self.api.put(name, "same", b"x", ExplicitHashKey=str(value))["ShardId"][-1], str(shard), value)
        text = f"Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. Specified value was {SPACE}"
        self.refuses(
            "InvalidArgumentException", text, "PutRecord", StreamName=name, PartitionKey="k", Data="AA==", ExplicitHashKey=str(SPACE)
        )

    def test_members_come_in_any_order_and_escaped(self):
        name = self.stream()
        bodies = [
            '{"Data":"AQI=","PartitionKey":"\\u0061\\n","StreamName":"%s"}',
            '{ "PartitionKey" : "a\\n" ,\r\n\t"StreamName":"%s", "Nobody": [{"knows":[1.5e3,null,true]}], "Data" : "AQI=" }',
            '{"StreamName":"%s","ExplicitHashKey":null,"Data":"AQI\\u003d","PartitionKey":"a\\n"}',
            '{"StreamName":"x","StreamName":"%s","Data":"////","Data":"AQI=","PartitionKey":"a\\n"}',
        ]
        for body in bodies:
            self.assertEqual(self.api.send("PutRecord", (body % name).encode())[0], 200, body)
        escaped = '{"StreamName":"%s","Data":"\\/\\/\\/\\/","PartitionKey":"\\ud83d\\ude80"}' % name
        self.assertEqual(self.api.send("PutRecord", escaped.encode())[0], 200)
        records = self.api.read_all(name)
        self.assertEqual([(r["PartitionKey"], r["Data"]) for r in records], [("a\n", "AQI=")] * 4 + [("\U0001f680", "////")])

    def test_constraints_are_named(self):
        name = self.stream()
        for constraint, members in [
            ("Value null at 'partitionKey' failed to satisfy constraint: Member must not be null", {"Data": "AA=="}),
            ("Value null at 'data' failed to satisfy constraint: Member must not be null", {"PartitionKey": "k"}),
            (
                "Value '' at 'partitionKey' failed to satisfy constraint: Member must have length greater than or equal to 1",
                {"Data": "AA==", "PartitionKey": ""},
            ),
            (
                f"Value '{'k' * 257}' at 'partitionKey' failed to satisfy constraint: "
                "Member must have length less than or equal to 256",
                {"Data": "AA==", "PartitionKey": "k" * 257},
            ),
            (
                "Value '01' at 'explicitHashKey' failed to satisfy constraint: "
                "Member must satisfy regular expression pattern: 0|([1-9]\\d{0,38})",
                {"Data": "AA==", "PartitionKey": "k", "ExplicitHashKey": "01"},
            ),
        ]:
            with self.subTest(constraint=constraint):
                self.invalid(constraint, "PutRecord", StreamName=name, **members)
        self.assertEqual(self.api.read_all(name), [])

    def test_keys_are_measured_in_characters(self):
        name = self.stream()
        for key in ("k" * 256, "é" * 256, "日" * 256):
            self.api.put(name, key, b"x")
        self.assertEqual([len(r["PartitionKey"]) for r in self.api.read_all(name)], [256] * 3)

    def test_a_record_has_at_most_a_mebibyte_with_its_key(self):
        name = self.stream()
        self.api.put(name, "k", b"x" * ((1 << 20) - 1))
        error = self.refused("PutRecord", StreamName=name, PartitionKey="k", Data=b"x" * (1 << 20))
        self.assertIn(error.type, ("InvalidArgumentException", "ValidationException"))
        self.assertEqual(len(self.api.read_all(name)), 1)

    def test_a_stream_may_take_larger_records(self):
        for kib in (2048, 10240):
            name = self.stream(MaxRecordSizeInKiB=kib)
            most = kib << 10
            self.api.put(name, "key", b"x" * (most - 3))
            error = self.refused("PutRecord", StreamName=name, PartitionKey="key", Data=b"x" * (most - 2))
            self.assertEqual(error.type, "InvalidArgumentException")
            (record,) = self.api.read_all(name)
            self.assertEqual(data_of(record), b"x" * (most - 3))
        bytes_max = 10 << 20
        lim = bytes_max + 1
        self.invalid(
            f"Value 'java.nio.HeapByteBuffer[pos=0 lim={lim} cap={lim}]' at 'data' failed to satisfy constraint: "
            f"Member must have length less than or equal to {bytes_max}",
            "PutRecord", StreamName=name, PartitionKey="key", Data=b"x" * lim,
        )  # fmt: skip

    def test_wrong_base64_stores_nothing(self):
        name = self.stream()
        for data in ("A", "AA", "AAA", "AA=A", "A===", "AA==AA==", "AA$=", "AB==", "AA= ", "AA\n="):
            error = self.refused("PutRecord", StreamName=name, PartitionKey="k", Data=data)
            self.assertEqual(error.type, "SerializationException", data)
        text = "'AAA' can not be converted to a Blob: Base64 encoded length is expected a multiple of 4 bytes but found: 3"
        error = self.refused("PutRecord", StreamName=name, PartitionKey="k", Data="AAA")
        self.assertEqual(json.loads(error.body)["Message"], text)
        self.assertEqual(self.api.read_all(name), [])

    def test_types_are_checked(self):
        text = "class com.amazon.coral.value.json.numbers.TruncatingBigNumber can not be converted to an String"
        error = self.refused("PutRecord", StreamName="x", PartitionKey=5, Data="AA==")
        self.assertEqual((error.type, error.text), ("SerializationException", text))

    def test_ordering_by_the_previous_number(self):
        name = self.stream()
        number = "0"
        for _ in range(5):
            after = self.api.put(name, "k", b"x", SequenceNumberForOrdering=number)["SequenceNumber"]
            self.assertLess(int(number), int(after))
            number = after
        account = self.account(name)
        members = {"StreamName": name, "PartitionKey": "k", "Data": "AA=="}
        for wrong in (str(int(number) | 7), "9" * 100):
            text = f"ExclusiveMinimumSequenceNumber {wrong} used in PutRecord on stream {name} under account {account} is invalid."
            self.refuses("InvalidArgumentException", text, "PutRecord", SequenceNumberForOrdering=wrong, **members)

    def test_an_unknown_stream(self):
        error = self.refused("PutRecord", StreamName="nobody", PartitionKey="k", Data="AA==", ExplicitHashKey=str(SPACE))
        self.assertEqual(error.type, "ResourceNotFoundException", "before the range of the hash key")
        self.assertRegex(error.text, r"^Stream nobody under account \d{12} not found\.$")

    def test_a_dry_run_stores_nothing(self):
        name = self.stream()
        error = self.refused("PutRecord", StreamName=name, PartitionKey="k", Data="AA==", DryRun=True)
        self.assertEqual(error.type, "DryRunOperationException")
        self.assertEqual(self.api.read_all(name), [])

    def test_any_connection_reaches_any_shard_and_sees_what_was_acked(self):
        name = self.stream(shards=8)
        clients = [self.server.client() for _ in range(12)]
        put = {}
        for turn in range(240):
            data = f"{turn}".encode()
            answer = clients[turn % 12].put(name, str(turn), data)
            put[answer["ShardId"], answer["SequenceNumber"]] = data
        reader = clients[5]
        got = {}
        for shard in self.api.shards(name):
            for record in reader.read_all(name, shard["ShardId"]):
                got[shard["ShardId"], record["SequenceNumber"]] = data_of(record)
        self.assertEqual(got, put)
        for client in clients:
            client.close()

    def test_an_arrival_is_the_time_of_the_put(self):
        name = self.stream()
        before = time.time()
        self.api.put(name, "k", b"x")
        after = time.time()
        (record,) = self.api.read_all(name)
        self.assertTrue(before - 1 <= record["ApproximateArrivalTimestamp"] <= after + 1, record)
