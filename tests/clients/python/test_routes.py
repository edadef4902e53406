"""schemathesis makes requests up from the OpenAPI document that the real binary serves, good and bad ones, and holds the
answers to it: no 5xx, no status and no shape that the document does not name, nothing taken that it forbids."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import requests

import schemathesis_signing as signing
from test_pusher import Server

# Rules between members (what is replaced is not cleared, a channel's name is typed twice) are in no schema, so what is
# made up after it is refused now and then.
NOT_CHECKED = "positive_data_acceptance"

REQUESTS_MAX = 25
MINUTES_MAX = 4


class RoutesTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(is_development=True)
        cls.url = f"http://127.0.0.1:{cls.server.port}"

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def post(self, path, body):
        answer = requests.post(f"{self.url}/apps/app-id/{path}", json=body, auth=signing.Signature(), timeout=10)
        self.assertEqual(answer.status_code, 200, answer.text)
        return answer.json()

    def test_made_up_requests(self):
        document = requests.get(f"{self.url}/openapi.json", timeout=10).json()
        # The signature is added to what is made up, and is not itself made up.
        document["components"].pop("securitySchemes")
        for methods in document["paths"].values():
            for operation in methods.values():
                operation.pop("security")
        event = {"name": "e", "channel": "letters", "data": "hello", "info": ""}
        message = self.post("events", event)["channels"]["letters"]["message_serial"]
        said = {"type": "likes:total.v1", "name": "like"}
        annotation = self.post(f"channels/letters/messages/{message}/annotations", said)["annotationSerial"]
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder, "openapi.json")
            file.write_text(json.dumps(document))
            config = pathlib.Path(folder, "schemathesis.toml")
            config.write_text(
                # Too large is a way to be wrong, and so is something else under a key that was used.
                '[checks]\nnegative_data_rejection.expected-statuses = '
                '["400", "401", "403", "404", "406", "409", "413", "422", "428", "429", "5xx"]\n'
                '[parameters]\n"path.app_id" = "app-id"\n'
                '[[operations]]\ninclude-path-regex = "/messages/"\n[operations.parameters]\n"path.app_id" = "app-id"\n'
                f'"path.channel_name" = "letters"\n"path.message_serial" = "{message}"\n'
                f'"path.annotation_serial" = "{annotation}"\n'
            )
            here = pathlib.Path(__file__).resolve().parent
            ran = subprocess.run(
                [pathlib.Path(sys.executable).with_name("st"), "--config-file", config, "run", file, "--url", self.url,
                 "--phases", "examples,coverage,fuzzing", "--exclude-checks", NOT_CHECKED, "--seed", "1",
                 "--max-examples", str(REQUESTS_MAX), "--generation-database", "none", "--warnings", "off",
                 "--continue-on-failure", "--request-timeout", "10"],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(here), "SCHEMATHESIS_HOOKS": "schemathesis_signing"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=60 * MINUTES_MAX,
            )
        self.assertEqual(ran.returncode, 0, ran.stdout[-20000:])
        self.assertEqual(requests.get(f"{self.url}/up", timeout=10).text, "OK")


if __name__ == "__main__":
    unittest.main()
