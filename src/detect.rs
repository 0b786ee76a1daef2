//! Runs a model on a frame: picture in, boxes in the picture's pixels out.
//!
//! The file's own decoding is cut off and done here, so that every kind of export (float16, free
//! axes, suppression inside) goes the same way and classes come from the raw maps.

use std::path::{Path, PathBuf};

use crate::dataset::Example;
use crate::picture::{Picture, PictureError};
use crate::runtime::{Runtime, RuntimeError, SessionOptions, Value};
use crate::tensor::Tensor;
use crate::yolo::backbone::{Backbone, head_shape, input_size};
use crate::yolo::cut::{Cut, MapSource};
use crate::yolo::decode::{detections_of_maps, sightings_of_maps};
use crate::yolo::detection::Detection;
use crate::yolo::export::{Export, ExportError};
use crate::yolo::letterbox::{Fit, Letterbox, letterbox};
use crate::yolo::look::{Look, Sighting};
use crate::yolo::maps::{HeadShape, RawMaps};
use crate::yolo::metrics::{Evaluation, Evaluator, Measurement, TruthBox};
use crate::yolo::nms::Keep;

/// Why a model could not be run on pictures.
#[derive(Debug, thiserror::Error)]
pub enum DetectError {
    /// The model is no detector that graftd knows.
    #[error("{}: {source}", path.display())]
    Model {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: ExportError,
    },
    /// The wished input size does not fit the model.
    #[error("{0}")]
    Size(String),
    /// A picture can't be read.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// The runtime failed.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
}

/// A loaded detector.
pub struct Detector {
    backbone: Backbone,
    shape: HeadShape,
    /// Per level, which outputs are the box map and the class map.
    maps: Vec<(usize, usize)>,
    /// Outputs from here on are pooled features.
    pooled: usize,
    features_key: [u8; 32],
    classes: Vec<String>,
    input: Tensor,
}

/// Boxes down to this share of the threshold are looked at: one that is near it may come to be found.
const DOUBTFUL: f32 = 0.2;

impl Detector {
    /// Loads a model file. `imgsz` chooses the side of the input where the file leaves it free.
    ///
    /// # Errors
    /// [`DetectError`], with what to do.
    pub fn open(
        path: &Path,
        imgsz: Option<usize>,
        runtime: &dyn Runtime,
        options: &SessionOptions,
    ) -> Result<Self, DetectError> {
        let fail = |source| DetectError::Model { path: path.to_owned(), source };
        let export = Export::read(path).map_err(fail)?;
        Detector::new(&export, imgsz, runtime, options)
    }

    /// Loads a recognised model.
    ///
    /// # Errors
    /// [`DetectError::Size`], or [`DetectError::Runtime`] when the runtime refuses the graph.
    pub fn new(
        export: &Export,
        imgsz: Option<usize>,
        runtime: &dyn Runtime,
        options: &SessionOptions,
    ) -> Result<Self, DetectError> {
        let size = input_size(export, imgsz).map_err(DetectError::Size)?;
        let (cut, features_key) = Cut::new(export, &|_, _| false, size)
            .and_then(|cut| cut.with_pooled(export, size))
            .map_err(|error| DetectError::Size(format!("the model can't be cut: {error}")))?;
        let backbone = Backbone::load(export, &cut, size, runtime, options)?;
        let index = |source: &MapSource| match *source {
            MapSource::Backbone(index) | MapSource::Head(index) => index,
        };
        let maps: Vec<(usize, usize)> =
            cut.maps.iter().map(|(boxes, classes)| (index(boxes), index(classes))).collect();
        let shape = head_shape(export, size);
        let found = |index: usize| &backbone.shapes()[index];
        let shapes = maps.iter().map(|&(boxes, classes)| [found(boxes), found(classes)]);
        shape.check(shapes).map_err(DetectError::Size)?;
        Ok(Detector {
            shape,
            maps,
            pooled: cut.features.len(),
            features_key,
            classes: export.classes.clone(),
            input: Tensor::zeros([backbone.batch(), 3, size.0, size.1]),
            backbone,
        })
    }

    /// Names of the model's classes, by index.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Calls the classes otherwise; behind the model's own there may be others, which it never finds.
    pub fn call_classes(&mut self, names: Vec<String>) {
        self.classes = names;
    }

    /// Height and width of the network's input, pixels.
    pub fn input(&self) -> (usize, usize) {
        self.shape.input
    }

    /// What the pooled features of [`Look`] depend on: those of two models with the same key can be compared.
    /// Training a head does not change it.
    pub fn features_key(&self) -> &[u8; 32] {
        &self.features_key
    }

    /// What is on a picture, surest first, in its pixels.
    ///
    /// # Errors
    /// When the runtime fails.
    pub fn detect(&mut self, picture: &Picture, keep: &Keep) -> Result<Vec<Detection>, DetectError> {
        let (placed, outputs) = self.run(picture)?;
        let mut found = detections_of_maps(&self.shape, &self.maps_of(&outputs), 0, keep);
        found.iter_mut().for_each(|detection| detection.move_to(placed.to_picture(detection.corners())));
        Ok(found)
    }

    /// [`Detector::detect`], with what else the model saw, for the same work of the network.
    ///
    /// # Errors
    /// When the runtime fails.
    pub fn look(&mut self, picture: &Picture, keep: &Keep) -> Result<Look, DetectError> {
        let (placed, outputs) = self.run(picture)?;
        let doubtful = Keep { confidence: keep.confidence * DOUBTFUL, ..*keep };
        let mut sightings = sightings_of_maps(&self.shape, &self.maps_of(&outputs), 0, &doubtful);
        for Sighting { detection, .. } in &mut sightings {
            detection.move_to(placed.to_picture(detection.corners()));
        }
        // Boxes are suppressed by surer ones alone, so the unsure ones have changed nothing.
        let sure = sightings.iter().map(|sighting| sighting.detection);
        let found = sure.take_while(|detection| detection.score > keep.confidence).collect();
        let pooled = outputs[self.pooled..].iter();
        let features = pooled.flat_map(|value| {
            let values = value.data();
            values[..values.len() / self.backbone.batch()].iter().copied()
        });
        Ok(Look { found, features: features.collect(), sightings })
    }

    fn run(&mut self, picture: &Picture) -> Result<(Letterbox, Vec<Value>), DetectError> {
        let length = self.backbone.picture_len();
        let target = &mut self.input.data_mut()[..length];
        let placed = letterbox(picture, self.shape.input, Fit::Exact, target);
        Ok((placed, self.backbone.run(self.input.clone())?))
    }

    fn maps_of<'a>(&self, outputs: &'a [Value]) -> RawMaps<'a> {
        RawMaps {
            batch: self.backbone.batch(),
            boxes: self.maps.iter().map(|&(boxes, _)| outputs[boxes].data()).collect(),
            classes: self.maps.iter().map(|&(_, classes)| outputs[classes].data()).collect(),
        }
    }

    /// Measures the model on examples whose labels count in the model's own classes. `progress` is
    /// called after each picture with the number done.
    ///
    /// # Errors
    /// When a picture can't be read or the runtime fails.
    pub fn evaluate(
        &mut self,
        examples: &[Example],
        progress: impl FnMut(usize),
    ) -> Result<Evaluation, DetectError> {
        Ok(self.measure(examples, progress)?.evaluation())
    }

    /// The same, kept so that it can be compared with another model's picture by picture.
    ///
    /// # Errors
    /// As [`Detector::evaluate`].
    pub fn measure(
        &mut self,
        examples: &[Example],
        mut progress: impl FnMut(usize),
    ) -> Result<Measurement, DetectError> {
        let mut evaluator = Evaluator::new(&self.classes);
        for (index, example) in examples.iter().enumerate() {
            let picture = Picture::open(&example.picture)?;
            let mut found = self.detect(&picture, &Keep::to_measure())?;
            // What nobody looked for may be there: a find of it is neither right nor wrong.
            found.retain(|found| example.looks_for(&self.classes[found.class as usize]));
            evaluator.add(&found, &TruthBox::of(&example.labels, (picture.width(), picture.height())));
            progress(index + 1);
        }
        Ok(evaluator.measurement())
    }
}
