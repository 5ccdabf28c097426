"""Compute one tile of a picture of the Mandelbrot set: tile.py COLUMN ROW.

Writes outputs/mandelbrot/tile-COLUMN-ROW.npy, escape times as float32 of shape (SIZE, SIZE). Tiles differ a lot
in cost, as real work does: some leave the set after a few steps, some never do.
"""

import os
import sys

import numpy as np

COLUMNS, ROWS, SIZE = 12, 8, 80
CENTRE, WIDTH = complex(-0.743643887, 0.131825904), 0.0045
STEPS = 1200
FOLDER = "outputs/mandelbrot"


def escape_times(c: np.ndarray) -> np.ndarray:
    """Smooth escape times of the points `c`; 0 for points that stay."""
    z = np.zeros_like(c)
    result = np.zeros(c.shape, dtype=np.float32)
    index = np.arange(c.size)
    for step in range(1, STEPS + 1):
        z = z * z + c
        size = z.real**2 + z.imag**2
        out = size > 256.0
        if out.any():
            result[index[out]] = step + 1 - np.log2(np.log2(size[out]) / 2)
            z, c, index = z[~out], c[~out], index[~out]
            if not index.size:
                break
    return result


def main(column: int, row: int) -> None:
    pixel = WIDTH / (COLUMNS * SIZE)
    x = CENTRE.real + ((column - COLUMNS / 2) * SIZE + np.arange(SIZE) + 0.5) * pixel
    y = CENTRE.imag - ((row - ROWS / 2) * SIZE + np.arange(SIZE) + 0.5) * pixel
    points = (x[None, :] + 1j * y[:, None]).ravel()
    os.makedirs(FOLDER, exist_ok=True)
    np.save(f"{FOLDER}/tile-{column}-{row}.npy", escape_times(points).reshape(SIZE, SIZE))
    print(f"tile {column},{row} done")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
