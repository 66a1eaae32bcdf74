#!/usr/bin/env python3
"""vecmill beside ONNX Runtime and sentence-transformers: the same texts, in turns.

usage: bench_peers.py --vecmill build/vecmill --model MODEL_DIR --texts FILE.jsonl --name NAME --threads N
                      --work FOLDER [--count N] [--turns N]

Every engine gets texts and gives normalised vectors, tokenization included, on the same N processors. The
peers are loaded before the clock starts and each sorts by length and uses the batch size that was fastest
for it on a sample; vecmill is timed as a whole cold process, files read and written. One line a turn on
stderr, one JSON object a peer on stdout: "value" is the median over the turns of its time over ours.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings

SAME_COSINE = 0.99999
ROOM = 40  # batches of the sample that each batch size is tried on, at most


def arguments():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("vecmill", "model", "texts", "name", "work"):
        args.add_argument("--" + name, required=True)
    args.add_argument("--threads", type=int, required=True)
    args.add_argument("--count", type=int, default=400)
    args.add_argument("--turns", type=int, default=7)
    return args.parse_args()


def spread(path, count):
    with open(path, encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in file]
    count = min(count, len(texts))
    return [texts[i * len(texts) // count] for i in range(count)]


class Vecmill:
    name = "vecmill"

    def __init__(self, args, texts):
        self.folder = tempfile.TemporaryDirectory()
        self.out = os.path.join(self.folder.name, "vectors.npy")
        path = os.path.join(self.folder.name, "texts.jsonl")
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(json.dumps({"text": text}) + "\n" for text in texts)
        self.command = [args.vecmill, "embed", path, "--model", args.model, "--input", "jsonl", "--format", "npy",
                        "-o", self.out, "--workers", str(args.threads)]

    def embed(self, _texts):
        subprocess.run(self.command, check=True, stderr=subprocess.DEVNULL)
        return numpy.load(self.out)


class SentenceTransformers:
    name = "sentence-transformers"
    batches = (4, 8, 16, 32, 64)

    def __init__(self, args):
        import sentence_transformers
        import torch
        import transformers
        transformers.logging.disable_progress_bar()
        torch.set_num_threads(args.threads)
        self.version = sentence_transformers.__version__ + ", torch " + torch.__version__
        self.model = sentence_transformers.SentenceTransformer(args.model, device="cpu")
        self.batch = 32

    def embed(self, texts):
        return self.model.encode(texts, batch_size=self.batch, show_progress_bar=False)


def export(args, path):
    """The encoder as a plain ONNX graph: ids and masks in, token vectors out."""
    import torch
    import transformers

    class Encoder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.bert = transformers.AutoModel.from_pretrained(args.model, attn_implementation="eager")

        def forward(self, input_ids, attention_mask, token_type_ids):
            return self.bert(input_ids=input_ids, attention_mask=attention_mask,
                             token_type_ids=token_type_ids).last_hidden_state

    warnings.simplefilter("ignore")  # about the exporter's age and the graph's constants: the cosines tell
    names = ["input_ids", "attention_mask", "token_type_ids"]
    example = tuple(torch.ones((2, 9), dtype=torch.int64) for _ in names)
    torch.onnx.export(Encoder().eval(), example, path, input_names=names, output_names=["hidden"], opset_version=17,
                      dynamo=False, dynamic_axes={name: {0: "texts", 1: "tokens"} for name in [*names, "hidden"]})


def graphs(args):
    """The plain graph and the one that ONNX Runtime's own transformer optimiser makes of it, kept for the next time."""
    from onnxruntime.transformers import optimizer
    os.makedirs(args.work, exist_ok=True)
    plain, optimised = (os.path.join(args.work, f"{kind}.onnx") for kind in ("plain", "optimised"))
    if not os.path.exists(plain):
        export(args, plain + ".new")
        os.rename(plain + ".new", plain)
    if not os.path.exists(optimised):
        with open(os.path.join(args.model, "config.json"), encoding="utf-8") as file:
            config = json.load(file)
        model = optimizer.optimize_model(plain, model_type="bert", num_heads=config["num_attention_heads"],
                                         hidden_size=config["hidden_size"], opt_level=0)
        print("fused:", {name: n for name, n in model.get_fused_operator_statistics().items() if n}, file=sys.stderr)
        model.save_model_to_file(optimised + ".new")
        os.rename(optimised + ".new", optimised)
    return {"plain graph": plain, "transformer-optimised graph": optimised}


class OnnxRuntime:
    batches = (1, 2, 4, 8, 16, 32)

    def __init__(self, args, kind, path, max_tokens):
        import onnxruntime
        import tokenizers
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = args.threads
        options.inter_op_num_threads = 1
        self.name = f"onnxruntime, {kind}"
        self.version = onnxruntime.__version__
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.tokenizer = tokenizers.Tokenizer.from_file(os.path.join(args.model, "tokenizer.json"))
        self.tokenizer.enable_truncation(max_tokens)
        self.tokenizer.no_padding()
        self.batch = 8

    def embed(self, texts):
        ids = [encoding.ids for encoding in self.tokenizer.encode_batch_fast(texts)]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        vectors = None
        for start in range(0, len(order), self.batch):
            part = order[start:start + self.batch]
            width = len(ids[part[-1]])
            tokens = numpy.zeros((len(part), width), dtype=numpy.int64)
            mask = numpy.zeros_like(tokens)
            for row, i in enumerate(part):
                tokens[row, :len(ids[i])] = ids[i]
                mask[row, :len(ids[i])] = 1
            hidden = self.session.run(None, {"input_ids": tokens, "attention_mask": mask,
                                             "token_type_ids": numpy.zeros_like(tokens)})[0]
            weights = mask.astype(numpy.float32)[:, :, None]
            mean = (hidden * weights).sum(axis=1) / weights.sum(axis=1)
            mean /= numpy.linalg.norm(mean, axis=1, keepdims=True)
            if vectors is None:
                vectors = numpy.empty((len(texts), mean.shape[1]), dtype=numpy.float32)
            vectors[part] = mean
        return vectors


def timed(engine, texts):
    start = time.perf_counter()
    vectors = engine.embed(texts)
    return time.perf_counter() - start, vectors


def tune(engine, texts):
    """The batch size that is fastest on a sample, best of two."""
    sample = texts[::max(1, len(texts) // (ROOM * 2))]
    engine.embed(sample[:4])
    times = {}
    for batch in engine.batches:
        engine.batch = batch
        times[batch] = min(timed(engine, sample)[0] for _ in range(2))
    engine.batch = min(times, key=times.get)
    print(f"{engine.name}: batch size {engine.batch} of {list(times)}", file=sys.stderr)


def lowest_cosine(a, b):
    a, b = a.astype(numpy.float64), b.astype(numpy.float64)
    return float(((a * b).sum(axis=1) / (numpy.linalg.norm(a, axis=1) * numpy.linalg.norm(b, axis=1))).min())


def main():
    args = arguments()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:args.threads])
    texts = spread(args.texts, args.count)
    reference = SentenceTransformers(args)
    peers = [OnnxRuntime(args, kind, path, reference.model.max_seq_length) for kind, path in graphs(args).items()]
    peers.append(reference)
    for peer in peers:
        tune(peer, texts)
    vecmill = Vecmill(args, texts)
    ours, mine = [], timed(vecmill, texts)[1]
    times, cosines = {peer.name: [] for peer in peers}, {}
    for turn in range(args.turns):
        ours.append(timed(vecmill, texts)[0])
        for peer in peers:
            seconds, vectors = timed(peer, texts)
            times[peer.name].append(seconds / ours[-1])
            cosines[peer.name] = lowest_cosine(mine, vectors)
        said = ", ".join(f"{name} {ratios[-1]:.2f}" for name, ratios in times.items())
        print(f"{args.name}, {args.threads} threads, turn {turn + 1}: times of ours: {said}", file=sys.stderr)
    if min(cosines.values()) < SAME_COSINE:
        sys.exit(f"vecmill: cannot compare: the vectors are not the same: lowest cosines {cosines}")
    for peer in peers:
        ratios = times[peer.name]
        print(json.dumps({"name": args.name, "workers": args.threads, "peer": peer.name, "peer_version": peer.version,
                          "value": round(statistics.median(ratios), 3), "unit": "times as fast as the peer",
                          "low": round(min(ratios), 3), "high": round(max(ratios), 3), "turns": len(ratios),
                          "texts": len(texts), "peer_batch": peer.batch,
                          "texts_per_second": round(len(texts) / statistics.median(ours), 1),
                          "lowest_cosine": round(cosines[peer.name], 7)}), flush=True)


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    import numpy
    main()
