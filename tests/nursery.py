"""Starts runs that tests/test_survival.py kills.

They are forked from a process that has imported everything but started nothing, so that each begins
within a second. The process reads lines of JSON and prints one answer to each.
"""

import json
import os
import resource
import sys

from smc_jax import errors, train
from smc_jax.config import Config, override


def child(ask):
    log = os.open(ask["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if ask.get("limit"):
        # Writing to a file beyond this size fails, as on a full disk.
        resource.setrlimit(resource.RLIMIT_FSIZE, (ask["limit"], ask["limit"]))
    try:
        return train.train(override(Config(), ask["values"]), ask["workdir"])
    except errors.InputError as error:
        print(f"error: {error}", flush=True)
        return 2


def main():
    for line in sys.stdin:
        ask = json.loads(line)
        if "wait" in ask:
            print(os.waitpid(ask["wait"], 0)[1], flush=True)
            continue
        pid = os.fork()
        if not pid:
            status = 1
            try:
                status = child(ask)
            finally:
                sys.stdout.flush()
                os._exit(status)
        print(pid, flush=True)


if __name__ == "__main__":
    main()
