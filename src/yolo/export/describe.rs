//! What a file says of itself: input, class names, family.

use crate::onnx::Model;
use crate::onnx::proto::{ValueInfoProto, data_type};

use super::super::names;
use super::tail::Tail;
use super::{ExportError, InputSpec, refuse};

/// Side of the input, at most, pixels, and pictures in a batch.
pub(super) const MAX_SIDE: usize = 16_384;
const MAX_BATCH: usize = 1024;

/// The stride of the coarsest level, where the metadata says it.
pub(super) fn stride(model: &Model) -> Result<Option<usize>, ExportError> {
    let Some(text) = model.metadata("stride") else { return Ok(None) };
    // A few releases wrote a list of all levels.
    let numbers: Option<Vec<usize>> =
        text.trim_matches(['[', ']']).split(',').map(|number| number.trim().parse().ok()).collect();
    match numbers.and_then(|numbers| numbers.into_iter().max()) {
        Some(stride) => Ok(Some(stride)),
        None => Err(ExportError::NotSupported(format!(
            "its metadata \"stride\" can't be read ({text:?}); it should be a number such as 32"
        ))),
    }
}

/// An output that can be told must be made of boxes and scores alone.
pub(super) fn check_output(model: &Model, tail: &Tail, n_classes: usize) -> Result<(), ExportError> {
    let Some(output) = model.graph().output.first() else { return Ok(()) };
    let shape = output.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref()?.shape.as_ref());
    let Some(shape) = shape else { return Ok(()) };
    let dims: Option<Vec<usize>> =
        shape.dim.iter().map(|dim| usize::try_from(dim.dim_value?).ok().filter(|&dim| dim > 0)).collect();
    match dims.as_deref() {
        // Rows of a box, its score and its class are what remains after the best have been picked.
        Some([_, rows, columns]) if !tail.picks && !tail.suppresses && *columns != 6 => {
            let fits = [4 + n_classes, 4, n_classes].iter().any(|count| count == rows || count == columns);
            if fits { Ok(()) } else { Err(refuse::output_shape(&[*rows, *columns], n_classes)) }
        }
        _ => Ok(()),
    }
}

/// Names of the classes: those of the metadata, or numbered ones.
pub(super) fn class_names(model: &Model, n_classes: usize) -> Result<Vec<String>, ExportError> {
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

/// The one picture that goes in.
pub(super) fn input(model: &Model) -> Result<InputSpec, ExportError> {
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
pub(super) fn family(model: &Model) -> String {
    let description = model.metadata("description").unwrap_or_default().to_lowercase();
    let Some((_, rest)) = description.split_once("yolo") else { return "yolo".into() };
    let version: String =
        rest.strip_prefix('v').unwrap_or(rest).chars().take_while(char::is_ascii_digit).collect();
    let v = if rest.starts_with('v') { "v" } else { "" };
    // Of YOLOv5 only the variants with the newer head ("YOLOv5nu") export these names.
    let u = if version == "5" { "u" } else { "" };
    format!("yolo{v}{version}{u}")
}
