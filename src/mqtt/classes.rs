//! `cmd/class`: what classes are called.

use serde::Deserialize;

use crate::store::ClassNames;
use crate::yolo::names::listed;

/// A class's name has at most so many bytes.
const LONGEST: usize = 64;
/// Classes at most.
const MOST: usize = 1000;

/// Arguments of `class`: either `add`, or `rename` and `to`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClassArguments {
    /// A class that labels may use from now on.
    pub add: Option<String>,
    /// The class that gets another name.
    pub rename: Option<String>,
    /// Its new name.
    pub to: Option<String>,
}

impl ClassArguments {
    /// Makes the change; gives what was done, in words.
    ///
    /// # Errors
    /// What is wrong and what it may be; nothing is changed then.
    pub fn change(&self, known: &mut ClassNames) -> Result<String, String> {
        match (&self.add, &self.rename, &self.to) {
            (Some(new), None, None) => {
                is_free(new, known)?;
                if let Some((_, today)) = known.renamed.iter().find(|(old, _)| old == new) {
                    return Err(format!(
                        "class {new:?} is called {today:?} today, and models from before still say {new:?}; take \
                         another name"
                    ));
                }
                if known.classes.len() >= MOST {
                    return Err(format!("there are {MOST} classes already, and no more are taken"));
                }
                known.classes.push(new.clone());
                Ok(format!("class {new:?} is new"))
            }
            (None, Some(old), Some(new)) => {
                let Some(number) = known.classes.iter().position(|class| class == old) else {
                    return Err(format!("there is no class {old:?}; there are {}", listed(&known.classes)));
                };
                is_free(new, known)?;
                if let Some((_, today)) =
                    known.renamed.iter().find(|(older, today)| older == new && today != old)
                {
                    return Err(format!(
                        "{new:?} is an old name of class {today:?}, and models from before still say it; take \
                         another name"
                    ));
                }
                known.rename(number, new);
                Ok(format!("class {old:?} is called {new:?} from now on"))
            }
            _ => {
                Err(r#"write either "add" with a new class's name, or "rename" with a class's name and "to""#
                    .into())
            }
        }
    }
}

/// A name that classes may have, and none has.
fn is_free(name: &str, known: &ClassNames) -> Result<(), String> {
    if name.is_empty() || name.len() > LONGEST || name.trim() != name || name.chars().any(char::is_control) {
        let name: String = name.chars().take(LONGEST).collect();
        return Err(format!(
            "{name:?} is no name for a class; 1 to {LONGEST} bytes, no spaces at its ends, no control characters"
        ));
    }
    match known.classes.iter().any(|class| class == name) {
        true => Err(format!("there is a class {name:?} already; there are {}", listed(&known.classes))),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> ClassNames {
        ClassNames { classes: ["weed", "crop"].map(str::to_owned).into(), renamed: Vec::new() }
    }

    fn add(name: &str) -> ClassArguments {
        ClassArguments { add: Some(name.into()), ..ClassArguments::default() }
    }

    fn rename(old: &str, new: &str) -> ClassArguments {
        ClassArguments { rename: Some(old.into()), to: Some(new.into()), add: None }
    }

    #[test]
    fn classes_are_added_and_renamed() {
        let mut names = known();
        add("hen").change(&mut names).expect("a new class");
        rename("weed", "charlock").change(&mut names).expect("a new name");
        assert_eq!(names.classes, ["charlock", "crop", "hen"]);
        assert_eq!(names.today("weed"), "charlock");
        rename("charlock", "weed").change(&mut names).expect("its own old name");
        assert_eq!((names.today("charlock"), names.classes.len()), ("weed", 3));
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_changes_nothing() {
        let mut names = known();
        rename("weed", "charlock").change(&mut names).expect("a new name");
        let before = names.clone();
        let both = ClassArguments { add: Some("a".into()), ..rename("crop", "b") };
        let half = ClassArguments { to: None, ..rename("crop", "b") };
        for (wrong, word) in [
            (add("crop"), "already"),
            (add("weed"), "called \"charlock\" today"),
            (rename("crop", "weed"), "old name of class \"charlock\""),
            (rename("hen", "cock"), "no class \"hen\""),
            (rename("crop", "charlock"), "already"),
            (add(""), "no name"),
            (add(" hen"), "no name"),
            (add("a\nb"), "no name"),
            (add(&"x".repeat(65)), "no name"),
            (both, "either"),
            (half, "either"),
            (ClassArguments::default(), "either"),
        ] {
            let error = wrong.change(&mut names).expect_err("a change that makes no sense");
            assert!(error.contains(word), "{error}");
            assert_eq!(names, before);
        }
    }
}
