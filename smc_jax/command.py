"""How the commands of this project start and fail: one clear line, exit status 2, no traceback."""

import argparse
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from absl import app, flags, logging

from smc_jax.config import Config
from smc_jax.errors import ConfigError, InputError
from smc_jax.fields import check_field


def run(main: Callable[[], int | None]) -> None:
    """Parses the flags and exits with what `main` returns, or with status 2 after a user error."""

    def checked(arguments: Sequence[str]) -> int | None:
        if len(arguments) > 1:
            return fail(f"unknown argument {arguments[1]}; see --help")
        logging.set_verbosity(logging.WARNING)
        return guarded(main)

    app.run(checked, flags_parser=_parse)


def guarded(main: Callable[[], int | None]) -> int | None:
    """Returns what `main` returns, or reports an expected error and returns its exit status."""
    before, sys.unraisablehook = sys.unraisablehook, _swallowed
    try:
        return main()
    except (InputError, OSError) as error:
        return fail(error)
    except MemoryError as error:
        return fail(f"there is not enough memory ({error})")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    finally:
        sys.unraisablehook = before


def _swallowed(what: Any) -> None:
    """Resends an interrupt that came during garbage collection, in a callback of JAX's, where it
    would be lost.
    """
    again = {KeyboardInterrupt: signal.SIGINT, SystemExit: signal.SIGTERM}.get(what.exc_type)
    if again is None:
        sys.__unraisablehook__(what)
    else:
        threading.Timer(0.1, os.kill, [os.getpid(), again]).start()


class Parser(argparse.ArgumentParser):
    """A parser for commands with positional arguments, which reports errors in one line."""

    def error(self, message: str) -> NoReturn:
        sys.exit(fail(f"{message}; see --help"))


def fail(error: object) -> int:
    """Prints each line of the error, and returns the exit status."""
    for line in str(error).splitlines():
        print(f"error: {line}", file=sys.stderr)
    return 2


def _parse(arguments: list[str]) -> list[str]:
    try:
        for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
            name, given, value = argument.partition("=")
            file = (value if given else following).partition(":")[0]
            if name == "--config" and not (file.endswith(".py") and Path(file).is_file()):
                raise ConfigError(f"there is no config file {file or '(none given)'}")
            if name.startswith("--config."):
                check_field(Config(), name.removeprefix("--config."))
        return flags.FLAGS(arguments)
    except (ConfigError, flags.Error) as error:
        # An error inside a config file arrives as the last line of a traceback.
        message = str(error).strip().splitlines()[-1]
        sys.exit(fail(re.sub(r"^[\w.]+Error: ", "", message)))
    except Exception as error:
        # A config file is a program, and may raise any error.
        sys.exit(fail(f"the config cannot be loaded: {type(error).__name__}: {error}"))
