//! WHIP (RFC 9725) and WHEP endpoints: an offer comes in, a session is opened, an answer goes out.
//!
//! Parameters that an endpoint does not know are refused: who misspells `agent` would get an echo.

use std::sync::Arc;
use std::time::Duration;

use antiphon_core::plan::Codec;
use antiphon_core::sdp::Purpose;
use axum::Router;
use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, LOCATION};
use axum::http::{HeaderName, HeaderValue, Response, StatusCode};
use axum::routing::{MethodRouter, get, post};
use serde::Deserialize;

use crate::agent::{Summons, eagerness};
use crate::app::App;
use crate::auth::Scope;
use crate::extract::{Described, Path, Query};
use crate::http::{check_content_type, no_content};
use crate::negotiate::negotiate;
use crate::problem::Problem;
use crate::rooms::{Name, Seat};
use crate::sessions::{Draft, random_hex};

/// Media type of an offer and an answer.
pub const SDP: &str = "application/sdp";
/// Media type of a trickle fragment.
pub const SDP_FRAGMENT: &str = "application/trickle-ice-sdpfrag";
/// `Accept-Patch`, which the `http` crate does not name.
pub const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");
/// A publisher may come any moment.
const RETRY_PUBLISHER: Duration = Duration::from_secs(1);

/// The parameters of a WHIP URL without a room.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EchoQuery {
    agent: Option<String>,
    eagerness: Option<String>,
}

/// What a session is for, by its URL.
enum Part {
    Echo,
    Seat(Seat),
    Agent(Summons),
}

impl Part {
    const fn seat(&self) -> Option<&Seat> {
        match self {
            Self::Seat(seat) => Some(seat),
            Self::Echo | Self::Agent(_) => None,
        }
    }
}

/// The parameters of a WHIP URL with a room.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PublishQuery {
    name: Option<String>,
    agent: Option<String>,
}

/// The parameters of a WHEP URL without a participant.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListenQuery {
    /// `1`: everybody in one track.
    mix: Option<String>,
    /// The session in which the listener publishes, whom the mix leaves out: the last part of its URL.
    session: Option<String>,
}

/// The endpoints.
pub fn routes() -> Router<Arc<App>> {
    let whep = |endpoint: MethodRouter<Arc<App>>| endpoint.get(no_content).head(discover);
    Router::new()
        .route("/whip", get(no_content).post(echo))
        .route("/whip/{room}", get(no_content).post(publish))
        .route("/whep/{room}", whep(post(subscribe_newest)))
        .route("/whep/{room}/{participant}", whep(post(subscribe)))
}

/// E4: a player learns from the content type that this is a WHEP endpoint.
async fn discover() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(SDP));
    response
}

/// An echo, or a call with an agent.
async fn echo(
    Query(query): Query<EchoQuery>,
    offered: Described,
) -> Result<Response<Body>, Problem> {
    let eagerness = query.eagerness.as_deref().map(eagerness).transpose()?;
    let part = match query.agent {
        Some(name) => Part::Agent(Summons { name, eagerness }),
        None if eagerness.is_none() => Part::Echo,
        None => return Err(Problem::bad_request("eagerness goes with an agent")),
    };
    open(offered, part).await
}

async fn publish(
    Path(room): Path<String>,
    Query(query): Query<PublishQuery>,
    offered: Described,
) -> Result<Response<Body>, Problem> {
    if query.agent.is_some() {
        let detail = "an agent answers a call, which is of no room: POST /whip?agent=NAME";
        return Err(Problem::bad_request(detail));
    }
    let name = query
        .name
        .unwrap_or_else(|| format!("guest-{}", random_hex::<4>()));
    let seat = Seat {
        room: room_name(&room)?,
        participant: Some(participant_name(&name)?),
        publishes: true,
        mixed: false,
    };
    open(offered, Part::Seat(seat)).await
}

async fn subscribe_newest(
    Path(room): Path<String>,
    Query(query): Query<ListenQuery>,
    offered: Described,
) -> Result<Response<Body>, Problem> {
    let room = room_name(&room)?;
    let mixed = match query.mix.as_deref() {
        None | Some("0") => false,
        Some("1") => true,
        Some(_) => return Err(Problem::bad_request("mix is 1 or 0")),
    };
    let participant = match query.session.as_deref() {
        None => None,
        Some(session) if mixed => Some(listener_of(&offered.app, &room, session)?),
        Some(_) => return Err(Problem::bad_request("session goes with mix=1")),
    };
    let seat = Seat {
        room,
        participant,
        publishes: false,
        mixed,
    };
    open(offered, Part::Seat(seat)).await
}

async fn subscribe(
    Path((room, participant)): Path<(String, String)>,
    Query(query): Query<ListenQuery>,
    offered: Described,
) -> Result<Response<Body>, Problem> {
    if query.mix.is_some() || query.session.is_some() {
        let detail = "a mix is of a whole room: POST /whep/{room}?mix=1";
        return Err(Problem::bad_request(detail));
    }
    let participant = Some(participant_name(&participant)?);
    let seat = Seat {
        room: room_name(&room)?,
        participant,
        publishes: false,
        mixed: false,
    };
    open(offered, Part::Seat(seat)).await
}

/// Answers an offer. Everything that can be refused without a shard is refused first.
async fn open(offered: Described, part: Part) -> Result<Response<Body>, Problem> {
    let Described {
        app,
        local,
        headers,
        body,
    } = offered;
    app.check_open()?;
    let subscribes = part.seat().is_some_and(|seat| !seat.publishes);
    let scope = if subscribes {
        Scope::Subscribe
    } else {
        Scope::Publish
    };
    let owner = app.admit(&headers, scope, part.seat().map(|seat| &seat.room))?;
    check_content_type(&headers, SDP)?;
    let negotiated = negotiate(&app, body, purpose(&app, &part)?).await?;
    // The publisher may have left while the offer was read.
    purpose(&app, &part)?;
    let (seat, agent) = match part {
        Part::Echo => (None, None),
        Part::Seat(seat) => (Some(seat), None),
        Part::Agent(summons) => {
            let talk = negotiated.plan().talk();
            let dtmf = talk.is_some_and(|(_, section)| section.events().is_some());
            (None, Some(app.agents.summon(summons, dtmf).await?))
        }
    };
    // The server may have begun to stop since.
    app.check_open()?;
    let plan = negotiated.plan().clone();
    let draft = Draft::new(seat, owner, &plan).with_agent(agent);
    let opened = app.open(draft, plan).await?;

    let (secret, etag) = {
        let directory = app.directory();
        let record = directory.sessions.by_id(opened.session);
        let ended =
            || Problem::unavailable(RETRY_PUBLISHER, "the session ended at once; try again");
        let record = record.ok_or_else(ended)?;
        (record.secret.as_str().to_owned(), record.etag.clone())
    };
    let candidates = app.candidates_for(opened.session.shard, local.0.ip());
    let number =
        u64::from(opened.session.key.index) << 32 | u64::from(opened.session.key.generation);
    let answer = negotiated.answer(&opened.local, &candidates, number);
    let mut response = Response::new(Body::from(answer));
    *response.status_mut() = StatusCode::CREATED;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(SDP));
    headers.insert(LOCATION, header(&format!("/session/{secret}")));
    headers.insert(ETAG, header(&etag));
    headers.insert(ACCEPT_PATCH, HeaderValue::from_static(SDP_FRAGMENT));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// What the offer is for; E3: 409 while nobody publishes what is asked for.
fn purpose(app: &App, part: &Part) -> Result<Purpose, Problem> {
    let seat = match part {
        Part::Echo => return Ok(Purpose::Echo),
        Part::Agent(_) => return Ok(Purpose::Agent),
        Part::Seat(seat) => seat,
    };
    if seat.publishes {
        return Ok(Purpose::Publish { prefer: None });
    }
    // Anybody's sound is reason enough for a mix.
    let followed = seat.participant.as_ref().filter(|_| !seat.mixed);
    let tracks = app.directory().rooms.tracks(&seat.room, followed);
    let wanted = |tracks| {
        if seat.mixed {
            vec![Codec::Opus]
        } else {
            tracks
        }
    };
    tracks
        .map(|tracks| Purpose::Subscribe {
            tracks: wanted(tracks),
        })
        .ok_or_else(|| {
            let detail = match followed {
                Some(name) => format!(
                    "{name} does not publish in room {} now; try again",
                    seat.room
                ),
                None => format!("nobody publishes in room {} now; try again", seat.room),
            };
            Problem::new(StatusCode::CONFLICT, detail).retry_after(RETRY_PUBLISHER)
        })
}

/// Who publishes in a session of a room: the listener itself. Whoever knows the secret of its URL is.
fn listener_of(app: &App, room: &Name, session: &str) -> Result<Name, Problem> {
    let directory = app.directory();
    let seat = directory
        .sessions
        .by_secret(session)
        .and_then(|record| record.seat.as_ref());
    let seat = seat.filter(|seat| seat.publishes && seat.room == *room);
    seat.and_then(|seat| seat.participant.clone())
        .ok_or_else(|| {
            let detail = format!("`session` is none that publishes in room {room}");
            Problem::bad_request(detail)
        })
}

/// A room's name out of a path.
///
/// # Errors
/// 400 naming the rule.
pub fn room_name(text: &str) -> Result<Name, Problem> {
    Name::parse("a room", text).map_err(|rule| Problem::bad_request(rule.to_string()))
}

fn participant_name(text: &str) -> Result<Name, Problem> {
    Name::parse("a participant", text).map_err(|rule| Problem::bad_request(rule.to_string()))
}

/// A header value of our own making.
pub fn header(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("our own names and tags are plain ASCII")
}
