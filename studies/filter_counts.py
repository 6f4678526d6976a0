"""What networks of Liu et al. 2019, section 6, cost with some of their filters: counted by hand.

It knows nothing of Keras nor of the library: only widths of layers and sizes of images.
"""

import dataclasses


@dataclasses.dataclass
class Counts:
    """The costs of a network for one image.

    Attributes:
      parameters: weights, biases, scales and shifts, as torch counts parameters.
      macs: multiply-adds of convolutions and dense layers.
      flops: what Liu et al. divide the budgets of Scratch-B by, as their compute_flops.py: two for
        a multiply-add, two for a normalised element, one for that of a ReLU, one for each element
        that a pooling layer reads; without the pooling that is no layer of theirs (in shortcuts,
        and before VGG's classifier).
    """

    parameters: int = 0
    macs: int = 0
    flops: int = 0

    def conv(self, inputs, filters, image, relu=True):
        """A convolution of 3x3 without bias, normalised, with or without a ReLU."""
        self.parameters += 9 * inputs * filters + 2 * filters
        self.macs += 9 * inputs * filters * image**2
        self.flops += (18 * inputs + 2 + relu) * filters * image**2
        return filters

    def dense(self, inputs, units, normalised=False):
        """A dense layer with biases; a normalised one has a ReLU too."""
        self.parameters += inputs * units + units + 2 * units * normalised
        self.macs += inputs * units
        self.flops += 2 * inputs * units + units + 3 * units * normalised

    def pooled(self, channels, image):
        """Pooling of all of an image's pixels, each of which is read once."""
        self.flops += channels * image**2


def vgg16_fc512(kept):
    """VGG-16 with a classifier of 512 units; `kept` has the filters of layers that have fewer."""
    counts, width, image, number = Counts(), 3, 32, 0
    for stage, convolutions in enumerate((2, 2, 3, 3, 3)):
        if stage:
            counts.pooled(width, image)
            image //= 2
        for _ in range(convolutions):
            number += 1
            width = counts.conv(width, kept.get(f"conv{number}", min(512, 64 * 2**stage)), image)
    counts.dense(width, 512, normalised=True)
    counts.dense(512, 10)
    return counts


def resnet(depth, kept):
    """A ResNet of so many layers with shortcuts without weights."""
    counts, width, image, number = Counts(), 16, 32, 2
    counts.conv(3, 16, image)
    for stage in range(3):
        for block in range((depth - 2) // 6):
            filters = 16 * 2**stage
            image //= 2 if stage and not block else 1
            inner = counts.conv(width, kept.get(f"stage{stage + 1}_conv{number}", filters), image)
            width = counts.conv(inner, filters, image)
            number += 2
    counts.pooled(width, image)
    counts.dense(width, 10)
    return counts


def counted(network, kept=()):
    """The costs of a network by its name, with so many filters of layers by theirs."""
    kept = dict(kept)
    return vgg16_fc512(kept) if network == "vgg16_fc512" else \
        resnet({"resnet56_padded": 56, "resnet110_padded": 110}[network], kept)
