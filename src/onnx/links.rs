//! Who writes and who reads each value of a graph.

use std::collections::{HashMap, HashSet};

use super::proto::{GraphProto, NodeProto, TensorProto};

/// An index over a graph that stays as it is while the index lives.
#[derive(Debug)]
pub struct Links<'a> {
    graph: &'a GraphProto,
    producer: HashMap<&'a str, usize>,
    consumers: HashMap<&'a str, Vec<usize>>,
    initializer: HashMap<&'a str, usize>,
}

impl<'a> Links<'a> {
    /// Indexes a graph.
    pub fn new(graph: &'a GraphProto) -> Self {
        let mut producer = HashMap::new();
        let mut consumers: HashMap<&str, Vec<usize>> = HashMap::new();
        for (index, node) in graph.node.iter().enumerate() {
            // An empty name stands for an output that nobody wants.
            for name in node.output.iter().filter(|name| !name.is_empty()) {
                producer.insert(name.as_str(), index);
            }
            for name in &node.input {
                consumers.entry(name.as_str()).or_default().push(index);
            }
        }
        let initializer =
            graph.initializer.iter().enumerate().map(|(index, tensor)| (tensor.name(), index)).collect();
        Links { graph, producer, consumers, initializer }
    }

    /// The graph.
    pub fn graph(&self) -> &'a GraphProto {
        self.graph
    }

    /// Index of the node that writes this value.
    pub fn producer_index(&self, name: &str) -> Option<usize> {
        self.producer.get(name).copied()
    }

    /// The node that writes this value; none for inputs and constants.
    pub fn producer(&self, name: &str) -> Option<&'a NodeProto> {
        self.producer_index(name).map(|index| &self.graph.node[index])
    }

    /// Indices of the nodes that read this value, in order, once per reading.
    pub fn consumers(&self, name: &str) -> &[usize] {
        self.consumers.get(name).map_or(&[], Vec::as_slice)
    }

    /// The constant of this name: an initializer, or one that `Identity` nodes alias.
    pub fn constant(&self, name: &str) -> Option<&'a TensorProto> {
        let mut name = name;
        loop {
            if let Some(&index) = self.initializer.get(name) {
                return Some(&self.graph.initializer[index]);
            }
            match self.producer(name) {
                Some(node) if node.op_type() == "Identity" => name = node.input.first()?,
                Some(node) if node.op_type() == "Constant" => {
                    return node.attribute.iter().find(|a| a.name() == "value")?.t.as_ref();
                }
                _ => return None,
            }
        }
    }

    /// Indices, in order, of the nodes that are needed to compute `outputs` from `inputs` and
    /// constants. Values in `inputs` are taken as given.
    pub fn slice(&self, inputs: &HashSet<&str>, outputs: &[&str]) -> Vec<usize> {
        let mut needed = vec![false; self.graph.node.len()];
        let mut open: Vec<&str> = outputs.to_vec();
        while let Some(name) = open.pop() {
            if inputs.contains(name) {
                continue;
            }
            if let Some(index) = self.producer_index(name)
                && !std::mem::replace(&mut needed[index], true)
            {
                open.extend(self.graph.node[index].input.iter().map(String::as_str));
            }
        }
        (0..needed.len()).filter(|&index| needed[index]).collect()
    }
}
