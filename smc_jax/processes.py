"""The processes of a job that trains on several hosts; usually there is one, on its own."""

import jax

from smc_jax.errors import ConfigError


def join(coordinator: str = "", count: int = 0, index: int = -1) -> None:
    """Connects this process to the others; before anything else asks JAX for its devices.

    Args:
      coordinator: HOST:PORT of the first process. Where JAX knows the cluster (Slurm, Open MPI,
        Kubernetes, TPU) it finds out all three.
      count: how many processes there are.
      index: which of them this is.

    Raises:
      ConfigError: JAX does not know the cluster and an argument lacks, or nobody answers.
    """
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(
            coordinator_address=coordinator or None,
            num_processes=count or None,
            process_id=None if index < 0 else index,
        )
    except (ValueError, RuntimeError) as error:
        raise ConfigError(
            "config.train.distributed: the processes of this job cannot be joined "
            f"({' '.join(str(error).split()):.200}); give --coordinator=HOST:PORT, "
            "--processes=COUNT and --process=INDEX"
        ) from None


def first() -> bool:
    """Whether this process writes and tells for all."""
    return jax.process_index() == 0


def tell(text: str) -> None:
    """Prints in the first process."""
    if first():
        print(text, flush=True)
