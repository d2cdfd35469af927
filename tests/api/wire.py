"""A Kinesis client of the standard library alone: it sends exactly what a test says, and retries nothing."""

import base64
import http.client
import json

TARGET = "Kinesis_20131202."
CONTENT_TYPE = "application/x-amz-json-1.1"
AUTHORIZATION = (
    "AWS4-HMAC-SHA256 Credential=test/20261124/us-east-1/kinesis/aws4_request, SignedHeaders=host;x-amz-date, Signature=" + "0" * 64
)
HEADERS = {"Content-Type": CONTENT_TYPE, "X-Amz-Date": "20261124T000000Z", "Authorization": AUTHORIZATION}


class Refused(Exception):
    """An answer that is not 200."""

    def __init__(self, status, body):
        try:
            fields = json.loads(body)
        except ValueError:
            fields = {}
        self.status = status
        self.body = body
        self.type = fields.get("__type")
        self.text = fields.get("message", fields.get("Message"))
        super().__init__(f"{status} {body[:300]!r}")


class Client:
    """One connection. `members` of a call are those of the API, as JSON values; bytes are sent as base64."""

    def __init__(self, host, port, timeout=60):
        self.http = http.client.HTTPConnection(host, port, timeout=timeout)

    def close(self):
        self.http.close()

    def send(self, operation, body, headers=None):
        """(status, headers, body) of one request with exactly this body."""
        all_headers = HEADERS | {"X-Amz-Target": TARGET + operation} | (headers or {})
        self.http.request("POST", "/", body, all_headers)
        answer = self.http.getresponse()
        return answer.status, answer.headers, answer.read()

    def call(self, operation, **members):
        status, _, body = self.send(operation, json.dumps(members, default=text_of).encode())
        if status != 200:
            raise Refused(status, body)
        return json.loads(body) if body else {}

    def get(self, path):
        """(status, text) of a GET."""
        self.http.request("GET", path)
        answer = self.http.getresponse()
        return answer.status, answer.read().decode()

    def put(self, stream, key, data, **members):
        return self.call("PutRecord", StreamName=stream, PartitionKey=key, Data=data, **members)

    def iterator(self, stream, shard="shardId-000000000000", kind="TRIM_HORIZON", **members):
        answer = self.call("GetShardIterator", StreamName=stream, ShardId=shard, ShardIteratorType=kind, **members)
        return answer["ShardIterator"]

    def shards(self, stream):
        """Every shard of a stream, open and closed, in order."""
        found = []
        after = {}
        while True:
            page = self.call("DescribeStream", StreamName=stream, **after)["StreamDescription"]
            found += page["Shards"]
            if not page["HasMoreShards"]:
                return found
            after = {"ExclusiveStartShardId": found[-1]["ShardId"]}

    def drain(self, iterator, **members):
        """(records, last answer): reads until the shard has ended or its end is reached."""
        records = []
        while True:
            answer = self.call("GetRecords", ShardIterator=iterator, **members)
            records += answer["Records"]
            iterator = answer.get("NextShardIterator")
            if iterator is None or (not answer["Records"] and answer["MillisBehindLatest"] == 0):
                return records, answer

    def read_all(self, stream, shard="shardId-000000000000"):
        return self.drain(self.iterator(stream, shard))[0]


def text_of(value):
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"{value!r} is not a JSON value")


def data_of(record):
    return base64.b64decode(record["Data"])
