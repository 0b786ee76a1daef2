//! Names that nothing in a graph has.

use std::collections::HashSet;

use super::proto::GraphProto;

/// Gives names that are free in a graph, each once.
#[derive(Debug)]
pub struct FreshNames {
    taken: HashSet<String>,
}

impl FreshNames {
    /// Names beside those of the graph's values.
    pub fn of(graph: &GraphProto) -> Self {
        let mut taken: HashSet<String> = graph.initializer.iter().map(|t| t.name().to_owned()).collect();
        taken.extend(graph.input.iter().map(|input| input.name().to_owned()));
        taken.extend(graph.node.iter().flat_map(|node| node.output.iter().cloned()));
        FreshNames { taken }
    }

    /// This name, or one much like it where it is taken.
    pub fn fresh(&mut self, wanted: String) -> String {
        let mut name = wanted;
        while !self.taken.insert(name.clone()) {
            name.push('_');
        }
        name
    }
}
