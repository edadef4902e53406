"""The two places that Mastodon.py is tried in: a server that stands alone, and one in the place of Mastodon's own,
started as that is, with a Redis and a PostgreSQL of the test's own."""

import contextlib
import hashlib
import hmac
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

import requests

from test_pusher import PATIENCE_S, Server, binary

KEY, SECRET = "app-key", "app-secret"
# How often it is looked whether a server that tells nobody of it has started.
LOOK_S = 0.05
# Debian's `nobody`: PostgreSQL refuses to run as root.
NOBODY = 65534
SCHEMA = pathlib.Path(__file__).resolve().parents[2] / "data" / "mastodon.sql"
PASSWORD = "a#secret'/?"


class Alone:
    """A server that stands alone: the development app, events by signed requests."""

    token = "dev-token"

    def __init__(self):
        self.server = Server(is_development=True)

    @property
    def port(self):
        return self.server.port

    def publish(self, event, payload, *channels):
        body = json.dumps({"event": event, "payload": payload, "channels": channels})
        path = "/apps/app-id/mastodon/events"
        md5 = hashlib.md5(body.encode()).hexdigest()
        query = f"auth_key={KEY}&auth_timestamp={int(time.time())}&auth_version=1.0&body_md5={md5}"
        signature = hmac.new(SECRET.encode(), f"POST\n{path}\n{query}".encode(), hashlib.sha256).hexdigest()
        url = f"http://127.0.0.1:{self.port}{path}?{query}&auth_signature={signature}"
        answer = requests.post(url, body, headers={"Content-Type": "application/json"}, timeout=PATIENCE_S)
        assert answer.status_code == 202, answer.text

    def close(self):
        self.server.stop()


class Program:
    """A program that the test starts for itself, in a directory of its own."""

    def __init__(self, name):
        self.directory = tempfile.mkdtemp(prefix=f"rm-{name}-")
        os.chmod(self.directory, 0o755)
        self.owner, self.process = {}, None
        if os.getuid() == 0:
            os.chown(self.directory, NOBODY, NOBODY)
            self.owner = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        self.log = open(os.path.join(self.directory, "log"), "w+")

    def spawn(self, *words, up):
        self.process = subprocess.Popen(
            words, cwd=self.directory, stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.STDOUT, **self.owner
        )
        until = time.monotonic() + 3 * PATIENCE_S
        while not up():
            if self.process.poll() is not None or time.monotonic() > until:
                self.log.seek(0)
                raise RuntimeError(f"{words[0]} does not start:\n{self.log.read()}")
            time.sleep(LOOK_S)

    def close(self, by):
        if self.process is not None:
            self.process.send_signal(by)
            self.process.wait(3 * PATIENCE_S)
        self.log.close()
        shutil.rmtree(self.directory, ignore_errors=True)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Redis(Program):
    def __init__(self):
        super().__init__("redis")
        self.port = free_port()
        try:
            options = ["--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--requirepass", PASSWORD]
            self.spawn("redis-server", *options, up=self.is_up)
        except BaseException:
            self.close()
            raise

    def is_up(self):
        try:
            return self.ask("PING") == "+PONG"
        except OSError:
            return False

    def ask(self, *words):
        """One command, on a connection of its own."""
        command = b""
        for line in (["AUTH", PASSWORD], words):
            command += f"*{len(line)}\r\n".encode()
            command += b"".join(b"$%d\r\n%s\r\n" % (len(it), it) for it in (word.encode() for word in line))
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE_S) as peer:
            peer.sendall(command)
            with peer.makefile("rb") as answers:
                login, answer = (answers.readline().decode().strip() for _ in range(2))
        assert login == "+OK", login
        return answer

    def close(self):
        super().close(signal.SIGKILL)


class Postgres(Program):
    def __init__(self):
        super().__init__("pg")
        self.port = free_port()
        versions = pathlib.Path("/usr/lib/postgresql").glob("*/bin/initdb")
        self.programs = max(versions, key=lambda it: float(it.parents[1].name)).parent
        try:
            self.begin()
        except BaseException:
            self.close()
            raise

    def begin(self):
        pathlib.Path(self.directory, "password").write_text(PASSWORD)
        auth = ["--auth-host=scram-sha-256", "--auth-local=trust", "--username=mastodon", "--pwfile=password"]
        options = ["--pgdata", "data", "--no-sync", "--encoding=UTF8", "--locale=C", *auth]
        made = [self.programs / "initdb", *options]
        subprocess.run(made, cwd=self.directory, check=True, stdout=self.log, stderr=self.log, **self.owner)
        settings = ["fsync=off", "listen_addresses=127.0.0.1", "shared_buffers=16MB", "dynamic_shared_memory_type=mmap"]
        options = ["-D", "data", "-p", str(self.port), "-k", self.directory]
        options += [word for setting in settings for word in ("-c", setting)]
        self.spawn(str(self.programs / "postgres"), *options, up=self.is_up)
        self.run("CREATE DATABASE mastodon_production", "postgres")
        self.run(SCHEMA.read_text())

    def words(self, database):
        at = ["-h", self.directory, "-p", str(self.port), "-U", "mastodon", "-d", database]
        return [self.programs / "psql", "-XqAt", "-v", "ON_ERROR_STOP=1", *at]

    def psql(self, sql, database):
        words = self.words(database)
        return subprocess.run(words, input=sql, capture_output=True, text=True, timeout=3 * PATIENCE_S)

    def is_up(self):
        return self.psql("SELECT 1", "postgres").returncode == 0

    def run(self, sql, database="mastodon_production"):
        done = self.psql(sql, database)
        assert done.returncode == 0, done.stderr
        return done.stdout

    @contextlib.contextmanager
    def withheld(self, sql):
        """What `sql` changes is seen at once when this ends, and by nobody before."""
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with subprocess.Popen(self.words("mastodon_production"), **pipes) as psql:
            psql.stdin.write(f"BEGIN; {sql}; SELECT 'done';\n")
            psql.stdin.flush()
            done = psql.stdout.readline()
            yield
            psql.stdin.write("COMMIT;\n")
            psql.stdin.close()
            code = psql.wait(PATIENCE_S)
        assert (done, code) == ("done\n", 0), (done, code)

    def close(self):
        # Does not wait for those who are connected.
        super().close(signal.SIGINT)


class Streaming:
    """`ringmain mastodon`, with a file as Mastodon's."""

    def __init__(self, lines):
        self.directory = tempfile.mkdtemp(prefix="ringmain-clients-")
        file = pathlib.Path(self.directory, "environment")
        file.write_text("\n".join(lines))
        # The variables of whoever runs the tests are none of the tests' settings.
        others = ("RINGMAIN_", "DB_", "REDIS_", "DATABASE")
        env = {name: value for name, value in os.environ.items() if not name.startswith(others)}
        self.process = subprocess.Popen(
            [binary(), "mastodon", "--env-file", file],
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            env={**env, "NODE_ENV": "production", "PORT": "0"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.text, self.port = "", None
        self.listening = threading.Event()
        threading.Thread(target=self.read, daemon=True).start()
        if not self.listening.wait(PATIENCE_S) or self.port is None:
            self.stop(signal.SIGKILL)
            raise RuntimeError(f"it does not listen:\n{self.text}")

    def read(self):
        for line in self.process.stdout:
            self.text += line
            # The words that Mastodon's own tests wait for.
            found = re.search(r"Streaming API now listening on 127\.0\.0\.1:(\d+)", line)
            if found:
                self.port = int(found[1])
                self.listening.set()
        self.listening.set()

    def stop(self, by=signal.SIGTERM):
        self.process.send_signal(by)
        code = self.process.wait(PATIENCE_S)
        shutil.rmtree(self.directory, ignore_errors=True)
        return code


class InPlace:
    """A server in the place of Mastodon's own: everything is in its Redis and its PostgreSQL."""

    token = "token-ann"

    def __init__(self):
        self.redis = self.postgres = self.server = None
        try:
            self.redis = Redis()
            self.postgres = Postgres()
            self.server = Streaming(
                [
                    "# Mastodon writes such a file.",
                    "LOCAL_DOMAIN=example.com",
                    "DB_HOST=127.0.0.1",
                    f"DB_PORT={self.postgres.port}",
                    f'DB_PASS="{PASSWORD}"',
                    "export REDIS_HOST=127.0.0.1",
                    f"REDIS_PORT={self.redis.port} # its own",
                    f'REDIS_PASSWORD="{PASSWORD}"',
                    "REDIS_DB=0",
                ]
            )
        except BaseException:
            self.close()
            raise

    @property
    def port(self):
        return self.server.port

    def publish(self, event, payload, *channels):
        for channel in channels:
            self.redis.ask("PUBLISH", channel, json.dumps({"event": event, "payload": payload}))

    def close(self):
        code = self.server.stop() if self.server else 0
        for program in (self.redis, self.postgres):
            if program:
                program.close()
        assert code == 0, f"exit code {code}"
