//! Any sequence of writes and restarts does what a map would.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::{Strategy, any};
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use proptest::{prop_assert, prop_assert_eq, prop_oneof};

use super::faulty::{Faulty, Image};
use super::{Change, Expected, Options, Store, WriteError, json, on, text, widget, widgets};

#[derive(Clone, Debug)]
enum Step {
    /// Of object so and so; whether it expects what is there.
    Put(u8, bool),
    Delete(u8, bool),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let object = 0..5_u8;
    let step = prop_oneof![
        6 => (object.clone(), any::<bool>()).prop_map(|(object, right)| Step::Put(object, right)),
        3 => (object, any::<bool>()).prop_map(|(object, right)| Step::Delete(object, right)),
        1 => proptest::prelude::Just(Step::Restart),
    ];
    vec(step, 1..60)
}

fn run(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let mut disk = Faulty::new(Image::default(), 1);
    let mut store = on(&disk, Options::default()).unwrap();
    let (mut model, mut version) = (BTreeMap::<u8, u64>::new(), 1);
    for step in steps {
        let (object, right, deletes) = match step {
            Step::Put(object, right) => (object, right, false),
            Step::Delete(object, right) => (object, right, true),
            Step::Restart => {
                let image = disk.crash();
                store.close();
                disk = Faulty::new(image, 1);
                store = on(&disk, Options::default()).unwrap();
                continue;
            }
        };
        let there = model.get(&object).copied();
        let expected = match (there, right) {
            (Some(version), true) => Expected::Version(version),
            (None, true) => Expected::Absent,
            (Some(version), false) => Expected::Version(version + 1),
            (None, false) => Expected::Version(version),
        };
        let change = if deletes { Change::Delete(text("x")) } else { Change::Put(text("x")) };
        let key = widget("default", &object.to_string());
        let answer = runtime.block_on(super::within(store.write(key, expected, change)));
        if right && (!deletes || there.is_some()) {
            version += 1;
            prop_assert_eq!(answer.map(|record| record.version).ok(), Some(version));
            if deletes {
                model.remove(&object)
            } else {
                model.insert(object, version)
            };
        } else {
            let Err(WriteError::Conflict { current }) = answer else {
                return Err(TestCaseError::fail(format!("{answer:?}")));
            };
            prop_assert_eq!(current.map(|current| current.version), there);
        }
        same(&store, &model, version)?;
    }
    same(&store, &model, version)
}

fn same(store: &Store, model: &BTreeMap<u8, u64>, version: u64) -> Result<(), TestCaseError> {
    prop_assert_eq!(store.version(), version);
    let records = store.list(widgets(), None, None, 0).records;
    let found: BTreeMap<u8, u64> =
        records.iter().map(|record| (record.key.name.parse().unwrap(), record.version)).collect();
    prop_assert_eq!(&found, model);
    prop_assert!(records.iter().all(|record| record.json == json(record.version, "x")));
    Ok(())
}

#[test]
fn any_sequence_of_writes_and_restarts_does_what_a_map_would() {
    TestRunner::new(Config { cases: 100, failure_persistence: None, ..Config::default() })
        .run(&steps(), run)
        .unwrap();
}
