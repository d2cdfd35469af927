"""The native protocol within TLS, which its port speaks where that of the Kinesis API does."""

import socket
import ssl
import struct
import unittest

from appliance import FOREIGN, Appliance, Starts, eventually
from native_client import ACK, GOODBYE, PING, PONG, READ, DONE, BATCH, WELCOME, Connection, Ended, message
from native_bulk import BULK
from tls import TlsClient, trusting
from wire import data_of


@unittest.skipIf(FOREIGN, "a protocol of penstock")
class Native(Starts, unittest.TestCase):
    def appliance(self, *flags):
        server = Appliance("--cores", "0,1", *flags, disk="1G")
        self.addCleanup(server.remove)
        server.start()
        self.context = trusting(server.data / "tls" / "authority.pem")
        api = TlsClient(server.host, server.port, self.context)
        self.addCleanup(api.close)
        api.call("CreateStream", StreamName="s", ShardCount=2)
        active = lambda: api.call("DescribeStream", StreamName="s")["StreamDescription"]["StreamStatus"] == "ACTIVE"
        self.assertTrue(eventually(active))
        return server, api

    def secure(self, server, context=None):
        connection = Connection(server.native)
        connection.socket = (context or self.context).wrap_socket(connection.socket, server_hostname="localhost")
        self.addCleanup(connection.close)
        return connection

    def ends(self, connection):
        """The server closes the connection, and says nothing before."""
        with self.assertRaises(Ended):
            connection.receive()

    def test_batches_are_stored_and_read_within_tls_and_bulk_is_declined(self):
        server, api = self.appliance("--tls-self-signed")
        connection = self.secure(server)
        self.assertEqual(connection.open("s", wanted=BULK, producer=5 << 16).kind, WELCOME)
        self.assertEqual(connection.welcome.features, 0)
        stored = {0: [], 1: []}
        for number, size in enumerate((10, 20_000, 300_000, 5, 1_000_000, 70_000)):
            for shard in (0, 1):
                records = [("k", bytes([number]) * size)]
                answer = connection.put(records, shard, number)
                self.assertEqual(answer.kind, ACK, answer.body)
                stored[shard] += [records[0][1]]
        for shard in (0, 1):
            self.assertEqual([data_of(record) for record in api.read_all("s", f"shardId-{shard:012}")], stored[shard])
            connection.send(READ, struct.pack("<IIQ", 8 << 20, 0, 0), shard=connection.wire_shard(shard), sequence=1, count=0)
            found = 0
            while (answer := connection.receive()).kind == BATCH:
                found += answer.count
            self.assertEqual((answer.kind, found), (DONE, len(stored[shard])))
        connection.send(PING, number=3)
        self.assertEqual(connection.receive().kind, PONG)
        connection.send(GOODBYE)
        self.assertEqual(connection.receive().kind, GOODBYE)
        self.ends(connection)

    def test_what_is_no_tls_is_closed_unless_plaintext_is_wanted(self):
        server, _ = self.appliance("--tls-self-signed")
        plain = Connection(server.native)
        self.addCleanup(plain.close)
        with self.assertRaises(Ended):
            plain.open("s")
        both, _ = self.appliance("--tls-self-signed", "--plaintext")
        for connection in (Connection(both.native), self.secure(both)):
            self.addCleanup(connection.close)
            self.assertEqual(connection.open("s").kind, WELCOME)
            self.assertEqual(connection.put([("k", b"x")]).kind, ACK)

    def test_clients_that_go_in_the_middle_leave_their_places(self):
        server, _ = self.appliance("--tls-self-signed")
        for turn in range(60):
            if turn % 3 == 0:
                raw = socket.create_connection(("127.0.0.1", server.native), 20)
                raw.sendall(b"\x16\x03\x01")
            else:
                connection = self.secure(server)
                connection.open("s")
                connection.socket.sendall(connection.batch([("k", bytes(50_000))])[: 40_000 if turn % 3 == 1 else None])
                raw = connection.socket
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            raw.close()
        api = TlsClient(server.host, server.port, self.context)
        self.addCleanup(api.close)

        def none_left():
            text = api.get("/metrics")[1]
            now = [line for line in text.splitlines() if line.startswith("penstock_native_connections_now{")]
            return now and all(line.endswith(" 0") for line in now)

        self.assertTrue(eventually(none_left))
        connection = self.secure(server)
        connection.open("s")
        self.assertEqual(connection.put([("k", b"x")]).kind, ACK)

    def test_who_agrees_on_http_2_speaks_this_protocol_all_the_same(self):
        server, _ = self.appliance("--tls-self-signed")
        context = trusting(server.data / "tls" / "authority.pem", "h2", "http/1.1")
        connection = self.secure(server, context)
        self.assertEqual(connection.open("s").kind, WELCOME)
        self.assertEqual(connection.put([("k", b"x")]).kind, ACK)
        with self.assertRaises(ssl.SSLError):
            self.secure(server, ssl.create_default_context())
