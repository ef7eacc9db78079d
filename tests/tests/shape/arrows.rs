//! Which crate may name which: `proto <- store <- server <- client <- cli, pybind`.

use objsync_tests::tree;

/// Each folder with a crate, and the crates of ours that it may use outside its tests.
const ARROWS: [(&str, &[&str]); 9] = [
    ("proto", &[]),
    ("store", &["objsync-proto"]),
    ("server", &["objsync-proto", "objsync-store"]),
    (
        "client",
        &["objsync-proto", "objsync-store", "objsync-server"],
    ),
    ("cli", &["objsync"]),
    ("pybind", &["objsync"]),
    ("examples", &["objsync"]),
    ("benches", &["objsync"]),
    ("tests", &[]),
];

/// Names of the dependencies in a manifest's `[dependencies]`, `[build-dependencies]` and their
/// kin for one platform; not those of tests.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut section = String::new();
    let mut names = Vec::new();
    for line in manifest.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('[') {
            section = header.trim_end_matches(']').to_owned();
            // `[dependencies.name]` names one by its header.
            if let Some((kind, name)) = section.rsplit_once('.')
                && kind.ends_with("dependencies")
                && !kind.ends_with("dev-dependencies")
            {
                names.push(name.to_owned());
            }
        } else if section.ends_with("dependencies")
            && !section.ends_with("dev-dependencies")
            && let Some((name, _)) = line.split_once(['.', '=', ' '])
            && !name.starts_with('#')
        {
            names.push(name.to_owned());
        }
    }
    names
}

#[test]
fn manifest_reader_sees_every_way_to_write_a_dependency() {
    let manifest = "[dependencies]\na.workspace = true\nb = \"1\"\n# c = \"1\"\n\
        [dev-dependencies]\nd = \"1\"\n[dependencies.e]\npath = \"e\"\n\
        [target.'cfg(unix)'.dependencies]\nf = { path = \"f\" }\n[build-dependencies]\ng = \"1\"\n";
    let names = dependencies(manifest);
    for wanted in ["a", "b", "e", "f", "g"] {
        assert!(
            names.iter().any(|name| name == wanted),
            "{wanted} in {names:?}"
        );
    }
    assert!(
        !names.iter().any(|name| name == "c" || name == "d"),
        "{names:?}"
    );
}

#[test]
fn crates_use_only_what_lies_before_them() {
    for (folder, allowed) in ARROWS {
        let path = tree::root().join(folder).join("Cargo.toml");
        let manifest = std::fs::read_to_string(&path).unwrap();
        for name in dependencies(&manifest) {
            let ours = name == "objsync" || name.starts_with("objsync-");
            assert!(
                !ours || allowed.contains(&name.as_str()),
                "{folder}/Cargo.toml uses {name}; it may use only {allowed:?}"
            );
        }
    }
}

#[test]
fn every_crate_of_the_workspace_has_its_arrows_written_down() {
    for file in tree::files(&["Cargo.toml"]) {
        let Some((folder, _)) = file.path.rsplit_once('/') else {
            continue;
        };
        assert!(
            ARROWS.iter().any(|(known, _)| *known == folder),
            "{} is a crate that this test does not know",
            file.path
        );
    }
}

#[test]
fn proto_and_store_never_reach_for_the_network() {
    for folder in ["proto", "store"] {
        let manifest = std::fs::read_to_string(tree::root().join(folder).join("Cargo.toml"));
        for name in dependencies(&manifest.unwrap()) {
            assert!(
                !["tokio", "quinn", "rustls"].contains(&name.as_str()),
                "{folder} uses {name}"
            );
        }
    }
}

#[test]
fn proto_reads_no_clock_draws_no_chance_and_does_no_io() {
    let forbidden = [
        "std::fs",
        "TcpStream",
        "UdpSocket",
        "std::thread",
        "SystemTime::now",
        "Instant::now",
        "new_v4",
    ];
    for file in tree::files(&[".rs"]) {
        if !file.path.starts_with("proto/src/") || file.is_test {
            continue;
        }
        for (number, line) in file.code() {
            for name in forbidden {
                assert!(!line.contains(name), "{}:{number} names {name}", file.path);
            }
        }
    }
}

#[test]
fn one_file_names_sled() {
    let naming: Vec<String> = tree::files(&[".rs"])
        .into_iter()
        // Where a module of ours has that name, the name is the module's.
        .filter(|file| !file.is_test && !file.text.contains("mod sled;"))
        .filter(|file| {
            file.code()
                .iter()
                .any(|(_, line)| line.contains("sled::") || line.contains("use sled"))
        })
        .map(|file| file.path)
        .collect();
    assert_eq!(
        naming.len(),
        1,
        "sled stands behind its trait, in one file: {naming:?}"
    );
}
