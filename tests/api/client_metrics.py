"""PutMetricData in its three dialects, and what it leaves in /metrics."""

import gzip
import json
import struct

from appliance import ApiTest

JSON = {"X-Amz-Target": "GraniteServiceVersion20100801.PutMetricData", "Content-Type": "application/x-amz-json-1.0"}
PATH = "/service/GraniteServiceVersion20100801/operation/PutMetricData"
CBOR = {"smithy-protocol": "rpc-v2-cbor", "Content-Type": "application/cbor", "x-amzn-query-mode": "true"}
FORM = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}


def cbor(value):
    """What a request has of CBOR; maps and lists as Java's clients write them."""
    if isinstance(value, bool):
        return b"\xf5" if value else b"\xf4"
    if isinstance(value, float):
        return b"\xfb" + struct.pack(">d", value)
    if isinstance(value, str):
        return b"\x7a" + struct.pack(">I", len(value.encode())) + value.encode()
    if isinstance(value, list):
        return b"\x9f" + b"".join(map(cbor, value)) + b"\xff"
    return b"\xbf" + b"".join(cbor(name) + cbor(member) for name, member in value.items()) + b"\xff"


class ClientMetrics(ApiTest):
    def post(self, path, headers, body):
        self.api.http.request("POST", path, body, headers)
        answer = self.api.http.getresponse()
        return answer.status, answer.headers, answer.read()

    def metric(self, text):
        """The value of the one line of /metrics that begins so."""
        lines = [line for line in self.api.get("/metrics")[1].splitlines() if line.startswith(text)]
        self.assertEqual(len(lines), 1, f"{text} in {lines}")
        return float(lines[0].rsplit(" ", 1)[1])

    def request(self, namespace):
        statistics = {"SampleCount": 2.0, "Sum": 7.5, "Minimum": 2.5, "Maximum": 5.0}
        dimensions = [{"Name": "Operation", "Value": "ProcessTask"}]
        datum = {"MetricName": "Records", "Unit": "Count", "StatisticValues": statistics, "Dimensions": dimensions}
        return {"Namespace": namespace, "MetricData": [datum]}

    def labels(self, namespace):
        return f'{{namespace="{namespace}",metric="Records",unit="Count",dimension_Operation="ProcessTask"}}'

    def test_three_dialects_add_up(self):
        name = self.name()
        body = json.dumps(self.request(name)).encode()
        status, headers, answer = self.post("/", JSON, body)
        self.assertEqual((status, headers["Content-Type"], json.loads(answer)), (200, "application/x-amz-json-1.0", {}))
        status, headers, answer = self.post(PATH, CBOR, cbor(self.request(name)))
        self.assertEqual((status, headers["smithy-protocol"], headers["Content-Type"], answer), (200, "rpc-v2-cbor", "application/cbor", b"\xa0"))
        form = (
            f"Action=PutMetricData&Version=2010-08-01&Namespace={name}&MetricData.member.1.MetricName=Records&MetricData.member.1.Unit=Count"
            "&MetricData.member.1.Dimensions.member.1.Name=Operation&MetricData.member.1.Dimensions.member.1.Value=ProcessTask"
            "&MetricData.member.1.StatisticValues.SampleCount=2&MetricData.member.1.StatisticValues.Sum=7.5"
            "&MetricData.member.1.StatisticValues.Minimum=-1&MetricData.member.1.StatisticValues.Maximum=5"
        )
        status, headers, answer = self.post("/", FORM, form.encode())
        self.assertEqual((status, headers["Content-Type"]), (200, "text/xml"))
        self.assertIn(b"<PutMetricDataResponse", answer)
        labels = self.labels(name)
        self.assertEqual(self.metric(f"penstock_client_metric_sum_total{labels}"), 22.5)
        self.assertEqual(self.metric(f"penstock_client_metric_samples_total{labels}"), 6)
        self.assertEqual(self.metric(f"penstock_client_metric_min{labels}"), -1)
        self.assertEqual(self.metric(f"penstock_client_metric_max{labels}"), 5)

    def test_bodies_may_be_gzipped(self):
        name = self.name()
        for path, headers, body in [("/", JSON, json.dumps(self.request(name)).encode()), (PATH, CBOR, cbor(self.request(name)))]:
            status, _, answer = self.post(path, headers | {"Content-Encoding": "gzip"}, gzip.compress(body))
            self.assertEqual(status, 200, answer)
        self.assertEqual(self.metric(f"penstock_client_metric_sum_total{self.labels(name)}"), 15)
        status, _, answer = self.post("/", JSON, gzip.compress(b" " * (50 << 20)))
        self.assertEqual((status, json.loads(answer)["__type"]), (400, "InvalidParameterValueException"))

    def test_every_worker_shows_what_any_has_taken(self):
        name = self.name()
        for _ in range(8):
            client = self.server.client()
            client.http.request("POST", "/", json.dumps(self.request(name)).encode(), JSON)
            self.assertEqual(client.http.getresponse().status, 200)
            client.close()
        for _ in range(8):
            self.api.close()
            self.api = self.server.client()
            self.assertEqual(self.metric(f"penstock_client_metric_samples_total{self.labels(name)}"), 16)

    def test_what_is_not_served_is_told_in_the_dialect(self):
        status, _, answer = self.post("/", JSON | {"X-Amz-Target": "GraniteServiceVersion20100801.GetMetricData"}, b"{}")
        self.assertEqual((status, json.loads(answer)["__type"]), (400, "UnknownOperationException"))
        status, headers, answer = self.post(PATH.replace("Put", "Get"), CBOR, b"\xa0")
        self.assertEqual((status, headers["smithy-protocol"]), (400, "rpc-v2-cbor"))
        self.assertIn(b"UnknownOperationException", answer)
        status, _, answer = self.post("/", FORM, b"Action=ListMetrics&Version=2010-08-01")
        self.assertEqual(status, 400)
        self.assertIn(b"<Code>InvalidAction</Code>", answer)
        half = {"Authorization": "AWS4-HMAC-SHA256 Credential=x", "X-Amz-Date": "20260131T000000Z"}
        status, headers, answer = self.post("/", FORM | half, b"Action=PutMetricData")
        self.assertEqual((status, headers["Content-Type"]), (400, "text/xml"))
        self.assertIn(b"<Code>IncompleteSignature</Code>", answer)
        for path, dialect, body in [("/", JSON, b"{}"), (PATH, CBOR, b"\xa0")]:
            status, headers, answer = self.post(path, dialect, body)
            self.assertEqual((status, headers["x-amzn-query-error"]), (400, "MissingParameter;Sender"))
            self.assertIn(b"The parameter Namespace is required.", answer)
        for path, headers in [("/", JSON), (PATH, CBOR), ("/", FORM)]:
            for body in [b"", b"\xff", b"{", b"\x9f" * 10_000, b"\x1f\x8b\x08\x00", b"%"]:
                self.assertEqual(self.post(path, headers, body)[0], 400, (path, body))

    def test_labels_cannot_break_out_of_their_line(self):
        name = self.name()
        request = self.request(name)
        request["MetricData"][0]["Dimensions"] = [{"Name": 'a"} 1\n', "Value": 'x"} 2\ny\\'}]
        self.assertEqual(self.post("/", JSON, json.dumps(request).encode())[0], 200)
        labels = f'{{namespace="{name}",metric="Records",unit="Count",dimension_a___1_="x\\"}} 2\\ny\\\\"}}'
        self.assertEqual(self.metric(f"penstock_client_metric_max{labels}"), 5)
