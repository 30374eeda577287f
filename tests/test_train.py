"""Recipe, the training step, the plateau rule, layers from A, the command line. Small nets on random pictures: form, not accuracy."""

import math
from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from vggbook import CONFIGS, claims
from vggbook import train as T
from vggbook.data import ArrayDataset, Loader, mean_rgb
from vggbook.train import (
    Diverged,
    History,
    KeyedDropout,
    Recipe,
    copy_layers,
    fit,
    load_run,
    named_layers,
)

TINY = Recipe(
    "A",
    crop=32,
    scales=(32, 40),
    batch_size=8,
    width=1 / 32,
    gain=1 / 64,
    lr=0.01,
    max_epochs=2,
    colour=False,
)


def pictures(n=32, classes="abcd", seed=0):
    generator = torch.Generator().manual_seed(seed)
    return ArrayDataset(
        torch.randint(0, 256, (n, 3, 36, 36), dtype=torch.uint8, generator=generator),
        torch.arange(n) % len(classes),
        classes,
    )


def weights(run):
    return torch.cat([p.detach().flatten() for p in run.model.parameters()])


def quiet(recipe, train=None, val=None, out=None, **options):
    options = {"device": "cpu", "log": None, **options}
    return fit(recipe, pictures() if train is None else train, val, out, **options)


# --- the recipe ---------------------------------------------------------------------------------------------------------------------
def test_defaults_are_the_papers():
    paper, recipe = {c.id: c.value for c in claims()}, Recipe()
    assert recipe.batch_size == paper["batch-size"] and recipe.momentum == paper["momentum"]
    assert recipe.weight_decay == paper["weight-decay"] and recipe.dropout == paper["dropout"]["p"]
    assert (
        recipe.lr == paper["lr-initial"]
        and recipe.lr_factor == paper["lr-rule"]["factor"]
        and recipe.lr_drops == paper["lr-drops"]["drops"]
    )
    assert (
        recipe.max_epochs == paper["epochs"]
        and recipe.crop == paper["aug-crop"]["crop"]
        and recipe.scales in paper["scale-s-fixed"]
    )
    assert (
        recipe.gain == recipe.width == 1 and recipe.flip and recipe.colour and not recipe.batch_norm
    )
    second = recipe.fine_tune()
    assert (second.scales, second.lr) == (384, paper["scale-384-init"]["lr"])
    jittered = second.fine_tune((256, 512))
    assert (
        jittered.scales == tuple(paper["scale-jitter-range"][k] for k in ("min", "max"))
        and jittered.test_scale == 384
    )


@pytest.mark.parametrize(
    "field, value, words",
    [
        ("config", "F", "valid names"),
        ("crop", 0, "at least 1"),
        ("crop", 64.5, "whole number"),
        ("scales", 200, "at least the crop"),
        ("scales", (512, 256), "S_min must not exceed"),
        ("scales", (256, 300, 400), r"\(S_min, S_max\)"),
        ("scales", "256", "pixels"),
        ("batch_size", 0, "at least 1"),
        ("batch_size", True, "whole number"),
        ("lr", 0.0, "above 0"),
        ("lr", float("nan"), "finite"),
        ("lr", float("inf"), "finite"),
        ("momentum", 1.0, "below 1"),
        ("weight_decay", -1e-4, "at least 0"),
        ("dropout", 1.0, "below 1"),
        ("lr_factor", 1.0, "between 0 and 1"),
        ("lr_drops", -1, "at least 0"),
        ("patience", 1.5, "whole number"),
        ("max_epochs", 0, "at least 1"),
        ("init", "kaiming", "glorot"),
        ("flip", 1, "True or False"),
        ("gain", 0, "above 0"),
        ("width", -1, "above 0"),
        ("seed", -1, "at least 0"),
    ],
)
def test_bad_recipe_names_field_value_and_remedy(field, value, words):
    with pytest.raises(ValueError, match=words) as error:
        Recipe(**{field: value})
    assert str(error.value).startswith(f"{field}={value!r}")


def test_aliases_and_lists_become_the_one_form():
    assert Recipe("VGG16").config == "D" and Recipe(scales=[256, 512]) == Recipe(scales=(256, 512))


# --- layers from A ------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["B", "C", "D", "E", "A-LRN"])
def test_layers_from_a_go_by_name(name):
    source, target = (Recipe(n, crop=32, scales=32, width=1 / 16).net(5) for n in ("A", name))
    before = {n: m.weight.clone() for n, m in named_layers(target).items()}
    for module in named_layers(source).values():
        torch.nn.init.normal_(module.bias)
    copied = copy_layers(source, target)
    assert copied == ("conv1_1", "conv2_1", "conv3_1", "conv3_2", "fc1", "fc2", "fc3")
    for n, module in named_layers(target).items():
        if n in copied:
            assert torch.equal(module.weight, named_layers(source)[n].weight) and torch.equal(
                module.bias, named_layers(source)[n].bias
            )
        else:
            assert torch.equal(module.weight, before[n]), n


def test_named_layers_have_the_shapes_of_table_1():
    layers = named_layers(Recipe("E", crop=32, scales=32).net(10))
    assert list(layers) == [n for n in CONFIGS["E"].layer_names if n.startswith("conv")] + [
        "fc1",
        "fc2",
        "fc3",
    ]
    assert (
        tuple(layers["conv3_1"].weight.shape) == (256, 128, 3, 3)
        and layers["fc3"].out_features == 10
    )


def test_layers_of_another_shape_are_refused_and_nothing_is_copied():
    source, target = (Recipe(n, crop=32, scales=32, width=1 / 16).net(5) for n in ("A", "B-5x5"))
    before = [p.clone() for p in target.parameters()]
    with pytest.raises(ValueError, match=r"conv1_1.*\(4, 3, 3, 3\).*\(4, 3, 5, 5\)"):
        copy_layers(source, target)
    assert all(map(torch.equal, before, target.parameters()))
    with pytest.raises(ValueError, match=r"conv1_2.*no such layer"):
        copy_layers(source, target, ("conv1_2",))


def test_fit_starts_from_a_net_or_a_checkpoint(tmp_path):
    first = quiet(replace(TINY, max_epochs=1), out=tmp_path)
    still = {"lr": 1e-30, "max_epochs": 1, "weight_decay": 0.0}
    deeper = quiet(replace(TINY, config="B", **still), init_from=tmp_path / "last.pt")
    for name in ("conv1_1", "conv3_2", "fc3"):
        assert torch.equal(
            named_layers(deeper.model)[name].weight, named_layers(first.model)[name].weight
        )
    same = quiet(replace(TINY, **still), init_from=first.model)  # the same net: all layers
    torch.testing.assert_close(weights(same), weights(first), atol=1e-20, rtol=0)


# --- the step -----------------------------------------------------------------------------------------------------------------------
def test_equals_a_plain_loop():
    """The dozen lines that everybody would write, on the loader's batches, without dropout."""
    recipe, data = replace(TINY, dropout=0.0), pictures()
    net = recipe.net(4)
    loader = Loader(data, 8, crop=32, scales=(32, 40), mean=mean_rgb(data), gain=1 / 64, seed=0)
    velocity = [torch.zeros_like(p) for p in net.parameters()]
    losses = []
    for epoch in range(2):
        for images, labels, _ in loader.epoch(epoch):
            loss = F.cross_entropy(net(images), labels)
            losses.append(loss.item())
            for p, v, g in zip(
                net.parameters(), velocity, torch.autograd.grad(loss, list(net.parameters()))
            ):
                v.mul_(0.9).add_(g + 5e-4 * p.detach())
                p.data.sub_(0.01 * v)
    run = quiet(recipe, data)
    torch.testing.assert_close(
        weights(run), torch.cat([p.detach().flatten() for p in net.parameters()]), atol=1e-6, rtol=0
    )
    torch.testing.assert_close(
        torch.tensor(run.history.losses), torch.tensor(losses), atol=1e-5, rtol=0
    )
    assert run.history["train_loss"] == [
        pytest.approx(sum(losses[:4]) / 4),
        pytest.approx(sum(losses[4:]) / 4),
    ]


@pytest.mark.parametrize("size", [1, 3, 5])
def test_micro_batches_change_nothing(size):
    whole, parts = (
        quiet(TINY),
        quiet(TINY, micro_batch=size),
    )  # with dropout: masks belong to images
    torch.testing.assert_close(weights(parts), weights(whole), atol=1e-6, rtol=0)


def test_halves_the_micro_batch_when_memory_runs_out(monkeypatch):
    whole = quiet(TINY)
    forward, sizes, lines = T.Network.forward, [], []

    def short(self, images):
        sizes.append(len(images))
        if self.training and len(images) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory (simulated)")
        return forward(self, images)

    monkeypatch.setattr(T.Network, "forward", short)
    run = quiet(TINY, log=lines.append)
    assert sizes[:4] == [8, 4, 2, 2] and max(sizes[2:]) == 2
    assert [line for line in lines if "micro-batches of 2" in line and "batch stays 8" in line]
    torch.testing.assert_close(weights(run), weights(whole), atol=1e-6, rtol=0)


def test_one_image_too_many_is_an_error(monkeypatch):
    def full(self, images):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory (simulated)")

    monkeypatch.setattr(T.Network, "forward", full)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        quiet(TINY)


def test_seeds_differ_and_repeat():
    one, again, other = quiet(TINY), quiet(TINY), quiet(replace(TINY, seed=1))
    assert torch.equal(weights(one), weights(again)) and not torch.equal(
        weights(one), weights(other)
    )


def test_bf16_on_the_cpu_stays_near_fp32():
    a, b = quiet(replace(TINY, dropout=0.0)), quiet(replace(TINY, dropout=0.0), precision="bf16")
    assert 0 < abs(a.history.losses[0] - b.history.losses[0]) < 0.05


def test_compiling_changes_rounding_only(monkeypatch, tmp_path):
    """What torch.compile traces, run without machine code: the same weights under the same names, with validation between."""
    graphs, compile = [], torch.compile
    backend = lambda graph, inputs: (
        graphs.append(sum(n.op == "call_function" for n in graph.graph.nodes)) or graph.forward
    )
    monkeypatch.setattr(
        torch, "compile", lambda *args, mode, **options: compile(*args, backend=backend, **options)
    )
    torch._dynamo.reset()
    plain, compiled = (
        quiet(TINY, val=pictures(16), out=tmp_path / str(c), compile=c) for c in (False, True)
    )
    assert (
        len(graphs) == 2 and min(graphs) >= 8 * 2 + 5
    )  # one for training, one for validation; all convolutions, ReLUs and pools of A
    assert list(plain.model.state_dict()) == list(compiled.model.state_dict())
    torch.testing.assert_close(weights(compiled), weights(plain), rtol=1e-4, atol=1e-6)
    assert load_run(compiled.checkpoint).history.losses == compiled.history.losses
    compiled.model.features(torch.zeros(1, 3, 40, 48))
    assert len(graphs) == 2, "the net that is handed back still compiles"


def test_precision_follows_the_hardware(monkeypatch):
    gpu = torch.device("cuda", 0)
    for capability, dtype in (
        ((9, 0), torch.bfloat16),
        ((8, 0), torch.bfloat16),
        ((7, 5), torch.float16),
    ):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, c=capability: c)
        assert T._precision("auto", gpu) is dtype
    assert T._precision("auto", torch.device("cpu")) is None
    with pytest.raises(ValueError, match=r"precision='fp16'.*needs a GPU"):
        T._precision("fp16", torch.device("cpu"))


def test_batch_norm_trains_and_learns_by_heart():
    recipe = replace(
        TINY,
        batch_norm=True,
        width=1 / 16,
        dropout=0.0,
        flip=False,
        scales=36,
        crop=36,
        lr=0.02,
        max_epochs=15,
    )
    data = pictures(16)
    run = quiet(recipe, data, data)
    assert run.history["val_accuracy"][-1] >= 0.9 and run.history["val_loss"][-1] < math.log(4) / 2


# --- dropout ------------------------------------------------------------------------------------------------------------------------
@settings(deadline=None, max_examples=20)
@given(st.permutations(range(12)), st.integers(1, 12), st.sampled_from([0.25, 0.5]))
def test_masks_belong_to_images(order, size, p):
    layer, order = KeyedDropout(p), torch.tensor(order)
    layer.key = (0, 1, 0, torch.arange(12))
    whole = layer(torch.ones(12, 64))
    parts = []
    for part in order.split(size):
        layer.key = (0, 1, 0, part)
        parts.append(layer(torch.ones(len(part), 64)))
    assert torch.equal(torch.cat(parts), whole[order])
    assert set(whole.unique().tolist()) <= {0.0, torch.tensor(1 / (1 - p)).item()}


def test_dropout_drops_at_its_rate_and_keeps_the_mean():
    layer = KeyedDropout(0.5)
    masks = []
    for epoch, which in ((0, 0), (1, 0), (0, 1)):
        layer.key = (0, epoch, which, torch.arange(256))
        masks.append(layer(torch.ones(256, 512)))
    n = masks[0].numel()
    for mask in masks:
        assert abs(mask.mean() - 1) < 5 / math.sqrt(n)  # five standard errors
    for other in masks[1:]:  # independent from epoch to epoch and layer to layer
        assert abs((masks[0] * other).mean() - 1) < 5 * math.sqrt(3 / n)
    assert torch.equal(layer.eval()(torch.ones(2, 3)), torch.ones(2, 3))


def test_dropout_is_ordinary_again_after_training():
    run = quiet(replace(TINY, max_epochs=1))
    x = torch.ones(1, 3, 32, 32)
    assert not torch.equal(run.model.train()(x), run.model(x))
    assert torch.equal(run.model.eval()(x), run.model(x))


# --- the plateau rule ---------------------------------------------------------------------------------------------------------------
def scripted(monkeypatch, accuracies):
    values = iter(accuracies)
    monkeypatch.setattr(
        T._Trainer,
        "_train_epoch",
        lambda self: (
            self.history.losses.extend([1.0] * len(self.loader)),
            setattr(self, "rate", 1.0),
        ),
    )
    monkeypatch.setattr(T._Trainer, "_validate", lambda self: (1.0, next(values)))


def test_plateau_rule_three_drops_then_stop(monkeypatch):
    # patience 1: one epoch without improvement is waited through, the second one counts
    script = [0.1, 0.3, 0.3, 0.2, 0.4, 0.4, 0.4, 0.4, 0.4, 0.5, 0.1, 0.1]
    scripted(monkeypatch, [*script, 0.9])
    run = quiet(replace(TINY, patience=1, max_epochs=50), val=pictures(8))
    rates = [1e-2] * 4 + [1e-3] * 3 + [1e-4] * 2 + [1e-5] * 3
    assert run.history["lr"] == [pytest.approx(r / 1e-2 * TINY.lr) for r in rates]
    assert len(run.history) == len(script) and "after 3 drops" in run.ended


def test_rate_stays_while_accuracy_rises_and_max_epochs_ends(monkeypatch):
    scripted(monkeypatch, [i / 100 for i in range(50)])
    run = quiet(replace(TINY, patience=0, max_epochs=20), val=pictures(8))
    assert set(run.history["lr"]) == {TINY.lr} and "max_epochs=20" in run.ended


def test_without_validation_the_rate_never_falls():
    run = quiet(replace(TINY, patience=0, max_epochs=3))
    assert set(run.history["lr"]) == {TINY.lr} and run.history["val_accuracy"] == [None] * 3


def test_validation_is_the_centre_crop_at_q():
    data, val = pictures(), pictures(20, seed=5)
    run = quiet(replace(TINY, max_epochs=1), data, val)
    images = F.interpolate(val.images, (36, 36)).float()[
        :, :, 2:34, 2:34
    ]  # Q = 36, the middle of [32, 40], is the pictures' own size
    with torch.no_grad():
        logits = run.model((images - mean_rgb(data)[:, None, None]) / 64)
    assert run.history["val_accuracy"] == [(logits.argmax(1) == val.labels).float().mean().item()]
    assert run.history["val_loss"][0] == pytest.approx(
        F.cross_entropy(logits, val.labels).item(), abs=1e-5
    )


# --- bad input ----------------------------------------------------------------------------------------------------------------------
def test_diverging_stops_with_step_rate_and_checkpoint(tmp_path):
    quiet(replace(TINY, max_epochs=1), out=tmp_path)
    with pytest.raises(
        Diverged, match=r"step \d+.*rate 1e\+30.*last good checkpoint: none"
    ) as error:
        quiet(replace(TINY, lr=1e30), out=tmp_path / "other")
    assert error.value.step >= 2 and error.value.lr == 1e30 and error.value.checkpoint is None
    poisoned = pictures(40)
    poison = type(
        "Poison", (), {"classes": "abcd", "__len__": lambda s: 32, "labels": poisoned.labels[:32]}
    )()
    poison.batch = lambda i, size=None: (poisoned.images[i], poisoned.labels[i])
    forward = T.Network.forward
    calls = []

    def broken(self, images):
        calls.append(1)
        return forward(self, images) * (math.nan if len(calls) > 2 else 1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(T.Network, "forward", broken)
        with pytest.raises(Diverged, match="step 7") as error:
            quiet(TINY, poison, out=tmp_path)
    assert error.value.checkpoint == tmp_path / "last.pt"
    assert load_run(error.value.checkpoint).history["epoch"] == [1]


def test_arguments_are_checked_before_data_is_touched():
    class Untouchable:
        classes = "abcd"

        def __len__(self):
            return 32

        def batch(self, *_):
            raise AssertionError("data was read")

    for options, words in (
        ({"precision": "fp8"}, "precision='fp8'"),
        ({"micro_batch": 0}, "micro_batch=0"),
        ({"save_minutes": -1}, "save_minutes=-1"),
        ({"val": pictures(8, "abc")}, "classes differ"),
        ({"model": TINY.net(4), "init_from": TINY.net(4)}, "either model or init_from"),
        ({"model": Recipe("B", crop=32, scales=32, width=1 / 32).net(4)}, "the recipe asks for"),
    ):
        with pytest.raises(ValueError, match=words):
            quiet(TINY, Untouchable(), **options)
    with pytest.raises(ValueError, match="recipe="):
        quiet({"lr": 1}, Untouchable())
    with pytest.raises(ValueError, match="batch_size=8: the data set has only 4 images"):
        quiet(TINY, pictures(4))
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match=r"device='cuda'.*no GPU"):
            quiet(TINY, Untouchable(), device="cuda")


def test_labels_out_of_range_are_named():
    data = pictures()
    data.labels = data.labels.clone()
    data.labels[17] = 9
    with pytest.raises(ValueError, match=r"label 9 of image 17"):
        quiet(TINY, data, mean=[0, 0, 0])


def test_truncated_image_in_the_middle_of_an_epoch(tmp_path):
    from PIL import Image

    from vggbook.data import open_dataset

    for c in "ab":
        (tmp_path / "train" / c).mkdir(parents=True)
        for i in range(8):
            noise = torch.randint(
                0, 256, (40, 50, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(i)
            )
            Image.fromarray(noise.numpy()).save(tmp_path / "train" / c / f"{i}.png")
    broken = tmp_path / "train" / "b" / "3.png"
    broken.write_bytes(broken.read_bytes()[:900])
    data = open_dataset("folder", tmp_path, "train")
    with pytest.raises(OSError, match=r"b/3\.png"):
        quiet(TINY, data, mean=[128.0] * 3)
    run = quiet(TINY, data, mean=[128.0] * 3, on_error="skip")
    assert run.history["skipped"] == [1, 1] and "1 skipped" in str(run.history)


# --- history ------------------------------------------------------------------------------------------------------------------------
def test_history_is_a_table_and_a_plot():
    import matplotlib

    matplotlib.use("Agg")
    row = {"train_loss": 1.0, "val_loss": 1.1, "images_per_s": 100.0, "skipped": 0}
    history = History(
        [
            {**row, "epoch": 1, "lr": 0.01, "val_accuracy": 0.25},
            {**row, "epoch": 2, "lr": 0.001, "val_accuracy": 0.5},
        ],
        [2.0, 1.5, 1.0, 0.5],
    )
    assert history["val_accuracy"] == [0.25, 0.5] and len(history) == 2
    assert "75.0%" in str(history) and len(str(history).splitlines()) == 2
    left, right = history.plot(label="B")
    assert right.lines[0].get_ydata().tolist() == [75.0, 50.0]
    assert left.lines[0].get_xdata().tolist() == [0.5, 1.0, 1.5, 2.0]  # in epochs
    assert left.lines[-1].get_linestyle() == ":"  # the rate fell


def test_one_line_an_epoch(capsys):
    fit(replace(TINY, max_epochs=3), pictures(), pictures(8), device="cpu")
    captured = capsys.readouterr()
    assert [line.split()[:2] for line in captured.out.splitlines()] == [
        ["epoch", "1"],
        ["epoch", "2"],
        ["epoch", "3"],
    ]
    assert captured.err == ""


# --- the command line ---------------------------------------------------------------------------------------------------------------
SHELL = [
    "--data",
    "shapes",
    "--config",
    "A",
    "--crop",
    "32",
    "--scales",
    "36",
    "--width",
    "0.03125",
    "--batch-size",
    "8",
    "--images",
    "32",
    "--val-images",
    "8",
]


def test_help_is_complete():
    text = T._parser().format_help()
    for f in fields(Recipe):
        assert "--" + f.name.replace("_", "-") in text and f.metadata["help"].split(":")[0][
            :20
        ] in " ".join(text.split())
    for option in (
        "--data",
        "--root",
        "--out",
        "--init-from",
        "--device",
        "--precision",
        "--micro-batch",
        "--workers",
        "--on-error",
        "torchrun",
    ):
        assert option in text


@pytest.mark.parametrize(
    "options, words",
    [
        (["--config", "Z"], "valid names"),
        (["--scales", "20"], "at least the crop"),
        (["--scales", "40", "36"], "S_min"),
        (["--scales", "1", "2", "3"], "S_min"),
        (["--lr", "-1"], "lr=-1"),
        (["--lr", "fast"], "invalid float"),
        (["--init", "magic"], "init='magic'"),
        (["--precision", "fp64"], "invalid choice"),
        (["--precision", "fp16", "--device", "cpu"], "needs a GPU"),
        (["--device", "abacus"], "device"),
        (["--micro-batch", "0"], "micro-batch"),
        (["--workers", "-1"], "workers"),
        (["--images", "4"], "at least a batch"),
        (["--data", "imagenet"], "--root"),
        (["--data", "mnist"], "invalid choice"),
        (["--data", "folder", "--root", "/nowhere/at/all"], "no such folder"),
        (["--data", "folder", "--root", ".", "--download"], "cannot be downloaded"),
        (["--init-from", "/nowhere.pt"], "does not exist"),
        (["--save-minutes", "nan"], "save-minutes"),
        (["--mean", "1", "2", "300"], "0..255"),
        (["--out", __file__], "this is a file"),
        (["--colour", "maybe"], "unrecognized arguments"),
    ],
)
def test_options_are_checked_before_data_is_touched(options, words, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(T, "_open_sets", lambda *a: pytest.fail("data was touched"))
    with pytest.raises(SystemExit) as stop:
        T.main([*SHELL, "--out", str(tmp_path / "run"), *options])
    assert stop.value.code == 2 and words in capsys.readouterr().err


def test_batch_must_divide_among_processes(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(SystemExit):
        T.main([*SHELL, "--out", str(tmp_path)])
    assert "batch-size=8: it must be divisible by the 3 processes" in capsys.readouterr().err


def test_trains_from_a_shell_and_says_what_is_wrong(tmp_path, capsys):
    run = T.main(
        [
            *SHELL,
            "--out",
            str(tmp_path),
            "--max-epochs",
            "1",
            "--in-memory",
            "--no-colour",
            "--gain",
            "0.015625",
        ]
    )
    assert (
        "ended: max_epochs=1 reached" in capsys.readouterr().out
        and (tmp_path / "last.pt").is_file()
    )
    assert load_run(tmp_path / "last.pt").recipe == run.recipe and not run.recipe.colour
    with pytest.raises(SystemExit, match=r"CheckpointError.*lr"):
        T.main(
            [
                *SHELL,
                "--out",
                str(tmp_path),
                "--max-epochs",
                "1",
                "--no-colour",
                "--gain",
                "0.015625",
                "--lr",
                "0.5",
            ]
        )
    with pytest.raises(SystemExit, match="FileNotFoundError"):
        T.main([*SHELL, "--out", str(tmp_path / "b"), "--data", "folder", "--root", str(tmp_path)])
