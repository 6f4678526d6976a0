"""Compares two workdirs to the bit: a change that promises the same bits must show none.

    python studies/same_bits.py BEFORE AFTER

Both are workdirs of `lth run`, or both of a LotteryTicketCallback.  Compared are the arrays of
every .safetensors file (tickets, trained weights, states) by name, type, shape and bytes;
results.csv except for its seconds; and every learning curve.  Prints what was compared; or prints
each difference, and exits with code 1.
"""

import pathlib
import sys
from collections.abc import Iterator

import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load

CLOCK = "seconds"  # The one column that no two trainings share.


def main() -> None:
    """Compares the two folders that the command line names."""
    if len(sys.argv) != 3:
        sys.exit(f"Two workdirs are compared. Received: {len(sys.argv) - 1}.")
    before, after = map(pathlib.Path, sys.argv[1:])
    found = list(differences(before, after))
    if found:
        sys.exit("\n".join(found))
    print(f"the same bits: {counts(before)}")


def counts(root: pathlib.Path) -> str:
    """How much of a workdir is compared, in words."""
    files = [load(path.read_bytes()) for path in root.rglob("*.safetensors")]
    table = root / "results.csv"
    rows = len(pd.read_csv(table)) if table.exists() else 0
    return (f"{len(files)} files with {sum(map(len, files))} arrays, {rows} rows of results, "
            f"{len(list(root.rglob('curve.csv')))} learning curves")


def differences(before: pathlib.Path, after: pathlib.Path) -> Iterator[str]:
    """A line for each thing in which two workdirs differ.

    Args:
      before: a workdir.
      after: the other.

    Returns:
      Lines that name the file, and what differs in it.
    """
    there, here = _files(before), _files(after)
    if not any(name.endswith(".safetensors") for name in there):
        yield f"{before}: no workdir, for it has no ticket"
    for name in sorted(there ^ here):
        yield f"{name}: only in {before if name in there else after}"
    for name in sorted(there & here):
        one, other = (root / name for root in (before, after))
        if name.endswith(".csv"):
            yield from (f"{name}: {what}" for what in _tables(one, other))
        else:
            yield from (f"{name}: {what}" for what in _arrays(one.read_bytes(),
                                                               other.read_bytes()))


def _files(root: pathlib.Path) -> set[str]:
    # Not config.json and the records: their settings and checksums may gain names with a version.
    # Not what reports write, which is made from these.
    return {path.relative_to(root).as_posix() for pattern in ("*.safetensors", "curve.csv")
            for path in root.rglob(pattern)} | {path.name for path in root.glob("results.csv")}


def _arrays(before: bytes, after: bytes) -> Iterator[str]:
    if before == after:
        return
    try:
        there, here = load(before), load(after)
    except SafetensorError as error:
        yield f"cannot be read: {error}"
        return
    if there.keys() != here.keys():
        yield f"has the arrays {', '.join(sorted(there.keys() ^ here.keys()))} in one alone"
    for name in sorted(there.keys() & here.keys()):
        one, other = there[name], here[name]
        # Bytes, since NaN is not equal to itself and 0.0 is equal to -0.0.
        if (one.dtype, one.shape, one.tobytes()) != (other.dtype, other.shape, other.tobytes()):
            yield f"{name} differs"


def _tables(before: pathlib.Path, after: pathlib.Path) -> Iterator[str]:
    # Compared as text: what two numbers are written as tells their last bit.
    there, here = (pd.read_csv(path, dtype=str, keep_default_na=False).drop(
        columns=CLOCK, errors="ignore") for path in (before, after))
    if list(there) != list(here):
        yield f"columns {', '.join(sorted({*there} ^ {*here})) or 'in another order'} differ"
    elif len(there) != len(here):
        yield f"{len(there)} rows and {len(here)}"
    else:
        for name in there:
            rows = (there[name] != here[name]).to_numpy().nonzero()[0]
            if len(rows):
                place = rows[0]
                yield (f"{name} differs in {len(rows)} of {len(there)} rows, first in row "
                       f"{place + 1}: {there[name][place]} and {here[name][place]}")


if __name__ == "__main__":
    main()
