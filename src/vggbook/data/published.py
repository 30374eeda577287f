"""The published sets, read by torchvision's own classes, and folders in ImageNet's layout."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checks import choice, needs
from .sets import ArrayDataset, FolderDataset
from .shapes import SPLITS


def open_dataset(
    name: str, root: str | os.PathLike, split: str = "train", download: bool = False, **options: Any
) -> ArrayDataset | FolderDataset:
    """A real data set: "cifar10" "stl10" "imagenette" "imagenet" "folder" (root/split/class/image).

    split: "train", "val" or "test". CIFAR-10 and STL-10 publish no validation set: every tenth
    training image is held out as "val". Imagenette and ImageNet have labelled "train" and "val"
    only. options go to torchvision's class of CIFAR-10 and STL-10; Imagenette has size="320px"
    unless given. Nothing is downloaded unless `download=True`, and then only what is not there;
    ImageNet must be fetched by hand. CIFAR-10 and STL-10 come as `ArrayDataset`, the others as
    `FolderDataset`. Hidden folders and files (.ipynb_checkpoints) are ignored. ValueError for
    unknown names and splits, FileNotFoundError where the data are not there, or a class has no
    images.
    """
    opener = _OPENERS[choice("name", name, _OPENERS)]
    choice("split", split, SPLITS[:2] if name.startswith("imagenet") else SPLITS)
    what = f"False: {name!r} cannot be downloaded; put its files in root"
    needs(not download or name not in ("imagenet", "folder"), "download", download, what)
    try:
        return opener(root, split, download, **options)
    except (RuntimeError, FileNotFoundError, NotADirectoryError) as error:
        # torchvision's RuntimeError: no good copy there
        place = f"{name!r}, split {split!r}, in root={str(root)!r}"
        raise FileNotFoundError(f"{place}: {error}") from error


def _cifar10(root: Any, split: str, download: bool, **options: Any) -> ArrayDataset:
    from torchvision.datasets import CIFAR10

    source = _fetched(CIFAR10, root, download, train=split != "test", **options)
    images = torch.from_numpy(source.data).permute(0, 3, 1, 2).contiguous()
    return _held_out(images, source.targets, source.classes, split)


def _stl10(root: Any, split: str, download: bool, **options: Any) -> ArrayDataset:
    from torchvision.datasets import STL10

    part = "test" if split == "test" else "train"
    source = _fetched(STL10, root, download, split=part, **options)
    return _held_out(torch.from_numpy(source.data), source.labels, source.classes, split)


def _imagenette(root: Any, split: str, download: bool, size: str = "320px") -> FolderDataset:
    from torchvision.datasets import Imagenette

    archive, _ = Imagenette._ARCHIVES[choice("size", size, Imagenette._ARCHIVES)]
    folder = Path(root, Path(archive).stem)
    if not folder.exists():
        Imagenette(root, size=size, download=download)  # both splits
    samples, wnids = _labelled(folder / split)
    names = Imagenette._WNID_TO_CLASS
    unknown = sorted(set(wnids) - set(names))
    needs(not unknown, "root", str(root), f"no folders but Imagenette's in {split}, not {unknown}")
    return FolderDataset(samples, [names[wnid][0] for wnid in wnids])


def _imagenet(root: Any, split: str, download: bool) -> FolderDataset:
    from torchvision.datasets import ImageNet

    class Visible(ImageNet):
        """torchvision's class unpacks the archives; it would take hidden folders for classes."""

        def find_classes(self, directory: Any) -> tuple[list[str], dict[str, int]]:
            names = class_folders(directory)
            return names, {name: i for i, name in enumerate(names)}

        @staticmethod
        def make_dataset(directory: Any, *_: Any, **__: Any) -> list[tuple[str, int]]:
            return _labelled(directory)[0]

    source = Visible(root, split)
    return FolderDataset(source.samples, [names[0] for names in source.classes])


def _folder(root: Any, split: str, download: bool) -> FolderDataset:
    samples, names = _labelled(Path(root, split))
    train = Path(root, "train")
    same = not train.is_dir() or class_folders(train) == names
    needs(same, "root", str(root), f"the class folders of {split!r} to be those of 'train'")
    return FolderDataset(samples, names)


_OPENERS: dict[str, Callable[..., ArrayDataset | FolderDataset]] = {
    "cifar10": _cifar10,
    "stl10": _stl10,
    "imagenette": _imagenette,
    "imagenet": _imagenet,
    "folder": _folder,
}


def class_folders(folder: str | Path) -> list[str]:
    """Names of the folders in a folder, sorted, without hidden ones."""
    with os.scandir(str(folder)) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def _labelled(folder: str | Path) -> tuple[list[tuple[str, int]], list[str]]:
    """(path, label) of the images in the class folders of a folder, and the names of these.

    What is hidden is passed over. FileNotFoundError where no class, or a class without images, is.
    """
    from torchvision.datasets.folder import IMG_EXTENSIONS

    names = class_folders(folder)
    if not names:
        raise FileNotFoundError(f"couldn't find any class folder in {folder}")
    samples = []
    for label, name in enumerate(names):
        paths = sorted(_image_files(Path(folder, name), IMG_EXTENSIONS))
        if not paths:
            raise FileNotFoundError(f"found no image in the class folder {name}")
        samples += [(path, label) for path in paths]
    return samples, names


def _image_files(folder: Path, extensions: tuple[str, ...]) -> list[str]:
    found = []
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            os.path.join(place, name)
            for name in files
            if name.lower().endswith(extensions) and not name.startswith(".")
        ]
    return found


def _fetched(kind: type, root: Any, download: bool, **options: Any) -> Any:
    """One of torchvision's sets; what lies there already is not fetched a second time."""
    try:
        return kind(root, **options)
    except RuntimeError:  # not there, or not whole
        if not download:
            raise
        return kind(root, download=True, **options)


def _held_out(images: Tensor, labels: Any, classes: list[str], split: str) -> ArrayDataset:
    """The test images, or the nine tenths or one tenth of the training images."""
    labels = torch.as_tensor(labels).long()
    index = torch.arange(len(labels))
    keep = index if split == "test" else index[(index % 10 == 9) == (split == "val")]
    return ArrayDataset(images[keep], labels[keep], classes)
