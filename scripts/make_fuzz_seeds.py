#!/usr/bin/python3
"""Writes the seeds of fuzz/corpus that are not text of our own: small safetensors files and model directories.

usage: make_fuzz_seeds.py

A seed of model_config is the files of a directory one after the other, in the order of fuzz_model_config.c, each
ended by a NUL. One of shards is an index, a NUL, the first shard's length in two bytes, and two shards.
"""
import json
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

from make_tiny_model import write_safetensors

HERE = Path(__file__).resolve().parent
CORPUS = HERE.parent / "fuzz" / "corpus"
FILES = ["config.json", "modules.json", "1_Pooling/config.json", "sentence_bert_config.json", "tokenizer_config.json",
         "config_sentence_transformers.json", "2_Dense/config.json", "3_Normalize/config.json"]
MODELS = {"tiny": [], "dense": ["--dense", "24", "--set", "3_Normalize/config.json:module_input_name=\"sentence_embedding\"", "--set",
                                             "tokenizer_config.json:strip_accents=false"], "plain": ["--plain"],
          "new": ["--module-names", "new", "--pooling", "mean,cls", "--default-prompt", "query", "--truncate-dim", "9"]}


def main() -> None:
    tensors = CORPUS / "safetensors"
    tensors.mkdir(parents=True, exist_ok=True)
    for dtype in ("F32", "F16", "BF16"):
        write_safetensors(tensors / dtype.lower(), {"w": ([2, 3], [0.5, 1, -2, 0, 3, 4]), "a": ([1], [7])}, dtype)
    write_safetensors(tensors / "empty", {})
    shards = CORPUS / "shards"
    shards.mkdir(exist_ok=True)
    a, b = (tensors / name for name in ("f32", "shard-b"))
    write_safetensors(b, {"v": ([1], [7])})
    index = {"weight_map": {"w": "a.safetensors", "a": "a.safetensors", "v": "b.safetensors"}}
    (shards / "two").write_bytes(json.dumps(index).encode() + b"\0" + struct.pack("<H", a.stat().st_size) + a.read_bytes() + b.read_bytes())
    records = CORPUS / "records"
    records.mkdir(exist_ok=True)
    (records / "lines").write_bytes(b'{"id": 1, "text": "a\\u0000b"}\n\n{"embedding": [1, {"x": "}"}], "text": "\xc3\xa9"}\r\n{"text":""}')
    configs = CORPUS / "model_config"
    configs.mkdir(exist_ok=True)
    for name, options in MODELS.items():
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([sys.executable, HERE / "make_tiny_model.py", folder, *options], check=True)
            pieces = [(Path(folder) / file) for file in FILES]
            (configs / name).write_bytes(b"\0".join(p.read_bytes() if p.exists() else b"" for p in pieces) + b"\0")


if __name__ == "__main__":
    main()
