//! Gets and lists, in each form.

use super::Generator;
use crate::differential::call::Call;
use crate::differential::kinds::Kind;

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
const PARTIAL: &str =
    "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
const PARTIAL_LIST: &str =
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
const SELECTORS: [&str; 11] = [
    "labelSelector=team%3Dred",
    "labelSelector=team%21%3Dred",
    "labelSelector=team%20in%20%28red%2Cblue%29%2C%21gone",
    "labelSelector=team%20notin%20%28red%29",
    "labelSelector=team",
    "labelSelector=%21team",
    "fieldSelector=metadata.name%3Da",
    "fieldSelector=metadata.name%21%3Da",
    "fieldSelector=metadata.name%3D%3Db%2Cmetadata.namespace%3Delsewhere",
    "labelSelector=team%3Dred&fieldSelector=metadata.name%3Da",
    "includeObject=Object",
];

impl Generator {
    pub(super) fn read(&mut self, kind: &Kind, name: &str) -> Vec<Call> {
        let (path, all) = (self.path(kind, name), kind.path(&self.namespace));
        match self.rng.u32(0..9) {
            0..2 => vec![Call::get("get", path).about(kind.plural, name)],
            2 => vec![Call::get("table of one", path).accept(TABLE)],
            3 => vec![Call::get("metadata of one", path).accept(PARTIAL)],
            4 => vec![Call::get("list", all)],
            5 => {
                let selector = self.one_of(&SELECTORS);
                vec![Call::get("list of some", format!("{all}?{selector}"))]
            }
            6 => {
                let include = self.one_of(&["", "?includeObject=None", "?includeObject=Object"]);
                vec![Call::get("table", all + include).accept(TABLE)]
            }
            7 => vec![Call::get("list of metadata", all).accept(PARTIAL_LIST)],
            _ => vec![
                Call::get("first page", format!("{all}?limit=1")),
                Call::get("next page", format!("{all}?limit=1&continue=${{continue}}")),
                Call::get("rest", format!("{all}?limit=500&continue=${{continue}}")),
            ],
        }
    }
}
