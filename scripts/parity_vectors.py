#!/usr/bin/env python3
"""Compares vectors, live, with sentence-transformers.

usage: parity_vectors.py --vecmill build/vecmill --model MODEL_DIR --texts FILE.jsonl [--count N]

N of the texts, evenly spread, go through `vecmill embed` and through the library as anybody would call it.
Exit status 0 if and only if every component is within 1e-5. Needs the PyPI package `sentence-transformers`.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

import numpy
import sentence_transformers

TOLERANCE = 1e-5


def spread(path, count):
    with open(path, encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in file]
    count = min(count, len(texts))
    return [texts[i * len(texts) // count] for i in range(count)]


def ours(vecmill, model, texts):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "texts.jsonl")
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(json.dumps({"text": text}) + "\n" for text in texts)
        out = os.path.join(folder, "vectors.npy")
        subprocess.run([vecmill, "embed", path, "--model", model, "--input", "jsonl", "--format", "npy", "-o", out],
                       check=True)
        return numpy.load(out)


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--vecmill", required=True)
    args.add_argument("--model", required=True)
    args.add_argument("--texts", required=True)
    args.add_argument("--count", type=int, default=6000)
    args = args.parse_args()
    texts = spread(args.texts, args.count)
    mine = ours(args.vecmill, args.model, texts)
    print(f"sentence-transformers {sentence_transformers.__version__}", flush=True)
    theirs = sentence_transformers.SentenceTransformer(args.model, device="cpu").encode(
        texts, batch_size=32, show_progress_bar=False)
    if mine.shape != theirs.shape:
        sys.exit(f"{mine.shape} vectors, not {theirs.shape}")
    difference = numpy.abs(mine.astype(numpy.float64) - theirs)
    cosine = (mine.astype(numpy.float64) * theirs).sum(axis=1) / (
        numpy.linalg.norm(mine.astype(numpy.float64), axis=1) * numpy.linalg.norm(theirs.astype(numpy.float64), axis=1))
    n_far = int((difference.max(axis=1) > TOLERANCE).sum())
    print(f"{len(texts)} vectors, largest difference of a component {difference.max():.2g}, lowest cosine "
          f"{cosine.min():.9f}, {n_far} beyond {TOLERANCE}")
    sys.exit(1 if n_far or not numpy.isfinite(mine).all() else 0)


if __name__ == "__main__":
    main()
