"""How often tests are run: by default, with `thorough`, with `long`."""

import pytest


def short_and_long(cases, short, mark=pytest.mark.long):
    """Parameters of a test: all in the long form (or that of a mark), `short` by default too."""
    cases = [*cases]
    assert all(case in cases for case in short)
    return [pytest.param(*(case if isinstance(case, tuple) else (case,)),
                         marks=[] if case in short else [mark]) for case in cases]
