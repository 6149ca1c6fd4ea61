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


def test_two_hosts_that_start_the_same_params_at_once(far, hosts, tmp_path):
    """Of twenty contested sessions each is won once, and both hosts wait for the other's."""
    proxies = [Proxy(far.server.port, host=host.gateway) for host in hosts]
    running = []
    for host, proxy in zip(hosts, proxies, strict=True):
        home = tmp_path / host.name
        (home / ".ssh").mkdir(parents=True)
        if far.kind == "sftp":
            shutil.copy(far.server.home / ".ssh" / "id_ed25519", home / ".ssh")
            far.server.know(home, proxy.port, host=host.gateway)
        url = far.url.replace(f"127.0.0.1:{far.server.port}/", f"{host.gateway}:{proxy.port}/")
        running += [
            host.start(CONTENDER, url, HOME=str(home), XDG_STATE_HOME=str(home)) for _ in range(2)
        ]
    won = [process.communicate(timeout=PATIENCE)[0].split() for process in running]
    for proxy in proxies:
        proxy.close()
    assert [process.returncode for process in running] == [0] * 4
    assert sorted(int(seed) for each in won for seed in each) == list(range(20))
    assert numbers(far.url) == {seed: [0] for seed in range(20)}
    with casket.open(far.url) as runs:
        assert {s.meta["host"] for s in runs.sessions()} <= {host.name for host in hosts}
