//! The head's way forward: from features to raw maps, whole or where they matter.
//!
//! Most of a head's arithmetic makes boxes, and boxes are read at few anchors: those that may answer for an object
//! when a step is taken, and those where a class is likely when objects are looked for. So classes are made first
//! and whole, and boxes then at these places; where there are too many of them, or where the runtime can't count
//! them, everything is made whole.

use crate::grad::Compiled;
use crate::runtime::{Runtime, Session, SessionOptions, Value};
use crate::yolo::cut::{MapSource, level_of_boxes};
use crate::yolo::maps::RawMaps;

use super::TrainError;
use super::head::Batch;

/// Up to this share of the anchors, boxes are made at the places that matter alone.
const FEW: f64 = 0.5;

/// Which cells matter: per level, for each picture and cell, `[batch · cells]`.
pub(super) type Places = Vec<Vec<bool>>;

/// The graphs.
pub(super) struct Forward {
    whole: Box<dyn Session>,
    few: Option<Few>,
    maps: Vec<(MapSource, MapSource)>,
    /// Features that the graphs take; those behind are raw maps already.
    n_inputs: usize,
    /// Pictures that go through at once.
    part: usize,
    /// Box maps that nobody uses now.
    spare: Vec<Vec<f32>>,
}

/// Classes first, then boxes at some places.
struct Few {
    rest: Box<dyn Session>,
    at: Box<dyn Session>,
}

/// What came out.
pub(super) struct Maps {
    /// By the head's outputs; none of those that are boxes at some places.
    outputs: Vec<Option<Value>>,
    stash: Vec<Value>,
    /// Per level the boxes at some places, not a number elsewhere; empty where the whole map is an output.
    boxes: Vec<Vec<f32>>,
}

impl Maps {
    /// The maps alone, for whom no way back follows.
    pub fn without_stash(self) -> Self {
        Maps { stash: Vec::new(), ..self }
    }

    /// What the way back reads.
    pub fn stash(&self) -> &[Value] {
        &self.stash
    }
}

/// Whether so few places are marked that boxes are made there alone.
pub fn are_few(places: &[Vec<bool>]) -> bool {
    let marked = places.iter().flatten().filter(|&&marked| marked).count();
    marked as f64 <= FEW * places.iter().map(Vec::len).sum::<usize>() as f64
}

impl Forward {
    /// Loads the graphs for `part` pictures at once.
    pub fn load(
        compiled: &Compiled,
        maps: &[(MapSource, MapSource)],
        n_inputs: usize,
        part: usize,
        runtime: &dyn Runtime,
        options: &SessionOptions,
    ) -> Result<Self, TrainError> {
        let few = match &compiled.forward_at {
            Some(graphs) => Some(Few {
                rest: runtime.load(&graphs.rest.encode(), options)?,
                at: runtime.load(&graphs.at.encode(), options)?,
            }),
            None => None,
        };
        let whole = runtime.load(&compiled.forward.encode(), options)?;
        Ok(Forward { whole, few, maps: maps.to_vec(), n_inputs, part, spare: Vec::new() })
    }

    /// Whole maps.
    pub fn whole(&mut self, compiled: &Compiled, batch: &Batch, weights: &Value) -> Result<Maps, TrainError> {
        let inputs: Vec<&Value> = batch.features[..self.n_inputs].iter().chain([weights]).collect();
        let mut outputs = self.whole.run(&inputs)?;
        let stash = outputs.split_off(compiled.n_outputs);
        Ok(Maps { outputs: outputs.into_iter().map(Some).collect(), stash, boxes: Vec::new() })
    }

    /// Boxes at `places`, as long as they are few.
    pub fn at(
        &mut self,
        compiled: &Compiled,
        batch: &Batch,
        weights: &Value,
        places: &Places,
    ) -> Result<Maps, TrainError> {
        if self.few.is_none() || !are_few(places) {
            return self.whole(compiled, batch, weights);
        }
        let maps = self.classes(compiled, batch, weights)?;
        self.with_boxes(compiled, batch, weights, maps, places)
    }

    /// Boxes at the places that `wanted` finds by the class maps, as long as they are few.
    pub fn where_likely(
        &mut self,
        compiled: &Compiled,
        batch: &Batch,
        weights: &Value,
        wanted: impl FnOnce(&[&[f32]]) -> Places,
    ) -> Result<Maps, TrainError> {
        if self.few.is_none() {
            return self.whole(compiled, batch, weights);
        }
        let maps = self.classes(compiled, batch, weights)?;
        let places = wanted(&self.raw(batch, &maps).classes);
        if !are_few(&places) {
            return self.whole(compiled, batch, weights);
        }
        self.with_boxes(compiled, batch, weights, maps, &places)
    }

    /// All but the boxes.
    fn classes(&mut self, compiled: &Compiled, batch: &Batch, weights: &Value) -> Result<Maps, TrainError> {
        let (few, graphs) =
            self.few.as_mut().zip(compiled.forward_at.as_ref()).expect("the caller has looked");
        let inputs: Vec<&Value> = batch.features[..self.n_inputs].iter().chain([weights]).collect();
        let mut made = few.rest.run(&inputs)?.into_iter();
        let outputs = (0..compiled.n_outputs).map(|output| match graphs.covers(output) {
            true => None,
            false => made.next(),
        });
        Ok(Maps { outputs: outputs.collect(), stash: made.collect(), boxes: Vec::new() })
    }

    /// The boxes to it.
    fn with_boxes(
        &mut self,
        compiled: &Compiled,
        batch: &Batch,
        weights: &Value,
        maps: Maps,
        places: &Places,
    ) -> Result<Maps, TrainError> {
        let (few, graphs) =
            self.few.as_mut().zip(compiled.forward_at.as_ref()).expect("the caller has looked");
        let level_of = |output: usize| level_of_boxes(&self.maps, output).expect("box maps alone are rows");
        let tables: Vec<Value> =
            graphs.tables(|output| &places[level_of(output)]).into_iter().map(Value::from).collect();
        let inputs: Vec<&Value> =
            batch.features[..self.n_inputs].iter().chain([weights]).chain(&tables).collect();
        let rows = few.at.run(&inputs)?;
        let mut boxes = std::mem::take(&mut self.spare);
        boxes.resize(self.maps.len(), Vec::new());
        let outputs = (0..compiled.n_outputs).filter(|&output| graphs.covers(output));
        for (output, rows) in outputs.zip(rows) {
            let (level, shape) = (level_of(output), &compiled.output_shapes[output]);
            // What is read all the same is taken for no box: it overlaps nothing, and a loss of it is no
            // number, which ends the run.
            boxes[level].clear();
            boxes[level].resize(shape.iter().product(), f32::NAN);
            scatter(rows.data(), &places[level], shape, &mut boxes[level]);
        }
        Ok(Maps { boxes, ..maps })
    }

    /// The raw maps. Boxes that were not made yet are empty.
    pub fn raw<'a>(&self, batch: &'a Batch, maps: &'a Maps) -> RawMaps<'a> {
        let data = |source: &MapSource, few: Option<&'a Vec<f32>>| match *source {
            MapSource::Backbone(index) => batch.features[index].data(),
            MapSource::Head(index) => match &maps.outputs[index] {
                Some(output) => output.data(),
                None => few.map_or(&[][..], Vec::as_slice),
            },
        };
        let boxes = self.maps.iter().enumerate();
        RawMaps {
            batch: self.part,
            boxes: boxes.map(|(level, (boxes, _))| data(boxes, maps.boxes.get(level))).collect(),
            classes: self.maps.iter().map(|(_, classes)| data(classes, None)).collect(),
        }
    }

    /// Takes maps back that nobody reads any more, for their memory.
    pub fn take_back(&mut self, maps: Maps) {
        if !maps.boxes.is_empty() {
            self.spare = maps.boxes;
        }
    }
}

/// Puts rows, one for each place that is marked, into a map `[batch, channels, height, width]`.
fn scatter(rows: &[f32], places: &[bool], shape: &[usize], map: &mut [f32]) {
    let (channels, cells) = (shape[1], shape[2] * shape[3]);
    let marked = (0..places.len()).filter(|&place| places[place]);
    for (place, row) in marked.zip(rows.chunks_exact(channels)) {
        let first = place / cells * channels * cells + place % cells;
        map[first..].iter_mut().step_by(cells).zip(row).for_each(|(to, &from)| *to = from);
    }
}
