//! The drop-in: the base file with new numbers in its head.

use crate::grad::ParameterLayout;
use crate::onnx::{Model, OnnxError, values};

use super::export::Export;

/// The base with the trained constants replaced; inputs, outputs, operator set and metadata stay,
/// and so does the type that each constant is stored in.
///
/// # Errors
/// When a trained constant is not in the file, or has another size.
pub fn graft(export: &Export, layout: &ParameterLayout, weights: &[f32]) -> Result<Model, OnnxError> {
    let mut model = export.model().clone();
    for (parameter, new) in layout.scatter(weights) {
        let tensor = model
            .graph_mut()
            .initializer
            .iter_mut()
            .find(|tensor| tensor.name() == parameter.name)
            .ok_or_else(|| OnnxError::invalid(format!("the base holds no constant {:?}", parameter.name)))?;
        values::replace_f32(tensor, new)?;
    }
    Ok(model)
}
