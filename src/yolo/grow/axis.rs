//! Where the classes lie in a value, and where its positions go when their number changes.

/// How many classes there were and how many there will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    /// In the file.
    pub old: usize,
    /// Wanted.
    pub new: usize,
}

/// The axis of a value on which classes lie: some channels of another kind (boxes), the classes, some
/// more of another kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ClassAxis {
    /// Axes of the value.
    pub rank: usize,
    /// The one with the classes.
    pub axis: usize,
    /// Channels before them.
    pub before: usize,
    /// Channels behind them.
    pub after: usize,
    /// Whether cells and classes share the axis: position = cell · classes + class.
    pub flat: bool,
}

impl ClassAxis {
    /// A raw class map, `[batch, classes, height, width]`.
    pub fn of_map() -> Self {
        ClassAxis { rank: 4, axis: 1, before: 0, after: 0, flat: false }
    }

    /// The rows of a kernel or a bias.
    pub fn of_rows() -> Self {
        ClassAxis { axis: 0, ..ClassAxis::of_map() }
    }

    /// Length of the axis with so many classes. Meaningless when it is shared with cells.
    pub fn length(&self, classes: usize) -> usize {
        self.before + classes + self.after
    }

    /// Whether nothing but classes lies on the axis, and it is the last.
    pub fn is_minor(&self) -> bool {
        self.axis + 1 == self.rank && self.before == 0 && self.after == 0
    }

    /// What a length of this axis becomes.
    pub fn resized(&self, length: usize, counts: Counts) -> Option<usize> {
        if self.flat {
            return length.is_multiple_of(counts.old).then(|| length / counts.old * counts.new);
        }
        (length == self.length(counts.old)).then(|| self.length(counts.new))
    }

    /// What a boundary on this axis becomes; none when it parts one class from another. A negative
    /// position counts from the end, and what lies beyond the end stays there.
    pub fn moved(&self, position: i64, counts: Counts) -> Option<i64> {
        let (old, new) = (self.length(counts.old) as i64, self.length(counts.new) as i64);
        let from_end = position < 0;
        let absolute = if from_end { position + old } else { position };
        if self.flat || absolute < 0 || absolute > old {
            return Some(position);
        }
        let (before, behind) = (self.before as i64, (self.before + counts.old) as i64);
        let absolute = match absolute {
            at if at <= before => at,
            at if at >= behind => at + new - old,
            _ => return None,
        };
        Some(if from_end { absolute - new } else { absolute })
    }

    /// What is left of the axis between two boundaries: none when no class is.
    pub fn part(&self, start: usize, end: usize, counts: Counts) -> Option<Self> {
        let behind = self.before + counts.old;
        (start <= self.before && end >= behind).then(|| ClassAxis {
            before: self.before - start,
            after: end.min(self.length(counts.old)) - behind,
            ..*self
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOXES_FIRST: ClassAxis = ClassAxis { rank: 3, axis: 1, before: 4, after: 0, flat: false };
    const COUNTS: Counts = Counts { old: 3, new: 5 };

    #[test]
    fn boundaries_move_with_the_classes() {
        let moved = [0, 4, 7, -3, -7, i64::MAX, 5].map(|position| BOXES_FIRST.moved(position, COUNTS));
        assert_eq!(moved, [Some(0), Some(4), Some(9), Some(-5), Some(-9), Some(i64::MAX), None], "{moved:?}");
    }

    #[test]
    fn a_part_knows_what_is_left_beside_the_classes() {
        assert_eq!(BOXES_FIRST.part(0, 4, COUNTS), None);
        let classes = BOXES_FIRST.part(4, usize::MAX, COUNTS).unwrap();
        assert_eq!((classes.before, classes.after), (0, 0));
    }
}
