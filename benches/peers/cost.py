"""The second table: CPU-seconds per picture and epoch, start-up not counted.

Whole processes are measured, and runs of different lengths subtracted from each other, so that what a run pays once drops
out: two numbers of epochs give what an epoch costs, and for graftd two numbers of pictures what it pays once per picture
(decoding, its views, the backbone over them), which is spread over 50 epochs. Networks have random weights and 80 classes;
classes that no box shows are background for both, so graftd's base teaches nothing (`--distill off`). One thread each.
"""

import shutil
from dataclasses import dataclass

import measure
from workshop import Failed

BATCH = 8
SPREAD = 50  # epochs that one pass of the backbone is spread over
SCOPES = ("head", "cls", "last")
MODELS = {"yolo11n": 0.33, "yolov8n": 0.45}  # what scope head may cost, as a share of the reference
TARGETS = {"cls": 1 / 6, "last": 1 / 10}


@dataclass(frozen=True)
class Lengths:
    """Long enough for the difference to stand out of the noise, short enough to be waited for."""

    pictures: int
    few_pictures: int
    reference: tuple  # epochs, from and to
    graftd: tuple


LENGTHS = {320: Lengths(64, 16, (1, 4), (8, 28)), 640: Lengths(32, 8, (1, 3), (8, 20))}
SCOPE_FACTOR = {"head": 1, "cls": 2, "last": 4}  # lighter scopes run longer, so that their difference is as plain


def lengths(side):
    return LENGTHS[min(LENGTHS, key=lambda known: abs(known - side))]


def data(shop, count):
    """Drawn pictures whose data.yaml has the 80 classes of the networks."""
    page = shop.data(f"cost-{count}", "studio", count, 1, seed=3)
    names = "".join(f'  {i}: "{i}"\n' for i in range(80))
    page.write_text(f"path: {page.parent}\ntrain: images/train\nval: images/val\nnames:\n{names}")
    return page


def reference(shop, model, weights, side, workers):
    """CPU-seconds of one picture in one epoch of Ultralytics, and the most memory it held."""
    size = lengths(side)
    page = data(shop, size.pictures)

    def run_once(epochs, what):
        name = f"cost-{model}-{side}-ultralytics-w{workers}-{what}"
        out = shop.out / "runs" / name
        cost, _ = shop.reference(name, "train", model=weights, data=page, out=out, epochs=epochs, imgsz=side, batch=BATCH,
                                 workers=workers, threads=1, bare=True)
        shutil.rmtree(out, ignore_errors=True)
        return cost

    def run(epochs):
        return shop.once(f"cost-{model}-{side}-ultralytics-w{workers}-e{epochs}", lambda: run_once(epochs, f"e{epochs}"))

    # The first run of all finds nothing in the system's caches, which would pass for start-up.
    shop.once(f"cost-{model}-{side}-ultralytics-w{workers}-warm", lambda: run_once(size.reference[0], "warm"))
    short, long = (run(epochs) for epochs in size.reference)
    epochs = size.reference[1] - size.reference[0]
    return positive((long["cpu_s"] - short["cpu_s"]) / epochs / size.pictures), long["peak_mb"]


def graftd(shop, args, model, base, side, scope):
    """CPU-seconds of graftd: of a picture in an epoch, of a picture once, and the most memory it held."""
    size = lengths(side)
    low, high = size.graftd[0], size.graftd[0] + (size.graftd[1] - size.graftd[0]) * SCOPE_FACTOR[scope]

    def run(pictures, epochs):
        name = f"cost-{model}-{side}-graftd-{shop.build}-{scope}-untaught-n{pictures}-e{epochs}"
        page = data(shop, pictures)

        def work():
            out = shop.out / "runs" / f"{name}.onnx"
            cost, _ = shop.train(name, base, page, out, ["--scope", scope, "--epochs", epochs, "--batch", BATCH, "--imgsz", side,
                                                         "--patience", 0, "--threads", 1, "--distill", "off", *args.graftd_args])
            out.unlink()
            return cost

        return shop.once(name, work)

    few, short, long = run(size.few_pictures, low), run(size.pictures, low), run(size.pictures, high)
    # The hold-out, one picture, is measured in every epoch as well; it is counted, as a 32nd or a 64th of a picture.
    step = positive((long["cpu_s"] - short["cpu_s"]) / (high - low) / size.pictures)
    once = positive((short["cpu_s"] - few["cpu_s"]) / (size.pictures - size.few_pictures) - low * step)
    return step, once, long["peak_mb"]


def positive(seconds):
    if seconds <= 0:
        raise Failed(f"a longer run cost {-1000 * seconds:.1f} ms a picture less than a shorter one; the machine is too busy to be "
                     "measured on: remove the results named cost-… and try again")
    return seconds


def table(shop, args):
    lines = [f"Machine: {measure.machine()}. {shop.versions()}. One thread each.\n\n",
             "CPU-milliseconds per picture and epoch; graftd's backbone goes over each picture's views once, spread over "
             f"{SPREAD} epochs.\n\n",
             "| model | px | Ultralytics, no loader · 1 loader | graftd scope | epoch | once ÷ 50 | together | share | target | | peak MB |\n",
             "|---|--:|--:|---|--:|--:|--:|--:|--:|---|--:|\n"]
    for model in args.models:
        files = shop.attempt(model, lambda: shop.blank(model))
        for side in args.sides if files else ():
            lines += rows(shop, args, model, *files, side)
    return "".join(lines)


def rows(shop, args, model, weights, base, side):
    name = f"{model} at {side}"
    theirs = [shop.attempt(f"{name}, Ultralytics, {workers} loaders", lambda: reference(shop, model, weights, side, workers))
              for workers in (0, 1)]
    done = [figure for figure in theirs if figure]
    # What it does cheapest is what counts.
    best = min((cost for cost, _ in done), default=None)
    shown = " · ".join(f"{1000 * figure[0]:.1f}" if figure else "failed" for figure in theirs)
    memory = f" ({max(mb for _, mb in done):.0f} MB)" if done else ""
    for scope in SCOPES:
        ours = shop.attempt(f"{name}, graftd {scope}", lambda: graftd(shop, args, model, base, side, scope))
        target = MODELS.get(model, MODELS["yolo11n"]) if scope == "head" else TARGETS[scope]
        if not ours:
            yield f"| {model} | {side} | {shown}{memory} | {scope} | failed | | | | ≤ {target:.2f} | | |\n"
            continue
        step, once, peak = ours
        together = step + once / SPREAD
        share = together / best if best else None
        cells = [f"{1000 * step:.1f}", f"{1000 * once / SPREAD:.1f}", f"{1000 * together:.1f}", f"{share:.3f}" if share else "–",
                 f"≤ {target:.3f}", ("met" if share <= target else "NOT met") if share else "", f"{peak:.0f}"]
        yield f"| {model} | {side} | {shown}{memory} | {scope} | {' | '.join(cells)} |\n"
