//! Where networks meet the server's calls.

use std::sync::{Arc, Weak};

use antiphon_core::ids::SessionId;
use antiphon_core::message::Command;
use antiphon_core::voice::message::{AgentAsk, Heard, Judgement};
use tracing::info;

use super::worker::Answers;
use super::{ModelError, Models};
use crate::app::App;

impl App {
    /// Loads the networks that the operator chose, if any.
    ///
    /// # Errors
    /// [`ModelError`], naming what to change.
    pub fn start_models(self: &Arc<Self>) -> Result<(), ModelError> {
        let choices = &self.config.voice_models;
        if choices.is_empty() {
            return Ok(());
        }
        let (library, meters) = (&self.config.onnx_runtime, self.meters.models.clone());
        let models = Models::start(library, choices, Arc::downgrade(self), meters)?;
        for choice in choices {
            info!(role = choice.role.name(), file = %choice.path.display(), "a network hears calls with agents");
        }
        self.models.get_or_init(|| models);
        Ok(())
    }

    /// What a program is to hear at once of what was heard.
    pub(crate) fn show_models(&self, session: SessionId, heard: Heard) -> Option<Heard> {
        let Some(models) = self.models.get() else {
            return Some(heard);
        };
        let rate = self.calls.rate(session)?;
        models.pass(session, rate, heard)
    }
}

impl Answers for Weak<App> {
    /// A lane that is full takes nothing: the next window's judgement comes soon.
    fn judge(&self, session: SessionId, judgement: Judgement) {
        if let Some(app) = self.upgrade() {
            let ask = AgentAsk::Judgement(judgement);
            let command = Command::Agent { session, ask };
            app.control.tell(session.shard, command).ok();
        }
    }

    fn hear(&self, session: SessionId, heard: Heard) {
        if let Some(app) = self.upgrade() {
            app.calls.hear(session, heard, &app.meters.agents);
        }
    }

    fn is_open(&self, session: SessionId) -> bool {
        self.upgrade()
            .is_some_and(|app| app.calls.rate(session).is_some())
    }
}
