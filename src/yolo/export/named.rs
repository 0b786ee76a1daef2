//! Tells levels and branches of raw maps by the names that Ultralytics' networks give.
//!
//! Kernels of the head are called `model.K.cvB.L.…` (something may stand in front), where K is the
//! last module, B the branch (2 boxes, 3 classes; more in other tasks) and L the level. One-to-one
//! heads say `one2one_cvB`. The last convolution of a branch has no BatchNorm to be folded with, so
//! most exporters keep at least its name.

use std::collections::BTreeMap;

use crate::onnx::Links;

use super::tail::kernel;
use super::{ExportError, MAX_LEVELS, Pair, refuse};

/// The pairs that the names tell, finest level first, and whether they are of a one-to-one head.
/// None when the names don't tell it all.
pub(super) fn pairs(links: &Links, maps: &[usize]) -> Result<Option<(Vec<Pair>, bool)>, ExportError> {
    let graph = links.graph();
    let named: Option<Vec<(usize, Name)>> = maps
        .iter()
        .map(|&index| {
            kernel(links, &graph.node[index])?;
            Some((index, parse(&graph.node[index].input[1])?))
        })
        .collect();
    let Some(mut named) = named else { return Ok(None) };
    if named.iter().any(|(_, name)| name.branch > 3) {
        return Err(refuse::third_branch(named.len()));
    }
    // Where an output is made of both heads, the one-to-one head is the one that the file is for.
    let one_to_one = named.iter().any(|(_, name)| name.one_to_one);
    named.retain(|(_, name)| name.one_to_one == one_to_one);
    let mut found: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    for (index, name) in &named {
        if found.insert((name.level, name.branch), *index).is_some() {
            return Ok(None);
        }
    }
    let pairs: Option<Vec<Pair>> = (0..named.len() / 2)
        .map(|level| Some(Pair { boxes: *found.get(&(level, 2))?, classes: *found.get(&(level, 3))? }))
        .collect();
    Ok(pairs
        .filter(|pairs| !pairs.is_empty() && 2 * pairs.len() == named.len())
        .map(|pairs| (pairs, one_to_one)))
}

/// What a parameter's name says.
#[derive(Debug, PartialEq)]
struct Name {
    one_to_one: bool,
    branch: usize,
    level: usize,
}

fn parse(name: &str) -> Option<Name> {
    let (before, rest) = name.rsplit_once("model.")?;
    if !before.is_empty() && !before.ends_with('.') {
        return None;
    }
    let (module, rest) = rest.split_once('.')?;
    module.parse::<usize>().ok()?;
    let one_to_one = rest.starts_with("one2one_");
    let rest = rest.strip_prefix("one2one_").unwrap_or(rest);
    let (branch, rest) = rest.strip_prefix("cv")?.split_once('.')?;
    let (level, _) = rest.split_once('.')?;
    let branch = branch.parse().ok().filter(|branch| (2..=5).contains(branch))?;
    let level = level.parse().ok().filter(|&level| level < MAX_LEVELS)?;
    Some(Name { one_to_one, branch, level })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_with_and_without_what_stands_in_front() {
        let name = |one_to_one, branch, level| Some(Name { one_to_one, branch, level });
        assert_eq!(parse("model.22.cv2.0.2.weight"), name(false, 2, 0));
        assert_eq!(parse("model.model.23.one2one_cv3.1.2.weight"), name(true, 3, 1));
        assert_eq!(parse("inner.model.9.cv4.2.2.weight"), name(false, 4, 2));
        for other in [
            "onnx::Conv_412",
            "model.22.cv2.conv.weight",
            "submodel.22.cv2.0.2.weight",
            "model.22.dfl.conv.weight",
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
