"""Somebody does something at the wrong moment; nothing is lost by it, nothing
of others is touched, and nothing of ours is left."""
import json
import os
import pathlib
import signal
import subprocess

import pytest

from engine import wait_for
from worlds import MIB, vm, world

SLOW = {"disks": [{"size": 64 * MIB, "content": "random"}]}


def stopped_after_a_round(engine, spec):
    child = engine.start("--spec", spec)
    wait_for("a round", lambda: engine.rounds("vm1") >= 1)
    child.send_signal(signal.SIGTERM)
    engine.wait(child, 130)


def finish(engine, spec):
    child = engine.start("--spec", spec)
    wait_for("a round", lambda: engine.rounds("vm1") >= 1 or
             child.poll() is not None)
    engine.finalize("--spec", spec)
    engine.wait(child)
    engine.compare("vm1")
    engine.assert_source_clean("vm1")


def more_writes(engine):
    before = engine.lab.state("vm1")["guest"]["writes"]
    wait_for("more writes", lambda: engine.lab.state("vm1")["guest"][
        "writes"] > before + 20)


@pytest.mark.parametrize("gone", ["record", "never was"])
def test_replica_that_no_record_knows(start_engine, gone):
    """It may be a disk that somebody uses: it is refused, not written to."""
    engine = start_engine(world(vm(disks=[{"size": 8 * MIB,
                                           "content": "sparse"}])))
    spec = engine.spec("vm1")
    if gone == "record":
        stopped_after_a_round(engine, spec)
        engine.dir("vm1").rename(engine.folder / "away")
    else:
        moref = engine.lab.vms["vm1"]["moref"]
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2",
                        engine.replicas / f"vm1_{moref}_disk0.qcow2",
                        str(8 * MIB)], check=True)
    replica = next(engine.replicas.iterdir())
    before = replica.read_bytes()
    got = engine.run("--spec", spec)
    assert got.returncode == 1
    assert "not known to this migration; move it away" in got.stderr
    assert replica.read_bytes() == before


def test_lost_map_and_blocks_that_became_zero(start_engine):
    """What is on the replica is not taken for zeroes."""
    engine = start_engine(world(vm()))
    spec = engine.spec("vm1")
    stopped_after_a_round(engine, spec)
    for path in engine.dir("vm1").glob("*.map"):
        path.unlink()
    engine.lab.ctl("write", vm="vm1", disk=2000, offset=4 * MIB,
                   length=4 * MIB, zero=True)
    engine.lab.ctl("guest", vm="vm1", paused=True)
    finish(engine, spec)


def test_vm_runs_again_while_the_last_round_waits(start_engine):
    engine = start_engine(world(vm()))
    spec = engine.spec("vm1")
    child = engine.start("--spec", spec)
    wait_for("a round", lambda: engine.rounds("vm1") >= 1)
    (engine.dir("vm1") / "FINALIZE_NOW").touch()
    wait_for("the end of the guest", lambda: engine.stage("vm1") in (
        "shutting_down", "final_sync"))
    engine.lab.ctl("fault", method="QueryChangedDiskAreas", fault="drop",
                   nth=1, count=1)
    wait_for("the pause", lambda: "trying again" in engine.log("vm1"))
    engine.lab.ctl("power", vm="vm1", state="on")
    more_writes(engine)
    engine.lab.ctl("power", vm="vm1", state="off")
    engine.wait(child)
    engine.compare("vm1")


def test_vm_runs_again_during_the_last_copy(start_engine):
    engine = start_engine(world(vm()))
    spec = engine.spec("vm1")
    child = engine.start("--spec", spec)
    wait_for("a round", lambda: engine.rounds("vm1") >= 1)
    engine.lab.ctl("write", vm="vm1", disk=2000, offset=4 * MIB,
                   length=16 * MIB, seed=5)
    (engine.dir("vm1") / "FINALIZE_NOW").touch()
    wait_for("power off", lambda: engine.lab.state("vm1")["power"] ==
             "poweredOff")
    engine.lab.ctl("link", mbps=8)
    wait_for("the last copy", lambda: any(
        p["phase"] == "final_copy"
        for p in engine.record("vm1").get("downtime", [])))
    engine.lab.ctl("power", vm="vm1", state="on")
    engine.lab.ctl("link", mbps=0)
    wait_for("the notice", lambda: "running again" in engine.log("vm1"))
    more_writes(engine)
    engine.lab.ctl("power", vm="vm1", state="off")
    engine.wait(child)
    engine.compare("vm1")
    engine.assert_source_clean("vm1")


@pytest.mark.parametrize("stage", ["enabling_cbt", "creating_base_snapshot"])
def test_stop_while_a_snapshot_is_made(start_engine, stage):
    engine = start_engine(world(vm(), task_ms=1500))
    child = engine.start("--spec", engine.spec("vm1"))
    wait_for(stage, lambda: engine.stage("vm1") == stage)
    wait_for("the task", lambda: engine.lab.state("vm1").get("task") ==
             "CreateSnapshot_Task")
    child.send_signal(signal.SIGTERM)
    engine.wait(child, 130)
    # one that was not waited for would come up only now
    wait_for("the end of all tasks",
             lambda: not engine.lab.state("vm1").get("task"))
    engine.assert_source_clean("vm1")


def test_terminal_that_closes(start_engine):
    """It may say so twice; that is no second Ctrl-C."""
    engine = start_engine(world(vm(**SLOW), link_mbps=16))
    child = engine.start("--spec", engine.spec("vm1"))
    wait_for("half a copy", lambda: 20 < engine.progress("vm1") < 80)
    child.send_signal(signal.SIGHUP)
    child.send_signal(signal.SIGHUP)
    engine.wait(child, 130)
    engine.assert_source_clean("vm1")


@pytest.mark.parametrize("name", ["backup", "v2c-before-upgrade-vm-21",
                                  "v2c-base-vm-21"])
def test_snapshot_of_somebody_else_stays(start_engine, name):
    engine = start_engine(world(vm(cbt=True)))
    spec = engine.spec("vm1")
    stopped_after_a_round(engine, spec)
    engine.lab.ctl("snapshot", vm="vm1", name=name)
    finish_with_theirs(engine, spec, name)


def finish_with_theirs(engine, spec, name):
    child = engine.start("--spec", spec)
    rounds = engine.rounds("vm1")
    wait_for("a round", lambda: engine.rounds("vm1") > rounds)
    engine.finalize("--spec", spec)
    engine.wait(child)
    engine.compare("vm1")
    left = [s["name"] for s in engine.lab.state("vm1")["snapshots"]]
    assert left == [name]


def test_record_of_another_vm(start_engine):
    """Neither that record nor a snapshot it names is touched."""
    engine = start_engine(world(vm(cbt=True)))
    spec = engine.spec("vm1")
    stopped_after_a_round(engine, spec)
    engine.lab.ctl("snapshot", vm="vm1", name="theirs")
    state = engine.dir("vm1") / "state.json"
    record = json.loads(state.read_text())
    record["instance_uuid"] = "another"
    record["active_snapshot"] = engine.lab.state("vm1")[
        "snapshots"][0]["moref"]
    state.write_text(json.dumps(record))
    before = state.read_bytes()
    got = engine.run("--spec", spec)
    assert got.returncode == 1
    assert "holds the migration of another VM" in got.stderr
    assert state.read_bytes() == before
    assert len(engine.lab.state("vm1")["snapshots"]) == 1


def test_renamed_vm_is_still_the_same(start_engine):
    engine = start_engine(world(vm()))
    spec = engine.spec("vm1")
    child = engine.start("--spec", spec)
    wait_for("a round", lambda: engine.rounds("vm1") >= 1)
    moref = engine.lab.vms["vm1"]["moref"]
    engine.lab.ctl("set", vm="vm1", name="renamed")
    second = engine.folder / "second.yaml"
    second.write_text(json.dumps({
        "vm": {"moref": moref},
        "target": {"local": {"path": str(engine.replicas),
                             "overcommit": True}}}))
    got = engine.run("--spec", second)
    assert got.returncode == 1
    assert "being migrated already" in got.stderr
    child.send_signal(signal.SIGTERM)
    engine.wait(child, 130)
    assert len(list(engine.control.glob("*/state.json"))) == 1


def test_copier_that_hangs_is_killed(start_engine):
    engine = start_engine(world(vm(**SLOW), link_mbps=16))
    child = engine.start("--spec", engine.spec("vm1"))
    wait_for("half a copy", lambda: 20 < engine.progress("vm1") < 80)
    for pid, name in engine.processes().items():
        if name == "v2c-copy":
            os.kill(pid, signal.SIGSTOP)
    child.send_signal(signal.SIGTERM)
    engine.wait(child, 130)
    assert "hangs" in engine.log("vm1")
    engine.assert_source_clean("vm1")


def test_consolidation_that_a_kill_cut_off(start_engine):
    """No snapshot is taken while it is needed; the lab notes each one."""
    engine = start_engine(world(vm(), consolidate_ms=2000))
    spec = engine.spec("vm1")
    child = engine.start("--spec", spec)
    wait_for("a removal", lambda: engine.lab.state("vm1")[
        "consolidation_needed"] and engine.rounds("vm1") >= 0)
    pid = int((engine.dir("vm1") / "lock").read_text().split()[1])
    os.kill(pid, signal.SIGKILL)
    wait_for("a round", lambda: engine.rounds("vm1") >= 1 or
             engine.gone(child))
    engine.finalize("--spec", spec)
    engine.wait(child)
    engine.compare("vm1")


def test_one_broken_record_hides_no_other(start_engine):
    engine = start_engine(world(vm(disks=[{"size": MIB}])))
    engine.migrate("vm1")
    (engine.control / "broken_vm-9").mkdir()
    pathlib.Path(engine.control / "broken_vm-9" / "state.json").touch()
    done = subprocess.run(
        engine.command("status", "--json", "--spec", engine.spec("vm1")),
        capture_output=True, text=True)
    assert done.returncode == 0
    assert json.loads(done.stdout)[0]["current_stage"] == "done"
    assert "broken_vm-9" in done.stderr


def test_run_that_died_is_followed_by_the_same(start_engine):
    """Its worker is still stopping; the next one waits for that."""
    engine = start_engine(world(vm(**SLOW), link_mbps=16))
    spec = engine.spec("vm1")
    child = engine.start("--spec", spec)
    wait_for("half a copy", lambda: 20 < engine.progress("vm1") < 80)
    child.kill()
    child.wait()
    child = engine.start("--spec", spec)
    engine.lab.ctl("link", mbps=0)
    wait_for("a round", lambda: engine.rounds("vm1") >= 1 or
             engine.gone(child))
    engine.finalize("--spec", spec)
    engine.wait(child)
    engine.compare("vm1")
    assert "whose run has ended" in engine.tail()
