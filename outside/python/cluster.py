"""Three members of quorate for the tests beside this file, by `quorate up`, as a user starts them."""

import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time

# Ports are searched for from here; `quorate up` gives ten to each member.
PORT_MIN = 12_000
PORT_MAX = 30_000
PORTS_EACH = 10
MEMBERS = 3
# A machine that is busy may take long for anything; a test that waits longer has failed. Seconds.
SOON = 60


def until(what, condition):
    """Waits until `condition` gives something true, and returns that."""
    end = time.monotonic() + SOON
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {SOON} s")
        time.sleep(0.05)


def persist(action, *errors):
    """Tries `action` again while it fails with one of `errors`; it must be safe to repeat."""
    end = time.monotonic() + SOON
    while True:
        try:
            return action()
        except errors:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


class Cluster:
    """Stop it by `stop`."""

    def __init__(self):
        self._data = tempfile.TemporaryDirectory(prefix="quorate-python-")
        base = _free_ports()
        self._up = subprocess.Popen(
            [os.environ["QUORATE_BIN"], "up", "--json", "--nodes", str(MEMBERS)]
            + ["--port-base", str(base), "--data", os.path.join(self._data.name, "data")],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.ports = None
        for line in self._up.stdout:
            event = json.loads(line)
            if event["event"] == "ready":
                self.ports = [int(endpoint.split(":")[1]) for endpoint in event["endpoints"]]
                break
        if not self.ports:
            raise AssertionError("quorate up ended before it served")
        # Somebody must go on reading, or it stops when the pipe is full.
        threading.Thread(target=lambda: list(self._up.stdout), daemon=True).start()

    def kill(self, at):
        """Kills the process of a member; `quorate up` starts another in its place."""
        found = subprocess.run(
            ["pgrep", "-P", str(self._up.pid), "-f", "--", f"--name=n{at + 1} "],
            capture_output=True,
            text=True,
            check=True,
        )
        os.kill(int(found.stdout), signal.SIGKILL)

    def answers(self, at):
        """The member takes connections."""
        with socket.socket() as caller:
            return caller.connect_ex(("127.0.0.1", self.ports[at])) == 0

    def stop(self):
        self._up.send_signal(signal.SIGINT)
        self._up.wait(SOON)
        self._up.stdout.close()
        self._data.cleanup()


def _free_ports():
    span = MEMBERS * PORTS_EACH
    first = PORT_MIN + os.getpid() % 400 * span
    for base in range(first, PORT_MAX, span):
        if all(_is_free(port) for port in range(base, base + span)):
            return base
    raise AssertionError("no free ports")


def _is_free(port):
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
