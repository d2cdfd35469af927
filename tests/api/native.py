"""The native protocol, by a client that knows no more of it than its page says; what was stored is read over the Kinesis API."""

import json
import os
import pathlib
import random
import re
import resource
import shutil
import socket
import threading
import time

from appliance import TOP, ApiTest, Appliance, Starts, eventually, new_directory
from native_client import (
    ACK, BATCH, GOODBYE, HELLO, MAP, NOT_STORED, PING, PONG, PROOF, REFUSED, WELCOME, Connection, Ended, body_of, hello_body, message,
)
from wire import data_of

SPACE = 1 << 128
VECTORS = dict(re.findall(r"```vector (\S+)\n([0-9a-f\n]+)```", pathlib.Path(TOP / "src/native/PROTOCOL.md").read_text()))
SHARD_CLOSED, UNKNOWN_SHARD, TOO_LARGE, BAD_BATCH, BAD_CHECKSUM, DENIED = 1, 2, 4, 5, 6, 7
NOT_SERVED, MALFORMED, VERSION, UNKNOWN_STREAM, NOT_PROVED, STOPPING, OVERDUE, GONE, CHANGED = 22, 32, 33, 34, 35, 37, 39, 40, 41


def vector(name):
    return bytes.fromhex(VECTORS[name].replace("\n", ""))


class NativeTest(ApiTest):
    flags = ("--cores", "0,1")

    def connect(self, stream=None, **hello):
        connection = Connection(self.server.native)
        self.addCleanup(connection.close)
        if stream:
            answer = connection.open(stream, **hello)
            self.assertEqual(answer.kind, WELCOME, answer.body)
        return connection

    def says_goodbye(self, connection, code, outcome=NOT_STORED, stays=False):
        """The next message is the last one, for this reason. The server waits a little for its client to go; `stays`: in vain."""
        answer = connection.receive()
        self.assertEqual(answer.kind, GOODBYE)
        self.assertEqual(answer.error()[:2], (code, outcome), answer.error())
        if not stays:
            connection.socket.shutdown(socket.SHUT_WR)
        with self.assertRaises(Ended):
            connection.receive()

    def read(self, stream, shard=0):
        records = self.api.read_all(stream, f"shardId-{shard:012}")
        return [(record.get("PartitionKey"), data_of(record)) for record in records]


class Storing(NativeTest):
    def test_this_client_makes_the_vectors_of_the_page(self):
        two = [("N14228", b"hello"), (None, b"!")]
        made = {
            "hello": message(HELLO, hello_body("flights")),
            "hello-key": message(HELLO, hello_body("flights", "AKIAEXAMPLE1"), producer=7 << 16 | 1),
            "batch": message(BATCH, body_of(two), count=2, shard=1 << 32 | 1, number=5),
            "ping": message(PING, number=9),
            "ack": message(ACK, count=2, shard=1 << 32 | 1, number=5, sequence=40, arrival=1_790_000_000_000_000),
        }
        for name, bytes_of in made.items():
            self.assertEqual(bytes_of.hex(), vector(name).hex(), name)

    def test_the_welcome_says_what_holds_and_the_map_is_that_of_the_api(self):
        stream = self.stream(shards=5)
        connection = self.connect(stream, producer=7 << 16)
        welcome = connection.welcome
        self.assertEqual((welcome.version, welcome.features, welcome.producer), (1, 0, 7 << 16))
        self.assertEqual((welcome.largest, welcome.records, welcome.record), (12_582_848, 65_535, 1 << 20))
        self.assertEqual((welcome.workers, welcome.worker in (0, 1)), (2, True))
        shards = self.api.shards(stream)
        self.assertEqual(len(connection.map), 5)
        for number, shard in enumerate(shards):
            line, hashes = connection.map[number], shard["HashKeyRange"]
            self.assertEqual((line.state, line.parents), (1, []))
            self.assertEqual((str(line.first), str(line.last)), (hashes["StartingHashKey"], hashes["EndingHashKey"]))

    def test_a_map_of_many_shards_comes_whole(self):
        stream = self.stream(shards=200)
        connection = self.connect(stream)
        self.assertEqual(sorted(connection.map), list(range(200)))
        connection.map.clear()
        connection.ask_map()
        self.assertEqual(sorted(connection.map), list(range(200)))
        self.assertEqual(connection.put([("k", b"x")], 199).kind, ACK)

    def test_records_are_read_over_the_kinesis_api_as_they_were_sent(self):
        stream = self.stream()
        connection = self.connect(stream)
        odd = [("k", b""), (None, b"keyless"), ("ü" * 256, bytes(range(256))), ("\"\\/\n", b"\0" * 70_000), ("k", b"last")]
        answer = connection.put(odd, number=77)
        self.assertEqual((answer.kind, answer.number, answer.sequence, answer.count), (ACK, 77, 1, 5))
        self.assertEqual(self.read(stream), odd)
        self.api.put(stream, "between", b"http")
        answer = connection.put([("k", b"again")], number=0)
        self.assertEqual((answer.number, answer.sequence, answer.count), (0, 7, 1))
        records = self.api.read_all(stream)
        self.assertEqual([data_of(record) for record in records[5:]], [b"http", b"again"])
        numbers = [int(record["SequenceNumber"]) for record in records]
        self.assertEqual(numbers, sorted(set(numbers)))
        self.assertAlmostEqual(answer.arrival / 1e6, records[-1]["ApproximateArrivalTimestamp"], places=2)

    def test_batches_of_every_length_sent_ahead_are_acked_in_order_for_each_shard(self):
        stream = self.stream(shards=4)
        connection = self.connect(stream)
        draw = random.Random(4)
        sent = {shard: [] for shard in range(4)}
        batches = []
        for number in range(300):
            shard = draw.randrange(4)
            sizes = [draw.choice((0, 1, 63, 64, 200, 5_000, 40_000)) for _ in range(draw.randrange(1, 5))]
            records = [(f"key-{number}", draw.randbytes(size)) for size in sizes]
            sent[shard].append((number, records))
            batches.append(connection.batch(records, shard, number))
        sender = threading.Thread(target=connection.socket.sendall, args=(b"".join(batches),))
        sender.start()
        acked = {shard: [] for shard in range(4)}
        for _ in batches:
            answer = connection.receive()
            self.assertEqual(answer.kind, ACK)
            acked[answer.shard & 0xFFFFFFFF].append((answer.number, answer.sequence, answer.count))
        sender.join()
        for shard in range(4):
            self.assertEqual([number for number, _, _ in acked[shard]], [number for number, _ in sent[shard]])
            following = 1
            for _, first, count in acked[shard]:
                self.assertEqual(first, following)
                following += count
            self.assertEqual(self.read(stream, shard), [record for _, records in sent[shard] for record in records])

    def test_a_record_of_ten_mebibytes_is_stored_and_the_largest_batch_is(self):
        stream = self.stream(MaxRecordSizeInKiB=10_240)
        connection = self.connect(stream)
        self.assertEqual(connection.welcome.record, 10 << 20)
        large = [("k", random.Random(1).randbytes((10 << 20) - 1))]
        self.assertEqual(connection.put(large).kind, ACK)
        (read,) = self.api.call("GetRecords", ShardIterator=self.api.iterator(stream))["Records"]
        self.assertTrue(data_of(read) == large[0][1])
        body = connection.welcome.largest - 64
        full = [("k", bytes(6 << 20)), (None, bytes(body - (6 << 20) - 1 - 2 * 16 - 8))]
        self.assertEqual(len(body_of(full)), body)
        answer = connection.put(full)
        self.assertEqual((answer.kind, answer.sequence, answer.count), (ACK, 2, 2))
        self.assertEqual(connection.put([("k", b"behind")]).sequence, 4)

    def test_what_was_acked_is_there_after_a_kill(self):
        server = Appliance("--cores", "0,1").start()
        self.addCleanup(server.remove)
        api = server.client()
        api.call("CreateStream", StreamName="s", ShardCount=2)
        api.close()
        connection = Connection(server.native)
        connection.open("s")
        sent = {shard: [(f"{n}", b"%d" % n * 100) for n in range(shard, 50, 2)] for shard in (0, 1)}
        for shard, records in sent.items():
            for number, record in enumerate(records):
                connection.socket.sendall(connection.batch([record], shard, number))
        for _ in range(50):
            self.assertEqual(connection.receive().kind, ACK)
        server.kill()
        connection.close()
        server.start()
        api = server.client()
        for shard, records in sent.items():
            read = api.read_all("s", f"shardId-{shard:012}")
            self.assertEqual([(record["PartitionKey"], data_of(record)) for record in read], records)
        api.close()
        connection = Connection(server.native)
        connection.open("s")
        self.assertEqual(connection.put([("k", b"x")], 1).sequence, 26)
        connection.close()

    def test_what_it_does_is_counted(self):
        def counted(name):
            found = re.findall(rf"^penstock_{name}(?:{{.*}})? (\d+)$", self.api.get("/metrics")[1], re.MULTILINE)
            return sum(map(int, found))

        names = ("native_batches_total", "native_batches_refused_total", "records_acked_total", "native_connections_accepted_total")
        stream = self.stream()
        before = [counted(name) for name in names]
        connection = self.connect(stream)
        connection.put([("k", b"x"), ("k", b"y")])
        connection.put([("", b"x")])
        after = [counted(name) for name in names]
        self.assertEqual([b - a for a, b in zip(before, after)], [2, 1, 2, 1])

    def test_each_stage_of_a_batch_is_timed(self):
        def timed():
            text = self.api.get("/metrics")[1]
            found = re.findall(r'^penstock_stage_seconds_(count|sum){stage="(\w+)"} (\S+)$', text, re.MULTILINE)
            return {(what, stage): float(value) for what, stage, value in found}

        connection = self.connect(self.stream())
        connection.put([("k", b"x")])
        before = timed()
        for number in range(1, 20):
            connection.put([("k", b"x")], 0, number)
        # What comes in two parts has taken as long as lies between them.
        wire = connection.batch([("k", b"x")], 0, 20)
        connection.socket.sendall(wire[:100])
        time.sleep(0.3)
        connection.socket.sendall(wire[100:])
        self.assertEqual(connection.receive().kind, ACK)
        after = timed()
        more = {key: after[key] - before[key] for key in before}
        # One of the two requests for the figures counts as well: the second is parsed, the first has been sent.
        self.assertEqual([more["count", stage] for stage in ("parsed", "sent")], [21, 21])
        for stage in ("queued", "written", "durable"):
            self.assertGreaterEqual(more["count", stage], 20, stage)
        self.assertGreater(more["sum", "parsed"], 0.2)


class Resharding(NativeTest):
    def fill(self, connection, shard, stop, answers):
        """Sends batches, some ahead, until told to stop; then takes what is left."""
        number = 0
        while not stop.is_set():
            for _ in range(8):
                connection.socket.sendall(connection.batch([("k", b"%d" % number)], shard, number))
                number += 1
            answers += [connection.receive() for _ in range(8)]

    def reshard(self, stream, shards, change):
        """Fills the shards while `change` closes them; what was acked is what is there, and the map names who goes on."""
        stop, fillers = threading.Event(), []
        for shard in shards:
            connection, answers = self.connect(stream), []
            thread = threading.Thread(target=self.fill, args=(connection, shard, stop, answers))
            fillers.append((shard, connection, thread, answers))
            thread.start()
        self.assertTrue(eventually(lambda: all(len(answers) > 20 for *_, answers in fillers)))
        change()
        self.wait_active(stream)
        closed = lambda answers: answers[-1].kind == REFUSED
        self.assertTrue(eventually(lambda: all(closed(answers) for *_, answers in fillers)))
        stop.set()
        for shard, connection, thread, answers in fillers:
            thread.join()
            kinds = [answer.kind for answer in answers]
            acked = kinds.index(REFUSED)
            self.assertEqual(kinds, [ACK] * acked + [REFUSED] * (len(kinds) - acked), "nothing is stored behind a closed shard")
            self.assertEqual([answer.number for answer in answers], list(range(len(answers))))
            self.assertTrue(all(answer.error()[:2] == (SHARD_CLOSED, NOT_STORED) for answer in answers[acked:]))
            self.assertEqual(self.read(stream, shard), [("k", b"%d" % number) for number in range(acked)])
        connection = fillers[0][1]
        connection.ask_map()
        self.assertTrue(all(connection.map[shard].state == 3 for shard in shards))
        children = [line for line in connection.map.values() if set(line.parents) & set(shards)]
        for line in children:
            self.assertEqual((line.state, connection.put([("k", b"child")], line.shard).kind), (1, ACK))
            self.assertEqual(self.read(stream, line.shard), [("k", b"child")])
        return children

    def test_a_split_closes_its_parent_for_whoever_fills_it(self):
        stream = self.stream()
        split = lambda: self.api.call("SplitShard", StreamName=stream, ShardToSplit="shardId-000000000000", NewStartingHashKey=str(SPACE // 2))
        children = self.reshard(stream, [0], split)
        self.assertEqual([(line.first, line.last) for line in children], [(0, SPACE // 2 - 1), (SPACE // 2, SPACE - 1)])

    def test_a_merge_closes_both(self):
        stream = self.stream(shards=2)
        merge = lambda: self.api.call(
            "MergeShards", StreamName=stream, ShardToMerge="shardId-000000000000", AdjacentShardToMerge="shardId-000000000001"
        )
        (child,) = self.reshard(stream, [0, 1], merge)
        self.assertEqual((child.first, child.last, sorted(child.parents)), (0, SPACE - 1, [0, 1]))

    def test_the_end_of_a_stream_ends_its_connections(self):
        stream = self.stream()
        connection = self.connect(stream)
        self.assertEqual(connection.put([("k", b"x")]).kind, ACK)
        self.api.call("DeleteStream", StreamName=stream)
        connection.socket.sendall(connection.batch([("k", b"y")]))
        self.says_goodbye(connection, GONE)
        self.assertEqual(self.connect().open(stream).error()[0], UNKNOWN_STREAM)


class Beginnings(NativeTest):
    def test_a_hello_for_nothing_that_is_there_or_of_another_version_is_refused(self):
        stream = self.stream()
        self.assertEqual(self.connect().open("no-such-stream").error()[:2], (UNKNOWN_STREAM, NOT_STORED))
        self.assertEqual(self.connect().open(stream, versions=(2, 9)).error()[:2], (VERSION, NOT_STORED))
        self.assertEqual(self.connect().open(stream, versions=(1, 9)).kind, WELCOME)
        connection = self.connect()
        connection.send(HELLO, hello_body(stream), version=2)
        self.says_goodbye(connection, VERSION)
        connection = self.connect()
        connection.send(HELLO, hello_body(stream) + b"more")
        self.says_goodbye(connection, MALFORMED)

    def test_messages_in_the_wrong_place_end_the_connection(self):
        stream = self.stream()
        for kind in (BATCH, PROOF, MAP, PING, WELCOME, 2, 99):
            connection = self.connect()
            connection.send(kind)
            self.says_goodbye(connection, MALFORMED)
        for kind, body in ((HELLO, hello_body(stream)), (PROOF, bytes(32)), (ACK, b""), (WELCOME, b"")):
            connection = self.connect(stream)
            connection.send(kind, body)
            self.says_goodbye(connection, MALFORMED)

    def test_pings_are_answered(self):
        connection = self.connect(self.stream())
        for number in range(5):
            connection.send(PING, number=number)
        for number in range(5):
            answer = connection.receive()
            self.assertEqual((answer.kind, answer.number), (PONG, number))
        self.assertEqual(connection.put([("k", b"x")]).kind, ACK)

    def test_a_goodbye_and_the_end_of_a_direction_bring_what_is_owed_first(self):
        for end, gone in ((lambda c: c.send(GOODBYE), False), (lambda c: c.socket.shutdown(socket.SHUT_WR), True)):
            connection = self.connect(self.stream())
            connection.socket.sendall(b"".join(connection.batch([("k", b"x")], number=n) for n in range(60)))
            end(connection)
            self.assertEqual([connection.receive().kind for _ in range(60)], [ACK] * 60)
            self.says_goodbye(connection, 0, 0, stays=gone)

    def test_who_does_not_say_hello_in_time_is_told(self):
        connection = self.connect()
        connection.socket.sendall(vector("hello")[:40])
        self.says_goodbye(connection, OVERDUE, stays=True)

    def test_a_stop_says_goodbye_and_is_clean(self):
        server = Appliance("--cores", "0,1").start()
        self.addCleanup(server.remove)
        api = server.client()
        api.call("CreateStream", StreamName="s", ShardCount=1)
        api.close()
        connection = Connection(server.native)
        connection.open("s")
        self.assertEqual(connection.put([("k", b"x")]).kind, ACK)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        self.says_goodbye(connection, STOPPING)
        connection.close()
        stopping.join()
        self.assertEqual(server.process.returncode, 0, server.output())


class BadInput(NativeTest):
    def test_a_bad_batch_is_refused_and_the_next_one_stored(self):
        stream = self.stream()
        connection = self.connect(stream)
        good = body_of([("key", b"data")])
        key_of = lambda text: text + good[3:]
        bad = {
            "no UTF-8": (key_of(b"\xff\xfe\xfd"), BAD_BATCH),
            "an empty key": (body_of([("", b"data")]), BAD_BATCH),
            "a key of 257 characters": (body_of([("k" * 257, b"data")]), BAD_BATCH),
            "overlapping records": (body_of([("key", b"data")])[:-24] + good[-24:-8] * 2 + body_of([("k", b"")] * 2)[-8:], BAD_BATCH),
            "a record outside": (good[:-20] + b"\xff\xff\xff\xff" + good[-16:], BAD_BATCH),
            "a root elsewhere": (good[:-8] + b"\xf8\xff\xff\xff" + good[-4:], BAD_BATCH),
            "another count": (good[:-4] + b"\x02\0\0\0", BAD_BATCH),
            "no records": (b"", BAD_BATCH),
            "nothing but zeros": (bytes(1000), BAD_BATCH),
            "a record too large": (body_of([("k", bytes(1 << 20))]), TOO_LARGE),
        }
        for number, (what, (body, code)) in enumerate(bad.items()):
            count = 2 if what == "overlapping records" else 1
            connection.send(BATCH, body, count=count, shard=connection.wire_shard(0), number=number)
            answer = connection.receive()
            self.assertEqual((answer.kind, answer.number, answer.count), (REFUSED, number, count), what)
            self.assertEqual(answer.error()[:2], (code, NOT_STORED), what)
        connection.send(BATCH, good, count=1, shard=connection.wire_shard(0), body_crc=1)
        self.assertEqual(connection.receive().error()[:2], (BAD_CHECKSUM, NOT_STORED))
        connection.send(BATCH, good, count=0, shard=connection.wire_shard(0))
        self.assertEqual(connection.receive().error()[:2], (BAD_BATCH, NOT_STORED))
        connection.send(BATCH, good, count=1, shard=connection.wire_shard(9))
        self.assertEqual(connection.receive().error()[:2], (UNKNOWN_SHARD, NOT_STORED))
        self.assertEqual(connection.put([("key", b"good")]).sequence, 1)
        self.assertEqual(self.read(stream), [("key", b"good")])

    def test_a_header_that_lies_ends_the_connection_behind_the_answers_that_are_owed(self):
        stream = self.stream()
        shard = self.connect(stream).wire_shard(0)
        body = body_of([("k", b"x")])
        lies = [
            dict(header_crc=0), dict(stride=192), dict(stride=64), dict(length=1 << 30), dict(length=0xFFFFFFC0, stride=0), dict(sequence=5),
            dict(arrival=1), dict(incarnation=1), dict(producer=1 << 16), dict(shard=shard + (1 << 32)),
        ]
        for lie in lies:
            connection = self.connect(stream)
            good = connection.batch([("k", b"good")])
            connection.socket.sendall(good + message(BATCH, body, **(dict(count=1, shard=shard) | lie)) + good)
            self.assertEqual(connection.receive().kind, ACK, lie)
            self.says_goodbye(connection, MALFORMED)
        self.assertEqual(self.read(stream), [("k", b"good")] * len(lies))

    def test_garbage_disturbs_nobody(self):
        stream = self.stream()
        steady = self.connect(stream)
        draw = random.Random(8)
        for turn in range(40):
            connection = self.connect(stream if turn % 2 else None)
            junk = draw.randbytes(draw.randrange(64, 5_000))
            try:
                connection.socket.sendall((b"pf" if turn % 4 == 0 else b"") + junk)
                self.says_goodbye(connection, MALFORMED)
            except (Ended, ConnectionError):
                # The rest of the junk may come behind the end.
                pass
            self.assertEqual(steady.put([("k", b"%d" % turn)]).kind, ACK)
        connection = self.connect()
        connection.socket.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" + bytes(64))
        self.says_goodbye(connection, MALFORMED)
        self.assertEqual(self.read(stream), [("k", b"%d" % turn) for turn in range(40)])

    def test_a_flipped_bit_stores_nothing_wherever_it_is(self):
        stream = self.stream()
        draw = random.Random(3)
        for _ in range(60):
            connection = self.connect(stream)
            sent = bytearray(connection.batch([("key", draw.randbytes(300))]))
            at = draw.randrange((64 + 303 + 24) * 8)
            sent[at // 8] ^= 1 << at % 8
            connection.socket.sendall(sent)
            answer = connection.receive()
            self.assertIn((answer.kind, answer.error()[1]), ((REFUSED, NOT_STORED), (GOODBYE, NOT_STORED)), at)
            connection.close()
        self.assertEqual(self.read(stream), [])

    def test_a_batch_that_is_cut_is_not_stored_and_one_in_crumbs_is(self):
        stream = self.stream()
        draw = random.Random(5)
        for size in (100, 5_000, 100_000, 3 << 20):
            connection = self.connect(stream)
            batch = connection.batch([("cut", bytes(size // 3))] * 3)
            connection.socket.sendall(batch[: draw.randrange(1, len(batch) - 64)])
            connection.close()
        connection = self.connect(stream)
        whole = [connection.batch([("crumbs", bytes([n]) * size)]) for n, size in enumerate((10, 900, 20_000))]
        sent, at = b"".join(whole), 0
        while at < len(sent):
            step = 1 if at < 700 else draw.randrange(1, 3_000)
            connection.socket.sendall(sent[at : at + step])
            at += step
        self.assertEqual([connection.receive().sequence for _ in whole], [1, 2, 3])
        self.assertEqual(self.read(stream), [("crumbs", bytes([n]) * size) for n, size in enumerate((10, 900, 20_000))])

    def test_acks_that_nobody_reads_hold_their_own_connection_and_no_other(self):
        stream = self.stream()
        deaf, steady = self.connect(stream), self.connect(stream)
        count = 200_000
        batch = deaf.batch([("k", b"x")])
        sender = threading.Thread(target=deaf.socket.sendall, args=(batch * count,), daemon=True)
        deaf.socket.settimeout(None)
        sender.start()
        sender.join(5)
        self.assertTrue(sender.is_alive(), "the server has taken everything, though nobody reads its answers")
        for number in range(50):
            self.assertEqual(steady.put([("steady", b"y")], number=number).kind, ACK)
        # So many that their checksums would take this client a minute.
        answers = deaf._take(64 * count)
        self.assertEqual(set(answers[3::64]), {ACK})
        numbers = [int.from_bytes(answers[at : at + 8], "little") for at in range(24, len(answers), 64)]
        self.assertEqual(numbers, sorted(set(numbers)))
        self.assertEqual(len(numbers), count)
        sender.join()


class Crowd(NativeTest):
    flags = ("--cores", "0")

    def test_more_clients_than_there_are_places_for_keep_out_nobody_who_has_said_hello(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        stream = self.stream()
        steady = self.connect(stream)
        silent = []
        for _ in range(1_200):
            silent.append(Connection(self.server.native))
        # While places of silent ones are coming back it may be told to come again.
        welcome = lambda: self.connect().open(stream).kind == WELCOME
        self.assertTrue(eventually(welcome), "there is a place for who says hello")
        self.assertEqual(steady.put([("k", b"x")]).kind, ACK)
        for connection in silent:
            connection.close()
        gone = lambda: re.search(r"^penstock_native_connections_now(?:{.*})? 2$", self.api.get("/metrics")[1], re.MULTILINE)
        self.assertTrue(eventually(gone), "places come back")
        self.assertEqual(self.read(stream), [("k", b"x")])


def user(name, statement, *keys):
    policy = {"Version": "2012-10-17", "Statement": statement}
    return {"name": name, "keys": list(keys), "policies": [policy]}


ALL = {"Effect": "Allow", "Action": "*", "Resource": "*"}
OWNER = ("AKIAOWNER", "the-secret-of-the-owner")
READER = ("AKIAREADER", "the-secret-of-the-reader")
GUEST = ("ASIAGUEST", "the-secret-of-the-guest")


class SignedTest(NativeTest):
    """A server that knows these users, and who signs what is asked over the Kinesis API."""

    own = True
    SIGNER = OWNER

    @classmethod
    def setUpClass(cls):
        cls.folder = new_directory()
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.file = cls.folder / "users.json"
        cls.write_first()
        cls.server = Appliance("--credentials", str(cls.file), "--cores", "0,1").start()
        cls.addClassCleanup(cls.server.remove)

    @classmethod
    def write_users(cls, users):
        draft = cls.folder / "draft"
        draft.write_text(json.dumps({"users": users}))
        draft.chmod(0o600)
        os.replace(draft, cls.file)

    def signed(self):
        from signer import Signed, Signer

        return Signed(self.server.host, self.server.port, Signer(*self.SIGNER))

    def setUp(self):
        self.api = self.signed()
        self.addCleanup(lambda: self.api.close())

    def delete(self, name):
        api = self.signed()
        api.call("DeleteStream", StreamName=name)
        api.close()


class Access(Starts, SignedTest):
    @classmethod
    def write_first(cls):
        cls.write(OWNER[1])

    @classmethod
    def write(cls, secret):
        key = lambda of, **more: {"id": of[0], "secret": of[1], **more}
        users = [
            user("owner", ALL, key((OWNER[0], secret))),
            user("reader", {"Effect": "Allow", "Action": "kinesis:Get*", "Resource": "*"}, key(READER)),
            user("guest", ALL, key(GUEST, session_token="a-token")),
        ]
        cls.write_users(users)

    def test_the_secret_is_proved_or_nothing_is_learnt(self):
        stream = self.stream()
        connection = self.connect(stream, key=OWNER)
        self.assertEqual(connection.put([("k", b"x")]).kind, ACK)
        self.assertEqual(self.read(stream), [("k", b"x")])
        wrong = [(OWNER[0], "another-secret"), ("AKIANOBODY", OWNER[1]), ("", ""), GUEST]
        for key in wrong:
            for name in (stream, "no-such-stream"):
                self.assertEqual(self.connect().open(name, key=key).error()[:2], (NOT_PROVED, NOT_STORED), key)
        self.assertEqual(self.connect().open(stream, key=GUEST, token="a-token").kind, WELCOME)
        self.assertEqual(self.connect().open(stream, key=OWNER, token="a-token").error()[0], NOT_PROVED)
        self.assertEqual(self.connect().open("no-such-stream", key=OWNER).error()[0], UNKNOWN_STREAM)
        # Who may only read is let in, and reads.
        connection = self.connect(stream, key=READER)
        self.assertEqual(connection.put([("k", b"y")]).error()[0], DENIED)

    def test_a_proof_serves_once(self):
        stream = self.stream()
        hello = message(HELLO, hello_body(stream, OWNER[0]))
        challenges = set()
        for _ in range(10):
            connection = self.connect()
            connection.socket.sendall(hello)
            challenges.add(connection.receive().body)
            connection.close()
        self.assertEqual(len(challenges), 10)

    def test_who_was_let_in_by_a_key_that_has_changed_must_come_again(self):
        stream = self.stream()
        owner, guest = self.connect(stream, key=OWNER), self.connect(stream, key=GUEST, token="a-token")
        try:
            self.write("another-secret-of-the-owner")
            self.says_goodbye(owner, CHANGED)
            self.assertEqual(guest.put([("k", b"x")]).kind, ACK)
            self.assertEqual(self.connect().open(stream, key=OWNER).error()[0], NOT_PROVED)
            self.assertEqual(self.connect().open(stream, key=(OWNER[0], "another-secret-of-the-owner")).kind, WELCOME)
        finally:
            self.write(OWNER[1])
            back = lambda: self.connect().open(stream, key=OWNER).kind == WELCOME
            self.assertTrue(eventually(back))
