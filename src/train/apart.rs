//! Keeps what is learnt from apart from what is measured on.
//!
//! A candidate that has learnt a hold-out picture by heart is measured better than it is, and it need not be the
//! same file: a frame of the same view a second later, or saved once more, teaches the same. So training pictures
//! that are a hold-out picture again, or nearly, are left out of a run. Pictures that are merely alike are not:
//! neighbours cut from one picture, or frames of a fixed camera on which something has changed
//! ([`crate::picture::ALIKE`]).

use std::collections::HashSet;

use rayon::prelude::*;

use crate::picture::{ALIKE, Levelled};

use super::TrainError;
use super::control::Control;
use super::features::Sample;
use super::thumbnails::Thumbnails;

/// Training samples of which none shows what is held out, and how many were left out for it.
pub(super) struct Apart<'a> {
    pub samples: Vec<Sample<'a>>,
    /// The very files of the hold-out.
    pub same: usize,
    /// Others that show the same view.
    pub alike: usize,
}

impl<'a> Apart<'a> {
    /// Leaves out what is held out too.
    ///
    /// # Errors
    /// When nothing with a box is left, or a picture does not decode.
    pub fn new(
        mut samples: Vec<Sample<'a>>,
        holdout: &[Sample],
        thumbnails: &mut Thumbnails,
        control: &Control,
    ) -> Result<Self, TrainError> {
        let held: HashSet<[u8; 32]> = holdout.iter().map(|sample| sample.hash).collect();
        let all = samples.len();
        samples.retain(|sample| !held.contains(&sample.hash));
        let same = all - samples.len();
        let wanted: Vec<&Sample> = samples.iter().chain(holdout).collect();
        thumbnails.make(&wanted, control)?;
        let levelled = |sample: &Sample| Levelled::of(thumbnails.get(&sample.hash));
        let held: Vec<Levelled> = holdout.iter().map(levelled).collect();
        let is_apart = |sample: &Sample| {
            let own = levelled(sample);
            !held.iter().any(|held| own.is_alike(held, ALIKE))
        };
        let apart: Vec<bool> = samples.par_iter().map(is_apart).collect();
        let mut flags = apart.into_iter();
        samples.retain(|_| flags.next().expect("each sample has a flag"));
        let alike = all - same - samples.len();
        if samples.iter().all(|sample| sample.example.labels.is_empty()) {
            return Err(TrainError::TooLittle(format!(
                "every training picture with a box is in the hold-out as well ({same}) or shows the view of a \
                 hold-out picture ({alike}); keep the two apart: label pictures of other views"
            )));
        }
        Ok(Apart { samples, same, alike })
    }

    /// What was left out, in words; none where nothing was.
    pub fn left_out(&self) -> Option<String> {
        let count = |count: usize, what: &str| match count {
            0 => None,
            1 => Some(format!("1 training picture {}", what.replacen("are", "is", 1))),
            _ => Some(format!("{count} training pictures {what}")),
        };
        let parts = [
            count(self.same, "are in the hold-out as well"),
            count(self.alike, "are nearly the same as a hold-out picture"),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        (!parts.is_empty()).then(|| format!("{}; they are not learnt from", parts.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::{DataSet, Example};
    use crate::label::LabelBox;
    use crate::picture::Picture;
    use std::path::Path;

    fn demo() -> DataSet {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        DataSet::open(&root.join("demo/treecrowns/data.yaml")).unwrap()
    }

    fn apart<'a>(train: &'a [Example], holdout: &'a [Example], root: &Path) -> Result<Apart<'a>, TrainError> {
        let (train, holdout) = (Sample::look_at(train)?, Sample::look_at(holdout)?);
        Apart::new(train, &holdout, &mut Thumbnails::open(root), &Control::new())
    }

    /// The picture as it would be seen from a little further on, in other light.
    fn moved(picture: &Picture, (dx, dy): (i32, i32), light: f32) -> Picture {
        let (width, height) = (picture.width() as i32, picture.height() as i32);
        let mut rgb = Vec::with_capacity(picture.rgb().len());
        for y in 0..height {
            for x in 0..width {
                let (x, y) = ((x + dx).clamp(0, width - 1), (y + dy).clamp(0, height - 1));
                let at = 3 * (y * width + x) as usize;
                let pixel = &picture.rgb()[at..at + 3];
                rgb.extend(pixel.iter().map(|&value| (f32::from(value) * light).min(255.0) as u8));
            }
        }
        Picture::from_rgb(picture.width(), picture.height(), rgb)
    }

    #[test]
    fn neighbours_cut_from_one_picture_are_not_left_out() {
        let (demo, root) = (demo(), tempfile::tempdir().unwrap());
        let apart = apart(&demo.train, &demo.val, root.path()).unwrap();
        assert_eq!((apart.samples.len(), apart.same, apart.alike), (demo.train.len(), 0, 0));
        assert_eq!(apart.left_out(), None);
    }

    #[test]
    fn a_hold_out_picture_moved_saved_again_or_in_other_light_is_left_out() {
        let (demo, root) = (demo(), tempfile::tempdir().unwrap());
        let mut train = demo.train[..3].to_vec();
        for (number, example) in demo.val.iter().enumerate() {
            let picture = Picture::open(&example.picture).unwrap();
            let changed = [
                moved(&picture, (1, 0), 1.0),
                moved(&picture, (-2, 1), 1.0),
                moved(&picture, (0, 0), 1.05),
                moved(&picture, (0, 1), 0.95),
                Picture::decode(&picture.to_jpeg(50).unwrap()).unwrap(),
            ];
            for (way, changed) in changed.iter().enumerate() {
                let path = root.path().join(format!("{number}-{way}.jpg"));
                changed.save(&path).unwrap();
                train.push(Example { picture: path, ..example.clone() });
            }
        }
        train.push(demo.val[0].clone());
        let apart = apart(&train, &demo.val, &root.path().join("cache")).unwrap();
        assert_eq!((apart.samples.len(), apart.same, apart.alike), (3, 1, 5 * demo.val.len()));
        assert_eq!(
            apart.left_out().unwrap(),
            "1 training picture is in the hold-out as well, 30 training pictures are nearly the same as a \
             hold-out picture; they are not learnt from"
        );
    }

    #[test]
    fn a_fixed_camera_on_whose_view_something_has_changed_teaches_on() {
        let root = tempfile::tempdir().unwrap();
        let ground = Picture::open(&demo().train[0].picture).unwrap();
        let example = |name: &str, things: &[[f32; 4]]| {
            let mut picture = ground.clone();
            for corners in things {
                for y in corners[1] as u32..corners[3] as u32 {
                    for x in corners[0] as u32..corners[2] as u32 {
                        let at = 3 * (y * picture.width() + x) as usize;
                        picture.rgb_mut()[at..at + 3].copy_from_slice(&[235, 230, 220]);
                    }
                }
            }
            let path = root.path().join(format!("{name}.png"));
            picture.save(&path).unwrap();
            let label = LabelBox { class: 0, cx: 0.5, cy: 0.5, w: 0.1, h: 0.1 };
            Example { picture: path, labels: vec![label], covers: None }
        };
        let here = [100.0, 100.0, 140.0, 140.0];
        let holdout = [example("empty", &[]), example("one", &[here])];
        let train = [
            example("again", &[[101.0, 99.0, 141.0, 139.0]]),
            example("elsewhere", &[[250.0, 60.0, 290.0, 100.0]]),
            example("two", &[here, [200.0, 300.0, 240.0, 340.0]]),
        ];
        let apart = apart(&train, &holdout, &root.path().join("cache")).unwrap();
        let left: Vec<&Path> = apart.samples.iter().map(|sample| sample.example.picture.as_path()).collect();
        assert_eq!(left, [&train[1].picture, &train[2].picture]);
    }

    #[test]
    fn where_nothing_is_left_the_run_says_what_to_do() {
        let (demo, root) = (demo(), tempfile::tempdir().unwrap());
        let error = apart(&demo.val, &demo.val, root.path()).err().unwrap().to_string();
        assert!(error.contains("hold-out as well (6)") && error.contains("keep the two apart"), "{error}");
    }
}
