"""`python3 tests/compat boto3`: the API through boto3, whose models and parsers are the provider's own."""

import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "api"))

import signer  # noqa: E402

import boto3  # noqa: E402
from botocore.config import Config  # noqa: E402

FIRST = "shardId-000000000000"


class Boto(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server, key, secret = signer.server()
        cls.server.start()
        cls.addClassCleanup(cls.server.remove)
        cls.kinesis = boto3.client(
            "kinesis", endpoint_url=cls.server.endpoint(), region_name="us-east-1",
            aws_access_key_id=key, aws_secret_access_key=secret, config=Config(retries={"total_max_attempts": 1}, read_timeout=30),
        )  # fmt: skip

    def stream(self, shards=1):
        name = self.id().rsplit(".", 1)[-1]
        self.kinesis.create_stream(StreamName=name, ShardCount=shards)
        self.exists(name)
        return name

    def exists(self, name):
        self.kinesis.get_waiter("stream_exists").wait(StreamName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 20})

    def read(self, name, kind="TRIM_HORIZON", shard=FIRST, **members):
        """The data of every record from an iterator on."""
        iterator = self.kinesis.get_shard_iterator(StreamName=name, ShardId=shard, ShardIteratorType=kind, **members)["ShardIterator"]
        return self.drain(iterator)

    def drain(self, iterator):
        found = []
        while iterator:
            answer = self.kinesis.get_records(ShardIterator=iterator)
            found += [record["Data"] for record in answer["Records"]]
            if not answer["Records"] and answer["MillisBehindLatest"] == 0:
                break
            iterator = answer.get("NextShardIterator")
        return found

    def summary(self, name):
        return self.kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]

    def test_waiters(self):
        name = self.stream()
        self.assertEqual(self.summary(name)["StreamStatus"], "ACTIVE")
        self.kinesis.delete_stream(StreamName=name)
        self.kinesis.get_waiter("stream_not_exists").wait(StreamName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 20})

    def test_round_trip(self):
        name = self.stream()
        sent = [bytes(range(256)), b"", b"x" * 100_000, "é".encode()]
        self.kinesis.put_record(StreamName=name, PartitionKey="ключ", Data=sent[0])
        answer = self.kinesis.put_records(StreamName=name, Records=[{"PartitionKey": "k", "Data": data} for data in sent[1:]])
        self.assertEqual(answer["FailedRecordCount"], 0)
        self.assertEqual(self.read(name), sent)

    def test_paginators(self):
        name = self.stream(shards=5)
        # Not with its paginator, which sends the name beside the token: the API refuses the two together.
        page = self.kinesis.list_shards(StreamName=name, MaxResults=2)
        sizes = [len(page["Shards"])]
        while "NextToken" in page:
            page = self.kinesis.list_shards(NextToken=page["NextToken"], MaxResults=2)
            sizes.append(len(page["Shards"]))
        self.assertEqual(sizes, [2, 2, 1])
        pages = self.kinesis.get_paginator("describe_stream").paginate(StreamName=name, PaginationConfig={"PageSize": 2})
        self.assertEqual([len(page["StreamDescription"]["Shards"]) for page in pages], [2, 2, 1])
        pages = self.kinesis.get_paginator("list_streams").paginate(PaginationConfig={"PageSize": 1})
        self.assertIn(name, [each for page in pages for each in page["StreamNames"]])

    def test_a_stream_is_known_by_its_creation(self):
        name = self.stream()
        created = self.summary(name)["StreamCreationTimestamp"]
        self.assertEqual(len(self.kinesis.list_shards(StreamName=name, StreamCreationTimestamp=created)["Shards"]), 1)
        with self.assertRaises(self.kinesis.exceptions.ResourceNotFoundException):
            self.kinesis.list_shards(StreamName=name, StreamCreationTimestamp=created.timestamp() - 100)

    def test_a_start_that_stays_beside_the_token(self):
        name = self.stream()
        paginator = self.kinesis.get_paginator("list_streams")
        before = [each for page in paginator.paginate(PaginationConfig={"PageSize": 1}) for each in page["StreamNames"]][0]
        self.kinesis.create_stream(StreamName=name + "-2", ShardCount=1)
        self.exists(name + "-2")
        pages = paginator.paginate(ExclusiveStartStreamName=before, PaginationConfig={"PageSize": 1})
        rest = [each for page in pages for each in page["StreamNames"]]
        self.assertEqual(rest, sorted(rest))
        self.assertIn(name + "-2", rest)
        self.assertNotIn(before, rest)

    def test_the_five_iterators(self):
        name = self.stream()
        latest = self.kinesis.get_shard_iterator(StreamName=name, ShardId=FIRST, ShardIteratorType="LATEST")["ShardIterator"]
        put = [self.kinesis.put_record(StreamName=name, PartitionKey="k", Data=data)["SequenceNumber"] for data in (b"0", b"1", b"2")]
        self.assertEqual(self.drain(latest), [b"0", b"1", b"2"])
        self.assertEqual(self.read(name, "LATEST"), [])
        self.assertEqual(self.read(name, "TRIM_HORIZON"), [b"0", b"1", b"2"])
        self.assertEqual(self.read(name, "AT_SEQUENCE_NUMBER", StartingSequenceNumber=put[1]), [b"1", b"2"])
        self.assertEqual(self.read(name, "AFTER_SEQUENCE_NUMBER", StartingSequenceNumber=put[1]), [b"2"])
        created = self.summary(name)["StreamCreationTimestamp"]
        self.assertEqual(self.read(name, "AT_TIMESTAMP", Timestamp=created), [b"0", b"1", b"2"])

    def test_stream_arn(self):
        name = self.stream()
        arn = self.summary(name)["StreamARN"]
        self.kinesis.put_record(StreamARN=arn, PartitionKey="k", Data=b"by arn")
        self.assertEqual(self.read(name), [b"by arn"])
        self.assertEqual(self.kinesis.describe_stream(StreamARN=arn)["StreamDescription"]["StreamName"], name)

    def test_resharding(self):
        name = self.stream()
        self.kinesis.split_shard(StreamName=name, ShardToSplit=FIRST, NewStartingHashKey=str(1 << 127))
        self.exists(name)
        lower, upper = "shardId-000000000001", "shardId-000000000002"
        self.kinesis.merge_shards(StreamName=name, ShardToMerge=lower, AdjacentShardToMerge=upper)
        self.exists(name)
        shards = self.kinesis.list_shards(StreamName=name)["Shards"]
        self.assertEqual([shard.get("ParentShardId") for shard in shards], [None, FIRST, FIRST, lower])
        self.assertEqual(shards[3]["AdjacentParentShardId"], upper)

    def test_retention(self):
        name = self.stream()
        self.kinesis.increase_stream_retention_period(StreamName=name, RetentionPeriodHours=48)
        self.exists(name)
        self.assertEqual(self.summary(name)["RetentionPeriodHours"], 48)
        self.kinesis.decrease_stream_retention_period(StreamName=name, RetentionPeriodHours=24)
        self.exists(name)
        self.assertEqual(self.summary(name)["RetentionPeriodHours"], 24)

    def test_tags(self):
        self.kinesis.create_stream(StreamName="tagged", ShardCount=1, Tags={"b": "2", "a": "1"})
        self.exists("tagged")
        tags = self.kinesis.list_tags_for_stream(StreamName="tagged")["Tags"]
        self.assertEqual(tags, [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}])

    def test_enhanced_fan_out(self):
        name = self.stream()
        arn = self.summary(name)["StreamARN"]
        consumer = self.kinesis.register_stream_consumer(StreamARN=arn, ConsumerName="c")["Consumer"]
        self.assertEqual(self.summary(name)["ConsumerCount"], 1)
        described = self.kinesis.describe_stream_consumer(ConsumerARN=consumer["ConsumerARN"])["ConsumerDescription"]
        self.assertEqual((described["ConsumerStatus"], described["StreamARN"]), ("ACTIVE", arn))
        pages = self.kinesis.get_paginator("list_stream_consumers").paginate(StreamARN=arn)
        self.assertEqual([each["ConsumerName"] for page in pages for each in page["Consumers"]], ["c"])
        answer = self.kinesis.subscribe_to_shard(ConsumerARN=consumer["ConsumerARN"], ShardId=FIRST, StartingPosition={"Type": "LATEST"})
        sent = [b"%d" % n for n in range(50)]
        for data in sent[:25]:
            self.kinesis.put_record(StreamName=name, PartitionKey="k", Data=data)
        self.kinesis.put_records(StreamName=name, Records=[{"PartitionKey": "k", "Data": data} for data in sent[25:]])
        found = []
        for event in answer["EventStream"]:
            found += event["SubscribeToShardEvent"]["Records"]
            if len(found) >= len(sent):
                break
        self.assertEqual([record["Data"] for record in found], sent)
        self.kinesis.split_shard(StreamName=name, ShardToSplit=FIRST, NewStartingHashKey=str(1 << 127))
        last = [event["SubscribeToShardEvent"] for event in answer["EventStream"]][-1]
        self.assertNotIn("ContinuationSequenceNumber", last)
        self.assertEqual(len(last["ChildShards"]), 2)
        with self.assertRaises(self.kinesis.exceptions.ResourceInUseException):
            self.kinesis.register_stream_consumer(StreamARN=arn, ConsumerName="c")
        self.kinesis.deregister_stream_consumer(ConsumerARN=consumer["ConsumerARN"])
        with self.assertRaises(self.kinesis.exceptions.ResourceNotFoundException):
            self.kinesis.describe_stream_consumer(StreamARN=arn, ConsumerName="c")

    def test_error_classes(self):
        errors = self.kinesis.exceptions
        name = self.stream()
        with self.assertRaises(errors.ResourceNotFoundException):
            self.kinesis.describe_stream(StreamName="none")
        with self.assertRaises(errors.ResourceInUseException):
            self.kinesis.create_stream(StreamName=name, ShardCount=1)
        with self.assertRaises(errors.InvalidArgumentException):
            self.kinesis.get_records(ShardIterator="x" * 60)
        with self.assertRaises(errors.ClientError) as caught:
            self.kinesis.create_stream(StreamName="no spaces", ShardCount=1)
        self.assertEqual(caught.exception.response["Error"]["Code"], "ValidationException")


if __name__ == "__main__":
    unittest.main()
