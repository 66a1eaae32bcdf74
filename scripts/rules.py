"""How a checker of the source is run: over a tree, or over made ones that break its rule (--prove)."""
import sys
import tempfile
from pathlib import Path
from typing import Callable

ROOT = Path(__file__).resolve().parent.parent
Check = Callable[[Path], tuple[list, int]]  # of a tree: the problems in it, and how many things were looked at


def prove(check: Check, breaches: list) -> None:
    """Each breach: file -> text, and how many problems that tree must show."""
    for files, wanted in breaches:
        with tempfile.TemporaryDirectory() as folder:
            for name, text in files.items():
                path = Path(folder) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
            problems, _ = check(Path(folder))
            if len(problems) != wanted:
                sys.exit(f"{Path(sys.argv[0]).name}: {files} shows {problems}, wanted {wanted}")
    print(f"{len(breaches)} trees judged as they must be")


def run_check(check: Check, breaches: list, kept: str) -> int:
    """The exit status; `kept` says after a number what is so where nothing breaks the rule."""
    if sys.argv[1:] == ["--prove"]:
        prove(check, breaches)
        return 0
    problems, n = check(Path(sys.argv[1]) if sys.argv[1:] else ROOT)
    print("\n".join(problems) if problems else f"{n} {kept}")
    return 1 if problems or n == 0 else 0
