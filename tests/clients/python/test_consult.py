"""Tokens that only the application knows: asked over HTTPS, signed, cached, and refused when it hangs."""

import hashlib
import hmac
import http.server
import json
import os
import pathlib
import shutil
import signal
import ssl
import subprocess
import tempfile
import threading
import unittest

import websocket

from test_pusher import PATIENCE_S, binary

SECRET = "consult-secret"


class Application(http.server.ThreadingHTTPServer):
    """An application behind TLS, with a certificate that only who is told trusts."""

    daemon_threads = True

    def __init__(self, directory):
        super().__init__(("127.0.0.1", 0), Question)
        self.questions, self.hangs, self.ends = [], threading.Event(), threading.Event()
        key, certificate = (pathlib.Path(directory, name) for name in ("key.pem", "certificate.pem"))
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
             "-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=localhost",
             "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"],
            check=True, capture_output=True, stdin=subprocess.DEVNULL,
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.certificate = certificate
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request, client_address):
        """Whoever gave up waiting is gone."""


class Question(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.questions.append((body, self.headers.get("X-Ringmain-Signature")))
        token = json.loads(body)["token"]
        if token == "hang":
            self.server.hangs.wait(PATIENCE_S)
        if token == "never":
            self.server.ends.wait(PATIENCE_S)
        answer = json.dumps({"user": f"acct:{token}@h"}).encode()
        self.send_response(302 if token == "elsewhere" else 200 if token != "nobody" else 404)
        self.send_header("Location", "/")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


class ConsultTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.mkdtemp(prefix="ringmain-consult-")
        cls.application = Application(cls.directory)
        file = pathlib.Path(cls.directory, "ringmain.toml")
        url = f"https://127.0.0.1:{cls.application.server_address[1]}/whose"
        file.write_text(
            f'[hypothesis]\napp = "a"\nconsult_url = "{url}"\nconsult_secret = "{SECRET}"\n'
            'consult_timeout_s = 5\n[[apps]]\nid = "a"\nkey = "k"\nsecret = "s"\n'
        )
        env = {name: value for name, value in os.environ.items() if not name.startswith("RINGMAIN_")}
        env["SSL_CERT_FILE"] = str(cls.application.certificate)
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
        cls.application.hangs.set()
        cls.application.ends.set()
        cls.process.send_signal(signal.SIGKILL)
        cls.process.wait(PATIENCE_S)
        cls.application.shutdown()
        cls.application.server_close()
        shutil.rmtree(cls.directory)

    def open(self, token):
        url = f"ws://127.0.0.1:{self.port}/ws"
        return websocket.create_connection(url, PATIENCE_S, header=[f"Authorization: Bearer {token}"])

    def who(self, socket):
        socket.send(json.dumps({"type": "whoami", "id": 1}))
        return json.loads(socket.recv())["userid"]

    def test_the_question_is_signed_and_asked_once(self):
        for _ in range(3):
            socket = self.open("ann")
            self.assertEqual(self.who(socket), "acct:ann@h")
            socket.close()
        asked = [it for it in self.application.questions if b'"ann"' in it[0]]
        self.assertEqual(len(asked), 1)
        body, signature = asked[0]
        self.assertEqual(json.loads(body), {"protocol": "hypothesis", "question": "token", "token": "ann"})
        right = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        self.assertEqual(signature, f"sha256={right}")

    def test_nobody_and_redirects_are_strangers(self):
        for token in ("nobody", "elsewhere"):
            socket = self.open(token)
            self.assertIsNone(self.who(socket))
            socket.close()

    def test_an_application_that_hangs_holds_nobody_else_up(self):
        waiting = [self.open("hang") for _ in range(20)]
        never = self.open("never")
        for socket in waiting:
            socket.send(json.dumps({"type": "whoami", "id": 1}))
        for _ in range(20):
            socket = self.open("bob")
            self.assertEqual(self.who(socket), "acct:bob@h")
            socket.close()
        # They were still waiting, and were asked about once.
        self.application.hangs.set()
        for socket in waiting:
            self.assertEqual(json.loads(socket.recv())["userid"], "acct:hang@h")
            socket.close()
        self.assertEqual(sum(b'"hang"' in body for body, _ in self.application.questions), 1)
        # Who is never answered for is a stranger.
        self.assertIsNone(self.who(never))
        never.close()


if __name__ == "__main__":
    unittest.main()
