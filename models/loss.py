"""The detection loss: task-aligned assignment (Feng et al. 2021), CIoU (Zheng et al. 2020), distribution focal loss
(Li et al. 2020) and binary cross-entropy, with the gains and the details that YOLO11's training is known for."""

import math

import torch
import torch.nn.functional as F

from net import REG_MAX, anchors

TOP_K, ALPHA, BETA = 10, 0.5, 6.0
GAINS = (7.5, 0.5, 1.5)  # box, class, distribution


def iou(a, b, complete=False, eps=1e-7):
    """Overlap of boxes (x1, y1, x2, y2) that broadcast against each other."""
    aw, ah = a[..., 2] - a[..., 0], a[..., 3] - a[..., 1] + eps
    bw, bh = b[..., 2] - b[..., 0], b[..., 3] - b[..., 1] + eps
    inter = ((torch.minimum(a[..., 2], b[..., 2]) - torch.maximum(a[..., 0], b[..., 0])).clamp(0)
             * (torch.minimum(a[..., 3], b[..., 3]) - torch.maximum(a[..., 1], b[..., 1])).clamp(0))
    out = inter / (aw * ah + bw * bh - inter + eps)
    if not complete:
        return out
    cw = torch.maximum(a[..., 2], b[..., 2]) - torch.minimum(a[..., 0], b[..., 0])
    ch = torch.maximum(a[..., 3], b[..., 3]) - torch.minimum(a[..., 1], b[..., 1])
    rho = ((b[..., 0] + b[..., 2] - a[..., 0] - a[..., 2]) ** 2 + (b[..., 1] + b[..., 3] - a[..., 1] - a[..., 3]) ** 2) / 4
    v = 4 / math.pi ** 2 * (torch.atan(bw / bh) - torch.atan(aw / ah)) ** 2
    with torch.no_grad():
        alpha = v / (v - out + 1 + eps)
    return out - rho / (cw ** 2 + ch ** 2 + eps) - alpha * v


@torch.no_grad()
def assign(scores, boxes, points, gt_class, gt_box):
    """One picture. scores [A, nc] after the sigmoid, boxes [A, 4] and points [A, 2] in pixels, gt_box [M, 4].

    Returns the anchors that are foreground, the box each belongs to, and its soft target score.
    """
    smallest = 16.0  # sides below this are widened to it when candidates are sought
    centre, size = (gt_box[:, :2] + gt_box[:, 2:]) / 2, (gt_box[:, 2:] - gt_box[:, :2]).clamp(min=smallest)
    low, high = centre - size / 2, centre + size / 2
    inside = ((points[None] > low[:, None]) & (points[None] < high[:, None])).all(-1)  # [M, A]
    overlap = iou(gt_box[:, None], boxes[None], complete=True).clamp(0) * inside
    metric = scores.t()[gt_class].pow(ALPHA) * overlap.pow(BETA) * inside
    top = metric.topk(min(TOP_K, metric.shape[1]), 1).indices
    chosen = torch.zeros_like(inside).scatter_(1, top, True) & inside
    contested = chosen.sum(0) > 1
    if contested.any():
        best = torch.zeros_like(chosen).scatter_(0, overlap.argmax(0, keepdim=True), True)
        chosen = torch.where(contested[None], best, chosen)
    fg = chosen.any(0).nonzero()[:, 0]
    owner = chosen[:, fg].int().argmax(0)
    metric = metric * chosen
    norm = (overlap * chosen).amax(1) / (metric.amax(1) + 1e-9)
    return fg, owner, metric[owner, fg] * norm[owner]


def detection_loss(box_maps, cls_maps, targets):
    """targets: per picture a pair (classes [M] long, boxes [M, 4] pixels). Returns the sum and its three parts."""
    b = box_maps[0].shape[0]
    points, strides = anchors(box_maps)
    box = torch.cat([x.flatten(2) for x in box_maps], 2).transpose(1, 2)  # [B, A, 64]
    cls = torch.cat([x.flatten(2) for x in cls_maps], 2).transpose(1, 2)  # [B, A, nc]
    distances = box.view(b, -1, 4, REG_MAX).softmax(-1) @ torch.arange(REG_MAX, dtype=box.dtype)
    boxes = torch.cat((points - distances[..., :2], points + distances[..., 2:]), -1)  # in strides
    want = torch.zeros_like(cls)
    box_loss = dfl_loss = cls.sum() * 0
    for i, (gt_class, gt_box) in enumerate(targets):
        if len(gt_class) == 0:
            continue
        fg, owner, score = assign(cls[i].detach().sigmoid(), boxes[i].detach() * strides, points * strides, gt_class, gt_box)
        if len(fg) == 0:
            continue
        want[i, fg, gt_class[owner]] = score
        goal = gt_box[owner] / strides[fg]
        box_loss = box_loss + ((1 - iou(boxes[i, fg], goal, complete=True)) * score).sum()
        sides = torch.cat((points[fg] - goal[:, :2], goal[:, 2:] - points[fg]), -1).clamp(0, REG_MAX - 1 - 0.01)
        left = sides.long()
        logits = box[i, fg].view(-1, REG_MAX).log_softmax(-1)
        right_weight = (sides - left).view(-1)
        left = left.view(-1, 1)
        ce = -(logits.gather(1, left)[:, 0] * (1 - right_weight) + logits.gather(1, left + 1)[:, 0] * right_weight)
        dfl_loss = dfl_loss + (ce.view(-1, 4).mean(1) * score).sum()
    total = want.sum().clamp(min=1)
    cls_loss = F.binary_cross_entropy_with_logits(cls, want, reduction="sum")
    parts = [g * x / total for g, x in zip(GAINS, (box_loss, cls_loss, dfl_loss))]
    return sum(parts) * b, [p.item() for p in parts]
