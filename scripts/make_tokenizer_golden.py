#!/usr/bin/env python3
"""Makes tests/text/golden.json: ids that the Hugging Face `tokenizers` library gives, for `make test`.

usage: make_tokenizer_golden.py [OUTPUT]      (needs the PyPI package `tokenizers`)

A small vocabulary in which every character that the texts can become is a word and a later piece, so that a
character dropped, kept or moved wrongly shows in the ids; the variants of parity_ids.py over it.
"""
import json
import os
import random
import sys
import tempfile

import tokenizers
from tokenizers import normalizers

import parity_ids

TEXTS = [
    "", " ", "\t\r\n", "Hello, World!", "unaffable", "unwanted running", "HELLO hello HeLLo", "a" * 100, "a" * 101, "b" * 100 + " c",
    "\u00e9" * 100, "e\u0301" * 100, "e\u0301" * 101, "\u4e2d" * 101, "\uac00" * 34, "\uac00" * 60,
    "[SEP]", "[CLS] a [SEP]", "[sep]", "a[SEP]b", "[[SEP]]", "[SEP", "[MASK] [MASK][PAD][UNK]", "[ SEP ]",
    "Caf\u00e9", "Cafe\u0301", "na\u00efve r\u00e9sum\u00e9", "\u00c5ngstr\u00f6m", "\u212bngstro\u0308m", "I\u0307stanbul \u0130stanbul \u0131",
    "\u03a3\u03af\u03c3\u03c5\u03c6\u03bf\u03c2 \u03a3\u0391\u03a3", "\u1e9e\u00df", "\u01c5 \u01c4 \u01c6", "\u1fb3\u1f88\u1f82", "\ufb01\ufb02",
    "\u041f\u0440\u0438\u0432\u0435\u0442 \u0439 \u0438\u0306", "\u4e2d\u6587abc", "a\u4e2d\u56fd.\u3002", "\u6771\u4eac\u30bf\u30ef\u30fc", "\u304c\u304b\u3099",
    "\uf900\u2f800\ufa0e", "\U0002f800\U0002b820\U0002b920\U0002ceb0\U00020000\u3400\u4dc0", "\ud55c\uad6d\uc5b4 \uac01", "\u1112\u1161\u11ab", "\ud7a3 \ubdc1 \uc6ec \uae4c\ud788 \uac1c\uac2f",
    "\u0939\u093f\u0928\u094d\u0926\u0940 \u0915\u093c \u0958", "\u0e20\u0e32\u0e29\u0e32\u0e44\u0e17\u0e22", "\u0645\u0631\u062d\u0628\u0627\u064b", "\u05e9\u05c1\u05b8\u05dc\u05d5\u05b9\u05dd",
    "a\u0323\u0301 a\u0301\u0323 a\u0334\u0301\u0345", "a\u302e\u0301 a\u0301\u302e\u0323b", "\U0001d15e\U0001d165\U0001d16e\U0001d166", "\u0334\u302f", "a" + "\u0301\u0334" * 40 + "\u302e\u302f",
    "\U0001f600 \U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea", "a\u200bb\u200dc\u2060d\ufeffe\u00adf", "a\u0000b\ufffdc\u0001d\u0007e\u001ff\u007fg\u0085h\u009fi",
    "a\u00a0b\u1680c\u2003d\u2028e\u2029f\u202fg\u205fh\u3000i\u180ej", "x\u000by\u000cz", "\ue000\uf8ff a\U000f0000b", "a\u0378b\U000e0001c\U000e0100d\uffff", "\ufe0f\u20e3",
    "$5 + <b> = ^ | ~ `", "\u00a9\u00ae\u20ac\u00a3\u2122", "\u00bf\u00a1\u00ab\u00bb\u2014\u2026\u2019", "a_b-c'd", "\uff01\uff08\uff0c\uff5e\u3001\u30fb", "\u037e \u1fef \u2260 \u226e",
    "3.14 1,000 x2 \u0661\u0662 \u00b2\u00bd\u2460", "\u1e0b\u0323 q\u0307\u0323", "\u0344 \u0374 \u0340", "\u0f73\u0f75\u0f81", "\ufb2a\ufb4e\u05d0\u05b7",
    "\U00010400\U00010428 \U0001e900\U0001e922", "\U00011099\U0001109a\U00011131", "\u10a0\u2d00\u1c90\u10d0 \u13a0\uab70", "\ua64a\u1c88\u2c2f\ua7c0\ua7f5", "\U00011938\U00016121",
    "<PLAIN>a<one> b<one>c <one>", "a  <L>  b  <R>  c  <B>  d", "<L><R> <B> <L>", "caf\u00e9 CAF\u00c9 Caf\u00e9 cafe", "Green tea green  tea GREEN gre", "a\u4e2d\u56fd\u4e2d\u6587b",
    "\u00c9t\u00c9 \u00e9t\u00e9", "  [MASK]  mask] [MASK]mask]", "x_y ax_y x_y\u0301 x_y.", "hello hell hella shell", "\u3000<B>\u00a0\u2003<R>\u0085 x", "gree n tea tea",
    "word\u0301<one>", "\u200d<one>\u200c", "_x_y", "\u0905<one>\u093e",
]
WORDS = ["hello", "hell", "##a", "world", "un", "##aff", "##able", "want", "##ed", "run", "##ning", "cafe", "caf\u00e9", "Hello", "green", "tea", "gre", "##en", "##bc", "abc", "word"]


def characters(texts):
    """Whatever the texts' characters can become."""
    steps = [normalizers.NFD(), normalizers.Lowercase(), normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase()])]
    found = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789[]<>_.,")
    for text in texts:
        found.update(text)
        for step in steps:
            found.update(step.normalize_str(text))
    return sorted(c for c in found if c not in " \0")  # U+0000 is no member name to every reader of JSON


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    output = sys.argv[1] if len(sys.argv) > 1 else os.path.join(here, "../tests/text/golden.json")
    rng = random.Random(3)
    texts = TEXTS + [parity_ids.random_text(rng, [w.strip("#") for w in WORDS]) for _ in range(40)]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + WORDS
    pieces += [c for c in characters(TEXTS)] + ["##" + c for c in characters(TEXTS)]
    vocabulary = {}
    for piece in pieces:
        vocabulary.setdefault(piece, len(vocabulary))
    special = dict(single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
    cls, sep = vocabulary["[CLS]"], vocabulary["[SEP]"]
    base = dict(
        version="1.0", truncation=None, padding=None, decoder=None,
        added_tokens=[dict(special, id=i, content=c) for i, c in enumerate(pieces[:5])],
        normalizer=dict(type="BertNormalizer", clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=True),
        pre_tokenizer=dict(type="BertPreTokenizer"),
        post_processor=dict(type="TemplateProcessing",
                            single=[{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
                            pair=[{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                            special_tokens={"[CLS]": {"id": "[CLS]", "ids": [cls], "tokens": ["[CLS]"]}, "[SEP]": {"id": "[SEP]", "ids": [sep], "tokens": ["[SEP]"]}}),
        model=dict(type="WordPiece", unk_token="[UNK]", continuing_subword_prefix="##", max_input_chars_per_word=100, vocab=vocabulary))
    cases = []
    with tempfile.TemporaryDirectory() as folder:
        for name, content in parity_ids.variants(base).items():
            if name == "BertProcessing":
                content["post_processor"].update(sep=["[SEP]", sep], cls=["[CLS]", cls])
            path = os.path.join(folder, "tokenizer.json")
            with open(path, "w") as f:
                json.dump(content, f)
            reference = parity_ids.theirs(path)
            ids = [e.ids for e in reference.encode_batch(texts)]
            del content["model"]["vocab"]  # the same for all
            cases.append(dict(name=name, tokenizer=content, ids=ids))
    with open(output, "w") as f:
        f.write('{"made_by": "scripts/make_tokenizer_golden.py", "tokenizers": "%s",\n"vocab": ' % tokenizers.__version__)
        f.write(json.dumps(list(vocabulary)) + ',\n"texts": [\n' + ",\n".join(json.dumps(t) for t in texts) + '],\n"cases": [\n')
        f.write(",\n".join(json.dumps(c, separators=(",", ":")) for c in cases) + "]}\n")
    print(f"{output}: {len(vocabulary)} words, {len(texts)} texts, {len(cases)} cases")


if __name__ == "__main__":
    main()
