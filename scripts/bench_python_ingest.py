"""The way of a Python script: encode a batch, write it by execute_batch, one UPDATE a row, commit; one connection.

usage: bench_python_ingest.py DB TABLE BATCH [MODEL_DIR THREADS]     without a model: ready vectors

The model is loaded and the connection open before the clock starts. Prints one JSON object, as bench-ingest does.
"""
import json
import sys
import time


def vectors_of(model):
    """What makes the vectors of a batch, as strings that pgvector reads."""
    if not model:
        ready = "[" + ",".join(f"{0.001 * (i % 89) - 0.04:.6f}" for i in range(384)) + "]"
        return lambda texts: [ready] * len(texts)
    return lambda texts: [str(vector.tolist()) for vector in
                          model.encode(texts, batch_size=32, normalize_embeddings=True, show_progress_bar=False)]


def main():
    database, table, batch = sys.argv[1], sys.argv[2], int(sys.argv[3])
    import psycopg2
    from psycopg2.extras import execute_batch
    model = None
    if len(sys.argv) > 4:
        import sentence_transformers
        import torch
        torch.set_num_threads(int(sys.argv[5]))
        model = sentence_transformers.SentenceTransformer(sys.argv[4], device="cpu")
        model.encode(["aloha"])
    make, n = vectors_of(model), 0
    connection = psycopg2.connect(database)
    cursor = connection.cursor()
    start, last = time.perf_counter(), 0
    while True:  # from the last key on: kinder than a script that walks over what it has done again and again
        cursor.execute(f"SELECT id, text FROM {table} WHERE embedding IS NULL AND id > %s ORDER BY id LIMIT %s", (last, batch))
        rows = cursor.fetchall()
        if not rows:
            break
        vectors = make([text for _, text in rows])
        execute_batch(cursor, f"UPDATE {table} SET embedding = %s WHERE id = %s",
                      [(vector, key) for vector, (key, _) in zip(vectors, rows)])
        connection.commit()
        n, last = n + len(rows), rows[-1][0]
    print(json.dumps({"way": "python", "rows": n, "seconds": round(time.perf_counter() - start, 6)}))


if __name__ == "__main__":
    main()
