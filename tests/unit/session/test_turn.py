"""`take_turn`: in gevent a new connection does not wait for all the work that is ready."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
WORK = """
from gevent import monkey
monkey.patch_all()
import time
import gevent
from gevent.server import StreamServer
from nimdrum.session.caller import take_turn

done, seen = [], []
server = StreamServer(("127.0.0.1", 0), lambda connection, address: seen.append(len(done)))
server.start()

def work():
    take_turn()
    if not done:  # a caller comes while the first is at work; the kernel lets it in at once
        callers.append(monkey.get_original("socket", "socket")())
        callers[0].connect(server.address)
    until = time.monotonic() + 0.005
    while time.monotonic() < until:
        pass
    done.append(1)

callers = []
gevent.joinall([gevent.spawn(work) for _ in range(100)])
while not seen:
    gevent.sleep(0.01)
print(seen[0])
"""


def test_a_new_caller_comes_between() -> None:
    """One that comes during the first of a hundred requests is accepted after a few of them. Without turns it is after
    all, and in a server with 600 new chats after eight seconds."""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", WORK], cwd=ROOT, capture_output=True, timeout=60)
    assert 1 <= int(done.stdout) <= 10, done.stderr
