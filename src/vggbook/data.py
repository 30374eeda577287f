"""Feeding the nets: a procedural data set, real data sets, and the paper's training crops (Sect. 3.1, 3.3).

Units everywhere: images are RGB, 0..255; stored images are uint8 (3, H, W); batches that go into a net are float32 (N, 3, crop, crop)
with the mean RGB subtracted *and nothing else* (no division by a standard deviation).

**A data set** here is anything with `len(ds)`, `ds[i] -> (image uint8 (3, H, W), label int)` and `ds.classes` (names). If it also has
`ds.batch(indices, size=None) -> (images, labels)` (uint8 (N, 3, H, W), or a list of (3, H, W) where shapes differ; labels int64 (N,))
it is fed a batch at a time. torchvision sets that give PIL images are accepted too.

    ShapesDataset(split, n, seed=0, size=96, classes=12, difficulty=0.5, aspect=1.0, device="cpu")
        .batch(indices, size=None)   .boxes(indices) (N, 4) cx, cy, w, h   .scales(indices) (N,)   .masks(indices)   .classes
    ArrayDataset(images, labels, classes)                # uint8 held in memory, on any device
    in_memory(dataset, size=None, device="cpu")          # -> ArrayDataset: render or decode once, then crop from memory
    open_dataset(name, root, split, download=False)      # "cifar10" "stl10" "imagenette" "imagenet" "folder"; split "train" "val" "test"
    load_image(path)                                     # -> uint8 (3, H, W), whatever the file's mode

**Statistics**, streamed: `mean_rgb(dataset) -> (3,)`, `pca_rgb(dataset) -> Eigen(values (3,), vectors (3, 3))`.

**Steps**: `isotropic_resize(images, S)`, `random_crop_flip(batch, crop, generator)`, `colour_shift(batch, eigen, generator, std=0.1)`.

**Loader**: all of it together, for the trainer.

    loader = Loader(dataset, batch_size=256, crop=224, scales=256 | (256, 512), mean=mean_rgb(dataset), colour=None | pca_rgb(dataset),
                    flip=True, shuffle=True, augment=True, seed=0, rank=0, world_size=1, device="cpu", on_error="error" | "skip",
                    workers=0, gain=1.0)
    len(loader)                                # batches an epoch, the same on every rank
    for images, labels, indices in loader.epoch(e, start=k):   # start: batches of this epoch already done
        ...                                    # images float32 (n, 3, crop, crop), labels int64 (n,): on the device; indices: CPU

`batch_size` is the batch of the whole job; rank r of w gets its w-th part, so the global batch at step k is the same for every
world size. Nothing random is stored anywhere: the order depends on (seed, epoch), a sample's scale, crop, flip and colour on
(seed, epoch, index). So `epoch(e, start=k)` continues an interrupted epoch bit for bit, with any number of workers and processes.
`augment=False` gives centre crops at S (for validation), `shuffle=False` the set's own order, and then the last batch may be short.
`gain` multiplies the mean-subtracted pixels: the paper's value is 1; another one is a deviation to be stated.
`loader.skipped` maps the indices of unreadable images (on_error="skip") to the reason; `len(loader.skipped)` is the count.
"""
