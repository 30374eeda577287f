"""``python -m vggbook.evaluate``: a folder in ImageNet's layout, every option, two processes."""

import contextlib
import json
import os
import re
import shlex
import socket
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.nets import pictures, seeded
from vggbook import build
from vggbook.book import recorded
from vggbook.book.provenance import processor
from vggbook.configs import CONFIGS
from vggbook.evaluate import command, main

WNIDS = ("n01440764", "n01443537", "n01484850")


def save(path, kind, size=(90, 70)):
    array = pictures([size])[0].permute(1, 2, 0).numpy()
    image = Image.fromarray(array)
    if kind == "16-bit":
        Image.fromarray(array[..., 0].astype(np.uint16) * 257).save(path.with_suffix(".png"))
    elif kind in ("L", "RGBA", "P"):
        image.convert(kind).save(path.with_suffix(".png"))
    else:
        image.convert("CMYK" if kind == "CMYK" else "RGB").save(path)


@pytest.fixture(scope="module")
def imagenet_like(tmp_path_factory):
    """Three classes of four files each, of every kind and several sizes; weights of D and of A."""
    root = tmp_path_factory.mktemp("data")
    kinds = iter(["RGB", "L", "RGBA", "P", "16-bit", "CMYK", "RGB", "L", *["RGB"] * 4])
    sizes = iter([(90, 70), (40, 50), (120, 64)] * 4)
    for wnid in WNIDS:
        (root / "val" / wnid).mkdir(parents=True)
        for i in range(4):
            save(root / "val" / wnid / f"ILSVRC2012_val_{i}.JPEG", next(kinds), next(sizes))
    torch.save(build("D", 3, width=1 / 32, generator=seeded()).state_dict(), root / "d.pth")
    tiny = build("A", 3, width=1 / 32, image_size=32, generator=seeded())
    torch.save(tiny.state_dict(), root / "a.pth")
    return root


@pytest.fixture
def tiny(imagenet_like):
    """Arguments of a run that takes a moment."""
    root = imagenet_like
    files = ["--data", root, "--weights", root / "a.pth"]
    return [*map(str, files), "--family", "paper", "--crop", "32", "--scales", "32"]


def refused(capsys, arguments) -> str:
    """The one line with which the command refuses, exit status 2."""
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    assert ended.value.code == 2 and out == ""
    assert err.startswith("python -m vggbook.evaluate: error: ")
    assert err.count("\n") == 1 and err.endswith("\n")
    return err


def two_processes(*arguments):
    """The command under the environment that torchrun gives to each process; what both print."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        **os.environ,
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }
    runs = [
        subprocess.Popen(
            [sys.executable, "-m", "vggbook.evaluate", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]
    outputs = [run.communicate(timeout=180) for run in runs]
    assert all(run.returncode == 0 for run in runs), outputs
    return [out for out, _ in outputs]


def test_the_command_prints_the_papers_row(imagenet_like, capsys):
    root = imagenet_like
    arguments = ["--data", root / "val", "--weights", root / "d.pth", "--family", "paper"]
    main([*map(str, arguments), "--device", "cpu"])
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("D, dense, Q = 256, 384, 512: top-1 error ")
    row = "paper, Table 4, D, S = [256;512]: top-1 error 24.8 %, top-5 error 7.5 %"
    assert second.strip() == row


def test_two_processes_agree_with_one(tiny, imagenet_like, tmp_path, capsys):
    broken = imagenet_like / "val" / WNIDS[1] / "ILSVRC2012_val_9.JPEG"
    broken.write_bytes(b"no picture")
    try:
        arguments = [*tiny, "--block", "2", "--on-error", "skip", "--device", "cpu", "--json"]
        main([*arguments, str(tmp_path / "one.json")])
        alone = capsys.readouterr().out
        first, second = two_processes(*arguments, tmp_path / "two.json")
    finally:
        broken.unlink()
    assert first == alone and second == ""
    assert "(12 images, 3 classes, 1 skipped)\n" in alone and "ILSVRC2012_val_9.JPEG" in alone
    one, two = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("one", "two"))
    assert one["n"] == 12 and one["classes"] == list(WNIDS)
    assert one["arguments"]["on_error"] == "skip" and len(one["skipped"]) == 1
    for key in ("n", "top1", "top5", "confusion", "skipped"):
        assert one[key] == two[key]


def test_help_names_what_an_option_takes(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert ended.value.code == 0
    for option in ("--scales Q [Q ...]", "--crop N", "--grid N", "--block N", "--json FILE"):
        assert option in text
    assert "--weights FILE [FILE ...]" in text and "--sha256 HEX [HEX ...]" in text
    assert "Errors on a folder of images in ImageNet's layout" in text


HELP = {  # what an option takes, and what it is for
    "--data DATA": "folder with val/class/image inside",
    "--weights FILE [FILE ...]": ".pth or .caffemodel file, or torchvision's name; several are",
    "--family {paper,authors,torchvision}": "preprocessing, where the file does not tell",
    "--sha256 HEX [HEX ...]": "checksums of the files, in their order",
    "--method {dense,multi_crop,both}": "",
    "--scales Q [Q ...]": "smallest sides of the test images",
    "--crop N": "pixels a side that the net was trained on",
    "--grid N": "crops a side; 1 is the centre crop",
    "--no-flip": "leave out the mirrored images",
    "--average {posterior,logit}": "",
    "--block N": "images held at a time",
    "--on-error {error,skip}": "at an unreadable image",
    "--device DEVICE": "default: cuda where there is one",
    "--json FILE": "also write the result, confusion included, to this file",
    "--save FILE": "also write a recorded run to this file: errors, the paper's rows, provenance",
}


def test_help_says_of_every_option_what_it_takes(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    usage, about, options = capsys.readouterr().out.strip().split("\n\n")
    assert usage.startswith("usage: python -m vggbook.evaluate [-h]")
    assert about.startswith("Errors on a folder of images in ImageNet's layout")
    shown = [" ".join(text.split()) for text in re.split(r"\n  (?=-)", options)]
    nets = ",".join([*CONFIGS, *CONFIGS.aliases])
    described = {**HELP, f"--config {{{nets}}}": "default: as the file tells"}
    for takes, words in described.items():
        (text,) = (text for text in shown if f"{text} ".startswith(takes + " "))
        assert text.startswith(f"{takes} {words}".strip()), text
    assert len(described) == len(shown) - 2  # less the heading, and --help


@pytest.mark.parametrize("missing", ["--data", "--weights"])
def test_a_folder_and_a_file_must_be_named(missing, capsys):
    arguments = {"--data": ".", "--weights": "a.pth"}
    del arguments[missing]
    said = refused(capsys, [word for pair in arguments.items() for word in pair])
    assert f"the following arguments are required: {missing} " in said


@pytest.mark.parametrize("way, rows", [([], 1), (["--no-flip", "--grid", "1"], 0)])
def test_a_rung_is_saved_as_a_recorded_run(imagenet_like, tmp_path, capsys, way, rows):
    """A file that pages can read: it repeats what was printed, the paper's rows and its origin."""
    files = ["--data", imagenet_like, "--weights", imagenet_like / "d.pth", "--family", "paper"]
    arguments = [*files, "--scales", "256", "--device", "cpu", *way, "--save", tmp_path / "r.json"]
    found = main([str(a) for a in arguments])
    run = recorded.read(tmp_path / "r.json")
    said = capsys.readouterr().out
    errors = f"top-1 error {run['top1']:.2f} %, top-5 error {run['top5']:.2f} % (12 images"
    assert errors in said and run["images"] == found.n == 12 and run["classes"] == 3
    assert len(run["paper"]) == said.count("paper, Table 3, D") == rows
    assert all(row["config"] == "D" and row["table"] == "3" for row in run["paper"])
    assert run["nets"] == ["D"] and run["options"]["no_flip"] == bool(way)
    made = run["provenance"]
    words = shlex.split(made["command"])
    assert words[:3] == ["python", "-m", "vggbook.evaluate"] and words[3:] == [*map(str, arguments)]
    assert made["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert made["device"] == processor()
    asked = {"weights", "config", "family", "sha256", "method", "scales", "crop", "grid", "no_flip"}
    assert set(run["options"]) == asked | {"average", "block", "on_error", "device"}
    keys = {"nets", "options", "images", "classes", "skipped", "top1", "top5", "paper"}
    assert set(run) == keys | {"provenance"} and run["skipped"] == 0
    text = (tmp_path / "r.json").read_text(encoding="utf-8")
    assert text.startswith('{\n "nets": [\n  "D"\n ],\n "options": {\n  ') and text.endswith(
        "\n}\n"
    )


def test_a_run_is_repeated_by_the_command_in_its_file(tiny, tmp_path, monkeypatch):
    """As a shell hands it over; whatever it holds is quoted."""
    file = str(tmp_path / "a run.json")
    arguments = [*tiny, "--device", "cpu", "--save", file]
    monkeypatch.setattr(sys, "argv", ["vggbook-evaluate", *arguments])
    main()
    command = json.loads((tmp_path / "a run.json").read_text())["provenance"]["command"]
    assert shlex.split(command) == ["python", "-m", "vggbook.evaluate", *arguments]


# --- what cannot be done --------------------------------------------------------------------------
def test_what_is_wrong_with_the_data(tiny, imagenet_like, tmp_path, capsys):
    rest = tiny[2:]
    assert "nowhere" in refused(capsys, ["--data", tmp_path / "nowhere", *rest])
    for wnid in ("a", "b", "c"):
        (tmp_path / "val" / wnid).mkdir(parents=True)
        save(tmp_path / "val" / wnid / "0.JPEG", "RGB")
    cut = tmp_path / "val" / "b" / "0.JPEG"
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    arguments = ["--data", str(tmp_path), *rest]
    assert str(cut) in refused(capsys, arguments)
    found = main([*arguments, "--on-error", "skip"])
    assert found.n == 2 and list(found.skipped) == [1] and str(cut) in found.skipped[1]
    assert "  skipped: " in capsys.readouterr().out
    cut.unlink()
    cut.parent.rmdir()
    line = refused(capsys, arguments)
    assert "classes of dataset=2: expected the network's, 3" in line


@pytest.mark.parametrize(
    "options, message",
    [
        (["--scales", "31"], "Q=31: expected at least the crop of the network, 32 pixels"),
        (["--scales", "0"], "'0': expected a whole number of at least 1"),
        (["--grid", "-1"], "expected a whole number of at least 1"),
        (["--block", "two"], "'two': expected a whole number of at least 1"),
        (["--crop", "16"], "image_size=16: expected at least 32 pixels a side for A"),
        (["--method", "sparse"], "invalid choice: 'sparse'"),
        (["--family", "caffe"], "invalid choice: 'caffe'"),
        (["--average", "sum"], "invalid choice: 'sum'"),
        (["--on-error", "stop"], "invalid choice: 'stop'"),
        (["--config", "vgg16"], "invalid choice: 'vgg16'"),
        (["--device", "abacus"], "'abacus': expected a device"),
        (["--device", "meta"], "'meta': expected a device that computes"),
        (["--sha256", "00000000"], "a.pth: SHA-256 is"),
        (["--sha256", "00000000", "11111111"], "expected a checksum for each of the 1 files"),
        (["--weights", "nowhere.pth"], "nowhere.pth"),
        (["--config", "B"], "does not fit B"),
        (["--json", "nowhere/result.json"], "nowhere/result.json"),
        (["--json", "."], "Is a directory"),
        (["--save", "nowhere/run.json"], "nowhere/run.json"),
    ],
)
def test_refused_with_one_line(tiny, options, message, capsys):
    assert message in refused(capsys, [*tiny, *options])


def test_a_weights_file_less_its_checksum_is_not_dropped(tiny, imagenet_like, capsys):
    files = [imagenet_like / "a.pth"] * 2
    arguments = [*tiny, "--weights", *files, "--sha256", "00000000"]
    assert "expected a checksum for each of the 2 files" in refused(capsys, arguments)


def test_the_output_path_is_tried_before_the_work(tiny, tmp_path, monkeypatch, capsys):
    def work(*args, **options):
        raise AssertionError("the work has begun")

    monkeypatch.setattr(command, "open_dataset", work)
    refused(capsys, [*tiny, "--json", tmp_path / "no" / "folder.json"])
    kept = tmp_path / "kept.json"
    kept.write_text("before")
    for path in (kept, tmp_path / "new.json"):
        with pytest.raises(AssertionError, match="the work has begun"):
            main([*tiny, "--json", str(path)])
    assert kept.read_text() == "before" and not (tmp_path / "new.json").exists()


def test_two_processes_may_try_one_output_path(calls, tmp_path, monkeypatch):
    """The other one has taken the empty file away again."""

    @contextlib.contextmanager
    def opened(path, mode):
        with open(path, mode):
            path.unlink()
        yield

    monkeypatch.setattr(command, "open", opened, raising=False)
    path = tmp_path / "x.json"
    main(["--data", str(tmp_path), "--weights", "x.pth", "--device", "cpu", "--json", str(path)])
    assert json.loads(path.read_text())["n"] == 1


# --- what each option does ------------------------------------------------------------------------
@pytest.fixture
def calls(monkeypatch):
    """What the command hands on to the functions that do the work."""
    made = {}
    real = command.evaluate

    def load(source, config, **options):
        made.setdefault("load_weights", []).append((source, config, options))
        return build("A", 3, width=1 / 32, image_size=32, generator=seeded())

    def run(nets, dataset, *arguments, **options):
        made["evaluate"] = (len(nets), arguments, options)
        return real(nets, dataset, "dense", 32)

    def opened(*arguments):
        made["open_dataset"] = arguments
        return [(torch.zeros(3, 32, 32, dtype=torch.uint8), 0)]

    monkeypatch.setattr(command, "load_weights", load)
    monkeypatch.setattr(command, "evaluate", run)
    monkeypatch.setattr(command, "open_dataset", opened)
    return made


def test_defaults_are_handed_on(calls, tmp_path):
    main(["--data", str(tmp_path), "--weights", "x.pth"])
    assert calls["open_dataset"] == ("folder", tmp_path, "val")
    empty = {"family": None, "sha256": None, "image_size": 224}
    assert calls["load_weights"] == [("x.pth", None, empty)]
    plain = {"grid": 5, "average": "posterior", "block": 64, "on_error": "error", "dtype": None}
    assert calls["evaluate"] == (1, ("dense", [256, 384, 512], True), plain)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_split_itself_may_be_named(calls, tmp_path, split):
    main(["--data", str(tmp_path / split), "--weights", "x.pth"])
    assert calls["open_dataset"] == ("folder", tmp_path, split)


@pytest.mark.parametrize(
    "option, name, choices",
    [
        ("--on-error", "on_error", ["error", "skip"]),
        ("--average", "average", ["posterior", "logit"]),
    ],
)
def test_each_choice_may_be_given(calls, tmp_path, option, name, choices):
    for choice in choices:
        main(["--data", str(tmp_path), "--weights", "x.pth", option, choice])
        assert calls["evaluate"][2][name] == choice


def test_every_option_is_handed_on(calls, tmp_path, capsys):
    given = "--weights x.pth y.pth --sha256 12345678 abcdef01 --config VGG16 --family authors"
    given += " --method both --scales 300 280 --crop 96 --grid 3 --no-flip --average logit"
    given += " --block 7 --on-error skip --device cpu"
    main(["--data", str(tmp_path / "test"), *given.split()])
    assert calls["open_dataset"] == ("folder", tmp_path, "test")
    options = {"family": "authors", "image_size": 96}
    assert calls["load_weights"] == [
        ("x.pth", "VGG16", {**options, "sha256": "12345678"}),
        ("y.pth", "VGG16", {**options, "sha256": "abcdef01"}),
    ]
    handed = {"grid": 3, "average": "logit", "block": 7, "on_error": "skip", "dtype": None}
    assert calls["evaluate"] == (2, ("both", [300, 280], False), handed)
    assert capsys.readouterr().out.startswith("A+A, both, Q = 300, 280: top-1 error ")


@pytest.mark.parametrize("option", [["--no-flip"], ["--grid", "3"], ["--average", "logit"]])
def test_the_papers_rows_stand_beside_the_papers_way_only(calls, tmp_path, capsys, option):
    arguments = ["--data", str(tmp_path), "--weights", "x.pth", "--scales", "256"]
    main(arguments)
    assert "paper, Table 3, A, S = 256: top-1 error 29.6 %" in capsys.readouterr().out
    main([*arguments, *option])
    assert "paper" not in capsys.readouterr().out


@pytest.mark.parametrize("environment, gpu", [({}, 0), ({"LOCAL_RANK": "3"}, 3)])
def test_under_torchrun_each_process_takes_its_gpu(calls, tmp_path, monkeypatch, environment, gpu):
    """A machine with GPUs is pretended: what would be called is recorded."""
    made = []
    for name in ("LOCAL_RANK", "RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"RANK": "0", "WORLD_SIZE": "4", **environment}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", lambda n: made.append(("device", n)))
    monkeypatch.setattr(torch.nn.Module, "to", lambda net, *to: made.append(("to", *to)) or net)
    begun = lambda backend, timeout: made.append(("begin", backend))  # noqa: E731
    monkeypatch.setattr(torch.distributed, "init_process_group", begun)
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: made.append(("end",)))
    main(["--data", str(tmp_path), "--weights", "x.pth"])
    used = [call for call in made if call != ("to", "meta")]
    assert used == [("device", gpu), ("begin", "nccl"), ("to", "cuda"), ("end",)]
    assert calls["evaluate"][2]["dtype"] is torch.bfloat16


def test_one_process_takes_the_gpu_that_is_current(calls, tmp_path, monkeypatch):
    """Without torchrun, however many there are."""
    made = []
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", lambda n: made.append(("device", n)))
    monkeypatch.setattr(torch.nn.Module, "to", lambda net, *to: made.append(("to", *to)) or net)
    main(["--data", str(tmp_path), "--weights", "x.pth"])
    assert [call for call in made if call != ("to", "meta")] == [("to", "cuda")]


def test_only_the_first_process_reports(calls, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    main(["--data", str(tmp_path), "--weights", "x.pth", "--json", str(tmp_path / "x.json")])
    assert capsys.readouterr().out == "" and not (tmp_path / "x.json").exists()


OPTIONS = """
    --weights a.pth a.pth | --weights d.pth | --weights nowhere | --weights val
    --sha256 00 | --sha256 0123456789 | --sha256 x y
    --config A | --config D | --config Z | --family torchvision | --family caffe
    --method dense | --method multi_crop | --method both | --method | --no-flip
    --scales 32 | --scales 40 32 | --scales 1 | --scales -3 | --scales 1e3
    --crop 32 | --crop 33 | --crop 48 | --crop nan | --grid 1 | --grid 2 | --grid 0
    --average logit | --average mean | --block 1 | --block 5 | --block 0.5
    --on-error skip | --on-error stop | --device cpu | --device cpu:0 | --device cuda:99
    --json result.json | --json val | --json no/where | --unknown | stray
"""
CHOICES = [choice.split() for line in OPTIONS.strip().splitlines() for choice in line.split("|")]


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.sampled_from(CHOICES), max_size=4))
def test_any_combination_of_options_gives_a_result_or_one_line(tiny, imagenet_like, capsys, drawn):
    before = os.getcwd()
    os.chdir(imagenet_like)
    try:
        found = main([*tiny, *(word for option in drawn for word in option)])
    except SystemExit as ended:
        out, err = capsys.readouterr()
        assert ended.code == 2 and out == "" and err.count("\n") == 1
    else:
        assert found.n == 12 and 0 <= found.top5 <= found.top1 <= 100
        assert capsys.readouterr().out.count("top-1 error") >= 1
    finally:
        os.chdir(before)
