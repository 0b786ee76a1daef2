//! Draws boxes and captions into pictures, for people to look at.

use font8x8::UnicodeFonts;

use super::Picture;

/// A colour, red, green, blue.
pub type Colour = [u8; 3];

/// What true boxes are drawn in.
pub const TRUTH: Colour = [255, 255, 255];

/// Colours that can be told apart, on fields and floors alike; classes go round.
const CLASSES: [Colour; 8] = [
    [255, 64, 64],
    [64, 200, 255],
    [255, 200, 0],
    [120, 255, 90],
    [255, 110, 230],
    [255, 140, 30],
    [150, 130, 255],
    [0, 230, 180],
];

/// The colour of a class.
pub fn class_colour(class: u32) -> Colour {
    CLASSES[class as usize % CLASSES.len()]
}

impl Picture {
    /// A picture of one colour.
    pub fn filled(width: u32, height: u32, colour: Colour) -> Self {
        Picture::from_rgb(width, height, colour.repeat(width as usize * height as usize))
    }

    fn set(&mut self, x: i64, y: i64, colour: Colour) {
        if (0..i64::from(self.width)).contains(&x) && (0..i64::from(self.height)).contains(&y) {
            let index = 3 * (y as usize * self.width as usize + x as usize);
            self.rgb[index..index + 3].copy_from_slice(&colour);
        }
    }

    fn fill(&mut self, [x1, y1, x2, y2]: [i64; 4], colour: Colour) {
        for y in y1..y2 {
            for x in x1..x2 {
                self.set(x, y, colour);
            }
        }
    }

    /// Draws a frame of this thickness, pixels; `corners` are `[x1, y1, x2, y2]`.
    pub fn draw_box(&mut self, corners: [f32; 4], thickness: u32, colour: Colour) {
        let [x1, y1, x2, y2] = corners.map(|side| side.round() as i64);
        let t = i64::from(thickness);
        for side in [[x1, y1, x2, y1 + t], [x1, y2 - t, x2, y2], [x1, y1, x1 + t, y2], [x2 - t, y1, x2, y2]] {
            self.fill(side, colour);
        }
    }

    /// Writes a line on a ground of its own, its upper left corner at (`x`, `y`); letters are `scale`
    /// times 8 pixels wide and high.
    pub fn draw_text(&mut self, (x, y): (i64, i64), text: &str, scale: u32, colour: Colour, ground: Colour) {
        let scale = i64::from(scale);
        let width = text.chars().count() as i64 * 8 * scale;
        self.fill([x, y, x + width, y + 8 * scale], ground);
        for (place, letter) in text.chars().enumerate() {
            let glyph = font8x8::BASIC_FONTS
                .get(letter)
                .or_else(|| font8x8::LATIN_FONTS.get(letter))
                .or_else(|| font8x8::BASIC_FONTS.get('?'))
                .unwrap_or([0; 8]);
            for (row, bits) in glyph.iter().enumerate() {
                for column in (0..8).filter(|column| bits >> column & 1 == 1) {
                    let (left, top) = (x + (place as i64 * 8 + column) * scale, y + row as i64 * scale);
                    self.fill([left, top, left + scale, top + scale], colour);
                }
            }
        }
    }

    /// Copies another picture into this one, its upper left corner at (`x`, `y`).
    pub fn paste(&mut self, other: &Picture, x: u32, y: u32) {
        for row in 0..other.height.min(self.height.saturating_sub(y)) {
            let columns = other.width.min(self.width.saturating_sub(x)) as usize;
            let from = 3 * (row * other.width) as usize;
            let to = 3 * ((y + row) * self.width + x) as usize;
            self.rgb[to..to + 3 * columns].copy_from_slice(&other.rgb[from..from + 3 * columns]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_is_drawn_where_it_lies_and_nowhere_else() {
        let mut picture = Picture::filled(20, 10, [0; 3]);
        picture.draw_box([2.0, 3.0, 12.0, 9.0], 1, [9; 3]);
        let lit = picture.rgb().chunks(3).filter(|pixel| pixel == &[9; 3]).count();
        assert_eq!(lit, 2 * 10 + 2 * 6 - 4);
    }

    #[test]
    fn boxes_and_text_beyond_the_border_are_cut_off() {
        let mut picture = Picture::filled(20, 10, [0; 3]);
        picture.draw_box([-50.0, -5.0, 500.0, 50.0], 2, [9; 3]);
        picture.draw_text((-3, 4), "weed é €", 2, [1; 3], [2; 3]);
        picture.paste(&Picture::filled(100, 100, [7; 3]), 15, 5);
        assert_eq!(&picture.rgb()[3 * (9 * 20 + 19)..], [7; 3]);
    }
}
