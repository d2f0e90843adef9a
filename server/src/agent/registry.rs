//! Agents by name: those built in, and programs.

use std::sync::Arc;

use antiphon_core::voice::message::{AgentAsk, AgentPlan, Eagerness, SpokenQuality};
use serde_json::{Value, json};
use tracing::warn;

use crate::agent::built_in;
use crate::agent::call::{AgentSeat, Call};
#[cfg(feature = "grpc")]
use crate::agent::grpc::{Absence, Programs, converse};
use crate::agent::parrot::Parrot;
use crate::agent::tone::Tone;
use crate::app::App;
use crate::config::{Config, VoiceQuality};
use crate::problem::Problem;
use crate::rooms::Name;

/// Agents that the server has itself.
const BUILT_IN: [&str; 2] = ["parrot", "tone"];
/// A program may come back any moment.
#[cfg(feature = "grpc")]
const RETRY_PROGRAM: std::time::Duration = std::time::Duration::from_secs(2);

/// How an agent is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summons {
    /// The agent's name, not yet known to be one.
    pub name: String,
    /// When turns end, if the caller says so.
    pub eagerness: Option<Eagerness>,
}

/// All agents.
#[derive(Debug)]
pub struct Agents {
    #[cfg(feature = "grpc")]
    programs: Arc<Programs>,
    quality: VoiceQuality,
}

impl Agents {
    /// Those built in, and the programs that the operator named.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self {
            #[cfg(feature = "grpc")]
            programs: Arc::new(Programs::new(&config.agent_urls)),
            quality: config.voice_quality,
        }
    }

    /// An agent for a call, if it is there. `dtmf`: the caller takes keys that are pressed.
    ///
    /// # Errors
    /// 404 naming the agents there are; 503 when a program is not there.
    pub async fn summon(&self, summons: Summons, dtmf: bool) -> Result<AgentSeat, Problem> {
        let Ok(name) = Name::parse("an agent", &summons.name) else {
            return Err(self.unknown());
        };
        let plan = if is_built_in(&name) {
            AgentPlan::default()
        } else {
            self.summon_program(&name).await?
        };
        let eagerness = summons.eagerness.unwrap_or(plan.eagerness);
        Ok(AgentSeat {
            name,
            plan: AgentPlan { eagerness, ..plan },
            dtmf,
        })
    }

    /// Has a call answered that has connected.
    pub fn answer(&self, app: &Arc<App>, call: Call) {
        let app = Arc::clone(app);
        let quality = self.quality;
        tokio::spawn(async move {
            app.meters.agents.calls.inc();
            if quality == VoiceQuality::Economy {
                let economy = AgentAsk::Quality(SpokenQuality::Economy);
                if call.ask(economy).await.is_err() {
                    warn!(session = %call.session(), "no room in the lane: a call is encoded as standard");
                }
            }
            match call.seat.name.as_str() {
                "parrot" => built_in::run(Parrot::new(call.seat.plan.rate), call).await,
                "tone" => built_in::run(Tone::default(), call).await,
                _ => app.agents.answer_by_program(call).await,
            }
            app.meters.agents.calls.dec();
        });
    }

    /// As `/info` lists them.
    #[must_use]
    pub fn describe(&self) -> Value {
        let built_in = BUILT_IN.map(|name| json!({ "name": name, "kind": "built_in" }));
        let mut agents = built_in.to_vec();
        #[cfg(feature = "grpc")]
        agents.extend(self.programs.list().into_iter().map(
            |(name, kind, there)| json!({ "name": name.as_str(), "kind": kind, "there": there }),
        ));
        agents.into()
    }

    fn unknown(&self) -> Problem {
        let names: Vec<String> = match self.describe() {
            Value::Array(agents) => agents
                .iter()
                .filter_map(|it| it["name"].as_str().map(str::to_owned))
                .collect(),
            _ => Vec::new(),
        };
        let detail = format!(
            "there is no agent of this name; there are {}",
            names.join(", ")
        );
        Problem::not_found(detail)
    }
}

#[cfg(feature = "grpc")]
impl Agents {
    /// Those at the other end of a stream.
    #[must_use]
    pub const fn programs(&self) -> &Arc<Programs> {
        &self.programs
    }

    async fn summon_program(&self, name: &Name) -> Result<AgentPlan, Problem> {
        self.programs
            .summon(name)
            .await
            .map_err(|absence| match absence {
                Absence::Unknown => self.unknown(),
                Absence::Away => {
                    let detail = format!("the program of agent {name} is not there now; try again");
                    Problem::unavailable(RETRY_PROGRAM, detail)
                }
            })
    }

    async fn answer_by_program(&self, call: Call) {
        converse(Arc::clone(&self.programs), call).await;
    }
}

#[cfg(not(feature = "grpc"))]
impl Agents {
    async fn summon_program(&self, _: &Name) -> Result<AgentPlan, Problem> {
        Err(self.unknown())
    }

    async fn answer_by_program(&self, call: Call) {
        call.hang_up().await;
    }
}

/// Whether the server has an agent of this name itself.
pub(super) fn is_built_in(name: &Name) -> bool {
    BUILT_IN.contains(&name.as_str())
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
