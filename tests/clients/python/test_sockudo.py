"""The official clients of Sockudo's protocol 2 against the real binary, started as for who configures nothing:
channels `durable-*` are on disk, all others keep their last 100 events in memory."""

import asyncio
import json
import unittest
import uuid

import sockudo_http_python as http
import sockudo_python as ws

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


class Listener:
    """The SDK's client and what its application hears, in order."""

    def __init__(self, port, publisher, **options):
        authorize = lambda request: self.grant(publisher, request)
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
        self.heard, self.changed = [], asyncio.Event()
        self.client.bind_global(self.take)

    async def grant(self, publisher, request):
        granted = publisher.authenticate(request.socket_id, request.channel_name)
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

    async def subscribe(self, name, rewind=None):
        channel = self.client.subscribe(name, ws.SubscriptionOptions(rewind=rewind) if rewind else None)
        channel.bind_global(lambda event, data: self.take(f"{name} {event}", data))
        await self.until(lambda: self.count(f"{name} sockudo:subscription_succeeded") > 0)
        return channel

    def count(self, event):
        return sum(it == event for it, _ in self.heard)

    def numbers(self, name):
        return [data["n"] for event, data in self.heard if event == f"{name} e"]

    def last(self, event):
        return next(data for it, data in reversed(self.heard) if it == event)


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

    async def test_nothing_is_said_on_an_idle_connection(self):
        listener = await self.listener()
        heard = len(listener.heard)
        await self.publish(self.name("elsewhere"), 1)
        self.assertEqual(listener.heard[heard:], [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
