"""What is on the target is read back: what differs is found, and mended by
the next copy; what was verified is known, also after a crash."""
import os
import random
import signal
import subprocess

import pytest

import world
from world import (BLOCK, COPIED, DIRTY, VERIFIED, ZERO, Copier, Verifier,
                   blank, make_disk, nbdkit, put, qemu_nbd, same)

MiB = 1 << 20

missing = world.needs("qemu-nbd", "qemu-img", "nbdkit")
pytestmark = pytest.mark.skipif(bool(missing), reason=f"no {missing}")


def flip(path, offset):
    """One bit, behind the copier's back."""
    with open(path, "r+b") as f:
        f.seek(offset)
        byte = f.read(1)[0] ^ 1
        f.seek(offset)
        f.write(bytes([byte]))


def copied(room, nbd, size, content=None, **keys):
    """A finished copy of noise, or of what is given."""
    source = room / "source"
    source.write_bytes(world.noise(size, 1) if content is None else content)
    c = Copier(room, source, nbd.uri, size, **keys)
    c.run("done")
    return c


def flags(c):
    return {block: f for block, (_, f) in world.read_map(c.map).items()}


def differing(r, what="target"):
    return [(e["offset"], e["length"]) for e in r.of("differs")
            if e["what"] == what]


# what is found ----------------------------------------------------------------

@pytest.mark.parametrize("size", [512, 63 * 1024, BLOCK, BLOCK + 512,
                                  20 * MiB + 512])
@pytest.mark.parametrize("fmt", ["raw", "qcow2"])
def test_good_target(room, size, fmt):
    source = make_disk(room / "source", size, seed=size)
    target = room / "target"
    subprocess.run(["qemu-img", "create", "-q", "-f", fmt, target, str(size)],
                   check=True)
    with qemu_nbd(room, target, fmt) as nbd:
        c = Copier(room, source, nbd.uri, size, plan="allocated",
                   target_zeroed="yes")
        c.run("done")
        r = Verifier(c).run("done")
    end = r.end
    assert end["verified"] + end["skipped_zero"] == end["total"] == size
    assert end["different"] == end["unproven"] == 0
    assert not r.of("differs") and not r.of("warn")
    assert end["read"] >= end["verified"]


@pytest.mark.parametrize("offset", [0, 5 * BLOCK + 17, 8 * MiB + 511])
@pytest.mark.parametrize("known", [False, True])
def test_one_bit(room, offset, known):
    """Also in a block that was good once: `again` looks at it once more."""
    size = 8 * MiB + 512
    target = blank(room / "target", size)
    with qemu_nbd(room, target) as nbd:
        c = copied(room, nbd, size)
        v = Verifier(c)
        if known:
            v.run("done")
            v.set(again="yes")
        flip(target, offset)
        r = v.run("differs")
        start = offset // BLOCK * BLOCK
        assert differing(r) == [(start, min(BLOCK, size - start))]
        assert r.end["different"] == min(BLOCK, size - start)
        assert r.end["verified"] == size - r.end["different"]
        found = flags(c)
        assert found[offset // BLOCK] == DIRTY
        assert all(f == COPIED | VERIFIED for b, f in found.items()
                   if b != offset // BLOCK)
        # the next copy mends it, whatever its plan
        c.set(plan="list", plan_id="next")
        end = c.run("done").end
        assert end["total"] == r.end["different"]
        assert same(room / "source", target) is True
        assert v.run("done").end["different"] == 0


def test_the_same_plan_again_mends(room):
    size = 4 * MiB
    target = blank(room / "target", size)
    with qemu_nbd(room, target) as nbd:
        c = copied(room, nbd, size)
        flip(target, 3 * MiB)
        Verifier(c).run("differs")
        assert c.run("done").end["written"] == BLOCK
    assert same(room / "source", target) is True


def test_compare_does_not_trust_the_hash_of_what_differed(room):
    """The source still has the hash that the map had."""
    size = 4 * MiB
    target = blank(room / "target", size)
    with qemu_nbd(room, target) as nbd:
        c = copied(room, nbd, size)
        flip(target, 3 * MiB)
        Verifier(c).run("differs")
        c.set(plan="compare", plan_id="next")
        c.run("done")
    assert same(room / "source", target) is True


def test_zeroes_that_are_none(room):
    """In a hole, in a block of zeroes; the map calls both zero."""
    size = 8 * MiB
    target = blank(room / "target", size)
    content = bytearray(size)
    content[MiB:2 * MiB] = world.noise(MiB, 1)
    source = room / "source"
    with open(source, "wb") as f:
        f.truncate(size)
    put(source, MiB, bytes(content[MiB:2 * MiB]))
    put(source, 4 * MiB, bytes(BLOCK))
    with qemu_nbd(room, target) as nbd:
        c = Copier(room, source, nbd.uri, size, plan="allocated",
                   target_zeroed="yes")
        c.run("done")
        put(target, 4 * MiB + 9, b"x")
        put(target, 7 * MiB + 9, b"x")
        r = Verifier(c).run("differs")
        assert differing(r) == [(4 * MiB, BLOCK), (7 * MiB, BLOCK)]
        c.run("done")
        Verifier(c).run("done")
    assert target.read_bytes() == bytes(content)


def test_data_that_became_a_hole(room):
    size = 4 * MiB
    target = blank(room / "target", size)
    with qemu_nbd(room, target) as nbd:
        c = copied(room, nbd, size)
        subprocess.run(["fallocate", "-p", "-o", str(MiB), "-l", str(MiB),
                        target], check=True)
        assert differing(Verifier(c).run("differs")) == [(MiB, MiB)]


def test_areas_are_merged_and_bounded(room):
    size = 16 * MiB
    target = blank(room / "target", size)
    with qemu_nbd(room, target) as nbd:
        c = copied(room, nbd, size)
        for block in (3, 4, 5, *range(10, 90, 2)):
            flip(target, block * BLOCK + 100)
        r = Verifier(c).run("differs")
    assert differing(r) == [(3 * BLOCK, 3 * BLOCK)] + [
        (block * BLOCK, BLOCK) for block in range(10, 40, 2)]
    assert r.end["areas"] == 41
    assert r.end["different"] == 43 * BLOCK
    assert len(r.of("warn")) == 1


def test_nothing_is_written(room):
    size = 4 * MiB
    target = blank(room / "target", size)
    with qemu_nbd(room, target) as nbd:
        c = copied(room, nbd, size)
        flip(target, MiB)
    before = target.read_bytes()
    with qemu_nbd(room, target, "raw", "--read-only") as nbd:
        Verifier(c, target_uri=nbd.uri).run("differs")
    assert target.read_bytes() == before


# zeroes are not read --------------------------------------------------------------

def test_huge_sparse_disk(room):
    """2 TiB of which nearly nothing is there."""
    size = 2 << 40
    source, target = blank(room / "source", size), room / "target"
    for at in (0, 1 << 40, size - 512):
        put(source, at, world.noise(512, at))
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", target,
                    str(size)], check=True)
    with qemu_nbd(room, target, "qcow2") as nbd:
        c = Copier(room, source, nbd.uri, size, plan="allocated",
                   target_zeroed="yes")
        c.run("done")
        end = Verifier(c).run("done").end
    assert end["total"] == size
    assert 0 < end["read"] <= MiB
    assert end["verified"] + end["skipped_zero"] == size
    # holes stay holes of the map
    assert os.stat(c.map).st_blocks * 512 < MiB


@pytest.mark.parametrize("how", ["no status", "broken status"])
def test_target_that_does_not_tell_its_zeroes(room, how):
    size = 4 * MiB
    target = blank(room / "target", size)
    content = bytes(2 * MiB) + world.noise(2 * MiB, 1)
    more = {"no status": ["--filter=noextents", "file", target],
            "broken status": ["--filter=error", "file", target,
                              "error-extents=EIO", "error-extents-rate=1"]}
    with nbdkit(room, *more[how]) as nbd:
        c = copied(room, nbd, size, content)
        r = Verifier(c).run("done")
        assert r.end["verified"] == r.end["read"] == size
        put(target, MiB, b"x")
        assert differing(Verifier(c, again="yes").run("differs")) == [
            (MiB, BLOCK)]


def test_smallest_and_largest_request_of_the_target(room):
    size = 4 * MiB + 512
    target = blank(room / "target", 4 * MiB + 4096)
    with nbdkit(room, "--filter=blocksize-policy", "file", target,
                "blocksize-minimum=4096", "blocksize-maximum=200K",
                "blocksize-preferred=4096",
                "blocksize-error-policy=error") as nbd:
        c = copied(room, nbd, size, bytes(MiB) + world.noise(size - MiB, 1))
        Verifier(c).run("done")
        flip(target, size - 1)
        r = Verifier(c, again="yes").run("differs")
        assert differing(r) == [(4 * MiB, 512)]


# a part of it ------------------------------------------------------------------------

def verified(c):
    return {b for b, f in flags(c).items() if f & VERIFIED}


def test_sample(room):
    """So many of each hundred, the ends always; one seed, one sample."""
    size = 500 * BLOCK + 512
    target = blank(room / "target", size)
    with qemu_nbd(room, target) as nbd:
        c = copied(room, nbd, size)
        raw = c.map.read_bytes()
        samples = []
        for seed in (7, 7, 8):
            c.map.write_bytes(raw)
            r = Verifier(c, sample=5, seed=seed).run("done")
            assert r.of("open")[0]["seed"] == seed
            assert r.of("open")[0]["sample"] == 5
            samples.append(verified(c))
        assert samples[0] == samples[1] != samples[2]
        for sample in samples:
            assert {0, 500} <= sample
            for first in range(0, 500, 100):
                part = sample & set(range(first, first + 100))
                assert len(part - {0}) in (4, 5)
        # what nobody chose is chosen anew each time, and added up
        seeds = {Verifier(c, sample=1).run("done").of("open")[0]["seed"]
                 for _ in range(3)}
        assert len(seeds) == 3
        assert samples[2] < verified(c)
        # a difference outside of the sample stays unseen, one within does not
        c.map.write_bytes(raw)
        flip(target, BLOCK * min(set(range(500)) - samples[0]))
        Verifier(c, sample=5, seed=7).run("done")
        flip(target, BLOCK * max(samples[0] - {500}))
        Verifier(c, sample=5, seed=7, again="yes").run("differs")


def test_only_the_areas_given(room):
    size = 8 * MiB
    target = blank(room / "target", size)
    with qemu_nbd(room, target) as nbd:
        c = copied(room, nbd, size)
        flip(target, 0)
        flip(target, 7 * MiB)
        v = Verifier(c, plan="list")
        v.extents = [(MiB + 5, 1), (7 * MiB, BLOCK)]
        r = v.run("differs")
    assert r.end["total"] == 2 * BLOCK
    assert differing(r) == [(7 * MiB, BLOCK)]


def test_what_was_verified_is_known_until_it_is_written(room):
    size = 8 * MiB
    target = blank(room / "target", size)
    with qemu_nbd(room, target) as nbd:
        c = copied(room, nbd, size)
        Verifier(c).run("done")
        r = Verifier(c).run("done")
        assert (r.end["total"], r.end["known"]) == (0, size)
        assert Verifier(c, again="yes").run("done").end["read"] == size
        put(room / "source", 3 * MiB, world.noise(BLOCK, 9))
        c.set(plan="list", plan_id="next")
        c.extents = [(3 * MiB, BLOCK), (5 * MiB, BLOCK)]
        c.run("done")
        assert verified(c) == set(range(128)) - {48, 80}
        end = Verifier(c).run("done").end
    assert end["read"] == 2 * BLOCK
    assert verified(c) == set(range(128))


def test_blocks_that_a_round_owes(room):
    """Dirty, never copied, on a torn page: counted, not verified."""
    size = 1000 * BLOCK
    target = blank(room / "target", size)
    with qemu_nbd(room, target) as nbd:
        c = copied(room, nbd, size, plan="list")
        assert Verifier(c).run("done").end["unproven"] == size
        c.extents = [(0, 900 * BLOCK)]
        c.set(plan_id="second")
        c.run("done")
        raw = bytearray(c.map.read_bytes())
        raw[world.PAGES_AT + 1000] ^= 1
        c.map.write_bytes(raw)
        r = Verifier(c).run("done")
    assert r.end["torn"] == world.PAGE_BLOCKS * BLOCK
    assert r.end["unproven"] == r.end["torn"] + 100 * BLOCK
    assert r.end["verified"] == size - r.end["unproven"]
    assert "not verified" in r.of("warn")[0]["text"]


def test_dirty_blocks_stay_dirty(room):
    size = 16 * MiB
    target = blank(room / "target", size)
    with qemu_nbd(room, target) as nbd:
        c = copied(room, nbd, size)
        c.set(plan="list", plan_id="second", rate=8 * MiB)
        c.extents = [(MiB, 14 * MiB)]
        c.killed_before_a_checkpoint()
        assert Verifier(c).run("done").end["unproven"] == 14 * MiB
        assert sum(f & DIRTY > 0 for f in flags(c).values()) == 14 * 16
        c.set(rate=None)
        c.run("done")
    assert same(room / "source", target) is True


# against the source -----------------------------------------------------------------

def with_source(c, **keys):
    return Verifier(c, source_kind="file",
                    source_file=c.keys["source.file"], **keys)


def test_source_and_target(room):
    size = 8 * MiB + 512
    target = blank(room / "target", size)
    with qemu_nbd(room, target) as nbd:
        source = make_disk(room / "source", size)
        put(source, 2 * MiB, bytes(BLOCK))
        put(source, 4 * MiB, world.noise(MiB, 4))
        c = Copier(room, source, nbd.uri, size, plan="allocated",
                   target_zeroed="yes")
        c.run("done")
        r = with_source(c).run("done")
        assert r.end["verified"] + r.end["skipped_zero"] == size
        assert r.of("open")[0]["source"] is True
        # a change that nobody reported: in zeroes, and in data
        put(source, 2 * MiB + 5, b"x")
        put(source, 4 * MiB + BLOCK, b"changed")
        flip(target, 4 * MiB + 3 * BLOCK)
        Verifier(c, again="yes", plan="list").run("done")
        r = with_source(c, again="yes").run("differs")
        assert differing(r, "source") == [(2 * MiB, BLOCK),
                                          (4 * MiB + BLOCK, BLOCK)]
        assert differing(r) == [(4 * MiB + 3 * BLOCK, BLOCK)]
        c.set(plan="list", plan_id="next")
        c.run("done")
        with_source(c).run("done")
    assert same(source, target) is True


def test_source_of_another_size(room):
    size = MiB
    target = blank(room / "target", size)
    with qemu_nbd(room, target) as nbd:
        c = copied(room, nbd, size)
        blank(room / "source", 2 * size)
        assert with_source(c).run("failed").end["class"] == "damaged"


def test_source_that_fails_for_a_while(room):
    size = 8 * MiB
    target = blank(room / "target", size)
    with qemu_nbd(room, target) as nbd:
        c = copied(room, nbd, size)
        with nbdkit(room, "--filter=error", "file", room / "source",
                    "error-pread=EIO", "error-pread-rate=1") as src:
            end = Verifier(c, source_kind="nbd",
                           source_uri=src.uri).run("failed").end
    assert end["error"].startswith("reading the source at ")
    assert end["different"] == 0 and not any(
        f & DIRTY for f in flags(c).values())


def test_lost_source_comes_back(room):
    size = 16 * MiB
    target = blank(room / "target", size)
    with qemu_nbd(room, target) as nbd:
        c = copied(room, nbd, size)
        src = nbdkit(room, "file", room / "source")
        v = Verifier(c, source_kind="nbd", source_uri=src.uri, rate=4 * MiB,
                     request=BLOCK)
        p = v.start()
        v.wait_for(p, lambda e: e.get("read", 0) >= 64 * BLOCK)
        src.stop(signal.SIGKILL)
        v.wait_for(p, lambda e: "connecting again" in e.get("text", ""))
        src = src.again()
        v.wait_for(p, lambda e: e["event"] == "reconnected")
        end = v.finish(p).check("done").end
        src.stop()
    assert end["verified"] + end["skipped_zero"] == size


def test_limit_is_no_target_that_does_not_answer(room):
    """Asked for zeroes just before a limit is reached that holds longer than
    an answer may take."""
    size = 20 * BLOCK
    source, target = blank(room / "source", size), blank(room / "target", size)
    put(source, 0, world.noise(7 * BLOCK, 3))
    with nbdkit(room, "--filter=delay", "file", target,
                "delay-extents=1") as nbd:
        c = Copier(room, source, nbd.uri, size)
        c.run("done")
        end = Verifier(c, rate=BLOCK, timeout=4).run("done").end
    assert end["verified"] + end["skipped_zero"] == size


def test_source_that_hangs_before_it_is_read(room):
    size = MiB
    target = blank(room / "target", size)
    with qemu_nbd(room, target) as nbd:
        c = copied(room, nbd, size)
        with nbdkit(room, "--filter=delay", "file", room / "source",
                    "delay-extents=60") as src:
            end = Verifier(c, source_kind="nbd", source_uri=src.uri,
                           timeout=1).run("failed").end
            src.proc.kill()
    assert end["class"] == "net"
    assert end["error"].startswith("asking what is allocated: no answer for 1")


def test_limit_is_obeyed(room):
    size = 16 * MiB
    target = blank(room / "target", size)
    limit = world.limit(room / "disk.rate", 64 << 10)  # four minutes
    with qemu_nbd(room, target) as nbd:
        v = Verifier(copied(room, nbd, size), limit_disk=limit)
        p = v.start()
        began = v.wait_for(p, lambda e: e["event"] == "progress" and e["read"])
        world.change_limit(limit, 0)
        end = v.finish(p).check("done").end
    assert began["read"] < size
    assert end["verified"] == size


# crashes and errors -------------------------------------------------------------------

def test_killed_and_resumed(room):
    size = 24 * MiB
    rng = random.Random(1)
    target = blank(room / "target", size)
    with qemu_nbd(room, target) as nbd:
        c = copied(room, nbd, size)
        bad = [0, 100 * BLOCK, size - BLOCK]
        for at in bad:
            flip(target, at)
        v = Verifier(c, rate=4 * MiB)
        read = kills = 0
        while v.killed_after(rng.uniform(2.2, 3)):
            kills += 1
            now = verified(c)
            assert len(now) >= read
            read = len(now)
        assert kills and read
        found = flags(c)
    assert {b * BLOCK for b, f in found.items() if f == DIRTY} == set(bad)
    assert len(verified(c)) == size // BLOCK - len(bad)


def test_difference_is_marked_at_once(room):
    """A kill after it was counted does not lose it."""
    size = 24 * MiB
    target = blank(room / "target", size)
    with qemu_nbd(room, target) as nbd:
        c = copied(room, nbd, size)
        flip(target, 5)
        v = Verifier(c, rate=4 * MiB)
        p = v.start()
        v.wait_for(p, lambda e: e.get("different", 0) > 0)
        p.kill()
        p.communicate()
        assert flags(c)[0] == DIRTY


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop(room, sig):
    size = 16 * MiB
    target = blank(room / "target", size)
    with qemu_nbd(room, target) as nbd:
        c = copied(room, nbd, size)
        v = Verifier(c, rate=4 * MiB)
        p = v.start()
        v.wait_for(p, lambda e: e["event"] == "progress" and e["read"])
        p.send_signal(sig)
        end = v.finish(p).check("stopped").end
        assert 0 < end["verified"] < size
        assert len(verified(c)) * BLOCK == end["verified"]
        v.set(rate=None)
        r = v.run("done")
    assert r.of("open")[0]["todo"] == size - end["verified"]


def test_target_that_cannot_be_read(room):
    """That is no difference, and no proof."""
    size = 8 * MiB
    target = blank(room / "target", size)
    trigger = room / "trigger"
    with nbdkit(room, "--filter=error", "file", target, "error-pread=EIO",
                "error-pread-rate=1", f"error-pread-file={trigger}") as nbd:
        c = copied(room, nbd, size)
        trigger.touch()
        end = Verifier(c).run("failed").end
        assert end["class"] == "io"
        assert end["error"].startswith("reading the target at ")
        assert not verified(c)
        assert set(flags(c).values()) == {COPIED}
        trigger.unlink()
        Verifier(c).run("done")


def test_lost_connection(room):
    size = 16 * MiB
    target = blank(room / "target", size)
    with qemu_nbd(room, target) as nbd:
        c = copied(room, nbd, size)
        v = Verifier(c, rate=4 * MiB)
        p = v.start()
        v.wait_for(p, lambda e: e["event"] == "progress" and e["verified"])
        nbd.stop(signal.SIGKILL)
        assert v.finish(p).check("failed").end["class"] == "net"
    known = verified(c)
    assert known
    with qemu_nbd(room, target) as nbd:
        r = Verifier(c, target_uri=nbd.uri).run("done")
    assert r.of("open")[0]["known"] == len(known) * BLOCK


def test_target_that_does_not_answer(room):
    size = 8 * MiB
    target = blank(room / "target", size)
    with qemu_nbd(room, target) as nbd:
        c = copied(room, nbd, size)
        v = Verifier(c, rate=2 * MiB, timeout=1)
        p = v.start()
        v.wait_for(p, lambda e: e["event"] == "open")
        nbd.proc.send_signal(signal.SIGSTOP)
        end = v.finish(p).check("failed").end
        nbd.proc.send_signal(signal.SIGCONT)
        assert end["class"] == "net"
        v.set(rate=None)
        v.run("done")


def test_copier_at_work_is_left_alone(room):
    size = 16 * MiB
    source = make_disk(room / "source", size)
    target = blank(room / "target", size)
    with qemu_nbd(room, target, "raw", "--shared=4") as nbd:
        c = Copier(room, source, nbd.uri, size, rate=4 * MiB)
        p = c.start()
        c.wait_for(p, lambda e: e["event"] == "open")
        assert Verifier(c).run("failed").end["class"] == "busy"
        p.send_signal(signal.SIGTERM)
        c.finish(p).check("stopped")


def test_no_map(room):
    target = blank(room / "target", MiB)
    with qemu_nbd(room, target) as nbd:
        c = Copier(room, room / "source", nbd.uri, MiB)
        assert Verifier(c).run("failed").end["class"] == "notfound"
    assert not c.map.exists()


@pytest.mark.parametrize("key", ["disk.id", "target.id", "disk.size"])
def test_map_of_another_disk(room, key):
    size = MiB
    target = blank(room / "target", 2 * size)
    with qemu_nbd(room, target) as nbd:
        v = Verifier(copied(room, nbd, size))
        v.keys[key] = size // 2 if key == "disk.size" else "other"
        assert v.run("failed").end["class"] == "damaged"


def test_target_that_is_too_small(room):
    target = blank(room / "target", MiB)
    with qemu_nbd(room, target) as nbd:
        c = copied(room, nbd, MiB)
    small = blank(room / "small", MiB // 2)
    with qemu_nbd(room, small) as nbd:
        r = Verifier(c, target_uri=nbd.uri).run("failed")
    assert r.end["class"] == "damaged"


# requests --------------------------------------------------------------------------------

BAD = {
    "key of copy": {"plan.id": "base"},
    "target.zeroed": {"target.zeroed": "no"},
    "uncopied": {"plan": "list", "uncopied": "yes"},
    "plan of copy": {"plan": "compare"},
    "sample of nothing": {"sample": 0},
    "sample of more": {"sample": 101},
    "seed": {"seed": 1 << 63},
    "again": {"again": "maybe"},
    "source without its kind": {"source.file": "/dev/null"},
    "source of another kind": {"source.kind": "file", "source.file": "x",
                               "source.vm": "vm-1"},
    "half a source": {"source.kind": "file"},
    "no target": {"target.uri": None},
}


@pytest.mark.parametrize("name", BAD)
def test_bad_request(room, name):
    v = Verifier(Copier(room, room / "source", "nbd://x", MiB))
    v.keys.update(BAD[name])
    r = v.run("failed")
    assert r.code == 2 and r.end["class"] == "user"
    assert not list(room.iterdir())


@pytest.mark.parametrize("key", ["sample 5", "seed 1", "again yes"])
def test_keys_of_verify_are_not_for_copy(room, key):
    text = Copier(room, room / "source", "nbd://x", MiB).text()
    p = subprocess.run([world.program(), "copy"], text=True,
                       input=text.replace("end\n", key + "\nend\n"),
                       capture_output=True, timeout=world.PATIENCE)
    assert p.returncode == 2 and "does not go with copy" in p.stdout
