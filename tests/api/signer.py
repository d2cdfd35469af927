"""Signatures of version 4 by the standard library alone, one part at a time, so that a test can put any of them wrong."""

import atexit
import datetime
import hashlib
import hmac
import json
import os
import shutil
import urllib.parse

import appliance
import wire

ALGORITHM = "AWS4-HMAC-SHA256"


def stamp(seconds=0):
    """Now, or so many seconds later."""
    at = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)
    return at.strftime("%Y%m%dT%H%M%SZ")


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def server(*flags, users=(), observers=()):
    """(server, key, secret) that verifies signatures; one that runs already has been given credentials, or none."""
    if appliance.FOREIGN:
        return appliance.Appliance(), os.environ.get("AWS_ACCESS_KEY_ID", "any"), os.environ.get("AWS_SECRET_ACCESS_KEY", "any")
    directory, key, secret = appliance.new_directory(), "AKIACOMPAT", "secret/of+the-compatible"
    policy = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": ["kinesis:*", "cloudwatch:PutMetricData"], "Resource": "*"}}
    file = directory / "credentials.json"
    file.touch(mode=0o600)
    user = {"name": "compat", "keys": [{"id": key, "secret": secret}], "policies": [policy]}
    file.write_text(json.dumps({"users": [user, *users], "observers": list(observers)}))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return appliance.Appliance("--credentials", file, *flags, data=directory / "data"), key, secret


class Signer:
    """`key` and `secret`, and what a signature is for."""

    def __init__(self, key, secret, token=None, region="us-east-1", service="kinesis"):
        self.key, self.secret, self.token = key, secret, token
        self.region, self.service = region, service

    def signature(self, method, path, query, headers, body, at):
        names = ";".join(sorted(headers))
        lines = "".join(f"{name}:{' '.join(headers[name].split())}\n" for name in sorted(headers))
        canonical = f"{method}\n{path}\n{query}\n{lines}\n{names}\n{sha256(body)}"
        scope = f"{at[:8]}/{self.region}/{self.service}/aws4_request"
        key = ("AWS4" + self.secret).encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        text = f"{ALGORITHM}\n{at}\n{scope}\n{sha256(canonical.encode())}"
        return names, scope, hmac.new(key, text.encode(), "sha256").hexdigest()

    def headers(self, host, body, target=None, method="POST", path="/", at=None, **more):
        """The headers of a request, signed in its `Authorization`."""
        at = at or stamp()
        headers = {"host": host, "x-amz-date": at, **more}
        if target:
            headers |= {"x-amz-target": target, "content-type": wire.CONTENT_TYPE}
        if self.token:
            headers["x-amz-security-token"] = self.token
        names, scope, signature = self.signature(method, path, "", headers, body, at)
        value = f"{ALGORITHM} Credential={self.key}/{scope}, SignedHeaders={names}, Signature={signature}"
        return headers | {"authorization": value}

    def presigned(self, host, body, target, expires=60, at=None):
        """(query, headers) of a request that is signed in its query."""
        at = at or stamp()
        headers = {"host": host, "x-amz-target": target, "content-type": wire.CONTENT_TYPE}
        scope = f"{at[:8]}/{self.region}/{self.service}/aws4_request"
        parts = {
            "X-Amz-Algorithm": ALGORITHM, "X-Amz-Credential": f"{self.key}/{scope}", "X-Amz-Date": at,
            "X-Amz-Expires": str(expires), "X-Amz-SignedHeaders": ";".join(sorted(headers)),
        }  # fmt: skip
        if self.token:
            parts["X-Amz-Security-Token"] = self.token
        quote = lambda text: urllib.parse.quote(text, safe="-_.~")
        query = "&".join(f"{quote(name)}={quote(parts[name])}" for name in sorted(parts))
        _, _, signature = self.signature("POST", "/", query, headers, body, at)
        return f"{query}&X-Amz-Signature={signature}", headers


class Signed(wire.Client):
    """A client whose requests a user signs."""

    def __init__(self, host, port, signer, timeout=60):
        super().__init__(host, port, timeout)
        self.signer, self.host = signer, f"{host}:{port}"

    def send(self, operation, body, headers=None):
        signed = self.signer.headers(self.host, body, wire.TARGET + operation)
        return self.request("POST", "/", body, signed | (headers or {}))

    def request(self, method, path, body, headers):
        """(status, headers, body): exactly these headers, in this order, and a length."""
        self.http.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            self.http.putheader(name, value)
        self.http.putheader("content-length", str(len(body)))
        self.http.endheaders(body)
        answer = self.http.getresponse()
        return answer.status, answer.headers, answer.read()

    def error(self, method, path, body, headers):
        """(status, type, text) of a request that is refused."""
        status, _, answer = self.request(method, path, body, headers)
        fields = json.loads(answer)
        return status, fields.get("__type"), fields.get("message", fields.get("Message"))
