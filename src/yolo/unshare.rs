//! Gives each head convolution constants of its own.
//!
//! Optimisers merge equal constants, and exporters alias them by `Identity`. Training one of two
//! users of a shared constant would change the other.

use std::collections::{HashMap, HashSet};

use crate::onnx::{FreshNames, Links, Model};

/// Rewrites the convolutions of these indices so that their kernels and biases are initializers that
/// nothing else reads.
pub(super) fn unshare(model: &mut Model, convs: &HashSet<usize>) {
    let graph = model.graph();
    let links = Links::new(graph);
    let mut names = FreshNames::of(graph);
    let mut copies = Vec::new();
    let mut renames: HashMap<(usize, usize), String> = HashMap::new();
    for (index, node) in graph.node.iter().enumerate() {
        if !convs.contains(&index) {
            continue;
        }
        for position in 1..node.input.len() {
            let name = &node.input[position];
            let Some(constant) = links.constant(name) else { continue };
            let own = constant.name() == name && links.consumers(name).len() == 1;
            if own {
                continue;
            }
            let fresh = names.fresh(format!("{name}.own"));
            let mut copy = constant.clone();
            copy.name = Some(fresh.clone());
            copies.push(copy);
            renames.insert((index, position), fresh);
        }
    }
    let graph = model.graph_mut();
    for ((node, position), name) in renames {
        graph.node[node].input[position] = name;
    }
    // What nobody reads any more stays: it is harmless, and bodies of loops may read it.
    graph.initializer.extend(copies);
}
