"""Two hosts, each with a network, a name and journals of its own, and a server between them."""

import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import casket
from tests.remote.test_remote import CONTENDER, numbers
from tests.services.network import changing_network
from tests.services.processes import is_root
from tests.services.proxy import Proxy
from tests.waiting import PATIENCE

ROOT = Path(__file__).parents[2]
_counts = itertools.count()


class Host:
    """A network namespace, joined to this machine by a cable of its own.

    Attributes:
        name: its host name.
        gateway: the address of this machine, as it is seen from there.
    """

    def __init__(self):
        # Unique: other workers make hosts too, and Linux takes a while to remove them.
        count = next(_counts) % 40
        self.name = f"ck{os.getpid() % 10_000_000}x{count}"
        network = f"10.{213 + count}.{os.getpid() % 250}"
        self.gateway, address = f"{network}.1", f"{network}.2"
        _ip("netns", "add", self.name)
        outer, inner = f"{self.name}0", f"{self.name}1"
        _ip("link", "add", outer, "type", "veth", "peer", "name", inner, "netns", self.name)
        # No address that comes by itself, a second later.
        _ip("link", "set", outer, "addrgenmode", "none")
        _ip("address", "add", f"{self.gateway}/30", "dev", outer)
        _ip("link", "set", outer, "up")
        _ip("-n", self.name, "address", "add", f"{address}/30", "dev", inner)
        _ip("-n", self.name, "link", "set", inner, "up")

    def start(self, script, *arguments, **environment):
        named = f'hostname {self.name}; exec "$@"'
        return subprocess.Popen(
            ["ip", "netns", "exec", self.name, "unshare", "--uts", "sh", "-c", named, "sh",
             sys.executable, "-c", script, *arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip

    def remove(self):
        _ip("link", "delete", f"{self.name}0")  # at once; with the namespace it takes a while
        _ip("netns", "delete", self.name)


def _ip(*arguments):
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def hosts():
    if not (is_root() and shutil.which("ip") and shutil.which("unshare")):
        pytest.skip("only root can make network namespaces, with the ip of iproute2")
    made = []
    try:
        with changing_network():
            for _ in range(2):
                made.append(Host())
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespace can be made here: {error.stderr}")
    else:
        yield made
    finally:
        with changing_network():
            for host in made:
                host.remove()


class Reached:
    """A server as it is reached from a host."""

    def __init__(self, far, host, home):
        self._host = host
        self._proxy = Proxy(far.server.port, host=host.gateway)
        (home / ".ssh").mkdir(parents=True)
        if far.kind == "sftp":
            shutil.copy(far.server.home / ".ssh" / "id_ed25519", home / ".ssh")
            far.server.know(home, self._proxy.port, host=host.gateway)
        own = f"{host.gateway}:{self._proxy.port}/"
        self._url = far.url.replace(f"127.0.0.1:{far.server.port}/", own)
        self._home = {"HOME": str(home), "XDG_STATE_HOME": str(home)}
        self._started = []

    def start(self, script, *arguments):
        self._started.append(self._host.start(script, self._url, *arguments, **self._home))
        return self._started[-1]

    def close(self):
        for process in self._started:
            process.kill()
            process.communicate()
        self._proxy.close()


@pytest.fixture
def reached(far, hosts, tmp_path):
    """The server as it is reached from each host."""
    made = [Reached(far, host, tmp_path / host.name) for host in hosts]
    yield made
    for each in made:
        each.close()


def outputs(processes):
    """What processes have written that end well."""
    texts = [process.communicate(timeout=PATIENCE)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes)
    return [text.split() for text in texts]


def test_two_hosts_that_start_the_same_params_at_once(far, hosts, reached):
    """Of twenty contested sessions each is won once, and both hosts wait for the other's."""
    won = outputs([each.start(CONTENDER) for each in reached for _ in range(2)])
    assert sorted(int(seed) for each in won for seed in each) == list(range(20))
    assert numbers(far.url) == {seed: [0] for seed in range(20)}
    with casket.open(far.url) as runs:
        assert {s.meta["host"] for s in runs.sessions()} <= {host.name for host in hosts}


SWEEPER = """
import sys, time, warnings
from casket import Experiment
warnings.simplefilter("ignore")
model = Experiment.use(sys.argv[1], exp_id="digits").model("net")
for session in model.sweep({"n": range(12)}):
    with session:
        print(session.params["n"], flush=True)
        if "stay" in sys.argv:
            time.sleep(600)
        session.add_result({"n": session.params["n"]})
"""


@pytest.mark.parametrize("far", ["postgres", "sftp"], indirect=True)
def test_a_sweep_on_two_hosts_and_what_is_killed_on_one_of_them(far, hosts, reached):
    """Each set completes once; only the host of a killed process takes over its set."""
    here, there = reached
    killed = here.start(SWEEPER, "stay")
    assert killed.stdout.readline() == "0\n"
    shared = outputs([each.start(SWEEPER) for each in reached])
    assert sorted(int(n) for each in shared for n in each) == list(range(1, 12))
    killed.kill()
    killed.wait()
    assert outputs([there.start(SWEEPER)]) == [[]]  # no proof from there
    assert outputs([here.start(SWEEPER)]) == [["0"]]
    with casket.open(far.url) as runs:
        sessions = runs.sessions()
    done = [view for view in sessions if view.status == "completed"]
    assert sorted(view.params["n"] for view in done) == list(range(12))
    first, again = [view for view in sessions if view.params["n"] == 0]
    assert (first.status, again.status) == ("killed", "completed")
    assert first.meta["host"] == again.meta["host"] == hosts[0].name
