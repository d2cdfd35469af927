"""`python3 tests/api [NAME...]` runs these files' tests, and ends with one line that counts them."""

import pathlib
import sys
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
NOT_TESTS = {"__main__", "wire", "appliance", "event_stream", "frames", "signer"}


class Shown(unittest.TextTestResult):
    passed = 0

    def addSuccess(self, test):
        super().addSuccess(test)
        self.passed += 1


def run(directory, names):
    """Runs the test files of `directory`, or those named; the process's exit code says whether all passed."""
    sys.path.insert(0, str(directory))
    files = names or sorted(path.stem for path in directory.glob("*.py") if path.stem not in NOT_TESTS)
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


if __name__ == "__main__":
    sys.exit(run(HERE, sys.argv[1:]))
