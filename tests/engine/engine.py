"""The engine under test, against a lab: configuration, runs, truth."""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import time

BUILD = pathlib.Path(os.environ.get("V2C_BUILD", "build")).resolve()
ENGINE = BUILD / "src" / "main" / "v2c-engine"
PATIENCE_S = 300


def wait_for(what, condition):
    """The condition's value once it is true."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"no {what} within {PATIENCE_S} s")


class Engine:
    """One control directory and one folder of replicas."""

    def __init__(self, lab, folder):
        self.lab = lab
        self.folder = folder
        self.control = folder / "control"
        self.replicas = folder / "replicas"
        self.replicas.mkdir()
        self.vcenter = {k: lab.vcenter[k]
                        for k in ("user", "password", "ca_file")}
        self.vcenter["host"] = "{host}:{port}".format(**lab.vcenter)
        self.migration = {"vddk_path": lab.vddk_path,
                          "control_dir": str(self.control),
                          "finalize_settle_seconds": 1}
        self.limits = {}
        self.children = []
        self.program = ENGINE

    def ask_copier_for(self, *lines):
        """From here on a copier gets these lines in its request, too."""
        there = self.folder / "bin"
        there.mkdir()
        self.program = there / ENGINE.name
        shutil.copy(ENGINE, self.program)
        copier = there / "v2c-copy"
        real, lines = ENGINE.parent / "v2c-copy", "\\n".join(lines)
        copier.write_text(
            f"#!/bin/sh\n[ \"$1\" = copy ] || exec {real} \"$@\"\n"
            f"sed '1a {lines}' | exec {real} \"$@\"\n")
        copier.chmod(0o755)

    def config(self):
        path = self.folder / "config.yaml"
        # JSON is YAML
        path.write_text(json.dumps({"vcenter": self.vcenter,
                                    "migration": self.migration,
                                    "limits": self.limits}))
        path.chmod(0o600)
        return path

    def spec(self, *names, local=None, **migration):
        path = self.folder / f"{'-'.join(names)}.yaml".replace("/", "_")
        target = {"path": str(self.replicas), "overcommit": True,
                  **(local or {})}
        path.write_text(json.dumps({"vms": [
            {"vm": vm if isinstance(vm, dict) else {"name": vm},
             "migration": {"delta_interval": 1, **migration},
             "target": {"local": target}} for vm in names]}))
        return path

    def command(self, verb, *args):
        return [self.program, verb, "--config", self.config(), *map(str, args)]

    def start(self, *args):
        log = (self.folder / "run.log").open("a")
        child = subprocess.Popen(self.command("run", *args), stdout=log,
                                 stderr=log)
        self.children.append(child)
        return child

    def run(self, *args):
        return subprocess.run(self.command("run", *args), text=True,
                              capture_output=True, timeout=PATIENCE_S)

    def finalize(self, *args):
        subprocess.run(self.command("finalize", *args), check=True,
                       capture_output=True, timeout=PATIENCE_S)

    def limit(self, *args, code=0):
        """What `limit` says; without arguments what there is."""
        done = subprocess.run(
            self.command("limit", *(args or ["--json"])), text=True,
            capture_output=True, timeout=PATIENCE_S)
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout) if not args else (
            done.stdout if code == 0 else done.stderr)

    def events(self, vm, name):
        text = (self.dir(vm) / "events.jsonl").read_text()
        return [e for e in map(json.loads, text.splitlines())
                if e["event"] == name]

    def record(self, vm):
        for path in self.control.glob("*/state.json"):
            record = json.loads(path.read_text())
            if record["vm_name"] == vm:
                return record
        return None

    def dir(self, vm):
        return next(p.parent for p in self.control.glob("*/state.json")
                    if json.loads(p.read_text())["vm_name"] == vm)

    def stage(self, vm):
        return (self.record(vm) or {}).get("stage")

    def rounds(self, vm):
        disks = (self.record(vm) or {}).get("disks", {})
        return min((d["delta_rounds"] for d in disks.values()), default=0)

    def progress(self, vm):
        """Percent of the round, of the disk that is furthest but not done."""
        disks = (self.record(vm) or {}).get("disks", {})
        return max((d["progress"] for d in disks.values()
                    if d["progress"] < 100), default=0)

    def log(self, vm):
        return (self.dir(vm) / "migration.log").read_text()

    def wait(self, child, code=0):
        try:
            got = child.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise AssertionError("the run does not end:\n" + self.tail())
        assert got == code, self.tail()

    def tail(self):
        return "\n".join(
            (self.folder / "run.log").read_text().split("\n")[-200:])

    def migrate(self, *names, rounds=1, **migration):
        """From the first snapshot to done."""
        spec = self.spec(*names, **migration)
        child = self.start("--spec", spec)
        for vm in names:
            wait_for(f"{rounds} rounds of {vm}",
                     lambda: self.rounds(vm) >= rounds or self.gone(child))
        self.finalize("--spec", spec)
        self.wait(child)

    def gone(self, child):
        assert child.poll() is None, self.tail()
        return False

    def stop_all(self):
        for child in self.children:
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
        for child in self.children:
            try:
                child.wait(30)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def processes(self):
        """Pids and names of everything of ours that works in our folder."""
        found = {}
        for path in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                name = (path / "comm").read_text().strip()
                words = (path / "cmdline").read_text()
                cwd = os.readlink(path / "cwd")
            except OSError:
                continue
            if name in ("v2c-engine", "v2c-copy", "qemu-nbd") and (
                    str(self.folder) in words or
                    cwd.startswith(str(self.folder))):
                found[int(path.name)] = name
        return found

    def wait_for_quiet(self):
        wait_for("end of all processes", lambda: not self.processes())

    # -- truth ------------------------------------------------------------

    def compare(self, vm):
        """Each disk of the replica with what the lab's guest has written."""
        record = self.record(vm)
        for name, disk in record["disks"].items():
            truth = self.folder / "truth.raw"
            self.lab.ctl("truth", vm=vm, disk=disk["key"], file=str(truth))
            fmt = disk["target_qcow2"].rsplit(".", 1)[1]
            done = subprocess.run(
                ["qemu-img", "compare", "-U", "-f", "raw", "-F", fmt, truth,
                 disk["target_qcow2"]], capture_output=True, text=True)
            truth.unlink()
            assert done.returncode == 0, \
                f"{vm} disk {name}: {done.stdout}{done.stderr}"

    def assert_source_clean(self, vm):
        state = self.lab.state(vm)
        assert not state["snapshots"], state["snapshots"]
        assert not any(disk["orphans"] for disk in state["disks"])
