//! Features pooled over the picture, as further outputs of a graph that computes them anyway.

use sha2::{Digest, Sha256};

use crate::onnx::proto::NodeProto;
use crate::onnx::{Model, OnnxError, float_value_info};

use super::cut::{Cut, whole_head};
use super::export::Export;

/// The means say how a picture is as a whole. A small thing that is on it once shows in the maxima alone.
const POOLS: [(&str, &str); 2] = [("GlobalAveragePool", "mean"), ("GlobalMaxPool", "max")];

impl Cut {
    /// The cut with further outputs behind the backbone's own: what the head reads, pooled over the picture,
    /// for each level the means and then the maxima, `[batch, C, 1, 1]` each. Gives what the values of these
    /// outputs depend on, hashed: equal for two models whose pooled features can be compared.
    ///
    /// # Errors
    /// When a constant of the model can't be read as floats.
    pub fn with_pooled(
        mut self,
        export: &Export,
        size: (usize, usize),
    ) -> Result<(Self, [u8; 32]), OnnxError> {
        let head = Cut::new(export, &whole_head, size)?;
        for (level, feature) in head.features[..head.n_head_inputs].iter().enumerate() {
            for (op_type, pool) in POOLS {
                add(&mut self.backbone, feature, op_type, &format!("pooled_{level}_{pool}"));
            }
        }
        let mut hasher = Sha256::new();
        hasher.update(head.backbone.encode());
        Ok((self, hasher.finalize().into()))
    }
}

fn add(model: &mut Model, value: &str, op_type: &str, name: &str) {
    let graph = model.graph_mut();
    graph.node.push(NodeProto {
        input: vec![value.into()],
        output: vec![name.into()],
        name: Some(name.into()),
        op_type: Some(op_type.into()),
        ..Default::default()
    });
    graph.output.push(float_value_info(name, &[None; 4]));
}
