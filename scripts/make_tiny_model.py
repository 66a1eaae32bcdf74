#!/usr/bin/python3
"""Makes a tiny random BERT as a sentence-transformers directory, for tests that need a model but not its meaning.

  make_tiny_model.py FOLDER [--seed N] [--layers N] [--hidden N] [--heads N] [--intermediate N] [--positions N] [--dense N]
                     [--pooling MODE,...] [...]

The same arguments give the same bytes. Standard library alone. The other options (--help) make the forms in which
models are published: number formats, names of tensors and modules, shards, prompts, module chains. Its vocabulary holds every printable ASCII
character, as the beginning of a word and inside one, and some hundred pieces, so that common text makes few [UNK].
"""
import argparse
import json
import random
import struct
from pathlib import Path

DTYPES = {"F32": 4, "F16": 2, "BF16": 2}
OLD_POOLING = {"cls": "cls_token", "max": "max_tokens", "mean": "mean_tokens", "mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
               "weightedmean": "weightedmean_tokens", "lasttoken": "lasttoken"}
NEW_MODULES = {"Transformer": "base.modules.transformer", "Pooling": "sentence_transformer.modules.pooling",
               "Dense": "base.modules.dense", "Normalize": "base.modules.normalize"}

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


def packed(values: list, dtype: str) -> bytes:
    if dtype == "F16":
        return struct.pack(f"<{len(values)}e", *values)
    wide = struct.pack(f"<{len(values)}f", *values)
    if dtype == "F32":
        return wide
    return b"".join(wide[i + 2:i + 4] for i in range(0, len(wide), 4))  # bfloat16, cut: any value serves


def write_safetensors(path: Path, made: dict, dtype: str = "F32") -> None:
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, (shape, values) in made.items():
        n_bytes = DTYPES[dtype] * len(values)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + n_bytes]}
        offset += n_bytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, values in made.values():
            file.write(packed(values, dtype))


def published_name(name: str, a: argparse.Namespace) -> str:
    if a.old_norm_names and ".LayerNorm." in name:
        name = name.replace(".weight", ".gamma").replace(".bias", ".beta")
    return a.tensor_prefix + name


def write_weights(folder: Path, made: dict, a: argparse.Namespace) -> None:
    made = {published_name(name, a): tensor for name, tensor in made.items()}
    if a.shards == 1:
        write_safetensors(folder / "model.safetensors", made, a.dtype)
        return
    names, where = list(made), {}
    for shard in range(a.shards):
        file = f"model-{shard + 1:05}-of-{a.shards:05}.safetensors"
        part = names[shard::a.shards]
        write_safetensors(folder / file, {name: made[name] for name in part}, a.dtype)
        where.update({name: file for name in part})
    total = sum(DTYPES[a.dtype] * len(values) for _, values in made.values())
    write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": where})


def write_json(path: Path, value) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def pooling(a: argparse.Namespace) -> dict:
    modes = a.pooling.split(",")
    if a.module_names == "new":
        return {"embedding_dimension": a.hidden, "pooling_mode": modes[0] if len(modes) == 1 else modes, "include_prompt": True}
    flags = {f"pooling_mode_{flag}": mode in modes for mode, flag in OLD_POOLING.items()}
    return {"word_embedding_dimension": a.hidden, **flags}


def write_dense(folder: Path, rng: random.Random, a: argparse.Namespace) -> None:
    n_in = a.hidden * len(a.pooling.split(","))
    write_json(folder / "config.json", {"in_features": n_in, "out_features": a.dense, "bias": not a.no_dense_bias,
                                        "activation_function": a.dense_activation})
    made = {"linear.weight": ([a.dense, n_in], [rng.gauss(0, 0.2) for _ in range(a.dense * n_in)])}
    if not a.no_dense_bias:
        made["linear.bias"] = ([a.dense], [rng.gauss(0, 0.1) for _ in range(a.dense)])
    write_safetensors(folder / "model.safetensors", made, a.dtype)


def write_modules(folder: Path, rng: random.Random, a: argparse.Namespace) -> None:
    kinds = ["Transformer", "Pooling"] + ["Dense"] * (a.dense > 0) + ["Normalize"] * (not a.no_normalize)
    modules = []
    for i, kind in enumerate(kinds):
        path = "" if i == 0 else f"{i}_{kind}"
        home = NEW_MODULES[kind] if a.module_names == "new" else "models"
        modules.append({"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.{home}.{kind}"})
        if path:
            (folder / path).mkdir(exist_ok=True)
    write_json(folder / "modules.json", modules)
    write_json(folder / "1_Pooling/config.json", pooling(a))
    if a.dense:
        write_dense(folder / "2_Dense", rng, a)


def write_settings(folder: Path, a: argparse.Namespace) -> None:
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": a.max_seq_length or a.positions, "do_lower_case": False})
    settings = {"prompts": {"query": "query: ", "document": "passage: "} if a.default_prompt else {},
                "default_prompt_name": a.default_prompt or None}
    if a.truncate_dim:
        settings["truncate_dim"] = a.truncate_dim
    write_json(folder / "config_sentence_transformers.json", settings)


def move_transformer(folder: Path, where: str) -> None:
    """Into a folder of its own, as old versions saved it."""
    (folder / where).mkdir(exist_ok=True)
    for file in [*folder.glob("model*.safetensors*"), *(folder / n for n in (
            "config.json", "tokenizer.json", "tokenizer_config.json", "sentence_bert_config.json"))]:
        if file.exists():
            file.replace(folder / where / file.name)
    modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    modules[0]["path"] = where
    write_json(folder / "modules.json", modules)


def change(folder: Path, changes: list) -> None:
    """FILE:KEY=JSON sets a member, FILE:KEY= removes it, FILE= removes the file, FILE=OTHER renames it."""
    for one in changes:
        file, _, rest = one.partition(":") if ":" in one.partition("=")[0] else (one, "", "")
        if not rest:
            name, _, other = one.partition("=")
            (folder / name).replace(folder / other) if other else (folder / name).unlink()
            continue
        key, _, text = rest.partition("=")
        path = folder / file
        value = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        value.pop(key, None)
        if text:
            value[key] = json.loads(text)
        write_json(path, value)


def arguments(words: list | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    for name, value in (("seed", 1), ("layers", 2), ("hidden", 32), ("heads", 2), ("intermediate", 64), ("positions", 128),
                        ("dense", 0), ("shards", 1), ("truncate-dim", 0), ("max-seq-length", 0)):
        parser.add_argument("--" + name, type=int, default=value)
    parser.add_argument("--pooling", default="mean", help="several are concatenated in the reference's order")
    parser.add_argument("--module-names", choices=("old", "new"), default="old", help="of modules.json, and the form of the pooling settings")
    parser.add_argument("--dense-activation", default="torch.nn.modules.activation.Tanh")
    parser.add_argument("--no-dense-bias", action="store_true")
    parser.add_argument("--no-normalize", action="store_true")
    parser.add_argument("--dtype", choices=DTYPES, default="F32")
    parser.add_argument("--tensor-prefix", default="", help="bert. as in a model with a head")
    parser.add_argument("--old-norm-names", action="store_true", help="gamma and beta")
    parser.add_argument("--hidden-act", default="gelu")
    parser.add_argument("--default-prompt", choices=("query", "document"), help="also writes the two prompts")
    parser.add_argument("--plain", action="store_true", help="no modules.json and nothing of sentence-transformers")
    parser.add_argument("--transformer-folder", default="", help="0_Transformer, as old versions wrote it")
    parser.add_argument("--set", action="append", default=[], metavar="FILE:KEY=JSON",
                        help="at last; FILE:KEY= removes the member, FILE= the file, FILE=OTHER renames it")
    return parser.parse_args(words)


def main() -> None:
    a = arguments()
    rng, words = random.Random(a.seed), vocabulary()
    a.folder.mkdir(parents=True, exist_ok=True)
    write_json(a.folder / "config.json", {
        "architectures": ["BertModel"], "model_type": "bert", "hidden_act": a.hidden_act, "hidden_size": a.hidden,
        "intermediate_size": a.intermediate, "num_attention_heads": a.heads, "num_hidden_layers": a.layers,
        "max_position_embeddings": a.positions, "type_vocab_size": 2, "vocab_size": len(words), "layer_norm_eps": 1e-12,
        "position_embedding_type": "absolute", "pad_token_id": 0})
    write_json(a.folder / "tokenizer.json", tokenizer(words, a.positions))
    write_json(a.folder / "tokenizer_config.json", {"model_max_length": a.positions, "tokenizer_class": "BertTokenizer", "do_lower_case": True})
    write_weights(a.folder, tensors(rng, len(words), a), a)
    if not a.plain:
        write_settings(a.folder, a)
        write_modules(a.folder, rng, a)
    if a.transformer_folder:
        move_transformer(a.folder, a.transformer_folder)
    change(a.folder, a.set)


if __name__ == "__main__":
    main()
