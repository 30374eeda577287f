"""Files of torch.save: whole ones are read, others are refused in one line and run nothing."""

import pickle
import zipfile

import pytest
import torch

from vggbook.saved import read_saved

DAMAGED = "is damaged, it cannot be read: it is cut short or another kind of file"


@pytest.fixture
def path(tmp_path):
    """A saved file whose bytes can be found: forty numbers of one pattern."""
    torch.save({"w": torch.full((40,), 3.0), "note": "whole"}, tmp_path / "w.pt")
    return tmp_path / "w.pt"


def refusal(path, **options):
    with pytest.raises(ValueError) as error:
        read_saved(path, "checkpoint", **options)
    return str(error.value)


@pytest.mark.parametrize("mmap", [False, True])
def test_what_was_saved_is_read(path, mmap):
    found = read_saved(path, "checkpoint", mmap=mmap)
    assert found["note"] == "whole" and found["w"].tolist() == [3.0] * 40
    assert found["w"].device.type == "cpu"


def test_every_checksum_is_tried(path):
    data = path.read_bytes()
    numbers = torch.full((40,), 3.0).numpy().tobytes()
    assert data.count(numbers) == 1
    path.write_bytes(data.replace(numbers, numbers[:-1] + b"\x41"))
    with zipfile.ZipFile(path) as archive:
        name = archive.testzip()
    assert refusal(path) == f"{DAMAGED} (the checksum of {name} is wrong)"
    path.write_bytes(data[:-30])
    assert refusal(path) == f"{DAMAGED} (File is not a zip file)"


def test_what_is_no_archive_is_called_by_its_beginning(path):
    path.write_bytes(b"")
    assert refusal(path) == "is damaged: it is empty"
    path.write_bytes(b"0123456789" * 5)
    assert refusal(path) == f"is no checkpoint: it starts with {b'0123456789' * 4!r}"
    with pytest.raises(FileNotFoundError):
        read_saved(path.with_name("none.pt"), "checkpoint")


def test_what_torch_wrote_before_it_wrote_archives(path):
    torch.save({"w": torch.arange(3.0)}, path, _use_new_zipfile_serialization=False)
    assert refusal(path).startswith("is no checkpoint: it starts with b'\\x80")
    for mmap in (False, True):  # such a file cannot be mapped
        assert read_saved(path, "weights", old=True, mmap=mmap)["w"].tolist() == [0, 1, 2]


def test_objects_that_could_run_code_are_named_and_not_made(path, capsys):
    class Evil:
        def __reduce__(self):
            return (print, ("code ran",))

    torch.save({"evil": Evil()}, path)
    assert refusal(path) == (
        "holds more than weights, it is not opened (print: objects other than tensors and plain "
        "values could run code)"
    )
    path.write_bytes(pickle.dumps({"a": 1}))
    assert refusal(path, old=True).startswith("holds more than weights, it is not opened (")
    assert "code ran" not in capsys.readouterr().out
