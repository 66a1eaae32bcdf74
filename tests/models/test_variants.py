#!/usr/bin/python3
"""Every form in which a BERT is published (variants.json), through the real command, against what
sentence-transformers made of it (variants_golden.json, written by scripts/make_variants_golden.py).

  test_variants.py --vecmill PATH
"""
import argparse
import base64
import json
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
MAKE = HERE.parent.parent / "scripts" / "make_tiny_model.py"
TOLERANCE = 1e-5
PLAIN = "no modules.json: mean pooling and no normalisation are assumed"


def floats(data: bytes) -> list:
    return list(struct.unpack(f"<{len(data) // 4}f", data))


def check(vecmill: str, name: str, options: list, texts: list, golden: dict) -> str:
    """What is wrong; nothing if all is well."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, MAKE, folder, *options], check=True)
        done = subprocess.run([vecmill, "embed", "--model", folder, "--input", "jsonl", "--format", "npy", "--workers", "2"],
                              input="".join(json.dumps({"text": text}) + "\n" for text in texts).encode(),
                              capture_output=True, timeout=120, check=False)
    if done.returncode:
        return f"exit {done.returncode}: {done.stderr.decode()}"
    if (PLAIN in done.stderr.decode()) != ("--plain" in options):
        return f"stderr {done.stderr!r}"
    shape = f"'shape': ({len(texts)}, {golden['dimension']})"
    if shape.encode() not in done.stdout[:128]:
        return f"not {shape}: {done.stdout[:128]!r}"
    ours, theirs = floats(done.stdout[128:]), floats(base64.b64decode(golden["vectors"]))
    far = max(abs(x - y) for x, y in zip(ours, theirs))
    return "" if far <= TOLERANCE and len(ours) == len(theirs) else f"off by {far:.3g}"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--vecmill", required=True)
    vecmill = parser.parse_args().vecmill
    asked = json.loads((HERE / "variants.json").read_text(encoding="utf-8"))
    golden = json.loads((HERE / "variants_golden.json").read_text(encoding="utf-8"))
    n_failed = 0
    for name, options in asked["variants"].items():
        wrong = check(vecmill, name, options, asked["texts"], golden[name])
        n_failed += bool(wrong)
        print(f"  {'FAIL' if wrong else 'ok  '}  {name}{': ' if wrong else ''}{wrong}")
    print(f"{len(asked['variants']) - n_failed} passed, {n_failed} failed")
    return 1 if n_failed else 0


if __name__ == "__main__":
    sys.exit(main())
