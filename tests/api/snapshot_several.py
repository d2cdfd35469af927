"""Snapshots, restores and exports of a server with several data directories."""

import base64
import json
import pathlib
import shutil
import subprocess
import unittest

from appliance import BINARY, FOREIGN, Appliance, Starts, new_directory
from wire import data_of

NAMES = ["a", "b"]
TEXTS = [b"%d" % n for n in range(20)]


def run(*arguments):
    """(exit code, what it prints, what it says of errors) of a command of the program."""
    done = subprocess.run([BINARY, *map(str, arguments)], capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout, done.stderr


@unittest.skipIf(FOREIGN, "takes snapshots of penstock")
class SnapshotSeveral(Starts, unittest.TestCase):
    def setUp(self):
        self.scratch = pathlib.Path(new_directory())
        self.addCleanup(shutil.rmtree, self.scratch, True)
        self.server = Appliance("--cores", "0", disk="2G", further=[new_directory()])
        self.addCleanup(self.server.remove)
        self.api = self.ready(self.server)
        for name in NAMES:
            self.api.call("CreateStream", StreamName=name, ShardCount=1)
            for text in TEXTS:
                self.api.put(name, "k", text)

    def snapshot(self):
        target = self.scratch / "s"
        code, _, said = run("snapshot", target, "--data", self.server.data)
        self.assertEqual(code, 0, said)
        for directory in [self.server.data, *self.server.further]:
            self.assertFalse((pathlib.Path(directory) / "capture").exists(), directory)
        return target

    def exported(self, stream, *flags):
        code, printed, said = run("export", *flags, "--stream", stream)
        self.assertEqual((code, "DAMAGE" in said), (0, False), said)
        return [base64.b64decode(json.loads(line)["data"]) for line in printed.splitlines()]

    def test_a_snapshot_is_restored_to_as_many_directories_and_exported_alone(self):
        target = self.snapshot()
        self.assertTrue(list((target / "log-000").iterdir()) and list((target / "directory-1" / "log-001").iterdir()))
        self.api.put("a", "k", b"later")
        for name in NAMES:
            self.assertEqual(self.exported(name, target), TEXTS)
        home, second = self.scratch / "home", self.scratch / "second"
        code, _, said = run("restore", target, "--data", home, "--data", second)
        self.assertEqual(code, 0, said)
        restored = Appliance("--cores", "0", disk=None, data=home, further=[second])
        self.addCleanup(restored.remove)
        restored.further.reverse()
        api = self.ready(restored)
        for name in NAMES:
            api.put(name, "k", b"more")
            self.assertEqual([data_of(record) for record in api.read_all(name)], [*TEXTS, b"more"])
        restored.stop()
        restored.data, restored.further = second, [home]
        self.assertIn("is no home: it is directory 1", restored.refused())
        restored.data, restored.further = home, [second]

    def test_another_number_of_directories_is_refused_and_nothing_is_made(self):
        target = self.snapshot()
        for number in (1, 3):
            named = [self.scratch / f"d{n}" for n in range(number)]
            code, _, said = run("restore", target, *(flag for path in named for flag in ("--data", path)))
            self.assertEqual(code, 1)
            self.assertIn("wants as many data directories as its server had, 2", said)
            self.assertFalse(any(path.exists() for path in named))

    def test_a_part_that_is_missing_or_damaged_and_a_snapshot_without_manifest_are_refused(self):
        target = self.snapshot()
        restore = ("restore", target, "--data", self.scratch / "h", "--data", self.scratch / "f")
        segment = min((target / "directory-1" / "log-001").iterdir())
        whole = segment.read_bytes()
        segment.unlink()
        segment.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
        code, _, said = run(*restore)
        self.assertEqual(code, 1)
        self.assertIn(f"{segment} is damaged", said)
        self.assertFalse(any((self.scratch / "f").iterdir()), "what was made is removed")
        (target / "directory-1").rename(self.scratch / "away")
        code, _, said = run(*restore)
        self.assertEqual(code, 1)
        self.assertIn(str(segment), said)
        (self.scratch / "away").rename(target / "directory-1")
        (target / "manifest").unlink()
        for command in [restore, ("export", target, "--stream", "a")]:
            code, _, said = run(*command)
            self.assertEqual(code, 1)
            self.assertIn("is no snapshot: it has no manifest", said)

    def test_a_moved_shard_is_exported_from_all_its_logs(self):
        log = self.server.further[0]
        moves = 0
        for to in (0, 1, 0, 1):
            code, _, said = run("rebalance", "--data", self.server.data, "--shard", "a:shardId-000000000000", "--to", to)
            moves += code == 0
            self.api.put("a", "k", b"on %d" % to)
        self.assertGreaterEqual(moves, 3, said)
        wanted = [*TEXTS, b"on 0", b"on 1", b"on 0", b"on 1"]
        target = self.snapshot()
        self.assertEqual(self.server.stop(), 0)
        self.assertEqual(self.exported("a", target), wanted)
        self.assertEqual(self.exported("a", self.server.data, "--data", log), wanted)
        self.assertEqual(self.exported("a", "--data", self.server.data, "--data", log), wanted)
        for named, why in [([], "is missing, and the records in it"), (["--data", self.scratch], "is missing")]:
            code, _, said = run("export", self.server.data, *named, "--stream", "a")
            self.assertEqual(code, 1)
            self.assertIn(why, said)
