//! Binary cross-entropy of logits against 0, or against another network's, with its gradient, in
//! loops that vectorise.
//!
//! Nearly all of the criterion's time is spent on these `anchors × classes` numbers (672,000 for a
//! picture of 640 pixels and 80 classes), and nearly all of their targets are 0. `exp` and `ln` of
//! the standard library are calls that no compiler vectorises; the polynomials here are, and are
//! good to a few units in the last place where they are used.

/// `Σ ln(1 + eᶻ)`; each logit's gradient, times `scale`, goes into `gradients`.
pub(super) fn cross_entropy(logits: &[f32], scale: f32, gradients: &mut [f32]) -> f64 {
    const LANES: usize = 16;
    const BLOCK: usize = 64 * LANES;
    let mut sum = 0.0;
    for (logits, gradients) in logits.chunks(BLOCK).zip(gradients.chunks_mut(BLOCK)) {
        let mut lanes = [0.0_f32; LANES];
        let (whole, rest) = logits.as_chunks::<LANES>();
        let (whole_gradients, rest_gradients) = gradients.as_chunks_mut::<LANES>();
        for (z, g) in whole.iter().zip(whole_gradients) {
            for lane in 0..LANES {
                let (loss, sigmoid) = softplus_and_sigmoid(z[lane]);
                lanes[lane] += loss;
                g[lane] = sigmoid * scale;
            }
        }
        sum += lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>();
        for (&z, g) in rest.iter().zip(rest_gradients) {
            let (loss, sigmoid) = softplus_and_sigmoid(z);
            sum += f64::from(loss);
            *g = sigmoid * scale;
        }
    }
    sum
}

/// Cross-entropy against the probabilities `p` of another network's logits, `Σ ln(1 + eᶻ) − p·z`;
/// each logit's gradient, `σ(z) − p` times `scale`, goes into `gradients`.
pub(super) fn cross_entropy_with(logits: &[f32], teacher: &[f32], scale: f32, gradients: &mut [f32]) -> f64 {
    const BLOCK: usize = 1024;
    let mut sum = 0.0;
    let blocks = logits.chunks(BLOCK).zip(teacher.chunks(BLOCK)).zip(gradients.chunks_mut(BLOCK));
    for ((logits, teacher), gradients) in blocks {
        let mut terms = [0.0_f32; BLOCK];
        for (((&z, &t), g), term) in logits.iter().zip(teacher).zip(gradients).zip(&mut terms) {
            let (loss, sigmoid) = softplus_and_sigmoid(z);
            let (_, probability) = softplus_and_sigmoid(t);
            *term = loss - probability * z;
            *g = (sigmoid - probability) * scale;
        }
        sum += terms[..logits.len()].iter().map(|&term| f64::from(term)).sum::<f64>();
    }
    sum
}

/// The logistic function.
pub(super) fn sigmoid(z: f32) -> f32 {
    softplus_and_sigmoid(z).1
}

/// `ln(1 + eᶻ)` and `1 / (1 + e⁻ᶻ)`, by way of `e = e^(−|z|)`, which can't overflow.
#[inline(always)]
fn softplus_and_sigmoid(z: f32) -> (f32, f32) {
    let e = exp_of_negative(-z.abs());
    let inverse = 1.0 / (1.0 + e);
    let sigmoid = if z >= 0.0 { inverse } else { e * inverse };
    (z.max(0.0) + ln_1p_of_unit(e), sigmoid)
}

/// `eˣ` for x ≤ 0: `2ⁿ · e^r` with `n` the nearest integer to x/ln 2, and a polynomial in r
/// (Cephes' `expf`). Below −87 it is about 1e-38, as good as 0 here.
#[inline(always)]
fn exp_of_negative(x: f32) -> f32 {
    // Adding and taking away 1.5·2²³ rounds to an integer without a call.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts, so that n·ln 2 is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.max(-87.0);
    let n = (x * std::f32::consts::LOG2_E + ROUND) - ROUND;
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    let mut p = 1.987_569_2e-4;
    for c in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = p * r + c;
    }
    let e = p * r * r + r + 1.0;
    let power = f32::from_bits(((n as i32 + 127) << 23) as u32);
    e * power
}

/// `ln(1 + e)` for 0 ≤ e ≤ 1: `2·artanh(s)` with `s = e / (2 + e) ≤ 1/3`, whose series converges
/// fast (the first term left out is below 2e-8 of the sum).
#[inline(always)]
fn ln_1p_of_unit(e: f32) -> f32 {
    let s = e / (2.0 + e);
    let q = s * s;
    let mut p = 2.0 / 15.0;
    for c in [2.0 / 13.0, 2.0 / 11.0, 2.0 / 9.0, 2.0 / 7.0, 2.0 / 5.0, 2.0 / 3.0, 2.0] {
        p = p * q + c;
    }
    p * s
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn polynomials_agree_with_the_standard_library(z in -120.0_f32..120.0) {
            let (softplus, sigmoid) = softplus_and_sigmoid(z);
            let exact = f64::from(z);
            let expected = [exact.max(0.0) + (-exact.abs()).exp().ln_1p(), 1.0 / (1.0 + (-exact).exp())];
            for (found, expected) in [softplus, sigmoid].into_iter().zip(expected) {
                let error = (f64::from(found) - expected).abs();
                prop_assert!(error <= 3e-7 * expected.abs() + 1e-37, "{z}: {found} is not {expected}");
            }
        }

        #[test]
        fn another_networks_probabilities_are_targets(
            pairs in prop::collection::vec((-9.0_f32..9.0, -9.0_f32..9.0), 0..2100),
        ) {
            let (logits, teacher): (Vec<f32>, Vec<f32>) = pairs.iter().copied().unzip();
            let mut gradients = vec![f32::NAN; logits.len()];
            let sum = cross_entropy_with(&logits, &teacher, 0.5, &mut gradients);
            let probability = |z: f32| 1.0 / (1.0 + (-f64::from(z)).exp());
            let term = |&(z, t): &(f32, f32)| f64::from(z).exp().ln_1p() - probability(t) * f64::from(z);
            let expected: f64 = pairs.iter().map(term).sum();
            prop_assert!((sum - expected).abs() <= 1e-5 * pairs.len() as f64);
            for (&(z, t), &gradient) in pairs.iter().zip(&gradients) {
                prop_assert!((f64::from(gradient) - 0.5 * (probability(z) - probability(t))).abs() < 1e-6);
            }
            // The teacher itself has nothing to learn from itself.
            cross_entropy_with(&teacher, &teacher, 0.5, &mut gradients);
            prop_assert!(gradients.iter().all(|&gradient| gradient == 0.0));
        }

        #[test]
        fn sums_and_gradients_cover_every_length(logits in prop::collection::vec(-9.0_f32..9.0, 0..2100)) {
            let mut gradients = vec![f32::NAN; logits.len()];
            let sum = cross_entropy(&logits, 0.5, &mut gradients);
            let expected: f64 = logits.iter().map(|&z| f64::from(z).exp().ln_1p()).sum();
            prop_assert!((sum - expected).abs() <= 1e-6 * expected + 1e-12);
            for (&z, &gradient) in logits.iter().zip(&gradients) {
                prop_assert!((gradient - 0.5 / (1.0 + (-z).exp())).abs() < 1e-6);
            }
        }
    }
}
