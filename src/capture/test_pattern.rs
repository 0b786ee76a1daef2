//! A drawn picture that moves: a device without a camera has something to show at its first start.

use std::time::SystemTime;

use crate::picture::{Picture, class_colour};

use super::{CaptureError, Frame, Image, Next, Source, Wishes};

/// The same frames in the same order each time.
#[derive(Debug)]
pub(super) struct TestPattern {
    width: u32,
    height: u32,
    frame: u64,
}

impl TestPattern {
    pub fn new(wishes: &Wishes) -> Self {
        TestPattern { width: wishes.width, height: wishes.height, frame: 0 }
    }

    fn draw(&self) -> Picture {
        let (width, height) = (self.width as usize, self.height as usize);
        let mut rgb = Vec::with_capacity(width * height * 3);
        for y in 0..height {
            for x in 0..width {
                rgb.extend([(x * 255 / width) as u8 / 2, (y * 255 / height) as u8 / 2, 90]);
            }
        }
        let mut picture = Picture::from_rgb(self.width, self.height, rgb);
        let side = self.width.min(self.height) as f32 / 5.0;
        for which in 0..3u32 {
            // Each box goes round at a pace of its own.
            let angle = self.frame as f32 * (0.05 + 0.03 * which as f32) + 2.1 * which as f32;
            let cx = self.width as f32 * (0.5 + 0.35 * angle.cos());
            let cy = self.height as f32 * (0.5 + 0.35 * angle.sin());
            let corners = [cx - side / 2.0, cy - side / 2.0, cx + side / 2.0, cy + side / 2.0];
            picture.draw_box(corners, (side / 2.0) as u32, class_colour(which));
        }
        picture
    }
}

impl Source for TestPattern {
    fn next(&mut self) -> Result<Next, CaptureError> {
        let image = Image::Pixels(self.draw());
        self.frame += 1;
        let source = format!("test {}", self.frame);
        Ok(Next::Frame(Frame { image, taken: SystemTime::now(), source }))
    }

    fn describe(&self) -> String {
        format!("a drawn picture, {}×{}", self.width, self.height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_moves_and_is_the_same_each_time() {
        let wishes = Wishes { width: 64, height: 48, fps: 1.0, repeat: false, watch: false };
        let frames = || {
            let mut pattern = TestPattern::new(&wishes);
            [(); 3].map(|()| match pattern.next().expect("drawn") {
                Next::Frame(frame) => frame.image,
                _ => panic!("it never ends"),
            })
        };
        let first = frames();
        assert_eq!(first, frames());
        assert!(first[0] != first[1] && first[1] != first[2]);
    }
}
