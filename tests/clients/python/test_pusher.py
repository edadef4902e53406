"""The stock Python server SDK against the real binary, with an independent WebSocket client to listen."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import unittest

import pusher
import websocket

APP = {"id": "1001", "key": "first-key", "secret": "first-secret"}
MASTER_KEY = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc="
PATIENCE_S = 10


def binary():
    named = os.environ.get("BINARY_UNDER_TEST")
    if named:
        return named
    top = pathlib.Path(__file__).resolve().parents[3]
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", top / "target"))
    for profile in ("release", "debug"):
        if (target / profile / "ringmain").exists():
            return str(target / profile / "ringmain")
    raise FileNotFoundError("no ringmain binary: build it, or name it in BINARY_UNDER_TEST")


class Server:
    """The real binary on a port of its own choice, with an app of ours or as it is for who configures none."""

    def __init__(self, is_development=False, variables=None):
        self.directory = tempfile.mkdtemp(prefix="ringmain-clients-")
        options = []
        if not is_development:
            file = pathlib.Path(self.directory, "ringmain.toml")
            app = {**APP, "client_events": True, "user_authentication": True}
            file.write_text("[[apps]]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in app.items()))
            options = ["--config", file]
        self.process = subprocess.Popen(
            [binary(), "serve", *options, "--listen", "127.0.0.1:0", "--data", f"{self.directory}/data"],
            stdin=subprocess.DEVNULL,
            # The variables of whoever runs the tests are none of the tests' settings.
            env={name: value for name, value in os.environ.items() if not name.startswith("RINGMAIN_")} | (variables or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.text, self.port = "", None
        self.listening = threading.Event()
        threading.Thread(target=self.read, daemon=True).start()
        if not self.listening.wait(PATIENCE_S) or self.port is None:
            self.stop(signal.SIGKILL)
            raise RuntimeError(f"no address in the banner:\n{self.text}")

    def read(self):
        for line in self.process.stdout:
            self.text += line
            found = re.search(r"127\.0\.0\.1:([1-9]\d*)\b", line)
            if found and self.port is None:
                self.port = int(found[1])
                self.listening.set()
        self.listening.set()

    def stop(self, by=signal.SIGTERM):
        self.process.send_signal(by)
        code = self.process.wait(PATIENCE_S)
        self.process.stdout.close()
        shutil.rmtree(self.directory, ignore_errors=True)
        return code


class Listener:
    """A bare peer of protocol 7."""

    def __init__(self, port):
        self.socket = websocket.create_connection(
            f"ws://127.0.0.1:{port}/app/{APP['key']}?protocol=7&client=python", timeout=PATIENCE_S
        )
        self.socket_id = json.loads(self.next("pusher:connection_established")["data"])["socket_id"]

    def next(self, event):
        while True:
            message = json.loads(self.socket.recv())
            if message["event"] == event:
                return message
            if message["event"] == "pusher:error":
                raise AssertionError(message)

    def send(self, event, data):
        self.socket.send(json.dumps({"event": event, "data": data}))

    def subscribe(self, channel, signed=None):
        self.send("pusher:subscribe", {"channel": channel, **(signed or {})})
        return json.loads(self.next("pusher_internal:subscription_succeeded")["data"])


class PusherTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server()

    @classmethod
    def tearDownClass(cls):
        code = cls.server.stop()
        assert code == 0, f"exit code {code}"

    def setUp(self):
        self.listeners = []
        self.client = self.publisher()

    def tearDown(self):
        for listener in self.listeners:
            listener.socket.close()

    def publisher(self, **changes):
        options = {
            "app_id": APP["id"],
            "key": APP["key"],
            "secret": APP["secret"],
            "ssl": False,
            "host": "127.0.0.1",
            "port": self.server.port,
            "encryption_master_key_base64": MASTER_KEY,
        }
        return pusher.Pusher(**{**options, **changes})

    def listener(self):
        self.listeners.append(Listener(self.server.port))
        return self.listeners[-1]

    def member(self, channel, user_id):
        listener = self.listener()
        signed = self.client.authenticate(channel, listener.socket_id, {"user_id": user_id, "user_info": {"n": user_id}})
        return listener, listener.subscribe(channel, signed)

    def test_trigger(self):
        listener = self.listener()
        listener.subscribe("news")
        self.client.trigger("news", "e", {"text": "Grüße, 世界"})
        self.assertEqual(json.loads(listener.next("e")["data"]), {"text": "Grüße, 世界"})
        self.client.trigger(["news", "more"], "e", "plain")
        self.assertEqual(listener.next("e")["data"], "plain")

    def test_trigger_private(self):
        listener = self.listener()
        listener.subscribe("private-news", self.client.authenticate("private-news", listener.socket_id))
        self.client.trigger("private-news", "e", {"a": 1})
        self.assertEqual(json.loads(listener.next("e")["data"]), {"a": 1})

    def test_trigger_encrypted(self):
        name = "private-encrypted-news"
        listener = self.listener()
        signed = self.client.authenticate(name, listener.socket_id)
        listener.subscribe(name, {"auth": signed["auth"]})
        self.client.trigger(name, "e", {"pin": 4711})
        sealed = json.loads(listener.next("e")["data"])
        self.assertEqual(set(sealed), {"nonce", "ciphertext"})

    def test_exclusion(self):
        one, two = self.listener(), self.listener()
        one.subscribe("exclude")
        two.subscribe("exclude")
        self.client.trigger("exclude", "e", {"n": 1}, one.socket_id)
        self.client.trigger("exclude", "e", {"n": 2})
        self.assertEqual(json.loads(one.next("e")["data"]), {"n": 2})
        self.assertEqual(json.loads(two.next("e")["data"]), {"n": 1})

    def test_trigger_batch(self):
        listener = self.listener()
        listener.subscribe("batch-1")
        listener.subscribe("batch-2")
        self.client.trigger_batch(
            [
                {"channel": "batch-1", "name": "a", "data": {"n": 1}},
                {"channel": "batch-2", "name": "b", "data": "text"},
                {"channel": "batch-1", "name": "c", "data": {"n": 2}, "socket_id": listener.socket_id},
                {"channel": "batch-1", "name": "c", "data": {"n": 3}},
            ]
        )
        heard = [json.loads(listener.socket.recv()) for _ in range(3)]
        self.assertEqual(
            sorted((m["channel"], m["event"], m["data"]) for m in heard),
            [("batch-1", "a", '{"n": 1}'), ("batch-1", "c", '{"n": 3}'), ("batch-2", "b", "text")],
        )

    def test_send_to_user(self):
        listener = self.listener()
        listener.send("pusher:signin", self.client.authenticate_user(listener.socket_id, {"id": "ann"}))
        listener.next("pusher:signin_success")
        self.client.send_to_user("ann", "mail", {"n": 1})
        self.assertEqual(json.loads(listener.next("mail")["data"]), {"n": 1})

    def test_queries(self):
        for user in ("1", "2", "2"):
            _, description = self.member("presence-query", user)
        self.assertEqual(description["presence"]["count"], 2)
        self.assertEqual(sorted(description["presence"]["ids"]), ["1", "2"])
        plain = self.listener()
        plain.subscribe("query-plain")
        channels = self.client.channels_info("presence-q", ["user_count"])
        self.assertEqual(channels, {"channels": {"presence-query": {"user_count": 2}}})
        self.assertIn("query-plain", self.client.channels_info()["channels"])
        one = self.client.channel_info("presence-query", ["user_count", "subscription_count"])
        self.assertEqual((one["occupied"], one["user_count"], one["subscription_count"]), (True, 2, 3))
        self.assertFalse(self.client.channel_info("nobody-there")["occupied"])
        users = self.client.users_info("presence-query")["users"]
        self.assertEqual(sorted(user["id"] for user in users), ["1", "2"])

    def test_refusals(self):
        with self.assertRaises(pusher.errors.PusherBadAuth):
            self.publisher(secret="wrong").trigger("c", "e", {})
        with self.assertRaises(pusher.errors.PusherBadAuth):
            self.publisher(key="wrong").trigger("c", "e", {})
        with self.assertRaises(pusher.errors.PusherBadRequest):
            self.client.users_info("not-presence")


if __name__ == "__main__":
    unittest.main(verbosity=2)
