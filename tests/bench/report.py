"""What the bench says: a table for people, Markdown, JSON."""
import datetime
import os
import pathlib
import platform
import re
import statistics
import subprocess

BEGIN = "<!-- results: written by `make bench` -->"
END = "<!-- end of the results -->"
DISTURBED = 0.10  # share of the machine that others used


def first_line(argv):
    out = subprocess.run(argv, capture_output=True, text=True, check=True)
    return (out.stdout or out.stderr).splitlines()[0].strip()


def field(path, name):
    for line in pathlib.Path(path).read_text().splitlines():
        if line.startswith(name):
            return line.split(":", 1)[1].strip()
    return "unknown"


def kind_of(folder):
    """The file system that holds the disks and replicas."""
    return first_line(["stat", "-f", "-c", "%T", folder])


def machine(bench):
    memory = int(field("/proc/meminfo", "MemTotal").split()[0])
    return {
        "date": datetime.date.today().isoformat(),
        "cores": os.cpu_count(),
        "cpu": field("/proc/cpuinfo", "model name"),
        "memory_gib": round(memory / (1 << 20), 1),
        "kernel": ".".join(platform.release().split(".")[:2]),
        "disks_on": kind_of(bench.folder),
        "versions": {
            "v2c-copy": first_line([bench.program("src/main/v2c-copy"),
                                    "--version"]),
            "nbdkit": first_line(["nbdkit", "--version"]),
            "nbdcopy": first_line(["nbdcopy", "--version"]),
            "qemu-nbd": first_line(["qemu-nbd", "--version"]),
        },
    }


def as_json(machine_facts, bench, cases):
    return {
        "machine": machine_facts,
        "repeat": bench.repeat, "quick": bench.quick, "full": bench.full,
        "cases": [{
            "name": c.name, "what": c.what, "runs": c.runs,
            "numbers": [{**vars(n), "passed": n.passed()}
                        for n in c.numbers]} for c in cases]}


def shown(value, unit=""):
    if value is None:
        return ""
    digits = 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:.{digits}f}{' ' + unit if unit else ''}"


def verdict(number):
    return {None: "", True: "yes", False: "NO"}[number.passed()]


def rows(case):
    for n in case.numbers:
        alone = n.ours is None
        yield (n.what, shown(n.ours, n.unit), shown(n.theirs, n.unit),
               shown(n.value, n.unit if alone else ""),
               f"{n.good} {n.goal:g}" if n.good else "", verdict(n))


HEAD = ("", "v2c-copy", "against", "value", "to reach", "reached")


def disturbed(case):
    """The largest share of the machine that somebody else used."""
    return max((r["others"] for rs in case.runs.values() for r in rs),
               default=0)


def note(case):
    others = disturbed(case)
    if others <= DISTURBED:
        return ""
    return f"others used up to {others:.0%} of the machine meanwhile"


def table(cases):
    out = []
    for case in cases:
        lines = [HEAD, *rows(case)]
        widths = [max(len(line[i]) for line in lines) for i in range(6)]
        out += ["", f"{case.name}: {case.what}"]
        if note(case):
            out.append(f"  ({note(case)})")
        out += ["  " + "  ".join(
            cell.ljust(width) for cell, width in zip(line, widths)).rstrip()
            for line in lines]
    return "\n".join(out)


def markdown(facts, bench, cases):
    size = (f"{facts['cores']} cores ({facts['cpu']}), "
            f"{facts['memory_gib']:g} GiB, Linux {facts['kernel']}, disks and "
            f"replicas on {facts['disks_on']}")
    out = [BEGIN, "", f"{facts['date']}, {size}; medians of {bench.repeat}.",
           "; ".join(facts["versions"].values()) + "."]
    for case in cases:
        out += ["", f"**{case.name}**: {case.what}."]
        if note(case):
            out.append(note(case).capitalize() + ".")
        out += ["", "| " + " | ".join(HEAD) + " |", "|" + "---|" * 6]
        out += ["| " + " | ".join(row) + " |" for row in rows(case)]
    return "\n".join(out + ["", END])


def put_markdown(path, text):
    """Between the two marks of the file."""
    path = pathlib.Path(path)
    old = path.read_text()
    found = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.S)
    if not found.search(old):
        raise ValueError(f"{path} lacks the line {BEGIN}")
    path.write_text(found.sub(lambda _: text, old))


def raw(cases):
    """Every run, for who does not believe medians."""
    for case in cases:
        for label, runs in case.runs.items():
            walls = [r["wall_s"] for r in runs]
            yield (f"{case.name}: {label}: wall "
                   + " ".join(f"{w:.2f}" for w in walls)
                   + f" s, median {statistics.median(walls):.2f}")
