"""The multiply-adds of products of two tensors, by their shapes."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

Shape = tuple[int, ...]
# Functions that multiply tensors, as TensorFlow, Keras 3 and its backends call them.
NAMES = ("matmul", "einsum", "tensordot", "dot")
ATTENTION = "dot_product_attention"  # Of queries, keys and values: (batch, time, heads, features).


@dataclasses.dataclass(frozen=True, eq=False)
class Product:
    """A product of tensors.

    Attributes:
      name: which of NAMES made it, or ATTENTION.
      operands: the tensors or variables, in the order in which they were given.
      shapes: their shapes.
      out: the shape of the result.
      equation: of an einsum.
      transposed: whether the last two axes of the first factor of a matmul change places.
    """

    name: str
    operands: tuple[Any, ...]
    shapes: tuple[Shape, ...]
    out: Shape
    equation: str = ""
    transposed: bool = False

    @property
    def macs(self) -> int:
        """Its multiply-adds.

        Example:
          >>> Product("matmul", (), ((8, 5, 3), (8, 3, 2)), (8, 5, 2)).macs
          240
          >>> Product("einsum", (), ((8, 5, 3), (3, 2)), (8, 5, 2), "...x,xy->...y").macs
          240
        """
        first, second = self.shapes[:2] if len(self.shapes) > 1 else (self.shapes[0], ())
        if self.name == "einsum":
            return of_equation(self.equation, self.shapes)
        if self.name == ATTENTION:  # For each feature of a query all keys, and likewise of values.
            return math.prod(first[:-1]) * second[1] * (first[-1] + self.shapes[2][-1])
        if self.name == "tensordot":  # Summed axes are in both factors, others in one and in `out`.
            return math.isqrt(math.prod(first) * math.prod(second) * math.prod(self.out))
        if not first or not (second or self.name != "dot"):  # Of a tensor and a number.
            return math.prod(self.out)
        return math.prod(self.out) * (first[-2] if self.transposed else first[-1])


def of_equation(equation: str, shapes: Sequence[Shape]) -> int:
    """The multiply-adds of an einsum: one for each place of all its labels together.

    Each operand beyond the second multiplies once more.

    Example:
      >>> of_equation("btd,bsd->bts", [(1, 4, 8), (1, 6, 8)])
      192
      >>> of_equation("i,i,i->", [(5,), (5,), (5,)])
      10
    """
    sizes: dict[str, int] = {}
    hidden = 1  # The places of the axes that "..." stands for.
    for labels, shape in zip(equation.replace(" ", "").partition("->")[0].split(","), shapes,
                             strict=True):
        before, dots, after = labels.partition("...")
        start, stop = len(before), len(shape) - len(after)
        if dots:
            hidden = max(hidden, math.prod(shape[start:stop]))
        sizes.update(zip(before + after, (*shape[:start], *shape[stop if dots else start:]),
                         strict=True))
    return math.prod(sizes.values()) * hidden * max(1, len(shapes) - 1)
