//! Recognises a YOLO detector in an ONNX file.
//!
//! Every known exporter keeps the names of the network's parameters: convolution kernels of the
//! head are called `model.K.cvB.L.…` (a second `model.` may stand in front), where K is the last
//! module, B the branch (2 boxes, 3 classes) and L the level. These names, and what feeds what, are
//! all that is needed; node names and metadata only help to name the family.

use std::collections::BTreeMap;
use std::path::Path;

use crate::onnx::proto::{NodeProto, TensorProto, ValueInfoProto, data_type};
use crate::onnx::{Links, Model, OnnxError, values};

use super::names;

/// Levels of a head, at most: known heads have three or four.
const MAX_LEVELS: usize = 8;

/// Side of the input, at most, pixels, and pictures in a batch.
const MAX_SIDE: usize = 16_384;
const MAX_BATCH: usize = 1024;

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
    /// Levels, finest first.
    pub levels: Vec<HeadLevel>,
    /// Convolutions of the head in topological order.
    pub convs: Vec<HeadConv>,
    /// Whether the head computes in float16.
    pub half: bool,
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
        refuse_other_tasks(&model)?;
        super::unshare::unshare(&mut model, |name| head_name(name).is_some());
        let convs = head_convs(&model)?;
        let graph = model.graph();
        let links = Links::new(graph);

        let mut maps: BTreeMap<(usize, Branch), &HeadConv> = BTreeMap::new();
        for conv in &convs {
            // Convolutions of a branch follow each other, so the last one writes the raw map.
            maps.insert((conv.level, conv.branch), conv);
        }
        let n_levels = convs.iter().map(|conv| conv.level + 1).max().unwrap_or(0);
        let output = |conv: &HeadConv| graph.node[conv.node].output[0].clone();
        let channels = |conv: &HeadConv, axis: usize| -> Result<usize, ExportError> {
            let kernel = kernel(&links, &graph.node[conv.node]).ok_or_else(no_head)?;
            Ok(values::dims(kernel)?.get(axis).copied().unwrap_or(0))
        };
        let max_stride = stride_metadata(&model).unwrap_or(32);
        if !max_stride.is_power_of_two() || max_stride >> n_levels.saturating_sub(1) == 0 {
            return Err(ExportError::NotSupported(format!(
                "its metadata gives stride {max_stride} for {n_levels} levels, each of which halves the one \
                 before; export the model again"
            )));
        }
        let mut levels = Vec::with_capacity(n_levels);
        let mut widths = Vec::with_capacity(n_levels);
        for level in 0..n_levels {
            let (Some(box_conv), Some(class_conv)) =
                (maps.get(&(level, Branch::Box)), maps.get(&(level, Branch::Class)))
            else {
                return Err(no_head());
            };
            let first = convs
                .iter()
                .find(|conv| conv.level == level && conv.branch == Branch::Box)
                .ok_or_else(no_head)?;
            levels.push(HeadLevel {
                // Each level halves the one before; the last has the stride in the metadata.
                stride: max_stride >> (n_levels - 1 - level),
                channels: channels(first, 1)?,
                box_map: output(box_conv),
                class_map: output(class_conv),
            });
            widths.push((channels(box_conv, 0)?, channels(class_conv, 0)?));
        }
        let (box_channels, n_classes) = *widths.first().ok_or_else(no_head)?;
        if widths.iter().any(|&width| width != (box_channels, n_classes)) || !matches!(box_channels, 4 | 64) {
            return Err(ExportError::NotSupported(format!(
                "its head's last convolutions have (box, class) channels {widths:?}, where each level should \
                 have the same, with 64 or 4 box channels; export the detector again without changing its head"
            )));
        }
        let half = kernel(&links, &graph.node[convs[0].node])
            .is_some_and(|kernel| kernel.data_type() == data_type::FLOAT16);
        let classes = class_names(&model, n_classes)?;
        let input = input_spec(&model)?;
        Ok(Export {
            family: family(&model),
            classes,
            input,
            reg_max: box_channels / 4,
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

fn no_head() -> ExportError {
    ExportError::NotSupported(
        "no YOLO detection head was found (no convolutions named model.K.cv2.L… and model.K.cv3.L…); \
         give a detector that Ultralytics' exporter wrote, with its names kept"
            .into(),
    )
}

/// Exports of other tasks have a detection head too, and more: training it alone would break them.
fn refuse_other_tasks(model: &Model) -> Result<(), ExportError> {
    match model.metadata("task") {
        None | Some("detect") => Ok(()),
        Some(task) => Err(ExportError::NotSupported(format!(
            "this is an export for the task {task:?}; graftd trains detectors: export one with task detect"
        ))),
    }
}

/// What a parameter's name says: module, whether one-to-one, `cv` number, level.
fn head_name(name: &str) -> Option<(usize, bool, usize, usize)> {
    let rest = name.strip_prefix("model.")?;
    let rest = rest.strip_prefix("model.").unwrap_or(rest);
    let (module, rest) = rest.split_once('.')?;
    let one_to_one = rest.starts_with("one2one_");
    let rest = rest.strip_prefix("one2one_").unwrap_or(rest);
    let (branch, rest) = rest.strip_prefix("cv")?.split_once('.')?;
    let (level, _) = rest.split_once('.')?;
    let branch = branch.parse().ok().filter(|branch| (2..=5).contains(branch))?;
    let level = level.parse().ok().filter(|&level| level < MAX_LEVELS)?;
    Some((module.parse().ok()?, one_to_one, branch, level))
}

fn kernel<'a>(links: &Links<'a>, node: &NodeProto) -> Option<&'a TensorProto> {
    links.constant(node.input.get(1)?)
}

fn head_convs(model: &Model) -> Result<Vec<HeadConv>, ExportError> {
    let graph = model.graph();
    let links = Links::new(graph);
    let named: Vec<_> = graph
        .node
        .iter()
        .enumerate()
        .filter(|(_, node)| node.op_type() == "Conv" && !node.output.is_empty())
        .filter(|(_, node)| kernel(&links, node).is_some())
        .filter_map(|(index, node)| head_name(&node.input[1]).map(|name| (index, name)))
        .collect();
    let last = named.iter().map(|&(_, (module, ..))| module).max().ok_or_else(no_head)?;
    let named: Vec<_> = named.into_iter().filter(|&(_, (module, ..))| module == last).collect();
    if named.iter().any(|&(_, (_, _, branch, _))| branch > 3) {
        return Err(ExportError::NotSupported(
            "its head has a third branch (masks, keypoints or angles); graftd trains detectors: \
             export one with task detect"
                .into(),
        ));
    }
    if named.iter().any(|&(_, (_, one_to_one, ..))| one_to_one) {
        return Err(ExportError::NotSupported(
            "this export holds the end-to-end (one-to-one) head, which graftd can't train yet; \
             export the same model without nms=False, so that the file holds the one-to-many head"
                .into(),
        ));
    }
    let convs: Vec<HeadConv> = named
        .into_iter()
        .map(|(node, (_, _, branch, level))| HeadConv {
            node,
            branch: if branch == 2 { Branch::Box } else { Branch::Class },
            level,
        })
        .collect();
    let both = [Branch::Box, Branch::Class].iter().all(|b| convs.iter().any(|conv| conv.branch == *b));
    if both { Ok(convs) } else { Err(no_head()) }
}

fn stride_metadata(model: &Model) -> Option<usize> {
    model.metadata("stride")?.parse().ok()
}

fn class_names(model: &Model, n_classes: usize) -> Result<Vec<String>, ExportError> {
    let Some(text) = model.metadata("names") else {
        return Ok((0..n_classes).map(|index| format!("class{index}")).collect());
    };
    match names::parse(text) {
        Some(names) if names.len() == n_classes => Ok(names),
        Some(names) => Err(ExportError::NotSupported(format!(
            "its metadata names {} classes but its head has {n_classes}; export the model again",
            names.len()
        ))),
        None => Err(ExportError::NotSupported(format!(
            "its metadata \"names\" can't be read ({text:?}); it should look like {{0: 'weed'}}"
        ))),
    }
}

fn input_spec(model: &Model) -> Result<InputSpec, ExportError> {
    let graph = model.graph();
    let is_constant = |name: &str| graph.initializer.iter().any(|tensor| tensor.name() == name);
    let pictures: Vec<&ValueInfoProto> =
        graph.input.iter().filter(|input| !is_constant(input.name())).collect();
    let [input] = pictures.as_slice() else {
        return Err(ExportError::NotSupported(format!(
            "it has {} inputs, where a detector has one picture",
            pictures.len()
        )));
    };
    let tensor = input.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref());
    let is_float = tensor.is_some_and(|tensor| tensor.elem_type() == data_type::FLOAT);
    let dims: Vec<Option<usize>> = tensor
        .and_then(|tensor| tensor.shape.as_ref())
        .map(|shape| {
            shape.dim.iter().map(|dim| dim.dim_value.and_then(|v| usize::try_from(v).ok())).collect()
        })
        .unwrap_or_default();
    let ([batch, Some(3) | None, height, width], true) = (dims.as_slice(), is_float) else {
        return Err(ExportError::NotSupported(format!(
            "its input {:?} is not a float32 picture of 3 channels [batch, 3, height, width]",
            input.name()
        )));
    };
    let fixed = height.zip(*width);
    let size = fixed.or_else(|| imgsz_metadata(model)).unwrap_or((640, 640));
    let sides = 1..=MAX_SIDE;
    if !sides.contains(&size.0)
        || !sides.contains(&size.1)
        || batch.is_some_and(|b| !(1..=MAX_BATCH).contains(&b))
    {
        return Err(ExportError::NotSupported(format!(
            "its input is [{}, 3, {}, {}], where batches go to {MAX_BATCH} and sides to {MAX_SIDE}; export \
             the model again",
            batch.unwrap_or(1),
            size.0,
            size.1
        )));
    }
    Ok(InputSpec { name: input.name().into(), batch: *batch, fixed, size })
}

/// `[height, width]` from the metadata.
fn imgsz_metadata(model: &Model) -> Option<(usize, usize)> {
    let text = model.metadata("imgsz")?.trim().strip_prefix('[')?.strip_suffix(']')?;
    let (height, width) = text.split_once(',')?;
    Some((height.trim().parse().ok()?, width.trim().parse().ok()?))
}

/// The family that the description names, such as `yolo11` for `Ultralytics YOLO11n model`.
fn family(model: &Model) -> String {
    let description = model.metadata("description").unwrap_or_default().to_lowercase();
    let Some((_, rest)) = description.split_once("yolo") else { return "yolo".into() };
    let version: String =
        rest.strip_prefix('v').unwrap_or(rest).chars().take_while(char::is_ascii_digit).collect();
    let v = if rest.starts_with('v') { "v" } else { "" };
    // Of YOLOv5 only the variants with the newer head ("YOLOv5nu") export these names.
    let u = if version == "5" { "u" } else { "" };
    format!("yolo{v}{version}{u}")
}
