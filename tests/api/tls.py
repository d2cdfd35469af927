"""TLS: certificates of one's own or of the local authority, what is agreed on, what is refused."""

import contextlib
import json
import os
import pathlib
import random
import re
import shutil
import socket
import ssl
import subprocess
import unittest

import frames
import wire
from appliance import BINARY, FOREIGN, ApiTest, Appliance, Starts, eventually, new_directory
from event_stream import Subscription


class TlsClient(wire.Client):
    def __init__(self, host, port, context, timeout=60):
        self.http = wire.http.client.HTTPSConnection("localhost", port, timeout=timeout, context=context)


def trusting(authority, *protocols):
    context = ssl.create_default_context(cafile=authority)
    # What newer versions of Python ask of every certificate.
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


@unittest.skipIf(FOREIGN, "what penstock alone does")
class SelfSigned(ApiTest):
    flags = ("--tls-self-signed=penstock.test,10.1.2.3",)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.authority = cls.server.data / "tls" / "authority.pem"

    def setUp(self):
        self.api = self.tls()

    def delete(self, name):
        """Streams go with the server, which is this class's own."""

    def tls(self, *protocols):
        made = TlsClient(self.server.host, self.server.port, trusting(self.authority, *protocols))
        self.addCleanup(made.close)
        return made

    def plain(self, text):
        """What comes back for `text` without TLS."""
        with socket.create_connection((self.server.host, self.server.port), 20) as raw:
            raw.sendall(text)
            got = b""
            try:
                while more := raw.recv(4096):
                    got += more
            except ConnectionError:
                pass
        return got

    def test_http_1_in_tls(self):
        name = self.stream()
        data = [random.randbytes(size) for size in (0, 1, 16_000, 16_384, 40_000, 1_000_000)]
        for each in data:
            self.api.put(name, "k", each)
        self.assertEqual([wire.data_of(r) for r in self.api.read_all(name)], data)

    def test_a_subscriber_that_goes_is_seen_to_go(self):
        name = self.stream()
        self.api.put(name, "k", b"x")
        arn = self.api.call("DescribeStreamSummary", StreamName=name)["StreamDescriptionSummary"]["StreamARN"]
        consumer = self.api.call("RegisterStreamConsumer", StreamARN=arn, ConsumerName="c")["Consumer"]["ConsumerARN"]

        def metric(name):
            lines = [line.split() for line in self.api.get("/metrics")[1].splitlines()]
            return sum(int(value) for metric, value in filter(lambda line: line[0].startswith(f"penstock_{name}{{"), lines))

        for _ in range(5):
            subscription = Subscription(self.server, consumer, tls=trusting(self.authority))
            self.assertEqual(len(subscription.records(1)), 1)
            sent = metric("subscription_events_total")
            subscription.close()
            self.assertTrue(eventually(lambda: metric("subscriptions_now") == 0))
            # One without records is due every few seconds, and may have been then.
            if metric("subscription_events_total") == sent:
                return
        self.fail("only an event that cannot be sent ends a subscription")

    def test_http_2_in_tls(self):
        client = frames.Connection(self.server.host, self.server.port, tls=trusting(self.authority, "h2")).agree()
        self.addCleanup(client.close)
        self.assertEqual(client.raw.selected_alpn_protocol(), "h2")
        name = self.stream()
        data = random.randbytes(700_000)
        client.call("PutRecord", StreamName=name, PartitionKey="k", Data=data)
        answer = client.call("GetRecords", ShardIterator=self.api.iterator(name))
        self.assertEqual(wire.data_of(answer["Records"][0]), data)

    def test_records_that_end_within_a_frame_leave_nothing_behind(self):
        resident = lambda: int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{self.server.process.pid}/status").read_text())[1]) << 10
        client = frames.Connection(self.server.host, self.server.port, tls=trusting(self.authority, "h2"))
        self.addCleanup(client.close)
        client.agree()
        before = resident()
        ignored = frames.frame(frames.PRIORITY, 0, 1, bytes(5)) * 1_000
        # From here on each record ends one byte into a frame.
        client.send(ignored[:1])
        for _ in range(10_000):
            client.send(ignored[1:] + ignored[:1])
        client.send(ignored[1 : len(ignored) // 1_000])
        self.assertIn("StreamNames", client.call("ListStreams"))
        self.assertLess(resident() - before, 32 << 20, "of 140 MB")

    def test_where_nothing_was_agreed_on_the_first_bytes_tell(self):
        name = self.stream()
        # In records of their own, so that each cut is seen; the last of them is whole.
        for cut in (1, 2, 3, 10, 24):
            with self.subTest(cut=cut):
                client = frames.Connection(self.server.host, self.server.port, begin=False, tls=trusting(self.authority))
                self.addCleanup(client.close)
                self.assertIsNone(client.raw.selected_alpn_protocol())
                client.send(frames.PREFACE[:cut])
                client.send(frames.PREFACE[cut:] + frames.frame(frames.SETTINGS))
                client.agree().call("PutRecord", StreamName=name, PartitionKey="k", Data=b"%d" % cut)
        self.assertEqual([wire.data_of(r) for r in self.api.read_all(name)], [b"1", b"2", b"3", b"10", b"24"])
        # POST and PUT begin as the preface does.
        request = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
        for first in (1, 2, 3, 30):
            with socket.create_connection((self.server.host, self.server.port), 20) as raw:
                with trusting(self.authority).wrap_socket(raw, server_hostname="localhost") as tls:
                    tls.sendall(request[:first])
                    tls.sendall(request[first:])
                    self.assertTrue(tls.recv(100).startswith(b"HTTP/1.1 4"))
        # Whoever has agreed on HTTP/1.1 is not heard in another.
        agreed = frames.Connection(self.server.host, self.server.port, tls=trusting(self.authority, "http/1.1"))
        self.addCleanup(agreed.close)
        self.assertEqual(agreed.raw.recv(12), b"HTTP/1.1 505")

    def test_what_is_agreed_on(self):
        for offered, agreed in [(("h2", "http/1.1"), "h2"), (("http/1.1",), "http/1.1"), ((), None)]:
            with socket.create_connection((self.server.host, self.server.port), 20) as raw:
                with trusting(self.authority, *offered).wrap_socket(raw, server_hostname="localhost") as tls:
                    self.assertEqual((tls.selected_alpn_protocol(), tls.version()), (agreed, "TLSv1.3"))
        with self.assertRaises(ssl.SSLError):
            with socket.create_connection((self.server.host, self.server.port), 20) as raw:
                trusting(self.authority, "spdy/3").wrap_socket(raw, server_hostname="localhost").recv(1)
        old = trusting(self.authority)
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        client = TlsClient(self.server.host, self.server.port, old)
        self.addCleanup(client.close)
        self.assertIn("StreamNames", client.call("ListStreams"))

    def test_the_certificate_is_for_the_names_that_were_given(self):
        for name, good in [("localhost", True), ("127.0.0.1", True), ("penstock.test", True), ("10.1.2.3", True), ("evil.test", False)]:
            with self.subTest(name=name), socket.create_connection((self.server.host, self.server.port), 20) as raw:
                if good:
                    trusting(self.authority).wrap_socket(raw, server_hostname=name).close()
                else:
                    with self.assertRaises(ssl.SSLCertVerificationError):
                        trusting(self.authority).wrap_socket(raw, server_hostname=name)

    def test_who_does_not_know_the_authority_is_not_fooled(self):
        with socket.create_connection((self.server.host, self.server.port), 20) as raw:
            with self.assertRaises(ssl.SSLCertVerificationError):
                ssl.create_default_context().wrap_socket(raw, server_hostname="localhost")

    def test_without_tls_a_client_is_told_so(self):
        self.assertIn(b"This port speaks TLS", self.plain(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"))
        self.assertIn(b"This port speaks TLS", self.plain(frames.PREFACE))

    def test_garbage_ends_the_connection_and_nothing_else(self):
        record = b"\x16\x03\x01"
        for text in [
            record + b"\x00\x05hello",
            record + b"\xff\xff" + b"x" * 70_000,
            record + b"\x02\x00" + random.randbytes(512),
            b"\x16" + random.randbytes(20_000),
        ]:
            with self.subTest(text=text[:8]):
                self.assertNotIn(b"HTTP/1.1 200", self.plain(text))
        with socket.create_connection((self.server.host, self.server.port), 20) as raw:
            tls = trusting(self.authority, "http/1.1").wrap_socket(raw, server_hostname="localhost")
            tls.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n")
            # In the middle of a request, under the encryption.
            socket.socket.send(tls, b"\x17\x03\x03\x00\x20" + b"\0" * 32)
            with self.assertRaises((ssl.SSLError, ConnectionError)):
                if not tls.recv(1):
                    raise ConnectionError
        # Half a handshake holds up nobody.
        half = [socket.create_connection((self.server.host, self.server.port), 20) for _ in range(50)]
        for each in half:
            self.addCleanup(each.close)
            each.sendall(record)
        self.assertIn("StreamNames", self.api.call("ListStreams"))

    def test_a_handshake_must_end_soon(self):
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        session = trusting(self.authority, "h2").wrap_bio(incoming, outgoing, server_hostname="localhost")
        with self.assertRaises(ssl.SSLWantReadError):
            session.do_handshake()
        hello = outgoing.read()
        for sent in (hello, hello[: len(hello) // 2]):
            with socket.create_connection((self.server.host, self.server.port), 25) as raw:
                raw.sendall(sent)
                # What the server says to a whole one is not answered.
                while raw.recv(1 << 16):
                    pass
        with socket.create_connection((self.server.host, self.server.port), 25) as raw:
            tls = trusting(self.authority, "h2").wrap_socket(raw, server_hostname="localhost")
            # Keys are agreed on, and HTTP/2 is not begun.
            with contextlib.suppress(ssl.SSLEOFError):
                while tls.recv(1 << 16):
                    pass

    def test_many_connections(self):
        clients = [self.tls("http/1.1") for _ in range(60)]
        for _ in range(2):
            for client in clients:
                self.assertIn("StreamNames", client.call("ListStreams"))

    def test_own_commands_reach_the_server(self):
        target = new_directory()
        self.addCleanup(shutil.rmtree, target, True)
        name = self.stream()
        self.api.put(name, "k", b"x")
        command = [BINARY, "snapshot", "--data", self.server.data, target / "copy"]
        taken = subprocess.run(command, capture_output=True, text=True, timeout=120)
        self.assertEqual(taken.returncode, 0, taken.stderr)


def certificate(directory, name):
    """A certificate and its key for `name`, signed by itself."""
    files = directory / f"{name}.pem", directory / f"{name}-key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    command += ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name},DNS:localhost", "-out", files[0], "-keyout", files[1]]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return files


@unittest.skipIf(FOREIGN or not shutil.which("openssl"), "needs a server of its own and openssl")
class Files(Starts, unittest.TestCase):
    def setUp(self):
        self.files = new_directory()
        self.addCleanup(shutil.rmtree, self.files, True)
        self.cert, self.key = self.files / "cert.pem", self.files / "key.pem"
        self.one, self.two = certificate(self.files, "one.test"), certificate(self.files, "two.test")

    def use(self, cert, key):
        for source, target in [(key, self.key), (cert, self.cert)]:
            shutil.copy(source, self.files / "new")
            os.replace(self.files / "new", target)

    def server(self, *flags):
        made = Appliance("--tls-cert", str(self.cert), "--tls-key", str(self.key), *flags)
        self.addCleanup(made.remove)
        return made

    def shown(self, server):
        """The name of the certificate that a new connection is shown."""
        text = ssl.get_server_certificate((server.host, server.port), timeout=20)
        return re.search(rb"(one|two)\.test", ssl.PEM_cert_to_DER_cert(text))[0].decode()

    def test_files_are_read_anew_when_they_change(self):
        self.use(*self.one)
        server = self.server().start()
        self.assertEqual(self.shown(server), "one.test")
        kept = TlsClient(server.host, server.port, ssl.create_default_context(cafile=self.one[0]))
        self.addCleanup(kept.close)
        kept.call("ListStreams")
        self.use(*self.two)
        self.assertTrue(eventually(lambda: self.shown(server) == "two.test"))
        self.assertIn("StreamNames", kept.call("ListStreams"))
        self.cert.write_text("-----BEGIN CERTIFICATE-----\nnone\n-----END CERTIFICATE-----\n")
        self.assertTrue(server.says("the certificate that was in use stays"))
        self.assertEqual(self.shown(server), "two.test")
        self.use(*self.one)
        self.assertTrue(eventually(lambda: self.shown(server) == "one.test"))

    def test_what_cannot_be_used_is_refused_at_the_start(self):
        self.use(self.one[0], self.two[1])
        self.assertIn("not the certificate's", self.server().refused())
        self.key.write_text("nothing")
        self.assertIn(str(self.key), self.server().refused())
        self.cert.write_text("")
        self.assertIn("BEGIN CERTIFICATE", self.server().refused())
        self.assertIn("--tls-key", Appliance("--tls-cert", str(self.cert)).refused())

    def test_plaintext_beside_tls_where_it_is_wanted(self):
        self.use(*self.one)
        server = self.server("--plaintext")
        self.assertIn("StreamNames", self.ready(server).call("ListStreams"))
        tls = TlsClient(server.host, server.port, ssl.create_default_context(cafile=self.one[0]))
        self.addCleanup(tls.close)
        self.assertIn("StreamNames", tls.call("ListStreams"))
        plain = frames.Connection(server.host, server.port)
        self.addCleanup(plain.close)
        self.assertIn("StreamNames", plain.call("ListStreams"))
