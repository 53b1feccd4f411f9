"""NBD servers that keep to the letter, or not even that."""
import os
import sys

import pytest

import world
from world import BLOCK, Copier, Server, blank, nbdkit, qemu_nbd, same

KiB, MiB, GiB = 1 << 10, 1 << 20, 1 << 30

missing = world.needs("qemu-nbd", "nbdkit")
pytestmark = pytest.mark.skipif(bool(missing), reason=f"no {missing}")


def hostile(room, size, **how):
    return Server(room, [sys.executable, str(world.HERE / "hostile_nbd.py"),
                         "SOCKET", str(size),
                         *[f"--{k}={v}" for k, v in how.items()]])


def from_nbd(room, source, target, size, **keys):
    c = Copier(room, None, target.uri, size, source_kind="nbd",
               source_uri=source.uri, target_zeroed="yes", **keys)
    c.keys["source.file"] = None
    return c


def test_largest_request_of_the_source_is_kept(room):
    size = 3 * MiB + 512
    source = world.make_disk(room / "source", size)
    target = blank(room / "target", size)
    with nbdkit(room, "-r", "--filter=blocksize-policy", "file", source,
                "blocksize-minimum=512", "blocksize-maximum=200K",
                "blocksize-preferred=4096", "blocksize-error-policy=error") \
            as src, qemu_nbd(room, target) as nbd:
        from_nbd(room, src, nbd, size).run("done")
    assert same(source, target) is True


def test_source_whose_end_cannot_be_read(room):
    size = 3 * MiB + 512
    source = world.make_disk(room / "source", size)
    target = blank(room / "target", size)
    with nbdkit(room, "-r", "--filter=blocksize-policy", "file", source,
                "blocksize-minimum=4096", "blocksize-preferred=4096",
                "blocksize-error-policy=error") as src, \
            qemu_nbd(room, target) as nbd:
        end = from_nbd(room, src, nbd, size).run("failed").end
    assert end["class"] == "user" and "blocks of 4096 bytes" in end["error"]
    assert end["read"] == 0


@pytest.mark.parametrize("how", ["short", "elsewhere"])
def test_answers_that_are_not_whole_are_no_data(room, how):
    size = 4 * BLOCK
    target = blank(room / "target", size)
    with hostile(room, size, read=how) as src, qemu_nbd(room, target) as nbd:
        c = from_nbd(room, src, nbd, size, timeout=2)
        end = c.run("failed").end
    assert end["done"] == 0 and end["written"] == 0
    assert end["class"] == {"short": "remote", "elsewhere": "net"}[how]
    assert not world.read_map(c.map)
    assert not any(target.read_bytes())


def test_zeroes_that_were_not_sent_are_no_proof(room):
    """What never came is not taken for what the map expects."""
    size = 2 * BLOCK
    source = blank(room / "source", size)
    target = blank(room / "target", size)
    with qemu_nbd(room, target) as nbd:
        c = Copier(room, source, nbd.uri, size)
        c.run("done")
    with hostile(room, size, read="nothing") as nbd:
        end = world.Verifier(c, target_uri=nbd.uri).run("failed").end
    assert end["verified"] == 0
    assert not any(flags & world.VERIFIED
                   for _, flags in world.read_map(c.map).values())


@pytest.mark.parametrize("status, read", [
    ("data", None), ("short", None), ("none", None), ("long", BLOCK)])
def test_odd_status_hides_nothing(room, status, read):
    """All of it is read, or what the first extent names."""
    size = 5 * MiB + 512
    target = blank(room / "target", size)
    with hostile(room, size, status=status) as src, \
            qemu_nbd(room, target) as nbd:
        end = from_nbd(room, src, nbd, size, plan="allocated").run("done").end
    assert end["read"] == (read or size)
    assert target.read_bytes().count(1) == (read or size)


def most_memory(room, target, size, status):
    """Bytes that a copier has taken until it begins to read."""
    with hostile(room, size, status=status) as src, \
            qemu_nbd(room, target) as nbd:
        c = from_nbd(room, src, nbd, size, plan="allocated", rate=BLOCK)
        c.map = c.keys["map"] = room / f"{status}.map"
        # ASan would keep what was freed
        c.environment = {**os.environ, "ASAN_OPTIONS": os.environ.get(
            "ASAN_OPTIONS", "") + ":quarantine_size_mb=1"}
        p = c.start()
        c.wait_for(p, lambda event: event["event"] == "open")
        p.kill()
        p.stdout.read()
        _, _, usage = os.wait4(p.pid, 0)
        p.returncode = -9
        p.communicate()
    return usage.ru_maxrss * KiB


def test_crumbs_take_no_memory(room):
    """Eight million extents of a disk of 64 GiB."""
    size = 64 * GiB
    target = blank(room / "target", size)
    one = most_memory(room, target, size, "data")
    assert most_memory(room, target, size, "crumbs") - one < 64 * MiB


def test_file_that_shrinks(room):
    """What it does not have any more is no hole."""
    size = 32 * MiB
    source, target = blank(room / "source", size), blank(room / "target", size)
    with qemu_nbd(room, target) as nbd:
        c = Copier(room, source, nbd.uri, size, rate=MiB)
        p = c.start()
        c.wait_for(p, lambda event: event.get("read", 0) > 0)
        os.truncate(source, BLOCK)
        end = c.finish(p).check("failed").end
    assert end["class"] == "io" and end["done"] < size
