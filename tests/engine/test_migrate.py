"""Whole migrations out of the lab, compared with what its guests wrote."""
import json
import re
import signal
import subprocess
import xml.etree.ElementTree as xml

import pytest

from engine import wait_for
from worlds import MIB, vm, world


@pytest.mark.parametrize("format", ["qcow2", "raw"])
def test_running_vm(start_engine, format):
    engine = start_engine(world())
    spec = engine.spec("vm1", local={"format": format})
    child = engine.start("--spec", spec)
    wait_for("two rounds", lambda: engine.rounds("vm1") >= 2)
    engine.finalize("--spec", spec)
    engine.wait(child)
    engine.compare("vm1")
    engine.assert_source_clean("vm1")
    assert engine.lab.state("vm1")["power"] == "poweredOff"


def test_many_vms(start_engine):
    names = ["a", "b", "c", "d"]
    engine = start_engine(world(*[vm(n) for n in names]))
    spec = engine.spec(*names)
    child = engine.start("--spec", spec, "--parallel-vms", "4")
    for name in names:
        wait_for(name, lambda: engine.rounds(name) >= 1)
    engine.finalize("--spec", spec)
    engine.wait(child)
    for name in names:
        engine.compare(name)
        engine.assert_source_clean(name)


@pytest.mark.parametrize("disks", [
    [{"size": 512, "content": "random"}],
    [{"size": 63 * 1024, "content": "random"}],
    [{"size": MIB + 512, "content": "random", "controller": "nvme"},
     {"size": 64 * 1024, "content": "zero", "controller": "sata"}],
])
def test_odd_sizes(start_engine, disks):
    engine = start_engine(world(vm(disks=disks)))
    engine.migrate("vm1")
    engine.compare("vm1")


def test_file_system_is_sound(start_engine):
    engine = start_engine(world(vm(disks=[{"size": 48 * MIB,
                                           "content": "ext4"}])))
    engine.migrate("vm1", rounds=2)
    engine.compare("vm1")
    disk = engine.record("vm1")["disks"]["0"]["target_qcow2"]
    raw = engine.folder / "fs.raw"
    subprocess.run(["qemu-img", "convert", "-O", "raw", disk, raw], check=True)
    subprocess.run(["/sbin/e2fsck", "-fn", raw], check=True,
                   capture_output=True)


def test_powered_off_vm(start_engine):
    engine = start_engine(world(vm(power="poweredOff")))
    engine.migrate("vm1")
    engine.compare("vm1")
    engine.assert_source_clean("vm1")


@pytest.mark.parametrize("query", ["moref", "uuid", "path"])
def test_found_by(start_engine, query):
    engine = start_engine(world(vm(), vm("vm2")))
    info = engine.lab.vms["vm1"]
    value = {"moref": info["moref"], "uuid": info["uuid"],
             "path": info["path"].lstrip("/")}[query]
    spec = engine.folder / "q.yaml"
    spec.write_text(json.dumps({
        "vm": {query: value}, "migration": {"delta_interval": 1},
        "target": {"local": {"path": str(engine.replicas),
                             "overcommit": True}}}))
    child = engine.start(spec)
    wait_for("a round", lambda: engine.rounds("vm1") >= 1)
    engine.finalize(spec)
    engine.wait(child)
    engine.compare("vm1")


@pytest.mark.parametrize("trust", ["thumbprint", "sha1", "insecure"])
def test_certificate(start_engine, trust):
    engine = start_engine(world(vm(disks=[{"size": MIB}])))
    del engine.vcenter["ca_file"]
    engine.vcenter.update({
        "thumbprint": {"thumbprint": engine.lab.vcenter["sha256"]},
        "sha1": {"thumbprint": engine.lab.vcenter["sha1"]},
        "insecure": {"insecure": True}}[trust])
    engine.migrate("vm1")
    engine.compare("vm1")


def test_domain_is_the_source(start_engine):
    engine = start_engine(world(vm(firmware="efi", cpus=3, memory_mb=1536)))
    engine.migrate("vm1")
    record = engine.record("vm1")
    domain = xml.parse(record["result"]).getroot()
    assert domain.findtext("name") == "vm1"
    assert domain.findtext("vcpu") == "3"
    assert domain.findtext("memory") == "1536"
    assert domain.find("os").get("firmware") == "efi"
    assert domain.find("devices/interface/mac").get("address") == \
        "00:50:56:01:02:03"
    files = [s.get("file") for s in domain.iterfind("devices/disk/source")]
    assert sorted(files) == sorted(
        d["target_qcow2"] for d in record["disks"].values())


def test_same_unit_on_two_controllers(start_engine):
    engine = start_engine(world())
    engine.migrate("vm1")
    disks = engine.record("vm1")["disks"]
    assert sorted(disks) == ["scsi0:0", "scsi1:0"]
    assert len({d["target_qcow2"] for d in disks.values()}) == 2


def test_finalize_at(start_engine):
    engine = start_engine(world())
    spec = engine.spec("vm1", finalize_at="2026-01-01T00:00:00Z")
    child = engine.start("--spec", spec)
    engine.wait(child)
    engine.compare("vm1")


def test_finalize_now_interrupts_the_wait(start_engine):
    engine = start_engine(world())
    spec = engine.spec("vm1", delta_interval=3600)
    child = engine.start("--spec", spec)
    wait_for("the wait", lambda: engine.stage("vm1") == "delta")
    engine.finalize("--spec", spec, "--now")
    engine.wait(child)
    engine.compare("vm1")
    assert not list(engine.dir("vm1").glob("FINALIZE*"))


def test_force(start_engine):
    engine = start_engine(world())
    engine.migrate("vm1", shutdown_mode="force")
    engine.compare("vm1")


@pytest.mark.parametrize("keys", [
    {"tools": "notRunning"}, {"tools": "notInstalled"}])
def test_without_tools_the_operator_is_asked(start_engine, keys):
    engine = start_engine(world(vm(**keys)))
    spec = engine.spec("vm1")
    child = engine.start("--spec", spec)
    wait_for("a round", lambda: engine.rounds("vm1") >= 1)
    engine.finalize("--spec", spec)
    wait_for("the question",
             lambda: engine.stage("vm1") == "awaiting_shutdown_action")
    record = engine.record("vm1")
    assert record["shutdown_action_required"]
    assert engine.lab.state("vm1")["power"] == "poweredOn"
    (engine.dir("vm1") / "SHUTDOWN_FORCE").touch()
    engine.wait(child)
    engine.compare("vm1")
    assert "shutdown_action_required" not in engine.record("vm1")


def test_manual_shutdown_is_seen(start_engine):
    engine = start_engine(world())
    spec = engine.spec("vm1", shutdown_mode="manual")
    child = engine.start("--spec", spec)
    wait_for("a round", lambda: engine.rounds("vm1") >= 1)
    engine.finalize("--spec", spec)
    wait_for("the question",
             lambda: engine.stage("vm1") == "awaiting_shutdown_action")
    engine.lab.ctl("power", vm="vm1", state="off")
    engine.wait(child)
    engine.compare("vm1")


@pytest.mark.parametrize("plan, mode, asked", [
    ("allocated", "allocated", True), ("in_use", "allocated", False),
    ("all", "all", False), ("auto", "allocated", True)])
def test_what_the_base_copy_reads(start_engine, plan, mode, asked):
    engine = start_engine(world())
    engine.migrate("vm1", base_plan=plan)
    engine.compare("vm1")
    assert f"disk scsi0:0: nbdssl, {mode}, " in engine.log("vm1")
    assert (engine.lab.ctl("world")["handles"]["queries"] > 0) == asked


@pytest.mark.parametrize("cbt, fault", [
    # tracking that was on before may have begun with a snapshot there
    (True, None),
    (False, {"fault": "FileFault", "count": 2,
             "message_key": "vim.hostd.vmsvc.cbt.noEpoch"})])
def test_what_is_in_use_cannot_be_told(start_engine, cbt, fault):
    engine = start_engine(world(vm(cbt=cbt)))
    if fault:
        engine.lab.ctl("fault", method="QueryChangedDiskAreas", **fault)
    engine.migrate("vm1", base_plan="in_use")
    engine.compare("vm1")
    assert engine.lab.ctl("world")["handles"]["queries"] > 0


def test_reset_of_tracking_leads_to_a_full_compare(start_engine):
    engine = start_engine(world())
    spec = engine.spec("vm1")
    child = engine.start("--spec", spec)
    wait_for("a round", lambda: engine.rounds("vm1") >= 1)
    engine.lab.ctl("reset-cbt", vm="vm1")
    wait_for("the compare",
             lambda: "comparing the whole disk" in engine.log("vm1"))
    engine.finalize("--spec", spec)
    engine.wait(child)
    engine.compare("vm1")


def test_lost_session_is_opened_again(start_engine):
    engine = start_engine(world())
    spec = engine.spec("vm1")
    child = engine.start("--spec", spec)
    wait_for("a round", lambda: engine.rounds("vm1") >= 1)
    engine.lab.ctl("session", drop=True)
    wait_for("more rounds", lambda: engine.rounds("vm1") >= 3)
    engine.finalize("--spec", spec)
    engine.wait(child)
    engine.compare("vm1")


def test_ctrl_c_stops_cleanly_and_the_same_command_goes_on(start_engine):
    # long enough that what is in flight at the stop is not all that is left
    engine = start_engine(world(vm(disks=[{"size": 96 * MIB,
                                           "content": "random"}]),
                                link_mbps=16))
    spec = engine.spec("vm1")
    child = engine.start("--spec", spec)
    wait_for("half a copy", lambda: 20 < engine.progress("vm1") < 60)
    child.send_signal(signal.SIGINT)
    engine.wait(child, 130)
    assert "run the same command to continue" in engine.tail()
    engine.assert_source_clean("vm1")
    assert not all(disk["base_copied"]
                   for disk in engine.record("vm1")["disks"].values())
    engine.lab.ctl("link", mbps=0)
    engine.migrate("vm1")
    engine.compare("vm1")
    # what was copied before is not copied again
    left = re.search(r"base_copy: disk 0: nbdssl, list, (\d+) of",
                     engine.log("vm1"))
    assert 0 < int(left.group(1)) << 10 < 0.9 * 96 * MIB


def test_replica_that_is_gone_is_made_anew(start_engine):
    engine = start_engine(world())
    spec = engine.spec("vm1")
    child = engine.start("--spec", spec)
    wait_for("a round", lambda: engine.rounds("vm1") >= 1)
    child.send_signal(signal.SIGINT)
    engine.wait(child, 130)
    for disk in engine.record("vm1")["disks"].values():
        (engine.replicas / disk["target_qcow2"]).unlink()
        break
    engine.migrate("vm1", rounds=2)
    engine.compare("vm1")


def test_done_is_done(start_engine):
    engine = start_engine(world())
    engine.migrate("vm1")
    again = engine.run("--spec", engine.spec("vm1"))
    assert again.returncode == 0
    engine.compare("vm1")


def test_status_and_report(start_engine):
    engine = start_engine(world(vm(), vm("vm2")))
    engine.migrate("vm1")
    both = engine.spec("vm1", "vm2")
    done = subprocess.run(engine.command("status", "--json", "--spec", both),
                          capture_output=True, text=True, check=True)
    one, two = json.loads(done.stdout)
    assert (one["vm_name"], one["current_stage"], one["next_stage"]) == \
        ("vm1", "done", "none")
    assert (two["vm_name"], two["current_stage"]) == ("vm2", "not_started")
    report = json.loads((engine.dir("vm1") / "report.json").read_text())
    phases = [p["phase"] for p in report["downtime"]]
    assert phases == ["shutdown", "settle", "final_snapshot", "final_copy",
                      "verifying", "import"]
    assert report["downtime_ms"] >= sum(p["ms"] for p in report["downtime"])
    assert sum(d["bytes_read"] for d in report["disks"]) > 0
