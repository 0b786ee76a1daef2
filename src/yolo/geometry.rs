//! Boxes against boxes: overlap, and the complete overlap with its gradient.

use std::f64::consts::PI;

/// Keeps the divisions of CIoU finite, where the reference has it.
const EPSILON: f64 = 1e-7;

/// Intersection over union of two boxes `[x1, y1, x2, y2]`; 0 when both are empty.
pub fn iou(a: [f64; 4], b: [f64; 4]) -> f64 {
    let width = (a[2].min(b[2]) - a[0].max(b[0])).max(0.0);
    let height = (a[3].min(b[3]) - a[1].max(b[1])).max(0.0);
    let intersection = width * height;
    let union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - intersection;
    if union > 0.0 { intersection / union } else { 0.0 }
}

/// Complete IoU of a predicted and a true box `[x1, y1, x2, y2]`:
/// `IoU − ρ²/c² − α·v`, with ρ the distance of the centres, c the diagonal of the box around both,
/// `v = 4/π²·(atan(w'/h') − atan(w/h))²` and `α = v / (v − IoU + 1)`.
///
/// Source: Zheng et al., "Distance-IoU loss", arXiv 1911.08287. As in the reference, ε is added to
/// the heights but not to the widths.
pub fn ciou(predicted: [f64; 4], truth: [f64; 4]) -> f64 {
    Parts::new(predicted, truth).value()
}

/// CIoU and its gradient with respect to the predicted corners. α counts as a constant, as the
/// paper says and the reference does.
pub fn ciou_gradient(predicted: [f64; 4], truth: [f64; 4]) -> (f64, [f64; 4]) {
    let parts = Parts::new(predicted, truth);
    (parts.value(), parts.gradient(predicted, truth))
}

struct Parts {
    width: f64,
    height: f64,
    /// Sides of the intersection, 0 when the boxes are apart.
    inner: [f64; 2],
    union: f64,
    iou: f64,
    /// Sides of the box around both.
    outer: [f64; 2],
    /// Twice the distance of the centres, truth minus predicted.
    apart: [f64; 2],
    diagonal: f64,
    distance: f64,
    /// Difference of the angles whose tangents are the aspects, truth minus predicted.
    turn: f64,
    aspect: f64,
    alpha: f64,
}

impl Parts {
    fn new(p: [f64; 4], t: [f64; 4]) -> Self {
        let (width, height) = (p[2] - p[0], p[3] - p[1] + EPSILON);
        let (true_width, true_height) = (t[2] - t[0], t[3] - t[1] + EPSILON);
        let inner = [0, 1].map(|i| (p[2 + i].min(t[2 + i]) - p[i].max(t[i])).max(0.0));
        let intersection = inner[0] * inner[1];
        let union = width * height + true_width * true_height - intersection + EPSILON;
        let iou = intersection / union;
        let outer = [0, 1].map(|i| p[2 + i].max(t[2 + i]) - p[i].min(t[i]));
        let apart = [0, 1].map(|i| t[i] + t[2 + i] - p[i] - p[2 + i]);
        let diagonal = outer[0] * outer[0] + outer[1] * outer[1] + EPSILON;
        let distance = (apart[0] * apart[0] + apart[1] * apart[1]) / 4.0;
        let turn = (true_width / true_height).atan() - (width / height).atan();
        let aspect = 4.0 / (PI * PI) * turn * turn;
        let alpha = aspect / (aspect - iou + (1.0 + EPSILON));
        Parts { width, height, inner, union, iou, outer, apart, diagonal, distance, turn, aspect, alpha }
    }

    fn value(&self) -> f64 {
        self.iou - (self.distance / self.diagonal + self.aspect * self.alpha)
    }

    fn gradient(&self, p: [f64; 4], t: [f64; 4]) -> [f64; 4] {
        let intersection = self.inner[0] * self.inner[1];
        let overlapping = self.inner[0] > 0.0 && self.inner[1] > 0.0;
        let sides = [self.width, self.height];
        // d(aspect)/d(width) and d(height), from d(atan(w/h)) = (h·dw − w·dh) / (w² + h²).
        let slope = -8.0 / (PI * PI) * self.turn / (self.width * self.width + self.height * self.height);
        let aspect = [slope * self.height, -slope * self.width];
        let mut gradient = [0.0; 4];
        for (corner, slot) in gradient.iter_mut().enumerate() {
            let (axis, far) = (corner % 2, corner >= 2);
            let sign = if far { 1.0 } else { -1.0 };
            let limits = if far { p[corner] < t[corner] } else { p[corner] > t[corner] };
            let d_inner = if overlapping && limits { sign * self.inner[1 - axis] } else { 0.0 };
            let d_union = sign * sides[1 - axis] - d_inner;
            let d_iou = (d_inner * self.union - intersection * d_union) / (self.union * self.union);
            let reaches = if far { p[corner] > t[corner] } else { p[corner] < t[corner] };
            let d_diagonal = if reaches { 2.0 * sign * self.outer[axis] } else { 0.0 };
            let d_distance = -self.apart[axis] / 2.0;
            let d_penalty =
                (d_distance * self.diagonal - self.distance * d_diagonal) / (self.diagonal * self.diagonal);
            *slot = d_iou - d_penalty - self.alpha * sign * aspect[axis];
        }
        gradient
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn boxes() -> impl Strategy<Value = [f64; 4]> {
        (0.0..20.0, 0.0..20.0, 0.5..15.0, 0.5..15.0)
            .prop_map(|(x, y, w, h): (f64, f64, f64, f64)| [x, y, x + w, y + h])
    }

    proptest! {
        #[test]
        fn gradient_of_ciou_is_the_central_difference(p in boxes(), t in boxes()) {
            let (value, gradient) = ciou_gradient(p, t);
            let alpha = Parts::new(p, t).alpha;
            // α is held fixed, as in the gradient.
            let fixed = |p: [f64; 4]| {
                let parts = Parts::new(p, t);
                parts.iou - parts.distance / parts.diagonal - alpha * parts.aspect
            };
            prop_assert!((value - fixed(p)).abs() < 1e-12);
            for corner in 0..4 {
                let step = 1e-6;
                let (mut up, mut down) = (p, p);
                up[corner] += step;
                down[corner] -= step;
                let kink = (0..4).any(|i| (p[i] - t[i]).abs() < 2.0 * step) || (0..2).any(|i| (p[2 + i].min(t[2 + i]) - p[i].max(t[i])).abs() < 2.0 * step);
                let difference = (fixed(up) - fixed(down)) / (2.0 * step);
                prop_assert!(kink || (difference - gradient[corner]).abs() < 1e-6, "{corner}: {difference} is not {}", gradient[corner]);
            }
        }
    }

    #[test]
    fn equal_boxes_overlap_fully() {
        let b = [1.0, 2.0, 5.0, 9.0];
        assert!((ciou(b, b) - 1.0).abs() < 1e-6);
        assert_eq!(iou([0.0, 0.0, 2.0, 2.0], [1.0, 1.0, 3.0, 3.0]), 1.0 / 7.0);
        assert_eq!(iou([0.0; 4], [0.0; 4]), 0.0);
    }
}
