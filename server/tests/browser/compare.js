// Works out every plotted value again, from raw getStats() reports and the server's figures.
(async () => {
  const { session, panel } = antiphon.echo;
  const one = (report, type) => [...report.values()].find((stats) => stats.type === type);
  const rows = [];
  const add = (name, plotted, wanted, slack = 0) => rows.push({ name, plotted, wanted, slack });

  const written = (measure, series) => {
    const item = document.querySelector(
      `#echo [data-measure=${measure}] [data-series="${series}"] .plot-value`);
    const text = item.textContent.replace('\u2212', '-');
    return parseFloat(text) * (text.includes('kbit') ? 1e3 : text.includes('Mbit') ? 1e6 : 1);
  };
  const decibels = (level) => 20 * Math.log10(level);
  const nextSample = () => new Promise((resolve) =>
    session.addEventListener('sample', resolve, { once: true }));
  const serverStats = async () => {
    const id = new URL(session.url).pathname.split('/').pop();
    return (await fetch(`/api/sessions/${id}/stats`)).json();
  };
  const serverTrack = (stats) => stats.tracks.find(({ direction }) => direction === 'inbound');

  // A round trip needs a report of the browser's and one that answers it: up to 8 s.
  for (let round = 0; round < 20; round += 1) {
    await nextSample();
    const far = one(await session.pc.getStats(), 'remote-inbound-rtp');
    if (far?.roundTripTime !== undefined) break;
  }
  await nextSample();
  const server_first = await serverStats();
  const first = await session.pc.getStats();
  let before = first;
  const bitrates = [];
  for (let round = 0; round < 5; round += 1) {
    await nextSample();
    // The browser keeps a report for 50 ms, so this is the one the page has just read.
    const after = await session.pc.getStats();
    const { plotted } = panel;
    const [was, is] = [one(before, 'inbound-rtp'), one(after, 'inbound-rtp')];
    const far = one(after, 'remote-inbound-rtp');
    const seconds = (is.timestamp - was.timestamp) / 1000;
    const lost = is.packetsLost - was.packetsLost;
    const packets = is.packetsReceived - was.packetsReceived;
    // A timer and a report rounded to a millisecond set the floor of the small ones.
    add('plotted jitter received', plotted.jitter[0], is.jitter * 1000, 0.05);
    add('plotted jitter sent', plotted.jitter[1], far.jitter * 1000, 0.05);
    add('plotted round_trip', plotted.round_trip[0], far.roundTripTime * 1000, 0.05);
    add('plotted loss received', plotted.loss[0], (100 * lost) / (packets + lost));
    add('plotted loss sent', plotted.loss[1], far.fractionLost * 100);
    add('written jitter', written('jitter', 'received'), plotted.jitter[0]);
    add('written round_trip', written('round_trip', 'there and back'), plotted.round_trip[0]);
    add('written loss', written('loss', 'received'), plotted.loss[0]);
    add('written bitrate', written('bitrate', 'received'), plotted.bitrate[0]);
    add('written level', written('level', 'received'), decibels(plotted.level[0]), 0.06);
    add('written spectrum', written('spectrum', 'received'), plotted.spectrum[0]);
    if (round > 0) {
      add('plotted bitrate received', plotted.bitrate[0],
        (8 * (is.bytesReceived - was.bytesReceived)) / seconds);
      const [sent_was, sent_is] = [one(before, 'outbound-rtp'), one(after, 'outbound-rtp')];
      const sent_ms = sent_is.timestamp - sent_was.timestamp;
      add('plotted bitrate sent', plotted.bitrate[1],
        (8000 * (sent_is.bytesSent - sent_was.bytesSent)) / sent_ms);
      add('plotted level received', plotted.level[0], Math.sqrt(
        (is.totalAudioEnergy - was.totalAudioEnergy) /
        (is.totalSamplesDuration - was.totalSamplesDuration)));
      const [source_was, source_is] = [one(before, 'media-source'), one(after, 'media-source')];
      add('plotted level sent', plotted.level[1], Math.sqrt(
        (source_is.totalAudioEnergy - source_was.totalAudioEnergy) /
        (source_is.totalSamplesDuration - source_was.totalSamplesDuration)));
    }
    add('plotted spectrum received', plotted.spectrum[0], 440);
    add('plotted spectrum sent', plotted.spectrum[1], 440);
    bitrates.push(plotted.bitrate[1]);
    before = after;
  }
  const server_last = await serverStats();
  const last = await session.pc.getStats();
  const [sent_first, sent_last] = [one(first, 'outbound-rtp'), one(last, 'outbound-rtp')];
  const [track_first, track_last] = [serverTrack(server_first), serverTrack(server_last)];
  const far = one(last, 'remote-inbound-rtp');
  add('server packets', sent_last.packetsSent - sent_first.packetsSent,
    track_last.packets - track_first.packets);
  add('server bitrate', bitrates.reduce((sum, rate) => sum + rate, 0) / bitrates.length,
    track_last.bitrate);
  // These move with every packet and with whatever else a machine does, and the page has them from a report of some
  // seconds ago.
  add('server lost', far.packetsLost, track_last.lost, 2);
  add('server jitter', panel.plotted.jitter[1], track_last.jitter * 1000, 3);
  add('server round_trip', panel.plotted.round_trip[0], server_last.rtt * 1000, 20);
  return rows;
})()
