"""The stopwatch against a clock that we hold; the ceilings on machines that are pretended."""

import os

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vggbook import timing
from vggbook.timing import measure, spread, stopwatch


def test_stopwatch_interleaves_and_rotates():
    calls = []
    seconds = stopwatch(
        {name: lambda name=name: calls.append(name) for name in "abc"}, rounds=4, warmup=1
    )
    assert "".join(calls) == "abc" + "abc" + "bca" + "cab" + "abc"
    assert {name: len(values) for name, values in seconds.items()} == {"a": 4, "b": 4, "c": 4}


def test_stopwatch_times_each_case_with_its_own_clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("vggbook.timing.time.perf_counter", lambda: now[0])

    def work(duration):
        now[0] += duration

    seconds = stopwatch({"short": lambda: work(1.0), "long": lambda: work(3.0)}, rounds=3)
    assert seconds == {"short": [1.0] * 3, "long": [3.0] * 3}


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=30))
def test_spread_is_median_and_quartiles(values):
    assert spread(values) == pytest.approx(tuple(np.percentile(values, [50, 25, 75])))


def test_measured_ceilings_say_how():
    found = measure(size=128, rounds=2)
    assert (
        found.flops > 0 and found.bandwidth > 0 and found.value_bytes == 4 and found.multiple == 1
    )
    assert "128 x 128" in found.basis and "float32" in found.basis


def test_a_gpu_is_waited_for_before_and_after_each_call(monkeypatch):
    calls = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: calls.append(device))
    stopwatch({"work": lambda: calls.append("work")}, rounds=2, warmup=0, device="cuda:1")
    assert calls == ["cuda:1", "work", "cuda:1"] * 2
    calls.clear()
    stopwatch({"work": lambda: calls.append("work")}, rounds=1, warmup=0)
    assert calls == ["work"]


def test_ceilings_in_closed_form(monkeypatch):
    """Seconds of each case are given: the best ones count."""
    given = {"product": [4.0, 2.0], "copy": [1.0, 0.5], "sum": [1.0, 2.0]}
    asked = {}

    def watch(cases, rounds, warmup, device):
        asked.update(rounds=rounds, device=device, cases=set(cases))
        return given

    monkeypatch.setattr(timing, "stopwatch", watch)
    found = measure(dtype="bfloat16", rounds=3, size=64)
    assert asked == {"rounds": 3, "device": "cpu", "cases": set(given)}
    assert found.flops == 2 * 64**3 / 2
    assert found.bandwidth == 4 * 2**24 * 4  # two values a copy in half a second, 64 MiB
    assert found.value_bytes == 2 and found.multiple == 8
    assert "bfloat16" in found.basis and "64 x 64" in found.basis and "67 MB" in found.basis
    given.update(copy=[2.0, 2.0], sum=[0.5, 2.0])  # three values a sum in half a second
    assert measure(size=64).bandwidth == 4 * 2**24 * 6


def test_a_gpu_is_named_and_gets_larger_matrices(monkeypatch):
    shapes = []
    real = torch.randn

    def randn(*shape, device):
        shapes.append((shape, device))
        return real(2, 4, 4) if len(shape) == 3 else real(8)

    monkeypatch.setattr(torch, "randn", randn)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"card of {device}")
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    found = measure("cuda:0", "float16", rounds=1)
    assert found.name == "card of cuda:0"
    assert shapes == [((2, 8192, 8192), "cuda:0"), ((4 * 8192**2,), "cuda:0")]
    shapes.clear()
    assert measure(rounds=1).name.startswith("this CPU, ") and shapes[0][0] == (2, 2048, 2048)


@pytest.mark.parametrize(
    "cases, rounds, words",
    [({}, 3, "cases={}: expected at least one"), ({"a": int}, 0, "rounds=0: expected a whole")],
)
def test_nothing_to_time(cases, rounds, words):
    with pytest.raises(ValueError, match=words):
        stopwatch(cases, rounds)


def test_cores_are_those_that_this_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0: {1, 5, 6}}[pid], raising=False)
    assert timing.cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    for seen, count in ((7, 7), (None, 1)):
        monkeypatch.setattr(os, "cpu_count", lambda seen=seen: seen)
        assert timing.cores() == count


def test_five_rounds_after_a_warm_up_unless_told_otherwise():
    calls = []
    seconds = stopwatch({"work": lambda: calls.append(1)})
    assert len(calls) == 6 and len(seconds["work"]) == 5


def test_a_device_is_taken_for_one_of_16_bit_numbers():
    """Two bytes a value, channels in multiples of eight, as tensor cores take them."""
    device = timing.Device("card", 6.0, 3.0)
    assert (device.value_bytes, device.multiple, device.basis, device.ridge) == (2, 8, "", 2.0)


def test_ceilings_are_measured_seven_times_and_name_the_threads(monkeypatch):
    asked = []

    def watch(cases, rounds, warmup, device):
        asked.append((rounds, device))
        return {name: [1.0] for name in cases}

    monkeypatch.setattr(timing, "stopwatch", watch)
    for threads, name in ((1, "this CPU, 1 thread"), (2, "this CPU, 2 threads")):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        found = measure(size=8)
        assert found.name == name and (found.value_bytes, found.multiple) == (4, 1)
        assert found.basis.startswith("measured: float32 product of 8 x 8 matrices")
    assert asked == [(7, "cpu")] * 2
