"""Non-maximum suppression and mAP of one class, in numpy."""

import numpy as np


def box_iou(a, b):
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    inter = (high - low).clip(0).prod(2)
    area = lambda x: (x[:, 2:] - x[:, :2]).prod(1)  # noqa: E731
    return inter / (area(a)[:, None] + area(b)[None] - inter + 1e-9)


def nms(output, conf=0.001, threshold=0.7, keep=300):
    """One picture's output [4 + nc, A] → rows x1, y1, x2, y2, score, best first."""
    score = output[4]
    rows = np.where(score > conf)[0]
    rows = rows[np.argsort(-score[rows], kind="stable")][:3000]
    xy, wh = output[:2, rows].T, output[2:4, rows].T
    boxes, score = np.concatenate((xy - wh / 2, xy + wh / 2), 1), score[rows]
    overlap, alive, kept = box_iou(boxes, boxes), np.ones(len(rows), bool), []
    for i in range(len(rows)):
        if alive[i]:
            kept.append(i)
            if len(kept) == keep:
                break
            alive &= overlap[i] <= threshold
    return np.concatenate((boxes[kept], score[kept, None]), 1)


def mean_ap(detections, truths):
    """(mAP50, mAP50-95): detections rows per picture, truths boxes per picture; 101-point precision envelope."""
    levels = np.arange(0.5, 1, 0.05)
    scores, hits = [], []
    for det, gt in zip(detections, truths):
        hit = np.zeros((len(det), len(levels)), bool)
        if len(gt) and len(det):
            overlap = box_iou(det[:, :4], gt)
            for k, level in enumerate(levels):
                free = np.ones(len(gt), bool)
                for i in range(len(det)):
                    o = np.where(free, overlap[i], -1)
                    j = o.argmax()
                    if o[j] >= level:
                        hit[i, k], free[j] = True, False
        scores.append(det[:, 4])
        hits.append(hit)
    scores, hits, total = np.concatenate(scores), np.concatenate(hits), sum(len(t) for t in truths)
    hits = hits[np.argsort(-scores, kind="stable")]
    tp, fp = hits.cumsum(0), (~hits).cumsum(0)
    aps = []
    for k in range(len(levels)):
        recall, precision = tp[:, k] / max(total, 1), tp[:, k] / (tp[:, k] + fp[:, k])
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        at = np.searchsorted(recall, np.linspace(0, 1, 101), side="left")
        aps.append(np.where(at < len(precision), precision[np.minimum(at, len(precision) - 1)], 0).mean() if len(precision) else 0.0)
    return float(aps[0]), float(np.mean(aps))
