//! Cuts a detector in two: what stays frozen, and what a scope trains.
//!
//! The cut runs where trained convolutions begin. Everything before it, and every raw map that no
//! trained convolution reaches, is the *backbone* of that scope: one graph from the picture to the
//! values that epochs read from the cache. What lies behind the cut is the *head* subgraph, which
//! `grad` differentiates.

use std::collections::HashSet;

use crate::grad::Subgraph;
use crate::onnx::proto::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, data_type};
use crate::onnx::{Links, Model, OnnxError, attributes, float_value_info, values};

use super::export::{Branch, Export, HeadConv};
use super::maps::MapGradients;

/// Which convolutions are trained, as a predicate over a head's convolutions.
pub type Chooses<'a> = &'a dyn Fn(&Export, &HeadConv) -> bool;

/// Where a raw map comes from when the head runs on cached values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapSource {
    /// Output of the head subgraph, by index.
    Head(usize),
    /// Frozen: output of the backbone, by index.
    Backbone(usize),
}

/// The level whose box map is this output of the head, if there is one. `maps` is [`Cut::maps`].
pub fn level_of_boxes(maps: &[(MapSource, MapSource)], output: usize) -> Option<usize> {
    maps.iter().position(|(boxes, _)| *boxes == MapSource::Head(output))
}

/// The gradient of this output of the head, if it is a raw map. `maps` is [`Cut::maps`].
pub fn gradient_of<'a>(
    maps: &[(MapSource, MapSource)],
    gradients: &'a MapGradients,
    output: usize,
) -> Option<&'a [f32]> {
    let levels = maps.iter().zip(gradients.boxes.iter().zip(&gradients.classes));
    let mut all =
        levels.flat_map(|(sources, gradients)| [(sources.0, gradients.0), (sources.1, gradients.1)]);
    all.find(|(source, _)| *source == MapSource::Head(output)).map(|(_, gradient)| gradient.as_slice())
}

/// A detector cut for one scope.
#[derive(Debug, Clone)]
pub struct Cut {
    /// From the picture to `features`, as float32 whatever the file computes in.
    pub backbone: Model,
    /// Names of the backbone's outputs: first the inputs of the head subgraph, then frozen maps.
    pub features: Vec<String>,
    /// How many of the features the head subgraph reads.
    pub n_head_inputs: usize,
    /// Per level, where the box map and the class map come from.
    pub maps: Vec<(MapSource, MapSource)>,
    nodes: Vec<NodeProto>,
    constants: Vec<TensorProto>,
    outputs: Vec<String>,
    trained: Vec<String>,
}

impl Cut {
    /// Cuts for the convolutions that `chooses` accepts. `size` is the input's height and width
    /// where the file leaves them free.
    ///
    /// # Errors
    /// When a constant of the head can't be read as floats.
    pub fn new(export: &Export, chooses: Chooses, size: (usize, usize)) -> Result<Self, OnnxError> {
        let graph = export.model().graph();
        let links = Links::new(graph);
        let trained: Vec<String> = export
            .convs
            .iter()
            .filter(|conv| chooses(export, conv))
            .flat_map(|conv| export.parameters(conv))
            .map(str::to_owned)
            .collect();
        let maps: Vec<&str> = export
            .levels
            .iter()
            .flat_map(|level| [level.box_map.as_str(), level.class_map.as_str()])
            .collect();

        // Nodes behind the cut: those that lead to a raw map and depend on a trained constant.
        let leading = links.slice(&HashSet::new(), &maps);
        let mut active: HashSet<&str> = trained.iter().map(String::as_str).collect();
        let mut behind = Vec::new();
        for index in leading {
            let node = &graph.node[index];
            if node.input.iter().any(|name| active.contains(name.as_str())) {
                active.extend(node.output.iter().map(String::as_str));
                behind.push(index);
            }
        }

        let mut features: Vec<String> = Vec::new();
        let mut constants: Vec<TensorProto> = Vec::new();
        for name in behind.iter().flat_map(|&index| &graph.node[index].input) {
            if name.is_empty() || active.contains(name.as_str()) && !trained.contains(name) {
                continue;
            }
            if let Some(constant) = links.constant(name) {
                if !constants.iter().any(|known| known.name() == name) {
                    constants.push(as_single_precision(constant, name)?);
                }
            } else if !features.contains(name) {
                features.push(name.clone());
            }
        }
        let n_head_inputs = features.len();
        let mut outputs: Vec<String> = Vec::new();
        let mut source = |name: &str, features: &mut Vec<String>| {
            if active.contains(name) {
                outputs.push(name.to_owned());
                MapSource::Head(outputs.len() - 1)
            } else {
                features.push(name.to_owned());
                MapSource::Backbone(features.len() - 1)
            }
        };
        let maps = export
            .levels
            .iter()
            .map(|level| (source(&level.box_map, &mut features), source(&level.class_map, &mut features)))
            .collect();

        Ok(Cut {
            backbone: backbone(export, &links, &features, size)?,
            nodes: behind.iter().map(|&index| in_single_precision(&graph.node[index])).collect(),
            features,
            n_head_inputs,
            maps,
            constants,
            outputs,
            trained,
        })
    }

    /// The subgraph behind the cut for a batch. `shapes` are those of the features for one picture,
    /// `[1, C, h, w]` each.
    pub fn subgraph(&self, batch: usize, shapes: &[Vec<usize>]) -> Subgraph {
        let inputs = self.features[..self.n_head_inputs]
            .iter()
            .zip(shapes)
            .map(|(name, shape)| {
                let mut shape = shape.clone();
                shape[0] = batch;
                (name.clone(), shape)
            })
            .collect();
        Subgraph {
            nodes: self.nodes.clone(),
            constants: self.constants.clone(),
            inputs,
            outputs: self.outputs.clone(),
            trained: self.trained.clone(),
        }
    }

    /// How many numbers the scope trains.
    pub fn n_parameters(&self) -> usize {
        self.constants
            .iter()
            .filter(|tensor| self.trained.iter().any(|name| name == tensor.name()))
            .map(|tensor| tensor.dims.iter().product::<i64>() as usize)
            .sum()
    }
}

/// Chooses the last 1×1 convolution of each branch and level.
pub fn last(export: &Export, conv: &HeadConv) -> bool {
    export.is_last(conv)
}

/// Chooses the class branch.
pub fn class_branch(_export: &Export, conv: &HeadConv) -> bool {
    conv.branch == Branch::Class
}

/// Chooses the whole head.
pub fn whole_head(_export: &Export, _conv: &HeadConv) -> bool {
    true
}

/// The constant as float32 under this name; integers (shapes, axes) stay as they are.
fn as_single_precision(constant: &TensorProto, name: &str) -> Result<TensorProto, OnnxError> {
    if matches!(constant.data_type(), data_type::FLOAT16 | data_type::DOUBLE) {
        return Ok(values::tensor_f32(name, &values::dims(constant)?, &values::to_f32(constant)?));
    }
    Ok(TensorProto { name: Some(name.into()), ..constant.clone() })
}

/// The node as it stands in a float32 graph: casts between float types do nothing there.
fn in_single_precision(node: &NodeProto) -> NodeProto {
    let to = attributes::int_of(node, "to", 0) as i32;
    if node.op_type() == "Cast" && matches!(to, data_type::FLOAT | data_type::FLOAT16) {
        return NodeProto { op_type: Some("Identity".into()), attribute: Vec::new(), ..node.clone() };
    }
    node.clone()
}

/// The part of the file from the picture to `outputs`, in float32.
///
/// A float16 file is widened: CPUs compute in float32 anyway, behind a cast per operator.
fn backbone(
    export: &Export,
    links: &Links,
    outputs: &[String],
    size: (usize, usize),
) -> Result<Model, OnnxError> {
    let graph = links.graph();
    let wanted: Vec<&str> = outputs.iter().map(String::as_str).collect();
    let mut node: Vec<NodeProto> =
        links.slice(&HashSet::new(), &wanted).iter().map(|&index| graph.node[index].clone()).collect();
    let read: HashSet<&str> = node.iter().flat_map(|node| node.input.iter().map(String::as_str)).collect();
    let mut initializer: Vec<TensorProto> =
        graph.initializer.iter().filter(|tensor| read.contains(tensor.name())).cloned().collect();
    if export.half {
        for tensor in &mut initializer {
            *tensor = as_single_precision(tensor, tensor.name())?;
        }
        for node in &mut node {
            *node = in_single_precision(node);
            for constant in node.attribute.iter_mut().filter_map(|attribute| attribute.t.as_mut()) {
                *constant = as_single_precision(constant, constant.name())?;
            }
        }
    }
    // Plain names, so that the exporter's don't matter behind the cut.
    node.extend(outputs.iter().enumerate().map(|(i, name)| NodeProto {
        input: vec![name.clone()],
        output: vec![feature_name(i)],
        name: Some(feature_name(i)),
        op_type: Some("Identity".into()),
        ..Default::default()
    }));
    let output: Vec<ValueInfoProto> =
        (0..outputs.len()).map(|i| float_value_info(&feature_name(i), &[None; 4])).collect();
    let shape = [export.input.batch.unwrap_or(1), 3, size.0, size.1].map(Some);
    let input = vec![float_value_info(&export.input.name, &shape)];
    let graph =
        GraphProto { node, name: Some("backbone".into()), initializer, input, output, ..Default::default() };
    let proto =
        ModelProto { graph: Some(graph), metadata_props: Vec::new(), ..export.model().proto().clone() };
    Model::from_proto(proto)
}

fn feature_name(index: usize) -> String {
    format!("feature_{index}")
}
