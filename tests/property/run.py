#!/usr/bin/env python3
"""Runs property cases.

run.py [--build DIR] [--seed N] [--cases N] [--jobs N] [--kind K] [--first]

Case i has the seed N + i; `--seed N --cases 1` is that case alone."""
import argparse
import multiprocessing
import os
import pathlib
import random
import sys
import time
import traceback

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from blockmap import Wrong  # noqa: E402
from story import Case  # noqa: E402


def one(seed, build, kind=None):
    """None, or the story of what went wrong."""
    case = Case(seed, build, [kind] if kind else None)
    try:
        case.run()
        return None
    except Wrong as e:
        why = str(e)
    except Exception:
        why = traceback.format_exc()
    again = f"{HERE}/run.py --build {build} --seed {seed} --cases 1"
    again += f" --kind {kind}" if kind else ""
    return "\n".join([f"seed {seed}: {why}", *[f"  {t}" for t in case.told],
                      f"its files are in {case.room}", f"again: {again}"])


def some(args):
    return one(*args)


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--build", default=os.environ.get("V2C_BUILD", "build"))
    p.add_argument("--seed", type=int,
                   default=int(os.environ.get("V2C_SEED", 0)))
    p.add_argument("--cases", type=int, default=300)
    p.add_argument("--jobs", type=int, default=2 * (os.cpu_count() or 1))
    p.add_argument("--first", action="store_true",
                   help="end with the first that goes wrong")
    p.add_argument("--kind", choices=["file", "nbd", "nbdkit", "vddk"])
    o = p.parse_args()
    seed = o.seed or random.randrange(1 << 30)
    build = os.path.abspath(o.build)
    print(f"seed {seed}, {o.cases} cases", flush=True)
    begun, bad = time.monotonic(), 0
    todo = [(seed + i, build, o.kind) for i in range(o.cases)]
    with multiprocessing.Pool(o.jobs) as pool:
        for i, wrong in enumerate(pool.imap_unordered(some, todo), 1):
            if wrong:
                bad += 1
                print(wrong, flush=True)
                if o.first:
                    pool.terminate()
                    break
            if i % 1000 == 0:
                print(f"{i} cases, {bad} bad", flush=True)
    print(f"{i} cases, {bad} bad, "
          f"{time.monotonic() - begun:.0f} s", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
