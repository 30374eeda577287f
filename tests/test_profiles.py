"""Sizes of the chapters' runs: two profiles, chosen by what PyTorch sees; bands; the gpu path."""

import re
from pathlib import Path

import gpu_path
import nbformat
import pytest
import stand_in
import torch
from conftest import ROOT
from serving import served
from shrink import shrink

from tools import estimate
from tools.notebook import pick
from vggbook.book import bands, profiles
from vggbook.data import open_dataset
from vggbook.paper import load_yaml
from vggbook.weights import imagenet_names

CHAPTERS = sorted(key[8:] for key in profiles.read("gpu") if key.startswith("chapter_"))


# The profiles


def test_there_are_two_profiles_and_each_can_be_loaded():
    folder = ROOT / "src/vggbook/book/profiles"
    assert {p.stem for p in folder.glob("*.yaml")} == set(profiles.NAMES) == {"cpu", "gpu"}
    for profile in profiles.NAMES:
        loaded = profiles.load(profile)
        assert loaded.profile == profile and isinstance(loaded.seed, int)
    assert (profiles.load("cpu").device, profiles.load("gpu").device) == ("cpu", "cuda")
    assert profiles.load("cpu").strict is False is profiles.Settings("cpu", {}).strict


def test_only_what_pytorch_sees_chooses(monkeypatch):
    for ci in ("true", ""):
        monkeypatch.setenv("CI", ci)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        assert profiles.load().profile == profiles.choose() == "cpu"
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        assert profiles.load("auto").profile == profiles.choose() == "gpu"


def test_nothing_chooses_by_the_variable_of_continuous_integration():
    """The variable may be unset, never read or set."""
    pattern = re.compile(r"""environ\W+(get\W+)?CI\b|getenv\W+CI\b|\$\{?CI\b|\bCI=|export CI\b""")
    files = [p for d in ("src", "tools", ".ci") for p in (ROOT / d).rglob("*") if p.is_file()]
    files += [ROOT / "Makefile", ROOT / "tests/conftest.py"]
    texts = {p: p.read_text(encoding="utf-8", errors="replace") for p in files}
    named = [p.name for p, text in texts.items() if p.suffix != ".pyc" and pattern.search(text)]
    assert named == []
    assert "PROFILE ?=" not in texts[ROOT / "Makefile"], "the environment must not choose"


def test_both_profiles_have_the_same_settings():
    data = [load_yaml(ROOT / f"src/vggbook/book/profiles/{p}.yaml") for p in profiles.NAMES]
    keys = [{section: sorted(values or {}) for section, values in each.items()} for each in data]
    assert keys[0] == keys[1]


@pytest.mark.parametrize("profile", ["fast", "", None, "CPU", "ci", "laptop", 3, ["cpu"]])
def test_an_unknown_profile(profile):
    message = f"profile={profile!r}: expected one of 'auto', 'cpu', 'gpu'"
    with pytest.raises(ValueError, match=re.escape(message)):
        profiles.load(profile)


def test_a_chapter_without_settings_and_a_wrong_switch():
    known = ", ".join(f"'{chapter}'" for chapter in sorted(CHAPTERS))
    with pytest.raises(ValueError, match=rf"chapter='99': expected one with settings, {known}$"):
        profiles.load("cpu", chapter="99")
    with pytest.raises(ValueError, match=r"strict='yes': expected True or False"):
        profiles.load("cpu", strict="yes")


def test_settings_know_whether_a_reader_changed_them():
    settings = profiles.load("cpu", chapter="05", strict=True)
    assert settings.strict and not settings.changed
    settings.images += 1
    assert settings.changed
    settings.images -= 1
    assert not settings.changed
    settings.recipe["lr"] = 1.0
    assert settings.changed
    assert profiles.load("cpu", chapter="05").recipe["lr"] != 1.0, "one reader's edit is his own"


# Bands


@pytest.mark.parametrize(
    "strict, profile, edit, stops",
    [
        (True, "cpu", False, True),
        (True, "cpu", True, False),
        (True, "gpu", False, False),
        (False, "cpu", False, False),
    ],
)
def test_a_missed_band_stops_only_the_book_at_its_own_sizes(capsys, strict, profile, edit, stops):
    settings = profiles.load(profile, chapter="06", strict=strict)
    if edit:
        settings.test = 7
    assert bands.expect(True, "a net did not learn", settings) is True
    assert capsys.readouterr().out == ""
    if stops:
        with pytest.raises(bands.BandMissed, match="a net did not learn"):
            bands.expect(False, "a net did not learn", settings)
    else:
        assert bands.expect(False, "a net did not learn", settings) is False
        assert "a net did not learn" in capsys.readouterr().out


# The shrunk profile and the gpu path


def kinds(value):
    if isinstance(value, dict):
        return {k: kinds(v) for k, v in value.items()}
    return "number" if isinstance(value, int | float) else type(value)


def test_the_shrunk_profile_keeps_names_types_and_methods():
    whole, small = profiles.read("gpu"), shrink(profiles.read("gpu"))
    assert small["common"] == {**whole["common"], "device": "cpu"}
    assert kinds(small) == kinds(whole)
    for chapter, values in small.items():
        for key, value in values.items():
            texts = isinstance(value, str) or (
                isinstance(value, list) and isinstance(value[0], str)
            )
            if texts and key != "device":
                assert value == whole[chapter][key], "nets, data and number formats stay"
            if isinstance(value, int | float) and not isinstance(value, bool):
                assert value <= whole[chapter][key]


def test_sizes_shrink_by_hand():
    """Sides so that the crop becomes 32 pixels; counts to a 64th, not below what a run needs."""
    recipe = {"crop": 128, "scales": [146, 292], "batch_size": 1024, "max_epochs": 640, "lr": 0.1}
    data = {
        "common": {"device": "cuda", "seed": 0},
        "chapter_05": {"images": 64_000, "val_images": 64, "recipe": recipe, "deep": "D"},
        "chapter_07": {"image": 64, "width": 0.5, "photo_width": 0.25, "seeds": [3, 4, 5]},
        "chapter_09": {"crop": 100, "train": None, "rounds": 0, "product": 64 * 129, "test": 1},
    }
    small = shrink(data)
    assert small["common"] == {"device": "cpu", "seed": 0}
    assert data["common"]["device"] == "cuda"
    assert small["chapter_05"] == {
        "images": 1000,
        "val_images": 48,
        "recipe": {
            "crop": 32,
            "scales": [36, 73],  # 36.5 is rounded to the even one
            "batch_size": 16,
            "max_epochs": 10,
            "lr": 0.1,
        },
        "deep": "D",
    }
    seventh = {"image": 32, "width": 1 / 16, "photo_width": 1 / 16, "seeds": [3, 4]}
    assert small["chapter_07"] == seventh
    # without a recipe's crop and an image nothing says how large a side is
    ninth = {"crop": 100, "train": None, "rounds": 0, "product": 129, "test": 48}
    assert small["chapter_09"] == ninth
    assert shrink(
        {"common": {}, "chapter_06": {"image": 320, "scales": 256, "signal_size": 400}}
    ) == {
        "common": {"device": "cpu"},
        "chapter_06": {"image": 32, "scales": 32, "signal_size": 40},
    }


def test_no_count_falls_below_what_a_run_needs():
    least = {"train": 128, "images": 128, "test": 48, "val_images": 48, "batch": 4, "d_batch": 2}
    least |= {"batch_size": 8, "rounds": 3, "d_rounds": 3, "max_epochs": 1, "deep_epochs": 1}
    least |= {"product": 128}
    chapter = shrink({"common": {}, "chapter_05": dict.fromkeys(least, 1)})["chapter_05"]
    assert chapter == least
    chapter = shrink({"common": {}, "chapter_05": dict.fromkeys(least, 64_000)})
    assert chapter["chapter_05"] == dict.fromkeys(least, 1000)


def test_settings_show_their_values():
    settings = profiles.Settings("cpu", {"train": 3, "recipe": {"lr": 0.1}}, strict=True)
    shown = "Settings(profile='cpu', strict=True, train=3, recipe={'lr': 0.1})"
    assert repr(settings) == shown
    settings.strict, settings.profile = False, "gpu"
    assert not settings.changed  # no sizes
    settings.other = 1
    assert settings.changed


def test_the_archive_has_the_form_of_the_published_one(tmp_path, monkeypatch):
    from torchvision import datasets

    name, digest = gpu_path.imagenette(tmp_path)
    with served(tmp_path) as address:
        archives = {"320px": (f"{address}/{name}", digest)}
        monkeypatch.setattr(datasets.Imagenette, "_ARCHIVES", archives)
        for split in ("train", "val"):
            found = datasets.Imagenette(tmp_path / "root", split, "320px", split == "train")
            assert len(found.classes) == 10 and len(found) == 10 * gpu_path.IMAGES[split]
            assert found[0][0].size == (426, 320)


def test_chapter_7_knows_which_pictures_the_released_nets_were_trained_on(tmp_path, monkeypatch):
    """Its own function, on the set that its own call opens."""
    from torchvision.datasets import Imagenette

    name, digest = gpu_path.imagenette(tmp_path)
    nb = nbformat.read(pick(ROOT / "notebooks", "07", ".ipynb"), 4)
    (source,) = (c.source for c in nb.cells if "def from_training(" in c.source)
    chapter = {"Path": Path}
    exec(source, chapter)
    with served(tmp_path) as address:
        archives = {"320px": (f"{address}/{name}", digest)}
        monkeypatch.setattr(Imagenette, "_ARCHIVES", archives)
        val = open_dataset("imagenette", tmp_path / "root", "val", download=True)
    assert len(val) == 50 and chapter["from_training"](val.paths) == 50 - 10 * 2
    assert chapter["from_training"](open_dataset("imagenette", tmp_path / "root").paths) == 160
    assert set(val.classes) <= set(imagenet_names()), "the released net has them by these names"


@pytest.mark.slow
def test_the_ladder_on_imagenette_with_released_weights(tmp_path):
    file = stand_in.write(tmp_path)
    r, _ = gpu_path.walk(pick(ROOT / "notebooks", "07", ".ipynb"), tmp_path, file)
    assert r.returncode == 0, (r.stdout + r.stderr)[-2500:]
    text = stand_in.printed(tmp_path / "out.ipynb")
    assert "30 of 50 validation pictures are ImageNet training pictures" in text
    assert "released VGG-16, 10 pictures" in text and "the same as authors" in text


@pytest.mark.slow
@pytest.mark.parametrize("chapter", ["01", "02", "03", "04", "12"])
def test_chapters_without_sizes_of_their_own_run_with_gpu_too(chapter, tmp_path):
    assert chapter not in CHAPTERS
    r, _ = gpu_path.walk(pick(ROOT / "notebooks", chapter, ".ipynb"), tmp_path)
    assert r.returncode == 0, (r.stdout + r.stderr)[-2500:]


@pytest.mark.slow
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_gpu_path_runs_and_trains_what_the_estimate_counts(chapter, tmp_path, monkeypatch):
    r, trained = gpu_path.walk(pick(ROOT / "notebooks", chapter, ".ipynb"), tmp_path)
    assert r.returncode == 0, (r.stdout + r.stderr)[-2500:]
    if chapter in ("09", "10"):  # photographs too, whether or not the released net could be had
        shown = str([cell.get("outputs") for cell in gpu_path.read(tmp_path / "out.ipynb").cells])
        assert "VOC 2012" in shown and "not run here" not in shown
    settings = profiles.Settings("gpu", shrink(profiles.read("gpu"))[f"chapter_{chapter}"])
    counted = {split: 10 * n for split, n in gpu_path.IMAGES.items()}
    monkeypatch.setattr(estimate, "IMAGENETTE", counted)
    expected = {}
    for job in estimate.jobs(chapter, settings):
        if job.training and hasattr(settings, "recipe"):
            expected[job.net] = expected.get(job.net, 0) + job.images
    found = {}
    for net, width, crop, batch, epochs, images in trained:
        own = {"crop": crop, "batch_size": batch, "width": width}
        if all(settings.recipe[key] == value for key, value in own.items()):
            found[net] = found.get(net, 0) + epochs * images
    assert found == expected
