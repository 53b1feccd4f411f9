"""kill -9 at a random moment of any process of ours, again and again, each
time followed by the same command: the target equals the truth."""
import os
import random
import signal
import time

import pytest

from engine import PATIENCE_S, wait_for
from worlds import vm, world

KILLS = 20
SEED = int(os.environ.get("V2C_SEED", random.randrange(1 << 30)))


def victims(engine):
    """Ours and those we start; qemu-nbd is one of them."""
    return sorted(engine.processes().items())


def kill_one(engine, rng):
    """Kills a random one; tells which, or None when there is none."""
    found = victims(engine)
    if not found:
        return None
    pid, name = rng.choice(found)
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return None
    return name


def test_twenty_kills(start_engine, record_property):
    rng = random.Random(SEED)
    record_property("seed", SEED)
    engine = start_engine(world(vm(), link_mbps=8))
    spec = engine.spec("vm1")
    killed = []
    child = engine.start("--spec", spec)
    while len(killed) < KILLS:
        if child.poll() is not None:
            child = engine.start("--spec", spec)
        # a moment at random is what this test is about
        time.sleep(rng.uniform(0.05, 1.2))
        if len(killed) == KILLS // 2:
            engine.lab.ctl("link", mbps=0)
        name = kill_one(engine, rng)
        if name:
            killed.append(name)
    if child.poll() is not None:
        child = engine.start("--spec", spec)
    wait_for("rounds", lambda: engine.rounds("vm1") >= 1 or
             child.poll() is not None)
    if child.poll() is not None:
        child = engine.start("--spec", spec)
    engine.finalize("--spec", spec)
    if child.wait(PATIENCE_S):
        # the last kill was one more than a run takes: the same command again
        engine.wait(engine.start("--spec", spec))
    print(f"seed {SEED}, killed {killed}")
    engine.compare("vm1")
    engine.assert_source_clean("vm1")


@pytest.mark.parametrize("stage", [
    "enabling_cbt", "creating_base_snapshot", "base_copy", "delta",
    "shutting_down", "final_sync", "verifying", "import_root_disk"])
def test_worker_killed_in(start_engine, stage):
    """The worker dies as soon as its record says it is there."""
    engine = start_engine(world(vm(), link_mbps=40))
    spec = engine.spec("vm1", finalize_at="2026-01-01T00:00:00Z")
    child = engine.start("--spec", spec)
    wait_for(stage, lambda: engine.stage("vm1") == stage or
             child.poll() is not None)
    if child.poll() is None:
        pid = int((engine.dir("vm1") / "lock").read_text().split()[1])
        os.kill(pid, signal.SIGKILL)
    engine.wait(child)
    engine.compare("vm1")
    engine.assert_source_clean("vm1")


def test_killed_between_enabling_tracking_and_its_beginning(start_engine):
    """The VM says that it is tracked, and has no changeId."""
    engine = start_engine(world(vm()))
    engine.lab.ctl("fault", method="CreateSnapshot_Task", nth=1, count=1,
                   fault="drop", delay_ms=3000)
    spec = engine.spec("vm1")
    child = engine.start("--spec", spec)
    wait_for("the flag", lambda: engine.lab.state("vm1")["cbt"])
    pid = int((engine.dir("vm1") / "lock").read_text().split()[1])
    os.kill(pid, signal.SIGKILL)
    assert not engine.lab.state("vm1")["cbt_active"]
    wait_for("a round", lambda: engine.rounds("vm1") >= 1 or
             engine.gone(child))
    engine.finalize("--spec", spec)
    engine.wait(child)
    engine.compare("vm1")
    assert "no changeId" in engine.log("vm1")
