"""The copier when source or target are not well, and what zeroes become."""
import os
import re
import signal
import subprocess

import pytest

import world
from world import (BLOCK, MIB, Copier, blank, make_disk, nbdkit, put, qemu_nbd,
                   same)

missing = world.needs("qemu-nbd", "qemu-img", "nbdkit")
pytestmark = pytest.mark.skipif(bool(missing), reason=f"no {missing}")


# a target that is full ------------------------------------------------------

def full(room, target, what="pwrite"):
    """A server whose target is full as long as room/full is there."""
    (room / "full").touch()
    return nbdkit(room, "--filter=error", "file", target,
                  f"error-{what}=ENOSPC", f"error-{what}-rate=1",
                  f"error-{what}-file={room / 'full'}")


@pytest.mark.parametrize("what", ["pwrite", "zero"])
def test_full_target_pauses_the_copy(room, what):
    """It is no stall, nothing is read meanwhile, nothing is lost by it."""
    size = 48 * MIB
    source = room / "source"
    source.write_bytes(world.noise(size, 1))
    for at in range(0, size, 4 * MIB):
        put(source, at, bytes(MIB))
    target = room / "target"
    target.write_bytes(world.noise(size, 99))
    with full(room, target, what) as nbd:
        c = Copier(room, source, nbd.uri, size, request=BLOCK, readers=4,
                   timeout=2)
        p = c.start()
        assert c.wait_for(p, lambda e: e["event"] == "paused")["left"] == size
        first = c.wait_for(p, lambda e: e["event"] == "progress")
        later = c.wait_for(p, lambda e: e.get("ms", 0) > first["ms"] + 5000)
        assert later["read"] == first["read"] < size
        world.check_claims(c.map, target)
        (room / "full").unlink()
        c.wait_for(p, lambda e: e["event"] == "resumed")
        r = c.finish(p).check("done")
        assert not r.of("paused")
    assert same(source, target) is True
    world.check_claims(c.map, target)


def test_flush_without_room_proves_nothing(room):
    """It is not waited for: what was acknowledged may be gone."""
    size = 4 * MIB
    source = room / "source"
    source.write_bytes(world.noise(size, 1))
    target = blank(room / "target", size)
    with world.volatile(room, target, "--fail-flushes", 1, "--flush-error",
                        "ENOSPC") as nbd:
        c = Copier(room, source, nbd.uri, size)
        r = c.run("failed")
        assert r.end["class"] == "nospace" and r.end["done"] == 0
        assert world.check_claims(c.map, target) == 0
        c.run("done")
    assert same(source, target) is True


def test_stop_while_the_target_is_full(room):
    size = 12 * MIB
    source = room / "source"
    source.write_bytes(world.noise(size, 1))
    target = blank(room / "target", size)
    with full(room, target) as nbd:
        c = Copier(room, source, nbd.uri, size, request=BLOCK)
        p = c.start()
        c.wait_for(p, lambda e: e["event"] == "paused")
        p.send_signal(signal.SIGTERM)
        assert c.finish(p).check("stopped").end["done"] < size
        world.check_claims(c.map, target)
        (room / "full").unlink()
        c.run("done")
    assert same(source, target) is True


@pytest.mark.skipif(os.getuid() != 0, reason="mounting needs root")
@pytest.mark.parametrize("fmt", ["raw", "qcow2"])
def test_full_file_system(room, fmt):
    """A real one, with the server that the engine uses."""
    size = 24 * MIB
    source = room / "source"
    source.write_bytes(world.noise(size, 1))
    with world.SmallDisk(room, 8 * MIB) as small:
        target = small.path / "target"
        subprocess.run(["qemu-img", "create", "-q", "-f", fmt, target,
                        str(size)], check=True)
        with qemu_nbd(room, target, fmt) as nbd:
            c = Copier(room, source, nbd.uri, size, target_zeroed="yes")
            p = c.start()
            c.wait_for(p, lambda e: e["event"] == "paused")
            small.grow(64 * MIB)
            c.finish(p).check("done")
        assert world.same_image(source, target, fmt)


# connections that are lost --------------------------------------------------

def test_lost_target_is_not_connected_again(room):
    """What it acknowledged and did not flush is lost: the map says so, and
    only a new start copies it again."""
    size = 16 * MIB
    source = room / "source"
    source.write_bytes(world.noise(size, 1))
    target = blank(room / "target", size)
    server = world.volatile(room, target)
    c = Copier(room, source, server.uri, size, rate=4 * MIB, request=BLOCK)
    p = c.start()
    c.wait_for(p, lambda e: e.get("read", 0) >= 32 * BLOCK)
    server.stop(signal.SIGKILL)
    with server.again():
        assert c.finish(p).check("failed").end["class"] == "net"
        world.check_claims(c.map, target)
        c.set(rate=None)
        c.run("done")
        world.check_claims(c.map, target)
    assert same(source, target) is True


def from_nbd(room, source, target, size, **keys):
    """The server of the source, and a copier that reads from it."""
    src = nbdkit(room, "file", source)
    c = Copier(room, None, target.uri, size, source_kind="nbd",
               source_uri=src.uri, request=BLOCK, rate=4 * MIB, **keys)
    c.keys["source.file"] = None
    return src, c


def test_lost_source_comes_back(room):
    size = 16 * MIB
    source = make_disk(room / "source", size)
    target = blank(room / "target", size)
    with qemu_nbd(room, target) as nbd:
        src, c = from_nbd(room, source, nbd, size)
        p = c.start()
        for _ in range(2):
            c.wait_for(p, lambda e: e.get("read", 0) >= 32 * BLOCK)
            src.stop(signal.SIGKILL)
            c.wait_for(p, lambda e: "connecting again" in e.get("text", ""))
            src = src.again()
            c.wait_for(p, lambda e: e["event"] == "reconnected")
        c.finish(p).check("done")
        src.stop()
    assert same(source, target) is True


def test_stop_while_the_source_is_away(room):
    size = 16 * MIB
    source = make_disk(room / "source", size)
    target = blank(room / "target", size)
    with qemu_nbd(room, target) as nbd:
        src, c = from_nbd(room, source, nbd, size)
        p = c.start()
        c.wait_for(p, lambda e: e.get("read", 0) >= 32 * BLOCK)
        src.stop(signal.SIGKILL)
        c.wait_for(p, lambda e: "connecting again" in e.get("text", ""))
        p.send_signal(signal.SIGTERM)
        assert c.finish(p).check("stopped").end["done"] > 0
        world.check_claims(c.map, target)


@pytest.mark.parametrize("kind", ["away", "resized"])
def test_lost_source_that_is_not_the_same(room, kind):
    size = 16 * MIB
    source = make_disk(room / "source", size)
    target = blank(room / "target", size)
    with qemu_nbd(room, target) as nbd:
        src, c = from_nbd(room, source, nbd, size, timeout=2)
        p = c.start()
        c.wait_for(p, lambda e: e.get("read", 0) >= 32 * BLOCK)
        src.stop(signal.SIGKILL)
        if kind == "resized":
            os.truncate(source, size + 512)
            src = src.again()
        end = c.finish(p).check("failed").end
        src.stop()
        world.check_claims(c.map, target)
    assert end["class"] == {"away": "net", "resized": "damaged"}[kind]
    assert {"away": "given up after",
            "resized": "the source has 16777728 bytes now"}[kind] \
        in end["error"]


def test_source_that_hangs_before_it_is_read(room):
    """It is asked what is allocated, and never answers."""
    size = 16 * MIB
    target = blank(room / "target", size)
    with nbdkit(room, "--filter=delay", "data", f"size={size}", "data=1",
                "delay-extents=60") as src, qemu_nbd(room, target) as nbd:
        c = Copier(room, None, nbd.uri, size, plan="allocated", timeout=1,
                   target_zeroed="yes", source_kind="nbd", source_uri=src.uri)
        c.keys["source.file"] = None
        end = c.run("failed").end
        src.proc.kill()
    assert end["class"] == "net"
    assert end["error"].startswith("asking what is allocated: no answer for 1")


def test_slow_disk_of_the_map_is_told(room):
    """All of the map is written again in the end, and who listens hears that
    somebody lives meanwhile."""
    size = MIB
    source, target = blank(room / "source", size), blank(room / "target", size)
    (room / "journal").touch()
    with qemu_nbd(room, target) as nbd:
        c = Copier(room, source, nbd.uri, size, plan="allocated",
                   target_zeroed="yes")
        c.environment = {
            **os.environ, "POWERCUT_DIR": str(room), "POWERCUT_SLOW": "2600",
            "POWERCUT_JOURNAL": str(room / "journal"),
            "LD_PRELOAD": f"{os.environ['V2C_BUILD']}/tests/property/"
                          "powercut.so",
            "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") +
                            ":verify_asan_link_order=0"}
        r = c.run("done")
    assert world.holes_are_zero(c.map)
    assert "writing the block map again" in [
        e["for"] for e in r.of("waiting")]


# zeroes ---------------------------------------------------------------------

@pytest.mark.parametrize("policy,server,trim", [
    (None, [], "1"), ("punch", [], "1"), ("keep", [], "0"),
    ("write", [], None), ("keep", ["--filter=nozero"], None)])
def test_zeroes_are_written_as_asked(room, policy, server, trim):
    """Where the target is not known to be zero, each of them is; `trim` says
    whether the server may give the space back, None: they come as data."""
    size = 3 * MIB + 512
    source = make_disk(room / "source", size)
    put(source, MIB, bytes(MIB))
    target = room / "target"
    target.write_bytes(world.noise(size, 99))
    log = room / "log"
    with nbdkit(room, *server, "--filter=log", "file", target,
                f"logfile={log}") as nbd:
        c = Copier(room, source, nbd.uri, size, target_zeroes=policy)
        assert c.run("done").end["zero"] >= MIB
    assert same(source, target) is True
    asked = re.findall(r" Zero .* trim=(\d)", log.read_text())
    assert set(asked) == ({trim} if trim else set())


def test_zeroes_of_an_empty_target_are_not_written(room):
    size = 4 * MIB
    source = blank(room / "source", size)
    put(source, MIB, world.noise(BLOCK, 1))
    target = blank(room / "target", size)
    log = room / "log"
    with nbdkit(room, "--filter=log", "file", target, f"logfile={log}") as nbd:
        c = Copier(room, source, nbd.uri, size, target_zeroes="write",
                   target_zeroed="yes")
        assert c.run("done").end["zero"] == size - BLOCK
    assert log.read_text().count(" Write ") == 1
    assert same(source, target) is True
