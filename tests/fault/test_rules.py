"""The rules of HACKING.md, each under what would break it."""
import os
import pathlib
import signal
import subprocess

import pytest

from engine import wait_for
from worlds import MIB, vm, world

# one disk that takes a while through a slow link
SLOW = {"disks": [{"size": 64 * MIB, "content": "random"}]}


def kill_all(engine, child):
    """Everything of ours at once, as when the power goes."""
    # those below first: who sees the one above die ends well
    while pids := [p for p in engine.processes() if p != child.pid]:
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
    child.kill()
    child.wait()


def finish(engine, spec):
    child = engine.start("--spec", spec)
    wait_for("a round", lambda: engine.rounds("vm1") >= 1 or
             child.poll() is not None)
    engine.finalize("--spec", spec)
    engine.wait(child)
    engine.compare("vm1")
    engine.assert_source_clean("vm1")


def test_last_round_has_a_snapshot_of_its_own(start_engine):
    """A delta that was cut off must not become the last round."""
    engine = start_engine(world(vm()))
    spec = engine.spec("vm1")
    child = engine.start("--spec", spec)
    wait_for("a round", lambda: engine.rounds("vm1") >= 1)
    engine.lab.ctl("link", mbps=1)
    before = engine.record("vm1")["active_snapshot"]
    wait_for("a round under way", lambda: engine.record("vm1")[
        "active_snapshot"] not in ("", before))
    kill_all(engine, child)
    assert engine.lab.state("vm1")["snapshots"]
    # the guest writes on; then somebody shuts it down
    written = engine.lab.state("vm1")["guest"]["writes"]
    wait_for("more writes", lambda: engine.lab.state("vm1")["guest"][
        "writes"] > written + 20)
    engine.lab.ctl("power", vm="vm1", state="off")
    engine.lab.ctl("link", mbps=0)
    (engine.dir("vm1") / "FINALIZE_NOW").touch()
    engine.wait(engine.start("--spec", spec))
    engine.compare("vm1")
    engine.assert_source_clean("vm1")


def test_vm_that_ran_again_between_two_runs(start_engine):
    """What a guest wrote after the last round began is not lost."""
    engine = start_engine(world(vm()))
    spec = engine.spec("vm1", finalize_at="2026-01-01T00:00:00Z")
    child = engine.start("--spec", spec)
    wait_for("the source down", lambda: engine.stage("vm1") == "final_sync" or
             child.poll() is not None)
    kill_all(engine, child)
    if engine.stage("vm1") == "done":
        pytest.skip("it was done before it could be killed")
    engine.lab.ctl("power", vm="vm1", state="on")
    written = engine.lab.state("vm1")["guest"]["writes"]
    wait_for("more writes", lambda: engine.lab.state("vm1")["guest"][
        "writes"] > written + 20)
    engine.lab.ctl("power", vm="vm1", state="off")
    engine.wait(engine.start("--spec", spec))
    engine.compare("vm1")
    engine.assert_source_clean("vm1")


def test_power_cut_in_the_base_copy(start_engine):
    engine = start_engine(world(vm(**SLOW), link_mbps=16))
    spec = engine.spec("vm1")
    child = engine.start("--spec", spec)
    wait_for("half a copy", lambda: 20 < engine.progress("vm1") < 80)
    kill_all(engine, child)
    engine.lab.ctl("link", mbps=0)
    finish(engine, spec)
    assert "resumed" in engine.log("vm1")


def test_base_snapshot_that_vanished(start_engine):
    """The base copy goes on with another snapshot, and misses nothing that
    changed in between."""
    engine = start_engine(world(vm(**SLOW), link_mbps=16))
    spec = engine.spec("vm1")
    child = engine.start("--spec", spec)
    wait_for("half a copy", lambda: 20 < engine.progress("vm1") < 80)
    child.send_signal(signal.SIGTERM)
    engine.wait(child, 130)
    engine.assert_source_clean("vm1")
    # right over what is on the target already, and zeroes too
    for block in range(0, 64, 2):
        engine.lab.ctl("write", vm="vm1", disk=2000, offset=block * MIB,
                       length=512, seed=block + 1)
        engine.lab.ctl("write", vm="vm1", disk=2000,
                       offset=block * MIB + 65536, length=65536, zero=True)
    engine.lab.ctl("guest", vm="vm1", paused=True)
    engine.lab.ctl("link", mbps=0)
    finish(engine, spec)


def test_map_that_was_lost(start_engine):
    engine = start_engine(world(vm()))
    spec = engine.spec("vm1")
    child = engine.start("--spec", spec)
    wait_for("a round", lambda: engine.rounds("vm1") >= 1)
    child.send_signal(signal.SIGTERM)
    engine.wait(child, 130)
    for path in engine.dir("vm1").glob("*.map"):
        path.unlink()
    finish(engine, spec)
    assert "from the beginning" in engine.log("vm1")


def test_replica_that_was_replaced(start_engine):
    engine = start_engine(world(vm()))
    spec = engine.spec("vm1")
    child = engine.start("--spec", spec)
    wait_for("a round", lambda: engine.rounds("vm1") >= 1)
    child.send_signal(signal.SIGTERM)
    engine.wait(child, 130)
    for disk in engine.record("vm1")["disks"].values():
        path = pathlib.Path(disk["target_qcow2"])
        path.rename(path.with_suffix(".kept"))
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path,
                        str(disk["capacity"])], check=True)
    finish(engine, spec)
    assert "not the one that was copied to" in engine.log("vm1")


@pytest.mark.parametrize("fault", [
    {"op": "read", "nth": 5, "count": 3, "code": 14011},
    {"op": "callback", "nth": 7, "count": 2, "code": 2},
    {"op": "open", "nth": 1, "count": 2, "code": 14009},
    {"op": "crash", "nth": 6, "count": 1},
    {"op": "query", "nth": 1, "count": 1, "code": 3},
], ids=lambda f: f"{f['op']}-{f.get('code', '')}")
def test_disk_service_that_fails(start_engine, fault):
    engine = start_engine(world(vm()))
    engine.lab.ctl("vddk", **fault)
    finish(engine, engine.spec("vm1"))


def test_disk_service_cut_off(start_engine):
    engine = start_engine(world(vm(**SLOW), link_mbps=16))
    spec = engine.spec("vm1")
    child = engine.start("--spec", spec)
    wait_for("half a copy", lambda: 20 < engine.progress("vm1") < 80)
    engine.lab.ctl("link", cut=True)
    engine.lab.ctl("link", mbps=0)
    wait_for("the rest", lambda: engine.rounds("vm1") >= 1 or
             engine.gone(child))
    engine.finalize("--spec", spec)
    engine.wait(child)
    engine.compare("vm1")


@pytest.mark.parametrize("method, fault", [
    ("CreateSnapshot_Task", {"fault": "lose"}),
    ("CreateSnapshot_Task", {"fault": "drop"}),
    # the second one: the first only starts tracking, and is not quiesced
    ("CreateSnapshot_Task", {"fault": "FilesystemQuiesceFault",
                             "in_task": True, "nth": 2}),
    ("CreateSnapshot_Task", {"fault": "TaskInProgress"}),
    ("RemoveSnapshot_Task", {"fault": "lose"}),
    ("RemoveSnapshot_Task", {"fault": "FileLocked", "in_task": True,
                             "nth": 2}),
    ("QueryChangedDiskAreas", {"fault": "cbt:zero-length"}),
    ("QueryChangedDiskAreas", {"fault": "cbt:unsorted"}),
    ("QueryChangedDiskAreas", {"fault": "FileFault",
                               "message_key":
                               "vim.hostd.vmsvc.cbt.cannotGetChanges"}),
    ("ShutdownGuest", {"fault": "ToolsUnavailable"}),
], ids=lambda v: v if isinstance(v, str) else v["fault"])
def test_vcenter_that_fails(start_engine, method, fault):
    engine = start_engine(world(vm()))
    engine.lab.ctl("fault", method=method, count=1, **{"nth": 1, **fault})
    spec = engine.spec("vm1")
    child = engine.start("--spec", spec)
    wait_for("two rounds", lambda: engine.rounds("vm1") >= 2 or
             engine.gone(child))
    engine.finalize("--spec", spec)
    if method == "ShutdownGuest":
        wait_for("the question",
                 lambda: engine.stage("vm1") == "awaiting_shutdown_action")
        engine.lab.ctl("power", vm="vm1", state="off")
    engine.wait(child)
    engine.compare("vm1")
    engine.assert_source_clean("vm1")


def test_nothing_secret_is_shown(start_engine):
    """Neither in the arguments of a process nor in anything written."""
    engine = start_engine(world(vm(**SLOW), link_mbps=16))
    spec = engine.spec("vm1")
    child = engine.start("--spec", spec)
    wait_for("a copier", lambda: "v2c-copy" in engine.processes().values())
    secret = engine.vcenter["password"].encode()
    for pid in engine.processes():
        try:
            words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
            names = pathlib.Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue
        assert secret not in words and secret not in names
    child.send_signal(signal.SIGTERM)
    engine.wait(child, 130)
    for path in engine.control.rglob("*"):
        if path.is_file():
            assert secret not in path.read_bytes(), path


def test_change_that_tracking_missed(start_engine):
    """What is read through between two areas is held against the map."""
    engine = start_engine(world(vm(
        disks=[{"size": 8 * MIB, "content": "random"}],
        guest={"writes_per_s": 0})))
    engine.ask_copier_for("gap 1048576")
    spec = engine.spec("vm1", delta_interval=3600)
    child = engine.start("--spec", spec)
    wait_for("the wait", lambda: engine.stage("vm1") == "delta" and
             not engine.record("vm1")["active_snapshot"])
    disk = engine.lab.state("vm1")["disks"][0]["key"]
    for block in (20, 22, 24):
        engine.lab.ctl("write", vm="vm1", disk=disk, offset=block << 16,
                       length=65536, seed=7)
    # the middle one of the three is not told
    engine.lab.ctl("fault", method="QueryChangedDiskAreas",
                   fault="cbt:missing", count=1)
    engine.finalize("--spec", spec)
    engine.wait(child)
    engine.compare("vm1")
    assert "comparing the whole disk" in engine.log("vm1")
    assert f"the block at {22 << 16} is not what was copied" in (
        engine.log("vm1"))
