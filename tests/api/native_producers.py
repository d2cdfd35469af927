"""Producers of the native protocol: a batch that is sent again is not stored again, whatever happened in between."""

import subprocess
import unittest

from appliance import BINARY, FOREIGN, Appliance, Starts, eventually
from native import NativeTest
from native_client import ACK, NOT_STORED, REFUSED, WELCOME, Connection
from wire import data_of

SHARD_CLOSED, UNKNOWN_PRODUCER, FENCED, OUT_OF_ORDER = 1, 10, 11, 12
MEBIBYTE = 1 << 20


def producer(id, epoch=0):
    return id << 16 | epoch


def batch(number):
    return [("k", b"batch %d" % number), ("l", b"and more")]


class Checks:
    def acked(self, answer):
        """(sequence, arrival) of an Ack."""
        self.assertEqual(answer.kind, ACK, answer.body)
        return answer.sequence, answer.arrival

    def refused_with(self, answer, code):
        self.assertEqual(answer.kind, REFUSED, (answer.kind, answer.sequence))
        self.assertEqual(answer.error()[:2], (code, NOT_STORED), answer.error())
        return answer.error()[3]


@unittest.skipIf(FOREIGN, "a protocol of penstock")
class Producers(NativeTest, Checks):
    def test_a_batch_that_is_sent_again_is_answered_as_before_and_not_stored_again(self):
        stream = self.stream()
        one = self.connect(stream, producer=producer(1))
        self.assertEqual(one.welcome.producer, producer(1))
        told = [self.acked(one.put(batch(number), number=number)) for number in range(12)]
        self.assertEqual([sequence for sequence, _ in told], [1 + 2 * number for number in range(12)])
        for connection in (one, self.connect(stream, producer=producer(1))):
            for number in (11, 4, 7, 4):
                self.assertEqual(self.acked(connection.put(batch(number), number=number)), told[number])
            for number in (3, 0, 13, 0xFFFFFFFF):
                self.refused_with(connection.put(batch(number), number=number), OUT_OF_ORDER)
        self.assertIn("two processes", self.refused_with(one.put(batch(77), number=11), OUT_OF_ORDER))
        self.assertEqual(len(self.read(stream)), 24)

    def test_numbers_begin_at_0_in_each_shard_and_each_epoch_and_an_epoch_fences_those_below(self):
        stream = self.stream(shards=2)
        old = self.connect(stream, producer=producer(2, 7))
        self.refused_with(old.put(batch(1), number=1), UNKNOWN_PRODUCER)
        for shard in (0, 1):
            self.acked(old.put(batch(0), shard, number=0))
        self.refused_with(old.put(batch(2), 1, number=2), OUT_OF_ORDER)
        new = self.connect(stream, producer=producer(2, 8))
        self.refused_with(new.put(batch(1), number=1), OUT_OF_ORDER)
        first = self.acked(new.put(batch(5), number=0))
        self.refused_with(old.put(batch(1), number=1), FENCED)
        self.refused_with(old.put(batch(0), number=0), FENCED)
        self.acked(old.put(batch(1), 1, number=1))
        self.assertEqual(self.acked(new.put(batch(5), number=0)), first)
        other = self.connect(stream, producer=producer(3))
        self.acked(other.put(batch(0), number=0))
        self.assertEqual(len(self.read(stream)), 6)

    def test_more_than_eight_unanswered_batches_of_a_shard_wait_unread_and_all_are_stored_once(self):
        stream = self.stream()
        connection = self.connect(stream, producer=producer(4))
        sent = [connection.batch(batch(number), number=number, producer=producer(4)) for number in range(300)]
        connection.socket.sendall(b"".join(sent))
        self.assertEqual([self.acked(connection.receive())[0] for _ in sent], [1 + 2 * number for number in range(300)])

    def test_a_split_answers_what_the_parent_has_and_sends_the_rest_to_its_children(self):
        stream = self.stream()
        connection = self.connect(stream, producer=producer(5))
        told = [self.acked(connection.put(batch(number), number=number)) for number in range(3)]
        self.api.call("SplitShard", StreamName=stream, ShardToSplit="shardId-000000000000", NewStartingHashKey=str(1 << 127))
        self.wait_active(stream)
        for number in (2, 0):
            self.assertEqual(self.acked(connection.put(batch(number), number=number)), told[number])
        self.refused_with(connection.put(batch(3), number=3), SHARD_CLOSED)
        again = self.connect(stream, producer=producer(5))
        self.refused_with(again.put(batch(3), 1, number=3), UNKNOWN_PRODUCER)
        for child in (1, 2):
            first = self.acked(again.put(batch(3), child, number=0))
            self.assertEqual(self.acked(again.put(batch(3), child, number=0)), first)
        self.assertEqual([len(self.read(stream, shard)) for shard in range(3)], [6, 2, 2])


@unittest.skipIf(FOREIGN, "a protocol of penstock")
class Restarts(Starts, Checks, unittest.TestCase):
    def appliance(self, *flags, cores="0,1", disk="1G"):
        server = Appliance("--cores", cores, *flags, disk=disk)
        self.addCleanup(server.remove)
        return server

    def connect(self, server, stream, id, epoch=0):
        connection = Connection(server.native)
        self.addCleanup(connection.close)
        self.assertEqual(connection.open(stream, producer=producer(id, epoch)).kind, WELCOME)
        return connection

    def stream(self, api, name, shards=1):
        api.call("CreateStream", StreamName=name, ShardCount=shards)
        status = lambda: api.call("DescribeStream", StreamName=name)["StreamDescription"]["StreamStatus"]
        self.assertTrue(eventually(lambda: status() == "ACTIVE"))

    def test_restarts_and_kills_forget_nobody(self):
        server = self.appliance()
        api = self.ready(server)
        self.stream(api, "s", shards=4)
        told = {}
        for turn, end in enumerate((server.kill, server.stop, server.kill)):
            for id in (1, 2):
                connection = self.connect(server, "s", id, epoch=3)
                for shard in range(4):
                    if turn:
                        last = turn * 3 - 1
                        self.assertEqual(self.acked(connection.put(batch(last), shard, last)), told[id, shard, last])
                    for number in range(turn * 3, turn * 3 + 3):
                        told[id, shard, number] = self.acked(connection.put(batch(number), shard, number))
            end()
            api = self.ready(server)
        connection = self.connect(server, "s", 1, epoch=2)
        self.refused_with(connection.put(batch(9), number=9), FENCED)
        for shard in range(4):
            found = api.read_all("s", f"shardId-{shard:012}")
            self.assertEqual(len(found), 2 * 9 * 2, "none of them twice")

    def test_who_sent_a_batch_is_known_when_its_segment_has_gone_and_after_a_kill_then(self):
        server = self.appliance("--when-full", "trim", cores="0", disk="513M")
        api = self.ready(server)
        self.stream(api, "s", shards=2)
        connection = self.connect(server, "s", 9)
        first = self.acked(connection.put(batch(0), number=0))
        # The log of the first shard turns over.
        records = [{"PartitionKey": "k", "ExplicitHashKey": "0", "Data": bytes(MEBIBYTE - 64)}] * 8
        for _ in range(72):
            self.assertEqual(api.call("PutRecords", StreamName="s", Records=records)["FailedRecordCount"], 0)
        oldest = lambda: api.call("GetRecords", ShardIterator=api.iterator("s", "shardId-000000000000"), Limit=1)["Records"]
        gone = lambda: not any(data_of(record).startswith(b"batch") for record in oldest())
        self.assertTrue(eventually(gone), "the first segment has not been used again")
        for _ in range(2):
            self.assertEqual(self.acked(connection.put(batch(0), number=0)), first)
            self.refused_with(connection.put(batch(2), number=2), OUT_OF_ORDER)
            server.kill()
            self.ready(server)
            connection = self.connect(server, "s", 9)

    def test_a_producer_goes_on_where_its_shard_has_moved(self):
        server = self.appliance()
        api = self.ready(server)
        self.stream(api, "s", shards=2)
        connection = self.connect(server, "s", 6)
        told = [self.acked(connection.put(batch(number), number=number)) for number in range(3)]
        from_log = connection.map[0].worker
        for turn, to in enumerate((1 - from_log, from_log, 1 - from_log)):
            move = [BINARY, "rebalance", "--data", server.data, "--shard", "s:shardId-000000000000", "--to", str(to)]
            ended = subprocess.run(move, capture_output=True, text=True, timeout=120)
            self.assertEqual(ended.returncode, 0, ended.stdout + ended.stderr)
            self.assertEqual(self.acked(connection.put(batch(2 + turn), number=2 + turn)), told[2 + turn])
            told.append(self.acked(connection.put(batch(3 + turn), number=3 + turn)))
            if turn == 1:
                server.kill()
                api = self.ready(server)
                connection = self.connect(server, "s", 6)
                self.assertEqual(self.acked(connection.put(batch(4), number=4)), told[4])
        self.assertEqual(len(api.read_all("s", "shardId-000000000000")), 12)
