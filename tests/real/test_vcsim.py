"""src/vsphere against govmomi's simulator, a vCenter that others wrote.

Needs go, Debian's golang-github-vmware-govmomi-dev and, in V2C_BUILD, the
Meson build directory with tests/real/vcsim_client.  By hand:
    V2C_BUILD=build pytest tests/real/test_vcsim.py
"""

import contextlib
import json
import os
import pathlib
import re
import shutil
import subprocess

import pytest

HERE = pathlib.Path(__file__).parent
GOPATH = "/usr/share/gocode"
LIBRARY = pathlib.Path(GOPATH, "src/github.com/vmware/govmomi/simulator")


@pytest.fixture(scope="module")
def client():
    build = os.environ.get("V2C_BUILD")
    path = pathlib.Path(build or "", "tests/real/vcsim_client").resolve()
    if not build or not path.exists():
        pytest.skip("needs V2C_BUILD, a build directory with vcsim_client")
    return path


@pytest.fixture(scope="module")
def program(tmp_path_factory, client):
    built = pathlib.Path(os.environ.get("V2C_GO", "/nonexistent")) / "vcsim"
    if built.exists():
        return built
    if not shutil.which("go"):
        pytest.skip("needs go")
    if not LIBRARY.is_dir():
        pytest.skip("needs golang-github-vmware-govmomi-dev")
    home = tmp_path_factory.mktemp("vcsim") / "src" / "vcsim"
    shutil.copytree(HERE / "vcsim", home)
    env = dict(os.environ, GOPATH=GOPATH, GO111MODULE="off", GOFLAGS="")
    if "HOME" not in env:
        env.setdefault("GOCACHE", str(home / "cache"))
    subprocess.run(["go", "build", "-o", "vcsim", "."], cwd=home, env=env,
                   check=True)
    return home / "vcsim"


@contextlib.contextmanager
def started(program, *args):
    with subprocess.Popen([program, *args], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as p:
        yield json.loads(p.stdout.readline())
        p.stdin.close()
        assert p.wait() == 0


@pytest.fixture(scope="module")
def simulator(program):
    with started(program) as where:
        yield where


def run(client, where, thumbprint, vm="DC0_H0_VM0", password=None):
    password = password or where["password"]
    p = subprocess.run(
        [client, where["host"], where["port"], where["user"], thumbprint, vm],
        env=dict(os.environ, V2C_PASSWORD=password),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    print(p.stdout, p.stderr)
    assert password not in p.stdout + p.stderr
    return p.returncode, p.stdout.splitlines()


@pytest.fixture(scope="module")
def walk(client, simulator):
    """The lines of one walk through all of it."""
    code, lines = run(client, simulator, simulator["sha1"])
    assert code == 0 and lines[-1] == "done"
    return lines


def found(lines):
    """How, and what, in the order of the walk."""
    return [x[len("found by "):].split(": ") for x in lines
            if x.startswith("found by")]


def test_server_is_known(walk, simulator):
    assert re.fullmatch(r"opened: VMware vCenter Server [\d.]+, vCenter 1, "
                        + simulator["sha1"], walk[0])


def test_each_way_finds_the_vm(walk):
    ways = ["moref", "instance uuid", "bios uuid", "path"]

    assert [how for how, _ in found(walk)] == ["name", "odd name"] + 2 * ways
    assert len({vm for _, vm in found(walk)[:1] + found(walk)[2:6]}) == 1
    assert len({vm for _, vm in found(walk)[1:2] + found(walk)[6:]}) == 1


def test_vm_is_read(walk):
    vms = [x for x in walk if x.startswith("vm:")]
    disks = [x for x in walk if x.startswith("disk:")]
    nics = [x for x in walk if x.startswith("nic:")]

    assert re.fullmatch("vm: DC0_H0_VM0 path DC0/vm/DC0_H0_VM0 power "
                        r"poweredOn cbt 0 snapshots 0 boot [1-9]\d*", vms[0])
    assert vms[1].startswith("vm: odd/name path DC1/vm/odd%2fname ")
    assert len(disks) == 2 and len(nics) == 2
    for disk in disks:
        assert re.fullmatch(
            r"disk: [1-9]\d* scsi0:0 ParaVirtualSCSIController [1-9]\d* "
            r"'\[LocalDS_0\] .*\.vmdk' VirtualDiskFlatVer2BackingInfo "
            r"persistent", disk)
    for nic in nics:
        assert re.fullmatch(r"nic: VirtualE1000 [0-9a-f:]{17} 'DC\d_DVPG0'",
                            nic)


def test_changes_arrive(walk):
    start = walk.index("snapshot: created")

    assert " cbt 1 snapshots 1 " in walk[start + 1]
    assert walk[start + 2] == "snapshot: v2c-test is ours, 1 disks"
    assert walk[start + 3:start + 5] == ["snapshot: removed",
                                         "snapshot: removed again"]
    assert " cbt 1 snapshots 0 " in walk[start + 5]
    assert walk[start + 6:start + 10] == ["power: poweredOff"] * 2 + [
        "power: poweredOn"] * 2


def test_refusals(walk):
    refused = [x for x in walk if "refused" in x]

    assert [x.split(":")[1].strip() for x in refused] == [
        "user", "notfound", "notfound", "notfound", "user"]
    assert "DC0/vm/twin (vm-" in refused[0]
    assert "DC1/vm/twin (vm-" in refused[0]


def test_esxi_host(client, program):
    with started(program, "esx") as where:
        code, lines = run(client, where, where["sha256"], vm="ha-host_VM0")

    assert code == 0 and lines[-1] == "done"
    assert re.match(r"opened: VMware ESXi [\d.]+, vCenter 0, ", lines[0])
    assert any(x.startswith("vm: ha-host_VM0 path ha-datacenter/vm/ha-host_VM0"
                            " power poweredOn cbt 0 ") for x in lines)


def test_wrong_password(client, simulator):
    code, lines = run(client, simulator, simulator["sha1"],
                      password="not-this-one")

    assert code == 1 and len(lines) == 1
    assert lines[0].startswith("failed: auth: ")
    assert "InvalidLogin" in lines[0]


@pytest.mark.parametrize("kind", ["sha1", "sha256"])
def test_wrong_thumbprint(client, simulator, kind):
    last = "00" if simulator[kind][-2:] != "00" else "01"
    code, lines = run(client, simulator, simulator[kind][:-2] + last)

    assert code == 1 and len(lines) == 1
    assert lines[0].startswith("failed: auth: ")
