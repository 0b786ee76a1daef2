"""Drawn overhead scenes: ground, scrub, rocks, logs, cast shadows, and tree crowns with their boxes.

Every scene has one sun. What makes a tree here is what makes one in an aerial photograph: a crown that stands out of
its own shadow, lit on one side. Rocks, bushes, logs, paths and shadows without a crown are there to be told from it.
"""

import io

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIZE = 416
CLASSES = ("tree", "shrub", "rock", "log")  # all four teach the neck; only the first reaches the exported head

GROUNDS = np.array([  # r, g, b of materials as they look in the sun
    (128, 148, 78), (112, 140, 70), (150, 160, 98), (95, 128, 60), (168, 166, 112), (182, 170, 126), (160, 140, 104),
    (140, 118, 88), (176, 158, 134), (150, 146, 136), (128, 126, 120), (120, 100, 74), (170, 130, 100), (104, 116, 70),
], float)
CROWNS = np.array([
    (118, 126, 58), (104, 118, 54), (134, 138, 74), (86, 106, 52), (66, 92, 50), (58, 80, 52), (140, 142, 66),
    (100, 112, 72), (74, 104, 70), (128, 120, 66), (146, 132, 70), (84, 118, 48), (60, 72, 48), (150, 118, 64),
], float)


def fractal(rng, size, first, octaves=5, gain=0.6):
    """Noise of about zero mean and unit deviation; `first` is the largest feature in pixels."""
    total = np.zeros((size, size), np.float32)
    for k in range(octaves):
        cells = max(2, int(size / max(first / 2 ** k, 1.0)))
        if cells >= size:
            layer = rng.standard_normal((size, size)).astype(np.float32)
        else:
            grid = rng.standard_normal((cells + 1, cells + 1)).astype(np.float32)
            layer = np.asarray(Image.fromarray(grid).resize((size, size), Image.BICUBIC))
        total += gain ** k * layer
    return (total - total.mean()) / (total.std() + 1e-6)


class Scene:
    def __init__(self, rng, size=SIZE):
        self.rng, self.size = rng, size
        self.azimuth = rng.uniform(0, 2 * np.pi)  # where shadows point
        self.reach = rng.uniform(0.5, 2.6)  # shadow length in crown heights
        self.toward = np.array([np.cos(self.azimuth), np.sin(self.azimuth)])
        self.lean = rng.normal(0, 0.09, 2)  # the camera doesn't look straight down
        self.noise = [fractal(rng, 512, first, 4, g) for first, g in ((5, 0.8), (9, 0.8), (16, 0.75), (30, 0.7))]
        self.canvas = np.zeros((size, size, 3), np.float32)
        self.shade = Image.new("L", (size, size), 0)
        self.owner = np.zeros((size, size), np.int16)
        self.things = []  # class, area when alone
        self.palette = CROWNS[rng.choice(len(CROWNS), rng.integers(1, 5), replace=False)]
        self.spread = rng.uniform(3, 14)
        self.density = rng.uniform(0.6, 1.0)  # how dark a shadow is

    def patch_noise(self, n, kind=None):
        noise = self.noise[self.rng.integers(len(self.noise)) if kind is None else kind]
        y, x = self.rng.integers(0, 512 - n + 1, 2)
        p = noise[y:y + n, x:x + n]
        return p if self.rng.random() < 0.5 else p.T

    # ground -----------------------------------------------------------------------------------------------------

    def ground(self):
        rng, n = self.rng, self.size
        materials = GROUNDS[rng.choice(len(GROUNDS), rng.integers(1, 5), replace=False)]
        for i, colour in enumerate(materials):
            colour = colour + rng.normal(0, 9, 3)
            contrast = rng.uniform(5, 26)
            weight = rng.uniform(0.3, 1)  # of the fine grain against larger tufts
            texture = weight * fractal(rng, n, rng.choice((3, 6)), 2, 0.9) + (1 - weight) * fractal(rng, n, rng.choice((8, 15, 90)), 3, 0.9)
            layer = colour + contrast * texture[..., None] * (1 + rng.normal(0, 0.12, 3))
            layer = layer + rng.uniform(0, 6) * fractal(rng, n, 25, 4)[..., None] * rng.choice(((1, .2, -.6), (-.7, .5, -.3), (.6, .6, .5)))
            if i == 0:
                self.canvas[:] = layer
                continue
            edge = fractal(rng, n, rng.uniform(60, 300), 5, rng.uniform(0.3, 0.7)) + rng.normal(0, 0.8)
            mask = 1 / (1 + np.exp(-edge * rng.choice((2.0, 5.0, 20.0))))
            self.canvas += mask[..., None] * (layer - self.canvas)
        for _ in range(rng.integers(0, 2) * rng.integers(1, 3)):
            self.path()

    def path(self):
        rng, n = self.rng, self.size
        mask = Image.new("L", (n, n), 0)
        draw = ImageDraw.Draw(mask)
        a, b = rng.uniform(-40, n + 40, (2, 2))
        points = [tuple(a + (b - a) * t + rng.normal(0, 18, 2)) for t in np.linspace(-0.3, 1.3, 7)]
        width = int(rng.integers(2, 16))
        draw.line(points, fill=int(rng.integers(90, 230)), width=width, joint="curve")
        if rng.random() < 0.4:
            draw.line([(x + width * 2, y + width) for x, y in points], fill=160, width=width, joint="curve")
        mask = np.asarray(mask.filter(ImageFilter.GaussianBlur(rng.uniform(0.6, 3)))) / 255.0
        colour = GROUNDS[rng.integers(4, len(GROUNDS))] + rng.normal(0, 10, 3)
        self.canvas += mask[..., None] * (colour + 10 * self.patch_noise(n)[..., None] - self.canvas)

    def scrub(self):
        """Hundreds of knee-high tufts in patches: too low for a shadow of their own to be worth a box."""
        rng, n = self.rng, self.size
        where = fractal(rng, n, rng.uniform(50, 160), 3)
        colour = rng.choice(((150, 160, 140), (134, 146, 120), (110, 124, 80), (96, 110, 62), (120, 112, 90))) + rng.normal(0, 8, 3)
        biggest, level = rng.uniform(2.5, 7), rng.normal(0.4, 0.5)
        layer, dark = Image.new("L", (n, n), 0), Image.new("L", (n, n), 0)
        draw, shade = ImageDraw.Draw(layer), ImageDraw.Draw(dark)
        for x, y in rng.uniform(0, n, (int(rng.integers(100, 900)), 2)):
            if where[int(y), int(x)] < level:
                continue
            for _ in range(3):
                r = rng.uniform(0.8, biggest)
                u, v = x + rng.normal(0, r), y + rng.normal(0, r)
                draw.ellipse((u - r, v - r, u + r, v + r), fill=int(rng.integers(110, 255)))
                du, dv = self.toward * r * 0.8
                shade.ellipse((u + du - r, v + dv - r, u + du + r, v + dv + r), fill=130)
        dark = np.asarray(dark.filter(ImageFilter.GaussianBlur(0.8))) / 255.0
        layer = np.asarray(layer.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 1.2)))) / 255.0
        self.canvas *= 1 - 0.45 * dark[..., None] * (1 - layer[..., None])
        self.canvas += 0.85 * layer[..., None] * (colour + 22 * self.patch_noise(n, 0)[..., None] - self.canvas)

    # things that cast shadows ---------------------------------------------------------------------------------

    def cast(self, x, y, radius, height, slender):
        """Sweep the silhouette away from the sun; a cone gets narrower on the way, a dome doesn't."""
        rng, draw = self.rng, ImageDraw.Draw(self.shade)
        reach = height * self.reach
        steps = int(np.clip(reach / max(radius * 0.2, 1.2), 4, 40))
        for t in np.linspace(0, 1, steps):
            r = radius * (1 - slender * t) * 0.95
            cx, cy = np.array([x, y]) + self.toward * reach * t
            draw.ellipse((cx - r, cy - r, cx + r, cy + r), fill=255)
            for _ in range(3 if radius > 7 else 1):
                a, q = rng.uniform(0, 2 * np.pi), max(r * rng.uniform(0.15, 0.4), 0.7)
                u, v = cx + np.cos(a) * r, cy + np.sin(a) * r
                draw.ellipse((u - q, v - q, u + q, v + q), fill=255)

    def apply_shade(self):
        rng = self.rng
        soft = np.asarray(self.shade.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 1.6)))) / 255.0
        soft = soft * np.clip(0.92 + 0.10 * self.patch_noise(self.size, 1), 0, 1) * self.density
        tint = np.array([0.24, 0.31, 0.43]) * rng.uniform(0.6, 1.3) + rng.normal(0, 0.02, 3)
        self.canvas *= 1 - soft[..., None] * (1 - tint)
        self.shade = Image.new("L", (self.size, self.size), 0)

    def paste(self, x, y, alpha, colour, kind):
        """Lay a square patch over the canvas at centre x, y and note whose pixels they are."""
        n, half = alpha.shape[0], alpha.shape[0] // 2
        x0, y0 = int(round(x)) - half, int(round(y)) - half
        u0, v0, u1, v1 = max(x0, 0), max(y0, 0), min(x0 + n, self.size), min(y0 + n, self.size)
        if u1 <= u0 or v1 <= v0:
            return
        a, c = alpha[v0 - y0:v1 - y0, u0 - x0:u1 - x0], colour[v0 - y0:v1 - y0, u0 - x0:u1 - x0]
        view = self.canvas[v0:v1, u0:u1]
        view += a[..., None] * (c - view)
        solid = alpha > 0.45
        if kind is None or not solid.any():
            return
        self.things.append((kind, int(solid.sum())))
        self.owner[v0:v1, u0:u1][a > 0.45] = len(self.things)

    def polar(self, radius, stretch):
        n = 2 * int(radius * 1.5 + 3) + 1
        v, u = np.mgrid[:n, :n].astype(np.float32) - n // 2
        u, v = u / (radius * stretch), v / (radius / stretch)
        return n, u, v, np.hypot(u, v), np.arctan2(v, u)

    def crown(self, x, y, radius, style, in_shade=False):
        rng = self.rng
        n, u, v, rho, phi = self.polar(radius, np.exp(rng.normal(0, 0.12)))
        if style == "snag":
            return self.snag(x, y, radius)
        rim = 1 + sum(rng.normal(0, 0.09 / k ** 0.5) * np.cos(k * phi + rng.uniform(0, 6.3)) for k in range(2, 6))
        fine, coarse = self.patch_noise(n, 0 if radius < 14 else rng.integers(0, 2)), self.patch_noise(n, 2)
        if style == "conifer":
            arms = rng.integers(6, 14)
            ray = np.cos(arms * phi + rng.uniform(0, 6.3) + 0.7 * coarse)
            rim = rim * (0.92 + rng.uniform(0.05, 0.16) * ray)
            relief = 1.15 * (1 - rho) + rng.uniform(0.05, 0.25) * ray * np.minimum(rho, 1) + 0.10 * fine
            steep = rng.uniform(0.8, 1.5)
        else:
            relief = np.sqrt(np.clip(1.1 - rho ** 2, 0, None)) + 0.16 * coarse + 0.14 * fine
            steep = rng.uniform(0.4, 1.0)
        edge = rim + rng.uniform(0.04, 0.16) * fine + 0.08 * coarse - rho
        alpha = np.clip(edge * max(radius, 4) * 0.6 + 0.5, 0, 1)
        gy, gx = np.gradient(relief.astype(np.float32) * radius)
        lit = -(gx * self.toward[0] + gy * self.toward[1])  # a slope facing the sun rises along the shadows' way
        lit = -np.tanh(lit * steep) * 0.5
        gaps = self.patch_noise(n, 0 if radius < 20 else rng.integers(0, 2))
        depth = np.clip(1 - rng.uniform(0.25, 0.75) * np.clip(-gaps - 0.1, 0, 1.3) + 0.18 * np.clip(gaps, 0, 2), 0.2, 1.4)
        base = self.palette[rng.integers(len(self.palette))] + rng.normal(0, self.spread, 3)
        side = u * self.toward[0] + v * self.toward[1]
        light = (0.95 + rng.uniform(0.4, 1.0) * lit - rng.uniform(0.05, 0.45) * side) * depth * rng.uniform(0.8, 1.2)
        if in_shade:
            light = light * 0.45
        colour = base * np.clip(light, 0.12, 1.7)[..., None] + rng.uniform(3, 12) * fine[..., None]
        warm = np.clip(light - 0.8, 0, 1)[..., None] * np.array([14, 10, -6])
        cool = np.clip(0.5 - light, 0, 1)[..., None] * np.array([-12, -4, 18])
        self.paste(x, y, alpha * rng.uniform(0.9, 1.0), colour + warm + cool, 0)

    def snag(self, x, y, radius):
        """A dead standing tree: pale branches out of one point."""
        rng, n = self.rng, 2 * int(radius * 1.4 + 3) + 1
        mask = Image.new("L", (n * 2, n * 2), 0)
        draw, c = ImageDraw.Draw(mask), n
        for _ in range(int(radius * rng.uniform(1.2, 3)) + 10):
            a, length = rng.uniform(0, 2 * np.pi), radius * 2 * rng.uniform(0.4, 1.05)
            mid = (c + np.cos(a) * length * 0.5, c + np.sin(a) * length * 0.5)
            a += rng.normal(0, 0.25)
            end = (mid[0] + np.cos(a) * length * 0.5, mid[1] + np.sin(a) * length * 0.5)
            draw.line([(c, c), mid, end], fill=int(rng.integers(120, 255)), width=int(rng.integers(1, 4)))
            if rng.random() < 0.6:
                b = a + rng.choice((-0.7, 0.7))
                draw.line([mid, (mid[0] + np.cos(b) * length * 0.3, mid[1] + np.sin(b) * length * 0.3)], fill=190, width=1)
        alpha = np.asarray(mask.resize((n, n), Image.BOX)) / 255.0
        tone = rng.uniform(175, 235) + rng.normal(0, 4, 3) + np.array([0, 0, 4])
        colour = tone + 14 * self.patch_noise(n, 0)[..., None]
        before = len(self.things)
        disc = (np.hypot(*(np.mgrid[:n, :n] - n // 2)) < radius * 0.92)
        self.paste(x, y, np.clip(alpha * 1.5, 0, 1), colour, None)
        self.things.append((0, int(disc.sum())))
        x0, y0 = int(round(x)) - n // 2, int(round(y)) - n // 2
        u0, v0, u1, v1 = max(x0, 0), max(y0, 0), min(x0 + n, self.size), min(y0 + n, self.size)
        if u1 > u0 and v1 > v0:
            self.owner[v0:v1, u0:u1][disc[v0 - y0:v1 - y0, u0 - x0:u1 - x0]] = before + 1

    def shrub(self, x, y, radius):
        rng = self.rng
        n, u, v, rho, phi = self.polar(radius, np.exp(rng.normal(0, 0.2)))
        fine, coarse = self.patch_noise(n, 0), self.patch_noise(n, 1)
        edge = 1 + 0.3 * coarse + 0.2 * fine - rho
        alpha = np.clip(edge * radius * 0.4 + 0.3, 0, 1) * rng.uniform(0.6, 1)
        base = rng.choice(((148, 158, 138), (128, 140, 110), (116, 130, 84), (104, 122, 66), (136, 128, 100))) + rng.normal(0, 9, 3)
        light = 1 - 0.12 * (u * self.toward[0] + v * self.toward[1]) + 0.16 * fine
        self.paste(x, y, alpha, base * np.clip(light, 0.4, 1.5)[..., None], 1)

    def rock(self, x, y, radius):
        rng = self.rng
        n, u, v, rho, phi = self.polar(radius, np.exp(rng.normal(0, 0.25)))
        corners = sum(rng.normal(0, 0.14) * np.abs(np.cos(k * phi / 2 + rng.uniform(0, 6.3))) for k in (1, 2, 3, 5))
        alpha = np.clip((1 + corners - rho) * max(radius, 4) + 0.5, 0, 1)
        facet = np.sign(np.cos(phi * 1.5 + rng.uniform(0, 6.3))) * 0.1 - 0.35 * (u * self.toward[0] + v * self.toward[1])
        tone = rng.uniform(110, 205) + rng.normal(0, 6, 3)
        self.paste(x, y, alpha, tone * np.clip(1 + facet, 0.3, 1.4)[..., None] + 8 * self.patch_noise(n, 0)[..., None], 2)

    def log(self, a, angle, length, width):
        """A fallen stem, pale, tapered, often with stubs of branches."""
        rng = self.rng
        way, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
        b, tip = a + way * length, width * rng.uniform(0.2, 0.8)
        low = np.clip(np.minimum(a, b) - 16, 0, self.size).astype(int)  # work on the piece of the picture that it touches
        high = np.clip(np.maximum(a, b) + 16, 0, self.size).astype(int)
        if (high - low).min() < 18:
            return
        (w, h), a, b = high - low, a - low, b - low
        mask = Image.new("L", (int(w) * 2, int(h) * 2), 0)
        draw = ImageDraw.Draw(mask)
        quad = [a + across * width / 2, b + across * tip / 2, b - across * tip / 2, a - across * width / 2]
        draw.polygon([tuple(p * 2) for p in quad], fill=255)
        if rng.random() < 0.5:
            for t in rng.uniform(0.3, 1, int(length / rng.uniform(5, 14))):
                p = a + way * length * t
                s = angle + rng.choice((-1, 1)) * rng.uniform(0.4, 1.4)
                q = p + np.array([np.cos(s), np.sin(s)]) * rng.uniform(3, 12)
                draw.line([tuple(p * 2), tuple(q * 2)], fill=200, width=1)
        alpha = np.asarray(mask.resize((int(w), int(h)), Image.BOX)) / np.float32(255)
        view, grain = self.canvas[low[1]:high[1], low[0]:high[0]], self.patch_noise(self.size, 0)[:h, :w, None]
        dx, dy = np.round(self.toward * max(width * 0.5, 1) * min(self.reach, 2)).astype(int)
        shadow = np.roll(alpha, (dy, dx), (0, 1))
        view *= 1 - 0.55 * (shadow * (1 - alpha))[..., None]
        tone = (rng.uniform(150, 220) if rng.random() < 0.75 else rng.uniform(80, 130)) + rng.normal(0, 5, 3) + np.array([6, 2, -2])
        view += np.clip(alpha * 1.2, 0, 1)[..., None] * (tone + 16 * grain - view)
        if width > 2:
            self.things.append((3, int((alpha > 0.45).sum())))
            self.owner[low[1]:high[1], low[0]:high[0]][alpha > 0.45] = len(self.things)

    # where things stand ------------------------------------------------------------------------------------------

    def places(self):
        """Crown centres and radii: a few lone trees, groves whose crowns touch, thickets of young conifers."""
        rng, n, out = self.rng, self.size, []

        def free(x, y, r, slack):
            return all((x - a) ** 2 + (y - b) ** 2 > (slack * (r + c)) ** 2 for a, b, c, _ in out)

        mood = rng.choice(("lone", "grove", "thicket", "forest", "mixed", "mixed", "empty"), p=(.13, .2, .13, .17, .16, .16, .05))
        typical = np.exp(rng.uniform(np.log(9), np.log(34)))
        styles = ["conifer", "dome"] if rng.random() < 0.6 else [rng.choice(("conifer", "dome"))]
        if mood == "empty":
            return out
        if mood in ("lone", "mixed", "thicket"):
            for _ in range(rng.integers(1, 14)):
                r = np.clip(typical * np.exp(rng.normal(0, 0.35)), 4.5, 58)
                x, y = rng.uniform(-r * 0.5, n + r * 0.5, 2)
                if free(x, y, r, 0.9):
                    out.append((x, y, r, rng.choice(styles)))
        if mood in ("grove", "mixed"):
            for _ in range(rng.integers(1, 4)):
                cx, cy = rng.uniform(20, n - 20, 2)
                wide, slack = rng.uniform(25, 110), rng.uniform(0.6, 0.95)
                for _ in range(rng.integers(4, 26)):
                    r = np.clip(typical * np.exp(rng.normal(0, 0.3)), 4.5, 55)
                    x, y = cx + rng.normal(0, wide), cy + rng.normal(0, wide)
                    if free(x, y, r, slack):
                        out.append((x, y, r, rng.choice(styles)))
        if mood in ("thicket", "mixed") and rng.random() < 0.8:
            cx, cy, wide, slack = *rng.uniform(40, n - 40, 2), rng.uniform(20, 75), rng.uniform(0.65, 1.1)
            small = rng.uniform(4.5, 10)
            for _ in range(rng.integers(10, 70)):
                r = np.clip(small * np.exp(rng.normal(0, 0.22)), 4, 16)
                x, y = cx + rng.normal(0, wide), cy + rng.normal(0, wide)
                if free(x, y, r, slack):
                    out.append((x, y, r, "conifer"))
        if mood == "forest":
            slack, cover = rng.uniform(0.62, 0.9), fractal(rng, n, 140, 3) + rng.uniform(-0.3, 1.5)
            for _ in range(int(min(260, 2.2 * (n / typical) ** 2 / 4))):
                r = np.clip(typical * np.exp(rng.normal(0, 0.3)), 4.5, 55)
                x, y = rng.uniform(0, n, 2)
                if cover[int(y), int(x)] > 0 and free(x, y, r, slack):
                    out.append((x, y, r, rng.choice(styles)))
        dead = rng.choice((0, 0, 0.05, 0.15))
        out = [(x, y, r, "snag" if r > 9 and rng.random() < dead else s) for x, y, r, s in out]
        return out[:110]

    def draw(self):
        rng, n = self.rng, self.size
        self.ground()
        for _ in range(rng.integers(0, 3)):
            self.scrub()
        trees = self.places()
        low = []  # shrubs and rocks
        for kind, few in (("shrub", 14), ("rock", 8)):
            if rng.random() < 0.45:
                mid = rng.uniform(4, 14)
                for _ in range(rng.integers(1, few)):
                    low.append((kind, *rng.uniform(0, n, 2), np.clip(mid * np.exp(rng.normal(0, 0.4)), 3, 34)))
        for kind, x, y, r in low:
            self.cast(x, y, r * 0.9, r * rng.uniform(0.1, 0.5 if kind == "shrub" else 0.8), 0.3)
        if rng.random() < 0.55:
            main = rng.uniform(0, np.pi)
            for _ in range(rng.integers(1, 22)):
                length = rng.uniform(15, 190)
                width = 0.8 + rng.random() ** 2 * min(9, 1 + length / 18)
                self.log(rng.uniform(-20, n + 20, 2), main + rng.normal(0, 0.9), length, width)
        tall = rng.uniform(0.9, 2.2)
        for x, y, r, style in trees:
            if style == "snag":
                self.cast(x, y, max(r * 0.12, 1), r * tall * 1.1, 0.5)
            else:
                self.cast(x, y, r, r * tall * rng.uniform(0.8, 1.2), rng.uniform(0.5, 0.8) if style == "conifer" else rng.uniform(0, 0.35))
        for _ in range(rng.integers(0, 3) if rng.random() < 0.35 else 0):  # of trees that stand outside the picture
            side = -self.toward * n * 0.55 + n / 2 + np.array([-self.toward[1], self.toward[0]]) * rng.uniform(-n / 2, n / 2)
            self.cast(*side, rng.uniform(12, 40), rng.uniform(40, 120), 0.6)
        self.apply_shade()
        for kind, x, y, r in low:
            getattr(self, kind)(x, y, r)
        lean_to = self.lean * tall
        for x, y, r, style in sorted(trees, key=lambda t: t[2] + rng.normal(0, 4)):
            self.crown(x + lean_to[0] * r, y + lean_to[1] * r, r, style, in_shade=rng.random() < 0.12)
        return self.finish()

    def finish(self):
        """What a camera and a file format do to it; then the boxes."""
        rng = self.rng
        x = np.clip(self.canvas, 0, 255)
        x = 255 * (x / 255) ** np.exp(rng.normal(0, 0.16))
        x = x * rng.uniform(0.85, 1.35) * np.exp(rng.normal(0, 0.035, 3))
        grey = x.mean(2, keepdims=True)
        x = grey + (x - grey) * rng.uniform(0.6, 1.2)
        x = (x - 110) * rng.uniform(0.8, 1.25) + 110 + rng.normal(0, 8)
        picture = Image.fromarray(np.clip(x, 0, 255).astype(np.uint8))
        blur = float(rng.choice((0, 0, 0.4, 0.7, 1.1)))
        if blur:
            picture = picture.filter(ImageFilter.GaussianBlur(blur))
        if rng.random() < 0.5:
            picture = picture.filter(ImageFilter.UnsharpMask(rng.uniform(0.8, 2), int(rng.integers(40, 180)), 2))
        x = np.asarray(picture).astype(np.float32) + rng.normal(0, rng.uniform(0, 7), (self.size, self.size, 1))
        picture = Image.fromarray(np.clip(x, 0, 255).astype(np.uint8))
        packed = io.BytesIO()
        picture.save(packed, "JPEG", quality=int(rng.integers(55, 96)))
        picture = np.asarray(Image.open(packed).convert("RGB"))
        rows = []
        for i, (kind, area) in enumerate(self.things, 1):
            ys, xs = np.where(self.owner == i)
            if len(xs) < max(12, 0.35 * area):
                continue
            # A stray pixel must not widen the box.
            x0, x1 = np.percentile(xs, (0.7, 99.3)) if len(xs) > 150 else (xs.min(), xs.max())
            y0, y1 = np.percentile(ys, (0.7, 99.3)) if len(ys) > 150 else (ys.min(), ys.max())
            if min(x1 - x0, y1 - y0) >= (1 if kind == 3 else 5):
                rows.append((kind, x0, y0, x1 + 1, y1 + 1))
        return picture, np.array(rows, np.float32).reshape(-1, 5)


def scene(seed):
    """Picture [SIZE, SIZE, 3] u8 and rows (class, x1, y1, x2, y2) in pixels."""
    return Scene(np.random.default_rng(seed)).draw()
