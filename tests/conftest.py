"""Tests run on tiny models, where compiling takes the time: the compiler need not try hard."""

import os

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=0"
