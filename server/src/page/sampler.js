/**
 * Turns the growing counters of `getStats()` into the values that are plotted.
 *
 * Every value is either read from a report as it is, or is a difference of two reports; nothing
 * is smoothed, so each can be checked against the browser's own statistics.
 */

/**
 * One second of a connection. A value is null when the browser has no figure for it.
 *
 * @typedef {object} Sample
 * @property {number} at_ms when the later report was taken, on the clock of `Date.now()`
 * @property {number} interval_ms between the two reports; 0 for the first
 * @property {number | null} round_trip_ms from RTCP where there is any, else from ICE checks
 * @property {Direction} received
 * @property {Direction} sent what the far end reports of our packets
 * @property {Picture | null} picture the video received, or else the video sent
 * @property {Reading} reading the counters of the later report
 *
 * @typedef {object} Direction
 * @property {number | null} bitrate_bps RTP payload bits per second, without headers
 * @property {number | null} loss_percent
 * @property {number | null} jitter_ms the interarrival jitter of RFC 3550 §6.4.1
 * @property {number | null} level 0 to 1, the root of the mean energy over the interval
 *
 * @typedef {{width: number, height: number, frames_per_second: number}} Picture
 */

export class Sampler {
  #before = null;

  /**
   * @param {RTCStatsReport} report
   * @returns {Sample}
   */
  push(report) {
    const after = readReport(report);
    const before = this.#before ?? after;
    this.#before = after;
    return compare(before, after);
  }
}

/**
 * The counters used, summed over the tracks of each direction.
 *
 * @typedef {ReturnType<typeof readReport>} Reading
 * @param {RTCStatsReport} report
 */
export function readReport(report) {
  const reading = {
    at_ms: 0,
    received: counters(),
    sent: counters(),
    round_trip_s: null,
    picture: null,
  };
  let pair = null;
  for (const stats of report.values()) {
    switch (stats.type) {
      case 'inbound-rtp':
        reading.at_ms = stats.timestamp;
        readInbound(reading, stats);
        break;
      case 'outbound-rtp':
        reading.at_ms = stats.timestamp;
        reading.sent.bytes += stats.bytesSent ?? 0;
        reading.sent.packets += stats.packetsSent ?? 0;
        if (stats.kind === 'video') reading.picture ??= pictureOf(stats);
        break;
      case 'remote-inbound-rtp':
        reading.sent.lost += stats.packetsLost ?? 0;
        reading.sent.fraction_lost = larger(reading.sent.fraction_lost, stats.fractionLost);
        reading.sent.jitter_s = larger(reading.sent.jitter_s, stats.jitter);
        reading.round_trip_s = larger(reading.round_trip_s, stats.roundTripTime);
        break;
      case 'media-source':
        if (stats.kind === 'audio') readEnergy(reading.sent, stats);
        break;
      case 'transport':
        pair = report.get(stats.selectedCandidatePairId) ?? pair;
        break;
    }
  }
  reading.round_trip_s ??= pair?.currentRoundTripTime ?? null;
  return reading;
}

/** @returns {Sample} */
export function compare(before, after) {
  const interval_ms = after.at_ms - before.at_ms;
  return {
    at_ms: after.at_ms,
    interval_ms,
    round_trip_ms: after.round_trip_s === null ? null : after.round_trip_s * 1000,
    received: {
      ...direction(before.received, after.received, interval_ms),
      loss_percent: lossPercent(before.received, after.received),
    },
    sent: {
      ...direction(before.sent, after.sent, interval_ms),
      // Reports come every few seconds, so the far end's own fraction is the freshest figure.
      loss_percent: after.sent.fraction_lost === null ? null : after.sent.fraction_lost * 100,
    },
    picture: after.picture,
    reading: after,
  };
}

function counters() {
  return {
    bytes: 0,
    packets: 0,
    lost: 0,
    fraction_lost: null,
    jitter_s: null,
    energy: null,
    energy_duration_s: null,
  };
}

function readInbound(reading, stats) {
  const received = reading.received;
  received.bytes += stats.bytesReceived ?? 0;
  received.packets += stats.packetsReceived ?? 0;
  received.lost += stats.packetsLost ?? 0;
  // A track that never carried a packet has a jitter of zero, which would say too much.
  if (stats.packetsReceived > 0) received.jitter_s = larger(received.jitter_s, stats.jitter);
  if (stats.kind === 'audio') readEnergy(received, stats);
  if (stats.kind === 'video' && stats.frameWidth) reading.picture = pictureOf(stats);
}

function readEnergy(counted, stats) {
  counted.energy = stats.totalAudioEnergy ?? null;
  counted.energy_duration_s = stats.totalSamplesDuration ?? null;
}

function pictureOf(stats) {
  if (!stats.frameWidth) return null;
  return {
    width: stats.frameWidth,
    height: stats.frameHeight,
    frames_per_second: stats.framesPerSecond ?? 0,
  };
}

function direction(before, after, interval_ms) {
  const bits = (after.bytes - before.bytes) * 8;
  const carried = after.packets > 0 && interval_ms > 0 && bits >= 0;
  return {
    bitrate_bps: carried ? bits / (interval_ms / 1000) : null,
    jitter_ms: after.jitter_s === null ? null : after.jitter_s * 1000,
    level: level(before, after),
  };
}

function lossPercent(before, after) {
  const lost = after.lost - before.lost;
  const packets = after.packets - before.packets;
  // A late packet that was counted lost takes the counter back: that is no loss here.
  return packets > 0 ? (Math.max(0, lost) / (packets + Math.max(0, lost))) * 100 : null;
}

function level(before, after) {
  const duration_s = after.energy_duration_s - before.energy_duration_s;
  if (after.energy === null || !(duration_s > 0)) return null;
  return Math.sqrt(Math.max(0, after.energy - before.energy) / duration_s);
}

function larger(one, other) {
  if (typeof other !== 'number') return one;
  return one === null ? other : Math.max(one, other);
}
