"""One case: the story of a disk that is copied round by round, as the worker
does it, while everything around the copier goes wrong.  The seed makes it; what
goes wrong is placed by counts of requests and of steps, not by the clock."""
import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import threading

import outside
from blockmap import Map, Wrong
from disks import BLOCK, SECTOR, Guest, Target, beyond, differences
from faults import draw, gentle
from journal import Directory
from nbd import Server, Snapshot

PATIENCE = 120  # seconds until a copier that must end has not
MiB = 1 << 20
# what may go wrong from outside; anything else is our own fault
CLASSES = {"net", "io", "busy", "nospace", "remote", "stopped", "notfound"}


class Record:
    """What a worker keeps of a disk; always stable."""

    def __init__(self, blank):
        self.base_copied, self.blank = False, blank
        self.change = self.marked = None  # snapshots
        self.plan = ""
        self.opened = False  # a copier said that the map is there

    def written(self):
        return self.base_copied or self.marked is not None or self.plan


class Plan:
    def __init__(self, name, mode, uncopied=False, areas=()):
        self.name, self.mode = name, mode
        self.uncopied, self.areas = uncopied, areas


class Run:
    """How one run of a copier goes, and what came of it."""

    def __init__(self):
        self.target_rules, self.source_rules = [], []
        self.keys, self.env = {}, {}
        self.hold = self.pace = 0
        self.multi = self.deaf = self.outside = self.busy = self.slow = \
            False
        self.events, self.code, self.errors = [], None, ""
        self.may_crash = self.hung = False

    def give_up(self, process):
        self.hung = True
        process.kill()

    def end(self):
        return self.events[-1] if self.events and \
            self.events[-1]["event"] == "end" else {}

    def result(self):
        """Line and exit code agree, or it is nothing."""
        said = self.end().get("result")
        if self.code == -signal.SIGKILL or \
                (self.may_crash and self.code == -signal.SIGSEGV):
            return "killed"
        # the last line may have been on its way when nobody listened any more
        if self.code not in {"done": [0], "failed": [1], "stopped": [3]}.get(
                said, [0, 1, 3] if self.deaf else []):
            raise Wrong(f"exit code {self.code} with {said}: {self.errors}")
        return said or "stopped"

    def harmful(self):
        return bool(self.target_rules or self.source_rules or self.deaf or
                    self.outside or "timeout" in self.keys or
                    {"POWERCUT_KILL", "POWERCUT_FAIL"} & self.env.keys())


class Case:
    def __init__(self, seed, build, kinds=None):
        self.seed, self.build = seed, build
        self.rng = random.Random(seed)
        self.told = []
        self.cases = kinds or ["file"] * 42 + ["nbd"] * 42 + \
            ["nbdkit"] * 6 + ["vddk"] * 10
        self.runs = 0

    def tell(self, text):
        self.told.append(text)

    # the world ---------------------------------------------------------------

    def size_of_disk(self):
        rng = self.rng
        kind = rng.random()
        if kind < 0.1:
            return rng.choice([SECTOR, BLOCK - SECTOR, BLOCK, BLOCK + SECTOR])
        if kind < 0.5:
            return rng.randint(1, 8 * BLOCK // SECTOR) * SECTOR
        if kind < 0.96:
            return rng.randint(1, 4 * MiB // SECTOR) * SECTOR
        # more than one page of the map
        return rng.randint(454 * BLOCK // SECTOR, 70 * MiB // SECTOR) * SECTOR

    def begin(self):
        rng = self.rng
        self.kind = rng.choice(self.cases)
        self.room = tempfile.mkdtemp(prefix="v2c-prop.")
        os.mkdir(self.path("ctl"))
        self.directory = Directory(self.path("ctl"), rng)
        size = self.size_of_disk()
        if self.kind == "vddk":
            self.guest = outside.LabGuest(min(size, 3 * MiB), rng, self.build,
                                          self.path("lab"))
        else:
            self.guest = Guest(size, rng)
        self.guest.fill(rng.choice([0, 0.1, 0.5, 0.9]))
        self.minimum = rng.choice([1, 1, 1, 512, 4096])
        self.maximum = rng.choice([BLOCK, 3 * BLOCK + 4096, 32 * MiB, 32 * MiB])
        self.can_zero = rng.random() < 0.8
        self.first_plan = rng.choice(["allocated"] * 4 + ["all", "compare"])
        self.vary = random.Random(rng.random())  # of what only looks
        self.targets = 0
        self.doubt, self.asked, self.answer = False, None, []
        self.plans = {}  # name to snapshot
        self.new_target()
        self.outside = self.kind != "vddk" and rng.random() < 0.04
        self.tell(f"{self.kind} source of {self.guest.size} bytes, target "
                  f"{'of nbdkit' if self.outside else 'with a cache'}, "
                  f"blocks of {self.minimum} to {self.maximum}")

    def path(self, name):
        return os.path.join(self.room, name)

    def new_target(self):
        """Another one; made by us it is blank, else it may hold anything."""
        rng = self.rng
        blank = rng.random() < 0.7
        size = -(-self.guest.size // self.minimum) * self.minimum + \
            rng.choice([0, 0, self.minimum * 7])
        blocks = {}
        for block in range(-(-size // BLOCK)) if not blank else ():
            if rng.random() < 0.5:
                n = min(BLOCK, size - block * BLOCK)
                blocks[block] = self.guest.noise(n).ljust(BLOCK, b"\0")
        self.targets += 1
        self.target = Target(size, blocks, rng)
        self.record = Record(blank)
        self.tell(f"target {self.targets} of {size} bytes, "
                  f"{'blank' if blank else 'with something on it'}")

    def end(self, keep):
        self.guest.close()
        if not keep:
            shutil.rmtree(self.room)

    # the worker ----------------------------------------------------------------

    def start_over(self, why):
        self.tell(f"start over: {why}")
        self.record = Record(False)
        if self.directory.read("map") is not None:
            self.directory.remove("map")

    def look(self):
        """As a worker that starts: is the map there?"""
        raw = self.directory.read("map")
        if self.record.written() and (raw is None or not Map(raw).valid):
            if self.record.opened:
                raise Wrong("the map is lost")
            self.start_over("no map")

    def plan(self, snapshot):
        r = self.record
        since = r.change if r.base_copied else r.marked
        same = f"base snapshot-{snapshot} 52/{snapshot}"
        if not r.base_copied and (since is None or r.plan == same):
            plan = Plan(same, self.first_plan)
        else:
            kind = "delta" if r.base_copied else "base"
            mode = "compare" if self.doubt else "list"
            name = (f"{kind} snapshot-{snapshot} 52/{snapshot} from "
                    f"52/{since} {mode}")
            plan = Plan(name, mode, mode == "list" and not r.base_copied)
            if mode == "list":
                plan.areas = self.areas(since, snapshot)
        r.plan = plan.name
        self.plans[plan.name] = snapshot
        return plan

    def areas(self, since, until):
        """The tracker says the same again, in its own words."""
        key = (since, until)
        if self.asked != key:
            self.asked, self.answer = key, self.guest.areas(since, until)
        return self.answer

    # a run of the copier --------------------------------------------------------

    def request(self, plan, snapshot, run):
        keys = {"target.zeroed": "yes" if self.record.blank else "no",
                "target.id": f"target {self.targets}", "disk.id": "6000C29b",
                "disk.size": self.guest.snapshots[snapshot][2],
                "map": self.path("ctl/map"), "plan.id": plan.name,
                "plan": plan.mode, **run.keys}
        if plan.uncopied:
            keys["uncopied"] = "yes"
        lines = ["v2c-copy 1"] + [f"{k} {v}" for k, v in keys.items()]
        lines += [f"extent {start} {n}" for start, n in plan.areas]
        return "\n".join(lines + ["end", ""]).encode()

    def serve_target(self, run):
        if self.outside:
            return outside.nbdkit_target(self, run)
        return Server(self.path("t.sock"), self.target, self.rng,
                      run.target_rules, run.hold, run.pace, run.multi,
                      self.can_zero, self.minimum, self.maximum)

    def serve_source(self, run, snapshot):
        blocks, _, size = self.guest.snapshots[snapshot]
        if self.kind == "vddk":
            return outside.LabSource(self, run, snapshot)
        if self.kind == "nbd":
            unit = self.rng.choice([SECTOR, 4096, 4 * BLOCK])
            return Server(self.path("s.sock"), Snapshot(blocks, size, unit),
                          self.rng, run.source_rules, run.hold, 0,
                          allocation=self.rng.random() < 0.8)
        file = outside.as_file(self, blocks, size, snapshot)
        if self.kind == "nbdkit":
            return outside.nbdkit_source(self, run, file)
        return outside.FileSource(file)

    def go(self, plan, snapshot, run):
        self.runs += 1
        target = self.serve_target(run)
        source = self.serve_source(run, snapshot)
        try:
            run.keys["target.uri"] = target.uri
            run.keys.update(source.keys())
            self.copy(plan, snapshot, run, [target, source])
        finally:
            source.stop()
            target.stop()
        self.directory.take()
        self.told[-1] += (f": {run.result()} {run.code}"
                          f" {run.end().get('error', '')}")

    def copy(self, plan, snapshot, run, servers):
        env = {**os.environ, **run.env, **self.directory.env(),
               "LD_PRELOAD": f"{self.build}/tests/property/powercut.so"}
        # a copier that gives up does not wait for its threads
        for name, option in (("ASAN_OPTIONS", "verify_asan_link_order=0"),
                             ("TSAN_OPTIONS", "report_thread_leaks=0")):
            env[name] = ":".join([env.get(name, ""), option])
        for server in servers:
            env.update(server.env())
        p = subprocess.Popen([f"{self.build}/src/main/v2c-copy", "copy"],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, env=env, close_fds=False)
        for server in servers:
            server.process = p
        hung = threading.Timer(PATIENCE, run.give_up, [p])
        hung.start()
        text = self.request(plan, snapshot, run)
        if run.deaf:
            out = self.listen_no_more(p, text)
        else:
            out, errors = p.communicate(text)
            run.errors = errors.decode(errors="replace")
        hung.cancel()
        run.code = p.returncode
        if run.hung:
            raise Wrong("it hangs")
        run.events = [json.loads(line) for line in out.split(b"\n")[:-1]]

    @staticmethod
    def listen_no_more(p, text):
        p.stdin.write(text)
        p.stdin.close()
        out = p.stdout.readline()
        p.stdout.close()
        p.stderr.read()
        p.stderr.close()
        p.wait()
        return out

    # judgement ---------------------------------------------------------------

    def check(self, raw, stable, what):
        if raw is None:
            if self.record.opened:
                raise Wrong(f"the map is lost{what}")
            return None
        seen = Map(raw)
        if not seen.valid:
            raise Wrong(f"no header of the map is valid{what}")
        try:
            seen.check(stable)
            if seen.plan in self.plans:
                seen.agrees(self.guest.contents(self.plans[seen.plan]))
        except Wrong as e:
            raise Wrong(f"{e}{what}") from None
        return seen

    def look_around(self, plan=None):
        """What holds at every instant, also if the power failed now; with a
        plan: what holds once it is done."""
        target, directory = self.target, self.directory
        cuts = 5 if target.waiting() or directory.waiting() else 0
        for what in ("", *[" after a power cut"] * cuts):
            stable, raw = target.stable, directory.read("map")
            if what:
                stable = target.after_cut(self.vary)
                raw = directory.after_cut(self.vary).get("map")
            seen = self.check(raw, stable, what)
            if plan:
                seen.prove(plan.name)

    def numbers(self, run):
        """The counters of a run that ended add up."""
        opened = [e for e in run.events if e["event"] == "open"]
        last = 0
        for e in run.events:
            if "done" in e:
                if not last <= e["done"] <= e["total"]:
                    raise Wrong(f"done {e['done']} of {e['total']} after "
                                f"{last}")
                last = e["done"]
        end = run.end()
        if not end or not opened:
            return
        new = end["done"] - (opened[0]["plan"] - opened[0]["todo"])
        if end["total"] != opened[0]["plan"] or \
                new != end["written"] + end["zero"] + end["same"]:
            raise Wrong(f"numbers that do not add up: {opened[0]} {end}")
        if end["result"] == "done" and end["done"] != end["total"]:
            raise Wrong(f"done, but {end['done']} of {end['total']}")

    def judge(self, plan, snapshot):
        """The round is done: all of the target is the snapshot."""
        blocks, _, size = self.guest.snapshots[snapshot]
        bad = differences(self.target.stable, blocks, size)
        if bad:
            raise Wrong(f"done, but blocks {bad[:9]} on stable storage are "
                        "not the snapshot's")
        if self.target.blank and beyond(self.target.stable, size):
            raise Wrong("done, but the target has something past the disk")
        self.look_around(plan)

    def attempt(self, snapshot, run, told):
        """True if the worker takes the round for done."""
        self.look()
        plan = self.plan(snapshot)
        self.tell(f"{plan.name}: {told}")
        self.go(plan, snapshot, run)
        opened = any(e["event"] == "open" for e in run.events)
        self.record.opened |= opened
        self.look_around()
        self.numbers(run)
        result = run.result()
        if result == "failed" and run.end()["class"] not in CLASSES:
            raise Wrong(f"a failure of our own: {run.end()}")
        if result != "done" and not run.harmful():
            raise Wrong(f"nothing was in its way: {run.result()} "
                        f"{run.end()} {run.errors}")
        if result == "done":
            self.judge(plan, snapshot)
        if run.harmful() and self.rng.random() < 0.1:
            self.tell("the worker dies and records nothing of this")
            return False
        if opened and not self.record.base_copied:
            self.record.marked = snapshot
        return result == "done"

    # the story ---------------------------------------------------------------

    def refused(self, snapshot, why, **keys):
        """A map that does not fit is no licence to write; keys: of the
        request, as they were."""
        keys = {k.replace("_", "."): v for k, v in keys.items()}
        before = self.target.writes
        run = gentle(self)
        run.keys.update(keys)
        self.tell(f"{why}, with the map as it was")
        self.go(Plan("base anew", "all"), snapshot, run)
        if run.result() != "failed" or run.end()["class"] != "damaged":
            raise Wrong(f"{why} and nobody minded: {run.end()}")
        if self.target.writes != before:
            raise Wrong(f"{why} and the target was written to")

    def replace_target(self, snapshot):
        if self.directory.read("map") is None:
            return
        was = self.record
        self.new_target()
        blank = self.record.blank
        self.record = was
        self.refused(snapshot, "the target is another")
        self.start_over("the target is another")
        self.record.blank = blank and self.rng.random() < 0.5

    def resize(self):
        """The guest's disk grows; nothing of before fits."""
        if self.kind == "vddk" or self.directory.read("map") is None:
            return
        self.guest.grow(self.rng.randint(1, 5 * BLOCK // SECTOR) * SECTOR)
        was = self.record
        self.new_target()
        record, self.record = self.record, was
        self.tell(f"the disk has {self.guest.size} bytes now")
        self.refused(self.guest.snapshot(), "the disk has grown",
                     target_id=f"target {self.targets - 1}")
        self.start_over("the disk has grown")
        self.record.blank = record.blank

    def between(self, snapshot):
        """After a run that did not end well; the snapshot to go on with."""
        rng = self.rng
        what = rng.choice(["nothing", "nothing", "power", "power", "target",
                           "directory", "snapshot", "snapshot", "doubt",
                           "rot", "lost"])
        self.tell(f"then: {what}")
        if what in ("power", "target") and not self.outside:
            self.target.cut()
        if what in ("power", "directory"):
            self.directory.cut(rng)
            self.look_around()
        if what == "snapshot":
            told = self.guest.works(rng.randint(0, 5))
            if rng.random() < 0.5:
                told += self.guest.undo(self.record.change)
                self.doubt |= rng.random() < 0.5
            snapshot = self.guest.snapshot()
            self.tell(f"snapshot {snapshot}: " + ", ".join(told))
        if what == "doubt":
            self.doubt = not self.doubt
        if what == "rot":
            self.rot()
        if what == "lost" and rng.random() < 0.3 and \
                self.directory.read("map") is not None:
            self.start_over("the map was removed")
        return snapshot

    def rot(self):
        """A page of the map is damaged."""
        files = {n: self.directory.read(n)
                 for n in os.listdir(self.directory.path)}
        raw = files.get("map")
        if not raw or len(raw) <= 8192:
            return
        at = self.rng.randrange(8192, len(raw))
        page = at // 4096 * 4096
        if not raw[page:page + 4096].strip(b"\0"):
            return
        flip = self.rng.randint(1, 255)
        files["map"] = raw[:at] + bytes([raw[at] ^ flip]) + raw[at + 1:]
        self.directory.become(files)

    def round(self):
        rng = self.rng
        told = self.guest.works(rng.choice([0, 1, 3, 10]))
        snapshot = self.guest.snapshot()
        self.tell(f"snapshot {snapshot}: " + ", ".join(told))
        self.doubt = rng.random() < 0.25
        for _ in range(rng.choice([0, 1, 1, 2, 3, 4])):
            run = draw(self)
            if self.attempt(snapshot, run, run.told):
                return self.record_done(snapshot)
            snapshot = self.between(snapshot)
        run = gentle(self)
        if not self.attempt(snapshot, run, "undisturbed"):
            raise Wrong("nothing was in its way, and it is not done")
        return self.record_done(snapshot)

    def record_done(self, snapshot):
        r = self.record
        r.base_copied, r.change, r.plan = True, snapshot, ""

    def rounds(self):
        for i in range(self.rng.choice([1, 2, 2, 3, 4])):
            if i and self.rng.random() < 0.06:
                self.replace_target(len(self.guest.snapshots) - 1)
            elif i and self.rng.random() < 0.06:
                self.resize()
            elif i and self.rng.random() < 0.2:
                self.tell("the power fails")
                self.target.cut()
                self.directory.cut(self.rng)
            self.round()

    def run(self):
        """Raises Wrong, and leaves its files, if the property does not
        hold."""
        keep = True
        self.begin()
        try:
            self.rounds()
            keep = False
        finally:
            self.end(keep)
