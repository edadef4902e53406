"""Hotsock with the token library of Python's people, and published to by the AWS SDK."""

import base64
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import unittest

import boto3
import botocore.config
import botocore.exceptions
import jwt
import websocket
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from test_pusher import PATIENCE_S, binary

ACCESS_KEY = ("AKIDTESTS", "an-access-key-for-the-tests-0123456789")
SECRET = b"a secret for the tokens of the tests, as long as the longest algorithm wants it to be"
CURVES = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}


def pair(method):
    """A private key for a method, and what a server checks with."""
    if method.startswith("HS"):
        return SECRET, SECRET
    if method in CURVES:
        key = ec.generate_private_key(CURVES[method])
    elif method == "EdDSA":
        key = ed25519.Ed25519PrivateKey.generate()
    else:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key, key.public_key().public_bytes(serialization.Encoding.PEM, form)


METHODS = ["HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", *CURVES, "EdDSA"]


class HotsockTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.mkdtemp(prefix="ringmain-hotsock-")
        cls.keys, rows = {}, []
        for method in METHODS:
            cls.keys[method], public = pair(method)
            encoded = base64.b64encode(public).decode()
            rows.append(f'[[hotsock.keys]]\nmethod = "{method}"\nkey_base64 = "{encoded}"\n')
        file = pathlib.Path(cls.directory, "ringmain.toml")
        file.write_text(
            '[hotsock]\napp = "a"\n' + "".join(rows)
            + f'[[hotsock.access_keys]]\nid = "{ACCESS_KEY[0]}"\nsecret = "{ACCESS_KEY[1]}"\n'
            + '[[apps]]\nid = "a"\nkey = "k"\nsecret = "s"\n'
        )
        env = {name: value for name, value in os.environ.items() if not name.startswith("RINGMAIN_")}
        cls.process = subprocess.Popen(
            [binary(), "serve", "--config", file, "--listen", "127.0.0.1:0", "--data", f"{cls.directory}/data"],
            stdin=subprocess.DEVNULL, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for line in cls.process.stdout:
            if "127.0.0.1:" in line:
                cls.port = int(line.split("127.0.0.1:")[1].split()[0].split("/")[0])
                break
        threading.Thread(target=cls.process.stdout.read, daemon=True).start()

    @classmethod
    def tearDownClass(cls):
        cls.process.send_signal(signal.SIGKILL)
        cls.process.wait(PATIENCE_S)
        shutil.rmtree(cls.directory)

    def open(self, claims, method="HS256", key=None, header=None):
        claims = {"exp": time.time() + 60, "scope": "connect", **claims}
        token = jwt.encode(claims, key or self.keys[method], algorithm=method, headers=header)
        socket = websocket.create_connection(f"ws://127.0.0.1:{self.port}/v1?token={token}", PATIENCE_S)
        self.addCleanup(socket.close)
        return socket

    def refused(self, *claims, **how):
        with self.assertRaises(websocket.WebSocketBadStatusException) as refused:
            self.open(*claims, **how)
        return refused.exception.status_code

    def listen(self):
        socket = self.open({"channels": {"room": {"subscribe": True}}})
        json.loads(socket.recv())
        socket.send(json.dumps({"event": "hotsock.subscribe", "channel": "room"}))
        self.assertEqual(json.loads(socket.recv())["event"], "hotsock.subscribed")
        return socket

    def sdk(self, key=ACCESS_KEY):
        return boto3.client(
            "lambda", endpoint_url=f"http://127.0.0.1:{self.port}", region_name="eu-central-1",
            aws_access_key_id=key[0], aws_secret_access_key=key[1],
            config=botocore.config.Config(retries={"max_attempts": 1}),
        )

    def test_every_algorithm_opens_a_connection(self):
        for method in METHODS:
            with self.subTest(method):
                greeting = json.loads(self.open({"uid": method}, method).recv())
                self.assertEqual(greeting["event"], "hotsock.connected")
                self.assertEqual(greeting["meta"], {"uid": method, "umd": None})

    def test_tokens_that_are_no_good_are_refused(self):
        self.assertEqual(self.refused({"exp": time.time() - 1}), 401)
        self.assertEqual(self.refused({"nbf": time.time() + 60}), 401)
        self.assertEqual(self.refused({"scope": "subscribe"}), 403)
        for method in ("ES512", "EdDSA", "PS384", "RS256"):
            self.assertEqual(self.refused({}, method=method, key=pair(method)[0]), 401, method)

    def test_the_sdk_publishes(self):
        socket, client = self.listen(), self.sdk()
        for name in ("publish", "arn:aws:lambda:eu-central-1:123456789012:function:Publish"):
            message = {"channel": "room", "event": "e", "data": name, "eagerIdGeneration": True}
            answer = client.invoke(FunctionName=name, Payload=json.dumps(message))
            self.assertEqual(answer["StatusCode"], 200)
            self.assertNotIn("FunctionError", answer)
            told = json.loads(answer["Payload"].read())
            heard = json.loads(socket.recv())
            self.assertEqual((heard["id"], heard["data"]), (told["id"], name))
        answer = client.invoke(FunctionName="p", InvocationType="Event", Payload=json.dumps({"channel": "room", "event": "f"}))
        self.assertEqual(answer["StatusCode"], 202)
        self.assertEqual(json.loads(socket.recv())["event"], "f")
        answer = client.invoke(FunctionName="p", InvocationType="DryRun", Payload=json.dumps({"channel": "room", "event": "g"}))
        self.assertEqual(answer["StatusCode"], 204)
        answer = client.invoke(FunctionName="p", Payload=json.dumps({"channel": "room", "event": "hotsock.no"}))
        self.assertEqual((answer["StatusCode"], answer["FunctionError"]), (200, "Unhandled"))
        self.assertIn("errorMessage", json.loads(answer["Payload"].read()))

    def test_who_signs_wrongly_is_refused(self):
        for key in ((ACCESS_KEY[0], "another-access-key-0123456789-0123456789"), ("AKIDNOBODY", ACCESS_KEY[1])):
            with self.assertRaises(botocore.exceptions.ClientError) as refused:
                self.sdk(key).invoke(FunctionName="p", Payload=json.dumps({"channel": "room", "event": "e"}))
            self.assertEqual(refused.exception.response["ResponseMetadata"]["HTTPStatusCode"], 403)


if __name__ == "__main__":
    unittest.main()
