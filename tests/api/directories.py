"""Several data directories: how logs spread over them, and which starts are refused."""

import pathlib
import re
import shutil
import time
import unittest

from appliance import FOREIGN, Appliance, Starts, eventually, new_directory
import wire
from wire import data_of

MEBIBYTE = 1 << 20


def logs(directory):
    """Numbers of the logs in a data directory."""
    return sorted(int(path.name[4:]) for path in pathlib.Path(directory).glob("log-*"))


@unittest.skipIf(FOREIGN, "names data directories")
class Directories(Starts, unittest.TestCase):
    def appliance(self, further, *flags, disk="2G"):
        server = Appliance("--cores", "0", *flags, disk=disk, further=[new_directory() for _ in range(further)])
        self.addCleanup(server.remove)
        return server

    def put_some(self, api, streams):
        for name in streams:
            api.call("CreateStream", StreamName=name, ShardCount=1)
            for n in range(20):
                api.put(name, "k", b"%s %d" % (name.encode(), n))

    def check(self, api, streams):
        for name in streams:
            self.assertEqual([data_of(record) for record in api.read_all(name)], [b"%s %d" % (name.encode(), n) for n in range(20)])

    def frames(self, server, log):
        """What is printed of the segments of a log."""
        directory = next(path for path in [server.data, *server.further] if log in logs(path))
        segments = sorted((directory / f"log-{log:03}").glob("segment-??????"))
        return "".join(server.inspect("segment", f"log-{log:03}/{path.name}") for path in segments)

    def log_of(self, server, stream):
        """The log that the records of stream number `stream` lie in."""
        found = [log for path in [server.data, *server.further] for log in logs(path) if f" stream {stream} shard " in self.frames(server, log)]
        self.assertEqual(len(found), 1, f"stream {stream} is in logs {found}")
        return found[0]

    def test_streams_spread_and_directories_are_known_wherever_they_are(self):
        server = self.appliance(2)
        api = self.ready(server)
        names = ["a", "b", "c"]
        self.put_some(api, names)
        self.assertEqual([logs(path) for path in [server.data, *server.further]], [[0], [1], [2]], "one log in each, with one worker")
        self.assertEqual(server.stop(), 0)
        self.assertEqual(sorted(self.log_of(server, n) for n in range(3)), [0, 1, 2], "a new stream goes to the drive that has least")
        # The further ones change places, and one is mounted elsewhere.
        first, second = server.further
        moved = new_directory()
        moved.rmdir()
        first.rename(moved)
        server.further = [second, moved]
        api = self.ready(server)
        self.check(api, names)
        server.kill()
        shown = server.inspect("directories").splitlines()
        self.assertTrue(shown[0].startswith(f"{server.data}: directory 0 (the home); logs 0; 716 MB"), shown)
        self.assertTrue(shown[1].startswith(f"{second}: directory 2; logs 2; "), shown)
        self.assertTrue(shown[2].startswith(f"{moved}: directory 1; logs 1; "), shown)
        # Two workers instead of one: the logs move between them, the records stay where they are.
        server.flags = ["--cores", "0,1", "--disk", "2G"]
        self.check(self.ready(server), names)
        self.assertEqual([logs(path) for path in [server.data, *server.further]], [[0], [2], [1]])

    def test_a_start_without_one_is_refused_and_changes_nothing(self):
        server = self.appliance(1)
        self.put_some(self.ready(server), ["a", "b"])
        server.stop()
        gone = server.further.pop()
        names = ["superblock-0", "superblock-1"]
        before = [(server.data / name).read_bytes() for name in names]
        self.assertIn(f"directory 1 (last at {gone}) of {server.data} is missing", server.refused())
        # An empty mount point in its place is not it.
        empty = new_directory()
        server.further = [empty]
        said = server.refused()
        self.assertIn(f"directory 1 (last at {gone}) of {server.data} is missing", said)
        self.assertEqual([(server.data / name).read_bytes() for name in names], before)
        self.assertEqual([path.name for path in empty.iterdir()], ["lock"])
        self.assertIn(f"not named: directory 1; logs 1; 1.1 GB, last at {gone}", server.inspect("directories"))
        server.further = [gone]
        self.check(self.ready(server), ["a", "b"])
        shutil.rmtree(empty)

    def test_what_is_foreign_no_home_or_named_twice_is_refused(self):
        one, other = self.appliance(1), self.appliance(1)
        for server in (one, other):
            self.put_some(self.ready(server), ["a"])
            server.stop()
        mine, theirs = one.further[0], other.further[0]
        self.ready(other)
        one.further = [mine, theirs]
        self.assertIn(f"{theirs} is in use by process {other.process.pid}", one.refused())
        other.stop()
        one.further = [mine, theirs]
        said = one.refused()
        self.assertIn(f"{theirs} belongs to another penstock: it is directory 1 of the one whose home was {other.data} when it joined", said)
        one.further = [mine, other.data]
        self.assertIn(f"{other.data} holds data of a penstock but no identity", one.refused())
        one.further = [mine, mine / "../" / mine.name]
        self.assertIn("names one directory twice", one.refused())
        # A copy of a directory is not another one.
        copy = new_directory()
        shutil.copytree(mine, copy, dirs_exist_ok=True)
        one.further = [mine, copy]
        self.assertIn("the same directory", one.refused())
        shutil.rmtree(copy)
        # A further directory alone is not taken for an empty home.
        strays = Appliance("--cores", "0", disk="2G", data=mine)
        self.assertIn(f"{mine} is no home: it is directory 1 of the penstock whose home was {one.data} when it joined", strays.refused())
        (mine / "identity").rename(mine / "kept")
        self.assertIn(f"{mine} holds logs but no superblock", strays.refused())
        one.further = [mine]
        self.assertIn("no identity", one.refused())
        (mine / "kept").rename(mine / "identity")
        # And whatever was refused has harmed nothing.
        for server in (one, other):
            server.further = [mine if server is one else theirs]
            self.check(self.ready(server), ["a"])

    def test_one_that_is_added_gets_a_log_and_the_next_stream(self):
        server = self.appliance(0, disk="1G")
        api = self.ready(server)
        self.put_some(api, ["a", "b"])
        server.stop()
        added = new_directory()
        server.further, server.flags = [added], ["--cores", "0"]
        api = self.ready(server)
        self.assertIn("there are 2 logs now instead of 1", server.output())
        self.assertEqual((logs(server.data), logs(added)), ([0], [1]))
        self.check(api, ["a", "b"])
        self.put_some(api, ["c"])
        # The upper half of a shard goes to the drive that has less, as long as it has.
        api.call("SplitShard", StreamName="a", ShardToSplit="shardId-000000000000", NewStartingHashKey=str(1 << 127))
        self.assertTrue(eventually(lambda: api.call("DescribeStream", StreamName="a")["StreamDescription"]["StreamStatus"] == "ACTIVE"))
        api.call("PutRecord", StreamName="a", PartitionKey="k", ExplicitHashKey=str(1 << 127), Data=b"upper")
        api.call("PutRecord", StreamName="a", PartitionKey="k", ExplicitHashKey="0", Data=b"lower")
        server.stop()
        text = self.frames(server, 1)
        self.assertIn("stream 2 shard 0", text)
        self.assertIn("stream 0 shard 2", text)
        self.assertNotIn("stream 0 shard 1", text)
        self.check(self.ready(server), ["b", "c"])

    def test_space_is_divided_and_said_and_what_is_too_small_is_refused(self):
        server = self.appliance(1, disk="1G")
        self.ready(server)
        lines = [line for line in server.output().splitlines() if line.startswith("  device ")]
        self.assertEqual([re.sub("; .*", "", line) for line in lines], [f"  device    {path}: 1 log(s), 537 MB" for path in [server.data, *server.further]])
        self.assertIn("1.1 GB: 24 h at 12 KB/s, in 2 log(s) of 67 MB segments", server.output())
        self.assertIn(f"{server.data} and {server.further[0]} lie on one device", server.output())
        server.stop()
        server.flags = ["--cores", "0", "--disk", "1000M"]
        said = server.refused()
        self.assertRegex(said, rf"({server.data}|{server.further[0]}) would get (499|500) MiB, but needs at least 512 MiB")
        self.assertRegex(said, r"\(--disk 102[4-6]M\)")
        server.flags = ["--cores", "0", "--disk", "3G"]
        self.ready(server)
        self.assertIn(f"{server.further[0]}: 1 log(s), 1.6 GB", server.output())

    def test_one_that_is_asked_into_too_little_space_is_refused_before_records_suffer(self):
        server = self.appliance(0, disk="1100M")
        api = self.ready(server)
        api.call("CreateStream", StreamName="a", ShardCount=1)
        # Seven segments of the eight that would be left.
        for _ in range(56):
            api.call("PutRecords", StreamName="a", Records=[{"PartitionKey": "k", "Data": bytes(MEBIBYTE - 64)} for _ in range(8)])
        server.stop()
        server.further = [new_directory()]
        said = server.refused()
        self.assertRegex(said, rf"divided over 2 directories, --disk leaves {server.data} 8 segments a log, but log 0 holds [78]: give more")
        server.flags = ["--cores", "0"]
        self.assertEqual(len(self.ready(server).read_all("a")), 56 * 8)

    def test_a_drive_that_fails_takes_only_its_shards_with_it(self):
        server = self.appliance(1)
        api = self.ready(server)
        self.put_some(api, ["a", "b"])
        lost = next(name for n, name in enumerate(["a", "b"]) if self.log_of(server, n) == 1)
        kept = "b" if lost == "a" else "a"
        # What is open goes on for a while; no further segment can be made.
        # The server may be preparing a segment there meanwhile.
        for _ in range(100):
            shutil.rmtree(server.further[0] / "log-001", ignore_errors=True)
            if not (server.further[0] / "log-001").exists():
                break
            time.sleep(0.01)
        records = [{"PartitionKey": "k", "Data": bytes(MEBIBYTE - 64)} for _ in range(8)]
        for _ in range(64):
            answer = api.call("PutRecords", StreamName=lost, Records=records)
            if answer["FailedRecordCount"]:
                break
        self.assertEqual({place.get("ErrorCode") for place in answer["Records"]}, {"InternalFailure"})
        self.assertTrue(server.says(f"log 1 in {server.further[0]} has failed"))
        api.put(kept, "k", b"goes on")
        self.assertEqual(data_of(api.read_all(kept)[-1]), b"goes on")
        self.assertEqual(data_of(api.read_all(lost)[0]), f"{lost} 0".encode())
        with self.assertRaises(wire.Refused) as caught:
            api.put(lost, "k", b"x")
        self.assertEqual(caught.exception.type, "InternalFailure")
        # New streams go where they can be written, whatever has least.
        for name in ("c", "d", "e"):
            api.call("CreateStream", StreamName=name, ShardCount=1)
            api.put(name, "k", b"x")
