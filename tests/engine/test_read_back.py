"""The replicas are read back before the import, as far as the policy says;
what differs is mended, or nothing is imported."""
import json
import os
import pathlib
import shutil
import signal
import subprocess

import pytest

from engine import wait_for
from worlds import MIB, vm, world

QUIET = {"guest": {"writes_per_s": 0}}
ONE = {"disks": [{"size": 24 * MIB, "content": "random"}]}


def replica(engine, disk="0"):
    return pathlib.Path(
        engine.record("vm1")["disks"][disk]["target_qcow2"])


def flip(path, offset):
    """One bit of a raw replica, behind everybody's back."""
    with open(path, "r+b") as f:
        f.seek(offset)
        byte = f.read(1)[0] ^ 1
        f.seek(offset)
        f.write(bytes([byte]))


def events(engine, name):
    lines = (engine.dir("vm1") / "events.jsonl").read_text().splitlines()
    return [e for e in map(json.loads, lines) if e["event"] == name]


def report(engine):
    return json.loads((engine.dir("vm1") / "report.json").read_text())


def phases(engine):
    return [p["phase"] for p in report(engine)["downtime"]]


@pytest.mark.parametrize("policy", ["none", "sample", "full"])
def test_policy(start_engine, policy):
    engine = start_engine(world(vm()))
    engine.migrate("vm1", rounds=2, verify=policy, verify_sample=10)
    engine.compare("vm1")
    engine.assert_source_clean("vm1")
    proof = report(engine)["verification"]
    assert proof["policy"] == policy
    assert proof["different"] == proof["mended"] == 0
    capacity = 32 * MIB + 512
    assert proof["capacity"] == capacity
    assert ("verifying" in phases(engine)) == (policy != "none")
    if policy == "none":
        assert proof["verified"] == proof["sample"] == 0
    elif policy == "full":
        assert (proof["verified"], proof["sample"]) == (capacity, 100)
    else:
        assert proof["sample"] == 10 and proof["seed"] > 0
        assert capacity // 20 < proof["verified"] < capacity


def test_default_is_a_sample(start_engine):
    engine = start_engine(world(vm()))
    engine.migrate("vm1")
    proof = report(engine)["verification"]
    assert (proof["policy"], proof["sample"]) == ("sample", 5)
    assert proof["verified"] > 0


def test_config_gives_the_default(start_engine):
    engine = start_engine(world(vm(**ONE)))
    engine.migration["verify"] = "full"
    engine.migrate("vm1")
    assert report(engine)["verification"]["verified"] == 24 * MIB


def test_most_is_verified_before_the_source_goes_down(start_engine):
    """Down, only what was written since is read."""
    engine = start_engine(world(vm(**ONE, **QUIET)))
    spec = engine.spec("vm1", delta_interval=3600, verify="full")
    child = engine.start("--spec", spec)
    idle(engine)
    engine.lab.ctl("write", vm="vm1", disk=2000, offset=4 * MIB,
                   length=128 << 10, seed=5)
    engine.finalize("--spec", spec, "--now")
    engine.wait(child)
    engine.compare("vm1")
    read = [line for line in engine.log("vm1").splitlines()
            if "are proven" in line]
    assert "delta" in read[0] and " 0 KiB were read" not in read[0]
    assert all("0 KiB were read" in line for line in read[1:-1])
    assert " verifying: " in read[-1] and " 128 KiB were read" in read[-1]


# differences ---------------------------------------------------------------------

def idle(engine):
    """The base copy is done, and was read back."""
    wait_for("the wait for a round", lambda: engine.stage("vm1") == "delta" and
             engine.record("vm1")["disks"]["0"].get("verified_bytes"))


@pytest.mark.parametrize("policy", ["sample", "full"])
def test_difference_found_while_the_source_runs(start_engine, policy):
    """The disk's first block is in every sample; then the whole disk is
    looked at, and the other one is found as well."""
    engine = start_engine(world(vm(**ONE, **QUIET)))
    spec = engine.spec("vm1", local={"format": "raw"}, delta_interval=3600,
                       verify="none")
    child = engine.start("--spec", spec)
    wait_for("the base", lambda: engine.stage("vm1") == "delta")
    child.send_signal(signal.SIGTERM)
    engine.wait(child, 130)
    flip(replica(engine), 5)
    flip(replica(engine), 13 * MIB + 5)
    spec = engine.spec("vm1", local={"format": "raw"}, delta_interval=3600,
                       verify=policy, verify_sample=1)
    engine.finalize("--spec", spec)
    engine.wait(engine.start("--spec", spec))
    engine.compare("vm1")
    engine.assert_source_clean("vm1")
    proof = report(engine)["verification"]
    assert proof["different"] == proof["mended"] == 2 * 65536
    assert proof["verified"] == 24 * MIB
    assert {e["offset"] for e in events(engine, "differs")} == {0, 13 * MIB}
    assert events(engine, "mended")
    # before the shutdown, all of it
    names = [e["event"] for e in map(json.loads, (
        engine.dir("vm1") / "events.jsonl").read_text().splitlines())]
    assert names.index("mended") < names.index("phase")


def test_nothing_is_found_without_looking(start_engine):
    """What the tests around do is seen by the comparison."""
    engine = start_engine(world(vm(**ONE, **QUIET)))
    spec = engine.spec("vm1", local={"format": "raw"}, verify="none",
                       delta_interval=3600)
    child = engine.start("--spec", spec)
    wait_for("the base", lambda: engine.stage("vm1") == "delta")
    flip(replica(engine), 5)
    engine.finalize("--spec", spec)
    engine.wait(child)
    with pytest.raises(AssertionError, match="mismatch"):
        engine.compare("vm1")


SERVER = """#!/usr/bin/python3
# As qemu-nbd, but something happens to the image before it is read back.
import json, os, pathlib, sys, time
stage = json.loads(pathlib.Path("state.json").read_text())["stage"]
if "--read-only" in sys.argv and stage == "verifying":
    here = pathlib.Path(%r)
    while (here / "hold").exists():
        (here / "held").touch()
        time.sleep(0.05)
    trigger = here / "flip"
    if trigger.exists():
        if trigger.read_text() == "once":
            trigger.unlink()
        with open(sys.argv[-1], "r+b") as f:
            f.seek(%d)
            byte = f.read(1)[0] ^ 1
            f.seek(-1, 1)
            f.write(bytes([byte]))
os.execv(%r, ["qemu-nbd", *sys.argv[1:]])
"""
AT = 4 * MIB + 77


@pytest.fixture
def hand(tmp_path, monkeypatch):
    """A folder; a file `flip` in it changes a bit of the replica whenever it
    is about to be read back with the source down; `hold` delays that."""
    folder = tmp_path / "hand"
    folder.mkdir()
    program = folder / "qemu-nbd"
    program.write_text(SERVER % (str(folder), AT, shutil.which("qemu-nbd")))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def cut_over(engine, **migration):
    """Up to the last round, which has something to copy at AT."""
    spec = engine.spec("vm1", local={"format": "raw"}, delta_interval=3600,
                       **migration)
    child = engine.start("--spec", spec)
    idle(engine)
    engine.lab.ctl("write", vm="vm1", disk=2000, offset=4 * MIB,
                   length=MIB, seed=5)
    engine.finalize("--spec", spec, "--now")
    return spec, child


@pytest.mark.parametrize("policy", [{"verify": "full"},
                                    {"verify": "sample",
                                     "verify_sample": 100}])
def test_difference_found_with_the_source_down(start_engine, hand, policy):
    engine = start_engine(world(vm(**ONE, **QUIET)))
    (hand / "flip").write_text("once")
    spec, child = cut_over(engine, **policy)
    engine.wait(child)
    engine.compare("vm1")
    engine.assert_source_clean("vm1")
    assert not (hand / "flip").exists()
    proof = report(engine)["verification"]
    assert proof["different"] == proof["mended"] == 65536
    assert [e["offset"] for e in events(engine, "differs")] == [
        AT // 65536 * 65536]
    assert phases(engine) == ["shutdown", "settle", "final_snapshot",
                              "final_copy", "verifying", "import"]


def test_storage_that_keeps_nothing(start_engine, hand):
    """Nothing is imported from it; once it is sound, the same command goes
    on."""
    engine = start_engine(world(vm(**ONE, **QUIET)))
    (hand / "flip").write_text("always")
    spec, child = cut_over(engine, verify="full")
    engine.wait(child, 1)
    assert "does not keep what is written to it" in engine.tail()
    record = engine.record("vm1")
    assert record["stage"] == "verifying"
    assert "does not keep" in record["last_error"]
    assert not list(engine.replicas.glob("*.xml"))
    assert record["disks"]["0"]["different_bytes"] == 4 * 65536
    assert "mended_bytes" not in record["disks"]["0"]
    engine.assert_source_clean("vm1")
    status = subprocess.run(
        engine.command("status", "--json", "--spec", spec),
        capture_output=True, text=True, check=True)
    assert json.loads(status.stdout)[0]["verification"] == {
        "verified": 24 * MIB - 65536, "different": 4 * 65536, "mended": 0}
    (hand / "flip").unlink()
    engine.wait(engine.start("--spec", spec))
    engine.compare("vm1")
    proof = report(engine)["verification"]
    assert proof["mended"] == proof["different"] == 4 * 65536
    assert proof["verified"] == 24 * MIB


def test_killed_while_verifying(start_engine, hand):
    engine = start_engine(world(vm(**ONE, **QUIET)))
    (hand / "hold").touch()
    (hand / "flip").write_text("once")
    spec, child = cut_over(engine, verify="full")
    wait_for("the verifier", lambda: (hand / "held").exists())
    pid = int((engine.dir("vm1") / "lock").read_text().split()[1])
    os.kill(pid, signal.SIGKILL)
    wait_for("another worker", lambda: "continuing at verifying" in
             engine.log("vm1") or engine.gone(child))
    (hand / "hold").unlink()
    engine.wait(child)
    engine.compare("vm1")
    engine.assert_source_clean("vm1")
    assert report(engine)["verification"]["mended"] == 65536


def test_vm_runs_again_while_it_is_verified(start_engine, hand):
    """What it writes then is copied as well."""
    engine = start_engine(world(vm(**ONE)))
    (hand / "hold").touch()
    spec, child = cut_over(engine, verify="full")
    wait_for("the verifier", lambda: (hand / "held").exists())
    engine.lab.ctl("power", vm="vm1", state="on")
    before = engine.lab.state("vm1")["guest"]["writes"]
    wait_for("more writes", lambda: engine.lab.state("vm1")["guest"][
        "writes"] > before + 20)
    (hand / "hold").unlink()
    wait_for("the notice", lambda: "running again" in engine.log("vm1"))
    engine.lab.ctl("power", vm="vm1", state="off")
    engine.wait(child)
    engine.compare("vm1")
    engine.assert_source_clean("vm1")


def test_stop_while_verifying(start_engine, hand):
    engine = start_engine(world(vm(**ONE, **QUIET)))
    (hand / "hold").touch()
    spec, child = cut_over(engine, verify="full")
    wait_for("the verifier", lambda: (hand / "held").exists())
    (hand / "hold").unlink()
    child.send_signal(signal.SIGTERM)
    engine.wait(child, 130)
    engine.assert_source_clean("vm1")
    engine.wait(engine.start("--spec", spec))
    engine.compare("vm1")
