"""One wording for every argument."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vggbook import checks


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: checks.whole("n", 2.0), "n=2.0: expected a whole number"),
        (lambda: checks.whole("n", True), "n=True: expected a whole number"),
        (lambda: checks.whole("n", 0, low=1), "n=0: expected a whole number of at least 1"),
        (lambda: checks.whole("n", 9, high=8), "n=9: expected a whole number of at most 8"),
        (lambda: checks.whole("n", 9, 1, 8), "n=9: expected a whole number from 1 to 8"),
        (lambda: checks.number("x", math.nan), "x=nan: expected a number"),
        (lambda: checks.number("x", "1"), "x='1': expected a number"),
        (lambda: checks.number("x", False), "x=False: expected a number"),
        (lambda: checks.number("x", 2, 0, 1), "x=2: expected a number from 0 to 1"),
        (lambda: checks.positive("x", 0), "x=0: expected a finite number above 0"),
        (lambda: checks.positive("x", math.inf), "x=inf: expected a finite number above 0"),
        (lambda: checks.flag("f", 1), "f=1: expected True or False"),
        (lambda: checks.choice("c", "z", ("x", "y")), "c='z': expected one of 'x', 'y'"),
        (lambda: checks.choice("c", ["x"], ("x", "y")), "c=['x']: expected one of 'x', 'y'"),
        (
            lambda: checks.pair("p", (2, 1), low=0),
            "p=(2, 1): expected a number of at least 0, or a pair (smaller, larger) of them",
        ),
        (
            lambda: checks.pair("p", (1, 2, 3)),
            "p=(1, 2, 3): expected a number, or a pair (smaller, larger) of them",
        ),
        (
            lambda: checks.pair("p", (-1, 2), low=0),
            "p=(-1, 2): expected a number of at least 0, or a pair (smaller, larger) of them",
        ),
        (
            lambda: checks.whole_pair("p", (5, 2)),
            "p=(5, 2): expected a whole number, or a pair (smaller, larger) of them",
        ),
        (
            lambda: checks.whole_pair("p", (1, 2, 3)),
            "p=(1, 2, 3): expected a whole number, or a pair (smaller, larger) of them",
        ),
        (
            lambda: checks.whole_pair("p", (1, 2.5)),
            "p=(1, 2.5): expected a whole number, or a pair (smaller, larger) of them",
        ),
        (
            lambda: checks.whole_pair("p", 7, low=8),
            "p=7: expected a whole number of at least 8, or a pair (smaller, larger) of them",
        ),
        (lambda: checks.needs(False, "a", None, "something"), "a=None: expected something"),
    ],
)
def test_messages(call, message):
    with pytest.raises(ValueError) as caught:
        call()
    assert str(caught.value) == message


@given(st.integers(), st.integers(), st.integers())
def test_whole_numbers_of_any_kind_within_a_range(value, low, high):
    assert checks.is_whole(value, low, high) == (low <= value <= high)
    assert checks.is_whole(value, low=low) == (low <= value)
    assert checks.is_whole(value, high=high) == (value <= high)


def test_values_come_back_in_plain_types():
    assert type(checks.whole("n", np.int16(3))) is int
    assert type(checks.number("x", np.float32(0.5))) is float
    assert type(checks.number("x", 3)) is float and type(checks.positive("x", 2)) is float
    assert checks.flag("f", False) is False and checks.choice("c", "x", ("x",)) == "x"
    assert checks.pair("p", 2) == (2, 2) and checks.pair("p", [1, 2.5], low=1) == (1, 2.5)
    assert checks.whole_pair("p", np.int64(2)) == (2, 2) == checks.whole_pair("p", (2, 2), low=2)
    checks.needs(True, "a", None, "something")
    assert not checks.is_whole(True) and not checks.is_number(True) and not checks.is_number(None)
    assert checks.is_number(0.5, 0.5, 0.5) and not checks.is_number(math.inf)


def test_a_pair_of_whole_numbers_keeps_its_order():
    assert checks.whole_pair("p", (2, 5)) == (2, 5)
    assert [type(side) for side in checks.whole_pair("p", (np.int8(2), np.int64(5)))] == [int, int]


def test_a_command_says_in_one_line_what_is_wrong(capsys):
    parser = checks.Parser(prog="it")
    for call, line in (
        (lambda: parser.fail("a\n  b"), "it: error: a b\n"),
        (lambda: parser.parse_args(["--c"]), "unrecognized arguments: --c (--help lists the"),
    ):
        with pytest.raises(SystemExit) as ended:
            call()
        said = capsys.readouterr().err
        assert ended.value.code == 2 and line in said and said.count("\n") == 1


def test_small_numbers_above_zero_are_positive():
    assert checks.positive("x", 1e-9) == 1e-9 and checks.positive("x", np.float32(0.5)) == 0.5


def test_whole_numbers_are_compared_as_such():
    """A float holds no odd number above 2 to the power of 53."""
    assert not checks.is_whole(2**53 + 1, high=2**53)
    assert checks.is_whole(np.int64(2**53 + 1), low=2**53 + 1)


def test_a_whole_number_beyond_every_float():
    assert checks.whole("n", 10**400, low=1) == 10**400
    assert not checks.is_whole(10**400, high=1000)
    with pytest.raises(ValueError, match=r"x=10+: expected a finite number above 0"):
        checks.positive("x", 10**400)
    with pytest.raises(ValueError, match="expected a number of at least 1"):
        checks.number("x", -(10**400), low=1)
