//! Which way up views may be turned.

use std::fmt;
use std::str::FromStr;

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

/// Which way up a picture may be turned: what the camera could have seen as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Turns {
    /// Never.
    None,
    /// Mirrored left to right: right for a camera that looks ahead.
    Mirror,
    /// Mirrored either way and turned by quarters: right for a camera that looks down.
    All,
}

impl fmt::Display for Turns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Turns::None => "none",
            Turns::Mirror => "mirror",
            Turns::All => "all",
        })
    }
}

impl FromStr for Turns {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Turns::None),
            "mirror" => Ok(Turns::Mirror),
            "all" => Ok(Turns::All),
            other => Err(format!("there are no turns {other:?}; it is one of none, mirror, all")),
        }
    }
}

/// How one picture is turned: transposed first, then mirrored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Turn {
    pub mirror_x: bool,
    pub mirror_y: bool,
    pub transpose: bool,
}

impl Turn {
    /// One that is allowed. Takes three numbers whatever is allowed, so that those after it stay.
    pub fn random(turns: Turns, rng: &mut impl Rng) -> Self {
        let [mirror_x, mirror_y, transpose] = [0, 1, 2].map(|_| rng.random::<bool>());
        Turn {
            mirror_x: mirror_x && turns != Turns::None,
            mirror_y: mirror_y && turns == Turns::All,
            transpose: transpose && turns == Turns::All,
        }
    }
}
