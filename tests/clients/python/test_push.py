"""The push methods of Sockudo's own server SDK against the real binary, and Web Push as pywebpush's libraries read it:
http_ece decrypts, py_vapid checks the signature."""

import asyncio
import base64
import http.server
import json
import os
import re
import threading
import time
import unittest
import uuid

import http_ece
import py_vapid
import sockudo_http_python as http_sdk
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from test_pusher import PATIENCE_S, Server

APP = {"app_id": "app-id", "key": "app-key", "secret": "app-secret"}
FINAL = {"cancelled", "succeeded", "partially_succeeded", "failed", "quota_exceeded", "expired", "dead_lettered"}


def url64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def bytes64(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Service(http.server.BaseHTTPRequestHandler):
    """A push service that keeps what comes, and takes it."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"] or 0))
        with self.server.arrived:
            self.server.messages.append((self.path, dict(self.headers.items()), body))
            self.server.arrived.notify_all()
        self.send_response(410 if self.path.startswith("/gone") else 201)
        self.send_header("Location", f"/message/{uuid.uuid4()}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Browser:
    def __init__(self, origin, path=None):
        self.private = ec.generate_private_key(ec.SECP256R1())
        point = self.private.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
        self.auth = os.urandom(16)
        self.endpoint = f"{origin}{path or '/push/' + uuid.uuid4().hex}"
        self.subscription = {
            "endpoint": self.endpoint,
            "keys": {"p256dh": url64(point), "auth": url64(self.auth)},
        }

    def recipient(self):
        return {"transportType": "web", "endpoint": self.endpoint, **self.subscription["keys"]}

    def read(self, body):
        opened = http_ece.decrypt(body, private_key=self.private, auth_secret=self.auth, version="aes128gcm")
        return json.loads(opened)


def device(recipient, **more):
    return {
        "appId": APP["app_id"],
        "id": f"device-{uuid.uuid4().hex[:12]}",
        "formFactor": "desktop",
        "platform": "browser",
        "deviceSecret": "replaced by the server",
        "timezone": "Europe/Vienna",
        "locale": "en",
        "metadata": {},
        "push": {"recipient": recipient, "state": "ACTIVE"},
        **more,
    }


class Push(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.service = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
        cls.service.daemon_threads = True
        cls.service.messages, cls.service.arrived = [], threading.Condition()
        threading.Thread(target=cls.service.serve_forever, daemon=True).start()
        cls.origin = f"http://127.0.0.1:{cls.service.server_address[1]}"
        variables = {"RINGMAIN_PUSH_ENCRYPTION_KEY": url64(os.urandom(32)), "RINGMAIN_PUSH_ALLOW_PRIVATE": "true"}
        cls.server = Server(is_development=True, variables=variables)
        options = http_sdk.SockudoOptions(port=cls.server.port, max_retries=1)
        cls.sdk = http_sdk.Sockudo(APP["app_id"], APP["key"], APP["secret"], options=options)
        cls.vapid = py_vapid.Vapid02()
        cls.vapid.generate_keys()
        cls.public = cls.vapid.public_key.public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
        number = cls.vapid.private_key.private_numbers().private_value
        result = cls.sdk.put_push_credential(
            "webpush",
            {
                "publicKey": url64(cls.public),
                "privateKey": url64(number.to_bytes(32, "big")),
                "subject": "mailto:push@example.org",
            },
        )
        assert result.status_code == 201, result

    @classmethod
    def tearDownClass(cls):
        cls.sdk.close()
        assert cls.server.stop() == 0
        cls.service.shutdown()
        cls.service.server_close()

    def said(self, result):
        """What an answer of the SDK says, as JSON."""
        self.assertTrue(200 <= result.status_code < 300, f"{result.status_code}: {result.message}")
        return json.loads(result.message) if result.message else None

    def arrived(self, endpoint, count=1):
        path = endpoint.removeprefix(self.origin)
        with self.service.arrived:
            of = lambda: [it for it in self.service.messages if it[0] == path]
            self.service.arrived.wait_for(lambda: len(of()) >= count, PATIENCE_S)
            self.assertEqual(len(of()), count)
            return of()

    def ended(self, publish_id):
        end = time.monotonic() + PATIENCE_S
        while (status := self.said(self.sdk.get_publish_status(publish_id)))["state"] not in FINAL:
            self.assertLess(time.monotonic(), end, status)
            time.sleep(0.02)
        return status

    def subscribed(self, channel, **more):
        browser = Browser(self.origin)
        registered = self.said(self.sdk.activate_device(device(browser.recipient(), **more)))
        subscription = {
            "appId": APP["app_id"],
            "channel": channel,
            "deviceId": registered["device"]["id"],
            "provider": "webPush",
            "tokenHash": registered["tokenHash"],
        }
        self.said(self.sdk.upsert_channel_push_subscription(subscription))
        return browser, registered

    def test_a_publish_is_read_by_http_ece_and_vouched_for_by_vapid(self):
        browser, registered = self.subscribed("orders-py")
        self.assertEqual(registered["change"], "inserted")
        payload = {"title": "Größe", "body": "x" * 2000, "data": {"n": "1"}}
        answer = self.said(
            self.sdk.publish_push({"recipients": [{"type": "channel", "channel": "orders-py"}], "payload": payload})
        )
        self.assertEqual(self.ended(answer["publishId"])["state"], "succeeded")
        [(_, headers, body)] = self.arrived(browser.endpoint)
        data = payload.pop("data")
        self.assertEqual(browser.read(body), {"notification": payload, "data": data})
        self.assertLessEqual(len(body), 4096)
        fields = {name.lower(): value for name, value in headers.items()}
        self.assertEqual(fields["content-encoding"], "aes128gcm")
        # The space is optional white space of RFC 9110, which py_vapid does not read.
        self.assertTrue(py_vapid.Vapid02.verify(fields["authorization"].replace(", k=", ",k=")))
        token, key = re.fullmatch(r"vapid t=([^,]+), ?k=(.+)", fields["authorization"]).groups()
        claims = json.loads(bytes64(token.split(".")[1]))
        self.assertEqual((claims["aud"], claims["sub"]), (self.origin, "mailto:push@example.org"))
        self.assertEqual(bytes64(key), self.public)

    def test_every_size_is_read(self):
        browser, registered = self.subscribed("sizes-py")
        recipients = [{"type": "device", "device_id": registered["device"]["id"]}]
        sizes = [0, 1, 2, 100, 1000, 3000, 3500]
        for at, size in enumerate(sizes):
            answer = self.said(self.sdk.publish_push({"recipients": recipients, "payload": {"title": "t", "body": "é" * (size // 2) + "y" * (size % 2)}}))
            self.assertEqual(self.ended(answer["publishId"])["state"], "succeeded", size)
            *_, (_, _, body) = self.arrived(browser.endpoint, at + 1)
            self.assertEqual(len(browser.read(body)["notification"].get("body", "").encode()), size)

    def test_every_method_of_the_sdk(self):
        sdk, client = self.sdk, f"client-{uuid.uuid4().hex[:8]}"
        channel = f"sdk-{uuid.uuid4().hex[:8]}"
        browser, registered = self.subscribed(channel, clientId=client)
        id, identity = registered["device"]["id"], registered["deviceIdentityToken"]
        changed = self.said(sdk.update_device_registration({**device(browser.recipient(), clientId=client), "id": id, "locale": "de"}, identity))
        self.assertEqual(changed["change"], "updated")
        self.assertEqual(self.said(sdk.get_device_registration(id))["locale"], "de")
        self.assertEqual(self.said(sdk.get_device_registration(id, identity))["id"], id)
        rotated = self.said(sdk.activate_device({**device(browser.recipient(), clientId=client), "id": id}, True))
        self.assertNotEqual(rotated["deviceIdentityToken"], identity)
        page = self.said(sdk.list_device_registrations(http_sdk.PushCursorParams(limit=1)))
        self.assertEqual(len(page["items"]), 1)
        ids, cursor = set(), None
        for _ in range(100):
            page = self.said(sdk.list_device_registrations(http_sdk.PushCursorParams(limit=2, cursor=cursor)))
            ids.update(it["id"] for it in page["items"])
            cursor = page["next_cursor"]
            if not page["has_more"]:
                break
        self.assertIn(id, ids)
        subscriptions = self.said(sdk.list_channel_push_subscriptions(http_sdk.PushSubscriptionParams(channel=channel)))
        self.assertEqual([it["deviceId"] for it in subscriptions["items"]], [id])
        own = self.said(sdk.list_channel_push_subscriptions(http_sdk.PushSubscriptionParams(device_id=id), rotated["deviceIdentityToken"]))
        self.assertEqual([it["channel"] for it in own["items"]], [channel])
        self.assertIn(channel, self.said(sdk.list_channel_push_subscription_channels(http_sdk.PushCursorParams(limit=1000)))["items"])
        self.assertEqual([it["provider"] for it in self.said(sdk.list_push_credentials())["items"]], ["webPush"])
        to_client = {"recipients": [{"type": "client", "client_id": client}], "payload": {"title": "t"}}
        batch = self.said(sdk.publish_push_batch([to_client, to_client | {"payload": {"title": "u"}}]))
        for item in batch["items"]:
            self.assertEqual(self.ended(item["publishId"])["state"], "succeeded")
        direct = {"recipients": [{"type": "recipient", "recipient": Browser(self.origin).recipient()}], "payload": {"title": "t"}}
        self.assertEqual(self.ended(self.said(sdk.publish_push_direct(direct))["publishId"])["state"], "succeeded")
        far = int(time.time() * 1000) + 3_600_000
        scheduled = self.said(sdk.schedule_push({**to_client, "notBeforeMs": far}))
        self.assertEqual(scheduled["status"], "accepted")
        self.assertEqual(sdk.cancel_scheduled_push(scheduled["publishId"]).status_code, 204)
        self.assertEqual(self.said(sdk.get_publish_status(scheduled["publishId"]))["state"], "cancelled")
        done = batch["items"][0]["publishId"]
        result = {"appId": APP["app_id"], "publishId": done, "provider": "webPush", "batchId": "b", "deviceId": id, "outcome": "delivered", "attempt": 1}
        event = {"appId": APP["app_id"], "publishId": done, "eventId": uuid.uuid4().hex, "occurredAtMs": int(time.time() * 1000), "result": result}
        self.assertEqual(sdk.post_push_delivery_status(event).status_code, 202)
        deleted = self.said(sdk.delete_channel_push_subscriptions(http_sdk.PushSubscriptionParams(channel=channel, device_id=id)))
        self.assertEqual(deleted["deleted"], 1)
        self.assertEqual(sdk.delete_device_registration(id, rotated["deviceIdentityToken"]).status_code, 204)
        self.said(sdk.activate_device(device(Browser(self.origin).recipient(), clientId=client)))
        self.assertEqual(self.said(sdk.remove_device_registrations_by_client(client))["deleted"], 1)

    def test_the_asynchronous_sdk_says_the_same(self):
        async def run():
            options = http_sdk.SockudoOptions(port=self.server.port, max_retries=1)
            sdk = http_sdk.AsyncSockudo(APP["app_id"], APP["key"], APP["secret"], options=options)
            browser = Browser(self.origin)
            registered = self.said(await sdk.activate_device(device(browser.recipient())))
            recipients = [{"type": "device", "device_id": registered["device"]["id"]}]
            answer = self.said(await sdk.publish_push({"recipients": recipients, "payload": {"title": "async"}}))
            return browser, answer["publishId"]

        browser, publish_id = asyncio.run(run())
        self.assertEqual(self.ended(publish_id)["state"], "succeeded")
        [(_, _, body)] = self.arrived(browser.endpoint)
        self.assertEqual(browser.read(body)["notification"]["title"], "async")

    def test_a_browser_that_is_gone_is_forgotten(self):
        browser = Browser(self.origin, f"/gone/{uuid.uuid4().hex}")
        id = self.said(self.sdk.activate_device(device(browser.recipient())))["device"]["id"]
        answer = self.said(self.sdk.publish_push({"recipients": [{"type": "device", "device_id": id}], "payload": {"title": "t"}}))
        self.assertEqual(self.ended(answer["publishId"])["state"], "failed")
        self.arrived(browser.endpoint)
        # The registration goes a moment after its outcome is told.
        end = time.monotonic() + PATIENCE_S
        while self.sdk.get_device_registration(id).status_code != 404:
            self.assertLess(time.monotonic(), end)
            time.sleep(0.02)


if __name__ == "__main__":
    unittest.main()
