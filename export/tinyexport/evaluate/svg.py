"""Small plots as inline SVG: no script, no fonts, nothing fetched."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

COLOURS = ("#1f6fb4", "#d1495b", "#2a9d8f", "#8e5ea2", "#c98b1b", "#5b6770")
_W, _H = 420, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 12, 30, 44
_BINS = 16

Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """Points under one name."""

    name: str
    points: Sequence[Point]
    colour: str
    line: bool = False
    labels: Sequence[str] = ()


def ticks(low: float, high: float) -> list[float]:
    """Three to eight round values from low to high."""
    span = high - low
    step = 10.0 ** math.floor(math.log10(span / 2.5)) if span > 0 else 1.0
    step *= next(k for k in (1, 2, 5, 10) if span / (step * k) <= 7)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


class Axes:
    """A rectangle of data coordinates and the SVG elements drawn in it."""

    def __init__(self, title: str, x_name: str, y_name: str, xs: Sequence[float], ys: Sequence[float]) -> None:
        """The ranges hold all of `xs` and `ys`."""
        self.x_low, self.x_high = _range(xs)
        self.y_low, self.y_high = _range(ys)
        self.parts = [
            f'<svg class="plot" role="img" viewBox="0 0 {_W} {_H}" aria-label="{html.escape(title, quote=True)}">',
            f'<text class="title" x="{_W / 2}" y="18" text-anchor="middle">{html.escape(title)}</text>',
            f'<text x="{(_LEFT + _W - _RIGHT) / 2}" y="{_H - 8}" text-anchor="middle">{html.escape(x_name)}</text>',
            f'<text transform="translate(13 {(_TOP + _H - _BOTTOM) / 2}) rotate(-90)" text-anchor="middle">'
            f"{html.escape(y_name)}</text>",
        ]
        self._grid()

    def x(self, value: float) -> float:
        """Pixels from the left."""
        return _LEFT + (_W - _LEFT - _RIGHT) * (value - self.x_low) / (self.x_high - self.x_low)

    def y(self, value: float) -> float:
        """Pixels from the top."""
        return _H - _BOTTOM - (_H - _TOP - _BOTTOM) * (value - self.y_low) / (self.y_high - self.y_low)

    def _grid(self) -> None:
        for tick in ticks(self.y_low, self.y_high):
            y = self.y(tick)
            self.parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{_W - _RIGHT}"/>')
            self.parts.append(f'<text x="{_LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{_number(tick)}</text>')
        for tick in ticks(self.x_low, self.x_high):
            x = self.x(tick)
            self.parts.append(f'<text x="{x:.1f}" y="{_H - _BOTTOM + 15}" text-anchor="middle">{_number(tick)}</text>')

    def end(self) -> str:
        """The whole SVG."""
        return "".join([*self.parts, "</svg>"])


def _number(value: float) -> str:
    if abs(value) >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1e3:g}k" if abs(value) >= 1e4 else f"{round(value, 10):g}"


def _range(values: Sequence[float]) -> tuple[float, float]:
    finite = [v for v in values if math.isfinite(v)] or [0.0]
    low, high = min(finite), max(finite)
    room = (high - low) * 0.05 or abs(high) * 0.1 or 1.0
    return (0.0 if 0 <= low < (high - low) else low - room), high + room


def plot(title: str, x_name: str, y_name: str, series: Sequence[Series]) -> str:
    """Points or lines; labels stand beside their points."""
    points = [p for s in series for p in s.points]
    axes = Axes(title, x_name, y_name, [p[0] for p in points], [p[1] for p in points])
    for one in series:
        if one.line:
            path = " ".join(f"{axes.x(x):.1f},{axes.y(y):.1f}" for x, y in one.points)
            axes.parts.append(f'<polyline points="{path}" fill="none" stroke="{one.colour}" stroke-width="2"/>')
        for i, (x, y) in enumerate(one.points):
            axes.parts.append(
                f'<circle cx="{axes.x(x):.1f}" cy="{axes.y(y):.1f}" r="3.2" fill="{one.colour}" fill-opacity=".65"/>'
            )
            if i < len(one.labels):
                left = axes.x(x) > _W * 0.6
                axes.parts.append(
                    f'<text x="{axes.x(x) + (-7 if left else 7):.1f}" y="{axes.y(y) - 6:.1f}" '
                    f'text-anchor="{"end" if left else "start"}">{html.escape(one.labels[i])}</text>'
                )
    return axes.end()


def histogram(title: str, x_name: str, series: Sequence[tuple[str, Sequence[float], str]]) -> str:
    """Outlines of how often values fall into equal bins; series are (name, values, colour)."""
    values = [v for _, vs, _ in series for v in vs if math.isfinite(v)] or [0.0]
    low, high = min(values), max(values)
    width = (high - low) / _BINS or 1.0
    counts = []
    for _, vs, _ in series:
        bins = [0] * _BINS
        for v in vs:
            if math.isfinite(v):
                bins[min(int((v - low) / width), _BINS - 1)] += 1
        counts.append(bins)
    axes = Axes(title, x_name, "samples", [low, low + width * _BINS], [0, *(n for bins in counts for n in bins)])
    for (_, _, colour), bins in zip(series, counts, strict=True):
        path = f"M{axes.x(low):.1f} {axes.y(0):.1f}"
        for i, n in enumerate(bins):
            path += f"V{axes.y(n):.1f}H{axes.x(low + (i + 1) * width):.1f}"
        path += f"V{axes.y(0):.1f}Z"
        axes.parts.append(f'<path d="{path}" fill="{colour}" fill-opacity=".22" stroke="{colour}"/>')
    return axes.end()
