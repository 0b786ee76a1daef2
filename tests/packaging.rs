//! What a release is made of: the packages that the builds name exist in Debian, what `[package.metadata.deb]` packs
//! is there or is made, every subcommand has its man page, completions load, and the scripts refuse what they must.
//!
//! Nothing is built or installed here; `make deb-test` does that.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

#[path = "../examples/pages/pages.rs"]
mod pages;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use toml::Table;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn toml(path: &str) -> Table {
    read(path).parse().unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn run(command: &mut Command) -> Output {
    let program = command.get_program().to_string_lossy().into_owned();
    command.output().unwrap_or_else(|error| panic!("{program}: {error}"))
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The words of the arrays with these names in a shell script.
fn array(script: &str, name: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for opening in [format!("{name}=("), format!("{name}+=(")] {
        for rest in read(script).split(&opening).skip(1) {
            let words = rest.split(')').next().unwrap().split_whitespace();
            found.extend(words.filter(|word| !word.contains('$')).map(str::to_owned));
        }
    }
    assert!(!found.is_empty(), "{script} has no array {name}");
    found
}

/// What a Dockerfile installs with apt-get.
fn installed(dockerfile: &str) -> BTreeSet<String> {
    let text = dockerfile.replace("\\\n", " ");
    let commands =
        text.lines().filter_map(|line| line.strip_prefix("RUN ")).flat_map(|line| line.split("&&"));
    let mut found = BTreeSet::new();
    for (_, words) in commands.filter_map(|command| command.split_once("apt-get install ")) {
        found.extend(words.split_whitespace().filter(|word| !word.starts_with('-')).map(str::to_owned));
    }
    assert!(!found.is_empty(), "nothing is installed");
    found
}

fn deb() -> Table {
    toml("Cargo.toml")["package"]["metadata"]["deb"].as_table().unwrap().clone()
}

#[test]
fn every_package_that_is_named_exists_in_debian() {
    let mut named = array("scripts/binary.sh", "packages");
    named.extend(array("scripts/binary.sh", "cross"));
    named.extend(installed(&read("cross/Dockerfile.aarch64")));
    named.insert("debootstrap".into());
    for kind in ["depends", "recommends", "suggests"] {
        for choice in deb()[kind].as_array().unwrap().iter().flat_map(|one| one.as_str().unwrap().split('|'))
        {
            named.insert(choice.split_whitespace().next().unwrap().to_owned());
        }
    }
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.:".contains(c);
    assert!(named.iter().all(|name| name.chars().all(allowed)), "{named:?}");
    // Elsewhere there is nothing to ask; Ubuntu names Rust's packages otherwise.
    if !fs::read_to_string("/etc/os-release").is_ok_and(|text| text.lines().any(|line| line == "ID=debian")) {
        return;
    }
    // Without a foreign architecture its packages are not listed, but have the same names here.
    let named: BTreeSet<&str> = named.iter().map(|name| name.split(':').next().unwrap()).collect();
    let output = Command::new("apt-cache")
        .arg("policy")
        .args(&named)
        .env("LC_ALL", "C")
        .output()
        .unwrap_or_else(|error| panic!("apt-cache: {error} (install the package `apt`)"));
    // "name:", "  Installed: …", "  Candidate: …" for each that is known.
    let (mut known, mut at) = (BTreeSet::new(), String::new());
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        match line.strip_suffix(':') {
            Some(name) if !line.starts_with(' ') => at = name.split(':').next().unwrap().to_owned(),
            _ if line.starts_with("  Candidate: ") && !line.ends_with("(none)") => {
                known.insert(at.clone());
            }
            _ => {}
        }
    }
    let missing: Vec<&&str> = named.iter().filter(|name| !known.contains(**name)).collect();
    assert!(missing.is_empty(), "unknown here, after apt-get update too? {missing:?}");
}

#[test]
fn cross_finds_its_image_and_the_toolchain_that_is_tested() {
    assert_eq!(fs::canonicalize(root().join("Cross.toml")).unwrap(), root().join("cross/Cross.toml"));
    let cross = toml("Cross.toml");
    let image = &cross["target"]["aarch64-unknown-linux-gnu"]["dockerfile"];
    let dockerfile = read(image["file"].as_str().unwrap());
    assert!(root().join(image["context"].as_str().unwrap()).is_dir());
    // What `make aarch64` builds with and proves to need glibc 2.34.
    let from = dockerfile.lines().find_map(|line| line.strip_prefix("FROM ")).unwrap();
    assert_eq!(from, "debian:bookworm-slim");
    let here = installed(&dockerfile);
    let there = array("scripts/binary.sh", "cross");
    assert!(there.is_subset(&here), "{:?}", there.difference(&here));
    for needed in ["libclang-dev", "gcc", "libc6-dev"] {
        assert!(here.contains(needed), "{needed}");
    }
    for variable in
        ["CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc", "BINDGEN_EXTRA_CLANG_ARGS"]
    {
        assert!(dockerfile.contains(variable), "{variable}");
    }
}

/// Files that a pattern of cargo-deb's names; `**` for any folders, `*` for any name.
fn matching(pattern: &str) -> Vec<PathBuf> {
    let (folder, name) = pattern.rsplit_once('/').unwrap_or(("", pattern));
    let mut folders = vec![root().join(folder.trim_end_matches("/**"))];
    if folder.ends_with("/**") {
        let mut next = 0;
        while next < folders.len() {
            let below = fs::read_dir(&folders[next]).unwrap().map(|entry| entry.unwrap().path());
            folders.extend(below.filter(|path| path.is_dir()).collect::<Vec<_>>());
            next += 1;
        }
    }
    let fits = |path: &PathBuf| match name.strip_prefix('*') {
        Some(end) => path.file_name().unwrap().to_string_lossy().ends_with(end),
        None => path.ends_with(name),
    };
    let entries = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten();
    entries.map(|entry| entry.unwrap().path()).filter(fits).collect()
}

#[test]
fn what_the_package_holds_is_there_or_is_made() {
    let made = tempfile::tempdir().unwrap();
    pages::write(made.path()).unwrap();
    let stage = read("scripts/stage.sh");
    let (mut packed, mut places) = (Vec::new(), BTreeSet::new());
    for asset in deb()["assets"].as_array().unwrap() {
        if let Some(link) = asset.as_table() {
            let dest = link["dest"].as_str().unwrap();
            let target = Path::new(dest).parent().unwrap().join(link["link_name"].as_str().unwrap());
            assert_eq!(target, Path::new("usr/share/graftd/models/base.onnx"));
            assert_eq!(format!("/{dest}"), graftd::config::Config::default().model.base.to_str().unwrap());
            continue;
        }
        let [source, dest, mode] = [0, 1, 2].map(|index| asset[index].as_str().unwrap());
        assert!(mode == "644" || (mode == "755" && dest.contains("bin/")), "{source} {mode}");
        assert!(places.insert((source, dest)), "{source} twice");
        match source.strip_prefix("target/dist/stage/") {
            Some(name) => {
                let first = name.split('/').next().unwrap();
                let by_pages = made.path().join(first).exists();
                let by_stage = stage.contains(&format!("$stage/{first}"))
                    || stage.contains(first.trim_end_matches(".gz"));
                assert!(by_pages || by_stage, "nothing makes {name}");
            }
            None if source == "target/release/graftd" => {}
            None => {
                let found = matching(source);
                assert!(!found.is_empty(), "{source} is not there");
                packed.extend(found);
            }
        }
    }
    for folder in ["systemd", "packaging"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            let by_dpkg = ["postinst", "prerm", "postrm", "copyright"].contains(&name);
            assert!(by_dpkg || packed.contains(&path), "{} is packed nowhere", path.display());
        }
    }
    for script in ["postinst", "prerm", "postrm"] {
        let output = run(Command::new("sh").arg("-n").arg(root().join("packaging").join(script)));
        assert!(output.status.success(), "{script}: {}", said(&output));
    }
}

/// Names of all subcommands that are shown, such as `graftd samples list`.
fn subcommands(command: &clap::Command, name: &str, found: &mut Vec<String>) {
    found.push(name.to_owned());
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        subcommands(below, &format!("{name} {}", below.get_name()), found);
    }
}

#[test]
fn every_subcommand_has_its_page() {
    let made = tempfile::tempdir().unwrap();
    pages::write(made.path()).unwrap();
    let mut names = Vec::new();
    subcommands(&graftd::cli::command(), "graftd", &mut names);
    assert!(names.len() > 20, "{names:?}");
    for name in &names {
        let page = made.path().join("man").join(name.replace(' ', "-") + ".1");
        let text = fs::read_to_string(&page).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
        assert!(text.contains(".SH SYNOPSIS") && text.contains(".SH NAME"), "{name}: {text}");
    }
    assert_eq!(fs::read_dir(made.path().join("man")).unwrap().count(), names.len());
    // The file that is packed says the defaults, and no more.
    let output = run(Command::new(env!("CARGO_BIN_EXE_graftd"))
        .args(["config", "show", "--json", "--config"])
        .arg(made.path().join("graftd.toml")));
    let shown: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
    let text = shown.to_string();
    assert!(output.status.success() && text.contains("/usr/share/graftd/base.onnx"), "{text}");
    assert!(!text.contains("graftd.toml:"), "something is set: {text}");
}

#[test]
fn completions_load() {
    let made = tempfile::tempdir().unwrap();
    pages::write(made.path()).unwrap();
    let folder = made.path().join("completions");
    for (_, name) in pages::COMPLETIONS {
        let text = fs::read_to_string(folder.join(name)).unwrap();
        for command in graftd::cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
            assert!(text.contains(command.get_name()), "{name} does not know {}", command.get_name());
        }
    }
    let bash = folder.join("graftd.bash");
    let load = "bash -n \"$1\" && . \"$1\" && complete -p graftd && \
                COMP_WORDS=(graftd mod) COMP_CWORD=1 && _graftd graftd mod graftd && echo \"${COMPREPLY[@]}\"";
    let output = run(Command::new("bash").args(["-c", load, "bash"]).arg(&bash));
    assert!(output.status.success(), "{}", said(&output));
    assert!(
        said(&output).lines().last().unwrap().split(' ').any(|word| word == "models"),
        "{}",
        said(&output)
    );
    assert!(fs::read_to_string(folder.join("_graftd")).unwrap().starts_with("#compdef graftd"));
    // Others are asked where they are.
    for (shell, file) in [("zsh", "_graftd"), ("fish", "graftd.fish")] {
        if let Ok(output) = Command::new(shell).arg("-n").arg(folder.join(file)).output() {
            assert!(output.status.success(), "{shell}: {}", said(&output));
        }
    }
}

#[test]
fn onnx_runtime_is_taken_by_path_and_only_the_right_one() {
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("lib");
    let fetch =
        |arguments: &[&Path]| run(Command::new(root().join("scripts/fetch-onnxruntime.sh")).args(arguments));
    let from = Path::new("--from");
    let library = fs::canonicalize(root().join("lib/libonnxruntime.so"))
        .unwrap_or_else(|error| panic!("lib/libonnxruntime.so: {error} (make lib)"));
    let listed = |folder: &Path| -> BTreeSet<String> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };

    let other = folder.path().join("libother.so");
    fs::write(&other, "something else").unwrap();
    let output = fetch(&[from, &other, &into]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(
        said(&output).contains("is not libonnxruntime") && said(&output).contains("runtime.library"),
        "{}",
        said(&output)
    );
    let wheel = folder.path().join("broken.whl");
    fs::write(&wheel, "no archive").unwrap();
    let output = fetch(&[from, &wheel, &into]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("broken.whl"), "{}", said(&output));
    assert!(listed(&into).is_empty(), "{:?}", listed(&into));
    assert_eq!(fetch(&[from, Path::new("/nowhere"), &into]).status.code(), Some(2));

    let output = fetch(&[from, &library, &into]);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(fs::canonicalize(into.join("libonnxruntime.so")).unwrap().file_name(), library.file_name());
    // What somebody else has put there is not ours.
    fs::write(into.join("libonnxruntime_providers_cuda.so"), "").unwrap();
    assert!(fetch(&[Path::new("--remove"), &into]).status.success());
    assert_eq!(listed(&into), BTreeSet::from(["libonnxruntime_providers_cuda.so".to_owned()]));
}

#[test]
fn the_licence_of_every_crate_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("THIRD-PARTY");
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = run(Command::new("python3").arg(root().join("scripts/licences.py")).arg(target).arg(&out));
    assert!(output.status.success(), "{}", said(&output));
    let text = fs::read_to_string(&out).unwrap();
    let optional = |value: &toml::Value| value.get("optional").is_some_and(|is| is.as_bool() == Some(true));
    for (name, _) in
        toml("Cargo.toml")["dependencies"].as_table().unwrap().iter().filter(|(_, value)| !optional(value))
    {
        assert!(text.contains(&format!("\n{name} ")), "{name}");
    }
    // One that ships without a text.
    assert!(text.contains("\nrumqttc ") && text.contains("Apache License"));
    assert!(!text.contains("GNU GENERAL PUBLIC LICENSE"));
}

#[test]
fn a_binary_that_asks_for_too_much_is_no_release() {
    let portable = |binary: &Path| run(Command::new(root().join("scripts/portable.sh")).arg(binary));
    let which = run(Command::new("sh").args(["-c", "command -v systemd-analyze"]));
    let systemd = PathBuf::from(String::from_utf8_lossy(&which.stdout).trim());
    assert!(systemd.is_file(), "systemd-analyze is missing (install the package `systemd`)");
    let output = portable(&systemd);
    assert!(
        !output.status.success() && said(&output).contains("which a board need not have"),
        "{}",
        said(&output)
    );
    // The program as the tests have it: too large, and yet right in the rest.
    let output = portable(Path::new(env!("CARGO_BIN_EXE_graftd")));
    assert!(!said(&output).contains("need not have"), "{}", said(&output));
    assert!(said(&output).contains("glibc 2."), "{}", said(&output));
}

#[test]
fn a_release_is_made_of_a_clean_tag_alone() {
    let folder = tempfile::tempdir().unwrap();
    let git = |arguments: &[&str]| {
        let output = run(Command::new("git")
            .args(["-c", "user.name=test", "-c", "user.email=test@example.org"])
            .args(arguments)
            .current_dir(folder.path()));
        assert!(output.status.success(), "git {arguments:?}: {}", said(&output));
    };
    fs::create_dir(folder.path().join("scripts")).unwrap();
    for file in ["Cargo.toml", "scripts/release.sh", "scripts/packages.sh"] {
        fs::copy(root().join(file), folder.path().join(file)).unwrap();
    }
    let release = || run(Command::new("scripts/release.sh").current_dir(folder.path()).env_remove("DRY"));
    git(&["init", "--quiet"]);
    git(&["add", "."]);
    git(&["commit", "--quiet", "-m", "one"]);
    let output = release();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("no tag"), "{}", said(&output));
    git(&["tag", &format!("v{}", env!("CARGO_PKG_VERSION"))]);
    fs::write(folder.path().join("new"), "").unwrap();
    let output = release();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("not clean"), "{}", said(&output));
}
