"""The command line: every option is handed on, every error is one line and exit status 2."""

import os
import re
import subprocess
import sys
from dataclasses import asdict, fields, replace
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_training import SHELL, folder_with_a_broken_image, pictures

from vggbook.train import Options, Recipe, __main__, load_run, main, named_layers


def ends(capsys, arguments) -> str:
    """What the command says when it ends with status 2: one line."""
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    said = capsys.readouterr().err
    assert stop.value.code == 2 and said.count("\n") == 1 and said.endswith("\n"), said
    return said


def test_help_is_complete(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert stop.value.code == 0 and "torchrun" in text
    for f in fields(Recipe):
        assert "--" + f.name.replace("_", "-") in text
        assert f.metadata["help"].split(":")[0][:20] in text
    assert "--mean R G B" in text and "--scales S [S ...]" in text
    assert "--freeze LAYER [LAYER ...]" in text and "--init-from FILE" in text
    for f in fields(Options):
        if f.name not in ("eigen", "log"):
            assert "--" + f.name.replace("_", "-") in text


HELP = {  # what an option takes: what it is for, its default
    "--config CONFIG": ("configuration: A, A-LRN, B, C, D, E", "D"),
    "--crop CROP": ("side of the training crop, pixels", "224"),
    "--scales S [S ...]": ("smallest side in pixels; two numbers: drawn per image", "256"),
    "--batch-size BATCH_SIZE": ("images a step, over all processes", "256"),
    "--lr LR": ("learning rate", "0.01"),
    "--momentum MOMENTUM": ("momentum", "0.9"),
    "--weight-decay WEIGHT_DECAY": ("L2 penalty", "0.0005"),
    "--dropout DROPOUT": ("the first two FC layers", "0.5"),
    "--lr-factor LR_FACTOR": ("multiplies the rate when validation accuracy", "0.1"),
    "--lr-drops LR_DROPS": ("the next plateau ends the training", "3"),
    "--patience PATIENCE": ("epochs without a better validation accuracy", "4"),
    "--max-epochs MAX_EPOCHS": ("epochs at most", "74"),
    "--init INIT": ("random start: paper, std0.01, glorot, he, torch", "he"),
    "--flip, --no-flip": ("horizontal flips", "True"),
    "--colour, --no-colour": ("RGB colour shift", "True"),
    "--gain GAIN": ("multiplies the mean-subtracted pixels", "1.0"),
    "--width WIDTH": ("multiplies all channel counts", "1.0"),
    "--batch-norm, --no-batch-norm": ("batch normalisation", "False"),
    "--seed SEED": ("weights, order, crops, colours and dropout", "0"),
    "--data {shapes,cifar10,stl10,imagenette,imagenet,folder}": ("data set", "None"),
    "--root ROOT": ("needed for all but shapes", "None"),
    "--download": ("where it is missing", "False"),
    "--images IMAGES": ("shapes: training images", "8192"),
    "--val-images VAL_IMAGES": ("shapes: validation images", "2048"),
    "--in-memory": ("render or decode the sets once", "False"),
    "--mean R G B": ("mean RGB, 0 to 255", "None"),
    "--on-error {error,skip}": ("an unreadable image", "error"),
    "--workers WORKERS": ("processes that read images", "0"),
    "--out OUT": ("folder of the run", "None"),
    "--init-from FILE": ("or four conv and three FC layers of A", "None"),
    "--freeze LAYER [LAYER ...]": ("layers that stay as they are", "()"),
    "--device DEVICE": ("auto, cpu, cuda, cuda:1", "auto"),
    "--precision {auto,fp32,bf16,fp16}": ("arithmetic", "auto"),
    "--compile": ("torch.compile", "False"),
    "--micro-batch MICRO_BATCH": ("images a pass and process", "None"),
    "--save-minutes SAVE_MINUTES": ("age at which a checkpoint is renewed", "10.0"),
}


def test_help_says_of_every_option_what_it_takes_and_its_default(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    usage, about, *groups, end = capsys.readouterr().out.strip().split("\n\n")
    assert usage.startswith("usage: python -m vggbook.train [-h]")
    assert about == "Train a network of the VGG paper by its recipe (Sect. 3.1)."
    assert end.startswith("torchrun --nproc_per_node=N -m vggbook.train")
    assert [group.split("\n")[0] for group in groups] == ["options:", "recipe:", "data:", "run:"]
    shown = re.split(r"\n  (?=-)", "\n".join(groups[1:]))
    shown = [" ".join(option.removesuffix(":").split()) for option in shown]
    found = {}
    for takes, (words, default) in HELP.items():
        (found[takes],) = (text for text in shown if text.startswith(takes + " "))
        assert re.search(rf" {re.escape(words)}\b", found[takes]), found[takes]
        assert f"(default: {default})" in found[takes], found[takes]
    assert len(found) == len(shown) - 1  # the first part is the first group's name


@pytest.mark.parametrize("missing", ["--data", "--out"])
def test_a_data_set_and_a_folder_must_be_named(missing, tmp_path, capsys):
    arguments = {"--data": "shapes", "--out": str(tmp_path)}
    del arguments[missing]
    said = ends(capsys, [word for pair in arguments.items() for word in pair])
    assert said.startswith("python -m vggbook.train: error: ")
    assert f"the following arguments are required: {missing} " in said


@pytest.mark.parametrize(
    "options, words",
    [
        (["--config", "Z"], "config='Z': expected one of A, "),
        (["--scales", "20"], "at least the crop"),
        (["--scales", "40", "36"], "(smaller, larger)"),
        (["--scales", "1", "2", "3"], "(smaller, larger)"),
        (["--lr", "-1"], "lr=-1"),
        (["--lr", "fast"], "invalid float"),
        (["--init", "magic"], "init='magic'"),
        (["--precision", "fp64"], "invalid choice"),
        (["--precision", "fp16", "--device", "cpu"], "needs a GPU"),
        (["--device", "abacus"], "device='abacus'"),
        (["--micro-batch", "0"], "micro_batch=0"),
        (["--workers", "-1"], "workers=-1"),
        (["--images", "4"], "--images=4: expected a whole number of at least 8"),
        (["--val-images", "0"], "--val-images=0: expected a whole number of at least 1"),
        (["--data", "imagenet"], "--root=None: expected the folder of imagenet"),
        (["--data", "mnist"], "invalid choice"),
        (["--data", "folder", "--root", "/nowhere/at/all"], "--root='/nowhere/at/all'"),
        (
            ["--data", "folder", "--root", ".", "--download"],
            "--download=True: expected no such option, since folder cannot be downloaded",
        ),
        (["--data", "imagenet", "--root", ".", "--download"], "imagenet cannot be downloaded"),
        (["--init-from", "/nowhere.pt"], "does not exist"),
        (["--init-from", __file__], "is no checkpoint: it starts with"),
        (["--save-minutes", "nan"], "save_minutes=nan"),
        (["--mean", "1", "2", "300"], "mean=[1.0, 2.0, 300.0]"),
        (["--on-error", "ignore"], "invalid choice"),
        (["--out", __file__], "this is a file"),
        (["--out", __file__ + "/run"], "cannot be written"),
        (["--colour", "maybe"], "unrecognized arguments"),
        (["--freeze", ""], "freeze=['']"),
    ],
)
def test_options_are_checked_before_data_is_touched(options, words, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(__main__, "open_sets", lambda *_: pytest.fail("data was touched"))
    assert words in ends(capsys, [*SHELL, "--out", tmp_path / "run", *options])


def test_batch_must_divide_among_processes(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "3")
    said = ends(capsys, [*SHELL, "--out", tmp_path])
    assert "--batch-size=8: expected a multiple of the 3 processes" in said


# --- what is handed on ----------------------------------------------------------------------
@pytest.fixture
def handed(monkeypatch):
    """``fit`` notes what it gets."""
    calls = []

    def note(recipe, train, val, out, **rest):
        calls.append(SimpleNamespace(recipe=recipe, train=train, val=val, out=out, **rest))
        return SimpleNamespace(ended="", checkpoint=None)

    monkeypatch.setattr(__main__, "fit", note)
    return calls


def test_defaults_are_those_of_the_recipe_and_the_options(handed, tmp_path):
    main(["--data", "shapes", "--out", str(tmp_path)])
    (call,) = handed
    assert call.recipe == Recipe() and call.out == tmp_path and call.init_from is None
    expected = asdict(Options()) | {"device": call.options.device}
    assert asdict(call.options) == expected
    assert call.options.device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert (len(call.train), len(call.val)) == (8192, 2048)
    assert (call.train.split, call.val.split) == ("train", "val")
    assert call.train.size == call.val.size == (256, 256)


RECIPES = {
    "config": ("B", "B"),
    "crop": ("48", 48),
    "scales": ("52 60", (52, 60)),
    "batch_size": ("5", 5),
    "lr": ("0.25", 0.25),
    "momentum": ("0.5", 0.5),
    "weight_decay": ("0.125", 0.125),
    "dropout": ("0.25", 0.25),
    "lr_factor": ("0.5", 0.5),
    "lr_drops": ("1", 1),
    "patience": ("7", 7),
    "max_epochs": ("9", 9),
    "init": ("glorot", "glorot"),
    "flip": (None, False),
    "colour": (None, False),
    "gain": ("0.5", 0.5),
    "width": ("0.5", 0.5),
    "batch_norm": ("", True),
    "seed": ("11", 11),
}


def test_every_field_of_the_recipe_has_its_option(handed, tmp_path):
    arguments = ["--data", "shapes", "--out", str(tmp_path)]
    for name, (text, _) in RECIPES.items():
        dashed = name.replace("_", "-")
        arguments += [f"--no-{dashed}"] if text is None else [f"--{dashed}", *text.split()]
    main(arguments)
    assert asdict(handed[0].recipe) == {name: value for name, (_, value) in RECIPES.items()}
    assert handed[0].train.seed == 11 and handed[0].train.size == (60, 60)


@pytest.mark.parametrize(
    "arguments, name, value",
    [
        (["--precision", "bf16"], "precision", "bf16"),
        (["--compile"], "compile", True),
        (["--micro-batch", "3"], "micro_batch", 3),
        (["--workers", "2"], "workers", 2),
        (["--on-error", "skip"], "on_error", "skip"),
        (["--save-minutes", "0.5"], "save_minutes", 0.5),
        (["--mean", "1", "2", "3"], "mean", [1.0, 2.0, 3.0]),
        (["--freeze", "conv", "fc1"], "freeze", ("conv", "fc1")),
        (["--device", "cpu"], "device", torch.device("cpu")),
    ],
)
def test_every_option_reaches_fit(handed, tmp_path, arguments, name, value):
    main([*SHELL, "--out", str(tmp_path), *arguments])
    assert getattr(handed[0].options, name) == value
    given = asdict(handed[0].options)
    plain = asdict(Options(device=handed[0].options.device))
    assert {key for key in given if given[key] != plain[key]} <= {name}


def test_as_few_images_as_a_batch_holds_will_do(handed, tmp_path):
    """And one validation image: the last good values of both."""
    main([*SHELL, "--images", "8", "--val-images", "1", "--out", str(tmp_path)])
    assert (len(handed[0].train), len(handed[0].val)) == (8, 1)


@pytest.mark.parametrize("choice", ["error", "skip"])
def test_each_choice_may_be_given(handed, tmp_path, choice):
    main([*SHELL, "--on-error", choice, "--out", str(tmp_path)])
    assert handed[0].options.on_error == choice


def test_real_sets_are_opened_by_name_split_and_root(handed, tmp_path, monkeypatch):
    opened = []

    def opening(*given, **named):
        opened.append((*given, named))
        return pictures()

    monkeypatch.setattr(__main__, "open_dataset", opening)
    main([*SHELL, "--data", "cifar10", "--root", str(tmp_path), "--out", str(tmp_path / "run")])
    new = ["--data", "stl10", "--root", str(tmp_path / "new"), "--download"]
    main([*SHELL, *new, "--out", str(tmp_path / "run")])
    assert opened == [
        ("cifar10", tmp_path, "train", {"download": False}),
        ("cifar10", tmp_path, "val", {"download": False}),
        ("stl10", tmp_path / "new", "train", {"download": True}),
        ("stl10", tmp_path / "new", "val", {"download": True}),
    ]


@pytest.mark.parametrize("rank", [0, 1])
def test_under_torchrun_one_process_fetches_first(handed, tmp_path, monkeypatch, rank):
    """Two processes, pretended; both open the set after the barrier, one has fetched it before."""
    calls = []

    def opening(name, root, split, download):
        calls.append((name, root, split, download))
        return pictures()

    monkeypatch.setattr(__main__, "open_dataset", opening)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_rank", lambda: rank)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "barrier", lambda: calls.append("barrier"))
    arguments = ["--data", "imagenette", "--root", tmp_path, "--download", "--out", tmp_path / "r"]
    main([*SHELL, *map(str, arguments)])
    both = [("imagenette", tmp_path, split, True) for split in ("train", "val")]
    assert calls == [*([both[0]] if rank == 0 else []), "barrier", *both]
    assert (tmp_path / "r").exists() == (rank == 0)  # one process tries the folder


def test_a_process_group_is_begun_and_ended_under_torchrun(handed, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(dist, "is_initialized", lambda: False)
    monkeypatch.setattr(
        dist, "init_process_group", lambda backend, timeout: calls.append((backend, timeout))
    )
    monkeypatch.setattr(dist, "destroy_process_group", lambda: calls.append("end"))
    main([*SHELL, "--out", str(tmp_path), "--device", "cpu"])
    (backend, timeout), end = calls
    assert backend == "gloo" and timeout.total_seconds() == 7200 and end == "end"


@pytest.mark.parametrize("rank", [0, 1])
def test_the_first_process_reports(handed, tmp_path, monkeypatch, capsys, rank):
    monkeypatch.setattr(__main__, "world", lambda: (rank, 2))
    main([*SHELL, "--out", str(tmp_path)])
    assert capsys.readouterr().out == ("" if rank else "ended: ; None\n")


# --- whole runs -----------------------------------------------------------------------------
QUICK = ["--max-epochs", "1", "--no-colour", "--gain", "0.015625", "--device", "cpu"]


def test_trains_from_a_shell_and_says_what_is_wrong(tmp_path, capsys):
    out = tmp_path / "run"
    run = main([*SHELL, *QUICK, "--out", str(out), "--in-memory"])
    assert "ended: max_epochs=1 reached" in capsys.readouterr().out
    assert load_run(out / "last.pt").recipe == run.recipe and not run.recipe.colour
    said = ends(capsys, [*SHELL, *QUICK, "--out", out, "--lr", "0.5"])
    assert "CheckpointError" in said and "lr: 0.01 there, 0.5 here" in said
    empty = ["--data", "folder", "--root", tmp_path]
    assert "FileNotFoundError" in ends(capsys, [*SHELL, *QUICK, "--out", tmp_path / "b", *empty])
    said = ends(capsys, [*SHELL, *QUICK, "--out", tmp_path / "c", "--lr", "1e30", "--images", "64"])
    assert "Diverged" in said and "Try a smaller lr" in said


def test_skip_reaches_every_pass(tmp_path, capsys):
    """Mean and principal components from the files, then from memory; in both sets."""
    for split in ("train", "val"):
        folder_with_a_broken_image(tmp_path, split)
    colour = [option for option in QUICK if option != "--no-colour"]
    files = [*SHELL, *colour, "--data", "folder", "--root", str(tmp_path), "--batch-size", "4"]
    for memory in ([], ["--in-memory"]):
        out = tmp_path / f"run{len(memory)}"
        assert "b/3.png" in ends(capsys, [*files, *memory, "--out", out])
        main([*files, *memory, "--out", str(out), "--on-error", "skip"])
        said = [line for line in capsys.readouterr().out.splitlines() if "unreadable" in line]
        assert len(said) == 1 and "2 unreadable images" in said[0]
        assert "train/b/3.png" in said[0] and "val/b/3.png" in said[0]
    a, b = (load_run(tmp_path / f"run{n}" / "last.pt") for n in (0, 1))
    torch.testing.assert_close(a.mean, b.mean)


def test_fine_tunes_from_a_checkpoint_with_other_classes(tmp_path, capsys):
    source = replace(Recipe("A", crop=32, scales=32), width=1 / 32).net(7)
    torch.save(source.state_dict(), tmp_path / "seven.pth")
    out = tmp_path / "run"
    options = ["--init-from", tmp_path / "seven.pth", "--freeze", "conv", "--out", out]
    run = main([*SHELL, *QUICK, *map(str, options)])
    said = capsys.readouterr().out
    assert "layers from" in said and "seven.pth" in said and "fc3 has 7 outputs there" in said
    ours, theirs = named_layers(run.model), named_layers(source)
    assert torch.equal(ours["conv5_2"].weight, theirs["conv5_2"].weight)
    assert not torch.equal(ours["fc1"].weight, theirs["fc1"].weight)


def test_an_interrupt_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(__main__, "fit", interrupted)
    with pytest.raises(SystemExit) as stop:
        main([*SHELL, "--out", str(tmp_path)])
    told = f"python -m vggbook.train: interrupted; the same command goes on from {tmp_path}\n"
    assert stop.value.code == 130 and capsys.readouterr().err == told


def test_runs_as_a_module(tmp_path):
    command = [sys.executable, "-m", "vggbook.train", *SHELL, "--out", str(tmp_path), "--crop", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "crop=0: expected a whole number of at least 1" in done.stderr


OPTIONS = ("crop", "scales", "batch-size", "lr", "dropout", "width", "patience", "seed", "gain")
OPTIONS += ("images", "val-images", "workers", "micro-batch", "save-minutes")
NUMBERS = st.sampled_from(["0", "-1", "1", "2.5", "8", "40", "nan", "1e9", "x", ""])
PLACES = st.sampled_from([".", "/nowhere", __file__, "vgg99", "", __file__ + "/below"])


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.dictionaries(st.sampled_from(OPTIONS), NUMBERS, max_size=4),
    st.dictionaries(st.sampled_from(["root", "init-from", "freeze"]), PLACES, max_size=2),
    st.sampled_from(["run", "file", "file/below"]),
    st.sampled_from(["shapes", "folder", "cifar10"]),
)
def test_any_options_give_a_result_or_one_line(
    handed, tmp_path, capsys, numbers, places, out, data
):
    (tmp_path / "file").write_text("")
    given = {"data": data, "out": str(tmp_path / out), **numbers, **places}
    arguments = [*SHELL, *(part for name, text in given.items() for part in (f"--{name}", text))]
    capsys.readouterr()
    try:
        main(arguments)
    except SystemExit as stop:
        assert stop.code == 2 and capsys.readouterr().err.count("\n") == 1
