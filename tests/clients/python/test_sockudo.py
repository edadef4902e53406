"""The official clients of Sockudo's protocol 2 against the real binary, started as for who configures nothing:
channels `durable-*` are on disk, all others keep their last 100 events in memory."""

import asyncio
import base64
import json
import time
import unittest
import uuid

import httpx
import jwt
import sockudo_http_python as http
import sockudo_python as ws
import vcdiff_decoder
from sockudo_python.client import FossilDelta, PresenceHistoryOptions, ProtocolCodec

from test_pusher import PATIENCE_S, Server

APP = {"app_id": "app-id", "key": "app-key", "secret": "app-secret"}


class Proxy:
    """A line to the server that can be cut: who connects meanwhile waits until it is mended."""

    def __init__(self, port):
        self.port, self.writers, self.tasks = port, set(), set()
        self.mended = asyncio.Event()
        self.mended.set()

    async def start(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        return self.server.sockets[0].getsockname()[1]

    async def serve(self, reader, writer):
        self.writers.add(writer)
        try:
            await self.mended.wait()
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.port)
            self.writers.add(up_writer)
            await asyncio.gather(self.carry(reader, up_writer), self.carry(up_reader, writer))
        except (OSError, asyncio.CancelledError):
            pass

    async def carry(self, reader, writer):
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.transport.abort()

    def cut(self):
        self.mended.clear()
        for writer in self.writers:
            writer.transport.abort()
        self.writers.clear()

    def mend(self):
        self.mended.set()

    async def stop(self):
        self.cut()
        self.server.close()


def token(jti, capability, client="ann", seconds=3600):
    """A capability token, as a web application issues it."""
    now = int(time.time())
    claims = {"iat": now, "exp": now + seconds, "jti": jti, "x-sockudo-client-id": client}
    claims["x-sockudo-capability"] = capability
    return jwt.encode(claims, APP["secret"], algorithm="HS256", headers={"kid": APP["key"]})


class Listener:
    """The SDK's client and what its application hears, in order. `frames` is what the SDK reads from the wire, of
    which it hands its application only the name and the data."""

    def __init__(self, port, publisher, user=None, **options):
        authorize = lambda request: self.grant(publisher, request, user)
        self.client = ws.SockudoClient(
            APP["key"],
            ws.SockudoOptions(
                cluster="local",
                ws_host="127.0.0.1",
                ws_port=port,
                force_tls=False,
                enabled_transports=[ws.SockudoTransport.WS],
                connection_recovery=True,
                # What comes twice is to be seen.
                message_deduplication=False,
                channel_authorization=ws.ChannelAuthorizationOptions(custom_handler=authorize),
                **options,
            ),
        )
        self.heard, self.frames, self.changed = [], [], asyncio.Event()
        self.client.bind_global(self.take)
        self.handle, self.client._handle_raw_message = self.client._handle_raw_message, self.overhear

    async def overhear(self, raw):
        frame = ProtocolCodec.decode_event(raw, self.client.options.wire_format)
        frame.raw_message = raw
        self.frames.append(frame)
        await self.handle(raw)
        self.changed.set()

    async def grant(self, publisher, request, user):
        member = user if request.channel_name.startswith("presence-") else None
        granted = publisher.authenticate(request.socket_id, request.channel_name, member)
        return ws.ChannelAuthorizationData(**json.loads(granted))

    def take(self, event, data):
        self.heard.append((event, data))
        self.changed.set()

    async def until(self, enough):
        async def wait():
            while not enough():
                self.changed.clear()
                await self.changed.wait()

        await asyncio.wait_for(wait(), PATIENCE_S)

    async def subscribe(self, name, rewind=None, **options):
        channel = self.client.subscribe(name, ws.SubscriptionOptions(rewind=rewind, **options))
        channel.bind_global(lambda event, data: self.take(f"{name} {event}", data))
        await self.until(lambda: self.count(f"{name} sockudo:subscription_succeeded") > 0)
        return channel

    def count(self, event):
        return sum(it == event for it, _ in self.heard)

    def numbers(self, name):
        return [data["n"] for event, data in self.heard if event == f"{name} e"]

    def last(self, event):
        return next(data for it, data in reversed(self.heard) if it == event)

    def messages(self, name):
        """What each message of a channel is after all that was heard, by its serial. The reducer of the JavaScript SDK,
        whose rules these are (version 2.2, versioned_messages.ts), has no twin in this one."""
        messages = {}
        for frame in self.frames:
            headers = frame.extras.headers or {} if frame.extras else {}
            serial = headers.get("sockudo_message_serial")
            if frame.channel != name or serial is None:
                continue
            before = messages.get(serial)
            if headers["sockudo_action"] == "message.append" and before is not None:
                messages[serial] = before + frame.data
            else:
                messages[serial] = frame.data
        return messages

    def summaries(self, name):
        """The last summary of each annotated message and type of a channel."""
        told = [data for event, data in self.heard if event == f"{name} sockudo_internal:message"]
        return {(it["serial"], kind): what for it in told for kind, what in it["annotations"]["summary"].items()}


class SockudoTest(unittest.IsolatedAsyncioTestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(is_development=True)

    @classmethod
    def tearDownClass(cls):
        code = cls.server.stop()
        assert code == 0, f"exit code {code}"

    async def asyncSetUp(self):
        self.publisher = http.Sockudo(**APP, options=http.SockudoOptions(port=self.server.port, max_retries=1))
        self.proxy = Proxy(self.server.port)
        self.port = await self.proxy.start()
        self.listeners = []

    async def asyncTearDown(self):
        for listener in self.listeners:
            await listener.client.disconnect()
        await self.proxy.stop()
        self.publisher.close()

    async def listener(self, **options):
        listener = Listener(self.port, self.publisher, **options)
        self.listeners.append(listener)
        await listener.client.connect()
        await listener.until(lambda: listener.client.connection_state is ws.ConnectionState.CONNECTED)
        return listener

    async def call(self, function, *arguments, **options):
        result = await asyncio.to_thread(function, *arguments, **options)
        self.assertTrue(result.ok, result)
        return result.json()

    async def publish(self, channel, *numbers):
        for n in numbers:
            await self.call(self.publisher.trigger, channel, "e", {"n": n})

    def name(self, kind):
        """A channel that no other test knows."""
        return f"{kind}-{uuid.uuid4().hex[:12]}"

    async def test_live(self):
        name = self.name("news")
        listener = await self.listener()
        await listener.subscribe(name)
        options = http.TriggerOptions(tags={"kind": "x"}, extras=http.MessageExtras(headers={"a": 1}))
        await self.call(self.publisher.trigger, name, "e", {"n": 1}, options)
        await listener.until(lambda: listener.numbers(name) == [1])

    async def test_idempotency(self):
        for kind in ("news", "durable"):
            with self.subTest(kind):
                name = self.name(kind)
                listener = await self.listener()
                await listener.subscribe(name)
                options = http.TriggerOptions(idempotency_key="once", info="subscription_count")
                first = await self.call(self.publisher.trigger, name, "e", {"n": 1}, options)
                again = await self.call(self.publisher.trigger, name, "e", {"n": 1}, options)
                told = first["channels"][name]
                self.assertEqual(told["mode"], {"news": "memory", "durable": "durable"}[kind])
                self.assertEqual(told["history_serial"], 1)
                self.assertEqual(again["channels"][name]["acknowledgement_id"], told["acknowledgement_id"])
                self.assertTrue(again["channels"][name]["repeated"])
                # The key names the request, whatever it says now.
                other = await self.call(self.publisher.trigger, name, "e", {"n": 2}, options)
                self.assertTrue(other["channels"][name]["repeated"])
                await self.publish(name, 3)
                await listener.until(lambda: 3 in listener.numbers(name))
                self.assertEqual(listener.numbers(name), [1, 3])

    async def test_history_pages(self):
        for kind in ("news", "durable"):
            with self.subTest(kind):
                name = self.name(kind)
                await self.publish(name, *range(1, 11))
                for direction, expected in (("newest_first", [*range(10, 0, -1)]), ("oldest_first", [*range(1, 12)])):
                    serials, cursor = [], None
                    while True:
                        params = http.HistoryParams(limit=3, direction=direction, cursor=cursor)
                        page = await self.call(self.publisher.get_channel_history, name, params)
                        serials += [item["serial"] for item in page["items"]]
                        if direction == "newest_first" and cursor is None:
                            # Published in between: a page of the past does not move.
                            await self.publish(name, 11)
                        cursor = page["next_cursor"]
                        if cursor is None:
                            break
                    self.assertEqual(serials, expected)
                forged = http.HistoryParams(cursor="A" + page["stream_state"]["stream_id"].replace("-", ""))
                refused = await asyncio.to_thread(self.publisher.get_channel_history, name, forged)
                self.assertEqual(refused.status_code, 400, refused)
                state = await self.call(self.publisher.get_channel_history_state, name)
                self.assertEqual(state["stream"]["next_serial"], 12)
                self.assertEqual(state["stream"]["retained"]["retained_messages"], 11)
                purged = await self.call(
                    self.publisher.purge_channel_history, name, "before_serial", "test", before_serial=4
                )
                self.assertEqual(purged["purged_messages"], 3)
                page = await self.call(self.publisher.get_channel_history, name)
                self.assertEqual([item["serial"] for item in page["items"]], [*range(11, 3, -1)])
                self.assertTrue(page["continuity"]["truncated_by_retention"])

    async def test_rewind(self):
        for kind in ("news", "durable"):
            with self.subTest(kind):
                name = self.name(kind)
                await self.publish(name, *range(1, 6))
                by_count, by_time = await self.listener(), await self.listener()
                for listener, rewind, expected in (
                    (by_count, ws.SubscriptionRewind.count_messages(2), [4, 5]),
                    (by_time, ws.SubscriptionRewind.seconds_back(600), [1, 2, 3, 4, 5]),
                ):
                    await listener.subscribe(name, rewind)
                    done = f"{name} sockudo:rewind_complete"
                    await listener.until(lambda: listener.count(done) == 1)
                    self.assertEqual(listener.numbers(name), expected)
                    self.assertEqual(listener.last(done)["historical_count"], len(expected))
                    self.assertTrue(listener.last(done)["complete"] or rewind.count)
                await self.publish(name, 6)
                for listener in (by_count, by_time):
                    await listener.until(lambda: 6 in listener.numbers(name))
                    self.assertEqual(listener.numbers(name)[-1], 6)

    async def cut_off(self, name):
        """Cuts a listener off while events come, and mends the line while they still do."""
        listener = await self.listener()
        await listener.subscribe(name)
        await self.publish(name, *range(10))
        await listener.until(lambda: len(listener.numbers(name)) >= 5)
        publishing = asyncio.create_task(self.publish(name, *range(10, 60)))
        await listener.until(lambda: len(listener.numbers(name)) >= 15)
        self.proxy.cut()
        missed = listener.numbers(name)
        while not publishing.done() and (await self.head(name)) < 40:
            pass
        self.proxy.mend()
        await publishing
        await self.publish(name, 60)
        await listener.until(lambda: 60 in listener.numbers(name))
        self.assertLess(len(missed), 40)
        self.assertEqual(listener.numbers(name), [*range(61)])
        self.assertEqual(listener.count("sockudo:resume_success"), 1)
        self.assertEqual(listener.count("sockudo:resume_failed"), 0)

    async def head(self, name):
        state = await self.call(self.publisher.get_channel_history_state, name)
        return state["stream"]["next_serial"] - 1

    async def test_cut_off_public(self):
        await self.cut_off(self.name("news"))

    async def test_cut_off_durable(self):
        await self.cut_off(self.name("durable"))

    async def test_cut_off_private(self):
        await self.cut_off(self.name("private"))

    async def reset_while_away(self, name):
        listener = await self.listener()
        await listener.subscribe(name)
        await self.publish(name, 1, 2)
        await listener.until(lambda: listener.numbers(name) == [1, 2])
        self.proxy.cut()
        before = await self.call(self.publisher.get_channel_history_state, name)
        reset = await self.call(self.publisher.reset_channel_history, name, "test", "tests")
        self.assertEqual(reset["previous_stream_id"], before["stream"]["stream_id"])
        self.assertNotEqual(reset["new_stream_id"], reset["previous_stream_id"])
        self.proxy.mend()
        await listener.until(lambda: listener.count("sockudo:resume_failed") == 1)
        failed = listener.last("sockudo:resume_failed")
        self.assertEqual((failed["channel"], failed["code"]), (name, "stream_reset"))
        # In memory an empty channel that nobody listens to is forgotten, and has yet another life.
        if name.startswith("durable"):
            self.assertEqual(failed["current_stream_id"], reset["new_stream_id"])
        self.assertNotEqual(failed["current_stream_id"], reset["previous_stream_id"])
        await listener.until(lambda: listener.count(f"{name} sockudo:subscription_succeeded") >= 2)
        await self.publish(name, 3)
        await listener.until(lambda: 3 in listener.numbers(name))
        self.assertEqual(listener.numbers(name), [1, 2, 3])

    async def test_reset_while_away(self):
        await self.reset_while_away(self.name("news"))

    async def test_reset_while_away_durable(self):
        await self.reset_while_away(self.name("durable"))

    async def create(self, name, data, event="e", **options):
        """Publishes, and returns where it says what became of it."""
        options = http.TriggerOptions(info="subscription_count", **options)
        told = await self.call(self.publisher.trigger, name, event, data, options)
        return told["channels"][name]

    async def item(self, name, serial):
        got = await self.call(self.publisher.get_message, name, serial)
        self.assertEqual(got["channel"], name)
        return got["item"]

    async def refused(self, status, function, *arguments):
        result = await asyncio.to_thread(function, *arguments)
        self.assertEqual(result.status_code, status, result)
        return json.loads(result.message)

    async def test_a_message_and_its_versions(self):
        for kind in ("news", "durable"):
            with self.subTest(kind):
                name = self.name(kind)
                listener = await self.listener()
                await listener.subscribe(name)
                told = await self.create(name, "Hello")
                serial = told["message_serial"]
                self.assertEqual(told["version_serial"], serial)
                self.assertEqual((told["history_serial"], told["delivery_serial"]), (1, 1))
                item = await self.item(name, serial)
                self.assertEqual((item["action"], item["data"], item["message_serial"]), ("create", "Hello", serial))

                change = http.MessageMutation(
                    data="Hi", name="greeting", client_id="ann", description="shorter", metadata={"by": "hand"}
                )
                updated = await self.call(self.publisher.update_message, name, serial, change)
                self.assertEqual((updated["action"], updated["status"], updated["accepted"]), ("update", "applied", True))
                self.assertEqual((updated["history_serial"], updated["delivery_serial"]), (1, 2))
                item = await self.item(name, serial)
                self.assertEqual((item["name"], item["data"]), ("greeting", "Hi"))
                version = item["version"]
                self.assertEqual((version["client_id"], version["description"]), ("ann", "shorter"))
                self.assertEqual((version["metadata"], version["serial"]), ({"by": "hand"}, updated["version_serial"]))

                appended = await self.call(self.publisher.append_message, name, serial, " there")
                self.assertEqual(appended["action"], "append")
                self.assertEqual((await self.item(name, serial))["data"], "Hi there")
                deleted = await self.call(self.publisher.delete_message, name, serial)
                self.assertEqual((deleted["action"], deleted["delivery_serial"]), ("delete", 4))
                item = await self.item(name, serial)
                self.assertEqual((item["action"], item["data"]), ("delete", "Hi there"))
                # A deleted message may come back.
                again = {"data": "Back", "op_id": "once"}
                first = await self.call(self.publisher.update_message, name, serial, again)
                repeated = await self.call(self.publisher.update_message, name, serial, again)
                self.assertEqual((first["status"], repeated["status"]), ("applied", "duplicate"))
                self.assertEqual(repeated["version_serial"], first["version_serial"])

                for direction, step in (("oldest_first", 1), ("newest_first", -1)):
                    versions, cursor = [], None
                    while True:
                        params = http.MessageVersionsParams(limit=2, direction=direction, cursor=cursor)
                        page = await self.call(self.publisher.get_message_versions, name, serial, params)
                        versions += [(it["action"], it["data"]) for it in page["items"]]
                        cursor = page.get("next_cursor")
                        self.assertEqual(page["has_more"], cursor is not None)
                        if cursor is None:
                            break
                    self.assertEqual(
                        versions[::step],
                        [
                            ("create", "Hello"),
                            ("update", "Hi"),
                            # A version list shows what was added.
                            ("append", " there"),
                            ("delete", "Hi there"),
                            ("update", "Back"),
                        ],
                    )
                untouched = await self.create(name, "untouched")
                await listener.until(lambda: len(listener.messages(name)) == 2)
                latest = {serial: "Back", untouched["message_serial"]: "untouched"}
                self.assertEqual(listener.messages(name), latest)
                serials = [it.serial for it in listener.frames if it.channel == name and it.serial]
                self.assertEqual(serials, [1, 2, 3, 4, 5, 6])
                actions = [event for event, _ in listener.heard if event.startswith(f"{name} sockudo:message.")]
                self.assertEqual([it.rpartition(".")[2] for it in actions], ["update", "append", "delete", "update"])

                # Who comes later, and who looks back, finds what they are now.
                late = await self.listener()
                await late.subscribe(name, ws.SubscriptionRewind.count_messages(10))
                await late.until(lambda: late.count(f"{name} sockudo:rewind_complete") == 1)
                self.assertEqual(late.messages(name), latest)
                self.assertEqual(late.last(f"{name} sockudo:rewind_complete")["historical_count"], 2)
                page = await self.call(self.publisher.get_channel_history, name)
                items = [(it["serial"], it["message"]["data"]) for it in page["items"]]
                self.assertEqual(items, [(6, "untouched"), (1, "Back")])

                for status, call in (
                    (404, (self.publisher.get_message, name, "01ARZ3NDEKTSV4RRFFQ69G5FAV-99")),
                    (400, (self.publisher.update_message, name, serial, {})),
                    (400, (self.publisher.update_message, name, serial, {"data": "Other", "op_id": "once"})),
                    (404, (self.publisher.append_message, name, "nothing", "x")),
                    # Who acts must be there.
                    (401, (self.publisher.append_message, name, serial, "x", "1.2")),
                ):
                    problem = await self.refused(status, *call)
                    self.assertEqual(problem["status"], status)

    async def test_versions_are_resumed_in_order(self):
        for kind in ("news", "durable"):
            for mode in ws.AppendMode:
                with self.subTest(kind, mode=mode):
                    name = self.name(kind)
                    listener = await self.listener(append_mode=mode)
                    await listener.subscribe(name)
                    first = (await self.create(name, "a"))["message_serial"]
                    await self.call(self.publisher.append_message, name, first, "b")
                    await listener.until(lambda: listener.count(f"{name} sockudo:message.append") == 1)
                    # Who looked back was told all of the message in its first place, and goes on after its last.
                    late = await self.listener(append_mode=mode)
                    await late.subscribe(name, ws.SubscriptionRewind.count_messages(10))
                    await late.until(lambda: late.count(f"{name} sockudo:rewind_complete") == 1)
                    self.proxy.cut()
                    for part in ("c", "d"):
                        await self.call(self.publisher.append_message, name, first, part)
                    second = (await self.create(name, "x"))["message_serial"]
                    await self.call(self.publisher.update_message, name, second, {"data": "y"})
                    await self.call(self.publisher.delete_message, name, second, {"description": "gone"})
                    self.proxy.mend()
                    await listener.until(lambda: listener.count("sockudo:resume_success") == 1)
                    await self.create(name, "z", event="last")
                    await listener.until(lambda: listener.count(f"{name} last") == 1)
                    serials = [it.serial for it in listener.frames if it.channel == name and it.event[:8] != "sockudo_"]
                    self.assertEqual(serials, [1, 2, 3, 4, 5, 6, 7, 8])
                    appended = [data for event, data in listener.heard if event == f"{name} sockudo:message.append"]
                    whole = {ws.AppendMode.DELTA: ["b", "c", "d"], ws.AppendMode.FULL: ["ab", "abc", "abcd"]}
                    self.assertEqual(appended, whole[mode])
                    if mode is ws.AppendMode.DELTA:
                        latest = {it: (await self.item(name, it))["data"] for it in (first, second)}
                        self.assertEqual(latest, {first: "abcd", second: "y"})
                        for it in (listener, late):
                            await it.until(lambda: it.count(f"{name} last") == 1)
                            self.assertEqual({one: it.messages(name)[one] for one in latest}, latest)

    async def test_messages_changed_through_the_back_end_of_a_client(self):
        """The client SDK changes messages by asking the application's own back end, which asks the server."""
        name = self.name("news")

        async def back_end(request):
            asked = json.loads(request.content)
            given, channel = asked["params"], asked["channel"]
            if asked["action"] == "create":
                told = await self.create(channel, given["data"], given["event"])
            else:
                change = {key: given[key] for key in ("data", "extras") if key in given}
                change |= {"description": given["reason"]} if "reason" in given else {}
                serial = given["message_id"]
                if asked["action"] == "append":
                    told = await self.call(self.publisher.append_message, channel, serial, given["data"])
                else:
                    function = {"update": self.publisher.update_message, "delete": self.publisher.delete_message}
                    told = await self.call(function[asked["action"]], channel, serial, change)
            return httpx.Response(200, json={"ack": {**told, "message_id": told["message_serial"]}})

        listener = await self.listener(versioned_messages=ws.VersionedMessageOptions(endpoint="http://app/messages"))
        listener.client.config._http_client = httpx.AsyncClient(transport=httpx.MockTransport(back_end))
        channel = await listener.subscribe(name)
        made = await channel.create_versioned_message("e", "one")
        self.assertEqual((made.history_serial, made.delivery_serial), (1, 1))
        # The SDK reads serials of messages as numbers, which they are not, upstream no more than here.
        self.assertIsNone(made.message_serial)
        headers = ws.MessageExtras(headers={"lang": "en"})
        added = await channel.append_versioned_message(made.message_id, ", two")
        changed = await channel.update_versioned_message(made.message_id, "three", headers)
        gone = await channel.delete_versioned_message(made.message_id, "enough")
        self.assertEqual([it.action for it in (added, changed, gone)], ["append", "update", "delete"])
        self.assertEqual([it.delivery_serial for it in (added, changed, gone)], [2, 3, 4])
        await listener.until(lambda: listener.count(f"{name} sockudo:message.delete") == 1)
        frame = next(it for it in listener.frames if it.event == "sockudo:message.update")
        self.assertEqual(frame.extras.headers["lang"], "en")
        item = await self.item(name, made.message_id)
        self.assertEqual((item["data"], item["version"]["description"]), ("three", "enough"))

    async def test_annotations(self):
        for kind in ("news", "durable"):
            with self.subTest(kind):
                name = self.name(kind)
                listener = await self.listener()
                await listener.subscribe(name)
                serial = (await self.create(name, "annotated"))["message_serial"]

                async def annotate(kind, **options):
                    request = http.PublishAnnotationRequest(type=kind, **options)
                    told = await self.call(self.publisher.publish_annotation, name, serial, request)
                    return told["annotationSerial"]

                async def summary(kind, expected):
                    await listener.until(lambda: listener.summaries(name).get((serial, kind)) == expected)

                clients = lambda *ids: {"total": len(ids), "clientIds": [*ids], "clipped": False}
                await annotate("views:total.v1")
                await annotate("views:total.v1", client_id="ann", count=7)
                await summary("views:total.v1", {"total": 2})
                for client in ("ann", "bob", "ann"):
                    await annotate("seen:flag.v1", client_id=client)
                await summary("seen:flag.v1", clients("ann", "bob"))
                like = await annotate("reactions:distinct.v1", name="like", client_id="ann", data={"any": 1})
                await annotate("reactions:distinct.v1", name="wow", client_id="ann")
                await summary("reactions:distinct.v1", {"like": clients("ann"), "wow": clients("ann")})
                await annotate("vote:unique.v1", name="yes", client_id="ann")
                await annotate("vote:unique.v1", name="no", client_id="ann")
                await summary("vote:unique.v1", {"no": clients("ann")})
                await annotate("stars:multiple.v1", name="five", client_id="ann", count=3)
                await annotate("stars:multiple.v1", name="five", count=2)
                five = {"total": 5, "clientCounts": {"ann": 3}, "totalUnidentified": 2, "totalClientIds": 1}
                await summary("stars:multiple.v1", {"five": {**five, "clipped": False}})

                taken = await self.call(self.publisher.delete_annotation, name, serial, like)
                self.assertEqual(taken["deletedAnnotationSerial"], like)
                self.assertNotEqual(taken["annotationSerial"], like)
                again = await self.call(self.publisher.delete_annotation, name, serial, like)
                self.assertEqual(again, {"annotationSerial": like, "deletedAnnotationSerial": like})
                await summary("reactions:distinct.v1", {"wow": clients("ann")})

                events, params = [], http.AnnotationEventsParams(limit=2, type="reactions:distinct.v1")
                while True:
                    page = await self.call(self.publisher.list_annotations, name, serial, params)
                    self.assertEqual(page["messageSerial"], serial)
                    events += page["items"]
                    if not page["hasMore"]:
                        break
                    params.from_serial = page["nextCursor"]
                named = [(it["action"], it["name"], it["clientId"]) for it in events]
                created = [("annotation.create", "like", "ann"), ("annotation.create", "wow", "ann")]
                self.assertEqual(named, [*created, ("annotation.delete", "like", "ann")])
                self.assertEqual(events[0]["data"], {"any": 1})

                # Who comes later is told the sums.
                late = await self.listener()
                await late.subscribe(name)
                await late.until(lambda: len(late.summaries(name)) == 5)
                self.assertEqual(late.summaries(name), listener.summaries(name))

                for status, kind in ((400, "nothing"), (400, "a:flag.v1"), (400, "a:none.v1"), (400, "a:total.v2")):
                    request = http.PublishAnnotationRequest(type=kind)
                    await self.refused(status, self.publisher.publish_annotation, name, serial, request)
                await self.refused(404, self.publisher.delete_annotation, name, serial, "01ARZ3NDEKTSV4RRFFQ69G5FAV")

    async def test_each_annotation_for_those_who_may_hear_them(self):
        name = self.name("news")
        may = {name: ["subscribe", "publish", "annotation-subscribe", "annotation-publish", "message-update-own"]}
        listener = await self.listener(token=token("raw", may))
        # The SDK's options have no modes, its frames may have what they like.
        channel = listener.client._create_channel(name)
        listener.client.channels[name] = channel
        channel.bind_global(lambda event, data: listener.take(f"{name} {event}", data))
        modes = {"channel": name, "modes": ["SUBSCRIBE", "ANNOTATION_SUBSCRIBE"]}
        await listener.client.send_event("sockudo:subscribe", modes, None)
        await listener.until(lambda: listener.count(f"{name} sockudo:subscription_succeeded") == 1)
        serial = (await self.create(name, "annotated"))["message_serial"]
        # A client that acts has the name its token gives it, and may do what that allows.
        acting = http.PublishAnnotationRequest(type="seen:flag.v1", socket_id=listener.client.socket_id)
        told = await self.call(self.publisher.publish_annotation, name, serial, acting)
        event = f"{name} sockudo_internal:annotation"
        await listener.until(lambda: listener.count(event) == 1)
        heard = listener.last(event)
        self.assertEqual((heard["action"], heard["type"]), ("annotation.create", "seen:flag.v1"))
        self.assertEqual((heard["serial"], heard["clientId"]), (told["annotationSerial"], "ann"))
        change = http.MessageMutation(data="x", socket_id=listener.client.socket_id)
        problem = await self.refused(403, self.publisher.update_message, name, serial, change)
        self.assertEqual(problem["code"], "mutable_not_permitted")
        await listener.until(lambda: (serial, "seen:flag.v1") in listener.summaries(name))

    async def test_presence_and_its_past(self):
        name = self.name("presence-room")

        async def back_end(request):
            asked = json.loads(request.content)
            if asked["action"] == "history":
                params = http.PresenceHistoryParams(**asked["params"])
                told = await self.call(self.publisher.get_channel_presence_history, name, params)
            else:
                params = http.PresenceSnapshotParams(**asked["params"])
                told = await self.call(self.publisher.get_channel_presence_snapshot, name, params)
            return httpx.Response(200, json=told)

        user = lambda it: http.PresenceUser(it, {"name": it.title()})
        options = {"presence_history": PresenceHistoryOptions(endpoint="http://app/presence")}
        ann = await self.listener(user=user("ann"), **options)
        ann.client.config._http_client = httpx.AsyncClient(transport=httpx.MockTransport(back_end))
        channel = await ann.subscribe(name)
        bob = await self.listener(user=user("bob"))
        room = await bob.subscribe(name)
        await ann.until(lambda: ann.count(f"{name} sockudo:member_added") == 1)
        self.assertEqual(channel.members.me.info, {"name": "Ann"})
        self.assertEqual((channel.members.count, room.members.count), (2, 2))

        await room.update({"name": "Robert"})
        await ann.until(lambda: ann.count(f"{name} sockudo:presence_update") == 1)
        self.assertEqual(channel.members.member("bob").info, {"name": "Robert"})
        cid = await self.listener(user=user("cid"))
        self.assertEqual((await cid.subscribe(name)).members.member("bob").info, {"name": "Robert"})
        await bob.client.unsubscribe(name)
        await ann.until(lambda: ann.count(f"{name} sockudo:member_removed") == 1)
        self.assertEqual(channel.members.count, 2)

        page, events = await channel.history(ws.client.PresenceHistoryParams(limit=2, direction="oldest_first")), []
        while True:
            events += [(it.event, it.cause, it.user_id) for it in page.items]
            if not page.has_next():
                break
            page = await page.next()
        self.assertEqual(
            events,
            [
                ("member_added", "join", "ann"),
                ("member_added", "join", "bob"),
                ("member_updated", "join", "bob"),
                ("member_added", "join", "cid"),
                ("member_removed", "disconnect", "bob"),
            ],
        )
        self.assertEqual((page.continuity.retained_events, page.continuity.degraded), (5, False))
        snapshot = await channel.snapshot()
        self.assertEqual({it.user_id for it in snapshot.members}, {"ann", "cid"})
        before = await channel.snapshot(ws.client.PresenceSnapshotParams(at_serial=3))
        last = {it.user_id: it.last_event for it in before.members}
        self.assertEqual(last, {"ann": "member_added", "bob": "member_updated"})
        state = await self.call(self.publisher.get_channel_presence_history_state, name)
        self.assertEqual(state["stream"]["retained"]["retained_events"], 5)
        reset = await self.call(self.publisher.reset_channel_presence_history, name, "test", "tests")
        self.assertEqual(reset["purged_events"], 5)
        self.assertEqual((await channel.history()).items, [])
        await self.refused(400, self.publisher.get_channel_presence_history, self.name("news"))

    async def test_filters(self):
        name = self.name("news")
        tags = ws.Filter.and_(ws.Filter.eq("kind", "goal"), ws.Filter.gte("minute", "45"))
        neither = ws.Filter.not_(ws.Filter.or_(ws.Filter.inside("kind", ["goal", "card"]), ws.Filter.exists("quiet")))
        wanted = {
            "tags": ({"filter": tags}, [2]),
            "neither": ({"filter": neither}, [4]),
            "events": ({"events": ["a", "b"]}, [1, 2, 4]),
            "events and tags": ({"events": ["a"], "filter": ws.Filter.eq("kind", "goal")}, [1]),
            "expression": ({"expression": "data.n > `2`"}, [3, 4, 5]),
            "all three": ({"events": ["a", "c"], "filter": ws.Filter.exists("kind"), "expression": "data.n < `4`"}, [1, 3]),
        }
        listeners = {}
        for what, (options, _) in wanted.items():
            listeners[what] = await self.listener()
            await listeners[what].subscribe(name, **options)
        for n, (event, tags) in enumerate(
            [
                ("a", {"kind": "goal", "minute": "12"}),
                ("b", {"kind": "goal", "minute": "90"}),
                ("c", {"kind": "card"}),
                ("a", {"kind": "corner"}),
                ("d", {"quiet": "yes"}),
            ],
            start=1,
        ):
            await self.call(self.publisher.trigger, name, event, {"n": n}, http.TriggerOptions(tags=tags))
        heard = lambda it: [data["n"] for event, data in it.heard if event in [f"{name} {one}" for one in "abcd"]]
        for what, (_, expected) in wanted.items():
            with self.subTest(what):
                listener = listeners[what]
                await listener.until(lambda: len(heard(listener)) >= len(expected))
                # A state that is asked for comes after all that was sent before.
                await listener.client.send_event("sockudo:ping", {}, None)
                await listener.until(lambda: listener.count("sockudo:pong") == 1)
                self.assertEqual(heard(listener), expected)
        listener = await self.listener()
        wrong = ws.SubscriptionOptions(filter=ws.FilterNode(key="kind", cmp="zz", val="x"))
        listener.client.subscribe(self.name("news"), wrong)
        await listener.until(lambda: listener.count("error") == 1)
        self.assertIn("zz", listener.last("error")["message"])

    async def test_deltas(self):
        """The SDK (2.2.0) cannot use them itself: `_strip_delta_metadata` leaves the value of `__delta_seq` in what it
        takes as the base, the event it makes of a delta lacks a field that it must have, and its Fossil checksum is not
        cut to 32 bits. Its decoders are good but for that, and get here what it should have given them."""
        checksum = FossilDelta._checksum
        FossilDelta._checksum = staticmethod(lambda output: checksum(output) & 0xFFFFFFFF)
        self.addCleanup(setattr, FossilDelta, "_checksum", staticmethod(checksum))
        for algorithm in ws.DeltaAlgorithm:
            with self.subTest(algorithm):
                name = self.name("news")
                listener = await self.listener()
                settings = ws.ChannelDeltaSettings(enabled=True, algorithm=algorithm)
                await listener.subscribe(name, delta=settings)
                body = {f"field-{n}": f"what stays the same, {n}" for n in range(20)}
                for n in range(25):
                    await self.call(self.publisher.trigger, name, "e", {**body, "n": n})
                its = lambda: [it for it in listener.frames if it.channel == name and it.event in ("e", "sockudo:delta")]
                await listener.until(lambda: len(its()) == 25)
                base, deltas = None, 0
                for n, frame in enumerate(its()):
                    if frame.event == "e":
                        base = frame.raw_message.replace(f',"__delta_seq":{frame.sequence}', "")
                    else:
                        deltas += 1
                        delta = base64.b64decode(frame.data["delta"])
                        self.assertLess(len(delta), len(base) // 2)
                        if algorithm is ws.DeltaAlgorithm.FOSSIL:
                            base = FossilDelta.apply(base.encode(), delta).decode()
                        else:
                            base = vcdiff_decoder.decode(base.encode(), delta).decode()
                        self.assertEqual(frame.data["seq"], n)
                    self.assertEqual(json.loads(json.loads(base)["data"]), {**body, "n": n})
                self.assertGreater(deltas, 15)

    async def test_binary_formats(self):
        for wire_format in ws.SockudoWireFormat:
            with self.subTest(wire_format):
                name = self.name("private")
                options = {"wire_format": wire_format}
                one, other = await self.listener(**options), await self.listener(**options)
                channel = await one.subscribe(name)
                await other.subscribe(name)
                await channel.trigger("client-said", {"text": "hear, hear"})
                for it in (one, other):
                    await it.until(lambda: it.count(f"{name} client-said") == 1)
                    self.assertEqual(it.last(f"{name} client-said"), {"text": "hear, hear"})
                extras = http.MessageExtras(headers={"lang": "en", "big": True, "size": 2})
                serial = (await self.create(name, "a", tags={"kind": "x"}, extras=extras))["message_serial"]
                await self.call(self.publisher.append_message, name, serial, "b")
                await self.call(self.publisher.publish_annotation, name, serial, {"type": "views:total.v1"})
                await one.until(lambda: (serial, "views:total.v1") in one.summaries(name))
                self.assertEqual(one.messages(name)[serial], "ab")
                frame = next(it for it in one.frames if it.event == "e")
                own = {key: frame.extras.headers[key] for key in ("lang", "big", "size")}
                self.assertEqual((own, frame.serial), ({"lang": "en", "big": True, "size": 2.0}, 2))
                self.assertTrue(frame.stream_id and frame.message_id)
                heard = len(one.frames)
                self.proxy.cut()
                await self.call(self.publisher.append_message, name, serial, "c")
                self.proxy.mend()
                await one.until(lambda: one.messages(name)[serial] == "abc")
                self.assertGreater(len(one.frames), heard)
                is_binary = {type(it.raw_message) for it in one.frames}
                self.assertEqual(is_binary, {bytes if wire_format.is_binary else str})

    async def test_capability_tokens(self):
        name, other, given = self.name("news"), self.name("news"), []

        def issue():
            given.append(token(f"t{len(given)}-{name}", {name: ["subscribe", "history"]}))
            return given[-1]

        # The SDK asks for another one a second later, the earliest it does.
        listener = await self.listener(auth_callback=issue, auth_refresh_leeway_seconds=3599)
        await listener.subscribe(name, ws.SubscriptionRewind.count_messages(1))
        listener.client.subscribe(other)
        await listener.until(lambda: listener.count("error") == 1)
        refused = listener.last("error")
        self.assertEqual(refused["code"], 4009)
        self.assertIn(other, refused["message"])
        await listener.until(lambda: listener.count("sockudo:auth_success") == 1)
        self.assertEqual(listener.last("sockudo:auth_success")["jti"], f"t1-{name}")
        await self.publish(name, 1)
        await listener.until(lambda: listener.numbers(name) == [1])

        stranger = Listener(self.port, self.publisher, token=token("bad", {name: ["everything"]}), max_reconnect_attempts=0)
        self.listeners.append(stranger)
        await stranger.client.connect()
        await stranger.until(lambda: stranger.client.connection_state is ws.ConnectionState.DISCONNECTED)
        told = [str(data) for event, data in stranger.heard if event == "error"]
        self.assertTrue(all("unsupported capability operation" in it for it in told) and told, told)

    async def test_nothing_is_said_on_an_idle_connection(self):
        listener = await self.listener()
        heard = len(listener.heard)
        await self.publish(self.name("elsewhere"), 1)
        self.assertEqual(listener.heard[heard:], [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
