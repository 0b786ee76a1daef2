//! Recognises a YOLO detector in an ONNX file, whoever wrote it.
//!
//! The way back from the file's output leads through its decoding to the convolutions that write the
//! raw maps (`tail`). Which of them are boxes and which classes, and of which level, the names say
//! where an exporter kept them (`named`), and otherwise what the graph does with them (`structure`).
//! A branch of the head is what only its own raw map is computed from (`ancestry`), and a level's
//! stride is what the graph does to the picture on the way (`stride`). Metadata gives class names and
//! the family, and has to agree with the rest where it speaks of it.
//!
//! Where a file holds a one-to-many and a one-to-one head (YOLOv10, YOLO26), the one that its first
//! output is made of is trained: the other one is dead code, or a copy for training that no consumer
//! of the file reads. Nothing is lost by training one alone: the two share no convolution, and the
//! features that both read are frozen.

mod ancestry;
mod describe;
mod named;
mod refuse;
mod stride;
mod structure;
mod tail;

use std::collections::HashSet;
use std::path::Path;

use crate::onnx::proto::{NodeProto, data_type};
use crate::onnx::{Links, Model, OnnxError, attributes, values};

use ancestry::Ancestry;
use tail::{Tail, kernel};

/// Levels of a head, at most: known heads have three or four.
const MAX_LEVELS: usize = 8;

/// Bins per side of a box, at most: known heads have 16.
const MAX_BINS: usize = 64;

/// Why a file can't be trained.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The file is no usable ONNX.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    /// It is ONNX, but not a detector that graftd can train. The text is one sentence with the
    /// reason and what to do.
    #[error("{0}")]
    NotSupported(String),
}

/// A branch of the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Branch {
    /// `cv2`: where the object's sides are.
    Box,
    /// `cv3`: what it is.
    Class,
}

/// A convolution of the head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadConv {
    /// Index of its node in the graph.
    pub node: usize,
    /// Which branch it belongs to.
    pub branch: Branch,
    /// Which level, finest first.
    pub level: usize,
}

/// One level of the head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadLevel {
    /// Input pixels per cell.
    pub stride: usize,
    /// Channels of the feature map that the level reads.
    pub channels: usize,
    /// Name of the raw box map.
    pub box_map: String,
    /// Name of the raw class map.
    pub class_map: String,
}

/// The network's input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputSpec {
    /// Name of the input.
    pub name: String,
    /// Pictures that go in at once; none when the axis is free.
    pub batch: Option<usize>,
    /// Height and width in pixels; none when they are free.
    pub fixed: Option<(usize, usize)>,
    /// Height and width in pixels that the export was made for.
    pub size: (usize, usize),
}

/// A detector that graftd can train.
#[derive(Debug, Clone)]
pub struct Export {
    model: Model,
    /// `yolov8`, `yolo11`, …, or `yolo` when the file does not say.
    pub family: String,
    /// Class names by index.
    pub classes: Vec<String>,
    /// The network's input.
    pub input: InputSpec,
    /// Bins per side of a box (16), or 1 when distances come out directly.
    pub reg_max: usize,
    /// Whether each object is meant to be found by one anchor alone (YOLOv10, YOLO26 exported
    /// end-to-end), so that nothing is suppressed.
    pub one_to_one: bool,
    /// Levels, finest first.
    pub levels: Vec<HeadLevel>,
    /// Convolutions of the head in topological order.
    pub convs: Vec<HeadConv>,
    /// Whether the head computes in float16.
    pub half: bool,
}

/// Indices of the convolutions that write the raw maps of a level.
#[derive(Debug, Clone, Copy)]
struct Pair {
    boxes: usize,
    classes: usize,
}

/// A head before its constants have been looked at.
struct Found {
    pairs: Vec<Pair>,
    ancestry: Ancestry,
    one_to_one: bool,
    tail: Tail,
}

impl Export {
    /// Reads and recognises a file.
    ///
    /// # Errors
    /// [`ExportError`], each with one sentence of what is wrong and what to do.
    pub fn read(path: &Path) -> Result<Self, ExportError> {
        Export::new(Model::read(path)?)
    }

    /// Recognises a model.
    ///
    /// # Errors
    /// [`ExportError::NotSupported`] when it is no detector of a known kind.
    pub fn new(mut model: Model) -> Result<Self, ExportError> {
        refuse::other_tasks(&model)?;
        refuse::rewritten(&model)?;
        let input = describe::input(&model)?;
        let links = Links::new(model.graph());
        let found = find_head(&links)?;
        let strides = level_strides(&model, &links, &input, &found.pairs)?;
        let mut ordered: Vec<(usize, Pair)> = strides.into_iter().zip(found.pairs).collect();
        ordered.sort_by_key(|&(stride, _)| stride);

        let widths = ordered
            .iter()
            .map(|(_, pair)| {
                Ok((structure::channels(&links, pair.boxes)?, structure::channels(&links, pair.classes)?))
            })
            .collect::<Result<Vec<_>, ExportError>>()?;
        let (box_channels, n_classes) = widths[0];
        // The number of bins is only certain where the decoding shows it, or is the usual one.
        let is_usual = matches!(box_channels, 4 | 64);
        let is_shown = found.tail.bins.is_some_and(|bins| bins <= MAX_BINS && 4 * bins == box_channels);
        if n_classes == 0 || widths.iter().any(|&width| width != widths[0]) || !(is_usual || is_shown) {
            return Err(refuse::widths(&widths));
        }
        describe::check_output(&model, &found.tail, n_classes)?;

        let nodes = &model.graph().node;
        let mut convs = Vec::new();
        let mut levels = Vec::with_capacity(ordered.len());
        for (level, &(stride, pair)) in ordered.iter().enumerate() {
            let mut channels = 0;
            for (branch, map) in [(Branch::Box, pair.boxes), (Branch::Class, pair.classes)] {
                let own: Vec<usize> =
                    found.ancestry.alone(map).filter(|&node| nodes[node].op_type() == "Conv").collect();
                if let Some(&node) = own.iter().find(|&&node| kernel(&links, &nodes[node]).is_none()) {
                    return Err(refuse::computed_kernel(&nodes[node]));
                }
                if let (Branch::Box, Some(&first)) = (branch, own.first()) {
                    let kernel = kernel(&links, &nodes[first]);
                    channels = kernel
                        .and_then(|kernel| values::dims(kernel).ok()?.get(1).copied())
                        .map_or(0, |per_group| per_group.saturating_mul(groups(&nodes[first])));
                }
                convs.extend(own.into_iter().map(|node| HeadConv { node, branch, level }));
            }
            let output = |conv: usize| nodes[conv].output[0].clone();
            levels.push(HeadLevel {
                stride,
                channels,
                box_map: output(pair.boxes),
                class_map: output(pair.classes),
            });
        }
        convs.sort_by_key(|conv| conv.node);
        let half = kernel(&links, &nodes[ordered[0].1.boxes])
            .is_some_and(|kernel| kernel.data_type() == data_type::FLOAT16);
        let classes = describe::class_names(&model, n_classes)?;
        let one_to_one = found.one_to_one;
        drop(links);
        let head: HashSet<usize> = convs.iter().map(|conv| conv.node).collect();
        super::unshare::unshare(&mut model, &head);
        Ok(Export {
            family: describe::family(&model),
            classes,
            input,
            reg_max: box_channels / 4,
            one_to_one,
            levels,
            convs,
            half,
            model,
        })
    }

    /// The model, with the head's constants un-shared.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The kernel and, when there is one, the bias of a head convolution, by name.
    pub fn parameters(&self, conv: &HeadConv) -> impl Iterator<Item = &str> {
        self.model.graph().node[conv.node].input[1..]
            .iter()
            .map(String::as_str)
            .filter(|name| !name.is_empty())
    }

    /// Whether the convolution writes a raw map.
    pub fn is_last(&self, conv: &HeadConv) -> bool {
        let output = &self.model.graph().node[conv.node].output[0];
        let level = &self.levels[conv.level];
        output == &level.box_map || output == &level.class_map
    }
}

/// Finds the raw maps behind the first output, which in every known export is the decoded one; where
/// that one alone shows no head (the outputs are raw maps themselves), behind all outputs.
fn find_head(links: &Links) -> Result<Found, ExportError> {
    let outputs: Vec<&str> = links.graph().output.iter().map(|output| output.name()).collect();
    let first = head_behind(links, &outputs[..outputs.len().min(1)]);
    match first {
        Err(ExportError::NotSupported(_)) if outputs.len() > 1 => head_behind(links, &outputs).or(first),
        _ => first,
    }
}

fn head_behind(links: &Links, outputs: &[&str]) -> Result<Found, ExportError> {
    let tail = Tail::before(links, outputs);
    if tail.maps.iter().any(|&map| links.graph().node[map].op_type() != "Conv") {
        return Err(refuse::no_head(links, &tail));
    }
    let ancestry = Ancestry::of(links, &tail.maps);
    let (pairs, one_to_one) = match named::pairs(links, &tail.maps)? {
        Some((pairs, one_to_one)) => (pairs, one_to_one || tail.is_one_to_one()),
        None => (structure::pairs(links, &tail, &ancestry)?, tail.is_one_to_one()),
    };
    if pairs.is_empty() || pairs.len() > MAX_LEVELS {
        return Err(refuse::no_head(links, &tail));
    }
    Ok(Found { pairs, ancestry, one_to_one, tail })
}

/// The stride of each pair. What the graph does and what the metadata says must agree, because
/// consumers of the file read the latter.
fn level_strides(
    model: &Model,
    links: &Links,
    input: &InputSpec,
    pairs: &[Pair],
) -> Result<Vec<usize>, ExportError> {
    let known = stride::strides(links, &input.name, input.fixed.map(|(height, _)| height));
    let nodes = &model.graph().node;
    let stride = |conv: usize| {
        let stride = known.get(nodes[conv].output[0].as_str()).copied()?;
        (stride >= 1.0 && stride.fract() == 0.0 && stride <= describe::MAX_SIDE as f64)
            .then_some(stride as usize)
    };
    let metadata = describe::stride(model)?;
    let found: Option<Vec<usize>> = pairs
        .iter()
        .map(|pair| stride(pair.boxes).filter(|_| stride(pair.boxes) == stride(pair.classes)))
        .collect();
    let distinct = |strides: &[usize]| strides.iter().collect::<HashSet<_>>().len() == strides.len();
    match (found.filter(|found| distinct(found)), metadata) {
        (Some(found), Some(coarsest)) if found.iter().max() != Some(&coarsest) => {
            Err(refuse::stride(&found, coarsest))
        }
        (Some(found), _) => Ok(found),
        (None, _) => Err(refuse::unknown_stride(links, pairs)),
    }
}

fn groups(node: &NodeProto) -> usize {
    usize::try_from(attributes::int_of(node, "group", 1)).unwrap_or(1)
}
