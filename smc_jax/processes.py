"""The processes of a job that trains on several hosts; usually there is only one."""

import jax

from smc_jax.errors import ConfigError


def join(coordinator: str = "", count: int = 0, index: int = -1) -> None:
    """Connects this process to the others. Call it before anything asks JAX for its devices.

    Args:
      coordinator: HOST:PORT of the first process. On a cluster that JAX knows (Slurm, Open MPI,
        Kubernetes, TPU) it finds out all three arguments by itself.
      count: how many processes there are.
      index: which of them this is.

    Raises:
      ConfigError: JAX does not know the cluster and an argument is missing, or no one answers.
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
    """Whether this is the process that writes and prints for all."""
    return jax.process_index() == 0


def tell(text: str) -> None:
    """Prints in the first process only."""
    if first():
        print(text, flush=True)
