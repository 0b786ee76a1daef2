//! How the learning rate and the average of the weights move over a run.

use crate::grad::Schedule;

use super::options::TrainOptions;

/// Gradients longer than this are scaled down.
const CLIP_NORM: f64 = 10.0;

/// Share of the peak that the learning rate falls to.
const FINAL_SHARE: f64 = 0.01;

/// The longest memory of the average of the weights.
const EMA_DECAY: f64 = 0.999;

/// The course of a run of so many steps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Course {
    steps: u64,
    warm_up: u64,
    lr: f64,
    weight_decay: f64,
    /// Steps that the last layers learn alone.
    alone: u64,
    before_last: f64,
}

impl Course {
    /// `lr` is the peak.
    pub fn new(options: &TrainOptions, lr: f64, steps_per_epoch: usize) -> Self {
        let steps = u64::from(options.epochs) * steps_per_epoch as u64;
        Course {
            // Three epochs as YOLO training has it, but on few pictures not most of the run.
            warm_up: (3 * steps_per_epoch as u64).min(steps / 10).max(1),
            alone: alone(options, steps_per_epoch as u64, steps),
            ..Course::of_steps(options, lr, steps)
        }
    }

    /// A course of so many steps, a tenth of them to warm up.
    pub fn of_steps(options: &TrainOptions, lr: f64, steps: u64) -> Self {
        Course {
            steps,
            warm_up: (steps / 10).max(1),
            lr,
            weight_decay: options.weight_decay,
            alone: alone(options, 1, steps),
            before_last: options.lr_before_last,
        }
    }

    /// The factor of the learning rate at step `t`, from 0, for all that stands before the last layers.
    /// Where these have learnt alone, the others warm up as everything does at the start.
    pub fn before_last(&self, t: u64) -> f64 {
        match t.checked_sub(self.alone) {
            None => 0.0,
            Some(since) if self.alone > 0 && since < self.warm_up => {
                self.before_last * (since + 1) as f64 / self.warm_up as f64
            }
            Some(_) => self.before_last,
        }
    }

    /// The settings of step `t`, from 0: the learning rate rises in a line, then falls along half a
    /// cosine (Loshchilov & Hutter, "SGDR", arXiv 1608.03983).
    pub fn at(&self, t: u64) -> Schedule {
        let share = if t < self.warm_up {
            (t + 1) as f64 / self.warm_up as f64
        } else {
            let progress = (t - self.warm_up) as f64 / (self.steps - self.warm_up).max(1) as f64;
            let cosine = (1.0 + (std::f64::consts::PI * progress.min(1.0)).cos()) / 2.0;
            FINAL_SHARE + (1.0 - FINAL_SHARE) * cosine
        };
        Schedule {
            lr: self.lr * share,
            weight_decay: self.weight_decay,
            clip_norm: CLIP_NORM,
            // Young averages forget fast, so that the untrained start does not linger.
            ema_decay: EMA_DECAY.min((1 + t) as f64 / (10 + t) as f64),
        }
    }
}

/// Steps that the last layers learn alone: long enough to find their level, but never so long that the
/// others come too late.
fn alone(options: &TrainOptions, steps_per_epoch: u64, steps: u64) -> u64 {
    if options.last_alone { steps_per_epoch.max(steps.div_ceil(20)).min(steps / 4) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_learning_rate_rises_to_its_peak_and_falls_to_its_end() {
        let options = TrainOptions { epochs: 50, ..TrainOptions::default() };
        let course = Course::new(&options, 0.1, 4);
        let rates: Vec<f64> = (0..200).map(|t| course.at(t).lr).collect();
        let peak = rates.iter().position(|&lr| lr == 0.1).unwrap();
        assert_eq!(peak, 11, "three epochs of four steps");
        assert!(rates[..=peak].is_sorted() && rates[peak + 1..].is_sorted_by(|a, b| a >= b));
        assert!((rates[199] - 0.001).abs() < 1e-4);
    }

    #[test]
    fn a_short_run_warms_up_for_a_tenth() {
        let options = TrainOptions { epochs: 5, ..TrainOptions::default() };
        let course = Course::new(&options, 1.0, 4);
        assert_eq!(course.warm_up, 2);
    }

    #[test]
    fn the_last_layers_learn_alone_at_first() {
        let options = TrainOptions { epochs: 40, lr_before_last: 0.5, ..TrainOptions::default() };
        let course = Course::new(&options, 0.1, 4);
        let factors: Vec<f64> = (0..160).map(|t| course.before_last(t)).collect();
        assert_eq!(factors.iter().filter(|&&factor| factor == 0.0).count(), 8, "a twentieth");
        assert!(factors.is_sorted() && factors[8] > 0.0 && factors[20] == 0.5);

        let together = TrainOptions { last_alone: false, ..options };
        assert_eq!(Course::new(&together, 0.1, 4).before_last(0), 0.5);
        let short = TrainOptions { epochs: 1, ..TrainOptions::default() };
        assert_eq!(
            Course::new(&short, 0.1, 4).before_last(2),
            short.lr_before_last,
            "a quarter of a run at most"
        );
    }
}
