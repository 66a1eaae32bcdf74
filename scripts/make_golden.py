#!/usr/bin/env python3
"""Writes tests/model/golden from the real sentence-transformers.

usage: make_golden.py MODEL_DIRECTORY

Needs sentence-transformers (6.2.0 wrote the committed files). texts.jsonl holds one {"text", "ids"} a
line, vectors.f32 the vectors in the same order, little-endian float32. Each text is embedded alone, so
that the reference's own padding cannot touch its numbers.
"""
import json
import os
import random
import sys

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "model", "golden")

WRITTEN = """
Aloha kākou e nā hoa aloha
Ua mau ke ea o ka ʻāina i ka pono.
ʻO ka ʻōlelo Hawaiʻi ka ʻōlelo makuahine o nā Hawaiʻi.
He aliʻi ka ʻāina, he kauwā ke kanaka.
E ʻai kāua i ka poi me ka iʻa ma ke kahakai.
Hawai‘i Hawai'i Hawai`i Hawaiʻi
The quick brown fox jumps over the lazy dog.
Colourless green ideas sleep furiously; don't they?
Price: $12.50 + 3% = ~€13 <approx> ^2 | `code`
user@example.org wrote https://example.org/a?b=c&d=e#f
naïve café résumé Ångström Über straße
cafe\u0301 re\u0301sume\u0301 A\u030angstro\u0308m
İstanbul ıIiİ ǅ Ǆ ǆ ſ ẞ ß ﬁ ﬂ
ΑΒΓ αβγ ς σ Σίσυφος ὈΔΥΣΣΕΎΣ
Съешь же ещё этих мягких французских булок
Ёлка Йогурт й и\u0306
שלום עולם שָׁלוֹם
مرحبا بالعالم السَّلامُ عَلَيْكُم
नमस्ते दुनिया क्षत्रिय
สวัสดีชาวโลก ภาษาไทย
こんにちは世界。カタカナ ｶﾀｶﾅ がぎぐ か\u3099
你好，世界！中文分词 测试
漢字𠀀𪛖𫝀㐀豈丽
안녕하세요 세계 한글 각 각
Tiếng Việt có dấu: ữ ự ợ
ქართული ᲥᲐᲠᲗᲣᲚᲘ
Հայերեն աբգ
አማርኛ ሰላም ለዓለም
தமிழ் வணக்கம்
বাংলা ভাষা
ᎣᏏᏲ ꭰꭱ ᏸ
😀 😃 👨‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇺🇸 ❤️
a\u200bb\u200cc\u200dd\u2060e\ufefff
soft\u00adhyphen no\u00a0break thin\u2009space ideographic\u3000space line\u2028sep para\u2029sep
[CLS] [SEP] [MASK] [PAD] [UNK]
a[SEP]b [sep] [ SEP ] [[SEP]] [CLS][CLS]
##ing ##s un##known #hash ###
[unused1] [unused99]
x² y₃ ½ ⅓ Ⅳ ① ㊀ ﷺ
U\u0308 u\u0308\u0304 \u0344 \u0f73 \u1100\u1161\u11a8
e\u0301\u0323 e\u0323\u0301 \u0301e \u0301
\u202eright to left\u202c \u2066isolate\u2069
\ufffd replacement \ufffe \uffff \U0010ffff \ue000
१२३ ٤٥٦ ７８９ 𝟙𝟚𝟛 𝓗𝓮𝓵𝓵𝓸
«guillemets» „quotes‟ ‘single’ “double” ‚low’ ‹angle›
– — ― ‐ ‑ … · • ‡ § ¶ © ® ™ ° ± × ÷
tab\there newline\\nthere \\ backslash /slash
CamelCase snake_case kebab-case dotted.name x86_64 v1.2.3-rc4
1,234,567.89 12:34:56 2026-11-21 +1 (808) 555-0100
a
Z
9
!
 
   leading and trailing   
""".strip("\n").split("\n")

LEFT = ["a library", "a small tool", "the server", "a file system", "an old photograph", "the volcano", "a recipe for bread",
        "the child", "an astronomer", "the database", "a chess engine", "the harbour", "a court ruling", "the orchestra",
        "a spreadsheet", "the coral reef"]
RIGHT = ["for reading compressed archives", "that erupts without warning", "which nobody had opened for years",
         "written in C and tested on many machines", "under a bright winter sky", "with taro, coconut and salt",
         "and the people who depend on it", "to recover what was lost", "as explained in the manual", "beside the river",
         "in the year 1893", "against all expectation", "with 32 processors and 512 GB", "that answers in milliseconds",
         "by candle light", "over the Pacific"]


def texts():
    out = list(WRITTEN)
    out.append("")
    out += ["a%sb" % chr(c) for c in list(range(0x20)) + [0x7F, 0x80, 0x85, 0x9F]]
    out += [chr(0), "\n\n", "\r\n\t", "x" * 100, "x" * 101, "ha" * 60, "word " * 600, "ʻōlelo " * 200, "漢" * 300,
            "!" * 400, "[SEP]" * 150, "é" * 101, "e\u0301" * 100]
    rng = random.Random(1893)
    out += ["%s %s" % (rng.choice(LEFT), rng.choice(RIGHT)) for _ in range(60)]
    out += [". ".join("%s %s" % (rng.choice(LEFT), rng.choice(RIGHT)) for _ in range(rng.randint(3, 25))) for _ in range(40)]
    ranges = [(0x20, 0x7F), (0xA0, 0x250), (0x300, 0x370), (0x370, 0x530), (0x590, 0x700), (0x900, 0xE00), (0x1E00, 0x2000),
              (0x2000, 0x2C00), (0x3000, 0x3100), (0x4E00, 0x9FFF), (0xAC00, 0xD7A4), (0xF900, 0xFB50), (0xFE00, 0xFFFE),
              (0x1D400, 0x1D800), (0x1F300, 0x1FB00), (0x20000, 0x2A6E0)]
    for i in range(110):
        picked = rng.sample(ranges, rng.randint(1, 4))
        word = lambda: "".join(chr(rng.randrange(*rng.choice(picked))) for _ in range(rng.randint(1, 7)))
        out.append(" ".join(word() for _ in range(rng.randint(1, 12))))
    return out


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    from sentence_transformers import SentenceTransformer
    import numpy
    model = SentenceTransformer(sys.argv[1], device="cpu")
    os.makedirs(FOLDER, exist_ok=True)
    vectors = []
    with open(os.path.join(FOLDER, "texts.jsonl"), "w", encoding="utf-8") as file:
        for text in texts():
            ids = model.tokenizer([text], truncation=True, max_length=model.max_seq_length)["input_ids"][0]
            file.write(json.dumps({"text": text, "ids": [int(i) for i in ids]}) + "\n")
            vectors.append(model.encode([text])[0])
    numpy.asarray(vectors, dtype="<f4").tofile(os.path.join(FOLDER, "vectors.f32"))
    print("%d texts" % len(vectors))


if __name__ == "__main__":
    main()
