"""Configurations as data against the paper's tables, released layer lists and torchvision's."""

import dataclasses
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torchvision.models import vgg as tv

from vggbook import CONFIGS, nets_before_vgg, tables
from vggbook.configs import (
    LRN,
    Config,
    Conv,
    Pool,
    check_classes,
    check_size,
    check_width,
    resolve,
    scaled,
)

TABLE_1 = tables()["table_1"]["configs"]
BEFORE = nets_before_vgg()["nets"]
BEFORE_IN_ORDER = ("AlexNet", "VGG-F", "VGG-M", "VGG-S")


@pytest.mark.parametrize("name", TABLE_1)
def test_table_1(name):
    config, printed = CONFIGS[name], TABLE_1[name]
    assert config.as_list == printed["as_list"]
    assert (config.weight_layers, config.convs) == (printed["weight_layers"], printed["convs"])
    text = {
        Pool: lambda p: "maxpool",
        LRN: lambda n: "LRN",
        Conv: lambda c: f"conv{c.kernel}-{c.channels}",
    }
    assert [text[type(layer)](layer) for layer in config.layers] == printed["layers"][:-4]
    assert [f"FC-{n}" for n in (*config.fc, 1000)] == printed["layers"][-4:-1]
    assert list(config.layer_names + config.fc_names) == [
        row["name"] for row in tables()["derived_layers"][name]
    ]


@pytest.mark.parametrize("name", ["A", "B", "D", "E"])
def test_the_shorthand_is_torchvisions(name):
    assert CONFIGS[name].as_list == tv.cfgs[name]


@pytest.mark.parametrize("name", TABLE_1)
def test_sect_2_1_holds_for_every_layer(name):
    for layer in CONFIGS[name].layers:
        if isinstance(layer, Conv):
            assert layer.stride == layer.groups == 1 and layer.pad == {3: 1, 1: 0}[layer.kernel]
        elif isinstance(layer, Pool):
            assert layer == Pool(kernel=2, stride=2, ceil=False)
        else:
            assert (layer.size, layer.alpha, layer.beta, layer.k) == (5, 1e-4, 0.75, 2)


@pytest.mark.parametrize("name", BEFORE)
def test_nets_before_vgg(name):
    config, rows = CONFIGS[name], {row["name"]: row for row in BEFORE[name]["layers"]}
    named = dict(zip(config.layer_names, config.layers))
    for row in rows.values():
        if row["type"] == "conv":
            layer = named[row["name"]]
            assert (layer.channels, layer.kernel, layer.stride, layer.pad, layer.groups) == (
                *(row["channels"], row["kernel"], row["stride"], row["pad"]),
                row.get("groups", 1),
            )
            norm = named.get(row["name"].replace("conv", "lrn"))
            assert (dataclasses.asdict(norm) if norm else None) == (
                {"size": 5, "alpha": 1e-4, "beta": 0.75, "k": 2} if row["lrn"] else None
            )
        elif row["type"] == "maxpool":
            assert named[row["name"]] == Pool(
                row["window"], row["stride"], ceil=row["rounding"] == "ceil"
            )
    assert [n for n in (*config.layer_names, *config.fc_names) if not n.startswith("lrn")] == list(
        rows
    )
    assert (*config.fc, 1000) == tuple(rows[n]["channels"] for n in config.fc_names)


def test_the_5x5_net_is_b_with_each_pair_replaced():
    b, shallow = CONFIGS["B"].as_list, CONFIGS["B-5x5"].as_list
    pairs = "".join("M" if x == "M" else f"{x} " for x in b).split("M")[:-1]
    assert shallow == [x for pair in pairs for x in (f"5x5:{pair.split()[0]}", "M")]
    assert CONFIGS["B-5x5"].weight_layers == 8
    assert all(layer.pad == 2 for layer in CONFIGS["B-5x5"].layers if isinstance(layer, Conv))


def test_names_and_aliases():
    assert list(CONFIGS) == [
        "A",
        "A-LRN",
        "B",
        "C",
        "D",
        "E",
        "B-5x5",
        "AlexNet",
        "VGG-F",
        "VGG-M",
        "VGG-S",
    ]
    assert len(CONFIGS) == 11 and "VGG16" in CONFIGS
    for alias, name in {"VGG11": "A", "VGG13": "B", "VGG16": "D", "VGG19": "E"}.items():
        assert CONFIGS[alias] is CONFIGS[name]
        assert CONFIGS[alias].weight_layers == int(alias[3:])


@pytest.mark.parametrize(
    "name", ["F", "vgg16", "", None, 16, ["D"], "\u0412"]
)  # the last is a Cyrillic letter
def test_unknown_names_list_the_valid_ones(name):
    with pytest.raises(KeyError) as error:
        CONFIGS[name]
    message = error.value.args[0]
    assert message.startswith(f"unknown configuration {name!r}; valid names: ")
    assert all(valid in message for valid in (*CONFIGS, "VGG11", "VGG13", "VGG16", "VGG19"))


def test_configurations_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        CONFIGS["D"].fc = (10,)
    with pytest.raises(TypeError):
        CONFIGS["D"] = CONFIGS["E"]
    assert {CONFIGS["D"]: 1}[CONFIGS["VGG16"]] == 1


def test_groups_must_divide_the_channels():
    with pytest.raises(ValueError, match=r"conv2.* 2 groups.* 7"):
        Config("odd", (Conv(7), Conv(8, groups=2)), blocks=False)
    with pytest.raises(ValueError, match=r"conv1.* 2 groups.* 3"):
        Config("odd", (Conv(8, groups=2),), blocks=False)


@given(st.integers(1, 4096), st.floats(1e-4, 4), st.integers(1, 8))
def test_scaled_channels(channels, width, groups):
    got = scaled(channels, width, groups)
    assert got >= groups and got % groups == 0
    assert abs(got - channels * width) <= groups  # nearest multiple, but never zero
    assert scaled(channels * groups, 1.0, groups) == channels * groups


@given(st.integers(1, 10_000), st.integers(1, 10_000))
def test_sizes_as_int_or_pair(h, w):
    assert check_size(h) == (h, h)
    assert check_size((h, w)) == check_size([h, w]) == (h, w)


@pytest.mark.parametrize(
    "size", [0, -224, 224.0, "224", None, True, (224,), (224, 224, 3), (224, 0), (224, 1.5)]
)
def test_bad_sizes(size):
    with pytest.raises(
        ValueError,
        match=r"^image_size=.*: expected a whole number of pixels of at least 1, or a pair",
    ):
        check_size(size)


@pytest.mark.parametrize("value", [0, -1, 10.0, "10", None, True])
def test_bad_classes(value):
    with pytest.raises(ValueError, match=r"^num_classes=.*: expected a whole number of at least 1"):
        check_classes(value)


@pytest.mark.parametrize("value", [0, -0.5, float("nan"), float("inf"), "1", None, True])
def test_bad_widths(value):
    with pytest.raises(ValueError, match=r"^width=.*: expected a finite number above 0"):
        check_width(value)


def loaded_by(code: str) -> set[str]:
    """Top-level modules in a fresh interpreter after running ``code``."""
    code += "\nimport sys; print(*{name.partition('.')[0] for name in sys.modules})"
    return set(
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.split()
    )


def test_arithmetic_and_claims_need_no_torch():
    code = "import vggbook as v; v.trace('E'); v.receptive_field('D'); v.claims(); v.tables()"
    assert not loaded_by(code) & {
        "torch",
        "torchvision",
        "matplotlib",
        "sklearn",
        "numpy",
        "IPython",
        "PIL",
    }


def test_building_needs_torch_only():
    code = "import vggbook, vggbook.book.figures, vggbook.book.photos\n"
    modules = loaded_by(code + "vggbook.to_dense(vggbook.build('A', width=1/64, image_size=32))")
    assert "torch" in modules and not modules & {"torchvision", "matplotlib", "sklearn"}


def test_an_unknown_public_name():
    import vggbook

    with pytest.raises(AttributeError, match="no attribute 'vgg16'; it offers CONFIGS"):
        vggbook.vgg16  # noqa: B018
    assert {"CONFIGS", "build", "trace", "claims", "to_dense"} <= set(dir(vggbook))


def test_every_part_of_a_configuration_is_frozen():
    for part in (Conv(64), Pool(), LRN()):
        with pytest.raises(dataclasses.FrozenInstanceError):
            part.kernel = 5


def test_each_net_names_its_source():
    sources = {name: config.source for name, config in CONFIGS.items()}
    released = dict.fromkeys(("VGG-F", "VGG-M", "VGG-S"), "Chatfield et al. (2014), as released")
    assert sources == {
        **dict.fromkeys(TABLE_1, "Table 1"),
        "B-5x5": "Sect. 4.1",
        "AlexNet": "Krizhevsky et al. (2012), Sect. 3.5",
        **released,
    }


def test_the_configurations_print_their_names():
    assert repr(CONFIGS) == f"CONFIGS({', '.join([*TABLE_1, 'B-5x5', *BEFORE_IN_ORDER])})"


def test_channels_are_rounded_to_the_nearest_whole_number_of_units():
    assert [scaled(n, 1.0) for n in (1, 3, 64)] == [1, 3, 64]
    assert [scaled(10, width) for width in (0.01, 0.14, 0.16)] == [1, 1, 2]
    assert [scaled(10, width, 2) for width in (0.01, 0.29, 0.31)] == [2, 2, 4]


def test_a_configuration_stands_for_itself_and_its_name_for_it():
    own = Config("own", (Conv(4),))
    assert resolve(own) is own and resolve("VGG16") is CONFIGS["D"]


def test_a_size_is_named_as_the_caller_calls_it():
    with pytest.raises(ValueError, match=r"^crop=\(3, 0\): expected a whole number of pixels"):
        check_size((3, 0), "crop")
