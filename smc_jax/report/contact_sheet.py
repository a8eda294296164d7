"""Pairs and the methods' results, side by side in one image."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from smc_jax import files
from smc_jax.report.scene import Scene

ROWS = 12
WIDTH = 1600
_CELL = 320
_LABEL = 22


def write(path: Path, methods: Sequence[str], scenes: Sequence[Scene]) -> None:
    """Writes a PNG at most 1600 pixels wide with one row per scene, its sources first."""
    columns = ["a", "b", *methods]
    width = min(_CELL, WIDTH // len(columns))
    heights = [_height(scene.sources["a"], width) for scene in scenes]
    size = (width * len(columns), _LABEL + sum(heights) + _LABEL * len(scenes))
    sheet = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for column, title in enumerate(columns):
        draw.text((column * width + 4, 2), title, "black", font)
    top = _LABEL
    for scene, height in zip(scenes, heights, strict=True):
        draw.text((4, top + 2), scene.name, "gray", font)
        images = [scene.sources["a"], scene.sources["b"], *map(scene.results.get, methods)]
        for column, image in enumerate(images):
            if image is not None:
                cell = Image.fromarray(image).convert("RGB").resize((width - 4, height - 2))
                sheet.paste(cell, (column * width + 2, top + _LABEL))
        top += height + _LABEL
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    files.write(path, buffer.getvalue())


def _height(image: np.ndarray, width: int) -> int:
    h, w = image.shape[:2]
    return max(3, min(round(width * h / w), 2 * width))
