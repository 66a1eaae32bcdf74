#!/usr/bin/env python3
"""Compares token ids and vectors, live, with sentence-transformers.

usage: parity_vectors.py --vecmill build/vecmill --model MODEL_DIR --texts FILE.jsonl... [--count N]

Ids of all the texts, as the model truncates them, through `vecmill tokenize`; vectors of N of the first file's,
evenly spread, through `vecmill embed` and through the library as anybody would call it. Exit status 0 if and
only if every id is equal and every component within 1e-5. Needs the PyPI package `sentence-transformers`.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

import numpy
import sentence_transformers
import torch
import transformers

TOLERANCE = 1e-5


def read(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line)["text"] for line in file]


def spread(texts, count):
    count = min(count, len(texts))
    return [texts[i * len(texts) // count] for i in range(count)]


def compare_ids(args, path, reference):
    texts = read(path)
    done = subprocess.run([args.vecmill, "tokenize", path, "--model", args.model, "--input", "jsonl"],
                          stdout=subprocess.PIPE, check=True)
    mine = [json.loads(line) for line in done.stdout.splitlines()]
    theirs = reference.tokenizer(texts, truncation=True, max_length=reference.max_seq_length)["input_ids"]
    if len(mine) != len(texts):
        sys.exit(f"{path}: {len(mine)} answers to {len(texts)} texts")
    different = [text for text, a, b in zip(texts, mine, theirs) if a != b]
    for text in different[:5]:
        print(f"  DIFFERENT {text!a}")
    n_cut = sum(len(ids) == reference.max_seq_length for ids in theirs)
    print(f"{os.path.basename(path)}, at most {reference.max_seq_length} tokens ({n_cut} texts that long): "
          f"{len(texts)} texts, {len(different)} different", flush=True)
    return len(different)


def embed(args, texts):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "texts.jsonl")
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(json.dumps({"text": text}) + "\n" for text in texts)
        out = os.path.join(folder, "vectors.npy")
        subprocess.run([args.vecmill, "embed", path, "--model", args.model, "--input", "jsonl", "--format", "npy", "-o",
                        out], check=True, stderr=subprocess.DEVNULL)
        return numpy.load(out)


def compare_vectors(args, reference):
    texts = spread(read(args.texts[0]), args.count)
    mine = embed(args, texts)
    theirs = reference.encode(texts, batch_size=32, show_progress_bar=False)
    if mine.shape != theirs.shape or mine.dtype != numpy.float32:
        sys.exit(f"{mine.dtype} {mine.shape} vectors, not {theirs.dtype} {theirs.shape}")
    a, b = mine.astype(numpy.float64), theirs.astype(numpy.float64)
    difference = numpy.abs(a - b).max(axis=1)
    cosine = (a * b).sum(axis=1) / (numpy.linalg.norm(a, axis=1) * numpy.linalg.norm(b, axis=1))
    n_far = int((~(difference <= TOLERANCE)).sum())  # NaN is far
    print(f"vectors, largest difference of a component {difference.max():.2g}, lowest cosine {cosine.min():.10f}: "
          f"{len(texts)} texts, {n_far} different", flush=True)
    return n_far


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--vecmill", required=True)
    args.add_argument("--model", required=True)
    args.add_argument("--texts", required=True, nargs="+")
    args.add_argument("--count", type=int, default=6000)
    args = args.parse_args()
    transformers.logging.disable_progress_bar()
    for module in (sentence_transformers, transformers, torch):
        print(f"{module.__name__.replace('_', '-')} {module.__version__}", flush=True)
    reference = sentence_transformers.SentenceTransformer(args.model, device="cpu")
    n_different = sum(compare_ids(args, path, reference) for path in args.texts) + compare_vectors(args, reference)
    sys.exit(1 if n_different else 0)


if __name__ == "__main__":
    main()
