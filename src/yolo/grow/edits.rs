//! Changes of the numbers that a graph computes with, made on copies: exporters share one constant
//! among many nodes, and only some of them mean the number of classes by it.

use std::collections::{BTreeMap, HashMap, HashSet};

use half::f16;
use prost::Message;

use crate::onnx::proto::{GraphProto, NodeProto, TensorProto, data_type};
use crate::onnx::{FreshNames, Links, values};

/// ONNX's number for truth values.
const BOOL: i32 = 9;

/// New values for some entries of a constant or of a computed vector.
type Entries = BTreeMap<usize, i64>;

/// A copy of `source` for one reader, with another entry in its second input.
struct Copied {
    reader: (usize, usize),
    source: usize,
    entries: Entries,
    length: usize,
}

/// What shall change in a graph.
#[derive(Default)]
pub(super) struct Edits {
    /// By node and input; with the vector's length.
    entries: BTreeMap<(usize, usize), (Entries, usize)>,
    settings: Vec<(usize, &'static str, usize, i64)>,
    copies: Vec<Copied>,
    /// Readers with an operator to go before them, and its second input.
    operators: Vec<((usize, usize), &'static str, Vec<i64>)>,
}

impl Edits {
    /// This entry of the vector that the node reads there, which has so many entries.
    pub fn entry(&mut self, at: (usize, usize), entry: usize, value: i64, length: usize) {
        self.entries.entry(at).or_insert_with(|| (Entries::new(), length)).0.insert(entry, value);
    }

    /// This number of a setting that is a list.
    pub fn setting(&mut self, node: usize, name: &'static str, entry: usize, value: i64) {
        self.settings.push((node, name, entry, value));
    }

    /// What `reader` (a node and its input) reads comes from a copy of `source` whose second input
    /// has this entry.
    pub fn copy(&mut self, reader: (usize, usize), source: usize, entry: usize, value: i64, length: usize) {
        self.copies.push(Copied { reader, source, entries: Entries::from([(entry, value)]), length });
    }

    /// What `reader` reads is repeated this often along an axis on which it has a length of 1.
    pub fn repeat(&mut self, reader: (usize, usize), rank: usize, axis: usize, times: i64) {
        let shape = (0..rank).map(|i| if i == axis { times } else { 1 }).collect();
        self.operators.push((reader, "Expand", shape));
    }

    /// What `reader` reads is divided by this.
    pub fn divide(&mut self, reader: (usize, usize), by: i64) {
        self.operators.push((reader, "Div", vec![by]));
    }

    /// Makes the changes; what nobody reads any more goes.
    pub fn apply(self, graph: &mut GraphProto) {
        let mut writer = Writer::new(graph);
        for (node, name, entry, value) in self.settings {
            let settings = &mut graph.node[node].attribute;
            if let Some(setting) = settings.iter_mut().find(|setting| setting.name() == name) {
                setting.ints[entry] = value;
            }
        }
        for ((node, input), (entries, length)) in self.entries {
            let name = graph.node[node].input[input].clone();
            let fresh = writer.rewritten(graph, &name, &entries, length, node);
            writer.redirect(graph, (node, input), fresh);
        }
        for Copied { reader, source, entries, length } in self.copies {
            let mut copy = graph.node[source].clone();
            copy.input[1] = writer.rewritten(graph, &copy.input[1].clone(), &entries, length, reader.0);
            copy.output = vec![writer.fresh(&copy.output[0])];
            copy.name = Some(copy.output[0].clone());
            writer.redirect(graph, reader, copy.output[0].clone());
            writer.inserted.push((reader.0, copy));
        }
        for (reader, operator, operand) in self.operators {
            let name = graph.node[reader.0].input[reader.1].clone();
            let fresh = writer.fresh(&name);
            let second = writer.fresh(&format!("{fresh}.by"));
            graph.initializer.push(values::tensor_i64(&second, &operand));
            writer.inserted.push((reader.0, node(operator, vec![name, second], &fresh)));
            writer.redirect(graph, reader, fresh);
        }
        writer.finish(graph);
    }
}

fn node(op_type: &str, input: Vec<String>, output: &str) -> NodeProto {
    NodeProto {
        input,
        output: vec![output.to_owned()],
        name: Some(output.to_owned()),
        op_type: Some(op_type.to_owned()),
        ..Default::default()
    }
}

struct Writer {
    names: FreshNames,
    /// What was made, so that nodes that shared a vector share its successor, and from which node on it
    /// can be read.
    made: HashMap<(String, Entries), (String, usize)>,
    /// Nodes to come before the node of this index.
    inserted: Vec<(usize, NodeProto)>,
    /// Names that lost a reader.
    left: Vec<String>,
}

impl Writer {
    fn new(graph: &GraphProto) -> Self {
        Writer { names: FreshNames::of(graph), made: HashMap::new(), inserted: Vec::new(), left: Vec::new() }
    }

    fn fresh(&mut self, name: &str) -> String {
        self.names.fresh(format!("{name}.classes"))
    }

    /// A value like `name` with other entries: a constant, or a choice between it and a constant where
    /// it is only known when the graph runs.
    fn rewritten(
        &mut self,
        graph: &mut GraphProto,
        name: &str,
        entries: &Entries,
        length: usize,
        before: usize,
    ) -> String {
        let key = (name.to_owned(), entries.clone());
        if let Some((made, from)) = self.made.get(&key)
            && *from <= before
        {
            return made.clone();
        }
        let fresh = self.fresh(name);
        if let Some(constant) = Links::new(graph).constant(name).cloned() {
            graph.initializer.push(with_entries(&constant, &fresh, entries));
            self.made.insert(key, (fresh.clone(), 0));
            return fresh;
        }
        self.made.insert(key, (fresh.clone(), before));
        let (mask, wanted) = (self.fresh(&format!("{fresh}.mask")), self.fresh(&format!("{fresh}.wanted")));
        let numbers: Vec<i64> = (0..length).map(|i| entries.get(&i).copied().unwrap_or(0)).collect();
        graph.initializer.push(values::tensor_i64(&wanted, &numbers));
        graph.initializer.push(TensorProto {
            name: Some(mask.clone()),
            dims: vec![length as i64],
            data_type: Some(BOOL),
            raw_data: Some((0..length).map(|i| u8::from(entries.contains_key(&i))).collect()),
            ..Default::default()
        });
        self.inserted.push((before, node("Where", vec![mask, wanted, name.to_owned()], &fresh)));
        fresh
    }

    fn redirect(&mut self, graph: &mut GraphProto, (node, input): (usize, usize), to: String) {
        let old = std::mem::replace(&mut graph.node[node].input[input], to);
        self.left.push(old);
    }

    fn finish(mut self, graph: &mut GraphProto) {
        // From the back, so that indices stay true; a stable sort keeps what belongs together in order.
        self.inserted.sort_by_key(|&(before, _)| before);
        for (before, node) in self.inserted.into_iter().rev() {
            graph.node.insert(before, node);
        }
        let captured = names_read_in_bodies(graph);
        while let Some(name) = self.left.pop() {
            let read = graph.node.iter().any(|node| node.input.contains(&name))
                || graph.output.iter().any(|output| output.name() == name)
                || captured.contains(&name);
            if read {
                continue;
            }
            graph.initializer.retain(|tensor| tensor.name() != name);
            let made = graph.node.iter().position(|node| node.output == [name.clone()]);
            if let Some(index) = made {
                self.left.extend(graph.node.remove(index).input);
            }
            graph.value_info.retain(|info| info.name() != name);
        }
    }
}

/// Names that bodies of branches and loops read, from outside or inside.
pub(super) fn names_read_in_bodies(graph: &GraphProto) -> HashSet<String> {
    let mut names = HashSet::new();
    for attribute in graph.node.iter().flat_map(|node| &node.attribute) {
        for body in attribute.g.iter().chain(&attribute.graphs) {
            let Ok(body) = GraphProto::decode(body.as_slice()) else { continue };
            names.extend(names_read_in_bodies(&body));
            names.extend(body.output.iter().map(|output| output.name().to_owned()));
            names.extend(body.node.into_iter().flat_map(|node| node.input));
        }
    }
    names
}

/// The constant under another name, in its type and shape, with other entries.
fn with_entries(constant: &TensorProto, name: &str, entries: &Entries) -> TensorProto {
    let mut raw = Vec::new();
    if let Ok(integers) = values::to_i64(constant) {
        for (index, old) in integers.into_iter().enumerate() {
            let value = entries.get(&index).copied().unwrap_or(old);
            match constant.data_type() {
                data_type::INT32 => raw.extend((value as i32).to_le_bytes()),
                _ => raw.extend(value.to_le_bytes()),
            }
        }
    } else {
        // Whoever names an entry has read it, as an integer or as a float.
        for (index, old) in values::to_f32(constant).unwrap_or_default().into_iter().enumerate() {
            let value = entries.get(&index).map_or(old, |&entry| entry as f32);
            match constant.data_type() {
                data_type::FLOAT16 => raw.extend(f16::from_f32(value).to_le_bytes()),
                data_type::DOUBLE => raw.extend(f64::from(value).to_le_bytes()),
                _ => raw.extend(value.to_le_bytes()),
            }
        }
    }
    TensorProto {
        name: Some(name.into()),
        dims: constant.dims.clone(),
        data_type: constant.data_type,
        raw_data: Some(raw),
        ..Default::default()
    }
}
