#!/usr/bin/python3
"""Makes a tiny random BERT as a sentence-transformers directory, for tests that need a model but not its meaning.

  make_tiny_model.py FOLDER [--seed N] [--layers N] [--hidden N] [--heads N] [--intermediate N] [--positions N] [--dense N]

The same arguments give the same bytes. Standard library alone. Its vocabulary holds every printable ASCII
character, as the beginning of a word and inside one, and some hundred pieces, so that common text makes few [UNK].
"""
import argparse
import json
import random
import struct
from pathlib import Path

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PIECES = """the of and to in a is for with library file data tool small water engine read star planet disk
broken recover system network program test text model word search vector table ka la nani e o i naive zurich
state art sub less more""".split()
SUFFIXES = "s es ed ing er ers tion al ly ness able un re in er en on an th st".split()


def vocabulary() -> list:
    characters = [chr(c) for c in range(0x21, 0x7F) if not chr(c).isupper()]
    characters += list("éüñßøабвгдежзийклмнопрстуфхцчшщъыьэюя東京日本語한국어")
    words = SPECIAL + characters + ["##" + c for c in characters if c.isalnum()]
    words += [p for p in PIECES if len(p) > 1] + ["##" + s for s in SUFFIXES if len(s) > 1]
    return list(dict.fromkeys(words))


def tokenizer(words: list, positions: int) -> dict:
    added = [{"id": i, "content": w, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
             for i, w in enumerate(SPECIAL)]
    special = lambda w: {"SpecialToken": {"id": w, "type_id": 0}}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [special("[CLS]"), {"Sequence": {"id": "A", "type_id": 0}}, special("[SEP]")],
            "pair": [special("[CLS]"), {"Sequence": {"id": "A", "type_id": 0}}, special("[SEP]"),
                     {"Sequence": {"id": "B", "type_id": 1}}, {"SpecialToken": {"id": "[SEP]", "type_id": 1}}],
            "special_tokens": {w: {"id": w, "ids": [SPECIAL.index(w)], "tokens": [w]} for w in ("[CLS]", "[SEP]")},
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
                  "vocab": {w: i for i, w in enumerate(words)}},
    }


def tensors(rng: random.Random, n_vocab: int, a: argparse.Namespace) -> dict:
    """name -> (shape, values): weights about as large as a trained model's, so that layers do not fade into the norm."""
    made = {}

    def add(name: str, *shape: int, scale: float = 0.15, centre: float = 0.0) -> None:
        n = 1
        for size in shape:
            n *= size
        made[name] = (list(shape), [rng.gauss(centre, scale) for _ in range(n)])

    def norm(name: str) -> None:
        add(name + ".weight", a.hidden, scale=0.1, centre=1.0)
        add(name + ".bias", a.hidden, scale=0.1)

    def linear(name: str, n_out: int, n_in: int) -> None:
        add(name + ".weight", n_out, n_in)
        add(name + ".bias", n_out, scale=0.05)

    add("embeddings.word_embeddings.weight", n_vocab, a.hidden, scale=0.5)
    add("embeddings.position_embeddings.weight", a.positions, a.hidden)
    add("embeddings.token_type_embeddings.weight", 2, a.hidden)
    norm("embeddings.LayerNorm")
    for layer in range(a.layers):
        at = f"encoder.layer.{layer}."
        for part in ("query", "key", "value"):
            linear(at + "attention.self." + part, a.hidden, a.hidden)
        linear(at + "attention.output.dense", a.hidden, a.hidden)
        norm(at + "attention.output.LayerNorm")
        linear(at + "intermediate.dense", a.intermediate, a.hidden)
        linear(at + "output.dense", a.hidden, a.intermediate)
        norm(at + "output.LayerNorm")
    return made


def write_safetensors(path: Path, made: dict) -> None:
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, (shape, values) in made.items():
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, offset + 4 * len(values)]}
        offset += 4 * len(values)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, values in made.values():
            file.write(struct.pack(f"<{len(values)}f", *values))


def write_json(path: Path, value) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_modules(folder: Path, rng: random.Random, a: argparse.Namespace) -> None:
    kinds = ["Transformer", "Pooling"] + (["Dense"] if a.dense else []) + ["Normalize"]
    modules = []
    for i, kind in enumerate(kinds):
        path = "" if i == 0 else f"{i}_{kind}"
        modules.append({"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"})
        if path:
            (folder / path).mkdir(exist_ok=True)
    write_json(folder / "modules.json", modules)
    write_json(folder / "1_Pooling/config.json",
               {"word_embedding_dimension": a.hidden, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True,
                "pooling_mode_max_tokens": False, "pooling_mode_mean_sqrt_len_tokens": False})
    if a.dense:
        write_json(folder / "2_Dense/config.json", {"in_features": a.hidden, "out_features": a.dense, "bias": True,
                                                    "activation_function": "torch.nn.modules.activation.Tanh"})
        values = [rng.gauss(0, 0.2) for _ in range(a.dense * a.hidden)]
        write_safetensors(folder / "2_Dense/model.safetensors",
                          {"linear.weight": ([a.dense, a.hidden], values), "linear.bias": ([a.dense], [0.01] * a.dense)})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    for name, value in (("seed", 1), ("layers", 2), ("hidden", 32), ("heads", 2), ("intermediate", 64), ("positions", 128), ("dense", 0)):
        parser.add_argument("--" + name, type=int, default=value)
    a = parser.parse_args()
    rng, words = random.Random(a.seed), vocabulary()
    a.folder.mkdir(parents=True, exist_ok=True)
    write_json(a.folder / "config.json", {
        "architectures": ["BertModel"], "model_type": "bert", "hidden_act": "gelu", "hidden_size": a.hidden,
        "intermediate_size": a.intermediate, "num_attention_heads": a.heads, "num_hidden_layers": a.layers,
        "max_position_embeddings": a.positions, "type_vocab_size": 2, "vocab_size": len(words), "layer_norm_eps": 1e-12,
        "position_embedding_type": "absolute", "pad_token_id": 0})
    write_json(a.folder / "tokenizer.json", tokenizer(words, a.positions))
    write_json(a.folder / "tokenizer_config.json", {"model_max_length": a.positions, "tokenizer_class": "BertTokenizer", "do_lower_case": True})
    write_json(a.folder / "sentence_bert_config.json", {"max_seq_length": a.positions, "do_lower_case": False})
    write_json(a.folder / "config_sentence_transformers.json", {"prompts": {}, "default_prompt_name": None})
    write_safetensors(a.folder / "model.safetensors", tensors(rng, len(words), a))
    write_modules(a.folder, rng, a)


if __name__ == "__main__":
    main()
