"""Published sets: tiny archives in their formats, read by torchvision's own classes."""

import functools
import hashlib
import http.server
import io
import pickle
import shutil
import tarfile
import threading

import numpy as np
import pytest
import torch

from tests.pictures import jpeg, noise
from vggbook.data import open_dataset


def pack(path, files, mode="w:gz"):
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture
def served(tmp_path):
    """A folder and the address at which a server on this machine offers it."""
    (tmp_path / "served").mkdir()
    handler = functools.partial(QuietHandler, directory=tmp_path / "served")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield tmp_path / "served", f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def md5(content):
    return hashlib.md5(content).hexdigest()


def test_cifar10_from_its_archive(tmp_path, served, monkeypatch):
    from torchvision.datasets import CIFAR10

    pixels = {f"data_batch_{k}": noise(20, 3072, seed=k).numpy() for k in range(1, 6)} | {
        "test_batch": noise(20, 3072, seed=9).numpy()
    }
    files = {
        k: pickle.dumps({"data": v, "labels": [i % 10 for i in range(20)]})
        for k, v in pixels.items()
    }
    files["batches.meta"] = pickle.dumps({"label_names": [f"class {c}" for c in range(10)]})
    shelf, address = served
    checksum = pack(
        shelf / CIFAR10.filename, {f"{CIFAR10.base_folder}/{k}": v for k, v in files.items()}
    )
    monkeypatch.setattr(CIFAR10, "url", f"{address}/{CIFAR10.filename}")
    monkeypatch.setattr(CIFAR10, "tgz_md5", checksum)
    monkeypatch.setattr(
        CIFAR10, "train_list", [[k, md5(files[k])] for k in files if k.startswith("data")]
    )
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", md5(files["test_batch"])]])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": md5(files["batches.meta"])})
    with pytest.raises(
        FileNotFoundError, match=r"'cifar10'.*not found"
    ):  # nothing is fetched unasked
        open_dataset("cifar10", tmp_path / "root")
    train = open_dataset("cifar10", tmp_path / "root", download=True)
    monkeypatch.setattr(CIFAR10, "url", "nowhere")  # what lies there is not fetched again
    val, test = (
        open_dataset("cifar10", tmp_path / "root", split, download=True)
        for split in ("val", "test")
    )
    assert (len(train), len(val), len(test)) == (90, 10, 20) and train.classes[3] == "class 3"
    assert (
        torch.equal(val[1][0], torch.from_numpy(pixels["data_batch_1"][19]).reshape(3, 32, 32))
        and val[1][1] == 9
    )
    assert torch.equal(test[4][0], torch.from_numpy(pixels["test_batch"][4]).reshape(3, 32, 32))
    assert not {x.numpy().tobytes() for x in train.images} & {
        x.numpy().tobytes() for x in val.images
    }


def test_stl10_from_its_archive(tmp_path, served, monkeypatch):
    from torchvision.datasets import STL10

    images = {
        k: noise(20, 3, 96, 96, seed=i)
        for i, k in enumerate(("train_X.bin", "test_X.bin", "unlabeled_X.bin"))
    }
    files = {
        k: v.transpose(2, 3).contiguous().numpy().tobytes() for k, v in images.items()
    }  # stored column by column
    files |= {
        k: bytes(i % 10 + 1 for i in range(20)) for k in ("train_y.bin", "test_y.bin")
    }  # labels count from 1
    files["class_names.txt"] = "\n".join(f"kind {c}" for c in range(10)).encode()
    shelf, address = served
    checksum = pack(
        shelf / STL10.filename, {f"{STL10.base_folder}/{k}": v for k, v in files.items()}
    )
    monkeypatch.setattr(STL10, "url", f"{address}/{STL10.filename}")
    monkeypatch.setattr(STL10, "tgz_md5", checksum)
    for attribute in ("train_list", "test_list"):
        monkeypatch.setattr(
            STL10, attribute, [[k, md5(files[k])] for k, _ in getattr(STL10, attribute)]
        )
    test = open_dataset("stl10", tmp_path / "root", "test", download=True)
    assert len(test) == 20 and test.classes[2] == "kind 2" and test[13][1] == 3
    assert torch.equal(test[5][0], images["test_X.bin"][5])
    assert [len(open_dataset("stl10", tmp_path / "root", s)) for s in ("train", "val")] == [18, 2]


def test_imagenette_from_its_archive(tmp_path, served, monkeypatch):
    from torchvision.datasets import Imagenette

    names = sorted(Imagenette._WNID_TO_CLASS)
    files = {
        f"imagenette2-320/{s}/{n}/{n}_{i}.JPEG": jpeg(seed=i)
        for s in ("train", "val")
        for n in names
        for i in range(2)
    }
    shelf, address = served
    checksum = pack(shelf / "imagenette2-320.tgz", files)
    uri = f"{address}/imagenette2-320.tgz"
    monkeypatch.setattr(Imagenette, "_ARCHIVES", {**Imagenette._ARCHIVES, "320px": (uri, checksum)})
    train = open_dataset("imagenette", tmp_path / "root", download=True)
    assert (
        len(train) == 20
        and train.classes[:2] == ("tench", "English springer")
        and train[19][1] == 9
    )
    assert (
        train[0][0].shape == (3, 30, 40)
        and len(open_dataset("imagenette", tmp_path / "root", "val")) == 20
    )
    with pytest.raises(ValueError, match="split='test': expected one of 'train', 'val'"):
        open_dataset("imagenette", tmp_path / "root", "test")

    def refuses(self):  # as torchvision 0.18.1 does where the files lie there already
        raise RuntimeError("The directory already exists")

    monkeypatch.setattr(Imagenette, "_download", refuses)
    assert len(open_dataset("imagenette", tmp_path / "root", "val", download=True)) == 20
    (tmp_path / "root" / "imagenette2-320" / "train" / ".ipynb_checkpoints").mkdir()
    assert open_dataset("imagenette", tmp_path / "root").classes == train.classes
    (tmp_path / "root" / "imagenette2-320" / "train" / "n99").mkdir()
    (tmp_path / "root" / "imagenette2-320" / "train" / "n99" / "0.jpeg").write_bytes(jpeg())
    with pytest.raises(ValueError, match=r"Imagenette's in train, not \['n99'\]"):
        open_dataset("imagenette", tmp_path / "root")
    with pytest.raises(FileNotFoundError, match="not found"):
        open_dataset("imagenette", tmp_path / "elsewhere")
    message = "size='80px': expected one of 'full', '320px', '160px'"
    with pytest.raises(ValueError, match=message):
        open_dataset("imagenette", tmp_path / "root", size="80px")
    small = tmp_path / "root" / "imagenette2-160" / "val" / names[3]
    small.mkdir(parents=True)
    (small / "a.jpeg").write_bytes(jpeg((9, 7)))
    found = open_dataset("imagenette", tmp_path / "root", "val", size="160px")
    assert len(found) == 1 and found[0][0].shape == (3, 7, 9)
    assert found.classes == (Imagenette._WNID_TO_CLASS[names[3]][0],)


def test_imagenet_from_its_archives(tmp_path, monkeypatch):
    sio = pytest.importorskip("scipy.io")
    from torchvision.datasets import imagenet

    wnids, words = ["n01440764", "n02102040"], ["tench, Tinca tinca", "English springer"]
    kind = [
        ("ILSVRC2012_ID", "O"),
        ("WNID", "O"),
        ("words", "O"),
        ("gloss", "O"),
        ("num_children", "O"),
    ]
    synsets = np.array(
        [(i + 1, wnids[i], words[i], "", 0) for i in range(2)] + [(3, "n0", "fish", "", 2)],
        dtype=kind,
    )
    meta = io.BytesIO()
    sio.savemat(meta, {"synsets": synsets})
    root = tmp_path / "root"
    root.mkdir()
    truth = [2, 1, 2]
    devkit = {
        "meta.mat": meta.getvalue(),
        "ILSVRC2012_validation_ground_truth.txt": "\n".join(map(str, truth)).encode(),
    }
    archives = {
        "devkit": pack(
            root / "ILSVRC2012_devkit_t12.tar.gz",
            {f"ILSVRC2012_devkit_t12/data/{k}": v for k, v in devkit.items()},
        )
    }
    inner = {}
    for w in wnids:
        pack(tmp_path / f"{w}.tar", {f"{w}_{i}.JPEG": jpeg(seed=i) for i in range(2)}, "w")
        inner[f"{w}.tar"] = (tmp_path / f"{w}.tar").read_bytes()
    archives["train"] = pack(root / "ILSVRC2012_img_train.tar", inner, "w")
    photos = {f"ILSVRC2012_val_{i + 1:08d}.JPEG": jpeg((50 + i, 40), seed=i) for i in range(3)}
    archives["val"] = pack(root / "ILSVRC2012_img_val.tar", photos, "w")
    monkeypatch.setattr(
        imagenet, "ARCHIVE_META", {k: (imagenet.ARCHIVE_META[k][0], v) for k, v in archives.items()}
    )
    train, val = (open_dataset("imagenet", root, split) for split in ("train", "val"))
    assert train.classes == ("tench", "English springer") and train.labels == [0, 0, 1, 1]
    widths = {val[i][0].shape[2]: val[i][1] + 1 for i in range(3)}
    assert widths == {
        50 + i: label for i, label in enumerate(truth)
    }  # each image under its published label
    (root / "val" / ".ipynb_checkpoints").mkdir()
    assert open_dataset("imagenet", root, "val").classes == train.classes
    with pytest.raises(TypeError, match="no_such_option"):
        open_dataset("imagenet", root, no_such_option=1)
    with pytest.raises(FileNotFoundError, match=r"'imagenet'.*archive"):
        open_dataset("imagenet", tmp_path / "nothing")
    with pytest.raises(
        ValueError, match="download=True: expected False: 'imagenet' cannot be downloaded"
    ):
        open_dataset("imagenet", root, download=True)


def test_unknown_sets_are_refused(tmp_path):
    with pytest.raises(ValueError, match="name='mnist': expected one of 'cifar10'"):
        open_dataset("mnist", tmp_path)
    with pytest.raises(ValueError, match="split='dev': expected one of 'train', 'val', 'test'"):
        open_dataset("cifar10", tmp_path, "dev")


def test_a_folder_is_never_downloaded(tmp_path):
    message = "download=True: expected False: 'folder' cannot be downloaded; put its files in root"
    with pytest.raises(ValueError, match=message):
        open_dataset("folder", tmp_path, download=True)


@pytest.fixture
def pets(tmp_path):
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            (tmp_path / split / name / "0.jpg").write_bytes(jpeg())
    return tmp_path


@pytest.mark.parametrize("name", ["cifar10", "stl10", "imagenette", "folder"])
def test_options_go_to_torchvision(name, pets):
    """An option that it does not know is not passed over in silence."""
    (pets / "imagenette2-320").mkdir()
    for split in ("train", "val"):
        (pets / "imagenette2-320" / split).symlink_to(pets / split)
    with pytest.raises(TypeError, match="no_such_option"):
        open_dataset(name, pets, no_such_option=1)


def test_a_folder_without_a_training_part(pets):
    shutil.rmtree(pets / "train")
    assert open_dataset("folder", pets, "val").classes == ("cat", "dog")


def test_files_beside_the_class_folders_and_links_below_them(pets, tmp_path_factory):
    (pets / "train" / "notes.txt").write_text("no class")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "1.jpg").write_bytes(jpeg())
    (pets / "train" / "cat" / "more").symlink_to(elsewhere)
    train = open_dataset("folder", pets)
    assert train.classes == ("cat", "dog") and train.labels == [0, 0, 1]
    assert [path[-5:] for path in train.paths] == ["0.jpg", "1.jpg", "0.jpg"]
