"""A server that speaks TLS by an authority of its own and verifies signatures, and what a client is told of it."""

import json
import pathlib
import re
import shutil
import ssl
import subprocess
import urllib.request

import appliance
import signer

HERE = pathlib.Path(__file__).resolve().parent
POLICY = re.compile(r"<!-- policy -->\n```json\n(.*?)```", re.DOTALL)
OBSERVER = "token-of-the-matrix"
WORKER = {"id": "AKIAWORKER", "secret": "secret/of+a-worker-of-the-library"}


def policy():
    """What the page says that a user of the client library needs."""
    return json.loads(POLICY.search((HERE / "CLIENTS.md").read_text())[1])


class Open:
    """Plain HTTP, any key."""

    def __init__(self):
        self.server = appliance.Appliance().start()
        self.endpoint = self.server.endpoint()
        self.credentials = ("any", "any")

    def told(self, client):
        return {}

    def metrics(self):
        return self.asked(urllib.request.Request(f"{self.endpoint}/metrics"))

    def asked(self, request, context=None):
        return urllib.request.urlopen(request, timeout=30, context=context).read().decode()


class Secured(Open):
    """TLS and signatures: a user for the program, one for the workers of the client library, an observer."""

    def __init__(self):
        worker = {"name": "worker", "keys": [WORKER], "policies": [policy()]}
        self.server, *self.credentials = signer.server("--tls-self-signed", users=[worker], observers=[OBSERVER])
        self.server.start()
        # By name, as clients do it: an address is not told to the server in the handshake.
        self.endpoint = f"https://localhost:{self.server.port}"
        self.authority = self.server.data / "tls" / "authority.pem"

    def told(self, client):
        """The variables by which a client trusts the authority, and the key of the library's workers."""
        told = {"WORKER_ACCESS_KEY_ID": WORKER["id"], "WORKER_SECRET_ACCESS_KEY": WORKER["secret"]}
        if client.stranger:
            return told
        trusted = self.java() if client.trust == "JDK_JAVA_OPTIONS" else str(self.authority)
        return told | {client.trust: trusted, "PENSTOCK_AUTHORITY": str(self.authority)}

    def java(self):
        store = self.server.data / "penstock.jks"
        command = ["keytool", "-importcert", "-noprompt", "-alias", "penstock", "-file", self.authority]
        subprocess.run([*command, "-keystore", store, "-storepass", "changeit"], check=True, capture_output=True, timeout=60)
        # Without the password Java takes the store for an empty one.
        return f"-Djavax.net.ssl.trustStore={store} -Djavax.net.ssl.trustStorePassword=changeit"

    def metrics(self):
        request = urllib.request.Request(f"{self.endpoint}/metrics", headers={"Authorization": f"Bearer {OBSERVER}"})
        return self.asked(request, ssl.create_default_context(cafile=self.authority))
