"""Mastodon.py, which most bots are made with, against the real binary: event streams and WebSockets, of a server that
stands alone, and of one in the place of Mastodon's own."""

import http.server
import json
import queue
import threading
import time
import unittest

import mastodon

from mastodon_worlds import Alone, InPlace
from test_pusher import PATIENCE_S

# Published until it is heard: peers are not told that they hear a channel.
MARK = "999999"
MARK_EVERY_S = 0.05

STATUS = {
    "id": "110",
    "created_at": "2026-01-02T03:04:05.678Z",
    "visibility": "public",
    "language": "en",
    "content": "<p>hello</p>",
    "account": {"id": "2", "username": "ann", "acct": "ann"},
    "mentions": [],
}

STREAMS = [
    ("timeline:1", lambda api, *it, **how: api.stream_user(*it, **how)),
    ("timeline:1:notifications", lambda api, *it, **how: api.stream_user_notifications(*it, **how)),
    ("timeline:public", lambda api, *it, **how: api.stream_public(*it, **how)),
    ("timeline:public:media", lambda api, *it, **how: api.stream_public(*it, only_media=True, **how)),
    ("timeline:public:local", lambda api, *it, **how: api.stream_public(*it, local=True, **how)),
    ("timeline:public:remote", lambda api, *it, **how: api.stream_public(*it, remote=True, **how)),
    ("timeline:hashtag:foo", lambda api, *it, **how: api.stream_hashtag("Foo", *it, **how)),
    ("timeline:hashtag:foo:local", lambda api, *it, **how: api.stream_hashtag("Foo", *it, local=True, **how)),
    ("timeline:list:1", lambda api, *it, **how: api.stream_list("1", *it, **how)),
    ("timeline:direct:1", lambda api, *it, **how: api.stream_direct(*it, **how)),
]


class Instance(http.server.BaseHTTPRequestHandler):
    """What a client asks Mastodon's web host first: where the streaming server is."""

    def do_GET(self):
        about = {
            "domain": "example.com",
            "version": "4.6.5",
            "urls": {"streaming_api": self.server.streaming},
            "configuration": {"urls": {"streaming": self.server.streaming}},
        }
        body = json.dumps(about).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Listener(mastodon.StreamListener):
    """Keeps what it hears; one that is cut off says so."""

    def __init__(self):
        self.heard = queue.Queue()
        self.marked = threading.Event()
        self.refused = queue.Queue()
        self.beaten = threading.Event()
        self.aborted = threading.Event()

    def on_any_event(self, name, data=None, for_stream=None):
        if name == "delete" and str(data) == MARK:
            self.marked.set()
        else:
            self.heard.put((name, data, for_stream))

    def on_unknown_event(self, name, unknown_event=None):
        pass

    def on_websocket_error(self, error, for_stream=None):
        self.refused.put(error)

    def on_abort(self, err):
        self.aborted.set()

    def handle_heartbeat(self):
        self.beaten.set()

    def next(self):
        return self.heard.get(timeout=PATIENCE_S)


class Streams:
    """What is the same in both."""

    @classmethod
    def setUpClass(cls):
        cls.world = cls.World()
        cls.instance = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Instance)
        cls.instance.streaming = f"ws://127.0.0.1:{cls.world.port}"
        threading.Thread(target=cls.instance.serve_forever, daemon=True).start()

    @classmethod
    def tearDownClass(cls):
        cls.instance.shutdown()
        cls.instance.server_close()
        cls.world.close()

    def api(self, token=None):
        return mastodon.Mastodon(
            access_token=token or self.world.token,
            api_base_url=f"http://127.0.0.1:{self.instance.server_address[1]}",
            version_check_mode="none",
        )

    def tune(self, listener, channel):
        listener.marked.clear()
        until = time.monotonic() + PATIENCE_S
        while not listener.marked.wait(MARK_EVERY_S):
            self.assertLess(time.monotonic(), until, f"nothing is heard on {channel}")
            self.world.publish("delete", MARK, channel)

    def hear(self, listener, channel, stream=None):
        """Publishes one of each kind and hears them in order."""
        self.tune(listener, channel)
        self.world.publish("update", STATUS, channel)
        self.world.publish("status.update", {**STATUS, "content": "a\nb"}, channel)
        self.world.publish("delete", "7", channel)
        name, status, heard_on = listener.next()
        self.assertEqual((name, str(status.id), status.account.acct), ("update", STATUS["id"], "ann"))
        self.assertEqual(heard_on, stream)
        name, status, _ = listener.next()
        self.assertEqual((name, status.content), ("status.update", "a\nb"))
        name, deleted, _ = listener.next()
        self.assertEqual((name, str(deleted)), ("delete", "7"))

    def test_every_event_stream_is_heard(self):
        for channel, stream in STREAMS:
            with self.subTest(channel):
                listener = Listener()
                handle = stream(self.api(), listener, run_async=True)
                self.hear(listener, channel)
                # The first bytes of a stream are a comment.
                self.assertTrue(listener.beaten.is_set())
                # Waits for the next byte, which a comment will bring.
                threading.Thread(target=handle.close, daemon=True).start()

    def test_every_stream_is_heard_on_one_socket(self):
        api = self.api()
        with api.stream_open_websocket() as handle:
            for channel, stream in STREAMS:
                with self.subTest(channel):
                    listener = Listener()
                    subscription = stream(api, listener, websocket_handle=handle)
                    names = [subscription.stream, *subscription.params.values()]
                    self.hear(listener, channel, names)
                    subscription.close()

    def test_an_app_is_told_why_a_stream_is_not_for_it(self):
        api = self.api()
        listener = Listener()
        with api.stream_open_websocket(listener) as handle:
            handle.subscribe("list", list="2")
            _, status, text = listener.refused.get(timeout=PATIENCE_S).args
            self.assertEqual((status, text), (401, "Not authorized to stream this list"))
            # And hears what is.
            api.stream_local(listener, websocket_handle=handle)
            self.hear(listener, "timeline:public:local", ["public:local"])

    def test_a_token_of_nobody_does_not_get_in(self):
        api = self.api("token-of-nobody")
        with self.assertRaises(mastodon.MastodonNetworkError):
            api.stream_user(Listener())
        with self.assertRaises(mastodon.MastodonNetworkError):
            api.stream_open_websocket(Listener())

    def test_the_server_is_healthy(self):
        self.assertTrue(self.api().stream_healthy())

    def test_who_is_killed_hears_no_more(self):
        socket, stream = Listener(), Listener()
        handle = self.api().stream_open_websocket(socket)
        handle.subscribe("user")
        running = self.api().stream_user(stream, run_async=True)
        self.tune(socket, "timeline:1")
        self.tune(stream, "timeline:1")
        self.world.publish("kill", None, "timeline:system:1")
        handle.join(PATIENCE_S)
        running.join(PATIENCE_S)
        self.assertFalse(handle.is_alive() or running.is_alive())
        self.assertTrue(socket.aborted.is_set())


class AloneTest(Streams, unittest.TestCase):
    World = Alone


class InPlaceTest(Streams, unittest.TestCase):
    World = InPlace

    def hears(self, listener, channel, *statuses):
        """Publishes statuses; those that are heard before another one, which nobody minds."""
        self.tune(listener, channel)
        for status in statuses:
            self.world.publish("update", status, channel)
        self.world.publish("update", {**STATUS, "id": "199"}, channel)
        heard = []
        while not heard or str(heard[-1].id) != "199":
            heard.append(listener.next()[1])
        return heard[:-1]

    def test_statuses_that_the_database_says_nobody_wants_are_not_heard(self):
        # Bob blocks Cyd, mutes Gus and blocks a domain, and is warned of spoilers. Dee reads German and French.
        by = lambda id, author, acct: {**STATUS, "id": id, "account": {"id": author, "username": acct, "acct": acct}}
        statuses = [
            by("201", "3", "cyd"),
            by("202", "7", "gus@far.example"),
            by("203", "8", "hal@bad.example"),
            {**STATUS, "id": "204", "content": "<p>the ending</p>"},
            {**STATUS, "id": "205", "mentions": [{"id": "3", "acct": "cyd"}]},
        ]
        socket, stream = Listener(), Listener()
        api = self.api("token-bob")
        with api.stream_open_websocket() as handle:
            api.stream_local(socket, websocket_handle=handle)
            running = api.stream_public(stream, run_async=True)
            for listener, channel in [(socket, "timeline:public:local"), (stream, "timeline:public")]:
                heard = self.hears(listener, channel, *statuses)
                self.assertEqual([str(it.id) for it in heard], ["204"])
                found = heard[0].filtered[0]
                self.assertEqual((found.filter.title, found.keyword_matches), ("Spoilers", ["ending"]))
            threading.Thread(target=running.close, daemon=True).start()

    def test_a_token_that_is_taken_back_ends_its_streams_alone(self):
        socket, stream, other = Listener(), Listener(), Listener()
        # Without a stream, too.
        handle = self.api("token-ann-too").stream_open_websocket(socket)
        running = self.api("token-ann-too").stream_user(stream, run_async=True)
        api = self.api()
        with api.stream_open_websocket() as stays:
            api.stream_user(other, websocket_handle=stays)
            self.tune(other, "timeline:1")
            self.tune(stream, "timeline:1")
            self.world.publish("kill", None, "timeline:access_token:111")
            handle.join(PATIENCE_S)
            running.join(PATIENCE_S)
            self.assertFalse(handle.is_alive() or running.is_alive())
            self.hear(other, "timeline:1", ["user"])

    def test_a_token_that_was_taken_back_unheard_is_found(self):
        # Read by the database before it is taken back, and nobody is told.
        stream = Listener()
        taken_back = "UPDATE oauth_access_tokens SET revoked_at = now() WHERE token = 'token-eve'"
        with self.world.postgres.withheld(taken_back):
            handle = self.api("token-eve").stream_open_websocket(Listener())
            running = self.api("token-eve").stream_user(stream, run_async=True)
            self.assertTrue(stream.beaten.wait(PATIENCE_S))
        handle.join(PATIENCE_S)
        running.join(PATIENCE_S)
        self.assertFalse(handle.is_alive() or running.is_alive())


if __name__ == "__main__":
    unittest.main()
