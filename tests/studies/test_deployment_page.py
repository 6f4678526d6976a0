"""The page of what tickets cost to ship, over fabricated and kept deployments."""

import pathlib

import deployment as document  # studies/deployment.py
import numpy as np
import pandas as pd
import pytest
from deployments import made, REFUSED, row

from lth_keras.deployment import manifest
from lth_keras.deployment.conversion import formats
from lth_keras.experiments.training import networks

ROOT = pathlib.Path(__file__).parents[2]


def test_the_page_has_what_exports_measured_and_the_best_of_it(tmp_path):
    rows = [row(size=1000, latency=10.0), row("small", size=450, latency=20.0), REFUSED]
    made(tmp_path / "made", rows).save()
    document.add(tmp_path / "kept", "lenet", tmp_path / "made", "lth run\nlth export runs/lenet")
    text = document.page(tmp_path / "kept")
    assert "## lenet, level 3: 51.2% of the weights" in text
    assert "    lth run\n    lth export runs/lenet\n" in text and "`model_small.tflite`" in text
    assert "bytes 1/20.0 (small), bytes gzipped 1/20.0 (small), latency 1/2.0 (float32)" in text
    assert "float16_sparse in ai-edge-litert: it computes NaN" in text


def test_the_page_is_what_the_kept_deployments_say():
    page = (ROOT / "docs" / "deployment.md").read_text()
    assert page == document.page(ROOT / "studies" / "deployments")


def test_the_page_says_what_every_network_can_be_shipped_as(tmp_path):
    kept = tmp_path / document.NETWORKS
    refused = {**REFUSED, "format": "float16_sparse"}
    for name, rows in (("conv2", [row("float32", size=1000), refused]),
                       ("lenet_300_100", [row("float32", size=2000), refused])):
        made(kept / name, rows, name=name).save()
    text = document.page(tmp_path)
    assert "| format | lenet_300_100 | conv2 |" in text
    assert "| float32 | 2,000<br>1e-07 | 1,000<br>1e-07 |" in text, text
    assert "| float16_sparse | refused | refused |" in text
    assert "- float16_sparse in ai-edge-litert, of lenet_300_100, conv2: it computes NaN" in text


def test_the_page_says_what_every_level_can_be_shipped_as(tmp_path):
    rows = pd.DataFrame([
        row(name, level=level, size=size, latency=latency) for level in (0, 1)
        for name, size, latency in (("float32", 2000, 10.0), ("small", 450, 20.0))])
    (tmp_path / "report").mkdir()
    rows.to_csv(tmp_path / "report" / "deployment.csv", index=False)
    (tmp_path / "report" / "deployment.png").write_bytes(b"picture")
    assert "Every level" not in document.page(tmp_path / "kept")
    document.add_levels(tmp_path / "kept", tmp_path / "report", "lth run p\nlth report",
                        tmp_path / document.PICTURE)
    text = document.page(tmp_path / "kept")
    assert "    lth run p\n    lth report\n" in text and f"]({document.PICTURE})" in text
    assert (tmp_path / document.PICTURE).read_bytes() == b"picture"
    assert "| 1 | 80.0 | 450<br>small | 225<br>small | 10.0<br>float32 | 98.00 |" in text, text


@pytest.mark.long
@pytest.mark.parametrize("network", networks.NETWORKS)
def test_every_format_of_every_network_agrees_or_is_refused(network, tmp_path):
    document.export(tmp_path, network)
    found = document.read(tmp_path / document.NETWORKS)[network]
    assert set(found.rows["format"]) == set(formats.FORMATS)
    assert {"keras", "saved_model", "float32"} <= set(found.shipped)
    for _, each in found.rows.iterrows():
        if each.status == manifest.SHIPPED:
            assert np.isfinite(each.max_error) and not each.not_finite
        else:
            assert each.reason and each.route and "\n" not in each.reason
