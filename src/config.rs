//! The TOML configuration file, typed and checked.
