//! What a bootstrap says about a difference: how surely it is not luck, and how many more pictures it
//! would take to tell.

/// Degrees of freedom above which Student's t is taken as it is here: it hardly moves any more.
const MOST_FREEDOM: usize = 1000;

/// More pictures than this are nothing to ask a person for.
const MOST_PICTURES: usize = 10_000;

/// Evidence for a difference above zero.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Evidence {
    /// How surely the difference is above zero, 0 to 1; half when nothing is known.
    pub confidence: f64,
    /// Pictures that it rests on.
    pub pictures: usize,
    /// Standard deviation of what one picture contributes.
    deviation: f64,
}

impl Evidence {
    /// From the differences on resamples of so many pictures; resamples in which there was nothing to
    /// measure say nothing.
    ///
    /// At its heart is the share of resamples with a difference above zero; a tie counts half. With
    /// few pictures that share is too sure of itself, in two ways. Resamples vary less than pictures
    /// do, by √((n−1)/n), and their spread is itself an estimate, so that Student's t stands where the
    /// normal curve would: the share is corrected for both, as in the "expanded percentile" interval
    /// (Hesterberg, "What Teachers Should Know About the Bootstrap", The American Statistician 69(4),
    /// 2015, section 4). And it is 1 as soon as all pictures point the same way, be they but one,
    /// although n fair coins all fall so once in 2ⁿ: no confidence goes beyond 1 − 2⁻ⁿ (the sign test).
    pub fn new(differences: impl Iterator<Item = f64>, pictures: usize) -> Self {
        let values: Vec<f64> = differences.collect();
        let count = values.len() as f64;
        if values.is_empty() || pictures == 0 {
            return Evidence { confidence: 0.5, pictures, deviation: 0.0 };
        }
        let above = |value: &f64| if *value > 0.0 { 1.0 } else { f64::from(u8::from(*value == 0.0)) / 2.0 };
        let share = values.iter().map(above).sum::<f64>() / count;
        let mean = values.iter().sum::<f64>() / count;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
        let n = pictures as f64;
        // A share of 0 or 1 out of so many resamples is taken half a resample away from it.
        let share = share.clamp(0.5 / count, 1.0 - 0.5 / count);
        let limit = sign_limit(pictures);
        let corrected = match pictures {
            1 => share,
            _ => student(normal_quantile(share) * ((n - 1.0) / n).sqrt(), pictures - 1),
        };
        Evidence {
            confidence: corrected.clamp(1.0 - limit, limit),
            pictures,
            deviation: if pictures > 1 { variance.sqrt() * n / (n - 1.0).sqrt() } else { 0.0 },
        }
    }

    /// How many more pictures of the same kind would show a difference of this size with this
    /// confidence: the normal approximation n·((z·σ/Δ)² − 1), with Student's t for z and the sign
    /// test's limit. None where it would take more than anybody labels.
    pub fn more_pictures(&self, difference: f64, confidence: f64) -> Option<usize> {
        let tells = |pictures: usize| {
            let t = difference * (pictures as f64).sqrt() / self.deviation.max(f64::MIN_POSITIVE);
            sign_limit(pictures) >= confidence && student(t, pictures - 1) >= confidence
        };
        let least = self.pictures.max(1) + 1;
        if !tells(self.pictures + MOST_PICTURES) {
            return None;
        }
        // It only becomes easier with more of them.
        let (mut low, mut high) = (least, self.pictures + MOST_PICTURES);
        while low < high {
            let middle = low.midpoint(high);
            (low, high) = if tells(middle) { (low, middle) } else { (middle + 1, high) };
        }
        Some(low - self.pictures)
    }
}

/// The surest that so many pictures can make anybody: all of them fall the same way by chance once in
/// 2ⁿ.
fn sign_limit(pictures: usize) -> f64 {
    1.0 - 0.5_f64.powi(pictures.min(MOST_FREEDOM) as i32)
}

/// Distribution function of Student's t for a whole number of degrees of freedom, at least one, as a
/// finite sum (Abramowitz and Stegun, "Handbook of Mathematical Functions", 26.7.3 and 26.7.4).
fn student(t: f64, freedom: usize) -> f64 {
    let freedom = freedom.min(MOST_FREEDOM);
    let angle = (t / (freedom as f64).sqrt()).atan();
    let (sine, cosine) = angle.sin_cos();
    let is_odd = freedom % 2 == 1;
    // Both sums go on by cos² times k/(k+1), with k from 1 or from 2.
    let (mut term, mut k) = if is_odd { (cosine, 2.0) } else { (1.0, 1.0) };
    let mut sum = 0.0;
    for _ in 0..freedom / 2 {
        sum += term;
        term *= cosine * cosine * k / (k + 1.0);
        k += 2.0;
    }
    let inside = if is_odd { (angle + sine * sum) * std::f64::consts::FRAC_2_PI } else { sine * sum };
    0.5 + inside / 2.0
}

/// Quantile of the normal distribution, to 4.5e-4 (Abramowitz and Stegun, 26.2.23): a share of a
/// thousand resamples is not known better.
fn normal_quantile(share: f64) -> f64 {
    let tail = share.min(1.0 - share);
    let t = (-2.0 * tail.ln()).sqrt();
    let above = 2.515517 + t * (0.802853 + t * 0.010328);
    let below = 1.0 + t * (1.432788 + t * (0.189269 + t * 0.001308));
    let quantile = t - above / below;
    // The approximation leaves 4e-4 in the middle, where a tie must be a tie.
    match share.total_cmp(&0.5) {
        std::cmp::Ordering::Less => -quantile,
        std::cmp::Ordering::Equal => 0.0,
        std::cmp::Ordering::Greater => quantile,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distributions_are_those_of_the_tables() {
        // Critical values as any statistics book prints them.
        for (freedom, t, share) in [
            (1, 3.078, 0.9),
            (1, 6.314, 0.95),
            (2, 1.886, 0.9),
            (3, 2.353, 0.95),
            (4, 1.533, 0.9),
            (5, 2.571, 0.975),
            (10, 1.372, 0.9),
            (30, 2.750, 0.995),
            (120, 1.658, 0.95),
        ] {
            assert!((student(t, freedom) - share).abs() < 1e-4, "t of {freedom}: {}", student(t, freedom));
            assert!((student(-t, freedom) - 1.0 + share).abs() < 1e-4);
        }
        for (share, z) in [(0.5, 0.0), (0.9, 1.2816), (0.975, 1.9600), (0.01, -2.3263), (0.9995, 3.2905)] {
            assert!((normal_quantile(share) - z).abs() < 5e-4, "{share}: {}", normal_quantile(share));
        }
        assert!((student(1.2816, 1_000_000) - 0.9).abs() < 2e-4);
    }

    #[test]
    fn a_few_pictures_are_never_enough() {
        let sure = |pictures| Evidence::new(std::iter::repeat_n(0.1, 1000), pictures).confidence;
        assert_eq!([1, 2].map(sure), [0.5, 0.75]);
        assert!(sure(3) < 0.9 && sure(4) >= 0.9 && sure(40) > 0.99, "{} {} {}", sure(3), sure(4), sure(40));
        assert_eq!(Evidence::new(std::iter::empty(), 5).confidence, 0.5);
        assert_eq!(Evidence::new(std::iter::repeat_n(0.0, 1000), 5).confidence, 0.5);
    }

    #[test]
    fn what_speaks_for_one_speaks_against_the_other() {
        let differences = [0.3, -0.1, 0.2, 0.0, 0.4, -0.2, 0.1];
        let one = Evidence::new(differences.into_iter(), 6).confidence;
        let other = Evidence::new(differences.into_iter().map(|value| -value), 6).confidence;
        assert!((one + other - 1.0).abs() < 1e-12 && one > 0.5, "{one} {other}");
    }

    #[test]
    fn more_pictures_tell_more() {
        // One picture deviates by 0.2: 100 of them make a mean of 0.02 one standard deviation wide.
        let draws = (0..1000).map(|index| 0.02 + 0.02 * normal_quantile((f64::from(index) + 0.5) / 1000.0));
        let evidence = Evidence::new(draws, 100);
        assert!((evidence.confidence - 0.84).abs() < 0.01, "{evidence:?}");
        // n·((z·σ/Δ)² − 1) = 100·(1.28² − 1).
        let more = evidence.more_pictures(0.02, 0.9).unwrap();
        assert!((62..=70).contains(&more), "{more}");
        assert!(evidence.more_pictures(0.02, 0.95).unwrap() > more);
        assert!(evidence.more_pictures(0.01, 0.9).unwrap() > 4 * more);
        assert_eq!(evidence.more_pictures(1e-5, 0.9), None);
        assert_eq!(evidence.more_pictures(-0.1, 0.9), None);
        // However clear it looks on one picture, four must agree.
        assert_eq!(Evidence::new(std::iter::repeat_n(0.3, 10), 1).more_pictures(0.3, 0.9), Some(3));
    }
}
