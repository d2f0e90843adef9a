//! Agents by name: those built in, and programs.

use std::sync::Arc;

use antiphon_core::voice::message::{AgentPlan, Eagerness};
use serde_json::{Value, json};

use crate::agent::built_in;
use crate::agent::call::{AgentSeat, Call};
use crate::agent::parrot::Parrot;
use crate::agent::tone::Tone;
use crate::app::App;
use crate::problem::Problem;
use crate::rooms::Name;

/// Agents that the server has itself.
const BUILT_IN: [&str; 2] = ["parrot", "tone"];

/// How an agent is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summons {
    /// The agent's name, not yet known to be one.
    pub name: String,
    /// When turns end, if the caller says so.
    pub eagerness: Option<Eagerness>,
}

/// All agents.
#[derive(Debug, Default)]
pub struct Agents {}

impl Agents {
    /// An agent for a call, if it is there.
    ///
    /// # Errors
    /// 404 naming the agents there are; 503 when a program is not there.
    pub async fn summon(&self, summons: Summons) -> Result<AgentSeat, Problem> {
        let plan = AgentPlan::default();
        let Some(name) = Name::parse("an agent", &summons.name)
            .ok()
            .filter(|name| BUILT_IN.contains(&name.as_str()))
        else {
            let names = BUILT_IN.join(", ");
            let detail = format!("there is no agent of this name; there are {names}");
            return Err(Problem::not_found(detail));
        };
        let eagerness = summons.eagerness.unwrap_or(plan.eagerness);
        Ok(AgentSeat {
            name,
            plan: AgentPlan { eagerness, ..plan },
        })
    }

    /// Has a call answered that has connected.
    pub fn answer(&self, app: &Arc<App>, call: Call) {
        let app = Arc::clone(app);
        tokio::spawn(async move {
            app.meters.agents.calls.inc();
            match call.seat.name.as_str() {
                "parrot" => built_in::run(Parrot::new(call.seat.plan.rate), call).await,
                _ => built_in::run(Tone::default(), call).await,
            }
            app.meters.agents.calls.dec();
        });
    }

    /// As `/info` lists them.
    #[must_use]
    pub fn describe(&self) -> Value {
        let built_in = BUILT_IN.map(|name| json!({ "name": name, "kind": "built_in" }));
        built_in.to_vec().into()
    }
}

/// Reads a parameter.
///
/// # Errors
/// 400 naming what is allowed.
pub fn eagerness(text: &str) -> Result<Eagerness, Problem> {
    let all = [Eagerness::Eager, Eagerness::Balanced, Eagerness::Patient];
    let named = all.into_iter().find(|it| eagerness_name(*it) == text);
    named.ok_or_else(|| Problem::bad_request("eagerness is eager, balanced or patient"))
}

/// As the API sees it.
#[must_use]
pub(super) const fn eagerness_name(eagerness: Eagerness) -> &'static str {
    match eagerness {
        Eagerness::Eager => "eager",
        Eagerness::Balanced => "balanced",
        Eagerness::Patient => "patient",
    }
}
