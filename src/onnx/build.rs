//! Writes a new graph node by node; every value's shape is known as soon as it is made.

use std::collections::{HashMap, HashSet};

use super::OnnxError;
use super::model::Model;
use super::proto::{
    AttributeProto, DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto, data_type,
};
use super::shapes::infer_shapes;
use super::values::{tensor_f32, tensor_i64};

/// Operator set that graftd writes: the oldest one with all it needs, so that old runtimes load it.
const OPSET: i64 = 17;
/// File format that goes with [`OPSET`].
const IR_VERSION: i64 = 8;

/// A graph in the making. Values are known by their names.
#[derive(Debug)]
pub struct GraphBuilder {
    graph: GraphProto,
    shapes: HashMap<String, Vec<usize>>,
    integers: HashMap<Vec<i64>, String>,
    scalars: HashMap<u32, String>,
    fresh: usize,
}

impl GraphBuilder {
    /// An empty graph.
    pub fn new(name: &str) -> Self {
        GraphBuilder {
            graph: GraphProto { name: Some(name.into()), ..Default::default() },
            shapes: HashMap::new(),
            integers: HashMap::new(),
            scalars: HashMap::new(),
            fresh: 0,
        }
    }

    /// Adds an input of `f32`; gives its name back.
    pub fn input(&mut self, name: &str, shape: &[usize]) -> String {
        self.graph.input.push(float_value_info(name, &known(shape)));
        self.shapes.insert(name.into(), shape.to_vec());
        name.into()
    }

    /// Adds an input of `f32` whose first axis is counted at run time; `rest` holds the other lengths. Shapes
    /// of what is made of it are worked out as if it were `stand_in` long.
    pub fn input_of_any_length(&mut self, name: &str, stand_in: usize, rest: &[usize]) -> String {
        let lengths: Vec<Option<usize>> = [None].into_iter().chain(rest.iter().copied().map(Some)).collect();
        self.graph.input.push(float_value_info(name, &lengths));
        self.shapes.insert(name.into(), [&[stand_in], rest].concat());
        name.into()
    }

    /// Whether a value of this name exists.
    pub fn has(&self, name: &str) -> bool {
        self.shapes.contains_key(name)
    }

    /// Shape of a value.
    ///
    /// # Panics
    /// When no value of this name was made: a mistake in the caller.
    pub fn shape(&self, name: &str) -> &[usize] {
        self.shapes.get(name).unwrap_or_else(|| panic!("no value {name:?} in the graph"))
    }

    /// Adds a named `f32` constant.
    pub fn constant(&mut self, name: &str, shape: &[usize], values: &[f32]) -> String {
        self.graph.initializer.push(tensor_f32(name, shape, values));
        self.shapes.insert(name.into(), shape.to_vec());
        name.into()
    }

    /// Adds a constant as it is.
    ///
    /// # Errors
    /// When its shape is impossible.
    pub fn initializer(&mut self, tensor: TensorProto) -> Result<(), OnnxError> {
        self.shapes.insert(tensor.name().into(), super::values::dims(&tensor)?);
        self.graph.initializer.push(tensor);
        Ok(())
    }

    /// A scalar `f32` constant; equal ones are shared.
    pub fn scalar(&mut self, value: f32) -> String {
        if let Some(name) = self.scalars.get(&value.to_bits()) {
            return name.clone();
        }
        let name = self.fresh("scalar");
        self.constant(&name, &[], &[value]);
        self.scalars.insert(value.to_bits(), name.clone());
        name
    }

    /// A constant list of integers; equal ones are shared.
    pub fn integers(&mut self, values: &[i64]) -> String {
        if let Some(name) = self.integers.get(values) {
            return name.clone();
        }
        let name = self.fresh("ints");
        self.graph.initializer.push(tensor_i64(&name, values));
        self.shapes.insert(name.clone(), vec![values.len()]);
        self.integers.insert(values.to_vec(), name.clone());
        name
    }

    /// Adds an operator with one output; gives the output's name.
    ///
    /// # Errors
    /// When the shapes don't fit the operator.
    pub fn op(
        &mut self,
        op_type: &str,
        inputs: &[&str],
        attributes: &[AttributeProto],
    ) -> Result<String, OnnxError> {
        let output = self.fresh(op_type);
        self.node(NodeProto {
            input: inputs.iter().map(|&name| name.into()).collect(),
            output: vec![output.clone()],
            name: Some(output.clone()),
            op_type: Some(op_type.into()),
            attribute: attributes.to_vec(),
            ..Default::default()
        })?;
        Ok(output)
    }

    /// Adds a node as it is; its inputs must exist.
    ///
    /// # Errors
    /// When an input does not exist, or the shapes don't fit the operator.
    pub fn node(&mut self, node: NodeProto) -> Result<(), OnnxError> {
        let shapes = node
            .input
            .iter()
            .map(|name| match name.as_str() {
                "" => Ok(Vec::new()),
                name => self.shapes.get(name).cloned().ok_or_else(|| {
                    OnnxError::invalid(format!("node {:?} reads {name:?}, which does not exist", node.name()))
                }),
            })
            .collect::<Result<Vec<_>, _>>()?;
        let initializers = &self.graph.initializer;
        let constant = |name: &str| {
            let tensor = initializers.iter().rev().find(|tensor| tensor.name() == name)?;
            super::values::to_i64(tensor).ok()
        };
        let outputs = infer_shapes(&node, &shapes, &constant)?;
        for (name, shape) in node.output.iter().zip(outputs) {
            self.shapes.insert(name.clone(), shape);
        }
        self.graph.node.push(node);
        Ok(())
    }

    /// The output of a node that does this to this input alone, if there is one.
    pub fn find(&self, op_type: &str, input: &str) -> Option<String> {
        let found = self.graph.node.iter().find(|node| node.op_type() == op_type && node.input == [input]);
        found.map(|node| node.output[0].clone())
    }

    /// Makes a value an output of the graph under a name of its own.
    ///
    /// # Errors
    /// When the name is taken by another value.
    pub fn output(&mut self, value: &str, name: &str) -> Result<(), OnnxError> {
        if value != name {
            if self.has(name) {
                return Err(OnnxError::invalid(format!("{name:?} is already a value of the graph")));
            }
            self.node(NodeProto {
                input: vec![value.into()],
                output: vec![name.into()],
                name: Some(name.into()),
                op_type: Some("Identity".into()),
                ..Default::default()
            })?;
        }
        let info = float_value_info(name, &known(self.shape(name)));
        self.graph.output.push(info);
        Ok(())
    }

    /// The same for a value whose first axis is counted at run time.
    ///
    /// # Errors
    /// As [`GraphBuilder::output`].
    pub fn output_of_any_length(&mut self, value: &str, name: &str) -> Result<(), OnnxError> {
        self.output(value, name)?;
        let mut lengths = known(self.shape(name));
        lengths[0] = None;
        self.graph.output.pop();
        self.graph.output.push(float_value_info(name, &lengths));
        Ok(())
    }

    /// Takes away inputs and constants that no node reads; gives the names of the inputs that stay.
    /// Names in `keep` stay in any case.
    pub fn prune(&mut self, keep: &[&str]) -> HashSet<String> {
        let read: HashSet<&str> =
            self.graph.node.iter().flat_map(|node| node.input.iter().map(String::as_str)).collect();
        let stays = |name: &str| read.contains(name) || keep.contains(&name);
        self.graph.input.retain(|input| stays(input.name()));
        self.graph.initializer.retain(|tensor| stays(tensor.name()));
        self.inputs().into_iter().collect()
    }

    /// Puts the inputs into this order; those that it does not name follow in the order they have.
    pub fn order_inputs(&mut self, order: &[String]) {
        self.graph
            .input
            .sort_by_key(|input| order.iter().position(|name| name == input.name()).unwrap_or(order.len()));
    }

    /// Names of the inputs so far.
    pub fn inputs(&self) -> Vec<String> {
        self.graph.input.iter().map(|input| input.name().to_owned()).collect()
    }

    /// Names of the outputs so far.
    pub fn outputs(&self) -> Vec<String> {
        self.graph.output.iter().map(|output| output.name().to_owned()).collect()
    }

    /// The model.
    pub fn finish(self) -> Model {
        let opset = OperatorSetIdProto { domain: Some(String::new()), version: Some(OPSET) };
        let proto = ModelProto {
            ir_version: Some(IR_VERSION),
            producer_name: Some("graftd".into()),
            producer_version: Some(env!("CARGO_PKG_VERSION").into()),
            graph: Some(self.graph),
            opset_import: vec![opset],
            ..Default::default()
        };
        Model::from_proto(proto).expect("the graph was just put in and holds a node for each output")
    }

    fn fresh(&mut self, stem: &str) -> String {
        self.fresh += 1;
        format!("{stem}_{}", self.fresh)
    }
}

/// Name, element type `f32` and shape of a graph's input or output; none for a length that only the
/// run will show.
pub(crate) fn float_value_info(name: &str, shape: &[Option<usize>]) -> ValueInfoProto {
    let dim = |length: &Option<usize>| DimensionProto {
        dim_value: length.map(|length| length as i64),
        ..Default::default()
    };
    let shape = Some(TensorShapeProto { dim: shape.iter().map(dim).collect() });
    let tensor = TensorTypeProto { elem_type: Some(data_type::FLOAT), shape };
    ValueInfoProto {
        name: Some(name.into()),
        r#type: Some(TypeProto { tensor_type: Some(tensor), ..Default::default() }),
        ..Default::default()
    }
}

/// A shape of which every length is known.
fn known(shape: &[usize]) -> Vec<Option<usize>> {
    shape.iter().copied().map(Some).collect()
}
