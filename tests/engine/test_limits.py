"""What migrations share: slots of hosts and datastores, bandwidth."""
import json
import os
import signal
import subprocess
import time

from engine import wait_for
from worlds import MIB, vm, world

HOST = "esx1.lab"


def big(name, disks=2, **keys):
    """Disks that take a while through the link, and a guest at rest."""
    return vm(name, guest={}, disks=[{"size": 12 * MIB, "content": "random"}
                                     for _ in range(disks)], **keys)


def pids(engine, name, where):
    """Of our programs, by name, that work in a directory."""
    return [pid for pid, comm in engine.processes().items() if comm == name
            and os.readlink(f"/proc/{pid}/cwd").startswith(str(where))]


def worker_of(engine, vm_name):
    """The process that holds the VM's lock."""
    text = (engine.dir(vm_name) / "lock").read_text()
    return int(text.split()[1])


def hang(engine, match=""):
    """From here on no read of such disks comes back."""
    engine.lab.ctl("vddk", op="hang", count=0, match=match)


def unhang(engine):
    """The copiers that hang end, and go on from their maps."""
    engine.lab.ctl("vddk", clear=True)
    for pid in pids(engine, "v2c-copy", engine.control):
        os.kill(pid, signal.SIGKILL)


def handles(engine):
    return engine.lab.ctl("world")["handles"]


def host(engine):
    return next((h for h in engine.limit()["hosts"] if h["name"] == HOST),
                {"in_use": 0, "waiting": 0})


def copiers(engine):
    return {c["who"]: c["waiting"] for c in engine.limit()["copiers"]}


def reading(engine, vm_name):
    """Disks of the VM that are being read."""
    return [who for who, waits in copiers(engine).items()
            if who.startswith(vm_name) and not waits]


def test_slots_of_a_host_are_shared(start_engine):
    engine = start_engine(world(big("vm1"), big("vm2"), link_mbps=6))
    engine.limits = {"disks_per_host": 2}
    specs = [engine.spec("vm1"), engine.spec("vm2")]
    runs = [engine.start("--spec", spec) for spec in specs]
    wait_for("somebody to wait", lambda: host(engine)["waiting"])
    for name in "vm1", "vm2":
        wait_for(f"a round of {name}", lambda: engine.rounds(name) >= 1)
    assert handles(engine)["open_max"] == 2
    logs = engine.log("vm1") + engine.log("vm2")
    assert f"waiting for a slot of {HOST} (" in logs
    for spec in specs:
        engine.finalize("--spec", spec)
    for run in runs:
        engine.wait(run)
    # the source is down then: beyond the limit, but up to as many again
    assert handles(engine)["open_max"] <= 4
    for name in "vm1", "vm2":
        engine.compare(name)
        assert not any("waiting_for" in disk for disk in
                       engine.record(name)["disks"].values())
    assert not copiers(engine)


def test_slots_of_a_datastore(start_engine):
    engine = start_engine(world(
        big("vm1"), big("vm2", host="esx2.lab"),
        big("vm3", disks=1, datastore="other"), link_mbps=12))
    engine.limits = {"disks_per_datastore": 1, "disks_per_host": 0}
    run = engine.start("--spec", engine.spec("vm1", "vm2", "vm3"))
    wait_for("a round of all", lambda: min(
        engine.rounds(f"vm{i}") for i in (1, 2, 3)) >= 1)
    assert handles(engine)["open_max"] <= 2
    assert "waiting for a slot of datastore1 (" in \
        engine.log("vm1") + engine.log("vm2")
    assert "waiting for a slot" not in engine.log("vm3")
    run.send_signal(signal.SIGINT)
    engine.wait(run, 130)


def test_killed_worker_leaves_its_slot_to_its_copier(start_engine):
    engine = start_engine(world(big("vm1", 1), big("vm2", 1)))
    engine.limits = {"disks_per_host": 1}
    # reads that do not come back: it drains, and takes its time
    hang(engine)
    first = engine.start("--spec", engine.spec("vm1"))
    wait_for("the first copy", lambda: reading(engine, "vm1"))
    second = engine.start("--spec", engine.spec("vm2"))
    wait_for("the second to wait", lambda: host(engine)["waiting"])
    worker = worker_of(engine, "vm1")
    first.kill()
    os.kill(worker, signal.SIGKILL)
    wait_for("its end", lambda: worker not in engine.processes())
    assert reading(engine, "vm1") and not reading(engine, "vm2")
    assert host(engine)["in_use"] == 1
    unhang(engine)
    wait_for("a round", lambda: engine.rounds("vm2") >= 1)
    assert handles(engine)["open_max"] == 1
    second.send_signal(signal.SIGINT)
    engine.wait(second, 130)
    # and whoever comes again finds its slot
    engine.migrate("vm1")
    engine.compare("vm1")


def test_killed_copier_frees_its_slot(start_engine):
    engine = start_engine(world(big("vm1", 1)))
    engine.limits = {"disks_per_host": 1}
    hang(engine)
    run = engine.start("--spec", engine.spec("vm1"))
    wait_for("a copier", lambda: handles(engine)["open"] == 1)
    unhang(engine)
    wait_for("a round", lambda: engine.rounds("vm1") >= 1)
    assert "continuing from the map" in engine.log("vm1")
    run.send_signal(signal.SIGINT)
    engine.wait(run, 130)
    assert not copiers(engine)


def test_no_snapshot_while_waiting_and_no_waiting_when_down(start_engine):
    engine = start_engine(world(big("vm1", 1), big("vm2", 1)))
    engine.limits = {"disks_per_host": 1}
    waiting = engine.spec("vm2")
    second = engine.start("--spec", waiting)
    wait_for("a round", lambda: engine.rounds("vm2") >= 1)
    hang(engine, "vm1/")
    first = engine.start("--spec", engine.spec("vm1"))
    wait_for("the slot", lambda: reading(engine, "vm1"))
    # between its rounds it needs none, in the next one it does
    disk = wait_for("it to wait", lambda: next(
        (d for d in engine.record("vm2")["disks"].values()
         if "waiting_for" in d), None))
    assert disk["waiting_for"] == f"a slot of {HOST} (1 in use)"
    assert not engine.lab.state("vm2")["snapshots"]
    status = json.loads(subprocess.run(
        engine.command("status", "--json", "--spec", waiting), check=True,
        capture_output=True).stdout)[0]
    assert status["waiting_for"] == disk["waiting_for"]
    engine.finalize("--spec", waiting, "--now")
    engine.wait(second)
    assert reading(engine, "vm1")
    engine.compare("vm2")
    unhang(engine)
    wait_for("a round", lambda: engine.rounds("vm1") >= 1)
    first.send_signal(signal.SIGINT)
    engine.wait(first, 130)


def test_one_slot_suffices_for_all_disks(start_engine):
    disks = [{"size": 4 * MIB, "content": "random", "bus": i % 2,
              "unit": 6 - i} for i in range(4)]
    engine = start_engine(world(vm("vm1", disks=disks)))
    engine.limits = {"disks_per_host": 1, "disks_per_datastore": 1}
    engine.migrate("vm1", parallel_disks=1, rounds=2)
    assert handles(engine)["open_max"] <= 2
    engine.compare("vm1")


def test_number_of_slots_changes_while_running(start_engine):
    engine = start_engine(world(big("vm1", 3)))
    engine.limits = {"disks_per_host": 1}
    hang(engine)
    run = engine.start("--spec", engine.spec("vm1"))
    wait_for("one to wait", lambda: host(engine)["waiting"])
    assert handles(engine)["open_max"] <= 1
    engine.limit("--host", HOST, "--slots", "3")
    wait_for("all to read", lambda: len(reading(engine, "vm1")) == 3)
    shown = host(engine)
    assert (shown["slots"], shown["slots_configured"]) == (3, 1)
    unhang(engine)
    wait_for("a round", lambda: engine.rounds("vm1") >= 1)
    # a new round, of the same configuration, keeps what was set by hand
    assert host(engine)["slots"] == 3
    engine.limit("--host", HOST, "--slots", "default")
    assert host(engine)["slots"] == 1
    run.send_signal(signal.SIGINT)
    engine.wait(run, 130)


def test_short_buffers_lower_the_slots(start_engine):
    engine = start_engine(world(big("vm1", 3)))
    engine.lab.ctl("vddk", op="callback", code=2, count=0)
    run = engine.start("--spec", engine.spec("vm1"))
    event = wait_for("fewer slots", lambda: engine.stage("vm1") and
                     engine.events("vm1", "slots_lowered"))[0]
    assert event["host"] == HOST and event["slots"] == 1
    shown = host(engine)
    assert shown["lowered_to"] == 1 and shown["slots"] == 8
    assert f"{HOST} is short of NFC buffers" in engine.log("vm1")
    engine.lab.ctl("vddk", clear=True)
    wait_for("a round", lambda: engine.rounds("vm1") >= 1)
    run.send_signal(signal.SIGINT)
    engine.wait(run, 130)
    engine.migrate("vm1", rounds=2)
    engine.compare("vm1")


def test_rate_is_kept_and_changes_while_running(start_engine):
    rate = 256 << 10
    engine = start_engine(world(big("vm1")))
    engine.limits = {"rate_per_vm": "256KiB"}
    began = time.monotonic()
    spec = engine.spec("vm1")
    run = engine.start("--spec", spec)
    wait_for("some bytes", lambda: handles(engine)["bytes"] > 4 * MIB)
    read = handles(engine)["bytes"]
    # a tenth of a second at once, and one request; at this rate all of it
    # would take longer than we have patience
    assert read <= rate * (time.monotonic() - began + 0.1) + 2 * MIB
    shown = engine.limit()["vms"][0]
    assert (shown["rate"], shown["rate_configured"]) == (rate, rate)
    assert "rate=none" in engine.limit("--vm", "vm1", "none")
    wait_for("a round", lambda: engine.rounds("vm1") >= 1)
    engine.limit("--vm", "vm1", "default")
    assert engine.limit()["vms"][0]["rate"] == rate
    for args in (["--vm", "vm1", "--disk", "0", "9MB"],
                 ["--host", HOST, "8MB"], ["--machine", "7MB"]):
        engine.limit(*args)
    all_of_it = engine.limit()
    assert all_of_it["vms"][0]["disks"]["0"]["rate"] == 9000000
    assert host(engine)["rate"] == 8000000
    assert all_of_it["machine"]["rate"] == 7000000
    engine.limit("--vm", "vm1", "none")
    engine.finalize("--spec", spec)
    engine.wait(run)
    engine.compare("vm1")


def test_rates_of_the_configuration_arrive(start_engine):
    engine = start_engine(world(big("vm1", 1)))
    engine.limits = {"rate": "900MB", "rate_per_host": "800MB",
                     "rate_per_disk": "700MB"}
    run = engine.start("--spec", engine.spec("vm1", rate="600MB"))
    wait_for("a round", lambda: engine.rounds("vm1") >= 1)
    shown = engine.limit()
    run.send_signal(signal.SIGINT)
    engine.wait(run, 130)
    assert shown["machine"]["rate"] == 900000000
    assert shown["hosts"][0]["rate"] == 800000000
    assert shown["vms"][0]["rate"] == 600000000
    assert shown["vms"][0]["disks"]["0"]["rate"] == 700000000


def test_what_limit_refuses(start_engine):
    engine = start_engine(world(big("vm1", 1)))
    run = engine.start("--spec", engine.spec("vm1"))
    wait_for("a round", lambda: engine.rounds("vm1") >= 1)
    for args, said in (
            (["--machine", "200M"], "'200M' is no rate; give bytes or bits"),
            (["--host", "esx9.lab", "1MB"], "'esx9.lab' so far; known: " + HOST),
            (["--vm", "vm9", "1MB"], "there is no migration of VM vm9 in"),
            (["--vm", "vm1", "--disk", "7", "1MB"], "no disk '7'; it has 0"),
            (["--datastore", "datastore1", "1MB"], "--slots, but no rate"),
            (["--host", HOST, "--slots", "1001"], "not between 0 and 1000"),
            (["--host", HOST, "--machine", "1MB"], "give only one of"),
            (["1MB"], "of what?"), (["--vm", "vm1"], "give a rate")):
        assert said in engine.limit(*args, code=1)
    assert "machine: rate none" in engine.limit("--control-dir", engine.control)
    run.send_signal(signal.SIGINT)
    engine.wait(run, 130)
