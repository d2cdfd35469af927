"""`penstock rebalance`: shards move between drives and logs of a running server, and nobody who writes or reads notices."""

import base64
import http.client
import json
import pathlib
import shutil
import subprocess
import threading
import time
import unittest

from appliance import BINARY, FOREIGN, Appliance, Starts, eventually, new_directory
from directories import logs
import wire
from wire import data_of

SHARDS = [f"shardId-{n:012}" for n in range(8)]


def in_shard(number, count):
    """A hash key of shard `number` of a stream that was made with `count`."""
    return str((1 << 128) // count * number + 5)


@unittest.skipIf(FOREIGN, "moves shards of penstock")
class Rebalance(Starts, unittest.TestCase):
    def appliance(self, further=0, *flags, disk="1G"):
        server = Appliance(*(flags or ("--cores", "0")), disk=disk, further=[new_directory() for _ in range(further)])
        self.addCleanup(server.remove)
        return server

    def rebalance(self, server, *flags, code=0):
        """What the command says."""
        ended = subprocess.run([BINARY, "rebalance", "--data", server.data, *flags], capture_output=True, text=True, timeout=120)
        self.assertEqual(ended.returncode, code, ended.stdout + ended.stderr)
        return ended.stdout + ended.stderr

    def move(self, server, stream, shard, to, code=0):
        return self.rebalance(server, "--shard", f"{stream}:{shard}", "--to", str(to), code=code)

    def stream(self, api, name, shards):
        api.call("CreateStream", StreamName=name, ShardCount=shards)
        self.active(api, name)

    def active(self, api, name):
        status = lambda: api.call("DescribeStream", StreamName=name)["StreamDescription"]["StreamStatus"]
        self.assertTrue(eventually(lambda: status() == "ACTIVE"), f"{name} does not become ACTIVE")

    def put(self, api, name, shards, texts):
        """Puts each text into each shard; the sequence numbers of the first shard's."""
        numbers = []
        for text in texts:
            for shard in range(shards):
                answer = api.put(name, "k", text, ExplicitHashKey=in_shard(shard, shards))
                self.assertEqual(answer["ShardId"], SHARDS[shard])
                if shard == 0:
                    numbers.append(answer["SequenceNumber"])
        return numbers

    def holds(self, api, name, shards, texts):
        for shard in range(shards):
            self.assertEqual([data_of(r) for r in api.read_all(name, SHARDS[shard])], texts, SHARDS[shard])

    def logs_of(self, server, stream, shard):
        """The logs in which records of a shard are, by what is in their segments."""
        found = []
        for directory in [server.data, *server.further]:
            for log in logs(directory):
                segments = sorted((pathlib.Path(directory) / f"log-{log:03}").glob("segment-??????"))
                text = "".join(server.inspect("segment", f"log-{log:03}/{path.name}") for path in segments)
                if f" stream {stream} shard {shard} " in text:
                    found.append(log)
        return found

    def test_a_drive_that_is_added_takes_its_share_and_readers_cross_over(self):
        server = self.appliance(disk="1G")
        api = self.ready(server)
        self.stream(api, "a", 4)
        before, after = [b"before %d" % n for n in range(20)], [b"after %d" % n for n in range(20)]
        numbers = self.put(api, "a", 4, before)
        server.stop()
        server.further, server.flags = [new_directory()], ["--cores", "0"]
        api = self.ready(server)
        at_tail = api.iterator("a", SHARDS[0], "LATEST")
        dry = self.rebalance(server, "--dry-run")
        self.assertIn("2 shards would be moved", dry)
        self.assertIn(f"log 1 in {server.further[0]}: 0 open shards", dry)
        done = self.rebalance(server)
        self.assertRegex(done, rf"a shardId-\d{{12}}: log 0 \({server.data}\) -> log 1 \({server.further[0]}\), in \d+ ms")
        self.assertIn("2 shards moved", done)
        self.assertIn(f"log 0 in {server.data}: 2 open shards\nlog 1 in {server.further[0]}: 2 open shards", done)
        self.assertIn("nothing is to be moved", self.rebalance(server))
        if "a shardId-000000000000:" not in done:
            self.move(server, "a", SHARDS[0], 1)
        time.sleep(0.01)
        moment = time.time()
        time.sleep(0.01)
        numbers += self.put(api, "a", 4, after)
        self.holds(api, "a", 4, before + after)
        # Each way to begin, on both sides of the move.
        texts = before + after
        for index in (0, 7, 19, 20, 33):
            for kind, skipped in (("AT_SEQUENCE_NUMBER", 0), ("AFTER_SEQUENCE_NUMBER", 1)):
                iterator = api.iterator("a", SHARDS[0], kind, StartingSequenceNumber=numbers[index])
                self.assertEqual([data_of(r) for r in api.drain(iterator)[0]], texts[index + skipped :], (index, kind))
        iterator = api.iterator("a", SHARDS[0], "AT_TIMESTAMP", Timestamp=moment)
        self.assertEqual([data_of(r) for r in api.drain(iterator)[0]], after)
        self.assertEqual([data_of(r) for r in api.drain(at_tail)[0]], after, "a reader that stood at the end of the former log")
        iterator = api.iterator("a", SHARDS[0], "LATEST")
        self.put(api, "a", 4, [b"last"])
        self.assertEqual([data_of(r) for r in api.drain(iterator)[0]], [b"last"])
        # One record at a time: no answer at the seam says that there is nothing more.
        self.assertEqual([data_of(r) for r in api.drain(api.iterator("a", SHARDS[0]), Limit=1)[0]], texts + [b"last"])
        server.stop()
        self.assertEqual(self.logs_of(server, 0, 0), [0, 1])
        self.holds(self.ready(server), "a", 4, texts + [b"last"])

    def test_a_moved_shard_is_split_and_merged_and_other_workers_find_it(self):
        server = self.appliance(1)
        api = self.ready(server)
        self.stream(api, "a", 2)
        texts = [b"%d" % n for n in range(10)]
        self.put(api, "a", 2, texts[:5])
        self.move_any(server, "a", SHARDS[0])
        self.put(api, "a", 2, texts[5:])
        api.call("SplitShard", StreamName="a", ShardToSplit=SHARDS[0], NewStartingHashKey=str(1 << 126))
        self.active(api, "a")
        api.put("a", "k", b"child", ExplicitHashKey="0")
        records, last = api.drain(api.iterator("a", SHARDS[0]))
        self.assertEqual([data_of(r) for r in records], texts)
        self.assertEqual([child["ShardId"] for child in last["ChildShards"]], SHARDS[2:4])
        self.assertIn("no open shard", self.move(server, "a", SHARDS[0], 0, code=1))
        api.call("MergeShards", StreamName="a", ShardToMerge=SHARDS[2], AdjacentShardToMerge=SHARDS[3])
        self.active(api, "a")
        # Two workers, each with one of the logs; then one with both.
        for cores in ("0,1", "0"):
            server.stop()
            server.flags = ["--cores", cores, "--disk", "1G"]
            api = self.ready(server)
            records, last = api.drain(api.iterator("a", SHARDS[0]))
            self.assertEqual([data_of(r) for r in records], texts)
            self.assertEqual([data_of(r) for r in api.read_all("a", SHARDS[1])], texts)
            self.assertEqual([data_of(r) for r in api.read_all("a", SHARDS[2])], [b"child"])
            self.move_any(server, "a", SHARDS[1])

    def move_any(self, server, stream, shard):
        """Moves a shard to the other one of logs 0 and 1."""
        for log in (0, 1):
            ended = subprocess.run(
                [BINARY, "rebalance", "--data", server.data, "--shard", f"{stream}:{shard}", "--to", str(log)], capture_output=True, text=True
            )
            if ended.returncode == 0:
                return ended.stdout
            self.assertIn("already", ended.stdout + ended.stderr)
        self.fail("the shard is on both logs")

    def test_writers_and_readers_go_on_while_shards_move_and_the_server_is_killed(self):
        server = self.appliance(1, "--cores", "0,1")
        api = self.ready(server)
        self.stream(api, "a", 8)
        acked, sent, refused, ending = {shard: [] for shard in SHARDS}, [], [], threading.Event()

        def produce(number):
            client, n = server.client(), 0
            while not ending.is_set():
                text, n = b"%d %d %d" % (life, number, n), n + 1
                sent.append(text)
                try:
                    answer = client.call("PutRecord", StreamName="a", PartitionKey="k", Data=text, ExplicitHashKey=in_shard(n % 8, 8))
                    acked[answer["ShardId"]].append((int(answer["SequenceNumber"]), text))
                except wire.Refused as error:
                    refused.append(error)
                except (OSError, http.client.HTTPException):
                    return

        def move():
            try:
                for shard in SHARDS:
                    for _ in range(2):
                        self.move_any(server, "a", shard)
            except AssertionError:
                # The server was killed meanwhile.
                pass

        for life in range(3):
            threads = [threading.Thread(target=produce, args=[number]) for number in range(2)] + [threading.Thread(target=move)]
            [thread.start() for thread in threads]
            moved = lambda: server.output().count("goes on in log")
            self.assertTrue(eventually(lambda: moved() >= 4), server.output())
            server.kill()
            ending.set()
            [thread.join() for thread in threads]
            ending.clear()
            api = self.ready(server)
            for shard in SHARDS:
                # Readers cross from log to log; a put that was cut off may be there, once.
                records = api.read_all("a", shard)
                numbers = [int(record["SequenceNumber"]) for record in records]
                self.assertEqual(numbers, sorted(set(numbers)))
                found = {int(record["SequenceNumber"]): data_of(record) for record in records}
                self.assertEqual([pair for pair in acked[shard] if found.get(pair[0]) != pair[1]], [])
                self.assertEqual(len(set(found.values())), len(records), "a record twice")
                self.assertLessEqual(set(found.values()), set(sent))
        self.assertEqual(refused, [], "a put to a moving shard waits")
        self.active(api, "a")

    def test_a_directory_is_emptied_of_open_shards_and_what_cannot_be_done_is_said(self):
        server = self.appliance(1)
        api = self.ready(server)
        self.stream(api, "a", 3)
        self.stream(api, "b", 2)
        self.put(api, "a", 3, [b"1"])
        done = self.rebalance(server, "--away", server.data)
        self.assertIn(f"log 0 in {server.data}: 0 open shards\nlog 1 in {server.further[0]}: 5 open shards", done)
        self.put(api, "a", 3, [b"2"])
        self.holds(api, "a", 3, [b"1", b"2"])
        self.assertIn("is no data directory of this server", self.rebalance(server, "--away", "/tmp", code=1))
        self.assertIn("there is no log 7: logs are 0 to 1", self.move(server, "a", SHARDS[0], 7, code=1))
        self.assertIn("is on log 1 already", self.move(server, "a", SHARDS[0], 1, code=1))
        self.assertIn("not found", self.move(server, "nowhere", SHARDS[0], 0, code=1))
        self.assertIn("1 --shard and 2 --to", self.rebalance(server, "--shard", "a:0", "--to", "0", "--to", "1", code=1))
        # A shard that was never written to has no former log; eight are kept track of.
        for n in range(9):
            api.put("b", "k", b"%d" % n, ExplicitHashKey="0")
            said = self.move(server, "b", SHARDS[0], n % 2, code=int(n == 8))
        self.assertIn("its records are on 8 former logs", said)
        self.assertEqual([data_of(r) for r in api.read_all("b", SHARDS[0])], [b"%d" % n for n in range(9)])

    def test_only_the_key_moves_shards(self):
        server = self.appliance()
        self.ready(server)
        connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
        self.addCleanup(connection.close)
        key = (server.data / "admin").read_text().split()[1]
        for authorization, body, status in [
            ("Penstock " + "0" * 32, "{}", 403),
            (None, "{}", 403),
            ("Penstock " + key, "{", 400),
            ("Penstock " + key, '{"moves": [{"stream": "a"}]}', 400),
            ("Penstock " + key, '{"moved": []}', 400),
            ("Penstock " + key, "", 200),
        ]:
            headers = {"Authorization": authorization} if authorization else {}
            connection.request("POST", "/admin/rebalance", body, headers)
            answer = connection.getresponse()
            text = answer.read()
            self.assertEqual(answer.status, status, (authorization, body, text))
            if status == 200:
                self.assertEqual(json.loads(text)["moved"], [])

    def test_a_shard_over_two_logs_is_exported_and_restored_in_order_once(self):
        server = self.appliance(0, "--cores", "0,1", disk="2G")
        api = self.ready(server)
        self.stream(api, "a", 2)
        texts = [b"%d" % n for n in range(12)]
        for n in range(0, 12, 3):
            self.put(api, "a", 2, texts[n : n + 3])
            self.move_any(server, "a", SHARDS[0])
        scratch = new_directory()
        self.addCleanup(shutil.rmtree, scratch, True)
        taken = subprocess.run([BINARY, "snapshot", scratch / "s", "--data", server.data], capture_output=True, text=True, timeout=120)
        self.assertEqual(taken.returncode, 0, taken.stderr)
        server.stop()
        for directory in (server.data, scratch / "s"):
            ended = subprocess.run([BINARY, "export", directory, "--stream", "a"], capture_output=True, text=True, timeout=120)
            self.assertEqual(ended.returncode, 0, ended.stderr)
            lines = [json.loads(line) for line in ended.stdout.splitlines()]
            for shard in SHARDS[:2]:
                of = [base64.b64decode(line["data"]) for line in lines if line["shardId"] == shard]
                self.assertEqual(of, texts, (directory, shard))
        restored = Appliance("--cores", "0,1", disk=None, data=scratch / "d")
        self.addCleanup(restored.remove)
        made = subprocess.run([BINARY, "restore", scratch / "s", scratch / "d"], capture_output=True, text=True, timeout=120)
        self.assertEqual(made.returncode, 0, made.stderr)
        api = self.ready(restored)
        self.put(api, "a", 2, [b"more"])
        self.holds(api, "a", 2, [*texts, b"more"])
