"""The corpus tables as people have them, and made-up rows for them: the same seed gives the same rows.

    corpus.create(server)                                  # all five tables
    rows = corpus.fill(server, "sentences", 10000)         # [Row(id, source, text, english)]
    to_embed = [row for row in rows if not row.blank]
"""
import random
import unicodedata
from typing import NamedTuple

OKINA = "\N{MODIFIER LETTER TURNED COMMA}"
OTHER_OKINAS = ("\N{LEFT SINGLE QUOTATION MARK}", "\N{RIGHT SINGLE QUOTATION MARK}", "`", "'")
BLANKS = (None, "", " ", "\t \n", "\N{NO-BREAK SPACE}", "\N{IDEOGRAPHIC SPACE}\n")

METRICS = "hawaiian_word_ratio real, word_count integer, length integer, entity_count integer, frequency integer, updated_at timestamptz"
TABLES = {
    "sentences": """sentenceid bigint PRIMARY KEY, sourceid bigint, hawaiiantext text, englishtext text,
  created timestamptz, embedding vector(384)""",
    "documents": "doc_id bigserial PRIMARY KEY, sourceid bigint, text text, text_vector vector(384)",
    "contents": "sourceid bigint PRIMARY KEY, text text, embedding vector(384)",
    "sentence_metrics": f"sentenceid bigint PRIMARY KEY, {METRICS}",
    "document_metrics": f"sourceid bigint PRIMARY KEY, {METRICS}",
}
# the columns that fill() writes
FILLED = {
    "sentences": ("sentenceid, sourceid, hawaiiantext, englishtext, created",
                  lambda row: (row.id, row.source, row.text, row.english, "2024-05-01 12:00:00+00")),
    "documents": ("doc_id, sourceid, text", lambda row: (row.id, row.source, row.text)),
    "contents": ("sourceid, text", lambda row: (row.id, row.text)),
}

PARTICLES = ("ka", "ke", "nā", "i", "o", "ʻo", "a", "ua", "e", "ma", "no", "na", "me", "he", "mai", "aku", "nei", "ana",
             "loa", "wale", "pū", "ʻia", "ʻaʻole", "inā")
WORDS = ("aloha", "wahine", "kāne", "keiki", "kūpuna", "ʻāina", "wai", "kai", "moku", "pali", "lani", "makani", "ua",
         "hale", "waʻa", "iʻa", "kalo", "poi", "mele", "hula", "moʻolelo", "ʻōlelo", "pule", "akua", "aliʻi", "mākua",
         "hānau", "noho", "hele", "holo", "hoʻi", "kuʻu", "maikaʻi", "nui", "liʻiliʻi", "uliuli", "keʻokeʻo", "lā",
         "pō", "mahina", "hōkū", "pua", "lei", "ʻōhiʻa", "koa", "honu", "manu", "kahakai", "mokupuni", "kaulana")
NAMES = ("Kamehameha", "Liliʻuokalani", "Kaʻahumanu", "Pele", "Māui", "Kauaʻi", "Oʻahu", "Molokaʻi", "Hilo", "Honolulu",
         "Kalākaua", "Hiʻiaka", "Lahaina", "Mauna Kea", "Keōpūolani", "Davida Malo")
ENGLISH = ("the", "chief", "went", "to", "sea", "and", "saw", "a", "great", "canoe", "under", "bright", "stars", "people",
           "of", "island", "sang", "an", "old", "song", "about", "rain", "wind", "mountain", "children", "listened",
           "while", "their", "grandmother", "told", "story", "don't", "it's", "water", "taro", "fields")
CONSONANTS, VOWELS = "hklmnpw" + OKINA, "aeiouāēīōū"


class Row(NamedTuple):
    id: int
    source: int
    text: str | None
    english: str | None

    @property
    def blank(self) -> bool:
        return not (self.text or "").strip()


def coined(draw: random.Random) -> str:
    """A word by the rules of the language: syllables are open."""
    return "".join((draw.choice(CONSONANTS) if draw.random() < 0.8 else "") + draw.choice(VOWELS)
                   for _ in range(draw.randint(1, 4)))


def hawaiian_sentence(draw: random.Random) -> str:
    words = []
    for _ in range(draw.randint(3, 18)):
        kind = draw.random()
        words.append(draw.choice(PARTICLES if kind < 0.4 else WORDS) if kind < 0.8
                     else draw.choice(NAMES) if kind < 0.88 else coined(draw))
    text = " ".join(words) + draw.choice("...!?")
    text = text[0].upper() + text[1:]
    if draw.random() < 0.2:  # texts that were typed otherwise
        text = text.replace(OKINA, draw.choice(OTHER_OKINAS))
    return unicodedata.normalize("NFD", text) if draw.random() < 0.1 else text


def english_sentence(draw: random.Random) -> str:
    text = " ".join(draw.choice(ENGLISH) if draw.random() < 0.93 else draw.choice(NAMES)
                    for _ in range(draw.randint(4, 20)))
    return text[0].upper() + text[1:] + draw.choice("...!?")


def hawaiian_text(draw: random.Random, n_sentences: int) -> str:
    return " ".join(hawaiian_sentence(draw) for _ in range(n_sentences))


def make_rows(n: int, seed: int = 1, blanks: float = 0.02, twins: float = 0.05, first_id: int = 1,
              n_sentences: int = 1) -> list:
    """n rows with ids from first_id up; a share of them blank, a share with the very text of an earlier row."""
    draw = random.Random(f"{seed} {n_sentences}")
    rows, texts = [], []
    for i in range(n):
        kind = draw.random()
        if kind < blanks:
            text = draw.choice(BLANKS)
        elif kind < blanks + twins and texts:
            text = draw.choice(texts)
        else:
            text = hawaiian_text(draw, n_sentences if n_sentences == 1 else draw.randint(1, n_sentences))
            texts.append(text)
        english = english_sentence(draw) if draw.random() < 0.9 else None
        rows.append(Row(first_id + i, 1 + draw.randrange(50), text, english))
    return rows


def copy_field(value) -> str:
    """COPY's text format."""
    if value is None:
        return r"\N"
    return str(value).replace("\\", r"\\").replace("\t", r"\t").replace("\n", r"\n").replace("\r", r"\r")


def name_of(table: str, schema: str | None) -> str:
    return ".".join('"' + part.replace('"', '""') + '"' for part in (schema, table) if part)


def create(endpoint, tables=tuple(TABLES), schema: str | None = None, database: str | None = None) -> None:
    """Creates the tables, in a schema that is made if one is named."""
    lines = [f"CREATE SCHEMA IF NOT EXISTS {name_of(schema, None)};"] if schema else []
    lines += [f"CREATE TABLE {name_of(table, schema)} (\n  {TABLES[table]});" for table in tables]
    endpoint.psql("\n".join(lines), database=database)


def copy_in(endpoint, table: str, columns: str, lines, schema: str | None = None, database: str | None = None) -> None:
    """Rows of values, by COPY."""
    data = "".join("\t".join(map(copy_field, line)) + "\n" for line in lines)
    endpoint.psql(f"COPY {name_of(table, schema)} ({columns}) FROM STDIN;\n{data}\\.\n", database=database)


def fill(endpoint, table: str, n: int, seed: int = 1, schema: str | None = None, database: str | None = None,
         **kinds) -> list:
    """Puts make_rows() into sentences, documents or contents, and gives them back."""
    kinds.setdefault("n_sentences", 1 if table == "sentences" else 8)
    rows = make_rows(n, seed, **kinds)
    columns, values = FILLED[table]
    copy_in(endpoint, table, columns, map(values, rows), schema, database)
    return rows
