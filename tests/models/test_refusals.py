#!/usr/bin/python3
"""Model directories that are damaged, lie, or ask for what is not computed: one clear line each, through the
real command; where models are looked for; what identifies them.

  test_refusals.py --vecmill PATH
"""
import json
import os
import pwd
import shutil
import sqlite3
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from cases import given_vecmill, run_cases  # noqa: E402

MAKE = Path(__file__).resolve().parent.parent.parent / "scripts" / "make_tiny_model.py"
SMALL = ["--layers", "1", "--hidden", "8", "--heads", "2", "--intermediate", "8", "--positions", "16"]
VECMILL = ""


def make(folder, *options) -> Path:
    subprocess.run([sys.executable, MAKE, folder, *SMALL, *options], check=True)
    return Path(folder)


def run(*words, stdin=b"a\n", **env):
    return subprocess.run([VECMILL, *words], input=stdin, capture_output=True, timeout=60, check=False,
                          env={**os.environ, **env})


def expect_refused(model, *wanted) -> None:
    """Exit 1 and one line on stderr that holds all of `wanted`."""
    done = run("embed", "--model", str(model))
    told = done.stderr.decode()
    assert done.returncode == 1, f"exit {done.returncode}: {told}"
    assert told.startswith("vecmill: ") and told.count("\n") == 1, told
    for text in wanted:
        assert text in told, f"{text!r} is not in {told!r}"
    assert done.stdout == b"", done.stdout[:80]


def change_json(path: Path, change) -> None:
    value = json.loads(path.read_text(encoding="utf-8"))
    changed = change(value)
    path.write_text(json.dumps(value if changed is None else changed), encoding="utf-8")


# --- safetensors ---


def weights(model: Path) -> tuple:
    data = (model / "model.safetensors").read_bytes()
    n_header, = struct.unpack_from("<Q", data)
    return json.loads(data[8:8 + n_header]), data[8 + n_header:]


def write_weights(model: Path, header, data: bytes) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    (model / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)


def test_damaged_files(folder):
    model = make(folder)
    path = model / "model.safetensors"
    whole = path.read_bytes()
    fetch = "(fetch it again)"
    for data, why in [(b"", "shorter than its own length field"), (whole[:7], "shorter than its own length field"),
                      (struct.pack("<Q", 1 << 63) + whole[8:], "its header is longer than the file"),
                      (struct.pack("<Q", len(whole) - 7) + whole[8:], "its header is longer than the file"),
                      (whole[:100], "its header is longer than the file"), (whole[:-1], "its data lies outside the file"),
                      (whole + b"x", "bytes that no tensor owns")]:
        path.write_bytes(data)
        expect_refused(model, str(path), why, fetch)
    path.unlink()
    expect_refused(model, "no model.safetensors", "convert them to safetensors")


def test_no_file_at_all(folder):
    """What is no file is told as that; a pipe that nobody writes to must not be waited for."""
    model = make(folder, "--default-prompt", "query")
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "modules.json", "sentence_bert_config.json",
                 "config_sentence_transformers.json", "1_Pooling/config.json", "model.safetensors"):
        path, kept = model / name, model / "kept"
        path.rename(kept)
        os.mkfifo(path)
        expect_refused(model, str(path), "not a regular file")
        path.unlink()
        path.mkdir()
        expect_refused(model, str(path), "not a regular file")
        path.rmdir()
        for text in ("[]", "5", '"text"'):
            path.write_text(text, encoding="utf-8")
            expect_refused(model, str(path))
        kept.replace(path)
    assert run("embed", "--model", model).returncode == 0


def test_vectors_that_are_not_finite(folder):
    """Not handed on as numbers: the record says null, stderr why, and the status that something failed."""
    model = make(folder)
    header, data = weights(model)
    begin, end = header["encoder.layer.0.output.LayerNorm.bias"]["data_offsets"]
    for value in (float("nan"), float("inf")):
        write_weights(model, header, data[:begin] + struct.pack("<f", value) * ((end - begin) // 4) + data[end:])
        done = run("embed", "--model", model, stdin=b"a\nb\n")
        assert done.returncode == 3, done
        assert [json.loads(line)["embedding"] for line in done.stdout.splitlines()] == [None, None], done.stdout
        assert done.stderr.startswith(b"vecmill: record 1: the model gave a vector that is not finite\n"), done.stderr


def test_lying_headers(folder):
    model = make(folder)
    header, data = weights(model)
    name = "encoder.layer.0.attention.output.dense.bias"

    def lie(**changes):
        write_weights(model, {**header, name: {**header[name], **changes}}, data)

    begin, end = header[name]["data_offsets"]
    for changes, why in [({"dtype": "Q4"}, "its dtype is unknown"), ({"dtype": 5}, "its dtype is unknown"),
                         ({"dtype": "I32"}, "its dtype: not supported yet"), ({"dtype": "F16"}, "differ in size"),
                         ({"shape": [3]}, "differ in size"), ({"shape": [-8]}, "not a list of sizes"),
                         ({"shape": [1 << 62, 16]}, "not a list of sizes"), ({"shape": "8"}, "not a short list"),
                         ({"shape": [1] * 8 + [8]}, "not a short list"), ({"shape": [2, 4]}, "has another shape"),
                         ({"data_offsets": [begin - 32, end - 32]}, "it overlaps another"),
                         ({"data_offsets": [begin]}, "lies outside the file"),
                         ({"data_offsets": [end, begin]}, "lies outside the file"),
                         ({"data_offsets": [begin, 1 << 60]}, "lies outside the file")]:
        lie(**changes)
        expect_refused(model, why, "" if "overlaps" in why else name)
    write_weights(model, {key: value for key, value in header.items() if key != name}, data)
    expect_refused(model, "a hole lies before it")
    text = json.dumps(header).encode()
    for bad, why in [(b"[]", "its header is not an object"), (b"{", "expected"), (b"\xff\xfe", "decode"),
                     (text[:-1] + b', "' + name.encode() + b'": {}}', "duplicate object key"),
                     (json.dumps({"w": 5}).encode(), "its dtype is unknown")]:
        write_weights(model, bad, data)
        expect_refused(model, "model.safetensors", why)


def test_missing_and_misshapen(folder):
    model = make(folder, "--shards", "2")
    index = model / "model.safetensors.index.json"
    whole = index.read_text(encoding="utf-8")
    for change, why in [(lambda v: v["weight_map"].update(more="model-00001-of-00002.safetensors"), "no shard holds it"),
                        (lambda v: v["weight_map"].update(more="../x"), "not a plain file name"),
                        (lambda v: v["weight_map"].update(more=5), "not a plain file name"),
                        (lambda v: v["weight_map"].update(more="absent.safetensors"), "absent.safetensors"),
                        (lambda v: {}, "it has no \"weight_map\""), (lambda v: {"weight_map": {}}, "is missing")]:
        index.write_text(whole, encoding="utf-8")
        change_json(index, change)
        expect_refused(model, why)
    index.unlink()
    make(folder)
    change_json(model / "config.json", lambda v: v.update(hidden_size=16))
    expect_refused(model, "has another shape than config.json says")
    make(folder)
    change_json(model / "config.json", lambda v: v.update(num_hidden_layers=2))
    expect_refused(model, "tensor encoder.layer.1.", "is missing (is this a BERT model?)")


# --- configurations ---


def test_what_is_not_computed(folder):
    model = make(folder, "--dense", "8")
    (model / "3_Normalize" / "config.json").write_text("{}", encoding="utf-8")
    for file, changes, wanted in [
            ("config.json", {"hidden_act": "swish"}, "hidden_act swish: not supported yet"),
            ("config.json", {"hidden_act": "gelu_new"}, "hidden_act gelu_new: not supported yet"),
            ("config.json", {"position_embedding_type": "relative_key"}, "position_embedding_type relative_key: not supported yet"),
            ("config.json", {"model_type": "roberta"}, "model_type roberta: not supported yet"),
            ("config.json", {"is_decoder": True}, "is_decoder true: not supported yet"),
            ("config.json", {"add_cross_attention": True}, "add_cross_attention true: not supported yet"),
            ("config.json", {"num_attention_heads": 3}, "hidden_size 8 is not a multiple of num_attention_heads 3"),
            ("config.json", {"hidden_size": None}, "hidden_size"), ("config.json", {"vocab_size": -1}, "vocab_size"),
            ("config.json", {"num_hidden_layers": 10**9}, "num_hidden_layers"),
            ("config.json", {"layer_norm_eps": "small"}, "layer_norm_eps"),
            ("config.json", {"quantization_config": {"quant_method": "gptq"}}, "quantization_config"),
            ("sentence_bert_config.json", {"max_seq_length": 1}, "leave no room for the special ones"),
            ("sentence_bert_config.json", {"max_seq_length": "long"}, "max_seq_length"),
            ("sentence_bert_config.json", {"do_lower_case": True}, "do_lower_case true: not supported yet"),
            ("sentence_bert_config.json", {"transformer_task": "fill-mask"}, "transformer_task fill-mask: not supported yet"),
            ("sentence_bert_config.json", {"module_output_name": "scores"}, "module_output_name scores: not supported yet"),
            ("sentence_bert_config.json", {"modality_config": {"text": {"method": "forward", "method_output_name": "pooler_output"}}},
             "method_output_name pooler_output: not supported yet"),
            ("sentence_bert_config.json", {"modality_config": {"text": {"method": "get_text"}}}, "method get_text: not supported yet"),
            ("sentence_bert_config.json", {"processing_kwargs": {"text": {"max_length": 7}}}, "processing_kwargs text: not supported yet"),
            ("sentence_bert_config.json", {"tokenizer_args": {"trust_remote_code": True, "model_max_length": 7}},
             "tokenizer_args model_max_length: not supported yet"),
            ("sentence_bert_config.json", {"config_kwargs": {"num_hidden_layers": 1}}, "config_kwargs num_hidden_layers: not supported yet"),
            ("tokenizer_config.json", {"do_lower_case": "no"}, "\"do_lower_case\" is not true or false"),
            ("tokenizer_config.json", {"strip_accents": 1}, "\"strip_accents\" is not true or false"),
            ("tokenizer_config.json", {"model_max_length": "long"}, "\"model_max_length\" is not a number"),
            ("1_Pooling/config.json", {"pooling_mode_attention": True}, "pooling_mode_attention true: not supported yet"),
            ("1_Pooling/config.json", {"pooling_mode": "attention"}, "pooling_mode attention: not supported yet"),
            ("1_Pooling/config.json", {"pooling_mode": []}, "\"pooling_mode\" is empty"),
            ("1_Pooling/config.json", {"include_prompt": False}, "include_prompt false: not supported yet"),
            ("2_Dense/config.json", {"in_features": 9}, "in_features is 9, but 8 come in"),
            ("2_Dense/config.json", {"use_residual": True}, "use_residual true: not supported yet"),
            ("2_Dense/config.json", {"module_input_name": "token_embeddings"}, "module_input_name token_embeddings: not supported yet"),
            ("2_Dense/config.json", {"module_output_name": "other"}, "module_output_name other: not supported yet"),
            ("3_Normalize/config.json", {"module_input_name": "token_embeddings"}, "module_input_name token_embeddings: not supported yet"),
            ("config_sentence_transformers.json", {"model_type": "SparseEncoder"}, "model_type SparseEncoder: not supported yet"),
            ("config_sentence_transformers.json", {"prompts": {"query": 5}}, "prompt \"query\" is not a string"),
            ("2_Dense/config.json", {"activation_function": "torch.nn.SiLU"}, "activation_function torch.nn.SiLU: not supported yet"),
            ("config_sentence_transformers.json", {"default_prompt_name": "nope"}, "default_prompt_name \"nope\" is not among the prompts"),
            ("config_sentence_transformers.json", {"prompts": ["query"]}, "\"prompts\" is not an object"),
            ("config_sentence_transformers.json", {"similarity_fn_name": "cosine", "truncate_dim": 0}, "truncate_dim")]:
        path = model / file
        before = path.read_text(encoding="utf-8")
        change_json(path, lambda v, changes=changes: v.update(changes))
        expect_refused(model, str(path) if "special ones" not in wanted and "come in" not in wanted else str(model), wanted)
        path.write_text(before, encoding="utf-8")
    assert run("embed", "--model", str(model)).returncode == 0, "the unchanged model"


def test_modules(folder):
    model = make(folder)
    path = model / "modules.json"
    whole = path.read_text(encoding="utf-8")
    for change, wanted in [(lambda v: v[1].update(type="sentence_transformers.models.LSTM"), "sentence_transformers.models.LSTM: not supported yet"),
                           (lambda v: v[1].update(type="mine.Pooling"), "module mine.Pooling: not supported yet"),
                           (lambda v: v[0].update(type="sentence_transformers.models.CLIPModel"), "CLIPModel: not supported yet"),
                           (lambda v: v[1].update(path="../elsewhere"), "path \"../elsewhere\" leads out of the model"),
                           (lambda v: v[1].update(path="/etc"), "leads out of the model"),
                           (lambda v: v[:1], "not a list of a Transformer, a Pooling and what follows"),
                           (lambda v: [v[0], v[2], v[1]], "module order"), (lambda v: {"a": 1}, "not a list"),
                           (lambda v: v[1].update(path="9_Absent"), "9_Absent")]:
        path.write_text(whole, encoding="utf-8")
        change_json(path, change)
        expect_refused(model, wanted)
    path.write_text("{", encoding="utf-8")
    expect_refused(model, str(path))


def test_tokenizers(folder):
    model = make(folder)
    path = model / "tokenizer.json"
    whole = path.read_text(encoding="utf-8")
    change_json(path, lambda v: v.update(model={"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0]]}))
    expect_refused(model, "tokenizer Unigram: not supported yet")
    done = run("tokenize", "--model", str(model))
    assert done.returncode == 1 and b"tokenizer Unigram: not supported yet" in done.stderr, done.stderr
    path.write_text(whole, encoding="utf-8")
    change_json(path, lambda v: v["model"]["vocab"].update(one_more=len(v["model"]["vocab"])))
    expect_refused(model, "its tokenizer knows")
    path.unlink()
    expect_refused(model, "tokenizer.json")


# --- where models are, and which is which ---


def named(*words, **env) -> str:
    """The model's name, as an ingest into a new table records it, or what went wrong."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "t.db")
        db = sqlite3.connect(path)
        db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, text TEXT)")
        db.execute("INSERT INTO t VALUES (1, 'a word')")
        db.commit()
        done = run("ingest", "t", "--db", path, *words, **env)
        if done.returncode:
            return done.stderr.decode()
        return "|".join(db.execute("SELECT model, revision FROM vecmill_columns").fetchone())


def test_look_up(folder):
    home, hub = Path(folder) / "home", Path(folder) / "hub"
    env = {"VECMILL_HOME": str(home), "HF_HUB_CACHE": str(hub), "EMBED_MODEL": ""}
    told = named(**env)
    assert "model intfloat/multilingual-e5-small: not on this machine (no model is here; put others into" in told, told
    mine = make(home / "models" / "org" / "mine")
    assert named(**env).startswith("org/mine|sha256:"), "the only model"
    done = run("tokenize", **env)
    assert (done.returncode, done.stderr) == (0, b"vecmill: model org/mine: taken, since it is the only one on this machine\n"), done
    revision = "0123456789abcdef0123456789abcdef01234567"
    cached = hub / "models--they--theirs"
    make(cached / "snapshots" / revision, "--seed", "2")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(revision, encoding="utf-8")
    told = named(**env)
    assert "not on this machine (--model takes: org/mine, they/theirs; put others into" in told, told
    assert named("--model", "they/theirs", **env) == f"they/theirs|{revision}"
    assert named("--model", "theirs", **env) == f"they/theirs|{revision}"
    assert named(**{**env, "EMBED_MODEL": "mine"}).startswith("org/mine|")
    assert named("--model", str(mine), **env).startswith(f"{mine.resolve()}|sha256:")
    old = make(home / "models" / "org" / "old", "--transformer-folder", "0_Transformer")
    assert named("--model", "old", **env).startswith("org/old|sha256:"), "config.json in 0_Transformer alone"
    shutil.rmtree(old)
    told = named("--model", "nobody/nothing", **env)
    assert "model nobody/nothing: not on this machine (--model takes: org/mine, they/theirs" in told, told
    make(home / "models" / "other" / "mine", "--seed", "3")
    told = named("--model", "mine", **env)
    assert "more than one has that name (say org/mine or other/mine)" in told, told
    make(home / "models" / "intfloat" / "multilingual-e5-small", "--seed", "4")
    assert named(**env).startswith("intfloat/multilingual-e5-small|"), "the default"


def test_no_home(_folder):
    """Without HOME, the home that the system knows; an empty variable is none."""
    env = {"HOME": "", "VECMILL_HOME": "", "XDG_CACHE_HOME": ""}
    done = run("embed", "--model", "nobody/nothing", **env)
    home = pwd.getpwuid(os.geteuid()).pw_dir
    assert done.returncode == 1 and f"put others into {home}/.cache/vecmill/models/ORG/NAME".encode() in done.stderr, done.stderr


def test_identity(folder):
    home = Path(folder) / "home"
    env = {"VECMILL_HOME": str(home), "HF_HUB_CACHE": folder, "EMBED_MODEL": ""}
    model = make(Path(folder) / "model", "--dense", "8")
    first = named("--model", str(model), **env)
    (memory,) = (home / "identities").iterdir()
    remembered = memory.read_bytes()
    assert remembered.endswith(first.rpartition(":")[2].encode()), "the identity is remembered"
    # what is remembered is believed while the files look the same, and only then
    memory.write_bytes(remembered[:-64] + b"e" * 64)
    assert named("--model", str(model), **env).endswith("e" * 64)
    os.utime(model / "tokenizer.json", (1, 1))
    assert named("--model", str(model), **env) == first, "hashed again, the same bytes"
    memory.write_bytes(b"damaged")
    assert named("--model", str(model), **env) == first, "a damaged memory is no memory"
    copy = shutil.copytree(model, Path(folder) / "copy")
    assert named("--model", str(copy), **env).rpartition(":")[2] == first.rpartition(":")[2], "a copy is the same model"
    for file in ("2_Dense/model.safetensors", "model.safetensors", "1_Pooling/config.json", "tokenizer.json"):
        path, before = model / file, (model / file).read_bytes()
        path.write_bytes(before[:-4] + b"\0\0\0\0" if file.endswith("tensors") else before + b"\n")
        assert named("--model", str(model), **env) != first, file
        path.write_bytes(before)
    assert named("--model", str(model), **env) == first
    shards = make(Path(folder) / "shards", "--shards", "2")
    first = named("--model", str(shards), **env)
    part = shards / "model-00002-of-00002.safetensors"
    part.write_bytes(part.read_bytes()[:-4] + b"\0\0\0\0")
    assert named("--model", str(shards), **env) != first, "a shard"
    dense = model / "2_Dense"
    (dense / "model.safetensors").rename(dense / "part.safetensors")
    where = {"linear.weight": "part.safetensors", "linear.bias": "part.safetensors"}
    (dense / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    first = named("--model", str(model), **env)
    (dense / "part.safetensors").write_bytes((dense / "part.safetensors").read_bytes()[:-4] + b"\0\0\0\0")
    assert named("--model", str(model), **env) != first, "a shard of a Dense module"


if __name__ == "__main__":
    VECMILL = given_vecmill()
    sys.exit(run_cases(globals()))
