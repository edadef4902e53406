#!/usr/bin/env python3
"""Runs Autobahn's fuzzing client against the echo example and judges its report.

run.py ECHO WSTEST [--driver auto|uring|epoll] [--report DIRECTORY] [CASE ...]

Any case that is not OK, NON-STRICT, INFORMATIONAL or (where WAIVED says why) UNIMPLEMENTED fails,
as does any closing behaviour that is not OK, NON-STRICT or INFORMATIONAL, and a run with fewer cases than Autobahn has.
"""

import argparse
import collections
import concurrent.futures
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time

CASES = 517
GOOD = {"OK", "NON-STRICT", "INFORMATIONAL"}
# Together all cases, in shares of about the same length.
SHARES = [
    ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*", "12.1.*", "12.2.*"],
    ["12.3.*", "12.4.*", "12.5.*", "13.1.*"],
    ["13.2.*", "13.3.*", "13.4.*", "13.5.*", "13.6.*", "13.7.*"],
]
# Cases that may say UNIMPLEMENTED: what they ask for is declined on purpose. A prefix, and why.
WAIVED = {}
PATIENCE_S = 1800
GROUPS = {
    "1": "framing", "2": "pings and pongs", "3": "reserved bits", "4": "opcodes", "5": "fragmentation",
    "6": "UTF-8", "7": "closing", "9": "limits and performance", "10": "auto-fragmentation",
    "12": "compression, one size", "13": "compression, offers",
}


def start(echo, driver):
    """Starts the example; its process and the port it says it listens on."""
    process = subprocess.Popen(
        [echo, "127.0.0.1:0", driver], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    said, port, listening = [], [], threading.Event()

    def read():
        for line in process.stdout:
            said.append(line)
            found = re.search(r"127\.0\.0\.1:([1-9]\d*)\b", line)
            if found and not port:
                port.append(int(found[1]))
                listening.set()
        listening.set()

    threading.Thread(target=read, daemon=True).start()
    listening.wait(10)
    if not port:
        process.kill()
        sys.exit("the echo example did not say where it listens:\n" + "".join(said))
    return process, port[0], said


def fuzz(wstest, port, directory, name, cases, began):
    """Runs one fuzzing client, saying how far it is; what it said if it failed."""
    spec = directory / f"{name}.json"
    spec.write_text(
        json.dumps(
            {
                "outdir": str(directory / name),
                "servers": [{"agent": "ringmain", "url": f"ws://127.0.0.1:{port}"}],
                "cases": cases,
                "exclude-cases": [],
                "exclude-agent-cases": {},
            }
        )
    )
    client = subprocess.Popen(
        [wstest, "-m", "fuzzingclient", "-s", str(spec)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=directory,
    )
    clock = threading.Timer(PATIENCE_S, client.kill)
    clock.start()
    shown, lines = "", []
    try:
        for line in client.stdout:
            lines.append(line)
            found = re.search(r"Running test case ID (\d+)(\.\d+)\.", line)
            if found and found[0] != shown:
                shown = found[0]
                elapsed = time.monotonic() - began
                print(f"  {elapsed:6.1f} s  {found[1]}{found[2]} ({GROUPS.get(found[1], '')})", flush=True)
        return "" if client.wait() == 0 else "".join(lines[-20:]) + f"the fuzzing client ended with {client.returncode}"
    finally:
        clock.cancel()
        client.kill()


def fuzz_all(wstest, port, directory, cases):
    """Runs the shares side by side, since one client keeps one core busy; ends the run if one fails."""
    shares = [cases] if cases else SHARES
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(len(shares)) as pool:
        runs = [
            pool.submit(fuzz, wstest, port, directory, f"report-{number}", share, began)
            for number, share in enumerate(shares, 1)
        ]
        return [text for text in (run.result() for run in runs) if text]


def judge(directory, expected):
    """Prints what each case came to; the number of failed ones."""
    report = {}
    for index in directory.glob("report-*/index.json"):
        report.update(json.loads(index.read_text())["ringmain"])
    counts, failed = collections.Counter(), []
    for case, result in sorted(report.items(), key=lambda item: [int(n) for n in item[0].split(".")]):
        behavior, closing = result["behavior"], result["behaviorClose"]
        counts[behavior] += 1
        waived = behavior == "UNIMPLEMENTED" and any(case.startswith(prefix) for prefix in WAIVED)
        if not (behavior in GOOD or waived) or not (closing in GOOD or waived):
            failed.append(f"  {case}: {behavior}, closing {closing} (code {result['remoteCloseCode']})")
    if failed:
        print("\n".join(failed))
    print("  " + ", ".join(f"{behavior} {count}" for behavior, count in counts.most_common()))
    missing = expected - len(report)
    if missing > 0:
        print(f"  {missing} cases did not run")
    return len(report) - len(failed), len(failed) + max(0, missing)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("echo", type=os.path.abspath)
    parser.add_argument("wstest", type=os.path.abspath)
    parser.add_argument("cases", nargs="*")
    parser.add_argument("--driver", default="auto")
    parser.add_argument("--report", type=pathlib.Path, help="keep the report here")
    options = parser.parse_intermixed_args()
    with tempfile.TemporaryDirectory(prefix="ringmain-autobahn-") as name:
        directory = options.report or pathlib.Path(name)
        directory.mkdir(parents=True, exist_ok=True)
        directory = directory.resolve()
        process, port, said = start(options.echo, options.driver)
        try:
            trouble = fuzz_all(options.wstest, port, directory, options.cases)
            if trouble:
                sys.exit("\n".join(trouble))
            if process.poll() is not None:
                print("".join(said[-20:]))
                sys.exit(f"the server ended with {process.returncode}")
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                code = process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                code = "a kill"
        passed, failed = judge(directory, 0 if options.cases else CASES)
        if code != 0:
            print(f"  the server stopped with {code}")
            failed += 1
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
