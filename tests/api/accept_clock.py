"""What a start makes of the wall clock. An hour of retention lasts a second here, so a day is 24 of them."""

import ctypes
import json
import time
import unittest

from appliance import FOREIGN, ApiTest

DAY_SECONDS = 24
TIME_ERROR = 5


def synchronised():
    """Whether the kernel calls its clock synchronised: `adjtimex` with a structure of zeros only asks."""
    state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(1024))
    return 0 <= state != TIME_ERROR


@unittest.skipIf(FOREIGN, "stops the server")
class AcceptClock(ApiTest):
    flags = ("--retention-hour", "1")

    def restart(self, *more):
        self.server.stop()
        self.server.flags = [flag for flag in self.server.flags if flag != "--accept-clock"] + list(more)
        self.server.start()
        self.api.close()
        self.api = self.server.client()

    def test_downtime_counts_where_the_clock_is_accepted(self):
        name = self.stream()
        self.api.put(name, "k", b"old")
        self.server.stop()
        time.sleep(DAY_SECONDS + 2)
        self.restart()
        kept = [b"old"] if not synchronised() else []
        self.assertEqual([record["Data"] for record in self.api.read_all(name)] != [], kept != [])
        self.restart("--accept-clock")
        self.assertEqual(self.api.read_all(name), [])
        self.assertEqual("--accept-clock" in self.server.output(), not synchronised(), self.server.output())
        # What was accepted stays so without the flag.
        self.restart()
        self.assertEqual(self.api.read_all(name), [])

    def test_a_step_would_be_seen(self):
        self.assertEqual(json.loads(self.api.get("/health")[1])["clock_stepped_seconds"], 0)
        self.assertIn('penstock_clock_stepped_seconds_now{worker="0"} 0', self.api.get("/metrics")[1])
