"""govmomi, which we did not write, against the lab's vCenter.

Needs go and Debian's golang-github-vmware-govmomi-dev."""
import os
import pathlib
import shutil
import subprocess
import urllib.parse

import pytest

from labkit import lab, start_lab  # noqa: F401 (fixtures)

GOPATH = "/usr/share/gocode"
SOURCE = pathlib.Path(__file__).parent.parent / "real" / "govc"


@pytest.fixture(scope="module")
def govc(tmp_path_factory):
    built = pathlib.Path(os.environ.get("V2C_GO", "/nonexistent")) / "govc"
    if built.exists():
        return str(built)
    if not shutil.which("go"):
        pytest.skip("needs go")
    if not pathlib.Path(GOPATH, "src/github.com/vmware/govmomi").is_dir():
        pytest.skip("needs golang-github-vmware-govmomi-dev")
    home = tmp_path_factory.mktemp("govc")
    shutil.copytree(SOURCE, home / "src" / "govc")
    env = dict(os.environ, GOPATH=GOPATH, GO111MODULE="off", GOFLAGS="",
               GOCACHE=os.environ.get("GOCACHE", str(home / "cache")))
    subprocess.run(["go", "build", "-o", str(home / "govc"), "."], check=True,
                   cwd=home / "src" / "govc", env=env)
    return str(home / "govc")


def test_walk(lab, govc):  # noqa: F811
    lab.ctl("guest", vm="db01", paused=True)
    url = "https://{}:{}@{}:{}/sdk".format(
        urllib.parse.quote(lab.vcenter["user"], safe=""),
        urllib.parse.quote(lab.vcenter["password"], safe=""),
        lab.vcenter["host"], lab.vcenter["port"])
    done = subprocess.run([govc, url, "prod/db01"], capture_output=True,
                          text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    told = lab.vms["db01"]
    assert lines[0] == "api VirtualCenter"
    assert sorted(lines[1:4]) == sorted(
        f"vm {vm['name']} {vm['uuid']}" for vm in lab.vms.values())
    assert lines[4] == f"found {told['moref']} {told['path']}"
    assert sorted(lines[5:7]) == sorted(
        f"disk {d['key']} {d['size']} {d['size']} 0" for d in told["disks"])
    assert lines[7] == "power poweredOff"
    state = lab.state("db01")
    assert state["power"] == "poweredOff" and not state["snapshots"]
    assert lab.ctl("world")["sessions"] == 0
