"""The copier from outside: every byte, whatever happens."""
import os
import random
import signal
import subprocess
import time

import pytest

import world
from world import (BLOCK, Copier, blank, make_disk, nbdkit, put, qemu_nbd,
                   same)

MiB = 1 << 20
SIZES = [512, 63 * 1024, BLOCK, BLOCK + 512, 20 * MiB + 512]

missing = world.needs("qemu-nbd", "qemu-img", "nbdkit")
pytestmark = pytest.mark.skipif(bool(missing), reason=f"no {missing}")


# whole copies ---------------------------------------------------------------

@pytest.mark.parametrize("plan", ["all", "allocated", "compare"])
@pytest.mark.parametrize("zeroed", ["yes", "no"])
@pytest.mark.parametrize("size", SIZES)
def test_copy_is_equal(room, size, zeroed, plan):
    source = make_disk(room / "source", size, seed=size)
    target = blank(room / "target", size)
    if zeroed == "no":
        target.write_bytes(world.noise(size, 99))
    with qemu_nbd(room, target) as nbd:
        c = Copier(room, source, nbd.uri, size, plan=plan,
                   target_zeroed=zeroed)
        end = c.run("done").end
    assert end["done"] == end["total"]
    assert same(source, target) is True
    world.check_claims(c.map, target)


@pytest.mark.parametrize("size", [63 * 1024, 20 * MiB + 512])
def test_copy_to_qcow2_stays_sparse(room, size):
    source = make_disk(room / "source", size)
    target = room / "target"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", target,
                    str(size)], check=True)
    with qemu_nbd(room, target, "qcow2") as nbd:
        c = Copier(room, source, nbd.uri, size, plan="allocated",
                   target_zeroed="yes")
        c.run("done")
    assert world.same_image(source, target, "qcow2")
    if size > MiB:
        assert os.stat(target).st_blocks * 512 < size * 3 // 4


def test_all_options_at_once(room):
    size = 20 * MiB + 512
    source = make_disk(room / "source", size)
    target = blank(room / "target", size)
    with qemu_nbd(room, target) as nbd:
        c = Copier(room, source, nbd.uri, size)
        c.set(readers=3, request=2 * BLOCK, rate=0, timeout=20)
        c.run("done")
    assert same(source, target) is True


def test_smallest_request_of_the_target_is_kept(room):
    size = BLOCK + 512
    source = make_disk(room / "source", size)
    target = blank(room / "target", 2 * BLOCK)
    with nbdkit(room, "--filter=blocksize-policy", "file", target,
                "blocksize-minimum=4096", "blocksize-preferred=4096",
                "blocksize-error-policy=error") as nbd:
        Copier(room, source, nbd.uri, size).run("done")
    assert target.read_bytes()[:size] == source.read_bytes()
    assert not any(target.read_bytes()[size:])


def test_largest_request_of_the_target_is_kept(room):
    size = 4 * MiB + 512
    source = make_disk(room / "source", size)
    target = blank(room / "target", size)
    with nbdkit(room, "--filter=blocksize-policy", "file", target,
                "blocksize-minimum=512", "blocksize-maximum=200K",
                "blocksize-preferred=4096",
                "blocksize-error-policy=error") as nbd:
        Copier(room, source, nbd.uri, size).run("done")
    assert same(source, target) is True


def test_target_without_zero_requests(room):
    size = 3 * MiB
    source = make_disk(room / "source", size)
    target = room / "target"
    target.write_bytes(world.noise(size, 99))
    with nbdkit(room, "--filter=nozero", "file", target) as nbd:
        Copier(room, source, nbd.uri, size).run("done")
    assert same(source, target) is True


def test_rate_is_not_exceeded(room):
    size = 4 * MiB
    source = make_disk(room / "source", size)
    target = blank(room / "target", size)
    with qemu_nbd(room, target) as nbd:
        c = Copier(room, source, nbd.uri, size, rate=4 * MiB, request=BLOCK)
        end = c.run("done").end
    # All but what is read in the first burst and in the last request.
    assert end["ms"] >= 800


def test_copiers_share_a_limit(room):
    size, rate = 2 * MiB, 4 * MiB
    limit = world.limit(room / "machine.rate", rate)
    began, copiers = time.monotonic(), []
    servers = []
    for i in range(3):
        place = room / str(i)
        place.mkdir()
        source = place / "source"
        source.write_bytes(world.noise(size, i))
        servers.append(qemu_nbd(place, blank(place / "target", size)))
        c = Copier(place, source, servers[i].uri, size, request=BLOCK,
                   limit_vm=world.limit(place / "vm.rate", 0),
                   limit_machine=limit)
        copiers.append((c, c.start()))
    ends = [c.finish(p).check("done").end for c, p in copiers]
    took = time.monotonic() - began
    for server in servers:
        server.stop()
    read = sum(end["read"] for end in ends)
    assert read == 3 * size
    # all but what is read at once at the beginning, and one request
    assert read <= rate * (took + 0.1) + BLOCK


def test_limit_changes_while_running(room):
    size = 32 * MiB
    source = room / "source"
    source.write_bytes(world.noise(size, 1))
    target = blank(room / "target", size)
    limit = world.limit(room / "disk.rate", 64 << 10)  # nine minutes
    with qemu_nbd(room, target) as nbd:
        c = Copier(room, source, nbd.uri, size, limit_disk=limit,
                   limit_host=room / "host.rate")
        p = c.start()
        c.wait_for(p, lambda e: e.get("read"))
        world.change_limit(limit, 0)
        c.finish(p).check("done")
    assert same(source, target) is True
    # one that was not there limits nothing, and can be changed now
    assert (room / "host.rate").stat().st_size == 64


def test_limit_that_is_damaged(room):
    size = MiB
    source = make_disk(room / "source", size)
    target = blank(room / "target", size)
    limit, link = room / "disk.rate", room / "link"
    limit.write_text("garbage")
    link.symlink_to(source)
    with qemu_nbd(room, target) as nbd:
        c = Copier(room, source, nbd.uri, size, limit_disk=limit)
        assert "is damaged" in c.run("done").err
        c.set(limit_disk=link)
        end = c.run("failed").end
    assert "link; remove it" in end["error"] and end["class"] == "user"


# plans ------------------------------------------------------------------------

def test_same_plan_again_has_nothing_to_do(room):
    size = 5 * MiB
    source = make_disk(room / "source", size)
    target = blank(room / "target", size)
    with qemu_nbd(room, target) as nbd:
        c = Copier(room, source, nbd.uri, size)
        c.run("done")
        r = c.run("done")
    assert r.of("open")[0]["resumed"] is True
    assert r.of("open")[0]["todo"] == 0
    assert r.end["read"] == 0
    assert r.end["done"] == r.end["total"] == size


def test_list_copies_what_it_names_and_no_more(room):
    size = 8 * MiB + 512
    source = room / "source"
    source.write_bytes(world.noise(size, 1))
    target = blank(room / "target", size)
    with qemu_nbd(room, target) as nbd:
        c = Copier(room, source, nbd.uri, size, plan="list")
        c.extents = [(BLOCK + 5, 1), (10 * BLOCK, 2 * BLOCK), (size - 1, 9999),
                     (11 * BLOCK, 100)]
        r = c.run("done")
    a, b = source.read_bytes(), target.read_bytes()
    whole = {1, 10, 11, size // BLOCK}
    for block in range(size // BLOCK + 1):
        part = slice(block * BLOCK, (block + 1) * BLOCK)
        expected = a[part] if block in whole else bytes(len(b[part]))
        assert b[part] == expected, block
    assert r.end["total"] == 3 * BLOCK + 512
    assert set(world.read_map(c.map)) == whole
    assert not world.holes_are_zero(c.map)


def test_compare_writes_only_what_differs(room):
    size = 10 * MiB + 512
    source = make_disk(room / "source", size)
    target = blank(room / "target", size)
    with qemu_nbd(room, target) as nbd:
        c = Copier(room, source, nbd.uri, size)
        c.run("done")
        put(source, 5 * BLOCK + 17, b"changed")
        put(source, 9 * BLOCK, world.noise(BLOCK, 5))
        put(source, 20 * BLOCK, bytes(BLOCK))
        put(source, 21 * BLOCK, world.noise(512, 6))
        c.set(plan="compare", plan_id="delta")
        end = c.run("done").end
    assert same(source, target) is True
    assert end["written"] + end["zero"] <= 4 * BLOCK
    assert end["same"] >= size - 4 * BLOCK


def test_plan_with_other_extents_is_no_resume(room):
    size = 4 * MiB
    source = room / "source"
    source.write_bytes(world.noise(size, 1))
    target = blank(room / "target", size)
    with qemu_nbd(room, target) as nbd:
        c = Copier(room, source, nbd.uri, size)
        c.run("done")
        c.set(plan="list", plan_id="delta")
        c.extents = [(0, BLOCK)]
        c.run("done")
        source.write_bytes(world.noise(size, 2))
        c.extents = [(0, size)]
        r = c.run("done")
    assert r.of("open")[0]["resumed"] is False
    assert r.of("warn")
    assert same(source, target) is True


def test_allocation_of_an_nbd_source(room):
    size = 32 * MiB
    target = blank(room / "target", size)
    with nbdkit(room, "data", f"size={size}",
                "data=1 @1048576 2*65536 @20971520 3") \
            as src, qemu_nbd(room, target) as nbd:
        c = Copier(room, None, nbd.uri, size, plan="allocated",
                   target_zeroed="yes", source_kind="nbd", source_uri=src.uri)
        c.keys["source.file"] = None
        end = c.run("done").end
    assert end["total"] < size // 2
    data = target.read_bytes()
    assert (data[0], data[MiB], data[20 * MiB]) == (1, 2, 3)
    assert sum(1 for x in data if x) == 2 + 65536


# crashes ------------------------------------------------------------------------

@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("plan", ["all", "allocated"])
def test_killed_at_random_and_resumed(room, seed, plan):
    rng = random.Random(seed)
    size = 24 * MiB + 512
    source = make_disk(room / "source", size, seed)
    target = blank(room / "target", size)
    with qemu_nbd(room, target) as nbd:
        c = Copier(room, source, nbd.uri, size, plan=plan,
                   target_zeroed="yes", rate=6 * MiB)
        while c.killed_after(rng.uniform(0.05, 2.6)):
            world.check_claims(c.map, target) if c.map.exists() else None
        end = c.run("done").end
    assert end["done"] == end["total"]
    assert same(source, target) is True


@pytest.mark.parametrize("plan", ["all", "allocated", "compare"])
def test_new_plan_after_a_part_of_the_old_one(room, plan):
    """The first plan's data is on the target and not in the map: the holes of
    the second must not show it."""
    size = 16 * MiB
    source = room / "source"
    source.write_bytes(world.noise(size, 1))
    target = blank(room / "target", size)
    with qemu_nbd(room, target) as nbd:
        c = Copier(room, source, nbd.uri, size, plan="allocated",
                   target_zeroed="yes", rate=8 * MiB)
        c.killed_before_a_checkpoint()
        assert any(target.read_bytes())
        blank(source, size)
        put(source, 3 * MiB, world.noise(MiB, 2))
        c.set(plan=plan, plan_id="second", rate=None)
        c.run("done")
        assert same(source, target) is True
        # Nor when the first plan's name comes back.
        source.write_bytes(world.noise(size, 3))
        c.set(plan_id="third", rate=8 * MiB)
        c.killed_before_a_checkpoint()
        blank(source, size)
        c.set(plan="allocated", plan_id="base", rate=None)
        c.run("done")
    assert same(source, target) is True


def test_interrupted_compare_trusts_no_old_hash(room):
    """A block that was being written may hold anything, though the map's hash
    is that of the source now."""
    size = 16 * MiB
    old, new = world.noise(size, 1), world.noise(size, 2)
    source = room / "source"
    source.write_bytes(old)
    target = blank(room / "target", size)
    with qemu_nbd(room, target) as nbd:
        c = Copier(room, source, nbd.uri, size)
        c.run("done")
        source.write_bytes(new)
        c.set(plan="compare", plan_id="second", rate=8 * MiB)
        c.killed_before_a_checkpoint()
        assert target.read_bytes() != old
        source.write_bytes(old)
        c.set(plan_id="third", rate=None)
        c.run("done")
        assert same(source, target) is True
        source.write_bytes(new)
        c.set(plan_id="fourth", rate=8 * MiB)
        c.killed_before_a_checkpoint()
        source.write_bytes(old)
        c.set(rate=None)
        assert c.run("done").of("open")[0]["resumed"] is True
    assert same(source, target) is True


def test_dirty_blocks_outside_of_the_plan_are_copied(room):
    size = 16 * MiB
    source = room / "source"
    source.write_bytes(world.noise(size, 1))
    target = blank(room / "target", size)
    with qemu_nbd(room, target) as nbd:
        c = Copier(room, source, nbd.uri, size)
        c.run("done")
        source.write_bytes(world.noise(size, 2))
        c.set(plan="list", plan_id="second", rate=8 * MiB)
        c.extents = [(0, size)]
        c.killed_before_a_checkpoint()
        c.set(plan_id="third", rate=None)
        c.extents = []
        c.run("done")
    assert same(source, target) is True


def test_base_goes_on_with_another_snapshot(room):
    """What changed, what is dirty, and what the first plan never came to."""
    size = 16 * MiB + 512
    old = bytearray(world.noise(size, 1))
    source = room / "source"
    source.write_bytes(old)
    target = blank(room / "target", size)
    with qemu_nbd(room, target) as nbd:
        c = Copier(room, source, nbd.uri, size, plan="allocated",
                   target_zeroed="yes", rate=4 * MiB)
        p = c.start()
        c.wait_for(p, lambda e: e.get("done", 0) > 0)
        p.kill()
        p.communicate()
        # In what was copied, in what was written, in what is still to come.
        changes = [(BLOCK, 512), (9 * MiB, BLOCK), (15 * MiB, 3 * BLOCK)]
        for at, n in changes:
            put(source, at, bytes(n))
        c.set(plan="list", plan_id="second", uncopied="yes")
        c.extents = changes
        c.killed_after_reading()
        c.set(rate=None)
        assert c.run("done").of("open")[0]["resumed"] is True
        assert world.check_claims(c.map, target) == size // BLOCK + 1
    assert same(source, target) is True


@pytest.mark.parametrize("multi", [[], ["--multi-conn"]])
@pytest.mark.parametrize("seed", range(3))
def test_copied_means_stable(room, seed, multi):
    """The server forgets what was not flushed; the map must never have
    claimed it."""
    rng = random.Random(seed)
    size = 16 * MiB + 512
    source = room / "source"
    source.write_bytes(world.noise(size, seed))
    target = blank(room / "target", size)
    c = Copier(room, source, None, size, rate=4 * MiB, request=BLOCK)
    claims, killed = [0], True
    while killed:
        server = world.volatile(room, target, "--delay", 0.02,
                                "--slow-flush", 0.2, "--seed", seed, *multi)
        c.set(target_uri=server.uri)
        killed = c.killed_after(rng.uniform(2.2, 4))
        server.stop(signal.SIGKILL)
        claims.append(world.check_claims(c.map, target))
    whole = size // BLOCK + 1
    assert claims[-1] == whole
    assert any(0 < n < whole for n in claims), "killed too early or too late"
    assert same(source, target) is True


def test_torn_map_page_is_copied_again(room):
    size = 4 * MiB
    source = make_disk(room / "source", size)
    target = blank(room / "target", size)
    with qemu_nbd(room, target) as nbd:
        c = Copier(room, source, nbd.uri, size)
        c.run("done")
        put(target, 17 * BLOCK, world.noise(BLOCK, 3))
        raw = bytearray(c.map.read_bytes())
        raw[world.PAGES_AT + 1000] ^= 1
        c.map.write_bytes(raw)
        c.set(plan="list", plan_id="delta")
        assert c.run("done").end["total"] == size
    assert same(source, target) is True


# errors --------------------------------------------------------------------------

@pytest.mark.parametrize("what", ["pwrite", "zero"])
def test_errors_of_the_target_lose_nothing(room, what):
    size = 12 * MiB
    source = make_disk(room / "source", size)
    target = room / "target"
    target.write_bytes(world.noise(size, 99))
    trigger = room / "trigger"
    trigger.touch()
    with nbdkit(room, "--filter=error", "file", target,
                f"error-{what}=EIO", f"error-{what}-rate=0.2",
                f"error-{what}-file={trigger}") as nbd:
        c = Copier(room, source, nbd.uri, size, request=BLOCK, readers=4)
        end = c.run("failed").end
        assert end["class"] == "io"
        for _ in range(5):
            if c.run().code == 0:
                break
            world.check_claims(c.map, target)
        trigger.unlink()
        c.run("done")
    assert same(source, target) is True


def test_errors_of_the_source_lose_nothing(room):
    size = 12 * MiB
    source = make_disk(room / "source", size)
    target = blank(room / "target", size)
    trigger = room / "trigger"
    trigger.touch()
    with nbdkit(room, "--filter=error", "file", source, "error-pread=EIO",
                "error-pread-rate=0.2", f"error-pread-file={trigger}") as src, \
            qemu_nbd(room, target) as nbd:
        c = Copier(room, None, nbd.uri, size, request=BLOCK,
                   source_kind="nbd", source_uri=src.uri)
        c.keys["source.file"] = None
        end = c.run("failed").end
        assert end["error"].startswith("reading the source at ")
        trigger.unlink()
        c.run("done")
    assert same(source, target) is True


def test_failed_flush_proves_nothing(room):
    size = 4 * MiB
    source = room / "source"
    source.write_bytes(world.noise(size, 1))
    target = blank(room / "target", size)
    with world.volatile(room, target, "--fail-flushes", 1) as nbd:
        c = Copier(room, source, nbd.uri, size)
        end = c.run("failed").end
        assert end["done"] == 0
        assert "flush" in end["error"]
        assert world.check_claims(c.map, target) == 0
        c.run("done")
    assert same(source, target) is True


def test_lost_connection(room):
    size = 8 * MiB
    source = room / "source"
    source.write_bytes(world.noise(size, 1))
    target = blank(room / "target", size)
    with world.volatile(room, target, "--drop-after", 40) as nbd:
        c = Copier(room, source, nbd.uri, size, request=BLOCK)
        assert c.run("failed").end["class"] == "net"
    world.check_claims(c.map, target)
    with world.volatile(room, target) as nbd:
        c.set(target_uri=nbd.uri)
        c.run("done")
    assert same(source, target) is True


def test_target_that_does_not_answer(room):
    size = 8 * MiB
    source = make_disk(room / "source", size)
    target = blank(room / "target", size)
    with qemu_nbd(room, target) as nbd:
        c = Copier(room, source, nbd.uri, size, rate=4 * MiB, timeout=1)
        p = c.start()
        c.wait_for(p, lambda e: e["event"] == "open")
        nbd.proc.send_signal(signal.SIGSTOP)
        end = c.finish(p).check("failed").end
        nbd.proc.send_signal(signal.SIGCONT)
        assert end["class"] == "net"
        c.set(rate=None)
        c.run("done")
    assert same(source, target) is True


@pytest.mark.parametrize("kind", ["small", "readonly", "nowhere"])
def test_target_that_does_not_fit(room, kind):
    size = MiB
    source = make_disk(room / "source", size)
    target = blank(room / "target", size // 2 if kind == "small" else size)
    more = ["-r"] if kind == "readonly" else []
    with qemu_nbd(room, target, "raw", *more) as nbd:
        uri = nbd.uri + ("x" if kind == "nowhere" else "")
        end = Copier(room, source, uri, size).run("failed").end
    assert end["class"] == ("net" if kind == "nowhere" else "user")


def test_source_of_another_size(room):
    size = MiB
    source = make_disk(room / "source", size)
    target = blank(room / "target", 2 * size)
    with qemu_nbd(room, target) as nbd:
        end = Copier(room, source, nbd.uri, 2 * size).run("failed").end
    assert end["class"] == "damaged"
    assert not any(target.read_bytes())


@pytest.mark.parametrize("key", ["disk.id", "target.id", "disk.size"])
def test_map_of_another_disk(room, key):
    size = MiB
    source = make_disk(room / "source", size)
    target = blank(room / "target", 2 * size)
    with qemu_nbd(room, target) as nbd:
        c = Copier(room, source, nbd.uri, size)
        c.run("done")
        c.keys[key] = size // 2 if key == "disk.size" else "other"
        end = c.run("failed").end
    assert end["class"] == "damaged"


# stopping ------------------------------------------------------------------------

@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop(room, sig):
    size = 16 * MiB
    source = make_disk(room / "source", size)
    target = blank(room / "target", size)
    with qemu_nbd(room, target) as nbd:
        c = Copier(room, source, nbd.uri, size, rate=4 * MiB)
        p = c.start()
        c.wait_for(p, lambda e: e["event"] == "progress" and e["read"])
        p.send_signal(sig)
        end = c.finish(p).check("stopped").end
        assert 0 < end["done"] < size
        assert end["done"] == end["read"]
        assert end["class"] == "stopped"
        world.check_claims(c.map, target)
        c.set(rate=None)
        r = c.run("done")
    assert r.of("open")[0]["todo"] == size - end["done"]
    assert same(source, target) is True


def test_nobody_listens(room):
    size = 16 * MiB
    source = make_disk(room / "source", size)
    target = blank(room / "target", size)
    with qemu_nbd(room, target) as nbd:
        c = Copier(room, source, nbd.uri, size, rate=4 * MiB)
        p = c.start()
        p.stdin.close()
        p.stdout.readline()
        p.stdout.close()
        assert p.wait(world.PATIENCE) == 3
        p.stderr.close()
        world.check_claims(c.map, target)
        c.set(rate=None)
        c.run("done")
    assert same(source, target) is True


def test_second_copier_is_refused(room):
    size = 16 * MiB
    source = make_disk(room / "source", size)
    target = blank(room / "target", size)
    with qemu_nbd(room, target, "raw", "--shared=4") as nbd:
        c = Copier(room, source, nbd.uri, size, rate=4 * MiB)
        p = c.start()
        c.wait_for(p, lambda e: e["event"] == "open")
        assert c.run("failed").end["class"] == "busy"
        p.send_signal(signal.SIGTERM)
        c.finish(p).check("stopped")


# requests ------------------------------------------------------------------------

def replaced(old, new):
    return lambda text: text.replace(old, new, 1)


BAD = {
    "no end": replaced("end\n", ""),
    "broken off within end": replaced("end\n", "end"),
    "empty": lambda text: "",
    "other version": replaced("v2c-copy 1", "v2c-copy 2"),
    "unknown key": replaced("plan all", "plan all\ncolour blue"),
    "missing key": replaced("target.id target-1\n", ""),
    "twice": replaced("plan all", "plan all\nplan all"),
    "no value": replaced("plan all", "plan "),
    "unknown plan": replaced("plan all", "plan some"),
    "unknown kind": replaced("source.kind file", "source.kind tape"),
    "key of another kind": replaced("plan all", "plan all\nsource.vm vm-1"),
    "size no number": replaced("disk.size 1048576", "disk.size 1M"),
    "size no sectors": replaced("disk.size 1048576", "disk.size 1048577"),
    "size zero": replaced("disk.size 1048576", "disk.size 0"),
    "size beyond": replaced("disk.size 1048576", "disk.size 99999999999999999"),
    "uncopied without list": replaced("plan all", "plan all\nuncopied yes"),
    "zeroes otherwise": replaced("zeroed no", "zeroed no\ntarget.zeroes burn"),
    "zeroed maybe": replaced("zeroed no", "zeroed maybe"),
    "request odd": replaced("plan all", "plan all\nrequest 65537"),
    "too much memory": replaced("plan all",
                                "plan all\nrequest 16777216\nreaders 64"),
    "extents without list": replaced("end\n", "extent 0 512\nend\n"),
    "extent beyond": replaced("plan all\n", "plan list\nextent 1048576 1\n"),
    "extent empty": replaced("plan all\n", "plan list\nextent 0 0\n"),
    "extent half": replaced("plan all\n", "plan list\nextent 0\n"),
    "extent overflow": replaced("plan all\n",
                                f"plan list\nextent 1 {2**64 - 1}\n"),
    "control character": replaced("disk-uuid", "disk\x01uuid"),
    "long line": replaced("disk-uuid", "x" * 9000),
    "key after extents": replaced("plan all\n",
                                  "plan list\nextent 0 512\nreaders 2\n"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_request(room, name):
    good = Copier(room, room / "source", "nbd://x", MiB).text()
    bad = BAD[name](good)
    assert bad != good
    p = subprocess.run([world.program(), "copy"], input=bad, text=True,
                       capture_output=True, timeout=world.PATIENCE)
    r = world.Result(p.returncode, p.stdout.splitlines(), p.stderr)
    assert r.code == 2
    assert r.check("failed").end["class"] == "user"
    assert not list(room.iterdir())


def test_help_version_and_the_manual_agree():
    text = subprocess.run([world.program(), "--help"], text=True, check=True,
                          capture_output=True).stdout
    keys = [line.split()[0] for line in text.split("keys:\n")[1].splitlines()
            if line.startswith("  ")]
    manual = (world.HERE / "../../docs/v2c-copy.md").read_text()
    documented = [line.split("`")[1] for line in manual.splitlines()
                  if line.startswith("| `")]
    assert keys == documented
    assert subprocess.run([world.program(), "--version"], text=True,
                          check=True, capture_output=True
                          ).stdout.startswith("v2c-copy ")
    assert subprocess.run([world.program(), "sing"],
                          capture_output=True).returncode == 2


# VDDK that cannot be had ------------------------------------------------------------

def vddk(room, libdir):
    c = Copier(room, None, None, MiB)
    c.keys["source.file"] = None
    c.set(source_kind="vddk", source_libdir=libdir, source_server="vc",
          source_user="root", source_password="s3cret-Word",
          source_thumbprint="00:11", source_vm="vm-1",
          source_snapshot="snapshot-2", source_path="[ds] a/a.vmdk")
    return c


@pytest.mark.parametrize("kind", ["absent", "empty", "text", "foreign"])
def test_no_vddk(room, kind):
    libdir = room / "vddk"
    if kind != "absent":
        (libdir / "lib64").mkdir(parents=True)
    library = libdir / "lib64/libvixDiskLib.so.8"
    if kind == "text":
        library.write_text("not a library")
    if kind == "foreign":
        os.symlink(world.ctypes.util.find_library("xxhash") and
                   os.path.realpath("/usr/lib/x86_64-linux-gnu/libxxhash.so.0"),
                   library)
    target = blank(room / "target", MiB)
    with qemu_nbd(room, target) as nbd:
        r = vddk(room, libdir).set(target_uri=nbd.uri).run("failed")
    assert r.end["class"] == "user"
    assert str(libdir) in r.end["error"]
    assert {"absent": "looked for libvixDiskLib.so.9", "empty": "looked for",
            "text": "loading", "foreign": "lacks VixDiskLib_"}[kind] \
        in r.end["error"]
    assert "s3cret-Word" not in r.err + str(r.events)


def test_password_is_required(room):
    c = vddk(room, room)
    c.keys["source.password"] = None
    c.set(target_uri="nbd://x")
    r = c.run("failed")
    assert r.code == 2 and "source.password" in r.end["error"]


# the map as others see it -------------------------------------------------------------

def test_finished_map_covers_holes(room):
    """After `allocated` no block is unknown: the header says that the rest is
    zero."""
    size = 40 * MiB
    source = blank(room / "source", size)
    put(source, 5 * MiB, world.noise(MiB, 1))
    target = blank(room / "target", size)
    with qemu_nbd(room, target) as nbd:
        c = Copier(room, source, nbd.uri, size, plan="allocated",
                   target_zeroed="yes")
        assert c.run("done").end["total"] < size
        assert world.holes_are_zero(c.map)
        put(source, 30 * MiB, world.noise(MiB, 2))
        c.set(plan="compare", plan_id="delta")
        end = c.run("done").end
    assert end["written"] == MiB
    assert same(source, target) is True
