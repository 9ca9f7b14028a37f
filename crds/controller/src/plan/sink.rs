//! What becomes of sinks. All kinds are planned alike; what is particular to a kind, its row of [`sources::sinks::ALL`]
//! says.

use std::sync::Arc;

use crds::condition::{self, Addressable, Status, Truth};
use sources::sinks::{Kind, Object, Wanted};

use super::source::{Missing, about, works};
use super::{Planner, key};
use crate::address;
use crate::conditions::Conditions;
use crate::world::{Held, Name};

impl Planner<'_> {
    pub(super) fn sink(&mut self, kind: &'static Kind, name: &Name, held: &Held<Object>) {
        let metadata = &held.object.metadata;
        let key = key(kind.name, metadata);
        let mut conditions = Conditions::default();
        let Some(config) = &held.object.spec else {
            let why = held.unread().unwrap_or_default();
            conditions.because(kind.works, Truth::False, "InvalidSpec", why);
            return self.say(key, metadata, conditions, Status::default());
        };
        let owner = self.world.sink_at(name).map_or(kind.name, |owner| owner.name);
        if owner != kind.name {
            let why = format!("a {owner} of this name was there first, and has the path of both");
            self.note(format!("sink {}/{}: {why}", name.namespace, name.name));
            conditions.because(condition::ADDRESSABLE, Truth::False, "PathTaken", &why);
            conditions.because(kind.works, Truth::Unknown, "NotStarted", "it does not run");
            return self.say(key, metadata, conditions, Status::default());
        }
        conditions.holds(condition::ADDRESSABLE);
        let about = Arc::new(about(metadata, &self.config.api_url));
        let looked = self.look_up("sink", name, config.needs(&about));
        for Missing { condition, reason, why, .. } in &looked.missing {
            conditions.because(condition, Truth::False, reason, why);
        }
        let (truth, reason, why) = match held.unread() {
            Some(why) => (Truth::False, "InvalidSpec", why),
            None => works(self.running(&key)),
        };
        conditions.otherwise(kind.works, truth, reason, why);
        for condition in &looked.about {
            conditions.otherwise(condition, Truth::True, "", "");
        }
        let address = Addressable {
            name: Some("http".to_owned()),
            url: Some(address::of_sink(self.config, &name.namespace, &name.name)),
            ..Addressable::default()
        };
        let status = Status { address: Some(address), ..Status::default() };
        self.say(key, metadata, conditions, status);
        let given = looked.suffices.then_some(looked.given);
        self.plan.sinks.push(Wanted { about, given, config: config.clone() });
    }
}

#[cfg(test)]
mod tests;
