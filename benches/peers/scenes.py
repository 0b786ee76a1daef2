"""Drawn pictures with labels, for when no data set can be fetched: the same seed draws the same pictures.

Three classes, told apart by their outline alone: `pebble` (smooth), `tile` (straight edges) and `star` (spikes). Colour,
texture, size and ground say nothing about the class. Two worlds of them: *studio*, which a base model learns from nothing,
and *yard*, where the same things lie on other grounds, under a slanting light with shadows, in other variants of their
shapes, and are less sharp. What was learnt in the studio is worth something in the yard, and not enough.

A third world, *crowns*, is that of `models/scenes.py`: trees from above, one class.

    python scenes.py studio|yard|crowns FOLDER --train N --val N --seed S
"""

import argparse
import importlib.util
import pathlib
import shutil
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

CLASSES = ("pebble", "tile", "star")
SIDE = 320
# Outlines are drawn larger and scaled down, so that their edges are smooth.
FINE = 3


@dataclass(frozen=True)
class World:
    """What a scene may look like."""

    grounds: tuple
    things: tuple  # how many there are, from and to
    radius: tuple  # pixels, from and to, evenly in the logarithm
    arms: tuple  # spikes of a star
    waist: tuple  # how deep its notches go: the inner radius over the outer
    edges: tuple  # of a tile
    bumps: float  # how far from an ellipse a pebble may be
    contrast: tuple  # how far a thing's colour stands out of the ground, in grey levels
    slant: float  # how much brighter one side of the picture is than the other
    shadow: float
    blur: tuple
    noise: tuple


STUDIO = World(grounds=("cloud", "cloud", "plain", "patches", "gravel"), things=(3, 12), radius=(14, 60), arms=(4, 6), waist=(0.35, 0.55),
               edges=(3, 4), bumps=0.08, contrast=(45, 120), slant=0.2, shadow=0.2, blur=(0.0, 1.0), noise=(0, 10))
YARD = World(grounds=("gravel", "boards", "grass"), things=(3, 11), radius=(13, 46), arms=(5, 8), waist=(0.45, 0.62), edges=(3, 5),
             bumps=0.12, contrast=(32, 90), slant=0.6, shadow=0.5, blur=(0.3, 1.2), noise=(3, 12))
WORLDS = {"studio": STUDIO, "yard": YARD}


def noise(rng, side, grain):
    """Smooth noise of mean 0 and spread 1, with blobs of about `grain` pixels."""
    cells = max(2, round(side / grain) + 1)
    small = Image.fromarray(rng.normal(size=(cells, cells)).astype(np.float32))
    field = np.asarray(small.resize((side, side), Image.BICUBIC))
    return (field - field.mean()) / (field.std() + 1e-6)


def colour(rng):
    return rng.uniform(40, 215, 3) * 0.55 + rng.uniform(40, 215) * 0.45


def ground(rng, kind):
    """[SIDE, SIDE, 3] of 0 to 255."""
    base = colour(rng)
    tone = np.zeros((SIDE, SIDE), np.float32)
    if kind in ("cloud", "gravel", "grass", "patches"):
        for grain, share in ((160, 14), (60, 9), (20, 6)):
            tone += noise(rng, SIDE, grain) * rng.uniform(0.3, 1.0) * share
    if kind == "gravel":
        tone += np.abs(noise(rng, SIDE, rng.uniform(4, 9))) * rng.uniform(10, 26) + noise(rng, SIDE, 2) * 7
    if kind == "grass":
        fine = rng.normal(size=(SIDE, SIDE)).astype(np.float32)
        lean = int(rng.integers(-2, 3))
        blades = sum(np.roll(fine, (k, lean * k // 2), (0, 1)) for k in range(7))
        tone += blades / 7 ** 0.5 * rng.uniform(8, 17)
    if kind == "boards":
        angle, wide = rng.uniform(0, np.pi), rng.uniform(18, 60)
        v, u = np.mgrid[:SIDE, :SIDE].astype(np.float32)
        across = (u * np.cos(angle) + v * np.sin(angle)) / wide
        tones = rng.normal(0, 13, 64)
        tone += tones[np.floor(across).astype(int) % 64] - 38 * (np.abs(across % 1 - 0.5) > 0.5 - 1.5 / wide)
        tone += noise(rng, SIDE, 5) * 5 + np.sin(across * rng.uniform(20, 50) + noise(rng, SIDE, 50)) * 5
    picture = base + tone[..., None] * rng.uniform(0.7, 1.3, 3)
    if kind == "patches":
        other = noise(rng, SIDE, rng.uniform(30, 90)) > rng.uniform(0.2, 1)
        picture = np.where(other[..., None], picture + rng.uniform(-45, 45, 3), picture)
    return np.clip(picture, 0, 255)


def outline(rng, kind, world, count=180):
    """Radii of the outline around the centre, the largest 1, at `count` even angles."""
    angle = np.arange(count) * 2 * np.pi / count
    if kind == "pebble":
        out = 1 + sum(rng.normal(0, world.bumps / k ** 0.5) * np.cos(k * angle + rng.uniform(0, 6.3)) for k in (2, 3, 4, 5))
    elif kind == "tile":
        edges = int(rng.integers(world.edges[0], world.edges[1] + 1))
        step = 2 * np.pi / edges
        out = np.cos(step / 2) / np.cos(angle % step - step / 2)
    else:
        arms = int(rng.integers(world.arms[0], world.arms[1] + 1))
        low, step = rng.uniform(*world.waist), 2 * np.pi / arms
        share = np.abs(angle % step - step / 2) / (step / 2)  # 1 at a spike, 0 at a notch
        # A straight line from spike to notch, in polar form.
        a, b = np.array([1.0, 0.0]), low * np.array([np.cos(step / 2), np.sin(step / 2)])
        way = (1 - share) * step / 2
        cross = a[0] * b[1] - a[1] * b[0]
        out = cross / ((b[1] - a[1]) * np.cos(way) - (b[0] - a[0]) * np.sin(way))
    return out / out.max()


def mask(rng, kind, radius, world):
    """The thing's cover of a square patch, 0 to 1."""
    out, turn, squeeze, lean = outline(rng, kind, world), rng.uniform(0, 6.3), rng.uniform(0.65, 1), rng.uniform(0, 6.3)
    angle = np.arange(len(out)) * 2 * np.pi / len(out) + turn
    u, v = radius * out * np.cos(angle), radius * out * np.sin(angle) * squeeze
    u, v = u * np.cos(lean) - v * np.sin(lean), u * np.sin(lean) + v * np.cos(lean)
    half = int(radius) + 2
    side = 2 * half + 1
    patch = Image.new("L", (side * FINE, side * FINE))
    points = [((half + 0.5 + x) * FINE, (half + 0.5 + y) * FINE) for x, y in zip(u, v)]
    ImageDraw.Draw(patch).polygon(points, fill=255)
    return np.asarray(patch.resize((side, side), Image.BOX), np.float32) / 255


def texture(rng, side, base):
    """What is painted on a thing."""
    v, u = np.mgrid[:side, :side].astype(np.float32) - side / 2
    tone = (u * rng.normal() + v * rng.normal()) / side * 40
    kind = rng.choice(("even", "stripes", "dots", "mottled", "rough"))
    if kind == "stripes":
        turn, wave = rng.uniform(0, np.pi), rng.uniform(4, 14)
        tone += 28 * np.sign(np.sin((u * np.cos(turn) + v * np.sin(turn)) * 2 * np.pi / wave))
    elif kind == "dots":
        wave = rng.uniform(6, 14)
        tone += 45 * ((np.sin(u * 2 * np.pi / wave) + np.sin(v * 2 * np.pi / wave)) > 0.9)
    elif kind == "mottled":
        tone += 18 * noise(rng, side, 9)
    elif kind == "rough":
        tone += 16 * noise(rng, side, 2.5)
    return base + tone[..., None]


def window(x, y, patch):
    """Where a patch centred at x, y lies on the picture, and which part of the patch that is."""
    side = patch.shape[0]
    x0, y0 = round(x) - side // 2, round(y) - side // 2
    u0, v0, u1, v1 = max(x0, 0), max(y0, 0), min(x0 + side, SIDE), min(y0 + side, SIDE)
    return (slice(v0, v1), slice(u0, u1)), (slice(v0 - y0, v1 - y0), slice(u0 - x0, u1 - x0))


def clutter(rng, picture):
    """Things without a class: lines, rings, crumbs."""
    layer = Image.fromarray(picture.astype(np.uint8))
    draw = ImageDraw.Draw(layer)
    for _ in range(rng.integers(0, 14)):
        x, y = rng.uniform(0, SIDE, 2)
        tone = tuple(int(c) for c in colour(rng))
        kind = rng.choice(("line", "ring", "crumbs"))
        if kind == "line":
            turn, length = rng.uniform(0, 6.3), rng.uniform(20, 200)
            draw.line([(x, y), (x + np.cos(turn) * length, y + np.sin(turn) * length)], fill=tone, width=int(rng.integers(1, 5)))
        elif kind == "ring":
            r = rng.uniform(6, 40)
            draw.ellipse([x - r, y - r * 0.8, x + r, y + r * 0.8], outline=tone, width=int(rng.integers(1, 4)))
        else:
            for a, b in rng.normal(0, 12, (int(rng.integers(5, 25)), 2)):
                r = rng.uniform(0.5, 2.5)
                draw.ellipse([x + a - r, y + b - r, x + a + r, y + b + r], fill=tone)
    return np.asarray(layer).astype(np.float32)


def scene(world, seed):
    """A picture and its rows (class, cx, cy, w, h), normalised."""
    rng = np.random.default_rng(seed)
    picture = clutter(rng, ground(rng, rng.choice(world.grounds)))
    owner = np.zeros((SIDE, SIDE), np.int32)
    things, sun = [], rng.uniform(0, 6.3)
    toward = np.array([np.cos(sun), np.sin(sun)])
    typical = np.exp(rng.uniform(np.log(world.radius[0]), np.log(world.radius[1])))
    for _ in range(rng.integers(*world.things)):
        kind = int(rng.integers(len(CLASSES)))
        radius = float(np.clip(typical * np.exp(rng.normal(0, 0.45)), *world.radius))
        x, y = rng.uniform(radius * 0.3, SIDE - radius * 0.3, 2)
        cover = mask(rng, CLASSES[kind], radius, world)
        if world.shadow:
            dark = Image.fromarray((cover * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(1 + radius * 0.06))
            dark = np.asarray(dark, np.float32) / 255
            on, of = window(*(np.array([x, y]) + toward * radius * rng.uniform(0.15, 0.5)), dark)
            picture[on] *= 1 - world.shadow * dark[of][..., None]
        on, of = window(x, y, cover)
        if 0 in owner[on].shape:
            continue
        beneath = picture[on].reshape(-1, 3).mean(0)
        away = rng.normal(size=3) + rng.choice((-1, 1)) * 1.2
        base = np.clip(beneath + away / np.abs(away).max() * rng.uniform(*world.contrast), 8, 247)
        paint = texture(rng, cover.shape[0], base)
        picture[on] += cover[of][..., None] * (paint[of] - picture[on])
        things.append((kind, int((cover > 0.5).sum())))
        owner[on][cover[of] > 0.5] = len(things)
    v, u = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
    picture *= (1 + world.slant * rng.uniform(-1, 1) * (u * toward[0] + v * toward[1]))[..., None]
    picture *= rng.uniform(0.75, 1.2) * np.exp(rng.normal(0, 0.06 + 0.1 * world.slant, 3))
    soft = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(rng.uniform(*world.blur)))
    picture = np.asarray(soft) + rng.normal(0, rng.uniform(*world.noise), (SIDE, SIDE, 3))
    return np.clip(picture, 0, 255).astype(np.uint8), boxes(owner, things)


def boxes(owner, things):
    """Of what can still be seen of each thing; one that is mostly hidden has none."""
    rows = []
    for number, (kind, area) in enumerate(things, 1):
        ys, xs = np.nonzero(owner == number)
        if len(xs) < max(20, 0.4 * area):
            continue
        x0, x1, y0, y1 = xs.min(), xs.max() + 1, ys.min(), ys.max() + 1
        rows.append((kind, (x0 + x1) / 2 / SIDE, (y0 + y1) / 2 / SIDE, (x1 - x0) / SIDE, (y1 - y0) / SIDE))
    return rows


def write(folder, names, splits, draw):
    """A YOLO data set: `draw(split, i)` gives a picture and its rows. `data.yaml` comes last: with it, the set is whole."""
    shutil.rmtree(folder, ignore_errors=True)
    for split, count in splits.items():
        for part in ("images", "labels"):
            (folder / part / split).mkdir(parents=True)
        for i in range(count):
            picture, rows = draw(split, i)
            # PNG: pixels don't depend on the version of a JPEG encoder.
            Image.fromarray(picture).save(folder / "images" / split / f"{i:05}.png", compress_level=1)
            lines = [f"{kind} " + " ".join(f"{value:.6f}" for value in row) for kind, *row in rows]
            (folder / "labels" / split / f"{i:05}.txt").write_text("".join(line + "\n" for line in lines))
    entries = "".join(f"  {i}: {name}\n" for i, name in enumerate(names))
    paths = "".join(f"{split}: images/{split}\n" for split in splits)
    (folder / "data.yaml").write_text(f"path: {folder.resolve()}\n{paths}names:\n{entries}")


def crowns():
    """The scenes that graftd's own base model learnt from, and of them only the trees."""
    path = pathlib.Path(__file__).resolve().parents[2] / "models" / "scenes.py"
    spec = importlib.util.spec_from_file_location("crown_scenes", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def draw(seed):
        picture, rows = module.scene(seed)
        side = picture.shape[0]
        low, high = rows[rows[:, 0] == 0, 1:3] / side, rows[rows[:, 0] == 0, 3:] / side
        return picture, [(0, *row) for row in np.concatenate(((low + high) / 2, high - low), 1)]

    return draw


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("world", choices=(*WORLDS, "crowns"))
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--train", type=int, default=60)
    parser.add_argument("--val", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.world == "crowns":
        names, draw = ("tree",), crowns()
    else:
        names, draw = CLASSES, lambda seed: scene(WORLDS[args.world], seed)
    splits = {"train": args.train, "val": args.val}
    write(args.folder, names, splits, lambda split, i: draw((args.seed, int(split == "val"), i)))


if __name__ == "__main__":
    main()
