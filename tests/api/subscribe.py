import json
import subprocess
import threading
import time
import unittest

import frames
from appliance import BINARY, FOREIGN, ApiTest, Appliance, Starts, eventually
from event_stream import Ended, Subscription
from wire import Refused, data_of

FIRST = "shardId-000000000000"


def numbers(records):
    return [int(data_of(record)[:8]) for record in records]


class Subscribing:
    """For tests with `self.server` and `self.api`."""

    def consumer(self, stream, name="c"):
        arn = self.api.call("DescribeStreamSummary", StreamName=stream)["StreamDescriptionSummary"]["StreamARN"]
        consumer = self.api.call("RegisterStreamConsumer", StreamARN=arn, ConsumerName=name)["Consumer"]["ConsumerARN"]
        self.addCleanup(self.deregister, consumer)
        return consumer

    def deregister(self, consumer):
        try:
            api = self.server.client()
            api.call("DeregisterStreamConsumer", ConsumerARN=consumer)
            api.close()
        except (Refused, OSError):
            pass

    def subscribe(self, *arguments, **options):
        subscription = Subscription(self.server, *arguments, **options)
        self.addCleanup(subscription.close)
        return subscription

    def put(self, stream, first, count, size=0, api=None):
        """Numbered records, in order."""
        for at in range(first, first + count, 100):
            batch = range(at, min(at + 100, first + count))
            records = [{"PartitionKey": "k", "Data": b"%08d" % number + bytes(size)} for number in batch]
            answer = (api or self.api).call("PutRecords", StreamName=stream, Records=records)
            self.assertEqual(answer["FailedRecordCount"], 0)

    def gets(self, subscription, first, count):
        found = subscription.records(count)
        self.assertEqual(numbers(found), list(range(first, first + count)))
        return found


class SubscribeToShard(Subscribing, ApiTest):
    def test_shape(self):
        stream = self.stream()
        subscription = self.subscribe(self.consumer(stream), position="LATEST")
        put = self.api.put(stream, "k\"ä", b"x")
        event = subscription.event()
        self.assertEqual(set(event), {"Records", "ContinuationSequenceNumber", "MillisBehindLatest"})
        self.assertEqual(set(event["Records"][0]), {"SequenceNumber", "ApproximateArrivalTimestamp", "Data", "PartitionKey"})
        self.assertEqual((event["Records"][0]["PartitionKey"], data_of(event["Records"][0])), ("k\"ä", b"x"))
        self.assertEqual(event["Records"][0]["SequenceNumber"], put["SequenceNumber"])
        self.assertEqual((event["ContinuationSequenceNumber"], event["MillisBehindLatest"]), (put["SequenceNumber"], 0))
        self.assertEqual(event["Records"], self.api.read_all(stream))

    def test_the_five_positions(self):
        stream = self.stream()
        put = []
        for number in range(4):
            put.append(self.api.put(stream, "k", b"%08d" % number)["SequenceNumber"])
            time.sleep(0.002)
        at = self.api.read_all(stream)[2]["ApproximateArrivalTimestamp"]
        for index, (position, first) in enumerate([
            ({"Type": "TRIM_HORIZON"}, 0),
            ({"Type": "AT_SEQUENCE_NUMBER", "SequenceNumber": put[1]}, 1),
            ({"Type": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": put[1]}, 2),
            ({"Type": "AT_TIMESTAMP", "Timestamp": 1}, 0),
            ({"Type": "AT_TIMESTAMP", "Timestamp": at}, 2),
        ]):  # fmt: skip
            subscription = self.subscribe(self.consumer(stream, f"c{index}"), position=position)
            self.gets(subscription, first, 4 - first)
        latest = self.subscribe(self.consumer(stream, "latest"), position="LATEST")
        self.put(stream, 4, 1)
        self.gets(latest, 4, 1)

    def test_each_record_once_and_in_order_while_they_come(self):
        stream = self.stream()
        subscribers = [self.subscribe(self.consumer(stream, f"c{n}"), position="LATEST" if n else "TRIM_HORIZON") for n in range(3)]

        def produce():
            api = self.server.client()
            self.put(stream, 0, 3000, 100, api)
            for number in range(3000, 3300):
                api.put(stream, "k", b"%08d" % number)
            api.close()

        producer = threading.Thread(target=produce)
        producer.start()
        for subscription in subscribers:
            found = self.gets(subscription, 0, 3300)
            sequence = [int(record["SequenceNumber"]) for record in found]
            self.assertEqual(sequence, sorted(set(sequence)))
            self.assertEqual(subscription.continuation, found[-1]["SequenceNumber"])
        producer.join()

    def test_a_subscriber_that_hears_nothing_hears_that(self):
        stream = self.stream()
        subscription = self.subscribe(self.consumer(stream), timeout=8)
        before = None
        for _ in range(2):
            event = subscription.event()
            self.assertEqual((event["Records"], event["MillisBehindLatest"]), ([], 0))
            self.assertNotEqual(event["ContinuationSequenceNumber"], before)
            before = event["ContinuationSequenceNumber"]
        self.put(stream, 0, 1)
        self.gets(subscription, 0, 1)
        # Where an event without records says, a reader may go on.
        after = self.api.iterator(stream, kind="AFTER_SEQUENCE_NUMBER", StartingSequenceNumber=before)
        self.assertEqual(numbers(self.api.drain(after)[0]), [0])

    def test_it_goes_on_where_another_one_stopped(self):
        stream = self.stream()
        consumer = self.consumer(stream)
        self.put(stream, 0, 300)
        subscription = self.subscribe(consumer)
        self.gets(subscription, 0, 300)
        subscription.close()
        self.put(stream, 300, 10)
        time.sleep(5.2)
        position = {"Type": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": subscription.continuation}
        self.gets(self.subscribe(consumer, position=position), 300, 10)

    def test_a_later_call_takes_over_and_an_early_one_is_refused(self):
        stream = self.stream()
        consumer, account = self.consumer(stream), self.account(stream)
        text = f"Another active subscription exists for this consumer: {account}:{stream}:{FIRST}:c"
        first = self.subscribe(consumer)
        for _ in range(2):
            with self.assertRaises(Refused) as caught:
                Subscription(self.server, consumer)
            self.assertEqual((caught.exception.status, caught.exception.type), (400, "ResourceInUseException"))
            self.assertEqual(caught.exception.text, text)
        other = self.subscribe(self.consumer(stream, "other"))
        time.sleep(5.1)
        second = self.subscribe(consumer)
        self.assertEqual(first.rest(), ([], ("ResourceInUseException", text)))
        self.put(stream, 0, 3)
        self.gets(second, 0, 3)
        self.gets(other, 0, 3)

    def test_the_end_of_a_split_shard_names_its_children(self):
        stream = self.stream()
        subscription = self.subscribe(self.consumer(stream))
        self.put(stream, 0, 5)
        self.gets(subscription, 0, 5)
        self.api.call("SplitShard", StreamName=stream, ShardToSplit=FIRST, NewStartingHashKey=str(1 << 127))
        self.assertEqual(subscription.rest(), ([], None))
        self.assertIsNone(subscription.continuation)
        self.assertEqual([child["ShardId"] for child in subscription.children], ["shardId-000000000001", "shardId-000000000002"])
        self.assertTrue(all(child["ParentShards"] == [FIRST] for child in subscription.children))
        # A closed shard is read to its end by a later one as well, and the connection serves on.
        late = self.subscribe(self.consumer(stream, "late"))
        self.assertEqual(numbers(late.rest()[0]), list(range(5)))
        self.assertEqual(len(late.children), 2)
        late.socket.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.assertIn("200 OK", late.line())

    def test_the_end_of_merged_shards_names_their_child(self):
        stream = self.stream(shards=2)
        consumer = self.consumer(stream)
        shards = [FIRST, "shardId-000000000001"]
        subscribers = [self.subscribe(consumer, shard) for shard in shards]
        self.wait_active(stream)
        self.api.call("MergeShards", StreamName=stream, ShardToMerge=shards[0], AdjacentShardToMerge=shards[1])
        for subscription in subscribers:
            self.assertEqual(subscription.rest(), ([], None))
            self.assertIsNone(subscription.continuation)
            self.assertEqual([child["ShardId"] for child in subscription.children], ["shardId-000000000002"])
            self.assertEqual(subscription.children[0]["ParentShards"], shards)

    def test_a_slow_subscriber_hinders_nobody_and_misses_nothing(self):
        stream = self.stream()
        slow = self.subscribe(self.consumer(stream, "slow"), receive_buffer=4096)
        fast = self.subscribe(self.consumer(stream, "fast"))
        count, size = 900, 40_000
        producer = threading.Thread(target=lambda: self.put(stream, 0, count, size, self.server.client()))
        producer.start()
        self.gets(fast, 0, count)
        producer.join()
        self.gets(slow, 0, count)

    def test_an_event_of_several_records_fits_its_bound(self):
        stream = self.stream(MaxRecordSizeInKiB=10_240)
        sizes = [850_000, 50_000, 50_000, 500_000, 500_000, 2_000_000, 10]
        for number, size in enumerate(sizes):
            self.api.put(stream, "k", b"%08d" % number + bytes(size))
        subscription, found = self.subscribe(self.consumer(stream)), []
        while len(found) < len(sizes):
            records = subscription.event()["Records"]
            sent = sum(len(record["Data"]) for record in records)
            self.assertTrue(len(records) < 2 or sent <= 1 << 20, (len(records), sent))
            found += records
        self.assertEqual(numbers(found), list(range(len(sizes))))

    def test_large_records(self):
        stream = self.stream(MaxRecordSizeInKiB=10_240)
        subscription = self.subscribe(self.consumer(stream))
        sizes = [10_000_000, 10, 900_000, 1_100_000, 10, 600_000, 600_000]
        for number, size in enumerate(sizes):
            self.api.put(stream, "k", b"%08d" % number + bytes(size))
        found = self.gets(subscription, 0, len(sizes))
        self.assertEqual([len(data_of(record)) - 8 for record in found], sizes)

    def test_a_consumer_or_stream_that_goes_ends_its_subscriptions(self):
        stream = self.stream()
        gone, other = self.consumer(stream, "gone"), self.consumer(stream, "other")
        subscription, second = self.subscribe(gone), self.subscribe(other)
        self.api.call("DeregisterStreamConsumer", ConsumerARN=gone)
        self.assertEqual(subscription.rest()[1][0], "ResourceNotFoundException")
        self.put(stream, 0, 3)
        self.gets(second, 0, 3)
        self.api.call("DeleteStream", StreamName=stream, EnforceConsumerDeletion=True)
        self.assertEqual(second.rest()[1][0], "ResourceNotFoundException")

    def test_what_is_wrong_is_an_ordinary_error(self):
        stream = self.stream()
        consumer = self.consumer(stream)
        right = {"ConsumerARN": consumer, "ShardId": FIRST, "StartingPosition": {"Type": "LATEST"}}
        for members, type in [
            ({"ConsumerARN": consumer.replace("/c:", "/d:")}, "ResourceNotFoundException"),
            ({"ShardId": "shardId-000000000007"}, "ResourceNotFoundException"),
            ({"ShardId": None}, "ValidationException"),
            ({"ConsumerARN": "arn"}, "ValidationException"),
            ({"StartingPosition": None}, "ValidationException"),
            ({"StartingPosition": {"Type": "SOME"}}, "ValidationException"),
            ({"StartingPosition": {"Type": "AT_SEQUENCE_NUMBER"}}, "InvalidArgumentException"),
            ({"StartingPosition": {"Type": "AT_SEQUENCE_NUMBER", "SequenceNumber": "7"}}, "InvalidArgumentException"),
            ({"StartingPosition": {"Type": "AT_TIMESTAMP"}}, "InvalidArgumentException"),
            ({"StartingPosition": {"Type": "AT_TIMESTAMP", "Timestamp": time.time() + 1000}}, "InvalidArgumentException"),
            ({"StartingPosition": "LATEST"}, "SerializationException"),
            ({"DryRun": True}, "DryRunOperationException"),
        ]:
            with self.subTest(members=members):
                error = self.refused("SubscribeToShard", **(right | members))
                self.assertEqual((error.status, error.type), (400, type), error)
        # None of them counts as a subscription.
        self.subscribe(consumer)

    def test_many_subscriptions_to_one_shard(self):
        stream = self.stream()
        subscribers = [self.subscribe(self.consumer(stream, f"c{n}")) for n in range(20)]
        self.put(stream, 0, 500, 1000)
        for subscription in subscribers:
            self.gets(subscription, 0, 500)


@unittest.skipIf(FOREIGN, "stops the server")
class OverStarts(Subscribing, Starts, unittest.TestCase):
    def begin(self, *flags):
        self.server = Appliance(*flags)
        self.addCleanup(self.server.remove)
        self.api = self.ready(self.server)
        self.api.call("CreateStream", StreamName="s", ShardCount=2)
        consumer = self.consumer("s")
        return consumer

    def again(self):
        self.api = self.ready(self.server)

    def test_records_of_an_earlier_run_are_read_from_disk_by_several(self):
        consumer = self.begin()
        others = [self.consumer("s", f"d{n}") for n in range(3)]
        self.put("s", 0, 2000, 30_000)
        self.server.stop()
        self.again()
        shard = self.api.put("s", "k", b"%08d" % 2000)["ShardId"]
        for subscription in [self.subscribe(each, shard) for each in [consumer, *others]]:
            self.gets(subscription, 0, 2001)

    def test_a_stop_ends_streams_and_a_subscriber_goes_on_after_the_start(self):
        consumer = self.begin()
        shard = self.api.put("s", "k", b"%08d" % 0)["ShardId"]
        subscription = self.subscribe(consumer, shard)
        self.gets(subscription, 0, 1)
        self.assertEqual(self.server.stop(), 0)
        self.assertEqual(subscription.rest(), ([], None))
        self.again()
        self.put("s", 1, 10)
        position = {"Type": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": subscription.continuation}
        self.gets(self.subscribe(consumer, shard, position), 1, 10)

    def test_nothing_is_missed_over_kills(self):
        consumer = self.begin()
        shard = self.api.put("s", "k", b"%08d" % 0)["ShardId"]
        found, sent = [], 1
        for life in range(3):
            position = {"Type": "TRIM_HORIZON"}
            if life:
                position = {"Type": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": found[-1]["SequenceNumber"]}
            subscription = self.subscribe(consumer, shard, position)
            self.put("s", sent, 500, 1000)
            sent += 500
            found += subscription.records(100)
            self.server.kill()
            try:
                while True:
                    found += subscription.event()["Records"]
            except (ConnectionError, ValueError, Ended):
                pass
            self.again()
        position = {"Type": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": found[-1]["SequenceNumber"]}
        subscription = self.subscribe(consumer, shard, position)
        self.put("s", sent, 1)
        while numbers(found)[-1] < sent:
            found += subscription.event()["Records"]
        self.assertEqual(numbers(found), list(range(sent + 1)))

    def test_a_shard_that_moves_is_followed(self):
        consumer = self.begin("--cores", "0,1")
        shard = self.api.put("s", "k", b"%08d" % 0)["ShardId"]
        subscribers = [self.subscribe(consumer, shard), self.subscribe(self.consumer("s", "d"), shard, "LATEST")]
        self.gets(subscribers[0], 0, 1)
        sent = 1
        for to in (1, 0, 1, 0):
            command = [BINARY, "rebalance", "--data", self.server.data, "--shard", f"s:{shard}", "--to", str(to)]
            subprocess.run(command, capture_output=True, timeout=60)
            self.put("s", sent, 50)
            for subscription in subscribers:
                self.gets(subscription, sent, 50)
            sent += 50
        self.assertGreaterEqual(self.metric("shards_moved_total"), 3)
        # From the beginning, over all that it was on.
        self.gets(self.subscribe(self.consumer("s", "e"), shard), 0, sent)

    def test_those_who_do_not_read_end_where_they_hold_the_memory_of_others(self):
        self.begin("--cores", "0")
        stream = "large"
        self.api.call("CreateStream", StreamName=stream, ShardCount=1, MaxRecordSizeInKiB=10_240)
        count, put = 30, []
        for number in range(count):
            put.append(self.api.put(stream, "k", b"%08d" % number + bytes(2 << 20))["SequenceNumber"])
        slow = []
        for index in range(12):
            position = {"Type": "AT_SEQUENCE_NUMBER", "SequenceNumber": put[index]}
            slow.append(self.subscribe(self.consumer(stream, f"slow{index}"), position=position, receive_buffer=4096))
        self.gets(self.subscribe(self.consumer(stream, "fast"), timeout=60), 0, count)
        self.assertGreater(self.metric("subscriptions_shed_total"), 0)
        self.assertGreater(self.metric("subscriptions_now"), 1, "not all of them")

    def metric(self, name):
        lines = self.api.get("/metrics")[1].splitlines()
        return sum(int(line.split()[-1]) for line in lines if line.startswith(f"penstock_{name}{{"))

    def test_an_event_is_encoded_once_for_all_who_want_it(self):
        self.begin("--cores", "0")
        shard = self.api.put("s", "k", b"%08d" % 0)["ShardId"]
        subscribers = [self.subscribe(self.consumer("s", f"e{n}"), shard) for n in range(19)]
        for subscription in subscribers:
            self.gets(subscription, 0, 1)
        encoded, sent = self.metric("events_encoded_total"), self.metric("subscription_events_total")
        for number in range(1, 51):
            self.put("s", number, 1)
            for subscription in subscribers:
                self.gets(subscription, number, 1)
        encoded, sent = self.metric("events_encoded_total") - encoded, self.metric("subscription_events_total") - sent
        self.assertGreaterEqual(sent, 50 * 19)
        self.assertLess(encoded * 4, sent, "most share theirs")

    def test_a_client_that_goes_is_seen_to_go(self):
        consumer = self.begin()
        shard = self.api.put("s", "k", b"%08d" % 0)["ShardId"]
        for _ in range(5):
            subscription = self.subscribe(consumer, shard)
            self.gets(subscription, 0, 1)
            sent = self.metric("subscription_events_total")
            subscription.close()
            self.assertTrue(eventually(lambda: self.metric("subscriptions_now") == 0))
            # One without records is due every few seconds, and may have been then.
            if self.metric("subscription_events_total") == sent:
                return
        self.fail("only an event that cannot be sent ends a subscription")

    def test_a_stream_of_http_2_that_is_reset_is_seen_to_go(self):
        consumer = self.begin()
        shard = self.api.put("s", "k", b"%08d" % 0)["ShardId"]
        position = {"Type": "LATEST"}
        body = json.dumps({"ConsumerARN": consumer, "ShardId": shard, "StartingPosition": position}).encode()
        client = frames.Connection(self.server.host, self.server.port)
        self.addCleanup(client.close)
        for _ in range(5):
            stream = client.open("SubscribeToShard", body)
            # A frame of its answer: it has begun.
            while client.streams[stream]["status"] is None:
                client.take()
            self.assertTrue(eventually(lambda: self.metric("subscriptions_now") == 1))
            sent = self.metric("subscription_events_total")
            client.send(frames.frame(frames.RST_STREAM, stream=stream, payload=bytes([0, 0, 0, 8])))
            self.assertTrue(eventually(lambda: self.metric("subscriptions_now") == 0))
            if self.metric("subscription_events_total") == sent:
                break
        else:
            self.fail("only an event that cannot be sent ends a subscription")
        # The connection goes on.
        self.assertIn("StreamNames", client.call("ListStreams"))

    def test_what_is_sent_during_a_stream_is_answered_behind_it(self):
        consumer = self.begin()
        shard = self.api.put("s", "k", b"%08d" % 0)["ShardId"]
        subscription = self.subscribe(consumer, shard)
        self.gets(subscription, 0, 1)
        subscription.socket.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /hea")
        self.api.call("SplitShard", StreamName="s", ShardToSplit=shard, NewStartingHashKey=self.middle(shard))
        self.assertEqual(subscription.rest(), ([], None))
        subscription.socket.sendall(b"lth HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for _ in range(2):
            self.assertIn("200 OK", subscription.line())
            while subscription.line():
                pass
            subscription.file.readline()

    def middle(self, shard):
        ranges = {each["ShardId"]: each["HashKeyRange"] for each in self.api.shards("s")}
        return str(sum(int(end) for end in ranges[shard].values()) // 2)

    def test_counters(self):
        consumer = self.begin()
        shard = self.api.put("s", "k", b"%08d" % 0)["ShardId"]
        subscription = self.subscribe(consumer, shard)
        self.gets(subscription, 0, 1)
        self.assertEqual((self.metric("subscriptions_now"), self.metric("subscription_records_total")), (1, 1))
        subscription.close()
        self.assertTrue(eventually(lambda: self.metric("subscriptions_now") == 0))
        self.assertEqual(self.metric("subscriptions_lost_total"), 1)
