#!/usr/bin/env python3
"""Makes src/text/unicode_table.c: what the Hugging Face `tokenizers` library believes about every code point.

usage: make_unicode_table.py [OUTPUT]        (needs the PyPI package `tokenizers`)

That library mixes Unicode tables of several versions (its own crates, Rust's, the regex crate's), so no
Unicode release and no version of utf8proc agrees with it everywhere. Every property is therefore asked of
the library itself, one code point at a time, and the answers are written down whole: token ids then depend
on nothing that is installed.
"""
import os
import sys

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

FLAGS = ["OTHER", "SPACE", "NONSPACING", "MARK", "PUNCTUATION", "WORD", "CJK", "DECOMPOSES", "COMBINING", "LOWERS"]
FLAG = {name: 1 << i for i, name in enumerate(FLAGS)}
KINDS = ["OTHER", "SPACE", "MARK", "DIGIT", "LETTER", "UPPER"]  # of which a code point is exactly one
KIND = {name: i for i, name in enumerate(KINDS)}
N_DIRECT = 0x400  # code points whose kind is read from an array: Latin, its modifiers and combining marks
HANGUL = range(0xAC00, 0xD7A4)


def scalars():
    return (c for c in range(0x110000) if not 0xD800 <= c < 0xE000)


def bert(**options):
    off = dict(clean_text=False, handle_chinese_chars=False, strip_accents=False, lowercase=False)
    return normalizers.BertNormalizer(**{**off, **options})


def asks_word(content_first):
    """Whether the library takes c for a word character beside a single_word token."""
    tokenizer = Tokenizer(models.WordLevel({"X": 0, "?": 1}, unk_token="?"))
    tokenizer.add_tokens([AddedToken("X", single_word=True, normalized=False)])
    def ask(c):
        text = "X" + c if content_first else c + "X"
        return 0 not in tokenizer.encode(text).ids
    return ask


def ask_all():
    clean, cjk, strip = bert(clean_text=True), bert(handle_chinese_chars=True), bert(strip_accents=True)
    nfd, marks, lower = normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()
    spaces, bert_split = pre_tokenizers.WhitespaceSplit(), pre_tokenizers.BertPreTokenizer()
    word_before, word_after = asks_word(False), asks_word(True)
    flags, lowers, decompositions = {}, {}, {}
    for code in scalars():
        c = chr(code)
        f = 0
        # clean_text drops U+0000 and U+FFFD by name, and keeps tab, LF and CR by name.
        if clean.normalize_str("a" + c + "b") == "ab":
            f |= FLAG["OTHER"]
        if len(spaces.pre_tokenize_str("a" + c + "b")) == 2:
            f |= FLAG["SPACE"]
        cleaned = clean.normalize_str(c)
        assert cleaned == ("" if f & FLAG["OTHER"] else " " if f & FLAG["SPACE"] else c), hex(code)
        if len(bert_split.pre_tokenize_str("a" + c + "b")) == 3:
            f |= FLAG["PUNCTUATION"]
        if marks.normalize_str(c) == "":
            f |= FLAG["MARK"]
        if cjk.normalize_str(c) == " " + c + " ":
            f |= FLAG["CJK"]
        if word_before(c):
            f |= FLAG["WORD"]
        assert word_after(c) == bool(f & FLAG["WORD"]), hex(code)
        d = nfd.normalize_str(c)
        if d != c:
            f |= FLAG["DECOMPOSES"]
            decompositions[code] = [ord(x) for x in d]
        elif strip.normalize_str(c) == "":
            f |= FLAG["NONSPACING"]
        small = lower.normalize_str(c)
        if small != c:
            f |= FLAG["LOWERS"]
            lowers[code] = [ord(x) for x in small]
        flags[code] = f
    return flags, lowers, decompositions


def kinds_of(flags):
    """What text metrics ask of a code point: general categories as the library's regular expressions have them."""
    asked = [("UPPER", r"[\p{Lu}\p{Lt}]"), ("LETTER", r"\p{L}"), ("DIGIT", r"\p{Nd}"), ("MARK", r"\p{M}")]
    removers = [(KIND[name], normalizers.Replace(Regex(pattern), "")) for name, pattern in asked]
    kinds = {}
    for code in scalars():
        kind = next((k for k, remover in removers if remover.normalize_str(chr(code)) == ""), KIND["OTHER"])
        if flags[code] & FLAG["SPACE"]:
            assert kind == KIND["OTHER"], hex(code)
            kind = KIND["SPACE"]
        kinds[code] = kind
    return kinds


def combining_classes(decompositions):
    """Canonical combining classes, told from how NFD orders pairs.

    In every pair that NFD swaps, the first has the higher class and the second a class above 0. U+0334 has
    class 1, U+0345 has 240 (the lowest and the highest there are), so two questions find the non-zero ones;
    sorting them by further questions gives their order. Only the order matters, so ranks are what is kept.
    """
    nfd = normalizers.NFD()
    def swaps(a, b):
        return nfd.normalize_str("a" + a + b) == "a" + b + a
    plain = [chr(c) for c in scalars() if c not in decompositions]
    found = [c for c in plain if c not in "\u0334\u0345" and (swaps(c, "\u0334") or swaps("\u0345", c))]
    classes = [["\u0334"]]  # ascending; each a list of characters that swap with each other in neither order
    for c in found + ["\u0345"]:
        low, high = 0, len(classes)
        while low < high:
            middle = (low + high) // 2
            if swaps(c, classes[middle][0]):
                low = middle + 1
            else:
                high = middle
        if low < len(classes) and not swaps(classes[low][0], c):
            classes[low].append(c)
        else:
            classes.insert(low, [c])
    return {ord(c): rank + 1 for rank, members in enumerate(classes) for c in members}


def ranges(values):
    """[(first, value)] for a dict over the scalars; surrogates take what precedes them."""
    out, last = [], None
    for code in scalars():
        if values[code] != last:
            last = values[code]
            out.append((code, last))
    return out


def lower_rows(lowers):
    """(first, last, step, delta): runs of one delta, every code point or every second one."""
    rows = []
    for code, to in sorted(lowers.items()):
        if len(to) != 1:
            continue
        delta = to[0] - code
        if rows:
            first, last, step, its_delta = rows[-1]
            gap = code - last
            if its_delta == delta and gap in (1, 2) and step in (0, gap):
                rows[-1] = (first, code, gap, delta)
                continue
        rows.append((code, code, 0, delta))
    return [(a, b, s or 1, d) for a, b, s, d in rows]


def table(out, declaration, items, wide=100):
    out.append(declaration + " = {")
    line = " "
    for item in items:
        if len(line) + len(item) + 2 > wide:
            out.append(line)
            line = " "
        line += " " + item + ","
    out += [line, "};", ""]


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    path = sys.argv[1] if len(sys.argv) > 1 else os.path.join(here, "../src/text/unicode_table.c")
    flags, lowers, decompositions = ask_all()
    ranks, kinds = combining_classes(decompositions), kinds_of(flags)
    for code in ranks:
        flags[code] |= FLAG["COMBINING"]
    for code in HANGUL:  # by arithmetic in unicode.c; checked here
        s = code - 0xAC00
        want = [0x1100 + s // 588, 0x1161 + s % 588 // 28] + ([0x11A7 + s % 28] if s % 28 else [])
        assert decompositions.pop(code) == want, hex(code)
    special_lower = {c: to for c, to in lowers.items() if len(to) != 1}
    assert special_lower == {0x130: [0x69, 0x307]}, special_lower  # by name in unicode.c
    rows, runs = lower_rows(lowers), ranges(flags)
    rank_runs = [(c, r) for c, r in ranges({c: ranks.get(c, 0) for c in scalars()})]

    out = ["/*",
           " * Generated by scripts/make_unicode_table.py: do not edit.",
           f" * What the Hugging Face tokenizers library, version {tokenizers.__version__}, answers for every code point.",
           " */",
           '#include "text/unicode_table.h"', ""]
    table(out, "const uint32_t unicode_runs[]", [f"0x{c << 11 | f:08x}" for c, f in runs])
    out.append("const unsigned unicode_n_runs = sizeof unicode_runs / sizeof *unicode_runs;\n")
    kind_runs = ranges(kinds)
    table(out, f"const uint8_t unicode_kinds[0x{N_DIRECT:x}]", [str(kinds[c]) for c in range(N_DIRECT)])
    table(out, "const uint32_t unicode_kind_runs[]", [f"0x{c << 3 | k:x}" for c, k in kind_runs])
    out.append("const unsigned unicode_n_kind_runs = sizeof unicode_kind_runs / sizeof *unicode_kind_runs;\n")
    table(out, "const unicode_lower_row unicode_lower_rows[]", [f"{{0x{a:x}, 0x{b:x}, {s}, {d}}}" for a, b, s, d in rows])
    out.append("const unsigned unicode_n_lower_rows = sizeof unicode_lower_rows / sizeof *unicode_lower_rows;\n")
    table(out, "const uint32_t unicode_rank_runs[]", [f"0x{c << 8 | r:x}" for c, r in rank_runs])
    out.append("const unsigned unicode_n_rank_runs = sizeof unicode_rank_runs / sizeof *unicode_rank_runs;\n")
    pool, entries = [], []
    for code, to in sorted(decompositions.items()):
        assert 1 <= len(to) <= 4
        entries.append(f"{{0x{code << 3 | len(to):x}, {len(pool)}}}")
        pool += to
    assert len(pool) < 65536 and len(rank_runs) > 100 and max(ranks.values()) < 256
    table(out, "const unicode_decomposition unicode_decompositions[]", entries)
    out.append("const unsigned unicode_n_decompositions =\n"
               "    sizeof unicode_decompositions / sizeof *unicode_decompositions;\n")
    table(out, "const uint32_t unicode_decomposition_pool[]", [f"0x{c:x}" for c in pool])
    with open(path, "w") as f:
        f.write("\n".join(out).rstrip("\n") + "\n")
    print(f"{path}: {len(runs)} runs of flags, {len(kind_runs)} of kinds, {len(rows)} of lower case, {len(rank_runs)} of classes, "
          f"{len(entries)} decompositions")


if __name__ == "__main__":
    main()
