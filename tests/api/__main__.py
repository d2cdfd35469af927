"""`python3 tests/api [NAME...]` runs these files' tests, and ends with one line that counts them.

Several files run beside each other, each in a process with servers and ports of its own: they mostly wait for deadlines of the server.
"""

import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
NOT_TESTS = {"__main__", "wire", "appliance", "event_stream", "frames", "native_client", "signer"}
BESIDE_MAX = 3
# These fill whole logs: one at a time, as two would wait for one drive. They begin first, as they take longest.
HEAVY = ["scrub", "snapshot_several", "mirror", "full_log", "directories", "footers", "rebalance"]
FILE_SECONDS_MAX = 900
PORTS_FIRST, PORTS_END = 20_000, 30_000
COUNTS = re.compile(r"^\w+: (\d+) passed, (\d+) failed, (\d+) skipped$", re.MULTILINE)


class Shown(unittest.TextTestResult):
    passed = 0

    def addSuccess(self, test):
        super().addSuccess(test)
        self.passed += 1


def files_of(directory):
    return sorted(path.stem for path in directory.glob("*.py") if path.stem not in NOT_TESTS)


def run(directory, names):
    """Runs the test files of `directory`, or those named; the process's exit code says whether all passed."""
    sys.path.insert(0, str(directory))
    files = names or files_of(directory)
    suite = unittest.defaultTestLoader.loadTestsFromNames(files)
    result = unittest.TextTestRunner(resultclass=Shown, verbosity=1).run(suite)
    import appliance

    if appliance.ApiTest.shared is not None:
        appliance.ApiTest.shared.remove()
    for test, why in result.skipped:
        print(f"skipped {test}: {why}")
    failed = len(result.failures) + len(result.errors)
    print(f"{directory.name}: {result.passed} passed, {failed} failed, {len(result.skipped)} skipped")
    return 1 if failed or not result.testsRun else 0


class OneFile:
    """A process that runs one file. In a group of its own, so that no server is left when it has to be ended."""

    def __init__(self, name, ports):
        self.name = name
        self.start = time.monotonic()
        self.output = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [sys.executable, str(HERE), name], stdin=subprocess.DEVNULL, stdout=self.output, stderr=subprocess.STDOUT,
            start_new_session=True, env=os.environ | {"PENSTOCK_TEST_PORTS": f"{ports.start}-{ports.stop}"},
        )  # fmt: skip

    def end(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def ended(self):
        if self.process.poll() is not None:
            return True
        if time.monotonic() - self.start < FILE_SECONDS_MAX:
            return False
        self.end()
        return True

    def counts(self):
        """(passed, failed, skipped), when it has ended. Shows what it said unless all passed."""
        self.output.seek(0)
        said = self.output.read().decode(errors="replace")
        counts = [tuple(map(int, found)) for found in COUNTS.findall(said)][-1:] or [(0, 1, 0)]
        passed, failed, skipped = counts[0]
        if self.process.returncode and not failed:
            failed = 1
        print(f"{self.name}: {passed} passed, {failed} failed, {skipped} skipped in {time.monotonic() - self.start:.0f} s", flush=True)
        if failed:
            print(f"{said}\nexit code {self.process.returncode}; each file has {FILE_SECONDS_MAX} s", flush=True)
        for line in said.splitlines():
            if line.startswith("skipped ") and not failed:
                print(line)
        return passed, failed, skipped


def run_beside(names):
    """As `run`, a few files at a time."""
    share = (PORTS_END - PORTS_FIRST) // len(names)
    order = sorted(names, key=lambda name: (name not in HEAVY, HEAVY.index(name) if name in HEAVY else name))
    waiting = [(name, range(PORTS_FIRST + share * index, PORTS_FIRST + share * (index + 1))) for index, name in enumerate(order)]
    running, total = [], (0, 0, 0)
    try:
        while waiting or running:
            while len(running) < BESIDE_MAX:
                busy = any(file.name in HEAVY for file in running)
                may = next((each for each in waiting if not (busy and each[0] in HEAVY)), None)
                if may is None:
                    break
                waiting.remove(may)
                running.append(OneFile(*may))
            for file in [file for file in running if file.ended()]:
                running.remove(file)
                total = tuple(map(sum, zip(total, file.counts(), strict=True)))
            time.sleep(0.05)
    finally:
        for file in running:
            file.end()
    passed, failed, skipped = total
    print(f"{HERE.name}: {passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    names = sys.argv[1:] or files_of(HERE)
    # A server that runs already is one for all: they would meet each other's streams.
    beside = len(names) > 1 and "PENSTOCK_ENDPOINT" not in os.environ
    sys.exit(run_beside(names) if beside else run(HERE, names))
