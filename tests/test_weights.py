"""Random weights in each published format, read back and compared with the nets that wrote them."""

import hashlib
import io

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchvision.models import VGG11_Weights, VGG16_Weights
from torchvision.transforms import v2

from vggbook import CONFIGS, build, released, weights
from vggbook.released import weights_url
from vggbook.weights import (
    FAMILIES,
    Preprocessing,
    check_sha256,
    imagenet_names,
    load_state,
    load_weights,
)

SMALL = {"width": 1 / 16, "image_size": 32}  # 1x1 maps before the FC layers


@pytest.fixture(autouse=True)
def one_seed():
    torch.manual_seed(0)


def named(folder, stem, state):
    """Save as torchvision names its files: the first 8 digits of the SHA-256 behind the name."""
    torch.save(state, folder / "file")
    digest = hashlib.sha256((folder / "file").read_bytes()).hexdigest()
    return (folder / "file").rename(folder / f"{stem}-{digest[:8]}.pth"), digest


def same_output(a, b):
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        return torch.equal(a.eval()(x), b.eval()(x))


# --- torchvision's files, the authors' ported, this package's
@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize(
    "config, stem", [("A", "vgg11"), ("B", "vgg13"), ("D", "vgg16"), ("E", "vgg19")]
)
def test_torchvision_files_by_their_name_and_checksum(config, stem, batch_norm, tmp_path):
    model = build(config, 6, batch_norm, **SMALL)
    path, _ = named(tmp_path, stem + "_bn" * batch_norm, model.state_dict())
    loaded = load_weights(path, image_size=32)
    assert loaded.config is CONFIGS[config] and loaded.preprocessing == FAMILIES["torchvision"]
    assert same_output(loaded, model)


def test_torchvisions_own_network_and_file_of_the_old_kind(tmp_path):
    from torchvision.models.vgg import VGG, cfgs, make_layers

    with torch.device("meta"):
        theirs = VGG(make_layers(cfgs["A"]))
    theirs.features = make_layers(
        cfgs["A"]
    )  # full width; its FC layers are made small, they have 123 million weights
    theirs.classifier = nn.Sequential(
        nn.Linear(512 * 49, 8),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(8, 8),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(8, 5),
    )
    theirs.eval()
    path = tmp_path / "old.pth"
    torch.save(
        theirs.features.state_dict(), path, _use_new_zipfile_serialization=False
    )  # as files of 2017 are
    ours = build("A", 5, device="meta")
    ours.classifier = theirs.classifier
    state = {f"features.{k}": v for k, v in torch.load(path, weights_only=True).items()} | {
        f"classifier.{k}": v for k, v in theirs.classifier.state_dict().items()
    }
    load_state(ours, state, path.name)
    x = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(x), theirs(x))
    small = build("A", 5, **SMALL)
    torch.save(small.state_dict(), path, _use_new_zipfile_serialization=False)
    assert same_output(load_weights(path, family="paper", image_size=32), small)


def test_the_hubs_cache_is_used_and_checked(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    name = VGG11_Weights.IMAGENET1K_V1.url.rsplit("/", 1)[1]
    cached = tmp_path / "hub" / "checkpoints" / name
    cached.parent.mkdir(parents=True)
    model = build("A", 5, **SMALL)
    torch.save(model.state_dict(), cached)
    digest = hashlib.sha256(cached.read_bytes()).hexdigest()
    loaded = load_weights("vgg11", sha256=digest, image_size=32)
    assert same_output(loaded, model) and loaded.preprocessing.name == "torchvision"
    with pytest.raises(ValueError, match=f"{name}: SHA-256 is {digest}, expected 8a719046"):
        load_weights("vgg11", image_size=32)


def test_ported_files_of_the_authors_count_layers_differently(tmp_path):
    model = build("D", 6, **SMALL)
    state = {
        key.replace("classifier.0.", "classifier.1.").replace(
            "classifier.3.", "classifier.4."
        ): value
        for key, value in model.state_dict().items()
    }
    torch.save(state, tmp_path / "ported.pth")
    loaded = load_weights(tmp_path / "ported.pth", image_size=32)
    assert same_output(loaded, model) and loaded.preprocessing == FAMILIES["authors"]


def test_checkpoints_of_this_package_bring_their_mean_crop_and_classes(tmp_path):
    from vggbook.data import ShapesDataset
    from vggbook.train import Recipe, fit

    recipe = Recipe(
        "A",
        width=1 / 32,
        crop=32,
        scales=36,
        batch_size=16,
        max_epochs=1,
        gain=1 / 64,
        colour=False,
    )
    train = ShapesDataset("train", 32, size=40, classes=4)
    run = fit(recipe, train, ShapesDataset("val", 16, size=40, classes=4), out=tmp_path)
    loaded = load_weights(run.checkpoint)
    assert same_output(loaded, run.model) and loaded.class_names == list(train.classes)
    images, _ = train.batch(range(4), size=36)
    expected = (images.float() - run.mean.view(3, 1, 1)) / 64
    torch.testing.assert_close(loaded.preprocessing(images), expected)
    assert loaded.preprocessing.name == "paper"


def test_width_classes_and_batch_norm_are_read_off_the_file(tmp_path):
    for config in CONFIGS:
        if (
            CONFIGS[config].blocks and config != "A-LRN"
        ):  # LRN has no weights: A and A-LRN cannot be told apart
            torch.save(
                {
                    "state_dict": build(
                        config, 3, width=1 / 8, image_size=32, device="cpu"
                    ).state_dict()
                },
                tmp_path / "w.pth",
            )
            loaded = load_weights(tmp_path / "w.pth", family="paper", image_size=32)
            assert loaded.config is CONFIGS[config] and loaded.classifier[-1].out_features == 3
            assert loaded.features[0].out_channels == 8


# --- preprocessing
def test_preprocessing_of_each_family_against_torchvision_and_the_printed_means():
    images = torch.randint(0, 256, (2, 3, 5, 7), dtype=torch.uint8)
    theirs = VGG16_Weights.IMAGENET1K_V1.transforms()
    expected = v2.functional.normalize(images.float() / 255, theirs.mean, theirs.std)
    torch.testing.assert_close(FAMILIES["torchvision"](images), expected, rtol=1e-5, atol=1e-5)
    bgr = images.flip(1).float() - torch.tensor([103.939, 116.779, 123.68]).view(3, 1, 1)
    torch.testing.assert_close(FAMILIES["authors"](images), bgr)
    torch.testing.assert_close(FAMILIES["paper"](images), bgr.flip(1))


def test_class_names():
    names = imagenet_names()
    assert len(names) == 1000 and names[0] == "tench" and names[999] == "toilet tissue"


# --- bad input
def test_weights_of_another_configuration_name_the_first_key_that_differs(tmp_path):
    torch.save(build("B", 6, **SMALL).state_dict(), tmp_path / "b.pth")
    with pytest.raises(
        ValueError,
        match=r"b\.pth does not fit D: first mismatch features\.14\.weight: "
        r"file nothing, network \(16, 16, 3, 3\).*those of B",
    ):
        load_weights(tmp_path / "b.pth", "D", family="paper", image_size=32)
    with pytest.raises(
        ValueError,
        match=r"first mismatch features\.3\.weight: file \(4, 4, 3, 3\), network nothing|features",
    ):
        load_weights(tmp_path / "b.pth", "A", family="paper", image_size=32)
    with pytest.raises(
        ValueError,
        match=r"first mismatch classifier\.0\.weight: file \(256, 32\), network \(256, 128\)",
    ):
        load_weights(tmp_path / "b.pth", "B", family="paper", image_size=64)


def test_checksums(tmp_path):
    path, digest = named(tmp_path, "vgg11", build("A", 4, **SMALL).state_dict())
    assert load_weights(path, sha256=digest.upper(), image_size=32)
    with pytest.raises(
        ValueError,
        match=f"SHA-256 is {digest}, expected {'0' * 64}: the file is damaged or another one",
    ):
        load_weights(path, sha256="0" * 64, image_size=32)
    wrong = path.rename(tmp_path / "vgg11-00000000.pth")
    with pytest.raises(ValueError, match="expected 00000000"):
        load_weights(wrong, image_size=32)
    for bad in ("", "abc", "zz" * 32):
        with pytest.raises(ValueError, match="8 to 64 hexadecimal digits"):
            check_sha256(wrong, bad)


def refusal(path):
    with pytest.raises(ValueError) as caught:
        load_weights(path, family="paper")
    message = str(caught.value)
    assert message.startswith(f"{path.name}: ") and "\n" not in message
    assert "weights_only" not in message and "trust" not in message  # torch's advice
    return message


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><title>404</title>", "is no weights file: it starts with b'<!DOCTYPE"),
        (b'{"error": "moved"}', "is no weights file: it starts with"),
        (b"not a file of torch", "is no weights file: it starts with b'not a file"),
        (b"PK\x03\x04 and then nothing", "cannot be read"),
        (b"\x80\x02", "cannot be read"),
    ],
)
def test_what_is_no_weights_file(content, words, tmp_path):
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    assert words in refusal(path)


def test_a_file_with_more_than_weights_is_not_opened(tmp_path):
    path = tmp_path / "w.pth"
    torch.save(nn.Linear(2, 3), path)  # a pickled module could run code
    assert "holds more than weights, it is not opened (torch.nn.modules.linear" in refusal(path)
    torch.save(nn.Linear(2, 3), path, _use_new_zipfile_serialization=False)
    assert "holds more than weights" in refusal(path)
    torch.save([1, 2], path)
    assert "holds a list, a state dict of tensors is needed" in refusal(path)
    torch.save({}, path)
    assert "holds a dict" in refusal(path)
    torch.save({"features.0.weight": torch.zeros(3, 3, 5, 5)}, path)
    assert "config=None: the shapes in w.pth are those of no configuration" in refusal_of_shapes(
        path
    )


def refusal_of_shapes(path):
    with pytest.raises(ValueError) as caught:
        load_weights(path, family="paper")
    return str(caught.value)


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("kept", [0.02, 0.3, 0.6, 0.97])
def test_a_file_that_was_cut_short(new, kept, tmp_path):
    path = tmp_path / "w.pth"
    torch.save(build("A", 4, **SMALL).state_dict(), path, _use_new_zipfile_serialization=new)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    assert "cannot be read" in refusal(path)


def few_weights():
    """A small file's bytes: eight channels a layer at most."""
    buffer = io.BytesIO()
    torch.save(build("A", 2, width=1 / 64, image_size=32).state_dict(), buffer)
    return buffer.getvalue()


BYTES = few_weights()


@settings(deadline=None, max_examples=60)
@given(st.integers(0, len(BYTES) - 1), st.integers(1, 255))
def test_any_byte_flipped_is_loaded_equal_or_refused(tmp_path_factory, at, flip):
    """Also within the numbers, where torch.load looks at no checksum."""
    path = tmp_path_factory.getbasetemp() / "w.pth"
    path.write_bytes(BYTES)
    whole = load_weights(path, family="paper", image_size=32).state_dict()
    data = bytearray(BYTES)
    data[at] ^= flip
    path.write_bytes(data)
    try:
        found = load_weights(path, family="paper", image_size=32).state_dict()
    except ValueError as error:
        assert str(error).startswith("w.pth: ")
    else:
        assert all(torch.equal(found[key], value) for key, value in whole.items())


def test_a_flip_in_a_weight_is_named(tmp_path):
    data = bytearray(BYTES)
    data[len(data) // 2] ^= 1
    path = tmp_path / "w.pth"
    path.write_bytes(data)
    assert "damaged" in refusal(path) and "checksum of" in refusal(path)


def test_absent_files_and_unknown_families(tmp_path):
    path = tmp_path / "w.pth"
    with pytest.raises(FileNotFoundError, match=r"w\.pth'?: no such file"):
        load_weights(path)
    torch.save(build("A", 4, **SMALL).state_dict(), path)
    untold = r"family=None: w\.pth does not tell how its images were prepared"
    with pytest.raises(ValueError, match=untold):
        load_weights(path)
    known = "family='imagenet': choose one of 'paper', 'authors', 'torchvision'"
    with pytest.raises(ValueError, match=known):
        load_weights(path, family="imagenet")


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."]
)
def test_keys_with_the_prefix_of_a_wrapper(prefix, tmp_path):
    model = build("B", 4, **SMALL)
    state = {prefix + key: value for key, value in model.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "w.pth")
    loaded = load_weights(tmp_path / "w.pth", family="paper", image_size=32)
    assert loaded.config is CONFIGS["B"] and same_output(loaded, model)
    whole = nn.DataParallel(model) if prefix == "module." else None
    if whole is not None:  # what torch itself writes
        assert set(whole.state_dict()) == set(state)


def test_a_preprocessing_cannot_be_changed():
    with pytest.raises(AttributeError):
        FAMILIES["paper"].mean = (0.0, 0.0, 0.0)


# --- every name, wrapper and option
def test_what_the_module_offers_is_there():
    for name in weights.__all__:
        assert getattr(weights, name) is not None


@pytest.mark.parametrize("name", released.NAMES)
def test_torchvisions_names_stand_for_their_configurations(name, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cached = tmp_path / "hub" / "checkpoints" / weights_url(name).rsplit("/", 1)[1]
    cached.parent.mkdir(parents=True)
    layers = int(name.removesuffix("_bn").removeprefix("vgg"))
    config = next(c for c in CONFIGS.values() if c.weight_layers == layers and c.blocks)
    config = CONFIGS["D"] if layers == 16 else config  # C has sixteen layers too
    model = build(config, 3, name.endswith("_bn"), width=1 / 64, image_size=32)
    torch.save(model.state_dict(), cached)
    digest = hashlib.sha256(cached.read_bytes()).hexdigest()
    loaded = load_weights(name, sha256=digest, image_size=32)
    assert loaded.config is config and loaded.preprocessing is FAMILIES["torchvision"]
    assert same_output(loaded, model)
    own = load_weights(name, family="paper", sha256=digest, image_size=32)
    assert own.preprocessing is FAMILIES["paper"]
    other = "B" if layers == 19 else "E"
    with pytest.raises(ValueError, match=f"does not fit {other}: first mismatch"):
        load_weights(name, other, sha256=digest, image_size=32)


def test_each_family_bears_its_name_and_works_on_any_device():
    assert [family.name for family in FAMILIES.values()] == list(FAMILIES)
    for family in FAMILIES.values():
        out = family(torch.zeros(2, 3, 4, 5, dtype=torch.uint8, device="meta"))
        assert (out.device.type, out.shape, out.dtype) == ("meta", (2, 3, 4, 5), torch.float32)


def test_a_family_that_is_given_goes_before_the_files(tmp_path):
    path, _ = named(tmp_path, "vgg11", build("A", 3, **SMALL).state_dict())
    assert load_weights(path, family="authors", image_size=32).preprocessing.bgr
    own = Preprocessing("own", (1.0, 2.0, 3.0))
    assert load_weights(path, family=own, image_size=32).preprocessing is own


def test_images_of_224_pixels_and_a_thousand_classes_are_imagenets(tmp_path):
    torch.save(build("A", width=1 / 64).state_dict(), tmp_path / "w.pth")
    loaded = load_weights(tmp_path / "w.pth", family="paper")
    assert loaded.image_size == (224, 224) and not loaded.training
    assert loaded.class_names == imagenet_names()
    torch.save(build("A", 999, **SMALL).state_dict(), tmp_path / "w.pth")
    assert load_weights(tmp_path / "w.pth", family="paper", image_size=32).class_names is None


@pytest.mark.parametrize("wrapper", ["model", "state_dict"])
def test_a_state_dict_within_a_checkpoint(wrapper, tmp_path):
    model = build("A", 3, **SMALL)
    torch.save({"epoch": 3, wrapper: model.state_dict()}, tmp_path / "w.pth")
    loaded = load_weights(tmp_path / "w.pth", family="paper", image_size=32)
    assert same_output(loaded, model)


def test_a_checkpoint_of_this_package_needs_four_entries(tmp_path):
    model = build("B", 2, **SMALL)
    recipe = {"config": "B", "crop": 32, "gain": 0.5}
    entries = {"model": model.state_dict(), "recipe": recipe, "classes": ["cat", "dog"]}
    torch.save({**entries, "mean": torch.tensor([1.0, 2.0, 3.0])}, tmp_path / "w.pth")
    loaded = load_weights(tmp_path / "w.pth")
    assert same_output(loaded, model) and loaded.class_names == ["cat", "dog"]
    assert loaded.preprocessing == Preprocessing("paper", (1.0, 2.0, 3.0), (2.0, 2.0, 2.0))


def test_batch_norm_without_a_count_of_batches(tmp_path):
    """Files of PyTorch 0.4 and older have none."""
    model = build("A", 3, True, **SMALL)
    state = {k: v for k, v in model.state_dict().items() if not k.endswith("batches_tracked")}
    torch.save(state, tmp_path / "w.pth")
    loaded = load_weights(tmp_path / "w.pth", family="paper", image_size=32)
    assert same_output(loaded, model)


def test_nothing_is_drawn_where_weights_are_loaded(tmp_path):
    torch.save(build("A", 3, **SMALL).state_dict(), tmp_path / "w.pth")
    before = torch.get_rng_state()
    load_weights(tmp_path / "w.pth", family="paper", image_size=32)
    assert torch.equal(torch.get_rng_state(), before)


def mismatch(path, **options):
    with pytest.raises(ValueError) as caught:
        load_weights(path, family="paper", image_size=32, **options)
    return str(caught.value).partition("first mismatch ")[2]


def test_a_file_that_lacks_a_bias_or_the_head(tmp_path):
    """What cannot be read off is the paper's: width 1, a thousand classes."""
    path, state = tmp_path / "w.pth", build("A", 3, **SMALL).state_dict()
    torch.save({k: v for k, v in state.items() if k != "classifier.6.bias"}, path)
    hint = "; the convolutions of the file are those of A"
    words = "classifier.6.weight: file (3, 256), network (1000, 256)"
    assert mismatch(path) == words + hint
    torch.save({k: v for k, v in state.items() if k != "features.0.bias"}, path)
    words = "features.0.weight: file (4, 3, 3, 3), network (64, 3, 3, 3)"
    assert mismatch(path) == words + hint
    torch.save({k: v for k, v in state.items() if k.startswith("features.")}, path)
    words = "classifier.0.weight: file nothing, network (256, 32)"
    assert mismatch(path) == words + hint
    with pytest.raises(ValueError, match=r"family=None: w\.pth does not tell"):
        load_weights(path, image_size=32)


def test_a_key_too_many_and_a_net_without_a_configuration():
    layer = nn.Linear(2, 3)
    assert load_state(layer, nn.Linear(2, 3).state_dict()) is layer
    more = {**layer.state_dict(), "scale": torch.zeros(4)}
    with pytest.raises(ValueError) as caught:
        load_state(layer, more)
    words = "weights does not fit Linear: first mismatch scale: file (4,), network nothing"
    assert str(caught.value) == words


def test_no_configuration_has_kernels_that_are_wider_than_high(tmp_path):
    state = build("A", 3, **SMALL).state_dict()
    for key in [key for key, value in state.items() if value.ndim == 4]:
        state[key] = torch.zeros(*state[key].shape[:3], 5)
    torch.save(state, tmp_path / "w.pth")
    words = "config=None: the shapes in w.pth are those of no configuration; name one"
    assert refusal_of_shapes(tmp_path / "w.pth") == words


def test_weights_saved_on_a_gpu_are_read_without_one(tmp_path, monkeypatch):
    model = build("A", 3, **SMALL)
    with monkeypatch.context() as pretended:
        pretended.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        torch.save(model.state_dict(), tmp_path / "w.pth")
    loaded = load_weights(tmp_path / "w.pth", family="paper", image_size=32)
    assert same_output(loaded, model)


@pytest.mark.parametrize("new", [True, False])
def test_nothing_but_tensors_is_unpickled_by_any_version_of_pytorch(new, tmp_path, monkeypatch):
    """Before 2.6 torch.load ran whatever a file held, unless told otherwise."""
    asked, real = {}, torch.load

    def load(path, **options):
        asked.update(options)
        return real(path, **options)

    path, state = tmp_path / "w.pth", build("A", 3, **SMALL).state_dict()
    torch.save(state, path, _use_new_zipfile_serialization=new)
    monkeypatch.setattr(torch, "load", load)
    load_weights(path, family="paper", image_size=32)
    assert asked["weights_only"] is True
    assert asked["mmap"] is new  # an archive is read as it is needed, not copied


RUNS = "objects other than tensors and plain values could run code"


@pytest.mark.parametrize(
    "error, words",
    [
        (
            EOFError(),
            "is damaged, it cannot be read: it is cut short or another kind of file (EOFError)",
        ),
        (
            RuntimeError("bad magic\nmore"),
            "is damaged, it cannot be read: it is cut short or another kind of file (bad magic)",
        ),
        (
            RuntimeError("Weights only load failed\nmore"),
            "is damaged, it cannot be read: it is cut short or another kind of file",
        ),
        (
            RuntimeError("Unsupported global: GLOBAL os.system was not allowed"),
            f"holds more than weights, it is not opened (os.system: {RUNS})",
        ),
        (
            RuntimeError("Trying to instantiate foo.Bar"),
            f"holds more than weights, it is not opened (foo.Bar: {RUNS})",
        ),
        (
            RuntimeError("Unsupported operand 149"),
            f"holds more than weights, it is not opened (149: {RUNS})",
        ),
    ],
)
def test_what_torch_says_of_a_file_in_one_line(error, words, tmp_path, monkeypatch):
    def fails(*_, **__):
        raise error

    torch.save({}, tmp_path / "w.pth")
    monkeypatch.setattr(torch, "load", fails)
    assert refusal(tmp_path / "w.pth") == f"w.pth: {words}"


def test_a_message_shows_the_first_forty_bytes(tmp_path):
    path = tmp_path / "w.pth"
    path.write_bytes(b"0123456789" * 9)
    start = b"0123456789" * 4
    assert refusal(path) == f"w.pth: is no weights file: it starts with {start!r}"
