#!/usr/bin/env python3
"""Writes tests/models/variants_golden.json: what sentence-transformers makes of every form of model in
tests/models/variants.json.

usage: make_variants_golden.py

Each model is made by make_tiny_model.py and each text embedded alone, in float32 whatever the weights are.
Vectors are kept as base64 of little-endian float32. Needs sentence-transformers (6.2.0 wrote the committed file).
"""
import base64
import json
import os
import subprocess
import sys
import tempfile
import warnings

import numpy
import torch
from sentence_transformers import SentenceTransformer

HERE = os.path.dirname(os.path.abspath(__file__))
FOLDER = os.path.join(HERE, "..", "tests", "models")


def main():
    warnings.simplefilter("ignore")
    with open(os.path.join(FOLDER, "variants.json"), encoding="utf-8") as file:
        asked = json.load(file)
    vectors = {}
    for name, options in asked["variants"].items():
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([sys.executable, os.path.join(HERE, "make_tiny_model.py"), folder, *options], check=True)
            model = SentenceTransformer(folder, device="cpu", model_kwargs={"dtype": torch.float32})
            made = [model.encode([text], show_progress_bar=False)[0] for text in asked["texts"]]
        made = numpy.stack(made).astype("<f4")
        vectors[name] = {"dimension": made.shape[1], "vectors": base64.b64encode(made.tobytes()).decode()}
        print(f"{name}: {made.shape}, norm of the first {numpy.linalg.norm(made[0]):.4f}")
    with open(os.path.join(FOLDER, "variants_golden.json"), "w", encoding="utf-8") as file:
        json.dump(vectors, file, indent=1, ensure_ascii=False)
        file.write("\n")


if __name__ == "__main__":
    main()
