import time

from appliance import ApiTest
from wire import data_of

ID = "shardId-000000000000"


class GetShardIterator(ApiTest):
    def setUp(self):
        super().setUp()
        self.name_ = self.stream(shards=2)
        self.numbers = [
            self.api.put(self.name_, "k", str(n).encode(), ExplicitHashKey="0")["SequenceNumber"] for n in range(5)
        ]

    def read(self, kind, **members):
        records, _ = self.api.drain(self.api.iterator(self.name_, ID, kind, **members))
        return [int(data_of(record)) for record in records]

    def test_from_the_oldest_record(self):
        self.assertEqual(self.read("TRIM_HORIZON"), [0, 1, 2, 3, 4])

    def test_at_and_after_a_number(self):
        self.assertEqual(self.read("AT_SEQUENCE_NUMBER", StartingSequenceNumber=self.numbers[2]), [2, 3, 4])
        self.assertEqual(self.read("AFTER_SEQUENCE_NUMBER", StartingSequenceNumber=self.numbers[2]), [3, 4])
        self.assertEqual(self.read("AFTER_SEQUENCE_NUMBER", StartingSequenceNumber=self.numbers[4]), [])

    def test_at_the_number_the_shard_starts_with(self):
        start = self.api.shards(self.name_)[0]["SequenceNumberRange"]["StartingSequenceNumber"]
        self.assertEqual(self.read("AT_SEQUENCE_NUMBER", StartingSequenceNumber=start), [0, 1, 2, 3, 4])

    def test_latest_sees_only_what_comes(self):
        iterator = self.api.iterator(self.name_, ID, "LATEST")
        self.assertEqual(self.api.call("GetRecords", ShardIterator=iterator)["Records"], [])
        self.api.put(self.name_, "k", b"5", ExplicitHashKey="0")
        answer = self.api.call("GetRecords", ShardIterator=iterator)
        self.assertEqual([data_of(record) for record in answer["Records"]], [b"5"])

    def test_at_a_time(self):
        records = self.api.read_all(self.name_)
        times = [record["ApproximateArrivalTimestamp"] for record in records]
        self.assertEqual(self.read("AT_TIMESTAMP", Timestamp=1.5e9), [0, 1, 2, 3, 4], "older than everything: the oldest")
        first = times.index(times[-1])
        self.assertEqual(self.read("AT_TIMESTAMP", Timestamp=times[-1]), list(range(first, 5)))
        while time.time() <= times[-1] + 0.002:
            pass
        self.assertEqual(self.read("AT_TIMESTAMP", Timestamp=times[-1] + 0.001), [])

    def test_a_time_to_come_is_refused(self):
        error = self.refused(
            "GetShardIterator", StreamName=self.name_, ShardId=ID, ShardIteratorType="AT_TIMESTAMP", Timestamp=4e9
        )
        self.assertEqual(error.type, "InvalidArgumentException")
        self.assertRegex(
            error.text,
            r"^The timestampInMillis parameter cannot be greater than the currentTimestampInMillis\. "
            r"timestampInMillis: 4000000000000, currentTimestampInMillis: \d{13}$",
        )

    def test_numbers_and_types_agree(self):
        def text(kind, and_also):
            return (
                "Must either specify (1) AT_SEQUENCE_NUMBER or AFTER_SEQUENCE_NUMBER and StartingSequenceNumber or (2) TRIM_HORIZON "
                f"or LATEST and no StartingSequenceNumber. Request specified {kind} and {and_also}."
            )

        members = {"StreamName": self.name_, "ShardId": ID}
        for kind, number, and_also in [
            ("AT_SEQUENCE_NUMBER", {}, "no StartingSequenceNumber"),
            ("AFTER_SEQUENCE_NUMBER", {}, "no StartingSequenceNumber"),
            ("LATEST", {"StartingSequenceNumber": "0"}, "also a StartingSequenceNumber"),
            ("TRIM_HORIZON", {"StartingSequenceNumber": "0"}, "also a StartingSequenceNumber"),
        ]:
            with self.subTest(kind=kind):
                self.refuses(
                    "InvalidArgumentException", text(kind, and_also), "GetShardIterator", ShardIteratorType=kind, **members, **number
                )
        self.refuses(
            "InvalidArgumentException",
            "Must specify timestampInMillis parameter for iterator of type AT_TIMESTAMP. Current request has no timestamp parameter.",
            "GetShardIterator", ShardIteratorType="AT_TIMESTAMP", **members,
        )  # fmt: skip

    def test_numbers_of_another_shard_or_stream(self):
        other = self.api.put(self.name_, "k", b"x", ExplicitHashKey=str((1 << 128) - 1))["SequenceNumber"]
        members = {"StreamName": self.name_, "ShardId": ID, "ShardIteratorType": "AT_SEQUENCE_NUMBER"}
        text = (
            "Invalid StartingSequenceNumber. It encodes shardId-000000000001, while it was used in a call to a shard with "
            "shardId-000000000000"
        )
        self.refuses("InvalidArgumentException", text, "GetShardIterator", StartingSequenceNumber=other, **members)
        account = self.account(self.name_)
        foreign = format((int(self.numbers[0]) & ~(0xFFFFFFFFF << 144)) | (0x54000000 << 144), "d")
        error = self.refused("GetShardIterator", StartingSequenceNumber=foreign, **members)
        self.assertEqual(error.type, "InvalidArgumentException")
        prefix = f"StartingSequenceNumber {foreign} used in GetShardIterator on shard {ID} in stream {self.name_} under account {account}"
        self.assertTrue(error.text.startswith(prefix + " is invalid"), error.text)
        error = self.refused("GetShardIterator", StartingSequenceNumber="5" * 40, **members)
        self.assertEqual(error.type, "InvalidArgumentException")

    def test_unknown_shards_and_streams(self):
        account = self.account(self.name_)
        members = {"ShardIteratorType": "LATEST"}
        text = f"Shard shardId-000000000009 in stream {self.name_} under account {account} does not exist"
        self.refuses("ResourceNotFoundException", text, "GetShardIterator", StreamName=self.name_, ShardId="shardId-000000000009", **members)
        text = f"Shard {ID} in stream nobody under account {account} does not exist"
        self.refuses("ResourceNotFoundException", text, "GetShardIterator", StreamName="nobody", ShardId=ID, **members)
        text = f"Could not find shard strange in stream {self.name_} under account {account}."
        self.refuses("ResourceNotFoundException", text, "GetShardIterator", StreamName=self.name_, ShardId="strange", **members)

    def test_shard_names_are_forgiven_much(self):
        for name in ("shardId-0", "0", "anything-0"):
            answer = self.api.call("GetShardIterator", StreamName=self.name_, ShardId=name, ShardIteratorType="TRIM_HORIZON")
            self.assertEqual(len(self.api.drain(answer["ShardIterator"])[0]), 5, name)

    def test_constraints_are_named(self):
        self.invalid(
            "Value 'NEWEST' at 'shardIteratorType' failed to satisfy constraint: Member must satisfy enum value set: "
            "[AFTER_SEQUENCE_NUMBER, LATEST, AT_TIMESTAMP, AT_SEQUENCE_NUMBER, TRIM_HORIZON]",
            "GetShardIterator", StreamName=self.name_, ShardId=ID, ShardIteratorType="NEWEST",
        )  # fmt: skip
        self.invalid(
            "Value null at 'shardId' failed to satisfy constraint: Member must not be null",
            "GetShardIterator", StreamName=self.name_, ShardIteratorType="LATEST",
        )  # fmt: skip
