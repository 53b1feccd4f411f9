"""Who may read which disk through the lab's VDDK, and what it reads."""
import pytest

import vddkkit
from labkit import small_world, start_lab  # noqa: F401
from soapkit import Soap

FILE = "[datastore1] vm1/vm1.vmdk"


@pytest.fixture
def lab(start_lab):  # noqa: F811
    return start_lab(small_world(
        disks=[{"size": (4 << 20) + 512, "content": "random"},
               {"size": 1 << 20, "mode": "independent_persistent"}],
        guest={"writes_per_s": 200}))


@pytest.fixture
def moref(lab):
    return lab.vms["vm1"]["moref"]


@pytest.fixture
def soap(lab):
    it = Soap(lab)
    it.login()
    return it


def read(lab, tmp_path, path=FILE, **keys):
    return vddkkit.finish(vddkkit.start(vddkkit.request_for(
        lab, "vm1", path, tmp_path / "read", **keys)))


def test_snapshot_is_frozen(lab, soap, moref, tmp_path):
    """What is read is the snapshot, however much the guest writes."""
    snap = soap.snapshot(moref)
    truth = lab.truth("vm1", 2000, tmp_path / "truth", snap)
    writes = lab.state("vm1")["guest"]["writes"]
    while lab.state("vm1")["guest"]["writes"] < writes + 20:
        pass
    answer = read(lab, tmp_path, snapshot=snap)
    assert answer == {"code": 0, "step": "", "capacity": 8193}
    assert (tmp_path / "read").read_bytes() == truth
    assert lab.truth("vm1", 2000, tmp_path / "now") != truth
    soap.remove(snap)
    assert lab.ctl("world")["handles"]["open"] == 0


@pytest.mark.parametrize("keys, code", [
    ({"password": "wrong"}, 3014),
    ({"thumbprint": "00" + ":00" * 19}, 1),
    ({"spec": "moref=vm-999"}, 4000),
    ({"snapshot": "snapshot-999"}, 4),
    ({"snapshot": None}, 15),
    ({"path": "[datastore1] vm1/vm1-000001.vmdk"}, 4),
    ({"path": "[datastore1] vm1/vm1_1.vmdk"}, 6),
])
def test_refusals(lab, soap, moref, tmp_path, keys, code):
    keys = dict({"snapshot": soap.snapshot(moref)}, **keys)
    answer = read(lab, tmp_path, **keys)
    assert (answer["step"], answer["code"]) == ("Open", code)


def test_powered_off_without_snapshot(lab, tmp_path):
    lab.ctl("power", vm="vm1", state="off")
    assert read(lab, tmp_path)["code"] == 0
    assert (tmp_path / "read").read_bytes() == lab.truth(
        "vm1", 2000, tmp_path / "truth")


def test_removal_while_read(lab, soap, moref, tmp_path):
    """A reader keeps the file: consolidation waits for it."""
    snap = soap.snapshot(moref)
    reader = vddkkit.start(vddkkit.request_for(
        lab, "vm1", FILE, tmp_path / "read", snapshot=snap), hold=True)
    truth = lab.truth("vm1", 2000, tmp_path / "truth", snap)
    assert reader.stdout.readline() == "open\n"
    assert lab.ctl("world")["handles"]["open"] == 1
    info = soap.remove(snap)
    assert "FileLocked" in info and "<state>error<" in info
    assert lab.state("vm1")["snapshots"] == []
    assert lab.state("vm1")["consolidation_needed"]
    vm = f"VirtualMachine:{moref}"
    assert "FileLocked" in soap.task("ConsolidateVMDisks_Task", vm)
    assert vddkkit.finish(reader, "\n")["code"] == 0
    assert (tmp_path / "read").read_bytes() == truth
    assert "<state>success<" in soap.task("ConsolidateVMDisks_Task", vm)
    assert not lab.state("vm1")["consolidation_needed"]


def test_guest_stops_for_good(lab, tmp_path):
    soap = Soap(lab)
    soap.login()
    soap.call("ShutdownGuest", "VirtualMachine:" + lab.vms["vm1"]["moref"])
    while lab.state("vm1")["power"] != "poweredOff":
        pass
    first = lab.truth("vm1", 2000, tmp_path / "a")
    writes = lab.state("vm1")["guest"]["writes"]
    assert writes > 0
    assert lab.truth("vm1", 2000, tmp_path / "b") == first
    assert lab.state("vm1")["guest"]["writes"] == writes


def test_seed_makes_the_same_disks(start_lab, tmp_path):  # noqa: F811
    contents = []
    for seed in (5, 5, 6):
        lab = start_lab(dict(small_world(guest={"writes_per_s": 0}),
                             seed=seed))
        contents.append(lab.truth("vm1", 2000, tmp_path / f"{len(contents)}"))
    assert contents[0] == contents[1] != contents[2]
    assert any(contents[0]) and bytes(65536) in contents[0]


def test_file_system(start_lab, tmp_path):  # noqa: F811
    """The guest never writes into the file system that it was given."""
    import shutil
    import subprocess
    if not shutil.which("e2fsck", path="/usr/sbin:/sbin:/usr/bin"):
        pytest.skip("needs e2fsck")
    lab = start_lab(small_world(disks=[{"size": 32 << 20, "content": "ext4"}],
                                guest={"writes_per_s": 500}))
    while lab.state("vm1")["guest"]["writes"] < 50:
        pass
    lab.truth("vm1", 2000, tmp_path / "fs")
    done = subprocess.run(
        [shutil.which("e2fsck", path="/usr/sbin:/sbin:/usr/bin"), "-fn",
         str(tmp_path / "fs")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
