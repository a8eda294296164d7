"""The network as StableHLO programs, which JAX runs without this package (`jax.export`).

A program takes two batches of luma in [0, 1], float32 "b h w 1", and returns the fused batch. It
contains its weights. The batch may be of any size, and its pairs are fused one after the other; h
and w are fixed, since StableHLO needs constant lengths for its Fourier transforms.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
from jax import export, lax

from smc_jax import border, config, files, model
from smc_jax.errors import ConfigError
from smc_jax.weights import CONFIG, Weights, fitted, flat_as

SCANS = {"cpu": "chunked", "cuda": "two_level"}
"""For each platform, the scan that `auto` takes there without our kernels (`pallas`)."""
EXAMPLE = "run.py"
RUNNING = '''\
"""Fuses a pair by a program of this folder; JAX is all that it needs: python run.py"""
import pathlib, jax, numpy as np
from jax import export

folder = pathlib.Path(__file__).absolute().parent
platform = {"gpu": "cuda"}.get(jax.default_backend(), "cpu")
for path in sorted(folder.glob(f"*.{platform}.stablehlo")):
    width, height = map(int, path.name.split(".")[0].split("x"))
    program = export.deserialize(bytearray(path.read_bytes()))
    a, b = np.random.default_rng(0).uniform(size=(2, 1, height, width, 1)).astype(np.float32)
    fused = jax.jit(program.call)(a, b)
    print(path.name, fused.shape, float(fused.mean()))
'''


def write(
    path: str | Path,
    weights: Weights,
    card: str,
    sizes: Sequence[tuple[int, int]],
    dtype: str = "float32",
) -> None:
    """Writes a folder with one program per size and platform.

    They are called `<width>x<height>.<platform>.stablehlo`.

    Args:
      path: a name that is free.
      weights: the network.
      card: the model card, in Markdown.
      sizes: height and width of the images, each at least 16.
      dtype: the type that the weights have in the program; one of `weights.TYPES`.

    Raises:
      ConfigError: flatbuffers is not installed, or a parameter is not finite.
      InputError: the name is taken, or the folder cannot be written.
    """
    try:
        import flatbuffers  # noqa: F401  # pyrefly: ignore[missing-import]
    except ImportError:
        raise ConfigError(
            "the format stablehlo needs flatbuffers: pip install '.[export]' in the clone"
        ) from None
    with files.making(path) as folder:
        for height, width in sizes:
            for platform in SCANS:
                program = exported(weights, height, width, platform, dtype)
                name = f"{width}x{height}.{platform}.stablehlo"
                (folder / name).write_bytes(program.serialize())
        (folder / CONFIG).write_text(weights.config.to_json() + "\n")
        (folder / "README.md").write_text(card)
        (folder / EXAMPLE).write_text(RUNNING)


def exported(
    weights: Weights, height: int, width: int, platform: str, dtype: str = "float32"
) -> export.Exported:
    """Returns the program for one size of images and one platform of `SCANS`."""
    network = model.build(_for(platform, weights.config.model))
    stored = flat_as(weights.params, dtype)
    fill = [(0, 0), *border.margins(height, width), (0, 0)]

    def one(pair):
        params = fitted(weights.config, stored, "the program")
        a, b = (jnp.pad(image[None], fill, mode="reflect") for image in pair)
        fused, _ = network.apply({"params": params}, a, b)
        return fused[0, :height, :width]

    def fuse(a, b):
        return lax.map(one, (a, b))

    shape = export.symbolic_shape(f"b, {height}, {width}, 1")
    images = jax.ShapeDtypeStruct(shape, jnp.float32)
    return export.export(jax.jit(fuse), platforms=(platform,))(images, images)


def _for(platform: str, network: config.Model) -> config.Model:
    method = SCANS[platform] if network.scan_method in ("auto", "pallas") else network.scan_method
    return dataclasses.replace(network, scan_method=method, remat=False)
