"""The connection goes to the address that was checked (M4). No packet leaves: the last step is a recorder."""

import httpcore
import pytest

from safelight.media.dialer import ADDRESSES_TRIED_MAX, GuardedBackend
from safelight.media.errors import PrivateAddress


class Recorder(httpcore.AsyncMockBackend):
    def __init__(self, dead: frozenset[str] = frozenset()) -> None:
        super().__init__([])
        self.dead = dead
        self.dialled: list[str] = []

    async def connect_tcp(self, host, port, timeout=None, local_address=None, socket_options=None):
        self.dialled.append(host)
        if host in self.dead:
            raise httpcore.ConnectError("refused")
        return await super().connect_tcp(host, port, timeout, local_address, socket_options)


def resolver(*answers: list[str]):
    left = list(answers)

    async def resolve(host: str, port: int) -> list[str]:
        return left.pop(0)

    return resolve


async def test_a_name_is_asked_once_and_the_checked_address_is_dialled():
    recorder = Recorder()
    # A rebinding name would answer the second question with a private address: there is no second question.
    backend = GuardedBackend(frozenset(), resolver(["8.8.8.8"], ["127.0.0.1"]), recorder)
    await backend.connect_tcp("rebind.example.com", 80)
    assert recorder.dialled == ["8.8.8.8"]


async def test_private_answers_among_public_ones_are_never_dialled():
    recorder = Recorder(dead=frozenset({"8.8.8.8"}))
    answers = ["10.0.0.1", "8.8.8.8", "127.0.0.1", "::1", "2606:4700::1"]
    await GuardedBackend(frozenset(), resolver(answers), recorder).connect_tcp("mixed.example.com", 80)
    assert recorder.dialled == ["8.8.8.8", "2606:4700::1"]


async def test_only_private_answers_are_refused_before_anything_is_dialled():
    recorder = Recorder()
    backend = GuardedBackend(frozenset({"other:80", "inside:81"}), resolver(["10.0.0.1", "fd00::1"]), recorder)
    with pytest.raises(PrivateAddress):
        await backend.connect_tcp("inside", 80)
    assert recorder.dialled == []


async def test_an_allowed_host_may_be_private():
    recorder = Recorder()
    await GuardedBackend(frozenset({"inside:80"}), resolver(["10.0.0.1"]), recorder).connect_tcp("inside", 80)
    assert recorder.dialled == ["10.0.0.1"]


async def test_dead_addresses_are_tried_up_to_a_bound_and_no_address_is_an_error():
    many = [f"8.8.8.{n}" for n in range(20)]
    recorder = Recorder(dead=frozenset(many))
    with pytest.raises(httpcore.ConnectError):
        await GuardedBackend(frozenset(), resolver(many), recorder).connect_tcp("down.example.com", 80)
    assert len(recorder.dialled) == ADDRESSES_TRIED_MAX
    with pytest.raises(httpcore.ConnectError, match="no address"):
        await GuardedBackend(frozenset(), resolver([]), Recorder()).connect_tcp("empty.example.com", 80)


async def test_a_socket_file_is_never_dialled():
    with pytest.raises(PrivateAddress):
        await GuardedBackend(frozenset(), resolver()).connect_unix_socket("/var/run/docker.sock")
