"""Bulk connections of the native protocol: batches in whole blocks, written from where the server receives them."""

import hashlib
import random
import socket
import unittest

from appliance import FOREIGN, Appliance, Starts, eventually
from native import NativeTest
from native_client import (
    ACK, BATCH, GOODBYE, MAP, NOT_STORED, PING, PONG, REFUSED, SUBSCRIBE, WELCOME, Connection, Ended, in_blocks, message, records_of,
)
from wire import data_of

BULK = 1
MALFORMED, BAD_BATCH, BAD_CHECKSUM, SHARD_CLOSED = 32, 5, 6, 1
# Of the server: bulk connections of one worker at once.
CONNECTIONS = 32


class BulkTest(NativeTest):
    def bulk(self, stream, **hello):
        """A connection at the worker that has the first shard: what is for another one's log is copied there."""
        for _ in range(200):
            connection = self.connect(stream, wanted=BULK, **hello)
            self.assertEqual(connection.welcome.features, BULK)
            if connection.welcome.worker == connection.map[0].worker:
                return connection
            connection.close()
        self.fail("no connection came to the worker of the first shard")

    def counted(self, name):
        text = self.api.get("/metrics")[1]
        return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(f"penstock_native_{name}"))

    def acked(self, answer):
        self.assertEqual(answer.kind, ACK, answer.body)
        return answer.sequence


@unittest.skipIf(FOREIGN, "a protocol of penstock")
class Bulk(BulkTest):
    def test_batches_of_all_sizes_are_stored_in_order_and_read_as_they_came(self):
        stream = self.stream(shards=2)
        connection = self.bulk(stream, producer=9 << 16)
        source = random.Random(7)
        sizes = [1, 3_000, 4_000, 70_000, 200_000, 100, 65_536, 300_000, 30_000, 2, 150_000, 90_000] * 2
        expected, wire = {0: [], 1: []}, []
        numbers = [0, 0]
        for at, size in enumerate(sizes):
            shard = source.randrange(2)
            records = [(f"k{at}", bytes([at]) * size), (None, b"x" * (at % 5))]
            expected[shard] += records
            wire.append(in_blocks(connection.batch(records, shard, numbers[shard]), spare=at % 3 == 0))
            numbers[shard] += 1
        before = self.counted("batches_in_place_total")
        connection.socket.sendall(b"".join(wire[:16]))
        for _ in range(16):
            self.acked(connection.receive())
        connection.socket.sendall(b"".join(wire[16:]))
        for _ in wire[16:]:
            self.acked(connection.receive())
        self.assertGreater(self.counted("batches_in_place_total"), before, "some are written from where they came")
        for shard in (0, 1):
            self.assertEqual(self.read(stream, shard), expected[shard])
        # What is sent again is known, and breaks no run.
        again = [(f"k{len(sizes) - 1}", bytes([len(sizes) - 1]) * sizes[-1]), (None, b"x" * ((len(sizes) - 1) % 5))]
        last = next(shard for shard in (0, 1) if expected[shard][-2:] == again)
        connection.socket.sendall(in_blocks(connection.batch(again, last, numbers[last] - 1)))
        self.acked(connection.receive())
        self.assertEqual(self.read(stream, last), expected[last])

    def test_a_batch_that_is_larger_than_a_buffer_and_one_over_its_end(self):
        stream = self.stream(MaxRecordSizeInKiB=10240)
        connection = self.bulk(stream)
        records = [[("k", bytes([at]) * size)] for at, size in enumerate((700_000, 700_000, 3_000_000, 500_000, 900_000))]
        connection.socket.sendall(b"".join(in_blocks(connection.batch(batch, number=at)) for at, batch in enumerate(records)))
        self.assertEqual([self.acked(connection.receive()) for _ in records], [1, 2, 3, 4, 5])
        self.assertEqual(self.read(stream), [record for batch in records for record in batch])

    def test_other_messages_come_in_blocks_too_and_what_is_no_block_ends_the_connection(self):
        stream = self.stream()
        connection = self.bulk(stream)
        connection.socket.sendall(in_blocks(message(PING, number=4)))
        self.assertEqual((connection.receive().kind), PONG)
        connection.socket.sendall(in_blocks(message(MAP)))
        connection.learn()
        connection.socket.sendall(in_blocks(message(GOODBYE)))
        self.says_goodbye(connection, 0, outcome=0)
        # A message without blocks: 64 bytes too early.
        plain = self.bulk(stream)
        plain.socket.sendall(plain.batch([("k", b"x" * 100)]) + bytes(4096))
        self.says_goodbye(plain, MALFORMED)
        # A stride that is no whole block.
        odd = self.bulk(stream)
        odd.socket.sendall(bytes(64) + message(BATCH, b"", shard=odd.wire_shard(0)) + bytes(4096))
        self.says_goodbye(odd, MALFORMED)
        self.assertEqual(self.read(stream), [])

    def test_a_flipped_bit_is_refused_and_what_follows_is_stored(self):
        stream = self.stream()
        connection = self.bulk(stream)
        batches = [[("k", bytes([at]) * 100_000)] for at in range(3)]
        wire = [bytearray(in_blocks(connection.batch(batch, number=at))) for at, batch in enumerate(batches)]
        wire[1][5_000] ^= 4
        connection.socket.sendall(b"".join(wire))
        kinds = [connection.receive() for _ in wire]
        self.assertEqual([answer.kind for answer in kinds], [ACK, REFUSED, ACK])
        self.assertEqual(kinds[1].error()[:2], (BAD_CHECKSUM, NOT_STORED))
        self.assertEqual(self.read(stream), batches[0] + batches[2])

    def test_a_client_that_goes_at_once_leaves_nothing_behind_and_others_go_on(self):
        stream = self.stream(shards=2)
        for turn in range(3 * CONNECTIONS):
            connection = Connection(self.server.native)
            self.assertEqual(connection.open(stream, wanted=BULK).kind, WELCOME)
            if turn % 4 != 3:
                # Whole batches, and the beginning of one.
                wire = b"".join(in_blocks(connection.batch([("k", bytes(80_000))], turn % 2, number)) for number in range(6))
                connection.socket.sendall(wire[:-30_000])
            if turn % 2:
                connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connection.close()
        # Places and buffers come back: as many as there may be are served at once.
        def all_served():
            served = [Connection(self.server.native) for _ in range(CONNECTIONS)]
            try:
                return all(one.open(stream, wanted=BULK).kind == WELCOME and one.welcome.features == BULK for one in served)
            finally:
                [one.close() for one in served]

        self.assertTrue(eventually(all_served))

    def test_only_so_many_are_served_in_bulk_and_the_others_without(self):
        stream = self.stream()
        connections = [self.connect(stream, wanted=BULK) for _ in range(2 * CONNECTIONS + 8)]
        features = [connection.welcome.features for connection in connections]
        self.assertIn(0, features)
        for connection in connections:
            batch = connection.batch([("k", b"from each")])
            connection.socket.sendall(in_blocks(batch) if connection.welcome.features else batch)
        for connection in connections:
            self.acked(connection.receive())
        self.assertEqual(len(self.read(stream)), len(connections))

    def test_those_who_dribble_hold_their_own_buffers_only(self):
        stream = self.stream()
        slow = [self.connect(stream, wanted=BULK) for _ in range(CONNECTIONS - 2)]
        batch = [("k", bytes(300_000))]
        for connection in slow:
            connection.socket.sendall(in_blocks(connection.batch(batch))[:200])
        quick = [connection for connection in [self.connect(stream, wanted=BULK) for _ in range(2)] if connection.welcome.features]
        self.assertTrue(quick)
        for number in range(30):
            for connection in quick:
                connection.socket.sendall(in_blocks(connection.batch(batch, number=number)))
            for connection in quick:
                self.acked(connection.receive())
        for connection in slow:
            wire = in_blocks(connection.batch(batch)) if connection.welcome.features else connection.batch(batch)
            connection.socket.sendall(wire[200:])
            if connection.welcome.features:
                self.acked(connection.receive())

    def test_who_reads_along_is_sent_what_was_received_and_the_drive_is_not_asked(self):
        cold = lambda: sum(float(line.split()[-1]) for line in self.api.get("/metrics")[1].splitlines() if line.startswith("penstock_cold_reads_total"))
        stream = self.stream()
        connection, reader = self.bulk(stream), self.connect(stream)
        reader.want(SUBSCRIBE, sequence=1, size=1 << 31)
        before, in_place = cold(), self.counted("batches_in_place_total")
        for number in range(30):
            connection.socket.sendall(in_blocks(connection.batch([("k", b"%d" % number * 80_000)], number=number)))
            self.acked(connection.receive())
            self.assertEqual(records_of(reader.receive()), [("k", b"%d" % number * 80_000)])
        self.assertEqual(self.counted("batches_in_place_total") - in_place, 30)
        # One that is late for a batch finds it on the drive.
        self.assertLess(cold() - before, 15)

    def test_a_split_refuses_in_bulk_as_elsewhere(self):
        stream = self.stream()
        connection = self.bulk(stream)
        self.api.call("SplitShard", StreamName=stream, ShardToSplit="shardId-000000000000", NewStartingHashKey=str(1 << 127))
        self.wait_active(stream)
        connection.socket.sendall(in_blocks(connection.batch([("k", bytes(100_000))])))
        answer = connection.receive()
        self.assertEqual((answer.kind, answer.error()[:2]), (REFUSED, (SHARD_CLOSED, NOT_STORED)))


@unittest.skipIf(FOREIGN, "a protocol of penstock")
class VerifiedKeys(BulkTest):
    flags = ("--cores", "0,1", "--verify-keys")

    def test_records_of_another_shard_are_refused_and_those_without_a_key_are_not(self):
        stream = self.stream(shards=3)
        connection = self.connect(stream)
        by_shard = {shard: [] for shard in range(3)}
        for number in range(120):
            key = f"key {number} " + "x" * (number % 70)
            hash = int(hashlib.md5(key.encode()).hexdigest(), 16)
            shard = next(line.shard for line in connection.map.values() if line.first <= hash <= line.last)
            by_shard[shard].append((key, b"%d" % number))
        for shard, records in by_shard.items():
            self.assertEqual(connection.put(records + [(None, b"anywhere")], shard).kind, ACK)
            other = by_shard[(shard + 1) % 3][-1]
            for place in (0, len(records) // 2, len(records)):
                answer = connection.put(records[:place] + [other] + records[place:], shard)
                self.assertEqual((answer.kind, answer.error()[:2]), (REFUSED, (BAD_BATCH, NOT_STORED)))
            self.assertEqual(self.read(stream, shard), records + [(None, b"anywhere")])


@unittest.skipIf(FOREIGN, "a protocol of penstock")
class Kills(Starts, unittest.TestCase):
    def test_what_was_acked_in_bulk_is_there_after_a_kill_and_whole(self):
        server = Appliance("--cores", "0", disk="1G")
        self.addCleanup(server.remove)
        api = self.ready(server)
        api.call("CreateStream", StreamName="s", ShardCount=1)
        self.assertTrue(eventually(lambda: api.call("DescribeStreamSummary", StreamName="s")["StreamDescriptionSummary"]["StreamStatus"] == "ACTIVE"))
        connection = Connection(server.native)
        self.addCleanup(connection.close)
        connection.open("s", wanted=BULK)
        acked = 0
        sent = [[("k", bytes([at]) * (60_000 + at * 5_000))] for at in range(40)]
        wire = [in_blocks(connection.batch(batch, number=at)) for at, batch in enumerate(sent)]
        connection.socket.sendall(b"".join(wire[:20]))
        while acked < 12:
            answer = connection.receive()
            self.assertEqual(answer.kind, ACK)
            acked += 1
        try:
            connection.socket.sendall(b"".join(wire[20:]))
        except OSError:
            pass
        server.kill()
        while True:
            try:
                acked += connection.receive().kind == ACK
            except (Ended, OSError):
                break
        api = self.ready(server)
        found = [data_of(record) for record in api.read_all("s")]
        self.assertGreaterEqual(len(found), acked)
        self.assertEqual(found, [batch[0][1] for batch in sent[: len(found)]])
