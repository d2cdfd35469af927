"""Reads and subscriptions over the native protocol, by a client that knows no more of it than its page says."""

import random
import re
import threading
import time

import native
from appliance import Appliance, eventually
from native import DENIED, GONE, SHARD_CLOSED, SPACE, UNKNOWN_SHARD
from native_client import ACK, BATCH, LATEST, PING, PONG, READ, REFUSED, SUBSCRIBE, Connection, records_of

ENDED, UNREADABLE, BUSY = 0, 20, 21
FIRST = "shardId-000000000000"


def flat(batches):
    return [record for batch in batches for record in records_of(batch)]


class ReadingTest(native.NativeTest):
    def both_workers(self, stream):
        """A connection at each worker, in their order."""
        found = {}
        while len(found) < 2:
            connection = self.connect(stream)
            found.setdefault(connection.welcome.worker, connection)
        return [found[0], found[1]]

    def takes(self, connection, count):
        """Records of the next batches, `count` of them."""
        found = []
        while len(found) < count:
            came = connection.receive()
            self.assertEqual(came.kind, BATCH, came.body)
            found += records_of(came)
        return found

    def metric(self, name):
        found = re.findall(rf"^penstock_{name}(?:{{.*}})? (\d+)$", self.api.get("/metrics")[1], re.MULTILINE)
        return sum(map(int, found))


class Reading(ReadingTest):
    def test_a_read_gives_batches_as_they_were_stored_at_whichever_worker(self):
        stream = self.stream(shards=4)
        draw = random.Random(1)
        sent = {shard: [] for shard in range(4)}
        writer = self.connect(stream)
        for number in range(200):
            shard = draw.randrange(4)
            batch = [(f"k{number}", draw.randbytes(draw.choice((0, 1, 100, 5_000)))) for _ in range(draw.randrange(1, 4))]
            self.assertEqual(writer.put(batch, shard, number).kind, ACK)
            sent[shard].append((number, batch))
        for connection in self.both_workers(stream):
            for shard in range(4):
                batches, done = connection.read(shard, size=1 << 30)
                self.assertEqual(done.done(), (ENDED, 1 + sum(len(batch) for _, batch in sent[shard]), 0))
                self.assertEqual([(batch.number, records_of(batch)) for batch in batches], sent[shard])
                self.assertTrue(all(batch.shard == connection.wire_shard(shard) for batch in batches))
                following = 1
                for batch in batches:
                    self.assertEqual(batch.sequence, following)
                    self.assertAlmostEqual(batch.arrival / 1e6, time.time(), delta=60)
                    following += batch.count

    def test_bounds_of_a_read(self):
        stream = self.stream()
        connection = self.connect(stream)
        for number in range(10):
            connection.put([("k", b"%d" % number * 100)] * 3)
        size = 64 + (3 * 101 + 3 * 16 + 8 + 63) // 64 * 64
        for wanted, batches in ((0, 1), (1, 1), (size, 1), (2 * size - 1, 1), (2 * size, 2), (5 * size + 63, 5), (1 << 31, 10)):
            found, done = connection.read(size=wanted)
            self.assertEqual((len(found), done.done()[:2]), (batches, (ENDED, 1 + 3 * batches)), wanted)
        for records, batches in ((1, 1), (3, 1), (4, 1), (6, 2), (29, 9), (30, 10), (1_000, 10)):
            found, done = connection.read(count=records)
            self.assertEqual((len(found), done.done()[:2]), (batches, (ENDED, 1 + 3 * batches)), records)
        # The batch that has number 5 begins with 4.
        found, done = connection.read(sequence=5, count=1)
        self.assertEqual((found[0].sequence, done.sequence), (4, 7))
        self.assertEqual(connection.read(sequence=31)[1].done(), (ENDED, 31, 0))
        for records in (0, 1, (1 << 32) - 1):
            self.assertEqual(connection.read(sequence=LATEST, count=records)[1].done(), (ENDED, 31, 0))
        at = connection.read(sequence=13, count=1)[0][0].arrival
        found, done = connection.read(floor=at)
        self.assertTrue(found and all(batch.arrival >= at for batch in found))
        self.assertEqual(done.sequence, 31)

    def test_more_than_one_answer_holds_is_read_by_going_on(self):
        stream = self.stream(MaxRecordSizeInKiB=10_240)
        connection = self.connect(stream)
        draw = random.Random(2)
        sent = [[("k", draw.randbytes(size))] for size in (900_000, 10, 300_000, 5 << 20, 1, 1, 10_000_000, 64, 400_000, 800_000)]
        for batch in sent:
            self.assertEqual(connection.put(batch).kind, ACK)
        for size in (1, 1 << 20, 7 << 20, 1 << 30):
            found, next = [], 0
            while True:
                batches, done = connection.read(sequence=next, size=size)
                self.assertEqual(done.done()[0], ENDED)
                if not batches:
                    break
                found += batches
                next = done.sequence
            self.assertTrue([records_of(batch) for batch in found] == sent, size)

    def test_what_cannot_be_read_is_said(self):
        stream = self.stream()
        connection = self.connect(stream)
        self.assertEqual(connection.read(7, sequence=3)[1].done(), (UNKNOWN_SHARD, 3, 0))
        connection.want(SUBSCRIBE, 0)
        connection.want(READ, 0, sequence=9)
        self.assertEqual(connection.receive().done(), (BUSY, 9, 0))
        connection.unsubscribe(0)
        self.assertEqual(connection.receive().done(), (ENDED, 0, 0))
        # Behind the end: of a subscription that is not there nothing is said.
        connection.unsubscribe(0)
        connection.credit(1_000, 0)
        connection.credit(1_000, 9)
        self.assertEqual(connection.read(0)[1].done(), (ENDED, 0, 0))
        for kind, body in ((READ, b""), (READ, bytes(17)), (SUBSCRIBE, bytes(8)), (83, bytes(4))):
            connection = self.connect(stream)
            connection.send(kind, body, shard=connection.wire_shard(0))
            self.says_goodbye(connection, 32)

    def test_what_was_put_over_the_kinesis_api_is_read_natively(self):
        stream = self.stream()
        puts = [self.api.put(stream, f"ü{n}", b"%d" % n) for n in range(5)]
        records = [{"PartitionKey": f"p{n}", "Data": b"x" * n} for n in range(50)]
        self.api.call("PutRecords", StreamName=stream, Records=records)
        found, done = self.connect(stream).read()
        self.assertEqual(flat(found), [(f"ü{n}", b"%d" % n) for n in range(5)] + [(f"p{n}", b"x" * n) for n in range(50)])
        self.assertEqual((done.sequence, len(puts)), (56, 5))


class Subscribing(ReadingTest):
    def test_batches_come_as_they_become_durable_at_whichever_worker(self):
        stream = self.stream(shards=2)
        writer, readers = self.connect(stream), self.both_workers(stream)
        for shard in (0, 1):
            writer.put([("old", b"%d" % shard)], shard)
        for reader in readers:
            reader.want(SUBSCRIBE, 0)
            self.assertEqual(self.takes(reader, 1), [("old", b"0")])
            _, done = reader.read(1, sequence=LATEST)
            reader.want(SUBSCRIBE, 1, sequence=done.sequence)
        before = self.metric("native_batches_read_total")
        for number in range(100):
            shard = number % 2
            self.assertEqual(writer.put([("k", b"%d" % number)], shard, number).kind, ACK)
            for reader in readers:
                came = reader.receive()
                self.assertEqual((came.kind, came.number, came.shard & 1, records_of(came)), (BATCH, number, shard, [("k", b"%d" % number)]))
        self.assertEqual(self.metric("native_batches_read_total") - before, 200)
        self.assertGreater(self.delivered(), 190)
        for reader in readers:
            reader.unsubscribe(1)
            self.assertEqual(reader.receive().done(), (ENDED, 52, 0))
        writer.put([("k", b"unheard")], 1)
        writer.put([("k", b"heard")], 0)
        for reader in readers:
            self.assertEqual(self.takes(reader, 1), [("k", b"heard")])
            # It may be read again, from where it was left.
            reader.want(SUBSCRIBE, 1, sequence=52)
            self.assertEqual(self.takes(reader, 1), [("k", b"unheard")])

    def delivered(self):
        found = re.findall(r'^penstock_\w+_count{[^}]*"delivered"[^}]*} (\d+)$', self.api.get("/metrics")[1], re.MULTILINE)
        self.assertTrue(found)
        return sum(map(int, found))

    def test_latest_is_behind_what_was_there_and_from_then_on_everything_comes(self):
        stream = self.stream()
        writer, readers = self.connect(stream), self.both_workers(stream)
        for number in range(50):
            writer.put([("old", b"%d" % number)], number=number)
        for reader in readers:
            reader.want(SUBSCRIBE, sequence=LATEST)
            reader.socket.settimeout(0.05)
        first, sent = {}, 50
        while len(first) < 2:
            self.assertEqual(writer.put([("new", b"x")], number=sent).kind, ACK)
            sent += 1
            for at, reader in enumerate(readers):
                try:
                    if at not in first:
                        first[at] = reader.receive().number
                except TimeoutError:
                    pass
        for at, reader in enumerate(readers):
            reader.socket.settimeout(60)
            self.assertGreaterEqual(first[at], 50)
            self.assertEqual([reader.receive().number for _ in range(first[at] + 1, sent)], list(range(first[at] + 1, sent)))

    def test_a_subscription_of_every_shard_of_many_gives_each_its_own_in_order(self):
        stream = self.stream(shards=40)
        writer, readers = self.connect(stream), self.both_workers(stream)
        for shard in range(0, 40, 2):
            writer.put([("k", b"before")], shard)
        for reader in readers:
            for shard in range(40):
                reader.want(SUBSCRIBE, shard)
        draw = random.Random(3)
        sent = {shard: [] if shard % 2 else [("k", b"before")] for shard in range(40)}
        for number in range(600):
            shard = draw.randrange(40)
            sent[shard].append(("k", b"%d" % number))
            writer.put(sent[shard][-1:], shard, number)
        for reader in readers:
            found = {shard: [] for shard in range(40)}
            while sum(map(len, found.values())) < 620:
                came = reader.receive()
                self.assertEqual(came.kind, BATCH)
                found[came.shard & 0xFFFF] += records_of(came)
            self.assertEqual(found, sent)

    def test_credit_is_kept_to(self):
        stream = self.stream()
        writer, reader = self.connect(stream), self.connect(stream)
        for number in range(20):
            writer.put([("k", b"%d" % number)])
        reader.want(SUBSCRIBE, size=0)
        reader.credit(1)
        self.assertEqual(len(self.takes(reader, 1)), 1)
        # A batch of 128 bytes took more than there was: it is paid for first.
        for more, count in ((127, 0), (1, 1), (127, 0), (128, 1), (129, 2)):
            reader.credit(more)
            self.assertEqual(len(self.takes(reader, count)), count)
            reader.send(PING, number=more)
            self.assertEqual(reader.receive().kind, PONG, more)
        reader.credit(1 << 31)
        reader.credit((1 << 32) - 1)
        self.assertEqual(self.takes(reader, 15)[-1], ("k", b"19"))
        writer.put([("k", b"more")])
        self.assertEqual(self.takes(reader, 1), [("k", b"more")])

    def test_who_stops_reading_holds_little_and_nobody_else(self):
        stream = self.stream(shards=8)
        writer, steady = self.connect(stream), self.connect(stream)
        deaf = [self.connect(stream) for _ in range(4)]
        for connection in [*deaf, steady]:
            for shard in range(8):
                connection.want(SUBSCRIBE, shard, size=1 << 31)
        body = bytes(900_000)
        for number in range(160):
            shard = number % 8
            self.assertEqual(writer.put([("k", body + b"%d" % number)], shard, number).kind, ACK)
            self.assertEqual(steady.receive().number, number)
        # All of it, when they read at last: it waited in the log.
        found = {shard: [] for shard in range(8)}
        for _ in range(160):
            came = deaf[0].receive()
            found[came.shard & 7].append(came.number)
        self.assertEqual(found, {shard: list(range(shard, 160, 8)) for shard in range(8)})

    def test_the_end_of_a_shard_is_told_behind_its_last_batch(self):
        stream = self.stream()
        writer, readers = self.connect(stream), self.both_workers(stream)
        for reader in readers:
            reader.want(SUBSCRIBE)
        sent = [("k", b"%d" % number) for number in range(30)]
        for number, record in enumerate(sent):
            writer.put([record], number=number)
        self.api.call("SplitShard", StreamName=stream, ShardToSplit=FIRST, NewStartingHashKey=str(SPACE // 2))
        self.wait_active(stream)
        for reader in readers:
            batches, done = reader.until_done()
            self.assertEqual((flat(batches), done.done()), (sent, (SHARD_CLOSED, 31, 0)))
            batches, done = reader.read(sequence=29)
            self.assertEqual((flat(batches), done.done()), (sent[28:], (SHARD_CLOSED, 31, 0)))
            self.assertEqual(reader.read(sequence=31)[1].done(), (SHARD_CLOSED, 31, 0))
            reader.want(SUBSCRIBE, sequence=LATEST)
            self.assertEqual(reader.receive().done(), (SHARD_CLOSED, 31, 0))
            reader.ask_map()
            for child in (1, 2):
                reader.want(SUBSCRIBE, child)
        for child in (1, 2):
            writer.put([("child", b"%d" % child)], child)
            for reader in readers:
                self.assertEqual(self.takes(reader, 1), [("child", b"%d" % child)])

    def test_the_end_of_the_stream_ends_the_connection(self):
        stream = self.stream()
        readers = self.both_workers(stream)
        for reader in readers:
            reader.want(SUBSCRIBE)
        self.api.call("DeleteStream", StreamName=stream)
        for reader in readers:
            self.says_goodbye(reader, GONE)

    def test_readers_that_go_leave_nothing_behind(self):
        stream = self.stream(shards=8)
        before = self.metric("native_readers_now")
        for turn in range(40):
            connection = self.connect(stream)
            for shard in range(8):
                connection.want(SUBSCRIBE, shard, sequence=LATEST if turn % 3 else 0)
            if turn % 2:
                connection.read(0)
            connection.close()
        self.assertTrue(eventually(lambda: self.metric("native_readers_now") == before))

    def test_a_shard_that_is_read_already_is_busy(self):
        stream = self.stream(shards=4)
        connection = self.connect(stream)
        for _ in range(3):
            for shard in range(4):
                connection.want(SUBSCRIBE, shard)
        busy = [connection.receive().done() for _ in range(8)]
        self.assertEqual(busy, [(BUSY, 0, 0)] * 8)


class Restarting(ReadingTest):
    own = True
    flags = ("--cores", "0,1")

    def own_server(self, *flags, **options):
        server = Appliance(*(flags or self.flags), **options).start()
        self.addCleanup(server.remove)
        return server

    def test_after_a_kill_a_reader_goes_on_where_it_was_from_disk(self):
        server = self.own_server()
        api = server.client()
        api.call("CreateStream", StreamName="s", ShardCount=2)
        api.close()
        connection = Connection(server.native)
        connection.open("s")
        draw = random.Random(4)
        sent = {0: [], 1: []}
        for number in range(100):
            batch = [(f"{number}", draw.randbytes(draw.choice((10, 3_000, 60_000)))) for _ in range(3)]
            self.assertEqual(connection.put(batch, number % 2, number).kind, ACK)
            sent[number % 2] += batch
        half, done = connection.read(0, count=75)
        server.kill()
        connection.close()
        server.start()
        connection = Connection(server.native)
        connection.open("s")
        self.addCleanup(connection.close)
        rest, _ = connection.read(0, sequence=done.sequence, size=1 << 30)
        self.assertTrue(flat(half) + flat(rest) == sent[0])
        connection.want(SUBSCRIBE, 1, size=1 << 30)
        self.assertTrue(self.takes(connection, 150) == sent[1])
        connection.put([("new", b"x")], 1)
        while (came := connection.receive()).kind == ACK:
            pass
        self.assertEqual(records_of(came), [("new", b"x")])

    def test_a_stop_ends_subscriptions_with_goodbye(self):
        server = self.own_server()
        api = server.client()
        api.call("CreateStream", StreamName="s", ShardCount=2)
        api.close()
        connection = Connection(server.native)
        connection.open("s")
        connection.want(SUBSCRIBE, 0)
        connection.want(SUBSCRIBE, 1)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        self.says_goodbye(connection, 37)
        connection.close()
        stopping.join()
        self.assertEqual(server.process.returncode, 0, server.output())

    def test_damage_is_told_with_where_it_ends(self):
        server = self.own_server("--cores", "0")
        api = server.client()
        api.call("CreateStream", StreamName="s", ShardCount=1)
        connection = Connection(server.native)
        connection.open("s")
        for number in range(30):
            self.assertEqual(connection.put([("k", b"needle-%02d" % number + bytes(3_000))] * 2, number=number).kind, ACK)
        connection.close()
        api.close()
        server.stop()
        (file,) = [path for path in (server.data / "log-000").glob("segment-*") if b"needle-07" in path.read_bytes()]
        with open(file, "r+b") as segment:
            segment.seek(file.read_bytes().index(b"needle-07") + 100)
            segment.write(b"\xff")
        server.start()
        connection = Connection(server.native)
        connection.open("s")
        self.addCleanup(connection.close)
        numbers = lambda batches: [batch.number for batch in batches]
        for kind in (READ, SUBSCRIBE):
            connection.want(kind, size=1 << 30)
            before, done = connection.until_done()
            self.assertEqual((numbers(before), done.done()[:2]), (list(range(7)), (UNREADABLE, 17)))
        behind, done = connection.read(sequence=17, size=1 << 30)
        self.assertEqual((numbers(behind), done.done()[:2]), (list(range(8, 30)), (ENDED, 61)))
        self.assertTrue(server.says("DAMAGE"), server.output())

    def test_a_shard_that_moves_is_read_on(self):
        from rebalance import Rebalance

        server = self.own_server()
        api = server.client()
        self.addCleanup(api.close)
        api.call("CreateStream", StreamName="s", ShardCount=2)
        writer = Connection(server.native)
        writer.open("s")
        readers = {}
        while len(readers) < 2:
            reader = Connection(server.native)
            self.addCleanup(reader.close)
            reader.open("s")
            readers.setdefault(reader.welcome.worker, reader)
        for reader in readers.values():
            for shard in (0, 1):
                reader.want(SUBSCRIBE, shard, size=1 << 30)
        sent = 0
        for turn in range(4):
            for number in range(10):
                answer = writer.put([("k", b"%d" % sent)], 0, sent)
                self.assertEqual(answer.kind, ACK, answer.body)
                sent += 1
            log = 1 - writer.map[0].worker
            Rebalance.rebalance(self, server, "--shard", "s:shardId-000000000000", "--to", str(log))
            writer.ask_map()
            self.assertEqual(writer.map[0].worker, log)
        for reader in readers.values():
            self.assertEqual(self.takes(reader, sent), [("k", b"%d" % number) for number in range(sent)])
            writer.put([("k", b"behind")], 0)
            self.assertEqual(self.takes(reader, 1)[0][0], "k")


class Access(native.SignedTest):
    """Who may read, and who may only read."""

    KEYS = {name: (f"AKIA{name.upper()}", f"the-secret-of-the-{name}") for name in ("owner", "reader", "subscriber", "writer", "nobody")}
    SIGNER = KEYS["owner"]

    @classmethod
    def write_first(cls):
        cls.write("kinesis:SubscribeToShard")

    @classmethod
    def write(cls, subscriber):
        """The credentials, where the subscriber may do this."""
        actions = {"owner": "*", "reader": "kinesis:GetRecords", "subscriber": subscriber, "writer": "kinesis:PutRecords", "nobody": "kinesis:ListStreams"}
        key = lambda name: {"id": cls.KEYS[name][0], "secret": cls.KEYS[name][1]}
        cls.write_users([native.user(name, {"Effect": "Allow", "Action": action, "Resource": "*"}, key(name)) for name, action in actions.items()])

    def test_each_may_do_what_its_policies_allow(self):
        stream = self.stream()
        self.assertEqual(self.connect(stream, key=self.KEYS["owner"]).put([("k", b"x")]).kind, ACK)
        self.assertEqual(self.connect().open(stream, key=self.KEYS["nobody"]).error()[0], DENIED)
        for name, puts, reads, subscribes in (("reader", False, True, False), ("subscriber", False, False, True), ("writer", True, False, False)):
            connection = self.connect(stream, key=self.KEYS[name])
            answer = connection.put([("k", b"y")])
            self.assertEqual(answer.kind, ACK if puts else REFUSED, name)
            self.assertTrue(puts or answer.error()[0] == DENIED)
            self.assertEqual(connection.read(count=1)[1].done()[0], ENDED if reads else DENIED, name)
            connection.want(SUBSCRIBE, 0, sequence=LATEST)
            connection.unsubscribe(0)
            self.assertEqual(connection.receive().done()[0], ENDED if subscribes else DENIED, name)

    def test_a_right_that_is_withdrawn_ends_subscriptions_and_not_the_connection(self):
        stream = self.stream()
        connection = self.connect(stream, key=self.KEYS["subscriber"])
        connection.want(SUBSCRIBE, 0)
        try:
            self.write("kinesis:GetRecords")
            self.assertEqual(connection.receive().done()[0], DENIED)
            self.assertEqual(connection.read(0)[1].done()[0], ENDED)
        finally:
            self.write("kinesis:SubscribeToShard")

            def may_again():
                connection.want(SUBSCRIBE, 0)
                connection.unsubscribe(0)
                return connection.receive().done()[0] == ENDED

            self.assertTrue(eventually(may_again))
