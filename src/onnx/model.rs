//! A model file: reading, checking, metadata, writing.

use std::collections::HashSet;
use std::path::Path;

use prost::Message;

use super::OnnxError;
use super::proto::{GraphProto, ModelProto, StringStringEntryProto, TensorProto};

/// `TensorProto.DataLocation.EXTERNAL`.
const EXTERNAL: i32 = 1;

/// An ONNX model whose graph is present and consistent.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    proto: ModelProto,
}

impl Model {
    /// Reads a file, with the values that it keeps in files beside it.
    ///
    /// # Errors
    /// [`OnnxError::Io`] when a file can't be read; otherwise as [`Model::parse`].
    pub fn read(path: &Path) -> Result<Self, OnnxError> {
        let bytes = std::fs::read(path).map_err(|source| OnnxError::Io { path: path.to_owned(), source })?;
        let mut model = Model::parse(&bytes)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        for tensor in &mut model.graph_mut().initializer {
            load_external_data(tensor, folder)?;
        }
        Ok(model)
    }

    /// Whether some of its values lie in files beside it and have not been brought in.
    pub fn has_external_data(&self) -> bool {
        self.graph().initializer.iter().any(|tensor| tensor.data_location() == EXTERNAL)
    }

    /// Decodes and checks the bytes of a file.
    ///
    /// # Errors
    /// [`OnnxError::NotOnnx`], [`OnnxError::Damaged`] or, when names don't add up,
    /// [`OnnxError::Invalid`].
    pub fn parse(bytes: &[u8]) -> Result<Self, OnnxError> {
        if bytes.is_empty() {
            return Err(OnnxError::NotOnnx { reason: "it is empty".into() });
        }
        // Field 1 (`ir_version`, a varint) comes first in every file that a known writer made.
        let begins_well = bytes[0] == 0x08;
        let proto = ModelProto::decode(bytes).map_err(|error| {
            let reason = error.to_string();
            if begins_well { OnnxError::Damaged { reason } } else { OnnxError::NotOnnx { reason } }
        })?;
        let mut model = Model::from_proto(proto)?;
        model.check()?;
        Ok(model)
    }

    /// Takes a message whose graph is present.
    ///
    /// # Errors
    /// [`OnnxError::NotOnnx`] when there is no graph or no node in it.
    pub fn from_proto(proto: ModelProto) -> Result<Self, OnnxError> {
        match &proto.graph {
            Some(graph) if !graph.node.is_empty() => Ok(Model { proto }),
            _ => Err(OnnxError::NotOnnx { reason: "it holds no graph".into() }),
        }
    }

    /// The message.
    pub fn proto(&self) -> &ModelProto {
        &self.proto
    }

    /// The message, to edit.
    pub fn proto_mut(&mut self) -> &mut ModelProto {
        &mut self.proto
    }

    /// The graph.
    pub fn graph(&self) -> &GraphProto {
        self.proto.graph.as_ref().expect("a Model is only made with a graph")
    }

    /// The graph, to edit.
    pub fn graph_mut(&mut self) -> &mut GraphProto {
        self.proto.graph.as_mut().expect("a Model is only made with a graph")
    }

    /// Version of the standard operator set, 0 when the file names none.
    pub fn opset(&self) -> i64 {
        self.proto
            .opset_import
            .iter()
            .find(|set| matches!(set.domain(), "" | "ai.onnx"))
            .map_or(0, |set| set.version())
    }

    /// The metadata value of this key.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.proto.metadata_props.iter().find(|entry| entry.key() == key).map(|entry| entry.value())
    }

    /// Sets the metadata value of this key, in place when the key exists.
    pub fn set_metadata(&mut self, key: &str, value: &str) {
        let entries = &mut self.proto.metadata_props;
        match entries.iter_mut().find(|entry| entry.key() == key) {
            Some(entry) => entry.value = Some(value.to_owned()),
            None => entries
                .push(StringStringEntryProto { key: Some(key.to_owned()), value: Some(value.to_owned()) }),
        }
    }

    /// The bytes of a file.
    pub fn encode(&self) -> Vec<u8> {
        self.proto.encode_to_vec()
    }

    /// Every name that a node reads is given, no name is written twice, and nodes stand in
    /// topological order, as the format demands. Some converters append nodes at the end all the
    /// same, so nodes that came too early are moved behind what feeds them.
    fn check(&mut self) -> Result<(), OnnxError> {
        let graph = self.proto.graph.as_mut().expect("a Model is only made with a graph");
        let mut known: HashSet<String> = graph.initializer.iter().map(|t| t.name().to_owned()).collect();
        known.extend(graph.input.iter().map(|input| input.name().to_owned()));
        known.insert(String::new());
        let mut waiting = std::mem::take(&mut graph.node);
        while !waiting.is_empty() {
            let before = waiting.len();
            let mut early = Vec::new();
            for node in waiting {
                if !node.input.iter().all(|name| known.contains(name)) {
                    early.push(node);
                    continue;
                }
                for name in node.output.iter().filter(|name| !name.is_empty()) {
                    if !known.insert(name.clone()) {
                        return Err(OnnxError::invalid(format!("{name:?} is written twice")));
                    }
                }
                graph.node.push(node);
            }
            waiting = early;
            if let (Some(node), true) = (waiting.first(), waiting.len() == before) {
                let missing = node.input.iter().find(|name| !known.contains(*name));
                return Err(OnnxError::invalid(format!(
                    "node {:?} ({}) reads {:?}, which nothing before it writes",
                    node.name(),
                    node.op_type(),
                    missing.map_or("", String::as_str)
                )));
            }
        }
        match graph.output.iter().find(|output| !known.contains(output.name())) {
            Some(output) => {
                Err(OnnxError::invalid(format!("nothing writes the graph's output {:?}", output.name())))
            }
            None => Ok(()),
        }
    }
}

/// Brings values that lie in a file beside the model into the tensor.
fn load_external_data(tensor: &mut TensorProto, folder: &Path) -> Result<(), OnnxError> {
    if tensor.data_location() != EXTERNAL {
        return Ok(());
    }
    let entry = |key: &str| {
        tensor.external_data.iter().find(|entry| entry.key() == key).map(|entry| entry.value().to_owned())
    };
    let location = entry("location").ok_or_else(|| {
        OnnxError::invalid(format!("{:?} lies in another file that is not named", tensor.name()))
    })?;
    let relative = Path::new(&location);
    if relative.components().any(|part| !matches!(part, std::path::Component::Normal(_))) {
        return Err(OnnxError::invalid(format!("external data {location:?} points outside the folder")));
    }
    let number = |key: &str| match entry(key) {
        None => Ok(None),
        Some(text) => text
            .parse::<usize>()
            .map(Some)
            .map_err(|_| OnnxError::invalid(format!("external data of {:?}: bad {key}", tensor.name()))),
    };
    let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);
    let path = folder.join(relative);
    let bytes = std::fs::read(&path).map_err(|source| OnnxError::Io { path: path.clone(), source })?;
    let end = length.map_or(Some(bytes.len()), |length| offset.checked_add(length));
    let slice = end.and_then(|end| bytes.get(offset..end)).ok_or_else(|| OnnxError::Damaged {
        reason: format!("{} is too short for {:?}", path.display(), tensor.name()),
    })?;
    tensor.raw_data = Some(slice.to_vec());
    tensor.external_data.clear();
    tensor.data_location = None;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_onnx_are_refused_with_what_to_do() {
        let error = Model::parse(b"%PDF-1.7 something else").unwrap_err();
        assert!(matches!(error, OnnxError::NotOnnx { .. }), "{error}");
        assert!(error.to_string().contains(".onnx"), "{error}");
        assert!(matches!(Model::parse(b"").unwrap_err(), OnnxError::NotOnnx { .. }));
    }

    #[test]
    fn metadata_is_replaced_in_place_and_added_at_the_end() {
        let mut graph = crate::onnx::GraphBuilder::new("g");
        let x = graph.input("x", &[1]);
        graph.output(&x, "y").unwrap();
        let mut model = graph.finish();
        model.set_metadata("names", "a");
        model.set_metadata("stride", "32");
        model.set_metadata("names", "b");
        assert_eq!(model.metadata("names"), Some("b"));
        assert_eq!(model.proto().metadata_props.len(), 2);
        assert_eq!(Model::parse(&model.encode()).unwrap(), model);
    }
}
