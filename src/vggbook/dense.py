"""The fully convolutional twin of a network (Sect. 3.2): the head at every position of a map.

The paper turns the first FC layer into a 7x7 convolution and the others into 1x1 convolutions.
Here each 7x7 window of the last map goes through the net's own head as one row of a batch: the same
products and sums, for any head. ``DenseNetwork.convolutions`` gives the paper's form.
"""

from __future__ import annotations

from torch import Tensor, nn

from .configs import Size
from .foreign import check_equal, grid_and_classes, head, parts
from .inputs import check_images
from .strips import score_in_strips


class DenseNetwork(nn.Module):
    """(N, 3, H, W) -> class score map (N, classes, H', W'), for images no smaller than the crop.

    ``features`` make a map of the image; ``head`` makes class scores of each window of that map
    that is as large as the map of one crop, ``grid``. ``image_size`` is the crop, (height, width).
    """

    def __init__(self, features: nn.Module, head: nn.Sequential, image_size: Size) -> None:
        super().__init__()
        self.features = features
        self.head = head
        self.image_size = image_size
        self.grid, self.classes = grid_and_classes(features, head, image_size)

    def convolutions(self) -> list[nn.Conv2d]:
        """The FC layers as convolutions that share their weights: 7x7, 1x1, 1x1."""
        convs: list[nn.Conv2d] = []
        kernel = self.grid
        for fc in (module for module in self.head.modules() if isinstance(module, nn.Linear)):
            weight = fc.weight.unflatten(1, (-1, *kernel))  # (out, C, 7, 7), then (out, in, 1, 1)
            conv = nn.Conv2d(weight.shape[1], len(weight), kernel, device="meta")
            conv.weight = nn.Parameter(weight)
            conv.bias = fc.bias
            convs.append(conv)
            kernel = (1, 1)
        return convs

    def scores(self, images: Tensor) -> Tensor:
        """The class score map of images (N, 3, H, W), all at once."""
        x = self.features(images)  # (N, C, h, w)
        windows = x.unfold(2, self.grid[0], 1).unfold(3, self.grid[1], 1)  # (N, C, H', W', 7, 7)
        n, _, height, width, *_ = windows.shape
        rows = windows.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)  # (N H' W', C, 7, 7)
        scores = self.head(rows)  # (N H' W', classes)
        return scores.unflatten(0, (n, height, width)).permute(0, 3, 1, 2)

    def forward(self, images: Tensor, max_pixels: int | None = None) -> Tensor:
        """``max_pixels`` bounds the memory: larger images are worked off in overlapping strips."""
        check_images(images, next(self.parameters(), None), self.image_size, at_least=True)
        if max_pixels and images.numel() // 3 > max_pixels:
            return score_in_strips(self.scores, self.features, self.grid, images, max_pixels)
        return self.scores(images)


def to_dense(model: nn.Module) -> DenseNetwork:
    """The fully convolutional twin of a network, sharing its weights (Sect. 3.2).

    Takes the networks of ``build``, torchvision's VGG and AlexNet, and others that have the same
    parts; with any head. At the crop size (``model.image_size``, else 224 pixels) it gives a 1x1
    map equal to the network's logits; at Q = 256, 384, 512 pixels the maps of a 224-pixel net are
    2, 6 and 10 units wide.

    Raises TypeError for a model without ``features`` and ``classifier``, and ValueError where they
    do not fit together, or where ``forward`` does something else with them.
    """
    features, _ = parts(model, "model")
    dense = DenseNetwork(features, head(model), getattr(model, "image_size", (224, 224)))
    dense.training = model.training
    check_equal(model, dense, dense.image_size)
    return dense
