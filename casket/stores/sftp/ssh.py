"""SSH connections through paramiko, configured like those of OpenSSH.

The user's `~/.ssh/config`, keys, agent and known hosts are used; unknown host keys are refused. A
connection belongs to the process that opened it.
"""

from __future__ import annotations

import contextlib
import errno
import getpass
import io
import logging
import os
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from casket.errors import StoreRefused, StoreUnavailable, missing
from casket.stores.remote import repeats as databases
from casket.stores.sftp import wire as sftpwire
from casket.stores.sftp.address import SftpLocation

try:
    import paramiko
    from paramiko.pkey import UnknownKeyType
    from paramiko.ssh_exception import IncompatiblePeer
except ModuleNotFoundError as error:
    raise missing(error, "paramiko", "sftp") from error

TIMEOUT = 10.0
"""Timeout in seconds for a response from the server."""

CONNECTING = 4.0
"""Timeout in seconds for connecting to an address; a host name may have two addresses."""

# Without a handler, Python would print the log messages of paramiko's threads.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


class _Target(NamedTuple):
    """The target of a connection, resolved with the user's configuration."""

    user: str
    host: str
    port: int
    known_as: str
    known_hosts: list[Path]
    keys: list[Path]
    asks_agent: bool
    jumps: list[str]

    def __str__(self) -> str:
        return f"{self.user}@{self.host}:{self.port}"


class Connection:
    """A connection to the host of an address, opened on first use.

    Args:
        address: the address to connect to.

    Raises:
        StoreUnavailable: the host cannot be reached.
        StoreRefused: the host key is not known, or the login was rejected.
    """

    def __init__(self, address: SftpLocation) -> None:
        self._address = address
        self._pid = os.getpid()
        self._is_closing = False
        # Reentrant, because a signal handler may interrupt a method.
        self._lock = threading.RLock()
        self._transports: list[paramiko.Transport] = []
        self._channels: list[paramiko.Channel] = []
        self._sessions: list[sftpwire.Session] = []
        self._idle: list[sftpwire.Session] = []

    def session(self) -> sftpwire.Session:
        """Return a session for exclusive use; return it with `give_back`."""
        with self._lock:
            self._is_closing = False
            if self._transports and not self._transports[-1].is_active():
                self._drop()
            while self._idle:
                session = self._idle.pop()
                if not session.is_broken:
                    return session
            if not self._transports:
                self._connect()
            return self._opened(self._transports[-1])

    def give_back(self, session: sftpwire.Session) -> None:
        """Make a session available for reuse."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            if session not in self._sessions:
                return
            if session.is_broken:
                self._sessions.remove(session)
            else:
                self._idle.append(session)
            if self._is_closing:
                self._close_if_idle()

    def drop(self) -> None:
        """Abort the connection, so that requests still in transit are not delivered later."""
        with self._lock:
            self._drop()

    def close(self) -> None:
        """Close the connection as soon as no thread uses a session."""
        with self._lock:
            self._is_closing = True
            self._close_if_idle()

    def leave(self) -> None:
        """Release the connection in a forked child, without sending anything to the server."""
        for transport in self._transports:
            transport.active = False  # type: ignore[attr-defined]  # missing in the stubs
            if isinstance(transport.sock, socket.socket):
                transport.sock.close()
        for channel in self._channels:
            # Another thread may have held the old lock, which garbage collection would acquire.
            channel.lock = threading.Lock()
        self._forget()

    def _close_if_idle(self) -> None:
        if len(self._idle) == len(self._sessions):
            self._close()

    def _drop(self) -> None:
        if self._transports:
            _forget_unsent(self._transports[0])
        self._close()

    def _close(self) -> None:
        transports = self._transports[::-1]
        self._forget()
        for transport in transports:
            transport.close()

    def _forget(self) -> None:
        for session in self._sessions:
            session.is_broken = True
        self._transports, self._channels, self._sessions, self._idle = [], [], [], []

    def _connect(self) -> None:
        host, user, port = self._address.host, self._address.user, self._address.port
        try:
            target = _target(host, user, port)
            for jump in [*target.jumps, None]:
                last = self._transports[-1] if self._transports else None
                step = target if jump is None else _target_of_jump(jump)
                self._transports.append(self._reached(step, last))
        except BaseException:
            self._drop()
            raise

    def _reached(self, target: _Target, through: paramiko.Transport | None) -> paramiko.Transport:
        location = str(self._address)
        try:
            transport = paramiko.Transport(_dialed(target, through))
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise _unreachable(location, target, error) from None
        try:
            # Shorter than the timeout below, so that the error names the missing banner.
            transport.banner_timeout = TIMEOUT * 0.9
            transport.auth_timeout = TIMEOUT
            known = _known_keys(target)
            _prefer(transport, known)
            transport.start_client(timeout=TIMEOUT)
            _verify(location, target, known, transport.get_remote_server_key())
            _Login(location, target, transport).log_in()
        except (OSError, EOFError, paramiko.SSHException) as error:
            transport.close()
            if isinstance(error, StoreUnavailable):
                raise
            raise _unreachable(location, target, error) from None
        except BaseException:
            transport.close()
            raise
        # Keeps routers and firewalls from dropping a connection that is idle during training.
        transport.set_keepalive(30)
        return transport

    def _opened(self, transport: paramiko.Transport) -> sftpwire.Session:
        location = str(self._address)
        try:
            channel = transport.open_session(window_size=1 << 22, timeout=TIMEOUT)
            channel.settimeout(TIMEOUT)
            channel.invoke_subsystem("sftp")
            session = sftpwire.Session(channel)
        except (OSError, EOFError, paramiko.SSHException) as error:
            if transport.is_active() and isinstance(error, paramiko.ChannelException):
                advice = f"it opens no SFTP session ({error}); ask its administrator for SFTP"
                raise StoreUnavailable(location, advice, errno.ECONNREFUSED) from None
            self._drop()
            advice = f"the connection broke before files could be reached ({_words(error)})"
            raise StoreUnavailable(location, advice, errno.ECONNRESET) from None
        self._channels.append(channel)
        self._sessions.append(session)
        return session

    def __del__(self) -> None:
        if os.getpid() == self._pid:
            self._close()
        else:
            self.leave()


def _forget_unsent(transport: paramiko.Transport) -> None:
    """Discard unsent data when the connection is closed, instead of sending it."""
    sock = transport.sock
    if isinstance(sock, socket.socket):
        with contextlib.suppress(OSError):  # already closed
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


# The user's configuration


def _target(host: str, user: str | None, port: int | None) -> _Target:
    """Return the target of an address, applying `~/.ssh/config`."""
    said = _configured(host)
    if said.get("proxycommand"):
        advice = "ProxyCommand is not supported; use ProxyJump in ~/.ssh/config"
        raise StoreRefused(host, advice, errno.EOPNOTSUPP)
    keys = [Path(one).expanduser() for one in said.get("identityfile", [])]
    hosts = said.get("userknownhostsfile", "~/.ssh/known_hosts ~/.ssh/known_hosts2").split()
    number = port or int(str(said.get("port", 22)))
    name = said.get("hostname", host)
    jump = said.get("proxyjump", "none")
    return _Target(
        user=user or said.get("user") or getpass.getuser(),
        host=name,
        port=number,
        known_as=said.get("hostkeyalias", name if number == 22 else f"[{name}]:{number}"),
        known_hosts=[Path(one).expanduser() for one in [*hosts, "/etc/ssh/ssh_known_hosts"]],
        keys=[key for key in keys or _default_keys() if key.is_file()],
        asks_agent=said.get("identitiesonly", "no").lower() != "yes",
        jumps=[] if jump.lower() == "none" else jump.split(","),
    )


def _configured(host: str) -> paramiko.SSHConfigDict:
    config = paramiko.SSHConfig()
    path = Path("~/.ssh/config").expanduser()
    if path.is_file():
        try:
            config.parse(io.StringIO(path.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError, paramiko.SSHException) as error:
            advice = f"{path} cannot be read ({error}); correct it"
            raise StoreRefused(host, advice, errno.EINVAL) from None
    return config.lookup(host)


def _target_of_jump(jump: str) -> _Target:
    user, _, location = jump.strip().removeprefix("ssh://").rpartition("@")
    host, _, port = location.partition(":")
    return _target(host, user or None, int(port) if port.isdecimal() else None)


def _default_keys() -> list[Path]:
    names = ("id_ed25519", "id_ecdsa", "id_rsa")
    return [Path("~/.ssh").expanduser() / name for name in names]


# Connecting to a host and verifying its key


def _dialed(
    target: _Target, through: paramiko.Transport | None
) -> socket.socket | paramiko.Channel:
    if through is None:
        sock = socket.create_connection((target.host, target.port), timeout=CONNECTING)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock
    there = (target.host, target.port)
    return through.open_channel("direct-tcpip", there, ("127.0.0.1", 0), timeout=CONNECTING)


def _unreachable(location: str, target: _Target, error: Exception) -> StoreUnavailable:
    number = getattr(error, "errno", None) or 0
    if isinstance(error, socket.gaierror):
        advice = f"nobody knows the host name {target.host}; correct it, or look at the network"
        return StoreUnavailable(location, advice, errno.EHOSTUNREACH)
    if number == errno.ECONNREFUSED:
        advice = f"no SSH server answers on port {target.port} of {target.host}; start it"
        return StoreUnavailable(location, advice, number)
    if isinstance(error, TimeoutError) or any(word in str(error) for word in _IN_TIMEOUTS):
        advice = f"{target.host}:{target.port} does not answer"
        return StoreUnavailable(location, advice, errno.ETIMEDOUT)
    if "banner" in str(error):
        advice = f"{target.host}:{target.port} does not answer as an SSH server does"
        return StoreUnavailable(location, advice, errno.EPROTO)
    if isinstance(error, IncompatiblePeer):
        advice = f"{target.host} and paramiko know no common cipher ({error})"
        return StoreRefused(location, advice, errno.EPROTONOSUPPORT)
    advice = f"no connection to {target.host}:{target.port} ({_words(error)})"
    return StoreUnavailable(location, advice, number or errno.ECONNRESET)


# Texts of paramiko's timeout errors, which have no class of their own.
_IN_TIMEOUTS = ("imeout", "timed out", "No existing session")


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__


def _known_keys(target: _Target) -> dict[str, paramiko.PKey]:
    """Return the known keys of a host by key type."""
    known: dict[str, paramiko.PKey] = {}
    for path in target.known_hosts:
        if path.is_file():
            host_keys = paramiko.HostKeys(str(path)).lookup(target.known_as)
            known = {**(host_keys or {}), **known}
    return known


def _prefer(transport: paramiko.Transport, known: dict[str, paramiko.PKey]) -> None:
    """Request a host key of a type for which a key is known."""
    options = transport.get_security_options()
    kinds = {"ssh-rsa", "rsa-sha2-256", "rsa-sha2-512"} if "ssh-rsa" in known else set()
    first = [one for one in options.key_types if one in known.keys() | kinds]
    options.key_types = [*first, *(one for one in options.key_types if one not in first)]


def _verify(
    location: str, target: _Target, known: dict[str, paramiko.PKey], key: paramiko.PKey
) -> None:
    ours = known.get(key.get_name())
    if ours is not None and ours.asbytes() == key.asbytes():
        return
    file = target.known_hosts[0]
    port = "" if target.port == 22 else f"-p {target.port} "
    accept = f"ssh-keyscan {port}{target.host} >> {file}"
    if not known:
        advice = (
            f"the host key of {target.known_as} is not known ({key.fingerprint}). If it is the "
            f"right one, accept it: {accept}"
        )
    else:
        advice = (
            f"the host key of {target.known_as} has changed ({key.fingerprint}): somebody may "
            f"be in between. If its owner says that it is the right one, accept it: "
            f"ssh-keygen -R '{target.known_as}' -f {file} && {accept}"
        )
    raise StoreRefused(location, advice, errno.EACCES)


class _Login:
    """Login with the user's keys, agent or password."""

    def __init__(self, location: str, target: _Target, transport: paramiko.Transport) -> None:
        self._location = location
        self._target = target
        self._transport = transport

    def log_in(self) -> None:
        """Try all available credentials.

        Raises:
            StoreRefused: the server accepts none of them.
            StoreUnavailable: the server did not respond.
        """
        tried = 0
        for key in self._keys():
            tried += 1
            if self._is_taken(key):
                return
        given = self._password()
        if given is None or not self._is_password_taken(given):
            with_password = "" if given is None else " nor the password"
            advice = (
                f"{self._target} takes none of {tried} keys{with_password}; install one "
                f"(ssh-copy-id), name it in ~/.ssh/config, or set CASKET_PASSWORD"
            )
            raise StoreRefused(self._location, advice, errno.EACCES)

    def _keys(self) -> Iterator[paramiko.PKey]:
        for path in self._target.keys:
            key = _key_in(path, None) or _key_in(path, databases.environment_password())
            if key is not None:
                yield key
        if self._target.asks_agent:
            agent = paramiko.Agent()
            try:
                yield from agent.get_keys()
            finally:
                agent.close()

    def _is_taken(self, key: paramiko.PKey) -> bool:
        try:
            self._transport.auth_publickey(self._target.user, key)
        except paramiko.SSHException as error:
            self._must_go_on(error)
        return self._transport.is_authenticated()

    def _is_password_taken(self, password: str) -> bool:
        try:
            self._transport.auth_password(self._target.user, password)
        except paramiko.SSHException as error:
            self._must_go_on(error)
        is_taken = self._transport.is_authenticated()
        if is_taken:
            _typed[str(self._target)] = password
        else:
            _typed.pop(str(self._target), None)
        return is_taken

    def _must_go_on(self, error: paramiko.SSHException) -> None:
        if not self._transport.is_active() or any(word in str(error) for word in _IN_TIMEOUTS):
            raise error

    def _password(self) -> str | None:
        given = databases.environment_password() or _typed.get(str(self._target))
        is_asked = threading.current_thread() is threading.main_thread()
        if given is None and is_asked and sys.stdin is not None and sys.stdin.isatty():
            return getpass.getpass(f"password of {self._target}: ") or None
        return given


_typed: dict[str, str] = {}
"""Passwords entered in this process, kept so that threads and children can reconnect."""


def _key_in(path: Path, passphrase: str | None) -> paramiko.PKey | None:
    """Return the key in a file; None if its passphrase differs or its type is not supported."""
    try:
        # Positional, because the name of the second argument differs between paramiko versions.
        given: Any = passphrase.encode() if passphrase else None
        return paramiko.PKey.from_path(path, given)
    except (OSError, ValueError, TypeError, paramiko.SSHException, UnknownKeyType):
        return None
