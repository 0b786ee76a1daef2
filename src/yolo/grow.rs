//! The same detector with other classes: more of them, fewer, or under other names.
//!
//! The last class convolution of each level has one row per class, so a class that stays keeps its
//! rows, bit by bit, and a new one gets rows that say nothing yet. What counts classes behind these
//! convolutions is found by following them through the graph (`tail`), and a detector that can't
//! be followed to its end is refused before anything is trained.

mod axis;
mod edits;
mod known;
mod tail;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::onnx::proto::{TensorProto, ValueInfoProto};
use crate::onnx::{OnnxError, values};
use crate::runtime::{Runtime, RuntimeError, SessionOptions, Value};
use crate::tensor::Tensor;

use super::cut::{Cut, MapSource};
use super::export::{Branch, Export, ExportError, HeadLevel};
use super::names;

use axis::{ClassAxis, Counts};
use tail::{Carried, Tail};

/// Objects that a picture is expected to hold before anything is known.
const OBJECTS: f64 = 5.0;

/// A class of the detector to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedClass {
    /// Its name.
    pub name: String,
    /// Index of the class that it was, none for a new one.
    pub from: Option<usize>,
}

/// The classes of the detector to be, by index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassPlan {
    classes: Vec<PlannedClass>,
}

impl ClassPlan {
    /// A plan with these classes for a detector of `n_old`.
    ///
    /// # Errors
    /// One sentence, when the list is empty, a name or an origin stands in it twice, or an origin is
    /// not there.
    pub fn new(classes: Vec<PlannedClass>, n_old: usize) -> Result<Self, String> {
        if classes.is_empty() {
            return Err("no class would be left; keep one, or add a new one".into());
        }
        for (index, class) in classes.iter().enumerate() {
            let earlier = &classes[..index];
            if class.name.trim().is_empty() {
                return Err(format!("class {index} would have no name; give it one"));
            }
            if earlier.iter().any(|other| other.name == class.name) {
                return Err(format!("two classes would be named {:?}; give one another name", class.name));
            }
            if class.from.is_some_and(|from| from >= n_old) {
                return Err(format!("{:?} would be class {:?} of {n_old}", class.name, class.from));
            }
            if class.from.is_some() && earlier.iter().any(|other| other.from == class.from) {
                return Err(format!("{:?} would be a class that another one is already", class.name));
            }
        }
        Ok(ClassPlan { classes })
    }

    /// The classes, by index.
    pub fn classes(&self) -> &[PlannedClass] {
        &self.classes
    }

    /// The names, by index.
    pub fn names(&self) -> Vec<String> {
        self.classes.iter().map(|class| class.name.clone()).collect()
    }

    /// Whether a detector with these classes is that detector already.
    pub fn is_what(&self, known: &[String]) -> bool {
        self.classes.len() == known.len()
            && self
                .classes
                .iter()
                .zip(known)
                .enumerate()
                .all(|(index, (class, name))| class.from == Some(index) && class.name == *name)
    }
}

/// The detector with the classes of the plan. `size` is the input's height and width that it will be
/// trained at.
///
/// # Errors
/// [`ExportError::NotSupported`] when something behind its class maps can't be made to hold another
/// number of classes.
pub fn with_classes(export: &Export, plan: &ClassPlan, size: (usize, usize)) -> Result<Export, ExportError> {
    let counts = Counts { old: export.classes.len(), new: plan.classes.len() };
    let mut model = export.model().clone();
    if counts.old != counts.new || plan.classes.iter().enumerate().any(|(i, class)| class.from != Some(i)) {
        for conv in export.convs.iter().filter(|c| c.branch == Branch::Class && export.is_last(c)) {
            let parameters: Vec<&str> = export.parameters(conv).collect();
            let [kernel, bias] = parameters.as_slice() else {
                return Err(unfit("the last convolution of its class branch has no bias".into()));
            };
            let prior = prior(&export.levels[conv.level], plan.classes.len(), size);
            for (name, fill) in [(kernel, 0.0), (bias, prior)] {
                let graph = model.graph_mut();
                let tensor = graph.initializer.iter_mut().find(|t| t.name() == *name);
                let tensor =
                    tensor.ok_or_else(|| unfit(format!("its constant {name:?} is not in the file")))?;
                *tensor = with_rows(tensor, plan, counts.old, fill)?;
                // Some exporters tell the types of constants too.
                let told = graph.value_info.iter_mut().chain(&mut graph.input);
                for info in told.filter(|info| info.name() == *name) {
                    resize(info, ClassAxis::of_rows(), counts);
                }
            }
        }
    }
    if counts.old != counts.new {
        let maps: Vec<&str> = export.levels.iter().map(|level| level.class_map.as_str()).collect();
        let tail = Tail::follow(export.model().graph(), &maps, counts).map_err(unfit)?;
        let graph = model.graph_mut();
        for info in graph.value_info.iter_mut().chain(&mut graph.output) {
            if let Some(Carried::Classes(axis)) = tail.carried.get(info.name()) {
                resize(info, *axis, counts);
            }
        }
        tail.edits.apply(graph);
    }
    model.set_metadata("names", &names::format(&plan.names()));
    if model.metadata("nc").is_some() {
        model.set_metadata("nc", &counts.new.to_string());
    }
    Export::new(model)
}

fn unfit(reason: String) -> ExportError {
    ExportError::NotSupported(format!(
        "its classes can't be changed: {reason}; export the model again without what comes behind its head \
         (no suppression, no fused operators), or keep to the classes that it has"
    ))
}

/// The bias of a class of which nothing is known: the logarithm of the share of cells that would hold
/// it, if a picture had five objects, of any class, in each level.
///
/// Source: `bias_init` of Ultralytics' detection head, ln(5 / classes / (side / stride)²), there with a
/// side of 640 always; its idea is the prior of Lin et al., "Focal Loss for Dense Object Detection"
/// (arXiv 1708.02002): without it the many cells that hold nothing drown the first steps. Where an input
/// has hardly more cells than objects, half of them are taken to hold one.
fn prior(level: &HeadLevel, n_classes: usize, (height, width): (usize, usize)) -> f32 {
    let cells = (height * width) as f64 / (level.stride * level.stride) as f64;
    (OBJECTS / n_classes as f64 / cells).min(0.5).ln() as f32
}

/// The rows of the classes that stay, in the plan's order, and `fill` for those that are new.
fn with_rows(
    tensor: &TensorProto,
    plan: &ClassPlan,
    n_old: usize,
    fill: f32,
) -> Result<TensorProto, OnnxError> {
    let shape = values::dims(tensor)?;
    let old = values::to_f32(tensor)?;
    if shape.first() != Some(&n_old) {
        return Err(OnnxError::invalid(format!(
            "{:?} has no row for each of {n_old} classes",
            tensor.name()
        )));
    }
    let length = old.len() / n_old;
    let rows: Vec<f32> = plan
        .classes
        .iter()
        .flat_map(|class| match class.from {
            Some(from) => old[from * length..][..length].to_vec(),
            None => vec![fill; length],
        })
        .collect();
    let mut grown = tensor.clone();
    grown.dims[0] = plan.classes.len() as i64;
    values::replace_f32(&mut grown, &rows)?;
    Ok(grown)
}

/// Writes the new length into the shape that the file tells of a value.
fn resize(info: &mut ValueInfoProto, axis: ClassAxis, counts: Counts) {
    let shape =
        info.r#type.as_mut().and_then(|kind| kind.tensor_type.as_mut()).and_then(|t| t.shape.as_mut());
    let Some(dim) = shape.and_then(|shape| shape.dim.get_mut(axis.axis)) else { return };
    let length = dim.dim_value.and_then(|length| usize::try_from(length).ok());
    if let Some(length) = length.and_then(|length| axis.resized(length, counts)) {
        dim.dim_value = Some(length as i64);
    }
}

/// Runs the detector with the new classes beside the one that it was made from, on noise: old classes
/// must be scored as before, boxes must be the same, and the whole file must run.
///
/// # Errors
/// [`ExportError::NotSupported`] with what differs or does not run.
pub fn verify(
    base: &Export,
    grown: &Export,
    plan: &ClassPlan,
    size: (usize, usize),
    runtime: &dyn Runtime,
    options: &SessionOptions,
) -> Result<(), ExportError> {
    let picture = noise([base.input.batch.unwrap_or(1), 3, size.0, size.1]);
    let maps = |export: &Export| -> Result<Vec<[Value; 2]>, ExportError> {
        let cut = Cut::new(export, &|_, _| false, size)?;
        let run = |bytes: &[u8]| runtime.load(bytes, options)?.run(&[&picture.clone().into()]);
        let mut outputs: Vec<Option<Value>> =
            run(&cut.backbone.encode()).map_err(does_not_run)?.into_iter().map(Some).collect();
        let mut take = |source: MapSource| match source {
            MapSource::Backbone(index) | MapSource::Head(index) => outputs
                .get_mut(index)
                .and_then(Option::take)
                .ok_or_else(|| unfit("it has no raw maps".into())),
        };
        cut.maps.iter().map(|&(boxes, classes)| Ok([take(boxes)?, take(classes)?])).collect()
    };
    for (level, (old, new)) in maps(base)?.iter().zip(&maps(grown)?).enumerate() {
        let same = close(old[0].data(), new[0].data())
            && kept(&old[1], &new[1], plan, (base.classes.len(), grown.classes.len()));
        if !same {
            return Err(unfit(format!(
                "level {level} would find other boxes or score old classes otherwise"
            )));
        }
    }
    // tract knows no suppression inside a file: what it does not take of the base, it need not take here.
    let whole =
        |export: &Export| runtime.load(&export.model().encode(), options)?.run(&[&picture.clone().into()]);
    let Ok(old) = whole(base) else { return Ok(()) };
    let new = whole(grown).map_err(does_not_run)?;
    for (old, new) in old.iter().zip(&new) {
        // `[batch, 4 + classes, cells]`: the only form in which classes have places of their own.
        let channels = |value: &Value, n: usize| value.shape().len() == 3 && value.shape()[1] == 4 + n;
        let rows = old.shape().last() == Some(&6) && old.shape() == new.shape();
        if channels(old, base.classes.len()) && channels(new, grown.classes.len()) {
            continue;
        }
        if !rows {
            return Err(unfit(format!("its output would go from {:?} to {:?}", old.shape(), new.shape())));
        }
    }
    Ok(())
}

fn does_not_run(error: RuntimeError) -> ExportError {
    unfit(format!("with other classes it does not run ({error})"))
}

/// Whether classes that stay are scored as before, in a map `[batch, classes, height, width]`.
fn kept(old: &Value, new: &Value, plan: &ClassPlan, (n_old, n_new): (usize, usize)) -> bool {
    let (was, is) = (old.shape(), new.shape());
    if was.len() != 4 || is.len() != 4 || was[0] != is[0] || was[2..] != is[2..] || is[1] != n_new {
        return false;
    }
    let cells = was[2] * was[3];
    (0..was[0]).all(|picture| {
        plan.classes.iter().enumerate().filter_map(|(to, class)| Some((to, class.from?))).all(|(to, from)| {
            let old = &old.data()[(picture * n_old + from) * cells..][..cells];
            let new = &new.data()[(picture * n_new + to) * cells..][..cells];
            close(old, new)
        })
    })
}

/// Equal but for the order in which a runtime adds up.
fn close(old: &[f32], new: &[f32]) -> bool {
    let scale = old.iter().fold(1.0_f32, |scale, value| scale.max(value.abs()));
    old.len() == new.len() && old.iter().zip(new).all(|(a, b)| (a - b).abs() <= 1e-4 * scale)
}

/// A picture that looks like nothing and is the same every time.
fn noise(shape: [usize; 4]) -> Tensor {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    Tensor::new(shape, (0..shape.iter().product::<usize>()).map(|_| rng.random()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(name: &str, from: Option<usize>) -> PlannedClass {
        PlannedClass { name: name.into(), from }
    }

    #[test]
    fn a_plan_that_makes_no_sense_is_refused_with_a_sentence() {
        for (classes, word) in [
            (vec![], "no class"),
            (vec![class(" ", None)], "no name"),
            (vec![class("a", Some(0)), class("a", None)], "two classes"),
            (vec![class("a", Some(2))], "of 2"),
            (vec![class("a", Some(0)), class("b", Some(0))], "already"),
        ] {
            let error = ClassPlan::new(classes, 2).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn a_plan_knows_when_nothing_changes() {
        let known = ["a".to_owned(), "b".to_owned()];
        let plan = |classes| ClassPlan::new(classes, 2).unwrap();
        assert!(plan(vec![class("a", Some(0)), class("b", Some(1))]).is_what(&known));
        assert!(!plan(vec![class("b", Some(1)), class("a", Some(0))]).is_what(&known));
        assert!(!plan(vec![class("a", Some(0)), class("c", Some(1))]).is_what(&known));
        assert!(!plan(vec![class("a", Some(0))]).is_what(&known));
    }

    #[test]
    fn the_prior_is_the_reference_s() {
        let level = HeadLevel { stride: 8, channels: 1, box_map: String::new(), class_map: String::new() };
        let reference = (5.0_f64 / 80.0 / (640.0_f64 / 8.0).powi(2)).ln() as f32;
        assert_eq!(prior(&level, 80, (640, 640)), reference);
        assert!(prior(&level, 1, (8, 8)) < 0.0);
    }
}
