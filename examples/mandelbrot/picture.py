"""Join the tiles to outputs/mandelbrot.png, and draw outputs/timeline.png from the database of the run.

picture.py DATABASE: the timeline shows every task as a bar, one line for each rank that ran tasks.
"""

import sqlite3
import struct
import sys
import zlib
from datetime import datetime

import numpy as np
from tile import COLUMNS, FOLDER, ROWS, SIZE


def write_png(path: str, pixels: np.ndarray) -> None:
    """Write `pixels`, uint8 of shape (height, width, 3), as a PNG (RFC 2083)."""
    height, width, _ = pixels.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, width * 3)], axis=1)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header))
        file.write(chunk(b"IDAT", zlib.compress(rows.tobytes(), 6)) + chunk(b"IEND", b""))


def colours(times: np.ndarray) -> np.ndarray:
    """Colours of escape times: the set itself is black."""
    phase = np.log1p(times)[..., None] * 2.2 + np.array([3.6, 4.3, 5.2])
    shade = (0.5 + 0.5 * np.sin(phase)) * 255
    shade[times == 0] = 0
    return shade.astype(np.uint8)


def picture() -> None:
    image = np.zeros((ROWS * SIZE, COLUMNS * SIZE), np.float32)
    for row in range(ROWS):
        for column in range(COLUMNS):
            tile = np.load(f"{FOLDER}/tile-{column}-{row}.npy")
            image[row * SIZE : (row + 1) * SIZE, column * SIZE : (column + 1) * SIZE] = tile
    write_png("outputs/mandelbrot.png", colours(image))


def timeline(database: str) -> None:
    connection = sqlite3.connect(database)
    query = "SELECT client_id, start_time, completion_time FROM task WHERE state = 'succeeded' ORDER BY start_time"
    bars = [(who, _seconds(a), _seconds(b)) for who, a, b in connection.execute(query)]
    first, last = min(a for _, a, _ in bars), max(b for _, _, b in bars)
    ranks = sorted({who for who, _, _ in bars})
    width, height = 960, 40
    image = np.full((height * len(ranks) + 8, width, 3), 250, np.uint8)
    palette = colours(np.linspace(1.5, 60, len(bars)))
    for number, (who, start, end) in enumerate(bars):
        left = int((start - first) / (last - first) * (width - 1))
        right = max(left + 1, int((end - first) / (last - first) * (width - 1)))
        top = ranks.index(who) * height + 8
        image[top : top + height - 8, left:right] = palette[number]
    write_png("outputs/timeline.png", image)
    print(f"{len(bars)} tasks on {len(ranks)} ranks in {last - first:.1f} s")


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


if __name__ == "__main__":
    picture()
    timeline(sys.argv[1])
