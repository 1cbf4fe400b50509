"""The loss of a run: a CSV that a resumed run continues, and a small SVG drawn from it."""

from __future__ import annotations

import csv
import html
import math
from collections.abc import Sequence
from pathlib import Path

from ..files import replacing

FIELDS = ("step", "train_loss", "valid_loss", "lr", "tokens")
_W, _H, _LEFT, _BOTTOM, _PAD = 640, 320, 52, 36, 14


class LossLog:
    """Rows of `FIELDS`; an unmeasured validation loss is empty. Losses are nats per token."""

    def __init__(self, path: Path, keep_until: int = 0) -> None:
        """Begin the log at `path`, keeping rows of steps up to `keep_until` that a previous run wrote."""
        self.path = path
        self.rows: list[dict[str, str]] = []
        if keep_until and path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                self.rows = [row for row in csv.DictReader(file) if int(row["step"]) <= keep_until]

    def add(self, step: int, train_loss: float, valid_loss: float | None, lr: float, tokens: int) -> None:
        """Append a row and write the file; a training run that dies leaves its curve."""
        valid = "" if valid_loss is None else f"{valid_loss:.5f}"
        values = (str(step), f"{train_loss:.5f}", valid, f"{lr:.3e}", str(tokens))
        self.rows.append(dict(zip(FIELDS, values, strict=True)))
        with replacing(self.path) as aside, aside.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)

    def points(self, name: str) -> list[tuple[int, float]]:
        """(step, value) of a column, unmeasured and infinite values left out."""
        pairs = [(int(row["step"]), float(row[name])) for row in self.rows if row[name]]
        return [(step, value) for step, value in pairs if math.isfinite(value)]

    def draw(self, path: Path, title: str) -> None:
        """Write the curve as SVG."""
        with replacing(path) as aside:
            aside.write_text(svg_curve(title, self.points("train_loss"), self.points("valid_loss")), "utf-8")


def _ticks(low: float, high: float) -> list[float]:
    """Round values between low and high, four to nine of them."""
    step = 10.0 ** math.floor(math.log10(max(high - low, 1e-9)))
    while (high - low) / step < 4:
        step /= 2
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def svg_curve(title: str, train: Sequence[tuple[int, float]], valid: Sequence[tuple[int, float]]) -> str:
    """An SVG of both losses against the step; it has no script and no outside reference."""
    values = [v for _, v in (*train, *valid)] or [0.0, 1.0]
    low, high = min(values), max(values)
    high = high if high > low else low + 1.0
    last = max([s for s, _ in (*train, *valid)] or [1])

    def x(step: float) -> float:
        return _LEFT + (_W - _LEFT - _PAD) * step / last

    def y(value: float) -> float:
        return _H - _BOTTOM - (_H - _BOTTOM - 2 * _PAD) * (value - low) / (high - low)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_W} {_H}" font-family="sans-serif" font-size="11">',
        f'<rect width="{_W}" height="{_H}" fill="#fff"/>',
        f'<text x="{_W / 2}" y="14" text-anchor="middle">{html.escape(title)}</text>',
    ]
    for tick in _ticks(low, high):
        parts.append(f'<path d="M{_LEFT} {y(tick):.1f}H{_W - _PAD}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in _ticks(0, last):
        parts.append(f'<text x="{x(tick):.1f}" y="{_H - _BOTTOM + 16}" text-anchor="middle">{tick:g}</text>')
    parts.append(f'<text x="{_W / 2}" y="{_H - 4}" text-anchor="middle">step; loss in nats per token</text>')
    for name, colour, line, row in (("training", "#1f77b4", train, 0), ("validation", "#d62728", valid, 1)):
        if not line:
            continue
        points = " ".join(f"{x(s):.1f},{y(v):.1f}" for s, v in line)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        label = f"{name} {line[-1][1]:.3f}"
        parts.append(f'<text x="{_W - _PAD}" y="{34 + 15 * row}" text-anchor="end" fill="{colour}">{label}</text>')
    return "\n".join([*parts, "</svg>", ""])
