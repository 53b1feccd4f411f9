"""What goes wrong in a run of the copier, drawn at random."""
import errno

import outside
from disks import BLOCK
from nbd import Rule

CODES = [errno.EIO, errno.ENOSPC, errno.ENOMEM, errno.ESHUTDOWN]
TARGET = ["kill", "kill", "kill", "kill-after", "kill-after", "term", "error", "error",
          "error", "drop", "cut", "gone", "stall", "pause"]
SOURCE = ["error", "error", "drop", "stall", "kill", "pause", "term"]


def nth(rng):
    return rng.choice([1, 1, 2, 3, rng.randint(1, 10), rng.randint(1, 40)])


def rule(rng, kinds, acts):
    act = rng.choice(acts)
    arg, times = 0, 1
    if act == "error":
        arg, times = rng.choice(CODES), rng.choice([1, 1, 2, 5])
    if act == "pause":
        arg, times = rng.choice([1, 5, 20]), rng.choice([1, 10])
    return Rule(rng.choice(kinds), nth(rng), act, arg, times)


def of_target(case, run):
    run.target_rules.append(rule(
        case.rng, ["any", "write", "zero", "flush"], TARGET))


def of_flush(case, run):
    run.target_rules.append(rule(case.rng, ["flush"], [
        "kill", "kill", "kill-after", "error", "error", "cut", "gone"]))


def of_write(case, run):
    rng = case.rng
    run.target_rules.append(Rule(
        rng.choice(["write", "write", "zero"]),
        rng.choice([1, 1, 2, rng.randint(1, 10)]), "error",
        rng.choice(CODES), rng.choice([1, 1, 2, 5])))


def of_busy(case, run):
    """Something at a moment at which checkpoints come while much is in
    flight."""
    rng = case.rng
    run.busy = case.kind != "vddk"
    run.target_rules.append(Rule("any", rng.randint(2, 40), rng.choice(
        ["kill", "kill-after", "kill-after", "cut", "drop"])))


def of_stop(case, run):
    """Asked to stop before it can have read all."""
    rng = case.rng
    run.keys.update(request=BLOCK, readers=rng.choice([1, 2]))
    run.target_rules.append(Rule("any", rng.choice([1, 1, 2, 5]), "term"))


def of_source(case, run):
    if case.kind in ("vddk", "nbdkit"):
        run.outside = True
        run.source_rules = outside.faults(case, run)
    elif case.kind == "nbd":
        run.source_rules.append(rule(case.rng, ["read"], SOURCE))
    else:
        of_target(case, run)


def of_steps(case, run):
    """At a step that it takes with its map."""
    rng = case.rng
    n = rng.choice([rng.randint(1, 6), rng.randint(3, 12),
                    rng.randint(1, 30)])
    run.env["POWERCUT_KILL"] = str(rng.choice([n, -n]))


def of_disk(case, run):
    """The file system of its map."""
    rng = case.rng
    run.env.update(POWERCUT_FAIL=str(rng.randint(1, 14)),
                   POWERCUT_FAILS=str(rng.choice([1, 1, 3, 100])),
                   POWERCUT_ERRNO=str(rng.choice([errno.EIO, errno.ENOSPC])))


def of_slow_disk(case, run):
    """It takes longer than the copier waits, or almost."""
    run.env.update(POWERCUT_SLOW=str(case.rng.choice([5, 20, 60])))
    run.slow = case.kind != "vddk"


def of_listener(_, run):
    run.deaf = True


def gentle(case):
    """A run in whose way nothing is, but that it may be slow."""
    from story import Run
    rng, run = case.rng, Run()
    run.hold, run.multi = rng.choice([0, 0, 3, 8]), rng.random() < 0.5
    if rng.random() < 0.1:
        run.pace = 0.001
    # the lab's VDDK has a clock of its own
    if rng.random() < 0.3 and case.kind != "vddk":
        run.env["POWERCUT_WARP"] = "4"
    if rng.random() < 0.1:
        run.env["POWERCUT_SHORT"] = "1"
    if rng.random() < 0.5:
        run.keys["request"] = rng.choice([1, 1, 2, 3, 16, 32]) * BLOCK
    if rng.random() < 0.5:
        run.keys["gap"] = rng.choice([0, 1, 2, 4, 32]) * BLOCK
    if rng.random() < 0.3:
        run.keys["readers"] = rng.choice([1, 2, 3, 16, 40])
    return run


def draw(case):
    """A run that something happens to; its text is `told`."""
    rng, run = case.rng, gentle(case)
    for _ in range(rng.choice([1, 1, 1, 2])):
        rng.choice([of_target, of_flush, of_write, of_busy, of_busy,
                    of_source, of_steps, of_steps, of_steps, of_disk,
                    of_slow_disk, of_stop] + [of_listener] *
                   (rng.random() < 0.2))(case, run)
    warp = rng.choice([1, 20, 100, 400])
    if warp > 1 and case.kind != "vddk":
        run.env["POWERCUT_WARP"] = str(warp)
    run.pace = rng.choice([0, 0, 0.001, 0.003])
    if run.busy:
        run.env["POWERCUT_WARP"], run.keys["request"] = "400", BLOCK
        run.pace, run.hold = 0.002, rng.choice([2, 5])
    if rng.random() < 0.15:
        run.keys["rate"] = rng.choice([1, 4, 16]) * (1 << 20)
    stalls = any(r.act == "stall" for r in run.target_rules + [
        r for r in run.source_rules if isinstance(r, Rule)])
    if stalls or rng.random() < 0.05:
        run.keys["timeout"] = rng.choice([1, 2])
        if stalls and case.kind != "vddk":
            run.env["POWERCUT_WARP"] = "20"
    if run.slow:
        run.env["POWERCUT_WARP"] = "100"
        run.keys["timeout"] = rng.choice([1, 3])
    run.told = ", ".join([str(r) for r in run.target_rules] +
                         [f"source: {r}" for r in run.source_rules] +
                         [f"{k}={v}" for k, v in run.env.items()] +
                         [f"{k} {v}" for k, v in run.keys.items()] +
                         ["nobody listens"] * run.deaf)
    return run
