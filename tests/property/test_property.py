"""A few hundred property cases, whichever the seed makes: V2C_SEED repeats a
run, V2C_CASES changes their number.  run.py runs thousands."""
import os
import pathlib
import random
import shutil

import pytest

import run

MISSING = [n for n in ("nbdkit",) if not shutil.which(n)]
BATCHES = 12
CASES = int(os.environ.get("V2C_CASES", 300))
# all workers of one run have to agree
SEED = int(os.environ.get("V2C_SEED", 0))


@pytest.mark.skipif(bool(MISSING), reason=f"no {MISSING}")
@pytest.mark.parametrize("batch", range(BATCHES))
def test_target_equals_the_source(batch, record_property):
    seed = SEED or random.randrange(1 << 30)
    record_property("seed", seed)
    build = pathlib.Path(os.environ["V2C_BUILD"]).resolve()
    first = seed + batch * (CASES // BATCHES)
    wrong = [run.one(first + i, str(build)) for i in range(CASES // BATCHES)]
    wrong = [w for w in wrong if w]
    assert not wrong, "\n\n".join(wrong)
