"""A process with a thousand open files: `select` takes no descriptor from 1024 on."""

import fcntl
import os
import resource
import socket
from types import SimpleNamespace

import pytest

from swiftpy.own_job import OwnJob
from swiftpy.runtime.doorbell import Doorbell


@pytest.fixture
def high():
    """Gives a descriptor a number that is too high for `select`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    def move(descriptor):
        moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 1024)
        os.close(descriptor)
        return moved

    yield move
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_rank_is_woken_by_what_has_a_high_descriptor(high):
    bell = Doorbell("descriptors", 1, memoryview(bytearray(2)), {0: 0, 1: 1})
    ends, starts = os.pipe()
    ends = high(ends)
    assert not bell.sleep(0.001, [ends])
    os.write(starts, b"!")
    assert bell.sleep(10.0, [ends])
    os.close(starts)
    os.close(ends)


def test_the_program_of_an_executor_may_have_many_open_files(high):
    """Its thread ended, and the program waited for ever."""
    job = object.__new__(OwnJob)
    job._process = SimpleNamespace(poll=lambda: 0)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("")
    listener.listen()
    job._listener = socket.socket(fileno=high(listener.detach()))
    with job._listener:
        assert job._accept(b"key") is None
