"""Rows of the table: what was measured in each pair, the ratio, and the bar it has to pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

HEAD = ("scenario", "peer", "ours", "ratio [min-max]", "bar", "")


@dataclass(slots=True)
class Row:
    """One figure of both sides, once per pair. A rate is better high, all else better low; the ratio says how much better ours is."""

    label: str
    unit: str
    bar: str = ""
    is_met: Callable[[Row], bool] | None = None
    peer: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        if self.unit != "/s":
            return [p / o for p, o in zip(self.peer, self.ours, strict=False)]
        return [o / p for p, o in zip(self.peer, self.ours, strict=False)]

    @property
    def ratio(self) -> float:
        return median(self.ratios)

    def cells(self) -> tuple[str, ...]:
        ratios = self.ratios
        verdict = ("met" if self.is_met(self) else "NOT MET") if self.is_met and self.can_be_judged() else ""
        ratio = f"{self.ratio:.2f} [{min(ratios):.2f}-{max(ratios):.2f}]" if ratios else "-"
        return self.label, self.show(self.peer), self.show(self.ours), ratio, self.bar, verdict

    def can_be_judged(self) -> bool:
        return bool(self.ours) and (bool(self.peer) or "x" not in self.bar.split())

    def show(self, values: list[float]) -> str:
        if not values:
            return "-"
        value = median(values)
        return f"{value:,.0f}/s" if self.unit == "/s" else f"{value:.2f} {self.unit}"


def ratio_at_least(label: str, bar: float) -> Row:
    """A rate that must be so many times the peer's."""
    return Row(label, "/s", f">= {bar:g} x", lambda row: row.ratio >= bar)


def show(rows: list[tuple[str, ...]]) -> str:
    """The table as text, columns aligned."""
    lines = [HEAD, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEAD))]
    texts = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    texts.insert(1, "  ".join("-" * width for width in widths if width))
    return "\n".join(texts)
