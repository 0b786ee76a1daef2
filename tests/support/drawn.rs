//! Data sets of drawn pictures: bright rectangles, a colour per class, on noisy ground.

use std::path::{Path, PathBuf};

use graftd::picture::Picture;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const COLOURS: [[u8; 3]; 3] = [[230, 60, 50], [60, 210, 80], [70, 90, 240]];

/// Writes a YOLO folder; gives its `data.yaml`. At most three classes are drawn.
pub fn data_set(folder: &Path, classes: &[&str], train: usize, val: usize, side: u32) -> PathBuf {
    let mut random = ChaCha8Rng::seed_from_u64(5);
    for (split, count) in [("train", train), ("val", val)] {
        for name in ["images", "labels"] {
            std::fs::create_dir_all(folder.join(name).join(split)).unwrap();
        }
        for index in 0..count {
            let (picture, labels) = drawn(&mut random, classes.len().min(3), side);
            picture.save(&folder.join(format!("images/{split}/{index:03}.png"))).unwrap();
            std::fs::write(folder.join(format!("labels/{split}/{index:03}.txt")), labels).unwrap();
        }
    }
    let names: String = classes.iter().map(|name| format!("  - {name:?}\n")).collect();
    let yaml = folder.join("data.yaml");
    std::fs::write(&yaml, format!("train: images/train\nval: images/val\nnames:\n{names}")).unwrap();
    yaml
}

fn drawn(random: &mut ChaCha8Rng, classes: usize, side: u32) -> (Picture, String) {
    let noise = (0..side * side * 3).map(|_| random.random_range(80..130)).collect();
    let mut picture = Picture::from_rgb(side, side, noise);
    let mut labels = String::new();
    for place in 0..random.random_range(2..5u32) {
        let class = random.random_range(0..classes);
        let [w, h] = [0, 1].map(|_| random.random_range(side / 6..side / 3));
        // One in each quarter, so that none hides another.
        let corner = |half: u32, length: u32, random: &mut ChaCha8Rng| {
            half * side / 2 + random.random_range(0..side / 2 - length)
        };
        let (x, y) = (corner(place % 2, w, random), corner(place / 2, h, random));
        for row in y..y + h {
            for column in x..x + w {
                let at = ((row * side + column) * 3) as usize;
                picture.rgb_mut()[at..at + 3].copy_from_slice(&COLOURS[class]);
            }
        }
        let share = |low: u32, length: u32| f64::from(2 * low + length) / f64::from(2 * side);
        let size = |length: u32| f64::from(length) / f64::from(side);
        labels += &format!("{class} {} {} {} {}\n", share(x, w), share(y, h), size(w), size(h));
    }
    (picture, labels)
}
