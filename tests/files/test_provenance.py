import importlib.metadata
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lth_keras.files import provenance

settings = st.dictionaries(st.text(max_size=4), st.integers() | st.text(max_size=4)
                           | st.booleans() | st.none() | st.lists(st.integers(), max_size=2),
                           max_size=4)


def test_versions_are_those_installed():
    versions = provenance.versions()
    assert set(versions) == {"lth_keras", "tensorflow", "tf-keras",
                             "tensorflow-model-optimization", "numpy"}
    for package, version in versions.items():
        assert version == importlib.metadata.version(package)


def test_a_package_that_is_not_installed_is_said_to_be_so(monkeypatch):
    def version(package):
        if package == "lth_keras":
            raise importlib.metadata.PackageNotFoundError(package)
        return "1.0"

    monkeypatch.setattr(importlib.metadata, "version", version)
    versions = provenance.versions()
    assert versions.pop("lth_keras") == "not installed"
    assert set(versions.values()) == {"1.0"}


@given(settings)
def test_a_fingerprint_is_ten_hexadecimal_digits(chosen):
    assert re.fullmatch("[0-9a-f]{10}", provenance.fingerprint(chosen))


@given(settings, st.randoms())
def test_the_order_of_settings_does_not_matter(chosen, random):
    shuffled = dict(random.sample(list(chosen.items()), len(chosen)))
    assert provenance.fingerprint(shuffled) == provenance.fingerprint(chosen)


@given(settings, settings)
def test_other_settings_have_another_fingerprint(one, other):
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (provenance.fingerprint(one) == provenance.fingerprint(other)) == same


@pytest.mark.parametrize(("chosen", "expected"), [
    ({}, "44136fa355"), ({"b": 2.0, "a": {"d": [1], "c": "θ"}}, "151a8f313b")])
def test_fingerprints_are_those_of_earlier_versions(chosen, expected):
    assert provenance.fingerprint(chosen) == expected
