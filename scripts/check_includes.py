#!/usr/bin/python3
"""Checks the include rule: which room may know which.

Reads every #include of src/, tools/ and include/. A room may include itself, the
rooms that RULE names for it, what those may include, and the public headers.
tools/ sees include/ alone; the public headers see only each other; src/ is never
reached by a relative path. See "The rooms" in ARCHITECTURE.md.

  check_includes.py [FOLDER]     the tree to check, default this one
  check_includes.py --prove      makes trees that break the rule and wants each caught
"""
import re
import sys
from pathlib import Path

from rules import run_check

# room -> the rooms it may include directly, from the floor up
RULE = {
    "base": [],
    "cpu": ["base"],
    "observe": ["base"],
    "config": ["base"],
    "kernel": ["cpu"],
    "text": ["base"],
    "model": ["text", "kernel"],
    "provider": ["model", "observe", "config"],
    "embed": ["provider", "observe", "config"],
    "store": ["base", "observe", "config"],
    "ingest": ["store", "embed", "text", "observe", "config"],
    "api": ["ingest", "config"],
}
INCLUDE = re.compile(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]', re.MULTILINE)


def allowed(room: str) -> set:
    rooms, waiting = {room}, [room]
    while waiting:
        for below in RULE[waiting.pop()]:
            if below not in rooms:
                rooms.add(below)
                waiting.append(below)
    return rooms


def refuse(path: Path, quote: str, name: str, root: Path) -> str | None:
    """Why path may not include name; None when it may."""
    top, *rest = path.relative_to(root).parts
    target = name.split("/")[0]
    if ".." in Path(name).parts:
        return "relative path"
    if target == "vecmill":
        return None if (root / "include" / name).exists() else "no such public header"
    if top == "include":
        return None if quote == "<" else "public headers see public headers only"
    if top == "tools":
        if quote == "<" and target not in RULE:
            return None
        here = (path.parent / name).exists()
        return None if quote == '"' and here else "tools/ sees include/ only"
    room = rest[0]
    if room not in RULE:
        return f"no rule for the room {room}"
    if quote == "<":
        return f"{target} in angle brackets" if target in RULE else None
    if "/" not in name or target not in RULE:
        return None if (path.parent / name).exists() else "not written as ROOM/HEADER"
    return None if target in allowed(room) else f"{room} may not know {target}"


def check(root: Path) -> tuple[list, int]:
    problems, n = [], 0
    for top in ("src", "tools", "include"):
        for path in sorted((root / top).rglob("*.[ch]")):
            text = path.read_text(encoding="utf-8")
            for found in INCLUDE.finditer(text):
                n += 1
                why = refuse(path, found[1], found[2], root)
                if why:
                    line = text.count("\n", 0, found.start(2)) + 1
                    problems.append(f"{path.relative_to(root)}:{line}: {found[2]}: {why}")
    return problems, n


# file -> text, and how many problems each tree must show
BREACHES = [
    ({"src/base/a.c": '#include "cpu/cpu.h"\n'}, 1),
    ({"src/kernel/nn/a.c": '#include "model/model.h"\n'}, 1),
    ({"src/kernel/nn/a.c": '#include "cpu/cpu.h"\n#include "base/err.h"\n'}, 0),
    ({"src/store/a.c": '#include "embed/embed.h"\n'}, 1),
    ({"src/store/a.c": '#include "config/config.h"\n', "src/config/a.c": '#include "base/err.h"\n'}, 0),
    ({"src/config/a.c": '#include "store/store.h"\n', "src/model/a.c": '#include "config/config.h"\n'}, 2),
    ({"src/embed/a.h": '#  include "store/store.h"\n'}, 1),
    ({"src/ingest/a.c": '#include "store/store.h"\n#include "embed/embed.h"\n#include <stdio.h>\n'}, 0),
    ({"tools/vecmill/a.c": '#include "base/err.h"\n'}, 1),
    ({"tools/vecmill/a.c": '#include <base/err.h>\n'}, 1),
    ({"tools/vecmill/a.c": '#include "../../src/base/err.h"\n'}, 1),
    ({"tools/vecmill/a.c": '#include "a.h"\n#include <vecmill/b.h>\n', "tools/vecmill/a.h": "",
      "include/vecmill/b.h": ""}, 0),
    ({"tools/vecmill/a.c": '#include <vecmill/gone.h>\n'}, 1),
    ({"include/vecmill/b.h": '#include "base/err.h"\n'}, 1),
    ({"src/attic/a.c": '#include "base/err.h"\n'}, 1),
]


if __name__ == "__main__":
    sys.exit(run_check(check, BREACHES, "includes keep the rule"))
