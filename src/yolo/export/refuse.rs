//! One sentence for each kind of file that can't be trained: the reason, and what to do.

use crate::onnx::proto::NodeProto;
use crate::onnx::{Links, Model};

use super::stride::strides;
use super::tail::Tail;
use super::{ExportError, Pair};

/// Exports of other tasks have a detection head too, and more: training it alone would break them.
pub(super) fn other_tasks(model: &Model) -> Result<(), ExportError> {
    match model.metadata("task") {
        None | Some("detect") => Ok(()),
        Some(task) => Err(ExportError::NotSupported(format!(
            "this is an export for the task {task:?}; graftd trains detectors: export one with task detect"
        ))),
    }
}

/// Files that a later step rewrote with operators that have no derivative or no float weights.
pub(super) fn rewritten(model: &Model) -> Result<(), ExportError> {
    let nodes = &model.graph().node;
    let quantised = |node: &&NodeProto| {
        matches!(
            node.op_type(),
            "QuantizeLinear"
                | "DequantizeLinear"
                | "DynamicQuantizeLinear"
                | "ConvInteger"
                | "MatMulInteger"
                | "QLinearConv"
                | "QLinearMatMul"
        )
    };
    if let Some(node) = nodes.iter().find(quantised) {
        return Err(ExportError::NotSupported(format!(
            "it is quantised to integers (it holds {}), which have no gradient; give the float export \
             that it was made from",
            node.op_type()
        )));
    }
    // Engines' own suppression may stand behind the head: it is cut off.
    let foreign = |node: &&NodeProto| node.domain().starts_with("com.m");
    if let Some(node) = nodes.iter().find(foreign) {
        return Err(ExportError::NotSupported(format!(
            "ONNX Runtime optimised it for one machine (it holds {} of {}); give the file as it was before, \
             or optimise at level basic",
            node.op_type(),
            node.domain()
        )));
    }
    Ok(())
}

/// No pairs of raw maps.
pub(super) fn no_head(links: &Links, tail: &Tail) -> ExportError {
    let graph = links.graph();
    let holds = |op: &str| graph.node.iter().any(|node| node.op_type() == op);
    let text = if tail.maps.is_empty() && (tail.dense.len() > 1 || holds("LayerNormalization")) {
        "its boxes come from fully connected layers, as a transformer's do (RT-DETR, DETR); graftd trains the \
         convolutions of a YOLO's head: give an export of one, such as YOLO11 or YOLO26"
    } else if !tail.dense.is_empty() {
        "its output comes from a fully connected layer, as a classifier's does; graftd trains the \
         heads of YOLO detectors: export one with task detect"
    } else {
        "no YOLO detection head was found (on the way back from its outputs there are no two convolutions per \
         level, one for boxes and one for classes); give an export of YOLOv5u, v8, v9, v10, 11, 12 or 26"
    };
    ExportError::NotSupported(text.into())
}

/// More than boxes and classes.
pub(super) fn third_branch(n_maps: usize) -> ExportError {
    ExportError::NotSupported(format!(
        "its head has a third branch (masks, keypoints, angles or objectness; {n_maps} raw maps in all); graftd \
         trains heads of boxes and classes: export a detector such as YOLO11 with task detect"
    ))
}

/// Whether each level has one map that holds boxes, objectness and classes of three anchors.
pub(super) fn is_anchor_based(links: &Links, maps: &[usize], channels: &[usize]) -> bool {
    let nodes = &links.graph().node;
    let Some(&first) = channels.first() else { return false };
    let picture = links.graph().input.iter().find(|input| links.constant(input.name()).is_none());
    let strides = picture.map(|picture| strides(links, picture.name(), None)).unwrap_or_default();
    let mut found: Vec<f64> =
        maps.iter().filter_map(|&map| strides.get(nodes[map].output[0].as_str()).copied()).collect();
    found.sort_by(f64::total_cmp);
    found.dedup();
    // x, y, w, h, objectness and at least one class.
    maps.len() >= 2
        && found.len() == maps.len()
        && first % 3 == 0
        && first / 3 > 5
        && channels.iter().all(|&count| count == first)
}

/// The head of YOLOv3 to v5 and v7.
pub(super) fn anchor_based(channels: &[usize]) -> ExportError {
    ExportError::NotSupported(format!(
        "its head is anchor-based (YOLOv5, v7: one map of {} channels per level); graftd trains heads without \
         anchors: export YOLOv5u (yolov5nu.pt) or a later family",
        channels.first().copied().unwrap_or(0)
    ))
}

/// A convolution whose kernel is no constant.
pub(super) fn computed_kernel(node: &NodeProto) -> ExportError {
    ExportError::NotSupported(format!(
        "the kernel of its convolution {:?} is computed in the graph, not stored; export the model again in \
         float32, with its constants folded (simplify)",
        node.name()
    ))
}

/// Two maps that could each be either.
pub(super) fn which_is_the_box_map(a: &NodeProto, b: &NodeProto) -> ExportError {
    ExportError::NotSupported(format!(
        "nothing tells which of the raw maps {:?} and {:?} holds boxes and which classes; export the model with \
         its decoding, or with its names kept",
        a.output.first().map_or("", String::as_str),
        b.output.first().map_or("", String::as_str)
    ))
}

/// An output that this kind of head does not make.
pub(super) fn output_shape(found: &[usize], n_classes: usize) -> ExportError {
    ExportError::NotSupported(format!(
        "its output has the shape {found:?}, where boxes and {n_classes} classes make {} rows (YOLOv6 and YOLOX have \
         an objectness beside); give an export of YOLOv5u, v8, v9, v10, 11, 12 or 26",
        4 + n_classes
    ))
}

/// Levels that disagree about how many channels there are.
pub(super) fn widths(widths: &[(usize, usize)]) -> ExportError {
    ExportError::NotSupported(format!(
        "its head's last convolutions have (box, class) channels {widths:?}, where each level should \
         have the same, with 64 or 4 box channels; export the detector again without changing its head"
    ))
}

/// Metadata that contradicts the graph.
pub(super) fn stride(found: &[usize], metadata: usize) -> ExportError {
    let mut found = found.to_vec();
    found.sort_unstable();
    ExportError::NotSupported(format!(
        "its metadata gives stride {metadata}, but its levels have strides {found:?}; export the model again, or \
         correct the metadata's \"stride\""
    ))
}

/// Levels whose grid can't be told.
pub(super) fn unknown_stride(links: &Links, pairs: &[Pair]) -> ExportError {
    let nodes = &links.graph().node;
    let maps: Vec<&str> = pairs.iter().map(|pair| nodes[pair.boxes].output[0].as_str()).collect();
    ExportError::NotSupported(format!(
        "how many pixels stand behind a cell of its raw maps {maps:?} can't be told from its graph; export the \
         model with a fixed input size (without dynamic axes)"
    ))
}
