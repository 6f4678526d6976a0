"""How well a runtime computes one output of a file, as a row of a table."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class OutputRow:
    """How well one output of a file is computed in one runtime.

    Unknown values are None or "".

    Attributes:
      output: the name of the output.
      measure: the measure that fits its loss, such as "accuracy" (`comparison.measures`); "" if it
        was only compared with Keras'.
      unit: what the points in `lost` are.
      keras: the measure of Keras' outputs.
      value: the measure of the file's outputs.
      lost: by how many points it is worse than Keras'.
      max_error: the largest absolute difference from Keras'.
      agreement: the share of predicted classes that are Keras', in [0, 1]; None of numbers.
    """

    output: str
    measure: str = ""
    unit: str = ""
    keras: "float | None" = None
    value: "float | None" = None
    lost: "float | None" = None
    max_error: "float | None" = None
    agreement: "float | None" = None
