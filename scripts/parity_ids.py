#!/usr/bin/env python3
"""Compares token ids, live, with the Hugging Face `tokenizers` library.

usage: parity_ids.py --tool build/tests/text/tokenize_tool --model MODEL_DIR [--texts FILE...]
                     [--random N] [--seed S] [--only NAME]

On the model's own tokenizer.json and on variants of it (cased, each BertNormalizer option, normaliser
sequences, added tokens with every flag, old file formats): every code point alone and in company, pairs of
combining marks, strings about added tokens, random strings of mixed scripts, ill-formed UTF-8. FILE holds more
texts, one a line ({"text": ...} if its name ends in .jsonl). Exit status 0 if and only if every id is equal. Needs the PyPI package `tokenizers`.
"""
import argparse
import json
import os
import random
import struct
import subprocess
import sys
import tempfile

import tokenizers
from tokenizers import Tokenizer


def scalars():
    return [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]


class Ours:
    def __init__(self, tool, path, max_tokens=None):
        self.args = [tool, path] + ([str(max_tokens)] if max_tokens else [])

    def encode(self, texts):
        """Ids for each of the byte strings, through the pipe in one go."""
        with tempfile.TemporaryFile() as frames:
            for t in texts:
                frames.write(struct.pack("<I", len(t)) + t)
            frames.seek(0)
            out = subprocess.run(self.args, stdin=frames, stdout=subprocess.PIPE, check=True).stdout
        ids, at = [], 0
        while at < len(out):
            n, = struct.unpack_from("<I", out, at)
            ids.append(list(struct.unpack_from(f"<{n}i", out, at + 4)))
            at += 4 + 4 * n
        return ids


def theirs(path, max_tokens=None):
    tokenizer = Tokenizer.from_file(path)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if max_tokens:
        tokenizer.enable_truncation(max_tokens)
    return tokenizer


def compare(name, tool, path, texts, max_tokens=None, batch=100000):
    """texts: str, or bytes (ill-formed UTF-8 goes to the library with errors=replace)."""
    reference = theirs(path, max_tokens)
    n_different = 0
    for start in range(0, len(texts), batch):
        part = texts[start:start + batch]
        raw = [t if isinstance(t, bytes) else t.encode() for t in part]
        ours = Ours(tool, path, max_tokens).encode(raw)
        want = reference.encode_batch_fast([t.decode(errors="replace") if isinstance(t, bytes) else t for t in part])
        if len(ours) != len(part):
            sys.exit(f"{name}: {len(ours)} answers to {len(part)} texts")
        for text, mine, other in zip(part, ours, want):
            if mine != other.ids:
                n_different += 1
                if n_different <= 5:
                    print(f"  DIFFERENT {text!a}\n    ours   {mine}\n    theirs {other.ids} {other.tokens}")
    print(f"{name}: {len(texts)} texts, {n_different} different", flush=True)
    return n_different


def code_point_texts():
    """Every code point alone, in a word, doubled, before a combining mark, between capitals."""
    shapes = ["{}", "a{}b", "{0}{0}", "{}\u0301", "A{}B", "\u00e9{}\u0323\u0301"]
    return [shape.format(c) for shape in shapes for c in scalars()]


def combining_texts():
    import unicodedata
    marks = [c for c in scalars() if unicodedata.combining(c)]
    return ["a" + x + y + "b" for x in marks for y in marks]


ADDED = ["[SEP]", "[CLS]", "[MASK]", "[PAD]", "[UNK]"]


def added_texts(tokens, rng, n=20000):
    parts = tokens + [t.lower() for t in tokens] + [t[:-1] for t in tokens] + [t[1:] for t in tokens] + [
        " ", "  ", "\t", "\u3000", "\u00a0", "a", "A", "b", "word", "\u00e9", "e\u0301", "\u4e2d", ".", "_", "1", "\u0301", "\u200d",
        "\u00df", "\u0130", "\u03a3", "[", "]", "\u302e", "\u1d165", ""]
    return ["".join(rng.choice(parts) for _ in range(rng.randint(1, 9))) for _ in range(n)]


BLOCKS = [(0x20, 0x7F), (0x20, 0x7F), (0x20, 0x7F), (0, 0x20), (0x80, 0x250), (0x250, 0x370), (0x300, 0x370), (0x370, 0x530), (0x530, 0x800),
          (0x900, 0xE00), (0xE00, 0x1100), (0x1100, 0x1200), (0x1200, 0x1E00), (0x1AB0, 0x1B00), (0x1DC0, 0x1E00), (0x1E00, 0x2000),
          (0x2000, 0x2100), (0x2100, 0x2C00), (0x2C00, 0x3100), (0x3000, 0x3100), (0x3100, 0x3400), (0x3400, 0x4DC0), (0x4E00, 0xA000),
          (0xA000, 0xAC00), (0xAC00, 0xD7B0), (0xE000, 0xE100), (0xF900, 0xFB00), (0xFB00, 0x10000), (0x10000, 0x11000), (0x11000, 0x12000),
          (0x16F00, 0x17000), (0x1D100, 0x1D250), (0x1D400, 0x1D800), (0x1E000, 0x1F000), (0x1F300, 0x1FB00), (0x20000, 0x20100),
          (0x2A6D0, 0x2A710), (0x2B700, 0x2B950), (0x2CEA0, 0x2CF00), (0x2F800, 0x2FA30), (0xE0000, 0xE0200), (0x10FF00, 0x110000)]


def random_text(rng, words):
    out = []
    for _ in range(rng.randint(0, 12)):
        roll = rng.random()
        if roll < 0.25:
            out.append(rng.choice(words))
        elif roll < 0.30:
            out.append(rng.choice(words) * rng.randint(1, 30))
        elif roll < 0.32:
            out.append(rng.choice(ADDED))
        else:
            low, high = rng.choice(BLOCKS)
            out += [chr(c) for c in (rng.randrange(low, high) for _ in range(rng.randint(1, 8))) if not 0xD800 <= c < 0xE000]
        if rng.random() < 0.4:
            out.append(rng.choice([" ", " ", "\n", "\u3000", "-", "'", "\u0301"]))
    return "".join(out)


def long_texts():
    """Around the limit of characters in a word, in bytes and in characters."""
    units = ["a", "\u00e9", "\u4e2d", "\U0001d400", "\u0905", "a\u0301", "\uac00", "xyz", "\u0130", "\u302e"]
    return [u * n for u in units for n in list(range(90, 110)) + [33, 34, 49, 50, 51, 199, 200, 201, 400, 5000]] + [
        "\u0301\u0323" * 5000 + "a", "\u302e\u1d165" * 300, "a" + "\u0334\u302e" * 100]


def ill_formed(rng, n):
    seeds = [b"\x80", b"\xc0\xaf", b"\xe0\x80\x80", b"\xed\xa0\x80", b"\xf0\x80\x80\x80", b"\xf4\x90\x80\x80", b"\xff", b"\xe2\x82", b"\xf0\x9f\x98",
             "\u4e2d".encode(), b"abc", b" ", "\u00e9".encode(), "\U0001f600".encode(), b"[SEP]", b"\xc3", b"\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41"]
    return [b"".join(rng.choice(seeds) if rng.random() < 0.7 else bytes([rng.randrange(256)]) for _ in range(rng.randint(0, 8))) for _ in range(n)]


FLAGGED = [dict(content="<PLAIN>"), dict(content="<one>", single_word=True), dict(content="<L>", lstrip=True), dict(content="<R>", rstrip=True),
           dict(content="<B>", lstrip=True, rstrip=True), dict(content="Caf\u00e9", normalized=True), dict(content="GREEN", normalized=True, single_word=True),
           dict(content="green tea", normalized=True), dict(content="gre", normalized=True), dict(content="\u4e2d\u56fd", normalized=True),
           dict(content="\u4e2d\u6587", normalized=False), dict(content=" tea", normalized=True, rstrip=True), dict(content="\u00c9t\u00c9", normalized=False),
           dict(content="[MASK]", lstrip=True, special=True), dict(content="mask]", normalized=False), dict(content="x_y", single_word=True, normalized=False),
           dict(content="hello", normalized=False), dict(content="hell", normalized=False, single_word=True)]


def with_added(base):
    have = {t["content"]: t for t in base["added_tokens"]}
    n = len(base["model"]["vocab"])
    for token in FLAGGED:
        full = dict(id=0, single_word=False, lstrip=False, rstrip=False, special=False)
        full.update(normalized=not token.get("special", False))
        full.update(token)
        known = base["model"]["vocab"].get(full["content"])
        full["id"] = n if known is None else known
        n += known is None
        have[full["content"]] = full
    base["added_tokens"] = list(have.values())
    return base


def variants(base):
    """name -> tokenizer.json as an object. Each starts from a fresh copy of the model's own."""
    def fresh(**changes):
        copy = json.loads(json.dumps(base))
        copy.update(truncation=None, padding=None)
        copy.update(changes)
        return copy

    def bert(**options):
        return dict(dict(type="BertNormalizer", clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=True), **options)

    def sequence(*parts):
        return dict(type="Sequence", normalizers=list(parts))

    nfd, lower, strip = dict(type="NFD"), dict(type="Lowercase"), dict(type="StripAccents")
    out = {"as published": fresh(),
           "cased": fresh(normalizer=bert(lowercase=False)),
           "cased, accents stripped": fresh(normalizer=bert(lowercase=False, strip_accents=True)),
           "lowercased, accents kept": fresh(normalizer=bert(strip_accents=False)),
           "Chinese not spaced": fresh(normalizer=bert(handle_chinese_chars=False)),
           "not cleaned": fresh(normalizer=bert(clean_text=False)),
           "no normalizer": fresh(normalizer=None),
           "NFD, Lowercase, StripAccents": fresh(normalizer=sequence(nfd, lower, strip)),
           "NFD alone": fresh(normalizer=nfd),
           "Lowercase, NFD, BertNormalizer": fresh(normalizer=sequence(lower, nfd, bert(strip_accents=False))),
           "StripAccents, Sequence": fresh(normalizer=sequence(strip, sequence(bert(lowercase=False)))),
           "WhitespaceSplit": fresh(pre_tokenizer=dict(type="WhitespaceSplit")),
           "no pre_tokenizer": fresh(pre_tokenizer=None),
           "BertProcessing": fresh(post_processor=dict(type="BertProcessing", sep=["[SEP]", 102], cls=["[CLS]", 101])),
           "no post_processor": fresh(post_processor=None),
           "added tokens": with_added(fresh()),
           "added tokens, cased": with_added(fresh(normalizer=bert(lowercase=False))),
           "added tokens, no normalizer": with_added(fresh(normalizer=None)),
           # Without words white space becomes part of the tokens: what lstrip and rstrip take along shows.
           "added tokens, no pre_tokenizer": with_added(fresh(pre_tokenizer=None))}
    small = fresh()
    small["model"].update(max_input_chars_per_word=10, continuing_subword_prefix="")
    out["ten characters a word, no prefix"] = small
    untyped = fresh()
    del untyped["model"]["type"]
    out["model without a type"] = untyped
    return out


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--tool", required=True)
    args.add_argument("--model", required=True)
    args.add_argument("--texts", nargs="*", default=[])
    args.add_argument("--random", type=int, default=200000)
    args.add_argument("--seed", type=int, default=1)
    args.add_argument("--only")
    args = args.parse_args()
    print(f"tokenizers {tokenizers.__version__}")
    with open(os.path.join(args.model, "tokenizer.json")) as f:
        base = json.load(f)
    rng = random.Random(args.seed)
    words = [w for w in base["model"]["vocab"]] + [w.upper() for w in base["model"]["vocab"]][:5000]
    codes, marks, longs = code_point_texts(), combining_texts(), long_texts()
    randoms = [random_text(rng, words) for _ in range(args.random)]
    lines = []
    for path in args.texts:
        with open(path, encoding="utf-8", errors="replace", newline="\n") as f:
            lines += [json.loads(line)["text"] if path.endswith(".jsonl") else line.rstrip("\n") for line in f]
    n_different = n_texts = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, content in variants(base).items():
            if args.only and args.only not in name:
                continue
            path = os.path.join(folder, "tokenizer.json")
            with open(path, "w") as f:
                json.dump(content, f)
            first = name == "as published"
            added = added_texts([t["content"] for t in content["added_tokens"]], rng)
            # The model's own file gets everything; what the others add to it shows in samples.
            texts = (codes if first else codes[rng.randrange(7)::7]) + (marks if first else rng.sample(marks, 20000)) + longs + added
            texts += randoms if first else randoms[:len(randoms) // 10]
            texts += ill_formed(rng, 20000) + (lines if first else [])
            n_different += compare(name, args.tool, path, texts)
            n_texts += len(texts)
            for limit in (2, 3, 16) if first else (content["post_processor"] and 5 or 3,):
                few = randoms[:5000] + longs
                n_different += compare(f"{name}, at most {limit} tokens", args.tool, path, few, limit)
                n_texts += len(few)
    print(f"{n_texts} texts, {n_different} different")
    sys.exit(1 if n_different else 0)


if __name__ == "__main__":
    main()
