//! Features in 8 bits: each channel of a feature map has a lowest value and a step of its own.
//!
//! `q = round((x − low) / step)`, `step = (high − low) / 255`; what comes back is at most half a step
//! away. Ranges are those of one record, so a channel that is quiet on this picture is kept finely
//! whatever it does on others (Jacob et al., "Quantization and training of neural networks for
//! efficient integer-arithmetic-only inference", arXiv 1712.05877, per channel and without a
//! calibration).

/// Bytes of a channel's range: lowest value and step.
const RANGE: usize = 8;

/// A value that is no number, or infinite: it has no place between a lowest and a highest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a feature holds a value that is not finite")]
pub struct NotFinite;

/// Bytes that a feature of so many channels and values takes.
pub fn encoded_len(channels: usize, values: usize) -> usize {
    channels * RANGE + values
}

/// Appends a feature, `[channels, cells]`, to `bytes`.
///
/// # Errors
/// [`NotFinite`]; `bytes` then hold a part of it.
///
/// # Panics
/// When the values can't be parted into channels.
pub fn encode(values: &[f32], channels: usize, bytes: &mut Vec<u8>) -> Result<(), NotFinite> {
    assert!(channels > 0 && values.len().is_multiple_of(channels), "values come in whole channels");
    bytes.reserve(encoded_len(channels, values.len()));
    for channel in values.chunks_exact(values.len() / channels) {
        let (low, high) = channel.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &value| {
            (low.min(value), high.max(value))
        });
        // `min` and `max` pass over NaN, and a range may be too wide for a float.
        let step = (high - low) / 255.0;
        if !step.is_finite() || channel.iter().any(|value| !value.is_finite()) {
            return Err(NotFinite);
        }
        bytes.extend(low.to_le_bytes());
        bytes.extend(step.to_le_bytes());
        let inverse = if step > 0.0 { 1.0 / step } else { 0.0 };
        // A float becomes a byte by rounding towards 0, and what is out of range is cut off.
        bytes.extend(channel.iter().map(|value| ((value - low) * inverse + 0.5) as u8));
    }
    Ok(())
}

/// Reads a feature back; gives what follows it in `bytes`.
///
/// # Panics
/// When `bytes` are shorter than [`encoded_len`].
pub fn decode<'a>(mut bytes: &'a [u8], channels: usize, target: &mut [f32]) -> &'a [u8] {
    let cells = target.len() / channels;
    for channel in target.chunks_exact_mut(cells) {
        let (range, rest) = bytes.split_at(RANGE);
        let (codes, rest) = rest.split_at(cells);
        let number = |at: usize| f32::from_le_bytes([range[at], range[at + 1], range[at + 2], range[at + 3]]);
        let (low, step) = (number(0), number(4));
        for (value, &code) in channel.iter_mut().zip(codes) {
            *value = low + step * f32::from(code);
        }
        bytes = rest;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_comes_back_is_at_most_half_a_step_away(
            channels in prop::collection::vec(
                (-1e3_f32..1e3, 0.0_f32..1e3, prop::collection::vec(0.0_f32..=1.0, 7)), 1..5),
        ) {
            let values: Vec<f32> = channels
                .iter()
                .flat_map(|(low, width, shares)| shares.iter().map(move |share| low + width * share))
                .collect();
            let mut bytes = vec![7];
            encode(&values, channels.len(), &mut bytes).unwrap();
            prop_assert_eq!(bytes.len(), 1 + encoded_len(channels.len(), values.len()));
            bytes.push(9);
            let mut back = vec![f32::NAN; values.len()];
            prop_assert_eq!(decode(&bytes[1..], channels.len(), &mut back), [9]);
            for ((before, after), (low, width, _)) in
                values.chunks(7).zip(back.chunks(7)).zip(&channels)
            {
                let range = before.iter().fold(f32::MIN, |a, &b| a.max(b)) - before.iter().fold(f32::MAX, |a, &b| a.min(b));
                let rounding = (low.abs() + width) * 1e-6;
                for (before, after) in before.iter().zip(after) {
                    prop_assert!((before - after).abs() <= range / 510.0 + rounding, "{before} became {after}");
                }
            }
        }
    }

    #[test]
    fn a_constant_channel_is_exact() {
        let mut bytes = Vec::new();
        encode(&[-0.278, -0.278, 4.0, 4.0], 2, &mut bytes).unwrap();
        let mut back = [0.0; 4];
        decode(&bytes, 2, &mut back);
        assert_eq!(back, [-0.278, -0.278, 4.0, 4.0]);
    }

    #[test]
    fn what_is_not_finite_is_refused() {
        for values in [[0.0, f32::NAN], [f32::NAN; 2], [f32::INFINITY, 0.0], [f32::MAX, f32::MIN]] {
            assert_eq!(encode(&values, 1, &mut Vec::new()), Err(NotFinite), "{values:?}");
        }
    }
}
