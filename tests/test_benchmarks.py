"""The benchmarks themselves: what they write, what they leave out, and the exact gradient of the
fused convolution. No time is asserted.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks import gpu, record  # noqa: E402
from benchmarks.__main__ import main as measure_cpu  # noqa: E402
from benchmarks.cpu import rates  # noqa: E402
from benchmarks.fused import ConvReLU, _mask, fuse  # noqa: E402
from benchmarks.steps import training_step  # noqa: E402
from vggbook import build, count_parameters, to_dense  # noqa: E402
from vggbook.roofline import Device  # noqa: E402


# --- the fused convolution -----------------------------------------------------------------------
@pytest.mark.parametrize("padding", [(0, 0), (1, 1)])
def test_gradient_of_the_fused_convolution_is_exact(padding):
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator, requires_grad=True)

    x, weight, bias = draw(2, 3, 6, 5), draw(4, 3, 3, 3), draw(4)
    assert torch.autograd.gradcheck(
        lambda *a: ConvReLU.apply(*a, padding, _mask), (x, weight, bias)
    )
    ours = ConvReLU.apply(x, weight, bias, padding, _mask)
    theirs = F.relu(F.conv2d(x, weight, bias, padding=padding))
    assert torch.equal(ours, theirs)
    upstream = torch.randn(theirs.shape, dtype=torch.float64, generator=generator)
    found = torch.autograd.grad(ours, (x, weight, bias), upstream)
    expected = torch.autograd.grad(theirs, (x, weight, bias), upstream)
    for a, b in zip(found, expected):
        # the bias gradient is summed in float32
        torch.testing.assert_close(a, b.to(a.dtype), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("channels", [0, 8])
@pytest.mark.parametrize("name", ["A", "C"])
def test_fused_network_has_the_gradients_of_the_network(name, channels):
    def make():
        generator = torch.Generator().manual_seed(1)
        return build(name, 5, width=1 / 16, image_size=32, dropout=0.0, generator=generator)

    plain, fused = make(), fuse(make(), channels=channels)
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    labels = torch.tensor([0, 3, 1])
    for net in (plain, fused):
        F.cross_entropy(net(images), labels).backward()
    assert not any(isinstance(m, torch.nn.ReLU) for m in fused.features)
    for ours, theirs in zip(fused.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)


def test_fused_network_under_autocast_keeps_float32_gradients():
    net = fuse(build("A", 5, width=1 / 16, image_size=32))
    with torch.autocast("cpu", torch.bfloat16):
        y = net.features(torch.randn(2, 3, 32, 32))
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in net.features.parameters())


def test_training_step_is_sgd_as_written_out():
    """One step of the timed function against SGD by hand: v = g + 5e-4 w, w - lr v."""
    net = build("A", 5, width=1 / 16, image_size=32, dropout=0.0)
    images, labels = torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 3])
    before = [p.detach().clone() for p in net.parameters()]
    loss = F.cross_entropy(net(images), labels)
    gradients = torch.autograd.grad(loss, list(net.parameters()))
    training_step(net, images, labels)()
    for old, g, new in zip(before, gradients, net.parameters()):
        torch.testing.assert_close(new.detach(), old - 1e-3 * (g + 5e-4 * old))


# --- the record ----------------------------------------------------------------------------------
@pytest.fixture
def bench(tmp_path):
    return record.Bench("cpu", tmp_path / "deep" / "bench.json", seconds=100, say=lambda text: None)


def test_rates_and_ratios_come_from_the_seconds_of_each_round(bench, monkeypatch):
    monkeypatch.setattr(
        record, "stopwatch", lambda cases, *a: {"slow": [4.0, 8.0, 2.0], "fast": [1.0, 4.0, 1.0]}
    )
    bench.machine = Device("by hand", 32.0, 1.0)
    rows = bench.compare(
        "s",
        {"slow": None, "fast": None},
        16,
        floors={"fast": lambda machine: machine.flops},
        against="slow",
    )
    assert (
        rows["slow"]["median"] == 4.0 and rows["fast"]["median"] == 16.0
    )  # 16 images in 4, 8, 2 and 1, 4, 1 seconds
    assert rows["fast"]["times"]["median"] == 2.0  # of 4, 2, 2
    assert rows["fast"]["share"] == 0.5 and "times" not in rows["slow"]
    found = json.loads(bench.path.read_text())
    assert [row["case"] for row in found["rows"]] == ["slow", "fast"]
    assert {
        "command",
        "commit",
        "date",
        "device",
        "versions",
        "seed",
        "load_average_before",
    } <= set(found["provenance"])


def test_the_best_ceilings_of_the_run_count_for_all_rows(bench):
    found = iter([Device("m", 10.0, 5.0), Device("m", 20.0, 1.0), Device("m", 15.0, 4.0)])
    bench.ceilings = lambda: next(found)
    bench.probe()
    bench.row("s", "early", [5.0], "images/s", floor=lambda machine: machine.flops)
    assert bench.rows[0]["share"] == 0.5
    rows = bench.compare(
        "s",
        {"late": lambda: None},
        1,
        rounds=1,
        warmup=1,
        floors={"late": lambda machine: machine.bandwidth},
    )
    assert set(rows) == {"late"} and (bench.machine.flops, bench.machine.bandwidth) == (20.0, 5.0)
    saved = json.loads(bench.path.read_text())
    assert saved["rows"][0]["share"] == 0.25 and saved["ceilings"]["flops_per_s"] == 20.0


def test_seconds_get_a_share_of_the_floor_too(bench, monkeypatch):
    monkeypatch.setattr(record, "stopwatch", lambda cases, *a: {"a": [4.0]})
    assert (
        bench.compare("s", {"a": None}, 1, "s", floors={"a": lambda machine: 1.0})["a"]["share"]
        == 0.25
    )


def test_a_failing_section_is_noted_and_the_rest_goes_on(bench):
    def broken(bench):
        """Breaks."""
        raise RuntimeError("no such kernel")

    def hungry(bench):
        raise AssertionError("must not start")

    hungry.need = 1000
    done = []
    bench.run({"broken": broken, "hungry": hungry, "fine": lambda bench: done.append(1)})
    assert done == [1]
    saved = json.loads(bench.path.read_text())["skipped"]
    assert (
        "no such kernel" in saved["broken"]
        and "not started" in saved["hungry"]
        and "fine" not in saved
    )


def test_slug_is_fit_for_a_file_name():
    assert record.slug("NVIDIA H100 80GB HBM3") == "nvidia-h100-80gb-hbm3"


# --- rehearsals ----------------------------------------------------------------------------------
def well_formed(found):
    for row in found["rows"]:
        assert {"section", "case", "unit", "median", "low", "high", "n"} <= set(row)
        assert row["low"] <= row["median"] <= row["high"]
        if "share" in row:
            expected = (
                row["floor"] / row["median"] if row["unit"] == "s" else row["median"] / row["floor"]
            )
            assert row["share"] == pytest.approx(expected)
    assert found["ceilings"]["flops_per_s"] > 0 and found["ceilings"]["bytes_per_s"] > 0


def test_the_processor_s_benchmark_runs_end_to_end(tmp_path, capsys):
    threads = torch.get_num_threads()
    sections = "ceilings,layouts,optimisers,feeding,fitting,testing"
    try:
        assert (
            measure_cpu(
                ["--tiny", "--threads", str(threads), "--only", sections, "--out", str(tmp_path)]
            )
            == 0
        )
    finally:
        torch.set_num_threads(threads)
    found = json.loads((tmp_path / "bench-cpu.json").read_text())
    well_formed(found)
    assert found["skipped"] == {}
    assert {row["section"] for row in found["rows"]} == {
        "ceilings",
        "layout",
        "precision",
        "update",
        "step by optimiser",
        "data",
        "epoch",
        "testing",
    }
    dense = [row for row in found["rows"] if row["case"].startswith("dense")]
    assert dense and all(
        row["saving_reached"] == pytest.approx(row["times"]["median"] / row["arithmetic_saving"])
        for row in dense
    )
    with pytest.raises(SystemExit):
        measure_cpu(["--only", "nothing"])
    assert "no section 'nothing'" in capsys.readouterr().err


def test_the_gpu_script_rehearses_on_a_cpu(tmp_path, capsys):
    sections = (
        "ceilings,d_without_compiling,d_compiled,d_inference,d_candidates,"
        "testing,feeding,fitting,profile,layouts,notes"
    )
    assert gpu.main(["--tiny", "--no-torchvision", "--only", sections, "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "bench-gpu-rehearsal.json").read_text())
    well_formed(found)
    assert found["skipped"] == {}
    variants = {row["case"] for row in found["rows"] if row["section"] == "training, D"}
    assert {
        "eager",
        "eager+graph",
        "function",
        "padded+graph",
        "function+graph",
        "compiled+graph",
        "masked+graph",
    } <= variants
    assert found["facts"]["goals"]["training D"]["goal"] == 5400
    best = found["facts"]["best"]["training"]["D"]
    medians = [row["median"] for row in found["rows"] if row["section"] == "training, D"]
    assert best["images_per_s"] == max(medians)
    assert len(found["facts"]["profile"]["eager"]) > 3
    assert sum(row["share"] for row in found["facts"]["profile"]["eager"]) <= 1 + 1e-9


def test_the_gpu_script_stops_when_its_time_is_up(tmp_path, capsys):
    assert gpu.main(["--tiny", "--seconds", "1e-3", "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "bench-gpu-rehearsal.json").read_text())
    assert found["skipped"] and len(found["rows"]) <= 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_the_gpu_script_says_what_it_needs(capsys):
    with pytest.raises(SystemExit):
        gpu.main([])
    assert "PyTorch sees no GPU here" in capsys.readouterr().err


def test_two_processes_share_their_gradients(tmp_path):
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--local-addr=127.0.0.1",  # a host whose own name is not known will do
        "--nproc_per_node",
        "2",
        "-m",
        "benchmarks.worker",
        "parallel",
        "--width",
        "0.0625",
        "--batch",
        "2",
        "--image",
        "32",
        "--rounds",
        "1",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (line,) = [
        text for text in done.stdout.splitlines() if text.startswith("{")
    ]  # one of the two processes speaks
    found = json.loads(line)
    assert found["gradient_bytes"] == 4 * count_parameters("B", 12, width=0.0625, image_size=32)
    assert min(found["step"] + found["ddp"] + found["all_reduce"]) > 0


# --- what is recorded ----------------------------------------------------------------------------
@pytest.mark.parametrize(
    "path", sorted((ROOT / "results").glob("bench-*.json")), ids=lambda path: path.stem
)
def test_recorded_benchmarks_are_whole(path):
    found = json.loads(path.read_text())
    well_formed(found)
    assert {"command", "commit", "date", "device", "versions", "seed"} <= set(found["provenance"])
    for goal in found["facts"].get("goals", {}).values():
        assert goal["met"] == (goal["reached"] >= goal["goal"])


def test_the_share_of_the_fc_layers_in_dense_evaluation():
    """Worked out by hand: A's maps halve five times; a window of 1 x 1 at each of 2 x 3 places."""
    dense = to_dense(build("A", 5, width=0.125, image_size=32))
    found = rates(dense, torch.rand(2, 3, 64, 96))
    convolutions, area, channels = 0, 64 * 96, 3
    for stage in ((8,), (16,), (32, 32), (64, 64), (64, 64)):
        for width in stage:
            convolutions += area * 9 * channels * width
            channels = width
        area //= 4
    fc = 2 * 3 * (64 * 512 + 512 * 512 + 512 * 5)
    assert found["fc_share"] == pytest.approx(fc / (fc + convolutions))
    assert found["conv_gflops"] > 0 and set(found) == {"conv_gflops", "fc_gflops", "fc_share"}
