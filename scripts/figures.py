"""Figures that are kept: docs/measured/PROCESSOR.json, results by name, each with the commit it was taken at."""
import datetime
import json
import os
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "measured"
KEY = ("name", "workers", "kernels", "peer")  # what tells one result from another

# AMD's Processor Programming References: family 25 is Zen 3 and Zen 4, family 26 Zen 5
ZEN4_MODELS = [range(0x10, 0x20), range(0x60, 0xB0)]


def processor(cpuinfo: str = "") -> dict:
    """What /proc/cpuinfo says of the first processor, and the name of the file for its figures."""
    text = cpuinfo or Path("/proc/cpuinfo").read_text(encoding="utf-8")
    said = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        said.setdefault(key.strip(), value.strip())
    vendor, family, model = said.get("vendor_id", "unknown"), said.get("cpu family", "0"), said.get("model", "0")
    name = re.sub(r"[^A-Za-z0-9]+", "-", f"{vendor}-{family}-{model}").lower()
    if vendor == "AuthenticAMD" and family == "25":
        name = "zen4" if any(int(model) in models for models in ZEN4_MODELS) else "zen3"
    elif vendor == "AuthenticAMD" and family == "26":
        name = "zen5"
    wanted = ("avx2", "fma", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16")
    return {"name": name, "brand": said.get("model name", "unknown"), "vendor": vendor, "family": family, "model": model,
            "n_cpus": len(os.sched_getaffinity(0)),
            "features": [flag for flag in wanted if flag in said.get("flags", "").split()]}


def commit() -> str:
    """The checkout's commit, marked if its tracked files differ from it; "unknown" where there is no git."""
    def git(*words):
        return subprocess.run(["git", *words], cwd=ROOT, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              text=True).stdout
    try:
        changed = [line for line in git("status", "--porcelain", "--untracked-files=no").splitlines()
                   if "docs/measured/" not in line]
        return git("rev-parse", "--short=12", "HEAD").strip() + ("-changed" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def merge(old: list, new: list) -> list:
    """New results replace those of the same key; the rest stays, in order."""
    def key(result):
        return tuple(str(result.get(field)) for field in KEY)
    fresh = {key(result): result for result in new}
    merged = [fresh.pop(key(result), result) for result in old]
    return merged + list(fresh.values())


def stamp() -> dict:
    """When and from what. Taken before a long run: what was built then is what is measured."""
    return {"commit": commit(), "date": datetime.date.today().isoformat()}


def save(results: list, path: Path | None = None, taken: dict | None = None) -> Path:
    """Adds results, stamped with commit and date, to the file of this processor."""
    here = processor()
    path = path or FOLDER / f"{here['name']}.json"
    old = json.loads(path.read_text(encoding="utf-8"))["results"] if path.exists() else []
    taken = taken or stamp()
    merged = merge(old, [{**result, **taken} for result in results])
    path.parent.mkdir(exist_ok=True)
    lines = ",\n".join("  " + json.dumps(result, ensure_ascii=False) for result in merged)
    head = json.dumps(here, ensure_ascii=False)
    path.write_text(f'{{"processor": {head},\n "results": [\n{lines}\n]}}\n', encoding="utf-8")
    return path
