"""The bench itself: that it runs, that its copies are equal, and that what it
writes can be read.  Never how fast anything is."""
import argparse
import importlib
import json
import math
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parent
BUILD = pathlib.Path(os.environ.get("V2C_BUILD", "build"))
PLUGIN = BUILD / "tests/bench/nbdkit-labvddk-plugin.so"
CASES = {"base", "sparse", "ceiling", "link 0.2 ms", "link 2 ms", "link 10 ms",
         "link 20 ms", "link qcow2", "four disks", "delta"}
INTO_QCOW2 = {"base", "sparse", "link qcow2"}


def run(*args):
    return subprocess.run([HERE / "bench", "--build", BUILD, *args],
                          capture_output=True, text=True)


@pytest.fixture(scope="module")
def built():
    if not PLUGIN.exists():
        pytest.skip(f"{PLUGIN} is not built")
    missing = [n for n in ("nbdkit", "nbdcopy", "qemu-nbd", "qemu-img")
               if not shutil.which(n)]
    if missing:
        pytest.skip(f"{' '.join(missing)}: not installed")
    if re.search(rb"lib[at]san\.so", PLUGIN.read_bytes()):
        pytest.skip("a plugin with a sanitizer needs an nbdkit with it")


@pytest.fixture(scope="module")
def result(built, tmp_path_factory):
    """(what was printed, the JSON, the Markdown file) of a quick run; the
    bench has compared its copies with their disks."""
    folder = tmp_path_factory.mktemp("bench")
    (folder / "page.md").write_text(
        "before\n<!-- results: written by `make bench` -->\nold\n"
        "<!-- end of the results -->\nafter\n")
    done = run("--quick", "--json", folder / "b.json", "--markdown",
               folder / "page.md")
    assert done.returncode == 0, done.stderr
    return (done.stdout, json.loads((folder / "b.json").read_text()),
            (folder / "page.md").read_text())


def test_every_case_has_its_numbers(result):
    _, found, _ = result
    assert {c["name"] for c in found["cases"]} == CASES
    for case in found["cases"]:
        assert case["numbers"] and case["runs"]
        for number in case["numbers"]:
            assert math.isfinite(number["value"]) and number["value"] > 0
            assert (number["passed"] is None) == (not number["good"])


def programs_of(case, label):
    target = "qemu-nbd" if case in INTO_QCOW2 or "QCOW2" in label else "nbdkit"
    if label.startswith("v2c-copy"):
        return {"v2c-copy", target}
    if label == "one at a time":
        return {"bench-serial", "nbdkit", target}
    return {"nbdcopy", "nbdkit", target}


def test_every_process_is_counted(result):
    """CPU time and memory of each program of a pipeline, and of no other."""
    _, found, _ = result
    for case in found["cases"]:
        for label, runs in case["runs"].items():
            for r in runs:
                wanted = programs_of(case["name"], label)
                assert set(r["cpu_of"]) == wanted, (case["name"], label)
                assert set(r["peak_of"]) == wanted
                assert math.isclose(r["cpu_s"], sum(r["cpu_of"].values()))
                assert all(c > 0 for c in r["cpu_of"].values())
                assert all(p > 0 for p in r["peak_of"].values())


def test_all_data_was_read(result):
    """Of the base copies all, of the delta each area."""
    _, found, _ = result
    runs = {c["name"]: c["runs"]["v2c-copy"][0] for c in found["cases"]}
    assert runs["base"]["read"] == 32 << 20
    assert runs["link 10 ms"]["read"] == 64 << 20
    assert runs["four disks"]["read"] == 64 << 20
    assert runs["delta"]["read"] >= 200 * 65536


def test_machine_is_described(result):
    _, found, _ = result
    machine = found["machine"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", machine["date"])
    assert machine["cores"] > 0 and machine["memory_gib"] > 0
    assert set(machine["versions"]) == {"v2c-copy", "nbdkit", "nbdcopy",
                                        "qemu-nbd"}


def test_table_and_page_say_the_same(result):
    printed, found, page = result
    assert page.startswith("before\n") and page.endswith("after\n")
    assert "old" not in page
    for case in found["cases"]:
        assert f"{case['name']}: {case['what']}" in printed
        assert f"**{case['name']}**: {case['what']}." in page
        for number in case["numbers"]:
            assert number["what"] in printed and number["what"] in page


@pytest.fixture
def bench(built, tmp_path):
    sys.path.insert(0, str(HERE))
    kit = importlib.import_module("kit")
    args = argparse.Namespace(repeat=1, quick=True, full=False)
    return kit.Bench(BUILD, tmp_path, 8 << 20, args)


@pytest.mark.parametrize("way", ["ours_to_qcow2", "theirs_to_qcow2"])
def test_wrong_copy_is_no_result(bench, way):
    """One wrong byte on the way, that only a comparison can find."""
    cases, kit = (importlib.import_module(m) for m in ("cases", "kit"))
    case = cases.Case("x", "x")
    with bench.lab([{"size": 8 << 20}]) as source:
        disk, = source.disks
        disk.write(0, disk.size)
        source.lab.ctl("vddk", op="corrupt", nth=1, count=1)
        with pytest.raises(kit.Failure, match="the copy differs"):
            getattr(cases, way)(bench, case, disk, compare=True)


def test_failed_copy_is_no_result(bench):
    cases, kit = (importlib.import_module(m) for m in ("cases", "kit"))
    with bench.lab([{"size": 8 << 20}]) as source:
        disk, = source.disks
        disk.write(0, disk.size)
        with bench.null(disk.size // 2) as (target, _):
            with pytest.raises(kit.Failure, match="v2c-copy ended with 1"):
                kit.measure([kit.Ours(bench, disk, target)])
        with bench.vddk_server(disk) as server, \
                bench.null(disk.size // 2) as (target, _):
            with pytest.raises(kit.Failure, match="nbdcopy ended with"):
                kit.measure([kit.Nbdcopy(server, target)])


def test_memory_is_that_of_the_program(bench):
    """Not what our own process has, which a new one inherits at its fork."""
    kit = importlib.import_module("kit")
    ballast = bytearray(256 << 20)
    ballast[::4096] = b"x" * (len(ballast) // 4096)
    p = kit.Program(["sleep", "60"])
    assert p.stop() == -signal.SIGTERM
    assert 0 < p.peak < 64 << 20


def test_nothing_is_left_when_one_fails(bench):
    """One copier fails at once, the other would take half a minute."""
    kit = importlib.import_module("kit")
    with bench.lab([{"size": 8 << 20}] * 2) as source:
        for disk in source.disks:
            disk.write(0, disk.size)
        source.network(link_mib=1)
        good, bad = source.disks
        with bench.null(good.size) as (one, _), \
                bench.null(bad.size // 2) as (two, _):
            copies = [kit.Ours(bench, bad, two), kit.Ours(bench, good, one)]
            with pytest.raises(kit.Failure):
                kit.measure(copies)
            assert copies[1].program.code is not None
            assert not pathlib.Path(f"/proc/{copies[1].program.pid}").exists()


def test_target_is_served_as_by_the_engine():
    """Every word of its command and of its environment."""
    sys.path.insert(0, str(HERE))
    kit = importlib.import_module("kit")
    text = (HERE.parents[1] / "src/cloud/qemu.c").read_text()
    words = {}
    for name in ("argv", "server_env"):
        found = re.findall(
            name + r'\[\] = \{([^}]*"(?:qemu-nbd|MALLOC)[^}]*)\}', text)
        assert len(found) == 1, name
        words[name] = re.findall(r'"([^"]*)"', found[0])
    # those of a replica that is read back
    written = [w for w in words["argv"]
               if w not in ("--cache=none", "--read-only")]
    assert written == [w for w in kit.QEMU_NBD if w not in ("qcow2", "SOCKET")]
    assert words["server_env"] == [f"{k}={v}"
                                   for k, v in kit.QEMU_NBD_ENV.items()]


def test_cpu_time_of_all_threads_is_counted(bench):
    """To the last tick before the end, of all threads."""
    kit = importlib.import_module("kit")
    p = kit.Program(["/usr/bin/python3", "-c",
                     "import hashlib, threading, time\n"
                     "def work():\n"
                     "    while time.thread_time() < 0.3:\n"
                     "        hashlib.sha256(bytes(1 << 20)).digest()\n"
                     "ts = [threading.Thread(target=work) for _ in 'ab']\n"
                     "for t in ts: t.start()\n"
                     "for t in ts: t.join()\n"])
    assert p.reap() == 0
    assert p.cpu_s >= 0.6
