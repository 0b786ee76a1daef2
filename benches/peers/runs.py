"""The first table: how good the heads are that both tools train, and what a whole run costs."""

import hashlib
import shutil
import statistics
from dataclasses import dataclass

import measure
from workshop import ROOT

SIDE, BATCH = 320, 8
# graftd may be this much below the reference's mean mAP50-95, and no more.
TOLERANCE = 0.01


@dataclass(frozen=True)
class Set:
    """What is learnt, and what the base learnt before."""

    title: str
    base: str
    base_world: str
    base_scenes: int
    base_epochs: int
    world: str = ""  # drawn; else the bundled pictures


SETS = {
    "crowns": Set("bundled pictures (30 to learn from, 6 held out, 1 class)", "trees", "crowns", 400, 10),
    "yard": Set("drawn pictures (60 to learn from, 60 held out, 3 classes)", "shapes", "studio", 1000, 10, "yard"),
}
DRAWN = 60


def table(shop, args):
    """Runs what is missing and writes the table."""
    parts = [f"Machine: {measure.machine()}. {shop.versions()}.\n"]
    for name in args.sets:
        parts.append(shop.attempt(name, lambda: one_set(shop, args, name)) or f"\n{SETS[name].title}: no figures; see below.\n")
    return "".join(parts)


def one_set(shop, args, name):
    chosen = SETS[name]
    studio = shop.data(chosen.base_world, chosen.base_world, chosen.base_scenes, 10, seed=1)
    weights, base = shop.base(chosen.base, studio, chosen.base_epochs)
    data = shop.data(chosen.world, chosen.world, DRAWN, DRAWN, seed=7) if chosen.world else bundled(shop)
    # What was made from another base is of no use.
    name = f"{name}-{hashlib.sha256(weights.read_bytes()).hexdigest()[:6]}"
    before = shop.once(f"{name}-base-{shop.build}", lambda: {"eval": shop.eval(f"{name}-base", base, data)})["eval"]

    results = {"Ultralytics": [], "graftd": []}
    for turn, seed in enumerate(args.seeds):
        tools = [("graftd", lambda: graftd(shop, args, name, base, data, seed)),
                 ("Ultralytics", lambda: reference(shop, args, name, weights, data, seed))]
        # Neither always runs on the machine that the other has warmed up.
        for tool, work in tools if turn % 2 == 0 else reversed(tools):
            result = shop.attempt(f"{tool} on {name}, seed {seed}", work)
            if result:
                results[tool].append(result)
    return written(chosen, args, before, results)


def bundled(shop):
    """A copy of the demo's tiles: Ultralytics leaves files beside the labels, and takes relative paths from elsewhere."""
    folder = shop.out / "data" / "treecrowns"
    page = folder / "data.yaml"
    if not page.exists():
        for part in ("images", "labels"):
            shutil.copytree(ROOT / "demo" / "treecrowns" / part, folder / part, dirs_exist_ok=True)
        page.write_text(f"path: {folder}\ntrain: images/train\nval: images/val\nnames:\n  0: tree\n")
    return page


def graftd(shop, args, name, base, data, seed):
    options = ["--scope", "head", "--epochs", args.epochs, "--batch", BATCH, "--imgsz", SIDE, "--patience", 0, "--seed", seed,
               *args.graftd_args]
    told = hashlib.sha256(repr(options).encode()).hexdigest()[:6]
    key = f"{name}-graftd-{shop.build}-{told}-seed{seed}"

    def run():
        out = shop.out / "runs" / f"{key}.onnx"
        cost, outcome = shop.train(key, base, data, out, options)
        _, own = shop.reference(f"{key}-val", "val", model=out, data=data, imgsz=SIDE, out=shop.out / "runs")
        return {"cost": cost, "outcome": outcome, "own": own, "eval": shop.eval(f"{key}-eval", out, data)}

    return shop.once(key, run)


def reference(shop, args, name, weights, data, seed):
    key = f"{name}-ultralytics-e{args.epochs}-seed{seed}"

    def run():
        folder = shop.out / "runs" / key
        cost, seen = shop.reference(key, "train", model=weights, data=data, out=folder, epochs=args.epochs, imgsz=SIDE, batch=BATCH,
                                    seed=seed)
        # Both tools keep the epoch that is best on the hold-out.
        best = folder / "weights" / "best.pt"
        _, own = shop.reference(f"{key}-val", "val", model=best, data=data, imgsz=SIDE, out=shop.out / "runs")
        return {"cost": cost, "seen": seen, "own": own, "onnx": str(shop.exported(best).relative_to(shop.out))}

    result = shop.once(key, run)
    judged = shop.once(f"{key}-eval-{shop.build}", lambda: shop.eval(f"{key}-eval", shop.out / result["onnx"], data))
    return {**result, "eval": judged}


def written(chosen, args, before, results):
    lines = [f"\n**{chosen.title}**, {args.epochs} epochs, batch {BATCH}, {SIDE} px, seeds {', '.join(map(str, args.seeds))}\n\n",
             "| | mAP50 | mAP50-95 | the same by Ultralytics' validator | CPU-seconds | wall seconds | peak MB | joules |\n",
             "|---|--:|--:|--:|--:|--:|--:|--:|\n",
             f"| base, untrained | {before['mAP50']:.3f} | {before['mAP50_95']:.3f} | | | | | |\n"]
    for tool, rows in results.items():
        if not rows:
            lines.append(f"| {tool} | failed | | | | | | |\n")
            continue
        own = spread([row["own"]["mAP50_95"] for row in rows])
        costs = [row["cost"] for row in rows]
        joules = "–" if any(cost["joules"] is None for cost in costs) else f"{statistics.mean(c['joules'] for c in costs):.0f}"
        cells = [spread([row["eval"][metric] for row in rows]) for metric in ("mAP50", "mAP50_95")] + [own]
        cells += [f"{statistics.mean(cost[unit] for cost in costs):.0f}" for unit in ("cpu_s", "wall_s", "peak_mb")] + [joules]
        lines.append(f"| {tool}{' (freeze up to the head)' if tool == 'Ultralytics' else ', scope head'} | {' | '.join(cells)} |\n")
    if all(results.values()):
        ours, theirs = (statistics.mean(row["eval"]["mAP50_95"] for row in results[tool]) for tool in ("graftd", "Ultralytics"))
        fine = ours >= theirs - TOLERANCE
        share = statistics.mean(r["cost"]["cpu_s"] for r in results["graftd"]) / statistics.mean(r["cost"]["cpu_s"] for r in results["Ultralytics"])
        lines.append(f"\nmAP50-95: graftd is {ours - theirs:+.3f} from Ultralytics' mean: {'met' if fine else 'NOT met'} "
                     f"(at least −{TOLERANCE}). CPU-seconds of the whole run: {share:.2f} of Ultralytics'.\n")
    return "".join(lines)


def spread(values):
    """Mean, and from the least to the most where there are several."""
    mean = f"{statistics.mean(values):.3f}"
    return f"{mean} ({min(values):.3f}–{max(values):.3f})" if len(values) > 1 else mean
