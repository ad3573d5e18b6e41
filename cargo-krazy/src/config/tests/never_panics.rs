//! Metadata of any shape gives settings or an error.

use std::path::Path;

use proptest::prelude::*;
use serde_json::Value;

use crate::board::BOARDS;
use crate::config::origins::Layer;
use crate::config::resolve::settings;
use crate::config::schema;
use crate::config::tables::{Install, Kernel, Krazy, Service};

/// Any value, with the real keys often enough to get past the check of the names.
fn value() -> impl Strategy<Value = Value> {
    let keys = [
        schema::keys::<Krazy>(),
        schema::keys::<Install>(),
        schema::keys::<Service>(),
        schema::keys::<Kernel>(),
    ];
    let names: Vec<String> = keys.concat().into_iter().map(str::to_owned).collect();
    let key = prop_oneof![
        8 => prop::sample::select(names),
        1 => Just("x86_64".to_owned()),
        1 => "\\PC{0,8}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        // Short and without slashes, so that no path leads out of the directory, which does not exist.
        "[^/]{0,8}".prop_map(Value::from),
        prop::sample::select(vec!["1.0", "https://h/r%c", "64 MiB", "always", "TERM", "a b=\"c", "quiet"])
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_metadata_gives_settings_or_an_error_with_its_file(value in value()) {
        let manifest = Path::new("/nonexistent/Cargo.toml");
        let path = ["package", "metadata", "krazy"].map(str::to_owned).to_vec();
        let layer = Layer { manifest: manifest.to_owned(), path, value };
        if let Err(error) = settings(manifest, vec![layer], &BOARDS[0]) {
            let message = error.to_string();
            prop_assert!(message.starts_with("/nonexistent/Cargo.toml: "), "{message}");
        }
    }
}
