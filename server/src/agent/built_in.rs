//! How the agents that the server has itself are driven.

use antiphon_core::voice::message::{AgentAsk, Heard};
use tracing::debug;

use crate::agent::call::Call;

/// An agent that decides at once and reads no clock.
pub trait BuiltIn: Send + 'static {
    /// What it asks for when the call has connected.
    fn greet(&mut self) -> Vec<AgentAsk>;

    /// What it asks for because of what it heard.
    fn handle(&mut self, heard: Heard) -> Vec<AgentAsk>;
}

/// Answers a call until it ends.
pub(super) async fn run(mut agent: impl BuiltIn, mut call: Call) {
    let mut asks = agent.greet();
    loop {
        for ask in asks {
            if call.ask(ask).await.is_err() {
                debug!(session = %call.session(), "an agent's ask found no room in the lane");
                break;
            }
        }
        let Some(heard) = call.next().await else {
            return;
        };
        asks = agent.handle(heard);
    }
}
