/**
 * Antiphon's page. Nothing here comes from another host, and nothing is built.
 *
 *   main ── tabs
 *    ├─ echo ──┐
 *    ├─ agent ─┤── timeline             (what the server heard and decided)
 *    └─ room ──┼─ session ── sampler     (a peer connection, and its getStats() as values)
 *       member ┘   └─ api                (HTTP, problems, server-sent events)
 *             panel ── plot, meter       (six plots)
 */

import { Agent } from './agent.js';
import { info, setToken } from './api.js';
import { Echo } from './echo.js';
import { Room } from './room.js';
import { tabs } from './tabs.js';

const fragment = new URLSearchParams(location.hash.slice(1));
const token = document.getElementById('token');
token.value = fragment.get('token') ?? '';
setToken(token.value);
token.addEventListener('input', () => setToken(token.value));
token.form.addEventListener('submit', (event) => event.preventDefault());

const echo = new Echo(document.getElementById('echo'));
const agent = new Agent(document.getElementById('agent'));
const room = new Room(document.getElementById('room'));
const list = document.querySelector('[role=tablist]');
const shown = tabs(list);
list.addEventListener('click', () => room.look());
list.addEventListener('keyup', () => room.look());
if (fragment.has('room')) {
  room.propose(fragment.get('room'));
  shown.select('room');
}

/** For tests and the curious: the sessions, their peer connections, and the values plotted. */
window.antiphon = { echo, agent, room };

// Tells the server at once; otherwise it would notice by the silence, up to 30 s later.
window.addEventListener('pagehide', () => {
  echo.stop();
  agent.stop();
  room.leave();
});

info().then(({ service, version, agents }) => {
  agent.offer((agents ?? []).map(({ name }) => name));
  document.getElementById('version').textContent = `${service ?? 'antiphon'} ${version ?? ''}`;
}).catch(() => {
  // The page works without knowing the version.
});
