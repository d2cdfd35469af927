"""Data directories with two halves: either may be lost, and is rebuilt while the server runs."""

import contextlib
import os
import pathlib
import shutil
import subprocess
import unittest

from appliance import BINARY, FOREIGN, Appliance, Starts, eventually, new_directory
from wire import data_of

STREAM = "both"


@unittest.skipIf(FOREIGN, "loses drives of penstock")
class Mirror(Starts, unittest.TestCase):
    def setUp(self):
        self.second = pathlib.Path(new_directory())
        self.addCleanup(shutil.rmtree, self.second, True)
        self.server = Appliance("--cores", "0", "--mirror", str(self.second))
        self.addCleanup(self.server.remove)
        self.first = pathlib.Path(self.server.data)
        self.texts = []

    def begin(self):
        api = self.ready(self.server)
        api.call("CreateStream", StreamName=STREAM, ShardCount=1)
        self.put(api, 50)
        return api

    def put(self, api, count):
        for _ in range(count):
            self.texts.append(b"%d" % len(self.texts))
            api.put(STREAM, "key %d" % len(self.texts), self.texts[-1])

    def check(self, api):
        self.assertEqual(sorted(data_of(record) for record in api.read_all(STREAM)), sorted(self.texts))

    def again(self, *flags):
        """The next start, with `flags` added."""
        with self.added(flags):
            return self.ready(self.server)

    def refused(self, *flags):
        with self.added(flags):
            return self.server.refused()

    @contextlib.contextmanager
    def added(self, flags):
        before = self.server.flags
        self.server.flags = [*before, *flags]
        try:
            yield
        finally:
            self.server.flags = before

    def wipe(self, half):
        for path in half.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def files(self, half):
        """What a half holds of records and of the catalog, by name."""
        held = {}
        for pattern in ("log-*/segment-*", "catalog/*", "superblock-*"):
            held.update({path.relative_to(half): path.read_bytes() for path in half.glob(pattern)})
        return held

    def same(self):
        first, second = self.files(self.first), self.files(self.second)
        # One that was being prepared for later may be on one half only.
        written = {name for held in (first, second) for name, bytes in held.items() if any(bytes) and name.suffix == ""}
        self.assertLessEqual(written, set(first) & set(second))
        self.assertEqual([name for name in written if first[name] != second[name]], [])

    def test_both_halves_hold_the_same_after_a_stop_and_after_a_kill(self):
        api = self.begin()
        self.assertEqual(self.server.stop(), 0)
        self.same()
        api = self.again()
        self.put(api, 20)
        self.server.kill()
        api = self.again()
        self.check(api)
        self.assertEqual(self.server.stop(), 0)
        self.same()

    def test_either_half_alone_has_everything_and_an_empty_one_is_rebuilt_when_that_is_wanted(self):
        self.begin()
        self.server.kill()
        for lost in (self.second, self.first):
            self.wipe(lost)
            said = self.refused()
            self.assertIn("--accept-degraded", said)
            self.assertIn(f"{lost} is empty", said)
            self.assertFalse((lost / "superblock-0").exists())
            api = self.again("--accept-degraded")
            self.put(api, 10)
            self.assertTrue(self.server.says(f"log 0 is whole again in {lost}"), self.server.output())
            self.put(api, 10)
            self.check(api)
            self.assertEqual(self.server.stop(), 0)
            self.same()

    def test_a_half_that_comes_back_with_old_content_is_not_read_but_rebuilt(self):
        self.begin()
        self.assertEqual(self.server.stop(), 0)
        old = pathlib.Path(new_directory())
        self.addCleanup(shutil.rmtree, old, True)
        shutil.copytree(self.second, old, dirs_exist_ok=True)
        self.wipe(self.second)
        api = self.again("--accept-degraded")
        self.put(api, 30)
        self.assertTrue(self.server.says("log 0 is whole again"), self.server.output())
        self.server.kill()
        self.wipe(self.second)
        shutil.copytree(old, self.second, dirs_exist_ok=True)
        api = self.again()
        self.assertTrue(self.server.says(f"log 0 is whole again in {self.second}"), self.server.output())
        self.check(api)

    def test_a_home_gets_a_mirror_later_and_is_not_served_without_it_from_then_on(self):
        flags = self.server.flags
        self.server.flags = ["--cores", "0", "--disk", "1G"]
        api = self.begin()
        self.assertEqual(self.server.stop(), 0)
        alone = self.server.flags
        self.server.flags = flags
        api = self.again()
        self.assertTrue(self.server.says("log 0 is whole again"), self.server.output())
        self.put(api, 5)
        self.check(api)
        self.assertEqual(self.server.stop(), 0)
        self.server.flags = alone
        self.assertIn("is half of a mirror", self.server.refused())

    def test_a_half_that_fails_is_left_behind_and_puts_go_on(self):
        api = self.begin()
        # What is open goes on for a while; no further segment can be made there, and one may be in the making.
        self.assertTrue(eventually(lambda: (shutil.rmtree(self.second / "log-000", True), (self.second / "log-000").exists())[1] is False))
        big = [{"PartitionKey": "k", "Data": bytes((1 << 20) - 64)} for _ in range(8)]
        api.call("CreateStream", StreamName="big", ShardCount=1)
        for _ in range(40):
            self.assertEqual(api.call("PutRecords", StreamName="big", Records=big)["FailedRecordCount"], 0)
            if "MIRROR DEGRADED" in self.server.output():
                break
        self.assertTrue(self.server.says(f"{self.second} has failed"), self.server.output())
        self.put(api, 20)
        self.check(api)
        self.assertRegex(api.get("/metrics")[1], r'penstock_mirror_degraded_now\{worker="0"\} [1-9]')
        self.server.kill()
        api = self.again("--accept-degraded")
        self.assertTrue(self.server.says("log 0 is whole again"), self.server.output())
        self.put(api, 5)
        self.check(api)
        self.assertEqual(self.server.stop(), 0)
        self.same()

    def test_a_snapshot_is_refused_by_name_while_the_first_half_is_not_whole(self):
        api = self.begin()
        self.assertTrue(eventually(lambda: (shutil.rmtree(self.first / "log-000", True), (self.first / "log-000").exists())[1] is False))
        big = [{"PartitionKey": "k", "Data": bytes((1 << 20) - 64)} for _ in range(8)]
        for _ in range(40):
            api.call("PutRecords", StreamName=STREAM, Records=big)
            if "MIRROR DEGRADED" in self.server.output():
                break
        self.assertTrue(self.server.says(f"{self.first} has failed"), self.server.output())
        target = self.second / "snapshot"
        taken = subprocess.run([BINARY, "snapshot", target, "--data", self.server.data], capture_output=True, text=True, timeout=60)
        self.assertEqual((taken.returncode != 0, target.exists()), (True, False), taken)
        self.assertIn("the first half of a data directory is not whole", taken.stderr)

    def fill(self, api, count):
        """`count` records of a mebibyte: more than a segment is sealed by."""
        api.call("CreateStream", StreamName="big", ShardCount=1)
        big = [b"<record %06d>" % n * 4096 + bytes(1 << 19) for n in range(count)]
        for at in range(0, count, 8):
            records = [{"PartitionKey": "k", "Data": data} for data in big[at : at + 8]]
            self.assertEqual(api.call("PutRecords", StreamName="big", Records=records)["FailedRecordCount"], 0)
        return big

    def rot(self, half, number):
        """Changes a record of a segment of one half, in its first copy."""
        for path in sorted((half / "log-000").glob("segment-*")):
            at = path.read_bytes().find(b"<record %06d>" % number)
            if at >= 0:
                with open(path, "r+b") as file:
                    file.seek(at + 5000)
                    file.write(b"rotten")
                    file.flush()
                    os.fsync(file.fileno())
                return
        self.fail(f"record {number} is not in {half}")

    def test_what_has_rotted_in_one_half_is_read_from_the_other_and_repaired(self):
        api = self.begin()
        big = self.fill(api, 160)
        self.assertEqual(self.server.stop(), 0)
        api = self.again()
        # Each half has lost what the other one has; after a start nothing is in memory, and no old file is taken to be in use.
        for half, numbers in ((self.first, (3, 40, 70)), (self.second, (12, 50, 90))):
            for number in numbers:
                self.rot(half, number)
        self.assertEqual([data_of(record) for record in api.read_all("big")], big)
        self.assertNotIn("DAMAGE", self.server.output())
        self.assertTrue(self.server.says("are repaired from the other half"), self.server.output())
        self.assertEqual(self.server.stop(), 0)
        self.same()

    def test_a_scrub_repairs_what_has_rotted_in_one_half(self):
        api = self.begin()
        self.fill(api, 160)
        self.assertEqual(self.server.stop(), 0)
        self.again("--scrub-days", "0.00001")
        self.rot(self.second, 3)
        said = f"in {self.second} were damaged, and are repaired from the other half"
        self.assertTrue(self.server.says(said, 60), self.server.output())
        self.assertNotIn("DAMAGE", self.server.output())
        self.assertEqual(self.server.stop(), 0)
        self.same()

    def test_halves_that_do_not_belong_together_are_refused(self):
        self.begin()
        self.assertEqual(self.server.stop(), 0)
        other = pathlib.Path(new_directory())
        self.addCleanup(shutil.rmtree, other, True)
        stranger = Appliance("--cores", "0", "--mirror", str(other))
        self.addCleanup(stranger.remove)
        self.ready(stranger)
        self.assertEqual(stranger.stop(), 0)
        stranger.data, stranger.flags = str(self.first), ["--cores", "0", "--mirror", str(other), "--disk", "1G"]
        self.assertIn("are not halves of one mirror", stranger.refused())
        stranger.data = str(other)
        self.assertTrue(eventually(lambda: (other / "superblock-0").exists()))
        self.server.flags = ["--cores", "0", "--mirror", str(self.second), "--mirror", str(other)]
        self.assertIn("each data directory has one mirror", self.server.refused())
