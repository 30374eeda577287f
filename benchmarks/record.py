"""Rows of measured rates with their floor, and where they come from; a JSON that is complete after
every row.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from vggbook.book import provenance as source
from vggbook.roofline import Device, spread, stopwatch

from .verdict import equal_margin, verdict

ROOT = Path(__file__).resolve().parents[1]
VERSIONED = ("torch", "torchvision", "torchsummary", "triton", "numpy", "vggbook")


def device_name(device: str) -> str:
    """The GPU that PyTorch uses, or the processor and the cores that this process may use."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    return source.processor()


def provenance(device: str, seed: int) -> dict:
    """Command, commit, date, device, versions, seed, and how busy the machine was."""
    import torch

    found = {
        "command": " ".join(["python", *sys.orig_argv[1:]]),
        "commit": source.commit(ROOT),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "load_average_before": [round(x, 2) for x in os.getloadavg()],
        "versions": source.versions(VERSIONED),
        "seed": seed,
    }
    if device.startswith("cuda"):
        major, minor = torch.cuda.get_device_capability(device)
        found |= {
            "capability": f"{major}.{minor}",
            "memory_bytes": torch.cuda.get_device_properties(device).total_memory,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
    return found


class Bench:
    """Collects rows and failures; ``save`` after each. ``seconds``: no section starts once they
    have passed.
    """

    def __init__(
        self,
        device: str,
        path: Path,
        seconds: float = 1e9,
        seed: int = 0,
        say: Callable[[str], object] = print,
    ):
        self.device, self.path, self.seed, self.say = device, Path(path), seed, say
        self.start, self.seconds = time.perf_counter(), seconds
        self.rows: list[dict] = []
        self.skipped: dict[str, str] = {}
        self.facts: dict[str, object] = {}
        self.provenance = provenance(device, seed)
        self.machine: Device | None = None
        self.ceilings: Callable[[], Device] | None = None  # measures them once more
        self._floors: list[tuple[dict, Callable[[Device], float]]] = []

    @property
    def left(self) -> float:
        return self.seconds - (time.perf_counter() - self.start)

    def compare(
        self,
        section: str,
        cases: Mapping[str, Callable[[], object]],
        amount: float | Mapping[str, float],
        unit: str = "images/s",
        *,
        rounds: int = 5,
        warmup: int = 1,
        floors: Mapping[str, Callable[[Device], float]] | None = None,
        against: str | None = None,
        equal: bool = False,
        note: str = "",
    ) -> dict[str, dict]:
        """Time the cases in turn; rates are ``amount`` a call over seconds (seconds themselves for
        the unit "s").

        ``floors``: the rate that no run can exceed, from the machine's ceilings; these are measured
        again in every round, and the best of the whole run count. ``against``: the case that ratios
        (how many times faster) refer to. ``equal``: the cases do the same work, so their ratio says
        what chance does; the other ratios of the run are judged by that.
        """
        probe = {"": self.probe} if floors and self.ceilings else {}
        seconds = stopwatch({**cases, **probe}, rounds, warmup, self.device)
        seconds.pop("", None)
        found = {}
        for name, values in seconds.items():
            count = amount[name] if isinstance(amount, Mapping) else amount
            rates = values if unit == "s" else [count / value for value in values]
            row = self.row(
                section, name, rates, unit, floor=(floors or {}).get(name), note=note, quiet=True
            )
            if against is not None and name != against:
                base = amount[against] if isinstance(amount, Mapping) else amount
                ratios = [
                    (count / mine) / (base / theirs)
                    for mine, theirs in zip(values, seconds[against])
                ]
                row |= {
                    "against": against,
                    "times": dict(zip(("median", "low", "high"), spread(ratios))),
                }
                if equal:
                    row["equal"] = True
            self.say(line(row))
            found[name] = row
        self.save()
        return found

    def probe(self) -> None:
        """Measure the ceilings; keep the best that this run has seen."""
        found = self.ceilings()
        best = self.machine or found
        self.machine = replace(
            best, flops=max(best.flops, found.flops), bandwidth=max(best.bandwidth, found.bandwidth)
        )

    def row(self, section, case, values, unit, *, floor=None, note="", quiet=False) -> dict:
        """One row: median and quartiles of ``values``; ``floor`` gives the share that the median
        reaches.
        """
        median, low, high = spread(list(values))
        row = {
            "section": section,
            "case": case,
            "unit": unit,
            "median": median,
            "low": low,
            "high": high,
            "n": len(values),
        }
        if floor is not None:
            self._floors.append((row, floor))
            self.share()
        if note:
            row["note"] = note
        self.rows.append(row)
        if not quiet:
            self.say(line(row))
            self.save()
        return row

    def share(self) -> None:
        """Floors and shares of all rows, by the best ceilings so far."""
        for row, floor in self._floors:
            row["floor"] = floor(self.machine)
            row["share"] = (
                row["floor"] / row["median"] if row["unit"] == "s" else row["median"] / row["floor"]
            )

    def judge(self) -> None:
        """A verdict on every ratio, by the equal pairs of the run so far."""
        compared = [row for row in self.rows if "times" in row]
        self.facts["equal_margin"] = equal_margin(
            [row["times"]["median"] for row in compared if "equal" in row]
        )
        for row in compared:
            if "equal" not in row:
                row["verdict"] = verdict(row["times"], row["n"], self.facts["equal_margin"])

    def run(self, sections: Mapping[str, Callable[[Bench], object]]) -> None:
        """Each section in turn; one that fails, or has less time left than its ``need``, is noted
        and does not stop the others.
        """
        for name, section in sections.items():
            if self.left < getattr(section, "need", 0) or self.left <= 0:
                self.skipped[name] = (
                    f"not started: {max(0, self.left):.0f} s of {self.seconds:g} were left"
                )
                self.save()
                continue
            self.say(f"\n{name}: {summary(section.__doc__ or name)}")
            began = time.perf_counter()
            try:
                section(self)
            except Exception as error:
                self.skipped[name] = f"{type(error).__name__}: {str(error).strip()[:300]}"
                self.say(f"  FAILED: {self.skipped[name]}")
            self.facts.setdefault("section_seconds", {})[name] = round(
                time.perf_counter() - began, 1
            )
            self.save()

    def save(self) -> None:
        self.judge()
        ceilings = None
        if self.machine:
            self.share()
            m = self.machine
            ceilings = {"flops_per_s": m.flops, "bytes_per_s": m.bandwidth, "basis": m.basis}
        self.provenance["load_average_after"] = [round(x, 2) for x in os.getloadavg()]
        self.provenance["seconds"] = round(time.perf_counter() - self.start, 1)
        data = {
            "provenance": self.provenance,
            "ceilings": ceilings,
            "facts": self.facts,
            "skipped": self.skipped,
            "rows": self.rows,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
        temporary.replace(self.path)


def summary(text: str) -> str:
    """A docstring's first paragraph, on one line."""
    return " ".join(text.strip().partition("\n\n")[0].split())


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def line(row: dict) -> str:
    """A row as text: median, quartiles, ratio, share of the floor."""
    text = (
        f"  {row['case']:44} {_number(row['median']):>9} {row['unit']:10} "
        f"[{_number(row['low'])}, {_number(row['high'])}]"
    )
    if "times" in row:
        times = row["times"]
        text += (
            f"  {times['median']:.2f}x [{times['low']:.2f}, {times['high']:.2f}] {row['against']}"
        )
    return text + (f"  {row['share']:.0%} of the floor model" if "share" in row else "")


def slug(name: str) -> str:
    """A device's name as part of a file name."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
