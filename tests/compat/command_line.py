"""`python3 tests/compat command-line`: the AWS CLI, as a person types it. The environment names the server, nothing else does."""

import base64
import json
import os
import pathlib
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "api"))

import signer  # noqa: E402

AWS = pathlib.Path(sys.executable).parent / "aws"


class CommandLine(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server, key, secret = signer.server()
        cls.server.start()
        cls.addClassCleanup(cls.server.remove)
        cls.environment = os.environ | {
            "AWS_ENDPOINT_URL_KINESIS": cls.server.endpoint(),
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_MAX_ATTEMPTS": "1",
            "AWS_PAGER": "",
        }

    def run_aws(self, *words):
        return subprocess.run([AWS, "kinesis", *words, "--output", "json"], env=self.environment, capture_output=True, text=True, timeout=120)

    def aws(self, *words):
        ended = self.run_aws(*words)
        self.assertEqual((ended.returncode, ended.stderr), (0, ""), words)
        return json.loads(ended.stdout) if ended.stdout.strip() else None

    def test_a_stream_from_its_making_to_its_end(self):
        self.aws("create-stream", "--stream-name", "typed", "--shard-count", "2")
        self.aws("wait", "stream-exists", "--stream-name", "typed")
        put = self.aws("put-record", "--stream-name", "typed", "--partition-key", "clé", "--data", "hello")
        # Version 1 takes data as text, and shows it in base64.
        many = json.dumps([{"Data": "ä" * n, "PartitionKey": str(n)} for n in range(20)])
        self.assertEqual(self.aws("put-records", "--stream-name", "typed", "--records", many)["FailedRecordCount"], 0)
        found = []
        for shard in self.aws("list-shards", "--stream-name", "typed")["Shards"]:
            place = ("--stream-name", "typed", "--shard-id", shard["ShardId"], "--shard-iterator-type", "TRIM_HORIZON")
            iterator = self.aws("get-shard-iterator", *place)["ShardIterator"]
            found += self.aws("get-records", "--shard-iterator", iterator)["Records"]
        data = sorted(base64.b64decode(record["Data"]) for record in found)
        self.assertEqual(data, sorted([b"hello", *(("ä" * n).encode() for n in range(20))]))
        [hello] = [record for record in found if record["PartitionKey"] == "clé"]
        self.assertEqual(hello["SequenceNumber"], put["SequenceNumber"])
        self.aws("increase-stream-retention-period", "--stream-name", "typed", "--retention-period-hours", "48")
        summary = self.aws("describe-stream-summary", "--stream-name", "typed")["StreamDescriptionSummary"]
        self.assertEqual((summary["RetentionPeriodHours"], summary["OpenShardCount"]), (48, 2))
        self.aws("delete-stream", "--stream-name", "typed")
        self.aws("wait", "stream-not-exists", "--stream-name", "typed")
        self.assertEqual(self.aws("list-streams")["StreamNames"], [])

    def test_an_error_is_shown_as_the_service_s(self):
        ended = self.run_aws("describe-stream", "--stream-name", "nothing")
        self.assertNotEqual(ended.returncode, 0)
        self.assertIn("(ResourceNotFoundException)", ended.stderr)
        self.assertIn("Stream nothing under account", ended.stderr)


if __name__ == "__main__":
    unittest.main()
