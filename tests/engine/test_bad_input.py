"""Bad input: one line that names the thing and the way out, exit 1, and
nothing touched."""
import json
import pathlib
import signal
import subprocess

import pytest

from engine import wait_for
from worlds import MIB, vm, world


def refused(engine, *said, args=None, count=1):
    """The run fails by one line with all these words."""
    got = engine.run(*(args or ["--spec", engine.spec("vm1")]))
    lines = [line for line in got.stderr.splitlines()
             if " info " not in line and " warn " not in line]
    assert got.returncode == 1, got.stderr
    assert len(lines) == count, got.stderr
    for word in said:
        assert word in lines[0], lines[0]
    return lines[0]


def untouched(engine):
    state = engine.lab.state("vm1")
    assert not state["snapshots"] and not state["cbt"]
    assert state["power"] == "poweredOn"
    assert not list(engine.replicas.iterdir())


@pytest.fixture
def engine(start_engine):
    return start_engine(world())


def test_wrong_password(engine):
    engine.vcenter["password"] = "not-the-password"
    line = refused(engine, "InvalidLogin", "user name or password")
    assert "not-the-password" not in line
    untouched(engine)


def test_no_such_vm(engine):
    refused(engine, "nosuch", args=["--spec", engine.spec("nosuch")])


def test_two_of_that_name(start_engine):
    engine = start_engine(world(vm("twin", folder="a"),
                                vm("twin", folder="b")))
    refused(engine, "twin", "/a/", "/b/", "vm-",
            args=["--spec", engine.spec("twin")])


def test_unknown_key(engine):
    engine.migration["pararell_disks"] = 2
    refused(engine, "config.yaml:1", "pararell_disks", "parallel_disks")
    untouched(engine)


def test_unknown_key_in_spec(engine):
    spec = engine.folder / "s.yaml"
    spec.write_text("vm:\n  nmae: vm1\n")
    refused(engine, "s.yaml:2", "'nmae'", "'name'", args=["--spec", spec])


def test_missing_vddk(engine):
    engine.migration["vddk_path"] = "/nonexistent/vddk"
    refused(engine, "vddk_path", "/nonexistent/vddk", "VDDK")
    untouched(engine)


def test_directory_without_vddk(engine):
    engine.migration["vddk_path"] = str(engine.folder)
    refused(engine, "libvixDiskLib.so", str(engine.folder))


def test_unreadable_config(engine):
    got = subprocess.run(
        [engine.command("run")[0], "run", "--config", "/nonexistent.yaml",
         "--spec", engine.spec("vm1")], capture_output=True, text=True)
    assert got.returncode == 1
    assert "/nonexistent.yaml" in got.stderr
    assert len(got.stderr.splitlines()) == 1


def test_target_missing(engine):
    spec = engine.spec("vm1", local={"path": "/nonexistent/target"})
    refused(engine, "/nonexistent/target", args=["--spec", spec])
    untouched(engine)


def test_target_full(start_engine):
    engine = start_engine(world(vm(disks=[{"size": 1 << 42,
                                           "content": "zero"}])))
    spec = engine.spec("vm1", local={"overcommit": False})
    refused(engine, "MiB are free", "overcommit", args=["--spec", spec])
    untouched(engine)


def test_no_tracking(start_engine):
    engine = start_engine(world(vm(cbt_supported=False, version="vmx-04")))
    refused(engine, "changed block tracking", "vmx-04")
    untouched(engine)
    assert not engine.control.exists()


@pytest.mark.parametrize("disk, why", [
    ({"mode": "independent_persistent"}, "is independent"),
    ({"rdm": "physical"}, "physical mode"),
    ({"sharing": True}, "shared"),
    ({"controller": "lsilogic", "bus": 1, "shared_bus": "physicalSharing"},
     "shared"),
])
def test_disk_that_cannot_be_copied(start_engine, disk, why):
    engine = start_engine(world(vm(disks=[{"size": MIB},
                                          {"size": MIB, **disk}])))
    refused(engine, "Hard disk 2", why)
    untouched(engine)
    assert not engine.control.exists()


def test_snapshots_in_the_way_of_tracking(start_engine):
    engine = start_engine(world(vm(snapshots=["before update"])))
    refused(engine, "before update", "remove")
    assert len(engine.lab.state("vm1")["snapshots"]) == 1


def test_second_run(engine):
    spec = engine.spec("vm1")
    child = engine.start("--spec", spec)
    wait_for("the first run", lambda: engine.stage("vm1") == "delta")
    refused(engine, "vm1", "being migrated already", "process")
    child.send_signal(signal.SIGTERM)
    engine.wait(child, 130)


def test_wrong_thumbprint(engine):
    del engine.vcenter["ca_file"]
    engine.vcenter["thumbprint"] = ":".join(["AB"] * 32)
    refused(engine, engine.lab.vcenter["sha256"], "AB:AB")
    untouched(engine)


def test_unknown_certificate(engine):
    del engine.vcenter["ca_file"]
    refused(engine, "certificate", engine.lab.vcenter["sha256"])
    untouched(engine)


def test_disk_the_vm_lacks(engine):
    spec = engine.spec("vm1")
    text = json.loads(pathlib.Path(spec).read_text())
    text["vms"][0]["disks"] = {"scsi3:0": {"storageid": "x"}}
    pathlib.Path(spec).write_text(json.dumps(text))
    refused(engine, "scsi3:0", "scsi0:0, scsi1:0", args=["--spec", spec])
    untouched(engine)


def test_broken_record_is_not_guessed_at(engine):
    engine.migrate("vm1", rounds=1)
    state = engine.dir("vm1") / "state.json"
    state.write_text(state.read_text()[:100])
    refused(engine, "state.json")
