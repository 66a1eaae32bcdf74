#!/usr/bin/python3
"""Writes the seeds of fuzz/corpus, all but the JSON that reads well by itself.

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

import fuzz_answers
from make_tiny_model import write_safetensors

HERE = Path(__file__).resolve().parent
CORPUS = HERE.parent / "fuzz" / "corpus"
FILES = ["config.json", "modules.json", "1_Pooling/config.json", "sentence_bert_config.json", "tokenizer_config.json",
         "config_sentence_transformers.json", "2_Dense/config.json", "3_Normalize/config.json"]
MODELS = {"tiny": [], "dense": ["--dense", "24", "--set", "3_Normalize/config.json:module_input_name=\"sentence_embedding\"", "--set",
                                             "tokenizer_config.json:strip_accents=false"], "plain": ["--plain"],
          "new": ["--module-names", "new", "--pooling", "mean,cls", "--default-prompt", "query", "--truncate-dim", "9"]}
SCRIPTS = (
    "[[SEP]] [SEP [MASK] [MASK][PAD][UNK] [ SEP ] Café Cafe\u0301 naïve résumé Ångström \u212bngstro\u0308m "
    "I\u0307stanbul İstanbul ı Σίσυφος ΣΑΣ ẞß ǅ Ǆ ǆ ᾳᾈᾂ ﬁﬂ Привет й и\u0306 中文abc a中国.。 東京タワー がか\u3099 \uf900⾀0﨎 "
    "\U0002f800𫠠𫤠𬺰𠀀㐀䷀ 한국어 각 \u1112\u1161\u11ab ह\u093fन\u094dद\u0940 क\u093c \u0958 ภาษาไทย "
    "\u0645\u0631\u062d\u0628\u0627\u064b \u05e9\u05c1\u05b8\u05dc\u05d5\u05b9\u05dd a\u0323\u0301 a\u0301\u0323 "
    "a\u0334\u0301\u0345 a\u302e\u0301 a\u0301\u302e\u0323b \U0001d15e\U0001d165\U0001d16e\U0001d166 \u0334\u302f a" + 40 * "\u0301\u0334" +
    "\u302e\u302f 😀 👨\u200d👩\u200d👧 🇩🇪 a\u200bb\u200dc\u2060d\ufeffe\xadf "
    "a\x00b\ufffdc\x01d\x07e\x1ff\x7fg\x85h\x9fi a\xa0b\u1680c\u2003d\u2028e\u2029f\u202fg\u205fh\u3000i\u180ej "
    "x\x0by\x0cz \ue000\uf8ff a\U000f0000b a\u0378b\U000e0001c\U000e0100d\uffff"
)
MARKS = "\u1112\u1161\u11ab ह\u093fन\u094dद\u0940 क\u093c \u0958 ภาษาไทย \u0645\u0631\u062d\u0628\u0627\u064b \u05e9\u05c1\u05b8\u05dc\u05d5\u05b9\u05dd"
TEXTS = {
    "conninfo/address": "postgresql://u:p%40w@h1:1,[::1]:2/d?sslmode=require&password=x",
    "conninfo/pairs": "host=h port=5432 user='a b' password='c\\'d' dbname=e",
    "encode/marks.txt": MARKS,
    "encode/scripts.txt": SCRIPTS,
    "env/forms": "\ufeff# c\nexport EMBED_WORKERS=4 # four\r\nPG_PASSWORD='a b\\'c'\nA=\"x\\n\\\"y\nz\" # end\nB\nbad line\n'k'=v\n",
    "metrics/sentences": "E ho\u02bbomau i ka \u02bb\u014dlelo Hawai\u02bbi. \u201cAloha!\u201d Keola said; 'okina' and Hawai\u2018i, New York City "
                         "(a \u0304kane) don't I'm The \u6771\u4eac \u2764\ufe0f 1,234 kala'\n",
    "records/lines": '{"id": 1, "text": "a\\u0000b"}\n\n{"embedding": [1, {"x": "}"}], "text": "\u00e9"}\r\n{"text":""}',
    # a list, a NUL, the overrides beside it
    "wordlist/entries": "\ufeffaloha\r\nk\u0101kou\n-hia\nraw_head\n\u2018okina\ne komo mai\n\0"
                        '{"entries": [{"word": "pine", "action": "exclude"}, {"word": "poi", "action": "include", "note": ""}, "he"]}\n',
    "wordlist/older": "aloha\npine\n\0" '{"stopwords": ["pine"], "recategorized": {"p\u014d\u02bbai": "x"}}\n',
    "wordlist/plain": "aloha\npine\nHawai\u02bbi\n",
}
NO_UTF8 = {"encode/added.txt": "a[SEP]b <A>  ab \u00e9! \u4e2d\u302e\u0301 \ud55c ".encode() + b"\x80\xc3("}


def write(corpus: Path) -> None:
    """All of them, into folders of the targets' names."""
    for name in (*TEXTS, *NO_UTF8, "safetensors/-", "shards/-", "model_config/-", "pg_answers/-"):
        (corpus / name).parent.mkdir(parents=True, exist_ok=True)
    for name, text in TEXTS.items():
        (corpus / name).write_bytes(text.encode())
    for name, data in NO_UTF8.items():
        (corpus / name).write_bytes(data)
    for name, data in fuzz_answers.seeds():
        (corpus / "pg_answers" / name).write_bytes(data)
    tensors = corpus / "safetensors"
    for dtype in ("F32", "F16", "BF16"):
        write_safetensors(tensors / dtype.lower(), {"w": ([2, 3], [0.5, 1, -2, 0, 3, 4]), "a": ([1], [7])}, dtype)
    write_safetensors(tensors / "empty", {})
    a, b = (tensors / name for name in ("f32", "shard-b"))
    write_safetensors(b, {"v": ([1], [7])})
    index = {"weight_map": {"w": "a.safetensors", "a": "a.safetensors", "v": "b.safetensors"}}
    (corpus / "shards" / "two").write_bytes(json.dumps(index).encode() + b"\0" + struct.pack("<H", a.stat().st_size) + a.read_bytes() + b.read_bytes())
    for name, options in MODELS.items():
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([sys.executable, HERE / "make_tiny_model.py", folder, *options], check=True)
            pieces = [(Path(folder) / file) for file in FILES]
            (corpus / "model_config" / name).write_bytes(b"\0".join(p.read_bytes() if p.exists() else b"" for p in pieces) + b"\0")


if __name__ == "__main__":
    write(CORPUS)
