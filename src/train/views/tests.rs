//! Views by drawing: where the colour is, there the box is.

use std::convert::Infallible;

use sha2::{Digest, Sha256};

use super::*;
use proptest::prelude::*;

const SIZE: (usize, usize) = (96, 96);

/// Grey ground with one red rectangle, which is the label.
fn scene(corners: [u32; 4]) -> (Picture, LabelBox) {
    let (width, height) = (120, 80);
    let mut rgb = vec![60; 3 * 120 * 80];
    for y in corners[1]..corners[3] {
        for x in corners[0]..corners[2] {
            let index = 3 * (y * width + x) as usize;
            rgb[index..index + 3].copy_from_slice(&[250, 10, 10]);
        }
    }
    let [x1, y1, x2, y2] = corners.map(|c| c as f32);
    let label = LabelBox {
        class: 0,
        cx: (x1 + x2) / 2.0 / width as f32,
        cy: (y1 + y2) / 2.0 / height as f32,
        w: (x2 - x1) / width as f32,
        h: (y2 - y1) / height as f32,
    };
    (Picture::from_rgb(width, height, rgb), label)
}

/// Draws a view of these pictures.
fn drawn(view: &View, pictures: &[&Picture], size: (usize, usize)) -> Vec<f32> {
    // No picture leaves a pixel as it was.
    let mut target = vec![f32::NAN; 3 * size.0 * size.1];
    let open = |number: usize| Ok::<_, Infallible>(pictures[number].clone());
    view.draw(open, &mut target).unwrap();
    assert!(target.iter().all(|value| (0.0..=1.0).contains(value)), "a pixel is not drawn");
    target
}

/// Extent of what is red in a window of a view, `[x1, y1, x2, y2]` in pixels.
/// The ground is grey, and variations take at most 70 % of the colour away.
fn red_extent(view: &[f32], window: Window) -> Option<[f32; 4]> {
    let plane = SIZE.0 * SIZE.1;
    let inside = |x: usize, y: usize| {
        (window.columns.0..window.columns.1).contains(&x) && (window.rows.0..window.rows.1).contains(&y)
    };
    let red = (0..plane)
        .filter(|&i| inside(i % SIZE.1, i / SIZE.1) && view[i] > 1.15 * view[plane + i] && view[i] > 0.05);
    red.map(|i| ((i % SIZE.1) as f32, (i / SIZE.1) as f32)).fold(None, |extent, (x, y)| {
        let [x1, y1, x2, y2] = extent.unwrap_or([x, y, x + 1.0, y + 1.0]);
        Some([x1.min(x), y1.min(y), x2.max(x + 1.0), y2.max(y + 1.0)])
    })
}

/// A red rectangle within a picture of 120×80.
fn rectangle() -> impl Strategy<Value = [u32; 4]> {
    (0_u32..80, 0_u32..50, 14_u32..40, 14_u32..30)
        .prop_map(|(x, y, w, h)| [x, y, (x + w).min(120), (y + h).min(80)])
}

proptest! {
    #[test]
    fn boxes_follow_what_is_drawn(
        corners in rectangle(), view in 0_u32..40, seed in any::<u64>(), all in any::<bool>(),
    ) {
        let (picture, label) = scene(corners);
        let key = ViewKey {
            sample: &[7; 32], view, seed, turns: if all { Turns::All } else { Turns::Mirror },
        };
        let view = View::new(key, (120, 80), SIZE);
        let target = drawn(&view, &[&picture], SIZE);
        let labels = view.labels(&[&[label]]);
        if let [label] = labels.as_slice() {
            let expected = label.to_pixels(SIZE.1 as u32, SIZE.0 as u32);
            let drawn = red_extent(&target, Window::whole(SIZE)).expect("a box that stays is drawn");
            for (drawn, expected) in drawn.iter().zip(expected) {
                prop_assert!((drawn - expected).abs() <= 1.5, "{drawn} is not {expected}");
            }
        }
    }

    #[test]
    fn boxes_follow_what_is_drawn_in_each_part_of_a_mosaic(
        corners in prop::array::uniform4(rectangle()),
        view in 1_u32..40, seed in any::<u64>(), all in any::<bool>(),
    ) {
        let turns = if all { Turns::All } else { Turns::Mirror };
        let key = ViewKey { sample: &[7; 32], view, seed, turns };
        // The picture of the tile is told by the class of its box.
        let mut scenes = corners.map(scene);
        scenes.iter_mut().enumerate().for_each(|(number, (_, label))| label.class = number as u32);
        let pictures: Vec<&Picture> = scenes.iter().map(|(picture, _)| picture).collect();
        let labels: Vec<&[LabelBox]> = scenes.iter().map(|(_, label)| std::slice::from_ref(label)).collect();
        let view = View::mosaic(key, &[(120, 80); TILES], SIZE);
        let target = drawn(&view, &pictures, SIZE);
        let labels = view.labels(&labels);
        let Kind::Varied { tiles, .. } = &view.kind else { panic!("a mosaic is varied") };
        for (number, tile) in tiles.iter().enumerate() {
            let extent = red_extent(&target, tile.window);
            let sides = |[x1, y1, x2, y2]: [f32; 4]| [x2 - x1, y2 - y1];
            match labels.iter().find(|label| label.class as usize == number) {
                Some(label) => {
                    let expected = label.to_pixels(SIZE.1 as u32, SIZE.0 as u32);
                    let drawn = extent.expect("a box that stays is drawn");
                    for (drawn, expected) in drawn.iter().zip(expected) {
                        prop_assert!((drawn - expected).abs() <= 1.5, "{number}: {drawn} is not {expected}");
                    }
                }
                // What is not labelled is hardly to be seen.
                None => if let Some([w, h]) = extent.map(sides) {
                    let [x1, y1, x2, y2] = corners[number].map(|corner| corner as f32);
                    // The largest gain is 1.5 times 96/80.
                    let whole = 1.8 * 1.8 * (x2 - x1) * (y2 - y1);
                    prop_assert!(w.min(h) < SMALLEST_SEEN || (w - 1.0) * (h - 1.0) < 0.25 * whole, "{w}x{h}");
                },
            }
        }
        // The windows cover the input once.
        let area: usize = tiles.iter().map(|tile| {
            let Window { columns, rows } = tile.window;
            (columns.1 - columns.0) * (rows.1 - rows.0)
        }).sum();
        prop_assert_eq!(area, SIZE.0 * SIZE.1);
    }
}

/// A box narrower than two pixels is dropped; drawing may round it up by one.
const SMALLEST_SEEN: f32 = 3.5;

#[test]
fn a_view_depends_on_its_key_alone() {
    let (picture, label) = scene([20, 20, 60, 50]);
    let draw = |view, seed| {
        let key = ViewKey { sample: &[1; 32], view, seed, turns: Turns::All };
        let view = View::new(key, (120, 80), SIZE);
        (drawn(&view, &[&picture], SIZE), view.labels(&[&[label]]))
    };
    assert_eq!(draw(3, 5), draw(3, 5));
    assert_ne!(draw(3, 5).0, draw(4, 5).0);
    assert_ne!(draw(3, 5).0, draw(3, 6).0);

    let mosaic = |view, seed| {
        let key = ViewKey { sample: &[1; 32], view, seed, turns: Turns::All };
        drawn(&View::mosaic(key, &[(120, 80); TILES], SIZE), &[&picture; TILES], SIZE)
    };
    assert_eq!(mosaic(3, 5), mosaic(3, 5));
    assert_ne!(mosaic(3, 5), mosaic(4, 5));
    assert_ne!(mosaic(3, 5), mosaic(3, 6));
}

/// Features of these views lie in the caches of devices: who changes a view bumps [`VIEWS_VERSION`].
#[test]
fn views_are_what_they_were() {
    let (picture, label) = scene([20, 20, 60, 50]);
    let digest = |view: View, pictures: &[&Picture], labels: &[&[LabelBox]]| -> String {
        let mut hasher = Sha256::new();
        drawn(&view, pictures, (96, 64)).iter().for_each(|value| hasher.update(value.to_le_bytes()));
        for label in view.labels(labels) {
            [label.cx, label.cy, label.w, label.h].iter().for_each(|v| hasher.update(v.to_le_bytes()));
        }
        hasher.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let key = |view, seed, turns| ViewKey { sample: &[1; 32], view, seed, turns };
    for (key, expected) in [
        (key(0, 5, Turns::All), "b7697a3991f10474"),
        (key(1, 5, Turns::None), "cfd05a5a70fc5941"),
        (key(3, 5, Turns::All), "dced2335e43e22e4"),
        (key(7, 9, Turns::Mirror), "268d0f7b7ac31a9d"),
    ] {
        let view = View::new(key, (120, 80), (96, 64));
        assert_eq!(digest(view, &[&picture], &[&[label]]), expected, "{key:?}");
    }
    let mosaic = View::mosaic(key(2, 5, Turns::All), &[(120, 80); TILES], (96, 64));
    assert_eq!(
        digest(mosaic, &[&picture; TILES], &[std::slice::from_ref(&label); TILES]),
        "a2b4e8653221b4d2"
    );
    assert_eq!(VIEWS_VERSION, 2);
}

#[test]
fn mosaics_are_spread_evenly_over_the_varied_views() {
    let chosen = |share: f64| (0..9).filter(|&view| is_mosaic(view, share)).collect::<Vec<u32>>();
    assert!(chosen(0.0).is_empty());
    assert_eq!(chosen(0.5), [2, 4, 6, 8]);
    assert_eq!(chosen(0.25), [4, 8]);
    assert_eq!(chosen(1.0), [1, 2, 3, 4, 5, 6, 7, 8]);
}
