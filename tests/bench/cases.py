"""What is measured.  A case is a function of a Bench that returns a Case."""
import contextlib
import statistics

from kit import (GIB, MIB, QEMU_NBD_ENV, Failure, Nbdcopy, Ours, Serial,
                 measure)

LINK_MIB = 1192  # MiB/s: 1250 MB/s, a link of 10 Gbit/s
SLOW_MIB = 200   # what this machine can write to QCOW2 beside the copy
BLOCK = 65536
AREAS = 20000
DELTA_MS = 2
LATENCIES_MS = (0.2, 2, 10, 20)


class Number:
    """A line of the table.  `good` compares value and goal: "<=", ">=", or
    "" where the design names no number."""

    def __init__(self, what, value, good="", goal=None, ours=None,
                 theirs=None, unit=""):
        self.what, self.value, self.good, self.goal = what, value, good, goal
        self.ours, self.theirs, self.unit = ours, theirs, unit

    def passed(self):
        if not self.good:
            return None
        if self.good == "<=":
            return self.value <= self.goal
        return self.value >= self.goal


class Case:
    def __init__(self, name, what):
        self.name, self.what = name, what
        self.runs = {}  # label to the results of measure()
        self.numbers = []

    def run(self, label, copies):
        self.runs.setdefault(label, []).append(measure(copies))

    def median(self, label, of):
        return statistics.median(of(r) for r in self.runs[label])

    def add(self, *args, **keys):
        self.numbers.append(Number(*args, **keys))

    def against(self, what, of, good="", goal=None, unit="", label=None):
        """Ratio of v2c-copy to the pipeline it is compared with."""
        a, b = self.median(OURS, of), self.median(label or THEIRS, of)
        self.add(what, a / b, good, goal, ours=a, theirs=b, unit=unit)


OURS = "v2c-copy"
THEIRS = "nbdkit vddk + nbdcopy"
OUR_QEMU = "nbdkit vddk + nbdcopy + the engine's qemu-nbd"
FILE = "nbdkit file + nbdcopy"
SERIAL = "one at a time"


def copier_peak(case, label=OURS):
    case.add("peak memory of v2c-copy", max(
        r["peak_of"]["v2c-copy"] for r in case.runs[label]) / MIB,
        "<=", 64, unit="MiB")


def ours_to_qcow2(bench, case, disk, compare):
    with bench.qcow2(disk.size) as (target, image):
        case.run(OURS, [Ours(bench, disk, target)])
        if compare:
            disk.compare(image)


def theirs_to_qcow2(bench, case, disk, compare, label=None):
    env = {} if not label else QEMU_NBD_ENV
    with bench.vddk_server(disk) as source, \
            bench.qcow2(disk.size, env) as (target, image):
        case.run(label or THEIRS, [Nbdcopy(source, target)])
        if compare:
            disk.compare(image)


def both_to_qcow2(bench, case, disk, compare):
    """One after the other, so that what disturbs meets both."""
    ours_to_qcow2(bench, case, disk, compare)
    theirs_to_qcow2(bench, case, disk, compare)
    theirs_to_qcow2(bench, case, disk, compare, OUR_QEMU)


def cpu_numbers(case, gib, goals):
    case.against("CPU seconds per GiB", lambda r: r["cpu_s"] / gib,
                 *(("<=", 0.60) if goals else ()), unit="s/GiB")
    case.against("wall time", lambda r: r["wall_s"],
                 *(("<=", 0.85) if goals else ()), unit="s")
    case.against("CPU, theirs with the engine's qemu-nbd",
                 lambda r: r["cpu_s"] / gib, unit="s/GiB", label=OUR_QEMU)
    case.against("wall time, the same", lambda r: r["wall_s"], unit="s",
                 label=OUR_QEMU)
    for name, label in (("v2c-copy", OURS), ("qemu-nbd", OURS),
                        ("nbdkit", THEIRS), ("nbdcopy", THEIRS),
                        ("qemu-nbd", THEIRS)):
        case.add(f"of it {name} ({label})", case.median(
            label, lambda r, n=name: r["cpu_of"][n] / gib), unit="s/GiB")


def base(bench):
    size = bench.size // 2
    case = Case("base", f"base copy of {size / GIB:g} GiB, all of it random "
                "data, into QCOW2; no latency, no limit of the link")
    with bench.lab([{"size": size}]) as source:
        disk, = source.disks
        disk.write(0, size)
        for n in range(bench.repeat):
            both_to_qcow2(bench, case, disk, compare=n == 0)
    cpu_numbers(case, size / GIB, goals=True)
    copier_peak(case)
    return case


def sparse(bench):
    """A third random data, a third zeroes that were written, the rest was
    never written; in runs of 2 MiB."""
    size = bench.size // 2
    case = Case("sparse", f"base copy of {size / GIB:g} GiB: one third random "
                "data, one third written zeroes, one third holes, in runs of "
                "2 MiB, into QCOW2; no latency")
    with bench.lab([{"size": size}]) as source:
        disk, = source.disks
        for at in range(0, size - 4 * MIB, 6 * MIB):
            disk.write(at, 2 * MIB)
            disk.write(at + 2 * MIB, 2 * MIB, zero=True)
        for n in range(bench.repeat):
            both_to_qcow2(bench, case, disk, compare=n == 0)
    cpu_numbers(case, size / GIB, goals=False)
    return case


# the link -------------------------------------------------------------------

def share(result, seconds, link_mib):
    return result["read"] / result[seconds] / (link_mib * MIB)


def link_share(case, label, link_mib):
    return case.median(label, lambda r: share(r, "data_s", link_mib))


def theirs_share(case, label, size, link_mib):
    """nbdcopy says nothing of its phases: from its start to its end."""
    return case.median(label,
                       lambda r: size / r["wall_s"] / (link_mib * MIB))


def one_latency(bench, source, ms, goal, most):
    """most: MiB/s that the machine can do at all."""
    disk, = source.disks
    case = Case(f"link {ms:g} ms", f"base copy of {disk.size / GIB:g} GiB of "
                f"random data at {ms:g} ms per read through a link of "
                f"{LINK_MIB} MiB/s, into a target that forgets (nbdkit null)")
    source.network(int(ms * 1000), LINK_MIB)
    for n in range(bench.repeat):
        with bench.null(disk.size) as (target, _):
            case.run(OURS, [Ours(bench, disk, target)])
        if n:
            continue
        with bench.vddk_server(disk) as server, \
                bench.null(disk.size) as (target, _):
            case.run(THEIRS, [Nbdcopy(server, target)])
        with bench.file_server(disk, int(ms * 1000), LINK_MIB * MIB) \
                as server, bench.null(disk.size) as (target, _):
            case.run(FILE, [Nbdcopy(server, target)])
    case.add("share of the link, open to end",
             link_share(case, OURS, LINK_MIB), *goal)
    case.add("share of the link, start to exit", case.median(
        OURS, lambda r: share(r, "wall_s", LINK_MIB)))
    case.add("share of what link and machine allow", case.median(
        OURS, lambda r: share(r, "wall_s", min(LINK_MIB, most))))
    for label in (THEIRS, FILE):
        case.add(f"share of the link, {label}",
                 theirs_share(case, label, disk.size, LINK_MIB))
    return case


def ceiling(bench, source):
    """What this machine can do at all: no link can be used beyond that."""
    disk, = source.disks
    case = Case("ceiling", f"base copy of {disk.size / GIB:g} GiB of random "
                "data; no latency, no limit of the link, into a target that "
                "forgets")
    source.network()
    for _ in range(bench.repeat):
        with bench.null(disk.size) as (target, _):
            case.run(OURS, [Ours(bench, disk, target)])
        with bench.vddk_server(disk) as server, \
                bench.null(disk.size) as (target, _):
            case.run(THEIRS, [Nbdcopy(server, target)])
    case.against("MiB per second, start to exit",
                 lambda r: disk.size / MIB / r["wall_s"], unit="MiB/s")
    case.against("CPU seconds per GiB",
                 lambda r: r["cpu_s"] / (disk.size / GIB), unit="s/GiB")
    return case


def link(bench):
    with bench.lab([{"size": bench.size}]) as source:
        source.disks[0].write(0, bench.size)
        top = ceiling(bench, source)
        most = top.numbers[0].ours
        return [top] + [
            one_latency(bench, source, ms, (">=", 0.97) if ms == 10 else (),
                        most)
            for ms in LATENCIES_MS]


def link_qcow2(bench):
    size = bench.size // 4
    case = Case("link qcow2", f"base copy of {size / GIB:g} GiB of random "
                f"data at 10 ms per read through a link of {SLOW_MIB} MiB/s, "
                "into QCOW2")
    with bench.lab([{"size": size}]) as source:
        disk, = source.disks
        disk.write(0, size)
        source.network(10000, SLOW_MIB)
        for n in range(bench.repeat):
            ours_to_qcow2(bench, case, disk, compare=False)
            theirs_to_qcow2(bench, case, disk, compare=False)
    case.add("share of the link, open to end",
             link_share(case, OURS, SLOW_MIB))
    case.add(f"share of the link, {THEIRS}",
             theirs_share(case, THEIRS, size, SLOW_MIB))
    return case


def four(bench):
    size = bench.size // 4
    case = Case("four disks", f"base copies of 4 disks of {size / GIB:g} GiB "
                f"of random data at the same time, at 10 ms per read through "
                f"one link of {LINK_MIB} MiB/s, into targets that forget")
    with bench.lab([{"size": size}] * 4) as source:
        for disk in source.disks:
            disk.write(0, size)
        source.network(10000, LINK_MIB)
        for _ in range(bench.repeat):
            with contextlib.ExitStack() as stack:
                case.run(OURS, [
                    Ours(bench, d, stack.enter_context(bench.null(size))[0])
                    for d in source.disks])
        with contextlib.ExitStack() as stack:
            case.run(THEIRS, [
                Nbdcopy(stack.enter_context(bench.vddk_server(d)),
                        stack.enter_context(bench.null(size))[0])
                for d in source.disks])
    case.add("share of the link, first open to last end",
             link_share(case, OURS, LINK_MIB))
    case.add(f"share of the link, {THEIRS}",
             theirs_share(case, THEIRS, 4 * size, LINK_MIB))
    copier_peak(case)
    return case


# changed areas --------------------------------------------------------------

def delta(bench):
    """The lab's "sparse" content has one block of data in 128, by chance."""
    areas = AREAS if not bench.quick else 200
    size = areas * 140 * BLOCK
    sample = areas if bench.full else min(500, areas)
    case = Case("delta", f"{areas} areas of 64 KiB, scattered over a disk of "
                f"{size / GIB:.0f} GiB, at {DELTA_MS} ms per read through a link "
                f"of {LINK_MIB} MiB/s; one at a time: measured for "
                f"{sample} of them")
    with bench.lab([{"size": size, "content": "sparse"}]) as source:
        disk, = source.disks
        extents = disk.areas()[:areas]
        if len(extents) < areas:
            raise Failure(f"the disk has only {len(extents)} areas")
        nbytes = sum(n for _, n in extents)
        source.network(DELTA_MS * 1000, LINK_MIB)
        for n in range(bench.repeat):
            delta_pair(bench, case, disk, extents, sample if not n else 0)
    delta_numbers(case, areas, nbytes, sample / areas)
    case.add("CPU time of an area, with its target", case.median(
        OURS, lambda r: r["cpu_s"] / areas * 1e6), unit="us")
    return case


def delta_pair(bench, case, disk, extents, sample):
    keys = {"extents": extents, "plan": "list"}
    with bench.null(disk.size) as (target, _):
        case.run(OURS, [Ours(bench, disk, target, **keys)])
    with bench.qcow2(disk.size) as (target, _):
        case.run(TO_QCOW2, [Ours(bench, disk, target, **keys)])
    if not sample:
        return
    some = extents[::len(extents) // sample][:sample]
    with bench.vddk_server(disk) as source, \
            bench.null(disk.size) as (target, _):
        case.run(SERIAL, [Serial(bench, source, target, some)])


TO_QCOW2 = "v2c-copy into QCOW2"


def delta_numbers(case, areas, nbytes, part):
    ours = case.median(OURS, lambda r: r["data_s"])
    serial = case.median(SERIAL, lambda r: r["wall_s"]) / part
    limit = nbytes / (LINK_MIB * MIB) + DELTA_MS / 1000
    case.add("times faster than one at a time", serial / ours, ">=", 30,
             ours=ours, theirs=serial, unit="s")
    # what a busy machine adds to the slow one must not flatter the fast one
    alone = DELTA_MS / 1000 * areas + limit
    case.add("the same, had it to wait for nothing but link and latency",
             alone / ours, ours=ours, theirs=alone, unit="s")
    case.add("share of what the link allows", limit / ours, ">=", 0.90,
             ours=ours, theirs=limit, unit="s")
    case.add("read, of what had to be", case.median(
        OURS, lambda r: r["read"] / nbytes))
    into = case.median(TO_QCOW2, lambda r: r["data_s"])
    case.add("into QCOW2: times faster than one at a time", serial / into,
             ours=into, theirs=serial, unit="s")
    copier_peak(case)


CASES = {"base": base, "sparse": sparse, "link": link,
         "link-qcow2": link_qcow2, "four": four, "delta": delta}


def run_all(bench, names, say):
    """The cases of these names, one after the other."""
    done = []
    for name in names:
        say(f"{name} ...")
        found = CASES[name](bench)
        done += found if isinstance(found, list) else [found]
    return done
