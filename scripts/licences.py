"""Writes who wrote the crates that the binary is linked with, and the licence of each, word for word.

    scripts/licences.py TARGET OUT

Goes by what Cargo.lock, the default features and TARGET resolve to. Ends with 1 when a crate's licence is unknown, is
one that obliges to more than a notice, or when its text is nowhere.
"""

import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
CARGO = os.environ.get("CARGO", "cargo")
NOTICES = ("LICENSE", "LICENCE", "COPYING", "NOTICE", "UNLICENSE", "COPYRIGHT")
# A crate that ships without a text gets the standard one, with its own authors. For MIT and Apache these are graftd's.
MIT = (ROOT / "LICENSE-MIT").read_text().split("\n\n", 2)[2]
APACHE = (ROOT / "LICENSE-APACHE").read_text()


def cargo(*arguments):
    ran = subprocess.run([CARGO, *arguments], cwd=ROOT, capture_output=True, text=True)
    if ran.returncode:
        sys.exit(f"licences: cargo {arguments[0]}: {ran.stderr.strip()}")
    return ran.stdout


def linked(target):
    """Names and versions of what is linked, or runs while that is compiled."""
    tree = cargo("tree", "--locked", "--target", target, "--edges", "normal", "--prefix", "none", "--format", "{p}")
    found = set()
    for line in tree.splitlines():
        name, version = line.split()[:2]
        if name != "graftd":
            found.add((name, version.removeprefix("v")))
    return sorted(found)


def texts(package):
    folder = pathlib.Path(package["manifest_path"]).parent
    named = [folder / package["license_file"]] if package["license_file"] else []
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name.upper().startswith(NOTICES))
    found = [path.read_text(errors="replace").strip() for path in [*named, *files] if path.is_file()]
    if found:
        return list(dict.fromkeys(found))
    authors = ", ".join(re.sub(r"\s*<.*?>", "", author) for author in package["authors"]) or package["name"]
    if "MIT" in (package["license"] or ""):
        return [f"MIT License\n\nCopyright (c) {authors}\n\n{MIT.strip()}"]
    if "Apache-2.0" in (package["license"] or ""):
        return [f"Copyright {authors}\n\n{APACHE.strip()}"]
    return []


def main(target, out):
    allowed = set(re.findall(r'"([^"]+)"', re.search(r"allow = \[(.*?)\]", (ROOT / "deny.toml").read_text(), re.S)[1]))
    metadata = json.loads(cargo("metadata", "--locked", "--format-version", "1", "--filter-platform", target))
    packages = {(p["name"], p["version"]): p for p in metadata["packages"]}
    crates, by_text, wrong = linked(target), {}, []
    for key in crates:
        package = packages[key]
        licence = package["license"] or "see its text"
        # deny.toml's list: each side of an AND, one side of an OR.
        sides = re.split(r"\s+AND\s+", licence.replace("/", " OR "))
        for side in sides:
            if not any(choice.strip(" ()") in allowed for choice in re.split(r"\s+OR\s+", side)):
                wrong.append(f"{key[0]} {key[1]}: {side} is not in deny.toml")
        found = texts(package)
        if not found:
            wrong.append(f"{key[0]} {key[1]}: there is no text of {licence}")
        for text in found:
            same = hashlib.sha256(" ".join(text.split()).encode()).hexdigest()
            by_text.setdefault(same, (text, []))[1].append(f"{key[0]} {key[1]}")
    if wrong:
        sys.exit("licences: " + "\nlicences: ".join(wrong))
    lines = [
        "graftd is linked with the crates below and with Rust's standard library (the Rust project's developers; MIT or",
        "Apache-2.0). First each crate with its licence, then every text with the crates that it came with.",
        "",
    ]
    for key in crates:
        lines.append(f"{key[0]} {key[1]}: {packages[key]['license'] or 'see its text'}")
    for text, users in by_text.values():
        lines += ["", "=" * 100, ", ".join(users), "-" * 100, text]
    path = pathlib.Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    print(f"licences: {len(crates)} crates, {len(by_text)} texts: {out}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
