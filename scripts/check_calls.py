#!/usr/bin/python3
"""Checks that the library asks no locale: a program that uses it may have set any.

Whether I is the capital of i, whether 0xE9 is a letter and what parts 1 from 5 in 1.5 depends on the locale; names, words
and numbers do not. base/str.h has what is needed of letters; numbers travel as integers, or by jansson, which knows locales.

  check_calls.py [FOLDER]     the tree to check, default this one
  check_calls.py --prove      makes trees that break the rule and wants each caught
"""
import re
import sys
from pathlib import Path

from rules import run_check

CALLS = ("atof strtod strtof strtold strcasecmp strncasecmp strcasestr strcoll strxfrm setlocale localeconv tolower toupper "
         "isalpha isalnum isblank iscntrl isgraph islower isprint ispunct isspace isupper mbstowcs mbtowc wcstombs alphasort").split()
CALL = re.compile(rf"\b({'|'.join(CALLS)})\s*\(")
# Where one is meant: path -> calls
MEANT = {
    "src/store/sqlite_key.c": {"strtod"},  # reads back what printf has just written, in the same locale
    "tools/vecmill/progress.c": {"setlocale"},  # LC_CTYPE alone: whether the terminal shows UTF-8
}


def check(root: Path) -> tuple[list, int]:
    problems, n = [], 0
    for top in ("src", "tools"):
        for path in sorted((root / top).rglob("*.[ch]")):
            n += 1
            name, text = str(path.relative_to(root)), path.read_text(encoding="utf-8")
            text = re.sub(r'/\*.*?\*/|"(?:[^"\\\n]|\\.)*"', lambda found: re.sub(r"[^\n]", " ", found[0]), text, flags=re.DOTALL)
            for found in CALL.finditer(text):
                if found[1] not in MEANT.get(name, ()):
                    line = text.count("\n", 0, found.start()) + 1
                    problems.append(f"{name}:{line}: {found[1]} follows the locale of the program")
    return problems, n


# file -> text, and how many problems each tree must show
BREACHES = [
    ({"src/a.c": "if (strcasecmp(a, b) == 0) return tolower (*a);\n"}, 2),
    ({"src/a.c": '/* strtod( */ s = "strftime(isalpha(\\"x)" ;\nint my_strtod(int), strtodx(void);\n'}, 0),
    ({"src/store/sqlite_key.c": "strtod(a, b); atof(c);\n", "tools/vecmill/a.h": "x = isspace(c);\n"}, 2),
]


if __name__ == "__main__":
    sys.exit(run_check(check, BREACHES, "files ask no locale"))
