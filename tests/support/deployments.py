"""Fabricated deployments: the rows of their files, and the facts beside them."""

import numpy as np

from lth_keras.deployment import manifest
from lth_keras.deployment.manifest import Deployment


def row(format_="float32", *, level=3, size=1000, accuracy=0.98, latency=20.0, **changes):
    return {"level": level, "density": 0.8**level, "format": format_, "runtime": "litert",
            "status": "shipped", "bytes": size, "gzip_bytes": size // 2, "accuracy": accuracy,
            "accuracy_lost": 0.0, "parameters": 255, "macs": 254_376, "max_error": 1e-6,
            "not_finite": 0,
            "peak_memory_bytes": 2**20, "latency_1_us": latency, "latency_1_low_us": latency - 1,
            "latency_1_high_us": latency + 1, "latency_32_us": 30 * latency,
            "latency_32_low_us": 29 * latency, "latency_32_high_us": 31 * latency,
            "file": f"model_{format_}.tflite", "reason": "", "route": "", **changes}


REFUSED = row("float16_sparse", status="refused", accuracy=np.nan, max_error=np.nan,
              not_finite=100, reason="it computes NaN", route="float32_sparse", file="",
              latency_1_us=np.nan, latency_1_low_us=np.nan, latency_1_high_us=np.nan)
FACTS = {"name": "lenet, level 3", "level": 3, "density": 0.512, "replicate": 0,
         "preset": "lenet_300_100", "dataset": "mnist", "fingerprint": "0a1b2c3d4e",
         "verdict": {"run": "Winning ticket at level 3.", "level": "winning"},
         "settings": {"preset": "lenet_300_100", "steps": 100, "fraction": {"default": 0.2}},
         "pixels": True,
         "input": {"shape": [28, 28], "dtype": "float32"},
         "output": {"shape": [10], "dtype": "float32"}, "dense": row(size=9000, file=""),
         "costs": {"parameters": 255, "macs": 254_376, "notes": ["odd: counted once a step"],
                   "dense": {"parameters": 1000, "macs": 1_255_040, "notes": []}},
         "compaction": "3 of 400 units were removed.", "threads": 1,
         "reference": {"accuracy": 0.98, "examples": 10_000, "largest_output": 10.0},
         "versions": {"tensorflow": "2.21.0"}, "machine": "2 cores"}


def made(folder, rows=None, **facts):
    return Deployment(folder, manifest.table(rows or [row(), REFUSED]), {**FACTS, **facts})
