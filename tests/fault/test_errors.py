"""What the source and the target answer when they are not well."""
import json
import os
import signal
import subprocess

import pytest

from engine import wait_for
from worlds import MIB, vm, world

SLOW = {"disks": [{"size": 64 * MIB, "content": "random"}]}
# a link which leaves time for something to happen in the base copy
LINK = {"link_mbps": 16}


def events(engine, name):
    lines = (engine.dir("vm1") / "events.jsonl").read_text().splitlines()
    return [e for e in map(json.loads, lines) if e["event"] == name]


def start(engine, patience=60, **migration):
    spec = engine.spec("vm1", copier_timeout=patience, **migration)
    return spec, engine.start("--spec", spec)


def half_a_copy(engine):
    wait_for("half a copy", lambda: 20 < engine.progress("vm1") < 80)


def finish(engine, spec, child):
    engine.lab.ctl("link", mbps=0)
    wait_for("a round", lambda: engine.rounds("vm1") >= 1 or
             engine.gone(child))
    engine.finalize("--spec", spec)
    engine.wait(child)
    engine.compare("vm1")
    engine.assert_source_clean("vm1")


# the source -------------------------------------------------------------------

def test_connections_lost_at_random(start_engine):
    engine = start_engine(world(vm()))
    for code in (14011, 36, 16054):
        engine.lab.ctl("vddk", op="callback", code=code, every=97)
    spec, child = start(engine)
    wait_for("a lost connection", lambda: engine.stage("vm1") and
             events(engine, "reconnected"))
    finish(engine, spec, child)
    assert "continuing from the map" not in engine.log("vm1")


def test_host_in_maintenance(start_engine):
    """It refuses for some seconds, then the same copier goes on."""
    engine = start_engine(world(vm(**SLOW), **LINK))
    spec, child = start(engine)
    half_a_copy(engine)
    engine.lab.ctl("vddk", op="open", code=14015, count=2)
    engine.lab.ctl("link", cut=True)
    wait_for("the host's return", lambda: events(engine, "reconnected"))
    finish(engine, spec, child)
    assert "VDDK error 14015" in engine.log("vm1")
    assert "continuing from the map" not in engine.log("vm1")


@pytest.mark.parametrize("op,said", [
    ("hang", "no answer from the source for 3 s"),
    ("hang-connect", "connecting to the source: no answer for 3 s"),
    ("hang-open", "opening the source: no answer for 3 s"),
    ("hang-query", "asking what is allocated: no answer for 3 s")])
def test_call_that_never_returns(start_engine, op, said):
    engine = start_engine(world(vm(**SLOW)))
    engine.lab.ctl("vddk", op=op, count=1)
    spec, child = start(engine, patience=3)
    finish(engine, spec, child)
    assert said in engine.log("vm1")
    assert "continuing from the map" in engine.log("vm1")


def test_copier_that_says_nothing(start_engine):
    """It is stopped as a whole: its own watchdog with it."""
    engine = start_engine(world(vm(**SLOW), **LINK))
    spec, child = start(engine)
    half_a_copy(engine)
    for pid, name in engine.processes().items():
        if name == "v2c-copy":
            os.kill(pid, signal.SIGSTOP)
    wait_for("the end of patience", lambda: "hangs; killing it" in
             engine.log("vm1"))
    finish(engine, spec, child)


def test_session_that_expired(start_engine):
    engine = start_engine(world(vm(**SLOW), **LINK))
    spec, child = start(engine)
    half_a_copy(engine)
    engine.lab.ctl("vddk", op="callback", code=3047, count=1)
    wait_for("another login", lambda: events(engine, "reconnected"))
    finish(engine, spec, child)


@pytest.mark.parametrize("code", [4, 2000, 13005])
def test_disk_that_moved(start_engine, code):
    """The VM's configuration is read again."""
    engine = start_engine(world(vm(**SLOW)))
    engine.lab.ctl("vddk", op="open", code=code, count=1)
    spec, child = start(engine)
    finish(engine, spec, child)
    assert "reading the VM's configuration again" in engine.log("vm1")


@pytest.mark.parametrize("code,hint", [
    (30201, "check the thumbprint against the server's certificate"),
    (1, "check thumbprint, user, password"),
    (16064, "the licence does not allow it")])
def test_what_does_not_pass_is_not_tried_again(start_engine, code, hint):
    engine = start_engine(world(vm(**SLOW)))
    engine.lab.ctl("vddk", op="open", code=code)
    got = engine.run("--spec", engine.spec("vm1"))
    assert got.returncode == 1
    assert hint in got.stderr
    assert "again" not in engine.log("vm1")
    engine.assert_source_clean("vm1")


# the target -------------------------------------------------------------------

class SmallDisk:
    """A file system that is soon full."""

    def __init__(self, path, size):
        self.path = path
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none",
                        path], check=True)

    def grow(self, size):
        subprocess.run(["mount", "-o", f"remount,size={size}", self.path],
                       check=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        subprocess.run(["umount", "-l", self.path], check=True)


def paused(engine):
    return [d["paused"] for d in engine.record("vm1")["disks"].values()
            if d.get("paused")]


needs_root = pytest.mark.skipif(os.getuid() != 0, reason="mounting needs root")


@needs_root
@pytest.mark.parametrize("fmt", ["qcow2", "raw"])
def test_full_target_is_waited_for(start_engine, fmt):
    engine = start_engine(world(vm(**SLOW), **LINK))
    with SmallDisk(engine.replicas, 24 * MIB) as small:
        spec = engine.spec("vm1", copier_timeout=3, local={"format": fmt})
        child = engine.start("--spec", spec)
        wait_for("the pause", lambda: engine.stage("vm1") and paused(engine))
        status = subprocess.run(engine.command("status", "--spec", spec),
                                text=True, capture_output=True).stdout
        assert "paused: the target is full" in status
        assert engine.stage("vm1") == "base_copy"
        engine.lab.ctl("link", mbps=8)
        small.grow(256 * MIB)
        wait_for("the end of it", lambda: not paused(engine))
        assert engine.progress("vm1") > 0, "only once all was done"
        finish(engine, spec, child)
        assert len(events(engine, "paused")) == 1
        assert len(events(engine, "resumed")) == 1
        assert "continuing from the map" not in engine.log("vm1")


@needs_root
def test_target_that_is_full_in_the_last_round(start_engine):
    """It waits as well, and says for how long the source has been down."""
    engine = start_engine(world(vm(
        disks=[{"size": 32 * MIB, "content": "sparse"}],
        guest={"writes_per_s": 0})))
    with SmallDisk(engine.replicas, 256 * MIB) as small:
        spec, child = start(engine, delta_interval=3600)
        wait_for("the base", lambda: engine.stage("vm1") == "delta")
        engine.lab.ctl("write", vm="vm1", disk=2000, offset=0,
                       length=32 * MIB, seed=9)
        used = sum(f.stat().st_blocks for f in engine.replicas.iterdir())
        small.grow(used * 512 + 2 * MIB)
        (engine.dir("vm1") / "FINALIZE_NOW").touch()
        wait_for("the pause", lambda: paused(engine))
        wait_for("its line", lambda: "the source has been down for" in
                 engine.log("vm1"))
        assert engine.stage("vm1") == "final_sync"
        small.grow(256 * MIB)
        engine.wait(child)
        engine.compare("vm1")
    assert len(events(engine, "paused")) == 1


@needs_root
def test_copier_that_found_no_room_is_started_again(start_engine):
    """Here for its map: it cannot go on by itself."""
    engine = start_engine(world(vm(**SLOW), link_mbps=6))
    spec, child = start(engine)
    wait_for("a part", lambda: 10 < engine.progress("vm1") < 40)
    child.send_signal(signal.SIGTERM)
    engine.wait(child, 130)
    small = engine.folder / "small"
    small.mkdir()
    with SmallDisk(small, 32768):
        block_map = next(engine.dir("vm1").glob("*.map"))
        (small / "map").write_bytes(block_map.read_bytes())
        block_map.unlink()
        block_map.symlink_to(small / "map")
        filler = (small / "filler").open("wb", buffering=0)
        try:
            while filler.write(bytes(4096)):
                pass
        except OSError:
            filler.close()
        child = engine.start("--spec", spec)
        wait_for("the pause", lambda: paused(engine))
        assert any("No space left" in text for text in paused(engine))
        # what is told anew is a pause after something went on, no try
        wait_for("more tries", lambda: engine.log("vm1").count(
            "trying again in 20 s") >= 3)
        (small / "filler").unlink()
        finish(engine, spec, child)
        assert len(events(engine, "paused")) == \
            len(events(engine, "resumed")) < 3


@needs_root
def test_stop_while_the_target_is_full(start_engine):
    engine = start_engine(world(vm(**SLOW)))
    with SmallDisk(engine.replicas, 24 * MIB) as small:
        spec, child = start(engine)
        wait_for("the pause", lambda: engine.stage("vm1") and paused(engine))
        child.send_signal(signal.SIGTERM)
        engine.wait(child, 130)
        assert not paused(engine)
        engine.assert_source_clean("vm1")
        small.grow(256 * MIB)
        finish(engine, spec, engine.start("--spec", spec))


@pytest.mark.parametrize("fmt", ["qcow2", "raw"])
def test_zeroes_as_data(start_engine, fmt):
    """Nothing of the new replica is trusted: each byte is written."""
    engine = start_engine(world(vm(disks=[{"size": 8 * MIB}],
                                   guest={"writes_per_s": 0})))
    spec = engine.spec("vm1", local={"format": fmt, "zeroes": "write"})
    finish(engine, spec, engine.start("--spec", spec))
    replica = next(engine.replicas.glob(f"*.{fmt}"))
    assert replica.stat().st_blocks * 512 >= 8 * MIB
